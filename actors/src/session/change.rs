//! Changes of what is stored of a session: its label, its model, a transcript that begins anew.

use std::sync::Arc;

use super::accept::too_long;
use super::inbox::Delivery;
use super::{Session, SessionMeta, SessionMsg, Standing, stopping};
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

/// A change that is being committed. Of a patch only what was asked for: another one may be on its way at the same time.
#[derive(Debug)]
pub(crate) enum Change {
    Patch { label: Option<Option<String>>, model: Option<Option<ModelChoice>> },
    Reset(Delivery),
}

/// What the audit record says of a change.
fn facts(change: &Change) -> Vec<(&'static str, String)> {
    let Change::Patch { label, model } = change else { return Vec::new() };
    let mut facts = Vec::new();
    facts.extend(label.clone().map(|label| ("label", label.unwrap_or_default())));
    let name = |model: &Option<ModelChoice>| model.as_ref().map(|model| model.primary.to_string());
    facts.extend(model.as_ref().map(|model| ("model", name(model).unwrap_or_default())));
    facts
}

/// The answer where the store does not take a change.
fn not_changed(refused: &Refused) -> Refusal {
    Refusal::error("store", format!("nothing was changed: {refused}")).with_hint("try again")
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
                SessionChange::Reset => self.check_reset().map(|()| Change::Reset(Delivery::default())),
            }
        } else {
            Err(stopping())
        };
        let change = match checked {
            Ok(change) => change,
            Err(refusal) => return reply.send(Err(refusal)),
        };
        let (op, event) = match &change {
            Change::Patch { label, model } => {
                let (label, model) = (label.clone(), model.clone());
                (Op::PatchSession { session: session.clone(), label, model }, "session.changed")
            }
            Change::Reset(_) => (Op::ResetSession { session: session.clone(), at }, "session.reset"),
        };
        let audit =
            AuditRecord { at, event, origin, session: Some(session), run: None, facts: facts(&change) };
        // Nothing is appended to a transcript that is about to be another.
        if let Change::Reset(delivery) = &change {
            self.delivering = Some(delivery.clone());
        }
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
        if let Some(Some(label)) = &label {
            let most = self.shared.settings().prompts.max_label;
            if label.len() > most {
                return Err(too_long("the label", most, "use a shorter one"));
            }
        }
        let resolve = |name: String| {
            check_name("the model", Some(&name))?;
            let resolved = self.shared.models.resolve(&name);
            let primary = resolved.map_err(|error| Refusal::error("model", error.to_string()))?;
            Ok(ModelChoice { primary, fallbacks: Vec::new() })
        };
        let model = model.map(|name| name.map(resolve).transpose()).transpose()?;
        Ok(Change::Patch { label, model })
    }

    fn check_reset(&self) -> Result<(), Refusal> {
        let busy = self.current.is_some()
            || !self.runs.is_empty()
            || !self.queue.is_empty()
            || !self.unsettled.is_empty()
            || self.accepting > 0
            || self.delivering.is_some()
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
            (Change::Patch { label, model }, Ok(())) => {
                let mut meta = SessionMeta::clone(&self.meta);
                meta.label = label.unwrap_or(meta.label);
                meta.model = model.unwrap_or(meta.model);
                self.meta = Arc::new(meta);
                self.say_up(ctx);
            }
            (Change::Reset(delivery), result) => {
                if self.is_delivered(&delivery) && result.is_ok() {
                    self.transcript = Some(Transcript::default());
                }
                self.shared.changed(&self.meta.key);
            }
            (Change::Patch { .. }, Err(_)) => {}
        }
        if let Err(refused) = &result {
            self.doubt(refused, ctx);
        }
        reply.send(result.map_err(|refused| not_changed(&refused)));
        self.advance(ctx);
    }
}
