//! Logs of consoles on disk: what each VM prints, in a file of its own (logs.md).
//!
//! **Owns** the seam between the loop and the thread that writes. A log is a witness of its console: it holds
//! nothing up and keeps nothing alive. The loop copies what the engine offers into a bounded queue and never
//! waits; what there is no room for stays in the journals, so a slow disk lags like a slow client, and the
//! file says how many bytes are missing where. **Refuses to know** what a VM prints.
//!
//! ```text
//! Output::Local ─▶ Logs ── Piece ─▶ [ Writer ] ─▶ Stream ─▶ Files ─▶ disk
//!                   ▲ ───── room, a nudge ◀┘
//! ```

mod buffers;
mod files;
mod index;
mod layout;
mod listing;
mod options;
mod readers;
mod reading;
mod restoring;
mod rotate;
mod stream;
mod tap;
mod writer;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, access};
use signal_hook::consts::SIGXFSZ;

pub(crate) use options::LogOptions;
pub use tap::Logs;

use crate::commands::Sender;
use crate::fatal::Fatal;
use crate::reload;
use buffers::Buffers;
use files::Files;
use layout::Layout;
use reading::Readings;
use rotate::Rotation;
use writer::{Threads, Writer};

/// What logs are to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    /// The directory that all of them are in.
    dir: PathBuf,
    layout: Layout,
    /// The permissions of a file that is made.
    mode: u32,
    /// How many files may be open at once.
    most_open: usize,
    /// Each line begins with the time.
    stamps: bool,
    rotation: Rotation,
    /// Where the times of what is printed are kept.
    index: Option<PathBuf>,
    /// How much consoles are given back of what they had printed before the start.
    restored: usize,
}

/// Waits for the thread to end.
#[derive(Debug, Default)]
pub(crate) struct Ending(Option<Receiver<()>>);

impl Ending {
    /// Waits until all is written, when the loop has ended; not for longer than that.
    pub(crate) fn wait(self, patience: Duration) {
        if let Some(ended) = self.0
            && ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout)
        {
            log::error!(
                "what consoles have printed last is not in their logs: the disk has not answered for {} \
                 seconds",
                patience.as_secs()
            );
        }
    }
}

/// Looks at the directory, and starts the thread.
pub(crate) fn open(settings: Option<Settings>, commands: Sender) -> Result<(Logs, Ending), Fatal> {
    let Some(settings) = settings else { return Ok((Logs::default(), Ending::default())) };
    // Where the size of files is limited, a write is to fail and not to end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
        .map_err(|error| Fatal::System("set up signals", error))?;
    let dir = settings.dir.clone();
    let checked = reload::within(reload::PATIENCE, move || check(&dir));
    checked
        .unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
        .map_err(|error| Fatal::LogDirectory(settings.dir.clone(), error))?;
    if let Some(index) = settings.index.clone() {
        let folder = index.clone();
        let made = reload::within(reload::PATIENCE, move || make(&folder));
        // The thread tells what becomes of it.
        if let Some(Err(error)) = made {
            log::warn!("{} cannot be made: {error}", index.display());
        }
    }
    let times = match &settings.index {
        Some(index) => format!("its times in {}", index.display()),
        None if settings.stamps => "with times".to_owned(),
        None => "without times, which vspc log --since would need (--log-index DIRECTORY)".to_owned(),
    };
    log::info!("what consoles print is logged in {}, {times}", settings.dir.display());
    start(settings, commands).map_err(|error| Fatal::System("start the logs' thread", error))
}

fn start(settings: Settings, commands: Sender) -> io::Result<(Logs, Ending)> {
    let (messages, received) = channel();
    let (room, buffers) = (Arc::new(tap::room()), Arc::<Buffers>::default());
    let (ended, ends) = channel::<()>();
    let files = Files::new(settings.dir.clone(), settings.mode, settings.most_open);
    let rotated = rotate::start(&settings.dir, &settings.rotation)?;
    let index = index::start(settings.index.as_deref(), settings.mode, &settings.dir)?;
    let settings = Arc::new(settings);
    let readings = Readings::new(Arc::clone(&settings), index.clone(), commands.clone());
    let restorer = restoring::start(&settings, commands.clone())?;
    let logs = Logs::new(messages, (Arc::clone(&room), Arc::clone(&buffers)), &settings, readings);
    let threads = Threads { rotated, index, restorer };
    let writer = Writer::new(files, &settings, threads, received, (room, buffers), commands);
    let run = move || {
        writer.run();
        drop(ended);
    };
    thread::Builder::new().name("logs".to_owned()).spawn(run)?;
    Ok((logs, Ending(Some(ends))))
}

/// The folder of an index is the server's own, in one that is there.
fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A directory that is not there is a mistake in the name more often than one to be made, and one that was
/// mounted is not to be replaced by a folder on another disk.
pub(crate) fn check(dir: &Path) -> io::Result<()> {
    if !File::open(dir)?.metadata()?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests;
