//! The terminal: taken over while `top` runs, and given back however it ends.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::Once;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::super::exit::Failure;

/// The terminal as long as it is ours.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take() -> Result<Self, Failure> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Err(Failure::usage("top needs a terminal for its input and its output")
                .with_hint("`offshoot tree --watch` writes to a pipe or a file as well"));
        }
        let failed = |error: io::Error| Failure::system("the terminal cannot be used", &error);
        give_back_on_panic();
        enable_raw_mode().map_err(failed)?;
        let taken = execute!(io::stdout(), EnterAlternateScreen, Hide);
        let made = taken.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match made {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(failed(error))
            }
        }
    }

    /// Has the terminal copy a text (OSC 52). Those that cannot leave it out.
    pub(super) fn copy(text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "\u{1b}]52;c;{}\u{7}", STANDARD.encode(text))?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. A second time does nothing.
fn give_back() {
    // A terminal that is gone needs nothing back.
    _ = disable_raw_mode();
    _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

/// Before the panic is told, so that it can be read.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            told(info);
        }));
    });
}
