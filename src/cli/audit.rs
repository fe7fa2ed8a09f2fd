//! `offshoot audit`

use serde_json::json;

use super::Global;
use super::args::AuditCommand;
use super::exit::{Exit, Failure};
use crate::store::{AuditError, verify_audit};

pub(super) fn run(command: &AuditCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify => verify(global),
    }
}

fn verify(global: &Global) -> Result<Exit, Failure> {
    let rows = verify_audit(&global.environment.state_dir()?)?;
    if global.output.json {
        global.output.document(&json!({"status": "ok", "rows": rows}))?;
    } else {
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        global.output.line(format_args!("the audit record is whole: {rows}"))?;
    }
    Ok(Exit::Ok)
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Broken { .. } | AuditError::Cut { .. } | AuditError::HeadMissing { .. } => {
                Self::new(Exit::Unavailable, "audit_broken", error.to_string()).with_hint(
                    "the rows before it are as they were written; compare it with a copy of the store",
                )
            }
            AuditError::Open(error) => error.into(),
            AuditError::Store(error) => error.into(),
        }
    }
}
