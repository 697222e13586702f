//! A terminal's output made into lines: what moves the cursor would mix consoles up, so it is left out.

use crate::printable::printable;

/// A line without what acts on a terminal: escape sequences are left out, what a CR or a backspace writes
/// over is gone, other control characters but tabs are left out.
pub(super) fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut plain = String::new();
    let mut from = 0;
    let mut chars = text.trim_end_matches(['\r', '\n']).chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\r' => from = plain.len(),
            '\x08' => drop(plain.pop()),
            '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    let last = plain.get(from..).filter(|last| !last.is_empty()).unwrap_or(&plain);
    // Tabs are harmless, and the only control character that is left.
    last.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

/// The rest of an escape sequence (ECMA-48).
fn skip_sequence(chars: &mut std::str::Chars<'_>) {
    match chars.next() {
        // CSI: up to its final byte.
        Some('[') => drop(chars.find(|c| matches!(c, '@'..='~'))),
        // OSC, DCS and their like: up to BEL or ST.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let mut last = ' ';
            for c in chars.by_ref() {
                if c == '\x07' || last == '\x1b' && c == '\\' {
                    break;
                }
                last = c;
            }
        }
        // Intermediate bytes, then the final one.
        Some(' '..='/') => drop(chars.find(|c| !matches!(c, ' '..='/'))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_acts_on_the_terminal() {
        for (line, expected) in [
            (&b"plain\r\n"[..], "plain"),
            (b"\x1b[1;31mred\x1b[0m\tx\n", "red\tx"),
            (b"\x1b]0;title\x07a\x1b]2;b\x1b\\c\n", "ac"),
            (b"\x1b(B\x1b=a\x1b7\n", "a"),
            (b" 10%\r 50%\r100%\r\n", "100%"),
            (b"pass\x08\x08ss\x07\x00\n", "pass"),
            (b"\xff\xc2\x9b31m\xe2\x80\xae\n", "\u{fffd}31m\\u{202e}"),
            (b"cut \x1b[3", "cut "),
        ] {
            assert_eq!(plain(line), expected);
        }
    }
}
