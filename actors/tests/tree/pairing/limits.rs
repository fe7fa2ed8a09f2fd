//! Bounds on what comes from outside.

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::policy::pairing::{MAX_DEVICES, MAX_PENDING, MAX_PENDING_PER_ADDRESS};
use offshoot_actors::ports::{DeviceRow, Op, Storage, StoredPairing};
use offshoot_actors::types::Timestamp;

use super::*;

fn from(number: u16, remote: &str) -> ConnectRequest {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    ConnectRequest { key: PublicKey::from_bytes(bytes), remote: Some(remote.to_owned()), ..stranger(0) }
}

#[tokio::test]
async fn strangers_at_one_address_leave_room_for_others() {
    let rig = rig().await;
    let door = door(&rig);
    let all = (0..40).map(|number| door.try_connect(from(number, "192.0.2.1")));
    let answers = futures::future::join_all(all).await;
    let (waiting, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(waiting.len(), MAX_PENDING_PER_ADDRESS);
    let text = refused[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("16 devices from 192.0.2.1") && text.contains("offshoot devices"), "{text}");
    door.pend(from(50, "192.0.2.2")).await;
    door.pend(from(0, "192.0.2.1")).await;
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_in_all_and_what_lapsed_makes_room() {
    let rig = rig().await;
    let door = door(&rig);
    for number in 0..MAX_PENDING {
        let remote = format!("192.0.2.{}", number / MAX_PENDING_PER_ADDRESS);
        door.pend(from(u16::try_from(number).unwrap(), &remote)).await;
    }
    let full = door.try_connect(from(999, "198.51.100.1")).await.unwrap_err();
    assert!(full.to_string().starts_with("256 devices wait for approval"), "{full}");
    door.admit(local(200)).await;
    rig.clock.sleep(5 * MINUTE).await;
    door.pend(from(999, "198.51.100.1")).await;
    rig.sleep(5_000).await;
    assert_eq!(rig.storage.devices().requests.len(), 1);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn only_so_many_devices_are_approved() {
    let storage = Arc::new(MemoryStorage::new());
    let rows = (0..MAX_DEVICES).map(|number| {
        let request = from(u16::try_from(number).unwrap(), "");
        Op::PutDevice(Box::new(DeviceRow {
            id: request.key.device(),
            key: request.key,
            client: request.client,
            roles: [Role::Operator].into(),
            scopes: READ,
            remote: request.remote,
            created_at: Timestamp(1),
            approved_at: Timestamp(1),
        }))
    });
    storage.submit(rows.collect(), Box::new(|stored| stored.unwrap()));
    let rig = setup().on(&storage, 1).start(script).await;
    let door = door(&rig);
    let full = door.try_connect(ConnectRequest { vouched: Vouched::Local, ..local(200) }).await.unwrap_err();
    assert_eq!(full, PairingError::TooManyDevices { max: MAX_DEVICES });
    let waiting = door.pend(stranger(200)).await.request;
    let approve = || door.handle.approve(waiting.id, Caller::OPERATOR, Origin::Operator);
    assert_eq!(approve().await.unwrap_err(), full);
    let known = from(7, "").key.device();
    door.handle.remove(known, Caller::OPERATOR, Origin::Operator).await.unwrap();
    approve().await.unwrap();
    door.admit(stranger(200)).await;
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn texts_that_are_too_long_are_refused_and_not_repeated() {
    let rig = rig().await;
    let door = door(&rig);
    let mut long = local(1);
    long.client.platform = "x".repeat(100_000);
    let mut odd = stranger(1);
    odd.client.name = Some("\u{1b}[2J".to_owned());
    let far = ConnectRequest { remote: Some("y".repeat(65)), ..stranger(1) };
    for (request, what) in [(long, "client.platform"), (odd, "client.displayName"), (far, "remote")] {
        let error = door.try_connect(request).await.unwrap_err().to_string();
        assert!(error.contains(what) && error.len() < 200, "{error}");
    }
    assert_eq!(rig.storage.devices(), StoredPairing::default());
    finish(rig).await;
}
