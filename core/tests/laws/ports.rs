//! Client ports: whose they are, for how long, and what happens when there are none.

use std::time::Duration;

use vspc_core::concentrator::{Config, EventKind, PortRange};

use crate::world::{Client, Kind, Part, World, uuid, vm_config};

fn config(first: u16, last: u16) -> Config {
    Config {
        client_ports: Some(PortRange { first, last }),
        vm_expire: Duration::from_secs(100),
        ..Config::default()
    }
}

#[test]
fn a_console_keeps_its_port_until_vm_and_clients_have_been_gone_for_the_expiry_time() {
    let mut world = World::new(config(50000, 50009));
    let vm = world.vm(vm_config(1));
    world.vm(vm_config(2));
    assert_eq!((world.port(uuid(1)), world.port(uuid(2))), (Some(50000), Some(50001)));
    let client = world.client(uuid(1), Kind::Telnet);
    world.end(vm);
    world.pass(Duration::from_secs(1000));
    assert_eq!(world.port(uuid(1)), Some(50000), "a client is there");
    world.reset(client);
    world.pass(Duration::from_secs(99));
    let again = world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), Some(50000), "it is back in time");
    world.end(again);
    world.pass(Duration::from_secs(101));
    assert_eq!(world.port(uuid(1)), None);
    assert_eq!(world.told(|what| *what == EventKind::ConsoleExpired), 1);
    world.vm(vm_config(3));
    assert_eq!(world.port(uuid(3)), Some(50002), "the lowest that nobody has had");
    world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), Some(50000), "the one it last had");
}

#[test]
fn a_client_stays_while_its_vm_reboots_and_the_same_console_goes_on() {
    let mut world = World::new(Config { banner: false, ..config(50000, 50009) });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.print(vm, b"going down ");
    world.end(vm);
    world.type_wire(client, b"to nobody");
    let again = world.vm(vm_config(1));
    world.print(again, b"up");
    world.type_wire(client, b"hello");
    assert_eq!(world.seen(client), "going down up");
    assert_eq!(world.typed(again), "hello");
    assert_eq!(world.engine.totals().input_dropped, 9);
}

#[test]
fn a_port_that_something_else_holds_is_passed_over_and_costs_nobody_a_connection() {
    let mut world = World::new(config(50000, 50003));
    world.foreign_ports.extend([50000, 50002]);
    let vms: Vec<_> = (1..=3).map(|n| world.vm(vm_config(n))).collect();
    assert_eq!([1, 2, 3].map(|n| world.port(uuid(n))), [Some(50001), Some(50003), None]);
    assert!(vms.iter().all(|&vm| world.is_open(vm)));
    assert_eq!(world.told(|what| matches!(what, EventKind::PortTaken(..))), 2);
    assert_eq!(world.told(|what| *what == EventKind::PortsExhausted), 1);
    world.foreign_ports.clear();
    world.pass(Duration::from_secs(70));
    assert_eq!(world.port(uuid(3)), Some(50000), "looked at again after a while");
}

#[test]
fn of_many_ports_that_something_else_holds_a_console_tells_the_first() {
    let mut world = World::new(config(50000, 50019));
    world.foreign_ports.extend(50000..50010);
    world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), Some(50010));
    assert_eq!(world.told(|what| matches!(what, EventKind::PortTaken(50000, _))), 1);
    assert_eq!(world.told(|what| matches!(what, EventKind::PortTaken(..))), 1);
}

#[test]
fn exhaustion_is_reported_and_who_waits_is_served_when_a_port_comes_free() {
    let mut world = World::new(config(50000, 50000));
    let one = world.vm(vm_config(1));
    let two = world.vm(vm_config(2));
    let three = world.vm(vm_config(3));
    assert_eq!(world.told(|what| *what == EventKind::PortsExhausted), 2);
    assert_eq!(world.told(|what| *what == EventKind::VmIdentified), 3, "served all the same");
    world.pass(Duration::from_secs(60));
    assert_eq!(world.told(|what| *what == EventKind::PortsExhausted), 2, "said once each");
    world.end(one);
    world.pass(Duration::from_secs(110));
    assert_eq!(world.port(uuid(2)), Some(50000), "who waits longest is served first");
    assert!(world.is_open(two) && world.is_open(three));
}

#[test]
fn without_a_range_there_are_no_client_ports() {
    let mut world = World::new(Config { client_ports: None, ..Config::default() });
    world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), None);
    assert_eq!(world.told(|what| *what == EventKind::VmIdentified), 1);
    assert_eq!(world.listening.len(), 1);
}

#[test]
fn a_console_may_expire_while_its_last_client_is_still_being_shown_the_door() {
    // The farewell outlives the console it was about.
    let mut world =
        World::new(Config { vm_expire: Duration::ZERO, max_clients: Some(1), ..config(50000, 50009) });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Raw);
    world.stall(client, 0);
    world.print(vm, b"x");
    world.engine.kick(client, world.now).unwrap();
    world.drain();
    let over = {
        world.stall(client, 0);
        world.connect_to(50000, Part::Client(Client::new(Kind::Raw))).unwrap()
    };
    let late = world.connect_to(50000, Part::Client(Client::new(Kind::Raw))).unwrap();
    world.stall(late, 3);
    world.end(vm);
    world.reset(over);
    world.pass(Duration::from_millis(1));
    assert!(world.console(uuid(1)).is_none());
    world.unstall(late);
    assert!(world.seen(late).contains("as many clients as it may have"));
    assert_eq!(world.seen(late).matches("This console").count(), 1);
    assert!(!world.is_open(late));
}
