//! `vspc facts`: what a guest tells of itself, and what it is told.
//!
//! Owns what the words behind the name mean, and how facts are shown.

use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};
use vspc_guest::{LineBuffer, Listener, MAX_FACT_LINE};
use vspc_operator::News;

use crate::args::FactsArgs;
use crate::attach::reconnect::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::clock;
use crate::connection::Connection;
use crate::endings::{describe, failure};
use crate::failure::{Code, Failure};
use crate::guest::Guest;
use crate::output;
use crate::printable::{json as json_text, printable};
use crate::table::columns;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    All,
    One(String),
    Set(Vec<(String, String)>),
    Unset(Vec<String>),
}

impl Asked {
    fn parse(words: &[String]) -> Result<Self, Failure> {
        match words {
            [] => Ok(Self::All),
            [set, facts @ ..] if set == "set" => {
                let facts: Option<Vec<_>> = facts
                    .iter()
                    .map(|fact| fact.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
                    .collect();
                let is_some = |facts: &Vec<_>| !facts.is_empty();
                let hint = "give what is to be set like KEY=VALUE";
                facts.filter(is_some).map(Self::Set).ok_or_else(|| Failure::usage(hint))
            }
            [unset, keys @ ..] if unset == "unset" => match keys {
                [] => Err(Failure::usage("say which key is to be unset")),
                keys => Ok(Self::Unset(keys.to_vec())),
            },
            [key] => Ok(Self::One(key.clone())),
            _ => Err(Failure::usage("behind the name stands a key, set KEY=VALUE…, or unset KEY…")),
        }
    }
}

pub(crate) fn run(mut connection: Connection, args: &FactsArgs) -> Result<(), Failure> {
    let asked = Asked::parse(&args.words)?;
    let changes: Vec<(&String, Option<&String>)> = match &asked {
        Asked::Set(facts) => facts.iter().map(|(key, value)| (key, Some(value))).collect(),
        Asked::Unset(keys) => keys.iter().map(|key| (key, None)).collect(),
        Asked::All | Asked::One(_) => Vec::new(),
    };
    if !changes.is_empty() && (args.watch || args.json || args.host) {
        return Err(Failure::usage("--watch, --json and --host are for facts that are shown"));
    }
    let mut guest = Guest::find(&mut connection, &args.console.name)?;
    for (key, value) in &changes {
        let fields = json!({"console": guest.reference, "key": key, "value": value});
        connection.call("set-fact", fields)?;
    }
    if !changes.is_empty() {
        return Ok(());
    }
    let key = if let Asked::One(key) = asked { Some(key) } else { None };
    let mut shown = Shown { args, key, listener: Listener::default(), is_first: true };
    loop {
        let why = match shown.read(&mut connection, &guest)? {
            Outcome::Told => return Ok(()),
            Outcome::Gone(why) if args.watch => why,
            Outcome::Gone(why) => return Err(Failure::no_connection(why)),
        };
        output::tell(format_args!("{why}; reconnecting"));
        connection = again(&connection, &mut guest)?;
        output::tell("connected again");
    }
}

/// Connects again, as often as it takes.
fn again(connection: &Connection, guest: &mut Guest) -> Result<Connection, Failure> {
    let mut pause = FIRST_PAUSE;
    loop {
        let back = Connection::open(connection.server()).and_then(|mut connection| {
            guest.find_again(&mut connection)?;
            Ok(connection)
        });
        match back {
            Err(failure) if matches!(failure.code, Code::NoConnection | Code::NoSuchConsole) => {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// How reading has ended.
enum Outcome {
    /// All was told that was asked for.
    Told,
    /// The server went away.
    Gone(String),
}

/// Facts as they are shown.
struct Shown<'a> {
    args: &'a FactsArgs,
    key: Option<String>,
    listener: Listener,
    /// Nothing was shown yet.
    is_first: bool,
}

impl Shown<'_> {
    /// Reads facts of a guest until all was told, or for ever.
    fn read(&mut self, connection: &mut Connection, guest: &Guest) -> Result<Outcome, Failure> {
        let of = if self.args.host { "host" } else { "guest" };
        let fields = json!({"console": guest.reference, "of": of});
        let Some((id, stream)) = connection.request_stream("facts", fields) else {
            return Err(Failure::error("no more streams can be opened on one connection"));
        };
        self.listener.begin();
        let (mut line, mut told_all, mut changed) = (LineBuffer::new(MAX_FACT_LINE), false, Vec::new());
        loop {
            while let Some(news) = connection.poll() {
                match news {
                    News::Answer(of, Err(refusal)) if of == id && refusal.code == "no-agent" => {
                        return Err(Failure::error(format!("{} has told no facts", guest.name)));
                    }
                    News::Answer(of, Err(refusal)) if of == id => return Err(failure(&refusal)),
                    News::Reset(of) if of == stream => {
                        return Err(Failure::error("the server ended it: the console is gone, or a right"));
                    }
                    News::Over(ending) => return Ok(Outcome::Gone(describe(&ending))),
                    _ => {}
                }
            }
            loop {
                let has_ended = connection.receive(stream, |bytes| line.take(bytes));
                let Some(came) = line.line() else {
                    if has_ended {
                        return Err(Failure::error(format!("the console {} is gone", guest.name)));
                    }
                    break;
                };
                let came = came.map_err(|refusal| Failure::error(refusal.message))?;
                let is_all = matches!(vspc_guest::FactLine::parse(came), Ok(vspc_guest::FactLine::All));
                let more = self.listener.handle_line(came);
                changed.extend(more.map_err(|refusal| Failure::error(refusal.message))?);
                line.clear();
                if is_all && !told_all {
                    told_all = true;
                    self.show_all(guest, &std::mem::take(&mut changed))?;
                    if !self.args.watch {
                        connection.finish(stream);
                        return Ok(Outcome::Told);
                    }
                } else if told_all {
                    self.show_changes(&std::mem::take(&mut changed))?;
                }
            }
            connection.wait(clock::now() + IDLE);
        }
    }

    /// All was told: at first all of it is shown, later what has become another.
    fn show_all(&mut self, guest: &Guest, changed: &[String]) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_first, false) {
            return self.show_changes(changed);
        }
        let facts = self.listener.facts();
        if let Some(key) = &self.key {
            return match facts.get(key) {
                Some(value) if self.args.json => output::print([json_text(&value.into())]),
                Some(value) => output::print([printable(value)]),
                None if self.args.watch => Ok(()),
                None => {
                    let what = format!("{} has no fact {}", guest.name, printable(key));
                    Err(Failure::error(what))
                }
            };
        }
        if self.args.json && !self.args.watch {
            let object: Map<String, Value> =
                facts.iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
            return output::print([json_text(&object.into())]);
        }
        if self.args.json {
            return output::print(
                facts.iter().map(|(key, value)| json_text(&json!({"set": key, "to": value}))),
            );
        }
        let row = |(key, value): (&str, &str)| [key, value].map(|text| printable(text).into_owned()).to_vec();
        output::print(columns(&facts.iter().map(row).collect::<Vec<_>>()))
    }

    fn show_changes(&self, changed: &[String]) -> Result<(), Failure> {
        let is_meant = |key: &&String| self.key.as_ref().is_none_or(|meant| meant == *key);
        let lines = changed.iter().filter(is_meant).map(|key| {
            let value = self.listener.facts().get(key);
            match value {
                Some(value) if self.args.json => json_text(&json!({"set": key, "to": value})),
                None if self.args.json => json_text(&json!({"unset": key})),
                Some(value) if self.key.is_some() => printable(value).into_owned(),
                Some(value) => format!("{}  {}", printable(key), printable(value)),
                None => format!("{} is unset", printable(key)),
            }
        });
        output::print(lines)
    }
}

/// How often a connection is looked after on which nothing happens.
const IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_the_name_are_a_key_or_what_is_to_be_set() {
        let parse = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Asked::parse(&words).map_err(|failure| failure.code)
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse(&[]), Ok(Asked::All));
        assert_eq!(parse(&["os.name"]), Ok(Asked::One("os.name".to_owned())));
        assert_eq!(parse(&["set", "a=b=c", "d="]), Ok(Asked::Set(vec![pair("a", "b=c"), pair("d", "")])));
        assert_eq!(parse(&["unset", "a"]), Ok(Asked::Unset(vec!["a".to_owned()])));
        for wrong in [&["set"][..], &["set", "a"], &["unset"], &["a", "b"]] {
            assert_eq!(parse(wrong), Err(Code::Usage), "{wrong:?}");
        }
    }
}
