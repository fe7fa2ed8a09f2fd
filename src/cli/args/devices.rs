//! `offshoot devices` and `offshoot pairing`

use std::time::Duration;

use clap::Subcommand;
use offshoot_actors::types::{Role, Scope};

use super::{ReachArgs, timeout};

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
