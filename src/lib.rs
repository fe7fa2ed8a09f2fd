//! The daemon around the actor tree: models, tools, configuration and the store behind its ports.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod models;
