//! Clients: who is telnet and who is raw, what each gets, and what becomes of those who do not read.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind, LocalOptions, Output, SlowClient};
use vspc_core::telnet::{Command, IAC};
use vspc_core::vmware::VmEvent;

use crate::world::peer::command;
use crate::world::{Client, Kind, Part, World, uuid, vm_config};

const OFFERS: &str = "\\xff\\xfb\\x00\\xff\\xfb\\x03\\xff\\xfb\\x01\\xff\\xfd\\x00\\xff\\xfd\\x03";

#[test]
fn raw_clients_get_the_five_offers_and_then_only_the_vms_bytes() {
    for opening in [&b""[..], b"+", b"$qSupported#37", b"hello"] {
        let mut world = World::new(Config { client_scrollback: 1000, ..Config::default() });
        let vm = world.vm(vm_config(1));
        world.print(vm, b"before");
        let raw = world.client(uuid(1), Kind::Raw);
        world.type_wire(raw, opening);
        world.pass(Duration::from_secs(2));
        world.print(vm, b"a\xff\r\0\xff\xffz");
        let guest: Vec<u8> = (0..=255).rev().collect();
        world.type_wire(raw, &guest);
        world.pass(Duration::from_secs(60));
        assert_eq!(world.seen(raw), format!("{OFFERS}a\\xff\\r\\x00\\xff\\xffz"));
        assert_eq!(world.host(vm).typed, [opening, &guest].concat());
    }
}

#[test]
fn a_dense_binary_stream_to_a_raw_client_is_neither_doubled_nor_halved() {
    for runs in [1, 2, 3, 16, 64] {
        let mut world = World::new(Config::default());
        world.runs = runs;
        let vm = world.vm(vm_config(1));
        let raw = world.client(uuid(1), Kind::Raw);
        world.type_wire(raw, b"+$");
        world.wire(raw).clear();
        let mut printed = Vec::new();
        for n in 0..30_000u32 {
            printed.extend(match n % 7 {
                0..=3 => &b"\xff"[..],
                4 => b"a\xff",
                5 => b"bc",
                _ => b"\xff\xffd",
            });
        }
        for cut in [1000, 777, 1, usize::MAX] {
            world.cut = cut;
            world.print(vm, &printed);
        }
        assert!(*world.wire(raw) == printed.repeat(4));
    }
}

#[test]
fn a_client_that_begins_like_an_answer_and_stops_is_typing() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let raw = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(2));
    world.type_wire(raw, b"x\xff\xfd");
    assert_eq!(world.typed(vm), "x");
    world.pass(Duration::from_millis(200));
    assert_eq!(world.typed(vm), "x\\xff\\xfd");
    world.type_wire(raw, b"\xff\xfd\x00");
    assert_eq!(world.typed(vm), "x\\xff\\xfd\\xff\\xfd\\x00");
}

#[test]
fn a_telnet_client_that_answers_late_is_a_telnet_client() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let late = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(5));
    world.wire(late).clear();
    for piece in [&b"\xff"[..], b"\xfd", b"\x03ls\xff\xff"] {
        world.type_wire(late, piece);
    }
    world.pass(Duration::from_millis(100));
    assert!(world.seen(late).contains("connected to vm01"));
    assert_eq!(world.typed(vm), "ls\\xff");
    world.print(vm, b"\xff");
    assert!(world.wire(late).ends_with(b"\xff\xff"));
}

#[test]
fn telnet_clients_are_greeted_with_one_line_unless_it_is_off() {
    for banner in [true, false] {
        let mut world = World::new(Config { banner, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let first = world.client(uuid(1), Kind::Telnet);
        let second = world.client(uuid(1), Kind::TelnetAscii);
        world.end(vm);
        let third = world.client(uuid(1), Kind::Telnet);
        let expected = [
            (first, "VM has said nothing yet; nobody else here"),
            (second, "VM has said nothing yet; 1 other here"),
            (third, "VM is not connected, waiting; 2 others here"),
        ];
        for (client, state) in expected {
            let line = if banner {
                format!("\\r\\n[vspc: connected to vm01; {state}]\\r\\n")
            } else {
                String::new()
            };
            assert_eq!(world.seen(client), line);
        }
    }
}

#[test]
fn scrollback_is_shown_where_asked_for_and_joins_the_live_output() {
    for (client_scrollback, expected) in [(0, "live"), (5, "two\\nlive"), (1000, "one\\ntwo\\nlive")] {
        let mut world = World::new(Config { client_scrollback, banner: false, ..Config::default() });
        let vm = world.vm(vm_config(1));
        world.print(vm, b"one\ntwo\n");
        let reader = world.client(uuid(1), Kind::Telnet);
        world.print(vm, b"live");
        assert_eq!(world.seen(reader), expected);
    }
}

#[test]
fn scrollback_is_shown_even_to_a_client_that_answers_between_two_halves_of_a_pair() {
    for taken in 0..12 {
        let mut world = World::new(Config { client_scrollback: 1000, banner: false, ..Config::default() });
        let vm = world.vm(vm_config(1));
        world.print(vm, b"old\n");
        let late = world.client(uuid(1), Kind::Raw);
        world.wire(late).clear();
        world.stall(late, taken);
        world.print(vm, b"a\xff\xff\xffbcd");
        world.type_wire(late, b"\xff\xfd\x00\xff\xfb\x00");
        world.pass(Duration::from_millis(100));
        world.unstall(late);
        let wire = world.wire(late).clone();
        let text = String::from_utf8_lossy(&wire);
        assert!(text.contains("old\n"), "{taken}: {text:?}");
        let without: Vec<u8> = text_without(&wire, b"old\n");
        assert_eq!(crate::world::show(&without), "a\\xff\\xff\\xff\\xff\\xff\\xffbcd", "{taken}");
    }
}

fn text_without(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|at| at == part).expect("it is there");
    [&bytes[..at], &bytes[at + part.len()..]].concat()
}

#[test]
fn a_reader_that_loses_its_scrollback_to_a_flood_still_gets_every_live_byte_once() {
    // It looks at old output and has been shown some of the new: neither may come twice.
    let mut world = World::new(Config {
        client_scrollback: 4 << 10,
        scrollback: 16 << 10,
        journal_memory: 40 << 10,
        banner: false,
        ..Config::default()
    });
    let vm = world.vm(vm_config(1));
    let lines = |range: std::ops::Range<u32>| -> Vec<u8> {
        range.flat_map(|n| format!("{n:07}\n").into_bytes()).collect()
    };
    world.print(vm, &lines(0..1000));
    let late = world.client(uuid(1), Kind::Raw);
    world.wire(late).clear();
    world.print(vm, &lines(1000..2500));
    // It has seen 1000 to 2499; now it proves to be telnet and does not read.
    world.stall(late, 0);
    world.type_wire(late, b"\xff\xfd\x00\xff\xfb\x00");
    world.pass(Duration::from_millis(100));
    world.print(vm, &lines(2500..4500));
    world.unstall(late);
    world.print(vm, &lines(4500..4501));
    let text = String::from_utf8_lossy(world.wire(late)).into_owned();
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let mut live: Vec<u32> = numbers.iter().copied().filter(|&n| n >= 1000).collect();
    let seen = live.len();
    live.dedup();
    live.sort_unstable();
    live.dedup();
    assert_eq!(live.len(), seen, "shown twice: {text}");
    let skipped: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("[vspc: ")?.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    assert_eq!(seen as u32 * 8 + skipped, (4501 - 1000) * 8, "what was missed was told");
}

#[test]
fn brk_is_passed_on_to_the_vm() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.type_wire(client, b"a\xff\xf3b");
    assert_eq!(world.typed(vm), "ab");
    assert_eq!(world.host(vm).was_told(|event| *event == VmEvent::Break), 1);
    assert_eq!(world.engine.totals().breaks, 1);
}

#[test]
fn carriage_returns_are_folded_only_for_telnet_clients_without_binary() {
    for (kind, expected) in [
        (Kind::TelnetAscii, "a\\rb\\rc\\rd\\x00"),
        (Kind::Telnet, "a\\r\\x00b\\r\\nc\\rd\\x00"),
        (Kind::Raw, "a\\r\\x00b\\r\\nc\\rd\\x00"),
    ] {
        let mut world = World::new(Config::default());
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), kind);
        for piece in [&b"a\r"[..], b"\0b\r\nc", b"\rd\0"] {
            world.type_wire(client, piece);
        }
        assert_eq!(world.typed(vm), expected, "{kind:?}");
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut world = World::new(Config { max_clients: Some(2), ..Config::default() });
    let vm = world.vm(vm_config(1));
    let clients = [Kind::Telnet, Kind::Raw, Kind::Raw].map(|kind| world.client(uuid(1), kind));
    assert_eq!(world.reason(clients[2]), Some(CloseReason::TooManyClients));
    assert!(world.seen(clients[2]).contains("as many clients as it may have"));
    world.reset(clients[0]);
    let next = world.client(uuid(1), Kind::Raw);
    assert!(world.is_open(next) && world.is_open(vm));
}

#[test]
fn a_raw_client_that_is_overtaken_is_disconnected_even_if_it_never_reads_again() {
    for (slow_client, kind) in [
        (SlowClient::Skip, Kind::Raw),
        (SlowClient::Disconnect, Kind::Raw),
        (SlowClient::Disconnect, Kind::Telnet),
        (SlowClient::Disconnect, Kind::Local),
    ] {
        let mut world = World::new(Config { slow_client, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let client = match kind {
            Kind::Local => world.open_local(uuid(1), LocalOptions::person()),
            kind => world.client(uuid(1), kind),
        };
        world.pass(Duration::from_secs(2));
        world.stall(client, 0);
        for _ in 0..50 {
            world.print(vm, &[b'x'; 64 << 10]);
        }
        world.pass(Duration::from_secs(3));
        assert_eq!(world.reason(client), Some(CloseReason::TooSlow), "{slow_client:?} {kind:?}");
        assert!(!world.is_open(client));
        assert_eq!(world.engine.totals().clients_too_slow, 1);
    }
}

#[test]
fn an_overtaken_client_that_is_not_known_yet_is_judged_when_it_is() {
    for (answer, reason) in [(&b"\xff\xfd\x00"[..], None), (b"+$", Some(CloseReason::TooSlow))] {
        let mut world = World::new(Config { banner: false, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), Kind::Raw);
        world.stall(client, 0);
        world.print(vm, &[b'x'; 3 << 20]);
        assert!(world.is_open(client));
        world.type_wire(client, answer);
        world.unstall(client);
        assert_eq!(world.reason(client), reason);
        assert_eq!(world.seen(client).contains("bytes skipped"), reason.is_none());
    }
}

#[test]
fn the_longest_silent_scrollback_goes_first_when_memory_is_short() {
    let mut world = World::new(Config {
        journal_memory: 256 << 10,
        client_scrollback: 1 << 20,
        banner: false,
        ..Config::default()
    });
    let vms: Vec<_> = (1..=20).map(|n| world.vm(vm_config(n))).collect();
    for (n, &vm) in vms.iter().enumerate() {
        let line = format!("this is {:02}\n", n + 1);
        world.print(vm, line.repeat(2000).as_bytes());
    }
    let mut kept = Vec::new();
    for n in 1..=20 {
        let reader = world.client(uuid(n), Kind::Telnet);
        kept.push(world.seen(reader).len() > 8000);
    }
    let first_kept = kept.iter().position(|&kept| kept).expect("some are kept");
    assert!(kept[first_kept..].iter().all(|&kept| kept), "{kept:?}");
    assert!((6..=12).contains(&first_kept), "{kept:?}");
}

#[test]
fn the_window_of_a_client_closes_while_its_vm_takes_nothing_and_every_byte_arrives_in_the_end() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let raw = world.client(uuid(1), Kind::Raw);
    world.type_wire(raw, b"$");
    world.stall(vm, 0);
    let paste: Vec<u8> = (0..800_000u32).map(|n| (n % 253) as u8 + 3).collect();
    world.type_wire(raw, &paste);
    assert_eq!(world.engine.receive_window(raw), 0);
    assert!(world.link(raw).inbound.len() > 400_000);
    world.unstall(vm);
    assert!(world.host(vm).typed == [b"$", &paste[..]].concat());
}

#[test]
fn a_client_that_is_sent_away_is_read_again_however_full_its_vm_was() {
    // In clear there is nothing more to tell it.
    if !crate::SEALED {
        return;
    }
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.stall(vm, 0);
    world.type_wire(client, &[b'x'; 800_000]);
    assert_eq!(world.engine.receive_window(client), 0);
    // Neither does it take what TLS says last, so it is not closed at once.
    world.stall(client, 0);
    world.print(vm, b"for it");
    world.engine.kick(client, world.now).unwrap();
    let outputs = std::iter::from_fn(|| world.engine.poll_output());
    let outputs: Vec<_> = outputs.collect();
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Receive(id) if *id == client)),
        "{outputs:?}"
    );
}

#[test]
fn a_telnet_client_that_cannot_be_read_is_not_taken_for_raw() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let raw = world.client(uuid(1), Kind::Raw);
    world.type_wire(raw, b"$");
    world.stall(vm, 0);
    world.type_wire(raw, &[b'x'; 800_000]);
    let late = world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.engine.receive_window(late), 0);
    world.pass(Duration::from_secs(10));
    world.print(vm, b"a\xff\xf1b");
    assert_eq!(world.seen(late), "a\\xff\\xf1b");
    world.unstall(vm);
    world.print(vm, b"\xff");
    assert_eq!(world.seen(late), "a\\xff\\xf1b\\xff");
}

#[test]
fn clients_share_the_way_to_a_slow_vm() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let clients: Vec<_> = (0..4).map(|_| world.client(uuid(1), Kind::Raw)).collect();
    for &client in &clients {
        world.type_wire(client, b"$");
    }
    world.host(vm).typed.clear();
    // The VM takes a kilobyte at a time.
    world.stall(vm, 0);
    for (n, &client) in clients.iter().enumerate() {
        world.link(client).inbound.extend(vec![b'0' + n as u8; 400_000]);
    }
    for _ in 0..600 {
        world.link(vm).stalled = false;
        world.exchange(vm, usize::MAX);
        world.link(vm).stalled = true;
        world.link(vm).capacity = 1024;
        world.settle();
    }
    let typed = &world.host(vm).typed;
    for n in b'0'..b'4' {
        let share = typed.iter().filter(|&&byte| byte == n).count();
        assert!(share > typed.len() / 8, "client {} got {share} of {}", n as char, typed.len());
    }
}

#[test]
fn a_local_reader_gets_guest_bytes_and_may_type() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    world.print(vm, b"old \xff\n");
    let late = world.open_local(uuid(1), LocalOptions::person());
    let early = world.open_local(uuid(1), LocalOptions::person().scrollback(1000));
    world.settle();
    world.print(vm, b"new \xff");
    world.type_wire(early, b"typed \xff");
    assert_eq!(world.seen(late), "new \\xff");
    assert_eq!(world.seen(early), "old \\xff\\nnew \\xff");
    assert_eq!(world.typed(vm), "typed \\xff");
    world.engine.kick(late, world.now).unwrap();
    world.settle();
    assert_eq!(world.reason(late), Some(CloseReason::Kicked));
}

#[test]
fn ayt_is_answered_to_the_asker_alone() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let asker = world.client(uuid(1), Kind::Telnet);
    let other = world.client(uuid(1), Kind::Telnet);
    world.type_wire(asker, &command(Command::AYT));
    assert_eq!(world.seen(asker), "\\r\\n[yes]\\r\\n");
    assert_eq!((world.seen(other), world.typed(vm)), (String::new(), String::new()));
}

#[test]
fn text_of_ours_never_comes_between_the_halves_of_a_pair() {
    // A record is taken as a whole.
    if crate::SEALED {
        return;
    }
    for room in 0..20 {
        let mut world = World::new(Config { banner: false, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), Kind::Telnet);
        world.stall(client, room);
        world.print(vm, &[IAC; 8]);
        world.type_wire(client, &command(Command::AYT));
        world.unstall(client);
        let seen = world.seen(client).replace("\\r\\n[yes]\\r\\n", "");
        assert_eq!(seen, "\\xff".repeat(8), "{room}");
        world.stall(client, room);
        world.print(vm, &[IAC; 8]);
        world.engine.kick(client, world.now).unwrap();
        world.settle();
        world.unstall(client);
        let seen = world.seen(client).replace("\\r\\n[yes]\\r\\n", "");
        assert_eq!(seen, "\\xff".repeat(8 + room.min(16).div_ceil(2)), "{room}");
    }
}

#[test]
fn ten_thousand_clients_on_one_console_all_see_the_same() {
    let mut world =
        World::new(Config { banner: false, max_clients: None, max_descriptors: 20_000, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let port = world.port(uuid(1)).unwrap();
    let clients: Vec<_> =
        (0..10_000).map(|_| world.connect_to(port, Part::Client(Client::new(Kind::Raw))).unwrap()).collect();
    world.settle();
    world.stall(clients[0], 0);
    for _ in 0..5 {
        world.print(vm, &[b'x'; 5000]);
    }
    assert_eq!(world.console(uuid(1)).unwrap().counters.bytes_to_clients, 9_999 * 25_000);
    assert_eq!(world.told(|what| matches!(what, EventKind::ReaderSkipped(_))), 0);
}

#[test]
fn a_vm_does_not_wait_for_a_reader_that_memory_has_run_out_for() {
    if crate::SEALED {
        // Records are small: a VM is paused in the middle of what it prints here, before memory runs out.
        return;
    }
    let config = Config {
        slow_client: SlowClient::Wait,
        lag_limit: 1 << 20,
        journal_memory: 2 << 20,
        ..Config::default()
    };
    let mut world = World::new(config);
    let vms: Vec<_> = (1..=3)
        .map(|n| {
            let vm = world.vm(vm_config(n));
            let client = world.client(uuid(n), Kind::Telnet);
            world.stall(client, 0);
            vm
        })
        .collect();
    let waits = |world: &World, at: usize| world.engine.receive_window(vms[at]) == 0;
    world.print(vms[0], &[b'x'; 760 << 10]);
    world.print(vms[1], &[b'x'; 760 << 10]);
    assert!(waits(&world, 0) && waits(&world, 1));
    world.print(vms[2], &[b'x'; 760 << 10]);
    assert!(!waits(&world, 0), "the longest silent gave, and its reader is overtaken");
    assert!(waits(&world, 1) && waits(&world, 2));
}
