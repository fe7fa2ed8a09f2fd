//! A session's row, as lists and events show it.

use offshoot_actors::policy::tools::Role;
use offshoot_actors::ports::{
    Overview, OverviewFilter, Page, RunGlance, RunState, SessionRow, Storage, StoreError,
};
use offshoot_actors::types::{ModelRef, SessionKey, Settings, Terminal, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::states::session_status;
use crate::protocol::version::Protocol;

/// What a row's shape depends on beside its session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowShape<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) settings: &'a Settings,
    pub(crate) now: Timestamp,
}

/// The id of a session's transcript: another one after a reset.
pub(crate) fn session_id(row: &SessionRow) -> Uuid {
    let digest =
        Sha256::new().chain_update(row.created_at.0.to_be_bytes()).chain_update(row.key.as_str()).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What a run is called on the wire.
pub(crate) fn run_name(run: &RunGlance) -> String {
    run.wire_id.clone().unwrap_or_else(|| run.id.to_string())
}

/// A session with what its row shows; none if it does not exist.
pub(crate) async fn overview(storage: &dyn Storage, key: SessionKey) -> Result<Option<Overview>, StoreError> {
    let filter = OverviewFilter { key: Some(key), ..OverviewFilter::default() };
    Ok(storage.overviews(filter, Page { offset: 0, limit: 1 }).await?.sessions.pop())
}

/// The model that the session's next run is made with.
pub(crate) fn model_of<'a>(row: &'a SessionRow, settings: &'a Settings) -> Option<&'a ModelRef> {
    let own = row.model.as_ref().map(|model| &model.primary);
    own.or_else(|| settings.agent(&row.agent).map(|agent| &agent.model.primary))
}

/// The row.
pub(crate) fn session_row(session: &Overview, shape: &RowShape<'_>) -> Map<String, Value> {
    let row = &session.row;
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("key", json!(row.key));
    put("kind", json!("direct"));
    put("label", json!(row.label));
    put("displayName", json!(display_name(row)));
    put("updatedAt", json!(row.updated_at.0));
    put("sessionId", json!(session_id(row)));
    if let Some(parent) = &row.parent {
        let role = Role::at(row.depth, shape.settings.subagents.max_depth);
        put("spawnedBy", json!(parent));
        put("parentSessionKey", json!(parent));
        put("spawnDepth", json!(row.depth));
        put("subagentRole", json!(role.as_str()));
        put("subagentControlScope", json!(if role == Role::Leaf { "none" } else { "children" }));
    }
    if !session.children.is_empty() {
        put("childSessions", json!(session.children));
    }
    let model = model_of(row, shape.settings).or_else(|| session.latest.as_ref().map(|run| &run.model));
    put("modelProvider", json!(model.map(ModelRef::provider)));
    put("model", json!(model.map(ModelRef::model)));
    if let Some(run) = session.open.last().or_else(|| latest(session)) {
        put("status", json!(session_status(run.state)));
        put("inputTokens", json!(run.usage.input));
        put("outputTokens", json!(run.usage.output));
        put("startedAt", json!(run.started_at.map(|at| at.0)));
        put("endedAt", json!(run.ended_at.map(|at| at.0)));
        let until = run.ended_at.unwrap_or(shape.now);
        put("runtimeMs", json!(run.started_at.map(|started| (until - started).as_millis())));
        put("abortedLastRun", json!(run.state == RunState::Ended(Terminal::Cancelled)));
    }
    put("totalTokens", json!(session.context));
    put("totalTokensFresh", json!(session.context.is_some()));
    if shape.protocol == Protocol::V4 {
        newer(session, shape, &mut put);
    }
    out
}

/// The latest run of the transcript that there is: a reset leaves the runs before it behind.
fn latest(session: &Overview) -> Option<&RunGlance> {
    session.latest.as_ref().filter(|run| run.accepted_at >= session.row.created_at)
}

/// What only the newer generation shows.
fn newer(session: &Overview, shape: &RowShape<'_>, put: &mut dyn FnMut(&str, Value)) {
    let row = &session.row;
    // One that has outlived its parent was spawned, too.
    let spawned = row.depth > 0;
    put("agentId", json!(row.agent));
    put("classification", json!(if spawned { "subagent" } else { "direct" }));
    put("isMain", json!(row.key == SessionKey::main(&row.agent)));
    put("isBackground", json!(spawned));
    put("createdVia", json!(if spawned { "spawn" } else { "run" }));
    put("createdAt", json!(row.created_at.0));
    put("lastActivityAt", json!(row.updated_at.0));
    put("visibility", json!("shared"));
    put("archived", json!(false));
    put("pinned", json!(false));
    put("unread", json!(false));
    put("thinkingLevels", json!([{ "id": "off", "label": "off" }]));
    put("thinkingOptions", json!(["off"]));
    put("thinkingDefault", json!("off"));
    put("controlOwnerSessionKey", json!(row.parent));
    if spawned {
        put("hasActiveSubagentRun", json!(!session.open.is_empty()));
    }
    put("hasActiveRun", json!(!session.open.is_empty()));
    put("activeRunIds", json!(session.open.iter().map(run_name).collect::<Vec<_>>()));
    put("lastRunId", json!(latest(session).map(run_name)));
    put("snapshotAt", json!(shape.now.0));
}

/// The label, or what tells the session from others of its agent.
fn display_name(row: &SessionRow) -> &str {
    let rest = || row.key.as_str().splitn(3, ':').nth(2).unwrap_or_default();
    row.label.as_deref().unwrap_or_else(rest)
}

#[cfg(test)]
mod tests {
    use offshoot_actors::types::{AgentId, Cleanup, Mode, OnParentExit, RunId, Usage};

    use super::*;

    fn session(name: &str, parent: Option<&str>) -> Overview {
        let key = |name: &str| -> SessionKey { format!("agent:main:{name}").parse().unwrap() };
        Overview {
            row: SessionRow {
                key: key(name),
                agent: AgentId::main(),
                parent: parent.map(key),
                root: key("main"),
                depth: u32::from(parent.is_some()),
                label: None,
                mode: Mode::Session,
                cleanup: Cleanup::Keep,
                model: None,
                tools: None,
                yielded: None,
                on_parent_exit: OnParentExit::Stop,
                outlived: None,
                created_at: Timestamp(1_000),
                updated_at: Timestamp(2_000),
            },
            open: Vec::new(),
            latest: None,
            children: Vec::new(),
            entries: 0,
            context: None,
        }
    }

    fn run(state: RunState) -> RunGlance {
        RunGlance {
            id: RunId(Uuid::nil()),
            wire_id: Some("mine".to_owned()),
            state,
            model: ModelRef::rehearsal(),
            usage: Usage { input: 20, output: 5, cached: 0 },
            accepted_at: Timestamp(1_000),
            started_at: Some(Timestamp(1_500)),
            ended_at: (!state.is_open()).then_some(Timestamp(1_700)),
        }
    }

    fn shown(session: &Overview, protocol: Protocol) -> Value {
        let settings = Settings::with_model(AgentId::main(), "mock/mock-1".parse().unwrap());
        json!(session_row(session, &RowShape { protocol, settings: &settings, now: Timestamp(3_000) }))
    }

    #[test]
    fn a_session_without_runs_has_neither_status_nor_tokens() {
        let session = session("desk", None);
        assert_eq!(
            shown(&session, Protocol::V3),
            json!({"key": "agent:main:desk", "kind": "direct", "displayName": "desk", "updatedAt": 2_000,
                "sessionId": session_id(&session.row), "modelProvider": "mock", "model": "mock-1",
                "totalTokensFresh": false})
        );
    }

    #[test]
    fn the_latest_run_gives_the_status_unless_another_is_open() {
        let mut session = session("desk", None);
        session.latest = Some(run(RunState::Ended(Terminal::Cancelled)));
        let row = shown(&session, Protocol::V4);
        assert_eq!((&row["status"], &row["abortedLastRun"]), (&json!("killed"), &json!(true)));
        assert_eq!((&row["runtimeMs"], &row["hasActiveRun"]), (&json!(200), &json!(false)));
        session.open = vec![run(RunState::Yielded)];
        let row = shown(&session, Protocol::V4);
        assert_eq!((&row["status"], &row["runtimeMs"]), (&json!("running"), &json!(1_500)));
        assert_eq!((&row["activeRunIds"], &row["endedAt"]), (&json!(["mine"]), &Value::Null));
    }

    #[test]
    fn a_reset_leaves_the_runs_before_it_behind() {
        let mut session = session("desk", None);
        session.latest = Some(run(RunState::Ended(Terminal::Error)));
        assert_eq!(shown(&session, Protocol::V4)["lastRunId"], "mine");
        session.row.created_at = Timestamp(1_001);
        let row = shown(&session, Protocol::V4);
        assert!(row.get("status").is_none() && row.get("lastRunId").is_none());
    }

    #[test]
    fn a_child_names_its_parent_and_what_it_may_do() {
        let row = shown(&session("subagent:1", Some("main")), Protocol::V3);
        assert_eq!((&row["spawnedBy"], &row["spawnDepth"]), (&json!("agent:main:main"), &json!(1)));
        assert_eq!(
            (&row["subagentRole"], &row["subagentControlScope"]),
            (&json!("orchestrator"), &json!("children"))
        );
        assert!(shown(&session("main", None), Protocol::V3).get("spawnedBy").is_none());
    }

    #[test]
    fn a_reset_gives_another_id_and_nothing_else_does() {
        let mut session = session("desk", None);
        let before = session_id(&session.row);
        session.row.updated_at = Timestamp(9_000);
        session.row.label = Some("other".to_owned());
        assert_eq!(session_id(&session.row), before);
        session.row.created_at = Timestamp(9_000);
        assert_ne!(session_id(&session.row), before);
    }
}
