//! `offshoot events`: what happens, as it happens.

pub(super) mod filter;

use offshoot_actors::types::{Scope, Timestamp};
use serde_json::{Value, json};

use self::filter::{Filter, run as run_of, session, text};
use super::Global;
use super::args::EventsArgs;
use super::exit::{Exit, Failure};
use super::output::{Output, clock, one_line};
use super::watch::{Heard, Link, Wants};
use crate::client::Event;
use crate::runtime;

/// Longest text of an event in a line, in characters.
const MAX_TEXT: usize = 120;

pub(super) async fn run(args: EventsArgs, global: &Global) -> Result<Exit, Failure> {
    let wants = Wants { scopes: vec![Scope::Read, Scope::Pairing], tree: None, sessions: true };
    let (link, _asks, mut heard) = Link::new(&args.reach, wants, global);
    let printed = async {
        let mut told = Told { output: global.output, filter: args.filter, seq: None, away: false };
        while let Some(heard) = heard.recv().await {
            told.take(heard)?;
        }
        Ok(Exit::Ok)
    };
    tokio::select! {
        failed = link.run() => failed.map(|never| match never {}),
        printed = printed => printed,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

/// What was printed so far.
struct Told {
    output: Output,
    filter: Filter,
    /// The number of the last event of this connection.
    seq: Option<u64>,
    away: bool,
}

impl Told {
    fn take(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Event(event) => self.event(&event),
            Heard::Lost(failure) if !self.away => {
                self.away = true;
                self.seq = None;
                let why = one_line(&failure.message, MAX_TEXT);
                self.mark(json!({"lost": why}), &format!("{why}; waiting for it to come back"))
            }
            Heard::Here(_) if self.away => {
                self.away = false;
                let text = "the gateway is back; what happened meanwhile is not here";
                self.mark(json!({"back": true}), text)
            }
            Heard::Lost(_) | Heard::Here(_) | Heard::Answer(..) => Ok(()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), Failure> {
        if let Some(missing) = missing(self.seq, event.seq) {
            let text = format!("{missing} event{} left out", if missing == 1 { " was" } else { "s were" });
            self.mark(json!({"gap": missing}), &text)?;
        }
        self.seq = event.seq.or(self.seq);
        if !self.filter.takes(&event.name, &event.payload) {
            return Ok(());
        }
        if self.output.json {
            let document = json!({"event": event.name, "payload": event.payload, "seq": event.seq});
            return self.output.json_line(&document);
        }
        let now = runtime::clock().now();
        let [at, name, about, said] = line(event, now);
        let paint = self.output.paint;
        let line = [paint.dim(at), paint.bold(format!("{name:<18}")), about, said];
        let line: Vec<String> = line.into_iter().filter(|part| !part.is_empty()).collect();
        self.output.line(line.join("  ").trim_end())
    }

    /// Something that is no event, which also a filter lets through.
    fn mark(&self, document: Value, text: &str) -> Result<(), Failure> {
        if self.output.json {
            return self.output.json_line(&document);
        }
        self.output.line(self.output.paint.error(format!("-- {text} --")))
    }
}

/// How many events are missing before this one.
fn missing(last: Option<u64>, seq: Option<u64>) -> Option<u64> {
    Some(seq?.checked_sub(last?.checked_add(1)?)?).filter(|missing| *missing > 0)
}

/// Time, name, what it is about, and what it says.
fn line(event: &Event, now: Timestamp) -> [String; 4] {
    let payload = &event.payload;
    let at = payload["ts"].as_i64().map_or(now, Timestamp);
    let mut about: Vec<String> = session(payload).map(|key| one_line(key, MAX_TEXT)).into_iter().collect();
    about.extend(
        // Whole: runs that begin within a minute of each other begin with the same digits.
        run_of(payload).map(|id| format!("run {}", one_line(id, MAX_TEXT))),
    );
    [clock(at), one_line(&event.name, MAX_TEXT), about.join(" "), short(payload)]
}

/// The few words of an event that say most.
fn short(payload: &Value) -> String {
    let said = [
        "/stream",
        "/data/phase",
        "/data/name",
        "/phase",
        "/state",
        "/tool",
        "/label",
        "/task/status",
        "/task/title",
        "/message/role",
        "/data/delta",
        "/data/error",
        "/text",
        "/errorMessage",
    ];
    let mut words: Vec<&str> = said.iter().filter_map(|name| text(payload, &[name])).collect();
    // What changed in a session, where nothing else says it.
    words.extend(text(payload, &["/reason", "/decision"]));
    let step = payload["step"].as_u64().map(|step| format!("step {step}"));
    words.extend(step.as_deref());
    one_line(&words.join(" "), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, payload: Value) -> Event {
        Event { name: name.to_owned(), payload, seq: None }
    }

    #[test]
    fn a_line_says_when_what_and_of_whom() {
        let start = event(
            "agent",
            json!({"runId": "0123456789", "sessionKey": "agent:main:main", "stream": "lifecycle",
                "data": {"phase": "start"}, "ts": 3_661_000}),
        );
        let [at, name, about, said] = line(&start, Timestamp(0));
        assert_eq!(at, clock(Timestamp(3_661_000)));
        assert_eq!([name, about, said], ["agent", "agent:main:main run 0123456789", "lifecycle start"]);
        let escape = event("x\u{1b}", json!({"sessionKey": "a\u{1b}b", "text": "c\u{7}\nd"}));
        assert!(line(&escape, Timestamp(0)).iter().all(|part| !part.contains(char::is_control)));
        let step = event("subagent.progress", json!({"label": "papers", "step": 2}));
        assert_eq!(line(&step, Timestamp(0))[3], "papers step 2");
    }

    #[test]
    fn a_gap_in_the_numbers_is_counted() {
        assert_eq!(missing(None, Some(7)), None);
        assert_eq!(missing(Some(7), Some(8)), None);
        assert_eq!(missing(Some(7), Some(11)), Some(3));
        assert_eq!(missing(Some(7), None), None);
        assert_eq!(missing(Some(7), Some(1)), None);
    }
}
