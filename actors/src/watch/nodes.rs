//! One node of a snapshot, of each kind of thing that there is.

use std::sync::Arc;

use super::book::{EndedRun, SessionFacts, WaitingRun, last_of};
use super::build::{Below, Builder, run_name};
use super::view::{ActorFigures, ChildCounts, Node, NodeId, RunNode, SessionNode, Spending, ToolNode};
use crate::kit::ActorInfo;
use crate::policy::watch::{STUCK_AFTER, is_overdue};
use crate::run::{Activity, Phase, RunCell};
use crate::sessions::LaneName;
use crate::types::{Monotonic, SessionKey, Timestamp};

impl Builder<'_> {
    pub(super) fn node(&mut self, below: Below, parent: usize, path: &mut String) -> Node {
        let (above, depth) = match self.nodes.get(parent) {
            Some(node) => (Some(node.id.clone()), node.session.as_ref().map_or(0, |session| session.depth)),
            None => (None, 0),
        };
        match below {
            Below::Actor(place) => {
                let (info, number) =
                    (Arc::clone(&self.walk.actors[place].info), self.walk.actors[place].number);
                path.push_str(&info.name);
                let (figures, state) = self.figures(&info);
                let session = self.session_of(&info, number);
                let run = self.cells.remove(&number).map(|cell| Box::new(self.open_run(&cell, depth)));
                Node {
                    id: NodeId::Actor(number),
                    parent: above,
                    name: Arc::clone(&info.name),
                    path: path.as_str().into(),
                    kind: info.kind,
                    state,
                    actor: Some(figures),
                    session,
                    run,
                }
            }
            Below::Sleeping(facts) => {
                let id = NodeId::Session(facts.key.clone());
                let session = Some(Box::new(session_node(&facts, false)));
                self.without_actor(id, above, facts.key.as_str(), "session", path, session, None)
            }
            Below::Cell(cell) => {
                let run = Some(Box::new(self.open_run(&cell, depth)));
                self.without_actor(NodeId::Run(cell.id), above, &run_name(cell.id), "run", path, None, run)
            }
            Below::Waiting(waiting) => {
                let run = Some(Box::new(self.waiting_run(&waiting, depth)));
                self.without_actor(
                    NodeId::Run(waiting.id),
                    above,
                    &run_name(waiting.id),
                    "run",
                    path,
                    None,
                    run,
                )
            }
            Below::Ended(ended) => {
                let run = Some(Box::new(self.ended_run(&ended, depth)));
                self.without_actor(NodeId::Run(ended.id), above, &run_name(ended.id), "run", path, None, run)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of the node")]
    fn without_actor(
        &self,
        id: NodeId,
        parent: Option<NodeId>,
        name: &str,
        kind: &'static str,
        path: &mut String,
        session: Option<Box<SessionNode>>,
        run: Option<Box<RunNode>>,
    ) -> Node {
        path.push_str(name);
        let ended = run.as_ref().is_some_and(|run| run.ended_at.is_some());
        let state = if ended { "ended" } else { "sleeping" };
        Node {
            id,
            parent,
            name: name.into(),
            path: path.as_str().into(),
            kind,
            state,
            actor: None,
            session,
            run,
        }
    }

    fn figures(&self, info: &ActorInfo) -> (ActorFigures, &'static str) {
        let seen = info.glimpse();
        let quiet_since = seen.in_hand.map(|(_, since)| since).or(seen.waits_since);
        let figures = ActorFigures {
            since: seen.started,
            restarts: seen.restarts,
            last_failure: seen.last_failure,
            restarted_at: seen.restarted,
            mailbox: seen.mailbox,
            mailbox_high: seen.mailbox_high,
            handled: seen.handled,
            busy: seen.busy,
            in_hand: seen.in_hand.map(|(message, since)| (message, self.date(since))),
            progress_at: seen.progress.map(|at| self.date(at)),
            waits_since: seen.waits_since.map(|at| self.date(at)),
            stuck: quiet_since.is_some_and(|since| is_overdue(since, STUCK_AFTER, self.monotonic)),
        };
        (figures, seen.state.as_str())
    }

    fn session_of(&self, info: &ActorInfo, number: u64) -> Option<Box<SessionNode>> {
        if info.kind != "session" {
            return None;
        }
        if let Some(meta) = self.awake.get(&number) {
            return Some(Box::new(session_node(&SessionFacts::from(&**meta), true)));
        }
        // On its way up or to sleep.
        let key: SessionKey = info.name.parse().ok()?;
        let facts = self.shared.book.facts(&key)?;
        Some(Box::new(session_node(&facts, true)))
    }

    fn open_run(&mut self, cell: &RunCell, depth: u32) -> RunNode {
        let (passes, timeout) = cell.deadline(|deadline| (deadline.passes_at(), deadline.limit()));
        let mut node = RunNode {
            id: cell.id,
            wire_id: cell.wire_id.clone(),
            session: cell.session.clone(),
            cause: cell.cause.as_str(),
            spawner: cell.spawner,
            state: "",
            reason: cell.fate.get().map(|fate| fate.reason.clone()),
            doing: None,
            lane: None,
            lane_position: None,
            depth,
            model_asked: cell.model.primary.clone(),
            model: cell.model.primary.clone(),
            accepted_at: cell.accepted_at,
            started_at: None,
            ended_at: None,
            silent_since: None,
            silent: false,
            step: 0,
            max_steps: None,
            tools: Vec::new(),
            text: None,
            spent: Spending::default(),
            deadline_at: passes.map(|at| self.date(at)),
            timeout,
        };
        cell.update(|progress| {
            let works = progress.phase == Phase::Running;
            let in_hand =
                works && progress.activity != Activity::Committing && progress.activity != Activity::Tools;
            node.state = progress.phase.as_str();
            node.doing = Some(match (progress.phase, progress.activity) {
                (Phase::Queued, _) | (Phase::Running, Activity::Queueing) => "waiting for its lane",
                (Phase::Yielded, _) => "waiting for children",
                (Phase::Ending, _) | (Phase::Running, Activity::Committing) => "committing",
                (Phase::Running, Activity::Model) => "model",
                (Phase::Running, Activity::Tools) if progress.tools.is_empty() => "committing",
                (Phase::Running, Activity::Tools) => "tools",
                (Phase::Running, Activity::BackingOff) => "backing off",
            });
            node.model = progress.model.clone();
            node.started_at = progress.started_at;
            node.silent_since = progress.heard.filter(|_| works);
            node.step = progress.steps.saturating_add(u32::from(in_hand));
            node.max_steps = progress.max_steps;
            node.text = (!progress.text.is_empty()).then(|| last_of(&progress.text));
            node.spent.usage = progress.usage;
            let tools = progress.tools.iter().map(|tool| ToolNode {
                name: Arc::clone(&tool.name),
                argument: Arc::clone(&tool.argument),
                since: tool.since,
            });
            node.tools = tools.collect();
        });
        node.silent = node.silent_since.is_some_and(|since| self.now - since > self.look.silent_after);
        node.spent.cost = self.look.prices.cost(&node.model, node.spent.usage).map(|cost| cost.total());
        self.queue(&mut node);
        node
    }

    fn waiting_run(&mut self, run: &WaitingRun, depth: u32) -> RunNode {
        let mut node = RunNode {
            id: run.id,
            wire_id: run.wire_id.clone(),
            session: run.session.clone(),
            cause: run.cause.as_str(),
            spawner: run.spawner,
            state: Phase::Queued.as_str(),
            reason: None,
            doing: Some("waiting for its turn"),
            lane: None,
            lane_position: None,
            depth,
            model_asked: run.model.clone(),
            model: run.model.clone(),
            accepted_at: run.accepted_at,
            started_at: None,
            ended_at: None,
            silent_since: None,
            silent: false,
            step: 0,
            max_steps: None,
            tools: Vec::new(),
            text: None,
            spent: Spending::default(),
            deadline_at: None,
            timeout: run.timeout,
        };
        self.queue(&mut node);
        node
    }

    fn ended_run(&self, run: &EndedRun, depth: u32) -> RunNode {
        RunNode {
            id: run.id,
            wire_id: run.wire_id.clone(),
            session: run.session.clone(),
            cause: run.cause.as_str(),
            spawner: run.spawner,
            state: run.state.as_str(),
            reason: run.reason.clone(),
            doing: None,
            lane: None,
            lane_position: None,
            depth,
            model_asked: run.model_asked.clone(),
            model: run.model.clone(),
            accepted_at: run.accepted_at,
            started_at: run.started_at,
            ended_at: Some(run.ended_at),
            silent_since: None,
            silent: false,
            step: run.steps,
            max_steps: None,
            tools: Vec::new(),
            text: run.text.clone(),
            spent: Spending {
                usage: run.usage,
                cost: self.look.prices.cost(&run.model, run.usage).map(|cost| cost.total()),
            },
            deadline_at: None,
            timeout: run.timeout,
        }
    }

    /// Fills in where it waits, and notes it as the newest of its session if it is.
    fn queue(&mut self, node: &mut RunNode) {
        node.lane = Some(LaneName::at(node.depth).as_str());
        node.lane_position = self.positions.get(&node.id).copied();
        let newest = self.newest.entry(node.session.clone()).or_insert((node.accepted_at, node.state));
        if newest.0 <= node.accepted_at {
            *newest = (node.accepted_at, node.state);
        }
    }

    fn date(&self, at: Monotonic) -> Timestamp {
        Timestamp(i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX).saturating_add(self.offset))
    }
}

fn session_node(facts: &SessionFacts, awake: bool) -> SessionNode {
    SessionNode {
        key: facts.key.clone(),
        agent: facts.agent.clone(),
        label: facts.label.clone(),
        mode: facts.mode,
        depth: facts.depth,
        awake,
        status: "idle",
        children: ChildCounts::default(),
        spent: None,
        subtree: None,
    }
}
