//! A copy into a guest (APPLICATION §4, `put`).
//!
//! Owns where its bytes come from: all of them are summed before the first leaves, so that the guest knows
//! what it gets, and goes on with what it has of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::digest::{Context, SHA256};
use vspc_guest::copy::{PutOk, Whole, digits};
use vspc_guest::{Code as Word, Header, LineBuffer, MAX_BLOCK, MAX_LINE, Pack, Put, answer};

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
    sha256: String,
}

impl Source {
    /// Reads all of it. Nowhere: the standard input, which is kept in a file without a name until it was
    /// sent.
    pub(super) fn open(from: Option<&Path>, preserve: bool) -> Result<Self, Failure> {
        let name = from.map_or("the standard input".to_owned(), shown);
        let failed = |error: io::Error| Failure::error(format!("{name}: {error}"));
        let (mut file, mode) = match from {
            // It has no permissions that could be kept.
            None => (keep(&mut io::stdin().lock()).map_err(failed)?, 0o666 & !umask()),
            Some(path) => {
                let mut file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                if metadata.is_dir() {
                    let hint = "only files are copied; all of it: tar c FOLDER | vspc exec NAME -- tar x";
                    return Err(Failure::error(format!("{name} is a folder: {hint}")));
                }
                let mode = metadata.permissions().mode() & 0o777;
                // A pipe has no size, and is read once.
                let kept = (!metadata.is_file()).then(|| keep(&mut file)).transpose().map_err(failed)?;
                (kept.unwrap_or(file), if preserve { mode } else { mode & !umask() })
            }
        };
        let (size, sha256) = sum(&mut file).map_err(failed)?;
        Ok(Self { name, file, size, mode, sha256 })
    }

    /// Tries once to copy it.
    pub(super) fn attempt(
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
        let PutOk { offset, pack } = super::answer(connection, joined)?;
        let failed = |name: &str, error: io::Error| Failure::error(format!("{name}: {error}"));
        self.file.seek(SeekFrom::Start(offset)).map_err(|error| failed(&self.name, error))?;
        progress.begin(offset, self.size);
        let (mut at, mut line) = (offset, LineBuffer::new(MAX_LINE));
        let (mut piece, mut block) = (vec![0; if pack.is_some() { MAX_BLOCK } else { PIECE }], Vec::new());
        loop {
            turn(connection, joined)?;
            let mut is_all = at >= self.size;
            while joined.waiting() < PIECE && !is_all {
                let most = usize::try_from(self.size - at).unwrap_or(PIECE).min(piece.len());
                let n = self.file.read(&mut piece[..most]).map_err(|error| failed(&self.name, error))?;
                if n == 0 {
                    return Err(Failure::error(format!("{} became shorter meanwhile", self.name)).into());
                }
                match pack {
                    None => joined.say(&piece[..n]),
                    Some(Pack::Lz4) => {
                        block.clear();
                        vspc_guest::pack(&piece[..n], &mut block);
                        joined.say(&block);
                    }
                }
                at += n as u64;
                is_all = at >= self.size;
                joined.push(connection);
            }
            if is_all {
                joined.finish();
            }
            joined.push(connection);
            let left = at.saturating_sub(joined.waiting() as u64);
            // What has left may not have arrived: where it goes on will tell.
            progress.reach(left.saturating_sub(UNDER_WAY));
            progress.at(left);
            joined.hear(connection, |bytes| line.take(bytes));
            if let Some(last) = line.line() {
                return self.judge(last, offset > 0);
            }
            if joined.has_heard_all() {
                return Err(Stop::Trouble(Trouble::Reset));
            }
            connection.wait(clock::now() + IDLE);
        }
    }

    /// The guest's last word.
    fn judge(&self, last: Result<&[u8], vspc_guest::Refusal>, resumed: bool) -> Result<(), Stop> {
        match last.and_then(answer::parse::<Whole>) {
            Ok(whole) if whole.size == self.size && whole.sha256 == self.sha256 => Ok(()),
            Ok(_) => Err(Failure::error(format!("{}: the guest has another file now", self.name)).into()),
            Err(refusal) if refusal.code == Word::CHECKSUM && resumed => Err(Stop::Anew),
            Err(refusal) if refusal.code == Word::CHECKSUM => {
                Err(Failure::error(format!("{} has changed while it was copied", self.name)).into())
            }
            Err(refusal) => Err(Stop::Trouble(Trouble::Guest(refusal))),
        }
    }
}

/// More than the streams between here and the guest hold.
const UNDER_WAY: u64 = 4 * 1024 * 1024;

/// The size, and the checksum.
fn sum(file: &mut File) -> io::Result<(u64, String)> {
    file.rewind()?;
    let (mut sum, mut size, mut piece) = (Context::new(&SHA256), 0, vec![0; PIECE]);
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            return Ok((size, digits(sum.finish().as_ref())));
        }
        sum.update(&piece[..n]);
        size += n as u64;
    }
}

/// Puts what comes once into a file that nobody else sees.
fn keep(from: &mut impl Read) -> io::Result<File> {
    let key = guest::key().map_err(|failure| io::Error::other(failure.message))?;
    let path = std::env::temp_dir().join(format!(".vspc-{}", String::from(key)));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    io::copy(from, &mut file)?;
    Ok(file)
}
