//! Sixty-four bytes at a time: which of them are IACs, and which of those are halves of pairs.
//!
//! A processor foresees no branch on where the doubled IACs of random bytes stand, and misses one or two for
//! each. Here a block becomes a word with a bit for each byte, and the word is reckoned with. Knows nothing
//! of what is done with the bytes.

use std::ops::Range;

use fearless_simd::{Level, dispatch, prelude::*, u8x64};

use super::codes::IAC;

/// What was found at the front of an input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Wire bytes of data.
    pub(super) len: usize,
    pub(super) pairs: usize,
    /// An IAC behind it is the first half of no pair that is there.
    pub(super) is_ended: bool,
}

/// The data that `blocks` begin with. No branch depends on where pairs stand: no processor foresees it, and
/// random bytes have one in 257. Costs one pass.
pub(super) fn block_prefix(blocks: &[[u8; BLOCK]]) -> Prefix {
    #[inline(always)]
    fn prefix<S: Simd>(simd: S, blocks: &[[u8; BLOCK]]) -> Prefix {
        let (mut len, mut iacs) = (0, 0);
        // 1 while the first half of a pair ended the block before.
        let mut carry = 0;
        for block in blocks {
            let here = mask(simd, block);
            let firsts = first_halves(here, carry);
            let seconds = firsts << 1 | carry;
            let missing = seconds & !here;
            if missing != 0 {
                // A byte that must be a second half is none: the IAC before it begins a command.
                let behind = missing.trailing_zeros();
                iacs += (here & !(u64::MAX << behind)).count_ones() as usize;
                return Prefix { len: len + behind as usize - 1, pairs: (iacs - 1) / 2, is_ended: true };
            }
            iacs += here.count_ones() as usize;
            carry = firsts >> (BLOCK - 1);
            len += BLOCK;
        }
        Prefix { len: len - carry as usize, pairs: iacs / 2, is_ended: false }
    }
    dispatch!(Level::new(), simd => simd.vectorize(
        #[inline(always)]
        || prefix(simd, blocks),
    ))
}

/// Which bytes of each block are IACs, bit n standing for byte n; of at most [`STRETCH`] blocks.
pub(super) fn masks(blocks: &[[u8; BLOCK]]) -> [u64; STRETCH] {
    #[inline(always)]
    fn masks<S: Simd>(simd: S, blocks: &[[u8; BLOCK]]) -> [u64; STRETCH] {
        let mut masks = [0; STRETCH];
        for (iacs, block) in masks.iter_mut().zip(blocks) {
            *iacs = mask(simd, block);
        }
        masks
    }
    dispatch!(Level::new(), simd => simd.vectorize(
        #[inline(always)]
        || masks(simd, blocks),
    ))
}

/// The first of `blocks` among which IACs may be dense, [`STRETCH`] of them; `None` if there are none or they
/// begin with one that is nothing but IACs.
pub(super) fn dense(blocks: &[[u8; BLOCK]]) -> Option<&[[u8; BLOCK]]> {
    let first = blocks.first()?;
    (!is_solid(first)).then_some(&blocks[..blocks.len().min(STRETCH)])
}

/// Which IACs of a block are first halves of pairs, bit n standing for byte n; `carry` is 1 if byte 0 is the
/// second half of a pair already begun.
///
/// Within a run they alternate, from its first byte on. Adding its lowest bit to a run carries through all of
/// it and clears it; done to the runs that begin at even places only, it tells those from the others, and so
/// in every run the even places from the odd ones that begin a pair.
#[inline(always)]
fn first_halves(iacs: u64, carry: u64) -> u64 {
    let iacs = iacs & !carry;
    let even_starts = iacs & !(iacs << 1) & EVEN;
    iacs & (iacs.wrapping_add(even_starts) ^ EVEN)
}

/// The runs of bits that are set, from the lowest on.
pub(super) struct Runs(pub(super) u64);

impl Iterator for Runs {
    type Item = Range<usize>;

    #[inline]
    fn next(&mut self) -> Option<Range<usize>> {
        if self.0 == 0 {
            return None;
        }
        let start = self.0.trailing_zeros();
        let end = start + (self.0 >> start).trailing_ones();
        // Added to a run, its lowest bit carries through all of it.
        self.0 &= self.0.wrapping_add(1 << start);
        Some(start as usize..end as usize)
    }
}

/// Which bytes of a block are IACs.
#[inline(always)]
fn mask<S: Simd>(simd: S, block: &[u8; BLOCK]) -> u64 {
    u8x64::from_slice(simd, block).simd_eq(u8x64::splat(simd, IAC)).to_bitmask()
}

/// Whether a block holds nothing but IACs.
pub(super) fn is_solid(block: &[u8; BLOCK]) -> bool {
    // Folding it, instead of stopping at the first byte that differs, lets it be compared as a whole.
    block.iter().fold(IAC, |all, byte| all & byte) == IAC
}

/// Bytes looked at as a whole: as many as a word has bits.
pub(super) const BLOCK: usize = 64;

/// Blocks looked at in one go, 1 KiB: beside them a search costs little, and where IACs have become rare it
/// is soon used again.
pub(super) const STRETCH: usize = 16;

/// Pairs in a stretch from which on the next one follows without a search: random bytes have four.
pub(super) const DENSE: usize = 2;

/// Every other bit, from the lowest on.
const EVEN: u64 = 0x5555_5555_5555_5555;

#[cfg(test)]
mod tests {
    use super::*;

    /// A block whose IACs are where `iacs` has bits.
    fn block(iacs: u64) -> [u8; BLOCK] {
        std::array::from_fn(|at| if iacs >> at & 1 == 1 { IAC } else { 0xfe - at as u8 })
    }

    /// Words with all sixteen-bit patterns, at the ends, in the middle and in two places.
    fn words() -> impl Iterator<Item = u64> {
        (0..=u64::from(u16::MAX))
            .flat_map(|bits| [bits, bits << 21, bits << 48, bits | bits << 48, !(bits << 24)])
    }

    #[test]
    fn every_iac_has_its_bit() {
        for iacs in words() {
            assert_eq!(masks(&[block(0), block(iacs)])[..3], [0, iacs, 0]);
            assert_eq!(is_solid(&block(iacs)), iacs == u64::MAX);
        }
    }

    #[test]
    #[inline(always)]
    fn first_halves_are_those_a_slow_look_finds() {
        for iacs in words() {
            for carry in 0..=iacs & 1 {
                let (mut slow, mut half) = (0, carry);
                for at in 0..64 {
                    half = (iacs >> at & 1) & !half;
                    slow |= half << at;
                }
                assert_eq!(first_halves(iacs, carry), slow, "{iacs:064b} {carry}");
            }
        }
    }

    #[test]
    fn runs_are_told_in_order_and_whole() {
        for iacs in words() {
            let mut end = None;
            let mut all = 0;
            for run in Runs(iacs) {
                assert!(end < Some(run.start) || end.is_none(), "{iacs:064b}");
                run.clone().for_each(|at| all |= 1 << at);
                end = Some(run.end);
            }
            assert_eq!(all, iacs);
        }
    }

    #[test]
    fn a_stretch_of_nothing_but_pairs_is_counted_to_its_end() {
        let solid = block(u64::MAX);
        let all = [solid; STRETCH];
        let expected = Prefix { len: STRETCH * BLOCK, pairs: STRETCH * BLOCK / 2, is_ended: false };
        assert_eq!(block_prefix(&all), expected);
        assert_eq!(dense(&all), None);
        let mixed = [block(3); 2 * STRETCH];
        assert_eq!(dense(&mixed).map(<[_]>::len), Some(STRETCH));
        let halved = block_prefix(&[block(1 << 63), block(1)]);
        assert_eq!(halved, Prefix { len: 2 * BLOCK, pairs: 1, is_ended: false });
        let waiting = block_prefix(&[block(1 << 63)]);
        assert_eq!(waiting, Prefix { len: BLOCK - 1, pairs: 0, is_ended: false });
        let command = block_prefix(&[block(3), block(1 << 63), block(0)]);
        assert_eq!(command, Prefix { len: 2 * BLOCK - 1, pairs: 1, is_ended: true });
    }
}
