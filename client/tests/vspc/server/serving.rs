//! The scripted server's loop: sockets, sessions, and what it sends by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use vspc_core::mux::{Carrier, Config, Event, Features, Priority, Received, Role, Session, Start, StreamId};
use vspc_core::time;

use super::guest::Joint;
use super::{Order, Shared, State};

/// The thread of a server.
pub(super) struct Loop {
    listener: Option<TcpListener>,
    woken: UnixStream,
    shared: Arc<Shared>,
    peers: Vec<Peer>,
    start: Instant,
    accepted: u64,
}

/// One connection.
pub(super) struct Peer {
    pub(super) number: u64,
    socket: TcpStream,
    pub(super) session: Session,
    control: StreamId,
    line: Vec<u8>,
    said: Vec<u8>,
    /// Streams that end once that has been sent.
    ending: Vec<StreamId>,
    pub(super) attaches: Vec<Attach>,
    /// What is still to be sent of logs, by stream.
    pub(super) logs: Vec<(StreamId, Vec<u8>)>,
    /// Streams that are joined with the guest's.
    pub(super) joints: Vec<Joint>,
    /// Takes what connects to listeners of the guest's.
    pub(super) accepts: bool,
    pub(super) to_consoles: bool,
    pub(super) to_events: bool,
    gone: bool,
}

/// A console that a stream carries.
pub(super) struct Attach {
    pub(super) stream: StreamId,
    pub(super) console: String,
    pub(super) at: u64,
    pub(super) access: &'static str,
}

impl Loop {
    pub(super) fn new(listener: TcpListener, woken: UnixStream, shared: Arc<Shared>) -> Self {
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

    pub(super) fn run(mut self) {
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
            if self.shared.state.lock().unwrap().is_impatient {
                (&socket).write_all(b"\xff\xfb\xe9").unwrap();
            }
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
                logs: Vec::new(),
                joints: Vec::new(),
                accepts: false,
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
            // Each turn looks at everything.
            Order::Wake => {}
            Order::LoseGuest => self.peers.iter_mut().for_each(Peer::lose_guest),
            Order::ToFacts(line) => {
                let joints = self.peers.iter_mut().flat_map(|peer| &mut peer.joints);
                joints.filter(|joint| joint.is_facts()).for_each(|joint| joint.say(&line));
            }
            Order::Connection(notice) => {
                self.peers.iter_mut().filter(|peer| peer.accepts).for_each(|peer| peer.say(&notice));
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
        self.turn_guest(&mut state.guest);
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
                if !self.session.has_output() && self.cut() {
                    continue;
                }
                break;
            }
            self.show(state);
        }
        self.gone |= self.session.is_closed();
    }

    fn show(&mut self, state: &mut State) {
        self.show_guest();
        for (stream, log) in &mut self.logs {
            let most = self.session.credit(*stream).min(log.len());
            let n = self.session.write(*stream, &log[..most]).unwrap_or(0);
            log.drain(..n);
            match log.is_empty() {
                true => drop(self.session.finish(*stream)),
                false => drop(self.session.want_credit(*stream)),
            }
        }
        self.logs.retain(|(_, log)| !log.is_empty());
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
                // The others are the guest's, or will be.
                Event::Readable(id) if self.attaches.iter().any(|attach| attach.stream == id) => {
                    self.read_typed(id, state);
                }
                Event::Reset(id, _) => {
                    self.attaches.retain(|attach| attach.stream != id);
                    self.handle_joint_reset(id, &mut state.guest);
                }
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
}
