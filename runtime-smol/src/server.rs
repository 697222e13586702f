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

use std::cell::{RefCell, RefMut};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{self, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::LocalExecutor;
use vspc_core::concentrator::{
    Address, Closed, Concentrator, ConnId, ListenError, ListenerId, Output, Peer, Shutdown,
};
use vspc_core::time::Instant;
use vspc_host::accept::{ACCEPTS_PER_VISIT, Accepted, Accepting, listen_error};
use vspc_host::clock::Clock;
use vspc_host::commands::{Command, Receiver};
use vspc_host::events::log_event;
use vspc_host::fatal::Fatal;
use vspc_host::grace::Grace;
use vspc_host::report::log_counters;
use vspc_host::startup::{Host, STOP_PATIENCE};
use vspc_host::tcp_state::tcp_state;
use vspc_host::transfer::{self, Received, Transmitted};
use vspc_host::watch::Watches;

use crate::accept::{self, Listeners};
use crate::connections::{Connection, Connections};
use crate::linger::{self, Lingering, Socket};
use crate::task::Task;

/// The engine, its sockets, and what the tasks tell each other.
pub(crate) struct Server {
    executor: Rc<LocalExecutor<'static>>,
    /// For new tasks.
    me: Weak<RefCell<Self>>,
    engine: Concentrator,
    clock: Clock,
    /// The time of this visit, taken once.
    now: Instant,
    listeners: Listeners,
    accepting: Accepting,
    connections: Connections,
    /// Connections whose socket has failed with this while its input is unread.
    failed: Grace<ErrorKind>,
    lingering: Lingering,
    /// Connections for whose end the reactor cannot wait, and when their tasks look for it.
    unwatched: Vec<ConnId>,
    look_at: Option<Instant>,
    /// Connections whose socket can take the bytes that the engine still has for them.
    writers: Vec<ConnId>,
    scratch: Box<[u8]>,
    /// What other threads ask for.
    commands: Receiver,
    /// Other threads that read consoles.
    watches: Watches,
    /// Set once the server has been told to stop: when it stops whatever is left.
    stop_at: Option<Instant>,
    /// The drain task is going to run.
    drain_scheduled: bool,
    /// When the timer task wakes.
    armed: Option<Instant>,
    /// It is awake, and has let the others go first.
    due: bool,
    /// The task that drains, and the one that keeps time.
    drainer: Task,
    timekeeper: Task,
}

/// Serves until a command says stop.
pub fn serve(host: Host) -> Result<(), Fatal> {
    let executor = Rc::new(LocalExecutor::new());
    let server = Server::new(host, Rc::clone(&executor))?;
    Server::turn(&server).open_listeners()?;
    let mut timer = Timer::never();
    server.borrow().spawn(|server| poll_fn(move |cx| Server::turn(&server).keep_time(&mut timer, cx)));
    let drainer = executor.spawn(poll_fn(move |cx| Server::turn(&server).drain(cx)));
    smol::block_on(executor.run(drainer));
    Ok(())
}

impl Server {
    fn new(host: Host, executor: Rc<LocalExecutor<'static>>) -> Result<Rc<RefCell<Self>>, Fatal> {
        let woken =
            Async::new_nonblocking(host.woken).map_err(|error| Fatal::System("wait for commands", error))?;
        let accepting = Accepting::new().map_err(|error| Fatal::System("open /dev/null", error))?;
        let mut clock = Clock::start();
        let now = clock.now();
        let mut engine = Concentrator::new(host.config, host.seed, now);
        host.credentials.take_effect(&mut engine);
        let server = Rc::new_cyclic(|me| {
            RefCell::new(Self {
                executor,
                me: Weak::clone(me),
                engine,
                clock,
                now,
                listeners: Listeners::default(),
                accepting,
                connections: Connections::default(),
                failed: Grace::default(),
                lingering: Lingering::default(),
                unwatched: Vec::new(),
                look_at: None,
                writers: Vec::new(),
                scratch: transfer::scratch(),
                commands: host.commands,
                watches: Watches::default(),
                stop_at: None,
                drain_scheduled: false,
                armed: None,
                due: false,
                drainer: Task::default(),
                timekeeper: Task::default(),
            })
        });
        server.borrow().spawn(|server| poll_fn(move |cx| Self::turn(&server).take_commands(&woken, cx)));
        Ok(server)
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

    /// The server for one visit of a task, which must not keep it while it waits.
    fn turn(server: &RefCell<Self>) -> RefMut<'_, Self> {
        let mut server = server.borrow_mut();
        server.now = server.clock.now();
        server
    }

    /// Starts a task that shares this server.
    fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Rc<RefCell<Self>>) -> F) {
        if let Some(me) = self.me.upgrade() {
            self.executor.spawn(task(me)).detach();
        }
    }

    /// Has the drain task run, behind the tasks that are ready now.
    fn schedule_drain(&mut self) {
        if !mem::replace(&mut self.drain_scheduled, true) {
            self.drainer.wake();
        }
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| at <= self.now || (self.engine.is_empty() && self.lingering.is_empty()))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.engine.poll_timeout(),
            self.accepting.deadline(),
            self.failed.deadline(),
            self.lingering.deadline(),
            self.look_at,
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn take_commands(&mut self, woken: &Async<UnixStream>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            for command in self.commands.take(woken.get_ref()) {
                self.execute(command);
                self.schedule_drain();
            }
            self.watches.retry(&mut self.engine, self.now);
            if ready!(woken.poll_readable(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// Does what another thread asks for.
    fn execute(&mut self, command: Command) {
        match command {
            Command::Report => log_counters(&self.engine),
            Command::Credentials(credentials) => credentials.take_effect(&mut self.engine),
            Command::Watch { console, options, sink } => {
                self.watches.open(&mut self.engine, &console, options, sink, self.now);
            }
            Command::Stop => self.stop(),
        }
    }

    /// Begins to stop: there is a little time to send what is queued and to close every connection in order.
    fn stop(&mut self) {
        if self.stop_at.is_none() {
            log::info!("stopping");
            self.stop_at = Some(self.now + STOP_PATIENCE);
            self.lingering.lift_bound();
            self.engine.shut_down(self.now);
        }
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the task's next turn. Ready when
    /// the listener is gone.
    fn accept(&mut self, id: ListenerId, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(listener) = self.listeners.get(id) {
            listener.task.set(cx);
        }
        for _ in 0..ACCEPTS_PER_VISIT {
            let Some(listener) = self.listeners.get(id) else { return Poll::Ready(()) };
            let make_room = || self.lingering.take_oldest().is_some();
            match self.accepting.accept(id, || listener.accept(), make_room, self.now) {
                Accepted::One((stream, peer)) => self.admit(id, stream, peer),
                Accepted::Again => {}
                Accepted::Nobody => match ready!(listener.poll_waiting(cx)) {
                    Ok(()) => {}
                    Err(_) => {
                        self.accepting.failed(id, self.now);
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

    fn admit(&mut self, on: ListenerId, stream: TcpStream, peer: SocketAddr) {
        let Some(id) = self.engine.handle_accepted(on, Peer::new(Address::Ip(peer)), self.now) else {
            return self.accepting.not_taken(self.now);
        };
        match Async::new(stream) {
            Ok(stream) => {
                self.connections.insert(id, Connection::new(stream));
                self.spawn(|server| poll_fn(move |cx| Self::turn(&server).visit(id, cx)));
            }
            Err(error) => self.engine.handle_closed(id, Closed::Failed(error.kind()), self.now),
        }
    }

    /// One visit of a connection's task. Whatever woke it, it tries to read, and to write if bytes wait: the
    /// reactor may be late to say that it can. Ready when the connection is gone and closed.
    fn visit(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = self.connections.get(id) {
            connection.task.set(cx);
            if !connection.has_failed() && mem::take(&mut connection.full) {
                self.writers.push(id);
                self.schedule_drain();
            }
        }
        if self.receive(id, cx) {
            cx.waker().wake_by_ref();
        }
        if self.connections.get(id).is_some() { Poll::Pending } else { self.discard(id, cx) }
    }

    fn discard(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        ready!(linger::discard(&mut self.lingering, id, &mut self.scratch, cx));
        // The last one to close may be what the server's end waits for.
        if self.stop_at.is_some() {
            self.schedule_drain();
        }
        Poll::Ready(())
    }

    /// Reads once from a connection, or looks for its end while its window is 0. True if there may be more;
    /// else its task is woken when there is.
    fn receive(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.has_ended() {
            // Nothing is read from it any more, so no read would return an error.
            match transfer::failure(&connection.stream) {
                Some(why) => self.fail(id, why),
                None => self.look_later(id),
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
        let (socket, closed) = (connection.stream.get_ref(), connection.closed);
        match transfer::receive(&mut self.engine, id, socket, closed, &mut self.scratch, self.now) {
            Received::Bytes { more } => {
                // A read that brings less than asked for has emptied the socket, mostly; if it has not,
                // the reactor says so at once.
                connection.readable = more || connection.has_failed();
                self.schedule_drain();
                self.poll_readable(id, cx)
            }
            Received::Nothing => {
                connection.readable = false;
                self.poll_readable(id, cx)
            }
            // The unread bytes would wake the task again and again. The engine says `Receive` when they may
            // be read.
            Received::Held => {
                connection.readable = true;
                self.look_later(id);
                false
            }
            Received::Ending => {
                connection.readable = true;
                self.engine.handle_ending(id, self.now);
                self.look_later(id);
                self.schedule_drain();
                false
            }
            Received::Failing(why) => {
                self.fail_write(id, why);
                self.look_later(id);
                false
            }
            Received::Closed(Closed::Input) => {
                connection.closed = Some(Closed::Input);
                self.engine.handle_closed(id, Closed::Input, self.now);
                self.look_later(id);
                self.schedule_drain();
                false
            }
            Received::Closed(Closed::Failed(why)) => {
                self.fail(id, why);
                false
            }
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

    /// Has a connection's task look again after a while.
    fn look_later(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id)
            && !mem::replace(&mut connection.unwatched, true)
        {
            self.unwatched.push(id);
            self.look_at.get_or_insert(self.now + LOOK_EVERY);
        }
    }

    /// Lets timers fire. A turn behind the tasks that woke with this one, so that bytes that are there are
    /// not too late because the server was.
    fn keep_time(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        self.timekeeper.set(cx);
        if self.armed.is_some_and(|at| at <= self.now) {
            if !mem::replace(&mut self.due, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.due = false;
            self.armed = None;
            self.fire_timers();
            self.schedule_drain();
            return Poll::Pending;
        }
        self.armed = self.clock.wait_until(self.next_deadline());
        let Some(at) = self.armed else { return Poll::Pending };
        match self.clock.monotonic(at) {
            Some(at) => timer.set_at(at),
            None => timer.clear(),
        }
        if Pin::new(timer).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn fire_timers(&mut self) {
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        while self.lingering.take_due(self.now).is_some() {}
        while let Some((id, why)) = self.failed.take_due(self.now) {
            self.fail(id, why);
        }
        for id in self.accepting.take_failed(self.now) {
            if let Some(listener) = self.listeners.get(id) {
                listener.task.wake();
            }
        }
        self.accepting.settle(self.now);
        if self.look_at.is_some_and(|at| at <= self.now) {
            self.look_at = None;
            for id in mem::take(&mut self.unwatched) {
                if let Some(connection) = self.connections.get(id) {
                    connection.unwatched = false;
                    connection.task.wake();
                }
            }
        }
    }

    /// Does everything that the engine asks for. Ready when the server is done.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drainer.set(cx);
        self.drain_scheduled = false;
        let mut writers = mem::take(&mut self.writers);
        for id in writers.drain(..) {
            self.transmit(id);
        }
        writers.append(&mut self.writers);
        self.writers = writers;
        while let Some(output) = self.engine.poll_output() {
            self.carry_out(output);
        }
        if !self.writers.is_empty() {
            self.schedule_drain();
        }
        if self.is_done() {
            return Poll::Ready(());
        }
        let deadline = self.next_deadline();
        if deadline.is_some_and(|at| self.armed.is_none_or(|armed| at < armed)) {
            // A later deadline needs no word: the timer fires early and looks again.
            self.timekeeper.wake();
        } else if deadline.is_none() && self.armed.is_none() {
            self.clock.wait_until(None);
        }
        Poll::Pending
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(id) => self.transmit(id),
            Output::Receive(id) => self.wake(id),
            Output::Listen(id, address) => {
                let bound = match address {
                    Address::Ip(address) => self.listen(id, address).map_err(|error| listen_error(&error)),
                    _ => Err(ListenError::Other(ErrorKind::Unsupported)),
                };
                self.engine.handle_listening(id, bound.map(Address::Ip), self.now);
            }
            Output::Unlisten(id) => drop(self.listeners.remove(id)),
            Output::Close(id, how) => self.close(id, how),
            Output::Local(id) => self.watches.carry(&mut self.engine, id, self.now),
            Output::Inspect(id) => self.inspect(id),
            // Nobody mirrors the engine's consoles yet.
            Output::Changed(_) => {}
            Output::Event(event) => log_event(&event),
        }
    }

    /// Tells the engine how the TCP of a connection's peer does.
    fn inspect(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if let Some(tcp) = tcp_state(&connection.stream) {
            self.engine.handle_tcp_state(id, tcp, self.now);
        }
    }

    /// Opens a listener and says where it is.
    fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<SocketAddr> {
        let make_room = || self.lingering.take_oldest().is_some();
        let bound = accept::listen(&mut self.listeners, id, address, make_room)?;
        self.spawn(|server| poll_fn(move |cx| Self::turn(&server).accept(id, cx)));
        Ok(bound)
    }

    /// Writes what the engine has for a connection, until one of them has enough.
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

    /// Nothing more can be written to a connection. What its peer sent before that (a VM's last words, a
    /// client's last command) is read before the connection is given up, unless nobody takes it for too
    /// long.
    fn fail_write(&mut self, id: ConnId, why: ErrorKind) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.has_ended() {
            return self.fail(id, why);
        }
        if connection.has_failed() {
            return;
        }
        connection.closed = Some(Closed::Failed(why));
        connection.full = true;
        connection.readable = true;
        connection.task.wake();
        if let Some((oldest, why)) = self.failed.insert(id, why, self.now) {
            self.fail(oldest, why);
        }
    }

    /// A connection is gone both ways.
    fn fail(&mut self, id: ConnId, why: ErrorKind) {
        if self.connections.remove(id).is_some() {
            self.failed.remove(id);
            self.engine.handle_closed(id, Closed::Failed(why), self.now);
            self.schedule_drain();
        }
    }

    /// Closes a connection as the engine asks.
    fn close(&mut self, id: ConnId, how: Shutdown) {
        let Some(connection) = self.connections.remove(id) else {
            self.watches.close(id);
            return;
        };
        self.failed.remove(id);
        // Nothing unread is left once the peer has ended: closing sends what is under way, then the end.
        let graceful = how == Shutdown::Graceful && !connection.has_ended();
        if graceful && connection.stream.get_ref().shutdown(net::Shutdown::Write).is_ok() {
            let socket = Socket::new(connection.stream, connection.task);
            drop(self.lingering.insert(id, socket, self.now));
        }
    }

    /// Lets a connection's task look again.
    fn wake(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            connection.task.wake();
        }
    }
}

/// How often connections are looked at for whose end the reactor cannot wait: one or two system calls each.
const LOOK_EVERY: Duration = Duration::from_secs(1);
