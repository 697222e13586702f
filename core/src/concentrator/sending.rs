//! The flow plane, outwards: which bytes each connection's socket is given.
//!
//! Every connection's bytes leave in one order: the second half of a pair whose first half is out, then
//! control, then data. They are laid out without copying, the socket takes what it can, and what it took is
//! noted, all in one call, in which a connection and its console are found once. Under TLS what is for the
//! peer is sealed one record ahead of the socket, and what is sealed counts as taken: nothing can change it
//! any more.

use std::io::IoSlice;

use crate::time::Instant;
use crate::transport::{RUNS, Tls, TlsFailure};

use super::Concentrator;
use super::admission::Admission;
use super::conn::{Closing, Conn, Role, Transport, Wire};
use super::console::READ_MAX;
use super::consoles::Consoles;
use super::control::Control;
use super::effects::Effects;
use super::event::EventKind;
use super::feeding::{offer, offer_port, offer_raw_line, offer_vm};
use super::id::ConnId;
use super::journal::SEGMENT;
use super::output::{Chunk, Sent};
use super::remote_ports::RemotePorts;

impl Concentrator {
    /// Offers a connection's next bytes to its socket, borrowed from where they are kept, for one `writev`:
    /// `take` is called with the runs, at most once, and returns how many bytes the socket took; 0 when it
    /// takes none now. What it took is noted before this returns. When nothing is to be had `take` is not
    /// called, and an [`Output::Transmit`](super::Output::Transmit) tells when there is something again.
    ///
    /// Until `take` takes something it is offered the same bytes, but for those of streams (an operator's, a
    /// guest's on a line without telnet) of which nothing was taken yet: something more urgent may have come.
    /// There may be outputs to poll after this call, as after every other. Over TLS, bytes are sealed here, a
    /// record at a time. Bounded by the length of the gather list and 64 KiB of copying.
    pub fn transmit(&mut self, id: ConnId, now: Instant, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        self.fx.now = now;
        let Self { conns, consoles, remote_ports, admission, scratch, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return Sent::default() };
        let sent = if conn.is_of_console() {
            let kept = Kept { consoles, remote_ports, scratch };
            let mut broken = None;
            let (sent, due) = match &conn.transport {
                // Nearly all that there is.
                Transport::Plain | Transport::Stream(_) => {
                    offer_of_console::<PLAIN_RUNS>(id, conn, kept, fx, take)
                }
                Transport::Upgradable(_) | Transport::Tls(_) => {
                    offer_wrapped(id, conn, kept, &mut broken, fx, take)
                }
            };
            let follows = follow_sent(id, conn, sent, admission, fx);
            self.do_due(id, &due);
            self.do_following(id, follows);
            if let Some(failure) = broken {
                self.fail_tls(id, failure);
            }
            sent
        } else {
            self.offer_to_others(id, take)
        };
        if sent.is_idle() {
            self.fx.outbox.drained(id);
        }
        self.settle();
        sent
    }

    fn do_following(&mut self, id: ConnId, follows: Following) {
        match follows {
            Following::Nothing => {}
            Following::MayBeClosed => self.consider_closed(id),
            Following::MayBeAnswered => self.consider_answered(id),
        }
    }

    /// What an offer to a connection with part in a console has left to be done.
    fn do_due(&mut self, id: ConnId, due: &Due) {
        if due.is_control_taken {
            self.note_control_taken(id);
        }
        if due.has_room_again {
            self.catch_up_on_modem(id);
        }
        if let Some(missed) = due.missed {
            self.emit(id, EventKind::ReaderSkipped(missed));
        }
    }

    /// Offers to those who have part in a console by others, or in none.
    fn offer_to_others(&mut self, id: ConnId, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        let Some(conn) = self.conns.get_mut(id) else { return Sent::default() };
        let mut sealed = Ok(0);
        let mut sent = Sent::default();
        match &conn.transport {
            Transport::Plain | Transport::Stream(_) => sent = self.offer_own::<PLAIN_RUNS>(id, take),
            Transport::Upgradable(_) | Transport::Tls(_) => {
                if let Some(mut tls) = conn.take_sealer() {
                    let _ = self.offer_own::<RUNS>(id, |runs| seal(&mut tls, runs, &mut sealed));
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.transport = Transport::Tls(tls);
                    }
                }
                if let Some(conn) = self.conns.get_mut(id) {
                    sent = offer_pending(id, conn, &mut self.fx, take);
                }
            }
        }
        if let Some(conn) = self.conns.get_mut(id) {
            let follows = follow_sent(id, conn, sent, &mut self.admission, &mut self.fx);
            self.do_following(id, follows);
        }
        if let Err(failure) = sealed {
            self.fail_tls(id, failure);
        }
        sent
    }

    /// Offers the bytes of such a connection's own.
    fn offer_own<const MOST: usize>(
        &mut self,
        id: ConnId,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> Sent {
        match self.conns.get(id).map(|conn| &conn.role) {
            Some(Role::Asking(asking)) if asking.kit().is_some() => self.offer_kit::<MOST>(id, take),
            Some(Role::Asking(_)) => self.offer_asking(id, take),
            Some(Role::Operator(_)) => self.offer_operator(id, take),
            Some(
                Role::Vm(_)
                | Role::Client(_)
                | Role::Arriving(_)
                | Role::Announced(_)
                | Role::Dialled(_)
                | Role::Local(_)
                | Role::Attach(_),
            )
            | None => Sent::default(),
        }
    }

    /// Offers a reader inside the process its next bytes, borrowed, at most one gather list of them: `take`
    /// is called with a [`Chunk`], at most once, and returns how many guest bytes it has taken. When nothing
    /// is to be had `take` is not called, and an [`Output::Local`](super::Output::Local) tells when there is.
    ///
    /// A gap is told in the chunk behind it, once; such a chunk may hold nothing else, and then counts as one
    /// byte offered and taken.
    pub fn read_local(&mut self, id: ConnId, now: Instant, take: impl FnOnce(Chunk<'_>) -> usize) -> Sent {
        self.fx.now = now;
        let sent = self.offer_local(id, take);
        if sent.is_idle() {
            self.fx.outbox.drained(id);
        }
        if self.conns.get(id).is_some_and(|conn| conn.closing.is_some()) {
            self.consider_closed(id);
        }
        self.settle();
        sent
    }

    fn offer_local(&mut self, id: ConnId, take: impl FnOnce(Chunk<'_>) -> usize) -> Sent {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing != Some(Closing::Farewell)) else {
            return Sent::default();
        };
        let Role::Local(local) = &conn.role else { return Sent::default() };
        let (at, seat) = (local.console, local.seat);
        let Some(mut reading) = self.consoles.reading(at) else { return Sent::default() };
        reading.catch_up(seat);
        let fanout = reading.console.fanout();
        let mut runs = [IoSlice::new(&[]); PLAIN_RUNS];
        let (count, layout) = fanout.offer(seat, &[], &mut self.scratch, &mut runs);
        let (position, lost) = fanout.position(seat);
        let offered: usize = runs[..count].iter().map(|run| run.len()).sum();
        if offered == 0 && lost == 0 {
            return Sent::default();
        }
        let taken = take(Chunk { at: position, lost, runs: &runs[..count] }).min(offered);
        let gap = usize::from(offered == 0);
        // One that takes nothing is offered the same again.
        if taken + gap > 0 {
            reading.console.fanout_mut().told_of_gap(seat);
        }
        reading.took(seat, layout, taken, &mut self.fx);
        Sent { offered: offered + gap, taken: taken + gap }
    }
}

/// What an offer to a connection has left to be done by the engine.
#[derive(Default)]
struct Due {
    /// A VM's socket took control.
    is_control_taken: bool,
    /// A client that was not told of its modem's lines for want of room has room again.
    has_room_again: bool,
    /// A client was overtaken, and has missed so much.
    missed: Option<u64>,
}

/// What follows from what a socket took, for the engine.
#[derive(Clone, Copy)]
enum Following {
    Nothing,
    MayBeClosed,
    MayBeAnswered,
}

/// Notes with a connection what its socket took or did not take.
fn follow_sent(
    id: ConnId,
    conn: &mut Conn,
    sent: Sent,
    admission: &mut Admission,
    fx: &mut Effects,
) -> Following {
    if sent.taken > 0 && conn.is_nobody() && conn.has_been_told_all() {
        admission.greeted(id, fx.now);
    }
    match (&conn.closing, &conn.role) {
        (Some(_), _) if sent.taken > 0 => return Following::MayBeClosed,
        (None, Role::Asking(_)) if sent.taken > 0 => return Following::MayBeAnswered,
        (None, Role::Client(_)) => conn.note_half_closed(id, sent, fx),
        _ => {}
    }
    Following::Nothing
}

/// What the engine keeps of consoles, as far as what a connection is offered lies in it.
struct Kept<'e> {
    consoles: &'e mut Consoles,
    remote_ports: &'e mut RemotePorts,
    scratch: &'e mut Vec<u8>,
}

/// Offers to a VM or a client.
fn offer_of_console<const MOST: usize>(
    id: ConnId,
    conn: &mut Conn,
    Kept { consoles, remote_ports, scratch }: Kept<'_>,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> (Sent, Due) {
    let Some(wire) = conn.vm().map(|vm| vm.wire) else {
        return offer_client::<MOST>(id, conn, consoles, scratch, fx, take);
    };
    if wire == Wire::Raw {
        return (offer_raw_line(id, conn, consoles, scratch, fx, take), Due::default());
    }
    if wire == Wire::Port
        && let Some(port) = remote_ports.get_mut(id)
    {
        return (offer_port(id, conn, consoles, port, fx, take), Due::default());
    }
    let (sent, is_control_taken) = offer_vm(id, conn, consoles, fx, take);
    (sent, Due { is_control_taken, ..Due::default() })
}

/// The same through TLS, or through what may become that: seals the next of its bytes, if its socket has
/// taken all that was sealed before. `broken`: why that cannot be done any more.
fn offer_wrapped(
    id: ConnId,
    conn: &mut Conn,
    kept: Kept<'_>,
    broken: &mut Option<TlsFailure>,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> (Sent, Due) {
    let mut due = Due::default();
    if let Some(mut tls) = conn.take_sealer() {
        let mut sealed = Ok(0);
        due = offer_of_console::<RUNS>(id, conn, kept, fx, |runs| seal(&mut tls, runs, &mut sealed)).1;
        conn.transport = Transport::Tls(tls);
        *broken = sealed.err();
    }
    (offer_pending(id, conn, fx, take), due)
}

/// Seals what a connection is offered. Returns how much of it that was.
fn seal(tls: &mut Tls, runs: &[IoSlice<'_>], sealed: &mut Result<usize, TlsFailure>) -> usize {
    *sealed = tls.seal(runs);
    *sealed.as_ref().unwrap_or(&0)
}

/// Offers what TLS or an upgrade have made.
fn offer_pending(
    id: ConnId,
    conn: &mut Conn,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> Sent {
    let pending = conn.transport.pending().unwrap_or_default();
    let offered = pending.len();
    if offered == 0 {
        return Sent::default();
    }
    let taken = take(&[IoSlice::new(pending)]).min(offered);
    match &mut conn.transport {
        Transport::Plain | Transport::Stream(_) => {}
        Transport::Upgradable(upgrade) => {
            upgrade.took(taken);
            conn.end_upgrade(id, fx);
        }
        Transport::Tls(tls) => tls.took(taken),
    }
    Sent { offered, taken }
}

impl Conn {
    /// Its TLS, to seal its next bytes with, if that is up and has nothing for the socket. To be given back.
    fn take_sealer(&mut self) -> Option<Box<Tls>> {
        match &self.transport {
            Transport::Tls(tls) if tls.is_up() && tls.pending().is_empty() => {}
            Transport::Plain | Transport::Upgradable(_) | Transport::Tls(_) | Transport::Stream(_) => {
                return None;
            }
        }
        match std::mem::take(&mut self.transport) {
            Transport::Tls(tls) => Some(tls),
            Transport::Plain | Transport::Upgradable(_) | Transport::Stream(_) => None,
        }
    }
}

/// Offers to a client: control, and what it is shown of its console.
fn offer_client<const MOST: usize>(
    id: ConnId,
    conn: &mut Conn,
    consoles: &mut Consoles,
    scratch: &mut Vec<u8>,
    fx: &mut Effects,
    take: impl FnOnce(&[IoSlice<'_>]) -> usize,
) -> (Sent, Due) {
    let Conn { role: Role::Client(client), control, closing, .. } = conn else {
        return (Sent::default(), Due::default());
    };
    if closing.is_none() && client.is_suspended() {
        return (Sent::default(), Due::default());
    }
    let was_over_limit = control.is_over_limit();
    // A farewell may outlive the console it is about.
    let is_shown = *closing != Some(Closing::Farewell);
    let mut reading = consoles.reading(client.console).filter(|_| is_shown);
    let missed = reading.as_mut().and_then(|reading| reading.catch_up(client.seat));
    // A raw client is not told in its stream: a line of text there would be corruption.
    if let Some(missed) = missed.filter(|_| !client.mode.is_raw()) {
        let notice = format!("\r\n[vspc: {missed} bytes skipped, this client did not keep up]\r\n");
        control.buffer().extend_from_slice(notice.as_bytes());
    }
    let due = |control: &Control| Due {
        has_room_again: was_over_limit && !control.is_over_limit(),
        missed,
        ..Due::default()
    };
    let Some(mut reading) = reading.filter(|_| !client.is_seeded) else {
        let (sent, taken) = offer([control.pending()], take);
        control.took(taken);
        return (sent, due(control));
    };
    let mut runs = [IoSlice::new(&[]); MOST];
    let (count, layout) = reading.console.fanout().offer(client.seat, control.pending(), scratch, &mut runs);
    let offered = runs[..count].iter().map(|run| run.len()).sum();
    if offered == 0 {
        return (Sent::default(), due(control));
    }
    let taken = take(&runs[..count]).min(offered);
    // The notice of a gap counts.
    let was_full = control.is_over_limit();
    let took = reading.took(client.seat, layout, taken, fx);
    control.took(took.front);
    client.visit.shown += took.data as u64;
    if was_full && !control.is_over_limit() {
        fx.outbox.receive(id);
    }
    (Sent { offered, taken }, due(control))
}

/// Runs handed to one write. What one read of a VM has brought must go in one: it spans one segment more than
/// it fills, before it come half a pair and control, and a second write for the rest costs as much as the
/// first.
const PLAIN_RUNS: usize = READ_MAX / SEGMENT + 4;
