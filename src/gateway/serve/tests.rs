use std::sync::atomic::{AtomicBool, Ordering};

use futures::{SinkExt, StreamExt};
use offshoot_actors::MemoryStorage;
use offshoot_actors::kit::{Bug, Faults};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::config::{Environment, load_text};

/// Lets the gateway's actor panic once, when it is armed.
#[derive(Default)]
struct Once(AtomicBool);

impl Faults for Once {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        actor == "gateway" && message == "beat" && self.0.swap(false, Ordering::Relaxed)
    }

    fn has(&self, _: Bug) -> bool {
        false
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let looked = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), looked).await.is_ok(), "{what}");
}

#[tokio::test]
async fn after_a_panic_of_the_gateway_nobody_is_there_who_is_not() {
    let config = "{ gateway: { auth: { mode: 'none' } } }";
    let mut config = load_text(&Environment::default(), "offshoot.json", config).unwrap();
    config.gateway.port = 0;
    let fault = Arc::new(Once::default());
    let state = tempfile::tempdir().unwrap();
    let (clock, storage) = (runtime::clock(), Arc::new(MemoryStorage::new()));
    let faults = Arc::clone(&fault) as Arc<dyn Faults>;
    let adapt = |options: &mut TreeOptions| options.faults = Some(faults);
    let dir = state.path().to_owned();
    let serving = Serving::start_with(Arc::new(config), clock, storage, dir, adapt).await.unwrap();
    let stream = tokio::net::TcpStream::connect(serving.addresses().first().unwrap()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://localhost/", stream).await.unwrap();
    let connect = json!({ "type": "req", "id": "1", "method": "connect", "params": {
        "minProtocol": 4, "maxProtocol": 4,
        "client": { "id": "test", "version": "1", "platform": "linux", "mode": "test" } } });
    socket.send(Message::text(connect.to_string())).await.unwrap();
    until("the client is there", || serving.daemon.hub.len() == 1).await;
    fault.0.store(true, Ordering::Relaxed);
    while let Some(Ok(_)) = socket.next().await {}
    until("the client is gone", || serving.daemon.hub.len() == 0).await;
    let presence = serving.daemon.presence_list();
    assert_eq!(presence.iter().filter(|entry| entry.reason.as_deref() == Some("connect")).count(), 0);
    serving.stop("service restart").await;
}

#[tokio::test]
async fn commands_find_what_is_asked_for_until_the_restart_and_no_longer() {
    let config = "{ gateway: { auth: { token: 'the old one' } } }";
    let mut config = load_text(&Environment::default(), "offshoot.json", config).unwrap();
    config.gateway.port = 0;
    let state = tempfile::tempdir().unwrap();
    let (clock, storage) = (runtime::clock(), Arc::new(MemoryStorage::new()));
    let dir = state.path().to_owned();
    let serving = Serving::start(Arc::new(config), clock, storage, dir).await.unwrap();
    let record = json!({ "pid": 1, "version": "1", "startedAt": 7, "urls": [], "authMode": "token" });
    serving.publish(serde_json::from_value(record).unwrap()).unwrap();
    let token = || {
        let record = std::fs::read_to_string(state.path().join("gateway.json")).unwrap();
        let record: Record = serde_json::from_str(&record).unwrap();
        record.token_file.map(|file| std::fs::read_to_string(file).unwrap())
    };
    assert_eq!(token(), None, "it is in the configuration");
    for _ in 0..2 {
        serving.daemon.record_kept_auth();
        assert_eq!(token().as_deref(), Some("the old one\n"));
    }
    serving.daemon.record_auth(None);
    assert_eq!(token(), None);
    let left = std::fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["gateway.json"]);
    serving.stop("service restart").await;
}
