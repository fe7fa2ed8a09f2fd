//! `offshoot runs`, `offshoot sessions`, `offshoot store` and `offshoot audit`: what is in the store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::super::names::{RunName, SessionName};

/// List, show and cancel runs
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first
    List(RunsListArgs),
    /// Show a run: how it ended, what it used, what it said
    Show {
        /// The run's id, or the beginning of it
        id: RunName,
    },
    /// Cancel a run, with the sub-agents that it spawned
    ///
    /// One of the gateway, or one that an earlier process left open. A run that another command executes is
    /// cancelled there: the error names the process. Of a run that has ended the command says how, with exit code 1.
    Cancel {
        /// The run's id, or the beginning of it
        id: RunName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunsListArgs {
    /// Only runs of this session
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<SessionName>,
    /// Only runs that have not ended
    #[arg(long)]
    pub(crate) open: bool,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// List, show, export and delete sessions
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, those that were used last first
    List {
        /// Draw each session under the one that spawned it
        #[arg(long, conflicts_with = "archived")]
        tree: bool,
        /// List the sessions that were archived, and their files
        #[arg(long)]
        archived: bool,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Show a session with its latest transcript entries
    Show {
        /// The session's key; without agent:<agentId>: a session of the default agent
        key: SessionName,
        /// Entries to show
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10_000))]
        entries: u32,
    },
    /// Write a session with its runs and its transcript as lines of JSON
    ///
    /// Also one that is archived. The last line counts the others.
    Export {
        /// The session's key; without agent:<agentId>: a session of the default agent
        key: SessionName,
        /// Write a new file that only you can read [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete a session with its transcript, and every session below it
    ///
    /// Refused while a run in one of them is open or a result is on its way. Their runs stay in `runs list`, with what
    /// they answered and used. Asks first on a terminal; elsewhere it needs --yes.
    Delete {
        /// The session's key; without agent:<agentId>: a session of the default agent
        key: SessionName,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Care for the store
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Write the store anew, without free space in it
    ///
    /// A gateway gives back space by itself; this is for a large store of an earlier version, and for whoever wants the
    /// rest. Needs room for a second copy, and no gateway at work.
    Compact,
}

/// Check the record of what was asked for and by whom
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check that no row of the record was changed, removed or put in between
    ///
    /// Nothing is written, and another process may be at work. That the newest rows were cut off shows only in a
    /// number of rows smaller than that of an earlier check. Exit code 0 if the record is whole, 4 if it is not
    /// or cannot be read, 5 if there is none yet.
    Verify,
}
