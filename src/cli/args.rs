//! What can be typed.

mod devices;
mod gateway;
mod stored;
mod upkeep;
mod watch;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use offshoot_actors::types::MAX_TIMEOUT;

pub(crate) use self::devices::{DevicesCommand, PairingCommand};
pub(crate) use self::gateway::{
    GatewayArgs, GatewayCallArgs, GatewayCommand, GatewayRunArgs, LogLevelArgs, ReachArgs, ServiceCommand,
};
pub(crate) use self::stored::{
    AuditCommand, AuditListArgs, RunsCommand, RunsListArgs, SessionsCommand, Since, StoreCommand,
};
pub(crate) use self::upkeep::{BackupCommand, DoctorArgs};
pub(crate) use self::watch::{EventsArgs, TopArgs, TreeArgs};
pub(crate) use self::work::{RunArgs, SpawnArgs};
use super::deliveries::args::DeliveriesCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, every run ended ok
  1    a run ended otherwise: partial, error, crashed, interrupted, cancelled
  2    the command line or the configuration is wrong
  3    a policy or a limit refused the request
  4    the state directory is in use, or the store or the gateway is not available
  5    there is no such run, session, device or delivery
  6    the doctor found something, or a backup is not whole
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
    /// Write one JSON document to standard output; one a line for what goes on
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
    Deliveries(DeliveriesCommand),
    Tree(TreeArgs),
    Top(TopArgs),
    Events(EventsArgs),
    #[command(subcommand)]
    Store(StoreCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    #[command(subcommand)]
    Backup(BackupCommand),
    Doctor(DoctorArgs),
    #[command(subcommand)]
    Config(ConfigCommand),
    Completions(CompletionsArgs),
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
