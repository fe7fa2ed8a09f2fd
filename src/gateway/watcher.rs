//! The watcher: shows clients the tree, and what changes in it, for as long as they want to see it.
//!
//! It owns the views that clients have; what each of them wants is kept with the client. A crash of it loses the views: the
//! next one shows everybody a whole one. Snapshots are made beside the actors, one for all who are to be told something.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::TreeHandle;
use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};

use super::daemon::Daemon;
use super::watching::{Desk, Newcomer};

#[derive(Debug)]
pub(crate) struct WatcherArgs {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) tree: TreeHandle,
}

/// What the watcher is told.
#[derive(Debug)]
pub(crate) enum WatcherMsg {
    /// A client begins to watch. From its connection.
    Subscribe(Box<Newcomer>),
    /// Somebody is to be told something. From a timer.
    Due,
    /// Everybody was told. From a task.
    Done { desk: Box<Desk>, next: Option<Duration> },
}

impl Msg for WatcherMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Subscribe(_) => "subscribe",
            Self::Due => "due",
            Self::Done { .. } => "done",
        }
    }
}

/// The watcher's state.
#[derive(Debug)]
pub(crate) struct Watcher {
    daemon: Arc<Daemon>,
    tree: TreeHandle,
    /// Away while it is worked on.
    desk: Option<Box<Desk>>,
    newcomers: Vec<Newcomer>,
    /// The work, or the timer of the next.
    work: Option<Task>,
}

impl Behaviour for Watcher {
    const KIND: &'static str = "watcher";

    type Msg = WatcherMsg;
    type Args = WatcherArgs;
    type Child = Infallible;

    async fn start(args: &mut WatcherArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let (daemon, tree) = (Arc::clone(&args.daemon), args.tree.clone());
        daemon.set_watcher(ctx.myself().clone());
        let mut watcher =
            Self { daemon, tree, desk: Some(Box::default()), newcomers: Vec::new(), work: None };
        // Those who watched the one before.
        watcher.go_to_work(ctx);
        Ok(watcher)
    }

    fn handle(&mut self, message: WatcherMsg, ctx: &mut Ctx<Self>) {
        match message {
            WatcherMsg::Subscribe(newcomer) => {
                self.newcomers.push(*newcomer);
                self.go_to_work(ctx);
            }
            WatcherMsg::Due => self.go_to_work(ctx),
            WatcherMsg::Done { desk, next } => {
                self.desk = Some(desk);
                if self.newcomers.is_empty() {
                    self.work = next.map(|pause| ctx.after(pause, WatcherMsg::Due));
                } else {
                    self.go_to_work(ctx);
                }
            }
        }
    }
}

impl Watcher {
    fn go_to_work(&mut self, ctx: &Ctx<Self>) {
        let Some(mut desk) = self.desk.take() else { return };
        let (daemon, tree, newcomers) =
            (Arc::clone(&self.daemon), self.tree.clone(), std::mem::take(&mut self.newcomers));
        let work = tokio::task::spawn_blocking(move || {
            let next = desk.work(&daemon, &tree, newcomers);
            (desk, next)
        });
        let work = async move {
            // A view that cannot be made is begun anew; whoever waited for it is told to ask again.
            work.await.unwrap_or_else(|error| {
                tracing::error!(%error, "the tree could not be shown");
                (Box::default(), Some(Duration::from_secs(1)))
            })
        };
        self.work = Some(ctx.task(work, |(desk, next)| WatcherMsg::Done { desk, next }));
    }
}
