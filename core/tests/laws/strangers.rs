//! Law 13: what one who is nobody does costs others no more than a fair share.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind, READ_MAX};
use vspc_core::telnet::IAC;
use vspc_core::vmware::VmConfig;

use crate::world::{Host, Kind, Part, World, uuid, vm_config};

const NOP: u8 = 241;

const WILL_WONT: [u8; 6] = [IAC, 251, 232, IAC, 252, 232];

#[test]
fn who_negotiates_without_end_and_says_no_uuid_is_closed() {
    let mut world = World::new(Config::default());
    let id = world.stranger();
    let mut said = 0;
    while world.is_open(id) {
        world.type_wire(id, &WILL_WONT);
        said += 2;
        assert!(said <= 4000, "it may say that for ever");
    }
    assert!(said > 1000);
    assert_eq!(world.reason(id), Some(CloseReason::TooManyCommands));
}

#[test]
fn who_says_little_but_commands_is_read_in_small_pieces_whoever_it_is() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    for id in [vm, client] {
        let quiet = world.engine.receive_window(id);
        world.type_wire(id, &[IAC, NOP].repeat(200));
        assert!(world.engine.receive_window(id) <= 1024, "a visit costs no more than a few of them");
        world.type_wire(id, b"x");
        assert!(world.engine.receive_window(id) <= 1024, "one word does not buy a large read");
        for _ in 0..300 {
            world.type_wire(id, b"what it is for");
        }
        assert_eq!(world.engine.receive_window(id), quiet);
    }
}

#[test]
fn a_read_of_nothing_but_commands_is_noise_however_large_it_is() {
    for n in [65536, READ_MAX / 2] {
        let mut world = World::new(Config::default());
        let vm = world.vm(vm_config(1));
        world.type_wire(vm, &[IAC, NOP].repeat(n));
        assert!(world.engine.receive_window(vm) <= 1024, "{n}");
    }
}

#[test]
fn what_a_vm_says_first_is_kept_whatever_strangers_have_said_before() {
    let (scrollback, client_scrollback) = (64 << 10, 64 << 10);
    let journal_memory = 8 << 20;
    let mut world = World::new(Config { journal_memory, scrollback, client_scrollback, ..Config::default() });
    for _ in 0..100 {
        let id = world.stranger();
        world.type_wire(id, &[b'x'; 64 << 10]);
    }
    let first = [b'v'; 16_000];
    let vm =
        world.connect_to_vms(Part::Host(Host::new(VmConfig { name: "vm".into(), ..vm_config(7) }))).unwrap();
    world.link(vm).inbound.extend(first);
    world.settle();
    let client = world.client(uuid(7), Kind::Telnet);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::EarlyOutputDropped(_))), 0);
    let seen = world.seen(client);
    assert!(seen.matches('v').count() >= 16_000, "its first words are all there");
}

#[test]
fn a_vm_whose_first_words_were_dropped_is_told_of() {
    let mut world = World::new(Config::default());
    let vm = world.connect_to_vms(Part::Host(Host::new(vm_config(7)))).unwrap();
    world.link(vm).inbound.extend([b'v'; 100_000]);
    world.settle();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told(|kind| matches!(kind, EventKind::EarlyOutputDropped(_))), 1);
}
