//! Bodies of requests: bounded in length and in time.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::Bytes;

use super::{Problem, Request, Response};

/// How long a client may take to send a body.
const WITHIN: Duration = Duration::from_secs(60);

/// Why there is no body to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("Payload too large: at most {0} bytes are taken")]
    TooLong(usize),
    #[error("Request body timeout: it must come within {} seconds", WITHIN.as_secs())]
    TooSlow,
    #[error("the request ended before its body did")]
    Broken,
    #[error("invalid request body: {0}")]
    Invalid(String),
}

impl BodyError {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken | Self::Invalid(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// In the form that clients of the endpoints for other programs know.
    pub(super) fn response(&self) -> Response {
        self.closing(Problem::new(self.status(), "invalid_request_error", self.to_string()).response())
    }

    /// What is left of the body is not read.
    pub(super) fn closing(&self, mut response: Response) -> Response {
        if !matches!(self, Self::Invalid(_)) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(request: Request<Incoming>, most: usize) -> Result<Bytes, BodyError> {
    if announced(request.headers()).is_some_and(|length| length > most as u64) {
        return Err(BodyError::TooLong(most));
    }
    let reading = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(WITHIN, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(most)),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// Reads a JSON document of at most `most` bytes.
pub(super) async fn read_json<T: DeserializeOwned>(
    request: Request<Incoming>,
    most: usize,
) -> Result<T, BodyError> {
    parse(&read(request, most).await?)
}

/// The document with the place of what is wrong in it. Members that nobody knows are passed over.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader);
    let value = value.map_err(|error| BodyError::Invalid(error.to_string()))?;
    reader.end().map_err(|error| BodyError::Invalid(error.to_string()))?;
    Ok(value)
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        list: Vec<u32>,
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        assert_eq!(parse::<Sample>(br#"{"list":[1],"other":2}"#), Ok(Sample { list: vec![1] }));
        let text = parse::<Sample>(br#"{"list":[1,"x"]}"#).unwrap_err().to_string();
        assert!(text.contains("list[1]"), "{text}");
        assert!(parse::<Sample>(br#"{"list":[]} more"#).is_err());
        assert!(parse::<Sample>(b"").is_err());
    }
}
