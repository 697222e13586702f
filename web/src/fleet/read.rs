//! What those who read are told: what has changed, and all there is.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Before, Console, Fleet, LAST_LINE, What};
use crate::remembered::Told;

/// One thing that a reader is told.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Change {
    pub(crate) kind: &'static str,
    pub(crate) value: Value,
}

impl Fleet {
    /// Tells when something has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The number of the latest change.
    pub(crate) fn seq(&self) -> u64 {
        self.lock().seq
    }

    /// Whether what changed since this number is known; 0 is the beginning.
    pub(crate) fn knows(&self, seq: u64) -> bool {
        let state = self.lock();
        seq == 0 || (seq >= state.kept_from && seq <= state.seq)
    }

    /// What has changed since `seq`, at most `most` of it, and up to where that is. What was gone by `began`
    /// the reader has not heard of, and is not told.
    pub(crate) fn since(&self, seq: u64, most: usize, began: u64) -> (Vec<Change>, u64) {
        let state = self.lock();
        let mut changes = Vec::new();
        let mut counts = Vec::new();
        let mut at = seq;
        for (&seq, what) in state.order.range(seq + 1..).take(most) {
            at = seq;
            match what {
                What::Server(place) => changes.push(Change { kind: "server", value: state.server(*place) }),
                What::Gone(_) if seq <= began => {}
                What::Gone((place, id)) => changes.push(Change {
                    kind: "console-gone",
                    value: json!({"server": state.servers[*place].name, "id": id}),
                }),
                What::Console(key) => {
                    changes.push(Change { kind: "console", value: state.consoles[key].now() });
                }
                What::Counted(key) => {
                    let value = state.consoles[key].now();
                    let mut count = json!({
                        "server": value["server"], "id": value["id"],
                        "out": value["out"], "idle_ms": value["idle_ms"],
                    });
                    if let Some(line) = value.get(LAST_LINE) {
                        count[LAST_LINE] = line.clone();
                    }
                    counts.push(count);
                }
            }
        }
        if !counts.is_empty() {
            changes.push(Change { kind: "count", value: json!({"counts": counts}) });
        }
        (changes, at)
    }

    /// All servers.
    pub(crate) fn servers(&self) -> Vec<Value> {
        let state = self.lock();
        (0..state.servers.len()).map(|place| state.server(place)).collect()
    }

    /// Whether a server has this among its features (operator.md §5).
    pub(crate) fn has_feature(&self, server: &str, feature: &str) -> bool {
        let state = self.lock();
        let of = state.servers.iter().find(|of| of.name == server);
        let features = of.and_then(|of| of.greeting["features"].as_array());
        features.is_some_and(|all| all.iter().any(|one| one == feature))
    }

    /// What is known of all consoles, to be told again. It takes long where there are many.
    pub(crate) fn told(self: &Arc<Self>) -> Vec<Told> {
        let servers = self.lock().servers.len();
        (0..servers).flat_map(|place| self.told_of(place)).collect()
    }

    /// The same of one server's: the newest first.
    pub(super) fn told_of(self: &Arc<Self>, place: usize) -> Vec<Told> {
        let mut told = Vec::new();
        let mut next = Some(Arc::clone(self));
        while let Some(fleet) = next.take() {
            let state = fleet.lock();
            let here = state.consoles.iter().filter(|(key, _)| key.0 == place);
            told.extend(here.map(|(_, console)| Told {
                place,
                at: console.at,
                console: console.value.to_string().into(),
            }));
            match &state.servers[place].before {
                Before::Told(before) => told.extend_from_slice(before),
                Before::Of(other) => next = Some(Arc::clone(other)),
            }
        }
        told.retain(|one| self.refusals.allow(place, one.at));
        told
    }

    /// Consoles for which `is_wanted` holds.
    pub(crate) fn consoles(&self, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let state = self.lock();
        state.consoles.values().filter(|console| is_wanted(&console.value)).map(Console::now).collect()
    }

    /// Of those for which `is_wanted` holds, by server, name and id, the first `most` behind `after`; and
    /// whether there are more. No others are copied.
    pub(crate) fn page(
        &self,
        is_wanted: impl Fn(&Value) -> bool,
        after: Option<[&str; 3]>,
        most: usize,
    ) -> (Vec<Value>, bool) {
        let state = self.lock();
        let of =
            |console: &Console, field: &str| console.value[field].as_str().unwrap_or_default().to_owned();
        let key = |console: &Console| ["server", "name", "id"].map(|field| of(console, field));
        let mut found: Vec<_> = state
            .consoles
            .values()
            .filter(|console| is_wanted(&console.value))
            .map(|console| (key(console), console))
            .filter(|(key, _)| after.is_none_or(|after| key.each_ref().map(String::as_str) > after))
            .collect();
        let has_more = found.len() > most;
        if has_more {
            found.select_nth_unstable_by(most, |(a, _), (b, _)| a.cmp(b));
            found.truncate(most);
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        (found.into_iter().map(|(_, console)| console.now()).collect(), has_more)
    }
}
