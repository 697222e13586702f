//! Those that came second and wait, and who comes home.

use vspc_core::concentrator::{CommandError, ConnId, TakenBecause};

use super::{ELSEWHERE, HOME, because, begin, comes_from, quiet, secs, taken, vm_and_client};
use crate::world::{World, uuid, vm_config};

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
