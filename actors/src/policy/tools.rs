//! Which tools a session has.
//!
//! Each step keeps some of what the one before left: the profile, the rules for every agent, the agent's own
//! rules, what sub-agents may have, and last what the parent has (I6).

use std::sync::Arc;

use crate::ports::ToolSpec;
use crate::types::{AgentSettings, Settings, ToolRules};

/// Denied to every sub-agent: these act on the daemon or on people, who belong to the main session.
const DENIED_TO_SUBAGENTS: &[&str] = &[
    "gateway",
    "agents_list",
    "session_status",
    "progress_card",
    "cron",
    "message",
    "sessions_send",
    "conversations_*",
];

/// Denied to a sub-agent that cannot have children, besides: it has nothing to list, to steer or to wait for.
const DENIED_TO_LEAVES: &[&str] =
    &["subagents", "sessions_list", "sessions_history", "sessions_spawn", "sessions_yield"];

/// The place of a session in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nobody spawned it.
    Main,
    /// A sub-agent that may spawn.
    Orchestrator,
    /// A sub-agent at the deepest level.
    Leaf,
}

impl Role {
    /// The role of a session at `depth` where `max_depth` is the deepest.
    #[must_use]
    pub const fn at(depth: u32, max_depth: u32) -> Self {
        if depth == 0 {
            Self::Main
        } else if depth < max_depth {
            Self::Orchestrator
        } else {
            Self::Leaf
        }
    }

    /// The name in tool results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Orchestrator => "orchestrator",
            Self::Leaf => "leaf",
        }
    }
}

/// The names of the tools that a session of `agent` has, in the order of `catalog`.
///
/// An agent that is no longer configured has what the rules for every agent leave. `ceiling` is what the parent
/// has; none stands for a session without a parent.
#[must_use]
pub fn effective(
    catalog: &[Arc<ToolSpec>],
    settings: &Settings,
    agent: Option<&AgentSettings>,
    role: Role,
    ceiling: Option<&[Arc<str>]>,
) -> Arc<[Arc<str>]> {
    let own = agent.map(|agent| &agent.tools);
    catalog
        .iter()
        .filter(|tool| {
            in_profile(&settings.tools, own, tool)
                && permits(&settings.tools, tool)
                && own.is_none_or(|rules| permits(rules, tool))
                && permits_role(&settings.subagents.tools, role, tool)
                && ceiling.is_none_or(|names| names.contains(&tool.name))
        })
        .map(|tool| Arc::clone(&tool.name))
        .collect()
}

/// Whether a sub-agent at the deepest level lacks this tool for its depth: one with children of its own would have it.
#[must_use]
pub fn withheld_by_depth(
    name: &str,
    catalog: &[Arc<ToolSpec>],
    settings: &Settings,
    agent: Option<&AgentSettings>,
    role: Role,
) -> bool {
    let has = |role| effective(catalog, settings, agent, role, None).iter().any(|tool| &**tool == name);
    role == Role::Leaf && has(Role::Orchestrator) && !has(Role::Leaf)
}

/// What a profile starts with; none for a profile that does not exist.
///
/// Such a profile leaves nothing but what `alsoAllow` names: a typing error must not widen an agent's tools.
#[must_use]
pub fn profile(name: &str) -> Option<&'static [&'static str]> {
    const PROFILES: &[(&str, &[&str])] = &[
        ("minimal", &["session_status"]),
        ("coding", &["group:fs", "group:runtime", "group:web", "group:memory", "group:sessions"]),
        ("messaging", &["group:sessions", "group:messaging"]),
        ("full", &["*"]),
    ];
    let name = name.trim();
    PROFILES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, tools)| *tools)
}

fn in_profile(shared: &ToolRules, own: Option<&ToolRules>, tool: &ToolSpec) -> bool {
    let Some(name) = own.and_then(|rules| rules.profile.as_ref()).or(shared.profile.as_ref()) else {
        return true;
    };
    let also = own
        .map(|rules| &rules.also_allow)
        .filter(|patterns| !patterns.is_empty())
        .unwrap_or(&shared.also_allow);
    any(profile(name).unwrap_or_default(), tool) || any(also, tool)
}

/// Whether rules allow a tool, and do not deny it.
#[must_use]
pub fn permits(rules: &ToolRules, tool: &ToolSpec) -> bool {
    let allowed = rules.allow.is_empty() || any(&rules.allow, tool) || any(&rules.also_allow, tool);
    allowed && !any(&rules.deny, tool)
}

fn permits_role(rules: &ToolRules, role: Role, tool: &ToolSpec) -> bool {
    if role == Role::Main {
        return true;
    }
    let named = any(&rules.allow, tool) || any(&rules.also_allow, tool);
    let denied = any(DENIED_TO_SUBAGENTS, tool) || (role == Role::Leaf && any(DENIED_TO_LEAVES, tool));
    (named || (rules.allow.is_empty() && !denied)) && !any(&rules.deny, tool)
}

fn any<P: AsRef<str>>(patterns: &[P], tool: &ToolSpec) -> bool {
    patterns.iter().any(|pattern| matches(pattern.as_ref(), tool))
}

fn matches(pattern: &str, tool: &ToolSpec) -> bool {
    const GROUP: &str = "group:";
    let pattern = pattern.trim();
    match pattern.split_at_checked(GROUP.len()) {
        Some((prefix, group)) if prefix.eq_ignore_ascii_case(GROUP) => {
            tool.groups.iter().any(|own| own.eq_ignore_ascii_case(group.trim()))
        }
        _ => wildcard(pattern.as_bytes(), tool.name.as_bytes()),
    }
}

/// Whether `name` has the form of `pattern`, where `*` stands for any number of characters, in any case.
#[must_use]
pub fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // The latest star, and how much of the name it takes so far: on a mismatch it takes one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
