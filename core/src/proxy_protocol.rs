//! The header by which a proxy says whom it forwards: the PROXY protocol, versions 1 and 2.
//!
//! **Owns** how many bytes the header has and which address it tells. **Refuses to know** whether that may be
//! believed, connections and clocks. **Implements** proxy.md.
//!
//! It is read piece by piece, and nothing behind it is looked at: [`Decoder::needed`] says how many bytes are
//! sure to belong to it. At most [`LONGEST_LINE`] bytes are held; what a version 2 header has beside the
//! addresses is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads one header.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    /// Bytes of a version 2 header that mean nothing here and have not come yet.
    to_skip: usize,
    /// What it says, once that has come.
    said: Option<Forwarded>,
}

/// Whom a header is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarded {
    /// A connection that came to the proxy from this address.
    From(SocketAddr),
    /// The proxy itself (a health check), or somebody of whom it tells no IP address: its own counts.
    Itself,
}

/// Why there is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderFault {
    /// The first bytes are something else.
    #[error("no PROXY header")]
    Missing,
    /// It begins like one and is none.
    #[error("a PROXY header that makes no sense")]
    Malformed,
}

impl Decoder {
    /// Nothing has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: Vec::new(), to_skip: 0, said: None }
    }

    /// How many bytes more are sure to be the header's; 0 once it is whole. To read no more than that leaves
    /// whatever comes behind it where it is.
    #[must_use]
    pub fn needed(&self) -> usize {
        if self.said.is_some() {
            return self.to_skip;
        }
        let len = self.held.len();
        if len < SHORTEST {
            SHORTEST - len
        } else if self.held[0] == SIGNATURE[0] {
            let begun = V2_FIXED.saturating_sub(len);
            begun + (V2_FIXED + self.addresses_len()).saturating_sub(len + begun)
        } else if self.held.ends_with(b"\r") {
            1
        } else {
            2
        }
    }

    /// Takes what belongs to the header off the front of `input`. `Some`: it is whole. Costs a look at each
    /// byte of it.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Forwarded>, HeaderFault> {
        loop {
            let needed = self.needed();
            if needed == 0
                && let Some(said) = self.said
            {
                return Ok(Some(said));
            }
            let Some((piece, rest)) = input.split_at_checked(needed.min(input.len()).max(1)) else {
                return Ok(None);
            };
            *input = rest;
            if self.said.is_some() {
                self.to_skip -= piece.len();
                continue;
            }
            self.held.extend_from_slice(piece);
            if self.held[0] == SIGNATURE[0] { self.consider_binary()? } else { self.consider_line()? }
        }
    }

    /// Version 1, as far as it has come (proxy.md §1).
    fn consider_line(&mut self) -> Result<(), HeaderFault> {
        let len = self.held.len();
        let begun = len.min(PREFIX.len());
        if self.held[..begun] != PREFIX[..begun] {
            return Err(HeaderFault::Missing);
        }
        match memchr::memchr2(b'\r', b'\n', &self.held) {
            Some(at) if self.held[at..] == *b"\r\n" => {
                self.said = Some(line(&self.held[..at]).ok_or(HeaderFault::Malformed)?);
                Ok(())
            }
            // The rest of the end of the line is to come.
            Some(at) if self.held[at..] == *b"\r" && len < LONGEST_LINE => Ok(()),
            None if len + self.needed() <= LONGEST_LINE => Ok(()),
            _ => Err(HeaderFault::Malformed),
        }
    }

    /// Version 2, as far as it has come (proxy.md §2).
    fn consider_binary(&mut self) -> Result<(), HeaderFault> {
        let begun = self.held.len().min(SIGNATURE.len());
        if self.held[..begun] != SIGNATURE[..begun] {
            return Err(HeaderFault::Missing);
        }
        if self.held.len() < V2_FIXED {
            return Ok(());
        }
        let (command, family) = (self.held[12], self.held[13]);
        let is_known = matches!(command, LOCAL | PROXY) && (command == LOCAL || FAMILIES.contains(&family));
        let wanted = self.addresses_wanted();
        if !is_known || self.body_len() < wanted {
            return Err(HeaderFault::Malformed);
        }
        if self.held.len() < V2_FIXED + wanted {
            return Ok(());
        }
        self.to_skip = self.body_len() - wanted;
        self.said = Some(match addresses(&self.held[V2_FIXED..]) {
            Some(from) => Forwarded::From(from),
            None => Forwarded::Itself,
        });
        Ok(())
    }

    /// How long a version 2 header says that it is behind its fixed part.
    fn body_len(&self) -> usize {
        match self.held.get(14..V2_FIXED) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        }
    }

    /// How many bytes of addresses are read of a version 2 header.
    fn addresses_wanted(&self) -> usize {
        match self.held.get(12..14) {
            Some(&[PROXY, TCP_OVER_V4]) => V4_ADDRESSES,
            Some(&[PROXY, TCP_OVER_V6]) => V6_ADDRESSES,
            _ => 0,
        }
    }

    /// The same, as far as there are so many: fewer is a fault, which is told once the fixed part has come.
    fn addresses_len(&self) -> usize {
        self.addresses_wanted().min(self.body_len())
    }
}

/// A line of version 1 without its end.
fn line(line: &[u8]) -> Option<Forwarded> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ').skip(1);
    let ip: fn(&str) -> Option<IpAddr> = match words.next()? {
        "UNKNOWN" => return Some(Forwarded::Itself),
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let (from, _to) = (ip(words.next()?)?, ip(words.next()?)?);
    let (from_port, _to_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Forwarded::From(SocketAddr::new(from.to_canonical(), from_port)))
}

/// A port as decimal digits, and nothing else that Rust takes for a number.
fn port(word: &str) -> Option<u16> {
    word.parse().ok().filter(|port: &u16| port.to_string() == word)
}

/// The source of a version 2 header's addresses, where they are of a kind that has one.
fn addresses(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = match bytes.len() {
        V4_ADDRESSES => (IpAddr::from(*bytes.first_chunk::<4>()?), bytes.get(8..10)?),
        V6_ADDRESSES => (IpAddr::from(*bytes.first_chunk::<16>()?), bytes.get(32..34)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes([port[0], port[1]])))
}

/// What version 1 begins with.
const PREFIX: &[u8] = b"PROXY ";

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// `PROXY UNKNOWN` and its end: no header is shorter.
const SHORTEST: usize = 15;

/// Of version 1, its end included (proxy.md §1).
pub const LONGEST_LINE: usize = 107;

/// Signature, version and command, family and protocol, length.
const V2_FIXED: usize = 16;

/// Version 2, and its commands.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const TCP_OVER_V4: u8 = 0x11;
const TCP_OVER_V6: u8 = 0x21;

/// Unspecified; stream and datagram over IPv4, IPv6 and unix sockets.
const FAMILIES: [u8; 7] = [0, TCP_OVER_V4, 0x12, TCP_OVER_V6, 0x22, 0x31, 0x32];

/// Two addresses and two ports.
const V4_ADDRESSES: usize = 12;
const V6_ADDRESSES: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    fn read(mut input: &[u8]) -> (Result<Option<Forwarded>, HeaderFault>, usize) {
        let len = input.len();
        let outcome = Decoder::new().receive(&mut input);
        (outcome, len - input.len())
    }

    fn from(text: &str) -> Forwarded {
        Forwarded::From(text.parse().unwrap())
    }

    fn headers() -> Vec<(Vec<u8>, Forwarded)> {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x34, 0x3a];
        let mut v6 = [0; V6_ADDRESSES];
        v6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        (v6[15], v6[32], v6[33]) = (7, 0x30, 0x39);
        let mut mapped = [0; V6_ADDRESSES];
        mapped[10..16].copy_from_slice(&[255, 255, 192, 0, 2, 7]);
        let tlvs = [&v4[..], &[3, 0, 4, 1, 2, 3, 4, 4, 0, 0]].concat();
        let long = [&v6[..], &[0x20; 3000]].concat();
        let itself = Forwarded::Itself;
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), LONGEST_LINE);
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 13370\r\n".to_vec(), from("192.0.2.7:12345")),
            (
                b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(),
                from("255.255.255.255:65535"),
            ),
            (b"PROXY TCP6 2001:db8::7 ::1 12345 13370\r\n".to_vec(), from("[2001:db8::7]:12345")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n".to_vec(), from("192.0.2.7:1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), itself),
            (longest.into(), itself),
            (v2(PROXY, TCP_OVER_V4, &v4), from("192.0.2.7:12345")),
            (v2(PROXY, TCP_OVER_V6, &v6), from("[2001:db8::7]:12345")),
            (v2(PROXY, TCP_OVER_V6, &mapped), from("192.0.2.7:0")),
            // What is behind the addresses is skipped.
            (v2(PROXY, TCP_OVER_V4, &tlvs), from("192.0.2.7:12345")),
            (v2(PROXY, TCP_OVER_V6, &long), from("[2001:db8::7]:12345")),
            (v2(LOCAL, 0, &[]), itself),
            (v2(LOCAL, TCP_OVER_V4, &v4), itself),
            (v2(LOCAL, 0xff, &[1; 70]), itself),
            (v2(PROXY, 0, &[]), itself),
            (v2(PROXY, 0x12, &v4), itself),
            (v2(PROXY, 0x31, &[0; 216]), itself),
        ]
    }

    #[test]
    fn each_header_tells_whom_it_is_about_and_ends_where_it_says() {
        for (header, said) in headers() {
            for behind in [&b""[..], b"\xff\xfb\x00", b"PROXY UNKNOWN\r\n", b"\r\n"] {
                let bytes = [&header[..], behind].concat();
                assert_eq!(read(&bytes), (Ok(Some(said)), header.len()), "{}", bytes.escape_ascii());
            }
            for len in 0..header.len() {
                assert_eq!(read(&header[..len]), (Ok(None), len), "{}", header[..len].escape_ascii());
            }
        }
    }

    #[test]
    fn how_it_is_cut_changes_nothing_and_who_reads_what_is_needed_reads_no_more() {
        for (header, said) in headers().into_iter().filter(|(header, _)| header.len() < 300) {
            let bytes = [&header[..], b"behind"].concat();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let mut decoder = Decoder::new();
                    let (mut outcome, mut taken) = (Ok(None), 0);
                    for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                        let mut input = piece;
                        outcome = decoder.receive(&mut input);
                        taken += piece.len() - input.len();
                    }
                    assert_eq!((outcome, taken), (Ok(Some(said)), header.len()));
                }
            }
            let (mut decoder, mut rest) = (Decoder::new(), &bytes[..]);
            while decoder.needed() > 0 {
                let (piece, behind) = rest.split_at(decoder.needed());
                let mut input = piece;
                decoder.receive(&mut input).unwrap();
                assert!(input.is_empty());
                rest = behind;
            }
            assert_eq!(rest, b"behind");
        }
    }

    #[test]
    fn what_is_no_header_is_found_out_as_soon_as_it_can_be() {
        let (missing, malformed) = (HeaderFault::Missing, HeaderFault::Malformed);
        let short = v2(PROXY, TCP_OVER_V4, &[0; 11]);
        let cases: &[(&[u8], HeaderFault)] = &[
            (b"x", missing),
            (b"GET / HTTP/1.1\r\n", missing),
            (b"\xff\xfb\xe8", missing),
            (b"PROXX", missing),
            (b"\r\n\r\nx", missing),
            (b"\r\n\r\n\0\r\nQUIT\r", missing),
            (b"PROXY \r\n           ", malformed),
            (b"PROXY TCP4 192.0.2.7\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n", malformed),
            (b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n", malformed),
            (b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n", malformed),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", malformed),
            (b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n", malformed),
            (b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n", malformed),
            (b"PROXY TCP4 \xff.0.2.7 10.0.0.1 1 2\r\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\rx", malformed),
            (b"PROXY UNKNOWN\r\r\n", malformed),
            (b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c", malformed),
            (b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c", malformed),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x13\0\x0c", malformed),
            (&short[..16], malformed),
        ];
        for &(bytes, fault) in cases {
            assert_eq!(read(bytes).0, Err(fault), "{}", bytes.escape_ascii());
        }
        let mut endless = b"PROXY UNKNOWN ".to_vec();
        endless.resize(LONGEST_LINE - 2, b'x');
        assert_eq!(read(&endless).0, Ok(None));
        endless.push(b'x');
        assert_eq!(read(&endless).0, Err(HeaderFault::Malformed));
    }
}
