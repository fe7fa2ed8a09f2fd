//! Writing for people and for programs.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime};

use anstream::{AutoStream, ColorChoice};
use offshoot_actors::types::{Terminal, Timestamp, Usage};
use owo_colors::{OwoColorize, Style};
use serde::Serialize;

use super::exit::Failure;
use super::watch::Tone;
use crate::telemetry::write_stderr;

/// What styles a stream takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn stderr() -> Self {
        Self(AutoStream::choice(&io::stderr()) != ColorChoice::Never)
    }

    /// No styles.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self(false)
    }

    pub(crate) fn stdout() -> Self {
        Self(AutoStream::choice(&io::stdout()) != ColorChoice::Never)
    }

    pub(crate) const fn colors(self) -> bool {
        self.0
    }

    fn with(self, text: impl Display, style: Style) -> String {
        if self.0 { text.style(style).to_string() } else { text.to_string() }
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.with(text, Style::new().dimmed())
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.with(text, Style::new().bold())
    }

    pub(crate) fn error(self, text: impl Display) -> String {
        self.with(text, Style::new().red().bold())
    }

    pub(crate) fn hint(self, text: impl Display) -> String {
        self.with(text, Style::new().cyan())
    }

    /// A word of the live tree.
    pub(crate) fn tone(self, text: impl Display, tone: Tone) -> String {
        let style = match tone {
            Tone::Plain => return text.to_string(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Bold => Style::new().bold(),
            Tone::Good => Style::new().green(),
            Tone::Busy => Style::new().cyan(),
            Tone::Warn => Style::new().yellow(),
            Tone::Bad => Style::new().red().bold(),
        };
        self.with(text, style)
    }

    /// A run's state, good ones green, bad ones red.
    pub(crate) fn state(self, state: &str) -> String {
        let style = match state.parse::<Terminal>() {
            Ok(Terminal::Ok) => Style::new().green(),
            Ok(Terminal::Partial | Terminal::Cancelled | Terminal::Interrupted) => Style::new().yellow(),
            Ok(Terminal::Timeout | Terminal::Error | Terminal::Crashed) => Style::new().red(),
            Err(_) => Style::new().cyan(),
        };
        self.with(state, style)
    }
}

/// Standard output, for text or for one JSON document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) paint: Paint,
    terminal: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, paint: Paint::stdout(), terminal: io::stdout().is_terminal() }
    }

    /// Whether a person reads it.
    pub(crate) const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Writes the one document of a command with `--json`.
    pub(crate) fn document(self, document: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(document).map_err(io::Error::from)?;
        text.push(b'\n');
        Ok(self.bytes(&text)?)
    }

    /// Writes one of several documents, each of which is a line.
    pub(crate) fn json_line(self, document: &impl Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(document).map_err(io::Error::from)?;
        text.push(b'\n');
        Ok(self.bytes(&text)?)
    }

    /// Writes a piece of a text, without an end of line. On a terminal it cannot move the cursor or change colours.
    pub(crate) fn piece(self, text: &str) -> Result<(), Failure> {
        let shown = if self.terminal { printable(text) } else { text.to_owned() };
        Ok(self.bytes(shown.as_bytes())?)
    }

    /// Writes what controls the terminal.
    pub(crate) fn control(self, sequence: &str) -> Result<(), Failure> {
        Ok(self.bytes(sequence.as_bytes())?)
    }

    pub(crate) fn line(self, line: impl Display) -> Result<(), Failure> {
        Ok(self.bytes(format!("{line}\n").as_bytes())?)
    }

    /// What a model or a person wrote, whole. On a terminal it cannot move the cursor or change colours.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        if self.terminal { self.line(printable(text)) } else { self.line(text) }
    }

    fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}

/// What became of writing, where a reader who left has seen enough and everybody else is told.
pub(crate) fn unless_gone(written: Result<(), Failure>) -> Result<(), Failure> {
    written.or_else(|failure| if failure.is_broken_pipe() { Ok(()) } else { Err(failure) })
}

/// Writes a line to standard error. One that cannot be written has nobody to read it.
pub(crate) fn note(line: impl Display) {
    _ = write_stderr(format!("{line}\n").as_bytes());
}

/// Writes a hint to standard error.
pub(crate) fn hint(text: &str) {
    note(format_args!("{} {text}", Paint::stderr().hint("hint:")));
}

/// Says why a command failed: on standard error for people, and for programs as the document.
pub(crate) fn report(failure: &Failure, output: Output) {
    say(failure);
    if output.json {
        document(failure);
    }
}

/// Says on standard error why a command failed.
pub(crate) fn say(failure: &Failure) {
    let paint = Paint::stderr();
    note(format_args!("{} {}", paint.error("error:"), printable(&failure.message)));
    if let Some(text) = &failure.hint {
        hint(text);
    }
}

/// Writes the document of a command that failed.
pub(crate) fn document(failure: &Failure) {
    let document = serde_json::json!({
        "status": failure.status(),
        "code": failure.code,
        "error": failure.message,
        "hint": failure.hint,
    });
    // Whoever reads it has gone if it cannot be written.
    _ = Output::new(true).document(&document);
}

/// The text with every control character but line breaks and tabs made visible.
pub(crate) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// The text on one line of at most `max` characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let flat: String = text.chars().take(max + 1).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() <= max {
        return flat;
    }
    flat.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A duration for people: `12ms`, `3.4s`, `2m05s`, `1h02m`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

/// The time of day, in UTC: `13:05:00.120Z`.
pub(crate) fn clock(at: Timestamp) -> String {
    let since = Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    let Some(at) = SystemTime::UNIX_EPOCH.checked_add(since) else { return String::new() };
    let written = humantime::format_rfc3339_millis(at).to_string();
    written.split_once('T').map(|(_, time)| time.to_owned()).unwrap_or_default()
}

/// How long ago something was: `just now`, `5m ago`, `3d ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = (now - then).as_secs();
    match seconds {
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Tokens for people: `0 tokens`, `1 token`, `12.3k tokens`.
pub(crate) fn tokens(usage: Usage) -> String {
    match usage.total() {
        1 => "1 token".to_owned(),
        total @ 0..10_000 => format!("{total} tokens"),
        total @ 10_000..1_000_000 => format!("{}.{}k tokens", total / 1_000, total / 100 % 10),
        total => format!("{}.{}M tokens", total / 1_000_000, total / 100_000 % 10),
    }
}

/// Lines of columns, each as wide as its widest cell.
pub(crate) fn table(paint: Paint, head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = paint.bold(line(&mut head.iter().copied()));
    std::iter::once(head).chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n\tc\u{9b}"), "a\u{fffd}[31mb\n\tc\u{fffd}");
        assert_eq!(one_line("a\nb\u{1b}c", 10), "a b c");
        assert_eq!(one_line("abcdef", 4), "abc…");
        assert_eq!(one_line("äöüß", 4), "äöüß");
    }

    #[test]
    fn durations_read_well() {
        let of = |ms| elapsed(Duration::from_millis(ms));
        assert_eq!(
            [of(0), of(999), of(3_449), of(59_999), of(125_000), of(3_725_000)],
            ["0ms", "999ms", "3.4s", "59.9s", "2m05s", "1h02m"]
        );
        assert_eq!(ago(Timestamp(0), Timestamp(300_000)), "5m ago");
        assert_eq!(ago(Timestamp(10), Timestamp(0)), "just now");
    }

    #[test]
    fn a_time_of_day_says_of_which_clock() {
        assert_eq!(clock(Timestamp(3_661_001)), "01:01:01.001Z");
        assert_eq!(clock(Timestamp(-1)), "00:00:00.000Z");
    }

    #[test]
    fn tokens_read_well() {
        let of = |input| tokens(Usage { input, output: 0, cached: 0 });
        assert_eq!(
            [of(0), of(1), of(9_999), of(12_345), of(2_500_000)],
            ["0 tokens", "1 token", "9999 tokens", "12.3k tokens", "2.5M tokens"]
        );
    }

    #[test]
    fn columns_line_up() {
        let lines = table(Paint(false), &["A", "LONG"], &[vec!["long".into(), "x".into()]]);
        assert_eq!(lines, ["A     LONG", "long  x"]);
    }
}
