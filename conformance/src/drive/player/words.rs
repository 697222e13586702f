//! What a transcript writes as what goes over the wire, and as a person reads it.

use crate::drive::Values;
use crate::telnet::{Decoder, Word, sentence};
use crate::transcript::{Item, Part};

impl Item {
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Self::Data(parts) | Self::Sub(_, parts) => parts,
            _ => &[],
        }
    }
}

pub(super) fn known_bytes(part: &Part, values: &Values) -> Vec<u8> {
    match part {
        Part::Bytes(bytes) => bytes.clone(),
        Part::Template(template, id) => values.template(*template, id),
        Part::Variable(name) => values.get(name).unwrap_or_default().to_vec(),
        Part::Capture(..) | Part::Rest => Vec::new(),
    }
}

pub(super) fn word_of(item: &Item, values: &Values) -> Word {
    let all = |parts: &[Part]| parts.iter().flat_map(|part| known_bytes(part, values)).collect::<Vec<u8>>();
    match item {
        Item::Data(parts) => Word::Data(all(parts)),
        Item::Command(command) => Word::Command(*command),
        Item::Negotiation(verb, option) => Word::Negotiation(*verb, *option),
        Item::Sub(option, parts) => Word::Sub(*option, all(parts)),
        Item::Wire(bytes) => Word::Fault(bytes.clone()),
    }
}

/// Expected words as a person reads them: what is known filled in, what is not as it is written.
pub(super) fn show(items: &[Vec<Item>], values: &Values) -> String {
    let one = |item: &Item| {
        let open: Vec<String> = item
            .parts()
            .iter()
            .filter_map(|part| match part {
                Part::Capture(name, Some(count)) => Some(format!("{{{name}:{count}}}")),
                Part::Capture(name, None) => Some(format!("{{{name}:*}}")),
                Part::Rest => Some("...".to_owned()),
                _ => None,
            })
            .collect();
        let word = word_of(item, values).to_string();
        match (word.strip_suffix(" SE"), open.is_empty()) {
            (Some(head), false) => format!("{head} {} SE", open.join(" ")),
            (None, false) => format!("{word} {}", open.join(" ")),
            _ => word,
        }
    };
    let alternatives = |item: &Vec<Item>| item.iter().map(one).collect::<Vec<_>>().join(" or ");
    items.iter().map(alternatives).collect::<Vec<_>>().join(", ")
}

pub(super) fn spoken(wire: &[u8]) -> String {
    let mut decoder = Decoder::default();
    let mut words = decoder.read(wire);
    let unfinished = decoder.abandon();
    if !unfinished.is_empty() {
        words.push(Word::Fault(unfinished));
    }
    sentence(&words)
}
