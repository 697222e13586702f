//! The loop: one turn waits for readiness, reads, lets timers fire, and carries out what the engine asks
//! for, every few reads and at the end, so that the replies to one read leave together and soon.
//!
//! Every socket is registered once, edge-triggered; readiness is remembered with the socket. A visit
//! reads once from a connection; what may have more goes on the `ready` list and is visited again in the
//! next turn, which then does not wait. So no peer, however much it sends, keeps others from their turn,
//! and what it sent is offered to its readers before more of it is read.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use vspc_core::concentrator::{Address, Closed, Concentrator, ConnId, ListenError, ListenerId, Output};
use vspc_core::time::Instant;
use vspc_host::clock::Clock;
use vspc_host::events::log_event;
use vspc_host::fatal::Fatal;
use vspc_host::report::log_counters;
use vspc_host::signals::Signals;
use vspc_host::spare::{Refusals, Spare, listen_error};
use vspc_host::startup::Host;

use crate::accept::{self, Listeners};
use crate::closing::Closing;
use crate::connections::{self, Connections};

/// The engine, its sockets, and what the loop remembers from turn to turn.
pub(crate) struct Server {
    pub(crate) poll: Poll,
    pub(crate) engine: Concentrator,
    clock: Clock,
    /// The time of this turn, taken once.
    pub(crate) now: Instant,
    pub(crate) connections: Connections,
    pub(crate) listeners: Listeners,
    pub(crate) closing: Closing,
    /// Sockets to visit: each is on it once at most.
    ready: Vec<Token>,
    /// Connections whose socket can take the bytes that the engine still has for them.
    writers: Vec<ConnId>,
    /// Connections whose socket has failed, and when each is given up although input is unread.
    failing: VecDeque<(Instant, ConnId)>,
    scratch: Box<[u8]>,
    pub(crate) spare: Spare,
    pub(crate) refusals: Refusals,
    signals: Signals,
    wake: UnixStream,
    /// Set once the server has been told to stop: when it stops whatever is left.
    stop_at: Option<Instant>,
    /// For how many turns in a row timers have been held back.
    held_back: u32,
}

/// Serves until a signal says stop.
pub(crate) fn serve(host: Host) -> Result<(), Fatal> {
    let mut server = Server::new(host)?;
    server.open_listeners()?;
    server.run()
}

impl Server {
    fn new(host: Host) -> Result<Self, Fatal> {
        let poll = Poll::new().map_err(|error| Fatal::System("create a poller", error))?;
        let mut wake = UnixStream::from_std(host.wake);
        poll.registry()
            .register(&mut wake, SIGNAL, Interest::READABLE)
            .map_err(|error| Fatal::System("wait for signals", error))?;
        let spare = Spare::new().map_err(|error| Fatal::System("open /dev/null", error))?;
        let clock = Clock::start();
        let now = clock.now();
        let mut engine = Concentrator::new(host.config, host.seed, now);
        host.credentials.take_effect(&mut engine);
        Ok(Self {
            poll,
            engine,
            clock,
            now,
            connections: Connections::default(),
            listeners: Listeners::default(),
            closing: Closing::default(),
            ready: Vec::new(),
            writers: Vec::new(),
            failing: VecDeque::new(),
            scratch: vec![0; READ_SIZE].into_boxed_slice(),
            spare,
            refusals: Refusals::default(),
            signals: host.signals,
            wake,
            stop_at: None,
            held_back: 0,
        })
    }

    /// Opens what the engine wants open from the start: where VMs connect. Without that there is no point.
    fn open_listeners(&mut self) -> Result<(), Fatal> {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Listen(id, Address::Ip(address)) => {
                    let bound = self.listen(id, address).map_err(|error| Fatal::Listen(address, error))?;
                    self.engine.handle_listening(id, Ok(Address::Ip(bound)), self.now);
                }
                other => self.carry_out(other),
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_done() {
            match self.poll.poll(&mut events, self.patience()) {
                Ok(()) => {}
                // The poller has not looked: timers must not fire before it has, or bytes that are there
                // would be too late. It does not wait for a deadline that has passed meanwhile.
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.now = self.clock.now();
                    continue;
                }
                Err(error) => return Err(Fatal::System("wait for sockets", error)),
            }
            self.now = self.clock.now();
            let mut told = 0;
            for readiness in &events {
                self.note(readiness);
                told += 1;
            }
            self.visit_ready();
            self.fire_timers(told);
            self.drain();
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| at <= self.now || (self.engine.is_empty() && self.closing.is_empty()))
    }

    /// How long to wait for readiness: not at all while there is something to do, else until the next
    /// deadline.
    fn patience(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.writers.is_empty() {
            return Some(Duration::ZERO);
        }
        self.next_deadline().map(|at| at.duration_since(self.now))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.engine.poll_timeout(),
            self.closing.deadline(),
            self.failing.front().map(|&(at, _)| at),
            self.refusals.deadline(),
            self.listeners.retry,
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Takes note of what the poller says about a socket. Nothing is read yet.
    fn note(&mut self, readiness: &Readiness) {
        let token = readiness.token();
        if token == SIGNAL {
            return self.heed_signals();
        }
        if let Some(id) = accept::listener(token) {
            return self.enqueue_listener(id);
        }
        let id = ConnId::from_bits(token.0 as u64);
        let Some(connection) = self.connections.get(id) else { return self.enqueue_closing(token) };
        let failed = matches!(connection.closed, Some(Closed::Failed(_)));
        if readiness.is_writable() && !failed && mem::take(&mut connection.full) {
            self.writers.push(id);
        }
        if readiness.is_error() && connection.closed == Some(Closed::Input) {
            // Nobody is going to read, so nobody would notice.
            let error = connection.stream.take_error().ok().flatten();
            return self.fail(id, error.map_or(ErrorKind::ConnectionReset, |error| error.kind()));
        }
        if readiness.is_readable()
            || readiness.is_read_closed()
            || readiness.is_priority()
            || readiness.is_error()
        {
            connection.readable = true;
            connection.more_behind |=
                readiness.is_read_closed() || readiness.is_priority() || readiness.is_error();
            self.enqueue(id);
        }
    }

    fn heed_signals(&mut self) {
        while matches!(self.wake.read(&mut [0; 64]), Ok(1..)) {}
        let requests = self.signals.take();
        if requests.report {
            log_counters(&self.engine);
        }
        if let Some(credentials) = requests.credentials {
            credentials.take_effect(&mut self.engine);
        }
        if requests.stop && self.stop_at.is_none() {
            log::info!("stopping");
            self.stop_at = Some(self.now + STOP_PATIENCE);
            self.closing.lift_bound();
            self.engine.shut_down(self.now);
        }
    }

    /// Visits each socket on the list once. What is put on it meanwhile is for the next turn.
    fn visit_ready(&mut self) {
        for id in self.listeners.take_failed(self.now) {
            self.enqueue_listener(id);
        }
        let mut ready = mem::take(&mut self.ready);
        for (visits, token) in ready.drain(..).enumerate() {
            if visits % BETWEEN_DRAINS == BETWEEN_DRAINS - 1 {
                self.drain();
            }
            let id = ConnId::from_bits(token.0 as u64);
            if let Some(id) = accept::listener(token) {
                self.accept(id);
            } else if self.connections.get(id).is_some() {
                self.receive(id);
            } else if self.closing.discard(token, &mut self.scratch) {
                self.enqueue_closing(token);
            }
        }
        // What was added meanwhile moves to the list that has room already.
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// Reads once from a connection.
    fn receive(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.queued = false;
        if !connection.readable || connection.closed == Some(Closed::Input) {
            return;
        }
        let window = self.engine.receive_window(id).min(READ_SIZE);
        if window == 0 {
            return self.look(id);
        }
        match (connection.stream.read(&mut self.scratch[..window]), connection.closed) {
            (Ok(n @ 1..), _) => {
                // A read that brings less than asked for has emptied the socket (epoll(7)): what comes
                // later is told anew, and a second read would only be told to wait.
                connection.readable = n == window || connection.more_behind;
                self.engine.handle_received(id, &mut self.scratch[..n], self.now);
                self.enqueue(id);
            }
            (Err(error), _) if error.kind() == ErrorKind::Interrupted => self.enqueue(id),
            // All that had arrived before the socket failed has been read.
            (_, Some(Closed::Failed(why))) => self.fail(id, why),
            (Ok(_), _) => self.end_input(id),
            (Err(error), _) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                connection.more_behind = false;
            }
            (Err(error), _) => self.fail(id, error.kind()),
        }
    }

    /// Looks for an end or an error of a connection whose window is 0, so that it does not stay when its
    /// peer has left. Input that lies before it is not read: it stays remembered as readable until the
    /// engine says `Receive`.
    fn look(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.stream.peek(&mut [0]) {
            Ok(1..) => {
                if let Ok(Some(error)) = connection.stream.take_error() {
                    self.fail_write(id, error.kind());
                }
            }
            Ok(_) => match connection.closed {
                Some(Closed::Failed(why)) => self.fail(id, why),
                _ => self.end_input(id),
            },
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    connection.readable = false;
                    connection.more_behind = false;
                }
                ErrorKind::Interrupted => self.enqueue(id),
                kind => self.fail(id, kind),
            },
        }
    }

    /// The peer has ended its half of a connection.
    fn end_input(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            connection.closed = Some(Closed::Input);
            self.engine.handle_closed(id, Closed::Input, self.now);
        }
    }

    /// Lets the engine's timers fire, after everything that was ready has been read: bytes that are
    /// there must not be too late because the loop was. A full batch means that more is ready.
    fn fire_timers(&mut self, told: usize) {
        self.held_back = if told == EVENTS { self.held_back + 1 } else { 0 };
        if !self.held_back.is_multiple_of(MOST_HELD_BACK) {
            return;
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.closing.expire(self.now);
        while self.failing.front().is_some_and(|&(at, _)| at <= self.now) {
            self.give_up_oldest();
        }
        self.refusals.settle(self.now);
    }

    /// Does everything that the engine asks for. The time is taken anew: what was read in
    /// this turn has waited for the rest of it, and counts of latency should tell.
    fn drain(&mut self) {
        self.now = self.clock.now();
        let mut writers = mem::take(&mut self.writers);
        for id in writers.drain(..) {
            self.transmit(id);
        }
        writers.append(&mut self.writers);
        self.writers = writers;
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(id) => self.transmit(id),
            Output::Receive(id) => self.enqueue(id),
            Output::Listen(id, address) => {
                let bound = match address {
                    Address::Ip(address) => self.listen(id, address).map_err(|error| listen_error(&error)),
                    _ => Err(ListenError::Other(ErrorKind::Unsupported)),
                };
                self.engine.handle_listening(id, bound.map(Address::Ip), self.now);
            }
            Output::Unlisten(id) => self.listeners.remove(id),
            Output::Close(id, how) => self.close(id, how),
            // Nobody inside this process reads a console, or mirrors one, yet.
            Output::Local(_) | Output::Changed(_) => {}
            Output::Event(event) => log_event(&event),
        }
    }

    /// Writes what the engine has for a connection, until one of them has enough.
    fn transmit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        let mut taken = 0;
        while !connection.full {
            if taken >= WRITE_SIZE {
                return self.writers.push(id);
            }
            let mut failure = None;
            let sent = self.engine.transmit(id, self.now, |runs| {
                connection.stream.write_vectored(runs).unwrap_or_else(|error| {
                    failure = Some(error);
                    0
                })
            });
            if sent.is_idle() {
                return;
            }
            match failure.map(|error| error.kind()) {
                None => {
                    taken += sent.taken;
                    // A socket that takes less than it is offered is full, and tells when it is not.
                    connection.full = sent.is_short();
                }
                Some(ErrorKind::WouldBlock) => connection.full = true,
                Some(ErrorKind::Interrupted) => {}
                Some(kind) => return self.fail_write(id, kind),
            }
        }
    }

    /// Nothing more can be written to a connection. What its peer sent before that (a VM's last words, a
    /// client's last command) is read before the connection is given up, unless nobody takes it for too
    /// long.
    fn fail_write(&mut self, id: ConnId, why: ErrorKind) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.full = true;
        if connection.closed == Some(Closed::Input) {
            return self.fail(id, why);
        }
        if connection.closed.is_none() {
            connection.closed = Some(Closed::Failed(why));
            connection.readable = true;
            connection.more_behind = true;
            if self.failing.len() >= MOST_FAILING {
                self.give_up_oldest();
            }
            self.failing.push_back((self.now + UNREAD_PATIENCE, id));
            self.enqueue(id);
        }
    }

    /// Gives up the connection whose socket failed first, with what is unread.
    fn give_up_oldest(&mut self) {
        if let Some((_, id)) = self.failing.pop_front()
            && let Some(Closed::Failed(why)) =
                self.connections.get(id).and_then(|connection| connection.closed)
        {
            self.fail(id, why);
        }
    }

    /// A connection is gone both ways.
    pub(crate) fn fail(&mut self, id: ConnId, why: ErrorKind) {
        if self.connections.remove(id).is_some() {
            self.engine.handle_closed(id, Closed::Failed(why), self.now);
        }
    }

    /// Puts a connection on the list of sockets to visit, if a visit would read or find an end.
    fn enqueue(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.readable
            && connection.closed != Some(Closed::Input)
            && !connection.queued
            && (connection.more_behind || self.engine.receive_window(id) > 0)
        {
            connection.queued = true;
            self.ready.push(connections::token(id));
        }
    }

    pub(crate) fn enqueue_closing(&mut self, token: Token) {
        if self.closing.enqueue(token) {
            self.ready.push(token);
        }
    }

    pub(crate) fn enqueue_listener(&mut self, id: ListenerId) {
        if self.listeners.enqueue(id) {
            self.ready.push(accept::token(id));
        }
    }
}

/// The poller's name for the socket that signals write to: no id has all bits set.
const SIGNAL: Token = Token(usize::MAX);

/// Readiness taken from the kernel in one turn. Enough that a storm is met in a few turns, and at 12 bytes
/// each no memory to speak of.
const EVENTS: usize = 1024;

/// Visits between two drains in a turn: the first of many that are ready at once are answered before the
/// last of them is read. Each is visited once a turn, so its replies still leave together.
const BETWEEN_DRAINS: usize = 8;

/// How many turns in a row timers may wait for a poller that always comes back full: if it is that busy
/// for long, lateness is not the loop's any more.
const MOST_HELD_BACK: u32 = 8;

/// Read from one connection in one visit, and the size of the one buffer that all reads share. Measured:
/// four times 64 KiB costs a busy VM a fifth less processor time per byte; beyond that little is gained,
/// and everybody else would wait longer than the tenth of a millisecond that this takes.
const READ_SIZE: usize = 256 << 10;

/// Written to one connection in one visit, about: a reader that catches up on megabytes lets others have
/// their turn.
const WRITE_SIZE: usize = 512 << 10;

/// How long a failed socket is kept for input that nobody takes: long enough for a VM that takes what was
/// typed before, short enough that a peer that has left is not taken for one that is there.
const UNREAD_PATIENCE: Duration = Duration::from_secs(2);

/// How many failed sockets may be kept for that at once; beyond it the oldest is given up.
const MOST_FAILING: usize = 1024;

/// How long a stop may take to send what is queued and to say goodbye.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
