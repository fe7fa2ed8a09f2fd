//! Ctrl-C and SIGTERM.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::exit::Exit;
use super::output::note;
use crate::telemetry;

/// What the system sends to a process whose limit on file sizes is reached.
const FILE_SIZE: i32 = rustix::process::Signal::XFSZ.as_raw();

/// A wish of the person, or of the system, that the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Whose signals they are, which decides what a second one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// A command with a tree of its own: a second Ctrl-C leaves.
    Command,
    /// A command that asked a gateway: a second Ctrl-C leaves.
    Client,
    /// The gateway: any second one leaves.
    Gateway,
}

impl Process {
    const fn line(self) -> &'static str {
        match self {
            Self::Command => "left at once: the next command settles the runs that were open",
            Self::Client => "left at once: the gateway goes on with what it was asked",
            Self::Gateway => "left at once: the next start settles the runs that were open",
        }
    }
}

/// Takes the signals from when it is made until the process ends: the first one is for the command, a second one leaves
/// at once, whatever the command is waiting for.
#[derive(Debug)]
pub(crate) struct Signals {
    first: watch::Receiver<Option<Signal>>,
}

impl Signals {
    /// # Errors
    /// The system refuses. Must be called inside a runtime.
    pub(crate) fn listen(process: Process) -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // A file that may not grow any more is an error of the write, not the end of the process. Once somebody has
        // listened, the signal does nothing.
        drop(signal(SignalKind::from_raw(FILE_SIZE))?);
        let (tell, first) = watch::channel(None);
        tokio::spawn(async move {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
            let again = if process == Process::Gateway { "a second signal" } else { "Ctrl-C again" };
            note(format_args!("{}: stopping; {again} leaves at once", signal.name()));
            tell.send_replace(Some(signal));
            let again = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv(), if process == Process::Gateway => Signal::Terminate,
            };
            leave(process, again);
        });
        Ok(Self { first })
    }

    /// The first signal.
    pub(crate) async fn first(&mut self) -> Signal {
        match self.first.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            // The listener ends with the process only.
            _ => std::future::pending().await,
        }
    }
}

/// What is committed stays.
fn leave(process: Process, again: Signal) -> ! {
    telemetry::leave(process.line(), i32::from(again.exit() as u8))
}
