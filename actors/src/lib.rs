//! Agents spawn sub-agents here: sessions, runs and their supervision as one actor tree.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod kit;
pub mod policy;
pub mod ports;
mod tree;
pub mod types;

pub use tree::{LiveRun, LiveSession, Steered, Stopped, TreeHandle};
