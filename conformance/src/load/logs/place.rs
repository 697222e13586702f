//! Where logs are kept: a disk of memory of a certain size, which can be filled, or a directory.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;

use crate::load::LoadError;
use crate::load::folder::Folder;

/// A directory of a run's own, gone when dropped.
#[derive(Debug)]
pub(super) struct Place {
    folder: Folder,
    is_mounted: bool,
}

impl Place {
    /// On a disk of its own with so many bytes, if that can be made and no directory is named.
    pub(super) fn new(dir: Option<&Path>, size: u64) -> Result<Self, LoadError> {
        let folder = Folder::new("logs", dir)?;
        let is_mounted = dir.is_none() && {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.as_path());
            mount.output().is_ok_and(|output| output.status.success())
        };
        Ok(Self { folder, is_mounted })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.as_path()
    }

    /// Whether it can be filled without harm to others.
    pub(super) fn can_be_filled(&self) -> bool {
        self.is_mounted
    }

    /// Takes all room that is left.
    pub(super) fn fill(&self) -> Result<(), LoadError> {
        let failed = |error| LoadError::Usage(format!("cannot fill {}: {error}", self.path().display()));
        let mut file = File::create(self.folder.path(BALLAST)).map_err(failed)?;
        let block = vec![0; 1 << 20];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::WriteZero) => {
                    return Ok(());
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Gives it back.
    pub(super) fn free(&self) -> Result<(), LoadError> {
        let freed = fs::remove_file(self.folder.path(BALLAST));
        freed.map_err(|error| LoadError::Usage(format!("cannot free {}: {error}", self.path().display())))
    }

    /// What all files in it have.
    pub(super) fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.path()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_mounted {
            // What is open still keeps nobody from going on.
            let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
        }
    }
}

const BALLAST: &str = "ballast";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_its_own_is_filled_and_freed_and_gone() {
        let place = Place::new(None, 4 << 20).unwrap();
        if !place.can_be_filled() {
            println!("skipped: nothing can be mounted here");
            return;
        }
        fs::write(place.path().join("log"), "before").unwrap();
        place.fill().unwrap();
        assert!(fs::write(place.path().join("more"), "no room").is_err());
        place.free().unwrap();
        fs::write(place.path().join("more"), "room").unwrap();
        assert_eq!(place.bytes(), 10);
        let path = place.path().to_owned();
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_named_is_used_and_never_filled() {
        let dir = std::env::temp_dir();
        let place = Place::new(Some(&dir), 1).unwrap();
        assert!(place.path().starts_with(&dir) && !place.can_be_filled());
        let path = place.path().to_owned();
        drop(place);
        assert!(!path.exists());
    }
}
