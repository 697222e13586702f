//! One connection: its socket, TLS over it if there is any, and what is known of its readiness.
//!
//! **Owns** what a read or a write means for it, and how it ends. **Refuses to know** where bytes go.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use vspc_host::tcp_state::acknowledged;
use vspc_host::transfer::Refills;

use crate::sockets;
use crate::tls::Session;
use crate::unread;

/// A connection that does not block.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    tls: Option<Box<Session>>,
    readable: bool,
    /// A read that does not fill its buffer has not emptied the socket: its end or an error is behind.
    more_behind: bool,
    writable: bool,
    /// Its last byte has been read.
    ended: bool,
    /// Its other half is to end, or has.
    finishing: Finishing,
    failed: Option<ErrorKind>,
    /// What TLS found wrong, in words.
    fault: Option<Box<str>>,
    refills: Refills,
    /// Bytes that the kernel has taken.
    sent: u64,
    /// What the kernel had counted as acknowledged before that.
    acknowledged_before: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finishing {
    No,
    Wanted,
    Done,
}

/// What a read met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

impl Link {
    /// A connection that is up, and has been registered.
    pub(crate) fn new(socket: Socket, tls: Option<Session>) -> Self {
        let acknowledged_before = acknowledged(&socket);
        Self {
            socket,
            tls: tls.map(Box::new),
            readable: true,
            more_behind: false,
            writable: true,
            ended: false,
            finishing: Finishing::No,
            failed: None,
            fault: None,
            refills: Refills::default(),
            sent: 0,
            acknowledged_before,
        }
    }

    /// Has the poller tell of a socket, for good.
    pub(crate) fn register(registry: &Registry, socket: &Socket, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
    }

    /// Notes what the poller says.
    pub(crate) fn note(&mut self, event: &Event) {
        let behind = event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || behind;
        self.more_behind |= behind;
        self.writable |= event.is_writable() || event.is_error();
        // A read would return it, but where nothing may be read nobody would know.
        if event.is_error()
            && let Ok(Some(error)) = self.socket.take_error()
        {
            self.fail(&error);
        }
    }

    /// Goes on with TLS's handshake, if there is one. Returns whether it is over.
    pub(crate) fn shake_hands(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        let done = tls.shake_hands(&mut Wire { socket: &self.socket, sent: &mut self.sent })?;
        self.writable = !tls.wants_write();
        Ok(done)
    }

    /// Reads once.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        if self.ended || !self.readable {
            return Received::Nothing;
        }
        loop {
            let outcome = match &mut self.tls {
                None => (&self.socket).read(buffer),
                Some(tls) => tls.receive(&mut Wire { socket: &self.socket, sent: &mut self.sent }, buffer),
            };
            return match outcome {
                Ok(0) => {
                    self.ended = true;
                    Received::End
                }
                Ok(n) => {
                    // A read that brings less than asked for has emptied the socket (epoll(7)). TLS looks
                    // for itself.
                    self.readable = self.tls.is_some() || self.more_behind || n == buffer.len();
                    Received::Bytes(n)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = self.tls.as_ref().is_some_and(|tls| tls.has_unread());
                    self.more_behind = false;
                    Received::Nothing
                }
                Err(error) => {
                    self.fail(&error);
                    self.ended = true;
                    Received::End
                }
            };
        }
    }

    /// Writes what the socket takes, and returns how much that was: less than all where it is full or broken.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.can_send() {
            let rest = &bytes[taken..];
            let mut wire = Wire { socket: &self.socket, sent: &mut self.sent };
            let outcome = match &mut self.tls {
                None => wire.write(rest),
                Some(tls) => tls.send(&mut wire, rest),
            };
            match outcome {
                Ok(n) => {
                    taken += n;
                    self.writable =
                        n == rest.len() && !self.tls.as_ref().is_some_and(|tls| tls.wants_write());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) => self.fail(&error),
            }
            if !self.writable {
                self.refills.count(&self.socket);
            }
        }
        taken
    }

    /// Writes what comes before TLS. A connection that has just been made takes a kilobyte at once.
    pub(crate) fn send_first(&mut self, bytes: &[u8]) {
        let written = Wire { socket: &self.socket, sent: &mut self.sent }.write_all(bytes);
        if let Err(error) = written {
            self.fail(&error);
        }
    }

    /// The next read asks the kernel, whatever the poller has said so far.
    pub(crate) const fn look_again(&mut self) {
        self.readable = true;
        self.more_behind = true;
    }

    /// Whether a write may take something.
    pub(crate) fn can_send(&self) -> bool {
        self.writable && self.failed.is_none() && self.finishing == Finishing::No
    }

    /// Whether a read may bring something.
    pub(crate) fn can_receive(&self) -> bool {
        self.readable && !self.ended
    }

    /// Ends this side's half, behind what TLS has still to send.
    pub(crate) fn finish(&mut self) {
        if self.finishing == Finishing::No {
            self.finishing = Finishing::Wanted;
            if let Some(tls) = &mut self.tls {
                tls.finish();
            }
            self.flush();
        }
    }

    /// Sends what TLS has left over, if the socket takes it.
    pub(crate) fn flush(&mut self) {
        if let Some(tls) = &mut self.tls
            && self.failed.is_none()
            && tls.wants_write()
        {
            if let Err(error) = tls.flush(&mut Wire { socket: &self.socket, sent: &mut self.sent }) {
                self.fail(&error);
            } else if tls.wants_write() {
                self.writable = false;
            }
        }
        let is_sealed = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        if self.finishing == Finishing::Wanted && !is_sealed {
            self.finishing = Finishing::Done;
            // Fails where the peer is gone, which a read tells.
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Whether its half has ended that [`finish`](Self::finish) ends.
    pub(crate) fn is_finished(&self) -> bool {
        self.finishing == Finishing::Done
    }

    /// Whether all has been read.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Why it is broken, if it is.
    pub(crate) const fn failure(&self) -> Option<ErrorKind> {
        self.failed
    }

    /// Why it is broken, for people.
    pub(crate) fn failure_in_words(&self) -> String {
        match (&self.fault, self.failed) {
            (Some(fault), _) => fault.to_string(),
            (None, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) => "a reset".to_owned(),
            (None, Some(ErrorKind::TimedOut)) => "no answer for minutes".to_owned(),
            (None, Some(why)) => why.to_string(),
            (None, None) => "its end".to_owned(),
        }
    }

    /// Whether the peer's system has everything that was sent, or nobody can tell.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.arrived() >= self.sent
    }

    /// How many bytes of those sent the peer's system has; all of them where nobody can tell.
    pub(crate) fn arrived(&self) -> u64 {
        match (self.acknowledged_before, acknowledged(&self.socket)) {
            (Some(before), Some(now)) => now.saturating_sub(before).min(self.sent),
            _ => self.sent,
        }
    }

    /// How many bytes the peer itself has not read, where each was sent alone; `None`: nobody can tell.
    pub(crate) fn unread(&self) -> Option<usize> {
        unread::bytes_unread(&self.socket)
    }

    /// Who is at the other end, and this end's own address, where they are IP addresses.
    pub(crate) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        let peer = self.socket.peer_addr().ok()?.as_socket()?;
        Some((peer, self.socket.local_addr().ok()?.as_socket()?))
    }

    /// How many bytes the kernel has taken: of TLS's form, where there is TLS.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether the kernel has taken all that was given to this link.
    pub(crate) fn has_sent_all(&self) -> bool {
        !self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether what is sent has another form on the wire.
    pub(crate) const fn is_sealed(&self) -> bool {
        self.tls.is_some()
    }

    /// Closes it so that the peer is told of a reset.
    pub(crate) fn reset(self) {
        sockets::reset(self.socket);
    }

    /// Notes that it is broken.
    pub(crate) fn fail(&mut self, error: &io::Error) {
        if self.failed.is_none() {
            self.failed = Some(error.kind());
            if error.kind() == ErrorKind::InvalidData {
                self.fault = Some(error.to_string().into());
            }
        }
    }
}

/// A socket whose written bytes are counted.
struct Wire<'a> {
    socket: &'a Socket,
    sent: &'a mut u64,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.socket).read(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = (&*self.socket).write(bytes)?;
        *self.sent += n as u64;
        Ok(n)
    }

    fn write_vectored(&mut self, runs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let n = (&*self.socket).write_vectored(runs)?;
        *self.sent += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
