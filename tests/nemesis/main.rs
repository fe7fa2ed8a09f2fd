//! The shipped program under a nemesis: clients with real sockets, a model server, and a process that is killed,
//! stopped and starved of room while they work. What they saw and what the store holds goes to a checker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

mod checker;
mod client;
mod daemon;
mod dice;
mod faults;
mod history;
mod model;
mod nothing_lost;
mod plan;
#[path = "../common/skipped.rs"]
mod skipped;
mod soak;
mod store;
mod synced;
mod workload;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a whole number"))
}

/// Agents whose model is the server at this URL.
fn config(url: &str, more: &serde_json::Value) -> String {
    let mut config = serde_json::json!({
        "models": { "providers": { "script": { "baseUrl": url } } },
        "agents": { "defaults": { "model": "script/plan", "maxConcurrent": 4,
            "subagents": { "maxConcurrent": 8, "maxChildrenPerAgent": 8 } } },
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config.to_string()
}
