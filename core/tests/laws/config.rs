//! Settings that contradict each other: what the engine takes them as. A host refuses them with a reason; a
//! program that is built on the engine may not.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, LocalOptions, PortRange, SlowClient};

use crate::world::{Kind, World, uuid, vm_config};

/// Text of which every part is another.
fn counted(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("{n}\n").into_bytes()).take(len).collect()
}

#[test]
fn scrollback_without_end_is_what_the_memory_of_all_holds() {
    for scrollback in [usize::MAX, usize::MAX - 1, usize::MAX / 2] {
        let config = Config {
            scrollback,
            client_scrollback: usize::MAX,
            lag_limit: 0,
            journal_memory: 1 << 20,
            ..Config::default()
        };
        let mut world = World::new(config);
        let vm = world.vm(vm_config(1));
        let text = counted(4 << 20);
        for piece in text.chunks(100_000) {
            world.print(vm, piece);
        }
        let reader = world.open_local(uuid(1), LocalOptions::witness().scrollback(usize::MAX));
        world.settle();
        let seen = world.wire(reader).clone();
        assert!((512 << 10..=1 << 20).contains(&seen.len()), "{} bytes are kept", seen.len());
        assert!(text.ends_with(&seen));
        let client = world.client(uuid(1), Kind::Telnet);
        assert!(world.wire(client).len() > 512 << 10, "a new client is shown all of it");
    }
}

#[test]
fn scrollback_beyond_the_lag_limit_raises_that() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect, SlowClient::Wait] {
        let config = Config {
            scrollback: 4 << 20,
            lag_limit: 1 << 20,
            slow_client,
            banner: false,
            ..Config::default()
        };
        let mut world = World::new(config);
        let vm = world.vm(vm_config(1));
        let client = world.client(uuid(1), Kind::Telnet);
        world.stall(client, 0);
        let text = counted(3 << 20);
        for piece in text.chunks(100_000) {
            world.print(vm, piece);
        }
        world.unstall(client);
        assert!(world.wire(client).ends_with(&text), "{slow_client:?}: it is no further behind than is kept");
    }
}

#[test]
fn a_client_is_shown_no_more_scrollback_than_is_kept() {
    let config = Config { client_scrollback: usize::MAX, scrollback: 16 << 10, ..Config::default() };
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    world.print(vm, &counted(1 << 20));
    let client = world.client(uuid(1), Kind::Telnet);
    let shown = world.wire(client).len();
    assert!((16 << 10..32 << 10).contains(&shown), "{shown}");
}

#[test]
fn without_memory_for_journals_vms_and_clients_go_on() {
    let mut world = World::new(Config { journal_memory: 0, ..Config::default() });
    let vm = world.vm(vm_config(1));
    let (client, raw) = (world.client(uuid(1), Kind::Telnet), world.client(uuid(1), Kind::Raw));
    world.print(vm, &counted(1 << 20));
    world.pass(Duration::from_secs(3));
    assert!(world.is_open(vm) && world.is_open(client));
    assert!(!world.is_open(raw), "a gap is corruption to it");
    let console = world.console(uuid(1)).unwrap();
    assert!(console.counters.bytes_skipped > 0, "what it has missed is counted");
    world.type_wire(client, b"x");
    assert_eq!(world.typed(vm), "x");
}

#[test]
fn numbers_at_either_end_of_what_can_be_said_are_taken_at_their_word() {
    let config = Config {
        client_ports: Some(PortRange { first: 50005, last: 50000 }),
        max_clients: Some(0),
        vm_expire: Duration::MAX,
        identify_timeout: Duration::MAX,
        ..Config::default()
    };
    let mut world = World::new(config);
    let stranger = world.stranger();
    let vm = world.vm(vm_config(1));
    assert_eq!(world.port(uuid(1)), Some(50005), "a range that ends before it begins is its first port");
    if !crate::SEALED {
        let client = world.client(uuid(1), Kind::Telnet);
        world.pass(Duration::from_secs(5));
        assert_eq!(world.reason(client), Some(CloseReason::TooManyClients));
    }
    world.end(vm);
    world.pass(Duration::from_secs(100 * 86400));
    assert!(world.is_open(stranger), "it may take for ever to say which VM it is");
    assert!(world.console(uuid(1)).is_some(), "it never expires");
    let mut world = World::new(Config { vm_expire: Duration::ZERO, max_consoles: 0, ..Config::default() });
    let vm = world.vm(vm_config(1));
    world.end(vm);
    world.pass(Duration::from_millis(1));
    assert!(world.console(uuid(1)).is_none(), "it is forgotten at once");
}
