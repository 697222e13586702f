//! What the runtime has to do, in order, and after that what it may log: bytes, a GOAHEAD among them, do
//! not wait for words about them. Bounded: one Transmit and one Receive per connection, a few
//! events per connection between two drains, and at most one Listen, Unlisten or Close per id.

use std::collections::VecDeque;

use super::event::{Event, What};
use super::id::ConnId;
use super::output::Output;

/// Events of one connection between two drains; further ones are counted and told as one.
const EVENTS: u8 = 16;

/// What a connection has outstanding in the outbox or with the runtime.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announced {
    /// The runtime knows that there are bytes and has not yet found that there are none left.
    pub(super) transmit: bool,
    /// A Receive is in the outbox.
    pub(super) receive: bool,
    events: u8,
    suppressed: u32,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Output>,
    events: VecDeque<Event>,
}

/// Room for a storm's worth is given back once it is over.
const KEPT_ROOM: usize = 1024;

impl Outbox {
    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    /// Says that `id` has bytes, unless the runtime knows.
    pub(super) fn transmit(&mut self, id: ConnId, announced: &mut Announced) {
        if !announced.transmit {
            announced.transmit = true;
            self.queue.push_back(Output::Transmit(id));
        }
    }

    /// Says that `id` may be read again.
    pub(super) fn receive(&mut self, id: ConnId, announced: &mut Announced) {
        if !announced.receive {
            announced.receive = true;
            self.queue.push_back(Output::Receive(id));
        }
    }

    /// Tells an event of a connection, or counts it where that connection has had its share. Its end is
    /// told in any case.
    pub(super) fn event(&mut self, event: Event, announced: &mut Announced) {
        let is_last =
            matches!(event.what, What::VmDisconnected(_) | What::ClientDetached(_) | What::ClientNotLetIn(_));
        if announced.events < EVENTS || is_last {
            announced.events = announced.events.saturating_add(1);
            self.events.push_back(event);
        } else {
            announced.suppressed = announced.suppressed.saturating_add(1);
        }
    }

    /// Tells an event that belongs to no connection.
    pub(super) fn plain_event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        let output = self.queue.pop_front().or_else(|| self.events.pop_front().map(Output::Event));
        if output.is_none() {
            if self.queue.capacity() > KEPT_ROOM {
                self.queue = VecDeque::new();
            }
            if self.events.capacity() > KEPT_ROOM {
                self.events = VecDeque::new();
            }
        }
        output
    }
}

impl Announced {
    /// An event of this connection was taken. Returns how many were suppressed, once its share is free
    /// again.
    pub(super) fn event_taken(&mut self) -> Option<u32> {
        self.events = self.events.saturating_sub(1);
        if self.events == 0 && self.suppressed > 0 {
            return Some(std::mem::take(&mut self.suppressed));
        }
        None
    }
}
