//! Law 10: a whole fleet that connects at one moment is served, whoever else is there; connections are turned
//! away only when descriptors run short, and only those that are nobody yet.

use std::net::Ipv4Addr;
use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, ConnId, EventKind};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Message, Uuid, VmConfig};

use crate::world::{Client, Host, Kind, Part, World, uuid, vm_config};

/// How many VMs connect; each needs a connection and a client port.
const FLEET: u32 = if crate::SEALED { 90 } else { 9000 };

const STRANGERS: u32 = 10_000;

fn world_of_descriptors(max_descriptors: usize) -> World {
    World::new(Config { max_descriptors, max_clients: None, banner: false, ..Config::default() })
}

/// Every VM of a fleet connects before any of them has been answered; `None`: it was refused.
fn fleet_connects(world: &mut World, from: impl Fn(u32) -> Ipv4Addr) -> Vec<Option<ConnId>> {
    let connects = |n: u32| {
        let vc_uuid = Some(Uuid::from_bytes(u128::from(n + 1).to_be_bytes()));
        let config = VmConfig { name: format!("vm{n}"), vc_uuid, offers_auth: true, ..VmConfig::default() };
        world.from = from(n);
        let id = world.connect_to_vms(Part::Host(Host::new(config)))?;
        // Its socket has taken what it is told, and what hosts say first is read; but two seconds pass before
        // any of them hears a word.
        world.now = world.now + Duration::from_secs(2) / FLEET;
        world.pull(id, usize::MAX);
        world.exchange(id, 0);
        world.feed(id, usize::MAX);
        Some(id)
    };
    (0..FLEET).map(connects).collect()
}

/// Everyone of the fleet is connected and has its console, and a moment later its port.
fn assert_served(world: &mut World, fleet: &[Option<ConnId>]) {
    let with_console = world.engine.consoles().filter(|console| console.vms == 1).count();
    assert_eq!(with_console, FLEET as usize);
    world.pass(Duration::from_secs(1));
    let refused = fleet.iter().filter(|vm| vm.is_none()).count();
    let cut = fleet.iter().flatten().filter(|&&vm| !world.is_open(vm)).count();
    assert_eq!((refused, cut), (0, 0), "refused, cut");
    let served = world.engine.consoles().filter(|console| console.vms == 1 && console.label.port.is_some());
    assert_eq!(served.count(), FLEET as usize);
}

fn one_address(_: u32) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1)
}

fn an_address_each(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + n)
}

fn strangers_connect(world: &mut World, from: Ipv4Addr) -> Vec<Option<ConnId>> {
    world.from = from;
    let strangers = (0..STRANGERS).map(|_| world.connect_to_vms(Part::Mute)).collect();
    world.settle();
    strangers
}

#[test]
fn a_fleet_that_connects_at_one_moment_is_served_from_many_addresses_and_through_one() {
    for from in [an_address_each, one_address] {
        // A listener, and two descriptors for each VM; nothing is spare.
        let mut world = world_of_descriptors(1 + 2 * FLEET as usize);
        let fleet = fleet_connects(&mut world, from);
        world.settle();
        assert_served(&mut world, &fleet);
    }
}

#[test]
fn a_fleet_of_9000_under_20_000_descriptors_is_served_beside_10_000_silent_strangers_on_its_own_address() {
    // A stranger's handshake is a VM's.
    if crate::SEALED {
        return;
    }
    for after in [Duration::from_millis(10), Duration::from_secs(3)] {
        let mut world = world_of_descriptors(20_000);
        let strangers = strangers_connect(&mut world, one_address(0));
        world.pass(after);
        let fleet = fleet_connects(&mut world, one_address);
        world.settle();
        assert_served(&mut world, &fleet);
        assert!(world.open() <= 20_000, "{} descriptors are taken", world.open());
        // There is still room for some, and they are left alone.
        let left = strangers.iter().flatten().filter(|&&stranger| world.is_open(stranger)).count();
        assert_eq!(left, (20_000 - 1 - 2 * FLEET as usize) / 2);
    }
}

#[test]
fn strangers_that_begin_while_a_fleet_connects_push_out_none_of_it() {
    if crate::SEALED {
        return;
    }
    let mut world = world_of_descriptors(20_000);
    let fleet = fleet_connects(&mut world, one_address);
    strangers_connect(&mut world, one_address(0));
    assert_served(&mut world, &fleet);
}

#[test]
fn while_there_are_descriptors_nobody_is_turned_away() {
    let mut world = world_of_descriptors(1 + 2 * 100);
    let strangers: Vec<_> = (0..100).map(|_| world.stranger()).collect();
    world.settle();
    world.pass(Duration::from_secs(29));
    assert!(strangers.iter().all(|&stranger| world.is_open(stranger)));
    let vm = world.vm(vm_config(1));
    assert!(world.is_open(vm));
    let gone: Vec<_> = strangers.iter().filter(|&&stranger| !world.is_open(stranger)).collect();
    assert_eq!(gone, [&strangers[0]]);
    assert_eq!(world.reason(strangers[0]), Some(CloseReason::Evicted));
    // A runtime that keeps its sockets by slot need not hold both.
    assert_eq!(vm.index(), strangers[0].index());
}

#[test]
fn who_says_nothing_leaves_before_who_says_something_else_and_both_before_who_begins_like_a_vm() {
    // Over TLS a handshake is a beginning.
    if crate::SEALED {
        return;
    }
    let mut world = world_of_descriptors(1 + 2 * 6);
    // What a host says first, and what it says of itself.
    let begun = [37, 232].map(|option| {
        let id = world.stranger();
        world.type_wire(id, &[IAC, 251, option]);
        id
    });
    let noisy = [&b"GET / HTTP/1.1\r\n"[..], b"\xff\xfb\x18", b"SSH-2.0-x\r\n"].map(|words| {
        let id = world.stranger();
        world.type_wire(id, words);
        id
    });
    let silent = world.stranger();
    world.settle();
    world.pass(Duration::from_secs(2));
    for (n, leaves) in [silent, noisy[0], noisy[1], noisy[2]].into_iter().enumerate() {
        assert!(world.is_open(leaves));
        let vm = world.vm(vm_config(n as u8 + 1));
        assert!(world.is_open(vm) && !world.is_open(leaves), "{n}");
    }
    assert!(world.connect_to_vms(Part::Mute).is_none(), "a VM that has begun is not cut for a newcomer");
    assert!(begun.iter().all(|&id| world.is_open(id)));
}

#[test]
fn who_claims_to_be_the_target_of_no_move_leaves_before_who_begins_like_a_vm() {
    if crate::SEALED {
        return;
    }
    let mut world = world_of_descriptors(1 + 2 * 3);
    let begun = world.stranger();
    world.type_wire(begun, &[IAC, 251, 232]);
    let mut peer = vec![IAC, 251, 232];
    Message::VmotionPeer { sequence_and_secret: b"seq0wrongone" }.put(&mut peer);
    let strays = [(); 2].map(|()| {
        let id = world.stranger();
        world.type_wire(id, &peer);
        world.type_wire(id, b"and more");
        id
    });
    world.pass(Duration::from_millis(10));
    for (n, stray) in strays.into_iter().enumerate() {
        let vm = world.vm(vm_config(n as u8 + 1));
        assert!(world.is_open(vm) && !world.is_open(stray) && world.is_open(begun));
    }
    world.pass(Duration::from_secs(31));
    assert!(!world.is_open(begun), "it had its time");
}

#[test]
fn attached_readers_are_never_judged_by_silence() {
    let mut world = world_of_descriptors(40);
    let vm = world.vm(vm_config(1));
    let readers: Vec<_> = (0..35).map(|_| world.client(uuid(1), Kind::Raw)).collect();
    world.pass(Duration::from_secs(100_000));
    world.type_wire(readers[0], b"x");
    let port = world.port(uuid(1)).unwrap();
    assert!(world.connect_to(port, Part::Client(Client::new(Kind::Raw))).is_none());
    assert!(world.is_open(vm) && readers.iter().all(|&reader| world.is_open(reader)));
    assert_eq!(world.told(|what| matches!(what, EventKind::ClientDetached(..))), 0);
}

#[test]
fn an_eighth_of_the_descriptors_is_the_vms_alone() {
    let mut world = world_of_descriptors(80);
    world.vm(vm_config(1));
    let port = world.port(uuid(1)).unwrap();
    let reads = |world: &mut World| world.connect_to(port, Part::Client(Client::new(Kind::Raw))).is_some();
    let readers = (0..100).filter(|_| reads(&mut world)).count();
    assert_eq!(readers, 70);
    // A listener, the first VM, seventy readers: three more VMs fit with their client ports.
    for n in 2..=4 {
        world.vm(vm_config(n));
    }
    assert_eq!(world.engine.consoles().filter(|console| console.label.port.is_some()).count(), 4);
    world.vm(vm_config(5));
    assert_eq!(world.engine.consoles().filter(|console| console.label.port.is_some()).count(), 3);
}

#[test]
fn a_reader_comes_in_where_silent_strangers_have_taken_all() {
    if crate::SEALED {
        return;
    }
    let mut world = world_of_descriptors(41);
    world.vm(vm_config(1));
    let port = world.port(uuid(1)).unwrap();
    let strangers: Vec<_> = (0..19).map(|_| world.stranger()).collect();
    world.settle();
    let reads = |world: &mut World| world.connect_to(port, Part::Client(Client::new(Kind::Raw))).is_some();
    assert!(!reads(&mut world), "they are of its own address, and have only just come");
    world.pass(Duration::from_millis(10));
    assert!(reads(&mut world) && !world.is_open(strangers[0]) && world.is_open(strangers[1]));
}

#[test]
fn of_clients_that_never_shake_hands_the_silent_leave_for_the_next() {
    if !crate::SEALED {
        return;
    }
    let mut world = world_of_descriptors(40);
    world.vm(vm_config(1));
    let port = world.port(uuid(1)).unwrap();
    world.by_hand = true;
    let arrives = |world: &mut World| world.connect_to(port, Part::Client(Client::new(Kind::Raw)));
    let silent: Vec<_> = (0..35).filter_map(|_| arrives(&mut world)).collect();
    assert_eq!(silent.len(), 35);
    assert!(arrives(&mut world).is_none());
    world.pass(Duration::from_secs(2));
    assert!(arrives(&mut world).is_some());
    assert_eq!(world.reason(silent[0]), Some(CloseReason::Evicted));
}
