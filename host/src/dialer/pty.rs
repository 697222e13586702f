//! A serial line that is a pseudoterminal of the server's making (`pty:`), for whoever opens it.
//!
//! **Owns** the terminal and the symbolic link that leads to it. Its other side may be opened and closed
//! again and again: that is no end of the line. What is typed while nobody has it open is lost, as on a cable
//! that is not plugged in; it would come as a surprise to the next. **Refuses to know** what is said.
//!
//! A thread carries the bytes between it and the loop: the loop knows sockets, of which each end is an end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::process::getegid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use socket2::Socket;

use crate::socket_file::Turn;

use super::pending::{Pending, Step};

/// A pseudoterminal that is a line.
#[derive(Debug)]
pub(super) struct Pty {
    /// Goes first: as long as it is there it leads to this terminal.
    _link: Link,
    ours: OwnedFd,
    line: UnixStream,
    poller: OwnedFd,
}

impl Pty {
    /// Makes one, with a link at this path. Returns the loop's end of its line as well, which does not block.
    pub(super) fn make(path: &str) -> io::Result<(Self, Socket)> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
        let device = ptsname(&ours, Vec::new())?;
        let device = PathBuf::from(device.into_string().map_err(|_| ErrorKind::InvalidData)?);
        let theirs = open(&device, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        // What is said is shown and answered by nobody but the one who opens it.
        let mut settings = tcgetattr(&theirs)?;
        settings.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &settings)?;
        drop(theirs);
        // Its group is that of all terminals.
        chown(&device, None, Some(getegid().as_raw()))?;
        fs::set_permissions(&device, Permissions::from_mode(MODE))?;
        let (loops, line) = UnixStream::pair()?;
        loops.set_nonblocking(true)?;
        line.set_nonblocking(true)?;
        let poller = epoll::create(CreateFlags::CLOEXEC)?;
        // By edges: that nobody has it open is so for long, and is told once.
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&poller, &ours, EventData::new_u64(0), edges)?;
        epoll::add(&poller, &line, EventData::new_u64(1), edges)?;
        let _link = Link::put(Path::new(path), device)?;
        Ok((Self { _link, ours, line, poller }, Socket::from(OwnedFd::from(loops))))
    }

    /// Carries bytes until the loop closes the line.
    pub(super) fn carry(self) -> io::Result<()> {
        let (mut typed, mut printed) = (Pending::default(), Pending::default());
        let mut was_open = false;
        let mut events = Vec::with_capacity(4);
        loop {
            let mut has_moved = false;
            let is_open = self.is_open()?;
            if was_open && !is_open {
                // Who opens it next has not been typed to.
                self.forget_unread();
            }
            was_open = is_open;
            if printed.is_empty() {
                has_moved |= match printed.read(&self.ours) {
                    Ok(step) => step == Step::Done,
                    Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => false,
                    Err(error) => return Err(error),
                };
            }
            if !printed.is_empty() {
                has_moved |= printed.write(&self.line)? == Step::Done;
            }
            if typed.is_empty() {
                match typed.read(&self.line)? {
                    Step::Ended => return Ok(()),
                    step => has_moved |= step == Step::Done,
                }
            }
            match typed.is_empty() {
                false if is_open => has_moved |= typed.write(&self.ours)? == Step::Done,
                false => {
                    typed.clear();
                    // There may be more, of which nothing else tells.
                    has_moved = true;
                }
                true => {}
            }
            if !has_moved {
                events.clear();
                match epoll::wait(&self.poller, spare_capacity(&mut events), None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// What was typed, and not read on its other side, is lost.
    fn forget_unread(&self) {
        // It waits there, and only there it can be taken away.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        if let Ok(theirs) = ioctl_tiocgptpeer(&self.ours, flags) {
            let _ = tcflush(&theirs, QueueSelector::IFlush);
        }
    }

    /// Somebody has its other side open.
    fn is_open(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.ours, PollFlags::empty())];
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => Ok(!polled[0].revents().contains(PollFlags::HUP)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A symbolic link to the terminal, gone when dropped.
#[derive(Debug)]
struct Link {
    path: PathBuf,
    device: PathBuf,
    _turn: Turn,
}

impl Link {
    /// Puts one there. One that a server has left behind that was killed gives way, and nothing else does:
    /// such a server has left its lock as well, which nobody has any more.
    fn put(path: &Path, device: PathBuf) -> io::Result<Self> {
        let was_ours = Turn::was_taken(path);
        let turn = Turn::take(path)?;
        match fs::read_link(path) {
            Ok(before) if was_ours && before.starts_with(TERMINALS) => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(ErrorKind::AlreadyExists, "another program's link is there")),
            // There is nothing, or no link: then the next step fails.
            Err(_) => {}
        }
        symlink(&device, path)?;
        Ok(Self { path: path.to_owned(), device, _turn: turn })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if fs::read_link(&self.path).is_ok_and(|device| device == self.device) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where pseudoterminals are.
const TERMINALS: &str = "/dev/pts";

/// As of a unix socket that is listened at.
const MODE: u32 = 0o660;
