//! The retention actor: archives sessions that have been quiet for long, deletes those that were to be deleted and could
//! not be at once, and forgets what is old.
//!
//! It owns nothing but its timer: what is due is told by what is stored and the calendar, so that a restart of it or of
//! the daemon loses nothing. A look takes a bounded number of sessions, in pages with a pause after each, and comes again
//! soon where it left some over. A session is written to its file first and deleted in a commit of its own after that,
//! only as it was read: what comes to it meanwhile keeps it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use offshoot_actors::policy::retention::{LOOK, Seen, due, pause};
use offshoot_actors::ports::{
    AuditRecord, Clock, Op, QuietFilter, QuietSession, Refused, Storage, StoreError, Transaction,
};
use offshoot_actors::types::{Cleanup, Origin, RetentionSettings, SessionKey, Timestamp};
use tokio::sync::oneshot;

use super::daemon::Daemon;
use super::projector::Change;
use crate::archive::{self, ArchiveError};

/// After a start others have more to do.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// Sessions that are read, exported and deleted together.
const PAGE: u32 = 100;
/// Most sessions of one look.
const MOST: u32 = 2_000;
/// After a page, for everybody else.
const BREATH: Duration = Duration::from_millis(20);
/// Most rows that one look forgets.
const FORGET_REQUESTS: u32 = 2_000;
const FORGET_SESSIONS: u32 = 500;

/// What the retention is told.
#[derive(Debug)]
pub(crate) enum RetentionMsg {
    /// Time for a look. From a timer.
    Look,
    /// It is over. From its task.
    Looked(Result<Seen, RetentionError>),
}

impl Msg for RetentionMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Looked(_) => "looked",
        }
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetentionError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The retention's state.
#[derive(Debug)]
pub(crate) struct Retention {
    daemon: Arc<Daemon>,
    /// The timer of the next look, or the look itself.
    _look: Task,
}

impl Behaviour for Retention {
    const KIND: &'static str = "retention";

    type Msg = RetentionMsg;
    type Args = Arc<Daemon>;
    type Child = Infallible;

    async fn start(args: &mut Arc<Daemon>, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        Ok(Self { daemon: Arc::clone(args), _look: ctx.after(FIRST_LOOK, RetentionMsg::Look) })
    }

    fn handle(&mut self, message: RetentionMsg, ctx: &mut Ctx<Self>) {
        match message {
            RetentionMsg::Look => {
                let daemon = Arc::clone(&self.daemon);
                self._look = ctx.task(async move { look(&daemon).await }, RetentionMsg::Looked);
            }
            RetentionMsg::Looked(looked) => {
                let wait = match looked {
                    Ok(seen) => {
                        let settings = self.daemon.config().settings.retention;
                        pause(&settings, seen, self.daemon.clock.now())
                    }
                    Err(error) => {
                        tracing::warn!(%error, "sessions that are due could not be archived, will try again");
                        LOOK
                    }
                };
                self._look = ctx.after(wait, RetentionMsg::Look);
            }
        }
    }
}

async fn look(daemon: &Daemon) -> Result<Seen, RetentionError> {
    let Ok(storage) = daemon.tree().map(|tree| Arc::clone(tree.storage())) else {
        return Ok(Seen::default());
    };
    let keeper = Keeper {
        storage,
        clock: Arc::clone(&daemon.clock),
        state_dir: daemon.state_dir.clone(),
        tell: &|session| daemon.project_change(Change { session, reason: "delete", now: None }),
    };
    keeper.look(&daemon.config().settings.retention).await
}

/// What a look needs.
struct Keeper<'a> {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    state_dir: PathBuf,
    /// Hears of each session that is gone.
    tell: &'a (dyn Fn(SessionKey) + Send + Sync),
}

/// Which sessions go, and how.
#[derive(Debug, Clone, Copy)]
struct Pass {
    cleanup: Cleanup,
    until: Timestamp,
    export: bool,
}

impl Keeper<'_> {
    async fn look(&self, settings: &RetentionSettings) -> Result<Seen, RetentionError> {
        let due = due(settings, self.clock.now());
        let mut left = MOST;
        let deleted =
            Pass { cleanup: Cleanup::Delete, until: Timestamp(i64::MAX), export: settings.export_deleted };
        let archived = due.archive.map(|until| Pass { cleanup: Cleanup::Keep, until, export: true });
        let mut more = false;
        // A session that goes may have kept its parent.
        loop {
            let before = left;
            for pass in archived.into_iter().chain([deleted]) {
                self.pass(pass, &mut left).await?;
            }
            more |= left == 0;
            if left == before || left == 0 {
                break;
            }
        }
        self.commit(vec![Op::ForgetRequests { before: due.requests, limit: FORGET_REQUESTS }]).await??;
        if let Some(before) = due.sessions {
            self.commit(vec![Op::ForgetSessions { before, limit: FORGET_SESSIONS }]).await??;
        }
        let next = match due.archive {
            Some(until) => {
                let written = Timestamp(until.0.saturating_add(1))..=Timestamp(i64::MAX);
                let filter = QuietFilter { written, after: None, cleanup: Cleanup::Keep };
                let found = self.storage.quiet_sessions(filter, 1).await?;
                found.first().map(|session| session.row.updated_at)
            }
            None => None,
        };
        Ok(Seen { more, next })
    }

    /// Goes once through the sessions of a kind, the oldest first. `left` counts those that are gone.
    async fn pass(&self, pass: Pass, left: &mut u32) -> Result<(), RetentionError> {
        let (mut from, mut after) = (Timestamp(i64::MIN), None);
        while *left > 0 {
            let filter =
                QuietFilter { written: from..=pass.until, after: after.take(), cleanup: pass.cleanup };
            let page = self.storage.quiet_sessions(filter, PAGE.min(*left)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            (from, after) = (last.row.updated_at, Some(last.row.key.clone()));
            let gone = self.retire(&page, pass.export).await?;
            *left = left.saturating_sub(gone);
            self.clock.sleep(BREATH).await;
        }
        Ok(())
    }

    /// Exports sessions where that is asked for, then deletes them. Returns how many are gone: not those to which something
    /// came meanwhile.
    async fn retire(&self, sessions: &[QuietSession], export: bool) -> Result<u32, RetentionError> {
        let at = self.clock.now();
        let (mut transactions, mut directories) = (Vec::with_capacity(sessions.len()), BTreeSet::new());
        let mut unwritten = None;
        for QuietSession { row, entries } in sessions {
            let (event, facts) = if export {
                let archived = archive::write(&self.state_dir, self.storage.as_ref(), row, at).await;
                // One that cannot be read or written holds nobody else up.
                let Ok((file, written)) =
                    archived.map_err(|error| unwritten = Some((row.key.clone(), error)))
                else {
                    continue;
                };
                if written != *entries {
                    continue;
                }
                directories.extend(file.parent().map(ToOwned::to_owned));
                ("session.archived", vec![("file", file.display().to_string())])
            } else {
                ("session.deleted", vec![("cleanup", "delete".to_owned())])
            };
            let (session, entries) = (row.key.clone(), *entries);
            let retired = Op::RetireSession { session: session.clone(), written_at: row.updated_at, entries };
            let (origin, about) = (Origin::Timer, Some(session.clone()));
            let audit = AuditRecord { at, event, origin, session: about, run: None, facts };
            transactions.push((session, vec![retired, Op::Audit(Box::new(audit))]));
        }
        if let Some((session, error)) = unwritten {
            tracing::warn!(%session, %error, "a session could not be archived, perhaps others too; it stays");
        }
        archive::settle(directories).await?;
        let fates = transactions.into_iter().map(|(session, transaction)| {
            let fate = self.commit(transaction);
            async move { (session, fate.await) }
        });
        let (mut gone, mut failed) = (0, None);
        for (session, fate) in join_all(fates).await {
            match fate {
                Ok(Ok(())) => {
                    gone += 1;
                    (self.tell)(session);
                }
                // What is damaged of one concerns no other.
                Ok(Err(Refused::Storage(error))) if !error.passes() => {
                    tracing::warn!(%session, %error, "a session could not be retired; it stays");
                }
                Ok(Err(Refused::Storage(error))) | Err(error) => failed = Some(error),
                // Something came to it meanwhile; it is due again later.
                Ok(Err(_)) => {}
            }
        }
        failed.map_or(Ok(gone), |error| Err(error.into()))
    }

    /// Submits at once; the fate is what is awaited.
    fn commit(
        &self,
        transaction: Transaction,
    ) -> impl Future<Output = Result<Result<(), Refused>, StoreError>> + use<> {
        let (sender, receiver) = oneshot::channel();
        // Nobody listens any more once the look was given up.
        self.storage.submit(transaction, Box::new(move |fate| drop(sender.send(fate))));
        async move {
            receiver.await.map_err(|_| StoreError::Unavailable("it went away before it answered".to_owned()))
        }
    }
}

impl From<Refused> for RetentionError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Storage(error) => error.into(),
            other => StoreError::Other(other.to_string()).into(),
        }
    }
}

#[cfg(test)]
mod tests;
