//! `cron.*`: there are no schedules yet. Lists are empty, and what would make one says why not.

use serde::Deserialize;
use serde_json::json;

use super::{ADMIN, Answer, Call, Method, READ, answer, now};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    now("cron.list", READ, list),
    now("cron.status", READ, status),
    now("cron.runs", READ, runs),
    now("cron.get", READ, unknown),
    now("cron.add", ADMIN, absent),
    now("cron.update", ADMIN, unknown),
    now("cron.remove", ADMIN, unknown),
    now("cron.run", ADMIN, unknown),
];

const LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
/// What stands for a list without jobs: pages of it belong together.
const REVISION: &str = "empty";

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an object")]
struct Page {
    limit: Option<u32>,
    offset: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct Job {
    id: Option<String>,
    job_id: Option<String>,
}

fn list(call: &Call) -> Answer {
    let Page { limit, offset } = call.params()?;
    let limit = limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    let offset = offset.unwrap_or(0);
    let mut page = json!({
        "jobs": [], "total": 0, "offset": offset, "limit": limit, "hasMore": false, "nextOffset": null,
    });
    if call.client.protocol == Protocol::V4 {
        page["snapshotRevision"] = REVISION.into();
        page["deliveryPreviews"] = json!({});
        // Clients read page after page of one revision, and demand that it has a name.
        page["snapshotRevision"] = json!("empty");
    }
    answer(&page)
}

fn status(_: &Call) -> Answer {
    answer(&json!({ "enabled": false, "storePath": "", "jobs": 0, "nextWakeAtMs": null }))
}

fn runs(_: &Call) -> Answer {
    answer(&json!({
        "entries": [], "total": 0, "offset": 0, "limit": LIMIT, "hasMore": false, "nextOffset": null,
    }))
}

fn absent(_: &Call) -> Answer {
    Err(ErrorShape::invalid("offshoot has no schedules yet: nothing would start this job"))
}

fn unknown(call: &Call) -> Answer {
    let Job { id, job_id } = call.params()?;
    let id: String = id.or(job_id).unwrap_or_default().chars().take(128).collect();
    Err(ErrorShape::invalid(format!("cron job not found: {id} (offshoot has no schedules yet)")))
}
