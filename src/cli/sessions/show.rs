//! `offshoot sessions show`

use std::collections::VecDeque;
use std::sync::Arc;

use offshoot_actors::ports::{ListFilter, Page, SessionRow, Storage, StoreError};
use offshoot_actors::types::{SessionKey, StoredEntry, Timestamp, Usage};
use serde_json::{Value, json};

use super::super::exit::{Exit, Failure};
use super::super::names::SessionName;
use super::super::output::{Output, ago, one_line, tokens};
use super::super::{Global, abandoned, transcript};
use super::{absent, list, unknown};
use crate::runtime;

/// Open runs of one session that are shown.
const MAX_OPEN: u32 = 500;

pub(super) async fn run(name: SessionName, entries: u32, global: &Global) -> Result<Exit, Failure> {
    let key = name.key(global)?;
    let storage = global.read_store()?.ok_or_else(|| unknown(&key))?;
    let row = storage.session(key.clone()).await?.ok_or_else(|| absent(&key, global))?;
    let usage = storage.subtree_usage(key.clone()).await?;
    let filter = ListFilter { session: Some(key.clone()), open: true, ..ListFilter::default() };
    let mut open = storage.list_runs(filter, Page { offset: 0, limit: MAX_OPEN }).await?;
    let idle = abandoned::among(&mut open, &storage, global).await?;
    open.retain(|run| run.state.is_open());
    let entries = latest(&storage, &key, entries as usize).await?;
    let now = runtime::clock().now();
    if global.output.json {
        let mut document = list::document(&row);
        if let Value::Object(map) = &mut document {
            let open = open.iter().map(|run| {
                let (abandoned, suspended) = (idle.is_abandoned(run.id), idle.is_suspended(run.id));
                let state = run.state.as_str();
                json!({"runId": run.id, "state": state, "abandoned": abandoned, "suspended": suspended})
            });
            map.insert("openRuns".to_owned(), open.collect());
            map.insert("treeUsage".to_owned(), json!(usage));
            map.insert("entries".to_owned(), entries.iter().map(|entry| transcript::json(entry)).collect());
        }
        global.output.document(&document)?;
    } else {
        let open: Vec<String> =
            open.iter().map(|run| format!("{} {}", run.id, abandoned::state(run, &idle))).collect();
        print(&row, open, usage, &entries, now, global.output)?;
        abandoned::tell(&idle);
    }
    Ok(Exit::Ok)
}

/// The last `count` entries, oldest first.
async fn latest(
    storage: &dyn Storage,
    key: &SessionKey,
    count: usize,
) -> Result<Vec<Arc<StoredEntry>>, StoreError> {
    let mut kept = VecDeque::new();
    transcript::read(storage, key, |page| {
        kept.extend(page);
        kept.drain(..kept.len().saturating_sub(count));
    })
    .await?;
    Ok(kept.into())
}

fn print(
    row: &SessionRow,
    open: Vec<String>,
    usage: Usage,
    entries: &[Arc<StoredEntry>],
    now: Timestamp,
    output: Output,
) -> Result<(), Failure> {
    let mut facts = vec![("session", row.key.to_string()), ("agent", row.agent.to_string())];
    facts.extend(row.label.as_deref().map(|label| ("label", one_line(label, 200))));
    facts.extend(row.parent.as_ref().map(|parent| ("parent", parent.to_string())));
    facts.extend(row.outlived.as_ref().map(|parent| ("outlived", parent.to_string())));
    facts.push(("depth", row.depth.to_string()));
    if row.on_parent_exit.outlives() {
        facts.push(("at exit", format!("{} when its parent goes away", row.on_parent_exit.as_str())));
    }
    facts.push(("created", ago(row.created_at, now)));
    facts.push(("updated", ago(row.updated_at, now)));
    facts.extend(open.into_iter().map(|run| ("open run", run)));
    facts.push(("tree used", tokens(usage)));
    for (name, value) in facts {
        output.line(format_args!("{name:<10} {value}"))?;
    }
    for entry in entries {
        output.line("")?;
        for line in transcript::lines(entry, now, output.paint) {
            output.line(line)?;
        }
    }
    Ok(())
}
