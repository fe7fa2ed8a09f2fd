//! Results that nobody can take.

use super::{Finding, Found, Patient, count};

pub(super) fn look(patient: &Patient) -> Found {
    let Some(store) = patient.rows() else { return Ok(Vec::new()) };
    let runs = store.undeliverable()?;
    let finding = |run: &crate::store::NamedRun| {
        Finding::new(
            format!(
                "the result of run {} is on its way to session {}, which is not there",
                run.id, run.session
            ),
            "it stays where it is, and no agent takes note of it",
            format!(
                "`offshoot deliveries show {0}` shows it, `offshoot deliveries dismiss {0}` ends it",
                run.id
            ),
        )
    };
    let more = runs.count - runs.first.len();
    let mut findings: Vec<Finding> = runs.first.iter().map(finding).collect();
    if more > 0 {
        findings.push(Finding::new(
            format!("{} more cannot be delivered", count(more, "result")),
            "as above",
            "as above",
        ));
    }
    Ok(findings)
}
