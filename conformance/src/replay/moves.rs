//! The moves (vMotions) of a dialogue: a ledger that listens and judges nobody (vmotion.md).
//!
//! ```text
//!            40              41                 44 = seq+secret        45          46
//! (nothing) ───▶ Begun ───────────▶ GoneAhead ───────────▶ PeerSeen ───▶ PeerOk ───▶ Completed
//!                  │ 43                 │                      │            │
//!                  ▼                    └──────────────────────┴────────────┴─ 48 ─▶ Aborted
//!               Refused                 another 40, or data on the source 5 s after 40: GivenUp
//! ```

use std::time::Duration;

use super::dialogue::{Act, By, Step};
use crate::telnet::Word;
use crate::telnet::names::code;

/// One move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// The connection of the host that the VM leaves.
    pub source: usize,
    /// The connection of the host that it goes to.
    pub target: Option<usize>,
    /// The source's name for this move.
    pub sequence: Vec<u8>,
    /// What GOAHEAD carried: sequence and secret.
    pub goahead: Option<Vec<u8>>,
    /// How far it has come.
    pub state: State,
    /// When it was begun, and in which frame.
    pub begun: (Duration, u64),
    /// An answer to it came when it was over.
    pub crossed: bool,
}

/// How far a move has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Begun,
    Refused,
    GoneAhead,
    PeerSeen,
    PeerOk,
    Completed,
    Aborted,
    GivenUp,
}

impl Move {
    /// Whether it can still complete.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Begun | State::GoneAhead | State::PeerSeen | State::PeerOk)
    }

    /// Whether the proxy has to hold back what clients type.
    #[must_use]
    pub fn holds_input(&self) -> bool {
        matches!(self.state, State::GoneAhead | State::PeerSeen | State::PeerOk)
    }
}

/// How many moves of a dialogue came to which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub begun: usize,
    pub completed: usize,
    pub aborted: usize,
    pub refused: usize,
    /// Neither completed, aborted nor refused: the host went on without a word, or the end is not there.
    pub unfinished: usize,
}

impl Tally {
    /// Counts `moves`.
    pub fn of<'a>(moves: impl Iterator<Item = &'a Move>) -> Self {
        let mut tally = Self::default();
        for step in moves {
            tally.begun += 1;
            match step.state {
                State::Completed => tally.completed += 1,
                State::Aborted => tally.aborted += 1,
                State::Refused => tally.refused += 1,
                _ => tally.unfinished += 1,
            }
        }
        tally
    }
}

/// What a step means for the moves. The number is the move's place in [`Ledger::moves`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nothing.
    None,
    /// A move began; the one that it replaced, if the connection had another.
    Begun(usize, Option<usize>),
    /// GOAHEAD, as it should be.
    GoneAhead(usize),
    /// NOTNOW, as it should be.
    Refused(usize),
    /// A PEER with a sequence and secret that fit.
    Peer(usize),
    /// A PEER that fits no open move. The move whose sequence it names, if there is one.
    WrongPeer(Option<usize>),
    /// PEER-OK, as it should be.
    PeerOk(usize),
    /// COMPLETE, as it should be.
    Completed(usize),
    /// ABORT, as it should be.
    Aborted(usize),
    /// The source talks on after the host's time for the move is over.
    GivenUp(usize),
    /// An answer that was on its way when the move was called off.
    Crossed,
    /// A word of a move that fits none.
    OutOfPlace,
}

/// All moves of a dialogue so far.
#[derive(Default, Debug)]
pub struct Ledger {
    /// In the order of their BEGINs.
    pub moves: Vec<Move>,
}

impl Ledger {
    /// The newest move away from `conn`.
    #[must_use]
    pub fn leaving(&self, conn: usize) -> Option<usize> {
        self.moves.iter().rposition(|m| m.source == conn)
    }

    /// The newest move to `conn`.
    #[must_use]
    pub fn arriving(&self, conn: usize) -> Option<usize> {
        self.moves.iter().rposition(|m| m.target == Some(conn))
    }

    /// Takes the next step of the dialogue.
    pub fn hear(&mut self, step: &Step) -> Meaning {
        let Act::Say(by, word) = &step.act else { return Meaning::None };
        let conn = step.conn;
        match (by, word, word.as_vmware()) {
            (By::Vm, _, Some((code::BEGIN, sequence))) => self.begin(step, sequence),
            (By::Vm, _, Some((code::PEER, what))) => self.peer(conn, what),
            (By::Vm, _, Some((code::COMPLETE, sequence))) => self.complete(conn, sequence),
            (By::Vm, _, Some((code::ABORT, _))) => self.abort(conn),
            (By::Proxy, _, Some((code::GOAHEAD, what))) => self.goahead(conn, what),
            (By::Proxy, _, Some((code::NOTNOW, what))) => self.notnow(conn, what),
            (By::Proxy, _, Some((code::PEER_OK, what))) => self.peer_ok(conn, what),
            (By::Vm, Word::Data(_), _) => self.source_talks(conn, step.mark.time),
            _ => Meaning::None,
        }
    }

    fn begin(&mut self, step: &Step, sequence: &[u8]) -> Meaning {
        let old = self.leaving(step.conn).filter(|n| self.moves[*n].is_open());
        if let Some(old) = old {
            self.moves[old].state = State::GivenUp;
        }
        self.moves.push(Move {
            source: step.conn,
            target: None,
            sequence: sequence.to_vec(),
            goahead: None,
            state: State::Begun,
            begun: (step.mark.time, step.mark.frame),
            crossed: false,
        });
        Meaning::Begun(self.moves.len() - 1, old)
    }

    fn goahead(&mut self, conn: usize, what: &[u8]) -> Meaning {
        let found = self.leaving(conn).filter(|n| {
            let m = &self.moves[*n];
            m.state == State::Begun && what.len() > m.sequence.len() && what.starts_with(&m.sequence)
        });
        let Some(n) = found else { return self.crossed(self.leaving(conn), what) };
        (self.moves[n].state, self.moves[n].goahead) = (State::GoneAhead, Some(what.to_vec()));
        Meaning::GoneAhead(n)
    }

    fn notnow(&mut self, conn: usize, what: &[u8]) -> Meaning {
        let begun = |m: &Move| m.state == State::Begun && m.sequence == what;
        let Some(n) = self.leaving(conn).filter(|n| begun(&self.moves[*n])) else {
            return self.crossed(self.leaving(conn), what);
        };
        self.moves[n].state = State::Refused;
        Meaning::Refused(n)
    }

    /// An answer that fits the move `n` only if that was called off while it was on its way.
    fn crossed(&mut self, n: Option<usize>, what: &[u8]) -> Meaning {
        let Some(m) = n.map(|n| &mut self.moves[n]) else { return Meaning::OutOfPlace };
        let over = matches!(m.state, State::Aborted | State::GivenUp);
        if over && !std::mem::replace(&mut m.crossed, over) && what.starts_with(&m.sequence) {
            return Meaning::Crossed;
        }
        Meaning::OutOfPlace
    }

    fn peer(&mut self, conn: usize, what: &[u8]) -> Meaning {
        let fits = |m: &Move| m.holds_input() && m.source != conn && m.goahead.as_deref() == Some(what);
        if self.leaving(conn).is_none()
            && let Some(n) = self.moves.iter().rposition(fits)
        {
            let m = &mut self.moves[n];
            (m.state, m.target) = (State::PeerSeen, Some(conn));
            return Meaning::Peer(n);
        }
        let named = |m: &Move| !m.sequence.is_empty() && what.starts_with(&m.sequence);
        Meaning::WrongPeer(self.moves.iter().rposition(named))
    }

    fn peer_ok(&mut self, conn: usize, what: &[u8]) -> Meaning {
        let fits = |m: &Move| m.state == State::PeerSeen && what.starts_with(&m.sequence);
        let Some(n) = self.arriving(conn).filter(|n| fits(&self.moves[*n])) else {
            return self.crossed(self.arriving(conn), what);
        };
        self.moves[n].state = State::PeerOk;
        Meaning::PeerOk(n)
    }

    fn complete(&mut self, conn: usize, sequence: &[u8]) -> Meaning {
        let fits = |m: &Move| m.state == State::PeerOk && m.sequence == sequence;
        let Some(n) = self.arriving(conn).filter(|n| fits(&self.moves[*n])) else {
            return Meaning::OutOfPlace;
        };
        self.moves[n].state = State::Completed;
        Meaning::Completed(n)
    }

    fn abort(&mut self, conn: usize) -> Meaning {
        let Some(n) = self.leaving(conn).filter(|n| self.moves[*n].is_open()) else {
            return Meaning::OutOfPlace;
        };
        self.moves[n].state = State::Aborted;
        Meaning::Aborted(n)
    }

    fn source_talks(&mut self, conn: usize, now: Duration) -> Meaning {
        let over = |m: &Move| {
            matches!(m.state, State::Begun | State::GoneAhead) && now.saturating_sub(m.begun.0) > HOST_WAITS
        };
        let Some(n) = self.leaving(conn).filter(|n| over(&self.moves[*n])) else { return Meaning::None };
        self.moves[n].state = State::GivenUp;
        Meaning::GivenUp(n)
    }
}

/// How long a host waits for an answer (`serialN.vmotionLimit`, by default).
pub(super) const HOST_WAITS: Duration = Duration::from_secs(5);
