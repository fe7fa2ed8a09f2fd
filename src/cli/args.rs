//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use offshoot_actors::types::{Cleanup, MAX_TIMEOUT, Mode, SessionKey};

use super::names::{RunName, SessionName};

const EXIT_CODES: &str = "\
Exit codes:
  0    done, every run ended ok
  1    a run ended otherwise: partial, error, crashed, interrupted, cancelled
  2    the command line or the configuration is wrong
  3    a policy or a limit refused the request
  4    the state directory is in use, or the store is not available
  5    there is no such run or session
  124  a run met its deadline
  130  stopped by Ctrl-C
  143  stopped by SIGTERM

Files:
  ~/.offshoot/offshoot.json  the configuration; without one the built-in rehearsal model is used
  ~/.offshoot                state; OFFSHOOT_STATE_DIR or --state-dir name another directory

Examples:
  offshoot spawn \"Reply with exactly: SUBAGENT_OK\"
  offshoot run \"Which of these plans is the simplest? ...\" --json
  offshoot runs list --open";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

/// Agents that spawn supervised sub-agents, on this machine.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, after_long_help = EXIT_CODES, styles = STYLES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Read this configuration, an offshoot.json or an openclaw.json [env: OFFSHOOT_CONFIG]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// Keep state in this directory [env: OFFSHOOT_STATE_DIR] [default: ~/.offshoot]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state_dir: Option<String>,
    /// Write one JSON document to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell each change of a run's state on standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Log to standard error: error, warn, info, debug, trace, or directives [env: OFFSHOOT_LOG] [default: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// When to use colours; auto respects NO_COLOR
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Spawn(SpawnArgs),
    Run(RunArgs),
    #[command(subcommand)]
    Runs(RunsCommand),
    #[command(subcommand)]
    Sessions(SessionsCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    Completions(CompletionsArgs),
}

/// Spawn a sub-agent and wait for its result
///
/// The sub-agent is spawned by the main session of the default agent, inside this process. The command
/// waits until the whole tree is quiet, and prints the sub-agent's result, its run, its session, and
/// the tree.
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
    /// The session that spawns [default: the main session of the default agent]
    #[arg(long, value_name = "SESSION")]
    pub(crate) parent: Option<SessionKey>,
    /// Do not deliver the result to the parent, which saves the parent's model call
    #[arg(long)]
    pub(crate) no_announce: bool,
}

/// A deadline as it is typed: a whole number of seconds, or of the unit that follows it.
fn timeout(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    let seconds = seconds.zip(number).and_then(|(unit, number)| number.checked_mul(unit));
    seconds.map(Duration::from_secs).filter(|timeout| *timeout <= MAX_TIMEOUT).ok_or_else(|| {
        format!(
            "write seconds, or a number with s, m or h, such as 30, 30s, 5m or 2h; 0 for none; at most {} seconds",
            MAX_TIMEOUT.as_secs()
        )
    })
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
    pub(crate) agent: Option<String>,
    /// The model for this run, as provider/model or an alias, without the configured fallbacks
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The deadline, from the first step on: 30, 30s, 5m, 2h; 0 for none
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

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
    /// Cancel a run that an earlier process left open, with the sub-agents that it spawned
    ///
    /// A run that another process executes is cancelled there: the error names the process. Of a run that has
    /// ended the command says how, with exit code 1.
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

/// List, show and delete sessions
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, the newest first
    List {
        /// Draw each session under the one that spawned it
        #[arg(long)]
        tree: bool,
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

/// Check the configuration and say where it is
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// List every problem with its line and column
    ///
    /// Exit code 0 if the configuration can be used, 2 if it has errors.
    Check {
        /// The file to check [default: the one that would be used]
        path: Option<PathBuf>,
    },
    /// Print the configuration file that is used, or the one that would be if it existed
    Path,
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot completions bash > ~/.local/share/bash-completion/completions/offshoot
  offshoot completions zsh > \"${fpath[1]}/_offshoot\"
  offshoot completions fish > ~/.config/fish/completions/offshoot.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_deadline_is_seconds_or_has_a_unit() {
        for (text, seconds) in
            [("0", 0), ("30", 30), ("30s", 30), ("5m", 300), ("2h", 7_200), ("31536000", 31_536_000)]
        {
            assert_eq!(timeout(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "abc", "s", "-1", "1.5", "5 m", "5d", "31536001", "8761h", "99999999999999999999h"]
        {
            assert!(timeout(wrong).is_err_and(|text| text.contains("30, 30s, 5m or 2h")), "{wrong}");
        }
    }
}
