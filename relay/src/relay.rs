//! The loop: one turn waits for readiness, takes connections in, and visits whoever has something to do.
//!
//! Every socket is registered once, edge-triggered; readiness is remembered with the connection. What has
//! more to do after its visit has its next one in the next turn, so that nobody keeps others from theirs.
//! Members are pairs and lines; a line that comes by itself has a listener of its own.

mod arranging;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};
use socket2::Socket;
use vspc_core::concentrator::ListenerId;
use vspc_core::time::Instant;
use vspc_host::accept::{ACCEPTS_PER_VISIT, Accepted, Accepting};
use vspc_host::clock::Clock;
use vspc_host::listener::Listener;
use vspc_host::supervisor::Supervisor;

use crate::buffers::Buffers;
use crate::config::Settings;
use crate::control::Askers;
use crate::dial::Goal;
use crate::endpoint::{Endpoint, Place};
use crate::fatal::Fatal;
use crate::folder::Folder;
use crate::line::Line;
use crate::link::Link;
use crate::listening::Listening;
use crate::names::Names;
use crate::orders::{Order, Orders, Whom};
use crate::pair::Pair;
use crate::prepared::Prepared;
use crate::timers::Timers;
use crate::tls::{Server, Session};
use crate::visit::{Next, World};
use arranging::Named;

/// Relays that listen.
#[derive(Debug)]
pub struct Relay {
    poll: Poll,
    clock: Clock,
    now: Instant,
    accepting: Accepting,
    listeners: Vec<Option<Door>>,
    folders: Vec<Option<Folder>>,
    /// Lines that the settings name, in their order.
    named: Vec<Named>,
    /// How many lines there have been.
    lines_ever: u64,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    /// Members and listeners to visit: each is on it once at most.
    ready: VecDeque<Token>,
    timers: Timers,
    buffers: Buffers,
    names: Names,
    stopper: Stopper,
    /// What lines are told from outside.
    orders: Orders,
    ordered: Receiver<Order>,
    reloads: Sender<Reload>,
    reloaded: Receiver<Reload>,
    control: Option<(Listener, Askers)>,
    control_at: Option<Endpoint>,
    /// Nothing has been arranged yet.
    is_new: bool,
    /// It is about to end, and takes nobody in.
    is_leaving: bool,
    supervisor: Supervisor,
}

/// A listener, and whom its connections are for.
#[derive(Debug)]
struct Door {
    listening: Listening,
    whose: Whose,
    /// Where it was to be.
    asked: Place,
    /// The same for people, with the port that the system has chosen.
    at: String,
    is_queued: bool,
}

#[derive(Debug)]
enum Whose {
    /// Each has a pair made of it, after TLS if that is spoken here.
    Anybodys(Arc<Goal>, Option<Server>),
    /// A line's.
    Lines(usize),
}

#[derive(Debug)]
struct Member {
    kind: Kind,
    deadline: Option<Instant>,
    is_queued: bool,
}

#[derive(Debug)]
enum Kind {
    Pair(Box<Pair>),
    Line(Box<Line>),
}

/// Ends a relay's loop from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    is_asked: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Has [`Relay::run`] return, soon.
    pub fn stop(&self) {
        self.is_asked.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        // Fails only when there is no poller any more.
        let _ = self.waker.wake();
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }
}

/// What a reload says to the loop.
#[derive(Debug)]
pub(crate) enum Reload {
    /// One is asked for.
    Begins,
    /// What has been read, or why it cannot be used.
    Read(Box<Result<Prepared, String>>),
}

/// The end of the queue by which settings come that were read anew.
#[derive(Clone, Debug)]
pub(crate) struct Reloads {
    queue: Sender<Reload>,
    stopper: Stopper,
}

impl Reloads {
    pub(crate) fn send(&self, what: Reload) {
        // Fails when there is no loop any more.
        let _ = self.queue.send(what);
        self.stopper.wake();
    }
}

impl Relay {
    /// Opens all listeners.
    pub fn open(settings: &Settings) -> Result<Self, Fatal> {
        let system = |what| move |error| Fatal::System(what, error);
        let poll = Poll::new().map_err(system("create a poller"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(system("wake the loop"))?;
        let waker = Arc::new(waker);
        let mut clock = Clock::start();
        let stopper = Stopper { is_asked: Arc::default(), waker: Arc::clone(&waker) };
        let (orders, ordered) = Orders::new(stopper.clone());
        let (reloads, reloaded) = channel();
        let mut relay = Self {
            now: clock.now(),
            clock,
            accepting: Accepting::new().map_err(system("open /dev/null"))?,
            listeners: Vec::new(),
            folders: Vec::new(),
            named: Vec::new(),
            lines_ever: 0,
            members: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            names: Names::start(waker).map_err(system("start a thread"))?,
            stopper,
            orders,
            ordered,
            reloads,
            reloaded,
            control: None,
            control_at: None,
            is_new: true,
            is_leaving: false,
            supervisor: Supervisor::default(),
            poll,
        };
        relay.arrange(Prepared::load(settings.clone())?)?;
        Ok(relay)
    }

    /// Has a service manager told how it is.
    #[must_use]
    pub fn supervised(self, supervisor: Supervisor) -> Self {
        Self { supervisor, ..self }
    }

    /// Where it listens, in the order of the settings, with the ports that the system has chosen.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().flatten().map(|door| door.at.as_str())
    }

    /// What ends [`run`](Self::run).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// By which settings come that were read anew.
    pub(crate) fn reloads(&self) -> Reloads {
        Reloads { queue: self.reloads.clone(), stopper: self.stopper.clone() }
    }

    /// Relays until it is stopped. Then nobody is taken in any more, what has been read is carried on, and
    /// lines' last words go to the concentrator, for three seconds at most.
    pub fn run(mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(EVENTS);
        self.supervisor.begin(self.now);
        self.supervisor.ready();
        while !self.stopper.is_asked() {
            self.turn(&mut events, None)?;
        }
        self.supervisor.stopping();
        let open = self.members.iter().flatten().count();
        log::info!("stops; {open} connections end");
        self.leave();
        let until = self.now + GOODBYE;
        while self.now < until && self.members.iter().any(Option::is_some) {
            self.turn(&mut events, Some(until))?;
        }
        for member in self.members.iter().flatten() {
            match &member.kind {
                Kind::Pair(pair) => pair.tell(self.now),
                Kind::Line(line) => line.tell(),
            }
        }
        Ok(())
    }

    /// Has everything come to its end.
    fn leave(&mut self) {
        self.is_leaving = true;
        self.listeners.clear();
        self.folders.clear();
        self.control = None;
        for id in 0..self.members.len() {
            match &mut self.members[id] {
                Some(Member { kind: Kind::Pair(pair), .. }) => pair.leave(self.now),
                Some(Member { kind: Kind::Line(line), .. }) => line.end(self.now),
                None => {}
            }
            self.enqueue(Token(id * 2));
        }
    }

    /// What a reload says.
    fn reload(&mut self, what: Reload) {
        let read = match what {
            Reload::Begins => return self.supervisor.reloading(),
            Reload::Read(read) => *read,
        };
        if self.is_leaving {
            return;
        }
        match read.and_then(|prepared| self.arrange(prepared).map_err(|error| error.to_string())) {
            Ok(changes) => {
                for what in &changes.made {
                    log::info!("reloaded: {what}");
                }
                for what in &changes.take_a_restart {
                    log::warn!("reloaded: {what} has changed, which takes a restart; it stays as it was");
                }
                if changes.made.is_empty() && changes.take_a_restart.is_empty() {
                    log::info!("reloaded: nothing has changed but what certificates say");
                }
            }
            Err(why) => log::error!("nothing is reloaded, and all stays as it was: {why}"),
        }
        self.supervisor.ready();
    }

    fn turn(&mut self, events: &mut Events, until: Option<Instant>) -> Result<(), Fatal> {
        let deadline = match self.ready.is_empty() {
            true => [self.timers.next(), self.accepting.deadline(), self.supervisor.deadline(), until]
                .into_iter()
                .flatten()
                .min(),
            false => Some(self.now),
        };
        let patience = self.clock.wait_until(deadline).map(|at| at.duration_since(self.now));
        let polled = self.poll.poll(events, patience);
        self.now = self.clock.now();
        self.supervisor.feed(self.now);
        match polled {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.map_err(|error| Fatal::System("wait for sockets", error))?,
        }
        for event in &*events {
            self.note(event);
        }
        for id in self.timers.due(self.now).collect::<Vec<_>>() {
            self.enqueue(Token(id * 2));
        }
        for id in self.accepting.take_to_retry(self.now) {
            self.enqueue(Token(FIRST_LISTENER + id.index()));
        }
        self.accepting.log_burst(self.now);
        for _ in 0..self.ready.len() {
            let Some(Token(token)) = self.ready.pop_front() else { break };
            match token.checked_sub(FIRST_LISTENER) {
                Some(door) => self.accept(door),
                None => self.visit(token / 2),
            }
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        let Token(token) = event.token();
        if event.token() == WAKER {
            for id in self.names.take(self.now) {
                self.enqueue(Token(id * 2));
            }
            while let Ok(order) = self.ordered.try_recv() {
                self.pass_on(order);
            }
            while let Ok(what) = self.reloaded.try_recv() {
                self.reload(what);
            }
        } else if event.token() == CONTROL {
            self.answer();
        } else if let Some(folder) = token.checked_sub(FIRST_FOLDER) {
            self.look_into(folder);
        } else if token >= FIRST_LISTENER {
            self.enqueue(event.token());
        } else if let Some(member) = self.members.get_mut(token / 2).and_then(Option::as_mut) {
            // It may be meant for one that had this place before: then it is one visit for nothing.
            match &mut member.kind {
                Kind::Pair(pair) => pair.note(token % 2, event),
                Kind::Line(line) => line.note(token % 2, event),
            }
            self.enqueue(event.token());
        }
    }

    /// Gives an order to its line.
    fn pass_on(&mut self, order: Order) {
        let is_meant = |line: &Line| match &order.whom {
            Whom::Line(number) => line.is_number(*number),
            Whom::Named(name) => line.is_named(name),
        };
        let found = self.members.iter_mut().enumerate().find_map(|(id, member)| match member {
            Some(Member { kind: Kind::Line(line), .. }) if is_meant(line) => Some((id, line)),
            _ => None,
        });
        match found {
            Some((id, line)) => {
                line.handle_order(order, self.now);
                self.enqueue(Token(id * 2));
            }
            None => {
                let _ = order.reply.try_send(Err("there is no such line here".to_owned()));
            }
        }
    }

    /// Takes in all who have connected to the control socket; the poller tells of each once.
    fn answer(&self) {
        let Some((control, askers)) = &self.control else { return };
        loop {
            match control.accept() {
                Ok((socket, _)) => {
                    if let Err(error) = askers.answer(socket, &self.orders) {
                        log::warn!("a request is not answered: {error}");
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => return,
            }
        }
    }

    fn enqueue(&mut self, token: Token) {
        let is_queued = match token.0.checked_sub(FIRST_LISTENER) {
            Some(door) => {
                self.listeners.get_mut(door).and_then(Option::as_mut).map(|door| &mut door.is_queued)
            }
            None => self.members.get_mut(token.0 / 2).and_then(Option::as_mut).map(|it| &mut it.is_queued),
        };
        if is_queued.is_some_and(|is_queued| !std::mem::replace(is_queued, true)) {
            self.ready.push_back(token);
        }
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the next turn.
    fn accept(&mut self, door: usize) {
        let id = ListenerId::from_bits(door as u64);
        for _ in 0..ACCEPTS_PER_VISIT {
            let Some(Some(Door { listening, is_queued, .. })) = self.listeners.get_mut(door) else { return };
            *is_queued = false;
            match self.accepting.accept(id, || listening.accept(), || false, self.now) {
                Accepted::One((socket, peer)) => self.admit(door, socket, peer),
                Accepted::Again => {}
                Accepted::Nobody | Accepted::Failed => return,
            }
        }
        self.enqueue(Token(FIRST_LISTENER + door));
    }

    fn admit(&mut self, door: usize, socket: Socket, peer: String) {
        let Some(Some(Door { whose, at, .. })) = self.listeners.get(door) else { return };
        match whose {
            Whose::Anybodys(goal, tls) => {
                let (goal, session) = (Arc::clone(goal), tls.as_ref().map(Session::serve).transpose());
                let id = self.place();
                let registered = Link::register(self.poll.registry(), &socket, Token(id * 2));
                match registered.and(session) {
                    Ok(session) => {
                        let pair = Pair::new(Link::new(socket, session), peer, goal, self.now);
                        self.put(id, Kind::Pair(Box::new(pair)));
                    }
                    Err(error) => {
                        log::warn!("{peer} is not taken in: {error}");
                        self.free.push(id);
                    }
                }
            }
            &Whose::Lines(id) => {
                let at = at.clone();
                let mut member = self.members[id].take();
                if let Some(Member { kind: Kind::Line(line), .. }) = &mut member
                    && !line.arrive(socket, &self.world(id))
                {
                    log::warn!("{peer} is not taken in: the line that {at} is for is there");
                }
                self.members[id] = member;
                self.enqueue(Token(id * 2));
            }
        }
    }

    /// A place for a new member.
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        })
    }

    fn put(&mut self, id: usize, kind: Kind) {
        self.members[id] = Some(Member { kind, deadline: None, is_queued: false });
        self.enqueue(Token(id * 2));
    }

    fn add(&mut self, kind: Kind) -> usize {
        let id = self.place();
        self.put(id, kind);
        id
    }

    fn world(&mut self, id: usize) -> World<'_> {
        World {
            registry: self.poll.registry(),
            id,
            now: self.now,
            buffers: &mut self.buffers,
            names: &mut self.names,
        }
    }

    fn visit(&mut self, id: usize) {
        let Some(mut member) = self.members[id].take() else { return };
        let mut world = self.world(id);
        let next = match &mut member.kind {
            Kind::Pair(pair) => pair.visit(&mut world),
            Kind::Line(line) => line.visit(&mut world),
        };
        let deadline = match next {
            Next::Wait(deadline) => deadline,
            Next::Again | Next::Over => None,
        };
        self.timers.set(id, member.deadline, deadline);
        member.deadline = deadline;
        member.is_queued = false;
        if next == Next::Over {
            if let Kind::Pair(pair) = member.kind {
                pair.tell(self.now);
                pair.close();
            }
            self.free.push(id);
            return;
        }
        self.members[id] = Some(member);
        if next == Next::Again {
            self.enqueue(Token(id * 2));
        }
    }
}

/// Readiness that one turn takes in.
const EVENTS: usize = 1024;

/// How long what is on its way has when the relay ends.
const GOODBYE: Duration = Duration::from_secs(3);

const WAKER: Token = Token(usize::MAX);

const CONTROL: Token = Token(usize::MAX - 1);

/// The first listener's token; members have those below, two each.
const FIRST_LISTENER: usize = 1 << 40;

/// The first folder's.
const FIRST_FOLDER: usize = 1 << 41;
