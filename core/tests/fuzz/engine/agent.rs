//! A guest with an agent, at the other end of a VM's serial port or of a line without telnet. It says hello,
//! announces streams, sends and takes bytes on them, goes away and comes again, as the program wants.
//!
//! Checked: what the engine sends it is whole frames, however they are cut, where the line has brought
//! nothing of anybody else's either way.

use vspc_core::mux::link::{Link, LinkConfig, LinkEvent, carry};
use vspc_core::mux::{CloseReason, Config, Event, Received, Role, Session, StreamId, Violation};
use vspc_core::time::Instant;

/// One agent. What it was told before it began anew is forgotten.
pub(super) struct Agent {
    session: Session,
    /// Where its line may lose bytes.
    link: Option<Box<Link>>,
    /// Streams that it has or had, whether they live or not.
    streams: Vec<StreamId>,
    /// It takes nothing of its streams.
    stalls: bool,
    nonce: u32,
    /// It is the first one on its line, and has ended nothing.
    pub(super) is_faithful: bool,
    /// What came was no frame, for this reason.
    pub(super) fault: Option<Violation>,
    /// Somebody has typed at a stream that it has announced.
    pub(super) was_typed_at: bool,
}

impl Agent {
    pub(super) fn new(nonce: u32, now: Instant) -> Self {
        Self {
            session: session(nonce, now),
            link: None,
            streams: Vec::new(),
            stalls: false,
            nonce,
            is_faithful: true,
            fault: None,
            was_typed_at: false,
        }
    }

    /// The same, on a line that may lose bytes.
    pub(super) fn over_sl(nonce: u32, now: Instant) -> Self {
        let mut link = Link::new(LinkConfig::new(nonce));
        link.open(now);
        Self { link: Some(Box::new(link)), ..Self::new(nonce, now) }
    }

    /// It does something, by its number.
    pub(super) fn act(&mut self, word: u8, arg: u8, now: Instant) {
        let stream = usize::from(arg >> 4).checked_rem(self.streams.len()).map(|at| self.streams[at]);
        match (word % 9, stream) {
            (0 | 1, _) => {
                let name = arg & 3;
                let line = match arg >> 2 & 3 {
                    0 => format!("{{\"is\":\"log\",\"name\":\"log{name}\"}}\n"),
                    1 => "{\"is\":\"facts\",\"name\":\"facts\"}\n{\"set\":\"os\",\"to\":\"Linux\"}\n"
                        .to_owned(),
                    2 => format!("{{\"is\":\"connection\",\"name\":\"to{name}\",\"from\":\"me\"}}\n"),
                    _ => format!("{{\"is\":\"shell\",\"name\":\"sh{name}\",\"key\":\"{KEY}\"}}\n"),
                };
                if let Ok(id) = self.session.open() {
                    let _ = self.session.write(id, line.as_bytes());
                    self.streams.push(id);
                }
            }
            (2, Some(id)) => drop(self.session.write(id, &vec![arg | 0xf8; usize::from(arg) << 6])),
            (3, Some(id)) => drop(self.session.write(id, &[b'k', arg, 0xff])),
            (4, Some(id)) => drop(self.session.finish(id)),
            (5, Some(id)) => drop(self.session.reset(id)),
            (6, _) => {
                self.stalls = arg & 1 != 0;
                for id in self.streams.clone() {
                    self.take(id);
                }
            }
            (7, _) if arg & 3 == 0 => {
                self.is_faithful = false;
                self.session.go_away();
            }
            (7, _) if arg & 3 == 1 => {
                self.is_faithful = false;
                self.session.close();
            }
            (8, _) if arg & 3 == 0 => {
                // Another one, which knows nothing of this.
                let begin = if self.link.is_some() { Self::over_sl } else { Self::new };
                *self = Self { is_faithful: false, ..begin(self.nonce.wrapping_add(2), now) };
            }
            (8, _) if arg & 3 == 1 => {
                self.is_faithful = false;
                self.session.line_reopened(now);
            }
            _ => {}
        }
    }

    /// Bytes came on its line.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        match &mut self.link {
            None => self.session.handle_received(bytes, now),
            Some(link) => link.handle_received(bytes, now),
        }
        self.pass(now);
    }

    /// What is due, and what has come.
    fn pass(&mut self, now: Instant) {
        if let Some(link) = &mut self.link {
            link.handle_timeout(now);
            while let Some(event) = link.poll_event() {
                if event == LinkEvent::Restarted {
                    self.session.line_reopened(now);
                }
            }
            carry(&mut self.session, link, now);
        }
        self.session.handle_timeout(now);
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Started(_) | Event::Restarted(_) => self.streams.clear(),
                Event::Opened(id) => self.streams.push(id),
                Event::Readable(id) => self.take(id),
                Event::Closed(CloseReason::Violation(why)) => self.fault = Some(why),
                _ => {}
            }
        }
    }

    /// Takes what has come on a stream. The first line of one that the host has opened is hello.
    fn take(&mut self, id: StreamId) {
        while !self.stalls {
            let Ok(Received::Bytes(bytes)) = self.session.received(id) else { return };
            let (n, is_hello) = (bytes.len(), !id.is_guests() && bytes.ends_with(b"\n"));
            // All that the host itself says there is JSON.
            self.was_typed_at |= id.is_guests() && !bytes.starts_with(b"{");
            let _ = self.session.consume(id, n);
            if is_hello {
                let _ = self.session.write(id, HELLO);
                let _ = self.session.finish(id);
            }
        }
    }

    /// What it has to say now.
    pub(super) fn says(&mut self, now: Instant) -> Vec<u8> {
        let mut said = Vec::new();
        self.pass(now);
        loop {
            let sent = match &mut self.link {
                None => self.session.transmit_with(now, |runs| {
                    runs.iter().for_each(|run| said.extend_from_slice(run));
                    runs.iter().map(|run| run.len()).sum()
                }),
                Some(link) => {
                    carry(&mut self.session, link, now);
                    link.transmit_with(now, |frame| {
                        said.extend_from_slice(frame);
                        frame.len()
                    })
                }
            };
            if sent == 0 {
                return said;
            }
        }
    }
}

fn session(nonce: u32, now: Instant) -> Session {
    let sizes =
        Config { max_frame: 4 << 10, window: 16 << 10, receive_buffer: 16 << 10, ..Config::new(Role::Guest) };
    Session::new(Config { nonce, ..sizes }, now).expect("sizes that work")
}

/// The answer to a hello, of a guest that asks for no key.
const HELLO: &[u8] = b"{\"ok\":{\"v\":1,\"agent\":\"fuzz 1\",\"may\":[\"exec\"]}}\n";

/// What a shell's `control` would name it by.
const KEY: &str = "07070707070707070707070707070707";
