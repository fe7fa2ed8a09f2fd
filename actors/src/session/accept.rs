//! Messages that start a run or steer one: checked, committed, then answered.

use std::sync::Arc;
use std::time::Duration;

use super::{Session, SessionMeta, SessionMsg, Standing};
use crate::kit::{Ctx, Reply};
use crate::policy::admission::{check_name, deadline};
use crate::ports::{
    AuditRecord, CallbackRow, Cause, Event, Op, Refused, RunRow, RunState, Steer, Transaction,
};
use crate::sessions::Named;
use crate::shared::Shared;
use crate::tree::Steered;
use crate::types::{
    Callback, Entry, ModelChoice, Origin, PromptRequest, Refusal, RunId, SessionKey, Submitted, Usage,
};

/// The answer to whoever comes while a session or the whole tree stops.
pub(crate) fn stopping() -> Refusal {
    Refusal::forbidden("stopping", "the session is stopping", "try again once it has stopped")
}

/// The answer where the store does not take a request.
pub(crate) fn refused_by_store(refused: &Refused) -> Refusal {
    Refusal::error("store", format!("nothing was started: {refused}"))
        .with_hint("repeat the request with the same idempotency key")
}

/// Tells everybody of a run that is accepted and committed.
pub(super) fn tell_accepted(shared: &Shared, meta: &SessionMeta, row: &RunRow) {
    shared.book.accepted(row);
    shared.publish(Event::Submitted {
        session: meta.key.clone(),
        run: row.id,
        cause: row.cause,
        wire_id: row.wire_id.clone(),
    });
    if let Some(parent) = &row.announce_to {
        let open = Box::new(row.open(&meta.root, meta.depth, meta.on_parent_exit));
        shared.deliver(parent, SessionMsg::ChildOpened { open });
    }
}

pub(crate) fn submitted(row: &RunRow, repeated: bool) -> Submitted {
    Submitted { run: row.id, session: row.session.clone(), model: row.model.clone(), repeated }
}

pub(super) fn too_long(what: &str, limit: usize, setting: &str) -> Refusal {
    Refusal::error("too_long", format!("{what} is longer than {limit} bytes")).with_hint(setting.to_owned())
}

/// What a run is accepted with.
struct Terms {
    model: ModelChoice,
    timeout: Option<Duration>,
}

impl Session {
    pub(super) fn on_prompt(
        &mut self,
        request: PromptRequest,
        origin: Origin,
        reply: Reply<Result<Submitted, Refusal>>,
        ctx: &Ctx<Self>,
    ) {
        match self.check_prompt(&request) {
            Ok(terms) => self.accept_prompt(request, terms, origin, reply, ctx),
            Err(refusal) => reply.send(Err(refusal)),
        }
    }

    fn check_prompt(&self, request: &PromptRequest) -> Result<Terms, Refusal> {
        if !matches!(self.standing, Standing::Open) {
            return Err(stopping());
        }
        let settings = self.shared.settings();
        if request.text.trim().is_empty() {
            return Err(Refusal::error("empty", "the message is empty"));
        }
        if request.text.len() > settings.prompts.max_text {
            return Err(too_long("the message", settings.prompts.max_text, "send it in parts"));
        }
        check_name("the run's name", request.wire_id.as_deref())?;
        check_name("the idempotency key", request.idempotency.as_ref().map(|named| named.key.as_str()))?;
        check_name("the model", request.model.as_deref())?;
        if self.queue.len() + self.accepting as usize >= settings.prompts.max_queued {
            return Err(Refusal::forbidden(
                "queue_full",
                format!("{} messages wait in session {} already", self.queue.len(), self.meta.key),
                "wait for some of them to be answered, or cancel them",
            ));
        }
        let timeout = self.timeout(request.timeout)?;
        let model = match &request.model {
            Some(name) => {
                let primary = self
                    .shared
                    .models
                    .resolve(name)
                    .map_err(|error| Refusal::error("model", error.to_string()))?;
                ModelChoice { primary, fallbacks: Vec::new() }
            }
            None => self.model()?,
        };
        Ok(Terms { model, timeout })
    }

    /// The deadline of a run whose request asks for this one.
    fn timeout(&self, asked: Option<Duration>) -> Result<Option<Duration>, Refusal> {
        let settings = self.shared.settings();
        if self.meta.depth > 0 {
            let setting = "agents.defaults.subagents.runTimeoutSeconds";
            return deadline(asked, settings.subagents.run_timeout, setting);
        }
        deadline(asked, settings.runs.timeout, "agents.defaults.timeoutSeconds")
    }

    /// The model of this session's runs.
    fn model(&self) -> Result<ModelChoice, Refusal> {
        let settings = self.shared.settings();
        self.meta
            .model
            .clone()
            .or_else(|| settings.agent(&self.meta.agent).map(|agent| agent.model.clone()))
            .ok_or_else(|| {
                Refusal::error("agent", format!("agent {} is not configured", self.meta.agent))
                    .with_hint("add it to agents.list")
            })
    }

    fn accept_prompt(
        &mut self,
        request: PromptRequest,
        terms: Terms,
        origin: Origin,
        reply: Reply<Result<Submitted, Refusal>>,
        ctx: &Ctx<Self>,
    ) {
        let at = ctx.system().clock.now();
        let mut transaction = Transaction::new();
        let named = Named::prompt(&request, &origin).map(Box::new);
        let text = request.text;
        let announce_to = self.asked_by_parent([&origin]);
        let mut row = Box::new(self.new_row(Cause::Message, announce_to, terms, ctx));
        row.wire_id = request.wire_id;
        if let Some(Named { key, digest }) = named.as_deref() {
            transaction.push(Op::NameRequest { key: key.clone(), digest: *digest, run: row.id });
        }
        let audit = AuditRecord {
            at,
            event: "run.accepted",
            origin: origin.clone(),
            session: Some(self.meta.key.clone()),
            run: Some(row.id),
            facts: vec![("model", row.model.primary.to_string())],
        };
        if let Some(Callback { address, at }) = request.callback {
            transaction.push(Op::PutCallback(Box::new(CallbackRow { run: row.id, address, at })));
        }
        row.input = Some(Entry::User { text, origin });
        transaction.insert(0, Op::InsertRun(row.clone()));
        self.expect_parent(&mut transaction, Some(&row));
        transaction.push(Op::Audit(Box::new(audit)));
        self.accepting += 1;
        let (myself, shared, meta) = (ctx.myself().clone(), Arc::clone(&self.shared), Arc::clone(&self.meta));
        self.shared.commit(transaction, move |result| {
            if result.is_ok() {
                tell_accepted(&shared, &meta, &row);
            }
            // Of a session that died the caller sees its reply dropped.
            drop(myself.send(SessionMsg::PromptSettled { row, named, reply, result }));
        });
    }

    pub(super) fn on_prompt_settled(
        &mut self,
        row: Box<RunRow>,
        named: Option<Box<Named>>,
        reply: Reply<Result<Submitted, Refusal>>,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        self.accepting = self.accepting.saturating_sub(1);
        match (result, named) {
            (Ok(()), _) => {
                reply.send(Ok(submitted(&row, false)));
                if !self.knows(row.id) {
                    self.queue.push_back(row);
                }
            }
            (Err(Refused::Repeated), Some(named)) => {
                let shared = Arc::clone(&self.shared);
                // Detached: the answer is the caller's, whatever becomes of this session.
                tokio::spawn(async move {
                    let earlier = named.earlier(&shared).await;
                    reply.send(earlier.map(|earlier| submitted(&earlier.run, true)));
                });
            }
            (Err(refused), _) => {
                self.doubt(&refused, ctx);
                reply.send(Err(refused_by_store(&refused)));
            }
        }
        self.advance(ctx);
    }

    /// Whether a run waits or is open here. After a rebuild it may be known from the store before its commit comes
    /// back.
    pub(super) fn knows(&self, run: RunId) -> bool {
        self.runs.contains_key(&run) || self.queue.iter().any(|known| known.id == run)
    }

    /// The parent, if one of these messages is its agent's: it is to hear what becomes of them.
    fn asked_by_parent<'a>(&self, messages: impl IntoIterator<Item = &'a Origin>) -> Option<SessionKey> {
        let parent = self.meta.parent.as_ref()?;
        let asks = |origin: &Origin| matches!(origin, Origin::Agent { session, .. } if session == parent);
        messages.into_iter().any(asks).then(|| parent.clone())
    }

    /// A run of this session that is about to be accepted.
    fn new_row(
        &self,
        cause: Cause,
        announce_to: Option<SessionKey>,
        terms: Terms,
        ctx: &Ctx<Self>,
    ) -> RunRow {
        let Terms { model, timeout } = terms;
        RunRow {
            id: RunId(ctx.system().ids.run()),
            session: self.meta.key.clone(),
            cause,
            spawner: None,
            // What follows on results was for the parent that is gone, too.
            expects_completion: announce_to.is_some()
                || (cause == Cause::Announce && self.meta.outlived.is_some()),
            announce_to,
            wire_id: None,
            model,
            model_used: None,
            timeout,
            input: None,
            state: RunState::Accepted,
            outcome: None,
            usage: Usage::default(),
            steps: 0,
            accepted_at: ctx.system().clock.now(),
            started_at: None,
            ended_at: None,
            host: self.shared.host,
            used: Duration::ZERO,
            recovery: None,
            attempts: 0,
        }
    }

    /// The row of a run that nobody's request names.
    pub(super) fn new_row_of(&self, cause: Cause, ctx: &Ctx<Self>) -> Option<RunRow> {
        let terms = self.model().and_then(|model| Ok(Terms { model, timeout: self.timeout(None)? }));
        let terms = match terms {
            Ok(terms) => terms,
            Err(refusal) => {
                tracing::warn!(session = %self.meta.key, %refusal, "cannot run on what has arrived");
                return None;
            }
        };
        let announce_to = match cause {
            // What follows on the results of children belongs to what the parent waits for.
            Cause::Announce => self.meta.parent.clone(),
            Cause::Spawn | Cause::Message => {
                self.asked_by_parent(self.steers.iter().map(|steer| &steer.origin))
            }
        };
        Some(self.new_row(cause, announce_to, terms, ctx))
    }

    /// A steering message for the run that works or is about to; without one it is a message like any other.
    pub(super) fn on_steer(
        &mut self,
        text: String,
        origin: Origin,
        reply: Reply<Result<Steered, Refusal>>,
        ctx: &Ctx<Self>,
    ) {
        let Some(run) = self.current.or(self.next) else {
            let request = PromptRequest::new(self.meta.key.clone(), text);
            let reply = Reply::to(move |answer: Result<Submitted, Refusal>| {
                reply.send(answer.map(|submitted| Steered::Started(submitted.run)));
            });
            return self.on_prompt(request, origin, reply, ctx);
        };
        let settings = self.shared.settings();
        let refusal = if !matches!(self.standing, Standing::Open) {
            Some(stopping())
        } else if text.trim().is_empty() {
            Some(Refusal::error("empty", "the message is empty"))
        } else if text.len() > settings.prompts.max_text {
            Some(too_long("the message", settings.prompts.max_text, "send it in parts"))
        } else if self.steers.len() + self.accepting as usize >= settings.prompts.max_queued {
            Some(Refusal::forbidden(
                "queue_full",
                format!("{} steering messages wait already", self.steers.len()),
                "wait until the run has taken some of them",
            ))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return reply.send(Err(refusal));
        }
        let steer = Box::new(Steer {
            id: ctx.system().ids.run(),
            session: self.meta.key.clone(),
            text,
            origin,
            at: ctx.system().clock.now(),
        });
        let audit = AuditRecord {
            at: steer.at,
            event: "run.steered",
            origin: steer.origin.clone(),
            session: Some(self.meta.key.clone()),
            run: Some(run),
            facts: vec![("message", steer.id.to_string())],
        };
        self.accepting += 1;
        let myself = ctx.myself().clone();
        let transaction = vec![Op::QueueSteer(steer.clone()), Op::Audit(Box::new(audit))];
        self.shared.commit(transaction, move |result| {
            // Of a session that died the caller sees its reply dropped; the message is in the store.
            drop(myself.send(SessionMsg::SteerSettled { steer, run, reply, result }));
        });
    }

    pub(super) fn on_steer_settled(
        &mut self,
        steer: Steer,
        run: RunId,
        reply: Reply<Result<Steered, Refusal>>,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        self.accepting = self.accepting.saturating_sub(1);
        if let Err(refused) = result {
            self.doubt(&refused, ctx);
            reply.send(Err(refused_by_store(&refused)));
            return self.advance(ctx);
        }
        // After a rebuild it may be known from the store.
        if !self.steers.iter().any(|known| known.id == steer.id) {
            self.steers.push_back(steer);
        }
        reply.send(Ok(Steered::Queued(run)));
        self.advance(ctx);
    }

    /// Gives a message back that came after the session went to sleep.
    pub(super) fn hand_back(&self, message: SessionMsg) {
        let key: SessionKey = self.meta.key.clone();
        let back = crate::sessions::SessionsMsg::Deliver { key, message: Box::new(message) };
        if let Err(crate::sessions::SessionsMsg::Deliver { message, .. }) = self.shared.sessions.send(back) {
            message.refuse(stopping());
        }
    }

    /// The tools of this session's runs, as models are told of them.
    pub(super) fn tool_specs(&self) -> Arc<[Arc<crate::ports::ToolSpec>]> {
        let catalog = self.shared.tools.catalog();
        catalog.iter().filter(|spec| self.meta.tools.contains(&spec.name)).cloned().collect()
    }
}
