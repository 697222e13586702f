//! Who holds a console's input, where several connections are its legs: what [`takeover`](super::takeover)
//! and [`legs`](super::legs) decide is carried out here (vmware.md §4).
//!
//! A name is no proof of who a VM is. So nothing is handed over silently or at once: whoever holds the input
//! is asked first, keeps it if it lives, and gets it back if it was only slow; each takeover is an event and
//! a line on the screens of those who type.

use std::net::IpAddr;
use std::time::Duration;

use crate::vmware::Message;

use super::Concentrator;
use super::conn::Conn;
use super::event::{EventKind, TakenBecause};
use super::id::{ConnId, ConsoleId};
use super::legs::{Standing, Succession};
use super::output::{Output, TcpState};
use super::takeover::{ANSWER_LIMIT, Action, ContestState, Input, LENIENCY, LOOK};
use super::timers::Timer;

impl Concentrator {
    /// The kernel has said how the TCP of this connection's peer does.
    pub(super) fn judge_tcp(&mut self, id: ConnId, tcp: TcpState) {
        let Some(at) = self.conns.get(id).and_then(Conn::console) else { return };
        let now = self.fx.now;
        let Some(console) = self.consoles.get_mut(at).filter(|console| console.legs.holder() == Some(id))
        else {
            return;
        };
        let since = console.legs.rivals().since;
        let input = if tcp.window == Some(0) {
            Input::WindowShut
        } else if !tcp.outstanding || tcp.acknowledged < now.duration_since(since) {
            // The question is among what was acknowledged, if all was. How long ago is told in whole ticks of
            // the kernel: too coarse for an answer that came at once, and only of use where bytes are always
            // on the way.
            Input::Acknowledged
        } else {
            Input::Nothing
        };
        self.contest(at, input);
    }

    /// Something happened to a holder that others want the input of.
    pub(super) fn contest(&mut self, at: ConsoleId, input: Input) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let action = console.legs.step(input);
        self.obey_table(at, action);
    }

    /// Does what the table says.
    pub(super) fn obey_table(&mut self, at: ConsoleId, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Ask => self.ask_holder(at),
            Action::Look => {
                let holder = self.consoles.get(at).and_then(|console| console.legs.holder());
                if let Some(holder) = holder {
                    self.fx.outbox.push(Output::Inspect(holder));
                }
                self.fx.timers.set(Timer::Takeover(at), self.fx.now + LOOK);
            }
            Action::Wait => {
                self.note_time(at);
                self.fx.timers.set(Timer::Takeover(at), self.fx.now + (LENIENCY - LOOK));
            }
            Action::Keep => self.keep_input(at),
            Action::Pass => self.depose(at),
        }
        self.after_contest(at);
    }

    /// What is typed goes on where a contest no longer holds it back, and its timer ends with it.
    pub(super) fn after_contest(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get(at) else { return };
        match console.legs.state() {
            ContestState::Calm | ContestState::Waiting => self.fx.timers.cancel(Timer::Takeover(at)),
            ContestState::Asked
            | ContestState::Looking
            | ContestState::Lenient
            | ContestState::LookingAgain
            | ContestState::Shut => {}
        }
        console.reopen_line(&mut self.fx);
        if let Some(holder) = console.legs.holder()
            && console.legs.state() != ContestState::Calm
        {
            self.watch(holder);
        }
    }

    pub(super) fn takeover_timer(&mut self, at: ConsoleId) {
        self.contest(at, Input::Timer);
    }

    /// One question, which any host answers: its silence is news, and a dead one's TCP resets. A serial line
    /// answers none, and to it that would be input: it keeps what it has.
    fn ask_holder(&mut self, at: ConsoleId) {
        let holder = self.consoles.get(at).and_then(|console| console.legs.holder());
        let is_line = |id| self.conns.get(id).and_then(Conn::vm).is_some_and(|vm| vm.wire.is_lines());
        if holder.is_some_and(is_line) {
            return self.contest(at, Input::Spoke);
        }
        if let Some(holder) = holder {
            self.reply(holder, |out| Message::GetVmName.put(out));
        }
        self.note_time(at);
        self.fx.timers.set(Timer::Takeover(at), self.fx.now + (ANSWER_LIMIT - LOOK));
    }

    /// Whatever the holder's TCP acknowledges from now on shows that it lives.
    fn note_time(&mut self, at: ConsoleId) {
        if let Some(console) = self.consoles.get_mut(at) {
            console.legs.rivals().since = self.fx.now;
        }
    }

    /// That this connection speaks will be news.
    pub(super) fn watch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_watched = true;
        }
    }

    /// A connection sends something whose silence or word counts.
    pub(super) fn watched_speaks(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.is_watched = false;
        let Some(at) = conn.console() else { return };
        let Some(console) = self.consoles.get(at) else { return };
        match console.legs.standing(id) {
            Some(standing) if standing.holds() => self.contest(at, Input::Spoke),
            // A move keeps the input to its end, whoever speaks meanwhile.
            Some(Standing::Deposed) if console.legs.is_held() || console.legs.is_mover(id) => self.watch(id),
            Some(Standing::Deposed) => self.give_back(at, id),
            _ => {}
        }
    }

    /// The holder lives. Whoever came for the input came second, or is another VM.
    fn keep_input(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let claimants: Vec<ConnId> = console.legs.of_standing(Standing::Claimant).collect();
        console.legs.keep();
        for id in claimants {
            self.settle_second(at, id);
        }
    }

    /// Whoever came second to a live VM is another one, if it is called otherwise.
    fn settle_second(&mut self, at: ConsoleId, id: ConnId) {
        let Some(console) = self.consoles.get(at) else { return };
        match console.legs.other_name(id) {
            Some(name) if !console.legs.is_mover(id) => self.fx.part(id, at, name.to_owned()),
            _ => {
                self.adopt_early(id);
                self.emit_second(at, id);
            }
        }
    }

    /// The holder gave no sign of life.
    fn depose(&mut self, at: ConsoleId) {
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let owed = console.take_half(buffers);
        let succession = console.legs.depose();
        self.give_half(owed);
        if let Some(succession) = succession {
            self.succeeds(at, succession, TakenBecause::Silent);
        }
    }

    /// The holder has ended, or its move has without a target.
    pub(super) fn input_is_left(&mut self, at: ConsoleId) {
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        if let Some(succession) = console.legs.succeed() {
            return self.succeeds(at, succession, TakenBecause::Ended);
        }
        console.leave_input(buffers, &mut self.fx);
        if console.legs.has_hopes() {
            self.fx.timers.set(Timer::Inherit(at), self.fx.now + INHERIT_AFTER);
        }
    }

    fn succeeds(&mut self, at: ConsoleId, succession: Succession, because: TakenBecause) {
        self.input_passes(at, succession.heir, succession.before, because);
        self.obey_table(at, succession.action);
    }

    /// Nobody has held the input for a while: one of those that came second inherits it.
    pub(super) fn inherit(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        match console.legs.inherit() {
            Some(heir) => self.input_passes(at, heir, None, TakenBecause::Inherited),
            // They are in moves of their own.
            None if console.legs.has_hopes() => {
                self.fx.timers.set(Timer::Inherit(at), self.fx.now + INHERIT_AFTER);
            }
            None => {}
        }
    }

    /// A leg that came for the input has been in a move of its own until now.
    pub(super) fn claim(&mut self, at: ConsoleId, id: ConnId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        if console.legs.has_holder() {
            let action = console.legs.claim();
            return self.obey_table(at, action);
        }
        console.legs.pass(id, Standing::Second);
        self.fx.timers.cancel(Timer::Inherit(at));
        self.input_passes(at, id, None, TakenBecause::Ended);
    }

    /// An operator gives the input to a leg.
    pub(super) fn order_input(&mut self, at: ConsoleId, to: ConnId) {
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        if console.legs.holder() == Some(to) {
            return;
        }
        let owed = console.take_half(buffers);
        let before = console.legs.pass(to, Standing::Second);
        self.give_half(owed);
        self.fx.timers.cancel(Timer::Inherit(at));
        self.input_passes(at, to, before, TakenBecause::Operator);
        self.after_contest(at);
    }

    /// The input is with this leg now.
    pub(super) fn input_passes(
        &mut self,
        at: ConsoleId,
        to: ConnId,
        before: Option<ConnId>,
        because: TakenBecause,
    ) {
        let ip = self.ip(to);
        let Some(console) = self.consoles.get_mut(at) else { return };
        let last = console.tenure.last_holder();
        console.input_passes(ip, &mut self.fx);
        self.meet_guest(at);
        self.consoles.serve_wish(at);
        self.rename_after_holder(at, to);
        self.adopt_early(to);
        if let Some(before) = before {
            self.adopt_early(before);
            let Some(console) = self.consoles.get(at) else { return };
            if console.legs.standing(before) == Some(Standing::Deposed) {
                self.watch(before);
            }
        }
        self.settle_seconds(at);
        // Whoever comes to a console whose input nobody holds takes it from nobody.
        if before.is_none() && !matches!(because, TakenBecause::Ended | TakenBecause::Inherited) {
            return;
        }
        self.count_in(at).takeovers += 1;
        self.show_line(
            at,
            &format!("{}; what you type goes to the connection from {}", because.line(), self.whence(to)),
        );
        self.emit_event(Some(to), Some(at), EventKind::InputTaken { from: last, because });
    }

    /// Those that came for the input, and are second to one that was given it, are told apart.
    fn settle_seconds(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get(at) else { return };
        for id in console.legs.of_standing(Standing::Second).collect::<Vec<_>>() {
            let is_open = |conn: &Conn| conn.vm().is_some_and(|vm| vm.early.is_some() && vm.moving.is_none());
            if self.conns.get(id).is_some_and(is_open) {
                self.settle_second(at, id);
            }
        }
    }

    /// One that was silent when it was asked, and lost the input, speaks again.
    fn give_back(&mut self, at: ConsoleId, to: ConnId) {
        let ip = self.ip(to);
        let Some((console, buffers)) = self.consoles.with_buffers(at) else { return };
        let owed = console.take_half(buffers);
        let before = console.legs.pass(to, Standing::Second);
        console.input_passes(ip, &mut self.fx);
        self.meet_guest(at);
        self.consoles.serve_wish(at);
        self.give_half(owed);
        let other = self.rename_after_holder(at, to);
        let from = before.and_then(|id| self.ip(id));
        self.show_line(at, &format!("the VM at {} is back; what you type goes there again", self.whence(to)));
        self.emit_event(Some(to), Some(at), EventKind::InputGivenBack { from });
        // It was no new name of this VM: it is another one.
        if let (Some(before), Some(name)) = (before, other)
            && self.consoles.get(at).is_some_and(|console| !console.legs.is_mover(before))
        {
            self.fx.part(before, at, name);
        }
        self.after_contest(at);
    }

    /// A console is called as the VM of its holder is. Returns what it was called, if that was something
    /// else.
    fn rename_after_holder(&mut self, at: ConsoleId, holder: ConnId) -> Option<String> {
        let console = self.consoles.get_mut(at)?;
        let name = console.legs.take_other_name(holder)?;
        let old = console.label.name.clone();
        console.legs.renamed(&old, &name);
        self.name_console(at, holder, &name);
        Some(old)
    }

    /// A VM's connection that is a leg of this console says what its VM is called.
    pub(super) fn name_leg(&mut self, at: ConsoleId, id: ConnId, name: &str) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let name = console.label.full_name(name);
        let is_same = console.label.name == name;
        match console.legs.standing(id) {
            Some(standing) if standing.holds() => {
                if !is_same && !console.label.name.is_empty() && console.legs.live() > 1 {
                    let old = console.label.name.clone();
                    console.legs.renamed(&old, &name);
                }
                self.name_console(at, id, &name);
            }
            _ if is_same || console.legs.is_mover(id) || console.label.name.is_empty() => {
                if is_same {
                    console.legs.take_other_name(id);
                }
                self.emit_identified(at);
            }
            Some(Standing::Claimant) => console.legs.set_other_name(id, name),
            // The holder lives: it is another VM.
            Some(Standing::Second) if console.legs.has_holder() => self.fx.part(id, at, name),
            _ => {}
        }
    }

    /// What a leg has printed while it was not known whose that is, is this console's.
    pub(super) fn adopt_early(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some(at) = conn.console() else { return };
        if let Some(early) = conn.vm_mut().filter(|vm| vm.moving.is_none()).and_then(|vm| vm.early.take()) {
            self.show_early(at, id, early.unshown);
        }
    }

    /// Tells, once a minute and console, that a second connection came to a live VM.
    pub(super) fn emit_second(&mut self, at: ConsoleId, id: ConnId) {
        let Some(console) = self.consoles.get_mut(at) else { return };
        let holder = console.legs.holder();
        let legs = console.legs.live();
        if std::mem::replace(&mut console.legs.rivals().told, true) {
            return;
        }
        let same_address = holder.is_some_and(|holder| self.ip(holder) == self.ip(id));
        self.emit(id, EventKind::SecondLeg { legs, same_address });
    }

    /// Tells, once a minute and console, how many connections were put aside.
    pub(super) fn emit_beyond(&mut self, at: ConsoleId) {
        if self.fx.timers.is_set(Timer::Legs(at)) {
            return;
        }
        let Some(console) = self.consoles.get_mut(at).filter(|console| console.legs.has_rivals()) else {
            return;
        };
        let beyond = std::mem::take(&mut console.legs.rivals().beyond);
        if beyond > 0 {
            self.emit_of_console(at, EventKind::LegsBeyond(beyond));
        }
        self.set_legs_timer(at);
    }

    pub(super) fn set_legs_timer(&mut self, at: ConsoleId) {
        if !self.fx.timers.is_set(Timer::Legs(at)) {
            self.fx.timers.set(Timer::Legs(at), self.fx.now + TELL_AGAIN);
        }
    }

    /// A minute has passed since something was told that is told once a minute.
    pub(super) fn legs_timer(&mut self, at: ConsoleId) {
        let Some(console) = self.consoles.get_mut(at).filter(|console| console.legs.has_rivals()) else {
            return;
        };
        let rivals = console.legs.rivals();
        rivals.told = false;
        if rivals.beyond > 0 {
            self.emit_beyond(at);
        } else if !console.legs.forget_rivals() {
            self.set_legs_timer(at);
        }
    }

    /// A connection that has taken half a pair gets the other half before anything else.
    pub(super) fn give_half(&mut self, owed: Option<(ConnId, u8)>) {
        if let Some((id, half)) = owed
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.control.push_front(half);
            self.fx.outbox.transmit(id);
        }
    }

    fn ip(&self, id: ConnId) -> Option<IpAddr> {
        self.conns.get(id).and_then(|conn| conn.peer.ip())
    }

    fn whence(&self, id: ConnId) -> String {
        self.conns.get(id).map_or_else(String::new, |conn| conn.peer.to_string())
    }
}

impl TakenBecause {
    /// The line on a client's screen: it is about the VM that the client had until now.
    fn line(self) -> &'static str {
        match self {
            Self::Silent => "the VM did not answer and has connected anew",
            Self::Ended => "the VM's connection ended and it has connected anew",
            Self::Home => "the VM has connected from where it usually is",
            Self::LeftOver => "the VM has connected anew",
            Self::Inherited => "the VM's connection ended and an older one is left",
            Self::Newest => "the VM has connected once more",
            Self::Operator => "an operator has given your input to another connection",
        }
    }
}

/// How long those that came second wait for a VM that has ended to come back: it restarts, or its host does.
pub(super) const INHERIT_AFTER: Duration = Duration::from_secs(60);

/// What legs do to each other is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(60);
