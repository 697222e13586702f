//! Moves of VMs between hosts: what [`vmotion`](super::vmotion) says is to be done is done here.
//!
//! A move belongs to a leg, not to a VM: a VM with several ports moves them all at once, with one UUID
//! and several sequences. The target of a move is known by sequence and secret alone.

use std::time::Duration;

use rand_chacha::rand_core::Rng;

use crate::vmware::{Code, Message};

use super::Concentrator;
use super::conn::{Conn, Place};
use super::event::{AbortedBecause, CloseReason, EventKind, RefusedBecause, VmotionStep};
use super::id::{ConnId, ConsoleId, MoveId};
use super::legs::Standing;
use super::takeover;
use super::timers::Timer;
use super::vmotion::{
    Action, GIVE_UP, GOAHEAD_LIMIT, Input, MOVE_LIMIT, MoveState, QUIET, SECRET, SOURCE_LINGER,
};

impl Concentrator {
    /// VMOTION-BEGIN.
    pub(super) fn begin_move(&mut self, id: ConnId, sequence: &[u8]) {
        let Some(vm) = self.conns.get(id).and_then(Conn::vm) else { return };
        let refusal = match vm.place {
            Place::Console(_) if sequence.len() > SEQUENCE_LIMIT => RefusedBecause::LongSequence,
            Place::Console(_) if self.shutting_down => RefusedBecause::ShuttingDown,
            Place::Console(console) => match vm.moving {
                Some(moving) if self.moves.get(moving).is_some_and(|moved| moved.has_left(id)) => {
                    RefusedBecause::MovedAway
                }
                Some(moving) => return self.step(moving, Input::Begin, Some((id, sequence))),
                None => return self.start_move(console, id, sequence),
            },
            Place::Unidentified => RefusedBecause::Unidentified,
            Place::Rejected | Place::Aside(_) | Place::Target | Place::MovedAway(_) | Place::Detached => {
                RefusedBecause::NotFeeding
            }
        };
        self.refuse_begin(id, sequence, refusal);
    }

    fn refuse_begin(&mut self, id: ConnId, sequence: &[u8], why: RefusedBecause) {
        self.reply(id, |out| Message::VmotionNotnow { sequence }.put(out));
        self.count_for(id).vmotions_refused += 1;
        self.emit(id, EventKind::Vmotion(VmotionStep::Refused(why)));
    }

    /// VMOTION-PEER.
    pub(super) fn accept_peer(&mut self, id: ConnId, sequence_and_secret: &[u8]) {
        let named = self.moves.named(sequence_and_secret);
        let is_source =
            named.and_then(|moving| self.moves.get(moving)).is_some_and(|moved| moved.source == Some(id));
        let own = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        let may_be_target = match own.and_then(|own| self.moves.get(own)) {
            Some(own) => own.target == Some(id),
            None => !matches!(self.place(id), Some(Place::MovedAway(_))),
        };
        match named {
            Some(moving) if may_be_target && !is_source => self.step(moving, Input::Peer, Some((id, &[]))),
            _ => self.reject_peer(id),
        }
    }

    /// A PEER that fits no move. Whoever sent one joins a console by COMPLETE or not at all: its UUID, which
    /// anyone can know, does not make up for its secret.
    fn reject_peer(&mut self, id: ConnId) {
        if self.place(id) == Some(Place::Unidentified) {
            self.set_place(id, Place::Rejected);
        }
        self.count_for(id).vmotion_bad_peers += 1;
        self.emit(id, EventKind::Vmotion(VmotionStep::BadPeer));
    }

    /// VMOTION-COMPLETE.
    pub(super) fn complete_move(&mut self, id: ConnId, sequence: &[u8]) {
        let moving = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        let named = moving.filter(|&moving| {
            let moved = self.moves.get(moving);
            moved.is_some_and(|moved| moved.target == Some(id) && *moved.sequence == *sequence)
        });
        match named {
            Some(moving) => self.step(moving, Input::Complete, None),
            None => self.out_of_place(id, Code::VMOTION_COMPLETE),
        }
    }

    /// VMOTION-ABORT. The sequence some hosts send with it does not matter: a connection has one move.
    pub(super) fn abort_move(&mut self, id: ConnId) {
        let moving = self.conns.get(id).and_then(Conn::vm).and_then(|vm| vm.moving);
        let own =
            moving.filter(|&moving| self.moves.get(moving).is_some_and(|moved| moved.source == Some(id)));
        match own {
            Some(moving) => self.step(moving, Input::Abort, None),
            None => self.out_of_place(id, Code::VMOTION_ABORT),
        }
    }

    /// A connection that has part in a move prints something to its console.
    pub(super) fn source_prints(&mut self, id: ConnId, moving: MoveId) {
        let Some(moved) = self.moves.get(moving).filter(|moved| moved.source == Some(id)) else { return };
        let now = self.fx.now;
        let is_late = now >= moved.begun + GIVE_UP;
        if moved.state() == MoveState::Adopting {
            self.fx.timers.set(Timer::Quiet(moving), now + QUIET);
        }
        self.step(moving, if is_late { Input::LateBytes } else { Input::Bytes }, None);
    }

    /// As much of a target's output waits for its source's last bytes as can wait: those are taken to be in.
    pub(super) fn end_adoption(&mut self, moving: MoveId) {
        self.step(moving, Input::QuietTimer, None);
    }

    /// A socket has taken control bytes: if it is a source's, GOAHEAD may be among them.
    pub(super) fn note_control_taken(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let Some(moving) = conn.vm().and_then(|vm| vm.moving) else { return };
        let taken = conn.control.taken();
        if self.moves.get(moving).is_some_and(|moved| {
            moved.state() == MoveState::Begun && moved.source == Some(id) && taken >= moved.goahead.1
        }) {
            self.step(moving, Input::Goahead, None);
        }
    }

    /// A move loses its leg to a newcomer; `id` feeds that, if anybody does.
    pub(super) fn give_up_move(&mut self, moving: MoveId, id: Option<ConnId>) {
        if let Some(id) = id {
            self.end_of_mover(moving, id);
        }
        // Without its source it waits for a target, if it is not over.
        self.step(moving, Input::MoveTimer, None);
    }

    /// A connection with part in a move has ended.
    pub(super) fn end_of_mover(&mut self, moving: MoveId, id: ConnId) {
        let Some(moved) = self.moves.get(moving) else { return };
        if moved.source == Some(id) {
            self.step(moving, Input::SourceEnd, None);
        } else if moved.target == Some(id) {
            self.step(moving, Input::TargetEnd, None);
        }
    }

    /// GOAHEAD has waited for its socket for long enough.
    pub(super) fn goahead_timer(&mut self, moving: MoveId) {
        if self.goahead_is_whole(moving) {
            self.step(moving, Input::GoaheadTimer, None);
        } else {
            // What the socket has begun to take cannot be taken back.
            self.fx.timers.set(Timer::Move(moving), self.fx.now + MOVE_LIMIT);
        }
    }

    pub(super) fn move_timer(&mut self, moving: MoveId) {
        self.step(moving, Input::MoveTimer, None);
    }

    pub(super) fn quiet_timer(&mut self, moving: MoveId) {
        self.step(moving, Input::QuietTimer, None);
    }

    /// Asks the table and obeys. `from`: the connection a BEGIN or PEER came on, and the sequence.
    fn step(&mut self, moving: MoveId, input: Input, from: Option<(ConnId, &[u8])>) {
        let Some(action) = self.moves.step(moving, input) else { return };
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source, target) = (moved.console, moved.source, moved.target);
        match action {
            Action::Nothing => {}
            Action::OutOfPlace => self.word_out_of_place(input, from, source, target),
            Action::Restart => {
                self.count_in(console).vmotions_aborted += 1;
                self.retract_goahead(moving);
                self.end_move(moving);
                self.start_next(console, from);
            }
            Action::HandOverAndRestart => {
                self.hand_over(moving);
                self.end_move(moving);
                self.start_next(console, from);
            }
            Action::NoteGoahead => self.note_goahead(moving),
            Action::AcceptPeer => {
                if let Some((id, _)) = from {
                    self.take_target(moving, id);
                }
            }
            Action::LoseTarget => {
                if let Some(moved) = self.moves.get_mut(moving) {
                    moved.target = None;
                }
            }
            Action::TakeOver => self.take_over(moving),
            Action::TakeOverAlone => {
                self.take_over(moving);
                self.hand_over(moving);
                self.end_move(moving);
            }
            Action::HandOver => {
                self.hand_over(moving);
                self.end_move(moving);
            }
            Action::HandOverAndLose => {
                self.hand_over(moving);
                self.end_move(moving);
                if let Some(target) = target {
                    self.detach_leg(console, |console| console.legs.detach(target));
                }
            }
            Action::Orphan => self.orphan(moving),
            Action::Resume => self.resume(moving, AbortedBecause::SourceAborted),
            Action::ResumeLate if input == Input::LateBytes => {
                self.resume(moving, AbortedBecause::SourceRunsOn);
            }
            Action::ResumeLate => self.resume(moving, AbortedBecause::TimedOut),
            Action::Refuse => self.refuse_begun(moving),
            Action::Lose => self.lose(moving, AbortedBecause::SourceEnded),
            Action::LoseLate => self.lose(moving, AbortedBecause::NoTarget),
        }
    }

    fn word_out_of_place(
        &mut self,
        input: Input,
        from: Option<(ConnId, &[u8])>,
        source: Option<ConnId>,
        target: Option<ConnId>,
    ) {
        match (input, from) {
            (Input::Begin, Some((id, sequence))) => {
                self.refuse_begin(id, sequence, RefusedBecause::OutOfPlace);
            }
            (Input::Peer, Some((id, _))) => self.reject_peer(id),
            (Input::Abort, _) => {
                if let Some(id) = source {
                    self.out_of_place(id, Code::VMOTION_ABORT);
                }
            }
            _ => {
                if let Some(id) = target {
                    self.out_of_place(id, Code::VMOTION_COMPLETE);
                }
            }
        }
    }

    /// Holds the input and queues GOAHEAD.
    fn start_move(&mut self, at: ConsoleId, id: ConnId, sequence: &[u8]) {
        // It may be another VM than this console's; that it moves now does not wait for that to be known.
        self.adopt_early(id);
        let mut secret = [0; SECRET];
        self.rng.fill_bytes(&mut secret);
        let Some(conn) = self.conns.get_mut(id) else { return };
        let (from_source, from) = (conn.source(), conn.control.end());
        let sequence_and_secret = [sequence, &secret].concat();
        conn.queue_control(id, &mut self.fx, |out| {
            Message::VmotionGoahead { sequence_and_secret: &sequence_and_secret }.put(out);
        });
        let goahead = (from, conn.control.end());
        let moving = self.moves.begin(at, (id, from_source), sequence, secret, goahead, self.fx.now);
        if let Some(vm) = conn.vm_mut() {
            vm.moving = Some(moving);
        }
        if let Some(console) = self.consoles.get_mut(at) {
            console.count().vmotions_begun += 1;
            console.legs.hold(id, moving);
            self.fx.outbox.changed(at);
        }
        // It may have been all that wanted the input of another.
        self.after_contest(at);
        self.fx.timers.set(Timer::Goahead(moving), self.fx.now + GOAHEAD_LIMIT);
        self.emit(id, EventKind::Vmotion(VmotionStep::Begun));
    }

    /// The BEGIN that ended one move begins the next.
    fn start_next(&mut self, console: ConsoleId, from: Option<(ConnId, &[u8])>) {
        if let Some((id, sequence)) = from {
            self.start_move(console, id, sequence);
        }
    }

    /// The source's socket has taken GOAHEAD.
    fn note_goahead(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source) = (moved.console, moved.source);
        let after = self.fx.now.duration_since(moved.begun);
        self.fx.timers.cancel(Timer::Goahead(moving));
        self.fx.timers.set(Timer::Move(moving), self.fx.now + MOVE_LIMIT);
        self.count_in(console).goahead(after);
        self.fx.histograms.goahead.record(after.as_micros() as u64);
        self.emit_move(source, console, VmotionStep::Goahead(after));
    }

    /// This connection is the move's target from now on.
    fn take_target(&mut self, moving: MoveId, id: ConnId) {
        let Some(moved) = self.moves.get_mut(moving) else { return };
        let (sequence, console) = (moved.sequence.clone(), moved.console);
        let before = moved.target.replace(id).filter(|&before| before != id);
        self.fx.timers.set(Timer::Move(moving), self.fx.now + MOVE_LIMIT);
        if let Some(before) = before {
            self.reject_target(before);
        }
        // It may have been the target of another move, or have said its UUID before its secret.
        let vm = self.conns.get(id).and_then(Conn::vm);
        let (place, other) =
            (vm.map(|vm| vm.place), vm.and_then(|vm| vm.moving).filter(|&other| other != moving));
        if let Some(other) = other {
            self.step(other, Input::TargetEnd, None);
        }
        if let Some(Place::Console(joined)) = place {
            self.detach_leg(joined, |console| console.legs.detach(id));
        }
        self.set_place(id, Place::Target);
        self.fx.timers.cancel(Timer::Identify(id));
        self.fx.timers.cancel(Timer::Ask(id));
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.moving = Some(moving);
            // Strangers cannot push out what it has printed.
            if let Some(early) = &mut vm.early {
                self.consoles.promote(&mut early.unshown);
            }
        }
        self.reply(id, |out| Message::VmotionPeerOk { sequence: &sequence }.put(out));
        self.emit_move(Some(id), console, VmotionStep::Peer);
    }

    /// The target feeds the console, and gets what was held for it.
    fn take_over(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (at, begun) = (moved.console, moved.begun);
        let Some(target) = moved.target else { return };
        let now = self.fx.now;
        self.moves.forget_secret(moving);
        self.fx.timers.set(Timer::Quiet(moving), now + QUIET);
        self.fx.timers.set(Timer::Move(moving), now + ADOPTION_LIMIT);
        self.set_place(target, Place::Console(at));
        let from = self.conns.get(target).and_then(|conn| conn.peer.ip());
        // A target does not tell its URI.
        let mux = self.consoles.guests.mux(at);
        self.consoles.guests.wishes(target, mux);
        let name = self.conns.get_mut(target).and_then(Conn::vm_mut).and_then(|vm| {
            vm.told = true;
            // Its output waits here until the source's last bytes are in.
            vm.early.get_or_insert_default().name.take()
        });
        if let Some(console) = self.consoles.get_mut(at) {
            console.take_over(moving, target, from, &mut self.fx);
            if console.legs.holder() == Some(target) {
                self.consoles.dials.keep_wish(at, target);
                self.consoles.serve_wish(at);
            }
        }
        // Its secret is proof: whatever it is called, it is this VM, and it lives.
        match self.consoles.get(at).and_then(|console| console.legs.standing(target)) {
            Some(standing) if standing.holds() => self.contest(at, takeover::Input::Spoke),
            // It has the input back when it speaks, as its source would have had.
            Some(Standing::Deposed) => self.watch(target),
            _ => {}
        }
        if let Some(name) = name {
            self.name_leg(at, target, &name);
        }
        self.emit_move(Some(target), at, VmotionStep::Completed(now.duration_since(begun)));
    }

    /// The source is done with; what the target has printed follows.
    fn hand_over(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source, target) = (moved.console, moved.source, moved.target);
        if let Some(source) = source {
            self.set_place(source, Place::MovedAway(console));
            self.fx.timers.set(Timer::Source(source), self.fx.now + SOURCE_LINGER);
        }
        let Some(holder) = target else { return };
        let target = self.conns.get_mut(holder).and_then(Conn::vm_mut);
        if let Some(early) = target.and_then(|vm| vm.early.take()) {
            self.show_early(console, holder, early.unshown);
        }
    }

    /// The source has ended; the move goes on without it.
    fn orphan(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.get_mut(moving) else { return };
        moved.source = None;
        self.fx.timers.set(Timer::Move(moving), self.fx.now + MOVE_LIMIT);
        let Some(console) = self.consoles.get_mut(moved.console) else { return };
        console.legs.orphan(moving);
        self.fx.outbox.changed(moved.console);
    }

    /// The move is off and the source goes on.
    fn resume(&mut self, moving: MoveId, why: AbortedBecause) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source) = (moved.console, moved.source);
        self.retract_goahead(moving);
        self.end_move(moving);
        let counters = self.count_in(console);
        if why == AbortedBecause::SourceAborted {
            counters.vmotions_aborted += 1;
        } else {
            counters.vmotions_timed_out += 1;
        }
        self.emit_move(source, console, VmotionStep::Aborted(why));
    }

    /// GOAHEAD has not left in time: the host is told not now, before it gives up by itself.
    fn refuse_begun(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source, sequence) = (moved.console, moved.source, moved.sequence.clone());
        self.retract_goahead(moving);
        self.end_move(moving);
        if let Some(source) = source
            && let Some(conn) = self.conns.get_mut(source)
        {
            conn.queue_control(source, &mut self.fx, |out| {
                Message::VmotionNotnow { sequence: &sequence }.put(out);
            });
        }
        self.count_in(console).vmotions_refused += 1;
        self.emit_move(source, console, VmotionStep::Refused(RefusedBecause::GoaheadNotTaken));
    }

    /// The VM is gone.
    fn lose(&mut self, moving: MoveId, why: AbortedBecause) {
        let Some(moved) = self.moves.get(moving) else { return };
        let (console, source) = (moved.console, moved.source);
        let counters = self.count_in(console);
        if why == AbortedBecause::NoTarget {
            counters.vmotions_timed_out += 1;
        } else {
            counters.vmotions_aborted += 1;
        }
        self.emit_move(source, console, VmotionStep::Aborted(why));
        self.detach_leg(console, |console| console.legs.lose(moving));
        self.end_move(moving);
    }

    /// Forgets a move; its target, if it has one that has not taken over, has no more say.
    fn end_move(&mut self, moving: MoveId) {
        let Some(moved) = self.moves.end(moving) else { return };
        for timer in [Timer::Goahead(moving), Timer::Move(moving), Timer::Quiet(moving)] {
            self.fx.timers.cancel(timer);
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
            self.reject_target(target);
        }
        let claimant =
            self.consoles.get_mut(moved.console).and_then(|console| console.release(moving, &mut self.fx));
        if self.consoles.get(moved.console).is_some_and(|console| !console.legs.is_held()) {
            self.contest(moved.console, takeover::Input::MoveOver);
        }
        if let Some(id) = claimant {
            self.claim(moved.console, id);
        }
    }

    /// A target without a move: it joins nothing, and has as long to go as a stranger.
    fn reject_target(&mut self, id: ConnId) {
        self.set_place(id, Place::Rejected);
        if let Some(vm) = self.conns.get_mut(id).and_then(Conn::vm_mut) {
            vm.moving = None;
        }
        self.drop_early_of(id);
        self.fx.timers.set(Timer::Identify(id), self.fx.now + self.config.identify_timeout);
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

    fn out_of_place(&mut self, id: ConnId, code: Code) {
        self.count_for(id).malformed += 1;
        self.emit(id, EventKind::Vmotion(VmotionStep::OutOfPlace(code)));
    }

    fn emit_move(&mut self, id: Option<ConnId>, console: ConsoleId, step: VmotionStep) {
        self.emit_event(id, Some(console), EventKind::Vmotion(step));
    }

    /// A source that has had its time after COMPLETE is closed.
    pub(super) fn end_of_source(&mut self, id: ConnId) {
        if let Some(Place::MovedAway(_)) = self.place(id)
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.doom(id, CloseReason::MovedAway, &mut self.fx);
        }
    }
}

/// An adoption ends after this long at the latest, even if the source does not stop printing.
const ADOPTION_LIMIT: Duration = Duration::from_secs(1);

/// Longest sequence that is taken; four bytes were seen.
const SEQUENCE_LIMIT: usize = 512;
