//! What happened, in order: what clients asked and heard, what models and tools were asked to do, what was
//! published, which faults there were.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use offshoot_actors::ports::{Clock, Event, EventSink, ModelErrorKind, ModelRequest, ToolContext};
use offshoot_actors::types::{
    Accepted, ModelRef, Origin, PromptRequest, Refusal, RunId, SessionKey, SpawnRequest, Submitted,
    Timestamp, ToolCall, Transcript,
};
use offshoot_actors::{Steered, Stopped};

/// A request to the tree.
#[derive(Debug, Clone)]
pub enum Ask {
    Spawn(SpawnRequest, Origin),
    Submit(PromptRequest),
    Steer(SessionKey, String, Origin),
    Cancel(RunId),
    Stop(SessionKey),
    Apply,
}

/// What the tree answered.
#[derive(Debug, Clone)]
pub enum Heard {
    Spawned(Box<Accepted>),
    Submitted(Submitted),
    Steered(Steered),
    Stopped(Stopped),
    Applied,
    Refused(Refusal),
}

/// One happening.
#[derive(Debug, Clone)]
pub enum What {
    /// A process begins.
    Life(usize),
    /// With `SIM_TRACE` only.
    Handled {
        actor: &'static str,
        message: &'static str,
    },
    Event(Event),
    ModelBegan {
        call: u64,
        session: SessionKey,
        run: RunId,
        step: u32,
        model: ModelRef,
        tools: Vec<Arc<str>>,
        seen: Transcript,
    },
    /// With the text and whether all of it was streamed.
    ModelAnswered {
        call: u64,
        run: RunId,
        text: String,
        streamed: bool,
    },
    ModelFailed {
        call: u64,
        run: RunId,
        kind: ModelErrorKind,
    },
    /// It panicked, or was dropped before it was done.
    ModelDropped {
        call: u64,
        run: RunId,
    },
    ToolBegan {
        session: SessionKey,
        run: RunId,
        step: u32,
        call: Arc<str>,
        name: Arc<str>,
    },
    ToolEnded {
        run: RunId,
        step: u32,
        call: Arc<str>,
    },
    Asked {
        number: u64,
        ask: Ask,
    },
    Answered {
        number: u64,
        heard: Heard,
    },
    /// An actor of this kind panics instead of handling this message.
    Panic {
        actor: &'static str,
        message: &'static str,
    },
    /// The store refused a transaction as full.
    Full,
    /// The store refused a transaction by its own rules.
    Refused(String),
    /// Somebody saw a rule broken on the spot.
    Broken(String),
}

#[derive(Debug, Clone)]
pub struct Record {
    pub at: Timestamp,
    pub life: usize,
    pub what: What,
}

impl Record {
    /// One line, the transcripts left out.
    pub fn line(&self) -> String {
        let mut text = format!("{:>10} {} ", self.at.0 - super::scenario::EPOCH.0, self.life);
        match &self.what {
            What::ModelBegan { call, session, run, step, model, seen, .. } => {
                let entries = seen.entries().len();
                let _ = write!(text, "ModelBegan {call} {session} {run} step {step} {model} sees {entries}");
            }
            other => {
                let _ = write!(text, "{other:?}");
            }
        }
        text
    }
}

#[derive(Default)]
struct Inner {
    records: Vec<Record>,
    clock: Option<Arc<dyn Clock>>,
    life: usize,
    calls: u64,
    asks: u64,
}

/// Takes down what happens. Between two lives it takes down nothing.
#[derive(Default)]
pub struct History(Mutex<Inner>);

impl History {
    pub fn open(&self, life: usize, clock: Arc<dyn Clock>) {
        {
            let mut inner = self.0.lock().unwrap();
            inner.clock = Some(clock);
            inner.life = life;
        }
        self.note(What::Life(life));
    }

    /// The process is gone: what falls apart now was never seen.
    pub fn close(&self) {
        self.0.lock().unwrap().clock = None;
    }

    pub fn note(&self, what: What) {
        let mut inner = self.0.lock().unwrap();
        let Some(clock) = &inner.clock else { return };
        let record = Record { at: clock.now(), life: inner.life, what };
        inner.records.push(record);
    }

    pub fn take(&self) -> Vec<Record> {
        std::mem::take(&mut self.0.lock().unwrap().records)
    }

    pub fn asked(&self, ask: Ask) -> u64 {
        let number = {
            let mut inner = self.0.lock().unwrap();
            inner.asks += 1;
            inner.asks
        };
        self.note(What::Asked { number, ask });
        number
    }

    pub fn model_began(self: &Arc<Self>, request: &ModelRequest) -> ModelCall {
        let call = {
            let mut inner = self.0.lock().unwrap();
            inner.calls += 1;
            inner.calls
        };
        self.note(What::ModelBegan {
            call,
            session: request.session.clone(),
            run: request.run,
            step: request.step,
            model: request.model.clone(),
            tools: request.tools.iter().map(|spec| Arc::clone(&spec.name)).collect(),
            seen: request.transcript.clone(),
        });
        ModelCall { history: Arc::clone(self), call, run: request.run, over: false }
    }

    pub fn tool_began(self: &Arc<Self>, context: &ToolContext, call: &ToolCall) -> ToolRun {
        self.note(What::ToolBegan {
            session: context.session.clone(),
            run: context.run,
            step: context.step,
            call: Arc::clone(&call.id),
            name: Arc::clone(&call.name),
        });
        ToolRun {
            history: Arc::clone(self),
            run: context.run,
            step: context.step,
            call: Arc::clone(&call.id),
        }
    }
}

impl EventSink for History {
    fn publish(&self, event: Event) {
        self.note(What::Event(event));
    }
}

/// A model call in flight.
pub struct ModelCall {
    history: Arc<History>,
    pub call: u64,
    run: RunId,
    over: bool,
}

impl ModelCall {
    pub fn answered(mut self, text: &str, streamed: bool) {
        self.over = true;
        let (call, run) = (self.call, self.run);
        self.history.note(What::ModelAnswered { call, run, text: text.to_owned(), streamed });
    }

    pub fn failed(mut self, kind: ModelErrorKind) {
        self.over = true;
        self.history.note(What::ModelFailed { call: self.call, run: self.run, kind });
    }
}

impl Drop for ModelCall {
    fn drop(&mut self) {
        if !self.over {
            self.history.note(What::ModelDropped { call: self.call, run: self.run });
        }
    }
}

/// A tool call in flight.
pub struct ToolRun {
    history: Arc<History>,
    run: RunId,
    step: u32,
    call: Arc<str>,
}

impl Drop for ToolRun {
    fn drop(&mut self) {
        let call = Arc::clone(&self.call);
        self.history.note(What::ToolEnded { run: self.run, step: self.step, call });
    }
}
