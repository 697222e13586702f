//! Consoles and those at them as operators are shown them (operator.md §4), and which of them a text matches.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::lock::LockMode;
use crate::admin::operator::{self, Extras, Mode, write_id};
use crate::pattern::is_like;

use super::Concentrator;
use super::attaching::mode_of;
use super::conn::{Conn, Role};
use super::console::Console;
use super::id::{ConnId, ConsoleId};
use super::last_line::last_line;
use super::operator::Speaks;

impl Concentrator {
    pub(super) fn page(
        &self,
        asker: ConnId,
        matching: &str,
        after: Option<u64>,
        limit: usize,
        with: Extras,
    ) -> Page {
        let from = after.map_or(0, |id| ConsoleId::from_bits(id).index + 1);
        let mut page = Page { consoles: Vec::new(), next: None };
        let (mut last, mut lines) = (None, 0);
        for (looked_at, console) in self.consoles.iter_from(from).enumerate() {
            if page.consoles.len() == limit
                || looked_at == LOOKED_AT_MOST
                || page.consoles.len() * 640 + lines > PAGE_BYTES
            {
                page.next = last.map(|id: ConsoleId| write_id(id.to_bits()));
                break;
            }
            last = Some(console.id());
            if matches(matching, console) && self.sees(asker, console.id()) {
                let console = self.describe_with(console, with);
                // Quotes and backslashes are doubled.
                lines += console.last_line.as_ref().map_or(0, |line| 2 * line.len());
                page.consoles.push(console);
            }
        }
        page
    }

    /// What is counted, of those consoles of which the asker may know, and of connections that are at no
    /// other. Costs a look at each console, and where any has a list at each connection.
    pub(super) fn describe_all(&self, asker: ConnId) -> Value {
        let sees_all = self.sees_all(asker);
        let sees = |at: ConsoleId| sees_all || self.sees(asker, at);
        let mut totals = self.fx.counters;
        if sees_all {
            totals += self.fx.withheld;
        }
        let (mut consoles, mut shown, mut typed) = (0_usize, 0, 0);
        for console in self.consoles.iter().filter(|console| sees(console.id())) {
            consoles += 1;
            totals += console.counters();
            shown += console.fanout().lags().map(|(_, lag)| lag).sum::<u64>();
            typed += console.uplink.len();
        }
        let connections = match sees_all {
            true => self.conns.len(),
            false => self.conns.iter().filter(|(_, conn)| conn.console().is_none_or(sees)).count(),
        };
        let mut counters: serde_json::Map<String, Value> =
            totals.iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        counters.insert("consoles".into(), consoles.into());
        counters.insert("connections".into(), connections.into());
        let times = &self.fx.histograms;
        json!({
            "counters": counters,
            "goahead_us": times.goahead.summary(),
            "typing_us": times.typing.summary(),
            "tls_handshake_us": times.handshake.summary(),
            "reader_lag_bytes": times.lag.summary(),
            "log_lag_bytes": times.log_lag.summary(),
            "store_lag_us": times.store_lag.summary(),
            "waiting_bytes": { "shown": shown, "typed": typed },
        })
    }

    /// With what was asked for besides.
    pub(super) fn describe_with(&self, console: &Console, with: Extras) -> operator::Console {
        let mut shown = self.describe_console(console);
        // Who has locked a console exclusively is alone there, and nobody else is shown what it prints.
        let is_alone = shown.lock.as_ref().is_some_and(|lock| lock.mode == Mode::Exclusive);
        if with.last_line && !is_alone {
            shown.last_line = Some(last_line(console.fanout().journal()));
        }
        shown
    }

    pub(super) fn describe(&self, at: ConsoleId) -> Option<operator::Console> {
        self.consoles.get(at).map(|console| self.describe_console(console))
    }

    pub(super) fn describe_console(&self, console: &Console) -> operator::Console {
        let label = &console.label;
        let counters = console.counters();
        let offset = console.offset();
        let has_printed = counters.bytes_from_vm > 0;
        let idle = self.fx.now.duration_since(console.last_output);
        operator::Console {
            id: write_id(label.id.to_bits()),
            name: label.name.clone(),
            uuid: label.uuid.simple().to_string(),
            suffix: label.suffix.to_string(),
            port: label.port,
            state: self.state_of(console).name().into(),
            since_ms: millis(console.tenure.since(self.fx.now)),
            host: self.host_of(console).map(|host| host.to_string()),
            legs: console.legs.live(),
            clients: console.fanout().persons(),
            lock: self.held_at(label.id),
            idle_ms: has_printed.then(|| millis(idle)),
            stayed_ms: millis(console.tenure.stayed(self.fx.now)),
            home: console.tenure.home(self.fx.now).map(|home| home.to_string()),
            out: counters.bytes_from_vm,
            typed: counters.bytes_from_clients,
            epoch: self.epoch_of(label.id),
            offset,
            shared: self.consoles.is_shared(label),
            kept: console.is_kept(),
            last_line: None,
        }
    }

    /// Of which count a console's offsets are: another one after each start, and for each console.
    pub(super) fn epoch_of(&self, at: ConsoleId) -> String {
        format!("{:x}.{}", self.epoch, write_id(at.to_bits()))
    }

    pub(super) fn describe_those_at(&self, at: ConsoleId, asker: ConnId) -> Value {
        let lock = self.consoles.get(at).map(Console::lock);
        let clients: Vec<Value> = self
            .clients(at)
            .map(|client| {
                let conn = self.conns.get(client.id);
                let visit = conn.and_then(Conn::visit);
                let held = lock
                    .and_then(|lock| lock.mode(client.id))
                    .filter(|mode| matches!(mode, LockMode::Exclusive | LockMode::Write));
                let you = matches!(
                    conn.map(|conn| &conn.role), Some(Role::Attach(attach)) if attach.operator == asker
                );
                json!({
                    "id": write_id(client.id.to_bits()),
                    "who": self.who(client.id),
                    "from": client.peer.to_string(),
                    "speaks": speaks(client.speaks),
                    "access": if self.may_type(client.id, at) { "write" } else { "read" },
                    "lock": held.map(mode_of),
                    "since_ms": visit.map(|visit| millis(self.fx.now.duration_since(visit.since))),
                    "you": you,
                })
            })
            .collect();
        let legs: Vec<Value> = self
            .legs(at)
            .map(|leg| {
                json!({
                    "id": write_id(leg.id.to_bits()),
                    "from": leg.peer.to_string(),
                    "holds_input": leg.holds_input,
                })
            })
            .collect();
        json!({ "clients": clients, "legs": legs })
    }
}

/// One page of a list.
#[derive(Serialize)]
pub(super) struct Page {
    consoles: Vec<operator::Console>,
    /// After which the next page begins; `None`: there are no more.
    next: Option<String>,
}

/// Whether a console's name or UUID matches: a pattern, where there is `*` or `?` in it, otherwise a part of
/// one of them.
pub(super) fn matches(text: &str, console: &Console) -> bool {
    if text.is_empty() {
        return true;
    }
    let wanted = text.to_lowercase();
    let label = &console.label;
    let name = label.name.to_lowercase();
    let uuid = label.uuid.simple().to_string();
    if wanted.contains(['*', '?']) {
        return is_like(&wanted, &name) || is_like(&wanted, &uuid);
    }
    name.contains(&wanted) || uuid.contains(&wanted.replace('-', ""))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn speaks(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Undecided => "undecided",
        Speaks::Telnet => "telnet",
        Speaks::Raw => "raw",
        Speaks::Local => "local",
        Speaks::V3 => "v3",
        Speaks::Operator => "operator",
        Speaks::Kit => "kit",
    }
}

/// Consoles that one page of a list, or one look for news, looks at.
pub(super) const LOOKED_AT_MOST: usize = 2048;

/// Bytes of a page, about: a line has 64 KiB at most.
const PAGE_BYTES: usize = 48 << 10;
