//! What a refusal, or the end of a conversation, means for the user.
//!
//! Owns the exit code that belongs to each, and the words.

use crate::failure::{Code, Failure};
use crate::printable::printable;
use vspc_operator::{Ending, Refusal};

/// The failure that a refusal means for a command that cannot go on without.
pub(crate) fn failure(refusal: &Refusal) -> Failure {
    let code = match refusal.code.as_str() {
        "no-such-console" | "ambiguous" => Code::NoSuchConsole,
        "locked" | "not-allowed" => Code::Refused,
        "shutting-down" => Code::NoConnection,
        _ => Code::Error,
    };
    let message = if refusal.message.is_empty() { &refusal.code } else { &refusal.message };
    let mut message = printable(message).into_owned();
    // A message may say it already.
    if let Some(needs) = refusal.details["needs"].as_str().filter(|needs| !message.contains(needs)) {
        message.push_str(&format!(" (this needs the right {})", printable(needs)));
    }
    if let Some(by) = refusal.details["by"].as_str().filter(|by| !message.contains(by)) {
        message.push_str(&format!(" ({})", printable(by)));
    }
    Failure::new(code, message)
}

/// Why it is over, in words.
pub(crate) fn describe(ending: &Ending) -> String {
    let what = match ending {
        Ending::Broken(message) => return printable(message).into_owned(),
        Ending::NotOurs(None) => "it closed the connection without a word",
        Ending::NotOurs(Some(0x80)) => "it speaks vSPC.py's protocol (--protocol v3)",
        Ending::NotOurs(Some(0xff)) => "it speaks telnet",
        Ending::NotOurs(Some(b'H')) => "it seems to speak HTTP",
        Ending::NotOurs(Some(0x15 | 0x16)) => "it seems to speak TLS (--server tls://…)",
        Ending::NotOurs(Some(_)) => "it speaks something else",
    };
    format!("no server of this kind is there: {what}")
}
