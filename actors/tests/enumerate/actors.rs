//! What the actor of a parent believes, and what it does on a message: `session/{start,commit,inbox,turn}.rs` in small.

use super::moves::Out;
use super::store::{Change, Line, View, bit, is_first};
use super::{Mistake, Run, Runs, World};

/// What the first run of a parent does after it has spawned its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// It waits for them, and answers.
    Waits,
    /// It answers at once.
    Leaves,
    /// It makes another step, and answers.
    Works,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    Asleep,
    /// It is to be read from the store.
    Waking,
    Up,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Starting,
    Running,
    Boundary,
    Yielding,
    Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Report {
    Wait,
    Step,
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ticket {
    Start {
        run: Run,
        take: Runs,
    },
    Boundary {
        run: Run,
        take: Runs,
    },
    Yield {
        run: Run,
    },
    Deliver {
        next: Run,
        take: Runs,
    },
    /// The first half of a delivery that is made in two.
    Taken {
        next: Run,
        take: Runs,
    },
    End {
        run: Run,
        next: Option<Run>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Msg {
    ChildOpened(Run),
    ChildEnded(Run),
    Committed(Ticket),
    Report { run: Run, report: Report },
}

/// The actor of a run. It survives a panic of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunActor {
    pub run: Run,
    /// Children that it has asked for.
    pub spawned: u8,
    /// Whether its next step is its answer.
    pub answers: bool,
    /// What it waits for an answer to.
    pub reported: Option<Report>,
    /// Whether it has heard from its session since that was rebuilt. What it reports before that is not heard.
    pub synced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    pub standing: Standing,
    current: Option<(Run, Stage)>,
    yielded: Option<Run>,
    queue: Vec<Run>,
    children: Runs,
    announces: Runs,
    delivering: Option<Run>,
    /// A run of an earlier process that this one has not gone on with.
    left: Option<Run>,
    pub run: Option<RunActor>,
    pub mailbox: Vec<Msg>,
    /// What was said to it before it was up: the manager hands it over when it hears that it is.
    pub held: Vec<Msg>,
}

impl Actor {
    pub const fn asleep() -> Self {
        Self {
            standing: Standing::Asleep,
            current: None,
            yielded: None,
            queue: Vec::new(),
            children: 0,
            announces: 0,
            delivering: None,
            left: None,
            run: None,
            mailbox: Vec::new(),
            held: Vec::new(),
        }
    }

    pub fn waking() -> Self {
        Self { standing: Standing::Waking, ..Self::asleep() }
    }

    /// The second parent: a root of its own, or not spawned yet.
    pub fn at_first(world: &World) -> Self {
        if world.parents[1].is_none() { Self::waking() } else { Self::asleep() }
    }

    pub fn is_quiet(&self) -> bool {
        let Self { standing, mailbox, .. } = self;
        let quiet = Self { standing: *standing, left: self.left, ..Self::asleep() };
        mailbox.is_empty() && *self == quiet
    }

    pub fn works(&self, run: Run) -> bool {
        self.current == Some((run, Stage::Running))
    }

    fn has_news(&self) -> bool {
        self.announces != 0 && self.yielded.is_none()
    }

    fn knows(&self, run: Run) -> bool {
        self.current.is_some_and(|(current, _)| current == run)
            || self.yielded == Some(run)
            || self.queue.contains(&run)
    }

    /// The first start, or the rebuild after a panic.
    pub fn build(&mut self, session: usize, again: bool, out: &mut Out<'_>) {
        let view = std::sync::Arc::clone(out.view());
        let (run, left, mut mailbox) = (self.run, self.left, std::mem::take(&mut self.mailbox));
        let held = std::mem::take(&mut self.held);
        // They are of an earlier epoch.
        mailbox.retain(|message| !matches!(message, Msg::Report { .. }));
        *self = Self { standing: Standing::Up, run, left, mailbox, held, ..Self::asleep() };
        self.children = view.open_to(out.world, session);
        self.announces = view.inbox(out.world, session);
        self.run = run.filter(|actor| view.is_open(actor.run));
        self.run = self.run.map(|actor| RunActor { synced: false, ..actor });
        for run in view.open_of(session) {
            let lives = self.run.is_some_and(|actor| actor.run == run);
            match view.state(run) {
                "accepted" => self.queue.push(run),
                "yielded" => self.yielded = Some(run),
                _ if lives => self.current = Some((run, Stage::Running)),
                _ => self.queue.insert(0, run),
            }
            if !again && view.state(run) != "accepted" {
                self.left = Some(run);
            }
        }
        self.advance(session, out);
    }

    pub fn handle(&mut self, session: usize, message: Msg, out: &mut Out<'_>) {
        match message {
            Msg::ChildOpened(run) => {
                let known = !out.view().is_open(run) || self.announces & bit(run) != 0;
                if !known || out.world.mistake == Some(Mistake::OpenedAfterItsEnd) {
                    self.children |= bit(run);
                }
                return;
            }
            Msg::ChildEnded(run) => {
                let was_open = self.children & bit(run) != 0;
                self.children &= !bit(run);
                if was_open {
                    self.announces |= bit(run);
                } else if self.announces & bit(run) == 0 {
                    // After a rebuild it may be taken already; the store knows.
                    self.announces |= out.view().inbox(out.world, session);
                }
            }
            Msg::Report { run, report } => return self.on_report(session, run, report, out),
            Msg::Committed(ticket) => return self.on_committed(session, ticket, out),
        }
        self.advance(session, out);
    }

    fn on_committed(&mut self, session: usize, ticket: Ticket, out: &mut Out<'_>) {
        match ticket {
            Ticket::Start { run, take } => {
                self.took(take);
                if self.current == Some((run, Stage::Starting)) {
                    return self.run_begins(run, out);
                }
            }
            Ticket::Boundary { run, take } => {
                self.took(take);
                if self.current == Some((run, Stage::Boundary)) {
                    return self.go_on(run, out);
                }
            }
            Ticket::Yield { run } => {
                if self.current == Some((run, Stage::Yielding)) {
                    (self.current, self.yielded) = (None, Some(run));
                }
            }
            Ticket::Taken { next, take } => {
                if self.delivering == Some(next) {
                    let next = out.view().next_run(session);
                    self.delivering = Some(next);
                    out.commit(Change::DeliverRest { next, take });
                    out.accepted(session, next);
                    self.mailbox.push(Msg::Committed(Ticket::Deliver { next, take }));
                    return;
                }
            }
            Ticket::Deliver { next, take } => {
                self.took(take);
                if self.delivering == Some(next) {
                    self.delivering = None;
                    if !self.knows(next) {
                        self.queue.insert(0, next);
                    }
                }
            }
            Ticket::End { run, next } => {
                self.current = self.current.filter(|(current, _)| *current != run);
                self.yielded = self.yielded.filter(|yielded| *yielded != run);
                self.run = self.run.filter(|actor| actor.run != run);
                self.left = self.left.filter(|left| *left != run);
                self.queue.extend(next.filter(|next| !self.knows(*next)));
            }
        }
        self.advance(session, out);
    }

    fn took(&mut self, take: Runs) {
        self.announces &= !take;
        self.children &= !take;
    }

    fn on_report(&mut self, session: usize, run: Run, report: Report, out: &mut Out<'_>) {
        if !self.works(run) {
            return;
        }
        match report {
            Report::Wait if self.yielded.is_none() && self.children != 0 => {
                self.current = Some((run, Stage::Yielding));
                out.commit(Change::Yield { run });
                self.mailbox.push(Msg::Committed(Ticket::Yield { run }));
            }
            Report::Wait | Report::Step => {
                self.current = Some((run, Stage::Boundary));
                if !self.has_news() {
                    return self.go_on(run, out);
                }
                let take = self.announces;
                out.commit(Change::Boundary { run, take });
                self.mailbox.push(Msg::Committed(Ticket::Boundary { run, take }));
            }
            Report::Answer => {
                let is_child = out.world.parents[session].is_some();
                let due = is_child && self.yielded.is_none() && self.queue.is_empty() && self.announces != 0;
                let next = due.then(|| out.view().next_run(session));
                self.current = Some((run, Stage::Ending));
                out.commit(Change::End { run, next });
                if let Some(next) = next {
                    out.accepted(session, next);
                }
                out.ended(session, run);
                self.mailbox.push(Msg::Committed(Ticket::End { run, next }));
            }
        }
    }

    /// The run goes on, in its own actor or, where an earlier process began it, in a new one.
    fn go_on(&mut self, run: Run, out: &Out<'_>) {
        match &mut self.run {
            Some(actor) if actor.run == run => {
                (actor.reported, actor.answers, actor.synced) = (None, true, true);
                self.current = Some((run, Stage::Running));
            }
            _ => self.run_begins(run, out),
        }
    }

    fn run_begins(&mut self, run: Run, out: &Out<'_>) {
        self.current = Some((run, Stage::Running));
        self.left = self.left.filter(|left| *left != run);
        let answers = !is_first(run) || has_gone_on(out.view(), run);
        self.run = Some(RunActor { run, spawned: 0, answers, reported: None, synced: true });
    }

    fn advance(&mut self, session: usize, out: &mut Out<'_>) {
        if self.delivering.is_some() || self.current.is_some() {
            return;
        }
        if let Some(run) = self.yielded.filter(|_| self.children == 0) {
            (self.current, self.yielded) = (Some((run, Stage::Boundary)), None);
            let take = self.announces;
            out.commit(Change::Wake { run, take });
            self.mailbox.push(Msg::Committed(Ticket::Boundary { run, take }));
        } else if !self.queue.is_empty() {
            let run = self.queue.remove(0);
            self.begin(run, out);
        } else if self.has_news() {
            let (next, take) = (out.view().next_run(session), self.announces);
            self.delivering = Some(next);
            if out.world.mistake == Some(Mistake::TakenBeforeCommit) {
                out.commit(Change::TakeOnly { session, take });
                self.mailbox.push(Msg::Committed(Ticket::Taken { next, take }));
                return;
            }
            out.commit(Change::Deliver { next, take });
            out.accepted(session, next);
            self.mailbox.push(Msg::Committed(Ticket::Deliver { next, take }));
        }
    }

    fn begin(&mut self, run: Run, out: &mut Out<'_>) {
        if self.left == Some(run) {
            return self.run_begins(run, out);
        }
        let take = if self.yielded.is_none() { self.announces } else { 0 };
        let has_input = out.view().runs.get(&run).is_some_and(|(_, input)| *input);
        out.commit(Change::Begin { run, take });
        if take == 0 && !has_input {
            return self.run_begins(run, out);
        }
        self.current = Some((run, Stage::Starting));
        self.mailbox.push(Msg::Committed(Ticket::Start { run, take }));
    }
}

/// Whether a run was given something after its message.
fn has_gone_on(view: &View, run: Run) -> bool {
    let lines = view.lines.get(&super::store::session_of(run));
    let own = |line: &&Line| match line {
        Line::Input(of) | Line::Notice(of) | Line::Answer(of) => *of == run,
        Line::Results { by, .. } => *by == Some(run),
    };
    let mut after =
        lines.into_iter().flatten().filter(own).skip_while(|line| !matches!(line, Line::Input(_)));
    after.nth(1).is_some()
}
