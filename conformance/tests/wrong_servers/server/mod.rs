//! A small concentrator that shares no code with the project's own: everything in one struct, no timers, no
//! limits, no sockets. Without a [`Fault`] it passes the suite; with one it is wrong in one way, the way in
//! which some server in the field is or was wrong.

mod bytes;
mod consoles;
mod fault;
mod moves;
mod session;
mod telnet;

use std::collections::HashMap;

use vspc_conformance::telnet::{Decoder, Word};

pub(crate) use fault::Fault;

pub(crate) type Id = usize;

#[derive(Default)]
pub(crate) struct Server {
    fault: Option<Fault>,
    conns: Vec<Conn>,
    consoles: Vec<Console>,
    moves: Vec<Move>,
    secrets: u8,
    /// Bytes for peers, and the ends of connections (`None`), in order.
    pub(crate) out: Vec<(Id, Option<Vec<u8>>)>,
    /// It crashed.
    pub(crate) dead: bool,
}

#[derive(Default)]
struct Conn {
    decoder: Decoder,
    client_of: Option<usize>,
    /// The console that this VM feeds.
    console: Option<usize>,
    /// It sent PEER: it joins by COMPLETE or not at all.
    peered: bool,
    /// Its VM has moved away.
    left: bool,
    asked: bool,
    told: bool,
    name: Vec<u8>,
    early: Vec<u8>,
    line: Vec<u8>,
    waiting: Vec<u8>,
    answered: bool,
    cr: bool,
    him: HashMap<u8, On>,
    us: HashMap<u8, On>,
    marks: usize,
    /// It has said something.
    spoke: bool,
    /// A client that is taken for raw (a fault).
    raw: bool,
    /// It listens no more (a fault).
    deaf: bool,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum On {
    #[default]
    No,
    Asked,
    Yes,
}

#[derive(Default)]
struct Console {
    identity: Vec<u8>,
    legs: Vec<Id>,
    clients: Vec<Id>,
    held: Vec<u8>,
    /// Held bytes that nothing will ever send (a fault).
    stuck: bool,
}

struct Move {
    console: usize,
    source: Option<Id>,
    target: Option<Id>,
    sequence: Vec<u8>,
    secret: Vec<u8>,
    done: bool,
}

const VMWARE: u8 = 232;
const AUTH: u8 = 37;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const TM: u8 = 6;

impl Server {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn connect_vm(&mut self) -> Id {
        let id = self.conns.len();
        self.conns.push(Conn::default());
        self.offer(id, &[0, 3, 1], &[0, 3]);
        if !self.is(Fault::WaitsForVm) {
            self.offer(id, &[], &[VMWARE]);
        }
        id
    }

    /// The console that a VM feeds: where its client port leads.
    pub(crate) fn console_of(&self, vm: Id) -> Option<usize> {
        self.conns[vm].console
    }

    /// How many consoles there are; they are never forgotten.
    pub(crate) fn consoles(&self) -> usize {
        self.consoles.len()
    }

    pub(crate) fn connect_client(&mut self, console: usize) -> Id {
        let id = self.conns.len();
        self.conns.push(Conn { client_of: Some(console), ..Conn::default() });
        self.consoles[console].clients.push(id);
        if !self.is(Fault::NoOffersToClients) {
            self.offer(id, &[0, 3, 1], &[0, 3]);
        }
        id
    }

    fn offer(&mut self, id: Id, will: &[u8], r#do: &[u8]) {
        for option in will {
            self.conns[id].us.insert(*option, On::Asked);
            self.say(id, &Word::Negotiation(WILL, *option));
        }
        for option in r#do {
            self.conns[id].him.insert(*option, On::Asked);
            self.say(id, &Word::Negotiation(DO, *option));
        }
    }

    fn say(&mut self, id: Id, word: &Word) {
        let mut wire = Vec::new();
        word.encode(&mut wire);
        let raw_sub = match word {
            Word::Sub(VMWARE, payload) => match payload.first() {
                Some(41 | 43 | 45) if self.is(Fault::SequenceNotDoubled) => Some(payload),
                Some(41) if self.is(Fault::SecretNotDoubled) => Some(payload),
                _ => None,
            },
            _ => None,
        };
        if let Some(payload) = raw_sub {
            wire = [&[255, 250, VMWARE], payload.as_slice(), &[255, 240]].concat();
        }
        self.write(id, wire);
    }

    fn write(&mut self, id: Id, wire: Vec<u8>) {
        if !self.conns[id].closed && !self.dead && !wire.is_empty() {
            self.out.push((id, Some(wire)));
        }
    }

    fn data(&mut self, id: Id, bytes: &[u8]) {
        if self.is(Fault::DataIacNotDoubled) {
            self.write(id, bytes.to_vec());
        } else {
            self.say(id, &Word::Data(bytes.to_vec()));
        }
    }

    fn sub(&mut self, id: Id, code: u8, parameters: &[u8]) {
        self.say(id, &Word::Sub(VMWARE, [&[code], parameters].concat()));
    }

    fn close(&mut self, id: Id) {
        if !self.conns[id].closed {
            self.conns[id].closed = true;
            self.out.push((id, None));
        }
    }

    fn die(&mut self) {
        for id in 0..self.conns.len() {
            self.close(id);
        }
        self.dead = true;
    }

    /// The peer has sent its last byte. A client may still read.
    pub(crate) fn half_closed(&mut self, id: Id) {
        let ends = self.is(Fault::FinEndsOutput) || self.is(Fault::DiesWithStrangers);
        if self.conns[id].client_of.is_none() || ends {
            self.ended(id);
        }
    }

    /// The peer is a VM and has sent its last byte, or the connection was cut.
    pub(crate) fn ended(&mut self, id: Id) {
        let conn = &self.conns[id];
        let stranger = conn.client_of.is_none() && conn.console.is_none();
        if self.is(Fault::DiesWithStrangers) && (stranger || !conn.decoder.unfinished().is_empty()) {
            return self.die();
        }
        if !self.is(Fault::TailLost) {
            let line = std::mem::take(&mut self.conns[id].line);
            self.show(id, &line);
        }
        self.end(id);
    }

    fn end(&mut self, id: Id) {
        for console in &mut self.consoles {
            console.legs.retain(|leg| *leg != id);
            console.clients.retain(|client| *client != id);
        }
        let gone = self.is(Fault::SourceEndEndsMove);
        for moved in &mut self.moves {
            if moved.source == Some(id) {
                moved.source = None;
                moved.done |= gone;
            }
            if moved.target == Some(id) {
                moved.target = None;
            }
        }
        if let (Some(console), true) = (self.conns[id].console, self.is(Fault::ClosesClientsWithVm)) {
            for client in self.consoles[console].clients.clone() {
                self.close(client);
            }
        }
        self.close(id);
    }
}
