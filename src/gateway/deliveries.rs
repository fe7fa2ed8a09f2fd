//! Deliveries as clients and the command line are shown them.

use offshoot_actors::ports::{DeliveryRow, DeliveryState, DeliveryTally};
use serde_json::{Value, json};

/// A delivery for programs. Of an address outside it has what is no secret.
pub(crate) fn document(row: &DeliveryRow) -> Value {
    let (reason, attempts, next) = match &row.state {
        DeliveryState::Failed { reason, attempts, next } => (Some(reason.clone()), Some(*attempts), *next),
        DeliveryState::Undeliverable(why) => (Some(why.to_string()), None, None),
        DeliveryState::Open | DeliveryState::Delivered | DeliveryState::Dismissed => (None, None, None),
    };
    json!({
        "kind": row.kind,
        "runId": row.run,
        "sessionKey": row.session,
        "receiver": row.receiver.to_string(),
        "state": row.state.status(),
        "reason": reason,
        "attempts": attempts,
        "nextAttemptAt": next,
        "at": row.at,
        "settledAt": row.settled_at,
    })
}

/// How many deliveries are not settled.
pub(crate) fn counts(tally: &DeliveryTally) -> Value {
    json!({
        "open": tally.open,
        "failed": tally.failed,
        "givenUp": tally.given_up,
        "undeliverable": tally.undeliverable,
    })
}
