//! UUIDs, and the text forms in which they meet us.

use std::fmt;

/// A UUID, sixteen bytes in the order they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid([u8; 16]);

/// Why a text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UuidError {
    /// Not one digit in it: what a VM without vCenter answers (PROTOCOL §3).
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
    /// skipped wherever they stand, because writers disagree about them (PROTOCOL §4). One pass.
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
