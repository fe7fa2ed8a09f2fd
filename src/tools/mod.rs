//! The tools that agents have for their sub-agents and sessions.
//!
//! Each tool is a file with one `Tool` and stands in `TABLE`. A call goes through four stages: its arguments
//! become a Rust type, pure functions decide, the tree or the store is asked, and the answer becomes a JSON
//! object, pretty-printed as the model reads it. A refusal is an answer with a `status`, not a failure of the
//! tool.

mod agents_list;
mod arguments;
mod family;
mod lookup;
pub(crate) mod messages;
mod reply;
mod schema;
mod session_status;
mod sessions_history;
mod sessions_list;
pub(crate) mod sessions_spawn;
mod sessions_yield;
mod subagents;
#[cfg(test)]
mod testing;
mod visibility;

use std::fmt;
use std::sync::{Arc, LazyLock};

use offshoot_actors::TreeHandle;
use offshoot_actors::ports::{BoxFuture, Clock, ToolContext, ToolOutput, ToolSpec, Tools};
use offshoot_actors::types::{AgentId, IdempotencyKey, Origin, SessionKey, Timestamp, ToolCall};
use serde_json::{Map, Value};

use reply::Failure;

/// Every tool, in the order in which models are told of them.
const TABLE: [&Tool; 7] = [
    &sessions_spawn::TOOL,
    &subagents::TOOL,
    &sessions_yield::TOOL,
    &sessions_list::TOOL,
    &sessions_history::TOOL,
    &session_status::TOOL,
    &agents_list::TOOL,
];

/// The name of every tool, with the groups that it is in.
pub(crate) fn names() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    TABLE.iter().map(|tool| (tool.name, tool.groups))
}

/// What models are told of the tools. Made at the first look, since a command that runs no agent needs none.
static CATALOG: LazyLock<Vec<Arc<ToolSpec>>> =
    LazyLock::new(|| TABLE.iter().map(|tool| Arc::new(tool.spec())).collect());

/// One tool.
struct Tool {
    name: &'static str,
    description: &'static str,
    /// The JSON Schema of its arguments.
    parameters: fn() -> Value,
    parallel: bool,
    idempotent: bool,
    /// Whether it makes its run wait for the children of its session.
    yields: bool,
    groups: &'static [&'static str],
    run: fn(Call) -> BoxFuture<Result<ToolOutput, Failure>>,
}

impl Tool {
    async fn answer(&self, call: Call) -> ToolOutput {
        (self.run)(call).await.unwrap_or_else(|failure| reply::failure(self.name, &failure))
    }

    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.into(),
            description: self.description.into(),
            parameters: (self.parameters)().to_string().into(),
            parallel: self.parallel,
            idempotent: self.idempotent,
            yields: self.yields,
            groups: self.groups,
        }
    }
}

/// For whom a tool works.
#[derive(Debug)]
pub(crate) struct Context {
    /// The agent of the session.
    pub(crate) agent: AgentId,
    /// The session whose tool it is.
    pub(crate) session: SessionKey,
    /// Who asks: a run of that session, or a client in its place.
    pub(crate) origin: Origin,
    /// The name of the request. Only idempotent tools have use for it.
    pub(crate) idempotency: Option<IdempotencyKey>,
    /// The tree.
    pub(crate) tree: TreeHandle,
}

/// One call, with its arguments as an object.
struct Call {
    context: Context,
    arguments: Map<String, Value>,
    now: Timestamp,
}

/// Uses a tool for a client, which is not in a run.
///
/// # Errors
/// The tool has no meaning outside a run, or cannot be asked twice under one name.
pub(crate) async fn invoke(
    context: Context,
    name: &str,
    arguments: Map<String, Value>,
    now: Timestamp,
) -> Result<ToolOutput, String> {
    let Some(tool) = TABLE.iter().find(|tool| tool.name == name) else {
        return Ok(reply::unknown_tool(name, TABLE.iter().map(|tool| tool.name)));
    };
    if name == sessions_yield::TOOL.name {
        return Err(format!("{name} is not supported outside a run: wait for the run with agent.wait"));
    }
    if context.idempotency.is_some() && !tool.idempotent {
        return Err(format!("idempotencyKey is not supported by offshoot for the tool {name}; leave it out"));
    }
    let (session, origin) = (Some(context.session.clone()), context.origin.clone());
    context.tree.audit_in(session, "tool.invoked", origin, vec![("tool", name.to_owned())]);
    Ok(tool.answer(Call { context, arguments, now }).await)
}

/// The tools for sub-agents and sessions, behind the port of the tree.
pub struct AgentTools {
    clock: Arc<dyn Clock>,
}

impl AgentTools {
    /// Tools that take the time from `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl fmt::Debug for AgentTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentTools").finish_non_exhaustive()
    }
}

impl Tools for AgentTools {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &CATALOG
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        let now = self.clock.now();
        Box::pin(async move {
            let Some(tool) = TABLE.iter().find(|tool| *tool.name == *call.name) else {
                return reply::unknown_tool(&call.name, TABLE.iter().map(|tool| tool.name));
            };
            let arguments = match arguments::object(&call.arguments) {
                Ok(arguments) => arguments,
                Err(error) => return reply::failure(tool.name, &error.into()),
            };
            let ToolContext { agent, session, run, step, repeated, tree, .. } = context;
            let key = format!("{run}:{step}:{}", call.id);
            let idempotency = Some(IdempotencyKey { key, may_repeat: repeated });
            let origin = Origin::Agent { session: session.clone(), run };
            let context = Context { agent, session, origin, idempotency, tree };
            #[cfg(feature = "faults")]
            crate::faults::in_tool(tool.name).await;
            tool.answer(Call { context, arguments, now }).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = TABLE.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn every_schema_is_a_plain_object_that_refuses_what_it_does_not_name() {
        for tool in TABLE {
            let schema = (tool.parameters)();
            let validator = jsonschema::validator_for(&schema).expect(tool.name);
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            let text = schema.to_string();
            for word in ["anyOf", "oneOf", "allOf", "$ref", "$schema", "\"null\"", "\"title\"", "\"default\""]
            {
                assert!(!text.contains(word), "{}: {word} in {text}", tool.name);
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let description = property["description"].as_str().unwrap_or_default();
                assert!((1..=160).contains(&description.len()), "{}.{name}: {description:?}", tool.name);
            }
            assert!(!validator.is_valid(&serde_json::json!({"surprise": 1})), "{}", tool.name);
            assert!(tool.description.len() <= 600, "{}", tool.name);
        }
    }

    #[test]
    fn the_catalog_says_what_the_table_says() {
        for (spec, tool) in CATALOG.iter().zip(TABLE) {
            assert_eq!(&*spec.name, tool.name);
            let parsed: Value = serde_json::from_str(&spec.parameters).unwrap();
            assert_eq!(parsed, (tool.parameters)());
        }
    }
}
