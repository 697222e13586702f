//! How much of what was sent on a unix socket its peer has not read, as the kernel tells by sock_diag(7).
//!
//! A unix socket that takes bytes puts them where its peer finds them; that says nothing of whether a QEMU
//! whose guest reads slowly, or stands still, has them.

use std::io;

use rustix::fs::fstat;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use socket2::{Domain, Socket, Type};

/// How many sends of one byte each the peer has not read, if nothing longer was sent. `None`: the kernel does
/// not say, or it is no unix socket. A dozen system calls.
pub(crate) fn bytes_unread(socket: &Socket) -> Option<usize> {
    if socket.domain().ok()? != Domain::UNIX {
        return None;
    }
    let memory = memory_unread(socket)?;
    if memory == 0 {
        return Some(0);
    }
    // What one byte takes is the kernel's business: it is tried.
    let (ours, _theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).ok()?;
    ours.send(&[0]).ok()?;
    let one = memory_unread(&ours).filter(|one| *one > 0)?;
    Some(memory.div_ceil(one) as usize)
}

/// What of a socket's output is not read, in bytes of the kernel's memory.
fn memory_unread(socket: &Socket) -> Option<u32> {
    let inode = u32::try_from(fstat(socket).ok()?.st_ino).ok()?;
    unread(&ask(inode).ok()?)
}

/// Asks for the lengths of the queues of one socket.
fn ask(inode: u32) -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    let mut question = Vec::with_capacity(HEADER + 24);
    // struct nlmsghdr: length, type, flags, sequence, port.
    question.extend(((HEADER + 24) as u32).to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.extend([0; 8]);
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, and any cookie.
    question.extend([AddressFamily::UNIX.as_raw() as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, SHOW_QUEUES, u32::MAX, u32::MAX] {
        question.extend(word.to_ne_bytes());
    }
    send(&kernel, &question, SendFlags::empty())?;
    // The answer is there when the question is sent.
    let mut answer = vec![0; 1024];
    let (_, length) = recv(&kernel, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// What of the socket's output is not read, in bytes of the kernel's memory.
fn unread(answer: &[u8]) -> Option<u32> {
    let half = |at: usize| answer.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes);
    let word = |at: usize| answer.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    if half(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    // Behind struct unix_diag_msg: attributes, each its length and type, and aligned.
    let mut at = HEADER + 16;
    loop {
        let (length, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == QUEUES {
            // struct unix_diag_rqlen: what is in its own queue, and what is in its peer's.
            return word(at + 8);
        }
        at += length.max(4).next_multiple_of(4);
    }
}

/// The length of `struct nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;

/// linux/sock_diag.h, linux/netlink.h, linux/unix_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const SHOW_QUEUES: u32 = 0x10;
const QUEUES: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_sent_is_unread_until_it_is_read() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket::from(ours.try_clone().unwrap());
        // A kernel without sock_diag's part for unix sockets says nothing.
        let Some(unread) = bytes_unread(&socket) else { return };
        assert_eq!(unread, 0);
        for sent in 1..=100 {
            ours.write_all(b"a").unwrap();
            assert_eq!(bytes_unread(&socket), Some(sent));
        }
        for left in (0..100).rev() {
            theirs.read_exact(&mut [0]).unwrap();
            assert_eq!(bytes_unread(&socket), Some(left));
        }
    }

    #[test]
    fn of_others_the_kernel_does_not_say() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(bytes_unread(&Socket::from(stream)), None);
        assert_eq!(unread(&[0; 20]), None);
        assert_eq!(unread(&[]), None);
    }
}
