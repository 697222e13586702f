//! A line whose VM moves from one host to another (vmotion.md), at the source and at the target.
//!
//! ```text
//! source  No ─ begin ─▶ Draining ─ all is said ─▶ Begun ─ GOAHEAD ─▶ Given ─ it has left ─▶ Left
//!          ▲               │ 2 s                   │ NOTNOW, 5 s      │ abort, prints on,     │ it runs here,
//!          └───────────────┴───────────────────────┴──────────────────┴─ 60 s ────────────────┘ line ends
//!
//! target  No ─ expect ─▶ Expecting ─ a secret ─▶ Arriving ── PEER-OK, and the VM runs: COMPLETE ──▶ No
//!          ▲                │ runs, no secret      │ the secret is not taken: Expecting, or No if it runs
//!          └────────────────┴──────────────────────┘
//! ```
//!
//! | state | the concentrator is | what is typed |
//! |---|---|---|
//! | No | connected to | goes to the line |
//! | Draining, Begun, Given | kept | is kept for the target, and goes to the line if the move is off |
//! | Left, Expecting | let go of | |
//! | Arriving | connected to as a target | what the source kept goes first |

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use vspc_core::time::Instant;
use vspc_core::vmware::{Resume, VmConfig};

use super::{Line, Net, Port};
use crate::link::Link;
use crate::orders::{Answer, Order, Reply, What};
use crate::secret::Secret;
use crate::speaker::Told;
use crate::visit::World;

/// How far a move is.
#[derive(Debug)]
pub(crate) enum Moving {
    No,
    Draining(Instant),
    /// Since then.
    Begun(Instant),
    /// The concentrator holds what is typed, and waits for the target. This is what the line has not taken.
    Given {
        begun: Instant,
        typed: Vec<u8>,
    },
    Left,
    /// It is spoken for at the latest then; whether it runs.
    Expecting {
        until: Instant,
        runs: bool,
    },
    Arriving {
        secret: Box<Secret>,
        until: Instant,
        is_taken: bool,
        runs: bool,
    },
}

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    /// What comes of the step that was asked for.
    Step,
    /// The secret of the next move.
    Secret,
}

/// What a move needs besides its state.
#[derive(Debug)]
pub(super) struct Moves {
    pub(super) state: Moving,
    /// Who waits, and for what.
    waiting: Vec<(Awaited, Reply)>,
    /// Until then nobody speaks for it, unless it is known sooner that it runs here.
    held_until: Option<Instant>,
    /// The line is given nothing, because its VM has stopped.
    is_still: bool,
    /// Somebody will say when the VM stops. What it was given last: byte by byte, so that it is known then
    /// which of these it has not read.
    recent: Option<VecDeque<u8>>,
}

impl Moves {
    /// `is_watched`: somebody will say whether the VM runs here.
    pub(super) fn new(is_watched: bool, now: Instant) -> Self {
        Self {
            state: Moving::No,
            waiting: Vec::new(),
            held_until: is_watched.then(|| now + UNKNOWN),
            is_still: false,
            recent: is_watched.then(VecDeque::new),
        }
    }

    /// Whether a connection to the concentrator is to be made.
    pub(super) fn may_dial(&self, now: Instant) -> bool {
        let is_held = self.held_until.is_some_and(|until| now < until);
        match self.state {
            Moving::No => !is_held,
            Moving::Arriving { .. } => true,
            _ => false,
        }
    }

    /// Whether the line may be given what is typed.
    pub(super) const fn may_type(&self) -> bool {
        matches!(self.state, Moving::No)
    }

    /// Whether what is typed is given to it now.
    pub(super) const fn is_given_what_is_typed(&self) -> bool {
        !self.is_still
    }

    /// Gives the line what is typed, as far as it takes it; returns how much that was.
    pub(super) fn give(&mut self, typed: &[u8], link: &mut Link) -> usize {
        let Some(recent) = &mut self.recent else { return link.send(typed) };
        if self.is_still {
            return 0;
        }
        let taken = typed.iter().take_while(|byte| link.send(&[**byte]) == 1).count();
        recent.extend(&typed[..taken]);
        recent.drain(..recent.len().saturating_sub(RECENT));
        taken
    }

    /// What the line was given and its VM has not read. `None`: nobody can tell.
    fn unread(&self, link: &Link) -> Option<Vec<u8>> {
        let unread = link.unread()?;
        let recent = self.recent.as_ref()?;
        let first = recent.len().checked_sub(unread)?;
        Some(recent.range(first..).copied().collect())
    }

    /// As whom the concentrator is connected to.
    pub(super) fn config(&self, config: &Arc<VmConfig>) -> Arc<VmConfig> {
        match &self.state {
            Moving::Arriving { secret, .. } => {
                Arc::new(VmConfig { resume: Some(secret.resume.clone()), ..VmConfig::clone(config) })
            }
            _ => Arc::clone(config),
        }
    }

    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let state = match self.state {
            Moving::No | Moving::Left => None,
            Moving::Draining(until) => Some(until),
            Moving::Begun(at) => Some(at + ANSWER),
            Moving::Given { begun, .. } => Some(begun + TARGET),
            Moving::Expecting { until, .. } | Moving::Arriving { until, .. } => Some(until),
        };
        let held = self.held_until.filter(|until| now < *until);
        [state, held].into_iter().flatten().min()
    }

    fn tell(&mut self, awaited: Awaited, answer: &Answer) {
        for (_, reply) in self.waiting.extract_if(.., |(what, _)| *what == awaited) {
            let _ = reply.try_send(answer.clone());
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

impl Line {
    /// Whether this is its VM's name.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.spec.config.name == name
    }

    /// Takes an order. Its answer may come later; an order that the state of things makes pointless is none.
    pub(crate) fn handle_order(&mut self, order: Order, now: Instant) {
        let Order { what, reply, .. } = order;
        let answer = match what {
            What::Begin => match self.begin(now) {
                Ok(()) => return self.moves.waiting.push((Awaited::Step, reply)),
                Err(why) => Err(why),
            },
            What::Watch => {
                if self.moves.waiting.len() < WAITING {
                    return self.moves.waiting.push((Awaited::Secret, reply));
                }
                Err("too many wait for it".to_owned())
            }
            What::Expect(None) => {
                self.moves.held_until = None;
                // It is there now, if it has not been: what it prints while nobody is connected is lost.
                if let Port::Away(Some(at)) = &mut self.port {
                    *at = now;
                }
                if !matches!(self.moves.state, Moving::Arriving { .. } | Moving::Expecting { .. }) {
                    self.back_off(now);
                    self.become_still(Moving::Expecting { until: now + EXPECTED, runs: false });
                }
                done()
            }
            What::Expect(Some(secret)) => {
                let runs = matches!(self.moves.state, Moving::Expecting { runs: true, .. });
                self.back_off(now);
                let until = now + TARGET;
                self.become_still(Moving::Arriving {
                    secret: Box::new(secret),
                    until,
                    is_taken: false,
                    runs,
                });
                return self.moves.waiting.push((Awaited::Step, reply));
            }
            What::Complete => match &mut self.moves.state {
                Moving::Arriving { runs, .. } => {
                    *runs = true;
                    return self.moves.waiting.push((Awaited::Step, reply));
                }
                Moving::Expecting { .. } => {
                    self.runs(now);
                    return self.moves.waiting.push((Awaited::Step, reply));
                }
                _ => Err("no VM was expected here".to_owned()),
            },
            What::Abort => {
                self.moves.is_still = false;
                self.call_off("it is called off", now);
                done()
            }
            What::Runs => {
                self.moves.held_until = None;
                self.moves.is_still = false;
                self.runs(now);
                done()
            }
            What::Left => {
                self.moves.is_still = false;
                if !matches!(self.moves.state, Moving::Left) {
                    self.log("the VM has left this host");
                }
                self.become_still(Moving::Left);
                self.forget_typed();
                self.typed = Vec::new();
                done()
            }
            What::Still => {
                self.moves.is_still = true;
                done()
            }
            What::Broke(refused) => {
                if let Some(breaks) = &mut self.breaks {
                    breaks.is_over();
                }
                if let Some(why) = refused {
                    self.drop_break(&why);
                }
                done()
            }
            What::Unknown => {
                if matches!(self.moves.state, Moving::No) {
                    self.moves.held_until = Some(now + UNKNOWN);
                }
                done()
            }
        };
        let _ = reply.try_send(answer);
    }

    /// The VM runs here.
    fn runs(&mut self, now: Instant) {
        match &mut self.moves.state {
            Moving::No => {}
            Moving::Expecting { until, runs } => {
                // The secret may be on its way still.
                if !std::mem::replace(runs, true) {
                    *until = now + LATE;
                }
            }
            Moving::Arriving { runs, .. } => *runs = true,
            _ => self.call_off("the VM runs here", now),
        }
    }

    fn begin(&mut self, now: Instant) -> Result<(), String> {
        if !matches!(self.moves.state, Moving::No) {
            return Err("a move of this VM is under way".to_owned());
        }
        let Port::Up(link) = &mut self.port else { return Err("the line is not up".to_owned()) };
        if !matches!(&self.net, Net::Up(speaker) if speaker.has_agreed()) {
            return Err("the concentrator does not serve it now".to_owned());
        }
        // What it has printed is read to the end first.
        link.look_again();
        self.become_still(Moving::Draining(now + DRAIN));
        Ok(())
    }

    /// Another state, in which nobody waits for what came of the one before.
    fn become_still(&mut self, state: Moving) {
        self.moves.tell(Awaited::Step, &Err("something else has come first".to_owned()));
        self.moves.state = state;
    }

    /// Ends the connection to the concentrator; what is not there for certain is kept.
    pub(super) fn back_off(&mut self, now: Instant) {
        if let Net::Up(speaker) = std::mem::replace(&mut self.net, Net::Idle) {
            speaker.give_back(&mut self.backlog, now);
        }
    }

    /// The move is off: the VM stays, or is spoken for as one that has come by itself.
    pub(super) fn call_off(&mut self, why: &str, now: Instant) {
        match std::mem::replace(&mut self.moves.state, Moving::No) {
            Moving::No => return,
            Moving::Draining(_) => {}
            Moving::Begun(_) => self.abort(),
            Moving::Given { typed, .. } => {
                self.typed.splice(..0, typed);
                self.abort();
            }
            Moving::Left | Moving::Expecting { .. } => {}
            Moving::Arriving { secret, runs, .. } => {
                self.back_off(now);
                if runs {
                    self.typed.splice(..0, secret.typed);
                }
            }
        }
        self.log_warning(format_args!("the move is off: {why}"));
        self.moves.tell(Awaited::Step, &Err(why.to_owned()));
    }

    fn abort(&mut self) {
        if let Net::Up(speaker) = &mut self.net {
            speaker.abort();
        }
    }

    /// The line has ended, and with it what is known of its VM.
    pub(super) fn forget_move(&mut self) {
        match self.moves.state {
            // It was expected before it was there.
            Moving::No => {}
            _ => {
                self.moves.state = Moving::No;
                self.moves.tell(Awaited::Step, &Err("the line has ended".to_owned()));
            }
        }
        if let Some(recent) = &mut self.moves.recent {
            recent.clear();
        }
        self.moves.is_still = false;
    }

    /// The line prints: a source that does so long after BEGIN runs, and the concentrator knows that, too
    /// (vmotion.md §4).
    pub(super) fn move_is_off_if_it_prints(&mut self, now: Instant) {
        if let Moving::Begun(begun) | Moving::Given { begun, .. } = self.moves.state
            && now > begun + STANDS_STILL
        {
            self.call_off("the VM prints on", now);
        }
    }

    /// What the concentrator has said of a move.
    pub(super) fn hear_of_move(&mut self, told: Told, now: Instant) {
        match told {
            Told::Goahead(resume) => self.goahead(resume),
            Told::Notnow => self.call_off("the concentrator does not hold what is typed now", now),
            Told::PeerOk => self.peer_is_ok(),
            Told::Agreed | Told::Refused(_) => {}
        }
    }

    fn goahead(&mut self, resume: Resume) {
        let Moving::Begun(begun) = self.moves.state else { return };
        let typed = std::mem::take(&mut self.typed);
        self.forget_breaks("the VM leaves this host");
        let unread = match &self.port {
            Port::Up(link) => self.moves.unread(link),
            _ => None,
        };
        if unread.is_none() && self.moves.recent.is_some() {
            self.log_warning("nobody can tell whether the VM has read all that was typed");
        }
        let for_target = [unread.unwrap_or_default(), typed.clone()].concat();
        let secret = Secret { resume, typed: for_target };
        self.log("the concentrator holds what is typed for the VM's next host");
        let answer = Ok(secret.to_string());
        self.moves.state = Moving::Given { begun, typed };
        self.moves.tell(Awaited::Step, &answer);
        self.moves.tell(Awaited::Secret, &answer);
    }

    fn peer_is_ok(&mut self) {
        if let Moving::Arriving { is_taken, runs, .. } = &mut self.moves.state {
            *is_taken = true;
            if !*runs {
                self.moves.tell(Awaited::Step, &done());
            }
        }
    }

    /// The connection to the concentrator is over, not by our doing.
    pub(super) fn move_lost_its_connection(&mut self, was_peer: bool, now: Instant) {
        match &mut self.moves.state {
            Moving::Draining(_) | Moving::Begun(_) => self.call_off("the concentrator has gone", now),
            // A secret that is not answered is not known there; one whose connection breaks may be.
            Moving::Arriving { runs, is_taken, .. } if was_peer && !*is_taken => {
                if *runs {
                    return self.call_off("the concentrator does not know its secret", now);
                }
                self.log_warning("the concentrator does not know the secret of its move");
                self.become_still(Moving::Expecting { until: now + EXPECTED, runs: false });
            }
            Moving::Arriving { is_taken, .. } => *is_taken = false,
            _ => {}
        }
    }

    /// Goes on with a move as far as it can. Returns whether there is more to do now.
    pub(super) fn advance_move(&mut self, world: &World<'_>) -> bool {
        let now = world.now;
        match &self.moves.state {
            Moving::No | Moving::Left => false,
            Moving::Draining(until) => {
                let is_dry = matches!(&self.port, Port::Up(link) if !link.can_receive());
                let is_said = self.backlog.next(1).is_empty() && self.backlog.missing() == 0;
                let until = *until;
                if is_dry
                    && is_said
                    && let Net::Up(speaker) = &mut self.net
                {
                    speaker.begin(&(RandomState::new().hash_one(0) as u32).to_be_bytes());
                    self.moves.state = Moving::Begun(now);
                    return true;
                }
                if until <= now {
                    self.call_off("the concentrator does not take what the VM has printed", now);
                }
                false
            }
            Moving::Begun(begun) => {
                if *begun + ANSWER <= now {
                    self.call_off("the concentrator does not answer", now);
                }
                false
            }
            Moving::Given { begun, .. } => {
                if *begun + TARGET <= now {
                    self.call_off("nothing has come of it for a minute", now);
                }
                false
            }
            Moving::Expecting { until, runs } => {
                if *until <= now {
                    let why = if *runs { "no secret has come" } else { "no VM has come for an hour" };
                    self.call_off(why, now);
                    return true;
                }
                false
            }
            Moving::Arriving { until, is_taken, runs, .. } => {
                if *is_taken && *runs && matches!(self.port, Port::Up(_)) {
                    self.complete(now);
                    return true;
                }
                if *until <= now {
                    self.call_off("the concentrator is not reached, or the VM does not run", now);
                    return true;
                }
                false
            }
        }
    }

    fn complete(&mut self, now: Instant) {
        let Net::Up(speaker) = &mut self.net else { return };
        speaker.complete(now);
        if let Moving::Arriving { secret, .. } = std::mem::replace(&mut self.moves.state, Moving::No) {
            self.forget_typed();
            self.typed = secret.typed;
        }
        self.net_retry.is_well();
        self.log("the VM has come from another host, with its clients");
        self.moves.tell(Awaited::Step, &done());
    }
}

fn done() -> Answer {
    Ok(String::new())
}

/// How long the concentrator is given to take what the VM has printed.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a host waits for GOAHEAD (vmotion.md §4).
const ANSWER: Duration = Duration::from_secs(5);

/// For how long a source may print after BEGIN (vmotion.md §4).
const STANDS_STILL: Duration = Duration::from_secs(5);

/// For how long the concentrator waits for a target, and for its COMPLETE (vmotion.md §4).
const TARGET: Duration = Duration::from_secs(60);

/// For how long a VM is expected that nobody asks after: migrations of large VMs take that.
const EXPECTED: Duration = Duration::from_secs(3600);

/// How long a VM that runs is not spoken for because its secret may be late.
const LATE: Duration = Duration::from_secs(3);

/// How long a line is not spoken for because QEMU has not said yet whether its VM runs.
const UNKNOWN: Duration = Duration::from_secs(2);

/// What is remembered of what a line was given last: more bytes than a unix socket takes one by one, each of
/// which costs it 768 bytes or so of its 208 KiB.
const RECENT: usize = 1024;

/// Who may wait for one line's answers.
const WAITING: usize = 16;
