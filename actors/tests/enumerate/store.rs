//! Stores by number, and which change leads from one to which other. Each change is made once, by the product's store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use offshoot_actors::ports::{
    Announce, Cause, Host, Op, Refused, RequestKey, RunEnd, RunRow, RunState, SessionRow, Storage,
    Transaction,
};
use offshoot_actors::types::{
    AnnounceItem, Cleanup, Entry, Mode, ModelChoice, ModelRef, OnParentExit, Origin, Outcome, RunId,
    SessionKey, StoredEntry, Timestamp, Usage,
};
use offshoot_actors::{Delivery, MemoryStorage};
use uuid::Uuid;

use super::{Run, Runs, World, rules};

/// A transaction, without what follows from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A run begins, with its message and what has arrived.
    Begin {
        run: Run,
        take: Runs,
    },
    /// The first run of a session spawns a child.
    Spawn {
        session: usize,
    },
    Yield {
        run: Run,
    },
    /// A run that waited goes on with the results.
    Wake {
        run: Run,
        take: Runs,
    },
    /// A run takes what has arrived between two steps.
    Boundary {
        run: Run,
        take: Runs,
    },
    /// Results start a run.
    Deliver {
        next: Run,
        take: Runs,
    },
    End {
        run: Run,
        next: Option<Run>,
    },
    /// A start of the daemon goes on with what is open.
    Resume,
    /// Of [`Change::Deliver`] what takes the results, and what is left: a mistake.
    TakeOnly {
        session: usize,
        take: Runs,
    },
    DeliverRest {
        next: Run,
        take: Runs,
    },
    /// A result alone: a mistake.
    QueueAgain {
        run: Run,
    },
}

/// An entry of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    Input(Run),
    Results { by: Option<Run>, runs: Runs },
    Notice(Run),
    Answer(Run),
}

/// What a store holds, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct View {
    /// State, and whether the run's message is not in the transcript yet.
    pub runs: BTreeMap<Run, (&'static str, bool)>,
    pub yielded: BTreeMap<usize, Run>,
    pub lines: BTreeMap<usize, Vec<Line>>,
    /// Results that were ever put on their way, and those that wait.
    pub announced: Runs,
    pub waiting: Runs,
}

pub const fn bit(run: Run) -> Runs {
    1 << run
}

pub fn each(runs: Runs) -> impl Iterator<Item = Run> {
    (0..64).filter(move |run| runs & bit(*run) != 0)
}

pub const fn session_of(run: Run) -> usize {
    (run / 10) as usize
}

/// Whether a run was asked for; the others are on results.
pub const fn is_first(run: Run) -> bool {
    run.is_multiple_of(10)
}

impl View {
    pub fn state(&self, run: Run) -> &'static str {
        self.runs.get(&run).map_or("none", |(state, _)| state)
    }

    pub fn is_open(&self, run: Run) -> bool {
        matches!(self.state(run), "accepted" | "running" | "yielded")
    }

    /// The open runs of a session, oldest first.
    pub fn open_of(&self, session: usize) -> impl Iterator<Item = Run> {
        self.runs.keys().copied().filter(move |run| session_of(*run) == session && self.is_open(*run))
    }

    /// The open runs whose results this session gets.
    pub fn open_to(&self, world: &World, session: usize) -> Runs {
        let runs = self.runs.keys().copied().filter(|run| self.is_open(*run));
        runs.filter(|run| world.parents[session_of(*run)] == Some(session)).map(bit).sum()
    }

    /// The results that wait for this session.
    pub fn inbox(&self, world: &World, session: usize) -> Runs {
        each(self.waiting).filter(|run| world.parents[session_of(*run)] == Some(session)).map(bit).sum()
    }

    /// The name of the next run of a session.
    pub fn next_run(&self, session: usize) -> Run {
        let first = u8::try_from(session).unwrap() * 10;
        (first..first + 10).find(|run| !self.runs.contains_key(run)).expect("a session has few runs")
    }
}

struct Known {
    storage: MemoryStorage,
    view: Arc<View>,
}

type Made = (Result<usize, Refused>, Option<String>);

pub struct Stores {
    world: World,
    all: Vec<Known>,
    known: BTreeMap<Arc<View>, usize>,
    made: BTreeMap<(usize, Change), Made>,
}

impl Stores {
    /// The first store: the roots, with a message each.
    pub fn new(world: &World) -> Self {
        let storage = MemoryStorage::new();
        for session in (0..2).filter(|session| world.parents[*session].is_none()) {
            let input = Entry::User { text: "go".to_owned(), origin: Origin::Operator };
            let row = RunRow { input: Some(input), cause: Cause::Message, ..run_row(world, session, 0) };
            let added =
                vec![Op::CreateSession(session_row(world, session).into()), Op::InsertRun(row.into())];
            submit(&storage, added).unwrap();
        }
        let mut stores =
            Self { world: *world, all: Vec::new(), known: BTreeMap::new(), made: BTreeMap::new() };
        stores.number(storage);
        stores
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn changes(&self) -> usize {
        self.made.len()
    }

    pub fn view(&self, store: usize) -> &Arc<View> {
        &self.all[store].view
    }

    fn number(&mut self, storage: MemoryStorage) -> usize {
        let view = Arc::new(view(&self.world, &storage));
        let number = self.all.len();
        let number = *self.known.entry(Arc::clone(&view)).or_insert(number);
        if number == self.all.len() {
            self.all.push(Known { storage, view });
        }
        number
    }

    /// Makes a change: the store that it leads to, or why it is refused, and the rule that it breaks.
    pub fn make(&mut self, store: usize, change: Change) -> Made {
        if let Some(made) = self.made.get(&(store, change)) {
            return made.clone();
        }
        let known = &self.all[store];
        let (storage, before) = (known.storage.snapshot(), Arc::clone(&known.view));
        let result = submit(&storage, transaction(&self.world, &before, change));
        let next = result.map(|()| self.number(storage));
        let after = next.as_ref().ok().map(|next| Arc::clone(&self.all[*next].view));
        let broken = rules::of_change(&self.world, &before, change, after.as_deref(), next.as_ref().err());
        self.made.insert((store, change), (next.clone(), broken.clone()));
        (next, broken)
    }
}

fn submit(storage: &MemoryStorage, transaction: Transaction) -> Result<(), Refused> {
    let (sender, receiver) = mpsc::channel();
    storage.submit(transaction, Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

fn view(world: &World, storage: &MemoryStorage) -> View {
    let mut view = View::default();
    for row in storage.all_runs() {
        view.runs.insert(number(row.id), (row.state.as_str(), row.input.is_some()));
    }
    let keys: BTreeMap<SessionKey, usize> =
        (0..world.parents.len()).map(|session| (key(session), session)).collect();
    for row in storage.all_sessions() {
        if let Some(run) = row.yielded {
            view.yielded.insert(keys[&row.key], number(run));
        }
    }
    for (session, entries) in storage.transcripts() {
        view.lines.insert(keys[&session], entries.iter().map(|entry| line(entry)).collect());
    }
    for row in storage.outbox() {
        view.announced |= bit(number(row.run));
        if row.delivery == Delivery::Open {
            view.waiting |= bit(number(row.run));
        }
    }
    view
}

fn line(stored: &StoredEntry) -> Line {
    let run = stored.run.map(number);
    match &stored.entry {
        Entry::Announce { items } => {
            let distinct: BTreeSet<Run> = items.iter().map(|item| number(item.run)).collect();
            assert_eq!(distinct.len(), items.len(), "an entry has a result twice");
            Line::Results { by: run, runs: distinct.into_iter().map(bit).sum() }
        }
        Entry::Assistant { .. } => Line::Answer(run.unwrap()),
        Entry::Notice { .. } => Line::Notice(run.unwrap()),
        _ => Line::Input(run.unwrap()),
    }
}

fn transaction(world: &World, view: &View, change: Change) -> Transaction {
    let at = Timestamp(0);
    let takes = |session: usize, take: Runs, by: Option<Run>| {
        let runs = each(take).map(id).collect();
        (take != 0).then(|| Op::TakeAnnounces { session: key(session), runs, by: by.map(id) })
    };
    let append = |session: usize, run: Run, open: bool, entries: Vec<Entry>| {
        let first = view.lines.get(&session).map_or(0, Vec::len) as u64;
        let entries: Vec<_> = (first..).zip(entries).collect();
        let stored =
            entries.into_iter().map(|(seq, entry)| StoredEntry { seq, run: Some(id(run)), at, entry });
        let entries: Vec<_> = stored.map(Arc::new).collect();
        let open_run = open.then(|| id(run));
        (!entries.is_empty()).then(|| Op::Append { session: key(session), open_run, entries })
    };
    let results = |take: Runs| (take != 0).then(|| Entry::Announce { items: each(take).map(item).collect() });
    let queue = |run: Run| {
        let to = world.parents[session_of(run)].map(key);
        let announce = to.map(|to| Announce {
            to,
            spawner: None,
            cleanup: Cleanup::Keep,
            quiet: false,
            at,
            item: item(run),
        });
        announce.map(|announce| Op::QueueAnnounce(announce.into()))
    };
    let mut ops: Vec<Option<Op>> = Vec::new();
    match change {
        Change::Begin { run, take } => {
            let session = session_of(run);
            let has_input = view.runs.get(&run).is_some_and(|(_, input)| *input);
            let entries = results(take).into_iter().chain(has_input.then(input)).collect();
            ops.push(Some(Op::StartRun { run: id(run), at }));
            ops.extend([append(session, run, true, entries), takes(session, take, Some(run))]);
        }
        Change::Spawn { session } => {
            let row = run_row(world, session, 0);
            let name = RequestKey { principal: "run".to_owned(), method: "spawn", key: session.to_string() };
            ops.push(Some(Op::CreateSession(session_row(world, session).into())));
            ops.push(Some(Op::InsertRun(row.clone().into())));
            ops.push(append(session, number(row.id), false, vec![input()]));
            ops.push(Some(Op::NameRequest { key: name, digest: [0; 32], run: row.id }));
        }
        Change::Yield { run } => ops.push(Some(Op::YieldRun { run: id(run) })),
        Change::Wake { run, take } => {
            let session = session_of(run);
            let notice = || Entry::Notice { text: "nothing was reported".to_owned() };
            ops.push(Some(Op::StartRun { run: id(run), at }));
            ops.push(append(session, run, true, vec![results(take).unwrap_or_else(notice)]));
            ops.push(takes(session, take, Some(run)));
        }
        Change::Boundary { run, take } => {
            let session = session_of(run);
            let entries = results(take).into_iter().collect();
            ops.extend([append(session, run, true, entries), takes(session, take, Some(run))]);
        }
        Change::Deliver { next, take } | Change::DeliverRest { next, take } => {
            let session = session_of(next);
            ops.push(Some(Op::InsertRun(run_row(world, session, next % 10).into())));
            ops.push(append(session, next, false, results(take).into_iter().collect()));
            if matches!(change, Change::Deliver { .. }) {
                ops.push(takes(session, take, Some(next)));
            }
        }
        Change::TakeOnly { session, take } => ops.push(takes(session, take, None)),
        Change::End { run, next } => {
            let session = session_of(run);
            let answer = Entry::Assistant {
                text: "done".to_owned(),
                tool_calls: Vec::new(),
                model: model(),
                usage: Usage::default(),
            };
            let end =
                RunEnd { run: id(run), outcome: Outcome::ok("done"), usage: Usage::default(), steps: 1, at };
            ops.push(append(session, run, true, vec![answer]));
            ops.extend(next.map(|next| Some(Op::InsertRun(run_row(world, session, next % 10).into()))));
            ops.extend([Some(Op::EndRun(end.into())), queue(run)]);
        }
        Change::Resume => {
            let open = view.runs.keys().copied().filter(|run| view.is_open(*run));
            ops.push(Some(Op::ResumeRuns { runs: open.map(id).collect() }));
        }
        Change::QueueAgain { run } => ops.push(queue(run)),
    }
    ops.into_iter().flatten().collect()
}

fn input() -> Entry {
    Entry::User { text: "do it".to_owned(), origin: Origin::Operator }
}

fn model() -> ModelRef {
    ModelRef::rehearsal()
}

fn key(session: usize) -> SessionKey {
    format!("agent:main:s{session}").parse().unwrap()
}

fn id(run: Run) -> RunId {
    RunId(Uuid::from_u64_pair(0x0199_0000_0000_7000, 0x8000_0000_0000_0000 | u64::from(run)))
}

fn number(run: RunId) -> Run {
    u8::try_from(run.0.as_u64_pair().1 & 0xff).unwrap()
}

fn item(run: Run) -> AnnounceItem {
    AnnounceItem {
        run: id(run),
        session: key(session_of(run)),
        label: None,
        state: offshoot_actors::types::Terminal::Ok,
        reason: None,
        text: None,
        usage: Usage::default(),
        duration_ms: 0,
        steps: 1,
    }
}

fn session_row(world: &World, session: usize) -> SessionRow {
    let parent = world.parents[session];
    let grand = parent.and_then(|parent| world.parents[parent]);
    SessionRow {
        key: key(session),
        agent: key(session).agent(),
        parent: parent.map(key),
        root: key(grand.or(parent).unwrap_or(session)),
        depth: u32::from(parent.is_some()) + u32::from(grand.is_some()),
        label: None,
        mode: Mode::Session,
        cleanup: Cleanup::Keep,
        on_parent_exit: OnParentExit::Stop,
        outlived: None,
        model: None,
        tools: None,
        yielded: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

/// The run of that number of a session: the first one was asked for, the others are on results.
fn run_row(world: &World, session: usize, nth: u8) -> RunRow {
    let announce_to = world.parents[session].map(key);
    RunRow {
        id: id(u8::try_from(session).unwrap() * 10 + nth),
        session: key(session),
        cause: if nth == 0 { Cause::Spawn } else { Cause::Announce },
        spawner: None,
        expects_completion: announce_to.is_some(),
        announce_to,
        wire_id: None,
        model: ModelChoice { primary: model(), fallbacks: Vec::new() },
        model_used: None,
        timeout: None,
        input: None,
        state: RunState::Accepted,
        outcome: None,
        usage: Usage::default(),
        steps: 0,
        accepted_at: Timestamp(0),
        started_at: None,
        ended_at: None,
        host: Host::Daemon,
        used: Duration::ZERO,
        recovery: None,
        attempts: 0,
    }
}
