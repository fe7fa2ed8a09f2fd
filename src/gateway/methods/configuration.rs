//! `config.*`: the configuration file, shown without its secrets and changed under a hash.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ADMIN, Answer, Call, Method, READ, answer, later, now};
use crate::config::{ConfigError, ConfigFile, Problem, Severity, merge_patch, redacted, roster, schema};
use crate::gateway::daemon::VERSION;
use crate::gateway::writing::{self, Written};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    later("config.get", READ, get),
    now("config.schema", READ, whole_schema),
    now("config.schema.lookup", READ, lookup),
    later("config.set", ADMIN, set),
    later("config.apply", ADMIN, set),
    later("config.patch", ADMIN, patch),
];

/// Longest path that is looked up.
const MAX_PATH: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Change {
    raw: String,
    base_hash: Option<String>,
    #[serde(default)]
    replace_paths: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
struct Lookup {
    path: String,
}

fn get(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let daemon = std::sync::Arc::clone(&call.daemon);
        let read = move || {
            let config = daemon.config();
            let file = ConfigFile::of(&config);
            let fresh = config.reload();
            (file, fresh)
        };
        let (file, fresh) = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| ErrorShape::unavailable(error.to_string()))?;
        let in_force = call.daemon.config();
        let file = file.map_err(|error| ErrorShape::unavailable(error.to_string()))?;
        answer(&shown(&file, &fresh, &in_force, call.client.protocol))
    })
}

fn shown(
    file: &ConfigFile,
    fresh: &Result<crate::config::Config, ConfigError>,
    in_force: &crate::config::Config,
    protocol: Protocol,
) -> Value {
    let (problems, resolved): (&[Problem], _) = match fresh {
        Ok(config) => (&config.problems, redacted(config.document.value())),
        Err(error) => (error.problems(), redacted(&file.value())),
    };
    let of = |severity| {
        let wanted = problems.iter().filter(|problem| problem.severity == severity);
        wanted.map(|problem| json!({ "path": problem.path, "message": problem.text })).collect::<Vec<_>>()
    };
    let mut issues = of(Severity::Error);
    if let (Err(error), true) = (fresh, issues.is_empty()) {
        issues.push(json!({ "path": "", "message": error.to_string() }));
    }
    let runtime = redacted(in_force.document.value());
    let mut payload = json!({
        "path": file.path(),
        "exists": file.exists(),
        "raw": file.redacted_text(),
        "parsed": redacted(&file.value()),
        "sourceConfig": resolved,
        "resolved": resolved,
        "valid": fresh.is_ok(),
        "runtimeConfig": runtime,
        "config": runtime,
        "hash": file.hash(),
        "issues": issues,
        "warnings": of(Severity::Warning),
        "legacyIssues": [],
    });
    if protocol == Protocol::V4 {
        let included = fresh.as_ref().map(|config| config.included.clone()).unwrap_or_default();
        payload["includedPaths"] = json!(included);
        payload["includeProvenance"] = json!([]);
        let (own, whole) = (file.value(), fresh.as_ref().map(|config| config.document.value()));
        let elsewhere = |owned: fn(&Value, &Value) -> bool| whole.is_ok_and(|whole| owned(&own, whole));
        payload["agentRosterIncludeOwned"] =
            elsewhere(|own, whole| roster::included(own, whole).is_some()).into();
        payload["bindingsIncludeOwned"] =
            elsewhere(|own, whole| own.get("bindings") != whole.get("bindings")).into();
        payload["configRevisionHash"] = file.hash().into();
        payload["appliedConfigHash"] = in_force.hash.as_str().into();
    }
    payload
}

fn whole_schema(_: &Call) -> Answer {
    answer(&json!({
        "schema": schema::whole(),
        "uiHints": schema::hints(),
        "version": VERSION,
        "generatedAt": "",
    }))
}

fn lookup(call: &Call) -> Answer {
    let Lookup { path } = call.params()?;
    let fits = !path.is_empty()
        && path.len() <= MAX_PATH
        && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./[]-*".contains(&b));
    let found = fits.then(|| schema::lookup(&path)).flatten();
    let found = found.ok_or_else(|| ErrorShape::invalid("config schema path not found"))?;
    answer(&found)
}

fn set(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Change { raw, base_hash, .. } = call.params()?;
        let written = writing::replace(&call, base_hash, raw).await?;
        answer(&outcome(&written))
    })
}

fn patch(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let Change { raw, base_hash, replace_paths } = call.params()?;
        let patch = ConfigFile::parse(&raw).map_err(|problem| invalid_raw(&problem))?;
        if !patch.is_object() {
            return Err(ErrorShape::invalid("config.patch raw must be an object"));
        }
        let edit = move |document: &mut Value| {
            merge_patch(document, &patch, &replace_paths);
            Ok(())
        };
        let ((), written) = writing::edit_from(&call, base_hash, edit).await?;
        answer(&outcome(&written))
    })
}

fn invalid_raw(problem: &str) -> ErrorShape {
    ErrorShape::invalid(format!("invalid config: {problem}"))
}

fn outcome(written: &Written) -> Value {
    let mut payload = json!({
        "ok": true,
        "path": written.path,
        "config": written.shown,
        "hash": written.hash,
        "restartRequired": written.restart,
    });
    if !written.changed {
        payload["noop"] = true.into();
    }
    payload
}
