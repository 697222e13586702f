//! What a client may ask (operator.md §5).
//!
//! `request/parse.rs` reads it from a line.

mod parse;

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::answer::Failure;
use super::log::LogQuery;
use super::rights::Right;

/// One request.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The client's number for it.
    pub id: u64,
    /// What it asks.
    pub op: Op,
}

/// An operation.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Who is there?
    Hello {
        /// The version of the protocol that the client speaks.
        v: u32,
        /// The client's name and version.
        client: String,
        /// On whose behalf it asks.
        behalf: Option<Behalf>,
    },
    /// Consoles, a page of them.
    List {
        /// Those whose name or UUID matches; empty: all.
        matching: String,
        /// Behind this one.
        after: Option<u64>,
        /// How many at most.
        limit: usize,
        /// What of each besides.
        with: Extras,
    },
    /// One console.
    Show {
        /// Which.
        console: String,
        /// What of it besides.
        with: Extras,
    },
    /// Who is at a console.
    Who(String),
    /// Be told of something from now on.
    Subscribe {
        /// Of what.
        to: Topic,
        /// Of consoles whose name or UUID matches; empty: all.
        matching: String,
    },
    /// Be told no more.
    Unsubscribe(Topic),
    /// Be at a console.
    Attach {
        /// Which.
        console: String,
        /// The stream that carries its bytes.
        stream: u64,
        /// Beside whom; `None`: what the client's right allows.
        lock: Option<Mode>,
        /// How many of the latest bytes first.
        scrollback: u64,
        /// Where to begin instead.
        from: Option<Place>,
        /// How large its terminal is, if it has one.
        size: Option<Size>,
    },
    /// An attach's terminal has another size.
    Resize {
        /// The attach.
        stream: u64,
        /// How large it is now.
        size: Size,
    },
    /// Read a console's log.
    Log {
        /// Which.
        console: String,
        /// The stream that carries what is read.
        stream: u64,
        /// Which part of it.
        query: LogQuery,
    },
    /// Take, change or give up a lock.
    Lock {
        /// The attach that is to have it.
        stream: u64,
        /// Which.
        mode: Mode,
    },
    /// Send a break, to where this attach is.
    BreakAt {
        /// The attach.
        stream: u64,
        /// For the log.
        reason: String,
    },
    /// Send a break to this console.
    Break {
        /// Which.
        console: String,
        /// For the log.
        reason: String,
    },
    /// Send clients away, and say why.
    Bump {
        /// From which console.
        console: String,
        /// This one; `None`: everybody but the one who asks.
        client: Option<u64>,
        /// Shown to them.
        reason: String,
    },
    /// Close a connection of a client or a VM.
    Kick {
        /// Which.
        client: u64,
        /// For the log.
        reason: String,
    },
    /// Give a console's input to another connection of its VM.
    GiveInput {
        /// Whose.
        console: String,
        /// To which connection.
        leg: u64,
    },
    /// What streams a console's guest has.
    Streams(String),
    /// Open a stream in a guest.
    Open {
        /// The console whose guest.
        console: String,
        /// The client's stream that is joined with it.
        stream: u64,
    },
    /// Be told of a guest's facts.
    Facts {
        /// The console whose guest.
        console: String,
        /// The stream that carries them.
        stream: u64,
        /// Whose.
        of: FactsOf,
    },
    /// Set a fact for a guest.
    SetFact {
        /// The console whose guest.
        console: String,
        /// Its name.
        key: String,
        /// `None`: it is taken back.
        value: Option<String>,
    },
    /// Take what connects to a listener in a guest.
    Accept {
        /// The console whose guest.
        console: String,
        /// The listener's name.
        name: String,
    },
    /// Join a stream with one that has connected.
    Take {
        /// The console whose guest.
        console: String,
        /// Which, as it was told.
        number: u64,
        /// The client's stream.
        stream: u64,
    },
    /// The server's counters.
    Stats,
    /// Load again what can be loaded while serving.
    Reload,
    /// End the server in order.
    Drain,
}

/// What of consoles is shown to who asks for it alone, because it takes work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extras {
    /// The last line that was printed.
    pub last_line: bool,
}

/// Who tells facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FactsOf {
    /// The guest, of itself.
    #[default]
    Guest,
    /// Operators, to the guest.
    Host,
}

/// What can be subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Consoles as they change.
    Consoles,
    /// What the server logs.
    Events,
}

/// How an attach is beside others (operator.md §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It watches.
    ReadOnly,
    /// It types beside others.
    FreeForAll,
    /// The same, or watches where somebody holds a write lock.
    FreeForAllFallback,
    /// Nobody else types.
    Write,
    /// Nobody else is there.
    Exclusive,
}

impl Mode {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::FreeForAll => "free-for-all",
            Self::FreeForAllFallback => "free-for-all-fallback",
            Self::Write => "write",
            Self::Exclusive => "exclusive",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A place in what a console has printed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Of which count.
    pub epoch: String,
    /// Guest bytes before it.
    pub offset: u64,
}

/// How large a terminal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: NonZeroU16,
    /// Characters of a line.
    pub cols: NonZeroU16,
}

/// On whose behalf a delegate asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behalf {
    /// The user.
    pub user: String,
    /// Where that one is.
    pub address: Option<String>,
    /// What that one may do.
    pub rights: Right,
}

/// A line that is no request, or none that can be carried out.
#[derive(Clone, PartialEq, Debug)]
pub enum ParseError {
    /// It breaks the protocol; this says where. The session ends.
    Broken(String),
    /// It is answered.
    Refused(u64, Failure),
}

/// Consoles on one page of a list, if the client does not say.
pub const LIST_DEFAULT: usize = 200;

/// Consoles on one page of a list at most.
pub const LIST_MOST: usize = 500;

/// What an attach that does not say is beside others.
pub const ATTACH_DEFAULT: Mode = Mode::FreeForAllFallback;
