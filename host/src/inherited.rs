//! Listeners that the service manager opened and hands over (sd_listen_fds(3), systemd.socket(5)): from
//! descriptor 3 on, as many as `LISTEN_FDS` says, with the names in `LISTEN_FDNAMES`, if `LISTEN_PID` is
//! this process.
//!
//! **Owns** those descriptors until a listener is made of each, and what is said of one that is no listener.
//! **Refuses to know** who listens there.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, SockRef, Socket, Type};
use vspc_core::concentrator::Address;

/// Sockets that this process was started with and that nobody listens on yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
}

/// What is wrong with what was handed over, or with what is expected of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InheritedError {
    /// The variables do not fit together, or what is there.
    #[error("what the service manager hands over makes no sense: {0}")]
    Environment(String),
    /// An option names a socket that is not there.
    #[error("fd:{name}: no socket of that name was handed over; {there}")]
    Missing { name: String, there: There },
    /// Two options name it.
    #[error("fd:{0} is named twice: each socket has one purpose")]
    Twice(String),
    /// It is something else.
    #[error("fd:{0} {1}")]
    NoListener(String, Fault),
}

/// The names of what there is.
#[derive(Debug)]
pub(crate) struct There(Vec<String>);

impl fmt::Display for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str(
                "none was (LISTEN_FDS): is the socket unit started, and is it this service that it is for?",
            ),
            false => write!(f, "there are: {}", self.0.join(", ")),
        }
    }
}

/// Why a descriptor is not one that connections can be taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("is no socket")]
    NoSocket,
    #[error("is no stream socket: give the socket unit ListenStream=, not ListenDatagram= or another")]
    NoStream,
    #[error("is a connection, or listens to nobody: give the socket unit Accept=no")]
    NotListening,
    #[error("is of a family that is not served: give the socket unit an IP, unix or vsock address")]
    Family,
}

impl Inherited {
    /// Those of this process. To be called once, before it has opened anything of its own: whose descriptors
    /// these are is known by their numbers alone.
    pub(crate) fn of_process() -> Result<Self, InheritedError> {
        let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == process::id().to_string());
        let Some(count) = env::var_os("LISTEN_FDS").filter(|_| is_ours) else { return Ok(Self::default()) };
        let count = count.to_str().and_then(|count| count.parse().ok()).filter(|count| *count <= MOST);
        let count: u32 = count
            .ok_or_else(|| InheritedError::Environment(format!("LISTEN_FDS is no number up to {MOST}")))?;
        for number in FIRST..FIRST + count {
            if fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
                let fault = format!("LISTEN_FDS is {count}, and descriptor {number} is not open");
                return Err(InheritedError::Environment(fault));
            }
        }
        let all = sd_listen_fds::get().map_err(|error| InheritedError::Environment(error.to_string()))?;
        let mut sockets = Vec::new();
        for (name, socket) in all {
            let socket = socket.into_std();
            // It is none of the business of programs that this one starts.
            let _ = fcntl_setfd(&socket, FdFlags::CLOEXEC);
            sockets
                .push((name.filter(|name| !name.is_empty()).unwrap_or_else(|| UNNAMED.to_owned()), socket));
        }
        Ok(Self { sockets })
    }

    /// Puts in place of each `fd:NAME` among these addresses as many as there are sockets of that name, each
    /// of which can be listened on. No name may stand twice in all of them.
    pub(crate) fn expand(&self, all: &mut [&mut Vec<Address>]) -> Result<(), InheritedError> {
        let mut seen = BTreeSet::new();
        for addresses in all {
            let mut expanded = Vec::new();
            for address in addresses.drain(..) {
                let Address::Inherited(name) = &address else {
                    expanded.push(address);
                    continue;
                };
                if !seen.insert(name.to_string()) {
                    return Err(InheritedError::Twice(name.to_string()));
                }
                let count = self.check(name)?;
                expanded.extend(std::iter::repeat_n(address, count));
            }
            **addresses = expanded;
        }
        Ok(())
    }

    /// How many sockets of this name can be listened on: all, and at least one.
    fn check(&self, name: &str) -> Result<usize, InheritedError> {
        let mut count = 0;
        for (_, socket) in self.sockets.iter().filter(|(is, _)| is == name) {
            if let Err(fault) = check(socket) {
                return Err(InheritedError::NoListener(name.to_owned(), fault));
            }
            count += 1;
        }
        match count {
            0 => Err(InheritedError::Missing { name: name.to_owned(), there: There(self.names()) }),
            count => Ok(count),
        }
    }

    /// What the sockets are called that are left, each name once.
    pub(crate) fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.sockets.iter().map(|(name, _)| name).collect();
        names.into_iter().cloned().collect()
    }

    /// Closes those that none of these addresses takes; returns what they are called.
    pub(crate) fn drop_others(&mut self, all: &[&Vec<Address>]) -> Vec<String> {
        let is_taken = |name: &str| {
            let mut addresses = all.iter().copied().flatten();
            addresses.any(|address| matches!(address, Address::Inherited(taken) if **taken == *name))
        };
        let mut others = self.names();
        others.retain(|name| !is_taken(name));
        self.sockets.retain(|(name, _)| is_taken(name));
        others
    }

    /// The next socket of this name, which does not block.
    pub(crate) fn take(&mut self, name: &str) -> io::Result<Socket> {
        let at = self.sockets.iter().position(|(is, _)| is == name).ok_or(io::ErrorKind::NotFound)?;
        let socket = Socket::from(self.sockets.remove(at).1);
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// Whether connections can be taken from it.
fn check(socket: &impl AsFd) -> Result<(), Fault> {
    let socket = SockRef::from(socket);
    let kind = socket.r#type().map_err(|_| Fault::NoSocket)?;
    if kind != Type::STREAM {
        return Err(Fault::NoStream);
    }
    if !socket.is_listener().unwrap_or(false) {
        return Err(Fault::NotListening);
    }
    let families = [Domain::IPV4, Domain::IPV6, Domain::UNIX, Domain::VSOCK];
    match socket.domain() {
        Ok(family) if families.contains(&family) => Ok(()),
        _ => Err(Fault::Family),
    }
}

/// The variables that tell of them; the last one is of newer service managers.
pub(crate) const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// SD_LISTEN_FDS_START.
const FIRST: u32 = 3;

/// Sockets that one process may be handed: far more than anyone has addresses.
const MOST: u32 = 1024;

/// What systemd calls a socket that has no name.
const UNNAMED: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    fn tcp() -> OwnedFd {
        TcpListener::bind("127.0.0.1:0").unwrap().into()
    }

    fn inherited(sockets: Vec<(&str, OwnedFd)>) -> Inherited {
        let sockets = sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)).collect();
        Inherited { sockets }
    }

    fn fd(name: &str) -> Address {
        Address::Inherited(name.into())
    }

    #[test]
    fn each_name_stands_for_all_sockets_that_have_it_and_the_rest_are_closed() {
        let mut all = inherited(vec![("vm", tcp()), ("other", tcp()), ("vm", tcp()), ("admin", tcp())]);
        let ip = Address::Ip(([127, 0, 0, 1], 1).into());
        let (mut vms, mut admins) = (vec![ip.clone(), fd("vm")], vec![fd("admin")]);
        all.expand(&mut [&mut vms, &mut admins]).unwrap();
        assert_eq!((vms.clone(), admins.clone()), (vec![ip, fd("vm"), fd("vm")], vec![fd("admin")]));
        assert_eq!(all.drop_others(&[&vms, &admins]), ["other"]);
        for name in ["vm", "admin", "vm"] {
            let socket = all.take(name).unwrap();
            assert!(socket.nonblocking().unwrap());
        }
        assert_eq!(all.take("vm").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_cannot_be_listened_on_is_told_with_its_name_and_what_it_is() {
        let path: PathBuf = env::temp_dir().join(format!("vspc-inherited-{}", process::id()));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (connection, _other) = UnixStream::pair().unwrap();
        let to = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let all = inherited(vec![
            ("unix", listener.into()),
            ("file", File::open("/dev/null").unwrap().into()),
            ("udp", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            ("pair", connection.into()),
            ("client", client.into()),
        ]);
        let told = |name: &str| all.expand(&mut [&mut vec![fd(name)]]).map_err(|error| error.to_string());
        assert_eq!(told("unix"), Ok(()));
        for (name, words) in [
            ("file", "fd:file is no socket"),
            ("udp", "ListenStream="),
            ("pair", "Accept=no"),
            ("client", "Accept=no"),
            ("nobody", "there are: client, file, pair, udp, unix"),
        ] {
            let why = told(name).unwrap_err();
            assert!(why.contains(words) && why.contains(&format!("fd:{name}")), "{why}");
        }
        let why = all.expand(&mut [&mut vec![fd("unix")], &mut vec![fd("unix")]]).unwrap_err().to_string();
        assert!(why.contains("fd:unix is named twice"), "{why}");
        let why = Inherited::default().expand(&mut [&mut vec![fd("vm")]]).unwrap_err().to_string();
        assert!(why.contains("LISTEN_FDS"), "{why}");
    }
}
