//! What a member of the loop is given when it is visited, and what it answers.

use std::time::Duration;

use mio::Registry;
use vspc_core::time::Instant;

use crate::buffers::Buffers;
use crate::names::Names;

/// What belongs to the loop and is lent for one visit.
pub(crate) struct World<'a> {
    pub(crate) registry: &'a Registry,
    /// The member that is visited.
    pub(crate) id: usize,
    pub(crate) now: Instant,
    pub(crate) buffers: &'a mut Buffers,
    pub(crate) names: &'a mut Names,
}

/// What comes next for a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// There is more to do now: visit it again in the next turn.
    Again,
    /// Visit it when its sockets are ready, or at this time.
    Wait(Option<Instant>),
    /// It is over and can go.
    Over,
}

/// Whole seconds and tenths of a length of time, for the log.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
