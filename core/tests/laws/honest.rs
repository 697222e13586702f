//! What hosts and administrators really do, all day long: nobody loses a console, a port or a key by it,
//! whatever is done against strangers that do the same.
//!
//! A stun and a guest at a breakpoint are in `takeover`, which is about such silences.

use std::net::Ipv4Addr;
use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, Severity, TcpState};
use vspc_core::vmware::{Message, Resume, Uuid, VmConfig};

use crate::world::{Kind, World, uuid, vm_config};

const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER_RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn quiet() -> Config {
    Config { banner: false, ..Config::default() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What became of a host that HA gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It lost its power: nobody answers.
    Dark,
    /// Its relay noticed, and closed.
    Closed,
    /// Its relay has not noticed: it acknowledges.
    Unnoticed,
}

fn dies(world: &mut World, vm: ConnId, fate: Fate) {
    let acknowledges = TcpState { outstanding: false, acknowledged: secs(3600), window: Some(65536) };
    match fate {
        Fate::Closed => return world.end(vm),
        Fate::Dark => world.stall(vm, 0),
        Fate::Unnoticed => world.stall(vm, 4096),
    }
    world.link(vm).tcp = Some(match fate {
        Fate::Dark => TcpState { outstanding: true, ..acknowledges },
        Fate::Closed | Fate::Unnoticed => acknowledges,
    });
}

#[test]
fn a_vm_that_ha_starts_again_has_its_console_its_port_and_soon_its_keys() {
    for fate in [Fate::Dark, Fate::Closed, Fate::Unnoticed] {
        for relay in [RELAY, OTHER_RELAY] {
            let mut world = World::new(quiet());
            world.from = RELAY;
            let dead = world.vm(vm_config(1));
            let port = world.port(uuid(1));
            let client = world.client(uuid(1), Kind::Telnet);
            world.pass(secs(100_000));
            dies(&mut world, dead, fate);
            world.pass(secs(20));
            world.from = relay;
            let again = world.vm(vm_config(1));
            if fate != Fate::Unnoticed {
                world.type_wire(client, b"held ");
            }
            world.pass(secs(if fate == Fate::Unnoticed { 32 } else { 2 }));
            world.type_wire(client, b"typed");
            let expected = if fate == Fate::Unnoticed { "typed" } else { "held typed" };
            assert_eq!(world.typed(again), expected, "{fate:?}, back by {relay}");
            world.print(again, b"login: ");
            assert!(world.seen(client).ends_with("login: "));
            assert_eq!((world.port(uuid(1)), world.engine.consoles().count()), (port, 1));
        }
    }
}

#[test]
fn a_vm_with_two_ports_that_ha_starts_again_has_its_keys_at_one_that_lives() {
    let mut world = World::new(quiet());
    let dead = [(); 2].map(|()| world.vm(vm_config(1)));
    let client = world.client(uuid(1), Kind::Telnet);
    dead.into_iter().for_each(|id| dies(&mut world, id, Fate::Dark));
    let again = [(); 2].map(|()| world.vm(vm_config(1)));
    world.type_wire(client, b"held");
    world.pass(secs(5));
    world.type_wire(client, b"!");
    assert_eq!(again.map(|id| world.typed(id)), ["held!", ""]);
}

#[test]
fn two_hundred_vms_that_move_at_once_keep_their_consoles_ports_and_keys() {
    let mut world = World::new(quiet());
    world.from = RELAY;
    let sources: Vec<ConnId> = (1..=200).map(|n| world.vm(vm_config(n))).collect();
    let clients: Vec<ConnId> = (1..=200).map(|n| world.client(uuid(n), Kind::Telnet)).collect();
    let ports: Vec<_> = (1..=200).map(|n| world.port(uuid(n))).collect();
    for n in 1..=200 {
        world.host(sources[usize::from(n) - 1]).session.begin(&[n; 4]);
    }
    world.settle();
    clients.iter().for_each(|&client| world.type_wire(client, b"held "));
    world.from = OTHER_RELAY;
    let mut targets = Vec::new();
    for n in 1..=200 {
        let secret = world.host(sources[usize::from(n) - 1]).secret().expect("goahead");
        let resume = Some(Resume { sequence: vec![n; 4], secret });
        targets.push(world.vm_connects(VmConfig { resume, ..vm_config(n) }));
    }
    world.settle();
    for (&source, &target) in sources.iter().zip(&targets) {
        // Every other source ends before its target completes.
        if source.index() % 2 == 0 {
            world.end(source);
        }
        world.host(target).session.complete();
    }
    world.settle();
    clients.iter().for_each(|&client| world.type_wire(client, b"typed"));
    for n in 1..=200 {
        let at = usize::from(n) - 1;
        assert_eq!(world.typed(targets[at]), "held typed", "vm {n}");
        assert_eq!((world.typed(sources[at]), world.port(uuid(n))), (String::new(), ports[at]));
    }
    assert_eq!(world.engine.consoles().count(), 200);
    assert_eq!(world.told(|what| matches!(what, EventKind::InputTaken { .. })), 0);
}

#[test]
fn two_serial_ports_of_one_vm_without_multi_console_share_a_console_and_are_told_of_once() {
    let mut world = World::new(quiet());
    let ports = [(); 2].map(|()| world.vm(vm_config(1)));
    let client = world.client(uuid(1), Kind::Telnet);
    for hour in 0..24 {
        world.pass(secs(3600));
        ports.into_iter().for_each(|id| world.print(id, b"log"));
        world.type_wire(client, b"k");
        assert_eq!(world.typed(ports[0]).len(), hour + 1);
    }
    assert_eq!(world.seen(client), "log".repeat(48));
    assert_eq!(world.typed(ports[1]), "");
    let told: Vec<_> =
        world.events.iter().filter(|event| matches!(event.kind, EventKind::SecondLeg { .. })).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind, EventKind::SecondLeg { legs: 2, same_address: true });
    assert_eq!(told[0].severity(), Severity::Warn);
    // Both move, as all of a VM's ports do.
    let mut targets = Vec::new();
    for (n, &port) in ports.iter().enumerate() {
        world.host(port).session.begin(&[n as u8; 4]);
        world.settle();
        let secret = world.host(port).secret().expect("goahead");
        let resume = Some(Resume { sequence: vec![n as u8; 4], secret });
        targets.push(world.vm(VmConfig { resume, ..vm_config(1) }));
    }
    world.type_wire(client, b"!");
    for &target in &targets {
        world.host(target).session.complete();
        world.settle();
    }
    ports.into_iter().for_each(|id| world.end(id));
    assert_eq!([world.typed(targets[0]), world.typed(targets[1])], ["!", ""]);
    assert_eq!((world.engine.consoles().count(), world.console(uuid(1)).unwrap().vms), (1, 2));
}

#[test]
fn a_vm_that_is_renamed_and_then_moves_keeps_its_console_and_is_called_so() {
    for renamed_before in [true, false] {
        let mut world = World::new(quiet());
        let source = world.vm(vm_config(1));
        let (port, client) = (world.port(uuid(1)), world.client(uuid(1), Kind::Telnet));
        let named = VmConfig { name: "renamed".into(), ..vm_config(1) };
        if renamed_before {
            world.host(source).session.put(&Message::VmName(b"renamed"));
            world.settle();
        }
        world.host(source).session.begin(b"seq");
        world.settle();
        let secret = world.host(source).secret().expect("goahead");
        let resume = Some(Resume { sequence: b"seq".to_vec(), secret });
        let target = world.vm(VmConfig { resume, ..named });
        world.type_wire(client, b"held");
        world.host(target).session.complete();
        world.end(source);
        world.pass(secs(100));
        assert_eq!(world.typed(target), "held");
        let view = world.console(uuid(1)).unwrap();
        assert_eq!((&*view.label.name, view.label.port, view.shared), ("renamed", port, false));
        assert_eq!(world.engine.consoles().count(), 1);
        assert_eq!(world.told(|what| matches!(what, EventKind::VmRenamed(_))), 1);
    }
}

#[test]
fn copies_of_a_template_that_get_uuids_of_their_own_have_consoles_of_their_own() {
    let mut world = World::new(quiet());
    let template = world.vm(vm_config(1));
    let (port, client) = (world.port(uuid(1)), world.client(uuid(1), Kind::Telnet));
    let own = |n: u16| {
        let mut bytes = [9; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        Uuid::from_bytes(bytes)
    };
    // Deployed at once, they are called and numbered as the template until they are customized.
    let copies: Vec<ConnId> = (0..500).map(|_| world.vm_connects(vm_config(1))).collect();
    world.settle();
    world.type_wire(client, b"k");
    copies.iter().for_each(|&id| world.end(id));
    let customized: Vec<ConnId> = (0..500)
        .map(|n| {
            let config = VmConfig { name: format!("web{n:03}"), vc_uuid: Some(own(n)), ..vm_config(1) };
            world.vm(config)
        })
        .collect();
    world.pass(Duration::from_secs(1));
    world.type_wire(client, b"!");
    assert_eq!((world.typed(template), world.port(uuid(1))), ("k!".into(), port));
    assert_eq!(world.engine.consoles().count(), 501);
    for (n, &id) in customized.iter().enumerate().step_by(50) {
        let client = world.client(own(n as u16), Kind::Raw);
        world.type_wire(client, b"$x");
        assert_eq!(world.typed(id), "$x", "copy {n}");
    }
}

#[test]
fn what_is_printed_on_one_console_is_seen_on_no_other() {
    let mut world = World::new(quiet());
    let vms: Vec<ConnId> = (1..=3).map(|n| world.vm(vm_config(n))).collect();
    let clients: Vec<ConnId> = (1..=3).map(|n| world.client(uuid(n), Kind::Telnet)).collect();
    for (n, &vm) in vms.iter().enumerate() {
        world.print(vm, format!("of vm {n}").as_bytes());
    }
    for (n, &client) in clients.iter().enumerate() {
        assert_eq!(world.seen(client), format!("of vm {n}"));
    }
}
