//! Random changes of devices.

use crate::contract::devices::*;
use crate::ports::{DeviceRow, DeviceTokenRow, Op, PairRequestRow};
use crate::types::{Role, Scopes, Timestamp};

/// Among so few devices, requests and codes that most changes meet what is there.
const NUMBERS: u64 = 4;

/// The change that this number stands for.
pub(super) fn change(number: u64, at: Timestamp) -> Op {
    let (kind, rest) = (number % 9, number / 9);
    let pick = |rest: u64| u8::try_from(rest % NUMBERS).unwrap_or_default();
    let (one, other) = (pick(rest), pick(rest / NUMBERS));
    let flag = rest / NUMBERS / NUMBERS % 2 == 1;
    let role = Role::ALL[usize::from(flag)];
    match kind {
        0 | 1 => {
            let scopes = if flag { Scopes::ALL } else { Scopes::NONE };
            put_device(&DeviceRow { scopes, approved_at: at, ..device(one) })
        }
        2 => Op::RemoveDevice { device: device_id(one) },
        3 | 4 => put_token(&DeviceTokenRow { rotated_at: Some(at), ..device_token(one, role, other) }),
        5 => put_request(&PairRequestRow { role, expires_at: at, ..pair_request(one, other) }),
        6 => take_request(one),
        7 => add_bootstrap(&bootstrap(one, other)),
        _ => take_bootstrap(one),
    }
}
