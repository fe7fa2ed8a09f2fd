//! Approvals, refusals, removals.

use super::*;

fn caller(number: u8, scopes: Scopes) -> Caller {
    Caller { device: Some(id(number)), scopes }
}

const PAIRING: Scopes = Scopes::NONE.with(Scope::Pairing);

#[tokio::test(start_paused = true)]
async fn nobody_approves_what_they_do_not_hold() {
    let rig = rig().await;
    let door = door(&rig);
    let request = door.pend(ConnectRequest { scopes: WRITE, ..stranger(1) }).await.request;
    let try_with = |scopes| door.handle.approve(request.id, caller(9, scopes), origin());
    let missing = |scope| PairingError::MissingScope(scope);
    assert_eq!(try_with(WRITE).await.unwrap_err(), missing(Scope::Pairing));
    assert_eq!(try_with(PAIRING | READ).await.unwrap_err(), missing(Scope::Write));
    assert_eq!(try_with(PAIRING).await.unwrap_err().to_string(), "missing scope: operator.read");
    assert_eq!(rig.storage.devices().requests.len(), 1);
    let paired = try_with(PAIRING | WRITE).await.unwrap();
    assert_eq!((paired.device.id, paired.device.scopes), (id(1), WRITE.normalised()));
    assert!(try_with(PAIRING | WRITE).await.is_err(), "once");
    let admin = door.pend(ConnectRequest { scopes: Scopes::ALL, ..stranger(2) }).await.request;
    door.handle.approve(admin.id, caller(9, ADMIN), origin()).await.unwrap();
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_device_may_ask_again() {
    let rig = rig().await;
    let door = door(&rig);
    let request = door.pend(stranger(1)).await.request;
    let reject = |scopes| door.handle.reject(request.id, caller(9, scopes), origin());
    assert_eq!(reject(WRITE).await.unwrap_err(), PairingError::MissingScope(Scope::Pairing));
    assert_eq!(reject(PAIRING).await.unwrap(), id(1));
    assert_eq!(reject(PAIRING).await.unwrap_err(), PairingError::UnknownRequest(request.id));
    assert_ne!(door.pend(stranger(1)).await.request.id, request.id);
    assert_eq!(told(&rig), ["requested not-paired", "rejected", "requested not-paired"]);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_is_a_stranger_and_its_token_worth_nothing() {
    let rig = rig().await;
    let door = door(&rig);
    let token = door.admit(local(1)).await.token.unwrap();
    door.pend(ConnectRequest { scopes: ADMIN, ..stranger(1) }).await;
    let remove = |number, scopes| door.handle.remove(id(1), caller(number, scopes), origin());
    assert_eq!(remove(2, PAIRING).await.unwrap_err(), PairingError::NotOwn);
    assert_eq!(remove(1, READ).await.unwrap_err(), PairingError::MissingScope(Scope::Pairing));
    remove(1, PAIRING).await.unwrap();
    assert_eq!(remove(2, ADMIN).await.unwrap_err(), PairingError::UnknownDevice(id(1)));
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Mismatch);
    assert!(rig.storage.devices().requests.is_empty());
    assert_eq!(told(&rig), ["approved", "requested scope-upgrade", "removed", "rejected"]);
    assert!(door.pend(stranger(1)).await.approved_scopes.is_empty());
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_not_stored_did_not_happen() {
    let (setup, faulty) = setup().faulty();
    let rig = setup.start(script).await;
    let door = door(&rig);
    let refuse = || faulty.refuse(|op| matches!(op, offshoot_actors::ports::Op::Audit(_)));
    refuse();
    assert!(matches!(door.try_connect(local(1)).await, Err(PairingError::Store(_))));
    assert!(door.handle.list().await.unwrap().paired.is_empty());
    let token = door.admit(local(1)).await.token.unwrap();
    refuse();
    let removed = door.handle.remove(id(1), Caller::OPERATOR, Origin::Operator).await;
    assert!(matches!(removed, Err(PairingError::Store(_))), "{removed:?}");
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Valid);
    assert_eq!(told(&rig), ["approved"], "only what is committed is told");
    door.pend(stranger(2)).await;
    refuse();
    rig.clock.sleep(6 * MINUTE).await;
    assert_eq!(told(&rig).last().unwrap(), "requested not-paired", "what lapsed is removed a minute later");
    rig.clock.sleep(MINUTE).await;
    assert_eq!(told(&rig).last().unwrap(), "expired");
    finish(rig).await;
}
