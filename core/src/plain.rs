//! What a console shows, of what it prints: lines of text, without what controls a terminal.
//!
//! **Owns** the sequences that are left out (ECMA-48 §5, also cut in the middle): those that begin with ESC,
//! and control characters but for the tab. A line ends at LF and at CR, and where the cursor is sent
//! elsewhere (CUP, HVP): firmware and boot menus draw their screens in that way. **Refuses to know** what is
//! looked for.

/// Takes terminal control off what a console prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Plain {
    /// In text.
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// In a control sequence, behind ESC [.
    Control,
    /// In a string that a terminal does not show (a title, for instance), behind ESC ] and others.
    String,
    /// Behind an ESC in that, which ends it.
    StringEscape,
}

/// A part of what is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// A piece of a line.
    Text(&'a [u8]),
    /// Its end.
    Break,
}

impl Plain {
    /// Takes in a piece of what is printed. Costs a look at each byte.
    pub fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Part<'_>)) {
        while let Some(&byte) = bytes.first() {
            let mut is_done = true;
            *self = match (*self, byte) {
                (Self::Text, _) => {
                    let end = bytes.iter().position(|&byte| is_control(byte)).unwrap_or(bytes.len());
                    let (text, rest) = bytes.split_at(end);
                    if !text.is_empty() {
                        take(Part::Text(text));
                    }
                    bytes = rest;
                    let Some(&control) = rest.first() else { return };
                    match control {
                        b'\n' | b'\r' => take(Part::Break),
                        _ => {}
                    }
                    if control == ESC { Self::Escape } else { Self::Text }
                }
                (Self::Escape, b'[') => Self::Control,
                (Self::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Self::String,
                (Self::Escape, ESC | 0x20..=0x2f) => Self::Escape,
                (Self::Escape, 0x30..=0x7e) => Self::Text,
                (Self::Control, 0x20..=0x3f) => Self::Control,
                (Self::Control, 0x40..=0x7e) => {
                    if matches!(byte, b'H' | b'f') {
                        take(Part::Break);
                    }
                    Self::Text
                }
                (Self::Control | Self::String, CANCEL | SUBSTITUTE) | (Self::String, BELL) => Self::Text,
                (Self::Control, ESC) => Self::Escape,
                (Self::String, ESC) => Self::StringEscape,
                (Self::StringEscape, b'\\') => Self::Text,
                (Self::StringEscape, _) => {
                    is_done = false;
                    Self::Escape
                }
                // A string that nobody ends is over at the end of the line.
                (Self::String, _) if byte != b'\n' => Self::String,
                (Self::Escape | Self::Control | Self::String, _) => {
                    is_done = false;
                    Self::Text
                }
            };
            if is_done {
                bytes = &bytes[1..];
            }
        }
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == DELETE
}

const BELL: u8 = 7;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const ESC: u8 = 0x1b;
const DELETE: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines, each with its end as `|`, cut in every way into two.
    fn shown(printed: &str) -> String {
        let read = |pieces: &[&[u8]]| {
            let (mut plain, mut out) = (Plain::default(), Vec::new());
            for piece in pieces {
                plain.feed(piece, |part| match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    Part::Break => out.push(b'|'),
                });
            }
            String::from_utf8(out).unwrap()
        };
        let whole = read(&[printed.as_bytes()]);
        for cut in 0..=printed.len() {
            let (first, second) = printed.as_bytes().split_at(cut);
            assert_eq!(read(&[first, second]), whole, "{printed:?} cut at {cut}");
        }
        whole
    }

    #[test]
    fn text_is_left_and_what_controls_a_terminal_is_not() {
        for (printed, text) in [
            ("a\tb\r\nc", "a\tb||c"),
            ("\x1b[1;31mFAILED\x1b[0m to start", "FAILED to start"),
            ("Ker\x1b[0mnel pa\x07n\x00ic", "Kernel panic"),
            ("\x1b]0;root@web1: ~\x07root@web1:~# ", "root@web1:~# "),
            ("\x1b]0;title\x1b\\text", "text"),
            ("\x1b]0;nobody ends it\nnext", "|next"),
            ("\x1bPq#0\x1b[2Jtext", "text"),
            ("\x1b(B\x1b)0\x1b7text\x1b8", "text"),
            ("\x1b[2J\x1b[1;1HBoot menu\x1b[3;1H1. disk", "|Boot menu|1. disk"),
            ("\x1b[31\x18text\x1b[\nline", "text|line"),
            ("\x1b\x1b[1mtext", "text"),
            ("Gr\u{fc}\u{df}e", "Gr\u{fc}\u{df}e"),
        ] {
            assert_eq!(shown(printed), text, "{printed:?}");
        }
    }
}
