//! VMs that come all at once are served at once, all of them; their client ports come a moment later, and
//! only then does anybody leave for those.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Closed, Config, EventKind, PortRange};
use vspc_core::vmware::{Uuid, VmConfig};

use crate::world::{Kind, World};

const FLEET: u32 = 1000;
const A_MOMENT: Duration = Duration::from_secs(1);

fn vm_config(n: u32) -> VmConfig {
    let uuid = Uuid::from_bytes(u128::from(n).to_be_bytes());
    VmConfig { name: format!("vm{n}"), vc_uuid: Some(uuid), ..crate::world::vm_config(1) }
}

fn uuid(n: u32) -> Uuid {
    Uuid::from_bytes(u128::from(n).to_be_bytes())
}

fn config() -> Config {
    let client_ports = Some(PortRange { first: 50000, last: 52000 });
    Config { client_ports, banner: false, ..Config::default() }
}

fn ports(world: &World) -> usize {
    (1..=FLEET).filter(|&n| world.port(uuid(n)).is_some()).count()
}

#[test]
fn vms_that_come_at_one_moment_have_consoles_at_once_and_ports_a_moment_later() {
    let mut world = World::new(config());
    let vms: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
    world.settle();
    assert_eq!(world.engine.consoles().filter(|console| console.vms == 1).count(), FLEET as usize);
    assert!((1..FLEET as usize).contains(&ports(&world)), "the first have theirs, the others wait");
    let identified = |world: &World| world.told(|kind| *kind == EventKind::VmIdentified);
    assert_eq!(identified(&world), ports(&world), "a vm is told of with its port");
    world.print(vms[999], b"before its port");
    world.pass(A_MOMENT);
    assert_eq!(ports(&world), FLEET as usize);
    assert_eq!(identified(&world), FLEET as usize);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::PortOpened(_))), 0, "none was told of without");
    let client = world.client(uuid(1000), Kind::Raw);
    world.print(vms[999], b"behind it");
    assert!(world.seen(client).ends_with("behind it"));
}

#[test]
fn vms_that_come_one_by_one_have_their_ports_at_once() {
    let mut world = World::new(config());
    for n in 1..=FLEET {
        world.vm(vm_config(n));
        world.pass(Duration::from_millis(1));
        assert!(world.port(uuid(n)).is_some());
    }
}

/// Who takes part in the rush and goes has no port afterwards, and takes nobody else's.
#[test]
fn vms_that_are_gone_before_their_ports_come_need_none() {
    let mut world = World::new(Config { vm_expire: Duration::from_millis(1), ..config() });
    let vms: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
    world.settle();
    for &vm in &vms[900..] {
        world.end(vm);
    }
    world.pass(A_MOMENT);
    assert_eq!(world.engine.consoles().count(), 900);
    assert_eq!(ports(&world), 900);
}

/// Whoever is at their consoles meanwhile; and however long they were there before.
#[test]
fn vms_that_come_again_are_all_served_also_while_clients_wait_for_them() {
    let watched = 100;
    let max_descriptors = 2 * FLEET as usize + watched + 200;
    let mut world = World::new(Config { max_descriptors, ..config() });
    let vms: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
    world.settle();
    world.pass(Duration::from_secs(700));
    for n in 1..=watched {
        world.client(uuid(n as u32), Kind::Telnet);
    }
    for vm in vms {
        world.end(vm);
    }
    world.settle();
    let again: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
    world.settle();
    assert!(again.iter().all(|&vm| world.is_open(vm)));
    assert_eq!(world.engine.consoles().filter(|console| console.vms == 1).count() as u32, FLEET);
}

/// A host that was cut off brings all its VMs back at one moment: they have their ports already, and need no
/// second descriptor.
#[test]
fn vms_that_come_again_at_one_moment_are_all_served_and_have_their_ports() {
    for new in [0, 50] {
        let mut world = World::new(Config { max_descriptors: 2 * FLEET as usize + 200, ..config() });
        let vms: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
        world.settle();
        world.pass(A_MOMENT);
        let before: Vec<_> = (1..=FLEET).map(|n| world.port(uuid(n))).collect();
        for vm in vms {
            world.end(vm);
        }
        world.settle();
        let again: Vec<_> = (1..=FLEET + new).map(|n| world.vm_connects(vm_config(n))).collect();
        world.settle();
        assert!(again.iter().all(|&vm| world.is_open(vm)));
        assert_eq!(world.engine.consoles().filter(|console| console.vms == 1).count() as u32, FLEET + new);
        let after: Vec<_> = (1..=FLEET).map(|n| world.port(uuid(n))).collect();
        assert_eq!(before, after);
        world.pass(A_MOMENT);
        assert!((FLEET + 1..=FLEET + new).all(|n| world.port(uuid(n)).is_some()));
    }
}

#[test]
fn strangers_leave_for_ports_after_the_rush_and_no_vm_waits_for_that() {
    let max_descriptors = 2 * FLEET as usize + 100;
    let mut world = World::new(Config { max_descriptors, ..config() });
    let strangers: Vec<_> = (0..max_descriptors / 2 - 10).map(|_| world.stranger()).collect();
    world.pass(Duration::from_secs(3));
    let left = |world: &World| strangers.iter().filter(|&&id| !world.is_open(id)).count();
    assert_eq!(left(&world), 0);
    for n in 1..=FLEET {
        world.vm_connects(vm_config(n));
        if n % 50 == 0 {
            world.settle();
        }
    }
    assert_eq!(world.engine.consoles().filter(|console| console.vms == 1).count(), FLEET as usize);
    let at_once = left(&world);
    world.pass(A_MOMENT);
    assert_eq!(ports(&world), FLEET as usize);
    assert!(at_once < left(&world), "{at_once} left before");
    let all_for_vms = |id| world.reason(id) == Some(CloseReason::Evicted);
    assert!(strangers.iter().filter(|&&id| !world.is_open(id)).all(|&id| all_for_vms(id)));
}

/// To close a stranger's connection takes as long as to take a newcomer in, and the kernel's queue is short.
#[test]
fn of_a_fleet_that_connects_at_one_moment_only_the_first_cost_strangers_their_place_before_ports_do() {
    let max_descriptors = 2 * FLEET as usize + 300;
    let mut world = World::new(Config { max_descriptors, ..config() });
    let strangers: Vec<_> = (0..FLEET).map(|_| world.stranger()).collect();
    world.pass(Duration::from_secs(3));
    let left = |world: &World| strangers.iter().filter(|&&id| !world.is_open(id)).count();
    for n in 1..=FLEET {
        world.vm_connects(vm_config(n));
    }
    assert!((1..600).contains(&left(&world)), "{} have left", left(&world));
    world.settle();
    world.pass(A_MOMENT);
    assert_eq!(world.engine.consoles().filter(|console| console.vms == 1).count(), FLEET as usize);
    assert_eq!(ports(&world), FLEET as usize);
    assert!(world.open() <= max_descriptors);
}

/// Strangers who never stop coming in crowds take all descriptors, and none of them counts on a port for it.
#[test]
fn a_vm_that_comes_beside_crowds_without_end_has_its_port_all_the_same() {
    let max_descriptors = 1000;
    let mut world = World::new(Config { max_descriptors, ..config() });
    for n in 1..=20 {
        for _ in 0..300 {
            world.stranger();
        }
        world.pass(Duration::from_millis(20));
        assert!(world.open() <= max_descriptors);
        world.vm(vm_config(n));
        world.pass(Duration::from_millis(20));
        assert!(world.port(uuid(n)).is_some(), "{n}");
    }
    assert!(world.open() > max_descriptors - 10, "the crowd has all the rest");
}

#[test]
fn who_attaches_while_a_fleet_comes_or_just_after_costs_few_strangers_their_place() {
    let max_descriptors = 2 * FLEET as usize + 300;
    let mut world = World::new(Config { max_descriptors, ..config() });
    world.vm(vm_config(FLEET + 1));
    let strangers: Vec<_> = (0..FLEET).map(|_| world.stranger()).collect();
    world.pass(Duration::from_secs(3));
    let left = |world: &World| strangers.iter().filter(|&&id| !world.is_open(id)).count();
    let vms: Vec<_> = (1..=FLEET).map(|n| world.vm_connects(vm_config(n))).collect();
    for pause in [0, 200] {
        world.pass(Duration::from_millis(pause));
        let before = left(&world);
        let client = world.client(uuid(FLEET + 1), Kind::Raw);
        assert!(world.is_open(client));
        assert!(left(&world) <= before + 400, "{before} and {}", left(&world));
        assert!(vms.iter().all(|&vm| world.is_open(vm)));
    }
}

/// A crowd that came beyond what is reserved has to go bit by bit: who comes next needs one descriptor.
#[test]
fn who_comes_after_a_crowd_costs_few_clients_that_only_listen_their_place() {
    let max_descriptors = 1000;
    let mut world = World::new(Config { max_descriptors, max_clients: None, ..config() });
    world.vm(vm_config(1));
    let listeners: Vec<_> = (0..40).map(|_| world.client(uuid(1), Kind::Raw)).collect();
    for &id in &listeners {
        let now = world.now;
        world.engine.handle_closed(id, Closed::Input, now);
    }
    while world.open() < max_descriptors - 2 {
        world.stranger();
    }
    world.pass(Duration::from_millis(100));
    assert!(listeners.iter().all(|&id| world.is_open(id)));
    let client = world.client(uuid(1), Kind::Raw);
    assert!(world.is_open(client));
    assert!(listeners.iter().filter(|&&id| !world.is_open(id)).count() <= 2);
}

/// Nobody leaves for a port that cannot be had.
#[test]
fn where_all_ports_are_given_out_no_stranger_leaves_for_one() {
    let client_ports = Some(PortRange { first: 50000, last: 50000 });
    let mut world = World::new(Config { max_descriptors: 1000, client_ports, ..config() });
    for n in 1..=10 {
        world.vm(vm_config(n));
    }
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.extend((0..300).map(|_| world.stranger()));
        world.pass(Duration::from_millis(20));
    }
    assert!(world.open() > 990, "the crowd has all that is left");
    let there = |world: &World| strangers.iter().filter(|&&id| world.is_open(id)).count();
    let before = there(&world);
    world.pass(Duration::from_secs(10));
    assert_eq!(there(&world), before);
}
