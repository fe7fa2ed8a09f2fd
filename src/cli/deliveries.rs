//! `offshoot deliveries`: what is to reach somebody, and what became of it.
//!
//! Where a gateway has the state directory it is asked. Without one `list` and `show` read the store; changes are a
//! gateway's, which is about to deliver what they are about.

pub(super) mod args;

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_actors::ports::{DeliveryFilter, DeliveryTally, Page, Storage};
use offshoot_actors::types::{AgentId, RunId, Scope, Timestamp};
use serde_json::{Map, Value, json};

use self::args::{DeliveriesCommand, ListArgs, NamedArgs};
use super::Global;
use super::args::ReachArgs;
use super::daemon::{self, Reach};
use super::exit::{Exit, Failure};
use super::names::RunName;
use super::output::{Paint, ago, elapsed, hint, note, one_line, table};
use crate::client::Client;
use crate::config;
use crate::gateway::deliveries::{counts, document};
use crate::gateway::record::Running;
use crate::runtime;
use crate::store::SqliteStorage;

/// Deliveries that the gateway is asked for at once.
const PAGE: u32 = 500;
/// Longest cell of a table.
const MAX_CELL: usize = 100;

pub(super) async fn run(command: DeliveriesCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        DeliveriesCommand::List(args) => list(args, global).await,
        DeliveriesCommand::Show(args) => show(args, global).await,
        DeliveriesCommand::Retry(args) => decide("deliveries.retry", args, global).await,
        DeliveriesCommand::Dismiss(args) => decide("deliveries.dismiss", args, global).await,
    }
}

async fn list(args: ListArgs, global: &Global) -> Result<Exit, Failure> {
    let run = match args.run {
        Some(name) => Some(whole(name, &args.reach, global).await?),
        None => None,
    };
    let session = args.session.map(|name| name.key(global)).transpose()?;
    let filter = DeliveryFilter { kind: args.kind, status: args.state, run, session, agents: None };
    let found = match gateway(&args.reach, global).await? {
        Some(client) => asked(client, &filter, args.limit).await?,
        None => stored(filter, args.limit, global).await?,
    };
    if global.output.json {
        global.output.document(&found)?;
        return Ok(Exit::Ok);
    }
    let rows = rows(&found);
    if rows.is_empty() {
        note("no deliveries");
    } else {
        for line in lines(rows, global.output.paint) {
            global.output.line(line)?;
        }
    }
    let count = |name: &str| found["counts"][name].as_u64().unwrap_or_default();
    if count("givenUp") > 0 {
        hint(
            "nothing more is tried for some of them: `offshoot deliveries list --state failed` shows them, `deliveries retry \
              RUN` tries again, `deliveries dismiss RUN` ends it",
        );
    }
    if count("undeliverable") > 0 {
        hint(
            "some reach nobody: `offshoot deliveries list --state undeliverable` shows them, `deliveries dismiss RUN` ends it",
        );
    }
    Ok(Exit::Ok)
}

async fn show(args: NamedArgs, global: &Global) -> Result<Exit, Failure> {
    let run = whole(args.id, &args.reach, global).await?;
    let found = match gateway(&args.reach, global).await? {
        Some(mut client) => {
            let params = json!({"runId": run, "kind": args.kind});
            let found = client.call("deliveries.show", &given(params)).await?.payload;
            client.close().await;
            found
        }
        None => {
            let filter = DeliveryFilter { kind: args.kind, run: Some(run), ..DeliveryFilter::default() };
            let found = stored(filter, PAGE, global).await?;
            if rows(&found).is_empty() {
                let text = format!("nothing is to be delivered of run {run}");
                return Err(Failure::new(Exit::NotFound, "unknown_delivery", text)
                    .with_hint("list the deliveries with `offshoot deliveries list`"));
            }
            json!({"runId": run, "deliveries": found["deliveries"]})
        }
    };
    if global.output.json {
        global.output.document(&found)?;
        return Ok(Exit::Ok);
    }
    let now = runtime::clock().now();
    for (index, row) in rows(&found).iter().enumerate() {
        if index > 0 {
            global.output.line("")?;
        }
        let time = |name: &str| row[name].as_i64().map(|at| ago(Timestamp(at), now)).unwrap_or_default();
        let facts = [
            (text(&row["kind"]), format!("of run {}", text(&row["runId"]))),
            ("session".to_owned(), text(&row["sessionKey"])),
            ("receiver".to_owned(), text(&row["receiver"])),
            ("state".to_owned(), text(&row["state"])),
            ("why".to_owned(), why(row, now)),
            ("since".to_owned(), time("at")),
            ("settled".to_owned(), time("settledAt")),
        ];
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            global.output.line(format_args!("{name:<9} {value}"))?;
        }
    }
    Ok(Exit::Ok)
}

async fn decide(method: &str, args: NamedArgs, global: &Global) -> Result<Exit, Failure> {
    let run = whole(args.id, &args.reach, global).await?;
    let mut client = Reach::of(&args.reach, global)?.connect(&[Scope::Admin]).await?;
    let done = client.call(method, &given(json!({"runId": run, "kind": args.kind}))).await?.payload;
    client.close().await;
    if global.output.json {
        global.output.document(&done)?;
        return Ok(Exit::Ok);
    }
    let row = &done["delivery"];
    let (kind, receiver) = (text(&row["kind"]), text(&row["receiver"]));
    let told = match (method, &*kind) {
        ("deliveries.dismiss", _) => format!("dismissed the {kind} of run {run} to {receiver}"),
        (_, "announce") => format!("woke session {receiver} to take the result of run {run}"),
        _ => format!("the result of run {run} is posted to {receiver} as soon as it is there"),
    };
    global.output.line(told)?;
    Ok(Exit::Ok)
}

/// The gateway that is named, or that has the state directory.
async fn gateway(reach: &ReachArgs, global: &Global) -> Result<Option<Client>, Failure> {
    if reach.url.is_none() && !matches!(daemon::running(global)?, Running::Gateway(_)) {
        return Ok(None);
    }
    Ok(Some(Reach::of(reach, global)?.connect(&[Scope::Read]).await?))
}

/// The run's whole id. A gateway elsewhere has a store of its own.
async fn whole(name: RunName, reach: &ReachArgs, global: &Global) -> Result<RunId, Failure> {
    match name {
        RunName::Whole(run) => Ok(run),
        RunName::Beginning(_) if reach.url.is_some() => {
            Err(Failure::usage("with --url a run is named by its whole id"))
        }
        beginning => beginning.find(global.read_store()?.as_ref()).await,
    }
}

async fn asked(mut client: Client, filter: &DeliveryFilter, limit: u32) -> Result<Value, Failure> {
    let (mut all, mut cursor): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let left = limit.saturating_sub(u32::try_from(all.len()).unwrap_or(u32::MAX));
        let params = json!({
            "state": filter.status,
            "kind": filter.kind,
            "runId": filter.run,
            "sessionKey": filter.session,
            "limit": left.min(PAGE),
            "cursor": cursor,
        });
        let mut page = client.call("deliveries.list", &given(params)).await?.payload;
        if let Value::Array(found) = page["deliveries"].take() {
            all.extend(found);
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() || all.len() >= limit as usize {
            client.close().await;
            return Ok(json!({"deliveries": all, "counts": page["counts"]}));
        }
    }
}

async fn stored(filter: DeliveryFilter, limit: u32, global: &Global) -> Result<Value, Failure> {
    let Some(storage) = global.read_store()? else {
        return Ok(json!({"deliveries": [], "counts": counts(&DeliveryTally::default())}));
    };
    let agents = configured(global);
    let rows = of_store(&storage, filter, limit, agents.clone()).await?;
    let tally = storage.delivery_tally(agents).await?;
    Ok(json!({"deliveries": rows, "counts": counts(&tally)}))
}

async fn of_store(
    storage: &SqliteStorage,
    filter: DeliveryFilter,
    limit: u32,
    agents: Option<Arc<BTreeSet<AgentId>>>,
) -> Result<Vec<Value>, Failure> {
    let filter = DeliveryFilter { agents, ..filter };
    let rows = storage.deliveries(filter, Page { offset: 0, limit }).await?;
    Ok(rows.iter().map(document).collect())
}

/// The agents of the configuration. What is stored can be read under one that nothing could be run with.
fn configured(global: &Global) -> Option<Arc<BTreeSet<AgentId>>> {
    let config = config::load(&global.environment, global.config.as_deref()).ok()?;
    Some(Arc::new(config.settings.agents.keys().cloned().collect()))
}

/// The parameters without those that are not given.
fn given(params: Value) -> Map<String, Value> {
    match params {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn rows(found: &Value) -> &[Value] {
    found["deliveries"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default(), MAX_CELL)
}

fn lines(rows: &[Value], paint: Paint) -> Vec<String> {
    let now = runtime::clock().now();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let since = row["at"].as_i64().map(|at| ago(Timestamp(at), now)).unwrap_or_default();
            let [run, kind, state, receiver] =
                ["runId", "kind", "state", "receiver"].map(|name| text(&row[name]));
            vec![run, kind, state, since, receiver, why(row, now)]
        })
        .collect();
    table(paint, &["RUN", "KIND", "STATE", "SINCE", "RECEIVER", "WHY"], &cells)
}

/// Why it has not arrived, and whether more is tried.
fn why(row: &Value, now: Timestamp) -> String {
    let reason = text(&row["reason"]);
    let Some(attempts) = row["attempts"].as_u64() else { return reason };
    let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let next = match row["nextAttemptAt"].as_i64() {
        Some(next) => format!("next in {}", elapsed(Timestamp(next) - now)),
        None => "no more".to_owned(),
    };
    format!("{times}, {next}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_says_why_it_has_not_arrived_and_whether_more_is_tried() {
        let now = Timestamp(1_000_000);
        let failed =
            json!({"state": "failed", "reason": "no answer", "attempts": 3, "nextAttemptAt": 1_240_000});
        assert_eq!(why(&failed, now), "3 attempts, next in 4m00s: no answer");
        let given_up =
            json!({"state": "failed", "reason": "gone\u{1b}", "attempts": 1, "nextAttemptAt": null});
        assert_eq!(why(&given_up, now), "1 attempt, no more: gone ");
        assert_eq!(why(&json!({"state": "open", "reason": null, "attempts": null}), now), "");
        assert_eq!(why(&json!({"state": "undeliverable", "reason": "nobody"}), now), "nobody");
    }
}
