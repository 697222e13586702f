//! An event as operators read it (operator.md §5): a JSON object on a line.
//!
//! Owns how a fact's name is made of its variant's. The words for people are the host's.

use serde::Serialize;

use crate::admin::operator::{put_notice, write_id};

use super::event::{Event, Severity};

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    kind: String,
    severity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
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
    /// Writes its line.
    pub(super) fn put_line(&self, out: &mut Vec<u8>) {
        let shown = format!("{:?}", self.kind);
        let (name, detail) = split(&shown);
        let line = Line {
            event: "log",
            kind: kebab(name),
            severity: match self.severity() {
                Severity::Debug => "debug",
                Severity::Info => "info",
                Severity::Warn => "warn",
                Severity::Error => "error",
            },
            detail,
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

/// A variant's name, and what it holds.
fn split(shown: &str) -> (&str, Option<&str>) {
    match shown.find(|c: char| !c.is_alphanumeric()) {
        None => (shown, None),
        Some(end) => (&shown[..end], Some(shown[end..].trim_matches(|c| "(){} ".contains(c)))),
    }
}

/// `VmIdentified` is `vm-identified`.
fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 4);
    for (at, c) in name.chars().enumerate() {
        if c.is_uppercase() && at > 0 {
            kebab.push('-');
        }
        kebab.extend(c.to_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::concentrator::{CloseReason, EventKind};

    fn line(kind: EventKind) -> String {
        let event = Event { kind, conn: None, peer: None, console: None, is_routine: false };
        let mut out = Vec::new();
        event.put_line(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_fact_is_called_as_its_variant_is() {
        assert_eq!(
            line(EventKind::PortsExhausted),
            "{\"event\":\"log\",\"kind\":\"ports-exhausted\",\"severity\":\"warn\"}\n"
        );
        assert_eq!(
            line(EventKind::VmDisconnected(CloseReason::PeerClosed)),
            "{\"event\":\"log\",\"kind\":\"vm-disconnected\",\"severity\":\"info\",\"detail\":\"PeerClosed\"}\n"
        );
        assert!(line(EventKind::ClientAttached { clients: 2 }).contains("\"detail\":\"clients: 2\""));
    }
}
