//! Changes of what is stored of a session: its label, its model, a transcript that begins anew.

use std::sync::Arc;

use super::accept::too_long;
use super::{Session, SessionMeta, SessionMsg, Standing, refused_by_store, stopping};
use crate::kit::{Ctx, Reply};
use crate::policy::admission::check_name;
use crate::ports::{AuditRecord, Op, Refused};
use crate::types::{ModelChoice, Origin, Refusal, Transcript};

/// What a client wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionChange {
    /// Other names; what is none stays. A session that does not exist is made if `create` says so.
    Patch {
        label: Option<Option<String>>,
        /// A model or alias.
        model: Option<Option<String>>,
        create: bool,
    },
    /// An empty transcript.
    Reset,
}

/// A change that is being committed.
#[derive(Debug)]
pub(crate) enum Change {
    Patch(Arc<SessionMeta>),
    Reset,
}

impl Session {
    pub(super) fn on_change(
        &mut self,
        change: SessionChange,
        origin: Origin,
        reply: Reply<Result<(), Refusal>>,
        ctx: &Ctx<Self>,
    ) {
        let at = ctx.system().clock.now();
        let session = self.meta.key.clone();
        let checked = if matches!(self.standing, Standing::Open) {
            match change {
                SessionChange::Patch { label, model, .. } => self.check_patch(label, model),
                SessionChange::Reset => self.check_reset().map(|()| Change::Reset),
            }
        } else {
            Err(stopping())
        };
        let change = match checked {
            Ok(change) => change,
            Err(refusal) => return reply.send(Err(refusal)),
        };
        let (op, event) = match &change {
            Change::Patch(meta) => {
                let label = (meta.label != self.meta.label).then(|| meta.label.clone());
                let model = (meta.model != self.meta.model).then(|| meta.model.clone());
                (Op::PatchSession { session: session.clone(), label, model }, "session.changed")
            }
            Change::Reset => (Op::ResetSession { session: session.clone(), at }, "session.reset"),
        };
        let audit = AuditRecord { at, event, origin, session: Some(session), run: None, facts: Vec::new() };
        // Nothing is appended to a transcript that is about to be another.
        self.delivering |= matches!(change, Change::Reset);
        self.accepting += 1;
        let myself = ctx.myself().clone();
        self.shared.commit(vec![op, Op::Audit(Box::new(audit))], move |result| {
            // Of a session that died the caller sees its reply dropped; it is read again with the change.
            drop(myself.send(SessionMsg::ChangeSettled { change, reply, result }));
        });
    }

    fn check_patch(
        &self,
        label: Option<Option<String>>,
        model: Option<Option<String>>,
    ) -> Result<Change, Refusal> {
        let mut meta = SessionMeta::clone(&self.meta);
        if let Some(label) = label {
            let most = self.shared.settings().prompts.max_label;
            if label.as_ref().is_some_and(|label| label.len() > most) {
                return Err(too_long("the label", most, "use a shorter one"));
            }
            meta.label = label;
        }
        if let Some(model) = model {
            check_name("the model", model.as_deref())?;
            let resolve = |name: String| {
                let resolved = self.shared.models.resolve(&name);
                resolved.map_err(|error| Refusal::error("model", error.to_string()))
            };
            let primary = model.map(resolve).transpose()?;
            meta.model = primary.map(|primary| ModelChoice { primary, fallbacks: Vec::new() });
        }
        Ok(Change::Patch(Arc::new(meta)))
    }

    fn check_reset(&self) -> Result<(), Refusal> {
        let busy = self.current.is_some()
            || !self.runs.is_empty()
            || !self.queue.is_empty()
            || !self.unsettled.is_empty()
            || self.accepting > 0
            || self.delivering
            || self.loading.is_some();
        if busy {
            return Err(Refusal::forbidden(
                "session_open",
                format!("session {} has runs that have not ended", self.meta.key),
                "stop it first, or wait for them",
            ));
        }
        Ok(())
    }

    pub(super) fn on_change_settled(
        &mut self,
        change: Change,
        reply: Reply<Result<(), Refusal>>,
        result: Result<(), Refused>,
        ctx: &mut Ctx<Self>,
    ) {
        self.accepting = self.accepting.saturating_sub(1);
        match (change, &result) {
            (Change::Patch(meta), Ok(())) => {
                // Of two changes on their way at once the later one was made of the earlier state.
                self.meta = Arc::new(SessionMeta {
                    label: meta.label.clone(),
                    model: meta.model.clone(),
                    ..SessionMeta::clone(&self.meta)
                });
                self.say_up(ctx);
            }
            (Change::Reset, Ok(())) => {
                self.delivering = false;
                self.transcript = Some(Transcript::default());
                self.shared.changed();
            }
            (Change::Reset, Err(_)) => self.delivering = false,
            (Change::Patch(_), Err(_)) => {}
        }
        reply.send(result.map_err(|refused| refused_by_store(&refused)));
        self.advance(ctx);
    }
}
