//! What somebody may do here, in one word.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// From the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Role {
    /// Look at consoles.
    Read,
    /// And type, lock, send breaks.
    Write,
    /// And send others away.
    Admin,
}

impl Role {
    /// The right that a concentrator is asked to give (operator.md §3). It may give less.
    pub(crate) const fn rights(self) -> &'static str {
        match self {
            Self::Read => "spectator",
            Self::Write => "writer",
            Self::Admin => "operator",
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("{word:?} is no role: read, write or admin")),
        }
    }
}
