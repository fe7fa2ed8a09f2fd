//! The end of a run that nobody executes any more, as it is committed.

use crate::ports::{Announce, AuditRecord, Op, RunEnd, RunRow, SubtreeRun, Transaction};
use crate::session::{announce_of, receiver};
use crate::types::{Cleanup, Origin, Outcome, RunId, SessionKey, Timestamp, Usage};

/// The end of one run, decided and not committed yet.
pub(crate) struct Ending {
    pub(crate) row: RunRow,
    pub(crate) end: RunEnd,
    pub(crate) announce: Option<Announce>,
    /// A child that announces nothing is deleted by itself.
    delete: Option<SessionKey>,
    /// The session and its parent, if that may have become another one meanwhile.
    parent: Option<(SessionKey, Option<SessionKey>)>,
    audit: AuditRecord,
}

/// What the audit record says of it beside the run and the time.
pub(crate) struct Record {
    pub(crate) event: &'static str,
    pub(crate) origin: Origin,
    pub(crate) facts: Vec<(&'static str, String)>,
}

impl Ending {
    /// Ends `run` with what it had used when it was last written. A parent that was stopped too takes the result
    /// without a run (`quiet`).
    pub(crate) fn new(run: SubtreeRun, outcome: Outcome, quiet: bool, record: Record, at: Timestamp) -> Self {
        let SubtreeRun { row, session } = run;
        let end = RunEnd { run: row.id, outcome, usage: row.usage, steps: row.steps, at };
        let (label, cleanup) = (session.label.as_ref(), session.cleanup);
        let to = receiver(&row, session.outlived.as_ref());
        let told = to.is_some() || session.outlived.is_some();
        let announce = announce_of(&row, to, &end, row.started_at, quiet, row.usage, label, cleanup);
        let unheard = announce.is_none() && told && cleanup == Cleanup::Delete;
        let parent = session.on_parent_exit.outlives().then(|| (row.session.clone(), session.parent.clone()));
        let delete = unheard.then(|| row.session.clone());
        let Record { event, origin, facts } = record;
        let (session, id) = (Some(row.session.clone()), Some(row.id));
        let audit = AuditRecord { at, event, origin, session, run: id, facts };
        Self { row, end, announce, delete, parent, audit }
    }

    /// Leaves the session to whoever exports it before it is deleted.
    pub(crate) fn keeping_session(mut self, keep: bool) -> Self {
        self.delete = self.delete.filter(|_| !keep);
        self
    }

    /// Has its result say what the tree of its session has used.
    pub(crate) const fn counting(mut self, used: Usage) -> Self {
        if let Some(announce) = &mut self.announce {
            announce.item.usage = used;
        }
        self
    }

    /// The session has outlived its parent: the result is for `to`, or for nobody.
    pub(crate) fn moved(&mut self, to: Option<SessionKey>) {
        if let Some((_, parent)) = &mut self.parent {
            if self.row.announce_to == *parent {
                self.row.announce_to.clone_from(&to);
            }
            parent.clone_from(&to);
        }
        if let (Some(announce), Some(to)) = (&mut self.announce, to) {
            announce.to = to;
        }
    }

    pub(crate) const fn run(&self) -> RunId {
        self.row.id
    }

    /// The end, its announce or the end of its session, and the audit record: all of it is committed, or nothing.
    pub(crate) fn transaction(&self) -> Transaction {
        let parent = self.parent.clone();
        let mut transaction: Transaction =
            parent.map(|(session, parent)| Op::ExpectParent { session, parent }).into_iter().collect();
        transaction.push(Op::EndRun(Box::new(self.end.clone())));
        if let Some(announce) = &self.announce {
            transaction.push(Op::QueueAnnounce(Box::new(announce.clone())));
            if self.row.announce_to.is_none() {
                transaction.push(Op::AbandonAnnounce { run: self.end.run });
            }
        }
        let delete = self.delete.clone();
        transaction.extend(delete.map(|session| Op::DeleteSession { session, with_parents: true }));
        transaction.push(Op::Audit(Box::new(self.audit.clone())));
        transaction
    }
}
