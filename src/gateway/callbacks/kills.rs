//! A daemon that dies between any two commits of a request with a callback.

use std::sync::atomic::{AtomicUsize, Ordering};

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::Storage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::{Environment, load_text};
use crate::gateway::Serving;
use crate::runtime::clock;

const CONFIG: &str = "{ gateway: { auth: { mode: 'none' } }, hooks: { enabled: true, token: 'hook-token' } }";
const PATIENCE: Duration = Duration::from_secs(20);

async fn serve(storage: &Arc<MemoryStorage>) -> (Serving, tempfile::TempDir) {
    let mut config = load_text(&Environment::default(), "offshoot.json", CONFIG).unwrap();
    config.gateway.port = 0;
    let dir = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::clone(storage) as _;
    let serving = Serving::start(Arc::new(config), clock(), storage, dir.path().to_owned()).await.unwrap();
    (serving, dir)
}

/// Refuses the first result and takes all others; tells whether it took each, and the run's id that came with it.
async fn receiver() -> (String, UnboundedReceiver<(bool, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, received) = unbounded_channel();
    let posts = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let Some(key) = key_of(&mut socket).await else { continue };
            let taken = posts.fetch_add(1, Ordering::Relaxed) > 0;
            let status = if taken { "200 OK" } else { "503 Service Unavailable" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            drop(socket.write_all(answer.as_bytes()).await);
            if sender.send((taken, key)).is_err() {
                return;
            }
        }
    });
    (address, received)
}

async fn key_of(socket: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    while !text.contains("\"version\"") {
        let mut bytes = [0; 4_096];
        let count = socket.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
    Some(key?.to_owned())
}

async fn none_is_open(storage: &MemoryStorage) {
    let look = async {
        while !storage.callbacks().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the delivery comes to an end");
}

#[tokio::test]
async fn a_callback_comes_after_a_death_at_any_commit_and_not_after_its_end() {
    let (address, mut posts) = receiver().await;
    let recorded = Arc::new(MemoryStorage::recording());
    let (daemon, _dir) = serve(&recorded).await;
    let hook = format!("http://{}/hooks/agent", daemon.addresses().first().unwrap());
    let wish = json!({ "message": "Reply with exactly: hello", "callbackUrl": address });
    let request = reqwest::Client::new().post(hook).header("x-openclaw-token", "hook-token");
    let answer = request.body(wish.to_string()).send().await.unwrap().text().await.unwrap();
    let run = serde_json::from_str::<Value>(&answer).unwrap()["runId"].as_str().unwrap().to_owned();
    assert_eq!(posts.recv().await.unwrap(), (false, run.clone()));
    assert_eq!(posts.recv().await.unwrap(), (true, run.clone()));
    none_is_open(&recorded).await;
    daemon.stop("service restart").await;

    // Not accepted yet, open, and at its end.
    let mut seen = [0; 3];
    for commit in 0..=recorded.commits() {
        let left = Arc::new(recorded.at_commit(commit).unwrap());
        let open = !left.callbacks().await.unwrap().is_empty();
        let (daemon, _dir) = serve(&left).await;
        if open {
            let post = tokio::time::timeout(PATIENCE, posts.recv()).await;
            assert_eq!(post.expect("it comes").unwrap(), (true, run.clone()), "after commit {commit}");
        }
        none_is_open(&left).await;
        daemon.stop("service restart").await;
        assert!(posts.try_recv().is_err(), "after commit {commit} it came once more");
        seen[if open { 1 } else { 2 * usize::from(seen[1] > 0) }] += 1;
    }
    assert!(seen.iter().all(|commits| *commits > 0), "{seen:?}");
}
