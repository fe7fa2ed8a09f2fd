//! Results that somebody outside wants: posted to the address that was left, once the run and what it spawned are done.
//!
//! What is to be delivered is in the store, with the attempts that failed and the time of the next one; a restart goes on from
//! there. A receiver may get a result twice, never not at all: the run's id is the key by which it knows a repeat. After the
//! last attempt the delivery stays in the store as failed, until somebody has it tried again or dismisses it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use offshoot_actors::ports::{CallbackMark, CallbackRow, OpenCallback, StoreError};
use offshoot_actors::types::{Outcome, RunId, SessionKey, Timestamp, Usage};
use offshoot_actors::{Settled, TreeHandle, is_silent};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::daemon::{Daemon, VERSION};

/// How long a receiver may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// About a day of attempts.
const MAX_ATTEMPTS: u32 = 300;
/// Before the store is read again that could not be.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// Runs that follow on the results of children, at most so many of them are told.
const MAX_FOLLOWING: u32 = 64;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the actor is told.
#[derive(Debug)]
pub(crate) enum CallbacksMsg {
    /// A result is wanted; the store knows it. From a webhook.
    Kept(CallbackRow),
    /// It is due at once; the store knows it. From a client.
    Retry(RunId),
    /// Nobody wants it any more; the store knows it. From a client.
    Dismissed(RunId),
    /// What an earlier process or an earlier start left. From the store, by the number of the read.
    Found(u64, Found),
    /// Read the store again. From a timer.
    ReadAgain,
    /// A result was delivered, or nobody takes it. From its task, by the task's number.
    Settled(RunId, u64),
}

/// What a read of the store gave.
#[derive(Debug)]
pub(crate) struct Found {
    callbacks: Result<Vec<OpenCallback>, StoreError>,
    /// Runs whose results are to be tried again, which the store did not take.
    refused: BTreeSet<RunId>,
}

impl Msg for CallbacksMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Kept(_) => "kept",
            Self::Retry(_) => "retry",
            Self::Dismissed(_) => "dismissed",
            Self::Found(..) => "found",
            Self::ReadAgain => "read_again",
            Self::Settled(..) => "settled",
        }
    }
}

/// What the actor starts with.
#[derive(Debug)]
pub(crate) struct CallbacksArgs {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) tree: TreeHandle,
}

/// The actor's state.
#[derive(Debug)]
pub(crate) struct Callbacks {
    courier: Courier,
    under_way: BTreeMap<RunId, UnderWay>,
    /// Runs whose deliveries came to an end since the store began to be read, while it is.
    done: Option<BTreeSet<RunId>>,
    /// Runs whose results somebody wants tried again, until that is read.
    renewed: BTreeSet<RunId>,
    tasks: u64,
    /// How often the store was read: what an earlier read gave may be older than what is known since.
    reads: u64,
    reading: Option<Task>,
}

/// One task a run.
#[derive(Debug)]
struct UnderWay {
    /// One that was replaced may still say that it is done.
    number: u64,
    /// Somebody wants it tried again: ends its pause. What is left of it when the task has ended came too late for that.
    at_once: Arc<Notify>,
    _task: Task,
}

impl Behaviour for Callbacks {
    const KIND: &'static str = "callbacks";

    type Msg = CallbacksMsg;
    type Args = CallbacksArgs;
    type Child = Infallible;

    async fn start(args: &mut CallbacksArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let courier =
            Courier { daemon: Arc::clone(&args.daemon), tree: args.tree.clone(), client: Arc::default() };
        args.daemon.set_callbacks(ctx.myself().clone());
        let mut callbacks = Self {
            courier,
            under_way: BTreeMap::new(),
            done: None,
            renewed: BTreeSet::new(),
            tasks: 0,
            reads: 0,
            reading: None,
        };
        callbacks.read(ctx);
        Ok(callbacks)
    }

    fn handle(&mut self, message: CallbacksMsg, ctx: &mut Ctx<Self>) {
        match message {
            CallbacksMsg::Kept(callback) => {
                self.send(OpenCallback { callback, attempts: 0, next: None }, ctx);
            }
            CallbacksMsg::Retry(run) => match self.under_way.get(&run) {
                // An attempt that is being made goes on: the receiver may be about to take it.
                Some(under_way) => under_way.at_once.notify_one(),
                None => self.renew(run, ctx),
            },
            CallbacksMsg::Dismissed(run) => {
                self.under_way.remove(&run);
                self.note_done(run);
            }
            CallbacksMsg::Found(read, found) if read == self.reads => self.found(found, ctx),
            CallbacksMsg::Found(..) => {}
            CallbacksMsg::ReadAgain => self.read(ctx),
            CallbacksMsg::Settled(run, number) => {
                let is_current = |current: &UnderWay| current.number == number;
                if self.under_way.get(&run).is_some_and(is_current) {
                    self.note_done(run);
                    let left = |ended: UnderWay| ended.at_once.notified().now_or_never().is_some();
                    if self.under_way.remove(&run).is_some_and(left) {
                        self.renew(run, ctx);
                    }
                }
            }
        }
    }
}

impl Callbacks {
    fn note_done(&mut self, run: RunId) {
        if let Some(done) = &mut self.done {
            done.insert(run);
        }
    }

    /// Has a result tried again whose task has ended: that nothing more is tried may have been stored after the wish.
    fn renew(&mut self, run: RunId, ctx: &Ctx<Self>) {
        self.renewed.insert(run);
        self.read(ctx);
    }

    fn read(&mut self, ctx: &Ctx<Self>) {
        self.done = Some(BTreeSet::new());
        self.reads += 1;
        let (tree, renewed, read) = (self.courier.tree.clone(), self.renewed.clone(), self.reads);
        let reading = async move {
            let mut refused = BTreeSet::new();
            for run in renewed {
                match tree.renew_callback(run).await {
                    Ok(()) => {}
                    Err(refusal) if refusal.code == "conflict" => {
                        tracing::info!(%run, %refusal, "a result is not sent again: it was delivered or dismissed");
                    }
                    Err(refusal) => {
                        tracing::warn!(%run, %refusal, "a result is sent again as soon as the store takes that");
                        refused.insert(run);
                    }
                }
            }
            Found { callbacks: tree.storage().callbacks().await, refused }
        };
        self.reading = Some(ctx.task(reading, move |found| CallbacksMsg::Found(read, found)));
    }

    fn found(&mut self, Found { callbacks, refused }: Found, ctx: &Ctx<Self>) {
        let callbacks = match callbacks {
            Ok(callbacks) => callbacks,
            Err(error) => {
                tracing::warn!(%error, "results that wait for delivery could not be read");
                self.reading = Some(ctx.after(READ_AGAIN, CallbacksMsg::ReadAgain));
                return;
            }
        };
        let done = self.done.take().unwrap_or_default();
        self.reading = (!refused.is_empty()).then(|| ctx.after(READ_AGAIN, CallbacksMsg::ReadAgain));
        self.renewed = refused;
        for open in callbacks {
            let run = open.callback.run;
            // One that came by message meanwhile is on its way; of another the end may be newer than what was read.
            if !self.under_way.contains_key(&run) && !done.contains(&run) {
                self.send(open, ctx);
            }
        }
    }

    fn send(&mut self, open: OpenCallback, ctx: &Ctx<Self>) {
        self.tasks += 1;
        let (run, number, courier) = (open.callback.run, self.tasks, self.courier.clone());
        let at_once = Arc::new(Notify::new());
        let told = Arc::clone(&at_once);
        let settled = move |()| CallbacksMsg::Settled(run, number);
        let task = ctx.task(async move { courier.deliver(open, &told).await }, settled);
        self.under_way.insert(run, UnderWay { number, at_once, _task: task });
    }
}

/// Waits for a result and brings it where it is wanted.
#[derive(Debug, Clone)]
struct Courier {
    daemon: Arc<Daemon>,
    tree: TreeHandle,
    /// Made for the first result: most daemons deliver none, and TLS takes its memory.
    client: Arc<OnceLock<reqwest::Client>>,
}

impl Courier {
    async fn deliver(&self, open: OpenCallback, at_once: &Notify) {
        let OpenCallback { callback, mut attempts, next } = open;
        let run = callback.run;
        let Some((session, body)) = self.result(&callback).await else { return };
        let traceparent = self.daemon.traces.traceparent(run, &session);
        if let Some(next) = next {
            // The calendar may have jumped: no pause is longer than the longest.
            self.pause((next - self.daemon.clock.now()).min(LONGEST_PAUSE), &mut attempts, at_once).await;
        }
        loop {
            let (reason, wanted) = match self.post(&callback, body.clone(), traceparent.as_deref()).await {
                Posted::Taken => {
                    let mark = CallbackMark::Delivered { at: self.daemon.clock.now() };
                    self.mark(&callback, mark).await;
                    return;
                }
                Posted::Unwanted(reason) => (reason, false),
                Posted::Failed(reason) => (reason, true),
            };
            attempts = attempts.saturating_add(1);
            if !wanted || attempts >= MAX_ATTEMPTS {
                // Somebody had it tried again while this attempt was made: then it was not the last one.
                if at_once.notified().now_or_never().is_none() {
                    return self.give_up(&callback, reason, attempts).await;
                }
                attempts = 0;
                continue;
            }
            tracing::info!(%run, attempts, reason, "a result was not taken; it is sent again");
            let pause = pause(attempts - 1);
            let next: Timestamp = self.daemon.clock.now() + pause;
            let mark = CallbackMark::Failed { reason, attempts, next: Some(next) };
            if !self.mark(&callback, mark).await {
                return;
            }
            self.pause(pause, &mut attempts, at_once).await;
        }
    }

    /// The result and its session, once all of it is there; none where there will be none.
    async fn result(&self, callback: &CallbackRow) -> Option<(SessionKey, String)> {
        let run = callback.run;
        let mut asked = 0;
        loop {
            match self.tree.settled(run, MAX_FOLLOWING).await {
                Ok(settled) => {
                    return Some((settled.row.session.clone(), document(&settled).to_string()));
                }
                Err(refusal) if refusal.code == "unknown_run" => {
                    self.give_up(callback, refusal.message, 0).await;
                    return None;
                }
                Err(refusal) => {
                    tracing::warn!(%run, %refusal, "a result that is wanted outside could not be read; it is read again");
                }
            }
            self.daemon.clock.sleep(pause(asked)).await;
            asked = asked.saturating_add(1);
        }
    }

    /// A pause that somebody may end, who has the attempts counted anew.
    async fn pause(&self, pause: Duration, attempts: &mut u32, at_once: &Notify) {
        tokio::select! {
            () = self.daemon.clock.sleep(pause) => {}
            () = at_once.notified() => *attempts = 0,
        }
    }

    async fn give_up(&self, callback: &CallbackRow, reason: String, attempts: u32) {
        let run = callback.run;
        tracing::warn!(
            %run, attempts, reason,
            "a result was not taken and is not sent again; `offshoot deliveries retry {run}` sends it"
        );
        self.mark(callback, CallbackMark::Failed { reason, attempts, next: None }).await;
    }

    fn client(&self) -> reqwest::Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn post(&self, callback: &CallbackRow, body: String, traceparent: Option<&str>) -> Posted {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return Posted::Failed(error.to_string()),
        };
        let request = client
            .post(callback.address.expose())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(IDEMPOTENCY_KEY, callback.run.to_string())
            .body(body);
        let request = match traceparent {
            Some(traceparent) => request.header(TRACEPARENT, traceparent),
            None => request,
        };
        match request.send().await {
            Ok(response) => posted(response.status()),
            // The address may hold a secret, and errors repeat it.
            Err(error) => Posted::Failed(error.without_url().to_string()),
        }
    }

    /// Keeps what became of an attempt, as soon as the store takes it. False where nobody wants the result any more, or it is
    /// wanted once more.
    async fn mark(&self, callback: &CallbackRow, mark: CallbackMark) -> bool {
        let run = callback.run;
        let mut refused = 0;
        loop {
            match self.tree.mark_callback(callback.clone(), mark.clone()).await {
                Ok(()) => return true,
                Err(refusal) if refusal.code == "conflict" => {
                    tracing::debug!(%run, "the result was dismissed, or is wanted once more");
                    return false;
                }
                Err(refusal) => {
                    tracing::warn!(%run, %refusal, "what became of a result that is wanted outside could not be stored");
                }
            }
            self.daemon.clock.sleep(pause(refused)).await;
            refused = refused.saturating_add(1);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Posted {
    Taken,
    /// It says that it never will.
    Unwanted(String),
    Failed(String),
}

fn posted(status: StatusCode) -> Posted {
    if status.is_success() {
        Posted::Taken
    } else if status == StatusCode::GONE {
        Posted::Unwanted(format!("the receiver answered {status}: it does not want the result any more"))
    } else {
        Posted::Failed(format!("the receiver answered {status}"))
    }
}

fn pause(attempt: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.pow(attempt.min(16))).min(LONGEST_PAUSE)
}

fn document(settled: &Settled) -> Value {
    let Settled { row, outcome, follow_ups: following } = settled;
    let said = |outcome: &Outcome| outcome.text.clone().filter(|text| !is_silent(text));
    let last = following.iter().rev().filter_map(|run| run.outcome.as_ref()).find_map(said);
    let usage: Usage = std::iter::once(row).chain(following).map(|run| run.usage).sum();
    let follow_ups: Vec<Value> = following
        .iter()
        .filter_map(|run| {
            let outcome = run.outcome.as_ref()?;
            Some(json!({ "runId": run.id, "status": outcome.state, "reason": outcome.reason, "text": outcome.text }))
        })
        .collect();
    json!({
        "event": "run.ended",
        "runId": row.id,
        "sessionKey": row.session,
        "agentId": row.session.agent(),
        "status": outcome.state,
        "reason": outcome.reason,
        "text": last.or_else(|| outcome.text.clone()),
        "followUps": follow_ups,
        "usage": { "input": usage.input, "output": usage.output, "total": usage.total() },
        "endedAt": row.ended_at.map(|at| at.0),
        "version": VERSION,
    })
}

#[cfg(test)]
mod kills;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!(pause(0), Duration::from_secs(1));
        assert_eq!(pause(3), Duration::from_secs(8));
        assert_eq!(pause(MAX_ATTEMPTS), LONGEST_PAUSE);
        let all: Duration = (0..MAX_ATTEMPTS).map(pause).sum();
        assert!(all > Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn only_a_yes_settles_and_only_a_final_no_ends() {
        assert_eq!(posted(StatusCode::NO_CONTENT), Posted::Taken);
        assert!(matches!(posted(StatusCode::GONE), Posted::Unwanted(_)));
        for other in [StatusCode::FOUND, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            assert!(matches!(posted(other), Posted::Failed(_)), "{other}");
        }
    }
}
