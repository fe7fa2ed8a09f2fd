use super::*;
use crate::ports::ModelErrorKind;
use crate::types::{SubagentOverrides, ToolRules};

fn agent_id(id: &str) -> AgentId {
    id.parse().unwrap()
}

fn choice(primary: &str) -> ModelChoice {
    ModelChoice { primary: primary.parse().unwrap(), fallbacks: vec!["p/fallback".parse().unwrap()] }
}

fn agent(id: &str) -> AgentSettings {
    AgentSettings {
        id: agent_id(id),
        name: None,
        model: choice(&format!("p/{id}")),
        system_prompt: None,
        tools: ToolRules::default(),
        subagents: SubagentOverrides::default(),
        recovery: crate::types::RecoveryOverrides::default(),
    }
}

fn settings(ids: &[&str]) -> Settings {
    let mut settings = Settings::with_model(agent_id("main"), "p/main".parse().unwrap());
    for id in ids {
        settings.agents.insert(agent_id(id), Arc::new(agent(id)));
    }
    settings
}

fn edit(settings: &mut Settings, id: &str, change: impl FnOnce(&mut AgentSettings)) {
    change(Arc::make_mut(settings.agents.get_mut(&agent_id(id)).unwrap()));
}

fn only(ids: &[&str]) -> Option<AllowAgents> {
    Some(AllowAgents::Only(ids.iter().map(|id| agent_id(id)).collect()))
}

fn resolve(name: &str) -> Result<ModelRef, ModelError> {
    match name {
        "fast" => Ok("p/fast".parse()?),
        name if name.starts_with("gone") => {
            Err(ModelError::new(ModelErrorKind::NotFound, format!("no provider for {name}")))
        }
        name => Ok(name.parse()?),
    }
}

fn catalog() -> Vec<Arc<ToolSpec>> {
    ["sessions_spawn", "subagents", "sessions_yield", "session_status", "agents_list", "read"]
        .map(|name| {
            Arc::new(ToolSpec {
                name: name.into(),
                description: "".into(),
                parameters: "{}".into(),
                parallel: true,
                idempotent: true,
                yields: false,
                groups: &[],
            })
        })
        .to_vec()
}

/// A parent with everything that a test may change.
#[derive(Debug)]
struct Case {
    request: SpawnRequest,
    settings: Settings,
    counters: Counters,
    agent: AgentId,
    depth: u32,
    tools: Arc<[Arc<str>]>,
    active_model: Option<ModelChoice>,
    stopping: bool,
}

impl Case {
    fn new(ids: &[&str]) -> Self {
        Self {
            request: SpawnRequest::new("agent:main:main".parse().unwrap(), "Do it"),
            settings: settings(ids),
            counters: Counters::default(),
            agent: agent_id("main"),
            depth: 0,
            tools: catalog().iter().map(|tool| Arc::clone(&tool.name)).collect(),
            active_model: None,
            stopping: false,
        }
    }

    fn to(mut self, agent: &str) -> Self {
        self.request.agent = Some(agent.to_owned());
        self
    }

    fn admit(&self) -> Result<Admitted, Refusal> {
        let parent = Parent {
            key: &self.request.parent,
            agent: &self.agent,
            depth: self.depth,
            tools: &self.tools,
            active_model: self.active_model.as_ref(),
            stopping: self.stopping,
        };
        admit(&self.request, &parent, &self.settings, self.counters, &resolve, &catalog())
    }

    fn refusal(&self) -> Refusal {
        self.admit().unwrap_err()
    }
}

#[test]
fn a_plain_spawn_gets_the_parents_agent_and_every_default() {
    let admitted = Case::new(&[]).admit().unwrap();
    assert_eq!(admitted.agent, agent_id("main"));
    assert_eq!(admitted.depth, 1);
    assert_eq!(admitted.timeout, None);
    assert_eq!((admitted.mode, admitted.cleanup), (Mode::Run, Cleanup::Keep));
    assert_eq!(admitted.task, "Do it");
    let tools: Vec<&str> = admitted.tools.iter().map(AsRef::as_ref).collect();
    assert_eq!(tools, ["sessions_spawn", "subagents", "sessions_yield", "read"]);
}

#[test]
fn an_agent_id_outside_the_syntax() {
    let refusal = Case::new(&[]).to("no spaces").refusal();
    assert_eq!(refusal.code, "agent_id");
    assert_eq!(
        refusal.message,
        "Invalid agentId \"no spaces\". Agent IDs must match [a-z0-9][a-z0-9_-]{0,63}. \
         Use agents_list to discover valid targets."
    );
    let long = Case::new(&[]).to(&"x".repeat(100_000)).refusal();
    assert!(long.message.len() < 300, "a refusal repeats little of what it was sent");
}

#[test]
fn too_deep() {
    let mut case = Case::new(&[]);
    case.settings.subagents.max_depth = 2;
    case.depth = 2;
    let refusal = case.refusal();
    assert_eq!(refusal.message, "sessions_spawn is not allowed at this depth (current depth: 2, max: 2)");
    assert!(refusal.hint.unwrap().contains("agents.defaults.subagents.maxSpawnDepth"));
    case.depth = 1;
    let admitted = case.admit().unwrap();
    assert_eq!(admitted.depth, 2);
    assert!(!admitted.tools.iter().any(|tool| &**tool == "sessions_spawn"), "the deepest level is a leaf");
}

#[test]
fn too_many_children_or_descendants() {
    let mut case = Case::new(&[]);
    case.counters = Counters { children: 5, descendants: 5 };
    let refusal = case.refusal();
    assert_eq!(refusal.message, "sessions_spawn has reached max active children for this session (5/5)");
    assert!(refusal.hint.unwrap().contains("maxChildrenPerAgent"));
    case.counters = Counters { children: 4, descendants: 1_000 };
    assert_eq!(case.refusal().code, "descendants");
    assert!(case.refusal().hint.unwrap().contains("agents.defaults.subagents.maxDescendants"));
}

#[test]
fn an_agent_id_may_be_required() {
    let mut case = Case::new(&[]);
    case.settings.subagents.require_agent_id = true;
    let refusal = case.refusal();
    assert_eq!(refusal.code, "agent_required");
    assert_eq!(
        refusal.message,
        "sessions_spawn requires explicit agentId when requireAgentId is configured. \
         Use agents_list to see allowed agent ids."
    );
    edit(&mut case.settings, "main", |main| main.subagents.require_agent_id = Some(false));
    assert!(case.admit().is_ok());
}

#[test]
fn another_agent_needs_the_allow_list() {
    let mut case = Case::new(&["finance", "helper"]).to("Finance");
    let refusal = case.refusal();
    assert_eq!(refusal.kind, crate::types::RefusalKind::Forbidden);
    assert_eq!(refusal.message, "agentId is not allowed for sessions_spawn (allowed: none)");
    assert!(refusal.hint.unwrap().contains("add finance to agents.defaults.subagents.allowAgents"));

    case.settings.subagents.allow_agents = only(&["helper"]);
    assert_eq!(case.refusal().message, "agentId is not allowed for sessions_spawn (allowed: helper)");
    case.settings.subagents.allow_agents = only(&["helper", "finance"]);
    assert_eq!(case.admit().unwrap().agent, agent_id("finance"));
    case.settings.subagents.allow_agents = Some(AllowAgents::Any);
    assert!(case.admit().is_ok());
}

#[test]
fn an_agents_own_list_replaces_the_default() {
    let mut case = Case::new(&["finance"]).to("finance");
    case.settings.subagents.allow_agents = Some(AllowAgents::Any);
    edit(&mut case.settings, "main", |main| main.subagents.allow_agents = only(&[]));
    let refusal = case.refusal();
    assert_eq!(refusal.message, "agentId is not allowed for sessions_spawn (allowed: none)");
    assert!(refusal.hint.unwrap().contains("add finance to subagents.allowAgents of agent main"));
    edit(&mut case.settings, "main", |main| main.subagents.allow_agents = only(&["finance"]));
    case.settings.subagents.allow_agents = only(&[]);
    assert!(case.admit().is_ok());
}

#[test]
fn oneself_is_allowed_until_a_list_leaves_it_out() {
    let mut case = Case::new(&["helper"]).to("main");
    assert!(case.admit().is_ok());
    case.settings.subagents.allow_agents = only(&["helper"]);
    assert_eq!(case.refusal().code, "agent_not_allowed");
    case.request.agent = None;
    assert!(case.admit().is_ok(), "without an agentId it is the requester, whatever the list says");
}

#[test]
fn an_agent_must_be_configured() {
    let mut case = Case::new(&["helper"]).to("ghost");
    case.settings.subagents.allow_agents = only(&["ghost", "helper"]);
    let refusal = case.refusal();
    assert_eq!(refusal.code, "agent_unknown");
    assert_eq!(refusal.message, "agentId is not allowed for sessions_spawn (allowed: helper)");
    assert!(refusal.hint.unwrap().contains("(configured: helper, main)"));

    case.settings.subagents.allow_agents = None;
    let hint = case.refusal().hint.unwrap();
    assert!(hint.contains("allowAgents") && hint.contains("agents.list"), "both settings are named: {hint}");
}

#[test]
fn a_long_list_is_cut_in_refusals() {
    let ids: Vec<String> = (0..500).map(|n| format!("a{n:03}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut case = Case::new(&ids).to("ghost");
    case.settings.subagents.allow_agents = Some(AllowAgents::Any);
    let refusal = case.refusal();
    assert!(refusal.message.ends_with("and 469 more)"), "{}", refusal.message);
}

#[test]
fn a_stopping_parent_spawns_nothing() {
    let mut case = Case::new(&[]);
    case.stopping = true;
    assert_eq!(case.refusal().code, "stopping");
}

#[test]
fn the_model_comes_from_the_first_that_names_one() {
    let mut case = Case::new(&["helper"]);
    case.settings.subagents.allow_agents = Some(AllowAgents::Any);
    let primary = |case: &Case| case.admit().unwrap().model.primary.to_string();

    assert_eq!(primary(&case), "p/main");
    case.active_model = Some(choice("p/active"));
    assert_eq!(case.admit().unwrap().model, choice("p/active"));
    case.request.agent = Some("helper".to_owned());
    assert_eq!(primary(&case), "p/helper", "another agent does not inherit");
    case.settings.subagents.model = Some(choice("p/children"));
    assert_eq!(primary(&case), "p/children");
    edit(&mut case.settings, "helper", |helper| helper.subagents.model = Some(choice("p/helpers")));
    assert_eq!(primary(&case), "p/helpers");
    case.request.model = Some(" fast ".to_owned());
    let explicit = case.admit().unwrap().model;
    assert_eq!(explicit.primary.as_str(), "p/fast");
    assert!(explicit.fallbacks.is_empty(), "a model that was asked for is not replaced by another");
}

#[test]
fn a_model_that_cannot_be_called() {
    let mut case = Case::new(&[]);
    case.request.model = Some("gone/x".to_owned());
    let refusal = case.refusal();
    assert_eq!(refusal.code, "model");
    assert_eq!(refusal.message, "model \"gone/x\" cannot be used: no provider for gone/x");
    case.request.model = None;
    case.settings.subagents.model = Some(choice("gone/y"));
    assert!(case.refusal().hint.unwrap().contains("agents.defaults.subagents.model"));
}

#[test]
fn the_task_has_bounds() {
    let mut case = Case::new(&[]);
    case.request.task = " \n\t ".to_owned();
    assert_eq!(case.refusal().code, "task_empty");
    case.settings.prompts.max_text = 4;
    case.request.task = " four ".to_owned();
    assert_eq!(case.admit().unwrap().task, "four");
    case.request.task = "fünf".to_owned();
    assert_eq!(case.refusal().message, "task has 5 bytes, 4 are allowed");
}

#[test]
fn a_label_is_one_bounded_line() {
    let mut case = Case::new(&[]);
    case.request.label = Some(" two\nlines\u{1b} ".to_owned());
    assert_eq!(case.admit().unwrap().label.as_deref(), Some("two lines"));
    case.request.label = Some("  ".to_owned());
    assert_eq!(case.admit().unwrap().label, None);
    case.request.label = Some("x".repeat(513));
    assert_eq!(case.refusal().code, "label_too_long");
}

#[test]
fn zero_asks_for_no_deadline() {
    let mut case = Case::new(&[]);
    case.settings.subagents.run_timeout = Some(Duration::from_secs(9));
    assert_eq!(case.admit().unwrap().timeout, Some(Duration::from_secs(9)));
    case.request.timeout = Some(Duration::ZERO);
    assert_eq!(case.admit().unwrap().timeout, None);
    case.request.timeout = Some(Duration::from_nanos(1));
    assert_eq!(case.admit().unwrap().timeout, Some(Duration::from_millis(1)));
    case.request.timeout = Some(MAX_TIMEOUT);
    assert_eq!(case.admit().unwrap().timeout, Some(MAX_TIMEOUT));
    case.request.timeout = Some(MAX_TIMEOUT + Duration::from_nanos(1));
    assert_eq!(case.refusal().code, "timeout");
}

#[test]
fn a_session_that_stays_is_kept() {
    let mut case = Case::new(&[]);
    case.request.mode = Mode::Session;
    case.request.cleanup = Cleanup::Delete;
    let admitted = case.admit().unwrap();
    assert_eq!((admitted.mode, admitted.cleanup), (Mode::Session, Cleanup::Keep));
    case.request.mode = Mode::Run;
    assert_eq!(case.admit().unwrap().cleanup, Cleanup::Delete);
}

#[test]
fn targets_are_what_a_spawn_would_admit() {
    let mut settings = settings(&["helper", "finance"]);
    let main = agent_id("main");
    assert_eq!(targets(&settings, &main), (vec![main.clone()], false));
    settings.subagents.allow_agents = only(&["helper", "ghost"]);
    assert_eq!(targets(&settings, &main), (vec![agent_id("helper")], false));
    settings.subagents.allow_agents = Some(AllowAgents::Any);
    assert_eq!(
        targets(&settings, &main),
        (vec![agent_id("finance"), agent_id("helper"), main.clone()], true)
    );
}

mod properties;
