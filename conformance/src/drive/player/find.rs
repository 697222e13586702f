//! Whether what an actor has heard is what a transcript expects of it; what is, is taken out.

use super::words::{known_bytes, word_of};
use super::{Player, Spoken};
use crate::telnet::Word;
use crate::telnet::names::{self, code};
use crate::transcript::{Item, Part};

/// What a look at what was heard says about one expectation.
pub(super) enum Found {
    /// There it is; it was taken out.
    Yes,
    /// Not yet.
    NotYet,
    /// It cannot come any more: something else stands in its place.
    Never,
}

type Captures = Vec<(String, Vec<u8>)>;

fn expects_speech(item: &Item) -> bool {
    match item {
        Item::Data(_) | Item::Wire(_) | Item::Command(names::BRK) => true,
        Item::Sub(names::VMWARE, parts) => {
            let first = match parts.first() {
                Some(Part::Bytes(bytes)) => bytes.first().copied(),
                _ => None,
            };
            matches!(first, Some(code::GOAHEAD | code::NOTNOW | code::PEER_OK))
        }
        _ => false,
    }
}

impl Player<'_> {
    /// Looks for one of the alternatives in `item` and takes it out of what was heard.
    pub(super) fn find(&mut self, actor: usize, item: &[Item]) -> Found {
        let mut found = Found::Never;
        for alternative in item {
            let this = if self.actors[actor].raw || expects_speech(alternative) {
                self.find_speech(actor, alternative)
            } else {
                self.find_chatter(actor, alternative)
            };
            match this {
                Found::Yes => return Found::Yes,
                Found::NotYet => found = Found::NotYet,
                Found::Never => {}
            }
        }
        found
    }

    fn find_chatter(&mut self, actor: usize, item: &Item) -> Found {
        let hit = self.actors[actor]
            .chatter
            .iter()
            .enumerate()
            .find_map(|(index, (word, _))| self.matches(item, word).map(|captures| (index, captures)));
        match hit {
            Some((index, captures)) => {
                self.actors[actor].chatter.remove(index);
                self.keep(captures);
                Found::Yes
            }
            None => Found::NotYet,
        }
    }

    fn find_speech(&mut self, actor: usize, item: &Item) -> Found {
        let speech = &self.actors[actor].speech;
        let bytes = match (item, self.actors[actor].raw) {
            (Item::Data(_), _) => None,
            (_, true) => Some(self.bytes_of(item)),
            _ => {
                return match speech.front() {
                    None => Found::NotYet,
                    Some(Spoken::Byte(_)) => Found::Never,
                    Some(Spoken::Word(word)) => match self.matches(item, word) {
                        None => Found::Never,
                        Some(captures) => {
                            self.actors[actor].speech.pop_front();
                            self.keep(captures);
                            Found::Yes
                        }
                    },
                };
            }
        };
        let parts = match (item, &bytes) {
            (Item::Data(parts), _) => parts.clone(),
            (_, Some(bytes)) => vec![Part::Bytes(bytes.clone())],
            _ => return Found::Never,
        };
        // Data: a prefix of the bytes at the front.
        let mut heard = speech.iter().map(|spoken| match spoken {
            Spoken::Byte(byte) => Some(*byte),
            Spoken::Word(_) => None,
        });
        let (mut captures, mut taken) = (Captures::new(), 0);
        for part in &parts {
            let expected: Vec<Option<u8>> = match part {
                Part::Capture(_, count) => vec![None; count.unwrap_or(1)],
                known => self.known_bytes(known).into_iter().map(Some).collect(),
            };
            let mut seen = Vec::new();
            for expected in expected {
                match heard.next() {
                    None => return Found::NotYet,
                    Some(Some(byte)) if expected.is_none_or(|it| it == byte) => seen.push(byte),
                    Some(_) => return Found::Never,
                }
            }
            taken += seen.len();
            if let Part::Capture(name, _) = part {
                captures.push((name.clone(), seen));
            }
        }
        self.actors[actor].speech.drain(..taken);
        self.keep(captures);
        Found::Yes
    }

    /// What an item captures from `word`, if it fits.
    pub(super) fn matches(&self, item: &Item, word: &Word) -> Option<Captures> {
        match (item, word) {
            (Item::Command(a), Word::Command(b)) => (a == b).then(Captures::new),
            (Item::Negotiation(a, x), Word::Negotiation(b, y)) => (a == b && x == y).then(Captures::new),
            (Item::Wire(a), Word::Fault(b)) => (a == b).then(Captures::new),
            (Item::Data(parts), Word::Data(bytes)) => self.fits(parts, bytes),
            (Item::Sub(a, parts), Word::Sub(b, payload)) if a == b => self.fits(parts, payload),
            _ => None,
        }
    }

    fn fits(&self, parts: &[Part], mut bytes: &[u8]) -> Option<Captures> {
        let mut captures = Captures::new();
        for part in parts {
            match part {
                Part::Rest => return Some(captures),
                Part::Capture(name, None) => {
                    captures.push((name.clone(), bytes.to_vec()));
                    return (!bytes.is_empty()).then_some(captures);
                }
                Part::Capture(name, Some(count)) => {
                    let (head, tail) = bytes.split_at_checked(*count)?;
                    captures.push((name.clone(), head.to_vec()));
                    bytes = tail;
                }
                known => bytes = bytes.strip_prefix(self.known_bytes(known).as_slice())?,
            }
        }
        bytes.is_empty().then_some(captures)
    }

    pub(super) fn keep(&mut self, captures: Captures) {
        for (name, value) in captures {
            self.values.set(&name, &value);
        }
    }

    pub(super) fn known_bytes(&self, part: &Part) -> Vec<u8> {
        known_bytes(part, &self.values)
    }

    fn bytes_of(&self, item: &Item) -> Vec<u8> {
        let mut wire = Vec::new();
        word_of(item, &self.values).encode(&mut wire);
        wire
    }
}
