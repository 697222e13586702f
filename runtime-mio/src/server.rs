//! The loop: one turn waits for readiness, reads, lets timers fire, and carries out what the engine asks
//! for, every few reads and at the end, so that the replies to one read leave together and soon.
//!
//! Every socket is registered once, edge-triggered; readiness is remembered with the socket. A visit
//! reads once from a connection; what may have more goes on the `ready` list and is visited again in the
//! next turn, which then does not wait. So no peer, however much it sends, keeps others from their turn,
//! and what it sent is offered to its readers before more of it is read.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::event::Event as Readiness;
use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::Socket;
use vspc_core::concentrator::{Address, Closed, Concentrator, ConnId, ListenerId, Peer, Shutdown};
use vspc_core::time::Instant;
use vspc_host::accept::{ACCEPTS_PER_VISIT, Accepted};
use vspc_host::clock::Clock;
use vspc_host::commands::Receiver;
use vspc_host::connection::{Connection, Connections};
use vspc_host::departures::ENDS_PER_NEWCOMER;
use vspc_host::fatal::Fatal;
use vspc_host::housekeeping::Housekeeping;
use vspc_host::startup::{Begun, Host};
use vspc_host::transfer::{self, Received, Transmitted};
use vspc_host::work::{self, Work};

use crate::accept::{self, Listeners};
use crate::tokens::{COMMANDS, connection_of, connection_token, listener_of, listener_token};

/// The engine, its sockets, and what the loop remembers from turn to turn.
pub(crate) struct Server {
    poll: Poll,
    engine: Concentrator,
    clock: Clock,
    /// The latest time taken: at the start of a turn and at each drain.
    now: Instant,
    /// When the sockets were last polled.
    polled_at: Instant,
    listeners: Listeners,
    connections: Connections,
    /// What both servers keep beside the engine and do in the same way.
    house: Housekeeping,
    /// Sockets to visit: each is on it once at most.
    ready: Vec<Token>,
    /// Connections whose socket can take the bytes that the engine still has for them.
    writers: Vec<ConnId>,
    /// What one read brings, for all connections.
    scratch: Box<[u8]>,
    /// What other threads ask for.
    commands: Receiver,
    /// Readable when there is something in `commands`.
    commands_socket: UnixStream,
    /// How many turns in a row have ended without letting timers fire.
    timer_skips: u32,
}

/// Serves until a command says stop.
pub fn serve(host: Host) -> Result<(), Fatal> {
    let mut server = Server::new(host)?;
    server.start()?;
    server.run()
}

impl Server {
    fn new(host: Host) -> Result<Self, Fatal> {
        let poll = Poll::new().map_err(|error| Fatal::System("create a poller", error))?;
        let mut clock = Clock::start();
        let now = clock.now();
        let Begun { engine, house, commands, commands_socket } = host.begin(now)?;
        let mut commands_socket = UnixStream::from_std(commands_socket);
        poll.registry()
            .register(&mut commands_socket, COMMANDS, Interest::READABLE)
            .map_err(|error| Fatal::System("wait for commands", error))?;
        Ok(Self {
            poll,
            engine,
            clock,
            now,
            polled_at: now,
            listeners: Listeners::default(),
            connections: Connections::default(),
            house,
            ready: Vec::new(),
            writers: Vec::new(),
            scratch: transfer::scratch(),
            commands,
            commands_socket,
            timer_skips: 0,
        })
    }

    /// Carries out what the engine wants from the start.
    fn start(&mut self) -> Result<(), Fatal> {
        self.drain();
        self.house.started()
    }

    fn run(mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.house.is_done(&self.engine, self.now) {
            self.turn(&mut events)?;
        }
        Ok(())
    }

    /// One turn: waits, reads, lets timers fire, carries out what the engine asks for.
    fn turn(&mut self, events: &mut Events) -> Result<(), Fatal> {
        let patience = self.patience();
        let polled = self.poll.poll(events, patience);
        self.now = self.clock.now();
        match polled {
            Ok(()) => {}
            // The poller has not looked: timers must not fire before it has, or bytes that are there would be
            // too late.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Fatal::System("wait for sockets", error)),
        }
        self.polled_at = self.now;
        let mut seen = 0;
        for readiness in &*events {
            self.record(readiness);
            seen += 1;
        }
        self.house.departures.begin_turn();
        self.visit_ready();
        while let Some((id, how)) = self.house.departures.next_due() {
            self.end(id, how);
        }
        self.fire_timers(seen == EVENTS);
        self.drain();
        Ok(())
    }

    /// How long to wait for readiness: not at all while there is something to do, else until the next
    /// deadline.
    fn patience(&mut self) -> Option<Duration> {
        let is_busy = !self.ready.is_empty() || !self.writers.is_empty() || !self.house.departures.is_empty();
        let deadline = if is_busy { Some(self.now) } else { self.house.deadline(&self.engine) };
        self.clock.wait_until(deadline).map(|at| at.duration_since(self.now))
    }

    /// Records what the poller says about a socket. Nothing is read yet.
    fn record(&mut self, readiness: &Readiness) {
        let token = readiness.token();
        if token == COMMANDS {
            return self.take_commands();
        }
        if let Some(id) = listener_of(token) {
            return self.enqueue_listener(id);
        }
        let id = connection_of(token);
        let Some(connection) = self.connections.get(id) else { return self.enqueue_lingering(id) };
        if readiness.is_writable() && connection.note_writable() {
            self.writers.push(id);
        }
        if readiness.is_error() && connection.ending.has_ended() {
            // Nothing is read from it any more, so no read would return the error.
            let why = transfer::failure(&connection.stream).unwrap_or(ErrorKind::ConnectionReset);
            return self.fail(id, why);
        }
        let more_behind = readiness.is_read_closed() || readiness.is_priority() || readiness.is_error();
        if readiness.is_readable() || more_behind {
            connection.note_readable(more_behind);
            self.schedule_visit(id);
        }
    }

    fn take_commands(&mut self) {
        for command in self.commands.take(&self.commands_socket) {
            if let Some((id, stream)) = self.house.execute(&mut self.engine, command, self.now) {
                self.take_up(id, stream);
            }
        }
        self.house.woken(&mut self.engine, self.now);
    }

    /// Visits each socket on the list once. What is put on it meanwhile is for the next turn.
    fn visit_ready(&mut self) {
        let mut ready = mem::take(&mut self.ready);
        for (visits, token) in ready.drain(..).enumerate() {
            if visits > 0 && visits.is_multiple_of(BETWEEN_DRAINS) {
                self.drain();
            }
            if let Some(id) = listener_of(token) {
                self.accept(id);
                continue;
            }
            let id = connection_of(token);
            if self.connections.get(id).is_some() {
                self.receive(id);
            } else if self.house.lingering.visit(id, &mut self.scratch) {
                self.enqueue_lingering(id);
            }
        }
        // What was added meanwhile moves to the list that has room already.
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the next turn.
    fn accept(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.get(id) {
            listener.dequeue();
        }
        for _ in 0..ACCEPTS_PER_VISIT {
            if self.engine.closes_listener() {
                break;
            }
            let Some(listener) = self.listeners.get(id) else { return };
            let make_room = || self.house.lingering.take_oldest().is_some();
            match self.house.accepting.accept(id, || listener.accept(), make_room, self.now) {
                Accepted::One((stream, peer)) => self.admit(id, stream, peer),
                Accepted::Again => {}
                Accepted::Nobody | Accepted::Failed => return,
            }
        }
        self.enqueue_listener(id);
    }

    fn admit(&mut self, on: ListenerId, stream: Socket, peer: Peer) {
        for _ in 0..ENDS_PER_NEWCOMER {
            if let Some((id, how)) = self.house.departures.next_before_newcomer() {
                self.end(id, how);
            }
        }
        let Some(id) = self.engine.handle_accepted(on, peer, self.now) else {
            return self.house.accepting.refused_by_engine(self.now);
        };
        self.take_up(id, stream);
    }

    /// Serves a connection that the engine knows.
    fn take_up(&mut self, id: ConnId, stream: Socket) {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let registered =
            self.poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), connection_token(id), interest);
        self.connections.insert(id, Connection::new(stream));
        if let Err(error) = registered {
            self.fail(id, error.kind());
        }
    }

    /// Reads once from a connection, or looks for its end while its window is 0.
    fn receive(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.receive(&mut self.engine, id, &mut self.scratch, self.now) {
            Some(Received::Bytes { .. }) => self.schedule_visit(id),
            Some(Received::WindowClosedAndEnded) => self.engine.handle_ending(id, self.now),
            Some(Received::WindowClosedAndFailed(why)) => self.fail_write(id, why),
            Some(Received::Closed(how)) => {
                if self.house.departures.is_due(id, how) {
                    self.end(id, how);
                }
            }
            Some(Received::Nothing | Received::WindowClosed) | None => {}
        }
    }

    /// A connection has ended: its peer's half, or both.
    fn end(&mut self, id: ConnId, how: Closed) {
        match how {
            Closed::Input => {
                // Where a write has failed meanwhile, a read is on its way that finds out.
                let Some(connection) = self.connections.get(id).filter(|it| it.ending.is_none()) else {
                    return;
                };
                connection.ending.note(Closed::Input);
                // A reset behind the end was reported before this was known, and will not be again.
                if let Some(why) = transfer::failure(&connection.stream) {
                    return self.fail(id, why);
                }
                self.engine.handle_closed(id, Closed::Input, self.now);
            }
            Closed::Failed(why) => self.fail(id, why),
        }
    }

    /// Lets timers fire, after everything that was ready has been read: those that were due when the sockets
    /// were polled, because bytes that have arrived since then are not read yet and must not be too late on
    /// the loop's account. A full batch of readiness means that more is ready.
    fn fire_timers(&mut self, batch_was_full: bool) {
        if batch_was_full && self.timer_skips < MAX_TIMER_SKIPS {
            self.timer_skips += 1;
            return;
        }
        self.timer_skips = 0;
        let due = self.house.fire_timers(&mut self.engine, self.polled_at);
        for (id, why) in due.failed {
            self.fail(id, why);
        }
        for id in due.listeners {
            self.enqueue_listener(id);
        }
    }

    /// Carries out every output of the engine. Reads the clock again first, so that measured latencies
    /// include the time that bytes waited for the rest of this turn.
    fn drain(&mut self) {
        self.now = self.clock.now();
        let mut writers = mem::take(&mut self.writers);
        for id in writers.drain(..) {
            self.transmit(id);
        }
        writers.append(&mut self.writers);
        self.writers = writers;
        while let Some(work) = self.house.next_work(&mut self.engine, self.now) {
            self.carry_out(work);
        }
    }

    fn carry_out(&mut self, work: Work) {
        match work {
            Work::Transmit(id) => self.transmit(id),
            Work::Receive(id) => self.schedule_visit(id),
            Work::Listen(id, address) => {
                let bound = self.listen(id, &address);
                self.house.listened(&mut self.engine, id, address, bound, self.now);
            }
            Work::Unlisten(id) => drop(self.listeners.remove(id)),
            Work::Close(id, how) => self.close(id, how),
            Work::Inspect(id) => {
                if let Some(connection) = self.connections.get(id) {
                    work::inspect(&mut self.engine, id, &connection.stream, self.now);
                }
            }
        }
    }

    /// Opens a listener and says where it is.
    fn listen(&mut self, id: ListenerId, address: &Address) -> io::Result<Address> {
        let make_room = || self.house.lingering.take_oldest().is_some();
        let accepting = &mut self.house.accepting;
        accept::listen(accepting, &mut self.listeners, id, address, self.poll.registry(), make_room)
    }

    /// Writes what the engine has for a connection, until the socket is full, the engine has no more, or the
    /// visit has been long enough.
    fn transmit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.transmit(&mut self.engine, id, self.now) {
            Transmitted::All | Transmitted::Full => {}
            Transmitted::More => self.writers.push(id),
            Transmitted::Failed(why) => self.fail_write(id, why),
        }
    }

    /// Nothing more can be written to a connection: what its peer sent before is read first.
    fn fail_write(&mut self, id: ConnId, why: ErrorKind) {
        let Some(connection) = self.connections.get(id) else { return };
        let failure = self.house.fail_write(id, &mut connection.ending, why, self.now);
        if failure.is_read_on {
            connection.read_on();
            self.schedule_visit(id);
        }
        if let Some((id, why)) = failure.gone {
            self.fail(id, why);
        }
    }

    /// A connection is gone both ways.
    fn fail(&mut self, id: ConnId, why: ErrorKind) {
        if self.connections.remove(id).is_some() {
            self.house.fail(&mut self.engine, id, why, self.now);
        }
    }

    /// Closes a connection as the engine asks.
    fn close(&mut self, id: ConnId, how: Shutdown) {
        if self.house.close(id, self.connections.remove(id), how, self.now) {
            self.enqueue_lingering(id);
        }
    }

    /// Puts a connection on the list of sockets to visit, if a visit would read or might find an end.
    fn schedule_visit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.enqueue(&self.engine, id) {
            self.ready.push(connection_token(id));
        }
    }

    fn enqueue_lingering(&mut self, id: ConnId) {
        if self.house.lingering.enqueue(id) {
            self.ready.push(connection_token(id));
        }
    }

    fn enqueue_listener(&mut self, id: ListenerId) {
        if self.listeners.get(id).is_some_and(accept::Listener::enqueue) {
            self.ready.push(listener_token(id));
        }
    }
}

/// Readiness taken from the kernel in one turn. Enough that a storm is met in a few turns, and at 12 bytes
/// each no memory to speak of.
const EVENTS: usize = 1024;

/// Visits between two drains in a turn: the first of many that are ready at once are answered before the
/// last of them is read. Each is visited once a turn, so its replies still leave together.
const BETWEEN_DRAINS: usize = 8;

/// How many turns in a row timers may wait for a poller that always comes back full. After eight full batches
/// timers fire anyway: a peer that is late by then is late by its own doing.
const MAX_TIMER_SKIPS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net;
    use std::sync::Arc;

    use vspc_core::concentrator::Config;
    use vspc_host::askers::Askers;
    use vspc_host::commands;
    use vspc_host::credentials::Credentials;
    use vspc_host::dialer::Dialer;
    use vspc_host::inherited::Inherited;
    use vspc_host::logs::Logs;
    use vspc_host::outlets::Outlets;
    use vspc_host::store::Mirror;
    use vspc_host::supervisor::Supervisor;
    use vspc_host::watching::Watching;

    #[test]
    fn a_deadline_that_passes_while_a_turn_lasts_waits_for_the_next_poll() {
        let vms = net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config { vm_listen: vec![vms.into()], client_ports: None, ..Config::default() };
        let (_sender, commands, commands_socket) = commands::pair().unwrap();
        let credentials = Credentials::default();
        let (config, seed, needs_admin, store) = (Arc::new(config), [3; 32], false, Mirror::default());
        let (logs, watching, outlets) = (Logs::default(), Watching::default(), Outlets::default());
        let supervisor = Supervisor::default();
        let host = Host {
            config,
            needs_admin,
            seed,
            credentials,
            store,
            logs,
            watching,
            askers: Askers::default(),
            outlets,
            supervisor,
            inherited: Inherited::default(),
            dialer: Dialer::default(),
            commands,
            commands_socket,
        };
        let mut server = Server::new(host).unwrap();
        server.start().unwrap();
        let _vm = net::TcpStream::connect(vms).unwrap();
        let mut events = Events::with_capacity(EVENTS);
        let deadline = loop {
            server.turn(&mut events).unwrap();
            if let Some(deadline) = server.engine.poll_timeout() {
                break deadline;
            }
        };
        server.polled_at = Instant::from_micros(deadline.as_micros() - 1);
        server.now = deadline + Duration::from_millis(1);
        server.fire_timers(false);
        assert_eq!(server.engine.poll_timeout(), Some(deadline));
        server.polled_at = server.now;
        server.fire_timers(false);
        assert_ne!(server.engine.poll_timeout(), Some(deadline));
    }
}
