//! Who the client is when a proxy stands before the server.
//!
//! Owns whom and where a request says it came from, and under which name the client reaches the server.
//! Invariant: `X-Forwarded-…` counts only where the connection comes from a named proxy; anybody else could write
//! whatever address it likes into them, and so escape the gate's throttle.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use ipnet::IpNet;

/// What is known of the other side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection to it is TLS.
    pub is_tls: bool,
}

/// Where a request came from, seen through the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client speaks TLS, to this server or to the proxy before it.
    pub is_tls: bool,
}

/// Neither encrypted nor from a place where it need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plain HTTP from an address that is neither a proxy nor this machine")]
pub struct Unencrypted;

/// Finds the client of a request that came over `peer`'s connection.
///
/// # Errors
///
/// When the connection is not TLS and comes neither from one of `proxies` nor from this machine, or when a proxy says
/// that its client spoke plain HTTP: a token would have crossed the network in the open.
pub fn client(peer: Peer, headers: &HeaderMap, proxies: &[IpNet]) -> Result<Client, Unencrypted> {
    let address = peer.address.to_canonical();
    if !is_proxy(address, proxies) {
        return if peer.is_tls || address.is_loopback() {
            Ok(Client {
                address,
                is_tls: peer.is_tls,
            })
        } else {
            Err(Unencrypted)
        };
    }
    let proto = last_value(headers, "x-forwarded-proto");
    let is_tls = proto.map_or(peer.is_tls, |proto| proto.eq_ignore_ascii_case("https"));
    let address = forwarded_for(headers, proxies).unwrap_or(address);
    if proto.is_some() && !is_tls && !address.is_loopback() {
        return Err(Unencrypted);
    }
    Ok(Client { address, is_tls })
}

/// Longest host and port, in bytes: a name of DNS, a colon and five digits.
const AUTHORITY_BYTES_MAX: usize = 253 + 6;

/// Neither `Host` nor what stands for it is a name or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request does not say which host it is for")]
pub struct NoHost;

/// Returns the URL, without a path, under which the client reaches the server.
///
/// It is what the request says, and goes into answers to the same client only.
///
/// # Errors
///
/// When the request names no host, or one that could break out of a URL.
pub fn base_url(peer: Peer, client: Client, parts: &Parts, proxies: &[IpNet]) -> Result<String, NoHost> {
    let is_forwarded = is_proxy(peer.address.to_canonical(), proxies);
    let forwarded = is_forwarded
        .then(|| last_value(&parts.headers, "x-forwarded-host"))
        .flatten();
    let host = || parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let text = forwarded
        .or_else(|| parts.uri.authority().map(Authority::as_str))
        .or_else(host)
        .ok_or(NoHost)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    if text.len() > AUTHORITY_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err(NoHost);
    }
    let authority: Authority = text.parse().map_err(|_| NoHost)?;
    // Parsing takes any digits for a port.
    if authority.host().len() < authority.as_str().len() && authority.port_u16().is_none() {
        return Err(NoHost);
    }
    let scheme = if client.is_tls { "https" } else { "http" };
    Ok(format!("{scheme}://{authority}"))
}

fn is_proxy(address: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|net| net.contains(&address))
}

/// The last address of `X-Forwarded-For` that is no proxy: each proxy appends who spoke to it, so what stands before
/// that was written by the client itself.
fn forwarded_for(headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let mut found = None;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.into_iter().rev() {
        for text in value.to_str().ok()?.rsplit(',') {
            let address = parse_address(text.trim())?.to_canonical();
            found = Some(address);
            if !is_proxy(address, proxies) {
                return found;
            }
        }
    }
    found
}

/// Takes an address with or without a port and brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| {
            text.parse::<std::net::SocketAddr>()
                .ok()
                .map(|address| address.ip())
        })
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

fn last_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn ask(
        peer: &str,
        is_tls: bool,
        headers: &[(&'static str, &'static str)],
    ) -> Result<(String, bool), Unencrypted> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let peer = Peer {
            address: peer.parse().unwrap(),
            is_tls,
        };
        client(peer, &map, &proxies).map(|client| (client.address.to_string(), client.is_tls))
    }

    #[test]
    fn only_a_named_proxy_may_forward() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")];
        assert_eq!(ask("192.0.2.1", true, &forged), Ok(("192.0.2.1".into(), true)));
        assert_eq!(ask("127.0.0.1", false, &forged), Ok(("127.0.0.1".into(), false)));
        assert_eq!(ask("10.1.1.1", false, &forged), Ok(("1.2.3.4".into(), true)));
        assert_eq!(
            ask("::ffff:10.1.1.1", false, &forged),
            Ok(("1.2.3.4".into(), true))
        );
    }

    #[test]
    fn what_the_client_wrote_before_the_first_proxy_does_not_count() {
        let chain = [("x-forwarded-for", "6.6.6.6, 1.2.3.4, 10.2.2.2")];
        assert_eq!(ask("10.1.1.1", true, &chain), Ok(("1.2.3.4".into(), true)));
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "[2001:db8::1]:4711"),
        ];
        assert_eq!(ask("fd00::1", true, &lines), Ok(("2001:db8::1".into(), true)));
        let junk = [("x-forwarded-for", "1.2.3.4, unknown")];
        assert_eq!(ask("10.1.1.1", true, &junk), Ok(("10.1.1.1".into(), true)));
    }

    #[test]
    fn the_server_has_the_name_by_which_its_client_called_it() {
        let ask = |peer: &str, uri: &str, headers: &[(&str, &str)]| {
            let mut request = hyper::Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
            let peer = Peer {
                address: peer.parse().unwrap(),
                is_tls: true,
            };
            let client = client(peer, &parts.headers, &proxies).unwrap();
            base_url(peer, client, &parts, &proxies).map_err(|error| error.to_string())
        };
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            ask("192.0.2.1", "/x", &[("host", "git.example:8443")]),
            ok("https://git.example:8443")
        );
        assert_eq!(
            ask("192.0.2.1", "/x", &[("host", "[::1]:80")]),
            ok("https://[::1]:80")
        );
        assert_eq!(
            ask("192.0.2.1", "https://two.example/x", &[]),
            ok("https://two.example")
        );
        let forwarded = [("host", "inner"), ("x-forwarded-host", "outer.example")];
        assert_eq!(ask("10.0.0.1", "/x", &forwarded), ok("https://outer.example"));
        assert_eq!(ask("192.0.2.1", "/x", &forwarded), ok("https://inner"));
        for host in ["", "a/b", "a b", "u@a", "a\"b", "a:99999", "<x>", "a,b", "a?x"] {
            assert!(ask("192.0.2.1", "/x", &[("host", host)]).is_err(), "{host}");
        }
        assert!(ask("192.0.2.1", "/x", &[]).is_err());
        let long = "a".repeat(300);
        assert!(ask("192.0.2.1", "/x", &[("host", &long)]).is_err());
    }

    #[test]
    fn plain_http_from_elsewhere_is_refused() {
        assert_eq!(ask("192.0.2.1", false, &[]), Err(Unencrypted));
        let plain = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")];
        assert_eq!(ask("10.1.1.1", false, &plain), Err(Unencrypted));
        assert_eq!(ask("10.1.1.1", false, &[]), Ok(("10.1.1.1".into(), false)));
    }
}
