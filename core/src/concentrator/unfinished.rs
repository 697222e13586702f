//! What connections hold of messages that have not ended yet: the front of a subnegotiation of a host's, of a
//! TLS handshake's message.
//!
//! **Owns** one number, which the engine keeps: how much that is for all of them together. Each may hold a
//! little ([`SMALL`]) whatever the others do; who holds more has to give it up while all together hold more
//! than [`LIMIT`]. So a crowd of strangers who each begin something long cannot take more than that, and a VM
//! that says what VMs say is not asked. **Refuses to know** what is held, and by whom.

/// How much is held. Every call has constant cost.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    held: usize,
}

impl Unfinished {
    /// A connection that held `before` holds `after`. Returns whether it has to give that up, which is told
    /// by another call.
    #[must_use]
    pub(super) fn change(&mut self, before: usize, after: usize) -> bool {
        self.held = self.held.saturating_sub(before) + after;
        self.held > LIMIT && after > SMALL
    }

    /// A connection that held this is gone, or its message is over.
    pub(super) fn release(&mut self, before: usize) {
        self.held = self.held.saturating_sub(before);
    }
}

/// What all connections together may hold, beside the little that each may: 64 of the longest messages there
/// are.
const LIMIT: usize = 4 << 20;

/// What each may hold whatever the others do: more than a ClientHello has, or what a VM says of itself.
const SMALL: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_much_gives_it_up_while_all_hold_too_much() {
        let mut all = Unfinished::default();
        for _ in 0..64 {
            assert!(!all.change(0, 64 << 10));
        }
        assert!(!all.change(0, SMALL), "a little is never too much");
        assert!(all.change(0, SMALL + 1));
        assert!(!all.change(SMALL + 1, 0));
        all.release(64 << 10);
        assert!(!all.change(0, 32 << 10));
    }
}
