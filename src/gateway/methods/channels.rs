//! `channels.*` and other parts of OpenClaw that do not exist here: their lists are empty, and that is the truth.

use serde::Deserialize;
use serde_json::json;

use super::target;
use super::{ADMIN, Answer, Call, Method, PAIRING, READ, answer, now};
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[
    now("channels.status", READ, status),
    now("channels.logout", ADMIN, logout),
    now("channels.pairing.list", PAIRING, senders),
    now("skills.status", READ, skills),
    now("skills.library.list", READ, library),
    now("doctor.memory.status", READ, memory),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Logout {
    channel: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct OfAgent {
    agent_id: Option<String>,
}

fn status(call: &Call) -> Answer {
    let mut payload = json!({
        "ts": call.now().0,
        "channelOrder": [],
        "channelLabels": {},
        "channelDetailLabels": {},
        "channelSystemImages": {},
        "channelMeta": [],
        "channels": {},
        "channelAccounts": {},
        "channelDefaultAccountId": {},
    });
    if call.client.protocol == Protocol::V4 {
        payload["statusIssues"] = json!([]);
    }
    answer(&payload)
}

fn logout(call: &Call) -> Answer {
    let Logout { channel } = call.params()?;
    let channel: String = channel.chars().take(64).collect();
    Err(ErrorShape::invalid(format!("unknown channel {channel:?}: offshoot has no channels yet")))
}

/// Nobody writes by a channel, so nobody waits and none is kept.
fn senders(_: &Call) -> Answer {
    answer(&json!({
        "accounts": [],
        "requests": [],
        "commandOwnerConfigured": false,
        "limits": { "pendingPerAccount": 0, "ttlMs": 0 },
    }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct OfSession {
    session_key: Option<String>,
}

/// A library in which there is nothing, and into which nothing can be put.
fn library(call: &Call) -> Answer {
    let OfSession { session_key } = call.params()?;
    let mut library = json!({
        "entries": [],
        "profileId": null,
        "multipleProfiles": false,
        "defaultTarget": "unavailable",
        "canManageWorkspace": false,
        "defaultSelectionLimit": 0,
    });
    if let Some(key) = session_key {
        let settings = call.daemon.tree()?.settings();
        let key = target::session(call.method, &settings, None, Some(&key))?;
        library["session"] = json!({ "sessionKey": key, "selections": [], "attachable": [] });
    }
    answer(&library)
}

fn skills(call: &Call) -> Answer {
    let OfAgent { agent_id } = call.params()?;
    let agent = super::agents::named(call, agent_id.as_deref())?;
    let workspace = super::agents::workspace(&call.daemon, &agent);
    answer(&json!({
        "workspaceDir": workspace,
        "managedSkillsDir": call.daemon.state_dir.join("skills"),
        "skills": [],
    }))
}

fn memory(call: &Call) -> Answer {
    let OfAgent { agent_id } = call.params()?;
    let agent = super::agents::named(call, agent_id.as_deref())?;
    answer(&json!({
        "agentId": agent,
        "embedding": { "ok": false, "error": "offshoot has no memory search" },
    }))
}
