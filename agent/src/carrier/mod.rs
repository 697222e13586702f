//! The line as the system has it: a serial port, a virtio port or a unix socket, which may go away and come
//! back at any time.
//!
//! Owns the descriptor, how a serial port is set, and when it is tried again. Refuses to know what is on it.

mod place;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::{ControlModes, OptionalActions, Termios};
use vspc_core::time::Instant;

pub(crate) use place::Place;

/// The line.
#[derive(Debug)]
pub(crate) struct Carrier {
    place: Place,
    /// What a serial port is set to; none: what it is set to already.
    speed: Option<u32>,
    state: State,
    /// How long the last try has waited.
    wait: Duration,
    /// The last fault, so that it is told once.
    told: Option<Errno>,
    /// A write found no room.
    blocked: bool,
}

#[derive(Debug)]
enum State {
    Open(OwnedFd),
    /// A virtio port whose host is not there: it stays open, and is looked at again.
    Deaf(OwnedFd, Instant),
    Shut(Instant),
}

/// What a turn with the line came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// So many bytes.
    Took(usize),
    /// Not now.
    Waits,
    /// The line has gone away: what was under way is lost.
    Gone,
}

impl Carrier {
    /// A line that will be opened at the next look.
    pub(crate) const fn new(place: Place, speed: Option<u32>) -> Self {
        let state = State::Shut(Instant::ZERO);
        Self { place, speed, state, wait: FIRST_WAIT, told: None, blocked: false }
    }

    /// Whether it is a serial port; one that is not there yet is told by its name.
    pub(crate) fn is_terminal(place: &Place) -> bool {
        let Place::Device(path) = place else { return false };
        if is_virtio(path) {
            return false;
        }
        rustix::fs::open(path, OFLAGS, Mode::empty()).map_or(true, rustix::termios::isatty)
    }

    /// Looks after a line that is away; true where it has come back.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        match &self.state {
            State::Open(_) => false,
            State::Deaf(_, due) | State::Shut(due) if *due > now => false,
            State::Deaf(..) => {
                let State::Deaf(fd, _) = std::mem::replace(&mut self.state, State::Shut(now)) else {
                    return false;
                };
                if is_hung_up(fd.as_fd()) {
                    self.state = State::Deaf(fd, now + DEAF_WAIT);
                    return false;
                }
                self.state = State::Open(fd);
                self.blocked = false;
                log::info!("{} has somebody at its other end", self.place);
                true
            }
            State::Shut(_) => match self.open() {
                Ok(fd) => {
                    log::info!("{} is open", self.place);
                    (self.state, self.told, self.blocked) = (State::Open(fd), None, false);
                    true
                }
                Err(error) => {
                    if self.told.replace(error) != Some(error) {
                        log::warn!("cannot open {}: {error}; it is tried again", self.place);
                    }
                    self.shut(now);
                    false
                }
            },
        }
    }

    /// When [`Carrier::handle_timeout`] is to be called.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Open(_) => None,
            State::Deaf(_, due) | State::Shut(due) => Some(*due),
        }
    }

    /// What to wait for: `reads` where bytes can be taken, and to write where the last write found no room.
    pub(crate) fn interest(&self, reads: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let State::Open(fd) = &self.state else { return None };
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, reads);
        flags.set(PollFlags::OUT, self.blocked);
        Some((fd.as_fd(), flags))
    }

    /// Reads what has come.
    pub(crate) fn read(&mut self, into: &mut [u8], now: Instant) -> Turn {
        let State::Open(fd) = &self.state else { return Turn::Waits };
        match rustix::io::read(fd, into) {
            Ok(0) => self.lose("has ended", now),
            Ok(n) => {
                self.wait = FIRST_WAIT;
                Turn::Took(n)
            }
            Err(Errno::AGAIN | Errno::INTR) => Turn::Waits,
            Err(error) => self.lose(&error.to_string(), now),
        }
    }

    /// Writes what goes.
    pub(crate) fn write(&mut self, runs: &[io::IoSlice<'_>], now: Instant) -> Turn {
        let State::Open(fd) = &self.state else { return Turn::Waits };
        match rustix::io::writev(fd, runs) {
            Ok(n) => {
                self.blocked = false;
                Turn::Took(n)
            }
            Err(Errno::AGAIN) => {
                self.blocked = true;
                Turn::Waits
            }
            Err(Errno::INTR) => Turn::Waits,
            Err(error) => self.lose(&error.to_string(), now),
        }
    }

    /// Whether bytes can be written now.
    pub(crate) const fn is_writable(&self) -> bool {
        matches!(self.state, State::Open(_)) && !self.blocked
    }

    /// The line was found ready to be written.
    pub(crate) const fn handle_writable(&mut self) {
        self.blocked = false;
    }

    /// Whether one read gives all that is there, if there is room: a socket's does, a virtio port's gives a
    /// page at most, and a terminal's what its buffer holds.
    pub(crate) const fn gives_all(&self) -> bool {
        matches!(self.place, Place::Socket(_))
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        match &self.place {
            Place::Device(path) => {
                let fd = rustix::fs::open(path, OFLAGS, Mode::empty())?;
                if let Ok(mut termios) = rustix::termios::tcgetattr(&fd) {
                    self.set(&mut termios)?;
                    rustix::termios::tcsetattr(&fd, OptionalActions::Now, &termios)?;
                }
                Ok(fd)
            }
            Place::Socket(path) => {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
                Ok(fd)
            }
        }
    }

    /// Eight bits, nothing that is done to them, and no carrier that has to be there.
    fn set(&self, termios: &mut Termios) -> Result<(), Errno> {
        termios.make_raw();
        termios.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        termios.control_modes -= ControlModes::CRTSCTS | ControlModes::HUPCL;
        match self.speed {
            Some(speed) => termios.set_speed(speed),
            None => Ok(()),
        }
    }

    fn lose(&mut self, why: &str, now: Instant) -> Turn {
        log::info!("{}: {why}", self.place);
        let is_port = matches!(&self.place, Place::Device(path) if is_virtio(path));
        match std::mem::replace(&mut self.state, State::Shut(now)) {
            State::Open(fd) if is_port && is_hung_up(fd.as_fd()) => {
                self.state = State::Deaf(fd, now + DEAF_WAIT);
            }
            _ => self.shut(now),
        }
        Turn::Gone
    }

    fn shut(&mut self, now: Instant) {
        self.state = State::Shut(now + self.wait);
        self.wait = (self.wait * 2).min(LAST_WAIT);
    }
}

/// A virtio port is opened by one at a time, and the host is told: it is kept open while the host is away.
fn is_virtio(path: &std::path::Path) -> bool {
    path.starts_with("/dev/virtio-ports") || path.to_str().is_some_and(|path| path.starts_with("/dev/vport"))
}

/// Whether nobody is at the other end.
fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    // A virtio port can then be read as well, for what is an end.
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

const OFLAGS: OFlags = OFlags::RDWR.union(OFlags::NOCTTY).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// After a line has gone away it is tried again soon, for a program at its other end that is started again,
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// and later not so often that it costs anything.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A port whose host is away is looked at so often.
const DEAF_WAIT: Duration = Duration::from_millis(500);
