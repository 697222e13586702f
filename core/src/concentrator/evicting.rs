//! Strangers who leave for a console's client port.
//!
//! **Owns** whether anybody is to leave for one. **Refuses to know** who opens it, and why now.

use super::Concentrator;
use super::admission::{Kind, Source, Verdict};
use super::conn::Conn;
use super::event::CloseReason;
use super::id::ConsoleId;
use super::ports::Ports;
use super::rules::RulePort;

impl Concentrator {
    /// Closes strangers' connections for a client port, as for the VM itself. Returns whether there is a
    /// descriptor then.
    pub(super) fn make_room_for_port(&mut self, at: ConsoleId) -> bool {
        self.evict_for_port(at);
        self.admission.is_one_free(self.listeners.len())
    }

    /// The same. Returns whether anybody has left.
    pub(super) fn evict_for_port(&mut self, at: ConsoleId) -> bool {
        let Some(from) = self.wants_port(at) else { return false };
        let mut has_evicted = false;
        for _ in 0..MOST_LEAVING {
            let spare = self.consoles.ports_without_vm();
            match self.admission.judge(Kind::Vm, from, self.listeners.len(), spare, self.fx.now) {
                Verdict::Evict(id) => self.drop_conn(id, CloseReason::Evicted),
                Verdict::Admit | Verdict::Refuse => break,
            }
            has_evicted = true;
        }
        has_evicted
    }

    /// Where the VM comes from for whose console a port is wanted; `None`: nobody is to leave for one, since
    /// it has one, or is to have none, or there is no number for it.
    fn wants_port(&self, at: ConsoleId) -> Option<Source> {
        let console = self.consoles.get(at).filter(|console| console.listener.is_none())?;
        let holder = console.legs.holder().and_then(|id| self.conns.get(id));
        let is_possible = match self.consoles.rule(at).map(|rule| rule.port) {
            Some(RulePort::None) => false,
            Some(RulePort::This(_)) => true,
            _ => self.ports.as_ref().is_some_and(Ports::is_any_free),
        };
        (is_possible && !self.consoles.is_stream_without_port(at))
            .then(|| holder.map_or(Source::Nowhere, Conn::source))
    }
}

/// How many leave for one newcomer, or for one port, where one would do.
pub(super) const MOST_LEAVING: usize = 2;
