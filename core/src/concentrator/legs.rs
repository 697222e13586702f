//! The legs of a console: which connections feed it, and which of them gets what is typed.
//!
//! **Owns** their order (input goes to the latest), which of them holds its input back for a move, and which
//! connection a leg is left without. **Refuses to know** what a connection or a move is: ids come in and are
//! handed back. A leg is never closed because a newer one came (vmotion.md §1).

use super::id::{ConnId, MoveId};

/// One connection's worth of a console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leg {
    /// Who feeds it. `None`: its source has ended and the move's target has not taken over yet.
    pub(super) conn: Option<ConnId>,
    /// The source of a move that its target has completed: its last bytes are still taken in.
    pub(super) draining: Option<ConnId>,
    /// The move it is part of.
    pub(super) moving: Option<MoveId>,
    /// Input is held back until the move is decided.
    held: bool,
}

/// A console's legs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Legs(Vec<Leg>);

/// What came of the end of a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// Others feed the console; input went to one of those all the time.
    Others,
    /// Input went to the leg that is gone. Another one gets it now.
    Heir,
    /// It was the last.
    Nobody,
}

impl Legs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many connections feed the console.
    pub(super) fn live(&self) -> usize {
        self.0.iter().filter(|leg| leg.conn.is_some()).count()
    }

    /// How many legs there are, those without a connection counted.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_moving(&self) -> bool {
        self.0.iter().any(|leg| leg.moving.is_some())
    }

    /// The connection that takes, or is the last to have taken, what is typed.
    pub(super) fn latest(&self) -> Option<ConnId> {
        self.0.last()?.conn
    }

    /// The connection that what is typed goes to now; `None` while it is held back or there is no VM.
    pub(super) fn input(&self) -> Option<ConnId> {
        let leg = self.0.last()?;
        if leg.held { None } else { leg.conn }
    }

    /// Whether the latest leg's input is being held back.
    pub(super) fn is_held(&self) -> bool {
        self.0.last().is_some_and(|leg| leg.held)
    }

    /// Every connection that feeds the console.
    pub(super) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.0.iter().filter_map(|leg| leg.conn)
    }

    /// Every connection that is read for the console's sake: those that feed it, and sources whose last bytes
    /// are still taken in.
    pub(super) fn read(&self) -> impl Iterator<Item = ConnId> {
        self.0.iter().flat_map(|leg| [leg.conn, leg.draining]).flatten()
    }

    /// A connection joins. Input goes to it from now on.
    pub(super) fn attach(&mut self, id: ConnId) {
        self.0.reserve_exact(1);
        self.0.push(Leg { conn: Some(id), draining: None, moving: None, held: false });
    }

    /// A connection without a move leaves. `None`: it has no leg here.
    pub(super) fn detach(&mut self, id: ConnId) -> Option<Left> {
        let index = self.0.iter().position(|leg| leg.conn == Some(id))?;
        Some(self.remove(index))
    }

    /// A move ends together with its leg. `None`: it has none here.
    pub(super) fn lose(&mut self, moving: MoveId) -> Option<Left> {
        let index = self.0.iter().position(|leg| leg.moving == Some(moving))?;
        Some(self.remove(index))
    }

    fn remove(&mut self, index: usize) -> Left {
        let was_latest = index + 1 == self.0.len();
        self.0.remove(index);
        if self.0.is_empty() {
            self.0 = Vec::new();
            return Left::Nobody;
        }
        if was_latest { Left::Heir } else { Left::Others }
    }

    /// A move begins on a connection: its input is held back.
    pub(super) fn hold(&mut self, id: ConnId, moving: MoveId) {
        if let Some(leg) = self.0.iter_mut().find(|leg| leg.conn == Some(id)) {
            leg.moving = Some(moving);
            leg.held = true;
        }
    }

    /// The source of a move has ended: its leg waits for the target.
    pub(super) fn orphan(&mut self, moving: MoveId) {
        if let Some(leg) = self.of(moving) {
            leg.conn = None;
        }
    }

    /// The target of a move takes over, and gets the input; the source's last bytes are still taken in.
    pub(super) fn take_over(&mut self, moving: MoveId, target: ConnId) {
        if let Some(leg) = self.of(moving) {
            leg.draining = leg.conn.replace(target);
            leg.held = false;
        }
    }

    /// A move has ended, whoever feeds the leg now.
    pub(super) fn release(&mut self, moving: MoveId) {
        if let Some(leg) = self.of(moving) {
            *leg = Leg { conn: leg.conn, draining: None, moving: None, held: false };
        }
    }

    /// The move of the oldest leg that waits for a target, if more than `limit` of them do.
    pub(super) fn surplus_orphan(&self, limit: usize) -> Option<MoveId> {
        let mut orphans = self.0.iter().filter(|leg| leg.conn.is_none()).filter_map(|leg| leg.moving);
        let oldest = orphans.next()?;
        (orphans.count() >= limit).then_some(oldest)
    }

    /// Fails a debug build where what is kept twice does not agree.
    pub(super) fn check_invariants(&self) {
        for leg in &self.0 {
            assert!(leg.conn.is_some() || leg.moving.is_some(), "a leg has neither a connection nor a move");
            assert!(!leg.held || leg.moving.is_some(), "input is held back without a move");
            assert!(leg.draining.is_none() || !leg.held, "a leg was taken over and holds its input back");
        }
    }

    fn of(&mut self, moving: MoveId) -> Option<&mut Leg> {
        self.0.iter_mut().find(|leg| leg.moving == Some(moving))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId { index: 1, generation: 1 };
    const B: ConnId = ConnId { index: 2, generation: 1 };
    const T: ConnId = ConnId { index: 3, generation: 1 };
    const M: MoveId = MoveId { index: 1, generation: 1 };
    const N: MoveId = MoveId { index: 2, generation: 1 };

    fn legs(conns: &[ConnId]) -> Legs {
        let mut legs = Legs::default();
        conns.iter().for_each(|&id| legs.attach(id));
        legs
    }

    #[test]
    fn input_goes_to_the_latest_and_falls_back_to_the_one_before() {
        let mut legs = legs(&[A, B]);
        assert_eq!(legs.input(), Some(B));
        assert_eq!(legs.detach(B), Some(Left::Heir));
        assert_eq!(legs.input(), Some(A));
        assert_eq!(legs.detach(B), None);
        assert_eq!(legs.detach(A), Some(Left::Nobody));
        assert_eq!((legs.input(), legs.is_empty()), (None, true));
    }

    #[test]
    fn end_of_an_older_leg_leaves_the_input_where_it_is() {
        let mut legs = legs(&[A, B]);
        assert_eq!(legs.detach(A), Some(Left::Others));
        assert_eq!(legs.input(), Some(B));
    }

    #[test]
    fn a_move_holds_input_back_until_it_is_decided() {
        let mut legs = legs(&[A]);
        legs.hold(A, M);
        assert_eq!((legs.input(), legs.latest(), legs.is_held()), (None, Some(A), true));
        legs.release(M);
        assert_eq!((legs.input(), legs.is_moving()), (Some(A), false));
    }

    #[test]
    fn a_target_takes_over_and_the_source_is_read_to_its_end() {
        let mut legs = legs(&[A]);
        legs.hold(A, M);
        legs.take_over(M, T);
        assert_eq!(legs.input(), Some(T));
        assert_eq!(legs.read().collect::<Vec<_>>(), [T, A]);
        legs.check_invariants();
        legs.release(M);
        assert_eq!(legs.read().collect::<Vec<_>>(), [T]);
    }

    #[test]
    fn a_leg_without_its_source_waits_for_the_target_or_is_lost() {
        let mut legs = legs(&[A]);
        legs.hold(A, M);
        legs.orphan(M);
        legs.check_invariants();
        assert_eq!((legs.live(), legs.len(), legs.input()), (0, 1, None));
        legs.take_over(M, T);
        assert_eq!((legs.live(), legs.input()), (1, Some(T)));
        legs.release(M);
        legs.hold(T, N);
        legs.orphan(N);
        assert_eq!(legs.lose(N), Some(Left::Nobody));
        assert_eq!(legs.lose(N), None);
    }

    #[test]
    fn of_too_many_that_wait_for_a_target_the_oldest_is_given_up() {
        let mut legs = legs(&[A, B]);
        legs.hold(A, M);
        legs.orphan(M);
        assert_eq!(legs.surplus_orphan(1), None);
        legs.hold(B, N);
        legs.orphan(N);
        assert_eq!(legs.surplus_orphan(1), Some(M));
    }

    #[test]
    fn a_leg_costs_little() {
        assert!(size_of::<Leg>() <= 40, "{}", size_of::<Leg>());
    }
}
