//! TLS in the engine: which connections begin with it, which go over to it, and what passes through it.
//!
//! Bytes a TLS peer sends are opened and go the way of all bytes; the part of them a client has no window
//! for stays with its connection, which is not read meanwhile. What a peer is owed is sealed in `transmit`,
//! one record ahead of the socket. Clients are let in when their handshake is over, hosts are strangers
//! until they say which VM they are, as without TLS.

use std::time::Duration;

use crate::telnet::auth::{ACCEPT_SSL, Is, REJECT_SSL, SEND_SSL};
use crate::telnet::{Opt, Side, Verb, put_negotiation};
use crate::time::Instant;
use crate::transport::{Acceptor, Acceptors, Fault, Tls};

use super::Concentrator;
use super::config::{InBandTls, VmTls};
use super::conn::{Conn, Role, Transport};
use super::event::{CloseReason, What};
use super::id::ConnId;
use super::output::Address;
use super::timers::Timer;
use super::upgrade::{Step, Upgrade, Verdict};

/// How long our first words wait for a host that may want TLS. It says so within a millisecond of
/// connecting (tls-in-band.md §2); a round trip over the widest networks is less.
const HOLD: Duration = Duration::from_millis(300);

/// How long a host may take to answer what it is asked about TLS; it waits without a console meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

const TLS_REQUIRED: &[u8] = b"\r\nThis port serves TLS only (telnets://, or an upgrade by option 37).\r\n";

impl Concentrator {
    /// Answers TLS connections with these from now on; those that are up go on as they are. Without an
    /// acceptor, connections that need one are refused.
    pub fn set_acceptors(&mut self, acceptors: Acceptors) {
        self.acceptors = acceptors;
    }

    /// How a connection to a VM listener begins. `None`: it cannot.
    pub(super) fn vm_transport(&self, peer: &Address, now: Instant) -> Option<Transport> {
        let mut in_band = self.config.in_band_tls;
        if in_band == InBandTls::Offer && self.is_spared(peer, now) {
            in_band = InBandTls::Off;
        }
        let acceptor = self.acceptors.vms.as_ref();
        match self.config.vm_tls {
            VmTls::On => tls(acceptor?, Vec::new()),
            VmTls::Off if in_band == InBandTls::Off => Some(Transport::Plain),
            mode => {
                acceptor?;
                Some(Transport::Held(Box::new(Upgrade::new(in_band, mode == VmTls::Auto))))
            }
        }
    }

    /// How a connection to a client port begins. `None`: it cannot.
    pub(super) fn client_transport(&self) -> Option<Transport> {
        match self.config.client_tls {
            true => tls(self.acceptors.clients.as_ref()?, Vec::new()),
            false => Some(Transport::Plain),
        }
    }

    pub(super) fn await_handshake(&mut self, id: ConnId, now: Instant) {
        self.timers.set(Timer::Secure(id), now + HANDSHAKE_LIMIT);
    }

    pub(super) fn await_upgrade(&mut self, id: ConnId, now: Instant) {
        self.timers.set(Timer::Secure(id), now + HOLD);
    }

    /// Bytes of a host that has been told nothing yet.
    pub(super) fn receive_held(&mut self, id: ConnId, data: &mut [u8], now: Instant) {
        let Some(&first) = data.first() else { return };
        self.upgrade(id, Step::FirstByte { tls: first == TLS_RECORD }, now);
        match self.conns.get(id).map(|conn| &conn.transport) {
            Some(Transport::Tls(_)) => self.receive_sealed(id, data, now),
            _ => self.receive_vm(id, data, now),
        }
    }

    /// WILL or WONT AUTHENTICATION, or something that makes no sense.
    pub(super) fn vm_negotiates_tls(&mut self, id: ConnId, verb: Verb, now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_open = matches!(&conn.transport, Transport::Held(upgrade) if upgrade.is_open());
        // Once we have said anything else it is too late for an offer.
        if verb == Verb::Will && !is_open && !conn.negotiator.is_on(Side::Him, Opt::AUTHENTICATION) {
            self.reply(id, |out| put_negotiation(Verb::Dont, Opt::AUTHENTICATION, out));
            return;
        }
        let answer = conn.negotiator.receive(verb, Opt::AUTHENTICATION).send;
        match (verb, answer) {
            (Verb::Will | Verb::Wont, Some((verb, opt))) => {
                self.say_of_upgrade(id, |out| put_negotiation(verb, opt, out));
            }
            // No part of an upgrade, and to be had without end.
            (Verb::Do | Verb::Dont, Some((verb, opt))) => {
                self.reply(id, |out| put_negotiation(verb, opt, out));
            }
            (_, None) => {}
        }
        match verb {
            Verb::Will => self.upgrade(id, Step::Offered, now),
            Verb::Wont => self.upgrade(id, Step::Declined, now),
            Verb::Do | Verb::Dont => {}
        }
    }

    /// A subnegotiation of AUTHENTICATION.
    pub(super) fn vm_authenticates(&mut self, id: ConnId, body: &[u8], now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        let is_open = matches!(&conn.transport, Transport::Held(upgrade) if upgrade.is_open());
        match Is::parse(body) {
            Some(Is::StartSsl) if is_open => self.upgrade(id, Step::Started, now),
            Some(Is::Null | Is::Other) if is_open => self.upgrade(id, Step::NothingInCommon, now),
            // Its answer comes after we have given up: it waits for a word.
            Some(Is::StartSsl) if !conn.transport.is_tls() => {
                self.reply(id, |out| out.extend_from_slice(REJECT_SSL));
            }
            _ => self.malformed(id, format_args!("AUTHENTICATION out of place")),
        }
    }

    /// Bytes of an upgrade go before everything else, and in clear.
    fn say_of_upgrade(&mut self, id: ConnId, put: impl FnOnce(&mut Vec<u8>)) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match &mut conn.transport {
            Transport::Held(upgrade) if upgrade.is_open() => {
                put(upgrade.buffer());
                self.wake(id);
            }
            Transport::Plain | Transport::Held(_) | Transport::Tls(_) => self.reply(id, put),
        }
    }

    fn upgrade(&mut self, id: ConnId, step: Step, now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Transport::Held(upgrade) = &mut conn.transport else { return };
        match upgrade.step(step) {
            Verdict::Wait => {}
            Verdict::Invite => {
                if let Some((verb, opt)) = conn.negotiator.want(Side::Him, Opt::AUTHENTICATION, true) {
                    self.say_of_upgrade(id, |out| put_negotiation(verb, opt, out));
                }
                self.timers.set(Timer::Secure(id), now + ANSWER_LIMIT);
            }
            Verdict::Ask => {
                self.say_of_upgrade(id, |out| out.extend_from_slice(SEND_SSL));
                self.timers.set(Timer::Secure(id), now + ANSWER_LIMIT);
            }
            Verdict::Tls { accept } => {
                let mut clear = upgrade.pending().to_vec();
                if accept {
                    clear.extend_from_slice(ACCEPT_SSL);
                }
                self.begin_tls(id, clear, accept, now);
            }
            Verdict::Clear => self.release(id),
            Verdict::Refuse => {
                self.say(id, |out| {
                    out.clear();
                    out.extend_from_slice(TLS_REQUIRED);
                });
                self.close(id, CloseReason::InClear, now);
            }
        }
    }

    /// The next byte of the host is TLS, and so is ours after the `clear` ones.
    fn begin_tls(&mut self, id: ConnId, clear: Vec<u8>, upgrading: bool, now: Instant) {
        let gone = || Err(Fault("there is no certificate for it any more".to_owned()));
        match self.acceptors.vms.as_ref().map_or_else(gone, |acceptor| Tls::accept(acceptor, clear)) {
            Ok(tls) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.transport = Transport::Tls(tls);
                    if let Role::Vm(vm) = &mut conn.role {
                        vm.upgrading = upgrading;
                    }
                }
                self.await_handshake(id, now);
                self.wake(id);
            }
            Err(fault) => self.fail_tls(id, &fault, now),
        }
    }

    /// A held connection stays in clear.
    pub(super) fn release(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Transport::Held(upgrade) = &mut conn.transport
        {
            upgrade.release();
            self.timers.cancel(Timer::Secure(id));
            self.end_upgrade(id);
        }
    }

    /// Lets a connection speak, once it is known to stay in clear and the upgrade's own bytes are taken.
    pub(super) fn end_upgrade(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Transport::Held(upgrade) = &conn.transport
            && upgrade.is_over()
        {
            conn.transport = Transport::Plain;
            self.wake(id);
        }
    }

    /// Bytes of a TLS peer, as its socket brought them.
    pub(super) fn receive_sealed(&mut self, id: ConnId, data: &mut [u8], now: Instant) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Transport::Tls(tls) = &mut conn.transport else { return };
        let mut plain = std::mem::take(&mut self.opened);
        plain.append(&mut tls.held);
        let was_up = tls.is_up();
        let outcome = tls.open(data, &mut plain);
        // What comes behind the handshake in the same read may be a fault: it was up all the same.
        let came_up = !was_up && tls.has_come_up();
        if came_up {
            let terms = tls.terms();
            self.come_up(id, terms, now);
        }
        self.wake(id);
        self.deliver(id, &plain, now);
        plain.clear();
        self.opened = plain;
        match outcome {
            Ok(()) => self.consider_end(id, now),
            Err(fault) => self.fail_tls(id, &fault, now),
        }
    }

    /// The handshake is over.
    fn come_up(&mut self, id: ConnId, terms: String, now: Instant) {
        self.timers.cancel(Timer::Secure(id));
        self.tell(id, What::TlsUp(terms));
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.upgrading = false;
        }
        if let Some(Role::Arriving(console)) = self.conns.get(id).map(|conn| &conn.role) {
            self.enter(id, *console, now);
        }
    }

    /// Gives a connection's role what TLS has opened; what it may not send yet stays with TLS.
    fn deliver(&mut self, id: ConnId, plain: &[u8], now: Instant) {
        let mut rest = plain;
        while let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none() && !rest.is_empty()) {
            // A VM's bytes are never refused once they are read.
            let window = match conn.role {
                Role::Vm(_) => rest.len(),
                _ => self.plain_window(conn).min(rest.len()),
            };
            if window == 0 {
                break;
            }
            let (now_due, later) = rest.split_at(window);
            self.receive_plain(id, now_due, now);
            rest = later;
        }
        // A copy: the buffer that it lies in is the engine's, and large.
        if !rest.is_empty()
            && let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())
            && let Transport::Tls(tls) = &mut conn.transport
        {
            tls.held = rest.to_vec();
        }
    }

    /// A connection's window has risen: what TLS holds comes first. Returns whether its socket may be read.
    pub(super) fn deliver_held(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let Transport::Tls(tls) = &mut conn.transport else { return true };
        let held = std::mem::take(&mut tls.held);
        if held.is_empty() {
            return true;
        }
        self.deliver(id, &held, self.now);
        self.consider_end(id, self.now);
        self.receive_window(id) > 0
    }

    /// A client's socket has brought its last. What TLS still holds of it comes before its end.
    pub(super) fn end_of_input(&mut self, id: ConnId, now: Instant) {
        if let Some(Transport::Tls(tls)) = self.conns.get_mut(id).map(|conn| &mut conn.transport) {
            tls.ended = true;
            self.consider_end(id, now);
        } else {
            self.end_input(id, now);
        }
    }

    /// Ends a peer's input that TLS says has ended, once all of it has been delivered.
    fn consider_end(&mut self, id: ConnId, now: Instant) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing.is_none()) else { return };
        match (&conn.transport, &conn.role) {
            (Transport::Tls(tls), _) if !tls.ended || !tls.held.is_empty() => {}
            (Transport::Tls(tls), Role::Client(_)) if !tls.deaf => self.end_input(id, now),
            (Transport::Tls(_), _) => {
                self.close(id, CloseReason::PeerClosed, now);
            }
            (Transport::Plain | Transport::Held(_), _) => {}
        }
    }

    pub(super) fn fail_tls(&mut self, id: ConnId, fault: &Fault, now: Instant) {
        if self.conns.get(id).is_none_or(|conn| conn.closing.is_some()) {
            return;
        }
        self.tell(id, What::TlsFailed(fault.to_string()));
        if let Some(Transport::Tls(tls)) = self.conns.get_mut(id).map(|conn| &mut conn.transport) {
            tls.failed = true;
        }
        self.close(id, CloseReason::Tls, now);
        self.wake(id);
    }

    /// An upgrade has not come to its end in time.
    pub(super) fn secure_timer(&mut self, id: ConnId, now: Instant) {
        match self.conns.get(id).map(|conn| &conn.transport) {
            Some(Transport::Held(_)) => self.upgrade(id, Step::TimeUp, now),
            Some(Transport::Tls(tls)) if !tls.is_up() => {
                let limit = HANDSHAKE_LIMIT.as_secs();
                self.fail_tls(id, &Fault(format!("no handshake within {limit} s")), now);
            }
            _ => {}
        }
    }

    /// A host's connection ends: if that was before the TLS that it had started came up, it is not offered
    /// TLS again for a while. Unless it was our doing: strangers who have it evicted must not bring it back
    /// to clear.
    pub(super) fn note_failed_upgrade(&mut self, id: ConnId, reason: CloseReason, now: Instant) {
        let ours = matches!(reason, CloseReason::Evicted | CloseReason::Kicked | CloseReason::ShuttingDown);
        if !ours
            && let Some(conn) = self.conns.get(id)
            && conn.vm().is_some_and(|vm| vm.upgrading)
            && let Address::Ip(host) = &conn.peer
        {
            self.spared.add(host.ip(), now);
        }
    }

    fn is_spared(&self, peer: &Address, now: Instant) -> bool {
        matches!(peer, Address::Ip(host) if self.spared.contains(host.ip(), now))
    }

    /// Ends TLS on a connection that has nothing more to say. Returns whether its socket has taken all.
    pub(super) fn close_transport(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if let Transport::Tls(tls) = &mut conn.transport {
            tls.close();
        }
        let is_done = conn.transport.pending().is_none_or(<[u8]>::is_empty);
        if !is_done {
            self.wake(id);
        }
        is_done
    }
}

/// A connection that begins with TLS, behind some bytes in clear.
fn tls(acceptor: &Acceptor, clear: Vec<u8>) -> Option<Transport> {
    Tls::accept(acceptor, clear).ok().map(Transport::Tls)
}

/// The first byte of a TLS connection: a handshake record (RFC 8446 §5.1). No telnet begins with it.
const TLS_RECORD: u8 = 0x16;
