//! The small server as a target, in memory.

use std::collections::VecDeque;
use std::time::Duration;

use vspc_conformance::drive::{Arrival, PeerId, Target, Trouble};

use crate::server::{Fault, Server};

/// In memory, under a clock that moves when nobody has anything to say.
pub(crate) struct Small {
    server: Server,
    now: Duration,
    arrivals: VecDeque<Arrival>,
    /// Connections to the admin listener, which it has only to be deaf on it.
    unheard: Vec<PeerId>,
}

impl Small {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            server: Server::new(fault),
            now: Duration::ZERO,
            arrivals: VecDeque::new(),
            unheard: Vec::new(),
        }
    }

    fn gather(&mut self) {
        for (peer, what) in self.server.out.drain(..) {
            if self.unheard.contains(&peer) {
                continue;
            }
            self.arrivals.push_back(match what {
                Some(bytes) => Arrival::Bytes(peer, bytes),
                None => Arrival::Ended(peer),
            });
        }
    }

    fn alive(&self) -> Result<(), Trouble> {
        if self.server.dead { Err(Trouble::Failed("connection refused".to_owned())) } else { Ok(()) }
    }
}

impl Target for Small {
    fn now(&self) -> Duration {
        self.now
    }

    fn connect_vm(&mut self) -> Result<PeerId, Trouble> {
        self.alive()?;
        let id = self.server.connect_vm();
        self.gather();
        Ok(id)
    }

    fn client_port(&mut self, vm: PeerId) -> Result<u16, Trouble> {
        self.alive()?;
        // Consoles are numbered, and so are their ports.
        let console = self.server.console_of(vm).and_then(|console| u16::try_from(console).ok());
        console.ok_or_else(|| Trouble::Failed("this VM has no client port".to_owned()))
    }

    fn connect_client(&mut self, port: u16) -> Result<PeerId, Trouble> {
        self.alive()?;
        let id = self.server.connect_client(usize::from(port));
        self.gather();
        Ok(id)
    }

    fn connect_admin(&mut self) -> Result<PeerId, Trouble> {
        if !self.server.is(Fault::DeafAdmin) {
            return Err(Trouble::NotOffered("it has no admin listener".to_owned()));
        }
        self.gather();
        let id = self.server.connect_vm();
        self.unheard.push(id);
        self.gather();
        Ok(id)
    }

    fn send(&mut self, peer: PeerId, bytes: &[u8]) {
        if self.unheard.contains(&peer) {
            return;
        }
        self.server.receive(peer, bytes);
        self.gather();
    }

    fn close(&mut self, peer: PeerId) {
        self.server.half_closed(peer);
        self.gather();
    }

    fn reset(&mut self, peer: PeerId) {
        self.server.ended(peer);
        self.gather();
    }

    fn pump(&mut self, until: Duration) -> Result<Option<Arrival>, String> {
        if self.arrivals.is_empty() {
            self.now = self.now.max(until);
        }
        Ok(self.arrivals.pop_front())
    }
}
