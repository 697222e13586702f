//! Serial lines that come without a concentrator's protocol: each is the VM of a console of its own, of which
//! all is known that a host would tell. They are listened for or connected to; then they print and take what
//! is typed, by telnet or as it is.

use super::Concentrator;
use super::address::Address;
use super::admission::Kind;
use super::channels::CONTROL_SUFFIX;
use super::conn::{Conn, Early, Role, Transport, Vm, Wire};
use super::dials::DialKey;
use super::event::EventKind;
use super::fanout::Stand;
use super::guest::Mux;
use super::id::ConnId;
use super::label::Identity;
use super::listen::Listener;
use super::output::Output;
use super::serial_line::LinePlace;
use super::tls::await_handshake;
use crate::telnet::{Opt, OptionPolicy, Side, put_negotiation};

impl Concentrator {
    /// Has all lines that are configured listened for, and connected to.
    pub(super) fn open_lines(&mut self) {
        for (number, line) in self.config.lines.iter().enumerate().take(usize::from(u16::MAX)) {
            let number = number as u16;
            match &line.place {
                LinePlace::Dial(target) => {
                    let key = DialKey::Line(number);
                    self.consoles.dials.want(key, Some(target.clone()), true, Stand::default());
                }
                LinePlace::Listen { address, .. } => {
                    let id = self.listeners.insert(Listener::line(number, address.clone()));
                    self.fx.outbox.push(Output::Listen(id, address.clone()));
                }
            }
        }
    }

    /// A connection at a line's listener.
    pub(super) fn accept_line(&mut self, number: u16, peer: Address) -> Option<ConnId> {
        let line = self.config.lines.get(usize::from(number))?;
        let LinePlace::Listen { is_telnet, is_tls, .. } = line.place else { return None };
        let mut conn = line_conn(peer, if is_telnet { Wire::Telnet } else { Wire::Raw });
        if is_tls {
            conn.transport = self.tls.for_line()?;
        }
        let source = conn.source();
        let id = self.insert(conn);
        self.admission.admit(id, Kind::Vm, source, is_tls, self.fx.now);
        if is_tls {
            self.arriving_lines.insert(id, number);
            await_handshake(id, &mut self.fx);
        } else {
            self.begin_line(id, number);
        }
        Some(id)
    }

    /// A line's handshake is over. Nothing happens where it is none of theirs.
    pub(super) fn line_comes_up(&mut self, id: ConnId) {
        if let Some(number) = self.arriving_lines.remove(&id) {
            self.begin_line(id, number);
        }
    }

    /// A line that we have connected to is there.
    pub(super) fn enter_line(&mut self, id: ConnId, number: u16) {
        let Some(before) = self.conns.get_mut(id) else { return };
        let Address::Target(target) = &before.peer else { return };
        let wire = match target.port() {
            Some(settings) => {
                self.remote_ports.enter(id, number, settings);
                Wire::Port
            }
            None if target.is_telnet() => Wire::Telnet,
            None => Wire::Raw,
        };
        let mut conn = line_conn(before.peer.clone(), wire);
        conn.transport = std::mem::take(&mut before.transport);
        let source = conn.source();
        self.take_up(conn, Some(id));
        self.dialled_lines.insert(id, number);
        self.admission.admit(id, Kind::Vm, source, false, self.fx.now);
        self.consoles.dials.joined(DialKey::Line(number), id, self.fx.now);
        self.begin_line(id, number);
    }

    /// It is the VM of its console from its first moment, or from when its handshake is over.
    fn begin_line(&mut self, id: ConnId, number: u16) {
        let Some(line) = self.config.lines.get(usize::from(number)) else { return };
        self.consoles.guests.wishes(id, line.mux);
        let early = Early { uuid: Some(line.uuid), name: Some(line.name.clone()), ..Early::default() };
        let mut identity = Identity::of(line.uuid);
        if line.mux == Some(Mux::V1Control) {
            identity.suffix = CONTROL_SUFFIX.into();
        }
        let placed = self.consoles.place(&identity, Some(&line.name));
        if self.conns.get_mut(id).is_some_and(|conn| !std::mem::replace(&mut conn.spoken, true)) {
            self.emit(id, EventKind::VmConnected);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            let wire = conn.vm().map(|vm| vm.wire);
            if wire != Some(Wire::Raw) {
                let port = (wire == Some(Wire::Port)).then_some((Side::Us, Opt::COM_PORT));
                for (side, opt) in OFFERS.into_iter().chain(port) {
                    if let Some((verb, opt)) = conn.negotiator.want(side, opt, true) {
                        put_negotiation(verb, opt, conn.control.buffer());
                    }
                }
                self.fx.outbox.transmit(id);
            }
        }
        self.join(id, placed, early);
    }
}

fn line_conn(peer: Address, wire: Wire) -> Conn {
    let policy = if wire == Wire::Port { PORT_POLICY } else { LINE_POLICY };
    Conn::new(peer, Transport::Plain, policy, Role::Vm(Vm::new(wire)))
}

/// What we are willing to have switched on towards a line that speaks telnet: it is the server there.
const LINE_POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
];

/// The same, and that its settings are ours to make.
const PORT_POLICY: &[OptionPolicy] = &[
    OptionPolicy { opt: Opt::BINARY, us: true, him: true },
    OptionPolicy { opt: Opt::SGA, us: true, him: true },
    OptionPolicy { opt: Opt::ECHO, us: false, him: true },
    OptionPolicy { opt: Opt::COM_PORT, us: true, him: false },
];

/// What it is offered at once.
const OFFERS: [(Side, Opt); 4] =
    [(Side::Us, Opt::BINARY), (Side::Us, Opt::SGA), (Side::Him, Opt::BINARY), (Side::Him, Opt::SGA)];
