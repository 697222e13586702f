//! One stream's receiving half: what is kept, what is thrown away, when to ACK and when to ask again (SPEC
//! §5).
//!
//! Counts only. Owns neither bytes nor frames, knows neither time nor the other streams.
//!
//! ```text
//!              does not fit             buffer empty: ACK, REQUEST
//!   OPEN ────────────────────▶ DROP ────────────────────────────────▶ WAIT
//!    │ ▲                                                               │
//!    │ └───────────── REWIND (windowed); DATA that fits (strict) ──────┘
//!    │ CLOSE               buffer empty: last ACK
//!    └───────▶ FIN ───────────────────────────────▶ DONE
//!
//!   event             OPEN                DROP               WAIT                          FIN
//!   DATA fits         keep                discard            windowed: discard             violation
//!                                                            strict: keep → OPEN
//!   DATA does not     discard → DROP      discard            windowed: discard             violation
//!                     reliable: violation                    strict: discard → DROP
//!   consumed k        ACK at half the     same; empty: ACK,  —                             same; empty: last ACK
//!                     buffer or empty     REQUEST → WAIT                                   → DONE
//!   REWIND            ignored             ignored            → OPEN                        ignored
//!   CLOSE             → FIN               violation          violation                     violation
//! ```

use super::error::Violation;

/// The receiving half of a stream.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    state: ReceiverState,
    /// Nobody reads any more: everything is taken, dropped and acked.
    sink: bool,
    /// A frame that is thrown away is still arriving.
    discarding: bool,
    /// Bytes kept or, of a frame still arriving, promised a place.
    kept: u32,
    /// Consumed, not acked.
    unacked: u32,
}

/// The state of a [`Receiver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceiverState {
    /// Takes payload.
    Open,
    /// Threw something away and still holds accepted bytes.
    Drop,
    /// Threw something away, asked for it again.
    Wait,
    /// Saw CLOSE, still holds bytes.
    Fin,
    /// Saw CLOSE, everything consumed.
    Done,
}

/// A [`Receiver`] of which nothing is under way, in a byte: whether everything has come, and whether nobody
/// reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReceiverAtRest {
    Open,
    Sink,
    Done,
    DoneSink,
}

/// What may be thrown away, and how it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// One frame is under way, and comes again by itself.
    Strict,
    /// A window is under way; what comes again is behind a REWIND.
    Windowed,
    /// A window is under way, all of which fits; nothing comes again.
    Reliable,
}

/// What to do with a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Keep every byte of it.
    Keep,
    /// Throw every byte of it away; it will come again.
    Discard,
    /// Throw it away and ack it: nobody wants it.
    Sink,
}

/// What consuming brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// ACK this many bytes; 0: none.
    pub ack: u32,
    /// Then send REQUEST.
    pub request: bool,
}

impl Receiver {
    /// Open, nothing kept.
    pub(super) const fn new() -> Self {
        Self { state: ReceiverState::Open, sink: false, discarding: false, kept: 0, unacked: 0 }
    }

    /// What is kept of it while nothing is under way. `None`: something is.
    pub(super) fn at_rest(&self) -> Option<ReceiverAtRest> {
        if self.kept > 0 || self.unacked > 0 || self.discarding {
            return None;
        }
        match (self.state, self.sink) {
            (ReceiverState::Open, false) => Some(ReceiverAtRest::Open),
            (ReceiverState::Open, true) => Some(ReceiverAtRest::Sink),
            (ReceiverState::Done, false) => Some(ReceiverAtRest::Done),
            (ReceiverState::Done, true) => Some(ReceiverAtRest::DoneSink),
            (ReceiverState::Drop | ReceiverState::Wait | ReceiverState::Fin, _) => None,
        }
    }

    /// As it was.
    pub(super) const fn resumed(kept: ReceiverAtRest) -> Self {
        let (state, sink) = match kept {
            ReceiverAtRest::Open => (ReceiverState::Open, false),
            ReceiverAtRest::Sink => (ReceiverState::Open, true),
            ReceiverAtRest::Done => (ReceiverState::Done, false),
            ReceiverAtRest::DoneSink => (ReceiverState::Done, true),
        };
        Self { state, sink, ..Self::new() }
    }

    /// Where in the table it is.
    pub(super) const fn state(&self) -> ReceiverState {
        self.state
    }

    /// Bytes that were kept, or promised a place, and not taken.
    pub(super) const fn kept(&self) -> u32 {
        self.kept
    }

    /// Whether nobody reads any more.
    pub(super) const fn is_sink(&self) -> bool {
        self.sink
    }

    /// A frame of `len` bytes begins; `capacity` is the buffer's size.
    pub(super) fn handle_data(&mut self, len: u32, capacity: u32, flow: Flow) -> Result<Verdict, Violation> {
        let verdict = self.judge(len, capacity, flow)?;
        self.discarding = verdict == Verdict::Discard;
        Ok(verdict)
    }

    fn judge(&mut self, len: u32, capacity: u32, flow: Flow) -> Result<Verdict, Violation> {
        let fits = self.sink || self.kept.checked_add(len).is_some_and(|kept| kept <= capacity);
        match self.state {
            ReceiverState::Fin | ReceiverState::Done => return Err(Violation::DataAfterClose),
            ReceiverState::Drop => return Ok(Verdict::Discard),
            ReceiverState::Wait if flow != Flow::Strict => return Ok(Verdict::Discard),
            // Strict: at most one frame is under way, so whatever comes is the one asked for.
            ReceiverState::Wait | ReceiverState::Open if fits => self.state = ReceiverState::Open,
            _ if flow == Flow::Reliable => return Err(Violation::BeyondWindow),
            ReceiverState::Wait | ReceiverState::Open => {
                self.state = ReceiverState::Drop;
                return Ok(Verdict::Discard);
            }
        }
        if self.sink {
            return Ok(Verdict::Sink);
        }
        self.kept += len;
        Ok(Verdict::Keep)
    }

    /// A discarded frame has ended: asks again at once where nothing accepted is left to consume.
    pub(super) fn handle_discarded(&mut self) -> Due {
        self.discarding = false;
        self.due(0)
    }

    /// A frame was thrown away and cannot be asked for again (v1): go on as if it had never been sent.
    pub(super) fn handle_lost(&mut self) {
        self.state = ReceiverState::Open;
    }

    /// `len` bytes of a frame nobody wants have been dropped.
    pub(super) fn handle_sunk(&mut self, len: u32) -> Due {
        self.unacked += len;
        self.due(0)
    }

    /// The application took `k` bytes that were kept. `threshold`: ACK no later than at so many.
    pub(super) fn handle_consumed(&mut self, k: u32, threshold: u32) -> Due {
        self.kept -= k;
        self.unacked += k;
        self.due(threshold)
    }

    /// What was consumed is acked however little it is: what is kept is taken only once more has come.
    pub(super) fn handle_waiting(&mut self) -> Due {
        self.due(0)
    }

    /// Nobody reads any more; `arrived` of the kept bytes are in the buffer and dropped now.
    pub(super) fn handle_sink(&mut self, arrived: u32) -> Due {
        self.sink = true;
        self.handle_consumed(arrived, 0)
    }

    /// CLOSE came.
    pub(super) fn handle_close(&mut self) -> Result<(), Violation> {
        match self.state {
            ReceiverState::Open => {
                self.state = if self.kept == 0 { ReceiverState::Done } else { ReceiverState::Fin };
                Ok(())
            }
            ReceiverState::Drop | ReceiverState::Wait => Err(Violation::CloseWhileWaiting),
            ReceiverState::Fin | ReceiverState::Done => Err(Violation::SecondClose),
        }
    }

    /// REWIND came.
    pub(super) fn handle_rewind(&mut self) {
        if self.state == ReceiverState::Wait {
            self.state = ReceiverState::Open;
        }
    }

    /// SPEC §5: with an empty buffer every consumed byte must be acked, or the sender may wait for ever.
    fn due(&mut self, threshold: u32) -> Due {
        let mut due = Due::default();
        let empty = self.kept == 0;
        if self.unacked > 0 && (empty || self.unacked >= threshold) {
            due.ack = std::mem::take(&mut self.unacked);
        }
        if empty {
            match self.state {
                // SPEC §5: not in the middle of a frame, which the sender would have to count as sent.
                ReceiverState::Drop if !self.discarding => {
                    self.state = ReceiverState::Wait;
                    due.request = true;
                }
                ReceiverState::Fin => self.state = ReceiverState::Done,
                _ => {}
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReceiverState::{Done, Drop, Fin, Open, Wait};

    const C: u32 = 10;

    /// A receiver in `state` holding 8 bytes where the state allows it.
    fn receiver(state: ReceiverState) -> Receiver {
        let mut receiver = Receiver::new();
        let keep = |receiver: &mut Receiver| {
            assert_eq!(receiver.handle_data(8, C, Flow::Windowed), Ok(Verdict::Keep));
        };
        match state {
            Open => keep(&mut receiver),
            Drop => {
                keep(&mut receiver);
                assert_eq!(receiver.handle_data(3, C, Flow::Windowed), Ok(Verdict::Discard));
                assert_eq!(receiver.handle_discarded(), Due::default());
            }
            Wait => {
                assert_eq!(receiver.handle_data(11, C, Flow::Windowed), Ok(Verdict::Discard));
                assert_eq!(receiver.handle_discarded(), Due { ack: 0, request: true });
            }
            Fin => {
                keep(&mut receiver);
                receiver.handle_close().unwrap();
            }
            Done => receiver.handle_close().unwrap(),
        }
        assert_eq!(receiver.state(), state);
        receiver
    }

    #[test]
    fn data_that_fits() {
        for (state, flow, want, then) in [
            (Open, Flow::Windowed, Ok(Verdict::Keep), Open),
            (Open, Flow::Strict, Ok(Verdict::Keep), Open),
            (Drop, Flow::Windowed, Ok(Verdict::Discard), Drop),
            (Drop, Flow::Strict, Ok(Verdict::Discard), Drop),
            (Wait, Flow::Windowed, Ok(Verdict::Discard), Wait),
            (Wait, Flow::Strict, Ok(Verdict::Keep), Open),
            (Fin, Flow::Windowed, Err(Violation::DataAfterClose), Fin),
            (Done, Flow::Windowed, Err(Violation::DataAfterClose), Done),
        ] {
            let mut receiver = receiver(state);
            assert_eq!(receiver.handle_data(2, C, flow), want, "{state:?}");
            assert_eq!(receiver.state(), then);
        }
    }

    #[test]
    fn data_that_does_not_fit() {
        for (state, flow, want, then) in [
            (Open, Flow::Windowed, Ok(Verdict::Discard), Drop),
            (Open, Flow::Strict, Ok(Verdict::Discard), Drop),
            (Drop, Flow::Windowed, Ok(Verdict::Discard), Drop),
            (Wait, Flow::Windowed, Ok(Verdict::Discard), Wait),
            (Wait, Flow::Strict, Ok(Verdict::Discard), Drop),
            (Fin, Flow::Windowed, Err(Violation::DataAfterClose), Fin),
            (Done, Flow::Windowed, Err(Violation::DataAfterClose), Done),
        ] {
            let mut receiver = receiver(state);
            assert_eq!(receiver.handle_data(C + 1, C, flow), want, "{state:?}");
            assert_eq!(receiver.state(), then);
        }
    }

    #[test]
    fn consuming_acks_at_the_threshold_or_when_empty() {
        let mut open = receiver(Open);
        assert_eq!(open.handle_consumed(4, 5), Due::default());
        assert_eq!(open.handle_consumed(1, 5), Due { ack: 5, request: false });
        assert_eq!(open.handle_consumed(3, 5), Due { ack: 3, request: false });
        assert_eq!(open.state(), Open);
    }

    #[test]
    fn who_waits_for_more_acks_what_was_taken_and_keeps_the_rest() {
        let mut open = receiver(Open);
        assert_eq!(open.handle_waiting(), Due::default());
        assert_eq!(open.handle_consumed(3, 5), Due::default());
        assert_eq!(open.handle_waiting(), Due { ack: 3, request: false });
        assert_eq!((open.handle_waiting(), open.kept()), (Due::default(), 5));
    }

    #[test]
    fn draining_after_a_discard_acks_then_asks_again_once() {
        let mut receiver = receiver(Drop);
        assert_eq!(receiver.handle_consumed(5, 5), Due { ack: 5, request: false });
        assert_eq!(receiver.handle_consumed(3, 5), Due { ack: 3, request: true });
        assert_eq!(receiver.state(), Wait);
        assert_eq!(receiver.handle_discarded(), Due::default(), "once per wait");
        receiver.handle_rewind();
        assert_eq!(receiver.state(), Open);
    }

    #[test]
    fn nothing_is_asked_for_while_the_discarded_frame_still_arrives() {
        let mut receiver = receiver(Open);
        assert_eq!(receiver.handle_data(3, C, Flow::Windowed), Ok(Verdict::Discard));
        assert_eq!(receiver.handle_consumed(8, 5), Due { ack: 8, request: false });
        assert_eq!((receiver.state(), receiver.handle_discarded()), (Drop, Due { ack: 0, request: true }));
        assert_eq!(receiver.state(), Wait);
    }

    #[test]
    fn draining_after_close_ends() {
        let mut receiver = receiver(Fin);
        assert_eq!(receiver.handle_consumed(8, 5), Due { ack: 8, request: false });
        assert_eq!(receiver.state(), Done);
    }

    #[test]
    fn rewind_matters_only_while_waiting() {
        for (state, then) in [(Open, Open), (Drop, Drop), (Wait, Open), (Fin, Fin), (Done, Done)] {
            let mut receiver = receiver(state);
            receiver.handle_rewind();
            assert_eq!(receiver.state(), then);
        }
    }

    #[test]
    fn close_is_a_violation_unless_open() {
        for (state, want) in [
            (Open, Ok(())),
            (Drop, Err(Violation::CloseWhileWaiting)),
            (Wait, Err(Violation::CloseWhileWaiting)),
            (Fin, Err(Violation::SecondClose)),
            (Done, Err(Violation::SecondClose)),
        ] {
            assert_eq!(receiver(state).handle_close(), want);
        }
    }

    #[test]
    fn a_sink_takes_and_acks_everything() {
        let mut sink = receiver(Open);
        assert_eq!(sink.handle_sink(8), Due { ack: 8, request: false });
        assert_eq!(sink.handle_data(1000, C, Flow::Windowed), Ok(Verdict::Sink));
        assert_eq!(sink.handle_sunk(1000), Due { ack: 1000, request: false });
        let mut sink = receiver(Drop);
        assert_eq!(sink.handle_sink(8), Due { ack: 8, request: true });
        sink.handle_rewind();
        assert_eq!(sink.handle_data(1000, C, Flow::Windowed), Ok(Verdict::Sink));
        let mut sink = receiver(Fin);
        assert_eq!(sink.handle_sink(8), Due { ack: 8, request: false });
        assert_eq!(sink.state(), Done);
    }
}
