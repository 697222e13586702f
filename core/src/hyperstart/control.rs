//! The host's end of the control channel: who the guest is, commands and their answers, and how much may be
//! under way.
//!
//! ```text
//!   CLOSED ── handle_opened ─▶ CALLING ── ACK with a known version ──▶ UP
//!                              ▲  │  ▲                                 │
//!               pause is over  │  │  └───────────── READY ─────────────┤ the guest has begun anew
//!                              │  └── ACK with another version ─▶ STRANGE
//!                            NOISE ◀────────── no message ─────────────┘
//!   any ── handle_closed ─▶ CLOSED              STRANGE ── READY ─▶ CALLING
//!   CALLING ── no answer for long ─▶ CALLING
//! ```
//!
//! Owns the state above, the order in which answers come, and the bytes that may be under way
//! (hyperstart.md §3). Refuses to know what commands are for, and processes.

use std::collections::VecDeque;
use std::time::Duration;

use super::command::{Api, Command, Finished};
use super::message::{Code, Decoder, HEADER, Message, put, read_u32};
use super::search::{Found, Search};
use crate::time::Instant;

/// One end of a control channel. It is closed at first.
#[derive(Debug, Default)]
pub struct Control {
    state: State,
    search: Search,
    decoder: Decoder,
    out: VecDeque<u8>,
    /// Bytes at the front of `out` that end a message that was begun.
    rest: usize,
    /// The same of a command that nobody waits for: the guest takes what it is sent for the rest of it.
    tail: usize,
    /// Bytes that were sent and that the guest has not said it has read.
    under_way: usize,
    /// What was asked, and is to be answered in this order.
    asked: VecDeque<(Ticket, Code)>,
    /// Commands behind one that is answered when all has ended; signals are not among them.
    held: Vec<(Ticket, Command)>,
    next: u64,
    /// Calls that were sent.
    calls: u32,
    /// Answers to calls that may still come, beside the one that was believed.
    late: u32,
    events: VecDeque<ControlEvent>,
    counters: ControlCounters,
}

/// Names a command that was asked, until its answer was polled.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum State {
    /// There is no channel.
    #[default]
    Closed,
    /// The version is asked for; it is asked again at this time.
    Calling(Instant),
    /// Commands go.
    Up(Api),
    /// It has a version that is not spoken here.
    Strange,
    /// Nothing is heard until then.
    Noise(Instant),
}

/// What has happened on a control channel.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ControlEvent {
    /// The guest has answered: commands may be asked.
    Up(Api),
    /// A command was answered.
    Answered {
        /// Which one.
        ticket: Ticket,
        /// It was done.
        is_done: bool,
        /// What the guest says of it, for people: not all of it.
        words: String,
    },
    /// A process has ended.
    Finished(Finished),
    /// It is over with this guest, and with all that was asked of it.
    Down(WhyDown),
}

/// Why it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WhyDown {
    /// The channel is gone.
    Closed,
    /// The guest has begun anew: nothing that ran in it runs any more.
    Restarted,
    /// It has this version of the API, which is not spoken here.
    Version(u32),
    /// What came is no message.
    NoMessage,
}

/// What a control channel has counted.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ControlCounters {
    /// Bytes that were skipped before the first answer, or after what was no message.
    pub skipped: u64,
    /// Messages that made no sense where they came.
    pub malformed: u64,
}

/// As many commands, or bytes of them, wait as may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

impl Control {
    /// The channel is there.
    pub fn handle_opened(&mut self, now: Instant) {
        if self.state == State::Closed {
            self.calls = 0;
            self.call(now);
        }
    }

    /// The channel is gone, and what was under way on it.
    pub fn handle_closed(&mut self) {
        self.end(WhyDown::Closed);
        self.state = State::Closed;
    }

    /// Bytes came from the guest, cut anywhere. Work in proportion to `data`.
    pub fn handle_received(&mut self, mut data: &[u8], now: Instant) {
        while !data.is_empty() {
            match self.state {
                State::Closed | State::Noise(_) => {
                    self.counters.skipped += data.len() as u64;
                    return;
                }
                State::Calling(_) | State::Strange => {
                    let (&byte, rest) = data.split_first().expect("it is not empty");
                    data = rest;
                    self.counters.skipped += 1;
                    if let Some(found) = self.search.push(byte) {
                        self.handle_found(found, now);
                    }
                }
                State::Up(_) => match self.decoder.decode(&mut data) {
                    Ok(None) => {}
                    Ok(Some(message)) => self.handle_message(&message, now),
                    Err(_) => {
                        self.counters.malformed += 1;
                        self.end(WhyDown::NoMessage);
                        self.state = State::Noise(now + AFTER_NOISE);
                    }
                },
            }
        }
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.call(now);
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest; `None`: not at all.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Calling(due) | State::Noise(due) => Some(due),
            State::Closed | State::Up(_) | State::Strange => None,
        }
    }

    /// The API of the guest, while it is there.
    #[must_use]
    pub const fn api(&self) -> Option<Api> {
        match self.state {
            State::Up(api) => Some(api),
            _ => None,
        }
    }

    /// Asks for something to be done; the answer is an event, unless the guest goes before that.
    ///
    /// # Errors
    ///
    /// As much waits as may, or nobody is there.
    pub fn ask(&mut self, command: Command) -> Result<Ticket, TooMany> {
        let waiting: usize = self.held.iter().map(|(_, command)| command.payload.len()).sum();
        let bytes = self.out.len() + waiting + command.payload.len();
        if self.api().is_none() || self.asked.len() + self.held.len() >= MOST_ASKED || bytes > MOST_WAITING {
            return Err(TooMany);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue(ticket, command);
        Ok(ticket)
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<ControlEvent> {
        self.events.pop_front()
    }

    /// Whether there is anything that may be sent now.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() && self.under_way < MOST_UNDER_WAY
    }

    /// Gives what is to be sent next to `take`, and counts as sent as many bytes as `take` says that it took.
    /// Returns that number.
    pub fn transmit_with(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        if !self.has_output() {
            return 0;
        }
        let front = self.out.as_slices().0;
        let offered = front.len().min(MOST_UNDER_WAY - self.under_way);
        let taken = take(&front[..offered]).min(offered);
        self.note_begun(taken);
        self.out.drain(..taken);
        self.tail = self.tail.saturating_sub(taken);
        self.under_way += taken;
        taken
    }

    /// What it has counted.
    #[must_use]
    pub const fn counters(&self) -> &ControlCounters {
        &self.counters
    }

    /// Bytes of heap held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.out.capacity()
            + self.decoder.held()
            + self.held.iter().map(|(_, command)| command.payload.capacity()).sum::<usize>()
            + self.asked.capacity() * size_of::<(Ticket, Code)>()
    }

    fn call(&mut self, now: Instant) {
        if !matches!(self.state, State::Calling(_)) {
            self.search = Search::default();
        }
        self.state = State::Calling(now + CALL_SELDOM);
        self.out.truncate(self.rest);
        self.under_way = 0;
        self.calls += 1;
        self.push(Code::GETVERSION, &[]);
    }

    fn push(&mut self, code: Code, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        put(code, payload, &mut bytes);
        self.out.extend(bytes);
    }

    /// So many bytes go: what of the last message that is among them is left.
    fn note_begun(&mut self, taken: usize) {
        let mut at = 0;
        while at < taken {
            if self.rest == 0 {
                let length = self.out.iter().skip(at + 4).take(4);
                self.rest = length.fold(0, |all, &byte| all << 8 | usize::from(byte)).max(HEADER);
            }
            let part = self.rest.min(taken - at);
            self.rest -= part;
            at += part;
        }
    }

    /// Sends a command, or holds it. Signals go behind the end of a pod, which may need them, and are
    /// answered before it.
    fn queue(&mut self, ticket: Ticket, command: Command) {
        let is_signal = matches!(command.code, Code::SIGNALPROCESS | Code::KILLCONTAINER);
        let last = self.asked.back().filter(|&&(_, code)| code == Code::DESTROYPOD).copied();
        if last.is_some() && !is_signal {
            self.held.push((ticket, command));
            return;
        }
        self.push(command.code, &command.payload);
        if last.is_some() {
            self.asked.pop_back();
        }
        self.asked.push_back((ticket, command.code));
        self.asked.extend(last);
    }

    fn handle_found(&mut self, found: Found, now: Instant) {
        match (found, self.state) {
            // What was asked before it began may wait for it yet, or be lost: a serial port keeps nothing.
            (Found::Ready, State::Calling(_)) => {
                // It has not been sent what a command's tail would end.
                if self.tail > 0 {
                    self.out.drain(..self.tail.min(self.out.len()));
                    (self.tail, self.rest) = (0, 0);
                }
                self.state = State::Calling(now + CALL_AGAIN);
            }
            (Found::Ready, _) => {
                self.calls = 0;
                self.call(now);
            }
            (Found::Read(n), _) => self.under_way = self.under_way.saturating_sub(n as usize),
            (Found::Version(number), State::Calling(_)) => match Api::known(number) {
                Some(api) => {
                    self.state = State::Up(api);
                    self.decoder = Decoder::default();
                    self.under_way = 0;
                    self.late = self.calls.saturating_sub(1);
                    self.events.push_back(ControlEvent::Up(api));
                }
                None => {
                    self.state = State::Strange;
                    self.events.push_back(ControlEvent::Down(WhyDown::Version(number)));
                }
            },
            (Found::Version(_), _) => {}
        }
    }

    fn handle_message(&mut self, message: &Message, now: Instant) {
        let Message { code, payload } = message;
        match (*code, payload.len()) {
            (Code::NEXT, 4) => {
                let read = read_u32(payload) as usize;
                // Those of a call that was answered late are beyond.
                self.under_way = self.under_way.saturating_sub(read);
            }
            (Code::ACK, 4) if self.late > 0 => self.late -= 1,
            (Code::ACK | Code::ERROR, _) => self.handle_answer(*code == Code::ACK, payload),
            (Code::PROCESSASYNCEVENT, _) => match Finished::read(payload) {
                Some(finished) => self.events.push_back(ControlEvent::Finished(finished)),
                None => self.counters.malformed += 1,
            },
            (Code::READY, 0) => {
                self.end(WhyDown::Restarted);
                self.calls = 0;
                self.call(now);
            }
            _ => self.counters.malformed += 1,
        }
    }

    fn handle_answer(&mut self, is_done: bool, payload: &[u8]) {
        let Some((ticket, code)) = self.asked.pop_front() else {
            self.counters.malformed += 1;
            return;
        };
        let words = String::from_utf8_lossy(&payload[..payload.len().min(MOST_WORDS)]);
        let words = words.chars().filter(|c| !c.is_control()).collect();
        self.events.push_back(ControlEvent::Answered { ticket, is_done, words });
        if code == Code::DESTROYPOD {
            for (ticket, command) in std::mem::take(&mut self.held) {
                self.queue(ticket, command);
            }
        }
    }

    /// All that was asked is not answered any more.
    fn end(&mut self, why: WhyDown) {
        if matches!(self.state, State::Up(_)) {
            self.events.push_back(ControlEvent::Down(why));
        }
        self.asked = VecDeque::new();
        self.held = Vec::new();
        if why != WhyDown::NoMessage {
            self.rest = 0;
        }
        self.tail = self.rest;
        self.out.truncate(self.rest);
        self.out.shrink_to_fit();
        self.decoder = Decoder::default();
    }
}

/// How many bytes may have been sent that the guest has not said it has read (hyperstart.md §3).
pub const MOST_UNDER_WAY: usize = 512;
/// Commands that wait for an answer; one more is refused.
pub const MOST_ASKED: usize = 256;
/// Bytes that wait to be sent; a command that would be beyond is refused.
pub const MOST_WAITING: usize = 256 << 10;
/// How long a guest that has begun is given to answer what was asked before it had.
const CALL_AGAIN: Duration = Duration::from_secs(1);
/// How long an answer is waited for before it is asked for again: what was sent may be lost, or the rest of
/// what somebody else had begun to say.
const CALL_SELDOM: Duration = Duration::from_secs(30);
/// How long nothing is heard after what was no message.
const AFTER_NOISE: Duration = Duration::from_secs(1);
/// Bytes of what a guest says of an error that are kept.
const MOST_WORDS: usize = 128;
