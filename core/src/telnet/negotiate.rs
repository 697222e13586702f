//! Which options are on, both sides, for one connection.

use super::codes::{Opt, Verb};
use super::qmethod::{self, Answer, Event, State};

/// How many options one [`Negotiator`] can keep: sixteen four-bit states fill a `u64` per side.
pub const OPTION_LIMIT: usize = 16;

/// What we are willing to have switched on when the peer asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionPolicy {
    /// The option.
    pub opt: Opt,
    /// Whether we accept the peer's DO.
    pub us: bool,
    /// Whether we accept the peer's WILL.
    pub him: bool,
}

/// Whose behaviour an option is about (RFC 1143 §7 calls them `us` and `him`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Ours: we say WILL and WONT, the peer DO and DONT.
    Us,
    /// The peer's: it says WILL and WONT, we say DO and DONT.
    Him,
}

/// An option that has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose side.
    pub side: Side,
    /// Which option.
    pub opt: Opt,
    /// On or off. Off also reports a refusal: the option was off, we asked, the peer said no.
    pub on: bool,
}

/// What came of a received negotiation.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be sent now.
    pub send: Option<(Verb, Opt)>,
    /// The option settled on or off and was not settled that way before.
    pub change: Option<Change>,
    /// It was a valid answer to a question we had open: a raw peer would hardly have sent it.
    pub answered: bool,
}

/// The option states of one connection: 32 bytes, no heap.
///
/// Options are those of a static table of at most [`OPTION_LIMIT`] entries. One that is not in it is
/// refused when the peer asks for it and otherwise never answered, which cannot loop (RFC 1143 §2).
/// DO TIMING-MARK is answered WILL each time and has no state (RFC 860).
#[derive(Clone, Copy, Debug)]
pub struct Negotiator {
    table: &'static [OptionPolicy],
    us: u64,
    him: u64,
}

impl Negotiator {
    /// All options off.
    ///
    /// # Panics
    ///
    /// If the table has more than [`OPTION_LIMIT`] entries; in a `const` that fails the build.
    pub const fn new(table: &'static [OptionPolicy]) -> Self {
        assert!(table.len() <= OPTION_LIMIT, "too many options for a negotiator");
        Self { table, us: 0, him: 0 }
    }

    /// Asks for an option on (WILL, DO) or off (WONT, DONT), whatever the table would accept; the
    /// returned negotiation must be sent. `None`: it is so already, or is being asked, or waits for
    /// an answer, or the option is not in the table.
    #[must_use]
    pub fn want(&mut self, side: Side, opt: Opt, on: bool) -> Option<(Verb, Opt)> {
        let index = self.index(opt)?;
        let event = if on { Event::WantOn } else { Event::WantOff };
        let (next, answer) = qmethod::step(self.at(side, index), event);
        self.set(side, index, next);
        answer.map(|answer| (spoken(side, answer), opt))
    }

    /// Takes what the peer said. Constant cost; at most one negotiation in answer.
    pub fn receive(&mut self, verb: Verb, opt: Opt) -> Outcome {
        let (side, peer_on) = heard(verb);
        if opt == Opt::TIMING_MARK {
            // A mark, not a state: clients throw output away until it is answered (telnet.md §3.7).
            return Outcome { send: (verb == Verb::Do).then_some((Verb::Will, opt)), ..Outcome::default() };
        }
        let Some(index) = self.index(opt) else {
            return Outcome { send: peer_on.then(|| (spoken(side, Answer::Off), opt)), ..Outcome::default() };
        };
        let policy = self.table[index];
        let event = if peer_on {
            let accept = match side {
                Side::Us => policy.us,
                Side::Him => policy.him,
            };
            Event::PeerOn { accept }
        } else {
            Event::PeerOff
        };
        let before = self.at(side, index);
        let (after, answer) = qmethod::step(before, event);
        self.set(side, index, after);
        Outcome {
            send: answer.map(|answer| (spoken(side, answer), opt)),
            change: (after != before && !after.is_open()).then_some(Change {
                side,
                opt,
                on: after == State::Yes,
            }),
            answered: answers(before, peer_on),
        }
    }

    /// Whether `verb opt` would be a valid answer to a question we have open.
    pub fn would_answer(&self, verb: Verb, opt: Opt) -> bool {
        let (side, peer_on) = heard(verb);
        answers(self.state(side, opt), peer_on)
    }

    /// Whether an option is in force.
    pub fn is_on(&self, side: Side, opt: Opt) -> bool {
        self.state(side, opt) == State::Yes
    }

    /// Where an option stands; `No` for one that is not in the table.
    pub fn state(&self, side: Side, opt: Opt) -> State {
        self.index(opt).map_or(State::No, |index| self.at(side, index))
    }

    fn index(&self, opt: Opt) -> Option<usize> {
        self.table.iter().position(|policy| policy.opt == opt)
    }

    fn at(&self, side: Side, index: usize) -> State {
        let states = match side {
            Side::Us => self.us,
            Side::Him => self.him,
        };
        State::ALL[(states >> (4 * index) & 0xf) as usize]
    }

    fn set(&mut self, side: Side, index: usize, state: State) {
        let states = match side {
            Side::Us => &mut self.us,
            Side::Him => &mut self.him,
        };
        *states = *states & !(0xf << (4 * index)) | (state as u64) << (4 * index);
    }
}

/// The side a received verb is about, and whether it says on.
const fn heard(verb: Verb) -> (Side, bool) {
    match verb {
        Verb::Will => (Side::Him, true),
        Verb::Wont => (Side::Him, false),
        Verb::Do => (Side::Us, true),
        Verb::Dont => (Side::Us, false),
    }
}

/// The verb with which we say on or off about a side.
const fn spoken(side: Side, answer: Answer) -> Verb {
    match (side, answer) {
        (Side::Us, Answer::On) => Verb::Will,
        (Side::Us, Answer::Off) => Verb::Wont,
        (Side::Him, Answer::On) => Verb::Do,
        (Side::Him, Answer::Off) => Verb::Dont,
    }
}

/// A request for on may be answered either way, a request for off only by off.
const fn answers(state: State, peer_on: bool) -> bool {
    match state {
        State::No | State::Yes => false,
        State::WantYes | State::WantYesOpposite => true,
        State::WantNo | State::WantNoOpposite => !peer_on,
    }
}
