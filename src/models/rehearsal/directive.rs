//! The lines of a prompt that tell the rehearsal model what to do. `docs/rehearsal.md` documents them.

use std::time::Duration;

use offshoot_actors::ports::ModelErrorKind;

/// One thing to do, in the order of the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// Call a tool with arguments exactly as written.
    Call {
        /// The tool.
        tool: String,
        /// Its arguments.
        arguments: String,
    },
    /// Wait.
    Wait(Duration),
    /// Fail the model call.
    Fail {
        /// The kind of failure.
        kind: ModelErrorKind,
        /// What to say about it.
        reason: String,
    },
    /// Panic inside the model call.
    Panic(String),
    /// Bring the whole process down, as memory that runs out would.
    #[cfg(feature = "faults")]
    Abort,
}

/// What a prompt says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// What to do, in order.
    pub directives: Vec<Directive>,
    /// What to reply in the end; the last such line.
    pub reply: Option<String>,
    /// In how many pieces to stream the reply; the last such line.
    pub pieces: Option<u32>,
}

/// Pieces of one reply; more would be a test of the terminal.
const MAX_PIECES: u32 = 100_000;
/// The tool behind `Spawn:`.
pub(super) const SPAWN: &str = "sessions_spawn";

impl Script {
    /// Adds the directives of one message. Lines that are none are left out.
    pub fn add(&mut self, message: &str) {
        for line in message.lines() {
            let Some((keyword, rest)) = line.split_once(':') else { continue };
            let (keyword, rest) = (keyword.trim(), rest.trim());
            let is = |name: &str| keyword.eq_ignore_ascii_case(name);
            if is("reply with exactly") {
                self.reply = Some(rest.to_owned());
            } else if is("stream") {
                match rest.parse() {
                    Ok(pieces @ 1..=MAX_PIECES) => self.pieces = Some(pieces),
                    _ => self.unreadable(line, "write a number of pieces from 1 to 100000"),
                }
            } else if is("spawn") {
                self.directives.push(Directive::Call { tool: SPAWN.to_owned(), arguments: rest.to_owned() });
            } else if is("call") {
                let (tool, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, "{}"));
                if tool.is_empty() {
                    self.unreadable(line, "write a tool and its arguments as JSON");
                } else {
                    let (tool, arguments) = (tool.to_owned(), arguments.trim().to_owned());
                    self.directives.push(Directive::Call { tool, arguments });
                }
            } else if is("wait") {
                match duration(rest) {
                    Some(duration) => self.directives.push(Directive::Wait(duration)),
                    None => self.unreadable(line, "write a time such as 200ms, 2s or 1m"),
                }
            } else if is("fail") {
                let (kind, reason) = failure(rest);
                self.directives.push(Directive::Fail { kind, reason });
            } else if is("panic") {
                self.directives.push(Directive::Panic(or(rest, "told to panic")));
            }
            #[cfg(feature = "faults")]
            if is("abort") {
                self.directives.push(Directive::Abort);
            }
        }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directives.is_empty() && self.reply.is_none() && self.pieces.is_none()
    }

    /// A line that is meant as a directive but cannot be carried out fails when its turn comes.
    fn unreadable(&mut self, line: &str, right: &str) {
        let line: String = line.trim().chars().take(80).collect();
        let reason = format!("cannot carry out {line:?}: {right} (see docs/rehearsal.md)");
        self.directives.push(Directive::Fail { kind: ModelErrorKind::BadRequest, reason });
    }
}

/// A whole number with its unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

/// `kind`, `kind: reason` or just a reason.
fn failure(text: &str) -> (ModelErrorKind, String) {
    let (first, rest) = text.split_once(':').unwrap_or((text, ""));
    match first.trim().parse() {
        Ok(kind) => (kind, or(rest.trim(), "told to fail")),
        Err(_) => (ModelErrorKind::Failed, or(text, "told to fail")),
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(message: &str) -> Script {
        let mut script = Script::default();
        script.add(message);
        script
    }

    #[test]
    fn every_directive_in_any_case_and_indented() {
        let script = script(
            "please:\r\n SPAWN: {\"task\":\"a: b\"}\r\ncall: exec {\"x\":1}\nCall: agents_list\n\
             wait: 2s\nfail: rate_limit: slow down\nPanic: boom\nstream: 3\nreply WITH exactly:  A: b \n",
        );
        let call =
            |tool: &str, arguments: &str| Directive::Call { tool: tool.into(), arguments: arguments.into() };
        assert_eq!(
            script.directives,
            [
                call("sessions_spawn", r#"{"task":"a: b"}"#),
                call("exec", r#"{"x":1}"#),
                call("agents_list", "{}"),
                Directive::Wait(Duration::from_secs(2)),
                Directive::Fail { kind: ModelErrorKind::RateLimited, reason: "slow down".into() },
                Directive::Panic("boom".into()),
            ]
        );
        assert_eq!((script.reply.as_deref(), script.pieces), (Some("A: b"), Some(3)));
    }

    #[test]
    fn text_without_a_keyword_at_its_start_is_nothing() {
        assert!(script("say Spawn: {}\n- Wait: 1s\nWaiting: 1s\nSpawn\nhttp://x").is_empty());
    }

    #[test]
    fn failures_name_their_kind_or_are_plain() {
        for kind in ModelErrorKind::ALL {
            let expected = vec![Directive::Fail { kind, reason: "why: so".into() }];
            assert_eq!(script(&format!("Fail: {kind}: why: so")).directives, expected);
        }
        let failed =
            |reason: &str| vec![Directive::Fail { kind: ModelErrorKind::Failed, reason: reason.into() }];
        assert_eq!(script("Fail: network cable is out").directives, failed("network cable is out"));
        assert_eq!(script("Fail:").directives, failed("told to fail"));
    }

    #[test]
    fn a_directive_that_makes_no_sense_fails_with_what_would() {
        for line in
            ["Wait: soon", "Wait: 5", "Wait: 99999999999999999999h", "Stream: 0", "Stream: x", "Call:"]
        {
            match script(line).directives.as_slice() {
                [Directive::Fail { kind: ModelErrorKind::BadRequest, reason }] => {
                    assert!(reason.contains(line) && reason.contains("write "), "{reason}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }
}
