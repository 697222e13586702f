//! Bytes to frames, in either dialect, without holding a payload.
//!
//! Owns the 12 bytes of a header that is still arriving and the count of payload bytes still to come. Refuses
//! to know streams, windows and rights: it reports whatever a header says, and hands a payload on in the
//! pieces it came in.

use super::wire::{HEADER, StreamId, Word, split_header};

/// Which language the line speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The words of SPEC §1: lengths without the header, acknowledged and windowed.
    S2,
    /// What hyperstart and runv speak: lengths with the header, nothing acknowledged (SPEC §8).
    V1,
}

/// One step of decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'i> {
    /// A payload of `len` bytes (never 0) for `id` begins.
    Data {
        /// The stream.
        id: StreamId,
        /// The whole payload's length.
        len: u32,
    },
    /// A piece of that payload, never empty.
    Payload {
        /// The bytes, borrowed from the input.
        bytes: &'i [u8],
        /// Whether the payload ends here.
        last: bool,
    },
    /// A word without payload; never [`Word::Data`]. S2 only.
    Word {
        /// The stream.
        id: StreamId,
        /// The word.
        word: Word,
    },
    /// A bare v1 header: 12, or an impossible length below 12. V1 only.
    Bare {
        /// The stream.
        id: StreamId,
        /// The length word as it came.
        length: u32,
    },
}

/// Decodes a byte stream that may be cut anywhere. 24 bytes, no heap.
#[derive(Clone, Debug)]
pub struct Decoder {
    dialect: Dialect,
    head: [u8; HEADER],
    have: u8,
    left: u32,
}

impl Decoder {
    /// At the start of a frame.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self { dialect, head: [0; HEADER], have: 0, left: 0 }
    }

    /// Whether the next byte starts a frame.
    #[must_use]
    pub const fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes the next item off the front of `input`; `None` when it is used up. Constant work.
    pub fn decode<'i>(&mut self, input: &mut &'i [u8]) -> Option<Item<'i>> {
        if self.left > 0 {
            if input.is_empty() {
                return None;
            }
            let take = input.len().min(self.left as usize);
            let (bytes, rest) = input.split_at(take);
            *input = rest;
            self.left -= take as u32;
            return Some(Item::Payload { bytes, last: self.left == 0 });
        }
        if self.have == 0
            && let Some((head, rest)) = input.split_first_chunk::<HEADER>()
        {
            *input = rest;
            return Some(self.begin(*head));
        }
        let have = usize::from(self.have);
        let take = input.len().min(HEADER - have);
        let (bytes, rest) = input.split_at(take);
        *input = rest;
        self.head[have..have + take].copy_from_slice(bytes);
        self.have += take as u8;
        if usize::from(self.have) < HEADER {
            return None;
        }
        self.have = 0;
        Some(self.begin(self.head))
    }

    fn begin(&mut self, head: [u8; HEADER]) -> Item<'static> {
        let (id, word) = split_header(&head);
        let len = match self.dialect {
            Dialect::S2 => match Word::from_u32(word) {
                Word::Data(len) => len,
                word => return Item::Word { id, word },
            },
            Dialect::V1 => match word.checked_sub(HEADER as u32) {
                None | Some(0) => return Item::Bare { id, length: word },
                Some(len) => len,
            },
        };
        self.left = len;
        Item::Data { id, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    /// What a decoder says about `bytes` cut at `cuts`, payload pieces joined.
    fn decode_all(dialect: Dialect, bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Decoder) {
        let mut decoder = Decoder::new(dialect);
        let (mut said, mut payload) = (Vec::new(), Vec::new());
        let mut from = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            let mut input = &bytes[from..cut];
            from = cut;
            while let Some(item) = decoder.decode(&mut input) {
                match item {
                    Item::Payload { bytes, last } => {
                        assert!(!bytes.is_empty());
                        payload.extend_from_slice(bytes);
                        if last {
                            said.push(format!("{payload:?}"));
                            payload.clear();
                        }
                    }
                    other => said.push(format!("{other:?}")),
                }
            }
            assert!(input.is_empty());
        }
        said.push(format!("{payload:?}"));
        (said, decoder)
    }

    quickcheck! {
        fn any_split_decodes_alike(seedling: Vec<(u64, u16, bool)>, a: usize, b: usize, v1: bool) -> bool {
            let dialect = if v1 { Dialect::V1 } else { Dialect::S2 };
            let mut bytes = Vec::new();
            for (id, len, control) in seedling {
                let word = match (control, v1) {
                    (true, false) => 0x8000_0000 | u32::from(len),
                    (true, true) => u32::from(len % 13),
                    (false, false) => u32::from(len % 300),
                    (false, true) => 12 + u32::from(len % 300),
                };
                bytes.extend_from_slice(&super::super::wire::header(StreamId(id), word));
                if !control {
                    bytes.extend(std::iter::repeat_n(len as u8, usize::from(len % 300)));
                }
            }
            let (a, b) = (a % (bytes.len() + 1), b % (bytes.len() + 1));
            let whole = decode_all(dialect, &bytes, &[]).0;
            let split = decode_all(dialect, &bytes, &[a.min(b), a.max(b)]).0;
            let single: Vec<usize> = (0..bytes.len()).collect();
            whole == split && whole == decode_all(dialect, &bytes, &single).0
        }

        fn any_bytes_decode(bytes: Vec<u8>, v1: bool) -> bool {
            decode_all(if v1 { Dialect::V1 } else { Dialect::S2 }, &bytes, &[]);
            true
        }
    }
}
