//! Writing telnet: escaping, commands, negotiations, subnegotiations; and reading guest bytes back
//! out of wire form.

use memchr::memchr_iter;

use super::codes::{Command, IAC, Opt, Verb};
use super::decode::{find_iac, leading_iacs};

/// Appends `data` with every IAC doubled (RFC 854). Costs one pass and one copy.
pub fn escape_into(data: &[u8], out: &mut Vec<u8>) {
    // Room for the data alone: doubling it beforehand would waste half for text, and counting
    // would be a pass of its own.
    out.reserve(data.len());
    let mut rest = data;
    while let Some(plain) = find_iac(rest) {
        let iacs = leading_iacs(&rest[plain..]);
        out.extend_from_slice(&rest[..plain + iacs]);
        out.resize(out.len() + iacs, IAC);
        rest = &rest[plain + iacs..];
    }
    out.extend_from_slice(rest);
}

/// How many bytes [`escape_into`] appends for `data`. Costs one pass.
pub fn escaped_len(data: &[u8]) -> usize {
    data.len() + memchr_iter(IAC, data).count()
}

/// Appends `IAC <verb> <option>`: three bytes.
pub fn put_negotiation(verb: Verb, opt: Opt, out: &mut Vec<u8>) {
    out.extend_from_slice(&[IAC, verb.byte(), opt.0]);
}

/// Appends `IAC <command>`: two bytes.
pub fn put_command(command: Command, out: &mut Vec<u8>) {
    out.extend_from_slice(&[IAC, command.0]);
}

/// Appends `IAC SB <option> <body> IAC SE`, the body (and an option 255) doubled where needed
/// (RFC 855).
pub fn put_subnegotiation(opt: Opt, body: &[u8], out: &mut Vec<u8>) {
    put_subnegotiation_parts(opt, &[body], out);
}

/// As [`put_subnegotiation`], for a body in parts.
pub fn put_subnegotiation_parts(opt: Opt, parts: &[&[u8]], out: &mut Vec<u8>) {
    put_command(Command::SB, out);
    escape_into(&[opt.0], out);
    for part in parts {
        escape_into(part, out);
    }
    put_command(Command::SE, out);
}

/// The guest bytes of `wire`, which is data in wire form holding only whole pairs (a
/// [`WireRun`](super::WireRun), or several joined). Nothing is copied: each slice ends within a run
/// of doubled IACs, of which the first half is what the guest meant and the second is skipped.
///
/// A lone IAC, which verified wire form does not have, is passed on as one byte.
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

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// Random bytes seldom hold IACs; these do.
    fn dense(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().map(|&byte| if byte % 3 == 0 { IAC } else { byte }).collect()
    }

    fn escaped(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        escape_into(data, &mut out);
        out
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
    fn commands_are_framed_as_rfc_855_has_it() {
        let mut out = Vec::new();
        put_negotiation(Verb::Will, Opt::SGA, &mut out);
        put_command(Command::BRK, &mut out);
        put_subnegotiation(Opt::NAWS, &[0, 255, 0, 25], &mut out);
        put_subnegotiation(Opt(255), &[], &mut out);
        assert_eq!(
            out,
            [255, 251, 3, 255, 243, 255, 250, 31, 0, 255, 255, 0, 25, 255, 240, 255, 250, 255, 255, 255, 240]
        );
    }

    quickcheck! {
        fn escaped_len_is_what_escaping_appends(bytes: Vec<u8>) -> bool {
            let data = dense(&bytes);
            escaped_len(&data) == escaped(&data).len()
        }

        fn guest_slices_undo_escaping(bytes: Vec<u8>) -> bool {
            let data = dense(&bytes);
            let wire = escaped(&data);
            guest_slices(&wire).all(|slice| !slice.is_empty())
                && guest_slices(&wire).flatten().copied().collect::<Vec<_>>() == data
        }
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
}
