//! The telnet clients that are attached to the consoles of the VMs that are played, and what each has seen.

use crate::drive::PeerId;
use crate::telnet::Client;

/// A console as it is told apart: the VM's UUID (folded), and its URI where that matters.
pub type Key = (String, String);

/// One client.
#[derive(Debug)]
pub struct Attached {
    /// The console it was attached to.
    pub console: Key,
    /// The port of that console.
    pub port: u16,
    /// Its connection.
    pub peer: PeerId,
    /// The step of the dialogue before which it was attached: it need not have seen what came earlier.
    pub attached_at: usize,
    /// How many of its bytes came before the VM went on: a greeting.
    pub greeting: usize,
    /// What it has seen.
    pub client: Client,
}

impl Attached {
    /// What it has seen of what it has to see.
    #[must_use]
    pub fn saw(&self) -> &[u8] {
        &self.client.bytes[self.greeting.min(self.client.bytes.len())..]
    }
}

/// What was typed at one console.
#[derive(Default, Debug)]
pub struct Typed {
    /// All of it.
    pub bytes: Vec<u8>,
    /// How much the VM has received since.
    pub received: usize,
    /// How much of it was waited for in vain.
    pub missing: usize,
}

impl Typed {
    /// Whether everything has arrived that is still expected to.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.received + self.missing >= self.bytes.len()
    }

    /// The VM received so many bytes.
    pub fn arrive(&mut self, count: usize) {
        self.received += count;
        self.missing = self.missing.min(self.bytes.len().saturating_sub(self.received));
    }

    /// Expects no longer what has not arrived.
    pub fn give_up(&mut self) {
        self.missing = self.bytes.len().saturating_sub(self.received);
    }
}
