//! Data in wire form: every IAC doubled, so that it can stand beside commands (RFC 854).
//!
//! **Owns** the arithmetic between guest bytes (what a peer means) and wire bytes (what travels): doubling,
//! undoubling, counting, and where data may be cut. **Refuses to know** commands: where a single IAC may
//! occur, the function says what it does with it.
//!
//! A *pair* is a doubled IAC. In a run of IACs the first two are a pair, the next two are, and so on. Most of
//! these functions take *whole pairs*: bytes in which no pair is cut at either end.

use memchr::{memchr, memchr_iter};

use super::blocks::{BLOCK, DENSE, Prefix, Runs, block_prefix, is_all_iac, masks, stretch};
use super::codes::IAC;

/// Appends `data` with every IAC doubled (RFC 854). Costs one pass and one copy.
pub fn escape_into(data: &[u8], out: &mut Vec<u8>) {
    // Room for the data alone: twice as much would be wasted on text, and counting would cost another pass.
    out.reserve(data.len());
    let mut rest = data;
    while let Some(plain) = find_iac(rest) {
        let (before, from_iac) = rest.split_at(plain);
        out.extend_from_slice(before);
        rest = &from_iac[escape_dense(from_iac, out)..];
    }
    out.extend_from_slice(rest);
}

/// How many bytes [`escape_into`] appends for `data`. Costs one pass.
pub fn escaped_len(data: &[u8]) -> usize {
    data.len() + memchr_iter(IAC, data).count()
}

/// The guest bytes of `wire`, which holds whole pairs (a [`WireRun`](super::WireRun), or several joined).
/// Nothing is copied: a run of pairs is 2n IACs, of which a slice ends with the first n and the rest is
/// skipped.
///
/// A single IAC, which a verified run does not have, is passed on as one byte.
pub fn guest_slices(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (len, skip) = match find_iac(rest) {
            None => (rest.len(), 0),
            Some(plain) => {
                let iacs = leading_iacs(&rest[plain..]);
                (plain + iacs.div_ceil(2), iacs / 2)
            }
        };
        let slice = &rest[..len];
        rest = &rest[len + skip..];
        Some(slice)
    })
}

/// Appends the guest bytes of `wire`, which holds whole pairs, to `out`, at most `limit` of them. Returns how
/// many wire bytes hold them. Costs one pass and one copy; up to two more passes where `limit` cuts it short.
pub(crate) fn undouble_into(wire: &[u8], limit: usize, out: &mut Vec<u8>) -> usize {
    let mut rest = wire;
    let mut left = limit;
    while left > 0
        && let Some(plain) = find_iac(rest)
    {
        let (before, from_iac) = rest.split_at(plain);
        let taken = plain.min(left);
        out.extend_from_slice(&before[..taken]);
        left -= taken;
        let start = out.len();
        rest = &from_iac[undouble_dense(from_iac, left, out)..];
        left -= out.len() - start;
    }
    if left < rest.len() || left == 0 {
        out.extend_from_slice(&rest[..left.min(rest.len())]);
        return wire_len(wire, limit).0;
    }
    out.extend_from_slice(rest);
    wire.len()
}

/// How many bytes of `wire`, which holds whole pairs, hold its first `guest` guest bytes, and how many guest
/// bytes those are (fewer than asked for if `wire` has fewer). Costs at most two passes over them.
pub(crate) fn wire_len(wire: &[u8], guest: usize) -> (usize, usize) {
    let (mut at, mut covered) = (0, 0);
    // n wire bytes hold at most n guest bytes and at least n / 2, so each turn leaves at most half to do.
    while at < wire.len() && covered < guest {
        let rest = &wire[at..];
        let len = (guest - covered).min(rest.len());
        let half = trailing_iacs(&rest[..len]) % 2;
        let whole = &rest[..(len + half).min(rest.len())];
        at += whole.len();
        covered += whole.len() - count_pairs(whole);
    }
    (at, covered)
}

/// How many pairs `wire`, which holds whole pairs, has. Costs one pass.
pub(crate) fn count_pairs(wire: &[u8]) -> usize {
    memchr_iter(IAC, wire).count() / 2
}

/// The longest prefix of `wire`, which holds whole pairs, that fits into `room` and cuts no pair. Costs a
/// look at the IACs right before `room`.
pub(crate) fn whole_pairs(wire: &[u8], room: usize) -> usize {
    if room >= wire.len() {
        return wire.len();
    }
    room - trailing_iacs(&wire[..room]) % 2
}

/// The length of the longest prefix of `input` that is data and holds whole pairs, and how many pairs it has.
/// What follows it is a command, the start of one, or nothing. Costs one pass over it.
#[inline]
pub(crate) fn wire_prefix(input: &[u8]) -> (usize, usize) {
    let mut at = 0;
    let mut pairs = 0;
    while let Some(plain) = find_iac(&input[at..]) {
        at += plain;
        if input.get(at + 1) != Some(&IAC) {
            return (at, pairs);
        }
        loop {
            let (blocks, _) = input[at..].as_chunks();
            let prefix = stretch(blocks).map_or_else(|| run_prefix(&input[at..]), block_prefix);
            at += prefix.len;
            pairs += prefix.pairs;
            if prefix.is_ended {
                return (at, pairs);
            }
            // Where IACs are rare, a search skips to the next one faster.
            if prefix.pairs < DENSE {
                break;
            }
        }
    }
    (input.len(), pairs)
}

/// The length of the longest prefix of `input` that is guest bytes as it stands, and how many bytes after it
/// to skip: the second halves of the pairs that it ends with.
#[inline]
pub(super) fn guest_prefix(input: &[u8]) -> (usize, usize) {
    match find_iac(input) {
        None => (input.len(), 0),
        Some(plain) => {
            let pairs = leading_iacs(&input[plain..]) / 2;
            (plain + pairs, pairs)
        }
    }
}

/// Escapes the front of `data`, which begins with an IAC. Returns how many bytes of it.
fn escape_dense(data: &[u8], out: &mut Vec<u8>) -> usize {
    let (blocks, _) = data.as_chunks();
    let Some(blocks) = stretch(blocks) else {
        let iacs = leading_iacs(data);
        out.resize(out.len() + 2 * iacs, IAC);
        return iacs;
    };
    for (nth, iacs) in masks(blocks).into_iter().take(blocks.len()).enumerate() {
        let start = nth * BLOCK;
        let mut from = start;
        for run in Runs(iacs) {
            append(&data[from..], start + run.end - from, out);
            // The run a second time, and what follows it.
            from = start + run.start;
        }
        append(&data[from..], start + BLOCK - from, out);
    }
    blocks.as_flattened().len()
}

/// Undoubles the front of `wire`, which begins with a pair, into at most `limit` bytes. Returns how many
/// bytes of it.
fn undouble_dense(wire: &[u8], limit: usize, out: &mut Vec<u8>) -> usize {
    let (blocks, _) = wire.as_chunks();
    let Some(blocks) = stretch(&blocks[..blocks.len().min(limit / BLOCK)]) else {
        let iacs = leading_iacs(wire);
        let pairs = iacs.div_ceil(2).min(limit);
        out.resize(out.len() + pairs, IAC);
        return iacs.min(2 * pairs);
    };
    // 1 if the last byte of the previous block was the first half of a pair.
    let mut begun = 0;
    for (nth, iacs) in masks(blocks).into_iter().take(blocks.len()).enumerate() {
        let start = nth * BLOCK;
        let mut from = start;
        begun &= iacs as usize;
        for run in Runs(iacs) {
            let halves = run.len() + begun;
            append(&wire[from..], start + run.end - halves / 2 - from, out);
            from = start + run.end;
            begun = if run.end == BLOCK { halves % 2 } else { 0 };
        }
        append(&wire[from..], start + BLOCK - from, out);
    }
    wire.len().min(blocks.as_flattened().len() + begun)
}

/// Appends the first `len` bytes of `input`, at most a block. Copies a whole block if there is one and
/// truncates: copies of one fixed length cost less than a branch on each length.
#[inline]
fn append(input: &[u8], len: usize, out: &mut Vec<u8>) {
    match input.first_chunk::<BLOCK>() {
        Some(block) => {
            let end = out.len() + len;
            out.extend_from_slice(block);
            out.truncate(end);
        }
        None => out.extend_from_slice(&input[..len]),
    }
}

/// The run of IACs that `input` begins with.
fn run_prefix(input: &[u8]) -> Prefix {
    let iacs = leading_iacs(input);
    Prefix { len: iacs & !1, pairs: iacs / 2, is_ended: !iacs.is_multiple_of(2) }
}

/// Where the next IAC is. The first word is searched here: where IACs are dense, a call to the vector search
/// for each costs more than the search.
#[inline]
pub(super) fn find_iac(input: &[u8]) -> Option<usize> {
    // One word: two and four measured no better on dense pairs and worse on random bytes.
    let mut searched = 0;
    if let Some(word) = input.first_chunk::<8>() {
        // A byte is an IAC if its complement is zero; the lowest such byte is found exactly.
        let complement = !u64::from_le_bytes(*word);
        let zeros = complement.wrapping_sub(LOW_BITS) & !complement & HIGH_BITS;
        if zeros != 0 {
            return Some(zeros.trailing_zeros() as usize / 8);
        }
        searched = word.len();
    }
    memchr(IAC, &input[searched..]).map(|at| searched + at)
}

/// How many IACs `bytes` begin with.
#[inline]
fn leading_iacs(bytes: &[u8]) -> usize {
    // A single pair is by far the most frequent run.
    if let [IAC, IAC, other, ..] = *bytes
        && other != IAC
    {
        return 2;
    }
    let (blocks, _) = bytes.as_chunks();
    let solid = BLOCK * blocks.iter().take_while(|block| is_all_iac(block)).count();
    solid + bytes[solid..].iter().take_while(|&&byte| byte == IAC).count()
}

/// How many IACs `bytes` end in.
pub(crate) fn trailing_iacs(bytes: &[u8]) -> usize {
    let (_, blocks) = bytes.as_rchunks();
    let solid = BLOCK * blocks.iter().rev().take_while(|block| is_all_iac(block)).count();
    let rest = &bytes[..bytes.len() - solid];
    bytes.len() - rest.iter().rposition(|&byte| byte != IAC).map_or(0, |last| last + 1)
}

/// The lowest and the highest bit of each byte of a word.
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// Bytes among which IACs are rare, frequent or in long runs, as `density` has it.
    fn guest(bytes: &[u8], density: u8) -> Vec<u8> {
        let mut guest = Vec::new();
        for &byte in bytes {
            match density % 4 {
                0 => guest.push(byte),
                1 => guest.push(if byte % 3 == 0 { IAC } else { byte }),
                2 => guest.resize(guest.len() + usize::from(byte) / 2, [b'x', IAC][usize::from(byte % 2)]),
                _ => guest.extend([byte & 0x7f; 9].iter().chain(&[IAC][..usize::from(byte % 5 == 0)])),
            }
        }
        guest
    }

    /// Doubled the slow way.
    fn doubled(guest: &[u8]) -> Vec<u8> {
        guest.iter().flat_map(|&byte| if byte == IAC { vec![IAC, IAC] } else { vec![byte] }).collect()
    }

    fn escaped(guest: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        escape_into(guest, &mut out);
        out.split_off(6)
    }

    fn undoubled(wire: &[u8], limit: usize) -> Vec<u8> {
        let mut out = b"before".to_vec();
        undouble_into(wire, limit, &mut out);
        out.split_off(6)
    }

    /// The prefix found a byte at a time, and the pairs in it.
    fn slow_prefix(input: &[u8]) -> (usize, usize) {
        let (mut at, mut pairs) = (0, 0);
        while let Some(&byte) = input.get(at) {
            match input.get(at + 1) {
                _ if byte != IAC => at += 1,
                Some(&IAC) => (at, pairs) = (at + 2, pairs + 1),
                _ => break,
            }
        }
        (at, pairs)
    }

    #[test]
    fn iac_is_doubled_wherever_it_stands() {
        let rows: [(&[u8], &[u8]); 6] = [
            (b"", b""),
            (b"abc", b"abc"),
            (b"\xff", b"\xff\xff"),
            (b"a\xffb", b"a\xff\xffb"),
            (b"\xff\xff\xffa\xff", b"\xff\xff\xff\xff\xff\xffa\xff\xff"),
            (b"\xfe\xff\xf0", b"\xfe\xff\xff\xf0"),
        ];
        for (data, wire) in rows {
            assert_eq!(escaped(data), wire);
        }
        assert_eq!(escaped(&[IAC; 1000]), [IAC; 2000]);
    }

    #[test]
    fn a_lone_iac_is_passed_on() {
        assert_eq!(guest_slices(b"a\xff").collect::<Vec<_>>(), [b"a\xff"]);
        assert_eq!(guest_slices(b"\xff\xff\xffb").flatten().copied().collect::<Vec<_>>(), b"\xff\xffb");
    }

    #[test]
    fn a_run_of_pairs_is_one_slice() {
        let wire = [b'a', IAC, IAC, IAC, IAC, b'b'];
        let slices: Vec<_> = guest_slices(&wire).collect();
        assert_eq!(slices, [&b"a\xff\xff"[..], b"b"]);
        assert_eq!(guest_slices(&[IAC; 4096]).map(<[u8]>::len).collect::<Vec<_>>(), [2048]);
    }

    /// Every place of a command near every border of a block that could be looked at as a whole.
    #[test]
    fn a_command_ends_the_prefix_wherever_it_stands() {
        for plain in 0..140 {
            for iacs in 0..140 {
                let mut input = vec![0xfe; plain];
                input.resize(plain + iacs, IAC);
                for tail in [&[][..], &[0x00], &[0xfe, IAC], &[b'x'; 150], &[IAC; 150]] {
                    let input = [&input, tail].concat();
                    assert_eq!(
                        wire_prefix(&input),
                        slow_prefix(&input),
                        "{plain} plain, {iacs} IACs, {tail:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn fast_searches_find_what_slow_ones_find() {
        for plain in 0..40 {
            for iacs in 0..140 {
                let mut input = vec![0xfe; plain];
                input.resize(plain + iacs, IAC);
                for tail in [&[][..], &[0x00], &[0xfe, IAC]] {
                    let input = [&input, tail].concat();
                    assert_eq!(find_iac(&input), input.iter().position(|&b| b == IAC));
                    let from = &input[plain..];
                    let slow = from.iter().take_while(|&&b| b == IAC).count();
                    assert_eq!(leading_iacs(from), slow, "{plain} plain, {iacs} IACs, {tail:?}");
                    let slow = input.iter().rev().take_while(|&&b| b == IAC).count();
                    assert_eq!(trailing_iacs(&input), slow, "{plain} plain, {iacs} IACs, {tail:?}");
                }
            }
        }
    }

    quickcheck! {
        fn escaping_is_doubling(bytes: Vec<u8>, density: u8) -> bool {
            let guest = guest(&bytes, density);
            let wire = escaped(&guest);
            wire == doubled(&guest) && wire.len() == escaped_len(&guest)
        }

        fn guest_slices_undo_escaping(bytes: Vec<u8>, density: u8) -> bool {
            let guest = guest(&bytes, density);
            let wire = doubled(&guest);
            guest_slices(&wire).all(|slice| !slice.is_empty())
                && guest_slices(&wire).flatten().copied().collect::<Vec<_>>() == guest
        }

        fn undoubling_undoes_escaping_up_to_the_limit(bytes: Vec<u8>, density: u8, limit: u16) -> bool {
            let guest = guest(&bytes, density);
            let wire = doubled(&guest);
            let limit = usize::from(limit) % (guest.len() + 2);
            undoubled(&wire, limit) == guest[..limit.min(guest.len())]
                && undoubled(&wire, usize::MAX) == guest
        }

        fn wire_len_is_the_length_of_what_is_escaped(bytes: Vec<u8>, density: u8, asked: u16) -> bool {
            let guest = guest(&bytes, density);
            let asked = usize::from(asked) % (guest.len() + 2);
            let covered = asked.min(guest.len());
            wire_len(&doubled(&guest), asked) == (doubled(&guest[..covered]).len(), covered)
        }

        fn pairs_are_counted(bytes: Vec<u8>, density: u8) -> bool {
            let guest = guest(&bytes, density);
            count_pairs(&doubled(&guest)) == guest.iter().filter(|&&byte| byte == IAC).count()
        }

        fn a_cut_leaves_whole_pairs_and_wastes_no_room(bytes: Vec<u8>, density: u8, room: u16) -> bool {
            let wire = doubled(&guest(&bytes, density));
            let room = usize::from(room) % (wire.len() + 2);
            let taken = whole_pairs(&wire, room);
            slow_prefix(&wire[..taken]).0 == taken && taken <= room && taken + 1 >= room.min(wire.len())
        }

        fn the_prefix_ends_where_a_slow_look_ends_it(bytes: Vec<u8>, density: u8, cuts: Vec<u16>) -> bool {
            let mut wire = doubled(&guest(&bytes, density));
            for at in cuts.iter().take(usize::from(density) % 3) {
                let at = usize::from(*at) % (wire.len() + 1);
                wire.insert(at, IAC);
            }
            let (len, skip) = guest_prefix(&wire);
            let data = &wire[..len];
            wire_prefix(&wire) == slow_prefix(&wire)
                && doubled(data).len() <= slow_prefix(&wire).0
                && data.iter().filter(|&&byte| byte == IAC).count() == skip
        }
    }
}
