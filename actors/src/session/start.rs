//! The first start of a session, and the rebuild of its state after a panic.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::commit::{Closing, Inbox};
use super::{Active, Session, SessionArgs, SessionChild, SessionMeta, Stage, Standing};
use crate::kit::{Ctx, StartError};
use crate::ports::{Host, OpenRun, RunRow, RunState, RunTrace, SessionRow, StoredSession};
use crate::run::{Phase, RunCell, RunMsg};
use crate::types::{Outcome, RunId, Terminal, Transcript, Usage};

impl SessionMeta {
    /// Of a stored session, with the tools that its runs may call.
    pub(crate) fn of(row: &SessionRow, tools: Arc<[Arc<str>]>, scope: CancellationToken) -> Self {
        Self {
            key: row.key.clone(),
            agent: row.agent.clone(),
            parent: row.parent.clone(),
            root: row.root.clone(),
            depth: row.depth,
            mode: row.mode,
            cleanup: row.cleanup,
            on_parent_exit: row.on_parent_exit,
            outlived: row.outlived.clone(),
            label: row.label.clone(),
            model: row.model.clone(),
            tools,
            scope,
        }
    }
}

pub(super) async fn start(args: &mut SessionArgs, ctx: &mut Ctx<Session>) -> Result<Session, StartError> {
    let again = args.first.is_none();
    args.epoch += 1;
    let stored = match args.first.take() {
        Some(stored) => *stored,
        None => read(args).await?,
    };
    if again {
        // They may have been changed since the session was woken.
        let StoredSession { row, .. } = &stored;
        args.meta = Arc::new(SessionMeta {
            label: row.label.clone(),
            model: row.model.clone(),
            parent: row.parent.clone(),
            outlived: row.outlived.clone(),
            ..SessionMeta::clone(&args.meta)
        });
        // The word that they hang elsewhere may be what was lost.
        ctx.sweep();
    }
    let mut session = build(args, stored, ctx);
    if again {
        session.end_stale(ctx);
    }
    session.say_up(ctx);
    if again {
        session.go_on_ending(ctx);
    }
    session.advance(ctx);
    Ok(session)
}

/// Reads the session after all that was handed to the store is decided.
async fn read(args: &SessionArgs) -> Result<StoredSession, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(format!("session {}: {error}", args.meta.key));
    args.shared.barrier().await.map_err(|error| failed(&error))?;
    let stored = args.shared.storage.load_session(args.meta.key.clone()).await;
    stored.map_err(|error| failed(&error))?.ok_or_else(|| failed(&"it is not stored any more"))
}

fn build(args: &mut SessionArgs, stored: StoredSession, ctx: &mut Ctx<Session>) -> Session {
    let StoredSession { row, transcript, runs, announces, steers, children, mut traces } = stored;
    let host = args.shared.host;
    // What another kind of process accepted is neither executed nor ended nor waited for here.
    let own = |child: &OpenRun| child.host == host;
    let mut session = Session {
        shared: Arc::clone(&args.shared),
        meta: Arc::clone(&args.meta),
        epoch: args.epoch,
        standing: Standing::Open,
        transcript: Some(Transcript::new(transcript)),
        reread: None,
        lent: None,
        loading: None,
        doubted: None,
        meanwhile: Inbox::default(),
        queue: VecDeque::new(),
        runs: BTreeMap::new(),
        current: None,
        yielded: None,
        announces: announces.into_iter().collect(),
        suspect: None,
        steers: steers.into(),
        injected: VecDeque::new(),
        used: std::mem::take(&mut args.spawned).then(Usage::default),
        children: children.into_iter().filter(own).map(|child| (child.run, child)).collect(),
        inheriting: None,
        delivering: None,
        next: None,
        accepting: 0,
        unsettled: Vec::new(),
        held: Vec::new(),
        retries: 0,
        retry: None,
        sleep: None,
    };
    let yielded = row.yielded;
    for row in runs.into_iter().filter(|row| row.host == host) {
        let trace = traces.extract_if(.., |trace| trace.run == row.id).next();
        session.adopt(Box::new(row), trace, yielded, ctx);
    }
    if session.meta.scope.is_cancelled() {
        session.standing = Standing::Stopping { replies: Vec::new(), ended: Vec::new(), leaving: 0 };
    }
    session
}

impl Session {
    /// Takes an open run of the store: waiting, alive, or left behind by a process that is gone.
    fn adopt(
        &mut self,
        row: Box<RunRow>,
        trace: Option<RunTrace>,
        yielded: Option<RunId>,
        ctx: &mut Ctx<Self>,
    ) {
        let run = row.id;
        let alive = Self::run_handle(ctx, run);
        let known = self.shared.runs.get(&run).map(|cell| Arc::clone(&cell));
        // It was being ended when the state was lost.
        if known.as_ref().is_some_and(|cell| cell.fate.get().is_some()) {
            if row.state == RunState::Running {
                // It has its turn until its end is committed: what the next one uses and says is not part of it.
                self.current = Some(run);
            }
            let active = self.untouched(row);
            self.runs.insert(run, active);
            return;
        }
        let dies = ctx.children().contains(&SessionChild::Run(run));
        match (row.state, alive, known) {
            (RunState::Accepted, None, _) => {
                self.shared.book.accepted(&row);
                self.queue.push_back(row);
            }
            (_, None, Some(cell)) if !cell.has_begun() && !dies => self.go_on_with(row, cell),
            (_, None, None) if self.shared.host == Host::Daemon => {
                let cell = Arc::new(RunCell::left_behind(&row, &self.meta.scope, trace));
                self.shared.runs.insert(run, Arc::clone(&cell));
                self.go_on_with(row, cell);
            }
            (_, Some(handle), Some(cell)) => {
                let waits = yielded == Some(run);
                let stage = if waits { Stage::Yielded } else { Stage::Running };
                let mut active = Active::at(stage, row, cell);
                Self::arm(&mut active, ctx);
                self.runs.insert(run, active);
                if waits {
                    self.yielded = Some(run);
                } else {
                    self.current = Some(run);
                    self.reread = self.transcript.take();
                    // It repeats what it reported last, if it waits for an answer.
                    drop(handle.send(RunMsg::Resync { epoch: self.epoch }));
                }
            }
            (_, alive, cell) => {
                if alive.is_some() {
                    ctx.children_mut().kill(&SessionChild::Run(run));
                }
                let outcome = if cell.is_some() {
                    Outcome::ended(Terminal::Crashed, "its actor is gone", None)
                } else {
                    Outcome::ended(Terminal::Interrupted, "the process that ran it went away", None)
                };
                // The session stays until this is committed.
                let active = self.untouched(row.clone());
                self.runs.insert(run, active);
                self.end_run(row, outcome, Closing::OWN, None, ctx);
            }
        }
    }

    /// A run whose actor is still to be started: of an earlier process, or about to make its first step when the state
    /// was lost.
    fn go_on_with(&mut self, row: Box<RunRow>, cell: Arc<RunCell>) {
        if row.state == RunState::Yielded {
            cell.update(|progress| progress.phase = Phase::Yielded);
            self.yielded = Some(row.id);
            self.runs.insert(row.id, Active::at(Stage::Yielded, row, cell));
        } else {
            // It had its turn before those that wait.
            self.queue.push_front(row);
        }
    }

    /// After a rebuild: what was being ended or stopped goes on to its end.
    fn go_on_ending(&mut self, ctx: &mut Ctx<Self>) {
        let fated: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, active)| active.cell.fate.get().is_some())
            .map(|(run, _)| *run)
            .collect();
        for run in fated {
            self.go_through(run, ctx);
        }
        if matches!(self.standing, Standing::Stopping { .. }) {
            self.bequeath();
            self.stop_all(true, ctx);
        }
    }

    /// After a rebuild: run actors whose runs have ended. Whoever had to know was told by the commit.
    fn end_stale(&self, ctx: &mut Ctx<Self>) {
        let stale = |child: &&SessionChild| match child {
            SessionChild::Run(run) => !self.runs.contains_key(run),
            SessionChild::Session(_) => false,
        };
        let stale: Vec<SessionChild> = ctx.children().keys().filter(stale).cloned().collect();
        for child in stale {
            ctx.children_mut().kill(&child);
        }
    }
}
