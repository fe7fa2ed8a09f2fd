//! The configuration in force.
//!
//! Owns which settings count. Whoever reads a file or takes a client's change hands complete settings in;
//! valid ones are published to every actor at once, wrong ones are refused and the old ones stay. A panic
//! loses nothing: the settings in force are rebuilt from where they were published.

use std::sync::Arc;
use std::time::Duration;

use crate::kit::{Behaviour, Ctx, Intensity, Msg, Reply, StartError};
use crate::sessions::SessionsMsg;
use crate::shared::Shared;
use crate::types::{Settings, SettingsError};

/// What the configuration is asked.
#[derive(Debug)]
pub(crate) enum ConfigMsg {
    /// Put these settings in force. From the tree's handle.
    Apply {
        /// All of them.
        settings: Arc<Settings>,
        /// Whether they count now.
        reply: Reply<Result<(), SettingsError>>,
    },
}

impl Msg for ConfigMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
        }
    }
}

/// The configuration's state.
#[derive(Debug)]
pub(crate) struct Config {
    shared: Arc<Shared>,
}

impl Behaviour for Config {
    const KIND: &'static str = "config";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = ConfigMsg;
    type Args = Arc<Shared>;
    type Child = ();

    async fn start(args: &mut Self::Args, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        args.settings().validate().map_err(|error| StartError(error.to_string()))?;
        args.config.set(ctx.myself().clone());
        Ok(Self { shared: Arc::clone(args) })
    }

    fn handle(&mut self, message: ConfigMsg, _: &mut Ctx<Self>) {
        match message {
            ConfigMsg::Apply { settings, reply } => reply.send(self.on_apply(settings)),
        }
    }
}

impl Config {
    fn on_apply(&self, settings: Arc<Settings>) -> Result<(), SettingsError> {
        settings.validate()?;
        self.shared.set_settings(settings);
        // A manager that is being restarted reads the settings when it starts.
        drop(self.shared.sessions.send(SessionsMsg::SettingsChanged));
        Ok(())
    }
}
