//! A tree that runs inside a command, from its start until all is quiet.

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_actors::ports::{Clock, EventSink, Host, Storage};
use offshoot_actors::types::{Origin, RunId, SessionKey, Timestamp};
use offshoot_actors::{Tree, TreeHandle};

use super::Global;
use super::exit::{Exit, Failure};
use super::journal::{Journal, Seen};
use super::output::{hint, note};
use super::progress::Progress;
use super::signals::{Process, Signal, Signals};
use super::view::{self, Node};
use crate::config::{self, Config};
use crate::runtime;
use crate::store::SqliteStorage;

/// A running tree and who watches it.
pub(crate) struct Live {
    tree: Tree,
    storage: Arc<SqliteStorage>,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    progress: Option<Progress>,
    signals: Signals,
}

/// What a tree looks like when it has become quiet.
pub(crate) struct Quiet {
    pub(crate) seen: Seen,
    /// The runs of others that took up results of what the command began.
    pub(crate) takers: BTreeSet<RunId>,
    pub(crate) tree: Vec<Node>,
    pub(crate) now: Timestamp,
    /// What ended it, if it did not come to its own end.
    pub(crate) signal: Option<Signal>,
}

impl Quiet {
    /// The command's exit code, where the runs alone would give `exit`.
    pub(crate) fn exit(&self, exit: Exit) -> Exit {
        self.signal.map_or(exit, Signal::exit)
    }
}

/// Reads the configuration and says what a person should know of it.
pub(crate) fn configuration(global: &Global) -> Result<Config, Failure> {
    let config = config::load(&global.environment, global.config.as_deref())?;
    if let Some(text) = config.source.hint() {
        hint(&text);
    }
    for problem in &config.problems {
        tracing::info!(%problem, "configuration");
    }
    Ok(config)
}

impl Live {
    /// Opens the store as its only writer and starts the tree of `session` on it.
    pub(crate) async fn start(
        global: &Global,
        config: &Config,
        session: &SessionKey,
    ) -> Result<Self, Failure> {
        let signals = Signals::listen(Process::Command)
            .map_err(|error| Failure::system("signals cannot be listened to", &error))?;
        let clock = runtime::clock();
        let (journal, lines) = Journal::new(Arc::clone(&clock), global.verbose);
        let journal = Arc::new(journal);
        let dir = global.own_state_dir()?;
        let storage = Arc::new(SqliteStorage::open(&dir, runtime::durability(config))?);
        let mut options = runtime::tree_options(
            config,
            Arc::clone(&clock),
            Arc::clone(&storage) as Arc<dyn Storage>,
            Arc::clone(&journal) as Arc<dyn EventSink>,
            Host::OneShot,
        )?;
        // A command does not run sessions that nobody asked it to run, and does not wait for them.
        options.only_root = Some(root_of(storage.as_ref(), session).await?);
        let tree = Tree::start(options).await?;
        let watched = (Arc::clone(&journal), Arc::clone(&clock), lines);
        let progress = Progress::start(watched, global.verbose, global.output.json);
        Ok(Self { tree, storage, clock, journal, progress: Some(progress), signals })
    }

    pub(crate) fn handle(&self) -> TreeHandle {
        self.tree.handle()
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    /// Waits until nothing is at work any more, under `session` or anywhere else. A signal stops the tree.
    pub(crate) async fn quiet(&mut self, session: &SessionKey) -> Result<Quiet, Failure> {
        let handle = self.tree.handle();
        let root = root_of(self.storage.as_ref(), session).await?;
        let signal = tokio::select! {
            quiet = all_quiet(&handle, &root) => { quiet?; None }
            () = self.tree.ended() => return Err(gave_up()),
            signal = self.signals.first() => Some(signal),
        };
        let mut ended = 0;
        if signal.is_some() {
            ended = tokio::select! {
                ended = stop_all(&handle, &root) => ended?,
                () = self.tree.ended() => return Err(gave_up()),
            };
        }
        self.finish_progress().await;
        if signal.is_some() {
            let runs = if ended == 1 { "1 run was".to_owned() } else { format!("{ended} runs were") };
            note(format_args!("stopped: {runs} cancelled, nothing is left running"));
        }
        let (seen, now) = (self.journal.seen(), self.clock.now());
        let tree = view::of_seen(&seen, self.storage.as_ref(), now).await?;
        Ok(Quiet { seen, takers: BTreeSet::new(), tree, now, signal })
    }

    async fn finish_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish().await;
        }
    }

    /// Stops the tree and closes the store.
    pub(crate) async fn close(mut self) {
        self.finish_progress().await;
        self.tree.stop().await;
        self.storage.close();
    }
}

async fn root_of(storage: &dyn Storage, session: &SessionKey) -> Result<SessionKey, Failure> {
    Ok(storage.session(session.clone()).await?.map_or_else(|| session.clone(), |row| row.root))
}

/// The sessions in memory that nobody spawned, and `root`.
fn roots(handle: &TreeHandle, root: &SessionKey) -> Vec<SessionKey> {
    let others = handle.live().into_iter().filter(|live| live.parent.is_none()).map(|live| live.key);
    std::iter::once(root.clone()).chain(others.filter(|key| key != root)).collect()
}

/// What the tree sent to other trees may have set them to work as well.
async fn all_quiet(handle: &TreeHandle, root: &SessionKey) -> Result<(), Failure> {
    handle.quiet(root).await?;
    for other in roots(handle, root) {
        handle.quiet(&other).await?;
    }
    Ok(())
}

async fn stop_all(handle: &TreeHandle, root: &SessionKey) -> Result<usize, Failure> {
    let mut ended = 0;
    for key in roots(handle, root) {
        match handle.stop(key, Origin::Operator).await {
            Ok(stopped) => ended += stopped.ended.len(),
            // It was deleted after its result had been delivered.
            Err(refusal) if refusal.code == "unknown_session" => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(ended)
}

fn gave_up() -> Failure {
    Failure::new(Exit::Ended, "gave_up", "the tree failed again and again and gave up")
        .with_hint("run the command again with --log info to see why; open runs can be seen with `offshoot runs list --open`")
}
