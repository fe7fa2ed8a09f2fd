//! The projector: the tree's events as clients are told of them.
//!
//! One actor, so that what happens in a session is told in its order. The tree's actors hand it their events by a
//! message and go on; [`Projection`] turns them into the protocol's, and the hub gives these to the clients. It knows
//! of a run only while that is open. After a panic it goes on with the runs that the store has as open: at worst a
//! client misses a piece of text, which the run's last event carries whole. The numbers of `agent` events go on.

mod change;
mod payload;
mod projection;
mod run;
#[cfg(test)]
mod tests;
mod told;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::TreeHandle;
use offshoot_actors::kit::{Behaviour, Ctx, Intensity, Msg, StartError, Task};
use offshoot_actors::ports::{Cause, Event, OpenRow, RunRow, SessionRow, Storage, StoreError};
use offshoot_actors::types::{Entry, Scope, StoredEntry};

pub(crate) use self::change::Change;
use self::payload::{Audience, Projected};
use self::projection::Projection;
use self::run::Now;
pub(crate) use self::told::Told;
use super::daemon::Daemon;
use super::hub::{Gate, Outgoing};
use super::tasks::title;

/// What the projector is told.
#[derive(Debug)]
pub(crate) enum ProjectorMsg {
    /// Something happened. From the tree.
    Happened(Box<Event>),
    /// A client changed a session. From its request.
    Changed(Box<Change>),
    /// Text that was held back is due. From a timer.
    Due,
}

impl Msg for ProjectorMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Happened(_) => "happened",
            Self::Changed(_) => "changed",
            Self::Due => "due",
        }
    }
}

/// What the projector starts with.
#[derive(Debug)]
pub(crate) struct ProjectorArgs {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) tree: TreeHandle,
}

/// The projector's state.
pub(crate) struct Projector {
    daemon: Arc<Daemon>,
    projection: Projection,
    timer: Option<Task>,
}

impl fmt::Debug for Projector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projector")
    }
}

impl Behaviour for Projector {
    const KIND: &'static str = "projector";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = ProjectorMsg;
    type Args = ProjectorArgs;
    type Child = Infallible;

    async fn start(args: &mut ProjectorArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let daemon = Arc::clone(&args.daemon);
        // From here on every event waits in the mailbox, so that none falls between it and what the store says.
        daemon.set_projector(ctx.myself().clone());
        let read = |error: offshoot_actors::ports::StoreError| StartError(error.to_string());
        let storage = args.tree.storage();
        let mut projection = Projection::new(Arc::clone(&daemon.told));
        let before = daemon.told.open();
        for OpenRow { row, session, first } in storage.open_rows().await.map_err(read)? {
            if let Some(name) = &row.wire_id {
                daemon.runs.accepted(row.id, name);
            }
            projection.resume(&row, Some(&session), first.as_ref().and_then(task));
        }
        // The message in which it panicked may have been the end of a run, which nobody would hear of any more.
        let now = Now { at: daemon.clock.now(), monotonic: daemon.clock.monotonic() };
        for run in before {
            match storage.run(run).await.map_err(read)? {
                Some(row) if row.outcome.is_some() => {
                    let (session, first) = spawned(storage.as_ref(), &row).await.map_err(read)?;
                    let task = first.as_ref().and_then(|first| task(&first.entry));
                    projection.resume(&row, session.as_ref(), task);
                    projection.tell_missed_end(&row, now, &mut |projected| deliver(&daemon, &projected));
                }
                Some(_) => {}
                None => daemon.told.end(run),
            }
        }
        Ok(Self { daemon, projection, timer: None })
    }

    fn handle(&mut self, message: ProjectorMsg, ctx: &mut Ctx<Self>) {
        let now = Now { at: self.daemon.clock.now(), monotonic: self.daemon.clock.monotonic() };
        let daemon = Arc::clone(&self.daemon);
        let mut tell = |projected: Projected| deliver(&daemon, &projected);
        match message {
            ProjectorMsg::Happened(event) => {
                self.projection.take(*event, now, &|run| daemon.runs.name(run), &mut tell);
            }
            ProjectorMsg::Changed(change) => change::tell(&daemon, &change),
            ProjectorMsg::Due => {
                self.timer = None;
                self.projection.flush_due(now, &mut tell);
            }
        }
        if self.timer.is_none()
            && let Some(due) = self.projection.next_due()
        {
            self.timer = Some(ctx.after(due.since(now.monotonic), ProjectorMsg::Due));
        }
    }
}

/// The session of a sub-agent's run, and how its transcript begins.
async fn spawned(
    storage: &dyn Storage,
    row: &RunRow,
) -> Result<(Option<SessionRow>, Option<Arc<StoredEntry>>), StoreError> {
    if row.cause != Cause::Spawn {
        return Ok((None, None));
    }
    let session = storage.session(row.session.clone()).await?;
    Ok((session, storage.entries(row.session.clone(), 0, 1).await?.into_iter().next()))
}

/// What a sub-agent was asked, of the entry that its transcript begins with.
fn task(first: &Entry) -> Option<&str> {
    match first {
        Entry::User { text, .. } => title(None, Some(text)),
        _ => None,
    }
}

fn deliver(daemon: &Daemon, projected: &Projected) {
    let payload = |protocol| projected.payload(protocol);
    let event = Outgoing::new(projected.name, Gate::Scope(Scope::Read), projected.lossy, &payload);
    daemon.hub.send(&event, |client| match &projected.audience {
        Audience::Readers => true,
        Audience::Starter(run) => client.tool_events && client.follows.has_started(run),
        Audience::Followers => client.follows.all(),
        Audience::Listeners(session) => client.follows.hears(session),
    });
}
