//! The audit record, read.

use super::state::State;
use crate::ports::{AuditColumns, AuditFilter, AuditPage, AuditPageOf, AuditRecord, AuditRow};

impl State {
    pub(super) fn audit_rows(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> AuditPage {
        let mut page = AuditPageOf::new(limit);
        let count = i64::try_from(self.audit.len()).unwrap_or(i64::MAX);
        let numbered = (1..=count).rev().zip(self.audit.iter().rev());
        for (number, record) in numbered.filter(|(number, _)| before.is_none_or(|before| *number < before)) {
            let run = record.run.map(|run| run.to_string());
            let columns = AuditColumns {
                at: record.at,
                event: record.event,
                session: record.session.as_ref().map(AsRef::as_ref),
                run: run.as_deref(),
            };
            let asked_for = filter.admits(columns, || Some(record.origin.clone()));
            if page.looked(number, asked_for.then(|| row(number, record))).is_break() {
                break;
            }
        }
        page.page()
    }
}

fn row(number: i64, record: &AuditRecord) -> AuditRow {
    let AuditRecord { at, event, origin, session, run, facts } = record.clone();
    AuditRow {
        row: number,
        at,
        event: event.to_owned(),
        origin: Some(origin),
        session: session.map(|session| session.to_string()),
        run: run.map(|run| run.to_string()),
        facts: facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect(),
    }
}
