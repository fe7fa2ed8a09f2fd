//! Ends runs whose actors are gone: of a process that died, or of a subtree whose session failed for good.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::ports::{AuditRecord, Op, Refused, RunEnd, SubtreeRun, Transaction};
use crate::session::{announce_of, notify_end};
use crate::shared::Shared;
use crate::types::{Origin, Outcome, RunId, Terminal};

/// Ends each of `runs` that has not ended, in this order, and tells whoever waits. Returns those it ended.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    runs: Vec<SubtreeRun>,
    state: Terminal,
    reason: &str,
    quiet: bool,
) -> Vec<RunId> {
    let mut decided = Vec::new();
    for SubtreeRun { row, session } in runs {
        let partial = shared.runs.remove(&row.id).and_then(|(_, cell)| {
            cell.cancelled.cancel();
            cell.partial()
        });
        let at = shared.system.clock.now();
        let outcome = Outcome::ended(state, reason, partial);
        let end = RunEnd { run: row.id, outcome, usage: row.usage, steps: row.steps, at };
        let announce = announce_of(
            &row,
            &end,
            row.started_at,
            quiet,
            row.usage,
            session.label.as_ref(),
            session.cleanup,
        );
        let audit = AuditRecord {
            at,
            event: "run.settled",
            origin: Origin::Timer,
            session: Some(row.session.clone()),
            run: Some(row.id),
            facts: vec![("state", state.to_string()), ("reason", reason.to_owned())],
        };
        let mut transaction: Transaction = vec![Op::EndRun(Box::new(end.clone()))];
        transaction.extend(announce.clone().map(|announce| Op::QueueAnnounce(Box::new(announce))));
        transaction.push(Op::Audit(Box::new(audit)));
        let (sender, receiver) = oneshot::channel();
        shared.commit(transaction, move |result| {
            let _ = sender.send(result);
        });
        decided.push((row, end, announce, receiver));
    }
    let mut ended = Vec::new();
    for (row, end, announce, receiver) in decided {
        match receiver.await {
            Ok(Ok(())) => {
                ended.push(row.id);
                notify_end(shared, &row, &end, row.usage, announce);
            }
            // Whoever ended it before has told whoever waits.
            Ok(Err(Refused::Ended { .. })) | Err(_) => {}
            Ok(Err(refused)) => {
                tracing::error!(run = %row.id, %refused, "a run whose actor is gone could not be ended");
            }
        }
    }
    ended
}
