//! How many sessions and runs there are.

use std::collections::BTreeMap;

use offshoot_actors::ports::{RunTally, Tallies};
use offshoot_actors::types::AgentId;
use rusqlite::{Connection, Result};

use super::super::rows::Columns;

/// Rows are counted here: to group them SQLite would sort them all, and keep them in memory for that.
pub(in crate::store) fn tallies(connection: &Connection) -> Result<Tallies> {
    let snapshot = connection.unchecked_transaction()?;
    let tallies = Tallies { sessions: sessions(&snapshot)?, runs: runs(&snapshot)? };
    snapshot.finish()?;
    Ok(tallies)
}

fn sessions(connection: &Connection) -> Result<BTreeMap<AgentId, u64>> {
    let mut statement = connection.prepare_cached("SELECT agent FROM sessions")?;
    let mut rows = statement.query([])?;
    let mut counted: BTreeMap<String, (AgentId, u64)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let agent = row.get_ref(0)?.as_str()?;
        match counted.get_mut(agent) {
            Some((_, count)) => *count += 1,
            None => drop(counted.insert(agent.to_owned(), (Columns::of(row).parsed()?, 1))),
        }
    }
    Ok(counted.into_values().collect())
}

fn runs(connection: &Connection) -> Result<Vec<RunTally>> {
    let mut statement = connection.prepare_cached("SELECT cause, state FROM runs")?;
    let mut rows = statement.query([])?;
    let mut counted: Vec<RunTally> = Vec::new();
    while let Some(row) = rows.next()? {
        let (cause, state) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        match counted.iter_mut().find(|known| known.cause.as_str() == cause && known.state.as_str() == state)
        {
            Some(known) => known.count += 1,
            None => {
                let mut columns = Columns::of(row);
                counted.push(RunTally { cause: columns.cause()?, state: columns.state()?, count: 1 });
            }
        }
    }
    Ok(counted)
}
