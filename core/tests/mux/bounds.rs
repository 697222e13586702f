//! Memory: counted whole, and within its named bound, with every stream full both ways and under each attack.

use vspc_core::mux::link::frame::{FLAG, FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig, Repeat};
use vspc_core::mux::wire::Word;
use vspc_core::mux::{Carrier, Config, Overflow, Role, Session, Start, StreamId};

use crate::line::{Chance, START, data, frame, guest_against, host_hello, take, v1};

const GUEST: u64 = StreamId::GUEST_BIT;

fn configs() -> Vec<Config> {
    let mut small = Config::new(Role::Guest);
    (small.max_own_streams, small.max_peer_streams) = (3, 5);
    (small.window, small.receive_buffer, small.send_buffer) = (300, 300, 500);
    let mut capped = Config::new(Role::Guest);
    (capped.max_streams, capped.session_send_buffer) = (20, 50_000);
    let overcommitted = Config { receive_buffer: 1000, max_streams: 30, ..Config::new(Role::Guest) };
    let growing = Config { most_window: 256 << 10, growth: 384 << 10, ..Config::new(Role::Guest) };
    let reliable = Config { carrier: Carrier::Reliable, max_streams: 40, ..Config::new(Role::Guest) };
    vec![small, capped, overcommitted, growing, reliable, Config::new(Role::Guest)]
}

/// All that may be open is, and has all that it may have.
fn fill(guest: &mut Session) {
    while let Ok(id) = guest.open() {
        let _ = guest.write(id, &[1; 1 << 20]).unwrap();
    }
    for id in (1..=1000).chain((1..=1000).map(|id| GUEST | id)) {
        if guest.stream_count() > 300 && guest.received(StreamId(id)).is_err() {
            continue;
        }
        for _ in 0..17 {
            guest.handle_received(&data(id, &[2; 4096]), START);
        }
        // In pieces as small as they come.
        for _ in 0..100 {
            guest.handle_received(&data(id, b"x"), START);
        }
    }
    for id in 1..=1000 {
        let _ = guest.write(StreamId(id), &[3; 1 << 20]);
    }
}

#[test]
fn everything_full_is_within_the_bound_and_most_of_it() {
    for config in configs() {
        let bound = config.memory_bound();
        let mut guest = guest_against(config, host_hello(1));
        fill(&mut guest);
        let full = guest.memory() as u64;
        assert!(full <= bound, "{full} of {bound}");
        assert!(bound <= 2 * full + 1_000_000, "{full} of {bound}: a bound that says nothing");
        // Half of it leaves, and is written again.
        take(&mut guest, full as usize / 2, 64, START);
        fill(&mut guest);
        assert!(guest.memory() as u64 <= bound, "{} of {bound}", guest.memory());
    }
}

type Attack = (&'static str, fn(&mut Chance) -> Vec<u8>);

const ATTACKS: &[Attack] = &[
    ("strays", |chance| data(5000 + chance.below(1 << 40), b"x")),
    ("strays of this side's", |chance| data(GUEST | (5000 + chance.below(1 << 40)), b"x")),
    ("numbers far apart", |chance| frame(chance.below(1 << 60), Word::Close.to_u32(), b"")),
    ("numbers given up", |chance| frame(chance.below(1 << 60), Word::Reset.to_u32(), b"")),
    ("opened and given up", |chance| {
        let id = chance.below(1 << 60);
        [frame(id, 0, b""), frame(id, Word::Reset.to_u32(), b"")].concat()
    }),
    ("restarts", |chance| host_hello(chance.next() as u32).encode().to_vec()),
    ("violations", |chance| frame(1 + chance.below(50), 0xc000_0003, b"")),
    ("requests", |chance| frame(GUEST | (1 + chance.below(50)), Word::Request.to_u32(), b"")),
    ("acks", |chance| frame(GUEST | (1 + chance.below(50)), Word::Ack(1).to_u32(), b"")),
    ("payload beyond every window", |chance| data(1 + chance.below(50), &[1; 4096])),
    ("a byte for each", |chance| data(1 + chance.below(300), b"x")),
    ("pings", |_| data(0, &[2, 0, 0, 0, 1])),
    ("v1", |chance| v1(chance.below(1 << 40), &[1; 400])),
    ("noise", |chance| (0..64).map(|_| chance.next() as u8).collect()),
];

#[test]
fn no_attack_goes_beyond_the_bound() {
    for config in configs() {
        let bound = config.memory_bound();
        for (name, attack) in ATTACKS {
            for is_full in [false, true] {
                let mut chance = Chance(7);
                let mut guest = guest_against(config.clone(), host_hello(1));
                if is_full {
                    fill(&mut guest);
                }
                for round in 0..300 {
                    let mut bytes = Vec::new();
                    while bytes.len() < 1000 {
                        bytes.extend(attack(&mut chance));
                    }
                    let n = bytes.len().min(guest.receive_window());
                    guest.handle_received(&bytes[..n], START);
                    if round % 3 == 0 {
                        take(&mut guest, 200, 4, START);
                    }
                    if round % 7 == 0 {
                        guest.poll_event();
                    }
                    assert!(guest.memory() as u64 <= bound, "{name}: {} of {bound}", guest.memory());
                }
            }
        }
    }
}

#[test]
fn v1_keeps_what_was_read_before_the_line_stopped_and_no_more() {
    for overflow in [Overflow::Wait, Overflow::Discard] {
        let mut config = Config { start: Start::V1, max_streams: 8, ..Config::new(Role::Host) };
        config.v1.overflow = overflow;
        let bound = config.memory_bound();
        let mut host = Session::new(config, START).unwrap();
        let ids: Vec<_> = (0..8).map(|_| host.open().unwrap()).collect();
        for _ in 0..1000 {
            for id in &ids {
                let _ = host.write(*id, &[1; 4096]).unwrap();
                let bytes = v1(id.0, &[1; 4000]).repeat(16);
                let n = bytes.len().min(host.receive_window());
                host.handle_received(&bytes[..n], START);
                assert!(host.memory() as u64 <= bound, "{} of {bound}", host.memory());
            }
        }
    }
}

#[test]
fn a_link_holds_two_windows_and_no_more() {
    for repeat in [Repeat::Selective, Repeat::GoBackN] {
        for (max_payload, window) in [(256, 16), (1, 1), (1000, 32), (64, 20)] {
            let config = LinkConfig { repeat, max_payload, window, ..LinkConfig::new(1) };
            let bound = config.memory_bound();
            let escapes = config.escapes.clone();
            let mut link = Link::new(config);
            let mut chance = Chance(u64::from(max_payload));
            let mut seq = 0u16;
            for step in 0..20_000 {
                let kind = match chance.below(12) {
                    0 if step % 1000 == 0 => FrameType::Syn,
                    1 => FrameType::Ack,
                    2 => FrameType::Nak,
                    3 => FrameType::Sack,
                    4 => FrameType::Ping,
                    _ => FrameType::Data,
                };
                let ahead = chance.below(window.into()) as u16;
                let payload = match kind {
                    FrameType::Syn => vec![0, 0, 1, step as u8, 0xff, 0xff, 0, 32],
                    FrameType::Data => vec![1; usize::from(max_payload)],
                    _ => vec![0xff; 4],
                };
                let header = Header {
                    kind,
                    has_ack: kind != FrameType::Syn,
                    seq: seq.wrapping_add(ahead),
                    ack: 0,
                    window: 32,
                };
                let mut bytes = vec![FLAG];
                encode(&header, &payload, &escapes, &mut bytes);
                link.handle_received(&bytes, START);
                if ahead == 0 && kind == FrameType::Data {
                    seq = seq.wrapping_add(1);
                }
                link.write(&[7; 2000]);
                if chance.one_in(3) {
                    link.transmit_with(START, <[u8]>::len);
                }
                if chance.one_in(20) {
                    link.consume(chance.size(2000) as usize);
                }
                assert!(link.memory() as u64 <= bound, "{} of {bound}", link.memory());
            }
            assert!(bound <= 40_000 + 20 * u64::from(max_payload) * u64::from(window));
        }
    }
}
