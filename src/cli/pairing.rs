//! `offshoot pairing`: of senders in channels, of which there are none yet.

use serde_json::json;

use super::Global;
use super::args::PairingCommand;
use super::exit::{Exit, Failure};
use super::output::hint;

const DEVICES: &str = "devices that connect to the gateway are approved with `offshoot devices`";

pub(super) fn run(command: PairingCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        PairingCommand::List { channel: None } => {
            if global.output.json {
                global.output.document(&json!({"requests": []}))?;
            } else {
                global.output.line("no sender waits: this version has no channels")?;
            }
            hint(DEVICES);
            Ok(Exit::Ok)
        }
        PairingCommand::List { channel: Some(channel) }
        | PairingCommand::Approve { channel, code: Some(_) } => {
            Err(none("unknown_channel", format!("there is no channel {channel}: this version has none")))
        }
        PairingCommand::Approve { code: None, .. } => Err(none(
            "unknown_code",
            "no sender waits with that code: this version has no channels".to_owned(),
        )),
    }
}

fn none(code: &'static str, text: String) -> Failure {
    Failure::new(Exit::NotFound, code, text).with_hint(DEVICES)
}
