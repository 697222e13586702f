//! The configuration file: TOML whose keys are the options of the command line.
//!
//! **Owns** the file's form, and what is said of a fault, with the line it is in. **Refuses to know** what
//! wins over it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use clap::Command;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, Kind};
use super::tables::Tables;
use super::{Origin, Setting, check};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) settings: Vec<Setting>,
    pub(super) tables: Tables,
    /// What is wrong with it, a line each.
    pub(super) faults: Vec<String>,
}

/// Reads the file, and says of every setting that is wrong what is.
pub(super) fn read(path: &Path, command: &Command, keys: &[Key]) -> io::Result<Read> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("a configuration has at most {} KiB", LONGEST >> 10)));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8 text"))?;
    Ok(parse(&text, path, command, keys))
}

fn parse(text: &str, path: &Path, command: &Command, keys: &[Key]) -> Read {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let place = |at: usize| format!("{}:{}", path.display(), line(at));
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = place(error.span().map_or(0, |span| span.start));
            let why = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            return Read { faults: vec![format!("{at}: {why}")], ..Read::default() };
        }
    };
    let Read { mut settings, mut tables, mut faults } = Read::default();
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let at = place(name.span().start);
        let name = name.get_ref().as_ref();
        if Tables::have(name) {
            tables.read(name, value.get_ref(), &at, &place, &mut faults);
            continue;
        }
        let given = match keys.iter().find(|key| key.name == name) {
            None if value.get_ref().is_table() || is_tables(value.get_ref()) => Err(format!(
                "{name}: there are no sections but [[watch]], [[console]] and [[line]]; options stand by \
                 themselves"
            )),
            None => Err(keys::unknown(command, keys, name)),
            Some(key) => arguments(key, value.get_ref()).and_then(|args| {
                let setting = Setting { id: key.id.clone(), args, origin: Origin::File(at.clone()) };
                check(command, key, &setting).map(|()| setting)
            }),
        };
        match given {
            Ok(setting) => settings.push(setting),
            Err(why) => faults.push(format!("{at}: {why}")),
        }
    }
    Read { settings, tables, faults }
}

/// `[[name]]`.
fn is_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|values| values.iter().any(|value| value.get_ref().is_table()))
}

/// What stands for this value on a command line.
fn arguments(key: &Key, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    let name = &key.name;
    let option = |value: &str| OsString::from(format!("--{name}={value}"));
    match (key.kind, value) {
        (Kind::Flag, DeValue::Boolean(true)) => Ok(vec![format!("--{name}").into()]),
        (Kind::Flag, DeValue::Boolean(false)) => Ok(Vec::new()),
        (Kind::Flag, _) => Err(format!("{name} is true or false, without quotes")),
        (Kind::List, DeValue::Array(values)) => {
            values.iter().map(|value| scalar(name, value.get_ref()).map(|value| option(&value))).collect()
        }
        (Kind::Value, DeValue::Array(_)) => Err(format!("{name} takes one value, not a list")),
        (Kind::Value | Kind::List, value) => Ok(vec![option(&scalar(name, value)?)]),
    }
}

fn scalar(name: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        // Also a mode: 0o660 is not what chmod calls 660.
        DeValue::Integer(_) => Err(format!("{name}: write the number in decimal digits, a mode in quotes")),
        DeValue::Boolean(_) => Err(format!("{name} takes a value in quotes, not true or false")),
        other => Err(format!("{name} takes a number, or text in quotes, not a {}", other.type_str())),
    }
}

/// The longest file in bytes: all options with their explanations are a sixtieth of it.
const LONGEST: u64 = 1 << 20;
