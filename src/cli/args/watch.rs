//! `offshoot tree`, `offshoot top` and `offshoot events`

use clap::Args;

use super::super::events::filter::Filter;
use super::ReachArgs;

/// Print the tree of the running daemon: every actor, what it does and for how long
///
/// Without a daemon the open runs that the store knows, with exit code 4.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot tree
  offshoot tree --watch agent:main:main
  offshoot tree --all --json | jq '.nodes[] | select(.stuck or .run.silent)'

`offshoot --help` lists the exit codes.")]
pub(crate) struct TreeArgs {
    /// Only what is below this: an actor's path, a session's key, or a run's id or the beginning of one
    pub(crate) path: Option<String>,
    /// Go on, with every change, until Ctrl-C
    #[arg(long, short)]
    pub(crate) watch: bool,
    /// Also sessions that sleep and runs that ended within the last hour
    #[arg(long, short)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// Watch the tree on the whole terminal, and cancel, steer or retry what is in it
///
/// Press ? for the keys. With --json it needs no terminal: it writes what `offshoot tree --all --watch --json` does, the
/// whole tree and then every change.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Only what is below this: an actor's path, a session's key, or a run's id or the beginning of one
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// Print what happens in the daemon, one event a line, until Ctrl-C
///
/// Where events were left out because this command was too slow, or because the daemon was away, a line says so.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot events --filter subagent.
  offshoot events --filter 'event=session session=agent:main:main' --json

`offshoot --help` lists the exit codes.")]
pub(crate) struct EventsArgs {
    /// Only these: event=, session=, run= and agent= with a value, all of which must hold; a word alone is the beginning
    /// of an event's name
    #[arg(long, value_name = "EXPR", default_value = "")]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
