//! Sessions of agents that are not configured any more.

use super::{Finding, Found, Patient, count};

pub(super) fn look(patient: &Patient) -> Found {
    let (Some(store), Ok(config)) = (patient.rows(), &patient.config) else { return Ok(Vec::new()) };
    let known = |agent: &str| config.settings.agents.keys().any(|id| id.as_ref() == agent);
    let unknown = store.agents()?.into_iter().filter(|(agent, _)| !known(agent));
    let finding = |(agent, sessions): (String, i64)| {
        let sessions = count(usize::try_from(sessions).unwrap_or(usize::MAX), "session");
        Finding::new(
            format!("{sessions} of the agent {agent}, which is not configured"),
            "a message to them is refused, and what is open in them is interrupted",
            format!(
                "configure {agent} under agents.list again, or delete them with `offshoot sessions delete`"
            ),
        )
    };
    Ok(unknown.map(finding).collect())
}
