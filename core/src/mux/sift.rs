//! Text on a line that is nobody's frame: a firmware's, a kernel's, the last words of one that crashed.
//!
//! Owns what of a line's bytes is not known to be one or the other yet, at most two frames of it. The session
//! and the link are given every byte whatever is found here, and judge for themselves: this decides only what
//! people are shown.

use std::time::Duration;

use crate::time::Instant;

use super::link::{FLAG, FrameDecoder, longest_frame};
use super::matcher::Matcher;
use super::wire::{HEADER, HELLO, Word, hello_start, split_header};

/// Where the bytes of a line without SL are told apart.
#[derive(Debug)]
pub(super) struct RawSift {
    hello: Matcher,
    /// Bytes of a HELLO that are still to come.
    hello_left: usize,
    /// The last frame, which the next one has not confirmed, and what has come of that.
    recent: Vec<u8>,
    /// Where in there the frame begins that is arriving.
    frame_at: usize,
    /// Bytes of its header, while there are not all of them.
    have: usize,
    /// Payload of it that is still to come.
    left: u32,
    last: Instant,
}

/// What of one read was told apart, and is held only once the read is over: most frames are confirmed in the
/// read that they came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'d> {
    data: &'d [u8],
    from: usize,
    to: usize,
}

impl<'d> Told<'d> {
    /// Nothing of it yet.
    pub(super) const fn new(data: &'d [u8]) -> Self {
        Self { data, from: 0, to: 0 }
    }

    /// What is still to be told apart.
    pub(super) fn rest(&self) -> &'d [u8] {
        &self.data[self.to..]
    }

    /// The next bytes are none that are to be held.
    pub(super) const fn skip(&mut self, n: usize) {
        self.to += n;
        self.from = self.to;
    }

    fn bytes(&self) -> &'d [u8] {
        &self.data[self.from..self.to]
    }
}

impl RawSift {
    pub(super) fn new() -> Self {
        Self {
            hello: Matcher::new(&hello_start()),
            hello_left: 0,
            recent: Vec::new(),
            frame_at: 0,
            have: 0,
            left: 0,
            last: Instant::ZERO,
        }
    }

    /// The same, for a line that nothing was held of.
    pub(super) fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }

    /// Nothing of the line is held: it is as new.
    pub(super) fn is_empty(&self) -> bool {
        self.recent.is_empty() && self.hello_left == 0 && self.hello.have() == 0 && self.left == 0
    }

    /// Nobody has answered: all is text but HELLOs.
    pub(super) fn before_hello(&mut self, data: &[u8], text: &mut Vec<u8>) {
        for &byte in data {
            if self.hello_left > 0 {
                self.hello_left -= 1;
                continue;
            }
            let before = self.hello.have();
            if self.hello.push(byte) {
                self.hello_left = HELLO - hello_start().len();
                continue;
            }
            // What cannot be part of one any more.
            let out = before + 1 - self.hello.have();
            text.extend_from_slice(&hello_start()[..out.min(before)]);
            if out > before {
                text.push(byte);
            }
        }
    }

    /// The next byte begins a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// How many of these bytes, at least one, belong to the header or the payload that is arriving.
    pub(super) fn piece(&self, data: &[u8]) -> usize {
        let wanted = if self.left > 0 { self.left as usize } else { HEADER - self.have };
        wanted.min(data.len())
    }

    /// That piece, which is next in the read, was taken for what it is.
    pub(super) fn confirm(&mut self, told: &mut Told<'_>, piece: usize, now: Instant) {
        self.last = now;
        told.to += piece;
        if self.left > 0 {
            self.left -= piece as u32;
        } else {
            self.have += piece;
            if self.have < HEADER {
                return;
            }
            self.have = 0;
            // It makes sense: so did the one before.
            let held = self.frame_at.min(self.recent.len());
            told.from = (told.from + self.frame_at - held).min(told.to);
            self.recent.drain(..held);
            self.frame_at = 0;
            if let Word::Data(len) = Word::from_u32(split_header(&self.header(told)).1) {
                self.left = len;
            }
        }
        if self.left == 0 {
            self.frame_at = self.recent.len() + told.bytes().len();
        }
    }

    /// Of the frame that is arriving, of which nothing is before it.
    fn header(&self, told: &Told<'_>) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let held = self.recent.len().min(HEADER);
        header[..held].copy_from_slice(&self.recent[..held]);
        header[held..].copy_from_slice(&told.bytes()[..HEADER - held]);
        header
    }

    /// The read is over.
    pub(super) fn hold(&mut self, told: Told<'_>) {
        self.recent.extend_from_slice(told.bytes());
    }

    /// That piece, which is next in the read, makes no sense: there were no frames since the last that was
    /// confirmed.
    pub(super) fn give_up(&mut self, told: &mut Told<'_>, piece: usize, text: &mut Vec<u8>) {
        text.append(&mut self.recent);
        told.to += piece;
        text.extend_from_slice(told.bytes());
        *self = Self::new();
        told.skip(0);
    }

    /// Begins anew. What was on the way to be a frame will never be one.
    pub(super) fn reset(&mut self, text: &mut Vec<u8>) {
        text.extend_from_slice(&self.recent[self.frame_at.min(self.recent.len())..]);
        *self = Self::new();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_whole = self.frame_at == self.recent.len();
        let patience = if is_whole { WHOLE } else { CUT_RAW };
        (!self.recent.is_empty()).then(|| self.last + patience)
    }

    /// The line has been silent. A frame that was cut is shown, and is waited for all the same.
    pub(super) fn handle_timeout(&mut self, now: Instant, text: &mut Vec<u8>) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if self.frame_at < self.recent.len() && self.left > 0 {
            text.append(&mut self.recent);
            self.frame_at = 0;
            // What is left of the payload goes on being counted, and is no header.
        } else if self.frame_at == self.recent.len() {
            self.recent = Vec::new();
            self.frame_at = 0;
        } else {
            self.last = now;
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.recent.capacity()
    }
}

/// Where the bytes of a line with SL are told apart.
#[derive(Debug)]
pub(super) struct LinkSift {
    /// From a flag on.
    held: Vec<u8>,
    /// That flag has ended a frame.
    is_spent: bool,
    most: usize,
    max_payload: usize,
    last: Instant,
}

impl LinkSift {
    pub(super) fn new(max_payload: usize) -> Self {
        let most = longest_frame(max_payload);
        Self { held: Vec::new(), is_spent: false, most, max_payload, last: Instant::ZERO }
    }

    pub(super) fn handle_received(&mut self, data: &[u8], now: Instant, text: &mut Vec<u8>) {
        self.last = now;
        let mut rest = data;
        while !rest.is_empty() {
            if self.held.is_empty() {
                let run = memchr::memchr(FLAG, rest).unwrap_or(rest.len());
                text.extend_from_slice(&rest[..run]);
                rest = &rest[run..];
                if !rest.is_empty() {
                    self.held.push(FLAG);
                    rest = &rest[1..];
                }
                continue;
            }
            self.push(rest[0], text);
            rest = &rest[1..];
        }
    }

    fn push(&mut self, byte: u8, text: &mut Vec<u8>) {
        self.held.push(byte);
        let is_none = match self.held.len() {
            _ if byte == FLAG => {
                let is_frame = self.held.len() == 2 || self.is_frame();
                if !is_frame {
                    self.held.pop();
                    self.show(text);
                }
                self.held.clear();
                self.held.push(FLAG);
                self.is_spent = is_frame;
                return;
            }
            // The type, and the flags: nothing that is printed has those.
            2 => !(TYPES.contains(&byte)),
            3 => byte > MOST_FLAGS && byte != ESCAPE,
            len => len > self.most,
        };
        if is_none {
            self.show(text);
        }
    }

    fn is_frame(&self) -> bool {
        let mut decoder = FrameDecoder::new(self.max_payload);
        let mut input = &self.held[..];
        std::iter::from_fn(|| decoder.decode(&mut input).map(|frame| frame.is_ok())).any(|is_good| is_good)
    }

    /// What is held is no frame.
    fn show(&mut self, text: &mut Vec<u8>) {
        text.extend_from_slice(&self.held[usize::from(self.is_spent)..]);
        self.held.clear();
        self.is_spent = false;
    }

    /// What was on the way to be a frame will never be one.
    pub(super) fn reset(&mut self, text: &mut Vec<u8>) {
        if !self.held.is_empty() {
            self.show(text);
        }
        self.held = Vec::new();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let patience = match self.held.len() {
            0 => return None,
            1 if self.is_spent => return None,
            1 => LONE_FLAG,
            _ => CUT_LINK,
        };
        Some(self.last + patience)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, text: &mut Vec<u8>) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.show(text);
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.held.capacity()
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.held.shrink_to_fit();
    }
}

/// Types of SL's frames.
const TYPES: std::ops::RangeInclusive<u8> = 0x40..=0x49;
const MOST_FLAGS: u8 = 3;
const ESCAPE: u8 = 0x7d;

/// A tilde at the end of what is printed: a frame's first flag does not come alone.
const LONE_FLAG: Duration = Duration::from_millis(50);
/// Silence in a frame after which what has come of it is shown: its sender may have crashed there.
const CUT_LINK: Duration = Duration::from_secs(2);
/// The same without SL. A VM that moves in mid-frame stands still for less.
const CUT_RAW: Duration = Duration::from_secs(10);
/// Silence after which a frame was whole.
const WHOLE: Duration = Duration::from_secs(1);
