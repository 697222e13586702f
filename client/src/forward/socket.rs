//! Sockets of this machine: listening at one, and connecting to one without standing still meanwhile.

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::sockopt;

use super::spec::Here;

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// Its file goes with it.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens. A unix socket is this user's alone.
    pub(super) fn open(at: &Here) -> io::Result<Self> {
        match at {
            Here::Tcp(host, port) => {
                let listener = TcpListener::bind((host.as_str(), *port))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
            Here::Unix(path) => {
                let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
                let listener = UnixListener::bind(path);
                rustix::process::umask(mask);
                let listener = listener?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it listens.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Somebody who has connected; `None`: nobody now.
    pub(super) fn accept(&self) -> io::Result<Option<Socket>> {
        let socket = match self {
            Self::Tcp(listener) => listener.accept().map(|(socket, _)| Socket::Tcp(socket)),
            Self::Unix(listener, _) => listener.accept().map(|(socket, _)| Socket::Unix(socket)),
        };
        match socket {
            Ok(socket) => socket.prepare().map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Whoever it was has gone again.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

/// A connected socket, which never blocks.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn connect(to: &Here) -> io::Result<Self> {
        match to {
            Here::Unix(path) => UnixStream::connect(path).map(Self::Unix)?.prepare(),
            Here::Tcp(host, port) => {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, PATIENCE) {
                        Ok(socket) => return Self::Tcp(socket).prepare(),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn prepare(self) -> io::Result<Self> {
        match &self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
            }
            Self::Unix(socket) => socket.set_nonblocking(true)?,
        }
        Ok(self)
    }

    /// Says no more on it.
    pub(super) fn finish(&self) {
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
        };
    }

    /// Has whoever is there see that it was given up, and not that all was said.
    pub(super) fn abort(self) {
        let _ = sockopt::set_socket_linger(&self, Some(Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A connection that is being made. Looking up a name and connecting may take long: a thread does it.
#[derive(Debug)]
pub(super) struct Connecting {
    outcome: Receiver<io::Result<Socket>>,
    woken: UnixStream,
}

impl Connecting {
    pub(super) fn begin(to: Here) -> io::Result<Self> {
        let (sender, outcome) = channel();
        let (woken, mut wake) = UnixStream::pair()?;
        thread::spawn(move || {
            let _ = sender.send(Socket::connect(&to));
            let _ = wake.write(&[0]);
        });
        Ok(Self { outcome, woken })
    }

    /// What has come of it; `None`: nothing yet.
    pub(super) fn outcome(&self) -> Option<io::Result<Socket>> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("it failed"))),
        }
    }
}

/// It becomes readable when there is an outcome.
impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// How long an address is given to answer: the server waits for ten seconds in all.
const PATIENCE: Duration = Duration::from_secs(4);
