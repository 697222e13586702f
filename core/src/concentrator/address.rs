//! Where peers are and listeners go.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::target::Target;

/// Where a peer is or a listener goes.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Ip(SocketAddr),
    /// A unix socket: where a listener goes.
    Unix(Arc<SocketFile>),
    /// A socket between virtual machines and their host (vsock(7)): a context's number and a port. Who fills
    /// in a peer's is the hypervisor.
    Vsock {
        /// The context: 2 is the host, [`ANY_CID`] any of this machine's own.
        cid: u32,
        /// The port, which has nothing to do with TCP's.
        port: u32,
    },
    /// A listener that the process was started with, under this name.
    Inherited(Arc<str>),
    /// What we have connected to.
    Target(Arc<Target>),
    /// Who connected to a unix socket: a process of this user. It has no address beyond that.
    User(u32),
    /// No socket: a reader inside this process.
    Local,
}

impl Address {
    /// The IP address, IPv4 as such. `None` where there is no network in between.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip().to_canonical()),
            Self::Unix(_)
            | Self::Vsock { .. }
            | Self::Inherited(_)
            | Self::Target(_)
            | Self::User(_)
            | Self::Local => None,
        }
    }
}

impl Address {
    /// The port of TCP.
    pub(super) fn tcp_port(&self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// The context of a vsock listener that takes whoever comes to any of this machine's (VMADDR_CID_ANY).
pub const ANY_CID: u32 = u32::MAX;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d; people know them as a.b.c.d.
            Self::Ip(SocketAddr::V6(v6)) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => write!(f, "{v4}:{}", v6.port()),
                None => v6.fmt(f),
            },
            Self::Ip(v4) => v4.fmt(f),
            Self::Unix(file) => file.path.display().fmt(f),
            Self::Vsock { cid: ANY_CID, port } => write!(f, "vsock:{port}"),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Self::Inherited(name) => write!(f, "fd:{name}"),
            Self::Target(target) => target.fmt(f),
            Self::User(uid) => write!(f, "unix:uid={uid}"),
            Self::Local => f.write_str("local"),
        }
    }
}

/// A unix socket in the file system, and who may connect to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its permissions, as in chmod.
    pub mode: u32,
    /// Its owner, if not the user of the process.
    pub owner: Option<u32>,
    /// Its group, if not that of the process.
    pub group: Option<u32>,
}

/// Where client ports are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientPlace {
    /// TCP ports of this address.
    Ip(IpAddr),
    /// Unix sockets in this folder, each called by its number, with this mode and owner.
    Folder(Arc<SocketFile>),
    /// Ports of vsock in this context, [`ANY_CID`] for any of this machine's own.
    Vsock(u32),
}

impl ClientPlace {
    /// The client port of this number.
    #[must_use]
    pub fn port(&self, number: u16) -> Address {
        match self {
            Self::Ip(ip) => Address::Ip(SocketAddr::new(*ip, number)),
            Self::Folder(folder) => {
                let path = folder.path.join(number.to_string());
                Address::Unix(Arc::new(SocketFile { path, ..SocketFile::clone(folder) }))
            }
            Self::Vsock(cid) => Address::Vsock { cid: *cid, port: number.into() },
        }
    }

    /// The IP address. `None`: no network is in between.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Folder(_) | Self::Vsock(_) => None,
        }
    }
}

impl fmt::Display for ClientPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Folder(folder) => write!(f, "unix:{}", folder.path.display()),
            Self::Vsock(ANY_CID) => f.write_str("vsock:"),
            Self::Vsock(cid) => write!(f, "vsock:{cid}"),
        }
    }
}

/// Who connected.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: Address,
    /// Who it is, as far as the kernel says: on a unix socket.
    pub credentials: Option<Credentials>,
}

/// Who is at the other end of a unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// It is root, or the user that this process runs as.
    pub is_ours: bool,
}

impl Peer {
    /// A peer known by its address alone.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self { address, credentials: None }
    }

    /// A peer on a unix socket.
    #[must_use]
    pub fn user(credentials: Credentials) -> Self {
        Self { address: Address::User(credentials.uid), credentials: Some(credentials) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_written_as_an_option_takes_it() {
        let file = SocketFile { path: "/run/vm".into(), mode: 0o660, owner: None, group: None };
        for (address, text) in [
            (Address::Ip("[::ffff:192.0.2.1]:1".parse().unwrap()), "192.0.2.1:1"),
            (Address::Ip("[2001:db8::1]:1".parse().unwrap()), "[2001:db8::1]:1"),
            (Address::Unix(Arc::new(file)), "/run/vm"),
            (Address::Vsock { cid: ANY_CID, port: 13370 }, "vsock:13370"),
            (Address::Vsock { cid: 7, port: 13370 }, "vsock:7:13370"),
            (Address::Inherited("vm".into()), "fd:vm"),
        ] {
            assert_eq!(address.to_string(), text);
        }
    }
}
