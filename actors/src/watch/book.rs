//! What watchers see beside the live actors: runs that wait in their sessions, runs that ended a while ago, and what each
//! session has used.
//!
//! It follows what is told of commits, under locks that are held for one entry. What a session had used before it was woken
//! is in the store: whoever looks after the book reads it, and enters it unless something was told meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;

use super::entry::Entry;
use crate::ports::{Cause, RunEnd, RunRow, RunState, SessionFigures, SessionRow};
use crate::session::SessionMeta;
use crate::types::{AgentId, Mode, ModelRef, RunId, SessionKey, Terminal, Timestamp, Usage};

/// How long an ended run, and its session where that sleeps, is shown.
pub const SHOWN_FOR: Duration = Duration::from_secs(60 * 60);
/// Ended runs that are shown.
pub const MAX_ENDED: usize = 1_000;
/// Levels that what a run used is added up through; sessions go less deep.
const MAX_DEPTH: u64 = 128;
/// Bytes of a text that is kept.
const MAX_TEXT: usize = 400;

/// What does not change about a session, or hardly ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its name.
    pub key: SessionKey,
    /// The session that it hangs below.
    pub parent: Option<SessionKey>,
    /// Its agent.
    pub agent: AgentId,
    /// A name for people.
    pub label: Option<String>,
    /// Whether it stays.
    pub mode: Mode,
    /// 0 if nobody spawned it.
    pub depth: u32,
}

impl SessionFacts {
    /// Whether these are those of the session now.
    fn is_of(&self, meta: &SessionMeta) -> bool {
        (&self.key, &self.parent, &self.agent) == (&meta.key, &meta.parent, &meta.agent)
            && (&self.label, self.mode, self.depth) == (&meta.label, meta.mode, meta.depth)
    }
}

impl From<&SessionMeta> for SessionFacts {
    fn from(meta: &SessionMeta) -> Self {
        Self {
            key: meta.key.clone(),
            parent: meta.parent.clone(),
            agent: meta.agent.clone(),
            label: meta.label.clone(),
            mode: meta.mode,
            depth: meta.depth,
        }
    }
}

impl From<&SessionRow> for SessionFacts {
    fn from(row: &SessionRow) -> Self {
        Self {
            key: row.key.clone(),
            parent: row.parent.clone(),
            agent: row.agent.clone(),
            label: row.label.clone(),
            mode: row.mode,
            depth: row.depth,
        }
    }
}

/// What is known of a run since it was accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AcceptedRun {
    /// Its id.
    pub(crate) id: RunId,
    /// The client's name for it.
    pub(crate) wire_id: Option<String>,
    /// Its session.
    pub(crate) session: SessionKey,
    /// Why it exists.
    pub(crate) cause: Cause,
    /// The run whose tool call spawned it.
    pub(crate) spawner: Option<RunId>,
    /// The model that it was accepted with.
    pub(crate) model: ModelRef,
    /// When that was.
    pub(crate) accepted_at: Timestamp,
    /// How long it may take.
    pub(crate) timeout: Option<Duration>,
}

impl From<&RunRow> for AcceptedRun {
    fn from(row: &RunRow) -> Self {
        Self {
            id: row.id,
            wire_id: row.wire_id.clone(),
            session: row.session.clone(),
            cause: row.cause,
            spawner: row.spawner,
            model: row.model.primary.clone(),
            accepted_at: row.accepted_at,
            timeout: row.timeout,
        }
    }
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EndedRun {
    /// As it was accepted.
    pub(crate) accepted: AcceptedRun,
    /// How it ended.
    pub(crate) state: Terminal,
    /// Why, where there is a reason.
    pub(crate) reason: Option<String>,
    /// The end of what it said.
    pub(crate) text: Option<String>,
    /// The model that was called last.
    pub(crate) model: ModelRef,
    /// Tokens of the run itself.
    pub(crate) usage: Usage,
    /// Model calls that it made.
    pub(crate) steps: u32,
    /// When it made its first step.
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) ended_at: Timestamp,
}

impl EndedRun {
    /// A run as it is stored; none of one that is open.
    pub(super) fn of(row: &RunRow) -> Option<Self> {
        let (outcome, at) = (row.outcome.clone()?, row.ended_at?);
        let end = RunEnd { run: row.id, outcome, usage: row.usage, steps: row.steps, at };
        Some(Self::new(row, &end, row.model_used.as_ref()))
    }

    fn new(row: &RunRow, end: &RunEnd, model: Option<&ModelRef>) -> Self {
        Self {
            accepted: row.into(),
            state: end.outcome.state,
            reason: end.outcome.reason.clone(),
            text: end.outcome.text.as_deref().map(last_of),
            model: model.unwrap_or(&row.model.primary).clone(),
            usage: end.usage,
            steps: end.steps,
            started_at: row.started_at,
            ended_at: end.at,
        }
    }
}

/// The end of a text.
pub(super) fn last_of(text: &str) -> String {
    let mut from = text.len().saturating_sub(MAX_TEXT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// The book. Told of what is committed, read by watchers.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(super) sessions: DashMap<SessionKey, Entry>,
    /// Runs that have not had their turn in their sessions.
    pub(super) waiting: DashMap<RunId, Arc<AcceptedRun>>,
    ended: Mutex<VecDeque<Arc<EndedRun>>>,
    /// How often the figures of any session might have missed something.
    doubts: AtomicU64,
}

impl Book {
    /// A session was made by a spawn: nothing was used in it so far.
    pub(crate) fn born(&self, row: &SessionRow) {
        self.sessions.entry(row.key.clone()).or_default().bear(row.into(), self.doubts());
    }

    /// A run is accepted, or was when its session was read.
    pub(crate) fn accepted(&self, row: &RunRow) {
        self.waiting.insert(row.id, Arc::new(row.into()));
    }

    /// A run has its turn: from now on it is found among those that have a cell.
    pub(crate) fn has_turn(&self, run: RunId) {
        self.waiting.remove(&run);
    }

    /// Whether a run has not had its turn.
    pub(crate) fn is_waiting(&self, run: RunId) -> bool {
        self.waiting.contains_key(&run)
    }

    /// The end of a run is committed. `awake` knows the sessions that are awake.
    pub(crate) fn ended(
        &self,
        row: &RunRow,
        end: &RunEnd,
        model: Option<&ModelRef>,
        awake: impl Fn(&SessionKey) -> Option<Arc<SessionMeta>>,
    ) {
        self.waiting.remove(&row.id);
        let run = Arc::new(EndedRun::new(row, end, model.or(row.model_used.as_ref())));
        if let Some(meta) = awake(&row.session) {
            self.want(&meta);
        }
        let mut next = {
            let mut entry = self.sessions.entry(row.session.clone()).or_default();
            entry.ended_at = Some(end.at);
            entry.note((run.accepted.accepted_at, RunState::Ended(run.state)));
            entry.tell(&run, 0);
            entry.parent()
        };
        for level in 1..MAX_DEPTH {
            next = match next {
                Some(Some(above)) => self.add_below(&above, &run, level, &awake),
                Some(None) => break,
                None => {
                    // Nobody knows who is above it: any session may be.
                    self.doubt_all();
                    break;
                }
            };
        }
        self.enter(run);
    }

    /// Adds what a run used to a session above it. Returns who is above that one, as far as it is known.
    #[expect(clippy::option_option, reason = "nobody above is something else than nothing known of it")]
    fn add_below(
        &self,
        key: &SessionKey,
        run: &Arc<EndedRun>,
        level: u64,
        awake: impl Fn(&SessionKey) -> Option<Arc<SessionMeta>>,
    ) -> Option<Option<SessionKey>> {
        let tell = || {
            let mut entry = self.sessions.get_mut(key)?;
            entry.tell(run, level);
            entry.parent()
        };
        tell().or_else(|| Some(awake(key)?.parent.clone()))
    }

    fn doubt_all(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    fn enter(&self, run: Arc<EndedRun>) {
        let mut ended = self.lock();
        ended.push_back(run);
        if ended.len() > MAX_ENDED {
            ended.pop_front();
        }
    }

    /// A session hangs below another one.
    pub(crate) fn moved(&self, key: &SessionKey, to: Option<&SessionKey>) {
        if let Some(mut entry) = self.sessions.get_mut(key)
            && let Some(facts) = &entry.facts
        {
            entry.facts = Some(Arc::new(SessionFacts { parent: to.cloned(), ..SessionFacts::clone(facts) }));
        }
        self.doubt_all();
    }

    /// Enters what ended before this process began: the newest runs, oldest first.
    pub(crate) fn seed(&self, runs: Vec<EndedRun>, sessions: &[SessionRow]) {
        for row in sessions {
            let mut entry = self.sessions.entry(row.key.clone()).or_default();
            entry.facts.get_or_insert_with(|| Arc::new(row.into()));
        }
        for run in &runs {
            let mut entry = self.sessions.entry(run.accepted.session.clone()).or_default();
            entry.ended_at = entry.ended_at.max(Some(run.ended_at));
            entry.note((run.accepted.accepted_at, RunState::Ended(run.state)));
        }
        let mut ended = self.lock();
        let known: std::collections::BTreeSet<RunId> = ended.iter().map(|run| run.accepted.id).collect();
        for run in runs.into_iter().rev().filter(|run| !known.contains(&run.accepted.id)) {
            if ended.len() >= MAX_ENDED {
                break;
            }
            ended.push_front(Arc::new(run));
        }
    }

    /// A session is awake: its figures are wanted.
    pub(super) fn want(&self, meta: &SessionMeta) {
        let is_known = |facts: &SessionFacts| facts.is_of(meta);
        if self.sessions.get(&meta.key).is_some_and(|entry| entry.facts.as_deref().is_some_and(is_known)) {
            return;
        }
        let before = self.sessions.entry(meta.key.clone()).or_default().facts.replace(Arc::new(meta.into()));
        if before.is_some_and(|before| before.parent != meta.parent) {
            // What ended meanwhile was added to sessions that it does not hang below.
            self.doubt_all();
        }
    }

    /// Sessions may have been deleted, with parents that only they kept: whoever looks after the book finds out.
    pub(crate) fn deleted(&self, keys: &[SessionKey]) {
        for key in keys {
            let mut next = Some(key.clone());
            while let Some(mut entry) = next.take().and_then(|key| self.sessions.get_mut(&key)) {
                entry.doubt();
                let facts = entry.facts.clone();
                drop(entry);
                let parent = facts.and_then(|facts| self.facts(facts.parent.as_ref()?));
                next = parent.filter(|parent| parent.mode == Mode::Run).map(|parent| parent.key.clone());
            }
        }
    }

    /// A session is not there any more: nothing of it is shown.
    pub(super) fn remove(&self, key: &SessionKey) {
        self.sessions.remove(key);
        self.lock().retain(|run| run.accepted.session != *key);
    }

    /// Sessions whose figures are to be read, at most `most`.
    pub(super) fn unread(&self, most: usize) -> Vec<SessionKey> {
        let doubts = self.doubts();
        let unread = self.sessions.iter().filter(|entry| entry.is_unread(doubts));
        let mut unread: Vec<_> = unread.map(|entry| (entry.read_at(), entry.key().clone())).collect();
        // Those that were never read, and then those that were read longest ago: each has its turn.
        unread.sort_unstable();
        unread.into_iter().take(most).map(|(_, key)| key).collect()
    }

    /// The store is about to be asked for the figures of a session.
    pub(super) fn ask(&self, key: &SessionKey) {
        if let Some(mut entry) = self.sessions.get_mut(key) {
            entry.ask(self.doubts());
        }
    }

    /// Sessions of which only the name is known, at most `most`.
    pub(super) fn unnamed(&self, most: usize) -> Vec<SessionKey> {
        let unnamed = self.sessions.iter().filter(|entry| entry.facts.is_none());
        unnamed.map(|entry| entry.key().clone()).take(most).collect()
    }

    /// Enters what the store says of a session; nothing if it is gone.
    pub(super) fn name(&self, key: &SessionKey, row: Option<&SessionRow>) {
        match row {
            None => self.remove(key),
            Some(row) => {
                if let Some(mut entry) = self.sessions.get_mut(key) {
                    entry.facts.get_or_insert_with(|| Arc::new(row.into()));
                }
            }
        }
    }

    /// Enters what the store says of a session since it was asked.
    pub(super) fn learn(&self, key: &SessionKey, figures: SessionFigures) {
        if let Some(mut entry) = self.sessions.get_mut(key) {
            entry.learn(figures, self.doubts());
        }
    }

    /// Forgets what is not shown any more: sessions that sleep and runs that ended a while ago.
    pub(super) fn forget(&self, now: Timestamp, is_awake: impl Fn(&SessionKey) -> bool) {
        let is_recent = |at: Timestamp| now - at < SHOWN_FOR;
        self.lock().retain(|run| is_recent(run.ended_at));
        // One that is on its way up has a moment until it counts as awake; what is forgotten is read again.
        let mut gone = Vec::new();
        for entry in &self.sessions {
            if !entry.ended_at.is_some_and(is_recent) && !is_awake(entry.key()) {
                gone.push(entry.key().clone());
            }
        }
        for key in gone {
            self.sessions
                .remove_if(&key, |key, entry| !entry.ended_at.is_some_and(is_recent) && !is_awake(key));
        }
    }

    /// Runs that ended since then, oldest first.
    pub(super) fn ended_since(&self, since: Timestamp) -> Vec<Arc<EndedRun>> {
        self.lock().iter().filter(|run| run.ended_at >= since).cloned().collect()
    }

    /// What is known of sessions that had a run since then.
    pub(super) fn recent_sessions(&self, since: Timestamp) -> BTreeMap<SessionKey, Arc<SessionFacts>> {
        let recent = self.sessions.iter().filter(|entry| entry.ended_at.is_some_and(|at| at >= since));
        recent.filter_map(|entry| Some((entry.key().clone(), Arc::clone(entry.facts.as_ref()?)))).collect()
    }

    /// What is known of a session.
    pub(super) fn facts(&self, key: &SessionKey) -> Option<Arc<SessionFacts>> {
        self.sessions.get(key)?.facts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<EndedRun>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
