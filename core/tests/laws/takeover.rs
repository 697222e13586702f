//! Law 12, for hosts' connections: who gets what is typed where several say that they are the same VM.

use std::net::Ipv4Addr;
use std::time::Duration;

use vspc_core::concentrator::{
    CommandError, Config, ConnId, Event, EventKind, Severity, TakenBecause, Takeover, TcpState,
};
use vspc_core::vmware::{Code, Message, Resume, VmConfig, VmEvent};

use crate::world::{Kind, World, uuid, vm_config};

const HOME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SEQUENCE: &[u8] = b"seq";

/// All that its socket took is acknowledged.
const ACKNOWLEDGES: TcpState =
    TcpState { outstanding: false, acknowledged: Duration::from_secs(3600), window: Some(65536) };

fn quiet() -> Config {
    Config { banner: false, ..Config::default() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A VM, and someone at its console.
fn vm_and_client(world: &mut World) -> (ConnId, ConnId) {
    let vm = world.vm(vm_config(1));
    (vm, world.client(uuid(1), Kind::Telnet))
}

/// Its guest, its host or the way to it stands still: it takes some bytes more and says nothing.
fn goes_silent(world: &mut World, id: ConnId) {
    world.stall(id, 4096);
}

fn comes_from(world: &mut World, address: Ipv4Addr) -> ConnId {
    world.from = address;
    world.vm(vm_config(1))
}

/// How often this connection was asked for its name, in its whole life.
fn asked(world: &mut World, id: ConnId) -> usize {
    let question = [250, 232, Code::GET_VM_NAME.0];
    world.wire(id).windows(3).filter(|at| *at == question).count()
}

fn taken(world: &World) -> Vec<&Event> {
    world.events.iter().filter(|event| matches!(event.kind, EventKind::InputTaken { .. })).collect()
}

fn because(world: &World) -> Vec<TakenBecause> {
    taken(world)
        .into_iter()
        .map(|event| match &event.kind {
            EventKind::InputTaken { because, .. } => *because,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn begin(world: &mut World, source: ConnId) -> VmConfig {
    world.host(source).session.begin(SEQUENCE);
    world.settle();
    let secret = world.host(source).secret().expect("goahead");
    VmConfig { resume: Some(Resume { sequence: SEQUENCE.to_vec(), secret }), ..vm_config(1) }
}

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

// Moves.

#[test]
fn a_begin_of_who_came_for_the_input_leaves_that_where_it_is() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.type_wire(client, b"key");
    begin(&mut world, newer);
    world.link(vm).stalled = false;
    world.settle();
    assert_eq!(world.typed(vm), "key");
}

#[test]
fn who_was_silent_and_moved_on_has_its_input_back_when_its_target_speaks() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    goes_silent(&mut world, vm);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(3));
    // The newer one's move keeps the input, and the older one moves meanwhile.
    begin(&mut world, newer);
    world.host(vm).session.begin(SEQUENCE);
    world.unstall(vm);
    let secret = world.host(vm).secret().expect("goahead");
    let resume = Some(Resume { sequence: SEQUENCE.to_vec(), secret });
    let target = world.vm(VmConfig { resume, ..vm_config(1) });
    world.host(target).session.complete();
    world.end(vm);
    world.host(newer).session.abort();
    world.pass(secs(2));
    world.print(target, b"here");
    world.type_wire(client, b"x");
    assert_eq!((world.typed(target), world.typed(newer)), ("x".into(), String::new()));
}

#[test]
fn a_begin_on_another_leg_is_answered_and_holds_nothing() {
    for ends in [true, false] {
        let mut world = World::new(quiet());
        let (vm, client) = vm_and_client(&mut world);
        let stranger = comes_from(&mut world, ELSEWHERE);
        let config = begin(&mut world, stranger);
        if ends {
            world.reset(stranger);
        }
        world.type_wire(client, b"key");
        assert_eq!(world.typed(vm), "key");
        // Its target has a secret, but not for the input.
        let target = world.vm(config);
        world.host(target).session.complete();
        world.settle();
        world.type_wire(client, b"!");
        assert_eq!((world.typed(vm), world.typed(target)), ("key!".into(), String::new()));
    }
}

#[test]
fn nobody_without_the_secret_takes_over_while_a_vm_moves() {
    for (takeover, source_ends) in [
        (Takeover::Probe, false),
        (Takeover::Probe, true),
        (Takeover::Newest, false),
        (Takeover::Newest, true),
    ] {
        let mut world = World::new(Config { takeover, ..quiet() });
        let (source, client) = vm_and_client(&mut world);
        let config = begin(&mut world, source);
        let stranger = comes_from(&mut world, ELSEWHERE);
        if source_ends {
            world.reset(source);
        }
        world.type_wire(client, b"held ");
        world.pass(secs(50));
        assert_eq!(world.typed(stranger), "");
        let target = world.vm(config);
        world.host(target).session.complete();
        world.settle();
        world.type_wire(client, b"typed");
        assert_eq!((world.typed(target), world.typed(stranger)), ("held typed".into(), String::new()));
        world.pass(secs(100));
        world.type_wire(client, b"!");
        assert_eq!(world.typed(target), "held typed!");
    }
}

#[test]
fn a_vm_that_was_started_again_while_it_moved_gets_its_input_when_the_move_is_over() {
    for source_resets in [true, false] {
        let mut world = World::new(quiet());
        let (source, client) = vm_and_client(&mut world);
        begin(&mut world, source);
        goes_silent(&mut world, source);
        let newer = comes_from(&mut world, ELSEWHERE);
        if source_resets {
            world.reset(source);
        }
        world.type_wire(client, b"held");
        world.pass(secs(59));
        assert_eq!(world.typed(newer), "");
        world.pass(secs(4));
        assert_eq!(world.typed(newer), "held");
    }
}

#[test]
fn a_vm_that_was_started_again_and_moves_at_once_gets_its_input_at_the_end_of_that() {
    for is_reset in [false, true] {
        let mut world = World::new(quiet());
        let (dead, client) = vm_and_client(&mut world);
        goes_silent(&mut world, dead);
        let newer = comes_from(&mut world, ELSEWHERE);
        let config = begin(&mut world, newer);
        if is_reset {
            world.reset(dead);
            world.type_wire(client, b"held");
        }
        let target = world.vm(config);
        world.host(target).session.complete();
        world.end(newer);
        world.pass(secs(3));
        world.type_wire(client, b"!");
        assert_eq!(world.typed(target), if is_reset { "held!" } else { "!" });
        assert_eq!(because(&world), [if is_reset { TakenBecause::Ended } else { TakenBecause::Silent }]);
    }
}

#[test]
fn a_target_that_was_renamed_takes_the_input_and_its_name_with_it() {
    let mut world = World::new(quiet());
    let (source, client) = vm_and_client(&mut world);
    let config = VmConfig { name: "renamed".into(), ..begin(&mut world, source) };
    let target = world.vm(config);
    world.host(target).session.complete();
    world.end(source);
    world.type_wire(client, b"x");
    assert_eq!(world.typed(target), "x");
    assert_eq!(world.engine.consoles().count(), 1);
    assert_eq!(world.console(uuid(1)).unwrap().label.name, "renamed");
}

// Lurkers.

#[test]
fn who_came_second_inherits_after_a_minute_and_yields_to_whoever_comes() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let lurker = comes_from(&mut world, ELSEWHERE);
    world.end(vm);
    world.type_wire(client, b"held ");
    world.pass(secs(59));
    assert_eq!(world.typed(lurker), "");
    world.pass(secs(2));
    world.type_wire(client, b"to the one that is left");
    assert_eq!(world.typed(lurker), "held to the one that is left");
    let back = comes_from(&mut world, HOME);
    world.type_wire(client, b"to the vm");
    assert_eq!(world.typed(back), "to the vm");
    assert_eq!(because(&world), [TakenBecause::Inherited, TakenBecause::LeftOver]);
}

#[test]
fn what_is_typed_while_nobody_may_inherit_yet_waits_within_its_bound_and_ends_with_the_last() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let lurker = comes_from(&mut world, ELSEWHERE);
    world.end(vm);
    world.type_wire(client, &[b'x'; 1 << 20]);
    assert_eq!(world.engine.receive_window(client), 0, "TCP makes who types wait");
    let view = world.console(uuid(1)).unwrap();
    assert!(view.takes_input && view.counters.input_lost + view.counters.input_dropped == 0);
    world.end(lurker);
    let view = world.console(uuid(1)).unwrap();
    assert!(!view.takes_input && view.counters.input_lost > 0);
    assert!(world.engine.receive_window(client) > 0);
    let back = comes_from(&mut world, HOME);
    world.type_wire(client, b"login");
    assert!(world.typed(back).ends_with("login"));
    world.pass(secs(100));
    assert_eq!(taken(&world).len(), 0);
}

#[test]
fn a_vm_that_reboots_finds_its_input_where_a_lurker_waits_for_it() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let lurker = comes_from(&mut world, ELSEWHERE);
    world.end(vm);
    world.pass(secs(20));
    world.type_wire(client, b"log");
    let back = comes_from(&mut world, HOME);
    world.type_wire(client, b"in");
    world.pass(secs(100));
    assert_eq!((world.typed(back), world.typed(lurker)), ("login".into(), String::new()));
    assert_eq!(taken(&world).len(), 0);
}

#[test]
fn who_comes_home_takes_the_input_from_who_has_not_held_it_for_ten_minutes() {
    for (held, wins) in [(500, true), (700, false)] {
        let mut world = World::new(quiet());
        let (vm, client) = vm_and_client(&mut world);
        world.pass(secs(3600));
        world.end(vm);
        let squatter = comes_from(&mut world, ELSEWHERE);
        world.pass(secs(held));
        let back = comes_from(&mut world, HOME);
        world.type_wire(client, b"x");
        assert_eq!((world.typed(back), world.typed(squatter)).0, if wins { "x" } else { "" });
        assert_eq!(because(&world), if wins { vec![TakenBecause::Home] } else { vec![] });
        assert_eq!(world.seen(client).contains("from where it usually is"), wins);
    }
}

#[test]
fn an_operator_gives_the_input_to_a_leg_of_his_choice() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let second = comes_from(&mut world, ELSEWHERE);
    let other = world.vm(vm_config(2));
    let (now, id) = (world.now, world.console(uuid(1)).unwrap().label.id);
    let legs = |world: &World| -> Vec<(ConnId, bool)> {
        world.engine.legs(id).map(|leg| (leg.id, leg.holds_input)).collect()
    };
    assert_eq!(legs(&world), [(vm, true), (second, false)]);
    assert_eq!(world.engine.give_input(id, other, now), Err(CommandError::NotFeeding));
    world.engine.give_input(id, second, now).unwrap();
    world.settle();
    assert_eq!(legs(&world), [(vm, false), (second, true)]);
    world.print(vm, b"speaking changes nothing");
    world.type_wire(client, b"x");
    assert_eq!((world.typed(second), because(&world)), ("x".into(), vec![TakenBecause::Operator]));
    begin(&mut world, second);
    assert_eq!(world.engine.give_input(id, vm, now), Err(CommandError::Moving));
}

// Law 13: how many.

#[test]
fn a_template_deployed_five_hundred_times_at_once_costs_its_first_vm_nothing() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let before = asked(&mut world, vm);
    let copies: Vec<ConnId> = (0..500).map(|_| world.vm_connects(vm_config(1))).collect();
    world.settle();
    world.pass(secs(120));
    world.type_wire(client, b"x");
    assert_eq!(world.typed(vm), "x");
    let id = world.console(uuid(1)).unwrap().label.id;
    assert_eq!(world.engine.legs(id).count(), 16);
    assert!(copies.iter().all(|&id| world.is_open(id)), "nobody is closed and dials again");
    assert!(asked(&mut world, vm) <= before + 15, "one question for each that was a leg, at most");
    let beyond: u32 = world
        .events
        .iter()
        .filter_map(|event| if let EventKind::LegsBeyond(n) = event.kind { Some(n) } else { None })
        .sum();
    assert_eq!((beyond, world.engine.totals().legs_beyond), (485, 485));
    assert!(world.told(|what| matches!(what, EventKind::LegsBeyond(_))) <= 2);
    // They are read, and what they say is dropped.
    let aside = copies[400];
    world.print(aside, b"from nobody");
    world.host(aside).session.begin(SEQUENCE);
    world.settle();
    assert_eq!(world.host(aside).was_told(|event| matches!(event, VmEvent::Notnow { .. })), 1);
    assert!(!world.seen(client).contains("from nobody"));
}

#[test]
fn who_was_put_aside_takes_part_when_those_that_kept_it_out_have_ended() {
    let mut world = World::new(quiet());
    let vms: Vec<ConnId> = (0..20).map(|_| comes_from(&mut world, HOME)).collect();
    let client = world.client(uuid(1), Kind::Telnet);
    let at = world.console(uuid(1)).unwrap().label.id;
    let legs = |world: &World| world.engine.legs(at).map(|leg| leg.id).collect::<Vec<ConnId>>();
    let first = legs(&world);
    let aside: Vec<ConnId> = vms.into_iter().filter(|id| !first.contains(id)).collect();
    assert_eq!((first.len(), aside.len()), (16, 4));
    let other = aside[3];
    world.host(other).session.put(&Message::VmName(b"other"));
    world.reset(aside[2]);
    for id in first.into_iter().rev() {
        world.end(id);
    }
    assert_eq!(legs(&world), aside[..2]);
    // They came second, like others.
    world.pass(secs(59));
    assert!(!world.console(uuid(1)).unwrap().takes_input || world.typed(aside[0]).is_empty());
    world.pass(secs(2));
    world.type_wire(client, b"x");
    world.print(aside[0], b"here");
    assert_eq!(world.typed(aside[0]), "x");
    assert!(world.seen(client).ends_with("here"), "{}", world.seen(client));
    // It is another VM, and finds a console of its own.
    assert_eq!(world.engine.find("other").count(), 1);
}

#[test]
fn the_address_with_the_most_legs_gives_one_up_for_a_vm_that_was_started_again() {
    for begins in [false, true] {
        let mut world = World::new(quiet());
        let (vm, client) = vm_and_client(&mut world);
        let lurkers: Vec<ConnId> = (0..100).map(|_| comes_from(&mut world, ELSEWHERE)).collect();
        if begins {
            for &id in &lurkers[..15] {
                world.host(id).session.begin(SEQUENCE);
            }
            world.settle();
        }
        goes_silent(&mut world, vm);
        let newer = comes_from(&mut world, Ipv4Addr::new(192, 0, 2, 2));
        for &id in &lurkers {
            goes_silent(&mut world, id);
        }
        world.pass(secs(2));
        world.type_wire(client, b"x");
        assert_eq!(world.typed(newer), "x");
        assert!(lurkers.iter().all(|&id| world.is_open(id)));
    }
}

#[test]
fn a_vm_that_was_started_again_has_its_turn_wherever_those_before_it_came_from() {
    let by = |n: u8| Ipv4Addr::new(203, 0, 113, n);
    for (crowd, from) in [((1..=40).map(by).collect::<Vec<_>>(), by(200)), (vec![HOME; 40], HOME)] {
        let mut world = World::new(quiet());
        let (vm, client) = vm_and_client(&mut world);
        for &at in &crowd {
            comes_from(&mut world, at);
        }
        world.pass(secs(5));
        goes_silent(&mut world, vm);
        let newer = comes_from(&mut world, from);
        world.type_wire(client, b"held ");
        world.pass(secs(2));
        world.type_wire(client, b"typed");
        assert_eq!(world.typed(newer), "held typed", "after {crowd:?}");
    }
}

#[test]
fn moves_that_a_crowd_begins_and_leaves_behind_make_no_more_legs_than_there_may_be() {
    let mut world = World::new(quiet());
    let (vm, client) = vm_and_client(&mut world);
    let id = world.console(uuid(1)).unwrap().label.id;
    let mut configs = Vec::new();
    for n in 0..40 {
        let stranger = comes_from(&mut world, Ipv4Addr::new(203, 0, 113, n % 4));
        world.host(stranger).session.begin(SEQUENCE);
        world.settle();
        if let Some(secret) = world.host(stranger).secret() {
            let resume = Some(Resume { sequence: SEQUENCE.to_vec(), secret });
            configs.push(VmConfig { resume, ..vm_config(1) });
        }
        world.reset(stranger);
        assert!(world.engine.legs(id).count() <= 16);
    }
    assert!(configs.len() > 16, "{} moves", configs.len());
    for config in configs {
        let target = world.vm(config);
        world.host(target).session.complete();
        world.settle();
        assert!(world.engine.legs(id).count() <= 16);
    }
    world.type_wire(client, b"x");
    assert_eq!(world.typed(vm), "x");
    goes_silent(&mut world, vm);
    let newer = comes_from(&mut world, ELSEWHERE);
    world.pass(secs(2));
    world.type_wire(client, b"!");
    assert_eq!(world.typed(newer), "!");
}
