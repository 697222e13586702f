//! One log read in order, from its oldest file to the one that is written to, and on while that grows.
//!
//! **Owns** where the reader stands, also when files are renamed, compressed, emptied or removed beneath it;
//! which part of the log lies between two times; and what its last lines are. **Refuses to know** whom it is
//! read for. It reads when it is asked, and holds no more than a piece.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::date;
use crate::marks::{self, Mark};
use crate::place::Place;
use crate::stamps::{Part, Splitter, stamp_of};
use crate::volume::{Opened, Volume, assign, volumes};

/// Which part of a log is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// From this time on, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Up to this time.
    pub until: Option<u64>,
    /// Only so many of the last lines. Means nothing beside `since`.
    pub lines: Option<usize>,
    /// From this place on, in place of the above but for `until`.
    pub after: Option<Place>,
    /// And on while the log grows. Otherwise it ends where the log ended when it was opened.
    pub follow: bool,
}

/// A piece of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// What follows was printed at this time, in milliseconds since 1970.
    Time(u64),
    /// What the VM printed.
    Text(Vec<u8>),
    /// What the log has beside that: the time before a line.
    Stamp(Vec<u8>),
    /// Something that whoever reads should know.
    Note(String),
}

/// The files of a log, and where their times are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The file that is written to.
    pub log: PathBuf,
    /// Its index, if it has one.
    pub index: Option<PathBuf>,
}

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    /// The log's names, oldest first: more than one where the date is a part of the name.
    sources: Vec<Source>,
    span: Span,
    /// Lines begin with times. `None`: the first line tells.
    stamps: Option<bool>,
    /// What is still to be read; the first is the one that is being read.
    volumes: VecDeque<(usize, Volume)>,
    opened: Option<Opened>,
    offset: u64,
    /// The next of the volume's marks.
    next_mark: usize,
    splitter: Splitter,
    time: u64,
    /// What is read is before `since`.
    is_hidden: bool,
    /// `until` is behind.
    is_over: bool,
    /// The last piece was the last, for now.
    is_at_end: bool,
    /// The end was reached once: what comes from now on is printed now.
    is_live: bool,
    notes: Vec<String>,
}

impl Reader {
    /// Begins to read. `stamps`: whether lines begin with times, if that is known.
    ///
    /// # Errors
    ///
    /// The log's directory cannot be read, or a file of it.
    pub fn open(sources: Vec<Source>, span: Span, stamps: Option<bool>) -> io::Result<Self> {
        let mut reader = Self {
            sources,
            span,
            stamps,
            volumes: VecDeque::new(),
            opened: None,
            offset: 0,
            next_mark: 0,
            splitter: Splitter::new(true),
            time: 0,
            is_hidden: false,
            is_over: false,
            is_at_end: false,
            is_live: false,
            notes: Vec::new(),
        };
        for at in 0..reader.sources.len() {
            let found = list(&reader.sources[at])?;
            reader.volumes.extend(found.into_iter().map(|volume| (at, volume)));
        }
        reader.begin()?;
        Ok(reader)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.stamps.is_none() {
            self.stamps = Some(self.begins_with_stamp());
        }
        if let Some(place) = self.span.after {
            let is_it = |(_, volume): &(usize, Volume)| volume.origin == Some(place.file);
            self.time = place.time;
            if let Some(at) = self.volumes.iter().rposition(is_it) {
                self.volumes.drain(..at);
                return self.start(place.offset);
            }
            self.note("some of what was printed meanwhile may be missing, or come twice");
            self.span.lines = None;
            self.span.since = Some(place.time + 1);
        }
        let offset = match (self.span.since, self.span.lines) {
            (Some(since), _) => self.seek_time(since),
            (None, Some(lines)) => self.seek_lines(lines)?,
            (None, None) => 0,
        };
        self.start(offset)
    }

    fn begins_with_stamp(&self) -> bool {
        let Some((_, first)) = self.volumes.front() else { return false };
        let mut line = Vec::new();
        let read = first.open().and_then(|opened| opened.take(64).read_to_end(&mut line));
        read.is_ok() && stamp_of(&line).is_some()
    }

    /// Drops the volumes that were printed before; returns where to begin in the first that is left.
    fn seek_time(&mut self, since: u64) -> u64 {
        let has_stamps = self.stamps == Some(true);
        while let Some((_, volume)) = self.volumes.front() {
            let mark = volume.marks.iter().find(|mark| mark.latest() >= since);
            if let Some(mark) = mark {
                self.is_hidden = has_stamps;
                return mark.offset;
            }
            // What was written later than its last mark says has no mark: better too much of it than nothing.
            let last = volume.marks.last();
            let has_more = |last: &Mark| !volume.is_packed && last.latest() + SLACK < volume.written;
            if volume.written >= since && last.is_none_or(has_more) {
                self.is_hidden = has_stamps;
                let offset = last.map_or(0, |last| last.offset);
                if !has_stamps && volume.len > offset {
                    let path = volume.path.display().to_string();
                    self.note(&format!("{path} has no times: it begins earlier than that"));
                }
                return offset;
            }
            if self.volumes.len() == 1 {
                return if volume.is_packed { END } else { volume.len };
            }
            self.volumes.pop_front();
        }
        0
    }

    /// Finds the beginning of the last lines; drops the volumes before it.
    fn seek_lines(&mut self, lines: usize) -> io::Result<u64> {
        let mut left = lines;
        let mut is_end = true;
        for at in (0..self.volumes.len()).rev() {
            let volume = &self.volumes[at].1;
            let (start, seen) = line_start(volume, left, is_end)?;
            is_end &= volume.len == 0;
            if start.is_some() || at == 0 {
                self.volumes.drain(..at);
                return Ok(start.unwrap_or(0));
            }
            left -= seen;
        }
        Ok(0)
    }

    /// Opens the first volume that is left, at that place in it.
    fn start(&mut self, offset: u64) -> io::Result<()> {
        self.opened = None;
        self.offset = offset;
        self.next_mark = 0;
        // Until it is known better: a place is given out at the end of a line or of a piece.
        self.splitter = Splitter::new(offset == 0);
        let Some((_, volume)) = self.volumes.front() else { return Ok(()) };
        let mut opened = match volume.open() {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let path = volume.path.display().to_string();
                self.note(&format!("{path} was removed before it could be read"));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if offset > 0 {
            opened.skip_to(offset - 1)?;
            let mut before = [0];
            let is_there = opened.read(&mut before)? == 1;
            self.splitter = Splitter::new(is_there && before == *b"\n");
        }
        let volume = &self.volumes[0].1;
        self.next_mark = volume.marks.iter().rposition(|mark| mark.offset <= offset).unwrap_or(0);
        self.opened = Some(opened);
        Ok(())
    }

    /// Where the reader stands: all that it has handed out lies before.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let (_, volume) = self.volumes.front()?;
        let held = self.splitter.held() as u64;
        Some(Place { file: volume.origin?, offset: self.offset - held, time: self.time })
    }

    /// Whether there is nothing behind the last piece: for now, or where the end of the span was reached for
    /// ever.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Whether the end of the span was reached.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The log goes on in another file.
    pub fn moved(&mut self, source: Source) {
        if self.sources.last() != Some(&source) {
            self.sources.push(source);
        }
    }

    /// Reads the next piece, of about this many bytes at most. It may be empty also where it is not the last:
    /// what was passed over counts.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn read(&mut self, most: usize) -> io::Result<Vec<Item>> {
        let mut items: Vec<Item> = self.notes.drain(..).map(Item::Note).collect();
        let mut left = most;
        let mut buffer = vec![0; most];
        self.is_at_end = false;
        while left > 0 {
            self.tell_time(&mut items);
            if self.is_over {
                self.is_at_end = true;
                break;
            }
            let n = match self.readable(left) {
                0 => 0,
                most => match self.read_volume(&mut buffer[..most])? {
                    Some(n) => n,
                    None => continue,
                },
            };
            if n > 0 {
                self.offset += n as u64;
                left -= n;
                self.hand_out(&buffer[..n], &mut items);
                continue;
            }
            let held = self.splitter.finish();
            if !held.is_empty() && !self.is_hidden {
                push_text(&mut items, &held);
            }
            if !self.advance()? {
                self.is_at_end = true;
                break;
            }
        }
        items.extend(self.notes.drain(..).map(Item::Note));
        Ok(items)
    }

    /// How much of the volume may be read at once.
    fn readable(&self, most: usize) -> usize {
        let (Some((_, volume)), Some(_)) = (self.volumes.front(), &self.opened) else { return 0 };
        let mut most = most as u64;
        if let Some(mark) = volume.marks.get(self.next_mark).filter(|mark| mark.offset > self.offset) {
            most = most.min(mark.offset - self.offset);
        }
        if !self.span.follow && !volume.is_packed && self.volumes.len() == 1 {
            most = most.min(volume.len.saturating_sub(self.offset));
        }
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Reads some of the volume. `None`: nothing yet, try again.
    fn read_volume(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let (Some(opened), Some((_, volume))) = (&mut self.opened, self.volumes.front()) else {
            return Ok(Some(0));
        };
        match opened.read(into) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            // A compressed file that ends too early, or is none, is read up to there.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidInput) => {
                let path = volume.path.display().to_string();
                self.note(&format!("{path} is cut off, or damaged"));
                Ok(Some(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Tells the time of what comes next, where it is known.
    fn tell_time(&mut self, items: &mut Vec<Item>) {
        if self.stamps == Some(true) {
            return;
        }
        let Some((_, volume)) = self.volumes.front() else { return };
        let (Some(mark), true) = (volume.marks.get(self.next_mark), self.opened.is_some()) else {
            if volume.marks.is_empty() && self.offset == 0 && self.time > 0 {
                self.is_over = self.span.until.is_some_and(|until| self.time > until);
            }
            return;
        };
        if mark.offset <= self.offset {
            self.next_mark += 1;
            self.time = mark.time;
            items.push(Item::Time(mark.time));
            self.is_over = self.span.until.is_some_and(|until| mark.time > until);
        }
    }

    fn hand_out(&mut self, bytes: &[u8], items: &mut Vec<Item>) {
        if self.stamps != Some(true) {
            if self.is_live {
                self.time = date::millis(SystemTime::now());
                items.push(Item::Time(self.time));
            }
            return push_text(items, bytes);
        }
        let (since, until) = (self.span.since.unwrap_or(0), self.span.until.unwrap_or(u64::MAX));
        let (mut time, mut is_hidden, mut is_over) = (self.time, self.is_hidden, self.is_over);
        self.splitter.split(bytes, |part| {
            if let Part::Stamp(at, _) = part {
                is_hidden = at < since;
                is_over |= at > until;
            }
            match part {
                _ if is_over || is_hidden => {}
                Part::Stamp(at, bytes) => {
                    time = at;
                    items.push(Item::Time(at));
                    items.push(Item::Stamp(bytes.to_vec()));
                }
                Part::Text(bytes) => push_text(items, bytes),
            }
        });
        (self.time, self.is_hidden, self.is_over) = (time, is_hidden, is_over);
    }

    /// What is to be read when a volume has ended: the next one, also one that has come since; or more of the
    /// last. Returns whether there is something.
    fn advance(&mut self) -> io::Result<bool> {
        if self.volumes.len() > 1
            && let Some((_, ended)) = self.volumes.pop_front()
        {
            if ended.marks.is_empty() && self.stamps != Some(true) {
                self.time = self.time.max(ended.written);
            }
            self.start(0)?;
            return Ok(true);
        }
        if !self.span.follow {
            return Ok(false);
        }
        self.is_live = true;
        if let (Some(opened), Some((_, volume))) = (&mut self.opened, self.volumes.front())
            && opened.len_now()?.is_some_and(|len| len < self.offset)
        {
            let path = volume.path.display().to_string();
            self.note(&format!("{path} was emptied"));
            self.start(0)?;
            return Ok(true);
        }
        let newer = self.newer()?;
        if newer.is_empty() {
            return Ok(false);
        }
        // Something may have been put into the file between the last look at it and the new one's coming.
        if let Some(opened) = &mut self.opened
            && opened.len_now()?.is_some_and(|len| len > self.offset)
        {
            return Ok(true);
        }
        self.volumes.extend(newer);
        if self.volumes.len() > 1 {
            self.volumes.pop_front();
        }
        self.start(0)?;
        Ok(true)
    }

    /// Volumes that have come since.
    fn newer(&mut self) -> io::Result<Vec<(usize, Volume)>> {
        let (at, inode) = match self.volumes.front() {
            Some((at, volume)) => (*at, Some(volume.inode)),
            None => (0, None),
        };
        let is_same = |source: &Source| fs::metadata(&source.log).is_ok_and(|now| Some(now.ino()) == inode);
        let mut newer = Vec::new();
        for (of, source) in self.sources.iter().enumerate().skip(at) {
            // All names of a directory are looked at only when there is something to be found.
            if of == at && is_same(source) {
                continue;
            }
            let found = match volumes(&source.log) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found?,
            };
            let known = found.iter().position(|volume| of == at && Some(volume.inode) == inode);
            let from = match (known, inode) {
                (Some(known), _) => known + 1,
                // It was removed or compressed: what is written to now is all that is known to be newer.
                (None, Some(_)) if of == at => match fs::metadata(&source.log) {
                    Ok(_) => found.len().saturating_sub(1),
                    Err(_) => found.len(),
                },
                _ => 0,
            };
            newer.extend(found.into_iter().skip(from).map(|volume| (of, volume)));
        }
        Ok(newer)
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn list(source: &Source) -> io::Result<Vec<Volume>> {
    let mut found = match volumes(&source.log) {
        // A log that was never written to.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    if let Some(index) = &source.index {
        assign(&mut found, &marks::load(index));
    }
    Ok(found)
}

fn push_text(items: &mut Vec<Item>, bytes: &[u8]) {
    match items.last_mut() {
        Some(Item::Text(text)) => text.extend_from_slice(bytes),
        _ => items.push(Item::Text(bytes.to_vec())),
    }
}

/// Where the last lines of a file begin: behind so many ends of lines, counted from its end; `None` where it
/// has fewer, and how many. `is_end`: nothing comes behind it, and an end of a line at its end ends the last
/// one.
fn line_start(volume: &Volume, lines: usize, is_end: bool) -> io::Result<(Option<u64>, usize)> {
    if lines == 0 {
        return Ok((Some(if volume.is_packed { END } else { volume.len }), 0));
    }
    let mut opened = volume.open()?;
    let mut buffer = vec![0; BLOCK];
    if volume.is_packed {
        let (mut starts, mut seen, mut at) = (VecDeque::new(), 0, 0);
        loop {
            let n = match opened.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            if n == 0 {
                break;
            }
            for end in memchr::memchr_iter(b'\n', &buffer[..n]) {
                starts.push_back(at + end as u64 + 1);
                seen += 1;
                if starts.len() > lines.saturating_add(1) {
                    starts.pop_front();
                }
            }
            at += n as u64;
        }
        if is_end && starts.back() == Some(&at) {
            starts.pop_back();
            seen -= 1;
        }
        let start = starts.len().checked_sub(lines).and_then(|nth| starts.get(nth));
        return Ok((start.copied(), seen));
    }
    let (mut at, mut seen) = (volume.len, 0);
    while at > 0 {
        let n = at.min(BLOCK as u64) as usize;
        at -= n as u64;
        opened.skip_to(at)?;
        opened.read_exact(&mut buffer[..n])?;
        for end in memchr::memrchr_iter(b'\n', &buffer[..n]) {
            let behind = at + end as u64 + 1;
            if is_end && behind == volume.len {
                continue;
            }
            seen += 1;
            if seen == lines {
                return Ok((Some(behind), seen));
            }
        }
    }
    Ok((None, seen))
}

/// Behind all that a file has.
const END: u64 = u64::MAX;

/// How much is read at a time where lines are counted.
const BLOCK: usize = 64 << 10;

/// By how much a file may be written to later than its last mark says, in milliseconds: the time of a write.
const SLACK: u64 = 100;

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
