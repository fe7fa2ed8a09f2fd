//! The watchdog: looks now and then for actors that do not answer and for runs that are silent, and looks after the book of
//! what watchers see beside the live actors.
//!
//! It owns what it found at its last look. A crash of it loses that: what is still wrong is told once more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use offshoot_actors::types::Monotonic;
use offshoot_actors::{TreeHandle, Watchdog as Dog};

use super::daemon::Daemon;

/// How often it looks: who does not answer for a second is told of within two.
const LOOK: Duration = Duration::from_millis(500);
/// It reads from the store for at most one part in so many of its time: what a busy session has used is read again and again.
const READS: u32 = 20;
/// The longest for which it reads nothing: a store that was held up for long is well again.
const REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct WatchdogArgs {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) tree: TreeHandle,
}

/// What the watchdog is told.
#[derive(Debug)]
pub(crate) enum WatchdogMsg {
    /// Time to look. From a timer.
    Look,
    /// It has looked. From its task.
    Looked { dog: Dog, book: Book },
}

/// How far the book is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Book {
    /// Whether what ended before this process is in it.
    seeded: bool,
    /// When it is read on.
    next: Monotonic,
}

impl Msg for WatchdogMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Looked { .. } => "looked",
        }
    }
}

/// The watchdog's state.
#[derive(Debug)]
pub(crate) struct Watchdog {
    daemon: Arc<Daemon>,
    tree: TreeHandle,
    /// What it found last; away while it looks.
    dog: Option<Dog>,
    book: Book,
    /// The timer of the next look, or the look itself.
    _look: Task,
}

impl Behaviour for Watchdog {
    const KIND: &'static str = "watchdog";

    type Msg = WatchdogMsg;
    type Args = WatchdogArgs;
    type Child = Infallible;

    async fn start(args: &mut WatchdogArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let WatchdogArgs { daemon, tree } = args;
        let look = ctx.after(Duration::ZERO, WatchdogMsg::Look);
        Ok(Self {
            daemon: Arc::clone(daemon),
            tree: tree.clone(),
            dog: Some(Dog::default()),
            book: Book::default(),
            _look: look,
        })
    }

    fn handle(&mut self, message: WatchdogMsg, ctx: &mut Ctx<Self>) {
        match message {
            WatchdogMsg::Look => {
                let (tree, mut dog, book) =
                    (self.tree.clone(), self.dog.take().unwrap_or_default(), self.book);
                let clock = Arc::clone(&self.daemon.clock);
                let silent_after = self.daemon.config().gateway.silent_after;
                let look = async move {
                    // Over ten thousand actors that is milliseconds, which others do not wait for.
                    let looked = tree.clone();
                    let dog = tokio::task::spawn_blocking(move || {
                        looked.watch(&mut dog, silent_after);
                        looked.sweep_book();
                        dog
                    });
                    let dog = dog.await.unwrap_or_default();
                    let begun = clock.monotonic();
                    if begun < book.next {
                        return (dog, book);
                    }
                    let read = async {
                        if !book.seeded {
                            tree.seed_book().await?;
                        }
                        tree.tend_book().await
                    };
                    // The store itself tells of what is wrong with it; the book is read on when it is well.
                    let seeded = read.await.is_ok() || book.seeded;
                    let now = clock.monotonic();
                    (dog, Book { seeded, next: now + (now.since(begun) * READS).min(REST) })
                };
                self._look = ctx.task(look, |(dog, book)| WatchdogMsg::Looked { dog, book });
            }
            WatchdogMsg::Looked { dog, book } => {
                (self.dog, self.book) = (Some(dog), book);
                self._look = ctx.after(LOOK, WatchdogMsg::Look);
            }
        }
    }
}
