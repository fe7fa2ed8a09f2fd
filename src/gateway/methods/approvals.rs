//! `exec.approval*`: nothing runs commands on this machine yet, so nothing ever asks.

use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ADMIN, APPROVALS, Answer, Call, Method, answer, now};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    now("exec.approval.list", APPROVALS, empty),
    now("exec.approval.get", APPROVALS, unknown),
    now("exec.approval.resolve", APPROVALS, unknown),
    now("exec.approval.waitDecision", APPROVALS, unknown),
    now("exec.approval.request", APPROVALS, absent),
    now("exec.approvals.get", ADMIN, file),
    now("exec.approvals.set", ADMIN, absent),
    now("plugin.approval.list", APPROVALS, empty),
    now("plugin.approval.resolve", APPROVALS, unknown),
    now("plugin.approval.waitDecision", APPROVALS, unknown),
];

fn empty(_: &Call) -> Answer {
    answer(&json!([]))
}

fn unknown(_: &Call) -> Answer {
    let shape = ErrorShape::invalid("unknown or expired approval id");
    Err(shape.with_details(json!({ "reason": "APPROVAL_NOT_FOUND" })))
}

fn absent(_: &Call) -> Answer {
    Err(ErrorShape::invalid("offshoot runs no commands on this machine, so there is nothing to approve"))
}

fn file(call: &Call) -> Answer {
    let path: PathBuf = call.daemon.state_dir.join("exec-approvals.json");
    let hash: String = Sha256::digest(b"").iter().map(|byte| format!("{byte:02x}")).collect();
    let mut payload = json!({
        "path": path,
        "exists": false,
        "hash": hash,
        "file": { "version": 1, "socket": { "path": "" }, "defaults": {}, "agents": {} },
    });
    if call.client.protocol == Protocol::V4 {
        payload["resolvedDefaults"] = json!({
            "security": "deny", "ask": "off", "askFallback": "deny", "autoAllowSkills": false,
        });
    }
    answer(&payload)
}
