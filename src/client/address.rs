//! Where a gateway is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

/// A gateway's address, as `ws://HOST:PORT` or `wss://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
    encrypted: bool,
}

/// A text that is no gateway's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write ws://HOST:PORT or wss://HOST:PORT, such as ws://127.0.0.1:18789")]
pub struct AddressError;

impl Address {
    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is reached by TLS.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether it is this machine for certain.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri: Uri = text.trim().parse().map_err(|_| AddressError)?;
        let encrypted = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(AddressError),
        };
        let authority = uri.authority().ok_or(AddressError)?;
        if authority.as_str().contains('@') {
            return Err(AddressError);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(AddressError);
        }
        let named = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) => port,
            None if named => return Err(AddressError),
            None if encrypted => 443,
            None => 80,
        };
        Ok(Self { uri, host, port, encrypted })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "wss" } else { "ws" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_parts() {
        for (text, written, loopback) in [
            ("ws://127.0.0.1:18789", "ws://127.0.0.1:18789", true),
            (" ws://[::1]:1/path ", "ws://[::1]:1", true),
            ("wss://localhost", "wss://localhost:443", true),
            ("ws://gateway.example", "ws://gateway.example:80", false),
            ("ws://localhost.example:1", "ws://localhost.example:1", false),
            ("ws://[::ffff:127.0.0.1]:1", "ws://[::ffff:127.0.0.1]:1", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (written, loopback), "{text}");
        }
        for wrong in ["", "127.0.0.1:1", "http://x", "ws://", "ws://:1", "ws://x:99999", "ws://user:pass@x:1"]
        {
            assert_eq!(wrong.parse::<Address>(), Err(AddressError), "{wrong}");
        }
    }
}
