//! Output on its way to a descriptor that may block.
//!
//! Owns a short queue: what does not fit stays on its stream, and stops the process that prints it; and how
//! much may be written at once without blocking. The descriptor is shared with other programs, and so is not
//! set not to block.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat, major};
use rustix::io::{Errno, ReadWriteFlags, pwritev2, write};
use rustix::net::sockopt::socket_type;
use rustix::net::{SendFlags, SocketType, send};

/// The standard output, or the standard error.
#[derive(Debug)]
pub(super) struct Outlet<F> {
    fd: F,
    kind: Kind,
    waiting: VecDeque<u8>,
    closed: bool,
}

/// How a descriptor is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A file or /dev/null: all of it; poll(2) waits for no disk either.
    File,
    /// A pipe, which is asked for each write not to block: not all kernels can.
    Pipe,
    /// A stream socket, likewise.
    Socket,
    /// A terminal, or a pipe of a kernel that cannot: at most PIPE_BUF a write, which a writable descriptor
    /// takes without blocking.
    SmallWrites,
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    Some,
    /// Nobody reads it any more.
    Closed,
}

impl Written {
    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

impl<F: AsFd> Outlet<F> {
    pub(super) fn new(fd: F) -> Self {
        let stat = fstat(&fd).map(|stat| (FileType::from_raw_mode(stat.st_mode), major(stat.st_rdev)));
        let kind = match stat {
            Ok((FileType::RegularFile, _) | (FileType::CharacterDevice, MEMORY)) => Kind::File,
            Ok((FileType::Fifo, _)) => Kind::Pipe,
            Ok((FileType::Socket, _)) if socket_type(&fd) == Ok(SocketType::STREAM) => Kind::Socket,
            _ => Kind::SmallWrites,
        };
        Self { fd, kind, waiting: VecDeque::new(), closed: false }
    }

    /// Takes what there is room for.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        if self.closed {
            return bytes.len();
        }
        let n = bytes.len().min(ROOM.saturating_sub(self.waiting.len()));
        self.waiting.extend(&bytes[..n]);
        n
    }

    /// Takes a few words, with or without room.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes once, when poll(2) has said that something is taken; never waits for a reader.
    pub(super) fn write(&mut self) -> io::Result<Written> {
        let (front, _) = self.waiting.as_slices();
        let little = &front[..front.len().min(AT_ONCE)];
        let written = match self.kind {
            Kind::File => write(&self.fd, front),
            Kind::Socket => send(&self.fd, front, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::SmallWrites => write(&self.fd, little),
            Kind::Pipe => {
                let runs = [IoSlice::new(front)];
                match pwritev2(&self.fd, &runs, u64::MAX, ReadWriteFlags::NOWAIT) {
                    Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
                        self.kind = Kind::SmallWrites;
                        write(&self.fd, little)
                    }
                    written => written,
                }
            }
        };
        match written {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => {
                self.closed = true;
                self.waiting.clear();
                return Ok(Written::Closed);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Written::Some)
    }
}

impl<F: AsFd> AsFd for Outlet<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What waits at most, but for a few words.
const ROOM: usize = 128 * 1024;
/// The number of /dev/null and its like.
const MEMORY: u32 = 1;
/// PIPE_BUF: what a pipe that is writable takes.
const AT_ONCE: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_there_is_no_room_for_stays_and_all_of_the_rest_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut outlet = Outlet::new(writer);
        let bytes: Vec<u8> = (0..=255).cycle().take(ROOM + 1).collect();
        assert_eq!(outlet.take(&bytes), ROOM);
        assert_eq!(outlet.take(&bytes[ROOM..]), 0);
        // More than the pipe holds: nobody reads, and yet no write waits.
        let mut left = outlet.waiting.len();
        loop {
            if outlet.kind == Kind::SmallWrites {
                break;
            }
            assert_eq!(outlet.write().unwrap(), Written::Some);
            match outlet.waiting.len() {
                same if same == left => break,
                less => left = less,
            }
        }
        let mut read = Vec::new();
        while outlet.is_waiting() {
            let mut piece = [0; 4096];
            let n = if outlet.kind == Kind::SmallWrites { 0 } else { reader.read(&mut piece).unwrap() };
            read.extend_from_slice(&piece[..n]);
            assert_eq!(outlet.write().unwrap(), Written::Some);
            if outlet.kind == Kind::SmallWrites {
                let n = reader.read(&mut piece).unwrap();
                read.extend_from_slice(&piece[..n]);
            }
        }
        drop(outlet);
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes[..ROOM]);
    }

    #[test]
    fn files_and_sockets_are_given_all_of_it_and_a_socket_that_is_full_waits() {
        let bytes = vec![7; ROOM];
        let path = std::env::temp_dir().join(format!("vspc-outlet-{}", std::process::id()));
        let mut outlet = Outlet::new(std::fs::File::create(&path).unwrap());
        outlet.take(&bytes);
        outlet.write().unwrap();
        assert!(!outlet.is_waiting());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        std::fs::remove_file(&path).unwrap();

        let (socket, _reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut outlet = Outlet::new(socket);
        for _ in 0..100 {
            outlet.take(&bytes);
            assert_eq!(outlet.write().unwrap(), Written::Some);
        }
        assert!(outlet.is_waiting());
    }

    #[test]
    fn a_reader_that_has_gone_is_told_apart_and_what_comes_then_is_dropped() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut outlet = Outlet::new(writer);
        outlet.take(b"x");
        assert!(outlet.write().unwrap().is_closed());
        assert_eq!((outlet.take(b"more"), outlet.is_waiting()), (4, false));
    }
}
