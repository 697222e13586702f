//! TLS in the engine: which connections begin with it, which go over to it, and when its handshake is over.
//!
//! Bytes a TLS peer sends are opened and go the way of all bytes; the part of them a client has no window
//! for stays with its connection, which is not read meanwhile. What is for a peer is sealed in `sending`, one
//! record ahead of the socket. Clients are let in when their handshake is over, hosts are strangers until
//! they say which VM they are, as without TLS; on the admin port a certificate may say who somebody is.

use std::time::Duration;

use crate::telnet::auth::{ACCEPT_SSL, Is, REJECT_SSL, SEND_SSL};
use crate::telnet::{Opt, Side, Verb, put_negotiation};
use crate::time::Instant;
use crate::transport::{Acceptor, Acceptors, Connector, Tls, TlsFailure};

use super::Concentrator;
use super::address::Address;
use super::config::{AdminTls, Config, InBandTls, VmTls};
use super::conn::{Conn, Transport, Wire};
use super::effects::Effects;
use super::event::{CloseReason, EventKind};
use super::id::ConnId;
use super::timers::Timer;
use super::upgrade::{Step, Upgrade, Verdict};
use super::upgrade_backoff::UpgradeBackoff;
use crate::keyed::Keyed;

/// With what TLS is answered, and who is not offered it for a while.
#[derive(Debug)]
pub(super) struct TlsPolicy {
    pub(super) acceptors: Acceptors,
    /// With what TLS is begun.
    pub(super) connector: Option<Connector>,
    backoff: UpgradeBackoff,
}

/// What a step of an upgrade comes to, where the engine has to know.
#[must_use]
#[derive(Clone, Debug)]
pub(super) enum Upgraded {
    /// Nothing that concerns others.
    Going,
    /// TLS cannot be had.
    Failed(TlsFailure),
}

impl TlsPolicy {
    pub(super) fn new(keys: Keyed) -> Self {
        Self { acceptors: Acceptors::default(), connector: None, backoff: UpgradeBackoff::new(keys) }
    }

    /// How a connection to a VM listener begins. `None`: it cannot.
    pub(super) fn for_vm(&self, config: &Config, peer: &Address, now: Instant) -> Option<Transport> {
        let mut in_band = config.in_band_tls;
        if in_band == InBandTls::Offer && self.backs_off(peer, now) {
            in_band = InBandTls::Off;
        }
        let acceptor = self.acceptors.vms.as_ref();
        match config.vm_tls {
            VmTls::On => begin(acceptor?),
            VmTls::Off if in_band == InBandTls::Off => Some(Transport::Plain),
            mode => {
                acceptor?;
                Some(Transport::Upgradable(Box::new(Upgrade::new(in_band, mode == VmTls::Auto))))
            }
        }
    }

    /// How a connection to a client port begins. `None`: it cannot.
    pub(super) fn for_client(&self, config: &Config) -> Option<Transport> {
        match config.client_tls {
            true => begin(self.acceptors.clients.as_ref()?),
            false => Some(Transport::Plain),
        }
    }

    /// How a connection to a serial line's listener begins that has TLS. `None`: it cannot.
    pub(super) fn for_line(&self) -> Option<Transport> {
        begin(self.acceptors.lines.as_ref()?)
    }

    /// How a connection to an admin listener begins; of a process on this machine, without. `None`: it
    /// cannot.
    pub(super) fn for_admin(&self, config: &Config, peer: &Address) -> Option<Transport> {
        match (config.admin_tls, peer) {
            (AdminTls::On, Address::Ip(_)) => begin(self.acceptors.admin.as_ref()?),
            _ => Some(Transport::Plain),
        }
    }

    /// A connection to an admin listener began in clear, and goes on with TLS where that is welcome. Returns
    /// whether it does.
    pub(super) fn begin_admin(&self, config: &Config, conn: &mut Conn) -> bool {
        let may = config.admin_tls == AdminTls::Auto
            && matches!((&conn.transport, &conn.peer), (Transport::Plain, Address::Ip(_)));
        let begun = self.acceptors.admin.as_ref().filter(|_| may).and_then(begin);
        let begins = begun.is_some();
        if let Some(transport) = begun {
            conn.transport = transport;
        }
        begins
    }

    /// A host's connection ends: if that was before the TLS that it had started came up, it is not offered
    /// TLS again for a while. Unless we ended it: strangers who have it evicted must not bring it back to
    /// clear.
    pub(super) fn note_end(&mut self, conn: &Conn, reason: CloseReason, now: Instant) {
        let is_ours =
            matches!(reason, CloseReason::Evicted | CloseReason::Kicked | CloseReason::ShuttingDown);
        if !is_ours
            && conn.vm().is_some_and(|vm| vm.wire == Wire::Upgrading)
            && let Address::Ip(host) = &conn.peer
        {
            self.backoff.add(host.ip(), now);
        }
    }

    fn backs_off(&self, peer: &Address, now: Instant) -> bool {
        matches!(peer, Address::Ip(host) if self.backoff.contains(host.ip(), now))
    }

    /// WILL or WONT AUTHENTICATION, or something that makes no sense. Returns the answer that is no part of
    /// an upgrade, for the bounded replies.
    pub(super) fn negotiate(
        &self,
        id: ConnId,
        conn: &mut Conn,
        verb: Verb,
        fx: &mut Effects,
    ) -> (Option<Verb>, Upgraded) {
        let is_open = matches!(&conn.transport, Transport::Upgradable(upgrade) if upgrade.is_open());
        // Once we have said anything else it is too late for an offer.
        if verb == Verb::Will && !is_open && !conn.negotiator.is_on(Side::Him, Opt::AUTHENTICATION) {
            return (Some(Verb::Dont), Upgraded::Going);
        }
        let answer = conn.negotiator.handle(verb, Opt::AUTHENTICATION).send.map(|(verb, _)| verb);
        let step = match verb {
            Verb::Will => Step::Offered,
            Verb::Wont => Step::Declined,
            // No part of an upgrade, and to be had without end.
            Verb::Do | Verb::Dont => return (answer, Upgraded::Going),
        };
        let mut reply = None;
        match (&mut conn.transport, answer) {
            (Transport::Upgradable(upgrade), Some(verb)) if upgrade.is_open() => {
                put_negotiation(verb, Opt::AUTHENTICATION, upgrade.buffer());
                fx.outbox.transmit(id);
            }
            (_, answer) => reply = answer,
        }
        (reply, self.step(id, conn, step, fx))
    }

    /// A subnegotiation of AUTHENTICATION. `None`: it is out of place. Otherwise what is to be answered
    /// beside the upgrade, and what came of it.
    pub(super) fn authenticate(
        &self,
        id: ConnId,
        conn: &mut Conn,
        body: &[u8],
        fx: &mut Effects,
    ) -> Option<(&'static [u8], Upgraded)> {
        let is_open = matches!(&conn.transport, Transport::Upgradable(upgrade) if upgrade.is_open());
        match Is::parse(body) {
            Some(Is::StartSsl) if is_open => Some((&[], self.step(id, conn, Step::Started, fx))),
            Some(Is::Null | Is::Other) if is_open => {
                Some((&[], self.step(id, conn, Step::NothingInCommon, fx)))
            }
            // Its answer comes after we have given up: it waits for a word.
            Some(Is::StartSsl) if !conn.transport.is_tls() => Some((REJECT_SSL, Upgraded::Going)),
            _ => None,
        }
    }

    /// One step of an upgrade; nothing on a connection that is not upgradable.
    pub(super) fn step(&self, id: ConnId, conn: &mut Conn, step: Step, fx: &mut Effects) -> Upgraded {
        let Transport::Upgradable(upgrade) = &mut conn.transport else { return Upgraded::Going };
        match upgrade.step(step) {
            Verdict::Wait => {}
            Verdict::WaitForOffer => await_upgrade(id, false, fx),
            Verdict::Invite => {
                if let Some((verb, opt)) = conn.negotiator.want(Side::Him, Opt::AUTHENTICATION, true) {
                    put_negotiation(verb, opt, upgrade.buffer());
                    fx.outbox.transmit(id);
                }
                fx.timers.set(Timer::Tls(id), fx.now + ANSWER_LIMIT);
            }
            Verdict::Ask => {
                upgrade.buffer().extend_from_slice(SEND_SSL);
                fx.outbox.transmit(id);
                fx.timers.set(Timer::Tls(id), fx.now + ANSWER_LIMIT);
            }
            Verdict::Tls { accept } => {
                let mut clear = upgrade.pending().to_vec();
                if accept {
                    clear.extend_from_slice(ACCEPT_SSL);
                }
                return self.begin(id, conn, clear, accept, fx);
            }
            Verdict::Clear => conn.release(id, fx),
            Verdict::Refuse => {
                conn.queue_control(id, fx, |out| {
                    out.clear();
                    out.extend_from_slice(TLS_REQUIRED);
                });
                conn.doom(id, CloseReason::InClear, fx);
            }
        }
        Upgraded::Going
    }

    /// The next byte of the host is TLS, and so is ours after the `clear` ones.
    fn begin(
        &self,
        id: ConnId,
        conn: &mut Conn,
        clear: Vec<u8>,
        upgrading: bool,
        fx: &mut Effects,
    ) -> Upgraded {
        let Some(acceptor) = &self.acceptors.vms else { return Upgraded::Failed(TlsFailure::NoCertificate) };
        match Tls::accept(acceptor, clear) {
            Ok(tls) => {
                conn.transport = Transport::Tls(tls);
                if let Some(vm) = conn.vm_mut().filter(|_| upgrading) {
                    vm.wire = Wire::Upgrading;
                }
                await_handshake(id, fx);
                fx.outbox.transmit(id);
                Upgraded::Going
            }
            Err(failure) => Upgraded::Failed(failure),
        }
    }
}

impl Conn {
    /// A connection that may still go over to TLS stays in clear.
    pub(super) fn release(&mut self, id: ConnId, fx: &mut Effects) {
        if let Transport::Upgradable(upgrade) = &mut self.transport {
            upgrade.release();
            fx.timers.cancel(Timer::Tls(id));
            self.end_upgrade(id, fx);
        }
    }

    /// Lets a connection speak, once it is known to stay in clear and the upgrade's own bytes are taken.
    pub(super) fn end_upgrade(&mut self, id: ConnId, fx: &mut Effects) {
        if let Transport::Upgradable(upgrade) = &self.transport
            && upgrade.is_over()
        {
            self.transport = Transport::Plain;
            fx.outbox.transmit(id);
        }
    }

    /// Ends TLS on a connection that has nothing more to say. Returns whether its socket has taken all.
    pub(super) fn close_transport(&mut self, id: ConnId, fx: &mut Effects) -> bool {
        if let Transport::Tls(tls) = &mut self.transport {
            tls.close();
        }
        let is_done = self.transport.pending().is_none_or(<[u8]>::is_empty);
        if !is_done {
            fx.outbox.transmit(id);
        }
        is_done
    }
}

impl Concentrator {
    /// An upgrade has come to something that the engine has to know.
    pub(super) fn after_upgrade(&mut self, id: ConnId, upgraded: Upgraded) {
        match upgraded {
            Upgraded::Going => {}
            Upgraded::Failed(failure) => self.fail_tls(id, failure),
        }
    }

    /// TLS did not come up, or broke: the connection ends.
    pub(super) fn fail_tls(&mut self, id: ConnId, failure: TlsFailure) {
        if self.conns.get(id).is_none_or(|conn| conn.closing.is_some()) {
            return;
        }
        // A target that is down is tried again and again, and told of once.
        let forward = self.conns.get(id).and_then(Conn::forward);
        if forward.is_none_or(|key| !self.consoles.dials.is_known_down(key)) {
            self.emit(id, EventKind::TlsFailed(failure));
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Transport::Tls(tls) = &mut conn.transport {
            tls.failed = true;
        }
        conn.doom(id, CloseReason::Tls, &mut self.fx);
        self.fx.outbox.transmit(id);
    }

    /// An upgrade has not come to its end in time.
    pub(super) fn tls_timer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match &conn.transport {
            Transport::Upgradable(_) => {
                let upgraded = self.tls.step(id, conn, Step::TimeUp, &mut self.fx);
                self.after_upgrade(id, upgraded);
            }
            Transport::Tls(tls) if !tls.is_up() => self.fail_tls(id, TlsFailure::Timeout(HANDSHAKE_LIMIT)),
            Transport::Plain | Transport::Tls(_) | Transport::Stream(_) => {}
        }
    }
}

/// Bounds the time of a handshake.
pub(super) fn await_handshake(id: ConnId, fx: &mut Effects) {
    fx.timers.set(Timer::Tls(id), fx.now + HANDSHAKE_LIMIT);
}

/// How long a handshake has taken that is over now.
pub(super) fn handshake_took(id: ConnId, fx: &Effects) -> Option<Duration> {
    let left = fx.timers.deadline(Timer::Tls(id))?.duration_since(fx.now);
    HANDSHAKE_LIMIT.checked_sub(left)
}

/// Bounds the time for which our first words wait. `either`: its first byte may be one of TLS.
pub(super) fn await_upgrade(id: ConnId, either: bool, fx: &mut Effects) {
    fx.timers.set(Timer::Tls(id), fx.now + if either { HELLO_LIMIT } else { HOLD });
}

/// A connection that begins with TLS.
fn begin(acceptor: &Acceptor) -> Option<Transport> {
    Tls::accept(acceptor, Vec::new()).ok().map(Transport::Tls)
}

/// How long our first words wait for a host that may want TLS. It says so within a millisecond of
/// connecting (tls-in-band.md §2); a round trip over the widest networks is less.
const HOLD: Duration = Duration::from_millis(300);

/// The same where TLS from the first byte is as welcome: a host whose handshake our words met cannot go on,
/// and a fleet that connects at one moment is slow to begin. One that speaks telnet speaks first, too.
const HELLO_LIMIT: Duration = Duration::from_secs(2);

/// How long a host may take to answer what it is asked about TLS; it waits without a console meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection: a handshake record (RFC 8446 §5.1). No telnet begins with it.
pub(super) const TLS_RECORD: u8 = 0x16;

const TLS_REQUIRED: &[u8] = b"\r\nThis port serves TLS only (telnets://, or an upgrade by option 37).\r\n";
