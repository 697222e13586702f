//! A serial line that is a program's standard input and output (`exec:`).
//!
//! **Owns** the program's process group, from its start to its end: what of it still runs when the line is
//! given up is told to end, and killed two and a half seconds later. **Refuses to know** what the program
//! prints: that the loop reads, from its end of a pair of sockets.
//!
//! Each program has a thread that waits: for its end, for what it says on its standard error, and for the
//! loop to close the line.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use socket2::Socket;

use crate::inherited;
use crate::outlets::foreign;

use super::local::say;
use super::voice::{Lines, Voice};

/// The words of a command, split as a shell would split them. `None`: a quote has no end, or there is none.
pub(super) fn words(command: &str) -> Option<Vec<String>> {
    shlex::split(command).filter(|words| !words.is_empty())
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Program {
    command: Box<str>,
    child: Child,
    /// Readable when it has ended.
    ended: OwnedFd,
    stderr: Option<ChildStderr>,
    lines: Lines,
    /// Its own end of the line.
    line: UnixStream,
    voice: Arc<Mutex<Voice>>,
    begun: Instant,
    /// What of it has not ended by then is killed.
    kill_at: Option<Instant>,
}

impl Program {
    /// Starts it. Returns the loop's end of its line as well, which does not block.
    pub(super) fn start(command: &str, voice: Arc<Mutex<Voice>>) -> io::Result<(Self, Socket)> {
        let words = words(command).ok_or(ErrorKind::InvalidInput)?;
        let (ours, line) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut spawned = Command::new(&words[0]);
        spawned.args(&words[1..]);
        // What the server was given for itself is nothing to a program.
        for name in foreign() {
            spawned.env_remove(name);
        }
        for name in inherited::VARIABLES {
            spawned.env_remove(name);
        }
        spawned.stdin(OwnedFd::from(line.try_clone()?)).stdout(OwnedFd::from(line.try_clone()?));
        let mut child = spawned.stderr(Stdio::piped()).process_group(0).spawn()?;
        let stderr = child.stderr.take();
        let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(io::Error::from);
        let prepared = ended.and_then(|ended| {
            stderr.as_ref().map_or(Ok(()), |stderr| ioctl_fionbio(stderr, true))?;
            Ok(ended)
        });
        let ended = prepared.inspect_err(|_| {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        })?;
        let command = command.into();
        let (lines, kill_at) = (Lines::default(), None);
        let begun = Instant::now();
        let program = Self { command, child, ended, stderr, lines, line, voice, begun, kill_at };
        Ok((program, Socket::from(OwnedFd::from(ours))))
    }

    /// Stays with it until it has ended, and tells how it did.
    pub(super) fn watch(mut self) {
        while !self.waits_no_more() {}
        // What it has started ends with it; its id is no other's until it is waited for.
        self.signal(Signal::KILL);
        for _ in 0..LAST_READS {
            if !self.read_stderr() {
                break;
            }
        }
        let is_given_up = self.kill_at.is_some();
        let status = self.child.wait();
        let rest = self.lines.end();
        self.say(&rest);
        // The loop reads what is there still, and then the end, whoever else holds the socket.
        let _ = self.line.shutdown(Shutdown::Both);
        self.forget_unread();
        let how = status.map_or_else(|error| error.to_string(), in_words);
        let why = if is_given_up { ": its line was given up" } else { "" };
        self.tell(&format!("{how}{why}"));
        self.voice.lock().unwrap_or_else(PoisonError::into_inner).end(self.begun.elapsed());
    }

    /// Waits for one thing to happen. Returns whether the program has ended.
    fn waits_no_more(&mut self) -> bool {
        let mut polled = vec![PollFd::new(&self.ended, PollFlags::IN)];
        if self.kill_at.is_none() {
            polled.push(PollFd::new(&self.line, PollFlags::RDHUP));
        }
        if let Some(stderr) = &self.stderr {
            polled.push(PollFd::new(stderr, PollFlags::IN));
        }
        let wait = self.kill_at.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Without memory for a poll: rather end it than leave it alone.
            Err(_) => return true,
        }
        let has_ended = !polled[0].revents().is_empty();
        let is_hung_up = self.kill_at.is_none() && !polled[1].revents().is_empty();
        let has_said = polled.last().is_some_and(|last| !last.revents().is_empty());
        if has_said && self.stderr.is_some() && !has_ended {
            self.read_stderr();
        }
        if is_hung_up {
            self.kill_at = Some(Instant::now() + PATIENCE);
            self.signal(Signal::TERM);
        }
        has_ended || self.kill_at.is_some_and(|at| at <= Instant::now())
    }

    fn signal(&self, signal: Signal) {
        // Fails when none of them is left.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// Reads some of what it has said. Returns whether there was anything.
    fn read_stderr(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else { return false };
        let mut bytes = [0; 4096];
        match stderr.read(&mut bytes) {
            Ok(n @ 1..) => {
                let said = self.lines.push(&bytes[..n]);
                self.say(&said);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => self.stderr = None,
        }
        false
    }

    fn say(&self, lines: &[String]) {
        lines.iter().for_each(|line| self.tell(&format!("says: {line}")));
    }

    /// Tells this of it, if the last time was not the same.
    fn tell(&self, words: &str) {
        let is_repeated = self.voice.lock().unwrap_or_else(PoisonError::into_inner).is_repeated(words);
        match is_repeated {
            true => log::debug!("exec:{} {words}", self.command),
            false => say(&self.voice, |left_out| log::info!("exec:{} {words}{left_out}", self.command)),
        }
    }

    /// What was typed and not read: a socket that is closed with that would tell the loop of an error in
    /// place of an end.
    fn forget_unread(&mut self) {
        let mut bytes = [0; 4096];
        while matches!(self.line.read(&mut bytes), Ok(1..)) {}
    }
}

/// How a program has ended.
fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "has ended".to_owned(),
        (Some(code), _) => format!("has failed, with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// How long a program may take to end that is told to: longer than script(1) gives what it runs, and less
/// than the server waits for its threads.
const PATIENCE: Duration = Duration::from_millis(2500);

/// How often its standard error is read once it has ended: all that a pipe holds.
const LAST_READS: usize = 16;
