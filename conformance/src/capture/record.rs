//! What the two file formats have in common: a frame, how reading may end, and integers in either order.

use std::fmt;
use std::io::{self, Read};

/// One captured frame.
#[derive(Default, Debug)]
pub(super) struct Frame {
    /// Its number, from 1, as capture viewers count.
    pub(super) number: u64,
    /// When it was captured, in nanoseconds since 1970, where the format says.
    pub(super) nanos: Option<i64>,
    /// What its bytes begin with: a `LINKTYPE_` value.
    pub(super) link: u32,
    /// The bytes that were kept.
    pub(super) data: Vec<u8>,
    /// How many there were on the wire.
    pub(super) length: u32,
}

/// Why reading stopped before the end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The file ends inside a record.
    Cut,
    /// A record makes no sense.
    Damaged(&'static str),
    /// The file cannot be read.
    Io(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("it is cut short"),
            Self::Damaged(what) => write!(f, "it is damaged ({what})"),
            Self::Io(error) => write!(f, "it cannot be read further ({error})"),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Damaged("bad gzip data"),
            _ => Self::Io(error),
        }
    }
}

/// The order of bytes in a file's integers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    /// The 16-bit integer at `at`. The caller has checked the length.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = [bytes[at], bytes[at + 1]];
        match self {
            Self::Big => u16::from_be_bytes(raw),
            Self::Little => u16::from_le_bytes(raw),
        }
    }

    /// The 32-bit integer at `at`. The caller has checked the length.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Big => u32::from_be_bytes(raw),
            Self::Little => u32::from_le_bytes(raw),
        }
    }
}

/// Reads until `buffer` is full or the input ends; how much was read. A gzip member that ends early counts
/// as an end.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // At a record's boundary this would look like a proper end, which it is not.
                return if got == 0 { Err(error) } else { Ok(got) };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Fills `buffer`; false if the input has ended before its first byte.
pub(super) fn record(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, Broken> {
    match fill(input, buffer)? {
        0 if !buffer.is_empty() => Ok(false),
        n if n < buffer.len() => Err(Broken::Cut),
        _ => Ok(true),
    }
}

/// Fills `data` with the next `length` bytes, without trusting `length` with memory.
pub(super) fn body(input: &mut impl Read, data: &mut Vec<u8>, length: usize) -> Result<(), Broken> {
    data.clear();
    input.by_ref().take(length as u64).read_to_end(data)?;
    if data.len() < length { Err(Broken::Cut) } else { Ok(()) }
}

/// No frame is longer than this: 64 times what a link can carry, 16 times what offloading makes of it.
pub(super) const MAX_FRAME: u32 = 16 << 20;
