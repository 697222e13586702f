//! Moves of VMs between hosts: what [`vmotion`](super::vmotion) orders is carried out here.
//!
//! A move belongs to a leg, not to a VM: a VM with several ports moves them all at once, with one UUID
//! and several sequences. The target of a move is known by sequence and secret alone.

use rand_chacha::rand_core::Rng;

use crate::time::Instant;
use crate::vmware::{Code, Message};

use super::Concentrator;
use super::conn::{Conn, Place};
use super::event::{CloseReason, VmotionStep, What};
use super::id::{ConnId, ConsoleId};
use super::timers::Timer;
use super::vm::word;
use super::vmotion::{self, GIVE_UP, Input, Move, MoveId, Order, QUIET, SECRET, SOURCE_LINGER, State};

/// An adoption ends after this long at the latest, even if the source does not stop printing.
const ADOPTION_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest sequence that is taken; four bytes were seen.
const SEQUENCE_LIMIT: usize = 512;

/// Moves of one console whose source has ended and whose target has not taken over: more than a VM has
/// serial ports.
const ORPHAN_LIMIT: usize = 32;

impl Concentrator {
    /// VMOTION-BEGIN.
    pub(super) fn begin_move(&mut self, id: ConnId, sequence: &[u8], now: Instant) {
        let Some(vm) = self.conns.get(id).and_then(Conn::vm) else { return };
        let refusal = match vm.place {
            Place::Console(_) if sequence.len() > SEQUENCE_LIMIT => "its sequence is too long",
            Place::Console(_) if self.shutting_down => "the server is shutting down",
            Place::Console(console) => match vm.moving {
                Some(moved) if self.is_left_behind(moved, id) => "the vm has moved away from this connection",
                Some(moved) => return self.step(moved, Input::Begin, Some((id, sequence)), now),
                None => return self.start_move(console, id, sequence, now),
            },
            Place::New => "the vm is not identified yet",
            Place::Stray | Place::Target | Place::Left(_) | Place::Gone => {
                "this connection does not feed the vm's console"
            }
        };
        self.reply(id, |out| Message::VmotionNotnow { sequence }.put(out));
        self.count_for(id).vmotions_refused += 1;
        self.tell(id, What::Vmotion(VmotionStep::Refused(refusal)));
    }

    /// Whether the target has taken over and this is the source, whose last bytes are being taken in.
    fn is_left_behind(&self, moving: MoveId, id: ConnId) -> bool {
        let moved = self.moves.get(moving);
        moved.is_some_and(|moved| moved.state == State::Adopting && moved.source == Some(id))
    }

    /// VMOTION-PEER.
    pub(super) fn accept_peer(&mut self, id: ConnId, sequence_and_secret: &[u8], now: Instant) {
        let moved = sequence_and_secret.split_last_chunk::<SECRET>().and_then(|(sequence, secret)| {
            let &id = self.by_secret.get(secret)?;
            self.moves.get(id).filter(|moved| *moved.sequence == *sequence).map(|_| id)
        });
        let is_source = moved.and_then(|id| self.moves.get(id)).is_some_and(|moved| moved.source == Some(id));
        let began = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        let may_be_target = match began.and_then(|began| self.moves.get(began)) {
            Some(own) => own.target == Some(id),
            None => !matches!(self.place(id), Some(Place::Left(_))),
        };
        match moved {
            Some(moved) if may_be_target && !is_source => self.step(moved, Input::Peer, Some((id, &[])), now),
            _ => self.reject_peer(id),
        }
    }

    /// A PEER that fits no move. Whoever sent one joins a console by COMPLETE or not at all: its UUID, which
    /// anyone can know, does not make up for its secret.
    fn reject_peer(&mut self, id: ConnId) {
        if self.place(id) == Some(Place::New) {
            self.set_place(id, Place::Stray);
        }
        self.count_for(id).vmotion_bad_peers += 1;
        self.tell(id, What::Vmotion(VmotionStep::BadPeer));
    }

    /// VMOTION-COMPLETE.
    pub(super) fn complete_move(&mut self, id: ConnId, sequence: &[u8], now: Instant) {
        let moving = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        let fits = |moved: &&Move| moved.target == Some(id) && *moved.sequence == *sequence;
        match moving.filter(|&moved| self.moves.get(moved).as_ref().is_some_and(fits)) {
            Some(moved) => self.step(moved, Input::Complete, None, now),
            None => self.out_of_place(id, Code::VMOTION_COMPLETE),
        }
    }

    /// VMOTION-ABORT. The sequence some hosts send with it does not matter: a connection has one move.
    pub(super) fn abort_move(&mut self, id: ConnId, now: Instant) {
        let moving = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        match moving.filter(|&moved| self.moves.get(moved).is_some_and(|moved| moved.source == Some(id))) {
            Some(moved) => self.step(moved, Input::Abort, None, now),
            None => self.out_of_place(id, Code::VMOTION_ABORT),
        }
    }

    /// A connection that moves, or moved here, prints something to its console.
    pub(super) fn source_prints(&mut self, id: ConnId, now: Instant) {
        let Some(moving) = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving) else { return };
        let Some(moved) = self.moves.get(moving) else { return };
        if moved.source != Some(id) {
            return;
        }
        if moved.state == State::Adopting {
            self.timers.set(Timer::Quiet(moving), now + QUIET);
        }
        let late = now >= moved.begun + GIVE_UP;
        self.step(moving, if late { Input::LateBytes } else { Input::Bytes }, None, now);
    }

    /// The source's socket has taken bytes: GOAHEAD may be among them.
    pub(super) fn note_taken(&mut self, id: ConnId, now: Instant) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(moving) = conn.vm().and_then(|vm| vm.moving) else { return };
        if self.moves.get(moving).is_some_and(|moved| {
            moved.state == State::Begun && moved.source == Some(id) && conn.control.taken() >= moved.goahead.1
        }) {
            self.step(moving, Input::Goahead, None, now);
        }
    }

    /// A connection with part in a move has ended.
    pub(super) fn end_of_mover(&mut self, moving: MoveId, id: ConnId, now: Instant) {
        let Some(moved) = self.moves.get(moving) else { return };
        if moved.source == Some(id) {
            self.step(moving, Input::SourceEnd, None, now);
        } else if moved.target == Some(id) {
            self.step(moving, Input::TargetEnd, None, now);
        }
    }

    /// GOAHEAD has waited for its socket for long enough.
    pub(super) fn goahead_timer(&mut self, moving: MoveId, now: Instant) {
        // What the socket has begun to take cannot be taken back.
        if !self.goahead_is_whole(moving) {
            self.timers.set(Timer::Move(moving), now + vmotion::MOVE_LIMIT);
            return;
        }
        self.step(moving, Input::GoaheadTimer, None, now);
    }

    pub(super) fn move_timer(&mut self, moving: MoveId, now: Instant) {
        self.step(moving, Input::MoveTimer, None, now);
    }

    pub(super) fn quiet_timer(&mut self, moving: MoveId, now: Instant) {
        self.step(moving, Input::QuietTimer, None, now);
    }

    /// Asks the table and obeys. `from`: the connection a BEGIN or PEER came on, and the sequence.
    fn step(&mut self, moving: MoveId, input: Input, from: Option<(ConnId, &[u8])>, now: Instant) {
        let Some(moved) = self.moves.get_mut(moving) else { return };
        let (next, order) = vmotion::step(moved.state, input);
        moved.state = next;
        let (console, source, target, begun) = (moved.console, moved.source, moved.target, moved.begun);
        match order {
            Order::Nothing => {}
            Order::OutOfPlace => match input {
                Input::Begin => {
                    if let Some((id, sequence)) = from {
                        self.reply(id, |out| Message::VmotionNotnow { sequence }.put(out));
                        self.count_for(id).vmotions_refused += 1;
                        self.tell(id, What::Vmotion(VmotionStep::Refused("no move can begin here")));
                    }
                }
                Input::Peer => {
                    if let Some((id, _)) = from {
                        self.reject_peer(id);
                    }
                }
                Input::Abort => self.out_of_place_on(source, Code::VMOTION_ABORT),
                _ => self.out_of_place_on(target, Code::VMOTION_COMPLETE),
            },
            Order::Restart | Order::HandOverAndRestart => {
                if order == Order::Restart {
                    self.count_in(console).vmotions_aborted += 1;
                    self.retract_goahead(moving);
                } else {
                    self.hand_over(moving, now);
                }
                self.end_move(moving, now);
                if let Some((id, sequence)) = from {
                    self.start_move(console, id, sequence, now);
                }
            }
            Order::NoteGoahead => {
                let after = now.duration_since(begun);
                self.timers.cancel(Timer::Goahead(moving));
                self.timers.set(Timer::Move(moving), now + vmotion::MOVE_LIMIT);
                self.count_in(console).goahead(after);
                self.tell_move(source, console, VmotionStep::Goahead(after));
            }
            Order::AcceptPeer => {
                if let Some((id, _)) = from {
                    self.take_target(moving, id, now);
                }
            }
            Order::LoseTarget => {
                if let Some(moved) = self.moves.get_mut(moving) {
                    moved.target = None;
                }
            }
            Order::TakeOver | Order::TakeOverAlone => {
                self.take_over(moving, now);
                if order == Order::TakeOverAlone {
                    self.hand_over(moving, now);
                    self.end_move(moving, now);
                }
            }
            Order::HandOver => {
                self.hand_over(moving, now);
                self.end_move(moving, now);
            }
            Order::HandOverAndLose => {
                self.hand_over(moving, now);
                self.end_move(moving, now);
                if let Some(target) = target {
                    self.drop_leg_of(console, target, now);
                }
            }
            Order::Orphan => {
                if let Some(moved) = self.moves.get_mut(moving) {
                    moved.source = None;
                }
                if let Some(leg) = self.leg_mut(console, moving) {
                    leg.conn = None;
                }
                self.timers.set(Timer::Move(moving), now + vmotion::MOVE_LIMIT);
                self.lose_oldest_orphan(console, now);
            }
            Order::Resume | Order::ResumeLate => {
                self.retract_goahead(moving);
                self.end_move(moving, now);
                let counters = self.count_in(console);
                if order == Order::Resume {
                    counters.vmotions_aborted += 1;
                } else {
                    counters.vmotions_timed_out += 1;
                }
                let why = match (order, input) {
                    (Order::Resume, _) => "the source host says so",
                    (_, Input::LateBytes) => "the source runs on",
                    _ => "nothing happened for too long",
                };
                self.tell_move(source, console, VmotionStep::Aborted(why));
                self.wake_input(console);
            }
            Order::Refuse => {
                self.refuse_begun(moving, source, console, now);
            }
            Order::Lose | Order::LoseLate => {
                let late = order == Order::LoseLate;
                let counters = self.count_in(console);
                if late {
                    counters.vmotions_timed_out += 1;
                } else {
                    counters.vmotions_aborted += 1;
                }
                let why = if late {
                    "no target came, the vm is gone"
                } else {
                    "the source ended before its goahead"
                };
                self.tell_move(source, console, VmotionStep::Aborted(why));
                let index = self
                    .consoles
                    .get(console)
                    .and_then(|c| c.legs.iter().position(|leg| leg.moving == Some(moving)));
                self.end_move(moving, now);
                if let Some(index) = index {
                    self.remove_leg(console, index, now);
                }
            }
        }
    }

    /// Sources that end cost their peers nothing: of too many that are waited for, the oldest is given up.
    fn lose_oldest_orphan(&mut self, console: ConsoleId, now: Instant) {
        let Some(console) = self.consoles.get(console) else { return };
        let mut orphans = console.legs.iter().filter(|leg| leg.conn.is_none()).filter_map(|leg| leg.moving);
        let oldest = orphans.next();
        if orphans.count() >= ORPHAN_LIMIT
            && let Some(oldest) = oldest
        {
            self.step(oldest, Input::MoveTimer, None, now);
        }
    }

    /// Holds the input and queues GOAHEAD.
    fn start_move(&mut self, console: ConsoleId, id: ConnId, sequence: &[u8], now: Instant) {
        let mut secret = [0; SECRET];
        self.rng.fill_bytes(&mut secret);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let from = conn.control.end();
        let sequence_and_secret = [sequence, &secret].concat();
        Message::VmotionGoahead { sequence_and_secret: &sequence_and_secret }.put(conn.control.buffer());
        let goahead = (from, conn.control.end());
        let moving = self.moves.insert(Move {
            state: State::Begun,
            console,
            sequence: sequence.into(),
            secret,
            source: Some(id),
            target: None,
            begun: now,
            goahead,
        });
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.moving = Some(moving);
        }
        self.by_secret.insert(secret, moving);
        if let Some(begun) = self.consoles.get_mut(console) {
            begun.count().vmotions_begun += 1;
            if let Some(leg) = begun.legs.iter_mut().find(|leg| leg.conn == Some(id)) {
                leg.moving = Some(moving);
            }
        }
        self.timers.set(Timer::Goahead(moving), now + vmotion::GOAHEAD_LIMIT);
        self.wake(id);
        self.tell(id, What::Vmotion(VmotionStep::Begun));
    }

    /// This connection is the move's target from now on.
    fn take_target(&mut self, moving: MoveId, id: ConnId, now: Instant) {
        let Some(moved) = self.moves.get_mut(moving) else { return };
        let (sequence, console) = (moved.sequence.clone(), moved.console);
        let before = moved.target.replace(id).filter(|&before| before != id);
        self.timers.set(Timer::Move(moving), now + vmotion::MOVE_LIMIT);
        if let Some(before) = before {
            self.make_stray(before, now);
        }
        // It may have been the target of another move, or have said its UUID before its secret.
        let vm = self.conns.get(id).and_then(Conn::vm);
        let (place, other) =
            (vm.map(|vm| vm.place), vm.and_then(|vm| vm.moving).filter(|&other| other != moving));
        if let Some(other) = other {
            self.step(other, Input::TargetEnd, None, now);
        }
        if let Some(Place::Console(joined)) = place {
            self.drop_leg_of(joined, id, now);
        }
        self.set_place(id, Place::Target);
        self.timers.cancel(Timer::Identify(id));
        self.timers.cancel(Timer::Ask(id));
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.moving = Some(moving);
        }
        self.reply(id, |out| Message::VmotionPeerOk { sequence: &sequence }.put(out));
        self.tell_move(Some(id), console, VmotionStep::Peer);
    }

    /// The target feeds the console, and gets what was held for it.
    fn take_over(&mut self, moving: MoveId, now: Instant) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, begun) = (moved.console, moved.begun);
        let Some(target) = moved.target else { return };
        self.by_secret.remove(&moved.secret);
        self.timers.set(Timer::Quiet(moving), now + QUIET);
        self.timers.set(Timer::Move(moving), now + ADOPTION_LIMIT);
        self.set_place(target, Place::Console(console));
        let name = self.conns.get_mut(target).and_then(Conn::vm_mut).and_then(|vm| {
            vm.told = true;
            // Its output waits here until the source's last bytes are in.
            vm.early.get_or_insert_default().name.take()
        });
        if let Some(leg) = self.leg_mut(console, moving) {
            leg.conn = Some(target);
        }
        self.count_in(console).vmotions_completed += 1;
        if let Some(name) = name {
            self.name_console(console, target, &name);
        }
        self.tell_move(Some(target), console, VmotionStep::Completed(now.duration_since(begun)));
        self.wake_input(console);
    }

    /// The source is done with; what the target has printed follows.
    fn hand_over(&mut self, moving: MoveId, now: Instant) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source, target) = (moved.console, moved.source, moved.target);
        if let Some(source) = source {
            self.set_place(source, Place::Left(console));
            self.timers.set(Timer::Linger(source), now + SOURCE_LINGER);
        }
        if let Some(early) =
            target.and_then(|id| self.conns.get_mut(id)).and_then(Conn::vm_mut).and_then(|vm| vm.early.take())
        {
            self.adopt_early(console, *early, now);
        }
    }

    /// GOAHEAD has not left in time: the host is told not now, before it gives up by itself.
    fn refuse_begun(&mut self, moving: MoveId, source: Option<ConnId>, console: ConsoleId, now: Instant) {
        let sequence = self.moves.get(moving).map(|moved| moved.sequence.clone()).unwrap_or_default();
        self.retract_goahead(moving);
        self.end_move(moving, now);
        if let Some(source) = source {
            self.say(source, |out| Message::VmotionNotnow { sequence: &sequence }.put(out));
        }
        self.count_in(console).vmotions_refused += 1;
        self.tell_move(source, console, VmotionStep::Refused("the host does not take its goahead"));
        self.wake_input(console);
    }

    /// Forgets a move; its target, if it has one that has not taken over, has no more say.
    fn end_move(&mut self, moving: MoveId, now: Instant) {
        let Some(moved) = self.moves.remove(moving) else { return };
        self.by_secret.remove(&moved.secret);
        for timer in [Timer::Goahead(moving), Timer::Move(moving), Timer::Quiet(moving)] {
            self.timers.cancel(timer);
        }
        if let Some(leg) = self.leg_mut(moved.console, moving) {
            leg.moving = None;
        }
        for id in [moved.source, moved.target].into_iter().flatten() {
            if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut)
                && vm.moving == Some(moving)
            {
                vm.moving = None;
            }
        }
        if let Some(target) = moved.target
            && self.place(target) == Some(Place::Target)
        {
            self.make_stray(target, now);
        }
    }

    /// A target without a move: it joins nothing, and has as long to go as a stranger.
    fn make_stray(&mut self, id: ConnId, now: Instant) {
        self.set_place(id, Place::Stray);
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.moving = None;
        }
        self.timers.set(Timer::Identify(id), now + self.config.identify_timeout);
    }

    /// Takes back a GOAHEAD of which the socket has taken nothing.
    fn retract_goahead(&mut self, moving: MoveId) {
        if !self.goahead_is_whole(moving) {
            return;
        }
        let Some(moved) = self.moves.get_mut(moving) else { return };
        let (from, to) = std::mem::take(&mut moved.goahead);
        if let Some(conn) = moved.source.and_then(|id| self.conns.get_mut(id)) {
            conn.control.retract(from, to);
        }
    }

    fn goahead_is_whole(&self, moving: MoveId) -> bool {
        self.moves.get(moving).is_some_and(|moved| {
            let source = moved.source.and_then(|id| self.conns.get(id));
            moved.goahead.1 > 0 && source.is_some_and(|source| source.control.taken() <= moved.goahead.0)
        })
    }

    fn place(&self, id: ConnId) -> Option<Place> {
        self.conns.get(id).and_then(Conn::vm).map(|vm| vm.place)
    }

    fn leg_mut(&mut self, console: ConsoleId, moving: MoveId) -> Option<&mut super::console::Leg> {
        self.consoles.get_mut(console)?.legs.iter_mut().find(|leg| leg.moving == Some(moving))
    }

    fn drop_leg_of(&mut self, console: ConsoleId, id: ConnId, now: Instant) {
        let legs = self.consoles.get(console).map_or(&[][..], |console| &console.legs);
        if let Some(index) = legs.iter().position(|leg| leg.conn == Some(id)) {
            self.remove_leg(console, index, now);
        }
    }

    fn out_of_place_on(&mut self, id: Option<ConnId>, code: Code) {
        if let Some(id) = id {
            self.out_of_place(id, code);
        }
    }

    fn out_of_place(&mut self, id: ConnId, code: Code) {
        self.count_for(id).malformed += 1;
        self.tell(id, What::Vmotion(VmotionStep::OutOfPlace(word(code))));
    }

    fn tell_move(&mut self, id: Option<ConnId>, console: ConsoleId, step: VmotionStep) {
        self.tell_both(id, Some(console), What::Vmotion(step));
    }

    /// A source that has had its time after COMPLETE is closed.
    pub(super) fn end_linger(&mut self, id: ConnId, now: Instant) {
        if matches!(self.place(id), Some(Place::Left(_))) {
            self.close(id, CloseReason::MovedAway, now);
        }
    }
}
