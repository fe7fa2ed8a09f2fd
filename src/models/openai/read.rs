//! The bytes of an answer, streamed or not, as they arrive. Knows no connection.

use offshoot_actors::ports::{Answer, ModelError, ModelSink};

use super::chunk::Chunk;
use super::collect::{Collector, Malformed};
use super::error::Reporter;
use super::sse;

/// One event. Servers that do not split tool arguments send all of them in one.
const MAX_EVENT: usize = 8 << 20;
/// An answer that is not streamed.
const MAX_BODY: usize = 32 << 20;
/// A streamed answer with all its framing, about 300 bytes for each token. It is not held in memory.
const MAX_STREAM: u64 = 512 << 20;

/// Turns the bytes of an answer into the answer.
pub(super) struct Reader {
    mode: Mode,
    answer: Collector,
    events: Vec<Vec<u8>>,
    seen: u64,
    any_event: bool,
    done: bool,
    /// The beginning of what came, for an error that has to show it.
    start: Vec<u8>,
}

enum Mode {
    /// Nothing but white space so far.
    Unknown,
    Events(sse::Decoder),
    Object(Vec<u8>),
}

impl Reader {
    /// Has read nothing.
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Unknown,
            answer: Collector::default(),
            events: Vec::new(),
            seen: 0,
            any_event: false,
            done: false,
            start: Vec::new(),
        }
    }

    /// Whether the provider said why it stopped, so that nothing but its usage can follow.
    pub(super) fn is_finished(&self) -> bool {
        self.answer.is_finished()
    }

    /// Whether the provider said that nothing follows.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next bytes and tells the text in them to `sink`.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        report: &Reporter,
        sink: &dyn ModelSink,
    ) -> Result<(), ModelError> {
        const SHOWN: usize = 512;
        self.seen += bytes.len() as u64;
        if self.seen > MAX_STREAM {
            return Err(report.protocol(&format!("an answer of more than {} MiB", MAX_STREAM >> 20), b""));
        }
        if self.start.len() < SHOWN {
            self.start.extend(bytes.iter().take(SHOWN));
        }
        if matches!(self.mode, Mode::Unknown) {
            match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
                Some(b'{' | b'[') => self.mode = Mode::Object(Vec::new()),
                Some(_) => self.mode = Mode::Events(sse::Decoder::new(MAX_EVENT)),
                None => return Ok(()),
            }
        }
        match &mut self.mode {
            Mode::Object(body) if body.len() + bytes.len() > MAX_BODY => {
                Err(report
                    .protocol(&format!("an answer of more than {} MiB in one piece", MAX_BODY >> 20), b""))
            }
            Mode::Object(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
            Mode::Events(decoder) => {
                let mut events = std::mem::take(&mut self.events);
                let fed = decoder.feed(bytes, &mut events);
                for event in events.drain(..) {
                    self.event(&event, report, sink)?;
                }
                self.events = events;
                fed.map_err(|sse::TooLong| {
                    report.protocol(&format!("an event of more than {} MiB", MAX_EVENT >> 20), b"")
                })
            }
            Mode::Unknown => Ok(()),
        }
    }

    fn event(&mut self, data: &[u8], report: &Reporter, sink: &dyn ModelSink) -> Result<(), ModelError> {
        let data = data.trim_ascii();
        if self.done || data.is_empty() {
            return Ok(());
        }
        self.any_event = true;
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk = parse(data).map_err(|error| report.protocol(&format!("an event that {error}"), data))?;
        self.chunk(chunk, report, sink)
    }

    fn chunk(&mut self, chunk: Chunk, report: &Reporter, sink: &dyn ModelSink) -> Result<(), ModelError> {
        if let Some(error) = chunk.error.as_ref().filter(|error| !error.is_null()) {
            return Err(report.in_stream(error));
        }
        self.answer.add(chunk, sink).map_err(|Malformed(problem)| report.protocol(&problem, b""))
    }

    /// The answer, once nothing follows. `step` names tool calls that came without an id.
    pub(super) fn finish(
        mut self,
        step: u32,
        report: &Reporter,
        sink: &dyn ModelSink,
    ) -> Result<Answer, ModelError> {
        match std::mem::replace(&mut self.mode, Mode::Unknown) {
            Mode::Unknown => return Err(report.cut()),
            Mode::Object(body) => {
                let chunk = parse(&body).map_err(|error| match error {
                    NotAChunk::Incomplete => report.cut(),
                    NotAChunk::Other(_) => report.protocol(&format!("an answer that {error}"), &body),
                })?;
                let has_answer = chunk.choices.as_ref().is_some_and(|choices| !choices.is_empty());
                if !has_answer && chunk.error.is_none() {
                    return Err(report.protocol("an answer without choices", &body));
                }
                self.done = true;
                self.chunk(chunk, report, sink)?;
            }
            Mode::Events(mut decoder) => {
                if let Some(event) = decoder.finish().filter(|_| !self.done) {
                    // What came last may be half an event.
                    if parse(&event).is_ok() || event.trim_ascii() == b"[DONE]" {
                        self.event(&event, report, sink)?;
                    }
                }
                if !self.any_event && !looks_like_events(&self.start) {
                    return Err(report.protocol("an answer that is no event stream", &self.start));
                }
            }
        }
        if !self.done && !self.answer.is_finished() {
            return Err(report.cut());
        }
        self.answer.into_answer(step).map_err(|Malformed(problem)| report.protocol(&problem, b""))
    }
}

fn looks_like_events(start: &[u8]) -> bool {
    let start = start.trim_ascii_start();
    [b"data".as_slice(), b":", b"event", b"id", b"retry"].iter().any(|field| start.starts_with(field))
}

#[derive(Debug, thiserror::Error)]
enum NotAChunk {
    #[error("ends too early")]
    Incomplete,
    #[error("does not have the form of a chat completion ({0})")]
    Other(serde_json::Error),
}

fn parse(data: &[u8]) -> Result<Chunk, NotAChunk> {
    serde_json::from_slice(data)
        .map_err(|error| if error.is_eof() { NotAChunk::Incomplete } else { NotAChunk::Other(error) })
}
