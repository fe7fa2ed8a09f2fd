//! Random changes of callbacks, and lists of deliveries.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::NAMES;
use crate::contract::callbacks::*;
use crate::contract::fixtures::*;
use crate::ports::{CallbackRow, DeliveryFilter, DeliveryKind, DeliveryStatus, Op, Page};
use crate::types::{AgentId, RunId, Timestamp};

/// The change that this number stands for. There are two addresses, so that most changes meet what is there.
pub(super) fn change(run: RunId, number: u64, at: Timestamp) -> Op {
    let (kind, rest) = (number % 7, number / 7);
    let address = ["http://a/", "https://user:pass@b:8/x?y"][usize::from(rest.is_multiple_of(4))];
    let row = CallbackRow { run, ..callback(0, address) };
    let attempts = u32::try_from(rest % 5).unwrap_or_default();
    match kind {
        0 | 1 => put_callback(&row),
        2 => delivered(&row),
        3 => failed(&row, attempts, Some(at.0)),
        4 => failed(&row, attempts, None),
        5 => Op::RetryCallback { run },
        _ => Op::DismissCallback { run, at },
    }
}

pub(super) fn lists() -> impl Strategy<Value = (DeliveryFilter, Page)> {
    let kind = prop::option::weighted(0.3, select(DeliveryKind::ALL.as_slice()));
    let status = prop::option::weighted(0.6, select(DeliveryStatus::ALL.as_slice()));
    let run = prop::option::weighted(0.2, (0u64..10).prop_map(run_id));
    let session = prop::option::weighted(0.3, select(NAMES.as_slice()).prop_map(key));
    let none = || Arc::new(BTreeSet::new());
    let there = || Arc::new(BTreeSet::from([AgentId::main()]));
    let agents = prop_oneof![Just(None), Just(Some(none())), Just(Some(there()))];
    let filter = (kind, status, run, session, agents);
    (filter, 0u32..4, 0u32..8).prop_map(|((kind, status, run, session, agents), offset, limit)| {
        (DeliveryFilter { kind, status, run, session, agents }, Page { offset, limit })
    })
}
