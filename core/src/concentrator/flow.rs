//! The flow plane: what a connection's socket may bring, and which bytes it is given.
//!
//! Every connection's bytes leave in one order: the second half of a pair whose first half is out, then
//! control, then data. They are laid out without copying, the socket takes what it can, and what it took is
//! noted, all in one call. TLS lies in between: what it opens goes the way of all bytes, what is for the peer
//! is sealed one record ahead of the socket, and what is sealed counts as taken.

use std::io::IoSlice;

use crate::time::Instant;
use crate::transport::{RECORD, RUNS};

use super::Concentrator;
use super::admission::Admission;
use super::conn::{Closing, Conn, Place, Role, Transport, Wire};
use super::console::READ_MAX;
use super::consoles::Consoles;
use super::control::Control;
use super::effects::Effects;
use super::event::{CloseReason, EventKind};
use super::feeding::{offer, offer_port, offer_raw_line, offer_vm};
use super::id::ConnId;
use super::journal::SEGMENT;
use super::output::{Chunk, Sent};
use super::remote_ports::RemotePorts;
use super::speech::Mode;
use super::timers::Timer;
use super::tls::{TLS_RECORD, handshake_took};
use super::upgrade::Step;
use super::vm::print_data;

impl Concentrator {
    /// How many bytes may be read from this connection now; 0: do not read, an
    /// [`Output::Receive`](super::Output::Receive) will tell when. Constant cost.
    #[must_use]
    pub fn receive_window(&self, id: ConnId) -> usize {
        let Some(conn) = self.conns.get(id) else { return 0 };
        if conn.closing.is_some() {
            return READ_MAX;
        }
        let window = self.plain_window(id, conn);
        match &conn.transport {
            // What a record holds is not known before it is whole.
            Transport::Tls(tls) if tls.unread.is_empty() && window > 0 => window.max(RECORD),
            Transport::Tls(_) => 0,
            Transport::Plain | Transport::Upgradable(_) | Transport::Stream(_) => window,
        }
    }

    /// How many bytes of its own a connection may send.
    fn plain_window(&self, id: ConnId, conn: &Conn) -> usize {
        match &conn.role {
            Role::Arriving(_) | Role::Dialled(_) => RECORD,
            // What is behind the header is read when it is known whether it may be.
            Role::Announced(announced) if announced.console.is_some() => announced.header.needed(),
            Role::Announced(_) => NOBODYS_READ_MAX,
            Role::Vm(vm) => {
                let is_paused = match vm.place {
                    Place::Console(id) => self.consoles.is_paused(id),
                    _ => false,
                };
                match is_paused {
                    true => 0,
                    false if conn.is_noisy() => NOISY_READ_MAX,
                    false if vm.place.is_unidentified() => NOBODYS_READ_MAX,
                    false => READ_MAX,
                }
            }
            // One that has suspended us is read: it cannot take a byte before we have read that it resumes.
            Role::Client(client) if conn.control.is_over_limit() && !client.is_suspended() => 0,
            Role::Client(client) => {
                let window =
                    self.typing_window(id, client.console, client.epoch, client.mode != Mode::Telnet);
                if conn.is_noisy() { window.min(NOISY_READ_MAX) } else { window }
            }
            Role::Local(local) => self.typing_window(id, local.console, local.epoch, true),
            Role::Attach(attach) => self.typing_window(id, attach.console, attach.epoch, true),
            Role::Asking(_) if conn.control.is_over_limit() => 0,
            Role::Asking(_) => conn.kit().map_or(ASKING_READ_MAX, |kit| self.kit_window(conn, kit)),
            Role::Operator(desk) => desk.receive_window().min(OPERATOR_READ_MAX),
        }
    }

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
        let sent = match conns.get_mut(id) {
            None => Sent::default(),
            // What VMs are sent and clients are shown without TLS: nearly all that there is.
            Some(conn) if conn.is_of_console() && matches!(conn.transport, Transport::Plain) => {
                let (sent, due) =
                    offer_of_console::<PLAIN_RUNS>(id, conn, (consoles, remote_ports), scratch, fx, take);
                let follows = follow_sent(id, conn, sent, admission, fx);
                self.do_due(id, &due);
                self.do_following(id, follows);
                sent
            }
            Some(_) => {
                let sent = self.offer_transport(id, take);
                self.note_sent(id, sent);
                sent
            }
        };
        if sent.is_idle() {
            self.fx.outbox.drained(id);
        }
        self.settle();
        sent
    }

    /// What follows from what a socket took or did not take.
    fn note_sent(&mut self, id: ConnId, sent: Sent) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let follows = follow_sent(id, conn, sent, &mut self.admission, &mut self.fx);
        self.do_following(id, follows);
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

    /// What goes to the socket: the connection's own bytes, or those that TLS or an upgrade have made.
    fn offer_transport(&mut self, id: ConnId, take: impl FnOnce(&[IoSlice<'_>]) -> usize) -> Sent {
        match self.conns.get(id).map(|conn| &conn.transport) {
            None => return Sent::default(),
            Some(Transport::Plain | Transport::Stream(_)) => return self.offer_own::<PLAIN_RUNS>(id, take),
            Some(Transport::Upgradable(_)) => {}
            Some(Transport::Tls(_)) => self.seal(id),
        }
        let Some(conn) = self.conns.get_mut(id) else { return Sent::default() };
        let offered = conn.transport.pending().map_or(0, <[u8]>::len);
        if offered == 0 {
            return Sent::default();
        }
        let taken = take(&[IoSlice::new(conn.transport.pending().unwrap_or_default())]).min(offered);
        match &mut conn.transport {
            Transport::Plain | Transport::Stream(_) => {}
            Transport::Upgradable(upgrade) => {
                upgrade.took(taken);
                conn.end_upgrade(id, &mut self.fx);
            }
            Transport::Tls(tls) => tls.took(taken),
        }
        Sent { offered, taken }
    }

    /// Seals the next of a connection's own bytes, if its socket has taken all that was sealed before. What
    /// is sealed counts as taken: nothing can change it any more.
    fn seal(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match &conn.transport {
            Transport::Tls(tls) if tls.is_up() && tls.pending().is_empty() => {}
            _ => return,
        }
        let mut transport = std::mem::take(&mut conn.transport);
        let mut sealed = Ok(0);
        let _ = self.offer_own::<RUNS>(id, |runs| {
            if let Transport::Tls(tls) = &mut transport {
                sealed = tls.seal(runs);
            }
            *sealed.as_ref().unwrap_or(&0)
        });
        if let Some(conn) = self.conns.get_mut(id) {
            conn.transport = transport;
        }
        if let Err(failure) = sealed {
            self.fail_tls(id, failure);
        }
    }

    /// Offers a connection's own bytes.
    fn offer_own<const MOST: usize>(
        &mut self,
        id: ConnId,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> Sent {
        let Self { conns, consoles, remote_ports, scratch, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return Sent::default() };
        match &conn.role {
            Role::Vm(_) | Role::Client(_) => {
                let of_consoles = (consoles, remote_ports);
                let (sent, due) = offer_of_console::<MOST>(id, conn, of_consoles, scratch, fx, take);
                self.do_due(id, &due);
                sent
            }
            Role::Asking(asking) if asking.kit().is_some() => self.offer_kit::<MOST>(id, take),
            Role::Asking(_) => self.offer_asking(id, take),
            Role::Operator(_) => self.offer_operator(id, take),
            Role::Arriving(_) | Role::Announced(_) | Role::Dialled(_) | Role::Local(_) | Role::Attach(_) => {
                Sent::default()
            }
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

    /// Bytes were read from a connection, no more than its window. One pass over them.
    pub fn handle_received(&mut self, id: ConnId, data: &mut [u8], now: Instant) {
        self.fx.now = now;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.closing.is_some() || data.is_empty() {
            return;
        }
        if matches!(conn.role, Role::Announced(_)) {
            return self.receive_announced(id, data, now);
        }
        let is_first = !std::mem::replace(&mut conn.spoken, true);
        let is_new_vm = is_first && conn.vm().is_some();
        let (was_nobody, is_watched) = (conn.is_nobody(), conn.is_watched);
        // What a VM prints: nearly all that comes.
        let mut printed = 0;
        if !is_first && !is_watched && matches!(conn.transport, Transport::Plain) {
            printed = print_data(id, conn, data, &mut self.consoles, &mut self.fx);
            if printed == data.len() {
                return self.settle();
            }
        }
        let is_tls = conn.transport.is_tls();
        let may_upgrade = matches!(conn.transport, Transport::Upgradable(_));
        if is_new_vm {
            self.emit(id, EventKind::VmConnected);
        }
        if is_watched {
            self.watched_speaks(id);
        }
        match (is_tls, may_upgrade) {
            (true, _) => self.receive_sealed(id, data),
            (false, true) => self.receive_upgradable(id, data),
            (false, false) if printed > 0 => self.receive_of_vm(id, data, printed),
            (false, false) => self.receive_plain(id, data),
        }
        if was_nobody && let Some(conn) = self.conns.get(id) {
            self.admission.heard(id, conn.heard(), now);
        }
        self.settle();
    }

    /// The first bytes of a proxy's connection: its header, then those of whoever it forwards.
    fn receive_announced(&mut self, id: ConnId, data: &mut [u8], now: Instant) {
        let taken = self.receive_header(id, data);
        self.settle();
        if let Some(taken) = taken {
            self.handle_received(id, &mut data[taken..], now);
        }
    }

    /// Bytes of the peer's own, whatever they came through.
    fn receive_plain(&mut self, id: ConnId, data: &[u8]) {
        match self.conns.get(id).map(|conn| &conn.role) {
            Some(Role::Vm(_)) => self.receive_of_vm(id, data, 0),
            Some(Role::Client(_)) => self.receive_client(id, data),
            Some(Role::Local(_)) => self.receive_local(id, data),
            Some(Role::Asking(_)) => {
                if let Some(mut sealed) = self.receive_asking(id, data) {
                    self.receive_sealed(id, &mut sealed);
                }
            }
            Some(Role::Operator(_)) => self.receive_operator(id, data),
            Some(Role::Arriving(_) | Role::Announced(_) | Role::Dialled(_) | Role::Attach(_)) | None => {}
        }
    }

    /// Bytes of a host's, of which so many at their start are printed already.
    fn receive_of_vm(&mut self, id: ConnId, data: &[u8], printed: usize) {
        if let Some(left) = self.receive_vm(id, data, printed) {
            self.receive_sealed(id, &mut data[data.len() - left..].to_vec());
        }
    }

    /// The first bytes of a connection that may still go over to TLS.
    fn receive_upgradable(&mut self, id: ConnId, data: &mut [u8]) {
        let (Some(&first), Some(conn)) = (data.first(), self.conns.get_mut(id)) else { return };
        let step = Step::FirstByte { tls: first == TLS_RECORD };
        let upgraded = self.tls.step(id, conn, step, &mut self.fx);
        self.after_upgrade(id, upgraded);
        match self.conns.get(id).map(|conn| &conn.transport) {
            Some(Transport::Tls(_)) => self.receive_sealed(id, data),
            _ => self.receive_plain(id, data),
        }
    }

    /// Bytes of a TLS peer, as its socket brought them.
    fn receive_sealed(&mut self, id: ConnId, data: &mut [u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Transport::Tls(tls) = &mut conn.transport else { return };
        let mut plain = std::mem::take(&mut self.opened);
        plain.append(&mut tls.unread);
        let was_up = tls.is_up();
        let before = tls.unfinished();
        let mut outcome = tls.open(data, &mut plain);
        if self.unfinished.change(before, tls.unfinished()) && outcome.is_ok() {
            self.unfinished.release(tls.unfinished());
            outcome = Err(tls.give_up());
        }
        if !tls.pending().is_empty() {
            self.fx.outbox.transmit(id);
        }
        // What comes behind the handshake in the same read may be a fault: it was up all the same.
        if !was_up && tls.has_come_up() {
            self.come_up(id);
        }
        self.deliver(id, &plain);
        plain.clear();
        self.opened = plain;
        match outcome {
            Ok(()) => self.consider_end(id),
            Err(failure) => self.fail_tls(id, failure),
        }
    }

    /// The handshake is over.
    fn come_up(&mut self, id: ConnId) {
        if let Some(took) = handshake_took(id, &self.fx) {
            self.fx.histograms.handshake.record(took.as_micros() as u64);
        }
        self.fx.timers.cancel(Timer::Tls(id));
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(vm) = conn.vm_mut().filter(|vm| vm.wire == Wire::Upgrading) {
            vm.wire = Wire::Vmware;
        }
        let Transport::Tls(tls) = &conn.transport else { return };
        let (version, suite) = tls.terms();
        self.emit(id, EventKind::TlsUp { version, suite });
        match self.conns.get(id).map(|conn| &conn.role) {
            Some(&Role::Arriving(console)) => self.enter(id, console),
            Some(Role::Dialled(_)) => self.let_in(id),
            Some(Role::Asking(_)) => self.admin_comes_up(id),
            // What was kept back until now.
            _ => {
                self.line_comes_up(id);
                self.fx.outbox.transmit(id);
            }
        }
    }

    /// Gives a connection's role what TLS has opened; what it may not send yet stays with TLS.
    fn deliver(&mut self, id: ConnId, plain: &[u8]) {
        let mut rest = plain;
        while let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none() && !rest.is_empty()) {
            // A VM's bytes are never refused once they are read.
            let window = match conn.role {
                Role::Vm(_) => rest.len(),
                _ => self.plain_window(id, conn).min(rest.len()),
            };
            if window == 0 {
                break;
            }
            let (now_due, later) = rest.split_at(window);
            self.receive_plain(id, now_due);
            rest = later;
        }
        // A copy: the buffer that it lies in is the engine's, and large.
        if !rest.is_empty()
            && let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())
            && let Transport::Tls(tls) = &mut conn.transport
        {
            tls.unread = rest.to_vec();
        }
    }

    /// A connection's window has risen: what TLS holds comes before what is still in the socket. Returns
    /// whether that may be read.
    pub(super) fn deliver_unread(&mut self, id: ConnId) -> bool {
        self.receive_kit_unread(id);
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let Transport::Tls(tls) = &mut conn.transport else { return true };
        let unread = std::mem::take(&mut tls.unread);
        if unread.is_empty() {
            return true;
        }
        self.deliver(id, &unread);
        self.consider_end(id);
        self.settle();
        self.receive_window(id) > 0
    }

    /// A client's connection has failed. What TLS had opened of it was read, and is typed although the queue
    /// is full; if that is full twice over it is lost, and counted.
    pub(super) fn deliver_last(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        let Some((at, _)) = conn.seat() else { return };
        let Transport::Tls(tls) = &mut conn.transport else { return };
        let unread = std::mem::take(&mut tls.unread);
        let Some(console) = self.consoles.get_mut(at).filter(|_| !unread.is_empty()) else { return };
        if console.uplink.takes_last_words() {
            self.receive_plain(id, &unread);
        } else {
            console.count().input_lost += unread.len() as u64;
        }
    }

    /// A client's socket has brought its last. What TLS still holds of it comes before its end.
    pub(super) fn end_of_input(&mut self, id: ConnId) {
        if let Some(Transport::Tls(tls)) = self.conns.get_mut(id).map(|conn| &mut conn.transport) {
            tls.peer_closed = true;
            self.consider_end(id);
        } else if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.forward().is_some()) {
            // Whoever was connected to and ends has restarted: it is connected to again.
            conn.doom(id, CloseReason::PeerClosed, &mut self.fx);
        } else {
            self.end_input(id);
        }
    }

    /// Ends a peer's input that TLS says has ended, once all of it has been delivered.
    fn consider_end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        match (&conn.transport, &conn.role) {
            (Transport::Tls(tls), _) if !tls.peer_closed || !tls.unread.is_empty() => {}
            // Who came by the admin port holds a lock, or may: its end is its end.
            (Transport::Tls(tls), Role::Client(client))
                if !tls.peer_closed_both && client.visit.who.is_none() && client.forward.is_none() =>
            {
                self.end_input(id);
            }
            (Transport::Tls(_), _) => conn.doom(id, CloseReason::PeerClosed, &mut self.fx),
            (Transport::Plain | Transport::Upgradable(_) | Transport::Stream(_), _) => {}
        }
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

/// Offers to a VM or a client.
fn offer_of_console<const MOST: usize>(
    id: ConnId,
    conn: &mut Conn,
    (consoles, remote_ports): (&mut Consoles, &mut RemotePorts),
    scratch: &mut Vec<u8>,
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

/// Largest read from a connection of whose last 256 reads one was little but commands, whoever it is. A visit
/// then costs some fifty microseconds, so that two hundred of these hold a key up for ten milliseconds. One
/// of 256 KiB of commands costs thirteen: one in 256 reads doubles that at most.
pub(super) const NOISY_READ_MAX: usize = 1 << 10;

/// Largest read from one who asks by an old protocol: each says a few hundred bytes at most.
pub(super) const ASKING_READ_MAX: usize = 4 << 10;

/// Largest read from an operator's connection.
const OPERATOR_READ_MAX: usize = 32 << 10;

/// Largest read from one who has not said which VM it is: a read of nothing but commands costs thirty times
/// as much per byte as one of data, and a console's key must not wait for a crowd of those.
const NOBODYS_READ_MAX: usize = 1 << 10;
