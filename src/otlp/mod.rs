//! OpenTelemetry: the tree's events as traces, sent to a collector (OTLP over HTTP, as JSON).
//!
//! ```text
//! Event ─▶ Traces (a bounded queue) ─▶ Exporter ─▶ Book: runs, steps, tools, announces become spans
//!                                          │         └ Kin: which trace, below which span
//!                                          └─▶ Sender: batches to the collector
//! ```
//!
//! The ids of traces and spans follow from those of runs: a daemon that is started again goes on with the same trace, and
//! the store says where in it a run belongs that this process has not seen begin. Nothing here makes an actor wait: what
//! does not fit is dropped and counted.

mod book;
mod context;
mod exporter;
mod kin;
mod lookup;
mod note;
mod sender;
mod span;
mod traces;

pub(crate) use self::exporter::{Exporter, ExporterArgs};
pub(crate) use self::traces::{Asking, Traces};
