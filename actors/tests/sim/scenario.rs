//! What a seed stands for: settings, processes one after the other, and the faults of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::kit::Bug;
use offshoot_actors::ports::Host;
use offshoot_actors::types::{
    AgentSettings, AllowAgents, LaneLimits, ModelChoice, RecoveryOverrides, SessionKey, Settings,
    SubagentOverrides, Timestamp, ToolRules,
};

use super::random::Random;

pub const EPOCH: Timestamp = Timestamp(1_700_000_000_000);

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Like `kill -9`.
    Crash,
    /// As a program ends that stops its tree.
    Stop,
    /// As a daemon ends that lets its runs come to the end of their steps.
    Suspend,
    /// While it does that, at once, as by a second signal.
    Cut,
    /// After all work has come to rest.
    Rest,
}

/// When a transaction is applied and when its submitter hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// Both at once.
    Immediate,
    /// Both late.
    Late,
    /// Applied at once, told late: a crash between the two leaves what nobody was told of.
    ToldLate,
}

/// Chances in a thousand and most panics, by kind of actor.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    pub panics: BTreeMap<&'static str, (u64, u32)>,
}

#[derive(Debug, Clone)]
pub struct Life {
    pub end: End,
    pub length: Duration,
    pub clients: u32,
    pub requests: u32,
    pub store: StoreMode,
    /// Whether the store is full now and then.
    pub full: bool,
    pub faults: FaultPlan,
    /// How far the calendar is off when it begins, and where it jumps after how long.
    pub calendar: i64,
    pub jumps: Vec<(Duration, i64)>,
    /// The chance in a hundred that an actor lets others go first before it handles a message.
    pub yields: u64,
}

/// How far a calendar may be off, in milliseconds: less than what recovery finds too old.
const MOST_OFF: u32 = 3 * 24 * 3_600_000;

#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub bug: Option<Bug>,
    pub settings: Settings,
    pub roots: Vec<SessionKey>,
    pub lives: Vec<Life>,
    /// What kind of processes they are: a daemon goes on with what the one before left open.
    pub host: Host,
    /// How many spawns models ask for in all.
    pub spawns: u32,
}

impl Scenario {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::of(&[seed, 1]);
        let mut settings = settings(&mut random);
        let names = ["agent:main:main", "agent:main:side", "agent:other:main", "agent:helper:main"];
        let roots = names[..random.between(1, 4) as usize].iter().map(|name| name.parse().unwrap()).collect();
        let restarts = *random.pick(&[0, 0, 0, 1, 1, 2]);
        let mut lives: Vec<Life> = (0..restarts)
            .map(|_| {
                let end = if random.percent(70) { End::Crash } else { End::Stop };
                life(end, &mut random)
            })
            .collect();
        lives.push(life(End::Rest, &mut random));
        let spawns = random.between(4, 40);
        let mut random = Random::of(&[seed, 7]);
        lives.iter_mut().for_each(|life| disturb(life, &mut random));
        let mut random = Random::of(&[seed, 6]);
        let host = if random.percent(70) { Host::Daemon } else { Host::OneShot };
        settings.recovery.max_attempts = *random.pick(&[1, 2, 3]);
        Self { seed, bug, settings, roots, lives, host, spawns }
    }
}

/// What a process meets beside its work.
fn disturb(life: &mut Life, random: &mut Random) {
    let off = |random: &mut Random| {
        let most = *random.pick(&[1_000, 3_600_000, MOST_OFF]);
        let far = i64::from(random.between(0, most));
        if random.percent(50) { -far } else { far }
    };
    if random.percent(30) {
        life.calendar = off(random);
    }
    if random.percent(30) {
        let longest = u32::try_from(life.length.as_millis()).unwrap();
        life.jumps = (0..random.between(1, 4)).map(|_| (random.millis(0, longest), off(random))).collect();
    }
    life.yields = *random.pick(&[0, 0, 3, 20, 60]);
    if life.end == End::Stop {
        life.end = *random.pick(&[End::Stop, End::Suspend, End::Suspend, End::Cut]);
    }
}

fn life(end: End, random: &mut Random) -> Life {
    Life {
        end,
        length: random.millis(500, 60_000),
        clients: random.between(1, 3),
        requests: random.between(2, 8),
        store: *random.pick(&[StoreMode::Immediate, StoreMode::Late, StoreMode::Late, StoreMode::ToldLate]),
        full: random.percent(25),
        faults: faults(random),
        calendar: 0,
        jumps: Vec::new(),
        yields: 0,
    }
}

fn faults(random: &mut Random) -> FaultPlan {
    let panics = match random.below(10) {
        0..=2 => BTreeMap::new(),
        3..=7 => BTreeMap::from([
            ("run", (8, random.between(0, 2))),
            ("session", (12, random.between(0, 4))),
            ("sessions", (10, random.between(0, 3))),
            ("store", (4, random.between(0, 2))),
            ("config", (300, random.between(0, 2))),
        ]),
        // More of one kind than it survives.
        8 => BTreeMap::from([("session", (150, random.between(6, 20)))]),
        _ => BTreeMap::from([
            ("sessions", (150, random.between(3, 14))),
            ("session", (10, 1)),
            ("store", (30, random.between(0, 12))),
            ("root", (500, random.between(0, 1))),
        ]),
    };
    FaultPlan { panics }
}

fn settings(random: &mut Random) -> Settings {
    let choice = |names: &[&str]| ModelChoice {
        primary: names[0].parse().unwrap(),
        fallbacks: names[1..].iter().map(|name| name.parse().unwrap()).collect(),
    };
    let agent = |id: &str, model: ModelChoice, deny: &[&str]| {
        let deny = deny.iter().map(|name| (*name).to_owned()).collect();
        let settings = AgentSettings {
            id: id.parse().unwrap(),
            name: None,
            model,
            system_prompt: None,
            tools: ToolRules { deny, ..ToolRules::default() },
            subagents: SubagentOverrides::default(),
            recovery: RecoveryOverrides::default(),
        };
        (settings.id.clone(), Arc::new(settings))
    };
    let mut settings = Settings::with_model("main".parse().unwrap(), "test/one".parse().unwrap());
    settings.agents = BTreeMap::from([
        agent("main", choice(&["test/one", "test/two"]), &[]),
        agent("other", choice(&["test/two", "test/three", "test/one"]), &[]),
        agent("helper", choice(&["test/three"]), &["slow", "cancel"]),
    ]);
    settings.subagents.max_children = random.between(1, 8);
    settings.subagents.max_depth = random.between(1, 4);
    settings.subagents.max_descendants = random.between(3, 30);
    settings.subagents.allow_agents = Some(AllowAgents::Any);
    settings.subagents.run_timeout = random.percent(50).then(|| random.millis(20_000, 200_000));
    if random.percent(20) {
        settings.subagents.model = Some(choice(&["test/two", "test/one"]));
    }
    settings.lanes = LaneLimits { main: random.between(1, 3), subagent: random.between(1, 4) };
    settings.runs.max_steps = random.between(3, 9);
    settings.runs.max_retries = random.between(0, 3);
    settings.runs.timeout = random.percent(50).then(|| random.millis(60_000, 900_000));
    settings.prompts.max_queued = random.between(2, 20) as usize;
    settings.sleep_after = *random.pick(&[1, 50, 1_000, 20_000].map(Duration::from_millis));
    settings
}
