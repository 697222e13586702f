//! Writing telnet: escaping, commands, negotiations, subnegotiations; and reading guest bytes back
//! out of wire form.

use memchr::{memchr, memchr_iter};

use super::codes::{Command, IAC, Opt, Verb};
use super::decode::leading_iacs;

/// Appends `data` with every IAC doubled (RFC 854). Costs one pass and one copy.
pub fn escape_into(data: &[u8], out: &mut Vec<u8>) {
    // Room for the data alone: doubling it beforehand would waste half for text, and counting
    // would be a pass of its own.
    out.reserve(data.len());
    let mut rest = data;
    while let Some(plain) = memchr(IAC, rest) {
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
        let (len, skip) = match memchr(IAC, rest) {
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
