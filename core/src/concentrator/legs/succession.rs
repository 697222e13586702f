//! Who gets the input of a console, as its holder gives it up, is silent or ends.
//!
//! **Owns** which leg is next. **Refuses to know** when a holder counts as dead
//! ([`takeover`](super::super::takeover)).

use super::super::id::ConnId;
use super::super::takeover::{self, Action, Input};
use super::{Leg, Legs, Standing};

/// Who holds the input now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::concentrator) struct Succession {
    pub(in crate::concentrator) heir: ConnId,
    /// Who held it before, if that has a connection.
    pub(in crate::concentrator) before: Option<ConnId>,
    /// What is to be done about the heir, if others want the input too.
    pub(in crate::concentrator) action: Action,
}

impl Legs {
    /// Gives a leg the input. The one that has it is `deposed` from now on, and returned. Whoever wanted it
    /// is second, but for those that were there before the new holder.
    pub(in crate::concentrator) fn pass(&mut self, to: ConnId, deposed: Standing) -> Option<ConnId> {
        let before = self.holder().filter(|&before| before != to);
        for leg in &mut self.legs {
            if leg.conn == Some(to) {
                leg.standing = Standing::Holder;
            } else if leg.standing.holds() {
                leg.standing = deposed;
                leg.hold(false);
            } else if leg.standing == Standing::Claimant {
                leg.standing = Standing::Second;
            }
        }
        self.calm();
        before
    }

    /// What happened to the holder, as far as others want the input: what is to be done.
    pub(in crate::concentrator) fn step(&mut self, input: Input) -> Action {
        if self.rivals.is_none() && !matches!(input, Input::Claim | Input::ClaimInMove) {
            return Action::Nothing;
        }
        let rivals = self.rivals.get_or_insert_default();
        let (next, action) = takeover::step(rivals.state, input);
        rivals.state = next;
        action
    }

    /// The holder keeps the input: whoever wanted it came second.
    pub(in crate::concentrator) fn keep(&mut self) {
        for leg in self.legs.iter_mut().filter(|leg| leg.standing == Standing::Claimant) {
            leg.standing = Standing::Second;
        }
    }

    /// The input passes from a holder that was silent to the first that wants it. `None`: that one stands
    /// still, and the holder keeps it.
    pub(in crate::concentrator) fn depose(&mut self) -> Option<Succession> {
        let heir = self.first(Standing::Claimant).filter(|_| !self.is_held());
        if heir.is_none() {
            self.keep();
        }
        Some(self.hand_to(heir?, Standing::Deposed))
    }

    /// Somebody gets the input of a holder that has ended: the first that came for it, or else the newest
    /// that held it before and did not lose it by silence. `None`: nobody does, for now.
    pub(in crate::concentrator) fn succeed(&mut self) -> Option<Succession> {
        let heir = self.first(Standing::Claimant).or_else(|| self.newest_elder());
        self.step(Input::Gone);
        Some(self.hand_to(heir?, Standing::Second))
    }

    /// Others that want the input want it of the new holder.
    fn hand_to(&mut self, heir: ConnId, deposed: Standing) -> Succession {
        let claims = |leg: &Leg| leg.standing == Standing::Claimant && leg.conn != Some(heir);
        let others: Vec<bool> = self.legs.iter().map(claims).collect();
        let before = self.pass(heir, deposed);
        for (leg, claims) in self.legs.iter_mut().zip(others) {
            if claims {
                leg.standing = Standing::Claimant;
            }
        }
        let action = if self.is_claimed() { self.step(Input::Claim) } else { Action::Nothing };
        Succession { heir, before, action }
    }

    /// Somebody gets the input that nobody holds: one that held it before and stood still when it was left,
    /// or else the oldest of those that came second, or of those that lost it by silence.
    pub(in crate::concentrator) fn inherit(&mut self) -> Option<ConnId> {
        let elder = self.newest_elder();
        let left_over = || self.first(Standing::Second).or_else(|| self.first(Standing::Deposed));
        let heir = elder.or_else(left_over).filter(|_| !self.has_holder())?;
        self.set(heir, if elder.is_some() { Standing::Holder } else { Standing::Heir });
        Some(heir)
    }

    fn newest_elder(&self) -> Option<ConnId> {
        self.of_standing(Standing::Elder).filter(|&id| !self.is_mover(id)).last()
    }

    /// Somebody may inherit later what nobody holds.
    pub(in crate::concentrator) fn has_hopes(&self) -> bool {
        !self.has_holder() && !self.is_empty()
    }

    /// A leg in a move of its own stands still: it gets nothing.
    fn first(&self, standing: Standing) -> Option<ConnId> {
        self.legs
            .iter()
            .filter(|leg| leg.standing == standing && leg.moving.is_none())
            .find_map(|leg| leg.conn)
    }

    /// A leg that stood still wants the input now: what is to be done about the holder.
    pub(in crate::concentrator) fn claim(&mut self) -> Action {
        self.step(if self.is_held() { Input::ClaimInMove } else { Input::Claim })
    }

    /// Somebody wants the input, and could take it.
    pub(super) fn is_claimed(&self) -> bool {
        self.first(Standing::Claimant).is_some()
    }
}
