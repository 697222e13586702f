//! What is here of a file that is being copied out of a guest: a file beside its target, whose name has the
//! tag by which the guest tells states of the file apart.
//!
//! Owns its name, when it is used again, and that it takes the target's place only as a whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use vspc_guest::copy::digits;

use super::PIECE;
use crate::failure::Failure;

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
    sum: Context,
}

impl Spot {
    /// The place that a path names, through links.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::error(format!("{}: {error}", path.display()));
        let path = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => path.canonicalize().map_err(failed)?,
            Ok(_) => {
                let hint = "is no file; the standard output is written -";
                return Err(Failure::error(format!("{} {hint}", path.display())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(error)),
        };
        let Some(name) = path.file_name() else {
            return Err(Failure::usage(format!("{} names no file", path.display())));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        Ok(Self { name: name.to_owned(), folder })
    }

    /// What is there of it from an earlier time.
    pub(super) fn part(&self) -> Result<Option<Part>, Failure> {
        let Some((path, tag)) = self.parts().pop() else { return Ok(None) };
        let failed = |error: io::Error| Failure::error(format!("{}: {error}", path.display()));
        let mut file = options().open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // Whoever else can write to it could change it behind the checksum.
        if !metadata.is_file()
            || metadata.uid() != rustix::process::geteuid().as_raw()
            || metadata.nlink() != 1
        {
            return Ok(None);
        }
        lock(&file, self)?;
        let (mut sum, mut at, mut piece) = (Context::new(&SHA256), 0, vec![0; PIECE]);
        loop {
            let n = file.read(&mut piece).map_err(failed)?;
            if n == 0 {
                break;
            }
            sum.update(&piece[..n]);
            at += n as u64;
        }
        Ok(Some(Part { path, file, tag, at, sum }))
    }

    /// A new one, of this state of the guest's file; what is there of others goes.
    pub(super) fn begin(&self, tag: &str) -> Result<Part, Failure> {
        for (path, _) in self.parts() {
            let _ = fs::remove_file(path);
        }
        let path = self.folder.join(part_name(&self.name, tag));
        let failed = |error: io::Error| Failure::error(format!("{}: {error}", path.display()));
        let file = options().create_new(true).mode(0o600).open(&path).map_err(failed)?;
        lock(&file, self)?;
        Ok(Part { path, file, tag: tag.to_owned(), at: 0, sum: Context::new(&SHA256) })
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
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error| Failure::error(format!("{}: {error}", self.path.display()));
        self.file.write_all(bytes).map_err(failed)?;
        self.sum.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The checksum of what there is.
    pub(super) fn sum(&self) -> String {
        digits(self.sum.clone().finish().as_ref())
    }

    /// It is of no use.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// It is whole: it takes its place, once it is on the disk.
    pub(super) fn finish(self, spot: &Spot, mode: u32) -> Result<(), Failure> {
        let to = spot.path();
        let put = || {
            self.file.set_permissions(Permissions::from_mode(mode))?;
            self.file.sync_all()?;
            fs::rename(&self.path, &to)
        };
        put().map_err(|error| Failure::error(format!("{}: {error}", to.display())))
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.read(true).write(true).custom_flags(flags);
    options
}

fn lock(file: &File, spot: &Spot) -> Result<(), Failure> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Failure::error(format!("{} is being copied already", spot.path().display())))
}

/// What it is called.
fn part_name(name: &OsStr, tag: &str) -> OsString {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    // A tag that cannot be part of a name is known until this program ends.
    let tag = if tag.len() <= MAX_TAG && tag.bytes().all(is_plain) { tag } else { "" };
    let name = name.as_bytes();
    let name = &name[..name.len().min(MAX_NAME)];
    OsString::from_vec([b".", name, b".", tag.as_bytes(), SUFFIX].concat())
}

/// The tag of one that belongs to this name.
fn tag_of(part: &OsStr, name: &OsStr) -> Option<String> {
    let name = name.as_bytes();
    let rest = part.as_bytes().strip_prefix(b".")?.strip_prefix(&name[..name.len().min(MAX_NAME)])?;
    let tag = rest.strip_prefix(b".")?.strip_suffix(SUFFIX)?;
    String::from_utf8(tag.to_vec()).ok()
}

/// Permissions that the user's new files do not have.
pub(super) fn umask() -> u32 {
    // It can only be read by setting it; nothing else makes files meanwhile.
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.bits() & 0o777
}

/// How such names end.
const SUFFIX: &[u8] = b".vspc-part";
/// Of a name that has 255 bytes at most.
const MAX_NAME: usize = 150;
const MAX_TAG: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parts_name_has_the_tag_and_belongs_to_one_file() {
        let name = OsStr::new("x.tar");
        let part = part_name(name, "1f-3e8-65.0");
        assert_eq!(part, ".x.tar.1f-3e8-65.0.vspc-part");
        assert_eq!(tag_of(&part, name).as_deref(), Some("1f-3e8-65.0"));
        assert_eq!(tag_of(&part, OsStr::new("y.tar")), None);
        assert_eq!(tag_of(OsStr::new("x.tar"), name), None);
        assert_eq!(part_name(name, "../../etc/x"), ".x.tar..vspc-part");
        let long = "\u{e4}".repeat(120);
        assert!(part_name(OsStr::new(&long), &"t".repeat(90)).len() <= 255);
    }
}
