//! What can happen next.

use std::sync::Arc;

use super::actors::{Actor, Msg, Program, Report, Standing};
use super::store::{Change, Stores, View, bit, session_of};
use super::{Mistake, Run, State, World};

/// The sessions with children come first.
const PARENTS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A session is read from the store.
    Start(usize),
    /// A session handles its next message.
    Handle(usize, Msg),
    /// It panics on it, and is rebuilt.
    Panic(usize, Msg),
    /// Its run does the next thing.
    Run(usize),
    /// What was said to a session before it was up is handed over.
    HandOver(usize),
    /// Its run hears that the session was rebuilt.
    Resync(usize),
    /// A leaf begins, and ends.
    LeafEnds(Run),
    /// A leaf tells of its end and has not committed it.
    LeafTells(Run),
    QueuesAgain(Run),
    /// The process dies, and the next one starts.
    Crash,
}

impl Move {
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Crash | Self::Panic(..) | Self::QueuesAgain(_))
    }
}

/// What an actor does to the world while it handles a message.
pub struct Out<'a> {
    pub world: &'a World,
    stores: &'a mut Stores,
    store: usize,
    told: Vec<(usize, Msg)>,
    broken: Option<String>,
}

impl Out<'_> {
    pub fn view(&self) -> &Arc<View> {
        self.stores.view(self.store)
    }

    /// Whether the store took it.
    pub fn commit(&mut self, change: Change) -> bool {
        let (made, broken) = self.stores.make(self.store, change);
        self.broken = self.broken.take().or(broken);
        let taken = made.is_ok();
        self.store = made.unwrap_or(self.store);
        taken
    }

    /// A run of a session is accepted, of which its parent hears.
    pub fn accepted(&mut self, session: usize, run: Run) {
        self.told.extend(self.world.parents[session].map(|parent| (parent, Msg::ChildOpened(run))));
    }

    /// A run has ended, of which its parent hears.
    pub fn ended(&mut self, session: usize, run: Run) {
        self.told.extend(self.world.parents[session].map(|parent| (parent, Msg::ChildEnded(run))));
    }
}

type Next = (Move, State, Option<String>);

/// Every move from a state, where each leads, and the rule that it breaks.
pub fn moves(world: &World, stores: &mut Stores, state: &State) -> Vec<Next> {
    let mut nexts = Vec::new();
    for session in 0..PARENTS {
        let actor = &state.actors[session];
        let mut act = |step: Move, change: &dyn Fn(&mut Actor, &mut Out<'_>)| {
            nexts.push(made(world, stores, state, step, |next, out| change(&mut next.actors[session], out)));
        };
        match actor.standing {
            Standing::Asleep => continue,
            Standing::Waking => {
                act(Move::Start(session), &|actor, out| actor.build(session, false, out));
                continue;
            }
            Standing::Up => {}
        }
        if !actor.held.is_empty() {
            act(Move::HandOver(session), &|actor, _| {
                let held = std::mem::take(&mut actor.held);
                actor.mailbox.extend(held);
            });
        }
        if let Some(message) = actor.mailbox.first().copied() {
            act(Move::Handle(session, message), &|actor, out| {
                actor.mailbox.remove(0);
                actor.handle(session, message, out);
            });
            act(Move::Panic(session, message), &|actor, out| {
                actor.mailbox.remove(0);
                actor.build(session, true, out);
            });
        }
        if actor.run.is_some_and(|run| !run.synced && actor.works(run.run)) {
            nexts.push(made(world, stores, state, Move::Resync(session), |next, _| resync(session, next)));
        }
        // Its place in the lane comes from the manager too, after all that.
        if actor.run.is_some_and(|run| run.reported.is_none()) && actor.held.is_empty() {
            nexts.push(made(world, stores, state, Move::Run(session), |next, out| {
                run_acts(session, next, out)
            }));
        }
    }
    leaves(world, stores, state, &mut nexts);
    nexts.push(crash(world, stores, state));
    nexts
}

fn made(
    world: &World,
    stores: &mut Stores,
    state: &State,
    step: Move,
    act: impl FnOnce(&mut State, &mut Out<'_>),
) -> Next {
    let mut next = state.clone();
    let mut out = Out { world, stores, store: state.store, told: Vec::new(), broken: None };
    act(&mut next, &mut out);
    let Out { store, told, broken, .. } = out;
    next.store = store;
    // One that is quiet believes what is stored: that it sleeps is no state of its own.
    for actor in next.actors.iter_mut().filter(|actor| actor.standing == Standing::Up && actor.is_quiet()) {
        *actor = Actor::asleep();
    }
    for (session, message) in told {
        let actor = &mut next.actors[session];
        if actor.standing == Standing::Asleep {
            actor.standing = Standing::Waking;
        }
        let before = actor.standing == Standing::Waking || !actor.held.is_empty();
        let to = if before { &mut actor.held } else { &mut actor.mailbox };
        to.push(message);
    }
    (step, next, broken)
}

/// A run hears that its session was rebuilt: it repeats what it reported last.
fn resync(session: usize, next: &mut State) {
    let actor = &mut next.actors[session];
    let Some(run) = &mut actor.run else { return };
    run.synced = true;
    let repeated = run.reported.map(|report| Msg::Report { run: run.run, report });
    actor.mailbox.extend(repeated);
}

/// The first run of a session spawns its children one after the other, and then says how it goes on.
fn run_acts(session: usize, next: &mut State, out: &mut Out<'_>) {
    let Some(mut actor) = next.actors[session].run else { return };
    let child = out.world.children(session).nth(actor.spawned.into());
    if let Some(child) = child.filter(|_| !actor.answers) {
        actor.spawned += 1;
        let run = u8::try_from(child).unwrap() * 10;
        if out.commit(Change::Spawn { session: child }) {
            out.accepted(child, run);
            if child < PARENTS {
                next.actors[child] = Actor::waking();
            }
        }
    } else {
        let report = match out.world.programs[session] {
            _ if actor.answers => Report::Answer,
            Program::Waits => Report::Wait,
            Program::Works => Report::Step,
            Program::Leaves => Report::Answer,
        };
        actor.reported = Some(report);
        if actor.synced {
            next.actors[session].mailbox.push(Msg::Report { run: actor.run, report });
        }
    }
    next.actors[session].run = Some(actor);
}

/// Sessions without children: what they believe is what is stored.
fn leaves(world: &World, stores: &mut Stores, state: &State, nexts: &mut Vec<Next>) {
    let view = Arc::clone(stores.view(state.store));
    let again = world.mistake == Some(Mistake::QueuedTwice);
    let early = world.mistake == Some(Mistake::ToldBeforeCommit);
    for run in view.runs.keys().copied().filter(|run| session_of(*run) >= PARENTS) {
        let session = session_of(run);
        match view.state(run) {
            "accepted" if early && state.early & bit(run) == 0 => {
                nexts.push(made(world, stores, state, Move::LeafTells(run), |next, out| {
                    next.early |= bit(run);
                    out.ended(session, run);
                }));
            }
            "accepted" => nexts.push(made(world, stores, state, Move::LeafEnds(run), |_, out| {
                out.commit(Change::Begin { run, take: 0 });
                out.commit(Change::End { run, next: None });
                if !early {
                    out.ended(session, run);
                }
            })),
            _ if again && view.waiting & bit(run) != 0 => {
                nexts.push(made(world, stores, state, Move::QueuesAgain(run), |_, out| {
                    out.commit(Change::QueueAgain { run });
                }));
            }
            _ => {}
        }
    }
}

/// Everything that was believed is lost. Whoever has an open run, or results that wait, is woken.
fn crash(world: &World, stores: &mut Stores, state: &State) -> Next {
    made(world, stores, state, Move::Crash, |next, out| {
        out.commit(Change::Resume);
        next.early = 0;
        for (session, actor) in next.actors.iter_mut().enumerate() {
            let open = out.view().open_of(session).next().is_some();
            let waits = out.view().inbox(world, session) != 0 && world.mistake != Some(Mistake::NotWoken);
            *actor = if open || waits { Actor::waking() } else { Actor::asleep() };
        }
    })
}
