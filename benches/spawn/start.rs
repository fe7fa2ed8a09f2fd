//! From nothing to a tree that takes messages.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offshoot::config::{self, Environment};
use offshoot::store::{Durability, SqliteStorage};
use offshoot_actors::types::Settings;
use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::common::machine::state_dir;
use crate::common::report::{Row, Verdict};
use crate::common::{Args, Samples};
use crate::world::{Plan, World};

/// Reads the configuration, opens the store, starts the tree.
async fn start(dir: &Path, file: Option<&Path>) -> Duration {
    let begun = Instant::now();
    let environment = Environment { home: Some(dir.to_owned()), ..Environment::default() };
    let config = config::load(&environment, file).unwrap();
    let storage = Arc::new(SqliteStorage::open(dir, Durability::Full).unwrap());
    let settings: Settings = config.settings;
    let world = World::with(storage, Plan { telling: false, ..Plan::default() }, settings).await;
    let taken = begun.elapsed();
    world.tree.stop().await;
    taken
}

/// A store with `count` sessions that are at rest, each with a run that has ended.
fn fill(dir: &Path, count: usize) {
    SqliteStorage::open(dir, Durability::Full).unwrap().close();
    let mut connection = Connection::open(dir.join("offshoot.db")).unwrap();
    let transaction = connection.transaction().unwrap();
    {
        let mut session = transaction
            .prepare(
                "INSERT INTO sessions (key, agent, parent_key, root_key, depth, mode, cleanup, next_seq, \
                 created_at, updated_at) VALUES (?1, 'main', 'agent:main:main', 'agent:main:main', 1, 'run', \
                 'keep', 1, 1, 1)",
            )
            .unwrap();
        let mut run = transaction
            .prepare(
                "INSERT INTO runs (id, session, session_key, state, cause, announce_to, expects_completion, model, \
                 fallbacks, steps, input_tokens, output_tokens, cached_tokens, accepted_at, started_at, \
                 ended_at, host, announced, result) VALUES (?1, ?2, ?3, 'ok', 'spawn', 'agent:main:main', 1, \
                 'bench/model', '[]', 1, 10, 10, 0, 1, 1, 2, 'oneshot', 1, 'done')",
            )
            .unwrap();
        let mut entry = transaction
            .prepare("INSERT INTO entries (session, seq, at, content) VALUES (?1, 0, 1, ?2)")
            .unwrap();
        for _ in 0..count {
            let key = format!("agent:main:subagent:{}", Uuid::new_v4());
            session.execute([&key]).unwrap();
            let id = transaction.last_insert_rowid();
            run.execute(params![Uuid::now_v7().to_string(), id, key]).unwrap();
            entry.execute(params![id, r#"{"type":"user","text":"a task","origin":"operator"}"#]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn configuration(agents: usize) -> String {
    let mut text = String::from("{\n  agents: {\n    list: [\n");
    for agent in 0..agents {
        writeln!(
            text,
            "      {{ id: \"agent-{agent}\", name: \"Agent {agent}\", model: \"builtin/rehearsal\", \
             subagents: {{ allowAgents: [\"*\"] }} }},"
        )
        .unwrap();
    }
    text + "    ],\n  },\n}\n"
}

/// How long `program arguments` takes from its start to its end, if it answers.
fn process(program: &str, arguments: &[&str]) -> Option<Duration> {
    let begun = Instant::now();
    let output = Command::new(program).args(arguments).output().ok()?;
    (output.status.success() && (arguments.is_empty() || !output.stdout.is_empty())).then(|| begun.elapsed())
}

pub async fn measure(args: &Args) -> Vec<Row> {
    let times = args.samples(30, 5);
    let (stored, agents) = (args.samples(100_000, 10_000), 1_000);
    let [empty, full, many] = [state_dir(), state_dir(), state_dir()];
    fill(full.path(), stored);
    let file = many.path().join("offshoot.json");
    std::fs::write(&file, configuration(agents)).unwrap();
    let (mut new, mut plain, mut with_sessions, mut with_agents): (Samples, Samples, Samples, Samples) =
        Default::default();
    for _ in 0..times {
        new.push(start(state_dir().path(), None).await);
        plain.push(start(empty.path(), None).await);
        with_sessions.push(start(full.path(), None).await);
        with_agents.push(start(many.path(), Some(&file)).await);
    }
    let more = |samples: &Samples| (samples.p50() - plain.p50()) / 1e3;
    let mut rows = vec![
        Row::new("start: configuration read, store opened, tree ready")
            .verdict(Verdict::at_most(plain.p50() / 1e3, 20.0, "ms").by("p50, state directory of before"))
            .verdict(Verdict::at_most(new.p50() / 1e3, 20.0, "ms").by("p50, new state directory"))
            .verdict(
                Verdict::at_most(more(&with_sessions), 2.0, "ms").by("more, with the stored sessions below"),
            )
            .verdict(Verdict::at_most(more(&with_agents), 10.0, "ms").by("more, with the agents below"))
            .samples("state directory of before", &plain)
            .samples("new state directory", &new)
            .samples(format!("{stored} stored sessions"), &with_sessions)
            .samples(format!("{agents} configured agents"), &with_agents),
    ];
    let program = env!("CARGO_BIN_EXE_offshoot");
    if process(program, &["--version"]).is_some() {
        let whole: Samples = (0..times).filter_map(|_| process(program, &["--version"])).collect();
        let bare: Samples = (0..times).filter_map(|_| process("true", &[])).collect();
        rows.push(
            Row::new("start: the whole process, `offshoot --version`")
                .verdict(Verdict::at_most(whole.p50() / 1e3, 20.0, "ms"))
                .samples("exec to exit", &whole)
                .samples("floor: exec of `true`", &bare),
        );
    }
    rows
}
