//! The one way from other threads into a server's loop: typed commands in a bounded queue, and a socket that
//! wakes the loop.
//!
//! It owns the queue; what a command does is the loop's business. A sender never waits: a full queue gives
//! the command back, and the sender decides what becomes of it. However many commands come while the loop is
//! busy, it is woken once.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

pub use std::sync::mpsc::TrySendError;

use socket2::Socket;
use vspc_core::concentrator::{ConnId, ConsoleId, LocalOptions, LogReader};

use crate::hangup::Reloaded;
use crate::store::Grant;
use crate::watch::Sink;
use crate::watching::Sighting;

/// What other threads may ask of the loop.
#[derive(Debug)]
pub enum Command {
    /// Stop in good order. Asking twice is asking once.
    Stop,
    /// Log the counters.
    Report,
    /// Go by what was read anew.
    Reloaded(Box<Reloaded>),
    /// These consoles have these client ports also after a restart: the store has made sure of it, so long
    /// after the first change that it has now.
    Kept(Vec<(ConsoleId, u16)>, Option<Duration>),
    /// These client ports may be given out, or may not be any more.
    Ports(Grant),
    /// Open the logs of consoles, and files of events, anew.
    Reopen,
    /// Tell that a watch has found something.
    Seen(Sighting),
    /// Hand a piece of its log to whoever reads it.
    Log {
        /// Who that is.
        reader: LogReader,
        /// Records (operator.md §10).
        piece: Vec<u8>,
        /// No more come.
        is_last: bool,
    },
    /// Give a console back what it had printed before the start.
    Restored {
        /// Which.
        console: ConsoleId,
        /// Guest bytes, oldest first.
        output: Vec<u8>,
    },
    /// A connection that the engine has asked for is there, or cannot be had.
    Connected(ConnId, io::Result<Socket>),
    /// Show a thread what a console prints.
    Watch {
        /// The console's name or UUID.
        console: String,
        /// What kind of reader it is, and from where it reads.
        options: LocalOptions,
        /// Where the pieces go.
        sink: Sink,
    },
}

/// A queue, and the socket that the loop has to wait at: it becomes readable when there are commands.
pub fn pair() -> io::Result<(Sender, Receiver, UnixStream)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let (sender, receiver) = mpsc::sync_channel(CAPACITY);
    let is_woken = Arc::new(AtomicBool::new(false));
    let sender = Sender { queue: sender, wake: Arc::new(wake), is_woken: Arc::clone(&is_woken) };
    Ok((sender, Receiver { queue: receiver, is_woken }, woken))
}

/// The end that threads hold. A copy costs two counters and no descriptor.
#[derive(Clone, Debug)]
pub struct Sender {
    queue: SyncSender<Command>,
    wake: Arc<UnixStream>,
    is_woken: Arc<AtomicBool>,
}

impl Sender {
    /// Queues a command and wakes the loop. Never waits.
    ///
    /// # Errors
    ///
    /// The queue is full, or the loop has ended; the command is in the error.
    pub fn try_send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        self.queue.try_send(command)?;
        self.nudge();
        Ok(())
    }

    /// Wakes the loop without asking for anything: there is room where it found none. Never waits.
    pub fn nudge(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // Fails when the loop has ended, and if the socket were full: then it is readable already.
            let _ = (&*self.wake).write(&[0]);
        }
    }
}

/// The end that the loop holds.
#[derive(Debug)]
pub struct Receiver {
    queue: mpsc::Receiver<Command>,
    is_woken: Arc<AtomicBool>,
}

impl Receiver {
    /// Takes what was sent before this call, oldest first, and empties the socket, so that it becomes
    /// readable again with the next command. At most as many as the queue holds, so that a thread that never
    /// stops sending does not keep the loop.
    pub fn take(&mut self, mut woken: impl Read) -> Vec<Command> {
        while matches!(woken.read(&mut [0; 16]), Ok(1..)) {}
        // This comes before the queue is read: a command that is sent later wakes the loop again. A thread
        // that found the flag set had put its command into the queue before.
        self.is_woken.swap(false, Ordering::AcqRel);
        self.queue.try_iter().take(CAPACITY).collect()
    }
}

/// How many commands may wait. Threads ask for things as people and files do, a few at a time; a loop that is
/// this far behind is stuck.
const CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_full_queue_gives_the_command_back_and_an_ended_loop_too() {
        let (sender, mut receiver, woken) = pair().unwrap();
        for _ in 0..CAPACITY {
            sender.try_send(Command::Report).unwrap();
        }
        let full = sender.try_send(Command::Stop).unwrap_err();
        assert!(matches!(full, TrySendError::Full(Command::Stop)), "{full:?}");
        assert_eq!(receiver.take(&woken).len(), CAPACITY);
        sender.try_send(Command::Stop).unwrap();
        drop(receiver);
        let ended = sender.try_send(Command::Report).unwrap_err();
        assert!(matches!(ended, TrySendError::Disconnected(Command::Report)), "{ended:?}");
    }

    #[test]
    fn many_commands_wake_the_loop_once_and_the_next_wakes_it_again() {
        let (sender, mut receiver, mut woken) = pair().unwrap();
        for _ in 0..2 {
            sender.try_send(Command::Report).unwrap();
            sender.try_send(Command::Stop).unwrap();
            assert_eq!(woken.read(&mut [0; 16]).unwrap(), 1);
            assert!(matches!(receiver.take(&woken)[..], [Command::Report, Command::Stop]));
        }
        assert!(receiver.take(&woken).is_empty());
        assert_eq!(woken.read(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn no_command_waits_for_a_wake_that_does_not_come() {
        const SENDERS: usize = 4;
        const EACH: usize = 10_000;
        let (sender, mut receiver, mut woken) = pair().unwrap();
        woken.set_nonblocking(false).unwrap();
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for _ in 0..EACH {
                        while sender.try_send(Command::Report).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut taken = 0;
        while taken < SENDERS * EACH {
            // A wake that was forgotten would leave this waiting for ever.
            woken.read_exact(&mut [0]).unwrap();
            taken += receiver.take(io::empty()).len();
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}
