//! One line of a transcript, cut into tokens.

use crate::telnet::names;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    /// A word or a number.
    Bare(String),
    /// `"text"`, `hex(…)`, `repeat(n, byte)`.
    Bytes(Vec<u8>),
    /// `wire(…)`.
    Wire(Vec<u8>),
    /// `{…}`.
    Brace(String),
    Comma,
    Bar,
    Dots,
}

/// The tokens of `line`; a comment ends it.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut rest = line.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '#' => return Ok(tokens),
            '"' => {
                let (bytes, after) = text(&rest[1..])?;
                tokens.push(Token::Bytes(bytes));
                after
            }
            '{' => {
                let end = rest.find('}').ok_or("a { has no }")?;
                tokens.push(Token::Brace(rest[1..end].to_owned()));
                &rest[end + 1..]
            }
            ',' => {
                tokens.push(Token::Comma);
                &rest[1..]
            }
            '|' => {
                tokens.push(Token::Bar);
                &rest[1..]
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || matches!(c, ',' | '|' | '"' | '{' | '(' | '#'))
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                if after.starts_with('(') {
                    let close = after.find(')').ok_or("a ( has no )")?;
                    tokens.push(function(word, &after[1..close])?);
                    &after[close + 1..]
                } else if word == "..." {
                    tokens.push(Token::Dots);
                    after
                } else {
                    tokens.push(Token::Bare(word.to_owned()));
                    after
                }
            }
        }
        .trim_start();
    }
    Ok(tokens)
}

fn function(name: &str, inside: &str) -> Result<Token, String> {
    match name {
        "hex" => Ok(Token::Bytes(hex(inside)?)),
        "wire" => Ok(Token::Wire(hex(inside)?)),
        "repeat" => {
            let (count, byte) = inside.split_once(',').ok_or("write repeat(count, byte)")?;
            let count: usize =
                count.trim().parse().map_err(|_| format!("{} is not a count", count.trim()))?;
            let byte = names::byte(byte.trim())
                .ok_or_else(|| format!("{} is not a byte: write 0..255 or 0x00..0xff", byte.trim()))?;
            Ok(Token::Bytes(vec![byte; count]))
        }
        _ => Err(format!("there is no {name}(…): use hex(…), wire(…) or repeat(count, byte)")),
    }
}

fn hex(inside: &str) -> Result<Vec<u8>, String> {
    inside
        .split_whitespace()
        .map(|pair| {
            u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| pair.len() == 2)
                .ok_or_else(|| format!("{pair:?} is not a pair of hex digits: write hex(00 ff)"))
        })
        .collect()
}

/// Reads up to the closing quote; what comes after it is returned too.
fn text(rest: &str) -> Result<(Vec<u8>, &str), String> {
    let mut bytes = Vec::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((bytes, &rest[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'r')) => bytes.push(b'\r'),
                Some((_, 'n')) => bytes.push(b'\n'),
                Some((_, 't')) => bytes.push(b'\t'),
                Some((_, '0')) => bytes.push(0),
                Some((_, c @ ('"' | '\\'))) => bytes.push(c as u8),
                Some((at, 'x')) => {
                    let pair = rest.get(at + 1..at + 3).ok_or("\\x wants two hex digits")?;
                    bytes.extend(hex(pair)?);
                    chars.next();
                    chars.next();
                }
                _ => return Err("after a \\ comes one of r n t 0 x \" \\".to_owned()),
            },
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Err("a quotation mark is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_tokens() {
        let line = r#"A send "a\r\n\xff", hex(00 ff) {secret:8} DO|DONT 37 ... # said"#;
        assert_eq!(
            tokens(line).unwrap(),
            [
                Token::Bare("A".into()),
                Token::Bare("send".into()),
                Token::Bytes(b"a\r\n\xff".to_vec()),
                Token::Comma,
                Token::Bytes(vec![0, 255]),
                Token::Brace("secret:8".into()),
                Token::Bare("DO".into()),
                Token::Bar,
                Token::Bare("DONT".into()),
                Token::Bare("37".into()),
                Token::Dots,
            ]
        );
        assert_eq!(tokens("repeat(3, 0x41)").unwrap(), [Token::Bytes(b"AAA".to_vec())]);
    }

    #[test]
    fn a_bad_line_says_what_to_write() {
        for (line, hint) in [
            ("hex(0)", "pair of hex digits"),
            ("\"abc", "not closed"),
            ("\"\\q\"", "after a \\ comes"),
            ("{abc", "no }"),
            ("hex(00", "no )"),
            ("foo(1)", "hex(…), wire(…)"),
            ("repeat(3)", "repeat(count, byte)"),
            ("repeat(x, 1)", "not a count"),
            ("repeat(1, 256)", "0..255"),
        ] {
            let error = tokens(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}
