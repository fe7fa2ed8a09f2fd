//! Brings spans to a collector.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Bytes;

use crate::config::Otel;

/// How long a collector may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was taken, but for so many spans.
    Taken { rejected: u64 },
    /// It may be sent again, not before this if the collector says so.
    Again { reason: String, after: Option<Duration> },
    /// The collector will never take it.
    Never(String),
}

/// The client of collectors. It follows no redirect: the headers may hold a secret.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .timeout(ANSWER_WITHIN)
        .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends a batch once.
pub(super) async fn send(client: Client, settings: Arc<Otel>, body: Bytes) -> Sent {
    let mut request = client.post(settings.endpoint.clone()).header(CONTENT_TYPE, "application/json");
    for (name, value) in &settings.headers {
        request = request.header(name, value.expose_secret());
    }
    match request.body(body).send().await {
        Ok(response) => answered(response).await,
        // The address may hold a secret, and errors repeat it.
        Err(error) => Sent::Again { reason: error.without_url().to_string(), after: None },
    }
}

async fn answered(mut response: Response) -> Sent {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    if !status.is_success() {
        let reason = format!("it answered {status}");
        return if may_be_repeated(status) { Sent::Again { reason, after } } else { Sent::Never(reason) };
    }
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Ok(Some(bytes)) = response.chunk().await
    {
        body.extend_from_slice(&bytes);
    }
    Sent::Taken { rejected: rejected(&body) }
}

/// What the standard names as worth another attempt.
fn may_be_repeated(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Spans that were not taken, of a batch that was.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = &answer["partialSuccess"]["rejectedSpans"];
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_says_what_it_did_not_take() {
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":"3"}}"#), 3);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedSpans":4}}"#), 4);
        assert_eq!(rejected(b"{}") + rejected(b"") + rejected(b"\x0a\x00"), 0);
    }
}
