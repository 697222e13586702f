//! Law 13, consoles: when ports, descriptors or the cap on unused consoles run out, one that nobody uses
//! yields, the one whose VM was connected for the shortest time in total first.

use std::net::Ipv4Addr;
use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, PortRange};
use vspc_core::vmware::{Uuid, VmConfig};

use crate::world::peer::Host;
use crate::world::{Kind, Part, World};

const SECOND: Duration = Duration::from_secs(1);
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn uuid(n: u32) -> Uuid {
    Uuid::from_bytes(u128::from(n).to_be_bytes())
}

fn vm_config(n: u32) -> VmConfig {
    VmConfig { name: format!("vm{n}"), vc_uuid: Some(uuid(n)), ..crate::world::vm_config(1) }
}

fn with_ports(count: u16) -> Config {
    let client_ports = Some(PortRange { first: 50000, last: 50000 + count - 1 });
    Config { client_ports, vm_expire: Duration::from_secs(86_400), ..Config::default() }
}

fn comes_and_goes(world: &mut World, n: u32, stays: Duration) {
    let vm = world.vm(vm_config(n));
    world.pass(stays);
    world.end(vm);
}

fn yielded(world: &World) -> usize {
    world.told(|kind| *kind == EventKind::ConsoleYielded)
}

#[test]
fn nothing_yields_before_its_time_while_there_is_room() {
    let mut world = World::new(with_ports(10));
    for n in 1..=10 {
        comes_and_goes(&mut world, n, SECOND);
    }
    world.pass(Duration::from_secs(86_000));
    assert_eq!(world.engine.consoles().count(), 10);
    assert_eq!(yielded(&world), 0);
}

/// Ports that are kept for VMs that were there for long are no descriptors for others, though nothing is
/// reserved beside them.
#[test]
fn never_are_there_more_connections_and_ports_than_descriptors() {
    let max_descriptors = 100;
    let mut world = World::new(Config { max_descriptors, ..with_ports(1000) });
    for n in 1..=30 {
        comes_and_goes(&mut world, n, TEN_MINUTES);
    }
    for n in 100..300 {
        world.from = Ipv4Addr::new(198, 51, 100, n as u8);
        // Some are turned away.
        let _ = world.connect_to_vms(Part::Host(Host::new(vm_config(n))));
        if n % 10 == 0 {
            world.settle();
        }
        assert!(world.open() <= max_descriptors, "{} with vm {n}", world.open());
    }
    assert!((1..=30).all(|n| world.port(uuid(n)).is_some()));
}

/// Whoever looks at the ports of consoles that nobody uses, the one that would yield next among them, costs
/// other such consoles theirs, and no VM.
#[test]
fn a_vm_keeps_its_port_while_others_yield_to_clients_of_consoles_that_nobody_uses() {
    let mut world = World::new(Config { max_descriptors: 40, ..with_ports(1000) });
    world.vm(vm_config(1));
    for n in 100..140 {
        comes_and_goes(&mut world, n, Duration::ZERO);
    }
    let vms_port = world.port(uuid(1));
    for _ in 0..20 {
        // Of those that were there for equally long the first in the table.
        let unused = world.engine.consoles().filter(|console| console.vms == 0);
        let next = unused.filter_map(|console| Some((console.label.id, console.label.port?))).min();
        let Some((_, port)) = next else { break };
        let _ = world.connect_to(port, Part::Mute);
        world.settle();
        assert_eq!(world.port(uuid(1)), vms_port);
    }
    assert!(yielded(&world) > 0);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::PortShed(_))), 0);
}

#[test]
fn made_up_vms_take_no_port_from_a_real_one() {
    let mut world = World::new(with_ports(20));
    comes_and_goes(&mut world, 1, TEN_MINUTES);
    for n in 100..500 {
        comes_and_goes(&mut world, n, Duration::from_millis(1));
    }
    let kept = world.port(uuid(1));
    assert_eq!(kept, Some(50000), "a vm that was there for ten minutes keeps its port");
    let real = world.vm(vm_config(2));
    assert!(world.port(uuid(2)).is_some());
    world.end(real);
    world.pass(SECOND);
    assert!(world.port(uuid(1)).is_some());
    assert_eq!(yielded(&world), 400 + 1 - 19);
    let without_port = world.events.iter().filter(|event| {
        event.kind == EventKind::VmIdentified
            && event.console.as_ref().is_some_and(|label| label.port.is_none())
    });
    assert_eq!(without_port.count(), 0, "each is told of with its port");
}

#[test]
fn the_shortest_connected_yields_first_summed_over_its_connections() {
    let mut world = World::new(with_ports(3));
    for stay in [5, 5, 5] {
        comes_and_goes(&mut world, 1, stay * SECOND);
    }
    comes_and_goes(&mut world, 2, 10 * SECOND);
    comes_and_goes(&mut world, 3, 12 * SECOND);
    world.vm(vm_config(4));
    assert!(world.console(uuid(2)).is_none(), "ten seconds are less than three times five");
    assert!(world.console(uuid(1)).is_some() && world.console(uuid(3)).is_some());
}

#[test]
fn a_newcomer_takes_from_one_that_was_used_for_long_only_after_ten_minutes_of_its_own() {
    let mut world = World::new(with_ports(1));
    comes_and_goes(&mut world, 1, TEN_MINUTES);
    let vm = world.vm(vm_config(2));
    assert_eq!(world.port(uuid(2)), None);
    assert_eq!(world.told(|kind| *kind == EventKind::PortsExhausted), 1, "the log says so");
    world.pass(TEN_MINUTES - 10 * SECOND);
    assert_eq!(world.port(uuid(2)), None);
    world.pass(20 * SECOND);
    assert_eq!(world.port(uuid(2)), Some(50000));
    assert!(world.console(uuid(1)).is_none() && world.is_open(vm));
    assert_eq!(world.told(|kind| *kind == EventKind::PortOpened(50000)), 1);
    assert_eq!(world.told(|kind| *kind == EventKind::PortsExhausted), 1, "once");
}

#[test]
fn a_client_alone_keeps_only_the_console_of_a_vm_that_was_there_for_ten_minutes() {
    for (stayed, keeps) in [(60 * SECOND, false), (TEN_MINUTES, true)] {
        let mut world = World::new(with_ports(1));
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), Kind::Telnet);
        world.pass(stayed);
        world.end(vm);
        world.vm(vm_config(2));
        assert_eq!(world.port(uuid(2)).is_none(), keeps, "{stayed:?}");
        assert_eq!(world.is_open(client), keeps, "{stayed:?}");
    }
}

#[test]
fn a_console_in_use_never_yields() {
    let mut world = World::new(with_ports(2));
    let first = world.vm(vm_config(1));
    world.vm(vm_config(2));
    world.vm(vm_config(3));
    assert_eq!(world.port(uuid(3)), None);
    assert_eq!(yielded(&world), 0);
    world.end(first);
    world.pass(6 * SECOND);
    assert_eq!(world.port(uuid(3)), Some(50000), "its port is passed on as soon as that is not used");
}

#[test]
fn there_are_no_more_unused_consoles_than_the_cap() {
    let mut world = World::new(Config { max_consoles: 50, client_ports: None, ..Config::default() });
    comes_and_goes(&mut world, 1, TEN_MINUTES);
    for n in 100..1000 {
        comes_and_goes(&mut world, n, Duration::ZERO);
        assert!(world.engine.consoles().count() <= 51);
    }
    assert!(world.console(uuid(1)).is_some());
}

#[test]
fn consoles_that_nobody_uses_yield_when_descriptors_run_short() {
    let mut world = World::new(Config { max_descriptors: 40, ..with_ports(1000) });
    for n in 100..200 {
        comes_and_goes(&mut world, n, Duration::ZERO);
    }
    for n in 1..=10 {
        let vm = world.vm(vm_config(n));
        assert!(world.is_open(vm) && world.port(uuid(n)).is_some(), "vm {n}");
    }
}

#[test]
fn a_client_gets_in_where_consoles_that_nobody_uses_hold_the_descriptors() {
    let mut world = World::new(Config { max_descriptors: 40, ..with_ports(1000) });
    world.vm(vm_config(1));
    for n in 100..200 {
        comes_and_goes(&mut world, n, Duration::ZERO);
    }
    for _ in 0..10 {
        let client = world.client(uuid(1), Kind::Telnet);
        assert!(world.is_open(client));
    }
}

#[test]
fn a_vm_that_was_off_for_a_month_gets_its_port_again_unless_that_was_needed() {
    let mut world = World::new(with_ports(10));
    for n in 1..=3 {
        comes_and_goes(&mut world, n, TEN_MINUTES);
    }
    world.pass(Duration::from_secs(30 * 86_400));
    assert_eq!(world.engine.consoles().count(), 0);
    world.vm(vm_config(4));
    assert_eq!(world.port(uuid(4)), Some(50003), "a port that nobody has had comes first");
    world.vm(vm_config(2));
    assert_eq!(world.port(uuid(2)), Some(50001));
}

/// Connections that say who they are and stay: a descriptor each, and one for their client port.
fn crowd_identifies(world: &mut World, from: Ipv4Addr, numbers: std::ops::Range<u32>) -> Vec<ConnId> {
    world.from = from;
    numbers.map(|n| world.vm(vm_config(n))).collect()
}

fn with_port(world: &World, numbers: std::ops::Range<u32>) -> usize {
    numbers.filter(|&n| world.port(uuid(n)).is_some()).count()
}

#[test]
fn client_ports_of_a_crowd_that_has_only_just_come_are_closed_for_vms_of_other_addresses() {
    let mut world = World::new(Config { max_descriptors: 257, ..with_ports(1000) });
    world.from = HOST;
    let settled = world.vm(vm_config(1));
    world.pass(TEN_MINUTES);
    let crowd = crowd_identifies(&mut world, CROWD, 1000..1120);
    let client = world.client(uuid(1119), Kind::Telnet);
    world.from = HOST;
    for n in 10..40 {
        let vm = world.vm(vm_config(n));
        assert!(world.is_open(vm) && world.port(uuid(n)).is_some(), "{n} is served, with a port");
        assert!(world.open() <= 257, "{} descriptors are taken", world.open());
    }
    assert!(world.is_open(settled) && world.port(uuid(1)) == Some(50000), "who is settled keeps its port");
    assert!(crowd.iter().all(|&vm| world.is_open(vm)), "who has a uuid is never closed for others");
    assert!(world.is_open(client), "nor who is at its console");
    let left = with_port(&world, 1000..1120);
    assert!((60..120).contains(&left), "{left} of the crowd still have a port");
    assert!(world.port(uuid(1000)).is_some() && world.port(uuid(1119)).is_none(), "the newest lose theirs");
    let told = world.told(|kind| matches!(kind, EventKind::PortShed(_)));
    assert_eq!(told, 120 - left, "the log names each");
}

#[test]
fn ports_that_were_closed_for_newcomers_open_again_once_there_is_room_for_more_newcomers_too() {
    let mut world = World::new(Config { max_descriptors: 257, ..with_ports(1000) });
    let crowd = crowd_identifies(&mut world, CROWD, 1000..1128);
    world.from = HOST;
    for n in 10..20 {
        world.vm(vm_config(n));
    }
    assert!(with_port(&world, 1088..1128) < 40);
    world.pass(60 * SECOND);
    assert!(with_port(&world, 1088..1128) < 40, "not while the last eighth is in use");
    for &vm in &crowd[..40] {
        world.end(vm);
    }
    world.pass(Duration::from_secs(90_000));
    assert_eq!(with_port(&world, 1040..1128), 88);
    assert!(world.told(|kind| matches!(kind, EventKind::PortOpened(_))) > 0);
}

#[test]
fn a_vm_whose_port_was_closed_takes_that_of_a_console_that_nobody_uses() {
    let mut world = World::new(Config { max_descriptors: 257, ..with_ports(1000) });
    let crowd = crowd_identifies(&mut world, CROWD, 1000..1128);
    world.from = HOST;
    for n in 10..20 {
        world.vm(vm_config(n));
    }
    assert!(with_port(&world, 1088..1128) < 28);
    for &vm in &crowd[..40] {
        world.end(vm);
    }
    world.pass(5 * SECOND);
    assert_eq!(with_port(&world, 1088..1128), 40, "who is connected goes before who is not");
    assert!(yielded(&world) > 0);
    assert!(world.open() <= 257, "{} descriptors are taken", world.open());
}

#[test]
fn a_newcomer_of_the_crowds_own_address_is_served_too() {
    let mut world = World::new(Config { max_descriptors: 257, ..with_ports(1000) });
    let crowd = crowd_identifies(&mut world, CROWD, 1000..1200);
    assert!(crowd.iter().all(|&vm| world.is_open(vm)));
    let newest = world.vm(vm_config(1));
    assert!(world.is_open(newest) && world.port(uuid(1)).is_some());
    assert!(world.open() <= 257, "{} descriptors are taken", world.open());
}

#[test]
fn strangers_that_say_nothing_have_hardly_any_port_closed() {
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { max_descriptors: 257, ..with_ports(1000) });
    crowd_identifies(&mut world, CROWD, 1000..1128);
    for from in [CROWD, HOST] {
        world.from = from;
        let strangers = (0..500).filter_map(|_| world.connect_to_vms(Part::Mute)).count();
        assert!(strangers > 0);
        world.pass(SECOND);
    }
    assert!(with_port(&world, 1000..1128) >= 112);
}

const CROWD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
