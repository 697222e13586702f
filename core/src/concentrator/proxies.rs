//! Whose word counts about whom they forward.
//!
//! **Owns** which peers those are. **Refuses to know** what they say (`proxy_protocol`), and when
//! (`announced`).

use std::net::IpAddr;
use std::str::FromStr;

use super::address::Address;

/// Proxies that are believed: an address, a network (192.0.2.0/24), or `unix` for whoever may connect to a
/// unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxy {
    /// Whoever connects by TCP from this network: its address, and how many bits of that count.
    Network(IpAddr, u8),
    /// Whoever connects to a unix socket.
    Unix,
}

/// What is said of a text that is none of these.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("give an address, a network (192.0.2.0/24), or unix")]
#[non_exhaustive]
pub struct NoProxy;

impl Proxy {
    /// Whether this peer is one of them.
    #[must_use]
    pub fn is(&self, peer: &Address) -> bool {
        match (self, peer) {
            (Self::Network(network, length), Address::Ip(peer)) => contains(*network, *length, peer.ip()),
            (Self::Unix, Address::User(_)) => true,
            _ => false,
        }
    }
}

impl FromStr for Proxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoProxy)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().ok().filter(|length| *length <= most).ok_or(NoProxy)?,
            None => most,
        };
        Ok(Self::Network(address, length))
    }
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let length = u32::from(length);
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differs = network.to_bits() ^ address.to_bits();
            differs.checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differs = network.to_bits() ^ address.to_bits();
            differs.checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_believed_by_its_network_or_for_coming_by_a_unix_socket() {
        let ip = |text: &str| Address::Ip(format!("{text}:1").parse().unwrap());
        for (proxy, peer, is_one) in [
            ("192.0.2.7", ip("192.0.2.7"), true),
            ("192.0.2.7", ip("192.0.2.6"), false),
            ("192.0.2.0/24", ip("192.0.2.255"), true),
            ("192.0.2.0/24", ip("192.0.3.0"), false),
            ("192.0.2.0/24", ip("[::ffff:192.0.2.9]"), true),
            ("0.0.0.0/0", ip("203.0.113.1"), true),
            ("0.0.0.0/0", ip("[2001:db8::1]"), false),
            ("2001:db8::/32", ip("[2001:db8:7::1]"), true),
            ("2001:db8::/32", ip("[2001:db9::1]"), false),
            ("::/0", ip("[2001:db9::1]"), true),
            ("::1", ip("127.0.0.1"), false),
            ("unix", Address::User(0), true),
            ("unix", ip("127.0.0.1"), false),
            ("127.0.0.1", Address::User(0), false),
            ("0.0.0.0/0", Address::Vsock { cid: 2, port: 1 }, false),
            ("0.0.0.0/0", Address::Local, false),
        ] {
            assert_eq!(proxy.parse::<Proxy>().unwrap().is(&peer), is_one, "{proxy} {peer}");
        }
        for text in ["", "localhost", "192.0.2.0/33", "192.0.2.0/", "::/129", "192.0.2.0/-1", "Unix", "/24"] {
            assert_eq!(text.parse::<Proxy>(), Err(NoProxy), "{text}");
        }
    }
}
