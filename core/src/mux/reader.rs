//! What bytes from the line mean to streams.
//!
//! Owns the decoder, where the payload now arriving is to go, and the part of a stream-0 message that has
//! arrived.
//! Owns the rules of who may send what for which stream (SPEC §4, §5, §8): every branch ends in a changed
//! stream, a queued reply, a counted oddity or a [`Violation`]; none blocks, and none keeps more than its
//! stream's buffer. Refuses to know what messages come to.

use super::bits::Pending;
use super::control::{Control, Reply};
use super::decoder::{Decoder, Dialect, Item};
use super::error::Violation;
use super::event::ResetReason;
use super::receiver::{Flow, ReceiverState, Verdict};
use super::streams::Streams;
use super::v1::Overflow;
use super::wire::{Features, HEADER, MAX_MESSAGE, Message, Role, StreamId, Word};

/// Bytes on their way to their meaning.
#[derive(Debug)]
pub(super) struct FrameReader {
    decoder: Decoder,
    to: Destination,
    message: [u8; MAX_MESSAGE as usize],
    message_len: usize,
}

/// What a session has to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived<'i> {
    /// Payload for the live stream in this slot, which holds a place for it.
    Payload(u32, &'i [u8]),
    /// A message of stream 0.
    Message(Message),
    /// A word, or a frame has begun; what it means was done.
    Frame,
    /// A part of what will be one of these.
    Nothing,
}

/// Where the payload that is arriving goes. A stream may die meanwhile, so its id goes with its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    /// Nowhere: there is no such stream.
    Nowhere,
    /// Nowhere, but it is to be acked when it ends: RESET was not agreed and the peer must not hang.
    Stray(StreamId, u32),
    /// To the session.
    Message,
    /// To a stream's buffer.
    Keep(u32, StreamId),
    /// Nowhere: it did not fit and will come again.
    Discard(u32, StreamId),
    /// Nowhere: nobody wants it; so many bytes are to be acked.
    Sink(u32, StreamId, u32),
    /// v1: an exit code, of so many bytes.
    Exit(u32, StreamId, u32),
}

impl FrameReader {
    /// At the start of a line.
    pub(super) const fn new(dialect: Dialect) -> Self {
        Self {
            decoder: Decoder::new(dialect),
            to: Destination::Nowhere,
            message: [0; MAX_MESSAGE as usize],
            message_len: 0,
        }
    }

    /// Whether the next byte starts a frame.
    pub(super) const fn at_boundary(&self) -> bool {
        self.decoder.at_boundary()
    }

    /// The next thing to act on; `None` when `input` is used up. `Err`: the session is to end.
    pub(super) fn decode<'i>(
        &mut self,
        input: &mut &'i [u8],
        streams: &mut Streams,
        control: &mut Control,
    ) -> Result<Option<Arrived<'i>>, Violation> {
        let Some(item) = self.decoder.decode(input) else { return Ok(None) };
        Ok(Some(match item {
            Item::Payload { bytes, last } => self.handle_payload(bytes, last, streams, control),
            Item::Data { id, len } => {
                self.to = if streams.is_v1() {
                    handle_v1_data(id, len, streams, control)
                } else {
                    self.handle_data(id, len, streams, control)?
                };
                if self.to == Destination::Message { Arrived::Nothing } else { Arrived::Frame }
            }
            Item::Word { id, word } => {
                handle_word(id, word, streams, control)?;
                Arrived::Frame
            }
            Item::Bare { id, length } => {
                handle_bare(id, length, streams, control);
                Arrived::Frame
            }
        }))
    }

    /// S2: a payload begins.
    fn handle_data(
        &mut self,
        id: StreamId,
        len: u32,
        streams: &mut Streams,
        control: &mut Control,
    ) -> Result<Destination, Violation> {
        if id == StreamId::SESSION {
            if len > MAX_MESSAGE {
                return Err(Violation::MessageTooLong);
            }
            self.message_len = 0;
            return Ok(Destination::Message);
        }
        if streams.terms().is_some_and(|terms| len > terms.max_frame.into()) {
            // Whether or not there is such a stream: up to a gibibyte would have to be skipped.
            return Err(Violation::FrameTooLong);
        }
        let Some(slot) = streams.accept(id) else {
            streams.counters.stray += 1;
            if streams.has(Features::RESET) {
                control.reply(id, Reply::Reset);
                return Ok(Destination::Nowhere);
            }
            return Ok(Destination::Stray(id, len));
        };
        streams.note_data(slot);
        let (capacity, flow) = (streams.receive_buffer(slot), streams.flow());
        match streams.table[slot].receiver.handle_data(len, capacity, flow) {
            Ok(Verdict::Keep) => Ok(Destination::Keep(slot, id)),
            Ok(Verdict::Discard) => Ok(Destination::Discard(slot, id)),
            Ok(Verdict::Sink) => Ok(Destination::Sink(slot, id, len)),
            Err(violation) => {
                stream_violated(id, violation, streams, control)?;
                Ok(Destination::Nowhere)
            }
        }
    }

    /// A piece of a payload.
    fn handle_payload<'i>(
        &mut self,
        bytes: &'i [u8],
        last: bool,
        streams: &mut Streams,
        control: &mut Control,
    ) -> Arrived<'i> {
        let mut arrived = Arrived::Nothing;
        match self.to {
            Destination::Keep(slot, id) if streams.table.is_live(slot, id) => {
                if streams.table[slot].receiver.is_sink() {
                    // The application stopped reading while the frame was arriving.
                    streams.counters.discarded += bytes.len() as u64;
                    streams.consumed(slot, bytes.len() as u32);
                } else {
                    arrived = Arrived::Payload(slot, bytes);
                }
            }
            Destination::Message => {
                let room = &mut self.message[self.message_len..];
                let n = bytes.len().min(room.len());
                room[..n].copy_from_slice(&bytes[..n]);
                self.message_len += n;
            }
            Destination::Exit(slot, id, len) if streams.table.is_live(slot, id) => {
                // SPEC §8: the code is the byte of a message of exactly one, else 255.
                streams.table[slot].exit = if len == 1 { bytes[0] } else { u8::MAX };
            }
            _ => streams.counters.discarded += bytes.len() as u64,
        }
        if last {
            match std::mem::replace(&mut self.to, Destination::Nowhere) {
                Destination::Message => {
                    return Arrived::Message(Message::decode(&self.message[..self.message_len]));
                }
                to => payload_ended(to, streams, control),
            }
        }
        arrived
    }

    /// The entry that was in `from` is in `to` now.
    pub(super) fn handle_moved(&mut self, from: u32, to: u32) {
        match &mut self.to {
            Destination::Keep(slot, _)
            | Destination::Discard(slot, _)
            | Destination::Sink(slot, ..)
            | Destination::Exit(slot, ..)
                if *slot == from =>
            {
                *slot = to;
            }
            _ => {}
        }
    }
}

/// The peer broke the protocol on one stream: that stream where RESET was agreed, else the session.
fn stream_violated(
    id: StreamId,
    violation: Violation,
    streams: &mut Streams,
    control: &mut Control,
) -> Result<(), Violation> {
    if !streams.violated(id, violation)? {
        control.reply(id, Reply::Reset);
    }
    Ok(())
}

fn payload_ended(to: Destination, streams: &mut Streams, control: &mut Control) {
    match to {
        Destination::Stray(id, len) => {
            control.reply(id, Reply::Ack(len));
            control.close_stray(id);
        }
        Destination::Discard(slot, id) if streams.table.is_live(slot, id) => {
            let due = streams.table[slot].receiver.handle_discarded();
            streams.apply(slot, due);
        }
        Destination::Sink(slot, id, len) if streams.table.is_live(slot, id) => {
            let due = streams.table[slot].receiver.handle_sunk(len);
            streams.apply(slot, due);
        }
        Destination::Exit(slot, id, _) if streams.table.is_live(slot, id) => {
            streams.table[slot].exited = true;
            streams.announce(slot, Pending::EXITED);
            streams.refresh(slot);
        }
        _ => {}
    }
}

/// S2: a word without payload.
fn handle_word(
    id: StreamId,
    word: Word,
    streams: &mut Streams,
    control: &mut Control,
) -> Result<(), Violation> {
    match word {
        Word::Undefined(_) => return Err(Violation::UndefinedWord),
        Word::Empty | Word::Data(_) if id == StreamId::SESSION => {
            streams.counters.malformed += 1;
            return Ok(());
        }
        _ if id == StreamId::SESSION => return Err(Violation::WordOnSession),
        Word::Reserved(_) => return stream_violated(id, Violation::ReservedWord, streams, control),
        Word::Reset if !streams.has(Features::RESET) => return Err(Violation::ReservedWord),
        Word::Grow if !streams.has(Features::GROWS) => {
            return stream_violated(id, Violation::ReservedWord, streams, control);
        }
        _ => {}
    }
    // CLOSE may be the first word of a stream: one without a byte. The empty word is nothing but that.
    let opens = matches!(word, Word::Close | Word::Empty);
    let live = streams.live(id);
    let found = if opens { live.or_else(|| streams.accept(id)) } else { live };
    let Some(slot) = found else {
        handle_stray(id, word, streams, control);
        return Ok(());
    };
    let flow = streams.flow();
    let stream = &mut streams.table[slot];
    let verdict = match word {
        Word::Ack(n) => streams.handle_ack(slot, n),
        Word::Rewind => match flow {
            Flow::Reliable => Err(Violation::Repetition),
            Flow::Windowed => {
                stream.receiver.handle_rewind();
                Ok(())
            }
            Flow::Strict => Ok(()),
        },
        Word::Request => streams.handle_request(slot),
        Word::Grow => {
            streams.handle_grow(slot);
            Ok(())
        }
        Word::Close => {
            let verdict = stream.receiver.handle_close();
            streams.announce(slot, Pending::READABLE);
            verdict
        }
        Word::Reset => {
            streams.kill(slot, Some(ResetReason::Remote), false);
            return Ok(());
        }
        _ => {
            // The empty word, which opens a stream and else means nothing.
            streams.counters.malformed += u64::from(live.is_some());
            Ok(())
        }
    };
    match verdict {
        Ok(()) => {
            streams.refresh(slot);
            Ok(())
        }
        Err(violation) => stream_violated(id, violation, streams, control),
    }
}

/// S2: a word for a stream that is not open.
fn handle_stray(id: StreamId, word: Word, streams: &mut Streams, control: &mut Control) {
    if word == Word::Empty && !streams.is_peers(id) {
        streams.counters.malformed += 1;
        return;
    }
    streams.counters.stray += 1;
    if !streams.is_peers(id) {
        return;
    }
    match word {
        // Whoever opened it with this word and is refused would wait for ever.
        Word::Close | Word::Empty if streams.has(Features::RESET) => control.reply(id, Reply::Reset),
        Word::Close | Word::Empty => control.close_stray(id),
        // Its opener gave it up before it carried anything: whoever learns the id elsewhere must not wait for
        // it.
        Word::Reset => drop(streams.unused.take(id.number())),
        _ => {}
    }
}

/// v1: a payload begins.
fn handle_v1_data(id: StreamId, len: u32, streams: &mut Streams, control: &mut Control) -> Destination {
    let role = streams.config.role;
    let Some(slot) = streams.live(id) else {
        streams.counters.stray += 1;
        if role == Role::Guest {
            control.reply(id, Reply::Goodbye);
        }
        return Destination::Nowhere;
    };
    let (full, v1) = (streams.config.receive_buffer, streams.config.v1);
    let stream = &mut streams.table[slot];
    if matches!(stream.receiver.state(), ReceiverState::Fin | ReceiverState::Done) {
        streams.counters.stray += 1;
        // SPEC §8: the host takes a message behind the end of a stream for the exit code, up to API 4242.
        let is_exit = role == Role::Host && v1.has_exit_codes();
        return if is_exit { Destination::Exit(slot, id, len) } else { Destination::Nowhere };
    }
    let room = match v1.overflow {
        Overflow::Wait => u32::MAX,
        Overflow::Discard => full,
    };
    match stream.receiver.handle_data(len, room, Flow::Windowed) {
        Ok(Verdict::Keep) => Destination::Keep(slot, id),
        _ => {
            // Lost: v1 has no word to ask again, so the half stays open.
            stream.receiver.handle_discarded();
            stream.receiver.handle_lost();
            Destination::Nowhere
        }
    }
}

/// v1: a header without payload.
fn handle_bare(id: StreamId, length: u32, streams: &mut Streams, control: &mut Control) {
    let role = streams.config.role;
    if (length as usize) < HEADER {
        streams.counters.malformed += 1;
        if role == Role::Guest {
            return;
        }
    }
    let Some(slot) = streams.live(id) else {
        streams.counters.stray += 1;
        if role == Role::Guest {
            control.reply(id, Reply::Goodbye);
        }
        return;
    };
    if streams.table[slot].receiver.handle_close().is_ok() {
        streams.announce(slot, Pending::READABLE);
    }
    streams.refresh(slot);
}
