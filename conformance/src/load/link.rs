//! One VM and its clients over blocking sockets: session start, finding the console's client port, and the
//! moment from which every byte counts.
//!
//! A client and its VM find each other by a spoken word: the client types `?vspc-load NONCE`, the VM that
//! hears it prints `!vspc-load NONCE`. What a server says of its own (offers, a banner, a notice) comes
//! before that; from the newline on, the stream is the test's. The same works through a raw relay, where the
//! VM does not introduce itself and the client's answers to offers are so many bytes before the word.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use memchr::memmem;
use vspc_core::vmware::{Opens, Uuid, VmConfig, VmEvent, VmSession};

use super::LoadError;
use super::subject::{LOCALHOST, Subject};
use crate::drive::{Ports, Printing};
use crate::random::nonce;
use crate::tunnel::Port;

/// How a client behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum ClientKind {
    /// Answers the server's offers as telnet programs do: bytes travel in wire form.
    Telnet,
    /// Like gdb: `+` comes first and no offer is answered; bytes travel as they are.
    Raw,
}

/// The VM that a number stands for; the same in each run, so that consoles are found again.
#[must_use]
pub(super) fn numbered_vm(number: usize) -> VmConfig {
    let mut bytes = *b"vspc-load\0\0\0\0\0\0\0";
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    VmConfig {
        name: format!("load-{number}"),
        vc_uuid: Some(Uuid::from_bytes(bytes)),
        opens: Opens::WaitsForDo,
        offers_auth: true,
        offers_com_port: true,
        ..VmConfig::default()
    }
}

/// Whether what is about to be sent holds the VM's name, the last thing that a session start needs from it.
#[must_use]
pub(super) fn tells_name(transmit: &[u8]) -> bool {
    memmem::find(transmit, &[255, 250, 232, 82]).is_some()
}

/// A VM's connection.
#[derive(Debug)]
pub(super) struct VmLink {
    /// The socket; blocking, with short timeouts.
    pub stream: TcpStream,
    /// The telnet end; `None` through a relay.
    pub session: Option<VmSession>,
    /// What was typed and not taken yet.
    pub typed: Vec<u8>,
}

impl VmLink {
    /// Connects, and through a server makes the whole session start.
    pub(super) fn open(subject: &Subject, config: VmConfig) -> Result<Self, LoadError> {
        let stream = connect(subject, Port::Vm, subject.vms())?;
        if !subject.is_server() {
            return Ok(Self::raw(stream));
        }
        Self::introduce(stream, subject.adapt(config))
            .map_err(|why| LoadError::Unreachable(format!("{}: {why}", subject.vms())))
    }

    /// One on which nothing is said but a guest's bytes.
    pub(super) const fn raw(stream: TcpStream) -> Self {
        Self { stream, session: None, typed: Vec::new() }
    }

    /// Makes the whole session start on a connection.
    pub(super) fn introduce(stream: TcpStream, config: VmConfig) -> Result<Self, LoadError> {
        let mut link = Self { stream, session: Some(VmSession::new(config)), typed: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        let (mut agreed, mut named) = (false, false);
        loop {
            named |= link.flush()?;
            if agreed && named {
                return Ok(link);
            }
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable(format!(
                    "it does not talk to a VM as a concentrator does (agreed {agreed}, name asked {named})"
                )));
            }
            link.receive()?;
            while let Some(event) = link.session.as_mut().and_then(VmSession::poll_event) {
                match event {
                    VmEvent::ProxyAgreed => agreed = true,
                    VmEvent::Refused | VmEvent::NotProxy => {
                        return Err(LoadError::Unreachable("it refuses VMs".to_owned()));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Waits until something is typed.
    pub(super) fn await_typed(&mut self) -> Result<(), LoadError> {
        let (before, deadline) = (self.typed.len(), Instant::now() + PATIENCE);
        while self.typed.len() == before {
            if Instant::now() > deadline {
                return Err(LoadError::Violation("nothing that is typed reaches the VM".to_owned()));
            }
            self.receive()?;
            // What the server was told meanwhile is part of its answer.
            self.flush()?;
        }
        Ok(())
    }

    /// One read; what was typed is added to `typed`. Nothing within the timeout is no error.
    pub(super) fn receive(&mut self) -> Result<(), LoadError> {
        let mut scratch = [0; 16384];
        let n = read_some(&mut self.stream, &mut scratch, "the VM")?;
        match &mut self.session {
            Some(session) => session.handle_received(&scratch[..n], &mut self.typed),
            None => self.typed.extend_from_slice(&scratch[..n]),
        }
        Ok(())
    }

    /// One read of what has come already.
    pub(super) fn receive_now(&mut self) -> Result<(), LoadError> {
        let blocking = |error| LoadError::Violation(format!("the VM's socket: {error}"));
        self.stream.set_nonblocking(true).map_err(blocking)?;
        let received = self.receive();
        self.stream.set_nonblocking(false).map_err(blocking)?;
        received
    }

    /// Prints; returns when the kernel has it.
    pub(super) fn print(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        match &mut self.session {
            Some(session) => {
                session.print(bytes);
                self.flush()?;
                Ok(())
            }
            None => write_all(&mut self.stream, bytes, "the VM"),
        }
    }

    /// Sends what the session has to say; tells whether the VM's name was in it.
    fn flush(&mut self) -> Result<bool, LoadError> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let named = tells_name(session.pending());
        write_all(&mut self.stream, session.pending(), "the VM")?;
        session.transmit(<[u8]>::len);
        Ok(named)
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientLink {
    /// The socket; blocking, with short timeouts.
    pub stream: TcpStream,
    /// What was received behind the word from which every byte counts, as it came off the socket.
    pub received: Vec<u8>,
    /// The port on which the console was found.
    pub at: SocketAddr,
}

/// Connects `count` clients to the VM's console and leaves all of them at the point where the VM's next byte
/// is the first that counts, with nothing typed that the VM has not taken.
pub(super) fn meet(
    vm: &mut VmLink,
    subject: &Subject,
    kind: ClientKind,
    count: usize,
) -> Result<Vec<ClientLink>, LoadError> {
    let nonce = nonce();
    let at = match *subject {
        Subject::Relay { clients, .. } => clients,
        Subject::Server { first, .. } => {
            let ports = Ports::new(LOCALHOST, first, u16::MAX - first, subject.dial());
            ports.at(ports.find(vm, 1, 1).map_err(LoadError::Unreachable)?[0])
        }
    };
    let mut clients = Vec::new();
    for number in 0..count {
        let mut stream = connect(subject, Port::Client, at)?;
        write_all(&mut stream, &hello(kind, nonce, 100_000 + number), "a client")?;
        clients.push(ClientLink { stream, received: Vec::new(), at });
    }
    let deadline = Instant::now() + PATIENCE;
    for number in 0..count {
        let word = word(b'?', nonce, 100_000 + number);
        while memmem::find(&vm.typed, &word).is_none() {
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable(format!("a client at {at} does not reach its VM")));
            }
            vm.receive()?;
        }
    }
    vm.typed.clear();
    let start = word(b'!', nonce, 0);
    vm.print(&start)?;
    for client in &mut clients {
        let mut scratch = [0; 16384];
        loop {
            if let Some(at) = memmem::find(&client.received, &start) {
                client.received.drain(..at + start.len());
                break;
            }
            if Instant::now() > deadline {
                return Err(LoadError::Unreachable(format!("the VM does not reach its client at {at}")));
            }
            let n = read_some(&mut client.stream, &mut scratch, "a client")?;
            client.received.extend_from_slice(&scratch[..n]);
        }
    }
    Ok(clients)
}

impl Printing for VmLink {
    fn print(&mut self, _vm: usize, bytes: &[u8]) -> bool {
        Self::print(self, bytes).is_ok()
    }

    fn serve(&mut self) {
        // A connection that has ended is noticed by the next print.
        let _ = self.receive_now();
    }
}

/// What a client sends first: as telnet, the answers to the five offers that every concentrator makes (they
/// need not be awaited to be answered); as raw, what gdb begins with. Then the word.
fn hello(kind: ClientKind, nonce: u64, number: usize) -> Vec<u8> {
    let mut bytes = match kind {
        ClientKind::Telnet => ANSWERS.to_vec(),
        ClientKind::Raw => b"+$".to_vec(),
    };
    bytes.extend_from_slice(&word(b'?', nonce, number));
    bytes
}

/// `?vspc-load` or `!vspc-load`, a number of this run, a number of the client, newline.
pub(super) fn word(kind: u8, nonce: u64, number: usize) -> Vec<u8> {
    let mut word = vec![kind];
    word.extend_from_slice(format!("vspc-load {nonce:016x} {number:06}\n").as_bytes());
    word
}

fn connect(subject: &Subject, port: Port, at: SocketAddr) -> Result<TcpStream, LoadError> {
    let open = || {
        let stream = subject.dial().connect(port, at, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    open().map_err(|error: io::Error| LoadError::Unreachable(format!("cannot connect to {at}: {error}")))
}

/// One read; 0 bytes means that nothing came within the socket's timeout.
pub(super) fn read_some(stream: &mut TcpStream, buffer: &mut [u8], who: &str) -> Result<usize, LoadError> {
    match stream.read(buffer) {
        Ok(0) => Err(LoadError::Violation(format!("the server closed the connection of {who}"))),
        Ok(n) => Ok(n),
        Err(error) if is_timeout(&error) => Ok(0),
        Err(error) => Err(LoadError::Violation(format!("the server broke the connection of {who}: {error}"))),
    }
}

fn write_all(stream: &mut TcpStream, bytes: &[u8], who: &str) -> Result<(), LoadError> {
    stream
        .write_all(bytes)
        .map_err(|error| LoadError::Violation(format!("the server does not take what {who} sends: {error}")))
}

/// Whether a blocking call only ran out of its time.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// DO ECHO, DO SGA, DO BINARY, WILL SGA, WILL BINARY.
pub(super) const ANSWERS: [u8; 15] = [255, 253, 1, 255, 253, 3, 255, 253, 0, 255, 251, 3, 255, 251, 0];
/// How long any single thing may take on this machine before it counts as never.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a blocked read comes back to look around.
pub(super) const TICK: Duration = Duration::from_millis(50);
