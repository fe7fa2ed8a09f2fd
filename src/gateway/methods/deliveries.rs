//! `deliveries.*`: what is to reach somebody, and what became of it. Offshoot's own.

use futures::future::BoxFuture;
use offshoot_actors::ports::{DeliveryFilter, DeliveryKind, DeliveryRow, Page};
use offshoot_actors::types::{Refusal, RunId};
use serde::Deserialize;
use serde_json::json;

use super::call::refused;
use super::sessions::named;
use super::target::unread;
use super::{ADMIN, Answer, Call, Method, READ, answer, later};
use crate::gateway::callbacks::CallbacksMsg;
use crate::gateway::deliveries::{counts, document};
use crate::protocol::error::ErrorShape;

pub(super) const METHODS: &[Method] = &[
    later("deliveries.list", READ, list),
    later("deliveries.show", READ, show),
    later("deliveries.retry", ADMIN, retry),
    later("deliveries.dismiss", ADMIN, dismiss),
];

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct List {
    state: Option<String>,
    kind: Option<String>,
    run_id: Option<String>,
    session_key: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Named {
    run_id: String,
    kind: Option<String>,
}

/// A cursor says how many deliveries came before.
fn list(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let params: List = call.params()?;
        let tree = call.daemon.tree()?;
        let limit = call.within("limit", params.limit, 1..=MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT);
        let offset = params.cursor.map_or(Ok(0), |cursor| cursor.parse::<u32>());
        let offset =
            offset.map_err(|_| call.invalid("cursor", "must be a nextCursor of an earlier answer"))?;
        let key = params.session_key.as_deref();
        let filter = DeliveryFilter {
            kind: call.read("kind", params.kind.as_deref())?,
            status: call.read("state", params.state.as_deref())?,
            run: call.read("runId", params.run_id.as_deref())?,
            session: key.map(|key| named(call.method, &tree.settings(), None, key)).transpose()?,
            agents: None,
        };
        // One more tells whether there are more.
        let page = Page { offset, limit: limit + 1 };
        let mut rows = tree.deliveries(filter, page).await.map_err(unread)?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let tally = tree.delivery_tally().await.map_err(unread)?;
        let mut payload = json!({
            "deliveries": rows.iter().map(document).collect::<Vec<_>>(),
            "counts": counts(&tally),
        });
        if more {
            payload["nextCursor"] = offset.saturating_add(limit).to_string().into();
        }
        answer(&payload)
    })
}

fn show(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let (run, rows) = of_run(&call).await?;
        answer(&json!({ "runId": run, "deliveries": rows.iter().map(document).collect::<Vec<_>>() }))
    })
}

fn retry(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let (kind, run) = one(&call).await?;
        let done = call.daemon.tree()?.retry_delivery(kind, run, call.origin()).await;
        let row = done.map_err(|refusal| refused(&refusal))?;
        if kind == DeliveryKind::Callback {
            call.daemon.tell_callbacks(CallbacksMsg::Retry(run));
        }
        answer(&json!({ "delivery": document(&row) }))
    })
}

fn dismiss(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let (kind, run) = one(&call).await?;
        let done = call.daemon.tree()?.dismiss_delivery(kind, run, call.origin()).await;
        let row = done.map_err(|refusal| refused(&refusal))?;
        if kind == DeliveryKind::Callback {
            call.daemon.tell_callbacks(CallbacksMsg::Dismissed(run));
        }
        answer(&json!({ "delivery": document(&row) }))
    })
}

/// The deliveries of a run's result.
async fn of_run(call: &Call) -> Result<(RunId, Vec<DeliveryRow>), ErrorShape> {
    let params: Named = call.params()?;
    let run: RunId = params.run_id.trim().parse().map_err(|error| call.invalid("runId", error))?;
    let kind = call.read("kind", params.kind.as_deref())?;
    let filter = DeliveryFilter { kind, run: Some(run), ..DeliveryFilter::default() };
    let page = Page { offset: 0, limit: MAX_LIMIT };
    let rows = call.daemon.tree()?.deliveries(filter, page).await.map_err(unread)?;
    if rows.is_empty() {
        let unknown = Refusal::error("unknown_delivery", format!("nothing is to be delivered of run {run}"))
            .with_hint("list what is with `offshoot deliveries list`");
        return Err(refused(&unknown));
    }
    Ok((run, rows))
}

/// The delivery that is meant: the only one, or the only one that is not settled.
async fn one(call: &Call) -> Result<(DeliveryKind, RunId), ErrorShape> {
    let (run, rows) = of_run(call).await?;
    let open: Vec<DeliveryKind> =
        rows.iter().filter(|row| !row.state.is_settled()).map(|row| row.kind).collect();
    match (open.as_slice(), rows.as_slice()) {
        ([kind], _) => Ok((*kind, run)),
        ([], [first, ..]) => Ok((first.kind, run)),
        _ => Err(call.invalid("kind", "the run has an announce and a callback: name one")),
    }
}
