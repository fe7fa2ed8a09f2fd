//! The daemon: configuration, store, models, tools and the command line around the actor tree.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod models;
pub mod store;
pub mod tools;
