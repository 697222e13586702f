//! What is forwarded to where, as it is written.
//!
//! Owns the forms of `-L` and `-R`. Opens nothing.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use vspc_guest::Name;

/// A socket that can be listened at, or connected to, here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Here {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// `-L`: who connects here is connected to something in the guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Local {
    pub(super) at: Here,
    /// As guests read it: `tcp:ADDRESS:PORT` or `unix:/PATH`.
    pub(super) to: String,
}

/// `-R`: who connects to a listener in the guest is connected to something here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Remote {
    pub(super) name: String,
    pub(super) to: Here,
}

impl FromStr for Local {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!("{text:?} is neither [ADDRESS:]PORT:HOST:PORT nor one with unix:/PATH for either side")
        };
        let (at, to) = split(text).ok_or_else(form)?;
        let at = match at.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Here::Unix(path.into()),
            Some(_) => return Err(form()),
            None => match at.rsplit_once(':') {
                None => Here::Tcp(LOOPBACK.to_owned(), at.parse().map_err(|_| form())?),
                Some((host, port)) => Here::Tcp(bare(host), port.parse().map_err(|_| form())?),
            },
        };
        let to = match to {
            To::Unix(path) => format!("unix:{path}"),
            To::Tcp(host, port) => {
                // Nothing is looked up in a guest, and what a name means here it may not mean there.
                let host = if host == "localhost" { LOOPBACK } else { host };
                let address: IpAddr = host.parse().map_err(|_| {
                    format!("{host:?} is no address: in a guest no names are looked up, but localhost")
                })?;
                format!("tcp:{}", std::net::SocketAddr::new(address, port))
            }
        };
        Ok(Self { at, to })
    }
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is neither NAME:HOST:PORT nor NAME:unix:/PATH");
        let (name, to) = split(text).ok_or_else(form)?;
        let name = Name::new(name).map_err(|refusal| refusal.message)?.as_str().to_owned();
        let to = match to {
            To::Unix(path) => Here::Unix(path.into()),
            To::Tcp(host, port) => Here::Tcp(host.to_owned(), port),
        };
        Ok(Self { name, to })
    }
}

enum To<'a> {
    Tcp(&'a str, u16),
    Unix(&'a str),
}

/// What stands before the target, and the target.
fn split(text: &str) -> Option<(&str, To<'_>)> {
    if let Some((before, path)) = text.rsplit_once(":unix:/") {
        let path = &text[text.len() - path.len() - 1..];
        return (!before.is_empty() && path.len() > 1).then_some((before, To::Unix(path)));
    }
    let (rest, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let (before, host) = match rest.strip_suffix(']') {
        Some(rest) => rest.rsplit_once(":[")?,
        None => rest.rsplit_once(':')?,
    };
    (!before.is_empty() && !host.is_empty()).then_some((before, To::Tcp(host, port)))
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> String {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned()
}

impl fmt::Display for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may connect where nobody says otherwise: users of this machine.
const LOOPBACK: &str = "127.0.0.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_has_a_place_here_and_one_in_the_guest() {
        for (text, at, to) in [
            ("8080:127.0.0.1:80", "127.0.0.1:8080", "tcp:127.0.0.1:80"),
            ("8080:localhost:80", "127.0.0.1:8080", "tcp:127.0.0.1:80"),
            ("0:[::1]:80", "127.0.0.1:0", "tcp:[::1]:80"),
            ("[::]:8080:10.0.0.1:80", "[::]:8080", "tcp:10.0.0.1:80"),
            ("vpn.example:8080:10.0.0.1:80", "vpn.example:8080", "tcp:10.0.0.1:80"),
            ("5432:unix:/run/pg.sock", "127.0.0.1:5432", "unix:/run/pg.sock"),
            ("unix:/tmp/a:unix:/run/b", "unix:/tmp/a", "unix:/run/b"),
            ("unix:/tmp/a:127.0.0.1:80", "unix:/tmp/a", "tcp:127.0.0.1:80"),
        ] {
            let local: Local = text.parse().unwrap();
            assert_eq!((local.at.to_string().as_str(), local.to.as_str()), (at, to), "{text}");
        }
        for wrong in [
            "",
            "80",
            "8080:80",
            "8080:host.example:80",
            "x:127.0.0.1:80",
            "8080:127.0.0.1:0",
            "8080:unix:run",
        ] {
            assert!(wrong.parse::<Local>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_of_the_guests_has_a_name_and_leads_to_a_place_here() {
        for (text, name, to) in [
            ("db:db.example:5432", "db", "db.example:5432"),
            ("app/db:[::1]:5432", "app/db", "[::1]:5432"),
            ("db:unix:/run/pg.sock", "db", "unix:/run/pg.sock"),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!((remote.name.as_str(), remote.to.to_string().as_str()), (name, to), "{text}");
        }
        for wrong in ["", "db", "db:5432", "../x:127.0.0.1:1", "a b:127.0.0.1:1"] {
            assert!(wrong.parse::<Remote>().is_err(), "{wrong}");
        }
    }
}
