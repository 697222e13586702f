//! Randomness from the operating system, for the engine's secrets and hash maps.
//!
//! **Owns** how it is asked for. **Refuses to know** what the engine derives from it.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// 32 random bytes that nobody can guess. Blocks only on a machine that has just booted and has gathered no
/// randomness yet.
pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        match getrandom(&mut seed[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_seeds_differ() {
        assert_ne!(super::seed().unwrap(), super::seed().unwrap());
    }
}
