//! Hosts' connections: who they are, what they say too early, what they are told.

use std::collections::BTreeSet;
use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind, SlowClient};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Message, VmConfig, VmEvent};

use crate::world::{Client, Kind, Part, World, uuid, vm_config};

fn uuid_message(n: u8) -> Vec<u8> {
    let (mut text, mut out) = (Vec::new(), Vec::new());
    uuid(n).put_vmware(&mut text);
    Message::VmVcUuid(&text).put(&mut out);
    out
}

#[test]
fn what_a_vm_says_before_its_uuid_is_shown_in_its_own_console() {
    let mut world = World::new(Config { client_scrollback: 1000, banner: false, ..Config::default() });
    let one = world.vm_connects(vm_config(1));
    let two = world.vm_connects(vm_config(2));
    world.host(one).session.print(b"I am one \xff");
    world.host(two).session.print(b"I am two \xff");
    world.settle();
    for (n, text) in [(1, "I am one \\xff"), (2, "I am two \\xff")] {
        let reader = world.client(uuid(n), Kind::Telnet);
        assert_eq!(world.seen(reader), text);
    }
}

#[test]
fn too_much_before_the_uuid_loses_the_oldest_and_never_stops_reading() {
    let mut world = World::new(Config {
        client_scrollback: 1 << 20,
        scrollback: 1 << 20,
        banner: false,
        ..Config::default()
    });
    let id = world.stranger();
    for n in 0..300 {
        let line = format!("{n:04}").repeat(250);
        world.type_wire(id, line.as_bytes());
        assert_ne!(world.engine.receive_window(id), 0);
    }
    let dropped = world.engine.totals().early_bytes_dropped;
    assert!(dropped >= 300_000 - (64 << 10), "{dropped}");
    world.type_wire(id, &uuid_message(5));
    let reader = world.client(uuid(5), Kind::Telnet);
    let seen = world.seen(reader);
    assert!(seen.ends_with("0299") && !seen.contains("0100"));
    assert_eq!(seen.len() as u64, 300_000 - dropped);
}

#[test]
fn who_does_not_say_which_vm_it_is_is_told_so_and_closed_after_the_identify_timeout() {
    let mut world = World::new(Config { identify_timeout: Duration::from_secs(30), ..Config::default() });
    let silent = world.stranger();
    let nameless = world.vm_connects(VmConfig { vc_uuid: None, bios_uuid: None, ..vm_config(1) });
    world.settle();
    world.pass(Duration::from_millis(29_900));
    assert!(world.is_open(silent) && world.is_open(nameless));
    world.pass(Duration::from_millis(200));
    assert_eq!(world.reason(silent), Some(CloseReason::IdentifyTimeout));
    assert_eq!(world.reason(nameless), Some(CloseReason::IdentifyTimeout));
    assert!(world.typed(nameless).contains("No VM was identified"));
}

#[test]
fn a_vm_without_vcenter_is_known_by_its_bios_uuid() {
    let mut world = World::new(Config::default());
    world.vm(VmConfig { vc_uuid: None, bios_uuid: Some(uuid(9)), ..vm_config(1) });
    assert_eq!(world.console(uuid(9)).unwrap().label.name, "vm01");
}

#[test]
fn a_plain_telnet_client_on_the_vm_port_is_told_where_to_go() {
    let mut world = World::new(Config::default());
    let lost = world.connect_to(13370, Part::Client(Client::new(Kind::Telnet))).unwrap();
    world.settle();
    assert_eq!(world.reason(lost), Some(CloseReason::NotVm));
    assert!(world.seen(lost).contains("connect to the client port of its VM"));
}

#[test]
fn no_connection_is_taken_beyond_the_descriptors() {
    let mut world = World::new(Config { max_descriptors: 10, ..Config::default() });
    // A listener for hosts, and for each VM a connection and a client port.
    for n in 1..=4 {
        world.vm(vm_config(n));
    }
    world.pass(Duration::from_secs(600));
    // Whoever may be a VM will need a port as well.
    assert!(world.connect_to_vms(Part::Mute).is_none());
    let port = world.port(uuid(1)).unwrap();
    assert!(world.connect_to(port, Part::Client(Client::new(Kind::Raw))).is_some());
    assert!(world.connect_to(port, Part::Client(Client::new(Kind::Raw))).is_none());
}

#[test]
fn two_legs_of_one_vm_live_side_by_side() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let first = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    world.wire(first).clear();
    let second = world.vm(vm_config(1));
    assert!(world.wire(first).ends_with(&[IAC, 250, 232, 83, IAC, 240]), "it is asked who it is");
    world.print(first, b"one ");
    world.print(second, b"two ");
    world.print(first, b"one again");
    assert_eq!(world.seen(reader), "one two one again");
    world.type_wire(reader, b"x");
    assert_eq!((world.typed(first), world.typed(second)), ("x".into(), String::new()));
    let third = world.vm(vm_config(1));
    let warnings = world.told(|what| matches!(what, EventKind::SecondLeg { same_address: true, .. }));
    assert_eq!(warnings, 1, "one warning is enough for a minute");
    world.pass(Duration::from_secs(300));
    assert!(world.is_open(first) && world.is_open(second) && world.is_open(third));
    world.type_wire(reader, b"y");
    world.reset(third);
    world.type_wire(reader, b"z");
    assert_eq!((world.typed(first), world.typed(second)), ("xyz".into(), String::new()));
    world.reset(first);
    world.pass(Duration::from_secs(61));
    world.type_wire(reader, b"!");
    assert_eq!(world.typed(second), "!");
    assert!(world.is_open(reader));
}

#[test]
fn a_newer_leg_leaves_no_half_pair_in_front_of_the_probe() {
    let mut world = World::new(Config::default());
    let first = world.vm(vm_config(1));
    let raw = world.client(uuid(1), Kind::Raw);
    world.type_wire(raw, b"$");
    for halved in 1..6 {
        world.stall(first, halved);
        world.type_wire(raw, b"\xff\xff\xffab");
        let newer = world.vm(vm_config(1));
        world.unstall(first);
        assert_eq!(world.host(first).session.malformed(), 0);
        let (got, rest) = (world.host(first).typed.clone(), world.host(newer).typed.clone());
        assert_eq!([got.clone(), rest].concat(), b"$\xff\xff\xffab", "{halved}");
        world.host(first).typed = b"$".to_vec();
        world.end(newer);
    }
}

#[test]
fn a_vm_that_is_refused_gets_the_end_of_the_pair_it_was_sent_half_of() {
    // A record is taken as a whole.
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { service_uri: Some("vSPC.py".into()), ..Config::default() });
    let vm = world.vm(vm_config(1));
    let raw = world.client(uuid(1), Kind::Raw);
    world.type_wire(raw, b"$");
    world.stall(vm, 1);
    world.type_wire(raw, b"\xffa");
    world.host(vm).session.put(&Message::DoProxy { direction: b'S', uri: b"other" });
    world.settle();
    world.unstall(vm);
    assert_eq!(world.host(vm).was_told(|event| *event == VmEvent::Refused), 1);
    assert_eq!(world.typed(vm), "$\\xff");
}

#[test]
fn ports_of_certain_vms_alone_are_told_apart_where_a_rule_for_their_uuids_says_so() {
    for is_on_elsewhere in [false, true] {
        let uuids = uuid(1).simple().to_string();
        let rules = [(&uuids[..], !is_on_elsewhere), ("*", is_on_elsewhere)];
        let multi_console_by_uuid = rules.map(|(uuid, on)| (uuid.parse().unwrap(), on)).to_vec();
        // Whatever is so for all, the rules decide.
        let mut world =
            World::new(Config { multi_console: is_on_elsewhere, multi_console_by_uuid, ..Config::default() });
        for n in 1..=2 {
            for port in ["com1", "com2"] {
                world.vm(VmConfig { uri: format!("vspc?port={port}"), ..vm_config(n) });
            }
            let names: BTreeSet<_> = world
                .engine
                .consoles()
                .filter(|one| one.label.uuid == uuid(n))
                .map(|one| one.label.name.clone())
                .collect();
            let is_apart = (n == 1) != is_on_elsewhere;
            let expected = match is_apart {
                true => vec![format!("vm{n:02}_com1"), format!("vm{n:02}_com2")],
                false => vec![format!("vm{n:02}")],
            };
            assert_eq!(names.into_iter().collect::<Vec<_>>(), expected, "{is_on_elsewhere}");
        }
    }
}

#[test]
fn consoles_are_keyed_by_uri_where_multi_console_is_on() {
    let mut world = World::new(Config { multi_console: true, ..Config::default() });
    for uri in ["vSPC.py", "vSPC.py?port=com2", "gdb"] {
        world.vm(VmConfig { uri: uri.into(), ..vm_config(1) });
    }
    let mut labels: Vec<(String, String)> = world
        .engine
        .consoles()
        .map(|console| (console.label.suffix.to_string(), console.label.name.clone()))
        .collect();
    labels.sort();
    let expected = ["_com2", "_gdb", "_vSPC.py"].map(|suffix| (suffix.to_owned(), format!("vm01{suffix}")));
    assert_eq!(labels, expected);
    assert_eq!(world.told(|what| matches!(what, EventKind::SecondLeg { .. })), 0);
}

#[test]
fn a_vm_with_another_service_uri_is_refused() {
    let config = Config { service_uri: Some("vSPC.py".into()), ..Config::default() };
    let mut world = World::new(config);
    let other = world.vm(VmConfig { uri: "other".into(), ..vm_config(1) });
    assert_eq!(world.reason(other), Some(CloseReason::ServiceUri));
    assert_eq!(world.host(other).was_told(|event| *event == VmEvent::Refused), 1);
    let with_query = world.vm(VmConfig { uri: "vSPC.py?port=1".into(), ..vm_config(2) });
    assert!(world.is_open(with_query));
    assert!(world.console(uuid(1)).is_none());
}

#[test]
fn a_do_proxy_of_64_kib_is_answered_and_a_longer_one_is_refused_and_told() {
    // Beside the URI there are a code and a direction.
    let longest = (64 << 10) - 2;
    for len in [1000, 1100, longest, longest + 1, 200_000] {
        let fits = len <= longest;
        let mut world = World::new(Config { multi_console: true, ..Config::default() });
        let vm = world.vm(VmConfig { uri: "u".repeat(len), ..vm_config(1) });
        assert_eq!(world.is_open(vm), fits, "{len}");
        assert_eq!(world.host(vm).was_told(|event| *event == VmEvent::Refused), usize::from(!fits));
        assert_eq!(world.console(uuid(1)).is_some(), fits);
        assert_eq!(world.reason(vm), (!fits).then_some(CloseReason::ServiceUri));
        assert_eq!(world.told(|what| matches!(what, EventKind::Malformed(_))), usize::from(!fits));
    }
}

#[test]
fn a_crowd_that_begins_long_messages_holds_no_more_than_its_budget_and_a_vm_is_served_beside_it() {
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { service_uri: Some("vSPC.py".into()), ..Config::default() });
    let message = [&[IAC, 250, 232, 70, b'S'][..], &[b'u'; 60_000]].concat();
    let crowd: Vec<_> = (0..200).map(|_| world.stranger()).collect();
    for &id in &crowd {
        world.type_wire(id, &message);
    }
    let vm = world.vm(VmConfig { uri: "vSPC.py".into(), ..vm_config(1) });
    assert!(world.is_open(vm) && world.console(uuid(1)).is_some());
    // Those whose message had to be given up are told of as they end; the others had room.
    for &id in &crowd {
        world.type_wire(id, &[IAC, 240]);
        assert_eq!(world.reason(id), Some(CloseReason::ServiceUri));
    }
    let given_up = world.told(|what| matches!(what, EventKind::Malformed(_)));
    assert!((200 - 4 * 1024 * 1024 / 60_000..200).contains(&given_up), "{given_up}");
    // What they held is free again.
    let next = world.stranger();
    world.type_wire(next, &message);
    world.type_wire(next, &[IAC, 240]);
    assert_eq!(world.told(|what| matches!(what, EventKind::Malformed(_))), given_up);
}

#[test]
fn a_vm_that_wants_to_be_dialled_is_refused() {
    let mut world = World::new(Config::default());
    let vm = world.vm(VmConfig { direction: b'C', ..vm_config(1) });
    assert_eq!(world.reason(vm), Some(CloseReason::Direction));
    assert_eq!(world.host(vm).was_told(|event| *event == VmEvent::Refused), 1);
}

#[test]
fn a_new_name_is_told_once_per_change_and_a_storm_of_names_in_a_few_lines() {
    // Many records are many reads.
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    world.host(vm).session.put(&Message::VmName("d\u{e9}j\u{e0}\x07".as_bytes()));
    world.settle();
    assert_eq!(world.console(uuid(1)).unwrap().label.name, "d\u{e9}j\u{e0}\u{fffd}");
    assert_eq!(world.told(|what| *what == EventKind::VmRenamed("vm01".into())), 1);
    let before = world.events.len();
    let mut storm = Vec::new();
    for n in 0..5000 {
        Message::VmName(format!("n{n}").as_bytes()).put(&mut storm);
    }
    world.type_wire(vm, &storm);
    assert_eq!(world.console(uuid(1)).unwrap().label.name, "n4999");
    assert!(world.events.len() - before < 64, "{} events", world.events.len() - before);
}

#[test]
fn carriage_returns_from_a_vm_are_folded_only_after_binary_was_refused() {
    for (refused, expected) in [(false, "a\\r\\x00b\\r\\nc"), (true, "a\\rb\\r\\nc")] {
        let mut world = World::new(Config { banner: false, ..Config::default() });
        let vm = world.stranger();
        world.type_wire(vm, &[IAC, 251, 232, IAC, if refused { 252 } else { 251 }, 0]);
        world.type_wire(vm, &uuid_message(1));
        let reader = world.client(uuid(1), Kind::Telnet);
        for piece in [&b"a\r"[..], b"\0b\r", b"\nc"] {
            world.type_wire(vm, piece);
        }
        assert_eq!(world.seen(reader), expected);
    }
}

#[test]
fn shutting_down_gives_everyone_what_they_are_owed_and_ends() {
    for slow_client in [SlowClient::Skip, SlowClient::Wait] {
        let mut world = World::new(Config { slow_client, banner: false, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let stranger = world.stranger();
        let reader = world.client(uuid(1), Kind::Telnet);
        let dead = world.client(uuid(1), Kind::Raw);
        world.stall(reader, 0);
        world.stall(dead, 0);
        world.stall(vm, 1);
        world.print(vm, b"last words");
        world.type_wire(reader, b"shutdown\xff\xff");
        world.shut_down();
        assert!(world.connect_to_vms(Part::Mute).is_none());
        assert!(world.listening.is_empty());
        assert!(!world.is_open(stranger), "nothing is owed to it");
        assert!(!world.engine.is_empty());
        world.unstall(reader);
        world.unstall(vm);
        assert_eq!(world.seen(reader), "last words");
        assert_eq!(world.typed(vm), "shutdown\\xff");
        assert!(!world.is_open(reader) && !world.is_open(vm) && world.is_open(dead));
        world.pass(Duration::from_secs(3));
        assert!(world.engine.is_empty());
        assert_eq!(world.reason(dead), Some(CloseReason::ShuttingDown));
        assert!(
            world
                .engine
                .open_local(
                    world.console(uuid(1)).unwrap().label.id,
                    vspc_core::concentrator::LocalOptions::person(),
                    world.now
                )
                .is_err()
        );
    }
}

#[test]
fn a_reader_that_was_overtaken_is_told_so_when_the_server_goes_down() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    world.stall(reader, 0);
    world.print(vm, &[b'x'; 3 << 20]);
    world.shut_down();
    world.unstall(reader);
    assert!(world.seen(reader).contains("bytes skipped"));
    assert!(!world.is_open(reader));
}

#[test]
fn the_reason_of_an_end_is_told_however_much_was_told_before() {
    let mut world = World::new(Config::default());
    let stranger = world.stranger();
    let mut said = Vec::new();
    for _ in 0..100 {
        Message::VmotionBegin { sequence: b"seq0" }.put(&mut said);
    }
    Message::DoProxy { direction: b'C', uri: b"x" }.put(&mut said);
    world.type_wire(stranger, &said);
    assert_eq!(world.reason(stranger), Some(CloseReason::Direction));
}

#[test]
fn stale_ids_are_no_ops() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.reset(client);
    world.reset(vm);
    let newer = world.vm(vm_config(2));
    assert_eq!(newer.index(), client.index().min(vm.index()).max(newer.index()));
    let before = world.trace();
    for id in [vm, client] {
        let now = world.now;
        world.engine.handle_received(id, &mut b"ghost".to_vec(), now);
        let sent = world.engine.transmit(id, now, |_| panic!("a ghost is offered bytes"));
        assert!(sent.is_idle());
        world.engine.handle_closed(id, vspc_core::concentrator::Closed::Input, now);
        assert_eq!(world.engine.receive_window(id), 0);
        assert!(world.engine.kick(id, now).is_err());
        world.drain();
    }
    assert_eq!(world.trace(), before);
    assert!(world.is_open(newer));
}

#[test]
fn who_ends_before_it_is_known_which_vm_it_is_has_its_last_words_shown() {
    // Its handshake would have to be played by hand, too.
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { banner: false, ..Config::default() });
    world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    // It may be a copy, or the same VM under another name: that takes the holder's answer.
    world.by_hand = true;
    let other = VmConfig { name: "another".into(), ..vm_config(1) };
    let second = world.vm_connects(other);
    for _ in 0..8 {
        world.pull(second, usize::MAX);
        world.exchange(second, usize::MAX);
        world.feed(second, usize::MAX);
    }
    world.host(second).session.print(b"panic: out of names");
    world.exchange(second, usize::MAX);
    world.feed(second, usize::MAX);
    world.by_hand = false;
    world.reset(second);
    assert!(world.seen(client).contains("panic: out of names"), "{}", world.seen(client));
}
