//! HTTP from whoever is not meant.

use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Door, Heard};

#[tokio::test]
async fn where_nothing_is_proved_a_request_through_a_proxy_is_nobodys() {
    let door =
        Door::with("auth: { mode: 'none' }, http: { endpoints: { chatCompletions: { enabled: true } } }")
            .await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/models", door.address());
    let direct = client.get(&url).send().await.unwrap();
    assert_eq!(direct.status(), StatusCode::OK);
    let proxied = client.get(&url).header("x-forwarded-for", "203.0.113.5").send().await.unwrap();
    assert_eq!(proxied.status(), StatusCode::UNAUTHORIZED);
    door.close().await;
}

/// Asks on a connection that stays open, and reads the head of the answer. None if it is closed without one.
async fn ask(stream: &mut TcpStream, headers: &str) -> Option<String> {
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    Some(head)
}

#[tokio::test]
async fn nothing_begins_on_an_open_connection_once_the_gateway_stops() {
    let door = Door::open().await;
    let (mut guest, _) = door.enter(None, json!({})).await.unwrap();
    // Its open request holds the end up.
    guest.send("agent.wait", json!({ "runId": "none" })).await;
    guest.call("health", json!({})).await.unwrap();
    let mut asks = TcpStream::connect(door.address()).await.unwrap();
    let mut upgrades = TcpStream::connect(door.address()).await.unwrap();
    for stream in [&mut asks, &mut upgrades] {
        assert!(ask(stream, "").await.unwrap().starts_with("http/1.1 200"));
    }
    let closing = tokio::spawn(door.close());
    while !matches!(guest.heard().await, Heard::Frame(frame) if frame["event"] == "shutdown") {}
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (stream, headers) in [(&mut asks, ""), (&mut upgrades, upgrade)] {
        // What is idle when the end begins is closed; what comes in that moment is refused.
        if let Some(head) = ask(stream, headers).await {
            assert!(head.starts_with("http/1.1 503") && head.contains("connection: close"), "{head}");
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
        }
    }
    drop(guest);
    closing.await.unwrap();
}
