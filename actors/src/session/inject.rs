//! Messages in the agent's name that no model wrote: appended between two turns, and nobody is woken for them.

use super::accept::{stopping, too_long};
use super::commit::Ticket;
use super::inbox::Delivery;
use super::taken::Taken;
use super::{Session, Standing};
use crate::kit::{Ctx, Reply};
use crate::ports::{AuditRecord, Op, Refused, Transaction};
use crate::types::{Entry, ModelRef, Origin, Refusal, Usage};

/// A message that waits until no run has its turn.
#[derive(Debug)]
pub(super) struct Injected {
    text: String,
    origin: Origin,
    reply: Reply<Result<u64, Refusal>>,
}

/// The place of a message that is being committed, and who waits for it. It goes with the transaction, so that a panic of
/// the session gives nobody the answer to another one's.
pub(super) type InjectedAt = (u64, Reply<Result<u64, Refusal>>);

/// What was appended is committed, or not.
pub(super) fn answer_injected(injected: Vec<InjectedAt>, result: Result<(), &Refused>) {
    for (seq, reply) in injected {
        reply.send(result.map(|()| seq).map_err(|refused| {
            Refusal::error("store", format!("nothing was appended: {refused}")).with_hint("try again")
        }));
    }
}

impl Session {
    pub(super) fn on_inject(
        &mut self,
        text: String,
        origin: Origin,
        reply: Reply<Result<u64, Refusal>>,
        ctx: &mut Ctx<Self>,
    ) {
        let limits = self.shared.settings().prompts;
        // One whose end is on its way says nothing more, and its end may have been told: what comes now follows it.
        let works = |run| self.runs.get(&run).is_none_or(|active| !active.stage.is_last());
        let refusal = if !matches!(self.standing, Standing::Open) {
            stopping()
        } else if text.trim().is_empty() {
            Refusal::error("empty", "the message is empty")
        } else if text.len() > limits.max_text {
            too_long("the message", limits.max_text, "send it in parts")
        } else if self.current.is_some_and(works) || self.injected.len() >= limits.max_queued {
            // In its middle it could come between a tool call and its result.
            Refusal::forbidden(
                "busy",
                format!("a run is at work in session {}", self.meta.key),
                "try again when it has ended, or cancel it",
            )
        } else {
            self.injected.push_back(Injected { text, origin, reply });
            return self.advance(ctx);
        };
        reply.send(Err(refusal));
    }

    /// No run has its turn: appends what waits.
    pub(super) fn append_injected(&mut self, ctx: &Ctx<Self>) {
        let Some(mut transcript) = self.transcript.take() else { return self.load(ctx) };
        let at = ctx.system().clock.now();
        let (mut entries, mut injected) = (Vec::new(), Vec::new());
        let mut audits = Transaction::new();
        for Injected { text, origin, reply } in self.injected.drain(..) {
            let entry = Entry::Assistant {
                text,
                tool_calls: Vec::new(),
                model: ModelRef::injected(),
                usage: Usage::default(),
            };
            let entry = transcript.push(None, at, entry);
            audits.push(Op::Audit(Box::new(AuditRecord {
                at,
                event: "message.injected",
                origin,
                session: Some(self.meta.key.clone()),
                run: None,
                facts: vec![("seq", entry.seq.to_string())],
            })));
            injected.push((entry.seq, reply));
            entries.push(entry);
        }
        let taken = Taken { entries, transcript, ..Taken::default() };
        let mut transaction = Transaction::new();
        taken.ops(&self.meta.key, None, &mut transaction);
        transaction.append(&mut audits);
        let delivery = Delivery::default();
        self.delivering = Some(delivery.clone());
        self.commit(transaction, Ticket::Deliver { delivery, row: None, taken, injected }, ctx);
    }

    /// The session stops: what waits is not appended any more.
    pub(super) fn refuse_injected(&mut self) {
        for Injected { reply, .. } in self.injected.drain(..) {
            reply.send(Err(stopping()));
        }
    }
}
