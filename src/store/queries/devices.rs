//! All that is stored of devices.

use offshoot_actors::ports::StoredPairing;
use rusqlite::{Connection, Result};

use super::all;
use crate::store::rows::devices::{
    bootstrap_columns, device_columns, device_token_columns, pair_request_columns,
};

/// All tables from one snapshot of the database.
pub(in crate::store) fn pairing(connection: &Connection) -> Result<StoredPairing> {
    let snapshot = connection.unchecked_transaction()?;
    let devices = all(
        &snapshot,
        concat!("SELECT ", device_columns!(), " FROM devices ORDER BY id"),
        [],
        |mut columns| columns.device(),
    )?;
    let tokens = all(
        &snapshot,
        concat!("SELECT ", device_token_columns!(), " FROM device_tokens ORDER BY device_id, role"),
        [],
        |mut columns| columns.device_token(),
    )?;
    let requests = all(
        &snapshot,
        concat!("SELECT ", pair_request_columns!(), " FROM pairing_requests ORDER BY id"),
        [],
        |mut columns| columns.pair_request(),
    )?;
    let bootstraps = all(
        &snapshot,
        concat!("SELECT ", bootstrap_columns!(), " FROM setup_codes ORDER BY id"),
        [],
        |mut columns| columns.bootstrap(),
    )?;
    snapshot.finish()?;
    Ok(StoredPairing { devices, tokens, requests, bootstraps })
}
