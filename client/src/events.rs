//! `vspc events`: what the server logs, as it happens.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::EventsArgs;
use crate::clock;
use crate::connection::Connection;
use crate::endings::{describe, failure};
use crate::failure::Failure;
use crate::names::name_of;
use crate::output;
use crate::printable::{json as json_text, printable};
use vspc_operator::News;

pub(crate) fn run(connection: &mut Connection, args: &EventsArgs) -> Result<(), Failure> {
    clock::find_zone();
    let subscription = connection.request("subscribe", json!({"to": "events", "match": args.pattern}));
    loop {
        while let Some(news) = connection.poll() {
            match news {
                News::Answer(id, Err(refusal)) if id == subscription => return Err(failure(&refusal)),
                News::Over(ending) => return Err(Failure::no_connection(describe(&ending))),
                News::Notice(notice) if args.json => output::print([json_text(&notice)])?,
                News::Notice(notice) => output::print(line(&notice, clock::of_day()))?,
                _ => {}
            }
        }
        connection.wait(clock::now() + IDLE);
    }
}

/// An event, for people: the time, how grave it is, what it is, of which console, and the rest.
fn line(notice: &Value, of_day: Duration) -> Option<String> {
    let text = |key: &str| printable(notice[key].as_str().unwrap_or("-"));
    let seconds = of_day.as_secs();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match notice["event"].as_str()? {
        "log-dropped" => Some(format!("{time} {} events were dropped", notice["count"])),
        "log" => {
            let mut line = format!("{time} {:7} {}", text("severity"), text("kind"));
            if notice["console"].is_object() {
                line.push_str(&format!(" {}", name_of(&notice["console"])));
            }
            for (key, value) in notice.as_object()? {
                let value = match (key.as_str(), value) {
                    ("event" | "severity" | "kind" | "console" | "detail", _) | (_, Value::Null) => continue,
                    (_, Value::String(text)) if !text.is_empty() && !text.contains(' ') => text.clone(),
                    (_, other) => other.to_string(),
                };
                line.push_str(&format!(" {}={}", printable(key), printable(&value)));
            }
            if let Some(detail) = notice["detail"].as_str().filter(|detail| !detail.is_empty()) {
                line.push_str(&format!("; {}", printable(detail)));
            }
            Some(line)
        }
        _ => None,
    }
}

/// How often a connection is looked after on which nothing happens.
const IDLE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let notice = json!({
            "event": "log", "kind": "client-joined", "severity": "info", "from": "192.0.2.7:1",
            "console": {"id": "1.1", "name": "web\n01"}, "why": "a \u{1b}b", "n": 3, "none": null,
            "detail": "for people",
        });
        assert_eq!(
            line(&notice, Duration::from_secs(45_296)).unwrap(),
            "12:34:56 info    client-joined web\\x0a01 from=192.0.2.7:1 n=3 why=\"a \\u001bb\"; for people"
        );
        assert_eq!(
            line(&json!({"event": "log-dropped", "count": 12}), Duration::ZERO).unwrap(),
            "00:00:00 12 events were dropped"
        );
        assert_eq!(line(&json!({"event": "later"}), Duration::ZERO), None);
    }
}
