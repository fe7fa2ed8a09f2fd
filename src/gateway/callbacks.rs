//! Results that somebody outside wants: posted to the address that was left, once the run and what it spawned are done.
//!
//! What is to be delivered is in the store until it was; after a restart it is read from there. A receiver may get a result
//! twice, never not at all: the run's id is the key by which it knows a repeat.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName};
use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use offshoot_actors::ports::{CallbackRow, StoreError};
use offshoot_actors::types::{Outcome, RunId, Usage};
use offshoot_actors::{Settled, TreeHandle, is_silent};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

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

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the actor is told.
#[derive(Debug)]
pub(crate) enum CallbacksMsg {
    /// A result is wanted; the store knows it. From a webhook.
    Kept(CallbackRow),
    /// What an earlier process or an earlier start left. From the store.
    Found(Result<Vec<CallbackRow>, StoreError>),
    /// Read the store again. From a timer.
    ReadAgain,
    /// A result was delivered, or nobody takes it. From its task, by the task's number.
    Settled(RunId, u64),
}

impl Msg for CallbacksMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Kept(_) => "kept",
            Self::Found(_) => "found",
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
    /// One task a run, with its number: one that was replaced may still say that it is done.
    under_way: BTreeMap<RunId, (u64, Task)>,
    tasks: u64,
    _reading: Task,
}

impl Behaviour for Callbacks {
    const KIND: &'static str = "callbacks";

    type Msg = CallbacksMsg;
    type Args = CallbacksArgs;
    type Child = Infallible;

    async fn start(args: &mut CallbacksArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| StartError(format!("results cannot be delivered: {error}")))?;
        let courier = Courier { daemon: Arc::clone(&args.daemon), tree: args.tree.clone(), client };
        let reading = ctx.task(args.tree.storage().callbacks(), CallbacksMsg::Found);
        args.daemon.set_callbacks(ctx.myself().clone());
        Ok(Self { courier, under_way: BTreeMap::new(), tasks: 0, _reading: reading })
    }

    fn handle(&mut self, message: CallbacksMsg, ctx: &mut Ctx<Self>) {
        match message {
            CallbacksMsg::Kept(callback) => self.send(callback, ctx),
            CallbacksMsg::Found(Ok(callbacks)) => {
                for callback in callbacks {
                    // One that came by message meanwhile is on its way.
                    if !self.under_way.contains_key(&callback.run) {
                        self.send(callback, ctx);
                    }
                }
            }
            CallbacksMsg::Found(Err(error)) => {
                tracing::warn!(%error, "results that wait for delivery could not be read");
                self._reading = ctx.after(READ_AGAIN, CallbacksMsg::ReadAgain);
            }
            CallbacksMsg::ReadAgain => {
                self._reading = ctx.task(self.courier.tree.storage().callbacks(), CallbacksMsg::Found);
            }
            CallbacksMsg::Settled(run, number) => {
                if self.under_way.get(&run).is_some_and(|(current, _)| *current == number) {
                    self.under_way.remove(&run);
                }
            }
        }
    }
}

impl Callbacks {
    fn send(&mut self, callback: CallbackRow, ctx: &Ctx<Self>) {
        self.tasks += 1;
        let (run, number, courier) = (callback.run, self.tasks, self.courier.clone());
        let settled = move |()| CallbacksMsg::Settled(run, number);
        let task = ctx.task(async move { courier.deliver(&callback).await }, settled);
        self.under_way.insert(run, (number, task));
    }
}

/// Waits for a result and brings it where it is wanted.
#[derive(Debug, Clone)]
struct Courier {
    daemon: Arc<Daemon>,
    tree: TreeHandle,
    client: reqwest::Client,
}

impl Courier {
    async fn deliver(&self, callback: &CallbackRow) {
        let run = callback.run;
        let mut asked = 0;
        let body = loop {
            match self.tree.settled(run, MAX_FOLLOWING).await {
                Ok(settled) => break document(&settled).to_string(),
                Err(refusal) if refusal.code == "unknown_run" => {
                    return self.settle(callback, "there is no such run").await;
                }
                Err(refusal) => {
                    tracing::warn!(%run, %refusal, "a result that is wanted outside could not be read; it is read again");
                }
            }
            self.daemon.clock.sleep(pause(asked)).await;
            asked = asked.saturating_add(1);
        };
        for attempt in 0..MAX_ATTEMPTS {
            match self.post(callback, body.clone()).await {
                Posted::Taken => return self.settle(callback, "delivered").await,
                Posted::Unwanted => {
                    return self.settle(callback, "the receiver does not want it any more").await;
                }
                Posted::Failed(reason) => {
                    tracing::info!(%run, attempt, reason, "a result was not taken; it is sent again");
                }
            }
            self.daemon.clock.sleep(pause(attempt)).await;
        }
        tracing::warn!(%run, "a result was not taken in a day; it is not sent again");
        self.settle(callback, "given up").await;
    }

    async fn post(&self, callback: &CallbackRow, body: String) -> Posted {
        let request = self
            .client
            .post(callback.address.expose())
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(IDEMPOTENCY_KEY, callback.run.to_string())
            .body(body);
        match request.send().await {
            Ok(response) => posted(response.status()),
            // The address may hold a secret, and errors repeat it.
            Err(error) => Posted::Failed(error.without_url().to_string()),
        }
    }

    async fn settle(&self, callback: &CallbackRow, how: &str) {
        let run = callback.run;
        tracing::debug!(%run, how, "a result that was wanted outside is settled");
        match self.tree.drop_callback(callback.clone()).await {
            Ok(()) => {}
            Err(refusal) if refusal.code == "conflict" => {
                tracing::debug!(%run, "the result is wanted once more");
            }
            Err(refusal) => {
                tracing::warn!(%run, %refusal, "a delivered result could not be forgotten; it is sent again after a restart");
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Posted {
    Taken,
    /// It says that it never will.
    Unwanted,
    Failed(String),
}

fn posted(status: StatusCode) -> Posted {
    if status.is_success() {
        Posted::Taken
    } else if status == StatusCode::GONE {
        Posted::Unwanted
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
        assert_eq!(posted(StatusCode::GONE), Posted::Unwanted);
        for other in [StatusCode::FOUND, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
            assert!(matches!(posted(other), Posted::Failed(_)), "{other}");
        }
    }
}
