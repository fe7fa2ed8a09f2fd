//! The processes of a seed, one after the other on the same store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offshoot_actors::kit::Bug;
use offshoot_actors::ports::{Clock, EventSink, RunState, SeededIds, Storage, TokioClock};
use offshoot_actors::types::{Origin, PromptRequest, RunId, SpawnRequest, Timestamp};
use offshoot_actors::{MemoryStorage, Tree, TreeHandle, TreeOptions};
use tokio::task::JoinHandle;

use super::clock::SimClock;
use super::faults::SimFaults;
use super::history::{Heard, Record, What};
use super::model::{PROBE, PROBE_TIME, SimModels};
use super::random::Random;
use super::scenario::{EPOCH, End, Life, Scenario};
use super::storage::SimStorage;
use super::tools::SimTools;
use super::world::{World, within};

/// All of this is virtual time. A request that takes longer was forgotten.
const REQUEST_TIME: Duration = Duration::from_secs(24 * 3_600);
/// How often roots may go to work again because of each other.
const MOST_PASSES: usize = 20;
/// A model that hangs does so for more than a day, and one run without a deadline may meet several of them.
const REST_TIME: Duration = Duration::from_secs(100 * 24 * 3_600);
const STOP_TIME: Duration = Duration::from_secs(300);

/// What a process found and left.
#[derive(Debug, Clone)]
pub struct LifeFacts {
    /// Runs that had ended before.
    pub ended_before: BTreeSet<RunId>,
    /// Runs that had begun before, also where nobody was told, and not ended.
    pub begun_before: BTreeSet<RunId>,
    /// How it ended; a root that gave up counts as a crash.
    pub end: End,
}

/// A seed that was played to its end.
pub struct Played {
    pub scenario: Scenario,
    pub records: Vec<Record>,
    pub lives: Vec<LifeFacts>,
    pub store: Arc<MemoryStorage>,
}

pub fn play(seed: u64, bug: Option<Bug>) -> Played {
    super::faults::quiet_panics();
    let world = World::new(Scenario::new(seed, bug));
    let mut random = Random::of(&[seed, 4]);
    let mut store = Arc::new(MemoryStorage::recording());
    let mut epoch = EPOCH;
    let mut lives = Vec::new();
    let mut number = 0;
    // A process that fell over is started again as it was to be; one that falls over each time is let be.
    let mut plans: Vec<Life> = world.scenario.lives.iter().rev().cloned().collect();
    while let Some(plan) = plans.pop() {
        let before = |wanted: fn(RunState) -> bool| {
            store.all_runs().into_iter().filter(|run| wanted(run.state)).map(|run| run.id).collect()
        };
        let ended_before = before(|state| !state.is_open());
        let begun_before = before(|state| matches!(state, RunState::Running | RunState::Yielded));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.unwrap();
        let process = Process { world: &world, plan: &plan, number, store: &store, epoch };
        let (end, storage, now) = runtime.block_on(process.run(random.next()));
        let after = storage.crash(&mut random);
        world.history.close();
        drop(runtime);
        if end == End::Crash {
            store = Arc::new(after);
            if plan.end == End::Rest {
                let mut again = plan.clone();
                again.faults.panics.clear();
                plans.push(again);
            }
        }
        epoch = Timestamp(now.0 + 1_000);
        lives.push(LifeFacts { ended_before, begun_before, end });
        number += 1;
    }
    Played { scenario: world.scenario.clone(), records: world.history.take(), lives, store }
}

struct Process<'a> {
    world: &'a Arc<World>,
    plan: &'a Life,
    number: usize,
    store: &'a Arc<MemoryStorage>,
    epoch: Timestamp,
}

impl Process<'_> {
    async fn run(&self, seed: u64) -> (End, Arc<SimStorage>, Timestamp) {
        let mut random = Random::new(seed);
        let world = self.world;
        let steady = Arc::new(TokioClock::starting_at(self.epoch));
        world.history.open(self.number, Arc::clone(&steady) as Arc<dyn Clock>);
        let clock: Arc<dyn Clock> = SimClock::start(&steady, self.plan);
        let storage = SimStorage::new(
            Arc::clone(self.store),
            self.plan.store,
            Arc::clone(&clock),
            Arc::clone(&world.history),
            Random::new(random.next()),
        );
        drop(tokio::spawn(Arc::clone(&storage).pump()));
        let faults = Arc::new(SimFaults::new(
            self.plan,
            world.scenario.bug,
            Arc::clone(&world.history),
            Random::new(random.next()),
        ));
        let mut options = TreeOptions::new(
            Arc::clone(&clock),
            Arc::new(SeededIds::new(random.next())),
            Arc::clone(&storage) as Arc<dyn Storage>,
            Arc::new(SimModels { world: Arc::clone(world), clock: Arc::clone(&clock) }),
            Arc::new(SimTools::new(Arc::clone(world), Arc::clone(&clock))),
            world.scenario.settings.clone(),
        );
        options.events = Arc::clone(&world.history) as Arc<dyn EventSink>;
        options.host = world.scenario.host;
        options.faults = Some(Arc::clone(&faults) as _);
        let end = match Tree::start(options).await {
            Ok(tree) => self.live(tree, &clock, &storage, &faults, &mut random).await,
            // A root that panics while it starts is a process that did not come up.
            Err(error) => {
                world.history.note(What::Refused(format!("the tree did not start: {error}")));
                End::Crash
            }
        };
        (end, storage, steady.now())
    }

    async fn live(
        &self,
        tree: Tree,
        clock: &Arc<dyn Clock>,
        storage: &Arc<SimStorage>,
        faults: &SimFaults,
        random: &mut Random,
    ) -> End {
        let ending = Arc::new(AtomicBool::new(false));
        let clients = self.clients(&tree.handle(), clock, &ending, random);
        let disk = self.plan.full.then(|| {
            let (storage, clock, mut random) =
                (Arc::clone(storage), Arc::clone(clock), Random::new(random.next()));
            tokio::spawn(async move {
                loop {
                    clock.sleep(random.millis(100, 10_000)).await;
                    storage.refuse(random.between(5, 100).into());
                    clock.sleep(random.millis(10, 2_000)).await;
                    storage.refuse(0);
                }
            })
        });
        let died = within(&**clock, self.plan.length, tree.ended()).await.is_some();
        if died || self.plan.end == End::Crash {
            return End::Crash;
        }
        ending.store(true, Ordering::Relaxed);
        if let Some(disk) = disk {
            disk.abort();
        }
        storage.refuse(0);
        let grace = self.world.scenario.settings.recovery.grace;
        match self.plan.end {
            End::Cut => {
                let most = u32::try_from(grace.as_millis()).unwrap();
                let _ = within(&**clock, random.millis(0, most), tree.suspend(grace)).await;
                return End::Crash;
            }
            End::Suspend | End::Stop => {
                if self.plan.end == End::Suspend
                    && within(&**clock, STOP_TIME, tree.suspend(grace)).await.is_none()
                {
                    self.broken("the tree does not suspend its runs");
                }
                self.stop(tree, clock).await;
                self.join(clients, clock, STOP_TIME).await;
                return self.plan.end;
            }
            End::Crash | End::Rest => {}
        }
        faults.end();
        self.join(clients, clock, REQUEST_TIME).await;
        // The last request may have been the end of the root.
        if within(&**clock, Duration::from_millis(1), tree.ended()).await.is_some() {
            return End::Crash;
        }
        self.rest(&tree.handle(), clock).await;
        self.fill_lanes(&tree.handle(), clock).await;
        self.stop(tree, clock).await;
        End::Rest
    }

    fn clients(
        &self,
        tree: &TreeHandle,
        clock: &Arc<dyn Clock>,
        ending: &Arc<AtomicBool>,
        random: &mut Random,
    ) -> Vec<JoinHandle<()>> {
        let client = |mut random: Random| {
            let (world, tree) = (Arc::clone(self.world), tree.clone());
            let (clock, ending) = (Arc::clone(clock), Arc::clone(ending));
            let requests = self.plan.requests;
            // Some are gone before they have made all their requests, in the middle of one.
            let leaves = random.percent(20).then(|| random.millis(0, self.plan.length.as_millis() as u32));
            let pause = u32::try_from(self.plan.length.as_millis()).unwrap() / requests;
            let mut work = Box::pin({
                let clock = Arc::clone(&clock);
                async move {
                    for _ in 0..requests {
                        clock.sleep(random.millis(0, pause)).await;
                        if ending.load(Ordering::Relaxed) {
                            return;
                        }
                        let ask = world.ask(&mut random);
                        if random.percent(15) {
                            // Some do not wait for the answer.
                            drop(within(&*clock, random.millis(0, 20), world.request(&tree, ask)).await);
                            continue;
                        }
                        let heard = world.request(&tree, ask).await;
                        if let (Heard::Submitted(submitted), true) = (heard, random.percent(20)) {
                            // Some wait for the end, and for a while only.
                            let time = random.millis(0, 30_000);
                            drop(within(&*clock, time, tree.outcome(submitted.run)).await);
                        }
                    }
                }
            });
            tokio::spawn(async move {
                match leaves {
                    Some(after) => drop(within(&*clock, after, &mut work).await),
                    None => work.await,
                }
            })
        };
        (0..self.plan.clients).map(|_| client(Random::new(random.next()))).collect()
    }

    async fn join(&self, clients: Vec<JoinHandle<()>>, clock: &Arc<dyn Clock>, time: Duration) {
        for mut client in clients {
            if within(&**clock, time, &mut client).await.is_none() {
                self.broken("a client's request was never answered");
                client.abort();
            }
        }
    }

    /// Waits until nothing is left to do, and a while longer.
    async fn rest(&self, tree: &TreeHandle, clock: &Arc<dyn Clock>) {
        let Scenario { roots, settings, .. } = &self.world.scenario;
        // A run of one root may steer a session of another that is at rest already, and that one steer back.
        for _ in 0..MOST_PASSES {
            for root in roots {
                match within(&**clock, REST_TIME, tree.quiet(root)).await {
                    Some(Ok(())) => {}
                    Some(Err(refusal)) => self.broken(format!("{root} cannot be asked for quiet: {refusal}")),
                    None => self.broken(format!("{root} never came to rest; in memory: {:?}", tree.live())),
                }
            }
            clock.sleep(settings.sleep_after * 4 + Duration::from_secs(10)).await;
            if tree.live().is_empty() {
                break;
            }
        }
        for session in tree.live() {
            self.broken(format!("{session:?} does not sleep though there is nothing to do"));
        }
        let kinds = tree.actors().into_iter().filter(|actor| matches!(actor.kind, "session" | "run"));
        for actor in kinds {
            self.broken(format!("{} {} is left at rest: {actor:?}", actor.kind, actor.path));
        }
    }

    /// Every permit must be back: as many runs as a lane takes start at once.
    async fn fill_lanes(&self, tree: &TreeHandle, clock: &Arc<dyn Clock>) {
        let lanes = self.world.scenario.settings.lanes;
        let mut runs = Vec::new();
        for number in 0..lanes.main.max(lanes.subagent) {
            let root = format!("agent:main:probe-{number}").parse().unwrap();
            let prompt = PromptRequest::new(root, PROBE);
            let (parent, main) = (prompt.session.clone(), number < lanes.main);
            if main {
                match within(&**clock, STOP_TIME, tree.submit(prompt, Origin::Operator)).await {
                    Some(Ok(submitted)) => runs.push(submitted.run),
                    other => self.broken(format!("a fresh session takes no message: {other:?}")),
                }
            }
            if number < lanes.subagent {
                let mut request = SpawnRequest::new(parent, PROBE);
                request.expects_completion = false;
                match within(&**clock, STOP_TIME, tree.spawn(request, Origin::Operator)).await {
                    Some(Ok(accepted)) => runs.push(accepted.run),
                    other => self.broken(format!("a fresh session cannot spawn: {other:?}")),
                }
            }
        }
        clock.sleep(PROBE_TIME / 2).await;
        let working: BTreeSet<RunId> = tree
            .live()
            .into_iter()
            .filter_map(|session| session.run)
            .filter(|run| run.state == "running")
            .map(|run| run.id)
            .collect();
        for run in runs.iter().filter(|run| !working.contains(run)) {
            self.broken(format!("run {run} does not start though its lane must be empty: a permit is lost"));
        }
        for run in runs {
            if within(&**clock, STOP_TIME, tree.outcome(run)).await.is_none() {
                self.broken(format!("run {run} does not end"));
            }
        }
        // The store shows an end before it is told.
        clock.sleep(STOP_TIME).await;
    }

    async fn stop(&self, tree: Tree, clock: &Arc<dyn Clock>) {
        let handle = tree.handle();
        if within(&**clock, STOP_TIME, tree.stop()).await.is_none() {
            return self.broken("the tree does not stop");
        }
        for actor in handle.actors() {
            self.broken(format!("{} is left after the tree was stopped", actor.path));
        }
    }

    fn broken(&self, text: impl Into<String>) {
        self.world.history.note(What::Broken(text.into()));
    }
}
