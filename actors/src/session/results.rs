//! The results of runs, and who is told of them.

use std::sync::Arc;

use super::{SessionMsg, prompts};
use crate::ports::{Announce, Event, RunEnd, RunRow};
use crate::sessions::SessionsMsg;
use crate::shared::Shared;
use crate::types::{AnnounceItem, Cleanup, ModelRef, SessionKey, Terminal, Timestamp, Usage};

/// Who gets a run's result: of one that was to have it and went away, the name.
pub(crate) fn receiver(row: &RunRow, outlived: Option<&SessionKey>) -> Option<SessionKey> {
    row.announce_to.as_ref().or(outlived.filter(|_| row.expects_completion)).cloned()
}

/// The announce of a run's end for `to`, if that one is to have one; `used` is what the tree of its session has used.
#[expect(clippy::too_many_arguments, reason = "each is one fact of the result")]
pub(crate) fn announce_of(
    row: &RunRow,
    to: Option<SessionKey>,
    end: &RunEnd,
    started: Option<Timestamp>,
    quiet: bool,
    used: Usage,
    label: Option<&String>,
    cleanup: Cleanup,
) -> Option<Announce> {
    let to = to?;
    let silent =
        end.outcome.state == Terminal::Ok && end.outcome.text.as_deref().is_some_and(prompts::is_silent);
    if !row.expects_completion || silent {
        return None;
    }
    let item = AnnounceItem {
        run: row.id,
        session: row.session.clone(),
        label: label.cloned(),
        state: end.outcome.state,
        reason: end.outcome.reason.clone(),
        text: end.outcome.text.clone(),
        usage: used,
        duration_ms: started
            .map_or(0, |started| u64::try_from((end.at - started).as_millis()).unwrap_or(u64::MAX)),
        steps: end.steps,
    };
    Some(Announce { to, spawner: row.spawner, cleanup, quiet, at: end.at, item })
}

/// Tells everybody of a run's end that is committed.
/// `model` is the one that was called last, where that is at hand.
pub(crate) fn notify_end(
    shared: &Shared,
    row: &RunRow,
    end: &RunEnd,
    announce: Option<Announce>,
    model: Option<&ModelRef>,
) {
    tell_end(shared, row, end, model);
    if let Some(parent) = &row.announce_to {
        let announce = announce.map(Box::new);
        shared.deliver(parent, SessionMsg::ChildEnded { run: end.run, announce });
    }
}

/// Tells everybody but the parent of a run's end that is committed.
pub(crate) fn tell_end(shared: &Shared, row: &RunRow, end: &RunEnd, model: Option<&ModelRef>) {
    shared.book.ended(row, end, model, |key| Some(Arc::clone(&shared.live.get(key)?.meta)));
    shared.publish(Event::Ended {
        session: row.session.clone(),
        run: end.run,
        outcome: end.outcome.clone(),
        usage: end.usage,
        steps: end.steps,
    });
    shared.ended(end.run, &end.outcome);
    // A manager that is being restarted counts anew when it starts.
    drop(shared.sessions.send(SessionsMsg::RunEnded { run: end.run }));
}
