//! Escape sequences taken out of bytes.
//!
//! Owns what a sequence is (ECMA-48, in its seven-bit form), over all cuts. Other bytes are left as they are:
//! a log is not always text.

/// Takes escape sequences out.
#[derive(Debug, Default)]
pub struct Strip(State);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Up to the final byte.
    Control,
    /// Up to BEL or ST.
    String,
    /// In such, behind ESC.
    StringEscape,
}

impl Strip {
    /// Puts what is text of these bytes behind what is in `out`.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            self.0 = match (self.0, byte) {
                // Whatever has begun, a line is not swallowed for it.
                (_, b'\n') => {
                    out.push(byte);
                    State::Text
                }
                (State::String, 0x1b) => State::StringEscape,
                (_, 0x1b) => State::Escape,
                (State::Text, _) => {
                    out.push(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
                (State::Escape, b' '..=b'/') => State::Escape,
                (State::Control, b'@'..=b'~') | (State::Escape, _) => State::Text,
                (State::Control, _) => State::Control,
                (State::StringEscape, b'\\') | (State::String, 7) => State::Text,
                (State::String | State::StringEscape, _) => State::String,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_and_all_else_stays_whatever_the_cuts() {
        for (bytes, left) in [
            (&b"\x1b[1;31mred\x1b[0m\tx\r\n"[..], &b"red\tx\r\n"[..]),
            (b"\x1b]0;title\x07a\x1b]2;b\x1b\\c", b"ac"),
            (b"\x1b(B\x1b=a\x1b7\x00\xff\x9b", b"a\x00\xff\x9b"),
            (b"\x1b]0;never ends\nnext", b"\nnext"),
        ] {
            for cut in 0..=bytes.len() {
                let (mut strip, mut out) = (Strip::default(), Vec::new());
                strip.take(&bytes[..cut], &mut out);
                strip.take(&bytes[cut..], &mut out);
                assert_eq!(out, left, "cut at {cut}");
            }
        }
    }
}
