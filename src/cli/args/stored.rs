//! `offshoot runs`, `offshoot sessions`, `offshoot store` and `offshoot audit`: what is in the store.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use offshoot_actors::types::{OriginKind, Timestamp};

use super::super::names::{RunName, SessionName};
use crate::store::AuditHash;

/// List, show, cancel and follow runs
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
    /// Follow a run until it ends: its text as it comes, tool calls, sub-agents
    ///
    /// Starts with what there was. The exit code says how the run ended; Ctrl-C leaves it alone.
    Tail {
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

/// List, export and check the record of what was asked for, by whom and with which right, and what was decided
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List rows of the record, the newest first
    List(AuditListArgs),
    /// Write the record as lines of JSON, the oldest row first, each with its hash and that of the row before
    ///
    /// Nothing is locked, and another process may be at work. Whoever has the file can check it without this program;
    /// the documentation says how.
    Export {
        /// From the first row on that is not older than this: 1h, 7d, or a time such as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Write a new file that only you can read [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check that no row of the record was changed, removed or put in between
    ///
    /// Nothing is written, and another process may be at work. That the newest rows were cut off, or all of them written
    /// anew, shows for certain only with the hash that an earlier check or export printed: `--head` asks for it. Exit
    /// code 0 if the record is whole, 4 if it is not or cannot be read, 5 if there is none yet.
    Verify {
        /// Check that a row has this hash, which an earlier check or export printed
        #[arg(long, value_name = "HASH")]
        head: Option<AuditHash>,
    },
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot audit list --since 1h --event spawn.refused
  offshoot audit list --origin client --json | jq '.rows[].origin.device'

`offshoot --help` lists the exit codes.")]
pub(crate) struct AuditListArgs {
    /// Only rows that are not older than this: 1h, 7d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only events that begin with this: spawn, tool.started, connection.refused
    #[arg(long, value_name = "PREFIX")]
    pub(crate) event: Option<String>,
    /// Only what was asked for by: agent, client, operator, embedder, timer
    #[arg(long, value_name = "KIND")]
    pub(crate) origin: Option<OriginKind>,
    /// Only what is about this session, or what its runs asked for
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<SessionName>,
    /// Only what is about this run, or what it asked for
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<RunName>,
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

/// A time in the past, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(Duration),
    At(Timestamp),
}

impl Since {
    /// The time.
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => {
                Timestamp(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
            }
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = humantime::parse_rfc3339_weak(text).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let at = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        at.map(|at| Self::At(Timestamp(at)))
            .ok_or("must be a duration such as 1h or 7d, or a time such as 2026-01-31T12:00:00Z")
    }
}
