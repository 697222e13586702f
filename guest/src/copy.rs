//! Copies (APPLICATION §4): what is answered, and the last line.

use serde::{Deserialize, Serialize};

use crate::pack::Pack;

/// The answer to `put`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PutOk {
    /// How much is there from an earlier try.
    pub offset: u64,
    /// How the bytes are packed: as the header says, or not.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

/// The answer to `get`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GetOk {
    /// Where the bytes begin.
    pub offset: u64,
    /// Where they end.
    pub size: u64,
    /// The file's permissions.
    pub mode: u32,
    /// Tells this state of the file from others.
    pub tag: String,
    /// How the bytes are packed: as the header says, or not.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

/// The last line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Whole {
    /// How many bytes the file has.
    pub size: u64,
    /// Of all of them.
    pub sha256: String,
}

/// A sum as it is written.
#[must_use]
pub fn digits(sum: &[u8]) -> String {
    crate::hello::hex(sum)
}
