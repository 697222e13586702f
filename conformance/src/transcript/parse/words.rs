//! Words to say and words to hear.

use super::bare;
use crate::telnet::names;
use crate::transcript::lex::Token;
use crate::transcript::{Item, Part, Template};

/// Words to say: every one is known.
pub(super) fn said(tokens: &[Token]) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    for mut alternatives in heard(tokens)? {
        let item = alternatives.remove(0);
        let unknown = |part: &Part| matches!(part, Part::Capture(..) | Part::Rest);
        match &item {
            _ if !alternatives.is_empty() => {
                return Err("| is for what is expected; say one thing".to_owned());
            }
            Item::Data(parts) | Item::Sub(_, parts) if parts.iter().any(unknown) => {
                return Err("captures and ... are for what is expected; say bytes or {name}".to_owned());
            }
            _ => items.push(item),
        }
    }
    Ok(items)
}

/// Words to hear: a list of alternatives each.
pub(super) fn heard(tokens: &[Token]) -> Result<Vec<Vec<Item>>, String> {
    let mut rest = tokens;
    let mut items: Vec<Vec<Item>> = Vec::new();
    let mut alternative = false;
    while let Some(first) = rest.first() {
        match first {
            Token::Comma => rest = &rest[1..],
            Token::Bar => {
                if items.is_empty() {
                    return Err("a | stands between two words".to_owned());
                }
                alternative = true;
                rest = &rest[1..];
            }
            _ => {
                let (item, after) = item(rest)?;
                rest = after;
                match items.last_mut() {
                    Some(last) if alternative => last.push(item),
                    Some(last) => match (last.as_mut_slice(), item) {
                        ([Item::Data(run)], Item::Data(more)) => run.extend(more),
                        (_, item) => items.push(vec![item]),
                    },
                    None => items.push(vec![item]),
                }
                alternative = false;
            }
        }
    }
    if items.is_empty() {
        return Err(format!("{WORDS} is missing here"));
    }
    Ok(items)
}

pub(super) const WORDS: &str =
    "a word (WILL 0, BRK, SB VMWARE 81 SE, \"text\", hex(00 ff), {name}, wire(ff f0), repeat(9, 0x41))";

pub(super) fn item(tokens: &[Token]) -> Result<(Item, &[Token]), String> {
    let (first, rest) = tokens.split_first().ok_or("nothing to read")?;
    match first {
        Token::Bytes(bytes) => Ok((Item::Data(vec![Part::Bytes(bytes.clone())]), rest)),
        Token::Brace(inside) => Ok((Item::Data(vec![brace(inside)?]), rest)),
        Token::Wire(bytes) => Ok((Item::Wire(bytes.clone()), rest)),
        Token::Bare(word) => match (word.as_str(), names::command_value(word)) {
            (_, Some(verb @ names::WILL..=names::DONT)) => {
                let option = bare(rest.first())
                    .and_then(names::option_value)
                    .ok_or_else(|| format!("{word} wants an option: {word} 0 or {word} BINARY"))?;
                Ok((Item::Negotiation(verb, option), &rest[1..]))
            }
            ("SB", _) => subnegotiation(rest),
            (_, Some(command)) if command != names::IAC => Ok((Item::Command(command), rest)),
            _ => Err(format!("{word:?} is not {WORDS}")),
        },
        _ => Err(format!("this is not {WORDS}")),
    }
}

fn subnegotiation(tokens: &[Token]) -> Result<(Item, &[Token]), String> {
    let end = tokens
        .iter()
        .position(|token| bare(Some(token)) == Some("SE"))
        .ok_or("SB has no SE: write SB VMWARE 81 SE")?;
    let (inside, rest) = (&tokens[..end], &tokens[end + 1..]);
    let (option, inside) = match inside.split_first() {
        Some((Token::Bare(word), inside)) => (names::option_value(word), inside),
        _ => (None, inside),
    };
    let option = option.ok_or("after SB comes an option: SB VMWARE 81 SE")?;
    let mut parts: Vec<Part> = Vec::new();
    for (index, token) in inside.iter().enumerate() {
        let part = match token {
            Token::Bytes(bytes) => Part::Bytes(bytes.clone()),
            Token::Brace(inside) => brace(inside)?,
            Token::Dots => Part::Rest,
            Token::Comma => continue,
            Token::Bare(word) => {
                let byte = if index == 0 { names::code_value(word) } else { None };
                let byte = byte.or_else(|| names::byte(word));
                Part::Bytes(vec![byte.ok_or_else(|| format!("{word:?} is neither a code nor a byte"))?])
            }
            Token::Bar | Token::Wire(_) => return Err("inside SB … SE stand codes and bytes".to_owned()),
        };
        if matches!(parts.last(), Some(Part::Rest | Part::Capture(_, None))) {
            return Err("... and {name:*} take all there is: nothing can follow them".to_owned());
        }
        parts.push(part);
    }
    Ok((Item::Sub(option, parts), rest))
}

fn brace(inside: &str) -> Result<Part, String> {
    let Some((name, what)) = inside.split_once(':') else {
        return Ok(Part::Variable(inside.to_owned()));
    };
    let template = match name {
        "uuid" => Template::Uuid,
        "UUID" => Template::UuidUpper,
        "digits" => Template::UuidDigits,
        "dashed" => Template::UuidDashed,
        "name" => Template::Name,
        "seq" => Template::Sequence,
        "text" => Template::Text,
        _ if what == "*" => return Ok(Part::Capture(name.to_owned(), None)),
        _ => {
            let count = what.parse().map_err(|_| {
                format!(
                    "{{{inside}}}: write {{name}}, {{name:8}}, {{name:*}} or \
                     {{uuid|UUID|digits|dashed|name|seq|text:which}}"
                )
            })?;
            return Ok(Part::Capture(name.to_owned(), Some(count)));
        }
    };
    Ok(Part::Template(template, what.to_owned()))
}
