//! What watching costs: a snapshot of ten thousand actors, whom it holds up, and what each message pays for being seen.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offshoot_actors::kit::{
    Behaviour, ChildSpec, Ctx, Handle, Intensity, Msg, Reply, StartError, System, spawn_root,
};
use offshoot_actors::policy::cost::Prices;
use offshoot_actors::ports::SeededIds;
use offshoot_actors::{Look, TreeHandle};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::common::report::{Row, Verdict};
use super::common::{Args, Samples, median};
use super::world::{Plan, TASK, World, clock, root};

const HOUR: Duration = Duration::from_secs(3_600);
/// Those that a spawn starts: a session and its run.
const ACTORS: f64 = 2.0;
/// Parents of as many sessions each: with its run, a session is two actors.
const PARENTS: usize = 50;

pub async fn snapshot(args: &Args) -> Vec<Row> {
    let (actors, rounds) = (args.samples(10_000, 200), args.samples(200, 5));
    let world = World::in_memory(Plan { telling: false, ..Plan::default() }).await;
    let children = (actors / 2 / PARENTS).max(1);
    for parent in 0..PARENTS {
        for _ in 0..children {
            world.spawn(&root(parent), TASK).await;
        }
    }
    world.wait_hanging((PARENTS * children) as u64).await;
    let handle = world.handle.clone();
    let quiet = ask(&handle, rounds * 20).await;
    let prices = Prices::default();
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    let mut seen = 0;
    for _ in 0..rounds {
        let begun = Instant::now();
        let snapshot = handle.snapshot(&Look { prices: &prices, silent_after: Duration::from_secs(120) });
        ours.push(begun.elapsed());
        seen = snapshot.nodes.len();
        drop(snapshot);
        let begun = Instant::now();
        drop(handle.actors());
        floor.push(begun.elapsed());
    }
    let busy = Arc::new(AtomicBool::new(true));
    let watching = {
        let (handle, busy) = (handle.clone(), Arc::clone(&busy));
        tokio::task::spawn_blocking(move || {
            let prices = Prices::default();
            while busy.load(Ordering::Relaxed) {
                drop(handle.snapshot(&Look { prices: &prices, silent_after: Duration::from_secs(120) }));
            }
        })
    };
    let beside = ask(&handle, rounds * 20).await;
    busy.store(false, Ordering::Relaxed);
    watching.await.unwrap();
    world.tree.stop().await;
    let millis = |samples: &Samples, percent| samples.percentile(percent) / 1_000.0;
    vec![
        Row::new(format!("snapshot of {seen} nodes, p50"))
            .verdict(Verdict::at_most(millis(&ours, 50), 10.0, "ms"))
            .verdict(Verdict::at_most(millis(&beside, 99) - millis(&quiet, 99), 1.0, "ms").by(
                "how much longer the session manager takes to answer while one snapshot follows on the other, p99",
            ))
            .samples("snapshot", &ours)
            .samples("floor: the index alone, copied and sorted", &floor)
            .samples("the manager's answer", &quiet)
            .samples("the same beside snapshots", &beside),
    ]
}

/// How long the session manager takes to answer.
async fn ask(handle: &TreeHandle, times: usize) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..times {
        let begun = Instant::now();
        handle.lanes().await.unwrap();
        samples.push(begun.elapsed());
    }
    samples
}

/// Counts down, and tells when it is through.
#[derive(Debug)]
enum Count {
    One,
    Last(Reply<Instant>),
}

impl Msg for Count {
    fn name(&self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Last(_) => "last",
        }
    }
}

#[derive(Debug)]
struct Counter;

impl Behaviour for Counter {
    const KIND: &'static str = "counter";

    type Msg = Count;
    type Args = ();
    type Child = Infallible;

    async fn start(_: &mut (), _: &mut Ctx<Self>) -> Result<Self, StartError> {
        Ok(Self)
    }

    fn handle(&mut self, message: Count, _: &mut Ctx<Self>) {
        if let Count::Last(reply) = message {
            reply.send(Instant::now());
        }
    }
}

/// The same as ractor has it.
struct Bare;

impl Actor for Bare {
    type Msg = Count;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Count>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Count>, message: Count, _: &mut ()) -> Result<(), ActorProcessingErr> {
        if let Count::Last(reply) = message {
            reply.send(Instant::now());
        }
        Ok(())
    }
}

pub async fn message(args: &Args) -> Vec<Row> {
    let (messages, rounds) = (args.samples(1_000_000, 1_000), args.samples(9, 3));
    let system = Arc::new(System::new(clock(), Arc::new(SeededIds::new(1))));
    let ours = spawn_root::<Counter>(system, "counter".into(), ()).unwrap();
    let (bare, joined) = Actor::spawn(None, Bare, ()).await.unwrap();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with.push(burst(messages, |message| ours.send(message).unwrap()).await);
        without.push(burst(messages, |message| bare.cast(message).unwrap()).await);
    }
    ours.stop();
    bare.stop(None);
    joined.await.unwrap();
    let (with, without) = (median(with), median(without));
    vec![
        Row::new("one message, with envelope and index")
            .verdict(Verdict::at_most(with - without, 150.0, "ns").by("above the floor"))
            .value("in the kit", with, "ns")
            .value("floor: the same actor of ractor's own", without, "ns"),
    ]
}

/// Nanoseconds a message, from the first that is sent to the last that is handled.
async fn burst(messages: usize, send: impl Fn(Count)) -> f64 {
    let (reply, done) = oneshot::channel();
    let begun = Instant::now();
    for _ in 1..messages {
        send(Count::One);
    }
    send(Count::Last(Reply::Channel(reply)));
    (done.await.unwrap() - begun).as_nanos() as f64 / messages as f64
}

/// Starts so many children.
#[derive(Debug)]
struct Begin<H>(usize, Reply<Vec<H>>);

impl Msg for Begin<Handle<Count>> {
    fn name(&self) -> &'static str {
        "begin"
    }
}

#[derive(Debug)]
struct Parent;

impl Behaviour for Parent {
    const KIND: &'static str = "parent";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 1, within: HOUR });

    type Msg = Begin<Handle<Count>>;
    type Args = ();
    type Child = usize;

    async fn start(_: &mut (), _: &mut Ctx<Self>) -> Result<Self, StartError> {
        Ok(Self)
    }

    fn handle(&mut self, Begin(count, reply): Self::Msg, ctx: &mut Ctx<Self>) {
        let mut start =
            |at: usize| ctx.spawn::<Counter>(at, "child".into(), ChildSpec::alike(HOUR), ()).unwrap();
        reply.send((0..count).map(&mut start).collect());
    }
}

/// The same as ractor has it.
struct BareParent;

impl Actor for BareParent {
    type Msg = Begin<ActorRef<Count>>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        Begin(count, reply): Self::Msg,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut started = Vec::new();
        for _ in 0..count {
            started.push(Actor::spawn_linked(None, Bare, (), myself.get_cell()).await?.0);
        }
        reply.send(started);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        _: SupervisionEvent,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// What the kit adds to the start of an actor, as a share of a spawn.
pub async fn child(args: &Args) -> Vec<Row> {
    let (children, rounds) = (args.samples(1_000, 50), args.samples(9, 3));
    let system = Arc::new(System::new(clock(), Arc::new(SeededIds::new(1))));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let ours = spawn_root::<Parent>(Arc::clone(&system), "parent".into(), ()).unwrap();
        let begin = |begin| ours.send(begin).unwrap();
        with.push(starts(children, begin, |child: &Handle<Count>, last| child.send(last).unwrap()).await);
        ours.stop();
        let (bare, joined) = Actor::spawn(None, BareParent, ()).await.unwrap();
        let begin = |begin| bare.cast(begin).unwrap();
        without
            .push(starts(children, begin, |child: &ActorRef<Count>, last| child.cast(last).unwrap()).await);
        bare.stop(None);
        joined.await.unwrap();
    }
    let (with, without) = (median(with), median(without));
    let world = World::in_memory(Plan { telling: false, ..Plan::default() }).await;
    let mut spawn = Samples::default();
    for sample in 0..args.samples(2_000, 100) {
        spawn.push(super::common::timed(world.spawn(&root(sample / PARENTS), TASK)).await.1);
    }
    world.tree.stop().await;
    let more = (with - without) * ACTORS;
    vec![
        Row::new("start of the actors of a spawn, with envelope and index")
            .verdict(
                Verdict::at_most(more / (spawn.p50() * 1_000.0) * 100.0, 10.0, "%")
                    .by("above the floor, as a share of a spawn in memory"),
            )
            .value("one child of the kit", with, "ns")
            .value("floor: the same child of ractor's own", without, "ns")
            .samples("spawn to accepted, in-memory store", &spawn),
    ]
}

/// Nanoseconds a child, from the word to start all to the last of them that has handled a message.
async fn starts<H>(children: usize, begin: impl Fn(Begin<H>), send: impl Fn(&H, Count)) -> f64 {
    let (reply, started) = oneshot::channel();
    let begun = Instant::now();
    begin(Begin(children, Reply::Channel(reply)));
    let mut answers = Vec::new();
    for child in &started.await.unwrap() {
        let (reply, answer) = oneshot::channel();
        send(child, Count::Last(Reply::Channel(reply)));
        answers.push(answer);
    }
    let mut last = begun;
    for answer in answers {
        last = last.max(answer.await.unwrap());
    }
    (last - begun).as_nanos() as f64 / children as f64
}
