//! The exporter: makes spans of what it is told and brings them to the collector.
//!
//! It owns the book of open runs and the spans that wait to be sent. A crash of it loses both: of the runs that go on, the
//! next one learns from the store where they belong, and their spans are whole but for the steps that are lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::TreeHandle;
use offshoot_actors::kit::{Behaviour, Ctx, Intensity, Msg, StartError, Task};
use offshoot_actors::ports::StoreError;
use offshoot_actors::types::Monotonic;
use reqwest::Client;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Bytes;

use super::book::{Book, Out};
use super::lookup::{self, Found};
use super::sender::{self, Sent};
use super::span::{Export, Span};
use super::traces::Traces;

/// Happenings that are taken in one go.
const MANY: usize = 1_024;
/// Most spans that wait to be sent.
const MAX_READY: usize = 8_192;
/// Spans that are sent together.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Before the store is asked again that could not answer, and before it is looked again whether a client has said from
/// where it started a run.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Runs that the store is asked for together.
const LOOK_UP: usize = 64;
/// The pause after a first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the person is told of spans that were dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct ExporterArgs {
    pub(crate) traces: Arc<Traces>,
    pub(crate) tree: TreeHandle,
    /// Tells this process from others.
    pub(crate) instance: String,
}

/// What the exporter is told.
#[derive(Debug)]
pub(crate) enum ExporterMsg {
    /// There is something to take. From whoever has put it there.
    Heard,
    /// Look again at what could not be placed. From a timer.
    LookAgain,
    /// What has gathered is due. From a timer.
    Due,
    /// The store was asked. From a task.
    Found(Result<Vec<Found>, StoreError>),
    /// A batch was sent, or not. From a task.
    Sent(Sent),
    /// Everything is to be sent. From the daemon's end.
    Flush(oneshot::Sender<()>),
}

impl Msg for ExporterMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::LookAgain => "look_again",
            Self::Due => "due",
            Self::Found(_) => "found",
            Self::Sent(_) => "sent",
            Self::Flush(_) => "flush",
        }
    }
}

/// Spans on their way.
#[derive(Debug)]
struct Batch {
    body: Bytes,
    spans: u64,
    failures: u32,
}

/// The exporter's state.
#[derive(Debug)]
pub(crate) struct Exporter {
    traces: Arc<Traces>,
    tree: TreeHandle,
    instance: String,
    /// Made for the first batch: TLS takes its memory.
    client: Option<Client>,
    book: Book,
    ready: VecDeque<Span>,
    batch: Option<Batch>,
    /// The timer of the next batch, the batch on its way, or the pause after a failure.
    sending: Option<Task>,
    /// The question to the store, or the timer of another look.
    looking: Option<Task>,
    flush: Vec<oneshot::Sender<()>>,
    /// How many dropped spans the person knows of, and since when.
    told: (u64, Option<Monotonic>),
}

impl Behaviour for Exporter {
    const KIND: &'static str = "traces";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = ExporterMsg;
    type Args = ExporterArgs;
    type Child = Infallible;

    async fn start(args: &mut ExporterArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        args.traces.set_exporter(ctx.myself().clone());
        Ok(Self {
            traces: Arc::clone(&args.traces),
            tree: args.tree.clone(),
            instance: args.instance.clone(),
            client: None,
            book: Book::default(),
            ready: VecDeque::new(),
            batch: None,
            sending: None,
            looking: None,
            flush: Vec::new(),
            told: (0, None),
        })
    }

    fn handle(&mut self, message: ExporterMsg, ctx: &mut Ctx<Self>) {
        match message {
            ExporterMsg::Heard => self.take(ctx),
            ExporterMsg::LookAgain => {
                self.looking = None;
                self.settle(ctx);
            }
            ExporterMsg::Due => {
                self.sending = None;
                self.send(ctx);
            }
            ExporterMsg::Found(found) => {
                self.looking = None;
                self.found(found, ctx);
            }
            ExporterMsg::Sent(sent) => {
                self.sending = None;
                self.sent(sent, ctx);
            }
            ExporterMsg::Flush(reply) => {
                self.flush.push(reply);
                self.take(ctx);
                // One more attempt, without the pause that is due.
                if self.batch.as_ref().is_some_and(|batch| batch.failures > 0) {
                    self.send(ctx);
                }
            }
        }
        self.schedule(ctx);
        self.tell_dropped(ctx);
    }
}

impl Exporter {
    fn take(&mut self, ctx: &Ctx<Self>) {
        let (notes, more) = self.traces.notes(MANY);
        let mut out = Out::default();
        {
            let mut kin = self.traces.kin();
            for note in notes {
                self.book.take(note, &mut kin, &mut out);
            }
        }
        self.gather(out);
        self.settle(ctx);
        if more {
            // One that stops leaves what it has not taken.
            drop(ctx.myself().send(ExporterMsg::Heard));
        }
    }

    /// Gives runs their places, and asks the store for those that nobody here knows.
    fn settle(&mut self, ctx: &Ctx<Self>) {
        let mut out = Out::default();
        let (undecided, rate) = (self.traces.is_undecided(), self.traces.rate());
        let mut unknown = self.book.settle(undecided, rate, &mut self.traces.kin(), &mut out);
        self.gather(out);
        if self.looking.is_some() {
            return;
        }
        if unknown.is_empty() {
            if !self.book.is_settled() {
                self.looking = Some(ctx.after(LOOK_AGAIN, ExporterMsg::LookAgain));
            }
            return;
        }
        unknown.truncate(LOOK_UP);
        let look = lookup::look_up(Arc::clone(self.tree.storage()), unknown);
        self.looking = Some(ctx.task(look, ExporterMsg::Found));
    }

    fn found(&mut self, found: Result<Vec<Found>, StoreError>, ctx: &Ctx<Self>) {
        match found {
            Ok(found) => {
                let (mut out, rate) = (Out::default(), self.traces.rate());
                {
                    let mut kin = self.traces.kin();
                    for found in found {
                        self.book.found(found, rate, &mut kin, &mut out);
                    }
                }
                self.gather(out);
                self.settle(ctx);
            }
            Err(error) => {
                tracing::debug!(%error, "where runs are in their traces could not be read");
                self.looking = Some(ctx.after(LOOK_AGAIN, ExporterMsg::LookAgain));
            }
        }
    }

    fn gather(&mut self, out: Out) {
        self.traces.drop_spans(out.dropped);
        let room = MAX_READY.saturating_sub(self.ready.len());
        self.traces.drop_spans(out.spans.len().saturating_sub(room) as u64);
        self.ready.extend(out.spans.into_iter().take(room));
    }

    /// Sees to it that what is ready is sent, now or once more of it has gathered.
    fn schedule(&mut self, ctx: &Ctx<Self>) {
        if self.traces.settings().is_none() {
            // Nobody wants them any more.
            (self.batch, self.sending, self.book) = (None, None, Book::default());
            self.ready.clear();
            self.flush.clear();
            return;
        }
        let is_idle = self.ready.is_empty() && self.batch.is_none();
        if is_idle && self.book.is_settled() {
            self.answer_flush();
        }
        if is_idle || self.batch.is_some() {
            return;
        }
        if self.ready.len() >= BATCH || !self.flush.is_empty() {
            self.send(ctx);
        } else if self.sending.is_none() {
            self.sending = Some(ctx.after(GATHER, ExporterMsg::Due));
        }
    }

    /// Sends the batch that was not taken, or the next one.
    fn send(&mut self, ctx: &Ctx<Self>) {
        let Some(settings) = self.traces.settings() else { return };
        if self.batch.is_none() && !self.ready.is_empty() {
            let spans: Vec<Span> = self.ready.drain(..self.ready.len().min(BATCH)).collect();
            match serde_json::to_vec(&Export::new(&settings.service, &self.instance, &spans)) {
                Ok(body) => {
                    let spans = spans.len() as u64;
                    self.batch = Some(Batch { body: body.into(), spans, failures: 0 });
                }
                Err(error) => {
                    self.traces.drop_spans(spans.len() as u64);
                    tracing::error!(%error, "spans could not be written");
                }
            }
        }
        let Some(batch) = &self.batch else { return };
        if self.client.is_none() {
            self.client = sender::client()
                .inspect_err(|error| tracing::warn!(%error, "no client for the collector of traces"))
                .ok();
        }
        self.sending = match &self.client {
            Some(client) => {
                let send = sender::send(client.clone(), settings, batch.body.clone());
                Some(ctx.task(send, ExporterMsg::Sent))
            }
            None => Some(ctx.after(LONGEST_PAUSE, ExporterMsg::Due)),
        };
    }

    fn sent(&mut self, sent: Sent, ctx: &Ctx<Self>) {
        let Some(mut batch) = self.batch.take() else { return };
        match sent {
            Sent::Taken { rejected } => self.traces.drop_spans(rejected),
            Sent::Never(reason) => {
                self.traces.drop_spans(batch.spans);
                tracing::warn!(reason, spans = batch.spans, "the collector of traces refuses spans");
            }
            Sent::Again { reason, after } => {
                let pause = after.unwrap_or_else(|| pause(batch.failures));
                if batch.failures == 0 {
                    tracing::warn!(reason, "the collector of traces does not take them; they are sent again");
                }
                batch.failures = batch.failures.saturating_add(1);
                self.batch = Some(batch);
                self.sending = Some(ctx.after(pause, ExporterMsg::Due));
                // Whoever waits for the end does not wait for a collector that is not there.
                self.answer_flush();
            }
        }
    }

    fn answer_flush(&mut self) {
        for reply in self.flush.drain(..) {
            // Whoever did not wait that long needs no answer.
            let _ = reply.send(());
        }
    }

    fn tell_dropped(&mut self, ctx: &Ctx<Self>) {
        let (dropped, now) = (self.traces.dropped(), ctx.system().clock.monotonic());
        let (known, since) = self.told;
        if dropped > known && since.is_none_or(|since| now.since(since) >= TELL_EVERY) {
            self.told = (dropped, Some(now));
            tracing::warn!(
                dropped,
                "spans were dropped: the collector of traces does not keep up or refuses them"
            );
        }
    }
}

fn pause(failures: u32) -> Duration {
    (FIRST_PAUSE * 2_u32.pow(failures.min(16))).min(LONGEST_PAUSE)
}
