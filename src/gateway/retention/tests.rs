use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use offshoot_actors::MemoryStorage;
use offshoot_actors::contract::{self, append, apply, create, end, insert};
use offshoot_actors::ports::{SessionRow, TokioClock};
use offshoot_actors::types::{Mode, Terminal};
use serde_json::Value;

use super::*;
use crate::archive::{archived, file_of};
use crate::config::{Environment, load_text};
use crate::gateway::serve::Serving;

const MINUTE: Duration = Duration::from_secs(60);
/// A day after what the fixtures write.
const BEGIN: Timestamp = Timestamp(86_400_000);

/// A store with a look at it, under a clock that only the test moves.
struct Stage {
    storage: Arc<MemoryStorage>,
    clock: Arc<TokioClock>,
    dir: tempfile::TempDir,
    told: Mutex<Vec<SessionKey>>,
    settings: RetentionSettings,
}

impl Stage {
    fn new() -> Self {
        Self {
            storage: Arc::new(MemoryStorage::new()),
            clock: Arc::new(TokioClock::starting_at(BEGIN)),
            dir: tempfile::tempdir().unwrap(),
            told: Mutex::default(),
            settings: RetentionSettings::default(),
        }
    }

    async fn look(&self) -> Seen {
        let tell = |session| self.told.lock().unwrap().push(session);
        self.keeper(&tell).look(&self.settings).await.unwrap()
    }

    fn keeper<'a>(&self, tell: &'a (dyn Fn(SessionKey) + Send + Sync)) -> Keeper<'a> {
        let (storage, clock): (Arc<dyn Storage>, Arc<dyn Clock>) =
            (Arc::clone(&self.storage) as _, Arc::clone(&self.clock) as _);
        Keeper { storage, clock, state_dir: self.dir.path().to_owned(), tell }
    }

    fn keys(&self) -> Vec<SessionKey> {
        self.storage.all_sessions().into_iter().map(|row| row.key).collect()
    }

    fn file(&self, key: &SessionKey) -> std::path::PathBuf {
        file_of(self.dir.path(), key)
    }
}

fn row(name: &str, cleanup: Cleanup, parent: &SessionRow) -> SessionRow {
    SessionRow { cleanup, updated_at: BEGIN, ..contract::child(name, parent) }
}

fn kept(name: &str) -> SessionRow {
    row(name, Cleanup::Keep, &contract::session("main"))
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_quiet_session_is_exported_whole_and_deleted_when_it_is_due() {
    let stage = Stage::new();
    let (main, child) = (contract::session("main"), kept("child"));
    apply(&*stage.storage, vec![create(&main), create(&child), insert(&contract::run(1, &child.key))]).await;
    let entries = (0..700).map(|seq| append(&child.key, seq, &format!("line {seq}\u{1F980}")));
    apply(&*stage.storage, entries.collect()).await;
    apply(&*stage.storage, vec![end(1, Terminal::Ok)]).await;

    assert_eq!(stage.look().await, Seen { more: false, next: Some(BEGIN) });
    stage.clock.sleep(59 * MINUTE).await;
    stage.look().await;
    assert_eq!(stage.keys().len(), 2, "it is not due yet");
    stage.clock.sleep(MINUTE).await;
    assert_eq!(stage.look().await, Seen::default());
    assert_eq!(stage.keys(), [main.key]);
    assert_eq!(*stage.told.lock().unwrap(), std::slice::from_ref(&child.key));

    let (file, lines) = (stage.file(&child.key), lines(&stage.file(&child.key)));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_eq!((lines.len(), &lines[0]["sessionKey"]), (703, &Value::from(child.key.as_str())));
    assert_eq!((&lines[1]["state"], &lines[2]["seq"]), (&Value::from("ok"), &Value::from(0)));
    assert_eq!(lines[701]["entry"]["text"], "line 699\u{1F980}");
    assert_eq!(lines[702], serde_json::json!({"type": "end", "runs": 1, "entries": 700}));
    let listed = archived(stage.dir.path(), 9).unwrap();
    assert_eq!((listed.len(), &listed[0].session_key, &listed[0].file), (1, &child.key, &file));
    let audit = stage.storage.audit();
    assert_eq!((audit[0].event, &audit[0].session), ("session.archived", &Some(child.key)));
    assert!(stage.storage.run(contract::run_id(1)).await.unwrap().is_some(), "its run stays");
}

#[tokio::test(start_paused = true)]
async fn what_is_open_kept_for_good_or_above_something_is_not_archived() {
    let mut stage = Stage::new();
    let main = contract::session("main");
    let (open, above) = (kept("open"), kept("above"));
    let stays = SessionRow { mode: Mode::Session, ..row("stays", Cleanup::Keep, &above) };
    let ops = vec![create(&main), create(&open), create(&above), create(&stays)];
    apply(&*stage.storage, ops).await;
    apply(&*stage.storage, vec![insert(&contract::run(1, &open.key))]).await;
    stage.clock.sleep(600 * MINUTE).await;
    stage.look().await;
    assert_eq!(stage.keys().len(), 4);
    apply(&*stage.storage, vec![end(1, Terminal::Ok)]).await;
    stage.settings.archive_after = None;
    stage.look().await;
    assert_eq!(stage.keys().len(), 4, "0 is never");
    stage.settings.archive_after = Some(MINUTE);
    stage.look().await;
    assert_eq!(stage.keys().len(), 3);
    assert!(!stage.keys().contains(&open.key));
}

#[tokio::test(start_paused = true)]
async fn a_session_to_be_deleted_goes_with_the_last_child_that_it_was_kept_by() {
    for export_deleted in [false, true] {
        let mut stage = Stage::new();
        stage.settings.export_deleted = export_deleted;
        let main = contract::session("main");
        let above = row("above", Cleanup::Delete, &main);
        let (first, last) = (row("first", Cleanup::Keep, &above), row("last", Cleanup::Keep, &above));
        apply(&*stage.storage, vec![create(&main), create(&above), create(&first), create(&last)]).await;
        // As a person deletes it.
        let delete = Op::DeleteSession { session: first.key.clone(), with_parents: false };
        apply(&*stage.storage, vec![delete]).await;
        stage.look().await;
        assert!(stage.keys().contains(&above.key), "it has another child");
        stage.clock.sleep(60 * MINUTE).await;
        stage.look().await;
        assert_eq!(stage.keys(), [main.key]);
        assert_eq!(*stage.told.lock().unwrap(), [last.key, above.key.clone()]);
        assert_eq!(stage.file(&above.key).exists(), export_deleted);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_between_the_file_and_the_commit_keeps_the_session() {
    let stage = Stage::new();
    let (main, child) = (contract::session("main"), kept("child"));
    apply(&*stage.storage, vec![create(&main), create(&child), append(&child.key, 0, "old")]).await;
    let filter = QuietFilter { written: Timestamp(0)..=BEGIN, after: None, cleanup: Cleanup::Keep };
    let page = stage.storage.quiet_sessions(filter, 9).await.unwrap();
    // The message is answered before the commit: all is quiet again.
    apply(&*stage.storage, vec![insert(&contract::run(1, &child.key)), append(&child.key, 1, "new")]).await;
    apply(&*stage.storage, vec![end(1, Terminal::Ok)]).await;
    assert_eq!(stage.keeper(&|_| ()).retire(&page, true).await.unwrap(), 0);
    assert_eq!(stage.storage.entries(child.key.clone(), 0, 9).await.unwrap().len(), 2);

    // So does a crash after the file was written: the next look writes it again, over what is left of either.
    std::fs::create_dir_all(stage.file(&child.key).parent().unwrap()).unwrap();
    std::fs::write(stage.file(&child.key), "half of it").unwrap();
    std::fs::write(stage.file(&child.key).with_extension("tmp"), "the other half of it".repeat(99)).unwrap();
    stage.clock.sleep(61 * MINUTE).await;
    stage.look().await;
    assert_eq!(lines(&stage.file(&child.key)).len(), 5);
    let files = std::fs::read_dir(stage.file(&child.key).parent().unwrap()).unwrap();
    assert_eq!(files.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_keeps_its_session() {
    let stage = Stage::new();
    let (main, child) = (contract::session("main"), kept("child"));
    apply(&*stage.storage, vec![create(&main), create(&child)]).await;
    stage.clock.sleep(61 * MINUTE).await;
    std::fs::write(stage.dir.path().join("archive"), "in the way").unwrap();
    stage.look().await;
    assert_eq!(stage.keys().len(), 2);
    std::fs::remove_file(stage.dir.path().join("archive")).unwrap();
    stage.look().await;
    assert_eq!(stage.keys(), [main.key]);
}

#[tokio::test(start_paused = true)]
async fn many_that_are_due_at_once_go_in_several_looks() {
    let stage = Stage::new();
    let main = contract::session("main");
    apply(&*stage.storage, vec![create(&main)]).await;
    let rows = (0..MOST + 250).map(|number| create(&row(&format!("s{number}"), Cleanup::Delete, &main)));
    apply(&*stage.storage, rows.collect()).await;
    assert!(stage.look().await.more);
    assert_eq!(stage.keys().len(), 251);
    assert!(!stage.look().await.more);
    assert_eq!(stage.keys(), [main.key]);
}

#[tokio::test(start_paused = true)]
async fn old_names_of_requests_and_old_runs_are_forgotten() {
    let mut stage = Stage::new();
    let (main, child) =
        (contract::session("main"), row("child", Cleanup::Delete, &contract::session("main")));
    let mut spawn = vec![create(&main), create(&child), insert(&contract::run(1, &child.key))];
    let key = contract::request("w");
    spawn.push(Op::NameRequest { key, digest: [1; 32], run: contract::run_id(1) });
    apply(&*stage.storage, spawn).await;
    apply(&*stage.storage, vec![end(1, Terminal::Ok)]).await;
    stage.look().await;
    let day = 24 * 60 * MINUTE;
    stage.clock.sleep(5 * day).await;
    stage.look().await;
    assert_eq!((stage.storage.requests().len(), stage.storage.all_runs().len()), (1, 1));
    stage.clock.sleep(2 * day).await;
    stage.look().await;
    assert_eq!((stage.storage.requests().len(), stage.storage.all_runs().len()), (0, 1));
    stage.clock.sleep(90 * day).await;
    stage.settings.keep_runs = None;
    stage.look().await;
    assert_eq!(stage.storage.all_runs().len(), 1, "0 is for good");
    stage.settings.keep_runs = RetentionSettings::default().keep_runs;
    stage.look().await;
    assert_eq!((stage.storage.all_runs().len(), stage.storage.deleted_sessions().len()), (0, 0));
}

/// The timer is what is stored and the calendar: half of the time passes before the restart.
#[tokio::test(start_paused = true)]
async fn a_session_that_became_due_under_another_daemon_is_archived_when_its_time_has_come() {
    let storage = Arc::new(MemoryStorage::new());
    let (main, child) = (contract::session("main"), kept("child"));
    apply(&*storage, vec![create(&main), create(&child)]).await;
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(BEGIN));
    let dir = tempfile::tempdir().unwrap();
    let text = "{ gateway: { auth: { mode: 'none' } }, \
                  agents: { defaults: { subagents: { archiveAfterMinutes: 10 } } } }";
    let serve = async || {
        let mut config = load_text(&Environment::default(), "offshoot.json", text).unwrap();
        config.gateway.port = 0;
        let (clock, storage, dir) = (Arc::clone(&clock), Arc::clone(&storage) as _, dir.path().to_owned());
        Serving::start(Arc::new(config), clock, storage, dir).await.unwrap()
    };
    let first = serve().await;
    clock.sleep(5 * MINUTE).await;
    first.stop("service restart").await;
    let second = serve().await;
    let since = |key: &SessionKey| storage.all_sessions().iter().any(|row| row.key == *key);
    while clock.now() - BEGIN < 10 * MINUTE - Duration::from_secs(2) {
        assert!(since(&child.key), "{:?} after it was written to", clock.now() - BEGIN);
        clock.sleep(Duration::from_secs(1)).await;
    }
    clock.sleep(Duration::from_secs(10)).await;
    assert!(!since(&child.key) && since(&main.key));
    assert!(file_of(dir.path(), &child.key).exists());
    second.stop("service restart").await;
}
