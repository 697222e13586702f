//! What has happened, in the form in which others are told: a JSON object on a line.
//!
//! **Owns** the time in front of the line, and the lines of changes of state; the other lines are the
//! engine's own (operator.md §9), so that one program reads both. **Refuses to know** where lines go.

use std::time::SystemTime;

use serde::Serialize;
use vspc_core::admin::operator::write_id;
use vspc_core::concentrator::{ConsoleId, Event, Severity};
use vspc_logs::date::stamp;

use crate::events::sentence;

use super::inbox::{Told, What};
use super::kind::Kind;
use super::standing::{News, Standings};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// What it is to programs that are told of things one by one.
    pub(crate) kind: Option<Kind>,
    /// The console that it concerns.
    pub(crate) console: Option<ConsoleId>,
    pub(crate) severity: Severity,
    /// When it happened, as RFC 3339 has it.
    pub(crate) time: String,
    /// What happened, for people.
    pub(crate) sentence: String,
    /// A JSON object with a line break behind it.
    pub(crate) line: Vec<u8>,
}

/// What has happened, as entries: one for an event, any number for a console's new state.
pub(crate) fn entries(told: Told, standings: &mut Standings) -> Vec<Entry> {
    match told.what {
        What::Begin(all) => {
            standings.begin(all);
            Vec::new()
        }
        What::Event(event) => vec![of_event(&event, told.at)],
        What::Console(id, standing) => {
            let news = standings.news(id, standing);
            news.into_iter().map(|news| of_news(&news, told.at)).collect()
        }
    }
}

fn of_event(event: &Event, at: SystemTime) -> Entry {
    let mut line = Vec::new();
    event.put_line(&mut line);
    let time = stamp(at);
    Entry {
        kind: Kind::of(event),
        console: event.console.as_ref().map(|label| label.id),
        severity: event.severity(),
        sentence: sentence(event),
        line: with_time(&line, &time),
        time,
    }
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    kind: &'a str,
    severity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<&'a str>,
    console: Console<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
}

#[derive(Serialize)]
struct Console<'a> {
    id: String,
    name: &'a str,
    uuid: String,
    port: Option<u16>,
}

fn of_news(news: &News, at: SystemTime) -> Entry {
    let label = &news.label;
    let line = Line {
        event: "log",
        kind: news.kind.word(),
        severity: "info",
        was: news.was.as_deref(),
        console: Console {
            id: write_id(label.id.to_bits()),
            name: &label.name,
            uuid: label.uuid.simple().to_string(),
            port: label.port,
        },
        from: news.from.as_ref().map(ToString::to_string),
    };
    // Memory takes everything, and all keys are strings.
    let line = serde_json::to_vec(&line).unwrap_or_default();
    let time = stamp(at);
    Entry {
        kind: Some(news.kind),
        console: Some(label.id),
        severity: Severity::Info,
        sentence: format!("{} {label}", news.kind.word().replace('-', " ")),
        line: with_time(&line, &time),
        time,
    }
}

/// The same object with a time as its first field, and a line break behind it.
fn with_time(object: &[u8], time: &str) -> Vec<u8> {
    let fields = object.trim_ascii_end().strip_prefix(b"{").unwrap_or_default();
    let mut line = format!("{{\"time\":\"{time}\",").into_bytes();
    line.extend_from_slice(fields);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::{Value, json};
    use vspc_core::concentrator::EventKind;

    use crate::outlets::tests::{event, label};

    #[test]
    fn an_event_is_the_operators_object_with_a_time() {
        let at = UNIX_EPOCH + Duration::from_millis(1_780_000_000_042);
        let event = event(EventKind::ReaderSkipped(7));
        let entry = of_event(&event, at);
        let mut operators = Vec::new();
        event.put_line(&mut operators);
        let mut wanted: Value = serde_json::from_slice(&operators).unwrap();
        wanted["time"] = "2026-05-28T20:26:40.042Z".into();
        assert_eq!(serde_json::from_slice::<Value>(&entry.line).unwrap(), wanted);
        assert!(entry.line.ends_with(b"}\n") && entry.kind == Some(Kind::ClientLagged));
    }

    #[test]
    fn a_change_of_state_has_the_same_fields() {
        let label = label();
        let was = Some("vm\"0".to_owned());
        let news = News { kind: Kind::VmRenamed, label: label.clone(), from: None, was };
        let entry = of_news(&news, UNIX_EPOCH);
        assert_eq!(
            serde_json::from_slice::<Value>(&entry.line).unwrap(),
            json!({
                "time": "1970-01-01T00:00:00.000Z", "event": "log", "kind": "vm-renamed",
                "severity": "info", "was": "vm\"0",
                "console": {
                    "id": write_id(label.id.to_bits()), "name": "vm1",
                    "uuid": "01010101010101010101010101010101", "port": null,
                },
            })
        );
    }
}
