//! What a console printed, and where each of its readers stands in it.
//!
//! **Owns** the journal and every reader's cursor: what a reader is shown next and in which form, the second
//! half of a doubled IAC whose first half is out, older output shown before new, who was overtaken and how
//! far the slowest is behind. **Refuses to know** connections and clocks: a reader's key is handed back and
//! never looked into; whoever asks says how much memory there is and what is done about those who do not
//! keep up.
//!
//! ```text
//!   Undecided ─ settle_form ─▶ Wire      IAC doubled, as it is kept: telnet
//!       │                        ▲
//!       └────── settle_form ─▶ Guest     IAC single: raw peers and readers inside the process
//! ```
//!
//! A cursor never stands between the two halves of a pair: where a socket stopped there, the cursor is behind
//! the pair and the reader is owed a `half`, which goes before everything else, whatever happens meanwhile.

use std::io::IoSlice;

use crate::telnet::IAC;

use super::journal::{Journal, Pool};
use super::reader::{Reader, Since, guest_runs, wire_runs};

pub(super) use super::reader::{Form, Kind};

/// A place in what a console printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stand {
    /// Its offset.
    pub(super) at: u64,
    /// How many guest bytes were printed before it.
    pub(super) guest: u64,
}

/// A console's journal and its readers.
#[derive(Debug)]
pub(super) struct Fanout<K> {
    journal: Journal,
    /// By seat. Seats of readers that have left are used again.
    readers: Vec<Option<Reader<K>>>,
    /// How many readers have been seated.
    seated: u32,
}

/// Names a reader of one console, from [`attach`](Fanout::attach) to [`detach`](Fanout::detach). After that
/// it names nobody, whoever sits there now: every call with it does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seat {
    index: u32,
    /// Which of those who have sat there.
    generation: u32,
}

/// What a new reader is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec<K> {
    /// Handed back wherever this reader is spoken of.
    pub(super) key: K,
    pub(super) kind: Kind,
    pub(super) form: Form,
    /// It can live with a gap in its stream. One that cannot is lost when it is overtaken.
    pub(super) skips: bool,
    /// How many of the latest bytes it is shown first.
    pub(super) scrollback: u64,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes kept for readers to come.
    pub(super) keep: u64,
    /// Bytes by which a reader may be behind.
    pub(super) lag: u64,
}

/// How [`offer`](Fanout::offer) has laid out a reader's next bytes: what [`took`](Fanout::took) needs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offer {
    half: bool,
    front: usize,
    data: usize,
    /// Where the cursor is once all of the data is taken.
    end: u64,
}

impl Offer {
    /// How many of the runs come before output.
    pub(super) fn runs_before_output(self) -> usize {
        usize::from(self.half) + usize::from(self.front > 0)
    }
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Took {
    /// How many of the front bytes were taken.
    pub(super) front: usize,
    /// How many bytes of output, in the form they were offered in.
    pub(super) data: usize,
    /// The oldest of what is kept may not be needed any more.
    pub(super) frees: bool,
}

/// What [`settle_form`](Fanout::settle_form) found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Settled {
    /// The reader goes on.
    Well,
    /// It was overtaken, and cannot live with a gap in this form.
    Lost,
}

impl<K> Fanout<K> {
    /// Nothing printed, nobody there; room for so many bytes [before](Self::put_before) the first.
    pub(super) const fn behind(room: u64) -> Self {
        Self { journal: Journal::behind(room), readers: Vec::new(), seated: 0 }
    }
}

impl<K: Copy> Fanout<K> {
    /// The journal, to look at.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How many guest bytes were printed before the oldest that is still here.
    pub(super) fn oldest_guest(&mut self) -> u64 {
        self.journal.guest_at(self.journal.tail())
    }

    /// Takes in a run of wire form with whole pairs, `pairs` of them. Copies it once; to be followed by
    /// [`trim`](Self::trim).
    pub(super) fn print(&mut self, wire: &[u8], pairs: usize, pool: &mut Pool) {
        self.journal.append(wire, pairs, pool);
    }

    /// Takes over what was printed elsewhere. `from`: the pool that its memory comes from, if that is another
    /// one. Returns how many guest bytes that were.
    pub(super) fn adopt(&mut self, other: Journal, from: Option<&mut Pool>, pool: &mut Pool) -> u64 {
        let before = self.journal.guest_head();
        match from {
            Some(from) => self.journal.adopt(other, from, pool),
            None => self.journal.join(other),
        }
        self.journal.guest_head() - before
    }

    /// Puts what was printed at another time before all that was printed here, as much of its end as there is
    /// room for; once, and not when the first byte is gone. Readers that are there go on where they are; it
    /// is shown to those who come. Returns how many bytes that were.
    pub(super) fn put_before(&mut self, guest: &[u8], room: u64, pool: &mut Pool) -> usize {
        let is_whole = self.journal.tail() == room;
        if is_whole { self.journal.put_before(guest, pool) } else { 0 }
    }

    /// Seats a reader behind the last byte, or as far back as it wants to begin, but not before an offset.
    /// Costs a look at each seat.
    pub(super) fn attach(&mut self, spec: Spec<K>, not_before: u64) -> Seat {
        let head = self.journal.head();
        let at = match spec.scrollback {
            0 => head,
            back => self.journal.scrollback_start(head, back).max(not_before),
        };
        self.seated = self.seated.wrapping_add(1);
        let generation = self.seated;
        let reader = Reader {
            key: spec.key,
            generation,
            kind: spec.kind,
            form: spec.form,
            skips: spec.skips,
            half: false,
            at,
            jump: None,
            overtaken: None,
            attached_at: head,
            guest_at: if spec.form == Form::Guest { self.journal.guest_at(at) } else { 0 },
            lost: 0,
        };
        let index = match self.readers.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.readers.reserve_exact(1 + self.readers.len() / 2);
                self.readers.push(None);
                self.readers.len() - 1
            }
        };
        self.readers[index] = Some(reader);
        Seat { index: index as u32, generation }
    }

    /// Gives a seat back. Returns whether its reader is owed the second half of a pair.
    pub(super) fn detach(&mut self, seat: Seat) -> bool {
        let Some(reader) = sitting(&mut self.readers, seat) else { return false };
        let is_owed = reader.half;
        self.readers[seat.index as usize] = None;
        while let Some(None) = self.readers.last() {
            self.readers.pop();
        }
        if self.readers.is_empty() {
            self.readers = Vec::new();
        }
        is_owed
    }

    /// Every reader with its seat, by seats.
    pub(super) fn readers(&self) -> impl Iterator<Item = (Seat, K, Kind)> {
        let seats = self.readers.iter().enumerate();
        seats.filter_map(|(index, reader)| {
            let reader = reader.as_ref()?;
            Some((Seat { index: index as u32, generation: reader.generation }, reader.key, reader.kind))
        })
    }

    /// How many persons there are. Costs a look at each reader.
    pub(super) fn persons(&self) -> usize {
        self.readers.iter().flatten().filter(|reader| reader.kind == Kind::Person).count()
    }

    /// Lets go of what is beyond the scrollback and nobody needs, and overtakes readers that are behind by
    /// more than the lag limit; `lost` is told of those that cannot live with that. Costs one look at each
    /// reader.
    pub(super) fn trim(&mut self, limits: Limits, pool: &mut Pool, mut lost: impl FnMut(K)) {
        if self.journal.head() - self.journal.oldest_end() < limits.keep {
            return;
        }
        let mut needed = self.journal.head() - limits.keep;
        let oldest_end = self.journal.oldest_end();
        // Who is served last is asked first: while that one needs the oldest segment, the others do not
        // matter.
        for reader in self.readers.iter().rev().flatten() {
            if needed < oldest_end {
                break;
            }
            if reader.overtaken.is_none() {
                needed = needed.min(reader.needs());
            }
        }
        self.journal.release(needed, pool);
        while self.journal.head() - self.journal.tail() > limits.lag {
            self.overtake(pool, &mut lost);
        }
    }

    /// Drops the oldest segment. Readers that still needed it skip it, and will be told when they can take
    /// bytes again; those that cannot are `lost`. Returns whether there was anything to drop.
    pub(super) fn overtake(&mut self, pool: &mut Pool, mut lost: impl FnMut(K)) -> bool {
        let end = self.journal.oldest_end();
        for reader in self.readers.iter_mut().flatten() {
            if reader.overtaken.is_some() || reader.needs() >= end {
                continue;
            }
            // What was printed before it came is a courtesy: it goes without a word.
            if let Some(jump) = reader.jump.take() {
                reader.at = jump.1;
            }
            if reader.at < end {
                reader.overtaken = Some(Since::new(self.journal.guest_at(reader.at)));
                if !reader.skips {
                    lost(reader.key);
                }
            }
        }
        self.journal.drop_oldest(pool).is_some()
    }

    /// Gives all of the journal back: nobody will read it.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        self.journal.clear(pool);
    }

    /// Brings a reader that was overtaken back into the journal, at most `keep` bytes behind the head.
    /// Returns how many guest bytes it has missed. An undecided reader stays where it is until it is known
    /// what it can be told.
    pub(super) fn catch_up(&mut self, seat: Seat, keep: u64) -> Option<u64> {
        let reader = sitting(&mut self.readers, seat)?;
        if reader.form == Form::Undecided {
            return None;
        }
        let since = reader.overtaken.take()?.bytes();
        reader.at = self.journal.resume_at(keep);
        reader.guest_at = self.journal.guest_at(reader.at);
        let missed = reader.guest_at - since;
        reader.lost += missed;
        Some(missed)
    }

    /// Whether a reader still has to be given something of what is kept, or to be told of a gap.
    pub(super) fn is_unserved(&self, seat: Seat) -> bool {
        self.reader(seat).is_some_and(|reader| reader.is_behind(&self.journal) || reader.overtaken.is_some())
    }

    /// Lays out a reader's next bytes in `runs`, borrowed: the half it is owed, then `front` (what it has to
    /// be told beside output), then output. Returns how many runs. Asking twice gives the same bytes.
    ///
    /// Guest bytes are sliced around their doubled IACs; where that would yield crumbs they are put together
    /// in `scratch` instead, 64 KiB at most.
    pub(super) fn offer<'a>(
        &'a self,
        seat: Seat,
        front: &'a [u8],
        scratch: &'a mut Vec<u8>,
        runs: &mut [IoSlice<'a>],
    ) -> (usize, Offer) {
        let Some(reader) = self.reader(seat) else { return (0, Offer::default()) };
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty() && count < runs.len() {
                runs[count] = IoSlice::new(bytes);
                count += 1;
            }
        };
        put(if reader.half { &[IAC] } else { &[] });
        put(front);
        let mut offer = Offer { half: reader.half, front: front.len(), data: 0, end: reader.at };
        if reader.is_shown() {
            let output = &mut runs[count..];
            let (more, data, end) = match reader.form {
                Form::Guest => guest_runs(&self.journal, reader.at, scratch, output),
                Form::Wire | Form::Undecided => wire_runs(&self.journal, reader, output),
            };
            count += more;
            (offer.data, offer.end) = (data, end);
        }
        (count, offer)
    }

    /// The reader has taken the first `n` bytes of what it was offered. Where that is not all, costs a look
    /// at each of them.
    pub(super) fn took(&mut self, seat: Seat, offer: Offer, n: usize) -> Took {
        let Some(reader) = sitting(&mut self.readers, seat) else {
            return Took::default();
        };
        let half = usize::from(offer.half).min(n);
        reader.half &= half == 0;
        let front = offer.front.min(n - half);
        let data = offer.data.min(n - half - front);
        if data == 0 {
            return Took { front, data: half, frees: false };
        }
        let needed = reader.needs();
        if data == offer.data {
            reader.take_all(offer.end);
        } else {
            reader.take_some(data, &self.journal);
        }
        reader.guest_at += data as u64;
        let oldest_end = self.journal.oldest_end();
        Took { front, data: half + data, frees: needed < oldest_end && reader.needs() >= oldest_end }
    }

    /// Where a reader stands. Costs a look at each byte that it has not taken.
    pub(super) fn stand(&mut self, seat: Seat) -> Stand {
        let Some(reader) = self.reader(seat) else { return Stand::default() };
        // Of half a pair nothing is shown.
        let at = if reader.half { reader.at.saturating_sub(1) } else { reader.at };
        self.stand_at(at)
    }

    /// Where one stands who has been shown all up to an offset, or up to what is kept.
    pub(super) fn stand_at(&mut self, at: u64) -> Stand {
        let at = at.clamp(self.journal.tail(), self.journal.head());
        Stand { at, guest: self.journal.guest_at(at) }
    }

    /// A reader that has just come goes on where one before it stood, or with the oldest byte that is there.
    /// Returns how many guest bytes it has missed.
    pub(super) fn go_on_from(&mut self, seat: Seat, from: Stand) -> u64 {
        let mut at = from.at.clamp(self.journal.tail(), self.journal.head());
        if self.journal.is_mid_pair(at) {
            at -= 1;
        }
        let Some(reader) = sitting(&mut self.readers, seat) else { return 0 };
        reader.at = at;
        reader.attached_at = at;
        let guest = self.journal.guest_at(at);
        if reader.form == Form::Guest {
            reader.guest_at = guest;
        }
        guest.saturating_sub(from.guest)
    }

    /// How many guest bytes were printed before a reader's next one, and how many it has missed right before
    /// that and was not told of. For readers attached as [`Form::Guest`].
    pub(super) fn position(&self, seat: Seat) -> (u64, u64) {
        self.reader(seat).map_or((0, 0), |reader| (reader.guest_at, reader.lost))
    }

    /// A reader was told what it has missed.
    pub(super) fn told_of_gap(&mut self, seat: Seat) {
        if let Some(reader) = sitting(&mut self.readers, seat) {
            reader.lost = 0;
        }
    }

    /// It is known what a reader is. One that has the first half of a pair and takes guest bytes has the
    /// whole byte.
    pub(super) fn settle_form(&mut self, seat: Seat, form: Form, skips: bool) -> Settled {
        let Some(reader) = sitting(&mut self.readers, seat) else {
            return Settled::Well;
        };
        reader.form = form;
        reader.skips = skips;
        reader.half &= form != Form::Guest;
        if reader.overtaken.is_some() && !skips { Settled::Lost } else { Settled::Well }
    }

    /// Shows a reader the last `back` bytes before it came, before anything new, but none before an offset.
    /// What it has been shown since is not shown again.
    pub(super) fn replay(&mut self, seat: Seat, back: u64, not_before: u64) {
        let Some(reader) = sitting(&mut self.readers, seat) else { return };
        if back == 0 || reader.overtaken.is_some() || reader.jump.is_some() {
            return;
        }
        let from = self.journal.scrollback_start(reader.attached_at, back).max(not_before);
        if from < reader.attached_at {
            reader.jump = Some(Box::new((reader.attached_at, reader.at)));
            reader.at = from;
        }
    }

    /// A reader is shown no more of what was printed before it came: it goes on where it was before that.
    pub(super) fn end_replay(&mut self, seat: Seat) {
        if let Some(reader) = sitting(&mut self.readers, seat)
            && let Some(jump) = reader.jump.take()
        {
            reader.at = jump.1;
        }
    }

    /// A reader does not want what it has not taken: it goes on behind the last byte. Nothing is lost that
    /// way that it would have to be told of.
    pub(super) fn skip(&mut self, seat: Seat) {
        let Some(reader) = sitting(&mut self.readers, seat) else { return };
        reader.at = self.journal.head();
        reader.guest_at = self.journal.guest_head();
        reader.jump = None;
        reader.overtaken = None;
    }

    /// How far a reader is behind, in bytes as they are kept.
    pub(super) fn lag(&self, seat: Seat) -> u64 {
        self.reader(seat).map_or(0, |reader| self.journal.head().saturating_sub(reader.needs()))
    }

    /// How far the slowest person is behind, in bytes as they are kept. Costs a look at each reader.
    pub(super) fn slowest_lag(&self) -> u64 {
        self.lags().map(|(_, lag)| lag).max().unwrap_or(0)
    }

    /// Every person that is in the journal, and how far it is behind; not counting what was printed before it
    /// came, for which nobody waits.
    pub(super) fn lags(&self) -> impl Iterator<Item = (K, u64)> {
        let persons = self.readers.iter().flatten();
        persons
            .filter(|reader| reader.kind == Kind::Person && reader.overtaken.is_none())
            .map(|reader| (reader.key, self.journal.head() - reader.lags_from()))
    }

    /// Fails a debug build where what is kept twice does not agree.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        let (tail, head) = (self.journal.tail(), self.journal.head());
        for reader in self.readers.iter().flatten() {
            assert!(reader.at <= head, "a reader is ahead of its journal");
            if reader.overtaken.is_none() {
                assert!(reader.needs() >= tail, "a reader was overtaken and does not know");
                assert!(!self.journal.is_mid_pair(reader.at), "a reader stands inside a pair");
            } else {
                assert!(reader.jump.is_none(), "a reader that was overtaken is shown older output");
            }
            if let Some((until, resume)) = reader.jump() {
                assert!(reader.at <= until && until <= resume && resume <= head, "a jump leads astray");
            }
        }
        assert!(self.readers.last().is_none_or(Option::is_some), "an empty seat is kept at the end");
    }

    /// What sits there.
    pub(super) fn kind(&self, seat: Seat) -> Option<Kind> {
        self.reader(seat).map(|reader| reader.kind)
    }

    fn reader(&self, seat: Seat) -> Option<&Reader<K>> {
        let reader = self.readers.get(seat.index as usize)?.as_ref()?;
        (reader.generation == seat.generation).then_some(reader)
    }
}

/// Whoever sits there, if that is still the reader that the seat was given to.
fn sitting<K>(readers: &mut [Option<Reader<K>>], seat: Seat) -> Option<&mut Reader<K>> {
    let reader = readers.get_mut(seat.index as usize)?.as_mut()?;
    (reader.generation == seat.generation).then_some(reader)
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
