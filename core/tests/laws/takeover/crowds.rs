//! Law 13: how many connections may say that they are the same VM.

use std::net::Ipv4Addr;

use vspc_core::concentrator::{ConnId, EventKind};
use vspc_core::vmware::{Message, Resume, VmConfig, VmEvent};

use super::{ELSEWHERE, HOME, SEQUENCE, asked, comes_from, goes_silent, quiet, secs, vm_and_client};
use crate::world::{Kind, World, uuid, vm_config};

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
