//! The tasks: one per socket, which reads and waits; one that carries out what the engine asks for; one
//! for its timers; one for signals. All share one [`Server`] and none holds it while it waits.
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
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_io::{Async, Timer};
use smol::LocalExecutor;
use vspc_core::concentrator::{Address, Closed, Concentrator, ConnId, ListenError, Output};
use vspc_core::time::Instant;
use vspc_host::clock::Clock;
use vspc_host::events::log_event;
use vspc_host::fatal::Fatal;
use vspc_host::report::log_counters;
use vspc_host::signals::Signals;
use vspc_host::spare::{Refusals, Spare, listen_error};
use vspc_host::startup::Host;

use crate::accept::Listeners;
use crate::closing::{Closing, wake};
use crate::connections::Connections;

/// The engine, its sockets, and what the tasks tell each other.
pub(crate) struct Server {
    executor: Rc<LocalExecutor<'static>>,
    /// For new tasks.
    me: Weak<RefCell<Self>>,
    pub(crate) engine: Concentrator,
    clock: Clock,
    /// The time of this visit, taken once.
    pub(crate) now: Instant,
    pub(crate) connections: Connections,
    pub(crate) listeners: Listeners,
    pub(crate) closing: Closing,
    /// Connections whose socket can take the bytes that the engine still has for them.
    writers: Vec<ConnId>,
    /// Connections whose socket has failed, and when each is given up although input is unread.
    failing: VecDeque<(Instant, ConnId)>,
    /// Connections whose end the reactor would not tell of, and when they are looked at.
    unwatched: Vec<ConnId>,
    look_at: Option<Instant>,
    scratch: Box<[u8]>,
    pub(crate) spare: Spare,
    pub(crate) refusals: Refusals,
    signals: Signals,
    /// Set once the server has been told to stop: when it stops whatever is left.
    stop_at: Option<Instant>,
    /// The engine may have something to be done.
    stirred: bool,
    /// When the timer task wakes.
    armed: Option<Instant>,
    /// It is awake, and has let the others go first.
    due: bool,
    /// The task that drains, and the one that keeps time, once they have run.
    drainer: Option<Waker>,
    timekeeper: Option<Waker>,
}

/// Serves until a signal says stop.
pub(crate) fn serve(host: Host) -> Result<(), Fatal> {
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
        let wake =
            Async::new_nonblocking(host.wake).map_err(|error| Fatal::System("wait for signals", error))?;
        let spare = Spare::new().map_err(|error| Fatal::System("open /dev/null", error))?;
        let clock = Clock::start();
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
                connections: Connections::default(),
                listeners: Listeners::default(),
                closing: Closing::default(),
                writers: Vec::new(),
                failing: VecDeque::new(),
                unwatched: Vec::new(),
                look_at: None,
                scratch: vec![0; READ_SIZE].into_boxed_slice(),
                spare,
                refusals: Refusals::default(),
                signals: host.signals,
                stop_at: None,
                stirred: false,
                armed: None,
                due: false,
                drainer: None,
                timekeeper: None,
            })
        });
        server.borrow().spawn(|server| poll_fn(move |cx| Self::turn(&server).heed_signals(&wake, cx)));
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
    pub(crate) fn turn(server: &RefCell<Self>) -> RefMut<'_, Self> {
        let mut server = server.borrow_mut();
        server.now = server.clock.now();
        server
    }

    /// Starts a task that shares this server.
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Rc<RefCell<Self>>) -> F) {
        if let Some(me) = self.me.upgrade() {
            self.executor.spawn(task(me)).detach();
        }
    }

    /// Makes sure that what the engine asks for is carried out, behind the tasks that are ready now.
    pub(crate) fn stir(&mut self) {
        if !mem::replace(&mut self.stirred, true)
            && let Some(drainer) = &self.drainer
        {
            drainer.wake_by_ref();
        }
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| at <= self.now || (self.engine.is_empty() && self.closing.is_empty()))
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.engine.poll_timeout(),
            self.closing.deadline(),
            self.failing.front().map(|&(at, _)| at),
            self.look_at,
            self.refusals.deadline(),
            self.listeners.retry,
            self.stop_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn heed_signals(&mut self, wake: &Async<UnixStream>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while matches!(wake.get_ref().read(&mut [0; 64]), Ok(1..)) {}
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
                self.stir();
            }
            if ready!(wake.poll_readable(cx)).is_err() {
                return Poll::Ready(());
            }
        }
    }

    /// One visit of a connection: reads once, has written what waits, and waits for what it can do neither
    /// of. Ready when the connection is gone and closed.
    pub(crate) fn visit(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        let again = self.receive(id, cx);
        let Some(connection) = self.connections.get(id) else { return self.discard(id, cx) };
        connection.task.get_or_insert_with(|| cx.waker().clone());
        let failed = matches!(connection.closed, Some(Closed::Failed(_)));
        if !failed && mem::take(&mut connection.full) {
            self.writers.push(id);
            self.stir();
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reads once from a connection; true if there may be more. If not, its task is told when there is.
    fn receive(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        let window = self.engine.receive_window(id).min(READ_SIZE);
        if connection.closed == Some(Closed::Input) || window == 0 {
            return self.look(id, cx);
        }
        if !connection.readable
            && let Poll::Ready(Err(error)) = connection.stream.poll_readable(cx)
        {
            self.fail(id, error.kind());
            return false;
        }
        match (connection.stream.get_ref().read(&mut self.scratch[..window]), connection.closed) {
            (Ok(n @ 1..), _) => {
                // A read that brings less than asked for has emptied the socket, mostly; if it has not,
                // the reactor says so at once.
                connection.readable = n == window || connection.closed.is_some();
                self.engine.handle_received(id, &mut self.scratch[..n], self.now);
            }
            (Err(error), _) if error.kind() == ErrorKind::Interrupted => connection.readable = true,
            // All that had arrived before the socket failed has been read.
            (_, Some(Closed::Failed(why))) => self.fail(id, why),
            (Ok(_), _) => self.end_input(id),
            (Err(error), _) if error.kind() == ErrorKind::WouldBlock => connection.readable = false,
            (Err(error), _) => self.fail(id, error.kind()),
        }
        self.stir();
        self.wait_to_read(id, cx)
    }

    /// Looks for an end or an error of a connection that is not read, because its window is 0 or its peer
    /// has ended, so that it does not stay when its peer has left. Input that lies before it stays until
    /// the engine says `Receive`. True if the connection is to be visited again at once.
    fn look(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if let Ok(Some(error)) = connection.stream.get_ref().take_error() {
            self.fail_write(id, error.kind());
            return false;
        }
        if connection.closed == Some(Closed::Input) {
            self.look_later(id);
            return false;
        }
        match connection.stream.get_ref().peek(&mut [0]) {
            // The reactor would tell of this byte for ever.
            Ok(1..) => {
                connection.readable = true;
                self.look_later(id);
                false
            }
            Ok(_) => {
                match connection.closed {
                    Some(Closed::Failed(why)) => self.fail(id, why),
                    _ => self.end_input(id),
                }
                self.stir();
                false
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => true,
                ErrorKind::WouldBlock => {
                    connection.readable = false;
                    self.wait_to_read(id, cx)
                }
                kind => {
                    self.fail(id, kind);
                    false
                }
            },
        }
    }

    /// Has a connection looked at again after a while.
    fn look_later(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id)
            && !mem::replace(&mut connection.unwatched, true)
        {
            self.unwatched.push(id);
            self.look_at.get_or_insert(self.now + LOOK_EVERY);
        }
    }

    /// Has the reactor wake a connection's task when there is something to read. True if there is.
    fn wait_to_read(&mut self, id: ConnId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get(id) else { return false };
        if connection.readable || connection.closed == Some(Closed::Input) {
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

    /// Has the reactor wake a connection's task when its socket takes more.
    fn wait_to_write(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        // A task that has not run yet will try.
        let Some(task) = &connection.task else { return };
        match connection.stream.poll_writable(&mut Context::from_waker(task)) {
            Poll::Ready(Ok(())) => {
                connection.full = false;
                self.writers.push(id);
            }
            Poll::Ready(Err(error)) => self.fail_write(id, error.kind()),
            Poll::Pending => {}
        }
    }

    /// The peer has ended its half of a connection.
    fn end_input(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            connection.closed = Some(Closed::Input);
            self.engine.handle_closed(id, Closed::Input, self.now);
        }
    }

    fn discard(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.closing.discard(id, &mut self.scratch, cx));
        // The last one to close may be what the server's end waits for.
        if self.stop_at.is_some() {
            self.stir();
        }
        Poll::Ready(())
    }

    /// Lets timers fire. A turn behind the tasks that woke with this one, so that bytes that are there are
    /// not too late because the server was.
    fn keep_time(&mut self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        self.timekeeper.get_or_insert_with(|| cx.waker().clone());
        if self.armed.is_some_and(|at| at <= self.now) {
            if !mem::replace(&mut self.due, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.due = false;
            self.armed = None;
            self.fire_timers();
            self.stir();
            return Poll::Pending;
        }
        let Some(at) = self.next_deadline() else { return Poll::Pending };
        self.armed = Some(at);
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
        self.closing.expire(self.now);
        while self.failing.front().is_some_and(|&(at, _)| at <= self.now) {
            self.give_up_oldest();
        }
        if self.look_at.is_some_and(|at| at <= self.now) {
            self.look_at = None;
            for id in mem::take(&mut self.unwatched) {
                if let Some(connection) = self.connections.get(id) {
                    connection.unwatched = false;
                    wake(connection.task.clone());
                }
            }
        }
        self.refusals.settle(self.now);
        self.listeners.wake_failed(self.now);
    }

    /// Does everything that the engine asks for. Ready when the server is done.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.drainer.get_or_insert_with(|| cx.waker().clone());
        self.stirred = false;
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
            self.stir();
        }
        if self.is_done() {
            return Poll::Ready(());
        }
        // A later deadline needs no word: the timer fires early and looks again.
        if self.next_deadline().is_some_and(|at| self.armed.is_none_or(|armed| at < armed)) {
            wake(self.timekeeper.clone());
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
                connection.stream.get_ref().write_vectored(runs).unwrap_or_else(|error| {
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
        self.wait_to_write(id);
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
            wake(connection.task.clone());
            if self.failing.len() >= MOST_FAILING {
                self.give_up_oldest();
            }
            self.failing.push_back((self.now + UNREAD_PATIENCE, id));
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
        if let Some(connection) = self.connections.remove(id) {
            wake(connection.task);
            self.engine.handle_closed(id, Closed::Failed(why), self.now);
            self.stir();
        }
    }

    /// Lets a connection's task look again.
    fn wake(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            wake(connection.task.clone());
        }
    }
}

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

/// How often connections are looked at whose end the reactor would not tell of: one system call each.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a stop may take to send what is queued and to say goodbye.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
