//! What an agent shall do, as its prompt says it: the scripted model carries out nothing else.
//!
//! A plan is a line of the prompt, so that all that the model needs to know is in the conversation, as with a real one:
//! the model has no memory beside it, and a daemon that loses a part of a conversation gets another behaviour.

use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// What stands before a plan in a prompt.
pub const MARK: &str = "PLAN ";
/// What stands before the name of a call in a steering message, and an angle bracket after it.
pub const STEER: &str = "<steer ";

/// What one run shall do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name, which no other plan has.
    pub token: String,
    pub steps: Vec<Step>,
    /// How long each of its model calls takes, in milliseconds.
    pub pause: u64,
    /// Its first model call is answered when so many calls of this crowd have come.
    pub together: Option<(String, u64)>,
}

/// One model call and the tools that it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Children, all in one step.
    Spawn(Vec<Child>),
    /// So many messages to the child of this name, one after the other: the one tool that is not idempotent, and each
    /// call of it leaves a trace.
    Steer(String, u64),
    /// Looks at what there is, which changes nothing.
    Look,
    Yield,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Child {
    pub mode: String,
    pub cleanup: String,
    pub plan: Plan,
}

impl Plan {
    /// One that replies at once.
    pub fn reply(token: &str) -> Self {
        Self { token: token.to_owned(), steps: Vec::new(), pause: 0, together: None }
    }

    /// Any plan, with at most `levels` of children below it.
    pub fn random(dice: &mut Dice, token: &str, levels: u64) -> Self {
        let pause = if dice.percent(5) { dice.between(100, 600) } else { dice.below(30) };
        let mut plan = Self { pause, ..Self::reply(token) };
        if dice.percent(20) {
            plan.steps.push(Step::Look);
        }
        if levels == 0 || dice.percent(25) {
            return plan;
        }
        let children: Vec<Child> = (0..dice.between(1, 3))
            .map(|number| {
                let below = dice.below(levels);
                let leaf = Self::random(dice, &format!("{token}.{number}"), below);
                let is_leaf = leaf.children().next().is_none();
                let mode = if dice.percent(40) { "session" } else { "run" };
                // What is deleted cannot be looked at; a leaf has nothing that only its transcript tells of.
                let cleanup = if is_leaf && mode == "run" && dice.percent(20) { "delete" } else { "keep" };
                Child { mode: mode.to_owned(), cleanup: cleanup.to_owned(), plan: leaf }
            })
            .collect();
        let steered =
            children.iter().find(|child| child.mode == "session").map(|child| child.plan.token.clone());
        plan.steps.push(Step::Spawn(children));
        if let Some(label) = steered {
            plan.steps.push(Step::Steer(label, dice.between(1, 6)));
        }
        if dice.percent(70) {
            plan.steps.push(Step::Yield);
        }
        plan
    }

    /// One that replies when all of its crowd are at work at the same time.
    pub fn in_crowd(token: &str, crowd: &str, count: u64) -> Self {
        Self { together: Some((crowd.to_owned(), count)), ..Self::reply(token) }
    }

    /// One whose children reply when all of them are at work at the same time.
    pub fn crowd(token: &str, count: u64) -> Self {
        let child = |number| Child {
            mode: "run".to_owned(),
            cleanup: "keep".to_owned(),
            plan: Self::in_crowd(&format!("{token}.{number}"), token, count),
        };
        let steps = vec![Step::Spawn((0..count).map(child).collect()), Step::Yield];
        Self { steps, ..Self::reply(token) }
    }

    pub fn children(&self) -> impl Iterator<Item = &Child> {
        self.steps.iter().flat_map(|step| match step {
            Step::Spawn(children) => children.as_slice(),
            _ => &[],
        })
    }

    pub fn prompt(&self) -> String {
        format!("{MARK}{}", serde_json::to_string(self).unwrap())
    }

    /// The plan in a prompt, if there is one.
    pub fn read(prompt: &str) -> Option<Self> {
        let line = prompt.lines().find_map(|line| line.strip_prefix(MARK))?;
        serde_json::from_str(line).ok()
    }

    /// The name of a tool call: the same whenever the model is asked for the same step.
    pub fn call(&self, step: usize, number: usize) -> String {
        format!("call_{}_{step}_{number}", self.token)
    }

    /// Whether this is the name of a call of this plan.
    pub fn named(&self, call: &str) -> bool {
        call.strip_prefix("call_")
            .and_then(|rest| rest.strip_prefix(&self.token))
            .is_some_and(|rest| rest.starts_with('_'))
    }
}
