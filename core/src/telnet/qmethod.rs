//! RFC 1143, the Q method: one option, one side, one pure function.
//!
//! It does not know which side or which option it decides about, nor who asks.

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
pub enum State {
    /// Off, agreed.
    #[default]
    No = 0,
    /// On, agreed. The only state in which the option is in force.
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

impl State {
    /// All six, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::No, Self::Yes, Self::WantNo, Self::WantNoOpposite, Self::WantYes, Self::WantYesOpposite];

    /// Whether a question of ours is unanswered.
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

/// One row of the table at [`State`]: the next state, and what must be sent (RFC 1143 §7).
pub const fn step(state: State, event: Event) -> (State, Option<Answer>) {
    use Answer::{Off, On};
    use Event::{PeerOff, PeerOn, WantOff, WantOn};
    use State::{No, WantNo, WantNoOpposite, WantYes, WantYesOpposite, Yes};

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
