//! What an actor does in one step.

use super::bare;
use super::header::duration;
use super::words::{heard, said};
use crate::transcript::lex::Token;
use crate::transcript::{Action, Expect, Item, Unless};

pub(super) fn action(tokens: &[Token]) -> Result<Action, String> {
    let first = bare(tokens.first()).ok_or("a step begins with an actor")?.to_owned();
    if first == "wait" {
        let time = bare(tokens.get(1)).filter(|_| tokens.len() == 2).ok_or("write: wait 5s")?;
        return Ok(Action::Wait(duration(time)?));
    }
    let actor = first;
    let verb = bare(tokens.get(1)).unwrap_or_default();
    let rest = &tokens[2.min(tokens.len())..];
    let words: Vec<&str> = rest.iter().filter_map(|token| bare(Some(token))).collect();
    match verb {
        "connect" => match words.as_slice() {
            ["vm"] => Ok(Action::ConnectVm { actor }),
            ["admin"] => Ok(Action::ConnectAdmin { actor }),
            ["client", "of", vm] => Ok(Action::ConnectClient { actor, raw: false, of: (*vm).to_owned() }),
            ["raw", "client", "of", vm] => {
                Ok(Action::ConnectClient { actor, raw: true, of: (*vm).to_owned() })
            }
            _ => Err(
                "write: connect vm, connect client of ACTOR, connect raw client of ACTOR or connect admin"
                    .to_owned(),
            ),
        },
        "send" => {
            let items = said(rest)?;
            Ok(Action::Send { actor, items, urgent: false })
        }
        "urge" => {
            let items = said(rest)?;
            Ok(Action::Send { actor, items, urgent: true })
        }
        "repeat" => {
            let [what @ .., Token::Bare(until), Token::Bare(hearer), Token::Bare(hears), Token::Bare(it)] =
                rest
            else {
                return Err(REPEAT.to_owned());
            };
            let mut items = said(what)?;
            match (items.pop(), items.is_empty(), [until, hears, it].map(String::as_str)) {
                (Some(item @ Item::Data(_)), true, ["until", "hears", "it"]) => {
                    Ok(Action::Repeat { actor, item, hearer: hearer.clone() })
                }
                _ => Err(REPEAT.to_owned()),
            }
        }
        "answer" => {
            let once = words.first() == Some(&"once");
            let rest = &rest[usize::from(once)..];
            let with = rest
                .iter()
                .position(|token| bare(Some(token)) == Some("with"))
                .ok_or("write: answer [once] WORD with WORDS")?;
            let mut to = heard(&rest[..with])?;
            let to = match (to.pop(), to.is_empty()) {
                (Some(mut alternatives), true) if alternatives.len() == 1 => alternatives.remove(0),
                _ => return Err("answer is for one word at a time".to_owned()),
            };
            if matches!(to, Item::Data(_) | Item::Wire(_)) {
                return Err("only commands and subnegotiations can be answered by rule, not data".to_owned());
            }
            Ok(Action::Answer { actor, once, to, with: said(&rest[with + 1..])? })
        }
        "close" | "settle" | "reset" if !rest.is_empty() => Err(format!("nothing comes after {verb}")),
        "close" => Ok(Action::Close(actor)),
        "reset" => Ok(Action::Reset(actor)),
        "settle" => Ok(Action::Settle(actor)),
        _ => expect(actor, rest),
    }
}

const REPEAT: &str = "write: repeat DATA until ACTOR hears it";

pub(super) fn expect(actor: String, tokens: &[Token]) -> Result<Action, String> {
    let (tokens, unless) = match tokens.iter().position(|token| bare(Some(token)) == Some("unless")) {
        None => (tokens, None),
        Some(at) => (&tokens[..at], Some(unless(&tokens[at + 1..])?)),
    };
    // A time at the end: `within 5s` bounds what must come, `for 5s` what must not.
    let (mut tokens, mut within, mut lasts) = (tokens, None, None);
    if let [head @ .., Token::Bare(word), Token::Bare(time)] = tokens {
        match word.as_str() {
            "within" => (tokens, within) = (head, Some(duration(time)?)),
            "for" => (tokens, lasts) = (head, Some(duration(time)?)),
            _ => {}
        }
    }
    let lasting = |what: &str| lasts.ok_or_else(|| format!("say for how long: expect {what} for 300ms"));
    let word = |index: usize| bare(tokens.get(index)).unwrap_or_default();
    let (two, count) = ((word(0), word(1)), tokens.len());
    let what = match (two, count) {
        (("nothing", ""), 1) => Expect::Nothing(lasting("nothing")?),
        (("silence", ""), 1) => Expect::Silence(lasting("silence")?),
        (("open", ""), 1) => Expect::Open(lasting("open")?),
        (("closed", ""), 1) => Expect::Closed,
        (("some", "text"), 2) => Expect::Text,
        (("anything", "until"), 3) if word(2) == "closed" => Expect::UntilClosed,
        (("anything", "until"), _) => Expect::Until(heard(&tokens[2..])?),
        (("any", "order"), _) => Expect::AnyOrder(heard(&tokens[2..])?),
        (("no", _), _) => {
            let items = heard(&tokens[1..])?.into_iter().flatten().collect();
            Expect::No(items, lasting("no WORD")?)
        }
        _ => Expect::Words(heard(tokens)?),
    };
    let may_last = matches!(what, Expect::Nothing(_) | Expect::Silence(_) | Expect::No(..) | Expect::Open(_));
    if lasts.is_some() != may_last || (within.is_some() && may_last) {
        return Err("write within TIME for what must come, for TIME for what must not".to_owned());
    }
    if unless.is_some() && !matches!(&what, Expect::Words(words) if words.len() == 1) {
        return Err("unless stands behind one word: expect DO 3 unless DONT 3".to_owned());
    }
    Ok(Action::Expect { actor, what, within, unless })
}

pub(super) fn unless(tokens: &[Token]) -> Result<Unless, String> {
    if let [Token::Bare(word)] = tokens
        && word == "nothing"
    {
        return Ok(Unless::Nothing);
    }
    if let [Token::Bare(word)] = tokens
        && word == "closed"
    {
        return Ok(Unless::Closed);
    }
    match heard(tokens)?.as_mut_slice() {
        [alternatives] => Ok(Unless::Words(std::mem::take(alternatives))),
        _ => {
            Err("unless is followed by nothing, by closed, or by one word: expect DO 3 unless DONT 3"
                .to_owned())
        }
    }
}
