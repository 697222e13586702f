//! What happens, told to others: commands that are run for it, and whoever else wants to know (hooks.md).
//!
//! **Owns** the loop's end of it, and the form in which things are told. Each that is told has a thread and a
//! bounded queue of its own, so that one that hangs costs the others nothing; the loop waits for none.
//! **Refuses to know** what becomes of what is told.
//!
//! ```text
//! Output::Event, Output::Changed ─▶ Outlets ─▶ Tap ─▶ Inbox ─▶ entries ─▶ a command, …
//! ```

mod entry;
mod inbox;
mod kind;
mod standing;
mod tally;

use std::time::SystemTime;

use vspc_core::concentrator::{Concentrator, ConsoleId, Event};

pub(crate) use entry::{Entry, entries};
pub(crate) use inbox::{Inbox, Message, Tap, Told, Wanted, pair};
pub(crate) use kind::Kind;
pub(crate) use standing::Standings;
pub(crate) use tally::Tally;

/// The loop's end of all that is told to others; by default nobody is told anything.
#[derive(Debug, Default)]
pub struct Outlets {
    taps: Vec<Tap>,
    /// The server is closing its consoles.
    is_frozen: bool,
}

impl Outlets {
    /// Tells this one too.
    pub(crate) fn add(&mut self, tap: Tap) {
        self.taps.push(tap);
    }

    /// Tells an event. Never waits; costs a copy for each that wants it.
    pub(crate) fn event(&mut self, event: &Event) {
        if self.taps.is_empty() {
            return;
        }
        let now = SystemTime::now();
        self.taps.iter_mut().for_each(|tap| tap.event(event, now));
    }

    /// Tells that a console has changed, or has gone. Never waits; costs a copy of its names for each.
    pub(crate) fn changed(&mut self, engine: &Concentrator, id: ConsoleId) {
        if self.taps.is_empty() || self.is_frozen {
            return;
        }
        let now = SystemTime::now();
        self.taps.iter_mut().for_each(|tap| tap.changed(engine, id, now));
    }

    /// Tells what there was no room for, as far as there is now. For when the loop was woken.
    pub(crate) fn retry(&mut self, engine: &Concentrator) {
        self.taps.iter_mut().for_each(|tap| tap.retry(engine));
    }

    /// The server is about to close all consoles, which is no change of theirs: events are told still.
    pub(crate) fn freeze(&mut self) {
        self.is_frozen = true;
        self.taps.iter_mut().for_each(Tap::freeze);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use vspc_core::concentrator::{
        Concentrator, Config, Event, EventKind, Identity, Label, Output, Reservation,
    };
    use vspc_core::time::Instant;
    use vspc_core::vmware::Uuid;

    /// The label of a console that has no port yet.
    pub(crate) fn label() -> Label {
        let mut engine = Concentrator::new(Arc::new(Config::default()), [1; 32], Instant::ZERO);
        let identity = Identity::of(Uuid::from_bytes([1; 16]));
        let vm = Reservation { name: "vm1".into(), ..Reservation::new(identity) };
        let id = engine.restore(vm, Instant::ZERO).unwrap();
        engine.console(id).unwrap().label.clone()
    }

    /// An event of that console. Only the engine makes events, so this is one of its own with another kind.
    pub(crate) fn event(kind: EventKind) -> Event {
        let vms = vec![([127, 0, 0, 1], 1).into()];
        let config = Config { vm_listen: vms, ..Config::default() };
        let mut engine = Concentrator::new(Arc::new(config), [1; 32], Instant::ZERO);
        loop {
            match engine.poll_output().expect("an event") {
                Output::Listen(id, address) => engine.handle_listening(id, Ok(address), Instant::ZERO),
                Output::Event(mut event) => {
                    (event.kind, event.console) = (kind, Some(Arc::new(label())));
                    return event;
                }
                _ => {}
            }
        }
    }
}
