//! The root: starts its children in order, restarts them, stops them in reverse.
//!
//! ```text
//! offshoot
//! ├─ store       first, because the others commit through it until their last moment
//! ├─ config      before whoever asks what is allowed
//! ├─ pairing     before whoever answers clients; nothing below asks it
//! ├─ sessions    stopped before them, so that its sessions can still commit
//! └─ ...         services of the embedding program: who comes in by them finds the rest at work
//! ```
//!
//! A child that fails is started again after a growing pause; more than a few failures a minute are not
//! borne: the root fails, and the process with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::kit::{
    Backoff, Behaviour, ChildSpec, Ctx, Exit, Intensity, Msg, NoteKind, Reply, Restart, StartError, Task,
    Verdict, Window, decide,
};
use crate::pairing::Pairing;
use crate::service::Service;
use crate::sessions::{Sessions, SessionsMsg};
use crate::shared::Shared;
use crate::store::Store;

/// The children, in the order of start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RootChild {
    Store,
    Config,
    Pairing,
    Sessions,
    /// By its place among the services.
    Service(usize),
}

const ORDER: [RootChild; 4] = [RootChild::Store, RootChild::Config, RootChild::Pairing, RootChild::Sessions];

const INTENSITY: Intensity = Intensity { max: 5, within: Duration::from_secs(60) };
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5) };
/// Sessions get longer, because each of them may have an end to commit.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const STOP_SESSIONS_WITHIN: Duration = Duration::from_secs(30);

/// What the root tells itself.
#[derive(Debug)]
pub(crate) enum RootMsg {
    /// A pause is over.
    Start(RootChild),
}

impl Msg for RootMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
        }
    }
}

/// What the root needs: the tree's addresses, and who waits for the first complete start.
#[derive(Debug)]
pub(crate) struct RootArgs {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ready: Option<Reply<Result<(), StartError>>>,
}

/// The root's state.
#[derive(Debug)]
pub(crate) struct Root {
    shared: Arc<Shared>,
    ready: Option<Reply<Result<(), StartError>>>,
    windows: BTreeMap<RootChild, Window>,
    pauses: BTreeMap<RootChild, Task>,
    /// How often a child has failed, and why the last time.
    failed: BTreeMap<RootChild, (u32, String)>,
}

impl Behaviour for Root {
    const KIND: &'static str = "root";

    type Msg = RootMsg;
    type Args = RootArgs;
    type Child = RootChild;

    async fn start(args: &mut RootArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let mut root = Self {
            shared: Arc::clone(&args.shared),
            ready: args.ready.take(),
            windows: BTreeMap::new(),
            pauses: BTreeMap::new(),
            failed: BTreeMap::new(),
        };
        root.start_child(RootChild::Store, ctx);
        Ok(root)
    }

    fn handle(&mut self, message: RootMsg, ctx: &mut Ctx<Self>) {
        match message {
            // It may have come up with one before it in the order while this message waited.
            RootMsg::Start(child) if ctx.children().contains(&child) => drop(self.pauses.remove(&child)),
            RootMsg::Start(child) => self.start_child(child, ctx),
        }
    }

    fn child_started(&mut self, child: &RootChild, ctx: &mut Ctx<Self>) {
        let services = (0..self.shared.services.len()).map(RootChild::Service);
        let next = ORDER.into_iter().chain(services).find(|next| next > child);
        match next {
            Some(next) if !ctx.children().contains(&next) => self.start_child(next, ctx),
            Some(_) => {}
            None => {
                // A manager that has begun already has nobody left to wake.
                drop(self.shared.sessions.send(SessionsMsg::Begin));
                if let Some(ready) = self.ready.take() {
                    ready.send(Ok(()));
                }
            }
        }
    }

    fn child_exited(&mut self, child: RootChild, exit: Exit, ctx: &mut Ctx<Self>) {
        // A tree that never was up is not worth a second try: its caller learns why.
        if let Some(ready) = self.ready.take() {
            ready.send(Err(StartError(format!("{}: {exit}", self.name(child)))));
            return ctx.stop();
        }
        let now = ctx.system().clock.monotonic();
        let random = ctx.system().ids.below(u64::MAX);
        let window = self.windows.entry(child).or_default();
        match decide(Restart::Permanent, &exit, window, INTENSITY, BACKOFF, now, random) {
            Verdict::Leave => {}
            Verdict::Restart(pause) => {
                let failed = self.failed.entry(child).or_default();
                *failed = (failed.0.saturating_add(1), exit.to_string());
                let after_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let note = NoteKind::Restarting {
                    child: self.name(child).to_owned(),
                    reason: exit.to_string(),
                    after_ms,
                };
                ctx.note(note);
                self.pauses.insert(child, ctx.after(pause, RootMsg::Start(child)));
            }
            Verdict::GiveUp => {
                let reason = format!("{} {exit}", self.name(child));
                ctx.note(NoteKind::GaveUp { reason: reason.clone() });
                ctx.fail(reason);
            }
        }
    }
}

impl Root {
    fn name(&self, child: RootChild) -> &str {
        match child {
            RootChild::Store => "store",
            RootChild::Config => "config",
            RootChild::Pairing => "pairing",
            RootChild::Sessions => "sessions",
            RootChild::Service(place) => self.shared.services.get(place).map_or("service", Service::name),
        }
    }

    fn start_child(&mut self, child: RootChild, ctx: &mut Ctx<Self>) {
        self.pauses.remove(&child);
        let shared = Arc::clone(&self.shared);
        let spec = |within| ChildSpec::in_order(within);
        let started = match child {
            RootChild::Store => {
                ctx.spawn::<Store>(child, "store".into(), spec(STOP_WITHIN), shared).map(drop)
            }
            RootChild::Config => {
                ctx.spawn::<Config>(child, "config".into(), spec(STOP_WITHIN), shared).map(drop)
            }
            RootChild::Pairing => {
                ctx.spawn::<Pairing>(child, "pairing".into(), spec(STOP_WITHIN), shared.into()).map(drop)
            }
            RootChild::Sessions => ctx
                .spawn::<Sessions>(child, "sessions".into(), spec(STOP_SESSIONS_WITHIN), shared.into())
                .map(drop),
            RootChild::Service(place) => match self.shared.services.get(place) {
                Some(service) => service.start(child, ctx, &shared),
                None => Ok(()),
            },
        };
        if let Err(error) = started {
            return ctx.fail(error.to_string());
        }
        if let (Some((times, reason)), Some(info)) = (self.failed.get(&child), ctx.children().info(&child)) {
            info.succeeds(*times, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::kit::{System, spawn_root};
    use crate::ports::{FnModels, ModelRequest, SeededIds, TokioClock};
    use crate::tree::TreeOptions;
    use crate::types::{AgentId, ModelRef, Settings, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn a_child_that_is_there_when_its_pause_is_over_is_not_started_again() {
        let models = FnModels::new(|_: ModelRequest, _| std::future::pending());
        let settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
        let clock = TokioClock::starting_at(Timestamp(0));
        let options = TreeOptions::in_memory(clock, SeededIds::new(1), models, settings);
        let system = Arc::new(System::new(Arc::clone(&options.clock), Arc::clone(&options.ids)));
        let shared = Arc::new(Shared::new(Arc::clone(&system), options));
        let (sender, ready) = oneshot::channel();
        let args = RootArgs { shared: Arc::clone(&shared), ready: Some(Reply::Channel(sender)) };
        let root = spawn_root::<Root>(Arc::clone(&system), "offshoot".into(), args).unwrap();
        ready.await.unwrap().unwrap();
        let before = system.index.views().len();
        for child in ORDER {
            root.send(RootMsg::Start(child)).unwrap();
        }
        system.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(system.index.views().len(), before);
        root.stop();
        root.ended().await;
    }
}
