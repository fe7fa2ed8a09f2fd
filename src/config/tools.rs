//! Which tools agents have, and what those may see.

use offshoot_actors::types::{ToolRules, Visibility};

use super::problem::Kind;
use super::read::{Cursor, Reader};

const PROFILES: &[(&str, &str)] =
    &[("minimal", "minimal"), ("coding", "coding"), ("messaging", "messaging"), ("full", "full")];

const VISIBILITIES: &[(&str, Visibility)] = &[
    ("self", Visibility::Own),
    ("tree", Visibility::Tree),
    ("agent", Visibility::Agent),
    ("all", Visibility::All),
];

/// The rules of `tools` or of an agent's own `tools`.
pub(super) fn rules(parent: &Cursor<'_>, reader: &mut Reader<'_>) -> ToolRules {
    let Some(tools) = reader.section(parent, "tools") else { return ToolRules::default() };
    let rules = lists(&tools, reader);
    let profile = reader.word_at(&tools, "profile", PROFILES).map(str::to_owned);
    if !rules.allow.is_empty()
        && !rules.also_allow.is_empty()
        && let Some(also_allow) = tools.get("alsoAllow")
    {
        reader.error(&also_allow, Kind::Value, "allow stands beside it: put all of its names into allow");
    }
    ToolRules { profile, ..rules }
}

/// `tools.subagents.tools`: changes to what sub-agents are denied.
pub(super) fn subagent_rules(root: &Cursor<'_>, reader: &mut Reader<'_>) -> ToolRules {
    let Some(tools) = root.get("tools") else { return ToolRules::default() };
    let Some(subagents) = reader.section(&tools, "subagents") else { return ToolRules::default() };
    let Some(rules) = reader.section(&subagents, "tools") else { return ToolRules::default() };
    lists(&rules, reader)
}

/// `tools.sessions.visibility`.
pub(super) fn visibility(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Visibility> {
    let tools = root.get("tools")?;
    let sessions = reader.section(&tools, "sessions")?;
    reader.word_at(&sessions, "visibility", VISIBILITIES)
}

fn lists(tools: &Cursor<'_>, reader: &mut Reader<'_>) -> ToolRules {
    ToolRules {
        allow: reader.texts_at(tools, "allow").unwrap_or_default(),
        also_allow: reader.texts_at(tools, "alsoAllow").unwrap_or_default(),
        deny: reader.texts_at(tools, "deny").unwrap_or_default(),
        profile: None,
    }
}
