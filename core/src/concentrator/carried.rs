//! What the streams of a guest carry, by their ids.
//!
//! **Owns** the table, which is as long as there are streams: a guest has few, and they are idle. What few
//! streams are, or are for a moment, is boxed. **Refuses to know** what is said on them.

use vspc_guest::{Greeting, LineBuffer, Teller};

use crate::mux::StreamId;
use crate::time::Instant;

use super::guest::Known;
use super::id::ConnId;
use super::windows::Window;

/// What a stream carries.
#[derive(Debug)]
pub(super) enum Carried {
    /// What it is comes in its first line.
    Unread(Box<LineBuffer>),
    /// What it is came while hello was not over, as far as is known here: streams have no order.
    Early(Box<LineBuffer>),
    /// Who we are, and who it is.
    Hello(Box<Hello>),
    /// What both sides tell of themselves.
    Facts(Box<FactStream>),
    /// It feeds a console, as this connection; packed (APPLICATION §10), if that was agreed.
    Leg { conn: ConnId, is_packed: bool },
    /// It is joined with a stream of an operator's.
    Joined(Box<Joined>),
    /// Somebody has connected to a listener in the guest, and waits to be taken.
    Waiting(Box<Waiting>),
    /// We tell on it how large the terminal of one that feeds a console is.
    Window(Box<Window>),
    /// It was refused, or is over here.
    Over,
}

/// A hello that is not over.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) greeting: Greeting,
    pub(super) line: LineBuffer,
    /// Who the guest says it is, while we have not proved who we are.
    pub(super) half_known: Option<Known>,
}

/// A stream of facts.
#[derive(Debug)]
pub(super) struct FactStream {
    pub(super) line: LineBuffer,
    pub(super) teller: Teller,
    /// What of a line it has not taken yet.
    pub(super) unsaid: Vec<u8>,
}

/// A stream of the guest's that an operator has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Joined {
    pub(super) operator: ConnId,
    pub(super) stream: u64,
    /// What it is, in a word.
    pub(super) op: Box<str>,
    /// What of its header is for people.
    pub(super) detail: Box<str>,
}

/// Somebody who waits to be taken.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The listener.
    pub(super) name: Box<str>,
    /// How long.
    pub(super) until: Instant,
}

/// The streams of one guest. A look-up costs the logarithm of how many there are; who comes or goes moves
/// those behind, of which there are a few hundred at most.
#[derive(Debug, Default)]
pub(super) struct CarriedStreams(Vec<(u64, Carried)>);

impl CarriedStreams {
    fn find(&self, id: StreamId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id.0, |&(id, _)| id)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Carried> {
        self.find(id).ok().map(|at| &self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Carried> {
        self.find(id).ok().map(|at| &mut self.0[at].1)
    }

    /// It is this from now on. Returns whether it was there.
    pub(super) fn set(&mut self, id: StreamId, carried: Carried) -> bool {
        match self.find(id) {
            Ok(at) => {
                self.0[at].1 = carried;
                true
            }
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (id.0, carried));
                false
            }
        }
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<Carried> {
        let (_, carried) = self.0.remove(self.find(id).ok()?);
        self.0.shrink_to_fit();
        Some(carried)
    }

    /// All of them, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &Carried)> {
        self.0.iter().map(|(id, carried)| (StreamId(*id), carried))
    }

    /// Takes all of them out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (StreamId, Carried)> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|(id, carried)| (StreamId(id), carried))
    }

    /// The stream for facts.
    pub(super) fn facts(&mut self) -> Option<(StreamId, &mut FactStream)> {
        self.0.iter_mut().find_map(|(id, carried)| match carried {
            Carried::Facts(facts) => Some((StreamId(*id), &mut **facts)),
            _ => None,
        })
    }
}
