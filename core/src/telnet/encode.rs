//! Writing telnet: commands, negotiations, subnegotiations. Data is written by
//! [`escape_into`].
//!
//! **Owns** nothing: everything is appended to the caller's buffer. **Refuses to know** which option is on
//! and whether the peer understands. **Implements** RFC 854 and RFC 855.

use super::codes::{Command, IAC, Opt, Verb};
use super::wire_form::escape_into;

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
pub(crate) fn put_subnegotiation_parts(opt: Opt, parts: &[&[u8]], out: &mut Vec<u8>) {
    put_command(Command::SB, out);
    escape_into(&[opt.0], out);
    for part in parts {
        escape_into(part, out);
    }
    put_command(Command::SE, out);
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
