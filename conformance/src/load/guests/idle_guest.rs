//! A guest that has announced some streams and is silent from then on: what an agent says, without one.
//!
//! Owns its end of the session. Bytes of the line go in and out, and are somebody else's.

use std::{io, time};

use vspc_core::mux::{Config, Event, Role, Session, StreamId};
use vspc_core::time::Instant;
use vspc_guest::{Announcement, FactLine, Header, LineBuffer, MAX_LINE, Name, Welcome};

use super::copies::key;
use crate::random::nonce;

/// One guest.
#[derive(Debug)]
pub(crate) struct IdleGuest {
    session: Session,
    /// What the host says first.
    hello: LineBuffer,
    announced: Vec<Announced>,
    /// How many there are to be.
    streams: usize,
    began: time::Instant,
}

/// A stream that was announced.
#[derive(Debug)]
struct Announced {
    stream: StreamId,
    is_facts: bool,
    /// The host has agreed.
    is_taken: bool,
}

impl IdleGuest {
    /// Of so many streams: facts, a shell, and logs.
    pub(crate) fn new(streams: u8) -> Self {
        let config = Config {
            // As an agent on a line that loses nothing.
            window: WINDOW,
            receive_buffer: WINDOW,
            send_buffer: 2 * WINDOW,
            nonce: nonce() as u32,
            seed: [nonce(), nonce()],
            ..Config::new(Role::Guest)
        };
        let session = Session::new(config, Instant::ZERO).expect("the sizes above make sense");
        let (announced, streams, began) = (Vec::new(), streams.into(), time::Instant::now());
        Self { session, hello: LineBuffer::new(MAX_LINE), announced, streams, began }
    }

    /// Whether all its streams are there, and none has anything to say.
    pub(crate) fn is_idle(&self) -> bool {
        self.announced.len() == self.streams
            && self.announced.iter().all(|it| it.is_taken)
            && !self.session.has_output()
    }

    /// Bytes came on the line, or none, and time has passed; appends what goes on the line to `out`.
    pub(crate) fn exchange(&mut self, came: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let now = Instant::from_micros(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.session.handle_timeout(now);
        self.session.handle_received(came, now);
        self.hear().map_err(io::Error::other)?;
        while self.session.transmit_with(now, |runs| {
            runs.iter().for_each(|run| out.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        Ok(())
    }

    fn hear(&mut self) -> Result<(), String> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Readable(id) => self.read(id)?,
                Event::Reset(id, why) => return Err(format!("stream {id} was reset: {why:?}")),
                Event::Closed(why) => return Err(format!("the session ended: {why:?}")),
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&mut self, id: StreamId) -> Result<(), String> {
        let mut bytes = [0; MAX_LINE];
        loop {
            let n = self.session.read(id, &mut bytes).unwrap_or(0);
            if n == 0 {
                return Ok(());
            }
            match self.announced.iter_mut().find(|it| it.stream == id) {
                Some(stream) if !stream.is_taken => {
                    if !bytes.starts_with(b"{\"ok\":") {
                        return Err(format!("the host says {:?}", String::from_utf8_lossy(&bytes[..n])));
                    }
                    stream.is_taken = true;
                    if stream.is_facts {
                        self.say(id, &FactLine::All.line())?;
                    }
                }
                // What the host tells of itself.
                Some(_) => {}
                None => self.hear_hello(id, &bytes[..n])?,
            }
        }
    }

    /// The host's first stream.
    fn hear_hello(&mut self, id: StreamId, bytes: &[u8]) -> Result<(), String> {
        self.hello.take(bytes);
        let Some(line) = self.hello.line() else { return Ok(()) };
        let Header::Hello(hello) = line.and_then(Header::parse).map_err(|refusal| refusal.to_string())?
        else {
            return Err("the host does not say hello".to_owned());
        };
        self.hello.clear();
        let welcome = Welcome::new(&hello, None, [0; 32]).map_err(|refusal| refusal.to_string())?;
        let (line, _) = welcome.line("vspc-conformance", &["exec"], &[]);
        self.say(id, &line)?;
        self.session.finish(id).map_err(|error| error.to_string())?;
        (0..self.streams).try_for_each(|number| self.announce(number))
    }

    fn announce(&mut self, number: usize) -> Result<(), String> {
        let name = |text: String| Name::new(text).map_err(|refusal| refusal.to_string());
        let what = match number {
            0 => Announcement::Facts { name: name("facts".to_owned())? },
            1 => Announcement::Shell { name: name("shell".to_owned())?, key: key() },
            _ => Announcement::Log { name: name(format!("log/{number}"))? },
        };
        let stream = self.session.open().map_err(|error| error.to_string())?;
        self.say(stream, &what.line())?;
        self.announced.push(Announced { stream, is_facts: number == 0, is_taken: false });
        Ok(())
    }

    fn say(&mut self, id: StreamId, line: &[u8]) -> Result<(), String> {
        match self.session.write(id, line) {
            Ok(n) if n == line.len() => Ok(()),
            Ok(_) => Err(format!("stream {id} has no room for a line")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Bytes that a stream may have under way.
const WINDOW: u32 = 64 << 10;
