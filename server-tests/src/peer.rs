//! Hosts and clients, made by hand of bytes from vmware.md §2, so that a fault shared with the core cannot
//! hide here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::process::{PATIENCE, Server};

/// One end of a connection to the server: what it sent, with telnet's commands taken out.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    /// Received and not parsed yet.
    raw: Vec<u8>,
    /// Data received and not taken yet.
    data: Vec<u8>,
    /// Subnegotiations received and not taken yet.
    told: Vec<Vec<u8>>,
}

impl Peer {
    pub(super) fn connect(to: SocketAddr) -> Self {
        Self::connected(TcpStream::connect(to).unwrap())
    }

    pub(super) fn connected(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, raw: Vec::new(), data: Vec::new(), told: Vec::new() }
    }

    /// A VM that has told all about itself and been accepted, and its client port.
    pub(super) fn vm(server: &Server, number: u8) -> (Self, SocketAddr) {
        let vm = Self::vm_without_port(server, number);
        (vm, server.next_client_port())
    }

    /// Such a VM, and a telnet client at its console, both known to the server.
    pub(super) fn vm_and_client(server: &Server, number: u8) -> (Self, Self) {
        let (vm, port) = Self::vm(server, number);
        let client = Self::client(port);
        server.line_with("client attached");
        (vm, client)
    }

    /// What the VM prints reaches its client, and what that types the VM.
    pub(super) fn talk(vm: &mut Self, client: &mut Self) {
        vm.print(b"login: ");
        client.expect(b"login: ");
        client.print(b"root\r");
        vm.expect(b"root\r");
    }

    /// So many megabytes arrive whole at each of the two from the other, both ways at once: every byte value,
    /// doubled pairs included, at ever new places in segments and records.
    pub(super) fn exchange_megabytes(vm: Self, client: Self, count: u32) {
        let bytes: Vec<u8> =
            (0..count << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | (n >> 20) as u8).collect();
        let mut ends = Vec::new();
        for mut peer in [vm, client] {
            let (bytes, mut sender) = (bytes.clone(), Self::connected(peer.stream.try_clone().unwrap()));
            let sent = bytes.clone();
            ends.push(thread::spawn(move || sender.print(&sent)));
            ends.push(thread::spawn(move || peer.expect(&bytes)));
        }
        ends.into_iter().for_each(|end| end.join().unwrap());
    }

    pub(super) fn vm_without_port(server: &Server, number: u8) -> Self {
        Self::connect(server.vms).introduced(number)
    }

    /// Tells all about itself as a VM, and waits until it is accepted.
    pub(super) fn introduced(mut self, number: u8) -> Self {
        self.introduce(number);
        self.hear(71);
        self
    }

    /// Tells all about itself as a VM.
    pub(super) fn introduce(&mut self, number: u8) {
        self.send(&introduction(number));
    }

    /// The same for one that asks to be connected to this, and is let.
    pub(super) fn introduced_for(mut self, number: u8, uri: &str) -> Self {
        self.introduce_for(number, uri);
        self.hear(71);
        self
    }

    /// The same for one that asks to be connected to this.
    pub(super) fn introduce_for(&mut self, number: u8, uri: &str) {
        self.send(&introduction_with(number, &format!("C{uri}")));
    }

    /// A VM that is not turned away, or that dials again until it is not, as hosts do.
    pub(super) fn persistent_vm(server: &Server, number: u8) -> (Self, SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut vm = Self::connect(server.vms);
            if vm.stream.write_all(&introduction(number)).is_ok() && vm.hears(71) {
                return (vm, server.next_client_port());
            }
        }
        panic!("vm{number} is never let in");
    }

    /// A telnet client: it answers the server's offers, and that makes it one.
    pub(super) fn client(to: SocketAddr) -> Self {
        Self::connect(to).answering()
    }

    /// A telnet client that dials again until it is let in: everybody who is gets offers.
    pub(super) fn persistent_client(to: SocketAddr) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let client = Self::connect(to);
            if client.stream.peek(&mut [0]).is_ok_and(|n| n > 0) {
                return client.answering();
            }
        }
        panic!("nobody is let in at {to}");
    }

    pub(super) fn answering(mut self) -> Self {
        self.send(&[IAC, DO, 1, IAC, DO, 3, IAC, DO, 0, IAC, WILL, 3, IAC, WILL, 0]);
        self
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Says the name of a VM, as its host does when it is asked.
    pub(super) fn say_name(&mut self, number: u8) {
        self.send(&name(number));
    }

    /// Sends data, doubling what has to be doubled.
    pub(super) fn print(&mut self, data: &[u8]) {
        self.send(&doubled(data));
    }

    /// Sends a message of the VMware extension.
    pub(super) fn tell(&mut self, words: &[u8]) {
        self.send(&message(&doubled(words)));
    }

    /// Waits for a subnegotiation with this code.
    pub(super) fn hear(&mut self, code: u8) -> Vec<u8> {
        loop {
            if let Some(at) = self.told.iter().position(|told| told.starts_with(&[EXT, code])) {
                return self.told.remove(at);
            }
            assert!(self.read() > 0, "the end, and no code {code}");
        }
    }

    /// Waits for what a serial port says with this code (RFC 2217).
    pub(super) fn hear_port(&mut self, code: u8) -> Vec<u8> {
        loop {
            if let Some(at) = self.told.iter().position(|told| told.starts_with(&[COM_PORT, code])) {
                return self.told.remove(at).split_off(2);
            }
            assert!(self.read() > 0, "the end, and no code {code}");
        }
    }

    /// Waits for a subnegotiation with this code; false if the connection ends before.
    fn hears(&mut self, code: u8) -> bool {
        let mut bytes = [0; 4096];
        loop {
            if self.told.iter().any(|told| told.starts_with(&[EXT, code])) {
                return true;
            }
            match self.stream.read(&mut bytes) {
                Ok(n @ 1..) => self.raw.extend_from_slice(&bytes[..n]),
                Ok(_) | Err(_) => return false,
            }
            self.parse();
        }
    }

    /// Waits for exactly these bytes, next.
    pub(super) fn expect(&mut self, bytes: &[u8]) {
        while self.data.len() < bytes.len() {
            assert!(self.read() > 0, "the end after {} of {} bytes", self.data.len(), bytes.len());
        }
        let rest = self.data.split_off(bytes.len());
        assert!(self.data == bytes, "{:?} instead of {:?}", text(&self.data), text(bytes));
        self.data = rest;
    }

    /// Waits until these bytes have come, whatever came before, and returns that.
    pub(super) fn expect_somewhere(&mut self, bytes: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.data.windows(bytes.len()).position(|window| window == bytes) {
                let rest = self.data.split_off(at + bytes.len());
                let mut before = std::mem::replace(&mut self.data, rest);
                before.truncate(at);
                return before;
            }
            assert!(self.read() > 0, "the end, and no {:?} in {:?}", text(bytes), text(&self.data));
        }
    }

    /// Data that has come, or comes within a moment.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        self.stream.set_read_timeout(Some(MOMENT)).unwrap();
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(n) => self.raw.extend_from_slice(&bytes[..n]),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.parse();
        (!self.data.is_empty()).then(|| std::mem::take(&mut self.data))
    }

    /// Waits for an orderly end and gives what came before it.
    pub(super) fn expect_end(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.data)
    }

    /// True once the connection has ended, in whatever way.
    pub(super) fn is_cut_off(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    pub(super) fn end_input(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The address that the server's log shows.
    pub(super) fn address(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// Ends the connection with a reset, as the kernel of a process that dies with unread input does.
    pub(super) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Sends until every buffer on the way to the far end is full.
    pub(super) fn fill(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        loop {
            match self.stream.write(&[b'x'; 64 << 10]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(&self.stream, PollFlags::OUT)];
                    if poll(&mut room, Some(&QUIET)).unwrap() == 0 {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
    }

    /// Reads once; 0 at the end.
    fn read(&mut self) -> usize {
        let mut bytes = [0; 64 << 10];
        let n = self.stream.read(&mut bytes).unwrap();
        self.raw.extend_from_slice(&bytes[..n]);
        self.parse();
        n
    }

    /// Takes whole items off the front of what was received.
    fn parse(&mut self) {
        let mut at = 0;
        while let Some(&first) = self.raw.get(at) {
            if first != IAC {
                self.data.push(first);
                at += 1;
                continue;
            }
            match self.raw.get(at + 1) {
                Some(&IAC) => self.data.push(IAC),
                Some(&SB) => {
                    let Some((told, len)) = subnegotiation(&self.raw[at + 2..]) else { break };
                    self.told.push(told);
                    at += len;
                }
                Some(WILL..=DONT) if self.raw.len() < at + 3 => break,
                Some(WILL..=DONT) => at += 1,
                Some(_) => {}
                None => break,
            }
            at += 2;
        }
        self.raw.drain(..at);
    }
}

/// All that a VM says about itself.
pub(super) fn introduction(number: u8) -> Vec<u8> {
    introduction_with(number, "Stest")
}

/// The same with this direction and service URI.
fn introduction_with(number: u8, proxy: &str) -> Vec<u8> {
    [
        vec![IAC, WILL, EXT, IAC, DO, 0, IAC, DO, 3, IAC, WILL, 0, IAC, WILL, 3],
        message(&[0, 0, 1, 2, 3, 70, 71, 73, 80, 81, 82, 83]),
        message(format!("\x46{proxy}").as_bytes()),
        message(format!("\x5000 11 22 33 44 55 66 77-88 99 aa bb cc dd ee {number:02x}").as_bytes()),
        name(number),
    ]
    .concat()
}

fn name(number: u8) -> Vec<u8> {
    message(format!("\x52vm{number}").as_bytes())
}

fn doubled(data: &[u8]) -> Vec<u8> {
    data.iter().flat_map(|&byte| std::iter::repeat_n(byte, 1 + usize::from(byte == IAC))).collect()
}

/// A subnegotiation of the VMware extension.
fn message(words: &[u8]) -> Vec<u8> {
    [&[IAC, SB, EXT], words, &[IAC, SE]].concat()
}

/// The words up to IAC SE with pairs undone, and how many bytes that took.
fn subnegotiation(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut words, mut at) = (Vec::new(), 0);
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (IAC, None) => return None,
            (IAC, Some(&SE)) => return Some((words, at + 2)),
            (IAC, Some(_)) => {
                words.push(IAC);
                at += 2;
            }
            (byte, _) => {
                words.push(byte);
                at += 1;
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

/// A socket that has taken nothing for this long takes no more.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };

/// How long [`Peer::take`] waits before it lets its caller look at other things.
const MOMENT: Duration = Duration::from_millis(20);

pub(super) const IAC: u8 = 255;
pub(super) const WONT: u8 = 252;
/// COM-PORT (RFC 2217).
const COM_PORT: u8 = 44;
pub(super) const EXT: u8 = 232;
pub(super) const SE: u8 = 240;
pub(super) const NOP: u8 = 241;
pub(super) const SB: u8 = 250;
pub(super) const WILL: u8 = 251;
pub(super) const DO: u8 = 253;
const DONT: u8 = 254;
