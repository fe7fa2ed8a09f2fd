//! `offshoot runs show`

use std::sync::Arc;

use offshoot_actors::ports::{RunRow, Storage};
use offshoot_actors::types::{StoredEntry, Timestamp, Usage};
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::names::RunName;
use super::super::output::{Output, ago, elapsed, printable, tokens};
use super::super::{Global, abandoned, transcript, view};
use super::{list, unknown};
use crate::runtime;

pub(super) async fn run(name: RunName, global: &Global) -> Result<Exit, Failure> {
    let storage = global.read_store()?;
    let id = name.find(storage.as_ref()).await?;
    let storage = storage.ok_or_else(|| unknown(id))?;
    let mut row = storage.run(id).await?.ok_or_else(|| unknown(id))?;
    let idle = abandoned::among(std::slice::from_mut(&mut row), &storage, global).await?;
    let subtree = storage.subtree_usage(row.session.clone()).await?;
    let mut entries = Vec::new();
    let own = |entry: &Arc<StoredEntry>| entry.run == Some(id);
    transcript::read(&storage, &row.session, |page| entries.extend(page.into_iter().filter(own))).await?;
    let now = runtime::clock().now();
    if global.output.json {
        let mut document = list::document(&row, &idle, now);
        if let Value::Object(map) = &mut document {
            map.insert("sessionTreeUsage".to_owned(), json!(subtree));
            map.insert("entries".to_owned(), entries.iter().map(|entry| transcript::json(entry)).collect());
        }
        global.output.document(&document)?;
    } else {
        let state = abandoned::state(&row, &idle);
        print(&row, state, subtree, &entries, now, global.output)?;
        abandoned::tell(&idle);
    }
    Ok(Exit::Ok)
}

fn print(
    row: &RunRow,
    state: &str,
    subtree: Usage,
    entries: &[Arc<StoredEntry>],
    now: Timestamp,
    output: Output,
) -> Result<(), Failure> {
    let mut facts = vec![
        ("run", row.id.to_string()),
        ("session", row.session.to_string()),
        ("cause", row.cause.as_str().to_owned()),
        ("state", output.paint.state(state)),
    ];
    if let Some(reason) = row.outcome.as_ref().and_then(|outcome| outcome.reason.as_deref()) {
        facts.push(("reason", printable(reason)));
    }
    if let Some(spawner) = row.spawner {
        facts.push(("spawned by", spawner.to_string()));
    }
    facts.push(("model", view::model(row)));
    if let Some(timeout) = row.timeout {
        facts.push(("deadline", elapsed(timeout)));
    }
    facts.push(("accepted", ago(row.accepted_at, now)));
    if let Some(took) = view::duration(row, now) {
        facts.push(("took", elapsed(took)));
    }
    facts.push(("steps", row.steps.to_string()));
    facts.push(("used", detail(row.usage)));
    facts.push(("session tree", detail(subtree)));
    for (name, value) in facts {
        output.line(format_args!("{name:<13} {value}"))?;
    }
    for entry in entries {
        output.line("")?;
        for line in transcript::lines(entry, now, output.paint) {
            output.line(line)?;
        }
    }
    Ok(())
}

fn detail(usage: Usage) -> String {
    format!("{} ({} in, {} of them cached, {} out)", tokens(usage), usage.input, usage.cached, usage.output)
}
