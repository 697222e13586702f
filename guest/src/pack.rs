//! Packed bytes (APPLICATION §10): blocks of a file, each packed for itself.
//!
//! Owns how a block is written and read, and what of one makes no sense. Holds one block at the most,
//! whatever the other side says. Refuses to know where the bytes come from.

use serde::{Deserialize, Deserializer, Serialize};

use crate::answer::{Code, Refusal};

/// How bytes are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pack {
    /// Blocks of LZ4.
    Lz4,
}

impl Pack {
    /// The words that a guest says in its answer to `hello`.
    pub const WORDS: [&str; 1] = ["lz4"];

    /// Of a member that may be a word of a later version: then nothing is packed.
    pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        let word = Option::<String>::deserialize(deserializer)?;
        Ok(word.filter(|word| word == "lz4").map(|_| Self::Lz4))
    }
}

/// The most bytes of a file in a block.
pub const MAX_BLOCK: usize = 32 * 1024;
/// The most bytes that a block takes.
pub const MAX_PACKED: usize = BLOCK_HEADER + MAX_BLOCK;

/// Appends a block of these bytes, which are 1 to [`MAX_BLOCK`]; what is more is left out. Returns how many
/// there are in it. The block is at most its header longer than they.
pub fn pack(bytes: &[u8], into: &mut Vec<u8>) -> usize {
    let bytes = &bytes[..bytes.len().min(MAX_BLOCK)];
    if bytes.is_empty() {
        return 0;
    }
    let begin = into.len();
    let len = |n: usize| (n as u16).to_be_bytes();
    into.extend_from_slice(&len(bytes.len()));
    into.resize(begin + BLOCK_HEADER + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
    let packed = lz4_flex::block::compress_into(bytes, &mut into[begin + BLOCK_HEADER..]);
    let n = match packed {
        Ok(n) if n < bytes.len() => n,
        _ => {
            into[begin + BLOCK_HEADER..][..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        }
    };
    into.truncate(begin + BLOCK_HEADER + n);
    into[begin + 2..begin + BLOCK_HEADER].copy_from_slice(&len(n));
    bytes.len()
}

/// How many bytes a block takes that begins like this, this among them.
pub fn block_len(header: [u8; BLOCK_HEADER]) -> Result<usize, Refusal> {
    numbers(header).map(|(_, packed)| BLOCK_HEADER + packed)
}

/// How many bytes there are in a block, and how many it takes behind its header.
fn numbers([a, b, c, d]: [u8; BLOCK_HEADER]) -> Result<(usize, usize), Refusal> {
    let (bytes, packed) = (usize::from(u16::from_be_bytes([a, b])), u16::from_be_bytes([c, d]).into());
    if (1..=MAX_BLOCK).contains(&bytes) && (1..=bytes).contains(&packed) {
        return Ok((bytes, packed));
    }
    let wrong = format!("no block has {packed} bytes for {bytes}, and none more than {MAX_BLOCK}");
    Err(Refusal::new(Code::BAD_LINE, wrong))
}

/// The bytes of a block, or what is wrong with it; `None` while it has not ended. `scratch` has room for
/// [`MAX_BLOCK`].
pub fn unpack<'a>(block: &'a [u8], scratch: &'a mut [u8]) -> Option<Result<&'a [u8], Refusal>> {
    let (bytes, packed) = match numbers(*block.first_chunk()?) {
        Ok(numbers) => numbers,
        Err(refusal) => return Some(Err(refusal)),
    };
    let body = &block[BLOCK_HEADER..];
    if body.len() < packed {
        return None;
    }
    if packed == bytes {
        return Some(Ok(body));
    }
    let wrong = || Refusal::new(Code::BAD_LINE, "a packed block cannot be unpacked");
    let Some(scratch) = scratch.get_mut(..bytes) else { return Some(Err(wrong())) };
    match lz4_flex::block::decompress_into(body, scratch) {
        Ok(n) if n == bytes => Some(Ok(scratch)),
        _ => Some(Err(wrong())),
    }
}

/// Collects one block after another, and never more than one.
#[derive(Clone, Default, Debug)]
pub struct Unpacker {
    bytes: Vec<u8>,
}

impl Unpacker {
    /// Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Takes bytes up to the end of the block, and says how many. None once there is a block or a fault.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        // The header first: it says how much is to come.
        while let Some(due) = self.due() {
            let n = due.min(bytes.len() - taken);
            if n == 0 {
                break;
            }
            self.bytes.reserve_exact(due);
            self.bytes.extend_from_slice(&bytes[taken..][..n]);
            taken += n;
        }
        taken
    }

    /// The bytes of the block, or what is wrong with it; `None` while it has not ended. `scratch` has room
    /// for [`MAX_BLOCK`].
    pub fn block<'a>(&'a self, scratch: &'a mut [u8]) -> Option<Result<&'a [u8], Refusal>> {
        unpack(&self.bytes, scratch)
    }

    /// The block was read: the next one begins.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether nothing of a block has come.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that are missing; none where there is a block, or a fault.
    fn due(&self) -> Option<usize> {
        let whole = match self.header() {
            None => BLOCK_HEADER,
            Some(Ok((_, packed))) => BLOCK_HEADER + packed,
            Some(Err(_)) => return None,
        };
        Some(whole - self.bytes.len()).filter(|due| *due > 0)
    }

    /// How many bytes there are in the block, and how many it takes.
    fn header(&self) -> Option<Result<(usize, usize), Refusal>> {
        Some(numbers(*self.bytes.first_chunk()?))
    }
}

/// Two numbers, with which a block begins.
pub const BLOCK_HEADER: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(block: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut unpacker = Unpacker::new();
        unpacker.take(block);
        let mut scratch = [0; MAX_BLOCK];
        unpacker.block(&mut scratch).expect("a whole block").map(<[u8]>::to_vec)
    }

    #[test]
    fn text_becomes_less_and_noise_at_most_a_header_more() {
        let text = b"Nov 30 12:00:00 web01 kernel: eth0: link up\n".repeat(1000);
        let mut block = Vec::new();
        assert_eq!(pack(&text, &mut block), MAX_BLOCK);
        assert!(block.len() < 1000, "{} bytes", block.len());
        assert_eq!(unpack(&block).unwrap(), text[..MAX_BLOCK]);

        let next = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let noise: Vec<u8> =
            std::iter::successors(Some(1), next).map(|n| (n >> 56) as u8).take(1000).collect();
        let mut block = Vec::new();
        assert_eq!(pack(&noise, &mut block), noise.len());
        assert_eq!(block.len(), BLOCK_HEADER + noise.len());
        assert_eq!(unpack(&block).unwrap(), noise);
    }

    #[test]
    fn a_block_that_the_page_shows_is_read() {
        // LZ4 by hand: one literal, then its repetition nine times.
        assert_eq!(unpack(b"\0\x0f\0\x0a\x15a\x01\0\x50aaaaa").unwrap(), b"a".repeat(15));
        assert_eq!(unpack(b"\0\x03\0\x03abc").unwrap(), b"abc");
    }

    #[test]
    fn what_claims_too_much_is_refused_before_it_has_come() {
        for header in [b"\0\0\0\0", b"\x80\x01\0\x01", b"\xff\xff\xff\xff", b"\0\x02\0\x03", b"\0\x02\0\0"] {
            assert_eq!(unpack(header).unwrap_err().code, Code::BAD_LINE, "{header:?}");
            let mut unpacker = Unpacker::new();
            assert_eq!(unpacker.take(&[header.as_slice(), &[0; 100]].concat()), BLOCK_HEADER);
            assert!(unpacker.bytes.capacity() <= 2 * BLOCK_HEADER);
        }
        // More, or less, than it says; and what is no LZ4.
        for block in [
            &b"\0\x10\0\x0a\x15a\x01\0\x50aaaaa"[..],
            b"\0\x0e\0\x0a\x15a\x01\0\x50aaaaa",
            b"\0\x09\0\x02\xff\xff",
        ] {
            assert_eq!(unpack(block).unwrap_err().code, Code::BAD_LINE, "{block:?}");
        }
    }
}
