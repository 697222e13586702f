//! Whose word counts about whom they forward.
//!
//! **Owns** which peers those are. **Refuses to know** what they say (`proxy_protocol`), and when
//! (`announced`).

use std::str::FromStr;

use super::address::Address;
use crate::network::Network;

/// Proxies that are believed: an address, a network (192.0.2.0/24), or `unix` for whoever may connect to a
/// unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxy {
    /// Whoever connects by TCP from this network.
    Network(Network),
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
            (Self::Network(network), Address::Ip(peer)) => network.contains(peer.ip()),
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
        text.parse().map(Self::Network).map_err(|_| NoProxy)
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
            ("192.0.2.0/24", ip("[::ffff:192.0.2.9]"), true),
            ("2001:db8::/32", ip("[2001:db8:7::1]"), true),
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
