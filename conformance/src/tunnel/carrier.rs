//! One connection that is carried: two sockets and what is on its way between them.
//!
//! Each way is a stage that moves bytes when it can, and the stages are tried until none can:
//!
//! ```text
//!  near ──read──▶ seal ──write──▶ far      reads when all that was sealed is sent
//!  near ◀─write── plain ◀─open── far       reads when all that was opened is taken
//! ```
//!
//! So one read of each way is all that is ever kept here. An end is passed on behind the last byte. A reset
//! is passed on when no byte before it can be carried any more; and not before TLS is up, because to a server
//! that would be an upgrade that failed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use socket2::SockRef;

use super::Secure;

/// A connection in the tunnel.
#[derive(Debug)]
pub(super) struct Carrier {
    near: End,
    far: End,
    secure: Secure,
    is_connected: bool,
    /// Opened, for the near end, and how many of these bytes it has.
    plain: Vec<u8>,
    taken: usize,
    waiting: Waiting,
}

/// Who wants to know what becomes of it.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Is told that TLS is up, or why it is not.
    pub(super) tell: Option<Sender<Result<(), String>>>,
    /// Everybody is told what went wrong, on standard error.
    pub(super) report: bool,
}

/// One of the two sockets.
#[derive(Debug)]
struct End {
    stream: TcpStream,
    /// Readiness, remembered because it is told once.
    readable: bool,
    writable: bool,
    /// It was reset; there may be something to read before that.
    failed: bool,
    /// Its last byte was read.
    ended: bool,
    /// The other one's last byte was written to it.
    shut: bool,
}

/// Where a connection stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// A socket will tell when there is more.
    Waits,
    /// There is more to do, and others have waited.
    Again,
    /// Both ends have said and heard everything.
    Over,
    /// One end was reset; so is the other one now.
    Reset,
    /// There is no TLS; why. The near end is reset.
    Failed(String),
}

impl End {
    fn new(stream: TcpStream) -> Self {
        Self { stream, readable: true, writable: true, failed: false, ended: false, shut: false }
    }

    fn wake(&mut self, event: &Event) {
        self.failed |= event.is_error();
        self.readable |= event.is_readable() || event.is_read_closed() || self.failed;
        self.writable |= event.is_writable() || event.is_write_closed() || self.failed;
    }

    /// Reads once. `None`: nothing there, for now.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            // A write has taken the error away that a read would have told.
            Ok(0) if self.failed => Err(ErrorKind::ConnectionReset.into()),
            Ok(n) => {
                self.ended = n == 0;
                Ok(Some(n))
            }
            Err(error) => self.waits(error, |end| &mut end.readable).map(|()| None),
        }
    }

    /// A write failed. That is not the end of what can be read.
    fn could_not_write(&mut self, error: io::Error) {
        if self.waits(error, |end| &mut end.writable).is_err() {
            self.failed = true;
            self.writable = false;
            self.readable = true;
        }
    }

    fn waits(&mut self, error: io::Error, ready: impl FnOnce(&mut Self) -> &mut bool) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock => *ready(self) = false,
            ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
        Ok(())
    }

    /// Passes the other one's end on.
    fn shut(&mut self) {
        self.shut = true;
        // It may have gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes by RST.
    fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl Carrier {
    pub(super) fn new(near: TcpStream, far: TcpStream, secure: Secure, waiting: Waiting) -> Self {
        let (near, far) = (End::new(near), End::new(far));
        Self { near, far, secure, is_connected: false, plain: Vec::new(), taken: 0, waiting }
    }

    pub(super) fn sockets(&mut self) -> [&mut TcpStream; 2] {
        [&mut self.near.stream, &mut self.far.stream]
    }

    /// One of the sockets, as [`sockets`](Self::sockets) counts them, told something.
    pub(super) fn wake(&mut self, socket: usize, event: &Event) {
        let end = if socket == 0 { &mut self.near } else { &mut self.far };
        end.wake(event);
    }

    /// Whether TLS is up.
    pub(super) fn is_up(&self) -> bool {
        self.is_connected && self.secure.is_up()
    }

    /// Whether everybody is to be told what went wrong.
    pub(super) fn is_reported(&self) -> bool {
        self.waiting.report
    }

    /// Whether the near end has said something that is not at the far end yet.
    pub(super) fn is_busy(&self) -> bool {
        !self.is_up() || self.secure.wants_write() || (self.near.ended && !self.far.shut)
    }

    /// Carries what can be, at most a few reads of `scratch` each way.
    pub(super) fn work(&mut self, scratch: &mut [u8]) -> Progress {
        for _ in 0..ROUNDS {
            match self.round(scratch) {
                Ok(true) => {}
                Ok(false) => return self.rest(),
                Err(progress) => return progress,
            }
        }
        Progress::Again
    }

    /// What it means that nothing more can be done.
    fn rest(&self) -> Progress {
        let over = |end: &End| end.ended && end.shut;
        if over(&self.near) && over(&self.far) {
            return Progress::Over;
        }
        if self.far.failed || (self.near.failed && self.is_up()) { Progress::Reset } else { Progress::Waits }
    }

    /// Each stage once; whether any of them did something.
    fn round(&mut self, scratch: &mut [u8]) -> Result<bool, Progress> {
        if !self.is_connected && !self.is_answered()? {
            return Ok(false);
        }
        let moved = [self.read_far(scratch)?, self.write_near(), self.read_near(scratch)?, self.write_far()];
        if self.is_up()
            && let Some(told) = self.waiting.tell.take()
        {
            // Who asked may have stopped waiting.
            let _ = told.send(Ok(()));
        }
        Ok(moved.contains(&true))
    }

    fn is_answered(&mut self) -> Result<bool, Progress> {
        let outcome = match self.far.stream.take_error() {
            Ok(None) => self.far.stream.peer_addr().and_then(|peer| match self.far.stream.local_addr()? {
                // Nobody listens there, and the connection met itself.
                own if own == peer => Err(ErrorKind::ConnectionRefused.into()),
                _ => Ok(()),
            }),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                let _ = self.far.stream.set_nodelay(true);
                self.is_connected = true;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            // As without a tunnel: whoever connects is told, and nobody else.
            Err(_) => Err(Progress::Reset),
        }
    }

    fn read_far(&mut self, scratch: &mut [u8]) -> Result<bool, Progress> {
        if self.far.ended || !self.far.readable || self.taken < self.plain.len() {
            return Ok(false);
        }
        let is_up = self.secure.is_up();
        let n = match self.far.read(scratch) {
            Ok(None) => return Ok(self.far.readable),
            Ok(Some(0)) if !is_up => return Err(Progress::Failed("closed before TLS was up".into())),
            Ok(Some(n)) => n,
            Err(_) if is_up => return Err(Progress::Reset),
            Err(error) => return Err(Progress::Failed(format!("before TLS was up: {error}"))),
        };
        self.plain.clear();
        self.taken = 0;
        if let Err(why) = self.secure.open(&scratch[..n], &mut self.plain) {
            // The alert; a server that is not read from any more need not get it.
            let _ = self.secure.write_to(&mut self.far.stream);
            return Err(Progress::Failed(why));
        }
        self.far.ended |= self.secure.has_ended();
        Ok(true)
    }

    fn write_near(&mut self) -> bool {
        let mut moved = false;
        while self.taken < self.plain.len() && self.near.writable {
            match self.near.stream.write(&self.plain[self.taken..]) {
                Ok(n) => {
                    self.taken += n;
                    moved = true;
                }
                Err(error) => self.near.could_not_write(error),
            }
        }
        if self.taken < self.plain.len() {
            return moved;
        }
        if self.plain.capacity() > KEPT {
            (self.plain, self.taken) = (Vec::new(), 0);
        }
        if self.far.ended && !self.near.shut {
            self.near.shut();
            moved = true;
        }
        moved
    }

    fn read_near(&mut self, scratch: &mut [u8]) -> Result<bool, Progress> {
        if self.near.ended || !self.near.readable || !self.secure.is_up() || self.secure.wants_write() {
            return Ok(false);
        }
        match self.near.read(scratch) {
            Ok(None) => Ok(self.near.readable),
            Ok(Some(0)) => {
                self.secure.close();
                Ok(true)
            }
            Ok(Some(n)) => {
                self.secure.seal(&scratch[..n]);
                Ok(true)
            }
            Err(_) => Err(Progress::Reset),
        }
    }

    fn write_far(&mut self) -> bool {
        let mut moved = false;
        while self.secure.wants_write() && self.far.writable {
            match self.secure.write_to(&mut self.far.stream) {
                Ok(()) => moved = true,
                Err(error) => self.far.could_not_write(error),
            }
        }
        if self.near.ended && !self.far.shut && !self.secure.wants_write() {
            self.far.shut();
            moved = true;
        }
        moved
    }

    /// Lets go of both sockets, as it came to its end.
    pub(super) fn finish(self, progress: &Progress) {
        let told = match progress {
            Progress::Failed(why) => Err(why.clone()),
            _ => Err("the connection was reset".to_owned()),
        };
        if let Some(waiting) = &self.waiting.tell {
            let _ = waiting.send(told);
        }
        match progress {
            Progress::Reset => {
                self.near.reset();
                self.far.reset();
            }
            Progress::Failed(_) => self.near.reset(),
            Progress::Waits | Progress::Again | Progress::Over => {}
        }
    }
}

/// Reads of each way before another connection's turn.
const ROUNDS: usize = 4;
/// A larger buffer is given back once it is empty: most connections say little.
const KEPT: usize = 1 << 10;
