//! A small concentrator, which does what a test says when the test says it.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};
use vspc_core::vmware::{Message, ProxyEvent, ProxySession, Said, Uuid};

use crate::ground::{patient, reset};

/// Where VMs connect.
pub(crate) struct Concentrator {
    listener: Option<TcpListener>,
    pub(crate) at: SocketAddr,
}

/// A VM's connection.
pub(crate) struct Vm {
    pub(crate) stream: TcpStream,
    session: ProxySession,
    /// What it printed and nobody has asked for yet.
    printed: Vec<u8>,
    /// All that came, as it came.
    wire: Vec<u8>,
    pub(crate) name: String,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) uri: String,
    /// What it said of moves and nobody has asked for yet.
    moves: VecDeque<Said>,
}

impl Concentrator {
    pub(crate) fn new() -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { at: listener.local_addr().unwrap(), listener: Some(listener) }
    }

    /// Nobody is served any more who has not been accepted.
    pub(crate) fn leave(&mut self) {
        self.listener = None;
    }

    pub(crate) fn come_back(&mut self) {
        self.listener = Some(listen(self.at));
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("tcp://{}", self.at)
    }

    /// The next connection, as it comes.
    pub(crate) fn accept(&self) -> Vm {
        let stream = patient(self.listener.as_ref().unwrap().accept().unwrap().0);
        let (name, uri) = (String::new(), String::new());
        let session = ProxySession::new();
        Vm {
            stream,
            session,
            printed: Vec::new(),
            wire: Vec::new(),
            name,
            uuid: None,
            uri,
            moves: VecDeque::new(),
        }
    }

    /// The next VM, which has said all and is served.
    pub(crate) fn vm(&self) -> Vm {
        let mut vm = self.accept();
        while vm.uuid.is_none() || vm.name.is_empty() {
            vm.hear();
        }
        vm
    }
}

impl Vm {
    /// Reads once and answers. Returns whether the connection goes on.
    fn hear(&mut self) -> bool {
        self.flush();
        let mut buffer = [0; 4096];
        let n = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(error) => panic!("{error}"),
        };
        self.wire.extend_from_slice(&buffer[..n]);
        self.session.handle_received(&buffer[..n], &mut self.printed);
        while let Some(event) = self.session.poll_event() {
            let ProxyEvent::Said(said) = event else { continue };
            match said {
                Said::Proxy { uri, .. } => {
                    self.uri = String::from_utf8_lossy(&uri).into_owned();
                    let answer = if self.uri == "refused" { Message::WontProxy } else { Message::WillProxy };
                    self.session.put(&answer);
                    self.session.put(&Message::GetVmVcUuid);
                    self.session.put(&Message::GetVmName);
                }
                Said::Name(name) => self.name = String::from_utf8_lossy(&name).into_owned(),
                Said::Uuid(uuid) => self.uuid = Some(uuid),
                of_move => self.moves.push_back(of_move),
            }
        }
        self.flush();
        true
    }

    /// What it says of a move next.
    pub(crate) fn of_move(&mut self) -> Said {
        loop {
            if let Some(said) = self.moves.pop_front() {
                return said;
            }
            assert!(self.hear(), "it ends and says nothing of a move");
        }
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, message: &Message<'_>) {
        self.session.put(message);
        self.flush();
    }

    fn flush(&mut self) {
        // Where it is gone a read tells.
        let _ = self.stream.write_all(self.session.pending());
        self.session.transmit(<[u8]>::len);
    }

    /// Types.
    pub(crate) fn type_in(&mut self, bytes: &[u8]) {
        let mut wire = Vec::new();
        for byte in bytes {
            wire.push(*byte);
            if *byte == 255 {
                wire.push(255);
            }
        }
        self.stream.write_all(&wire).unwrap();
    }

    /// So many bytes that it prints.
    pub(crate) fn printed(&mut self, length: usize) -> Vec<u8> {
        while self.printed.len() < length {
            assert!(self.hear(), "it ends after {:?}", String::from_utf8_lossy(&self.printed));
        }
        self.printed.drain(..length).collect()
    }

    pub(crate) fn expect(&mut self, bytes: &[u8]) {
        let printed = self.printed(bytes.len());
        assert_eq!(String::from_utf8_lossy(&printed), String::from_utf8_lossy(bytes));
    }

    /// It ends, and has printed nothing more.
    pub(crate) fn expect_end(&mut self) {
        while self.hear() {}
        assert!(self.printed.is_empty(), "{:?}", String::from_utf8_lossy(&self.printed));
    }

    /// It closes, whatever it has not read.
    pub(crate) fn expect_refusal(&mut self) {
        while self.uri.is_empty() {
            assert!(self.hear(), "it closes by itself");
        }
        while self.stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    }

    /// How much this machine has of what it has printed in all, without telling that anybody reads.
    pub(crate) fn arrived(&self) -> usize {
        let mut peeked = vec![0; 8 << 20];
        let n = self.stream.peek(&mut peeked).unwrap();
        let mut printed = Vec::new();
        let wire = [&self.wire, &peeked[..n]].concat();
        ProxySession::new().handle_received(&wire, &mut printed);
        printed.len()
    }

    /// Whether nothing more fits: the other end's system knows, and asks now and then whether that has
    /// changed (its timer, the `tr` of `/proc/net/tcp`, is the one that probes a closed window).
    pub(crate) fn is_full(&self) -> bool {
        let ends = [self.stream.peer_addr().unwrap(), self.stream.local_addr().unwrap()];
        let ends = ends.map(|end| format!(":{:04X}", end.port()));
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, _, _, timer, ..] = fields[..] else { return false };
            local.ends_with(&ends[0]) && remote.ends_with(&ends[1]) && timer.starts_with("04:")
        })
    }

    /// Ends as a process does that is killed.
    pub(crate) fn reset(self) {
        reset(self.stream);
    }
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}
