//! Which pages may talk to the gateway: `Origin` against cross-site WebSockets, `Host` against DNS rebinding.

use std::net::IpAddr;

use reqwest::Url;
use serde_json::json;

use super::peer::Peer;
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::connect::ClientInfo;
use crate::protocol::error::ErrorShape;

/// The `Origin` header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `null`, empty, or no URL.
    Opaque,
    /// The page of this URL.
    Page {
        /// `scheme://host[:port]`, lower case, without the scheme's own port.
        text: String,
        /// Its host and port.
        host: Host,
    },
}

/// A host with its port, if it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Lower case; an IPv6 address stands in brackets.
    pub name: String,
    /// The port.
    pub port: Option<u16>,
}

impl Origin {
    /// Reads a header's value.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let Ok(url) = Url::parse(text.trim()) else { return Self::Opaque };
        let Some(name) = url.host_str().filter(|name| !name.is_empty()) else { return Self::Opaque };
        let host = Host { name: name.to_ascii_lowercase(), port: url.port() };
        // Not what the URL calls its origin: that is none for the schemes of browser extensions and app windows.
        let port = host.port.map_or_else(String::new, |port| format!(":{port}"));
        Self::Page { text: format!("{}://{}{port}", url.scheme(), host.name), host }
    }

    /// The page, if it has a URL.
    #[must_use]
    pub fn page(&self) -> Option<&str> {
        match self {
            Self::Opaque => None,
            Self::Page { text, .. } => Some(text),
        }
    }
}

impl Host {
    /// Reads a `Host` header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.contains(['/', '@', '?', '#', '\\']) {
            return None;
        }
        let url = Url::parse(&format!("http://{text}")).ok()?;
        let name = url.host_str().filter(|name| !name.is_empty())?;
        Some(Self { name: name.to_owned(), port: url.port() })
    }

    fn address(&self) -> Option<IpAddr> {
        let bare = self.name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        bare.unwrap_or(&self.name).parse::<IpAddr>().ok().map(|address| address.to_canonical())
    }

    fn bare_name(&self) -> &str {
        self.name.strip_suffix('.').unwrap_or(&self.name)
    }

    /// Whether it stands for this machine, whoever answers for names.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = self.bare_name();
        name == "localhost"
            || name.ends_with(".localhost")
            || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Whether it is a name that anyone who answers for names may point anywhere.
    #[must_use]
    pub fn is_public_name(&self) -> bool {
        self.address().is_none() && !self.is_loopback()
    }

    /// Whether a page from there is one that the gateway itself serves: to this machine or to others. Of this machine a name
    /// is believed only if nobody else answers for it.
    fn is_own(&self, here: bool) -> bool {
        if here {
            self.is_loopback() || self.is_private() && !self.is_public_name()
        } else {
            self.is_private() && !self.is_loopback()
        }
    }

    /// Whether a page from there is one of the own network.
    fn is_private(&self) -> bool {
        let name = self.bare_name();
        self.is_loopback()
            || name.ends_with(".local")
            || name.ends_with(".ts.net")
            || self.address().is_some_and(|address| match address {
                IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || is_shared(v4.octets()),
                IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
            })
    }
}

/// 100.64.0.0/10, where VPNs that join machines have their addresses.
const fn is_shared([first, second, ..]: [u8; 4]) -> bool {
    first == 100 && second & 0b1100_0000 == 64
}

/// The pages that may talk to the gateway (`gateway.controlUi.*`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginPolicy {
    /// Origins that may, in the form of [`Origin::page`].
    pub allowed: Vec<String>,
    /// Whether every origin may: `*` is listed.
    pub any: bool,
    /// Whether an origin may whose host is that of the request (`dangerouslyAllowHostHeaderOriginFallback`).
    pub host_fallback: bool,
}

/// Why an origin may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedBy {
    /// The client is no browser.
    NotApplied,
    /// The list.
    List,
    /// The `Host` header says the same, and that is enough by the configuration. Worth a warning.
    HostFallback,
    /// The `Host` header says the same, and the host is one of the own network.
    PrivateSameOrigin,
    /// Client and page are of this machine.
    Loopback,
}

/// Why a request of a browser is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The page may not.
    #[error("origin not allowed")]
    NotAllowed,
    /// It is not known which page it is.
    #[error("origin missing or invalid")]
    Missing,
    /// The `Host` header is a name that someone may have pointed at this machine.
    #[error("host not allowed")]
    HostNotAllowed,
}

impl OriginError {
    /// The answer to a `connect`; the connection is then closed with code 1008.
    #[must_use]
    pub fn error_shape(self) -> ErrorShape {
        let message = match self {
            Self::NotAllowed | Self::Missing => {
                format!(
                    "{self} (open the page from the gateway's machine, or add its origin to gateway.controlUi.allowedOrigins)"
                )
            }
            Self::HostNotAllowed => {
                format!(
                    "{self} (use localhost or an address, or add the page's origin to gateway.controlUi.allowedOrigins)"
                )
            }
        };
        ErrorShape::invalid(message)
            .with_details(json!({"code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": self.to_string()}))
    }
}

impl OriginPolicy {
    /// Whether the list has this page.
    #[must_use]
    pub fn lists(&self, page: &str) -> bool {
        self.any || self.allowed.iter().any(|allowed| allowed == page)
    }

    /// Whether a connect may come from the page that it comes from.
    ///
    /// # Errors
    /// A client of the web without an origin, a page that may not, or one that names this machine as anyone may.
    pub fn check_connect(&self, peer: &Peer, client: &ClientInfo) -> Result<AllowedBy, OriginError> {
        let web = matches!(client.id, ClientId::ControlUi | ClientId::Webchat | ClientId::WebchatUi)
            || client.mode == ClientMode::Webchat;
        let allowed = match &peer.origin {
            None if web => Err(OriginError::Missing),
            _ => self.check(peer),
        }?;
        self.check_host(peer)?;
        Ok(allowed)
    }

    /// Whether a request may come from the page that it comes from, if it names one.
    ///
    /// # Errors
    /// [`OriginError::Missing`] for an origin that is no URL, else [`OriginError::NotAllowed`].
    pub fn check(&self, peer: &Peer) -> Result<AllowedBy, OriginError> {
        let (page, page_host) = match &peer.origin {
            None => return Ok(AllowedBy::NotApplied),
            Some(Origin::Opaque) => return Err(OriginError::Missing),
            Some(Origin::Page { text, host }) => (text, host),
        };
        let same_host = peer.host.as_ref() == Some(page_host);
        if self.lists(page) {
            Ok(AllowedBy::List)
        } else if self.host_fallback && same_host {
            Ok(AllowedBy::HostFallback)
        } else if same_host && page_host.is_own(peer.direct_local) {
            Ok(AllowedBy::PrivateSameOrigin)
        } else if peer.direct_local && page_host.is_loopback() {
            Ok(AllowedBy::Loopback)
        } else {
            Err(OriginError::NotAllowed)
        }
    }

    /// Whether a request to a loopback socket may carry its `Host`. A page whose name was pointed at this machine has
    /// its own name there. Clients that are no browsers say what they like.
    ///
    /// # Errors
    /// [`OriginError::HostNotAllowed`].
    pub fn check_host(&self, peer: &Peer) -> Result<(), OriginError> {
        if !peer.browser || !peer.remote.is_loopback() || peer.via_trusted_proxy {
            return Ok(());
        }
        let Some(host) = &peer.host else { return Err(OriginError::HostNotAllowed) };
        let listed = || match peer.origin.as_ref().and_then(Origin::page) {
            Some(page) => self.lists(page),
            None => {
                let port = host.port.map_or_else(String::new, |port| format!(":{port}"));
                ["http", "https"].iter().any(|scheme| self.lists(&format!("{scheme}://{}{port}", host.name)))
            }
        };
        if host.is_public_name() && !self.host_fallback && !listed() {
            return Err(OriginError::HostNotAllowed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
