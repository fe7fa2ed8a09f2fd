//! One node of a snapshot, of each kind of thing that there is.

use std::sync::Arc;

use super::book::{AcceptedRun, EndedRun, SessionFacts, last_of};
use super::build::{Below, Builder, run_name};
use super::view::{ActorFigures, ChildCounts, Node, NodeId, RunNode, SessionNode, Spending, ToolNode};
use crate::kit::ActorInfo;
use crate::policy::cost::Prices;
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
                let session = session_node(SessionFacts::clone(&facts), false);
                without_actor(
                    NodeId::Session(facts.key.clone()),
                    above,
                    path,
                    facts.key.as_str(),
                    Some(session),
                    None,
                )
            }
            Below::Cell(cell) => {
                let run = self.open_run(&cell, depth);
                without_actor(NodeId::Run(cell.id), above, path, &run_name(cell.id), None, Some(run))
            }
            Below::Waiting(waiting) => {
                let run = self.waiting_run(&waiting, depth);
                without_actor(NodeId::Run(waiting.id), above, path, &run_name(waiting.id), None, Some(run))
            }
            Below::Ended(ended) => {
                let (id, run) = (ended.accepted.id, RunNode::ended(&ended, depth, self.look.prices));
                without_actor(NodeId::Run(id), above, path, &run_name(id), None, Some(run))
            }
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
            return Some(Box::new(session_node(SessionFacts::from(&**meta), true)));
        }
        // On its way up or to sleep.
        let key: SessionKey = info.name.parse().ok()?;
        let facts = self.shared.book.facts(&key)?;
        Some(Box::new(session_node(SessionFacts::clone(&facts), true)))
    }

    fn open_run(&self, cell: &RunCell, depth: u32) -> RunNode {
        let (passes, timeout) = cell.deadline(|deadline| (deadline.passes_at(), deadline.limit()));
        let mut node = RunNode {
            reason: cell.fate.get().map(|fate| fate.reason.clone()),
            deadline_at: passes.map(|at| self.date(at)),
            ..RunNode::of(cell.accepted(timeout), depth)
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

    fn waiting_run(&self, run: &AcceptedRun, depth: u32) -> RunNode {
        let mut node = RunNode {
            state: Phase::Queued.as_str(),
            doing: Some("waiting for its turn"),
            ..RunNode::of(run.clone(), depth)
        };
        self.queue(&mut node);
        node
    }

    /// Fills in where it waits.
    fn queue(&self, node: &mut RunNode) {
        node.lane = Some(LaneName::at(node.depth).as_str());
        node.lane_position = self.positions.get(&node.id).copied();
    }

    fn date(&self, at: Monotonic) -> Timestamp {
        Timestamp(i64::try_from(at.0 / 1_000_000).unwrap_or(i64::MAX).saturating_add(self.offset))
    }
}

impl RunNode {
    fn of(run: AcceptedRun, depth: u32) -> Self {
        Self {
            id: run.id,
            wire_id: run.wire_id,
            session: run.session,
            cause: run.cause.as_str(),
            spawner: run.spawner,
            state: "",
            reason: None,
            doing: None,
            lane: None,
            lane_position: None,
            depth,
            model_asked: run.model.clone(),
            model: run.model,
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
        }
    }

    pub(super) fn ended(run: &EndedRun, depth: u32, prices: &Prices) -> Self {
        Self {
            state: run.state.as_str(),
            reason: run.reason.clone(),
            model: run.model.clone(),
            started_at: run.started_at,
            ended_at: Some(run.ended_at),
            step: run.steps,
            text: run.text.clone(),
            spent: Spending {
                usage: run.usage,
                cost: prices.cost(&run.model, run.usage).map(|cost| cost.total()),
            },
            ..Self::of(run.accepted.clone(), depth)
        }
    }
}

fn session_node(facts: SessionFacts, awake: bool) -> SessionNode {
    SessionNode {
        key: facts.key,
        agent: facts.agent,
        label: facts.label,
        mode: facts.mode,
        depth: facts.depth,
        awake,
        status: "idle",
        children: ChildCounts::default(),
        spent: None,
        subtree: None,
    }
}

fn without_actor(
    id: NodeId,
    parent: Option<NodeId>,
    path: &mut String,
    name: &str,
    session: Option<SessionNode>,
    run: Option<RunNode>,
) -> Node {
    path.push_str(name);
    let ended = run.as_ref().is_some_and(|run| run.ended_at.is_some());
    Node {
        id,
        parent,
        name: name.into(),
        path: path.as_str().into(),
        kind: if session.is_some() { "session" } else { "run" },
        state: if ended { "ended" } else { "sleeping" },
        actor: None,
        session: session.map(Box::new),
        run: run.map(Box::new),
    }
}
