//! `sessions_yield`: ends the turn until the sub-agents are done.

use offshoot_actors::ports::ToolOutput;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reply::{Failure, clip, ok_then_yield};
use super::{Call, Tool, arguments, schema};

/// Characters of the message that the answer repeats.
const MAX_MESSAGE: usize = 4_000;

pub(super) const TOOL: Tool = Tool {
    name: "sessions_yield",
    description: "End your turn and wait for your sub-agents. You are called again once, when all of them are \
                  done, with their results in the conversation. Use it after sessions_spawn instead of polling.",
    parameters: schema::of::<Parameters>,
    parallel: false,
    idempotent: true,
    yields: true,
    groups: &["sessions", "openclaw"],
    run: |call| Box::pin(async move { run(call) }),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Parameters {
    /// A note to yourself on what you wait for.
    message: Option<String>,
}

#[derive(Serialize)]
struct Yielded {
    status: &'static str,
    message: String,
}

fn run(call: Call) -> Result<ToolOutput, Failure> {
    let parameters: Parameters = arguments::read(call.arguments)?;
    Ok(ok_then_yield(&shape(parameters)))
}

fn shape(parameters: Parameters) -> Yielded {
    let message = arguments::filled(parameters.message)
        .map_or_else(|| "Waiting for sub-agents.".to_owned(), |message| clip(&message, MAX_MESSAGE).0);
    Yielded { status: "yielded", message }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::ports::Effect;
    use serde_json::{Value, json};

    use super::*;

    fn answer(arguments: &str) -> ToolOutput {
        ok_then_yield(&shape(arguments::read(arguments::object(arguments).unwrap()).unwrap()))
    }

    #[test]
    fn the_turn_ends_with_the_message() {
        let output = answer(r#"{"message": " three reports "}"#);
        assert_eq!(output.effect, Effect::Yield);
        let value: Value = serde_json::from_str(&output.text).unwrap();
        assert_eq!(value, json!({"status": "yielded", "message": "three reports"}));
    }

    #[test]
    fn without_a_message_there_is_one_all_the_same() {
        assert!(answer("{}").text.contains("Waiting for sub-agents."));
        assert!(answer(&json!({"message": "x".repeat(9_000)}).to_string()).text.len() < 4_200);
    }
}
