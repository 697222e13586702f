//! A line's connection to the concentrator, on which the relay speaks as a VM's host does.
//!
//! **Owns** the dialogue, and which of the line's bytes have arrived: what the concentrator's system has
//! acknowledged. **Refuses to know** where they come from, and when to connect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use vspc_core::time::Instant;
use vspc_core::vmware::{Resume, VmConfig, VmEvent, VmSession};

use crate::backlog::Backlog;
use crate::link::{Link, Received};

/// A connection that is up.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) link: Link,
    session: VmSession,
    /// Pieces of output that are not acknowledged as a whole, oldest first.
    pieces: VecDeque<Piece>,
    /// What it said and nobody has asked for yet.
    news: Vec<VmEvent>,
    /// Whether the concentrator has agreed to serve this VM; that of a move's target, after COMPLETE.
    has_agreed: bool,
    /// As a move's target: whether PEER-OK is in.
    is_peer: bool,
    since: Instant,
    /// When it last took something.
    pub(crate) progress: Instant,
}

/// A piece of output between these places, and where it begins on the wire.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: u64,
    to: u64,
    wire_from: u64,
    /// Where all of it had gone; `None`: not all of it has.
    wire_to: Option<u64>,
}

/// What the concentrator said that matters to a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Agreed,
    /// It does not serve this VM, or is no concentrator; why.
    Refused(&'static str),
    /// It holds what is typed until the VM comes by another connection, which says this.
    Goahead(Resume),
    /// It does not do so now.
    Notnow,
    /// It takes this connection for the target of a move.
    PeerOk,
}

impl Speaker {
    pub(crate) fn new(link: Link, config: &Arc<VmConfig>, now: Instant) -> Self {
        Self {
            link,
            session: VmSession::new(Arc::clone(config)),
            pieces: VecDeque::new(),
            news: Vec::new(),
            has_agreed: false,
            is_peer: false,
            since: now,
            progress: now,
        }
    }

    pub(crate) fn note(&mut self, event: &Event) {
        self.link.note(event);
    }

    /// Until when it has to have agreed; `None`: it has.
    pub(crate) fn agree_by(&self) -> Option<Instant> {
        let patience = if self.is_target() { AGREE_TO_PEER } else { AGREE };
        (!self.has_agreed && !self.is_peer).then(|| self.since + patience)
    }

    /// Whether it has agreed.
    pub(crate) const fn has_agreed(&self) -> bool {
        self.has_agreed
    }

    fn is_target(&self) -> bool {
        self.session.config().resume.is_some()
    }

    /// Whether VMOTION-PEER was said.
    pub(crate) fn was_peer(&self) -> bool {
        self.is_target() && self.session.is_ready()
    }

    /// Says VMOTION-BEGIN, behind all that was given to it.
    pub(crate) fn begin(&mut self, sequence: &[u8]) {
        self.session.begin(sequence);
    }

    /// Says VMOTION-ABORT.
    pub(crate) fn abort(&mut self) {
        self.session.abort();
    }

    /// Says VMOTION-COMPLETE. What the VM prints comes behind it.
    pub(crate) fn complete(&mut self, now: Instant) {
        self.session.complete();
        self.has_agreed = true;
        self.progress = now;
    }

    /// Whether bytes are on their way that are not acknowledged.
    pub(crate) fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// Reads once: what was typed is appended to `typed`, and to `breaks` how much of that stands before each
    /// BREAK. Returns whether there may be more.
    pub(crate) fn hear(&mut self, buffer: &mut [u8], typed: &mut Vec<u8>, breaks: &mut Vec<usize>) -> bool {
        match self.link.receive(buffer) {
            Received::Bytes(n) => {
                // A BREAK ends with this byte; its place is known when nothing behind it has been looked at.
                for piece in buffer[..n].split_inclusive(|byte| *byte == BRK) {
                    self.session.handle_received(piece, typed);
                    while let Some(event) = self.session.poll_event() {
                        match event {
                            VmEvent::Break => breaks.push(typed.len()),
                            other => self.news.push(other),
                        }
                    }
                }
                // There may be an answer to send, too.
                true
            }
            Received::Nothing | Received::End => false,
        }
    }

    /// All that it said.
    pub(crate) fn told(&mut self) -> Vec<Told> {
        let news = std::mem::take(&mut self.news);
        news.into_iter().filter_map(|event| self.told_by(event)).collect()
    }

    fn told_by(&mut self, event: VmEvent) -> Option<Told> {
        Some(match event {
            VmEvent::ProxyAgreed => {
                self.has_agreed = true;
                Told::Agreed
            }
            VmEvent::Refused => Told::Refused("the concentrator does not serve it"),
            VmEvent::NotProxy => Told::Refused("it is no concentrator"),
            VmEvent::Goahead { sequence, secret } => Told::Goahead(Resume { sequence, secret }),
            VmEvent::Notnow { .. } => Told::Notnow,
            VmEvent::PeerOk { .. } => {
                self.is_peer = true;
                Told::PeerOk
            }
            _ => return None,
        })
    }

    /// Sends the dialogue, and output as far as the socket takes it. Returns whether there is more to send
    /// now.
    pub(crate) fn say(&mut self, backlog: &mut Backlog, now: Instant) -> bool {
        self.link.flush();
        for _ in 0..PIECES {
            while !self.session.pending().is_empty() {
                let link = &mut self.link;
                if self.session.transmit(|bytes| link.send(bytes)) == 0 {
                    return false;
                }
                self.progress = now;
            }
            if !self.link.has_sent_all() {
                return false;
            }
            if let Some(piece) = self.pieces.back_mut() {
                piece.wire_to.get_or_insert(self.link.sent());
            }
            if !self.has_agreed {
                return false;
            }
            let missing = backlog.missing();
            if missing > 0 {
                self.session.print(notice(missing).as_bytes());
                backlog.skip_missing();
                continue;
            }
            let from = backlog.sent();
            let piece = backlog.next(PIECE);
            if piece.is_empty() {
                return false;
            }
            let length = piece.len();
            self.session.print(piece);
            let to = from + length as u64;
            self.pieces.push_back(Piece { from, to, wire_from: self.link.sent(), wire_to: None });
            backlog.took(length);
        }
        true
    }

    /// Lets go of what has arrived.
    pub(crate) fn settle(&mut self, backlog: &mut Backlog, now: Instant) {
        if self.pieces.is_empty() {
            return;
        }
        let arrived = self.link.arrived();
        while let Some(piece) = self.pieces.front()
            && piece.wire_to.is_some_and(|to| to <= arrived)
        {
            backlog.settle(piece.to);
            self.pieces.pop_front();
            self.progress = now;
        }
    }

    /// The connection is over: what has not arrived is to be sent again. Of a piece that has arrived in part
    /// the rest is, in clear; within TLS all of it is.
    pub(crate) fn give_back(mut self, backlog: &mut Backlog, now: Instant) {
        self.settle(backlog, now);
        if let Some(piece) = self.pieces.front()
            && !self.link.is_sealed()
        {
            let mut left = self.link.arrived().saturating_sub(piece.wire_from);
            let mut place = piece.from;
            'piece: while place < piece.to {
                let bytes = backlog.at(place, (piece.to - place) as usize);
                if bytes.is_empty() {
                    break;
                }
                for byte in bytes {
                    let cost = if *byte == IAC { 2 } else { 1 };
                    if left < cost {
                        break 'piece;
                    }
                    left -= cost;
                    place += 1;
                }
            }
            backlog.settle(place);
        }
        backlog.rewind();
        self.link.finish();
    }
}

/// The line that stands where output is missing.
fn notice(missing: u64) -> String {
    format!("\r\n[vspc-relay: {missing} bytes are missing here]\r\n")
}

/// What telnet doubles.
const IAC: u8 = 255;

/// The last byte of telnet's BREAK.
const BRK: u8 = 243;

/// Output that is put into telnet's form at once: one record of TLS.
const PIECE: usize = 16 << 10;

/// Pieces that one visit sends.
const PIECES: usize = 16;

/// How long a concentrator has to agree. Ours takes milliseconds; hosts wait longer than this.
const AGREE: Duration = Duration::from_secs(10);

/// How long a target waits for PEER-OK (vmotion.md §4).
const AGREE_TO_PEER: Duration = Duration::from_secs(5);
