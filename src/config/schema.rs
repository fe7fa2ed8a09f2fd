//! The known keys as a JSON Schema, for clients that draw a form.

use serde_json::{Map, Value, json};

use super::check::{Known, known};
use super::read::is_secret_name;

/// What a key holds that something acts on, by its name.
const TYPES: &[(&str, &str)] = &[
    (
        "integer",
        "maxConcurrent timeoutSeconds idleTimeoutSeconds maxSpawnDepth maxChildrenPerAgent maxDescendants \
         runTimeoutSeconds maxTokens port maxAttempts windowMs lockoutMs debounceMs handshakeTimeoutMs maxBodyBytes \
         archiveAfterMinutes silentAfterSeconds maxFileBytes maxFiles",
    ),
    ("number", "input output cacheRead cacheWrite sampleRate"),
    (
        "boolean",
        "default requireAgentId supportsUsageInStreaming supportsTools allowRealIpFallback exemptLoopback \
         allowLoopback enabled allowExternalEmbedUrls dangerouslyAllowHostHeaderOriginFallback allowInsecureAuth \
         dangerouslyDisableDeviceAuth autoGenerate allowRequestSessionKey exportDeleted \
         traces propagate",
    ),
    (
        "string",
        "$schema id name systemPromptOverride alias primary api baseUrl profile visibility durability mode bind \
         customBindHost token password userHeader basePath root embedSandbox certPath keyPath path \
         defaultSessionKey source provider maxTokensField model apiKey maxAge grace keepRuns \
         auth level consoleLevel file endpoint serviceName",
    ),
    (
        "array",
        "fallbacks allowAgents allow alsoAllow deny trustedProxies requiredHeaders allowUsers allowedOrigins \
         allowedSessionKeyPrefixes allowedAgentIds",
    ),
];
/// Words, where there are only some.
const WORDS: &[(&str, &[&str])] = &[
    ("gateway.auth.mode", &["none", "token", "password", "trusted-proxy"]),
    ("agents.defaults.recovery.mode", &["resume", "interrupt"]),
    ("gateway.bind", &["auto", "lan", "loopback", "custom"]),
    ("gateway.metrics.auth", &["required", "none"]),
    ("logging.level", LEVELS),
    ("logging.consoleLevel", LEVELS),
    ("gateway.reload.mode", &["off", "hot", "hybrid", "restart"]),
    ("store.durability", &["full", "normal"]),
    ("tools.sessions.visibility", &["self", "tree", "agent", "all"]),
    ("tools.profile", &["minimal", "coding", "messaging", "full"]),
];
const LEVELS: &[&str] = &["silent", "off", "fatal", "error", "warn", "info", "debug", "trace"];
const NOT_ACTED_ON: &str = "known to OpenClaw, not acted on by Offshoot";
/// What only a restart puts in force.
const AT_RESTART: &[&str] = &[
    "gateway.port",
    "gateway.bind",
    "gateway.customBindHost",
    "gateway.tls",
    "logging.file",
    "logging.maxFileBytes",
    "logging.maxFiles",
    "store.durability",
];

/// The schema of a whole configuration.
#[must_use]
pub fn whole() -> Value {
    let mut schema = node(&known(), "", "", true);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Offshoot".into();
    schema
}

/// What forms show beside the keys, by path.
#[must_use]
pub fn hints() -> Value {
    let mut hints = Map::new();
    collect_hints(&known(), "", &mut hints);
    Value::Object(hints)
}

/// The schema of one place and what is below it; none where nothing is known.
#[must_use]
pub fn lookup(path: &str) -> Option<Value> {
    let steps = path.split(['.', '/', '[', ']']).filter(|step| !step.is_empty());
    let all = known();
    let (mut known, mut name, mut general): (&Known, &str, Vec<&str>) = (&all, "", Vec::new());
    for step in steps {
        let index = step == "*" || step.bytes().all(|byte| byte.is_ascii_digit());
        let at_list = index.then(|| known.names.get("[]")).flatten();
        general.push(if at_list.is_some() { "[]" } else { step });
        known = at_list.or_else(|| known.below(step))?;
        name = step;
    }
    let general = general.join(".");
    let children: Vec<Value> = known
        .names
        .iter()
        .map(|(child, below)| {
            let mut row = json!({
                "key": child,
                "path": format!("{path}.{}", if *child == "[]" { "*" } else { child }),
                "type": type_of(below, child),
                "required": false,
                "hasChildren": !below.names.is_empty(),
            });
            if let Some(hint) = hint(below, child) {
                row["hint"] = hint;
            }
            row
        })
        .collect();
    let kind = match (AT_RESTART.iter().any(|at| general.starts_with(at)), known.acted_on) {
        (true, _) => "restart",
        (false, true) => "hot",
        (false, false) => "none",
    };
    let mut found = json!({
        "path": path,
        "schema": node(known, name, &general, false),
        "children": children,
        "reloadKind": kind,
    });
    if let Some(hint) = hint(known, name) {
        found["hint"] = hint;
        found["hintPath"] = path.into();
    }
    Some(found)
}

fn type_of(known: &Known, name: &str) -> Value {
    if known.names.contains_key("[]") {
        "array".into()
    } else if !known.names.is_empty() {
        "object".into()
    } else {
        let found = TYPES.iter().find(|(_, names)| names.split_ascii_whitespace().any(|known| known == name));
        found.filter(|_| known.acted_on).map_or(Value::Null, |(kind, _)| (*kind).into())
    }
}

fn node(known: &Known, name: &str, path: &str, deep: bool) -> Value {
    let kind = type_of(known, name);
    let mut schema = match kind.as_str() {
        Some("array") => match known.names.get("[]") {
            Some(items) if deep => {
                json!({ "type": "array", "items": node(items, "[]", &join(path, "[]"), deep) })
            }
            _ => {
                json!({ "type": "array", "items": if known.names.is_empty() { json!({ "type": "string" }) } else { json!({}) } })
            }
        },
        Some("object") => {
            let mut schema = json!({ "type": "object" });
            if deep {
                let named = known.names.iter().filter(|(name, _)| **name != "*");
                let properties: Map<String, Value> = named
                    .map(|(name, below)| ((*name).to_owned(), node(below, name, &join(path, name), deep)))
                    .collect();
                schema["properties"] = properties.into();
                if let Some(any) = known.names.get("*") {
                    schema["additionalProperties"] = node(any, "*", &join(path, "*"), deep);
                }
            }
            // A model or a secret may be a text as well.
            let also_text = ["model", "apiKey", "token", "password"].contains(&name)
                || (name == "*" && path.ends_with("headers.*"));
            if also_text { json!({ "anyOf": [{ "type": "string" }, schema] }) } else { schema }
        }
        Some(kind) => json!({ "type": kind }),
        None => json!({}),
    };
    if let Some((_, words)) = WORDS.iter().find(|(at, _)| *at == path) {
        schema["enum"] = json!(words);
    }
    if !known.acted_on {
        schema["description"] = NOT_ACTED_ON.into();
    }
    schema
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn hint(known: &Known, name: &str) -> Option<Value> {
    if !known.acted_on {
        return Some(json!({ "help": NOT_ACTED_ON, "advanced": true }));
    }
    (is_secret_name(name) && !name.ends_with("SessionKey")).then(|| json!({ "sensitive": true }))
}

fn collect_hints(known: &Known, path: &str, hints: &mut Map<String, Value>) {
    for (name, below) in &known.names {
        let path = join(path, name);
        if let Some(hint) = hint(below, name) {
            hints.insert(path.clone(), hint);
        }
        if below.acted_on {
            collect_hints(below, &path, hints);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_acted_on_has_a_type() {
        fn check(known: &Known, path: &str) {
            for (name, below) in known.names.iter().filter(|(_, below)| below.acted_on) {
                let path = join(path, name);
                let free = matches!(*name, "*") || path == "agents.defaults.models.*";
                assert!(free || !type_of(below, name).is_null(), "{path}");
                check(below, &path);
            }
        }
        check(&known(), "");
    }

    #[test]
    fn the_schema_takes_what_the_reader_takes() {
        let schema = whole();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let good = json!({ "gateway": { "port": 1, "auth": { "mode": "token", "token": { "source": "env", "id": "X" } } },
            "agents": { "list": [{ "id": "main", "model": "a/b", "subagents": { "allowAgents": ["*"] } }] },
            "models": { "providers": { "p": { "baseUrl": "http://x", "headers": { "h": "v" } } } } });
        assert!(
            validator.is_valid(&good),
            "{:?}",
            validator.iter_errors(&good).map(|e| e.to_string()).collect::<Vec<_>>()
        );
        for bad in [
            json!({ "gateway": { "port": "many" } }),
            json!({ "agents": [] }),
            json!({ "store": { "durability": "some" } }),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }

    #[test]
    fn a_place_is_found_however_it_is_written() {
        for path in ["agents.list[0].model", "agents.list.*.model", "agents/list/0/model"] {
            let found = lookup(path).unwrap();
            assert_eq!((&found["path"], &found["reloadKind"]), (&json!(path), &json!("hot")));
            assert!(found["children"].as_array().unwrap().iter().any(|child| child["key"] == "primary"));
        }
        assert_eq!(lookup("gateway.port").unwrap()["reloadKind"], "restart");
        assert_eq!(lookup("gateway.auth.token").unwrap()["hint"]["sensitive"], true);
        assert_eq!(lookup("no.such.place"), None);
    }
}
