//! Which VM a connection is of: what a host says of that, piece by piece, until it is known which console is
//! its (vmware.md §4); and what it asks for its port.
//!
//! Where that is `join` takes over. A name alone is no proof of anything: where several VMs share a UUID it
//! tells them apart.

use std::sync::Arc;
use std::time::Duration;

use crate::telnet::Side;
use crate::vmware::{Message, ServiceUri, Uuid, VMWARE_TELNET_EXT};

use super::Concentrator;
use super::channels::CONTROL_SUFFIX;
use super::conn::{Conn, Early, Place, Role};
use super::event::{CloseReason, EventKind};
use super::guest::Mux;
use super::id::ConnId;
use super::index::Placed;
use super::label::Identity;
use super::target::Target;
use super::timers::Timer;

impl Concentrator {
    /// What a connection has said of itself, while it has no console.
    pub(super) fn early_mut(&mut self, id: ConnId) -> Option<&mut Early> {
        let vm = self.conns.get_mut(id)?.vm_mut()?;
        (vm.place == Place::Unidentified).then(|| &mut **vm.early.get_or_insert_default())
    }

    pub(super) fn vm_asks_for_proxy(&mut self, id: ConnId, direction: u8, uri: &[u8]) {
        let uri = ServiceUri::new(uri);
        let is_served = |wanted: &str| wanted == uri.base() || wanted == uri.as_str();
        let mut dial = None;
        let refused = if direction != b'S' {
            match self.target_of(id, direction, &uri) {
                Some(target) => {
                    dial = Some(Arc::new(target));
                    None
                }
                None => Some(CloseReason::Direction),
            }
        } else if self.config.service_uri.as_deref().is_none_or(is_served) {
            None
        } else {
            Some(CloseReason::ServiceUri)
        };
        if let Some(reason) = refused {
            return self.refuse_proxy(id, reason);
        }
        self.reply(id, |out| Message::WillProxy.put(out));
        let mux: Option<Mux> = uri.option("mux").and_then(|mux| mux.parse().ok());
        // Two ports of a VM are one console's, but not one whose frames go to the other.
        let has_port = uri.option("port").is_some_and(|port| !port.is_empty());
        let is_control = mux == Some(Mux::V1Control);
        let is_apart = mux.is_some() && (has_port || is_control);
        let may_count = mux.is_some() && has_port
            || self.config.multi_console
            || !self.config.multi_console_by_uuid.is_empty();
        let mut suffix = if may_count { uri.suffix() } else { String::new() };
        if is_control {
            suffix.push_str(CONTROL_SUFFIX);
        }
        self.consoles.dials.wishes(id, dial);
        self.consoles.guests.wishes(id, mux);
        if let Some(early) = self.early_mut(id) {
            early.is_apart |= is_apart;
            early.suffix.get_or_insert(suffix);
            self.identify(id);
        }
    }

    /// What a VM asks to be connected to, if it may be.
    fn target_of(&mut self, id: ConnId, direction: u8, uri: &ServiceUri<'_>) -> Option<Target> {
        let why = match Target::of_vm(uri.as_str()) {
            _ if direction != b'C' => return None,
            Ok(target) if target.is_allowed_by(&self.config.dial_allow) => return Some(target),
            Ok(_) => None,
            Err(why) => Some(why),
        };
        let uri = uri.as_str().chars().take(URI_SHOWN).collect::<String>().into();
        self.emit(id, EventKind::DialRefused { uri, why });
        None
    }

    pub(super) fn refuse_proxy(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| Message::WontProxy.put(out));
            conn.doom(id, why, &mut self.fx);
        }
    }

    pub(super) fn vm_is_named(&mut self, id: ConnId, name: &[u8]) {
        let name: String = String::from_utf8_lossy(name)
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .take(NAME_LIMIT)
            .collect();
        let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) else { return };
        match vm.place {
            Place::Unidentified => {
                vm.early.get_or_insert_default().name = Some(name);
                self.identify(id);
            }
            Place::Target => vm.early.get_or_insert_default().name = Some(name),
            Place::Console(console) => {
                self.name_leg(console, id, &name);
                // At once: what it is called next may be the name of a console of its own.
                self.part_others();
            }
            Place::Aside(console) => {
                if let Some(console) = self.consoles.get_mut(console) {
                    console.legs.name_aside(id, &name);
                }
            }
            Place::Rejected | Place::MovedAway(_) | Place::Detached => {}
        }
    }

    /// Attaches a connection to its console, once it has said enough to know which that is. Where a VM of its
    /// UUID is here already, or several VMs share that, its name is a part of it.
    pub(super) fn identify(&mut self, id: ConnId) {
        let Some((identity, early)) = self.said_who(id) else { return };
        let name = early.name.clone().filter(|name| !name.is_empty());
        let is_asked = std::mem::replace(&mut early.awaits_name, true);
        match self.consoles.place(&identity, name.as_deref()) {
            Placed::Unclear if is_asked => {}
            Placed::Unclear => self.fx.timers.set(Timer::Ask(id), self.fx.now + ASK_AFTER),
            placed => self.settle_in(id, placed),
        }
    }

    /// What a connection without a console has said, if that is all it takes but for its name.
    fn said_who(&mut self, id: ConnId) -> Option<(Identity, &mut Early)> {
        let uuid = self.conns.get(id)?.vm()?.early.as_ref()?.uuid?;
        let is_multi = self.are_ports_apart(uuid) || self.conns.get(id)?.vm()?.early.as_ref()?.is_apart;
        let needs_uri = is_multi || self.config.service_uri.is_some();
        let vm = self.conns.get_mut(id)?.vm_mut().filter(|vm| vm.place == Place::Unidentified)?;
        let early = vm.early.as_mut()?;
        if needs_uri && early.suffix.is_none() {
            return None;
        }
        let suffix = early.suffix.clone().filter(|_| is_multi).unwrap_or_default().into();
        Some((Identity { suffix, ..Identity::of(uuid) }, early))
    }

    /// Whether each serial port of a VM is a console of its own. Costs a look at each rule about that.
    fn are_ports_apart(&self, uuid: Uuid) -> bool {
        let mut rules = self.config.multi_console_by_uuid.iter();
        rules.find(|(pattern, _)| pattern.matches_uuid(uuid)).map_or(self.config.multi_console, |(_, on)| *on)
    }

    fn settle_in(&mut self, id: ConnId, placed: Placed) {
        let early = self.conns.get_mut(id).and_then(Conn::vm_mut).and_then(|vm| vm.early.take());
        self.join(id, placed, early.map_or_else(Early::default, |early| *early));
    }

    /// [`ASK_AFTER`] has passed.
    pub(super) fn ask(&mut self, id: ConnId) {
        if let Some((identity, _)) = self.said_who(id) {
            let placed = self.consoles.place_without_name(&identity);
            return self.settle_in(id, placed);
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        let is_vm = conn.negotiator.is_on(Side::Him, VMWARE_TELNET_EXT);
        let Role::Vm(vm) = &mut conn.role else { return };
        match vm.place {
            Place::Unidentified if is_vm => {
                vm.dialogue.ask(conn.control.buffer());
                self.fx.outbox.transmit(id);
            }
            Place::Console(_) => self.emit_identified_of(id),
            Place::Unidentified
            | Place::Rejected
            | Place::Aside(_)
            | Place::Target
            | Place::MovedAway(_)
            | Place::Detached => {}
        }
    }

    /// The time to say which VM it is has passed.
    pub(super) fn give_up_identifying(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.queue_control(id, &mut self.fx, |out| out.extend_from_slice(NOT_IDENTIFIED));
            conn.doom(id, CloseReason::IdentifyTimeout, &mut self.fx);
        }
    }

    /// A connection ends while its name is waited for: what it has printed is shown where its UUID belongs.
    pub(super) fn show_last_words(&mut self, id: ConnId) {
        let Some((identity, early)) = self.said_who(id) else { return };
        let unshown = std::mem::take(&mut early.unshown);
        match self.consoles.place_without_name(&identity) {
            Placed::Same(console) => self.show_early(console, id, unshown),
            _ => self.consoles.drop_unshown(unshown),
        }
    }
}

/// A VM that agreed to the extension and then says nothing is asked who it is after this long; one that
/// does not tell its name is announced without it.
pub(super) const ASK_AFTER: Duration = Duration::from_secs(2);

/// Longest name that is kept, in characters; vCenter allows 80.
const NAME_LIMIT: usize = 128;

/// How much is told of a URI that is refused, in characters.
const URI_SHOWN: usize = 200;

const NOT_IDENTIFIED: &[u8] = b"\r\nNo VM was identified on this connection in time; closing it.\r\n";
