//! What can be typed after `offshoot deliveries`.

use clap::{Args, Subcommand};
use offshoot_actors::ports::{DeliveryKind, DeliveryStatus};

use super::super::args::ReachArgs;
use super::super::names::{RunName, SessionName};

/// List, show, retry and dismiss deliveries: results on their way to sessions and to addresses outside
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveriesCommand {
    /// List deliveries, those of the newest runs first
    List(ListArgs),
    /// Show what is to become of a run's result, and what became of it
    Show(NamedArgs),
    /// Try again, at once: post to the address, or wake the session that is to have the result
    ///
    /// A callback counts its attempts anew. A result for a session that does not exist any more cannot be retried.
    Retry(NamedArgs),
    /// End a delivery that nobody wants any more
    ///
    /// A result for a session is dismissed only if that session cannot take it. The result itself stays with its run.
    Dismiss(NamedArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot deliveries list --state failed
  offshoot deliveries list --session main --json | jq '.deliveries[].state'

`offshoot --help` lists the exit codes.")]
pub(crate) struct ListArgs {
    /// Only in this state: open, failed, undeliverable, delivered, dismissed
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<DeliveryStatus>,
    /// Only announces, which go to sessions, or callbacks, which go to addresses
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<DeliveryKind>,
    /// Only the result of this run
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<RunName>,
    /// Only what this session is to have, and the results of its own runs
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<SessionName>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// The id of the run whose result it is, or the beginning of it
    #[arg(value_name = "RUN")]
    pub(crate) id: RunName,
    /// announce or callback, where the run has both
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<DeliveryKind>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
