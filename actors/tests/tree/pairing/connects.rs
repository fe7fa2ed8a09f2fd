//! Who is let in, and who waits.

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::types::{ClientInfo, PairReason};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_local_device_is_approved_without_a_question_and_with_a_line_of_audit() {
    let rig = rig().await;
    let grant = door(&rig).admit(local(1)).await;
    assert_eq!((grant.device, grant.scopes, grant.approved), (id(1), READ, Some(PairReason::NotPaired)));
    let token = grant.token.unwrap();
    assert_eq!(door(&rig).verify(id(1), &token, READ).await, TokenCheck::Valid);
    let [line] = &audit(&rig)[..] else { panic!("one decision, one line") };
    assert_eq!((line.event, &line.origin), ("device.approved", &origin()));
    let facts =
        ["device", "role", "scopes", "reason", "silent", "remote"].map(|name| fact(line, name).unwrap());
    assert_eq!(facts, [&id(1).to_string(), "operator", "operator.read", "not-paired", "true", "127.0.0.1"]);
    assert_eq!(told(&rig), ["approved"]);
    let shown = format!("{:?}{:?}", rig.storage.devices(), rig.storage.audit());
    assert!(!shown.contains(token.expose()));
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_known_device_waits_for_no_commit_and_is_shown_no_token_again() {
    let rig = rig().await;
    assert!(door(&rig).admit(ConnectRequest { scopes: WRITE, ..local(1) }).await.token.is_some());
    let commits = rig.storage.commits();
    for (wanted, vouched) in
        [(WRITE, Vouched::Local), (READ, Vouched::Stranger), (Scopes::NONE, Vouched::Stranger)]
    {
        let grant = door(&rig).admit(ConnectRequest { scopes: wanted, vouched, ..stranger(1) }).await;
        assert_eq!((grant.scopes, grant.approved), (wanted, None));
        assert!(grant.token.is_none() && grant.token_scopes.covers(wanted));
    }
    assert_eq!(rig.storage.commits(), commits);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_waits_until_somebody_approves_and_then_gets_that_and_no_more() {
    let rig = rig().await;
    let door = door(&rig);
    let pending = door.pend(stranger(1)).await;
    assert_eq!(pending.request.reason, PairReason::NotPaired);
    assert!(pending.approved_roles.is_empty() && pending.approved_scopes.is_empty());
    let commits = rig.storage.commits();
    assert_eq!(door.pend(stranger(1)).await.request, pending.request, "it asks for the same");
    assert_eq!(rig.storage.commits(), commits);
    door.approve(&pending.request).await;
    let grant = door.admit(stranger(1)).await;
    assert_eq!((grant.scopes, grant.token.is_some(), grant.approved), (READ, true, None));
    let again = door.pend(ConnectRequest { scopes: ADMIN, ..stranger(1) }).await;
    assert_eq!(again.request.reason, PairReason::ScopeUpgrade);
    assert_eq!(again.approved_scopes, READ);
    assert!(door.admit(stranger(1)).await.token.is_none(), "what it has stays good meanwhile");
    let events: Vec<_> = audit(&rig).iter().map(|line| line.event).collect();
    assert_eq!(events, ["device.requested", "device.approved", "device.token_issued", "device.requested"]);
    assert_eq!(fact(&audit(&rig)[1], "silent").unwrap(), "false");
    assert_eq!(audit(&rig)[1].origin, Origin::Operator);
    assert_eq!(told(&rig), ["requested not-paired", "approved", "requested scope-upgrade"]);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_silent_for_whoever_sits_at_the_machine_and_asked_of_a_stranger() {
    let rig = rig().await;
    let door = door(&rig);
    let first = door.admit(local(1)).await.token.unwrap();
    rig.sleep(10).await;
    let grant = door.admit(ConnectRequest { scopes: ADMIN, ..local(1) }).await;
    assert_eq!((grant.scopes, grant.approved), (ADMIN, Some(PairReason::ScopeUpgrade)));
    let second = grant.token.unwrap();
    assert_eq!(door.verify(id(1), &second, Scopes::ALL).await, TokenCheck::Valid);
    assert_eq!(door.verify(id(1), &first, READ).await, TokenCheck::Mismatch);
    let node = |request| ConnectRequest { role: Role::Node, scopes: ADMIN, ..request };
    assert_eq!(door.pend(node(stranger(1))).await.request.reason, PairReason::RoleUpgrade);
    let grant = door.admit(node(local(1))).await;
    assert_eq!((grant.scopes, grant.approved), (Scopes::NONE, Some(PairReason::RoleUpgrade)));
    assert!(rig.storage.devices().requests.is_empty(), "nobody need answer what is settled");
    let mac = |request: ConnectRequest| {
        let client = ClientInfo { platform: "darwin".to_owned(), ..request.client.clone() };
        ConnectRequest { client, has_token: true, ..request }
    };
    assert_eq!(door.pend(mac(stranger(1))).await.request.reason, PairReason::MetadataUpgrade);
    let grant = door.admit(mac(local(1))).await;
    assert_eq!((grant.approved, grant.token.is_none()), (Some(PairReason::MetadataUpgrade), true));
    assert_eq!(door.admit(mac(stranger(1))).await.approved, None);
    assert!(rig.storage.devices().requests.is_empty());
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_grows_gets_an_id_of_its_own_and_the_old_one_is_void() {
    let rig = rig().await;
    let door = door(&rig);
    let read = door.pend(stranger(1)).await.request;
    let more = door.pend(ConnectRequest { scopes: WRITE, ..stranger(1) }).await.request;
    assert_ne!(read.id, more.id);
    assert_eq!(door.pend(stranger(1)).await.request.id, more.id, "it holds the smaller one");
    let both = door.pend(ConnectRequest { role: Role::Node, ..stranger(1) }).await.request;
    assert_eq!((both.roles.len(), both.scopes), (2, WRITE.normalised()));
    for void in [read.id, more.id] {
        let error = door.handle.approve(void, Caller::OPERATOR, Origin::Operator).await.unwrap_err();
        assert_eq!(error, PairingError::UnknownRequest(void));
        assert!(error.to_string().contains("offshoot devices list"));
    }
    door.approve(&both).await;
    assert_eq!(door.admit(ConnectRequest { scopes: WRITE, ..stranger(1) }).await.scopes, WRITE);
    door.admit(ConnectRequest { role: Role::Node, ..stranger(1) }).await;
    let told = told(&rig);
    assert_eq!(told.iter().filter(|line| *line == "superseded").count(), 2);
    assert_eq!(told.last().unwrap(), "approved");
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_lapses_unless_the_device_keeps_asking() {
    let rig = rig().await;
    let door = door(&rig);
    let silent = door.pend(stranger(1)).await.request;
    let keen = door.pend(stranger(2)).await.request;
    for _ in 0..3 {
        rig.clock.sleep(2 * MINUTE).await;
        assert_eq!(door.pend(stranger(2)).await.request.id, keen.id);
    }
    let list = door.handle.list().await.unwrap();
    assert_eq!(list.pending.iter().map(|row| row.id).collect::<Vec<_>>(), [keen.id]);
    assert_eq!(rig.storage.devices().requests.len(), 1, "a timer removes what has lapsed");
    let late = door.handle.approve(silent.id, Caller::OPERATOR, Origin::Operator).await;
    assert_eq!(late.unwrap_err(), PairingError::UnknownRequest(silent.id));
    rig.clock.sleep(6 * MINUTE).await;
    assert!(rig.storage.devices().requests.is_empty());
    let lines = audit(&rig);
    let expired: Vec<_> = lines.iter().filter(|line| line.event == "device.request_expired").collect();
    assert_eq!(expired.len(), 2);
    assert!(expired.iter().all(|line| line.origin == Origin::Timer));
    assert_eq!(told(&rig).iter().filter(|line| *line == "expired").count(), 2);
    assert_ne!(door.pend(stranger(1)).await.request.id, silent.id);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn devices_requests_and_tokens_survive_the_end_of_the_tree() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    let token = door(&rig).admit(local(1)).await.token.unwrap();
    let waiting = door(&rig).pend(stranger(2)).await.request;
    finish(rig).await;
    let rig = setup().on(&storage, 2).start(script).await;
    assert_eq!(door(&rig).verify(id(1), &token, READ).await, TokenCheck::Valid);
    assert!(door(&rig).admit(stranger(1)).await.token.is_none());
    assert_eq!(door(&rig).pend(stranger(2)).await.request, waiting);
    door(&rig).approve(&waiting).await;
    finish(rig).await;
    let rig = setup().on(&storage, 3).start(script).await;
    assert!(door(&rig).admit(stranger(2)).await.token.is_some());
    finish(rig).await;
}

#[tokio::test]
async fn a_device_that_connects_many_times_at_once_is_approved_once() {
    let rig = rig().await;
    let door = door(&rig);
    let connects = (0..32).map(|_| door.admit(local(1)));
    let grants = futures::future::join_all(connects).await;
    assert_eq!(grants.iter().filter(|grant| grant.token.is_some()).count(), 1);
    let connects = (0..32).map(|_| door.pend(stranger(2)));
    let pending = futures::future::join_all(connects).await;
    assert!(pending.iter().all(|other| other.request.id == pending[0].request.id));
    assert_eq!(audit(&rig).len(), 2);
    finish(rig).await;
}
