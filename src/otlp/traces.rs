//! What the exporter and the rest of the daemon share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use offshoot_actors::kit::Handle;
use offshoot_actors::ports::{Clock, Event};
use offshoot_actors::types::{RunId, SessionKey};
use tokio::sync::oneshot;

use super::context::Context;
use super::exporter::ExporterMsg;
use super::kin::Kin;
use super::lookup::nanos;
use super::note::{Nanos, Note, What};
use crate::config::Otel;

/// Most happenings that wait for the exporter.
const MAX_NOTES: usize = 16_384;

/// Traces, for whoever makes them, gives them on or takes them.
pub(crate) struct Traces {
    clock: Arc<dyn Clock>,
    /// What the monotonic clock counts from, in nanoseconds since the Unix epoch.
    epoch: Nanos,
    settings: RwLock<Option<Arc<Otel>>>,
    on: AtomicBool,
    notes: Mutex<VecDeque<Note>>,
    dropped: AtomicU64,
    exporter: RwLock<Option<Handle<ExporterMsg>>>,
    kin: Mutex<Kin>,
    /// Requests that are about to say from where they started a run.
    undecided: AtomicUsize,
}

impl Traces {
    pub(crate) fn new(clock: Arc<dyn Clock>, settings: Option<Arc<Otel>>) -> Self {
        let epoch = nanos(clock.now()).saturating_sub(clock.monotonic().0);
        Self {
            clock,
            epoch,
            on: AtomicBool::new(settings.is_some()),
            settings: RwLock::new(settings),
            notes: Mutex::default(),
            dropped: AtomicU64::new(0),
            exporter: RwLock::new(None),
            kin: Mutex::default(),
            undecided: AtomicUsize::new(0),
        }
    }

    /// Puts other settings in force.
    pub(crate) fn configure(&self, settings: Option<Arc<Otel>>) {
        self.on.store(settings.is_some(), Ordering::Relaxed);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
        self.wake();
    }

    pub(super) fn settings(&self) -> Option<Arc<Otel>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn rate(&self) -> f64 {
        self.settings().map_or(0.0, |settings| settings.sample_rate)
    }

    /// Takes what makes, changes or ends a span. Never waits; what there is no room for is counted.
    pub(crate) fn hear(&self, event: &Event) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let Some(what) = What::of(event) else { return };
        let at = self.epoch.saturating_add(self.clock.monotonic().0);
        let was_empty = {
            let mut notes = lock(&self.notes);
            if notes.len() >= MAX_NOTES {
                self.drop_spans(1);
                return;
            }
            notes.push_back(Note { at, what });
            notes.len() == 1
        };
        if was_empty {
            self.wake();
        }
    }

    /// Hands at most so many happenings out, and says whether there are more.
    pub(super) fn notes(&self, most: usize) -> (Vec<Note>, bool) {
        let mut notes = lock(&self.notes);
        let taken = notes.len().min(most);
        let some = notes.drain(..taken).collect();
        (some, !notes.is_empty())
    }

    pub(super) fn drop_spans(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// How many spans, and happenings of which spans would have come, were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn set_exporter(&self, exporter: Handle<ExporterMsg>) {
        *self.exporter.write().unwrap_or_else(PoisonError::into_inner) = Some(exporter);
        self.wake();
    }

    fn wake(&self) {
        self.tell(ExporterMsg::Heard);
    }

    fn tell(&self, message: ExporterMsg) {
        if let Some(exporter) = &*self.exporter.read().unwrap_or_else(PoisonError::into_inner) {
            // One that is being restarted looks by itself what there is.
            drop(exporter.send(message));
        }
    }

    /// Waits until everything that is over was sent, or cannot be sent, but not for longer than this.
    pub(crate) async fn flush(&self, within: Duration) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let (reply, done) = oneshot::channel();
        self.tell(ExporterMsg::Flush(reply));
        tokio::select! {
            _ = done => {}
            () = self.clock.sleep(within) => {
                tracing::info!("the collector of traces did not take the last ones in time");
            }
        }
    }

    pub(super) fn kin(&self) -> MutexGuard<'_, Kin> {
        lock(&self.kin)
    }

    /// Whether some request is about to say from where it started a run.
    pub(super) fn is_undecided(&self) -> bool {
        self.undecided.load(Ordering::Acquire) > 0
    }

    /// The `traceparent` of a run for others, if it is known; the first of a root session begins its trace.
    pub(crate) fn traceparent(&self, run: RunId, session: &SessionKey) -> Option<String> {
        self.context(run, session).map(|context| context.to_string())
    }

    /// The same for a provider of models, if providers are to know.
    pub(crate) fn for_provider(&self, run: RunId, session: &SessionKey) -> Option<String> {
        let propagates = self.settings().is_some_and(|settings| settings.propagate);
        propagates.then(|| self.traceparent(run, session)).flatten()
    }

    fn context(&self, run: RunId, session: &SessionKey) -> Option<Context> {
        let settings = self.settings()?;
        self.kin().context(run, !session.is_subagent(), settings.sample_rate)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("on", &self.on).field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// A request that may start a run, with the place in a trace from which it comes.
#[derive(Debug)]
pub(crate) struct Asking {
    traces: Arc<Traces>,
    context: Option<Context>,
    /// The run's own place.
    run: OnceLock<Context>,
}

/// A request that is about to start a run: until it has, or has not, no trace begins with a run.
#[derive(Debug)]
pub(crate) struct Pending(Arc<Asking>);

impl Asking {
    /// One with this `traceparent`; what is not one counts as none, as the standard wants it.
    pub(crate) fn new(traces: &Arc<Traces>, traceparent: Option<&str>) -> Arc<Self> {
        let context = traceparent.filter(|_| traces.on.load(Ordering::Relaxed)).and_then(Context::parse);
        Arc::new(Self { traces: Arc::clone(traces), context, run: OnceLock::new() })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> Pending {
        if self.context.is_some() {
            self.traces.undecided.fetch_add(1, Ordering::AcqRel);
        }
        Pending(Arc::clone(self))
    }

    /// The `traceparent` of the run that was started, for the answer.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.run.get().map(ToString::to_string)
    }
}

impl Pending {
    /// The request started this run, or found it if it was a repeat of another one.
    pub(crate) fn started(self, run: RunId, session: &SessionKey, repeated: bool) {
        let Asking { traces, context, run: place } = &*self.0;
        if let Some(context) = context.filter(|_| !repeated) {
            traces.kin().adopt(run, context);
        }
        // A spawned run that a client asked for begins a trace as one of a root session does, or goes on with the client's.
        let known = match context {
            Some(context) if !repeated => Some(Context::of(run, context.trace, context.sampled)),
            _ => traces.context(run, session),
        };
        if let Some(known) = known {
            // A request starts one run.
            let _ = place.set(known);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.0.context.is_some() {
            self.0.traces.undecided.fetch_sub(1, Ordering::AcqRel);
            self.0.traces.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::ports::TokioClock;
    use offshoot_actors::types::{AgentId, Timestamp};
    use uuid::Uuid;

    use super::*;
    use crate::config::{Environment, load_text};

    #[tokio::test]
    async fn what_nobody_takes_is_bounded_and_counted() {
        let text = "{ diagnostics: { otel: { enabled: true } } }";
        let config = load_text(&Environment::default(), "offshoot.json", text).unwrap();
        let clock = Arc::new(TokioClock::starting_at(Timestamp(1)));
        let traces = Traces::new(clock, config.otel);
        let event = Event::Started { session: SessionKey::main(&AgentId::main()), run: RunId(Uuid::nil()) };
        for _ in 0..MAX_NOTES + 5 {
            traces.hear(&event);
        }
        assert_eq!((traces.dropped(), lock(&traces.notes).len()), (5, MAX_NOTES));
        traces.configure(None);
        traces.hear(&event);
        assert_eq!(traces.dropped(), 5, "what nobody wants is not dropped");
    }
}
