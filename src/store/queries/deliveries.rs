//! What is to reach somebody, and what became of it.

use std::collections::BTreeSet;

use offshoot_actors::ports::{
    DeliveryFilter, DeliveryKind, DeliveryRow, DeliveryState, DeliveryStatus, DeliveryTally, OpenCallback,
    Page, Receiver, Undeliverable,
};
use offshoot_actors::types::AgentId;
use rusqlite::{Connection, Result, ToSql, params};

use super::all;
use crate::store::rows::{Columns, IdText};

/// Results on their way to a session, with what stands in their way. To begin with, whether the agents are known, and
/// their list.
const OPEN: &str = "SELECT r.number, 'announce', r.id, r.session_key, o.receiver, o.at, NULL, \
     CASE WHEN s.id IS NULL OR o.abandoned THEN 'no session' \
     WHEN ? AND s.agent NOT IN (SELECT value FROM json_each(?)) THEN 'no agent' ELSE 'open' END AS standing, NULL, 0, NULL \
     FROM outbox o JOIN runs r ON r.id = o.run_id LEFT JOIN sessions s ON s.key = o.receiver WHERE true";
/// The others. Of these the run tells, and that the outbox does not have them.
const TAKEN: &str = "SELECT r.number, 'announce', r.id, r.session_key, r.announce_to, \
     coalesce(r.ended_at, r.accepted_at), NULL, 'delivered', NULL, 0, NULL FROM runs r \
     WHERE r.announced = 1 AND r.announce_to IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.run_id = r.id)";
const DISMISSED: &str = "SELECT r.number, 'announce', r.id, r.session_key, r.announce_to, \
     coalesce(r.ended_at, r.accepted_at), NULL, 'dismissed', NULL, 0, NULL FROM runs r \
     WHERE r.announced = 2 AND r.announce_to IS NOT NULL";
const CALLBACKS: &str = "SELECT r.number, 'callback', r.id, r.session_key, c.receiver, c.at, c.settled_at, c.state, \
     c.reason, c.attempts, c.next_at FROM callbacks c CROSS JOIN runs r ON r.number = c.run WHERE true";

/// Where results are wanted outside that are still to be delivered.
pub(in crate::store) fn callbacks(connection: &Connection) -> Result<Vec<OpenCallback>> {
    all(
        connection,
        "SELECT run_id, address, at, attempts, next_at FROM callbacks WHERE address IS NOT NULL \
         AND (state = 'open' OR next_at IS NOT NULL) ORDER BY run_id",
        [],
        |mut columns| {
            let callback = columns.callback()?;
            Ok(OpenCallback { callback, attempts: columns.value()?, next: columns.time_or_null()? })
        },
    )
}

pub(in crate::store) fn deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    page: Page,
) -> Result<Vec<DeliveryRow>> {
    let mut list = Union::default();
    let status = |status| filter.status.is_none_or(|wanted| wanted == status);
    if filter.kind != Some(DeliveryKind::Callback) {
        if status(DeliveryStatus::Open) || status(DeliveryStatus::Undeliverable) {
            let agents = filter.agents.as_deref();
            list.select(OPEN, vec![Box::new(agents.is_some()), Box::new(json_of(agents)?)]);
            list.concerning(filter, &["r.session_key", "o.receiver"]);
            match filter.status {
                Some(DeliveryStatus::Open) => list.sql.push_str(" AND standing = 'open'"),
                Some(_) => list.sql.push_str(" AND standing <> 'open'"),
                None => {}
            }
        }
        for (settled, select) in [(DeliveryStatus::Delivered, TAKEN), (DeliveryStatus::Dismissed, DISMISSED)]
        {
            if status(settled) {
                list.select(select, Vec::new());
                list.concerning(filter, &["r.session_key", "r.announce_to"]);
            }
        }
    }
    // A callback is never undeliverable: its receiver may come back.
    if filter.kind != Some(DeliveryKind::Announce) && filter.status != Some(DeliveryStatus::Undeliverable) {
        list.select(CALLBACKS, Vec::new());
        list.concerning(filter, &["r.session_key"]);
        if let Some(status) = filter.status {
            list.and(" AND c.state = ?", status.as_str());
        }
    }
    if list.sql.is_empty() {
        return Ok(Vec::new());
    }
    // By their numbers, which the first columns are.
    list.sql.push_str(&format!(" ORDER BY 1 DESC, 2 LIMIT {} OFFSET {}", page.limit, page.offset));
    all(connection, &list.sql, rusqlite::params_from_iter(list.values), row)
}

pub(in crate::store) fn delivery_tally(
    connection: &Connection,
    configured: Option<&BTreeSet<AgentId>>,
) -> Result<DeliveryTally> {
    let mut tally = DeliveryTally::default();
    let counts = all(
        connection,
        // One statement sees one moment.
        "SELECT CASE WHEN s.id IS NULL OR o.abandoned OR (?1 AND s.agent NOT IN (SELECT value FROM json_each(?2))) \
         THEN 'undeliverable' ELSE 'open' END AS what, count(*) \
         FROM outbox o LEFT JOIN sessions s ON s.key = o.receiver GROUP BY what \
         UNION ALL SELECT iif(state = 'failed' AND next_at IS NULL, 'given up', state) AS what, count(*) \
         FROM callbacks WHERE address IS NOT NULL GROUP BY what",
        params![configured.is_some(), json_of(configured)?],
        |mut columns| Ok((columns.value::<String>()?, columns.count()?)),
    )?;
    for (what, count) in counts {
        match what.as_str() {
            "open" => tally.open += count,
            "undeliverable" => tally.undeliverable += count,
            "given up" => {
                tally.given_up += count;
                tally.failed += count;
            }
            _ => tally.failed += count,
        }
    }
    Ok(tally)
}

/// The configured agents as a JSON array.
fn json_of(agents: Option<&BTreeSet<AgentId>>) -> Result<Option<String>> {
    let agents = agents.map(serde_json::to_string).transpose();
    agents.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Several lists as one.
#[derive(Default)]
struct Union {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Union {
    fn select(&mut self, select: &str, values: Vec<Box<dyn ToSql>>) {
        if !self.sql.is_empty() {
            self.sql.push_str(" UNION ALL ");
        }
        self.sql.push_str(select);
        self.values.extend(values);
    }

    /// A condition with one `?`.
    fn and(&mut self, condition: &str, value: impl ToSql + 'static) {
        self.sql.push_str(condition);
        self.values.push(Box::new(value));
    }

    /// Only the run and the session that the filter names; the session stands in one of these columns.
    fn concerning(&mut self, filter: &DeliveryFilter, columns: &[&str]) {
        if let Some(run) = filter.run {
            self.and(" AND r.id = ?", IdText::from(run));
        }
        if let Some(session) = &filter.session {
            self.and(&format!(" AND ? IN ({})", columns.join(", ")), session.as_str().to_owned());
        }
    }
}

fn row(mut columns: Columns<'_>) -> Result<DeliveryRow> {
    // The run's number, for the order alone.
    columns.value::<i64>()?;
    let kind: DeliveryKind = columns.parsed()?;
    let (run, session) = (columns.parsed()?, columns.parsed()?);
    let receiver = match kind {
        DeliveryKind::Announce => Receiver::Session(columns.parsed()?),
        DeliveryKind::Callback => Receiver::Address(columns.value()?),
    };
    let (at, settled_at) = (columns.time()?, columns.time_or_null()?);
    let state: String = columns.value()?;
    let reason: Option<String> = columns.value()?;
    let (attempts, next) = (columns.value()?, columns.time_or_null()?);
    let state = match state.as_str() {
        "open" => DeliveryState::Open,
        "failed" => DeliveryState::Failed { reason: reason.unwrap_or_default(), attempts, next },
        "delivered" => DeliveryState::Delivered,
        "dismissed" => DeliveryState::Dismissed,
        "no agent" => DeliveryState::Undeliverable(Undeliverable::NoAgent),
        _ => DeliveryState::Undeliverable(Undeliverable::NoSession),
    };
    Ok(DeliveryRow { kind, run, session, receiver, at, settled_at, state })
}
