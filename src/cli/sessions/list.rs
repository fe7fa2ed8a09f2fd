//! `offshoot sessions list`

use offshoot_actors::ports::{ListFilter, OverviewFilter, Page, SessionRow, Storage};
use serde_json::{Value, json};

use super::super::Global;
use super::super::exit::{Exit, Failure};
use super::super::output::{ago, note, one_line, table};
use super::super::view::{Node, lines, nest};
use crate::archive;
use crate::runtime;

pub(super) async fn run(tree: bool, limit: u32, global: &Global) -> Result<Exit, Failure> {
    let page = Page { offset: 0, limit };
    let rows: Vec<SessionRow> = match global.read_store()? {
        // A tree is drawn in the order in which it grew.
        Some(storage) if tree => storage.list_sessions(ListFilter::default(), page).await?,
        Some(storage) => {
            let found = storage.overviews(OverviewFilter::default(), page).await?;
            found.sessions.into_iter().map(|session| session.row).collect()
        }
        None => Vec::new(),
    };
    let output = global.output;
    if output.json {
        let sessions: Vec<Value> = rows.iter().map(document).collect();
        output.document(&json!({"sessions": sessions}))?;
        return Ok(Exit::Ok);
    }
    if rows.is_empty() {
        note("no sessions");
    } else if tree {
        let roots = nest(rows.into_iter().rev().map(node));
        for line in lines(&roots, output.paint, usize::MAX) {
            output.line(line)?;
        }
    } else {
        let now = runtime::clock().now();
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                let label = row.label.as_deref().map(|label| one_line(label, 40)).unwrap_or_default();
                vec![row.key.to_string(), ago(row.updated_at, now), row.depth.to_string(), label]
            })
            .collect();
        for line in table(output.paint, &["SESSION", "UPDATED", "DEPTH", "LABEL"], &cells) {
            output.line(line)?;
        }
    }
    Ok(Exit::Ok)
}

pub(super) fn archived(limit: u32, global: &Global) -> Result<Exit, Failure> {
    let dir = global.environment.state_dir()?;
    let found = archive::archived(&dir, limit as usize).map_err(|error| {
        Failure::new(Exit::Unavailable, "archive", format!("the archive cannot be read: {error}"))
    })?;
    let output = global.output;
    if output.json {
        let sessions: Vec<Value> = found
            .iter()
            .map(|session| {
                json!({
                    "sessionKey": session.session_key,
                    "parent": session.parent,
                    "depth": session.depth,
                    "label": session.label,
                    "updatedAt": session.updated_at,
                    "archivedAt": session.exported_at,
                    "file": session.file,
                })
            })
            .collect();
        output.document(&json!({"sessions": sessions}))?;
    } else if found.is_empty() {
        note("no session is archived");
    } else {
        let now = runtime::clock().now();
        let cells = found.iter().map(|session| {
            let label = session.label.as_deref().map(|label| one_line(label, 40)).unwrap_or_default();
            let (key, at) = (session.session_key.to_string(), ago(session.exported_at, now));
            vec![key, at, label, session.file.display().to_string()]
        });
        let cells: Vec<Vec<String>> = cells.collect();
        for line in table(output.paint, &["SESSION", "ARCHIVED", "LABEL", "FILE"], &cells) {
            output.line(line)?;
        }
    }
    Ok(Exit::Ok)
}

fn node(row: SessionRow) -> Node {
    Node { key: row.key, parent: row.parent, label: row.label, runs: Vec::new(), children: Vec::new() }
}

/// A session's row for programs.
pub(super) fn document(row: &SessionRow) -> Value {
    json!({
        "sessionKey": row.key,
        "agentId": row.agent,
        "parent": row.parent,
        "root": row.root,
        "depth": row.depth,
        "label": row.label,
        "mode": row.mode,
        "cleanup": row.cleanup,
        "onParentExit": row.on_parent_exit,
        "outlived": row.outlived,
        "model": row.model,
        "waitingRun": row.yielded,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    })
}
