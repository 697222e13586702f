//! What is copied: random bytes, of which nothing can be packed.
//!
//! Owns the file's contents, which every program of a run makes for itself.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use vspc_guest::{Checksum, Sum, Summer};

use crate::load::proof::Proof;
use crate::random::Random;

/// Writes a file of so many bytes; returns its checksum, of the kind that `vspc cp` asks for.
pub(super) fn write(path: &Path, length: u64) -> io::Result<Checksum> {
    let (mut file, mut sum) = (File::create(path)?, Summer::new(Sum::Blake3));
    let (block, mut left) = (block(), length);
    while left > 0 {
        let piece = &block[..usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)];
        file.write_all(piece)?;
        sum.take(piece);
        left -= piece.len() as u64;
    }
    Ok(sum.checksum())
}

/// Holds what comes against the file of so many bytes.
pub(super) fn proof(length: u64) -> Proof {
    Proof::new(block(), length)
}

/// No two stretches of it are alike.
fn block() -> Vec<u8> {
    let mut random = Random::new(SEED);
    let mut block: Vec<u8> = (0..BLOCK.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    block.truncate(BLOCK);
    block
}

/// A prime: pieces of any usual size that are lost or doubled show at their first byte.
const BLOCK: usize = 1_000_003;

const SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::load::folder::Folder;

    #[test]
    fn every_byte_has_its_place_and_what_follows_is_somebody_elses() {
        let folder = Folder::new("bytes", None).unwrap();
        let path = folder.path("file");
        write(&path, 2_100_000).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2_100_000);
        bytes.extend_from_slice(b"behind it");
        let mut proof = proof(2_100_000);
        let taken: usize = bytes.chunks(65_536).map(|piece| proof.take(piece).unwrap()).sum();
        assert!(taken == 2_100_000 && proof.is_whole());
        for wrong in [
            [&bytes[..65_536], &bytes[131_072..]].concat(),
            [&bytes[..70_000], &b"x"[..], &bytes[70_001..]].concat(),
            [&bytes[..1_000_000], &bytes[..1_000_000]].concat(),
        ] {
            assert!(super::proof(2_100_000).take(&wrong).is_err());
        }
    }
}
