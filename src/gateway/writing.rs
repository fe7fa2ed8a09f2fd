//! Changes of the configuration file that clients ask for: under a hash, checked before they are written, in force when
//! they are answered.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::connection::ConnectionMsg;
use super::methods::Call;
use super::outbox::Close;
use super::reload::{AUTH_CHANGED, stale_methods};
use crate::config::{Config, ConfigFile, EditError, Problem, Severity, redacted, restore, roster};
use crate::protocol::error::ErrorShape;

/// How long whoever changed the shared secret may read the answer before it must prove itself anew.
const FAREWELL: Duration = Duration::from_millis(500);

/// What was written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    /// The configuration that is in the file, without secrets.
    pub(crate) shown: Value,
    pub(crate) hash: String,
    /// Whether anything was to be written.
    pub(crate) changed: bool,
    /// Settings that wait for a restart.
    pub(crate) restart: Vec<&'static str>,
}

/// Changes the list of agents in the file as it is now.
pub(crate) async fn edit_roster<T: Send + 'static>(
    call: &Call,
    change: impl FnOnce(&mut Value) -> Result<T, ErrorShape> + Send + 'static,
) -> Result<(T, Written), ErrorShape> {
    let _turn = call.daemon.reloading.turn.lock().await;
    let file = read(call).await?;
    let config = call.daemon.config();
    carry_out(call, file, move |file| {
        let mut value = file.try_value().map_err(|error| refused(&error))?;
        let whole = file.text().and_then(|text| config.check(file, text).ok());
        if let Some(other) = whole.and_then(|whole| roster::included(&value, whole.document.value())) {
            return Err(ErrorShape::invalid(format!("the agents are listed in {other}: edit it there")));
        }
        let result = change(&mut value)?;
        let text = file.with(&value).map_err(|error| refused(&error))?;
        Ok((result, text))
    })
    .await
}

/// Changes the file, if it is the one that the client has seen.
pub(crate) async fn edit_from<T: Send + 'static>(
    call: &Call,
    base: Option<String>,
    change: impl FnOnce(&mut Value) -> Result<T, ErrorShape> + Send + 'static,
) -> Result<(T, Written), ErrorShape> {
    let _turn = call.daemon.reloading.turn.lock().await;
    let file = read(call).await?;
    check_base(&file, base.as_deref())?;
    carry_out(call, file, |file| {
        let before = file.try_value().map_err(|error| refused(&error))?;
        let mut value = before.clone();
        let result = change(&mut value)?;
        restore(&mut value, &before).map_err(|error| refused(&error))?;
        let text = file.with(&value).map_err(|error| refused(&error))?;
        Ok((result, text))
    })
    .await
}

/// Puts a text in the place of the file, if that is the one that the client has seen. A text without comments changes the
/// values and leaves the comments that are there.
pub(crate) async fn replace(call: &Call, base: Option<String>, raw: String) -> Result<Written, ErrorShape> {
    let _turn = call.daemon.reloading.turn.lock().await;
    let file = read(call).await?;
    check_base(&file, base.as_deref())?;
    let ((), written) = carry_out(call, file, move |file| {
        let text = file.replaced_by(&raw).map_err(|error| refused(&error))?;
        Ok(((), text))
    })
    .await?;
    Ok(written)
}

async fn read(call: &Call) -> Result<ConfigFile, ErrorShape> {
    let config = call.daemon.config();
    blocking(move || ConfigFile::of(&config)).await?.map_err(|error| ErrorShape::invalid(error.to_string()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorShape> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ErrorShape::unavailable(error.to_string()))
}

fn check_base(file: &ConfigFile, base: Option<&str>) -> Result<(), ErrorShape> {
    match base.map(str::trim).filter(|base| !base.is_empty()) {
        _ if !file.exists() => Ok(()),
        None => Err(ErrorShape::invalid("config base hash required; re-run config.get and retry")),
        Some(base) if base == file.hash() => Ok(()),
        Some(_) => Err(ErrorShape::invalid("config changed since last load; re-run config.get and retry")),
    }
}

fn refused(error: &EditError) -> ErrorShape {
    ErrorShape::invalid(error.to_string())
}

fn invalid(problems: &[Problem]) -> ErrorShape {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let issues: Vec<Value> =
        errors.map(|problem| json!({ "path": problem.path, "message": problem.text })).collect();
    let mut first = problems.iter().filter(|problem| problem.severity == Severity::Error);
    let first = first.next().map(|problem| format!(": {}: {}", problem.path, problem.text));
    ErrorShape::invalid(format!("invalid config{}", first.unwrap_or_default()))
        .with_details(json!({ "issues": issues }))
}

async fn carry_out<T: Send + 'static>(
    call: &Call,
    file: ConfigFile,
    change: impl FnOnce(&ConfigFile) -> Result<(T, String), ErrorShape> + Send + 'static,
) -> Result<(T, Written), ErrorShape> {
    let config: Arc<Config> = call.daemon.config();
    let daemon = Arc::clone(&call.daemon);
    let work = move || {
        let (result, text) = change(&file)?;
        let checked = config.check(&file, &text).map_err(|error| match error.problems() {
            [] => ErrorShape::invalid(error.to_string()),
            problems => invalid(problems),
        })?;
        let changed = !file.is(&text);
        if changed {
            // What could not be put in force is not written either.
            let models = daemon.models().map(|models| models.made_of(&checked)).transpose();
            models.map_err(|error| ErrorShape::invalid(format!("invalid config: {error}")))?;
            file.write(&text).map_err(|error| {
                ErrorShape::unavailable(format!("{} cannot be written: {error}", file.path().display()))
            })?;
        }
        let shown = redacted(checked.document.value());
        let written =
            Written { path: file.path().to_owned(), shown, hash: checked.hash, changed, restart: Vec::new() };
        Ok((result, written))
    };
    let (result, mut written): (T, Written) = blocking(work).await??;
    if written.changed {
        let facts = vec![
            ("path", written.path.display().to_string()),
            ("method", call.method.to_owned()),
            ("hash", written.hash.clone()),
        ];
        call.daemon.tree()?.audit("config.written", call.origin(), facts);
        tracing::info!(
            method = call.method,
            connection = call.client.number,
            "the configuration was changed"
        );
        let before = call.daemon.config();
        let reloaded = call
            .daemon
            .reload(Some(call.client.number))
            .await
            .map_err(|error| ErrorShape::unavailable(format!("written, but not in force: {error}")))?;
        written.restart = reloaded.restart;
        call.daemon.tell_vitals();
        close_caller_later(call, &before);
    }
    Ok((result, written))
}

/// Whoever changed what it proved itself with is sent away like the others, once it could read the answer.
fn close_caller_later(call: &Call, before: &Config) {
    let after = call.daemon.config();
    if !stale_methods(&before.gateway.auth, &after.gateway.auth).contains(&call.client.method) {
        return;
    }
    let (client, clock) = (Arc::clone(&call.client), Arc::clone(&call.daemon.clock));
    tokio::spawn(async move {
        clock.sleep(FAREWELL).await;
        drop(client.actor.send(ConnectionMsg::Disconnect(Close::new(4001, AUTH_CHANGED))));
    });
}
