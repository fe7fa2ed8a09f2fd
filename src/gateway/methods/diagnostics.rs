//! `diagnostics.*`: how busy the daemon is.

use futures::FutureExt;
use futures::future::BoxFuture;
use offshoot_actors::LaneView;
use serde_json::{Value, json};

use super::call::refused;
use super::{Answer, Call, Method, READ, answer, later};

pub(super) const METHODS: &[Method] = &[later("diagnostics.lanes", READ, lanes)];

fn lanes(call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let lanes = call.daemon.tree()?.lanes().await.map_err(|refusal| refused(&refusal))?;
        let row = |lane: LaneView| {
            json!({
                "lane": lane.name,
                "activeCount": lane.active,
                "queuedCount": lane.queued,
                "maxConcurrent": lane.limit,
                "blockedBy": null,
            })
        };
        // A session has a queue of its own and no lane.
        answer(&json!({ "lanes": lanes.map(row), "dynamic": Value::Null }))
    }
    .boxed()
}
