//! How connections end: in order, with a farewell they are given time to take, or at once; and the end of
//! all of them.

use std::time::Duration;

use crate::telnet::IAC;
use crate::time::Instant;

use super::Concentrator;
use super::conn::{Closing, Role};
use super::event::{CloseReason, What};
use super::id::ConnId;
use super::listen::Purpose;
use super::output::{Output, Shutdown};
use super::timers::Timer;

/// How long a closing connection may take to accept its last bytes.
const LINGER: Duration = Duration::from_secs(2);

impl Concentrator {
    /// Ends everything in order: accepts nothing more, gives each connection what it is owed and a little
    /// time to take it, and closes it. [`is_empty`](Self::is_empty) tells when that is done.
    pub fn shut_down(&mut self, now: Instant) {
        self.now = now;
        self.shutting_down = true;
        for id in self.listeners.ids() {
            if let Some(Purpose::Clients(console, _)) =
                self.listeners.get(id).map(|listener| listener.purpose)
            {
                self.close_port(console);
            } else {
                self.listeners.remove(id);
                self.outbox.push(Output::Unlisten(id));
            }
        }
        for id in self.conns.ids() {
            if let Some(conn) = self.conns.get_mut(id)
                && conn.closing.is_none()
            {
                conn.closing = Some(Closing::Drain(CloseReason::ShuttingDown));
                self.release(id);
                self.timers.set(Timer::Linger(id), now + LINGER);
                self.consider_closed(id, now);
            }
        }
    }

    /// Takes a connection out of everything and closes it once its control bytes are taken.
    pub(super) fn close(&mut self, id: ConnId, reason: CloseReason, now: Instant) {
        if self.conns.get(id).is_none_or(|conn| conn.closing == Some(Closing::Farewell)) {
            return;
        }
        self.finish_pair(id);
        self.detach(id, reason, now);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.closing = Some(Closing::Farewell);
        }
        self.release(id);
        self.timers.set(Timer::Linger(id), now + LINGER);
        self.consider_closed(id, now);
    }

    /// A reader that is left with the first half of a pair gets the second before anything else.
    pub(super) fn finish_pair(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Role::Client(client) = &conn.role
            && !client.mode.is_guest()
            && client.overtaken.is_none()
            && self.consoles.get(client.console).is_some_and(|console| console.journal.is_mid_pair(client.at))
        {
            conn.control.push_front(IAC);
        }
    }

    /// Takes a connection out of everything and forgets it; its socket is of no more use.
    pub(super) fn drop_conn(&mut self, id: ConnId, reason: CloseReason, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        if conn.closing != Some(Closing::Farewell) {
            self.detach(id, reason, now);
        }
        self.forget(id, Shutdown::Abort);
    }

    pub(super) fn detach(&mut self, id: ConnId, reason: CloseReason, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        match conn.role {
            Role::Vm(_) => {
                self.tell(id, What::VmDisconnected(reason));
                self.note_failed_upgrade(id, reason, now);
                self.detach_vm(id, now);
            }
            Role::Client(_) => {
                self.tell(id, What::ClientDetached(reason));
                self.detach_client(id, now);
            }
            Role::Arriving(_) => {
                self.tell(id, What::ClientNotLetIn(reason));
                self.admission.settle(id);
            }
        }
    }

    /// Closes a closing connection if it has been given all that it is still to be given.
    pub(super) fn consider_closed(&mut self, id: ConnId, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(closing) = conn.closing else { return };
        let mute = conn.transport.is_mute();
        if !conn.control.is_empty() && !mute {
            return;
        }
        if let Closing::Drain(reason) = closing {
            let owed = match &conn.role {
                _ if mute => false,
                Role::Arriving(_) => false,
                Role::Client(client) => self.consoles.get(client.console).is_some_and(|console| {
                    client.overtaken.is_some() || client.needs() < console.journal.head()
                }),
                Role::Vm(_) => conn.console().is_some_and(|console| {
                    self.input_leg(console) == Some(id)
                        && self.consoles.get(console).is_some_and(|console| !console.uplink.is_empty())
                }),
            };
            if owed {
                return;
            }
            self.detach(id, reason, now);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.closing = Some(Closing::Farewell);
            }
        }
        if self.close_transport(id) {
            self.forget(id, Shutdown::Graceful);
        }
    }

    /// A closing connection, or one that has ended its input, has had its time.
    pub(super) fn end_of_linger(&mut self, id: ConnId, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        match (conn.closing, &conn.role) {
            (Some(Closing::Drain(reason)), _) => self.drop_conn(id, reason, now),
            (Some(Closing::Farewell), _) => self.forget(id, Shutdown::Abort),
            (None, Role::Client(_) | Role::Arriving(_)) => self.close(id, CloseReason::PeerClosed, now),
            (None, Role::Vm(_)) => self.end_linger(id, now),
        }
    }

    pub(super) fn forget(&mut self, id: ConnId, how: Shutdown) {
        self.timers.cancel(Timer::Linger(id));
        self.timers.cancel(Timer::Secure(id));
        if let Some(conn) = self.conns.remove(id) {
            if let Some(kind) = conn.kind() {
                self.admission.gone(id, kind);
            }
            self.outbox.push(Output::Close(id, how));
        }
    }
}
