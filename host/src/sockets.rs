//! Listening sockets, and every option a connection is served with.
//!
//! **Owns** those options and their numbers. **Refuses to know** who listens, and what the bytes mean.
//!
//! On Linux an accepted socket starts as a copy of its listener, so all options are set once, on the
//! listener, and an accept costs no further system calls (a test holds Linux to that).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use vspc_core::concentrator::{ClientPlace, SocketFile};

use crate::socket_file;

/// Opens a listener: not blocking, closed on exec. Costs a dozen system calls and no memory in the
/// process beyond the descriptor.
///
/// `::` serves IPv4 too, whatever the system's default is. [`Options`](crate::options::Options) drops the
/// addresses that it covers, so that it does not collide with `0.0.0.0`. Any other IPv6 address is IPv6.
/// An IPv4 address mapped into IPv6 is that IPv4 address.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    serve_well(&SockRef::from(&socket))?;
    socket.listen(MOST_WAITING)?;
    Ok(socket.into())
}

/// Opens a vsock listener: not blocking, closed on exec. None of what a TCP connection is served with applies
/// there.
pub(crate) fn listen_vsock(cid: u32, port: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::vsock(cid, port))?;
    socket.listen(MOST_WAITING)?;
    Ok(socket)
}

/// The error that client ports will meet there, if any: better told at start than with the first VM.
pub(crate) fn check_place(place: &ClientPlace) -> io::Result<()> {
    match place {
        ClientPlace::Ip(ip) => check_address(SocketAddr::new(*ip, 0)),
        ClientPlace::Folder(folder) => {
            // Of a path that is too long for a socket's this is the error.
            SockAddr::unix(folder.path.join(u16::MAX.to_string()))?;
            if !fs::metadata(&folder.path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let path = folder.path.join(format!(".{}", std::process::id()));
            socket_file::listen(&Arc::new(SocketFile { path, ..SocketFile::clone(folder) })).map(drop)
        }
        ClientPlace::Vsock(cid) => {
            let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking().cloexec(), None)?;
            socket.bind(&SockAddr::vsock(*cid, ANY_PORT))
        }
    }
}

/// VMADDR_PORT_ANY: the system chooses one.
const ANY_PORT: u32 = u32::MAX;

/// The error that a listener at this address will meet, if any. Nothing listens.
pub(crate) fn check_address(address: SocketAddr) -> io::Result<()> {
    bound(address).map(drop)
}

/// How many connections the system lets wait at a listener, if that is fewer than are asked for: of a fleet
/// that connects at one moment the others try again after a second or more.
pub(crate) fn short_backlog() -> Option<i32> {
    let limit = fs::read_to_string(SOMAXCONN).ok()?.trim().parse().ok()?;
    (limit < BACKLOG).then_some(limit)
}

/// A socket with this address.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if let IpAddr::V6(ip) = address.ip() {
        socket.set_only_v6(ip != Ipv6Addr::UNSPECIFIED)?;
    }
    // Connections of an earlier run that sit in TIME_WAIT must not keep this one from starting.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How a peer has taken what it was behind with: whether it is worth a long queue in the kernel.
///
/// What the kernel is given stays there when a peer stalls, can no longer be skipped or held for a move, and
/// is memory of nobody's budget. So each connection begins with a short queue. One that has emptied it many
/// times over gets a long one, which is what bulk transfers need; a terminal that was left with its output
/// stopped, and a crowd that connects and never reads, do not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Refills(u8);

impl Refills {
    /// The peer was behind, its socket has taken more, and is full again. One system call, once in the life
    /// of a connection.
    pub fn count(&mut self, socket: &impl AsFd) {
        if self.0 < MANY_REFILLS {
            self.0 += 1;
            if self.0 == MANY_REFILLS {
                // Fails for what is no TCP socket, and does not matter.
                let _ = SockRef::from(socket).set_tcp_notsent_lowat(MOST_NOT_SENT);
            }
        }
    }
}

/// What every connection is served with: accepted ones inherit it from their listener, and those that are
/// made are given it. Buffer sizes are the kernel's: it grows them with the connection, and a fixed size
/// costs bulk transfers more than it saves.
pub fn serve_well(socket: &SockRef<'_>) -> io::Result<()> {
    // Output is written as soon as it is there and in runs as long as there are: Nagle's delay would only
    // hold back echoes.
    socket.set_tcp_nodelay(true)?;
    // Hosts and clients vanish without a word (power, firewalls). No TCP_USER_TIMEOUT: Linux counts the
    // time that a live peer does not read, and would cut a VM that stands still.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    // What the peer cannot take yet waits here, where it can still be skipped, held for a move or given
    // to another connection, rather than in the kernel.
    socket.set_tcp_notsent_lowat(NOT_SENT)?;
    // Telnet's synch is sent as urgent data (RFC 854); inline it is one more byte where it belongs, not a
    // byte that is lost.
    socket.set_out_of_band_inline(true)
}

/// Connections that are made but not accepted yet. A whole fleet comes back at once after a network
/// fault; with the usual 128 most of it would meet a timeout of seconds. The kernel cuts this to
/// net.core.somaxconn and reserves nothing for it: whoever raises that has all of it.
pub(crate) const MOST_WAITING: i32 = 65_535;

/// As many as the kernel lets wait by default. With fewer, those who run a fleet are warned.
pub(crate) const BACKLOG: i32 = 4096;

/// Where Linux says how long the longest backlog is.
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";

/// Bytes that the kernel takes beyond what it may send at once: more than a screen or a log's burst has. It
/// takes whole segments, up to 64 KiB more.
const NOT_SENT: u32 = 64 << 10;

/// The same for a connection of many refills. Half a megabyte costs bulk transfers nothing that could be
/// measured; 128 KiB cost them a tenth.
const MOST_NOT_SENT: u32 = 512 << 10;

/// How many refills are many: half a megabyte or more that the peer was behind with and has taken.
const MANY_REFILLS: u8 = 16;

/// A peer that is gone is noticed after KEEPALIVE_AFTER + KEEPALIVE_EVERY * KEEPALIVE_PROBES, two
/// minutes: soon enough that a console does not look alive for hours, rarely enough that nine thousand
/// idle VMs cost 150 packets a second.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn accepted_connections_inherit_what_the_listener_was_given() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        assert!(accepted.out_of_band_inline().unwrap());
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), NOT_SENT);
    }

    #[test]
    fn a_connection_that_was_refilled_many_times_gets_a_longer_queue() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let length = || SockRef::from(&accepted).tcp_notsent_lowat().unwrap();
        let mut refills = Refills::default();
        for _ in 1..MANY_REFILLS {
            refills.count(&accepted);
        }
        assert_eq!(length(), NOT_SENT);
        for _ in 0..300 {
            refills.count(&accepted);
            assert_eq!(length(), MOST_NOT_SENT);
        }
    }

    #[test]
    fn a_fleet_may_wait_at_a_listener_before_the_first_is_accepted() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = listener.local_addr().unwrap();
        // Far more than the 128 of the standard library.
        let room = short_backlog().unwrap_or(BACKLOG).min(500);
        let connect = |_| TcpStream::connect_timeout(&to, Duration::from_millis(500)).unwrap();
        let waiting: Vec<TcpStream> = (0..room).map(connect).collect();
        assert_eq!((0..room).filter(|_| listener.accept().is_ok()).count(), waiting.len());
    }

    #[test]
    fn the_unspecified_ipv6_address_serves_both_families() {
        let Ok(listener) = listen("[::]:0".parse().unwrap()) else {
            return; /* no IPv6 here */
        };
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("::1", port)).unwrap();
        let Ok(listener) = listen("[::1]:0".parse().unwrap()) else { return };
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_listened_on_as_what_it_is() {
        let listener = listen("[::ffff:127.0.0.1]:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(address.is_ipv4(), "{address}");
        TcpStream::connect(address).unwrap();
    }

    #[test]
    fn a_port_in_use_and_a_foreign_address_are_told_apart() {
        let taken = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let again = listen(taken.local_addr().unwrap()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        // TEST-NET-1 (RFC 5737) is nobody's address.
        let foreign = check_place(&ClientPlace::Ip("192.0.2.1".parse().unwrap())).unwrap_err();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
        check_place(&ClientPlace::Ip("127.0.0.1".parse().unwrap())).unwrap();
    }
}
