//! Which options are on, both sides, for one connection.
//!
//! **Owns** the option states of that connection, eight at most. **Refuses to know** what an option means
//! and when to ask for it. **Implements** RFC 1143 by [`qmethod`].

use super::codes::{Opt, Verb};
use super::qmethod::{self, Answer, Event, OptionState};

/// How many options a [`Negotiator`] can have: eight states of four bits fill one `u32` per side.
/// Nobody needs more than five.
pub const OPTION_LIMIT: usize = 8;

/// Whether we agree when the peer asks for an option.
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

/// An option that was negotiated to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose side.
    pub side: Side,
    /// Which option.
    pub opt: Opt,
    /// On or off. Off may also be a refusal: the option was off, we asked for it, and the peer said no.
    pub on: bool,
}

/// The result of a received negotiation.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What to send now.
    pub send: Option<(Verb, Opt)>,
    /// The option is now on or off, and was not before.
    pub change: Option<Change>,
    /// It was a valid answer to a request of ours. A peer that does not speak telnet would hardly send one.
    pub answered: bool,
}

/// The option states of one connection: 24 bytes, no heap.
///
/// The options are those of a static table of at most [`OPTION_LIMIT`] entries. Any other option is refused
/// when the peer asks for it, and nothing else is ever said about it, so it cannot loop (RFC 1143 §2). DO
/// TIMING-MARK is answered WILL each time and has no state (RFC 860).
#[derive(Clone, Copy, Debug)]
pub struct Negotiator {
    table: &'static [OptionPolicy],
    us: u32,
    him: u32,
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

    /// Requests an option on (WILL, DO) or off (WONT, DONT), whatever the table says; the returned
    /// negotiation must be sent. `None` if there is nothing to send: the option is like that already, or a
    /// request is under way, or it is not in the table.
    #[must_use]
    pub fn want(&mut self, side: Side, opt: Opt, on: bool) -> Option<(Verb, Opt)> {
        let index = self.index(opt)?;
        let event = if on { Event::WantOn } else { Event::WantOff };
        let (next, answer) = qmethod::step(self.at(side, index), event);
        self.set(side, index, next);
        answer.map(|answer| (verb_for(side, answer), opt))
    }

    /// Handles a negotiation from the peer. Constant cost; answers with at most one negotiation.
    pub fn handle(&mut self, verb: Verb, opt: Opt) -> Outcome {
        let (side, peer_on) = meaning(verb);
        if opt == Opt::TIMING_MARK {
            // A mark, not a state: clients throw output away until it is answered (telnet.md §7).
            return Outcome { send: (verb == Verb::Do).then_some((Verb::Will, opt)), ..Outcome::default() };
        }
        let Some(index) = self.index(opt) else {
            return Outcome {
                send: peer_on.then(|| (verb_for(side, Answer::Off), opt)),
                ..Outcome::default()
            };
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
            send: answer.map(|answer| (verb_for(side, answer), opt)),
            change: (after != before && !after.is_open()).then_some(Change {
                side,
                opt,
                on: after == OptionState::Yes,
            }),
            answered: answers(before, peer_on),
        }
    }

    /// Whether `verb opt` would be a valid answer to a request of ours.
    pub fn would_answer(&self, verb: Verb, opt: Opt) -> bool {
        let (side, peer_on) = meaning(verb);
        answers(self.state(side, opt), peer_on)
    }

    /// Whether an option is on.
    pub fn is_on(&self, side: Side, opt: Opt) -> bool {
        self.state(side, opt) == OptionState::Yes
    }

    /// Where an option stands; `No` for one that is not in the table.
    pub fn state(&self, side: Side, opt: Opt) -> OptionState {
        self.index(opt).map_or(OptionState::No, |index| self.at(side, index))
    }

    fn index(&self, opt: Opt) -> Option<usize> {
        self.table.iter().position(|policy| policy.opt == opt)
    }

    fn at(&self, side: Side, index: usize) -> OptionState {
        let states = match side {
            Side::Us => self.us,
            Side::Him => self.him,
        };
        OptionState::ALL[(states >> (4 * index) & 0xf) as usize]
    }

    fn set(&mut self, side: Side, index: usize, state: OptionState) {
        let states = match side {
            Side::Us => &mut self.us,
            Side::Him => &mut self.him,
        };
        *states = *states & !(0xf << (4 * index)) | (state as u32) << (4 * index);
    }
}

/// Which side a received verb is about, and whether it says on.
const fn meaning(verb: Verb) -> (Side, bool) {
    match verb {
        Verb::Will => (Side::Him, true),
        Verb::Wont => (Side::Him, false),
        Verb::Do => (Side::Us, true),
        Verb::Dont => (Side::Us, false),
    }
}

/// The verb that says on or off about a side.
const fn verb_for(side: Side, answer: Answer) -> Verb {
    match (side, answer) {
        (Side::Us, Answer::On) => Verb::Will,
        (Side::Us, Answer::Off) => Verb::Wont,
        (Side::Him, Answer::On) => Verb::Do,
        (Side::Him, Answer::Off) => Verb::Dont,
    }
}

/// A request for on may be answered either way, a request for off only by off.
const fn answers(state: OptionState, peer_on: bool) -> bool {
    match state {
        OptionState::No | OptionState::Yes => false,
        OptionState::WantYes | OptionState::WantYesOpposite => true,
        OptionState::WantNo | OptionState::WantNoOpposite => !peer_on,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OptionState::{No, WantNo, WantNoOpposite, WantYes, WantYesOpposite, Yes};
    use Verb::{Do, Dont, Will, Wont};

    const ACCEPTED: Opt = Opt::SGA;
    const REFUSED: Opt = Opt::LINEMODE;
    const TABLE: &[OptionPolicy] = &[
        OptionPolicy { opt: Opt::BINARY, us: true, him: false },
        OptionPolicy { opt: ACCEPTED, us: true, him: true },
        OptionPolicy { opt: REFUSED, us: false, him: false },
    ];

    fn at(side: Side, opt: Opt, state: OptionState) -> Negotiator {
        let mut negotiator = Negotiator::new(TABLE);
        let index = negotiator.index(opt).unwrap();
        negotiator.set(side, index, state);
        negotiator
    }

    /// What happens to an option at the peer's side, in the words of RFC 1143 §7; our side is the
    /// same table with WILL for DO and WONT for DONT.
    #[derive(Clone, Copy, Debug)]
    enum When {
        RxWill,
        RxWont,
        AskOn,
        AskOff,
    }
    use When::{AskOff, AskOn, RxWill, RxWont};

    /// The 24 rows of one side; both sides make 48.
    const ROWS: [(OptionState, When, OptionState, Option<Verb>); 24] = [
        (No, RxWill, Yes, Some(Do)),
        (No, RxWont, No, None),
        (No, AskOn, WantYes, Some(Do)),
        (No, AskOff, No, None),
        (Yes, RxWill, Yes, None),
        (Yes, RxWont, No, Some(Dont)),
        (Yes, AskOn, Yes, None),
        (Yes, AskOff, WantNo, Some(Dont)),
        (WantNo, RxWill, No, None),
        (WantNo, RxWont, No, None),
        (WantNo, AskOn, WantNoOpposite, None),
        (WantNo, AskOff, WantNo, None),
        (WantNoOpposite, RxWill, Yes, None),
        (WantNoOpposite, RxWont, WantYes, Some(Do)),
        (WantNoOpposite, AskOn, WantNoOpposite, None),
        (WantNoOpposite, AskOff, WantNo, None),
        (WantYes, RxWill, Yes, None),
        (WantYes, RxWont, No, None),
        (WantYes, AskOn, WantYes, None),
        (WantYes, AskOff, WantYesOpposite, None),
        (WantYesOpposite, RxWill, WantNo, Some(Dont)),
        (WantYesOpposite, RxWont, No, None),
        (WantYesOpposite, AskOn, WantYes, None),
        (WantYesOpposite, AskOff, WantYesOpposite, None),
    ];

    fn mirrored(verb: Verb) -> Verb {
        match verb {
            Will => Do,
            Wont => Dont,
            Do => Will,
            Dont => Wont,
        }
    }

    #[test]
    fn all_48_rows_of_rfc_1143_hold_on_the_wire() {
        let mut rows = 0;
        for side in [Side::Him, Side::Us] {
            let word = |verb: Verb| if side == Side::Him { verb } else { mirrored(verb) };
            for (state, when, next, says) in ROWS {
                let mut negotiator = at(side, ACCEPTED, state);
                let send = match when {
                    RxWill => negotiator.handle(word(Will), ACCEPTED).send,
                    RxWont => negotiator.handle(word(Wont), ACCEPTED).send,
                    AskOn => negotiator.want(side, ACCEPTED, true),
                    AskOff => negotiator.want(side, ACCEPTED, false),
                };
                assert_eq!(negotiator.state(side, ACCEPTED), next, "{side:?} {state:?} {when:?}");
                assert_eq!(send, says.map(|verb| (word(verb), ACCEPTED)), "{side:?} {state:?} {when:?}");
                let other = if side == Side::Us { Side::Him } else { Side::Us };
                assert_eq!(negotiator.state(other, ACCEPTED), No, "the other side is untouched");
                rows += 1;
            }
        }
        assert_eq!(rows, 48);
    }

    #[test]
    fn a_refused_option_is_refused_once_per_request_and_stays_off() {
        let mut negotiator = Negotiator::new(TABLE);
        for opt in [REFUSED, Opt(99)] {
            for (request, refusal) in [(Will, Dont), (Do, Wont)] {
                for _ in 0..2 {
                    let outcome = negotiator.handle(request, opt);
                    assert_eq!(outcome, Outcome { send: Some((refusal, opt)), ..Outcome::default() });
                }
            }
            // nc and telnetlib answer even these: no answer, no loop (telnet.md §3).
            assert_eq!(negotiator.handle(Wont, opt), Outcome::default());
            assert_eq!(negotiator.handle(Dont, opt), Outcome::default());
        }
    }

    #[test]
    fn a_timing_mark_is_answered_each_time_and_leaves_no_state() {
        let mut negotiator = Negotiator::new(TABLE);
        for _ in 0..3 {
            let outcome = negotiator.handle(Do, Opt::TIMING_MARK);
            assert_eq!(outcome.send, Some((Will, Opt::TIMING_MARK)));
            assert_eq!(outcome.change, None);
            assert!(!negotiator.is_on(Side::Us, Opt::TIMING_MARK));
        }
        for verb in [Will, Wont, Dont] {
            assert_eq!(negotiator.handle(verb, Opt::TIMING_MARK), Outcome::default());
        }
    }

    #[test]
    fn only_what_settles_is_a_change_and_a_refusal_is_one() {
        let change = |on| Some(Change { side: Side::Him, opt: ACCEPTED, on });
        for (before, verb, reported) in [
            (No, Will, change(true)),
            (No, Wont, None),
            (Yes, Will, None),
            (Yes, Wont, change(false)),
            (WantYes, Will, change(true)),
            (WantYes, Wont, change(false)),
            (WantNo, Wont, change(false)),
            (WantNo, Will, change(false)),
            (WantNoOpposite, Will, change(true)),
            (WantNoOpposite, Wont, None),
            (WantYesOpposite, Will, None),
            (WantYesOpposite, Wont, change(false)),
        ] {
            let outcome = at(Side::Him, ACCEPTED, before).handle(verb, ACCEPTED);
            assert_eq!(outcome.change, reported, "{before:?} {verb}");
        }
    }

    #[test]
    fn an_answer_is_what_an_open_question_expects() {
        for state in OptionState::ALL {
            for (verb, valid) in [
                (Will, matches!(state, WantYes | WantYesOpposite)),
                (Wont, state.is_open()),
                // The other side has asked nothing.
                (Do, false),
                (Dont, false),
            ] {
                let mut negotiator = at(Side::Him, ACCEPTED, state);
                assert_eq!(negotiator.would_answer(verb, ACCEPTED), valid, "{state:?} {verb}");
                assert_eq!(negotiator.handle(verb, ACCEPTED).answered, valid, "{state:?} {verb}");
            }
        }
        assert!(!Negotiator::new(TABLE).would_answer(Will, Opt(99)));
    }

    #[test]
    fn eight_options_keep_their_states_apart() {
        const WIDE: &[OptionPolicy] = &{
            let mut table = [OptionPolicy { opt: Opt(0), us: true, him: true }; OPTION_LIMIT];
            let mut at = 0;
            while at < OPTION_LIMIT {
                table[at].opt = Opt(100 + at as u8);
                at += 1;
            }
            table
        };
        let mut negotiator = Negotiator::new(WIDE);
        for index in 0..OPTION_LIMIT {
            negotiator.set(Side::Us, index, OptionState::ALL[index % 6]);
            negotiator.set(Side::Him, index, OptionState::ALL[(index + 3) % 6]);
        }
        for index in 0..OPTION_LIMIT {
            let opt = Opt(100 + index as u8);
            assert_eq!(negotiator.state(Side::Us, opt), OptionState::ALL[index % 6]);
            assert_eq!(negotiator.state(Side::Him, opt), OptionState::ALL[(index + 3) % 6]);
        }
    }

    #[test]
    fn a_negotiator_is_24_bytes() {
        assert!(size_of::<Negotiator>() <= 24, "{}", size_of::<Negotiator>());
    }
}
