//! An operator's connection (operator.md): the session that carries it, its control stream, what it is
//! attached to, and what it wants to be told.
//!
//! **Owns** the session, the lines that were begun, answers that wait for room, which attaches may have
//! output, and subscriptions. **Refuses to know** consoles and clients beyond their ids: it says what was
//! asked, and is given what is to be said.
//!
//! ```text
//! socket ─▶ handle_received ─▶ poll ─▶ Asked::Request, Typed, Left, Over ─▶ the engine
//! socket ◀─ transmit ◀─ session ◀─ flush ◀─ buffer (answers, notices)      ◀─ the engine
//!                               ◀─ show  (output, as far as there is credit)
//! ```

mod joins;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::time::Duration;

use crate::admin::operator::{CONTROL, Code, Failure, Line, Lines, Notice, ParseError, Request, put_notice};
use crate::mux::{
    Carrier, CloseReason as SessionEnd, Config as SessionConfig, Event as SessionEvent, Features, Priority,
    Received, Role as End, Session, Start, StreamId,
};
use crate::time::Instant;

use super::id::{ConnId, ConsoleId};
use super::output::LogReader;
use super::standing::Standing;
use joins::Joins;
pub(super) use joins::{Join, JoinState};

/// One operator's connection.
#[derive(Debug)]
pub(super) struct Desk {
    session: Session,
    lines: Lines,
    /// Answers and notices that wait for the client, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// By the stream that carries each.
    attaches: BTreeMap<u64, Attached>,
    /// Streams whose attach may have output, each once.
    ready: VecDeque<u64>,
    /// Logs that it reads, by the stream that carries each.
    logs: BTreeMap<u64, Reading>,
    joins: Joins,
    /// Who asks, and what it may do.
    pub(super) standing: Standing,
    /// Consoles of which it wants to hear.
    pub(super) watch: Option<Watch>,
    /// It wants to hear what is logged; so many events were not told since one was.
    pub(super) log: Option<u64>,
    /// Streams that end as soon as their client has been sent the notice that tells why: the session's words
    /// overtake its payload.
    ending: Vec<u64>,
    /// The request whose outcome is awaited: no other is taken before it is answered.
    awaited: Option<u64>,
    /// A line made no sense: nothing more is read.
    is_broken: bool,
    /// The socket has not taken all that it was offered last: it is offered the same until it has.
    is_short: bool,
}

#[derive(Debug)]
struct Attached {
    conn: ConnId,
    is_ready: bool,
}

/// A log that is read.
#[derive(Debug)]
struct Reading {
    console: ConsoleId,
    /// The piece that the client has not been given all of.
    piece: Vec<u8>,
    sent: usize,
    is_last: bool,
    /// The next piece was asked for.
    is_awaited: bool,
}

/// Consoles of which a client wants to hear.
#[derive(Debug)]
pub(super) struct Watch {
    /// Those whose name or UUID matches.
    pub(super) matching: String,
    /// The next slot to tell of; `None`: all there were have been told.
    pub(super) next: Option<u32>,
    /// Those that have changed since they were told.
    pub(super) changed: BTreeSet<ConsoleId>,
    /// Those that it may not know of: it does not hear either that they are gone.
    pub(super) hidden: BTreeSet<ConsoleId>,
    /// Those that it knows of and may not any more: it is told that they are gone.
    pub(super) lost: BTreeSet<ConsoleId>,
}

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// A line came.
    Request(Result<Request, ParseError>),
    /// There is something to be typed on this stream.
    Typed(ConnId),
    /// There is something on a stream that is joined with one of a guest's, or its end.
    Said(u64),
    /// Such a stream, or one that tells of facts, takes more.
    Room(u64),
    /// The client has left such a stream; whether both had said all.
    LeftJoin(Join, bool),
    /// An attach was left.
    Left(ConnId),
    /// The log on this stream is read no more.
    LeftLog(u64),
    /// The session is over.
    Over(SessionEnd),
}

impl Watch {
    /// Of those that match, all are to be told.
    pub(super) fn new(matching: String) -> Self {
        let (changed, hidden, lost) = Default::default();
        Self { matching, next: Some(0), changed, hidden, lost }
    }
}

impl Desk {
    /// A client has connected. It has [`HELLO_WITHIN`] to begin.
    pub(super) fn new(standing: Standing, seed: [u64; 2], now: Instant) -> Self {
        let config = SessionConfig {
            start: Start::S2Only { within: HELLO_WITHIN },
            carrier: Carrier::Reliable,
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_frame: MAX_FRAME,
            min_frame: 512,
            window: WINDOW,
            receive_buffer: WINDOW,
            min_window: 4096,
            send_buffer: SEND_BUFFER,
            most_window: MOST_WINDOW,
            growth: GROWTH,
            max_peer_streams: MOST_STREAMS,
            max_own_streams: 0,
            seed,
            ..SessionConfig::new(End::Guest)
        };
        let session = Session::new(config, now).expect("this configuration is checked by a test");
        Self {
            session,
            lines: Lines::default(),
            waiting: Vec::new(),
            sent: 0,
            attaches: BTreeMap::new(),
            ready: VecDeque::new(),
            logs: BTreeMap::new(),
            joins: Joins::default(),
            standing,
            watch: None,
            log: None,
            ending: Vec::new(),
            awaited: None,
            is_broken: false,
            is_short: false,
        }
    }

    /// Bytes of the connection.
    pub(super) fn handle_received(&mut self, data: &[u8], now: Instant) {
        self.session.handle_received(data, now);
    }

    /// How many bytes may be read.
    pub(super) fn receive_window(&self) -> usize {
        self.session.receive_window()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
    }

    /// The next thing that is asked. No request is taken while too many answers wait for the client.
    pub(super) fn poll(&mut self) -> Option<Asked> {
        if let Some(request) = self.next_request() {
            return Some(Asked::Request(request));
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Opened(CONTROL) => {
                    // It is open: this cannot fail.
                    let _ = self.session.set_priority(CONTROL, Priority::High);
                    let _ = self.session.keep_window(CONTROL);
                }
                SessionEvent::Readable(CONTROL) => {
                    if let Some(request) = self.next_request() {
                        return Some(Asked::Request(request));
                    }
                }
                SessionEvent::Readable(id) => {
                    if let Some(attached) = self.attaches.get(&id.0) {
                        return Some(Asked::Typed(attached.conn));
                    }
                    if self.joined(id.0).is_some() {
                        return Some(Asked::Said(id.0));
                    }
                    if self.joins.has(id.0) {
                        self.hear_telling(id.0);
                    }
                }
                SessionEvent::Credit(id) | SessionEvent::Writable(id) if self.joins.has(id.0) => {
                    return Some(Asked::Room(id.0));
                }
                SessionEvent::Credit(id) | SessionEvent::Writable(id) => self.mark_ready(id.0),
                SessionEvent::Reset(id, _) | SessionEvent::Retired(id) => {
                    if let Some(join) = self.joins.remove(id.0) {
                        return Some(Asked::LeftJoin(join, matches!(event, SessionEvent::Retired(_))));
                    }
                    if let Some(attached) = self.attaches.remove(&id.0) {
                        return Some(Asked::Left(attached.conn));
                    }
                    if self.logs.remove(&id.0).is_some() {
                        return Some(Asked::LeftLog(id.0));
                    }
                }
                SessionEvent::Closed(why) => return Some(Asked::Over(why)),
                _ => {}
            }
        }
        None
    }

    fn next_request(&mut self) -> Option<Result<Request, ParseError>> {
        loop {
            if self.is_broken || self.awaited.is_some() || self.waiting.len() - self.sent > WAITING_MOST {
                return None;
            }
            let Ok(Received::Bytes(bytes)) = self.session.received(CONTROL) else { return None };
            let mut rest = bytes;
            let request = self.lines.next(&mut rest).map(|line| match line {
                Line::Whole(line) => Request::parse(line),
                Line::TooLong => Err(ParseError::Broken("a line is longer than 65536 bytes".into())),
            });
            let n = bytes.len() - rest.len();
            let _ = self.session.consume(CONTROL, n);
            if let Some(request) = request {
                self.is_broken = matches!(request, Err(ParseError::Broken(_)));
                return Some(request);
            }
        }
    }

    /// The request of this number is answered later, and the next one is taken after that.
    pub(super) fn await_outcome(&mut self, number: u64) {
        self.awaited = Some(number);
    }

    /// The request that is to be answered now.
    pub(super) fn take_awaited(&mut self) -> Option<u64> {
        self.awaited.take()
    }

    /// Where answers and notices are put.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Queues a notice.
    pub(super) fn notify(&mut self, notice: &Notice) {
        put_notice(notice, &mut self.waiting);
    }

    /// How much waits for the client.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() - self.sent
    }

    /// Whether a stream can carry something: it is the client's, open, and carries nothing yet.
    pub(super) fn check_free(&self, stream: u64) -> Result<(), Failure> {
        let id = StreamId(stream);
        if id == CONTROL || id.is_guests() || self.session.received(id).is_err() {
            return Err(Failure::new(Code::NoSuchStream, format!("stream {stream} is not open")));
        }
        if self.attaches.contains_key(&stream) || self.logs.contains_key(&stream) || self.joins.has(stream) {
            let message = format!("stream {stream} carries something already");
            return Err(Failure::new(Code::StreamInUse, message));
        }
        Ok(())
    }

    /// What is attached to a stream.
    pub(super) fn attached(&self, stream: u64) -> Option<ConnId> {
        self.attaches.get(&stream).map(|attached| attached.conn)
    }

    /// Every attach.
    pub(super) fn attaches(&self) -> impl Iterator<Item = ConnId> {
        self.attaches.values().map(|attached| attached.conn)
    }

    /// A stream carries an attach from now on.
    pub(super) fn attach(&mut self, stream: u64, conn: ConnId) {
        // It lives as long as the client: what windows grow by is for copies, which come and go.
        let _ = self.session.keep_window(StreamId(stream));
        self.attaches.insert(stream, Attached { conn, is_ready: false });
    }

    /// A stream carries a log from now on, whose first piece was asked for. `false`: it reads as many as it
    /// may.
    pub(super) fn begin_log(&mut self, stream: u64, console: ConsoleId) -> bool {
        if self.logs.len() >= MOST_LOGS {
            return false;
        }
        let _ = self.session.keep_window(StreamId(stream));
        // Whatever the client says there.
        let _ = self.session.stop_reading(StreamId(stream));
        let (piece, sent, is_last, is_awaited) = (Vec::new(), 0, false, true);
        self.logs.insert(stream, Reading { console, piece, sent, is_last, is_awaited });
        true
    }

    /// The piece of a log that was asked for; or the last one, unasked, behind what the client has not taken.
    /// Whether anybody wants it.
    pub(super) fn feed_log(&mut self, stream: u64, piece: Vec<u8>, is_last: bool) -> bool {
        let Some(reading) = self.logs.get_mut(&stream).filter(|reading| !reading.is_last) else {
            return false;
        };
        if reading.is_awaited {
            *reading = Reading { console: reading.console, piece, sent: 0, is_last, is_awaited: false };
            return true;
        }
        if is_last {
            reading.piece.extend(piece);
            reading.is_last = true;
        }
        is_last
    }

    /// No more of a console's log is read. Returns who read it, for this connection's id.
    pub(super) fn end_logs_of(&mut self, id: ConnId, console: ConsoleId) -> Vec<LogReader> {
        let of = self.logs.iter().filter(|(_, reading)| reading.console == console);
        let streams: Vec<u64> = of.map(|(stream, _)| *stream).collect();
        for stream in &streams {
            self.logs.remove(stream);
            // What it has been given of a record may have no end.
            let _ = self.session.reset(StreamId(*stream));
        }
        streams.into_iter().map(|stream| LogReader { conn: id, stream }).collect()
    }

    /// Gives the client what it can take of the logs that it reads. Returns the streams whose next piece is
    /// to be asked for.
    pub(super) fn show_logs(&mut self) -> Vec<u64> {
        let mut wanted = Vec::new();
        let session = &mut self.session;
        self.logs.retain(|&stream, reading| {
            let id = StreamId(stream);
            let left = &reading.piece[reading.sent..];
            let n = left.len().min(session.credit(id));
            reading.sent += session.write(id, &left[..n]).unwrap_or(0);
            if reading.sent < reading.piece.len() {
                let _ = session.want_credit(id);
            } else if reading.is_last {
                let _ = session.finish(id);
                return false;
            } else if !std::mem::replace(&mut reading.is_awaited, true) {
                reading.piece = Vec::new();
                reading.sent = 0;
                wanted.push(stream);
            }
            true
        });
        wanted
    }

    /// An attach has ended on our side: no more output, and what is still typed is thrown away.
    pub(super) fn detach(&mut self, stream: u64) {
        if self.attaches.remove(&stream).is_some() {
            let _ = self.session.stop_reading(StreamId(stream));
            self.ending.push(stream);
        }
    }

    /// Gives what the client has typed on a stream, up to `most` bytes, to `give`. Returns how many.
    pub(super) fn take_typed(&mut self, stream: u64, most: usize, give: impl FnOnce(&[u8])) -> usize {
        let id = StreamId(stream);
        let Ok(Received::Bytes(bytes)) = self.session.received(id) else { return 0 };
        let n = bytes.len().min(most);
        give(&bytes[..n]);
        let _ = self.session.consume(id, n);
        n
    }

    /// An attach may have output.
    pub(super) fn mark_ready(&mut self, stream: u64) {
        if let Some(attached) = self.attaches.get_mut(&stream)
            && !std::mem::replace(&mut attached.is_ready, true)
        {
            self.ready.push_back(stream);
        }
    }

    /// The next attach that may have output, and how much of it the client can take.
    pub(super) fn next_ready(&mut self) -> Option<(u64, ConnId, usize)> {
        while let Some(stream) = self.ready.pop_front() {
            let Some(attached) = self.attaches.get_mut(&stream) else { continue };
            attached.is_ready = false;
            let credit = self.session.credit(StreamId(stream));
            if credit > 0 {
                return Some((stream, attached.conn, credit));
            }
            // It is ready again when there is.
            let _ = self.session.want_credit(StreamId(stream));
        }
        None
    }

    /// Output for an attach: no more than its credit.
    pub(super) fn show(&mut self, stream: u64, bytes: &[u8]) {
        let written = self.session.write(StreamId(stream), bytes);
        debug_assert!(written.is_err() || written == Ok(bytes.len()), "more than the credit is shown");
    }

    /// Hands answers and notices to the session as far as the client can take them.
    pub(super) fn flush(&mut self) {
        while self.sent < self.waiting.len() {
            let credit = self.session.credit(CONTROL);
            if credit == 0 {
                let _ = self.session.want_credit(CONTROL);
                break;
            }
            let end = self.waiting.len().min(self.sent + credit);
            match self.session.write(CONTROL, &self.waiting[self.sent..end]) {
                Ok(n) if n > 0 => self.sent += n,
                _ => break,
            }
        }
        if self.sent == self.waiting.len() {
            // All of it has left, as this session keeps nothing that has.
            if self.session.under_way(CONTROL).is_none_or(|len| len == 0) {
                for stream in self.ending.drain(..) {
                    let _ = self.session.finish(StreamId(stream));
                }
            }
            self.waiting.clear();
            self.waiting.shrink_to(SPARE);
            self.sent = 0;
        } else if self.sent > SPARE {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Offers what the session has for the socket. Returns how much that was, and how much of it was taken.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        take: impl FnOnce(&[IoSlice<'_>]) -> usize,
    ) -> (usize, usize) {
        let mut offered = 0;
        let taken = self.session.transmit_with(now, |runs| {
            offered = runs.iter().map(|run| run.len()).sum();
            take(runs).min(offered)
        });
        self.is_short = taken < offered;
        (offered, taken)
    }

    /// Whether the socket is owed what it was offered last.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Ends the session in order, behind what was queued.
    pub(super) fn end(&mut self) {
        self.flush();
        let _ = self.session.finish(CONTROL);
    }

    /// Whether something is still to be sent.
    pub(super) fn has_output(&self) -> bool {
        let is_reading = self.logs.values().any(|reading| reading.sent < reading.piece.len());
        is_reading || self.session.has_output() || self.sent < self.waiting.len() || !self.ending.is_empty()
    }
}

/// How long a client has to say HELLO (operator.md §1).
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Payload of a frame at most.
const MAX_FRAME: u16 = 16 << 10;

/// How much a client may type ahead on one stream: as much as is held for it. A paste of more waits at the
/// client. What each stream that it opens can cost is this and, the other way, [`SEND_BUFFER`].
const WINDOW: u32 = 64 << 10;

/// What that grows to, for a copy into a guest, and the client's for one out of it; and by how much those of
/// all streams grow together, each way: twice that is what a client can make us hold beyond its streams.
const MOST_WINDOW: u32 = 512 << 10;
const GROWTH: u64 = 2 << 20;

/// What the session holds of one stream until the socket has taken it: no more than one write.
const SEND_BUFFER: u32 = 256 << 10;

/// Streams of one connection at most.
const MOST_STREAMS: u32 = 2049;

/// Logs that one connection reads at most: each holds a piece, and a thread where it is read.
const MOST_LOGS: usize = 4;

/// Answers that may wait for the client while requests are still read (operator.md §2).
const WAITING_MOST: usize = 256 << 10;

/// Room that is kept for the next answers.
const SPARE: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::operator::{Caller, Rules};

    #[test]
    fn its_session_can_be_made() {
        let standing = Standing::new("x".into(), Caller::default(), &Rules::default());
        let desk = Desk::new(standing, [1, 2], Instant::ZERO);
        assert_eq!(desk.poll_timeout(), Some(Instant::ZERO + HELLO_WITHIN));
    }
}
