use secrecy::ExposeSecret;

use super::{environment, problems_with};
use crate::config::load_text;

const SECRET: &str = "hunter2";

#[test]
fn a_secret_is_never_shown() {
    let vars = environment(&[("SECRET", SECRET), ("OPENAI_API_KEY", SECRET)]);
    let text = "{env: {OWN: 'hunter2'},
        gateway: {auth: {token: '${SECRET}', password: 'hunter2'}, remote: {token: 'hunter2'}},
        hooks: {enabled: true, token: {source: 'env', id: 'SECRET'}},
        models: {providers: {x: {baseUrl: 'http://x', apiKey: 'hunter2',
          headers: {Authorization: 'Bearer ${SECRET}', 'X-Api-Key': '${OWN}', 'x-access': {source: 'env', id: 'SECRET'}}}}}}";
    let config = load_text(&vars, "offshoot.json", text).unwrap();
    let shown = format!("{config:?} {config:#?} {vars:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    let auth = &config.gateway.auth;
    for secret in
        [&auth.token, &auth.password, &config.gateway.hooks.as_ref().map(|hooks| hooks.token.clone())]
    {
        assert_eq!(secret.as_ref().map(|secret| secret.expose_secret()), Some(SECRET));
    }
    let provider = config.providers.serving(&"x/1".parse().unwrap()).unwrap();
    let headers: Vec<_> =
        provider.headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(headers, [("Authorization", "Bearer hunter2"), ("X-Api-Key", SECRET), ("x-access", SECRET)]);
}

#[test]
fn no_problem_quotes_a_secret() {
    for text in [
        "{env: {OWN: ['hunter2']}}",
        "{env: 'hunter2'}",
        "{env: {vars: 'hunter2'}}",
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: ['hunter2']}}}}",
        "{models: {providers: {x: {baseUrl: 'http://x', headers: 'hunter2'}}}}",
        "{models: {providers: {x: {baseUrl: 'http://x', headers: {a: ['hunter2']}}}}}",
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {source: 'hunter2'}}}}}",
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: {source: 'env', id: 'hunter2'}}}}}",
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: 'hunter2\\u0000'}}}}",
        "{models: {providers: {x: {baseUrl: 'http://hunter2:hunter2@x'}}}}",
        "{models: {providers: {x: {baseUrl: 'hunter2 '}}}}",
        "{agents: {defaults: {subagents: {maxSpawnDepth: '${SECRET}'}}}}",
        "{tools: {profile: '${SECRET}'}}",
        "{agents: {defaults: {model: '${SECRET}'}}}",
        "{tools: {secret: 'hunter2', deny: 5}}",
        "{gateway: {auth: {token: 5, pasword: 'hunter2'}}}",
        "{gateway: {auth: {token: ['hunter2']}}}",
        "{gateway: {auth: {password: {source: 'env', id: 'hunter2'}}}}",
        "{gateway: {auth: {password: {source: 'hunter2', id: 'x'}}}}",
        "{gateway: {auth: 'hunter2'}}",
        "{hooks: {token: ['hunter2']}}",
        "{models: {providers: {x: {baseUrl: 'http://x', apiKey: 'hunter2' 5}}}}",
    ] {
        let problems = problems_with(&[("SECRET", SECRET)], text);
        assert!(!problems.is_empty(), "{text}");
        for problem in problems {
            assert!(!format!("{problem} {problem:?}").contains(SECRET), "{text}\n{problem}");
        }
    }
}
