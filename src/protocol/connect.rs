//! What a client says of itself when it connects.

use std::collections::BTreeMap;

use offshoot_actors::types::Role;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::bounds::{expose, optional_text, secret, text, texts};
use super::client::{ClientId, ClientMode};
use super::error::ErrorShape;
use super::params;

/// The method of the first request.
pub const METHOD: &str = "connect";

/// The parameters of `connect`. Written with its secrets: only ever write it to the gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ConnectParams {
    /// The oldest generation of the protocol that the client speaks.
    #[serde(deserialize_with = "generation")]
    pub min_protocol: u32,
    /// The newest.
    #[serde(deserialize_with = "generation")]
    pub max_protocol: u32,
    /// The program.
    pub client: ClientInfo,
    /// What the client can take, such as [`CAP_TOOL_EVENTS`](super::client::CAP_TOOL_EVENTS).
    #[serde(default, deserialize_with = "texts::<_, 64, 128>", skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
    /// The commands that a node offers.
    #[serde(default, deserialize_with = "texts::<_, 1024, 128>", skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// What the system of a node lets it do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, bool>,
    /// Where a node finds programs.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 0, 16384>",
        skip_serializing_if = "Option::is_none"
    )]
    pub path_env: Option<String>,
    /// What the connection is for; [`ConnectParams::role`] reads it.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 0, 64>",
        skip_serializing_if = "Option::is_none"
    )]
    pub role: Option<String>,
    /// What the client wants to do, in its order, which is signed. None means nothing at all.
    #[serde(default, deserialize_with = "texts::<_, 64, 128>")]
    pub scopes: Vec<String>,
    /// The device and its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceParams>,
    /// What it proves itself with.
    #[serde(default, deserialize_with = "null_is_default")]
    pub auth: AuthParams,
    /// The client's language.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 0, 128>",
        skip_serializing_if = "Option::is_none"
    )]
    pub locale: Option<String>,
    /// The browser.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 0, 1024>",
        skip_serializing_if = "Option::is_none"
    )]
    pub user_agent: Option<String>,
}

/// The program that connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ClientInfo {
    /// Which program.
    pub id: ClientId,
    /// What it calls itself.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 256>",
        skip_serializing_if = "Option::is_none"
    )]
    pub display_name: Option<String>,
    /// Its version.
    #[serde(deserialize_with = "text::<_, 1, 128>")]
    pub version: String,
    /// Its operating system. Part of a signature of the third version.
    #[serde(deserialize_with = "text::<_, 1, 256>")]
    pub platform: String,
    /// Its kind of machine. Part of a signature of the third version.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 256>",
        skip_serializing_if = "Option::is_none"
    )]
    pub device_family: Option<String>,
    /// Its model of machine.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 256>",
        skip_serializing_if = "Option::is_none"
    )]
    pub model_identifier: Option<String>,
    /// How it is used.
    pub mode: ClientMode,
    /// Which of several instances it is.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 256>",
        skip_serializing_if = "Option::is_none"
    )]
    pub instance_id: Option<String>,
    /// The build of a Control UI. Generation 4.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 256>",
        skip_serializing_if = "Option::is_none"
    )]
    pub build_id: Option<String>,
    /// Where its user's clock is. Generation 4.
    #[serde(
        default,
        deserialize_with = "optional_text::<_, 1, 128>",
        skip_serializing_if = "Option::is_none"
    )]
    pub time_zone: Option<String>,
}

/// A device that signed this connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct DeviceParams {
    /// SHA-256 of the key, in hexadecimal digits.
    #[serde(deserialize_with = "text::<_, 1, 128>")]
    pub id: String,
    /// The key, as base64 or PEM.
    #[serde(deserialize_with = "text::<_, 1, 1024>")]
    pub public_key: String,
    /// The signature, as base64.
    #[serde(deserialize_with = "text::<_, 1, 256>")]
    pub signature: String,
    /// When it was signed, in milliseconds since 1970.
    pub signed_at: u64,
    /// That of the challenge. It may be empty here: the check of the signature has an answer of its own for that.
    #[serde(deserialize_with = "text::<_, 0, 256>")]
    pub nonce: String,
}

/// What a client proves itself with. An empty secret is none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
pub struct AuthParams {
    /// The shared token, or a device token.
    #[serde(
        deserialize_with = "secret::<_, 4096>",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    pub token: Option<SecretString>,
    /// A one-time code that pairs a device.
    #[serde(
        deserialize_with = "secret::<_, 4096>",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    pub bootstrap_token: Option<SecretString>,
    /// The token of a paired device.
    #[serde(
        deserialize_with = "secret::<_, 4096>",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    pub device_token: Option<SecretString>,
    /// The shared password.
    #[serde(
        deserialize_with = "secret::<_, 4096>",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    pub password: Option<SecretString>,
    /// Limits the connection to what one agent may do. Generation 4; not issued here, so always refused.
    #[serde(
        deserialize_with = "secret::<_, 4096>",
        serialize_with = "expose",
        skip_serializing_if = "Option::is_none"
    )]
    pub agent_runtime_identity_token: Option<SecretString>,
}

impl ConnectParams {
    /// Reads the parameters of a `connect`; beside them the paths of members that have no meaning here, for a debug line.
    ///
    /// # Errors
    /// `INVALID_REQUEST` names the place. The connection is then closed with code 1008.
    pub fn parse(raw: Option<&RawValue>) -> Result<(Self, Vec<String>), ErrorShape> {
        let params::Params { value, unknown } = params::parse::<Self>(METHOD, raw)?;
        if value.auth.agent_runtime_identity_token.is_some() {
            return Err(ErrorShape::invalid(
                "invalid connect params: at /auth/agentRuntimeIdentityToken: this gateway issues none; leave it out",
            ));
        }
        Ok((value, unknown))
    }

    /// Whether it asks for a way in that this gateway does not have: workers come in by a handshake of their own.
    #[must_use]
    pub fn is_of_a_worker(&self) -> bool {
        self.role.as_deref() == Some("worker")
    }

    /// What the connection is for.
    ///
    /// # Errors
    /// `INVALID_REQUEST` "invalid role"; the connection is then closed with code 1008.
    pub fn role(&self) -> Result<Role, ErrorShape> {
        match self.role.as_deref() {
            None => Ok(Role::Operator),
            Some(word) => word.parse().map_err(|_| ErrorShape::invalid("invalid role")),
        }
    }
}

fn generation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(serde::de::Error::custom("must be a whole number from 1")),
        number => Ok(number),
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
