//! Reading packet captures: from a file to the TCP connections in it, each direction a stream of bytes
//! that remember the frame they came in.
//!
//! Owns the file formats (pcap, pcapng, either gzipped), the link and IP layers and TCP reassembly. Knows
//! nothing of telnet or of VMs: what a stream means is for `replay` to say. Nothing in a file can make it
//! panic; what cannot be read is skipped, counted and told ([`Capture::remarks`]).
//!
//! ```text
//! file ─gz─▶ format ─Frame─▶ link ─▶ ip ─Segment─▶ flows ─▶ stream      one pass, payload kept
//! ```
//!
//! Implements the pcap and pcapng drafts of the IETF opsawg, RFC 791, 8200, 9293.

mod flows;
mod format;
mod ip;
mod link;
mod pcap;
mod pcapng;
mod record;
mod stream;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;

pub(crate) use flows::Connection;
pub(crate) use stream::{How, Part, Start, Stream};

use flows::Flows;
use format::Format;
use ip::{Fragments, Parsed};
use record::{Broken, Frame};

/// Which of a connection's two endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Side {
    /// The one with the smaller address, then port: it says nothing about who called whom.
    A,
    /// The other one.
    B,
}

impl Side {
    /// The side opposite.
    #[must_use]
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Capture {
    /// How many frames were read.
    pub frames: u64,
    /// TCP connections, in the order of their first frame.
    pub connections: Vec<Connection>,
    /// Why reading stopped before the end of the file, if it did.
    pub broken: Option<String>,
    /// What was left out, one sentence each.
    pub remarks: Vec<String>,
}

/// Why a file cannot be played at all.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It starts like no capture.
    #[error("it is no capture: neither pcap nor pcapng, plain or gzipped")]
    NotACapture,
    /// It starts like one and ends, or goes wrong, before its first frame.
    #[error("it holds no frame: {0}")]
    NoFrame(String),
}

/// Reads the capture at `path`. Of connections without `port` on either side only the first bytes are
/// kept: enough to see what they speak.
///
/// # Errors
///
/// If nothing in it can be used; a file that goes wrong later is read up to there.
pub(crate) fn open(path: &Path, port: u16) -> Result<Capture, CaptureError> {
    read(BufReader::with_capacity(1 << 16, File::open(path)?), port)
}

/// Reads a capture from any source of bytes; see [`open`].
///
/// # Errors
///
/// As [`open`].
pub(crate) fn read(mut input: impl Read, port: u16) -> Result<Capture, CaptureError> {
    let mut magic = [0; 4];
    let got = record::fill(&mut input, &mut magic)?;
    if got == 0 {
        return Err(CaptureError::Empty);
    }
    let input = magic[..got].chain(input);
    if magic.starts_with(&GZIP) {
        let mut input = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(input)));
        let mut magic = [0; 4];
        let got = record::fill(&mut input, &mut magic).map_err(|_| CaptureError::NotACapture)?;
        frames(magic, got, magic[..got].chain(input), port)
    } else {
        frames(magic, got, input, port)
    }
}

/// Reads all frames of an unpacked capture.
fn frames(magic: [u8; 4], got: usize, input: impl Read, port: u16) -> Result<Capture, CaptureError> {
    let mut format = match got {
        4 => Format::detect(magic, input).ok_or(CaptureError::NotACapture)?,
        _ => return Err(CaptureError::NotACapture),
    };
    let mut frame = Frame::default();
    let mut tally = Tally::default();
    let mut fragments = Fragments::default();
    let mut flows = Flows::new(port);
    let mut clock = Clock::default();
    let broken = loop {
        match format.next(&mut frame) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(why) => break Some(why),
        }
        tally.frames += 1;
        frame.number = tally.frames;
        let time = clock.since_first(frame.nanos);
        take(&frame, time, &mut tally, &mut fragments, &mut flows);
    };
    let broken = match broken {
        None => None,
        Some(Broken::Io(error)) if tally.frames == 0 => return Err(CaptureError::Io(error)),
        Some(why) if tally.frames == 0 => return Err(CaptureError::NoFrame(why.to_string())),
        Some(why) => Some(format!("{why} after frame {}", tally.frames)),
    };
    if tally.frames == 0 {
        return Err(CaptureError::NoFrame("it ends after its header".into()));
    }
    tally.unfinished = fragments.unfinished();
    Ok(Capture {
        frames: tally.frames,
        broken,
        remarks: tally.remarks(flows.crowded()),
        connections: flows.finish(),
    })
}

/// Takes one frame apart down to its TCP segment, if it has one.
fn take(frame: &Frame, time: Duration, tally: &mut Tally, fragments: &mut Fragments, flows: &mut Flows) {
    let packet = match link::packet(frame.link, &frame.data) {
        link::Found::Ip(packet) => packet,
        link::Found::Other => return,
        link::Found::UnknownLink => {
            *tally.unknown_links.entry(frame.link).or_default() += 1;
            return;
        }
    };
    // What the link layer's header took is missing from the packet's length on the wire as well.
    let on_wire = (frame.length as usize).saturating_sub(frame.data.len() - packet.len());
    match ip::parse(packet, on_wire, frame.number, fragments) {
        Parsed::Tcp(whole) => match whole.segment() {
            Some(segment) => {
                if segment.payload.len() < segment.length {
                    tally.clipped += 1;
                    tally.first_clipped.get_or_insert(frame.number);
                }
                flows.take(&whole.source, &whole.target, &segment, frame.number, time);
            }
            None => tally.unreadable += 1,
        },
        Parsed::Other | Parsed::Fragment => {}
        Parsed::Unreadable => tally.unreadable += 1,
    }
}

/// Counts what was left out.
#[derive(Default)]
struct Tally {
    frames: u64,
    unreadable: u64,
    clipped: u64,
    first_clipped: Option<u64>,
    unfinished: usize,
    unknown_links: BTreeMap<u32, u64>,
}

impl Tally {
    fn remarks(&self, crowded: u64) -> Vec<String> {
        let mut remarks = Vec::new();
        for (link, frames) in &self.unknown_links {
            remarks.push(format!("{frames} frames have link type {link}, which is not understood"));
        }
        if self.unreadable > 0 {
            remarks.push(format!("{} frames have an IP or TCP header that makes no sense", self.unreadable));
        }
        if let Some(first) = self.first_clipped {
            let n = self.clipped;
            remarks.push(format!(
                "{n} frames were cut by the capture's snap length, the first is frame {first}"
            ));
        }
        if self.unfinished > 0 {
            remarks.push(format!("{} fragmented IP packets are incomplete", self.unfinished));
        }
        if crowded > 0 {
            remarks
                .push(format!("{crowded} segments belong to connections beyond the first {MAX_CONNECTIONS}"));
        }
        remarks
    }
}

/// Turns the frames' times into time since the first one that never goes back: captures of several
/// interfaces are a little out of order, and captures put one after the other jump far back.
#[derive(Default)]
struct Clock {
    first: Option<i64>,
    now: Duration,
}

impl Clock {
    fn since_first(&mut self, nanos: Option<i64>) -> Duration {
        let Some(nanos) = nanos else { return self.now };
        let first = *self.first.get_or_insert(nanos);
        let at = nanos.saturating_sub(first);
        let now = i64::try_from(self.now.as_nanos()).unwrap_or(i64::MAX);
        if at >= now {
            self.now = Duration::from_nanos(at.unsigned_abs());
        } else if now - at > JUMP_BACK {
            self.first = Some(nanos.saturating_sub(now));
        }
        self.now
    }
}

/// How every gzip member starts (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A time this far (10 s, in nanoseconds) before the last one is not disorder but another capture.
const JUMP_BACK: i64 = 10_000_000_000;

/// Connections kept; a file with more is a port scan or a flood, and the ones of interest come first.
const MAX_CONNECTIONS: usize = 1 << 16;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod write;
