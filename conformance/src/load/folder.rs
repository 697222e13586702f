//! A folder of a run's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

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
