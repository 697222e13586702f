//! A v1 guest with the sizes and the fatal inputs of the real one, and hosts that must not kill it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vspc_core::mux::wire::{HEADER, split_header};
use vspc_core::mux::{Config, Dialect, Event, Overflow, Received, Role, Session, Start, StreamId};
use vspc_core::time::Instant;

use crate::line::{Chance, START, events, read_all, seeds, take, v1};

/// What the real guest has: one receive buffer, one transmit buffer, 512 bytes per process' stdin.
pub(crate) struct Guest {
    input: Vec<u8>,
    pub(crate) output: VecDeque<u8>,
    pub(crate) processes: BTreeMap<u64, Process>,
    /// Why its init ended, if it did.
    pub(crate) dead: Option<String>,
}

/// One process of the guest.
#[derive(Default)]
pub(crate) struct Process {
    stdin: VecDeque<u8>,
    /// What it has read.
    pub(crate) got: Vec<u8>,
    /// What was dropped because its buffer was full.
    pub(crate) lost: usize,
    pub(crate) eof: bool,
}

const RECEIVE: usize = 4096;
const TRANSMIT: usize = 10240;
const STDIN: usize = 512;

impl Guest {
    pub(crate) fn new(processes: impl IntoIterator<Item = u64>) -> Self {
        let processes = processes.into_iter().map(|id| (id, Process::default())).collect();
        Self { input: Vec::new(), output: VecDeque::new(), processes, dead: None }
    }

    /// Bytes from the channel.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.dead.is_some() {
                return;
            }
            self.input.push(byte);
            if self.input.len() < HEADER {
                continue;
            }
            let (id, length) = split_header(self.input.first_chunk().unwrap());
            let length = length as usize;
            if length < HEADER {
                self.dead = Some(format!("length {length} on {id}: the read size underflows"));
            } else if length > RECEIVE {
                self.dead = Some(format!("length {length} on {id}: larger than the receive buffer"));
            } else if self.input.len() == length {
                let message = std::mem::take(&mut self.input);
                self.message(id.0, &message[HEADER..]);
            }
        }
    }

    fn message(&mut self, id: u64, payload: &[u8]) {
        let Some(process) = self.processes.get_mut(&id) else {
            if self.output.len() + HEADER <= TRANSMIT {
                self.output.extend(v1(id, b""));
            }
            return;
        };
        if payload.is_empty() {
            process.eof = true;
        } else if !process.eof {
            let room = STDIN - process.stdin.len();
            process.stdin.extend(&payload[..payload.len().min(room)]);
            process.lost += payload.len().saturating_sub(room);
        }
    }

    /// A turn of its event loop: every process that reads gets what is in its buffer.
    pub(crate) fn turn(&mut self) {
        for process in self.processes.values_mut() {
            process.got.extend(process.stdin.drain(..));
        }
    }

    /// A process prints, as far as the transmit buffer goes; says how much.
    pub(crate) fn print(&mut self, id: u64, text: &[u8]) -> usize {
        let room = TRANSMIT.saturating_sub(self.output.len() + HEADER);
        let n = text.len().min(room);
        if n > 0 {
            self.output.extend(v1(id, &text[..n]));
        }
        n
    }
}

#[test]
fn the_model_dies_of_what_the_real_one_dies_of() {
    for fatal in [
        &b"\0\0\0\0\0\0\0\x01\xc0\0\0\0"[..],
        b"\0\0\0\0\0\0\0\x01\0\0\0\x0b",
        b"\0\0\0\0\0\0\0\x01\0\0\x10\x01",
    ] {
        let mut guest = Guest::new([1]);
        guest.hear(fatal);
        assert!(guest.dead.is_some(), "{fatal:?}");
    }
    let mut guest = Guest::new([1]);
    guest.hear(&v1(1, &[b'x'; 4084]));
    guest.turn();
    assert_eq!((guest.dead, guest.processes[&1].got.len(), guest.processes[&1].lost), (None, 512, 3572));
}

fn found_out(guest: &mut Guest, config: Config) -> Session {
    let mut host = Session::new(config, START).unwrap();
    // Three HELLOs before the guest is up.
    for second in 0..3 {
        let now = Instant::from_micros(second * 1_000_000);
        host.handle_timeout(now);
        guest.hear(&take(&mut host, usize::MAX, 4, now));
    }
    let said: Vec<u8> = guest.output.drain(..).collect();
    host.handle_received(&said, START);
    assert_eq!(host.dialect(), Some(Dialect::V1));
    assert!(matches!(events(&mut host)[..], [Event::Started(_)]));
    host
}

#[test]
fn a_long_paste_reaches_a_process_that_reads_whatever_the_guests_turn_takes() {
    for turn in [100, 1000, 9000] {
        let mut guest = Guest::new([1]);
        let mut host = found_out(&mut guest, Config::new(Role::Host));
        let id = host.open().unwrap();
        let text: Vec<u8> = (0..100_000u32).map(|i| (i * 7 + (i >> 8)) as u8).collect();
        let (mut written, mut now, mut next_turn) = (0, Instant::from_micros(10_000_000), 0);
        while guest.processes[&1].got.len() < text.len() {
            written += host.write(id, &text[written..]).unwrap();
            guest.hear(&take(&mut host, usize::MAX, 8, now));
            assert_eq!((guest.dead.as_deref(), guest.processes[&1].lost), (None, 0));
            if now.as_micros() >= next_turn {
                guest.turn();
                next_turn = now.as_micros() + turn;
            }
            let timer = host.poll_timeout().map_or(u64::MAX, Instant::as_micros);
            now = Instant::from_micros(timer.min(next_turn).max(now.as_micros() + 1));
            host.handle_timeout(now);
            assert!(now.as_micros() < 100_000_000, "stuck at {}", guest.processes[&1].got.len());
        }
        assert_eq!(guest.processes[&1].got, text);
    }
}

#[test]
fn no_message_is_longer_than_the_stdin_buffer_even_over_vsock() {
    let mut config = Config::new(Role::Host);
    config.start = Start::V1;
    config.v1.guest_receive = 65536;
    let mut host = Session::new(config, START).unwrap();
    let id = host.open().unwrap();
    host.write(id, &[b'x'; 5000]).unwrap();
    let sent = take(&mut host, usize::MAX, 16, START);
    assert_eq!(sent.len(), 512 + HEADER, "one burst, then a pause");
}

#[test]
fn a_key_is_not_delayed_by_pacing() {
    let mut guest = Guest::new([1]);
    let mut host = found_out(&mut guest, Config::new(Role::Host));
    let id = host.open().unwrap();
    for key in 0..1000u64 {
        let now = Instant::from_micros(10_000_000 + key * 30_000);
        host.handle_timeout(now);
        host.write(id, b"k").unwrap();
        assert_eq!(take(&mut host, usize::MAX, 8, now).len(), 13);
    }
}

#[test]
fn stdin_end_follows_the_last_byte_and_is_12_bytes() {
    let mut guest = Guest::new([1]);
    let mut host = found_out(&mut guest, Config::new(Role::Host));
    let id = host.open().unwrap();
    host.write(id, &[b'x'; 600]).unwrap();
    host.finish(id).unwrap();
    guest.hear(&take(&mut host, usize::MAX, 8, START));
    assert!(!guest.processes[&1].eof);
    guest.turn();
    let now = Instant::from_micros(1_000_000);
    host.handle_timeout(now);
    guest.hear(&take(&mut host, usize::MAX, 8, now));
    guest.turn();
    assert!(guest.processes[&1].eof && guest.processes[&1].got.len() == 600 && guest.dead.is_none());
}

#[test]
fn a_stalled_consumer_stops_the_v1_line_or_loses_its_own_bytes_as_configured() {
    for overflow in [Overflow::Wait, Overflow::Discard] {
        let mut config = Config::new(Role::Host);
        (config.start, config.receive_buffer, config.v1.overflow) = (Start::V1, 1000, overflow);
        let mut host = Session::new(config, START).unwrap();
        let (stalled, lively) = (host.open().unwrap(), host.open().unwrap());
        host.handle_received(&v1(1, &[b'x'; 900]), START);
        host.handle_received(&v1(1, &[b'y'; 900]), START);
        assert_eq!(host.receive_window() == 0, overflow == Overflow::Wait);
        if overflow == Overflow::Discard {
            host.handle_received(&v1(2, b"lively"), START);
            assert_eq!(read_all(&mut host, lively), b"lively");
            assert_eq!(host.counters().discarded, 900);
            assert_eq!(host.received_len(stalled), 900);
        } else {
            assert_eq!(host.received_len(stalled), 1800, "nothing is lost");
            host.consume(stalled, 900).unwrap();
            assert!(host.receive_window() > 0);
        }
    }
}

#[test]
fn whatever_an_owner_does_the_guest_lives_and_gets_it_all() {
    for seed in seeds(2000) {
        let mut chance = Chance(seed);
        let mut guest = Guest::new(1..=3);
        let mut host = found_out(&mut guest, Config::new(Role::Host));
        let mut now = Instant::from_micros(10_000_000);
        let ids: Vec<StreamId> = (0..3).map(|_| host.open().unwrap()).collect();
        let mut sent = vec![Vec::new(); 3];
        let mut printed = [0u64; 3];
        let mut read = [0u64; 3];
        let mut wire = Vec::new();
        for _ in 0..300 {
            let which = chance.below(3) as usize;
            let id = ids[which];
            match chance.below(9) {
                0 => {
                    let text: Vec<u8> = (0..chance.size(1500)).map(|_| chance.next() as u8).collect();
                    if let Ok(n) = host.write(id, &text) {
                        sent[which].extend_from_slice(&text[..n]);
                    }
                }
                1 if chance.one_in(20) => host.finish(id).unwrap_or(()),
                2 => {
                    let text = vec![printed[which] as u8; chance.size(3000) as usize];
                    if guest.print(id.0, &text) > 0 {
                        printed[which] += 1;
                    }
                }
                3 if chance.one_in(30) => drop(host.stop_reading(id)),
                4 => {
                    if let Ok(Received::Bytes(bytes)) = host.received(id) {
                        let n = bytes.len().min(chance.size(5000) as usize);
                        host.consume(id, n).unwrap();
                        read[which] += n as u64;
                    }
                }
                5 | 6 => {
                    let limit = chance.size(700) as usize;
                    let runs = chance.size(6) as usize;
                    wire.extend(take(&mut host, limit, runs, now));
                }
                7 => {
                    let n = (chance.size(20_000) as usize).min(guest.output.len()).min(host.receive_window());
                    let bytes: Vec<u8> = guest.output.drain(..n).collect();
                    host.handle_received(&bytes, now);
                }
                _ => {
                    // The guest runs within a pause: one that does not can lose input whatever a host does.
                    guest.hear(&wire);
                    wire.clear();
                    guest.turn();
                    now = now + Duration::from_millis(chance.size(20));
                    host.handle_timeout(now);
                }
            }
            events(&mut host);
        }
        // The rest, with a guest that keeps up.
        for _ in 0..100_000 {
            guest.hear(&wire);
            wire.clear();
            guest.turn();
            now = now + Duration::from_millis(5);
            host.handle_timeout(now);
            wire.extend(take(&mut host, usize::MAX, 8, now));
            if wire.is_empty()
                && !host.has_output()
                && host.poll_timeout().is_none_or(|due| due > now + Duration::from_millis(500))
            {
                break;
            }
        }
        assert_eq!(guest.dead, None, "SEED={seed}");
        for (id, sent) in ids.iter().zip(&sent) {
            let process = &guest.processes[&id.0];
            assert!(
                process.got == *sent && process.lost == 0,
                "SEED={seed} {id}: {} of {}, {} lost",
                process.got.len(),
                sent.len(),
                process.lost
            );
        }
    }
}
