//! Serial lines that come without a concentrator's protocol are consoles like all others.

use std::io::ErrorKind;
use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, PortRange, SerialLine, Takeover, uuid_of_line};
use vspc_core::telnet::{Command, IAC};
use vspc_core::vmware::{Uuid, VmConfig};

use crate::world::{Client, Kind, Part, World, vm_config};

const PLC: &str = "plc1";

fn uuid() -> Uuid {
    uuid_of_line(PLC)
}

fn line(place: &str) -> Config {
    let line = SerialLine { name: PLC.into(), uuid: uuid(), place: place.parse().unwrap(), mux: None };
    let client_ports = Some(PortRange { first: 50000, last: 50009 });
    Config { lines: vec![line], client_ports, banner: false, ..Config::default() }
}

fn raw() -> Part {
    Part::Client(Client::new(Kind::Raw))
}

/// A line that has connected.
fn there(world: &mut World) -> ConnId {
    let id = world.connect_to(7001, raw()).expect("it is listened for");
    world.settle();
    id
}

/// All values of a byte, IACs in crowds among them.
fn bytes() -> Vec<u8> {
    (0..2000_u32).map(|n| if n % 5 < 3 { IAC } else { n as u8 }).collect()
}

#[test]
fn a_raw_line_is_a_console_of_its_name_and_every_byte_is_itself_however_it_is_cut() {
    for cut in [1, 7, usize::MAX] {
        let mut world = World::new(line("tcp://:7001"));
        world.cut = cut;
        let plc = there(&mut world);
        let label = world.console(uuid()).unwrap().label.clone();
        assert_eq!(label.name, PLC);
        assert_eq!(world.told(|kind| *kind == EventKind::VmIdentified), 1);
        let client = world.client(uuid(), Kind::Telnet);
        let before = world.link(client).outbound.len();
        assert_eq!(before, 0);
        std::mem::take(world.wire(client));
        world.link(plc).inbound.extend(bytes());
        world.settle();
        let doubled: Vec<u8> = bytes()
            .iter()
            .flat_map(|&byte| std::iter::repeat_n(byte, 1 + usize::from(byte == IAC)))
            .collect();
        assert!(*world.wire(client) == doubled, "{cut}");
        // What is typed, a break in the middle of it, which such a line cannot be told.
        let (front, rest) = doubled.split_at(6);
        let typed = [front, &[IAC, Command::BRK.0, IAC, Command::BRK.0], rest].concat();
        world.type_wire(client, &typed);
        assert!(*world.wire(plc) == bytes(), "{cut}: {:?}", &world.wire(plc)[..20]);
    }
}

#[test]
fn a_line_that_speaks_telnet_is_its_client() {
    let mut world = World::new(line("telnet://esx7:2001"));
    let esx = world.answer_dial(Part::Client(Client::new(Kind::Telnet)));
    let client = world.client(uuid(), Kind::Telnet);
    world.type_wire(esx, b"login: \xff\xff");
    assert!(world.seen(client).ends_with("login: \\xff"));
    world.type_wire(client, b"root\xff\xff\r");
    assert_eq!(world.seen(esx), "root\\xff\\r");
    // A VM's protocol is not spoken there.
    world.type_wire(esx, &[IAC, 251, 232, IAC, 250, 232, 82, b'x', IAC, 240]);
    assert_eq!(world.console(uuid()).unwrap().label.name, PLC);
    assert!(!world.wire(esx).windows(3).any(|told| told == [IAC, 253, 232]));
}

#[test]
fn a_line_that_is_not_there_is_connected_to_again_and_its_console_stays() {
    let mut world = World::new(line("tcp://esx7:2001"));
    for _ in 0..10 {
        world.refuse_dial(ErrorKind::ConnectionRefused);
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(world.told(|kind| matches!(kind, EventKind::NotConnected(_))), 1);
    let first = world.answer_dial(raw());
    let client = world.client(uuid(), Kind::Telnet);
    world.link(first).inbound.extend(b"one ");
    world.settle();
    world.end(first);
    let listed = world.console(uuid()).unwrap();
    assert_eq!(listed.vms, 0);
    world.pass(Duration::from_secs(5));
    let second = world.answer_dial(raw());
    world.link(second).inbound.extend(b"two");
    world.settle();
    assert!(world.seen(client).ends_with("one two"));
    world.type_wire(client, b"x");
    assert_eq!(world.seen(second), "x");
}

#[test]
fn a_second_connection_of_a_line_asks_nobody_anything_and_inherits() {
    for takeover in [Takeover::Probe, Takeover::Refuse] {
        let mut world = World::new(Config { takeover, ..line("tcp://:7001") });
        let first = there(&mut world);
        world.pass(Duration::from_secs(700));
        world.from = [192, 0, 2, 9].into();
        let second = there(&mut world);
        let client = world.client(uuid(), Kind::Telnet);
        world.type_wire(client, b"first");
        world.pass(Duration::from_secs(60));
        assert_eq!((world.seen(first).as_str(), world.seen(second).as_str()), ("first", ""));
        world.end(first);
        world.pass(Duration::from_secs(60));
        world.type_wire(client, b"second");
        assert_eq!(world.seen(second), "second");
    }
}

#[test]
fn where_the_newest_is_to_have_a_lines_input_the_one_before_has_it_back_at_once() {
    for (place, kind) in [("tcp://:7001", Kind::Raw), ("telnet://:7001", Kind::Telnet)] {
        let mut world = World::new(Config { takeover: Takeover::Newest, ..line(place) });
        let comes = |world: &mut World, from: u8| {
            world.from = [192, 0, 2, from].into();
            let id = world.connect_to(7001, Part::Client(Client::new(kind))).expect("it is listened for");
            world.settle();
            id
        };
        let first = comes(&mut world, 8);
        let client = world.client(uuid(), Kind::Telnet);
        let second = comes(&mut world, 9);
        world.type_wire(client, b"to the second;");
        world.end(second);
        world.type_wire(client, b"to the first");
        assert_eq!(world.seen(second), "to the second;", "{place}");
        assert_eq!(world.seen(first), "to the first", "{place}");
    }
}

#[test]
fn a_line_that_inherits_where_others_want_the_input_is_not_asked_and_has_what_is_typed_at_once() {
    for (place, kind) in [("tcp://:7001", Kind::Raw), ("telnet://:7001", Kind::Telnet)] {
        let mut world = World::new(Config { takeover: Takeover::Newest, ..line(place) });
        let vm = VmConfig { name: PLC.into(), vc_uuid: Some(uuid()), ..vm_config(1) };
        let source = world.vm(vm.clone());
        world.host(source).session.begin(b"move");
        world.settle();
        // Both come while a move keeps the input.
        let plc = world.connect_to(7001, Part::Client(Client::new(kind))).expect("it is listened for");
        world.settle();
        let other = world.vm(vm);
        world.reset(source);
        let client = world.client(uuid(), Kind::Telnet);
        let told = world.wire(plc).len();
        let mut waited = 0;
        while world.told(|kind| matches!(kind, EventKind::InputTaken { .. })) == 0 {
            world.pass(Duration::from_millis(100));
            waited += 1;
            assert!(waited < 1000, "the move ends");
        }
        world.type_wire(client, b"x");
        assert_eq!((world.seen(plc).as_str(), world.typed(other).as_str()), ("x", ""), "{place}");
        world.pass(Duration::from_secs(120));
        assert_eq!(world.wire(plc).len(), told + 1, "{place}: a question would be input");
    }
}

#[test]
fn a_line_keeps_its_input_whoever_comes_by_its_uuid_and_is_told_nothing() {
    for (place, kind) in [("tcp://:7001", Kind::Raw), ("telnet://:7001", Kind::Telnet)] {
        for name in [PLC, "other", ""] {
            let mut world = World::new(line(place));
            let plc = world.connect_to(7001, Part::Client(Client::new(kind))).unwrap();
            world.settle();
            let client = world.client(uuid(), Kind::Telnet);
            let told = world.wire(plc).len();
            world.vm(VmConfig { name: name.into(), vc_uuid: Some(uuid()), ..vm_config(1) });
            world.pass(Duration::from_secs(120));
            assert_eq!(world.wire(plc).len(), told, "{place} {name:?}");
            world.type_wire(client, b"x");
            assert_eq!(world.seen(plc), "x", "{place} {name:?}");
            assert_eq!(world.console(uuid()).unwrap().label.name, PLC);
            // It ends as if nobody had come.
            world.shut_down();
            assert!(!world.is_open(plc), "{place} {name:?}");
        }
    }
}

#[test]
fn a_line_that_starts_again_where_it_was_has_its_input_at_once() {
    let mut world = World::new(line("tcp://:7001"));
    there(&mut world);
    world.pass(Duration::from_secs(100));
    let again = there(&mut world);
    let client = world.client(uuid(), Kind::Telnet);
    world.type_wire(client, b"x");
    assert_eq!(world.seen(again), "x");
}

#[test]
fn a_lines_console_is_forwarded_and_ruled_like_any_other() {
    let forwards = vec![("plc*".parse().unwrap(), std::sync::Arc::new("tcp://attach:1".parse().unwrap()))];
    let mut world = World::new(Config { forwards, ..line("tcp://:7001") });
    let plc = there(&mut world);
    let attach = world.answer_dial(raw());
    world.link(plc).inbound.extend(b"\xffready");
    world.settle();
    assert_eq!(*world.wire(attach), b"\xffready");
    world.link(attach).inbound.extend(b"go\xff");
    world.settle();
    assert_eq!(*world.wire(plc), b"go\xff");
}
