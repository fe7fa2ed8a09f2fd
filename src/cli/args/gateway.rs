//! `offshoot gateway` and `offshoot service`

use std::time::Duration;

use clap::{Args, Subcommand};

use super::timeout;
use crate::client::{Address, Fingerprint};

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
        /// How long to wait: 30, 30s, 5m, 2h [default: the grace that runs have, and 30s more]
        #[arg(long, value_name = "TIME", value_parser = timeout)]
        timeout: Option<Duration>,
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
    /// Say what the gateway logs, or change it while it runs
    ///
    /// A level is error, warn, info, debug, trace or off; directives such as warn,offshoot_actors=debug name parts.
    LogLevel(LogLevelArgs),
    /// Call a method of the gateway and print the answer
    Call(GatewayCallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LogLevelArgs {
    /// What is to be logged, on standard error and to the file
    #[arg(value_name = "LEVEL")]
    pub(crate) level: Option<String>,
    /// For how long: 30, 30s, 5m, 2h; then what was configured is logged again
    #[arg(long = "for", value_name = "TIME", value_parser = timeout, requires = "level")]
    pub(crate) lasts: Option<Duration>,
    /// Log what was configured
    #[arg(long, conflicts_with = "level")]
    pub(crate) reset: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
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
