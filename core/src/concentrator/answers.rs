//! What terminals answer by themselves.
//!
//! **Owns** which bytes are nothing but that: programs ask where the cursor is, or which terminal it is, and
//! each terminal that shows the question answers, whether or not somebody sits at it. **Refuses to know** who
//! has asked.

/// Whether these bytes are whole answers and nothing else. Some keys look like one (Shift-F3 in xterm): who
/// presses nothing else does not seem to type.
pub(super) fn are_answers(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match answer_len(rest) {
            Some(len) => rest = &rest[len..],
            None => return false,
        }
    }
    !bytes.is_empty()
}

/// How long the answer is with which these bytes begin.
fn answer_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [ESC, b'[', rest @ ..] => {
            let numbers = rest.iter().take_while(|byte| (0x30..0x40).contains(*byte)).count();
            let (is_report, len) = match rest[numbers..] {
                // Which terminal it is, where the cursor is, how it is, how large it is.
                [b'c' | b'R' | b'n' | b't', ..] => (true, 1),
                // How one of its modes is.
                [b'$', b'y', ..] => (true, 2),
                _ => (false, 0),
            };
            // Without a number it is a key.
            (is_report && numbers > 0).then_some(2 + numbers + len)
        }
        // A string, of DCS or OSC: up to ST, or BEL behind OSC.
        [ESC, kind @ (b'P' | b']'), rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == ESC || byte == BEL && *kind == b']')?;
            match rest[end..] {
                [BEL, ..] => Some(2 + end + 1),
                [ESC, b'\\', ..] => Some(2 + end + 2),
                _ => None,
            }
        }
        _ => None,
    }
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_known_and_keys_and_cut_ones_are_none() {
        let answers: [&[u8]; 8] = [
            b"\x1b[?62;1;6c",
            b"\x1b[>41;390;0c",
            b"\x1b[24;80R",
            b"\x1b[0n",
            b"\x1b[8;24;80t",
            b"\x1b[?2026;2$y",
            b"\x1bP>|XTerm(390)\x1b\\",
            b"\x1b]11;rgb:0000/0000/0000\x07",
        ];
        for answer in answers {
            assert!(are_answers(answer), "{answer:?}");
            (0..answer.len()).for_each(|cut| assert!(!are_answers(&answer[..cut]), "{answer:?} up to {cut}"));
            assert!(!are_answers(&[answer, b"x"].concat()) && !are_answers(&[b"x", answer].concat()));
        }
        assert!(are_answers(&answers.concat()));
        for keys in
            [&b"ls\r"[..], b"\x1b", b"\x1b[A", b"\x1b[1;5C", b"\x1bOP", b"\x1b[15~", b"\x1b[R", b"\x1bP"]
        {
            assert!(!are_answers(keys), "{keys:?}");
        }
    }
}
