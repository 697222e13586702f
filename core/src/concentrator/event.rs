//! What the world should know: one value per log line. Ignoring all of them is safe.
//!
//! Wording lives here, in `Display`, so that both servers log the same line. A line says what happened
//! first and whom it concerns after it, as `key=value` pairs.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::vmware::Uuid;

use super::id::{ConnId, ConsoleId, ListenerId};
use super::output::Address;

/// Something that happened, and whom it concerns.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// The connection it happened on.
    pub conn: Option<ConnId>,
    /// The peer of that connection.
    pub peer: Option<Address>,
    /// The console it concerns.
    pub console: Option<Arc<Label>>,
}

/// What people call a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Its id inside the engine.
    pub id: ConsoleId,
    /// The VM's UUID.
    pub uuid: Uuid,
    /// The `_<uri>` suffix that tells ports of one VM apart; empty without multi-console.
    pub suffix: String,
    /// The VM's name as it was last told, control characters replaced; empty until it is known.
    pub name: String,
    /// Where clients connect, once that is open.
    pub port: Option<u16>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm={:?} uuid={}{}", self.name, self.uuid, self.suffix)?;
        match self.port {
            Some(port) => write!(f, " port={port}"),
            None => Ok(()),
        }
    }
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

/// The kinds of event.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// A listener is open at this address.
    Listening(ListenerId, Address),
    /// A listener could not be opened.
    ListenFailed(ListenerId, Address, io::ErrorKind),
    /// A connection came in on a VM listener.
    VmConnected,
    /// It said which VM it is.
    VmIdentified,
    /// The VM's name was told or has changed; the old one is given.
    VmRenamed(String),
    /// A second connection with this UUID and URI; `legs` are attached now.
    SecondLeg {
        /// How many connections feed this console now.
        legs: usize,
    },
    /// A connection of a VM ended.
    VmDisconnected(CloseReason),
    /// TLS is up: version and cipher suite.
    TlsUp(String),
    /// TLS did not come up, or broke; why.
    TlsFailed(String),
    /// A client attached.
    ClientAttached {
        /// How many clients the console has now.
        clients: usize,
    },
    /// A client went.
    ClientDetached(CloseReason),
    /// A connection to a client port ended before it was let in.
    ClientNotLetIn(CloseReason),
    /// A reader did not keep up and skipped this many bytes of output.
    ReaderSkipped(u64),
    /// The first bytes of a peer that break the protocol; the rest is only counted.
    Malformed(String),
    /// The move of a VM came one step further.
    Vmotion(VmotionStep),
    /// A client port cannot be had now; it is tried again.
    PortTaken(u16, io::ErrorKind),
    /// No port of the range is free; the VM is served without one until one is.
    PortsExhausted,
    /// A console was forgotten, having had no VM and no client for the expiry time.
    ConsoleExpired,
    /// This many further events of this connection were not told one by one.
    Suppressed(u32),
}

/// One step of a vMotion.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VmotionStep {
    /// The source host announced a move.
    Begun,
    /// GOAHEAD was sent, this long after BEGIN.
    Goahead(Duration),
    /// NOTNOW was sent; why.
    Refused(&'static str),
    /// A target proved to be this VM.
    Peer,
    /// A VMOTION-PEER that fits no move under way.
    BadPeer,
    /// The target is the VM's connection now; the VM stood still for this long.
    Completed(Duration),
    /// The move is off; why.
    Aborted(&'static str),
    /// A word of the dialogue that means nothing at this point, and was ignored.
    OutOfPlace(&'static str),
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
    /// It did not say in time which VM it is.
    IdentifyTimeout,
    /// Descriptors ran short, and it had not said who it is.
    Evicted,
    /// TLS did not come up, or broke.
    Tls,
    /// It did not go over to TLS, which is required here.
    InClear,
    /// Its service URI is not served here.
    ServiceUri,
    /// It asked to be dialled (direction C), which is refused.
    Direction,
    /// The VM has moved away from it.
    MovedAway,
    /// It did not keep up with the VM.
    TooSlow,
    /// Its console was forgotten before it was let in.
    Gone,
    /// It is one client too many for this console.
    TooManyClients,
    /// An operator closed it.
    Kicked,
    /// The server is going down.
    ShuttingDown,
}

impl Event {
    /// How loud this is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        use Severity::{Debug, Error, Info, Warn};
        match &self.what {
            What::ListenFailed(..) => Error,
            What::SecondLeg { .. }
            | What::ReaderSkipped(_)
            | What::Malformed(_)
            | What::TlsFailed(_)
            | What::PortsExhausted
            | What::PortTaken(..) => Warn,
            What::VmDisconnected(CloseReason::Failed(_) | CloseReason::Evicted | CloseReason::ServiceUri) => {
                Warn
            }
            What::Vmotion(VmotionStep::Refused(_) | VmotionStep::BadPeer | VmotionStep::Aborted(_)) => Warn,
            What::Suppressed(_) | What::TlsUp(_) => Debug,
            _ => Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.what, &self.console) {
            // Whatever that was, it was no VM that anyone knows.
            (What::VmDisconnected(why), None) => write!(f, "unidentified connection closed: {why}")?,
            (what, _) => what.fmt(f)?,
        }
        if let Some(console) = &self.console {
            write!(f, " {console}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " peer={peer}")?;
        }
        if let Some(conn) = &self.conn {
            write!(f, " conn={conn}")?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(_, address) => write!(f, "listening on {address}"),
            Self::ListenFailed(_, address, why) => write!(f, "cannot listen on {address}: {why}"),
            Self::VmConnected => f.write_str("vm connected"),
            Self::VmIdentified => f.write_str("vm identified"),
            Self::VmRenamed(old) => write!(f, "vm renamed from {old:?}"),
            Self::SecondLeg { legs } => write!(
                f,
                "{legs} connections have this uuid and uri (two ports of one vm? --multi-console tells them apart)"
            ),
            Self::VmDisconnected(why) => write!(f, "vm disconnected: {why}"),
            Self::TlsUp(terms) => write!(f, "tls up: {terms}"),
            Self::TlsFailed(why) => write!(f, "tls failed: {why}"),
            Self::ClientAttached { clients } => write!(f, "client attached, {clients} now"),
            Self::ClientNotLetIn(why) => write!(f, "client not let in: {why}"),
            Self::ClientDetached(why) => write!(f, "client detached: {why}"),
            Self::ReaderSkipped(bytes) => write!(f, "client too slow: {bytes} bytes skipped"),
            Self::Malformed(what) => write!(f, "malformed: {what}; further ones are only counted"),
            Self::Vmotion(step) => write!(f, "vmotion {step}"),
            Self::PortTaken(port, io::ErrorKind::QuotaExceeded) => {
                write!(f, "client port {port} is not to be had: no descriptor left")
            }
            Self::PortTaken(port, why) => write!(f, "client port {port} is not to be had: {why}"),
            Self::PortsExhausted => f.write_str("no client port left in the range; this vm has none"),
            Self::ConsoleExpired => f.write_str("console expired"),
            Self::Suppressed(n) => write!(f, "{n} further events not shown"),
        }
    }
}

impl fmt::Display for VmotionStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("begun"),
            Self::Goahead(after) => write!(f, "goahead after {} us", after.as_micros()),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Peer => f.write_str("peer accepted"),
            Self::BadPeer => f.write_str("peer unknown: no move has this sequence and secret"),
            Self::Completed(down) => write!(f, "completed after {} ms", down.as_millis()),
            Self::Aborted(why) => write!(f, "aborted: {why}"),
            Self::OutOfPlace(word) => write!(f, "{word} out of place, ignored"),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerClosed => f.write_str("closed by peer"),
            Self::Failed(why) => write!(f, "connection failed: {why}"),
            Self::NotVm => f.write_str("not a vm: it refused the vmware extension"),
            Self::IdentifyTimeout => f.write_str("it did not say which vm it is"),
            Self::Evicted => f.write_str("descriptors ran short and it had not said who it is"),
            Self::Tls => f.write_str("tls failed"),
            Self::InClear => f.write_str("it did not go over to tls, which is required"),
            Self::ServiceUri => f.write_str("its service uri is not served here"),
            Self::Direction => f.write_str("it asked to be dialled, which is not offered"),
            Self::MovedAway => f.write_str("the vm has moved to another host"),
            Self::TooSlow => f.write_str("it did not keep up"),
            Self::Gone => f.write_str("the console is gone"),
            Self::TooManyClients => f.write_str("too many clients on this console"),
            Self::Kicked => f.write_str("closed by the operator"),
            Self::ShuttingDown => f.write_str("server is shutting down"),
        }
    }
}
