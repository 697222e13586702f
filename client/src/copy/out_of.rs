//! A copy out of a guest (APPLICATION §4, `get`).
//!
//! Owns where its bytes go: into a file beside the target until all of them are there, or to the standard
//! output.

use std::io::{self, Write};
use std::path::Path;

use ring::digest::{Context, SHA256};
use vspc_guest::copy::{GetOk, Whole, digits};
use vspc_guest::{Get, Header, LineBuffer, MAX_LINE, Pack, answer};

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
}

enum Kind {
    /// A file, and what is there of it.
    File(Spot, Option<Part>),
    /// The standard output, and what was written of which state of the file.
    Standard { tag: String, at: u64, sum: Context },
}

impl Target {
    /// A file at this path, or nowhere: the standard output.
    pub(super) fn open(to: Option<&Path>, preserve: bool) -> Result<Self, Failure> {
        let kind = match to {
            None => Kind::Standard { tag: String::new(), at: 0, sum: Context::new(&SHA256) },
            Some(path) => {
                let spot = Spot::find(path)?;
                let part = spot.part()?;
                Kind::File(spot, part)
            }
        };
        Ok(Self { kind, preserve })
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
        let header = Header::Get(Get { path: path.to_owned(), offset, tag, pack: Some(Pack::Lz4) });
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
        let GetOk { offset, size, mode, tag, pack } = super::answer(connection, joined)?;
        self.begin(offset, &tag, path)?;
        progress.begin(offset, size);
        let mut body = Body::new(size.saturating_sub(offset), pack);
        let mut line = LineBuffer::new(MAX_LINE);
        let mut failed = Ok(());
        loop {
            turn(connection, joined)?;
            joined.hear(connection, |bytes| {
                if failed.is_err() {
                    return bytes.len();
                }
                match body.take(bytes, |bytes| self.write(bytes)) {
                    // What is left of this piece is the last line.
                    Ok(n) => n + if body.left() == 0 { line.take(&bytes[n..]) } else { 0 },
                    Err(failure) => {
                        failed = Err(failure);
                        bytes.len()
                    }
                }
            });
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

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::File(_, Some(part)) => part.write(bytes),
            Kind::File(_, None) => Ok(()),
            Kind::Standard { at, sum, .. } => {
                io::stdout().lock().write_all(bytes).map_err(|error| Failure::output(&error))?;
                sum.update(bytes);
                *at += bytes.len() as u64;
                Ok(())
            }
        }
    }

    /// All of it came: it is checked, and put into its place.
    fn finish(&mut self, whole: &Whole, size: u64, mode: u32, resumed: bool, path: &str) -> Result<(), Stop> {
        let (at, sum) = match &self.kind {
            Kind::File(_, Some(part)) => (part.at, part.sum()),
            Kind::File(_, None) => return Err(Stop::Anew),
            Kind::Standard { at, sum, .. } => (*at, digits(sum.clone().finish().as_ref())),
        };
        if whole.size != size || at != size || whole.sha256 != sum {
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
