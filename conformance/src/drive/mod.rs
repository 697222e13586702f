//! Plays transcripts: one player ([`play`]) that knows what the words mean, and a [`Network`] under it that knows
//! how bytes travel: [`Memory`] is the core itself under virtual time, [`Live`] is TCP.
//!
//! The verdict is the player's alone, so a transcript means the same over both.

mod live;
mod memory;
mod player;
mod values;

pub use live::{ClientPort, Live, LiveOptions};
pub use memory::{Memory, Pace, Secured};
pub use player::{Cut, Failure, Options, Outcome, Played, play};
pub use values::Values;

use std::time::Duration;

/// A connection that a [`Network`] holds, counted from 0 in the order of connecting.
pub type PeerId = usize;

/// Something that a peer of the server hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Bytes.
    Bytes(PeerId, Vec<u8>),
    /// The end of the connection, by FIN or by RST.
    Ended(PeerId),
}

/// Why something cannot be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The server has no way to do this; nobody's fault.
    NotOffered(String),
    /// It should have worked.
    Failed(String),
}

/// How bytes get to a server and back, and how time passes.
pub trait Network {
    /// The time since this network began.
    fn now(&self) -> Duration;

    /// How long a VM must have been silent before the client port of its console is looked for: until then
    /// the player answers for it.
    fn quiet_before_client(&self) -> Duration {
        Duration::ZERO
    }

    /// Connects where VMs connect.
    ///
    /// # Errors
    ///
    /// The server does not take the connection.
    fn connect_vm(&mut self) -> Result<PeerId, Trouble>;

    /// Connects to the client port of the console that the VM connection `of` feeds.
    ///
    /// # Errors
    ///
    /// There is no such port, or it cannot be found.
    fn connect_client(&mut self, of: PeerId) -> Result<PeerId, Trouble>;

    /// Sends one segment. Sending to a connection that has ended does nothing.
    fn send(&mut self, peer: PeerId, bytes: &[u8]);

    /// Sends one segment of which the last byte is urgent, where there is such a thing.
    fn send_urgent(&mut self, peer: PeerId, bytes: &[u8]) {
        self.send(peer, bytes);
    }

    /// Sends FIN.
    fn close(&mut self, peer: PeerId);

    /// Sends RST.
    fn reset(&mut self, peer: PeerId);

    /// Lets time pass until something arrives, but not longer than `until`.
    ///
    /// # Errors
    ///
    /// The server broke the contract of this network.
    fn pump(&mut self, until: Duration) -> Result<Option<Arrival>, String>;
}
