//! The laws of laws.md, one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use quickcheck::{Arbitrary, Gen, QuickCheck, TestResult};
use vspc_core::concentrator::{CloseReason, Config, EventKind, SlowClient};
use vspc_core::telnet::{Command, IAC};
use vspc_core::vmware::{Message, Opens, Resume, VmConfig};

use crate::world::peer::{command, doubled};
use crate::world::{Kind, World, show, uuid, vm_config};

/// Text with every byte value in it, IACs not rare.
fn pattern(len: usize, salt: u8) -> Vec<u8> {
    let mut state = u32::from(salt) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).map(|byte| if byte % 5 == 0 { IAC } else { byte }).collect()
}

/// What came behind the lines of ours at the start of a telnet client's session.
fn guest_part(seen: &[u8]) -> &[u8] {
    match seen.strip_prefix(b"\r\n[vspc: connected") {
        Some(rest) => {
            let end = rest.windows(3).position(|at| at == b"]\r\n").expect("the banner ends") + 3;
            &rest[end..]
        }
        None => seen,
    }
}

fn seen_of(world: &mut World, id: vspc_core::concentrator::ConnId) -> Vec<u8> {
    match &world.link(id).part {
        crate::world::Part::Client(client) => client.seen.clone(),
        _ => panic!("no client"),
    }
}

// Law 1.

/// A peer's mouth full: bytes that mean something, and bytes that do not.
#[derive(Clone, Debug)]
struct Garbage(Vec<u8>);

impl Arbitrary for Garbage {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut bytes = Vec::new();
        for _ in 0..usize::arbitrary(g) % 40 {
            match u8::arbitrary(g) % 12 {
                0..=2 => bytes.extend(Vec::<u8>::arbitrary(g)),
                3 => bytes.extend([
                    IAC,
                    251 + u8::arbitrary(g) % 4,
                    *g.choose(&[0, 1, 3, 37, 44, 232]).unwrap(),
                ]),
                4 => bytes.extend([IAC, u8::arbitrary(g)]),
                5 => bytes.extend([IAC, 250, 232, u8::arbitrary(g) % 90]),
                6 => Message::VmotionBegin { sequence: &[u8::arbitrary(g); 4] }.put(&mut bytes),
                7 => {
                    Message::VmotionPeer { sequence_and_secret: &[u8::arbitrary(g) % 3; 12] }.put(&mut bytes);
                }
                8 => Message::VmName(&Vec::<u8>::arbitrary(g)).put(&mut bytes),
                9 => {
                    let mut text = Vec::new();
                    uuid(1 + u8::arbitrary(g) % 3).put_vmware(&mut text);
                    Message::VmVcUuid(&text).put(&mut bytes);
                }
                10 => Message::DoProxy { direction: *g.choose(b"SCX").unwrap(), uri: b"vSPC.py" }
                    .put(&mut bytes),
                _ => bytes.extend([IAC, 250, 232, *g.choose(&[46, 48, 80, 82, 84]).unwrap(), IAC, 240]),
            }
        }
        Self(bytes)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.0.shrink().map(Self))
    }
}

#[test]
fn garbage_from_vms_and_clients_is_survived_and_others_do_not_notice() {
    #[allow(clippy::needless_pass_by_value, reason = "a property takes values")]
    fn holds(said: Vec<(bool, Garbage)>, end: bool) -> TestResult {
        let mut world = World::new(Config::default());
        let vm = world.vm(vm_config(200));
        let reader = world.client(uuid(200), Kind::Telnet);
        let peers: Vec<_> = said
            .iter()
            .map(|(is_client, _)| match is_client {
                true => world.client(uuid(200), Kind::Raw),
                false => world.stranger(),
            })
            .collect();
        let mut printed = Vec::new();
        for ((_, garbage), &peer) in said.iter().zip(&peers) {
            world.type_wire(peer, &garbage.0);
            let line = pattern(100, printed.len() as u8);
            world.print(vm, &line);
            printed.extend(line);
        }
        if end {
            for &peer in &peers {
                world.end(peer);
            }
        }
        world.pass(Duration::from_secs(100));
        assert_eq!(guest_part(&seen_of(&mut world, reader)), printed);
        TestResult::from_bool(world.is_open(vm) && world.is_open(reader))
    }
    QuickCheck::new().tests(60).quickcheck(holds as fn(Vec<(bool, Garbage)>, bool) -> TestResult);
}

#[test]
fn ten_thousand_commands_in_one_read_are_answered_within_bounds() {
    // Many records are many reads.
    if crate::SEALED {
        return;
    }
    let mut floods: Vec<Vec<u8>> = vec![
        command(Command::AYT),
        vec![IAC, 253, 0, IAC, 254, 0],
        vec![IAC, 252, 232, IAC, 251, 232],
        vec![IAC, 253, 6],
        vec![IAC, 250, 232, 99, IAC, 240],
    ];
    for message in [
        Message::VmotionBegin { sequence: b"seq0" },
        Message::VmotionAbort { sequence: b"" },
        Message::VmotionComplete { sequence: b"seq0" },
        Message::VmotionPeer { sequence_and_secret: b"seq0secret00" },
        Message::VmName(b"a name"),
        Message::DoProxy { direction: b'S', uri: b"vSPC.py" },
        Message::VmVcUuid(b"zz"),
    ] {
        let mut bytes = Vec::new();
        message.put(&mut bytes);
        floods.push(bytes);
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    Message::VmName(b"one").put(&mut one);
    Message::VmName(b"two").put(&mut two);
    floods.push([one, two].concat());
    for flood in floods {
        let mut world = World::new(Config::default());
        let known = world.vm(vm_config(1));
        let stranger = world.stranger();
        let client = world.client(uuid(1), Kind::Telnet);
        world.runs = 64;
        for id in [known, stranger, client] {
            // It takes some, and then no more.
            world.stall(id, 10);
            world.type_wire(id, &flood.repeat(10_000));
            world.link(id).capacity = usize::MAX;
            world.settle();
            let owed = world.link(id).outbound.len();
            assert!(owed < 8 << 10, "{owed} bytes are owed to {id} that said {}", show(&flood));
        }
    }
}

#[test]
fn a_peer_that_reads_one_byte_of_each_answer_makes_nothing_grow() {
    // Its queue never runs empty; what it has taken must go all the same. (footprint.rs counts the bytes.)
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    world.stall(vm, 0);
    for _ in 0..2000 {
        world.type_wire(vm, &command(Command::AYT));
        world.link(vm).capacity += 1;
        world.settle();
    }
    world.unstall(vm);
    assert!(world.is_open(vm));
}

// Law 2.

/// The stream a good client sees next to `neighbours` that do what bad clients do.
fn seen_next_to(neighbours: usize, slow_client: SlowClient) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new(Config { slow_client, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let good = world.client(uuid(1), Kind::Telnet);
    let raw = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(2));
    world.wire(raw).clear();
    for n in 0..neighbours {
        let kind = [Kind::Raw, Kind::Telnet, Kind::TelnetAscii][n % 3];
        let bad = world.client(uuid(1), kind);
        world.stall(bad, n * 7);
        // It types what nobody takes, and asks what it does not read.
        let asks = command(Command::AYT).repeat(5000);
        world.link(bad).inbound.extend(asks);
    }
    let mut printed = Vec::new();
    for n in 0..40u8 {
        // The world checks that the VM's window is never 0.
        let text = pattern(100_000, n);
        world.print(vm, &text);
        printed.extend(text);
        if n % 8 == 0 {
            world.pass(Duration::from_millis(300));
        }
    }
    let seen = guest_part(&seen_of(&mut world, good)).to_vec();
    assert!(seen == printed, "the good client missed something");
    let raw = seen_of(&mut world, raw)[15..].to_vec();
    assert!(raw == printed, "the raw client missed something");
    assert!(world.is_open(vm) && world.is_open(good));
    (seen, raw)
}

#[test]
fn vm_keeps_talking_while_every_client_stalls() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect] {
        let mut world = World::new(Config { slow_client, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let clients: Vec<_> = [Kind::Raw, Kind::Telnet, Kind::TelnetAscii]
            .into_iter()
            .map(|kind| {
                let client = world.client(uuid(1), kind);
                world.stall(client, 100);
                client
            })
            .collect();
        for n in 0..100 {
            world.print(vm, &pattern(64 << 10, n));
            assert_ne!(world.engine.receive_window(vm), 0);
        }
        assert_eq!(world.console(uuid(1)).unwrap().counters.bytes_from_vm, 100 << 16);
        drop(clients);
    }
}

#[test]
fn good_client_sees_the_same_with_and_without_stalled_neighbours() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect] {
        assert!(seen_next_to(0, slow_client) == seen_next_to(6, slow_client));
    }
}

#[test]
fn what_strangers_say_pushes_out_nothing_that_a_vm_has_said() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect] {
        let config = Config { slow_client, journal_memory: 256 << 10, banner: false, ..Config::default() };
        let mut world = World::new(config);
        let vm = world.vm(vm_config(1));
        let raw = world.client(uuid(1), Kind::Raw);
        world.type_wire(raw, b"+$");
        let strangers: Vec<_> = (0..30).map(|_| world.stranger()).collect();
        let mut printed = Vec::new();
        for n in 0..10 {
            for &stranger in &strangers {
                world.type_wire(stranger, &[b'x'; 20_000]);
            }
            let text = pattern(20_000, n);
            world.print(vm, &text);
            printed.extend(text);
        }
        assert!(seen_of(&mut world, raw)[15..] == printed);
        assert!(world.is_open(raw));
    }
}

// Law 3.

#[test]
fn every_byte_reaches_every_reader_once_and_in_order_or_it_is_told_how_many_it_missed() {
    for stalled_at in 0..16 {
        let mut world = World::new(Config { banner: false, lag_limit: 0, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let slow = world.client(uuid(1), Kind::Telnet);
        let fast = world.client(uuid(1), Kind::Telnet);
        // Every place in a run of doubled IACs is a place to stop at.
        let mut text = b"abc".to_vec();
        text.extend([IAC; 10]);
        text.extend(pattern(1_500_000, 3));
        world.stall(slow, stalled_at);
        world.print(vm, &text);
        world.unstall(slow);
        world.print(vm, b"the end");
        text.extend(b"the end");
        assert!(seen_of(&mut world, fast) == text);
        let seen = seen_of(&mut world, slow);
        let notice = b"\r\n[vspc: ";
        let at = seen.windows(notice.len()).position(|at| at == notice).expect("it is told");
        assert!(seen[..at] == text[..at], "what it got before is whole");
        let told = &seen[at + notice.len()..];
        let missed: usize =
            String::from_utf8_lossy(&told[..told.iter().position(|&byte| byte == b' ').unwrap()])
                .parse()
                .unwrap();
        let rest = &told[told.windows(3).position(|at| at == b"]\r\n").unwrap() + 3..];
        assert_eq!(at + missed + rest.len(), text.len(), "stalled after {stalled_at}");
        assert!(text.ends_with(rest));
        assert_eq!(world.told(|what| *what == EventKind::ReaderSkipped(missed as u64)), 1);
        assert_eq!(world.console(uuid(1)).unwrap().counters.bytes_skipped, missed as u64);
    }
}

// Law 4.

/// How a move goes on after GOAHEAD.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Course {
    Completes,
    SourceEndsFirst,
    SourceEndsBeforeTarget,
    SourceResets,
    Aborts,
    AbortsAfterPeer,
    GivesUpSilently,
    TargetDiesOnce,
}

const COURSES: [Course; 8] = [
    Course::Completes,
    Course::SourceEndsFirst,
    Course::SourceEndsBeforeTarget,
    Course::SourceResets,
    Course::Aborts,
    Course::AbortsAfterPeer,
    Course::GivesUpSilently,
    Course::TargetDiesOnce,
];

#[test]
fn every_typed_byte_reaches_the_vm_once_and_in_order_across_a_move_however_it_goes() {
    for course in COURSES {
        for cut in [1, 2, 3, 7, usize::MAX] {
            let mut world = World::new(Config::default());
            world.cut = cut;
            let source = world.vm(vm_config(1));
            let raw = world.client(uuid(1), Kind::Raw);
            world.type_wire(raw, b"+$");
            let telnet = world.client(uuid(1), Kind::Telnet);
            world.wire(raw).clear();
            let mut sent = b"+$".to_vec();
            let mut keys = |world: &mut World, text: &[u8]| {
                world.type_wire(raw, text);
                sent.extend_from_slice(text);
                world.type_wire(telnet, &doubled(text));
                sent.extend_from_slice(text);
            };
            keys(&mut world, b"before\xff\xff");
            world.host(source).session.begin(b"s\xffq1");
            keys(&mut world, b"while \xff begun");
            let secret = world.host(source).secret().expect("goahead");
            let at_goahead = world.host(source).typed.len();
            keys(&mut world, b"held \xff");
            let target_config =
                VmConfig { resume: Some(Resume { sequence: b"s\xffq1".to_vec(), secret }), ..vm_config(1) };
            if course == Course::SourceEndsBeforeTarget {
                world.end(source);
            }
            if course == Course::SourceResets {
                world.reset(source);
            }
            keys(&mut world, b"held more");
            if course == Course::TargetDiesOnce {
                let first = world.vm(target_config.clone());
                world.reset(first);
            }
            let target = match course {
                Course::Aborts | Course::GivesUpSilently => None,
                _ => Some(world.vm(target_config)),
            };
            keys(&mut world, b"held \xff\xff still");
            if course == Course::SourceEndsFirst {
                world.end(source);
            }
            let winner = match course {
                Course::Aborts | Course::AbortsAfterPeer => {
                    world.host(source).session.abort();
                    world.settle();
                    source
                }
                Course::GivesUpSilently => {
                    world.pass(Duration::from_secs(6));
                    world.print(source, b"I run again");
                    source
                }
                _ => {
                    let target = target.unwrap();
                    assert_eq!(world.typed(target), "", "nothing before COMPLETE");
                    world.host(target).session.complete();
                    world.settle();
                    target
                }
            };
            keys(&mut world, b"after");
            let mut got = Vec::new();
            if winner != source {
                assert_eq!(world.host(source).typed.len(), at_goahead, "{course:?}: nothing after GOAHEAD");
                got.extend(world.host(source).typed.clone());
            }
            got.extend(world.host(winner).typed.clone());
            assert_eq!(show(&got), show(&sent), "{course:?}, cut {cut}");
            assert_eq!(world.console(uuid(1)).unwrap().counters.input_lost, 0);
        }
    }
}

// Law 5.

/// A dialogue with everything in it, carried in pieces; what every peer got in the end.
fn dialogue_in_pieces(cut: usize, opens: Opens) -> BTreeMap<&'static str, Vec<u8>> {
    let mut world = World::new(Config { client_scrollback: 64, ..Config::default() });
    world.cut = cut;
    let config = VmConfig { opens, offers_auth: true, offers_com_port: true, ..vm_config(1) };
    let source = world.vm_connects(config.clone());
    world.host(source).session.print(b"early \xff\xff\xff\r\n");
    world.settle();
    let telnet = world.client(uuid(1), Kind::Telnet);
    let ascii = world.client(uuid(1), Kind::TelnetAscii);
    let raw = world.client(uuid(1), Kind::Raw);
    world.print(source, &pattern(300, 9));
    world.type_wire(telnet, b"te\xff\xfflnet\r\0\xff\xf3\xff\xf6");
    world.type_wire(ascii, b"ascii\r\0\r\n\0");
    world.type_wire(raw, b"raw\xff\xff");
    world.pass(Duration::from_secs(2));
    world.type_wire(raw, b"very raw\xff");
    world.host(source).session.begin(b"\xff\xff\xff\xff");
    world.settle();
    world.type_wire(telnet, b"held\xff\xff");
    let secret = world.host(source).secret().unwrap();
    let target = world.vm(VmConfig { resume: Some(Resume { sequence: vec![IAC; 4], secret }), ..config });
    world.host(target).session.complete();
    world.print(target, b"here I am");
    world.pass(Duration::from_secs(10));
    let mut got = BTreeMap::new();
    for (name, id) in
        [("telnet", telnet), ("ascii", ascii), ("raw", raw), ("source", source), ("target", target)]
    {
        got.insert(name, world.wire(id).clone());
    }
    got
}

#[test]
fn how_bytes_are_cut_changes_nothing() {
    for opens in [Opens::WaitsForDo, Opens::WillFirst] {
        let whole = dialogue_in_pieces(usize::MAX, opens);
        assert!(whole["target"].windows(6).any(|at| at == b"held\xff\xff"));
        for cut in 1..24 {
            let cut_up = dialogue_in_pieces(cut, opens);
            for (name, bytes) in &whole {
                assert_eq!(show(&cut_up[name]), show(bytes), "{name}, in pieces of {cut}");
            }
        }
    }
}

// Law 6.

#[test]
fn same_seed_and_same_inputs_give_the_same_outputs() {
    let run = |seed| {
        let mut world = World::seeded(Config::default(), seed);
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), Kind::Telnet);
        world.print(vm, b"hello");
        world.type_wire(client, b"ls");
        world.host(vm).session.begin(b"1234");
        world.settle();
        world.pass(Duration::from_secs(90));
        world.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2), "secrets come from the seed");
}

// Law 7.

#[test]
fn goahead_leaves_at_once_whatever_clients_do() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect, SlowClient::Wait] {
        let mut world = World::new(Config { slow_client, ..Config::default() });
        let vm = world.vm(vm_config(1));
        for kind in [Kind::Raw, Kind::Telnet] {
            let client = world.client(uuid(1), kind);
            world.stall(client, 0);
            world.type_wire(client, &doubled(&pattern(300_000, 1)));
        }
        world.print(vm, &pattern(1 << 20, 5));
        world.host(vm).session.begin(b"1234");
        world.settle();
        assert!(world.host(vm).secret().is_some(), "{slow_client:?}");
    }
}

#[test]
fn under_wait_a_vm_that_wants_to_move_waits_two_seconds_at_most() {
    let mut world = World::new(Config { slow_client: SlowClient::Wait, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.stall(client, 0);
    world.print(vm, &pattern(3 << 20, 5));
    world.host(vm).session.begin(b"1234");
    world.settle();
    assert_eq!(world.engine.receive_window(vm), 0, "the vm waits");
    assert!(world.host(vm).secret().is_none());
    world.pass(Duration::from_secs(2));
    assert!(world.host(vm).secret().is_some());
    assert_eq!(world.reason(client), Some(CloseReason::TooSlow));
}

#[test]
fn under_wait_the_least_lag_limit_loses_nothing_however_fast_the_others_are() {
    let config = Config { slow_client: SlowClient::Wait, lag_limit: 0, banner: false, ..Config::default() };
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    let (slow, fast) = (world.client(uuid(1), Kind::Telnet), world.client(uuid(1), Kind::Telnet));
    world.stall(slow, 0);
    let text = pattern(4 << 20, 5);
    let mut pauses = 0;
    for piece in text.chunks(32 << 10) {
        world.host(vm).session.print(piece);
        world.settle();
        if world.engine.receive_window(vm) == 0 {
            assert!(world.is_open(slow), "it was overtaken though its vm waits for it");
            pauses += 1;
            world.unstall(slow);
            world.stall(slow, 0);
        }
    }
    world.unstall(slow);
    // It waits for a few reads to be taken each time, not for each of them.
    assert!((1..=16).contains(&pauses), "{pauses}");
    assert!(seen_of(&mut world, slow) == text);
    assert!(seen_of(&mut world, fast) == text);
}

#[test]
fn under_wait_nothing_is_lost_to_a_client_that_reads_slowly() {
    let mut world = World::new(Config { slow_client: SlowClient::Wait, banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.stall(client, 0);
    let text = pattern(8 << 20, 5);
    world.host(vm).session.print(&text);
    for _ in 0..400 {
        world.link(client).stalled = false;
        world.exchange(client, 64 << 10);
        world.link(client).stalled = true;
        world.link(client).capacity = 64 << 10;
        world.settle();
        world.pass(Duration::from_millis(100));
    }
    world.unstall(client);
    assert!(world.is_open(client));
    assert!(seen_of(&mut world, client) == text);
}
