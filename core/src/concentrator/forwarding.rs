//! Connections that we make for consoles: dialled when they are due, and let in as clients once they are
//! there. When that is, and where to, is `forwards`'s.

use std::io;

use crate::transport::{Connector, Tls, TlsFailure};

use super::Concentrator;
use super::address::Address;
use super::admission::{Kind, Source};
use super::conn::{CLIENT_POLICY, Conn, Dialled, Role, Transport};
use super::event::CloseReason;
use super::forwards::{By, ForwardKey};
use super::id::ConnId;
use super::output::Output;
use super::tls::await_handshake;

impl Concentrator {
    /// Goes by this where a target is to be reached by TLS, from now on. Without a connector such a target is
    /// not connected to.
    pub fn set_connector(&mut self, connector: Option<Connector>) {
        self.tls.connector = connector;
    }

    /// Dials for all consoles that it is time for.
    pub(super) fn dial_due(&mut self) {
        while let Some((key, target)) = self.consoles.forwards.next_due(self.fx.now) {
            // Whoever uses such a console has a name, and a VM cannot give one to somebody else.
            let is_listed = key.by == By::Vm && self.consoles.may(key.console).is_some();
            if is_listed || !self.make_room(Kind::Client, Some(key.console), Source::Nowhere) {
                let chance = self.chance();
                self.consoles.forwards.failed(key, None, self.fx.now, chance);
                continue;
            }
            let role = Role::Dialled(Box::new(Dialled { key, is_connected: false }));
            let peer = Address::Target(target.clone());
            let id = self.insert(Conn::new(peer, Transport::Plain, CLIENT_POLICY, role));
            self.admission.admit(id, Kind::Client, Source::Nowhere, false, self.fx.now);
            self.admission.stop_judging(id);
            self.consoles.forwards.dialling(key, id);
            self.fx.outbox.push(Output::Connect(id, target));
        }
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
            return self.enter_dialled(id);
        }
        let begun = match connector {
            Some(connector) => Tls::connect(connector, target.host(), Vec::new()),
            None => Err(TlsFailure::NoCertificate),
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
    pub(super) fn forward(&self) -> Option<ForwardKey> {
        match &self.role {
            Role::Dialled(dialled) => Some(dialled.key),
            Role::Client(client) => client.forward,
            _ => None,
        }
    }
}
