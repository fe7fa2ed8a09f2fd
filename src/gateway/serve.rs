//! The daemon from its start to its end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::kit::StartError;
use offshoot_actors::ports::{Clock, Host, Storage};
use offshoot_actors::{Service, Tree, TreeOptions};

use super::callbacks::{Callbacks, CallbacksArgs};
use super::connection;
use super::daemon::{Daemon, DaemonParts};
use super::events;
use super::listener::Gateway;
use super::projector::{Projector, ProjectorArgs};
use super::record::Record;
use super::retention::Retention;
use super::sink::Sink;
use super::tls::{self, TlsError};
use super::upkeep::Upkeep;
use super::watchdog::{Watchdog, WatchdogArgs};
use super::watcher::{Watcher, WatcherArgs};
use crate::config::Config;
use crate::models::SpecError;
use crate::runtime::{self, LiveModels};

/// How long connections and open requests may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long open requests may take to end once the end has begun. A run does not depend on them: it stays open in the
/// store, and the next start goes on with it.
const DRAIN: Duration = Duration::from_secs(4);
/// How long clients may take to read the last frames.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a collector may take for the last spans.
const LAST_TRACES: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A provider or an alias of the configuration cannot work.
    #[error(transparent)]
    Models(#[from] SpecError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tree or its gateway did not start.
    #[error("{0}")]
    Start(StartError),
}

impl From<StartError> for ServeError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Serving {
    tree: Tree,
    daemon: Arc<Daemon>,
}

impl Serving {
    /// Starts the tree with the gateway in it, and waits until clients can connect.
    ///
    /// # Errors
    /// The configuration cannot work, the store cannot be read, or an address cannot be listened at.
    pub async fn start(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        storage: Arc<dyn Storage>,
        state_dir: PathBuf,
    ) -> Result<Self, ServeError> {
        #[cfg(not(feature = "faults"))]
        let adapt = |_: &mut TreeOptions| {};
        #[cfg(feature = "faults")]
        let adapt = {
            let faults = crate::faults::planned().map_err(StartError)?;
            move |options: &mut TreeOptions| options.faults = Some(faults)
        };
        Self::start_with(config, clock, storage, state_dir, adapt).await
    }

    async fn start_with(
        config: Arc<Config>,
        clock: Arc<dyn Clock>,
        storage: Arc<dyn Storage>,
        state_dir: PathBuf,
        adapt: impl FnOnce(&mut TreeOptions) + Send,
    ) -> Result<Self, ServeError> {
        let tls =
            config.gateway.tls.as_ref().map(|settings| tls::acceptor(settings, &state_dir)).transpose()?;
        let models = Arc::new(LiveModels::new(&config, Arc::clone(&clock))?);
        let daemon = Arc::new(Daemon::new(DaemonParts {
            clock: Arc::clone(&clock),
            config: Arc::clone(&config),
            state_dir,
            tls,
            models: Some(Arc::clone(&models)),
        }));
        models.tell_providers(Arc::clone(&daemon.traces));
        // The gateway, which comes last, waits for it for a moment.
        let (looks, looked_at) = (Arc::clone(&daemon), Arc::clone(&storage));
        tokio::spawn(async move { looks.take_first_vitals(&looked_at).await });
        let sink = Arc::new(Sink::new(Arc::clone(&daemon)));
        let mut options = runtime::tree_options_with(&config, clock, storage, models, sink, Host::Daemon);
        // First, and so stopped last: the ends of the others are in traces too.
        #[cfg(feature = "otlp")]
        options.services.push(exporter(&daemon));
        // Before the gateway: whoever connects misses nothing.
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Projector>("projector", STOP_WITHIN, move |tree| {
            ProjectorArgs { daemon: Arc::clone(&shared), tree: tree.clone() }
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Callbacks>("callbacks", STOP_WITHIN, move |tree| {
            CallbacksArgs { daemon: Arc::clone(&shared), tree: tree.clone() }
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Upkeep>("upkeep", STOP_WITHIN, move |tree| {
            shared.set_tree(tree.clone());
            Arc::clone(&shared)
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Retention>("retention", STOP_WITHIN, move |tree| {
            shared.set_tree(tree.clone());
            Arc::clone(&shared)
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Watchdog>("watchdog", STOP_WITHIN, move |tree| WatchdogArgs {
            daemon: Arc::clone(&shared),
            tree: tree.clone(),
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Watcher>("watcher", STOP_WITHIN, move |tree| WatcherArgs {
            daemon: Arc::clone(&shared),
            tree: tree.clone(),
        }));
        let shared = Arc::clone(&daemon);
        options.services.push(Service::new::<Gateway>("gateway", STOP_WITHIN, move |tree| {
            shared.set_tree(tree.clone());
            Arc::clone(&shared)
        }));
        adapt(&mut options);
        Ok(Self { tree: Tree::start(options).await?, daemon })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.daemon.bound().borrow().clone()
    }

    /// SHA-256 of the certificate that clients see, if the port is encrypted.
    ///
    /// # Errors
    /// The certificate cannot be read any more.
    pub fn fingerprint(&self) -> Result<Option<String>, TlsError> {
        let config = self.daemon.config();
        config
            .gateway
            .tls
            .as_ref()
            .map(|settings| tls::fingerprint(settings, &self.daemon.state_dir))
            .transpose()
    }

    /// Lets the commands beside us find the gateway, also after what clients prove has changed.
    ///
    /// # Errors
    /// The state directory cannot be written to.
    pub fn publish(&self, record: Record) -> io::Result<()> {
        self.daemon.set_record(record)
    }

    /// Waits until the tree has ended by itself, because its root gave up.
    pub async fn ended(&self) {
        self.tree.ended().await;
    }

    /// Tells every client, lets open requests end for a few seconds and runs come to the end of their step, closes the
    /// connections and stops the tree. Runs that are open stay open in the store, and the next start goes on with them.
    pub async fn stop(self, reason: &str) {
        self.end(reason, None).await;
    }

    /// The same where another daemon takes the place of this one: clients are told to come back after `back_in`.
    pub async fn stop_for_restart(self, reason: &str, back_in: Duration) {
        self.end(reason, Some(back_in)).await;
    }

    async fn end(self, reason: &str, back_in: Option<Duration>) {
        self.daemon.set_stopping(back_in);
        events::shutdown(&self.daemon, reason);
        let close = connection::stopped();
        self.daemon.hub.drain_all(&close);
        let leave = async {
            if !self.emptied(DRAIN).await {
                self.daemon.hub.close_all(&close);
                self.daemon.ending.cut_off();
                // Whoever does not take the last frames is cut off.
                self.emptied(FAREWELL).await;
            }
        };
        let grace = self.daemon.config().settings.recovery.grace;
        tokio::join!(leave, self.tree.suspend(grace));
        self.daemon.traces.flush(LAST_TRACES).await;
        self.daemon.witness_repeats();
        self.tree.stop().await;
    }

    /// Whether every client has left and every request has its answer within that time.
    async fn emptied(&self, within: Duration) -> bool {
        let gone = async {
            while self.daemon.hub.len() > 0 || !self.daemon.ending.is_idle() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(within, gone).await.is_ok()
    }
}

/// Who tells a collector of runs.
#[cfg(feature = "otlp")]
fn exporter(daemon: &Arc<Daemon>) -> Service {
    use crate::otlp::{Exporter, ExporterArgs};

    let daemon = Arc::clone(daemon);
    Service::new::<Exporter>("traces", STOP_WITHIN, move |tree| ExporterArgs {
        traces: Arc::clone(&daemon.traces),
        tree: tree.clone(),
        instance: daemon.instance.clone(),
    })
}

#[cfg(test)]
mod tests;
