//! The runtime's side of the contract: what passes between the engine and its sockets, checked at every
//! step.

use std::hash::Hasher;
use std::time::Duration;

use vspc_core::concentrator::{
    Address, Closed, Concentrator, Config, ConnId, EventKind, ListenError, ListenerId, Output,
};
use vspc_core::time::Instant;

use super::{Link, World, show};

impl World {
    /// Lets everything happen that can happen now.
    pub(crate) fn settle(&mut self) {
        self.drain();
        for round in 0.. {
            assert!(round < 2_000_000, "the world does not come to rest");
            let mut moved = false;
            let ids: Vec<ConnId> =
                self.links.iter().filter(|(_, link)| link.is_busy()).map(|(&id, _)| id).collect();
            for id in ids {
                moved |= self.pull(id, self.cut) > 0;
                moved |= self.exchange(id, usize::MAX);
                moved |= self.feed(id, self.cut) > 0;
            }
            if !moved {
                break;
            }
        }
        self.check_nobody_is_forgotten();
    }

    /// Settings change.
    pub(crate) fn change(&mut self, config: &Config) {
        self.engine.reconfigure(config, self.now);
        self.engine.check_invariants();
        self.settle();
    }

    /// Time passes; what falls due happens on time.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= until) {
            self.now = at.max(self.now);
            self.fire();
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// Lets what is due now happen.
    pub(crate) fn fire(&mut self) {
        self.engine.handle_timeout(self.now);
        assert!(self.engine.poll_timeout().is_none_or(|at| at > self.now), "a timer is left that is due");
        self.drain();
    }

    /// The engine's socket takes up to `max` bytes.
    pub(crate) fn pull(&mut self, id: ConnId, max: usize) -> usize {
        let runs = self.runs;
        let Some(link) = self.links.get(&id).filter(|link| link.is_open()) else { return 0 };
        let room = link.capacity.saturating_sub(link.outbound.len()).min(max);
        if !link.ready || room == 0 {
            return 0;
        }
        #[cfg(feature = "tls")]
        if link.tls.is_some() {
            return self.pull_record(id);
        }
        if link.is_local() {
            return self.pull_local(id, room);
        }
        let offered = offered(&mut self.engine, id, self.now, runs);
        let again = self::offered(&mut self.engine, id, self.now, runs);
        assert!(offered == again, "{id} was offered other bytes the second time");
        let taken = offered[..room.min(offered.len())].to_vec();
        if !taken.is_empty() {
            take(&mut self.engine, id, self.now, taken.len());
        }
        let link = self.links.get_mut(&id).expect("it is open");
        link.ready = !offered.is_empty();
        link.outbound.extend(&taken);
        self.trace.write(&taken);
        self.offer = offered;
        self.drain();
        taken.len()
    }

    /// A reader inside the process takes up to `room` bytes.
    fn pull_local(&mut self, id: ConnId, room: usize) -> usize {
        let mut piece = Vec::new();
        let (mut start, mut gap) = (0, 0);
        let at = self.links[&id].at;
        let sent = self.engine.read_local(id, self.now, |chunk| {
            assert!(at.is_none_or(|at| at + chunk.lost == chunk.at), "a byte is unaccounted for");
            assert!(chunk.runs.iter().all(|run| !run.is_empty()), "an empty run was offered");
            piece.extend(chunk.runs.iter().flat_map(|run| run.iter().copied()));
            piece.truncate(room);
            (start, gap) = (chunk.at, chunk.lost);
            piece.len()
        });
        let link = self.links.get_mut(&id).expect("it is open");
        link.ready = !sent.is_idle();
        if !sent.is_idle() {
            link.at = Some(start + piece.len() as u64);
        }
        link.lost += gap;
        link.outbound.extend(&piece);
        self.trace.write(&piece);
        self.drain();
        piece.len()
    }

    /// The peer reads what its socket holds, up to `max` bytes, and answers. Returns whether anything
    /// happened.
    pub(crate) fn exchange(&mut self, id: ConnId, max: usize) -> bool {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.reset) else { return false };
        let n = if link.stalled { 0 } else { link.outbound.len().min(max) };
        let bytes: Vec<u8> = link.outbound.drain(..n).collect();
        link.part.read(&bytes);
        let said = link.part.says();
        let moved = n > 0 || !said.is_empty();
        if !link.fin {
            link.inbound.extend(said);
        }
        moved
    }

    /// The engine reads up to `max` bytes. Returns how many, counting an end as one.
    pub(crate) fn feed(&mut self, id: ConnId, max: usize) -> usize {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_open()) else { return 0 };
        if self.blocked.contains(&id) || (link.inbound.is_empty() && (!link.fin || link.fin_told)) {
            return 0;
        }
        let window = self.engine.receive_window(id);
        if window == 0 {
            assert!(
                !(self.never_waits && link.part.is_vms()),
                "the window of a vm's connection is 0 though nobody may wait"
            );
            let has_ended = link.fin;
            self.blocked.insert(id);
            if has_ended {
                self.engine.handle_ending(id, self.now);
                self.drain();
            }
            return 0;
        }
        #[cfg(feature = "tls")]
        if link.tls.is_some() {
            return self.feed_record(id, max);
        }
        if link.inbound.is_empty() {
            link.fin_told = true;
            self.engine.handle_closed(id, Closed::Input, self.now);
            self.drain();
            return 1;
        }
        let n = link.inbound.len().min(max).min(window);
        let mut data: Vec<u8> = link.inbound.drain(..n).collect();
        self.trace.write(&data);
        self.engine.handle_received(id, &mut data, self.now);
        self.drain();
        n
    }

    /// Does what the engine asks for.
    pub(crate) fn drain(&mut self) {
        let mut outputs = 0;
        let mut gone = Vec::new();
        // In larger worlds the engine's own look, now and then, has to do.
        #[cfg(debug_assertions)]
        if self.ids < CLOSELY_CHECKED {
            self.engine.check_invariants();
        }
        while let Some(output) = self.engine.poll_output() {
            outputs += 1;
            assert!(outputs <= 64 * (self.ids + 4), "{outputs} outputs for {} live ids", self.ids);
            self.trace.write(format!("{output:?}").as_bytes());
            match output {
                Output::Transmit(id) => {
                    let link = self.live(id);
                    assert!(!link.ready, "Transmit({id}) said again before transmit offered nothing");
                    assert!(!link.is_local(), "{id} has no socket");
                    link.ready = true;
                }
                Output::Local(id) => {
                    let link = self.live(id);
                    assert!(!link.ready, "Local({id}) said again before read_local offered nothing");
                    assert!(link.is_local(), "{id} has a socket");
                    link.ready = true;
                }
                Output::Changed(id) => {
                    self.changed.insert(id);
                }
                Output::Host(order) => self.orders.push(order),
                Output::Log(order) => self.log_orders.push(order),
                Output::Inspect(id) => {
                    let link = self.live(id);
                    if let Some(tcp) = link.tcp {
                        self.engine.handle_tcp_state(id, tcp, self.now);
                    }
                }
                Output::Receive(id) => {
                    self.live(id);
                    self.blocked.remove(&id);
                }
                Output::Listen(id, address) => self.listen(id, address),
                Output::Unlisten(id) => {
                    self.ids -= usize::from(self.listening.remove(&id).is_some());
                    assert!(self.dead_listeners.insert(id), "{id} was closed twice");
                }
                Output::Connect(id, target) => {
                    self.ids += 1;
                    self.dialled.push((id, target));
                }
                Output::Close(id, _) if self.dialled.iter().any(|(its, _)| *its == id) => {
                    self.dialled.retain(|(its, _)| *its != id);
                    self.ids -= 1;
                }
                Output::Close(id, how) => {
                    let link = self.live(id);
                    link.closed = Some(how);
                    self.ids -= 1;
                    self.blocked.remove(&id);
                    gone.push(id);
                }
                Output::Event(event) => {
                    if let (
                        EventKind::VmDisconnected(why)
                        | EventKind::ClientDetached(why, _)
                        | EventKind::ClientNotLetIn(why)
                        | EventKind::AdminClosed(why)
                        | EventKind::Left { because: why, .. },
                        Some(id),
                    ) = (&event.kind, event.conn)
                        // Attaches of an operator's connection have no socket.
                        && let Some(link) = self.links.get_mut(&id)
                    {
                        assert!(link.reason.is_none(), "{id} has ended twice: {:?}, {why:?}", link.reason);
                        link.reason = Some(*why);
                    }
                    self.events.push(event);
                }
            }
        }
        for id in gone {
            let link = &self.links[&id];
            assert!(
                // Of witnesses nobody is told.
                self.leaves_out_events || link.is_local() || link.reason.is_some(),
                "{id} was closed without a reason"
            );
        }
        for &id in &self.blocked {
            let link = &self.links[&id];
            if link.is_open() && link.reason.is_none() && !self.shutting_down {
                assert_eq!(self.engine.receive_window(id), 0, "the window of {id} rose and nobody was told");
            }
        }
    }

    fn live(&mut self, id: ConnId) -> &mut Link {
        let link = self.links.get_mut(&id).unwrap_or_else(|| panic!("{id} is not known"));
        assert!(link.is_open(), "{id} is dead and was named");
        link
    }

    fn listen(&mut self, id: ListenerId, address: Address) {
        let bound = match &address {
            Address::Ip(at) if self.foreign_ports.contains(&at.port()) => Err(ListenError::InUse),
            Address::Ip(_) if self.listening.values().any(|open| *open == address) => {
                panic!("{address} is asked for twice")
            }
            _ => Ok(address.clone()),
        };
        if bound.is_ok() {
            self.listening.insert(id, address);
            self.ids += 1;
        }
        self.engine.handle_listening(id, bound, self.now);
    }

    /// Whoever is owed bytes has been told so.
    pub(crate) fn check_nobody_is_forgotten(&mut self) {
        for (&id, link) in &self.links {
            if link.is_open() && !link.ready && !link.is_local() {
                let offered = offered(&mut self.engine, id, self.now, 1);
                assert!(offered.is_empty(), "{id} is owed {:?} and was not told", show(&offered));
            }
        }
    }
}

/// Worlds with fewer connections and listeners are checked whole after every call.
#[cfg(debug_assertions)]
const CLOSELY_CHECKED: usize = 64;

/// What `transmit` offers, or the front of it that `runs` places hold. Nothing of it is taken.
pub(super) fn offered(engine: &mut Concentrator, id: ConnId, now: Instant, runs: usize) -> Vec<u8> {
    let mut offered = Vec::new();
    let sent = engine.transmit(id, now, |all| {
        assert!(all.iter().all(|run| !run.is_empty()), "an empty run was offered");
        offered.extend(all.iter().take(runs).flat_map(|run| run.iter().copied()));
        0
    });
    assert_eq!(
        sent.is_idle(),
        offered.is_empty(),
        "nothing is offered and that is not said, or the other way"
    );
    offered
}

/// The socket takes the first `n` bytes of what it is offered.
pub(super) fn take(engine: &mut Concentrator, id: ConnId, now: Instant, n: usize) {
    let sent = engine.transmit(id, now, |_| n);
    assert_eq!(sent.taken, n, "{id} was offered less than before");
}
