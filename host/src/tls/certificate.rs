//! What the log says about a certificate: whom it names, how long it is valid, its thumbprints.
//!
//! Reads just that much of X.509 (RFC 5280 §4.1), from the operator's own file, which rustls has read
//! before: only log lines depend on it.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// What a certificate says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    /// Host names and addresses it is for; the common name if it has none.
    pub(super) names: Vec<String>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Facts {
    /// Reads a certificate in DER.
    pub(super) fn read(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Der(certificate).enter(SEQUENCE)?;
        let mut tbs = certificate.enter(SEQUENCE)?;
        let _version = tbs.enter(VERSION);
        let _serial = tbs.enter(INTEGER)?;
        let _signature = tbs.enter(SEQUENCE)?;
        let _issuer = tbs.enter(SEQUENCE)?;
        let mut validity = tbs.enter(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = tbs.enter(SEQUENCE)?;
        let _key = tbs.enter(SEQUENCE)?;
        let mut names = alternative_names(tbs).unwrap_or_default();
        if names.is_empty() {
            names.extend(common_name(subject));
        }
        Some(Self { names, not_before, not_after })
    }
}

/// Thumbprints: digests that identify a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Thumbprints {
    pub(super) sha1: String,
    pub(super) sha256: String,
}

impl Thumbprints {
    /// Those of a certificate in DER, as they are written in the URIs of serial ports, and as openssl
    /// shows them.
    pub(super) fn of(certificate: &[u8]) -> Self {
        let of = |algorithm| hex(digest::digest(algorithm, certificate).as_ref());
        Self { sha1: of(&SHA1_FOR_LEGACY_USE_ONLY), sha256: of(&SHA256) }
    }
}

/// A name as it stands in a URI: IPv6 addresses in brackets.
pub(super) fn host(name: &str) -> impl fmt::Display {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(3 * bytes.len());
    for byte in bytes {
        let colon = if text.is_empty() { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

/// The names in the extension subjectAltName (RFC 5280 §4.2.1.6).
fn alternative_names(mut tbs: Der<'_>) -> Option<Vec<String>> {
    // Unique identifiers may come before the extensions.
    while tbs.peek()? != EXTENSIONS {
        tbs.next()?;
    }
    let mut extensions = tbs.enter(EXTENSIONS)?.enter(SEQUENCE)?;
    loop {
        let mut extension = extensions.enter(SEQUENCE)?;
        if extension.next()? != (OBJECT, SUBJECT_ALT_NAME) {
            continue;
        }
        let _critical = extension.enter(BOOLEAN);
        let mut list = extension.enter(OCTETS)?.enter(SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, value)) = list.next() {
            names.extend(match tag {
                DNS_NAME => printable(value),
                IP_ADDRESS => address(value),
                _ => None,
            });
        }
        return Some(names);
    }
}

fn common_name(mut subject: Der<'_>) -> Option<String> {
    loop {
        let mut attribute = subject.enter(SET)?.enter(SEQUENCE)?;
        if attribute.next()? == (OBJECT, COMMON_NAME) {
            return printable(attribute.next()?.1);
        }
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).to_string())
}

/// Text that can be shown on one line of a log.
fn printable(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control()).then(|| text.to_owned())
}

/// Values in DER (X.690), one behind the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes the first value off.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // The longest that a length of four bytes can say would not be a certificate.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// Takes the first value off if it has this tag.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        if self.peek()? != tag {
            return None;
        }
        self.next().map(|(_, value)| Self(value))
    }

    /// A time in UTC, to the second, as RFC 5280 §4.1.2.5 requires.
    fn time(&mut self) -> Option<OffsetDateTime> {
        let (tag, text) = self.next()?;
        let (&last, digits) = text.split_last()?;
        if last != b'Z' || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let pairs: Vec<u8> =
            digits.chunks_exact(2).map(|pair| (pair[0] - b'0') * 10 + pair[1] - b'0').collect();
        let (year, rest) = match (tag, &pairs[..]) {
            (UTC_TIME, [year, rest @ ..]) => (if *year < 50 { 2000 } else { 1900 } + i32::from(*year), rest),
            (GENERALIZED_TIME, [century, year, rest @ ..]) => {
                (i32::from(*century) * 100 + i32::from(*year), rest)
            }
            _ => return None,
        };
        let &[month, day, hour, minute, second] = rest else { return None };
        let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
        Some(PrimitiveDateTime::new(date, Time::from_hms(hour, minute, second).ok()?).assume_utc())
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// `[0]`, where a certificate is of a later version than the first.
const VERSION: u8 = 0xa0;

/// `[3]` of a certificate.
const EXTENSIONS: u8 = 0xa3;

/// `[2]` and `[7]` of a general name.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn certificate(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_addresses_and_dates_are_read() {
        let der = certificate(&["vspc.example.com", "10.1.2.3", "2001:db8::1"], |params| {
            params.not_before = date_time_ymd(2024, 2, 29);
            // Beyond 2049 times are written in the other form.
            params.not_after = date_time_ymd(2051, 12, 31);
        });
        let facts = Facts::read(&der).unwrap();
        assert_eq!(facts.names, ["vspc.example.com", "10.1.2.3", "2001:db8::1"]);
        assert_eq!(
            (facts.not_before, facts.not_after),
            (date_time_ymd(2024, 2, 29), date_time_ymd(2051, 12, 31))
        );
    }

    #[test]
    fn a_common_name_stands_in_for_missing_names() {
        let der = certificate(&[], |params| params.distinguished_name.push(DnType::CommonName, "old-style"));
        assert_eq!(Facts::read(&der).unwrap().names, ["old-style"]);
    }

    #[test]
    fn cut_and_changed_certificates_are_survived() {
        let der = certificate(&["vspc.example.com"], |_| {});
        for len in 0..der.len() {
            assert_eq!(Facts::read(&der[..len]), None);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[len] = value;
                let _ = Facts::read(&changed);
            }
        }
    }

    #[test]
    fn thumbprints_are_written_as_everybody_writes_them() {
        // FIPS 180-4, "abc".
        let thumbprints = Thumbprints::of(b"abc");
        assert_eq!(thumbprints.sha1, "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D");
        assert!(thumbprints.sha256.starts_with("BA:78:16:BF:8F:01:CF:EA"));
        assert_eq!(thumbprints.sha256.len(), 32 * 3 - 1);
    }
}
