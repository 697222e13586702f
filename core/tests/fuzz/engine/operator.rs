//! An operator, at the other end of a connection to the admin port. It asks whatever can be asked, opens
//! streams, sends and takes bytes on them or does not, and says what is no request, as the program wants.
//!
//! Checked: what the engine sends it is whole frames; each answer is to a request, and to none that has been
//! answered; and in the end every request that needs nobody else has one.

use std::collections::BTreeMap;
use std::time::Duration;

use vspc_core::admin::operator::CONTROL;
use vspc_core::mux::{
    Carrier, CloseReason, Config, Event, Features, Received, Role, Session, Start, StreamId, Violation,
};
use vspc_core::telnet::IAC;
use vspc_core::time::Instant;

/// One operator.
pub(super) struct Operator {
    session: Session,
    /// What was asked and is not answered, and whether the engine alone can answer it.
    asked: BTreeMap<u64, bool>,
    next: u64,
    /// Of its control stream, what is no whole line yet.
    heard: Vec<u8>,
    /// Streams that it has opened, whether they live or not.
    streams: Vec<StreamId>,
    /// It takes nothing of its streams.
    stalls: bool,
    /// It has said nothing but requests.
    is_faithful: bool,
    has_heard: bool,
    /// Its session is over; what came may have been no frame.
    is_over: bool,
    fault: Option<Violation>,
}

impl Operator {
    /// One in eight does not say hello before it asks.
    pub(super) fn new(nonce: u32, now: Instant) -> Self {
        let sizes = Config {
            nonce,
            carrier: Carrier::Reliable,
            start: Start::S2Only { within: Duration::from_secs(5) },
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_streams: 64,
            ..Config::new(Role::Host)
        };
        let mut session = Session::new(sizes, now).expect("sizes that work");
        assert_eq!(session.open_announced(), Ok(CONTROL));
        let mut operator = Self {
            session,
            asked: BTreeMap::new(),
            next: 0,
            heard: Vec::new(),
            streams: Vec::new(),
            stalls: false,
            is_faithful: true,
            has_heard: false,
            is_over: false,
            fault: None,
        };
        if nonce & 14 != 14 {
            operator.ask(HELLO, true);
        }
        operator
    }

    /// It does something, by its number.
    pub(super) fn act(&mut self, word: u8, arg: u8) {
        let at = usize::from(arg >> 3);
        let known = at.checked_rem(self.streams.len()).map(|at| self.streams[at]);
        let stream = known.map_or(u64::from(arg >> 3), |id| id.0);
        let console = CONSOLES[usize::from(arg) % CONSOLES.len()];
        let lock = LOCKS[usize::from(arg >> 5) % LOCKS.len()];
        let id = format!("{}.{}", arg & 15, 1 + (arg >> 5));
        match word % 32 {
            0 => self.ask(HELLO, true),
            1 => self.ask(&format!(r#""op":"list","limit":{},"with":["last_line"]"#, 1 + (arg & 7)), true),
            2 => self.ask(&format!(r#""op":"show","console":"{console}""#), true),
            3 => self.ask(&format!(r#""op":"who","console":"{console}""#), true),
            4 if arg & 1 == 0 => self.ask(r#""op":"subscribe","to":"consoles""#, true),
            4 => self.ask(r#""op":"subscribe","to":"events""#, true),
            5..=9 => {
                let Some(stream) = self.open() else { return };
                let of = format!(r#""console":"{console}","stream":{stream}"#);
                let size = r#""size":{"rows":24,"cols":80}"#;
                self.ask(&format!(r#""op":"attach",{of},"lock":"{lock}","scrollback":{arg},{size}"#), true);
            }
            10 => self.ask(&format!(r#""op":"lock","stream":{stream},"mode":"{lock}""#), true),
            11 => {
                let size = format!(r#""size":{{"rows":{},"cols":80}}"#, u16::from(arg) + 1);
                self.ask(&format!(r#""op":"resize","stream":{stream},{size}"#), true);
            }
            12 => self.ask(&format!(r#""op":"break","stream":{stream},"reason":"it hangs""#), true),
            13 => self.ask(&format!(r#""op":"break","console":"{console}""#), true),
            14 => self.ask(&format!(r#""op":"bump","console":"{console}","reason":"mine""#), true),
            15 => self.ask(&format!(r#""op":"kick","client":"{id}""#), true),
            16 => self.ask(&format!(r#""op":"give-input","console":"{console}","leg":"{id}""#), true),
            17 => self.ask(&format!(r#""op":"streams","console":"{console}""#), true),
            18 => {
                let Some(stream) = self.open() else { return };
                let header =
                    b"{\"op\":\"exec\",\"key\":\"07070707070707070707070707070707\",\"argv\":[\"x\"]}\n";
                let _ = self.session.write(StreamId(stream), header);
                self.ask(&format!(r#""op":"open","console":"{console}","stream":{stream}"#), false);
            }
            19 => {
                let Some(stream) = self.open() else { return };
                let of = ["guest", "host"][usize::from(arg & 1)];
                let which = format!(r#""console":"{console}","stream":{stream},"of":"{of}""#);
                self.ask(&format!(r#""op":"facts",{which}"#), false);
            }
            20 => {
                let fact = format!(r#""key":"k{}","value":"{arg}""#, arg & 3);
                self.ask(&format!(r#""op":"set-fact","console":"{console}",{fact}"#), true);
            }
            21 => self.ask(&format!(r#""op":"accept","console":"{console}","name":"to{}""#, arg & 3), true),
            22 => {
                let Some(stream) = self.open() else { return };
                let which = format!(r#""number":{},"stream":{stream}"#, arg & 3);
                self.ask(&format!(r#""op":"take","console":"{console}",{which}"#), false);
            }
            23 => self.ask(r#""op":"stats""#, true),
            24 | 25 => self.write(known, &vec![arg; usize::from(arg) << 4]),
            26 => self.write(known, b"ls\r"),
            27 => drop(known.map(|id| self.session.finish(id))),
            28 => drop(known.map(|id| self.session.reset(id))),
            29 => {
                self.stalls = arg & 1 != 0;
                self.take_all();
            }
            30 => self.ask(r#""op":"unsubscribe","to":"consoles""#, true),
            _ if arg & 7 == 0 => {
                self.is_faithful = false;
                let _ = self.session.write(CONTROL, b"nonsense\n");
            }
            _ if arg & 7 == 1 => {
                self.is_faithful = false;
                self.session.go_away();
            }
            // Without a right, or of what the host answers.
            _ if arg & 7 == 2 => self.ask(r#""op":"reload""#, false),
            _ => {
                let Some(stream) = self.open() else { return };
                self.ask(&format!(r#""op":"log","console":"{console}","stream":{stream}"#), false);
            }
        }
    }

    fn open(&mut self) -> Option<u64> {
        let id = self.session.open_announced().ok()?;
        self.streams.push(id);
        Some(id.0)
    }

    fn write(&mut self, to: Option<StreamId>, bytes: &[u8]) {
        if let Some(id) = to {
            let _ = self.session.write(id, bytes);
        }
    }

    /// Asks; `alone`: the engine needs nobody to answer. What has no room is not asked.
    fn ask(&mut self, what: &str, alone: bool) {
        let line = format!("{{\"id\":{},{what}}}\n", self.next);
        if self.session.send_window(CONTROL) < line.len() {
            return;
        }
        if self.session.write(CONTROL, line.as_bytes()) == Ok(line.len()) {
            self.asked.insert(self.next, alone);
            self.next += 1;
        } else {
            // Half of it is no request.
            self.is_faithful = false;
        }
    }

    /// Bytes came on its connection.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        if !bytes.is_empty() && !std::mem::replace(&mut self.has_heard, true) && bytes[0] == IAC {
            // It was late with its first bytes, and is taken for someone with telnet.
            self.is_faithful = false;
        }
        self.session.handle_received(bytes, now);
        self.pass(now);
    }

    fn pass(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        while let Some(event) = self.session.poll_event() {
            if let Event::Closed(why) = event {
                self.is_over = true;
                if let CloseReason::Violation(why) = why {
                    self.fault = Some(why);
                }
            }
        }
        self.take_all();
    }

    /// Takes what has come, and reads the answers.
    fn take_all(&mut self) {
        if self.stalls {
            return;
        }
        for id in self.streams.clone() {
            while let Ok(Received::Bytes(bytes)) = self.session.received(id) {
                let n = bytes.len();
                let _ = self.session.consume(id, n);
            }
        }
        while let Ok(Received::Bytes(bytes)) = self.session.received(CONTROL) {
            let n = bytes.len();
            self.heard.extend_from_slice(bytes);
            let _ = self.session.consume(CONTROL, n);
        }
        while let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let line = String::from_utf8(line).expect("an answer is text");
            let Some(rest) = line.strip_prefix("{\"id\":") else {
                assert!(line.starts_with("{\"event\":"), "{line}");
                continue;
            };
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let number = number.parse().expect("an id is a number");
            assert!(self.asked.remove(&number).is_some(), "an answer to nothing: {line}");
        }
    }

    /// What it has to say now.
    pub(super) fn says(&mut self, now: Instant) -> Vec<u8> {
        let mut said = Vec::new();
        self.pass(now);
        while self.session.transmit_with(now, |runs| {
            runs.iter().for_each(|run| said.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        said
    }

    /// It reads on from now on.
    pub(super) fn catch_up(&mut self) {
        self.stalls = false;
        self.take_all();
    }

    /// It was sent frames and nothing else, if its line has brought nothing of anybody else's.
    pub(super) fn check_frames(&self) {
        if self.is_faithful {
            assert_eq!(self.fault, None, "an operator was sent what is no frame");
        }
    }

    /// It reads and has read all: every request that needs nobody else has its answer.
    pub(super) fn check_answered(&self) {
        let left: Vec<u64> = self.asked.iter().filter(|(_, alone)| **alone).map(|(&id, _)| id).collect();
        assert!(
            !self.is_faithful || self.is_over || left.is_empty(),
            "{left:?} of {:?} are not answered",
            self.asked
        );
    }

    /// Somebody has put other bytes on its connection.
    pub(super) fn betray(&mut self) {
        self.is_faithful = false;
    }
}

const HELLO: &str = r#""op":"hello","v":1,"client":"fuzz""#;

const CONSOLES: [&str; 8] = ["vm0", "vm1", "vm2", "vm3", "guest", "guest1", "guest0/sh1", "nobody's"];

const LOCKS: [&str; 5] = ["read-only", "free-for-all", "free-for-all-fallback", "write", "exclusive"];
