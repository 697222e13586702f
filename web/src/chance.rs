//! Numbers that nobody guesses.

use std::fmt::Write;

use ring::rand::{SecureRandom, SystemRandom};

/// # Panics
///
/// The system has no random numbers, which Linux always has.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// So many bytes as hexadecimal digits.
pub(crate) fn hex<const N: usize>() -> String {
    bytes::<N>().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
