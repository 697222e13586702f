//! The kinds of things that programs are told of one by one, and which of the engine's events are of them
//! (hooks.md §2).

use clap::ValueEnum;
use vspc_core::concentrator::{Event, EventKind, VmotionStep};

/// What has happened to a console. The words are `VSPC_EVENT`'s and `--on-event-kinds`'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// A console has its VM.
    VmUp,
    /// A console has no VM any more.
    VmDown,
    /// The VM is called otherwise.
    VmRenamed,
    /// The VM is on another host.
    VmMoved,
    /// A move was refused or is off.
    VmMoveFailed,
    /// Somebody came to a console.
    ClientAttached,
    /// Somebody left a console.
    ClientLeft,
    /// An operator sent somebody away.
    ClientBumped,
    /// Somebody has missed output.
    ClientLagged,
    /// A `[[watch]]` has found a line.
    PatternSeen,
    /// A console's client port is open.
    PortAssigned,
    /// A console has its client port no more.
    PortFreed,
}

impl Kind {
    /// What an event is. `None`: nothing that programs are told of one by one, or a change of a console's
    /// state, which is not taken from events.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        match &event.kind {
            EventKind::Vmotion(VmotionStep::Completed(_)) => Some(Self::VmMoved),
            EventKind::Vmotion(VmotionStep::Refused(_) | VmotionStep::Aborted(_)) => Some(Self::VmMoveFailed),
            EventKind::ClientAttached { .. } | EventKind::Attached { .. } => Some(Self::ClientAttached),
            EventKind::ClientDetached(..) | EventKind::Left { .. } => Some(Self::ClientLeft),
            EventKind::SentAway { .. } => Some(Self::ClientBumped),
            EventKind::ReaderSkipped(_) => Some(Self::ClientLagged),
            EventKind::PatternSeen { .. } => Some(Self::PatternSeen),
            _ => None,
        }
    }

    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::VmUp => "vm-up",
            Self::VmDown => "vm-down",
            Self::VmRenamed => "vm-renamed",
            Self::VmMoved => "vm-moved",
            Self::VmMoveFailed => "vm-move-failed",
            Self::ClientAttached => "client-attached",
            Self::ClientLeft => "client-left",
            Self::ClientBumped => "client-bumped",
            Self::ClientLagged => "client-lagged",
            Self::PatternSeen => "pattern-seen",
            Self::PortAssigned => "port-assigned",
            Self::PortFreed => "port-freed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_asked_for_by_the_word_that_it_is_told_by() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.word());
        }
    }
}
