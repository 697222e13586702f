//! Where the engine asks to be connected to: what a URI names, and what is spoken there.
//!
//! **Owns** which URIs are targets. **Refuses to know** addresses: names are looked up by the runtime.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::str::FromStr;

use siphasher::sip::SipHasher13;
use thiserror::Error;

use crate::telnet::{NoSettings, PortSettings};

use super::local_line::LocalLine;
use super::rules::Pattern;

/// Something to connect to, as a URI names it: `tcp://HOST:PORT`, `tls://` (or `ssl://`), `telnet://`,
/// `telnets://`, or a unix socket, `unix:/PATH`. With `?hello` behind it, it is told first which console it
/// is connected to. `rfc2217://HOST:PORT` is telnet with the port's settings, which may stand behind a `?`
/// ([`PortSettings`]).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    place: Place,
    is_telnet: bool,
    is_tls: bool,
    has_hello: bool,
    port: Option<PortSettings>,
}

/// Where a target is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// At a port of a host, which is a DNS name in lower case or an IP address.
    Tcp(Box<str>, u16),
    /// At this path.
    Unix(Box<str>),
    /// In this machine: of serial lines only.
    Local(LocalLine),
}

/// Why a text is no target.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum NoTarget {
    /// Nothing of the kind stands in front.
    #[error(
        "it has to begin with tcp://, tls://, telnet://, telnets:// or unix:/, as in \
         tcp://attach.example:2377; a line may also be at rfc2217://"
    )]
    Scheme,
    /// There is none, or one that is no port.
    #[error("it has to end in a port of 1 to 65535, as in tcp://attach.example:2377")]
    Port,
    /// What stands there is neither a name nor an address.
    #[error("{0:?} is no name of a host, and no IP address; one of IPv6 stands in brackets")]
    Host(Box<str>),
    /// The path of a unix socket is to be absolute, and is to be one.
    #[error("{0:?} is no path of a unix socket: it has to begin with /, and to have less than 108 bytes")]
    Path(Box<str>),
    /// What stands behind `?`.
    #[error("{0:?} behind the ? is unknown: there is only hello")]
    Option(Box<str>),
    /// A path on this machine has to be absolute.
    #[error("{0:?} is no path: it has to begin with /")]
    LocalPath(Box<str>),
    /// What a line is to run.
    #[error("behind exec: has to stand a command, in one line")]
    Command,
    /// What stands behind the `?` of a serial port.
    #[error("{0}")]
    Settings(#[from] NoSettings),
}

impl Target {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is said there is telnet, and not only a guest's bytes.
    #[must_use]
    pub fn is_telnet(&self) -> bool {
        self.is_telnet
    }

    /// It is said within TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// It is told first which console it is connected to.
    #[must_use]
    pub fn has_hello(&self) -> bool {
        self.has_hello
    }

    /// It is a serial port with settings of its own (RFC 2217), of which these are to be made. One of this
    /// machine's is, too.
    #[must_use]
    pub fn port(&self) -> Option<&PortSettings> {
        self.port.as_ref()
    }

    /// A number that stands for it.
    pub(super) fn number(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The host that it is at, for whom its certificate has to be; the path of a unix socket; the command.
    pub(super) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(name, _) | Place::Unix(name) => name,
            Place::Local(line) => line.place(),
        }
    }

    /// What a serial line is: a target, or something that this machine has.
    pub(super) fn of_line(uri: &str) -> Result<Self, NoTarget> {
        let Some(local) = LocalLine::read(uri) else { return uri.parse() };
        let (local, port) = local?;
        let is_telnet = port.is_some();
        Ok(Self { place: Place::Local(local), is_telnet, is_tls: false, has_hello: false, port })
    }

    /// What a VM asks to have dialled, in direction `C`: what stands behind `?` is for others, and unix
    /// sockets are not for VMs.
    pub(super) fn of_vm(uri: &str) -> Result<Self, NoTarget> {
        let base = uri.split_once('?').map_or(uri, |(base, _)| base);
        match base.parse::<Self>()? {
            Self { place: Place::Unix(_), .. } | Self { port: Some(_), .. } => Err(NoTarget::Scheme),
            target => Ok(target),
        }
    }

    /// Whether a pattern lets it through: it is held against the URI as it is [shown](fmt::Display), not as
    /// somebody wrote it.
    pub(super) fn is_allowed_by(&self, patterns: &[Pattern]) -> bool {
        let uri = self.to_string();
        let is_address = matches!(&self.place, Place::Tcp(host, _) if host.parse::<IpAddr>().is_ok());
        patterns.iter().any(|pattern| pattern.matches(&uri) && (is_address || !is_of_addresses(pattern)))
    }
}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(uri: &str) -> Result<Self, NoTarget> {
        let (base, option) = uri.split_once('?').map_or((uri, None), |(base, option)| (base, Some(option)));
        let scheme = |name: &str| {
            let (front, rest) = base.split_at_checked(name.len())?;
            front.eq_ignore_ascii_case(name).then_some(rest)
        };
        if let Some(rest) = scheme("rfc2217://") {
            let (host, port) = read_host_and_port(rest)?;
            let port_settings = option.map_or(Ok(PortSettings::default()), str::parse)?;
            return Ok(Self {
                place: Place::Tcp(host, port),
                is_telnet: true,
                is_tls: false,
                has_hello: false,
                port: Some(port_settings),
            });
        }
        let has_hello = match option {
            None => false,
            Some("hello") => true,
            Some(other) => return Err(NoTarget::Option(other.into())),
        };
        if let Some(path) = scheme("unix:") {
            let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            let is_path =
                path.starts_with('/') && path.len() < PATH_LIMIT && !path.contains(char::is_control);
            let place = is_path.then(|| Place::Unix(path.into()));
            let place = place.ok_or_else(|| NoTarget::Path(path.into()))?;
            return Ok(Self { place, is_telnet: false, is_tls: false, has_hello, port: None });
        }
        let (rest, is_telnet, is_tls) = [
            ("tcp://", false, false),
            ("tls://", false, true),
            ("ssl://", false, true),
            ("telnet://", true, false),
            ("telnets://", true, true),
        ]
        .into_iter()
        .find_map(|(name, is_telnet, is_tls)| Some((scheme(name)?, is_telnet, is_tls)))
        .ok_or(NoTarget::Scheme)?;
        let (host, port) = read_host_and_port(rest)?;
        Ok(Self { place: Place::Tcp(host, port), is_telnet, is_tls, has_hello, port: None })
    }
}

fn read_host_and_port(text: &str) -> Result<(Box<str>, u16), NoTarget> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = text.rsplit_once(':').ok_or(NoTarget::Port)?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = Some(port).filter(|_| is_number).and_then(|port| port.parse().ok()).filter(|&port| port > 0);
    let port = port.ok_or(NoTarget::Port)?;
    let host = read_host(host).ok_or_else(|| NoTarget::Host(host.into()))?;
    Ok((host, port))
}

/// Whether a pattern of targets has an address, or the front of one, where the host stands: 10.0.0.* does not
/// mean 10.0.0.evil.example.
fn is_of_addresses(pattern: &Pattern) -> bool {
    let pattern = pattern.to_string();
    let host = pattern.split_once("://").map_or(&*pattern, |(_, rest)| rest);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.starts_with(|c: char| c.is_ascii_digit()) && !host.contains(|c: char| c.is_ascii_alphabetic())
}

/// A host's name in lower case, or its address without brackets, in the one way in which that is written.
fn read_host(host: &str) -> Option<Box<str>> {
    if let Some(v6) = host.strip_prefix('[') {
        let address: IpAddr = v6.strip_suffix(']')?.parse().ok()?;
        return address.is_ipv6().then(|| address.to_string().into());
    }
    if let Ok(IpAddr::V4(address)) = host.parse() {
        return Some(address.to_string().into());
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let may_be = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(may_be)
    };
    // What ends in a number is an address to some, in ways that only they know (0x7f.1, 127.1).
    let is_name = host.len() <= 253
        && host.split('.').all(is_label)
        && host.rsplit('.').next().is_some_and(|last| !last.as_bytes()[0].is_ascii_digit());
    is_name.then(|| host.to_ascii_lowercase().into())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.is_telnet, self.is_tls) {
            _ if self.port.is_some() => "rfc2217",
            (false, false) => "tcp",
            (false, true) => "tls",
            (true, false) => "telnet",
            (true, true) => "telnets",
        };
        match &self.place {
            Place::Local(line) => write!(f, "{line}")?,
            Place::Unix(path) => write!(f, "unix:{path}")?,
            Place::Tcp(host, port) if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}")?,
            Place::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}")?,
        }
        match &self.port {
            Some(settings) if *settings != PortSettings::default() => write!(f, "?{settings}"),
            _ if self.has_hello => f.write_str("?hello"),
            _ => Ok(()),
        }
    }
}

/// What the kernel's address of a unix socket has room for, with the NUL behind it (unix(7)).
const PATH_LIMIT: usize = 108;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uri: &str) -> Result<String, NoTarget> {
        uri.parse().map(|target: Target| target.to_string())
    }

    #[test]
    fn a_target_is_shown_in_the_one_way_in_which_it_is_written() {
        for (uri, expected) in [
            ("tcp://attach:2377", "tcp://attach:2377"),
            ("TCP://Attach.Example.:02377/", "tcp://attach.example:2377"),
            ("ssl://192.0.2.1:443", "tls://192.0.2.1:443"),
            ("tls://a:1?hello", "tls://a:1?hello"),
            ("telnet://[2001:DB8:0::1]:23", "telnet://[2001:db8::1]:23"),
            ("telnets://esx_7:992", "telnets://esx_7:992"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("RFC2217://Port.Example:2217/", "rfc2217://port.example:2217"),
            ("rfc2217://[::1]:1?parity=even&speed=9600", "rfc2217://[::1]:1?speed=9600&parity=even"),
        ] {
            assert_eq!(shown(uri).as_deref(), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn what_names_no_target_is_refused_with_what_is_wrong_about_it() {
        for uri in ["", "vSPC.py", "attach:2377", "http://a:1", "tcp:/a:1", "tcp:a:1"] {
            assert_eq!(shown(uri), Err(NoTarget::Scheme), "{uri}");
        }
        for uri in
            ["tcp://a", "tcp://a:", "tcp://a:0", "tcp://a:65536", "tcp://a:+1", "tcp://a:1/x", "tcp://"]
        {
            assert_eq!(shown(uri), Err(NoTarget::Port), "{uri}");
        }
        for host in [
            "",
            "a b",
            "user@evil",
            "a/b",
            "a\\b",
            "a#b",
            "a\r\nb",
            "a\0",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "127.1",
            "0x7f.1",
            "1",
            "-a",
            "a..b",
            "\u{ff0e}",
            "a%00",
            "[fe80::1%eth0]",
        ] {
            assert_eq!(shown(&format!("tcp://{host}:1")), Err(NoTarget::Host(host.into())), "{host:?}");
        }
        assert_eq!(shown("tcp://a:1?hello&x"), Err(NoTarget::Option("hello&x".into())));
        for path in ["", "run/a", "/a\nb", &format!("/{}", "a".repeat(107))] {
            assert!(matches!(shown(&format!("unix:{path}")), Err(NoTarget::Path(_))), "{path:?}");
        }
    }

    #[test]
    fn a_pattern_is_held_against_what_would_be_dialled() {
        let allowed = ["tcp://*.lab.example:2377".parse().unwrap()];
        let may = |uri: &str| Target::of_vm(uri).is_ok_and(|target| target.is_allowed_by(&allowed));
        assert!(may("tcp://a.lab.example:2377") && may("TCP://A.LAB.example.:2377?x=y"));
        let of_addresses = ["tcp://10.0.0.*:23".parse().unwrap()];
        let may_there = |uri: &str| Target::of_vm(uri).unwrap().is_allowed_by(&of_addresses);
        assert!(may_there("tcp://10.0.0.7:23") && !may_there("tcp://10.0.0.evil.example:23"));
        for uri in [
            "tcp://a.lab.example:2378",
            "tcp://lab.example:2377",
            "tcp://evil:2377?.lab.example:2377",
            "tcp://evil:1/.lab.example:2377",
            "tcp://evil#.lab.example:2377",
            "tcp://x@evil:1@.lab.example:2377",
            "unix:/a.lab.example:2377",
            "rfc2217://a.lab.example:2377",
        ] {
            assert!(!may(uri), "{uri}");
        }
    }
}
