//! The loop: one turn waits for readiness, takes connections in, and visits whoever has something to do.
//!
//! Every socket is registered once, edge-triggered; readiness is remembered with the connection. What has
//! more to do after its visit has its next one in the next turn, so that nobody keeps others from theirs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::Socket;
use vspc_core::concentrator::ListenerId;
use vspc_core::time::Instant;
use vspc_host::accept::{ACCEPTS_PER_VISIT, Accepted, Accepting};
use vspc_host::clock::Clock;

use crate::buffers::Buffers;
use crate::config::Settings;
use crate::dial::Goal;
use crate::fatal::Fatal;
use crate::link::Link;
use crate::listening::Listening;
use crate::names::Names;
use crate::pair::Pair;
use crate::timers::Timers;
use crate::tls::{Dialer, Server, Session};
use crate::visit::{Next, World};

/// Relays that listen.
#[derive(Debug)]
pub struct Relay {
    poll: Poll,
    clock: Clock,
    now: Instant,
    accepting: Accepting,
    listeners: Vec<Door>,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    /// Members and listeners to visit: each is on it once at most.
    ready: VecDeque<Token>,
    timers: Timers,
    buffers: Buffers,
    names: Names,
    stopper: Stopper,
}

/// A listener, and where its connections go.
#[derive(Debug)]
struct Door {
    listening: Listening,
    tls: Option<Server>,
    goal: Arc<Goal>,
    at: String,
    is_queued: bool,
}

#[derive(Debug)]
struct Member {
    pair: Box<Pair>,
    deadline: Option<Instant>,
    is_queued: bool,
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
        // Fails only when there is no poller any more.
        let _ = self.waker.wake();
    }
}

impl Relay {
    /// Opens all listeners.
    pub fn open(settings: &Settings) -> Result<Self, Fatal> {
        let system = |what| move |error| Fatal::System(what, error);
        let poll = Poll::new().map_err(system("create a poller"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(system("wake the loop"))?;
        let waker = Arc::new(waker);
        let mut listeners = Vec::new();
        for route in &settings.routes {
            let tls = route.to.tls.then(|| Dialer::load(&route.dialer, route.to.host())).transpose()?;
            let goal = Goal { endpoint: route.to.clone(), tls, patience: route.connect_timeout };
            let goal = Arc::new(goal);
            let is_served = route.listen.iter().any(|at| at.tls);
            let server = is_served.then(|| Server::load(&route.server)).transpose()?;
            for at in &route.listen {
                let listening = Listening::open(at).map_err(|why| Fatal::Listen { at: at.clone(), why })?;
                let token = Token(FIRST_LISTENER + listeners.len());
                poll.registry()
                    .register(&mut SourceFd(&listening.as_raw_fd()), token, Interest::READABLE)
                    .map_err(system("wait for connections"))?;
                let place = listening.place(at).to_string();
                log::info!("listening on {place}, for {}", goal.endpoint);
                let tls = server.clone().filter(|_| at.tls);
                let goal = Arc::clone(&goal);
                listeners.push(Door { listening, tls, goal, at: place, is_queued: false });
            }
        }
        let mut clock = Clock::start();
        Ok(Self {
            now: clock.now(),
            clock,
            accepting: Accepting::new().map_err(system("open /dev/null"))?,
            listeners,
            members: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            timers: Timers::default(),
            buffers: Buffers::default(),
            names: Names::start(Arc::clone(&waker)).map_err(system("start a thread"))?,
            stopper: Stopper { is_asked: Arc::default(), waker },
            poll,
        })
    }

    /// Where it listens, in the order of the settings, with the ports that the system has chosen.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.listeners.iter().map(|door| door.at.as_str())
    }

    /// What ends [`run`](Self::run).
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Relays until it is stopped.
    pub fn run(mut self) -> Result<(), Fatal> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.stopper.is_asked.load(Ordering::Acquire) {
            self.turn(&mut events)?;
        }
        let open = self.members.iter().flatten().count();
        log::info!("stops; {open} connections end");
        for member in self.members.iter().flatten() {
            member.pair.tell(self.now);
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events) -> Result<(), Fatal> {
        let deadline = match self.ready.is_empty() {
            true => [self.timers.next(), self.accepting.deadline()].into_iter().flatten().min(),
            false => Some(self.now),
        };
        let patience = self.clock.wait_until(deadline).map(|at| at.duration_since(self.now));
        let polled = self.poll.poll(events, patience);
        self.now = self.clock.now();
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
        } else if token >= FIRST_LISTENER {
            self.enqueue(event.token());
        } else if let Some(member) = self.members.get_mut(token / 2).and_then(Option::as_mut) {
            // It may be meant for one that had this place before: then it is one visit for nothing.
            member.pair.note(token % 2, event);
            self.enqueue(event.token());
        }
    }

    fn enqueue(&mut self, token: Token) {
        let is_queued = match token.0.checked_sub(FIRST_LISTENER) {
            Some(door) => self.listeners.get_mut(door).map(|door| &mut door.is_queued),
            None => self.members.get_mut(token.0 / 2).and_then(Option::as_mut).map(|it| &mut it.is_queued),
        };
        if is_queued.is_some_and(|is_queued| !std::mem::replace(is_queued, true)) {
            self.ready.push_back(token);
        }
    }

    /// Takes in what waits at a listener, up to a bound; more is left for the next turn.
    fn accept(&mut self, door: usize) {
        let id = ListenerId::from_bits(door as u64);
        self.listeners[door].is_queued = false;
        for _ in 0..ACCEPTS_PER_VISIT {
            let listening = &self.listeners[door].listening;
            match self.accepting.accept(id, || listening.accept(), || false, self.now) {
                Accepted::One((socket, peer)) => self.admit(door, socket, peer),
                Accepted::Again => {}
                Accepted::Nobody | Accepted::Failed => return,
            }
        }
        self.enqueue(Token(FIRST_LISTENER + door));
    }

    fn admit(&mut self, door: usize, socket: Socket, peer: String) {
        let Door { tls, goal, .. } = &self.listeners[door];
        let id = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        let prepared = || -> io::Result<Link> {
            let session = tls.as_ref().map(Session::serve).transpose()?;
            Link::register(self.poll.registry(), &socket, Token(id * 2))?;
            Ok(Link::new(socket, session))
        };
        match prepared() {
            Ok(near) => {
                let pair = Pair::new(near, peer, Arc::clone(goal), self.now);
                self.members[id] = Some(Member { pair: Box::new(pair), deadline: None, is_queued: false });
                self.enqueue(Token(id * 2));
            }
            Err(error) => {
                log::warn!("{peer} is not taken in: {error}");
                self.free.push(id);
            }
        }
    }

    fn visit(&mut self, id: usize) {
        let Some(member) = self.members[id].as_mut() else { return };
        member.is_queued = false;
        let mut world = World {
            registry: self.poll.registry(),
            id,
            now: self.now,
            buffers: &mut self.buffers,
            names: &mut self.names,
        };
        let next = member.pair.visit(&mut world);
        let deadline = match next {
            Next::Wait(deadline) => deadline,
            Next::Again | Next::Over => None,
        };
        self.timers.set(id, member.deadline, deadline);
        member.deadline = deadline;
        match next {
            Next::Wait(_) => {}
            Next::Again => self.enqueue(Token(id * 2)),
            Next::Over => {
                if let Some(member) = self.members[id].take() {
                    member.pair.tell(self.now);
                    member.pair.close();
                    self.free.push(id);
                }
            }
        }
    }
}

/// Readiness that one turn takes in.
const EVENTS: usize = 1024;

const WAKER: Token = Token(usize::MAX);

/// The first listener's token; members have those below, two each.
const FIRST_LISTENER: usize = 1 << 40;
