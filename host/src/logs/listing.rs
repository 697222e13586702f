//! What files there are in the log directory, looked at once for many that ask.
//!
//! **Owns** the names in each folder that was asked for, for a while: where a fleet comes at one moment, a
//! folder with a file for each is not read for each. **Refuses to know** whose they are.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::layout::Names;

#[derive(Debug)]
pub(super) struct Listing {
    dir: PathBuf,
    folders: HashMap<PathBuf, Names>,
    /// When the first of them was read.
    read_at: Option<Instant>,
}

impl Listing {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), folders: HashMap::new(), read_at: None }
    }

    /// The names in a folder, relative to the log directory. One that is not there has none.
    pub(super) fn names(&mut self, folder: &Path) -> Names {
        if self.read_at.is_some_and(|at| at.elapsed() >= KEPT_FOR) {
            self.forget();
        }
        self.read_at.get_or_insert_with(Instant::now);
        if let Some(names) = self.folders.get(folder) {
            return Arc::clone(names);
        }
        let entries = fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names = Arc::new(names.collect::<BTreeSet<_>>());
        self.folders.insert(folder.to_owned(), Arc::clone(&names));
        names
    }

    pub(super) fn forget(&mut self) {
        self.folders = HashMap::new();
        self.read_at = None;
    }
}

/// How long it is known what there is.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(10);
