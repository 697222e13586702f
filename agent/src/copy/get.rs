//! A copy out of the guest: a file's bytes as they are when it begins, and the checksum of all of them.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use vspc_core::mux::{Priority, Session, StreamId};
use vspc_guest::copy::{GetOk, Whole};
use vspc_guest::{Code, Get, MAX_BLOCK, Pack, Refusal, Summer, answer};

use super::{AT_ONCE, Roots};
use crate::packed::Packed;
use crate::say::{leave, say};
use crate::task::{Ctx, Fate};

/// A copy out of the guest.
pub(crate) struct GetTask {
    id: StreamId,
    path: String,
    file: File,
    /// It has taken the bytes before the next one.
    sum: Summer,
    /// Where the bytes begin that are sent.
    from: u64,
    size: u64,
    /// Where the bytes are packed: the block that leaves.
    packed: Option<Packed>,
}

impl std::fmt::Debug for GetTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetTask").field("id", &self.id).field("path", &self.path).finish_non_exhaustive()
    }
}

impl GetTask {
    /// Begins, and answers.
    pub(crate) fn begin(
        id: StreamId,
        get: Get,
        roots: &Roots,
        session: &mut Session,
    ) -> Result<Self, Refusal> {
        let file = File::from(roots.open(&get.path)?);
        let metadata = file.metadata().map_err(|error| Refusal::system(&get.path, &error))?;
        if !metadata.is_file() {
            return Err(Refusal::new(Code::NOT_A_FILE, get.path));
        }
        let size = metadata.len();
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        let tag = format!("{:x}-{size:x}-{:x}.{:x}", metadata.ino(), changed.0, changed.1);
        let is_same = get.tag.as_ref() == Some(&tag) && get.offset <= size;
        let offset = if is_same { get.offset } else { 0 };
        let _ = session.set_priority(id, Priority::Low);
        let Get { pack, sum, .. } = get;
        let mode = metadata.mode() & 0o7777;
        say(session, id, &answer::ok(&GetOk { offset, size, mode, tag, pack, sum }));
        let packed = pack.map(|Pack::Lz4| Packed::default());
        Ok(Self { id, path: get.path, file, sum: Summer::new(sum), from: offset, size, packed })
    }

    /// Whether it has something to do that nothing will tell of.
    pub(crate) fn is_busy(&self, session: &Session) -> bool {
        let is_waiting = self.packed.as_ref().is_some_and(|packed| !packed.is_empty());
        let at = self.sum.at();
        at < self.from || (at < self.size || is_waiting) && session.credit(self.id) > 0
    }

    /// Sends what can leave.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        for _ in 0..TURNS {
            if let Some(packed) = &mut self.packed
                && !packed.send(self.id, ctx.session)
            {
                return Fate::Stays;
            }
            let at = self.sum.at();
            if at == self.size {
                return self.finish(ctx.session);
            }
            let end = if at < self.from { self.from } else { self.size };
            let mut n = usize::try_from(end - at).unwrap_or(usize::MAX).min(AT_ONCE.min(ctx.scratch.len()));
            if at >= self.from {
                let credit = ctx.session.credit(self.id);
                if credit == 0 {
                    let _ = ctx.session.want_credit(self.id);
                    return Fate::Stays;
                }
                n = n.min(if self.packed.is_some() { MAX_BLOCK } else { credit });
            }
            let bytes = &mut ctx.scratch[..n];
            if let Err(error) = self.file.read_exact_at(bytes, at) {
                // It has become shorter, or cannot be read: what was sent is part of nothing.
                log::info!("{} cannot be read to its end: {error}", self.path);
                let _ = ctx.session.reset(self.id);
                return Fate::Over;
            }
            self.sum.take(bytes);
            if at >= self.from {
                match &mut self.packed {
                    Some(packed) => packed.put(bytes),
                    None => drop(ctx.session.write(self.id, bytes)),
                }
            }
        }
        Fate::Stays
    }

    fn finish(&self, session: &mut Session) -> Fate {
        let whole = Whole { size: self.size, sum: self.sum.checksum() };
        if !say(session, self.id, &answer::done(&whole)) {
            return Fate::Stays;
        }
        leave(session, self.id);
        Fate::Over
    }
}

/// Pieces that are read before others have their turn.
const TURNS: usize = 16;
