//! `agents_list`: the agents that a spawn may name.

use offshoot_actors::policy::admission::targets;
use offshoot_actors::ports::ToolOutput;
use offshoot_actors::types::{AgentId, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reply::{self, Failure};
use super::{Call, Tool, arguments, schema};

/// Agents in one answer.
const MAX_AGENTS: usize = 500;

pub(super) const TOOL: Tool = Tool {
    name: "agents_list",
    description: "List the agents that you may name as agentId in sessions_spawn.",
    parameters: schema::of::<Parameters>,
    parallel: true,
    idempotent: true,
    yields: false,
    groups: &["agents", "openclaw"],
    run: |call| Box::pin(async move { run(call) }),
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Agents {
    requester: AgentId,
    allow_any: bool,
    agents: Vec<Agent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Agent {
    id: AgentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    configured: bool,
    model: String,
}

fn run(call: Call) -> Result<ToolOutput, Failure> {
    let Parameters {} = arguments::read(call.arguments)?;
    Ok(reply::ok(&shape(&call.context.tree.settings(), &call.context.agent)))
}

fn shape(settings: &Settings, requester: &AgentId) -> Agents {
    let (mut ids, allow_any) = targets(settings, requester);
    ids.sort_by(|a, b| (a != requester, a).cmp(&(b != requester, b)));
    ids.dedup();
    let omitted = Some(ids.len().saturating_sub(MAX_AGENTS)).filter(|more| *more > 0);
    let agents = ids
        .iter()
        .take(MAX_AGENTS)
        .filter_map(|id| settings.agent(id))
        .map(|agent| Agent {
            id: agent.id.clone(),
            name: agent.name.clone(),
            configured: true,
            model: agent.model.primary.to_string(),
        })
        .collect();
    Agents { requester: requester.clone(), allow_any, agents, omitted }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use offshoot_actors::types::AllowAgents;
    use serde_json::{Value, json};

    use super::*;
    use crate::tools::testing::settings;

    fn value(settings: &Settings) -> Value {
        serde_json::to_value(shape(settings, &"main".parse().unwrap())).unwrap()
    }

    #[test]
    fn without_a_list_there_is_only_the_requester() {
        assert_eq!(
            value(&settings(&["helper"])),
            json!({
                "requester": "main",
                "allowAny": false,
                "agents": [{"id": "main", "configured": true, "model": "p/main"}],
            })
        );
    }

    #[test]
    fn the_requester_comes_first_then_the_others_by_name() {
        let mut settings = settings(&["zoe", "ada"]);
        settings.subagents.allow_agents = Some(AllowAgents::Any);
        Arc::make_mut(settings.agents.get_mut(&"ada".parse::<AgentId>().unwrap()).unwrap()).name =
            Some("Ada".to_owned());
        let value = value(&settings);
        assert_eq!(value["allowAny"], true);
        let ids: Vec<&str> =
            value["agents"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["main", "ada", "zoe"]);
        assert_eq!(value["agents"][1]["name"], "Ada");
    }

    #[test]
    fn a_list_that_leaves_the_requester_out_leaves_it_out() {
        let mut settings = settings(&["zoe", "ada"]);
        let ids = ["zoe", "ada", "zoe", "ghost"].map(|id| id.parse().unwrap());
        settings.subagents.allow_agents = Some(AllowAgents::Only(ids.to_vec()));
        let value = value(&settings);
        let ids: Vec<&str> =
            value["agents"].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["ada", "zoe"]);
    }
}
