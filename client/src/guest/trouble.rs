//! Why a joined stream is no more.
//!
//! Owns the words for people, and which of it may be over soon.

use vspc_guest::Code as Word;
use vspc_operator::Refusal;

use crate::endings::failure;
use crate::failure::{Code, Failure};
use crate::printable::printable;

/// What was in the way.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Trouble {
    /// The server does not join it.
    Server(Refusal),
    /// The guest has refused it, or has given it up.
    Guest(vspc_guest::Refusal),
    /// It was taken away: the line to the guest is lost, or the guest has reset it.
    Reset,
    /// The server is gone.
    Over(String),
}

impl Trouble {
    /// Whether it helps to try again: the guest or the server comes back.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Server(refusal) => matches!(refusal.code.as_str(), "no-agent" | "shutting-down"),
            // What a session that was lost has left in use is free again soon.
            Self::Guest(refusal) => {
                let words = [Word::CUT, Word::HELLO_FIRST, Word::IN_USE, Word::SHUTTING_DOWN, Word::TOO_MANY];
                words.contains(&refusal.code)
            }
            Self::Reset | Self::Over(_) => true,
        }
    }

    /// What it means for the user.
    pub(crate) fn failure(&self, guest: &str) -> Failure {
        match self {
            Self::Server(refusal) => failure(refusal),
            Self::Guest(refusal) => {
                let code = if refusal.code == Word::NOT_ALLOWED { Code::Refused } else { Code::Error };
                Failure::new(code, format!("{guest}: {}", printable(&say(refusal))))
            }
            Self::Reset => Failure::new(Code::NoConnection, format!("the connection to {guest} was lost")),
            Self::Over(why) => Failure::no_connection(why.clone()),
        }
    }
}

/// A refusal's text, and its word where that says more.
pub(crate) fn say(refusal: &vspc_guest::Refusal) -> String {
    let word = refusal.code.as_str();
    let text = match word {
        "not-allowed" => "its agent does not allow it",
        "no-such-file" => "there is no such file",
        "not-a-file" => "it is no file",
        "denied" => "the system denies it",
        "no-space" => "the disk is full",
        "in-use" => "it is in use",
        "refused" => "nobody listens there",
        "unreachable" => "there is no way there",
        "timed-out" => "no answer came",
        "too-many" => "a limit is reached",
        _ => "",
    };
    match (text, refusal.message.as_str()) {
        ("", "") => word.to_owned(),
        ("", message) => format!("{message} ({word})"),
        (text, "") => text.to_owned(),
        (text, message) => format!("{text} ({message})"),
    }
}
