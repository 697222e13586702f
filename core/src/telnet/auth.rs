//! The AUTHENTICATION option (RFC 2941), as far as its type SSL needs it.
//!
//! SSL has no RFC; what is spoken is what netkit-telnet-ssl and VMware's hosts speak (tls-in-band.md §1
//! and §2). The server of the telnet connection asks, the client starts, and both go on in TLS, the
//! telnet server as its server. This file knows the frames; the caller knows when to send which.

use super::codes::{Command, IAC, Opt};

/// SEND \[SSL, no modifiers\]: which type of authentication we would take.
pub const SEND_SSL: &[u8] =
    &[IAC, Command::SB.0, Opt::AUTHENTICATION.0, SEND, SSL, PLAIN_PAIR, IAC, Command::SE.0];

/// REPLY SSL ACCEPT: the last bytes in clear.
pub const ACCEPT_SSL: &[u8] =
    &[IAC, Command::SB.0, Opt::AUTHENTICATION.0, REPLY, SSL, PLAIN_PAIR, ACCEPT, IAC, Command::SE.0];

/// REPLY SSL REJECT: the connection stays in clear.
pub const REJECT_SSL: &[u8] =
    &[IAC, Command::SB.0, Opt::AUTHENTICATION.0, REPLY, SSL, PLAIN_PAIR, REJECT, IAC, Command::SE.0];

/// What a telnet client answers to [`SEND_SSL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Is {
    /// It begins TLS as soon as it has read [`ACCEPT_SSL`].
    StartSsl,
    /// It has no type in common with us.
    Null,
    /// Anything else, which was not asked for.
    Other,
}

impl Is {
    /// Reads the body of a subnegotiation of AUTHENTICATION, undoubled. `None`: it is not an IS.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        match body {
            [IS, NULL, ..] => Some(Self::Null),
            // A pair with other modifiers was not offered.
            [IS, SSL, PLAIN_PAIR, START, ..] => Some(Self::StartSsl),
            [IS, ..] => Some(Self::Other),
            _ => None,
        }
    }
}

const IS: u8 = 0;
const SEND: u8 = 1;
const REPLY: u8 = 2;

const NULL: u8 = 0;
const SSL: u8 = 7;

/// No modifiers: client to server, one way, encryption not by telnet.
const PLAIN_PAIR: u8 = 0;

const START: u8 = 1;
const ACCEPT: u8 = 2;
const REJECT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_seen_on_the_wire() {
        assert_eq!(SEND_SSL, [0xff, 0xfa, 0x25, 0x01, 0x07, 0x00, 0xff, 0xf0]);
        assert_eq!(ACCEPT_SSL, [0xff, 0xfa, 0x25, 0x02, 0x07, 0x00, 0x02, 0xff, 0xf0]);
        assert_eq!(REJECT_SSL, [0xff, 0xfa, 0x25, 0x02, 0x07, 0x00, 0x03, 0xff, 0xf0]);
    }

    #[test]
    fn answers_are_told_apart() {
        for (body, is) in [
            (&[0, 7, 0, 1][..], Some(Is::StartSsl)),
            (&[0, 0, 0], Some(Is::Null)),
            (&[0, 7, 2, 1], Some(Is::Other)),
            (&[0, 7, 0], Some(Is::Other)),
            (&[0, 2, 0, 1], Some(Is::Other)),
            (&[0], Some(Is::Other)),
            (&[1, 7, 0], None),
            (&[], None),
        ] {
            assert_eq!(Is::parse(body), is, "{body:02x?}");
        }
    }
}
