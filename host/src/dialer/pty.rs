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
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use socket2::Socket;

use super::pending::{Pending, Step};

/// A pseudoterminal that is a line.
#[derive(Debug)]
pub(super) struct Pty {
    ours: OwnedFd,
    line: UnixStream,
    poller: OwnedFd,
    _link: Link,
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
        Ok((Self { ours, line, poller, _link }, Socket::from(OwnedFd::from(loops))))
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
                let _ = tcflush(&self.ours, QueueSelector::OFlush);
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
                false => typed.clear(),
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
}

impl Link {
    /// Puts one there. One that a server has left behind gives way, and nothing else does.
    fn put(path: &Path, device: PathBuf) -> io::Result<Self> {
        match fs::read_link(path) {
            Ok(before) if before.starts_with(TERMINALS) => fs::remove_file(path)?,
            Ok(_) => return Err(ErrorKind::AlreadyExists.into()),
            // There is nothing, or no link: then the next step fails.
            Err(_) => {}
        }
        symlink(&device, path)?;
        Ok(Self { path: path.to_owned(), device })
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
