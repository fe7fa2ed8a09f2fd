//! `offshoot store`

use serde_json::json;

use super::Global;
use super::args::StoreCommand;
use super::exit::{Exit, Failure};
use crate::store::compact;

const MIB: f64 = 1_048_576.0;

pub(super) fn run(command: &StoreCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        StoreCommand::Compact => {
            let (before, after) = compact(&global.environment.state_dir()?)?;
            if global.output.json {
                let document = json!({"status": "compacted", "bytesBefore": before, "bytesAfter": after});
                global.output.document(&document)?;
            } else {
                #[expect(clippy::cast_precision_loss, reason = "for people, with one digit after the point")]
                let mib = |bytes: u64| bytes as f64 / MIB;
                let (before, after) = (mib(before), mib(after));
                global
                    .output
                    .line(format_args!("the store takes {after:.1} MiB, it took {before:.1} MiB"))?;
            }
            Ok(Exit::Ok)
        }
    }
}
