//! Spawns: admitted and reserved at once, committed, then answered and started.

use std::sync::Arc;
use std::time::Duration;

use super::requests::{self, Named};
use super::settle::{DETACHED, Verdict, settle};
use super::{Resident, Sessions, SessionsMsg, Waiting};
use crate::kit::{Ctx, Reply};
use crate::policy::admission::{Admitted, Parent, admit, check_lengths};
use crate::ports::{
    AuditRecord, Cause, Earlier, Event, Op, Refused, RunRow, RunState, SessionRow, StoreError, StoredSession,
    SubtreeRun, Transaction,
};
use crate::run::{Fate, RunCell};
use crate::session::{SessionArgs, SessionMeta, SessionMsg, refused_by_store};
use crate::shared::{LiveEntry, Shared};
use crate::types::{Accepted, Entry, Origin, Refusal, RunId, SessionKey, SpawnRequest, StoredEntry, Usage};

/// A request to spawn that is not decided yet.
#[derive(Debug)]
pub(crate) struct SpawnCall {
    pub(crate) request: SpawnRequest,
    pub(crate) origin: Origin,
    pub(crate) named: Option<Named>,
    pub(crate) reply: Reply<Result<Accepted, Refusal>>,
}

/// An admitted spawn whose commit is in flight.
#[derive(Debug)]
pub(crate) struct Reserved {
    session: SessionRow,
    row: RunRow,
    task: Arc<StoredEntry>,
    accepted: Accepted,
    origin: Origin,
    named: Option<Named>,
    /// The run whose tool call asked for it.
    asker: Option<Arc<RunCell>>,
    reply: Reply<Result<Accepted, Refusal>>,
}

impl Reserved {
    /// Tells everybody of the spawn that is committed. Called by the commit itself, so that no panic of the manager
    /// can swallow it, and before the answer: the parent counts the child before its run can ask to wait for it.
    fn tell(&self, shared: &Shared) {
        shared.book.born(&self.session);
        shared.book.accepted(&self.row);
        if let Some(asker) = self.asker.as_ref().filter(|_| !self.session.on_parent_exit.outlives()) {
            asker.spawned().insert(self.session.key.clone());
        }
        if let Some(parent) = &self.row.announce_to {
            let SessionRow { root, depth, on_parent_exit, .. } = &self.session;
            let open = Box::new(self.row.open(root, *depth, *on_parent_exit));
            shared.deliver(parent, SessionMsg::ChildOpened { open });
        }
        shared.publish(Event::Spawned {
            parent: self.session.parent.clone().unwrap_or_else(|| self.session.root.clone()),
            child: Arc::new(self.accepted.clone()),
            label: self.session.label.clone(),
            task: Arc::clone(&self.task),
            origin: self.origin.clone(),
        });
        shared.tell_appended(&self.session.key, std::slice::from_ref(&self.task));
    }
}

impl Sessions {
    pub(super) fn on_spawn(&mut self, mut call: SpawnCall, ctx: &mut Ctx<Self>) {
        if let Err(refusal) = check_lengths(&call.request, &self.shared.settings()) {
            return self.refuse(call, refusal, ctx);
        }
        if self.shared.is_suspending() {
            let text = "the daemon is stopping and starts nothing any more";
            let hint = "repeat the request with the same idempotency key once it is back";
            return self.refuse(call, Refusal::forbidden("stopping", text, hint), ctx);
        }
        call.named = Named::spawn(&call.request, &call.origin);
        let repeats = call.request.idempotency.as_ref().is_some_and(|key| key.may_repeat);
        let Some(call) = self.join(call) else { return };
        let Some(named) = call.named.clone().filter(|_| repeats) else { return self.decide(call, ctx) };
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        // Detached: the message that it sends holds all that is needed to go on.
        tokio::spawn(async move {
            let found = shared.storage.earlier(named.key).await;
            drop(myself.send(SessionsMsg::Looked { call: Box::new(call), found: Box::new(found) }));
        });
    }

    /// Lets a call wait for the one that is being committed under the same name; returns it if there is none.
    fn join(&mut self, call: SpawnCall) -> Option<SpawnCall> {
        let Some(named) = &call.named else { return Some(call) };
        let Some((digest, waiting)) = self.in_flight.get_mut(&named.key) else { return Some(call) };
        if *digest == named.digest {
            waiting.push(call.reply);
        } else {
            call.reply.send(Err(named.differs()));
        }
        None
    }

    pub(super) fn on_looked(
        &mut self,
        call: SpawnCall,
        found: Result<Option<Earlier>, StoreError>,
        ctx: &mut Ctx<Self>,
    ) {
        match (found, &call.named) {
            (Ok(Some(earlier)), Some(named)) => {
                let answer = named.same(earlier).map(|earlier| requests::accepted(&earlier));
                call.reply.send(answer);
            }
            (Ok(_), _) => self.decide(call, ctx),
            (Err(error), _) => call.reply.send(Err(Refusal::error("store", error.to_string()))),
        }
    }

    /// Decides as soon as the parent is awake.
    pub(super) fn decide(&mut self, call: SpawnCall, ctx: &mut Ctx<Self>) {
        let parent = call.request.parent.clone();
        match self.residents.get(&parent) {
            Some(Resident::Awake(entry)) => {
                let entry = entry.clone();
                self.admit(call, &entry, ctx);
            }
            _ => self.wait_for(&parent, Waiting::Spawn(Box::new(call)), ctx),
        }
    }

    fn admit(&mut self, call: SpawnCall, parent: &LiveEntry, ctx: &Ctx<Self>) {
        // One of the same name may have come this far while the store was read or the parent woken.
        let Some(call) = self.join(call) else { return };
        let settings = self.shared.settings();
        let meta = &parent.meta;
        let asker = match &call.origin {
            Origin::Agent { run, .. } => Some(self.shared.runs.get(run).map(|cell| Arc::clone(&cell))),
            _ => None,
        };
        let aborted =
            |cell: &Option<Arc<RunCell>>| cell.as_ref().is_none_or(|cell| cell.cancelled.is_cancelled());
        let asks = Parent {
            key: &meta.key,
            agent: &meta.agent,
            depth: meta.depth,
            tools: &meta.tools,
            active_model: asker.iter().flatten().map(|cell| &cell.model).next().or(meta.model.as_ref()),
            stopping: asker.as_ref().is_some_and(aborted) || meta.scope.is_cancelled(),
        };
        let counters = self.tally.counters(&meta.key, &meta.root);
        let resolve = |name: &str| self.shared.models.resolve(name);
        match admit(&call.request, &asks, &settings, counters, &resolve, self.shared.tools.catalog()) {
            Ok(admitted) => self.reserve(call, admitted, meta, asker.flatten(), ctx),
            Err(refusal) => self.refuse(call, refusal, ctx),
        }
    }

    fn refuse(&self, call: SpawnCall, refusal: Refusal, ctx: &Ctx<Self>) {
        let parent = call.request.parent;
        self.shared.publish(Event::Refused { parent: parent.clone(), code: refusal.code });
        let audit = AuditRecord {
            at: ctx.system().clock.now(),
            event: "spawn.refused",
            origin: call.origin,
            session: Some(parent),
            run: None,
            facts: vec![("code", refusal.code.to_owned()), ("reason", refusal.message.clone())],
        };
        self.shared.commit(vec![Op::Audit(Box::new(audit))], |result| {
            if let Err(refused) = result {
                tracing::warn!(%refused, "a refusal could not be entered into the audit record");
            }
        });
        call.reply.send(Err(refusal));
    }

    fn reserve(
        &mut self,
        call: SpawnCall,
        admitted: Admitted,
        parent: &Arc<SessionMeta>,
        asker: Option<Arc<RunCell>>,
        ctx: &Ctx<Self>,
    ) {
        let SpawnCall { request, origin, named, reply } = call;
        let (ids, at) = (&ctx.system().ids, ctx.system().clock.now());
        let key = SessionKey::subagent(&admitted.agent, ids.session());
        let run = RunId(ids.run());
        let spawner = match &origin {
            Origin::Agent { run, .. } => Some(*run),
            _ => None,
        };
        let session = SessionRow {
            key: key.clone(),
            agent: admitted.agent.clone(),
            parent: Some(parent.key.clone()),
            root: parent.root.clone(),
            depth: admitted.depth,
            label: admitted.label,
            mode: admitted.mode,
            cleanup: admitted.cleanup,
            model: Some(admitted.model.clone()),
            tools: Some(Arc::clone(&admitted.tools)),
            yielded: None,
            on_parent_exit: request.on_parent_exit,
            outlived: None,
            created_at: at,
            updated_at: at,
        };
        let row = RunRow {
            id: run,
            session: key.clone(),
            cause: Cause::Spawn,
            spawner,
            announce_to: Some(parent.key.clone()),
            expects_completion: request.expects_completion,
            wire_id: None,
            model: admitted.model.clone(),
            model_used: None,
            timeout: admitted.timeout,
            input: None,
            state: RunState::Accepted,
            outcome: None,
            usage: Usage::default(),
            steps: 0,
            accepted_at: at,
            started_at: None,
            ended_at: None,
            host: self.shared.host,
            used: Duration::ZERO,
            recovery: request.recovery,
            attempts: 0,
        };
        let entry = Entry::User { text: admitted.task, origin: origin.clone() };
        let task = Arc::new(StoredEntry { seq: 0, run: Some(run), at, entry });
        let audit = AuditRecord {
            at,
            event: "spawn.accepted",
            origin: origin.clone(),
            session: Some(key.clone()),
            run: Some(run),
            facts: vec![
                ("parent", parent.key.to_string()),
                ("model", admitted.model.primary.to_string()),
                ("depth", admitted.depth.to_string()),
            ],
        };
        let mut transaction: Transaction = vec![
            Op::CreateSession(Box::new(session.clone())),
            Op::InsertRun(Box::new(row.clone())),
            Op::Append { session: key.clone(), open_run: None, entries: vec![Arc::clone(&task)] },
            Op::Audit(Box::new(audit)),
        ];
        if let Some(Named { key, digest }) = &named {
            transaction.push(Op::NameRequest { key: key.clone(), digest: *digest, run });
            self.in_flight.insert(key.clone(), (*digest, Vec::new()));
        }
        let accepted = Accepted {
            run,
            session: key,
            agent: admitted.agent,
            model: admitted.model,
            timeout: admitted.timeout,
            depth: admitted.depth,
            mode: admitted.mode,
            expects_completion: request.expects_completion,
            tools: admitted.tools,
        };
        self.tally.add(run, &session.key, Some(&parent.key), &parent.root);
        let reserved = Box::new(Reserved { session, row, task, accepted, origin, named, asker, reply });
        let (myself, shared) = (ctx.myself().clone(), Arc::clone(&self.shared));
        self.shared.commit(transaction, move |result| {
            if result.is_ok() {
                reserved.tell(&shared);
            }
            // A manager that died finds the run in the store when it starts again.
            drop(myself.send(SessionsMsg::SpawnSettled { reserved, result }));
        });
    }

    pub(super) fn on_spawn_settled(
        &mut self,
        reserved: Reserved,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        let run = reserved.row.id;
        let others = reserved.named.as_ref().and_then(|named| self.in_flight.remove(&named.key));
        let others = others.map(|(_, replies)| replies).unwrap_or_default();
        match result {
            Ok(()) => {
                for reply in others {
                    reply.send(Ok(reserved.accepted.clone()));
                }
                self.start_spawned(reserved, ctx);
            }
            Err(Refused::Repeated) => {
                self.tally.remove(run);
                let Some(named) = reserved.named else { return };
                let (shared, reply) = (Arc::clone(&self.shared), reserved.reply);
                // Detached: the answer is the caller's, whatever becomes of this actor.
                tokio::spawn(async move {
                    let answer = named.earlier(&shared).await.map(|earlier| requests::accepted(&earlier));
                    for reply in others {
                        reply.send(answer.clone());
                    }
                    reply.send(answer);
                });
            }
            Err(refused) => {
                self.tally.remove(run);
                for reply in others {
                    reply.send(Err(refused_by_store(&refused)));
                }
                reserved.reply.send(Err(refused_by_store(&refused)));
            }
        }
    }

    fn start_spawned(&mut self, reserved: Reserved, ctx: &mut Ctx<Self>) {
        let Reserved { session, row, task, accepted, asker, reply, .. } = reserved;
        let parent = session.parent.clone();
        // A rebuilt manager may have read the store before this was committed.
        self.tally.add(row.id, &session.key, parent.as_ref(), &session.root);
        let entry = parent.as_ref().and_then(|key| self.shared.live.get(key).map(|entry| entry.clone()));
        let Some(entry) = entry else {
            // The parent went away meanwhile: the child is started like any session with an open run.
            let key = session.key;
            reply.send(Ok(accepted));
            return self.wait_for(&key, Waiting::Nothing, ctx);
        };
        // While it was committed its parent or the run that asked for it was stopped.
        let fated = |cell: Arc<RunCell>| cell.fate.get().is_some_and(Fate::stops_children);
        let stopped = entry.meta.scope.is_cancelled() || asker.is_some_and(fated);
        if stopped && !session.on_parent_exit.outlives() {
            reply.send(Ok(accepted));
            self.end_spawned(SubtreeRun { row, session }, ctx);
            return;
        }
        let meta = Arc::new(self.meta(&session, Some(&entry)));
        let stored = StoredSession {
            row: session,
            transcript: vec![task],
            runs: vec![row],
            announces: Vec::new(),
            steers: Vec::new(),
            children: Vec::new(),
            traces: Vec::new(),
        };
        let key = meta.key.clone();
        let (shared, first) = (Arc::clone(&self.shared), Some(Box::new(stored)));
        let wanted = self.starts(key.clone(), Some(entry.meta.key.clone()), Vec::new());
        let args = SessionArgs { shared, meta, first, spawned: true, wanted, epoch: 0 };
        let message = SessionMsg::StartChild { args: Box::new(args) };
        let sent = entry.handle.send(message);
        reply.send(Ok(accepted));
        if sent.is_err() {
            let was = self.residents.remove(&key);
            self.starts_no_more(&key, was.as_ref());
            self.wait_for(&key, Waiting::Nothing, ctx);
        }
    }

    /// Ends a spawn whose session was not started; nothing wakes that before it is done.
    fn end_spawned(&mut self, spawned: SubtreeRun, ctx: &Ctx<Self>) {
        let key = spawned.session.key.clone();
        let waiting = match self.residents.remove(&key) {
            // Its parent heard of it first and has told it to stop.
            Some(resident @ (Resident::Awake(_) | Resident::Starting { .. } | Resident::Sleeping { .. })) => {
                self.residents.insert(key, resident);
                return;
            }
            Some(mut resident) => resident.waiting().map(std::mem::take).unwrap_or_default(),
            None => Vec::new(),
        };
        self.residents.insert(key.clone(), Resident::Settling { waiting });
        let keys = vec![key];
        self.unsettled.add(&keys);
        let (shared, myself) = (Arc::clone(&self.shared), ctx.myself().clone());
        let unsettled = Arc::clone(&self.unsettled);
        // Detached: it must be ended whatever becomes of this actor.
        tokio::spawn(async move {
            settle(&shared, vec![spawned], Verdict::parent_stopped(), DETACHED).await;
            unsettled.remove(&keys);
            // Of what was on its way to it before, nothing is lost: it waits here.
            drop(myself.send(SessionsMsg::Settled { keys, waiting: Vec::new() }));
        });
    }
}
