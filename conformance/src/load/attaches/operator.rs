//! One operator connection with an attach at each console (operator.md).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vspc_core::admin::operator::CONTROL;
use vspc_core::mux::{self, Carrier, Features, Received, Session, Start, StreamId};
use vspc_core::time;

use super::{LoadError, Readers, lines_in};
use crate::load::link::numbered_vm;

pub(super) struct Operator {
    stream: TcpStream,
    session: Session,
    began: Instant,
    attached: Vec<StreamId>,
    /// What has come on the control stream and is no whole line.
    heard: Vec<u8>,
    scratch: Vec<u8>,
}

impl Operator {
    /// Connects, and attaches to watch the consoles of the first `count` VMs of a fleet.
    pub(super) fn open(admin: SocketAddr, count: u16) -> Result<Self, LoadError> {
        let failed = |error| LoadError::Unreachable(format!("admin port {admin}: {error}"));
        let stream = TcpStream::connect(admin).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let config = mux::Config {
            carrier: Carrier::Reliable,
            start: Start::S2Only { within: PATIENCE },
            features: Features(Features::WINDOWED.0 | Features::RESET.0 | Features::RELIABLE.0),
            max_frame: 16 << 10,
            max_streams: u32::from(count) + 2,
            ..mux::Config::new(mux::Role::Host)
        };
        let refused = |why: &dyn std::fmt::Display| LoadError::Usage(format!("multiplexer: {why}"));
        let mut session = Session::new(config, time::Instant::ZERO).map_err(|why| refused(&why))?;
        session.open_announced().map_err(|why| refused(&why))?;
        let mut operator = Self {
            stream,
            session,
            began: Instant::now(),
            attached: Vec::new(),
            heard: Vec::new(),
            scratch: vec![0; 1 << 16],
        };
        operator.ask(json!({"op": "hello", "v": 1, "client": "vspc-conformance load"}))?;
        for number in 0..count {
            let stream = operator.session.open_announced().map_err(|why| refused(&why))?;
            let name = numbered_vm(number.into()).name;
            operator
                .ask(json!({"op": "attach", "console": name, "stream": stream.0, "lock": "read-only"}))?;
            operator.attached.push(stream);
        }
        Ok(operator)
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Says all that there is to say.
    fn flush(&mut self) -> Result<(), LoadError> {
        let now = self.now();
        let mut said = Vec::new();
        while self.session.transmit_with(now, |runs| {
            runs.iter().for_each(|run| said.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        self.stream.write_all(&said).map_err(|error| lost(&error))
    }

    /// One read, of what comes within `wait`. Returns how many lines ended on attached streams.
    fn turn(&mut self, wait: Duration) -> Result<u64, LoadError> {
        self.flush()?;
        self.stream.set_read_timeout(Some(wait)).map_err(|error| lost(&error))?;
        let n = match self.stream.read(&mut self.scratch) {
            Ok(0) => return Err(LoadError::Violation("the server closed the operator connection".into())),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(0);
            }
            Err(error) => return Err(lost(&error)),
        };
        let now = self.now();
        self.session.handle_received(&self.scratch[..n], now);
        let mut lines = 0;
        while let Some(event) = self.session.poll_event() {
            let mux::Event::Readable(id) = event else { continue };
            while let Ok(Received::Bytes(bytes)) = self.session.received(id) {
                let n = bytes.len();
                match id {
                    CONTROL => self.heard.extend_from_slice(bytes),
                    _ => lines += lines_in(bytes),
                }
                self.session.consume(id, n).map_err(|why| LoadError::Violation(why.to_string()))?;
            }
        }
        self.flush()?;
        Ok(lines)
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, mut request: Value) -> Result<(), LoadError> {
        request["id"] = json!(0);
        let line = format!("{request}\n");
        self.session
            .write(CONTROL, line.as_bytes())
            .map_err(|why| LoadError::Violation(format!("cannot ask {line:?}: {why}")))?;
        let limit = Instant::now() + PATIENCE;
        while Instant::now() < limit {
            self.turn(Duration::from_millis(100))?;
            while let Some(end) = memchr::memchr(b'\n', &self.heard) {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                let answer: Value = serde_json::from_slice(&line).unwrap_or_default();
                match (answer.get("ok"), answer.get("error")) {
                    (Some(_), _) => return Ok(()),
                    (_, Some(error)) => {
                        return Err(LoadError::Violation(format!("{request} is answered {error}")));
                    }
                    _ => {}
                }
            }
        }
        Err(LoadError::Unreachable(format!("no answer to {request} within {} s", PATIENCE.as_secs())))
    }
}

impl Readers for Operator {
    fn read(&mut self, wait: Duration) -> Result<u64, LoadError> {
        self.turn(wait)
    }
}

fn lost(error: &std::io::Error) -> LoadError {
    LoadError::Violation(format!("the operator connection: {error}"))
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
