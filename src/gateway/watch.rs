//! The text and the end of one run, for whoever passes them on while they come.
//!
//! A watch begins before its run is submitted, under the name that the run is given: nothing of the run is missed. What
//! is not fetched piles up as one text, never as a list of pieces, and is no longer than what the run itself holds.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offshoot_actors::ports::Event;
use offshoot_actors::types::{Outcome, RunId, Terminal, Usage};
use tokio::sync::Notify;

use super::daemon::Daemon;

/// Stands between the texts of two steps.
const BETWEEN: &str = "\n\n";

/// What became of a run since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Update {
    /// More text.
    Text(String),
    /// The end. Nothing comes after it.
    Ended(Outcome, Usage),
}

/// Every run that is watched.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    lists: Mutex<Lists>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lists {
    /// Those whose run is not accepted yet, by the name that it will have.
    named: HashMap<String, Arc<Watched>>,
    accepted: HashMap<RunId, Arc<Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    text: Mutex<Text>,
    changed: Notify,
}

impl Watches {
    /// Whether any run is watched.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Takes what is new of a run that is watched.
    pub(crate) fn hear(&self, event: &Event) {
        if !self.any() {
            return;
        }
        match event {
            Event::Submitted { run, wire_id: Some(name), .. } => {
                let mut lists = self.lock();
                if let Some(watched) = lists.named.remove(name) {
                    lists.accepted.insert(*run, watched);
                }
            }
            Event::Text { run, piece, .. } => self.change(*run, |text| text.piece(piece)),
            Event::StepRestarted { run, .. } => self.change(*run, Text::restart),
            Event::StepFinished { run, .. } => self.change(*run, Text::finish_step),
            Event::Ended { run, outcome, usage, .. } => {
                self.change(*run, |text| text.end(outcome.clone(), *usage));
            }
            _ => {}
        }
    }

    fn change(&self, run: RunId, change: impl FnOnce(&mut Text)) {
        let Some(watched) = self.lock().accepted.get(&run).map(Arc::clone) else { return };
        change(&mut watched.lock());
        watched.changed.notify_one();
    }

    fn begin(&self, name: &str) -> Arc<Watched> {
        let watched = Arc::<Watched>::default();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.lock().named.insert(name.to_owned(), Arc::clone(&watched));
        watched
    }

    fn end(&self, name: &str, watched: &Arc<Watched>) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut lists = self.lock();
        if lists.named.get(name).is_some_and(|other| Arc::ptr_eq(other, watched)) {
            lists.named.remove(name);
        }
        lists.accepted.retain(|_, other| !Arc::ptr_eq(other, watched));
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who watches a run; forgotten when dropped.
pub(crate) struct RunWatch {
    daemon: Arc<Daemon>,
    name: String,
    watched: Arc<Watched>,
}

impl Daemon {
    /// Watches the run that will be submitted under this name, which nobody else uses.
    pub(crate) fn watch_run(self: &Arc<Self>, name: &str) -> RunWatch {
        RunWatch { daemon: Arc::clone(self), name: name.to_owned(), watched: self.watches.begin(name) }
    }
}

impl RunWatch {
    /// Waits for what comes next. May be dropped and asked again.
    pub(crate) async fn next(&self) -> Update {
        loop {
            if let Some(update) = self.watched.lock().take() {
                return update;
            }
            self.watched.changed.notified().await;
        }
    }
}

impl Drop for RunWatch {
    fn drop(&mut self) {
        self.daemon.watches.end(&self.name, &self.watched);
    }
}

impl fmt::Debug for RunWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunWatch").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The text of a run on its way to one who reads it: what was handed out cannot be taken back.
#[derive(Debug, Default)]
struct Text {
    /// To be handed out.
    ready: String,
    /// The text of the step in hand, or of the last one until the next begins.
    step: String,
    /// How much of it has become ready.
    given: usize,
    /// Whether the step in hand is over.
    over: bool,
    /// What was handed out of a step that is being made again.
    void: String,
    /// Whether anything was ever handed out.
    spoken: bool,
    end: Option<(Outcome, Usage)>,
}

impl Text {
    fn piece(&mut self, piece: &str) {
        if std::mem::take(&mut self.over) {
            self.step.clear();
            self.given = 0;
        }
        self.step.push_str(piece);
    }

    /// The step is made again: often it says the same, and then nothing is said twice.
    fn restart(&mut self) {
        if !self.over && self.given > 0 {
            self.void = self.step[..self.given].to_owned();
        }
        self.step.clear();
        self.given = 0;
        self.over = false;
    }

    fn finish_step(&mut self) {
        self.flush();
        if !std::mem::take(&mut self.void).is_empty() {
            // All that the step says was said before it was made again.
            self.given = self.step.len();
        }
        self.over = true;
    }

    fn end(&mut self, outcome: Outcome, usage: Usage) {
        if !self.over {
            self.finish_step();
        }
        // A model that does not stream has only said it here.
        if let (Terminal::Ok, Some(text)) = (outcome.state, &outcome.text)
            && *text != self.step
        {
            self.piece(text);
            self.finish_step();
        }
        self.end = Some((outcome, usage));
    }

    fn flush(&mut self) {
        if !self.void.is_empty() {
            if self.step.starts_with(&self.void) {
                self.given = self.void.len();
                self.void.clear();
            } else if self.void.starts_with(&self.step) {
                return;
            } else {
                self.void.clear();
            }
        }
        if self.step.len() > self.given {
            if self.given == 0 && self.spoken {
                self.ready.push_str(BETWEEN);
            }
            self.ready.push_str(&self.step[self.given..]);
            self.given = self.step.len();
            self.spoken = true;
        }
    }

    fn take(&mut self) -> Option<Update> {
        if !self.over {
            self.flush();
        }
        if !self.ready.is_empty() {
            return Some(Update::Text(std::mem::take(&mut self.ready)));
        }
        self.end.take().map(|(outcome, usage)| Update::Ended(outcome, usage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &mut Text) -> String {
        match text.take() {
            Some(Update::Text(text)) => text,
            None => String::new(),
            Some(ended) => panic!("{ended:?}"),
        }
    }

    fn all(mut text: Text) -> (String, Option<Update>) {
        let mut whole = String::new();
        loop {
            match text.take() {
                Some(Update::Text(more)) => whole.push_str(&more),
                last => return (whole, last),
            }
        }
    }

    #[test]
    fn pieces_become_one_text_and_steps_stay_apart() {
        let mut run = Text::default();
        run.piece("a");
        run.piece("b");
        assert_eq!(text(&mut run), "ab");
        run.piece("c");
        run.finish_step();
        run.finish_step();
        run.piece("d");
        run.finish_step();
        run.end(Outcome::ok("d"), Usage::default());
        let (rest, end) = all(run);
        assert_eq!(rest, "c\n\nd");
        assert_eq!(end, Some(Update::Ended(Outcome::ok("d"), Usage::default())));
    }

    #[test]
    fn a_step_that_is_made_again_says_nothing_twice() {
        let mut run = Text::default();
        run.piece("one two");
        assert_eq!(text(&mut run), "one two");
        run.restart();
        run.piece("one");
        assert_eq!(text(&mut run), "");
        run.piece(" two three");
        assert_eq!(text(&mut run), " three");
        run.restart();
        run.restart();
        run.piece("one two three");
        run.finish_step();
        run.end(Outcome::ok("one two three"), Usage::default());
        assert_eq!(all(run).0, "");
    }

    #[test]
    fn a_step_that_says_something_else_is_set_apart() {
        let mut run = Text::default();
        run.piece("one two");
        assert_eq!(text(&mut run), "one two");
        run.restart();
        run.piece("three");
        assert_eq!(text(&mut run), "\n\nthree");
        run.restart();
        run.piece("never handed out");
        run.restart();
        run.piece("three!");
        assert_eq!(text(&mut run), "!");
    }

    #[test]
    fn void_text_that_nobody_has_seen_is_forgotten() {
        let mut run = Text::default();
        run.piece("wrong");
        run.restart();
        run.piece("right");
        run.finish_step();
        run.end(Outcome::ok("right"), Usage::default());
        assert_eq!(all(run).0, "right");
    }

    #[test]
    fn an_answer_that_was_not_streamed_comes_with_the_end() {
        let mut run = Text::default();
        run.piece("first");
        run.finish_step();
        run.finish_step();
        run.end(Outcome::ok("last"), Usage::default());
        assert_eq!(all(run).0, "first\n\nlast");
        let mut run = Text::default();
        run.end(Outcome::ended(Terminal::Error, "why", Some("partial".to_owned())), Usage::default());
        assert_eq!(all(run).0, "");
    }
}
