//! Where a request comes from: the socket's other end, proxies between, and whether a browser sends it.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HOST, HeaderName, ORIGIN, USER_AGENT};
use ipnet::IpNet;

use super::origin::{Host, Origin};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Most addresses that are looked at in `X-Forwarded-For`, from the right.
const MAX_HOPS: usize = 64;

/// Proxies whose headers are believed (`gateway.trustedProxies`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their addresses.
    pub networks: Vec<IpNet>,
    /// Whether `X-Real-IP` is believed where they send no `X-Forwarded-For` (`gateway.allowRealIpFallback`).
    pub real_ip_fallback: bool,
}

impl TrustedProxies {
    /// Whether the address is one of theirs.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// What is known of the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The socket's other end.
    pub remote: IpAddr,
    /// The client, as trusted proxies tell; without them, the socket's other end.
    pub client: IpAddr,
    /// Whether the client is a process of this machine: the socket comes from loopback and no header speaks of a proxy.
    /// What the `Host` header says plays no part.
    pub direct_local: bool,
    /// Whether the socket comes from a trusted proxy.
    pub via_trusted_proxy: bool,
    /// The `Origin` header, if there is one.
    pub origin: Option<Origin>,
    /// The `Host` header, if there is one that can be read.
    pub host: Option<Host>,
    /// Whether a browser sends it, as far as headers tell.
    pub browser: bool,
}

impl Peer {
    /// Reads it from the socket's other end and the headers of the request.
    #[must_use]
    pub fn of(remote: SocketAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let remote = remote.ip().to_canonical();
        let forwarded = headers.keys().any(speaks_of_a_proxy);
        let via_trusted_proxy = proxies.contains(remote);
        let told = if via_trusted_proxy { told_by_proxies(headers, proxies) } else { None };
        let origin = headers.get(ORIGIN).map(|value| Origin::parse(value.to_str().unwrap_or_default()));
        Self {
            remote,
            client: told.unwrap_or(remote),
            direct_local: remote.is_loopback() && !forwarded,
            via_trusted_proxy,
            browser: origin.is_some() || looks_like_a_browser(headers),
            origin,
            host: headers.get(HOST).and_then(|value| Host::parse(value.to_str().ok()?)),
        }
    }
}

fn speaks_of_a_proxy(name: &HeaderName) -> bool {
    *name == FORWARDED || *name == X_REAL_IP || name.as_str().starts_with("x-forwarded-")
}

/// Browsers leave out `Origin` when a page loads from its own host, which a rebound name makes look like ours.
fn looks_like_a_browser(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
        || headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
}

/// The last address in `X-Forwarded-For` that is no trusted proxy: what stands before it, anyone may have written.
fn told_by_proxies(headers: &HeaderMap, proxies: &TrustedProxies) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(MAX_HOPS) {
        match address(hop) {
            Some(address) if proxies.contains(address) => {}
            other => return other,
        }
    }
    if lines.is_empty() && proxies.real_ip_fallback {
        return headers.get(X_REAL_IP).and_then(|value| address(value.to_str().ok()?));
    }
    None
}

/// An address with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let parsed = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    parsed.ok().or_else(|| bare?.parse().ok()).map(|address| address.to_canonical())
}

#[cfg(test)]
pub(super) mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Peer, TrustedProxies};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    pub(in crate::gateway) fn peer(remote: &str, pairs: &[(&str, &str)]) -> Peer {
        behind(remote, pairs, &[], false)
    }

    pub(in crate::gateway) fn behind(
        remote: &str,
        pairs: &[(&str, &str)],
        networks: &[&str],
        fallback: bool,
    ) -> Peer {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let proxies = TrustedProxies { networks, real_ip_fallback: fallback };
        Peer::of((remote.parse::<std::net::IpAddr>().unwrap(), 40_000).into(), &headers(pairs), &proxies)
    }

    #[test]
    fn only_loopback_without_a_word_of_a_proxy_is_local() {
        for (remote, pairs, expected) in [
            ("127.0.0.1", &[][..], true),
            ("127.9.9.9", &[], true),
            ("::1", &[], true),
            ("::ffff:127.0.0.1", &[], true),
            ("127.0.0.1", &[("host", "public.example:18789")], true),
            ("127.0.0.1", &[("x-forwarded-for", "203.0.113.5")], false),
            ("127.0.0.1", &[("x-forwarded-proto", "https")], false),
            ("127.0.0.1", &[("x-forwarded-host", "a")], false),
            ("127.0.0.1", &[("x-forwarded-anything", "a")], false),
            ("127.0.0.1", &[("x-real-ip", "203.0.113.5")], false),
            ("127.0.0.1", &[("forwarded", "for=203.0.113.5")], false),
            ("192.168.1.2", &[], false),
            ("::ffff:192.168.1.2", &[], false),
        ] {
            assert_eq!(peer(remote, pairs).direct_local, expected, "{remote} {pairs:?}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_tells_the_client() {
        let one = &["10.0.0.0/8", "127.0.0.1/32"][..];
        let chain = ("x-forwarded-for", "198.51.100.1, 203.0.113.5, 10.0.0.9");
        for (remote, pairs, networks, fallback, expected) in [
            ("203.0.113.9", &[chain][..], &[][..], false, "203.0.113.9"),
            ("203.0.113.9", &[chain], one, false, "203.0.113.9"),
            ("10.0.0.1", &[chain], one, false, "203.0.113.5"),
            ("::ffff:10.0.0.1", &[chain], one, false, "203.0.113.5"),
            ("127.0.0.1", &[chain], one, false, "203.0.113.5"),
            (
                "10.0.0.1",
                &[("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.5")],
                one,
                false,
                "203.0.113.5",
            ),
            ("10.0.0.1", &[("x-forwarded-for", "203.0.113.5:4711")], one, false, "203.0.113.5"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:4711")], one, false, "2001:db8::1"),
            ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1, nonsense")], one, false, "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.2, 10.0.0.3")], one, false, "10.0.0.1"),
            ("10.0.0.1", &[("x-real-ip", "203.0.113.5")], one, false, "10.0.0.1"),
            ("10.0.0.1", &[("x-real-ip", "203.0.113.5")], one, true, "203.0.113.5"),
            ("10.0.0.1", &[], one, true, "10.0.0.1"),
        ] {
            let peer = behind(remote, pairs, networks, fallback);
            assert_eq!(peer.client.to_string(), expected, "{remote} {pairs:?}");
            assert_eq!(peer.via_trusted_proxy, remote != "203.0.113.9");
        }
    }

    #[test]
    fn a_browser_is_known_by_what_it_sends() {
        for (pairs, expected) in [
            (&[][..], false),
            (&[("user-agent", "curl/8.0")], false),
            (&[("origin", "null")], true),
            (&[("origin", "")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("user-agent", "Mozilla/5.0 (X11)")], true),
        ] {
            assert_eq!(peer("127.0.0.1", pairs).browser, expected, "{pairs:?}");
        }
    }
}
