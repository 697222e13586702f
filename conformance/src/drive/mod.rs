//! Plays transcripts: one player ([`play`]) that knows what the words mean, and a [`Target`] under it that
//! knows how bytes travel: [`Memory`] is the core itself under virtual time, [`Live`] is a server over TCP.
//!
//! The verdict is the player's alone, so a transcript means the same over both. Captures are played over the
//! same targets ([`crate::replay`]).

mod find;
mod live;
mod memory;
mod player;
mod values;

pub use find::{Ports, Printing};
pub use live::{ClientPort, Live, LiveOptions};
pub use memory::{Memory, Pace, Secured};
pub use player::{Cut, Failure, Options, Outcome, Played, play};
pub use values::Values;

use std::net::SocketAddr;
use std::time::Duration;

/// A connection that a [`Target`] holds, counted from 0 in the order of connecting.
pub type PeerId = usize;

/// Something that a peer of the server receives.
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

/// A concentrator that VMs and clients can be connected to: in memory or over TCP, in clear or by TLS.
pub trait Target {
    /// The time since this target began.
    fn now(&self) -> Duration;

    /// How long a VM must have been silent before [`client_port`](Self::client_port) is asked for its
    /// console: meanwhile nobody answers for the VM.
    fn quiet_before_client(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether a new client is shown everything that its console has printed so far. Elsewhere a client is
    /// expected to see only what comes after it.
    fn shows_all(&self) -> bool {
        false
    }

    /// Connects where VMs connect.
    ///
    /// # Errors
    ///
    /// The server does not take the connection.
    fn connect_vm(&mut self) -> Result<PeerId, Trouble>;

    /// The same, from this address where addresses can be made up.
    ///
    /// # Errors
    ///
    /// The server does not take the connection.
    fn connect_vm_from(&mut self, _address: SocketAddr) -> Result<PeerId, Trouble> {
        self.connect_vm()
    }

    /// The client port of the console that the VM connection `vm` feeds. To find it, the VM may have to
    /// print.
    ///
    /// # Errors
    ///
    /// There is no such port, or it cannot be found.
    fn client_port(&mut self, vm: PeerId) -> Result<u16, Trouble>;

    /// Connects to a client port.
    ///
    /// # Errors
    ///
    /// The server does not take the connection.
    fn connect_client(&mut self, port: u16) -> Result<PeerId, Trouble>;

    /// Connects to the admin listener.
    ///
    /// # Errors
    ///
    /// There is none, or it does not take the connection.
    fn connect_admin(&mut self) -> Result<PeerId, Trouble> {
        Err(Trouble::NotOffered("no admin listener is known".into()))
    }

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
    /// The server broke the contract of this target.
    fn pump(&mut self, until: Duration) -> Result<Option<Arrival>, String>;
}
