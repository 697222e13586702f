//! Whether a connection to a VM listener becomes TLS, and when its own words may go out (tls-in-band.md §4).
//!
//! It begins by listening: a host that wants TLS says so first, with a TLS record or with WILL
//! AUTHENTICATION. Until it is known how the peer is to be talked to, nothing goes out but the bytes of the
//! upgrade itself.
//!
//! ```text
//!            first byte 0x16 (auto)
//!  Waiting ─────────────────────────────────────────────────────────▶ TLS
//!     │ WILL 37: DO 37, SEND            ┌── START: ACCEPT ────────────▶ TLS
//!     ├───────────────────────────▶ Asked
//!     │ time up, required: DO 37        ├── none in common, WONT, 3 s ─▶ clear, or refused if required
//!     ├──────────▶ Invited ─ WILL: SEND ┘
//!     │                └── WONT, 3 s ──────────────────────────────────▶ refused
//!     └ time up, not required ─────────────────────────────────────────▶ clear
//! ```
//!
//! That time is 300 ms; under auto it is 2 s until the first byte, and 300 ms from then.

use super::config::InBandTls;

/// A connection that has not been told anything.
#[derive(Debug)]
pub(super) struct Upgrade {
    state: UpgradeState,
    policy: InBandTls,
    /// TLS from the first byte is as welcome as telnet.
    auto: bool,
    /// Bytes of the upgrade, for the socket, in clear.
    clear: Vec<u8>,
    taken: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum UpgradeState {
    /// For the peer to say what it wants.
    Waiting,
    /// DO AUTHENTICATION is out, SEND is not.
    Invited,
    /// SEND is out.
    Asked,
    /// It stays in clear, once the clear bytes are taken.
    Released,
}

/// What happened, as far as an upgrade goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The first byte came; whether a TLS record begins with it.
    FirstByte {
        /// It is 0x16.
        tls: bool,
    },
    /// WILL AUTHENTICATION.
    Offered,
    /// WONT AUTHENTICATION.
    Declined,
    /// IS SSL START.
    Started,
    /// IS, with anything else.
    NothingInCommon,
    /// The time for the peer to go on has passed.
    TimeUp,
}

/// What is to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing: wait on.
    Wait,
    /// Wait on, as long as for one who was known to speak telnet from the start.
    WaitForOffer,
    /// Say DO AUTHENTICATION.
    Invite,
    /// Say SEND.
    Ask,
    /// TLS begins with the next byte. `accept`: after saying ACCEPT.
    Tls {
        /// It was started in telnet.
        accept: bool,
    },
    /// Go on in clear.
    Clear,
    /// Close: TLS is required here.
    Refuse,
}

impl Upgrade {
    /// `policy` is what becomes of AUTHENTICATION; `auto`: TLS from the first byte is taken, too.
    pub(super) fn new(policy: InBandTls, auto: bool) -> Self {
        Self { state: UpgradeState::Waiting, policy, auto, clear: Vec::new(), taken: 0 }
    }

    /// One step. Constant cost.
    pub(super) fn step(&mut self, step: Step) -> Verdict {
        let auto = self.auto;
        if matches!(step, Step::FirstByte { .. }) {
            // There is only one.
            self.auto = false;
        }
        let (state, verdict) = next(self.state, step, self.policy, auto);
        self.state = state;
        verdict
    }

    /// What it says is not to be relied upon before TLS is up.
    pub(super) fn is_required(&self) -> bool {
        self.policy == InBandTls::Require && self.state != UpgradeState::Released
    }

    /// It takes a WILL AUTHENTICATION.
    pub(super) fn is_open(&self) -> bool {
        self.policy != InBandTls::Off && self.state != UpgradeState::Released
    }

    /// Nothing has come of it and nothing more will.
    pub(super) fn release(&mut self) {
        self.state = UpgradeState::Released;
    }

    /// It is over once its last bytes are taken.
    pub(super) fn is_over(&self) -> bool {
        self.state == UpgradeState::Released && self.pending().is_empty()
    }

    /// Where to put bytes of the upgrade.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.clear
    }

    /// Those not yet taken.
    pub(super) fn pending(&self) -> &[u8] {
        &self.clear[self.taken..]
    }

    /// The socket took so many of them.
    pub(super) fn took(&mut self, n: usize) {
        self.taken += n.min(self.pending().len());
    }
}

/// The table. What a state does not wait for is ignored.
fn next(state: UpgradeState, step: Step, policy: InBandTls, auto: bool) -> (UpgradeState, Verdict) {
    use InBandTls::{Off, Offer, Require};
    use UpgradeState::{Asked, Invited, Released, Waiting};
    let fall_back = match policy {
        Off | Offer => (Released, Verdict::Clear),
        Require => (state, Verdict::Refuse),
    };
    match (state, step) {
        (Waiting, Step::FirstByte { tls: true }) if auto => (state, Verdict::Tls { accept: false }),
        // It speaks telnet, and there is nothing else to wait for.
        (Waiting, Step::FirstByte { .. }) if policy == Off => (Released, Verdict::Clear),
        (Waiting, Step::FirstByte { .. }) if auto => (state, Verdict::WaitForOffer),
        (Waiting, Step::Offered) if policy != Off => (Asked, Verdict::Ask),
        (Waiting, Step::TimeUp) if policy == Require => (Invited, Verdict::Invite),
        (Waiting, Step::TimeUp) => (Released, Verdict::Clear),
        (Invited, Step::Offered) => (Asked, Verdict::Ask),
        (Asked, Step::Started) => (state, Verdict::Tls { accept: true }),
        (Asked, Step::NothingInCommon) | (Invited | Asked, Step::Declined | Step::TimeUp) => fall_back,
        (Waiting | Invited | Asked | Released, _) => (state, Verdict::Wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use InBandTls::{Off, Offer, Require};
    use UpgradeState::{Asked, Invited, Released, Waiting};

    const TLS: Step = Step::FirstByte { tls: true };
    const TELNET: Step = Step::FirstByte { tls: false };

    type Outcomes = [(UpgradeState, Verdict); 3];

    /// State, what happens, and for each policy (off, offer, require) what comes of it, without auto.
    #[rustfmt::skip]
    const ROWS: &[(UpgradeState, Step, Outcomes)] = &[
        (Waiting, TLS, [(Released, Verdict::Clear), (Waiting, Verdict::Wait), (Waiting, Verdict::Wait)]),
        (Waiting, TELNET, [(Released, Verdict::Clear), (Waiting, Verdict::Wait), (Waiting, Verdict::Wait)]),
        (Waiting, Step::Offered, [(Waiting, Verdict::Wait), (Asked, Verdict::Ask), (Asked, Verdict::Ask)]),
        (Waiting, Step::Declined, [(Waiting, Verdict::Wait); 3]),
        (Waiting, Step::Started, [(Waiting, Verdict::Wait); 3]),
        (Waiting, Step::NothingInCommon, [(Waiting, Verdict::Wait); 3]),
        (Waiting, Step::TimeUp, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Invited, Verdict::Invite)]),
        (Invited, Step::Offered, [(Asked, Verdict::Ask); 3]),
        (Invited, Step::Declined, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Invited, Verdict::Refuse)]),
        (Invited, Step::Started, [(Invited, Verdict::Wait); 3]),
        (Invited, Step::NothingInCommon, [(Invited, Verdict::Wait); 3]),
        (Invited, Step::TimeUp, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Invited, Verdict::Refuse)]),
        (Asked, Step::Offered, [(Asked, Verdict::Wait); 3]),
        (Asked, Step::Declined, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Asked, Verdict::Refuse)]),
        (Asked, Step::Started, [(Asked, Verdict::Tls { accept: true }); 3]),
        (Asked, Step::NothingInCommon, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Asked, Verdict::Refuse)]),
        (Asked, Step::TimeUp, [(Released, Verdict::Clear), (Released, Verdict::Clear), (Asked, Verdict::Refuse)]),
    ];

    #[test]
    fn every_row_of_the_table() {
        for (state, step, outcomes) in ROWS {
            for (policy, outcome) in [Off, Offer, Require].into_iter().zip(outcomes) {
                assert_eq!(next(*state, *step, policy, false), *outcome, "{state:?} {step:?} {policy:?}");
            }
        }
    }

    #[test]
    fn first_byte_of_a_record_begins_tls_where_either_is_welcome() {
        for policy in [Off, Offer, Require] {
            assert_eq!(next(Waiting, TLS, policy, true), (Waiting, Verdict::Tls { accept: false }));
            let telnet =
                if policy == Off { (Released, Verdict::Clear) } else { (Waiting, Verdict::WaitForOffer) };
            assert_eq!(next(Waiting, TELNET, policy, true), telnet);
            for state in [Invited, Asked, Released] {
                assert_eq!(next(state, TLS, policy, true), (state, Verdict::Wait), "{state:?}");
            }
        }
    }

    #[test]
    fn nothing_undoes_a_release() {
        for step in
            [TLS, TELNET, Step::Offered, Step::Declined, Step::Started, Step::NothingInCommon, Step::TimeUp]
        {
            for policy in [Off, Offer, Require] {
                assert_eq!(next(Released, step, policy, true), (Released, Verdict::Wait), "{step:?}");
            }
        }
    }
}
