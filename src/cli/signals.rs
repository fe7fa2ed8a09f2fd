//! Ctrl-C and SIGTERM.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::exit::Exit;
use super::output::note;
use crate::telemetry;

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

/// Takes the signals from when it is made until the process ends: the first one is for the command, a Ctrl-C
/// after that leaves at once, whatever the command is waiting for.
#[derive(Debug)]
pub(crate) struct Signals {
    first: watch::Receiver<Option<Signal>>,
}

impl Signals {
    /// # Errors
    /// The system refuses. Must be called inside a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (tell, first) = watch::channel(None);
        tokio::spawn(async move {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
            };
            note(format_args!("{}: stopping; Ctrl-C again leaves at once", signal.name()));
            tell.send_replace(Some(signal));
            interrupt.recv().await;
            leave();
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

/// What is committed stays; what is open is settled by the next command.
fn leave() -> ! {
    let line = "left at once: the next command settles the runs that were open";
    telemetry::leave(line, i32::from(Exit::Interrupted as u8))
}
