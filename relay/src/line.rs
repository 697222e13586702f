//! A serial line that knows nothing of concentrators, and the connection on which the relay speaks for it.
//!
//! | the line is | what it printed | the connection to the concentrator |
//! |---|---|---|
//! | up | is sent | is made, and again after [`RETRY`] whenever it ends |
//! | up, and the concentrator is away or takes nothing for [`STALL`] | is kept up to the limit, then the oldest is dropped | as above |
//! | gone, and the concentrator has not all of it | is kept and sent | as above |
//! | gone, and the concentrator has all of it | | is ended: the VM is gone there too |
//!
//! What is typed goes to the line as it comes. Without a line, or when its connection ends, it is dropped.
//! What a move of its VM changes in this is in `moves`.

mod breaks;
mod moves;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use mio::Token;
use mio::event::Event;
use socket2::Socket;
use vspc_core::time::Instant;
use vspc_core::vmware::VmConfig;

use crate::backlog::Backlog;
use crate::backoff::Backoff;
use crate::dial::{Dial, Goal, Progress};
use crate::link::{Link, Received};
use crate::orders::Watch;
use crate::pair::LAST_WORDS;
use crate::qmp::Watched;
use crate::speaker::{Speaker, Told};
use crate::visit::{Next, World};
use breaks::Breaks;
use moves::{Moves, Moving};

/// What is known of a line beforehand.
#[derive(Debug)]
pub(crate) struct Spec {
    /// What the VM says of itself.
    pub(crate) config: Arc<VmConfig>,
    /// Where the line is connected to; `None`: it connects to a listener of the relay's.
    pub(crate) from: Option<Arc<Goal>>,
    /// The same for people.
    pub(crate) place: String,
    pub(crate) to: Arc<Goal>,
    /// How much is kept of what the concentrator does not have.
    pub(crate) backlog: usize,
    /// Where the QEMU is watched whose line it is.
    pub(crate) qmp: Option<Watched>,
}

/// A line.
#[derive(Debug)]
pub(crate) struct Line {
    /// What is there as long as the line is, for whoever watches its QEMU; no other line has had this number.
    life: Option<Arc<u64>>,
    /// Where a QEMU can be asked for BREAKs.
    breaks: Option<Box<Breaks>>,
    spec: Arc<Spec>,
    port: Port,
    net: Net,
    backlog: Backlog,
    /// What was typed and the line has not taken.
    typed: Vec<u8>,
    port_retry: Retry,
    net_retry: Retry,
    /// The line has ended, and until then it is not dialed while the concentrator takes the rest of what it
    /// printed: another run of a machine is another connection there.
    ending: Option<Instant>,
    leaving: Leaving,
    moves: Moves,
}

/// Whether it is to end: when it is down and the concentrator has all, nobody will need it any more.
#[derive(Debug)]
enum Leaving {
    No,
    /// It ends by itself.
    WhenDown,
    /// It is closed then; until then it is read.
    Now(Instant),
}

/// The line itself.
#[derive(Debug)]
enum Port {
    /// It is dialed at this time; `None`: it comes by itself.
    Away(Option<Instant>),
    Dialing(Box<Dial>),
    Up(Link),
}

/// The way to the concentrator.
#[derive(Debug)]
enum Net {
    /// There is nothing to say.
    Idle,
    Away(Instant),
    Dialing(Box<Dial>),
    Up(Box<Speaker>),
}

/// When something is tried again, and whether the log has it that it failed.
#[derive(Debug)]
struct Retry {
    backoff: Backoff,
    /// So often it may fail before that is worth a warning.
    tries: u32,
    has_complained: bool,
}

impl Line {
    pub(crate) fn new(spec: Arc<Spec>, now: Instant) -> Self {
        let backlog = Backlog::new(spec.backlog);
        Self {
            life: None,
            breaks: None,
            port: Port::Away(spec.from.is_some().then_some(now)),
            net: Net::Idle,
            backlog,
            typed: Vec::new(),
            port_retry: Retry::new(PORT_RETRY, PORT_TRIES),
            net_retry: Retry::new(RETRY, 0),
            ending: None,
            leaving: Leaving::No,
            moves: Moves::new(spec.qmp.is_some(), now),
            spec,
        }
    }

    /// Notes what the poller says about the line (side 0), or about the connection to the concentrator.
    pub(crate) fn note(&mut self, side: usize, event: &Event) {
        match (side, &mut self.port, &mut self.net) {
            (0, Port::Up(link), _) => link.note(event),
            (0, Port::Dialing(dial), _) | (1, _, Net::Dialing(dial)) => dial.note(event),
            (1, _, Net::Up(speaker)) => speaker.note(event),
            _ => {}
        }
    }

    /// The line has connected to the relay. `false`: one is there already.
    pub(crate) fn arrive(&mut self, socket: Socket, world: &World<'_>) -> bool {
        if matches!(self.port, Port::Up(_)) {
            return false;
        }
        let is_registered = Link::register(world.registry, &socket, Token(world.id * 2)).is_ok();
        if is_registered {
            self.port_is_up(Link::new(socket, None));
        }
        is_registered
    }

    /// Whether this is its number.
    pub(crate) fn is_number(&self, number: u64) -> bool {
        self.life.as_deref() == Some(&number)
    }

    /// For whoever watches its QEMU. `number` is one that no other line has had.
    pub(crate) fn watch(&mut self, number: u64) -> Watch {
        let (ask, breaks) = channel();
        self.breaks = Some(Box::new(Breaks::new(ask)));
        Watch { line: Arc::downgrade(self.life.insert(Arc::new(number))), breaks }
    }

    /// It is spoken for in another way: at once, if the concentrator is to hear of it, and otherwise from the
    /// next connection on. A move that is under way is not disturbed.
    pub(crate) fn change(&mut self, spec: Arc<Spec>, now: Instant) {
        let before = std::mem::replace(&mut self.spec, spec);
        self.backlog.set_limit(self.spec.backlog);
        let is_heard = before.config != self.spec.config || before.to.endpoint != self.spec.to.endpoint;
        if is_heard && matches!(self.moves.state, Moving::No) {
            self.net_retry.is_well();
            self.back_off(now);
        }
    }

    /// It is to end: what it has printed is read, goes to the concentrator, and then both ends are closed.
    pub(crate) fn end(&mut self, now: Instant) {
        if matches!(self.moves.state, Moving::Expecting { .. } | Moving::Arriving { .. }) {
            self.call_off("the relay lets go of the line", now);
        }
        self.leaving = Leaving::Now(now + LAST_WORDS);
    }

    /// Closes a line that is to end and has no more to say.
    fn close_port(&mut self, now: Instant) -> bool {
        let Leaving::Now(until) = self.leaving else { return false };
        let is_said = match &self.port {
            Port::Up(_) => now >= until,
            Port::Dialing(_) => true,
            Port::Away(_) => false,
        };
        if is_said {
            self.port = Port::Away(None);
        }
        is_said
    }

    /// Nobody will connect there any more: it is over when it is down and the concentrator has all.
    pub(crate) const fn leave(&mut self) {
        self.leaving = Leaving::WhenDown;
    }

    /// Does what can be done; at most [`ROUNDS`] reads each way.
    pub(crate) fn visit(&mut self, world: &mut World<'_>) -> Next {
        self.dial_port(world);
        self.dial_net(world);
        let mut has_more = false;
        for _ in 0..ROUNDS {
            // First, so that there is room for what is read.
            self.settle(world.now);
            has_more = self.read_port(world) | self.say(world) | self.hear(world);
            if !has_more {
                break;
            }
        }
        // Either may change whether there is to be a connection, which the next visit makes.
        has_more |= self.advance_move(world);
        has_more |= self.close_port(world.now);
        has_more |= self.look_for_ends(world);
        if !matches!(self.leaving, Leaving::No)
            && matches!(self.port, Port::Away(_) | Port::Dialing(_))
            && matches!(self.net, Net::Idle)
        {
            return Next::Over;
        }
        if has_more { Next::Again } else { Next::Wait(self.deadline(world.now)) }
    }

    /// Says in the log what the relay's end leaves undone.
    pub(crate) fn tell(&self) {
        if !self.backlog.is_empty() {
            self.log_warning("the concentrator has not all that it printed");
        }
    }

    fn dial_port(&mut self, world: &mut World<'_>) {
        if let (Port::Away(Some(at)), Some(goal)) = (&self.port, &self.spec.from)
            && *at <= world.now
            && matches!(self.leaving, Leaving::No)
            && !self.is_ending(world.now)
        {
            let dial = Dial::new(Arc::clone(goal), Token(world.id * 2), world.now);
            self.port = Port::Dialing(Box::new(dial));
        }
        let Port::Dialing(dial) = &mut self.port else { return };
        match dial.advance(world) {
            Progress::Waiting(_) => {}
            Progress::Reached(link) => self.port_is_up(link),
            Progress::Failed(why) => {
                self.port_retry.complain(&self.spec, format_args!("{} is not there: {why}", self.spec.place));
                self.port = Port::Away(Some(world.now + self.port_retry.backoff.next()));
            }
        }
    }

    fn is_ending(&self, now: Instant) -> bool {
        matches!(self.net, Net::Up(_)) && self.ending.is_some_and(|until| now < until)
    }

    fn port_is_up(&mut self, link: Link) {
        self.ending = None;
        self.log(format_args!("{} is up", self.spec.place));
        self.port_retry.is_well();
        self.port = Port::Up(link);
    }

    fn dial_net(&mut self, world: &mut World<'_>) {
        let has_to_say = matches!(self.port, Port::Up(_)) || !self.backlog.is_empty();
        let is_wanted = has_to_say && self.moves.may_dial(world.now);
        match &self.net {
            Net::Idle if is_wanted => self.net = Net::Away(world.now),
            Net::Away(_) | Net::Dialing(_) if !is_wanted => self.net = Net::Idle,
            _ => {}
        }
        if let Net::Away(at) = self.net
            && at <= world.now
        {
            let goal = Arc::clone(&self.spec.to);
            self.net = Net::Dialing(Box::new(Dial::new(goal, Token(world.id * 2 + 1), world.now)));
        }
        let Net::Dialing(dial) = &mut self.net else { return };
        match dial.advance(world) {
            Progress::Waiting(_) => {}
            Progress::Reached(link) => {
                let config = self.moves.config(&self.spec.config);
                self.net = Net::Up(Box::new(Speaker::new(link, &config, world.now)));
            }
            Progress::Failed(why) => {
                let to = &self.spec.to.endpoint;
                self.net_retry.complain(&self.spec, format_args!("{to} is not reached: {why}"));
                self.net = Net::Away(world.now + self.net_retry.backoff.next());
            }
        }
    }

    /// Takes in what the line prints. Returns whether there may be more.
    fn read_port(&mut self, world: &mut World<'_>) -> bool {
        let room = if self.is_held_up(world.now) { usize::MAX } else { self.backlog.room() };
        let Port::Up(link) = &mut self.port else { return false };
        if room == 0 || !link.can_receive() {
            return false;
        }
        let mut buffer = world.buffers.take();
        let most = room.min(READ).min(buffer.len());
        let received = link.receive(&mut buffer[..most]);
        let has_more = matches!(received, Received::Bytes(_)) && link.can_receive();
        if let Received::Bytes(n) = received {
            self.backlog.push(&buffer[..n]);
        }
        world.buffers.put(buffer);
        if matches!(received, Received::Bytes(_)) {
            self.move_is_off_if_it_prints(world.now);
        }
        has_more
    }

    /// Whether the line is read on though nobody takes what it prints: a guest must not wait for a
    /// concentrator.
    fn is_held_up(&self, now: Instant) -> bool {
        match &self.net {
            Net::Up(speaker) => now >= speaker.progress + STALL,
            _ => true,
        }
    }

    fn settle(&mut self, now: Instant) {
        if let Net::Up(speaker) = &mut self.net {
            speaker.settle(&mut self.backlog, now);
        }
    }

    fn say(&mut self, world: &World<'_>) -> bool {
        let Net::Up(speaker) = &mut self.net else { return false };
        speaker.say(&mut self.backlog, world.now)
    }

    /// Takes in what the concentrator says, when what was typed before has gone to the line.
    fn hear(&mut self, world: &mut World<'_>) -> bool {
        match &mut self.port {
            Port::Up(link) if self.moves.may_type() => {
                let before = self.breaks.as_ref().map(|breaks| breaks.bytes_before(self.typed.len()));
                let n = self.moves.give(&self.typed[..before.unwrap_or(self.typed.len())], link);
                self.typed.drain(..n);
                if let Some(breaks) = &mut self.breaks {
                    breaks.gave(n);
                    let unread = || link.unread().is_some_and(|unread| unread > 0);
                    if self.moves.is_given_what_is_typed()
                        && let Some(why) = breaks.advance(unread, world.now)
                    {
                        self.drop_break(why);
                    }
                }
            }
            // The VM stands still and reads nothing: its next host gets it.
            Port::Up(_) => {}
            // Nobody is there to read it, and later it would surprise.
            _ => self.forget_typed(),
        }
        let room = if self.moves.may_type() { 0 } else { TYPED_MEANWHILE };
        if self.typed.len() > room {
            return false;
        }
        if self.typed.is_empty() {
            self.typed = Vec::new();
        }
        let Net::Up(speaker) = &mut self.net else { return false };
        let mut buffer = world.buffers.take();
        let mut breaks = Vec::new();
        let has_more = speaker.hear(&mut buffer[..READ], &mut self.typed, &mut breaks);
        world.buffers.put(buffer);
        match &mut self.breaks {
            _ if breaks.is_empty() => {}
            Some(waiting) => waiting.note(breaks),
            None => self.drop_break("a line of bytes has none, and no qmp is there that QEMU is asked by"),
        }
        has_more
    }

    /// Says that a BREAK has reached nobody.
    fn drop_break(&self, why: &str) {
        self.log(format_args!("a BREAK is dropped: {why}"));
    }

    /// What was typed is for nobody.
    fn forget_typed(&mut self) {
        self.typed.clear();
        self.forget_breaks("the VM is not here");
    }

    fn forget_breaks(&mut self, why: &str) {
        if self.breaks.as_mut().is_some_and(|breaks| breaks.forget()) {
            self.drop_break(why);
        }
    }

    /// What has ended, and what follows. Returns whether there is more to do now.
    fn look_for_ends(&mut self, world: &World<'_>) -> bool {
        let now = world.now;
        if let Port::Up(link) = &self.port
            && (link.has_ended() || link.failure().is_some() && !link.can_receive())
        {
            self.log(format_args!("{} has ended: {}", self.spec.place, link.failure_in_words()));
            let retry = self.spec.from.is_some().then(|| now + self.port_retry.backoff.next());
            self.port = Port::Away(retry);
            self.ending = Some(now + STALL);
            self.forget_typed();
            self.typed = Vec::new();
            self.forget_move();
        }
        let Net::Up(speaker) = &mut self.net else { return false };
        let spec = Arc::clone(&self.spec);
        let to = &spec.to.endpoint;
        let (mut refused, mut has_agreed) = (None, false);
        let mut news = Vec::new();
        for told in speaker.told() {
            match told {
                Told::Agreed => {
                    has_agreed = true;
                    self.net_retry.is_well();
                    log::info!("{}: {to} serves it", self.spec.config.name);
                }
                Told::Refused(why) => refused = Some(why.to_owned()),
                of_move => news.push(of_move),
            }
        }
        let was_peer = speaker.was_peer();
        if speaker.agree_by().is_some_and(|by| by <= now) {
            refused = Some("it does not answer as a concentrator".to_owned());
        }
        let link = &speaker.link;
        if refused.is_none() && (link.has_ended() || link.failure().is_some()) {
            refused = Some(format!("it has ended the connection: {}", link.failure_in_words()));
        }
        let is_answered = !news.is_empty();
        news.into_iter().for_each(|told| self.hear_of_move(told, now));
        let is_here = matches!(self.port, Port::Up(_)) && !matches!(self.moves.state, Moving::Left);
        let is_coming = matches!(self.moves.state, Moving::Arriving { .. });
        let is_done = !is_here && !is_coming && self.backlog.is_empty();
        if refused.is_none() && !is_done {
            return has_agreed || is_answered;
        }
        self.back_off(now);
        if let Some(why) = refused {
            self.move_lost_its_connection(was_peer, now);
            self.net_retry.complain(&self.spec, format_args!("{to}: {why}"));
            self.net = Net::Away(now + self.net_retry.backoff.next());
        }
        true
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let port = match &self.port {
            Port::Away(Some(at)) if matches!(self.leaving, Leaving::No) => match self.ending {
                Some(until) if self.is_ending(now) => Some(until.max(*at)),
                _ => Some(*at),
            },
            Port::Dialing(dial) => Some(dial.deadline()),
            _ => None,
        };
        let net = match &self.net {
            Net::Idle => None,
            Net::Away(at) => Some(*at),
            Net::Dialing(dial) => Some(dial.deadline()),
            Net::Up(speaker) => {
                let is_full = self.backlog.room() == 0 || self.ending.is_some();
                let stall = is_full.then(|| speaker.progress + STALL).filter(|at| *at > now);
                let settle = speaker.has_pieces().then(|| now + if is_full { SETTLE_SOON } else { SETTLE });
                [speaker.agree_by(), stall, settle].into_iter().flatten().min()
            }
        };
        let moves = self.moves.deadline(now);
        let breaks = self.breaks.as_ref().and_then(|breaks| breaks.deadline(now));
        let last_words = match (&self.leaving, &self.port) {
            (Leaving::Now(until), Port::Up(_)) => Some(*until),
            _ => None,
        };
        [port, net, moves, breaks, last_words].into_iter().flatten().min()
    }

    fn log(&self, what: impl Display) {
        log::info!("{}: {what}", self.spec.config.name);
    }

    fn log_warning(&self, what: impl Display) {
        log::warn!("{}: {what}", self.spec.config.name);
    }
}

impl Retry {
    const fn new((first, most): (Duration, Duration), tries: u32) -> Self {
        Self { backoff: Backoff::new(first, most), tries, has_complained: false }
    }

    /// It has failed: the log has that once, until it is well again.
    fn complain(&mut self, spec: &Spec, what: impl Display) {
        let is_news = !self.has_complained && self.backoff.tries() >= self.tries;
        let level = if is_news { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{}: {what}; it is tried again", spec.config.name);
        self.has_complained |= is_news;
    }

    const fn is_well(&mut self) {
        self.backoff.reset();
        self.has_complained = false;
    }
}

/// Reads that one visit makes each way.
const ROUNDS: usize = 4;

/// What one read takes of a line, or of what is typed.
const READ: usize = 16 << 10;

/// After which time the concentrator is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The same for the line: of a socket that has just come nobody tells when it is listened at, and a machine
/// that is started again has its own within a second.
const PORT_RETRY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(2));

/// As often as a line may be missed before that is worth a warning: a third of a second.
const PORT_TRIES: u32 = 6;

/// What is kept of what is typed for a VM that is about to leave its host. More stays with the concentrator,
/// whose answer is behind it: then the move is off.
const TYPED_MEANWHILE: usize = 64 << 10;

/// A concentrator that takes nothing for so long holds no guest up.
const STALL: Duration = Duration::from_secs(2);

/// How soon is looked what has arrived, where there is room, and where there is none.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_SOON: Duration = Duration::from_millis(2);
