//! The tasks: one per socket, which reads and waits; one that carries out what the engine asks for; one for
//! its timers; one for commands from other threads. All share one [`Server`] and none holds it while it
//! waits.
//!
//! A visit reads once from a connection and puts its task at the end of the executor's queue if there may
//! be more. What the engine asks for is carried out by a task that was queued meanwhile, behind the tasks
//! that were ready with this one: so no peer, however much it sends, keeps others from their turn, all
//! replies to one batch of input leave together, and what a peer sent is offered to its readers before
//! more of it is read. Writes are tried at once; only a socket that is full makes its task wait for it.
//!
//! Whatever wakes a task, it tries to read and to write. It must not rely on `poll_readable` to say that
//! it can: for an event that came in the tick in which the task registered, that says "pending" and
//! registers again, and so on for as long as other tasks keep the executor busy.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::LocalExecutor;
use socket2::Socket;
use vspc_core::concentrator::{Address, Closed, Concentrator, ConnId, ListenerId, Peer, Shutdown};
use vspc_core::time::Instant;
use vspc_host::accept::{ACCEPTS_PER_VISIT, Accepted};
use vspc_host::clock::Clock;
use vspc_host::commands::Receiver;
use vspc_host::departures::ENDS_PER_NEWCOMER;
use vspc_host::fatal::Fatal;
use vspc_host::housekeeping::Housekeeping;
use vspc_host::startup::Host;
use vspc_host::transfer::{self, Received, Transmitted};
use vspc_host::work::{self, Work};

use crate::accept::{self, Listeners};
use crate::connections::{Connection, Connections};
use crate::linger::{self, LingeringSocket};
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
    listeners: Listeners,
    connections: Connections,
    /// What both servers keep beside the engine and do in the same way.
    house: Housekeeping<LingeringSocket>,
    /// Connections whose end the reactor cannot report: their tasks are woken by the clock instead.
    polled: Vec<ConnId>,
    /// When the connections in `polled` are woken next.
    poll_at: Option<Instant>,
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
    /// The task that drains, and the one that keeps time.
    drainer: Task,
    timekeeper: Task,
}

/// Serves until a command says stop.
pub fn serve(host: Host) -> Result<(), Fatal> {
    let executor = Rc::new(LocalExecutor::new());
    let server = Server::new(host, Rc::clone(&executor))?;
    server.borrow_mut().start()?;
    let mut timer = Timer::never();
    server.borrow().spawn(move |server, cx| server.keep_time(&mut timer, cx));
    let drained = Rc::clone(&server);
    let drainer = executor.spawn(poll_fn(move |cx| Server::turn(&drained, |server| server.serve_engine(cx))));
    smol::block_on(executor.run(drainer));
    // Tasks hold the server, which holds the executor, which holds the tasks. Threads around the loop learn
    // from what the server drops that it has ended.
    drop(mem::replace(&mut server.borrow_mut().executor, Rc::new(LocalExecutor::new())));
    drop(executor);
    Ok(())
}

impl Server {
    fn new(host: Host, executor: Rc<LocalExecutor<'static>>) -> Result<Rc<RefCell<Self>>, Fatal> {
        let commands_socket = Async::new_nonblocking(host.commands_socket)
            .map_err(|error| Fatal::System("wait for commands", error))?;
        let mut house =
            Housekeeping::new(host.needs_admin).map_err(|error| Fatal::System("open /dev/null", error))?;
        let mut clock = Clock::start();
        let now = clock.now();
        let mut engine = Concentrator::new(host.config, host.seed, now);
        host.credentials.take_effect(&mut engine);
        house.logs = host.logs;
        house.watching = host.watching;
        house.askers = host.askers;
        house.restore(host.store, &mut engine, now);
        house.tell(host.outlets);
        house.inherit(host.inherited);
        house.dial_by(host.dialer);
        house.supervise(host.supervisor, now);
        let server = Rc::new_cyclic(|me| {
            RefCell::new(Self {
                executor,
                me: Weak::clone(me),
                engine,
                clock,
                now,
                listeners: Listeners::default(),
                connections: Connections::default(),
                house,
                polled: Vec::new(),
                poll_at: None,
                writers: Vec::new(),
                scratch: transfer::scratch(),
                commands: host.commands,
                drain_scheduled: false,
                awaited: Awaited::Deadline(None),
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
    fn turn(server: &RefCell<Self>, visit: impl FnOnce(&mut Self) -> Poll<()>) -> Poll<()> {
        let server = &mut *server.borrow_mut();
        server.now = server.clock.now();
        let outcome = visit(server);
        server.rearm();
        outcome
    }

    /// Starts a task that shares this server; `visit` is what it does whenever it is woken.
    fn spawn(&self, mut visit: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<()> + 'static) {
        if let Some(me) = self.me.upgrade() {
            self.executor.spawn(poll_fn(move |cx| Self::turn(&me, |server| visit(server, cx)))).detach();
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

    /// Takes in what waits at a listener, up to a bound; more is left for the task's next turn. Ready when
    /// the listener is gone.
    fn accept(&mut self, id: ListenerId, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(listener) = self.listeners.get(id) {
            listener.task.set(cx);
        }
        for _ in 0..ACCEPTS_PER_VISIT {
            if self.engine.closes_listener() {
                break;
            }
            let Some(listener) = self.listeners.get(id) else { return Poll::Ready(()) };
            let make_room = || self.house.lingering.take_oldest().is_some();
            match self.house.accepting.accept(id, || listener.accept(), make_room, self.now) {
                Accepted::One((stream, peer)) => self.admit(id, stream, peer),
                Accepted::Again => {}
                Accepted::Nobody => match ready!(listener.poll_waiting(cx)) {
                    Ok(()) => {}
                    Err(_) => {
                        self.house.accepting.retry_later(id, self.now);
                        return Poll::Pending;
                    }
                },
                Accepted::Failed => return Poll::Pending,
            }
            self.schedule_drain();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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
        match Async::new_nonblocking(stream) {
            Ok(stream) => {
                self.connections.insert(id, Connection::new(stream));
                self.spawn(move |server, cx| server.visit(id, cx));
            }
            Err(error) => self.engine.handle_closed(id, Closed::Failed(error.kind()), self.now),
        }
    }

    /// One visit of a connection's task. Whatever woke it, it tries to read, and to write if bytes wait: the
    /// reactor may be late to say that it can. Ready when the connection is gone and closed.
    fn visit(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = self.connections.get(id) {
            connection.task.set(cx);
            if !connection.ending.has_failed() && mem::take(&mut connection.full) {
                self.writers.push(id);
                self.schedule_drain();
            }
        }
        if self.receive(id, cx) {
            cx.waker().wake_by_ref();
        }
        if self.connections.get(id).is_some() { Poll::Pending } else { self.visit_lingering(id, cx) }
    }

    /// The same once the engine is done with the connection: its socket lingers, or is closed.
    fn visit_lingering(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        ready!(linger::visit(&mut self.house.lingering, id, &mut self.scratch, cx));
        // The last one to close may be what the server's end waits for.
        if self.house.is_stopping() {
            self.schedule_drain();
        }
        Poll::Ready(())
    }

    /// Reads once from a connection, or looks for its end while its window is 0. True if there may be more;
    /// else its task is woken when there is.
    fn receive(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.ending.has_ended() {
            // Nothing is read from it any more, so no read would return an error.
            match transfer::failure(&connection.stream) {
                Some(why) => self.fail(id, why),
                None => self.poll_later(id),
            }
            return false;
        }
        // This uses up what the reactor has delivered already. Whatever it says, a read is tried.
        if !connection.readable
            && let Poll::Ready(Err(error)) = connection.stream.poll_readable(cx)
        {
            self.fail(id, error.kind());
            return false;
        }
        let (socket, ending) = (connection.stream.get_ref(), connection.ending);
        match transfer::receive(&mut self.engine, id, socket, ending, &mut self.scratch, self.now) {
            Received::Bytes { more } => {
                // A read that brings less than asked for has emptied the socket, mostly; if it has not,
                // the reactor says so at once.
                connection.readable = more || connection.ending.has_failed();
                self.schedule_drain();
                self.poll_readable(id, cx)
            }
            Received::Nothing => {
                connection.readable = false;
                self.poll_readable(id, cx)
            }
            // The unread bytes would wake the task again and again. The engine says `Receive` when they may
            // be read.
            Received::WindowClosed => {
                connection.readable = true;
                self.poll_later(id);
                false
            }
            Received::WindowClosedAndEnded => {
                connection.readable = true;
                self.engine.handle_ending(id, self.now);
                self.poll_later(id);
                self.schedule_drain();
                false
            }
            Received::WindowClosedAndFailed(why) => {
                self.fail_write(id, why);
                self.poll_later(id);
                false
            }
            Received::Closed(how) => {
                connection.readable = false;
                if self.house.departures.is_due(id, how) {
                    self.end(id, how);
                } else {
                    self.schedule_drain();
                }
                false
            }
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
                self.engine.handle_closed(id, Closed::Input, self.now);
                self.poll_later(id);
                self.schedule_drain();
            }
            Closed::Failed(why) => self.fail(id, why),
        }
    }

    /// Has the reactor wake a connection's task when there is something to read; true if there is.
    fn poll_readable(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.readable {
            return true;
        }
        match connection.stream.poll_readable(cx) {
            Poll::Ready(Ok(())) => {
                connection.readable = true;
                true
            }
            Poll::Ready(Err(error)) => {
                self.fail(id, error.kind());
                false
            }
            Poll::Pending => false,
        }
    }

    /// Has the reactor wake a connection's task when its socket takes more. If it does already, it is
    /// written to again.
    fn poll_writable(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        connection.full = true;
        let Some(mut cx) = connection.task.context() else { return };
        match connection.stream.poll_writable(&mut cx) {
            Poll::Ready(Ok(())) => {
                connection.full = false;
                self.writers.push(id);
            }
            Poll::Ready(Err(error)) => self.fail_write(id, error.kind()),
            Poll::Pending => {}
        }
    }

    /// Has the clock wake a connection's task, because the reactor cannot report what it has to notice.
    fn poll_later(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id)
            && !mem::replace(&mut connection.polled, true)
        {
            self.polled.push(id);
            self.poll_at.get_or_insert(self.now + POLL_EVERY);
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
        }
        if self.house.is_done(&self.engine, self.now) { Poll::Ready(()) } else { Poll::Pending }
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
                    work::inspect(&mut self.engine, id, connection.stream.get_ref(), self.now);
                }
            }
        }
    }

    /// Opens a listener and says where it is.
    fn listen(&mut self, id: ListenerId, address: &Address) -> io::Result<Address> {
        let make_room = || self.house.lingering.take_oldest().is_some();
        let accepting = &mut self.house.accepting;
        let bound = accept::listen(accepting, &mut self.listeners, id, address, make_room)?;
        self.spawn(move |server, cx| server.accept(id, cx));
        Ok(bound)
    }

    /// Writes what the engine has for a connection, until the socket is full, the engine has no more, or the
    /// visit has been long enough.
    fn transmit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.full {
            return;
        }
        let (socket, refills) = (connection.stream.get_ref(), &mut connection.refills);
        match transfer::transmit(&mut self.engine, id, socket, refills, self.now) {
            Transmitted::All => {}
            Transmitted::More => self.writers.push(id),
            Transmitted::Full => self.poll_writable(id),
            Transmitted::Failed(why) => self.fail_write(id, why),
        }
    }

    /// Nothing more can be written to a connection: what its peer sent before is read first.
    fn fail_write(&mut self, id: ConnId, why: ErrorKind) {
        let Some(connection) = self.connections.get(id) else { return };
        let failure = self.house.fail_write(id, &mut connection.ending, why, self.now);
        if failure.is_read_on {
            connection.full = true;
            connection.readable = true;
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
        let Some(connection) = self.connections.remove(id) else {
            self.house.close_local(id);
            return;
        };
        if self.house.close(id, connection.stream.get_ref(), connection.ending, how) {
            let socket = LingeringSocket::new(connection.stream, connection.task);
            drop(self.house.lingering.insert(id, socket, self.now));
        }
    }

    /// Has a connection's task run again.
    fn schedule_visit(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            connection.task.wake();
        }
    }
}

/// How often connections are visited whose end the reactor cannot report: one or two system calls each.
const POLL_EVERY: Duration = Duration::from_secs(1);
