//! A copy out of a guest (APPLICATION §4, `get`).
//!
//! Owns where its bytes go: into a file beside the target until all of them are there, or to the standard
//! output.

use std::io::{self, Write};
use std::path::Path;

use vspc_guest::copy::{GetOk, Whole};
use vspc_guest::{Get, Header, LineBuffer, MAX_LINE, Pack, Sum, Summer, answer};

use super::body::Body;
use super::part::{Part, Spot, umask};
use super::progress::Progress;
use super::{IDLE, Stop, turn};
use crate::clock;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::guest::{Guest, Joined, Trouble};
use crate::printable::printable;

/// Where a file is copied to.
pub(super) struct Target {
    kind: Kind,
    preserve: bool,
    /// What has come and was not written yet, for a write costs more than a copy. Nothing is in it while more
    /// is waited for.
    gathered: Vec<u8>,
}

enum Kind {
    /// A file, and what is there of it.
    File(Spot, Option<Part>),
    /// The standard output, and what was written of which state of the file.
    Standard { tag: String, at: u64, sum: Summer },
}

impl Target {
    /// A file at this path, or nowhere: the standard output.
    pub(super) fn open(to: Option<&Path>, preserve: bool) -> Result<Self, Failure> {
        let kind = match to {
            None => Kind::Standard { tag: String::new(), at: 0, sum: Summer::new(Sum::Blake3) },
            Some(path) => {
                let spot = Spot::find(path)?;
                let part = spot.part()?;
                Kind::File(spot, part)
            }
        };
        Ok(Self { kind, preserve, gathered: Vec::new() })
    }

    /// Tries once to copy it.
    pub(super) fn attempt(
        &mut self,
        connection: &mut Connection,
        guest: &Guest,
        path: &str,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let (offset, tag) = self.have();
        let tag = (offset > 0).then(|| tag.to_owned());
        let sum = Sum::Blake3;
        let header = Header::Get(Get { path: path.to_owned(), offset, tag, sum, pack: Some(Pack::Lz4) });
        let mut joined = Joined::open(connection, guest, &header)?;
        let outcome = self.receive(connection, &mut joined, path, progress);
        if outcome.is_err() {
            joined.leave(connection);
        }
        outcome
    }

    fn receive(
        &mut self,
        connection: &mut Connection,
        joined: &mut Joined,
        path: &str,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        let GetOk { offset, size, mode, tag, pack, sum } = super::answer(connection, joined)?;
        self.begin(offset, &tag, path)?;
        progress.begin(offset, size);
        while !self.sum_up(sum)? {
            turn(connection, joined)?;
            connection.wait(clock::now());
        }
        let mut body = Body::new(size.saturating_sub(offset), pack);
        let mut line = LineBuffer::new(MAX_LINE);
        let mut failed = Ok(());
        loop {
            turn(connection, joined)?;
            joined.hear(connection, |bytes| {
                if failed.is_err() {
                    return bytes.len();
                }
                match body.take(bytes, |bytes| self.gather(bytes)) {
                    // What is left of this piece is the last line.
                    Ok(n) => n + if body.left() == 0 { line.take(&bytes[n..]) } else { 0 },
                    Err(failure) => {
                        failed = Err(failure);
                        bytes.len()
                    }
                }
            });
            self.write()?;
            std::mem::replace(&mut failed, Ok(()))?;
            let at = size.saturating_sub(body.left());
            progress.reach(at);
            progress.at(at);
            if let Some(last) = line.line() {
                let whole: Whole =
                    last.and_then(answer::parse).map_err(|refusal| Stop::Trouble(Trouble::Guest(refusal)))?;
                return self.finish(&whole, size, mode, offset > 0, path);
            }
            if joined.has_heard_all() {
                return Err(Stop::Trouble(Trouble::Reset));
            }
            connection.wait(clock::now() + IDLE);
        }
    }

    /// How much is there, of which state of the file.
    fn have(&self) -> (u64, &str) {
        match &self.kind {
            Kind::File(_, None) => (0, ""),
            Kind::File(_, Some(part)) => (part.at, &part.tag),
            Kind::Standard { tag, at, .. } => (*at, tag),
        }
    }

    /// What comes begins here, and is of this state of the file.
    fn begin(&mut self, offset: u64, now: &str, path: &str) -> Result<(), Stop> {
        let (have, tag) = self.have();
        if offset > 0 {
            return match offset == have && tag == now {
                true => Ok(()),
                false => Err(Failure::error("the guest goes on at another place than was asked for").into()),
            };
        }
        match &mut self.kind {
            Kind::File(spot, part) => {
                // Of another state it is of no use.
                *part = None;
                *part = Some(spot.begin(now)?);
            }
            Kind::Standard { at: 0, tag, .. } => now.clone_into(tag),
            Kind::Standard { .. } => {
                let path = printable(path);
                let what = format!("{path} has changed, and its beginning was written already");
                return Err(Failure::error(what).into());
            }
        }
        Ok(())
    }

    /// Sums what is there of an earlier time, in this way; some of it. Whether that was all.
    fn sum_up(&mut self, sum: Sum) -> Result<bool, Failure> {
        match &mut self.kind {
            Kind::File(_, Some(part)) => part.sum_up(sum),
            Kind::File(_, None) => Ok(true),
            Kind::Standard { sum: summer, .. } if summer.sum() == sum => Ok(true),
            Kind::Standard { at: 0, sum: summer, .. } => {
                *summer = Summer::new(sum);
                Ok(true)
            }
            // It can be read by nobody again.
            Kind::Standard { .. } => Err(Failure::error("the guest sums its files in another way now")),
        }
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() < GATHERED { Ok(()) } else { self.write() }
    }

    /// Writes what was gathered.
    fn write(&mut self) -> Result<(), Failure> {
        let bytes = &self.gathered[..];
        match &mut self.kind {
            _ if bytes.is_empty() => {}
            Kind::File(_, Some(part)) => part.write(bytes)?,
            Kind::File(_, None) => {}
            Kind::Standard { at, sum, .. } => {
                io::stdout().lock().write_all(bytes).map_err(|error| Failure::output(&error))?;
                sum.take(bytes);
                *at += bytes.len() as u64;
            }
        }
        self.gathered.clear();
        Ok(())
    }

    /// All of it came: it is checked, and put into its place.
    fn finish(&mut self, whole: &Whole, size: u64, mode: u32, resumed: bool, path: &str) -> Result<(), Stop> {
        let (at, sum) = match &self.kind {
            Kind::File(_, Some(part)) => (part.at, part.checksum()),
            Kind::File(_, None) => return Err(Stop::Anew),
            Kind::Standard { at, sum, .. } => (*at, sum.checksum()),
        };
        if whole.size != size || at != size || whole.sum != sum {
            let what = format!("{}: what came is not what was sent", printable(path));
            return match &mut self.kind {
                Kind::File(_, part) => {
                    if let Some(part) = part.take() {
                        part.discard();
                    }
                    Err(if resumed { Stop::Anew } else { Failure::error(what).into() })
                }
                Kind::Standard { .. } => Err(Failure::error(what).into()),
            };
        }
        match &mut self.kind {
            Kind::File(spot, part) => {
                let mode = if self.preserve { mode & 0o777 } else { mode & 0o777 & !umask() };
                part.take().map_or(Ok(()), |part| part.finish(spot, mode)).map_err(Stop::from)
            }
            Kind::Standard { .. } => io::stdout().flush().map_err(|error| Failure::output(&error).into()),
        }
    }
}

/// What is gathered before it is written.
const GATHERED: usize = 128 * 1024;
