//! `status`: what the daemon is doing, read from the store when somebody asks.

use futures::future::BoxFuture;
use offshoot_actors::ports::{
    Cause, DeliveryTally, ListFilter, Page, RunState, RunTally, SessionRow, StoreError, Tallies,
};
use offshoot_actors::types::{AgentId, Scope, Terminal, Timestamp};
use serde_json::{Value, json};

use super::{Answer, Call, Method, READ, answer, later};
use crate::gateway::daemon::{Daemon, VERSION};
use crate::gateway::deliveries::counts;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

pub(super) const METHODS: &[Method] = &[later("status", READ, status)];

/// Sessions that are named.
const RECENT: u32 = 10;
/// Tokens that a model is taken to read where nobody says otherwise.
pub(crate) const CONTEXT_TOKENS: u64 = 200_000;

fn status(call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let storage = call.daemon.tree()?.storage();
        let read = |error: StoreError| ErrorShape::unavailable(error.to_string());
        let tallies = storage.tallies().await.map_err(read)?;
        let deliveries = call.daemon.tree()?.delivery_tally().await.map_err(read)?;
        let page = Page { offset: 0, limit: RECENT };
        let recent = storage.list_sessions(ListFilter::default(), page).await.map_err(read)?;
        let admin = call.client.may(Scope::Admin);
        let mut report = report(&call.daemon, call.client.protocol, &tallies, &recent, call.now(), admin);
        report["taskAudit"] = task_audit(&deliveries);
        report["deliveries"] = counts(&deliveries);
        let interrupted = |tally: &&RunTally| tally.state == RunState::Ended(Terminal::Interrupted);
        let interrupted: u64 = tallies.runs.iter().filter(interrupted).map(|tally| tally.count).sum();
        report["interruptedRuns"] = interrupted.into();
        answer(&report)
    })
}

fn report(
    daemon: &Daemon,
    protocol: Protocol,
    tallies: &Tallies,
    recent: &[SessionRow],
    now: Timestamp,
    admin: bool,
) -> Value {
    let config = daemon.config();
    let settings = &config.settings;
    // Where files are is for administrators.
    let path = if admin { daemon.store_path().display().to_string() } else { "<redacted>".to_owned() };
    let row = |row: &SessionRow| {
        json!({
            "agentId": row.agent,
            "key": row.key,
            "kind": "direct",
            "updatedAt": row.updated_at.0,
            "age": now.0.saturating_sub(row.updated_at.0),
            "label": row.label,
            "flags": [],
        })
    };
    let by_agent = |agent: &AgentId| {
        json!({
            "agentId": agent,
            "path": path,
            "count": tallies.sessions.get(agent).copied().unwrap_or(0),
            "recent": recent.iter().filter(|session| session.agent == *agent).map(row).collect::<Vec<_>>(),
        })
    };
    let heartbeat = |agent: &AgentId| {
        let mut value = json!({ "agentId": agent, "enabled": false, "every": "disabled", "everyMs": null });
        if protocol == Protocol::V4 {
            value["waitingForRoute"] = false.into();
        }
        value
    };
    let model = settings.agent(&settings.default_agent).map(|agent| agent.model.primary.model().to_owned());
    let mut status = json!({
        "runtimeVersion": VERSION,
        "heartbeat": {
            "defaultAgentId": settings.default_agent,
            "agents": settings.agents.keys().map(heartbeat).collect::<Vec<_>>(),
        },
        "channelSummary": [],
        "queuedSystemEvents": [],
        "tasks": tasks(tallies),
        "sessions": {
            "paths": [path],
            "count": tallies.sessions.values().sum::<u64>(),
            "defaults": { "model": model, "contextTokens": CONTEXT_TOKENS },
            "recent": recent.iter().map(row).collect::<Vec<_>>(),
            "byAgent": settings.agents.keys().map(by_agent).collect::<Vec<_>>(),
        },
    });
    if protocol == Protocol::V4 {
        status["degradedSecretOwners"] = json!([]);
        status["degradedPlugins"] = json!([]);
        status["modelRuntime"] = json!({ "degraded": false, "pendingAgents": [] });
        status["pid"] = std::process::id().into();
    }
    status
}

/// What is wrong with tasks: results that reach nobody.
fn task_audit(deliveries: &DeliveryTally) -> Value {
    let failed = deliveries.given_up + deliveries.undeliverable;
    json!({
        "total": failed, "warnings": failed, "errors": 0,
        "byCode": {
            "stale_queued": 0, "stale_running": 0, "lost": 0, "delivery_failed": failed, "missing_cleanup": 0,
            "inconsistent_timestamps": 0,
        },
    })
}

/// Runs that somebody spawned, as clients count tasks.
fn tasks(tallies: &Tallies) -> Value {
    let count = |wanted: &dyn Fn(RunState) -> bool| -> u64 {
        let spawned = tallies.runs.iter().filter(|tally| tally.cause == Cause::Spawn);
        spawned.filter(|tally| wanted(tally.state)).map(|tally| tally.count).sum()
    };
    let ended = |terminals: &'static [Terminal]| {
        count(&|state| matches!(state, RunState::Ended(terminal) if terminals.contains(&terminal)))
    };
    let queued = count(&|state| state == RunState::Accepted);
    let running = count(&|state| matches!(state, RunState::Running | RunState::Yielded));
    let (succeeded, timed_out) = (ended(&[Terminal::Ok, Terminal::Partial]), ended(&[Terminal::Timeout]));
    let (failed, cancelled) = (ended(&[Terminal::Error, Terminal::Crashed]), ended(&[Terminal::Cancelled]));
    let lost = ended(&[Terminal::Interrupted]);
    let (active, terminal) = (queued + running, succeeded + timed_out + failed + cancelled + lost);
    json!({
        "total": active + terminal,
        "active": active,
        "terminal": terminal,
        "failures": failed + timed_out + lost,
        "byStatus": {
            "queued": queued, "running": running, "succeeded": succeeded, "failed": failed,
            "timed_out": timed_out, "cancelled": cancelled, "lost": lost,
        },
        "byRuntime": { "subagent": active + terminal, "acp": 0, "cli": 0, "cron": 0 },
    })
}

#[cfg(test)]
mod tests {
    use offshoot_actors::ports::RunTally;

    use super::*;

    #[test]
    fn every_spawned_run_is_one_task_in_one_state() {
        let states = [RunState::Accepted, RunState::Running, RunState::Yielded]
            .into_iter()
            .chain(Terminal::ALL.map(RunState::Ended));
        let runs = states.flat_map(|state| {
            [Cause::Spawn, Cause::Message].map(|cause| RunTally { cause, state, count: 3 })
        });
        let tallies = Tallies { runs: runs.collect(), ..Tallies::default() };
        let tasks = tasks(&tallies);
        assert_eq!(tasks["total"], 3 * (3 + Terminal::ALL.len()));
        assert_eq!(tasks["active"], 9);
        let by_status: u64 =
            tasks["byStatus"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(tasks["total"], by_status);
    }
}
