//! Those at the other ends: they connect, say what the program wants, take what they are sent, and go.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use vspc_core::concentrator::{Address, Closed, ConnId, ListenError, ListenerId, Peer};
use vspc_core::telnet::{Decoder, Item, escape_into};
use vspc_core::vmware::{Message, VMWARE_TELNET_EXT};

use super::super::Words;
use super::super::agent::Agent;
use super::super::operator::Operator;
use super::super::words::vm_with_agent;
use super::{Kind, Link, PROXY, Runtime};

impl Runtime {
    pub(super) fn accept(&mut self, which: u8, peer: Peer) {
        let open: Vec<(ListenerId, Kind)> = self
            .listeners
            .iter()
            .filter(|(_, (_, is_open))| *is_open)
            .map(|(&id, (address, _))| match address {
                Address::Ip(at) if at.port() == 13370 => (id, Kind::Vm),
                Address::Ip(at) if at.port() == 7001 => (id, Kind::Line),
                Address::Ip(at) if at.port() == 13371 => (id, Kind::Operator),
                _ => (id, Kind::Client),
            })
            .collect();
        let Some(&(on, kind)) = usize::from(which).checked_rem(open.len()).map(|at| &open[at]) else {
            return;
        };
        // The kernel has no more.
        if self.links.len() + open.len() >= self.descriptors {
            return;
        }
        let is_proxy = peer.address.ip() == Some(PROXY.parse().unwrap());
        if let Some(id) = self.engine.handle_accepted(on, peer, self.now) {
            self.insert(id, kind);
            if is_proxy && self.has_proxies {
                let header = HEADERS[usize::from(which >> 4) % HEADERS.len()].iter().copied();
                let link = self.live(id);
                if let Some(operator) = &mut link.operator {
                    operator.betray();
                    link.unread.extend(header);
                } else {
                    link.header.extend(header);
                }
            }
        }
    }

    pub(super) fn insert(&mut self, id: ConnId, kind: Kind) {
        assert!(!self.dead.contains(&id), "{id} was given out twice");
        assert!(self.links.iter().all(|link| link.id != id), "{id} was given out twice");
        let has_agent = self.has_agents && matches!(kind, Kind::Vm | Kind::Line);
        let nonce = 2 * id.index() as u32 + 9;
        self.links.push(Link {
            id,
            kind,
            ready: false,
            ended: false,
            heard: Decoder::new(),
            header: VecDeque::new(),
            agent: has_agent.then(|| Agent::new(nonce, self.now)),
            operator: (kind == Kind::Operator).then(|| Box::new(Operator::new(nonce, self.now))),
            unread: VecDeque::new(),
        });
    }

    pub(super) fn listened(&mut self, which: u8, outcome: Result<(), ListenError>) {
        let asked: Vec<ListenerId> =
            self.listeners.iter().filter(|(_, (_, is_open))| !is_open).map(|(&id, _)| id).collect();
        let Some(at) = usize::from(which).checked_rem(asked.len()) else { return };
        let id = asked[at];
        let entry = self.listeners.get_mut(&id).expect("it was asked for");
        match outcome {
            Ok(()) => {
                entry.1 = true;
                let address = entry.0.clone();
                self.engine.handle_listening(id, Ok(address), self.now);
            }
            Err(why) => {
                self.listeners.remove(&id);
                self.failed_listeners.insert(id);
                self.engine.handle_listening(id, Err(why), self.now);
            }
        }
    }

    pub(super) fn receive(&mut self, which: u8, words: &Words) {
        let Some(at) = self.nth(which) else { return };
        let link = &mut self.links[at];
        if link.ended {
            return;
        }
        if let (Some(agent), &Words::Of(word, arg)) = (&mut link.agent, words)
            && word & 1 != 0
        {
            agent.act(word >> 2, arg, self.now);
            let id = link.id;
            return if word & 2 == 0 { self.bring(at, arg.into()) } else { self.converse(id) };
        }
        if let (Some(operator), &Words::Of(word, arg)) = (&mut link.operator, words)
            && word & 1 != 0
        {
            self.was_typed = true;
            operator.act(word >> 2, arg);
            let id = link.id;
            return if word & 2 == 0 { self.bring(at, arg.into()) } else { self.converse(id) };
        }
        if let Some(operator) = &mut link.operator {
            operator.betray();
        }
        match (&mut link.agent, link.kind) {
            // That is nothing of its session's.
            (Some(agent), _) => agent.is_faithful = false,
            (None, Kind::Client | Kind::Operator | Kind::Local) => self.was_typed = true,
            _ => {}
        }
        let mut data: Vec<u8> = link.header.iter().copied().collect();
        let said = words.wire(link.kind, &self.secrets, self.has_agents);
        if link.agent.is_some() && said.windows(6).any(|some| some == b"=s2+sl") {
            link.agent = Some(Agent::over_sl(2 * link.id.index() as u32 + 9, self.now));
        }
        data.extend(said);
        data.truncate(self.engine.receive_window(link.id));
        link.header.drain(..data.len().min(link.header.len()));
        if !data.is_empty() {
            self.engine.handle_received(link.id, &mut data, self.now);
        }
    }

    /// A line brings what its agent or operator has said, and so many bytes less than all of it, if it has so
    /// many.
    fn bring(&mut self, at: usize, less: usize) {
        let link = &mut self.links[at];
        let mut said = Vec::new();
        match (&mut link.agent, &mut link.operator) {
            (Some(agent), _) if link.kind == Kind::Line => said = agent.says(self.now),
            (Some(agent), _) => escape_into(&agent.says(self.now), &mut said),
            (None, Some(operator)) => said = operator.says(self.now),
            (None, None) => return,
        }
        link.unread.extend(said);
        let most = link.unread.len().saturating_sub(less).min(self.engine.receive_window(link.id));
        let mut data: Vec<u8> = link.unread.drain(..most).collect();
        if !data.is_empty() && link.header.is_empty() {
            self.engine.handle_received(link.id, &mut data, self.now);
        }
    }

    /// A line carries what there is, both ways, until that is all or much.
    pub(super) fn converse(&mut self, id: ConnId) {
        for _ in 0..16 {
            self.check();
            self.poll(usize::MAX);
            let Some(at) = self.links.iter().position(|link| link.id == id && !link.ended) else { return };
            let offered = self.take(at, usize::MAX);
            self.bring(at, 0);
            if offered == 0 && self.links[at].unread.is_empty() && !self.links[at].ready {
                return;
            }
        }
    }

    /// More VMs with agents than are kept awake come one after the other. Where descriptors are short the
    /// first of those that are there go.
    pub(super) fn crowd(&mut self) {
        if !self.has_agents {
            return;
        }
        for n in 0..CROWD {
            let on = self.listeners.iter().find(|(_, (address, is_open))| {
                *is_open && matches!(address, Address::Ip(at) if at.port() == 13370)
            });
            let Some(on) = on.map(|(&id, _)| id) else { return };
            if self.links.len() + self.listeners.len() >= self.descriptors {
                let Some(link) = self.links.iter_mut().find(|link| link.kind == Kind::Vm) else { return };
                link.ended = true;
                let id = link.id;
                self.engine.handle_closed(id, Closed::Failed(ErrorKind::ConnectionReset), self.now);
                self.poll(usize::MAX);
            }
            let peer = Peer::new(Address::Ip(([192, 0, 2, 1], 1024).into()));
            let Some(id) = self.engine.handle_accepted(on, peer, self.now) else { continue };
            self.insert(id, Kind::Vm);
            self.engine.handle_received(id, &mut vm_with_agent(0x40 + n, "s2"), self.now);
            self.converse(id);
            self.check();
            self.poll(usize::MAX);
            self.now = self.now + Duration::from_millis(10);
            self.time_out();
        }
    }

    pub(super) fn closed(&mut self, which: u8, how: Closed) {
        let Some(at) = self.nth(which) else { return };
        let link = &mut self.links[at];
        if how != Closed::Input || !link.ended {
            link.ended = true;
            self.engine.handle_closed(link.id, how, self.now);
        }
    }

    /// Its socket takes up to `most` bytes of what it is offered. Returns how many were offered.
    pub(super) fn take(&mut self, at: usize, most: usize) -> usize {
        let link = &mut self.links[at];
        let mut bytes = Vec::new();
        let (id, now) = (link.id, self.now);
        let sent = if link.kind == Kind::Local {
            self.engine.read_local(id, now, |chunk| {
                assert!(
                    chunk.runs.iter().all(|run| !run.is_empty()) && (chunk.lost > 0 || !chunk.is_empty())
                );
                most
            })
        } else {
            self.engine.transmit(id, now, |runs| {
                assert!(
                    !runs.is_empty() && runs.iter().all(|run| !run.is_empty()),
                    "an empty run was offered"
                );
                bytes = runs.iter().flat_map(|run| run.iter().copied()).collect();
                most
            })
        };
        assert!(sent.taken <= sent.offered && (link.kind == Kind::Local || sent.offered == bytes.len()));
        bytes.truncate(sent.taken);
        if sent.is_idle() {
            link.ready = false;
        }
        match link.kind {
            Kind::Vm => hear(&mut link.heard, &bytes, &mut self.secrets, |typed| {
                if let Some(agent) = &mut link.agent {
                    agent.receive(typed, now);
                }
            }),
            Kind::Line => {
                if let Some(agent) = &mut link.agent {
                    agent.receive(&bytes, now);
                    if agent.is_faithful && !self.was_typed {
                        assert_eq!(agent.fault, None, "{id}: a guest was sent what is no frame");
                    }
                }
            }
            Kind::Operator => {
                if let Some(operator) = &mut link.operator {
                    operator.receive(&bytes, now);
                    operator.check_frames();
                }
            }
            Kind::Client | Kind::Local => {}
        }
        if link.agent.as_ref().is_some_and(|agent| agent.was_typed_at) {
            self.happened.insert("a stream was typed at".to_owned());
        }
        sent.offered
    }
}

/// What goes to a VM is whole telnet; GOAHEADs are remembered, and what is typed is told.
fn hear(decoder: &mut Decoder, mut bytes: &[u8], secrets: &mut Vec<Vec<u8>>, mut typed: impl FnMut(&[u8])) {
    while let Some(item) = decoder.decode(&mut bytes) {
        match item {
            Item::Data(data) => typed(data),
            Item::Malformed(fault) => panic!("{fault} was sent to a VM"),
            Item::Subnegotiation(VMWARE_TELNET_EXT, body) => {
                let message = Message::parse(body).expect("a whole message");
                if let Message::VmotionGoahead { sequence_and_secret } = message {
                    secrets.push(sequence_and_secret.to_vec());
                }
            }
            _ => {}
        }
    }
}

/// What it says: an address that others have too, its own, nothing that counts, and nothing.
const HEADERS: [&[u8]; 5] = [
    b"PROXY TCP4 192.0.2.1 10.0.0.1 1024 13370\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x02\x0a\0\0\x01\x04\0\x34\x3a",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    b"PROXY TCP4 nobody\r\n",
    b"",
];

/// More guests than the engine keeps awake.
const CROWD: u8 = 80;
