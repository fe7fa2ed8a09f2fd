use proptest::prelude::*;

use super::problems_with;

/// A place that takes a value, written so that `@` stands for the value.
const PLACES: &[(&str, &str)] = &[
    ("agents", "{agents: @}"),
    ("agents.defaults", "{agents: {defaults: @}}"),
    ("agents.defaults.model", "{agents: {defaults: {model: @}}}"),
    ("agents.defaults.models", "{agents: {defaults: {models: @}}}"),
    ("agents.defaults.maxConcurrent", "{agents: {defaults: {maxConcurrent: @}}}"),
    ("agents.defaults.timeoutSeconds", "{agents: {defaults: {timeoutSeconds: @}}}"),
    ("agents.defaults.llm", "{agents: {defaults: {llm: @}}}"),
    ("agents.defaults.llm.idleTimeoutSeconds", "{agents: {defaults: {llm: {idleTimeoutSeconds: @}}}}"),
    ("agents.defaults.systemPromptOverride", "{agents: {defaults: {systemPromptOverride: @}}}"),
    ("agents.defaults.subagents", "{agents: {defaults: {subagents: @}}}"),
    ("agents.defaults.subagents.maxSpawnDepth", "{agents: {defaults: {subagents: {maxSpawnDepth: @}}}}"),
    ("agents.defaults.subagents.maxDescendants", "{agents: {defaults: {subagents: {maxDescendants: @}}}}"),
    ("agents.defaults.subagents.allowAgents", "{agents: {defaults: {subagents: {allowAgents: @}}}}"),
    ("agents.defaults.subagents.requireAgentId", "{agents: {defaults: {subagents: {requireAgentId: @}}}}"),
    ("agents.defaults.subagents.model", "{agents: {defaults: {subagents: {model: @}}}}"),
    ("agents.list", "{agents: {list: @}}"),
    ("agents.list[0]", "{agents: {list: [@]}}"),
    ("agents.list[0].id", "{agents: {list: [{id: @}]}}"),
    ("agents.list[0].tools.deny", "{agents: {list: [{id: 'a', tools: {deny: @}}]}}"),
    ("agents.list[0].default", "{agents: {list: [{id: 'a', default: @}]}}"),
    ("agents.entries", "{agents: {entries: @}}"),
    ("agents.entries.a.subagents", "{agents: {entries: {a: {subagents: @}}}}"),
    ("models", "{models: @}"),
    ("models.providers", "{models: {providers: @}}"),
    ("models.providers.x.baseUrl", "{models: {providers: {x: {baseUrl: @}}}}"),
    ("models.providers.x.apiKey", "{models: {providers: {x: {baseUrl: 'http://x', apiKey: @}}}}"),
    ("models.providers.x.headers", "{models: {providers: {x: {baseUrl: 'http://x', headers: @}}}}"),
    ("models.providers.x.models", "{models: {providers: {x: {baseUrl: 'http://x', models: @}}}}"),
    ("tools", "{tools: @}"),
    ("tools.profile", "{tools: {profile: @}}"),
    ("tools.sessions.visibility", "{tools: {sessions: {visibility: @}}}"),
    ("tools.subagents.tools", "{tools: {subagents: {tools: @}}}"),
    ("store.durability", "{store: {durability: @}}"),
    ("env.vars", "{env: {vars: @}}"),
    ("gateway", "{gateway: @}"),
    ("hooks", "{hooks: @}"),
    ("gateway.port", "{gateway: {port: @}}"),
    ("gateway.bind", "{gateway: {bind: @}}"),
    ("gateway.customBindHost", "{gateway: {customBindHost: @}}"),
    ("gateway.mode", "{gateway: {mode: @}}"),
    ("gateway.trustedProxies", "{gateway: {trustedProxies: @}}"),
    ("gateway.allowRealIpFallback", "{gateway: {allowRealIpFallback: @}}"),
    ("gateway.auth", "{gateway: {auth: @}}"),
    ("gateway.auth.mode", "{gateway: {auth: {mode: @}}}"),
    ("gateway.auth.token", "{gateway: {auth: {token: @}}}"),
    ("gateway.auth.password", "{gateway: {auth: {password: @}}}"),
    ("gateway.auth.rateLimit", "{gateway: {auth: {rateLimit: @}}}"),
    ("gateway.auth.rateLimit.windowMs", "{gateway: {auth: {rateLimit: {windowMs: @}}}}"),
    ("gateway.auth.rateLimit.maxAttempts", "{gateway: {auth: {rateLimit: {maxAttempts: @}}}}"),
    ("gateway.auth.rateLimit.exemptLoopback", "{gateway: {auth: {rateLimit: {exemptLoopback: @}}}}"),
    ("gateway.auth.trustedProxy", "{gateway: {auth: {trustedProxy: @}}}"),
    ("gateway.auth.trustedProxy.userHeader", "{gateway: {auth: {trustedProxy: {userHeader: @}}}}"),
    ("gateway.auth.trustedProxy.requiredHeaders", "{gateway: {auth: {trustedProxy: {requiredHeaders: @}}}}"),
    ("gateway.auth.trustedProxy.allowUsers", "{gateway: {auth: {trustedProxy: {allowUsers: @}}}}"),
    ("gateway.controlUi", "{gateway: {controlUi: @}}"),
    ("gateway.controlUi.enabled", "{gateway: {controlUi: {enabled: @}}}"),
    ("gateway.controlUi.basePath", "{gateway: {controlUi: {basePath: @}}}"),
    ("gateway.controlUi.root", "{gateway: {controlUi: {root: @}}}"),
    ("gateway.controlUi.allowedOrigins", "{gateway: {controlUi: {allowedOrigins: @}}}"),
    ("gateway.controlUi.embedSandbox", "{gateway: {controlUi: {embedSandbox: @}}}"),
    ("gateway.tls", "{gateway: {tls: @}}"),
    ("gateway.tls.enabled", "{gateway: {tls: {enabled: @}}}"),
    ("gateway.tls.certPath", "{gateway: {tls: {certPath: @}}}"),
    ("gateway.http", "{gateway: {http: @}}"),
    ("gateway.http.endpoints", "{gateway: {http: {endpoints: @}}}"),
    (
        "gateway.http.endpoints.responses.maxBodyBytes",
        "{gateway: {http: {endpoints: {responses: {maxBodyBytes: @}}}}}",
    ),
    ("gateway.tools.allow", "{gateway: {tools: {allow: @}}}"),
    ("gateway.reload.mode", "{gateway: {reload: {mode: @}}}"),
    ("gateway.reload.debounceMs", "{gateway: {reload: {debounceMs: @}}}"),
    ("hooks.enabled", "{hooks: {enabled: @}}"),
    ("hooks.path", "{hooks: {path: @}}"),
    ("hooks.token", "{hooks: {token: @}}"),
    ("hooks.maxBodyBytes", "{hooks: {maxBodyBytes: @}}"),
    ("hooks.allowedAgentIds", "{hooks: {allowedAgentIds: @}}"),
    ("hooks.allowedSessionKeyPrefixes", "{hooks: {allowedSessionKeyPrefixes: @}}"),
    ("hooks.defaultSessionKey", "{hooks: {defaultSessionKey: @}}"),
];

fn json5() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| value.to_string()),
        any::<i32>().prop_map(|value| format!("{value:+}")),
        any::<u16>().prop_map(|value| format!("0x{value:X}")),
        "[a-z${}A-Z_*/ ]{0,12}".prop_map(|text| format!("'{text}'")),
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop_oneof![
            prop::sample::select(
                &[
                    "agents",
                    "defaults",
                    "list",
                    "entries",
                    "id",
                    "model",
                    "primary",
                    "fallbacks",
                    "subagents",
                    "tools",
                    "models",
                    "providers",
                    "baseUrl",
                    "apiKey",
                    "headers",
                    "env",
                    "vars",
                    "gateway",
                    "store",
                    "$include",
                    "allowAgents",
                    "maxConcurrent",
                    "alias",
                    "source",
                ][..]
            )
            .prop_map(str::to_owned),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{},]", items.join(","))),
            prop::collection::vec((key, inner), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                format!("{{{}}}", members.join(", /* */"))
            }),
        ]
    })
    .prop_map(|text| text.replace("[,]", "[]"))
}

/// A value that is of no use anywhere: no place takes null, a negative fraction, or a list of those.
fn useless() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["null", "-0.5", "[null]", "Infinity"][..])
}

proptest! {
    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = super::read(&text);
    }

    #[test]
    fn reading_json5_never_panics(
        before in prop::sample::select(PLACES), value in json5(), cut in any::<prop::sample::Index>(),
    ) {
        let text = before.1.replace('@', &value);
        let _ = super::read(&text);
        let _ = super::read(&value);
        let end = text.floor_char_boundary(cut.index(text.len() + 1));
        let _ = super::read(&text[..end]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_a_problem_that_names_its_path(
        (path, template) in prop::sample::select(PLACES), value in useless(), seed in any::<bool>(),
    ) {
        let vars: &[(&str, &str)] = if seed { &[("OPENAI_API_KEY", "k")] } else { &[] };
        let found = problems_with(vars, &template.replace('@', value));
        prop_assert!(found.iter().any(|problem| problem.path.starts_with(path)), "{path} {value} {found:?}");
    }
}
