//! The last lines of the log, kept in memory for clients that ask for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::json;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::clock::iso;
use super::lines::Line;

/// What stands for the lines where a file would be named.
pub(crate) const TAIL_NAME: &str = "(memory of the running gateway)";
/// Bytes of all lines that are kept; the oldest go first.
const MAX_BYTES: usize = 1024 * 1024;

static LINES: Lines = Lines(Mutex::new(Kept { lines: VecDeque::new(), bytes: 0, end: 0 }));

struct Lines(Mutex<Kept>);

struct Kept {
    /// Shared with who reads them: while they are picked, everybody who logs waits.
    lines: VecDeque<Arc<str>>,
    bytes: usize,
    /// Bytes of all lines that ever were.
    end: u64,
}

/// Some of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The oldest first.
    pub(crate) lines: Vec<Arc<str>>,
    /// From where to go on.
    pub(crate) cursor: u64,
    /// Whether lines before these were left out.
    pub(crate) truncated: bool,
    /// Whether the cursor was none of this process.
    pub(crate) reset: bool,
}

/// At most `limit` lines with at most `max_bytes`: those after `cursor`, or the last ones.
pub(crate) fn tail(cursor: Option<u64>, limit: usize, max_bytes: usize) -> Tail {
    LINES.0.lock().unwrap_or_else(PoisonError::into_inner).tail(cursor, limit, max_bytes)
}

impl Kept {
    fn push(&mut self, line: Arc<str>) {
        let length = line.len() + 1;
        self.bytes += length;
        self.end += length as u64;
        self.lines.push_back(line);
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
    }

    fn tail(&self, cursor: Option<u64>, limit: usize, max_bytes: usize) -> Tail {
        let reset = cursor.is_some_and(|cursor| cursor > self.end);
        let from = cursor.filter(|_| !reset).unwrap_or(0);
        let (mut at, mut bytes) = (self.end, 0);
        let mut lines = Vec::new();
        for line in self.lines.iter().rev() {
            let length = line.len() + 1;
            if at <= from || lines.len() >= limit || bytes + length > max_bytes {
                break;
            }
            at -= length as u64;
            bytes += length;
            lines.push(Arc::clone(line));
        }
        lines.reverse();
        Tail { lines, cursor: self.end, truncated: at > from, reset }
    }
}

/// Keeps what people are told: warnings of everybody, and what the daemon itself says of its work.
pub(super) fn layer<S: Subscriber + for<'s> LookupSpan<'s>>() -> impl Layer<S> {
    let wanted = FilterFn::new(|metadata| {
        let own = metadata.target().starts_with("offshoot");
        metadata.is_event() && *metadata.level() <= if own { Level::INFO } else { Level::WARN }
    });
    Keep.with_filter(wanted.with_max_level_hint(tracing::level_filters::LevelFilter::INFO))
}

struct Keep;

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let said = Line::of(event, &context);
        let line = line(event.metadata().level(), event.metadata().target(), said, SystemTime::now());
        LINES.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.into());
    }
}

/// A line in the form in which OpenClaw's clients read them.
fn line(level: &Level, target: &str, said: Line, at: SystemTime) -> String {
    let Line { message, fields: rest } = said;
    let time = iso(at);
    let name = json!({ "subsystem": target }).to_string();
    let mut text = message;
    for (name, value) in &rest {
        match value.as_str() {
            Some(value) => text.push_str(&format!(" {name}={value}")),
            None => text.push_str(&format!(" {name}={value}")),
        }
    }
    // Older readers look for the text under its place, newer ones for its name.
    let mut line = json!({
        "0": name,
        "1": text,
        "message": text,
        "_meta": { "logLevelName": level.as_str(), "date": time, "name": name },
        "time": time,
    });
    if !rest.is_empty() {
        line["fields"] = rest.into();
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Map, Value};

    use super::*;

    fn texts(lines: &[&str]) -> Vec<Arc<str>> {
        lines.iter().map(|line| (*line).into()).collect()
    }

    fn kept(lines: &[&str]) -> Kept {
        let mut kept = Kept { lines: VecDeque::new(), bytes: 0, end: 0 };
        lines.iter().for_each(|line| kept.push((*line).into()));
        kept
    }

    #[test]
    fn the_last_lines_come_first_and_the_cursor_goes_on_from_there() {
        let mut kept = kept(&["a", "bb", "ccc"]);
        let first = kept.tail(None, 2, 100);
        assert_eq!(first.lines, texts(&["bb", "ccc"]));
        assert!(first.truncated && !first.reset);
        assert_eq!(kept.tail(Some(first.cursor), 10, 100).lines, texts(&[]));
        kept.push("d".into());
        let next = kept.tail(Some(first.cursor), 10, 100);
        assert_eq!((next.lines, next.truncated), (texts(&["d"]), false));
        assert_eq!(kept.tail(None, 10, 7).lines, texts(&["ccc", "d"]));
    }

    #[test]
    fn a_cursor_of_another_process_begins_anew() {
        let tail = kept(&["a"]).tail(Some(999), 10, 100);
        assert_eq!((tail.lines, tail.reset), (texts(&["a"]), true));
    }

    #[test]
    fn the_oldest_lines_make_room() {
        let mut kept = kept(&[]);
        let long: Arc<str> = "x".repeat(100_000).into();
        for _ in 0..30 {
            kept.push(Arc::clone(&long));
        }
        assert!(kept.bytes <= MAX_BYTES && kept.lines.len() == 10);
        let tail = kept.tail(Some(5), 100, usize::MAX);
        assert!(tail.truncated && tail.lines.len() == 10);
    }

    #[test]
    fn a_line_is_what_clients_read() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_776_247_872_131);
        let mut said = Line { message: "hello".to_owned(), fields: Map::new() };
        said.fields.insert("connection".to_owned(), "5".into());
        let line: Value = serde_json::from_str(&line(&Level::WARN, "offshoot::x", said, at)).unwrap();
        assert_eq!(line["_meta"]["logLevelName"], "WARN");
        assert_eq!(line["time"], "2026-04-15T10:11:12.131Z");
        assert_eq!(
            (&line["1"], &line["message"]),
            (&json!("hello connection=5"), &json!("hello connection=5"))
        );
    }
}
