//! What a refused request is answered with.

use std::time::Duration;

use offshoot_actors::types::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::words;
use super::version::Protocol;

/// The longest reason that a WebSocket close frame carries, in bytes.
pub const MAX_CLOSE_REASON: usize = 123;

words! {
    /// What kind of refusal it is.
    ErrorCode {
        /// The request is wrong, or not allowed, or asks for what there is not.
        InvalidRequest = "INVALID_REQUEST",
        /// Not now, or not here.
        Unavailable = "UNAVAILABLE",
        /// The device is not known, or is to be approved.
        NotPaired = "NOT_PAIRED",
        /// A channel is not linked.
        NotLinked = "NOT_LINKED",
        /// A run took too long.
        AgentTimeout = "AGENT_TIMEOUT",
        /// There is no such approval.
        ApprovalNotFound = "APPROVAL_NOT_FOUND",
        /// A scope is missing. Generation 4; see [`ErrorShape::missing_scope`].
        Forbidden = "FORBIDDEN",
    }
}

/// The `error` of a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ErrorShape {
    /// What kind of refusal it is.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// For programs; most have a `code` of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Whether the same request may succeed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// When it may, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What the response carries beside the error: what became of a run that failed.
    #[serde(skip)]
    pub payload: Option<Value>,
}

impl ErrorShape {
    /// An error without details.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retryable: None,
            retry_after_ms: None,
            payload: None,
        }
    }

    /// The request is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// Not now, or not here.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(self, details: Value) -> Self {
        Self { details: Some(details), ..self }
    }

    /// The same with the refusal in parts as its details: whoever shows it can tell what helps from what is wrong.
    #[must_use]
    pub fn refusing(self, refusal: &Refusal) -> Self {
        let Refusal { kind, code, message, hint } = refusal;
        let mut details = json!({ "code": code, "kind": kind, "reason": message });
        if let Some(hint) = hint {
            details["hint"] = json!(hint);
        }
        self.with_details(details)
    }

    /// The same in a response with a payload.
    #[must_use]
    pub fn with_payload(self, payload: Value) -> Self {
        Self { payload: Some(payload), ..self }
    }

    /// The same; the request may succeed after this time, which is rounded up to milliseconds.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        let millis = after.as_nanos().div_ceil(1_000_000);
        Self {
            retryable: Some(true),
            retry_after_ms: Some(u64::try_from(millis).unwrap_or(u64::MAX)),
            ..self
        }
    }

    /// The method needs `missing`, and with it all of `required`.
    #[must_use]
    pub fn missing_scope(protocol: Protocol, missing: &str, required: &[&str]) -> Self {
        let message = format!("missing scope: {missing}");
        match protocol {
            Protocol::V3 => Self::invalid(message),
            Protocol::V4 => Self::new(ErrorCode::Forbidden, message).with_details(
                json!({"code": "MISSING_SCOPE", "missingScope": missing, "requiredScopes": required}),
            ),
        }
    }

    /// The message as the reason of a close frame.
    #[must_use]
    pub fn close_reason(&self) -> &str {
        close_reason(&self.message)
    }
}

/// As much of the text as a close frame carries.
#[must_use]
pub fn close_reason(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_CLOSE_REASON)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::{ErrorCode, ErrorShape, MAX_CLOSE_REASON, close_reason};
    use crate::protocol::version::Protocol;

    #[test]
    fn an_error_has_only_the_members_that_it_needs() {
        let plain = ErrorShape::new(ErrorCode::NotPaired, "device identity required");
        assert_eq!(
            serde_json::to_string(&plain).unwrap(),
            r#"{"code":"NOT_PAIRED","message":"device identity required"}"#
        );
        let full = ErrorShape::unavailable("busy")
            .with_details(json!({"reason": "starting"}))
            .retry_after(Duration::from_micros(1_500));
        let value = json!({"code": "UNAVAILABLE", "message": "busy", "details": {"reason": "starting"},
            "retryable": true, "retryAfterMs": 2});
        assert_eq!(serde_json::to_value(&full).unwrap(), value);
        assert_eq!(serde_json::from_value::<ErrorShape>(value).unwrap(), full);
    }

    #[test]
    fn each_code_is_its_word() {
        let words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            words.join(" "),
            "INVALID_REQUEST UNAVAILABLE NOT_PAIRED NOT_LINKED AGENT_TIMEOUT APPROVAL_NOT_FOUND FORBIDDEN"
        );
    }

    #[test]
    fn a_missing_scope_is_said_as_each_generation_says_it() {
        let shape = |protocol| {
            let error = ErrorShape::missing_scope(protocol, "operator.write", &["operator.write"]);
            serde_json::to_value(error).unwrap()
        };
        assert_eq!(
            shape(Protocol::V3),
            json!({"code": "INVALID_REQUEST", "message": "missing scope: operator.write"})
        );
        assert_eq!(
            shape(Protocol::V4),
            json!({"code": "FORBIDDEN", "message": "missing scope: operator.write",
                "details": {"code": "MISSING_SCOPE", "missingScope": "operator.write", "requiredScopes": ["operator.write"]}})
        );
    }

    proptest! {
        #[test]
        fn a_close_reason_fits_and_is_a_prefix(text in any::<String>()) {
            let reason = close_reason(&text);
            prop_assert!(reason.len() <= MAX_CLOSE_REASON && text.starts_with(reason));
            prop_assert!(reason.len() == text.len() || reason.len() + 4 > MAX_CLOSE_REASON);
        }
    }
}
