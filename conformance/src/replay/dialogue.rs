//! What was said, by whom, when and in which frame: the form in which a captured session and a replayed
//! one are compared and judged.

use std::fmt;
use std::time::Duration;

use super::telnet::{Item, Reader};
use crate::capture::{Connection, How, Part, Side, Start, Stream};

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
    Say(By, Item),
    /// Someone said something that is not in the capture: this many bytes.
    Gap(By, u64),
    /// Someone stopped talking, inside a command if that is said.
    End(By, How, Inside),
}

/// Whether a stream ended inside a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside {
    /// No.
    Nothing,
    /// Yes.
    Command,
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
        f.write_str(match self {
            Self::Vm => "vm",
            Self::Proxy => "proxy",
        })
    }
}

/// The dialogue of some captured connections, in the order of the capture. `servers` says which side of
/// each is the proxy.
#[must_use]
pub fn of(connections: &[(&Connection, Side)]) -> Vec<Step> {
    // By the frame with which a step was complete, what waited for that frame after what came in it; a
    // stable sort keeps each stream's own order.
    let mut steps: Vec<((u64, bool), Step)> = Vec::new();
    for (conn, (connection, proxy)) in connections.iter().enumerate() {
        let (frame, time) = connection.first;
        steps.push(((frame, false), Step { mark: Mark { frame, time }, conn, act: Act::Open }));
        for (by, side) in [(By::Vm, proxy.other()), (By::Proxy, *proxy)] {
            stream(conn, by, connection.stream(side), connection.first, &mut steps);
        }
    }
    steps.sort_by_key(|(due, _)| *due);
    steps.into_iter().map(|(_, step)| step).collect()
}

/// The steps of one direction.
fn stream(
    conn: usize,
    by: By,
    stream: &Stream,
    first: (u64, Duration),
    steps: &mut Vec<((u64, bool), Step)>,
) {
    let mut reader = Reader::default();
    let (mut due_now, mut mark) = ((first.0, false), Mark { frame: first.0, time: first.1 });
    for part in &stream.parts {
        match part {
            Part::Bytes { range, frame, due, time } => {
                (due_now, mark) = ((*due, frame < due), Mark { frame: *frame, time: *time });
                for item in reader.read(&stream.bytes[range.clone()]) {
                    steps.push((due_now, Step { mark, conn, act: Act::Say(by, item) }));
                }
            }
            Part::Hole { length, .. } => {
                // Half a command is none: what follows the hole must not become its other half.
                reader.rest();
                steps.push((due_now, Step { mark, conn, act: Act::Gap(by, *length) }));
            }
        }
    }
    let rest = reader.rest();
    let inside = if rest.is_empty() { Inside::Nothing } else { Inside::Command };
    if inside == Inside::Command {
        // Unfinished as it is, it was sent.
        let item = Item { said: super::telnet::Said::Data(Vec::new()), raw: rest };
        steps.push((due_now, Step { mark, conn, act: Act::Say(by, item) }));
    }
    if let Some(end) = stream.end {
        let mark = Mark { frame: end.frame, time: end.time };
        steps.push((
            due_now.max((end.due, end.frame < end.due)),
            Step { mark, conn, act: Act::End(by, end.how, inside) },
        ));
    }
}

/// Whether the beginning of either direction is missing.
#[must_use]
pub fn starts_in_the_middle(connection: &Connection) -> bool {
    let missing = |stream: &Stream| {
        stream.start == Start::Middle && !stream.bytes.is_empty()
            || matches!(stream.parts.first(), Some(Part::Hole { .. }))
    };
    connection.streams.iter().any(missing)
}
