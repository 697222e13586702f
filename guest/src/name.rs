//! What things are called (APPLICATION §1): names for people, keys for what belongs together.
//!
//! Owns which texts may be one. A name is safe in a path, in a log and on a terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::answer::{Code, Refusal};

/// A name: `shell`, `log/messages`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// One to four parts of letters, digits and `._-+@:`.
    pub fn new(text: impl Into<String>) -> Result<Self, Refusal> {
        let text = text.into();
        let is_part = |part: &str| {
            (1..=MAX_PART).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+@:".contains(&byte))
                && !matches!(part, "." | "..")
        };
        if text.split('/').all(is_part) && text.split('/').count() <= MAX_PARTS {
            Ok(Self(text))
        } else {
            Err(Refusal::new(Code::BAD_LINE, format!("{text:?} is no name")))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What tells the streams of one process from those of others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// 16 to 64 letters and digits.
    pub fn new(text: impl Into<String>) -> Result<Self, Refusal> {
        let text = text.into();
        if (16..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text))
        } else {
            Err(Refusal::new(Code::BAD_LINE, "a key has 16 to 64 letters and digits"))
        }
    }

    /// A key that nobody can guess, of so many random bytes.
    #[must_use]
    pub fn random(bytes: [u8; 16]) -> Self {
        Self(crate::hello::hex(&bytes))
    }
}

/// Who knows a key may join its process: it is not for logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = Refusal;

            fn try_from(text: String) -> Result<Self, Refusal> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(it: $type) -> Self {
                it.0
            }
        }
    };
}
as_text!(Name);
as_text!(Key);

/// The longest part of a name.
const MAX_PART: usize = 64;
/// Parts of a name.
const MAX_PARTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_on_terminals() {
        for good in ["shell", "log/messages", "log/a.b_c-d+e@f:1", "a/b/c/d"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(65);
        for bad in ["", "/", "a/", "/a", "a//b", "..", "log/..", "a b", "a\u{1b}", "ä", "a/b/c/d/e", &long] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_do_not_show_in_logs() {
        let key = Key::random([7; 16]);
        assert_eq!(String::from(key.clone()), "07".repeat(16));
        assert_eq!(format!("{key:?}"), "Key(…)");
        for bad in ["short", "0123456789abcde!", &"a".repeat(65)] {
            assert!(Key::new(bad).is_err());
        }
    }
}
