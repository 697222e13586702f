//! Answers: the first line of the side that did not open the stream.
//!
//! Owns the words of APPLICATION §9. A word that is unknown here stays what it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::line;

/// Why something is refused, in a word.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

macro_rules! codes {
    ($($name:ident = $word:literal: $doc:literal;)*) => {
        impl Code {
            $(#[doc = $doc] pub const $name: Self = Self(Cow::Borrowed($word));)*
        }
    };
}
codes! {
    BAD_LINE = "bad-line": "The line cannot be read.";
    UNSUPPORTED = "unsupported": "This side does not know, or does not do, what is asked.";
    VERSION = "version": "No common version.";
    HELLO_FIRST = "hello-first": "Nobody has said hello.";
    NOT_AUTHENTIC = "not-authentic": "The proof is wrong or missing.";
    NOT_ALLOWED = "not-allowed": "It is not configured that this may be.";
    TOO_MANY = "too-many": "A limit is reached.";
    IN_USE = "in-use": "The key, or the file that would be written, is in use.";
    NO_SUCH_KEY = "no-such-key": "There is no such process, or not all of its streams came.";
    NO_SUCH_FILE = "no-such-file": "No program, folder or file has this name.";
    NOT_A_FILE = "not-a-file": "It is something else than a file.";
    DENIED = "denied": "The system denies it.";
    NO_SPACE = "no-space": "The disk is full.";
    CUT = "cut": "A copy was closed before its end.";
    CHECKSUM = "checksum": "What came is not what was to come.";
    REFUSED = "refused": "Nobody listens there.";
    UNREACHABLE = "unreachable": "There is no way there.";
    TIMED_OUT = "timed-out": "No answer came.";
    FAILED = "failed": "Anything else that the system says.";
    SHUTTING_DOWN = "shutting-down": "Nothing new begins.";
}

impl Code {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A refusal: a word for programs, and a text for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
}

impl Refusal {
    /// With a text, which is cut so that the line is never too long.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        let mut end = message.len().min(MAX_MESSAGE);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        Self { code, message }
    }

    /// What the system has said, of `what`.
    #[must_use]
    pub fn system(what: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let code = match error.kind() {
            Kind::NotFound | Kind::NotADirectory => Code::NO_SUCH_FILE,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Code::DENIED,
            Kind::IsADirectory => Code::NOT_A_FILE,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Code::NO_SPACE,
            Kind::ConnectionRefused => Code::REFUSED,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => Code::UNREACHABLE,
            Kind::TimedOut => Code::TIMED_OUT,
            _ => Code::FAILED,
        };
        Self::new(code, format!("{what}: {error}"))
    }

    /// The answer.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            error: &'a Refusal,
        }
        line::write(&Line { error: self })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, message } = self;
        write!(f, "{message} ({})", code.as_str())
    }
}

impl std::error::Error for Refusal {}

/// An answer or last line that says no more than that it is so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Done {}

/// The answer that says yes, with what it holds.
#[must_use]
pub fn ok(holds: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        ok: &'a T,
    }
    line::write(&Line { ok: holds })
}

/// The last line of a copy.
#[must_use]
pub fn done(holds: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        done: &'a T,
    }
    line::write(&Line { done: holds })
}

/// Reads an answer; a line that is none is a refusal of our own.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, Refusal> {
    let reply: Reply<T> = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
    match reply {
        Reply { error: Some(refusal), .. } => Err(refusal),
        Reply { ok: Some(holds), .. } | Reply { done: Some(holds), .. } => Ok(holds),
        _ => Err(Refusal::new(Code::BAD_LINE, "neither ok nor error")),
    }
}

#[derive(Deserialize)]
struct Reply<T> {
    ok: Option<T>,
    done: Option<T>,
    error: Option<Refusal>,
}

/// The refusal of a line that is no JSON, or not the right one.
pub(crate) fn bad_line(error: &serde_json::Error) -> Refusal {
    Refusal::new(Code::BAD_LINE, error.to_string())
}

/// Texts for people: with every character escaped they still fit into a line.
const MAX_MESSAGE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_LINE;

    #[test]
    fn answers_come_back_as_they_were() {
        assert_eq!(parse::<Done>(&ok(&Done {})), Ok(Done {}));
        let refusal = Refusal::new(Code::NOT_ALLOWED, "no exec here");
        assert_eq!(parse::<Done>(&refusal.line()), Err(refusal));
    }

    #[test]
    fn an_unknown_word_is_kept_and_what_is_no_answer_is_a_refusal() {
        let refusal = parse::<Done>(b"{\"error\":{\"code\":\"tired\",\"more\":1}}\n").unwrap_err();
        assert_eq!(refusal.code.as_str(), "tired");
        for line in [&b"\n"[..], b"{}\n", b"[]\n", b"{\"ok\":3}\n", b"\xff\n"] {
            assert_eq!(parse::<Done>(line).unwrap_err().code, Code::BAD_LINE, "{line:?}");
        }
    }

    #[test]
    fn no_refusal_is_longer_than_a_line() {
        for text in ["\u{1}", "ä", "\""] {
            let line = Refusal::new(Code::FAILED, text.repeat(10_000)).line();
            assert!(line.len() <= MAX_LINE, "{} bytes", line.len());
        }
    }
}
