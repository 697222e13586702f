//! What is known of all consoles of all concentrators.
//!
//! Owns the newest state of each, in the order in which they changed, so that a reader that was away, or is
//! slow, is told the newest of what it does not know, never a backlog. Refuses to know who reads, and how a
//! concentrator is reached.
//!
//! `fleet/read.rs` has what readers are told, `fleet/refusals.rs` which servers do not tell.

mod read;
mod refusals;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::chance;
use crate::remembered::Told;

use refusals::Refusals;

/// See above.
pub(crate) struct Fleet {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Tells numbers of this run from those of another.
    epoch: String,
    asked: Mutex<Asked>,
    only: Option<Only>,
    /// Shared with those that have been told the same.
    refusals: Arc<Refusals>,
}

/// What was known of a server's consoles before this fleet began.
enum Before {
    Told(Vec<Told>),
    /// What this other one knows, which began earlier. It is asked when that is needed: it is much, and where
    /// the server is up it never is.
    Of(Arc<Fleet>),
}

impl Before {
    const fn nothing() -> Self {
        Self::Told(Vec::new())
    }
}

/// The console that is known of, where no others are to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Only {
    pub(crate) uuid: String,
    pub(crate) suffix: String,
}

/// When somebody has looked last.
#[derive(Default)]
struct Asked {
    counts: Option<Instant>,
    lines: Option<Instant>,
}

/// What somebody looks at, of what is told to who asks alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Interest {
    Nothing,
    Counts,
    /// And the last lines of consoles.
    Lines,
}

/// Which console: the server's place, and the console's id there.
type Key = (usize, String);

struct State {
    seq: u64,
    servers: Vec<Server>,
    consoles: HashMap<Key, Console>,
    /// What changed last at which number: consoles and servers.
    order: BTreeMap<u64, What>,
    /// Where what is gone is known from.
    kept_from: u64,
    gone: usize,
}

#[derive(Clone)]
enum What {
    Console(Key),
    Gone(Key),
    Counted(Key),
    Server(usize),
}

struct Server {
    name: String,
    state: &'static str,
    message: String,
    greeting: Value,
    /// Consoles that it has told of since it was connected, until it has told of all.
    seen: Option<HashSet<String>>,
    /// What was known of its consoles by whose this is: that counts where it is down.
    before: Before,
    seq: u64,
}

struct Console {
    value: Value,
    at: Instant,
    seq: u64,
    counted: u64,
}

impl Fleet {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let mut state = State {
            seq: 0,
            servers: Vec::new(),
            consoles: HashMap::new(),
            order: BTreeMap::new(),
            kept_from: 0,
            gone: 0,
        };
        for (place, name) in names.into_iter().enumerate() {
            let seq = state.note(What::Server(place));
            let (message, greeting) = (String::new(), Value::Null);
            let (seen, before) = (None, Before::nothing());
            state.servers.push(Server { name, state: "connecting", message, greeting, seen, before, seq });
        }
        let (changed, _) = watch::channel(state.seq);
        Self {
            state: Mutex::new(state),
            changed,
            epoch: chance::hex::<6>(),
            asked: Mutex::default(),
            only: None,
            refusals: Arc::default(),
        }
    }

    /// The same, of one console alone.
    pub(crate) fn of(names: Vec<String>, only: Only) -> Self {
        Self { only: Some(only), ..Self::new(names) }
    }

    /// The same, for somebody who was told this before.
    pub(crate) fn recalling(names: Vec<String>, told: Vec<Told>) -> Self {
        let fleet = Self::new(names);
        for one in told {
            if let Some(server) = fleet.lock().servers.get_mut(one.place)
                && let Before::Told(before) = &mut server.before
            {
                before.push(one);
            }
        }
        fleet
    }

    /// The same, for somebody for whom this other one is, or was until now. Nothing is copied, and the other
    /// one is not waited for.
    pub(crate) fn beside(names: Vec<String>, other: &Arc<Self>) -> Self {
        let fleet = Self { refusals: Arc::clone(&other.refusals), ..Self::new(names) };
        for server in &mut fleet.lock().servers {
            server.before = Before::Of(Arc::clone(other));
        }
        fleet
    }

    /// Whether it may be known of here. Where one console alone is, and two VMs have its UUID, it is neither
    /// of them: nothing tells which of the two was meant.
    pub(crate) fn is_wanted(&self, console: &Value) -> bool {
        let suffix = console["suffix"].as_str().unwrap_or_default();
        self.only.as_ref().is_none_or(|only| {
            console["uuid"] == only.uuid.as_str() && suffix == only.suffix && console["shared"] != true
        })
    }

    // What happened.

    /// The connection to a server came or went.
    pub(crate) fn server(&self, place: usize, is: &'static str, message: &str) {
        self.change(|state| {
            state.forget(place, &self.refusals);
            let server = &mut state.servers[place];
            // What is down stays so while it is tried again, with the reason.
            if (server.state == is && server.message == message)
                || (is == "connecting" && server.state == "down")
            {
                return;
            }
            server.state = is;
            message.clone_into(&mut server.message);
            state.touch(place);
            if is == "down" {
                state.recall(place, &self.refusals);
            }
        });
    }

    /// A server does not tell of its consoles: whatever was known of them is not for whose this is any more,
    /// here and in what he has beside this.
    pub(crate) fn refused(&self, place: usize) {
        self.change(|state| {
            self.refusals.note(place);
            state.servers[place].before = Before::nothing();
            state.forget(place, &self.refusals);
        });
    }

    /// A server has said who it is; it is about to tell of its consoles.
    pub(crate) fn greeted(&self, place: usize, greeting: &Value) {
        self.change(|state| {
            let server = &mut state.servers[place];
            server.greeting = greeting.clone();
            server.seen = Some(HashSet::new());
        });
    }

    pub(crate) fn rights(&self, place: usize, rights: &str) {
        self.change(|state| {
            state.servers[place].greeting["rights"] = rights.into();
            state.touch(place);
        });
    }

    /// A console's newest state.
    pub(crate) fn console(&self, place: usize, mut value: Value) {
        self.change(|state| {
            let Some(id) = value["id"].as_str().map(str::to_owned) else { return };
            if !self.is_wanted(&value) {
                return state.gone((place, id));
            }
            let server = &mut state.servers[place];
            value["server"] = server.name.clone().into();
            if let Some(seen) = &mut server.seen {
                seen.insert(id.clone());
            }
            let key = (place, id);
            // Changes are told without it. Where somebody is alone at a console it is nobody else's; in
            // another epoch the server is another, and has given the id to any of its VMs.
            if let Some(old) = state.consoles.get(&key)
                && old.value.get("epoch") == value.get("epoch")
                && value["lock"]["mode"] != "exclusive"
                && let Some(line) = old.value.get(LAST_LINE)
            {
                value[LAST_LINE] = line.clone();
            }
            let seq = state.note(What::Console(key.clone()));
            let console = Console { value, at: Instant::now(), seq, counted: 0 };
            if let Some(old) = state.consoles.insert(key, console) {
                state.order.remove(&old.seq);
                state.order.remove(&old.counted);
            }
        });
    }

    pub(crate) fn gone(&self, place: usize, id: &str) {
        self.change(|state| state.gone((place, id.to_owned())));
    }

    /// A server has told of all its consoles: it has no others.
    pub(crate) fn synced(&self, place: usize) {
        self.change(|state| {
            let Some(seen) = state.servers[place].seen.take() else { return };
            let is_other = |key: &&Key| key.0 == place && !seen.contains(&key.1);
            let others: Vec<Key> = state.consoles.keys().filter(is_other).cloned().collect();
            others.into_iter().for_each(|key| state.gone(key));
            let server = &mut state.servers[place];
            server.before = Before::nothing();
            server.state = "up";
            server.message.clear();
            state.touch(place);
        });
    }

    /// What a list has told of a console: counts may be new, and the last line, if that was asked for.
    pub(crate) fn counted(&self, place: usize, value: &Value, interest: Interest) {
        self.change(|state| {
            let key = (place, value["id"].as_str().unwrap_or_default().to_owned());
            let Some(console) = state.consoles.get(&key) else { return };
            let has_lines = interest == Interest::Lines;
            let is_same = |field: &str| console.value.get(field) == value.get(field);
            if is_same("out") && is_same("in") && (!has_lines || is_same(LAST_LINE)) {
                return;
            }
            let seq = state.note(What::Counted(key.clone()));
            let Some(console) = state.consoles.get_mut(&key) else { return };
            let old = std::mem::replace(&mut console.counted, seq);
            let now = console.now();
            // Nothing but these: a change may have been told since the list was made.
            for field in COUNTS {
                console.value[*field] = value[*field].clone();
            }
            if has_lines && let Some(fields) = console.value.as_object_mut() {
                match value.get(LAST_LINE) {
                    Some(line) => fields.insert(LAST_LINE.to_owned(), line.clone()),
                    None => fields.remove(LAST_LINE),
                };
            }
            console.value["since_ms"] = now["since_ms"].clone();
            console.at = Instant::now();
            state.order.remove(&old);
        });
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        let seq = {
            let mut state = self.lock();
            act(&mut state);
            state.seq
        };
        self.changed.send_if_modified(|old| std::mem::replace(old, seq) != seq);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody looks at this: it is worth being asked for.
    pub(crate) fn ask(&self, interest: Interest) {
        let now = Some(Instant::now());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if interest >= Interest::Counts {
            asked.counts = now;
        }
        if interest >= Interest::Lines {
            asked.lines = now;
        }
    }

    /// What somebody has looked at lately.
    pub(crate) fn interest(&self) -> Interest {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < LATELY);
        match (is_lately(asked.lines), is_lately(asked.counts)) {
            (true, _) => Interest::Lines,
            (_, true) => Interest::Counts,
            _ => Interest::Nothing,
        }
    }
}

impl State {
    /// A number for something that has changed now.
    fn note(&mut self, what: What) -> u64 {
        self.seq += 1;
        self.order.insert(self.seq, what);
        self.seq
    }

    fn touch(&mut self, place: usize) {
        let seq = self.note(What::Server(place));
        let old = std::mem::replace(&mut self.servers[place].seq, seq);
        self.order.remove(&old);
    }

    fn gone(&mut self, key: Key) {
        let Some(old) = self.consoles.remove(&key) else { return };
        self.order.remove(&old.seq);
        self.order.remove(&old.counted);
        self.note(What::Gone(key));
        self.gone += 1;
        if self.gone > GONE {
            // Whoever was away for so long begins again.
            self.gone = 0;
            self.kept_from = self.seq;
            self.order.retain(|_, what| !matches!(what, What::Gone(_)));
        }
    }

    /// Has what was known of a server's consoles before count again, where it has told of them no more.
    fn recall(&mut self, place: usize, refusals: &Refusals) {
        // Whoever is asked began earlier, and asks only who did so too: they never wait for each other.
        let before = match std::mem::replace(&mut self.servers[place].before, Before::nothing()) {
            Before::Told(told) => told,
            Before::Of(other) => other.told_of(place),
        };
        for told in before.into_iter().filter(|told| refusals.allow(place, told.at)) {
            let Ok(value) = serde_json::from_str::<Value>(&told.console) else { continue };
            let key = (place, value["id"].as_str().unwrap_or_default().to_owned());
            if !self.consoles.contains_key(&key) {
                let seq = self.note(What::Console(key.clone()));
                self.consoles.insert(key, Console { value, at: told.at, seq, counted: 0 });
            }
        }
    }

    /// Has what a server told before it refused count no more.
    fn forget(&mut self, place: usize, refusals: &Refusals) {
        if !refusals.is_any(place) {
            return;
        }
        let of = self.consoles.iter().filter(|(key, _)| key.0 == place);
        let old = of.filter(|(_, console)| !refusals.allow(place, console.at));
        let keys: Vec<Key> = old.map(|(key, _)| key.clone()).collect();
        keys.into_iter().for_each(|key| self.gone(key));
    }

    fn server(&self, place: usize) -> Value {
        let server = &self.servers[place];
        let consoles = self.consoles.keys().filter(|key| key.0 == place).count();
        json!({
            "name": server.name, "state": server.state, "message": server.message,
            "version": server.greeting["server"], "rights": server.greeting["rights"],
            "features": server.greeting["features"], "delegates": server.greeting["delegates"],
            "consoles": consoles,
        })
    }
}

impl Console {
    /// With times as of now.
    fn now(&self) -> Value {
        let mut value = self.value.clone();
        let passed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        for field in ["since_ms", "idle_ms"] {
            if let Some(ms) = value[field].as_u64() {
                value[field] = ms.saturating_add(passed).into();
            }
        }
        value
    }
}

/// What changes without being told.
const COUNTS: &[&str] = &["out", "in", "offset", "idle_ms", "stayed_ms"];
/// Consoles that are gone and remembered.
const GONE: usize = 4096;
/// For how long after somebody looked counts are asked for.
const LATELY: Duration = Duration::from_secs(15);
/// A field of a console's (operator.md §4).
pub(crate) const LAST_LINE: &str = "last_line";

#[cfg(test)]
mod tests;
