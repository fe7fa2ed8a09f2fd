//! The wire of OpenClaw's gateway protocol, generations 3 and 4: plain types with their parsing and writing.
//!
//! Nothing here decides anything. What a frame may ask for is decided by the gateway; what it means, by the actors.

mod bounds;
pub mod client;
pub mod connect;
pub mod error;
pub mod event;
pub mod frame;
pub mod hello;
pub mod params;
pub mod presence;
pub mod tree;
pub mod version;
