//! What the relay of a VM's source has to tell the relay of its target, as one word.
//!
//! `vspc1.SEQUENCE.SECRET.TYPED`, each in hexadecimal: the first two as in vmotion.md §2; then what was typed
//! and the source's line had not taken, which comes before all that the concentrator holds.

use std::fmt;
use std::str::FromStr;

use vspc_core::vmware::Resume;

/// A move's secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    pub(crate) resume: Resume,
    pub(crate) typed: Vec<u8>,
}

/// Whoever knows it can be the VM: it does not go into logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("typed", &self.typed.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KIND)?;
        for part in [&self.resume.sequence, &self.resume.secret, &self.typed] {
            f.write_str(".")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for Secret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split('.');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let [Some(KIND), Some(sequence), Some(secret), Some(typed), None] = parts else {
            return Err(format!("this is no secret of a move, which begins with {KIND}."));
        };
        match (bytes(sequence), bytes(secret), bytes(typed)) {
            (Some(sequence), Some(secret), Some(typed)) if !sequence.is_empty() => {
                Ok(Self { resume: Resume { sequence, secret }, typed })
            }
            _ => Err("the secret of the move is cut short".to_owned()),
        }
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|n| n as u8)).collect::<Option<_>>()?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

const KIND: &str = "vspc1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_written() {
        for typed in [&b""[..], b"ls\r", &[0, 255, 10]] {
            let resume = Resume { sequence: vec![0, 1, 254, 255], secret: vec![9; 8] };
            let secret = Secret { resume, typed: typed.to_vec() };
            assert_eq!(format!("{secret}\n").parse::<Secret>().unwrap(), secret);
        }
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_refused() {
        for text in ["", "vspc1", "vspc1.00.11", "vspc1.0.11.", "vspc1...", "vspc1.00.1x.", "vspc1.0.1.2.3"] {
            assert!(text.parse::<Secret>().is_err(), "{text}");
        }
    }
}
