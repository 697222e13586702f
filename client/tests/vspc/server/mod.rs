//! A scripted server of the operator protocol, written from docs/protocol/operator.md: consoles that print
//! what the test says, and that note what is typed. It knows no VMs, and gives everybody every right unless
//! told otherwise.
//!
//! Here is what the test has in hand; `serving` has the sockets, `answering` the answers.

mod answering;
mod guest;
mod serving;

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vspc_core::admin::operator::LogRecord;

use self::guest::Guest;
use self::serving::Loop;

/// A running server. It ends with the test.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    wake: UnixStream,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the server knows, and what the test wants of it.
#[derive(Default)]
struct State {
    consoles: Vec<Console>,
    rights: Option<&'static str>,
    /// It has waited for HELLO, and has offered VMware's option first.
    is_impatient: bool,
    guest: Guest,
    knows_no_guests: bool,
    orders: VecDeque<Order>,
    requests: Vec<Value>,
    connections: usize,
    runs: u64,
}

struct Console {
    id: String,
    name: String,
    uuid: String,
    state: &'static str,
    epoch: String,
    /// The offset of the first byte that is kept.
    kept_from: u64,
    output: Vec<u8>,
    typed: Vec<u8>,
    lock: Option<(String, u64)>,
    /// What a request for its log is answered with; `None`: there are no such requests.
    log: Option<Vec<u8>>,
}

enum Order {
    /// Close every connection and the listener.
    Die,
    /// Listen again.
    Rise(TcpListener),
    /// Send this to each attach of the console, with its stream and offset.
    Tell(String, Value),
    /// End each attach of the console.
    Detach(String, Value),
    /// Reset what is joined with the guest.
    LoseGuest,
    Wake,
    /// Send this to those who read facts.
    ToFacts(Value),
    /// Send this to those who take what connects to the guest.
    Connection(Value),
    /// Send this to those that subscribed to events.
    Log(Value),
    /// Send the console's state to those that subscribed to consoles.
    Changed(String),
}

impl FakeServer {
    pub(crate) fn start(names: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let (woken, wake) = UnixStream::pair().unwrap();
        woken.set_nonblocking(true).unwrap();
        let server = Self { address, shared: Arc::clone(&shared), wake };
        for name in names {
            server.add(name);
        }
        thread::spawn(move || Loop::new(listener, woken, shared).run());
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn order(&self, order: Order) {
        self.state().orders.push_back(order);
        (&self.wake).write_all(&[0]).unwrap();
    }

    /// Gives everybody less than every right.
    pub(crate) fn rights(&self, rights: &'static str) {
        self.state().rights = Some(rights);
    }

    /// Takes every client for one that is silent, before it has heard anything of it.
    pub(crate) fn is_impatient(&self) {
        self.state().is_impatient = true;
    }

    pub(crate) fn add(&self, name: &str) {
        let mut state = self.state();
        let number = state.consoles.len() + 1;
        state.consoles.push(Console {
            id: format!("{number}.1"),
            name: name.to_owned(),
            uuid: format!("{number:032x}"),
            state: "connected",
            epoch: "e0".to_owned(),
            kept_from: 0,
            output: Vec::new(),
            typed: Vec::new(),
            lock: None,
            log: None,
        });
        drop(state);
        self.order(Order::Changed(name.to_owned()));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.state().consoles.retain(|console| console.name != name);
    }

    pub(crate) fn print(&self, name: &str, bytes: &[u8]) {
        self.state().console(name).output.extend_from_slice(bytes);
        (&self.wake).write_all(&[0]).unwrap();
    }

    /// The VM comes, goes or moves.
    pub(crate) fn set_state(&self, name: &str, to: &'static str) {
        self.state().console(name).state = to;
        self.tell(name, json!({"event": "state", "state": to, "host": "192.0.2.11"}));
        self.order(Order::Changed(name.to_owned()));
    }

    /// What is read of its log from now on: records of operator.md §10.
    pub(crate) fn log_is(&self, name: &str, records: &[LogRecord<'_>]) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.put(&mut bytes));
        self.state().console(name).log = Some(bytes);
    }

    pub(crate) fn lock(&self, name: &str, mode: &str) {
        self.state().console(name).lock = Some((mode.to_owned(), 0));
    }

    pub(crate) fn unlock(&self, name: &str) {
        self.state().console(name).lock = None;
    }

    /// Something happens where the output ends now.
    pub(crate) fn tell(&self, name: &str, mut notice: Value) {
        notice["offset"] = self.state().console(name).end().into();
        self.order(Order::Tell(name.to_owned(), notice));
    }

    pub(crate) fn detach(&self, name: &str, fields: Value) {
        self.order(Order::Detach(name.to_owned(), fields));
    }

    pub(crate) fn log(&self, notice: Value) {
        self.order(Order::Log(notice));
    }

    /// Every connection is cut, and nobody listens.
    pub(crate) fn die(&self) {
        self.order(Order::Die);
        self.wait("nobody connected", |state| state.connections == 0 && state.orders.is_empty());
    }

    /// Listens again at the same address.
    pub(crate) fn rise(&self) {
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(self.address) {
                // A program that another test starts has the old one open until it executes.
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::yield_now();
                }
                outcome => break outcome.unwrap(),
            }
        };
        self.order(Order::Rise(listener));
    }

    /// As a server that was started anew: other ids, another epoch, nothing kept.
    /// What each console has printed since is given.
    pub(crate) fn rise_anew(&self, printed: &[u8]) {
        let mut state = self.state();
        state.runs += 1;
        let run = state.runs;
        for console in &mut state.consoles {
            console.id.push('9');
            console.epoch = format!("e{run}");
            console.kept_from = 0;
            console.output = printed.to_vec();
        }
        drop(state);
        self.rise();
    }

    pub(crate) fn await_typed(&self, name: &str, bytes: &[u8]) {
        let what = format!("{:?} typed at {name}", String::from_utf8_lossy(bytes));
        self.wait(&what, |state| {
            let typed = &mut state.console(name).typed;
            let found = typed.windows(bytes.len()).position(|window| window == bytes);
            found.map(|at| typed.drain(..at + bytes.len())).is_some()
        });
    }

    pub(crate) fn typed(&self, name: &str) -> Vec<u8> {
        self.state().console(name).typed.clone()
    }

    /// Waits for a request and takes it.
    pub(crate) fn await_request(&self, op: &str) -> Value {
        let mut found = Value::Null;
        self.wait(&format!("a request {op}"), |state| {
            let at = state.requests.iter().position(|request| request["op"] == op);
            found = at.map_or(Value::Null, |at| state.requests.remove(at));
            at.is_some()
        });
        found
    }

    /// A request that came, if one did. It stays.
    pub(crate) fn noted(&self, op: &str) -> Option<Value> {
        self.state().requests.iter().find(|request| request["op"] == op).cloned()
    }

    /// A server from before guests had agents.
    pub(crate) fn knows_no_guests(&self) {
        self.state().knows_no_guests = true;
    }

    /// The guest's agent does not answer, or does again.
    pub(crate) fn agent_is_away(&self, is_away: bool) {
        self.state().guest.is_away = is_away;
    }

    /// The guest's agent is of the time when there was one kind of checksum, or of today.
    pub(crate) fn agent_is_old(&self, is_old: bool) {
        self.state().guest.is_old = is_old;
    }

    /// Copies into the guest stand still once they have begun, or go on.
    pub(crate) fn hold_copies(&self, holds: bool) {
        self.state().guest.holds = holds;
        self.order(Order::Wake);
    }

    /// What is refused while the agent is away is reset as well.
    pub(crate) fn resets_refused(&self) {
        self.state().guest.resets_refused = true;
    }

    /// All consoles are of one VM.
    pub(crate) fn are_of_one_vm(&self) {
        self.state().consoles.iter_mut().for_each(|console| console.uuid = format!("{:032x}", 1));
    }

    /// The first two consoles have each other's ids.
    pub(crate) fn exchange_ids(&self) {
        let mut state = self.state();
        let [one, other] = &mut state.consoles[..2] else { panic!("there are less than two") };
        std::mem::swap(&mut one.id, &mut other.id);
    }

    /// The line to the guest is lost, and comes back at once.
    pub(crate) fn lose_guest(&self) {
        self.order(Order::LoseGuest);
    }

    pub(crate) fn put_file(&self, path: &str, bytes: &[u8], mode: u64) {
        self.state().guest.files.insert(path.to_owned(), (bytes.to_owned(), mode));
    }

    /// A file in the guest, and its permissions.
    pub(crate) fn file(&self, path: &str) -> Option<(Vec<u8>, u64)> {
        self.state().guest.files.get(path).cloned()
    }

    /// The next copy is cut once so many of its bytes have passed.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.state().guest.cut_after = Some(bytes);
    }

    /// A fact of the guest's.
    pub(crate) fn set_fact(&self, key: &str, value: &str) {
        self.state().guest.facts.insert(key.to_owned(), value.to_owned());
        self.order(Order::ToFacts(json!({"set": key, "to": value})));
    }

    /// Somebody connects to a listener of the guest's.
    pub(crate) fn connect_in_guest(&self, name: &str) {
        let (event, from) = ("connection", "127.0.0.1:1");
        let notice = json!({"event": event, "console": "1.1", "name": name, "number": 4, "from": from});
        self.order(Order::Connection(notice));
    }

    /// Takes the first note of what has happened in the guest that begins so.
    pub(crate) fn note(&self, begins: &str) -> Option<String> {
        let notes = &mut self.state().guest.notes;
        let at = notes.iter().position(|note| note.starts_with(begins))?;
        Some(notes.remove(at))
    }

    /// Waits until something has happened in the guest whose note has this in it.
    pub(crate) fn await_note_that(&self, part: &str) {
        self.wait(&format!("{part} in the guest"), |state| {
            state.guest.notes.iter().any(|note| note.contains(part))
        });
    }

    /// Waits until this has happened in the guest.
    pub(crate) fn await_note(&self, note: &str) {
        self.wait(&format!("{note} in the guest"), |state| {
            let notes = &mut state.guest.notes;
            notes.iter().position(|of| of == note).map(|at| drop(notes.remove(at))).is_some()
        });
    }

    fn wait(&self, what: &str, mut condition: impl FnMut(&mut State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        while !condition(&mut state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not in time: {what}");
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl State {
    fn console(&mut self, name: &str) -> &mut Console {
        self.consoles.iter_mut().find(|console| console.name == name).unwrap()
    }

    fn find(&self, reference: &str) -> Vec<usize> {
        let is =
            |console: &Console| [&console.id, &console.name, &console.uuid].contains(&&reference.to_owned());
        (0..self.consoles.len()).filter(|&at| is(&self.consoles[at])).collect()
    }
}

impl Console {
    fn end(&self) -> u64 {
        self.kept_from + self.output.len() as u64
    }

    fn describe(&self) -> Value {
        let lock = self.lock.as_ref().map(|(mode, _)| json!({"mode": mode, "by": "bob@192.0.2.9"}));
        json!({
            "id": self.id, "name": self.name, "uuid": self.uuid, "port": 50001, "state": self.state,
            "since_ms": 60_000, "host": "192.0.2.10", "legs": 1, "clients": 1, "lock": lock, "idle_ms": 2000,
            "stayed_ms": 60_000, "home": "192.0.2.10", "out": self.end(), "in": self.typed.len(),
            "epoch": self.epoch, "offset": self.end(), "shared": false,
        })
    }
}

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
