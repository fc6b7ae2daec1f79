//! Who the client is when a proxy stands before the server.
//!
//! Invariant: `X-Forwarded-…` counts only where the connection comes from a named proxy; anybody else could write
//! whatever address it likes into them, and so escape the gate's throttle.

use std::net::IpAddr;

use hyper::HeaderMap;
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
    fn plain_http_from_elsewhere_is_refused() {
        assert_eq!(ask("192.0.2.1", false, &[]), Err(Unencrypted));
        let plain = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "http")];
        assert_eq!(ask("10.1.1.1", false, &plain), Err(Unencrypted));
        assert_eq!(ask("10.1.1.1", false, &[]), Ok(("10.1.1.1".into(), false)));
    }
}
