//! What was said, by whom, when and in which frame: the form in which a captured session and a replayed
//! one are compared and judged.

use std::fmt;
use std::time::Duration;

use crate::capture::{Connection, How, Part, Side, Start, Stream};
use crate::telnet::{Decoder, Word};

/// One step of a dialogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When, and in which frame.
    pub mark: Mark,
    /// On which connection: an index into the list of them.
    pub conn: usize,
    /// What happened.
    pub act: Act,
}

/// When something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// The frame that carried it. In a replay: the frame that was played last.
    pub frame: u64,
    /// The time since the beginning.
    pub time: Duration,
}

/// What happened on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// It came up.
    Open,
    /// Someone said something.
    Say(By, Word),
    /// Someone stopped in the middle of a command: its beginning, as it was sent.
    Half(By, Vec<u8>),
    /// Someone said something that is not in the capture: this many bytes.
    Gap(By, u64),
    /// Someone stopped talking.
    End(By, How),
}

/// Who.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum By {
    /// The VM's host.
    Vm,
    /// The concentrator.
    Proxy,
}

impl By {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Vm => Self::Proxy,
            Self::Proxy => Self::Vm,
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vm => "vm",
            Self::Proxy => "proxy",
        })
    }
}

/// The dialogue of some captured connections, in the order of the capture. With each: which side
/// of it is the proxy.
#[must_use]
pub(super) fn of(connections: &[(&Connection, Side)]) -> Vec<Step> {
    let mut steps: Vec<(u64, Step)> = Vec::new();
    for (conn, (connection, proxy)) in connections.iter().enumerate() {
        one(conn, connection, *proxy, &mut steps);
    }
    // By the frame with which a step was due; a stable sort keeps each connection's own order.
    steps.sort_by_key(|(due, _)| *due);
    steps.into_iter().map(|(_, step)| step).collect()
}

/// The dialogue of one connection. Its directions are merged by what is due first, but nothing comes
/// before what its sender had received when it was said: a capture may show an answer before its question.
fn one(conn: usize, connection: &Connection, proxy: Side, steps: &mut Vec<(u64, Step)>) {
    let (frame, time) = connection.first;
    steps.push((frame, Step { mark: Mark { frame, time }, conn, act: Act::Open }));
    let mark = Mark { frame, time };
    let (mut vm, mut server) = (
        Direction::new(By::Vm, connection.stream(proxy.other()), mark),
        Direction::new(By::Proxy, connection.stream(proxy), mark),
    );
    let mut due = frame;
    loop {
        let first = match (vm.head(), server.head()) {
            (None, None) => return,
            (Some(_), None) => &mut vm,
            (None, Some(_)) => &mut server,
            (Some((_, knows)), Some(_)) if knows > server.position => &mut server,
            (Some(_), Some((_, knows))) if knows > vm.position => &mut vm,
            (Some((ours, _)), Some((theirs, _))) if theirs < ours => &mut server,
            (Some(_), Some(_)) => &mut vm,
        };
        due = due.max(first.head().map_or(0, |(due, _)| due));
        first.step(conn, due, steps);
    }
}

/// One direction that is being read.
struct Direction<'a> {
    by: By,
    stream: &'a Stream,
    /// The part that is next; behind the last one comes the end.
    next: usize,
    /// Everything before this place has been read.
    position: i64,
    reader: Decoder,
    mark: Mark,
}

impl<'a> Direction<'a> {
    fn new(by: By, stream: &'a Stream, mark: Mark) -> Self {
        let position = match stream.parts.first() {
            Some(Part::Bytes { offset, .. } | Part::Hole { offset, .. }) => *offset,
            None => i64::MAX,
        };
        Self { by, stream, next: 0, position, reader: Decoder::default(), mark }
    }

    /// When the next part is due, and what its sender knew. `None` when nothing is left.
    fn head(&self) -> Option<(u64, i64)> {
        match self.stream.parts.get(self.next) {
            Some(Part::Bytes { due, knows, .. }) => Some((*due, *knows)),
            Some(Part::Hole { .. }) => Some((0, i64::MIN)),
            None if self.next > self.stream.parts.len() => None,
            None => match self.stream.end {
                Some(end) => Some((end.due, end.knows)),
                None => (!self.reader.unfinished().is_empty()).then_some((0, i64::MIN)),
            },
        }
    }

    fn step(&mut self, conn: usize, now: u64, steps: &mut Vec<(u64, Step)>) {
        let (by, stream) = (self.by, self.stream);
        match stream.parts.get(self.next) {
            Some(Part::Bytes { range, frame, time, offset, .. }) => {
                self.mark = Mark { frame: *frame, time: *time };
                self.position = offset + range.len() as i64;
                for word in self.reader.read(&stream.bytes[range.clone()]) {
                    steps.push((now, Step { mark: self.mark, conn, act: Act::Say(by, word) }));
                }
            }
            Some(Part::Hole { length, offset, .. }) => {
                self.position = offset.saturating_add_unsigned(*length);
                // Half a command is none: what follows the hole must not become its other half.
                self.reader.abandon();
                steps.push((now, Step { mark: self.mark, conn, act: Act::Gap(by, *length) }));
            }
            None => {
                let begun = self.reader.abandon();
                if !begun.is_empty() {
                    steps.push((now, Step { mark: self.mark, conn, act: Act::Half(by, begun) }));
                }
                self.position = i64::MAX;
                if let Some(end) = stream.end {
                    let mark = Mark { frame: end.frame, time: end.time };
                    steps.push((now, Step { mark, conn, act: Act::End(by, end.how) }));
                }
            }
        }
        self.next += 1;
    }
}

/// Whether the beginning of either direction is missing.
#[must_use]
pub(super) fn starts_in_the_middle(connection: &Connection) -> bool {
    let missing = |stream: &Stream| {
        stream.start == Start::Middle && !stream.bytes.is_empty()
            || matches!(stream.parts.first(), Some(Part::Hole { .. }))
    };
    connection.streams.iter().any(missing)
}
