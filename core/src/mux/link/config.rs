//! What a link is given when it is made: sizes, times and choices, each with the reason for its default.
//!
//! Owns the bound of its memory. Refuses to know what the peer asks for.

use std::time::Duration;

use super::frame::{CHECKSUM, EscapeSet, HEADER};

/// How a receiver asks for what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Keeps nothing behind a gap; everything from it on comes again. For lines that lose little.
    GoBackN,
    /// Keeps what it can; the gap alone comes again. From one error in 10 000 bytes on.
    Selective,
}

/// Everything a [`super::Link`] needs to know beforehand.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// How this side asks for what is missing.
    pub repeat: Repeat,
    /// Largest payload: 256, a frame of which costs 5 % and is lost to one error in three at 1e-3.
    pub max_payload: u16,
    /// Frames under way, and stored behind a gap: 16; at most 32, what a SACK can name.
    pub window: u16,
    /// What is escaped.
    pub escapes: EscapeSet,
    /// The line's speed in bits per second, 10 bits a byte; 0: fast enough not to matter.
    pub bits_per_second: u32,
    /// Identifies this start of this side: any number that differs from the last one and from the other
    /// side's. A frame that opens with it is an echo, and ignored.
    pub nonce: u32,
    /// Silence after which PING is sent, three unanswered ones are the end. Zero, the default: never, for a
    /// peer that stands still (paused, in a debugger) is not dead.
    pub idle: Duration,
    /// Time-outs in a row after which the peer counts as gone. 0, the default: never.
    pub max_timeouts: u32,
}

impl LinkConfig {
    /// The defaults, with selective repeat.
    #[must_use]
    pub const fn new(nonce: u32) -> Self {
        Self {
            repeat: Repeat::Selective,
            max_payload: 256,
            window: 16,
            escapes: EscapeSet::serial(),
            bits_per_second: 0,
            nonce,
            idle: Duration::ZERO,
            max_timeouts: 0,
        }
    }

    /// How long a full frame occupies the line.
    #[must_use]
    pub fn frame_time(&self) -> Duration {
        let bits = (HEADER + CHECKSUM + 1 + usize::from(self.max_payload)) as u64 * 10;
        bits.checked_mul(1_000_000)
            .and_then(|micros| micros.checked_div(self.bits_per_second.into()))
            .map_or(Duration::ZERO, Duration::from_micros)
    }

    /// The most memory a link so configured can hold, in bytes: a window of frames under way, a window
    /// delivered and not read, a window behind a gap, the frame that arrives and the one that leaves. Vectors
    /// are up to twice as long as need be, and what was delivered moves only when half of it was read.
    #[must_use]
    pub fn memory_bound(&self) -> u64 {
        let (payload, window) = (u64::from(self.max_payload()), u64::from(self.window()));
        let frame = payload + (HEADER + CHECKSUM) as u64;
        // Payload under way is as long as what was pending; each frame is noted beside it.
        let under_way = (window + 1) * (2 * payload + NOTED);
        let delivered = 4 * (window + 1) * payload;
        let ahead = 2 * window * (payload + NOTED);
        // Escaped, every byte may take two.
        under_way + delivered + ahead + 2 * frame.max(LEAST_VECTOR) + 4 * frame + LEAST_VECTOR
    }

    /// The window, cut to what a SACK can name.
    pub(super) fn window(&self) -> u16 {
        self.window.clamp(1, MAX_WINDOW)
    }

    pub(super) fn max_payload(&self) -> u16 {
        self.max_payload.max(1)
    }
}

/// What is noted of a frame under way, or of one held, twice over.
const NOTED: u64 = 160;
/// What the smallest vectors take.
const LEAST_VECTOR: u64 = 64;

/// Bits in a SACK.
pub(super) const MAX_WINDOW: u16 = 32;
