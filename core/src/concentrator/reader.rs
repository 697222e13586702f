//! One reader of a console: where it stands in the journal, and what it is shown from there.
//!
//! **Owns** the cursor and how it moves, also where a socket stops between the two halves of a pair and while
//! older output is shown before new. **Refuses to know** other readers, and when a journal lets go of what
//! they need: [`fanout`](super::fanout) says what was taken and who was overtaken.

use std::io::IoSlice;
use std::num::NonZeroU64;

use super::journal::Journal;

/// Of what kind a reader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Someone at a console: keeps it alive, counts as a client, and a VM may be paused for it.
    Person,
    /// A log, a recorder: it sees everything and nothing waits for it.
    Witness,
}

/// In which form a reader is shown output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As `Wire`, until it is known which of the two it is to be.
    Undecided,
    /// IAC doubled.
    Wire,
    /// The guest's bytes.
    Guest,
}

/// A reader and its cursor.
#[derive(Debug)]
pub(super) struct Reader<K> {
    pub(super) key: K,
    /// Of its seat.
    pub(super) generation: u32,
    pub(super) kind: Kind,
    pub(super) form: Form,
    pub(super) skips: bool,
    /// It has the first half of a pair, and the second goes before anything else.
    pub(super) half: bool,
    /// Its place in the journal.
    pub(super) at: u64,
    /// It is being shown older output up to the first offset, and goes on at the second.
    /// In a box: few ever are, and each log is a reader of a console that may never print.
    pub(super) jump: Option<Box<(u64, u64)>>,
    /// The journal has gone on without it since then.
    pub(super) overtaken: Option<Since>,
    /// Where the journal stood when it came.
    pub(super) attached_at: u64,
    /// Guest bytes printed before `at`. Kept for readers that were attached as `Guest`.
    pub(super) guest_at: u64,
    /// Guest bytes it has missed and was not told of.
    pub(super) lost: u64,
}

/// After how many guest bytes; `Option` of it is no larger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since(NonZeroU64);

impl Since {
    pub(super) fn new(bytes: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(bytes))
    }

    pub(super) fn bytes(self) -> u64 {
        self.0.get() - 1
    }
}

impl<K> Reader<K> {
    /// Up to where it is shown older output, and where it goes on behind that.
    pub(super) fn jump(&self) -> Option<(u64, u64)> {
        self.jump.as_deref().copied()
    }

    /// The oldest byte it still has to be given.
    pub(super) fn needs(&self) -> u64 {
        self.jump().map_or(self.at, |(_, resume)| self.at.min(resume))
    }

    /// Where what it has still to be given of its own time begins.
    pub(super) fn lags_from(&self) -> u64 {
        self.jump().map_or(self.at.max(self.attached_at), |(_, resume)| resume)
    }

    pub(super) fn is_behind(&self, journal: &Journal) -> bool {
        self.half || self.jump.is_some() || self.at < journal.head()
    }

    /// It is being shown the journal. One that was overtaken is not until it has caught up.
    pub(super) fn is_shown(&self) -> bool {
        self.overtaken.is_none()
    }

    pub(super) fn take_all(&mut self, end: u64) {
        self.at = end;
        if self.jump().is_some_and(|(_, resume)| end >= resume) {
            self.jump = None;
        }
    }

    pub(super) fn take_some(&mut self, n: usize, journal: &Journal) {
        if self.form == Form::Guest {
            self.at = journal.advance_guest(self.at, n);
            return;
        }
        let mut n = n as u64;
        if let Some((until, _)) = self.jump() {
            let older = n.min(until - self.at);
            self.at += older;
            n -= older;
            self.land();
        }
        self.at += n;
        if journal.is_mid_pair(self.at) {
            self.half = true;
            self.at += 1;
            self.land();
        }
    }

    /// Goes on behind what a replay leaves out, once it has come to the end of what it shows.
    fn land(&mut self) {
        if let Some((until, resume)) = self.jump()
            && self.at == until
        {
            self.at = resume;
            self.jump = None;
        }
    }
}

/// Output as it is kept. Returns how many runs, how many bytes, and the offset behind them.
pub(super) fn wire_runs<'a, K>(
    journal: &'a Journal,
    reader: &Reader<K>,
    runs: &mut [IoSlice<'a>],
) -> (usize, usize, u64) {
    let (mut count, mut data, mut end) = (0, 0, reader.at);
    let until = reader.jump().map_or(journal.head(), |(until, _)| until);
    let mut put = |from: u64, until: u64, end: &mut u64| {
        *end = from;
        for slice in journal.slices(from, until) {
            if count == runs.len() {
                return;
            }
            runs[count] = IoSlice::new(slice);
            count += 1;
            data += slice.len();
            *end += slice.len() as u64;
        }
    };
    put(reader.at, until, &mut end);
    if let Some((until, resume)) = reader.jump()
        && end == until
    {
        put(resume, journal.head(), &mut end);
    }
    (count, data, end)
}

/// The guest's bytes. Returns as [`wire_runs`].
pub(super) fn guest_runs<'a>(
    journal: &'a Journal,
    at: u64,
    scratch: &'a mut Vec<u8>,
    runs: &mut [IoSlice<'a>],
) -> (usize, usize, u64) {
    let (mut count, mut data, mut end) = (0, 0, at);
    for (slice, behind) in journal.guest_slices(at) {
        if count == runs.len() {
            break;
        }
        runs[count] = IoSlice::new(slice);
        count += 1;
        data += slice.len();
        end = behind;
    }
    if count == 0 || count < runs.len() || data >= runs.len() * CRUMB {
        return (count, data, end);
    }
    scratch.clear();
    let end = journal.copy_guest(at, COPY_LIMIT, scratch);
    runs[0] = IoSlice::new(scratch);
    (1, scratch.len(), end)
}

/// Guest bytes put together at once: a full socket buffer's worth, and no more than stays in the cache.
const COPY_LIMIT: usize = 64 << 10;

/// Average length of a slice below which copying is cheaper than a longer gather list.
const CRUMB: usize = 256;
