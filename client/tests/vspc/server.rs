//! A scripted server of the operator protocol, written from docs/protocol/operator.md: consoles that print
//! what the test says, and that note what is typed. It knows no VMs, and gives everybody every right unless
//! told otherwise.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use vspc_core::mux::{Carrier, Config, Event, Features, Priority, Received, Role, Session, Start, StreamId};
use vspc_core::time;

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
        let listener = TcpListener::bind(self.address).unwrap();
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

struct Loop {
    listener: Option<TcpListener>,
    woken: UnixStream,
    shared: Arc<Shared>,
    peers: Vec<Peer>,
    start: Instant,
    accepted: u64,
}

struct Peer {
    number: u64,
    socket: TcpStream,
    session: Session,
    control: StreamId,
    line: Vec<u8>,
    said: Vec<u8>,
    /// Streams that end once that has been sent.
    ending: Vec<StreamId>,
    attaches: Vec<Attach>,
    to_consoles: bool,
    to_events: bool,
    gone: bool,
}

struct Attach {
    stream: StreamId,
    console: String,
    at: u64,
    access: &'static str,
}

impl Loop {
    fn new(listener: TcpListener, woken: UnixStream, shared: Arc<Shared>) -> Self {
        listener.set_nonblocking(true).unwrap();
        Self {
            listener: Some(listener),
            woken,
            shared,
            peers: Vec::new(),
            start: Instant::now(),
            accepted: 0,
        }
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap())
    }

    fn run(mut self) {
        loop {
            {
                let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
                fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
                for peer in &self.peers {
                    let output = if peer.session.has_output() { PollFlags::OUT } else { PollFlags::empty() };
                    fds.push(PollFd::new(&peer.socket, PollFlags::IN | output));
                }
                if poll(&mut fds, None).is_err() {
                    continue;
                }
            }
            match (&self.woken).read(&mut [0; 64]) {
                Ok(0) => return,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                _ => {}
            }
            self.accept();
            let shared = Arc::clone(&self.shared);
            let mut state = shared.state.lock().unwrap();
            while let Some(order) = state.orders.pop_front() {
                self.obey(order, &mut state);
            }
            let now = self.now();
            for peer in &mut self.peers {
                peer.turn(&mut state, now);
            }
            for peer in self.peers.iter().filter(|peer| peer.gone) {
                for console in &mut state.consoles {
                    console.lock.take_if(|(_, by)| *by == peer.number);
                }
            }
            self.peers.retain(|peer| !peer.gone);
            state.connections = self.peers.len();
            shared.changed.notify_all();
        }
    }

    fn accept(&mut self) {
        let now = self.now();
        while let Some((socket, _)) = self.listener.as_ref().and_then(|listener| listener.accept().ok()) {
            socket.set_nonblocking(true).unwrap();
            self.accepted += 1;
            let config = Config {
                start: Start::S2Only { within: Duration::from_secs(10) },
                carrier: Carrier::Reliable,
                features: Features(Features::WINDOWED.0 | Features::RESET.0),
                max_frame: 16_384,
                min_frame: 512,
                min_window: 4096,
                max_own_streams: 0,
                ..Config::new(Role::Guest)
            };
            self.peers.push(Peer {
                number: self.accepted,
                socket,
                session: Session::new(config, now).unwrap(),
                control: StreamId(1),
                line: Vec::new(),
                said: Vec::new(),
                ending: Vec::new(),
                attaches: Vec::new(),
                to_consoles: false,
                to_events: false,
                gone: false,
            });
        }
    }

    fn obey(&mut self, order: Order, state: &mut State) {
        let now = self.now();
        match order {
            Order::Die => {
                // What was said before still arrives.
                for peer in &mut self.peers {
                    peer.turn(state, now);
                }
                self.peers.clear();
                self.listener = None;
                for console in &mut state.consoles {
                    console.lock = None;
                }
            }
            Order::Rise(listener) => {
                listener.set_nonblocking(true).unwrap();
                self.listener = Some(listener);
            }
            Order::Log(notice) => {
                self.peers.iter_mut().filter(|peer| peer.to_events).for_each(|peer| peer.say(&notice));
            }
            Order::Changed(name) => {
                let notice = json!({"event": "console", "console": state.console(&name).describe()});
                self.peers.iter_mut().filter(|peer| peer.to_consoles).for_each(|peer| peer.say(&notice));
            }
            Order::Tell(name, notice) => {
                for peer in &mut self.peers {
                    peer.tell(&name, &notice, state);
                }
            }
            Order::Detach(name, mut fields) => {
                fields["event"] = "detached".into();
                for peer in &mut self.peers {
                    peer.show(state);
                    peer.tell(&name, &fields, state);
                    for attach in peer.attaches.extract_if(.., |attach| attach.console == name) {
                        peer.ending.push(attach.stream);
                    }
                }
            }
        }
    }
}

impl Peer {
    fn say(&mut self, line: &Value) {
        self.said.extend(line.to_string().bytes());
        self.said.push(b'\n');
    }

    /// Tells of something that happens where the output of the console ends.
    fn tell(&mut self, name: &str, notice: &Value, state: &mut State) {
        let end = state.console(name).end();
        let streams: Vec<u64> = self
            .attaches
            .iter()
            .filter(|attach| attach.console == name)
            .map(|attach| attach.stream.0)
            .collect();
        for stream in streams {
            let mut notice = notice.clone();
            notice["stream"] = stream.into();
            if notice["offset"].is_null() {
                notice["offset"] = end.into();
            }
            self.say(&notice);
        }
    }

    fn turn(&mut self, state: &mut State, now: time::Instant) {
        let mut buf = [0; 16_384];
        loop {
            match self.socket.read(&mut buf) {
                Ok(0) => self.gone = true,
                Ok(n) => {
                    self.session.handle_received(&buf[..n], now);
                    self.settle(state);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
            break;
        }
        self.session.handle_timeout(now);
        self.settle(state);
        self.show(state);
        loop {
            let n = self.session.write(self.control, &self.said).unwrap_or(0);
            self.said.drain(..n);
            let socket = &mut self.socket;
            let sent = self.session.transmit_with(now, |runs| socket.write_vectored(runs).unwrap_or(0));
            if sent == 0 {
                // The session's words overtake its payload: a stream ends behind the notice that tells why.
                if self.said.is_empty() && !self.ending.is_empty() {
                    for stream in self.ending.drain(..) {
                        let _ = self.session.finish(stream);
                    }
                    continue;
                }
                break;
            }
            self.show(state);
        }
        self.gone |= self.session.is_closed();
    }

    fn show(&mut self, state: &mut State) {
        for attach in &mut self.attaches {
            let console = state.console(&attach.console);
            let from = usize::try_from(attach.at - console.kept_from).unwrap();
            let most = self.session.credit(attach.stream).min(console.output.len() - from);
            let n = self.session.write(attach.stream, &console.output[from..from + most]).unwrap_or(0);
            attach.at += n as u64;
            if n < console.output.len() - from {
                let _ = self.session.want_credit(attach.stream);
            }
        }
    }

    fn settle(&mut self, state: &mut State) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Opened(id) if id == self.control => {
                    self.session.set_priority(id, Priority::High).unwrap();
                }
                Event::Readable(id) if id == self.control => self.read_control(state),
                Event::Readable(id) => self.read_typed(id, state),
                Event::Reset(id, _) => self.attaches.retain(|attach| attach.stream != id),
                Event::Closed(_) => self.gone = true,
                _ => {}
            }
        }
    }

    fn read_typed(&mut self, id: StreamId, state: &mut State) {
        while let Ok(Received::Bytes(bytes)) = self.session.received(id) {
            let n = bytes.len();
            if let Some(attach) = self.attaches.iter().find(|attach| attach.stream == id)
                && attach.access == "write"
            {
                state.console(&attach.console).typed.extend_from_slice(bytes);
            }
            self.session.consume(id, n).unwrap();
        }
    }

    fn read_control(&mut self, state: &mut State) {
        while let Ok(Received::Bytes(bytes)) = self.session.received(self.control) {
            self.line.extend_from_slice(bytes);
            let n = bytes.len();
            self.session.consume(self.control, n).unwrap();
        }
        while let Some(len) = self.line.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=len).collect();
            let request: Value = serde_json::from_slice(&line).unwrap();
            let mut answer = match self.answer(&request, state) {
                Ok(value) => json!({"ok": value}),
                Err(error) => json!({"error": error}),
            };
            answer["id"] = request["id"].clone();
            self.say(&answer);
            if request["op"] == "subscribe" && request["to"] == "consoles" {
                for console in &state.consoles {
                    let notice = json!({"event": "console", "console": console.describe()});
                    self.say(&notice);
                }
                self.say(&json!({"event": "synced"}));
            }
            state.requests.push(request);
        }
    }

    fn answer(&mut self, request: &Value, state: &mut State) -> Result<Value, Value> {
        let console = || {
            let reference = request["console"].as_str().unwrap_or_default();
            match state.find(reference)[..] {
                [at] => Ok(at),
                [] => Err(json!({"code": "no-such-console", "message": "no such console", "candidates": []})),
                ref several => {
                    let candidates: Vec<Value> = several
                        .iter()
                        .map(|&at| json!({"id": state.consoles[at].id, "name": state.consoles[at].name}))
                        .collect();
                    Err(json!({"code": "ambiguous", "message": "several have it", "candidates": candidates}))
                }
            }
        };
        let rights = state.rights.unwrap_or("operator");
        let need = |right: &str| match rights == "operator" || rights == right {
            true => Ok(()),
            false => Err(json!({"code": "not-allowed", "message": "you may not do this", "needs": right})),
        };
        match request["op"].as_str().unwrap() {
            "hello" => {
                Ok(json!({"v": 1, "server": "fake 1", "rights": rights, "as": "test", "features": []}))
            }
            "list" => {
                let pattern = request["match"].as_str().unwrap_or("").to_lowercase();
                let after = request["after"].as_str().map_or(0, |after| after.parse().unwrap());
                let limit = usize::try_from(request["limit"].as_u64().unwrap_or(200)).unwrap().min(PAGE);
                let matching: Vec<Value> = state
                    .consoles
                    .iter()
                    .filter(|console| {
                        [&console.name, &console.uuid].iter().any(|text| matches(text, &pattern))
                    })
                    .map(Console::describe)
                    .collect();
                let page: Vec<Value> = matching.iter().skip(after).take(limit).cloned().collect();
                let next = after + page.len();
                let next = (next < matching.len()).then(|| next.to_string());
                Ok(json!({"consoles": page, "next": next}))
            }
            "show" => Ok(json!({"console": state.consoles[console()?].describe()})),
            "who" => {
                console()?;
                Ok(json!({
                    "clients": [
                        {"id": "7.1", "who": "ann", "from": "192.0.2.7:4000", "speaks": "operator",
                            "access": "write", "lock": null, "since_ms": 5000, "you": true},
                        {"id": "8.1", "who": "bob\u{1b}[31m", "from": "192.0.2.9:4001", "speaks": "telnet",
                            "access": "write", "lock": "write", "since_ms": 65_000, "you": false},
                    ],
                    "legs": [{"id": "5.1", "from": "192.0.2.10:1000", "holds_input": true}],
                }))
            }
            "subscribe" => {
                match request["to"].as_str() {
                    Some("consoles") => self.to_consoles = true,
                    _ => self.to_events = true,
                }
                Ok(json!({}))
            }
            "attach" => {
                let at = console()?;
                let console = &mut state.consoles[at];
                let mode = request["lock"].as_str().unwrap_or("free-for-all-fallback");
                let access = grant(console, mode, self.number)?;
                let at = match &request["from"] {
                    Value::Null => {
                        console.end()
                            - request["scrollback"].as_u64().unwrap_or(0).min(console.output.len() as u64)
                    }
                    from => {
                        let offset = from["offset"].as_u64().unwrap();
                        if from["epoch"] != console.epoch
                            || offset < console.kept_from
                            || offset > console.end()
                        {
                            return Err(json!({"code": "gone", "message": "this is no longer kept"}));
                        }
                        offset
                    }
                };
                let stream = StreamId(request["stream"].as_u64().unwrap());
                self.attaches.push(Attach { stream, console: console.name.clone(), at, access });
                let lock = if access == "read" { "read-only" } else { mode };
                Ok(json!({"console": console.describe(), "access": access, "lock": lock,
                    "epoch": console.epoch, "offset": at}))
            }
            "lock" => {
                let number = self.number;
                let stream = request["stream"].as_u64().unwrap();
                let attach = self.attaches.iter_mut().find(|attach| attach.stream.0 == stream);
                let attach = attach.ok_or(json!({"code": "no-such-stream", "message": "no such stream"}))?;
                let console = state.console(&attach.console);
                console.lock.take_if(|(_, by)| *by == number);
                attach.access = grant(console, request["mode"].as_str().unwrap(), number)?;
                Ok(json!({"access": attach.access, "lock": request["mode"]}))
            }
            "break" => need("writer").map(|()| json!({})),
            "bump" => need("operator").map(|()| json!({"bumped": 2})),
            "kick" | "give-input" | "reload" | "drain" => need("operator").map(|()| json!({})),
            "stats" => Ok(json!({
                "counters": {"connections": 3, "consoles": state.consoles.len()},
                "typing_us": {"count": 9, "p50": 40, "p99": 90, "max": 120, "steps": [[64, 8], [128, 1]]},
            })),
            _ => Err(json!({"code": "unknown-op", "message": "unknown"})),
        }
    }
}

/// What the mode allows beside the lock that is there.
fn grant(console: &mut Console, mode: &str, by: u64) -> Result<&'static str, Value> {
    let locked = console.lock.as_ref().map(|(mode, _)| mode.clone());
    let refused = || json!({"code": "locked", "message": "somebody has it locked", "by": "bob@192.0.2.9"});
    match (mode, locked.as_deref()) {
        (_, Some("exclusive")) => Err(refused()),
        ("read-only", _) | ("free-for-all-fallback", Some(_)) => Ok("read"),
        (_, Some(_)) => Err(refused()),
        ("write" | "exclusive", None) => {
            console.lock = Some((mode.to_owned(), by));
            Ok("write")
        }
        (_, None) => Ok("write"),
    }
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.to_lowercase().starts_with(beginning),
        None => text.to_lowercase().contains(pattern),
    }
}

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A small page, so that a list of a few consoles has several.
const PAGE: usize = 3;
