//! Whether a spawn is admitted, and what the child gets.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::tools::{Role, effective};
use crate::ports::{ModelError, ToolSpec};
use crate::types::{
    AgentId, AgentSettings, AllowAgents, Cleanup, MAX_TIMEOUT, Mode, ModelChoice, ModelRef, Refusal,
    SessionKey, Settings, SpawnRequest,
};

/// Longest name that a client may give or use, of a run, a request, a model or an agent, in bytes.
pub const MAX_NAME: usize = 512;

/// Names that a refusal spells out.
const MAX_LISTED: usize = 32;
/// Characters of a client's text that a refusal repeats.
const MAX_QUOTED: usize = 80;

/// The session that asks.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its name.
    pub key: &'a SessionKey,
    /// Its agent.
    pub agent: &'a AgentId,
    /// Its depth; a main session has 0.
    pub depth: u32,
    /// The tools that it has itself.
    pub tools: &'a Arc<[Arc<str>]>,
    /// The model of the run that asks, else the session's own, where the agent's does not apply.
    pub active_model: Option<&'a ModelChoice>,
    /// Whether it, or a session above it, is being stopped.
    pub stopping: bool,
}

/// What is open and reserved at the moment of the decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Children of the parent.
    pub children: u32,
    /// Descendants of the root of the parent's tree.
    pub descendants: u32,
}

/// An admitted spawn with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The target agent.
    pub agent: AgentId,
    /// The model and its fallbacks.
    pub model: ModelChoice,
    /// The hard deadline, in whole milliseconds; none means none.
    pub timeout: Option<Duration>,
    /// The child's depth.
    pub depth: u32,
    /// The tools that the child has.
    pub tools: Arc<[Arc<str>]>,
    /// Whether the child session stays.
    pub mode: Mode,
    /// What happens to it afterwards; a session that stays is kept.
    pub cleanup: Cleanup,
    /// A name for people, on one line.
    pub label: Option<String>,
    /// The task, without white space around it.
    pub task: String,
}

/// Whether every text of a spawn is short enough to be worked on at all. Comes before all else, [`admit`] included.
///
/// # Errors
/// The first text that is too long. The refusal does not repeat it.
pub fn check_lengths(request: &SpawnRequest, settings: &Settings) -> Result<(), Refusal> {
    check_name("the idempotency key", request.idempotency.as_ref().map(|named| named.key.as_str()))?;
    check_name("the agentId", request.agent.as_deref())?;
    check_name("the model", request.model.as_deref())?;
    check_task(&request.task, settings)?;
    check_label(request.label.as_deref().unwrap_or_default(), settings)
}

/// Whether a name that a client gave, if it gave one, is at most [`MAX_NAME`] long.
///
/// # Errors
/// It is longer. The refusal does not repeat it.
pub fn check_name(what: &str, name: Option<&str>) -> Result<(), Refusal> {
    if name.is_none_or(|name| name.len() <= MAX_NAME) {
        return Ok(());
    }
    Err(Refusal::error("too_long", format!("{what} is longer than {MAX_NAME} bytes"))
        .with_hint("use a shorter one"))
}

/// Decides on a spawn. The caller reserves what it admits before it decides on the next.
///
/// # Errors
/// The first rule that says no, in the order in which clients of the protocol know them, with the setting that
/// changes it.
pub fn admit(
    request: &SpawnRequest,
    parent: &Parent<'_>,
    settings: &Settings,
    counters: Counters,
    resolve: &dyn Fn(&str) -> Result<ModelRef, ModelError>,
    catalog: &[Arc<ToolSpec>],
) -> Result<Admitted, Refusal> {
    let named = request.agent.as_deref().map(str::trim).filter(|id| !id.is_empty());
    let target = match named {
        Some(id) => id.parse().map_err(|_| invalid_agent(id))?,
        None => parent.agent.clone(),
    };
    check_depth(parent, settings)?;
    check_children(settings, counters)?;
    check_named(named.is_some(), parent, settings)?;
    let agent = check_target(&target, named.is_some(), parent, settings)?;
    check_descendants(settings, counters)?;
    if parent.stopping {
        return Err(Refusal::forbidden(
            "stopping",
            format!("session {} is being stopped", parent.key),
            "spawn from another session, or again once the stop is done",
        ));
    }
    let model = model(request, agent, parent, settings, resolve)?;
    let task = task(&request.task, settings)?;
    let label = request.label.as_deref().map_or(Ok(None), |label| checked_label(label, settings))?;
    let timeout = deadline(
        request.timeout,
        settings.subagents.run_timeout,
        "agents.defaults.subagents.runTimeoutSeconds",
    )?;
    let depth = parent.depth + 1;
    let role = Role::at(depth, settings.subagents.max_depth);
    Ok(Admitted {
        tools: effective(catalog, settings, Some(agent), role, Some(parent.tools)),
        agent: target,
        model,
        timeout,
        depth,
        mode: request.mode,
        cleanup: match request.mode {
            Mode::Run => request.cleanup,
            Mode::Session => Cleanup::Keep,
        },
        label,
        task,
    })
}

/// The agents that a session of `requester` may name in a spawn, in the order of the configuration, and whether
/// its list allows every configured agent.
#[must_use]
pub fn targets(settings: &Settings, requester: &AgentId) -> (Vec<AgentId>, bool) {
    match allow_list(settings, requester) {
        None => (settings.agent(requester).map(|agent| agent.id.clone()).into_iter().collect(), false),
        Some(AllowAgents::Any) => (settings.agents.keys().cloned().collect(), true),
        Some(AllowAgents::Only(ids)) => {
            (ids.iter().filter(|id| settings.agents.contains_key(id)).cloned().collect(), false)
        }
    }
}

/// Whether a spawn by `requester` must name its agent.
#[must_use]
pub fn requires_agent_id(settings: &Settings, requester: &AgentId) -> bool {
    settings
        .agent(requester)
        .and_then(|agent| agent.subagents.require_agent_id)
        .unwrap_or(settings.subagents.require_agent_id)
}

/// The deadline of a run in whole milliseconds: what its request asks for, else what is configured. Zero is none.
///
/// # Errors
/// It is longer than [`MAX_TIMEOUT`].
pub fn deadline(
    asked: Option<Duration>,
    configured: Option<Duration>,
    setting: &str,
) -> Result<Option<Duration>, Refusal> {
    match asked.or(configured) {
        None | Some(Duration::ZERO) => Ok(None),
        Some(timeout) if timeout > MAX_TIMEOUT => {
            let message = format!("a timeout of {} seconds is too long", timeout.as_secs());
            let most = MAX_TIMEOUT.as_secs();
            let hint = format!("use at most {most} seconds, or 0 for none, in the request or in {setting}");
            Err(Refusal::error("timeout", message).with_hint(hint))
        }
        // Rows hold milliseconds; rounded up, so that a short deadline does not become none.
        Some(timeout) => Ok(Some(Duration::from_millis(
            u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
        ))),
    }
}

fn allow_list<'a>(settings: &'a Settings, requester: &AgentId) -> Option<&'a AllowAgents> {
    own_list(settings, requester).or(settings.subagents.allow_agents.as_ref())
}

fn own_list<'a>(settings: &'a Settings, requester: &AgentId) -> Option<&'a AllowAgents> {
    settings.agent(requester).and_then(|agent| agent.subagents.allow_agents.as_ref())
}

fn check_depth(parent: &Parent<'_>, settings: &Settings) -> Result<(), Refusal> {
    let max = settings.subagents.max_depth;
    if parent.depth < max {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "depth",
        format!("sessions_spawn is not allowed at this depth (current depth: {}, max: {max})", parent.depth),
        "raise agents.defaults.subagents.maxSpawnDepth (1 to 64)",
    ))
}

fn check_children(settings: &Settings, counters: Counters) -> Result<(), Refusal> {
    let (open, max) = (counters.children, settings.subagents.max_children);
    if open < max {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "children",
        format!("sessions_spawn has reached max active children for this session ({open}/{max})"),
        "wait until a child ends, or raise agents.defaults.subagents.maxChildrenPerAgent (1 to 1,000,000)",
    ))
}

fn check_descendants(settings: &Settings, counters: Counters) -> Result<(), Refusal> {
    let (open, max) = (counters.descendants, settings.subagents.max_descendants);
    if open < max {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "descendants",
        format!("sessions_spawn has reached max active descendants for this tree ({open}/{max})"),
        "wait until a descendant ends, or raise agents.defaults.subagents.maxDescendants",
    ))
}

fn check_named(named: bool, parent: &Parent<'_>, settings: &Settings) -> Result<(), Refusal> {
    if named || !requires_agent_id(settings, parent.agent) {
        return Ok(());
    }
    Err(Refusal::forbidden(
        "agent_required",
        "sessions_spawn requires explicit agentId when requireAgentId is configured. \
         Use agents_list to see allowed agent ids.",
        format!(
            "give an agentId, or set agents.defaults.subagents.requireAgentId (or subagents.requireAgentId of \
             agent {}) to false",
            parent.agent
        ),
    ))
}

fn check_target<'a>(
    target: &AgentId,
    named: bool,
    parent: &Parent<'_>,
    settings: &'a Settings,
) -> Result<&'a AgentSettings, Refusal> {
    let permitted = match allow_list(settings, parent.agent) {
        _ if !named => true,
        None => target == parent.agent,
        Some(AllowAgents::Any) => true,
        Some(AllowAgents::Only(ids)) => ids.contains(target),
    };
    let agent = settings.agent(target);
    match agent {
        Some(agent) if permitted => return Ok(agent),
        _ => {}
    }
    let mut hint = String::new();
    if !permitted {
        let _ = match own_list(settings, parent.agent) {
            Some(_) => write!(
                hint,
                "add {target} to subagents.allowAgents of agent {}, which replaces \
                 agents.defaults.subagents.allowAgents",
                parent.agent
            ),
            None => write!(
                hint,
                "add {target} to agents.defaults.subagents.allowAgents, or to subagents.allowAgents of agent {}",
                parent.agent
            ),
        };
    }
    if agent.is_none() {
        let joint = if permitted { "" } else { ", and " };
        let _ = write!(
            hint,
            "{joint}add an agent with the id {target} to agents.list (configured: {})",
            listed(settings.agents.keys())
        );
    }
    let allowed = match allow_list(settings, parent.agent) {
        None => Vec::new(),
        Some(_) => targets(settings, parent.agent).0,
    };
    Err(Refusal::forbidden(
        if permitted { "agent_unknown" } else { "agent_not_allowed" },
        format!("agentId is not allowed for sessions_spawn (allowed: {})", listed(allowed.iter())),
        hint,
    ))
}

fn model(
    request: &SpawnRequest,
    agent: &AgentSettings,
    parent: &Parent<'_>,
    settings: &Settings,
    resolve: &dyn Fn(&str) -> Result<ModelRef, ModelError>,
) -> Result<ModelChoice, Refusal> {
    let refusal = |name: &str, error: &ModelError, hint: String| {
        Refusal::error("model", format!("model {:?} cannot be used: {error}", quoted(name))).with_hint(hint)
    };
    if let Some(name) = request.model.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        let primary = resolve(name).map_err(|error| {
            let hint = "name a model as provider/model with a provider of models.providers, or leave it out";
            refusal(name, &error, hint.to_owned())
        })?;
        return Ok(ModelChoice { primary, fallbacks: Vec::new() });
    }
    let same_agent = agent.id == *parent.agent;
    let (choice, setting) = if let Some(own) = &agent.subagents.model {
        (own, format!("subagents.model of agent {}", agent.id))
    } else if let Some(shared) = &settings.subagents.model {
        (shared, "agents.defaults.subagents.model".to_owned())
    } else if let Some(active) = parent.active_model.filter(|_| same_agent) {
        (active, format!("the model that session {} runs with", parent.key))
    } else {
        (&agent.model, format!("the model of agent {}", agent.id))
    };
    let name = choice.primary.as_str();
    let primary = resolve(name)
        .map_err(|error| refusal(name, &error, format!("it comes from {setting}: change it there")))?;
    Ok(ModelChoice { primary, fallbacks: choice.fallbacks.clone() })
}

fn task(text: &str, settings: &Settings) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return Err(
            Refusal::error("task_empty", "task is empty").with_hint("say what the sub-agent shall do")
        );
    }
    check_task(text, settings)?;
    Ok(text.to_owned())
}

fn check_task(text: &str, settings: &Settings) -> Result<(), Refusal> {
    let max = settings.prompts.max_text;
    if text.len() <= max {
        return Ok(());
    }
    let message = format!("task has {} bytes, {max} are allowed", text.len());
    Err(Refusal::error("task_too_long", message)
        .with_hint("shorten it, or leave the material where the sub-agent can read it"))
}

/// One line: a label stands in lists and on terminals.
fn checked_label(label: &str, settings: &Settings) -> Result<Option<String>, Refusal> {
    check_label(label.trim(), settings)?;
    let line = label.replace(char::is_control, " ");
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}

fn check_label(label: &str, settings: &Settings) -> Result<(), Refusal> {
    let max = settings.prompts.max_label;
    if label.len() <= max {
        return Ok(());
    }
    let message = format!("label has {} bytes, {max} are allowed", label.len());
    Err(Refusal::error("label_too_long", message).with_hint("shorten it"))
}

fn invalid_agent(id: &str) -> Refusal {
    Refusal::error(
        "agent_id",
        format!(
            "Invalid agentId \"{}\". Agent IDs must match [a-z0-9][a-z0-9_-]{{0,63}}. \
             Use agents_list to discover valid targets.",
            quoted(id)
        ),
    )
    .with_hint("use the id of an agent of agents.list")
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn listed<'a>(ids: impl ExactSizeIterator<Item = &'a AgentId>) -> String {
    let more = ids.len().saturating_sub(MAX_LISTED);
    let names: Vec<&str> = ids.take(MAX_LISTED).map(AgentId::as_str).collect();
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
