//! The lines of the log: what happened, and which actor said it.

use std::fmt::{self, Write as _};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use offshoot_actors::ActorPlace;
use owo_colors::{AnsiColors, OwoColorize as _};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{behind, clock, write_stderr};

/// Bytes of one text in a line.
const MAX_TEXT: usize = 4 * 1024;

/// Whose place is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// That of the actor of this number.
    Actor(u64),
    /// That of the session with this key.
    Session(&'a str),
}

type Places = Box<dyn Fn(Whose<'_>) -> Option<ActorPlace> + Send + Sync>;

/// Who knows where actors are.
static PLACES: RwLock<Option<Places>> = RwLock::new(None);

/// Asks `places` from now on where an actor is. It is asked for lines that are written, and only then: where
/// an actor is can change, and most log nothing.
pub(crate) fn find_actors(places: impl Fn(Whose<'_>) -> Option<ActorPlace> + Send + Sync + 'static) {
    *PLACES.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(places));
}

fn place(whose: Whose<'_>) -> Option<ActorPlace> {
    PLACES.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|of| of(whose))
}

/// What the kit's span says of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Actor {
    id: u64,
    kind: Box<str>,
    name: Box<str>,
}

impl Visit for Actor {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "id" {
            self.id = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "kind" => self.kind = value.into(),
            "actor" => self.name = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The message that an actor handles.
struct Handling(Box<str>);

/// What a line says.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) message: String,
    pub(super) fields: Map<String, Value>,
}

impl Line {
    fn add(&mut self, field: &Field, mut text: String) {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_owned(), text.into());
        }
    }

    /// What an event says, and what its spans say of who says it. The event's own word counts more.
    pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Self
    where
        S: Subscriber + for<'s> LookupSpan<'s>,
    {
        let mut line = Self::default();
        event.record(&mut line);
        let (mut actor, mut handling) = (None, None);
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            handling = handling.or_else(|| extensions.get::<Handling>().map(|handling| handling.0.clone()));
            actor = extensions.get::<Actor>().cloned();
            if actor.is_some() {
                break;
            }
        }
        match actor {
            Some(actor) => line.said_by(actor),
            None => line.said_by_nobody(),
        }
        if let Some(handling) = handling {
            line.unless_said("handling", &handling);
        }
        line
    }

    fn said_by(&mut self, actor: Actor) {
        match place(Whose::Actor(actor.id)) {
            Some(ActorPlace { path, session, run }) => {
                self.unless_said("path", &path);
                session.into_iter().for_each(|session| self.unless_said("session", &session));
                run.into_iter().for_each(|run| self.unless_said("run", &run));
            }
            // It is gone already, or nobody knows.
            None => {
                self.unless_said("kind", &actor.kind);
                self.unless_said("actor", &actor.name);
            }
        }
    }

    /// What is told once the store has it, like a run's end, is told by no actor: its place is that of the session that it
    /// is about.
    fn said_by_nobody(&mut self) {
        let session = self.fields.get("session").and_then(Value::as_str);
        if let Some(place) = session.and_then(|session| place(Whose::Session(session))) {
            self.unless_said("path", &place.path);
        }
    }

    fn unless_said(&mut self, name: &str, value: &str) {
        if !self.fields.contains_key(name) {
            self.fields.insert(name.to_owned(), value.into());
        }
    }

    /// One object of JSON, and the end of the line.
    fn json(self, level: &Level, target: &str, at: SystemTime) -> String {
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), clock::iso(at).into());
        line.insert("level".to_owned(), level.as_str().into());
        line.insert("message".to_owned(), self.message.into());
        line.extend(self.fields);
        line.insert("target".to_owned(), target.into());
        format!("{}\n", Value::Object(line))
    }

    /// For people, and the end of the line.
    fn human(&self, level: &Level, colors: bool) -> String {
        let color = match *level {
            Level::ERROR => AnsiColors::Red,
            Level::WARN => AnsiColors::Yellow,
            Level::INFO => AnsiColors::Green,
            Level::DEBUG => AnsiColors::Blue,
            Level::TRACE => AnsiColors::Magenta,
        };
        let word = format!("{:>5}", level.as_str());
        let mut line = if colors { word.color(color).to_string() } else { word };
        // Nothing fails that is written to a text in memory.
        _ = write!(line, " {}", shown(&self.message));
        for (name, value) in &self.fields {
            let value = match value {
                Value::String(text) => shown(text),
                value => value.to_string(),
            };
            let quoted = value.contains(' ') && name != "path";
            let value = if quoted { format!("{value:?}") } else { value };
            let member = format!("{name}={value}");
            _ = if colors { write!(line, " {}", member.dimmed()) } else { write!(line, " {member}") };
        }
        line.push('\n');
        line
    }
}

/// Without what would draw on somebody's terminal or begin a line.
fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    /// Standard error, for people.
    Human { colors: bool },
    /// Standard error, for programs.
    Json,
    /// The log file, if there is one.
    File,
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Output {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let (Some(span), metadata) = (context.span(id), attributes.metadata()) else { return };
        if !metadata.target().starts_with("offshoot_actors") {
            return;
        }
        let mut extensions = span.extensions_mut();
        match metadata.name() {
            "actor" if extensions.get_mut::<Actor>().is_none() => {
                let mut actor = Actor::default();
                attributes.record(&mut actor);
                extensions.insert(actor);
            }
            "handle" if extensions.get_mut::<Handling>().is_none() => {
                let mut line = Line::default();
                attributes.record(&mut line);
                let message = line.fields.get("msg").and_then(Value::as_str).unwrap_or_default();
                extensions.insert(Handling(message.into()));
            }
            _ => {}
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let line = Line::of(event, &context);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        // A line that has no reader is lost.
        match self {
            Self::Human { colors } => _ = write_stderr(line.human(level, *colors).as_bytes()),
            Self::Json if behind::CONSOLE.is_begun() => {
                behind::CONSOLE.write(line.json(level, target, SystemTime::now()));
            }
            Self::Json => _ = write_stderr(line.json(level, target, SystemTime::now()).as_bytes()),
            Self::File => behind::FILE.write(line.json(level, target, SystemTime::now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &[(&str, &str)]) -> Line {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Line { message: "it happened".to_owned(), fields }
    }

    #[test]
    fn a_line_for_programs_is_one_object() {
        let written = line(&[("run", "1"), ("text", "two\nlines")]).json(
            &Level::INFO,
            "offshoot::x",
            SystemTime::UNIX_EPOCH,
        );
        let read: Value = serde_json::from_str(&written).unwrap();
        assert!(written.ends_with("}\n") && written.matches('\n').count() == 1, "{written}");
        let expected = serde_json::json!({ "timestamp": "1970-01-01T00:00:00.000Z", "level": "INFO", "message": "it happened",
            "run": "1", "text": "two\nlines", "target": "offshoot::x" });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_for_people_stays_one_line() {
        let written = line(&[("a", "b c"), ("x", "\u{1b}[2J")]).human(&Level::WARN, false);
        assert_eq!(written, " WARN it happened a=\"b c\" x=\u{fffd}[2J\n");
    }

    #[test]
    fn numbers_and_truths_are_shown_to_people() {
        let mut line = line(&[]);
        line.fields.insert("pid".to_owned(), 17.into());
        line.fields.insert("by".to_owned(), (-2).into());
        line.fields.insert("clean".to_owned(), false.into());
        assert_eq!(line.human(&Level::INFO, false), " INFO it happened by=-2 clean=false pid=17\n");
    }

    #[test]
    fn what_the_event_says_counts_more_than_who_says_it() {
        let mut line = line(&[("session", "its own")]);
        line.unless_said("session", "the actor's");
        line.unless_said("run", "the actor's");
        assert_eq!(
            (&line.fields["session"], &line.fields["run"]),
            (&"its own".into(), &"the actor's".into())
        );
    }
}
