//! State that outlives the server: which client port is whose, and what is known of VMs (state.md).
//!
//! **Owns** the seam between the engine and whatever keeps its state: a thread that the loop tells of
//! changes, and a backend that this thread writes to. **Refuses to know** what a console is for. What the
//! thread does may take as long as it likes; the loop never waits for it.
//!
//! ```text
//! Output::Changed ─▶ Mirror ── what a console is now ─▶ [ Keeper ] ─▶ Backend (a file)
//!   restore, kept ◀────────────── Command::Kept ◀───────────┘
//! ```

mod date;
mod file;
mod keeper;
mod mirror;
mod options;
mod record;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;

pub use file::FileError;
pub use mirror::Mirror;
pub(crate) use options::StoreOptions;

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::reload;
use file::StateFile;
use keeper::Keeper;
use mirror::Room;
use options::BackendArg;
use record::Record;

/// What keeps state.
trait Backend: Send + 'static {
    /// Keeps these records and no others. Once this returns `Ok` they survive whatever happens to the
    /// process; until then those survive that were kept before. May take as long as it takes.
    fn keep(&mut self, records: &[&Record]) -> io::Result<()>;
}

/// Waits for a store's thread to end.
#[derive(Debug, Default)]
pub(crate) struct Ending(Option<Receiver<()>>);

impl Ending {
    /// Waits until all is kept, when the loop has ended; not for longer than that.
    pub(crate) fn wait(self, patience: Duration) {
        if let Some(ended) = self.0
            && ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout)
        {
            log::error!(
                "what has changed last is not kept: the disk has not answered for {} seconds",
                patience.as_secs()
            );
        }
    }
}

/// Opens the store that the options name, and starts its thread.
pub(crate) fn open(options: &StoreOptions, commands: Sender) -> Result<(Mirror, Ending), Fatal> {
    let path = match (options.backend, &options.file) {
        (BackendArg::File, Some(path)) => path.clone(),
        _ => return Ok((Mirror::default(), Ending::default())),
    };
    // Where the size of files is limited, a write is to fail and not to end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Fatal::System("set up signals", error))?;
    let opened = reload::within(reload::PATIENCE, {
        let path = path.clone();
        move || StateFile::open(&path)
    });
    let patience = reload::PATIENCE;
    let unanswered = || Fatal::StateUnanswered { path: path.clone(), patience };
    let (backend, kept) = opened.ok_or_else(unanswered)?.map_err(Fatal::State)?;
    log::info!("state is kept in {}", path.display());
    start(backend, kept, commands).map_err(|error| Fatal::System("start the store's thread", error))
}

fn start(backend: impl Backend, kept: Vec<Record>, commands: Sender) -> io::Result<(Mirror, Ending)> {
    let (messages, received) = channel();
    let room = Arc::new(Room {
        free: AtomicUsize::new(QUEUE),
        is_wanted: AtomicBool::new(false),
        is_refresh_due: AtomicBool::new(false),
    });
    let (ended, ends) = channel::<()>();
    let keeper = Keeper::new(backend, received, Arc::clone(&room), commands);
    thread::Builder::new().name("store".to_owned()).spawn(move || {
        keeper.run();
        drop(ended);
    })?;
    Ok((Mirror::new(messages, room, kept), Ending(Some(ends))))
}

/// How many changes may wait for the thread, some hundred bytes each: a fleet that connects at one moment
/// fills it, and is told of as the thread comes to it.
const QUEUE: usize = 1024;

#[cfg(test)]
mod tests;
