//! The telnet clients that are attached to the consoles of the VMs that are played, and what each has seen.

use memchr::memmem;

use crate::drive::PeerId;
use crate::telnet::Client;

/// A console as it is told apart: the VM's UUID (folded), and its URI where that matters.
pub(super) type Key = (String, String);

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
    /// What it has seen of what it has to see, without what the server told it meanwhile: lines of its own
    /// that say so, as that another connection has the VM's input now.
    #[must_use]
    pub fn saw(&self) -> Vec<u8> {
        without_notices(&self.client.bytes[self.greeting.min(self.client.bytes.len())..])
    }
}

fn without_notices(mut bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    while let Some(at) = memmem::find(bytes, NOTICE)
        && let Some(length) = memmem::find(&bytes[at..], NOTICE_ENDS)
    {
        kept.extend_from_slice(&bytes[..at]);
        bytes = &bytes[at + length + NOTICE_ENDS.len()..];
    }
    kept.extend_from_slice(bytes);
    kept
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

/// How a line that a server tells begins and ends.
const NOTICE: &[u8] = b"\r\n[vspc: ";
const NOTICE_ENDS: &[u8] = b"]\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_tells_is_no_output() {
        let seen = b"log\r\n[vspc: web01 is taken over]\r\nin:\r\n[vspc: again]\r\n \r\n[vspc: cut";
        assert_eq!(without_notices(seen), b"login: \r\n[vspc: cut");
        assert_eq!(without_notices(b"\r\n[other]\r\n"), b"\r\n[other]\r\n");
    }
}
