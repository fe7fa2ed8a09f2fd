//! Runs that nobody will go on with.

use super::{Finding, Found, Patient, count};
use crate::store::{Holder, NamedRun, holder};

/// Runs that are not resumed any more because the daemon died with them again and again.
pub(super) fn quarantined(patient: &Patient) -> Found {
    let Some(store) = patient.rows() else { return Ok(Vec::new()) };
    let runs = store.quarantined()?;
    let finding = |run: &NamedRun| {
        Finding::new(
            format!("run {} of session {} was interrupted: {}", run.id, run.session, run.note),
            "the daemon died each time that it ran, so it is not resumed; its parent was told",
            format!(
                "`offshoot runs show {}` shows what it did; look into the log before you ask for it again",
                run.id
            ),
        )
    };
    let mut findings: Vec<Finding> = runs.first.iter().map(finding).collect();
    let more = runs.count - runs.first.len();
    if more > 0 {
        let what = format!("{} more were quarantined", count(more, "earlier run"));
        findings.push(Finding::new(what, "as above", "`offshoot runs list` shows them"));
    }
    Ok(findings)
}

/// Open runs of a command that is gone. Those of a gateway that does not run only wait for the next one.
pub(super) fn abandoned(patient: &Patient) -> Found {
    let (Some(store), Some(had)) = (patient.rows(), patient.holder) else { return Ok(Vec::new()) };
    let mut runs = store.open_runs()?;
    runs.retain(|run| run.note == "oneshot");
    // Whoever has begun to write since may have taken them over.
    let is_there = had != Holder::Nobody && !patient.has_gateway();
    let (Some(first), false) = (runs.first(), is_there || holder(&patient.dir).ok() != Some(had)) else {
        return Ok(Vec::new());
    };
    let what = format!(
        "{} of a command that does not run any more, such as {}",
        count(runs.len(), "open run"),
        first.id
    );
    let help = format!(
        "the next `offshoot gateway` or `offshoot run` decides on them; `offshoot runs cancel {}` ends one with what it spawned",
        first.id
    );
    let why = "nobody goes on with them, and whoever waits for their results waits on";
    Ok(vec![Finding::new(what, why, help)])
}
