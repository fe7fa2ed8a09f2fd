//! What is played, and killed.

use std::time::Duration;

use offshoot_actors::ports::{Answer, ModelError, RunState};
use offshoot_actors::types::{IdempotencyKey, Origin, PromptRequest, RunId, Settings};

use crate::rig::{Call, Rig, call, main_key, request, soon};

/// What a client does after its first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    Nothing,
    /// It says something to the run while that works.
    Steer,
    /// It cancels the run, and once more after a kill if `again`.
    Cancel {
        again: bool,
    },
}

/// Whether it does that now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    Not,
    First,
    Again,
}

pub struct Scenario {
    pub name: &'static str,
    /// The first request: a message to the main session, or a spawn below it.
    pub first: First,
    pub settings: fn(&mut Settings),
    pub middle: Middle,
    #[cfg(feature = "faults")]
    pub faults: Option<std::sync::Arc<dyn offshoot_actors::kit::Faults>>,
}

#[derive(Debug, Clone, Copy)]
pub enum First {
    Say(&'static str),
    Spawn(&'static str),
}

/// The name of the first request.
pub const FIRST: &str = "first";
/// What it says later.
pub const STEER: &str = "hurry";

fn spawns(tasks: &[&str], then: &[(&str, &str)]) -> Answer {
    let spawns = tasks.iter().map(|task| ("spawn", *task));
    let calls = spawns.chain(then.iter().copied()).enumerate();
    Answer::tools(
        calls.map(|(number, (name, arguments))| call(&number.to_string(), name, arguments)).collect(),
    )
}

pub async fn script(call_: Call) -> Result<Answer, ModelError> {
    let task = call_.task();
    let news = || {
        let mut news = call_.news();
        news.sort();
        news.join(",")
    };
    Ok(match (&*task, call_.request.step) {
        ("idle", 1) => spawns(&["one", "work"], &[]),
        ("thinks", 1) | ("in a tool", 2) => spawns(&["one", "two"], &[]),
        ("thinks", 2) => {
            call_.sleep(5_000).await;
            Answer::text("thinks")
        }
        ("in a tool", 1) => spawns(&["one", "two"], &[("wait", "5000"), ("alone", "10")]),
        ("waits", 1) => spawns(&["one", "work", "one"], &[("yield", "")]),
        ("deep", 1) => spawns(&["deeper", "one"], &[("yield", "")]),
        ("deeper", 1) => spawns(&["deepest", "two"], &[("yield", "")]),
        ("deepest", 1) => spawns(&["one"], &[("yield", "")]),
        ("far", 1) => spawns(&["farther"], &[]),
        ("farther", 1) => spawns(&["work", "farthest"], &[]),
        ("farthest", 1) => spawns(&["long"], &[]),
        ("deletes", 1) => spawns(&["delete|one", "delete|deletes below", "two"], &[("yield", "")]),
        ("deletes below", 1) => spawns(&["delete|work"], &[("yield", "")]),
        ("slow", 1) => Answer::tools(vec![call("a", "wait", "1000"), call("b", "wait", "2000")]),
        ("slow", 2) => Answer::tools(vec![call("a", "wait", "1000")]),
        ("slow", _) => Answer::text(call_.messages().join("+")),
        ("waits long", 1) => spawns(&["long", "one"], &[("yield", "")]),
        ("waits long", 2..) if call_.messages().len() == 1 => Answer::text(news()),
        ("waits long", _) => Answer::text(format!("{} {}", call_.messages().join("+"), news())),
        ("late", 1) => spawns(&["timeout=3000|hang", "timeout=9000|hang in a tool", "one"], &[("yield", "")]),
        ("hang", _) => std::future::pending().await,
        ("hang in a tool", 1) => Answer::tools(vec![call("a", "wait", "1000")]),
        ("hang in a tool", _) => Answer::tools(vec![call("a", "wait", "1000000")]),
        ("two", 1) => Answer::tools(vec![call("a", "wait", "10"), call("b", "alone", "20")]),
        ("work", 1) => Answer::tools(vec![call("a", "wait", "3000")]),
        ("long", 1) => Answer::tools(vec![call("a", "wait", "100000")]),
        // A turn on results of children has no message.
        ("", _) => Answer::text("heard"),
        ("idle" | "far" | "farther" | "farthest" | "in a tool", _) => Answer::text(task),
        _ => Answer::text(format!("{task}({})", news())),
    })
}

impl Scenario {
    /// A client's first request, which it may make again.
    pub async fn ask(&self, rig: &Rig) -> RunId {
        let key = IdempotencyKey { key: FIRST.to_owned(), may_repeat: true };
        match self.first {
            First::Say(text) => {
                let mut request = PromptRequest::new(main_key(), text);
                request.idempotency = Some(key);
                soon(text, rig.handle.submit(request, Origin::Operator)).await.unwrap().run
            }
            First::Spawn(arguments) => {
                let mut request = request(main_key(), arguments);
                request.idempotency = Some(key);
                soon(arguments, rig.handle.spawn(request, Origin::Operator)).await.unwrap().run
            }
        }
    }

    /// What the client does later.
    pub async fn later(&self, rig: &Rig, run: RunId, later: Later) {
        match (self.middle, later) {
            (Middle::Nothing, _) | (_, Later::Not) => {}
            (Middle::Steer, Later::First) => {
                rig.until("it is at work", |rig| at_work(rig, run)).await;
                soon("a message", rig.handle.steer(main_key(), STEER.to_owned(), Origin::Operator))
                    .await
                    .unwrap();
            }
            (Middle::Cancel { .. }, Later::First) => {
                rig.until("it waits", |rig| rig.row(run).state == RunState::Yielded && at_work(rig, run))
                    .await;
                soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await.unwrap();
            }
            (Middle::Cancel { again: true }, Later::Again) => {
                rig.sleep(1).await;
                drop(soon("a cancel", rig.handle.cancel(run, Origin::Operator)).await);
            }
            (Middle::Steer | Middle::Cancel { again: false }, Later::Again) => {}
        }
    }
}

/// Whether somebody is in a long tool call.
fn at_work(rig: &Rig, run: RunId) -> bool {
    let (begun, ended) = (rig.log.tools.lock().unwrap().len(), rig.log.tool_ends.lock().unwrap().len());
    rig.row(run).state != RunState::Accepted && begun > ended && {
        let tools = rig.log.tools.lock().unwrap();
        tools.last().is_some_and(|(_, name)| name == "wait")
    }
}

fn scenario(name: &'static str, first: First) -> Scenario {
    Scenario {
        name,
        first,
        settings: |_| {},
        middle: Middle::Nothing,
        #[cfg(feature = "faults")]
        faults: None,
    }
}

fn says(name: &'static str, text: &'static str) -> Scenario {
    scenario(name, First::Say(text))
}

fn soon_asleep(settings: &mut Settings) {
    settings.sleep_after = Duration::from_millis(1);
}

pub fn a_parent_that_is_idle(name: &'static str) -> Scenario {
    says(name, "idle")
}

pub fn a_parent_that_is_in_a_model_call(name: &'static str) -> Scenario {
    says(name, "thinks")
}

pub fn a_parent_that_is_in_a_tool(name: &'static str) -> Scenario {
    says(name, "in a tool")
}

pub fn a_parent_that_sleeps(name: &'static str) -> Scenario {
    Scenario { settings: soon_asleep, ..says(name, "idle") }
}

pub fn a_parent_that_waits(name: &'static str) -> Scenario {
    says(name, "waits")
}

pub fn parents_that_wait_three_deep(name: &'static str) -> Scenario {
    says(name, "deep")
}

pub fn parents_that_sleep_three_deep(name: &'static str) -> Scenario {
    Scenario { settings: soon_asleep, ..says(name, "far") }
}

pub fn a_child_of_a_client(name: &'static str) -> Scenario {
    Scenario { settings: soon_asleep, ..scenario(name, First::Spawn("deepest")) }
}

pub fn children_that_are_deleted(name: &'static str) -> Scenario {
    says(name, "deletes")
}

pub fn a_message_to_a_run(name: &'static str) -> Scenario {
    Scenario { middle: Middle::Steer, ..says(name, "slow") }
}

pub fn a_message_to_a_run_that_waits(name: &'static str) -> Scenario {
    Scenario { middle: Middle::Steer, ..says(name, "waits long") }
}

pub fn a_cancel(name: &'static str) -> Scenario {
    Scenario { middle: Middle::Cancel { again: false }, ..says(name, "waits long") }
}

pub fn a_cancel_that_is_repeated(name: &'static str) -> Scenario {
    Scenario { middle: Middle::Cancel { again: true }, ..says(name, "waits long") }
}

pub fn a_deadline(name: &'static str) -> Scenario {
    says(name, "late")
}
