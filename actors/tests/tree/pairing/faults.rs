//! Panics of the registry: nothing that was committed is lost, and nobody inside notices.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use offshoot_actors::kit::{Bug, Faults};
use offshoot_actors::types::Terminal;

use super::*;

/// Panics on this message of the registry, so many times.
#[derive(Default)]
struct Panics {
    on: Mutex<Option<&'static str>>,
    left: AtomicU32,
}

impl Panics {
    fn arm(&self, message: Option<&'static str>, times: u32) {
        *self.on.lock().unwrap() = message;
        self.left.store(times, Ordering::SeqCst);
    }
}

impl Faults for Panics {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        let wanted = self.on.lock().unwrap().is_none_or(|on| on == message);
        actor == "pairing"
            && wanted
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn has(&self, _: Bug) -> bool {
        false
    }
}

async fn fragile() -> (Rig, Arc<Panics>) {
    let panics = Arc::new(Panics::default());
    let mut setup = setup();
    setup.faults = Some(Arc::clone(&panics) as Arc<dyn Faults>);
    (setup.start(script).await, panics)
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_survives_a_panic_at_any_message() {
    let (rig, panics) = fragile().await;
    let door = door(&rig);
    let token = door.admit(local(1)).await.token.unwrap();
    let waiting = door.pend(stranger(2)).await.request;
    for message in ["connect", "verify", "list", "approve"] {
        panics.arm(Some(message), 1);
        let gone = match message {
            "connect" => door.try_connect(stranger(1)).await.map(drop),
            "verify" => door.handle.verify_token(id(1), token.clone(), Role::Operator, READ).await.map(drop),
            "list" => door.handle.list().await.map(drop),
            _ => door.handle.approve(waiting.id, Caller::OPERATOR, Origin::Operator).await.map(drop),
        };
        assert_eq!(gone, Err(PairingError::Gone), "{message}");
        assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Valid);
        assert_eq!(door.pend(stranger(2)).await.request, waiting);
    }
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_answers_and_tells_also_when_the_registry_panics_on_its_return() {
    let (rig, panics) = fragile().await;
    let door = door(&rig);
    panics.arm(Some("settled"), 1);
    let token = door.admit(local(1)).await.token.unwrap();
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Valid);
    panics.arm(Some("settled"), 1);
    door.handle.remove(id(1), Caller::OPERATOR, Origin::Operator).await.unwrap();
    assert_eq!(told(&rig), ["approved", "removed"]);
    assert_eq!(door.verify(id(1), &token, READ).await, TokenCheck::Mismatch);
    door.pend(stranger(2)).await;
    panics.arm(Some("expire"), 1);
    rig.clock.sleep(6 * MINUTE).await;
    assert!(rig.storage.devices().requests.is_empty(), "the rebuilt registry has its timer");
    finish(rig).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_spawns_with_no_device_and_while_the_registry_fails_again_and_again() {
    let (rig, panics) = fragile().await;
    assert_eq!(rig.storage.devices(), Default::default());
    let run = rig.spawn("first").await.run;
    assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    panics.arm(None, 14);
    for number in 0..14 {
        let run = rig.spawn(&format!("task {number}")).await.run;
        drop(door(&rig).try_connect(local(1)).await);
        assert_eq!(rig.outcome(run).await.state, Terminal::Ok);
    }
    assert!(panics.left.load(Ordering::SeqCst) <= 3, "more panics than it survives");
    rig.until("the registry is back", |rig| rig.live("pairing").len() == 1).await;
    rig.clock.sleep(MINUTE).await;
    panics.arm(None, 0);
    door(&rig).admit(local(1)).await;
    let asked = rig.handle.actors().into_iter().find(|view| view.kind == "pairing").unwrap();
    assert!(asked.path.ends_with("pairing"));
    rig.quiet().await;
    rig.check().await;
    finish(rig).await;
}
