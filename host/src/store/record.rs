//! What is kept of a console, and how that stands in a line of text (state.md §2).
//!
//! **Owns** the fields and their form. **Refuses to know** where the line is, and which lines are beside it.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vspc_core::concentrator::{Identity, Reservation};
use vspc_core::vmware::Uuid;

use vspc_logs::date;

/// What is kept of a console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// Whose it is.
    pub identity: Identity,
    /// What its VM is called, the suffix with it; empty where that is not known.
    pub name: String,
    /// Its client port.
    pub port: Option<u16>,
    /// VMs of other names have its UUID and URI.
    pub shared: bool,
    /// For how long its VM has been connected in total.
    pub stayed: Duration,
    /// Where its VM has been connected from longest.
    pub home: Option<IpAddr>,
    /// When somebody was at it last.
    pub seen: Seen,
}

/// When a VM or a client was at a console last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// One is.
    Now,
    /// None has been since then, in seconds since 1970.
    At(u64),
}

impl Record {
    /// As a line, without its end.
    pub(super) fn line(&self) -> String {
        let identity = &self.identity;
        let line = Line {
            port: self.port,
            uuid: identity.uuid.to_string(),
            name: self.name.clone(),
            suffix: identity.suffix.to_string(),
            copy: identity.clone.to_string(),
            shared: self.shared,
            stayed: self.stayed.as_secs(),
            home: self.home,
            seen: match self.seen {
                Seen::Now => None,
                Seen::At(seconds) => Some(date::write(seconds)),
            },
        };
        // Strings, numbers and booleans have a form in JSON, whatever is in them.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or_default();
            format!("column {}: {what}", error.column())
        })?;
        let uuid = Uuid::parse(line.uuid.as_bytes()).map_err(|error| format!("\"uuid\": {error}"))?;
        if line.port == Some(0) {
            return Err("\"port\": 0 is no port".to_owned());
        }
        let seen = match line.seen {
            None => Seen::Now,
            Some(text) => Seen::At(date::read(&text).ok_or_else(|| {
                format!("\"seen\": {text:?} is no date: write it like 2026-11-29T19:45:14Z")
            })?),
        };
        Ok(Self {
            identity: Identity { uuid, suffix: line.suffix.into(), clone: line.copy.into() },
            name: line.name,
            port: line.port,
            shared: line.shared,
            stayed: Duration::from_secs(line.stayed),
            home: line.home,
            seen,
        })
    }

    /// How it is put back `now`, in seconds since 1970.
    pub(super) fn reservation(&self, now: u64) -> Reservation {
        let mut reservation = Reservation::new(self.identity.clone());
        reservation.name.clone_from(&self.name);
        reservation.port = self.port;
        reservation.shared = self.shared;
        reservation.stayed = self.stayed;
        reservation.home = self.home;
        reservation.idle_for = match self.seen {
            // When whoever was there left is not known: it did while no server was here.
            Seen::Now => Duration::ZERO,
            Seen::At(seen) => Duration::from_secs(now.saturating_sub(seen)),
        };
        reservation
    }

    /// Whether a restart would notice that the one was written in place of the other soon enough: all but
    /// the time that its VM has been connected, which grows all the time.
    pub(super) fn is_as_good_as(&self, other: &Self) -> bool {
        let Self { identity, name, port, shared, stayed: _, home, seen } = self;
        *identity == other.identity
            && *name == other.name
            && *port == other.port
            && *shared == other.shared
            && *home == other.home
            && *seen == other.seen
    }
}

/// The form of a line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    port: Option<u16>,
    uuid: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    suffix: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    copy: String,
    #[serde(default, skip_serializing_if = "is_false")]
    shared: bool,
    #[serde(default)]
    stayed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
}

// serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A VM that has a port and was seen at the beginning of 2026.
    pub(in crate::store) fn record(number: u8, port: u16) -> Record {
        Record {
            identity: Identity::of(Uuid::from_bytes([number; 16])),
            name: format!("vm{number}"),
            port: Some(port),
            shared: false,
            stayed: Duration::from_secs(60),
            home: None,
            seen: Seen::At(1_767_225_600),
        }
    }

    #[test]
    fn a_record_is_a_line_that_people_can_read_and_reads_back() {
        let mut record = record(1, 50000);
        let uuid = "01010101-0101-0101-0101-010101010101";
        assert_eq!(
            record.line(),
            format!(
                r#"{{"port":50000,"uuid":"{uuid}","name":"vm1","stayed":60,"seen":"2026-01-01T00:00:00Z"}}"#
            )
        );
        assert_eq!(Record::read(&record.line()), Ok(record.clone()));
        record.identity.suffix = "_com1".into();
        record.identity.clone = "a \"copy\"\\ \u{202e}é".into();
        record.name = "a \"copy\"\\ \u{202e}é_com1".into();
        (record.port, record.shared, record.seen) = (None, true, Seen::Now);
        record.home = Some(IpAddr::from([192, 0, 2, 1]));
        assert!(!record.line().contains('\n'));
        assert_eq!(Record::read(&record.line()), Ok(record));
    }

    #[test]
    fn a_line_by_hand_needs_no_more_than_a_uuid() {
        let record = Record::read(r#" { "uuid": "01010101010101010101010101010101" } "#).unwrap();
        assert_eq!((record.port, &*record.name, record.seen), (None, "", Seen::Now));
        assert_eq!(record.reservation(5).idle_for, Duration::ZERO);
    }

    #[test]
    fn a_line_that_makes_no_sense_is_refused_with_what_is_wrong_in_it() {
        let uuid = r#""uuid":"01010101010101010101010101010101""#;
        for (line, words) in [
            ("{".to_owned(), "column 1"),
            ("{}".to_owned(), "uuid"),
            (r#"{"uuid":"0101"}"#.to_owned(), "a UUID of 4 digits"),
            (format!(r#"{{{uuid},"port":0}}"#), "0 is no port"),
            (format!(r#"{{{uuid},"port":65536}}"#), "65536"),
            (format!(r#"{{{uuid},"prot":50000}}"#), "prot"),
            (format!(r#"{{{uuid},"seen":"yesterday"}}"#), "no date"),
            (format!(r#"{{{uuid},"home":"here"}}"#), "IP address"),
            (format!(r#"{{{uuid}}} {{"#), "trailing"),
        ] {
            let why = Record::read(&line).unwrap_err();
            assert!(why.contains(words) && !why.contains('\n'), "{line}: {why}");
        }
    }

    #[test]
    fn who_is_put_back_has_been_idle_since_it_was_seen_and_never_less_than_nothing() {
        let record = record(1, 50000);
        assert_eq!(record.reservation(1_767_225_700).idle_for, Duration::from_secs(100));
        assert_eq!(record.reservation(0).idle_for, Duration::ZERO, "the clock was put back");
    }
}
