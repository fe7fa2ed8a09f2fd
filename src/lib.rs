//! The daemon's parts: what stands between the actor tree of `offshoot-actors` and the world.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
