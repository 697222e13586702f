//! The flow plane, inwards: what a connection's socket may bring, and where that goes. What sockets are given
//! is `sending`'s.
//!
//! TLS lies in between: what it opens goes the way of all bytes. What of that a connection has no window for
//! stays with TLS, and nothing more is read meanwhile.

use crate::time::Instant;
use crate::transport::{RECORD, TlsFailure};

use super::Concentrator;
use super::conn::{Conn, Place, Role, Transport, Wire};
use super::console::READ_MAX;
use super::consoles::Consoles;
use super::effects::Effects;
use super::event::{CloseReason, EventKind};
use super::id::ConnId;
use super::speech::Mode;
use super::timers::Timer;
use super::tls::{TLS_RECORD, handshake_took};
use super::unfinished::Unfinished;
use super::upgrade::Step;
use super::visits::typing_window;
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
                let window = self.typing_window(id, conn, client.mode != Mode::Telnet);
                if conn.is_noisy() { window.min(NOISY_READ_MAX) } else { window }
            }
            Role::Local(_) | Role::Attach(_) => self.typing_window(id, conn, true),
            Role::Asking(_) if conn.control.is_over_limit() => 0,
            Role::Asking(_) => conn.kit().map_or(ASKING_READ_MAX, |kit| self.kit_window(conn, kit)),
            Role::Operator(desk) => desk.receive_window().min(OPERATOR_READ_MAX),
        }
    }

    fn typing_window(&self, id: ConnId, conn: &Conn, doubles: bool) -> usize {
        typing_window(id, conn, &self.consoles, doubles, self.config.ports_ignore_locks)
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
        match &conn.transport {
            Transport::Plain if !is_first && !is_watched => {
                printed = print_data(id, conn, data, &mut self.consoles, &mut self.fx);
                if printed == data.len() {
                    return self.settle();
                }
            }
            Transport::Tls(_) if !is_first && !is_watched && !was_nobody => {
                let Self { consoles, unfinished, opened: plain, fx, .. } = self;
                let opened = open(id, conn, data, plain, consoles, unfinished, fx);
                self.deliver_opened(id, opened);
                return self.settle();
            }
            _ => {}
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
        let Self { conns, consoles, unfinished, opened: plain, fx, .. } = self;
        let Some(conn) = conns.get_mut(id) else { return };
        let opened = open(id, conn, data, plain, consoles, unfinished, fx);
        self.deliver_opened(id, opened);
    }

    /// Gives a connection what TLS has [opened](open) of it, and does what else came of that.
    fn deliver_opened(&mut self, id: ConnId, opened: Opened) {
        if opened.is_all_printed {
            return self.opened.clear();
        }
        let mut plain = std::mem::take(&mut self.opened);
        // What comes behind the handshake in the same read may be a fault: it was up all the same.
        if opened.has_come_up {
            self.come_up(id);
        }
        if opened.printed > 0 {
            // What it has printed counts, too, where it is judged by how much of this was commands.
            self.receive_of_vm(id, &plain, opened.printed);
        } else {
            self.deliver(id, &plain);
        }
        plain.clear();
        self.opened = plain;
        match opened.outcome {
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
        while !rest.is_empty()
            && let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none())
        {
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

/// What came of bytes of a TLS peer's.
struct Opened {
    outcome: Result<(), TlsFailure>,
    /// The handshake is over.
    has_come_up: bool,
    /// So many of what was opened are printed.
    printed: usize,
    /// Those were all, and nothing else came of it.
    is_all_printed: bool,
}

/// Opens what a TLS peer's socket has brought, behind what was left in `plain`: nothing, and then what there
/// was no window for. What a VM prints goes to its console at once.
fn open(
    id: ConnId,
    conn: &mut Conn,
    data: &mut [u8],
    plain: &mut Vec<u8>,
    consoles: &mut Consoles,
    unfinished: &mut Unfinished,
    fx: &mut Effects,
) -> Opened {
    let Transport::Tls(tls) = &mut conn.transport else {
        return Opened { outcome: Ok(()), has_come_up: false, printed: 0, is_all_printed: true };
    };
    plain.append(&mut tls.unread);
    let was_up = tls.is_up();
    let before = tls.unfinished();
    let mut outcome = tls.open(data, plain);
    if unfinished.change(before, tls.unfinished()) && outcome.is_ok() {
        unfinished.release(tls.unfinished());
        outcome = Err(tls.give_up());
    }
    if !tls.pending().is_empty() {
        fx.outbox.transmit(id);
    }
    let has_come_up = !was_up && tls.has_come_up();
    let is_more = has_come_up || tls.peer_closed || outcome.is_err();
    // Reads in which no record ends say nothing of how quiet a VM is.
    let is_heard = !has_come_up && conn.closing.is_none() && !plain.is_empty();
    let printed = if is_heard { print_data(id, conn, plain, consoles, fx) } else { 0 };
    Opened { outcome, has_come_up, printed, is_all_printed: printed == plain.len() && !is_more }
}

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
