//! A folder of a run's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, process, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::LoadError;

/// A folder that goes with its run.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// In `parent`, or where the system keeps what is temporary.
    pub(super) fn new(name: &str, parent: Option<&Path>) -> Result<Self, LoadError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("vspc-load-{name}-{}-{number}", process::id()));
        fs::create_dir(&path)
            .map_err(|error| LoadError::Usage(format!("cannot make {}: {error}", path.display())))?;
        Ok(Self(path))
    }

    /// It goes also when the run is ended by a signal.
    pub(super) fn go_on_signals(&self) -> Result<(), LoadError> {
        let fault = |error: io::Error| LoadError::Usage(format!("signals: {error}"));
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(fault)?;
        let path = self.0.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                let _ = fs::remove_dir_all(&path);
                let _ = emulate_default_handler(signal);
            }
        });
        Ok(())
    }

    /// Where something in it is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where it is.
    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
