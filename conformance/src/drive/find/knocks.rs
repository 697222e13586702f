//! Connections to client ports, each a client that agrees with everything and looks for marks.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::telnet::Client;
use crate::tunnel::{Dial, Port};

/// Connections to client ports.
pub(super) struct Knocks {
    poll: Poll,
    events: Events,
    pub(super) doors: HashMap<Token, Door>,
    pub(super) ports: HashSet<u16>,
    pub(super) last: usize,
    /// How many are neither there nor refused yet.
    pub(super) pending: usize,
}

/// A client that agrees with everything and looks for a mark.
pub(super) struct Door {
    pub(super) port: u16,
    pub(super) stream: TcpStream,
    pub(super) is_open: bool,
    client: Client,
    looked_at: usize,
}

impl Knocks {
    pub(super) fn new() -> Result<Self, String> {
        let poll = Poll::new().map_err(|why| format!("no poller: {why}"))?;
        let (doors, ports) = (HashMap::new(), HashSet::new());
        Ok(Self { poll, events: Events::with_capacity(256), doors, ports, last: 0, pending: 0 })
    }

    pub(super) fn are_open(&self) -> bool {
        self.doors.values().any(|door| door.is_open)
    }

    /// Begins to connect to a port, unless that has been done.
    pub(super) fn knock(&mut self, port: u16, at: SocketAddr, dial: &Dial) -> Result<(), String> {
        if self.ports.contains(&port) {
            return Ok(());
        }
        let Ok(mut stream) = dial.begin(Port::Client, at) else { return Ok(()) };
        self.last += 1;
        let (token, interest) = (Token(self.last), Interest::READABLE | Interest::WRITABLE);
        let registered = self.poll.registry().register(&mut stream, token, interest);
        registered.map_err(|why| format!("cannot watch a connection: {why}"))?;
        self.ports.insert(port);
        self.pending += 1;
        let door = Door { port, stream, is_open: false, client: Client::default(), looked_at: 0 };
        self.doors.insert(token, door);
        Ok(())
    }

    /// Reads what comes within `time`; true when a connection came up.
    pub(super) fn turn(&mut self, time: Duration) -> bool {
        // An interrupted wait is a short one.
        let _ = self.poll.poll(&mut self.events, Some(time));
        let mut came_up = false;
        for event in &self.events {
            let Some(door) = self.doors.get_mut(&event.token()) else { continue };
            let was_open = door.is_open;
            let is_alive = door.wake();
            self.pending -= usize::from(!was_open && (door.is_open || !is_alive));
            came_up |= !was_open && door.is_open;
            if !is_alive {
                self.ports.remove(&door.port);
                self.doors.remove(&event.token());
            }
        }
        came_up
    }

    pub(super) fn hang_up(&mut self) {
        self.doors.clear();
        self.ports.clear();
        self.pending = 0;
    }
}

impl Door {
    /// The socket told something; false when the connection has ended or never came up.
    fn wake(&mut self) -> bool {
        if !self.is_open {
            match (self.stream.take_error(), self.stream.peer_addr(), self.stream.local_addr()) {
                // A port of this machine where nobody listens, given to the very connection that looked for
                // it.
                (Ok(None), Ok(peer), Ok(local)) if peer == local => return false,
                (Ok(None), Ok(_), Ok(_)) => self.is_open = true,
                (Ok(None), Err(why), _) if why.kind() == ErrorKind::NotConnected => return true,
                _ => return false,
            }
        }
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    let answer = self.client.read(&chunk[..n]);
                    // A few bytes on a fresh connection: they fit, or it has gone.
                    let _ = self.stream.write(&answer);
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return why.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// The marks that have come since the last look: the VM's number and the mark's.
    pub(super) fn marks(&mut self, prefix: &str) -> Vec<(usize, u32)> {
        let mut marks = Vec::new();
        while let Some(at) = memmem::find(&self.client.bytes[self.looked_at..], prefix.as_bytes()) {
            let from = self.looked_at + at + prefix.len();
            let Some(length) = memchr::memchr(b']', &self.client.bytes[from..]) else { break };
            let numbers = std::str::from_utf8(&self.client.bytes[from..from + length]).ok();
            let numbers = numbers.and_then(|numbers| numbers.split_once('.'));
            marks.extend(numbers.and_then(|(vm, n)| Some((vm.parse().ok()?, n.parse().ok()?))));
            self.looked_at = from + length;
        }
        marks
    }
}

impl Drop for Door {
    /// By RST: a client that merely ends its input may still be served for a while.
    fn drop(&mut self) {
        // It may have gone already, and then it is not needed.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
