//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use offshoot_actors::types::{AgentId, Cleanup, MAX_TIMEOUT, Mode, Role, Scope, SessionKey};

use super::names::{RunName, SessionName};
use crate::client::{Address, Fingerprint};

const EXIT_CODES: &str = "\
Exit codes:
  0    done, every run ended ok
  1    a run ended otherwise: partial, error, crashed, interrupted, cancelled
  2    the command line or the configuration is wrong
  3    a policy or a limit refused the request
  4    the state directory is in use, or the store or the gateway is not available
  5    there is no such run, session or device
  124  a run met its deadline
  130  stopped by Ctrl-C
  143  stopped by SIGTERM

Files:
  ~/.offshoot/offshoot.json  the configuration; without one the built-in rehearsal model is used
  ~/.offshoot                state; OFFSHOOT_STATE_DIR or --state-dir name another directory

Examples:
  offshoot spawn \"Reply with exactly: SUBAGENT_OK\"
  offshoot run \"Which of these plans is the simplest? ...\" --json
  offshoot runs list --open
  offshoot gateway";

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
    Gateway(GatewayArgs),
    #[command(subcommand)]
    Devices(DevicesCommand),
    #[command(subcommand)]
    Pairing(PairingCommand),
    #[command(subcommand)]
    Service(ServiceCommand),
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
    pub(crate) agent: Option<AgentId>,
    /// The model for this run, as provider/model or an alias, without the configured fallbacks
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// The deadline, from the first step on: 30, 30s, 5m, 2h; 0 for none
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

/// Run the daemon that clients connect to
///
/// Without a subcommand the same as `offshoot gateway run`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    pub(crate) command: Option<GatewayCommand>,
    #[command(flatten)]
    pub(crate) run: GatewayRunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Run the daemon in the foreground until Ctrl-C or SIGTERM
    ///
    /// The first signal lets open requests end for a few seconds, the second leaves at once.
    Run(GatewayRunArgs),
    /// Say whether a gateway runs, where, and since when
    ///
    /// Exit code 0 if it runs, 4 if not.
    Status(ReachArgs),
    /// Ask the gateway's process to end, and wait until it has
    ///
    /// A second `gateway stop` while it is ending makes it leave at once.
    Stop {
        /// How long to wait: 30, 30s, 5m, 2h
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
        timeout: Duration,
    },
    /// Restart the gateway that runs as a service
    ///
    /// One that was started by hand can only be started again where it was started.
    Restart {
        /// How long to wait: 30, 30s, 5m, 2h
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout)]
        timeout: Duration,
    },
    /// Ask the gateway how it is
    Health(ReachArgs),
    /// Call a method of the gateway and print the answer
    Call(GatewayCallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GatewayRunArgs {
    /// Listen at this port in place of `gateway.port`; 0 lets the system choose
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

/// How the gateway is reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReachArgs {
    /// The gateway, as ws://HOST:PORT or wss://HOST:PORT [default: the one that has the state directory]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<Address>,
    /// The shared token [env: OFFSHOOT_GATEWAY_TOKEN] [default: the state directory's]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The one certificate to accept for wss://, by its SHA-256
    #[arg(long, value_name = "SHA256", requires = "url")]
    pub(crate) tls_fingerprint: Option<Fingerprint>,
    /// How long an answer may take: 30, 30s, 5m, 2h [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  offshoot gateway call health
  offshoot gateway call sessions.list --params '{\"limit\": 5}'
  offshoot gateway call agent --expect-final --params \\
    '{\"message\": \"Reply with exactly: x\", \"idempotencyKey\": \"7d1c\"}'

`offshoot --help` lists the exit codes.")]
pub(crate) struct GatewayCallArgs {
    /// The method
    pub(crate) method: String,
    /// Its parameters, as a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// Wait for the second answer of a method that accepts first; for as long as it takes without --timeout
    #[arg(long)]
    pub(crate) expect_final: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// List, approve and remove the devices that may connect
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// List the devices that wait for approval and those that are paired
    List(ReachArgs),
    /// Approve a device that waits
    Approve {
        /// The request's id, or the beginning of it
        #[arg(value_name = "REQUEST")]
        id: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Turn down a device that waits
    Reject {
        /// The request's id, or the beginning of it
        #[arg(value_name = "REQUEST")]
        id: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Remove a paired device; its connections are closed
    Remove {
        /// The device's id, or the beginning of it
        #[arg(value_name = "DEVICE")]
        id: String,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Make a device's token void and make it another one; its connections are closed
    Rotate {
        /// The device's id, or the beginning of it
        #[arg(value_name = "DEVICE")]
        id: String,
        /// The role whose token it is
        #[arg(long, default_value = "operator", value_parser = role)]
        role: Role,
        /// What the new token is good for, within what the device was approved for [default: as before]
        #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
        scopes: Vec<Scope>,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Make a setup code, which lets one device in, once, without an approval
    Code {
        /// The role that it gives
        #[arg(long, default_value = "operator", value_parser = role)]
        role: Role,
        /// What it gives an operator at most [default: read and write]
        #[arg(long = "scope", alias = "scopes", value_name = "SCOPE", value_parser = scope, value_delimiter = ',')]
        scopes: Vec<Scope>,
        /// How long it is good for, 24 h at most
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = timeout)]
        expires: Duration,
        #[command(flatten)]
        reach: ReachArgs,
    },
    /// Take a device's token away; its connections are closed
    Revoke {
        /// The device's id, or the beginning of it
        #[arg(value_name = "DEVICE")]
        id: String,
        /// The role whose token it is
        #[arg(long, default_value = "operator", value_parser = role)]
        role: Role,
        #[command(flatten)]
        reach: ReachArgs,
    },
}

fn role(text: &str) -> Result<Role, String> {
    [Role::Operator, Role::Node]
        .into_iter()
        .find(|role| role.to_string() == text)
        .ok_or_else(|| "write operator or node".to_owned())
}

/// A scope with or without what all of them begin with.
fn scope(text: &str) -> Result<Scope, String> {
    let known = || Scope::ALL.map(Scope::as_str).join(", ");
    let full = if text.starts_with("operator.") { text.to_owned() } else { format!("operator.{text}") };
    full.parse().map_err(|_| format!("write one of {}", known()))
}

/// People who write to an agent by a channel
#[derive(Debug, Subcommand)]
pub(crate) enum PairingCommand {
    /// List the senders that wait for approval
    List {
        /// The channel
        channel: Option<String>,
    },
    /// Approve a sender by the code that it was given
    Approve {
        /// The channel, or the code where only one is given
        channel: String,
        /// The code
        code: Option<String>,
    },
}

/// Run the gateway as a service of the system: systemd's of this user, or launchd's
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the service's file and start it, now and at each login
    Install {
        /// Listen at this port in place of `gateway.port`
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Print the file and the commands; do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop the service and remove its file
    Uninstall {
        /// Print the commands; do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say whether the service is installed and runs
    ///
    /// Exit code 0 if it runs, 4 if not.
    Status,
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

/// List, show and delete sessions
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, those that were used last first
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
