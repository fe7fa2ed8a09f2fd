//! Which tools agents have, and what those may see.

use offshoot_actors::types::{ToolRules, Visibility};

use super::problem::Kind;
use super::read::{Cursor, Reader};
use super::tool_names::{self, Meaning};

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
        allow: list(tools, "allow", reader),
        also_allow: list(tools, "alsoAllow", reader),
        deny: list(tools, "deny", reader),
        profile: None,
    }
}

/// The patterns of one list, with a warning for each that stands for no tool: it is kept, and has no effect.
fn list(tools: &Cursor<'_>, name: &str, reader: &mut Reader<'_>) -> Vec<String> {
    let Some(list) = reader.list(tools, name) else { return Vec::new() };
    let denies = name == "deny";
    let effect = if denies { "denies" } else { "allows" };
    let mut patterns = Vec::new();
    for item in list.items() {
        let Some(pattern) = reader.filled_text(&item) else { continue };
        match tool_names::meaning(&pattern) {
            Meaning::Here => {}
            Meaning::Absent if denies => {}
            Meaning::Absent => {
                let text =
                    format!("{} is known to OpenClaw, not to Offshoot, so it {effect} nothing", item.quote());
                reader.warning(&item, Kind::NotActedOn, text);
            }
            Meaning::Unknown(nearest) => {
                let hint = nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
                let text = format!("{} stands for no tool, so it {effect} nothing{hint}", item.quote());
                reader.warning(&item, Kind::Reference, text);
            }
        }
        patterns.push(pattern);
    }
    patterns
}
