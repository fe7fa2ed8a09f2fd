//! `offshoot sessions delete`

use std::io::{self, BufRead, IsTerminal};

use offshoot_actors::ports::Storage;
use offshoot_actors::types::{Origin, Scope, SessionKey};
use offshoot_actors::{deletable, delete_stored};
use serde_json::json;

use super::super::Global;
use super::super::daemon::{self, Reach};
use super::super::exit::{Exit, Failure};
use super::super::names::SessionName;
use super::super::offline::writable;
use super::super::output::note;
use super::unknown;
use crate::gateway::record::Record;
use crate::runtime;
use crate::telemetry::write_stderr;

/// Sessions that the question names.
const MAX_NAMED: usize = 20;

pub(super) async fn run(name: SessionName, yes: bool, global: &Global) -> Result<Exit, Failure> {
    let key = name.key(global)?;
    let storage = global.read_store()?.ok_or_else(|| unknown(&key))?;
    let doomed = deletable(&storage, &key).await?;
    drop(storage);
    if !yes && !agreed(&doomed)? {
        note("nothing was deleted");
        return Ok(Exit::Ended);
    }
    if let Some(gateway) = daemon::gateway(global)? {
        let deleted = through(&key, &doomed, &gateway, global).await?;
        return done(&key, &deleted, global);
    }
    let storage = writable(global, &format!("session {key} cannot be deleted from here"))?;
    let clock = runtime::clock();
    let deleted = delete_stored(&storage, clock.as_ref(), &key, Origin::Operator).await?;
    storage.close();
    done(&key, &deleted, global)
}

/// Has the gateway delete it that has the state directory. Returns what is gone.
async fn through(
    key: &SessionKey,
    doomed: &[SessionKey],
    gateway: &Record,
    global: &Global,
) -> Result<Vec<SessionKey>, Failure> {
    let mut client = Reach::recorded(gateway, None, global)?.connect(&[Scope::Admin]).await?;
    client.call("sessions.delete", &json!({"key": key, "deleteTranscript": true})).await?;
    client.close().await;
    let storage = global.read_store()?.ok_or_else(|| unknown(key))?;
    let mut deleted = Vec::new();
    for key in doomed {
        if storage.session(key.clone()).await?.is_none() {
            deleted.push(key.clone());
        }
    }
    Ok(deleted)
}

fn done(key: &SessionKey, deleted: &[SessionKey], global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        global.output.document(&json!({"status": "deleted", "sessionKey": key, "deleted": deleted}))?;
        return Ok(Exit::Ok);
    }
    for key in deleted {
        global.output.line(format_args!("deleted {key}"))?;
    }
    Ok(Exit::Ok)
}

/// Asks whoever sits at the terminal.
fn agreed(doomed: &[SessionKey]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let what = count(doomed.len());
        return Err(Failure::usage(format!("{what} would be deleted, and nobody can be asked"))
            .with_hint("add --yes to delete without a question"));
    }
    for key in doomed.iter().take(MAX_NAMED) {
        note(format_args!("  {key}"));
    }
    if doomed.len() > MAX_NAMED {
        note(format_args!("  … and {} more", doomed.len() - MAX_NAMED));
    }
    _ = write_stderr(format!("delete {} with the transcript? [y/N] ", count(doomed.len())).as_bytes());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::usage(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn count(sessions: usize) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}
