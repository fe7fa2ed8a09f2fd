//! A client against a gateway whose frames the test writes.

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

type Socket = WebSocketStream<TcpStream>;

/// Accepts one client and hands its socket to `act` after the challenge.
async fn gateway<F, Fut>(act: F) -> (Options, JoinHandle<()>)
where
    F: FnOnce(Socket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        say(
            &mut socket,
            &json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 1}}),
        )
        .await;
        act(socket).await;
    });
    let options = Options {
        address: address.parse().unwrap(),
        secret: Some(Secret::Token("hunter2".into())),
        fingerprint: None,
        scopes: vec![Scope::Read],
        within: Duration::from_secs(20),
    };
    (options, task)
}

async fn say(socket: &mut Socket, frame: &Value) {
    socket.send(Message::text(frame.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Close(_))) | None => return Value::Null,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

async fn answer(socket: &mut Socket, request: &Value, payload: Value) {
    say(socket, &json!({"type": "res", "id": request["id"], "ok": true, "payload": payload})).await;
}

#[tokio::test]
async fn it_says_who_it_is_and_asks_for_no_more_than_it_needs() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        assert_eq!(connect["method"], "connect");
        let params = &connect["params"];
        assert_eq!((&params["minProtocol"], &params["maxProtocol"]), (&json!(3), &json!(4)));
        assert_eq!((&params["client"]["id"], &params["client"]["mode"]), (&json!("cli"), &json!("cli")));
        assert_eq!(params["scopes"], json!(["operator.read"]));
        assert_eq!(params["auth"], json!({"token": "hunter2"}));
        assert_eq!(params["device"], Value::Null);
        answer(&mut socket, &connect, json!({"type": "hello-ok", "protocol": 4})).await;
        let call = hear(&mut socket).await;
        assert_eq!((&call["method"], &call["params"]), (&json!("health"), &json!({"probe": true})));
        say(&mut socket, &json!({"type": "event", "event": "tick", "payload": {}, "seq": 1, "unknown": 1}))
            .await;
        say(&mut socket, &json!({"type": "res", "id": "another", "ok": true, "payload": {"ok": false}}))
            .await;
        answer(&mut socket, &call, json!({"ok": true})).await;
        assert_eq!(hear(&mut socket).await, Value::Null);
    })
    .await;
    let mut client = Client::connect(options).await.unwrap();
    assert_eq!(client.hello()["protocol"], 4);
    let health = client.call("health", &json!({"probe": true})).await.unwrap();
    assert_eq!(health.payload, json!({"ok": true}));
    client.close().await;
    task.await.unwrap();
}

#[tokio::test]
async fn a_request_may_be_answered_twice() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        answer(&mut socket, &connect, json!({})).await;
        let call = hear(&mut socket).await;
        answer(&mut socket, &call, json!({"status": "accepted", "runId": "r"})).await;
        say(
            &mut socket,
            &json!({"type": "res", "id": call["id"], "ok": false, "payload": {"status": "error"},
                "error": {"code": "UNAVAILABLE", "message": "it failed"}}),
        )
        .await;
    })
    .await;
    let mut client = Client::connect(options).await.unwrap();
    let first = client.call("agent", &json!({})).await.unwrap();
    assert!(first.is_accepted());
    let error = client.finally("agent", first).await.unwrap_err();
    assert_eq!(error.to_string(), "agent: it failed");
    assert!(
        matches!(error, ClientError::Refused { payload: Some(payload), .. } if payload["status"] == "error")
    );
    task.await.unwrap();
}

#[tokio::test]
async fn a_refusal_keeps_its_details() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        say(
            &mut socket,
            &json!({"type": "res", "id": connect["id"], "ok": false, "error": {"code": "NOT_PAIRED",
                "message": "pairing required", "details": {"code": "PAIRING_REQUIRED", "requestId": "x"}}}),
        )
        .await;
    })
    .await;
    match Client::connect(options).await.unwrap_err() {
        ClientError::Rejected(error) => assert_eq!(error.details.unwrap()["requestId"], "x"),
        other => panic!("{other}"),
    }
    task.await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_an_error_with_its_reason() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        answer(&mut socket, &connect, json!({})).await;
        hear(&mut socket).await;
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 1012.into(),
            reason: "service restart".into(),
        };
        socket.close(Some(frame)).await.unwrap();
    })
    .await;
    let mut client = Client::connect(options).await.unwrap();
    let error = client.call("health", &json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "the gateway was stopped");
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_an_error() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        answer(&mut socket, &connect, json!({})).await;
        hear(&mut socket).await;
        hear(&mut socket).await;
    })
    .await;
    let mut client = Client::connect(options).await.unwrap();
    let error = client.call("health", &json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "health was not answered within 20 s");
    drop(client);
    task.abort();
}

#[tokio::test]
async fn somebody_else_is_no_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = format!("ws://{}", listener.local_addr().unwrap()).parse().unwrap();
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1_024];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope").await.unwrap();
    });
    let options = Options {
        address: address.clone(),
        secret: None,
        fingerprint: None,
        scopes: Vec::new(),
        within: Duration::from_secs(20),
    };
    let error = Client::connect(options.clone()).await.unwrap_err().to_string();
    assert!(error.contains("is no gateway: it answers the upgrade with 404 Not Found"), "{error}");
    task.await.unwrap();
    let error = Client::connect(options).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn events_that_come_before_an_answer_are_kept_for_whoever_wants_them() {
    let (options, task) = gateway(|mut socket| async move {
        let connect = hear(&mut socket).await;
        answer(&mut socket, &connect, json!({"type": "hello-ok"})).await;
        for round in 0..2 {
            let request = hear(&mut socket).await;
            say(&mut socket, &json!({"type": "event", "event": "early", "payload": round, "seq": 2 * round}))
                .await;
            answer(&mut socket, &request, json!({})).await;
            say(&mut socket, &json!({"type": "event", "event": "late", "seq": 2 * round + 1})).await;
        }
        hear(&mut socket).await;
    })
    .await;
    let mut client = Client::connect(options).await.unwrap();
    client.call("first", &json!({})).await.unwrap();
    let late = Event { name: "late".to_owned(), payload: Value::Null, seq: Some(1) };
    assert_eq!(client.event().await.unwrap(), late);
    client.keep_events();
    client.call("second", &json!({})).await.unwrap();
    assert_eq!(
        client.event().await.unwrap(),
        Event { name: "early".to_owned(), payload: json!(1), seq: Some(2) }
    );
    assert_eq!(client.event().await.unwrap(), Event { seq: Some(3), ..late });
    client.close().await;
    task.await.unwrap();
}
