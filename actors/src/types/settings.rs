//! The configuration in force, as the tree needs it. Where it comes from is the daemon's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AgentId, ModelRef, Refusal};

/// The longest deadline of a run: a year. Past it a number is a mistake, and zero is the way to ask for none.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The most starts in a row that may die with a run at work before it is quarantined.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// Agents that an error names.
const MAX_NAMED: usize = 20;

/// A model and the ones to try when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelChoice {
    /// The model to call.
    pub primary: ModelRef,
    /// Tried in order when a call has failed for good.
    pub fallbacks: Vec<ModelRef>,
}

/// Which agents a requester may spawn besides itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowAgents {
    /// Every configured agent (`["*"]`).
    Any,
    /// These, in the order of the configuration.
    Only(Vec<AgentId>),
}

/// Allow and deny patterns for tools: names, `group:<name>`, `*` wildcards, any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolRules {
    /// Empty means everything.
    pub allow: Vec<String>,
    /// Added to `allow`, or to what a base policy would deny.
    pub also_allow: Vec<String>,
    /// Wins over both.
    pub deny: Vec<String>,
    /// A named starting set: `minimal`, `coding`, `messaging`, `full`.
    pub profile: Option<String>,
}

/// Limits and defaults for sub-agents (`agents.defaults.subagents`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubagentSettings {
    /// Children that a session may have open at once, 1..=1,000,000.
    pub max_children: u32,
    /// Depth of the deepest session, 1..=64; a main session has depth 0.
    pub max_depth: u32,
    /// Open descendants of one root session.
    pub max_descendants: u32,
    /// The hard deadline of a run that names none, up to [`MAX_TIMEOUT`]; none means no deadline.
    pub run_timeout: Option<Duration>,
    /// Whether a spawn must name its agent.
    pub require_agent_id: bool,
    /// Who may be spawned; none means the list is not configured, which allows the requester itself only.
    pub allow_agents: Option<AllowAgents>,
    /// The model of children whose spawn names none.
    pub model: Option<ModelChoice>,
    /// Changes to what sub-agents are denied (`tools.subagents.tools`).
    pub tools: ToolRules,
}

/// What one agent sets for its own spawns (`agents.list[].subagents`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubagentOverrides {
    /// Replaces the default list.
    pub allow_agents: Option<AllowAgents>,
    /// The model of children that run as this agent.
    pub model: Option<ModelChoice>,
    /// Replaces the default.
    pub require_agent_id: Option<bool>,
}

/// What becomes of a run that was open when the daemon went down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecoveryMode {
    /// The next start goes on with it from its last committed step.
    #[default]
    Resume,
    /// The next start ends it as interrupted.
    Interrupt,
}

impl RecoveryMode {
    /// Both, in the order in which they are explained.
    pub const ALL: [Self; 2] = [Self::Resume, Self::Interrupt];

    /// The name in the configuration and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Interrupt => "interrupt",
        }
    }
}

/// How a start of the daemon decides on the runs that an earlier one left open (`agents.defaults.recovery`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverySettings {
    /// For runs whose spawn says nothing else.
    pub mode: RecoveryMode,
    /// A run whose session was written to longer ago than this is interrupted, unless it waits for children; none means
    /// that no run is too old.
    pub max_age: Option<Duration>,
    /// A run that was at work at so many starts in a row that died is quarantined, 1..=1,000.
    pub max_attempts: u32,
    /// How long runs may take to come to the end of their step when the daemon is asked to stop.
    pub grace: Duration,
}

/// What one agent sets for its own runs (`agents.list[].recovery`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryOverrides {
    /// Replaces the default.
    pub mode: Option<RecoveryMode>,
    /// Replaces the default; `Some(None)` means that no run is too old.
    pub max_age: Option<Option<Duration>>,
    /// Replaces the default.
    pub max_attempts: Option<u32>,
}

/// What is kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionSettings {
    /// How long a sub-agent's session of mode `run` stays after it was last written to
    /// (`agents.defaults.subagents.archiveAfterMinutes`); none means for good.
    pub archive_after: Option<Duration>,
    /// Whether a session that is to be deleted once its result was delivered is exported first
    /// (`agents.defaults.subagents.exportDeleted`). Then the tree itself deletes none.
    pub export_deleted: bool,
    /// How long the runs of a deleted session stay (`store.keepRuns`); none means for good.
    pub keep_runs: Option<Duration>,
}

/// One configured agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// Its id.
    pub id: AgentId,
    /// Its name for people.
    pub name: Option<String>,
    /// Its model.
    pub model: ModelChoice,
    /// The system prompt of its runs, if one is configured.
    pub system_prompt: Option<String>,
    /// What its tools may be.
    pub tools: ToolRules,
    /// Its own rules for spawning.
    pub subagents: SubagentOverrides,
    /// Its own rules for what becomes of its runs when the daemon goes down.
    pub recovery: RecoveryOverrides,
}

/// Runs that may execute at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Runs of sessions that nobody spawned (`agents.defaults.maxConcurrent`).
    pub main: u32,
    /// Runs of sub-agents (`agents.defaults.subagents.maxConcurrent`).
    pub subagent: u32,
}

/// Bounds of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Model calls in one run, at least 1; past it the run ends `partial`.
    pub max_steps: u32,
    /// Calls of the same model after a failure that may pass.
    pub max_retries: u32,
    /// The deadline of a run that nobody spawned, up to [`MAX_TIMEOUT`] (`agents.defaults.timeoutSeconds`).
    pub timeout: Option<Duration>,
}

/// Bounds of what a client or a model may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptLimits {
    /// Bytes of one task or message, at least 1.
    pub max_text: usize,
    /// Messages that wait in one session, at least 1.
    pub max_queued: usize,
    /// Bytes of one label.
    pub max_label: usize,
}

/// Which sessions an agent's tools may see (`tools.sessions.visibility`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Its own session.
    Own,
    /// Its own and what it spawned, at any depth.
    Tree,
    /// All of the same agent.
    Agent,
    /// Every session.
    All,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The agents, the default one among them.
    pub agents: BTreeMap<AgentId, Arc<AgentSettings>>,
    /// The agent of a request that names none.
    pub default_agent: AgentId,
    /// Limits and defaults for sub-agents.
    pub subagents: SubagentSettings,
    /// Tool rules for every agent (`tools.*`).
    pub tools: ToolRules,
    /// Which sessions an agent's tools may see.
    pub visibility: Visibility,
    /// Runs that may execute at once.
    pub lanes: LaneLimits,
    /// Bounds of one run.
    pub runs: RunLimits,
    /// What becomes of runs when the daemon goes down.
    pub recovery: RecoverySettings,
    /// What is kept, and how long.
    pub retention: RetentionSettings,
    /// Bounds of messages.
    pub prompts: PromptLimits,
    /// How long a quiet session stays in memory.
    pub sleep_after: Duration,
}

/// Settings that contradict each other or leave their range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SettingsError {
    /// The setting.
    pub path: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Settings {
    /// One agent `main` on `model`, every limit at its default.
    #[must_use]
    pub fn with_model(main: AgentId, model: ModelRef) -> Self {
        let agent = AgentSettings {
            id: main.clone(),
            name: None,
            model: ModelChoice { primary: model, fallbacks: Vec::new() },
            system_prompt: None,
            tools: ToolRules::default(),
            subagents: SubagentOverrides::default(),
            recovery: RecoveryOverrides::default(),
        };
        Self {
            agents: BTreeMap::from([(main.clone(), Arc::new(agent))]),
            default_agent: main,
            subagents: SubagentSettings::default(),
            tools: ToolRules::default(),
            visibility: Visibility::All,
            lanes: LaneLimits { main: 4, subagent: 8 },
            runs: RunLimits { max_steps: 1_000, max_retries: 3, timeout: Some(Duration::from_secs(172_800)) },
            recovery: RecoverySettings::default(),
            retention: RetentionSettings::default(),
            prompts: PromptLimits { max_text: 1 << 20, max_queued: 256, max_label: 512 },
            sleep_after: Duration::from_secs(30),
        }
    }

    /// The answer to whoever names an agent that is not configured.
    #[must_use]
    pub fn no_agent(&self, id: &AgentId) -> Refusal {
        let known: Vec<&str> = self.agents.keys().take(MAX_NAMED).map(AgentId::as_str).collect();
        let more = if self.agents.len() > known.len() { ", ..." } else { "" };
        Refusal::error("agent", format!("there is no agent {id}"))
            .with_hint(format!("configured are {}{more}; add it to agents.list", known.join(", ")))
    }

    /// Whether every value is in its range and every name resolves.
    ///
    /// # Errors
    /// The first setting that does not, with what would be right.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let range = |path, value: u32, max: u32| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(SettingsError { path, problem: format!("{value} is out of range, use 1 to {max}") })
            }
        };
        range("agents.defaults.subagents.maxChildrenPerAgent", self.subagents.max_children, 1_000_000)?;
        range("agents.defaults.subagents.maxSpawnDepth", self.subagents.max_depth, 64)?;
        range("agents.defaults.subagents.maxDescendants", self.subagents.max_descendants, 10_000_000)?;
        range("agents.defaults.subagents.maxConcurrent", self.lanes.subagent, 1_000_000)?;
        range("agents.defaults.maxConcurrent", self.lanes.main, 1_000_000)?;
        range("agents.defaults.recovery.maxAttempts", self.recovery.max_attempts, MAX_ATTEMPTS)?;
        let above_zero = |path, value: usize| match value {
            0 => Err(SettingsError { path, problem: "0 is out of range, use at least 1".to_owned() }),
            _ => Ok(()),
        };
        above_zero("runs.max_steps", self.runs.max_steps as usize)?;
        above_zero("prompts.max_text", self.prompts.max_text)?;
        above_zero("prompts.max_queued", self.prompts.max_queued)?;
        let deadline = |path, timeout: Option<Duration>| match timeout {
            Some(timeout) if timeout > MAX_TIMEOUT => {
                let (given, most) = (timeout.as_secs(), MAX_TIMEOUT.as_secs());
                let problem = format!("{given} is out of range, use 1 to {most}, or 0 for none");
                Err(SettingsError { path, problem })
            }
            _ => Ok(()),
        };
        deadline("agents.defaults.subagents.runTimeoutSeconds", self.subagents.run_timeout)?;
        deadline("agents.defaults.timeoutSeconds", self.runs.timeout)?;
        if self.agents.contains_key(&self.default_agent) {
            Ok(())
        } else {
            Err(SettingsError {
                path: "agents.list",
                problem: format!("the default agent {} is not configured", self.default_agent),
            })
        }
    }

    /// The agent with this id.
    #[must_use]
    pub fn agent(&self, id: &AgentId) -> Option<&Arc<AgentSettings>> {
        self.agents.get(id)
    }
}

impl Default for RecoverySettings {
    fn default() -> Self {
        Self {
            mode: RecoveryMode::Resume,
            max_age: Some(Duration::from_secs(7 * 24 * 60 * 60)),
            max_attempts: 2,
            grace: Duration::from_secs(5),
        }
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            archive_after: Some(Duration::from_secs(60 * 60)),
            export_deleted: false,
            keep_runs: Some(Duration::from_secs(90 * 24 * 60 * 60)),
        }
    }
}

impl Default for SubagentSettings {
    fn default() -> Self {
        Self {
            max_children: 5,
            max_depth: 5,
            max_descendants: 1_000,
            run_timeout: None,
            require_agent_id: false,
            allow_agents: None,
            model: None,
            tools: ToolRules::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_zero_would_let_nothing_through() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
            assert_eq!(settings.validate(), Ok(()));
            change(&mut settings);
            settings.validate().unwrap_err().path
        };
        assert_eq!(refused(|settings| settings.runs.max_steps = 0), "runs.max_steps");
        assert_eq!(refused(|settings| settings.prompts.max_text = 0), "prompts.max_text");
        assert_eq!(refused(|settings| settings.prompts.max_queued = 0), "prompts.max_queued");
        assert_eq!(refused(|settings| settings.lanes.main = 0), "agents.defaults.maxConcurrent");
    }
}
