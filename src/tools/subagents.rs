//! `subagents`: lists, cancels and steers the sub-agents of a session.

mod list;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use offshoot_actors::TreeHandle;
use offshoot_actors::policy::tools::Role;
use offshoot_actors::ports::{Storage, ToolOutput};
use offshoot_actors::types::{Mode, Origin, Refusal, RunId, SessionKey, Timestamp};
use offshoot_actors::{Steered, Stopped};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, BadArguments, filled};
use super::family::{Child, Family, find_stored};
use super::reply::{self, Failure, clip};
use super::{Call, Tool, schema};

/// Characters of a steering message.
const MAX_MESSAGE: usize = 4_000;
const DEFAULT_RECENT: u32 = 30;
const MAX_RECENT: u32 = 1_440;
/// Labels that one answer names.
const MAX_LABELS: usize = 50;

pub(super) const TOOL: Tool = Tool {
    name: "subagents",
    description: "See and control your sub-agents. action list shows them; cancel ends one (or all) with everything \
                  it spawned; steer gives one a message before its next step. Their results come to you by \
                  themselves: do not poll with list.",
    parameters: schema::of::<Parameters>,
    parallel: false,
    idempotent: false,
    yields: false,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(run(call)),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// list (if left out), cancel or steer. kill is the older name of cancel.
    action: Option<Action>,
    /// For cancel and steer: place in the list, session key, label, run id or its beginning, last; for cancel also all.
    target: Option<String>,
    /// For steer: what the sub-agent shall know.
    message: Option<String>,
    /// For list: minutes back for those that ended; 30 if left out.
    #[schemars(range(min = 1, max = 1_440))]
    recent_minutes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    List,
    Cancel,
    Kill,
    Steer,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
enum Wish {
    List,
    CancelAll,
    Cancel(String),
    Steer { target: String, message: String },
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Controlled {
    status: &'static str,
    action: Action,
    target: String,
    run_id: RunId,
    session_key: SessionKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cascade_killed: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cascade_labels: Option<Vec<String>>,
    text: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct CancelledAll {
    status: &'static str,
    action: Action,
    target: &'static str,
    killed: usize,
    labels: Vec<String>,
    text: String,
}

async fn run(call: Call) -> Result<ToolOutput, Failure> {
    let Call { context, arguments, now, .. } = call;
    let parameters: Parameters = arguments::read(arguments)?;
    let action = parameters.action.unwrap_or(Action::List);
    let minutes = parameters.recent_minutes.unwrap_or(DEFAULT_RECENT);
    let minutes = arguments::within("recentMinutes", minutes, 1..=MAX_RECENT)?;
    let wish = wish(parameters)?;
    let tree = &context.tree;
    let (storage, caller) = (tree.storage(), &context.session);
    let depth = storage.session(caller.clone()).await?.map_or(0, |row| row.depth);
    let role = Role::at(depth, tree.settings().subagents.max_depth);
    if wish != Wish::List {
        check_role(role)?;
    }
    let back = i64::from(minutes) * 60_000;
    let family = Family::read(storage, caller, Timestamp(now.0.saturating_sub(back))).await?;
    let origin = context.origin.clone();
    match wish {
        Wish::List => {
            let request = list::Request { caller, role, minutes, now };
            Ok(reply::ok(&list::list(storage, &family, &request).await?))
        }
        Wish::CancelAll => {
            let ended = cancel_all(tree, caller, &family, &origin).await?;
            Ok(reply::ok(&all_cancelled(action, &family, &ended)))
        }
        Wish::Cancel(target) => {
            let child = find(storage, caller, &family, &target).await?;
            let stopped = tree.cancel(child.run, origin).await?;
            Ok(reply::ok(&cancelled(action, target, &child, &family, &stopped)))
        }
        Wish::Steer { target, message } => {
            let child = find(storage, caller, &family, &target).await?;
            if !child.state.is_open() && child.mode == Mode::Run {
                return Ok(reply::ok(&done(action, target, &child)));
            }
            let steered = tree.steer(child.session.clone(), message, origin).await?;
            Ok(reply::ok(&steered_reply(target, caller, &child, steered)))
        }
    }
}

fn wish(parameters: Parameters) -> Result<Wish, BadArguments> {
    let target = filled(parameters.target);
    let needed = |target: Option<String>| {
        target.ok_or_else(|| {
            BadArguments("parameter \"target\" must name a sub-agent: see action list".to_owned())
        })
    };
    match parameters.action.unwrap_or(Action::List) {
        Action::List => Ok(Wish::List),
        Action::Cancel | Action::Kill => {
            let target = needed(target)?;
            if target == "*" || target.eq_ignore_ascii_case("all") {
                Ok(Wish::CancelAll)
            } else {
                Ok(Wish::Cancel(target))
            }
        }
        Action::Steer => {
            let message = filled(parameters.message).ok_or_else(|| {
                BadArguments("parameter \"message\" must say what the sub-agent shall know".to_owned())
            })?;
            let characters = message.chars().count();
            if characters > MAX_MESSAGE {
                return Err(BadArguments(format!(
                    "parameter \"message\" has {characters} characters, {MAX_MESSAGE} are allowed"
                )));
            }
            Ok(Wish::Steer { target: needed(target)?, message })
        }
    }
}

fn check_role(role: Role) -> Result<(), Refusal> {
    if role == Role::Leaf {
        return Err(Refusal::forbidden(
            "leaf",
            "Leaf subagents cannot control other sessions.",
            "raise agents.defaults.subagents.maxSpawnDepth to let this session have sub-agents",
        ));
    }
    Ok(())
}

async fn find(
    storage: &Arc<dyn Storage>,
    caller: &SessionKey,
    family: &Family,
    target: &str,
) -> Result<Child, Failure> {
    if let Some(child) = family.find(target)? {
        return Ok(child.clone());
    }
    find_stored(storage, caller, target).await?.ok_or_else(|| unknown(target).into())
}

fn unknown(target: &str) -> Refusal {
    Refusal::error("unknown_target", format!("Unknown subagent target \"{}\".", clip(target, 80).0))
        .with_hint("name one of your own sub-agents: see action list")
}

/// Ends the caller's children, then what is still open below children that had ended before.
async fn cancel_all(
    tree: &TreeHandle,
    caller: &SessionKey,
    family: &Family,
    origin: &Origin,
) -> Result<Vec<RunId>, Refusal> {
    let (children, deeper): (Vec<&Child>, Vec<&Child>) =
        family.children[..family.active].iter().partition(|child| child.parent.as_ref() == Some(caller));
    let mut ended = cancel_each(tree, &children, origin).await?;
    let rest: Vec<&Child> = deeper.into_iter().filter(|child| !ended.contains(&child.run)).collect();
    ended.extend(cancel_each(tree, &rest, origin).await?);
    ended.sort_unstable();
    ended.dedup();
    Ok(ended)
}

async fn cancel_each(tree: &TreeHandle, children: &[&Child], origin: &Origin) -> Result<Vec<RunId>, Refusal> {
    let stops = join_all(children.iter().map(|child| tree.cancel(child.run, origin.clone()))).await;
    let mut ended = Vec::new();
    for stopped in stops {
        ended.extend(stopped?.ended);
    }
    Ok(ended)
}

fn all_cancelled(action: Action, family: &Family, ended: &[RunId]) -> CancelledAll {
    let labels = labels(family, ended, None);
    let text = match ended.len() {
        0 => "No sub-agent was running.".to_owned(),
        1 => format!("Cancelled 1 sub-agent: {}.", labels.join(", ")),
        many => format!("Cancelled {many} sub-agents."),
    };
    CancelledAll { status: "ok", action, target: "all", killed: ended.len(), labels, text }
}

fn cancelled(
    action: Action,
    target: String,
    child: &Child,
    family: &Family,
    stopped: &Stopped,
) -> Controlled {
    if stopped.ended.is_empty() {
        return done(action, target, child);
    }
    let cascade = stopped.ended.iter().filter(|run| **run != child.run).count();
    let name = child.name();
    let text = match cascade {
        0 => format!("Cancelled {name}."),
        1 => format!("Cancelled {name} and 1 sub-agent below it."),
        more => format!("Cancelled {name} and {more} sub-agents below it."),
    };
    Controlled {
        status: "ok",
        action,
        target,
        run_id: child.run,
        session_key: child.session.clone(),
        mode: None,
        label: name,
        cascade_killed: Some(cascade).filter(|more| *more > 0),
        cascade_labels: Some(labels(family, &stopped.ended, Some(child.run)))
            .filter(|labels| !labels.is_empty()),
        text,
    }
}

fn done(action: Action, target: String, child: &Child) -> Controlled {
    let name = child.name();
    Controlled {
        status: "done",
        action,
        target,
        run_id: child.run,
        session_key: child.session.clone(),
        mode: None,
        text: format!("{name} has ended before ({}).", list::status(child.state)),
        label: name,
        cascade_killed: None,
        cascade_labels: None,
    }
}

fn steered_reply(target: String, caller: &SessionKey, child: &Child, steered: Steered) -> Controlled {
    let name = child.name();
    let (run_id, mode, text) = match steered {
        Steered::Queued(run) => (run, "steer", format!("{name} reads the message before its next step.")),
        Steered::Started(run) => {
            let heard = if child.parent.as_ref() == Some(caller) {
                "Its result comes to you by itself."
            } else {
                "Its result is not announced to you: it is not your own sub-agent."
            };
            (run, "restart", format!("{name} had no open run, so the message started one. {heard}"))
        }
    };
    Controlled {
        status: "accepted",
        action: Action::Steer,
        target,
        run_id,
        session_key: child.session.clone(),
        mode: Some(mode),
        label: name,
        cascade_killed: None,
        cascade_labels: None,
        text,
    }
}

fn labels(family: &Family, runs: &[RunId], except: Option<RunId>) -> Vec<String> {
    family
        .children
        .iter()
        .filter(|child| Some(child.run) != except && runs.contains(&child.run))
        .take(MAX_LABELS)
        .map(Child::name)
        .collect()
}

/// A duration for people: `45s`, `3m5s`, `2h10m`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests;
