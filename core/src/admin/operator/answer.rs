//! What a server says: answers, failures and notices (operator.md §2, §4).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::request::Mode;
use super::rights::Right;

/// Why a request failed. A closed list: a meaning is never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// A field is missing, has the wrong type, or a value that makes no sense.
    BadRequest,
    /// The first request has to be `hello`.
    HelloFirst,
    /// There is no such operation.
    UnknownOp,
    /// There is no such version, or this is not done here.
    Unsupported,
    /// This needs a right that the connection does not have.
    NotAllowed,
    /// No console is called that.
    NoSuchConsole,
    /// Several consoles are called that.
    Ambiguous,
    /// The stream is not open, or nothing is attached to it.
    NoSuchStream,
    /// Something is attached to the stream already.
    StreamInUse,
    /// There is no such connection.
    NoSuchClient,
    /// Somebody's lock is in the way.
    Locked,
    /// What was asked to be resumed is no longer kept.
    Gone,
    /// No agent has answered on the console's line.
    NoAgent,
    /// A limit is reached.
    TooMany,
    /// Nothing new begins.
    ShuttingDown,
}

/// A request that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: String,
    /// The right that is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    /// Whose lock is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The consoles that may have been meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

/// A console that may have been meant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Consoles whose list names one, and what that one may do there (operator.md §3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listing {
    /// A pattern of their names; `None`: whatever they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A pattern of their UUIDs; `None`: whatever they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// What may be done there.
    pub rights: String,
}

/// All of those that fit into a line.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Listings(Vec<Listing>);

impl Listings {
    /// As many as a line can hold, in their order.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = Listing>) -> Self {
        let mut room = LISTINGS_SIZE;
        let fits = all.into_iter().map_while(|listing| {
            let patterns = listing.name.iter().chain(&listing.uuid).map(String::len).sum::<usize>();
            // Six bytes for each that JSON escapes, and what stands around them.
            room = room.checked_sub(6 * patterns + 64)?;
            Some(listing)
        });
        Self(fits.collect())
    }
}

/// Bytes of lists in one line: half of what a line may have.
const LISTINGS_SIZE: usize = 32 * 1024;

impl Failure {
    /// A failure that its code and a sentence tell.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), needs: None, by: None, candidates: Vec::new() }
    }

    /// This needs a right.
    #[must_use]
    pub fn needs(right: Right) -> Self {
        let message = format!("this needs the right {right}");
        Self { needs: Some(right.name().into()), ..Self::new(Code::NotAllowed, message) }
    }
}

/// A console, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Console {
    /// Names it for as long as it exists.
    pub id: String,
    /// What its VM is called.
    pub name: String,
    /// 32 hexadecimal digits.
    pub uuid: String,
    /// What tells the serial ports of one VM apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    /// Its client port.
    pub port: Option<u16>,
    /// `connected`, `moving` or `waiting`.
    pub state: String,
    /// For how long it has been connected, or not connected.
    pub since_ms: u64,
    /// Where the connection is that gets what is typed.
    pub host: Option<String>,
    /// Connections that feed it.
    pub legs: usize,
    /// People and programs at it.
    pub clients: usize,
    /// The lock that is held.
    pub lock: Option<Held>,
    /// Since its VM last printed something; never: `None`.
    pub idle_ms: Option<u64>,
    /// For how long its VM has been connected in total.
    pub stayed_ms: u64,
    /// Where its VM has been connected from longest.
    pub home: Option<String>,
    /// Guest bytes that its VM has printed.
    pub out: u64,
    /// Guest bytes that were typed.
    #[serde(rename = "in")]
    pub typed: u64,
    /// Of which count `offset` is.
    pub epoch: String,
    /// Guest bytes printed in this epoch.
    pub offset: u64,
    /// Other VMs have its UUID.
    pub shared: bool,
    /// Its port is its own also after a restart.
    #[serde(default)]
    pub kept: bool,
    /// The last line that its VM has printed, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
}

/// What came of a reload: the answer to `reload`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReloadOutcome {
    /// What is otherwise from now on, a sentence each.
    pub changed: Vec<String>,
    /// What takes a restart.
    pub restart: Vec<String>,
    /// What is wrong, for which something stays as it was.
    pub faults: Vec<String>,
}

impl ReloadOutcome {
    /// As much of it as fits on a line; of what is left out it says so.
    #[must_use]
    pub fn cut(&self) -> Self {
        let mut room = OUTCOME_MOST;
        let [faults, changed, restart] = [&self.faults, &self.changed, &self.restart].map(|all| {
            let fits = |line: &&String| {
                let size = 2 * line.len() + 4;
                let fits = size <= room;
                room = if fits { room - size } else { 0 };
                fits
            };
            let mut kept: Vec<String> = all.iter().take_while(fits).cloned().collect();
            if kept.len() < all.len() {
                kept.push(format!("and {} more, which the server's log has", all.len() - kept.len()));
            }
            kept
        });
        Self { changed, restart, faults }
    }
}

/// A lock that is held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// `write` or `exclusive`.
    pub mode: Mode,
    /// By whom.
    pub by: String,
}

/// What is told without being asked. The fields are those of operator.md §5 and §6.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
#[non_exhaustive]
pub enum Notice {
    /// A line made no sense; the session ends.
    Broken {
        /// Where and why.
        message: String,
    },
    /// A console's newest state.
    Console {
        /// That.
        console: Box<Console>,
    },
    /// All consoles there were at the time of the subscription have been told.
    Synced,
    /// A console has ended.
    ConsoleGone {
        /// Which.
        id: String,
    },
    /// What the connection may do is not what it was: the server goes by other rules.
    Rights {
        /// What it may do from now on.
        rights: String,
        /// Where it may do something else, by lists of consoles that name it.
        #[serde(default)]
        lists: Listings,
    },
    /// So many events were not told.
    LogDropped {
        /// How many.
        count: u64,
    },
    /// Somebody has connected to a listener in a guest.
    Connection {
        /// The console whose guest.
        console: String,
        /// The listener's name.
        name: String,
        /// Which it is.
        number: u64,
        /// Who, for people.
        from: String,
    },
    /// A reader has missed output.
    Missed {
        /// The attach.
        stream: u64,
        /// Up to where.
        offset: u64,
        /// Guest bytes.
        bytes: u64,
    },
    /// The VM came, went, or moves.
    State {
        /// The attach.
        stream: u64,
        /// When, in what it printed.
        offset: u64,
        /// As in [`Console`].
        state: String,
        /// As in [`Console`].
        host: Option<String>,
    },
    /// What an attach may do has changed.
    Access {
        /// The attach.
        stream: u64,
        /// When.
        offset: u64,
        /// `write` or `read`.
        access: Access,
        /// The lock that somebody holds.
        lock: Option<Held>,
    },
    /// How many are at the console now.
    Present {
        /// The attach.
        stream: u64,
        /// When.
        offset: u64,
        /// How many.
        clients: usize,
    },
    /// An attach has ended.
    Detached {
        /// The attach.
        stream: u64,
        /// When.
        offset: u64,
        /// Why: a word.
        reason: String,
        /// What was said to whoever was sent away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Who sent it away.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

/// What an attach may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Type and watch.
    Write,
    /// Watch.
    Read,
}

/// Writes the answer to request `id`.
pub fn put_answer(id: u64, ok: &impl Serialize, out: &mut Vec<u8>) {
    put(&Answer { id, ok }, out);
}

/// Writes that request `id` has failed.
pub fn put_failure(id: u64, failure: &Failure, out: &mut Vec<u8>) {
    put(&Failed { id, error: failure }, out);
}

/// Writes a notice.
pub fn put_notice(notice: &impl Serialize, out: &mut Vec<u8>) {
    put(notice, out);
}

fn put(line: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, line).is_err() {
        // Nothing that is written here can fail: memory takes everything, and all keys are strings.
        debug_assert!(false, "a line cannot be written");
        out.truncate(start);
        return;
    }
    out.push(b'\n');
}

#[derive(Serialize)]
struct Answer<'a, T> {
    id: u64,
    ok: &'a T,
}

#[derive(Serialize)]
struct Failed<'a> {
    id: u64,
    error: &'a Failure,
}

/// How an id of the engine's is written: slot and generation.
#[must_use]
pub fn write_id(bits: u64) -> String {
    Id(bits).to_string()
}

/// Reads that again. `None`: no server writes an id so.
#[must_use]
pub fn parse_id(text: &str) -> Option<u64> {
    let (index, generation) = text.split_once('.')?;
    let (index, generation): (u32, u32) = (index.parse().ok()?, generation.parse().ok()?);
    Some(u64::from(generation) << 32 | u64::from(index))
}

struct Id(u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 as u32, self.0 >> 32)
    }
}

/// What an outcome of a reload may take of its line, quotes and backslashes counted double.
const OUTCOME_MOST: usize = 48 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_the_page_has_them() {
        let mut out = Vec::new();
        put_answer(1, &serde_json::json!({"v": 1}), &mut out);
        put_failure(2, &Failure::needs(Right::Operator), &mut out);
        put_notice(&Notice::Synced, &mut out);
        put_notice(&Notice::State { stream: 7, offset: 812, state: "moving".into(), host: None }, &mut out);
        put_notice(&Notice::LogDropped { count: 12 }, &mut out);
        let expected = [
            r#"{"id":1,"ok":{"v":1}}"#,
            concat!(
                r#"{"id":2,"error":{"code":"not-allowed","message":"this needs the right operator","#,
                r#""needs":"operator"}}"#
            ),
            r#"{"event":"synced"}"#,
            r#"{"event":"state","stream":7,"offset":812,"state":"moving","host":null}"#,
            r#"{"event":"log-dropped","count":12}"#,
        ];
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_outcome_that_is_too_long_is_cut_and_says_so() {
        let line = "\"".repeat(1000);
        let long = ReloadOutcome {
            changed: vec![line.clone(); 100],
            faults: vec!["x".into()],
            ..Default::default()
        };
        let cut = long.cut();
        assert_eq!(cut.faults, long.faults);
        let mut out = Vec::new();
        put_answer(1, &cut, &mut out);
        assert!(out.len() < super::super::LINE_MAX, "{}", out.len());
        let kept = cut.changed.iter().filter(|kept| **kept == line).count();
        assert!(kept > 10);
        assert_eq!(cut.changed[kept..], [format!("and {} more, which the server's log has", 100 - kept)]);
        assert_eq!(cut.cut().faults, long.faults);
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        for bits in [0, 5, 1 << 32 | 7, u64::from(u32::MAX) << 32 | 3] {
            assert_eq!(parse_id(&write_id(bits)), Some(bits));
        }
        for text in ["", "1", "1.", ".1", "1.2.3", "-1.2", "4294967296.1", "web.1"] {
            assert_eq!(parse_id(text), None, "{text}");
        }
    }
}
