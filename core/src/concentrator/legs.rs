//! The legs of a console: which connections feed it, and which of them holds its input.
//!
//! **Owns** their order, what each of them may hope for ([`Standing`]), which of them holds its input back
//! for a move, and which connection a leg is left without. **Refuses to know** what a connection or a move
//! is: ids come in and are handed back; when a holder counts as dead is [`takeover`](super::takeover)'s. A
//! leg is never closed because a newer one came (vmware.md §4).
//!
//! `legs/succession.rs` has who gets the input, `legs/rivals.rs` what several legs make of each other.
//!
//! Everything here costs a look at each leg, of which there are few: [`LEGS`], those that wait for a move's
//! target among them.

mod rivals;
mod succession;

use super::id::{ConnId, MoveId};
use super::takeover::Action;

use rivals::Rivals;
pub(super) use succession::Succession;

/// Connections that may feed one console, and moves of it that wait for a target: more than a VM has serial
/// ports (vSphere: 32 per VM, four usual), with those of its last life that nobody has noticed to be dead.
/// Who comes on top is read and dropped.
pub(super) const LEGS: usize = 16;

/// One connection's worth of a console.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Leg {
    /// Who feeds it. `None`: its source has ended and the move's target has not taken over yet.
    conn: Option<ConnId>,
    standing: Standing,
    /// The move it is part of. Few are at any time: every idle VM has a leg.
    moving: Option<Box<Moving>>,
}

/// A leg's part in a move.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Moving {
    id: MoveId,
    /// The source, once its target has completed the move: its last bytes are still taken in.
    draining: Option<ConnId>,
    /// The leg holds the input, which is held back until the move is decided.
    held: bool,
}

/// What a leg is to its console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It gets what is typed.
    Holder,
    /// As `Holder`; but it came second once and has only been left over, and yields to any newcomer.
    Heir,
    /// It came when it was not known whether the holder lived, and takes over if that is dead; not before the
    /// end of a move of its own.
    Claimant,
    /// It came second to a holder that lived. It inherits only after a while.
    Second,
    /// It was silent when it was asked, and another took over. It gets the input back if it speaks.
    Deposed,
    /// A newer one took over because that is what the operator has ordered. It inherits at once.
    Elder,
}

/// A console's legs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Legs {
    legs: Vec<Leg>,
    /// What is kept only while there is, or a minute ago was, more than one.
    rivals: Option<Box<Rivals>>,
}

/// What came of the end of a leg, for the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// It did not hold the input.
    Others,
    /// It held the input. [`Legs::succeed`] says who gets it.
    Holder,
}

/// Whom a leg is known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Party {
    Conn(ConnId),
    /// Of a leg that waits for the target of its move.
    Orphan(MoveId),
}

/// How a newcomer is received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Welcome {
    /// The input is taken from a live holder only if that turns out to be dead.
    Ask,
    /// It gets the input at once.
    Take(Standing),
    /// It gets nothing while the holder lives.
    Refuse,
}

impl Legs {
    /// Nothing feeds the console, and nothing will without a newcomer.
    pub(super) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// There are as many as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.legs.len() >= LEGS
    }

    /// How many connections feed the console.
    pub(super) fn live(&self) -> usize {
        self.conns().count()
    }

    pub(super) fn is_moving(&self) -> bool {
        self.legs.iter().any(|leg| leg.moving.is_some())
    }

    fn holding(&self) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.standing.holds())
    }

    /// Whether what is typed will go somewhere: somebody holds the input, be it with a connection or while
    /// its move waits for a target.
    pub(super) fn has_holder(&self) -> bool {
        self.holding().is_some()
    }

    /// The connection that holds the input: it takes, or is the last to have taken, what is typed.
    pub(super) fn holder(&self) -> Option<ConnId> {
        self.holding()?.conn
    }

    /// The connection that what is typed goes to now; `None` while it is held back or there is none.
    pub(super) fn input(&self) -> Option<ConnId> {
        let leg = self.holding()?;
        if leg.is_held() || self.state().holds_back() { None } else { leg.conn }
    }

    /// Whether the input is being held back for a move.
    pub(super) fn is_held(&self) -> bool {
        self.holding().is_some_and(Leg::is_held)
    }

    /// What this connection is to the console. `None`: it has no leg here.
    pub(super) fn standing(&self, id: ConnId) -> Option<Standing> {
        self.leg(id).map(|leg| leg.standing)
    }

    /// Whether this connection's leg is part of a move.
    pub(super) fn is_mover(&self, id: ConnId) -> bool {
        self.leg(id).is_some_and(|leg| leg.moving.is_some())
    }

    /// Every connection that feeds the console.
    pub(super) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.legs.iter().filter_map(|leg| leg.conn)
    }

    /// Every connection of this standing, oldest first.
    pub(super) fn of_standing(&self, standing: Standing) -> impl Iterator<Item = ConnId> {
        self.legs.iter().filter(move |leg| leg.standing == standing).filter_map(|leg| leg.conn)
    }

    /// Every connection that is read for the console's sake: those that feed it, and sources whose last bytes
    /// are still taken in.
    pub(super) fn read(&self) -> impl Iterator<Item = ConnId> {
        let draining = |leg: &Leg| leg.moving.as_ref().and_then(|moving| moving.draining);
        self.legs.iter().flat_map(move |leg| [leg.conn, draining(leg)]).flatten()
    }

    /// Who yields to a newcomer from `from` where there are as many legs as there may be; `None`: the
    /// newcomer. Who holds the input never does.
    ///
    /// The address that has the most, the newcomer counted, gives up its newest. Where that is the
    /// newcomer's, a leg that never had the input yields all the same, and then the oldest that waits for a
    /// target: what came second to a live VM does not keep out the same VM when it is started again. Such a
    /// leg is of another address, if one has as many; of the newcomer's own only where it `may_displace`.
    ///
    /// Where all others have had the input, the oldest of those that lost it by silence yields to its own
    /// address, and then the oldest that lost it because a newer one came.
    pub(super) fn yields<A: PartialEq>(
        &self,
        from: &A,
        may_displace: bool,
        address: impl Fn(Party) -> Option<A>,
    ) -> Option<Party> {
        let others: Vec<(&Leg, Party, A)> = self
            .legs
            .iter()
            .filter(|leg| !leg.standing.holds())
            .filter_map(|leg| Some((leg, leg.party()?, address(leg.party()?)?)))
            .collect();
        let count = |of: &A| others.iter().filter(|(_, _, at)| at == of).count();
        let (own, most) = (count(from) + 1, others.iter().map(|(_, _, at)| count(at)).max()?);
        let is_of_most = |at: &A| if own > most { at == from } else { at != from && count(at) == most };
        let of_most = || others.iter().filter(|(_, _, at)| is_of_most(at));
        if own < most {
            return of_most().next_back().map(|&(_, party, _)| party);
        }
        let second = of_most().rfind(|(leg, ..)| leg.standing == Standing::Second && leg.conn.is_some());
        let second = second.filter(|_| own == most || may_displace);
        let orphan = || of_most().find(|(leg, ..)| leg.conn.is_none());
        let stands = |standing| move |leg: &Leg| leg.standing == standing && leg.conn.is_some();
        let dead = || {
            let mut own = others.iter().filter(|(_, _, at)| at == from && (own == most || may_displace));
            own.find(|(leg, ..)| stands(Standing::Deposed)(leg))
        };
        let elder = || others.iter().find(|(leg, ..)| stands(Standing::Elder)(leg));
        second.or_else(orphan).or_else(dead).or_else(elder).map(|&(_, party, _)| party)
    }

    /// A connection joins. Returns who has lost the input to it, and what is to be done about the holder.
    pub(super) fn attach(&mut self, id: ConnId, welcome: Welcome) -> (Option<ConnId>, Action) {
        let (has_holder, in_move) = (self.has_holder(), self.is_held());
        let standing = match (has_holder, welcome) {
            (false, _) => Standing::Holder,
            (true, Welcome::Take(_)) if !in_move => Standing::Holder,
            (true, Welcome::Refuse) => Standing::Second,
            (true, Welcome::Ask | Welcome::Take(_)) => Standing::Claimant,
        };
        self.legs.reserve_exact(1);
        self.legs.push(Leg { conn: Some(id), standing: Standing::Second, moving: None });
        match (standing, welcome) {
            (Standing::Holder, Welcome::Take(deposed)) => (self.pass(id, deposed), Action::Nothing),
            (Standing::Holder, _) => (self.pass(id, Standing::Second), Action::Nothing),
            (Standing::Claimant, _) => {
                self.set(id, Standing::Claimant);
                (None, self.claim())
            }
            _ => (None, Action::Nothing),
        }
    }

    /// A connection joins as one that came second, whether anybody holds the input or not.
    pub(super) fn attach_second(&mut self, id: ConnId) {
        self.legs.reserve_exact(1);
        self.legs.push(Leg { conn: Some(id), standing: Standing::Second, moving: None });
    }

    /// A connection without a move leaves. `None`: it has no leg here.
    pub(super) fn detach(&mut self, id: ConnId) -> Option<Left> {
        let index = self.legs.iter().position(|leg| leg.conn == Some(id))?;
        Some(self.remove(index))
    }

    /// A move ends together with its leg. `None`: it has none here.
    pub(super) fn lose(&mut self, moving: MoveId) -> Option<Left> {
        let index = self.legs.iter().position(|leg| leg.is_of(moving))?;
        Some(self.remove(index))
    }

    fn remove(&mut self, index: usize) -> Left {
        let gone = self.legs.remove(index);
        if let (Some(id), Some(rivals)) = (gone.conn, &mut self.rivals) {
            rivals.names.retain(|(other, _)| *other != id);
        }
        if self.legs.is_empty() {
            self.legs = Vec::new();
        }
        if !gone.standing.holds() {
            self.calm_if_unclaimed();
            return Left::Others;
        }
        Left::Holder
    }

    /// A move begins on a connection. Its input is held back if it holds the console's; if not, it stands
    /// still and gets nothing while it does.
    pub(super) fn hold(&mut self, id: ConnId, moving: MoveId) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.conn == Some(id)) {
            leg.moving = Some(Box::new(Moving { id: moving, draining: None, held: leg.standing.holds() }));
        }
        self.calm_if_unclaimed();
    }

    /// The source of a move has ended: its leg waits for the target.
    pub(super) fn orphan(&mut self, moving: MoveId) {
        if let Some(gone) = self.of(moving).and_then(|leg| leg.conn.take()) {
            self.take_other_name(gone);
        }
    }

    /// The target of a move takes over, and the input with its leg; the source's last bytes are still taken
    /// in.
    pub(super) fn take_over(&mut self, moving: MoveId, target: ConnId) {
        let Some(leg) = self.of(moving) else { return };
        let source = leg.conn.replace(target);
        if let Some(moving) = &mut leg.moving {
            (moving.draining, moving.held) = (source, false);
        }
        // It is the same VM.
        if let Some(name) = source.and_then(|source| self.take_other_name(source)) {
            self.set_other_name(target, name);
        }
    }

    /// A move has ended, whoever feeds the leg now. Returns that, if it wants the input and stood still until
    /// now.
    pub(super) fn release(&mut self, moving: MoveId) -> Option<ConnId> {
        let leg = self.of(moving)?;
        leg.moving = None;
        leg.conn.filter(|_| leg.standing == Standing::Claimant)
    }

    /// Fails a debug build where what is kept twice does not agree.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        for leg in &self.legs {
            assert!(leg.conn.is_some() || leg.moving.is_some(), "a leg has neither a connection nor a move");
            let Some(moving) = &leg.moving else { continue };
            assert!(!moving.held || leg.standing.holds(), "a leg holds back what it does not have");
            assert!(
                moving.draining.is_none() || !moving.held,
                "a leg was taken over and holds its input back"
            );
        }
        let holders = self.legs.iter().filter(|leg| leg.standing.holds()).count();
        assert!(holders <= 1, "{holders} legs hold the input");
        assert!(self.legs.len() <= LEGS, "{} legs", self.legs.len());
        assert!(!self.has_room_for_aside(), "somebody waits for room that there is");
        let is_claimed = self.is_claimed();
        assert_eq!(is_claimed, self.state() != super::takeover::ContestState::Calm, "{self:?}");
        assert!(!is_claimed || holders == 1, "a dead holder has not been replaced");
    }

    fn set(&mut self, id: ConnId, standing: Standing) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.conn == Some(id)) {
            leg.standing = standing;
        }
    }

    fn leg(&self, id: ConnId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.conn == Some(id))
    }

    fn of(&mut self, moving: MoveId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.is_of(moving))
    }
}

impl Leg {
    fn party(&self) -> Option<Party> {
        match (self.conn, &self.moving) {
            (Some(id), _) => Some(Party::Conn(id)),
            (None, moving) => moving.as_ref().map(|moving| Party::Orphan(moving.id)),
        }
    }

    /// Its input is held back for a move.
    fn is_held(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.held)
    }

    fn hold(&mut self, held: bool) {
        if let Some(moving) = &mut self.moving {
            moving.held = held;
        }
    }

    /// It is part of this move.
    fn is_of(&self, moving: MoveId) -> bool {
        self.moving.as_ref().is_some_and(|its| its.id == moving)
    }
}

impl Standing {
    /// It holds the input.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Holder | Self::Heir)
    }
}

#[cfg(test)]
#[path = "legs_tests.rs"]
mod tests;
