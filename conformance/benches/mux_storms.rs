//! What a storm costs a session with 10 000 streams, and a link: nanoseconds of processor time for each byte
//! of it. `cargo bench -p vspc-conformance --bench mux_storms`; with `-- WORD` only those whose name has it.
//!
//! Every storm is fed as a runtime reads (no more than the receive window) and its answers are taken, as part
//! of the cost. The least of seven rounds counts: the machine may be busy, the work is the same. A row above
//! [`LIMIT`] is marked, and the program fails.

use std::hint::black_box;
use std::process::ExitCode;

use vspc_core::mux::link::frame::{EscapeSet, FLAG, FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig, Repeat};
use vspc_core::mux::wire::{Opening, header};
use vspc_core::mux::{Config, Features, Hello, Overflow, Role, Session, Start, StreamId};
use vspc_core::time::Instant;

const NOW: Instant = Instant::from_micros(0);
/// Nanoseconds per byte.
const LIMIT: f64 = 20.0;
/// Bytes of each storm.
const BYTES: usize = 256 * 1024;
const ROUNDS: usize = 7;
/// Streams open while a storm comes.
const STREAMS: u64 = 10_000;

const ALL: u8 = 7;
const GUEST: u64 = StreamId::GUEST_BIT;
const OPEN: u32 = 0;
const REWIND: u32 = 0x8000_0000;
const ACK_1: u32 = 0x8000_0001;
const CLOSE: u32 = 0xc000_0000;
const REQUEST: u32 = 0xc000_0001;
const RESET: u32 = 0xc000_0002;
const RESERVED: u32 = 0xc000_0003;

/// A name, what it comes down on, and its parts, numbered from 0.
type Storm<T> = (&'static str, fn() -> T, fn(u64) -> Vec<u8>);

const SESSION_STORMS: &[Storm<Session>] = &[
    ("restarts", peers, |i| [frame(0, 0, b""), hello(i as u32, ALL).to_vec()].concat()),
    ("restarts, the same nonce", peers, |_| [frame(0, 0, b""), hello(1, ALL).to_vec()].concat()),
    ("restarts, a stream in each", peers, |i| [frame(1, CLOSE, b""), hello(i as u32, ALL).to_vec()].concat()),
    ("repetitions of HELLO", peers, |_| hello(1, ALL).to_vec()),
    ("REQUEST on every stream", own, |i| frame(GUEST | (1 + i % STREAMS), REQUEST, b"")),
    ("REQUEST on one stream", own, |_| frame(GUEST | 1, REQUEST, b"")),
    ("ACK 1 on every stream", own, |i| frame(GUEST | (1 + i % STREAMS), ACK_1, b"")),
    ("ACK 1 and REQUEST on every stream", own, |i| {
        frame(GUEST | (1 + i / 2 % STREAMS), if i % 2 == 0 { ACK_1 } else { REQUEST }, b"")
    }),
    ("REWIND on every stream", peers, |i| frame(1 + i % STREAMS, REWIND, b"")),
    ("CLOSE twice on every stream", peers, |i| frame(1 + i / 2 % STREAMS, CLOSE, b"")),
    ("RESET of every stream", peers, |i| frame(1 + i % STREAMS, RESET, b"")),
    ("RESET of streams never heard of", peers, |i| frame(20_000 + 2 * i, RESET, b"")),
    ("streams opened and reset", none, |i| frame(i / 2 + 1, if i % 2 == 0 { CLOSE } else { RESET }, b"")),
    ("a byte on every stream", peers, |i| frame(1 + i % STREAMS, 1, b"x")),
    ("a byte on streams too many", peers, |i| frame(20_000 + i, 1, b"x")),
    ("the same, from the top down", peers, |i| frame((1 << 40) - i, 1, b"x")),
    ("the same, far apart", peers, |i| frame(20_000 + i * 1000, 1, b"x")),
    ("the same, anywhere", peers, |i| frame(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1 | 1 << 20, 1, b"x")),
    ("the same, RESET not agreed", || guest(5, 0, STREAMS), |i| frame(20_000 + i, 1, b"x")),
    ("OPEN of streams too many", peers, |i| frame(20_000 + i, OPEN, b"")),
    ("OPEN of streams that are open", peers, |i| frame(1 + i % STREAMS, OPEN, b"")),
    ("reserved words", peers, |i| frame(1 + i % STREAMS, RESERVED, b"")),
    ("frames for nobody who reads", stopped, |i| frame(1 + i % STREAMS, 1, b"x")),
    ("PING", peers, |_| frame(0, 5, &[2, 0, 0, 0, 1])),
    ("messages of one byte", peers, |_| frame(0, 1, &[9])),
    ("GOAWAY 0", own, |_| frame(0, 11, &[4, 0, 0, 0x80, 0, 0, 0, 0, 0, 0xff, 0xff])),
    ("bytes of others while it hunts", hunting, |i| frame(i, 0x18, b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX")),
    ("zeros while it hunts", hunting, |_| vec![0; 64]),
    ("beginnings of HELLO while it hunts", hunting, |_| hello(1, ALL)[..16].to_vec()),
    ("HELLOs of guests while it hunts", hunting, |_| guests_hello().to_vec()),
    ("leftovers before a host is answered", calling, |i| frame(i, 40, &[0; 40])),
    ("v1: a byte on every stream", v1_guest, |i| frame(1 + i % STREAMS, 13, b"x")),
    ("v1: messages for no stream", v1_guest, |i| frame(20_000 + i, 12, b"")),
    ("v1: lengths that cannot be", v1_guest, |i| frame(1 + i % STREAMS, 11, b"")),
];

const LINK_STORMS: &[Storm<Link>] = &[
    ("SL: flags", link, |_| vec![FLAG; 64]),
    ("SL: escapes", link, |_| vec![0x7d; 64]),
    ("SL: noise", link, |i| {
        (0..64).map(|k| (i * 64 + k).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
    }),
    ("SL: restarts", link, |i| sl(FrameType::Syn, None, 0, &opening(i as u32 + 9))),
    ("SL: SYN again", link, |_| sl(FrameType::Syn, None, 0, &opening(7))),
    ("SL: echoes", link, |_| sl(FrameType::Syn, None, 0, &opening(1))),
    ("SL: ACK", link, |_| sl(FrameType::Ack, Some(0), 0, b"")),
    ("SL: NAK of a window", sending, |_| sl(FrameType::Nak, Some(0), 0, b"")),
    ("SL: SACK of a window", sending, |i| sl(FrameType::Sack, Some(0), 0, &(i as u32).to_be_bytes())),
    ("SL: PING", link, |_| sl(FrameType::Ping, Some(0), 0, &[0; 4])),
    ("SL: DATA of one byte", link, |i| sl(FrameType::Data, Some(0), i as u16, b"x")),
    ("SL: DATA ahead", link, |i| sl(FrameType::Data, Some(0), 1 + i as u16 % 15, b"x")),
    ("SL: DATA ahead, go-back-n", go_back_n, |i| sl(FrameType::Data, Some(0), 15 - i as u16 % 15, b"x")),
    ("SL: DATA beyond the window", link, |i| sl(FrameType::Data, Some(0), 100 + i as u16 % 1000, b"x")),
    ("SL: DATA long since delivered", link, |_| sl(FrameType::Data, Some(0), 0xfff0, b"x")),
    (
        "SL: numbered frames to a closed link",
        || Link::new(LinkConfig::new(1)),
        |_| sl(FrameType::Data, Some(0), 0, b""),
    ),
];

fn frame(id: u64, word: u32, payload: &[u8]) -> Vec<u8> {
    [&header(StreamId(id), word)[..], payload].concat()
}

fn hello(nonce: u32, features: u8) -> [u8; 36] {
    let hello = Hello { features: Features(features), ..Config::new(Role::Host).hello() };
    Opening { hello, sender: Role::Host, nonce, answers: 0 }.encode()
}

fn guests_hello() -> [u8; 36] {
    Opening { hello: Config::new(Role::Guest).hello(), sender: Role::Guest, nonce: 5, answers: 0 }.encode()
}

fn config(role: Role) -> Config {
    Config { max_streams: STREAMS as u32, seed: [7, 9], ..Config::new(role) }
}

/// A guest that a host played here has said HELLO to, with so many streams of either side open and noticed.
fn guest(features: u8, own: u64, peers: u64) -> Session {
    let mut guest = Session::new(config(Role::Guest), NOW).unwrap();
    guest.handle_received(&hello(1, features), NOW);
    for _ in 0..own {
        let id = guest.open().unwrap();
        guest.write(id, &[7; 64]).unwrap();
    }
    for id in 1..=peers {
        guest.handle_received(&frame(id, 1, b"x"), NOW);
    }
    drain(&mut guest);
    guest
}

fn none() -> Session {
    guest(ALL, 0, 0)
}

fn own() -> Session {
    guest(ALL, STREAMS, 0)
}

fn peers() -> Session {
    guest(ALL, 0, STREAMS)
}

fn stopped() -> Session {
    let mut guest = peers();
    for id in 1..=STREAMS {
        guest.stop_reading(StreamId(id)).unwrap();
    }
    drain(&mut guest);
    guest
}

/// Out of step.
fn hunting() -> Session {
    let mut guest = none();
    guest.handle_received(&frame(0, CLOSE, b""), NOW);
    drain(&mut guest);
    assert!(guest.dialect().is_none() && !guest.is_closed());
    guest
}

fn calling() -> Session {
    Session::new(config(Role::Host), NOW).unwrap()
}

fn v1_guest() -> Session {
    let mut config = Config { start: Start::V1, ..config(Role::Guest) };
    config.v1.overflow = Overflow::Discard;
    let mut guest = Session::new(config, NOW).unwrap();
    for id in 1..=STREAMS {
        guest.attach(StreamId(id)).unwrap();
    }
    drain(&mut guest);
    guest
}

/// What a runtime does with a session after a read: takes its answers and its events.
fn drain(session: &mut Session) {
    while session.transmit_with(NOW, |runs| black_box(runs).iter().map(|run| run.len()).sum()) > 0 {}
    while black_box(session.poll_event()).is_some() {}
}

fn endure(session: &mut Session, mut storm: &[u8]) {
    while !storm.is_empty() && !session.is_closed() {
        let n = session.receive_window().min(storm.len());
        session.handle_received(&storm[..n], NOW);
        storm = &storm[n..];
        drain(session);
    }
}

fn opening(nonce: u32) -> Vec<u8> {
    [&nonce.to_be_bytes()[..], &[1, 0, 0, 16]].concat()
}

fn sl(kind: FrameType, ack: Option<u16>, seq: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, has_ack: ack.is_some(), seq, ack: ack.unwrap_or(0), window: 16 };
    let mut bytes = Vec::new();
    encode(&header, payload, &EscapeSet::serial(), &mut bytes);
    bytes
}

/// A link whose peer has nonce 7.
fn opened(config: LinkConfig) -> Link {
    let mut link = Link::new(config);
    link.handle_received(&[&[FLAG][..], &sl(FrameType::Syn, None, 0, &opening(7))].concat(), NOW);
    link.handle_received(&sl(FrameType::Ack, Some(0), 0, b""), NOW);
    drain_link(&mut link);
    link
}

fn link() -> Link {
    opened(LinkConfig::new(1))
}

fn go_back_n() -> Link {
    opened(LinkConfig { repeat: Repeat::GoBackN, ..LinkConfig::new(1) })
}

/// With a window of small frames under way.
fn sending() -> Link {
    let mut link = link();
    while link.write(b"x") > 0 && link.has_output() {
        drain_link(&mut link);
    }
    link
}

fn drain_link(link: &mut Link) {
    while link.transmit_with(NOW, |frame| black_box(frame).len()) > 0 {}
    let n = black_box(link.received()).len();
    link.consume(n);
    while black_box(link.poll_event()).is_some() {}
}

/// Nanoseconds of processor time this thread has used.
fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The least cost per byte, over all rounds.
fn measure<T>(storm: &Storm<T>, bytes: usize, endure: fn(&mut T, &[u8])) -> f64 {
    let mut parts = Vec::with_capacity(bytes + 64);
    for i in 0.. {
        parts.extend((storm.2)(i));
        if parts.len() >= bytes {
            break;
        }
    }
    let round = || {
        let mut subject = (storm.1)();
        let start = cpu();
        endure(&mut subject, &parts);
        (cpu() - start) / parts.len() as f64
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it runs.
    let bytes = if args.iter().any(|arg| arg == "--bench") { BYTES } else { BYTES / 16 };
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let mut over = 0;
    let mut report = |name: &str, cost: f64| {
        let mark = if cost > LIMIT { "  OVER" } else { "" };
        over += u8::from(cost > LIMIT && bytes == BYTES);
        println!("{name:<40} {cost:>6.1} ns per byte{mark}");
    };
    for storm in SESSION_STORMS.iter().filter(|storm| wanted(storm.0)) {
        report(storm.0, measure(storm, bytes, endure));
    }
    for storm in LINK_STORMS.iter().filter(|storm| wanted(storm.0)) {
        let endure = |link: &mut Link, bytes: &[u8]| {
            for read in bytes.chunks(65_536) {
                link.handle_received(read, NOW);
                drain_link(link);
            }
        };
        report(storm.0, measure(storm, bytes, endure));
    }
    ExitCode::from(over)
}
