//! Text from elsewhere, made safe to show: names, reasons and addresses come from VMs and from other people,
//! and a terminal obeys what is in them.
//!
//! Owns what counts as harmless. What a console prints is not its business: that is shown as it is.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

/// The text with everything that a terminal would act on, or that would change the direction in which the
/// rest is read, written as an escape.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if is_harmless(c) => safe.push(c),
            c if c.is_ascii() => safe.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => safe.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(safe)
}

/// A path, as [`printable`] text.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// JSON in which strings have escapes for the same characters: it means the same to a program, and nothing
/// to a terminal.
pub(crate) fn json(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().all(is_harmless) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_harmless(c) {
            safe.push(c);
        } else {
            let units =
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            safe.push_str(&units);
        }
    }
    safe
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
        // Marks, embeddings, overrides and isolates of the bidirectional algorithm; what has no width; what
        // ends a line.
        '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(printable("web01 \u{e4}\u{4e2d}"), "web01 \u{e4}\u{4e2d}");
        assert_eq!(printable("a\x1b]0;owned\x07\r\nb\x7f"), "a\\x1b]0;owned\\x07\\x0d\\x0ab\\x7f");
        assert_eq!(printable("\u{9b}31m"), "\\u{9b}31m");
        assert_eq!(printable("gpj\u{202e}exe"), "gpj\\u{202e}exe");
    }

    #[test]
    fn json_means_the_same_and_cannot_speak_to_the_terminal_either() {
        let value = serde_json::json!({"name": "\u{9b}31m\u{202e}\u{e0001}\x1b\u{e4}\n"});
        let text = json(&value);
        assert_eq!(text, "{\"name\":\"\\u009b31m\\u202e\\udb40\\udc01\\u001b\u{e4}\\n\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
