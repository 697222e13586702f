//! Processes (APPLICATION §3): terminals, what is said on `control`, how one ends.
//!
//! Owns which signals may be sent. Refuses to know processes.

use serde::{Deserialize, Serialize};

use crate::answer::{Refusal, bad_line};
use crate::line;

/// A terminal; what is left out is as usual.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Pty {
    /// Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Characters of a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// What kind it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
}

/// A stream that belongs to a process, beside the main one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Belongs {
    /// Standard error.
    Err,
    /// Signals and sizes one way, how it ended the other.
    Control,
}

/// What a host says on `control`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlLine {
    /// Send this signal; its name without SIG.
    Signal(String),
    /// The terminal has this size now.
    Size {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        cols: u16,
    },
    /// Something that a later version says.
    Unknown,
}

/// The signals that may be sent.
pub const SIGNALS: [&str; 11] =
    ["HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "TSTP", "WINCH"];

impl ControlLine {
    /// Reads one.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Line {
            signal: Option<String>,
            rows: Option<u16>,
            cols: Option<u16>,
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
        Ok(match line {
            Line { signal: Some(signal), .. } => Self::Signal(signal),
            Line { rows: Some(rows), cols: Some(cols), .. } => Self::Size { rows, cols },
            Line { .. } => Self::Unknown,
        })
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line::write(&match self {
            Self::Signal(signal) => serde_json::json!({ "signal": signal }),
            Self::Size { rows, cols } => serde_json::json!({ "rows": rows, "cols": cols }),
            Self::Unknown => serde_json::json!({}),
        })
    }
}

/// How a process ended: the last line on `control`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// By itself, with this status.
    Exit(u8),
    /// By this signal: its name, or its number where it has none here.
    Killed(String),
}

impl Ending {
    /// Reads it; `None` where the line is another one, an `error` for example.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            exit: Option<u8>,
            killed: Option<serde_json::Value>,
        }
        let line: Line = serde_json::from_slice(line).ok()?;
        match line {
            Line { exit: Some(status), .. } => Some(Self::Exit(status)),
            Line { killed: Some(serde_json::Value::String(name)), .. } => Some(Self::Killed(name)),
            Line { killed: Some(serde_json::Value::Number(number)), .. } => {
                Some(Self::Killed(number.to_string()))
            }
            Line { .. } => None,
        }
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line::write(&match self {
            Self::Exit(status) => serde_json::json!({ "exit": status }),
            Self::Killed(signal) => match signal.parse::<u8>() {
                Ok(number) => serde_json::json!({ "killed": number }),
                Err(_) => serde_json::json!({ "killed": signal }),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_and_endings_come_back_as_they_were() {
        for line in [ControlLine::Signal("INT".to_owned()), ControlLine::Size { rows: 50, cols: 132 }] {
            assert_eq!(ControlLine::parse(&line.line()), Ok(line));
        }
        for ending in [Ending::Exit(7), Ending::Killed("TERM".to_owned()), Ending::Killed("40".to_owned())] {
            assert_eq!(Ending::parse(&ending.line()), Some(ending));
        }
        assert_eq!(Ending::Exit(7).line(), b"{\"exit\":7}\n");
        assert_eq!(Ending::Killed("40".to_owned()).line(), b"{\"killed\":40}\n");
    }

    #[test]
    fn what_is_unknown_is_told_from_what_is_wrong() {
        assert_eq!(ControlLine::parse(b"{\"later\":[1]}\n"), Ok(ControlLine::Unknown));
        assert!(ControlLine::parse(b"{\"rows\":-1,\"cols\":2}\n").is_err());
        assert!(ControlLine::parse(b"signal\n").is_err());
        assert_eq!(Ending::parse(b"{\"error\":{\"code\":\"unsupported\"}}\n"), None);
        assert_eq!(Ending::parse(b"{\"exit\":256}\n"), None);
    }
}
