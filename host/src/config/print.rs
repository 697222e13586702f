//! Configuration files that are printed: one that explains every option, and one that says what holds.

use clap::ArgMatches;

use super::keys::{Key, Kind};
use super::tables::Tables;
use super::{Origin, Setting};
use crate::store::without_password;

/// A file with every option, its explanation and its default, all of it as comments.
pub(super) fn defaults(program: &str, keys: &[Key]) -> String {
    let mut text = format!(
        "# Configuration of {program}. Each option of the command line is a key here. A line that begins\n\
         # with # and no blank shows what holds without it. What the command line says wins, then the\n\
         # environment (VSPC_ and the option's name, like VSPC_PROXY_PORT), then this file.\n"
    );
    let mut heading = "";
    for key in keys {
        if key.heading != heading {
            heading = &key.heading;
            text += &format!("\n# -- {heading} --\n");
        }
        text += "\n";
        let mut help = key.help.clone();
        if !key.choices.is_empty() {
            help += &format!(" One of {}.", key.choices.join(", "));
        }
        for line in wrap(&help, WIDTH - 2) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{}\n", by_default(key));
    }
    text + TABLES
}

/// A file with all that holds: what somebody has given, and from where, and the rest as comments.
pub(super) fn effective(
    program: &str,
    keys: &[Key],
    settings: &[Setting],
    given: impl Fn(&Key) -> bool,
    matches: &ArgMatches,
    tables: &Tables,
) -> String {
    let mut text =
        format!("# What {program} was given here; lines that begin with # show what is as by default.\n");
    for key in keys {
        let values = given_values(key, matches);
        let origin = match settings.iter().find(|setting| setting.id == key.id) {
            _ if given(key) => Some(Origin::CommandLine),
            Some(setting) => Some(setting.origin.clone()),
            None => None,
        };
        let values = match key.name.as_str() {
            SECRET => values.iter().map(|url| without_password(url)).collect(),
            _ => values,
        };
        text += &match origin {
            Some(origin) => format!("{}  # {origin}\n", assignment(key, &values)),
            None => format!("#{}\n", by_default(key)),
        };
    }
    text + &tables.to_string()
}

/// The name of each option, and its value as a file has it.
pub(super) fn values(keys: &[Key], matches: &ArgMatches) -> Vec<(String, String)> {
    let value = |key: &Key| match (key.kind, given_values(key, matches)) {
        (Kind::Value, values) if values.is_empty() => "unset".to_owned(),
        (_, values) => literals(key, &values),
    };
    keys.iter().map(|key| (key.name.clone(), value(key))).collect()
}

fn given_values(key: &Key, matches: &ArgMatches) -> Vec<String> {
    match key.kind {
        Kind::Flag => vec![matches.get_flag(&key.id).to_string()],
        Kind::Value | Kind::List => {
            let values = matches.get_raw(&key.id).into_iter().flatten();
            values.map(|value| value.to_string_lossy().into_owned()).collect()
        }
    }
}

/// A line that gives this key its default, or shows where a value would stand.
pub(super) fn by_default(key: &Key) -> String {
    assignment(key, &shown_default(key))
}

/// The default, or a word for what stands there.
fn shown_default(key: &Key) -> Vec<String> {
    match (key.kind, key.default.is_empty()) {
        (Kind::Flag, _) => vec!["false".to_owned()],
        (Kind::List, true) => Vec::new(),
        (Kind::Value, true) => vec![key.value_name.clone()],
        (Kind::Value | Kind::List, false) => key.default.clone(),
    }
}

fn assignment(key: &Key, values: &[String]) -> String {
    format!("{} = {}", key.name, literals(key, values))
}

fn literals(key: &Key, values: &[String]) -> String {
    match key.kind {
        Kind::Flag => values.concat(),
        Kind::Value => literal(&values.concat()),
        Kind::List => {
            let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

/// A number as it is, anything else in quotes (TOML, "String": a basic string).
pub(super) fn literal(value: &str) -> String {
    if value.parse::<u64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let is_full =
            lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if is_full {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("there is always one");
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

/// What a file may have behind the options.
const TABLES: &str = "
# -- Tables: behind all options, each as often as you like --

# Tells of lines that match a regular expression (pattern-seen): as an event, to --on-event and --events-to.
#[[watch]]
#name = \"panic\"
#pattern = \"Kernel panic|Oops:|BUG:\"
#console = [\"web*\", \"db*\"]
#at-most = \"10/minute\"

# What is otherwise at some consoles, by name or UUID, or lists of them with * and ?. The first that matches
# counts, all of it.
#[[console]]
#name = \"plc*\"
#uuid = \"564d0000-*\"
#port = 20001
#raw = true
#log = false
#slow-client = \"wait\"
#forward = \"tcp://attach.example.com:2377\"
#max-clients = 1
#multi-console = true
#may = [\"uid:1000=writer\", \"10.0.0.0/8=spectator\"]

# Serial lines that come without a concentrator's protocol; each is a console.
#[[line]]
#name = \"plc1\"
#uri = \"telnet://10.0.0.5:2001\"
#uuid = \"564d0000-0000-0000-0000-000000000001\"
";

/// The option whose value may have a password in it.
const SECRET: &str = "redis-url";

/// How wide a printed file is.
const WIDTH: usize = 100;
