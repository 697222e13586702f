//! An event as operators read it (operator.md §5): a JSON object on a line.
//!
//! Owns what all events have in common; what each tells is `event_facts`'s.

use serde::Serialize;

use crate::admin::operator::{put_notice, write_id};

use super::event::{Event, Severity};
use super::event_facts::Facts;

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    kind: &'a str,
    severity: &'a str,
    #[serde(flatten)]
    facts: Facts,
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<Console<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn: Option<String>,
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

impl Event {
    /// Writes its line, with the line break. Costs some hundred bytes, and what names and reasons have.
    pub fn put_line(&self, out: &mut Vec<u8>) {
        let (kind, facts) = self.kind.facts();
        let line = Line {
            event: "log",
            kind,
            severity: match self.severity() {
                Severity::Debug => "debug",
                Severity::Info => "info",
                Severity::Warn => "warn",
                Severity::Error => "error",
            },
            facts,
            console: self.console.as_deref().map(|label| Console {
                id: write_id(label.id.to_bits()),
                name: &label.name,
                uuid: label.uuid.simple().to_string(),
                port: label.port,
            }),
            conn: self.conn.map(|id| write_id(id.to_bits())),
            from: self.peer.as_ref().map(ToString::to_string),
        };
        put_notice(&line, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::time::Duration;

    use serde_json::{Value, json};

    use crate::admin::lock::LockMode;
    use crate::concentrator::{CloseReason, EventKind, Fault, Stay, TakenBecause, VmotionStep};
    use crate::transport::TlsFailure;

    fn line(kind: EventKind) -> String {
        let event = Event { kind, conn: None, peer: None, console: None, is_routine: false };
        let mut out = Vec::new();
        event.put_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn facts_are_fields_beside_those_that_all_have() {
        assert_eq!(
            line(EventKind::PortsExhausted),
            "{\"event\":\"log\",\"kind\":\"ports-exhausted\",\"severity\":\"warn\"}\n"
        );
        let parsed = |kind| serde_json::from_str::<Value>(&line(kind)).unwrap();
        let closed = parsed(EventKind::VmDisconnected(CloseReason::Failed(ErrorKind::ConnectionReset)));
        assert_eq!((&closed["because"], &closed["error"]), (&json!("failed"), &json!("connection-reset")));
        let stay = Stay { after: Duration::from_millis(1500), typed: 3, shown: 5 };
        let left = parsed(EventKind::Left { who: "ann".into(), because: CloseReason::Bumped, stay });
        assert_eq!(
            left,
            json!({
                "event": "log", "kind": "left", "severity": "info", "who": "ann", "because": "bumped",
                "after_ms": 1500, "typed": 3, "shown": 5,
            })
        );
        let attached = parsed(EventKind::Attached { who: "ann".into(), lock: LockMode::Write });
        assert_eq!((&attached["who"], &attached["lock"]), (&json!("ann"), &json!("write")));
        let step = VmotionStep::Goahead(Duration::from_micros(93));
        let goahead = parsed(EventKind::Vmotion(step));
        assert_eq!((&goahead["step"], &goahead["after_us"]), (&json!("goahead"), &json!(93)));
        let failure = TlsFailure::PeerCertificate("ExpiredContext { time: 5 }".into());
        let failed = parsed(EventKind::TlsFailed(failure));
        assert_eq!(
            (&failed["because"], &failed["error"]),
            (&json!("peer-certificate"), &json!("expired-context"))
        );
    }

    #[test]
    fn no_fact_hides_what_all_events_have() {
        let common = ["event", "kind", "severity", "console", "conn", "from"];
        for kind in [
            EventKind::InputTaken { from: None, because: TakenBecause::Home },
            EventKind::AddressSuppressed { from: None, events: 1 },
            EventKind::PortOpened(5),
            EventKind::Malformed(Fault::DataBeforeTls),
            EventKind::SentAway { who: "a".into(), by: "b".into(), reason: "c".into() },
        ] {
            let (name, facts) = kind.facts();
            assert!(facts.keys().all(|key| !common.contains(&key.as_str())), "{name}");
        }
    }
}
