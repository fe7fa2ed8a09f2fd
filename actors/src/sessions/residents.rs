//! Which sessions are awake, and how the others are woken and put to sleep.
//!
//! A message never waits in a session that cannot handle it. On the way to sleep a session first leaves the
//! live index, then gets [`SessionMsg::Sleep`]: what was sent before stands ahead of that in its mailbox and keeps
//! it awake; what comes after is handed back here, or finds the door closed and comes here by itself. Both
//! wait here until the session has ended, and wake it again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;

use super::waiting::{Waiting, too_many};
use super::{Sessions, SessionsMsg};
use crate::kit::{ChildSpec, Ctx};
use crate::policy::tools::{Role, effective};
use crate::ports::{Op, Refused, SessionRow, StoreError, StoredSession};
use crate::session::{Session, SessionArgs, SessionMeta, SessionMsg, refused_by_store, stopping};
use crate::shared::LiveEntry;
use crate::store::pause;
use crate::types::{Cleanup, Mode, OnParentExit, Refusal, SessionKey};

/// A session may have the stop of its subtree to finish.
pub(super) const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// Where a session is between asleep and awake. One without an entry is asleep.
#[derive(Debug)]
pub(super) enum Resident {
    /// It is being read, since this many settlements and after so many reads that failed.
    Loading {
        waiting: Vec<Waiting>,
        since: u64,
        failed: u32,
    },
    /// Its actor is on its way, started by this parent.
    Starting {
        under: Option<SessionKey>,
        waiting: Vec<Waiting>,
        /// Taken back from the start that is asked for when this is over.
        wanted: Arc<AtomicBool>,
    },
    Awake(LiveEntry),
    /// It was told to sleep, or takes no messages any more, and has not ended yet.
    Sleeping {
        meta: Arc<SessionMeta>,
        waiting: Vec<Waiting>,
    },
    /// It failed, and what it had open is being ended.
    Settling {
        waiting: Vec<Waiting>,
    },
}

impl Resident {
    /// The list of those who wait, where there is one.
    pub(super) const fn waiting(&mut self) -> Option<&mut Vec<Waiting>> {
        match self {
            Self::Loading { waiting, .. }
            | Self::Starting { waiting, .. }
            | Self::Sleeping { waiting, .. }
            | Self::Settling { waiting } => Some(waiting),
            Self::Awake(_) => None,
        }
    }

    /// The parent of a session that has an actor or is about to.
    pub(super) fn under(&self) -> Option<&SessionKey> {
        match self {
            Self::Awake(LiveEntry { meta, .. }) | Self::Sleeping { meta, .. } => meta.parent.as_ref(),
            Self::Starting { under, .. } => under.as_ref(),
            Self::Loading { .. } | Self::Settling { .. } => None,
        }
    }
}

impl Sessions {
    pub(super) fn on_deliver(&mut self, key: &SessionKey, message: Box<SessionMsg>, ctx: &mut Ctx<Self>) {
        // Its parent fell asleep before it could start it.
        if let SessionMsg::StartChild { args } = &*message {
            return self.wake_again(&args.meta.key, ctx);
        }
        self.wait_for(key, Waiting::Message(message), ctx);
    }

    /// Gives `item` to a session, waking it if it sleeps.
    pub(super) fn wait_for(&mut self, key: &SessionKey, item: Waiting, ctx: &mut Ctx<Self>) {
        match self.residents.get_mut(key) {
            Some(Resident::Awake(entry)) => {
                let entry = entry.clone();
                if let Some(item) = self.hand_over(&entry, item, ctx) {
                    // It died a moment ago; its end is on its way here.
                    self.shared.live.remove(key);
                    let sleeping = Resident::Sleeping { meta: entry.meta, waiting: vec![item] };
                    self.residents.insert(key.clone(), sleeping);
                }
            }
            // It may stay so for as long as the store is full.
            Some(Resident::Settling { waiting })
                if waiting.len() >= self.shared.settings().prompts.max_queued =>
            {
                match item {
                    // One that is not carried out has no answer: whoever asked asks again, or hears that it is gone.
                    Waiting::Message(message)
                        if matches!(*message, SessionMsg::Stop { cascade: false, .. }) => {}
                    item => waiting.extend(item.refuse_request(&too_many(key, waiting.len()))),
                }
            }
            Some(other) => {
                if let Some(waiting) = other.waiting() {
                    waiting.push(item);
                }
            }
            None => self.wake(key.clone(), vec![item], ctx),
        }
    }

    pub(super) fn wake(&mut self, key: SessionKey, waiting: Vec<Waiting>, ctx: &Ctx<Self>) {
        self.read(key, waiting, 0, ctx);
    }

    /// Reads a session, after a while if that has failed before.
    fn read(&mut self, key: SessionKey, waiting: Vec<Waiting>, failed: u32, ctx: &Ctx<Self>) {
        let waiting = waiting.into_iter().map(Waiting::for_a_new_read).collect();
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        self.residents.insert(key.clone(), Resident::Loading { waiting, since: self.settlements, failed });
        let pause = (failed > 0).then(|| {
            let pause = pause(failed, ctx.system());
            ctx.system().clock.sleep(pause)
        });
        // Detached: its message holds all that is needed to go on.
        tokio::spawn(async move {
            if let Some(pause) = pause {
                pause.await;
            }
            let result = Box::new(shared.storage.load_session(key.clone()).await);
            drop(myself.send(SessionsMsg::Loaded { key, result }));
        });
    }

    pub(super) fn on_loaded(
        &mut self,
        key: SessionKey,
        result: Result<Option<StoredSession>, StoreError>,
        ctx: &mut Ctx<Self>,
    ) {
        let Some(Resident::Loading { waiting, since, failed }) = self.residents.get_mut(&key) else { return };
        if *since != self.settlements {
            let waiting = std::mem::take(waiting);
            return self.wake(key, waiting, ctx);
        }
        match result {
            Ok(Some(stored)) => {
                self.shared.takes_up(&key);
                let (waiting, under) = (std::mem::take(waiting), stored.row.parent.clone());
                self.starts(key, under, waiting);
                self.start_under_parent(stored, ctx);
            }
            Ok(None) => self.create(&key, ctx),
            Err(error) => {
                let (waiting, failed) = (std::mem::take(waiting), failed.saturating_add(1));
                self.read_again(key, waiting, failed, &error, ctx);
            }
        }
    }

    /// A session could not be read: who asks for something hears of that and may ask again. What else waits for it
    /// nobody would repeat, so it waits until the store can be read.
    fn read_again(
        &mut self,
        key: SessionKey,
        waiting: Vec<Waiting>,
        failed: u32,
        error: &StoreError,
        ctx: &Ctx<Self>,
    ) {
        let refusal = Refusal::error("store", error.to_string());
        let waiting: Vec<Waiting> =
            waiting.into_iter().filter_map(|item| item.refuse_request(&refusal)).collect();
        if waiting.is_empty() {
            self.residents.remove(&key);
            return;
        }
        tracing::warn!(session = %key, %error, "cannot be read, will try again");
        self.read(key, waiting, failed, ctx);
    }

    /// Makes a session that somebody writes to for the first time, where its name allows that.
    fn create(&mut self, key: &SessionKey, ctx: &mut Ctx<Self>) {
        let known = self.shared.settings().agents.contains_key(&key.agent());
        let waiting = self.residents.get_mut(key).and_then(Resident::waiting);
        let wanted = waiting.is_some_and(|waiting| waiting.iter().any(Waiting::begins));
        if key.is_subagent() || !known || !wanted {
            return self.give_up(key, &Refusal::unknown_session(key), ctx);
        }
        let at = ctx.system().clock.now();
        let row = SessionRow {
            key: key.clone(),
            agent: key.agent(),
            parent: None,
            root: key.clone(),
            depth: 0,
            label: None,
            mode: Mode::Session,
            cleanup: Cleanup::Keep,
            model: None,
            tools: None,
            yielded: None,
            on_parent_exit: OnParentExit::default(),
            outlived: None,
            created_at: at,
            updated_at: at,
        };
        let stored = Box::new(StoredSession {
            row: row.clone(),
            transcript: Vec::new(),
            runs: Vec::new(),
            announces: Vec::new(),
            steers: Vec::new(),
            children: Vec::new(),
            traces: Vec::new(),
        });
        let myself = ctx.myself().clone();
        self.shared.commit(vec![Op::CreateSession(Box::new(row))], move |result| {
            // Whoever waits for a manager that died sees its reply dropped.
            drop(myself.send(SessionsMsg::Created { stored, result }));
        });
    }

    pub(super) fn on_created(
        &mut self,
        stored: StoredSession,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        let key = stored.row.key.clone();
        let Some(Resident::Loading { waiting, .. }) = self.residents.get_mut(&key) else { return };
        match result {
            Ok(()) => {
                let (waiting, under) = (std::mem::take(waiting), stored.row.parent.clone());
                self.starts(key, under, waiting);
                self.start_under_parent(stored, ctx);
            }
            Err(Refused::Conflict(_)) => {
                let waiting = std::mem::take(waiting);
                self.wake(key, waiting, ctx);
            }
            Err(refused) => self.give_up(&key, &refused_by_store(&refused), ctx),
        }
    }

    /// Answers everybody who waits for a session that cannot be woken.
    fn give_up(&mut self, key: &SessionKey, refusal: &Refusal, ctx: &mut Ctx<Self>) {
        let Some(mut resident) = self.residents.remove(key) else { return };
        self.starts_no_more(key, Some(&resident));
        for item in resident.waiting().map(std::mem::take).unwrap_or_default() {
            match item {
                Waiting::Message(message) => message.refuse(refusal.clone()),
                Waiting::Spawn(call) => call.reply.send(Err(refusal.clone())),
                // Its parent was deleted: it hangs under the manager from now on.
                Waiting::Child(stored, _) => self.start(*stored, None, ctx),
                Waiting::Nothing => {}
            }
        }
    }

    /// Starts a session under its parent, which is woken first.
    fn start_under_parent(&mut self, stored: StoredSession, ctx: &mut Ctx<Self>) {
        let Some(parent) = stored.row.parent.clone() else { return self.start(stored, None, ctx) };
        let only_asked = self.only_asked(&stored);
        match self.residents.get(&parent) {
            Some(Resident::Awake(entry))
                if entry.meta.scope.is_cancelled() && only_asked && !stored.row.on_parent_exit.outlives() =>
            {
                // It would be stopped at once and come back with the same message, again and again.
                self.give_up(&stored.row.key, &stopping(), ctx);
            }
            Some(Resident::Awake(entry)) => {
                let entry = entry.clone();
                self.start(stored, Some(&entry), ctx);
            }
            _ => self.wait_for(&parent, Waiting::Child(Box::new(stored), self.settlements), ctx),
        }
    }

    /// Whether a session has nothing open and is to be woken for requests alone.
    fn only_asked(&mut self, stored: &StoredSession) -> bool {
        let waiting = self.residents.get_mut(&stored.row.key).and_then(Resident::waiting);
        stored.runs.is_empty()
            && stored.announces.is_empty()
            && stored.steers.is_empty()
            && stored.children.is_empty()
            && waiting.is_none_or(|waiting| !waiting.iter().any(|item| matches!(item, Waiting::Child(..))))
    }

    fn start(&mut self, stored: StoredSession, parent: Option<&LiveEntry>, ctx: &mut Ctx<Self>) {
        // Whoever came up meanwhile, or is being read anew, is not started with what was read before.
        let Some(Resident::Starting { wanted, .. }) = self.residents.get(&stored.row.key) else { return };
        let wanted = Arc::clone(wanted);
        let meta = Arc::new(self.meta(&stored.row, parent));
        let key = meta.key.clone();
        let (shared, first) = (Arc::clone(&self.shared), Some(Box::new(stored)));
        let args = SessionArgs { shared, meta, first, spawned: false, wanted, epoch: 0 };
        if let Some(parent) = parent {
            let message = SessionMsg::StartChild { args: Box::new(args) };
            if let Err(SessionMsg::StartChild { args }) = parent.handle.send(message)
                && let Some(stored) = args.first
            {
                // The parent ended a moment ago: it is woken again first.
                let item = Waiting::Child(stored, self.settlements);
                self.shared.live.remove(&parent.meta.key);
                let sleeping = Resident::Sleeping { meta: Arc::clone(&parent.meta), waiting: vec![item] };
                self.residents.insert(parent.meta.key.clone(), sleeping);
            }
            return;
        }
        if let Some(handle) = ctx.children().handle::<SessionMsg>(&key) {
            // It lives, or is about to end; either way it says so.
            drop(handle.send(SessionMsg::Hello));
            return;
        }
        let name: Arc<str> = key.as_str().into();
        if let Err(error) = ctx.spawn::<Session>(key.clone(), name, ChildSpec::alike(STOP_WITHIN), args) {
            self.give_up(&key, &Refusal::error("start", error.to_string()), ctx);
        }
    }

    /// What never changes about a session while it is awake.
    pub(super) fn meta(&self, row: &SessionRow, parent: Option<&LiveEntry>) -> SessionMeta {
        let settings = self.shared.settings();
        let role = Role::at(row.depth, settings.subagents.max_depth);
        let agent = settings.agent(&row.agent).map(AsRef::as_ref);
        let tools = effective(self.shared.tools.catalog(), &settings, agent, role, row.tools.as_deref());
        let scope = parent
            .filter(|_| !row.on_parent_exit.outlives())
            .map_or_else(CancellationToken::new, |parent| parent.meta.scope.child_token());
        SessionMeta::of(row, tools, scope)
    }

    pub(super) fn on_up(&mut self, entry: LiveEntry, ctx: &mut Ctx<Self>) {
        // The end of a child overtakes what it said before.
        if entry.handle.info().has_left() {
            return;
        }
        let key = entry.meta.key.clone();
        let before = self.residents.insert(key.clone(), Resident::Awake(entry.clone()));
        self.starts_no_more(&key, before.as_ref());
        if matches!(before, Some(Resident::Awake(_) | Resident::Sleeping { .. } | Resident::Settling { .. }))
        {
            self.start_again_under(&key, ctx);
        }
        let waiting = before.and_then(|mut before| before.waiting().map(std::mem::take)).unwrap_or_default();
        // Those who wait come before those who find it in the index.
        self.flush(&entry, waiting, ctx);
        if matches!(self.residents.get(&key), Some(Resident::Awake(_))) {
            self.shared.live.insert(key.clone(), entry);
        }
        self.pursue(&key, ctx);
        self.pursue_below(&key, ctx);
    }

    fn flush(&mut self, entry: &LiveEntry, waiting: Vec<Waiting>, ctx: &mut Ctx<Self>) {
        let mut unsent = Vec::new();
        for item in waiting {
            if unsent.is_empty() {
                unsent.extend(self.hand_over(entry, item, ctx));
            } else {
                unsent.push(item);
            }
        }
        if !unsent.is_empty() {
            let sleeping = Resident::Sleeping { meta: Arc::clone(&entry.meta), waiting: unsent };
            self.residents.insert(entry.meta.key.clone(), sleeping);
        }
    }

    /// Gives one thing to a session that is awake; returns it if the session ended a moment ago.
    fn hand_over(&mut self, entry: &LiveEntry, item: Waiting, ctx: &mut Ctx<Self>) -> Option<Waiting> {
        match item {
            Waiting::Message(message) => {
                entry.handle.send(*message).err().map(|message| Waiting::Message(Box::new(message)))
            }
            Waiting::Spawn(call) => {
                self.decide(*call, ctx);
                None
            }
            Waiting::Child(stored, since) => {
                if since == self.settlements {
                    self.start(*stored, Some(entry), ctx);
                } else {
                    self.wake_again(&stored.row.key, ctx);
                }
                None
            }
            Waiting::Nothing => None,
        }
    }

    pub(super) fn on_quiet(&mut self, key: SessionKey) {
        // A spawn that is being committed needs its parent.
        if self.tally.has_children(&key) {
            return;
        }
        if let Some(Resident::Awake(entry)) = self.residents.get(&key) {
            let entry = entry.clone();
            self.shared.live.remove(&key);
            self.residents.insert(key, Resident::Sleeping { meta: entry.meta, waiting: Vec::new() });
            // One that has just died is told of as down.
            drop(entry.handle.send(SessionMsg::Sleep));
        }
    }

    pub(super) fn on_sleep_answer(&mut self, entry: LiveEntry, agreed: bool, ctx: &mut Ctx<Self>) {
        if entry.handle.info().has_left() {
            return;
        }
        if !agreed {
            return self.on_up(entry, ctx);
        }
        let key = entry.meta.key.clone();
        self.shared.live.remove(&key);
        let waiting = self
            .residents
            .remove(&key)
            .and_then(|mut resident| resident.waiting().map(std::mem::take))
            .unwrap_or_default();
        self.residents.insert(key, Resident::Sleeping { meta: entry.meta, waiting });
        entry.handle.drain();
    }

    pub(super) fn on_down(&mut self, key: &SessionKey, failure: Option<String>, ctx: &mut Ctx<Self>) {
        self.shared.live.remove(key);
        if let Some(reason) = failure {
            return self.settle_subtree(key, &reason, ctx);
        }
        self.leave(key, ctx);
    }

    /// A session has ended: whoever came meanwhile wakes it again, and so do children whose start it lost to a panic.
    pub(super) fn leave(&mut self, key: &SessionKey, ctx: &mut Ctx<Self>) {
        self.left(key);
        self.start_again_under(key, ctx);
        let waiting =
            self.residents.remove(key).and_then(|mut resident| resident.waiting().map(std::mem::take));
        if let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) {
            self.wake(key.clone(), waiting, ctx);
        }
        self.arrived(key);
    }
}
