//! One open stream, as its table entry holds it.
//!
//! Owns nothing on the heap: counts, states, and its links in the lists of the [table](super::table); its
//! bytes are in the pool. Refuses to know what its fields mean to the protocol.

use super::bits::{Pending, Words};
use super::config::Priority;
use super::event::ResetReason;
use super::receiver::Receiver;
use super::segments::{Cursor, Queue};
use super::sender::Sender;
use super::table::NONE;
use super::v1::Pace;
use super::wire::StreamId;
use crate::time::Instant;

/// One open stream: counts, states and links; its bytes are in the pool.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    pub sender: Sender,
    pub receiver: Receiver,
    /// Written, and on a line that may ask for it again not acked; on one that does not, not sent.
    pub unacked: Queue,
    /// The next byte of `unacked` to send.
    pub cursor: Cursor,
    /// Received and not consumed.
    pub unread: Queue,
    /// Consumed bytes whose ACK has not been sent.
    pub ack: u32,
    /// How many times this side's window has doubled.
    pub grown: u8,
    /// The application wants both its windows as they are.
    pub keeps_window: bool,
    /// Bytes that were taken since the window was looked at, and since when.
    pub turned: u32,
    pub turn_began: Instant,
    /// Words due.
    pub due: Words,
    /// Events due.
    pub events: Pending,
    pub priority: Priority,
    /// The application wrote less than it wanted.
    pub wants_room: bool,
    /// The application wants to know when something could leave.
    pub wants_credit: bool,
    /// v1: the exit code to send, or the one received.
    pub exit: u8,
    /// v1: the exit code came.
    pub exited: bool,
    /// v1: its buffer is full and the line waits for it.
    pub blocks: bool,
    /// Gone; the entry waits for its last event to be polled and for its RESET to leave.
    pub dead: bool,
    /// Why, unless it retired in good order.
    pub reset: Option<ResetReason>,
    /// The round in which it had its last turn.
    pub served: u32,
    /// Bytes promised in the plan of the last `transmit`, and where they end.
    pub planned: u32,
    pub plan_cursor: Cursor,
    pub pace: Pace,
    pub links: [Link; 4],
    /// Which of the lists of streams to send it is in, if it is in one.
    pub sends_in: List,
}

impl Stream {
    pub(super) fn new(id: StreamId, max_frame: u16, served: u32) -> Self {
        Self {
            id,
            sender: Sender::new(max_frame),
            receiver: Receiver::new(),
            unacked: Queue::default(),
            cursor: Cursor::FRONT,
            unread: Queue::default(),
            ack: 0,
            grown: 0,
            keeps_window: false,
            turned: 0,
            turn_began: Instant::ZERO,
            due: Words::default(),
            events: Pending::default(),
            priority: Priority::Normal,
            wants_room: false,
            wants_credit: false,
            exit: 0,
            exited: false,
            blocks: false,
            dead: false,
            reset: None,
            served,
            planned: 0,
            plan_cursor: Cursor::FRONT,
            pace: Pace::default(),
            links: [OUT; 4],
            sends_in: List::Fresh(Priority::Normal),
        }
    }
}

/// One of the lists. Each entry is in at most one of the `Fresh` and `Turn` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Streams that are not dead.
    Live,
    /// Streams with words due.
    Words,
    /// Streams with events due.
    Events,
    /// Streams that can send all they have in one frame and had no turn in this round, by priority.
    Fresh(Priority),
    /// All others with payload that may be sent, served in turn, by priority.
    Turn(Priority),
}

impl List {
    pub(super) const COUNT: usize = 9;

    /// Its place among the heads.
    pub(super) const fn head(self) -> usize {
        match self {
            Self::Live => 0,
            Self::Words => 1,
            Self::Events => 2,
            Self::Fresh(priority) => 3 + priority as usize,
            Self::Turn(priority) => 6 + priority as usize,
        }
    }

    /// Which of an entry's links it uses.
    pub(super) const fn link(self) -> usize {
        match self {
            Self::Live => 0,
            Self::Words => 1,
            Self::Events => 2,
            Self::Fresh(_) | Self::Turn(_) => 3,
        }
    }
}

/// An entry's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub prev: u32,
    pub next: u32,
}

/// In no list; `NONE` as a neighbour means an end of one.
pub(super) const OUT: Link = Link { prev: NONE - 1, next: NONE - 1 };
