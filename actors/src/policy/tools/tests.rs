use proptest::prelude::*;

use super::*;
use crate::types::{AgentId, ModelChoice, ModelRef, SubagentOverrides};

const SESSIONS: &[&str] = &["sessions", "openclaw"];

fn catalog() -> Vec<Arc<ToolSpec>> {
    let tool = |name: &str, groups| {
        Arc::new(ToolSpec {
            name: name.into(),
            description: "".into(),
            parameters: "{}".into(),
            parallel: true,
            idempotent: true,
            yields: false,
            groups,
        })
    };
    vec![
        tool("sessions_spawn", SESSIONS),
        tool("subagents", SESSIONS),
        tool("sessions_list", SESSIONS),
        tool("sessions_history", SESSIONS),
        tool("sessions_yield", SESSIONS),
        tool("session_status", SESSIONS),
        tool("agents_list", &["agents", "openclaw"]),
        tool("read", &["fs"]),
        tool("write", &["fs"]),
        tool("message", &["messaging", "openclaw"]),
    ]
}

fn settings(tools: ToolRules) -> Settings {
    let model: ModelRef = "builtin/rehearsal".parse().unwrap();
    Settings { tools, ..Settings::with_model("main".parse().unwrap(), model) }
}

fn agent(tools: ToolRules) -> AgentSettings {
    let id: AgentId = "main".parse().unwrap();
    AgentSettings {
        id,
        name: None,
        model: ModelChoice { primary: "builtin/rehearsal".parse().unwrap(), fallbacks: Vec::new() },
        system_prompt: None,
        tools,
        subagents: SubagentOverrides::default(),
        recovery: crate::types::RecoveryOverrides::default(),
    }
}

fn rules(allow: &[&str], also_allow: &[&str], deny: &[&str], profile: Option<&str>) -> ToolRules {
    let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    ToolRules {
        allow: owned(allow),
        also_allow: owned(also_allow),
        deny: owned(deny),
        profile: profile.map(str::to_owned),
    }
}

fn names(tools: &[Arc<str>]) -> Vec<&str> {
    tools.iter().map(AsRef::as_ref).collect()
}

fn main_tools(shared: ToolRules, own: ToolRules) -> Vec<String> {
    let tools = effective(&catalog(), &settings(shared), Some(&agent(own)), Role::Main, None);
    tools.iter().map(ToString::to_string).collect()
}

#[test]
fn without_rules_a_main_session_has_everything() {
    assert_eq!(main_tools(ToolRules::default(), ToolRules::default()).len(), catalog().len());
}

#[test]
fn profiles_are_a_starting_set_that_also_allow_widens() {
    let minimal = rules(&[], &[], &[], Some("Minimal"));
    assert_eq!(main_tools(minimal, ToolRules::default()), ["session_status"]);
    let widened = rules(&[], &["read"], &[], Some("minimal"));
    assert_eq!(main_tools(widened, ToolRules::default()), ["session_status", "read"]);
    let coding = main_tools(rules(&[], &[], &[], Some("coding")), ToolRules::default());
    assert!(coding.contains(&"sessions_spawn".to_owned()) && coding.contains(&"write".to_owned()));
    assert!(!coding.contains(&"message".to_owned()) && !coding.contains(&"agents_list".to_owned()));
}

#[test]
fn an_agents_profile_replaces_the_shared_one() {
    let full = main_tools(rules(&[], &[], &[], Some("minimal")), rules(&[], &[], &[], Some("full")));
    assert_eq!(full.len(), catalog().len());
}

#[test]
fn an_unknown_profile_leaves_nothing_but_what_is_named() {
    assert_eq!(main_tools(rules(&[], &["read"], &[], Some("codign")), ToolRules::default()), ["read"]);
}

#[test]
fn patterns_know_groups_stars_and_no_case() {
    let fs = rules(&["GROUP:Fs", "Sessions_*"], &[], &["*_YIELD"], None);
    assert_eq!(
        main_tools(fs, ToolRules::default()),
        ["sessions_spawn", "sessions_list", "sessions_history", "read", "write"]
    );
}

#[test]
fn deny_wins_in_its_scope_and_in_the_next() {
    assert!(main_tools(rules(&["*"], &[], &["*"], None), ToolRules::default()).is_empty());
    let own = main_tools(rules(&[], &[], &["group:fs"], None), rules(&["read", "subagents"], &[], &[], None));
    assert_eq!(own, ["subagents"]);
}

#[test]
fn an_allow_list_of_unknown_names_allows_nothing() {
    assert!(main_tools(rules(&["no_such_tool"], &[], &[], None), ToolRules::default()).is_empty());
}

#[test]
fn an_orchestrator_keeps_what_it_needs_to_orchestrate() {
    let tools = effective(
        &catalog(),
        &settings(ToolRules::default()),
        None,
        Role::Orchestrator,
        Some(&effective(&catalog(), &settings(ToolRules::default()), None, Role::Main, None)),
    );
    assert_eq!(
        names(&tools),
        [
            "sessions_spawn",
            "subagents",
            "sessions_list",
            "sessions_history",
            "sessions_yield",
            "read",
            "write"
        ]
    );
}

#[test]
fn a_leaf_has_nothing_to_orchestrate_with() {
    let tools = effective(&catalog(), &settings(ToolRules::default()), None, Role::Leaf, None);
    assert_eq!(names(&tools), ["read", "write"]);
}

#[test]
fn a_tool_that_only_the_depth_withholds_is_told_from_others() {
    let withheld = |name, role, tools| {
        let mut settings = settings(ToolRules::default());
        settings.subagents.tools = tools;
        withheld_by_depth(name, &catalog(), &settings, None, role)
    };
    let none = ToolRules::default;
    assert!(withheld("sessions_spawn", Role::Leaf, none()));
    assert!(!withheld("sessions_spawn", Role::Orchestrator, none()));
    assert!(!withheld("sessions_spawn", Role::Main, none()));
    assert!(!withheld("agents_list", Role::Leaf, none()), "no sub-agent has it");
    assert!(!withheld("read", Role::Leaf, none()), "it has it");
    assert!(!withheld("no_such_tool", Role::Leaf, none()));
    assert!(!withheld("sessions_spawn", Role::Leaf, rules(&[], &[], &["sessions_*"], None)), "it is denied");
}

#[test]
fn the_sub_agent_rules_give_back_and_take_away() {
    let with = |tools| {
        let mut settings = settings(ToolRules::default());
        settings.subagents.tools = tools;
        effective(&catalog(), &settings, None, Role::Leaf, None)
    };
    assert_eq!(names(&with(rules(&[], &["session_status"], &["write"], None))), ["session_status", "read"]);
    assert_eq!(names(&with(rules(&["agents_list", "read"], &[], &[], None))), ["agents_list", "read"]);
}

#[test]
fn roles_follow_from_the_depth() {
    assert_eq!(Role::at(0, 1), Role::Main);
    assert_eq!(Role::at(1, 1), Role::Leaf);
    assert_eq!(Role::at(1, 2), Role::Orchestrator);
    assert_eq!(Role::at(7, 2), Role::Leaf);
}

fn any_rules() -> impl Strategy<Value = ToolRules> {
    let patterns = || {
        let pool =
            ["*", "sessions_*", "group:fs", "group:sessions", "read", "MESSAGE", "*_list", "nothing", ""];
        prop::collection::vec(prop::sample::select(pool.to_vec()).prop_map(str::to_owned), 0..3)
    };
    let profile = prop::option::of(
        prop::sample::select(vec!["minimal", "coding", "messaging", "full", "odd"]).prop_map(str::to_owned),
    );
    (patterns(), patterns(), patterns(), profile).prop_map(|(allow, also_allow, deny, profile)| ToolRules {
        allow,
        also_allow,
        deny,
        profile,
    })
}

/// The textbook definition, exponential and short.
fn wildcard_by_definition(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => wildcard_by_definition(rest, name),
        (Some((b'*', rest)), Some((_, shorter))) => {
            wildcard_by_definition(rest, name) || wildcard_by_definition(pattern, shorter)
        }
        (Some((p, pattern)), Some((n, name))) if p == n => wildcard_by_definition(pattern, name),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_child_never_has_a_tool_that_its_parent_or_its_agent_lacks(
        shared in any_rules(),
        parents in any_rules(),
        childs in any_rules(),
        subagents in any_rules(),
        leaf: bool,
    ) {
        let mut settings = settings(shared);
        settings.subagents.tools = subagents;
        let catalog = catalog();
        let parent = effective(&catalog, &settings, Some(&agent(parents)), Role::Main, None);
        let own = agent(childs);
        let role = if leaf { Role::Leaf } else { Role::Orchestrator };
        let child = effective(&catalog, &settings, Some(&own), role, Some(&parent));
        let alone = effective(&catalog, &settings, Some(&own), Role::Main, None);
        for tool in child.iter() {
            prop_assert!(parent.contains(tool) && alone.contains(tool));
        }
    }

    #[test]
    fn a_denied_tool_is_never_there(shared in any_rules(), own in any_rules(), denied in 0_usize..10) {
        let catalog = catalog();
        let name = catalog[denied].name.to_ascii_uppercase();
        let mut shared = shared;
        shared.deny.push(name);
        let tools = effective(&catalog, &settings(shared), Some(&agent(own)), Role::Main, None);
        prop_assert!(!tools.contains(&catalog[denied].name));
    }

    #[test]
    fn wildcards_match_by_their_definition(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
        prop_assert_eq!(
            wildcard(pattern.as_bytes(), name.as_bytes()),
            wildcard_by_definition(pattern.as_bytes(), name.as_bytes())
        );
    }
}
