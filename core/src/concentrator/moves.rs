//! The moves under way, by id and by secret.
//!
//! Knows who takes part in each and where it stands ([`vmotion`](super::vmotion)), and carries none of them
//! out (`moving`).

use std::collections::HashMap;

use crate::time::Instant;

use super::admission::Source;
use super::id::{ConnId, ConsoleId, MoveId};
use super::slab::Slab;
use super::vmotion::{self, Action, Input, MoveState, SECRET};
use crate::keyed::Keyed;

/// A move and whom it concerns.
#[derive(Debug)]
pub(super) struct Move {
    state: MoveState,
    pub(super) console: ConsoleId,
    pub(super) sequence: Box<[u8]>,
    secret: [u8; SECRET],
    pub(super) source: Option<ConnId>,
    /// Where the source is, or was.
    pub(super) from: Source,
    pub(super) target: Option<ConnId>,
    /// When BEGIN came: the VM stands still from then on.
    pub(super) begun: Instant,
    /// Where GOAHEAD stands in the source's control bytes, from and to. Both 0 once it was taken back.
    pub(super) goahead: (u64, u64),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Moves {
    moves: Slab<MoveId, Move>,
    /// Of moves that no target has completed.
    by_secret: HashMap<[u8; SECRET], MoveId, Keyed>,
}

impl Moves {
    pub(super) fn new(keys: Keyed) -> Self {
        Self { moves: Slab::new(), by_secret: HashMap::with_hasher(keys) }
    }

    /// A move begins on a connection.
    pub(super) fn begin(
        &mut self,
        console: ConsoleId,
        (source, from): (ConnId, Source),
        sequence: &[u8],
        secret: [u8; SECRET],
        goahead: (u64, u64),
        now: Instant,
    ) -> MoveId {
        let id = self.moves.insert(Move {
            state: MoveState::Begun,
            console,
            sequence: sequence.into(),
            secret,
            source: Some(source),
            from,
            target: None,
            begun: now,
            goahead,
        });
        self.by_secret.insert(secret, id);
        id
    }

    pub(super) fn get(&self, id: MoveId) -> Option<&Move> {
        self.moves.get(id)
    }

    pub(super) fn get_mut(&mut self, id: MoveId) -> Option<&mut Move> {
        self.moves.get_mut(id)
    }

    /// The move that a VMOTION-PEER names. Knowing a secret is all it takes, so it is good for one move.
    pub(super) fn named(&self, sequence_and_secret: &[u8]) -> Option<MoveId> {
        let (sequence, secret) = sequence_and_secret.split_last_chunk::<SECRET>()?;
        let &id = self.by_secret.get(secret)?;
        self.moves.get(id).filter(|moved| *moved.sequence == *sequence).map(|_| id)
    }

    /// Something happened to a move: what is to be done about it. `None`: there is no such move any more.
    pub(super) fn step(&mut self, id: MoveId, input: Input) -> Option<Action> {
        let moved = self.moves.get_mut(id)?;
        let (next, action) = vmotion::step(moved.state, input);
        moved.state = next;
        Some(action)
    }

    /// Nobody can become the target of this move any more.
    pub(super) fn forget_secret(&mut self, id: MoveId) {
        if let Some(moved) = self.moves.get(id) {
            self.by_secret.remove(&moved.secret);
        }
    }

    /// Forgets a move.
    pub(super) fn end(&mut self, id: MoveId) -> Option<Move> {
        let moved = self.moves.remove(id)?;
        self.by_secret.remove(&moved.secret);
        Some(moved)
    }

    /// Every move.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (MoveId, &Move)> {
        self.moves.iter()
    }
}

impl Move {
    pub(super) fn state(&self) -> MoveState {
        self.state
    }

    /// Whether this connection is the source of a move that its target has completed: its last bytes are
    /// still taken in, and nothing else it says counts.
    pub(super) fn has_left(&self, id: ConnId) -> bool {
        self.state == MoveState::Adopting && self.source == Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concentrator::address::Address;

    const CONSOLE: ConsoleId = ConsoleId { index: 0, generation: 1 };
    const SOURCE: ConnId = ConnId { index: 0, generation: 1 };

    fn begun() -> (Moves, MoveId) {
        let mut moves = Moves::new(Keyed(1, 2));
        let from = Source::of(&Address::Local);
        let id = moves.begin(CONSOLE, (SOURCE, from), b"seq", *b"secret!!", (0, 10), Instant::ZERO);
        (moves, id)
    }

    #[test]
    fn a_move_is_named_by_sequence_and_secret_together() {
        let (moves, id) = begun();
        assert_eq!(moves.named(b"seqsecret!!"), Some(id));
        for wrong in [&b"secret!!"[..], b"seqsecret!?", b"sexsecret!!", b"sseqsecret!!", b"", b"secret!"] {
            assert_eq!(moves.named(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_secret_is_good_for_one_move() {
        let (mut moves, id) = begun();
        moves.forget_secret(id);
        assert_eq!(moves.named(b"seqsecret!!"), None);
        assert!(moves.get(id).is_some());
        assert!(moves.end(id).is_some());
        assert!(moves.end(id).is_none() && moves.step(id, Input::Peer).is_none());
    }
}
