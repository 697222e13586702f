//! The bytes of a file on a stream: as they are, or packed in blocks (APPLICATION §10).
//!
//! Owns where they end, and what follows is somebody else's. Refuses to know where they go.

use vspc_guest::{MAX_BLOCK, Pack, Unpacker};

use crate::failure::Failure;

/// What comes of a file.
pub(super) struct Body {
    left: u64,
    packed: Option<(Unpacker, Vec<u8>)>,
}

impl Body {
    /// So many bytes of a file, packed or not.
    pub(super) fn new(len: u64, pack: Option<Pack>) -> Self {
        Self { left: len, packed: pack.map(|Pack::Lz4| (Unpacker::new(), vec![0; MAX_BLOCK])) }
    }

    /// How many bytes of the file are still to come.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Takes what of this belongs to the file, and says how much that is.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let Some((unpacker, scratch)) = &mut self.packed else {
            let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            write(&bytes[..n])?;
            self.left -= n as u64;
            return Ok(n);
        };
        let mut at = 0;
        while at < bytes.len() && self.left > 0 {
            at += unpacker.take(&bytes[at..]);
            let Some(block) = unpacker.block(scratch) else { break };
            let wrong = |why: &str| Failure::error(format!("the guest has packed the file wrongly: {why}"));
            let block = block.map_err(|refusal| wrong(&refusal.message))?;
            self.left = self.left.checked_sub(block.len() as u64).ok_or_else(|| wrong("it is too long"))?;
            write(block)?;
            unpacker.clear();
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of a stream that comes so many bytes at a time, and what is behind it.
    fn taken(
        len: usize,
        pack: Option<Pack>,
        stream: &[u8],
        cut: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let (mut body, mut file, mut rest) = (Body::new(len as u64, pack), Vec::new(), Vec::new());
        for piece in stream.chunks(cut) {
            let n = body.take(piece, |bytes| {
                file.extend_from_slice(bytes);
                Ok(())
            })?;
            rest.extend_from_slice(&piece[n..]);
        }
        assert_eq!(body.left(), 0);
        Ok((file, rest))
    }

    #[test]
    fn a_file_ends_where_it_ends_packed_or_not() {
        let file = b"line\n".repeat(20_000);
        let (mut packed, mut at) = (Vec::new(), 0);
        while at < file.len() {
            at += vspc_guest::pack(&file[at..], &mut packed);
        }
        assert!(packed.len() < file.len() / 10);
        for (pack, bytes) in [(None, &file), (Some(Pack::Lz4), &packed)] {
            let stream = [bytes, &b"{\"done\":{}}\n"[..]].concat();
            for cut in [1, 3, 1000, usize::MAX] {
                let (came, rest) = taken(file.len(), pack, &stream, cut).unwrap();
                assert!(came == file && rest == b"{\"done\":{}}\n", "{pack:?} in pieces of {cut}");
            }
        }
        for wrong in [&b"\xff\xff\0\0"[..], &packed] {
            assert!(taken(1000, Some(Pack::Lz4), wrong, 7).is_err());
        }
    }
}
