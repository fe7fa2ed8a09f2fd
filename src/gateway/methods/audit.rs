//! `audit.list`: who asked what with which right, and what was decided. Offshoot's own in its parameters and its answer.

use futures::future::BoxFuture;
use offshoot_actors::ports::AuditFilter;
use offshoot_actors::types::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::sessions::named;
use super::target::unread;
use super::{ADMIN, Answer, Call, Method, answer, later};
use crate::gateway::audit::document;

pub(super) const METHODS: &[Method] = &[later("audit.list", ADMIN, list)];

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;
/// Longest beginning of an event.
const MAX_EVENT: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct List {
    since: Option<i64>,
    event: Option<String>,
    origin: Option<String>,
    session_key: Option<String>,
    run_id: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

/// A page may have fewer rows than asked for, or none, and still name the next one: only so many are looked at.
fn list(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: List = call.params()?;
        let tree = call.daemon.tree()?;
        let limit = call.within("limit", params.limit, 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let event = params.event.filter(|event| !event.is_empty());
        if event.as_ref().is_some_and(|event| event.len() > MAX_EVENT) {
            return Err(call.invalid("event", format!("must be at most {MAX_EVENT} bytes long")));
        }
        let key = params.session_key.as_deref();
        let filter = AuditFilter {
            since: params.since.map(Timestamp),
            event,
            origin: call.read("origin", params.origin.as_deref())?,
            session: key.map(|key| named(call.method, &tree.settings(), None, key)).transpose()?,
            run: call.read("runId", params.run_id.as_deref())?,
        };
        let page = tree.storage().audit_rows(filter, params.before, limit).await.map_err(unread)?;
        let mut payload = json!({"rows": page.rows.iter().map(document).collect::<Vec<_>>()});
        if let Some(next) = page.next {
            payload["nextBefore"] = next.into();
        }
        answer(&payload)
    })
}
