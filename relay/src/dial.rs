//! The way to a target: its name, its addresses one after the other, TLS.
//!
//! ```text
//! Naming ── addresses ──▶ Connecting ── connected ──▶ Shaking ── done ──▶ the link
//!    │                     │      ▲                      │
//!    │  none, too late     │ next │ refused, too late    │ broken, too late
//!    ▼                     ▼──────┘ (no address left)    ▼
//!  failed                 failed                       failed
//! ```

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use mio::event::Event;
use socket2::Socket;
use vspc_core::time::Instant;
use vspc_trust::Credentials;

use crate::endpoint::{Endpoint, Place};
use crate::link::Link;
use crate::sockets::{self, Connecting, Target};
use crate::tls::Session;
use crate::visit::World;

/// A target, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<Credentials>,
    /// How long each of its addresses is given, and TLS.
    pub(crate) patience: Duration,
    /// Whether it is told first for whom it is connected to.
    pub(crate) is_told_for_whom: bool,
}

/// A connection that is being made.
#[derive(Debug)]
pub(crate) struct Dial {
    goal: Arc<Goal>,
    /// What its socket is registered as.
    token: Token,
    stage: Stage,
    rest: VecDeque<Target>,
    until: Instant,
    /// When it is to be visited at the latest.
    wait: Instant,
    /// What the target is told first, before TLS.
    header: Box<[u8]>,
    /// Why the last address failed.
    fault: String,
}

#[derive(Debug)]
enum Stage {
    Naming,
    Connecting(Socket),
    /// A unix socket's queue is full: it is tried again.
    Pausing(Target),
    Shaking(Box<Link>),
    /// Between two of the above.
    Idle,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It is to be visited when its socket is ready, or at this time.
    Waiting(Instant),
    Reached(Link),
    /// It was not reached; why.
    Failed(String),
}

impl Dial {
    /// Begins. Nothing happens before [`advance`](Self::advance).
    pub(crate) fn new(goal: Arc<Goal>, token: Token, now: Instant) -> Self {
        let until = now + goal.patience;
        let (stage, rest) = (Stage::Naming, VecDeque::new());
        Self { goal, token, stage, rest, until, wait: until, header: Box::default(), fault: String::new() }
    }

    /// Has the target told this first. It is short: a new connection takes it at once.
    pub(crate) fn with_header(self, header: Box<[u8]>) -> Self {
        Self { header, ..self }
    }

    /// When it is to be visited at the latest, after [`advance`](Self::advance).
    pub(crate) const fn deadline(&self) -> Instant {
        self.wait
    }

    /// Notes what the poller says about its socket.
    pub(crate) fn note(&mut self, event: &Event) {
        if let Stage::Shaking(link) = &mut self.stage {
            link.note(event);
        }
    }

    /// Goes on as far as it can.
    pub(crate) fn advance(&mut self, world: &mut World<'_>) -> Progress {
        let progress = self.go_on(world);
        if let Progress::Waiting(until) = progress {
            self.wait = until;
        }
        progress
    }

    fn go_on(&mut self, world: &mut World<'_>) -> Progress {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Idle) {
                Stage::Naming => match self.find(world) {
                    Some(Ok(targets)) => self.rest = targets,
                    Some(Err(fault)) => return Progress::Failed(fault),
                    None if world.now >= self.until => {
                        return Progress::Failed("its name is not found in time".to_owned());
                    }
                    None => {
                        self.stage = Stage::Naming;
                        return Progress::Waiting(self.until);
                    }
                },
                Stage::Connecting(socket) => match sockets::connecting(&socket) {
                    Ok(Connecting::Connected(since)) => self.connected(socket, since.as_ref()),
                    Ok(Connecting::NotYet) if world.now < self.until => {
                        self.stage = Stage::Connecting(socket);
                        return Progress::Waiting(self.until);
                    }
                    Ok(Connecting::NotYet) => self.fault = "it does not answer".to_owned(),
                    Err(error) => self.fault = error.to_string(),
                },
                Stage::Pausing(target) if world.now < self.until => {
                    self.rest.push_front(target);
                    if let Some(wait) = self.connect(world, true) {
                        return Progress::Waiting(wait);
                    }
                }
                Stage::Pausing(_) => self.fault = "it takes no connections".to_owned(),
                Stage::Shaking(mut link) => match link.shake_hands() {
                    Ok(true) => return Progress::Reached(*link),
                    Ok(false) if world.now < self.until => {
                        self.stage = Stage::Shaking(link);
                        return Progress::Waiting(self.until);
                    }
                    Ok(false) => self.fault = "it does not answer in TLS".to_owned(),
                    Err(error) => self.fault = error.to_string(),
                },
                Stage::Idle => {
                    if self.rest.is_empty() {
                        return Progress::Failed(std::mem::take(&mut self.fault));
                    }
                    if let Some(wait) = self.connect(world, false) {
                        return Progress::Waiting(wait);
                    }
                }
            }
        }
    }

    /// The addresses of the target.
    fn find(&self, world: &mut World<'_>) -> Option<Result<VecDeque<Target>, String>> {
        match &self.goal.endpoint.place {
            Place::Tcp(host, port) => {
                let found = world.names.addresses(host, *port, world.id, world.now)?;
                Some(found.map(|addresses| addresses.into_iter().map(Target::Ip).collect()))
            }
            Place::Unix(path) => Some(Ok([Target::Unix(path.clone())].into())),
            Place::Vsock(cid, port) => Some(Ok([Target::Vsock(*cid, *port)].into())),
        }
    }

    /// Tries the next address. Returns until when to wait before it is tried again.
    fn connect(&mut self, world: &World<'_>, is_again: bool) -> Option<Instant> {
        let target = self.rest.pop_front()?;
        if !is_again {
            self.until = world.now + self.goal.patience;
        }
        match sockets::connect(&target) {
            Ok(socket) => match Link::register(world.registry, &socket, self.token) {
                Ok(()) => self.stage = Stage::Connecting(socket),
                Err(error) => self.fault = error.to_string(),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.stage = Stage::Pausing(target);
                return Some(self.until.min(world.now + PAUSE));
            }
            Err(error) => self.fault = error.to_string(),
        }
        None
    }

    /// `since`: how it has failed since then.
    fn connected(&mut self, socket: Socket, since: Option<&io::Error>) {
        match self.goal.tls.as_ref().map(Session::dial).transpose() {
            Ok(session) => {
                let mut link = Link::new(socket, session);
                match since {
                    Some(error) => link.fail(error),
                    None => link.send_first(&self.header),
                }
                self.stage = Stage::Shaking(Box::new(link));
            }
            Err(error) => self.fault = error.to_string(),
        }
    }
}

/// How long a unix socket whose queue is full is left alone.
const PAUSE: Duration = Duration::from_millis(5);
