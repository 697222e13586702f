//! Checksums of files (APPLICATION §4): which kinds there are, and how one is written.
//!
//! Owns what is agreed on where a side does not say, or says what is not known. With the feature `sums`,
//! [`Summer`] makes them.

use serde::{Deserialize, Deserializer, Serialize};

use crate::answer::{Code, Refusal};

/// How a file is summed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sum {
    /// What every side knows.
    #[default]
    Sha256,
    /// What costs a quarter of that.
    Blake3,
}

impl Sum {
    /// Of a member that may be a word of a later version: then it is the kind that every side knows.
    pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = Option::<String>::deserialize(deserializer)?;
        Ok(if word.as_deref() == Some("blake3") { Self::Blake3 } else { Self::Sha256 })
    }

    /// Whether it needs not be said.
    pub(crate) const fn is_default(&self) -> bool {
        matches!(self, Self::Sha256)
    }
}

/// A checksum: of which kind it is, and its 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checksum {
    /// SHA-256.
    Sha256(String),
    /// BLAKE3.
    Blake3(String),
}

impl Checksum {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Sum {
        match self {
            Self::Sha256(_) => Sum::Sha256,
            Self::Blake3(_) => Sum::Blake3,
        }
    }

    /// Its digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::Blake3(digits) => digits,
        }
    }

    /// Refuses what came, which has this checksum, unless it is `wanted`.
    pub fn expect(&self, wanted: &Self) -> Result<(), Refusal> {
        if self == wanted {
            return Ok(());
        }
        Err(Refusal::new(Code::CHECKSUM, format!("the sum of what came is {}", self.digits())))
    }
}

/// A sum as it is written.
#[must_use]
pub fn digits(sum: &[u8]) -> String {
    crate::hello::hex(sum)
}

#[cfg(feature = "sums")]
mod summer {
    use super::{Checksum, Sum, digits};

    /// Makes a checksum of bytes that come piece by piece. Pieces of 16 KiB and more cost least.
    #[derive(Clone)]
    pub struct Summer {
        kind: Kind,
        /// How many bytes there were.
        at: u64,
    }

    #[derive(Clone)]
    enum Kind {
        Sha256(Box<ring::digest::Context>),
        Blake3(Box<blake3::Hasher>),
    }

    impl std::fmt::Debug for Summer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Summer").field("sum", &self.sum()).field("at", &self.at).finish()
        }
    }

    impl Summer {
        /// Of nothing yet.
        #[must_use]
        pub fn new(sum: Sum) -> Self {
            let kind = match sum {
                Sum::Sha256 => Kind::Sha256(Box::new(ring::digest::Context::new(&ring::digest::SHA256))),
                Sum::Blake3 => Kind::Blake3(Box::default()),
            };
            Self { kind, at: 0 }
        }

        /// Which kind it makes.
        #[must_use]
        pub const fn sum(&self) -> Sum {
            match self.kind {
                Kind::Sha256(_) => Sum::Sha256,
                Kind::Blake3(_) => Sum::Blake3,
            }
        }

        /// How many bytes were taken.
        #[must_use]
        pub const fn at(&self) -> u64 {
            self.at
        }

        /// Takes the next bytes.
        pub fn take(&mut self, bytes: &[u8]) {
            match &mut self.kind {
                Kind::Sha256(context) => context.update(bytes),
                Kind::Blake3(hasher) => drop(hasher.update(bytes)),
            }
            self.at += bytes.len() as u64;
        }

        /// The checksum of all that was taken.
        #[must_use]
        pub fn checksum(&self) -> Checksum {
            match &self.kind {
                Kind::Sha256(context) => Checksum::Sha256(digits(context.as_ref().clone().finish().as_ref())),
                Kind::Blake3(hasher) => Checksum::Blake3(digits(hasher.finalize().as_bytes())),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn checksums_are_those_of_the_standards_however_the_bytes_are_cut() {
            // FIPS 180-4 examples, and BLAKE3's test vectors: 0, 1, … 250, 0, 1, …
            let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            let bytes: Vec<u8> = (0..2048u32).map(|at| (at % 251) as u8).collect();
            let blake3 = "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a";
            for (bytes, wanted) in [
                (&b"abc"[..], Checksum::Sha256(sha256.to_owned())),
                (&bytes, Checksum::Blake3(blake3.to_owned())),
            ] {
                for cut in [1, 7, 1024, 4096] {
                    let mut summer = Summer::new(wanted.kind());
                    bytes.chunks(cut).for_each(|piece| summer.take(piece));
                    assert_eq!((summer.checksum(), summer.at()), (wanted.clone(), bytes.len() as u64));
                }
            }
        }
    }
}
#[cfg(feature = "sums")]
pub use summer::Summer;
