//! What the engine asks of its runtime, and the words the runtime uses to tell it what happened.

use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::operator::LogQuery;

use super::address::Address;
use super::event::Event;
use super::id::{ConnId, ConsoleId, ListenerId};
use super::target::Target;

/// What to do next; from [`poll_output`](super::Concentrator::poll_output).
#[must_use]
#[derive(Clone, Debug)]
pub enum Output {
    /// It has bytes: call [`transmit`](super::Concentrator::transmit) until it offers nothing or the socket
    /// is full. Not said again before `transmit` has offered nothing.
    Transmit(ConnId),
    /// Its receive window rose from zero: read again.
    Receive(ConnId),
    /// A reader inside the process has bytes: call [`read_local`](super::Concentrator::read_local) until it
    /// offers nothing. Not said again before that.
    Local(ConnId),
    /// Open this listener and answer with
    /// [`handle_listening`](super::Concentrator::handle_listening).
    Listen(ListenerId, Address),
    /// Close this listener. The id is dead.
    Unlisten(ListenerId),
    /// Connect to this, under this id, and answer with
    /// [`handle_connected`](super::Concentrator::handle_connected). It may be closed before that.
    Connect(ConnId, Arc<Target>),
    /// Close this connection. The id is dead.
    Close(ConnId, Shutdown),
    /// What [`console`](super::Concentrator::console) tells of this console has changed, or the console is
    /// gone. Said once however much has changed; never suppressed.
    Changed(ConsoleId),
    /// Ask the kernel how the peer's TCP does and answer with
    /// [`handle_tcp_state`](super::Concentrator::handle_tcp_state), at once: a decision waits for it, for a
    /// quarter of a second. A runtime that cannot know may ignore it.
    Inspect(ConnId),
    /// Something that concerns the whole process: what an operator has ordered.
    Host(Order),
    /// Somebody reads a console's log: read it, and answer with
    /// [`handle_log`](super::Concentrator::handle_log). Said only where [`Config`](super::Config) says that
    /// there are logs.
    Log(LogOrder),
    /// Something worth a log line. Ignoring it is always safe.
    Event(Event),
}

/// Somebody who reads a console's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogReader {
    /// Whose connection it is: once that is closed, nobody reads any more.
    pub conn: ConnId,
    /// The stream of its session that carries the log.
    pub stream: u64,
}

/// What is wanted of a console's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogOrder {
    /// The first piece of this part of it.
    Begin(LogReader, ConsoleId, Box<LogQuery>),
    /// The next piece.
    More(LogReader),
    /// No more.
    Stop(LogReader),
}

/// What an operator orders of the process around the engine.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Load again what can be loaded while serving, as at SIGHUP, and tell this connection by
    /// [`handle_reloaded`](super::Concentrator::handle_reloaded) what came of it, whatever that is: it is
    /// asked nothing else before.
    Reload(ConnId),
    /// End in order, as at SIGTERM.
    Drain,
}

/// How to close a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// Stop writing, read and discard until the peer ends or 2 s have passed, then close: closing with
    /// unread input would reset the connection and destroy the text just sent.
    Graceful,
    /// Close now.
    Abort,
}

/// How a connection ended, as the runtime saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer will send no more (a read returned 0). It may still take bytes.
    Input,
    /// The connection is gone both ways: reset, timed out, or failed with this error.
    Failed(io::ErrorKind),
}

/// How a peer's TCP does, as the kernel sees it (`TCP_INFO`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpState {
    /// Something that the socket has taken is not acknowledged (`tcpi_unacked`).
    pub outstanding: bool,
    /// How long ago it last acknowledged anything (`tcpi_last_ack_recv`).
    pub acknowledged: Duration,
    /// How much it would take now: its receive window (`tcpi_snd_wnd`). `None` where the kernel does not say.
    pub window: Option<u32>,
}

/// What came of offering a connection's bytes to its socket.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// How many bytes were offered at once. 0: there are none now, and the socket was not asked.
    pub offered: usize,
    /// How many of them it took.
    pub taken: usize,
}

impl Sent {
    /// There is nothing for the socket now; an [`Output::Transmit`] or [`Output::Local`] tells when there is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.offered == 0
    }

    /// The socket took less than it was offered: it is full.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.taken < self.offered
    }
}

/// A piece of what a console printed, for a reader inside the process.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// How many guest bytes the console had printed before the first of these.
    pub at: u64,
    /// How many guest bytes, right before that, this reader has missed: it did not keep up.
    pub lost: u64,
    /// The guest bytes, in order; none of the runs is empty.
    pub runs: &'a [IoSlice<'a>],
}

impl Chunk<'_> {
    /// How many guest bytes these are. Costs a look at each run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// Whether nothing was printed: only a gap is told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}
