//! The tasks. Four last: one learns which sockets are ready, one carries out what the engine asks for, one
//! keeps time, one takes commands from other threads. Each visit to a socket is a task of its own, which is
//! made when there is something to do there, so that an idle socket has none. All share one [`Server`] and
//! none holds it while it waits.
//!
//! A visit reads once from a connection; where there may be more, the next visit is put at the end of the
//! executor's queue. What the engine asks for is carried out by a task that was queued meanwhile, behind the
//! tasks that were ready with this one: so no peer, however much it sends, keeps others from their turn, all
//! replies to one batch of input leave together, and what a peer sent is offered to its readers before
//! more of it is read. Writes are tried at once; only a socket that is full has to wait until it takes more.
//!
//! While anything is due, the first of the four runs in each round of the queue, too, and asks the kernel
//! itself. The reactor of async-io looks at descriptors only now and then while the executor is busy.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use async_io::{Async, Timer};
use smol::LocalExecutor;
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
use crate::readiness::{Readiness, Sockets, Source};
use crate::task::Task;

mod timekeeper;

use timekeeper::Awaited;

/// The engine, its sockets, and what the tasks tell each other.
pub(crate) struct Server {
    executor: Rc<LocalExecutor<'static>>,
    /// For new tasks.
    me: Weak<RefCell<Self>>,
    engine: Concentrator,
    clock: Clock,
    /// The time at which the task that runs now began its visit.
    now: Instant,
    /// When the kernel was last asked which sockets are ready, and has told of all.
    polled_at: Instant,
    /// How many polls in a row have not told of all.
    full_polls: u32,
    sockets: Sockets,
    /// Why the kernel cannot be asked any more.
    broken: Option<io::Error>,
    listeners: Listeners,
    connections: Connections,
    /// What both servers keep beside the engine and do in the same way.
    house: Housekeeping,
    /// Visits that are due.
    visits: usize,
    /// Connections whose socket can take the bytes that the engine still has for them.
    writers: Vec<ConnId>,
    /// What one read brings, for all connections.
    scratch: Box<[u8]>,
    /// What other threads ask for.
    commands: Receiver,
    /// The drain task is going to run.
    drain_scheduled: bool,
    /// What the timer task waits for.
    awaited: Awaited,
    /// The task that learns which sockets are ready, the one that drains, and the one that keeps time.
    watcher: Task,
    drainer: Task,
    timekeeper: Task,
}

/// Serves until a command says stop.
pub fn serve(host: Host) -> Result<(), Fatal> {
    let executor = Rc::new(LocalExecutor::new());
    let server = Server::new(host, Rc::clone(&executor))?;
    server.borrow_mut().start()?;
    server.borrow().spawn(Server::watch);
    let mut timer = Timer::never();
    server.borrow().spawn(move |server, cx| server.keep_time(&mut timer, cx));
    let drained = Rc::clone(&server);
    let drainer = executor.spawn(poll_fn(move |cx| Server::turn(&drained, |server| server.serve_engine(cx))));
    smol::block_on(executor.run(drainer));
    let broken = server.borrow_mut().broken.take();
    // Tasks hold the server, which holds the executor, which holds the tasks. Threads around the loop learn
    // from what the server drops that it has ended.
    drop(mem::replace(&mut server.borrow_mut().executor, Rc::new(LocalExecutor::new())));
    drop(executor);
    broken.map_or(Ok(()), |error| Err(Fatal::System("wait for sockets", error)))
}

impl Server {
    fn new(host: Host, executor: Rc<LocalExecutor<'static>>) -> Result<Rc<RefCell<Self>>, Fatal> {
        let sockets = Sockets::new().map_err(|error| Fatal::System("create a poller", error))?;
        let mut clock = Clock::start();
        let now = clock.now();
        let Begun { engine, house, commands, commands_socket } = host.begin(now)?;
        let commands_socket = Async::new_nonblocking(commands_socket)
            .map_err(|error| Fatal::System("wait for commands", error))?;
        let server = Rc::new_cyclic(|me| {
            RefCell::new(Self {
                executor,
                me: Weak::clone(me),
                engine,
                clock,
                now,
                polled_at: now,
                full_polls: 0,
                sockets,
                broken: None,
                listeners: Listeners::default(),
                connections: Connections::default(),
                house,
                visits: 0,
                writers: Vec::new(),
                scratch: transfer::scratch(),
                commands,
                drain_scheduled: false,
                awaited: Awaited::Deadline(None),
                watcher: Task::default(),
                drainer: Task::default(),
                timekeeper: Task::default(),
            })
        });
        server.borrow().spawn(move |server, cx| server.take_commands(&commands_socket, cx));
        Ok(server)
    }

    /// Carries out what the engine wants from the start.
    fn start(&mut self) -> Result<(), Fatal> {
        self.drain();
        self.house.started()
    }

    /// One visit of a task, which must not keep the server while it waits. Whatever deadline moves in it, the
    /// timer task learns of it here.
    fn turn<T>(server: &RefCell<Self>, visit: impl FnOnce(&mut Self) -> T) -> T {
        let server = &mut *server.borrow_mut();
        server.now = server.clock.now();
        let outcome = visit(server);
        server.rearm();
        outcome
    }

    /// Starts a task that shares this server and lasts; `visit` is what it does whenever it is woken.
    fn spawn(&self, mut visit: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<()> + 'static) {
        if let Some(me) = self.me.upgrade() {
            self.executor.spawn(poll_fn(move |cx| Self::turn(&me, |server| visit(server, cx)))).detach();
        }
    }

    /// Has a socket visited once, behind the tasks that are ready now.
    fn visit_soon(&mut self, source: Source) {
        if let Some(me) = self.me.upgrade() {
            self.visits += 1;
            self.executor.spawn(async move { Self::turn(&me, |server| server.visit(source)) }).detach();
            self.watcher.wake();
        }
    }

    /// Has the drain task run, behind the tasks that are ready now.
    fn schedule_drain(&mut self) {
        if !mem::replace(&mut self.drain_scheduled, true) {
            self.drainer.wake();
        }
    }

    fn take_commands(&mut self, socket: &Async<UnixStream>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            for command in self.commands.take(socket.get_ref()) {
                if let Some((id, stream)) = self.house.execute(&mut self.engine, command, self.now) {
                    self.take_up(id, stream);
                }
            }
            self.house.woken(&mut self.engine, self.now);
            self.schedule_drain();
            if ready!(socket.poll_readable(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Asks the kernel which sockets are ready, and has those visited. While visits are due it comes back
    /// behind them; else it waits for the reactor.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watcher.set(cx);
        match self.sockets.poll() {
            Ok(has_told_all) => {
                self.full_polls = if has_told_all { 0 } else { self.full_polls + 1 };
                if has_told_all || self.full_polls > FULL_POLLS_MAX {
                    self.full_polls = 0;
                    self.polled_at = self.now;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                self.broken = Some(error);
                self.schedule_drain();
                return Poll::Ready(());
            }
        }
        while let Some(readiness) = self.sockets.next() {
            self.record(readiness);
        }
        let is_due = self.visits > 0 || self.full_polls > 0;
        if is_due || self.sockets.poll_any(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Records what the kernel says of a socket. Nothing is read yet.
    fn record(&mut self, readiness: Readiness) {
        let id = match readiness.source {
            Source::Listener(id) => return self.visit_listener(id),
            Source::Connection(id) => id,
        };
        let Some(connection) = self.connections.get(id) else { return self.visit_lingering(id) };
        if readiness.writable && connection.note_writable() {
            self.writers.push(id);
            self.schedule_drain();
        }
        let Some(connection) = self.connections.get(id) else { return };
        if readiness.failed && connection.ending.has_ended() {
            // Nothing is read from it any more, so no read would return the error.
            let why = transfer::failure(&connection.stream).unwrap_or(ErrorKind::ConnectionReset);
            return self.fail(id, why);
        }
        if readiness.readable {
            connection.note_readable(readiness.more_behind);
            self.schedule_visit(id);
        }
    }

    /// One visit to a socket.
    fn visit(&mut self, source: Source) {
        self.visits -= 1;
        match source {
            Source::Listener(id) => self.accept(id),
            Source::Connection(id) if self.connections.get(id).is_some() => self.receive(id),
            Source::Connection(id) => {
                if self.house.lingering.visit(id, &mut self.scratch) {
                    self.visit_lingering(id);
                } else if self.house.is_stopping() {
                    // The last one to close may be what the server's end waits for.
                    self.schedule_drain();
                }
            }
        }
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the next visit.
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
            self.schedule_drain();
        }
        self.visit_listener(id);
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
        let registered = self.sockets.register(&stream, Source::Connection(id));
        self.connections.insert(id, Connection::new(stream));
        if let Err(error) = registered {
            self.fail(id, error.kind());
        }
    }

    /// Reads once from a connection, or looks for its end while its window is 0.
    fn receive(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        match connection.receive(&mut self.engine, id, &mut self.scratch, self.now) {
            Some(Received::Bytes { .. }) => {
                self.schedule_drain();
                self.schedule_visit(id);
            }
            Some(Received::WindowClosedAndEnded) => {
                self.engine.handle_ending(id, self.now);
                self.schedule_drain();
            }
            Some(Received::WindowClosedAndFailed(why)) => self.fail_write(id, why),
            Some(Received::Closed(how)) => {
                if self.house.departures.is_due(id, how) {
                    self.end(id, how);
                } else {
                    self.schedule_drain();
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
                // A reset behind the end was told of before this was known, and will not be again.
                if let Some(why) = transfer::failure(&connection.stream) {
                    return self.fail(id, why);
                }
                self.engine.handle_closed(id, Closed::Input, self.now);
                self.schedule_drain();
            }
            Closed::Failed(why) => self.fail(id, why),
        }
    }

    /// One visit of the drain task. Ready when the server is done.
    fn serve_engine(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drainer.set(cx);
        self.drain_scheduled = false;
        self.house.departures.begin_turn();
        while let Some((id, how)) = self.house.departures.next_due() {
            self.end(id, how);
        }
        self.drain();
        if !self.writers.is_empty() || !self.house.departures.is_empty() {
            self.schedule_drain();
            // Whatever else has become ready meanwhile has its turn between.
            self.watcher.wake();
        }
        let is_over = self.broken.is_some() || self.house.is_done(&self.engine, self.now);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Carries out every output of the engine.
    fn drain(&mut self) {
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
        accept::listen(accepting, &mut self.listeners, id, address, &self.sockets, make_room)
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
            self.schedule_drain();
        }
    }

    /// Closes a connection as the engine asks.
    fn close(&mut self, id: ConnId, how: Shutdown) {
        if self.house.close(id, self.connections.remove(id), how, self.now) {
            self.visit_lingering(id);
        }
    }

    /// Has a connection visited, if a visit would read or might find an end.
    fn schedule_visit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.enqueue(&self.engine, id) {
            self.visit_soon(Source::Connection(id));
        }
    }

    fn visit_lingering(&mut self, id: ConnId) {
        if self.house.lingering.enqueue(id) {
            self.visit_soon(Source::Connection(id));
        }
    }

    fn visit_listener(&mut self, id: ListenerId) {
        if self.listeners.get(id).is_some_and(accept::Listener::enqueue) {
            self.visit_soon(Source::Listener(id));
        }
    }
}

/// How many polls in a row may leave sockets untold of before timers fire anyway: a peer that is late by then
/// is late by its own doing.
const FULL_POLLS_MAX: u32 = 8;
