//! Connections that a proxy forwards: whom they are from is in their first bytes (proxy.md §3).
//!
//! Until that is known such a connection is nobody, with the proxy's address. Then it becomes what it would
//! have been at once without the proxy, from the address that was told: for admission, for TLS, for the
//! console's home, for all that is told of it.

use std::time::Duration;

use crate::proxy_protocol::{Decoder, Forwarded, HeaderFault};
use crate::telnet::OptionPolicy;

use super::Concentrator;
use super::address::Address;
use super::admission::Kind;
use super::conn::{Announced, Conn, Role, Transport};
use super::event::CloseReason;
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;

impl Concentrator {
    /// Whether whoever this is has to say whom it forwards.
    pub(super) fn is_proxy(&self, peer: &Address) -> bool {
        self.config.proxies.iter().any(|proxy| proxy.is(peer))
    }

    /// A connection of a proxy's, to the client port of a console or to where hosts connect.
    pub(super) fn accept_announced(&mut self, console: Option<ConsoleId>, peer: Address) -> ConnId {
        let role = Role::Announced(Box::new(Announced { header: Decoder::new(), console }));
        let conn = Conn::new(peer, Transport::Plain, NO_TELNET, role);
        let (kind, source) = (conn.side().unwrap_or(Kind::Vm), conn.source());
        let id = self.insert(conn);
        // A proxy speaks at once.
        self.admission.admit(id, kind, source, true, self.fx.now);
        self.fx.timers.set(Timer::Header(id), self.fx.now + HEADER_LIMIT);
        id
    }

    /// The first bytes of such a connection. Returns how many of them are the header's, once that is whole
    /// and the connection has become what it is.
    pub(super) fn receive_header(&mut self, id: ConnId, data: &[u8]) -> Option<usize> {
        let conn = self.conns.get_mut(id).filter(|conn| conn.closing.is_none())?;
        conn.spoken = true;
        let Role::Announced(announced) = &mut conn.role else { return None };
        let mut rest = data;
        let console = announced.console;
        let said = match announced.header.receive(&mut rest) {
            Ok(said) => said?,
            Err(fault) => {
                let why = match fault {
                    HeaderFault::Missing => CloseReason::NoHeader,
                    HeaderFault::Malformed => CloseReason::BadHeader,
                };
                conn.doom(id, why, &mut self.fx);
                return None;
            }
        };
        let peer = match said {
            Forwarded::From(address) => Address::Ip(address),
            Forwarded::Itself => conn.peer.clone(),
        };
        let became = match console {
            None => self.accept_vm(peer, Some(id)),
            Some(console) => self.accept_client(console, peer, Some(id)),
        };
        if became.is_none() {
            let why = match console.is_none_or(|console| self.consoles.get(console).is_some()) {
                true => CloseReason::Tls,
                false => CloseReason::Gone,
            };
            self.drop_conn(id, why);
            return None;
        }
        Some(data.len() - rest.len())
    }

    /// A header has not come in time.
    pub(super) fn header_timer(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.doom(id, CloseReason::NoHeader, &mut self.fx);
        }
    }
}

/// Nothing is negotiated before it is known who is there.
const NO_TELNET: &[OptionPolicy] = &[];

/// How long a header may take: proxies send it with their first segment, and a retransmission or two fit in.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
