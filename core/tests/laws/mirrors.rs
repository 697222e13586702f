//! What mirrors of the engine's state live on: changes, getters, and what was kept over a restart.

use std::net::IpAddr;
use std::time::Duration;

use vspc_core::concentrator::{
    CommandError, Config, ConsoleId, Identity, LocalOptions, PortRange, Reservation, Speaks,
};

use vspc_core::vmware::VmConfig;

use crate::world::{Kind, World, show, uuid, vm_config};

fn config() -> Config {
    Config {
        client_ports: Some(PortRange { first: 50000, last: 50003 }),
        vm_expire: Duration::from_secs(100),
        ..Config::default()
    }
}

fn identity(n: u8) -> Identity {
    Identity::of(uuid(n))
}

/// What a mirror knows of a console.
type Known = (String, Option<u16>, usize, usize, bool, bool);

/// Reads anew what was told to have changed, and holds it against the engine's own list.
fn reflect(world: &mut World, mirror: &mut std::collections::BTreeMap<ConsoleId, Known>) {
    for id in std::mem::take(&mut world.changed) {
        match world.engine.console(id) {
            Some(view) => {
                let label = view.label;
                let known =
                    (label.name.clone(), label.port, view.vms, view.clients, view.moving, view.shared);
                mirror.insert(id, known);
            }
            None => drop(mirror.remove(&id)),
        }
    }
    let truth: std::collections::BTreeMap<_, _> = world
        .engine
        .consoles()
        .map(|view| {
            let label = view.label;
            (label.id, (label.name.clone(), label.port, view.vms, view.clients, view.moving, view.shared))
        })
        .collect();
    assert_eq!(*mirror, truth);
}

#[test]
fn whoever_reads_what_changed_knows_what_is() {
    let mut world = World::new(config());
    let mut mirror = std::collections::BTreeMap::new();
    let vm = world.vm(vm_config(1));
    reflect(&mut world, &mut mirror);
    let client = world.client(uuid(1), Kind::Telnet);
    reflect(&mut world, &mut mirror);
    world.host(vm).session.begin(b"move");
    world.settle();
    reflect(&mut world, &mut mirror);
    world.host(vm).session.abort();
    world.settle();
    reflect(&mut world, &mut mirror);
    let second = world.vm(vm_config(1));
    reflect(&mut world, &mut mirror);
    let copy = world.vm(VmConfig { name: "a copy".into(), ..vm_config(1) });
    world.pass(Duration::from_secs(40));
    assert!(mirror.len() == 1 && world.engine.consoles().all(|view| view.shared), "they are told apart");
    reflect(&mut world, &mut mirror);
    world.end(copy);
    world.reset(client);
    world.end(vm);
    reflect(&mut world, &mut mirror);
    world.end(second);
    reflect(&mut world, &mut mirror);
    world.pass(Duration::from_secs(101));
    reflect(&mut world, &mut mirror);
    assert!(mirror.is_empty());
}

#[test]
fn printing_changes_nothing_that_a_mirror_keeps() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    world.changed.clear();
    for _ in 0..10 {
        world.print(vm, b"a line\r\n");
    }
    assert!(world.changed.is_empty());
}

#[test]
fn a_restored_console_has_its_port_again_at_once_and_its_vm_gets_it() {
    let mut world = World::new(config());
    let mut kept = Reservation::new(identity(1));
    (kept.name, kept.port) = ("vm01".to_owned(), Some(50002));
    kept.stayed = Duration::from_secs(3600);
    kept.home = Some(IpAddr::from([192, 0, 2, 7]));
    let id = world.engine.restore(kept, world.now).unwrap();
    world.settle();
    let early = world.client(uuid(1), Kind::Telnet);
    assert!(world.seen(early).contains("connected to vm01; VM is not connected"));
    world.vm(vm_config(2));
    world.vm(vm_config(1));
    let ports = (world.port(uuid(1)), world.port(uuid(2)));
    assert_eq!(ports, (Some(50002), Some(50000)), "whichever comes first");
    world.pass(Duration::from_secs(60));
    let view = world.engine.console(id).unwrap();
    assert!(view.stayed >= Duration::from_secs(3660));
    assert_eq!(view.home, Some(IpAddr::from([192, 0, 2, 7])));
}

#[test]
fn a_port_is_kept_once_that_was_reported_of_it_and_of_no_other() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = world.console(uuid(1)).unwrap().label.id;
    let is_kept = |world: &World| world.engine.console(id).unwrap().kept;
    world.changed.clear();
    world.engine.handle_kept(id, 50001, world.now);
    world.settle();
    assert!(!is_kept(&world) && world.changed.is_empty(), "that is not its port");
    world.engine.handle_kept(id, 50000, world.now);
    world.settle();
    assert!(is_kept(&world) && world.changed == [id].into());
    world.end(vm);
    assert!(is_kept(&world));
    world.changed.clear();
    world.engine.handle_kept(id, 50000, world.now);
    world.settle();
    assert!(world.changed.is_empty(), "it is no news");
    world.pass(Duration::from_secs(101));
    world.engine.handle_kept(id, 50000, world.now);
    assert!(world.console(uuid(1)).is_none());
}

#[test]
fn a_port_is_a_restored_consoles_also_while_it_is_being_opened() {
    let mut world = World::new(config());
    let kept = Reservation { port: Some(50002), ..Reservation::new(identity(1)) };
    let id = world.engine.restore(kept, world.now).unwrap();
    let view = world.engine.console(id).unwrap();
    assert_eq!((view.label.port, view.claims), (None, Some(50002)));
    world.settle();
    let view = world.engine.console(id).unwrap();
    assert_eq!((view.label.port, view.claims), (Some(50002), Some(50002)));
}

#[test]
fn a_vm_waits_for_a_port_that_is_granted_and_nobody_yields_one_for_it() {
    let range = PortRange { first: 50176, last: 50177 };
    let mut world =
        World::new(Config { client_ports: Some(range), ports_by_grant: true, ..Config::default() });
    world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), None);
    world.engine.grant_ports(&[196], true, world.now);
    world.settle();
    assert_eq!(world.port(uuid(1)), Some(50176));
    let second = world.vm(vm_config(2));
    world.end(second);
    world.vm(vm_config(3));
    assert_eq!((world.port(uuid(2)), world.port(uuid(3))), (Some(50177), None), "more may come");
    world.engine.grant_ports(&[], false, world.now);
    world.settle();
    assert_eq!(world.port(uuid(3)), Some(50177), "there are no more: who is not there yields");
    world.engine.revoke_ports(196, world.now);
    world.settle();
    assert_eq!(world.port(uuid(1)), Some(50176), "it keeps what it has");
}

#[test]
fn a_restored_console_expires_as_if_there_had_been_no_restart() {
    let mut world = World::new(config());
    let mut kept = Reservation::new(identity(1));
    kept.idle_for = Duration::from_secs(90);
    world.engine.restore(kept, world.now).unwrap();
    world.settle();
    world.pass(Duration::from_secs(9));
    assert!(world.console(uuid(1)).is_some());
    world.pass(Duration::from_secs(2));
    assert!(world.console(uuid(1)).is_none());
}

#[test]
fn what_cannot_be_restored_changes_nothing() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let with_port = |n, port| Reservation { port: Some(port), ..Reservation::new(identity(n)) };
    let rows = [
        (Reservation::new(identity(1)), CommandError::AlreadyThere),
        (with_port(2, 50000), CommandError::PortNotFree(50000)),
        (with_port(2, 49999), CommandError::PortNotFree(49999)),
    ];
    for (reservation, error) in rows {
        assert_eq!(world.engine.restore(reservation, world.now), Err(error));
        assert_eq!(world.engine.consoles().count(), 1);
    }
    assert!(world.engine.restore(with_port(2, 50001), world.now).is_ok());
    world.settle();
}

#[test]
fn a_console_is_found_by_name_and_by_uuid_in_any_spelling() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    world.vm(vm_config(2));
    let id = world.console(uuid(1)).unwrap().label.id;
    for text in [
        "vm01",
        "01010101-0101-0101-0101-010101010101",
        "01010101010101010101010101010101",
        "01 01 01 01 01 01 01 01-01 01 01 01 01 01 01 01",
    ] {
        assert_eq!(world.engine.find(text).collect::<Vec<_>>(), [id], "{text}");
    }
    for text in ["", "vm0", "VM01", "vm03", "010101"] {
        assert_eq!(world.engine.find(text).count(), 0, "{text}");
    }
}

#[test]
fn clients_are_told_with_what_they_were_found_to_be() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let telnet = world.client(uuid(1), Kind::Telnet);
    let raw = world.client(uuid(1), Kind::Raw);
    let id = world.console(uuid(1)).unwrap().label.id;
    let speaks = |world: &World| -> Vec<_> {
        world.engine.clients(id).map(|client| (client.id, client.speaks, client.has_ended)).collect()
    };
    assert_eq!(speaks(&world), [(telnet, Speaks::Telnet, false), (raw, Speaks::Undecided, false)]);
    world.pass(Duration::from_secs(2));
    world.end(raw);
    assert_eq!(speaks(&world), [(telnet, Speaks::Telnet, false), (raw, Speaks::Raw, true)]);
}

/// What a server had logged before it was killed.
const OLD: &[u8] = b"Linux 6.1\r\nlogin: \xff\xff\r\n";

fn with_room(restored_output: usize) -> Config {
    Config { restored_output, client_scrollback: 100, banner: false, ..config() }
}

#[test]
fn output_from_before_a_restart_comes_first_for_who_comes_whatever_was_printed_since() {
    for printed in [&b""[..], b"hello\xff\r\n"] {
        let mut world = World::new(with_room(1000));
        let vm = world.vm(vm_config(1));
        let (early, log) = (world.client(uuid(1), Kind::Telnet), {
            let all = LocalOptions::witness().scrollback(usize::MAX);
            world.open_local(uuid(1), all)
        });
        world.pass(Duration::from_secs(2));
        world.print(vm, printed);
        let console = world.console(uuid(1)).unwrap().label.id;
        assert_eq!(world.engine.restore_output(console, OLD, world.now), OLD.len());
        world.settle();
        world.print(vm, b"more");
        let late = world.client(uuid(1), Kind::Telnet);
        world.pass(Duration::from_secs(2));
        let since = [printed, b"more"].concat();
        assert_eq!(world.seen(log), show(&since), "it has the old bytes already");
        assert_eq!(world.seen(early), show(&since));
        assert_eq!(world.seen(late), show(&[OLD, &since].concat()));
        assert_eq!(world.engine.totals().bytes_from_vm, since.len() as u64, "the old ones count no more");
    }
}

#[test]
fn output_from_before_a_restart_is_put_back_once_and_no_more_than_there_is_room_for() {
    let mut world = World::new(with_room(1));
    let id = world.engine.restore(Reservation::new(identity(1)), world.now).unwrap();
    assert_eq!(world.engine.restore_output(id, &[b'x'; 20_000], world.now), 16 << 10);
    assert_eq!(world.engine.restore_output(id, OLD, world.now), 0, "there is some already");
    let mut none = World::new(with_room(0));
    let id = none.engine.restore(Reservation::new(identity(1)), none.now).unwrap();
    assert_eq!(none.engine.restore_output(id, OLD, none.now), 0);
    let small = Config { journal_memory: 16 << 10, ..with_room(32 << 10) };
    let mut short = World::new(small);
    let id = short.engine.restore(Reservation::new(identity(1)), short.now).unwrap();
    assert_eq!(short.engine.restore_output(id, &[b'x'; 10 << 10], short.now), 0, "others may need that");
    assert_eq!(short.engine.restore_output(id, OLD, short.now), OLD.len());
    let gone = ConsoleId::from_bits(77);
    assert_eq!(short.engine.restore_output(gone, OLD, short.now), 0);
}

#[test]
fn old_output_gives_way_before_what_was_printed_since() {
    let mut world = World::new(Config { journal_memory: 24 << 10, ..with_room(8 << 10) });
    let vm = world.vm(vm_config(1));
    world.print(vm, b"of today");
    let old = world.engine.restore(Reservation::new(identity(2)), world.now).unwrap();
    assert_eq!(world.engine.restore_output(old, &[b'~'; 8 << 10], world.now), 8 << 10);
    let busy = world.vm(vm_config(3));
    world.print(busy, &[b'x'; 200 << 10]);
    let mut shown = |n| {
        let client = world.client(uuid(n), Kind::Telnet);
        world.pass(Duration::from_secs(2));
        world.seen(client)
    };
    assert_eq!(shown(1), "of today");
    let old = shown(2);
    assert!(!old.contains('~'), "it was the first to go: {old}");
}

#[test]
fn overtaken_console_takes_no_old_output() {
    let mut world = World::new(with_room(1000));
    let vm = world.vm(vm_config(1));
    world.print(vm, &[b'x'; 64 << 10]);
    let console = world.console(uuid(1)).unwrap().label.id;
    assert_eq!(world.engine.restore_output(console, OLD, world.now), 0, "there would be a hole behind it");
}
