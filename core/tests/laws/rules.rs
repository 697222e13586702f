//! Rules for certain consoles: their client port, what their clients are, how many, and what becomes of those
//! that do not keep up.

use std::time::Duration;

use vspc_core::concentrator::{
    CloseReason, Config, ConsoleRule, EventKind, Identity, ListenError, PortRange, Reservation, RulePort,
    SlowClient,
};
use vspc_core::vmware::VmConfig;

use crate::world::{Host, Kind, Part, World, uuid, vm_config};

const A_WHILE: Duration = Duration::from_secs(3);

fn named(pattern: &str) -> ConsoleRule {
    ConsoleRule { name: Some(pattern.parse().unwrap()), ..ConsoleRule::default() }
}

fn with(console_rules: Vec<ConsoleRule>) -> World {
    let client_ports = Some(PortRange { first: 50000, last: 50009 });
    World::new(Config { client_ports, console_rules, banner: false, ..Config::default() })
}

fn called(name: &str, n: u8) -> VmConfig {
    VmConfig { name: name.into(), ..vm_config(n) }
}

#[test]
fn a_console_has_the_port_of_its_rule_and_nobody_else_gets_it() {
    for port in [50000, 7001] {
        let mut world = with(vec![ConsoleRule { port: RulePort::This(port), ..named("db*") }]);
        for n in 1..=3 {
            world.vm(called(&format!("web{n}"), n));
        }
        world.vm(called("db1", 4));
        assert_eq!(world.port(uuid(4)), Some(port));
        assert!((1..=3).all(|n| world.port(uuid(n)).is_some_and(|other| other != port)));
        assert_eq!(world.listening.len(), 1 + 4, "no other port was opened for it");
        let told_without = world.events.iter().any(|event| {
            event.kind == EventKind::VmIdentified
                && event.console.as_ref().is_some_and(|label| label.port.is_none())
        });
        assert!(!told_without);
        world.vm(called("db2", 5));
        let second = world.port(uuid(5)).expect("it has one of the range");
        assert_ne!(second, port, "the first has it");
    }
}

#[test]
fn a_port_of_a_rule_that_something_else_holds_is_not_waited_for() {
    let mut world = with(vec![ConsoleRule { port: RulePort::This(50005), ..named("db*") }]);
    world.foreign_ports.insert(50005);
    world.vm(called("db1", 1));
    assert!(world.port(uuid(1)).is_some_and(|port| port != 50005));
    assert_eq!(world.told(|kind| *kind == EventKind::PortTaken(50005, ListenError::InUse)), 1);
}

#[test]
fn a_rename_changes_the_rule_and_the_port_and_nobody_is_cut_off() {
    let mut world = with(vec![ConsoleRule { port: RulePort::This(7001), ..named("db*") }]);
    let vm = world.vm(called("web1", 1));
    let first = world.port(uuid(1)).unwrap();
    assert_ne!(first, 7001);
    let client = world.client(uuid(1), Kind::Telnet);
    world.end(vm);
    let vm = world.vm(called("db1", 1));
    assert_eq!(world.port(uuid(1)), Some(7001));
    world.print(vm, b"still there");
    assert!(world.is_open(client) && world.seen(client).contains("still there"));
    world.end(vm);
    world.vm(called("web1", 1));
    assert_eq!(world.port(uuid(1)), Some(first), "the one that it had last");
}

#[test]
fn a_console_without_a_port_is_never_open_to_clients() {
    let mut world = with(vec![ConsoleRule { port: RulePort::None, ..named("secret") }]);
    // It says who it is, and its name a while later.
    let slow = called("", 1);
    let vm = world.connect_to_vms(Part::Host(Host::new(slow))).unwrap();
    world.settle();
    assert_eq!(world.port(uuid(1)), None);
    assert!(world.is_open(vm));
    let vm = world.vm(called("secret", 2));
    assert_eq!(world.port(uuid(2)), None);
    assert_eq!(world.listening.len(), 1, "the one for VMs");
    assert_eq!(world.told(|kind| *kind == EventKind::VmIdentified), 1);
    world.pass(A_WHILE);
    assert_eq!(world.port(uuid(2)), None);
    world.print(vm, b"x");
    assert!(world.port(uuid(1)).is_some(), "whoever has no name is served by rules for uuids");
}

#[test]
fn rules_go_by_uuid_too_and_the_first_that_matches_counts() {
    let of_uuid = |pattern: String, max_clients| ConsoleRule {
        uuid: Some(pattern.parse().unwrap()),
        max_clients: Some(Some(max_clients)),
        ..ConsoleRule::default()
    };
    let simple = uuid(1).simple().to_string();
    let hyphenated = format!("{}-*-{}", &simple[..8], &simple[20..]);
    for pattern in [simple.clone(), hyphenated] {
        let mut world = with(vec![of_uuid(pattern, 1), of_uuid("*".into(), 2)]);
        for n in 1..=2 {
            world.vm(vm_config(n));
            let clients: Vec<_> = (0..3).map(|_| world.client(uuid(n), Kind::Telnet)).collect();
            let turned_away =
                clients.iter().filter(|&&id| world.reason(id) == Some(CloseReason::TooManyClients)).count();
            assert_eq!(turned_away, 3 - usize::from(n));
        }
    }
}

#[test]
fn clients_of_a_raw_console_are_raw_and_those_of_others_are_not() {
    let mut world = with(vec![ConsoleRule { raw: Some(true), ..named("plc") }]);
    let raw = world.vm(called("plc", 1));
    let client = world.client(uuid(1), Kind::Raw);
    assert!(world.wire(client).is_empty(), "nothing is offered");
    world.type_wire(client, b"\xff\xf1");
    assert_eq!(world.host(raw).typed, b"\xff\xf1");
    world.vm(called("web", 2));
    let client = world.client(uuid(2), Kind::Raw);
    assert!(!world.wire(client).is_empty());
}

#[test]
fn what_becomes_of_slow_clients_is_a_matter_of_the_rule() {
    let mut world = with(vec![
        ConsoleRule { slow_client: Some(SlowClient::Disconnect), ..named("cut") },
        ConsoleRule { slow_client: Some(SlowClient::Wait), ..named("wait") },
    ]);
    for (name, n) in [("cut", 1), ("wait", 2), ("skip", 3)] {
        let vm = world.vm(called(name, n));
        let client = world.client(uuid(n), Kind::Telnet);
        world.pass(A_WHILE);
        world.stall(client, 0);
        for _ in 0..50 {
            if world.engine.receive_window(vm) > 0 {
                world.print(vm, &[b'x'; 64 << 10]);
            }
        }
        assert_eq!(world.engine.receive_window(vm) == 0, name == "wait", "{name}");
        assert_eq!(world.reason(client) == Some(CloseReason::TooSlow), name == "cut", "{name}");
    }
}

#[test]
fn a_console_that_is_put_back_has_the_port_of_its_rule() {
    let mut world = with(vec![
        ConsoleRule { port: RulePort::This(7001), ..named("db*") },
        ConsoleRule { port: RulePort::None, ..named("secret") },
    ]);
    for (n, name, port, has) in
        [(1, "db1", 50003, Some(7001)), (2, "secret", 50004, None), (3, "web", 50005, Some(50005))]
    {
        let mut reservation = Reservation::new(Identity::of(uuid(n)));
        (reservation.name, reservation.port) = (name.into(), Some(port));
        world.engine.restore(reservation, world.now).unwrap();
        world.settle();
        assert_eq!(world.port(uuid(n)), has, "{name}");
    }
    world.vm(called("db1", 1));
    assert_eq!(world.port(uuid(1)), Some(7001));
}
