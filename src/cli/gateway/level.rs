//! `offshoot gateway log-level`

use offshoot_actors::types::{Scope, Timestamp};
use serde_json::{Value, json};

use super::super::Global;
use super::super::args::LogLevelArgs;
use super::super::daemon::Reach;
use super::super::exit::{Exit, Failure};
use crate::runtime;
use crate::telemetry;

pub(super) async fn run(args: LogLevelArgs, global: &Global) -> Result<Exit, Failure> {
    if let Some(level) = &args.level {
        telemetry::check_level(level)?;
    }
    let reach = Reach::of(&args.reach, global)?;
    let changes = args.level.is_some() || args.reset;
    let mut params = json!({});
    if let Some(level) = args.level {
        params["level"] = level.into();
    }
    if let Some(lasts) = args.lasts {
        params["forMs"] = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX).into();
    }
    if args.reset {
        params["reset"] = true.into();
    }
    let mut client = reach.connect(&[if changes { Scope::Admin } else { Scope::Read }]).await?;
    let view = client.call("log.level", &params).await?.payload;
    client.close().await;
    if global.output.json {
        global.output.document(&view)?;
        return Ok(Exit::Ok);
    }
    let word = |name: &str| view[name].as_str().unwrap_or("nothing").to_owned();
    global.output.line(format_args!("standard error: {}", word("console")))?;
    global.output.line(format_args!("file: {}", word("file")))?;
    if view["changed"] == Value::Bool(true) {
        let left = view["until"].as_i64().map(|until| Timestamp(until) - runtime::clock().now());
        let until = left.map_or("the restart or `offshoot gateway log-level --reset`".to_owned(), |left| {
            format!("{} s from now", left.as_secs())
        });
        global.output.line(format_args!("changed until {until}"))?;
    }
    Ok(Exit::Ok)
}
