//! The gateway as a client sees it: a whole daemon in this process, on a port of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod rig;

mod agent;
mod audit;
mod chat;
mod deliveries;
mod events;
mod first_frames;
mod floods;
mod fuzz;
mod handshake;
mod http;
mod logging;
mod managing;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod pairing;
mod reload;
mod resumed;
mod security;
mod store;
mod tree;
