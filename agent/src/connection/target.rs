//! Where the agent connects to, and where it may.
//!
//! Owns how addresses are written. They are numbers: nothing is looked up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto};

/// An address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Addresses that are allowed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Targets(Vec<Allowed>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Allowed {
    One(Target),
    /// All ports of an address.
    Ports(IpAddr),
    All,
}

impl Target {
    /// Begins to connect.
    pub(crate) fn connect(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, outcome) = match self {
            Self::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
                let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                let outcome = rustix::net::connect(&socket, address);
                (socket, outcome)
            }
            Self::Unix(path) => {
                let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                let outcome = rustix::net::connect(&socket, &SocketAddrUnix::new(path)?);
                (socket, outcome)
            }
        };
        match outcome {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let target = match text.split_once(':') {
            Some(("tcp", address)) => address.parse().ok().map(Self::Tcp),
            Some(("unix", path)) => Path::new(path).is_absolute().then(|| Self::Unix(path.into())),
            _ => None,
        };
        target.ok_or_else(|| format!("{text:?} is neither tcp:ADDRESS:PORT nor unix:/PATH"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Targets {
    /// As they are written: addresses, `tcp:ADDRESS:*`, or `*`.
    pub(crate) fn new(texts: &[String]) -> Result<Self, String> {
        texts.iter().map(|text| Self::allowed(text)).collect::<Result<_, _>>().map(Self)
    }

    fn allowed(text: &str) -> Result<Allowed, String> {
        if text == "*" {
            return Ok(Allowed::All);
        }
        let ports = text.strip_prefix("tcp:").and_then(|rest| rest.strip_suffix(":*"));
        match ports {
            Some(address) => {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                address.parse().map(Allowed::Ports).map_err(|_| format!("{text:?} has no address"))
            }
            None => text.parse().map(Allowed::One),
        }
    }

    /// Whether there is any.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(crate) fn allow(&self, target: &Target) -> bool {
        self.0.iter().any(|allowed| match (allowed, target) {
            (Allowed::All, _) => true,
            (Allowed::One(one), target) => one == target,
            (Allowed::Ports(ip), Target::Tcp(address)) => address.ip() == *ip,
            (Allowed::Ports(_), Target::Unix(_)) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_what_is_written() {
        let texts = ["tcp:127.0.0.1:80", "tcp:[::1]:*", "unix:/run/x"].map(str::to_owned);
        let targets = Targets::new(&texts).unwrap();
        for (text, allowed) in [
            ("tcp:127.0.0.1:80", true),
            ("tcp:127.0.0.1:81", false),
            ("tcp:[::1]:9", true),
            ("tcp:[::2]:9", false),
            ("unix:/run/x", true),
            ("unix:/run/y", false),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(targets.allow(&target), allowed, "{text}");
            assert_eq!(target.to_string(), text);
        }
        assert!(!Targets::default().allow(&"unix:/run/x".parse().unwrap()));
        assert!(Targets::new(&["*".to_owned()]).unwrap().allow(&"unix:/run/x".parse().unwrap()));
        for bad in ["localhost:80", "tcp:localhost:80", "tcp:127.0.0.1", "unix:x", "tcp:*:*", ""] {
            assert!(Targets::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
