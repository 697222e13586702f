//! Tables of the configuration file, each of which is about something of which there may be several.
//!
//! **Owns** their form, and what is said of a fault, with the line it is in. **Refuses to know** what comes
//! of them.

use std::fmt::{self, Write as _};

use toml::de::{DeTable, DeValue};
use vspc_core::admin::operator;
use vspc_core::concentrator::{
    ConsoleRule, Mux, NoMux, Pattern, RulePort, SerialLine, SlowClient, take_mux, uuid_of_line,
};
use vspc_core::vmware::Uuid;

use crate::console_rules::{Rule, Rules};
use crate::dialer;
use crate::guests::KeyFile;
use crate::watching::{self, MOST_WATCHES, Rate, Selector, Watch};

/// What the file has in tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tables {
    /// `[[watch]]`.
    pub(crate) watches: Vec<Watch>,
    /// `[[console]]`.
    pub(crate) consoles: Rules,
    /// `[[line]]`.
    pub(crate) lines: Vec<SerialLine>,
    /// What of that says whose serial ports are told apart, which stays as it was at the start.
    pub(crate) multi_consoles: Vec<(Pattern, bool)>,
}

/// Says where a byte of the file is.
pub(super) type Place<'a> = &'a dyn Fn(usize) -> String;

impl Tables {
    /// Whether there are tables of this name.
    pub(super) fn have(name: &str) -> bool {
        [WATCH, CONSOLE, LINE].contains(&name)
    }

    /// A client port that a console is to have, if there is one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.ports().next()
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        self.consoles.0.iter().filter_map(own_port)
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
            match name {
                WATCH => self.watches.extend(watch(&mut fields)),
                LINE => {
                    let line = line(&mut fields);
                    let twin = line
                        .as_ref()
                        .and_then(|line| self.lines.iter().find(|other| line.is_console_of(other)));
                    match twin {
                        Some(other) if line.as_ref().is_some_and(|line| line.name == other.name) => {
                            fields.fault("name", &format!("= {:?} is that of another line", other.name));
                        }
                        Some(other) => fields.fault("uuid", &format!("is that of line {:?}", other.name)),
                        None => self.lines.extend(line),
                    }
                }
                _ => {
                    let rule = rule(&mut fields);
                    let port = own_port(&rule);
                    if let Some(port) = port.filter(|port| self.ports().any(|other| other == *port)) {
                        fields.fault("port", &format!("= {port} is that of another rule"));
                    }
                    self.consoles.0.push(rule);
                }
            }
        }
        self.multi_consoles = self.consoles.multi_consoles();
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
        for rule in &self.consoles.0 {
            writeln!(f, "\n[[{CONSOLE}]]")?;
            for (key, value) in selector_of(rule).into_iter().chain(effects_of(rule)) {
                writeln!(f, "{key} = {value}")?;
            }
        }
        for SerialLine { name, uuid, place, mux } in &self.lines {
            let [name, place] = [name, &place.to_string()].map(|text| super::print::literal(text));
            writeln!(f, "\n[[{LINE}]]\nname = {name}\nuri = {place}\nuuid = \"{}\"", uuid.simple())?;
            if let Some(mux) = mux {
                writeln!(f, "mux = \"{mux}\"")?;
            }
        }
        Ok(())
    }
}

/// Which consoles a rule is about, as a file says it.
pub(super) fn selector_of(rule: &Rule) -> Vec<(&'static str, String)> {
    let names = listed(rule.engines.iter().filter_map(|rule| rule.name.as_ref()));
    let uuids = listed(rule.engines.iter().filter_map(|rule| rule.uuid.as_ref()));
    let both = [("name", names), ("uuid", uuids)].into_iter();
    both.filter_map(|(key, value)| Some((key, value?))).collect()
}

/// What is otherwise there, as a file says it.
pub(super) fn effects_of(Rule { engines, log, multi }: &Rule) -> Vec<(&'static str, String)> {
    let Some(ConsoleRule { port, raw, slow_client, max_clients, may, forward, mux, guest_key, .. }) =
        engines.first()
    else {
        return Vec::new();
    };
    let port = match port {
        RulePort::Any => None,
        RulePort::This(port) => Some(port.to_string()),
        RulePort::None => Some("\"none\"".to_owned()),
    };
    let slow_client = slow_client.map(|policy| {
        let word = SLOW_CLIENTS.iter().find(|(_, known)| *known == policy).map_or("", |(word, _)| word);
        format!("\"{word}\"")
    });
    let max_clients = max_clients.map(|most| most.map_or("\"none\"".to_owned(), |most| most.to_string()));
    let may = may.as_ref().map(|may| {
        let all: Vec<_> = may.iter().map(|rule| super::print::literal(&rule.to_string())).collect();
        format!("[{}]", all.join(", "))
    });
    let all = [
        ("port", port),
        ("raw", raw.map(|raw| raw.to_string())),
        ("log", log.map(|log| log.to_string())),
        ("slow-client", slow_client),
        ("max-clients", max_clients),
        ("may", may),
        ("forward", forward.as_ref().map(|target| super::print::literal(&target.to_string()))),
        ("mux", mux.map(|mux| format!("\"{mux}\""))),
        (GUEST_KEY, guest_key.as_ref().map(|key| super::print::literal(key.file()))),
        (MULTI_CONSOLE, multi.map(|multi| multi.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Patterns as a list, each once; `None`: there are none.
fn listed<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    for pattern in patterns {
        let pattern = super::print::literal(&pattern.to_string());
        if !all.contains(&pattern) {
            all.push(pattern);
        }
    }
    (!all.is_empty()).then(|| format!("[{}]", all.join(", ")))
}

fn watch(fields: &mut Fields<'_, '_>) -> Option<Watch> {
    let pattern = fields.take("pattern", |value| watching::Pattern::parse(text(value)?));
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

fn line(fields: &mut Fields<'_, '_>) -> Option<SerialLine> {
    let name = fields.take("name", |value| dialer::line_name(text(value)?).map(str::to_owned));
    let mut mux = None;
    let place = fields.take("uri", |value| {
        let (uri, own) = take_mux(text(value)?).map_err(|why| why.to_string())?;
        mux = own;
        dialer::line_place(&uri)
    });
    let mux = fields.take("mux", multiplexer).or(mux);
    let uuid = fields.take("uuid", |value| {
        let uuid = Uuid::parse(text(value)?.as_bytes()).ok().filter(|uuid| !uuid.is_nil());
        uuid.ok_or_else(|| "is a UUID: 32 hexadecimal digits, with or without dashes".to_owned())
    });
    let lacks = ["name", "uri"].map(|key| !fields.had(key));
    fields.end(&["name", "uri", "uuid", "mux"]);
    for (key, lacks) in ["name", "uri"].into_iter().zip(lacks) {
        if lacks {
            fields.fault(key, "is missing: a line has a name, and a uri that says where it is");
        }
    }
    let name = name?;
    Some(SerialLine { uuid: uuid.unwrap_or_else(|| uuid_of_line(&name)), place: place?, name, mux })
}

/// The rule of a table: it is about each of its names with each of its UUIDs.
fn rule(fields: &mut Fields<'_, '_>) -> Rule {
    let names = fields.take("name", patterns);
    let uuids = fields.take("uuid", |value| patterns(value).map(|all| all.iter().map(lower).collect()));
    let port = fields.take("port", |value| match value {
        DeValue::String(text) if text == "none" => Ok(RulePort::None),
        value => match number(value).map(u16::try_from) {
            Some(Ok(port @ 1..)) => Ok(RulePort::This(port)),
            _ => Err("is a number from 1 to 65535, or \"none\"".to_owned()),
        },
    });
    let raw = fields.take("raw", flag);
    let log = fields.take("log", flag);
    let slow_client = fields.take("slow-client", |value| {
        let known = SLOW_CLIENTS.iter().find(|(word, _)| value.as_str() == Some(word));
        known.map(|(_, policy)| *policy).ok_or_else(|| "is \"skip\", \"disconnect\" or \"wait\"".to_owned())
    });
    let max_clients = fields.take("max-clients", |value| match (value, number(value)) {
        (DeValue::String(text), _) if text == "none" => Ok(None),
        (_, Some(most @ 1..=1_000_000)) => Ok(Some(most as usize)),
        _ => Err("is a number from 1 to 1000000, or \"none\"".to_owned()),
    });
    let may = fields.take("may", rights);
    let forward = fields.take("forward", |value| dialer::target(text(value)?));
    let mux = fields.take("mux", multiplexer);
    let guest_key = fields.take(GUEST_KEY, |value| text(value)?.parse::<KeyFile>().map(|file| file.0));
    let multi = fields.take(MULTI_CONSOLE, flag);
    let is_about_nobody = !fields.had("name") && !fields.had("uuid");
    fields.end(&[
        "name",
        "uuid",
        "port",
        "raw",
        "log",
        "slow-client",
        "max-clients",
        "may",
        "forward",
        "mux",
        GUEST_KEY,
        MULTI_CONSOLE,
    ]);
    if may.is_some() {
        if let Some(RulePort::This(port)) = port {
            let why = format!(
                "= {port} does not go with may: who connects to a client port does not say who that is. \
                 Leave it out; the console is reached by the admin port"
            );
            fields.fault("port", &why);
        }
        if raw.is_some() {
            fields.fault("raw", "does not go with may: the console has no client port");
        }
    }
    if multi.is_some() && fields.had("name") {
        fields.fault(
            MULTI_CONSOLE,
            "goes with uuid alone: which consoles there are is decided before names are known",
        );
    }
    if is_about_nobody {
        fields.fault("name or uuid", "is missing: they say which consoles are meant");
    }
    let all = |patterns: Option<Vec<Pattern>>| match patterns {
        Some(patterns) => patterns.into_iter().map(Some).collect(),
        None => vec![None],
    };
    let (names, uuids, port): (Vec<_>, Vec<_>, _) = (all(names), all(uuids), port.unwrap_or_default());
    let each = names.iter().flat_map(|name| uuids.iter().map(move |uuid| (name.clone(), uuid.clone())));
    let engines = each.map(|(name, uuid)| {
        let (may, forward, guest_key) = (may.clone(), forward.clone(), guest_key.clone());
        ConsoleRule { name, uuid, port, raw, slow_client, max_clients, may, forward, mux, guest_key }
    });
    Rule { engines: engines.collect(), log, multi }
}

fn own_port(rule: &Rule) -> Option<u16> {
    match rule.engines.first()?.port {
        RulePort::This(port) => Some(port),
        RulePort::Any | RulePort::None => None,
    }
}

fn lower(pattern: &Pattern) -> Pattern {
    // Never empty: the other is not.
    pattern.to_string().to_lowercase().parse().unwrap_or_else(|_| pattern.clone())
}

/// How streams are carried on a line.
fn multiplexer(value: &DeValue<'_>) -> Result<Mux, String> {
    text(value)?.parse().map_err(|why: NoMux| why.to_string())
}

/// Patterns of whole names: one, or a list.
fn patterns(value: &DeValue<'_>) -> Result<Vec<Pattern>, String> {
    let texts = match value {
        DeValue::Array(values) => {
            values.iter().map(|value| text(value.get_ref())).collect::<Result<_, _>>()?
        }
        value => vec![text(value)?],
    };
    let all: Result<Vec<Pattern>, _> = texts.iter().map(|text| text.parse()).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| "means no console: give at least one".to_owned())
}

/// Who may do what at a console: one rule, or a list; of an empty one nobody.
fn rights(value: &DeValue<'_>) -> Result<operator::Rules, String> {
    let texts = match value {
        DeValue::Array(values) => {
            values.iter().map(|value| text(value.get_ref())).collect::<Result<_, _>>()?
        }
        value => vec![text(value)?],
    };
    let read = |text: &&str| match text.parse::<operator::Rule>() {
        Ok(rule) if rule.delegates() => {
            Err(format!("has {text:?}: who may speak for others is for admin-rights to say"))
        }
        read => read.map_err(|error| format!("cannot be read: {error}")),
    };
    texts.iter().map(read).collect::<Result<_, _>>().map(operator::Rules::new)
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

fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "is true or false, without quotes".to_owned())
}

fn number(value: &DeValue<'_>) -> Option<u32> {
    value.as_integer().filter(|number| number.radix() == 10)?.as_str().parse().ok()
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

/// The name of the tables of serial lines.
pub(super) const LINE: &str = "line";
const CONSOLE: &str = "console";

/// The file with what the agents there have to know.
const GUEST_KEY: &str = "guest-key-file";

/// What of a rule takes a restart.
pub(super) const MULTI_CONSOLE: &str = "multi-console";

const SLOW_CLIENTS: [(&str, SlowClient); 3] =
    [("skip", SlowClient::Skip), ("disconnect", SlowClient::Disconnect), ("wait", SlowClient::Wait)];

/// Letters of a watch's name, at the most.
const LONGEST_NAME: usize = 64;
