//! The corpus that comes with the program: `conformance/corpus/*.txt`, written by hand from the reference.

use super::{ParseError, Transcript, parse};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// The files of the corpus, by name; phrases come first.
        pub const FILES: &[(&str, &str)] =
            &[$((concat!("corpus/", $name), include_str!(concat!("../../corpus/", $name)))),*];
    };
}

files!(
    "phrases.txt",
    "session.txt",
    "telnet.txt",
    "identity.txt",
    "vmotion.txt",
    "robustness.txt",
    "clients.txt",
    "admin.txt"
);

/// The whole corpus.
///
/// # Errors
///
/// None, as long as the tests pass: the files are part of the program.
pub fn corpus() -> Result<Vec<Transcript>, ParseError> {
    parse(FILES)
}
