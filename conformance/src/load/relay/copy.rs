//! How bytes pass: a buffer at a time, read when the one before it has gone.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::{Relay, Socket};

/// A buffer that is read into when it is empty.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) start: usize,
    pub(super) end: usize,
}

enum Step {
    More,
    Wait,
    Gone,
}

impl Relay {
    /// Moves what can be moved for one socket, at most [`ROUNDS`] buffers.
    pub(super) fn visit(&mut self, id: usize) {
        let Some(socket) = self.sockets[id].as_ref() else { return };
        if socket.is_vm && self.vms.front() != Some(&id) {
            self.drain(id);
            return;
        }
        if !socket.is_vm && self.vms.is_empty() {
            return;
        }
        for _ in 0..ROUNDS {
            // A client that became writable may be the one that the VM's bytes wait for, and the other way
            // round: whatever woke us, both directions of the pair are tried.
            let down = self.move_down();
            let up = if self.sockets[id].as_ref().is_some_and(|socket| !socket.is_vm) {
                self.move_up(id)
            } else {
                self.move_all_up()
            };
            if !matches!(down, Step::More) && !matches!(up, Step::More) {
                return;
            }
            if self.sockets[id].is_none() {
                return;
            }
        }
        self.queue(id);
    }

    /// One buffer from the first VM to all clients.
    fn move_down(&mut self) -> Step {
        let Some(&vm) = self.vms.front() else { return Step::Wait };
        if self.clients.is_empty() {
            return self.drain(vm);
        }
        if self.down.start == self.down.end {
            let Some(socket) = self.sockets[vm].as_mut() else { return Step::Wait };
            if !socket.readable {
                return Step::Wait;
            }
            match self.down.fill(socket, self.scratch.len()) {
                Step::More => {}
                Step::Wait => return Step::Wait,
                Step::Gone => {
                    self.close(vm);
                    return Step::Gone;
                }
            }
            for &client in &self.clients {
                if let Some(socket) = self.sockets[client].as_mut() {
                    socket.taken = 0;
                }
            }
        }
        let mut slowest = self.down.end;
        let mut dead = None;
        for &client in &self.clients {
            let Some(socket) = self.sockets[client].as_mut() else { continue };
            if socket.writable && socket.taken < self.down.end {
                let due = &self.down.bytes[socket.taken..self.down.end];
                match write_once(&mut socket.stream, due) {
                    Ok(n) => {
                        socket.writable = n == due.len();
                        socket.taken += n;
                    }
                    Err(()) => dead = Some(client),
                }
            }
            slowest = slowest.min(socket.taken);
        }
        if let Some(client) = dead {
            self.close(client);
            return Step::More;
        }
        self.down.start = slowest;
        if slowest == self.down.end { Step::More } else { Step::Wait }
    }

    /// One buffer from every client to the first VM.
    fn move_all_up(&mut self) -> Step {
        let mut step = Step::Wait;
        for at in (0..self.clients.len()).rev() {
            if let Some(&client) = self.clients.get(at)
                && let Step::More = self.move_up(client)
            {
                step = Step::More;
            }
        }
        step
    }

    /// One buffer from a client to the first VM.
    fn move_up(&mut self, client: usize) -> Step {
        let Some(&vm) = self.vms.front() else { return Step::Wait };
        let Ok([Some(source), Some(sink)]) = self.sockets.get_disjoint_mut([client, vm]) else {
            return Step::Wait;
        };
        if source.up.start == source.up.end {
            if !source.readable {
                return Step::Wait;
            }
            let mut up = std::mem::take(&mut source.up);
            let step = up.fill(source, self.scratch.len());
            source.up = up;
            match step {
                Step::More => {}
                Step::Wait => return Step::Wait,
                Step::Gone => {
                    self.close(client);
                    return Step::Gone;
                }
            }
        }
        if !sink.writable {
            return Step::Wait;
        }
        let due = &source.up.bytes[source.up.start..source.up.end];
        let Ok(n) = write_once(&mut sink.stream, due) else {
            self.close(vm);
            return Step::Gone;
        };
        sink.writable = n == due.len();
        source.up.start += n;
        if sink.writable { Step::More } else { Step::Wait }
    }

    /// Reads and drops what nobody watches.
    fn drain(&mut self, id: usize) -> Step {
        let Some(socket) = self.sockets[id].as_mut() else { return Step::Wait };
        while socket.readable {
            match socket.stream.read(&mut self.scratch) {
                Ok(0) => {
                    self.close(id);
                    return Step::Gone;
                }
                Ok(n) if n < self.scratch.len() => socket.readable = socket.ended,
                Ok(_) => {
                    self.queue(id);
                    return Step::Wait;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.close(id);
                    return Step::Gone;
                }
            }
        }
        Step::Wait
    }
}

impl Held {
    /// One read into the empty buffer. A read that does not fill it leaves nothing behind to be read (epoll
    /// tells of what comes later), so it needs no second one to find that out.
    fn fill(&mut self, socket: &mut Socket, size: usize) -> Step {
        if self.bytes.is_empty() {
            self.bytes.resize(size, 0);
        }
        loop {
            return match socket.stream.read(&mut self.bytes) {
                Ok(0) => Step::Gone,
                Ok(n) => {
                    socket.readable = socket.ended || n == self.bytes.len();
                    (self.start, self.end) = (0, n);
                    Step::More
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                    Step::Wait
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Step::Gone,
            };
        }
    }
}

pub(super) fn write_once(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, ()> {
    loop {
        match stream.write(bytes) {
            Ok(n) => return Ok(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(()),
        }
    }
}

/// Buffers that one pair may move before the next one has its turn.
const ROUNDS: usize = 16;
