//! From text to [`Transcript`]s. Every error names the line and says what to write instead.

use super::lex::{self, Token};
use super::{Action, Expect, Item, Part, Place, Scope, Section, Setting, Step, Template, Transcript, Unless};
use crate::telnet::names;
use std::sync::Arc;
use std::time::Duration;

/// A line that is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Reads files given as (name, text); a phrase defined in one may be used in those after it.
///
/// # Errors
///
/// The first line that is not understood.
pub fn parse(files: &[(&str, &str)]) -> Result<Vec<Transcript>, ParseError> {
    let mut reader = Reader::default();
    for (name, text) in files {
        let file: Arc<str> = Arc::from(*name);
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let place = Place { file: Arc::clone(&file), line: index + 1, used_at: None };
            let mut whole = line.to_owned();
            while let Some(head) = whole.strip_suffix('\\') {
                whole = head.to_owned();
                whole.push_str(lines.next().map_or("", |(_, more)| more.trim()));
            }
            reader.line(&place, &whole).map_err(|message| ParseError { place, message })?;
        }
        reader.open = Open::Nothing;
    }
    for (index, transcript) in reader.transcripts.iter().enumerate() {
        complete(transcript, &reader.transcripts[..index])
            .map_err(|message| ParseError { place: transcript.place.clone(), message })?;
    }
    Ok(reader.transcripts)
}

/// What a whole transcript must have.
fn complete(transcript: &Transcript, before: &[Transcript]) -> Result<(), String> {
    let id = &transcript.id;
    if let Some(twin) = before.iter().find(|other| other.id == *id) {
        return Err(format!("{id} is taken by {}: ids are unique", twin.place));
    }
    for (value, line) in [(&transcript.title, "title"), (&transcript.source, "source")] {
        if value.is_empty() {
            return Err(format!("{id} has no {line} line"));
        }
    }
    if transcript.steps.is_empty() {
        return Err(format!("{id} has no steps"));
    }
    if !transcript.steps.iter().any(|step| matches!(step.action, Action::Expect { .. })) {
        return Err(format!("{id} expects nothing, so it cannot fail: add an expect"));
    }
    Ok(())
}

#[derive(Default)]
struct Reader {
    transcripts: Vec<Transcript>,
    phrases: Vec<Phrase>,
    open: Open,
}

#[derive(Clone, Copy, Default)]
enum Open {
    #[default]
    Nothing,
    Transcript,
    Phrase,
}

struct Phrase {
    /// Words and `<parameters>`; the last may be `<all...>`.
    pattern: Vec<String>,
    body: Vec<(Place, String)>,
}

/// A phrase may use phrases, but not for ever.
const MAX_DEPTH: usize = 8;

const VERBS: [&str; 9] =
    ["connect", "send", "urge", "repeat", "answer", "expect", "settle", "close", "reset"];

impl Reader {
    fn line(&mut self, place: &Place, line: &str) -> Result<(), String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match (first, self.open) {
            ("transcript", _) => {
                let id_bytes = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                if rest.is_empty() || !rest.bytes().all(id_bytes) {
                    return Err("write: transcript some-id (lower case, digits, dashes)".to_owned());
                }
                self.open = Open::Transcript;
                self.transcripts.push(Transcript {
                    id: rest.to_owned(),
                    title: String::new(),
                    section: Section::Vmware,
                    source: String::new(),
                    scope: Scope::Any,
                    config: Vec::new(),
                    single_bytes: false,
                    place: place.clone(),
                    steps: Vec::new(),
                });
                Ok(())
            }
            ("phrase", _) => {
                if rest.is_empty() {
                    return Err("write: phrase <vm> starts as <id>".to_owned());
                }
                self.open = Open::Phrase;
                let pattern = rest.split_whitespace().map(str::to_owned).collect();
                self.phrases.push(Phrase { pattern, body: Vec::new() });
                Ok(())
            }
            (_, Open::Nothing) => Err("begin with a line: transcript some-id".to_owned()),
            (_, Open::Phrase) => {
                let phrase = self.phrases.last_mut().ok_or("no phrase is open")?;
                phrase.body.push((place.clone(), line.to_owned()));
                Ok(())
            }
            (_, Open::Transcript) => {
                let mut transcript = self.transcripts.pop().ok_or("no transcript is open")?;
                let outcome = self.transcript_line(&mut transcript, place, line, first, rest);
                self.transcripts.push(transcript);
                outcome
            }
        }
    }

    fn transcript_line(
        &self,
        transcript: &mut Transcript,
        place: &Place,
        line: &str,
        first: &str,
        rest: &str,
    ) -> Result<(), String> {
        if matches!(first, "title" | "section" | "source" | "scope" | "config" | "segments") {
            if !transcript.steps.is_empty() {
                return Err(format!("{first} belongs before the first step"));
            }
            return header(transcript, first, rest);
        }
        self.step(&mut transcript.steps, place, line, 0)
    }

    fn step(&self, steps: &mut Vec<Step>, place: &Place, line: &str, depth: usize) -> Result<(), String> {
        let bare: Vec<&str> = line.split_whitespace().collect();
        let statement = bare[0] == "wait" || bare.get(1).is_some_and(|verb| VERBS.contains(verb));
        if statement {
            let action = action(&lex::tokens(line)?)?;
            check_actor(steps, &action)?;
            steps.push(Step { place: place.clone(), text: line.to_owned(), action });
            return Ok(());
        }
        let Some((phrase, arguments)) = self.phrases.iter().find_map(|p| p.matches(line).map(|a| (p, a)))
        else {
            let phrases: Vec<String> = self.phrases.iter().map(|p| p.pattern.join(" ")).collect();
            return Err(format!(
                "{line:?} is neither a step (actor {}; wait time) nor a phrase ({})",
                VERBS.join("|"),
                phrases.join("; ")
            ));
        };
        if depth == MAX_DEPTH {
            return Err("phrases use phrases more than 8 deep".to_owned());
        }
        let used_at = place.used_at.clone().or_else(|| Some((Arc::clone(&place.file), place.line)));
        for (at, text) in &phrase.body {
            let mut text = text.clone();
            for (parameter, argument) in &arguments {
                text = text.replace(parameter.as_str(), argument);
            }
            let place = Place { used_at: used_at.clone(), ..at.clone() };
            self.step(steps, &place, &text, depth + 1)
                .map_err(|e| format!("in {}:{}: {e}", at.file, at.line))?;
        }
        Ok(())
    }
}

impl Phrase {
    /// The arguments, if `line` is this phrase.
    fn matches(&self, line: &str) -> Option<Vec<(String, String)>> {
        let mut arguments = Vec::new();
        let mut rest = line;
        for word in &self.pattern {
            rest = rest.trim_start();
            if let Some(name) = word.strip_suffix("...>") {
                if rest.is_empty() {
                    return None;
                }
                arguments.push((format!("{name}...>"), rest.to_owned()));
                rest = "";
                continue;
            }
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (said, after) = rest.split_at(end);
            if word.starts_with('<') && !said.is_empty() {
                arguments.push((word.clone(), said.to_owned()));
            } else if said != word {
                return None;
            }
            rest = after;
        }
        let rest = rest.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then_some(arguments)
    }
}

/// Nobody speaks before having connected, nor connects twice.
fn check_actor(before: &[Step], action: &Action) -> Result<(), String> {
    let connected = |who: &str| {
        before.iter().any(|step| match &step.action {
            Action::ConnectVm { actor }
            | Action::ConnectAdmin { actor }
            | Action::ConnectClient { actor, .. } => actor == who,
            _ => false,
        })
    };
    let must = |who: &str| {
        if connected(who) { Ok(()) } else { Err(format!("{who} has not connected: write {who} connect …")) }
    };
    match action {
        Action::ConnectVm { actor }
        | Action::ConnectAdmin { actor }
        | Action::ConnectClient { actor, .. }
            if connected(actor) =>
        {
            Err(format!("{actor} has connected already: give each connection an actor of its own"))
        }
        Action::ConnectVm { .. } | Action::ConnectAdmin { .. } | Action::Wait(_) => Ok(()),
        Action::ConnectClient { of, .. } => must(of),
        Action::Repeat { actor, hearer, .. } => must(actor).and_then(|()| must(hearer)),
        Action::Send { actor, .. }
        | Action::Answer { actor, .. }
        | Action::Close(actor)
        | Action::Reset(actor)
        | Action::Settle(actor)
        | Action::Expect { actor, .. } => must(actor),
    }
}

fn header(transcript: &mut Transcript, key: &str, value: &str) -> Result<(), String> {
    match key {
        "title" => value.clone_into(&mut transcript.title),
        "source" => value.clone_into(&mut transcript.source),
        "section" => {
            transcript.section =
                Section::ALL.into_iter().find(|section| section.word() == value).ok_or_else(|| {
                    let words = Section::ALL.map(Section::word).join(", ");
                    format!("there is no section {value:?}: use one of {words}")
                })?;
        }
        "scope" => {
            transcript.scope = match value {
                "any" => Scope::Any,
                "ours" => Scope::Ours,
                _ => return Err(format!("scope {value:?}: write any or ours")),
            }
        }
        "segments" => match value {
            "bytes" => transcript.single_bytes = true,
            _ => return Err(format!("segments {value:?}: write bytes, or leave the line out")),
        },
        _ => transcript.config.push(parse_setting(value)?),
    }
    Ok(())
}

/// Reads what stands behind `config`.
///
/// # Errors
///
/// What to write instead.
pub fn parse_setting(value: &str) -> Result<Setting, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
    match words.as_slice() {
        ["multi-console"] => Ok(Setting::MultiConsole),
        ["service-uri", uri] => Ok(Setting::ServiceUri((*uri).to_owned())),
        ["identify-timeout", time] => Ok(Setting::IdentifyTimeout(duration(time)?)),
        ["vm-expire", time] => Ok(Setting::VmExpire(duration(time)?)),
        ["max-clients", n] => Ok(Setting::MaxClients(number(n)?)),
        ["scrollback", n] => Ok(Setting::Scrollback(number(n)?)),
        _ => Err(format!(
            "config {value:?}: write multi-console, service-uri TEXT, identify-timeout TIME, vm-expire TIME, \
             max-clients N or scrollback N"
        )),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    number
        .parse::<f64>()
        .ok()
        .map(|n| n * factor)
        .filter(|seconds| seconds.is_finite() && *seconds <= 1e6)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is not a time: write 300ms, 5s, 2m"))
}

fn bare(token: Option<&Token>) -> Option<&str> {
    match token {
        Some(Token::Bare(word)) => Some(word),
        _ => None,
    }
}

fn action(tokens: &[Token]) -> Result<Action, String> {
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

fn expect(actor: String, tokens: &[Token]) -> Result<Action, String> {
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

fn unless(tokens: &[Token]) -> Result<Unless, String> {
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

/// Words to say: every one is known.
fn said(tokens: &[Token]) -> Result<Vec<Item>, String> {
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
fn heard(tokens: &[Token]) -> Result<Vec<Vec<Item>>, String> {
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

const WORDS: &str =
    "a word (WILL 0, BRK, SB VMWARE 81 SE, \"text\", hex(00 ff), {name}, wire(ff f0), repeat(9, 0x41))";

fn item(tokens: &[Token]) -> Result<(Item, &[Token]), String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Result<Transcript, ParseError> {
        let text = format!("transcript t\ntitle T\nsource S\nA connect vm\n{body}\nA expect closed\n");
        parse(&[("t.txt", &text)]).map(|mut all| all.remove(0))
    }

    #[test]
    fn a_transcript_is_read() {
        let text = "\
# a comment
phrase <vm> says <what...>
  <vm> send <what...>

transcript first-words
  title   Words
  section rfc854
  source  RFC 854
  config  service-uri a
  scope   ours
A connect vm
A says \"hi\", DO 6       # asks
A expect WILL TM | WONT TM within 2s
A expect SB VMWARE VMOTION-GOAHEAD {seq:m} {secret:*} SE
";
        let all = parse(&[("f.txt", text)]).unwrap();
        let t = &all[0];
        assert_eq!((t.id.as_str(), t.title.as_str(), t.section), ("first-words", "Words", Section::Rfc854));
        assert_eq!((t.scope, t.config.as_slice()), (Scope::Ours, &[Setting::ServiceUri("a".into())][..]));
        let Action::Send { items, .. } = &t.steps[1].action else { panic!("{:?}", t.steps[1]) };
        assert_eq!(*items, [Item::Data(vec![Part::Bytes(b"hi".to_vec())]), Item::Negotiation(253, 6)]);
        assert_eq!(t.steps[1].place.to_string(), "f.txt:12 (f.txt:3)");
        let Action::Expect { what: Expect::Words(words), within, .. } = &t.steps[2].action else { panic!() };
        assert_eq!(words[0], [Item::Negotiation(251, 6), Item::Negotiation(252, 6)]);
        assert_eq!(*within, Some(Duration::from_secs(2)));
        let Action::Expect { what: Expect::Words(words), .. } = &t.steps[3].action else { panic!() };
        assert_eq!(
            words[0],
            [Item::Sub(
                232,
                vec![
                    Part::Bytes(vec![41]),
                    Part::Template(Template::Sequence, "m".into()),
                    Part::Capture("secret".into(), None)
                ]
            )]
        );
    }

    #[test]
    fn an_error_names_the_line_and_says_what_to_write() {
        for (body, hint) in [
            ("A shout 1", "is neither a step"),
            ("B send \"x\"", "B has not connected"),
            ("A connect vm", "connected already"),
            ("A connect", "connect vm, connect client of"),
            ("A send", "a word (WILL 0"),
            ("A send WILL", "WILL wants an option"),
            ("A send WILL 300", "WILL wants an option"),
            ("A send 41", "is not a word"),
            ("A send SB VMWARE 81", "SB has no SE"),
            ("A send SB GET SE", "after SB comes an option"),
            ("A send SB VMWARE NO-SUCH SE", "neither a code nor a byte"),
            ("A send SB VMWARE 41 {x:*} SE", "captures and ..."),
            ("A expect SB VMWARE 41 {x:*} 3 SE", "take all there is"),
            ("A send DO 1 | DO 3", "say one thing"),
            ("A expect nothing", "for how long"),
            ("A expect \"x\" for 3s", "within TIME"),
            ("A expect nothing for 3", "is not a time"),
            ("A expect no DO 1 within 3s", "for how long"),
            ("A answer DO 1", "answer [once] WORD with"),
            ("A answer \"x\" with DO 1", "not data"),
            ("A close now", "nothing comes after"),
            ("wait", "wait 5s"),
            ("title late", "before the first step"),
            ("A send {x:y}", "{name:8}"),
            ("A repeat \"x\"", "until ACTOR hears it"),
            ("A repeat NOP until A hears it", "until ACTOR hears it"),
            ("A repeat \"x\" until c hears it", "c has not connected"),
            ("A expect closed unless nothing", "unless stands behind one word"),
            ("A expect DO 3, DO 1 unless DONT 3", "unless stands behind one word"),
            ("A expect DO 3 unless DONT 3, WONT 3", "is followed by nothing"),
        ] {
            let error = one(body).map(|t| t.id).unwrap_err();
            assert!(error.message.contains(hint), "{body}: {error}");
            assert!(error.to_string().starts_with("t.txt:5: "), "{error}");
        }
    }

    #[test]
    fn a_whole_transcript_is_asked_for_what_it_lacks() {
        for (text, hint) in [
            ("A connect vm", "begin with a line: transcript"),
            ("transcript Bad Id", "lower case"),
            ("transcript a\nA connect vm\nA expect closed", "no title"),
            ("transcript a\ntitle t\nA connect vm\nA expect closed", "no source"),
            ("transcript a\ntitle t\nsource s", "no steps"),
            ("transcript a\ntitle t\nsource s\nA connect vm", "cannot fail"),
            ("transcript a\nsection b", "use one of rfc854"),
            ("transcript a\nscope b", "any or ours"),
            ("transcript a\nsegments b", "write bytes"),
            ("transcript a\nconfig b", "write multi-console"),
            ("phrase <a> loops\n<a> loops\ntranscript a\nA loops", "8 deep"),
        ] {
            let error = parse(&[("t.txt", text)]).map(|_| ()).unwrap_err();
            assert!(error.message.contains(hint), "{text}: {error}");
        }
        let twice = "transcript a\ntitle t\nsource s\nA connect vm\nA expect closed\n".repeat(2);
        assert!(parse(&[("t.txt", &twice)]).unwrap_err().message.contains("unique"));
    }
}
