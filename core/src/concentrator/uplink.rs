//! What clients typed and a VM has not taken yet: one bounded queue per console, in wire form.
//!
//! Clients are admitted by credit ([`Uplink::window`]), so TCP itself pushes back on whoever is too fast.
//! While a VM moves nothing leaves and what is here waits for the connection that wins. A doubled IAC or a
//! command that a socket has taken half of is finished before anything else goes to that socket.

use crate::telnet::{self, trailing_iacs};

/// Wire bytes a console holds for its VM. A read of nothing but IACs still fits doubled.
pub(super) const CAPACITY: usize = 256 << 10;

/// Free bytes below which clients are not read any more, and above which, again, they are.
const FULL_BELOW: usize = 16 << 10;
const OPEN_ABOVE: usize = CAPACITY / 2;

/// The least a client may send once it may send at all.
const LEAST_SHARE: usize = 512;

/// Largest read from one client.
const READ_MAX: usize = 128 << 10;

#[derive(Debug, Default)]
pub(super) struct Uplink {
    bytes: Vec<u8>,
    taken: usize,
    /// The socket has taken the first half of a pair or command.
    mid_pair: bool,
    full: bool,
    /// Changes whenever the queue runs empty.
    epoch: u32,
    /// How many clients have sent something since then.
    active: u32,
}

/// Buffers between uses: one is handed out when a queue gets its first byte and comes back when it runs
/// empty, so that bulk input costs no allocation and an idle console no memory.
#[derive(Debug, Default)]
pub(super) struct Buffers(Vec<Vec<u8>>);

/// Buffers kept; a loop turn touches few consoles with input.
const SPARE_BUFFERS: usize = 4;

impl Buffers {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.0.len() < SPARE_BUFFERS {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

impl Uplink {
    /// Wire bytes not yet taken.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// The second half of a pair whose first half is out (one byte or none), and the rest.
    pub(super) fn halves(&self) -> (&[u8], &[u8]) {
        let pending = self.pending();
        pending.split_at(pending.len().min(usize::from(self.mid_pair)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_mid_pair(&self) -> bool {
        self.mid_pair
    }

    fn free(&self) -> usize {
        CAPACITY.saturating_sub(self.pending().len())
    }

    /// What a client may send now; 0 until the queue has drained. `doubles`: its bytes may take twice
    /// their number here.
    pub(super) fn window(&self, client_epoch: u32, doubles: bool) -> usize {
        if self.full {
            return 0;
        }
        let others = if client_epoch == self.epoch { self.active.max(1) } else { self.active + 1 };
        let share = self.free() / others as usize / if doubles { 2 } else { 1 };
        share.clamp(LEAST_SHARE, READ_MAX)
    }

    /// Counts a client among those that send; it keeps the returned epoch.
    pub(super) fn admit(&mut self, client_epoch: u32) -> u32 {
        if client_epoch != self.epoch {
            self.active += 1;
        }
        self.epoch
    }

    /// Queues bytes that are in wire form.
    pub(super) fn push_wire(&mut self, wire: &[u8], buffers: &mut Buffers) {
        self.make_room(wire.len(), buffers);
        self.bytes.extend_from_slice(wire);
        self.note_full();
    }

    /// Queues guest bytes: IACs are doubled.
    pub(super) fn push_guest(&mut self, guest: &[u8], buffers: &mut Buffers) {
        self.make_room(telnet::escaped_len(guest), buffers);
        telnet::escape_into(guest, &mut self.bytes);
        self.note_full();
    }

    fn make_room(&mut self, len: usize, buffers: &mut Buffers) {
        if self.bytes.is_empty() && self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        } else if self.taken > 0 && self.bytes.len() + len > self.bytes.capacity() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn note_full(&mut self) {
        self.full = self.free() < FULL_BELOW;
    }

    /// Notes that the VM's socket took `n` bytes. Returns true when clients may send again.
    pub(super) fn sent(&mut self, n: usize, buffers: &mut Buffers) -> bool {
        let n = n.min(self.pending().len());
        let chunk = &self.bytes[self.taken..self.taken + n];
        // IACs alternate between first and second half; any other byte is data or ends a command.
        let iacs = trailing_iacs(chunk);
        self.mid_pair = (iacs % 2 == 1) != (self.mid_pair && iacs == chunk.len());
        self.taken += n;
        self.free_if_empty(buffers);
        self.reopened()
    }

    /// Takes out the second half of a pair whose first half is out: it goes to the same connection by
    /// another way.
    pub(super) fn take_half(&mut self, buffers: &mut Buffers) -> Option<u8> {
        let half = *self.halves().0.first()?;
        self.mid_pair = false;
        self.taken += 1;
        self.free_if_empty(buffers);
        Some(half)
    }

    /// Drops everything; returns how many wire bytes that were, and whether clients may send again.
    pub(super) fn clear(&mut self, buffers: &mut Buffers) -> (usize, bool) {
        let lost = self.pending().len();
        self.mid_pair = false;
        self.taken = self.bytes.len();
        self.free_if_empty(buffers);
        (lost, self.reopened())
    }

    fn free_if_empty(&mut self, buffers: &mut Buffers) {
        if self.taken >= self.bytes.len() {
            self.taken = 0;
            self.epoch = self.epoch.wrapping_add(1);
            self.active = 0;
            buffers.put(std::mem::take(&mut self.bytes));
        }
    }

    fn reopened(&mut self) -> bool {
        let reopened = self.full && self.free() >= OPEN_ABOVE;
        self.full &= !reopened;
        reopened
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telnet::IAC;

    fn uplink(wire: &[u8]) -> (Uplink, Buffers) {
        let (mut uplink, mut buffers) = (Uplink::default(), Buffers::default());
        uplink.push_wire(wire, &mut buffers);
        (uplink, buffers)
    }

    #[test]
    fn knows_after_every_cut_whether_a_pair_or_a_command_was_halved() {
        let wire = [b'a', IAC, IAC, IAC, IAC, b'b', IAC, 243, IAC, IAC, IAC, 243, b'c'];
        let halves = [2, 4, 7, 9, 11];
        for first in 1..wire.len() {
            for second in first..wire.len() {
                let (mut uplink, mut buffers) = uplink(&wire);
                uplink.sent(first, &mut buffers);
                assert_eq!(uplink.is_mid_pair(), halves.contains(&first), "after {first}");
                uplink.sent(second - first, &mut buffers);
                assert_eq!(uplink.is_mid_pair(), halves.contains(&second), "after {first} and {second}");
            }
        }
    }

    #[test]
    fn half_of_a_pair_is_taken_out_for_the_connection_that_has_the_other() {
        let (mut uplink, mut buffers) = uplink(&[b'a', IAC, 243, b'b']);
        uplink.sent(2, &mut buffers);
        assert_eq!(uplink.take_half(&mut buffers), Some(243));
        assert_eq!(uplink.pending(), b"b");
        assert_eq!(uplink.take_half(&mut buffers), None);
    }

    #[test]
    fn full_queue_closes_the_window_until_half_is_free() {
        let (mut uplink, mut buffers) = uplink(&vec![b'x'; CAPACITY - FULL_BELOW + 1]);
        assert_eq!(uplink.window(0, false), 0);
        assert!(!uplink.sent(10, &mut buffers));
        assert_eq!(uplink.window(0, false), 0);
        assert!(uplink.sent(CAPACITY / 2, &mut buffers));
        assert!(uplink.window(0, false) > 0);
    }

    #[test]
    fn the_free_space_is_shared_by_those_who_send() {
        let (mut uplink, mut buffers) = (Uplink::default(), Buffers::default());
        assert_eq!(uplink.window(9, false), READ_MAX);
        let epoch = uplink.admit(9);
        uplink.push_wire(b"x", &mut buffers);
        assert_eq!(uplink.window(epoch, true), (CAPACITY - 1) / 2);
        uplink.admit(9);
        uplink.admit(9);
        assert_eq!(uplink.window(epoch, false), (CAPACITY - 1) / 3);
        uplink.sent(1, &mut buffers);
        assert_eq!(uplink.window(epoch, false), READ_MAX);
    }

    #[test]
    fn every_byte_of_a_full_window_fits() {
        let (mut uplink, mut buffers) = (Uplink::default(), Buffers::default());
        let mut epochs = [9; 40];
        for turn in 0..10_000 {
            let client = &mut epochs[turn % 40];
            let window = uplink.window(*client, true);
            if window == 0 {
                break;
            }
            *client = uplink.admit(*client);
            uplink.push_guest(&vec![IAC; window], &mut buffers);
            assert!(uplink.pending().len() <= CAPACITY);
        }
        assert_eq!(uplink.window(9, true), 0);
    }

    #[test]
    fn empty_queue_owns_no_heap() {
        let (mut uplink, mut buffers) = uplink(b"abc");
        uplink.sent(3, &mut buffers);
        assert_eq!(uplink.bytes.capacity(), 0);
    }
}
