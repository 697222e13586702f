//! A copy into the guest: a partial file beside the target, which becomes the target once all of it is there.
//!
//! Owns what is left after a cut, and when it is used again: it is named after the checksum of the whole, or
//! after the tag of the host's file, so that what is added to it belongs to it. Where a tag lies, the
//! checksum tells.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::event::PollFlags;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::pipe::PipeFlags;
use vspc_core::mux::{Received, Session, StreamId};
use vspc_guest::copy::{PutOk, Whole};
use vspc_guest::{Checksum, Code, LineBuffer, MAX_LINE, Pack, Put, Refusal, Sum, Summer, Unpacker, answer};

use super::{AT_ONCE, Place, Roots};
use crate::say::{leave, refuse, say};
use crate::task::{Ctx, Fate, Interest};

/// A copy into the guest.
pub(crate) struct PutTask {
    id: StreamId,
    put: Put,
    place: Place,
    partial: String,
    file: File,
    /// Of what is in the file.
    sum: Summer,
    /// How much is in the file: until it was all summed nothing is taken.
    have: u64,
    /// What the checksum is to be.
    wanted: Wanted,
    /// Where the bytes are packed: the block that comes.
    unpacker: Option<Unpacker>,
    /// All of it is there.
    ending: Option<Ending>,
    ends: Ends,
}

/// What the checksum is to be.
#[derive(Debug)]
enum Wanted {
    /// It was said before.
    Known(Checksum),
    /// It follows the bytes: the line that says it.
    Follows(LineBuffer),
}

/// Ends of copies that the disk is waited for: they go on when their copy is given up, so they are counted.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ends(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

/// What can take long is done by a thread: the disk is waited for by nobody else.
struct Ending {
    thread: JoinHandle<io::Result<()>>,
    /// Ends with the thread.
    over: OwnedFd,
}

impl std::fmt::Debug for PutTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutTask").field("id", &self.id).field("put", &self.put).finish_non_exhaustive()
    }
}

impl PutTask {
    /// Begins, and answers.
    pub(crate) fn begin(
        id: StreamId,
        put: Put,
        roots: &Roots,
        ends: &Ends,
        session: &mut Session,
    ) -> Result<Self, Refusal> {
        ends.has_room()?;
        let place = roots.place(&put.path)?;
        let (wanted, sum, mark) = match (&put.sha256, &put.tag) {
            (Some(sha256), _) => {
                (Wanted::Known(Checksum::Sha256(sha256.clone())), Sum::Sha256, &sha256[..16])
            }
            (None, Some(tag)) => (Wanted::Follows(LineBuffer::new(MAX_LINE)), put.sum, &tag[..]),
            // Such a header is refused where it is read.
            (None, None) => return Err(Refusal::new(Code::BAD_LINE, "neither sha256 nor tag is said")),
        };
        let partial = partial(&place.name, mark);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let system = |error: io::Error| Refusal::system(&put.path, &error);
        let file = rustix::fs::openat(&place.folder, &partial, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| system(error.into()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Refusal::new(Code::IN_USE, "it is being copied"));
        }
        let file = File::from(file);
        let metadata = file.metadata().map_err(system)?;
        if !metadata.is_file() {
            return Err(Refusal::new(Code::NOT_A_FILE, partial));
        }
        let mut have = metadata.len();
        if have > put.size {
            file.set_len(0).map_err(system)?;
            have = 0;
        }
        let pack = put.pack;
        say(session, id, &answer::ok(&PutOk { offset: have, pack, sum }));
        let unpacker = pack.map(|Pack::Lz4| Unpacker::new());
        let (sum, ends) = (Summer::new(sum), ends.clone());
        Ok(Self { id, put, place, partial, file, sum, have, wanted, unpacker, ending: None, ends })
    }

    /// Whether it has something to do that nothing will tell of.
    pub(crate) const fn is_busy(&self) -> bool {
        self.sum.at() < self.have
    }

    /// What it waits for.
    pub(crate) fn interest<'a>(&'a self, into: &mut Interest<'a>) {
        if let Some(ending) = &self.ending {
            into.push((ending.over.as_fd(), PollFlags::IN));
        }
    }

    /// Takes what has come.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        match self.advance(ctx) {
            Ok(false) => Fate::Stays,
            Ok(true) => {
                log::info!("{} was copied, {} bytes", self.put.path, self.put.size);
                let whole = Whole { size: self.put.size, sum: self.sum.checksum() };
                say(ctx.session, self.id, &answer::done(&whole));
                leave(ctx.session, self.id);
                Fate::Over
            }
            Err(refusal) => {
                log::info!("{} was not copied: {refusal}", self.put.path);
                refuse(ctx.session, self.id, &refusal);
                Fate::Over
            }
        }
    }

    /// Whether it is done.
    fn advance(&mut self, ctx: &mut Ctx<'_>) -> Result<bool, Refusal> {
        let system = |error: io::Error| Refusal::system(&self.put.path, &error);
        if let Some(ending) = self.ending.take_if(|ending| ending.thread.is_finished()) {
            let outcome = ending.thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
            return outcome.map(|()| true).map_err(system);
        }
        if self.ending.is_some() {
            return Ok(false);
        }
        for _ in 0..TURNS {
            if !self.is_busy() {
                break;
            }
            let n = (self.have - self.sum.at()).min(AT_ONCE.min(ctx.scratch.len()) as u64) as usize;
            self.file.read_exact(&mut ctx.scratch[..n]).map_err(system)?;
            self.sum.take(&ctx.scratch[..n]);
        }
        while !self.is_busy() {
            if self.have < self.put.size && self.unpacker.is_none() && self.take_plain(ctx)? {
                continue;
            }
            let taken = match ctx.session.received(self.id) {
                Ok(Received::Bytes(bytes)) if self.have < self.put.size => {
                    self.take_packed(bytes, ctx.scratch)?
                }
                Ok(Received::Bytes(bytes)) => self.take_line(bytes)?,
                Ok(Received::Pending) => return Ok(false),
                Ok(Received::End) if self.have < self.put.size => {
                    return Err(Refusal::new(Code::CUT, format!("{} bytes are there", self.have)));
                }
                Ok(Received::End) => {
                    self.ending = Some(self.finish()?);
                    return Ok(false);
                }
                Err(_) => return Err(Refusal::new(Code::CUT, "the stream is gone")),
            };
            let _ = ctx.session.consume(self.id, taken);
        }
        Ok(false)
    }

    /// Takes bytes as they are: as many at a time as have come, for a write and a piece of a checksum cost
    /// more than a copy. Whether there were any.
    fn take_plain(&mut self, ctx: &mut Ctx<'_>) -> Result<bool, Refusal> {
        let most = usize::try_from(self.put.size - self.have).unwrap_or(usize::MAX).min(ctx.scratch.len());
        let n = ctx.session.read(self.id, &mut ctx.scratch[..most]).unwrap_or(0);
        self.keep(&ctx.scratch[..n])?;
        Ok(n > 0)
    }

    /// Takes a piece of a block; how much of it.
    fn take_packed(&mut self, bytes: &[u8], scratch: &mut [u8]) -> Result<usize, Refusal> {
        let Some(mut unpacker) = self.unpacker.take() else { return Ok(0) };
        let taken = unpacker.take(bytes);
        if let Some(block) = unpacker.block(scratch) {
            let block = block.inspect_err(|_| self.remove())?;
            if block.len() as u64 > self.put.size - self.have {
                return Err(self.too_much());
            }
            self.keep(block)?;
            unpacker.clear();
        }
        self.unpacker = Some(unpacker);
        Ok(taken)
    }

    /// Takes what follows the file; how much of it.
    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match &mut self.wanted {
            // What is left is not taken, whatever it is: it is too much.
            Wanted::Follows(line) if line.line().is_none() => Ok(line.take(bytes)),
            _ => Err(self.too_much()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.file.write_all(bytes).map_err(|error| Refusal::system(&self.put.path, &error))?;
        self.sum.take(bytes);
        self.have = self.sum.at();
        Ok(())
    }

    fn too_much(&self) -> Refusal {
        self.remove();
        Refusal::new(Code::BAD_LINE, "more bytes came than it was to have")
    }

    /// What is there is part of nothing.
    fn remove(&self) {
        let _ = rustix::fs::unlinkat(&self.place.folder, &self.partial, AtFlags::empty());
    }

    /// All of it is there: it becomes the target, if it is what was to come.
    fn finish(&self) -> Result<Ending, Refusal> {
        let sum = self.sum.checksum();
        let outcome = match &self.wanted {
            Wanted::Known(wanted) => sum.expect(wanted),
            Wanted::Follows(line) => match line.line() {
                None => return Err(Refusal::new(Code::CUT, "its checksum has not come")),
                // What the host says in place of it is why its file is none any more.
                Some(line) => line.and_then(answer::parse::<Whole>).and_then(|whole| sum.expect(&whole.sum)),
            },
        };
        outcome.inspect_err(|_| self.remove())?;
        let begin = || -> io::Result<Ending> {
            let (over, ends) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            let (file, folder) = (self.file.try_clone()?, self.place.folder.try_clone()?);
            let (partial, name) = (self.partial.clone(), self.place.name.clone());
            let mode = Mode::from_raw_mode(self.put.mode & PERMISSIONS);
            let end = self.ends.begin();
            let rename = move || {
                let _counted = end;
                rustix::fs::fchmod(&file, mode)?;
                file.sync_all()?;
                rustix::fs::renameat(&folder, &partial, &folder, &name)?;
                rustix::fs::fsync(&folder)?;
                drop(ends);
                Ok(())
            };
            let thread = std::thread::Builder::new().name("copy".to_owned()).spawn(rename)?;
            Ok(Ending { thread, over })
        };
        begin().map_err(|error| Refusal::system(&self.put.path, &error))
    }
}

impl Ends {
    fn has_room(&self) -> Result<(), Refusal> {
        let ends = self.0.load(Ordering::Relaxed);
        if ends < MOST {
            return Ok(());
        }
        Err(Refusal::new(Code::TOO_MANY, format!("{ends} copies wait for the disk")))
    }

    fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The partial file's name.
fn partial(name: &str, mark: &str) -> String {
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}.{mark}.part", &name[..end])
}

/// Bits of `mode` that are taken: nobody becomes another user by a copy.
const PERMISSIONS: u32 = 0o777;
/// A name has at most 255 bytes, and so has the partial one.
const LONGEST: usize = 200;
/// Ends that the disk is waited for: then no copy begins.
const MOST: usize = 64;
/// Pieces that are summed before others have their turn.
const TURNS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Root;
    use vspc_core::mux::{Config, Role};
    use vspc_core::time::Instant;

    #[test]
    fn no_copy_begins_while_too_many_wait_for_the_disk() {
        let folder = std::env::temp_dir().join(format!("vspc-agent-put-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let roots = Roots(vec![Root { path: folder.clone(), write: true }]);
        let mut session = Session::new(Config::new(Role::Guest), Instant::ZERO).unwrap();
        let path = folder.join("x").display().to_string();
        let tag = Some("0".repeat(32));
        let put = Put { path, size: 1, mode: 0o600, sha256: None, tag, sum: Sum::Sha256, pack: None };
        let ends = Ends::default();
        let many: Vec<_> = (0..MOST).map(|_| ends.begin()).collect();
        let refused = PutTask::begin(StreamId(0), put.clone(), &roots, &ends, &mut session).map(|_| ());
        assert_eq!(refused.unwrap_err().code, Code::TOO_MANY);
        drop(many);
        let begun = PutTask::begin(StreamId(0), put, &roots, &ends, &mut session).map(|_| ());
        std::fs::remove_dir_all(folder).unwrap();
        assert_eq!(begun, Ok(()));
    }

    #[test]
    fn partial_files_have_names_that_a_folder_can_hold() {
        let mark = "0123456789abcdef".repeat(2);
        assert_eq!(partial("x", &mark[..16]), ".x.0123456789abcdef.part");
        assert!(partial(&"ä".repeat(127), &mark).len() < 255);
    }
}
