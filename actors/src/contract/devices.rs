//! Devices, their tokens, requests for approval, setup codes.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::fixtures::*;
use crate::ports::{
    BootstrapRow, DeviceRow, DeviceTokenRow, Op, PairRequestRow, Storage, StoredPairing, Transaction,
};
use crate::types::{ClientInfo, DeviceId, PairReason, PublicKey, Role, Scope, Scopes, SecretHash, Timestamp};

/// The key of the device of that number.
#[must_use]
pub fn public_key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

/// The device of that number.
#[must_use]
pub fn device_id(number: u8) -> DeviceId {
    public_key(number).device()
}

/// The id of a request or a setup code.
#[must_use]
pub fn pairing_id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

/// An approved device.
#[must_use]
pub fn device(number: u8) -> DeviceRow {
    DeviceRow {
        id: device_id(number),
        key: public_key(number),
        client: ClientInfo {
            id: "cli".to_owned(),
            mode: "cli".to_owned(),
            name: Some(format!("device {number} \u{1F980}")),
            platform: "linux".to_owned(),
            family: None,
        },
        roles: BTreeSet::from([Role::Operator]),
        scopes: Scopes::NONE.with(Scope::Read).with(Scope::Write),
        remote: Some("192.0.2.7".to_owned()),
        created_at: Timestamp(1_000),
        approved_at: Timestamp(2_000),
    }
}

/// The token of a device for a role.
#[must_use]
pub fn device_token(number: u8, role: Role, hash: u8) -> DeviceTokenRow {
    DeviceTokenRow {
        device: device_id(number),
        role,
        hash: SecretHash::from_bytes([hash; 32]),
        scopes: Scopes::NONE.with(Scope::Read),
        created_at: Timestamp(1_000),
        rotated_at: None,
        revoked_at: None,
    }
}

/// A device that waits for approval.
#[must_use]
pub fn pair_request(request: u8, number: u8) -> PairRequestRow {
    PairRequestRow {
        id: pairing_id(request),
        device: device_id(number),
        key: public_key(number),
        client: ClientInfo { name: None, family: Some("Linux".to_owned()), ..device(number).client },
        role: Role::Node,
        roles: BTreeSet::from(Role::ALL),
        scopes: Scopes::ALL,
        remote: None,
        reason: PairReason::RoleUpgrade,
        created_at: Timestamp(3_000),
        expires_at: Timestamp(4_000),
    }
}

/// A setup code.
#[must_use]
pub fn bootstrap(number: u8, hash: u8) -> BootstrapRow {
    BootstrapRow {
        id: pairing_id(number),
        hash: SecretHash::from_bytes([hash; 32]),
        role: Role::Operator,
        scopes: Scopes::NONE,
        created_at: Timestamp(1_000),
        expires_at: Timestamp(9_000),
    }
}

/// Adds a device or changes it.
#[must_use]
pub fn put_device(row: &DeviceRow) -> Op {
    Op::PutDevice(Box::new(row.clone()))
}

/// Gives a device a token.
#[must_use]
pub fn put_token(row: &DeviceTokenRow) -> Op {
    Op::PutDeviceToken(Box::new(row.clone()))
}

/// Keeps a request for approval.
#[must_use]
pub fn put_request(row: &PairRequestRow) -> Op {
    Op::PutPairRequest(Box::new(row.clone()))
}

/// Takes a request for approval.
#[must_use]
pub fn take_request(request: u8) -> Op {
    Op::TakePairRequest { request: pairing_id(request) }
}

/// Keeps a setup code.
#[must_use]
pub fn add_bootstrap(row: &BootstrapRow) -> Op {
    Op::AddBootstrap(Box::new(row.clone()))
}

/// Takes a setup code.
#[must_use]
pub fn take_bootstrap(number: u8) -> Op {
    Op::TakeBootstrap { code: pairing_id(number) }
}

/// Something in every table of devices.
#[must_use]
pub fn pair(number: u8) -> Transaction {
    vec![
        put_device(&device(number)),
        put_token(&device_token(number, Role::Operator, number)),
        put_request(&pair_request(number, number)),
        add_bootstrap(&bootstrap(number, number)),
    ]
}

async fn read(store: &dyn Storage) -> StoredPairing {
    store.pairing().await.unwrap()
}

/// All columns of all tables come back, sorted.
pub async fn devices_come_back_as_they_were(store: &dyn Storage) {
    assert_eq!(read(store).await, StoredPairing::default());
    let mut wanted = StoredPairing::default();
    for number in [3, 1, 2] {
        apply(store, pair(number)).await;
        wanted.devices.push(device(number));
        wanted.tokens.push(device_token(number, Role::Operator, number));
        wanted.requests.push(pair_request(number, number));
        wanted.bootstraps.push(bootstrap(number, number));
    }
    let last = DeviceTokenRow {
        rotated_at: Some(Timestamp(5)),
        revoked_at: Some(Timestamp(6)),
        ..device_token(3, Role::Node, 9)
    };
    apply(store, vec![put_token(&last)]).await;
    wanted.tokens.push(last);
    wanted.devices.sort_by_key(|row| row.id);
    wanted.tokens.sort_by_key(|row| (row.device, row.role));
    wanted.requests.sort_by_key(|row| row.id);
    wanted.bootstraps.sort_by_key(|row| row.id);
    assert_eq!(read(store).await, wanted);
}

/// A device that is changed keeps its tokens and its request.
pub async fn a_device_is_changed_in_place(store: &dyn Storage) {
    apply(store, pair(1)).await;
    let mut changed = DeviceRow { scopes: Scopes::ALL, remote: None, ..device(1) };
    changed.roles.insert(Role::Node);
    (changed.client.name, changed.client.family) = (None, Some("Linux".to_owned()));
    apply(store, vec![put_device(&changed)]).await;
    let found = read(store).await;
    assert_eq!(found.devices, [changed]);
    assert_eq!(found.tokens, [device_token(1, Role::Operator, 1)]);
    assert_eq!(found.requests, [pair_request(1, 1)]);
}

/// What belongs to a removed device goes with it, and nothing of another.
pub async fn a_removed_device_leaves_nothing(store: &dyn Storage) {
    apply(store, pair(1)).await;
    apply(store, pair(2)).await;
    conflict(store, vec![Op::RemoveDevice { device: device_id(3) }]).await;
    apply(store, vec![Op::RemoveDevice { device: device_id(1) }]).await;
    conflict(store, vec![Op::RemoveDevice { device: device_id(1) }]).await;
    let found = read(store).await;
    assert_eq!((found.devices, found.requests), (vec![device(2)], vec![pair_request(2, 2)]));
    assert_eq!(found.tokens, [device_token(2, Role::Operator, 2)]);
    assert_eq!(found.bootstraps.len(), 2, "a setup code belongs to nobody yet");
    apply(store, vec![put_device(&device(1))]).await;
    assert_eq!(read(store).await.tokens.len(), 1);
}

/// A token has a device, and takes the place of the one before for its role.
pub async fn a_token_needs_its_device(store: &dyn Storage) {
    conflict(store, vec![put_token(&device_token(1, Role::Operator, 1))]).await;
    apply(store, vec![put_device(&device(1)), put_token(&device_token(1, Role::Operator, 1))]).await;
    let next = DeviceTokenRow { rotated_at: Some(Timestamp(5)), ..device_token(1, Role::Operator, 2) };
    apply(store, vec![put_token(&next), put_token(&device_token(1, Role::Node, 3))]).await;
    assert_eq!(read(store).await.tokens, [device_token(1, Role::Node, 3), next]);
}

/// A device has one request at a time, which ends once.
pub async fn a_request_for_approval_is_taken_once(store: &dyn Storage) {
    apply(store, vec![put_request(&pair_request(1, 1))]).await;
    conflict(store, vec![put_request(&pair_request(1, 2))]).await;
    let longer = PairRequestRow { expires_at: Timestamp(8_000), ..pair_request(1, 1) };
    apply(store, vec![put_request(&longer)]).await;
    assert_eq!(read(store).await.requests, [longer]);
    apply(store, vec![put_request(&pair_request(2, 1))]).await;
    assert_eq!(read(store).await.requests, [pair_request(2, 1)]);
    conflict(store, vec![take_request(1)]).await;
    apply(store, vec![take_request(2)]).await;
    conflict(store, vec![take_request(2)]).await;
    apply(store, vec![put_request(&pair_request(1, 2))]).await;
    assert_eq!(read(store).await.requests, [pair_request(1, 2)]);
}

/// A setup code is good for one device, also when two ask in the same moment.
pub async fn a_setup_code_is_taken_once(store: &dyn Storage) {
    apply(store, vec![add_bootstrap(&bootstrap(1, 1))]).await;
    conflict(store, vec![add_bootstrap(&bootstrap(1, 2))]).await;
    conflict(store, vec![add_bootstrap(&bootstrap(2, 1))]).await;
    apply(store, vec![add_bootstrap(&bootstrap(2, 2))]).await;
    conflict(store, vec![take_bootstrap(1), put_device(&device(1)), take_bootstrap(1)]).await;
    assert_eq!(read(store).await.devices, []);
    apply(store, vec![take_bootstrap(1), put_device(&device(1))]).await;
    conflict(store, vec![take_bootstrap(1), put_device(&device(2))]).await;
    let found = read(store).await;
    assert_eq!((found.devices.len(), found.bootstraps), (1, vec![bootstrap(2, 2)]));
}
