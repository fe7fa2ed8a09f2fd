//! The upkeep actor: takes the health snapshot anew, looks at the configuration file and at what became of a store that
//! refused work, now and then.
//!
//! It owns nothing but its timers. A crash of it loses a look, which the next one makes good.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use offshoot_actors::ports::StoreError;

use super::daemon::Daemon;
use crate::telemetry;

/// How often the file and the store are looked at: a change is in force within two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How often the health snapshot is taken (`health` events).
const VITALS: Duration = Duration::from_secs(60);

/// What the upkeep is told.
#[derive(Debug)]
pub(crate) enum UpkeepMsg {
    /// Time to look at the file and the store. From a timer.
    Look,
    /// The file was looked at. From its task.
    Looked,
    /// Time for a snapshot. From a timer.
    Vitals,
    /// It was taken. From its task.
    Taken(Result<(), StoreError>),
}

impl Msg for UpkeepMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Looked => "looked",
            Self::Vitals => "vitals",
            Self::Taken(_) => "taken",
        }
    }
}

/// The upkeep's state.
#[derive(Debug)]
pub(crate) struct Upkeep {
    daemon: Arc<Daemon>,
    /// The timer of the next look, or the look itself.
    _look: Task,
    _vitals: Task,
}

impl Behaviour for Upkeep {
    const KIND: &'static str = "upkeep";

    type Msg = UpkeepMsg;
    type Args = Arc<Daemon>;
    type Child = Infallible;

    async fn start(args: &mut Arc<Daemon>, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let (look, vitals) = (ctx.after(LOOK, UpkeepMsg::Look), ctx.after(VITALS, UpkeepMsg::Vitals));
        Ok(Self { daemon: Arc::clone(args), _look: look, _vitals: vitals })
    }

    fn handle(&mut self, message: UpkeepMsg, ctx: &mut Ctx<Self>) {
        match message {
            UpkeepMsg::Look => {
                self.daemon.look_at_store();
                if telemetry::expire(self.daemon.clock.now()) {
                    tracing::info!("what is logged is again what was configured");
                }
                let daemon = Arc::clone(&self.daemon);
                self._look = ctx.task(async move { daemon.look_at_file().await }, |()| UpkeepMsg::Looked);
            }
            UpkeepMsg::Looked => self._look = ctx.after(LOOK, UpkeepMsg::Look),
            UpkeepMsg::Vitals => {
                self.daemon.witness_repeats();
                let daemon = Arc::clone(&self.daemon);
                let take = async move {
                    match daemon.tree().map(|tree| Arc::clone(tree.storage())) {
                        Ok(storage) => daemon.take_vitals(&storage).await,
                        Err(_) => Ok(()),
                    }
                };
                self._vitals = ctx.task(take, UpkeepMsg::Taken);
            }
            UpkeepMsg::Taken(taken) => {
                match taken {
                    Ok(()) => self.daemon.tell_vitals(),
                    Err(error) => tracing::warn!(%error, "the health snapshot could not be taken"),
                }
                self._vitals = ctx.after(VITALS, UpkeepMsg::Vitals);
            }
        }
    }
}
