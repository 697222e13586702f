//! Facts (APPLICATION §7): keys and values that either side tells of itself.
//!
//! Owns the bounds of a set ([`Facts`]), and what is still to be told of one ([`Teller`]): the newest value
//! of each key, never a backlog.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::answer::{Code, Refusal, bad_line};
use crate::line;

/// Facts that one side may tell.
pub const FACTS: usize = 256;
/// The longest key.
const MAX_KEY: usize = 128;
/// The longest value.
const MAX_VALUE: usize = 4096;
/// What a key and its value have at most, together.
pub const MAX_FACT: usize = MAX_KEY + MAX_VALUE;
/// The longest line about a fact: every byte of key and value may be written in six.
pub const MAX_FACT_LINE: usize = 32_768;

/// What is said about facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FactLine {
    /// This is so now.
    Set(String, String),
    /// This is nothing any more.
    Unset(String),
    /// All has been told.
    All,
    /// Something that a later version says.
    Unknown,
}

impl FactLine {
    /// Reads one.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Line {
            set: Option<String>,
            to: Option<String>,
            unset: Option<String>,
            #[serde(default)]
            all: bool,
        }
        let line: Line = serde_json::from_slice(line).map_err(|error| bad_line(&error))?;
        Ok(match line {
            Line { set: Some(key), to: Some(value), .. } => Self::Set(key, value),
            Line { unset: Some(key), .. } => Self::Unset(key),
            Line { all: true, .. } => Self::All,
            Line { .. } => Self::Unknown,
        })
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        line::write(&match self {
            Self::Set(key, value) => serde_json::json!({ "set": key, "to": value }),
            Self::Unset(key) => serde_json::json!({ "unset": key }),
            Self::All => serde_json::json!({ "all": true }),
            Self::Unknown => serde_json::json!({}),
        })
    }
}

/// A set of facts, never larger than it may be.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Facts(
    #[expect(
        clippy::box_collection,
        reason = "there are two sets for each guest, and an empty one is 8 bytes"
    )]
    /// Nothing while there are none: most guests tell none, and are told none.
    Option<Box<BTreeMap<String, String>>>,
);

impl Facts {
    /// Sets one; whether it is another value than before.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, Refusal> {
        let is_key = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_key {
            return Err(Refusal::new(
                Code::BAD_LINE,
                "a key has 1 to 128 printable characters of ASCII, and no space",
            ));
        }
        if value.len() > MAX_VALUE {
            return Err(Refusal::new(Code::TOO_MANY, "a value has at most 4096 bytes"));
        }
        if self.get(key) == Some(value) {
            return Ok(false);
        }
        let all = self.0.get_or_insert_default();
        if all.len() >= FACTS && !all.contains_key(key) {
            return Err(Refusal::new(Code::TOO_MANY, "there are 256 facts already"));
        }
        all.insert(key.to_owned(), value.to_owned());
        Ok(true)
    }

    /// Forgets one; whether it was there.
    pub fn unset(&mut self, key: &str) -> bool {
        let Some(all) = &mut self.0 else { return false };
        let was_there = all.remove(key).is_some();
        if all.is_empty() {
            self.0 = None;
        }
        was_there
    }

    /// What is so.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.as_ref()?.get(key).map(String::as_str)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|all| all.iter()).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.iter().flat_map(|all| all.keys())
    }
}

/// What one side still has to tell the other in this session.
///
/// It goes round: what changes again waits until all else that is due was told, so that one key that never
/// rests keeps back no other, nor that all was told.
#[derive(Clone, Default, Debug)]
pub struct Teller {
    /// Keys whose value was told and is gone. They come first: the other side has room for so many.
    gone: BTreeSet<String>,
    /// Keys that are due in this round.
    due: BTreeSet<String>,
    /// Keys that are due in the next one.
    later: BTreeSet<String>,
    /// Keys whose value was told.
    told: BTreeSet<String>,
    told_all: bool,
}

impl Teller {
    /// A session begins: everything is to be told.
    #[must_use]
    pub fn new(facts: &Facts) -> Self {
        Self { due: facts.keys().cloned().collect(), ..Self::default() }
    }

    /// One of these facts has changed. What was never told, and is gone again, is nothing to tell.
    pub fn handle_changed(&mut self, facts: &Facts, key: &str) {
        if facts.get(key).is_some() {
            self.gone.remove(key);
            if !self.due.contains(key) {
                self.later.insert(key.to_owned());
            }
            return;
        }
        self.due.remove(key);
        self.later.remove(key);
        if self.told.contains(key) {
            self.gone.insert(key.to_owned());
        }
    }

    /// The next line, if there is one to tell; it counts as told.
    pub fn poll(&mut self, facts: &Facts) -> Option<Vec<u8>> {
        if let Some(key) = self.gone.pop_first() {
            self.told.remove(&key);
            return Some(FactLine::Unset(key).line());
        }
        loop {
            if self.due.is_empty() {
                if !std::mem::replace(&mut self.told_all, true) {
                    return Some(FactLine::All.line());
                }
                std::mem::swap(&mut self.due, &mut self.later);
            }
            let key = self.due.pop_first()?;
            if let Some(value) = facts.get(&key) {
                self.told.insert(key.clone());
                return Some(FactLine::Set(key, value.to_owned()).line());
            }
        }
    }
}

/// What one side is told by the other: keeps what an earlier session told until all of this one's was.
#[derive(Clone, Default, Debug)]
pub struct Listener {
    facts: Facts,
    /// What this session has told, before it told all.
    fresh: Option<Facts>,
}

impl Listener {
    /// A session begins.
    pub fn begin(&mut self) {
        self.fresh = Some(Facts::default());
    }

    /// A line came; which keys have changed by it. What is too much or too long is ignored.
    pub fn handle_line(&mut self, line: &[u8]) -> Result<Vec<String>, Refusal> {
        let mut changed = Vec::new();
        match FactLine::parse(line)? {
            FactLine::Set(key, value) => {
                if let Some(fresh) = &mut self.fresh {
                    let _ = fresh.set(&key, &value);
                }
                // Before all is told there may be no room beside what the last session has told.
                if self.facts.set(&key, &value).is_ok_and(|is_new| is_new) {
                    changed.push(key);
                }
            }
            FactLine::Unset(key) => {
                if let Some(fresh) = &mut self.fresh {
                    fresh.unset(&key);
                }
                if self.facts.unset(&key) {
                    changed.push(key);
                }
            }
            FactLine::All => {
                if let Some(fresh) = self.fresh.take() {
                    let old = std::mem::replace(&mut self.facts, fresh);
                    let keys: BTreeSet<&String> = old.keys().chain(self.facts.keys()).collect();
                    let is_new = |key: &&&String| old.get(key) != self.facts.get(key);
                    changed.extend(keys.iter().filter(is_new).map(|key| (*key).clone()));
                }
            }
            FactLine::Unknown => {}
        }
        Ok(changed)
    }

    /// What is known.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(teller: &mut Teller, facts: &Facts, listener: &mut Listener) {
        while let Some(line) = teller.poll(facts) {
            assert!(line.len() <= MAX_FACT_LINE, "{} bytes", line.len());
            listener.handle_line(&line).unwrap();
        }
    }

    #[test]
    fn a_listener_knows_what_is_told_and_forgets_what_is_not_told_again() {
        let (mut facts, mut listener) = (Facts::default(), Listener::default());
        for key in ["a", "b", "c"] {
            facts.set(key, key).unwrap();
        }
        facts.set("long", &"\u{1}".repeat(MAX_VALUE)).unwrap();
        let mut teller = Teller::new(&facts);
        listener.begin();
        tell(&mut teller, &facts, &mut listener);
        assert_eq!(listener.facts(), &facts);

        // Told as it is now, however often it changed.
        facts.set("a", "1").unwrap();
        facts.set("a", "2").unwrap();
        facts.unset("b");
        for key in ["a", "a", "b"] {
            teller.handle_changed(&facts, key);
        }
        assert_eq!(teller.due.len() + teller.later.len() + teller.gone.len(), 2);
        tell(&mut teller, &facts, &mut listener);
        assert_eq!((listener.facts().get("a"), listener.facts().get("b")), (Some("2"), None));

        // The next session: what it does not tell is known until it has told all.
        facts.unset("c");
        let mut teller = Teller::new(&facts);
        listener.begin();
        assert_eq!(listener.facts().get("c"), Some("c"));
        tell(&mut teller, &facts, &mut listener);
        assert_eq!(listener.facts(), &facts);
    }

    #[test]
    fn a_key_that_never_rests_keeps_back_no_other_nor_that_all_was_told() {
        let mut facts = Facts::default();
        for key in ["a", "b", "c"] {
            facts.set(key, "").unwrap();
        }
        let mut teller = Teller::new(&facts);
        let mut told = Vec::new();
        for number in 0..6 {
            told.push(FactLine::parse(&teller.poll(&facts).unwrap()).unwrap());
            facts.set("a", &number.to_string()).unwrap();
            teller.handle_changed(&facts, "a");
            if number == 3 {
                facts.set("d", "").unwrap();
                teller.handle_changed(&facts, "d");
            }
        }
        let set = |key: &str, value: &str| FactLine::Set(key.to_owned(), value.to_owned());
        let all = [set("a", ""), set("b", ""), set("c", ""), FactLine::All, set("a", "3"), set("d", "")];
        assert_eq!(told, all);
    }

    #[test]
    fn a_full_set_that_changes_is_told_whole_at_any_moment_of_the_telling() {
        for told in [0, 100, 255, 256, 257] {
            let (mut facts, mut listener) = (Facts::default(), Listener::default());
            for number in 0..FACTS {
                facts.set(&format!("k{number}"), "").unwrap();
            }
            let mut teller = Teller::new(&facts);
            listener.begin();
            for _ in 0..told {
                listener.handle_line(&teller.poll(&facts).unwrap()).unwrap();
            }
            // What is new stands before what is gone in the order of keys, and there is no room for both.
            for (gone, new) in [("k98", "a"), ("k99", "b")] {
                facts.unset(gone);
                teller.handle_changed(&facts, gone);
                facts.set(new, "").unwrap();
                teller.handle_changed(&facts, new);
            }
            tell(&mut teller, &facts, &mut listener);
            assert_eq!(listener.facts(), &facts, "after {told}");
        }
    }

    #[test]
    fn a_set_never_grows_beyond_its_bounds() {
        let mut listener = Listener::default();
        listener.begin();
        for number in 0..1000 {
            listener.handle_line(&FactLine::Set(format!("k{number}"), "v".to_owned()).line()).unwrap();
        }
        assert_eq!(listener.facts().iter().count(), FACTS);
        // The next session tells others, and has all the room.
        listener.begin();
        for number in 1000..2000 {
            listener.handle_line(&FactLine::Set(format!("k{number}"), "v".to_owned()).line()).unwrap();
            assert_eq!(listener.facts().iter().count(), FACTS);
        }
        let changed = listener.handle_line(&FactLine::All.line()).unwrap();
        assert_eq!((changed.len(), listener.facts().get("k1000")), (2 * FACTS, Some("v")));
        listener.handle_line(&FactLine::Unset("k1000".to_owned()).line()).unwrap();
        listener.handle_line(&FactLine::Set("k1".to_owned(), "v".to_owned()).line()).unwrap();
        listener.handle_line(&FactLine::Set("k1".to_owned(), "v".repeat(MAX_VALUE + 1)).line()).unwrap();
        assert_eq!(listener.facts().get("k1"), Some("v"));
        let mut facts = Facts::default();
        for key in ["", "a b", "ä", "a\u{1b}", &"k".repeat(129)] {
            assert!(facts.set(key, "").is_err(), "{key:?}");
        }
        assert!(listener.handle_line(b"{\"set\":7}\n").is_err());
        assert_eq!(FactLine::parse(b"{\"later\":1}\n"), Ok(FactLine::Unknown));
    }
}
