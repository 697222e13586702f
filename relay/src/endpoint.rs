//! Where connections come from and go to, as it is written: `tcp://HOST:PORT`, `tls://HOST:PORT`,
//! `unix:/PATH`, `vsock:CID:PORT`.
//!
//! **Owns** the syntax. **Refuses to know** how a socket is opened, and what is spoken on it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where one side of a relay is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub(crate) place: Place,
    /// Whether TLS is spoken there.
    pub(crate) tls: bool,
}

/// A kind of address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    /// A host, by name or number, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
    /// A virtual machine or its host (vsock(7)), and a port.
    Vsock(u32, u32),
}

impl Endpoint {
    /// The name by which a certificate knows it.
    pub(crate) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(host, _) => host,
            Place::Unix(_) | Place::Vsock(..) => "",
        }
    }

    /// The address to listen at, or what is wrong with it.
    pub(crate) fn check_listen(&self) -> Result<(), String> {
        match &self.place {
            Place::Tcp(host, _) if host.parse::<IpAddr>().is_err() => Err(format!(
                "{self} has no address of this machine's: 0.0.0.0 and [::] are all of them, 127.0.0.1 is for \
                 this machine alone"
            )),
            _ => Ok(()),
        }
    }
}

/// Where a serial line is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Serial {
    pub(crate) at: Endpoint,
    /// The line connects to the relay, and not the other way round.
    pub(crate) is_listener: bool,
}

impl FromStr for Serial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("telnet:") || text.starts_with("telnets:") {
            return Err(format!(
                "{text:?}: a line that speaks telnet is the concentrator's own, as its --line"
            ));
        }
        let listener = [("unix-listen:", "unix:"), ("tcp-listen:", "tcp:"), ("vsock-listen:", "vsock:")]
            .iter()
            .find_map(|(prefix, kind)| Some(format!("{kind}{}", text.strip_prefix(prefix)?)));
        let at: Endpoint = listener.as_deref().unwrap_or(text).parse()?;
        if at.tls {
            return Err(format!("{text:?}: a line has no TLS"));
        }
        if listener.is_some() {
            at.check_listen()?;
        }
        Ok(Self { at, is_listener: listener.is_some() })
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.to_string();
        match at.split_once(':').filter(|_| self.is_listener) {
            Some((kind, rest)) => write!(f, "{kind}-listen:{rest}"),
            None => f.write_str(&at),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tcp = |rest: &str, tls| Ok(Self { place: host_port(rest)?, tls });
        match text.split_once(':') {
            Some(("tcp" | "telnet", rest)) if rest.starts_with("//") => tcp(&rest[2..], false),
            Some(("tls" | "telnets", rest)) if rest.starts_with("//") => tcp(&rest[2..], true),
            Some(("unix", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if !path.starts_with('/') {
                    return Err(format!("{text:?}: a unix socket's path begins with /"));
                }
                Ok(Self { place: Place::Unix(path.into()), tls: false })
            }
            Some(("vsock", rest)) => Ok(Self { place: vsock(rest)?, tls: false }),
            _ if text.contains("://") => Err(format!("{text:?} is of no kind that is known here; {FORMS}")),
            _ => tcp(text, false),
        }
    }
}

fn host_port(text: &str) -> Result<Place, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    }
    .ok_or_else(|| format!("{text:?} is no HOST:PORT (IPv6 as [ADDRESS]:PORT); {FORMS}"))?;
    if host.is_empty() {
        return Err(format!("{text:?} has no host"));
    }
    let port = port.parse().map_err(|_| format!("{port:?} is no port: 1 to 65535"))?;
    Ok(Place::Tcp(host.to_owned(), port))
}

fn vsock(text: &str) -> Result<Place, String> {
    let (cid, port) = text.split_once(':').unwrap_or(("any", text));
    let cid = match cid {
        "any" | "-1" => Some(ANY),
        "host" => Some(2),
        "local" => Some(1),
        number => number.parse().ok(),
    };
    match (cid, port.parse()) {
        (Some(cid), Ok(port)) => Ok(Place::Vsock(cid, port)),
        _ => Err(format!("{text:?} is no CID:PORT of vsock, as in vsock:2:13370")),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp(host, port) => {
                let scheme = if self.tls { "tls" } else { "tcp" };
                if host.contains(':') {
                    write!(f, "{scheme}://[{host}]:{port}")
                } else {
                    write!(f, "{scheme}://{host}:{port}")
                }
            }
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
            Place::Vsock(ANY, port) => write!(f, "vsock:any:{port}"),
            Place::Vsock(cid, port) => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

/// Every CID of this machine's (vsock(7), `VMADDR_CID_ANY`).
pub(crate) const ANY: u32 = u32::MAX;

const FORMS: &str = "there are tcp://HOST:PORT, tls://HOST:PORT, unix:/PATH and vsock:CID:PORT";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_shown() {
        for (text, shown) in [
            ("tcp://10.0.0.1:13370", "tcp://10.0.0.1:13370"),
            ("telnet://concentrator:13370", "tcp://concentrator:13370"),
            ("concentrator:13370", "tcp://concentrator:13370"),
            ("tls://concentrator:13371/", "tls://concentrator:13371"),
            ("telnets://[::1]:13370", "tls://[::1]:13370"),
            ("[fe80::1]:1", "tcp://[fe80::1]:1"),
            ("unix:/run/vm.sock", "unix:/run/vm.sock"),
            ("unix:///run/vm.sock", "unix:/run/vm.sock"),
            ("vsock:2:13370", "vsock:2:13370"),
            ("vsock:host:13370", "vsock:2:13370"),
            ("vsock:13370", "vsock:any:13370"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_its_text() {
        for text in [
            "",
            "13370",
            ":13370",
            "tcp://a",
            "a:b",
            "a:70000",
            "::1:13370",
            "unix:run",
            "vsock:x:1",
            "ftp://a:21",
            "vsock:1:",
            "[::1]",
        ] {
            let fault = text.parse::<Endpoint>().unwrap_err();
            assert!(!fault.is_empty() && !fault.contains('\n'), "{text}: {fault}");
        }
    }

    #[test]
    fn a_line_is_connected_to_or_connects() {
        for (text, is_listener) in [
            ("unix:/run/vm1.sock", false),
            ("tcp://vm1:4001", false),
            ("unix-listen:/run/vm1.sock", true),
            ("tcp-listen://0.0.0.0:4001", true),
            ("vsock-listen:any:4001", true),
        ] {
            let serial: Serial = text.parse().unwrap();
            assert_eq!((serial.to_string().as_str(), serial.is_listener), (text, is_listener));
        }
        for text in ["tls://a:1", "telnet://a:1", "tcp-listen://vm1:1", "tty:/dev/ttyS0"] {
            text.parse::<Serial>().unwrap_err();
        }
    }

    #[test]
    fn a_listener_has_an_address() {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        endpoint("0.0.0.0:1").check_listen().unwrap();
        endpoint("tls://[::]:1").check_listen().unwrap();
        endpoint("unix:/a").check_listen().unwrap();
        let fault = endpoint("tcp://concentrator:1").check_listen().unwrap_err();
        assert!(fault.contains("tcp://concentrator:1"), "{fault}");
    }
}
