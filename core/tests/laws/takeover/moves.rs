//! Takeovers beside moves: neither takes what is the other's.

use vspc_core::concentrator::{Config, TakenBecause, Takeover};
use vspc_core::vmware::{Resume, VmConfig};

use super::{ELSEWHERE, SEQUENCE, because, begin, comes_from, goes_silent, quiet, secs, vm_and_client};
use crate::world::{World, uuid, vm_config};

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
