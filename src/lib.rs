//! The daemon: configuration, store, models, tools and the command line around the actor tree of `offshoot-actors`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod archive;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
#[cfg(feature = "faults")]
mod faults;
pub mod gateway;
pub mod ids;
mod metrics;
pub mod models;
#[cfg(feature = "otlp")]
mod otlp;
pub mod protocol;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod tools;
