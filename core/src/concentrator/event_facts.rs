//! What an event tells programs (operator.md §9): its kind's name, and its facts as fields.
//!
//! Owns the names, which stay as they are when Rust's change. Knows no sentences: those are the host's.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::admin::lock::LockMode;
use crate::transport::TlsFailure;

use super::attaching::mode_of;
use super::event::{
    AbortedBecause, CloseReason, EventKind, Fault, ListenError, RefusedBecause, Stay, TakenBecause,
    VmotionStep,
};
use super::foreign::Foreign;
use super::output::Order;

/// Fields of an event's own.
pub(super) type Facts = Map<String, Value>;

impl EventKind {
    /// Its name, and its facts.
    pub(super) fn facts(&self) -> (&'static str, Facts) {
        let (name, facts) = match self {
            Self::Listening(_, address) => ("listening", json!({ "address": address.to_string() })),
            Self::AdminListening(_, address) => {
                ("admin-listening", json!({ "address": address.to_string() }))
            }
            Self::ListenFailed(_, address, why) => {
                ("listen-failed", because(listen(*why), json!({ "address": address.to_string() })))
            }
            Self::VmConnected => ("vm-connected", json!({})),
            Self::VmIdentified => ("vm-identified", json!({})),
            Self::VmRenamed(was) => ("vm-renamed", json!({ "was": was })),
            Self::SecondLeg { legs, same_address } => {
                ("second-leg", json!({ "legs": legs, "same_address": same_address }))
            }
            Self::InputTaken { from, because } => {
                ("input-taken", json!({ "was_at": place(*from), "because": taken(*because) }))
            }
            Self::InputGivenBack { from } => ("input-given-back", json!({ "was_at": place(*from) })),
            Self::Cloned { of } => ("cloned", json!({ "of": of })),
            Self::LegsBeyond(count) => ("legs-beyond", json!({ "count": count })),
            Self::VmDisconnected(why) => ("vm-disconnected", because(closed(*why), json!({}))),
            Self::TlsUp { version, suite } => ("tls-up", json!({ "version": version, "suite": suite })),
            Self::TlsFailed(why) => ("tls-failed", tls(why)),
            Self::Attached { who, lock } => ("attached", json!({ "who": who, "lock": lock_word(*lock) })),
            Self::LockChanged { who, lock } => {
                ("lock-changed", json!({ "who": who, "lock": lock_word(*lock) }))
            }
            Self::LockRefused { who, mode } => {
                ("lock-refused", json!({ "who": who, "lock": lock_word(*mode) }))
            }
            Self::Left { who, because: why, stay } => {
                ("left", because(closed(*why), of_stay(*stay, json!({ "who": who }))))
            }
            Self::GuestUp { agent } => ("guest-up", json!({ "agent": agent })),
            Self::GuestDown(why) => ("guest-down", json!({ "message": why })),
            Self::GuestReached { who, op, detail } => {
                ("guest-reached", json!({ "who": who, "op": op, "detail": detail }))
            }
            Self::BreakSent { who, reason } if reason.is_empty() => ("break-sent", json!({ "who": who })),
            Self::BreakSent { who, reason } => ("break-sent", json!({ "who": who, "reason": reason })),
            Self::SentAway { who, by, reason } => {
                ("sent-away", json!({ "who": who, "by": by, "reason": reason }))
            }
            Self::Ordered { by, order } => {
                let order = match order {
                    Order::Reload(_) => "reload",
                    Order::Drain => "drain",
                };
                ("ordered", json!({ "by": by, "order": order }))
            }
            Self::AdminRefused(why) => ("admin-refused", json!({ "message": why })),
            Self::AdminClosed(why) => ("admin-closed", because(closed(*why), json!({}))),
            Self::ClientAttached { clients } => ("client-attached", json!({ "clients": clients })),
            Self::ClientDetached(why, stay) => {
                ("client-detached", because(closed(*why), of_stay(*stay, json!({}))))
            }
            Self::NotConnected(why) => ("not-connected", because(closed(*why), json!({}))),
            Self::PortNotSettable => ("port-not-settable", json!({})),
            Self::DialRefused { uri, why } => {
                let why = if why.is_some() { "no-target" } else { "not-allowed" };
                ("dial-refused", json!({ "uri": uri, "because": why }))
            }
            Self::ClientNotLetIn(why) => ("client-not-let-in", because(closed(*why), json!({}))),
            Self::ReaderSkipped(bytes) => ("reader-skipped", json!({ "bytes": bytes })),
            Self::PatternSeen { watch, line, untold } => {
                ("pattern-seen", json!({ "watch": watch, "line": line, "untold": untold }))
            }
            Self::Malformed(fault) => ("malformed", malformed(*fault)),
            Self::Vmotion(step) => ("vmotion", vmotion(step)),
            Self::PortTaken(port, why) => {
                ("port-taken", because(listen(*why), json!({ "client_port": port })))
            }
            Self::PortOpened(port) => ("port-opened", json!({ "client_port": port })),
            Self::PortShed(port) => ("port-shed", json!({ "client_port": port })),
            Self::PortsExhausted => ("ports-exhausted", json!({})),
            Self::ConsoleExpired => ("console-expired", json!({})),
            Self::ConsoleYielded => ("console-yielded", json!({})),
            Self::Suppressed(count) => ("suppressed", json!({ "count": count })),
            Self::StrangersSuppressed(count) => ("strangers-suppressed", json!({ "count": count })),
            Self::AddressSuppressed { from, events } => {
                ("address-suppressed", json!({ "address": place(*from), "count": events }))
            }
            Self::EarlyOutputDropped(bytes) => ("early-output-dropped", json!({ "bytes": bytes })),
            Self::SilentPeers(count) => ("silent-peers", json!({ "count": count })),
        };
        let Value::Object(facts) = facts else { return (name, Facts::new()) };
        (name, facts)
    }
}

/// Adds a word that says why, and what the system called it.
fn because((word, error): (&str, Option<String>), mut facts: Value) -> Value {
    facts["because"] = word.into();
    if let Some(error) = error {
        facts["error"] = error.into();
    }
    facts
}

fn of_stay(stay: Stay, mut facts: Value) -> Value {
    facts["after_ms"] = millis(stay.after);
    facts["typed"] = stay.typed.into();
    facts["shown"] = stay.shown.into();
    facts
}

fn millis(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

fn micros(time: Duration) -> Value {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into()
}

fn place(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| address.to_string())
}

fn lock_word(lock: LockMode) -> Value {
    json!(mode_of(lock))
}

/// An error of the system's, as `connection-reset`.
fn error_word(error: io::ErrorKind) -> String {
    error.to_string().replace(' ', "-")
}

fn listen(why: ListenError) -> (&'static str, Option<String>) {
    match why {
        ListenError::InUse => ("in-use", None),
        ListenError::Denied => ("denied", None),
        ListenError::Exhausted => ("exhausted", None),
        ListenError::Other(error) => ("other", Some(error_word(error))),
    }
}

fn taken(because: TakenBecause) -> &'static str {
    match because {
        TakenBecause::Silent => "silent",
        TakenBecause::Ended => "ended",
        TakenBecause::Home => "home",
        TakenBecause::LeftOver => "left-over",
        TakenBecause::Inherited => "inherited",
        TakenBecause::Newest => "newest",
        TakenBecause::Operator => "operator",
    }
}

fn closed(why: CloseReason) -> (&'static str, Option<String>) {
    let word = match why {
        CloseReason::PeerClosed => "peer-closed",
        CloseReason::Failed(error) => return ("failed", Some(error_word(error))),
        CloseReason::NotVm => "not-vm",
        CloseReason::NoHeader => "no-proxy-header",
        CloseReason::BadHeader => "bad-proxy-header",
        CloseReason::IdentifyTimeout => "identify-timeout",
        CloseReason::TooManyCommands => "too-many-commands",
        CloseReason::Yielded => "yielded",
        CloseReason::Evicted => "evicted",
        CloseReason::Tls => "tls",
        CloseReason::InClear => "in-clear",
        CloseReason::ServiceUri => "service-uri",
        CloseReason::Direction => "direction",
        CloseReason::MovedAway => "moved-away",
        CloseReason::TooSlow => "too-slow",
        CloseReason::Gone => "gone",
        CloseReason::TooManyClients => "too-many-clients",
        CloseReason::NotClient(Foreign::Http) => "http",
        CloseReason::NotClient(Foreign::Tls) => "tls-hello",
        CloseReason::NotClient(Foreign::Ssh) => "ssh",
        CloseReason::NotClient(Foreign::Proxy) => "proxy",
        CloseReason::Kicked => "kicked",
        CloseReason::Bumped => "bumped",
        CloseReason::NoRight => "no-right",
        CloseReason::NotUnderstood => "not-understood",
        CloseReason::Answered => "answered",
        CloseReason::ShuttingDown => "shutting-down",
    };
    (word, None)
}

fn tls(why: &TlsFailure) -> Value {
    let (word, message) = match why {
        TlsFailure::NotTls => ("not-tls", None),
        TlsFailure::Timeout(time) => return json!({ "because": "timeout", "after_ms": millis(*time) }),
        TlsFailure::NoCertificate => ("no-certificate", None),
        TlsFailure::EndlessMessage => ("endless-message", None),
        TlsFailure::NoRoom => ("no-room", None),
        TlsFailure::KeysUsedUp => ("keys-used-up", None),
        TlsFailure::Alert(alert) => ("alert", Some(alert)),
        TlsFailure::NoPeerCertificate => ("no-peer-certificate", None),
        TlsFailure::PeerCertificate(fault) => ("peer-certificate", Some(fault)),
        TlsFailure::TooOld => ("too-old", None),
        TlsFailure::Incompatible(what) => ("incompatible", Some(what)),
        TlsFailure::Other(what) => return json!({ "because": "other", "message": what }),
    };
    because((word, message.map(|name| first_word(name))), json!({}))
}

/// The TLS library's name of something, as `unknown-issuer`, without what it holds.
fn first_word(name: &str) -> String {
    let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    let mut word = String::with_capacity(end + 4);
    let mut before = None;
    for c in name[..end].chars() {
        if c.is_ascii_uppercase() && before.is_some_and(|before: char| before.is_ascii_lowercase()) {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
        before = Some(c);
    }
    word
}

fn malformed(fault: Fault) -> Value {
    match fault {
        Fault::Telnet(fault) => json!({ "because": "telnet", "message": fault.to_string() }),
        Fault::Vmware(fault) => json!({ "because": "vmware", "message": fault.to_string() }),
        Fault::ComPort => json!({ "because": "com-port" }),
        Fault::OptionOff(opt) => json!({ "because": "option-off", "option": opt.0 }),
        Fault::AuthenticationOutOfPlace => json!({ "because": "authentication-out-of-place" }),
        Fault::DataBeforeTls => json!({ "because": "data-before-tls" }),
        Fault::VmwareBeforeTls => json!({ "because": "vmware-before-tls" }),
        Fault::PackedBlock => json!({ "because": "packed-block" }),
        Fault::CutBlock => json!({ "because": "cut-block" }),
    }
}

fn vmotion(step: &VmotionStep) -> Value {
    match step {
        VmotionStep::Begun => json!({ "step": "begun" }),
        VmotionStep::Goahead(after) => json!({ "step": "goahead", "after_us": micros(*after) }),
        VmotionStep::Refused(why) => {
            let why = match why {
                RefusedBecause::LongSequence => "long-sequence",
                RefusedBecause::ShuttingDown => "shutting-down",
                RefusedBecause::MovedAway => "moved-away",
                RefusedBecause::Unidentified => "unidentified",
                RefusedBecause::NotFeeding => "not-feeding",
                RefusedBecause::OutOfPlace => "out-of-place",
                RefusedBecause::GoaheadNotTaken => "goahead-not-taken",
            };
            json!({ "step": "refused", "because": why })
        }
        VmotionStep::Peer => json!({ "step": "peer" }),
        VmotionStep::BadPeer => json!({ "step": "bad-peer" }),
        VmotionStep::Completed(stood) => json!({ "step": "completed", "after_us": micros(*stood) }),
        VmotionStep::Aborted(why) => {
            let why = match why {
                AbortedBecause::SourceAborted => "source-aborted",
                AbortedBecause::SourceRunsOn => "source-runs-on",
                AbortedBecause::TimedOut => "timed-out",
                AbortedBecause::NoTarget => "no-target",
                AbortedBecause::SourceEnded => "source-ended",
            };
            json!({ "step": "aborted", "because": why })
        }
        VmotionStep::OutOfPlace(code) => json!({ "step": "out-of-place", "code": code.0 }),
    }
}
