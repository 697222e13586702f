//! Amounts of memory as people write them: `65536`, `64K`, `2M`, `1G`.
//!
//! **Owns** how they are read and printed. **Refuses to know** which amounts make sense for an option.

use std::fmt;
use std::num::IntErrorKind;
use std::str::FromStr;

/// A number of bytes on the command line. Units are powers of 1024; `K`, `KB`, `KiB` (and so on, in any
/// case) all mean the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Size(pub usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            "e" | "eb" | "eib" => 60,
            _ => return Err(EXPECTED.to_owned()),
        };
        let number: usize = match digits.parse() {
            Ok(number) => number,
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => usize::MAX,
            Err(_) => return Err(EXPECTED.to_owned()),
        };
        let size = number.checked_mul(1 << shift).map(Self).filter(|size| *size <= Self::MOST);
        size.ok_or_else(|| format!("that is too much: give at most {}", Self::MOST))
    }
}

impl Size {
    /// The largest that is taken: more than the memory of any machine that this runs on, and small enough
    /// that sums of a few of them cannot overflow.
    pub(crate) const MOST: Self = Self(1 << 40);
}

/// As it would be typed: the largest unit that divides it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

const EXPECTED: &str = "give bytes, or a number with K, M, G or T";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("64K", 65536),
            ("64k", 65536),
            ("64KiB", 65536),
            ("2M", 2 << 20),
            ("2 mb", 2 << 20),
            ("1G", 1 << 30),
            ("1T", 1 << 40),
            ("1024GiB", 1 << 40),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "64X", "K64", "0x10"] {
            assert_eq!(text.parse::<Size>().unwrap_err(), EXPECTED, "{text}");
        }
    }

    #[test]
    fn a_size_that_no_machine_has_is_refused_with_the_largest_that_is_taken() {
        for text in [
            "1099511627777",
            "1025G",
            "2T",
            "1P",
            "16E",
            "16EiB",
            "18446744073709551615",
            "18446744073709551616",
            "18446744073709551615K",
            "99999999999999999999",
        ] {
            let fault = text.parse::<Size>().unwrap_err();
            assert!(fault.contains("at most 1T"), "{text}: {fault}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_would_be_typed() {
        for text in ["0", "1", "1500", "16K", "2M", "256M", "1G", "1T", "1025K"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
