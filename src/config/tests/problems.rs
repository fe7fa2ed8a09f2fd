//! Each kind of problem, word for word.

use super::{problems_with, rendered, rendered_with};
use crate::config::{Kind, Severity};

/// A text and the one problem that it has, without the file's name.
const ONE_PROBLEM: &[(&str, &str)] = &[
    // Syntax.
    ("", "1:1: error: the file is empty: write {} for the defaults"),
    ("// nothing", "1:1: error: the file is empty: write {} for the defaults"),
    ("{a: }", "1:5: error: not JSON5: unexpected close brace"),
    ("{\n  a: 1\n  b: 2\n}", "2:7: error: not JSON5: expected comma"),
    ("{a: 'x", "1:5: error: not JSON5: unterminated string literal"),
    ("{} {}", "1:4: error: not JSON5: text cannot contain more than one JSON value"),
    ("[]", "1:1: error: a list is not an object"),
    ("{$include: 'x.json'}", "1:12: error: $include: only a configuration file can include others"),
    ("{$include: 5}", "1:12: error: $include: a number is not a file name or a list of file names"),
    (
        "{store: {durability: 'full', durability: 'normal'}}",
        "1:30: warning: store.durability: written twice in one object: only the second counts, remove one",
    ),
    // Types and ranges.
    (
        "{agents: {defaults: {subagents: {maxSpawnDepth: 'deep'}}}}",
        "1:49: error: agents.defaults.subagents.maxSpawnDepth: \"deep\" is not a whole number from 1 to 64",
    ),
    (
        "{agents: {defaults: {subagents: {maxSpawnDepth: 65}}}}",
        "1:49: error: agents.defaults.subagents.maxSpawnDepth: 65 is not a whole number from 1 to 64",
    ),
    (
        "{agents: {defaults: {subagents: {maxChildrenPerAgent: 1.5}}}}",
        "1:55: error: agents.defaults.subagents.maxChildrenPerAgent: 1.5 is not a whole number from 1 to 1000000",
    ),
    (
        "{agents: {defaults: {subagents: {maxDescendants: 0}}}}",
        "1:50: error: agents.defaults.subagents.maxDescendants: 0 is not a whole number from 1 to 10000000",
    ),
    (
        "{agents: {defaults: {subagents: {maxConcurrent: true}}}}",
        "1:49: error: agents.defaults.subagents.maxConcurrent: true is not a whole number from 1 to 1000000",
    ),
    (
        "{agents: {defaults: {maxConcurrent: -1}}}",
        "1:37: error: agents.defaults.maxConcurrent: -1 is not a whole number from 1 to 1000000",
    ),
    (
        "{agents: {defaults: {timeoutSeconds: NaN}}}",
        "1:38: error: agents.defaults.timeoutSeconds: NaN is not a whole number from 0 to 31536000",
    ),
    (
        "{agents: {defaults: {subagents: {runTimeoutSeconds: {}}}}}",
        "1:53: error: agents.defaults.subagents.runTimeoutSeconds: an object is not a whole number from 0 to 31536000",
    ),
    (
        "{agents: {defaults: {subagents: {runTimeoutSeconds: 31536001}}}}",
        "1:53: error: agents.defaults.subagents.runTimeoutSeconds: 31536001 is not a whole number from 0 to 31536000",
    ),
    (
        "{agents: {defaults: {subagents: {requireAgentId: 'yes'}}}}",
        "1:50: error: agents.defaults.subagents.requireAgentId: \"yes\" is not true or false",
    ),
    (
        "{agents: {defaults: {subagents: {allowAgents: 'main'}}}}",
        "1:47: error: agents.defaults.subagents.allowAgents: \"main\" is not a list",
    ),
    ("{agents: 5}", "1:10: error: agents: 5 is not an object"),
    ("{agents: {list: {}}}", "1:17: error: agents.list: an object is not a list"),
    ("{agents: {list: [null]}}", "1:18: error: agents.list[0]: null is not an object"),
    ("{agents: {list: [{name: 'x'}]}}", "1:18: error: agents.list[0]: id is missing: add the agent's id"),
    ("{agents: {list: [{id: 7}]}}", "1:23: error: agents.list[0].id: 7 is not a string"),
    (
        "{agents: {list: [{id: 'a'}, {id: 'A'}]}}",
        "1:34: error: agents.list[1].id: the agent a is configured twice: remove one, or give it another id",
    ),
    (
        "{agents: {entries: {a: {}, A: {}}}}",
        "1:31: error: agents.entries.A: the agent a is configured twice: ids are the same in any case",
    ),
    (
        "{agents: {defaults: {subagents: {allowAgents: [' ']}}}}",
        "1:48: error: agents.defaults.subagents.allowAgents[0]: the string is empty",
    ),
    (
        "{tools: {profile: 'huge'}}",
        "1:19: error: tools.profile: \"huge\" is not one of minimal, coding, messaging, full",
    ),
    (
        "{tools: {allow: ['subagents'], alsoAllow: ['agents_list']}}",
        "1:43: error: tools.alsoAllow: allow stands beside it: put all of its names into allow",
    ),
    ("{tools: {deny: [5]}}", "1:17: error: tools.deny[0]: 5 is not a string"),
    (
        "{tools: {sessions: {visibility: 'none'}}}",
        "1:33: error: tools.sessions.visibility: \"none\" is not one of self, tree, agent, all",
    ),
    ("{tools: {subagents: {tools: []}}}", "1:29: error: tools.subagents.tools: a list is not an object"),
    (
        "{store: {durability: 'sometimes'}}",
        "1:22: error: store.durability: \"sometimes\" is not one of full, normal",
    ),
    ("{env: {PORT: 80}}", "1:14: error: env.PORT: a number is not a string"),
    // Models and providers.
    (
        "{agents: {defaults: {model: 5}}}",
        "1:29: error: agents.defaults.model: 5 is not a model's name or {primary, fallbacks}",
    ),
    (
        "{agents: {defaults: {model: 'acme/one'}}}",
        "1:29: error: agents.defaults.model: the provider \"acme\" is not configured: \
         set models.providers.acme.baseUrl",
    ),
    (
        "{agents: {defaults: {model: {primary: 'openai/gpt'}}}}",
        "1:39: error: agents.defaults.model.primary: the provider \"openai\" has no key: \
         set models.providers.openai.apiKey or the environment variable OPENAI_API_KEY",
    ),
    (
        "{agents: {defaults: {model: 'builtin/sage'}}}",
        "1:29: error: agents.defaults.model: builtin/sage does not exist: \
         builtin/rehearsal is the only model that is part of Offshoot",
    ),
    (
        "{agents: {defaults: {model: 'fast'}}}",
        "1:29: error: agents.defaults.model: \"fast\" is not provider/model or an alias of agents.defaults.models",
    ),
    (
        "{agents: {defaults: {model: 'fast', models: {'builtin/rehearsal': {alias: 'Quick'}}}}}",
        "1:29: error: agents.defaults.model: \"fast\" is not provider/model \
         or an alias of agents.defaults.models (quick)",
    ),
    (
        "{agents: {defaults: {model: {fallbacks: ['acme/one']}}}}",
        "1:42: warning: agents.defaults.model.fallbacks[0]: left out of the fallbacks: \
         the provider \"acme\" is not configured: set models.providers.acme.baseUrl",
    ),
    (
        "{agents: {defaults: {models: {'x/*': {alias: 'all'}}}}}",
        "1:46: warning: agents.defaults.models[\"x/*\"].alias: without effect: \
         an alias stands for one model, written provider/model",
    ),
    (
        "{agents: {defaults: {models: {'x/1': {alias: 'a'}, 'x/2': {alias: 'A'}}}}}",
        "1:67: warning: agents.defaults.models[\"x/2\"].alias: without effect: the alias already stands for x/1",
    ),
    (
        "{agents: {defaults: {models: {'x/1': {alias: 'a/b'}}}}}",
        "1:46: warning: agents.defaults.models[\"x/1\"].alias: without effect: \
         a name with a slash is read as provider/model",
    ),
    (
        "{models: {providers: {builtin: {}}}}",
        "1:32: error: models.providers.builtin: a provider's name is not empty, holds no slash and is not builtin",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x'}, X: {baseUrl: 'http://x'}}}}",
        "1:52: error: models.providers.X: the provider \"x\" is configured twice: names are the same in any case",
    ),
    (
        "{models: {providers: {x: {}}}}",
        "1:26: warning: models.providers.x: baseUrl is missing: \
         add the URL that /chat/completions is added to (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'host/v1'}}}}",
        "1:36: warning: models.providers.x.baseUrl: not a URL such as https://host/v1 (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'ftp://host'}}}}",
        "1:36: warning: models.providers.x.baseUrl: not a URL with http or https (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://me:pass@host'}}}}",
        "1:36: warning: models.providers.x.baseUrl: holds a user name or a password: \
         put them into headers.Authorization (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://host/v1?key=1'}}}}",
        "1:36: warning: models.providers.x.baseUrl: holds a ? or a #: \
         end it with the path that /chat/completions is added to (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', api: 'anthropic-messages'}}}}",
        "1:53: warning: models.providers.x.api: \"anthropic-messages\" is not supported: \
         use openai-completions (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: 1234}}}}",
        "1:56: error: models.providers.x.apiKey: a number is not a string or {source: \"env\", id: \"NAME\"}",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: '${KEY}'}}}}",
        "1:56: warning: models.providers.x.apiKey: ${KEY} is not set: set the environment variable KEY, \
         or write $${KEY} for the text itself (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: 'X_API_KEY'}}}}",
        "1:56: warning: models.providers.x.apiKey: the environment variable X_API_KEY is not set \
         (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {source: 'file', id: 'k'}}}}}",
        "1:65: warning: models.providers.x.apiKey.source: secrets are read from the environment only: \
         write {source: \"env\", id: \"NAME\"} (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {source: 'env', id: 'KEY'}}}}}",
        "1:76: warning: models.providers.x.apiKey.id: the environment variable that it names is not set \
         (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {source: 'env'}}}}}",
        "1:56: error: models.providers.x.apiKey: id is missing: add the name of the environment variable",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {id: 'KEY'}}}}}",
        "1:56: error: models.providers.x.apiKey: source is missing: write {source: \"env\", id: \"NAME\"}",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: 'a\\nb'}}}}",
        "1:56: warning: models.providers.x.apiKey: holds characters that an HTTP header cannot carry \
         (no agent needs it)",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', headers: {'a b': '1'}}}}}",
        "1:65: error: models.providers.x.headers[\"a b\"]: not a name that an HTTP header can have",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', timeoutSeconds: 0}}}}",
        "1:64: error: models.providers.x.timeoutSeconds: 0 is not a whole number from 1 to 1000000000",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', models: [{maxTokens: 10}]}}}}",
        "1:57: error: models.providers.x.models[0]: id is missing: \
         add the name that the provider knows the model by",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', models: [{id: 'a', cost: {input: -1}}]}}}}",
        "1:81: warning: models.providers.x.models[0].cost.input: not a price in US dollars for a million tokens: \
         what this model costs is not known",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', models: [{id: 'a', compat: {maxTokensField: 'most'}}]}}}}",
        "1:92: error: models.providers.x.models[0].compat.maxTokensField: \"most\" is not one of max_tokens, \
         max_completion_tokens",
    ),
    (
        "{models: {providers: {x: {baseUrl: 'http://x', models: [{id: 'a', compat: {supportsStore: true}}]}}}}",
        "1:76: warning: models.providers.x.models[0].compat.supportsStore: known to OpenClaw, not acted on by Offshoot",
    ),
    (
        "{agents: {defaults: {model: 'x/two'}}, models: {providers: {x: {baseUrl: 'http://x', models: [{id: 'one'}]}}}}",
        "1:29: warning: agents.defaults.model: x/two is not in models.providers.x.models; it is used as written",
    ),
    // Agents that are not what they seem.
    (
        "{agents: {list: [{id: 'My Agent'}]}}",
        "1:23: warning: agents.list[0].id: taken as my-agent: agent ids match [a-z0-9][a-z0-9_-]{0,63}",
    ),
    (
        "{agents: {list: [{id: 'a'}], entries: {a: {}}}}",
        "1:18: warning: agents.list[0]: without effect: agents.entries configures a too, and wins",
    ),
    (
        "{agents: {list: [{id: 'a', default: true}, {id: 'b', default: true}]}}",
        "1:63: warning: agents.list[1].default: without effect: \
         another agent is marked as the default before it",
    ),
    (
        "{agents: {defaults: {subagents: {allowAgents: ['finance']}}}}",
        "1:48: warning: agents.defaults.subagents.allowAgents[0]: the agent finance is not configured: \
         it runs with the defaults",
    ),
    // Names of tools that lead nowhere.
    (
        "{tools: {deny: ['session_spawn']}}",
        "1:17: warning: tools.deny[0]: \"session_spawn\" stands for no tool, so it denies nothing; \
         did you mean sessions_spawn?",
    ),
    (
        "{tools: {allow: ['sessions_*', 'my_plugin_*']}}",
        "1:32: warning: tools.allow[1]: \"my_plugin_*\" stands for no tool, so it allows nothing",
    ),
    (
        "{agents: {list: [{id: 'a', tools: {alsoAllow: ['exec']}}]}}",
        "1:48: warning: agents.list[0].tools.alsoAllow[0]: \"exec\" is known to OpenClaw, not to Offshoot, \
         so it allows nothing",
    ),
    (
        "{agents: {entries: {a: {tools: {deny: ['exec', 'group:fs', 'group:runtim']}}}}}",
        "1:60: warning: agents.entries.a.tools.deny[2]: \"group:runtim\" stands for no tool, so it denies nothing; \
         did you mean group:runtime?",
    ),
    (
        "{tools: {subagents: {tools: {allow: ['subagents', 'sesion_status']}}}}",
        "1:51: warning: tools.subagents.tools.allow[1]: \"sesion_status\" stands for no tool, so it allows nothing; \
         did you mean session_status?",
    ),
    // Keys and variables that nothing acts on.
    ("{discovery: {}}", "1:2: warning: discovery: known to OpenClaw, not acted on by Offshoot"),
    (
        "{gateway: {tailscale: {mode: 'off'}}}",
        "1:12: warning: gateway.tailscale: known to OpenClaw, not acted on by Offshoot",
    ),
    ("{favourite: 'tea'}", "1:2: warning: favourite: unknown key, ignored"),
    (
        "{agents: {defaults: {subagents: {maxChildPerAgent: 3}}}}",
        "1:34: warning: agents.defaults.subagents.maxChildPerAgent: unknown key, ignored; \
         did you mean maxChildrenPerAgent?",
    ),
    (
        "{agents: {defaults: {maxconcurrent: 3}}}",
        "1:22: warning: agents.defaults.maxconcurrent: unknown key, ignored; did you mean maxConcurrent?",
    ),
    (
        "{agents: {defaults: {model: {primary: 'builtin/rehearsal', fallback: []}}}}",
        "1:60: warning: agents.defaults.model.fallback: unknown key, ignored; did you mean fallbacks?",
    ),
    (
        "{agents: {list: [{id: 'a', name: '${NAME}'}]}}",
        "1:34: error: agents.list[0].name: ${NAME} is not set: set the environment variable NAME, \
         or write $${NAME} for the text itself",
    ),
];

#[test]
fn each_problem_is_named_with_its_place_and_what_would_be_right() {
    for (text, expected) in ONE_PROBLEM {
        assert_eq!(rendered(text), [format!("offshoot.json:{expected}")], "{text}");
    }
}

#[test]
fn every_problem_is_found_at_once_in_the_order_of_the_text() {
    let text = "{\n  agents: {\n    defaults: {maxConcurrent: 'many', model: 'acme/one'},\n    list: [{}],\n  },\n  \
                store: {durability: 1},\n}";
    let problems = problems_with(&[], text);
    let places: Vec<_> =
        problems.iter().map(|problem| (problem.line, problem.column, problem.path.as_str())).collect();
    assert_eq!(
        places,
        [
            (3, 31, "agents.defaults.maxConcurrent"),
            (3, 46, "agents.defaults.model"),
            (4, 12, "agents.list[0]"),
            (6, 23, "store.durability"),
        ]
    );
}

#[test]
fn columns_count_characters() {
    let text = "{/* ☃☃ */ store: {durability: 'é'}}";
    assert_eq!(
        rendered(text),
        ["offshoot.json:1:31: error: store.durability: \"é\" is not one of full, normal"]
    );
}

#[test]
fn a_provider_that_an_agent_needs_turns_its_warning_into_an_error() {
    for (provider, model, column, reason) in [
        (
            "{api: 'ollama', baseUrl: 'http://x'}",
            "x/1",
            68,
            "api: \"ollama\" is not supported: use openai-completions",
        ),
        (
            "{baseUrl: 'http://x', apiKey: '${KEY}'}",
            "x/1",
            92,
            "apiKey: ${KEY} is not set: set the environment variable KEY, or write $${KEY} for the text itself",
        ),
        (
            "{baseUrl: 'http://x', models: [{id: '1', api: 'ollama'}, {id: '2'}]}",
            "x/1",
            108,
            "models[0].api: \"ollama\" is not supported: use openai-completions",
        ),
    ] {
        let text = format!(
            "{{agents: {{defaults: {{model: '{model}'}}}}, models: {{providers: {{x: {provider}}}}}}}"
        );
        let expected = format!(
            "offshoot.json:1:{column}: error: models.providers.x.{reason} (needed by agents.defaults.model)"
        );
        let found = rendered(&text);
        assert!(found.contains(&expected), "{expected}\n{found:#?}");
    }
}

#[test]
fn a_model_with_the_supported_api_works_at_a_provider_with_another() {
    let config = super::valid(
        "{agents: {defaults: {model: 'x/1'}}, models: {providers: {x: {baseUrl: 'http://x', api: 'ollama', \
         models: [{id: '1', api: 'openai-completions'}]}}}}",
    );
    assert!(config.providers.serving(&"x/1".parse().unwrap()).is_ok());
    let other = config.providers.serving(&"x/2".parse().unwrap()).unwrap_err();
    assert_eq!(
        other.to_string(),
        "the provider \"x\" cannot be used: the API of x/2: \"ollama\" is not supported: use openai-completions"
    );
}

#[test]
fn a_variable_that_nobody_acts_on_is_only_a_warning() {
    let found = rendered("{channels: {chat: {token: '${CHAT_TOKEN}'}}}");
    assert_eq!(
        found,
        [
            "offshoot.json:1:2: warning: channels: known to OpenClaw, not acted on by Offshoot",
            "offshoot.json:1:27: warning: channels.chat.token: ${CHAT_TOKEN} is not set: \
             set the environment variable CHAT_TOKEN, or write $${CHAT_TOKEN} for the text itself",
        ]
    );
}

#[test]
fn a_name_without_a_provider_is_openais_if_openai_can_be_used() {
    let text = "{agents: {defaults: {model: 'gpt-5'}}}";
    assert_eq!(
        rendered_with(&[("OPENAI_API_KEY", "k")], text),
        ["offshoot.json:1:29: warning: agents.defaults.model: taken as openai/gpt-5: write the provider too"]
    );
}

#[test]
fn unknown_keys_are_told_from_keys_of_openclaw_inside_a_section() {
    let problems = problems_with(
        &[],
        "{gateway: {auth: {mode: 'token', tokn: 'x', allowTailscale: true}, controlUi: {allowInsecureAuth: true}}}",
    );
    let kinds: Vec<_> = problems.iter().map(|problem| (problem.path.as_str(), problem.kind)).collect();
    assert_eq!(
        kinds,
        [("gateway.auth.tokn", Kind::UnknownKey), ("gateway.auth.allowTailscale", Kind::NotActedOn)]
    );
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let keys: String = (0..600).map(|i| format!("k{i}: 1,")).collect();
    let wrong: String = (0..300).map(|_| "5,").collect();
    let problems = problems_with(&[], &format!("{{{keys} tools: {{deny: [{wrong}]}}}}"));
    let count = |severity| problems.iter().filter(|problem| problem.severity == severity).count();
    assert_eq!((count(Severity::Error), count(Severity::Warning)), (201, 501));
    assert!(problems.iter().any(|problem| problem.text == "100 more of these are not listed"));
}
