//! The daemon's parts that know files, HTTP and JSON, around the actor tree of `offshoot-actors`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod models;
pub mod store;
