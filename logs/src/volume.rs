//! The files that one log consists of: the one that is written to, and older ones, some of them compressed.
//!
//! **Owns** their names and their order: `web01.log` comes after `web01.log.1`, that after `web01.log.2.gz`,
//! and all of those after `web01.log-20261129.gz`, logrotate's other way. **Refuses to know** what is in
//! them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;

use crate::date;
use crate::marks::Mark;

/// One file of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Where it was found.
    pub path: PathBuf,
    /// Its inode, by which it is known when it has another name.
    pub inode: u64,
    /// How many bytes it has, compressed or not.
    pub len: u64,
    /// When it was written to last, in milliseconds since 1970.
    pub written: u64,
    /// It is compressed.
    pub is_packed: bool,
    /// The inode that it had when it was written to, if that is known.
    pub origin: Option<u64>,
    /// What is known of when it was printed.
    pub marks: Vec<Mark>,
}

/// A volume that is being read, uncompressed.
#[derive(Debug)]
pub struct Opened(Kind);

#[derive(Debug)]
enum Kind {
    Plain(File),
    Packed(Box<MultiGzDecoder<BufReader<File>>>),
}

impl Volume {
    fn of(path: PathBuf, metadata: &Metadata) -> Self {
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        Self {
            path,
            inode: metadata.ino(),
            len: metadata.len(),
            written: metadata.modified().map_or(0, date::millis),
            is_packed,
            origin: (!is_packed).then(|| metadata.ino()),
            marks: Vec::new(),
        }
    }

    /// Opens it, be it that it was renamed since it was found.
    ///
    /// # Errors
    ///
    /// It is gone, or cannot be read.
    pub fn open(&self) -> io::Result<Opened> {
        let file = match open(&self.path) {
            Ok(file) if file.metadata()?.ino() == self.inode => file,
            _ => self.found_again()?,
        };
        Ok(Opened(match self.is_packed {
            true => Kind::Packed(Box::new(MultiGzDecoder::new(BufReader::new(file)))),
            false => Kind::Plain(file),
        }))
    }

    fn found_again(&self) -> io::Result<File> {
        for entry in fs::read_dir(self.path.parent().unwrap_or(Path::new(".")))? {
            let entry = entry?;
            if entry.metadata().is_ok_and(|metadata| metadata.ino() == self.inode)
                && let Ok(file) = open(&entry.path())
            {
                return Ok(file);
            }
        }
        Err(ErrorKind::NotFound.into())
    }

    /// How many bytes a compressed file says that it has, modulo 2^32.
    fn unpacked_len(&self) -> Option<u32> {
        let mut file = open(&self.path).ok()?;
        let mut len = [0; 4];
        file.seek(SeekFrom::End(-4)).ok()?;
        file.read_exact(&mut len).ok()?;
        Some(u32::from_le_bytes(len))
    }

    fn fits(&self, marks: &[Mark]) -> bool {
        let last = marks.last().map_or(0, |mark| mark.offset);
        match self.is_packed {
            true => self.unpacked_len().is_none_or(|len| last <= u64::from(len) || last > u32::MAX.into()),
            false => marks.first().is_some_and(|mark| mark.file == self.inode) && last <= self.len,
        }
    }
}

impl Opened {
    /// Has the next byte that is read be the one at this offset.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.0 {
            Kind::Plain(file) => file.seek(SeekFrom::Start(offset)).map(drop),
            Kind::Packed(packed) => io::copy(&mut packed.take(offset), &mut io::sink()).map(drop),
        }
    }

    /// How many bytes the file has now; `None`: it is compressed, and complete.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub fn len_now(&self) -> io::Result<Option<u64>> {
        match &self.0 {
            Kind::Plain(file) => Ok(Some(file.metadata()?.len())),
            Kind::Packed(_) => Ok(None),
        }
    }
}

impl Read for Opened {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(file) => file.read(into),
            Kind::Packed(packed) => packed.read(into),
        }
    }
}

/// The files of a log, oldest first; the last is the one that is written to, if it is there.
///
/// # Errors
///
/// The directory cannot be read.
pub fn volumes(log: &Path) -> io::Result<Vec<Volume>> {
    let entries = fs::read_dir(log.parent().unwrap_or(Path::new(".")))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(volumes_among(log, names.collect::<io::Result<Vec<_>>>()?))
}

/// The same where it is known which files there are in the log's directory. Costs a look at each of the log's
/// own.
pub fn volumes_among(log: &Path, names: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Volume> {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let mut found = Vec::new();
    for file in names {
        let Some(age) = age(&name, file.as_ref()) else { continue };
        let path = log.with_file_name(file.as_ref());
        // It may have been removed meanwhile; what is no file is nobody's log.
        if let Ok(metadata) = fs::symlink_metadata(&path)
            && metadata.is_file()
        {
            found.push((age, Volume::of(path, &metadata)));
        }
    }
    found.sort_by(|(age, _), (other, _)| age.cmp(other));
    // One that is being compressed is there twice for a moment.
    found.dedup_by(|(age, _), (other, _)| age == other);
    found.into_iter().map(|(_, volume)| volume).collect()
}

/// Gives volumes the marks that were made while they were written.
pub fn assign(volumes: &mut [Volume], marks: &[Mark]) {
    let mut files = crate::marks::files(marks);
    for volume in volumes.iter_mut().rev() {
        // A file keeps its inode until it is compressed, and others may have it after that: what is known of
        // newer files is out of question.
        let at = match volume.is_packed {
            true => files.len().checked_sub(1),
            false => files.iter().rposition(|marks| marks[0].file == volume.inode),
        };
        let Some(at) = at.filter(|&at| volume.fits(files[at])) else { continue };
        volume.origin = Some(files[at][0].file);
        volume.marks = files[at].to_vec();
        files.truncate(at);
    }
}

/// Opens a regular file; no link is followed, and nothing that hangs is waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(ErrorKind::InvalidInput.into()),
    }
}

/// How old a file of a log is among the others; `None`: it is none of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Age {
    Dated(String),
    Numbered(std::cmp::Reverse<u64>),
    Current,
}

fn age(log: &str, file: &str) -> Option<Age> {
    let rest = file.strip_prefix(log)?;
    if rest.is_empty() {
        return Some(Age::Current);
    }
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(number) = rest.strip_prefix('.') {
        return is_number(number)
            .then(|| number.parse().ok().map(|n| Age::Numbered(std::cmp::Reverse(n))))?;
    }
    let date = rest.strip_prefix('-')?;
    let is_date = date.len() >= 8 && date.split('-').all(is_number);
    is_date.then(|| Age::Dated(date.to_owned()))
}

/// Whether a name is that of an older file of a log.
#[must_use]
pub fn is_older(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.rsplit_once('.').is_some_and(|(log, number)| {
        !log.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_log_are_known_by_their_names_and_come_oldest_first() {
        let mut names = [
            "web01.log",
            "web01.log.0",
            "web01.log.2.gz",
            "web01.log.10",
            "web01.log-20261129",
            "web01.log-20261128-1796000000.gz",
        ];
        names.sort_by_cached_key(|name| age("web01.log", name).unwrap());
        assert_eq!(
            names,
            [
                "web01.log-20261128-1796000000.gz",
                "web01.log-20261129",
                "web01.log.10",
                "web01.log.2.gz",
                "web01.log.0",
                "web01.log",
            ]
        );
        for name in ["web01.log.new", "web01.log.1.gz.new", "web01.log-x", "web01.log.", "web011.log", "x"] {
            assert_eq!(age("web01.log", name), None, "{name}");
        }
    }

    #[test]
    fn only_older_files_are_taken_for_those() {
        for (name, is) in [
            ("web01.log.1", true),
            ("web01.log.12.gz", true),
            ("web01.log", false),
            ("web01.log.gz", false),
            ("0123", false),
            (".1", false),
        ] {
            assert_eq!(is_older(name), is, "{name}");
        }
    }
}
