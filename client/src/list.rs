//! `vspc list`: the consoles, once or as they change.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::time::Instant;

use crate::args::ListArgs;
use crate::clock;
use crate::connection::Connection;
use crate::endings::{describe, failure};
use crate::failure::Failure;
use crate::names::name_of;
use crate::output;
use crate::printable::{json as json_text, printable};
use crate::table::table;
use crate::terminal;
use crate::units;
use vspc_operator::News;

pub(crate) fn run(connection: &mut Connection, args: &ListArgs) -> Result<(), Failure> {
    if args.watch {
        return watch(connection, args);
    }
    let with = if args.last_line { &["last_line"][..] } else { &[] };
    let mut consoles = connection.list_with(with, args.pattern.as_deref(), usize::MAX)?;
    sort(&mut consoles);
    match args.json {
        true => output::print([json_text(&Value::Array(consoles))]),
        false => output::print(lines(&consoles, args.last_line)),
    }
}

/// Shows the list again whenever it changes: on a terminal in place, elsewhere as lines.
fn watch(connection: &mut Connection, args: &ListArgs) -> Result<(), Failure> {
    let subscription = connection.request("subscribe", json!({"to": "consoles", "match": args.pattern}));
    let on_screen = !args.json && io::stdout().is_terminal();
    let mut shown = Shown::default();
    let mut redraw_at = None;
    loop {
        while let Some(news) = connection.poll() {
            match news {
                News::Answer(id, Err(refusal)) if id == subscription => return Err(failure(&refusal)),
                News::Over(ending) => return Err(Failure::no_connection(describe(&ending))),
                News::Notice(notice) => {
                    if !on_screen {
                        let text = if args.json { Some(json_text(&notice)) } else { shown.change(&notice) };
                        output::print(text)?;
                    }
                    shown.take(notice);
                    if on_screen && shown.synced {
                        redraw_at = Some(clock::now());
                    }
                }
                _ => {}
            }
        }
        if redraw_at.is_some_and(|at| at <= clock::now()) {
            shown.draw().map_err(|error| Failure::output(&error))?;
            redraw_at = Some(clock::now() + REDRAW);
        }
        connection.wait(redraw_at.unwrap_or(clock::now() + REDRAW));
    }
}

/// The list as the server last told of it.
#[derive(Default)]
struct Shown {
    consoles: BTreeMap<String, (Value, Instant)>,
    synced: bool,
}

impl Shown {
    fn take(&mut self, mut notice: Value) {
        match notice["event"].as_str() {
            Some("console") => {
                let console = notice["console"].take();
                let id = console["id"].as_str().unwrap_or_default().to_owned();
                self.consoles.insert(id, (console, clock::now()));
            }
            Some("console-gone") => {
                self.consoles.remove(notice["id"].as_str().unwrap_or_default());
            }
            Some("synced") => self.synced = true,
            _ => {}
        }
    }

    /// A line about one change.
    fn change(&self, notice: &Value) -> Option<String> {
        match notice["event"].as_str()? {
            "console" => {
                let console = &notice["console"];
                Some(format!(
                    "{}  {}  {} clients",
                    name_of(console),
                    state(console, Duration::ZERO),
                    console["clients"]
                ))
            }
            "console-gone" => {
                let (console, _) = self.consoles.get(notice["id"].as_str()?)?;
                Some(format!("{}  gone", name_of(console)))
            }
            _ => None,
        }
    }

    fn draw(&self) -> io::Result<()> {
        let now = clock::now();
        let mut consoles: Vec<(&Value, Duration)> =
            self.consoles.values().map(|(console, at)| (console, now.duration_since(*at))).collect();
        consoles.sort_by_cached_key(|(console, _)| name_of(console));
        let rows: Vec<Vec<String>> = consoles.into_iter().map(|(console, age)| row(console, age)).collect();
        let (height, width) =
            terminal::size().map_or((24, 80), |(rows, columns)| (rows.into(), columns.into()));
        let mut screen = String::from("\x1b[H");
        for line in table(&HEADING, &rows).iter().take(height - 1) {
            screen.extend(line.chars().take(width));
            screen.push_str("\x1b[K\r\n");
        }
        screen.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(screen.as_bytes())?;
        out.flush()
    }
}

fn sort(consoles: &mut [Value]) {
    consoles.sort_by_cached_key(name_of);
}

fn lines(consoles: &[Value], last_line: bool) -> Vec<String> {
    let mut heading = HEADING.to_vec();
    let mut rows: Vec<Vec<String>> = consoles.iter().map(|console| row(console, Duration::ZERO)).collect();
    if !consoles.is_empty() && consoles.iter().all(|console| console["state"].is_null()) {
        // vSPC.py's protocol tells no more.
        heading.truncate(3);
        rows.iter_mut().for_each(|row| row.truncate(heading.len()));
    } else if last_line {
        heading.push("LAST LINE");
        for (row, console) in rows.iter_mut().zip(consoles) {
            row.push(printable(console["last_line"].as_str().unwrap_or_default()).into_owned());
        }
    }
    table(&heading, &rows)
}

/// A console that was described so long ago.
fn row(console: &Value, age: Duration) -> Vec<String> {
    let text = |key: &str| console[key].as_str().map_or(String::new(), |text| printable(text).into_owned());
    let number = |key: &str| console[key].as_u64().map_or("-".to_owned(), |number| number.to_string());
    let bytes = |key: &str| console[key].as_u64().map_or("-".to_owned(), units::bytes);
    let idle = match &console["idle_ms"] {
        Value::Null if console["state"].is_null() => "-".to_owned(),
        Value::Null => "never".to_owned(),
        idle => format!("{} ago", since(idle, age)),
    };
    let mut port = number("port");
    if console["kept"] == true {
        port.push_str(" kept");
    }
    let mut clients = number("clients");
    if let Some(mode) = console["lock"]["mode"].as_str() {
        clients.push_str(&format!(" ({})", printable(mode)));
    }
    let uuid = text("uuid") + &text("suffix");
    vec![name_of(console), uuid, port, state(console, age), clients, idle, bytes("out"), bytes("in")]
}

/// Connected or not, and since when.
fn state(console: &Value, age: Duration) -> String {
    match (console["state"].as_str(), &console["since_ms"]) {
        (None, _) => "-".to_owned(),
        (Some(state), Value::Null) => printable(state).into_owned(),
        (Some(state), ms) => format!("{} {}", printable(state), since(ms, age)),
    }
}

fn since(ms: &Value, age: Duration) -> String {
    units::span(Duration::from_millis(ms.as_u64().unwrap_or(0)) + age)
}

const HEADING: [&str; 8] = ["NAME", "UUID", "PORT", "STATE", "CLIENTS", "LAST OUTPUT", "OUT", "IN"];
/// How often a list on a terminal is drawn again, for the times in it.
const REDRAW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_known() {
        let console = json!({"name": "web01", "uuid": "00ff", "port": 50001, "state": "connected",
            "since_ms": 3_600_000, "clients": 2, "lock": {"mode": "write", "by": "ann"}, "idle_ms": 1500,
            "out": 2048, "in": 3});
        let expected = ["web01", "00ff", "50001", "connected 1h", "2 (write)", "3s ago", "2.0 KiB", "3 B"];
        assert_eq!(row(&console, Duration::from_secs(2)), expected);
        let kept = json!({"name": "web01", "port": 50001, "kept": true});
        assert_eq!(row(&kept, Duration::ZERO)[2], "50001 kept");
        let waiting = json!({"name": "", "uuid": "00ff", "port": null, "state": "waiting", "since_ms": 1000,
            "clients": 0, "lock": null, "idle_ms": null, "out": 0, "in": 0});
        let expected = ["00ff", "00ff", "-", "waiting 1s", "0", "never", "0 B", "0 B"];
        assert_eq!(row(&waiting, Duration::ZERO), expected);
        let port = json!({"name": "web01_com2", "uuid": "00ff", "suffix": "_com2", "port": null});
        assert_eq!(row(&port, Duration::ZERO)[..2], ["web01_com2", "00ff_com2"]);
        let said = json!({"name": "web01", "state": "waiting", "last_line": "a \u{1b}b"});
        assert!(lines(&[said], true)[1].ends_with("  a \\x1bb"));
        let old_server = json!({"name": "web01", "uuid": "00ff", "port": 50001});
        assert_eq!(row(&old_server, Duration::ZERO), ["web01", "00ff", "50001", "-", "-", "-", "-", "-"]);
    }
}
