//! hyperstart as an agent: what operators ask for by S2 becomes commands and v1's messages, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vspc_core::hyperstart::{Interpreter, InterpreterConfig};
use vspc_core::mux::{Config, Event, Received, Role, Session, StreamId};
use vspc_core::time::Instant;

use crate::guest::V1Guest;

mod left_behind;
mod processes;
mod sessions;

/// A concentrator's end of S2, the interpreter, and a guest.
struct Line {
    now: Instant,
    host: Session,
    between: Interpreter,
    guest: V1Guest,
    came: BTreeMap<StreamId, Vec<u8>>,
    ended: Vec<StreamId>,
    reset: Vec<StreamId>,
    /// There is an agent, as far as the host knows.
    is_met: bool,
    /// The host does not read these.
    stalled: Vec<StreamId>,
    /// The guest's bytes are cut into pieces of this size.
    cut: usize,
}

impl Line {
    fn closed() -> Self {
        let now = Instant::from_millis(1000);
        let config = InterpreterConfig { nonce: 3, seed: [1, 2], first_id: 100 };
        Self {
            now,
            host: Session::new(Config { nonce: 7, ..Config::new(Role::Host) }, now).unwrap(),
            between: Interpreter::new(config, now),
            guest: V1Guest::new(),
            came: BTreeMap::new(),
            ended: Vec::new(),
            reset: Vec::new(),
            is_met: false,
            stalled: Vec::new(),
            cut: usize::MAX,
        }
    }

    fn new() -> Self {
        Self::of(4244)
    }

    fn of(api: u32) -> Self {
        let mut line = Self::closed();
        line.guest.api = api;
        line.meet();
        line
    }

    fn meet(&mut self) {
        self.between.handle_control_opened(self.now);
        self.between.handle_streams_opened(self.now);
        self.pass();
        assert!(self.between.is_up());
    }

    fn pass(&mut self) {
        let now = self.now;
        for round in 0.. {
            assert!(round < 10_000, "they do not come to rest");
            let mut moved = 0;
            let is_up = self.between.is_up();
            if is_up && !std::mem::replace(&mut self.is_met, is_up) {
                self.host.line_reopened(now);
            }
            self.is_met = is_up;
            let mut down = Vec::new();
            moved += self.host.transmit_with(now, |runs| {
                runs.iter().for_each(|run| down.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.between.handle_agent(&down, now);
            let mut up = Vec::new();
            moved += self.between.transmit_agent(now, |runs| {
                runs.iter().for_each(|run| up.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.host.handle_received(&up, now);
            self.listen();
            let guest = &mut self.guest;
            moved += self.between.transmit_control(|bytes| {
                guest.handle_control(bytes);
                bytes.len()
            });
            let mut down = Vec::new();
            moved += self.between.transmit_streams(now, |runs| {
                runs.iter().for_each(|run| down.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            });
            self.guest.handle_stream(&down);
            let said = std::mem::take(&mut self.guest.says);
            moved += said.len();
            said.chunks(self.cut).for_each(|piece| self.between.handle_control(piece, now));
            let mut streams = std::mem::take(&mut self.guest.streams);
            while self.between.receive_window() > 0 && !streams.is_empty() {
                let rest = streams.split_off(streams.len().min(self.cut).min(16 << 10));
                moved += streams.len();
                self.between.handle_streams(&streams, now);
                streams = rest;
            }
            self.guest.streams.splice(..0, streams);
            if moved == 0 {
                return;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        self.between.handle_timeout(self.now);
        self.host.handle_timeout(self.now);
        self.pass();
    }

    fn listen(&mut self) {
        while let Some(event) = self.host.poll_event() {
            match event {
                Event::Readable(id) => self.read(id),
                Event::Reset(id, _) => self.reset.push(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        while !self.stalled.contains(&id) {
            match self.host.received(id) {
                Ok(Received::Bytes(bytes)) => {
                    let n = bytes.len();
                    self.came.entry(id).or_default().extend_from_slice(bytes);
                    self.host.consume(id, n).unwrap();
                }
                Ok(Received::End) => return self.ended.push(id),
                _ => return,
            }
        }
    }

    /// Opens a stream with this header, and what follows.
    fn open(&mut self, header: &serde_json::Value, behind: &[u8]) -> StreamId {
        let id = self.host.open().unwrap();
        let line = [header.to_string().as_bytes(), b"\n", behind].concat();
        assert_eq!(self.host.write(id, &line), Ok(line.len()));
        id
    }

    /// A process with all of its streams: main, err, control.
    fn exec(&mut self, key: u8, argv: &[&str]) -> [StreamId; 3] {
        let key = name(key);
        let main =
            self.open(&json!({ "op": "exec", "key": key, "argv": argv, "with": ["err", "control"] }), b"");
        let err = self.open(&json!({ "op": "err", "key": key }), b"");
        let control = self.open(&json!({ "op": "control", "key": key }), b"");
        self.pass();
        [main, err, control]
    }

    /// One on a terminal: main, control.
    fn shell(&mut self, key: u8) -> [StreamId; 2] {
        let key = name(key);
        let pty = json!({ "rows": 24, "cols": 80, "term": "vt220" });
        let main = self.open(&json!({ "op": "shell", "key": key, "pty": pty, "with": ["control"] }), b"");
        let control = self.open(&json!({ "op": "control", "key": key }), b"");
        self.pass();
        [main, control]
    }

    fn say(&mut self, id: StreamId, bytes: &[u8]) {
        assert_eq!(self.host.write(id, bytes), Ok(bytes.len()));
        self.pass();
    }

    fn heard(&mut self, id: StreamId) -> String {
        String::from_utf8(self.came.remove(&id).unwrap_or_default()).unwrap()
    }

    fn container(&mut self, key: u8, id: &str, process: &serde_json::Value) -> StreamId {
        let described = json!({ "id": id, "rootfs": "rootfs", "image": "i", "process": process }).to_string();
        let header = json!({ "op": "container", "key": name(key), "size": described.len() });
        let main = self.open(&header, described.as_bytes());
        self.pass();
        main
    }
}

fn name(key: u8) -> String {
    format!("{key:016}")
}

const OK: &str = "{\"ok\":{}}\n";
