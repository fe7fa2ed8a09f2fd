//! Device tokens: shown once, replaced, revoked.

use super::*;

async fn rotate(
    door: &Door,
    scopes: Option<Scopes>,
    caller: Caller,
) -> Result<offshoot_actors::Rotated, PairingError> {
    door.handle.rotate(id(1), Role::Operator, scopes, caller, origin()).await
}

async fn revoke(door: &Door) -> Result<offshoot_actors::types::Timestamp, PairingError> {
    door.handle.revoke(id(1), Role::Operator, Caller::OPERATOR, Origin::Operator).await
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_its_device_its_role_and_its_scopes() {
    let rig = rig().await;
    let door = door(&rig);
    let token = door.admit(ConnectRequest { scopes: WRITE, ..local(1) }).await.token.unwrap();
    let other = door.admit(ConnectRequest { scopes: WRITE, ..local(2) }).await.token.unwrap();
    assert_eq!(door.verify(id(1), &token, WRITE | READ).await, TokenCheck::Valid);
    assert_eq!(door.verify(id(1), &token, Scopes::NONE).await, TokenCheck::Valid);
    assert_eq!(door.verify(id(1), &token, ADMIN).await, TokenCheck::ScopeMismatch);
    assert_eq!(door.verify(id(1), &other, WRITE).await, TokenCheck::Mismatch);
    assert_eq!(door.verify(id(3), &token, WRITE).await, TokenCheck::Mismatch);
    let wrong = Secret::presented(format!("{} ", token.expose()));
    assert_eq!(door.verify(id(1), &wrong, WRITE).await, TokenCheck::Mismatch);
    let as_node = door.handle.verify_token(id(1), token, Role::Node, Scopes::NONE).await.unwrap();
    assert_eq!(as_node, TokenCheck::Mismatch);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_ends_the_old_one_within_what_was_approved() {
    let rig = rig().await;
    let door = door(&rig);
    let first = door.admit(ConnectRequest { scopes: WRITE, ..local(1) }).await.token.unwrap();
    let own = Caller { device: Some(id(1)), scopes: WRITE.with(Scope::Pairing) };
    let foreign = Caller { device: Some(id(2)), ..own };
    assert_eq!(rotate(&door, None, foreign).await.unwrap_err(), PairingError::NotOwn);
    let beyond = rotate(&door, Some(ADMIN), Caller::OPERATOR).await.unwrap_err();
    assert_eq!(beyond, PairingError::BeyondApproved { approved: WRITE.normalised() });
    let reader = Caller { scopes: READ.with(Scope::Pairing), ..own };
    let lacking = rotate(&door, Some(WRITE), reader).await.unwrap_err();
    assert_eq!(lacking, PairingError::MissingScope(Scope::Write));
    assert_eq!(door.verify(id(1), &first, WRITE).await, TokenCheck::Valid, "a refusal changes nothing");

    rig.sleep(5).await;
    let second = rotate(&door, Some(READ), own).await.unwrap();
    assert_eq!((second.scopes, second.rotated_at), (READ, rig.clock.now()));
    assert_eq!(door.verify(id(1), &first, READ).await, TokenCheck::Mismatch);
    assert_eq!(door.verify(id(1), &second.token, WRITE).await, TokenCheck::ScopeMismatch);
    let third = rotate(&door, None, own).await.unwrap();
    assert_eq!(third.scopes, READ, "without scopes it is as good as the one before");
    let info = door.handle.list().await.unwrap().paired.remove(0).tokens.remove(0);
    assert_eq!((info.scopes, info.rotated_at), (READ, Some(rig.clock.now())));
    assert_eq!(told(&rig), ["approved", "rotated operator", "rotated operator"]);
    assert_eq!(audit(&rig).iter().filter(|line| line.event == "device.token_rotated").count(), 2);
    let grant = door.admit(ConnectRequest { scopes: WRITE, ..stranger(1) }).await;
    assert!(grant.token.is_some(), "it may have what was approved, for which its token is not good");
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_role_must_be_approved_again_from_nothing() {
    let rig = rig().await;
    let door = door(&rig);
    let token = door.admit(ConnectRequest { scopes: ADMIN, ..local(1) }).await.token.unwrap();
    assert_eq!(revoke(&door).await.unwrap(), rig.clock.now());
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Revoked);
    let again = revoke(&door).await.unwrap_err();
    assert_eq!(again, PairingError::UnknownRole { device: id(1), role: Role::Operator });
    assert_eq!(rotate(&door, None, Caller::OPERATOR).await.unwrap_err(), again);
    let pending = door.pend(stranger(1)).await;
    assert_eq!(pending.request.reason.as_str(), "role-upgrade");
    assert!(pending.approved_scopes.is_empty());
    door.approve(&pending.request).await;
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Revoked);
    assert!(door.admit(stranger(1)).await.token.is_some());
    let admin = door.pend(ConnectRequest { scopes: ADMIN, ..stranger(1) }).await;
    assert_eq!((admin.request.reason.as_str(), admin.approved_scopes), ("scope-upgrade", READ));
    let told = told(&rig);
    assert_eq!(told[..2], ["approved", "revoked operator"]);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_nothing_but_its_token_comes_back_with_it_after_an_approval() {
    let rig = rig().await;
    let door = door(&rig);
    let token = door.admit(local(1)).await.token.unwrap();
    let wider = ConnectRequest { scopes: WRITE, has_token: true, ..stranger(1) };
    assert_eq!(door.verify(id(1), &token, WRITE).await, TokenCheck::ScopeMismatch);
    let pending = door.pend(wider.clone()).await.request;
    rig.sleep(10).await;
    door.approve(&pending).await;
    assert_eq!(door.verify(id(1), &token, WRITE).await, TokenCheck::Valid);
    assert!(door.admit(wider.clone()).await.token.is_none(), "it has a good one");
    let with_secret = ConnectRequest { has_token: false, ..wider };
    assert!(door.admit(with_secret.clone()).await.token.is_some(), "it may not know what it has");
    assert!(door.admit(with_secret).await.token.is_none());
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_narrowed_token_gives_no_more_than_it_is_good_for() {
    let rig = rig().await;
    let door = door(&rig);
    door.admit(ConnectRequest { scopes: WRITE, ..local(1) }).await;
    let narrow = rotate(&door, Some(READ), Caller::OPERATOR).await.unwrap().token;
    let with_token = |scopes| ConnectRequest { scopes, has_token: true, ..stranger(1) };
    assert_eq!(door.verify(id(1), &narrow, WRITE).await, TokenCheck::ScopeMismatch);
    assert_eq!(door.admit(with_token(READ)).await.token_scopes, READ);
    let pending = door.pend(with_token(WRITE)).await.request;
    assert_eq!(pending.reason.as_str(), "scope-upgrade");
    door.approve(&pending).await;
    assert!(door.admit(with_token(WRITE)).await.token.is_none());
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn an_approval_gives_a_narrowed_token_no_more_than_was_asked_for() {
    let rig = rig().await;
    let door = door(&rig);
    door.admit(ConnectRequest { scopes: ADMIN, ..local(1) }).await;
    let narrow = rotate(&door, Some(READ), Caller::OPERATOR).await.unwrap().token;
    let as_reader = ConnectRequest { has_token: true, scopes: WRITE, ..stranger(1) };
    let pending = door.pend(as_reader).await;
    door.approve(&pending.request).await;
    assert_eq!(door.verify(id(1), &narrow, WRITE).await, TokenCheck::Valid);
    assert_eq!(door.verify(id(1), &narrow, ADMIN).await, TokenCheck::ScopeMismatch);
    let node = door.pend(ConnectRequest { role: Role::Node, scopes: Scopes::NONE, ..stranger(1) }).await;
    door.approve(&node.request).await;
    assert_eq!(door.verify(id(1), &narrow, ADMIN).await, TokenCheck::ScopeMismatch);
    finish(rig).await;
}
