//! Agents spawn sub-agents here: sessions, runs and their supervision as one actor tree.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod kit;
mod memory;
pub mod ports;
mod tree;
pub mod types;

pub use memory::{Delivery, MemoryStorage, OutboxRow, ToolRow};
pub use tree::{LiveRun, LiveSession, Steered, Stopped, TreeHandle};
