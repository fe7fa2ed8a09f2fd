//! The examples of `docs/configuration.md`.

use super::environment;
use crate::config::load_text;

const PAGE: &str = include_str!("../../../docs/configuration.md");

#[test]
fn each_example_loads_without_a_problem() {
    let examples: Vec<&str> = PAGE
        .split("```json5\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(text, _)| text))
        .collect();
    assert!(examples.len() >= 4, "{} examples", examples.len());
    let vars = environment(&[
        ("OPENAI_API_KEY", "k"),
        ("PROXY_TOKEN", "k"),
        ("GATEWAY_TOKEN", "k"),
        ("HOOK_TOKEN", "k"),
    ]);
    for example in examples {
        match load_text(&vars, "example", example) {
            Ok(config) => {
                assert!(config.problems.is_empty(), "{:?}\n{example}", config.problems);
            }
            Err(error) => panic!("{error}\n{example}"),
        }
    }
}

#[test]
fn each_key_that_is_acted_on_is_documented() {
    for (_, names) in crate::config::keys::ACTED_ON {
        for name in names.split_ascii_whitespace().filter(|name| *name != "*") {
            assert!(PAGE.contains(name), "{name} is missing");
        }
    }
}
