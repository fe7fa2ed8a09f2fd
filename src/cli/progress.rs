//! What a person sees of the tree while it works. Always on standard error.
//!
//! On a terminal it is a picture that is drawn again and again; elsewhere a summary now and then. A command
//! that is done within a second shows neither. With `--verbose` each change of a run's state is a line.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use offshoot_actors::ports::Clock;
use offshoot_actors::types::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::journal::{Counts, Drawn, Journal};
use super::output::{Paint, elapsed, note, one_line, tokens};
use crate::telemetry;

/// What is done before this needs no display.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two pictures; the eye wants no more.
const FRAME: Duration = Duration::from_millis(100);
/// Between two summaries in a file or a pipe.
const SUMMARY: Duration = Duration::from_secs(10);
/// Runs in the picture; a terminal has at least 24 lines.
const MAX_RUNS: usize = 16;

/// How the tree is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Picture,
    Summary,
    /// Only lines.
    Nothing,
}

/// Shows the tree until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    done: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    /// Shows what the journal has seen by the clock, and its lines.
    pub(crate) fn start(
        (journal, clock, lines): (Arc<Journal>, Arc<dyn Clock>, mpsc::Receiver<String>),
        verbose: bool,
        json: bool,
    ) -> Self {
        let show = match (json, std::io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Picture,
            (false, false) if verbose => Show::Nothing,
            (false, false) => Show::Summary,
        };
        let done = CancellationToken::new();
        let display = Display { journal, began: clock.now(), clock, show, bar: None };
        let task = tokio::spawn(display.run(lines, done.clone()));
        Self { done, task: Some(task) }
    }

    /// Takes the display away, before anything else is written.
    pub(crate) async fn finish(mut self) {
        self.done.cancel();
        if let Some(task) = self.task.take() {
            // A display that failed has nothing to take away.
            _ = task.await;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done.cancel();
    }
}

struct Drawing(ProgressBar);

impl telemetry::Picture for Drawing {
    fn make_room(&self, write: &mut dyn FnMut()) {
        self.0.suspend(write);
    }

    fn leave(&self) {
        self.0.finish_and_clear();
    }
}

struct Display {
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    began: Timestamp,
    show: Show,
    bar: Option<ProgressBar>,
}

impl Display {
    async fn run(mut self, mut lines: mpsc::Receiver<String>, done: CancellationToken) {
        let mut next = PATIENCE;
        loop {
            tokio::select! {
                biased;
                // The journal, which this display holds, has the sender.
                Some(line) = lines.recv() => note(line),
                () = done.cancelled() => break,
                () = self.clock.sleep(next), if self.show != Show::Nothing => {
                    next = self.draw();
                }
            }
        }
        while let Ok(line) = lines.try_recv() {
            note(line);
        }
        if let Some(bar) = self.bar.take() {
            telemetry::show(None);
            bar.finish_and_clear();
        }
    }

    /// Shows how things stand, and says when to do so again.
    fn draw(&mut self) -> Duration {
        let now = self.clock.now();
        if self.show == Show::Summary {
            note(summary(&self.journal.counts(), now - self.began));
            return SUMMARY;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            telemetry::show(Some(Box::new(Drawing(bar.clone()))));
            bar
        });
        let (counts, runs) = self.journal.drawn(MAX_RUNS);
        bar.set_message(picture(&counts, &runs, now, now - self.began));
        bar.tick();
        FRAME
    }
}

/// One line that counts.
fn summary(counts: &Counts, elapsed_so_far: Duration) -> String {
    let mut parts = vec![format!("{} running", counts.running)];
    for (count, what) in [(counts.yielded, "waiting"), (counts.queued, "queued"), (counts.ended, "ended")] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{}: {}, {}", elapsed(elapsed_so_far), parts.join(", "), tokens(counts.usage))
}

/// A line for each of the runs under a line that counts all of them.
fn picture(counts: &Counts, runs: &[Drawn], now: Timestamp, elapsed_so_far: Duration) -> String {
    let paint = Paint::stderr();
    let mut lines = vec![paint.bold(summary(counts, elapsed_so_far))];
    for drawn in runs {
        let run = &drawn.run;
        let mut parts = vec![format!("{}{}", "  ".repeat(drawn.depth + 1), one_line(&name(drawn), 48))];
        parts.push(paint.state(run.state.as_str()));
        parts.extend(run.elapsed(now).map(elapsed));
        parts.push(tokens(run.usage));
        let tools: Vec<&str> = run.tools.iter().map(|(_, name)| name.as_ref()).take(3).collect();
        if !tools.is_empty() {
            parts.push(paint.dim(one_line(&tools.join(", "), 40)));
        }
        lines.push(parts.join("  "));
    }
    if counts.runs() > runs.len() {
        lines.push(paint.dim(format!("  … and {} more", counts.runs() - runs.len())));
    }
    lines.join("\n")
}

/// A short name: the label, or the agent and the beginning of the session's id.
fn name(drawn: &Drawn) -> String {
    if let Some(label) = &drawn.label {
        return label.clone();
    }
    let session = &drawn.run.session;
    match session.as_str().rsplit_once(':') {
        Some((head, id)) if session.is_subagent() => {
            format!("{head}:{}", id.chars().take(8).collect::<String>())
        }
        _ => session.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use offshoot_actors::ports::{Cause, Event, EventSink, TokioClock};
    use offshoot_actors::types::{Outcome, RunId, SessionKey, Usage};

    use super::*;

    fn journal(runs: u128) -> Journal {
        let (journal, _) = Journal::new(Arc::new(TokioClock::starting_at(Timestamp(0))), false);
        let session: SessionKey = "agent:main:subagent:0123456789abcdef".parse().unwrap();
        for n in 0..runs {
            let run = RunId(uuid::Uuid::from_u128(n));
            journal.publish(Event::Submitted {
                session: session.clone(),
                run,
                cause: Cause::Message,
                wire_id: None,
            });
            if n % 2 == 0 {
                let (session, outcome) = (session.clone(), Outcome::ok("done"));
                let usage = Usage { input: 1, output: 1, cached: 0 };
                journal.publish(Event::Started { session: session.clone(), run });
                journal.publish(Event::Ended { session, run, outcome, usage, steps: 1 });
            }
        }
        journal
    }

    #[test]
    fn the_summary_counts() {
        let text = summary(&journal(5).counts(), Duration::from_secs(2));
        assert_eq!(text, "2.0s: 0 running, 2 queued, 3 ended, 6 tokens");
    }

    #[test]
    fn the_picture_is_bounded_and_shows_open_runs_first() {
        let (counts, runs) = journal(100).drawn(MAX_RUNS);
        let text = picture(&counts, &runs, Timestamp(5), Duration::from_secs(2));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), MAX_RUNS + 2);
        assert!(lines[1].contains("agent:main:subagent:01234567") && lines[1].contains("queued"), "{text}");
        assert!(lines[MAX_RUNS + 1].contains("84 more"), "{text}");
    }
}
