//! `agents.*`: the agents, and the limits of what they spawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::types::{
    AgentId, AgentSettings, AllowAgents, MAX_AGENT_ID, MAX_ATTEMPTS, MAX_TIMEOUT, ModelChoice, RecoveryMode,
    RecoveryOverrides, Settings, SubagentOverrides,
};

use super::models::Models;
use super::problem::Kind;
use super::read::{Cursor, Reader};
use super::tools;
use super::tree::Place;

const MAX_CHILDREN: u32 = 1_000_000;
const MAX_DEPTH: u32 = 64;
const MAX_DESCENDANTS: u32 = 10_000_000;
const MAX_CONCURRENT: u32 = 1_000_000;
/// The longest that a quiet session stays before it is archived, in minutes: ten years.
const MAX_MINUTES: u32 = 10 * 365 * 24 * 60;
/// The longest that a daemon waits for its runs when it is asked to stop.
const MAX_GRACE: Duration = Duration::from_secs(600);
/// The longest deadline that a run may have, in seconds.
pub(super) const MAX_SECONDS: u32 = MAX_TIMEOUT.as_secs() as u32;

/// Reads `agents` into `settings`, which hold the defaults.
pub(super) fn read(
    root: &Cursor<'_>,
    models: &mut Models<'_>,
    reader: &mut Reader<'_>,
    settings: &mut Settings,
) {
    let Some(agents) = reader.section(root, "agents") else { return };
    let main = settings.default_agent.clone();
    let Some(template) = settings.agents.get(&main) else { return };
    let mut template = AgentSettings::clone(template);
    let mut roster = Roster { models, reader, order: Vec::new(), agents: BTreeMap::new(), named: Vec::new() };
    roster.defaults(&agents, &mut template, settings);
    roster.entries(&agents, &template);
    roster.list(&agents, &template);
    roster.finish(template, settings);
}

struct Agent {
    settings: AgentSettings,
    place: Place,
    /// Where `default: true` stands.
    marked: Option<(Place, String)>,
}

struct Roster<'r, 'm, 'v> {
    models: &'r mut Models<'m>,
    reader: &'r mut Reader<'v>,
    /// The agents as the text orders them.
    order: Vec<AgentId>,
    agents: BTreeMap<AgentId, Agent>,
    /// The agents that some list of allowed agents names, with the place.
    named: Vec<(AgentId, Place, String)>,
}

impl Roster<'_, '_, '_> {
    fn defaults(&mut self, agents: &Cursor<'_>, template: &mut AgentSettings, settings: &mut Settings) {
        let Some(defaults) = self.reader.section(agents, "defaults") else { return };
        if let Some(model) = self.models.choice(&defaults, "model", &template.model, self.reader) {
            template.model = model;
        }
        template.system_prompt = self.reader.text_at(&defaults, "systemPromptOverride");
        if let Some(most) = self.reader.whole_at(&defaults, "maxConcurrent", 1..=MAX_CONCURRENT) {
            settings.lanes.main = most;
        }
        if let Some(seconds) = self.reader.whole_at(&defaults, "timeoutSeconds", 0..=MAX_SECONDS) {
            settings.runs.timeout = deadline(seconds);
        }
        let recovery = self.recovery(&defaults);
        let usual = &mut settings.recovery;
        usual.mode = recovery.mode.unwrap_or(usual.mode);
        usual.max_age = recovery.max_age.unwrap_or(usual.max_age);
        usual.max_attempts = recovery.max_attempts.unwrap_or(usual.max_attempts);
        if let Some(at) = self.reader.section(&defaults, "recovery")
            && let Some(grace) = self.reader.duration_at(&at, "grace", MAX_GRACE)
        {
            usual.grace = grace;
        }
        let Some(subagents) = self.reader.section(&defaults, "subagents") else { return };
        let limits = &mut settings.subagents;
        let reader = &mut *self.reader;
        for (name, max, limit) in [
            ("maxChildrenPerAgent", MAX_CHILDREN, &mut limits.max_children),
            ("maxSpawnDepth", MAX_DEPTH, &mut limits.max_depth),
            ("maxDescendants", MAX_DESCENDANTS, &mut limits.max_descendants),
            ("maxConcurrent", MAX_CONCURRENT, &mut settings.lanes.subagent),
        ] {
            if let Some(value) = reader.whole_at(&subagents, name, 1..=max) {
                *limit = value;
            }
        }
        if let Some(seconds) = reader.whole_at(&subagents, "runTimeoutSeconds", 0..=MAX_SECONDS) {
            limits.run_timeout = deadline(seconds);
        }
        if let Some(minutes) = reader.whole_at(&subagents, "archiveAfterMinutes", 0..=MAX_MINUTES) {
            let after = Duration::from_secs(u64::from(minutes) * 60);
            settings.retention.archive_after = (minutes > 0).then_some(after);
        }
        if let Some(export) = reader.bool_at(&subagents, "exportDeleted") {
            settings.retention.export_deleted = export;
        }
        limits.require_agent_id = reader.bool_at(&subagents, "requireAgentId").unwrap_or(false);
        limits.model = self.models.choice(&subagents, "model", &template.model, reader);
        limits.allow_agents = self.allow_agents(&subagents);
    }

    fn entries(&mut self, agents: &Cursor<'_>, template: &AgentSettings) {
        let Some(entries) = self.reader.section(agents, "entries") else { return };
        for (member, cursor) in entries.members() {
            if self.reader.is_object(&cursor) {
                let id = self.id(&member.name, &cursor);
                if self.agents.contains_key(&id) {
                    let text = format!("the agent {id} is configured twice: ids are the same in any case");
                    self.reader.error(&cursor, Kind::Value, text);
                } else {
                    self.agent(id, &cursor, template);
                }
            }
        }
    }

    fn list(&mut self, agents: &Cursor<'_>, template: &AgentSettings) {
        let Some(list) = self.reader.list(agents, "list") else { return };
        let from_entries = self.agents.keys().cloned().collect::<Vec<_>>();
        for cursor in list.items() {
            if !self.reader.is_object(&cursor) {
                continue;
            }
            let Some(id_at) = cursor.get("id") else {
                self.reader.error(&cursor, Kind::Value, "id is missing: add the agent's id");
                continue;
            };
            let Some(id) = self.reader.text(&id_at) else { continue };
            let id = self.id(&id, &id_at);
            if from_entries.binary_search(&id).is_ok() {
                let text = format!("without effect: agents.entries configures {id} too, and wins");
                self.reader.warning(&cursor, Kind::Value, text);
            } else if self.agents.contains_key(&id) {
                let text = format!("the agent {id} is configured twice: remove one, or give it another id");
                self.reader.error(&id_at, Kind::Value, text);
            } else {
                self.agent(id, &cursor, template);
            }
        }
    }

    fn agent(&mut self, id: AgentId, at: &Cursor<'_>, template: &AgentSettings) {
        let model = self.models.choice(at, "model", &template.model, self.reader);
        let system_prompt = self.reader.text_at(at, "systemPromptOverride");
        let model = model.unwrap_or_else(|| template.model.clone());
        let settings = AgentSettings {
            id: id.clone(),
            name: self.reader.text_at(at, "name"),
            system_prompt: system_prompt.or_else(|| template.system_prompt.clone()),
            tools: tools::rules(at, self.reader),
            subagents: self.overrides(at, &model),
            recovery: self.recovery(at),
            model,
        };
        let mark = at.get("default").filter(|_| self.reader.bool_at(at, "default") == Some(true));
        let marked = mark.map(|mark| (mark.place(), mark.trail.to_string()));
        self.order.push(id.clone());
        self.agents.insert(id, Agent { settings, place: at.place(), marked });
    }

    fn overrides(&mut self, agent: &Cursor<'_>, model: &ModelChoice) -> SubagentOverrides {
        let Some(at) = self.reader.section(agent, "subagents") else { return SubagentOverrides::default() };
        SubagentOverrides {
            model: self.models.choice(&at, "model", model, self.reader),
            require_agent_id: self.reader.bool_at(&at, "requireAgentId"),
            allow_agents: self.allow_agents(&at),
        }
    }

    /// What becomes of runs when the daemon goes down.
    fn recovery(&mut self, parent: &Cursor<'_>) -> RecoveryOverrides {
        let Some(at) = self.reader.section(parent, "recovery") else { return RecoveryOverrides::default() };
        let modes = RecoveryMode::ALL.map(|mode| (mode.as_str(), mode));
        let max_age = self.reader.duration_at(&at, "maxAge", MAX_TIMEOUT);
        RecoveryOverrides {
            mode: self.reader.word_at(&at, "mode", &modes),
            max_age: max_age.map(|age| (!age.is_zero()).then_some(age)),
            max_attempts: self.reader.whole_at(&at, "maxAttempts", 1..=MAX_ATTEMPTS),
        }
    }

    fn allow_agents(&mut self, parent: &Cursor<'_>) -> Option<AllowAgents> {
        let list = self.reader.list(parent, "allowAgents")?;
        let (mut any, mut ids, mut seen) = (false, Vec::new(), BTreeSet::new());
        for item in list.items() {
            let Some(text) = self.reader.filled_text(&item) else { continue };
            if text.trim() == "*" {
                any = true;
                continue;
            }
            let id = self.id(&text, &item);
            if seen.insert(id.clone()) {
                self.named.push((id.clone(), item.place(), item.trail.to_string()));
                ids.push(id);
            }
        }
        Some(if any { AllowAgents::Any } else { AllowAgents::Only(ids) })
    }

    /// The id that a text stands for, with a warning if that is not the text itself.
    fn id(&mut self, text: &str, at: &Cursor<'_>) -> AgentId {
        let id = normalise(text);
        if id.as_str() != text.trim().to_ascii_lowercase() {
            let text = format!("taken as {id}: agent ids match [a-z0-9][a-z0-9_-]{{0,63}}");
            self.reader.warning(at, Kind::Reference, text);
        }
        id
    }

    fn finish(mut self, template: AgentSettings, settings: &mut Settings) {
        // The two forms are read one after the other; the text's own order decides which agent is first.
        self.order.sort_by_key(|id| self.agents.get(id).map(|agent| agent.place));
        let marks =
            self.order.iter().filter_map(|id| self.agents.get(id)?.marked.as_ref().map(|at| (id, at)));
        let mut marks = marks.peekable();
        let default = marks.peek().map(|(id, _)| *id).or(self.order.first()).cloned();
        for (_, (place, path)) in marks.skip(1) {
            let text = "without effect: another agent is marked as the default before it";
            self.reader.problems.warning(*place, Kind::Value, path, text);
        }
        settings.agents = self.agents.into_iter().map(|(id, a)| (id, Arc::new(a.settings))).collect();
        settings.default_agent = default.unwrap_or_else(|| template.id.clone());
        let mut add = |id: &AgentId| {
            let new = !settings.agents.contains_key(id);
            if new {
                let agent = AgentSettings { id: id.clone(), ..template.clone() };
                settings.agents.insert(id.clone(), Arc::new(agent));
            }
            new
        };
        add(&settings.default_agent);
        for (id, place, path) in &self.named {
            if add(id) {
                let text = format!("the agent {id} is not configured: it runs with the defaults");
                self.reader.problems.warning(*place, Kind::Reference, path, text);
            }
        }
    }
}

/// Zero stands for no deadline.
fn deadline(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

/// The agent id nearest to a text: lower case, anything else than `a-z0-9_-` a dash, no dash at its ends, cut; `main`
/// if nothing is left.
pub(super) fn normalise(text: &str) -> AgentId {
    let lower = text.trim().to_lowercase();
    let dashed: String = lower
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .collect();
    let trimmed = dashed.trim_start_matches(['-', '_']).trim_end_matches('-');
    let cut = trimmed.get(..MAX_AGENT_ID).unwrap_or(trimmed);
    cut.parse().unwrap_or_else(|_| AgentId::main())
}
