//! A copy into a guest (APPLICATION §4, `put`).
//!
//! Owns where its bytes come from, and that they are of one state of the file: they are summed as they leave,
//! and the guest is told the sum behind them. A guest that has to know it before they come is an old one: for
//! it all of the file is read once more.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use vspc_guest::copy::{PutOk, Whole};
use vspc_guest::{
    Checksum, Code as Word, Header, LineBuffer, MAX_BLOCK, MAX_LINE, Pack, Put, Refusal, Sum, Summer, answer,
};

use super::part::umask;
use super::progress::Progress;
use super::{IDLE, PIECE, Stop, turn};
use crate::clock;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::guest::{self, Guest, Joined, Trouble};
use crate::printable::shown;

/// A file that is copied.
#[derive(Debug)]
pub(super) struct Source {
    /// For people.
    name: String,
    file: File,
    size: u64,
    mode: u32,
    /// Tells this state of the file from others.
    tag: String,
    /// Nobody else sees the file: it stays as it is.
    is_kept: bool,
    /// Of the bytes that were read so far.
    sum: Summer,
    /// What a guest has to know that takes no checksum behind the bytes.
    sha256: Option<String>,
}

impl Source {
    /// A file at this path. Nowhere: the standard input, which is kept in a file without a name until it was
    /// sent; so is what has no size before it was read.
    pub(super) fn open(from: Option<&Path>, preserve: bool) -> Result<Self, Failure> {
        let name = from.map_or("the standard input".to_owned(), shown);
        let failed = |error: io::Error| Failure::error(format!("{name}: {error}"));
        let (file, mode, kept) = match from {
            // It has no permissions that could be kept.
            None => {
                let (file, sum) = keep(&mut io::stdin().lock()).map_err(failed)?;
                (file, 0o666 & !umask(), Some(sum))
            }
            Some(path) => {
                let mut file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                if metadata.is_dir() {
                    let hint = "only files are copied; all of it: tar c FOLDER | vspc exec NAME -- tar x";
                    return Err(Failure::error(format!("{name} is a folder: {hint}")));
                }
                let mode = metadata.permissions().mode() & 0o777;
                let mode = if preserve { mode } else { mode & !umask() };
                // A pipe has no size and is read once; what the kernel makes up has another one than it says.
                if metadata.is_file() && metadata.len() > PIECE as u64 {
                    (file, mode, None)
                } else {
                    let (file, sum) = keep(&mut file).map_err(failed)?;
                    (file, mode, Some(sum))
                }
            }
        };
        let metadata = file.metadata().map_err(failed)?;
        let (size, is_kept) = (metadata.len(), kept.is_some());
        let tag =
            kept.as_ref().map_or_else(|| tag(&metadata), |sum| sum.checksum().digits()[..TAG].to_owned());
        let sum = kept.unwrap_or_else(|| Summer::new(Sum::Blake3));
        Ok(Self { name, file, size, mode, tag, is_kept, sum, sha256: None })
    }

    /// Tries once to copy it.
    pub(super) fn attempt(
        &mut self,
        connection: &mut Connection,
        guest: &Guest,
        path: &str,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let outcome = self.ask(connection, guest, path, progress);
        // A guest that knows no tag misses the checksum.
        if let Err(Stop::Trouble(Trouble::Guest(refusal))) = &outcome
            && refusal.code == Word::BAD_LINE
            && self.sha256.is_none()
        {
            let mut sum = Summer::new(Sum::Sha256);
            self.read_on(&mut sum, self.size)?;
            self.sha256 = Some(sum.checksum().digits().to_owned());
            return self.ask(connection, guest, path, progress);
        }
        outcome
    }

    fn ask(
        &mut self,
        connection: &mut Connection,
        guest: &Guest,
        path: &str,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let header = Header::Put(Put {
            path: path.to_owned(),
            size: self.size,
            mode: self.mode,
            sha256: self.sha256.clone(),
            tag: self.sha256.is_none().then(|| self.tag.clone()),
            sum: if self.sha256.is_some() { Sum::Sha256 } else { Sum::Blake3 },
            pack: Some(Pack::Lz4),
        });
        let mut joined = Joined::open(connection, guest, &header)?;
        let outcome = self.send(connection, &mut joined, progress);
        if outcome.is_err() {
            joined.leave(connection);
        }
        outcome
    }

    fn send(
        &mut self,
        connection: &mut Connection,
        joined: &mut Joined,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let PutOk { offset, pack, sum } = super::answer(connection, joined)?;
        let sums = self.sha256.is_none();
        if self.sum.sum() != sum {
            self.sum = Summer::new(sum);
        }
        progress.begin(offset, self.size);
        // What the guest has of it counts, too. It waits meanwhile, and is told of nothing else.
        while sums && self.sum.at() < offset.min(self.size) {
            self.sum_up_to(offset.min(self.size).min(self.sum.at() + AT_A_TIME))?;
            turn(connection, joined)?;
            connection.wait(clock::now());
        }
        let (mut at, mut line) = (offset, LineBuffer::new(MAX_LINE));
        let (mut piece, mut block) = (vec![0; if pack.is_some() { MAX_BLOCK } else { PIECE }], Vec::new());
        // Whether the file is what was summed, once all of it was read.
        let mut is_same = None;
        loop {
            turn(connection, joined)?;
            while joined.waiting() < PIECE && at < self.size {
                let n = usize::try_from(self.size - at).unwrap_or(PIECE).min(piece.len());
                let piece = &mut piece[..n];
                self.file.read_exact_at(piece, at).map_err(|error| self.failed(&error))?;
                if sums {
                    // An earlier attempt may have summed some of it.
                    let seen = usize::try_from(self.sum.at() - at).unwrap_or(n).min(n);
                    self.sum.take(&piece[seen..]);
                }
                match pack {
                    None => joined.say(piece),
                    Some(Pack::Lz4) => {
                        block.clear();
                        vspc_guest::pack(piece, &mut block);
                        joined.say(&block);
                    }
                }
                at += n as u64;
                joined.push(connection);
            }
            let left = at.saturating_sub(joined.waiting() as u64);
            if at >= self.size && is_same.is_none() {
                let same = !sums || self.is_as_it_was()?;
                if sums {
                    joined.say(&self.last_word(same));
                }
                is_same = Some(same);
                joined.finish();
            }
            joined.push(connection);
            // What has left may not have arrived: where it goes on will tell.
            progress.reach(left.saturating_sub(UNDER_WAY));
            progress.at(left);
            joined.hear(connection, |bytes| line.take(bytes));
            if let Some(last) = line.line() {
                if is_same == Some(false) {
                    return Err(self.has_changed());
                }
                return self.judge(last, offset > 0);
            }
            if joined.has_heard_all() {
                return Err(Stop::Trouble(Trouble::Reset));
            }
            connection.wait(clock::now() + IDLE);
        }
    }

    /// The line behind the bytes.
    fn last_word(&self, is_same: bool) -> Vec<u8> {
        if is_same {
            answer::done(&Whole { size: self.size, sum: self.sum.checksum() })
        } else {
            Refusal::new(Word::CHECKSUM, "it has changed while it was copied").line()
        }
    }

    /// Whether the file, all of which was read, is what was read. Where its times tell that it was written to
    /// it is read again: one that has only grown is not another one.
    fn is_as_it_was(&self) -> Result<bool, Failure> {
        let metadata = self.file.metadata().map_err(|error| self.failed(&error))?;
        if self.is_kept || tag(&metadata) == self.tag {
            return Ok(true);
        }
        let mut again = Summer::new(self.sum.sum());
        self.read_on(&mut again, self.size)?;
        Ok(again.checksum() == self.sum.checksum())
    }

    /// Sums what was not summed, up to there.
    fn sum_up_to(&mut self, end: u64) -> Result<(), Failure> {
        let mut sum = std::mem::replace(&mut self.sum, Summer::new(Sum::Blake3));
        let outcome = self.read_on(&mut sum, end);
        self.sum = sum;
        outcome
    }

    fn read_on(&self, sum: &mut Summer, end: u64) -> Result<(), Failure> {
        let mut piece = vec![0; PIECE];
        while sum.at() < end {
            let n = usize::try_from(end - sum.at()).unwrap_or(PIECE).min(PIECE);
            self.file.read_exact_at(&mut piece[..n], sum.at()).map_err(|error| self.failed(&error))?;
            sum.take(&piece[..n]);
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::error(format!("{} became shorter meanwhile", self.name)),
            _ => Failure::error(format!("{}: {error}", self.name)),
        }
    }

    fn has_changed(&self) -> Stop {
        Failure::error(format!("{} has changed while it was copied", self.name)).into()
    }

    /// The guest's last word.
    fn judge(&mut self, last: Result<&[u8], Refusal>, resumed: bool) -> Result<(), Stop> {
        let wanted = match &self.sha256 {
            Some(sha256) => Checksum::Sha256(sha256.clone()),
            None => self.sum.checksum(),
        };
        match last.and_then(answer::parse::<Whole>) {
            Ok(whole) if whole.size == self.size && whole.sum == wanted => Ok(()),
            Ok(_) => Err(Failure::error(format!("{}: the guest has another file now", self.name)).into()),
            Err(refusal) if refusal.code == Word::CHECKSUM && resumed => {
                self.sum = Summer::new(self.sum.sum());
                Err(Stop::Anew)
            }
            Err(refusal) if refusal.code == Word::CHECKSUM => Err(self.has_changed()),
            Err(refusal) => Err(Stop::Trouble(Trouble::Guest(refusal))),
        }
    }
}

/// More than the streams between here and the guest hold.
const UNDER_WAY: u64 = 4 * 1024 * 1024;

/// What is summed before the connection is looked after.
const AT_A_TIME: u64 = 16 * 1024 * 1024;
/// Digits of a tag.
const TAG: usize = 32;

/// Tells one state of a file from others.
fn tag(metadata: &Metadata) -> String {
    let (m, mut sum) = (metadata, Summer::new(Sum::Blake3));
    let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
    sum.take(format!("{} {} {} {times:?}", m.dev(), m.ino(), m.len()).as_bytes());
    sum.checksum().digits()[..TAG].to_owned()
}

/// Puts what comes once into a file that nobody else sees, and sums it.
fn keep(from: &mut impl Read) -> io::Result<(File, Summer)> {
    let key = guest::key().map_err(|failure| io::Error::other(failure.message))?;
    let path = std::env::temp_dir().join(format!(".vspc-{}", String::from(key)));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    let (mut sum, mut piece) = (Summer::new(Sum::Blake3), vec![0; PIECE]);
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok((file, sum)),
            Ok(n) => {
                file.write_all(&piece[..n])?;
                sum.take(&piece[..n]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
