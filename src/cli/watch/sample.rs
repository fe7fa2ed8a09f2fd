//! A small tree for tests.

use offshoot_actors::types::Timestamp;

use super::Forest;
use crate::protocol::tree::{
    Actor, Children, Node, OpenRuns, Run, Session, Spent, Tokens, Tool, Totals, Tree,
};

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

pub(crate) fn node(id: &str, parent: Option<&str>, name: &str, kind: &str) -> Node {
    Node {
        id: id.into(),
        parent: parent.map(str::to_owned),
        name: name.into(),
        path: format!("offshoot/{name}"),
        kind: kind.into(),
        state: "running".into(),
        actor: Some(Actor {
            since: NOW.0 - 60_000,
            restarts: 0,
            last_failure: None,
            restarted_at: None,
            mailbox: 0,
            mailbox_high: 3,
            handled: 99,
            busy_ms: 12.5,
            in_hand: None,
            progress_at: None,
            waits_since: None,
            stuck: false,
        }),
        session: None,
        run: None,
    }
}

fn spent(input: u64, cost_usd: Option<f64>) -> Spent {
    Spent { usage: Tokens { input, ..Tokens::default() }, cost_usd }
}

pub(crate) fn session(id: &str, parent: &str, key: &str, tokens: u64) -> Node {
    Node {
        session: Some(Session {
            key: key.into(),
            agent_id: "main".into(),
            mode: "run".into(),
            awake: true,
            status: "running".into(),
            children: Children { live: 1, done: 2, failed: 0 },
            label: None,
            depth: 0,
            spent: Some(spent(100, Some(0.25))),
            subtree: Some(spent(tokens, Some(0.5))),
        }),
        ..node(id, Some(parent), key, "session")
    }
}

pub(crate) fn run(id: &str, parent: &str, name: &str, key: &str, started: i64) -> Node {
    let run = Run {
        id: format!("{name}{}", "-0000-0000-0000-000000000000"),
        run_id: format!("wire-{name}"),
        session_key: key.into(),
        agent_id: "main".into(),
        cause: "message".into(),
        state: "running".into(),
        doing: Some("tools".into()),
        reason: None,
        lane: Some("main".into()),
        lane_position: None,
        depth: 0,
        model_asked: "builtin/rehearsal".into(),
        model: "builtin/rehearsal".into(),
        accepted_at: started,
        started_at: Some(started),
        ended_at: None,
        silent_since: None,
        silent: false,
        step: 3,
        max_steps: Some(50),
        tools: vec![Tool { name: "exec".into(), arg: "ls -l".into(), since: NOW.0 - 4_000 }],
        text: Some("the last words".into()),
        spent: spent(7, None),
        deadline_at: None,
        timeout_ms: None,
    };
    Node { run: Some(run), ..node(id, Some(parent), &format!("run {name}"), "run") }
}

pub(crate) fn snapshot() -> Tree {
    let mut mailbox = session("5", "4", "agent:main:subagent:aa", 1_000);
    mailbox.actor.as_mut().unwrap().mailbox = 3;
    let mut late = session("6", "4", "agent:main:subagent:ab", 2_000);
    late.actor.as_mut().unwrap().since = NOW.0 - 1_000;
    late.session.as_mut().unwrap().subtree = Some(spent(2_000, Some(2.0)));
    let nodes = vec![
        Node { path: "offshoot".into(), ..node("1", None, "offshoot", "root") },
        node("2", Some("1"), "gateway", "gateway"),
        node("8", Some("2"), "connection 1", "connection"),
        node("3", Some("1"), "sessions", "sessions"),
        session("4", "3", "agent:main:main", 4_000),
        run("7", "4", "aaaa", "agent:main:main", NOW.0 - 90_000),
        mailbox,
        run("9", "5", "bbbb", "agent:main:subagent:aa", NOW.0 - 5_000),
        late,
    ];
    let runs = OpenRuns { running: 2, queued: 0, yielded: 0 };
    let totals = Totals { spent: spent(4_000, Some(0.5)), actors: 9, runs };
    let started_at = NOW.0 - 60_000;
    Tree { ts: NOW.0, started_at, rev: 10, total: 9, truncated: false, lanes: Vec::new(), totals, nodes }
}

pub(crate) fn forest() -> Forest {
    Forest::of(snapshot())
}
