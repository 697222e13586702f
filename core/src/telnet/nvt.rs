//! What a carriage return means without BINARY.
//!
//! **Owns** nothing; one bit of state between runs is the caller's. **Refuses to know** whether BINARY is on.
//! **Implements** RFC 854, "The NVT printer and keyboard".

use memchr::memchr;

/// Takes the next slice off the front of `run`, which was received without BINARY, and turns CR NUL (and CR
/// LF, if `swallow_lf`) into CR; `None` when the run is used up.
///
/// `after_cr` is the state between runs; start with `false`. A NUL that does not follow a CR is data and
/// kept: debuggers and file transfers need it (telnet.md §6). A CR is passed on at once, without waiting for
/// the byte after it. Guest bytes and wire form may both be folded, because neither CR, LF nor NUL is ever
/// doubled. Costs one pass.
pub fn fold<'i>(after_cr: &mut bool, run: &mut &'i [u8], swallow_lf: bool) -> Option<&'i [u8]> {
    let swallowed = |byte: u8| byte == NUL || (swallow_lf && byte == LF);
    if *after_cr {
        let &first = run.first()?;
        *after_cr = false;
        if swallowed(first) {
            *run = &run[1..];
        }
    }
    if run.is_empty() {
        return None;
    }
    let mut len = 0;
    while let Some(plain) = memchr(CR, &run[len..]) {
        len += plain + 1;
        match run.get(len) {
            Some(&byte) if !swallowed(byte) => {}
            _ => {
                *after_cr = true;
                let slice = &run[..len];
                *run = &run[len..];
                return Some(slice);
            }
        }
    }
    Some(std::mem::take(run))
}

/// Puts what [`fold`] makes of a run in few slices, whatever the peer has sent: short ones are joined in
/// `scratch` first, [`JOINED`] bytes at most. Costs two passes, and a copy of what is short.
#[cfg(feature = "concentrator")]
pub(crate) fn fold_all(
    after_cr: &mut bool,
    mut run: &[u8],
    swallow_lf: bool,
    scratch: &mut Vec<u8>,
    mut put: impl FnMut(&[u8]),
) {
    scratch.clear();
    while let Some(slice) = fold(after_cr, &mut run, swallow_lf) {
        let is_long = slice.len() >= SHORT;
        if !scratch.is_empty() && (is_long || scratch.len() + slice.len() > JOINED) {
            put(scratch);
            scratch.clear();
        }
        if is_long || (scratch.is_empty() && run.is_empty()) {
            put(slice);
        } else {
            scratch.extend_from_slice(slice);
        }
    }
    if !scratch.is_empty() {
        put(scratch);
        scratch.clear();
    }
}

/// A slice of so many bytes costs more to copy than to be put alone.
#[cfg(feature = "concentrator")]
const SHORT: usize = 1 << 10;

/// Most bytes that are joined: what stays in the nearest cache.
#[cfg(feature = "concentrator")]
const JOINED: usize = 16 << 10;

const NUL: u8 = 0;
const LF: u8 = b'\n';
const CR: u8 = b'\r';

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(pieces: &[&[u8]], swallow_lf: bool) -> Vec<u8> {
        let mut after_cr = false;
        let mut out = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(slice) = fold(&mut after_cr, &mut piece, swallow_lf) {
                assert!(!slice.is_empty());
                out.extend_from_slice(slice);
            }
            assert!(piece.is_empty());
        }
        out
    }

    #[test]
    fn nul_and_line_feed_after_cr_are_swallowed_and_only_there() {
        let rows: [(&[u8], &[u8], &[u8]); 9] = [
            (b"a\r\0b", b"a\rb", b"a\rb"),
            (b"a\r\nb", b"a\rb", b"a\r\nb"),
            (b"\0a\0", b"\0a\0", b"\0a\0"),
            (b"\n\n", b"\n\n", b"\n\n"),
            (b"\r\0\0", b"\r\0", b"\r\0"),
            (b"\r\r\0\r", b"\r\r\r", b"\r\r\r"),
            (b"\r\n\0x", b"\r\0x", b"\r\n\0x"),
            (b"\rx\0", b"\rx\0", b"\rx\0"),
            (b"\xff\xff\r\0\xff\xff", b"\xff\xff\r\xff\xff", b"\xff\xff\r\xff\xff"),
        ];
        for (wire, swallowing, keeping) in rows {
            for cut in 0..=wire.len() {
                let (head, tail) = wire.split_at(cut);
                assert_eq!(folded(&[head, tail], true), swallowing, "{wire:?} at {cut}");
                assert_eq!(folded(&[head, tail], false), keeping, "{wire:?} at {cut}");
            }
        }
    }

    #[cfg(feature = "concentrator")]
    #[test]
    fn a_run_of_nothing_but_returns_is_put_in_few_slices_and_as_fold_would_put_it() {
        let mut mixed = b"\r\0".repeat(50_000);
        mixed.extend(b"x".repeat(3000));
        mixed.extend(b"ab\r\n\xff\xff\r".repeat(10_000));
        for run in [&b"\r\0".repeat(128 << 10)[..], &mixed, b"", b"\0x", b"one line\r\n"] {
            for swallow_lf in [false, true] {
                let (mut after_cr, mut scratch) = (true, Vec::new());
                let (mut all, mut slices) = (Vec::new(), 0);
                fold_all(&mut after_cr, run, swallow_lf, &mut scratch, |slice| {
                    assert!(!slice.is_empty());
                    all.extend_from_slice(slice);
                    slices += 1;
                });
                let (mut expected, mut rest, mut state) = (Vec::new(), run, true);
                while let Some(slice) = fold(&mut state, &mut rest, swallow_lf) {
                    expected.extend_from_slice(slice);
                }
                assert!(all == expected && after_cr == state);
                assert!(slices <= 3 + run.len() / (8 << 10), "{slices} slices of {} bytes", run.len());
                assert!(scratch.capacity() <= 2 * JOINED);
            }
        }
    }

    #[test]
    fn a_run_without_anything_to_swallow_is_one_slice() {
        let mut after_cr = false;
        let mut run: &[u8] = b"one\rtwo\r\rthree";
        assert_eq!(fold(&mut after_cr, &mut run, true), Some(&b"one\rtwo\r\rthree"[..]));
    }
}
