//! Settings that change while VMs and clients are here: they count from then on, and end nobody's session.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, LocalOptions, PortRange, SlowClient};

use crate::world::{Kind, World, uuid, vm_config};

#[test]
fn new_limits_count_for_those_who_come_and_who_is_there_stays() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let (first, second) = (world.client(uuid(1), Kind::Telnet), world.client(uuid(1), Kind::Telnet));
    let config = Config { max_clients: Some(2), banner: true, ..Config::default() };
    world.change(&config);
    let third = world.client(uuid(1), Kind::Telnet);
    world.pass(Duration::from_secs(5));
    assert!(world.is_open(first) && world.is_open(second) && !world.is_open(third));
    assert_eq!(world.reason(third), Some(CloseReason::TooManyClients));
    assert!(!world.seen(first).contains("connected to"), "it came before there were greetings");
    world.end(second);
    world.pass(Duration::from_secs(5));
    let fourth = world.client(uuid(1), Kind::Telnet);
    assert!(world.seen(fourth).contains("connected to"), "{}", world.seen(fourth));
    world.print(vm, b"hello");
    world.type_wire(first, b"x");
    assert_eq!(world.typed(vm), "x");
}

#[test]
fn a_console_expires_when_it_would_have_with_the_new_time() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    for (old, waited, new, left) in [
        (hours(24), hours(1), hours(2), hours(1)),
        (hours(24), hours(3), hours(2), Duration::ZERO),
        (hours(2), hours(1), hours(24), hours(23)),
        (Duration::MAX, hours(1), hours(2), hours(2)),
    ] {
        let mut world = World::new(Config { vm_expire: old, ..Config::default() });
        let vm = world.vm(vm_config(1));
        world.end(vm);
        world.pass(waited);
        let config = Config { vm_expire: new, ..Config::default() };
        world.change(&config);
        let moment = Duration::from_secs(60);
        if let Some(most) = left.checked_sub(moment) {
            world.pass(most);
            assert!(world.console(uuid(1)).is_some(), "{old:?} {waited:?} {new:?}");
        }
        world.pass(moment * 2);
        assert!(world.console(uuid(1)).is_none(), "{old:?} {waited:?} {new:?}");
    }
}

#[test]
fn less_memory_for_what_vms_have_printed_is_given_back_at_once() {
    let mut world = World::new(Config { scrollback: 1 << 20, ..Config::default() });
    for n in 1..=4 {
        let vm = world.vm(vm_config(n));
        world.print(vm, &[b'a' + n; 512 << 10]);
    }
    let kept = |world: &mut World, n| {
        let reader = world.open_local(uuid(n), LocalOptions::witness().scrollback(usize::MAX));
        world.settle();
        world.wire(reader).len()
    };
    assert!(kept(&mut world, 1) >= 500 << 10);
    let config = Config { scrollback: 64 << 10, ..Config::default() };
    world.change(&config);
    assert!((64 << 10..100 << 10).contains(&kept(&mut world, 1)));
    let config = Config { scrollback: 64 << 10, journal_memory: 128 << 10, ..Config::default() };
    world.change(&config);
    let all: usize = (1..=4).map(|n| kept(&mut world, n)).sum();
    assert!(all <= 128 << 10, "{all}");
    assert!(kept(&mut world, 4) > 0, "the longest silent one gives first");
}

#[test]
fn fewer_unused_consoles_are_kept_from_then_on() {
    let mut world = World::new(Config::default());
    for n in 1..=5 {
        let vm = world.vm(vm_config(n));
        world.pass(Duration::from_secs(n.into()));
        world.end(vm);
        world.pass(Duration::from_secs(30));
    }
    let config = Config { max_consoles: 2, ..Config::default() };
    world.change(&config);
    let left: Vec<u8> = (1..=5).filter(|&n| world.console(uuid(n)).is_some()).collect();
    assert_eq!(left, [4, 5], "those whose VMs were here for the shortest time yield");
}

#[test]
fn a_vm_that_waits_for_its_client_goes_on_once_that_has_read_whatever_becomes_of_slow_clients() {
    let mut world = World::new(Config { slow_client: SlowClient::Wait, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.stall(client, 0);
    world.print(vm, &vec![b'x'; 8 << 20]);
    assert_eq!(world.engine.receive_window(vm), 0, "it waits");
    let config = Config { slow_client: SlowClient::Skip, lag_limit: 1 << 20, ..Config::default() };
    world.change(&config);
    world.unstall(client);
    world.pass(Duration::from_secs(5));
    assert!(world.engine.receive_window(vm) > 0);
    assert!(world.is_open(client));
}

#[test]
fn what_listeners_and_identities_rest_on_stays() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let config = Config {
        vm_listen: Vec::new(),
        client_ports: Some(PortRange { first: 7, last: 7 }),
        multi_console: true,
        ..Config::default()
    };
    world.change(&config);
    assert!(world.is_open(vm));
    world.vm(vm_config(2));
    assert_eq!(world.port(uuid(2)), Some(50001));
}
