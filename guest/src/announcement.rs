//! Announcements: the first line of a stream that the guest opens.
//!
//! Owns their members (APPLICATION §3, §5 to §7).

use serde::{Deserialize, Serialize};

use crate::answer::{Code, Refusal, bad_line};
use crate::line;
use crate::name::{Key, Name};
use crate::pack::Pack;

/// What a stream is that the guest opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Announcement {
    /// A shell on a terminal.
    Shell {
        /// What it is called.
        name: Name,
        /// What its `control` names it by.
        key: Key,
    },
    /// A file that grows.
    Log {
        /// What it is called.
        name: Name,
    },
    /// What both sides tell of themselves.
    Facts {
        /// What it is called.
        name: Name,
    },
    /// Somebody has connected to the guest.
    Connection {
        /// What the host is to connect it to.
        name: Name,
        /// Who, for people.
        from: String,
    },
}

/// What the host says of a log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct LogOk {
    /// Begin up to so many bytes before the end.
    #[serde(default)]
    pub back: u64,
    /// How the bytes are packed; only a guest that can is asked.
    #[serde(default, deserialize_with = "Pack::known", skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
}

impl Announcement {
    /// Reads one. A refusal says whether it is unknown or wrong.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Is {
            is: String,
        }
        let Is { is } = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
        if !["shell", "log", "facts", "connection"].contains(&is.as_str()) {
            return Err(Refusal::new(Code::UNSUPPORTED, format!("{is:?} is unknown")));
        }
        serde_json::from_slice(line).map_err(|error| bad_line(&error))
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line::write(self)
    }

    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &Name {
        match self {
            Self::Shell { name, .. }
            | Self::Log { name }
            | Self::Facts { name }
            | Self::Connection { name, .. } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_come_back_as_they_were() {
        let name = |text: &str| Name::new(text).unwrap();
        for announcement in [
            Announcement::Shell { name: name("shell"), key: Key::random([1; 16]) },
            Announcement::Log { name: name("log/messages") },
            Announcement::Facts { name: name("facts") },
            Announcement::Connection { name: name("db"), from: "127.0.0.1:40112".to_owned() },
        ] {
            assert_eq!(Announcement::parse(&announcement.line()), Ok(announcement));
        }
    }

    #[test]
    fn what_is_unknown_is_told_from_what_is_wrong() {
        let code = |line: &str| Announcement::parse(line.as_bytes()).unwrap_err().code;
        assert_eq!(code(r#"{"is":"camera","name":"x"}"#), Code::UNSUPPORTED);
        for line in [r#"{"is":"log"}"#, r#"{"is":"log","name":"../x"}"#, r#"{"is":"shell","name":"x"}"#, "7"]
        {
            assert_eq!(code(line), Code::BAD_LINE, "{line}");
        }
        assert_eq!(crate::answer::parse::<LogOk>(b"{\"ok\":{}}\n"), Ok(LogOk::default()));
    }
}
