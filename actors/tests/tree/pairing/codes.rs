//! Setup codes.

use std::sync::Arc;

use offshoot_actors::{MemoryStorage, SetupCode};

use super::*;

async fn issue(door: &Door, scopes: Scopes, ttl: Duration) -> Result<SetupCode, PairingError> {
    door.handle.issue_code(Role::Operator, scopes, ttl, Caller::OPERATOR, Origin::Operator).await
}

async fn redeem(door: &Door, code: &Secret, request: ConnectRequest) -> Result<Grant, PairingError> {
    soon("a redeem", door.handle.redeem_code(code.clone(), request, origin())).await
}

#[tokio::test(start_paused = true)]
async fn a_code_lets_one_stranger_in_with_no_more_than_it_gives() {
    let storage = Arc::new(MemoryStorage::new());
    let first = setup().on(&storage, 1).start(script).await;
    let code = issue(&door(&first), WRITE, MINUTE).await.unwrap();
    finish(first).await;
    let rig = setup().on(&storage, 2).start(script).await;
    let door = door(&rig);
    let shown = format!("{code:?} {:?} {:?}", rig.storage.devices(), rig.storage.audit());
    assert!(!shown.contains(code.code.expose()));
    let beyond =
        redeem(&door, &code.code, ConnectRequest { scopes: ADMIN, ..stranger(1) }).await.unwrap_err();
    assert_eq!(beyond, PairingError::CodeScope { role: Role::Operator, scopes: WRITE.normalised() });
    let node = redeem(&door, &code.code, ConnectRequest { role: Role::Node, ..stranger(1) }).await;
    assert!(matches!(node, Err(PairingError::CodeScope { .. })));
    let wrong = redeem(&door, &Secret::presented("guess"), stranger(1)).await.unwrap_err();
    assert_eq!(wrong, PairingError::CodeInvalid);
    door.pend(stranger(1)).await;
    let grant = redeem(&door, &code.code, stranger(1)).await.unwrap();
    assert_eq!((grant.scopes, grant.token_scopes), (READ, READ));
    assert_eq!(door.verify(id(1), &grant.token.unwrap(), READ).await, TokenCheck::Valid);
    assert!(rig.storage.devices().requests.is_empty(), "its request is settled");
    for number in [1, 2] {
        let used = redeem(&door, &code.code, stranger(number)).await.unwrap_err();
        assert_eq!(used, PairingError::CodeInvalid);
    }
    let line = audit(&rig).into_iter().find(|line| line.event == "device.approved").unwrap();
    assert_eq!(fact(&line, "code").unwrap(), code.info.id.to_string());
    finish(rig).await;
}

#[tokio::test]
async fn of_many_who_redeem_a_code_at_once_one_is_let_in() {
    let rig = rig().await;
    let door = door(&rig);
    let code = issue(&door, READ, MINUTE).await.unwrap().code;
    let all = (0..16).map(|number| redeem(&door, &code, stranger(number)));
    let answers = futures::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(rig.storage.devices().devices.len(), 1);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_code_lapses_and_is_removed() {
    let rig = rig().await;
    let door = door(&rig);
    let code = issue(&door, READ, MINUTE).await.unwrap();
    assert_eq!(door.handle.list().await.unwrap().codes, std::slice::from_ref(&code.info));
    rig.clock.sleep(MINUTE).await;
    assert_eq!(redeem(&door, &code.code, stranger(1)).await.unwrap_err(), PairingError::CodeInvalid);
    rig.sleep(5_000).await;
    assert!(rig.storage.devices().bootstraps.is_empty());
    assert_eq!(audit(&rig).last().unwrap().event, "setup_code.expired");
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_known_device_may_redeem_a_code_for_more() {
    let rig = rig().await;
    let door = door(&rig);
    let first = door.admit(local(1)).await.token.unwrap();
    let code = issue(&door, ADMIN, MINUTE).await.unwrap().code;
    let grant = redeem(&door, &code, ConnectRequest { scopes: WRITE, ..stranger(1) }).await.unwrap();
    assert_eq!(grant.approved.unwrap().as_str(), "scope-upgrade");
    assert_eq!(door.verify(id(1), &first, READ).await, TokenCheck::Mismatch);
    assert_eq!(door.verify(id(1), &grant.token.unwrap(), WRITE).await, TokenCheck::Valid);
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_code_gives_nothing_that_its_maker_lacks_and_does_not_live_for_ever() {
    let rig = rig().await;
    let door = door(&rig);
    let by = |scopes| Caller { device: None, scopes };
    let make = |scopes, caller| door.handle.issue_code(Role::Operator, scopes, MINUTE, caller, origin());
    let lacking = make(ADMIN, by(WRITE.with(Scope::Pairing))).await.unwrap_err();
    assert_eq!(lacking, PairingError::MissingScope(Scope::Admin));
    assert_eq!(make(READ, by(READ)).await.unwrap_err(), PairingError::MissingScope(Scope::Pairing));
    for ttl in [Duration::ZERO, 1_441 * MINUTE] {
        assert_eq!(issue(&door, READ, ttl).await.unwrap_err(), PairingError::CodeTtl);
    }
    for _ in 0..64 {
        issue(&door, READ, MINUTE).await.unwrap();
    }
    assert_eq!(issue(&door, READ, MINUTE).await.unwrap_err(), PairingError::TooManyCodes { max: 64 });
    rig.clock.sleep(2 * MINUTE).await;
    issue(&door, READ, MINUTE).await.unwrap();
    finish(rig).await;
}
