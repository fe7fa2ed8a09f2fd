//! What the names in the lists of tools stand for.

use offshoot_actors::policy::tools::wildcard;

use super::check::nearest;

/// Tools of OpenClaw, of either generation, that do not exist here, with the older names of some.
const ABSENT: &[&str] = &[
    "agents_wait",
    "apply-patch",
    "apply_patch",
    "ask_user",
    "automations",
    "bash",
    "browser",
    "canvas",
    "code_execution",
    "computer",
    "conversations_list",
    "conversations_send",
    "conversations_turn",
    "create_goal",
    "cron",
    "dashboard",
    "dismiss_task",
    "edit",
    "exec",
    "gateway",
    "get_goal",
    "heartbeat_respond",
    "image",
    "image_generate",
    "ls",
    "memory_get",
    "memory_search",
    "message",
    "mobile_ui",
    "music_generate",
    "nodes",
    "openclaw",
    "pdf",
    "plugins",
    "portal",
    "process",
    "progress_card",
    "read",
    "screen",
    "secrets",
    "sessions",
    "sessions_search",
    "sessions_send",
    "show_widget",
    "skill_workshop",
    "suggest_task",
    "terminal",
    "theme",
    "tool_call",
    "tool_describe",
    "tool_search",
    "tts",
    "update_goal",
    "update_plan",
    "video_generate",
    "view_image",
    "web_fetch",
    "web_search",
    "whatsapp_login",
    "write",
    "x_search",
];

/// Groups of OpenClaw. That one has no tool here yet is nothing to warn of: profiles name such groups too.
const GROUPS: &[&str] = &[
    "group:agents",
    "group:automation",
    "group:fs",
    "group:media",
    "group:memory",
    "group:messaging",
    "group:nodes",
    "group:openclaw",
    "group:plugins",
    "group:runtime",
    "group:sessions",
    "group:ui",
    "group:web",
];

/// What a name, a group or a pattern with `*` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A tool that there is, or a group.
    Here,
    /// A tool of OpenClaw that does not exist here.
    Absent,
    /// Nothing, and the name that was probably meant.
    Unknown(Option<&'static str>),
}

pub(super) fn meaning(pattern: &str) -> Meaning {
    let pattern = pattern.trim();
    if let Some(group) = without_prefix(pattern) {
        // A group is a name: a star stands for itself in it.
        let known = || GROUPS.iter().filter_map(|name| without_prefix(name));
        if known().any(|known| known.eq_ignore_ascii_case(group)) {
            return Meaning::Here;
        }
        let nearest = nearest(group, known());
        return Meaning::Unknown(GROUPS.iter().copied().find(|name| without_prefix(name) == nearest));
    }
    let is = |name: &str| wildcard(pattern.as_bytes(), name.as_bytes());
    let here = || crate::tools::names().map(|(name, _)| name);
    if here().any(is) {
        Meaning::Here
    } else if ABSENT.iter().copied().any(is) {
        Meaning::Absent
    } else if pattern.contains('*') {
        Meaning::Unknown(None)
    } else {
        Meaning::Unknown(nearest(pattern, here().chain(ABSENT.iter().copied())))
    }
}

/// The name of a group, if it is written as one.
fn without_prefix(pattern: &str) -> Option<&str> {
    const GROUP: &str = "group:";
    let (prefix, group) = pattern.split_at_checked(GROUP.len())?;
    prefix.eq_ignore_ascii_case(GROUP).then(|| group.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_groups_and_patterns_are_told_from_typing_errors() {
        for here in ["sessions_spawn", " SUBAGENTS ", "*", "sessions_*", "group:fs", "Group: Sessions"] {
            assert_eq!(meaning(here), Meaning::Here, "{here}");
        }
        for absent in ["exec", "Bash", "x_*", "web_*", "conversations_*"] {
            assert_eq!(meaning(absent), Meaning::Absent, "{absent}");
        }
        for (unknown, meant) in [
            ("session_spawn", Some("sessions_spawn")),
            ("exce", Some("exec")),
            ("group:sesions", Some("group:sessions")),
            ("group:*", None),
            ("sesions_*", None),
            ("my_plugin_tool", None),
        ] {
            assert_eq!(meaning(unknown), Meaning::Unknown(meant), "{unknown}");
        }
    }

    #[test]
    fn what_there_is_is_not_among_what_is_absent() {
        for (name, groups) in crate::tools::names() {
            assert!(!ABSENT.contains(&name), "{name}");
            assert!(groups.iter().all(|group| meaning(&format!("group:{group}")) == Meaning::Here), "{name}");
        }
    }

    #[test]
    fn a_long_name_is_compared_with_nothing() {
        assert_eq!(meaning(&"s".repeat(1_000_000)), Meaning::Unknown(None));
    }
}
