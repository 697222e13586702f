//! What a link reports to its application, and what it has counted.
//!
//! Owns the reasons. Refuses to know what an application makes of them.

/// Something about a link changed. At most one of each kind waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// It carries bytes now.
    Opened,
    /// The peer started anew: what was under way is lost, the byte stream begins again in both directions.
    Restarted,
    /// Bytes wait to be read.
    Readable,
    /// After a short write there is room again, or the link has opened.
    Writable,
    /// The peer will send nothing more; bytes may still wait.
    Ended,
    /// It is over. Bytes may still wait; a peer that opens anew is answered once they were read and this was
    /// polled.
    Closed(LinkClosed),
}

/// Why a link closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkClosed {
    /// Both directions ended in good order.
    Done,
    /// As many time-outs in a row as [`LinkConfig::max_timeouts`](super::LinkConfig::max_timeouts) allows.
    TimedOut,
    /// Three PINGs went unanswered.
    Silent,
    /// The peer sent RST with this code.
    Reset(u16),
    /// This side sent RST.
    Local,
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames put on the line.
    pub frames: u64,
    /// Of these, numbered frames that had been sent before.
    pub repeated: u64,
    /// Numbered frames that came again without need.
    pub duplicates: u64,
    /// Frames whose checksum was wrong.
    pub bad_checksum: u64,
    /// Frames cut short.
    pub short: u64,
    /// Frames longer than agreed.
    pub long: u64,
    /// Frames given up by their sender.
    pub aborted: u64,
    /// Frames that were whole and made no sense.
    pub malformed: u64,
    /// Frames of this side's own that came back: the line is looped, or something on it echoes.
    pub echoes: u64,
}

/// What waits to be polled, coalesced.
#[derive(Debug, Default)]
pub(super) struct LinkEvents {
    pub(super) opened: Option<LinkEvent>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) ended: bool,
    pub(super) closed: Option<LinkClosed>,
}

impl LinkEvents {
    /// Whether the end of the last link was not polled yet.
    pub(super) const fn has_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// The next one.
    pub(super) fn poll(&mut self) -> Option<LinkEvent> {
        self.opened
            .take()
            .or_else(|| std::mem::take(&mut self.readable).then_some(LinkEvent::Readable))
            .or_else(|| std::mem::take(&mut self.writable).then_some(LinkEvent::Writable))
            .or_else(|| std::mem::take(&mut self.ended).then_some(LinkEvent::Ended))
            .or_else(|| self.closed.take().map(LinkEvent::Closed))
    }
}
