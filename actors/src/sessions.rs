//! The session manager: admits spawns, finds or wakes sessions, owns the lanes.
//!
//! Owns the counters behind the caps, the lanes, and which session is awake: it alone wakes sessions and puts
//! them to sleep, and it alone writes the live index. Started by the root after the store; parent of the
//! sessions that nobody spawned. A spawn comes in as [`SessionsMsg::Spawn`], is decided and reserved at once,
//! committed, and answered when the commit is back; nothing here waits for a child.
//!
//! A panic is survived: counters are read from the store again, the live index tells who is awake, permits
//! that are out count themselves, and every session that waits for one asks again. What waited for a session
//! to wake is lost with its reply dropped; results that wait are found in the store.

mod bequests;
mod failed;
mod lanes;
mod recover;
mod requests;
mod residents;
pub(crate) mod settle;
mod spawn;
mod starting;
mod suspend;
mod tally;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::bequests::{Bequest, Bequests, Moves, Placed};
pub use self::lanes::LaneView;
use self::lanes::{Lane, Waiter};
pub(crate) use self::lanes::{LaneBook, LaneName, Permit};
use self::recover::{Ended, Recovered};
pub(crate) use self::requests::Named;
use self::residents::Resident;
use self::settle::Unsettled;
pub(crate) use self::spawn::{Reserved, SpawnCall};
use self::tally::Tally;
use self::waiting::Waiting;
use crate::kit::{Behaviour, Ctx, Exit, Handle, Intensity, Msg, Reply, StartError, Task};
use crate::policy::exits::Move;
use crate::policy::recovery::Decision;
use crate::ports::{Cause, Earlier, OpenRun, Refused, RequestKey, StoreError, StoredSession, Survivors};
use crate::session::{SessionMeta, SessionMsg};
use crate::shared::{LiveEntry, Shared};
use crate::types::{Accepted, Refusal, RunId, SessionKey};

/// Everything that a start needs. The books of the lanes live here, outside of the state, and so do the names of the
/// sessions that are not woken before what they had open is ended.
#[derive(Debug)]
pub(crate) struct SessionsArgs {
    shared: Arc<Shared>,
    lanes: [Arc<LaneBook>; 2],
    unsettled: Arc<Unsettled>,
    moves: Arc<Moves>,
    /// Whether this process has settled what an earlier one left behind.
    booted: bool,
}

impl From<Arc<Shared>> for SessionsArgs {
    fn from(shared: Arc<Shared>) -> Self {
        let lanes = LaneBook::both();
        shared.set_lanes(lanes.clone());
        Self { shared, lanes, unsettled: Arc::default(), moves: Arc::default(), booted: false }
    }
}

/// What the session manager is told.
#[derive(Debug)]
pub(crate) enum SessionsMsg {
    /// Start a run in a new child session. From clients and tools.
    Spawn(Box<SpawnCall>),
    /// Whether the spawn was carried out before. From a reading task.
    Looked { call: Box<SpawnCall>, found: Box<Result<Option<Earlier>, StoreError>> },
    /// A spawn was committed, or not. From the store.
    SpawnSettled { reserved: Box<Reserved>, result: Result<(), Refused> },
    /// A message for a session that is not in the live index. From anyone; also handed back by one that
    /// went to sleep.
    Deliver { key: SessionKey, message: Box<SessionMsg> },
    /// A session that is to be woken, as it is stored. From a reading task.
    Loaded { key: SessionKey, result: Box<Result<Option<StoredSession>, StoreError>> },
    /// A session that did not exist was committed, or not. From the store.
    Created { stored: Box<StoredSession>, result: Result<(), Refused> },
    /// A session takes messages. From itself.
    Up { meta: Arc<SessionMeta>, handle: Handle<SessionMsg> },
    /// A session is gone; with a failure if it was not asked to go. From its parent.
    Down { key: SessionKey, failure: Option<String> },
    /// What was open in these failed sessions is ended; for some sessions something waits in the store. From the
    /// task that did it.
    Settled { keys: Vec<SessionKey>, waiting: Vec<SessionKey> },
    /// A session goes away: find other places for those that outlive it. From the session, its parent, and whoever stops it.
    Bequeath { of: SessionKey, reply: Option<Reply<Placed>> },
    /// Who outlives these sessions. From a reading task.
    Survivors { found: Vec<(Bequest, Result<Survivors, StoreError>)> },
    /// Sessions were moved, or not. From the store.
    Bequeathed { fates: Vec<(Bequest, Vec<Move>, Result<(), Refused>)> },
    /// A session did not take over a child. From itself.
    NotAdopted { child: SessionKey, by: SessionKey },
    /// A session has had nothing to do for a while. From itself.
    Quiet { key: SessionKey },
    /// Whether a session goes to sleep. From itself.
    SleepAnswer { meta: Arc<SessionMeta>, handle: Handle<SessionMsg>, agreed: bool },
    /// A run wants a place in its lane. From sessions and runs.
    Acquire { lane: LaneName, fair: SessionKey, run: RunId, resume: bool, grant: Reply<Permit> },
    /// A run wants none any more. From its session.
    Forget { run: RunId },
    /// A permit was dropped.
    PermitBack { lane: LaneName },
    /// A run's end is committed. From its session.
    RunEnded { run: RunId },
    /// How busy are the lanes? From clients.
    Lanes { reply: Reply<[LaneView; 2]> },
    /// New settings are in force. From the configuration.
    SettingsChanged,
    /// Everybody who is to come up has: what an earlier process left goes on. From the root.
    Begin,
    /// What was resumed has not brought this process down. From a timer.
    Stable,
    /// Let no run begin another step, and answer once none is at work or the time is up. From whoever ends the process.
    Suspend { within: Duration, reply: Reply<()> },
}

impl Msg for SessionsMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Spawn(_) => "spawn",
            Self::Looked { .. } => "looked",
            Self::SpawnSettled { .. } => "spawn_settled",
            Self::Deliver { .. } => "deliver",
            Self::Loaded { .. } => "loaded",
            Self::Created { .. } => "created",
            Self::Up { .. } => "up",
            Self::Down { .. } => "down",
            Self::Settled { .. } => "settled",
            Self::Bequeath { .. } => "bequeath",
            Self::Survivors { .. } => "survivors",
            Self::Bequeathed { .. } => "bequeathed",
            Self::NotAdopted { .. } => "not_adopted",
            Self::Quiet { .. } => "quiet",
            Self::SleepAnswer { .. } => "sleep_answer",
            Self::Acquire { .. } => "acquire",
            Self::Forget { .. } => "forget",
            Self::PermitBack { .. } => "permit_back",
            Self::RunEnded { .. } => "run_ended",
            Self::Lanes { .. } => "lanes",
            Self::SettingsChanged => "settings_changed",
            Self::Begin => "begin",
            Self::Stable => "stable",
            Self::Suspend { .. } => "suspend",
        }
    }
}

/// Who waits for a spawn that is being committed under the same name.
type InFlight = BTreeMap<RequestKey, ([u8; 32], Vec<Reply<Result<Accepted, Refusal>>>)>;

/// The session manager's state.
#[derive(Debug)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
    main: Lane,
    subagent: Lane,
    tally: Tally,
    residents: BTreeMap<SessionKey, Resident>,
    /// Sessions that may be on their way, by the parents that were to start them.
    starting: BTreeMap<SessionKey, BTreeSet<SessionKey>>,
    in_flight: InFlight,
    unsettled: Arc<Unsettled>,
    bequests: Bequests,
    moves: Arc<Moves>,
    /// How often the runs of a failed session and of those below it were ended: what was read before may show them
    /// as open.
    settlements: u64,
    /// Sessions that have something to do since the start, until all actors of the tree have started.
    to_wake: Vec<SessionKey>,
    /// Fires when this process has been up for a while with the runs that it has.
    stable: Option<Task>,
}

impl Behaviour for Sessions {
    const KIND: &'static str = "sessions";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = SessionsMsg;
    type Args = SessionsArgs;
    type Child = SessionKey;

    async fn start(args: &mut SessionsArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let shared = Arc::clone(&args.shared);
        let read = |error: StoreError| StartError(error.to_string());
        shared.barrier().await.map_err(read)?;
        let mut sessions = Self {
            main: Lane::new(&args.lanes[0]),
            subagent: Lane::new(&args.lanes[1]),
            tally: Tally::default(),
            residents: BTreeMap::new(),
            starting: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            unsettled: Arc::clone(&args.unsettled),
            bequests: Bequests::default(),
            moves: Arc::clone(&args.moves),
            settlements: 0,
            to_wake: Vec::new(),
            stable: None,
            shared,
        };
        sessions.shared.sessions.set(ctx.myself().clone());
        let open = if args.booted {
            let open = sessions.shared.storage.open_runs().await.map_err(read)?;
            let (open, late) = settle_orphans(&sessions.shared, open).await.map_err(read)?;
            for key in sessions.unsettled.keys() {
                sessions.residents.insert(key, Resident::Settling { waiting: Vec::new() });
            }
            sessions.settle_late(late, ctx);
            sessions.to_wake = sessions.take_over(&open);
            sessions.go_on_moving(ctx);
            open
        } else {
            // A manager that failed took every session with it.
            sessions.moves.clear();
            sessions.shared.live.clear();
            sessions.shared.runs.clear();
            let Recovered { open, resumed, late, undecided } =
                recover::recover(&sessions.shared).await.map_err(read)?;
            let open = open.into_iter().chain(undecided.0.iter().cloned());
            let open: Vec<OpenRun> = open.chain(late.iter().map(|(run, _)| run.open())).collect();
            sessions.settle_late(late, ctx);
            sessions.resume_late(undecided, ctx);
            sessions.to_wake = resumed;
            sessions.shared.leave_other_roots_asleep().await.map_err(read)?;
            open
        };
        // Of the end of a run in another kind of process nobody would be told here.
        let counts = |run: &&OpenRun| run.cause == Cause::Spawn && run.host == sessions.shared.host;
        for run in open.iter().filter(counts) {
            sessions.tally.add(run.run, &run.session, run.announce_to.as_ref(), &run.root);
        }
        sessions.await_stability(ctx);
        // After a panic the message that told of a result may be the one that was lost.
        sessions.to_wake.extend(sessions.shared.waiting_sessions().await.map_err(read)?);
        if std::mem::replace(&mut args.booted, true) {
            sessions.wake_all(ctx);
        }
        Ok(sessions)
    }

    fn handle(&mut self, message: SessionsMsg, ctx: &mut Ctx<Self>) {
        match message {
            SessionsMsg::Spawn(call) => self.on_spawn(*call, ctx),
            SessionsMsg::Looked { call, found } => self.on_looked(*call, *found, ctx),
            SessionsMsg::SpawnSettled { reserved, result } => self.on_spawn_settled(*reserved, result, ctx),
            SessionsMsg::Deliver { key, message } => self.on_deliver(&key, message, ctx),
            SessionsMsg::Loaded { key, result } => self.on_loaded(key, *result, ctx),
            SessionsMsg::Created { stored, result } => self.on_created(*stored, result, ctx),
            SessionsMsg::Up { meta, handle } => self.on_up(LiveEntry { handle, meta }, ctx),
            SessionsMsg::Down { key, failure } => self.on_down(&key, failure, ctx),
            SessionsMsg::Settled { keys, waiting } => self.on_settled(&keys, &waiting, ctx),
            SessionsMsg::Bequeath { of, reply } => self.on_bequeath(of, reply, ctx),
            SessionsMsg::Survivors { found } => self.on_survivors(found, ctx),
            SessionsMsg::Bequeathed { fates } => self.on_bequeathed(fates, ctx),
            SessionsMsg::NotAdopted { child, by } => self.on_not_adopted(&child, by, ctx),
            SessionsMsg::Quiet { key } => self.on_quiet(key),
            SessionsMsg::SleepAnswer { meta, handle, agreed } => {
                self.on_sleep_answer(LiveEntry { handle, meta }, agreed, ctx);
            }
            SessionsMsg::Acquire { lane, fair, run, resume, grant } => {
                #[cfg(feature = "faults")]
                let fair = if ctx.system().has_bug(crate::kit::Bug::LaneFairnessOff) {
                    SessionKey::main(&self.shared.settings().default_agent)
                } else {
                    fair
                };
                self.lane(lane).wait(fair, resume, Waiter { run, grant });
                self.serve(lane);
            }
            SessionsMsg::Forget { run } => self.forget(run),
            SessionsMsg::PermitBack { lane } => self.serve(lane),
            SessionsMsg::RunEnded { run } => {
                self.tally.remove(run);
                // One whose session failed still waits, and would use up a turn of its siblings.
                self.forget(run);
            }
            SessionsMsg::Lanes { reply } => {
                reply.send([&self.main, &self.subagent].map(|lane| lane.view(&self.shared)))
            }
            SessionsMsg::SettingsChanged => {
                self.serve(LaneName::Main);
                self.serve(LaneName::Subagent);
            }
            SessionsMsg::Begin => self.wake_all(ctx),
            SessionsMsg::Stable => self.on_stable(ctx),
            SessionsMsg::Suspend { within, reply } => self.on_suspend(within, reply, ctx),
        }
    }

    fn child_exited(&mut self, key: SessionKey, exit: Exit, ctx: &mut Ctx<Self>) {
        let failure = match exit {
            Exit::Failed(reason) => Some(reason),
            Exit::Killed => Some("killed".to_owned()),
            Exit::Normal | Exit::Asked => None,
        };
        self.on_down(&key, failure, ctx);
    }
}

impl Sessions {
    fn wake_all(&mut self, ctx: &mut Ctx<Self>) {
        for key in std::mem::take(&mut self.to_wake) {
            self.wait_for(&key, Waiting::Nothing, ctx);
        }
    }

    const fn lane(&mut self, name: LaneName) -> &mut Lane {
        match name {
            LaneName::Main => &mut self.main,
            LaneName::Subagent => &mut self.subagent,
        }
    }

    fn forget(&mut self, run: RunId) {
        self.main.forget(run);
        self.subagent.forget(run);
    }

    fn serve(&mut self, name: LaneName) {
        if self.shared.is_suspending() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.lane(name).serve(&shared);
    }

    /// After a rebuild: who is awake stays awake and asks for its permit again. Returns sessions with open
    /// runs of this process that nobody has.
    fn take_over(&mut self, open: &[OpenRun]) -> Vec<SessionKey> {
        for entry in self.shared.live_sessions() {
            if entry.handle.info().has_left() {
                self.shared.live.remove(&entry.meta.key);
                continue;
            }
            self.residents.insert(entry.meta.key.clone(), Resident::Awake(entry));
        }
        // Those on their way to sleep or awake are in no index: they say where they are. All ask for permits.
        for session in self.shared.system.index.handles::<SessionMsg>() {
            drop(session.send(SessionMsg::Hello));
        }
        open.iter()
            .filter(|run| run.host == self.shared.host && !self.residents.contains_key(&run.session))
            .map(|run| run.session.clone())
            .collect()
    }
}

/// After a rebuild: ends runs that were committed while the run that asked for them was stopped, and that this
/// manager was about to end. Returns the others, and those whose ends the store does not take yet.
async fn settle_orphans(
    shared: &Arc<Shared>,
    open: Vec<OpenRun>,
) -> Result<(Vec<OpenRun>, Vec<Ended>), StoreError> {
    let is_open: BTreeSet<RunId> = open.iter().map(|run| run.run).collect();
    let (mut kept, mut orphans) = (Vec::with_capacity(open.len()), Vec::new());
    for run in open {
        let spawner = run.spawner.filter(|spawner| run.host == shared.host && !is_open.contains(spawner));
        let outcome = match spawner {
            Some(spawner) => shared.storage.run(spawner).await?.and_then(|row| row.outcome),
            None => None,
        };
        match outcome {
            Some(outcome) if outcome.state.stops_children() && !run.on_parent_exit.outlives() => {
                orphans.push(run)
            }
            _ => kept.push(run),
        }
    }
    let runs =
        recover::with_rows(shared, orphans.into_iter().map(|run| (run, Decision::Stop)).collect()).await?;
    let ended = recover::end(shared, &runs).await;
    Ok((kept, runs.into_iter().filter(|(run, _)| !ended.contains(&run.row.id)).collect()))
}
