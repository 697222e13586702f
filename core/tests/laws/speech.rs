//! What a client is found to be, and what becomes of those that leave, half leave, or are no clients at all.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind, Foreign, ListenError};
use vspc_core::telnet::Command;
use vspc_core::vmware::VmEvent;

#[cfg(feature = "tls")]
use crate::world::Client;
use crate::world::peer::command;
use crate::world::{Kind, Part, World, uuid, vm_config};

/// A console, and a client of it that answers nothing by itself.
fn at_a_console(config: Config) -> (World, vspc_core::concentrator::ConnId, vspc_core::concentrator::ConnId) {
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Raw);
    world.wire(client).clear();
    (world, vm, client)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn telnet_that_comes_late_or_unasked_is_never_typed_and_is_greeted() {
    // netmiko's NOP, PuTTY's opening, a window size, a break, an answer behind an NMEA sentence.
    for (words, typed, breaks) in [
        (&b"\xff\xf1"[..], "", 0),
        (b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03", "", 0),
        (b"\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0", "", 0),
        (b"\xff\xf3", "", 1),
        (b"$GPGGA,1*47\r\n\xff\xfd\x01", "$GPGGA,1*47\\r\\n", 0),
    ] {
        for wait in [0, 1, 5] {
            for cut in [1, 3, usize::MAX] {
                let (mut world, vm, client) = at_a_console(Config::default());
                world.pass(wait * SECOND);
                world.cut = cut;
                world.type_wire(client, words);
                world.pass(SECOND);
                assert_eq!(world.typed(vm), typed, "{} after {wait} s", words.escape_ascii());
                assert_eq!(world.host(vm).was_told(|event| *event == VmEvent::Break), breaks);
                assert!(world.seen(client).contains("connected to vm01"), "{}", words.escape_ascii());
            }
        }
    }
}

#[test]
fn quick_raw_senders_lose_nothing() {
    for bytes in
        [&b"\x41\xff\x66\x42"[..], b"\x41\xff\xfa\x42\x43\x44", b"\xff\xffa\xff\xff", b"a\xff", b"\xff\xfb"]
    {
        for cut in [1, 2, usize::MAX] {
            let (mut world, vm, client) = at_a_console(Config::default());
            world.cut = cut;
            world.type_wire(client, bytes);
            world.pass(2 * SECOND);
            world.type_wire(client, b"x");
            assert!(world.host(vm).typed == [bytes, b"x"].concat(), "{}", bytes.escape_ascii());
            world.print(vm, b"\xff");
            assert!(world.wire(client).ends_with(b"\xff") && !world.wire(client).ends_with(b"\xff\xff"));
        }
    }
}

#[test]
fn what_is_held_of_a_client_that_breaks_off_is_typed() {
    for held in [&b"\xff\xffa"[..], b"a\xff\xfd", b"GET key"] {
        let (mut world, vm, client) = at_a_console(Config::default());
        world.type_wire(client, held);
        assert_ne!(world.host(vm).typed, held);
        world.reset(client);
        assert_eq!(world.host(vm).typed, held);
    }
}

#[test]
fn raw_ports_offer_nothing_and_take_everything_as_it_is() {
    let (mut world, vm, client) = at_a_console(Config { raw_ports: true, ..Config::default() });
    let mut all = Vec::new();
    for words in [&b"SSH-2.0-x\r\n"[..], b"GET / HTTP/1.1\r\n", b"\xff\xf1\xff\xff\xff\xfd\x01\xff"] {
        world.type_wire(client, words);
        all.extend_from_slice(words);
    }
    assert_eq!(world.host(vm).typed, all);
    world.print(vm, b"\xff\xff!");
    let other = world.client(uuid(1), Kind::Raw);
    world.type_wire(other, b"SSH-2.0-y\r\n");
    world.pass(60 * SECOND);
    assert_eq!(world.seen(client), "\\xff\\xff!");
    assert_eq!((world.seen(other), world.is_open(other)), (String::new(), true));
}

#[test]
fn programs_at_the_wrong_port_are_told_so_and_closed_and_nothing_of_theirs_is_typed() {
    for (words, foreign, told) in [
        (&b"POST /x HTTP/1.1\r\nContent-Length: 7\r\n\r\nreboot\n"[..], Foreign::Http, "no web server"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Foreign::Tls, "\\x15\\x03\\x01\\x00\\x02\\x02("),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Foreign::Ssh, "no ssh server"),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 5000 50000\r\nls\n", Foreign::Proxy, "no PROXY header"),
    ] {
        for cut in [1, 4, usize::MAX] {
            let (mut world, vm, client) = at_a_console(Config::default());
            world.cut = cut;
            world.type_wire(client, words);
            assert!(world.seen(client).contains(told), "{}", world.seen(client));
            assert_eq!(world.reason(client), Some(CloseReason::NotClient(foreign)));
            assert_eq!(world.typed(vm), "");
            assert_eq!(world.told(|what| matches!(what, EventKind::ClientDetached(..))), 1);
            assert_eq!(world.console(uuid(1)).unwrap().counters.bytes_from_clients, 0);
        }
    }
}

#[test]
fn a_person_or_a_script_that_begins_like_them_notices_nothing() {
    let (mut world, vm, client) = at_a_console(Config::default());
    for key in [b"P", b"O", b"S"] {
        world.type_wire(client, key);
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.typed(vm), "POS");
    let script = world.client(uuid(1), Kind::Raw);
    world.type_wire(script, b"GET key\n");
    assert_eq!(world.typed(vm), "POSGET key\\n");
    assert!(world.is_open(client) && world.is_open(script));
}

#[test]
fn ip_is_ctrl_c_and_ao_drops_what_is_queued_and_marks_the_place() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    let other = world.client(uuid(1), Kind::Telnet);
    let line_mode = world.client(uuid(1), Kind::Raw);
    world.type_wire(client, b"a\xff\xf4b\xff\xf2c");
    world.type_wire(line_mode, b"\xff\xfe\x01\xff\xfe\x03d\xff\xf4");
    assert_eq!(world.typed(vm), "a\\x03bcd\\x03");
    for room in [0, 3, 4, 5] {
        for link in [client, other] {
            world.wire(link).clear();
            world.stall(link, if link == client { room } else { usize::MAX });
        }
        world.print(vm, b"abc\xff");
        world.print(vm, &[b'x'; 100_000]);
        world.type_wire(client, &command(Command::AO));
        world.print(vm, b"new");
        if let Part::Client(client) = &mut world.link(client).part {
            client.ignores_marks = true;
        }
        world.unstall(client);
        world.unstall(other);
        let wire = world.wire(client).clone();
        // Half a pair that is out is made whole.
        let front = if crate::SEALED {
            wire.len() - 5
        } else {
            [0, 3, 5, 5][[0, 3, 4, 5].iter().position(|&n| n == room).unwrap()]
        };
        assert!(crate::SEALED || wire[..front] == b"abc\xff\xff"[..front], "{room}: {wire:?}");
        assert_eq!(&wire[front..], b"\xff\xf2new", "{room}");
        assert_eq!(world.wire(other).len(), 5 + 100_000 + 3);
    }
    assert_eq!(world.told(|what| matches!(what, EventKind::ReaderSkipped(_))), 0);
}

#[test]
fn two_ports_joined_type_no_banner_at_each_other() {
    let scrollback = Config { client_scrollback: 1000, ..Config::default() };
    for cut in [1, 2, usize::MAX] {
        let mut world = World::new(scrollback.clone());
        let vms = [1, 2].map(|n| world.vm(vm_config(n)));
        world.print(vms[0], b"old");
        let ends = [1, 2].map(|n| world.client(uuid(n), Kind::Raw));
        let all: Vec<u8> = (0..=255).chain(*b"\r\0\r\n").collect();
        for round in 0..60 {
            if round == 20 {
                world.print(vms[0], &all);
                world.print(vms[1], &all);
            }
            for (from, to) in [(0, 1), (1, 0)] {
                let bytes = std::mem::take(world.wire(ends[from]));
                for piece in bytes.chunks(cut) {
                    world.type_wire(ends[to], piece);
                }
            }
            world.pass(Duration::from_millis(25));
        }
        for vm in vms {
            assert!(world.host(vm).typed == all, "{}", world.typed(vm));
        }
    }
}

// Leaving, and half leaving.

/// It reads nothing any more.
fn stops_reading(world: &mut World, id: vspc_core::concentrator::ConnId) {
    world.link(id).stalled = true;
    world.link(id).capacity = 0;
}

#[test]
fn a_half_closed_client_is_served_for_as_long_as_it_takes_bytes() {
    // A TLS peer that has said its last may be deaf here.
    if crate::SEALED {
        return;
    }
    for kind in [Kind::Raw, Kind::Telnet] {
        let (mut world, vm, _) = at_a_console(Config { banner: false, ..Config::default() });
        let client = world.client(uuid(1), kind);
        world.wire(client).clear();
        world.type_wire(client, b"uptime\n");
        world.end(client);
        for n in 0..40 {
            world.pass(7 * SECOND);
            world.print(vm, format!("{n} ").as_bytes());
        }
        assert!(world.is_open(client));
        assert_eq!(world.typed(vm), "uptime\\n");
        assert!(world.seen(client).ends_with("38 39 "), "{}", world.seen(client));
        // Only a telnet client knows what a NOP is.
        let nops = world.wire(client).windows(2).filter(|pair| pair == b"\xff\xf1").count();
        assert_eq!(nops > 20, kind == Kind::Telnet, "{nops}");
        stops_reading(&mut world, client);
        world.print(vm, b"more");
        world.pass(21 * SECOND);
        assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
    }
}

#[test]
fn a_half_closed_client_has_ten_seconds_to_take_what_there_is() {
    if crate::SEALED {
        return;
    }
    let (mut world, vm, client) = at_a_console(Config::default());
    world.pass(2 * SECOND);
    world.end(client);
    world.pass(5 * SECOND);
    world.link(client).stalled = true;
    world.link(client).capacity = 3;
    world.print(vm, b"more than that");
    world.pass(Duration::from_millis(9_900));
    assert!(world.is_open(client));
    world.link(client).capacity += 3;
    world.settle();
    world.pass(Duration::from_millis(9_900));
    assert!(world.is_open(client), "it took something");
    world.pass(Duration::from_millis(200));
    assert_eq!(world.reason(client), Some(CloseReason::PeerClosed));
}

#[test]
fn a_half_closed_client_cannot_hold_up_a_shutdown() {
    if crate::SEALED {
        return;
    }
    let (mut world, vm, client) = at_a_console(Config::default());
    world.pass(2 * SECOND);
    world.end(client);
    world.link(client).stalled = true;
    world.link(client).capacity = 1;
    world.print(vm, b"more than it takes");
    world.engine.shut_down(world.now);
    for _ in 0..5 {
        world.link(client).capacity += 1;
        world.settle();
        world.pass(SECOND / 2);
    }
    assert!(!world.is_open(client), "it takes a byte now and then, and has had its two seconds");
}

#[test]
fn a_half_closed_client_yields_to_a_newcomer_and_is_not_counted() {
    if crate::SEALED {
        return;
    }
    let (mut world, vm, first) = at_a_console(Config { max_clients: Some(2), ..Config::default() });
    let _ = vm;
    world.end(first);
    let second = world.client(uuid(1), Kind::Telnet);
    assert!(world.seen(second).contains("nobody else here"), "{}", world.seen(second));
    let third = world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.reason(first), Some(CloseReason::Yielded));
    assert!(world.seen(third).contains("1 other here"));
    let fourth = world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.reason(fourth), Some(CloseReason::TooManyClients));
    assert!(world.is_open(second) && world.is_open(third));
}

#[test]
fn a_client_that_ends_behind_typing_that_nobody_takes_is_half_closed_and_its_typing_is_delivered() {
    if crate::SEALED {
        return;
    }
    let (mut world, vm, first) = at_a_console(Config { max_clients: Some(4), ..Config::default() });
    let paster = world.client(uuid(1), Kind::Raw);
    let gone = world.client(uuid(1), Kind::Telnet);
    world.stall(vm, 0);
    while world.engine.receive_window(first) > 0 || world.engine.receive_window(gone) > 0 {
        world.type_wire(paster, &[b'p'; 4096]);
    }
    for client in [first, gone] {
        world.type_wire(client, b"unread");
        world.end(client);
    }
    // The newcomer and who pastes: two.
    let are_two = |what: &EventKind| matches!(what, EventKind::ClientAttached { clients: 2 });
    let before = world.told(are_two);
    world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.told(are_two), before + 1);
    // It is not asked whether it is there: a reset would cost it what it typed.
    world.wire(gone).clear();
    world.pass(30 * SECOND);
    assert!(world.wire(gone).is_empty() && world.is_open(gone) && world.is_open(first));
    // The longest there yields to a newcomer.
    let newcomer = world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.reason(first), Some(CloseReason::Yielded));
    assert!(world.is_open(newcomer) && world.is_open(gone));
    world.unstall(vm);
    world.settle();
    assert!(world.typed(vm).ends_with("unread"), "what was typed before the end is lost");
    // From now on it is like any other that has ended.
    assert!(world.wire(gone).ends_with(&command(Command::NOP)));
    assert!(world.is_open(gone));
}

#[test]
fn a_half_closed_client_yields_first_when_descriptors_run_short() {
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { max_descriptors: 24, banner: false, ..Config::default() });
    world.vm(vm_config(1));
    let reading = world.client(uuid(1), Kind::Raw);
    let ended = world.client(uuid(1), Kind::Raw);
    world.end(ended);
    let mut n = 2;
    while world.is_open(ended) {
        assert!(n < 24, "it never yields");
        world.vm(vm_config(n));
        n += 1;
    }
    assert!(n > 4 && world.is_open(reading));
    assert_eq!(world.reason(ended), Some(CloseReason::Yielded));
}

#[test]
#[cfg(feature = "tls")]
fn handshakes_of_a_console_are_no_more_than_its_clients_may_be_and_the_oldest_yields() {
    let config = Config { max_clients: Some(2), client_tls: true, ..Config::default() };
    let mut world = World::new(config);
    world.vm(vm_config(1));
    let port = world.port(uuid(1)).unwrap();
    world.by_hand = true;
    let silent: Vec<_> = (0..50)
        .map(|_| world.connect_to(port, Part::Client(Client::new(Kind::Raw))).expect("there is room"))
        .collect();
    world.settle();
    let open = silent.iter().filter(|&&id| world.is_open(id)).count();
    assert_eq!(open, 2);
    assert!(world.is_open(silent[49]));
    world.by_hand = false;
    let honest = world.client(uuid(1), Kind::Telnet);
    assert!(world.seen(honest).contains("connected to vm01"));
}

#[test]
fn a_client_port_that_opens_later_is_told_when_it_does() {
    let mut world = World::new(Config {
        client_ports: Some(vspc_core::concentrator::PortRange { first: 50000, last: 50000 }),
        vm_expire: SECOND,
        ..Config::default()
    });
    let first = world.vm(vm_config(1));
    world.vm(vm_config(2));
    assert_eq!(world.told(|what| *what == EventKind::PortsExhausted), 1);
    assert_eq!(world.told(|what| matches!(what, EventKind::PortOpened(_))), 0);
    world.end(first);
    world.foreign_ports.insert(50000);
    world.pass(100 * SECOND);
    assert!(world.told(|what| *what == EventKind::PortTaken(50000, ListenError::InUse)) > 0);
    assert_eq!(world.told(|what| matches!(what, EventKind::PortOpened(_))), 0);
    world.foreign_ports.clear();
    world.pass(600 * SECOND);
    assert_eq!(world.told(|what| *what == EventKind::PortOpened(50000)), 1);
    assert_eq!(world.port(uuid(2)), Some(50000));
}
