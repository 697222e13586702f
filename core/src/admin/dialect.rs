//! Which protocol a client of the admin listener speaks, by its first bytes.
//!
//! **Owns** the table. **Refuses to know** the protocols beyond their first bytes, and consumes nothing: the
//! bytes belong to whoever is chosen. **Implements** admin.md §1.
//!
//! ```text
//! first bytes                                     dialect
//! 80; K, M or J and no letter; I or L and a digit V3
//! 00                                              Operator
//! METHOD, a space, "/" or "*"                     Http
//! LIST and the line's end; "GET " and neither "/" nor "*"; a line's end alone    OpenStack
//! FF                                              VmwareKit (telnet)
//! 16 03                                           Tls: any of these within it
//! anything else                                   none: Garbage
//! nothing for a while (SILENCE)                   VmwareKit: that client waits for the server's WILL 233
//! ```

use std::time::Duration;

/// For how long a client may be silent until it is taken for a telnet client that waits to be spoken to.
/// Clients of the other protocols speak first, in one round trip; a person does not notice this.
pub const SILENCE: Duration = Duration::from_millis(200);

/// A protocol of the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// vSPC.py's, version 3: pickles.
    V3,
    /// This project's own.
    Operator,
    /// A web browser, a monitor, a script.
    Http,
    /// The lines of OpenStack's vmware-vspc.
    OpenStack,
    /// Telnet with option 233, of VMware's own vspc.
    VmwareKit,
    /// TLS, and one of the others within it.
    Tls,
}

/// What the first bytes of a connection say.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBytes {
    /// They are of this protocol.
    Of(Dialect),
    /// More bytes must come to tell; never said of more than [`FirstBytes::LIMIT`] bytes.
    NeedsMore,
    /// They are of none. The answer is vSPC.py's, [`put_refusal`](super::v3::put_refusal).
    Garbage,
}

impl FirstBytes {
    /// After so many bytes it is always clear. The longest registered method of HTTP has 17 letters.
    pub const LIMIT: usize = 33;

    /// Tells by `bytes`, which are all that has come. Constant cost.
    pub fn of(bytes: &[u8]) -> Self {
        let (Some(&first), second) = (bytes.first(), bytes.get(1)) else { return Self::NeedsMore };
        match first {
            0x80 => return Self::Of(Dialect::V3),
            0 => return Self::Of(Dialect::Operator),
            0xff => return Self::Of(Dialect::VmwareKit),
            // A record with a handshake in it, of any version of TLS (RFC 8446 §5.1).
            0x16 => {
                return match second {
                    None => Self::NeedsMore,
                    Some(3) => Self::Of(Dialect::Tls),
                    Some(_) => Self::Garbage,
                };
            }
            b'\r' | b'\n' => return Self::Of(Dialect::OpenStack),
            // Letters begin a method of HTTP as well; the number of a version does not look like one.
            b'K' | b'M' | b'J' | b'I' | b'L' => {
                let Some(&second) = second else { return Self::NeedsMore };
                let is_pickle = match first {
                    b'I' | b'L' => second.is_ascii_digit() || second == b'-',
                    _ => !is_token(second) && second != b' ',
                };
                if is_pickle {
                    return Self::Of(Dialect::V3);
                }
            }
            _ => {}
        }
        Self::of_text(bytes)
    }

    fn of_text(bytes: &[u8]) -> Self {
        let len = bytes.iter().position(|&byte| !is_token(byte));
        let Some(len) = len else {
            return if bytes.len() < Self::LIMIT { Self::NeedsMore } else { Self::Garbage };
        };
        let (word, rest) = bytes.split_at(len);
        match (word, rest) {
            ([], _) => Self::Garbage,
            // With what has to follow it, it would be longer than is waited for.
            _ if len > Self::LIMIT - 2 => Self::Garbage,
            (b"LIST", [b'\r' | b'\n', ..] | [b' ', b'\r' | b'\n', ..]) => Self::Of(Dialect::OpenStack),
            (_, [b' ']) => Self::NeedsMore,
            (_, [b' ', b'/' | b'*', ..]) => Self::Of(Dialect::Http),
            (b"GET", [b' ', ..]) => Self::Of(Dialect::OpenStack),
            _ => Self::Garbage,
        }
    }
}

/// A character of HTTP's tokens (RFC 9110 §5.6.2), of which a method is one.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use FirstBytes::{Garbage, NeedsMore, Of};

    const TABLE: &[(&[u8], FirstBytes)] = &[
        (b"", NeedsMore),
        (b"\x80", Of(Dialect::V3)),
        (b"\x80\x04K\x03.", Of(Dialect::V3)),
        (b"K", NeedsMore),
        (b"K\x03", Of(Dialect::V3)),
        (b"M\x03\x00.", Of(Dialect::V3)),
        (b"I3\n.", Of(Dialect::V3)),
        (b"I", NeedsMore),
        (b"L3L\n.", Of(Dialect::V3)),
        (b"\0", Of(Dialect::Operator)),
        (b"\0S2", Of(Dialect::Operator)),
        (b"G", NeedsMore),
        (b"GET", NeedsMore),
        (b"GET ", NeedsMore),
        (b"GET /", Of(Dialect::Http)),
        (b"GET /console_log/50", Of(Dialect::Http)),
        (b"HEAD /", Of(Dialect::Http)),
        (b"OPTIONS *", Of(Dialect::Http)),
        (b"PROPFIND /", Of(Dialect::Http)),
        (b"MKCOL /", Of(Dialect::Http)),
        (b"LINK /", Of(Dialect::Http)),
        (b"LOCK /", Of(Dialect::Http)),
        (b"M-SEARCH *", Of(Dialect::Http)),
        (b"UPDATEREDIRECTREF /", Of(Dialect::Http)),
        (b"LIST /", Of(Dialect::Http)),
        (b"L", NeedsMore),
        (b"LIST", NeedsMore),
        (b"LIST ", NeedsMore),
        (b"LIST\n", Of(Dialect::OpenStack)),
        (b"LIST\r\n", Of(Dialect::OpenStack)),
        (b"LIST \r\n", Of(Dialect::OpenStack)),
        (b"GET 5031", Of(Dialect::OpenStack)),
        (b"GET \n", Of(Dialect::OpenStack)),
        (b"\n", Of(Dialect::OpenStack)),
        (b"\r\n", Of(Dialect::OpenStack)),
        (b"\xff", Of(Dialect::VmwareKit)),
        (b"\xff\xfd\xe9", Of(Dialect::VmwareKit)),
        (b"hello world", Garbage),
        (b"hello\n", Garbage),
        (b"LIST all", Garbage),
        (b"GET", NeedsMore),
        (b"GET\n", Garbage),
        (b" ", Garbage),
        (b"/", Garbage),
        (b"\x16", NeedsMore),
        (b"\x16\x03\x01", Of(Dialect::Tls)),
        (b"\x16\x16", Garbage),
        (b"\x03", Garbage),
        (b"]", Garbage),
        (b"\x93", Garbage),
        (b"POST http://", Garbage),
        (b"K ", NeedsMore),
        (b"Kill", NeedsMore),
    ];

    #[test]
    fn first_bytes_are_told_apart() {
        for &(bytes, expected) in TABLE {
            assert_eq!(FirstBytes::of(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn bytes_that_follow_change_nothing_that_was_told() {
        for &(bytes, expected) in TABLE {
            for len in 0..bytes.len() {
                let before = FirstBytes::of(&bytes[..len]);
                assert!(before == NeedsMore || before == expected, "{} at {len}", bytes.escape_ascii());
            }
            for byte in 0..=255 {
                let longer = [bytes, &[byte]].concat();
                assert!(expected == NeedsMore || FirstBytes::of(&longer) == expected);
            }
        }
    }

    #[test]
    fn a_word_of_any_length_is_told_once_and_for_all() {
        for len in 0..=FirstBytes::LIMIT + 2 {
            for follows in [&b" /x"[..], b" *", b" x", b"\n", b"  ", b"/"] {
                let said = [&vec![b'M'; len], follows].concat();
                let told: Vec<FirstBytes> =
                    (0..=said.len()).map(|len| FirstBytes::of(&said[..len])).collect();
                let first = told.iter().position(|&told| told != NeedsMore).unwrap_or(told.len());
                assert!(first <= FirstBytes::LIMIT, "{}", said.escape_ascii());
                assert!(told[first..].iter().all(|&later| later == told[first]), "{}", said.escape_ascii());
                let is_http =
                    (1..FirstBytes::LIMIT - 1).contains(&len) && [&b" /x"[..], b" *"].contains(&follows);
                assert_eq!(told.last() == Some(&Of(Dialect::Http)), is_http, "{}", said.escape_ascii());
            }
        }
    }

    #[test]
    fn it_is_always_clear_in_the_end() {
        for byte in 0..=255 {
            for len in [FirstBytes::LIMIT - 1, FirstBytes::LIMIT, 100] {
                let mut bytes = vec![byte; len];
                assert!(len < FirstBytes::LIMIT || FirstBytes::of(&bytes) != NeedsMore, "{byte:#x}");
                bytes[len - 1] = b' ';
                assert!(len < FirstBytes::LIMIT || FirstBytes::of(&bytes) != NeedsMore, "{byte:#x}");
            }
        }
    }
}
