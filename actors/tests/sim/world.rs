//! What models, tools and clients of one seed share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use offshoot_actors::TreeHandle;
use offshoot_actors::ports::Clock;
use offshoot_actors::types::{
    Cleanup, IdempotencyKey, Mode, OnParentExit, Origin, PromptRequest, RecoveryMode, RunId, SessionKey,
    SpawnRequest,
};

use super::history::{Ask, Heard, History};
use super::random::Random;
use super::scenario::Scenario;

#[derive(Default)]
struct Known {
    sessions: Vec<SessionKey>,
    runs: Vec<RunId>,
    /// Requests with an idempotency key, to be sent again.
    named: Vec<Ask>,
    spawns: u32,
    attempts: BTreeMap<(RunId, u32), u64>,
    names: u64,
}

pub struct World {
    pub scenario: Scenario,
    pub history: Arc<History>,
    known: Mutex<Known>,
}

impl World {
    pub fn new(scenario: Scenario) -> Arc<Self> {
        let known = Known { sessions: scenario.roots.clone(), ..Known::default() };
        Arc::new(Self { scenario, history: Arc::default(), known: Mutex::new(known) })
    }

    /// How often this step of this run has called a model before.
    pub fn attempt(&self, run: RunId, step: u32) -> u64 {
        let mut known = self.known.lock().unwrap();
        let attempt = known.attempts.entry((run, step)).or_default();
        *attempt += 1;
        *attempt
    }

    /// How many of `wanted` spawns may be asked for.
    pub fn allow_spawns(&self, wanted: u32) -> u32 {
        let mut known = self.known.lock().unwrap();
        let allowed = wanted.min(self.scenario.spawns.saturating_sub(known.spawns));
        known.spawns += allowed;
        allowed
    }

    fn session(&self, random: &mut Random) -> SessionKey {
        let known = self.known.lock().unwrap();
        // Roots are asked more often than the many others.
        if random.percent(50) {
            random.pick(&self.scenario.roots).clone()
        } else {
            random.pick(&known.sessions).clone()
        }
    }

    pub fn run(&self, random: &mut Random) -> Option<RunId> {
        let known = self.known.lock().unwrap();
        let late = known.runs.len().saturating_sub(8);
        (!known.runs.is_empty()).then(|| *random.pick(&known.runs[late..]))
    }

    pub fn any_session(&self, random: &mut Random) -> SessionKey {
        self.session(random)
    }

    fn name(&self, random: &mut Random) -> Option<IdempotencyKey> {
        random.percent(50).then(|| {
            let mut known = self.known.lock().unwrap();
            known.names += 1;
            IdempotencyKey { key: format!("key {}", known.names), may_repeat: random.percent(50) }
        })
    }

    /// A spawn on behalf of `parent`.
    pub fn spawn_request(&self, parent: SessionKey, random: &mut Random) -> SpawnRequest {
        let deadline = random.percent(25);
        let mut request = SpawnRequest::new(parent, if deadline { "task with a deadline" } else { "task" });
        request.agent = random.percent(30).then(|| (*random.pick(&["other", "helper", "nobody"])).to_owned());
        request.model = random.percent(15).then(|| "test/three".to_owned());
        request.label = random.percent(20).then(|| "label".to_owned());
        if deadline {
            request.timeout = Some(random.millis(1_000, 60_000));
        }
        request.mode = if random.percent(20) { Mode::Session } else { Mode::Run };
        request.cleanup = if random.percent(30) { Cleanup::Delete } else { Cleanup::Keep };
        request.expects_completion = !random.percent(15);
        request.recovery = match random.below(100) {
            0..=9 => Some(RecoveryMode::Interrupt),
            10..=14 => Some(RecoveryMode::Resume),
            _ => None,
        };
        request.on_parent_exit = match random.below(10) {
            0..=5 => OnParentExit::Stop,
            6..=7 => OnParentExit::Continue,
            _ => OnParentExit::HandOver,
        };
        request
    }

    /// Something that a client asks for.
    pub fn ask(&self, random: &mut Random) -> Ask {
        match random.below(100) {
            0..=39 => {
                let deadline = random.percent(20);
                let text = if deadline { "prompt with a deadline" } else { "prompt" };
                let mut request = PromptRequest::new(self.session(random), text);
                request.timeout = deadline.then(|| random.millis(1_000, 60_000));
                request.model = random.percent(10).then(|| "test/two".to_owned());
                request.idempotency = self.name(random);
                Ask::Submit(request)
            }
            40..=54 => {
                let parent = self.session(random);
                let mut request = self.spawn_request(parent, random);
                request.idempotency = self.name(random);
                Ask::Spawn(request, Origin::Operator)
            }
            55..=64 => Ask::Steer(self.session(random), "steer".to_owned(), Origin::Operator),
            65..=76 => match self.run(random) {
                Some(run) => Ask::Cancel(run),
                None => Ask::Apply,
            },
            77..=84 => Ask::Stop(self.session(random)),
            85..=94 => {
                let known = self.known.lock().unwrap();
                if known.named.is_empty() { Ask::Apply } else { random.pick(&known.named).clone() }
            }
            _ => Ask::Apply,
        }
    }

    /// Asks the tree and takes down what it answers.
    pub async fn request(&self, tree: &TreeHandle, ask: Ask) -> Heard {
        let number = self.history.asked(ask.clone());
        self.remember(&ask);
        let refused = Heard::Refused;
        let heard = match ask {
            Ask::Spawn(request, origin) => tree
                .spawn(request, origin)
                .await
                .map_or_else(refused, |accepted| Heard::Spawned(accepted.into())),
            Ask::Submit(request) => {
                tree.submit(request, Origin::Operator).await.map_or_else(refused, Heard::Submitted)
            }
            Ask::Steer(session, text, origin) => {
                tree.steer(session, text, origin).await.map_or_else(refused, Heard::Steered)
            }
            Ask::Cancel(run) => tree.cancel(run, Origin::Operator).await.map_or_else(refused, Heard::Stopped),
            Ask::Stop(session) => {
                tree.stop(session, Origin::Operator).await.map_or_else(refused, Heard::Stopped)
            }
            Ask::Apply => {
                drop((tree.live(), tree.actors()));
                // The configuration may be in the middle of a restart.
                drop(tree.apply(self.scenario.settings.clone()).await);
                Heard::Applied
            }
        };
        self.learn(&heard);
        self.history.note(super::history::What::Answered { number, heard: heard.clone() });
        heard
    }

    fn remember(&self, ask: &Ask) {
        let named = match ask {
            Ask::Spawn(request, _) => &request.idempotency,
            Ask::Submit(request) => &request.idempotency,
            _ => return,
        };
        if named.is_some() {
            let mut again = ask.clone();
            match &mut again {
                Ask::Spawn(SpawnRequest { idempotency: Some(key), .. }, _)
                | Ask::Submit(PromptRequest { idempotency: Some(key), .. }) => key.may_repeat = true,
                _ => {}
            }
            self.known.lock().unwrap().named.push(again);
        }
    }

    fn learn(&self, heard: &Heard) {
        let mut known = self.known.lock().unwrap();
        match heard {
            Heard::Spawned(accepted) => {
                known.sessions.push(accepted.session.clone());
                known.runs.push(accepted.run);
            }
            Heard::Submitted(submitted) => known.runs.push(submitted.run),
            _ => {}
        }
    }
}

/// What `work` gives, if it is done within this time.
pub async fn within<T>(
    clock: &dyn Clock,
    time: std::time::Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let work = std::pin::pin!(work);
    match futures::future::select(work, clock.sleep(time)).await {
        futures::future::Either::Left((value, _)) => Some(value),
        futures::future::Either::Right(_) => None,
    }
}
