//! Serial lines that come without a concentrator's protocol: where they are, and which VM's console each is.
//!
//! **Owns** how they are written. **Refuses to know** how they are connected.

use std::fmt;
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use siphasher::sip128::{Hasher128 as _, SipHasher13};
use thiserror::Error;

use crate::vmware::Uuid;

use super::address::{Address, SocketFile};
use super::guest::{Mux, NoMux};
use super::local_line::LocalLine;
use super::target::{NoTarget, Place, Target};

/// A serial line that is a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SerialLine {
    /// What its VM is called.
    pub name: String,
    /// Its UUID; [`uuid_of_line`] makes one of the name.
    pub uuid: Uuid,
    /// Where it is.
    pub place: LinePlace,
    /// It carries streams of an agent in the VM.
    pub mux: Option<Mux>,
}

impl SerialLine {
    /// Whether two lines would be one console. hyperstart's two channels have one name, and are two.
    #[must_use]
    pub fn is_console_of(&self, other: &Self) -> bool {
        let is_control = |line: &Self| line.mux == Some(Mux::V1Control);
        (self.name == other.name || self.uuid == other.uuid) && is_control(self) == is_control(other)
    }
}

/// Where a serial line is: `tcp://HOST:PORT`, `telnet://HOST:PORT`, `tls://`, `telnets://`, `rfc2217://` or
/// `unix:/PATH` to be connected to; `exec:COMMAND`, `pty:/PATH` and `tty:/PATH`, which are this machine's
/// own ([`LocalLine`]); `tcp://:PORT`, `telnet://:PORT`, `tls://`, `telnets://` (`tcp://ADDRESS:PORT?listen`)
/// or `unix:/PATH?listen` if it connects to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinePlace {
    /// We connect to it, again and again.
    Dial(Arc<Target>),
    /// It connects to us.
    Listen {
        /// Where.
        address: Address,
        /// It speaks telnet there, and not only a guest's bytes.
        is_telnet: bool,
        /// It does so within TLS.
        is_tls: bool,
    },
}

/// Why a text is no place of a line.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum NoLine {
    /// It is no target either.
    #[error("{0}")]
    Target(#[from] NoTarget),
    /// It is to be listened at, and is not one of this machine's addresses.
    #[error("{0:?} is no IP address of this machine's: leave it out for all of them, as in tcp://:7001")]
    Address(Box<str>),
    /// Something behind `?`.
    #[error("there is only listen to stand behind the ? of a line")]
    Option,
}

impl FromStr for LinePlace {
    type Err = NoLine;

    fn from_str(uri: &str) -> Result<Self, NoLine> {
        if LocalLine::read(uri).is_some() {
            return Ok(Self::Dial(Arc::new(Target::of_line(uri)?)));
        }
        let (base, option) = uri.split_once('?').map_or((uri, None), |(base, option)| (base, Some(option)));
        let everywhere = ["tcp://:", "telnet://:", "tls://:", "ssl://:", "telnets://:"]
            .into_iter()
            .find(|front| base.get(..front.len()).is_some_and(|own| own.eq_ignore_ascii_case(front)));
        let is_port = base.get(..PORT_SCHEME.len()).is_some_and(|own| own.eq_ignore_ascii_case(PORT_SCHEME));
        let listens = match option {
            None => everywhere.is_some(),
            Some("listen") if !is_port => true,
            Some(_) if is_port => false,
            Some(_) => return Err(NoLine::Option),
        };
        if !listens {
            return Ok(Self::Dial(Arc::new(uri.parse()?)));
        }
        // An address of every machine's in place of none.
        let named = everywhere.map(|front| {
            let (front, port) = base.split_at(front.len() - 1);
            format!("{front}{}{port}", Ipv4Addr::UNSPECIFIED)
        });
        let target: Target = named.as_deref().unwrap_or(base).parse()?;
        let address = match target.place() {
            Place::Unix(path) => {
                let path = (**path).into();
                Address::Unix(Arc::new(SocketFile { path, mode: 0o660, owner: None, group: None }))
            }
            // There is none here: those are looked for first.
            Place::Local(_) => return Err(NoLine::Option),
            Place::Tcp(host, port) => {
                let ip: IpAddr = host.parse().map_err(|_| NoLine::Address(host.clone()))?;
                Address::Ip(SocketAddr::new(ip, *port))
            }
        };
        Ok(Self::Listen { address, is_telnet: target.is_telnet(), is_tls: target.is_tls() })
    }
}

impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(target) => target.fmt(f),
            Self::Listen { address: Address::Ip(at), is_telnet, is_tls } => {
                let scheme = match (is_telnet, is_tls) {
                    (false, false) => "tcp",
                    (false, true) => "tls",
                    (true, false) => "telnet",
                    (true, true) => "telnets",
                };
                write!(f, "{scheme}://{at}?listen")
            }
            Self::Listen { address, .. } => write!(f, "unix:{address}?listen"),
        }
    }
}

/// Takes `mux=…` out of what stands behind the `?` of a line's URI: how streams are carried on it. Not of a
/// program's: all of that is its own.
///
/// # Errors
///
/// It names no way to carry them.
pub fn take_mux(uri: &str) -> Result<(String, Option<Mux>), NoMux> {
    let Some((base, query)) = uri.split_once('?').filter(|_| !uri.starts_with("exec:")) else {
        return Ok((uri.to_owned(), None));
    };
    let (own, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("mux="));
    let mux = own.last().map(|pair| pair["mux=".len()..].parse()).transpose()?;
    let uri = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((uri, mux))
}

/// What a serial port with settings begins with: what stands behind its `?` are those.
const PORT_SCHEME: &str = "rfc2217://";

/// The UUID of a line that has none of its own: the same for the same name, today and after every update.
#[must_use]
pub fn uuid_of_line(name: &str) -> Uuid {
    let mut hasher = SipHasher13::new();
    hasher.write(b"vspc serial line\0");
    hasher.write(name.as_bytes());
    let mut bytes = hasher.finish128().as_bytes();
    // Version 8: made in a way of one's own (RFC 9562 §5.8).
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telnet::NoSettings;

    fn shown(uri: &str) -> Result<String, NoLine> {
        uri.parse().map(|place: LinePlace| place.to_string())
    }

    #[test]
    fn whether_a_line_is_connected_to_or_connects_is_what_its_uri_says() {
        for (uri, expected) in [
            ("telnet://esx7:2001", "telnet://esx7:2001"),
            ("tls://esx7:2001", "tls://esx7:2001"),
            ("unix:/run/vm1.sock", "unix:/run/vm1.sock"),
            ("tcp://:7001", "tcp://0.0.0.0:7001?listen"),
            ("TELNET://:7002?listen", "telnet://0.0.0.0:7002?listen"),
            ("tcp://[::1]:7003?listen", "tcp://[::1]:7003?listen"),
            ("unix:/run/vm1.sock?listen", "unix:/run/vm1.sock?listen"),
            ("telnets://:7001", "telnets://0.0.0.0:7001?listen"),
            ("ssl://[::1]:7001?listen", "tls://[::1]:7001?listen"),
            ("pty:/run/vspc/plc1", "pty:/run/vspc/plc1"),
            ("/dev/ttyS0", "tty:/dev/ttyS0"),
            ("tty:/run/plc?speed=9600&flow=rtscts", "tty:/run/plc?speed=9600&flow=rtscts"),
            ("exec:ssh -t a 'b?listen'", "exec:ssh -t a 'b?listen'"),
            ("rfc2217://ports:2217?speed=9600", "rfc2217://ports:2217?speed=9600"),
        ] {
            assert_eq!(shown(uri).as_deref(), Ok(expected), "{uri}");
            assert_eq!(shown(expected).as_deref(), Ok(expected), "{uri}");
        }
        let speed = NoSettings::Value("speed=fast".into());
        assert_eq!(shown("/dev/ttyS0?speed=fast"), Err(NoLine::Target(NoTarget::Settings(speed))));
        assert_eq!(shown("exec:").unwrap_err(), NoLine::Target(NoTarget::Command));
        assert_eq!(shown("exec:a\nb").unwrap_err(), NoLine::Target(NoTarget::Command));
        assert_eq!(shown("tcp://esx7:1?listen"), Err(NoLine::Address("esx7".into())));
        assert_eq!(shown("tcp://esx7:1?hello"), Err(NoLine::Option));
        assert_eq!(shown("pty:run/plc1"), Err(NoLine::Target(NoTarget::LocalPath("run/plc1".into()))));
        assert_eq!(shown("tcp://:0"), Err(NoLine::Target(NoTarget::Port)));
    }

    #[test]
    fn how_streams_are_carried_is_told_from_where_a_line_is() {
        for (uri, place, mux) in [
            ("unix:/run/a.sock", "unix:/run/a.sock", None),
            ("unix:/run/a.sock?mux=s2", "unix:/run/a.sock", Some(Mux::S2)),
            ("unix:/run/a.sock?listen&mux=s2+sl", "unix:/run/a.sock?listen", Some(Mux::S2OverSl)),
            ("tty:/dev/ttyS1?mux=s2+sl&speed=115200", "tty:/dev/ttyS1?speed=115200", Some(Mux::S2OverSl)),
            ("unix:/run/a.sock?mux=v1", "unix:/run/a.sock", Some(Mux::V1)),
            ("unix:/run/a.sock?mux=v1-control&listen", "unix:/run/a.sock?listen", Some(Mux::V1Control)),
            ("unix:/run/a.sock?mux=auto", "unix:/run/a.sock", Some(Mux::Auto)),
            ("exec:a?mux=s2", "exec:a?mux=s2", None),
        ] {
            assert_eq!(take_mux(uri), Ok((place.to_owned(), mux)), "{uri}");
            assert!(mux.is_none_or(|mux| mux.to_string().parse() == Ok(mux)), "{uri}");
        }
        assert!(take_mux("tcp://:1?mux=v9").unwrap_err().to_string().contains("v9"));
    }

    #[test]
    fn two_lines_of_one_name_are_one_console_unless_one_is_the_control_channel() {
        let line = |name: &str, mux| SerialLine {
            name: name.to_owned(),
            uuid: uuid_of_line(name),
            place: "unix:/a".parse().unwrap(),
            mux,
        };
        let streams = line("pod1", Some(Mux::V1));
        assert!(!streams.is_console_of(&line("pod1", Some(Mux::V1Control))));
        assert!(streams.is_console_of(&line("pod1", None)));
        assert!(line("a", Some(Mux::V1Control)).is_console_of(&line("a", Some(Mux::V1Control))));
        assert!(!streams.is_console_of(&line("pod2", Some(Mux::V1))));
    }

    #[test]
    fn a_name_has_the_same_uuid_for_ever() {
        assert_eq!(uuid_of_line("plc1").simple().to_string(), "282a47f26d2e85bfa552001a19132ae0");
        assert_ne!(uuid_of_line("plc1"), uuid_of_line("plc2"));
    }
}
