//! The same copy by the `yamux` crate: one stream over one unix socket, with its own defaults at both ends.
//! Once to who reads it there, and once to a program that takes it off the line and passes it on by TCP, as a
//! server does whose clients are elsewhere.
//!
//! Owns a loop around `poll` for each end, in place of a runtime: who is woken looks at everything.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::io::{AsyncRead, AsyncWrite};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use yamux::{Config, Connection, Mode, Stream};

use super::stage::Stage;
use super::{Figures, PATIENCE, PIECE, Shares, broken};
use crate::load::LoadError;
use crate::load::process::Meter;

/// Through one socket.
pub(super) fn copy(stage: &Stage) -> Result<Duration, LoadError> {
    let (near, far) = UnixStream::pair().map_err(|error| broken(&error))?;
    let _sender = stage.send_into(far.into(), &["--yamux"])?;
    let begun = take(near, stage).map_err(|error| broken(&error))?;
    Ok(begun.elapsed())
}

/// Through one socket to a program in between, and by TCP from there.
pub(super) fn relay(stage: &Stage) -> Result<Figures, LoadError> {
    let meet = || -> io::Result<_> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        far.set_nodelay(true)?;
        near.set_read_timeout(Some(PATIENCE))?;
        Ok((near, far, UnixStream::pair()?))
    };
    let (mut near, far, (line, guest)) = meet().map_err(|error| broken(&error))?;
    let server = stage.pass_on(line.into(), far.into())?;
    let sender = stage.send_into(guest.into(), &["--yamux"])?;
    let meters = [Meter::start(server.pid())?, Meter::start(sender.pid())?];
    let begun = stage.proof().read(&mut near, PIECE).map_err(|error| broken(&error))?;
    let time = begun.elapsed();
    let [server, agent] = meters.map(|meter| Ok(meter.read()?.cpu() / stage.gigabytes()));
    let cpu = Some(Shares { server: server?, agent: Some(agent?) });
    Ok(Figures { cpu, ..Figures::of(stage, time) })
}

/// Passes on what comes on one stream, until its line ends. Whether that was all of it tells who reads it.
pub(super) fn pass_on(from: UnixStream, mut to: impl Write) -> io::Result<()> {
    match receive(from, |bytes| to.write_all(bytes).map(|()| true)) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
        outcome => outcome,
    }
}

/// Writes a file on one stream, and waits until it was read.
pub(super) fn send(socket: UnixStream, mut file: File) -> io::Result<()> {
    let mut end = End::new(socket, Mode::Client)?;
    let mut stream = end.until(|connection| connection.poll_new_outbound(&mut context()))?;
    let (mut piece, mut at, mut filled) = (vec![0; PIECE], 0, 0);
    loop {
        let mut moved = false;
        loop {
            if at == filled {
                (at, filled) = (0, file.read(&mut piece)?);
                if filled == 0 {
                    return end.linger();
                }
            }
            match Pin::new(&mut stream).poll_write(&mut context(), &piece[at..filled]) {
                Poll::Ready(n) => at += n?,
                Poll::Pending => break,
            }
            moved = true;
        }
        end.drive()?;
        if !moved {
            end.wait_if_still()?;
        }
    }
}

/// Reads it; returns when its first bytes came.
fn take(socket: UnixStream, stage: &Stage) -> io::Result<Instant> {
    let (mut begun, mut proof) = (None, stage.proof());
    receive(socket, |bytes| {
        begun.get_or_insert_with(Instant::now);
        proof.take(bytes)?;
        Ok(!proof.is_whole())
    })?;
    Ok(begun.unwrap_or_else(Instant::now))
}

/// Gives what comes on one stream to `take`, until that says that it wants no more.
fn receive(socket: UnixStream, mut take: impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut end = End::new(socket, Mode::Server)?;
    let (mut stream, mut piece) = (None, vec![0; PIECE]);
    loop {
        let opened = end.drive()?;
        stream = stream.or(opened);
        let mut moved = false;
        while let Some(stream) = &mut stream
            && let Poll::Ready(n) = Pin::new(stream).poll_read(&mut context(), &mut piece)
        {
            match n? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n if !take(&piece[..n])? => return Ok(()),
                _ => moved = true,
            }
        }
        if !moved {
            end.wait_if_still()?;
        }
    }
}

/// One end of the connection.
struct End {
    connection: Connection<Socket>,
    signs: Rc<Signs>,
    /// The same socket, to wait for it.
    socket: UnixStream,
    /// The other end has said its last word.
    is_closed: bool,
}

/// What has become of a socket since it was last looked at.
#[derive(Default)]
struct Signs {
    /// It has taken or given something.
    moved: Cell<bool>,
    /// It has taken nothing more.
    is_full: Cell<bool>,
}

impl End {
    fn new(socket: UnixStream, mode: Mode) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let signs = Rc::new(Signs::default());
        let carried = Socket { stream: socket.try_clone()?, signs: Rc::clone(&signs) };
        Ok(Self {
            connection: Connection::new(carried, Config::default(), mode),
            signs,
            socket,
            is_closed: false,
        })
    }

    /// Moves what can be moved; returns a stream that the other end has opened.
    fn drive(&mut self) -> io::Result<Option<Stream>> {
        self.signs.moved.set(false);
        self.signs.is_full.set(false);
        match self.connection.poll_next_inbound(&mut context()) {
            Poll::Ready(Some(stream)) => stream.map(Some).map_err(io::Error::other),
            // What has come before is still to be read.
            Poll::Ready(None) => {
                self.is_closed = true;
                Ok(None)
            }
            Poll::Pending => Ok(None),
        }
    }

    /// Waits for the socket, if the last drive has moved nothing.
    fn wait_if_still(&self) -> io::Result<()> {
        if self.is_closed {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if self.signs.moved.get() {
            return Ok(());
        }
        let mut want = PollFlags::IN;
        want.set(PollFlags::OUT, self.signs.is_full.get());
        let wait = Timespec::try_from(PATIENCE).ok();
        match poll(&mut [PollFd::new(&self.socket, want)], wait.as_ref()) {
            Ok(0) => Err(ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what is to be sent until the other end has all of it, and goes.
    fn linger(&mut self) -> io::Result<()> {
        while !self.is_closed {
            self.drive()?;
            if !self.is_closed {
                self.wait_if_still()?;
            }
        }
        Ok(())
    }

    /// Goes on until something is done.
    fn until<T, E>(
        &mut self,
        mut done: impl FnMut(&mut Connection<Socket>) -> Poll<Result<T, E>>,
    ) -> io::Result<T>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        loop {
            if let Poll::Ready(outcome) = done(&mut self.connection) {
                return outcome.map_err(io::Error::other);
            }
            self.drive()?;
            self.wait_if_still()?;
        }
    }
}

struct Socket {
    stream: UnixStream,
    signs: Rc<Signs>,
}

impl Socket {
    fn written(&self, outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            self.signs.is_full.set(true);
        }
        self.later(outcome)
    }

    fn later(&self, outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
        match outcome {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Poll::Pending
            }
            outcome => {
                self.signs.moved.set(true);
                Poll::Ready(outcome)
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.later((&self.stream).read(buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.written((&self.stream).write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        runs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written((&self.stream).write_vectored(runs))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// Nobody is woken: each round looks at all there is.
fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
