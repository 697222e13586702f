//! How much may be under way on a serial port: what a keystroke waits for, and what the port has to hold.
//!
//! Owns the sizes of frames and windows. Refuses to know what is in them.

use vspc_core::mux::link::LinkConfig;

/// SL on a port of this speed, 0 where it is not known. Its frames, and how many of them are under way, are
/// what a keystroke waits for and what the port has to hold: both sides keep to what one of them announces.
pub(crate) fn link_config(nonce: u32, bits_per_second: u32) -> LinkConfig {
    let config = LinkConfig { bits_per_second, ..LinkConfig::new(nonce) };
    if bits_per_second == 0 {
        return LinkConfig { window: MOST, ..config };
    }
    let bytes = |fraction: u32| bits_per_second / BITS / fraction;
    let max_payload = u16::try_from(bytes(16)).unwrap_or(u16::MAX).clamp(LEAST_PAYLOAD, config.max_payload);
    let frames = u16::try_from(bytes(10) / u32::from(max_payload + OVERHEAD)).unwrap_or(u16::MAX);
    LinkConfig { max_payload, window: frames.clamp(LEAST, MOST), ..config }
}

/// S2's frames on such a port. One that has begun is finished before a keystroke goes: the sixteenth of a
/// second's, but not so small that headers are much of it.
pub(crate) fn max_frame(bits_per_second: u32) -> u16 {
    if bits_per_second == 0 {
        return MAX_FRAME;
    }
    u16::try_from(bits_per_second / BITS / 16).unwrap_or(u16::MAX).clamp(LEAST_FRAME, MAX_FRAME)
}

/// Bits of a byte on a serial line.
const BITS: u32 = 10;
/// Header, checksum and flag of an SL frame.
const OVERHEAD: u16 = 13;
/// Payload of one on the slowest lines: more than half of each frame is still somebody's bytes.
const LEAST_PAYLOAD: u16 = 64;
/// Frames under way: one that is sent, one that is acked, and two for a machine that is late.
const LEAST: u16 = 4;
/// And the most: 1883 bytes. A port without flow control drops what its system has no room for, which is 4
/// KiB; every byte escaped, these are 3.7.
const MOST: u16 = 7;
/// S2's frames on a line that loses bytes.
const MAX_FRAME: u16 = 1024;
const LEAST_FRAME: u16 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Chance, Wire};
    use std::collections::VecDeque;
    use std::time::Duration;
    use vspc_core::mux::link::{Link, carry};
    use vspc_core::mux::{Config, Event, Priority, Received, Role, Session, StreamId};
    use vspc_core::time::Instant;

    /// A host and an agent's wire, and a line between them that takes its time. The host copies both ways on
    /// one stream, and types on another, which the guest echoes.
    struct Line {
        host: Session,
        host_link: Link,
        guest: Wire,
        now: Instant,
        to_guest: VecDeque<u8>,
        to_host: VecDeque<u8>,
        /// Bytes in a second, and what is left of them for the next step.
        pace: u32,
        carried: u32,
        /// Bytes that were passed on to the guest, and to the host.
        passed: [u32; 2],
        bulk: StreamId,
        keys: StreamId,
        echoes: usize,
    }

    impl Line {
        fn new(bits_per_second: u32) -> Self {
            let now = Instant::ZERO;
            let mut host = Session::new(Config { nonce: 5, ..Config::new(Role::Host) }, now).unwrap();
            let mut host_link = Link::new(LinkConfig::new(7));
            host_link.open(now);
            let guest =
                Wire::new(wire::Line::Sl(bits_per_second), Chance { nonces: [1, 2], seed: [3, 4] }, now);
            let (bulk, keys) = (host.open().unwrap(), host.open().unwrap());
            host.set_priority(bulk, Priority::Low).unwrap();
            let mut line = Self {
                host,
                host_link,
                guest,
                now,
                to_guest: VecDeque::new(),
                to_host: VecDeque::new(),
                // A port whose speed is not known is a fast one, or a usual one.
                pace: if bits_per_second == 0 { 115_200 } else { bits_per_second } / BITS,
                carried: 0,
                passed: [0; 2],
                bulk,
                keys,
                echoes: 0,
            };
            line.host.write(line.bulk, b"begin").unwrap();
            line.type_key();
            line
        }

        fn type_key(&mut self) {
            self.host.write(self.keys, b"k").unwrap();
        }

        /// A thousandth of a second.
        fn step(&mut self) {
            self.now = self.now + Duration::from_millis(1);
            self.host_out();
            self.guest_out();
            self.carried += self.pace;
            let room = self.carried / 1000;
            self.carried %= 1000;
            let mut pass = |queue: &mut VecDeque<u8>, which: usize| {
                let n = queue.len().min(room as usize);
                self.passed[which] += n as u32;
                queue.drain(..n).collect::<Vec<_>>()
            };
            let to_guest = pass(&mut self.to_guest, 0);
            let to_host = pass(&mut self.to_host, 1);
            self.guest.handle_received(&to_guest, self.now);
            self.host_link.handle_received(&to_host, self.now);
            self.guest.handle_timeout(self.now);
            self.guest_in();
            self.host_in();
        }

        fn host_out(&mut self) {
            let credit = self.host.credit(self.bulk);
            self.host.write(self.bulk, &vec![b'x'; credit]).unwrap();
            self.host.handle_timeout(self.now);
            self.host_link.handle_timeout(self.now);
            loop {
                carry(&mut self.host, &mut self.host_link, self.now);
                let queue = &mut self.to_guest;
                let n = self.host_link.transmit_with(self.now, |run| {
                    queue.extend(run);
                    run.len()
                });
                if n == 0 {
                    return;
                }
            }
        }

        fn host_in(&mut self) {
            while self.host_link.poll_event().is_some() {}
            carry(&mut self.host, &mut self.host_link, self.now);
            while let Some(event) = self.host.poll_event() {
                if let Event::Readable(id) = event {
                    let n = take(&mut self.host, id);
                    if id == self.keys {
                        self.echoes += n;
                    }
                }
            }
        }

        fn guest_in(&mut self) {
            let session = &mut self.guest.session;
            while let Some(event) = session.poll_event() {
                if let Event::Readable(id) = event {
                    let n = take(session, id);
                    if id == self.keys {
                        session.write(id, &vec![b'k'; n]).unwrap();
                    } else {
                        session.set_priority(id, Priority::Low).unwrap();
                    }
                }
            }
        }

        fn guest_out(&mut self) {
            let session = &mut self.guest.session;
            let credit = session.credit(self.bulk);
            let _ = session.write(self.bulk, &vec![b'y'; credit]);
            loop {
                let queue = &mut self.to_host;
                let n = self.guest.transmit_with(self.now, |runs| {
                    runs.iter().for_each(|run| queue.extend(&run[..]));
                    runs.iter().map(|run| run.len()).sum()
                });
                if n == 0 {
                    return;
                }
            }
        }

        fn until_echo(&mut self, echoes: usize) {
            let patience = self.now + Duration::from_secs(20);
            while self.echoes < echoes {
                assert!(self.now < patience, "no echo");
                self.step();
            }
        }
    }

    /// Reads all of it.
    fn take(session: &mut Session, id: StreamId) -> usize {
        let mut all = 0;
        while let Ok(Received::Bytes(bytes)) = session.received(id) {
            let n = bytes.len();
            session.consume(id, n).unwrap();
            all += n;
        }
        all
    }

    /// What the line passes on between a key and its echo, at the most, beside copies both ways: what is
    /// ahead of the key on its way there, and of the echo on its way back. And how much of the line is used.
    fn ahead_of_an_echo(bits_per_second: u32) -> (u32, u32) {
        let mut line = Line::new(bits_per_second);
        line.until_echo(1);
        for _ in 0..3000 {
            line.step();
        }
        let (begun, before) = (line.now, line.passed);
        let mut most = 0;
        for key in 2..40 {
            // Now and then, in the middle of whatever is on the line.
            for _ in 0..17 * key {
                line.step();
            }
            let passed = line.passed;
            line.type_key();
            line.until_echo(key);
            most = most.max(line.passed[1] - passed[1]);
        }
        let could = line.now.duration_since(begun).as_millis() as u32 * line.pace / 1000;
        let passed = (line.passed[0] - before[0]).min(line.passed[1] - before[1]);
        (most, passed * 100 / could)
    }

    #[test]
    fn an_echo_beside_copies_both_ways_waits_for_a_few_frames_and_the_line_is_busy() {
        for (speed, most) in [(9600, 1100), (115_200, 3100), (921_600, 4700)] {
            let (ahead, busy) = ahead_of_an_echo(speed);
            assert!(ahead <= most, "{speed}: {ahead} bytes ahead of the echo");
            assert!(busy >= 95, "{speed}: the line was used to {busy} % only");
        }
    }

    #[test]
    fn a_host_has_no_more_under_way_than_a_port_holds_that_nobody_reads() {
        for speed in [0, 9600, 115_200, 921_600] {
            let mut line = Line::new(speed);
            line.until_echo(1);
            for _ in 0..1000 {
                line.step();
            }
            // The guest reads nothing any more. What it has said arrives; then, until the host repeats
            // itself, its window is all there is.
            for _ in 0..150 {
                line.now = line.now + Duration::from_millis(1);
                let to_host = line.to_host.drain(..).collect::<Vec<_>>();
                line.host_link.handle_received(&to_host, line.now);
                line.host_in();
                line.host_out();
            }
            let under_way = line.to_guest.len();
            assert!((200..=2048).contains(&under_way), "{speed}: {under_way} bytes are under way");
        }
    }
}
