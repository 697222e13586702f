//! Who holds the input, and when it goes to a newcomer: silence, acknowledgements, policies.

use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, Severity, TakenBecause, Takeover, TcpState};

use super::{
    ACKNOWLEDGES, ELSEWHERE, HOME, asked, because, comes_from, goes_silent, quiet, secs, taken, vm_and_client,
};
use crate::world::{Kind, World, uuid};

#[test]
fn who_knows_a_uuid_and_a_name_gets_nothing_that_is_typed_to_a_live_vm() {
    for from in [HOME, ELSEWHERE] {
        let mut world = World::new(quiet());
        let (vm, client) = vm_and_client(&mut world);
        let stranger = comes_from(&mut world, from);
        world.type_wire(client, b"password");
        world.pass(secs(3600));
        world.type_wire(client, b"!");
        world.print(vm, b"secret");
        assert_eq!(world.seen(client), "secret");
        assert_eq!((world.typed(vm), world.typed(stranger)), ("password!".into(), String::new()));
        assert!(world.is_open(vm) && world.is_open(stranger), "no leg is closed because a newer one came");
        assert_eq!(taken(&world).len(), 0);
        let told = world.told(|what| {
            matches!(what, EventKind::SecondLeg { legs: 2, same_address } if *same_address == (from == HOME))
        });
        assert_eq!(told, 1);
    }
}

#[test]
fn a_vm_that_was_started_again_gets_its_input_within_two_seconds_of_its_hosts_silence() {
    let mut world = World::new(quiet());
    let (dead, client) = vm_and_client(&mut world);
    goes_silent(&mut world, dead);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.type_wire(client, b"held");
    world.pass(Duration::from_millis(1900));
    assert_eq!(world.typed(newer), "");
    world.pass(Duration::from_millis(100));
    world.type_wire(client, b"!");
    assert_eq!(world.typed(newer), "held!");
    assert!(world.is_open(dead));
    assert_eq!(because(&world), [TakenBecause::Silent]);
    let event = taken(&world)[0];
    assert_eq!(event.severity(), Severity::Warn);
    assert!(matches!(&event.kind, EventKind::InputTaken { from: Some(from), .. } if *from == HOME));
    assert_eq!(event.peer.as_ref().and_then(vspc_core::concentrator::Address::ip), Some(ELSEWHERE.into()));
    assert!(world.seen(client).contains("[vspc: the VM did not answer"), "{}", world.seen(client));
}

#[test]
fn a_takeover_is_a_line_on_telnet_screens_and_nothing_to_raw_clients() {
    let mut world = World::new(quiet());
    let (dead, telnet) = vm_and_client(&mut world);
    let raw = world.client(uuid(1), Kind::Raw);
    world.pass(secs(2));
    world.wire(raw).clear();
    goes_silent(&mut world, dead);
    comes_from(&mut world, ELSEWHERE);
    world.pass(secs(2));
    assert!(world.seen(telnet).contains("198.51.100.7"));
    assert_eq!(world.wire(raw), b"");
}

#[test]
fn a_reset_lets_the_newcomer_have_the_input_at_once() {
    let mut world = World::new(quiet());
    let (dead, client) = vm_and_client(&mut world);
    goes_silent(&mut world, dead);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.type_wire(client, b"held");
    world.reset(dead);
    assert_eq!(world.typed(newer), "held");
    assert_eq!(because(&world), [TakenBecause::Ended]);
}

#[test]
fn a_vm_that_is_stunned_for_a_snapshot_keeps_its_input() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    world.link(vm).tcp = Some(ACKNOWLEDGES);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(2));
    world.type_wire(client, b"x");
    world.pass(secs(3));
    world.unstall(vm);
    world.pass(secs(100));
    world.type_wire(client, b"y");
    assert_eq!((world.typed(vm), world.typed(newer)), ("xy".into(), String::new()));
    assert_eq!(taken(&world).len(), 0);
}

#[test]
fn who_only_acknowledges_keeps_the_input_for_thirty_seconds_more() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    world.link(vm).tcp = Some(TcpState { window: None, ..ACKNOWLEDGES });
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(31));
    assert_eq!(taken(&world).len(), 0);
    world.pass(secs(1));
    world.type_wire(client, b"x");
    assert_eq!((world.typed(newer), because(&world)), ("x".into(), vec![TakenBecause::Silent]));
}

#[test]
fn who_acknowledges_something_of_what_is_always_on_the_way_to_it_lives() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    let busy = TcpState { outstanding: true, acknowledged: Duration::from_millis(40), ..ACKNOWLEDGES };
    world.link(vm).tcp = Some(busy);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    world.type_wire(client, b"x");
    assert_eq!(world.typed(newer), "");
    world.unstall(vm);
    assert_eq!(world.typed(vm), "x");
}

#[test]
fn what_a_peers_tcp_acknowledged_before_it_was_asked_does_not_count() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    world.link(vm).tcp = Some(TcpState { outstanding: true, acknowledged: secs(3), ..ACKNOWLEDGES });
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(2));
    world.type_wire(client, b"x");
    assert_eq!(world.typed(newer), "x");
}

#[test]
fn a_guest_at_a_breakpoint_for_ten_minutes_keeps_its_input() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    world.stall(vm, 0);
    world.link(vm).tcp = Some(TcpState { outstanding: true, acknowledged: secs(90), window: Some(0) });
    world.type_wire(client, b"typed ");
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(600));
    world.type_wire(client, b"more");
    world.link(vm).tcp = Some(ACKNOWLEDGES);
    world.unstall(vm);
    world.pass(secs(100));
    assert_eq!((world.typed(vm), world.typed(newer)), ("typed more".into(), String::new()));
    assert_eq!(taken(&world).len(), 0);
}

#[test]
fn who_was_silent_and_speaks_again_gets_its_input_back_and_that_is_told() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    world.type_wire(client, b"to the newer ");
    world.unstall(vm);
    world.type_wire(client, b"to the old");
    assert_eq!((world.typed(vm), world.typed(newer)), ("to the old".into(), "to the newer ".into()));
    let told =
        world.events.iter().find(|event| matches!(event.kind, EventKind::InputGivenBack { .. })).unwrap();
    assert_eq!((told.severity(), told.conn), (Severity::Warn, Some(vm)));
    assert!(world.seen(client).contains("is back"));
    // Once is enough: the newer one has come second now.
    world.print(newer, b"x");
    world.type_wire(client, b"!");
    assert_eq!(world.typed(vm), "to the old!");
}

#[test]
fn the_holder_is_asked_once_however_many_come_and_each_is_asked_for_itself() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let before = asked(&mut world, vm);
    goes_silent(&mut world, vm);
    let newer: Vec<ConnId> = (0..10).map(|_| comes_from(&mut world, ELSEWHERE)).collect();
    world.pass(Duration::from_millis(1900));
    world.type_wire(client, b"held");
    world.link(vm).stalled = false;
    world.settle();
    assert_eq!(asked(&mut world, vm), before + 1);
    assert_eq!(world.typed(vm), "held");
    goes_silent(&mut world, vm);
    for &id in &newer[..9] {
        goes_silent(&mut world, id);
    }
    let last = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    world.type_wire(client, b"x");
    assert_eq!(world.typed(last), "x");
}

#[test]
fn newest_takes_the_input_at_once_where_that_is_ordered_and_the_older_gets_it_back_at_its_end() {
    let mut world = World::new(Config { takeover: Takeover::Newest, ..quiet() });
    let (first, client) = vm_and_client(&mut world);
    let second = comes_from(&mut world, ELSEWHERE);
    world.type_wire(client, b"a");
    let third = comes_from(&mut world, ELSEWHERE);
    world.type_wire(client, b"b");
    world.reset(third);
    world.print(first, b"speaking changes nothing");
    world.type_wire(client, b"c");
    world.end(second);
    world.type_wire(client, b"d");
    let typed = [first, second, third].map(|id| world.typed(id));
    assert_eq!(typed, ["d", "ac", "b"]);
    assert_eq!(because(&world)[..2], [TakenBecause::Newest; 2]);
}

#[test]
fn nobody_takes_over_from_a_connection_that_is_up_where_that_is_refused() {
    let mut world = World::new(Config { takeover: Takeover::Refuse, ..quiet() });
    let (vm, client) = vm_and_client(&mut world);
    let before = asked(&mut world, vm);
    goes_silent(&mut world, vm);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3600));
    world.unstall(vm);
    world.type_wire(client, b"x");
    assert_eq!((world.typed(vm), world.typed(newer)), ("x".into(), String::new()));
    assert_eq!(asked(&mut world, vm), before, "it is not even asked");
}

#[test]
fn what_is_typed_does_not_go_to_one_that_was_judged_dead_and_has_said_nothing_since() {
    let mut world = World::new(quiet());
    let (dead, client) = vm_and_client(&mut world);
    goes_silent(&mut world, dead);
    let second = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    let third = comes_from(&mut world, ELSEWHERE);
    world.end(second);
    world.type_wire(client, b"x");
    world.pass(secs(61));
    assert_eq!(world.typed(third), "x");
    // If it speaks it has it back.
    world.unstall(dead);
    world.type_wire(client, b"y");
    assert_eq!((world.typed(dead), world.typed(third)), ("y".into(), "x".into()));
}

#[test]
fn who_was_judged_dead_and_is_all_that_is_left_inherits_after_a_minute() {
    let mut world = World::new(quiet());
    let (dead, client) = vm_and_client(&mut world);
    goes_silent(&mut world, dead);
    let second = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    world.end(second);
    world.type_wire(client, b"x");
    world.pass(secs(61));
    assert_eq!(because(&world), [TakenBecause::Silent, TakenBecause::Inherited]);
    world.unstall(dead);
    assert_eq!(world.typed(dead), "x");
}

#[test]
fn a_vm_that_connects_anew_after_any_number_of_silent_deaths_gets_its_input() {
    for takeover in [Takeover::Probe, Takeover::Newest] {
        let mut world = World::new(Config { takeover, ..quiet() });
        let (mut vm, client) = vm_and_client(&mut world);
        for n in 0..40 {
            goes_silent(&mut world, vm);
            vm = comes_from(&mut world, HOME);
            world.pass(secs(3));
            world.type_wire(client, b"x");
            assert_eq!(world.typed(vm), "x", "after {n} deaths, {takeover:?}");
        }
    }
}
