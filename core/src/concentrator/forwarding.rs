//! Connections that we make for consoles: dialled when they are due, and let in as clients once they are
//! there. When that is, and where to, is `forwards`'s.

use std::io;
use std::time::Duration;

use crate::transport::{Connector, Tls, TlsFailure};

use super::Concentrator;
use super::address::Address;
use super::admission::{Kind, Source};
use super::conn::{CLIENT_POLICY, Conn, Dialled, Role, Transport};
use super::dials::{By, DialKey};
use super::event::CloseReason;
use super::id::ConnId;
use super::output::Output;
use super::timers::Timer;
use super::tls::await_handshake;

impl Concentrator {
    /// Goes by this where a target is to be reached by TLS, from now on. Without a connector such a target is
    /// not connected to.
    pub fn set_connector(&mut self, connector: Option<Connector>) {
        self.tls.connector = connector;
    }

    /// Dials for all consoles that it is time for.
    pub(super) fn dial_due(&mut self) {
        while !self.shutting_down
            && let Some((key, target)) = self.consoles.dials.next_due(self.fx.now)
        {
            let (kind, at) = match key {
                DialKey::Console(at, _) => (Kind::Client, Some(at)),
                DialKey::Line(_) => (Kind::Vm, None),
            };
            if !self.may_be_let_in(key) || !self.make_room(kind, at, Source::Nowhere) {
                let chance = self.chance();
                self.consoles.dials.failed(key, None, self.fx.now, chance);
                continue;
            }
            let role = Role::Dialled(Box::new(Dialled { key, is_connected: false }));
            let peer = Address::Target(target.clone());
            let id = self.insert(Conn::new(peer, Transport::Plain, CLIENT_POLICY, role));
            self.admission.admit(id, Kind::Client, Source::Nowhere, false, self.fx.now);
            self.admission.stop_judging(id);
            self.consoles.dials.dialling(key, id, self.fx.now);
            self.fx.timers.set(Timer::Connect(id), self.fx.now + PATIENCE);
            self.fx.outbox.push(Output::Connect(id, target));
        }
    }

    /// Whether a target may have a seat: the console has one, and its VM may give it away. A VM does not
    /// decide who may use a console with a list.
    fn may_be_let_in(&self, key: DialKey) -> bool {
        let DialKey::Console(at, by) = key else { return true };
        let is_listed = by == By::Vm && self.consoles.may(at).is_some();
        !is_listed && self.max_clients_at(at).is_none_or(|limit| self.present(at) < limit)
    }

    /// A connection that was asked for is there.
    pub(super) fn connected(&mut self, id: ConnId) {
        let connector = self.tls.connector.as_ref();
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.closing.is_none()) else { return };
        let (Role::Dialled(dialled), Address::Target(target)) = (&mut conn.role, &conn.peer) else { return };
        if std::mem::replace(&mut dialled.is_connected, true) {
            return;
        }
        if !target.is_tls() {
            return self.let_in(id);
        }
        let begun = match connector {
            Some(connector) => Tls::connect(connector, target.host(), Vec::new()),
            None => Err(TlsFailure::Other("nobody is trusted: --dial-ca".into())),
        };
        match begun {
            Ok(tls) => {
                conn.transport = Transport::Tls(tls);
                await_handshake(id, &mut self.fx);
                self.fx.outbox.transmit(id);
            }
            Err(failure) => self.fail_tls(id, failure),
        }
    }

    /// A connection that was asked for is there, and its TLS is up if it has any.
    pub(super) fn let_in(&mut self, id: ConnId) {
        let Some(Role::Dialled(dialled)) = self.conns.get(id).map(|conn| &conn.role) else { return };
        let key = dialled.key;
        self.fx.timers.cancel(Timer::Connect(id));
        if !self.may_be_let_in(key) {
            return self.drop_conn(id, CloseReason::NoRight);
        }
        match key {
            DialKey::Console(..) => self.enter_dialled(id),
            DialKey::Line(number) => self.enter_line(id, number),
        }
    }

    /// A connection that was asked for cannot be had.
    pub(super) fn not_connected(&mut self, id: ConnId, why: io::ErrorKind) {
        let role = self.conns.get(id).map(|conn| &conn.role);
        if matches!(role, Some(Role::Dialled(dialled)) if !dialled.is_connected) {
            self.drop_conn(id, CloseReason::Failed(why));
        }
    }
}

impl Conn {
    /// What it was dialled for.
    pub(super) fn forward(&self) -> Option<DialKey> {
        match &self.role {
            Role::Dialled(dialled) => Some(dialled.key),
            Role::Client(client) => client.forward,
            _ => None,
        }
    }
}

/// How long it may take until a target is there: the look-up of its name, and five seconds for an answer. The
/// runtime, which knows why there is none, takes less.
const PATIENCE: Duration = Duration::from_secs(40);
