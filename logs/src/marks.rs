//! The time index of one log: a small file of marks, which say what was printed when.
//!
//! **Owns** its format and its bound. A mark is 24 bytes, little-endian: the time in milliseconds since 1970
//! (6 bytes), how exact it is (1), a check (1), the inode of the log's file as it was written (8), and the
//! offset there (8). What is between a mark and the next was printed within 2^exactness milliseconds after
//! the mark's time. Marks are only added at the end; a file that would become too long keeps the newer marks
//! as they are and makes the older ones coarser. What does not check is passed over: an index that is gone or
//! broken costs times, and nothing else. **Refuses to know** what is in a log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// A time in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Milliseconds since 1970.
    pub time: u64,
    /// What follows was printed within 2^`exactness` milliseconds after that.
    pub exactness: u8,
    /// The inode of the file, as it was when it was written to.
    pub file: u64,
    /// How many bytes of that file come before.
    pub offset: u64,
}

impl Mark {
    /// The latest time at which what follows, up to the next mark, may have been printed.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.time.saturating_add(1 << self.exactness.min(MOST_COARSE))
    }

    fn encoded(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..6].copy_from_slice(&self.time.to_le_bytes()[..6]);
        bytes[6] = self.exactness;
        bytes[8..16].copy_from_slice(&self.file.to_le_bytes());
        bytes[16..].copy_from_slice(&self.offset.to_le_bytes());
        bytes[7] = check(&bytes);
        bytes
    }

    fn decoded(bytes: &[u8; SIZE]) -> Option<Self> {
        if bytes[7] != check(bytes) {
            return None;
        }
        let word = |range: Range<usize>| {
            bytes[range].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
        };
        Some(Self { time: word(0..6), exactness: bytes[6], file: word(8..16), offset: word(16..24) })
    }

    /// Whether it is of another file than the mark before it, or of the same that was emptied.
    fn begins_anew(&self, before: &Self) -> bool {
        // There is something between two marks of one file.
        self.file != before.file || self.offset <= before.offset
    }
}

/// Where the index of a log is.
#[must_use]
pub fn index_of(folder: &Path, log: &Path) -> PathBuf {
    let mut path = folder.join(log).into_os_string();
    path.push(ENDING);
    path.into()
}

/// Adds marks to an index, which is made if it is not there, with the folders on the way to it inside
/// `folder`. `mode`: its permissions, and with the right to search those of folders.
///
/// # Errors
///
/// It cannot be written.
pub fn append(folder: &Path, log: &Path, mode: u32, marks: &[Mark]) -> io::Result<()> {
    let path = index_of(folder, log);
    let opened = open(&path, mode);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            open(&path, mode)?
        }
        opened => opened?,
    };
    let len = file.metadata()?.len();
    // The last write was cut off.
    let whole = len - len % SIZE as u64;
    if whole < len {
        file.set_len(whole)?;
    }
    let bytes: Vec<u8> = marks.iter().flat_map(Mark::encoded).collect();
    file.write_all(&bytes)?;
    if whole as usize + bytes.len() > MOST * SIZE {
        rewrite(&path, mode, &thin(read(&mut file)?))?;
    }
    Ok(())
}

/// All marks of an index, in the order in which they were made. Of one that is not there, none.
#[must_use]
pub fn load(path: &Path) -> Vec<Mark> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let read = || read(&mut OpenOptions::new().read(true).custom_flags(flags()).open(path)?);
    if is_file { read().unwrap_or_default() } else { Vec::new() }
}

/// The marks of each file that the log has had, oldest first.
#[must_use]
pub fn files(marks: &[Mark]) -> Vec<&[Mark]> {
    marks.chunk_by(|before, mark| !mark.begins_anew(before)).collect()
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(mode).custom_flags(flags()).open(path)
}

fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

fn read(file: &mut File) -> io::Result<Vec<Mark>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(2 * (MOST * SIZE) as u64).read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks::<SIZE>().0.iter().filter_map(Mark::decoded).collect())
}

/// Puts marks in the place of all those that are there, at once.
fn rewrite(path: &Path, mode: u32, marks: &[Mark]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let bytes: Vec<u8> = marks.iter().flat_map(Mark::encoded).collect();
    let mut new = OpenOptions::new();
    let written = new
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(flags())
        .open(&unfinished)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // The first error is the one to tell of.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Half as many marks at most: the newest quarter as they are, the others as coarse as it takes.
fn thin(mut marks: Vec<Mark>) -> Vec<Mark> {
    let newest = marks.split_off(marks.len() - marks.len() / 4);
    let most = MOST / 4;
    let mut exactness = FINEST + 1;
    while marks.len() > most && exactness <= MOST_COARSE {
        marks = coarser(&marks, exactness);
        exactness += 1;
    }
    // So many files: the oldest have no times any more.
    let surplus = marks.len().saturating_sub(most);
    marks.drain(..surplus);
    marks.extend(newest);
    marks
}

fn coarser(marks: &[Mark], exactness: u8) -> Vec<Mark> {
    let mut kept: Vec<Mark> = Vec::new();
    for mark in marks {
        if let Some(last) = kept.last_mut()
            && !mark.begins_anew(last)
            && mark.time >= last.time
            && mark.latest() <= last.time + (1 << exactness)
        {
            last.exactness = exactness;
            continue;
        }
        kept.push(*mark);
    }
    kept
}

fn check(bytes: &[u8; SIZE]) -> u8 {
    let sum = bytes.iter().enumerate().filter(|(at, _)| *at != 7);
    sum.fold(0xa5, |sum: u8, (_, byte)| sum.rotate_left(1) ^ byte)
}

/// Marks are this exact when they are made, and so far apart: 128 ms, in which a replay looks like what it
/// replays.
pub const FINEST: u8 = 7;

/// What an index is called, behind the name of its log.
pub const ENDING: &str = ".times";

/// 35 years.
const MOST_COARSE: u8 = 40;

const SIZE: usize = 24;

/// Marks of one log at most: a MiB.
const MOST: usize = 43_690;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) struct Folder(pub(crate) PathBuf);

    impl Folder {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vspc-marks-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mark(time: u64, offset: u64) -> Mark {
        Mark { time, exactness: FINEST, file: 5, offset }
    }

    #[test]
    fn marks_are_read_as_they_were_added_and_what_is_damaged_is_passed_over() {
        let folder = Folder::new("damaged");
        let log = Path::new("a/web01.log");
        let marks: Vec<Mark> = (0..10).map(|n| mark(1_796_000_000_000 + n * 128, n * 100)).collect();
        append(&folder.0, log, 0o600, &marks[..4]).unwrap();
        append(&folder.0, log, 0o600, &marks[4..]).unwrap();
        let path = index_of(&folder.0, log);
        assert_eq!(load(&path), marks);
        let mut bytes = fs::read(&path).unwrap();
        bytes[3 * SIZE + 2] ^= 1;
        // And the last write was cut off.
        bytes.truncate(bytes.len() - 5);
        fs::write(&path, &bytes).unwrap();
        append(&folder.0, log, 0o600, &[mark(9_999_999_999_999, 5000)]).unwrap();
        let kept: Vec<u64> = load(&path).iter().map(|mark| mark.offset).collect();
        assert_eq!(kept, [0, 100, 200, 400, 500, 600, 700, 800, 5000]);
        fs::write(&path, b"this is no index, it is a letter to somebody").unwrap();
        assert_eq!(load(&path), []);
        assert_eq!(load(Path::new("/nonexistent")), []);
    }

    #[test]
    fn an_index_is_bounded_its_newest_times_are_exact_and_no_older_one_says_too_little() {
        let folder = Folder::new("bounded");
        let log = Path::new("busy");
        let marks: Vec<Mark> = (0..3 * MOST as u64).map(|n| mark(1_000_000 + n * 128, n * 10)).collect();
        for some in marks.chunks(997) {
            append(&folder.0, log, 0o600, some).unwrap();
            let len = fs::metadata(index_of(&folder.0, log)).unwrap().len();
            assert!(len <= (MOST * SIZE) as u64, "{len}");
        }
        let kept = load(&index_of(&folder.0, log));
        assert_eq!(kept.last(), marks.last());
        assert!(kept[kept.len() - 1000..] == marks[marks.len() - 1000..]);
        assert_eq!(kept[0].offset, 0);
        for (mark, next) in kept.iter().zip(&kept[1..]) {
            // What was printed last before the next mark, about which this one speaks.
            let last = &marks[(next.offset / 10 - 1) as usize];
            assert!(last.time >= mark.time && last.latest() <= mark.latest(), "{mark:?} before {next:?}");
        }
    }

    #[test]
    fn a_file_that_is_replaced_or_emptied_is_another_file() {
        let mut marks = vec![mark(1, 0), mark(2, 50), mark(3, 0)];
        marks.push(Mark { file: 6, ..mark(4, 0) });
        let files: Vec<usize> = files(&marks).iter().map(|marks| marks.len()).collect();
        assert_eq!(files, [2, 1, 1]);
    }
}
