//! RFC 1143, the Q method: one option, one side, one pure function.
//!
//! Owns the table. Refuses to know which side or which option it decides about, and why. Implements RFC 1143
//! §7.

/// Where one side of one option stands (RFC 1143 §7; the queue bit is part of the name).
///
/// ```text
/// state            peer on                peer off        want on          want off
/// No               accept: Yes, send On   -               WantYes, On      -
///                  refuse: No, send Off
/// Yes              -                      No, send Off    -                WantNo, Off
/// WantNo           No (peer is wrong)     No              WantNoOpposite   -
/// WantNoOpposite   Yes (peer is wrong)    WantYes, On     -                WantNo
/// WantYes          Yes                    No              -                WantYesOpposite
/// WantYesOpposite  WantNo, send Off       No              WantYes          -
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum OptionState {
    /// Off, agreed.
    #[default]
    No = 0,
    /// On, agreed. The only state in which the option is on.
    Yes = 1,
    /// We said off and wait for the answer.
    WantNo = 2,
    /// As `WantNo`, but we have since changed our mind and will ask for on.
    WantNoOpposite = 3,
    /// We asked for on and wait for the answer.
    WantYes = 4,
    /// As `WantYes`, but we have since changed our mind and will say off.
    WantYesOpposite = 5,
}

impl OptionState {
    /// All six, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::No, Self::Yes, Self::WantNo, Self::WantNoOpposite, Self::WantYes, Self::WantYesOpposite];

    /// Whether a request of ours is unanswered.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::No | Self::Yes)
    }
}

/// What happens to one side of one option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer said WILL (or DO); `accept` is our policy, asked only when the option is off.
    PeerOn {
        /// Whether we are willing.
        accept: bool,
    },
    /// The peer said WONT (or DONT).
    PeerOff,
    /// We would like it on.
    WantOn,
    /// We would like it off.
    WantOff,
}

/// What must be sent: DO (or WILL), DONT (or WONT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// DO about the peer's side, WILL about ours.
    On,
    /// DONT about the peer's side, WONT about ours.
    Off,
}

/// One row of the table at [`OptionState`]: the next state, and what must be sent (RFC 1143 §7).
pub const fn step(state: OptionState, event: Event) -> (OptionState, Option<Answer>) {
    use Answer::{Off, On};
    use Event::{PeerOff, PeerOn, WantOff, WantOn};
    use OptionState::{No, WantNo, WantNoOpposite, WantYes, WantYesOpposite, Yes};

    match (state, event) {
        (No, PeerOn { accept: true }) => (Yes, Some(On)),
        (No, PeerOn { accept: false }) => (No, Some(Off)),
        (No, PeerOff) => (No, None),
        (No, WantOn) => (WantYes, Some(On)),
        (No, WantOff) => (No, None),

        (Yes, PeerOn { .. }) => (Yes, None),
        (Yes, PeerOff) => (No, Some(Off)),
        (Yes, WantOn) => (Yes, None),
        (Yes, WantOff) => (WantNo, Some(Off)),

        // "Off" answered by "on" is the peer's error; the RFC says how to survive it.
        (WantNo, PeerOn { .. }) => (No, None),
        (WantNo, PeerOff) => (No, None),
        (WantNo, WantOn) => (WantNoOpposite, None),
        (WantNo, WantOff) => (WantNo, None),

        (WantNoOpposite, PeerOn { .. }) => (Yes, None),
        (WantNoOpposite, PeerOff) => (WantYes, Some(On)),
        (WantNoOpposite, WantOn) => (WantNoOpposite, None),
        (WantNoOpposite, WantOff) => (WantNo, None),

        (WantYes, PeerOn { .. }) => (Yes, None),
        (WantYes, PeerOff) => (No, None),
        (WantYes, WantOn) => (WantYes, None),
        (WantYes, WantOff) => (WantYesOpposite, None),

        (WantYesOpposite, PeerOn { .. }) => (WantNo, Some(Off)),
        (WantYesOpposite, PeerOff) => (No, None),
        (WantYesOpposite, WantOn) => (WantYes, None),
        (WantYesOpposite, WantOff) => (WantYesOpposite, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Off, On};
    use Event::{PeerOff, PeerOn, WantOff, WantOn};
    use OptionState::{No, WantNo, WantNoOpposite, WantYes, WantYesOpposite, Yes};

    const ACCEPT: Event = PeerOn { accept: true };
    const REFUSE: Event = PeerOn { accept: false };

    /// Six states, each with on (accepted and refused), off, and our two wishes.
    const ROWS: [(OptionState, Event, OptionState, Option<Answer>); 30] = [
        (No, ACCEPT, Yes, Some(On)),
        (No, REFUSE, No, Some(Off)),
        (No, PeerOff, No, None),
        (No, WantOn, WantYes, Some(On)),
        (No, WantOff, No, None),
        (Yes, ACCEPT, Yes, None),
        (Yes, REFUSE, Yes, None),
        (Yes, PeerOff, No, Some(Off)),
        (Yes, WantOn, Yes, None),
        (Yes, WantOff, WantNo, Some(Off)),
        (WantNo, ACCEPT, No, None),
        (WantNo, REFUSE, No, None),
        (WantNo, PeerOff, No, None),
        (WantNo, WantOn, WantNoOpposite, None),
        (WantNo, WantOff, WantNo, None),
        (WantNoOpposite, ACCEPT, Yes, None),
        (WantNoOpposite, REFUSE, Yes, None),
        (WantNoOpposite, PeerOff, WantYes, Some(On)),
        (WantNoOpposite, WantOn, WantNoOpposite, None),
        (WantNoOpposite, WantOff, WantNo, None),
        (WantYes, ACCEPT, Yes, None),
        (WantYes, REFUSE, Yes, None),
        (WantYes, PeerOff, No, None),
        (WantYes, WantOn, WantYes, None),
        (WantYes, WantOff, WantYesOpposite, None),
        (WantYesOpposite, ACCEPT, WantNo, Some(Off)),
        (WantYesOpposite, REFUSE, WantNo, Some(Off)),
        (WantYesOpposite, PeerOff, No, None),
        (WantYesOpposite, WantOn, WantYes, None),
        (WantYesOpposite, WantOff, WantYesOpposite, None),
    ];

    #[test]
    fn every_row_of_the_table_is_stepped_as_written() {
        for (state, event, next, answer) in ROWS {
            assert_eq!(step(state, event), (next, answer), "{state:?} {event:?}");
        }
        let mut seen: Vec<_> = ROWS.iter().map(|row| format!("{:?} {:?}", row.0, row.1)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), ROWS.len(), "a row is written twice");
    }

    /// Two ends of one option, the words between them, and the wishes each may still have. One end is
    /// the side the option is about (it says WILL, WONT), the other its peer (DO, DONT): for both it
    /// is On and Off.
    #[derive(Clone)]
    struct World {
        ends: [OptionState; 2],
        /// `to[i]`: on its way to end `i`, oldest first.
        to: [Vec<Answer>; 2],
        wishes: [u8; 2],
    }

    impl World {
        fn happens(&self, end: usize, event: Event) -> Self {
            let mut next = self.clone();
            let (state, answer) = step(self.ends[end], event);
            next.ends[end] = state;
            next.to[1 - end].extend(answer);
            next
        }

        fn successors(&self, accepts: [bool; 2]) -> Vec<Self> {
            let mut all = Vec::new();
            for end in [0, 1] {
                if let Some(&word) = self.to[end].first() {
                    let accept = accepts[end];
                    let mut next = self.clone();
                    next.to[end].remove(0);
                    all.push(next.happens(end, if word == On { PeerOn { accept } } else { PeerOff }));
                }
                if self.wishes[end] > 0 {
                    for wish in [WantOn, WantOff] {
                        let mut next = self.clone();
                        next.wishes[end] -= 1;
                        all.push(next.happens(end, wish));
                    }
                }
            }
            all
        }
    }

    #[test]
    fn two_negotiators_fall_silent_and_agree_under_every_interleaving() {
        for accepts in [[true, true], [true, false], [false, true], [false, false]] {
            let mut seen = std::collections::BTreeSet::new();
            let start = World { ends: [No, No], to: [Vec::new(), Vec::new()], wishes: [4, 4] };
            let mut todo = vec![start];
            while let Some(world) = todo.pop() {
                let key = format!("{:?} {:?} {:?}", world.ends, world.to, world.wishes);
                if !seen.insert(key) {
                    continue;
                }
                if world.to.iter().all(Vec::is_empty) {
                    assert!(world.ends.iter().all(|end| !end.is_open()), "still waiting: {:?}", world.ends);
                    assert_eq!(world.ends[0], world.ends[1], "silent, and of two minds");
                }
                todo.extend(world.successors(accepts));
            }
            assert!(seen.len() > 300, "the search must not be trivial: {}", seen.len());
        }
    }

    #[test]
    fn no_interleaving_goes_on_for_ever_once_nobody_wishes_anything() {
        // From every reachable world without wishes, the longest chain of deliveries is short.
        fn longest(world: &World, accepts: [bool; 2], depth: usize) -> usize {
            assert!(depth < 40, "a loop");
            world
                .successors(accepts)
                .iter()
                .map(|next| 1 + longest(next, accepts, depth + 1))
                .max()
                .unwrap_or(0)
        }
        let start = World { ends: [No, No], to: [Vec::new(), Vec::new()], wishes: [2, 2] };
        assert!(longest(&start, [true, true], 0) >= 4);
        assert!(longest(&start, [false, true], 0) >= 4);
    }
}
