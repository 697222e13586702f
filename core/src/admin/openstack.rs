//! The query lines of OpenStack's vmware-vspc: one line, one answer, and the end.
//!
//! **Owns** the words of both directions. **Refuses to know** consoles and connections. **Implements**
//! admin.md §9.

use std::net::SocketAddr;

/// The longest line that is read. The longest that means something has 36 digits and dashes behind `GET`.
pub const LINE_LIMIT: usize = 256;

/// What was asked for; the connection ends behind the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenStackRequest {
    /// `LIST`: an entry for each console ([`put_entry`]).
    List,
    /// `GET` and a UUID: that console's address ([`put_address`]), or [`put_none`]. `None`: what was given is
    /// no UUID, so there is no such console.
    Get(Option<[u8; 16]>),
    /// A line without a word, or with a word that is none of those, or one without an end: end the connection
    /// without an answer.
    Unknown,
}

/// Collects the line: at most [`LINE_LIMIT`] bytes, and nothing once it was read.
#[derive(Debug, Default)]
pub struct OpenStackLine {
    line: Vec<u8>,
    is_read: bool,
}

impl OpenStackLine {
    /// Of a connection from which nothing was read.
    #[must_use]
    pub const fn new() -> Self {
        Self { line: Vec::new(), is_read: false }
    }

    /// Reads on: `Some`, once, when the line is whole or too long. What comes behind it is taken and dropped.
    pub fn receive(&mut self, input: &mut &[u8]) -> Option<OpenStackRequest> {
        let bytes = std::mem::take(input);
        if self.is_read {
            return None;
        }
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        let is_long = self.line.len() + part.len() > LINE_LIMIT;
        if end.is_none() && !is_long {
            self.line.extend_from_slice(part);
            return None;
        }
        self.is_read = true;
        let mut line = std::mem::take(&mut self.line);
        if is_long {
            return Some(OpenStackRequest::Unknown);
        }
        line.extend_from_slice(part);
        Some(parse(&line))
    }
}

/// Appends a console of the list.
pub fn put_entry(uuid: [u8; 16], at: SocketAddr, out: &mut Vec<u8>) {
    for byte in uuid {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.extend_from_slice(b" -> ");
    put_address(at, out);
}

/// Appends where clients connect to the console that was asked for: an IPv6 address in brackets, which keep
/// it apart from the port (RFC 3986 §3.2.2).
pub fn put_address(at: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{at}\n").as_bytes());
}

/// Appends that there is no such console.
pub fn put_none(out: &mut Vec<u8>) {
    out.extend_from_slice(b"None\n");
}

fn parse(line: &[u8]) -> OpenStackRequest {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(b"LIST"), None, _) => OpenStackRequest::List,
        (Some(b"GET"), uuid, None) => OpenStackRequest::Get(uuid.and_then(digits)),
        (Some(b"GET"), ..) => OpenStackRequest::Get(None),
        _ => OpenStackRequest::Unknown,
    }
}

/// 32 hexadecimal digits, with dashes or without.
fn digits(text: &[u8]) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut count = 0;
    for &byte in text.iter().filter(|&&byte| byte != b'-') {
        let digit = char::from(byte).to_digit(16)? as u8;
        let place = uuid.get_mut(count / 2)?;
        *place = *place << 4 | digit;
        count += 1;
    }
    (count == 32).then_some(uuid)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] =
        [0x50, 0x31, 0x23, 0x24, 0x5f, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdf, 0xca, 0xfe, 0x98, 0];

    fn asked(said: &[u8]) -> Option<OpenStackRequest> {
        OpenStackLine::new().receive(&mut &said[..])
    }

    #[test]
    fn lines_are_read() {
        for (line, request) in [
            (&b"LIST\n"[..], OpenStackRequest::List),
            (b"LIST\r\n", OpenStackRequest::List),
            (b"GET 503123245f6789abcdeffedfcafe9800\n", OpenStackRequest::Get(Some(UUID))),
            (b"GET 50312324-5f67-89ab-cdef-fedfcafe9800\r\n", OpenStackRequest::Get(Some(UUID))),
            (b"GET 503123245F6789ABCDEFFEDFCAFE9800\n", OpenStackRequest::Get(Some(UUID))),
            (b"GET 503123245f6789abcdeffedfcafe980\n", OpenStackRequest::Get(None)),
            (b"GET 503123245f6789abcdeffedfcafe98000\n", OpenStackRequest::Get(None)),
            (b"GET web01\n", OpenStackRequest::Get(None)),
            (b"GET\n", OpenStackRequest::Get(None)),
            (b"GET a b\n", OpenStackRequest::Get(None)),
            (b"\n", OpenStackRequest::Unknown),
            (b"\r\n", OpenStackRequest::Unknown),
            (b"PUT x\n", OpenStackRequest::Unknown),
        ] {
            assert_eq!(asked(line), Some(request), "{}", line.escape_ascii());
            let mut reader = OpenStackLine::new();
            let mut pieces: Vec<_> =
                line.chunks(1).filter_map(|mut byte| reader.receive(&mut byte)).collect();
            assert_eq!(pieces.pop(), Some(request), "cut, {}", line.escape_ascii());
            assert_eq!(pieces, []);
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up_and_what_follows_a_line_is_dropped() {
        let mut reader = OpenStackLine::new();
        let mut told = Vec::new();
        for _ in 0..1000 {
            told.extend(reader.receive(&mut &b"LIST "[..]));
            assert!(reader.line.capacity() <= 2 * LINE_LIMIT);
        }
        assert_eq!(told, [OpenStackRequest::Unknown]);

        let mut input = &b"LIST\nLIST\n"[..];
        let mut reader = OpenStackLine::new();
        assert_eq!(reader.receive(&mut input), Some(OpenStackRequest::List));
        assert!(input.is_empty());
        assert_eq!(reader.receive(&mut &b"LIST\n"[..]), None);
    }

    #[test]
    fn answers_are_lines() {
        let mut out = Vec::new();
        put_entry(UUID, ([192, 0, 2, 1], 13370).into(), &mut out);
        put_entry(UUID, SocketAddr::from(([0_u16; 8], 50000)), &mut out);
        put_address("[::1]:1".parse().unwrap(), &mut out);
        put_none(&mut out);
        assert_eq!(
            String::from_utf8(out).as_deref(),
            Ok("503123245f6789abcdeffedfcafe9800 -> 192.0.2.1:13370\n\
                503123245f6789abcdeffedfcafe9800 -> [::]:50000\n[::1]:1\nNone\n")
        );
    }
}
