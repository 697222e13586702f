//! Descriptors for newcomers, and for client ports that were put off: who has to leave for them.

use std::time::Duration;

use super::Concentrator;
use super::admission::{Kind, Source, Verdict};
use super::effects::Newcomer;
use super::event::{CloseReason, EventKind};
use super::evicting::MOST_LEAVING;
use super::id::ConsoleId;
use super::listen::TRIED_AT_ONCE;
use super::timers::Timer;

impl Concentrator {
    /// Closes connections that have to leave for a newcomer, clients that will send no more before all
    /// others, and where there is nobody else consoles that nobody uses, but not `at`, then client ports.
    /// Returns whether there is room then.
    ///
    /// The newcomer gets the slot of the last that left, and so a runtime that keeps its sockets by slot
    /// closes that one's as it takes up the newcomer's: many may be accepted before outputs are polled.
    pub(super) fn make_room(&mut self, kind: Kind, at: Option<ConsoleId>, from: Source) -> bool {
        let now = self.fx.now;
        let many_come = self.ports.as_mut().is_some_and(|ports| match kind {
            Kind::Vm => ports.rush.come(now),
            Kind::Client => ports.rush.are_many(now),
        });
        let mut made = 0;
        loop {
            let spare = if many_come { usize::MAX } else { self.consoles.ports_without_vm() };
            let verdict = self.admission.judge(kind, from, self.listeners.len(), spare, self.fx.now);
            if verdict == Verdict::Admit {
                return true;
            }
            // What was let in beyond what is reserved, while many came, goes bit by bit.
            if made >= MOST_LEAVING
                && self.admission.is_one_free(self.listeners.len())
                && self.admission.lacks_descriptor(kind)
            {
                return true;
            }
            match (self.half_closed.first_of_all(), verdict) {
                (Some(id), _) => self.drop_conn(id, CloseReason::Yielded),
                (None, Verdict::Evict(id)) => self.drop_conn(id, CloseReason::Evicted),
                (None, _) if !self.admission.lacks_descriptor(kind) => return false,
                (None, _) => match self.consoles.yields_descriptor(at) {
                    Some(unused) => self.end_console(unused, EventKind::ConsoleYielded),
                    None if self.shed_ports() => {}
                    None => return false,
                },
            }
            made += 1;
        }
    }

    /// Opens client ports that were put off, and tries again for consoles that have none.
    pub(super) fn ports_timer(&mut self) {
        let now = self.fx.now;
        let due = self.ports.as_ref().and_then(|ports| ports.rush.due());
        if let Some(due) = due.filter(|&due| now < due) {
            return self.fx.timers.set(Timer::Ports, due);
        }
        for _ in 0..OPENED_AT_ONCE {
            let Some(at) = self.ports.as_mut().and_then(|ports| ports.rush.next()) else { break };
            if self.make_room_for_port(at) {
                self.open_port_for(Newcomer { console: at, is_late: false });
            } else {
                self.wait_for_port(at);
            }
        }
        if self.ports.as_ref().is_some_and(|ports| ports.rush.due().is_some()) {
            self.fx.timers.set(Timer::Ports, now + PAUSE);
        } else {
            let made = self.make_room_for_waiting();
            self.retry_ports(made);
        }
    }

    /// Has strangers leave for consoles that wait for their port. Returns for how many somebody has left.
    /// While many come they are served first, and of those who wait only a few: crowds may come without end.
    fn make_room_for_waiting(&mut self) -> usize {
        let Some(ports) = &self.ports else { return 0 };
        let most = if ports.rush.are_many(self.fx.now) { FEW } else { TRIED_AT_ONCE };
        let waiting: Vec<ConsoleId> = ports.waiting.iter().take(most).copied().collect();
        let mut made = 0;
        for at in waiting {
            let spare = self.consoles.ports_without_vm();
            if self.admission.has_room_for_port(self.listeners.len(), spare) {
                break;
            }
            made += usize::from(self.evict_for_port(at));
        }
        made
    }
}

/// How many that wait for their port have somebody leave for it in one go while many come.
const FEW: usize = 8;

/// How many ports are opened in one go: some milliseconds of system calls.
const OPENED_AT_ONCE: usize = 128;

/// The pause until the next.
const PAUSE: Duration = Duration::from_millis(5);
