//! The options as keys of a configuration file, read off clap's own definitions: an option that the command
//! line has is a key, and cannot be forgotten.
//!
//! **Owns** which options are no keys, and what kind of value each key takes. **Refuses to know** what the
//! values mean.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};

/// An option that the file and the environment may give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// What clap knows it by.
    pub id: String,
    /// Its name, as behind `--`.
    pub name: String,
    /// Other names that the command line takes.
    pub aliases: Vec<String>,
    pub kind: Kind,
    pub heading: String,
    pub help: String,
    /// What its value is called in help.
    pub value_name: String,
    /// The values that it takes, where they are few.
    pub choices: Vec<String>,
    /// What it is if nobody gives it; empty if that is no value of its own.
    pub default: Vec<String>,
}

/// What a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// True or false.
    Flag,
    /// One value.
    Value,
    /// One or several.
    List,
}

impl Key {
    /// The variable of the environment that gives it.
    pub(super) fn variable(&self) -> String {
        format!("VSPC_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The keys, in the order in which help has them.
pub(super) fn of(command: &Command) -> Vec<Key> {
    let mut keys: Vec<Key> = command.get_arguments().filter_map(key).collect();
    let headings: Vec<String> = keys.iter().map(|key| key.heading.clone()).collect();
    keys.sort_by_key(|key| headings.iter().position(|heading| *heading == key.heading));
    keys
}

fn key(arg: &Arg) -> Option<Key> {
    let id = arg.get_id().as_str();
    if COMMAND_LINE_ONLY.contains(&id) {
        return None;
    }
    let kind = match arg.get_action() {
        ArgAction::SetTrue => Kind::Flag,
        ArgAction::Append => Kind::List,
        _ => Kind::Value,
    };
    let choices = match kind {
        Kind::Flag => Vec::new(),
        Kind::Value | Kind::List => {
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
        }
    };
    let default = match kind {
        Kind::Flag => Vec::new(),
        Kind::Value | Kind::List => {
            arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect()
        }
    };
    Some(Key {
        id: id.to_owned(),
        name: arg.get_long()?.to_owned(),
        aliases: arg.get_all_aliases().into_iter().flatten().map(str::to_owned).collect(),
        kind,
        heading: arg.get_help_heading().unwrap_or_default().to_owned(),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        value_name: arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default(),
        choices,
        default,
    })
}

/// What a file that has this key is told: it is no option.
pub(super) fn unknown(command: &Command, keys: &[Key], name: &str) -> String {
    if let Some(key) = keys.iter().find(|key| key.aliases.iter().any(|alias| alias == name)) {
        return format!("{name} is called {} here", key.name);
    }
    if COMMAND_LINE_ONLY.contains(&name.replace('-', "_").as_str()) {
        return format!("{name} is for the command line");
    }
    // clap knows which of its options a wrong one is most like.
    let tried = command.clone().try_get_matches_from([command.get_name(), &format!("--{name}")]);
    let suggested = tried.err().and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(option)) => Some(option.trim_start_matches('-').to_owned()),
        _ => None,
    });
    match suggested.filter(|option| keys.iter().any(|key| key.name == *option)) {
        Some(option) => format!("{name} is no option; did you mean {option}?"),
        None => format!("{name} is no option; --print-default-config shows all"),
    }
}

/// What is about the file itself, or ends at once.
pub(super) const COMMAND_LINE_ONLY: [&str; 8] = [
    "config",
    "check_config",
    "print_config",
    "print_default_config",
    "doctor",
    "doctor_vms",
    "help",
    "version",
];
