//! Agents spawn sub-agents here: sessions, runs and their supervision as one actor tree.
//!
//! ```text
//! offshoot                             root: ordered start, reverse stop, restart with back-off
//! ├─ store                             the only writer
//! ├─ config                            the settings in force
//! ├─ pairing                           devices that clients connect from
//! └─ sessions                          admits spawns, wakes sessions, owns the lanes
//!    ├─ agent:main:main                a session: transcript, queue, children
//!    │  ├─ run 6f1c..                  a run: steps, tool calls
//!    │  └─ agent:main:subagent:9ab1..  a child session, under the session that spawned it
//!    │     └─ run 0d4e..
//!    └─ agent:research:main
//! ```
//!
//! A program embeds the tree by giving it its [`ports`]: models, tools, storage, a clock and a source of ids. A
//! spawn is a message to the session manager; an address is a session key, looked up when something is sent.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod devices;
mod ending;
pub mod kit;
mod memory;
mod pairing;
pub mod policy;
pub mod ports;
mod root;
mod run;
mod service;
mod session;
mod sessions;
mod shared;
mod store;
mod stored;
mod tree;
pub mod types;
mod watch;

pub use memory::{Delivery, MemoryStorage, OutboxRow, ToolRow};
pub use pairing::{
    Caller, CodeInfo, ConnectRequest, Connected, FullText, Grant, PairedDevice, PairingError, PairingList,
    Pending, Rotated, SetupCode, TokenCheck, TokenInfo,
};
pub use service::Service;
pub use session::is_silent;
pub use sessions::LaneView;
pub use stored::{cancel_stored, deletable, delete_stored};
pub use tree::{
    ActorPlace, LiveRun, LiveSession, PairingHandle, SessionPatch, Settled, Steered, Stopped, Tree,
    TreeHandle, TreeOptions,
};
pub use watch::{
    ActorFigures, ChildCounts, Difference, Look, MAX_ENDED, Node, NodeId, RunNode, SHOWN_FOR, SessionFacts,
    SessionNode, Snapshot, Spending, ToolNode, Totals, WatchTrouble, Watchdog,
};
