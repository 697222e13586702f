//! A copy into the guest: a partial file beside the target, which becomes the target once all of it is there.
//!
//! Owns what is left after a cut, and when it is used again: it is named after the checksum of the whole, so
//! that what is added to it belongs to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use ring::digest::{Context, SHA256};
use rustix::event::PollFlags;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::pipe::PipeFlags;
use vspc_core::mux::{Received, Session, StreamId};
use vspc_guest::copy::{PutOk, Whole, digits};
use vspc_guest::{Code, Pack, Put, Refusal, Unpacker, answer};

use super::{Place, Roots};
use crate::say::{leave, refuse, say};
use crate::task::{Ctx, Fate, Interest};

/// A copy into the guest.
pub(crate) struct PutTask {
    id: StreamId,
    put: Put,
    place: Place,
    partial: String,
    file: File,
    sum: Context,
    /// How much was summed.
    at: u64,
    /// How much is in the file: until it was all summed nothing is taken.
    have: u64,
    /// Where the bytes are packed: the block that comes.
    unpacker: Option<Unpacker>,
    /// All of it is there.
    ending: Option<Ending>,
    ends: Ends,
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
        let partial = partial(&place.name, &put.sha256);
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
        say(session, id, &answer::ok(&PutOk { offset: have, pack }));
        let unpacker = pack.map(|Pack::Lz4| Unpacker::new());
        let (sum, ends) = (Context::new(&SHA256), ends.clone());
        Ok(Self { id, put, place, partial, file, sum, at: 0, have, unpacker, ending: None, ends })
    }

    /// Whether it has something to do that nothing will tell of.
    pub(crate) const fn is_busy(&self) -> bool {
        self.at < self.have
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
                let sum = self.put.sha256.clone();
                log::info!("{} was copied, {} bytes", self.put.path, self.put.size);
                say(ctx.session, self.id, &answer::done(&Whole { size: self.put.size, sha256: sum }));
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
            if self.at == self.have {
                break;
            }
            let n = (self.have - self.at).min(ctx.scratch.len() as u64) as usize;
            self.file.read_exact(&mut ctx.scratch[..n]).map_err(system)?;
            self.sum.update(&ctx.scratch[..n]);
            self.at += n as u64;
        }
        while self.at == self.have {
            let taken = match ctx.session.received(self.id) {
                Ok(Received::Bytes(bytes)) => {
                    let (taken, bytes) = match &mut self.unpacker {
                        None => (bytes.len(), bytes),
                        Some(unpacker) => {
                            let taken = unpacker.take(bytes);
                            let block = unpacker.block(ctx.scratch).unwrap_or(Ok(&[]));
                            (taken, block.inspect_err(|_| remove(&self.place, &self.partial))?)
                        }
                    };
                    if bytes.len() as u64 > self.put.size - self.have {
                        remove(&self.place, &self.partial);
                        return Err(Refusal::new(Code::BAD_LINE, "more bytes came than it was to have"));
                    }
                    self.file.write_all(bytes).map_err(system)?;
                    self.sum.update(bytes);
                    self.have += bytes.len() as u64;
                    self.at = self.have;
                    if !bytes.is_empty()
                        && let Some(unpacker) = &mut self.unpacker
                    {
                        unpacker.clear();
                    }
                    taken
                }
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

    /// All of it is there: it becomes the target, if it is what was to come.
    fn finish(&self) -> Result<Ending, Refusal> {
        let sum = digits(self.sum.clone().finish().as_ref());
        if sum != self.put.sha256 {
            remove(&self.place, &self.partial);
            return Err(Refusal::new(Code::CHECKSUM, format!("the sum of what came is {sum}")));
        }
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

/// What is there is part of nothing.
fn remove(place: &Place, partial: &str) {
    let _ = rustix::fs::unlinkat(&place.folder, partial, AtFlags::empty());
}

/// The partial file's name.
fn partial(name: &str, sum: &str) -> String {
    let mut end = name.len().min(LONGEST);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}.{}.part", &name[..end], &sum[..16])
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
        let put = Put { path, size: 1, mode: 0o600, sha256: "0".repeat(64), pack: None };
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
        let sum = "0123456789abcdef".repeat(4);
        assert_eq!(partial("x", &sum), ".x.0123456789abcdef.part");
        assert!(partial(&"ä".repeat(127), &sum).len() < 255);
    }
}
