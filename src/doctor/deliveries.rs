//! Results that nobody can take.

use super::{Finding, Found, Patient, count};
use crate::store::{NamedRun, NamedRuns};

pub(super) fn look(patient: &Patient) -> Found {
    let Some(store) = patient.rows() else { return Ok(Vec::new()) };
    let mut findings = findings(&store.undeliverable()?, |run| {
        (
            "which is not there".to_owned(),
            format!(
                "`offshoot deliveries show {0}` shows it, `offshoot deliveries dismiss {0}` ends it",
                run.id
            ),
        )
    });
    // Which agents there are, only a configuration says that can be read.
    if let Ok(config) = &patient.config {
        let agents: Vec<&str> = config.settings.agents.keys().map(AsRef::as_ref).collect();
        findings.extend(self::findings(&store.without_agent(&agents)?, |run| {
            let agent = &run.note;
            (
                format!("whose agent {agent} is not configured"),
                format!(
                    "configure {agent} under agents.list again, or end it with `offshoot deliveries dismiss {}`",
                    run.id
                ),
            )
        }));
    }
    Ok(findings)
}

/// A finding for each run that is named, with what `say` says of its receiver and what helps, and one for the others.
fn findings(runs: &NamedRuns, say: impl Fn(&NamedRun) -> (String, String)) -> Vec<Finding> {
    let finding = |run: &NamedRun| {
        let (obstacle, help) = say(run);
        let what =
            format!("the result of run {} is on its way to session {}, {obstacle}", run.id, run.session);
        Finding::new(what, "it stays where it is, and no agent takes note of it", help)
    };
    let more = runs.count - runs.first.len();
    let others = format!("{} more cannot be delivered", count(more, "result"));
    let others = (more > 0).then(|| Finding::new(others, "as above", "as above"));
    runs.first.iter().map(finding).chain(others).collect()
}
