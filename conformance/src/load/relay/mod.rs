//! A raw relay: the limit of what a program between two sockets can reach.
//!
//! One process, one thread, one event queue. It copies bytes between VM connections and client connections
//! and looks at none of them. All clients belong to the VM that connected first; what other VMs send is read
//! and dropped, as a server does with a console that nobody watches. Each read from a VM is written to every
//! client before the next one (backpressure, no queue), so it carries fan-out too.
//!
//! It gets what the server gets and nothing less: the same socket options, edge-triggered readiness that is
//! remembered, one read of a full buffer per round, no copy that a plain `read`/`write` pair does not make.

mod copy;

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::ExitCode;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::process;

use copy::{Held, write_once};

/// Options of `load relay`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct RelayArgs {
    /// Where VMs connect
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:13370")]
    pub listen: SocketAddr,
    /// Where clients connect; they all watch the VM that connected first
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:50000")]
    pub clients_listen: SocketAddr,
    /// Bytes that one read may take
    #[arg(long, value_name = "BYTES", default_value_t = BUFFER)]
    pub buffer: usize,
    /// End when standard input does (for a parent that starts it)
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// Runs `load relay`.
pub(super) fn run(args: &RelayArgs) -> ExitCode {
    process::raise_descriptor_limit();
    let relay = match Relay::bind(args.listen, args.clients_listen, args.buffer) {
        Ok(relay) => relay,
        Err(error) => {
            eprintln!("relay: cannot listen on {} and {}: {error}", args.listen, args.clients_listen);
            return ExitCode::from(2);
        }
    };
    println!("relay listens: VMs {}, clients {}", relay.vms_at, relay.clients_at);
    match relay.run(args.until_stdin_closes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::from(2)
        }
    }
}

/// A relay that listens.
#[derive(Debug)]
pub(super) struct Relay {
    poll: Poll,
    vm_listener: TcpListener,
    client_listener: TcpListener,
    /// Where VMs connect.
    pub vms_at: SocketAddr,
    /// Where clients connect.
    pub clients_at: SocketAddr,
    sockets: Vec<Option<Socket>>,
    free: Vec<usize>,
    /// VMs in the order in which they connected.
    vms: VecDeque<usize>,
    /// Clients of the first VM.
    clients: Vec<usize>,
    /// What the first VM sent and not every client has taken yet.
    down: Held,
    scratch: Vec<u8>,
    again: VecDeque<usize>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    is_vm: bool,
    readable: bool,
    /// The peer's last byte is on its way or read: reads go on until they say so.
    ended: bool,
    writable: bool,
    queued: bool,
    /// A client: how much of `down` it has taken.
    taken: usize,
    /// A client: what it sent and the VM has not taken yet.
    up: Held,
}

impl Relay {
    /// Listens.
    pub(super) fn bind(vms: SocketAddr, clients: SocketAddr, buffer: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut vm_listener = listen(vms)?;
        let mut client_listener = listen(clients)?;
        poll.registry().register(&mut vm_listener, VM_LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut client_listener, CLIENT_LISTENER, Interest::READABLE)?;
        Ok(Self {
            vms_at: vm_listener.local_addr()?,
            clients_at: client_listener.local_addr()?,
            poll,
            vm_listener,
            client_listener,
            sockets: Vec::new(),
            free: Vec::new(),
            vms: VecDeque::new(),
            clients: Vec::new(),
            down: Held::default(),
            scratch: vec![0; buffer.max(1)],
            again: VecDeque::new(),
        })
    }

    /// Relays until standard input ends (if asked to watch it) or the event queue fails.
    pub(super) fn run(mut self, until_stdin_closes: bool) -> io::Result<()> {
        if until_stdin_closes {
            self.poll.registry().register(&mut SourceFd(&0), STDIN, Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = (!self.again.is_empty()).then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut clients_wait = false;
            for event in &events {
                match event.token() {
                    VM_LISTENER => self.accept(true),
                    CLIENT_LISTENER => clients_wait = true,
                    STDIN => {
                        if matches!(io::stdin().read(&mut [0; 64]), Ok(0) | Err(_)) {
                            return Ok(());
                        }
                    }
                    Token(id) => {
                        if let Some(socket) = self.sockets.get_mut(id).and_then(Option::as_mut) {
                            socket.ended |= event.is_read_closed() || event.is_error();
                            socket.readable |= event.is_readable() || socket.ended;
                            socket.writable |= event.is_writable() || event.is_error();
                            self.queue(id);
                        }
                    }
                }
            }
            if clients_wait {
                // Only now: a client that connected after the first VM must find it.
                self.accept(true);
                self.accept(false);
            }
            for _ in 0..self.again.len() {
                let Some(id) = self.again.pop_front() else { break };
                if let Some(socket) = self.sockets[id].as_mut() {
                    socket.queued = false;
                    self.visit(id);
                }
            }
        }
    }

    fn queue(&mut self, id: usize) {
        if let Some(socket) = self.sockets.get_mut(id).and_then(Option::as_mut)
            && !socket.queued
        {
            socket.queued = true;
            self.again.push_back(id);
        }
    }

    fn accept(&mut self, is_vm: bool) {
        loop {
            let listener = if is_vm { &self.vm_listener } else { &self.client_listener };
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let _ = stream.set_nodelay(true);
            let id = self.free.pop().unwrap_or_else(|| {
                self.sockets.push(None);
                self.sockets.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(id), both).is_err() {
                self.free.push(id);
                continue;
            }
            let taken = self.down.start;
            self.sockets[id] = Some(Socket {
                stream,
                is_vm,
                readable: true,
                ended: false,
                writable: true,
                queued: false,
                taken,
                up: Held::default(),
            });
            if is_vm {
                self.vms.push_back(id);
            } else {
                self.clients.push(id);
            }
            self.queue(id);
        }
    }

    fn close(&mut self, id: usize) {
        let Some(mut socket) = self.sockets[id].take() else { return };
        let _ = self.poll.registry().deregister(&mut socket.stream);
        self.free.push(id);
        if socket.is_vm {
            let was_first = self.vms.front() == Some(&id);
            self.vms.retain(|&vm| vm != id);
            if was_first {
                // What it said last still goes to its clients as far as they take it at once.
                for client in std::mem::take(&mut self.clients) {
                    if let Some(socket) = self.sockets[client].as_mut() {
                        let from = socket.taken.min(self.down.end);
                        let _ = write_once(&mut socket.stream, &self.down.bytes[from..self.down.end]);
                    }
                    self.close(client);
                }
                self.down.start = self.down.end;
            }
        } else {
            self.clients.retain(|&client| client != id);
        }
    }
}

/// A listener with the backlog that servers of fleets ask for.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// One read. Of 32 KiB to 512 KiB this size carried most: a tenth more than 64 KiB at a sixth less processor
/// time, and larger ones no more.
pub(super) const BUFFER: usize = 256 << 10;
const VM_LISTENER: Token = Token(usize::MAX - 1);
const CLIENT_LISTENER: Token = Token(usize::MAX - 2);
const STDIN: Token = Token(usize::MAX - 3);

#[cfg(test)]
mod tests;
