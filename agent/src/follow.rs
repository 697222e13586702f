//! A log: a file that is shown as it grows (APPLICATION §6).
//!
//! Owns how far it was read and taken, and what becomes of it when the file is replaced or cut. Refuses to
//! know what is in it. Files are looked at, not watched: a look costs little, and works on every file system.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::OFlags;
use vspc_core::mux::{Priority, Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{BLOCK_HEADER, LogOk, MAX_BLOCK, Pack};

use crate::packed::Packed;
use crate::task::{Ctx, Fate};

/// A log.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<Opened>,
    stream: Option<StreamId>,
    /// Whether the next host goes on, and does not begin near the end.
    begun: bool,
    /// How much before the end the first host wants.
    back: u64,
    look_at: Instant,
    /// Where the host wants packed bytes.
    blocks: Option<Blocks>,
}

/// Blocks of a session that the host has not taken yet.
#[derive(Default, Debug)]
struct Blocks {
    leaving: Packed,
    /// Bytes of all blocks on the stream.
    packed: u64,
    /// Where on the stream a block ends, and where in the file.
    ends: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    identity: (u64, u64),
    /// The next byte to be read.
    at: u64,
    /// Everything before it was taken by a host.
    taken: u64,
    /// The last bytes before `at`: where others are in their place, the file was cut and has grown again.
    tail: Vec<u8>,
}

impl Log {
    /// Of this file. One that is not there yet will be shown from its beginning.
    pub(crate) fn new(path: PathBuf) -> Self {
        let begun = !path.exists();
        Self { path, file: None, stream: None, begun, back: 0, look_at: Instant::ZERO, blocks: None }
    }

    /// A host takes it, packed if it says so and this agent does.
    pub(crate) fn attach(&mut self, id: StreamId, ok: LogOk, packs: bool, session: &mut Session) {
        let _ = session.set_priority(id, Priority::Low);
        // It says nothing more.
        let _ = session.stop_reading(id);
        if let Some(opened) = &mut self.file {
            if opened.is_cut().unwrap_or_default() {
                opened.begin_anew();
            }
            opened.go_to(opened.taken);
        }
        if !self.begun {
            self.back = ok.back;
        }
        self.blocks = ok.pack.filter(|_| packs).map(|Pack::Lz4| Blocks::default());
        self.stream = Some(id);
        self.look_at = Instant::ZERO;
    }

    /// The session is gone.
    pub(crate) const fn detach(&mut self) {
        self.stream = None;
    }

    /// When it is to be stepped: at once while there is more to read than was sent.
    pub(crate) fn deadline(&self, session: &Session) -> Option<Instant> {
        // A file that is cut twice while no host is there would lose what was in between unseen.
        let Some(id) = self.stream else { return self.file.as_ref().map(|_| self.look_at) };
        (session.credit(id) > 0).then_some(self.look_at)
    }

    /// What the host has taken up to now. A stream that is gone tells nothing.
    pub(crate) fn note_taken(&mut self, session: &Session) {
        if let (Some(id), Some(opened)) = (self.stream, &mut self.file)
            && let Some(under_way) = session.under_way(id)
        {
            let under_way = under_way as u64;
            let taken = match &mut self.blocks {
                None => opened.at.saturating_sub(under_way),
                Some(blocks) => blocks.taken(under_way),
            };
            opened.taken = opened.taken.max(taken);
        }
    }

    /// Sends what has been appended, as far as it can leave.
    pub(crate) fn step(&mut self, ctx: &mut Ctx<'_>) -> Fate {
        self.note_taken(ctx.session);
        if self.look_at > ctx.now {
            return Fate::Stays;
        }
        if let Some(id) = self.stream {
            match self.read(id, ctx) {
                Ok(true) => {}
                Ok(false) => self.look_at = ctx.now + LOOK,
                Err(error) => {
                    log::debug!("{}: {error}", self.path.display());
                    self.look_at = ctx.now + AGAIN;
                }
            }
        } else {
            if let Some(opened) = &mut self.file
                && opened.is_cut().unwrap_or_default()
            {
                opened.begin_anew();
            }
            self.look_at = ctx.now + AGAIN;
        }
        Fate::Stays
    }

    /// Whether there may be more.
    fn read(&mut self, id: StreamId, ctx: &mut Ctx<'_>) -> io::Result<bool> {
        if self.file.is_none() {
            let is_first = !std::mem::replace(&mut self.begun, true);
            let mut opened = Opened::open(&self.path)?;
            if is_first {
                opened.taken = opened.back(self.back)?;
                opened.go_to(opened.taken);
            }
            self.file = Some(opened);
        }
        let Some(opened) = &mut self.file else { return Ok(false) };
        if opened.is_cut()? {
            opened.begin_anew();
            if let Some(blocks) = &mut self.blocks {
                blocks.ends.clear();
            }
        }
        for _ in 0..TURNS {
            if let Some(blocks) = &mut self.blocks
                && !blocks.leaving.send(id, ctx.session)
            {
                return Ok(true);
            }
            let credit = ctx.session.credit(id);
            if credit == 0 {
                let _ = ctx.session.want_credit(id);
                return Ok(true);
            }
            let n = if self.blocks.is_some() { IN_BLOCK } else { credit }.min(ctx.scratch.len());
            let n = opened.file.read_at(&mut ctx.scratch[..n], opened.at)?;
            if n == 0 {
                break;
            }
            let bytes = &ctx.scratch[..n];
            opened.at += n as u64;
            opened.note_read(bytes);
            match &mut self.blocks {
                Some(blocks) => blocks.put(bytes, opened.at),
                None => drop(ctx.session.write(id, bytes)),
            }
        }
        let is_leaving = self.blocks.as_ref().is_some_and(|blocks| !blocks.leaving.is_empty());
        if is_leaving || opened.file.metadata()?.len() > opened.at {
            return Ok(true);
        }
        self.note_taken(ctx.session);
        self.turn_over()
    }

    /// At the end of the file: whether it was cut, or another one has its name.
    fn turn_over(&mut self) -> io::Result<bool> {
        let Some(opened) = &mut self.file else { return Ok(false) };
        if opened.file.metadata()?.len() < opened.at {
            opened.begin_anew();
            if let Some(blocks) = &mut self.blocks {
                blocks.ends.clear();
            }
            return Ok(true);
        }
        let Ok(now) = fs::metadata(&self.path) else { return Ok(false) };
        // What was not taken yet may have to be read again.
        if identity(&now) == opened.identity || opened.taken < opened.at {
            return Ok(false);
        }
        self.file = None;
        Ok(true)
    }
}

impl Blocks {
    /// Packs bytes that end here in the file.
    fn put(&mut self, bytes: &[u8], end: u64) {
        self.leaving.put(bytes);
        self.packed += self.leaving.rest() as u64;
        if self.ends.len() == ENDS {
            self.ends.pop_back();
        }
        self.ends.push_back((self.packed, end));
    }

    /// Up to where in the file all was taken, with so much of the stream under way; 0 where no block was.
    fn taken(&mut self, under_way: u64) -> u64 {
        let taken = self.packed.saturating_sub(under_way + self.leaving.rest() as u64);
        let mut end = 0;
        while let Some(&(stream, file)) = self.ends.front()
            && stream <= taken
        {
            end = file;
            self.ends.pop_front();
        }
        end
    }
}

impl Opened {
    fn open(path: &PathBuf) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        Ok(Self { file, identity: identity(&metadata), at: 0, taken: 0, tail: Vec::new() })
    }

    /// Whether other bytes are where the last ones were read.
    fn is_cut(&self) -> io::Result<bool> {
        let mut bytes = [0; TAIL];
        let now = &mut bytes[..self.tail.len()];
        match self.file.read_exact_at(now, self.at - self.tail.len() as u64) {
            Ok(()) => Ok(*now != self.tail[..]),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// It was cut.
    fn begin_anew(&mut self) {
        (self.at, self.taken) = (0, 0);
        self.tail.clear();
    }

    /// Goes on at another place.
    fn go_to(&mut self, at: u64) {
        self.at = at;
        self.tail = vec![0; TAIL.min(usize::try_from(at).unwrap_or(TAIL))];
        let from = at - self.tail.len() as u64;
        if self.file.read_exact_at(&mut self.tail, from).is_err() {
            self.tail.clear();
        }
    }

    /// These are the bytes before `at`.
    fn note_read(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let old = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..old);
    }

    /// The beginning of a line, at most so much before the end.
    fn back(&self, back: u64) -> io::Result<u64> {
        let end = self.file.metadata()?.len();
        let mut at = end.saturating_sub(back);
        // A place right behind a line feed is a beginning.
        let mut before = at.saturating_sub(1);
        let mut bytes = [0; 4096];
        while at > 0 && at < end {
            let n = self.file.read_at(&mut bytes, before)?;
            if n == 0 {
                break;
            }
            if let Some(feed) = bytes[..n].iter().position(|byte| *byte == b'\n') {
                return Ok(before + feed as u64 + 1);
            }
            before += n as u64;
            at = before;
        }
        Ok(at.min(end))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A file is looked at so often.
const LOOK: Duration = Duration::from_millis(250);
/// One that is not there, or cannot be read, so often.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes by which a file is known again: part of a line, with its time.
const TAIL: usize = 64;
/// Bytes in a block of one: what a stream keeps on a serial port until it is taken (32 KiB) holds one whole,
/// also where nothing can be made of its bytes.
const IN_BLOCK: usize = MAX_BLOCK - BLOCK_HEADER;
/// Pieces that are read before others have their turn.
const TURNS: usize = 4;
/// Blocks under way whose ends are known each by itself; those beyond it are taken together.
const ENDS: usize = 256;
