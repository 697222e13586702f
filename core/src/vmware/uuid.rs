//! UUIDs, and the text forms in which they meet us.
//!
//! **Owns** the grammar of a UUID's text. **Refuses to know** which of a VM's UUIDs it is. **Implements**
//! vmware.md §5.

use std::fmt;

/// A UUID, sixteen bytes in the order they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// Why a text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UuidError {
    /// Not one digit in it: what a VM without vCenter answers (vmware.md §5).
    #[error("no UUID")]
    Empty,
    /// A byte that is neither a hexadecimal digit nor punctuation.
    #[error("byte 0x{0:02x} in a UUID")]
    NotHex(u8),
    /// Not 32 digits. Counting stops at 33.
    #[error("a UUID of {0} digits")]
    Digits(usize),
}

impl Uuid {
    /// All zeros.
    pub const NIL: Self = Self([0; 16]);

    /// The UUID with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads exactly 32 hexadecimal digits of either case; white space, dashes and braces are
    /// skipped wherever they stand, because writers disagree about them (vmware.md §5). One pass.
    ///
    /// # Errors
    ///
    /// No digit, too few or too many, or any other byte.
    pub fn parse(text: &[u8]) -> Result<Self, UuidError> {
        let mut bytes = [0; 16];
        let mut digits = 0;
        for &byte in text {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                b'-' | b'{' | b'}' => continue,
                _ if byte.is_ascii_whitespace() => continue,
                _ => return Err(UuidError::NotHex(byte)),
            };
            let Some(slot) = bytes.get_mut(digits / 2) else {
                return Err(UuidError::Digits(digits + 1));
            };
            *slot = *slot << 4 | digit;
            digits += 1;
        }
        match digits {
            32 => Ok(Self(bytes)),
            0 => Err(UuidError::Empty),
            _ => Err(UuidError::Digits(digits)),
        }
    }

    /// Whether it is all zeros, which identifies nobody.
    pub fn is_nil(&self) -> bool {
        *self == Self::NIL
    }

    /// Prints the 32 digits without dashes.
    pub fn simple(&self) -> impl fmt::Display + use<> {
        Simple(*self)
    }

    /// Appends VMware's text form, as in `01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00`.
    pub fn put_vmware(&self, out: &mut Vec<u8>) {
        for (at, byte) in self.0.iter().enumerate() {
            match at {
                0 => {}
                8 => out.push(b'-'),
                _ => out.push(b' '),
            }
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 0xf)]);
        }
    }
}

/// 8-4-4-4-12, lower case.
impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Simple(Uuid);

impl fmt::Display for Simple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const TEXT: &[u8] = b"01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00";
    const UUID: Uuid =
        Uuid([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0, 0, 0, 0]);

    #[test]
    fn every_writer_of_uuids_is_read() {
        let texts: [&[u8]; 6] = [
            TEXT,
            b"01234567-89ab-cdef-fedc-ba9800000000",
            b"{01234567-89AB-CDEF-FEDC-BA9800000000}",
            b"0123456789abcdeffedcba9800000000",
            b" 0123456789abcdef\tfedcba9800000000\r\n",
            b"01 23 45 67 89 AB CD EF FE DC BA 98 00 00 00 00",
        ];
        for text in texts {
            assert_eq!(Uuid::parse(text), Ok(UUID), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_uuid_is_told_apart() {
        assert_eq!(Uuid::parse(b""), Err(UuidError::Empty));
        assert_eq!(Uuid::parse(b" - {}"), Err(UuidError::Empty));
        assert_eq!(Uuid::parse(&TEXT[..40]), Err(UuidError::Digits(27)));
        assert_eq!(Uuid::parse(&[TEXT, b"0"].concat()), Err(UuidError::Digits(33)));
        assert_eq!(Uuid::parse(&[b'a'; 1000]), Err(UuidError::Digits(33)));
        assert_eq!(Uuid::parse(b"0g"), Err(UuidError::NotHex(b'g')));
        assert_eq!(UuidError::NotHex(b'g').to_string(), "byte 0x67 in a UUID");
    }

    #[test]
    fn a_uuid_is_shown_with_dashes_without_and_as_vmware_does() {
        assert_eq!(UUID.to_string(), "01234567-89ab-cdef-fedc-ba9800000000");
        assert_eq!(UUID.simple().to_string(), "0123456789abcdeffedcba9800000000");
        let mut text = Vec::new();
        UUID.put_vmware(&mut text);
        assert_eq!(text, TEXT);
        assert!(!UUID.is_nil() && Uuid::NIL.is_nil());
    }

    quickcheck! {
        fn every_form_reads_back(high: u64, low: u64) -> bool {
            let uuid = Uuid(((u128::from(high) << 64) | u128::from(low)).to_be_bytes());
            let mut vmware = Vec::new();
            uuid.put_vmware(&mut vmware);
            [vmware, uuid.to_string().into_bytes(), uuid.simple().to_string().into_bytes()]
                .iter()
                .all(|text| Uuid::parse(text) == Ok(uuid))
        }

        fn no_text_panics(text: Vec<u8>) -> bool {
            Uuid::parse(&text).is_err() || text.len() >= 32
        }
    }
}
