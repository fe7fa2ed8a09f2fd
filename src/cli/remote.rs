//! A request that the gateway carries out which has the state directory: it is asked by its protocol, and what becomes of
//! the runs is read from the store beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{Cause, Clock, Consequences, RunRow, Storage};
use offshoot_actors::types::{RunId, Scope, SessionKey};
use serde_json::{Map, Value, json};

use super::Global;
use super::daemon::Reach;
use super::exit::{Exit, Failure};
use super::journal::{Journal, SeenSession};
use super::live::Quiet;
use super::output::{note, one_line};
use super::progress::Progress;
use super::signals::{Process, Signal, Signals};
use super::view;
use crate::client::{Client, ClientError};
use crate::gateway::record::Record;
use crate::runtime;
use crate::store::SqliteStorage;

/// Between two looks at the store while the gateway says nothing.
const LOOK: Duration = Duration::from_millis(100);
/// How long several words of the gateway are taken together.
const SETTLE: Duration = Duration::from_millis(5);
/// Runs of one tree that are looked at.
const MAX_RUNS: u32 = 10_000;
/// Runs of one name: each client makes its own names up.
const MAX_ALIKE: u32 = 100;
/// How long the runs may take to end once they were told to.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A gateway, and who watches what it does for us.
pub(crate) struct Remote {
    client: Client,
    storage: Arc<SqliteStorage>,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    progress: Option<Progress>,
    signals: Signals,
    /// Where the sessions of our runs hang.
    places: BTreeMap<SessionKey, Option<SeenSession>>,
}

impl Remote {
    async fn connect(gateway: &Record, scopes: &[Scope], global: &Global) -> Result<Self, Failure> {
        let signals = Signals::listen(Process::Client)
            .map_err(|error| Failure::system("signals cannot be listened to", &error))?;
        let client = Reach::recorded(gateway, None, global)?.connect(scopes).await?;
        let missing =
            || Failure::new(Exit::Unavailable, "store", "the gateway's store is not there any more");
        let storage = Arc::new(global.read_store()?.ok_or_else(missing)?);
        let clock = runtime::clock();
        let (journal, lines) = Journal::new(Arc::clone(&clock), global.verbose);
        let journal = Arc::new(journal);
        let watched = (Arc::clone(&journal), Arc::clone(&clock), lines);
        let progress = Some(Progress::start(watched, global.verbose, global.output.json));
        Ok(Self { client, storage, clock, journal, progress, signals, places: BTreeMap::new() })
    }

    /// Spawns a sub-agent. Returns its run and its session.
    pub(crate) async fn spawn(&mut self, params: Value) -> Result<(RunId, SessionKey), Failure> {
        let payload = self.client.call("sessions.spawn", &filled(params)).await?.payload;
        let run = named(&payload, "runId").and_then(|run| run.parse().ok());
        let session = named(&payload, "childSessionKey").and_then(|key| key.parse().ok());
        run.zip(session).ok_or_else(|| misunderstood("sessions.spawn"))
    }

    /// Sends a message to an agent. Returns the run that it starts and that run's session.
    pub(crate) async fn submit(&mut self, params: Value) -> Result<(RunId, SessionKey), Failure> {
        let payload = self.client.call("agent", &filled(params)).await?.payload;
        let session: Option<SessionKey> = named(&payload, "sessionKey").and_then(|key| key.parse().ok());
        let (Some(name), Some(session)) = (named(&payload, "runId"), session) else {
            return Err(misunderstood("agent"));
        };
        // The run has an id of its own beside the name that we gave it.
        let rows = self.storage.runs_named(name.to_owned(), MAX_ALIKE).await?;
        let run = rows.iter().find(|row| row.session == session).map(|row| row.id);
        run.or_else(|| name.parse().ok()).map(|run| (run, session)).ok_or_else(|| misunderstood("agent"))
    }

    /// Waits until nothing is left to do for the run. A signal cancels it.
    async fn quiet(&mut self, first: RunId, session: &SessionKey) -> Result<Quiet, Failure> {
        let mut signal = None;
        let takers = loop {
            let ours = self.look(first).await?;
            if is_quiet(first, &ours, signal) {
                // After a signal they were not waited for.
                break signal.map_or(ours.takers, |_| BTreeSet::new());
            }
            tokio::select! {
                heard = self.client.heard() => {
                    heard.map_err(|error| went_away(&error, first))?;
                    tokio::time::sleep(SETTLE).await;
                }
                () = tokio::time::sleep(LOOK) => {}
                came = self.signals.first(), if signal.is_none() => {
                    signal = Some(came);
                    self.cancel(first, session, &ours).await?;
                }
            }
        };
        self.finish_progress().await;
        if signal.is_some() {
            note(format_args!("cancelled run {first} in the gateway"));
        }
        let (seen, now) = (self.journal.seen(), self.clock.now());
        let tree = view::of_seen(&seen, self.storage.as_ref(), now).await?;
        Ok(Quiet { seen, takers, tree, now, signal })
    }

    /// Our runs as they stand now, told to whoever watches.
    async fn look(&mut self, first: RunId) -> Result<Consequences, Failure> {
        let ours = self.storage.consequences(first, None, MAX_RUNS).await?;
        if ours.runs.is_empty() {
            return Err(Failure::new(Exit::Unavailable, "store", format!("run {first} is gone")));
        }
        for row in &ours.runs {
            let place = self.place(&row.session).await?;
            self.journal.observe(row, place.as_ref());
        }
        Ok(ours)
    }

    async fn place(&mut self, key: &SessionKey) -> Result<Option<SeenSession>, Failure> {
        if let Some(place) = self.places.get(key) {
            return Ok(place.clone());
        }
        let row = self.storage.session(key.clone()).await?;
        let place = row.and_then(|row| Some(SeenSession { parent: row.parent?, label: row.label }));
        self.places.insert(key.clone(), place.clone());
        Ok(place)
    }

    /// Cancels what is open of ours; the gateway cancels with a run what that run spawned.
    async fn cancel(
        &mut self,
        first: RunId,
        session: &SessionKey,
        ours: &Consequences,
    ) -> Result<(), Failure> {
        let mut targets: Vec<(RunId, SessionKey)> =
            to_cancel(ours).map(|row| (row.id, row.session.clone())).collect();
        // The first one takes most of the others along.
        targets.sort_by_key(|(run, key)| (*run != first, key != session));
        let cancelled = async {
            for (run, key) in targets {
                cancel(&mut self.client, run, &key).await?;
            }
            Ok::<(), ClientError>(())
        };
        let goes_on = |failure: Failure| {
            let hint = format!("the run goes on in the gateway; `offshoot runs cancel {first}` cancels it");
            failure.with_hint(hint)
        };
        match tokio::time::timeout(STOP_WITHIN, cancelled).await {
            Ok(cancelled) => cancelled.map_err(|error| goes_on(error.into())),
            Err(_) => Err(goes_on(Failure::new(
                Exit::Unavailable,
                "gateway",
                "the gateway does not cancel the run",
            ))),
        }
    }

    async fn finish_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish().await;
        }
    }

    /// Leaves the gateway.
    async fn close(mut self) {
        self.finish_progress().await;
        self.client.close().await;
    }
}

/// Has the gateway do what a command asks for: `begin` starts a run, and `tell` says what became of it once nothing is left
/// to do for it.
pub(crate) async fn through(
    gateway: &Record,
    scope: Scope,
    global: &Global,
    begin: impl AsyncFnOnce(&mut Remote) -> Result<(RunId, SessionKey), Failure>,
    tell: impl AsyncFnOnce(RunId, &SessionKey, &Quiet, &dyn Storage, &Global) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    let mut remote = Remote::connect(gateway, &[scope], global).await?;
    let (run, session) = begin(&mut remote).await?;
    let quiet = remote.quiet(run, &session).await?;
    let told = tell(run, &session, &quiet, remote.storage.as_ref(), global).await;
    remote.close().await;
    told
}

/// Cancels one run.
pub(crate) async fn cancel(client: &mut Client, run: RunId, session: &SessionKey) -> Result<(), ClientError> {
    client.call("sessions.abort", &json!({"key": session, "runId": run})).await.map(drop)
}

/// What is open of ours. A run that only took up a result of ours is somebody else's.
fn to_cancel(ours: &Consequences) -> impl Iterator<Item = &RunRow> {
    ours.runs.iter().filter(|row| row.state.is_open() && !ours.takers.contains(&row.id))
}

/// A sub-agent's run is done when it has ended: what its parent makes of the result is the parent's affair. A message
/// is answered when what it spawned has ended and the session has taken the results.
fn is_quiet(first: RunId, ours: &Consequences, signal: Option<Signal>) -> bool {
    let spawned = |row: &RunRow| row.id == first && row.cause == Cause::Spawn && !row.state.is_open();
    match signal {
        Some(_) => to_cancel(ours).next().is_none(),
        None => !ours.pending || ours.runs.iter().any(spawned),
    }
}

/// The parameters without those that are not given.
fn filled(params: Value) -> Map<String, Value> {
    match params {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn named<'a>(payload: &'a Value, name: &str) -> Option<&'a str> {
    payload.get(name).and_then(Value::as_str)
}

fn misunderstood(method: &str) -> Failure {
    let text = format!("the gateway answered {method} in a way that this version does not understand");
    Failure::new(Exit::Unavailable, "gateway", text)
        .with_hint("it may be of another version: `offshoot gateway status`")
}

fn went_away(error: &ClientError, run: RunId) -> Failure {
    let text = one_line(&error.to_string(), 500);
    Failure::new(Exit::Unavailable, "gateway", format!("{text}; run {run} is open in the store")).with_hint(
        format!("the next gateway goes on with it, or says why not; `offshoot runs show {run}` shows how it stands"),
    )
}

#[cfg(test)]
mod tests {
    use offshoot_actors::contract;
    use offshoot_actors::ports::RunState;
    use offshoot_actors::types::Terminal;

    use super::*;

    #[test]
    fn a_message_of_somebody_else_on_our_results_is_waited_for_but_never_cancelled() {
        let (ours, theirs) =
            (contract::run(1, &contract::key("main")), contract::run(2, &contract::key("main")));
        let ended = RunRow { state: RunState::Ended(Terminal::Ok), ..ours.clone() };
        let takers = BTreeSet::from([theirs.id]);
        let found = Consequences { runs: vec![ours.clone(), theirs.clone()], takers, pending: true };
        let cancelled: Vec<RunId> = to_cancel(&found).map(|row| row.id).collect();
        assert_eq!(cancelled, [ours.id]);
        assert!(!is_quiet(ours.id, &found, Some(Signal::Interrupt)));
        let found = Consequences { runs: vec![ended, theirs], ..found };
        assert!(!is_quiet(ours.id, &found, None));
        assert!(is_quiet(ours.id, &found, Some(Signal::Interrupt)));
    }

    #[test]
    fn what_is_not_given_is_not_sent() {
        let params = filled(json!({"task": "x", "key": null, "runTimeoutSeconds": 0}));
        assert_eq!(Value::Object(params), json!({"task": "x", "runTimeoutSeconds": 0}));
    }
}
