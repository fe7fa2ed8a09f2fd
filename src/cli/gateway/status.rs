//! `offshoot gateway status`: whether one runs, as far as can be found out.

use std::time::Duration;

use offshoot_actors::types::{Scope, Timestamp};
use serde_json::{Value, json};

use super::super::Global;
use super::super::args::ReachArgs;
use super::super::daemon::{self, Reach};
use super::super::exit::{Exit, Failure};
use super::super::output::{ago, elapsed, hint, printable};
use super::super::view::millis;
use crate::gateway::record::{Record, Running};
use crate::runtime;

/// What a gateway said.
struct Answer {
    protocol: u64,
    version: String,
    uptime: Duration,
    /// How its store is, as it says.
    store: Value,
    /// What it says of deliveries that are not settled; null where it does not.
    deliveries: Value,
    /// How many runs it says were interrupted; null where it does not.
    interrupted: Value,
}

pub(super) async fn run(args: &ReachArgs, global: &Global) -> Result<Exit, Failure> {
    if args.url.is_some() {
        return elsewhere(args, global).await;
    }
    let record = match daemon::running(global)? {
        Running::Gateway(record) => record,
        other => return not_running(&other, global),
    };
    let asked = async { ask(&Reach::of(args, global)?).await };
    let asked = asked.await;
    let uptime =
        asked.as_ref().map_or_else(|_| runtime::clock().now() - record.started_at, |asked| asked.uptime);
    if global.output.json {
        let failure = asked.as_ref().err();
        global.output.document(&json!({
            "running": true,
            "pid": record.pid,
            "urls": record.urls,
            "version": record.version,
            "uptimeMs": millis(uptime),
            "authMode": record.auth_mode,
            "tokenFile": record.token_file,
            "fingerprint": record.fingerprint,
            "answers": asked.is_ok(),
            "protocol": asked.as_ref().ok().map(|asked| asked.protocol),
            "store": asked.as_ref().ok().map(|asked| &asked.store),
            "deliveries": asked.as_ref().ok().map(|asked| &asked.deliveries),
            "interruptedRuns": asked.as_ref().ok().map(|asked| &asked.interrupted),
            "error": failure.map(|failure| &failure.message),
            "hint": failure.and_then(|failure| failure.hint.as_ref()),
        }))?;
    } else {
        print(&record, uptime, &asked, global)?;
    }
    Ok(match &asked {
        Err(failure) if failure.exit != Exit::Refused => Exit::Unavailable,
        _ => Exit::Ok,
    })
}

fn print(
    record: &Record,
    uptime: Duration,
    asked: &Result<Answer, Failure>,
    global: &Global,
) -> Result<(), Failure> {
    let auth = match &record.token_file {
        Some(file) => format!("{} (in {})", record.auth_mode, file.display()),
        None => record.auth_mode.clone(),
    };
    let answers = match asked {
        Ok(asked) => format!("yes, protocol {}", asked.protocol),
        Err(failure) => format!("no: {}", printable(&failure.message)),
    };
    let mut facts = vec![
        ("gateway", format!("running, process {}", record.pid)),
        ("address", record.urls.join(" and ")),
        ("version", record.version.clone()),
        ("uptime", elapsed(uptime)),
        ("auth", auth),
    ];
    facts.extend(record.fingerprint.clone().map(|fingerprint| ("tls", format!("SHA-256 {fingerprint}"))));
    facts.push(("answers", answers));
    facts.extend(asked.iter().flat_map(|asked| work_lines(asked).chain(store_lines(&asked.store))));
    for (name, value) in facts {
        global.output.line(format_args!("{name:<9} {value}"))?;
    }
    if let Err(Failure { hint: Some(text), .. }) = asked {
        hint(text);
    }
    Ok(())
}

fn not_running(running: &Running, global: &Global) -> Result<Exit, Failure> {
    let failure = daemon::not_running(running, global);
    if global.output.json {
        let pid = match running {
            Running::Other(pid) => *pid,
            _ => None,
        };
        global.output.document(&json!({
            "running": false,
            "stateDirUsedBy": pid,
            "error": failure.message,
            "hint": failure.hint,
        }))?;
    } else {
        global.output.line(&failure.message)?;
        failure.hint.as_deref().map(hint).unwrap_or_default();
    }
    Ok(Exit::Unavailable)
}

/// A gateway that was named: what is known of it is what it says.
async fn elsewhere(args: &ReachArgs, global: &Global) -> Result<Exit, Failure> {
    let reach = Reach::of(args, global)?;
    let asked = ask(&reach).await?;
    let Answer { protocol, version, uptime, store, deliveries, interrupted } = &asked;
    let url = reach.address.to_string();
    if global.output.json {
        global.output.document(&json!({
            "running": true,
            "urls": [url],
            "version": version,
            "uptimeMs": millis(*uptime),
            "answers": true,
            "protocol": protocol,
            "store": store,
            "deliveries": deliveries,
            "interruptedRuns": interrupted,
        }))?;
        return Ok(Exit::Ok);
    }
    let facts = [
        ("gateway", "running".to_owned()),
        ("address", url),
        ("version", printable(version)),
        ("uptime", elapsed(*uptime)),
        ("answers", format!("yes, protocol {protocol}")),
    ];
    for (name, value) in facts.into_iter().chain(work_lines(&asked)).chain(store_lines(store)) {
        global.output.line(format_args!("{name:<9} {value}"))?;
    }
    Ok(Exit::Ok)
}

/// What has not reached anybody, and what was not gone on with.
fn work_lines(asked: &Answer) -> impl Iterator<Item = (&'static str, String)> {
    let count = |name: &str| asked.deliveries[name].as_u64();
    let deliveries = count("open").zip(count("failed")).zip(count("undeliverable"));
    let deliveries = deliveries.map(|((open, failed), undeliverable)| {
        ("results", format!("{open} open, {failed} failed, {undeliverable} undeliverable"))
    });
    let runs = asked.interrupted.as_u64().map(|count| ("runs", format!("{count} interrupted")));
    deliveries.into_iter().chain(runs)
}

/// What is wrong with the store of a gateway; nothing where all is well.
pub(super) fn store_lines(store: &Value) -> Vec<(&'static str, String)> {
    let line = |name: &str, what: &str| {
        let trouble = &store[name];
        let since = Timestamp(trouble["since"].as_i64()?);
        let reason = printable(trouble["reason"].as_str()?);
        Some(("store", format!("{what} ({}): {reason}", ago(since, runtime::clock().now()))))
    };
    line("refuses", "refuses work").into_iter().chain(line("damaged", "is damaged")).collect()
}

async fn ask(reach: &Reach) -> Result<Answer, Failure> {
    let mut client = reach.connect(&[Scope::Read]).await?;
    // One whose store cannot be read says so by its hello.
    let status = client.call("status", &json!({})).await.map(|answered| answered.payload).unwrap_or_default();
    let hello = client.hello();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let answer = Answer {
        protocol: number(&hello["protocol"]),
        version: client.version().to_owned(),
        uptime: Duration::from_millis(number(&hello["snapshot"]["uptimeMs"])),
        store: hello["snapshot"]["health"]["store"].clone(),
        deliveries: status["deliveries"].clone(),
        interrupted: status["interruptedRuns"].clone(),
    };
    client.close().await;
    Ok(answer)
}
