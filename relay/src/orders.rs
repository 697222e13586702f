//! What a line is told besides what its sockets say: by `vspc-relay migrate`, and by what watches a QEMU.
//!
//! **Owns** the queue into the loop. Whoever is at its other end waits for the answer and not the loop.

use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use crate::relay::Stopper;
use crate::secret::Secret;

/// What came of an order: what is to be printed, or why it cannot be done.
pub(crate) type Answer = Result<String, String>;

/// Who is waiting for an answer. Nobody minds if nobody does any more.
pub(crate) type Reply = SyncSender<Answer>;

/// One order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) whom: Whom,
    pub(crate) what: What,
    pub(crate) reply: Reply,
}

/// Which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whom {
    /// By its VM's name.
    Named(String),
    /// By its number.
    Line(u64),
}

/// What it is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// The VM leaves this host and stands still: have the concentrator hold what is typed. The answer is the
    /// secret.
    Begin,
    /// The answer is the secret of the next move, whoever begins it.
    Watch,
    /// The VM comes to this host, and does not run yet. The answer to one with a secret comes when the
    /// concentrator has taken it.
    Expect(Option<Secret>),
    /// The VM that was expected runs here.
    Complete,
    /// The move is off.
    Abort,
    /// The VM runs here, wherever it comes from.
    Runs,
    /// The VM has left this host.
    Left,
    /// The VM has stopped, for this host or for good: give it nothing.
    Still,
    /// Nobody knows whether the VM runs here: do not speak for it for a moment.
    Unknown,
    /// The guest was given a BREAK, or why not.
    Broke(Option<String>),
}

/// What a line gives to whoever watches its QEMU.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its number, for as long as it is there.
    pub(crate) line: Weak<u64>,
    /// The guest is to be given a BREAK.
    pub(crate) breaks: Receiver<()>,
}

/// The end of the queue that gives orders.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    queue: Sender<Order>,
    stopper: Stopper,
}

impl Orders {
    pub(crate) fn new(stopper: Stopper) -> (Self, Receiver<Order>) {
        let (queue, orders) = channel();
        (Self { queue, stopper }, orders)
    }

    /// Whether there is no loop any more.
    pub(crate) fn is_over(&self) -> bool {
        self.stopper.is_asked()
    }

    /// Gives an order and waits for its answer, for so long. `None`: there is no loop any more.
    pub(crate) fn ask(&self, whom: Whom, what: What, patience: Duration) -> Option<Answer> {
        let (reply, answer) = sync_channel(1);
        self.queue.send(Order { whom, what, reply }).ok()?;
        self.stopper.wake();
        match answer.recv_timeout(patience) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => Some(Err("there is no answer in time".to_owned())),
            // Dropped with a line that is gone, or with the loop; the next order tells which.
            Err(RecvTimeoutError::Disconnected) => Some(Err("the line is gone".to_owned())),
        }
    }
}
