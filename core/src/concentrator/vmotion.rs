//! One move of one serial port: the table of vmotion.md §4 and §5, alone.
//!
//! The machine is told what happened and answers what to do; it knows no connection, no clock and no
//! byte. The engine carries the orders out (`moving.rs`).
//!
//! ```text
//!                BEGIN                 GOAHEAD taken              PEER               COMPLETE
//!   (no move) ─────────▶ Begun ────────────────────▶ Away ───────────────▶ Peered ───────────▶ Adopting
//!                          │ 4 s: NOTNOW              │ ▲ target ends ◀──── │                    │ source ends,
//!                          ▼                          │                     │                    ▼ or is quiet
//!                        Over         source ends     ▼                     ▼                   Over
//!                                                AwayOrphan ─────PEER──▶ PeeredOrphan ──COMPLETE──▶ Over
//!
//!   ABORT, 60 s, or (Away, 5 s after BEGIN) the source talking again: Over, and the source goes on
//!   60 s without a source: Over, and the VM is gone
//! ```

use std::time::Duration;

/// How long GOAHEAD may wait for room in the source's socket. The host gives up at 5 s; NOTNOW must
/// reach it before (flow.md §4).
pub(super) const GOAHEAD_LIMIT: Duration = Duration::from_secs(4);

/// A source that prints this long after BEGIN, no target having come, runs again: its host has given up
/// waiting, and such a host sends no ABORT (vmotion.md §4).
pub(super) const GIVE_UP: Duration = Duration::from_secs(5);

/// A move in which nothing happens for this long has ended without a word (vmotion.md §4).
pub(super) const MOVE_LIMIT: Duration = Duration::from_secs(60);

/// After COMPLETE the source's last bytes may still be on their way to us: they were printed before
/// anything the target prints. They are taken in until the source ends, or nothing has come for this long.
pub(super) const QUIET: Duration = Duration::from_millis(10);

/// A source that does not close after its VM has moved away is closed (vmotion.md §4).
pub(super) const SOURCE_LINGER: Duration = Duration::from_secs(5);

/// Length of a secret in bytes, as in VMware's kit; longer ones are untried with hosts.
pub(super) const SECRET: usize = 8;

/// Where a move is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MoveState {
    /// BEGIN is in, GOAHEAD waits for the source's socket. Input is held from here on.
    Begun,
    /// The source has its GOAHEAD.
    Away,
    /// As `Away`, and the source has ended.
    AwayOrphan,
    /// A target knew sequence and secret.
    Peered,
    /// As `Peered`, and the source has ended.
    PeeredOrphan,
    /// The target has taken over; the source's last bytes go before its first.
    Adopting,
    /// The move has ended; whatever comes late means nothing.
    Over,
}

/// What can happen to a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// BEGIN from the connection that feeds the port: the source, or (Adopting) the target.
    Begin,
    /// The socket has taken GOAHEAD.
    Goahead,
    /// PEER with this move's sequence and secret.
    Peer,
    /// COMPLETE with this move's sequence, from the accepted target.
    Complete,
    /// ABORT from the source.
    Abort,
    /// Serial data from the source within [`GIVE_UP`] of BEGIN.
    Bytes,
    /// Serial data from the source later than that.
    LateBytes,
    /// The source has ended.
    SourceEnd,
    /// The accepted target has ended.
    TargetEnd,
    /// [`GOAHEAD_LIMIT`] has passed.
    GoaheadTimer,
    /// [`MOVE_LIMIT`] has passed.
    MoveTimer,
    /// [`QUIET`] has passed without a byte from the source.
    QuietTimer,
}

/// What to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Action {
    /// Nothing, and nothing is wrong.
    Nothing,
    /// A word that means nothing here: log it, count it.
    OutOfPlace,
    /// This move is dead; begin the next one on the same connection.
    Restart,
    /// Hand over to the target at once, then begin the next move on it.
    HandOverAndRestart,
    /// Note how long GOAHEAD took; wait for a target.
    NoteGoahead,
    /// Answer PEER-OK; this connection is the target now, an earlier one is not.
    AcceptPeer,
    /// The target has gone; wait for another one.
    LoseTarget,
    /// The target feeds the port and gets the input that was held; the source is still read.
    TakeOver,
    /// As `TakeOver`, the source being gone already.
    TakeOverAlone,
    /// The source is done with: the target's output follows.
    HandOver,
    /// As `HandOver`; the target has ended too, so the VM is gone.
    HandOverAndLose,
    /// Go on without the source.
    Orphan,
    /// Forget sequence and secret; the source goes on and gets the input that was held.
    Resume,
    /// As `Resume`, because a timer said so.
    ResumeLate,
    /// Replace GOAHEAD by NOTNOW; the source goes on.
    Refuse,
    /// The VM is gone.
    Lose,
    /// As `Lose`, because a timer said so.
    LoseLate,
}

/// The whole dialogue: every state under every input.
pub(super) fn step(state: MoveState, input: Input) -> (MoveState, Action) {
    use Action as A;
    use MoveState::{Adopting, Away, AwayOrphan, Begun, Over, Peered, PeeredOrphan};
    match (state, input) {
        (Begun, Input::Begin) => (Over, A::Restart),
        (Begun, Input::Goahead) => (Away, A::NoteGoahead),
        (Begun, Input::Peer | Input::Complete) => (Begun, A::OutOfPlace),
        (Begun, Input::Abort) => (Over, A::Resume),
        (Begun, Input::Bytes | Input::TargetEnd | Input::QuietTimer) => (Begun, A::Nothing),
        (Begun, Input::LateBytes | Input::MoveTimer) => (Over, A::ResumeLate),
        (Begun, Input::SourceEnd) => (Over, A::Lose),
        (Begun, Input::GoaheadTimer) => (Over, A::Refuse),

        (Away, Input::Begin) => (Over, A::Restart),
        (Away, Input::Peer) => (Peered, A::AcceptPeer),
        (Away, Input::Complete) => (Away, A::OutOfPlace),
        (Away, Input::Abort) => (Over, A::Resume),
        (Away, Input::LateBytes | Input::MoveTimer) => (Over, A::ResumeLate),
        (Away, Input::SourceEnd) => (AwayOrphan, A::Orphan),
        (
            Away,
            Input::Goahead | Input::Bytes | Input::TargetEnd | Input::GoaheadTimer | Input::QuietTimer,
        ) => (Away, A::Nothing),

        (AwayOrphan, Input::Peer) => (PeeredOrphan, A::AcceptPeer),
        (AwayOrphan, Input::Begin | Input::Complete | Input::Abort) => (AwayOrphan, A::OutOfPlace),
        (AwayOrphan, Input::MoveTimer) => (Over, A::LoseLate),
        (
            AwayOrphan,
            Input::Goahead
            | Input::Bytes
            | Input::LateBytes
            | Input::SourceEnd
            | Input::TargetEnd
            | Input::GoaheadTimer
            | Input::QuietTimer,
        ) => (AwayOrphan, A::Nothing),

        (Peered, Input::Begin) => (Over, A::Restart),
        (Peered, Input::Peer) => (Peered, A::AcceptPeer),
        (Peered, Input::Complete) => (Adopting, A::TakeOver),
        (Peered, Input::Abort) => (Over, A::Resume),
        (Peered, Input::MoveTimer) => (Over, A::ResumeLate),
        (Peered, Input::SourceEnd) => (PeeredOrphan, A::Orphan),
        (Peered, Input::TargetEnd) => (Away, A::LoseTarget),
        (
            Peered,
            Input::Goahead | Input::Bytes | Input::LateBytes | Input::GoaheadTimer | Input::QuietTimer,
        ) => (Peered, A::Nothing),

        (PeeredOrphan, Input::Peer) => (PeeredOrphan, A::AcceptPeer),
        (PeeredOrphan, Input::Complete) => (Over, A::TakeOverAlone),
        (PeeredOrphan, Input::Begin | Input::Abort) => (PeeredOrphan, A::OutOfPlace),
        (PeeredOrphan, Input::TargetEnd) => (AwayOrphan, A::LoseTarget),
        (PeeredOrphan, Input::MoveTimer) => (Over, A::LoseLate),
        (
            PeeredOrphan,
            Input::Goahead
            | Input::Bytes
            | Input::LateBytes
            | Input::SourceEnd
            | Input::GoaheadTimer
            | Input::QuietTimer,
        ) => (PeeredOrphan, A::Nothing),

        (Adopting, Input::Begin) => (Over, A::HandOverAndRestart),
        (Adopting, Input::Peer | Input::Complete | Input::Abort) => (Adopting, A::OutOfPlace),
        (Adopting, Input::SourceEnd | Input::QuietTimer | Input::MoveTimer) => (Over, A::HandOver),
        (Adopting, Input::TargetEnd) => (Over, A::HandOverAndLose),
        (Adopting, Input::Goahead | Input::Bytes | Input::LateBytes | Input::GoaheadTimer) => {
            (Adopting, A::Nothing)
        }

        (Over, Input::Begin | Input::Peer | Input::Complete | Input::Abort) => (Over, A::OutOfPlace),
        (
            Over,
            Input::Goahead
            | Input::Bytes
            | Input::LateBytes
            | Input::SourceEnd
            | Input::TargetEnd
            | Input::GoaheadTimer
            | Input::MoveTimer
            | Input::QuietTimer,
        ) => (Over, A::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [MoveState; 7] = [
        MoveState::Begun,
        MoveState::Away,
        MoveState::AwayOrphan,
        MoveState::Peered,
        MoveState::PeeredOrphan,
        MoveState::Adopting,
        MoveState::Over,
    ];
    const INPUTS: [Input; 12] = [
        Input::Begin,
        Input::Goahead,
        Input::Peer,
        Input::Complete,
        Input::Abort,
        Input::Bytes,
        Input::LateBytes,
        Input::SourceEnd,
        Input::TargetEnd,
        Input::GoaheadTimer,
        Input::MoveTimer,
        Input::QuietTimer,
    ];

    #[test]
    fn table_of_a_move_has_no_empty_cell() {
        use Action::*;
        // Rows: states; columns: inputs, in the order above. Written from vmotion.md §4 and §5.
        #[rustfmt::skip]
        let table: [[(MoveState, Action); 12]; 7] = {
            let (b, a, ao, p, po, ad, x) = (STATES[0], STATES[1], STATES[2], STATES[3], STATES[4], STATES[5], STATES[6]);
            [
                // Begin                   Goahead            Peer               Complete             Abort             Bytes          LateBytes         SourceEnd      TargetEnd            GoaheadTimer   MoveTimer         QuietTimer
                [(x, Restart),             (a, NoteGoahead),  (b, OutOfPlace),   (b, OutOfPlace),     (x, Resume),      (b, Nothing),  (x, ResumeLate),  (x, Lose),     (b, Nothing),        (x, Refuse),   (x, ResumeLate),  (b, Nothing)],
                [(x, Restart),             (a, Nothing),      (p, AcceptPeer),   (a, OutOfPlace),     (x, Resume),      (a, Nothing),  (x, ResumeLate),  (ao, Orphan),  (a, Nothing),        (a, Nothing),  (x, ResumeLate),  (a, Nothing)],
                [(ao, OutOfPlace),         (ao, Nothing),     (po, AcceptPeer),  (ao, OutOfPlace),    (ao, OutOfPlace), (ao, Nothing), (ao, Nothing),    (ao, Nothing), (ao, Nothing),       (ao, Nothing), (x, LoseLate),    (ao, Nothing)],
                [(x, Restart),             (p, Nothing),      (p, AcceptPeer),   (ad, TakeOver),      (x, Resume),      (p, Nothing),  (p, Nothing),     (po, Orphan),  (a, LoseTarget),     (p, Nothing),  (x, ResumeLate),  (p, Nothing)],
                [(po, OutOfPlace),         (po, Nothing),     (po, AcceptPeer),  (x, TakeOverAlone),  (po, OutOfPlace), (po, Nothing), (po, Nothing),    (po, Nothing), (ao, LoseTarget),    (po, Nothing), (x, LoseLate),    (po, Nothing)],
                [(x, HandOverAndRestart),  (ad, Nothing),     (ad, OutOfPlace),  (ad, OutOfPlace),    (ad, OutOfPlace), (ad, Nothing), (ad, Nothing),    (x, HandOver), (x, HandOverAndLose),(ad, Nothing), (x, HandOver),    (x, HandOver)],
                [(x, OutOfPlace),          (x, Nothing),      (x, OutOfPlace),   (x, OutOfPlace),     (x, OutOfPlace),  (x, Nothing),  (x, Nothing),     (x, Nothing),  (x, Nothing),        (x, Nothing),  (x, Nothing),     (x, Nothing)],
            ]
        };
        for (row, state) in STATES.into_iter().enumerate() {
            for (column, input) in INPUTS.into_iter().enumerate() {
                assert_eq!(step(state, input), table[row][column], "{state:?} under {input:?}");
            }
        }
    }

    #[test]
    fn every_state_has_a_timer_that_ends_it() {
        for state in STATES {
            let (after, _) = step(state, Input::MoveTimer);
            assert_eq!(after, MoveState::Over, "{state:?}");
        }
    }

    #[test]
    fn no_way_through_the_table_leaves_a_move_without_an_end() {
        // From every state that can be reached, some sequence of timers alone ends the move.
        for state in STATES {
            let mut state = state;
            for input in [Input::GoaheadTimer, Input::QuietTimer, Input::MoveTimer] {
                state = step(state, input).0;
            }
            assert_eq!(state, MoveState::Over);
        }
    }
}
