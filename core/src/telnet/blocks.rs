//! Blocks of 64 bytes: which bytes are IACs, and which of those are halves of pairs.
//!
//! In random data a processor cannot predict where the doubled IACs are, and mispredicts one or two branches
//! for each. So a block is turned into a word with one bit per byte, and arithmetic on that word replaces the
//! branches. This file does not know what its callers do with the bytes.

use std::ops::Range;

use fearless_simd::{Level, dispatch, prelude::*, u8x64};

use super::codes::IAC;

/// How much data an input begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Wire bytes of data.
    pub(super) len: usize,
    pub(super) pairs: usize,
    /// Whether an IAC follows that is not the first half of a complete pair.
    pub(super) is_ended: bool,
}

/// The data that `blocks` begin with. No branch depends on where the pairs are. Costs one pass.
pub(super) fn block_prefix(blocks: &[[u8; BLOCK]]) -> Prefix {
    #[inline(always)]
    fn prefix<S: Simd>(simd: S, blocks: &[[u8; BLOCK]]) -> Prefix {
        let (mut len, mut iacs) = (0, 0);
        // 1 if the last byte of the previous block was the first half of a pair.
        let mut carry = 0;
        for block in blocks {
            let here = mask(simd, block);
            let firsts = first_halves(here, carry);
            let seconds = firsts << 1 | carry;
            let missing = seconds & !here;
            if missing != 0 {
                // A byte that should be a second half is not an IAC, so the IAC before it begins a command.
                let next = missing.trailing_zeros();
                iacs += (here & !(u64::MAX << next)).count_ones() as usize;
                return Prefix { len: len + next as usize - 1, pairs: (iacs - 1) / 2, is_ended: true };
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

/// Which bytes of each block are IACs: bit n stands for byte n. For at most [`STRETCH`] blocks.
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

/// The first [`STRETCH`] of `blocks`. `None` if there are no blocks or the first one holds only IACs: a run
/// of IACs is found faster in another way.
pub(super) fn stretch(blocks: &[[u8; BLOCK]]) -> Option<&[[u8; BLOCK]]> {
    let first = blocks.first()?;
    (!is_all_iac(first)).then_some(&blocks[..blocks.len().min(STRETCH)])
}

/// Which IACs of a block are first halves of pairs; `carry` is 1 if byte 0 is a second half.
///
/// Within a run of IACs, every other one from the first on is a first half. Adding a run's lowest bit to the
/// run carries through it and clears it. That is done only to the runs that begin at an even bit; so a run
/// that is cleared has its first halves at even bits, and a run that is still there has them at odd bits.
#[inline(always)]
fn first_halves(iacs: u64, carry: u64) -> u64 {
    let iacs = iacs & !carry;
    let even_starts = iacs & !(iacs << 1) & EVEN;
    iacs & (iacs.wrapping_add(even_starts) ^ EVEN)
}

/// The runs of bits that are set, lowest first.
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
        // Adding its lowest bit to a run carries through all of it.
        self.0 &= self.0.wrapping_add(1 << start);
        Some(start as usize..end as usize)
    }
}

/// Which bytes of a block are IACs: bit n stands for byte n.
#[inline(always)]
fn mask<S: Simd>(simd: S, block: &[u8; BLOCK]) -> u64 {
    u8x64::from_slice(simd, block).simd_eq(u8x64::splat(simd, IAC)).to_bitmask()
}

/// Whether a block holds only IACs.
pub(super) fn is_all_iac(block: &[u8; BLOCK]) -> bool {
    // A fold, unlike a search that stops early, compiles to vector instructions.
    block.iter().fold(IAC, |all, byte| all & byte) == IAC
}

/// Bytes in a block: as many as a word has bits.
pub(super) const BLOCK: usize = 64;

/// Blocks processed before the next decision whether IACs are dense: 1 KiB, long enough that the decision and
/// a search cost little beside it.
pub(super) const STRETCH: usize = 16;

/// How many pairs in one stretch make the next one worth processing without a search. Random data has four.
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
            assert_eq!(is_all_iac(&block(iacs)), iacs == u64::MAX);
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
        assert_eq!(stretch(&all), None);
        let mixed = [block(3); 2 * STRETCH];
        assert_eq!(stretch(&mixed).map(<[_]>::len), Some(STRETCH));
        let halved = block_prefix(&[block(1 << 63), block(1)]);
        assert_eq!(halved, Prefix { len: 2 * BLOCK, pairs: 1, is_ended: false });
        let waiting = block_prefix(&[block(1 << 63)]);
        assert_eq!(waiting, Prefix { len: BLOCK - 1, pairs: 0, is_ended: false });
        let command = block_prefix(&[block(3), block(1 << 63), block(0)]);
        assert_eq!(command, Prefix { len: 2 * BLOCK - 1, pairs: 1, is_ended: true });
    }
}
