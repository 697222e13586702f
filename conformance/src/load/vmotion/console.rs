//! One console of a vMotion run: a VM that prints numbered lines and moves, and a client that types them.
//!
//! ```text
//!  Up ──begin──▶ Asking ──GOAHEAD──▶ Moving ──PEER-OK──▶ Up on the target
//!   ▲              │ NOTNOW            │ abort (48)
//!   └──────────────┴───────────────────┴── Lingering ──5.2 s: prints on, without a word──▶ Up
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use vspc_core::telnet::{Decoder, Item};
use vspc_core::vmware::{Resume, VmConfig, VmEvent};

use super::tally::{Due, Tally};
use crate::fake_vm::leg::Leg;
use crate::load::lines::{LineCheck, put_line, put_line_escaped};
use crate::load::subject::Subject;
use crate::tunnel::{Dial, Port};

/// How one move is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::load) enum Course {
    /// As hosts do it: the source closes between PEER-OK and COMPLETE.
    Plain,
    /// The source's connection ends right after GOAHEAD.
    SourceDiesFirst,
    /// VMOTION-ABORT after GOAHEAD, before any target comes.
    AbortEarly,
    /// VMOTION-ABORT after PEER-OK.
    AbortLate,
    /// The host gives up and says nothing.
    GiveUp,
}

/// A VM and its client.
#[derive(Debug)]
pub(in crate::load) struct Console {
    number: usize,
    subject: Subject,
    config: Arc<VmConfig>,
    legs: [Option<Leg>; 2],
    current: usize,
    phase: Phase,
    /// What the target will prove itself with.
    resume: Option<Resume>,
    pub(in crate::load) printed: u64,
    pub(in crate::load) heard: LineCheck,
    client: Option<Client>,
    pub(in crate::load) typed: u64,
    pub(in crate::load) seen: LineCheck,
    /// What was typed before the lines begin: the word by which a client is found.
    pub(in crate::load) greeting: Vec<u8>,
    pub(in crate::load) counting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Starting,
    Up,
    Asking { since: Instant, course: Course },
    Moving { since: Instant, course: Course, peer_sent: Option<Instant> },
    Lingering { until: Instant },
    Dead,
}

/// A client's end, nonblocking.
#[derive(Debug)]
pub(in crate::load) struct Client {
    pub(in crate::load) stream: TcpStream,
    decoder: Decoder,
    out: Vec<u8>,
    pub(in crate::load) received: Vec<u8>,
    readable: bool,
    ended: bool,
}

impl Console {
    pub(in crate::load) fn new(number: usize, subject: Subject, config: VmConfig) -> Self {
        Self {
            number,
            subject,
            config: Arc::new(config),
            legs: [None, None],
            current: 0,
            phase: Phase::Starting,
            resume: None,
            printed: 0,
            heard: LineCheck::new(client_name(number)),
            client: None,
            typed: 0,
            seen: LineCheck::new(vm_name(number)),
            greeting: Vec::new(),
            counting: false,
        }
    }

    /// The VM connects.
    pub(in crate::load) fn dial(&mut self, registry: &Registry) -> io::Result<()> {
        let config = Arc::clone(&self.config);
        self.legs[0] =
            Some(Leg::open(&self.subject.dial(), self.subject.vms(), config, registry, self.token(0))?);
        Ok(())
    }

    /// Its client connects, and says `hello` first.
    pub(in crate::load) fn attach(
        &mut self,
        dial: &Dial,
        at: SocketAddr,
        hello: Vec<u8>,
        registry: &Registry,
    ) -> io::Result<()> {
        self.client = Some(Client::connect(dial, at, hello, registry, self.token(2))?);
        Ok(())
    }

    pub(in crate::load) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(in crate::load) fn is_dead(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// Everything said has arrived, both ways.
    pub(in crate::load) fn is_settled(&self) -> bool {
        self.is_dead() || (self.heard.next() >= self.typed && self.seen.next() >= self.printed)
    }

    /// From this word on what the client receives are lines.
    pub(in crate::load) fn count_from(&mut self, word: &[u8]) {
        if let Some(client) = self.client.as_mut().filter(|_| !self.counting)
            && let Some(at) = memmem::find(&client.received, word)
        {
            self.seen.feed(&client.received[at + word.len()..]);
            client.received.clear();
            self.counting = true;
        }
    }

    /// The VM prints its next line, if it does not stand still.
    pub(in crate::load) fn print(&mut self, tally: &mut Tally) {
        if self.phase != Phase::Up {
            return;
        }
        let mut line = Vec::new();
        put_line(&vm_name(self.number), self.printed, &mut line);
        self.printed += 1;
        self.say(&line, tally);
    }

    /// The VM prints anything.
    pub(in crate::load) fn say(&mut self, bytes: &[u8], tally: &mut Tally) {
        let Some(leg) = &mut self.legs[self.current] else { return };
        leg.session().print(bytes);
        if let Err(error) = leg.flush() {
            self.leg_ended(self.current, &error, tally);
        }
    }

    /// The client types its next line.
    pub(in crate::load) fn type_line(&mut self, tally: &mut Tally) {
        let Some(client) = &mut self.client else { return };
        if client.out.len() > CLIENT_BACKLOG || self.phase == Phase::Dead {
            return;
        }
        put_line_escaped(&client_name(self.number), self.typed, &mut client.out);
        self.typed += 1;
        if let Err(error) = client.flush() {
            self.client_ended(&error, tally);
        }
    }

    /// The client pastes: at least `bytes` bytes of lines, as far as the socket takes them at once.
    pub(in crate::load) fn paste(&mut self, bytes: usize, tally: &mut Tally) {
        let Some(client) = &mut self.client else { return };
        let until = client.out.len() + bytes;
        while client.out.len() < until {
            put_line_escaped(&client_name(self.number), self.typed, &mut client.out);
            self.typed += 1;
        }
        if let Err(error) = client.flush() {
            self.client_ended(&error, tally);
        }
    }

    /// VMOTION-BEGIN.
    pub(in crate::load) fn begin(&mut self, sequence: [u8; 4], course: Course, tally: &mut Tally) {
        let Some(leg) = self.legs[self.current].as_mut().filter(|_| self.phase == Phase::Up) else { return };
        leg.session().begin(&sequence);
        self.phase = Phase::Asking { since: Instant::now(), course };
        tally.begun += 1;
        if let Err(error) = leg.flush() {
            self.leg_ended(self.current, &error, tally);
        }
    }

    /// A socket told something: 0 and 1 are the VM's, 2 the client's.
    pub(in crate::load) fn wake(&mut self, place: usize, event: &Event, tally: &mut Tally) {
        if place == 2 {
            let Some(client) = &mut self.client else { return };
            client.wake(event);
            let outcome = client.pump();
            if self.counting {
                self.seen.feed(&client.received);
                client.received.clear();
            }
            if let Err(error) = outcome {
                self.client_ended(&error, tally);
            }
            return;
        }
        let Some(leg) = &mut self.legs[place] else { return };
        leg.wake(event);
        let (mut typed, mut events) = (Vec::new(), Vec::new());
        let outcome = leg.read_in_order(&mut typed, &mut events);
        let mut from = 0;
        for (at, event) in events {
            self.heard_from(place, &typed[from..at], tally);
            from = at;
            self.happened(place, event, tally);
        }
        self.heard_from(place, &typed[from..], tally);
        // A move may have put another connection in this place meanwhile; flushing that one is harmless.
        let outcome = outcome.and_then(|()| self.legs[place].as_mut().map_or(Ok(()), Leg::flush));
        if let Err(error) = outcome {
            self.leg_ended(place, &error, tally);
        }
    }

    /// Time went by.
    pub(in crate::load) fn tick(&mut self, now: Instant, tally: &mut Tally) {
        match self.phase {
            Phase::Asking { since, .. } | Phase::Moving { since, .. } if now - since > HOST_LIMIT => {
                tally.timed_out += 1;
                let step =
                    if matches!(self.phase, Phase::Asking { .. }) { "VMOTION-BEGIN" } else { "VMOTION-PEER" };
                tally.problem(format!("VM {}: no answer to {step} within 5 s", self.number));
                self.legs[1 - self.current] = None;
                self.phase = Phase::Up;
            }
            Phase::Lingering { until } if now >= until => {
                // Serial data on the source is all the server gets to know.
                self.phase = Phase::Up;
                tally.given_up += 1;
                self.print(tally);
            }
            _ => {}
        }
    }

    /// Bytes typed by the client came to one of the VM's connections.
    fn heard_from(&mut self, place: usize, typed: &[u8], tally: &mut Tally) {
        if typed.is_empty() {
            return;
        }
        let wrong = match self.phase {
            Phase::Moving { .. } | Phase::Lingering { .. } if place == self.current => {
                Some("sent to the source after GOAHEAD")
            }
            Phase::Moving { .. } => Some("sent to the target before COMPLETE"),
            _ if place != self.current => Some("sent to a connection that the VM has left"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            tally.misdirected += typed.len() as u64;
            tally.problem(format!("VM {}: {} bytes {wrong}", self.number, typed.len()));
        }
        if self.counting {
            self.heard.feed(typed);
        } else {
            self.greeting.extend_from_slice(typed);
        }
    }

    fn happened(&mut self, place: usize, event: VmEvent, tally: &mut Tally) {
        match (event, self.phase) {
            (VmEvent::ProxyAgreed, Phase::Starting) => self.phase = Phase::Up,
            (VmEvent::Refused | VmEvent::NotProxy, _) => {
                self.phase = Phase::Dead;
                tally.problem(format!("VM {}: the server refuses it", self.number));
            }
            (VmEvent::Goahead { sequence, secret }, Phase::Asking { since, course })
                if place == self.current =>
            {
                tally.goahead.push(since.elapsed());
                self.go(Resume { sequence, secret }, since, course, tally);
            }
            (VmEvent::Notnow { .. }, Phase::Asking { .. }) => {
                tally.refused += 1;
                self.phase = Phase::Up;
            }
            (VmEvent::UnknownToProxy(code), Phase::Asking { .. }) => {
                tally.problem(format!("the server does not know {code:?}"));
                self.phase = Phase::Up;
            }
            (VmEvent::Ready, Phase::Moving { since, course, .. }) if place != self.current => {
                // The proof is queued behind the known suboptions and leaves with this flush.
                let peer_sent = Some(Instant::now());
                self.phase = Phase::Moving { since, course, peer_sent };
            }
            (VmEvent::PeerOk { .. }, Phase::Moving { course, peer_sent, .. }) if place != self.current => {
                if let Some(sent) = peer_sent {
                    tally.peer_ok.push(sent.elapsed());
                }
                if course == Course::AbortLate {
                    self.abort(tally);
                } else {
                    tally.due.push_back(Due::Arrive(self.number));
                }
            }
            (VmEvent::Unexpected(code), _) => {
                tally.problem(format!("VM {}: the server says {code:?} out of turn", self.number));
            }
            (event @ (VmEvent::Goahead { .. } | VmEvent::Notnow { .. } | VmEvent::PeerOk { .. }), _) => {
                tally.problem(format!("VM {}: {event:?} out of turn", self.number));
            }
            _ => {}
        }
    }

    /// GOAHEAD is in.
    fn go(&mut self, resume: Resume, since: Instant, course: Course, tally: &mut Tally) {
        self.phase = Phase::Moving { since, course, peer_sent: None };
        match course {
            Course::GiveUp => self.phase = Phase::Lingering { until: since + SILENT_HOST },
            Course::AbortEarly => self.abort(tally),
            Course::Plain | Course::SourceDiesFirst | Course::AbortLate => {
                self.resume = Some(resume);
                tally.due.push_back(Due::Dial(self.number));
            }
        }
    }

    /// The next step of its host.
    pub(in crate::load) fn step(&mut self, due: Due, registry: &Registry, tally: &mut Tally) {
        let Phase::Moving { since, course, .. } = self.phase else { return };
        if let Due::Arrive(_) = due {
            self.arrive(since, tally);
            return;
        }
        if course == Course::SourceDiesFirst {
            self.legs[self.current] = None;
        }
        let other = 1 - self.current;
        let config = Arc::new(VmConfig { resume: self.resume.take(), ..(*self.config).clone() });
        match Leg::open(&self.subject.dial(), self.subject.vms(), config, registry, self.token(other)) {
            Ok(leg) => self.legs[other] = Some(leg),
            Err(error) => {
                tally.problem(format!("VM {}: the target cannot connect: {error}", self.number));
                self.abort(tally);
            }
        }
    }

    /// The source's end, then COMPLETE on the target: the order that hosts keep.
    fn arrive(&mut self, since: Instant, tally: &mut Tally) {
        self.legs[self.current] = None;
        self.current = 1 - self.current;
        self.phase = Phase::Up;
        if let Some(target) = &mut self.legs[self.current] {
            target.session().complete();
            let _ = target.flush();
        }
        tally.completed += 1;
        tally.downtime.push(since.elapsed());
    }

    fn abort(&mut self, tally: &mut Tally) {
        self.legs[1 - self.current] = None;
        self.phase = Phase::Up;
        tally.aborted += 1;
        if let Some(source) = &mut self.legs[self.current] {
            source.session().abort();
            let _ = source.flush();
        }
    }

    fn leg_ended(&mut self, place: usize, error: &io::Error, tally: &mut Tally) {
        if self.legs[place].take().is_none() || self.phase == Phase::Dead {
            return;
        }
        self.phase = Phase::Dead;
        tally.problem(format!("VM {}: the server ended its connection: {error}", self.number));
    }

    fn client_ended(&mut self, error: &io::Error, tally: &mut Tally) {
        if self.client.take().is_some() {
            tally.problem(format!("client {}: the server ended its connection: {error}", self.number));
        }
    }

    fn token(&self, place: usize) -> Token {
        Token(self.number * PLACES + place)
    }
}

impl Client {
    /// A client that has just begun to connect and will say `hello` first.
    pub(in crate::load) fn connect(
        dial: &Dial,
        at: SocketAddr,
        hello: Vec<u8>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = dial.begin(Port::Client, at)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let decoder = Decoder::new();
        Ok(Self { stream, decoder, out: hello, received: Vec::new(), readable: false, ended: false })
    }

    /// The socket told something.
    pub(in crate::load) fn wake(&mut self, event: &Event) {
        self.ended |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ended;
    }

    /// Reads and writes what can be; data goes to `received`, telnet commands nowhere.
    pub(in crate::load) fn pump(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut scratch = [0; 16384];
        while self.readable {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.readable = self.ended || n == scratch.len();
                    let mut rest = &scratch[..n];
                    while let Some(item) = self.decoder.decode(&mut rest) {
                        if let Item::Data(data) = item {
                            self.received.extend_from_slice(data);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes.
    pub(in crate::load) fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.out.len() {
            match self.stream.write(&self.out[taken..]) {
                Ok(n) => taken += n,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..taken);
        Ok(())
    }
}

fn vm_name(number: usize) -> String {
    format!("vm {number}")
}

fn client_name(number: usize) -> String {
    format!("client {number}")
}

/// Tokens per console: two places of the VM and the client's.
pub(in crate::load) const PLACES: usize = 3;
/// How long hosts wait for 41 or 43 and for 45 (vmotion.md §4).
const HOST_LIMIT: Duration = Duration::from_secs(5);
/// When a host that gave up prints again: past the five seconds within which that would say nothing.
const SILENT_HOST: Duration = Duration::from_millis(5200);
/// A client whose lines are not taken stops typing: it is not the lines that are measured.
const CLIENT_BACKLOG: usize = 1 << 20;
