//! From text to [`Transcript`]s. Every error names the line and says what to write instead.

mod action;
mod header;
mod phrase;
mod words;

use super::lex::{self, Token};
use super::{Action, Place, Scope, Section, Step, Transcript};
use std::sync::Arc;

pub use header::parse_setting;

use action::action;
use header::header;
use phrase::Phrase;

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

fn bare(token: Option<&Token>) -> Option<&str> {
    match token {
        Some(Token::Bare(word)) => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
