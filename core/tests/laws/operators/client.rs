//! A client of the operator protocol in a world in memory: what tests ask with.

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::CONTROL;
use vspc_core::concentrator::ConnId;
use vspc_core::mux::{self, Carrier, Features, Received, Session, Start, StreamId};

use crate::admin::connect;
use crate::world::World;

/// A client of the operator protocol, and what it has heard.
pub(crate) struct Operator {
    pub(crate) id: ConnId,
    pub(crate) session: Session,
    pub(crate) heard: Vec<u8>,
    /// What came without being asked.
    pub(crate) notices: Vec<Value>,
    pub(crate) requests: u64,
}

impl Operator {
    /// Connects from this machine, and says nothing but HELLO.
    pub(crate) fn new(world: &mut World) -> Self {
        let id = connect(world);
        Self::on(world, id)
    }

    /// The same, on a connection that is there.
    pub(crate) fn on(world: &mut World, id: ConnId) -> Self {
        Self::with(world, id, 0)
    }

    /// Known by name, with windows that may grow.
    pub(crate) fn growing(world: &mut World) -> Self {
        let id = connect(world);
        let mut operator = Self::with(world, id, 1 << 20);
        operator.ok(world, json!({ "op": "hello", "v": 1, "client": "test" }));
        operator
    }

    fn with(world: &mut World, id: ConnId, growth: u64) -> Self {
        let config = mux::Config {
            carrier: Carrier::Reliable,
            start: Start::S2Only { within: Duration::from_secs(5) },
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_frame: 16384,
            max_streams: 4096,
            most_window: 512 << 10,
            growth,
            ..mux::Config::new(mux::Role::Host)
        };
        let mut session = Session::new(config, world.now).unwrap();
        assert_eq!(session.open_announced(), Ok(CONTROL));
        let mut operator = Self { id, session, heard: Vec::new(), notices: Vec::new(), requests: 0 };
        operator.pass(world);
        operator
    }

    /// The same, known by name.
    pub(crate) fn known(world: &mut World) -> Self {
        let mut operator = Self::new(world);
        operator.ok(world, json!({ "op": "hello", "v": 1, "client": "test" }));
        operator
    }

    /// Lets bytes go both ways until there are none.
    pub(crate) fn pass(&mut self, world: &mut World) {
        loop {
            let mut said = Vec::new();
            while self.session.transmit_with(world.now, |runs| {
                runs.iter().for_each(|run| said.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            }) > 0
            {}
            let has_said = !said.is_empty();
            if has_said {
                world.type_wire(self.id, &said);
            }
            world.settle();
            let answer = std::mem::take(world.wire(self.id));
            self.session.handle_received(&answer, world.now);
            while self.session.poll_event().is_some() {}
            if !has_said && answer.is_empty() {
                break;
            }
            let control = self.take(CONTROL.0, usize::MAX);
            self.heard.extend(control);
        }
    }

    /// Takes what has come on a stream.
    pub(crate) fn take(&mut self, stream: u64, most: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Ok(Received::Bytes(bytes)) = self.session.received(StreamId(stream))
            && taken.len() < most
        {
            let n = bytes.len().min(most - taken.len());
            taken.extend_from_slice(&bytes[..n]);
            self.session.consume(StreamId(stream), n).unwrap();
        }
        taken
    }

    /// Takes everything that comes on a stream.
    pub(crate) fn read(&mut self, world: &mut World, stream: u64) -> String {
        let mut all = Vec::new();
        loop {
            self.pass(world);
            let more = self.take(stream, usize::MAX);
            if more.is_empty() {
                return String::from_utf8_lossy(&all).into_owned();
            }
            all.extend(more);
        }
    }

    pub(crate) fn send(&mut self, mut request: Value) -> u64 {
        self.requests += 1;
        request["id"] = self.requests.into();
        self.session.write(CONTROL, format!("{request}\n").as_bytes()).unwrap();
        self.requests
    }

    /// Asks, and returns the answer; notices before it are kept.
    pub(crate) fn ask(&mut self, world: &mut World, request: Value) -> Value {
        let id = self.send(request);
        for _ in 0..100 {
            self.pass(world);
            while let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let value: Value = serde_json::from_slice(&line).expect("a line is JSON");
                if value["id"] == id {
                    return value;
                }
                self.notices.push(value);
            }
            world.pass(Duration::from_millis(1));
        }
        panic!("request {id} was not answered; heard {:?}", self.notices);
    }

    pub(crate) fn ok(&mut self, world: &mut World, request: Value) -> Value {
        let answer = self.ask(world, request);
        assert!(answer["error"].is_null(), "{answer}");
        answer["ok"].clone()
    }

    pub(crate) fn code(&mut self, world: &mut World, request: Value) -> String {
        let answer = self.ask(world, request);
        answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Notices that have come, of one kind.
    pub(crate) fn notices(&mut self, world: &mut World, event: &str) -> Vec<Value> {
        self.ok(world, json!({ "op": "list", "limit": 1 }));
        let notices = std::mem::take(&mut self.notices);
        notices.into_iter().filter(|notice| notice["event"] == event).collect()
    }

    /// Opens a stream and attaches it.
    pub(crate) fn attach(&mut self, world: &mut World, console: &str, lock: &str) -> u64 {
        let stream = self.session.open_announced().unwrap().0;
        self.ok(world, json!({ "op": "attach", "console": console, "stream": stream, "lock": lock }));
        stream
    }
}
