//! Copies (APPLICATION §4): what is answered, and the last line.

use serde::{Deserialize, Serialize};

use crate::pack::Pack;
use crate::sum::{Checksum, Sum};

/// The answer to `put`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PutOk {
    /// How much is there from an earlier try.
    pub offset: u64,
    /// How the bytes are packed: as the header says, or not.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
    /// How it is summed: as the header says, or as every side can.
    #[serde(default, deserialize_with = "Sum::known", skip_serializing_if = "Sum::is_default")]
    pub sum: Sum,
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
    /// How it is summed: as the header says, or as every side can.
    #[serde(default, deserialize_with = "Sum::known", skip_serializing_if = "Sum::is_default")]
    pub sum: Sum,
}

/// The last line: the guest's, and of a copy into it that has a tag the host's as well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Whole {
    /// How many bytes the file has.
    pub size: u64,
    /// Of all of them.
    #[serde(flatten)]
    pub sum: Checksum,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;

    #[test]
    fn last_lines_name_the_kind_of_their_checksum() {
        for (sum, line) in [
            (Checksum::Sha256("0a".to_owned()), r#"{"done":{"size":7,"sha256":"0a"}}"#),
            (Checksum::Blake3("0a".to_owned()), r#"{"done":{"size":7,"blake3":"0a"}}"#),
        ] {
            let whole = Whole { size: 7, sum };
            assert_eq!(answer::done(&whole), format!("{line}\n").into_bytes());
            let later = line.replace("\"size\"", "\"later\":{\"a\":[1]},\"size\"");
            assert_eq!(answer::parse(later.as_bytes()), Ok(whole));
        }
        assert!(answer::parse::<Whole>(br#"{"done":{"size":7}}"#).is_err());
    }

    #[test]
    fn an_answer_that_names_no_kind_or_an_unknown_one_means_the_one_that_every_side_knows() {
        for line in [r#"{"ok":{"offset":7}}"#, r#"{"ok":{"offset":7,"sum":"later","pack":null}}"#] {
            let ok = PutOk { offset: 7, pack: None, sum: Sum::Sha256 };
            assert_eq!(answer::parse(line.as_bytes()), Ok(ok));
        }
        let ok = PutOk { offset: 7, pack: None, sum: Sum::Blake3 };
        assert_eq!(answer::ok(&ok), b"{\"ok\":{\"offset\":7,\"sum\":\"blake3\"}}\n");
        assert_eq!(answer::parse(&answer::ok(&ok)), Ok(ok));
    }
}
