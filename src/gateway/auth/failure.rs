//! Why a client may not connect, in words for people and codes for programs.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HeaderName;
use serde_json::json;

use super::super::limits::{LockedOut, Proof};
use super::Presented;
use crate::protocol::error::ErrorShape;
use crate::protocol::version::Protocol;

/// Why a client did not prove itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthReason {
    /// The token is asked for and was not sent.
    TokenMissing,
    /// Another token was sent.
    TokenMismatch,
    /// The gateway has no token to compare with.
    TokenMissingConfig,
    /// The password is asked for and was not sent.
    PasswordMissing,
    /// Another password was sent.
    PasswordMismatch,
    /// The gateway has no password to compare with.
    PasswordMissingConfig,
    /// The one-time code is unknown, used up or too old.
    BootstrapTokenInvalid,
    /// The device's token is not its own, or was revoked.
    DeviceTokenMismatch,
    /// The device's token does not allow what was asked for.
    ScopeMismatch,
    /// Too many failures before.
    RateLimited,
    /// No proxy vouches.
    TrustedProxy(ProxyReason),
}

/// Why no proxy vouches for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyReason {
    /// It is not configured which header names the user.
    ConfigMissing,
    /// No proxies are configured.
    NoProxiesConfigured,
    /// The request comes from elsewhere.
    UntrustedSource,
    /// It comes from this machine, and that does not count.
    LoopbackSource,
    /// A header that must be there is not.
    MissingHeader(HeaderName),
    /// The proxy names no user.
    UserMissing,
    /// The user is none of those who may.
    UserNotAllowed,
}

impl ProxyReason {
    fn as_str(&self) -> Cow<'static, str> {
        match self {
            Self::ConfigMissing => "trusted_proxy_config_missing".into(),
            Self::NoProxiesConfigured => "trusted_proxy_no_proxies_configured".into(),
            Self::UntrustedSource => "trusted_proxy_untrusted_source".into(),
            Self::LoopbackSource => "trusted_proxy_loopback_source".into(),
            Self::MissingHeader(name) => format!("trusted_proxy_missing_header_{name}").into(),
            Self::UserMissing => "trusted_proxy_user_missing".into(),
            Self::UserNotAllowed => "trusted_proxy_user_not_allowed".into(),
        }
    }
}

impl AuthReason {
    /// `authReason` on the wire.
    #[must_use]
    pub fn as_str(&self) -> Cow<'static, str> {
        match self {
            Self::TokenMissing => "token_missing".into(),
            Self::TokenMismatch => "token_mismatch".into(),
            Self::TokenMissingConfig => "token_missing_config".into(),
            Self::PasswordMissing => "password_missing".into(),
            Self::PasswordMismatch => "password_mismatch".into(),
            Self::PasswordMissingConfig => "password_missing_config".into(),
            Self::BootstrapTokenInvalid => "bootstrap_token_invalid".into(),
            Self::DeviceTokenMismatch => "device_token_mismatch".into(),
            Self::ScopeMismatch => "scope_mismatch".into(),
            Self::RateLimited => "rate_limited".into(),
            Self::TrustedProxy(reason) => reason.as_str(),
        }
    }

    /// The `code` of the details.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "AUTH_TOKEN_MISSING",
            Self::TokenMismatch => "AUTH_TOKEN_MISMATCH",
            Self::TokenMissingConfig => "AUTH_TOKEN_NOT_CONFIGURED",
            Self::PasswordMissing => "AUTH_PASSWORD_MISSING",
            Self::PasswordMismatch => "AUTH_PASSWORD_MISMATCH",
            Self::PasswordMissingConfig => "AUTH_PASSWORD_NOT_CONFIGURED",
            Self::BootstrapTokenInvalid => "AUTH_BOOTSTRAP_TOKEN_INVALID",
            Self::DeviceTokenMismatch => "AUTH_DEVICE_TOKEN_MISMATCH",
            Self::ScopeMismatch => "AUTH_SCOPE_MISMATCH",
            Self::RateLimited => "AUTH_RATE_LIMITED",
            Self::TrustedProxy(_) => "AUTH_UNAUTHORIZED",
        }
    }

    /// Whether what was offered was compared with the shared secret and is another.
    pub(super) const fn is_of_the_secret(&self) -> bool {
        matches!(
            self,
            Self::TokenMissing | Self::TokenMismatch | Self::PasswordMissing | Self::PasswordMismatch
        )
    }

    /// What went wrong and what to do, for people. Clients forget a stored token where they read `device token mismatch`.
    fn message(&self) -> &'static str {
        match self {
            Self::TokenMissing => "gateway token missing (send the token of gateway.auth.token)",
            Self::TokenMismatch => {
                "gateway token mismatch (send the token of gateway.auth.token, or pair the device)"
            }
            Self::TokenMissingConfig => "the gateway has no token (set gateway.auth.token)",
            Self::PasswordMissing => "gateway password missing (send the password of gateway.auth.password)",
            Self::PasswordMismatch => {
                "gateway password mismatch (send the password of gateway.auth.password)"
            }
            Self::PasswordMissingConfig => "the gateway has no password (set gateway.auth.password)",
            Self::BootstrapTokenInvalid => "the setup code is wrong, used or expired (make a new one)",
            Self::DeviceTokenMismatch => {
                "device token mismatch (pair the device again, or send the gateway's secret)"
            }
            Self::ScopeMismatch => {
                "the device token does not allow these scopes (ask for fewer, or pair again)"
            }
            Self::RateLimited => "too many failed attempts (wait, then retry)",
            Self::TrustedProxy(_) => {
                "no trusted proxy vouches for this client (see gateway.auth.trustedProxy)"
            }
        }
    }
}

/// A client did not prove itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unauthorized: {}", .reason.message())]
pub struct AuthFailure {
    /// Why.
    pub reason: AuthReason,
    /// Whether the client may try the token of its device instead of the secret that was wrong.
    pub can_retry_with_device_token: bool,
    /// When the next attempt is looked at.
    pub retry_after: Option<Duration>,
    /// Whether something was compared with the shared secret, wherever it stood.
    guessed: bool,
}

impl AuthFailure {
    /// The failure of someone who offered `presented`.
    #[must_use]
    pub fn new(reason: AuthReason, presented: &Presented) -> Self {
        let only_a_token =
            presented.token.is_some() && presented.password.is_none() && presented.device_token.is_none();
        let can_retry_with_device_token =
            reason == AuthReason::TokenMismatch && presented.has_device && only_a_token;
        let guessed = reason.is_of_the_secret() && presented.has_shared();
        Self { reason, can_retry_with_device_token, retry_after: None, guessed }
    }

    /// The failure of someone who is not looked at.
    #[must_use]
    pub const fn locked_out(locked: LockedOut) -> Self {
        Self {
            reason: AuthReason::RateLimited,
            can_retry_with_device_token: false,
            retry_after: Some(locked.retry_after),
            guessed: false,
        }
    }

    /// As what it counts with [`FailureLimits`](super::super::limits::FailureLimits). To send no secret at all is no attempt.
    #[must_use]
    pub const fn counts_as(&self) -> Option<Proof> {
        match self.reason {
            AuthReason::TokenMismatch | AuthReason::PasswordMismatch => Some(Proof::SharedSecret),
            // Each is compared where the other stands, too.
            AuthReason::TokenMissing | AuthReason::PasswordMissing if self.guessed => {
                Some(Proof::SharedSecret)
            }
            AuthReason::DeviceTokenMismatch => Some(Proof::DeviceToken),
            AuthReason::BootstrapTokenInvalid => Some(Proof::BootstrapToken),
            AuthReason::TokenMissing
            | AuthReason::TokenMissingConfig
            | AuthReason::PasswordMissing
            | AuthReason::PasswordMissingConfig
            | AuthReason::ScopeMismatch
            | AuthReason::RateLimited
            | AuthReason::TrustedProxy(_) => None,
        }
    }

    /// `recommendedNextStep` on the wire.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        if self.can_retry_with_device_token {
            return "retry_with_device_token";
        }
        match self.reason {
            AuthReason::TokenMissing
            | AuthReason::TokenMissingConfig
            | AuthReason::PasswordMissing
            | AuthReason::PasswordMissingConfig => "update_auth_configuration",
            AuthReason::TokenMismatch | AuthReason::PasswordMismatch | AuthReason::DeviceTokenMismatch => {
                "update_auth_credentials"
            }
            AuthReason::RateLimited => "wait_then_retry",
            AuthReason::BootstrapTokenInvalid | AuthReason::ScopeMismatch | AuthReason::TrustedProxy(_) => {
                "review_auth_configuration"
            }
        }
    }

    /// The answer to the client; the connection is then closed with code 1008.
    #[must_use]
    pub fn error_shape(&self, protocol: Protocol) -> ErrorShape {
        let shape = ErrorShape::invalid(self.to_string()).with_details(json!({
            "code": self.reason.code(),
            "authReason": self.reason.as_str(),
            "canRetryWithDeviceToken": self.can_retry_with_device_token,
            "recommendedNextStep": self.next_step(),
        }));
        match (protocol, self.retry_after) {
            (Protocol::V4, Some(after)) => shape.retry_after(after),
            _ => shape,
        }
    }
}
