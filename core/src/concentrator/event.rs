//! What the world should know, as facts: one value per event, no sentence among them.
//!
//! Ignoring all of them is safe, and the engine suppresses events of a connection that causes too many, so
//! nothing that mirrors the engine's state may be derived from events:
//! [`Output::Changed`](super::Output::Changed) is for that. A host puts them into words.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::lock::LockMode;
use crate::telnet::{self, Opt};
use crate::transport::TlsFailure;
use crate::vmware::{self, Code};

use super::address::Address;
use super::foreign::Foreign;
use super::id::{ConnId, ListenerId};
use super::label::Label;
use super::output::Order;
use super::target::NoTarget;

/// Something that happened, and whom it concerns.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The connection it happened on.
    pub conn: Option<ConnId>,
    /// The peer of that connection.
    pub peer: Option<Address>,
    /// The console it concerns.
    pub console: Option<Arc<Label>>,
    /// It is about a peer that came, said nothing and went: a health check, a port scan. Those are counted,
    /// and told together ([`EventKind::SilentPeers`]). Or about a console that yields, whose VM was connected
    /// for less than a minute in total.
    pub is_routine: bool,
}

/// How loud an event is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Of interest to someone who is looking for it.
    Debug,
    /// The normal course of things.
    Info,
    /// Someone should look at this.
    Warn,
    /// Something that was asked for cannot be done.
    Error,
}

/// What happened.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum EventKind {
    /// A listener is open at this address.
    Listening(ListenerId, Address),
    /// The admin port is open at this address.
    AdminListening(ListenerId, Address),
    /// A listener could not be opened.
    ListenFailed(ListenerId, Address, ListenError),
    /// A connection on a VM listener said its first bytes.
    VmConnected,
    /// It said which VM it is.
    VmIdentified,
    /// The VM's name has changed; the old one is given.
    VmRenamed(String),
    /// A second connection with this UUID, URI and name, beside a live one that keeps the input.
    SecondLeg {
        /// How many connections feed this console now.
        legs: usize,
        /// It comes from the address of the one that keeps the input: a second serial port, most likely.
        same_address: bool,
    },
    /// This connection gets the console's input, which another one held until now.
    InputTaken {
        /// The address of that one.
        from: Option<IpAddr>,
        /// Why it has lost it.
        because: TakenBecause,
    },
    /// This connection was silent, lost the console's input, and speaks again: it has it back.
    InputGivenBack {
        /// The address of the one that had taken it.
        from: Option<IpAddr>,
    },
    /// This connection has the UUID and URI of another VM and is a VM of its own: it has a console of its own
    /// now, which the event is about.
    Cloned {
        /// What the other one is called.
        of: String,
    },
    /// So many connections were put aside, because this console has as many as it may have: what they say is
    /// read and dropped.
    LegsBeyond(u32),
    /// A connection of a VM ended.
    VmDisconnected(CloseReason),
    /// TLS is up.
    TlsUp {
        /// The protocol's version, as `TLSv1_3`.
        version: &'static str,
        /// The cipher suite, as `TLS13_AES_256_GCM_SHA384`.
        suite: &'static str,
    },
    /// TLS did not come up, or broke.
    TlsFailed(TlsFailure),
    /// Somebody came to a console by the admin port.
    Attached {
        /// Who.
        who: Box<str>,
        /// As what.
        lock: LockMode,
    },
    /// Somebody at a console has another lock now, or none.
    LockChanged {
        /// Who.
        who: Box<str>,
        /// As what it is there now.
        lock: LockMode,
    },
    /// Others stood in the way of somebody who came by the admin port.
    LockRefused {
        /// Who.
        who: Box<str>,
        /// What was asked for.
        mode: LockMode,
    },
    /// Somebody who had come to a console by the admin port left it.
    Left {
        /// Who.
        who: Box<str>,
        /// Why.
        because: CloseReason,
        /// How long it was there, and what went each way.
        stay: Stay,
    },
    /// Somebody sent a break.
    BreakSent {
        /// Who.
        who: Box<str>,
        /// Why, in that one's words; empty: nothing was said.
        reason: Box<str>,
    },
    /// The agent in a VM has said who it is: its streams are served.
    GuestUp {
        /// Its name and version, as it tells them.
        agent: Box<str>,
    },
    /// The session with the agent in a VM is over, or never came to be; this says why.
    GuestDown(Box<str>),
    /// Somebody has opened a stream in a guest.
    GuestReached {
        /// Who.
        who: Box<str>,
        /// What it is: `exec`, `shell`, `put`, `get` or `connect`.
        op: Box<str>,
        /// A program with what it is given, a path or an address.
        detail: Box<str>,
    },
    /// An operator sends somebody away.
    SentAway {
        /// Whom.
        who: Box<str>,
        /// Who does.
        by: Box<str>,
        /// Why, in that one's words.
        reason: Box<str>,
    },
    /// An operator ordered something of the whole server.
    Ordered {
        /// Who.
        by: Box<str>,
        /// What.
        order: Order,
    },
    /// Somebody on the admin port was not served.
    AdminRefused(Box<str>),
    /// A connection on the admin port ended that was at no console.
    AdminClosed(CloseReason),
    /// A client attached.
    ClientAttached {
        /// How many clients the console has now.
        clients: usize,
    },
    /// A client went.
    ClientDetached(CloseReason, Stay),
    /// A target cannot be reached, or does not stay; it is tried again and again. Told once, until it has
    /// stayed.
    NotConnected(CloseReason),
    /// A line that is to be set by RFC 2217 does not let itself be.
    PortNotSettable,
    /// A VM asked to be connected to something (direction `C`) that is not allowed, or is no target.
    DialRefused {
        /// What, as it was asked for.
        uri: Box<str>,
        /// What is wrong with it; `None`: it is not allowed.
        why: Option<NoTarget>,
    },
    /// A connection to a client port ended before it was let in.
    ClientNotLetIn(CloseReason),
    /// A reader did not keep up and skipped this many guest bytes of output.
    ReaderSkipped(u64),
    /// The host has found something that it looks for in what the console printed.
    PatternSeen {
        /// What that is called.
        watch: Box<str>,
        /// The line, as far as the host keeps it.
        line: Box<str>,
        /// How many lines of the same were found since the last that was told, and not told.
        untold: u64,
    },
    /// The first bytes of a peer that break the protocol; further ones are only counted.
    Malformed(Fault),
    /// The move of a VM came one step further.
    Vmotion(VmotionStep),
    /// A client port cannot be opened now; another is tried, or this one later.
    PortTaken(u16, ListenError),
    /// A client port that was not to be had when its VM came is open now.
    PortOpened(u16),
    /// A client port was closed because descriptors are short, and newcomers come first; its VM has not been
    /// there for long. It is opened again once there is room.
    PortShed(u16),
    /// No port of the range is free; the VM is served without one until one is.
    PortsExhausted,
    /// A console was forgotten, having had no VM and no client for the expiry time.
    ConsoleExpired,
    /// A console was forgotten that had neither a VM nor a client, or had its VM for less than ten minutes in
    /// total: there was not room for all.
    ConsoleYielded,
    /// This many further events of this connection were not told one by one.
    Suppressed(u32),
    /// So many events of connections that had not said which VM they are, or were not let in, were not told
    /// one by one since that was last told: a minute, or more.
    StrangersSuppressed(u32),
    /// So many further events of connections from this address were left out since that was last told: a
    /// minute, or more. `None`: of other addresses together, and of peers that have none.
    AddressSuppressed {
        /// The address; of an IPv6 /64 the first.
        from: Option<IpAddr>,
        /// How many.
        events: u32,
    },
    /// So many wire bytes that this VM printed before it was known which it is were dropped: more than there
    /// was room for.
    EarlyOutputDropped(u64),
    /// So many peers came, said nothing and went since that was last told: a minute, or more.
    SilentPeers(u32),
}

/// How long someone was at a console, and what went each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stay {
    /// How long.
    pub after: Duration,
    /// Guest bytes that it typed.
    pub typed: u64,
    /// Bytes that it was shown.
    pub shown: u64,
}

/// Why a connection has lost a console's input to another.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TakenBecause {
    /// It was asked whether it lives and gave no sign.
    Silent,
    /// It ended before it had shown that it lives.
    Ended,
    /// The other comes from the address whose VM held the input longest, and it had not held it for long.
    Home,
    /// It had come second once, and was only left over.
    LeftOver,
    /// It ended, and the other, which came second, is left over.
    Inherited,
    /// The newest is to have it (`--takeover newest`).
    Newest,
    /// An operator said so.
    Operator,
}

/// Why a listener could not be opened.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenError {
    /// Something else holds the address; a connection in TIME_WAIT is enough.
    InUse,
    /// This process may not open it.
    Denied,
    /// No descriptor is left, in this process or in the whole system.
    Exhausted,
    /// Anything else.
    Other(io::ErrorKind),
}

/// What a peer got wrong.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Bytes that are not telnet.
    Telnet(telnet::Malformed),
    /// A message of option 232 that is none.
    Vmware(vmware::Malformed),
    /// A subnegotiation of an option that is off.
    OptionOff(Opt),
    /// An invalid or truncated command of COM-PORT.
    ComPort,
    /// A step of AUTHENTICATION where it means nothing.
    AuthenticationOutOfPlace,
    /// Serial data before TLS, where TLS is required.
    DataBeforeTls,
    /// A message of option 232 before TLS, where TLS is required.
    VmwareBeforeTls,
    /// What a guest sent of a packed log is no block.
    PackedBlock,
    /// A guest closed a packed log in the middle of a block.
    CutBlock,
}

/// One step of a vMotion.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VmotionStep {
    /// The source host announced a move.
    Begun,
    /// The socket took GOAHEAD, this long after BEGIN.
    Goahead(Duration),
    /// NOTNOW was sent.
    Refused(RefusedBecause),
    /// A target proved to be this VM.
    Peer,
    /// A VMOTION-PEER that fits no move under way.
    BadPeer,
    /// The target is the VM's connection now; the VM stood still for this long.
    Completed(Duration),
    /// The move is off.
    Aborted(AbortedBecause),
    /// A word of the dialogue that means nothing at this point, and was ignored.
    OutOfPlace(Code),
}

/// Why a move was refused.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedBecause {
    /// Its sequence is longer than any host's.
    LongSequence,
    /// The server is shutting down.
    ShuttingDown,
    /// The VM has moved away from this connection.
    MovedAway,
    /// The connection has not said which VM it is.
    Unidentified,
    /// The connection does not feed the VM's console.
    NotFeeding,
    /// The move under way on this connection cannot be replaced now.
    OutOfPlace,
    /// The host did not take its GOAHEAD in time.
    GoaheadNotTaken,
}

/// Why a move that had begun is off.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortedBecause {
    /// The source host said so.
    SourceAborted,
    /// The source printed again although its time for a move was over.
    SourceRunsOn,
    /// Nothing happened for too long.
    TimedOut,
    /// The source had ended and no target came: the VM is gone.
    NoTarget,
    /// The source ended before its GOAHEAD.
    SourceEnded,
}

/// Why a connection ended. Told exactly once per connection.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The peer closed.
    PeerClosed,
    /// The connection failed.
    Failed(io::ErrorKind),
    /// It answered that it does not know the VMware extension.
    NotVm,
    /// A proxy that has to did not say whom it is from.
    NoHeader,
    /// What a proxy said of whom it is from makes no sense.
    BadHeader,
    /// It did not say in time which VM it is.
    IdentifyTimeout,
    /// It sent some thousand commands without saying which VM it is.
    TooManyCommands,
    /// It had ended its input, and a newcomer needed its place.
    Yielded,
    /// Descriptors ran short, and it had said the least of those that had not said which VM they are.
    Evicted,
    /// TLS did not come up, or broke.
    Tls,
    /// It did not go over to TLS, which is required here.
    InClear,
    /// Its service URI is not served here.
    ServiceUri,
    /// It asked to be connected to something (direction C), which is refused.
    Direction,
    /// The VM has moved away from it.
    MovedAway,
    /// It did not keep up with the VM.
    TooSlow,
    /// Its console was forgotten before it was let in.
    Gone,
    /// It is one client too many for this console.
    TooManyClients,
    /// It is no client: its first bytes are another protocol's.
    NotClient(Foreign),
    /// An operator closed it.
    Kicked,
    /// An operator sent it away from its console.
    Bumped,
    /// It may not be at its console any more: a rule or a right has changed.
    NoRight,
    /// It came by the admin port and said nothing that is served there.
    NotUnderstood,
    /// It was told what it had asked for.
    Answered,
    /// The server is going down.
    ShuttingDown,
}

impl Event {
    /// How loud this is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        if self.is_routine { Severity::Debug } else { self.kind.severity() }
    }
}

impl EventKind {
    /// How loud this is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        use Severity::{Debug, Error, Info, Warn};
        match self {
            Self::ListenFailed(..) => Error,
            Self::SecondLeg { .. }
            | Self::InputTaken { .. }
            | Self::InputGivenBack { .. }
            | Self::Cloned { .. }
            | Self::LegsBeyond(_)
            | Self::EarlyOutputDropped(_)
            | Self::StrangersSuppressed(_)
            | Self::AddressSuppressed { .. }
            | Self::ReaderSkipped(_)
            | Self::Malformed(_)
            | Self::TlsFailed(_)
            | Self::AdminRefused(_)
            | Self::NotConnected(_)
            | Self::PortNotSettable
            | Self::DialRefused { .. }
            | Self::PortShed(_)
            | Self::PortsExhausted
            | Self::GuestDown(_)
            | Self::PortTaken(..) => Warn,
            Self::VmDisconnected(why) => why.severity(),
            Self::Vmotion(step) => step.severity(),
            Self::Suppressed(_) | Self::TlsUp { .. } | Self::AdminClosed(_) => Debug,
            Self::Listening(..)
            | Self::AdminListening(..)
            | Self::VmConnected
            | Self::VmIdentified
            | Self::VmRenamed(_)
            | Self::PatternSeen { .. }
            | Self::Attached { .. }
            | Self::Left { .. }
            | Self::LockChanged { .. }
            | Self::LockRefused { .. }
            | Self::BreakSent { .. }
            | Self::SentAway { .. }
            | Self::Ordered { .. }
            | Self::GuestUp { .. }
            | Self::GuestReached { .. }
            | Self::ClientAttached { .. }
            | Self::ClientDetached(..)
            | Self::ClientNotLetIn(_)
            | Self::PortOpened(_)
            | Self::ConsoleExpired
            | Self::ConsoleYielded
            | Self::SilentPeers(_) => Info,
        }
    }

    /// Whether it belongs to what everyone must be able to find in a log, whatever else a peer makes happen:
    /// who came, was identified, moved and went, and what it took from others.
    pub(super) fn is_landmark(&self) -> bool {
        match self {
            Self::VmIdentified
            | Self::VmRenamed(_)
            | Self::SecondLeg { .. }
            | Self::InputTaken { .. }
            | Self::InputGivenBack { .. }
            | Self::Cloned { .. }
            | Self::Attached { .. }
            | Self::LockChanged { .. }
            | Self::BreakSent { .. }
            | Self::Ordered { .. }
            | Self::GuestReached { .. }
            | Self::SentAway { .. } => true,
            Self::Vmotion(step) => !matches!(step, VmotionStep::BadPeer | VmotionStep::OutOfPlace(_)),
            other => other.is_last(),
        }
    }

    /// Whether it is the last of its connection.
    pub(super) fn is_last(&self) -> bool {
        matches!(
            self,
            Self::VmDisconnected(_)
                | Self::ClientDetached(..)
                | Self::ClientNotLetIn(_)
                | Self::AdminClosed(_)
                | Self::Left { .. }
        )
    }
}

impl VmotionStep {
    fn severity(&self) -> Severity {
        match self {
            Self::Refused(_) | Self::BadPeer | Self::Aborted(_) => Severity::Warn,
            Self::Begun | Self::Goahead(_) | Self::Peer | Self::Completed(_) | Self::OutOfPlace(_) => {
                Severity::Info
            }
        }
    }
}

impl CloseReason {
    /// A word for it, for attaches (operator.md §6).
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Bumped => "bumped",
            Self::NoRight => "no-right",
            Self::Gone => "expired",
            Self::TooSlow => "lagged",
            Self::ShuttingDown => "shutting-down",
            _ => "left",
        }
    }

    /// How loud it is that a VM's connection ended for this reason.
    fn severity(self) -> Severity {
        match self {
            Self::Failed(_) | Self::Evicted | Self::ServiceUri | Self::NoHeader | Self::BadHeader => {
                Severity::Warn
            }
            Self::PeerClosed
            | Self::NotVm
            | Self::IdentifyTimeout
            | Self::TooManyCommands
            | Self::Yielded
            | Self::Tls
            | Self::InClear
            | Self::Direction
            | Self::MovedAway
            | Self::TooSlow
            | Self::Gone
            | Self::TooManyClients
            | Self::NotClient(_)
            | Self::Kicked
            | Self::Bumped
            | Self::NoRight
            | Self::NotUnderstood
            | Self::Answered
            | Self::ShuttingDown => Severity::Info,
        }
    }
}
