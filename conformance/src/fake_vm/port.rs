//! One serial port of a fake VM: connect, serve, move, come back.
//!
//! ```text
//!  Away ──dial──▶ Starting ──WILL-PROXY──▶ Up ──time to move──▶ Asking ──GOAHEAD──▶ Moving
//!   ▲               │                     ▲ ▲                     │ NOTNOW, 5 s       │ PEER-OK: COMPLETE
//!   └──lost, refused┴─────────────────────┘ └─────────────────────┴───────────────────┘ or 5 s: stays
//! ```
//!
//! Owns the port's connections (two during a move), its guest and its timers; takes time as an argument.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use vspc_core::vmware::{Resume, VmConfig, VmEvent};

use super::guest::Guest;
use super::leg::{BACKLOG, Leg};
use super::progress::Progress;
use crate::tunnel::Dial;

/// A port and all that belongs to it.
#[derive(Debug)]
pub(super) struct Port {
    label: String,
    target: String,
    config: Arc<VmConfig>,
    guest: Guest,
    /// Time between lines; `None`: silent.
    every: Option<Duration>,
    /// Two places; a move goes from one to the other.
    legs: [Option<Leg>; 2],
    current: usize,
    first_token: usize,
    phase: Phase,
    booted: bool,
    next_line: Instant,
    backoff: Duration,
    told: bool,
    moves: u64,
    /// Typed and not yet read by the guest, which stands still while it moves.
    typed: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    Away { until: Instant },
    Starting { since: Instant },
    Up,
    Asking { since: Instant },
    Moving { since: Instant, asked: Duration },
}

/// What a port needs from outside while it works.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'w> {
    /// How the concentrator is reached.
    pub dial: &'w Dial,
    /// Where its sockets are registered.
    pub registry: &'w Registry,
    /// Where it tells what happens.
    pub progress: Progress,
    /// The time of this batch of events.
    pub now: Instant,
}

impl Port {
    /// A port that dials at once. Its sockets get the tokens `first_token` and the one behind it.
    #[must_use]
    pub(super) fn new(
        label: String,
        target: String,
        config: VmConfig,
        guest: Guest,
        every: Option<Duration>,
        first_token: usize,
        now: Instant,
    ) -> Self {
        Self {
            label,
            target,
            config: Arc::new(config),
            guest,
            every,
            legs: [None, None],
            current: 0,
            first_token,
            phase: Phase::Away { until: now },
            booted: false,
            next_line: now,
            backoff: BACKOFF_FIRST,
            told: false,
            moves: 0,
            typed: Vec::new(),
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Away { until } => Some(until),
            Phase::Starting { since } => Some(since + START_LIMIT),
            Phase::Asking { since } | Phase::Moving { since, .. } => Some(since + HOST_LIMIT),
            Phase::Up => self.every.map(|_| self.next_line),
        }
    }

    /// The socket of one of the two places told something.
    pub(super) fn wake(&mut self, place: usize, event: &Event, world: World<'_>) {
        if let Some(leg) = &mut self.legs[place] {
            leg.wake(event);
        }
        self.work(world);
    }

    /// Time went by.
    pub(super) fn tick(&mut self, world: World<'_>) {
        let now = world.now;
        match self.phase {
            Phase::Away { until } if until <= now => self.dial(world),
            Phase::Starting { since } if since + START_LIMIT <= now => {
                self.lose(world, "does not serve this VM within 30 s");
            }
            Phase::Asking { since } | Phase::Moving { since, .. } if since + HOST_LIMIT <= now => {
                self.say(world, "not moved: no answer from the concentrator within 5 s");
                self.stay(world);
            }
            Phase::Up => {
                if let Some(every) = self.every
                    && self.next_line <= now
                {
                    self.next_line = (self.next_line + every).max(now);
                    self.print(Guest::line);
                }
            }
            _ => {}
        }
        self.work(world);
    }

    /// Moves to another host, if it can at this moment.
    pub(super) fn begin_move(&mut self, sequence: [u8; 4], world: World<'_>) {
        if let (Phase::Up, Some(leg)) = (&self.phase, &mut self.legs[self.current]) {
            leg.session().begin(&sequence);
            self.phase = Phase::Asking { since: world.now };
            self.work(world);
        }
    }

    /// Goes down and comes back `pause` later.
    pub(super) fn reboot(&mut self, pause: Duration, world: World<'_>) {
        if let Phase::Up = self.phase {
            self.say(world, "reboots");
            self.print(Guest::shut_down);
            self.hang_up(world.registry);
            self.booted = false;
            self.phase = Phase::Away { until: world.now + pause };
        }
    }

    /// Closes everything.
    pub(super) fn hang_up(&mut self, registry: &Registry) {
        for leg in &mut self.legs {
            if let Some(leg) = leg.take() {
                leg.close(registry);
            }
        }
        self.typed.clear();
    }

    fn say(&self, world: World<'_>, what: &str) {
        world.progress.say(&self.label, what);
    }

    fn dial(&mut self, world: World<'_>) {
        let token = Token(self.first_token + self.current);
        match Leg::connect(world.dial, &self.target, Arc::clone(&self.config), world.registry, token) {
            Ok(leg) => {
                self.legs[self.current] = Some(leg);
                self.phase = Phase::Starting { since: world.now };
            }
            Err(error) => self.lose(world, &reason(&error)),
        }
    }

    /// Reads, writes and acts until nothing is left to do.
    fn work(&mut self, world: World<'_>) {
        for place in 0..2 {
            let Some(leg) = &mut self.legs[place] else { continue };
            let outcome = leg.pump(&mut self.typed);
            while let Some(event) = self.legs[place].as_mut().and_then(Leg::poll_event) {
                self.happened(place, event, world);
            }
            if let Err(error) = outcome {
                self.ended(place, &error, world);
            }
        }
        while matches!(self.phase, Phase::Up) && !self.typed.is_empty() {
            let typed = std::mem::take(&mut self.typed);
            self.print(|guest, out| guest.typed(&typed, out));
            // Reading may have stopped at the bound; nobody tells us of what is there already.
            if let Some(leg) = &mut self.legs[self.current]
                && leg.is_held()
                && let Err(error) = leg.pump(&mut self.typed)
            {
                self.ended(self.current, &error, world);
            }
        }
        // What has been put since then.
        for leg in self.legs.iter_mut().flatten() {
            let _ = leg.flush();
        }
    }

    fn happened(&mut self, place: usize, event: VmEvent, world: World<'_>) {
        match event {
            VmEvent::ProxyAgreed if matches!(self.phase, Phase::Starting { .. }) => {
                self.say(world, &format!("connected to {}", self.target));
                self.phase = Phase::Up;
                self.backoff = BACKOFF_FIRST;
                self.told = false;
                self.next_line = world.now + self.every.unwrap_or_default();
                if !std::mem::replace(&mut self.booted, true) {
                    self.print(Guest::boot);
                }
            }
            VmEvent::Refused => self.lose(world, "refuses this VM's service URI"),
            VmEvent::NotProxy => self.lose(world, "is no concentrator's VM port"),
            VmEvent::Goahead { sequence, secret } => self.travel(sequence, secret, world),
            VmEvent::Notnow { .. } if matches!(self.phase, Phase::Asking { .. }) => {
                self.say(world, "not moved: the concentrator says not now");
                self.stay(world);
            }
            VmEvent::UnknownToProxy(code) if matches!(self.phase, Phase::Asking { .. }) => {
                self.say(world, &format!("not moved: the concentrator does not know {code:?}"));
                self.stay(world);
            }
            VmEvent::PeerOk { .. } if place != self.current => self.arrive(world),
            VmEvent::Break if matches!(self.phase, Phase::Up) => self.print(Guest::broken),
            _ => {}
        }
    }

    /// GOAHEAD: the other host dials, with what proves that it is this VM.
    fn travel(&mut self, sequence: Vec<u8>, secret: Vec<u8>, world: World<'_>) {
        let Phase::Asking { since } = self.phase else { return };
        let resume = Some(Resume { sequence, secret });
        let config = Arc::new(VmConfig { resume, ..(*self.config).clone() });
        let other = 1 - self.current;
        let token = Token(self.first_token + other);
        match Leg::connect(world.dial, &self.target, config, world.registry, token) {
            Ok(leg) => {
                self.legs[other] = Some(leg);
                self.phase = Phase::Moving { since, asked: world.now - since };
            }
            Err(error) => self.give_up(&error, world),
        }
    }

    /// PEER-OK: the source says goodbye first, as hosts do, then the target takes over.
    fn arrive(&mut self, world: World<'_>) {
        let Phase::Moving { since, asked } = self.phase else { return };
        if let Some(source) = self.legs[self.current].take() {
            source.close(world.registry);
        }
        self.current = 1 - self.current;
        if let Some(target) = &mut self.legs[self.current] {
            target.session().complete();
        }
        self.phase = Phase::Up;
        self.moves += 1;
        self.next_line = self.next_line.max(world.now);
        let (asked, whole) = (asked.as_secs_f64() * 1e3, (world.now - since).as_secs_f64() * 1e3);
        self.say(
            world,
            &format!("vMotion {}: moved in {whole:.1} ms (go-ahead after {asked:.1} ms)", self.moves),
        );
    }

    /// The move is off and the concentrator is told.
    fn give_up(&mut self, error: &io::Error, world: World<'_>) {
        self.say(world, &format!("not moved: {}", reason(error)));
        if let Some(source) = &mut self.legs[self.current] {
            source.session().abort();
        }
        self.stay(world);
    }

    /// The move is off.
    fn stay(&mut self, world: World<'_>) {
        if let Some(target) = self.legs[1 - self.current].take() {
            target.close(world.registry);
        }
        if self.legs[self.current].is_none() {
            self.lose(world, "ended both connections of a move");
            return;
        }
        self.phase = Phase::Up;
        self.next_line = self.next_line.max(world.now);
    }

    /// A connection ended or could not be made.
    fn ended(&mut self, place: usize, error: &io::Error, world: World<'_>) {
        let Some(leg) = self.legs[place].take() else { return };
        leg.close(world.registry);
        match self.phase {
            // The source may go first; the target completes the move.
            Phase::Moving { .. } if place == self.current => {}
            Phase::Moving { .. } => self.give_up(error, world),
            _ if place == self.current => self.lose(world, &reason(error)),
            _ => {}
        }
    }

    /// No connection: tell it once, try again later and later.
    fn lose(&mut self, world: World<'_>, why: &str) {
        self.hang_up(world.registry);
        if !std::mem::replace(&mut self.told, true) {
            self.say(world, &format!("{}: {why}; trying again until it works", self.target));
        }
        self.phase = Phase::Away { until: world.now + self.backoff };
        self.backoff = (self.backoff * 2).min(BACKOFF_MOST);
    }

    /// Lets the guest print on the current connection; one that cannot take it costs the guest this line.
    fn print(&mut self, say: impl FnOnce(&mut Guest, &mut Vec<u8>)) {
        let Some(leg) = &mut self.legs[self.current] else { return };
        if leg.backlog() < BACKLOG {
            let mut out = Vec::new();
            say(&mut self.guest, &mut out);
            leg.session().print(&out);
            let _ = leg.flush();
        }
    }
}

/// Why a connection ended, as people say it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there".into(),
        ErrorKind::UnexpectedEof => "closed the connection".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "broke the connection".into(),
        _ => error.to_string(),
    }
}

/// The first pause between two attempts to connect; each doubles it.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest pause: somebody watches and has just started the server.
const BACKOFF_MOST: Duration = Duration::from_secs(4);
/// A server that does not serve us after that long never will on this connection.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long hosts wait for each step of a move (vmotion.md §4).
const HOST_LIMIT: Duration = Duration::from_secs(5);
