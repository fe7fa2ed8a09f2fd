//! What sessions have used, where the store is read while runs end.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::{Book, Look};
use crate::contract::{apply, child, child_run, create, insert, key, model, session};
use crate::memory::MemoryStorage;
use crate::policy::cost::Prices;
use crate::ports::{
    Answer, FnModels, ModelRequest, Op, RunEnd, RunRow, SeededIds, SessionFigures, SessionRow, Storage,
    TokioClock,
};
use crate::session::SessionMeta;
use crate::tree::{Tree, TreeOptions};
use crate::types::{
    AgentId, ModelRef, Origin, Outcome, SessionKey, Settings, SpawnRequest, Timestamp, Usage,
};

/// A session with a child, and runs of that one.
struct Rig {
    store: MemoryStorage,
    book: Book,
    main: SessionRow,
    below: SessionRow,
}

impl Rig {
    async fn new() -> Self {
        let (store, book, main) = (MemoryStorage::new(), Book::default(), session("main"));
        let below = child("below", &main);
        apply(&store, vec![create(&main), create(&below)]).await;
        book.seed(Vec::new(), &[main.clone(), below.clone()]);
        Self { store, book, main, below }
    }

    /// Commits a run that was accepted and has ended. It is not told yet.
    async fn commit(&self, number: u64) -> (RunRow, RunEnd) {
        let row = RunRow { spawner: None, ..child_run(number, &self.below.key, &self.main.key, None) };
        let usage = Usage { input: 1 << (number % 60), output: 0, cached: 0 };
        let at = Timestamp(5_000 + i64::try_from(number).unwrap());
        let end = RunEnd { run: row.id, outcome: Outcome::ok("done".to_owned()), usage, steps: 1, at };
        apply(&self.store, vec![insert(&row), Op::EndRun(Box::new(end.clone()))]).await;
        (row, end)
    }

    fn tell(&self, (row, end): &(RunRow, RunEnd)) {
        self.book.ended(row, end, Some(&model("rehearsal")), |_| None);
    }

    async fn read(&self) -> SessionFigures {
        self.store.session_figures(self.main.key.clone()).await.unwrap().unwrap()
    }

    /// What is shown of the session above: tokens below it, and children that are done.
    fn shown(&self) -> Option<(u64, u64)> {
        let entry = self.book.sessions.get(&self.main.key)?;
        entry.figures.as_ref().map(|figures| (figures.below.usage().input, figures.done))
    }

    fn is_unread(&self) -> bool {
        self.book.unread(10).contains(&self.main.key)
    }
}

#[tokio::test]
async fn a_run_counts_once_whenever_its_end_is_told() {
    let rig = Rig::new().await;
    let mut runs = Vec::new();
    for number in 0..3 {
        runs.push(rig.commit(number).await);
    }
    rig.tell(&runs[0]);
    rig.book.ask(&rig.main.key);
    rig.tell(&runs[1]);
    let figures = rig.read().await;
    let late = rig.commit(3).await;
    rig.tell(&late);
    rig.book.learn(&rig.main.key, figures);
    assert_eq!(rig.shown(), Some((0b1111, 4)));
    rig.tell(&runs[2]);
    assert_eq!(rig.shown(), Some((0b1111, 4)));
    assert!(!rig.is_unread());
    let last = rig.commit(4).await;
    rig.tell(&last);
    assert_eq!(rig.shown(), Some((0b1_1111, 5)));
}

#[tokio::test]
async fn a_run_of_which_nobody_can_tell_whether_it_counts_has_the_figures_read_again() {
    let rig = Rig::new().await;
    let early = rig.commit(0).await;
    for number in 1..=u64::try_from(SessionFigures::MAX_NEWEST).unwrap() {
        rig.commit(number).await;
    }
    rig.book.ask(&rig.main.key);
    let figures = rig.read().await;
    rig.book.learn(&rig.main.key, figures);
    let shown = rig.shown();
    assert!(!rig.is_unread());
    rig.tell(&early);
    assert!(rig.is_unread());
    assert_eq!(rig.shown(), shown);
}

#[tokio::test]
async fn an_answer_that_a_move_has_overtaken_is_void() {
    let rig = Rig::new().await;
    rig.book.ask(&rig.main.key);
    let figures = rig.read().await;
    rig.book.moved(&rig.below.key, None);
    rig.book.learn(&rig.main.key, figures);
    assert!(rig.is_unread() && rig.shown().is_none());
}

/// An awake session of that row.
fn meta(row: &SessionRow) -> Arc<SessionMeta> {
    Arc::new(SessionMeta::of(row, Arc::new([]), CancellationToken::new()))
}

#[tokio::test]
async fn an_end_below_a_session_that_nobody_knows_has_all_figures_read_again() {
    let rig = Rig::new().await;
    let read = async || {
        rig.book.ask(&rig.main.key);
        rig.book.learn(&rig.main.key, rig.read().await);
    };
    read().await;
    let above = child("above", &rig.main);
    let below = child("under", &above);
    let row = RunRow { spawner: None, ..child_run(0, &below.key, &above.key, None) };
    let outcome = Outcome::ok("done".to_owned());
    let usage = Usage { input: 7, output: 0, cached: 0 };
    let end = RunEnd { run: row.id, outcome, usage, steps: 1, at: Timestamp(5_000) };
    // Whoever is awake is known without the book.
    rig.book
        .ended(&row, &end, None, |key| [&above, &below].into_iter().find(|row| row.key == *key).map(meta));
    assert_eq!((rig.is_unread(), rig.shown()), (false, Some((7, 0))));
    let other = RunRow { id: child_run(1, &below.key, &above.key, None).id, session: key("other"), ..row };
    rig.book.ended(&other, &end, None, |_| None);
    assert!(rig.is_unread());
    read().await;
    assert!(!rig.is_unread());
}

#[tokio::test]
async fn a_deleted_session_is_gone_with_its_runs() {
    let clock = TokioClock::starting_at(Timestamp(1_000_000));
    let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
    let models = FnModels::new(|_: ModelRequest, _| async { Ok(Answer::text("done")) });
    let tree = Tree::start(TreeOptions::in_memory(clock, SeededIds::new(3), models, settings)).await.unwrap();
    let handle = tree.handle();
    let is_shown = |key: &SessionKey| {
        let (prices, silent_after) = (Prices::default(), Duration::from_secs(120));
        let nodes = handle.snapshot(&Look { prices: &prices, silent_after }).nodes;
        nodes.iter().any(|node| {
            node.session.as_ref().is_some_and(|session| session.key == *key)
                || node.run.as_ref().is_some_and(|run| run.session == *key)
        })
    };
    let spawned = handle.spawn(SpawnRequest::new(key("main"), "work"), Origin::Timer).await.unwrap();
    handle.outcome(spawned.run).await.unwrap();
    handle.tend_book().await.unwrap();
    assert!(is_shown(&spawned.session));
    handle.delete_session(&spawned.session, Origin::Timer).await.unwrap();
    handle.tend_book().await.unwrap();
    assert!(!is_shown(&spawned.session));
    tree.stop().await;
}
