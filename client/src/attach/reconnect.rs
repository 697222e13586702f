//! Coming back to a console after the server went away.
//!
//! Owns when it is tried again, and what is asked for then: to go on at the offset where the output broke
//! off, and where the server no longer has that, to begin anew. Looking up a name and connecting may block: a
//! thread does it, and the loop goes on.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use vspc_core::time::Instant;

use crate::clock;
use crate::connection::{Attached, Connection, Wish};
use crate::endings::failure;
use crate::failure::{Code, Failure};
use crate::names::{name_of, reference};
use crate::server::Server;
use crate::terminal;
use vspc_operator::Refusal;

/// An attach that is to be made again.
#[derive(Debug)]
pub(crate) struct Reconnect {
    server: Server,
    console: Value,
    wish: Wish,
    attempts: u32,
    next: Option<Instant>,
    trying: Option<(Receiver<Attempt>, UnixStream)>,
}

/// The console is there again.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) connection: Connection,
    pub(crate) attached: Attached,
    /// The output goes on where it broke off.
    pub(crate) resumed: bool,
}

type Attempt = Result<Box<Back>, Failure>;

impl Reconnect {
    /// To that console, at that place, with that lock.
    pub(crate) fn new(server: &Server, console: Value, wish: Wish) -> Self {
        let next = Some(clock::now());
        Self { server: server.clone(), console, wish, attempts: 0, next, trying: None }
    }

    /// How often it was tried without success.
    pub(crate) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What to wait for: it becomes readable when an attempt has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.trying.as_ref().map(|(_, woken)| woken.as_fd())
    }

    /// When [`Reconnect::turn`] is due.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Begins an attempt that is due; returns what came of one that has ended. An `Err` with
    /// [`Code::Refused`] is final, after another it is tried again.
    pub(crate) fn turn(&mut self) -> Option<Attempt> {
        if self.next.is_some_and(|at| at <= clock::now()) {
            self.next = None;
            self.begin();
        }
        let (outcomes, _) = self.trying.as_ref()?;
        let outcome = match outcomes.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Failure::no_connection("the attempt failed")),
        };
        self.trying = None;
        if outcome.is_err() {
            let pause = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(8)).min(LONGEST_PAUSE);
            self.attempts += 1;
            self.next = Some(clock::now() + pause);
        }
        Some(outcome)
    }

    fn begin(&mut self) {
        let (server, console, wish) = (self.server.clone(), self.console.clone(), self.wish.clone());
        let (sender, outcomes) = channel();
        let Ok((woken, mut wake)) = UnixStream::pair() else {
            self.next = Some(clock::now() + LONGEST_PAUSE);
            return;
        };
        self.trying = Some((outcomes, woken));
        // Its end closes the socket, which wakes the loop as well.
        thread::spawn(move || {
            let _ = sender.send(attempt(&server, &console, &wish));
            let _ = wake.write(&[0]);
        });
    }
}

/// One attempt.
fn attempt(server: &Server, console: &Value, wish: &Wish) -> Attempt {
    let mut connection = Connection::open(server)?;
    match attach_again(&mut connection, console, wish)? {
        Ok((attached, resumed)) => Ok(Box::new(Back { connection, attached, resumed })),
        Err(refusal) => {
            let mut refused = failure(&refusal);
            // A lock may be given up; a right will not come by itself.
            if refusal.code == "locked" {
                refused.code = Code::Error;
            }
            Err(refused)
        }
    }
}

/// Attaches to a console that was attached to before; also whether the output goes on where it broke off.
/// The id, which the wish has, holds in the server's present run only; with another run the UUID finds the
/// console, and its name where several have that.
pub(crate) fn attach_again(
    connection: &mut Connection,
    console: &Value,
    wish: &Wish,
) -> Result<Result<(Attached, bool), Refusal>, Failure> {
    // What the server has kept begins behind what was shown, or in another run: none of it was shown.
    let anew = |console: String| Wish { console, from: None, scrollback: EVERYTHING, ..wish.clone() };
    let uuid = console["uuid"].as_str().unwrap_or_default();
    let mut refused = None;
    for wish in [wish.clone(), anew(wish.console.clone()), anew(uuid.to_owned()), anew(name_of(console))] {
        match connection.attach(&wish)? {
            Ok(attached) => return Ok(Ok((attached, wish.from.is_some()))),
            Err(refusal) => {
                let is_final = !matches!(refusal.code.as_str(), "gone" | "no-such-console" | "ambiguous");
                refused = Some(refusal);
                if is_final {
                    break;
                }
            }
        }
    }
    refused.map_or_else(|| Err(Failure::error("there is nothing to attach to")), |refusal| Ok(Err(refusal)))
}

/// The wish with which an attach goes on where it broke off. vSPC.py's protocol has no offsets: there it is
/// shown what the server has kept, lest something be lost.
pub(crate) fn resume(console: &Value, lock: Option<&'static str>, epoch: &str, offset: u64) -> Wish {
    let from = (!epoch.is_empty()).then(|| (epoch.to_owned(), offset));
    let scrollback = if from.is_some() { 0 } else { EVERYTHING };
    Wish { console: reference(console), lock, scrollback, from, size: terminal::size() }
}

/// More than any server keeps.
const EVERYTHING: u64 = 1 << 30;
/// The pause after the first attempt that failed; it doubles with each.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest: short enough that whoever waits for a server to restart does not wait for this.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
