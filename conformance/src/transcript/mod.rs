//! Transcripts: who says what on the wires of a concentrator, in a form that people read and drivers play.
//!
//! A transcript is written from the reference (docs/protocol, RFCs), never recorded from an
//! implementation. The format is described on one page in `conformance/corpus/README.md`; this module
//! owns its data model, its parser and the corpus that comes with the program. It knows nothing of
//! sockets or of the core: [`crate::drive`] plays it.

mod corpus;
mod lex;
mod parse;

pub use corpus::{FILES, corpus};
pub use parse::{ParseError, parse, parse_setting};

use crate::telnet::names::AUTHENTICATION;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One dialogue, with what one must know to place and to play it.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Its name, unique in the corpus: lower case, digits and dashes.
    pub id: String,
    /// What it shows, in one line.
    pub title: String,
    /// The part of the suite it belongs to.
    pub section: Section,
    /// Which document says so.
    pub source: String,
    /// Whom it binds.
    pub scope: Scope,
    /// What the server must be told to do before it can be played.
    pub config: Vec<Setting>,
    /// Is every byte that an actor sends a segment of its own?
    pub single_bytes: bool,
    /// Where it stands.
    pub place: Place,
    /// What happens, in order; phrases are expanded.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// Does someone connect as a client?
    #[must_use]
    pub fn needs_client_port(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::ConnectClient { .. }))
    }

    /// Does someone connect to the admin listener?
    #[must_use]
    pub fn needs_admin(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::ConnectAdmin { .. }))
    }

    /// How long it takes at least, because it waits to see that something does or does not happen.
    #[must_use]
    pub fn waits(&self) -> Duration {
        self.steps.iter().map(|step| step.action.waits()).sum()
    }

    /// Does it take longer than a person wants to wait for one case?
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.waits() > Duration::from_secs(4)
    }

    /// Whether it expects, or expects not, to hear of AUTHENTICATION, by which a telnet connection becomes a
    /// TLS one.
    #[must_use]
    pub fn is_about_upgrade(&self) -> bool {
        let is_about = |item: &Item| match item {
            Item::Negotiation(_, about) | Item::Sub(about, _) => *about == AUTHENTICATION,
            Item::Data(_) | Item::Command(_) | Item::Wire(_) => false,
        };
        self.steps.iter().any(|step| match &step.action {
            Action::Expect { what, .. } => match what {
                Expect::Words(words) | Expect::AnyOrder(words) | Expect::Until(words) => {
                    words.iter().flatten().any(is_about)
                }
                Expect::No(words, _) => words.iter().any(is_about),
                _ => false,
            },
            _ => false,
        })
    }

    /// The actors that connect as VMs under an identity of their own, as the phrases name it: how many
    /// different VMs a server must tell apart.
    #[must_use]
    pub fn identities(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        let parts = self.steps.iter().flat_map(|step| step.action.parts());
        for part in parts {
            if let Part::Template(Template::Uuid | Template::UuidUpper, id) = part
                && !ids.contains(id)
            {
                ids.push(id.clone());
            }
        }
        ids
    }
}

/// The parts of the suite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Section {
    /// RFC 854: bytes and commands.
    Rfc854,
    /// RFC 855: options and subnegotiations.
    Rfc855,
    /// RFC 1143: negotiation without loops.
    Rfc1143,
    /// VMware's telnet extension, but for the moves.
    Vmware,
    /// Which VM is which.
    Identity,
    /// Moves from host to host.
    Vmotion,
    /// What peers do that they should not.
    Robustness,
    /// The client side.
    Clients,
    /// The admin listener.
    Admin,
}

impl Section {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Rfc854,
        Self::Rfc855,
        Self::Rfc1143,
        Self::Vmware,
        Self::Identity,
        Self::Vmotion,
        Self::Robustness,
        Self::Clients,
        Self::Admin,
    ];

    /// The word that a transcript uses.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rfc854 => "rfc854",
            Self::Rfc855 => "rfc855",
            Self::Rfc1143 => "rfc1143",
            Self::Vmware => "vmware",
            Self::Identity => "identity",
            Self::Vmotion => "vmotion",
            Self::Robustness => "robustness",
            Self::Clients => "clients",
            Self::Admin => "admin",
        }
    }

    /// The heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Rfc854 => "RFC 854: bytes and commands",
            Self::Rfc855 => "RFC 855: subnegotiations",
            Self::Rfc1143 => "RFC 1143: negotiation without loops",
            Self::Vmware => "VMware extension: session start",
            Self::Identity => "Identity: which VM is which",
            Self::Vmotion => "vMotion",
            Self::Robustness => "Robustness",
            Self::Clients => "Clients",
            Self::Admin => "Admin listener",
        }
    }
}

/// Whom a transcript binds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Every concentrator: the documents say so, or nothing else can work.
    Any,
    /// This project's, where the documents leave room.
    Ours,
}

/// What a server must be configured to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Setting {
    /// Serial ports of one VM are told apart by their service URI.
    MultiConsole,
    /// Only this service URI is served.
    ServiceUri(String),
    /// A VM has this long to say which it is.
    IdentifyTimeout(Duration),
    /// A console without VM and clients is forgotten after this long.
    VmExpire(Duration),
    /// So many clients per console.
    MaxClients(usize),
    /// New telnet clients see so many bytes of what the VM printed before.
    Scrollback(usize),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MultiConsole => f.write_str("multi-console"),
            Self::ServiceUri(uri) => write!(f, "service-uri {uri}"),
            Self::IdentifyTimeout(time) => write!(f, "identify-timeout {}s", time.as_secs_f64()),
            Self::VmExpire(time) => write!(f, "vm-expire {}s", time.as_secs_f64()),
            Self::MaxClients(n) => write!(f, "max-clients {n}"),
            Self::Scrollback(n) => write!(f, "scrollback {n}"),
        }
    }
}

/// A line of a file, and the line that called for it when it stands in a phrase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
    /// The line of the transcript that used the phrase.
    pub used_at: Option<(Arc<str>, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.used_at {
            Some((file, line)) => write!(f, "{file}:{line} ({}:{})", self.file, self.line),
            None => write!(f, "{}:{}", self.file, self.line),
        }
    }
}

/// One line of a dialogue.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// How it is written there.
    pub text: String,
    /// What it means.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// A host connects where VMs connect.
    ConnectVm {
        /// Who.
        actor: String,
    },
    /// Someone connects to the client port of a VM.
    ConnectClient {
        /// Who.
        actor: String,
        /// One that does not speak telnet: it sees bytes, not words.
        raw: bool,
        /// The actor whose console it is.
        of: String,
    },
    /// Someone connects to the admin listener. It hears bytes, as a raw client does.
    ConnectAdmin {
        /// Who.
        actor: String,
    },
    /// An actor speaks.
    Send {
        /// Who.
        actor: String,
        /// What.
        items: Vec<Item>,
        /// With the last byte as TCP urgent data, as telnet's Synch is sent.
        urgent: bool,
    },
    /// An actor says something again and again, until another one hears it.
    Repeat {
        /// Who.
        actor: String,
        /// What: data.
        item: Item,
        /// By whom it must be heard.
        hearer: String,
    },
    /// From here on the actor answers these words by itself.
    Answer {
        /// Who.
        actor: String,
        /// Only the first time.
        once: bool,
        /// To what.
        to: Item,
        /// With what.
        with: Vec<Item>,
    },
    /// The actor sends its last byte (TCP FIN); it goes on reading.
    Close(String),
    /// The actor's connection is cut (TCP RST).
    Reset(String),
    /// Waits until nothing more comes and forgets what came.
    Settle(String),
    /// Time passes.
    Wait(Duration),
    /// Something must be heard.
    Expect {
        /// By whom.
        actor: String,
        /// What.
        what: Expect,
        /// Within this time; `None`: the driver's default.
        within: Option<Duration>,
        /// What a server may do instead: then there is nothing to see here.
        unless: Option<Unless>,
    },
}

/// What a server may do instead of what is expected, so that the rest of a transcript cannot be played.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unless {
    /// Not say it, and keep the connection open.
    Nothing,
    /// Close the connection.
    Closed,
    /// Say this.
    Words(Vec<Item>),
}

impl Action {
    fn waits(&self) -> Duration {
        match self {
            Self::Wait(time) => *time,
            Self::Settle(_) => SETTLED,
            Self::Expect { what, .. } => match what {
                Expect::Nothing(time) | Expect::Silence(time) => *time,
                Expect::No(_, time) | Expect::Open(time) => *time,
                _ => Duration::ZERO,
            },
            _ => Duration::ZERO,
        }
    }

    fn parts(&self) -> Vec<&Part> {
        let items: Vec<&Item> = match self {
            Self::Send { items, .. } => items.iter().collect(),
            Self::Answer { with, .. } => with.iter().collect(),
            _ => Vec::new(),
        };
        items
            .into_iter()
            .flat_map(|item| match item {
                Item::Data(parts) | Item::Sub(_, parts) => parts.as_slice(),
                _ => &[],
            })
            .collect()
    }
}

/// How long nothing must come until an actor counts as settled.
pub const SETTLED: Duration = Duration::from_millis(150);

/// What must be heard.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These, one after the other; of each entry, one of its alternatives.
    Words(Vec<Vec<Item>>),
    /// These, in any order.
    AnyOrder(Vec<Vec<Item>>),
    /// Anything, and then these.
    Until(Vec<Vec<Item>>),
    /// Anything, and then the end of the connection.
    UntilClosed,
    /// At least one byte of data, whatever it says.
    Text,
    /// No data and no answer to a move; options may be negotiated.
    Nothing(Duration),
    /// Not a word that was not expected, but for NOP; none that came before either, since the last settle.
    Silence(Duration),
    /// None of these.
    No(Vec<Item>, Duration),
    /// The end of the connection.
    Closed,
    /// No end of the connection.
    Open(Duration),
}

/// A word to say or to hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// Data bytes; IAC is doubled on the way.
    Data(Vec<Part>),
    /// A two-byte command.
    Command(u8),
    /// A negotiation.
    Negotiation(u8, u8),
    /// A subnegotiation; IAC is doubled on the way.
    Sub(u8, Vec<Part>),
    /// Bytes just so: nothing is doubled.
    Wire(Vec<u8>),
}

/// A piece of data or of a subnegotiation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes that are different in each run.
    Template(Template, String),
    /// What was captured under this name.
    Variable(String),
    /// Bytes to be kept under this name: so many, or all there are (at least one).
    Capture(String, Option<usize>),
    /// Any number of any bytes, at the end of a subnegotiation.
    Rest,
}

/// Bytes that are different in each run, so that runs do not meet each other on a server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Template {
    /// A UUID in the form in which hosts send it.
    Uuid,
    /// The same UUID in capital letters.
    UuidUpper,
    /// The same UUID in 32 digits.
    UuidDigits,
    /// The same UUID as vSPC.py shows it: without spaces, with one dash.
    UuidDashed,
    /// A VM's name.
    Name,
    /// The sequence of a move: four bytes.
    Sequence,
    /// A line of text that occurs nowhere else.
    Text,
}
