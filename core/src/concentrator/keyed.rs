//! The hash key of the engine's tables.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Tables are hashed under a key from the engine's seed: strangers cannot aim at one bucket, and a run can be
/// repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed(pub(super) u64, pub(super) u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
