//! Where a request comes from, and whom a proxy says that it is of.
//!
//! Owns whose word counts: that of the proxies that were named, and nobody else's. A header that only such a
//! proxy may send is refused from others, not passed over, so that a mistake is seen.

use std::net::IpAddr;
use std::path::Path;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use ring::digest::{SHA256, digest};
use vspc_core::network::Network;

use crate::connections::Peer;
use crate::http::problem::Problem;
use crate::tls::Shown;

/// Proxies that are believed.
#[derive(Clone, Default, Debug)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<Network>,
    /// The header in which they say who asks.
    pub(crate) user_header: Option<HeaderName>,
    /// What they say of themselves, where others may connect from their addresses.
    pub(crate) secret: Option<Secret>,
}

/// A word that proxies know, as its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// Reads the first line of a file. Waits for the disk.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let fault = |why: &dyn std::fmt::Display| format!("--proxy-secret-file {}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
        let word = text.lines().next().unwrap_or_default().trim();
        if word.len() < SECRET_LEAST {
            return Err(fault(&format!("its first line has less than {SECRET_LEAST} bytes")));
        }
        Ok(Self::of(word.as_bytes()))
    }

    fn of(word: &[u8]) -> Self {
        let hash = digest(&SHA256, word);
        Self(std::array::from_fn(|i| hash.as_ref()[i]))
    }
}

/// Who asks, as far as the connection and its proxy tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    pub(crate) from: IpAddr,
    /// Nobody else reads what is said: it is in TLS up to us, or up to a proxy that is believed.
    pub(crate) is_secure: bool,
    /// Whom the proxy has asked who he is.
    pub(crate) user: Option<String>,
    pub(crate) certificate: Option<Shown>,
    /// A program on this machine, and no proxy.
    pub(crate) is_local: bool,
}

impl Proxies {
    pub(crate) fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        let address = peer.address.ip().to_canonical();
        let is_proxy = self.trusts(address) && self.is_proved(headers);
        let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
        let mut caller = Caller {
            from: address,
            is_secure: peer.is_tls,
            user: None,
            certificate: peer.shown.clone(),
            is_local: address.is_loopback() && !is_forwarded,
        };
        if let Some(name) = &self.user_header {
            let mut values = headers.get_all(name).iter();
            let (user, more) = (values.next(), values.next());
            if user.is_some() && !is_proxy {
                log::warn!("{address} says {name}, and is no proxy that is trusted: refused");
                return Err(refused("only a proxy may say who asks"));
            }
            if more.is_some() {
                return Err(refused("who asks is said twice"));
            }
            caller.is_local &= user.is_none();
            if let Some(user) = user {
                let user = user.to_str().map_err(|_| refused("who asks is not in ASCII"))?;
                caller.user = (!user.is_empty()).then(|| user.to_owned());
            }
        }
        if is_proxy {
            caller.from = self.client(headers).unwrap_or(address);
            let carrier = headers.get("x-forwarded-proto").map(header::HeaderValue::as_bytes);
            caller.is_secure |= carrier == Some(b"https");
            // The certificate is the proxy's.
            caller.certificate = None;
        }
        Ok(caller)
    }

    /// Whether the secret is said, if there is one.
    fn is_proved(&self, headers: &HeaderMap) -> bool {
        let said = || headers.get(SECRET_HEADER).map(|word| Secret::of(word.as_bytes()));
        self.secret.as_ref().is_none_or(|secret| said().as_ref() == Some(secret))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The last in X-Forwarded-For that is no proxy of ours: those before it are whatever that one has said.
    fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut all = Vec::new();
        for value in headers.get_all("x-forwarded-for") {
            all.extend(value.to_str().ok()?.split(','));
        }
        for text in all.into_iter().rev() {
            let address = text.trim().parse::<IpAddr>().ok()?.to_canonical();
            if !self.trusts(address) {
                return Some(address);
            }
        }
        None
    }
}

fn refused(why: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "other-proxy", why)
}

const SECRET_HEADER: &str = "x-proxy-secret";
const SECRET_LEAST: usize = 16;
/// Whoever sends one of these speaks for somebody else.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(from: &str, headers: &[(&str, &str)]) -> Result<Caller, String> {
        let proxies = Proxies {
            trusted: vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            user_header: Some(HeaderName::from_static("x-user")),
            secret: None,
        };
        said_to(&proxies, from, headers)
    }

    fn said_to(proxies: &Proxies, from: &str, headers: &[(&str, &str)]) -> Result<Caller, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let address = format!("{from}:9").parse().unwrap();
        let peer = Peer { address, local: address, is_tls: false, shown: Some(Shown::of("ann", i64::MAX)) };
        proxies.caller(&peer, &map).map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks_and_others_are_refused_for_saying_it() {
        assert_eq!(caller("10.0.0.1", &[("x-user", "bob")]).unwrap().user.as_deref(), Some("bob"));
        for headers in [&[("x-user", "bob")][..], &[("x-user", "")]] {
            assert_eq!(caller("192.0.2.1", headers), Err("other-proxy".to_owned()));
        }
        for headers in [[("x-user", "bob"), ("x-user", "bob")], [("x-user", "bob"), ("X-User", "ann")]] {
            assert_eq!(caller("10.0.0.1", &headers), Err("other-proxy".to_owned()));
        }
        assert_eq!(caller("10.0.0.1", &[("x_user", "bob")]).unwrap().user, None);
        assert_eq!(caller("10.0.0.1", &[]).unwrap().certificate, None);
        assert_eq!(caller("192.0.2.1", &[]).unwrap().certificate.unwrap().name.as_ref(), "ann");
    }

    #[test]
    fn an_address_that_is_forwarded_counts_from_trusted_proxies_and_only_the_last_that_is_none() {
        let from =
            |peer: &str, line: &str| caller(peer, &[("x-forwarded-for", line)]).unwrap().from.to_string();
        assert_eq!(from("192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(from("10.0.0.1", "203.0.113.9, 198.51.100.7"), "198.51.100.7");
        assert_eq!(from("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.2.3.4"), "198.51.100.7");
        assert_eq!(from("10.0.0.1", "nonsense"), "10.0.0.1");
        let secure = |peer| caller(peer, &[("x-forwarded-proto", "https")]).unwrap().is_secure;
        assert!(secure("10.0.0.1") && !secure("192.0.2.1"));
    }

    #[test]
    fn where_proxies_have_a_secret_whoever_does_not_say_it_is_none() {
        let proxies = Proxies {
            trusted: vec!["127.0.0.1".parse().unwrap()],
            user_header: Some(HeaderName::from_static("x-user")),
            secret: Some(Secret::of(b"correct horse battery")),
        };
        let said = |word| said_to(&proxies, "127.0.0.1", &[("x-user", "ann"), ("x-proxy-secret", word)]);
        assert_eq!(said("correct horse battery").unwrap().user.as_deref(), Some("ann"));
        for wrong in ["", "correct horse"] {
            assert_eq!(said(wrong), Err("other-proxy".to_owned()), "{wrong}");
        }
        assert!(said_to(&proxies, "127.0.0.1", &[("x-user", "ann")]).is_err());
        let forwarded = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        let caller = said_to(&proxies, "127.0.0.1", &forwarded).unwrap();
        assert_eq!((caller.from.to_string().as_str(), caller.is_secure), ("127.0.0.1", false));
    }

    #[test]
    fn who_forwards_is_not_local() {
        assert!(caller("127.0.0.1", &[]).unwrap().is_local);
        assert!(!caller("192.0.2.1", &[]).unwrap().is_local);
        for name in FORWARDED.iter().chain(["x-user"].iter()) {
            assert!(!caller("127.0.0.1", &[(name, "x")]).unwrap().is_local, "{name}");
        }
    }
}
