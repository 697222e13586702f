//! What was known before a restart is put back: consoles with their ports, and what they had printed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::Concentrator;
use super::console::Console;
use super::id::ConsoleId;
use super::label::{Identity, Label};
use super::operator::{CommandError, Reservation};
use super::ports::Ports;
use super::rules::RulePort;
use super::tenure::Tenure;
use super::timers::Timer;

impl Concentrator {
    /// Puts back a console that was known before a restart. It has its port again at once, and expires unless
    /// its VM or a client comes in time.
    ///
    /// # Errors
    ///
    /// A console of this identity is there already, its port is another's or outside the range, or the server
    /// is going. Nothing has changed then.
    pub fn restore(&mut self, reservation: Reservation, now: Instant) -> Result<ConsoleId, CommandError> {
        self.fx.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown);
        }
        if self.consoles.by_identity(&reservation.identity).is_some() {
            return Err(CommandError::AlreadyThere);
        }
        let by_rule = self.consoles.port_by_rule(&reservation.label());
        let port = match &mut self.ports {
            Some(ports) => take_port(ports, by_rule, reservation.port)?,
            None => None,
        };
        let id = self.consoles.open(reservation.identity, &mut self.fx);
        if reservation.shared {
            self.consoles.share(id);
        }
        if let Some(console) = self.consoles.get_mut(id) {
            console.restore(&reservation.name, reservation.stayed, reservation.home);
        }
        self.consoles.find_rule(id);
        match port {
            Some(port) => self.open_this_port(id, port),
            None => self.open_port(id),
        }
        let left = self.config.vm_expire.saturating_sub(reservation.idle_for);
        self.fx.timers.set(Timer::Expire(id), now + left);
        self.consoles.consider_expiry(id, &mut self.fx);
        self.settle();
        Ok(id)
    }

    /// Puts the end of what a console's VM had printed before the start (guest bytes, oldest first) before
    /// all that it has printed since, as much as [`restored_output`](super::Config::restored_output) allows;
    /// once, and only into memory that no other journal uses. Who comes from now on is shown it as
    /// scrollback; who is there already is not. Returns how many bytes it took: 0 where the console is gone,
    /// or its first output is not kept any more. Copies them once.
    pub fn restore_output(&mut self, id: ConsoleId, output: &[u8], now: Instant) -> usize {
        self.fx.now = now;
        let put = self.consoles.put_before(id, output, &mut self.fx);
        self.settle();
        put
    }
}

impl Console {
    fn restore(&mut self, name: &str, stayed: Duration, home: Option<IpAddr>) {
        Arc::make_mut(&mut self.label).name = name.into();
        self.tenure = Tenure::restored(stayed, home);
    }
}

impl Reservation {
    fn label(&self) -> Label {
        let Identity { uuid, suffix, clone } = self.identity.clone();
        let id = ConsoleId { index: 0, generation: 0 };
        Label { id, uuid, suffix, clone, name: self.name.clone(), port: None, of_guest: false }
    }
}

/// Takes the port that a console has by its rule, or else the one that it had.
fn take_port(ports: &mut Ports, by_rule: RulePort, had: Option<u16>) -> Result<Option<u16>, CommandError> {
    match (by_rule, had) {
        (RulePort::None, _) => return Ok(None),
        (RulePort::This(port), _) if ports.take_own(port) => return Ok(Some(port)),
        _ => {}
    }
    match had {
        Some(port) if !ports.take_this(port) => Err(CommandError::PortNotFree(port)),
        had => Ok(had),
    }
}
