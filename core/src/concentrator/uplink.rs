//! What clients typed and a VM has not taken yet: one bounded queue per console, in wire form.
//!
//! Clients are admitted by credit ([`Uplink::window`]), so TCP itself pushes back on whoever is too fast.
//! While a VM moves nothing leaves and what is here waits for the connection that wins. A doubled IAC or a
//! command that a socket has taken half of is finished before anything else goes to that socket: the other
//! half is kept apart from the queue ([`Uplink::half`]).

use crate::telnet::wire_form::{escape_into, trailing_iacs};
use crate::time::Instant;

/// Wire bytes a console holds for its VM. A read of nothing but IACs still fits doubled.
pub(super) const CAPACITY: usize = 256 << 10;

/// One console's input.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// Nothing while nothing waits.
    queue: Option<Box<Queue>>,
    /// The second byte of a pair or command whose first the socket has taken.
    half: Option<u8>,
    full: bool,
    /// Changes whenever the queue runs empty.
    epoch: u32,
    /// How many clients have sent something since then.
    active: u32,
    /// Which of the clients was read first when the queue last had room again.
    turn: u32,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How many of `bytes` the socket has taken.
    taken: usize,
    /// Since when the first of what waits has done so, as far as that was told.
    since: Option<Instant>,
}

impl Queue {
    fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Makes room for `len` bytes: what was taken goes before the buffer grows.
    fn make_room(&mut self, len: usize) -> &mut Vec<u8> {
        if self.taken > 0 && self.bytes.len() + len > self.bytes.capacity() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }
}

/// Buffers between uses: one is handed out when a queue gets its first byte and comes back when it runs
/// empty, so that bulk input costs no allocation and an idle console no memory.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a queue moves between its console and here without being copied")]
pub(super) struct Buffers(Vec<Box<Queue>>);

impl Buffers {
    fn take(&mut self) -> Box<Queue> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut queue: Box<Queue>) {
        if self.0.len() < SPARE_BUFFERS {
            queue.bytes.clear();
            queue.taken = 0;
            queue.since = None;
            self.0.push(queue);
        }
    }
}

impl Uplink {
    /// The second byte of a pair whose first is out (one byte or none), and the rest.
    pub(super) fn halves(&self) -> (&[u8], &[u8]) {
        (self.half.as_slice(), self.pending())
    }

    fn pending(&self) -> &[u8] {
        self.queue.as_ref().map_or(&[], |queue| queue.pending())
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.pending().len() + usize::from(self.half.is_some())
    }

    fn free(&self) -> usize {
        CAPACITY.saturating_sub(self.len())
    }

    /// Whether what was read of a client that has gone may be put behind a full queue; there is an end to
    /// that.
    pub(super) fn takes_last_words(&self) -> bool {
        self.len() < 2 * CAPACITY
    }

    /// What a client may send now; 0 until the queue has drained. `doubles`: its bytes may take twice
    /// their number here.
    pub(super) fn window(&self, client_epoch: u32, doubles: bool) -> usize {
        if self.full {
            return 0;
        }
        let others = if client_epoch == self.epoch { self.active.max(1) } else { self.active + 1 };
        let share = self.free() / others as usize / if doubles { 2 } else { 1 };
        share.max(LEAST_SHARE)
    }

    /// Which of so many clients is read first now that there is room again: another one each time.
    pub(super) fn next_turn(&mut self, clients: usize) -> usize {
        self.turn = (self.turn + 1) % clients.max(1) as u32;
        self.turn as usize
    }

    /// Counts a client among those that send; it keeps the returned epoch.
    pub(super) fn admit(&mut self, client_epoch: u32) -> u32 {
        if client_epoch != self.epoch {
            self.active += 1;
        }
        self.epoch
    }

    /// Something waits since now, if nothing did before.
    pub(super) fn note_waiting(&mut self, now: Instant) {
        if let Some(queue) = &mut self.queue {
            queue.since.get_or_insert(now);
        }
    }

    /// Since when something has waited, to be told once.
    pub(super) fn take_waiting(&mut self) -> Option<Instant> {
        self.queue.as_mut().and_then(|queue| queue.since.take())
    }

    /// Queues bytes that are in wire form.
    pub(super) fn push_wire(&mut self, wire: &[u8], buffers: &mut Buffers) {
        self.room(wire.len(), buffers).extend_from_slice(wire);
        self.note_full();
    }

    /// Queues guest bytes: IACs are doubled.
    pub(super) fn push_guest(&mut self, guest: &[u8], buffers: &mut Buffers) {
        escape_into(guest, self.room(guest.len(), buffers));
        self.note_full();
    }

    fn room(&mut self, len: usize, buffers: &mut Buffers) -> &mut Vec<u8> {
        self.queue.get_or_insert_with(|| buffers.take()).make_room(len)
    }

    fn note_full(&mut self) {
        self.full = self.free() < FULL_BELOW;
    }

    /// The VM's socket took `n` bytes of [`halves`](Self::halves), the half first. Returns true when clients
    /// may send again.
    pub(super) fn took(&mut self, n: usize, buffers: &mut Buffers) -> bool {
        let mut n = n.min(self.len());
        if n > 0 && self.half.take().is_some() {
            n -= 1;
        }
        if let Some(queue) = &mut self.queue {
            // IACs come in pairs or before a command: an odd number of them at the end has halved something.
            let is_halved = !trailing_iacs(&queue.pending()[..n]).is_multiple_of(2);
            queue.taken += n;
            if is_halved {
                self.half = queue.pending().first().copied();
                queue.taken += usize::from(self.half.is_some());
            }
        }
        self.sleep_if_empty(buffers);
        self.reopened()
    }

    /// Takes out the second half of a pair whose first half is out: it goes to the same connection by
    /// another way.
    pub(super) fn take_half(&mut self, buffers: &mut Buffers) -> Option<u8> {
        let half = self.half.take()?;
        self.sleep_if_empty(buffers);
        Some(half)
    }

    /// Drops everything. Returns how many wire bytes that were, and whether clients may send again.
    pub(super) fn clear(&mut self, buffers: &mut Buffers) -> (usize, bool) {
        let lost = self.len();
        self.half = None;
        if let Some(queue) = &mut self.queue {
            queue.taken = queue.bytes.len();
        }
        self.sleep_if_empty(buffers);
        (lost, self.reopened())
    }

    fn sleep_if_empty(&mut self, buffers: &mut Buffers) {
        if self.is_empty() {
            self.epoch = self.epoch.wrapping_add(1);
            self.active = 0;
            if let Some(queue) = self.queue.take() {
                buffers.put(queue);
            }
        }
    }

    fn reopened(&mut self) -> bool {
        let reopened = self.full && self.free() >= OPEN_ABOVE;
        self.full &= !reopened;
        reopened
    }
}

/// Free bytes below which clients are not read any more, and above which, again, they are.
const FULL_BELOW: usize = 16 << 10;
const OPEN_ABOVE: usize = CAPACITY / 2;

/// The least a client may send once it may send at all: a line.
const LEAST_SHARE: usize = 512;

/// Buffers kept; a loop turn touches few consoles with input.
const SPARE_BUFFERS: usize = 4;

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
                uplink.took(first, &mut buffers);
                assert_eq!(uplink.half.is_some(), halves.contains(&first), "after {first}");
                uplink.took(second - first, &mut buffers);
                assert_eq!(uplink.half.is_some(), halves.contains(&second), "after {first} and {second}");
            }
        }
    }

    #[test]
    fn half_of_a_pair_is_taken_out_for_the_connection_that_has_the_other() {
        let (mut uplink, mut buffers) = uplink(&[b'a', IAC, 243, b'b']);
        uplink.took(2, &mut buffers);
        assert_eq!(uplink.take_half(&mut buffers), Some(243));
        assert_eq!(uplink.halves(), (&[][..], &b"b"[..]));
        assert_eq!(uplink.take_half(&mut buffers), None);
    }

    #[test]
    fn full_queue_closes_the_window_until_half_is_free() {
        let (mut uplink, mut buffers) = uplink(&vec![b'x'; CAPACITY - FULL_BELOW + 1]);
        assert_eq!(uplink.window(0, false), 0);
        assert!(!uplink.took(10, &mut buffers));
        assert_eq!(uplink.window(0, false), 0);
        assert!(uplink.took(CAPACITY / 2, &mut buffers));
        assert!(uplink.window(0, false) > 0);
    }

    #[test]
    fn the_free_space_is_shared_by_those_who_send() {
        let (mut uplink, mut buffers) = (Uplink::default(), Buffers::default());
        assert_eq!((uplink.window(9, false), uplink.window(9, true)), (CAPACITY, CAPACITY / 2));
        let epoch = uplink.admit(9);
        uplink.push_wire(b"x", &mut buffers);
        assert_eq!(uplink.window(epoch, true), (CAPACITY - 1) / 2);
        uplink.admit(9);
        uplink.admit(9);
        assert_eq!(uplink.window(epoch, false), (CAPACITY - 1) / 3);
        uplink.took(1, &mut buffers);
        assert_eq!(uplink.window(epoch, false), CAPACITY);
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
            assert!(uplink.len() <= CAPACITY);
        }
        assert_eq!(uplink.window(9, true), 0);
    }

    #[test]
    fn empty_queue_owns_no_heap() {
        let (mut uplink, mut buffers) = uplink(b"abc");
        uplink.took(3, &mut buffers);
        assert!(uplink.queue.is_none());
        assert!(size_of::<Uplink>() <= 24);
    }
}
