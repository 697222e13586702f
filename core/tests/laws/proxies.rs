//! What a proxy says of whom it forwards counts as if that one had come itself, and nobody else's word does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, ConnId, EventKind, Foreign};

use crate::world::{Client, Host, Kind, Part, World, show, uuid, vm_config};

/// Where the world's peers are, unless it says otherwise.
const PROXY: &str = "192.0.2.1";

fn config() -> Config {
    Config { proxies: vec![PROXY.parse().unwrap()], ..Config::default() }
}

fn v1(from: &str) -> Vec<u8> {
    format!("PROXY TCP4 {from} 10.0.0.1 4711 13370\r\n").into_bytes()
}

fn v2(from: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".to_vec();
    header.extend(from);
    header.extend([10, 0, 0, 1, 0x12, 0x67, 0x34, 0x3a]);
    // A TLV.
    header.extend([4, 0, 2, 0, 0]);
    header
}

/// A VM's host that comes by a proxy, which says this first.
fn vm_behind(world: &mut World, header: &[u8], number: u8) -> ConnId {
    let id = world.connect_to_vms(Part::Host(Host::new(vm_config(number)))).unwrap();
    world.link(id).inbound.extend(header);
    world.settle();
    id
}

/// The address that the latest of such events was told with.
fn told_from(world: &World, wanted: impl Fn(&EventKind) -> bool) -> String {
    let event = world.events.iter().rev().find(|event| wanted(&event.kind)).expect("it was told");
    event.peer.as_ref().unwrap().to_string()
}

#[test]
fn whom_a_proxy_forwards_counts_as_where_it_says_however_it_is_cut() {
    for cut in [1, 2, 16, usize::MAX] {
        for header in [v1("203.0.113.9"), v2([203, 0, 113, 9])] {
            let mut world = World::new(config());
            world.cut = cut;
            let vm = vm_behind(&mut world, &header, 1);
            for kind in [EventKind::VmConnected, EventKind::VmIdentified] {
                assert_eq!(told_from(&world, |told| *told == kind), "203.0.113.9:4711", "{cut}");
            }
            world.pass(Duration::from_secs(601));
            let home = world.console(uuid(1)).unwrap().home;
            assert_eq!(home, Some(IpAddr::from([203, 0, 113, 9])));

            let port = world.port(uuid(1)).unwrap();
            let client = world.connect_to(port, Part::Client(Client::new(Kind::Telnet))).unwrap();
            world.link(client).inbound.extend(&header);
            world.settle();
            let attached = |told: &EventKind| matches!(told, EventKind::ClientAttached { .. });
            assert_eq!(told_from(&world, attached), "203.0.113.9:4711");
            world.print(vm, b"login: ");
            assert!(world.seen(client).ends_with("login: "));
            world.type_wire(client, b"root");
            assert_eq!(world.typed(vm), "root");
        }
    }
}

#[test]
fn of_one_whom_it_does_not_name_a_proxys_own_address_counts() {
    for header in
        [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"]
    {
        let mut world = World::new(config());
        vm_behind(&mut world, header, 1);
        let from = told_from(&world, |told| *told == EventKind::VmIdentified);
        assert!(from.starts_with(&format!("{PROXY}:")), "{from}");
    }
}

#[test]
fn a_proxys_health_check_is_a_peer_that_said_nothing() {
    for said in [&b""[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        let mut world = World::new(config());
        let id = world.connect_to_vms(Part::Mute).unwrap();
        world.type_wire(id, said);
        assert!(world.is_open(id));
        world.end(id);
        assert!(!world.is_open(id));
        assert_eq!(world.told(|told| *told == EventKind::VmConnected), 0);
        world.pass(Duration::from_secs(61));
        assert_eq!(world.told(|told| *told == EventKind::SilentPeers(1)), 1);
    }
}

#[test]
fn a_proxy_that_does_not_say_whom_it_forwards_is_closed() {
    let mut world = World::new(config());
    let vm = world.connect_to_vms(Part::Host(Host::new(vm_config(1)))).unwrap();
    world.settle();
    assert!(world.is_open(vm), "a host waits for us, and so do we");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.reason(vm), Some(CloseReason::NoHeader));
    for (said, why) in [
        (&b"\xff\xfb\xe8"[..], CloseReason::NoHeader),
        (b"GET / HTTP/1.1\r\n", CloseReason::NoHeader),
        (b"PROXY TCP4 somewhere\r\n", CloseReason::BadHeader),
        (b"PROXY TCP4 203.0.113.9", CloseReason::NoHeader),
    ] {
        let id = world.connect_to_vms(Part::Mute).unwrap();
        world.type_wire(id, said);
        world.pass(Duration::from_secs(5));
        assert!(!world.is_open(id));
        assert_eq!(world.reason(id), Some(why), "{}", show(said));
    }
    assert_eq!(world.told(|told| *told == EventKind::VmConnected), 0);
}

#[test]
fn a_header_from_anybody_else_counts_for_nothing() {
    let mut world = World::new(config());
    world.from = Ipv4Addr::new(192, 0, 2, 2);
    let vm = world.vm(vm_config(1));
    let identified = |told: &EventKind| *told == EventKind::VmIdentified;
    assert!(told_from(&world, identified).starts_with("192.0.2.2:"));
    let stranger = world.connect_to_vms(Part::Mute).unwrap();
    world.type_wire(stranger, &v1("203.0.113.9"));
    let connected = |told: &EventKind| *told == EventKind::VmConnected;
    assert!(told_from(&world, connected).starts_with("192.0.2.2:"));
    let port = world.port(uuid(1)).unwrap();
    let client = world.connect_to(port, Part::Mute).unwrap();
    world.type_wire(client, &v1("203.0.113.9"));
    assert_eq!(world.reason(client), Some(CloseReason::NotClient(Foreign::Proxy)));
    assert_eq!(world.typed(vm), "");
}

#[test]
fn a_console_that_goes_while_its_proxys_header_is_on_its_way_is_nobodys() {
    let mut world = World::new(Config { vm_expire: Duration::from_secs(1), ..config() });
    let vm = vm_behind(&mut world, &v1("203.0.113.9"), 1);
    let port = world.port(uuid(1)).unwrap();
    let client = world.connect_to(port, Part::Mute).unwrap();
    let (front, back) = (b"PROXY UNKN", b"OWN\r\n");
    world.type_wire(client, front);
    world.reset(vm);
    world.pass(Duration::from_secs(2));
    assert!(world.console(uuid(1)).is_none());
    world.type_wire(client, back);
    assert_eq!(world.reason(client), Some(CloseReason::Gone));
}

#[test]
fn of_a_clients_connection_nothing_behind_the_header_is_read_before_it_is_let_in() {
    for header in [v1("203.0.113.9"), v2([203, 0, 113, 9])] {
        let mut world = World::new(config());
        vm_behind(&mut world, &header, 1);
        let port = world.port(uuid(1)).unwrap();
        let client = world.connect_to(port, Part::Mute).unwrap();
        let mut rest = &header[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(world.engine.receive_window(client).min(rest.len()));
            assert!(world.engine.receive_window(client) <= rest.len());
            world.engine.handle_received(client, &mut piece.to_vec(), world.now);
            rest = behind;
        }
        world.drain();
        assert_eq!(world.told(|told| matches!(told, EventKind::ClientAttached { .. })), 1);
    }
}

#[test]
fn whose_word_counts_can_change_while_sessions_go_on() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    world.engine.reconfigure(&config(), world.now);
    world.drain();
    assert!(world.is_open(vm));
    vm_behind(&mut world, &v1("203.0.113.9"), 2);
    assert_eq!(told_from(&world, |told| *told == EventKind::VmIdentified), "203.0.113.9:4711");
}

#[test]
fn connections_behind_one_proxy_are_counted_apart_once_it_has_said_whom_they_are_from() {
    // Room for few: a crowd behind the proxy does not push out another address behind it.
    let mut world = World::new(Config { max_descriptors: 24, ..config() });
    for _ in 0..40 {
        if let Some(id) = world.connect_to_vms(Part::Mute) {
            world.type_wire(id, &v1("203.0.113.66"));
            world.type_wire(id, b"noise");
        }
    }
    let vm = vm_behind(&mut world, &v2([203, 0, 113, 9]), 1);
    assert!(world.is_open(vm) && world.console(uuid(1)).is_some());
    for _ in 0..40 {
        if let Some(id) = world.connect_to_vms(Part::Mute) {
            world.type_wire(id, &v1("203.0.113.66"));
            world.type_wire(id, b"noise");
        }
    }
    assert!(world.is_open(vm));
    let _: SocketAddr = told_from(&world, |told| *told == EventKind::VmIdentified).parse().unwrap();
}
