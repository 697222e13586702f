//! The hash key of tables whose keys strangers choose.
//!
//! Owns nothing but the key, which is made of a seed: strangers cannot aim at one bucket, and a run can be
//! repeated. Refuses to know what is looked up.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Hashes under these two halves of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed(pub(crate) u64, pub(crate) u64);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
