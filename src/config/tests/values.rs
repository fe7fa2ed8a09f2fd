//! What a configuration sets.

use std::time::Duration;

use offshoot_actors::types::{
    AgentId, AllowAgents, MAX_TIMEOUT, ModelRef, RecoveryMode, RecoveryOverrides, RecoverySettings,
    RetentionSettings, Settings, ToolRules, Visibility,
};
use secrecy::ExposeSecret;

use super::{environment, valid};
use crate::config::{Durability, load, load_text};
use crate::models::{MaxTokensField, ModelSpec};

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

#[test]
fn an_empty_configuration_has_the_defaults() {
    let config = valid("{}");
    assert_eq!(config.settings, Settings::with_model(id("main"), model("builtin/rehearsal")));
    assert_eq!(config.durability, Durability::Full);
    assert_eq!(config.problems, []);
    assert_eq!(load(&environment(&[]), None).unwrap().settings, config.settings);
}

#[test]
fn the_configuration_of_a_gateway_with_a_token_loads_with_zero_errors() {
    let text = r#"{"gateway":{"mode":"local","port":18789,"bind":"loopback","auth":{"mode":"token","token":"0123456789abcdef0123456789abcdef0123456789abcdef"},"controlUi":{"allowInsecureAuth":true}},"agents":{"defaults":{"subagents":{"maxConcurrent":4}}}}"#;
    let config = valid(text);
    assert_eq!(config.settings.lanes.subagent, 4);
    assert_eq!(config.gateway.port, 18_789);
    assert!(config.gateway.control_ui.device.allow_insecure_auth);
    assert_eq!(config.problems, []);
    for other in
        [text.replace("0123456789abcdef", ""), text.replace("\"mode\":\"token\"", "\"mode\":\"none\"")]
    {
        assert_eq!(valid(&other).settings, config.settings);
    }
}

#[test]
fn the_configurations_of_both_generations_load_with_zero_errors() {
    let provider = r#"{baseUrl: "http://127.0.0.1:18081/v1", apiKey: "__OPENCLAW_REDACTED__", api: "openai-completions",
        models: [{id: "mock-1", name: "mock-1", reasoning: false, input: ["text"],
        cost: {input: 0, output: 0, cacheRead: 0, cacheWrite: 0}, contextWindow: 200000, maxTokens: 8192}]}"#;
    let rest = r#"commands: {native: "auto", nativeSkills: "auto", restart: true, ownerDisplay: "raw"}, cron: {enabled: false},
        discovery: {mdns: {mode: "off"}}, update: {checkOnStart: false}, plugins: {enabled: false},
        messages: {ackReactionScope: "group-mentions"},
        gateway: {port: 19415, mode: "local", bind: "loopback", auth: {mode: "token", token: "t"}}"#;
    let defaults = r#"workspace: "/tmp/w", skipBootstrap: true, model: {primary: "mock/mock-1"}, maxConcurrent: 4,
        heartbeat: {every: "0m"}, "#;
    let older = format!(
        r#"{{models: {{mode: "replace", providers: {{mock: {provider}}}}}, agents: {{defaults: {{{defaults}
        subagents: {{allowAgents: ["*"], maxConcurrent: 8}}}},
        list: [{{id: "main", default: true}}, {{id: "finance-financial-forecaster"}}]}}, {rest}}}"#
    );
    let newer = format!(
        r#"{{models: {{mode: "replace", providers: {{mock: {provider}}}}}, agents: {{defaults: {{{defaults}
        systemAgent: {{agentId: "main"}}, compaction: {{mode: "safeguard"}},
        subagents: {{allowAgents: ["*"], maxConcurrent: 8, archiveAfterMinutes: 60}}}},
        entries: {{main: {{}}, "finance-financial-forecaster": {{}}}}}},
        tools: {{toolSearch: false}}, talk: {{agentId: "main"}}, {rest}}}"#
    );
    let (older, newer) = (valid(&older), valid(&newer));
    assert_eq!(older.settings, newer.settings);
    for config in [older, newer] {
        let unknown: Vec<_> =
            config.problems.iter().filter(|problem| problem.text.starts_with("unknown")).collect();
        assert_eq!(unknown, Vec::<&crate::config::Problem>::new());
        assert_eq!(config.settings.default_agent, id("main"));
        assert_eq!(config.settings.agents.len(), 2);
        assert_eq!(config.settings.subagents.allow_agents, Some(AllowAgents::Any));
        let agent = config.settings.agent(&id("finance-financial-forecaster")).unwrap();
        assert_eq!(agent.model.primary, model("mock/mock-1"));
        let provider = config.providers.serving(&agent.model.primary).unwrap();
        assert_eq!(provider.base_url, "http://127.0.0.1:18081/v1");
        assert_eq!(provider.api_key.as_ref().unwrap().expose_secret(), "__OPENCLAW_REDACTED__");
        assert_eq!(provider.model("mock-1").unwrap().max_tokens, Some(8192));
    }
}

#[test]
fn what_a_model_cannot_do_is_known() {
    let config = valid(
        "{models: {providers: {x: {baseUrl: 'http://x', models: [{id: 'usual', compat: {}}, {id: 'other', maxTokens: 7,
          compat: {supportsUsageInStreaming: false, supportsTools: false, maxTokensField: 'max_completion_tokens'}}]}}}}",
    );
    let provider = config.providers.iter().next().unwrap();
    assert_eq!(provider.model("usual"), Some(&ModelSpec::new("usual")));
    let other = ModelSpec {
        max_tokens: Some(7),
        max_tokens_field: Some(MaxTokensField::MaxCompletionTokens),
        streams_usage: false,
        takes_tools: false,
        ..ModelSpec::new("other")
    };
    assert_eq!(provider.model("other"), Some(&other));
    assert_eq!(config.problems, []);
}

#[test]
fn limits_and_lanes_are_set() {
    let config = valid(
        "{agents: {defaults: {maxConcurrent: 0x10, timeoutSeconds: 0, systemPromptOverride: 'Be brief.', subagents: {
            maxConcurrent: 2, maxSpawnDepth: 64, maxChildrenPerAgent: 1000000, maxDescendants: 10000000,
            runTimeoutSeconds: 90., requireAgentId: true, allowAgents: [], archiveAfterMinutes: 0, exportDeleted: true}}},
          tools: {profile: 'coding', alsoAllow: ['x_*'], deny: ['group:fs'], sessions: {visibility: 'tree'},
            subagents: {tools: {allow: ['read'], alsoAllow: ['cron'], deny: ['exec']}}},
          store: {durability: 'normal', keepRuns: '30d'}}",
    );
    let settings = &config.settings;
    assert_eq!((settings.lanes.main, settings.lanes.subagent), (16, 2));
    assert_eq!(settings.runs.timeout, None);
    assert_eq!(settings.subagents.max_depth, 64);
    assert_eq!(settings.subagents.max_children, 1_000_000);
    assert_eq!(settings.subagents.max_descendants, 10_000_000);
    assert_eq!(settings.subagents.run_timeout, Some(Duration::from_secs(90)));
    assert!(settings.subagents.require_agent_id);
    assert_eq!(settings.subagents.allow_agents, Some(AllowAgents::Only(Vec::new())));
    assert_eq!(settings.agent(&id("main")).unwrap().system_prompt.as_deref(), Some("Be brief."));
    assert_eq!(settings.visibility, Visibility::Tree);
    assert_eq!(config.durability, Durability::Normal);
    let keep_runs = Some(Duration::from_secs(30 * 24 * 60 * 60));
    let expected = RetentionSettings { archive_after: None, export_deleted: true, keep_runs };
    assert_eq!(settings.retention, expected);
    assert_eq!(valid("{store: {keepRuns: 0}}").settings.retention.keep_runs, None);
    let strings = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let expected = ToolRules {
        allow: strings(&[]),
        also_allow: strings(&["x_*"]),
        deny: strings(&["group:fs"]),
        profile: Some("coding".to_owned()),
    };
    assert_eq!(settings.tools, expected);
    let expected = ToolRules {
        allow: strings(&["read"]),
        also_allow: strings(&["cron"]),
        deny: strings(&["exec"]),
        profile: None,
    };
    assert_eq!(settings.subagents.tools, expected);
}

#[test]
fn the_longest_deadlines_of_the_file_are_good_for_the_tree() {
    let config =
        valid("{agents: {defaults: {timeoutSeconds: 31536000, subagents: {runTimeoutSeconds: 31536000}}}}");
    let settings = &config.settings;
    assert_eq!(settings.runs.timeout, Some(MAX_TIMEOUT));
    assert_eq!(settings.subagents.run_timeout, Some(MAX_TIMEOUT));
    assert_eq!(settings.validate(), Ok(()));
}

#[test]
fn an_agent_has_its_own_values_and_else_the_defaults() {
    let config = valid(
        "{models: {providers: {x: {baseUrl: 'http://x'}}},
          agents: {
            defaults: {model: {primary: 'x/1', fallbacks: ['x/2', 'x/3']}, systemPromptOverride: 'all',
              models: {'x/4': {alias: 'Four'}}, subagents: {model: 'x/9'}},
            list: [
              {id: 'plain'},
              {id: 'own', name: 'Own', default: true, model: 'FOUR', systemPromptOverride: 'mine',
                tools: {profile: 'minimal', allow: ['read']},
                subagents: {allowAgents: ['Plain', 'plain'], model: {primary: 'x/2', fallbacks: []}, requireAgentId: false}},
              {id: 'strict', model: {primary: 'X/2', fallbacks: ['x/2', 'x/1', 'x/1']}},
            ]}}",
    );
    let settings = &config.settings;
    assert_eq!(settings.default_agent, id("own"));
    assert_eq!(settings.agents.len(), 3);
    assert_eq!(config.aliases.resolve("four", &config.providers).unwrap().model, model("x/4"));
    let models = |agent: &str| {
        let choice = &settings.agent(&id(agent)).unwrap().model;
        (choice.primary.to_string(), choice.fallbacks.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let expected = |primary: &str, fallbacks: &[&str]| {
        (primary.to_owned(), fallbacks.iter().map(|model| (*model).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(models("plain"), expected("x/1", &["x/2", "x/3"]));
    assert_eq!(models("own"), expected("x/4", &["x/2", "x/3"]));
    assert_eq!(models("strict"), expected("x/2", &["x/1"]));
    let (plain, own) = (settings.agent(&id("plain")).unwrap(), settings.agent(&id("own")).unwrap());
    assert_eq!((plain.name.as_deref(), plain.system_prompt.as_deref()), (None, Some("all")));
    assert_eq!((own.name.as_deref(), own.system_prompt.as_deref()), (Some("Own"), Some("mine")));
    assert_eq!(own.tools.profile.as_deref(), Some("minimal"));
    assert_eq!(own.subagents.allow_agents, Some(AllowAgents::Only(vec![id("plain")])));
    assert_eq!(own.subagents.require_agent_id, Some(false));
    assert_eq!(own.subagents.model.as_ref().unwrap().primary, model("x/2"));
    assert!(own.subagents.model.as_ref().unwrap().fallbacks.is_empty());
    assert_eq!(settings.subagents.model.as_ref().unwrap().primary, model("x/9"));
}

#[test]
fn an_agent_may_say_itself_what_becomes_of_its_runs_when_the_daemon_goes_down() {
    let config = valid(
        "{agents: {defaults: {recovery: {mode: 'interrupt', maxAge: '90m', maxAttempts: 5, grace: '2s'}}, list: [
          {id: 'plain'}, {id: 'part', recovery: {maxAge: 30}},
          {id: 'own', recovery: {mode: 'resume', maxAge: 0, maxAttempts: 1}}]}}",
    );
    assert_eq!(config.problems, []);
    let usual = RecoverySettings {
        mode: RecoveryMode::Interrupt,
        max_age: Some(Duration::from_secs(5_400)),
        max_attempts: 5,
        grace: Duration::from_secs(2),
    };
    assert_eq!(config.settings.recovery, usual);
    let own = |agent| config.settings.agent(&id(agent)).unwrap().recovery;
    assert_eq!(own("plain"), RecoveryOverrides::default());
    let part =
        RecoveryOverrides { max_age: Some(Some(Duration::from_secs(30))), ..RecoveryOverrides::default() };
    assert_eq!(own("part"), part);
    let all =
        RecoveryOverrides { mode: Some(RecoveryMode::Resume), max_age: Some(None), max_attempts: Some(1) };
    assert_eq!(own("own"), all, "0: no run of it is too old");
}

#[test]
fn the_first_agent_is_the_default_unless_one_is_marked() {
    for (agents, default) in [
        ("list: []", "main"),
        ("list: [{id: 'b'}, {id: 'a'}]", "b"),
        ("list: [{id: 'b'}, {id: 'a', default: true}]", "a"),
        ("entries: {b: {}, a: {}}", "b"),
        ("list: [{id: 'b'}], entries: {a: {}}", "b"),
        ("entries: {a: {}}, list: [{id: 'b', default: true}]", "b"),
        ("list: [{id: ''}]", "main"),
    ] {
        assert_eq!(
            valid(&format!("{{agents: {{{agents}}}}}")).settings.default_agent,
            id(default),
            "{agents}"
        );
    }
}

#[test]
fn entries_win_over_the_list() {
    let config =
        valid("{agents: {list: [{id: 'a', name: 'List'}, {id: 'b'}], entries: {a: {name: 'Entry'}}}}");
    assert_eq!(config.settings.agents.len(), 2);
    assert_eq!(config.settings.agent(&id("a")).unwrap().name.as_deref(), Some("Entry"));
}

#[test]
fn an_agent_that_only_a_list_of_allowed_agents_names_runs_with_the_defaults() {
    for text in [
        "{agents: {defaults: {systemPromptOverride: 'p', subagents: {allowAgents: ['Finance Forecaster']}}}}",
        "{agents: {defaults: {systemPromptOverride: 'p'}, list: [{id: 'main', subagents: {allowAgents: ['Finance Forecaster']}}]}}",
    ] {
        let config = valid(text);
        let agent = config.settings.agent(&id("finance-forecaster")).unwrap();
        assert_eq!(agent.system_prompt.as_deref(), Some("p"));
        assert_eq!(config.settings.default_agent, id("main"));
        assert_eq!(config.settings.agents.len(), 2);
    }
}

#[test]
fn agent_ids_are_normalised() {
    let long = "x".repeat(70);
    for (text, expected) in [
        ("Main", "main"),
        ("  Research Team! ", "research-team"),
        ("-a_b-", "a_b"),
        ("_x", "x"),
        ("été", "t"),
        ("", "main"),
        ("***", "main"),
        (&long, &long[..64]),
    ] {
        assert_eq!(crate::config::agents::normalise(text), id(expected), "{text}");
    }
}

#[test]
fn a_key_in_the_environment_is_enough_for_a_well_known_provider() {
    let vars = environment(&[("OPENROUTER_API_KEY", " k1 "), ("OPENAI_API_KEY", "k2")]);
    let text =
        "{agents: {defaults: {model: {primary: 'openrouter/anthropic/claude', fallbacks: ['openai/gpt']}}},
        models: {providers: {openai: {baseUrl: 'http://proxy/v1/'}}}}";
    let config = load_text(&vars, "offshoot.json", text).unwrap();
    assert_eq!(config.problems, []);
    let choice = &config.settings.agent(&id("main")).unwrap().model;
    let provider = config.providers.serving(&choice.primary).unwrap();
    assert_eq!(provider.base_url, "https://openrouter.ai/api/v1");
    assert_eq!(provider.api_key.as_ref().unwrap().expose_secret(), "k1");
    let proxy = config.providers.serving(&choice.fallbacks[0]).unwrap();
    assert_eq!(proxy.base_url, "http://proxy/v1");
    assert_eq!(proxy.api_key.as_ref().unwrap().expose_secret(), "k2");
}

#[test]
fn an_api_key_is_a_text_a_variable_or_a_reference() {
    let vars = environment(&[("KEY", "from-environment")]);
    for (setting, expected) in [
        ("apiKey: 'plain'", Some("plain")),
        ("apiKey: 'x-${KEY}'", Some("x-from-environment")),
        ("apiKey: 'KEY'", Some("from-environment")),
        ("apiKey: {source: 'env', provider: 'default', id: 'KEY'}", Some("from-environment")),
        ("apiKey: '$${KEY}'", Some("${KEY}")),
        ("apiKey: ''", None),
        ("timeoutSeconds: 5", None),
    ] {
        let text = format!("{{models: {{providers: {{x: {{baseUrl: 'http://x', {setting}}}}}}}}}");
        let config = load_text(&vars, "offshoot.json", &text).unwrap();
        assert_eq!(config.problems, [], "{setting}");
        let provider = config.providers.serving(&model("x/1")).unwrap();
        assert_eq!(provider.api_key.as_ref().map(ExposeSecret::expose_secret), expected, "{setting}");
    }
}

#[test]
fn the_env_block_sets_variables_that_the_process_lacks() {
    let text = "{env: {A: 'a', vars: {B: 'b', SET: 'block'}, shellEnv: {enabled: true}},
        agents: {list: [{id: 'x', name: '${A}${B}${SET}'}]}}";
    let config = load_text(&environment(&[("SET", "process")]), "offshoot.json", text).unwrap();
    assert_eq!(config.settings.agent(&id("x")).unwrap().name.as_deref(), Some("abprocess"));
    let paths: Vec<_> = config.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["env.shellEnv"]);
}
