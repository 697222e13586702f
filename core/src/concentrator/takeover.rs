//! When a newcomer takes a console's input from the connection that holds it: the table of vmware.md §4,
//! alone.
//!
//! The machine is told what happened and answers what to do. It knows no connection, no clock and no byte:
//! `legs` keeps who is who, and the engine carries the orders out.
//!
//! ```text
//!            a newcomer            2 s, less LOOK                no answer in LOOK
//!   Calm ──────────────▶ Asked ─────────────────▶ Looking ──────────────────────────▶ it passes
//!    │                     ▲                       │  ▲  │ window 0
//!    │ a newcomer,         │ the move is over      │  │  └───────▶ Shut ──30 s──▶ Looking
//!    │ in a move           │                       │  └─30 s──────┘
//!    └──────────▶ Waiting ─┘          acknowledged │
//!                                                  ▼
//!                                               Lenient ──30 s, less LOOK──▶ LookingAgain ──▶ it passes
//!                                                                                │ window 0
//!                                                                                └──────────▶ Shut
//!
//!   A byte of the holder: Calm, it keeps the input. Its end: Calm; `legs` knows who succeeds it.
//! ```

use std::time::Duration;

/// How long a holder that was asked may be wholly silent: longer than any round trip, and all that a VM which
/// HA has started again waits for its input (vmware.md §4).
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How long before a deadline the runtime is asked how the peer's TCP does. A getsockopt away; a loop that is
/// late for this is late for the deadline, too.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How long a holder keeps the input whose TCP acknowledges and which says nothing: a snapshot stuns a VM for
/// seconds, and a relay acknowledges for a host that is gone.
pub(super) const LENIENCY: Duration = Duration::from_secs(30);

/// What is known of a holder since somebody else came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum ContestState {
    /// Nobody has come, or it has spoken since.
    #[default]
    Calm,
    /// Somebody came while a move kept the input: it is asked when the move is over.
    Waiting,
    /// It was asked who it is. What is typed is held back.
    Asked,
    /// The runtime was asked how its TCP does. What is typed is held back.
    Looking,
    /// Its TCP acknowledges. It gets what is typed.
    Lenient,
    /// It has had its time; the runtime was asked again.
    LookingAgain,
    /// It takes nothing now: a guest at a breakpoint. It gets what is typed, when it takes it.
    Shut,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// A newcomer wants the input.
    Claim,
    /// As `Claim`, while a move keeps the input.
    ClaimInMove,
    /// The move is over and the holder is who it was.
    MoveOver,
    /// The holder sent a byte, or proved in another way that it lives.
    Spoke,
    /// Its TCP has acknowledged something since it was asked.
    Acknowledged,
    /// It lives by the look of its TCP, and its receive window is 0.
    WindowShut,
    /// Its TCP has said nothing since it was asked.
    Nothing,
    /// The timer that was set last has fired.
    Timer,
    /// It has ended.
    Gone,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    Nothing,
    /// Ask the holder who it is, set the timer to [`ANSWER_LIMIT`] less [`LOOK`].
    Ask,
    /// Have the runtime look at its TCP, set the timer to [`LOOK`].
    Look,
    /// It may be silent for [`LENIENCY`] (less [`LOOK`] for a last look): set the timer.
    Wait,
    /// The holder keeps the input; whoever came for it is second.
    Keep,
    /// The input passes to whoever came first for it.
    Pass,
}

/// The whole of it: every state under every input.
pub(super) fn step(state: ContestState, input: Input) -> (ContestState, Action) {
    use Action as A;
    use ContestState::{Asked, Calm, Lenient, Looking, LookingAgain, Shut, Waiting};
    match (state, input) {
        (Calm, Input::Claim) => (Asked, A::Ask),
        (Calm, Input::ClaimInMove) => (Waiting, A::Nothing),
        (Calm, _) => (Calm, A::Nothing),

        (_, Input::Spoke) => (Calm, A::Keep),
        (_, Input::Gone) => (Calm, A::Nothing),
        // One question is enough, however many come.
        (state, Input::Claim | Input::ClaimInMove) => (state, A::Nothing),

        (Waiting, Input::MoveOver) => (Asked, A::Ask),
        (Waiting, _) => (Waiting, A::Nothing),
        (state, Input::MoveOver) => (state, A::Nothing),

        (Asked, Input::Timer) => (Looking, A::Look),
        (Asked, Input::Acknowledged | Input::WindowShut | Input::Nothing) => (Asked, A::Nothing),

        (Looking, Input::Acknowledged) => (Lenient, A::Wait),
        (Looking | LookingAgain, Input::WindowShut) => (Shut, A::Wait),
        (Looking | LookingAgain, Input::Timer) => (Calm, A::Pass),
        (Looking, Input::Nothing) => (Looking, A::Nothing),
        (LookingAgain, Input::Acknowledged | Input::Nothing) => (LookingAgain, A::Nothing),

        (Lenient, Input::Timer) => (LookingAgain, A::Look),
        (Shut, Input::Timer) => (Looking, A::Look),
        (Lenient | Shut, Input::Acknowledged | Input::WindowShut | Input::Nothing) => (state, A::Nothing),
    }
}

impl ContestState {
    /// What is typed waits until it is known who gets it.
    pub(super) fn holds_back(self) -> bool {
        match self {
            Self::Asked | Self::Looking => true,
            Self::Calm | Self::Waiting | Self::Lenient | Self::LookingAgain | Self::Shut => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [ContestState; 7] = [
        ContestState::Calm,
        ContestState::Waiting,
        ContestState::Asked,
        ContestState::Looking,
        ContestState::Lenient,
        ContestState::LookingAgain,
        ContestState::Shut,
    ];
    const INPUTS: [Input; 9] = [
        Input::Claim,
        Input::ClaimInMove,
        Input::MoveOver,
        Input::Spoke,
        Input::Acknowledged,
        Input::WindowShut,
        Input::Nothing,
        Input::Timer,
        Input::Gone,
    ];

    #[test]
    fn table_of_a_takeover_has_no_empty_cell() {
        use Action::{Ask, Keep, Look, Nothing, Pass, Wait};
        use ContestState::{Asked, Calm, Lenient, Looking, LookingAgain, Shut, Waiting};
        // Rows: states; columns: inputs, in the order above. Written from vmware.md §4.
        #[rustfmt::skip]
        let table: [[(ContestState, Action); 9]; 7] = [
            // Claim               ClaimInMove              MoveOver                 Spoke
            // Acknowledged             WindowShut               Nothing                  Timer
            // Gone
            [(Asked, Ask),         (Waiting, Nothing),      (Calm, Nothing),         (Calm, Nothing), (Calm, Nothing),       (Calm, Nothing),         (Calm, Nothing),         (Calm, Nothing),      (Calm, Nothing)],
            [(Waiting, Nothing),   (Waiting, Nothing),      (Asked, Ask),            (Calm, Keep), (Waiting, Nothing),      (Waiting, Nothing),      (Waiting, Nothing),      (Waiting, Nothing),   (Calm, Nothing)],
            [(Asked, Nothing),     (Asked, Nothing),        (Asked, Nothing),        (Calm, Keep), (Asked, Nothing),        (Asked, Nothing),        (Asked, Nothing),        (Looking, Look),      (Calm, Nothing)],
            [(Looking, Nothing),   (Looking, Nothing),      (Looking, Nothing),      (Calm, Keep), (Lenient, Wait),         (Shut, Wait),            (Looking, Nothing),      (Calm, Pass),         (Calm, Nothing)],
            [(Lenient, Nothing),   (Lenient, Nothing),      (Lenient, Nothing),      (Calm, Keep), (Lenient, Nothing),      (Lenient, Nothing),      (Lenient, Nothing),      (LookingAgain, Look), (Calm, Nothing)],
            [(LookingAgain, Nothing), (LookingAgain, Nothing), (LookingAgain, Nothing), (Calm, Keep), (LookingAgain, Nothing), (Shut, Wait),          (LookingAgain, Nothing), (Calm, Pass),         (Calm, Nothing)],
            [(Shut, Nothing),      (Shut, Nothing),         (Shut, Nothing),         (Calm, Keep), (Shut, Nothing),         (Shut, Nothing),         (Shut, Nothing),         (Looking, Look),      (Calm, Nothing)],
        ];
        for (row, state) in STATES.into_iter().enumerate() {
            for (column, input) in INPUTS.into_iter().enumerate() {
                assert_eq!(step(state, input), table[row][column], "{state:?} under {input:?}");
            }
        }
    }

    #[test]
    fn a_holder_that_says_nothing_in_any_way_loses_the_input_after_two_timers() {
        let mut state = step(ContestState::Calm, Input::Claim).0;
        let mut actions = Vec::new();
        while state != ContestState::Calm {
            let (next, action) = step(state, Input::Timer);
            state = next;
            actions.push(action);
        }
        assert_eq!(actions, [Action::Look, Action::Pass]);
    }

    #[test]
    fn no_state_is_kept_by_timers_alone_but_that_of_a_move() {
        // A window that is 0 is looked at again and again; each look needs an answer to keep the input.
        for state in STATES.into_iter().filter(|&state| state != ContestState::Waiting) {
            let mut state = state;
            for _ in 0..3 {
                state = step(state, Input::Timer).0;
            }
            assert_eq!(state, ContestState::Calm);
        }
    }
}
