//! The last line that a console has printed, as it is shown in a list.
//!
//! Owns what that is: text without what controls a terminal, of the last line on which there is any, be it
//! ended or not (a prompt is not). It is made of the journal's tail when somebody asks, never before.

use crate::plain::{Part, Plain};

use super::journal::Journal;

/// Empty: nothing that is text is kept.
pub(super) fn last_line(journal: &Journal) -> String {
    let from = journal.head().saturating_sub(LOOKED_AT).max(journal.tail());
    let from = from + u64::from(journal.is_mid_pair(from));
    let (mut plain, mut line, mut last) = (Plain::default(), Vec::new(), Vec::new());
    for (bytes, _) in journal.guest_slices(from) {
        plain.feed(bytes, |part| match part {
            Part::Text(text) => line.extend_from_slice(text),
            Part::Break => {
                if !is_blank(&line) {
                    std::mem::swap(&mut line, &mut last);
                }
                line.clear();
            }
        });
    }
    if is_blank(&line) {
        line = last;
    }
    // What of a cut character is here is none; nothing else begins so.
    let cut = line.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count();
    let text = String::from_utf8_lossy(&line[cut..]);
    let shown = text.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control());
    shown.skip_while(|&c| c == ' ').take(SHOWN).collect::<String>().trim_end().to_owned()
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Bytes of the journal: a long line, and what colours it.
const LOOKED_AT: u64 = 1024;
/// Characters.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::super::journal::Pool;
    use super::*;
    use crate::telnet::wire_form::count_pairs;

    fn last_of(printed: &[&[u8]]) -> String {
        let (mut journal, mut pool) = (Journal::default(), Pool::new(1 << 20));
        for wire in printed {
            journal.append(wire, count_pairs(wire), &mut pool);
        }
        last_line(&journal)
    }

    #[test]
    fn it_is_the_last_on_which_there_is_text() {
        for (printed, line) in [
            (&[&b""[..]][..], ""),
            (&[b"boot\r\nlogin: "], "login:"),
            (&[b"kernel panic\r\n\r\n \r\n"], "kernel panic"),
            (&[b"10%\r20%\r"], "20%"),
            (&[b"\x1b[1;31mFAILED\x1b[0m to st", b"art\x07\r\n\x1b[K"], "FAILED to start"),
            (&[b"\x1b[2J\x1b[1;1HBoot menu\x1b[3;1H1.\tdisk"], "1. disk"),
            (&[b"a\xff\xffb"], "a\u{fffd}b"),
            (&[b"\xc2\x9b31mred"], "31mred"),
        ] {
            assert_eq!(last_of(printed), line, "{printed:?}");
        }
    }

    #[test]
    fn it_is_short_and_text_whatever_was_printed() {
        let long = "\u{e4}".repeat(5000);
        for before in [&b""[..], b"x", b"\xff\xff"] {
            let line = last_of(&[before, long.as_bytes()]);
            assert_eq!(line, "\u{e4}".repeat(SHOWN));
        }
        let line = last_of(&[&[255; 6000], b"\r\n"]);
        assert_eq!(line, "\u{fffd}".repeat(SHOWN));
    }
}
