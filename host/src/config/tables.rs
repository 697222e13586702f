//! Tables of the configuration file, each of which is about something of which there may be several.
//!
//! **Owns** their form, and what is said of a fault, with the line it is in. **Refuses to know** what comes
//! of them.

use std::fmt::{self, Write as _};

use toml::de::{DeTable, DeValue};

use crate::watching::{MOST_WATCHES, Pattern, Rate, Selector, Watch};

/// What the file has in tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tables {
    /// `[[watch]]`.
    pub(crate) watches: Vec<Watch>,
}

/// Says where a byte of the file is.
pub(super) type Place<'a> = &'a dyn Fn(usize) -> String;

impl Tables {
    /// Whether there are tables of this name.
    pub(super) fn have(name: &str) -> bool {
        name == WATCH
    }

    /// Reads the tables of this name, which [`have`](Self::have) says there are.
    pub(super) fn read(
        &mut self,
        name: &str,
        value: &DeValue<'_>,
        at: &str,
        place: Place<'_>,
        faults: &mut Vec<String>,
    ) {
        let DeValue::Array(tables) = value else {
            return faults.push(format!("{at}: {name} is a table of which there may be several: [[{name}]]"));
        };
        for table in tables {
            let here = place(table.span().start);
            let DeValue::Table(fields) = table.get_ref() else {
                faults.push(format!("{here}: {name} is a table of which there may be several: [[{name}]]"));
                continue;
            };
            let mut fields = Fields::new(name, fields, here, place, faults);
            if let Some(watch) = watch(&mut fields) {
                self.watches.push(watch);
            }
        }
        if self.watches.len() > MOST_WATCHES {
            faults.push(format!("{at}: there may be {MOST_WATCHES} [[{WATCH}]] at the most"));
        }
        for (n, watch) in self.watches.iter().enumerate() {
            if self.watches[..n].iter().any(|other| other.name == watch.name) {
                faults.push(format!("{at}: two [[{WATCH}]] have the name {:?}", watch.name));
            }
        }
    }
}

/// The tables as a file has them.
impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Watch { name, pattern, consoles, at_most } in &self.watches {
            let pattern = super::print::literal(pattern.text());
            writeln!(f, "\n[[{WATCH}]]\nname = {}\npattern = {pattern}", super::print::literal(name))?;
            let consoles: Vec<_> = consoles.patterns().map(super::print::literal).collect();
            if !consoles.is_empty() {
                writeln!(f, "console = [{}]", consoles.join(", "))?;
            }
            writeln!(f, "at-most = \"{at_most}\"")?;
        }
        Ok(())
    }
}

fn watch(fields: &mut Fields<'_, '_>) -> Option<Watch> {
    let pattern = fields.take("pattern", |value| Pattern::parse(text(value)?));
    let name = fields.take("name", |value| match text(value)? {
        "" => Err("is empty: leave it out, or give a word".to_owned()),
        name if name.chars().count() > LONGEST_NAME => Err(format!("has {LONGEST_NAME} letters at most")),
        name => Ok(name.to_owned()),
    });
    let consoles = fields.take("console", selector);
    let at_most = fields.take("at-most", |value| Rate::parse(text(value)?));
    let lacks_pattern = !fields.had("pattern");
    fields.end(&["name", "pattern", "console", "at-most"]);
    if lacks_pattern {
        fields.fault("pattern", "is missing: it says what to look for");
    }
    let pattern = pattern?;
    let name = name.unwrap_or_else(|| pattern.text().chars().take(LONGEST_NAME).collect());
    let (consoles, at_most) = (consoles.unwrap_or_default(), at_most.unwrap_or_default());
    Some(Watch { name, pattern, consoles, at_most })
}

/// Patterns of names and UUIDs: one, or a list.
fn selector(value: &DeValue<'_>) -> Result<Selector, String> {
    let patterns = match value {
        DeValue::Array(values) => {
            values.iter().map(|value| text(value.get_ref())).collect::<Result<_, _>>()?
        }
        value => vec![text(value)?],
    };
    match patterns.iter().any(|pattern| pattern.is_empty()) || patterns.is_empty() {
        true => Err("means no console: give a name, a UUID, or a pattern with * or ?".to_owned()),
        false => Ok(Selector::new(patterns)),
    }
}

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(format!("takes text in quotes, not a {}", other.type_str())),
    }
}

/// The fields of one table.
struct Fields<'a, 'f> {
    table: &'a str,
    at: String,
    fields: Vec<(&'a str, &'a DeValue<'a>, String)>,
    taken: Vec<&'static str>,
    faults: &'f mut Vec<String>,
}

impl<'a, 'f> Fields<'a, 'f> {
    fn new(
        table: &'a str,
        fields: &'a DeTable<'a>,
        at: String,
        place: Place<'_>,
        faults: &'f mut Vec<String>,
    ) -> Self {
        let mut found: Vec<_> = fields.iter().collect();
        found.sort_by_key(|(name, _)| name.span().start);
        let fields = found
            .into_iter()
            .map(|(name, value)| (name.get_ref().as_ref(), value.get_ref(), place(name.span().start)));
        Self { table, at, fields: fields.collect(), taken: Vec::new(), faults }
    }

    /// The value of a field, if it is there and makes sense.
    fn take<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let place = self.fields.iter().position(|(known, _, _)| *known == name)?;
        let (_, value, at) = self.fields.remove(place);
        self.taken.push(name);
        match read(value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.faults.push(format!("{at}: {name} {why}"));
                None
            }
        }
    }

    fn had(&self, name: &str) -> bool {
        self.taken.contains(&name)
    }

    fn fault(&mut self, name: &str, why: &str) {
        self.faults.push(format!("{}: [[{}]]: {name} {why}", self.at, self.table));
    }

    /// What is left is unknown: these are the fields that there are.
    fn end(&mut self, known: &[&str]) {
        for (name, _, at) in self.fields.drain(..) {
            let mut line = format!("{at}: [[{}]] has no {name}", self.table);
            // Writing to a string cannot fail.
            let _ = match known.iter().find(|known| is_nearly(name, known)) {
                Some(near) => write!(line, "; did you mean {near}?"),
                None => write!(line, "; it has {}", known.join(", ")),
            };
            self.faults.push(line);
        }
    }
}

/// Whether one word is the other with a slip or two: letters missed, doubled, swapped, `_` for `-`.
fn is_nearly(word: &str, other: &str) -> bool {
    let (word, other): (Vec<char>, Vec<char>) =
        (word.replace('_', "-").chars().collect(), other.chars().collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in word.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, wanted) in other.iter().enumerate() {
            let here = (diagonal + usize::from(letter != wanted)).min(row[j].min(row[j + 1]) + 1);
            diagonal = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[other.len()] <= 2.min(other.len() / 2)
}

const WATCH: &str = "watch";

/// Letters of a watch's name, at the most.
const LONGEST_NAME: usize = 64;
