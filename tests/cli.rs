//! The command line, through the real binary, each test with a home of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "cli/audit.rs"]
mod audit;
#[path = "cli/backups.rs"]
mod backups;
#[path = "cli/client.rs"]
mod client;
#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/daemon.rs"]
mod daemon;
#[path = "cli/deliveries.rs"]
mod deliveries;
#[expect(dead_code, reason = "the tests of the gateway use more of it")]
#[path = "gateway/rig/device.rs"]
mod device;
#[path = "cli/devices.rs"]
mod devices;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/earlier.rs"]
mod earlier;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/gateway.rs"]
mod gateway;
#[path = "cli/logs.rs"]
mod logs;
#[path = "cli/namespace.rs"]
mod namespace;
#[path = "cli/processes.rs"]
mod processes;
#[path = "cli/reading.rs"]
mod reading;
#[path = "cli/recovery.rs"]
mod recovery;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/service.rs"]
mod service;
#[path = "cli/shows.rs"]
mod shows;
#[path = "common/skipped.rs"]
mod skipped;
#[path = "cli/spawn.rs"]
mod spawn;
#[path = "cli/stress.rs"]
mod stress;
#[path = "cli/support.rs"]
mod support;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/through.rs"]
mod through;
#[path = "cli/top.rs"]
mod top;
#[cfg(feature = "faults")]
#[path = "cli/troubles.rs"]
mod troubles;
#[path = "cli/watching.rs"]
mod watching;
