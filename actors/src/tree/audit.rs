//! What the handle enters into the audit record by itself.

use super::TreeHandle;
use crate::ports::{AuditRecord, Op};
use crate::types::{Origin, SessionKey};

impl TreeHandle {
    pub(super) fn audit_stop(&self, session: &SessionKey, origin: &Origin) {
        let audit = AuditRecord {
            at: self.shared.system.clock.now(),
            event: "session.stopped",
            origin: origin.clone(),
            session: Some(session.clone()),
            run: None,
            facts: Vec::new(),
        };
        self.shared.commit(vec![Op::Audit(Box::new(audit))], |result| {
            if let Err(refused) = result {
                tracing::warn!(%refused, "a stop could not be entered into the audit record");
            }
        });
    }

    /// Enters into the audit record what a client did to the daemon itself. Best effort: a store that does not take it
    /// is logged.
    pub fn audit(&self, event: &'static str, origin: Origin, facts: Vec<(&'static str, String)>) {
        self.audit_in(None, event, origin, facts);
    }

    /// The same of what a client did in a session without a run.
    pub fn audit_in(
        &self,
        session: Option<SessionKey>,
        event: &'static str,
        origin: Origin,
        facts: Vec<(&'static str, String)>,
    ) {
        let at = self.shared.system.clock.now();
        let audit = AuditRecord { at, event, origin, session, run: None, facts };
        self.shared.commit(vec![Op::Audit(Box::new(audit))], move |result| {
            if let Err(refused) = result {
                tracing::warn!(event, %refused, "could not be entered into the audit record");
            }
        });
    }
}
