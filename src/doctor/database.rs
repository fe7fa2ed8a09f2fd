//! Whether the database can be opened, is whole, and is what was written.

use offshoot_actors::ports::StoreError;

use super::{Finding, Found, Patient};
use crate::store::{AuditError, OpenError};

const RESTORE: &str = "stop the gateway, keep a copy of the state directory, and put the last backup in its place with \
                       `offshoot backup restore FILE`";

pub(super) fn look(patient: &Patient) -> Found {
    let store = match &patient.store {
        Ok(store) => store,
        // Nothing has run here yet.
        Err(OpenError::Missing { .. }) => return Ok(Vec::new()),
        Err(error) => return Ok(vec![not_opened(error)]),
    };
    let mut findings = Vec::new();
    if let Some((found, known)) = store.older() {
        findings.push(Finding::new(
            format!("the database has schema version {found}, this program writes version {known}"),
            "commands that only read refuse it, and the doctor does not look at its rows",
            "`offshoot backup create` keeps a copy; the next `offshoot gateway` or `offshoot run` brings it up to date",
        ));
    }
    let problems = match store.problems() {
        Err(StoreError::Damaged(text)) => vec![text],
        problems => problems?,
    };
    for problem in problems {
        let why = "what is in the damaged part cannot be read, and work that needs it fails";
        findings.push(Finding::new(problem, why, RESTORE));
    }
    match store.audit() {
        Ok(_) => {}
        Err(error @ (AuditError::Broken { .. } | AuditError::Cut { .. })) => findings.push(Finding::new(
            format!("the audit record is not what was written: {error}"),
            "what it says from there on cannot be relied on",
            "compare it with a backup: `offshoot backup verify FILE` tells whether one has the whole chain",
        )),
        // With a page of it damaged this was told above.
        Err(AuditError::Open(_) | AuditError::Store(_)) if !findings.is_empty() => {}
        Err(error) => {
            findings.push(Finding::new(error.to_string(), "the audit record cannot be checked", RESTORE));
        }
    }
    Ok(findings)
}

fn not_opened(error: &OpenError) -> Finding {
    let (why, help) = match error {
        OpenError::Newer { .. } => (
            "this program would not know what it destroys, so it does not touch it",
            "use the newer program, or put back a backup of the older one with `offshoot backup restore FILE`",
        ),
        OpenError::Damaged { .. } => ("nothing that needs the store works, and no gateway starts", RESTORE),
        _ => (
            "nothing that needs the store works, and no gateway starts",
            "see that the file and its directory can be read and written by this user",
        ),
    };
    Finding::new(error.to_string(), why, help)
}
