//! What the tools that look at one session share.

use std::sync::Arc;

use offshoot_actors::ports::{ListFilter, Page, RunRow, SessionRow, Storage, StoreError};
use offshoot_actors::types::{Refusal, SessionKey, Visibility};

use super::arguments::BadArguments;
use super::reply::{Failure, clip};
use super::visibility::{Rows, check};

/// A session key as a model wrote it.
pub(super) fn session_key(text: &str) -> Result<SessionKey, BadArguments> {
    text.parse().map_err(|_| {
        BadArguments(format!(
            "parameter \"sessionKey\" must have the form agent:<agentId>:<name>, not {:?}",
            clip(text, 80).0
        ))
    })
}

/// A session, if there is one and `caller` may see `what` of it.
pub(super) async fn session(
    storage: &Arc<dyn Storage>,
    visibility: Visibility,
    caller: &SessionKey,
    key: &SessionKey,
    what: &str,
) -> Result<SessionRow, Failure> {
    let mut rows = Rows::new(storage);
    let relation = rows.relation(caller, key).await?;
    check(visibility, relation, what)?;
    let row = rows.get(key).await?.cloned();
    row.ok_or_else(|| {
        Refusal::error("session_unknown", format!("there is no session {key}"))
            .with_hint("see sessions_list and subagents for the sessions that there are")
            .into()
    })
}

/// The latest run of a session.
pub(super) async fn latest_run(
    storage: &Arc<dyn Storage>,
    key: &SessionKey,
) -> Result<Option<RunRow>, StoreError> {
    let filter = ListFilter { session: Some(key.clone()), ..ListFilter::default() };
    Ok(storage.list_runs(filter, Page { offset: 0, limit: 1 }).await?.pop())
}
