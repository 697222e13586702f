//! What was known before a restart is put back: consoles with their ports, and what they had printed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Instant;

use super::Concentrator;
use super::console::Console;
use super::id::ConsoleId;
use super::operator::{CommandError, Reservation};
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
        if let Some(port) = reservation.port
            && let Some(ports) = &mut self.ports
            && !ports.take_this(port)
        {
            return Err(CommandError::PortNotFree(port));
        }
        let id = self.consoles.open(reservation.identity, &mut self.fx);
        if reservation.shared {
            self.consoles.share(id);
        }
        if let Some(console) = self.consoles.get_mut(id) {
            console.restore(&reservation.name, reservation.stayed, reservation.home);
        }
        match reservation.port.filter(|_| self.ports.is_some()) {
            Some(port) => self.open_this_port(id, port),
            None => self.open_port(id),
        }
        let left = self.config.vm_expire.saturating_sub(reservation.idle_for);
        self.fx.timers.set(Timer::Expire(id), now + left);
        self.consoles.consider_expiry(id, &mut self.fx);
        self.settle();
        Ok(id)
    }

    /// Puts the end of what a console's VM had printed before the start (guest bytes, oldest first) before all
    /// that it has printed since, as much as [`restored_output`](super::Config::restored_output) allows; once,
    /// and only into memory that no other journal uses. Who comes from now on is shown it as scrollback; who
    /// is there already is not. Returns how many bytes it took, 0 where the console is gone or its first
    /// output is not kept any more. Copies them once.
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
