//! The running tree, tested from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod rig;

mod announces;
mod basics;
mod call_ids;
mod cancels;
mod caps;
mod changes;
mod damaged;
mod deadlines;
mod deliveries;
mod exits;
mod full;
#[cfg(feature = "faults")]
mod held;
mod injects;
mod kills;
mod lanes;
mod models;
mod order;
mod overtaken;
mod pairing;
#[cfg(feature = "faults")]
mod panics;
mod reads;
#[cfg(feature = "faults")]
mod rebuilds;
mod refusals;
mod repeats;
mod restarts;
mod resumes;
mod settled;
mod sleeps;
mod stale;
mod steers;
mod stored;
mod tools;
mod trees;
mod yields;
