//! What happens, told to others: commands that are run for it, and whoever else wants to know (hooks.md).
//!
//! **Owns** the loop's end of it, and the form in which things are told. Each that is told has a thread and a
//! bounded queue of its own, so that one that hangs costs the others nothing; the loop waits for none.
//! **Refuses to know** what becomes of what is told.
//!
//! ```text
//! Output::Event, Output::Changed ─▶ Outlets ─▶ Tap ─▶ Inbox ─▶ entries ─▶ a command, a file, a socket, …
//! ```

mod ending;
mod entry;
mod facts;
mod inbox;
mod kind;
mod message;
mod options;
mod sink;
mod standing;
mod tally;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use signal_hook::consts::SIGXFSZ;

use vspc_core::concentrator::{Concentrator, ConsoleId, Event};

pub(crate) use ending::Ending;
pub(crate) use entry::{Entry, entries};
pub(crate) use facts::{foreign, variables};
pub(crate) use inbox::{Inbox, Message, Tap, Told, Wanted, pair};
pub(crate) use kind::Kind;
pub(crate) use options::{Destination, OutletOptions};
pub(crate) use standing::Standings;
pub(crate) use tally::Tally;

use crate::commands::Sender;
use crate::fatal::Fatal;
use writer::Writer;

/// The loop's end of all that is told to others; by default nobody is told anything.
#[derive(Debug, Default)]
pub struct Outlets {
    taps: Vec<Tap>,
    /// The server is closing its consoles.
    is_frozen: bool,
}

impl Outlets {
    /// Tells this one too. Of an engine that has been asked for outputs already it is told from here on: it
    /// knows how consoles stand, and hears of what changes. Costs a look at each console then.
    pub(crate) fn add(&mut self, tap: Tap, engine: Option<&Concentrator>) {
        if let Some(engine) = engine {
            tap.begin(engine);
        }
        self.taps.push(tap);
    }

    /// Tells those no more that are not among these.
    pub(crate) fn keep(&mut self, names: &[String]) {
        let mut names = names.to_vec();
        self.taps.retain(|tap| {
            let place = names.iter().position(|name| name == tap.name());
            place.map(|place| names.swap_remove(place)).is_some()
        });
    }

    /// Has files be opened anew.
    pub(crate) fn reopen(&self) {
        self.taps.iter().for_each(Tap::reopen);
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

/// Starts the thread for a place.
pub(crate) fn start(destination: &Destination, ending: &Ending, commands: &Sender) -> Result<Tap, Fatal> {
    if let Destination::File(_) = destination {
        keep_from_ending().map_err(|error| Fatal::System("set up signals", error))?;
    }
    let (tap, inbox) = pair(destination.to_string(), Wanted::Log, QUEUE, commands.clone());
    let writer = Writer::new(destination.clone(), inbox);
    ending.spawn("events", move || writer.run(PATIENCE))?;
    Ok(tap)
}

/// Where the size of files is limited, a write is to fail and not to end the process.
fn keep_from_ending() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

/// How many messages may wait for a thread, some hundred bytes each, a kilobyte once they are written.
pub(crate) const QUEUE: usize = 1024;

/// How long what waits is tried to be written when the loop has ended.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use vspc_core::concentrator::{
        Address, Concentrator, Config, Event, EventKind, Identity, Label, Output, Reservation,
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
        let vms = vec![Address::Ip(([127, 0, 0, 1], 1).into())];
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
