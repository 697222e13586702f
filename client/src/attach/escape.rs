//! The escape character: how it is written, and how it parts what is typed from what the menu is told.
//!
//! Owns the one bit of state that this needs. What the keys of the menu do is `menu`'s.

use std::fmt;
use std::str::FromStr;

/// The key that opens the menu; `None`: there is none, and everything is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Escape(pub(crate) Option<u8>);

impl Default for Escape {
    fn default() -> Self {
        Self(Some(0x1d))
    }
}

impl FromStr for Escape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            _ if text.eq_ignore_ascii_case("none") => Ok(Self(None)),
            [byte] if byte.is_ascii() => Ok(Self(Some(*byte))),
            b"^?" => Ok(Self(Some(0x7f))),
            [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => {
                Ok(Self(Some(key.to_ascii_uppercase() ^ 0x40)))
            }
            _ => Err("an escape character is ^X, a single ASCII character, or none".to_owned()),
        }
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(byte) if byte.is_ascii_control() => write!(f, "^{}", char::from(byte ^ 0x40)),
            Some(byte) => write!(f, "{}", char::from(byte)),
        }
    }
}

/// What a piece of the input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key<'a> {
    /// For the console.
    Typed(&'a [u8]),
    /// The key after the escape character.
    Menu(u8),
}

/// Parts the input, however it is cut.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    escape: Escape,
    escaped: bool,
}

impl Keys {
    pub(crate) const fn new(escape: Escape) -> Self {
        Self { escape, escaped: false }
    }

    pub(crate) const fn escape(&self) -> Escape {
        self.escape
    }

    /// Takes the next piece off the input; `None` when it is used up.
    pub(crate) fn next<'i>(&mut self, input: &mut &'i [u8]) -> Option<Key<'i>> {
        loop {
            let (&first, rest) = input.split_first()?;
            if self.escaped {
                self.escaped = false;
                *input = rest;
                return Some(Key::Menu(first));
            }
            let len = input.iter().position(|&byte| Some(byte) == self.escape.0).unwrap_or(input.len());
            if len > 0 {
                let (typed, rest) = input.split_at(len);
                *input = rest;
                return Some(Key::Typed(typed));
            }
            self.escaped = true;
            *input = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_characters_are_read_as_they_are_written() {
        for (text, byte) in
            [("^]", Some(0x1d)), ("^a", Some(1)), ("^?", Some(0x7f)), ("~", Some(b'~')), ("none", None)]
        {
            assert_eq!(text.parse(), Ok(Escape(byte)), "{text}");
        }
        for text in ["^]", "^A", "^?", "~", "none"] {
            assert_eq!(text.parse::<Escape>().unwrap().to_string(), text);
        }
        for wrong in ["", "^", "ab", "^1", "\u{e4}"] {
            let expected = if wrong == "^" { Ok(Escape(Some(b'^'))) } else { Err(()) };
            assert_eq!(wrong.parse::<Escape>().map_err(drop), expected, "{wrong}");
        }
    }

    #[test]
    fn the_key_after_the_escape_character_is_the_menus_however_the_input_is_cut() {
        let input = b"ls\r\x1dbx\x1d\x1d\x1d.";
        let whole = |pieces: &[&[u8]]| {
            let (mut keys, mut typed, mut menu) = (Keys::new(Escape::default()), Vec::new(), Vec::new());
            for mut piece in pieces.iter().copied() {
                while let Some(key) = keys.next(&mut piece) {
                    match key {
                        Key::Typed(bytes) => typed.extend_from_slice(bytes),
                        Key::Menu(key) => menu.push((typed.len(), key)),
                    }
                }
            }
            (typed, menu)
        };
        let expected = (b"ls\rx".to_vec(), vec![(3, b'b'), (4, 0x1d), (4, b'.')]);
        for cut in 0..=input.len() {
            assert_eq!(whole(&[&input[..cut], &input[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn without_an_escape_character_everything_is_typed() {
        let mut keys = Keys::new(Escape(None));
        assert_eq!(keys.next(&mut &b"\x1d."[..]), Some(Key::Typed(b"\x1d.")));
    }
}
