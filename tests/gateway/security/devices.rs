//! Devices that lose what they came in with.

use std::sync::Arc;
use std::time::Duration;

use offshoot::runtime;
use offshoot_actors::ports::{BoxFuture, Clock};
use offshoot_actors::types::{Monotonic, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Door, Guest, Heard, TOKEN};

/// A connection of the device, with every right.
async fn enter(door: &Door, device: &str) -> (Guest, Value) {
    door.enter(Some(device), json!({})).await.unwrap()
}

fn id_in(params: &Value) -> Value {
    params["device"]["id"].clone()
}

#[tokio::test]
async fn whoever_takes_its_own_devices_rights_hears_how_it_went_and_is_closed_like_the_others() {
    let door = Door::open().await;
    for (method, reason, answers) in [
        ("device.token.rotate", "device token rotated", "token"),
        ("device.token.revoke", "device token revoked", "revokedAtMs"),
        ("device.pair.remove", "device removed", "deviceId"),
    ] {
        let (mut asker, _) = enter(&door, "own").await;
        let (mut other, _) = enter(&door, "own").await;
        let id = id_in(&asker.params(Some("own"), json!({})));
        let answer = asker.call(method, json!({ "deviceId": id, "role": "operator" })).await.unwrap();
        assert!(!answer[answers].is_null(), "{method}: {answer}");
        assert_eq!(asker.closed().await, (4001, reason.to_owned()), "{method}");
        assert_eq!(other.closed().await, (4001, reason.to_owned()), "{method}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_token_that_was_rotated_by_its_device_lets_it_in_again() {
    let door = Door::open().await;
    let (mut asker, hello) = enter(&door, "own").await;
    let old = hello["auth"]["deviceToken"].clone();
    let id = id_in(&asker.params(Some("own"), json!({})));
    let rotated =
        asker.call("device.token.rotate", json!({ "deviceId": id, "role": "operator" })).await.unwrap();
    let with = |token: &Value| json!({ "auth": { "deviceToken": token } });
    let refused = door.enter(Some("own"), with(&old)).await.map(|(_, hello)| hello).unwrap_err();
    assert_eq!(refused["details"]["authReason"], "device_token_mismatch");
    door.enter(Some("own"), with(&rotated["token"])).await.unwrap();
    door.close().await;
}

/// How long a third failure is held back, and nothing else takes.
const THIRD: Duration = Duration::from_secs(1);

/// A clock on which that takes until it is let go.
struct Held {
    clock: Arc<dyn Clock>,
    /// How many have come to wait, and whether they may go on.
    waits: watch::Sender<u32>,
    goes: watch::Sender<bool>,
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        if duration != THIRD {
            return self.clock.sleep(duration);
        }
        self.waits.send_modify(|waits| *waits += 1);
        let mut goes = self.goes.subscribe();
        Box::pin(async move { drop(goes.wait_for(|goes| *goes).await) })
    }
}

impl Held {
    fn new(goes: bool) -> Arc<Self> {
        let (waits, goes) = (watch::Sender::new(0), watch::Sender::new(goes));
        Arc::new(Self { clock: runtime::clock(), waits, goes })
    }
}

/// A daemon on such a clock, and somebody whose connect waits on it.
async fn held_up(gateway: &str) -> (Door, Arc<Held>, Guest) {
    let held = Held::new(false);
    let door = Door::by(Arc::clone(&held) as Arc<dyn Clock>, gateway).await;
    let (_, hello) = enter(&door, "late").await;
    let guess = json!({ "auth": { "token": "guess", "deviceToken": hello["auth"]["deviceToken"] } });
    for _ in 0..2 {
        door.enter(Some("late"), guess.clone()).await.unwrap();
    }
    let mut late = door.knock(&[]).await;
    let params = late.params(Some("late"), guess);
    late.send("connect", params).await;
    held.waits.subscribe().wait_for(|waits| *waits > 0).await.unwrap();
    (door, held, late)
}

#[tokio::test]
async fn whoever_is_wrong_in_every_way_is_held_back_once() {
    let held = Held::new(true);
    let clock = Arc::clone(&held) as Arc<dyn Clock>;
    let door = Door::by(clock, &format!("auth: {{ mode: 'token', token: '{TOKEN}' }}")).await;
    let wrong = json!({ "auth": { "token": "guess", "deviceToken": "some", "bootstrapToken": "some" } });
    for _ in 0..3 {
        assert!(door.enter(Some("own"), wrong.clone()).await.is_err());
    }
    assert_eq!(*held.waits.borrow(), 1, "for the third of each kind");
    door.close().await;
}

#[tokio::test]
async fn whoever_is_shut_out_while_it_is_being_let_in_must_come_again_and_nobody_else() {
    let node = json!({ "role": "node", "scopes": [], "client": { "id": "node-host", "version": "1",
                       "platform": "linux", "mode": "node" } });
    for (shut_out, comes_in) in [("other", true), ("late", false)] {
        let (door, held, mut late) = held_up(&format!("auth: {{ mode: 'token', token: '{TOKEN}' }}")).await;
        let (mut admin, _) = enter(&door, "admin").await;
        let (mut lent, _) = door.enter(Some(shut_out), node.clone()).await.unwrap();
        let id = id_in(&lent.params(Some(shut_out), json!({})));
        admin.call("device.token.rotate", json!({ "deviceId": id, "role": "node" })).await.unwrap();
        assert_eq!(lent.closed().await.0, 4001);
        held.goes.send_replace(true);
        if comes_in {
            let Heard::Frame(hello) = late.heard().await else { panic!("no answer") };
            assert_eq!(hello["payload"]["type"], "hello-ok", "{hello}");
            late.call("health", json!({})).await.unwrap();
        } else {
            assert_eq!(late.closed().await, (4001, "gateway auth changed".to_owned()));
        }
        door.close().await;
    }
}

#[tokio::test]
async fn nobody_begins_anything_who_comes_in_while_the_gateway_stops() {
    let (door, held, mut late) = held_up(&format!("auth: {{ mode: 'token', token: '{TOKEN}' }}")).await;
    let mut later = door.knock(&[]).await;
    let (mut guest, _) = enter(&door, "guest").await;
    // Its open request holds the end up.
    guest.send("agent.wait", json!({ "runId": "none" })).await;
    guest.call("health", json!({})).await.unwrap();
    let closing = tokio::spawn(door.close());
    while !matches!(guest.heard().await, Heard::Frame(frame) if frame["event"] == "shutdown") {}
    let work = late.send("health", json!({})).await;
    held.goes.send_replace(true);
    let params = later.params(None, json!({}));
    let connect = later.send("connect", params).await;
    for (mut comes, id) in [(late, work), (later, connect)] {
        let close = loop {
            match comes.heard().await {
                Heard::Frame(frame) => assert_ne!(frame["id"], id, "{frame}"),
                Heard::Closed(code, reason) => break (code, reason),
            }
        };
        assert_eq!(close, (1012, "service restart".to_owned()));
    }
    drop(guest);
    closing.await.unwrap();
}

#[tokio::test]
async fn a_setup_code_lets_one_device_in_from_elsewhere_once_and_with_no_more_than_it_gives() {
    let door = Door::open().await;
    let (mut admin, _) = enter(&door, "own").await;
    let params = json!({ "scopes": ["operator.read"], "expiresInMs": 60_000 });
    let issued = admin.call("device.code.issue", params).await.unwrap();
    let proxied = [("x-forwarded-for", "203.0.113.5")];
    let with = |scope: &str| json!({ "auth": { "bootstrapToken": issued["code"] }, "scopes": [scope] });
    let try_with = async |device, scope| door.enter_with(&proxied, Some(device), with(scope)).await;
    let beyond = try_with("phone", "operator.admin").await.map(|(_, hello)| hello).unwrap_err();
    assert!(beyond["message"].as_str().unwrap().contains("ask for no more"), "{beyond}");
    let (_, hello) = try_with("phone", "operator.read").await.unwrap();
    assert_eq!(hello["auth"]["scopes"], json!(["operator.read"]));
    let again = try_with("tablet", "operator.read").await.map(|(_, hello)| hello).unwrap_err();
    assert_eq!(again["details"]["authReason"], "bootstrap_token_invalid");
    let token =
        json!({ "auth": { "deviceToken": hello["auth"]["deviceToken"] }, "scopes": ["operator.read"] });
    door.enter_with(&proxied, Some("phone"), token).await.unwrap();
    let (mut reader, _) = door.enter(Some("own"), json!({ "scopes": ["operator.pairing"] })).await.unwrap();
    let refused = reader.call("device.code.issue", json!({ "scopes": ["operator.read"] })).await.unwrap_err();
    assert_eq!(refused["message"], "missing scope: operator.read");
    door.close().await;
}
