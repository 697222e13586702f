//! Legs alone: connections and moves are ids.

use super::super::takeover::{ContestState, Input};
use super::*;

const A: ConnId = ConnId { index: 1, generation: 1 };
const B: ConnId = ConnId { index: 2, generation: 1 };
const C: ConnId = ConnId { index: 3, generation: 1 };
const T: ConnId = ConnId { index: 4, generation: 1 };
const M: MoveId = MoveId { index: 1, generation: 1 };
const N: MoveId = MoveId { index: 2, generation: 1 };

fn legs(conns: &[ConnId]) -> Legs {
    let mut legs = Legs::default();
    for &id in conns {
        legs.attach(id, Welcome::Ask);
    }
    legs
}

/// As the engine does at the end of a holder.
fn end(legs: &mut Legs, id: ConnId) -> Option<ConnId> {
    match legs.detach(id) {
        Some(Left::Holder) => legs.succeed().map(|it| it.heir),
        _ => None,
    }
}

#[test]
fn a_newcomer_has_the_holder_asked_once_and_input_waits_for_the_answer() {
    let mut legs = Legs::default();
    assert_eq!(legs.attach(A, Welcome::Ask), (None, Action::Nothing));
    assert_eq!((legs.holder(), legs.input()), (Some(A), Some(A)));
    assert_eq!(legs.attach(B, Welcome::Ask), (None, Action::Ask));
    assert_eq!((legs.holder(), legs.input()), (Some(A), None));
    assert_eq!(legs.attach(C, Welcome::Ask), (None, Action::Nothing));
    assert_eq!(legs.step(Input::Spoke), Action::Keep);
    legs.keep();
    legs.check_invariants();
    assert_eq!(legs.input(), Some(A));
    assert_eq!(legs.of_standing(Standing::Second).collect::<Vec<_>>(), [B, C]);
}

#[test]
fn a_silent_holder_is_deposed_by_the_first_that_came_and_the_next_asks_that_one() {
    let mut legs = legs(&[A, B, C]);
    legs.step(Input::Timer);
    assert_eq!(legs.step(Input::Timer), Action::Pass);
    let it = legs.depose().unwrap();
    assert_eq!((it.heir, it.before, it.action), (B, Some(A), Action::Ask));
    assert_eq!(legs.standing(A), Some(Standing::Deposed));
    legs.check_invariants();
    // It speaks again.
    assert_eq!(legs.pass(A, Standing::Second), Some(B));
    assert_eq!(
        (legs.input(), legs.standing(B), legs.standing(C)),
        (Some(A), Some(Standing::Second), Some(Standing::Second))
    );
    legs.check_invariants();
}

#[test]
fn who_came_second_does_not_inherit_at_the_holders_end() {
    let mut legs = legs(&[A, B]);
    legs.step(Input::Spoke);
    legs.keep();
    assert_eq!(end(&mut legs, A), None);
    assert_eq!((legs.has_holder(), legs.has_hopes(), legs.live()), (false, true, 1));
    assert_eq!(legs.inherit(), Some(B));
    assert_eq!(legs.standing(B), Some(Standing::Heir));
    assert_eq!(legs.inherit(), None, "it is held");
    assert_eq!(legs.attach(C, Welcome::Take(Standing::Second)), (Some(B), Action::Nothing));
    assert_eq!(legs.input(), Some(C));
    legs.check_invariants();
}

#[test]
fn who_held_the_input_before_and_stood_still_when_it_was_left_inherits_before_others() {
    let mut legs = legs(&[A, B, C]);
    assert_eq!(legs.pass(B, Standing::Elder), Some(A));
    legs.hold(A, M);
    assert_eq!(end(&mut legs, B), None);
    legs.release(M);
    assert_eq!((legs.inherit(), legs.standing(A)), (Some(A), Some(Standing::Holder)));
    legs.check_invariants();
}

#[test]
fn end_of_a_holder_that_has_not_answered_lets_the_newcomer_take_over() {
    let mut legs = legs(&[A, B]);
    assert_eq!(end(&mut legs, A), Some(B));
    assert_eq!(legs.input(), Some(B));
    assert_eq!(end(&mut legs, B), None);
    assert!(legs.is_empty());
}

#[test]
fn end_of_another_leg_leaves_the_input_where_it_is() {
    let mut legs = legs(&[A, B]);
    assert_eq!(legs.detach(B), Some(Left::Others));
    assert_eq!((legs.input(), legs.detach(B)), (Some(A), None));
    legs.check_invariants();
}

#[test]
fn where_the_newest_is_to_have_the_input_the_one_before_gets_it_back_at_its_end() {
    let mut legs = Legs::default();
    for (id, before) in [(A, None), (B, Some(A)), (C, Some(B))] {
        assert_eq!(legs.attach(id, Welcome::Take(Standing::Elder)), (before, Action::Nothing));
    }
    assert_eq!(end(&mut legs, C), Some(B));
    assert_eq!(end(&mut legs, B), Some(A));
}

#[test]
fn a_move_of_the_holder_holds_input_back_and_nobody_takes_over_meanwhile() {
    for welcome in [Welcome::Ask, Welcome::Take(Standing::Elder), Welcome::Refuse] {
        let mut legs = legs(&[A]);
        legs.hold(A, M);
        assert_eq!((legs.input(), legs.holder(), legs.is_held()), (None, Some(A), true));
        assert_eq!(legs.attach(B, welcome), (None, Action::Nothing));
        legs.orphan(M);
        assert_eq!((legs.has_holder(), legs.input()), (true, None));
        legs.take_over(M, T);
        assert_eq!(legs.input(), Some(T));
    }
}

#[test]
fn a_move_of_another_leg_holds_nothing_and_its_end_is_no_heir() {
    let mut legs = legs(&[A, B]);
    legs.hold(B, M);
    legs.step(Input::Spoke);
    legs.keep();
    assert_eq!((legs.input(), legs.is_held()), (Some(A), false));
    legs.orphan(M);
    legs.check_invariants();
    assert_eq!(legs.lose(M), Some(Left::Others));
    assert_eq!(legs.input(), Some(A));
}

#[test]
fn a_leg_that_stands_still_in_a_move_of_its_own_gets_nothing() {
    let mut legs = legs(&[A, B]);
    legs.hold(B, M);
    assert_eq!(end(&mut legs, A), None);
    assert!(!legs.has_holder());
    legs.check_invariants();
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
    assert_eq!((legs.live(), legs.is_empty(), legs.input()), (0, false, None));
    legs.take_over(M, T);
    assert_eq!((legs.live(), legs.input()), (1, Some(T)));
    legs.release(M);
    legs.hold(T, N);
    legs.orphan(N);
    assert_eq!((legs.lose(N), legs.lose(N)), (Some(Left::Holder), None));
}

#[test]
fn a_leg_that_stood_still_for_a_move_wants_the_input_at_its_end_and_not_before() {
    for gone in [false, true] {
        let mut legs = legs(&[A, B]);
        legs.hold(B, M);
        assert_eq!(
            (legs.input(), legs.state()),
            (Some(A), ContestState::Calm),
            "nothing is held back for it"
        );
        legs.check_invariants();
        if gone {
            assert_eq!(end(&mut legs, A), None);
        }
        legs.take_over(M, T);
        legs.check_invariants();
        assert_eq!(legs.release(M), Some(T));
        if gone {
            legs.pass(T, Standing::Second);
            assert_eq!(legs.input(), Some(T));
        } else {
            assert_eq!(legs.claim(), Action::Ask);
        }
        legs.check_invariants();
    }
}

/// The parties of many legs are connections; the address of each is its index over ten.
fn address(party: Party) -> Option<u32> {
    match party {
        Party::Conn(id) => Some(id.index / 10),
        Party::Orphan(moving) => Some(moving.index / 10),
    }
}

fn of_indices(indices: &[u32]) -> Legs {
    let mut legs = Legs::default();
    for &index in indices {
        legs.attach(ConnId { index, generation: 1 }, Welcome::Refuse);
    }
    legs
}

fn yielding(legs: &Legs, from: u32, may_displace: bool) -> Option<u32> {
    match legs.yields(&from, may_displace, address)? {
        Party::Conn(id) => Some(id.index),
        Party::Orphan(moving) => Some(moving.index),
    }
}

#[test]
fn the_address_with_the_most_legs_gives_up_its_newest_and_the_holder_never_yields() {
    // The first holds the input.
    let legs = of_indices(&[10, 20, 11, 21, 22]);
    assert_eq!(yielding(&legs, 1, false), Some(22));
    assert_eq!(yielding(&legs, 3, false), Some(22));
    assert_eq!(yielding(&legs, 2, false), None, "the newcomer is the newest of the most");
    assert_eq!(yielding(&legs, 2, true), Some(22), "unless it may displace one of its own");
}

#[test]
fn who_never_had_the_input_yields_to_a_newcomer_from_an_address_with_no_more_than_its_own() {
    let mut legs = of_indices(&[10, 20, 30, 40]);
    assert_eq!(yielding(&legs, 5, false), Some(40));
    assert_eq!(yielding(&legs, 4, false), None);
    legs.set(ConnId { index: 40, generation: 1 }, Standing::Deposed);
    legs.set(ConnId { index: 30, generation: 1 }, Standing::Claimant);
    assert_eq!(yielding(&legs, 5, false), Some(20));
    legs.set(ConnId { index: 20, generation: 1 }, Standing::Elder);
    assert_eq!(yielding(&legs, 5, false), Some(20));
    legs.set(ConnId { index: 20, generation: 1 }, Standing::Deposed);
    assert_eq!(yielding(&legs, 5, false), None, "it may only be slow");
    assert_eq!((yielding(&legs, 4, false), yielding(&legs, 4, true)), (None, Some(40)));
}

#[test]
fn who_lost_the_input_by_silence_inherits_after_all_others_and_not_at_once() {
    let mut legs = legs(&[A, B]);
    assert_eq!(legs.pass(B, Standing::Deposed), Some(A));
    assert_eq!(legs.attach(C, Welcome::Refuse), (None, Action::Nothing));
    assert_eq!(end(&mut legs, B), None);
    assert_eq!((legs.inherit(), legs.standing(C)), (Some(C), Some(Standing::Heir)));
    assert_eq!(end(&mut legs, C), None);
    assert_eq!((legs.inherit(), legs.standing(A)), (Some(A), Some(Standing::Heir)));
    legs.check_invariants();
}

#[test]
fn a_target_is_called_as_its_source_was() {
    let mut legs = legs(&[A, B]);
    legs.set_other_name(B, "b".into());
    legs.hold(B, M);
    legs.take_over(M, T);
    assert_eq!((legs.other_name(B), legs.other_name(T)), (None, Some("b")));
    legs.release(M);
    assert_eq!(legs.detach(T), Some(Left::Others));
    assert!(legs.rivals().names.is_empty(), "nothing is kept of who has left");
}

#[test]
fn a_leg_that_waits_for_a_target_counts_and_yields_as_one_of_its_sources_address() {
    let mut legs = of_indices(&[10, 20, 21, 22]);
    let moving = MoveId { index: 22, generation: 1 };
    legs.hold(ConnId { index: 22, generation: 1 }, moving);
    legs.orphan(moving);
    assert_eq!(yielding(&legs, 3, false), Some(22));
}

#[test]
fn names_are_kept_only_of_legs_that_are_called_otherwise() {
    let mut legs = legs(&[A, B, C]);
    legs.set_other_name(B, "b".into());
    legs.pass(B, Standing::Deposed);
    assert_eq!(legs.take_other_name(B).as_deref(), Some("b"));
    legs.renamed("a", "b");
    let names = [A, B, C].map(|id| legs.other_name(id).map(str::to_owned));
    assert_eq!(names, [Some("a".into()), None, Some("a".into())]);
    legs.pass(A, Standing::Second);
    assert_eq!(legs.take_other_name(A).as_deref(), Some("a"));
    legs.renamed("b", "a");
    assert_eq!([A, B, C].map(|id| legs.other_name(id).is_some()), [false, true, false]);
}

#[test]
fn a_leg_costs_little() {
    assert!(size_of::<Leg>() <= 24, "{}", size_of::<Leg>());
    assert!(size_of::<Legs>() <= 32);
}
