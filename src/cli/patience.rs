//! Work on the state directory that may take long, and what a person sees of it meanwhile.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::ProgressBar;

use super::Global;
use super::exit::{Exit, Failure};
use super::output::note;
use crate::store::backup::Progress;

/// What is done before this needs no display.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two lines in a file or a pipe.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two pictures on a terminal.
const FRAME: Duration = Duration::from_millis(200);

/// Does the work on a thread of its own, and shows how far it is if it takes long.
pub(crate) fn shown<T: Send + 'static>(
    global: &Global,
    work: impl FnOnce(&Progress) -> T + Send + 'static,
) -> Result<T, Failure> {
    let progress = Arc::new(Progress::default());
    let (done, is_done) = channel();
    let theirs = Arc::clone(&progress);
    let thread = std::thread::Builder::new().name("work".to_owned()).spawn(move || {
        // Whoever waits for it waits below.
        _ = done.send(work(&theirs));
    });
    thread.map_err(|error| Failure::system("a thread cannot be started", &error))?;
    let terminal = std::io::stderr().is_terminal();
    let mut bar: Option<ProgressBar> = None;
    let mut pause = PATIENCE;
    let worked = loop {
        match is_done.recv_timeout(pause) {
            Ok(worked) => break Some(worked),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) if global.output.json => {}
            Err(RecvTimeoutError::Timeout) if terminal => {
                pause = FRAME;
                bar.get_or_insert_with(ProgressBar::new_spinner).set_message(progress.text());
            }
            Err(RecvTimeoutError::Timeout) => {
                pause = AGAIN;
                note(progress.text());
            }
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    worked
        .ok_or_else(|| Failure::new(Exit::Unavailable, "system", "the work on the state directory panicked"))
}
