//! A model that is a script, and the log of what it was asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offshoot_actors::ports::{Answer, BoxFuture, Clock, ModelError, ModelRequest, ModelSink, Models};
use offshoot_actors::types::{AnnounceItem, Entry, ModelRef, RunId, SessionKey, StoredEntry};

/// One model call as the script sees it.
pub struct Call {
    pub request: ModelRequest,
    pub sink: Arc<dyn ModelSink>,
    pub clock: Arc<dyn Clock>,
}

impl Call {
    /// The entries of the run that asks.
    pub fn own(&self) -> Vec<Arc<StoredEntry>> {
        let run = Some(self.request.run);
        self.request.transcript.entries().iter().filter(|entry| entry.run == run).cloned().collect()
    }

    /// The first message of the run that asks; empty for a run on results of children.
    pub fn task(&self) -> String {
        self.own()
            .iter()
            .find_map(|entry| match &entry.entry {
                Entry::User { text, .. } => Some(text.clone()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// Every message of the run that asks.
    pub fn messages(&self) -> Vec<String> {
        texts(&self.own())
    }

    /// Results of children in the whole transcript.
    pub fn results(&self) -> Vec<AnnounceItem> {
        items(self.request.transcript.entries())
    }

    /// Results of children that the run that asks was given.
    pub fn news(&self) -> Vec<String> {
        items(&self.own()).iter().map(brief).collect()
    }

    pub fn notices(&self) -> Vec<String> {
        self.own()
            .iter()
            .filter_map(|entry| match &entry.entry {
                Entry::Notice { text } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    pub async fn sleep(&self, ms: u64) {
        self.clock.sleep(Duration::from_millis(ms)).await;
    }
}

pub fn texts(entries: &[Arc<StoredEntry>]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::User { text, .. } => Some(text.clone()),
            _ => None,
        })
        .collect()
}

pub fn items(entries: &[Arc<StoredEntry>]) -> Vec<AnnounceItem> {
    entries
        .iter()
        .filter_map(|entry| match &entry.entry {
            Entry::Announce { items } => Some(items.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}

pub fn brief(item: &AnnounceItem) -> String {
    format!("{}:{}", item.state, item.text.clone().unwrap_or_default())
}

/// What happened, in order of beginning.
#[derive(Default)]
pub struct Log {
    pub calls: Mutex<Vec<(SessionKey, RunId, u32, ModelRef)>>,
    pub tools: Mutex<Vec<(String, String)>>,
    pub tool_ends: Mutex<Vec<String>>,
    now: AtomicUsize,
    peak: AtomicUsize,
    children_now: AtomicUsize,
    children_peak: AtomicUsize,
}

impl Log {
    /// Model calls so far.
    pub fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Model calls in flight.
    pub fn in_flight(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    /// The most model calls of sub-agents that ever were in flight.
    pub fn children_peak(&self) -> usize {
        self.children_peak.load(Ordering::SeqCst)
    }

    /// Calls of one run, by step.
    pub fn steps(&self, run: RunId) -> Vec<u32> {
        self.calls.lock().unwrap().iter().filter(|call| call.1 == run).map(|call| call.2).collect()
    }
}

struct InFlight(Arc<Log>, bool);

impl InFlight {
    fn enter(log: &Arc<Log>, child: bool) -> Self {
        let now = log.now.fetch_add(1, Ordering::SeqCst) + 1;
        log.peak.fetch_max(now, Ordering::SeqCst);
        if child {
            let now = log.children_now.fetch_add(1, Ordering::SeqCst) + 1;
            log.children_peak.fetch_max(now, Ordering::SeqCst);
        }
        Self(Arc::clone(log), child)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if self.1 {
            self.0.children_now.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

pub type Script = dyn Fn(Call) -> BoxFuture<Result<Answer, ModelError>> + Send + Sync;

pub struct Scripted {
    pub script: Arc<Script>,
    pub log: Arc<Log>,
    pub clock: Arc<dyn Clock>,
}

impl Models for Scripted {
    fn resolve(&self, name: &str) -> Result<ModelRef, ModelError> {
        Ok(name.parse()?)
    }

    fn call(&self, request: ModelRequest, sink: Arc<dyn ModelSink>) -> BoxFuture<Result<Answer, ModelError>> {
        assert_valid(&request);
        let (key, run) = (request.session.clone(), request.run);
        self.log.calls.lock().unwrap().push((key.clone(), run, request.step, request.model.clone()));
        let guard = InFlight::enter(&self.log, key.is_subagent());
        if key.as_str().contains("probe") || request.transcript.entries().iter().any(is_probe) {
            let clock = Arc::clone(&self.clock);
            return Box::pin(async move {
                let _guard = guard;
                clock.sleep(Duration::from_secs(1)).await;
                Ok(Answer::text("NO_REPLY"))
            });
        }
        let call = Call { request, sink, clock: Arc::clone(&self.clock) };
        let answer = (self.script)(call);
        Box::pin(async move {
            let _guard = guard;
            answer.await
        })
    }
}

fn is_probe(entry: &Arc<StoredEntry>) -> bool {
    matches!(&entry.entry, Entry::User { text, .. } if text == "probe")
}

/// What a model is given: no call without its result, unless its run was cut off.
fn assert_valid(request: &ModelRequest) {
    let mut open: BTreeSet<Arc<str>> = BTreeSet::new();
    for entry in request.transcript.entries() {
        if entry.run != Some(request.run) {
            continue;
        }
        match &entry.entry {
            Entry::ToolResult { call, .. } => assert!(open.remove(call), "a result without a call"),
            Entry::Assistant { tool_calls, .. } => {
                assert!(open.is_empty(), "an answer before all results");
                open.extend(tool_calls.iter().map(|call| Arc::clone(&call.id)));
            }
            other => assert!(open.is_empty(), "{other:?} before all results"),
        }
    }
    assert!(open.is_empty(), "calls without results");
}
