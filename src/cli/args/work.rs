//! `offshoot spawn` and `offshoot run`

use std::time::Duration;

use clap::{Args, ValueEnum};
use offshoot_actors::types::{AgentId, Cleanup, Mode, OnParentExit, RecoveryMode, SessionKey};

use super::timeout;

/// Spawn a sub-agent and wait for its result
///
/// The sub-agent is spawned by the main session of the default agent: in the gateway where one has the
/// state directory, else inside this process. The command waits until nothing is left to do for it, and
/// prints the sub-agent's result, its run, its session, and the tree.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot spawn \"Reply with exactly: SUBAGENT_OK\"
  offshoot spawn --agent research --timeout 10m --label papers \"Explain write-ahead logging in three sentences\"
  git diff | offshoot spawn --json - | jq -r .result

`offshoot --help` lists the exit codes.")]
pub(crate) struct SpawnArgs {
    /// The task; - reads it from standard input
    pub(crate) task: String,
    /// The agent that does it; the parent's own where none is named
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The model, as provider/model or an alias, without the configured fallbacks
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// A name for people
    #[arg(long)]
    pub(crate) label: Option<String>,
    /// The deadline, from the first step on: 30, 30s, 5m, 2h; 0 for none
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Whether the sub-agent's session ends with its run or takes further messages
    #[arg(long, default_value = "run")]
    pub(crate) mode: ModeArg,
    /// What happens to the sub-agent's session once its result is delivered
    #[arg(long, default_value = "keep")]
    pub(crate) cleanup: CleanupArg,
    /// Whether a gateway that went down goes on with the run at its next start [default: as configured]
    #[arg(long)]
    pub(crate) recovery: Option<RecoveryArg>,
    /// What becomes of the sub-agent if the session that spawns it is stopped or deleted: it is stopped too, goes on
    /// without anybody who gets its result, or goes on below that session's parent, which gets it
    #[arg(long, default_value = "stop")]
    pub(crate) on_parent_exit: ExitArg,
    /// The session that spawns [default: the main session of the default agent]
    #[arg(long, value_name = "SESSION")]
    pub(crate) parent: Option<SessionKey>,
    /// Do not deliver the result to the parent, which saves the parent's model call
    #[arg(long)]
    pub(crate) no_announce: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    Run,
    Session,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Run => Self::Run,
            ModeArg::Session => Self::Session,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CleanupArg {
    Keep,
    Delete,
}

impl From<CleanupArg> for Cleanup {
    fn from(cleanup: CleanupArg) -> Self {
        match cleanup {
            CleanupArg::Keep => Self::Keep,
            CleanupArg::Delete => Self::Delete,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RecoveryArg {
    Resume,
    Interrupt,
}

impl From<RecoveryArg> for RecoveryMode {
    fn from(recovery: RecoveryArg) -> Self {
        match recovery {
            RecoveryArg::Resume => Self::Resume,
            RecoveryArg::Interrupt => Self::Interrupt,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExitArg {
    Stop,
    Continue,
    HandOver,
}

impl From<ExitArg> for OnParentExit {
    fn from(exit: ExitArg) -> Self {
        match exit {
            ExitArg::Stop => Self::Stop,
            ExitArg::Continue => Self::Continue,
            ExitArg::HandOver => Self::HandOver,
        }
    }
}

/// Send a message to a session and wait for the answer
///
/// Prints the answer of the run that the message starts, and the answers of runs that results of
/// sub-agents start later in the same session, in order.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot run \"What did the sub-agents find?\"
  offshoot run --session agent:research:notes --model openai/gpt-5.4 \"Go on\"
  offshoot run 'Spawn: {\"task\": \"Reply with exactly: SUBAGENT_OK\"}'

`offshoot --help` lists the exit codes.")]
pub(crate) struct RunArgs {
    /// The message; - reads it from standard input
    pub(crate) message: String,
    /// The session [default: the main session of the agent]
    #[arg(long, value_name = "KEY")]
    pub(crate) session: Option<SessionKey>,
    /// The agent [default: the configured default agent]
    #[arg(long, value_name = "ID", conflicts_with = "session")]
    pub(crate) agent: Option<AgentId>,
    /// The model for this run, as provider/model or an alias, without the configured fallbacks
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The deadline, from the first step on: 30, 30s, 5m, 2h; 0 for none
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}
