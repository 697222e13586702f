//! Watches: patterns that are looked for in what consoles print (configuration.md §3).
//!
//! **Owns** the seam between the loop and the thread that looks. A watch is a witness of its consoles: it
//! holds nothing up and keeps nothing alive. The loop copies what the engine offers into a bounded queue and
//! never waits; what there is no room for stays in the journals, and what is lost there is counted and said.
//! **Refuses to know** who is told of what is found: it becomes an event like others.
//!
//! ```text
//! Output::Local ─▶ Watching ── Piece ─▶ [ Watcher ] ─▶ Plain ─▶ Pattern ─▶ Command::Seen ─▶ an event
//!                   ▲ ──────── room, a nudge ◀┘
//! ```

mod console;
mod pattern;
mod selector;
mod tap;
mod watch;
mod watcher;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use vspc_core::concentrator::ConsoleId;

pub(crate) use pattern::Pattern;
pub(crate) use selector::Selector;
pub use tap::Watching;
pub(crate) use watch::{MOST_WATCHES, Rate, Watch};

use crate::commands::Sender;
use watcher::Watcher;

/// A line that a watch has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Where.
    pub(crate) console: ConsoleId,
    /// The watch's name.
    pub(crate) watch: String,
    /// The beginning of the line.
    pub(crate) line: String,
    /// How many lines of the same were not told since the last, because they were too many.
    pub(crate) untold: u64,
}

/// Starts the thread, if there is something to watch for.
pub(crate) fn start(watches: &[Watch], commands: Sender) -> io::Result<Watching> {
    if watches.is_empty() {
        return Ok(Watching::default());
    }
    let watches: Arc<[Watch]> = watches.into();
    let (messages, received) = channel();
    let room = Arc::new(tap::room());
    let watching = Watching::new(Arc::clone(&watches), messages, Arc::clone(&room));
    let watcher = Watcher::new(watches, received, room, commands);
    thread::Builder::new().name("watches".to_owned()).spawn(move || watcher.run())?;
    Ok(watching)
}
