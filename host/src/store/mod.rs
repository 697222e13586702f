//! State that outlives the server: which client port is whose, and what is known of VMs (state.md).
//!
//! **Owns** the seam between the engine and whatever keeps its state: a thread that the loop tells of
//! changes, and a backend that this thread writes to. **Refuses to know** what a console is for. What the
//! thread does may take as long as it likes; the loop never waits for it.
//!
//! ```text
//! Output::Changed ─▶ Mirror ── what a console is now ─▶ [ Keeper ] ─▶ Backend (file, redis)
//!   restore, kept ◀────────────── Command::Kept ◀───────────┘
//! ```

mod file;
mod keeper;
mod mirror;
mod options;
mod record;
mod redis;
mod redis_look;
mod redis_scripts;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;
use vspc_core::concentrator::Concentrator;
use vspc_core::time::Instant;

pub use file::FileError;
pub(crate) use file::look as look_at_file;
pub use mirror::Mirror;
pub(crate) use options::{BackendArg, StoreOptions, without_password};
pub use redis::RedisError;
pub(crate) use redis_look::{RedisTrouble, look as look_at_redis};

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::options::Options;
use crate::reload;
use file::StateFile;
use keeper::Keeper;
use mirror::Room;
use record::Record;
use redis::Redis;

/// What keeps state.
trait Backend: Send + 'static {
    /// Keeps these records and no others. Once this returns `Ok` they survive whatever happens to the
    /// process; until then those survive that were kept before. May take as long as it takes.
    fn keep(&mut self, records: &[&Record]) -> io::Result<()>;

    /// How often there is something to do that no change asks for.
    fn tend_every(&self) -> Option<Duration> {
        None
    }

    /// Does that. False: what was kept is there no more, and is to be written again.
    fn tend(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    /// Which ports the loop may give out from now on, where that has changed.
    fn take_grant(&mut self) -> Option<Grant> {
        None
    }

    /// The server has ended in order.
    fn close(&mut self) {}
}

/// What a backend has at the start.
#[derive(Debug, Default)]
struct Opened {
    /// What was kept.
    kept: Vec<Record>,
    /// The ports that may be given out, where others may have the rest.
    grant: Option<Grant>,
}

/// Blocks of client ports that are this server's to give out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// These are from now on.
    granted: Vec<u8>,
    /// These are not any more.
    lost: Vec<u8>,
    /// More may be.
    may_grow: bool,
}

impl Grant {
    /// Tells the engine.
    pub(crate) fn take_effect(&self, engine: &mut Concentrator, now: Instant) {
        for &block in &self.lost {
            engine.revoke_ports(block, now);
        }
        engine.grant_ports(&self.granted, self.may_grow, now);
    }
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
pub(crate) fn open(options: &Options, commands: Sender) -> Result<(Mirror, Ending), Fatal> {
    let store = &options.store;
    match (store.backend, &store.file, &store.redis_url) {
        (BackendArg::File, Some(path), _) => open_file(path, commands),
        (BackendArg::Redis, _, Some(url)) => open_redis(options, url, commands),
        _ => Ok((Mirror::default(), Ending::default())),
    }
}

fn open_file(path: &Path, commands: Sender) -> Result<(Mirror, Ending), Fatal> {
    // Where the size of files is limited, a write is to fail and not to end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Fatal::System("set up signals", error))?;
    let patience = reload::PATIENCE;
    let opened = reload::within(patience, {
        let path = path.to_owned();
        move || StateFile::open(&path)
    });
    let unanswered = || Fatal::StateUnanswered { path: path.to_owned(), patience };
    let (backend, kept) = opened.ok_or_else(unanswered)?.map_err(Fatal::State)?;
    log::info!("state is kept in {}", path.display());
    start(backend, Opened { kept, grant: None }, commands)
}

fn open_redis(options: &Options, url: &str, commands: Sender) -> Result<(Mirror, Ending), Fatal> {
    let settings = options.store.redis_settings(options, url).map_err(Fatal::Redis)?;
    let place = settings.place();
    let (backend, opened) = Redis::open(settings).map_err(Fatal::Redis)?;
    log::info!("state is kept in Redis, {place}");
    start(backend, opened, commands)
}

fn start(backend: impl Backend, opened: Opened, commands: Sender) -> Result<(Mirror, Ending), Fatal> {
    let (messages, received) = channel();
    let room = Arc::new(Room {
        free: AtomicUsize::new(QUEUE),
        is_wanted: AtomicBool::new(false),
        is_refresh_due: AtomicBool::new(false),
    });
    let (ended, ends) = channel::<()>();
    let keeper = Keeper::new(backend, received, Arc::clone(&room), commands);
    let run = move || {
        keeper.run();
        drop(ended);
    };
    let thread = thread::Builder::new().name("store".to_owned());
    thread.spawn(run).map_err(|error| Fatal::System("start the store's thread", error))?;
    Ok((Mirror::new(messages, room, opened), Ending(Some(ends))))
}

/// How many changes may wait for the thread, some hundred bytes each: a fleet that connects at one moment
/// fills it, and is told of as the thread comes to it.
const QUEUE: usize = 1024;

#[cfg(test)]
mod tests;
