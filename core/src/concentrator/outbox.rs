//! The ready list: what the runtime has to do, in order; then readers inside the process; and after that what
//! it may log. Bytes, a GOAHEAD among them, do not wait for a log of them or for words about them.
//!
//! Knows which ids it has named and not what they stand for: a part that holds nothing but a reader's id can
//! wake it. Bounded: one Transmit or Local and one Receive per connection, one Changed per console, a few
//! events per connection between two drains, and at most one Listen, Unlisten or Close per id.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::time::Instant;

use super::allowance::{Addresses, Allowance, Payer};
use super::event::{Event, EventKind, Severity};
use super::id::{ConnId, ConsoleId};
use super::output::{Output, Shutdown};

/// Everything that [`poll_output`](super::Concentrator::poll_output) has still to say.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    /// The same of readers inside the process. Whoever types sees the echo before a log has it.
    locals: VecDeque<Output>,
    /// How many listeners to close are in there.
    unlistens: usize,
    events: VecDeque<Event>,
    /// By a connection's slot: what it has outstanding here or with the runtime.
    conns: Vec<Outstanding>,
    /// By a console's slot: the generation for which a Changed is in the queue.
    changed: Vec<u32>,
    /// What connections that are nobody yet may still tell.
    strangers: Strangers,
    strangers_suppressed: u32,
    /// What the others may tell, by their address.
    addresses: Addresses,
}

#[derive(Debug)]
struct Strangers(Allowance);

impl Default for Strangers {
    fn default() -> Self {
        Self(Allowance::new(STRANGERS_BURST))
    }
}

/// What one live connection has outstanding.
#[derive(Clone, Copy, Debug, Default)]
struct Outstanding {
    /// 0: the connection in this slot is closed, or there never was one.
    generation: u32,
    suppressed: u16,
    /// The second that these count in, since the start; the low bits of it.
    second: u16,
    events: u8,
    landmarks: u8,
    /// The runtime knows that there are bytes and has not yet found that there are none left.
    bytes: bool,
    /// A Transmit or Local is in the queue.
    told: bool,
    /// A Receive is in the queue.
    receive: bool,
}

impl Outbox {
    /// A connection has come: it has nothing outstanding.
    pub(super) fn open(&mut self, id: ConnId) {
        if self.conns.len() <= id.index() {
            self.conns.resize(id.index() + 1, Outstanding::default());
        }
        self.conns[id.index()] = Outstanding { generation: id.generation, ..Outstanding::default() };
    }

    /// Closes a connection. Its other outputs are dropped; events stay.
    pub(super) fn close(&mut self, id: ConnId, how: Shutdown) {
        if let Some(outstanding) = self.of(id) {
            outstanding.generation = 0;
            self.queue.push_back(Output::Close(id, how));
        }
    }

    /// A connection without a socket has ended: there is nothing to close. Events stay.
    pub(super) fn forget(&mut self, id: ConnId) {
        if let Some(outstanding) = self.of(id) {
            outstanding.generation = 0;
        }
    }

    /// Queues an output that is never repeated.
    pub(super) fn push(&mut self, output: Output) {
        self.unlistens += usize::from(matches!(output, Output::Unlisten(_)));
        self.queue.push_back(output);
    }

    /// Whether the runtime has still to close a listener.
    pub(super) fn has_unlisten(&self) -> bool {
        self.unlistens > 0
    }

    /// Says that a connection has bytes for its socket, unless the runtime knows.
    pub(super) fn transmit(&mut self, id: ConnId) {
        if self.has_bytes(id) {
            self.queue.push_back(Output::Transmit(id));
        }
    }

    /// Says that a reader inside the process has bytes, unless the runtime knows.
    pub(super) fn local(&mut self, id: ConnId) {
        if self.has_bytes(id) {
            self.locals.push_back(Output::Local(id));
        }
    }

    /// Whether that is to be queued: once, whether or not the runtime has found none left before it came to
    /// that.
    fn has_bytes(&mut self, id: ConnId) -> bool {
        self.of(id).is_some_and(|outstanding| {
            !std::mem::replace(&mut outstanding.bytes, true)
                && !std::mem::replace(&mut outstanding.told, true)
        })
    }

    /// The runtime has found that a connection has no bytes left.
    pub(super) fn drained(&mut self, id: ConnId) {
        if let Some(outstanding) = self.of(id) {
            outstanding.bytes = false;
        }
    }

    /// Says that a connection may be read again.
    pub(super) fn receive(&mut self, id: ConnId) {
        if let Some(outstanding) = self.of(id)
            && !std::mem::replace(&mut outstanding.receive, true)
        {
            self.queue.push_back(Output::Receive(id));
        }
    }

    /// Says that a console is not what it was.
    pub(super) fn changed(&mut self, id: ConsoleId) {
        if self.changed.len() <= id.index() {
            self.changed.resize(id.index() + 1, 0);
        }
        if std::mem::replace(&mut self.changed[id.index()], id.generation) != id.generation {
            self.queue.push_back(Output::Changed(id));
        }
    }

    /// Tells an event. One of a connection that has had its share of this second is counted instead, and the
    /// count is told before the next that is not. Landmarks have a share of their own, which noise cannot
    /// spend; a connection's end needs none, but for a nobody's.
    ///
    /// Each connection that comes again brings a new share of its own. So those that are nobody yet have one
    /// allowance together, and what others have to tell is charged to `payer`, unless few would see it.
    /// Returns whether an event was left out for that, be it a connection's end.
    pub(super) fn event(&mut self, event: Event, payer: Option<Payer>, now: Instant) -> bool {
        let is_last = event.kind.is_last();
        let is_loud = event.severity() >= Severity::Info;
        let payer = payer.filter(|_| event.console.is_some() && is_loud);
        let of_conn = event
            .conn
            .and_then(|id| self.conns.get_mut(id.index()).filter(|of| of.generation == id.generation));
        if let Some(outstanding) = of_conn {
            let is_landmark = event.kind.is_landmark();
            let share = outstanding.share(now, is_landmark);
            let most = if is_landmark { LANDMARKS } else { EVENTS };
            if *share >= most && !is_last {
                outstanding.suppressed = outstanding.suppressed.saturating_add(1);
                return false;
            }
            *share = share.saturating_add(1);
            let is_nobodys = event.console.is_none() && !event.is_routine;
            if is_nobodys && !self.strangers.0.take(now) {
                self.strangers_suppressed = self.strangers_suppressed.saturating_add(1);
                return true;
            }
            if payer.is_some_and(|payer| !self.addresses.take(payer, now)) {
                return true;
            }
            let suppressed = std::mem::take(&mut outstanding.suppressed);
            if suppressed > 0 {
                let kind = EventKind::Suppressed(suppressed.into());
                self.events.push_back(Event { kind, ..event.clone() });
            }
        } else if payer.is_some_and(|payer| !self.addresses.take(payer, now)) {
            return true;
        }
        self.events.push_back(event);
        false
    }

    /// How many events of strangers were left out since this was last asked.
    pub(super) fn take_strangers_suppressed(&mut self) -> u32 {
        std::mem::take(&mut self.strangers_suppressed)
    }

    /// How many events were left out of those that addresses are charged for, since this was last asked: by
    /// address, and of the rest together.
    pub(super) fn take_addresses_suppressed(&mut self) -> Vec<(Option<IpAddr>, u32)> {
        self.addresses.take_left_out()
    }

    /// The next thing to do; events come after everything else.
    pub(super) fn pop(&mut self) -> Option<Output> {
        while let Some(output) = self.queue.pop_front().or_else(|| self.locals.pop_front()) {
            match output {
                Output::Transmit(id) | Output::Local(id) => match self.of(id) {
                    Some(outstanding) => {
                        outstanding.told = false;
                        // The runtime has been quicker than this word.
                        if !outstanding.bytes {
                            continue;
                        }
                    }
                    None => continue,
                },
                Output::Unlisten(_) => self.unlistens -= 1,
                Output::Inspect(id) if self.of(id).is_none() => continue,
                Output::Receive(id) => match self.of(id) {
                    Some(outstanding) => outstanding.receive = false,
                    None => continue,
                },
                Output::Changed(id) if self.changed[id.index()] == id.generation => {
                    self.changed[id.index()] = 0;
                }
                _ => {}
            }
            return Some(output);
        }
        let event = self.events.pop_front();
        if event.is_none() {
            self.give_back_room();
        }
        event.map(Output::Event)
    }

    /// A storm's worth of room is given back once it is over.
    fn give_back_room(&mut self) {
        if self.queue.capacity() > KEPT_ROOM {
            self.queue = VecDeque::new();
        }
        if self.locals.capacity() > KEPT_ROOM {
            self.locals = VecDeque::new();
        }
        if self.events.capacity() > KEPT_ROOM {
            self.events = VecDeque::new();
        }
    }

    /// What a connection has outstanding; `None` once it is closed. A late word about a connection never
    /// reaches the one that lives in its slot now.
    fn of(&mut self, id: ConnId) -> Option<&mut Outstanding> {
        self.conns.get_mut(id.index()).filter(|outstanding| outstanding.generation == id.generation)
    }
}

impl Outstanding {
    /// How many events of this sort were told in the present second.
    fn share(&mut self, now: Instant, is_landmark: bool) -> &mut u8 {
        let second = (now.as_micros() / 1_000_000) as u16;
        if std::mem::replace(&mut self.second, second) != second {
            (self.events, self.landmarks) = (0, 0);
        }
        if is_landmark { &mut self.landmarks } else { &mut self.events }
    }
}

/// Events that all connections that are nobody yet may tell at once: two each of a fleet of 9000 that
/// connects at one moment, over TLS, and enough to see what is wrong if something is.
const STRANGERS_BURST: u32 = 20_000;

/// Events of one sort of one connection in one second; further ones are counted and told as one.
const EVENTS: u8 = 10;

/// The same for landmarks. An honest VM makes a handful; a move that is begun and given up again and again,
/// as fast as it goes, fills no disk at this rate, and its log can still be followed.
const LANDMARKS: u8 = 64;

/// Room in a queue that is kept when it is empty: enough for a busy turn.
const KEPT_ROOM: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ConnId = ConnId { index: 0, generation: 1 };
    const NEW: ConnId = ConnId { index: 0, generation: 2 };

    fn event(id: ConnId, kind: EventKind) -> Event {
        Event { kind, conn: Some(id), peer: None, console: None, is_routine: false }
    }

    fn all(outbox: &mut Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop()).map(|output| format!("{output:?}")).collect()
    }

    #[test]
    fn a_connection_is_announced_once_until_it_is_found_drained() {
        let mut outbox = Outbox::default();
        outbox.open(OLD);
        outbox.transmit(OLD);
        outbox.transmit(OLD);
        assert_eq!(all(&mut outbox), ["Transmit(c0.1)"]);
        outbox.transmit(OLD);
        assert!(outbox.pop().is_none());
        outbox.drained(OLD);
        outbox.transmit(OLD);
        assert_eq!(all(&mut outbox), ["Transmit(c0.1)"]);
        outbox.receive(OLD);
        outbox.receive(OLD);
        assert_eq!(all(&mut outbox), ["Receive(c0.1)"]);
        outbox.receive(OLD);
        assert_eq!(all(&mut outbox), ["Receive(c0.1)"]);
    }

    #[test]
    fn what_is_found_drained_before_it_was_told_is_told_once_at_most() {
        let mut outbox = Outbox::default();
        outbox.open(OLD);
        for _ in 0..3 {
            outbox.transmit(OLD);
            outbox.drained(OLD);
        }
        assert!(outbox.pop().is_none());
        for _ in 0..3 {
            outbox.drained(OLD);
            outbox.transmit(OLD);
        }
        assert_eq!(all(&mut outbox), ["Transmit(c0.1)"]);
    }

    #[test]
    fn a_closed_connection_is_not_named_again_and_its_slot_starts_anew() {
        let mut outbox = Outbox::default();
        outbox.open(OLD);
        outbox.transmit(OLD);
        outbox.receive(OLD);
        outbox.close(OLD, Shutdown::Abort);
        outbox.transmit(OLD);
        outbox.open(NEW);
        outbox.receive(OLD);
        outbox.transmit(NEW);
        assert_eq!(all(&mut outbox), ["Close(c0.1, Abort)", "Transmit(c0.2)"]);
    }

    #[test]
    fn readers_inside_the_process_come_after_sockets_and_before_words() {
        let mut outbox = Outbox::default();
        let inside = ConnId { index: 1, generation: 1 };
        outbox.open(OLD);
        outbox.open(inside);
        outbox.event(event(OLD, EventKind::VmIdentified), None, Instant::ZERO);
        outbox.local(inside);
        outbox.transmit(OLD);
        outbox.local(inside);
        let told = all(&mut outbox);
        assert_eq!(told[..2], ["Transmit(c0.1)", "Local(c1.1)"]);
        assert!(told.len() == 3 && told[2].starts_with("Event"), "{told:?}");
    }

    #[test]
    fn changes_of_a_console_coalesce_and_another_in_its_slot_is_told_too() {
        let (old, new) = (ConsoleId { index: 3, generation: 1 }, ConsoleId { index: 3, generation: 2 });
        let mut outbox = Outbox::default();
        outbox.changed(old);
        outbox.changed(old);
        outbox.changed(new);
        outbox.changed(new);
        assert_eq!(all(&mut outbox), ["Changed(k3.1)", "Changed(k3.2)"]);
        outbox.changed(new);
        assert_eq!(all(&mut outbox), ["Changed(k3.2)"]);
    }

    fn kinds(outbox: &mut Outbox) -> Vec<EventKind> {
        std::iter::from_fn(|| outbox.pop())
            .map(|output| match output {
                Output::Event(event) => event.kind,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn events_beyond_a_connections_share_of_a_second_are_counted() {
        let mut outbox = Outbox::default();
        outbox.open(OLD);
        for n in 0..100 {
            outbox.event(event(OLD, EventKind::ReaderSkipped(1)), None, Instant::from_millis(n));
            // Draining in between gives nobody more.
            if n > 50 {
                kinds(&mut outbox);
            }
        }
        assert_eq!(kinds(&mut outbox), []);
        outbox.event(event(OLD, EventKind::ReaderSkipped(2)), None, Instant::from_millis(1000));
        let suppressed = EventKind::Suppressed(100 - u32::from(EVENTS));
        assert_eq!(kinds(&mut outbox), [suppressed, EventKind::ReaderSkipped(2)]);
    }

    #[test]
    fn noise_hides_no_landmark_and_a_connections_end_is_told_with_what_was_not() {
        let mut outbox = Outbox::default();
        outbox.open(OLD);
        for _ in 0..100 {
            outbox.event(event(OLD, EventKind::ReaderSkipped(1)), None, Instant::ZERO);
        }
        kinds(&mut outbox);
        outbox.event(event(OLD, EventKind::VmIdentified), None, Instant::ZERO);
        let suppressed = EventKind::Suppressed(100 - u32::from(EVENTS));
        assert_eq!(kinds(&mut outbox), [suppressed, EventKind::VmIdentified]);
        for _ in 0..100 {
            outbox.event(event(OLD, EventKind::VmIdentified), None, Instant::ZERO);
        }
        kinds(&mut outbox);
        let end = EventKind::VmDisconnected(super::super::CloseReason::PeerClosed);
        outbox.event(event(OLD, end.clone()), None, Instant::ZERO);
        outbox.close(OLD, Shutdown::Graceful);
        let told = std::iter::from_fn(|| outbox.pop()).filter_map(|output| match output {
            Output::Event(event) => Some(event.kind),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [EventKind::Suppressed(101 - u32::from(LANDMARKS)), end]);
    }
}
