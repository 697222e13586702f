//! From the engine's facts to log lines: the only place that has sentences for them, so that both servers log
//! the same.
//!
//! A line says what happened first and whom it concerns after it, as `key=value` pairs.

use std::fmt;
use std::net::IpAddr;

use log::Level;
use vspc_core::admin::lock::LockMode;
use vspc_core::concentrator::{
    AbortedBecause, CloseReason, Event, EventKind, Fault, Foreign, ListenError, Order, Quoted,
    RefusedBecause, Severity, Stay, TakenBecause, VmotionStep,
};
use vspc_core::transport::TlsFailure;
use vspc_core::vmware::Code;

/// Logs one event. Never waits: a line is formatted and copied into the log's buffer.
pub(crate) fn log_event(event: &Event) {
    log::log!(target: TARGET, level(event.severity()), "{}", Line(event));
}

/// The words of a log line about it.
pub(crate) fn sentence(event: &Event) -> String {
    Line(event).to_string()
}

/// The log level of a severity.
fn level(severity: Severity) -> Level {
    match severity {
        Severity::Debug => Level::Debug,
        Severity::Info => Level::Info,
        Severity::Warn => Level::Warn,
        Severity::Error => Level::Error,
    }
}

/// An event as one log line.
#[derive(Clone, Copy, Debug)]
struct Line<'a>(&'a Event);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        match (&event.kind, &event.console) {
            // Whatever that was, it was no VM that anyone knows.
            (EventKind::VmDisconnected(why), None) => {
                write!(f, "unidentified connection closed: {}", Words(why))?;
            }
            (kind, _) => Words(kind).fmt(f)?,
        }
        if let Some(console) = &event.console {
            write!(f, " {console}")?;
        }
        if let Some(peer) = &event.peer {
            write!(f, " peer={peer}")?;
        }
        if let Some(conn) = &event.conn {
            write!(f, " conn={conn}")?;
        }
        Ok(())
    }
}

/// A fact in words.
#[derive(Clone, Copy, Debug)]
struct Words<'a, T>(&'a T);

impl fmt::Display for Words<'_, EventKind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            EventKind::Listening(_, address) => write!(f, "listening on {address}"),
            EventKind::AdminListening(_, address) => write!(f, "admin port open on {address}"),
            EventKind::ListenFailed(_, address, why) => {
                write!(f, "cannot listen on {address}: {}", Words(why))
            }
            EventKind::VmConnected => f.write_str("vm connected"),
            EventKind::VmIdentified => f.write_str("vm identified"),
            EventKind::VmRenamed(from) => write!(f, "vm renamed from {}", Quoted(from)),
            EventKind::SecondLeg { legs, same_address: true } => write!(
                f,
                "{legs} connections have this uuid, uri and name: two serial ports? give each its own URI \
                 and --multi-console; what is typed goes to the first"
            ),
            EventKind::SecondLeg { legs, .. } => write!(
                f,
                "{legs} connections from different addresses have this uuid, uri and name; the first lives \
                 and keeps what is typed"
            ),
            EventKind::InputTaken { from, because } => {
                write!(f, "input taken over from {}: {}", At(*from), Words(because))
            }
            EventKind::InputGivenBack { from } => {
                write!(f, "input given back: it was silent and speaks again; {} had it", At(*from))
            }
            EventKind::Cloned { of } => {
                let of = Quoted(of);
                write!(f, "a copy of {of}: both live, with one uuid and uri; it has a console of its own")
            }
            EventKind::LegsBeyond(n) => write!(
                f,
                "{n} connections more than a console may have of one uuid, uri and name; they are read and \
                 dropped"
            ),
            EventKind::VmDisconnected(why) => write!(f, "vm disconnected: {}", Words(why)),
            EventKind::TlsUp { version, suite } => write!(f, "tls up: {version} {suite}"),
            EventKind::TlsFailed(why) => write!(f, "tls failed: {}", Words(why)),
            EventKind::Attached { who, lock } => write!(f, "attached: {who}, {}", Words(lock)),
            EventKind::LockChanged { who, lock } => write!(f, "lock changed: {who}, {}", Words(lock)),
            EventKind::LockRefused { who, mode } => {
                write!(f, "refused, others are in the way: {who}, {}", Words(mode))
            }
            EventKind::Left { who, because, stay } => {
                write!(f, "left: {who}, {}, {}", Words(because), Words(stay))
            }
            EventKind::GuestUp { agent } => write!(f, "the guest's agent is there: {}", Quoted(agent)),
            EventKind::GuestDown(why) => write!(f, "no session with the guest's agent: {why}"),
            EventKind::GuestReached { who, op, detail } if detail.is_empty() => {
                write!(f, "{op} in the guest: {who}")
            }
            EventKind::GuestReached { who, op, detail } => {
                write!(f, "{op} {} in the guest: {who}", Quoted(detail))
            }
            EventKind::BreakSent { who, reason } if reason.is_empty() => write!(f, "break sent: {who}"),
            EventKind::BreakSent { who, reason } => {
                write!(f, "break sent: {who}, because {}", Quoted(reason))
            }
            EventKind::SentAway { who, by, reason } if reason.is_empty() => {
                write!(f, "sent away: {who}, by {by}")
            }
            EventKind::SentAway { who, by, reason } => {
                write!(f, "sent away: {who}, by {by}, because {}", Quoted(reason))
            }
            EventKind::Ordered { by, order: Order::Reload(_) } => write!(f, "reload ordered by {by}"),
            EventKind::Ordered { by, order: Order::Drain } => write!(f, "end of the server ordered by {by}"),
            EventKind::Ordered { by, order } => write!(f, "{order:?} ordered by {by}"),
            EventKind::AdminRefused(why) => write!(f, "admin port: not served: {}", Quoted(why)),
            EventKind::AdminClosed(why) => write!(f, "admin port: connection closed: {}", Words(why)),
            EventKind::ClientAttached { clients } => write!(f, "client attached, {clients} now"),
            EventKind::NotConnected(why) => {
                write!(f, "target is down, or does not stay: {}; trying again", Words(why))
            }
            EventKind::PortNotSettable => {
                f.write_str("line knows no COM-PORT (RFC 2217): it is used as telnet, and its settings stay")
            }
            EventKind::DialRefused { uri, why: None } => {
                write!(
                    f,
                    "vm asks to be connected to {}, which --dial-allow does not let through",
                    Quoted(uri)
                )
            }
            EventKind::DialRefused { uri, why: Some(why) } => {
                write!(f, "vm asks to be connected to {}: {why}", Quoted(uri))
            }
            EventKind::ClientNotLetIn(why) => write!(f, "client not let in: {}", Words(why)),
            EventKind::ClientDetached(why, stay) => {
                write!(f, "client detached: {}, {}", Words(why), Words(stay))
            }
            EventKind::PatternSeen { watch, line, untold: 0 } => {
                write!(f, "{} seen: {}", Quoted(watch), Quoted(line))
            }
            EventKind::PatternSeen { watch, line, untold } => {
                write!(f, "{} seen, after {untold} more that were not told: {}", Quoted(watch), Quoted(line))
            }
            EventKind::ReaderSkipped(bytes) => write!(f, "client too slow: {bytes} bytes skipped"),
            EventKind::Malformed(fault) => {
                write!(f, "malformed: {}; further ones are only counted", Words(fault))
            }
            EventKind::Vmotion(step) => write!(f, "vmotion {}", Words(step)),
            EventKind::PortTaken(port, why) => write!(f, "cannot open client port {port}: {}", Words(why)),
            EventKind::PortOpened(port) => write!(f, "client port {port} is open now"),
            EventKind::PortShed(port) => write!(
                f,
                "client port {port} closed for now: descriptors are short, and this vm has been here for \
                 less than ten minutes"
            ),
            EventKind::PortsExhausted => f.write_str(
                "no client port left in the range; this vm has none until one comes free, or, after ten \
                 minutes, one that is unused yields",
            ),
            EventKind::ConsoleYielded => f.write_str("console forgotten: unused, and its place was needed"),
            EventKind::ConsoleExpired => f.write_str("console expired"),
            EventKind::SilentPeers(n) => write!(f, "{n} connections came, said nothing and went"),
            EventKind::StrangersSuppressed(n) => {
                write!(f, "{n} further events of connections that did not say which vm they are, not shown")
            }
            EventKind::AddressSuppressed { from: Some(from), events } => {
                write!(f, "{events} further events of connections from {from} not shown")
            }
            EventKind::AddressSuppressed { from: None, events } => {
                write!(f, "{events} further events of connections from other addresses not shown")
            }
            EventKind::EarlyOutputDropped(n) => {
                write!(f, "{n} bytes that this vm printed before it said which it is were dropped")
            }
            EventKind::Suppressed(n) => write!(f, "{n} further events not shown"),
            // A fact newer than these words.
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Words<'_, TakenBecause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TakenBecause::Silent => "it was asked and gave no sign of life",
            TakenBecause::Ended => "it has ended",
            TakenBecause::Home => "this one comes from where the vm usually is",
            TakenBecause::LeftOver => "it was only left over, and yields",
            TakenBecause::Inherited => "it has ended, and this one is left over",
            TakenBecause::Newest => "the newest is to have it",
            TakenBecause::Operator => "the operator said so",
            other => return write!(f, "{other:?}"),
        })
    }
}

/// Who somebody else is: an address, if there is one.
struct At(Option<IpAddr>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            // It has none: it came by a unix socket, or by vsock.
            None => f.write_str("another connection"),
        }
    }
}

impl fmt::Display for Words<'_, ListenError> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ListenError::InUse => f.write_str("address in use"),
            ListenError::Denied => f.write_str("permission denied"),
            ListenError::Exhausted => f.write_str("no descriptor left"),
            ListenError::Other(why) => write!(f, "{why}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Words<'_, Fault> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Fault::Telnet(fault) => write!(f, "{fault}"),
            Fault::Vmware(fault) => write!(f, "{fault}"),
            Fault::ComPort => f.write_str("an invalid or truncated COM-PORT command"),
            Fault::OptionOff(opt) => write!(f, "subnegotiation of {opt}, which is off"),
            Fault::AuthenticationOutOfPlace => f.write_str("AUTHENTICATION out of place"),
            Fault::DataBeforeTls => f.write_str("serial data before TLS"),
            Fault::VmwareBeforeTls => f.write_str("VMWARE-TELNET-EXT spoken before TLS"),
            Fault::PackedBlock => f.write_str("a packed log with what is no block"),
            Fault::CutBlock => f.write_str("a packed log that ends in the middle of a block"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Display for Words<'_, VmotionStep> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            VmotionStep::Begun => f.write_str("begun"),
            VmotionStep::Goahead(after) => write!(f, "goahead after {} us", after.as_micros()),
            VmotionStep::Refused(why) => write!(f, "refused: {}", Words(why)),
            VmotionStep::Peer => f.write_str("peer accepted"),
            VmotionStep::BadPeer => f.write_str("peer unknown: no move has this sequence and secret"),
            VmotionStep::Completed(down) => write!(f, "completed after {} ms", down.as_millis()),
            VmotionStep::Aborted(why) => write!(f, "aborted: {}", Words(why)),
            VmotionStep::OutOfPlace(code) => write!(f, "{} out of place, ignored", word(*code)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What the vendor calls a code.
fn word(code: Code) -> &'static str {
    code.name().unwrap_or("a suboption")
}

impl fmt::Display for Words<'_, RefusedBecause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RefusedBecause::LongSequence => "its sequence is too long",
            RefusedBecause::ShuttingDown => "the server is shutting down",
            RefusedBecause::MovedAway => "the vm has moved away from this connection",
            RefusedBecause::Unidentified => "the vm is not identified yet",
            RefusedBecause::NotFeeding => "this connection does not feed the vm's console",
            RefusedBecause::OutOfPlace => "no move can begin here",
            RefusedBecause::GoaheadNotTaken => "the host does not take its goahead",
            other => return write!(f, "{other:?}"),
        })
    }
}

impl fmt::Display for Words<'_, AbortedBecause> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AbortedBecause::SourceAborted => "the source host says so",
            AbortedBecause::SourceRunsOn => "the source runs on",
            AbortedBecause::TimedOut => "nothing happened for too long",
            AbortedBecause::NoTarget => "no target came, the vm is gone",
            AbortedBecause::SourceEnded => "the source ended before its goahead",
            other => return write!(f, "{other:?}"),
        })
    }
}

impl fmt::Display for Words<'_, CloseReason> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CloseReason::PeerClosed => "closed by peer",
            CloseReason::Failed(why) => return write!(f, "connection failed: {why}"),
            CloseReason::NotVm => "not a vm: it refused the vmware extension",
            CloseReason::NoHeader => "no PROXY header, which --proxy-protocol-from asks for",
            CloseReason::BadHeader => "its PROXY header makes no sense",
            CloseReason::IdentifyTimeout => "it did not say which vm it is",
            CloseReason::TooManyCommands => "thousands of commands, and it did not say which vm it is",
            CloseReason::Yielded => "it had ended its input, and its place was needed",
            CloseReason::Evicted => "descriptors ran short, and it had not said who it is",
            CloseReason::Tls => "tls failed",
            CloseReason::InClear => "it did not go over to tls, which is required",
            CloseReason::ServiceUri => "its service uri is not served here",
            CloseReason::Direction => "it asked to be connected to what is not allowed",
            CloseReason::MovedAway => "the vm has moved to another host",
            CloseReason::TooSlow => "it did not keep up",
            CloseReason::Gone => "the console is gone",
            CloseReason::TooManyClients => "too many clients on this console",
            CloseReason::NotClient(foreign) => return Words(foreign).fmt(f),
            CloseReason::Kicked => "closed by the operator",
            CloseReason::Bumped => "sent away by an operator",
            CloseReason::NoRight => "it may not be at this console any more",
            CloseReason::NotUnderstood => "said nothing that is served there",
            CloseReason::Answered => "answered",
            CloseReason::ShuttingDown => "server is shutting down",
            other => return write!(f, "{other:?}"),
        })
    }
}

impl fmt::Display for Words<'_, Stay> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stay { after, typed, shown } = self.0;
        write!(f, "after {:.1}s, {typed} bytes typed, {shown} shown", after.as_secs_f64())
    }
}

impl fmt::Display for Words<'_, LockMode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            LockMode::Exclusive => "exclusively",
            LockMode::Write => "with the lock for writing",
            LockMode::FreeForAll => "to type",
            LockMode::FreeForAllOrReadonly => "to type, or else to watch",
            LockMode::Readonly => "to watch",
        })
    }
}

impl fmt::Display for Words<'_, Foreign> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Foreign::Http => "no client: it sent an http request",
            Foreign::Tls => "no client: it began tls, which this port does not speak (--client-tls)",
            Foreign::Ssh => "no client: it began ssh",
            Foreign::Proxy => "no client: it sent a PROXY header",
            other => return write!(f, "no client: {other:?}"),
        })
    }
}

impl fmt::Display for Words<'_, TlsFailure> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TlsFailure::NotTls => f.write_str("it does not speak tls"),
            TlsFailure::Timeout(within) => write!(f, "no handshake within {} s", within.as_secs()),
            TlsFailure::NoCertificate => f.write_str("there is no certificate for it any more"),
            TlsFailure::NoRoom => f.write_str("too many handshakes are unfinished, and its is a long one"),
            TlsFailure::EndlessMessage => f.write_str("its handshake message has no end"),
            TlsFailure::KeysUsedUp => f.write_str("its keys are used up"),
            TlsFailure::Alert(alert) => write!(f, "the peer ended it with the alert {alert}"),
            TlsFailure::NoPeerCertificate => f.write_str("it shows no certificate, and needs one here"),
            TlsFailure::PeerCertificate(why) => write!(f, "its certificate is not accepted: {why}"),
            TlsFailure::TooOld => {
                f.write_str("nothing in common: it speaks TLS 1.1 or older, and 1.2 is needed")
            }
            TlsFailure::Incompatible(why) => write!(f, "nothing in common: {why}"),
            TlsFailure::Other(why) => f.write_str(why),
            other => write!(f, "{other:?}"),
        }
    }
}

/// What `RUST_LOG` calls the engine's events, whichever server runs.
const TARGET: &str = "vspc";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn said<T>(fact: &T) -> String
    where
        for<'a> Words<'a, T>: fmt::Display,
    {
        Words(fact).to_string()
    }

    #[test]
    fn facts_have_their_sentences() {
        let rows = [
            (said(&EventKind::VmIdentified), "vm identified"),
            (said(&EventKind::VmRenamed("a\"b".into())), r#"vm renamed from "a\"b""#),
            (
                said(&EventKind::PortTaken(50000, ListenError::InUse)),
                "cannot open client port 50000: address in use",
            ),
            (
                said(&EventKind::PortTaken(50000, ListenError::Exhausted)),
                "cannot open client port 50000: no descriptor left",
            ),
            (
                said(&EventKind::Vmotion(VmotionStep::OutOfPlace(Code::VMOTION_ABORT))),
                "vmotion VMOTION-ABORT out of place, ignored",
            ),
            (
                said(&EventKind::Vmotion(VmotionStep::Completed(Duration::from_micros(2_300)))),
                "vmotion completed after 2 ms",
            ),
            (
                said(&EventKind::InputTaken { from: None, because: TakenBecause::Silent }),
                "input taken over from another connection: it was asked and gave no sign of life",
            ),
            (said(&TlsFailure::Timeout(Duration::from_secs(10))), "no handshake within 10 s"),
            (
                said(&EventKind::VmDisconnected(CloseReason::Failed(std::io::ErrorKind::ConnectionReset))),
                "vm disconnected: connection failed: connection reset",
            ),
        ];
        for (said, wanted) in rows {
            assert_eq!(said, wanted);
        }
    }
}
