//! How the TCP of a connection's peer does, as the kernel sees it: `getsockopt(TCP_INFO)` (tcp(7)).
//!
//! No library that this project builds on offers that call, so its one `unsafe` block is here. What the
//! kernel writes is taken as bytes and read at the offsets of `struct tcp_info` in `linux/tcp.h`, which only
//! ever grows at its end: how much of it this kernel knows is the length that comes back.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use vspc_core::concentrator::TcpState;

/// Asks the kernel. `None`: it does not say, or this is no TCP socket. One system call.
pub(crate) fn tcp_state(socket: &impl AsFd) -> Option<TcpState> {
    let mut info = [0; WANTED];
    let len = tcp_info(socket, &mut info).ok()?;
    let known = &info[..len];
    Some(TcpState {
        outstanding: word(known, UNACKED)? > 0,
        acknowledged: Duration::from_millis(word(known, LAST_ACK_RECV)?.into()),
        window: word(known, SND_WND),
    })
}

/// How many bytes the peer's system has acknowledged in all, the connection's opening and end counted as one
/// each where this side began. `None` as above. One system call, also on a connection that has been reset.
pub fn acknowledged(socket: &impl AsFd) -> Option<u64> {
    let mut info = [0; WANTED];
    let len = tcp_info(socket, &mut info).ok()?;
    info[..len].get(BYTES_ACKED..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// Has the kernel write the beginning of its `struct tcp_info`; returns how much of it there is.
#[expect(unsafe_code, reason = "the only way to this call; see the proof inside")]
fn tcp_info(socket: &impl AsFd, info: &mut [u8; WANTED]) -> io::Result<usize> {
    let socket = socket.as_fd();
    let mut len = libc::socklen_t::try_from(info.len()).unwrap_or(0);
    // SAFETY: the descriptor is open, since `socket` borrows it until this returns. `info` is exclusively
    // ours, initialized, and `len` bytes long, of which the kernel writes at most `len`; bytes have no
    // invalid values, and no alignment is asked for. `len` is an initialized value of the type that the
    // kernel reads and writes. The kernel keeps neither pointer.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if outcome == 0 { Ok(info.len().min(len as usize)) } else { Err(io::Error::last_os_error()) }
}

/// The 32 bits at an offset, if the kernel has written them.
fn word(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// Where `tcpi_unacked` is: segments sent and not acknowledged.
const UNACKED: usize = 24;

/// Where `tcpi_last_ack_recv` is: milliseconds since the peer's last acknowledgement.
const LAST_ACK_RECV: usize = 56;

/// Where `tcpi_bytes_acked` is, 64 bits (since Linux 4.1).
const BYTES_ACKED: usize = 120;

/// Where `tcpi_snd_wnd` is: the peer's receive window, in bytes (since Linux 5.4).
const SND_WND: usize = 228;

/// As far as there is something that is wanted.
const WANTED: usize = SND_WND + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, peer)
    }

    #[test]
    fn a_peer_that_acknowledges_and_one_that_takes_no_more_are_told_apart() {
        let (mut socket, _peer) = pair();
        socket.write_all(b"are you there?").unwrap();
        while tcp_state(&socket).unwrap().outstanding {
            std::thread::yield_now();
        }
        let state = tcp_state(&socket).unwrap();
        assert!(state.acknowledged < Duration::from_secs(60), "{state:?}");
        assert!(state.window.is_none_or(|window| window > 0), "{state:?}");
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 1 << 16]).is_ok() {}
        // The last of it may be on its way still; the kernel says so as soon as it is there.
        while tcp_state(&socket).unwrap().window.is_some_and(|window| window > 0) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_was_acknowledged_is_counted_and_known_after_a_reset() {
        let (mut socket, peer) = pair();
        let before = acknowledged(&socket).unwrap();
        socket.write_all(b"0123456789").unwrap();
        while acknowledged(&socket).unwrap() < before + 10 {
            std::thread::yield_now();
        }
        // It closes with bytes unread, which is a reset.
        drop(peer);
        while socket.take_error().unwrap().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(acknowledged(&socket), Some(before + 10));
    }

    #[test]
    fn what_is_no_tcp_socket_has_no_state() {
        assert_eq!(tcp_state(&UnixStream::pair().unwrap().0), None);
        assert_eq!(acknowledged(&UnixStream::pair().unwrap().0), None);
    }

    #[test]
    fn what_an_older_kernel_does_not_write_is_not_known() {
        let mut info = [0; WANTED];
        info[LAST_ACK_RECV..][..4].copy_from_slice(&7u32.to_ne_bytes());
        let old = &info[..192];
        assert_eq!((word(old, LAST_ACK_RECV), word(old, SND_WND)), (Some(7), None));
        assert_eq!(word(&info[..SND_WND + 3], SND_WND), None);
    }
}
