//! The model calls of a run: one per step, with retries, fallbacks and the word of a deadline that comes near.

use std::sync::Arc;
use std::time::Duration;

use super::{Activity, Doing, ReportKind, Run, RunCell, RunMsg};
use crate::kit::{Ctx, System};
use crate::policy::retry::{self, Next};
use crate::ports::{
    Answer, Event, EventSink, ModelError, ModelErrorKind, ModelRequest, ModelSink, Op, StopReason,
};
use crate::session::SessionMsg;
use crate::sessions::Permit;
use crate::types::{Entry, ModelRef, Terminal};

/// What is said of a failed call, with its kind.
fn full(error: &ModelError) -> String {
    match error.kind {
        // Nothing in particular: the message says all there is.
        ModelErrorKind::Failed => error.to_string(),
        kind => format!("{}: {error}", kind.as_str()),
    }
}

/// Passes a model's text on while it comes.
struct Listener {
    cell: Arc<RunCell>,
    events: Arc<dyn EventSink>,
    system: Arc<System>,
}

impl ModelSink for Listener {
    fn text(&self, piece: &str) {
        self.cell.before_end(|| {
            let at = self.system.clock.now();
            self.cell.update(|progress| {
                progress.heard = Some(at);
                if std::mem::take(&mut progress.fresh) {
                    progress.text.clear();
                }
                progress.text.push_str(piece);
            });
            self.events.publish(Event::Text {
                session: self.cell.session.clone(),
                run: self.cell.id,
                piece: piece.into(),
            });
        });
    }
}

impl Run {
    /// Begins a step: tells the model of a deadline first if it comes near.
    pub(super) fn next_step(&mut self, ctx: &mut Ctx<Self>) {
        if self.step >= self.limits.max_steps {
            let reason = format!("the run has made its {} steps", self.limits.max_steps);
            return self.report(ReportKind::Failed { state: Terminal::Partial, reason });
        }
        self.step += 1;
        self.failures = 0;
        let clock = &ctx.system().clock;
        if self.soft_at.is_some_and(|soft| clock.monotonic() >= soft) {
            self.soft_at = None;
            let limit = self.limit.unwrap_or_default().as_secs_f64();
            let text = format!(
                "Most of the {limit} seconds for this task have passed. Finish now: answer with what you have, \
                 and say what is missing. After the deadline the task is cut off."
            );
            let entry = self.transcript.push(Some(self.id()), clock.now(), Entry::Notice { text });
            self.cell.turn_to(Activity::Committing, clock.now());
            self.doing = Doing::Noting;
            let session = self.meta.key.clone();
            let append = Op::Append { session, open_run: Some(self.id()), entries: vec![entry] };
            return self.commit(vec![append], ctx);
        }
        self.call_model(ctx);
    }

    pub(super) fn call_model(&mut self, ctx: &Ctx<Self>) {
        let Some(model) = self.models.front().cloned() else { return };
        if std::mem::take(&mut self.resumed) {
            self.tell_restart("the daemon went down in the middle of it".to_owned(), None);
            let pause = self.shared.pace(&model, ctx.system().clock.monotonic());
            if !pause.is_zero() {
                return self.pause(pause, ctx);
            }
        }
        // What kills the daemon in this call is counted before.
        if let Some(counted) = self.cell.goes_to_work() {
            self.doing = Doing::Noting;
            return self.commit(vec![counted], ctx);
        }
        let now = ctx.system().clock.now();
        self.cell.update(|progress| {
            progress.fresh = true;
            progress.model = model.clone();
            progress.activity = Activity::Model;
            progress.heard = Some(now);
        });
        self.shared.publish(Event::StepStarted {
            session: self.meta.key.clone(),
            run: self.id(),
            step: self.step,
            model: model.clone(),
        });
        let request = ModelRequest {
            model,
            agent: self.meta.agent.clone(),
            session: self.meta.key.clone(),
            run: self.id(),
            step: self.step,
            system: self.system.clone(),
            transcript: self.transcript.clone(),
            tools: Arc::clone(&self.tools),
        };
        let sink = Arc::new(Listener {
            cell: Arc::clone(&self.cell),
            events: Arc::clone(&self.shared.events),
            system: Arc::clone(ctx.system()),
        });
        let models = Arc::clone(&self.shared.models);
        let cancelled = self.cell.cancelled.clone();
        let step = self.step;
        // The call is made inside of the task, so that its panic is the task's. Once the token is set it is
        // neither begun nor polled again.
        let call = cancelled.run_until_cancelled_owned(async move { models.call(request, sink).await });
        let call = ctx.task(call, move |result| {
            let aborted = || Err(ModelError::new(ModelErrorKind::Failed, "the run was aborted"));
            RunMsg::Answered { step, result: Box::new(result.unwrap_or_else(aborted)) }
        });
        self.doing = Doing::Calling { _call: call };
    }

    pub(super) fn on_answered(&mut self, step: u32, result: Result<Answer, ModelError>, ctx: &mut Ctx<Self>) {
        if step != self.step
            || !matches!(self.doing, Doing::Calling { .. })
            || self.cell.cancelled.is_cancelled()
        {
            return;
        }
        match result {
            Ok(answer) => self.take_answer(answer, ctx),
            Err(error) => self.call_failed(&error, ctx),
        }
    }

    fn take_answer(&mut self, answer: Answer, ctx: &mut Ctx<Self>) {
        self.usage += answer.usage;
        let now = ctx.system().clock.now();
        self.cell.update(|progress| {
            progress.heard = Some(now);
            progress.steps = self.step;
            progress.usage = self.usage;
            if !answer.text.is_empty() {
                progress.text.clone_from(&answer.text);
            }
        });
        let model = self.cell.progress().model;
        self.shared.publish(Event::StepFinished {
            session: self.meta.key.clone(),
            run: self.id(),
            step: self.step,
            model: model.clone(),
            spent: answer.usage,
            usage: self.usage,
        });
        let cut = match answer.stop {
            StopReason::Length => Some("max_tokens"),
            StopReason::Filtered => Some("content_filter"),
            StopReason::End | StopReason::Tools => None,
        };
        let mut calls = if cut.is_some() { Vec::new() } else { answer.tool_calls };
        let repeated = super::tools::tell_apart(&mut calls);
        let entry =
            Entry::Assistant { text: answer.text, tool_calls: calls.clone(), model, usage: answer.usage };
        if calls.is_empty() {
            return self.report(ReportKind::Answered { entry, cut: cut.map(str::to_owned) });
        }
        self.start_tools(calls, &repeated, entry, ctx);
    }

    fn call_failed(&mut self, error: &ModelError, ctx: &mut Ctx<Self>) {
        self.failures += 1;
        let random = ctx.system().ids.below(u64::MAX);
        match retry::next(error.kind, self.failures, error.retry_after, random, &self.limits) {
            Next::Retry(pause) => {
                self.tell_restart(error.to_string(), None);
                self.pause(pause, ctx);
            }
            Next::Fallback if self.models.len() > 1 => {
                let failed = self.models.pop_front();
                let failed = failed.map_or_else(String::new, |model| format!("{model} failed: "));
                self.tell_restart(format!("{failed}{}", full(error)), self.models.front().cloned());
                self.failures = 0;
                self.call_model(ctx);
            }
            Next::Fallback | Next::GiveUp => {
                self.report(ReportKind::Failed { state: Terminal::Error, reason: full(error) });
            }
        }
    }

    /// Nobody holds a place in the lane while it waits for a provider.
    fn pause(&mut self, pause: Duration, ctx: &Ctx<Self>) {
        self.permit = None;
        if let Some(counted) = self.cell.rests() {
            // Where the store does not take it, the run counts as one at work.
            self.shared.commit(vec![counted], |_| {});
        }
        let step = self.step;
        self.cell.turn_to(Activity::BackingOff, ctx.system().clock.now());
        self.doing = Doing::Pausing { _timer: ctx.after(pause, RunMsg::PauseOver { step }) };
    }

    fn tell_restart(&self, reason: String, fallback: Option<ModelRef>) {
        self.shared.publish(Event::StepRestarted {
            session: self.meta.key.clone(),
            run: self.id(),
            step: self.step,
            reason,
            fallback,
        });
    }

    pub(super) fn on_pause_over(&mut self, step: u32, ctx: &Ctx<Self>) {
        if step == self.step && matches!(self.doing, Doing::Pausing { .. }) {
            let now = ctx.system().clock.monotonic();
            self.doing = Doing::Queueing { since: now };
            self.cell.turn_to(Activity::Queueing, ctx.system().clock.now());
            self.cell.deadline(|deadline| deadline.pause(now));
            self.tell_queueing(true);
            self.ask_permit(ctx);
        }
    }

    /// Tells the session that the run's clock stands, because it waits in its lane, or runs again.
    fn tell_queueing(&self, queueing: bool) {
        // A session that is gone takes this run with it.
        drop(self.session.send(SessionMsg::Queueing { run: self.id(), queueing }));
    }

    pub(super) fn on_granted(&mut self, permit: Permit, ctx: &Ctx<Self>) {
        if let Doing::Queueing { since } = self.doing {
            let now = ctx.system().clock.monotonic();
            self.soft_at = self.soft_at.map(|soft| soft + now.since(since));
            self.cell.deadline(|deadline| deadline.run(now));
            self.tell_queueing(false);
            self.permit = Some(permit);
            self.call_model(ctx);
        }
    }
}
