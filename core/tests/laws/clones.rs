//! Copies of a VM that kept its UUID: a name tells them apart, once both were seen alive.

use std::time::Duration;

use vspc_core::concentrator::{
    Config, ConnId, ConsoleId, EventKind, Identity, Reservation, Severity, Takeover,
};
use vspc_core::vmware::{Message, VmConfig};

use crate::world::{Client, Kind, Part, World, uuid, vm_config};

fn quiet() -> Config {
    Config { banner: false, ..Config::default() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn named(name: &str) -> VmConfig {
    VmConfig { name: name.into(), ..vm_config(1) }
}

/// The console of a name.
fn console(world: &World, name: &str) -> ConsoleId {
    let found: Vec<ConsoleId> = world.engine.find(name).collect();
    assert_eq!(found.len(), 1, "consoles called {name}");
    found[0]
}

fn client(world: &mut World, name: &str) -> ConnId {
    let port = world.engine.console(console(world, name)).unwrap().label.port.expect("it has a port");
    let id = world.connect_to(port, Part::Client(Client::new(Kind::Telnet))).expect("there is room");
    world.settle();
    id
}

/// Who is typed to at the console of a name.
fn reaches(world: &mut World, name: &str, vms: &[ConnId]) -> Option<usize> {
    let typist = client(world, name);
    let before: Vec<String> = vms.iter().map(|&id| world.typed(id)).collect();
    world.type_wire(typist, b"k");
    let at = vms.iter().zip(&before).position(|(&id, before)| world.typed(id) != *before);
    world.reset(typist);
    at
}

/// What a VM says that has this UUID.
fn has_uuid(n: u8) -> Vec<u8> {
    let (mut said, mut text) = (Vec::new(), Vec::new());
    uuid(n).put_vmware(&mut text);
    Message::VmVcUuid(&text).put(&mut said);
    said
}

/// What a VM says that is called so.
fn is_called(name: &str) -> Vec<u8> {
    let mut said = Vec::new();
    Message::VmName(name.as_bytes()).put(&mut said);
    said
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.engine.consoles().map(|console| console.label.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn two_live_vms_of_one_uuid_and_two_names_have_a_console_each() {
    let mut world = World::new(quiet());
    let payroll = world.vm(named("payroll"));
    let reader = client(&mut world, "payroll");
    let copy = world.vm(named("payroll-copy"));
    world.print(copy, b"of the copy");
    world.print(payroll, b"of payroll");
    let vms = [payroll, copy];
    assert_eq!(names(&world), ["payroll", "payroll-copy"]);
    assert_eq!(
        (reaches(&mut world, "payroll", &vms), reaches(&mut world, "payroll-copy", &vms)),
        (Some(0), Some(1))
    );
    let seen = world.seen(reader);
    assert!(seen.contains("of payroll") && !seen.contains("of the copy"), "{seen}");
    assert!(seen.contains("another VM") && seen.contains("payroll-copy"), "{seen}");
    let told: Vec<_> =
        world.events.iter().filter(|event| matches!(event.kind, EventKind::Cloned { .. })).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].kind, EventKind::Cloned { of: "payroll".into() });
    assert_eq!(told[0].severity(), Severity::Warn);
    let label = told[0].console.as_ref().unwrap();
    assert_eq!((&*label.name, &*label.clone), ("payroll-copy", "payroll-copy"));
    assert_eq!(world.told(|what| matches!(what, EventKind::VmRenamed(_))), 0);
}

#[test]
fn what_a_copy_printed_before_it_was_known_for_one_is_shown_in_its_console() {
    let mut world = World::new(Config { client_scrollback: 1000, ..quiet() });
    let payroll = world.vm(named("payroll"));
    let reader = client(&mut world, "payroll");
    world.stall(payroll, 4096);
    let copy = world.vm(named("copy"));
    world.print(copy, b"boot messages");
    assert_eq!(world.seen(reader), "");
    world.unstall(payroll);
    let other = client(&mut world, "copy");
    assert_eq!(world.seen(other), "boot messages");
    assert!(!world.seen(reader).contains("boot messages"));
}

#[test]
fn what_a_copy_printed_waits_until_it_is_known_for_one_where_scrollback_has_all_memory() {
    let mut world = World::new(Config { client_scrollback: 1000, journal_memory: 1 << 20, ..quiet() });
    for n in 100..160 {
        let vm = world.vm(vm_config(n));
        world.print(vm, &[b'x'; 40 << 10]);
    }
    let payroll = world.vm(named("payroll"));
    let reader = client(&mut world, "payroll");
    world.stall(payroll, 4096);
    let copy = world.vm(named("copy"));
    world.print(copy, b"boot messages");
    assert_eq!(world.seen(reader), "");
    world.unstall(payroll);
    let other = client(&mut world, "copy");
    assert_eq!(world.seen(other), "boot messages");
}

#[test]
fn a_new_name_after_the_host_died_renames_and_keeps_the_port() {
    for resets in [true, false] {
        let mut world = World::new(quiet());
        let dead = world.vm(named("old"));
        let port = world.port(uuid(1));
        let reader = client(&mut world, "old");
        world.stall(dead, 4096);
        let newer = world.vm(named("new"));
        world.print(newer, b"booting");
        if resets {
            world.reset(dead);
        }
        world.pass(secs(2));
        world.type_wire(reader, b"x");
        assert_eq!(names(&world), ["new"]);
        assert_eq!((world.typed(newer), world.port(uuid(1))), ("x".into(), port));
        assert!(world.seen(reader).contains("booting"));
        assert_eq!(world.told(|what| *what == EventKind::VmRenamed("old".into())), 1);
    }
}

#[test]
fn a_name_that_turns_out_to_be_a_copys_is_split_off_again() {
    let mut world = World::new(quiet());
    let old = world.vm(named("old"));
    world.stall(old, 4096);
    let newer = world.vm(named("new"));
    world.pass(secs(3));
    assert_eq!(names(&world), ["new"]);
    world.unstall(old);
    assert_eq!(names(&world), ["new", "old"]);
    let vms = [old, newer];
    assert_eq!((reaches(&mut world, "old", &vms), reaches(&mut world, "new", &vms)), (Some(0), Some(1)));
    assert!(world.engine.consoles().all(|console| console.vms == 1));
    assert_eq!(world.told(|what| matches!(what, EventKind::Cloned { .. })), 1);
}

#[test]
fn on_a_shared_uuid_each_name_finds_its_own_console_and_a_new_one_gets_one() {
    let mut world = World::new(quiet());
    let first = world.vm(named("a"));
    let second = world.vm(named("b"));
    world.print(first, b"alive");
    let ports =
        |world: &World| ["a", "b"].map(|name| world.engine.console(console(world, name)).unwrap().label.port);
    let before = ports(&world);
    world.end(first);
    world.end(second);
    let second = world.vm(named("b"));
    let first = world.vm(named("a"));
    assert_eq!(ports(&world), before);
    world.end(first);
    // Nobody is there, and yet it is not renamed.
    let third = world.vm(named("c"));
    assert_eq!(names(&world), ["a", "b", "c"]);
    assert_eq!(reaches(&mut world, "c", &[second, third]), Some(1));
    assert!(world.engine.consoles().all(|console| console.shared));
}

#[test]
fn a_uuid_alone_means_the_first_of_those_that_share_it() {
    let mut world = World::new(quiet());
    let first = world.vm(named("a"));
    world.vm(named("b"));
    world.print(first, b"alive");
    let text = uuid(1).to_string();
    assert_eq!(world.engine.find(&text).collect::<Vec<_>>(), [console(&world, "a")]);
    assert_eq!(world.engine.find("b").count(), 1);
}

#[test]
fn a_vm_that_is_renamed_while_it_is_connected_keeps_its_console() {
    let mut world = World::new(quiet());
    let first = world.vm(named("a"));
    let second = world.vm(named("b"));
    world.print(first, b"alive");
    for (id, name) in [(first, "a2"), (second, "b2")] {
        world.host(id).session.put(&Message::VmName(name.as_bytes()));
    }
    world.settle();
    assert_eq!(names(&world), ["a2", "b2"]);
    world.end(second);
    let again = world.vm(named("b2"));
    assert_eq!(names(&world), ["a2", "b2"]);
    assert_eq!(reaches(&mut world, "b2", &[first, again]), Some(1));
    // Whoever is called now as that one was is a third.
    world.vm(named("b"));
    assert_eq!(names(&world), ["a2", "b", "b2"]);
}

#[test]
fn what_was_shared_before_a_restart_is_shared_after_it() {
    let mut world = World::new(quiet());
    let first = Identity::of(uuid(1));
    let clone = Identity { clone: "b".into(), ..first.clone() };
    for (identity, name, port) in [(clone, "b", 50007), (first, "a", 50003)] {
        let reservation = Reservation { port: Some(port), name: name.into(), ..Reservation::new(identity) };
        world.engine.restore(reservation, world.now).unwrap();
    }
    world.settle();
    let vms = [world.vm(named("b")), world.vm(named("a"))];
    assert_eq!((reaches(&mut world, "a", &vms), reaches(&mut world, "b", &vms)), (Some(1), Some(0)));
    let ports = ["a", "b"].map(|name| world.engine.console(console(&world, name)).unwrap().label.port);
    assert_eq!(ports, [Some(50003), Some(50007)]);
    assert_eq!(world.engine.find(&uuid(1).to_string()).collect::<Vec<_>>(), [console(&world, "a")]);
}

#[test]
fn a_newcomer_that_does_not_tell_its_name_is_taken_for_the_same_vm_after_two_seconds() {
    let mut world = World::new(quiet());
    let first = world.vm(named("a"));
    let nameless = world.stranger();
    world.type_wire(nameless, &has_uuid(1));
    world.type_wire(nameless, b"early");
    assert_eq!(world.console(uuid(1)).unwrap().vms, 1);
    world.pass(secs(2));
    assert_eq!(world.console(uuid(1)).unwrap().vms, 2);
    assert_eq!(reaches(&mut world, "a", &[first]), Some(0));
    // The name comes after all, and the one that was first lives.
    world.type_wire(nameless, &is_called("b"));
    assert_eq!(names(&world), ["a", "b"]);
}

#[test]
fn a_late_name_parts_a_vm_once_however_often_and_in_however_many_reads_it_is_told() {
    let called = |names: &[&str]| names.iter().flat_map(|name| is_called(name)).collect::<Vec<u8>>();
    let storm: Vec<String> = (0..1000).map(|n| format!("b{n}")).collect();
    let storm: Vec<&str> = storm.iter().map(String::as_str).collect();
    for (told, last) in [(&["b", "b"][..], "b"), (&["b", "a", "c"], "c"), (&storm, "b999")] {
        for cut in [usize::MAX, 7] {
            let mut world = World::new(quiet());
            world.vm(named("a"));
            let nameless = world.stranger();
            world.type_wire(nameless, &has_uuid(1));
            world.pass(secs(2));
            world.cut = cut;
            world.type_wire(nameless, &called(told));
            assert_eq!(names(&world), ["a", last]);
            let consoles: Vec<_> =
                world.engine.consoles().map(|console| console.label.clone.clone()).collect();
            assert_eq!(consoles, ["".into(), told[0].into()] as [Box<str>; 2]);
            assert_eq!(world.listening.len(), 3, "one for VMs, two for clients");
            let cloned = world.events.iter().filter_map(|event| match &event.kind {
                EventKind::Cloned { of } => Some(of.clone()),
                _ => None,
            });
            assert_eq!(cloned.collect::<Vec<_>>(), ["a"]);
        }
    }
}

#[test]
fn a_name_that_was_taken_back_decides_nothing() {
    let mut world = World::new(quiet());
    let first = world.vm(named("a"));
    let reader = client(&mut world, "a");
    world.stall(first, 4096);
    let second = world.vm(named("b"));
    world.type_wire(second, &is_called("a"));
    world.print(second, b"of its second port");
    world.unstall(first);
    assert_eq!(names(&world), ["a"]);
    assert_eq!((world.console(uuid(1)).unwrap().vms, world.seen(reader)), (2, "of its second port".into()));
}

#[test]
fn where_takeovers_are_refused_another_name_is_another_vm_at_once() {
    let mut world = World::new(Config { takeover: Takeover::Refuse, ..quiet() });
    let first = world.vm(named("a"));
    world.stall(first, 4096);
    world.vm(named("b"));
    assert_eq!(names(&world), ["a", "b"]);
}

#[test]
fn copies_are_told_apart_within_each_uri() {
    let mut world = World::new(Config { multi_console: true, ..quiet() });
    let at = |name: &str, uri: &str| VmConfig { uri: uri.into(), ..named(name) };
    let ports = [world.vm(at("a", "com1")), world.vm(at("a", "com2"))];
    let copies = [world.vm(at("b", "com1")), world.vm(at("b", "com2"))];
    for id in ports {
        world.print(id, b"alive");
    }
    assert_eq!(names(&world), ["a_com1", "a_com2", "b_com1", "b_com2"]);
    assert_eq!(reaches(&mut world, "b_com2", &copies), Some(1));
}
