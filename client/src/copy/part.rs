//! What is here of a file that is being copied out of a guest: a file beside its target, whose name has the
//! tag by which the guest tells states of the file apart.
//!
//! Owns its name, when it is used again, and that it takes the target's place only as a whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use vspc_guest::{Checksum, Sum, Summer, digits};

use super::PIECE;
use crate::failure::Failure;
use crate::printable::shown;

/// The place of a file.
#[derive(Debug)]
pub(super) struct Spot {
    folder: PathBuf,
    name: OsString,
}

/// The beginning of a file.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    /// Of which state of the guest's file it is.
    pub(super) tag: String,
    /// How much there is.
    pub(super) at: u64,
    sum: Summer,
}

impl Spot {
    /// The place that a path names, through links.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::error(format!("{}: {error}", shown(path)));
        let path = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => path.canonicalize().map_err(failed)?,
            Ok(_) => {
                let hint = "is no file; the standard output is written -";
                return Err(Failure::error(format!("{} {hint}", shown(path))));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(error)),
        };
        let Some(name) = path.file_name() else {
            return Err(Failure::usage(format!("{} names no file", shown(&path))));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { name: name.to_owned(), folder })
    }

    /// What is there of it from an earlier time.
    pub(super) fn part(&self) -> Result<Option<Part>, Failure> {
        let Some((path, tag)) = self.parts().pop() else { return Ok(None) };
        let failed = |error: io::Error| Failure::error(format!("{}: {error}", shown(&path)));
        let mut file = options().open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // Whoever else can write to it could change it behind the checksum.
        if !metadata.is_file()
            || metadata.uid() != rustix::process::geteuid().as_raw()
            || metadata.nlink() != 1
        {
            return Ok(None);
        }
        lock(&file, &path, self)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Some(Part { path, file, tag, at: metadata.len(), sum: Summer::new(Sum::Blake3) }))
    }

    /// A new one, of this state of the guest's file; what is there of others goes, unless another copy is
    /// writing it.
    pub(super) fn begin(&self, tag: &str) -> Result<Part, Failure> {
        for (path, _) in self.parts() {
            self.remove(&path)?;
        }
        let path = self.folder.join(part_name(&self.name, tag));
        let file = match options().create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(self.is_busy()),
            Err(error) => return Err(Failure::error(format!("{}: {error}", shown(&path)))),
        };
        lock(&file, &path, self)?;
        Ok(Part { path, file, tag: tag.to_owned(), at: 0, sum: Summer::new(Sum::Blake3) })
    }

    /// Removes one, while its lock is held: who has it open afterwards finds that the path is another's.
    fn remove(&self, path: &Path) -> Result<(), Failure> {
        match options().open(path) {
            Ok(file) => {
                lock(&file, path, self)?;
                let _ = fs::remove_file(path);
            }
            // A link is no part that a copy writes to.
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                let _ = fs::remove_file(path);
            }
            // It is another user's, or has gone.
            Err(_) => {}
        }
        Ok(())
    }

    fn is_busy(&self) -> Failure {
        Failure::error(format!("{} is being copied already", shown(&self.path())))
    }

    /// Those that are there, with their tags; the one written to last is the last.
    fn parts(&self) -> Vec<(PathBuf, String)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut parts: Vec<_> = entries
            .filter_map(|entry| {
                let tag = tag_of(&entry.file_name(), &self.name)?;
                Some((entry.metadata().ok()?.modified().ok(), entry.path(), tag))
            })
            .collect();
        parts.sort();
        parts.into_iter().map(|(_, path, tag)| (path, tag)).collect()
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }
}

impl Part {
    /// Sums what there is and was not summed yet, in this way; some of it. Whether that was all.
    pub(super) fn sum_up(&mut self, sum: Sum) -> Result<bool, Failure> {
        if self.sum.sum() != sum {
            self.sum = Summer::new(sum);
        }
        let mut piece = vec![0; PIECE];
        for _ in 0..PIECES {
            let n = usize::try_from(self.at - self.sum.at()).unwrap_or(PIECE).min(PIECE);
            if n == 0 {
                break;
            }
            let failed = |error| Failure::error(format!("{}: {error}", shown(&self.path)));
            self.file.read_exact_at(&mut piece[..n], self.sum.at()).map_err(failed)?;
            self.sum.take(&piece[..n]);
        }
        Ok(self.sum.at() == self.at)
    }

    /// Appends to what there is, all of which was summed.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error| Failure::error(format!("{}: {error}", shown(&self.path)));
        self.file.write_all(bytes).map_err(failed)?;
        self.sum.take(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The checksum of what there is.
    pub(super) fn checksum(&self) -> Checksum {
        self.sum.checksum()
    }

    /// It is of no use.
    pub(super) fn discard(self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// It is whole: it takes its place, once it is on the disk.
    pub(super) fn finish(self, spot: &Spot, mode: u32) -> Result<(), Failure> {
        let to = spot.path();
        // What another has put at its path may be a part still.
        if !is_at(&self.file, &self.path) {
            return Err(Failure::error(format!("{}: its part was taken away", shown(&to))));
        }
        let put = || {
            self.file.set_permissions(Permissions::from_mode(mode))?;
            self.file.sync_all()?;
            fs::rename(&self.path, &to)
        };
        put().map_err(|error| Failure::error(format!("{}: {error}", shown(&to))))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.read(true).write(true).custom_flags(flags);
    options
}

/// Takes a part for this copy alone. Before the lock was had the path may have become another file's, or
/// this file the target.
fn lock(file: &File, path: &Path, spot: &Spot) -> Result<(), Failure> {
    let is_ours = flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() && is_at(file, path);
    if is_ours { Ok(()) } else { Err(spot.is_busy()) }
}

/// Whether the path still is this file's.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// What it is called: a checksum of the file's name comes first, for the name alone would be the beginning
/// of others' as well, and is not all there if it is long.
fn part_name(name: &OsStr, tag: &str) -> OsString {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // A tag that cannot be part of a name is known until this program ends.
    let tag = if tag.len() <= MAX_TAG && tag.bytes().all(is_plain) { tag } else { "" };
    let (before, after) = around(name);
    OsString::from_vec([&before, tag.as_bytes(), &after].concat())
}

/// The tag of one that belongs to this name.
fn tag_of(part: &OsStr, name: &OsStr) -> Option<String> {
    let (before, after) = around(name);
    let tag = part.as_bytes().strip_prefix(&before[..])?.strip_suffix(&after[..])?;
    String::from_utf8(tag.to_vec()).ok()
}

/// What stands before the tag and behind it.
fn around(name: &OsStr) -> (Vec<u8>, Vec<u8>) {
    let name = name.as_bytes();
    let sum = digits(&digest(&SHA256, name).as_ref()[..8]);
    let before = [b".", sum.as_bytes(), b"."].concat();
    (before, [b".", &name[..name.len().min(MAX_NAME)], SUFFIX].concat())
}

/// Permissions that the user's new files do not have.
pub(super) fn umask() -> u32 {
    // It can only be read by setting it; nothing else makes files meanwhile.
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.bits() & 0o777
}

/// Pieces that are summed at a time: 16 MiB.
const PIECES: usize = 256;
/// How such names end.
const SUFFIX: &[u8] = b".vspc-part";
/// Of a name that has 255 bytes at most.
const MAX_NAME: usize = 130;
const MAX_TAG: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parts_name_has_the_tag_and_belongs_to_one_file() {
        let name = OsStr::new("x.tar");
        let part = part_name(name, "1f-3e8-65.0");
        assert!(part.to_str().unwrap().ends_with(".1f-3e8-65.0.x.tar.vspc-part"), "{part:?}");
        assert_eq!(tag_of(&part, name).as_deref(), Some("1f-3e8-65.0"));
        for other in ["y.tar", "x", "tar"] {
            assert_eq!(tag_of(&part, OsStr::new(other)), None, "{other}");
            assert_eq!(tag_of(&part_name(OsStr::new(other), "1"), name), None, "{other}");
        }
        assert_eq!(tag_of(OsStr::new("x.tar"), name), None);
        assert_eq!(tag_of(&part_name(name, "../../etc/x"), name).as_deref(), Some(""));
        let long = "\u{e4}".repeat(120);
        let part = part_name(OsStr::new(&long), &"t".repeat(90));
        assert!(part.len() <= 255);
        assert_eq!(tag_of(&part, OsStr::new(&format!("{long}\u{e4}"))), None);
    }

    #[test]
    fn a_part_that_another_copy_writes_is_left_alone_and_only_the_own_one_takes_the_targets_place() {
        let folder = std::env::temp_dir().join(format!("vspc-part-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let target = folder.join("x");
        let (one, other) = (Spot::find(&target).unwrap(), Spot::find(&target).unwrap());
        let mut part = one.begin("1").unwrap();
        part.write(b"beginning, ").unwrap();
        for tag in ["1", "2"] {
            assert!(other.begin(tag).is_err_and(|failure| failure.message.contains("being copied already")));
        }
        assert!(other.part().is_err_and(|failure| failure.message.contains("being copied already")));
        part.write(b"end").unwrap();
        part.finish(&one, 0o600).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"beginning, end");
        // What has taken the path of a part meanwhile is not put in the target's place.
        let part = one.begin("3").unwrap();
        fs::remove_file(&part.path).unwrap();
        fs::write(&part.path, b"another").unwrap();
        assert!(part.finish(&one, 0o600).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"beginning, end");
        // Nobody writes what is left of it.
        drop(other.begin("4").unwrap());
        fs::remove_dir_all(&folder).unwrap();
    }
}
