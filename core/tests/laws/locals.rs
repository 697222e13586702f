//! Readers inside the process: persons and witnesses. A log is a witness, and is the reader that these are
//! written for: it holds nothing up and keeps nothing alive, and knows what it has missed.

use std::time::Duration;

use vspc_core::concentrator::{
    CloseReason, CommandError, Config, EventKind, LocalOptions, SlowClient, Speaks,
};

use crate::world::{Kind, World, uuid, vm_config};

#[test]
fn a_witness_gets_every_byte_once_in_order_and_as_the_guest_printed_it() {
    for cut in [1, 7, usize::MAX] {
        let mut world = World::new(Config::default());
        let vm = world.vm(vm_config(1));
        let witness = world.open_local(uuid(1), LocalOptions::witness());
        world.cut = cut;
        let printed: Vec<u8> = (0..20_000_u32).map(|n| if n % 3 == 0 { 0xff } else { n as u8 }).collect();
        for piece in printed.chunks(997) {
            world.print(vm, piece);
        }
        assert!(*world.wire(witness) == printed, "taken {cut} bytes at a time");
        assert_eq!(world.link(witness).lost, 0);
    }
}

#[test]
fn a_witness_that_does_not_keep_up_is_told_of_the_gap_in_its_place_whatever_the_policy_is() {
    for slow_client in [SlowClient::Skip, SlowClient::Disconnect, SlowClient::Wait] {
        let mut world = World::new(Config { slow_client, ..Config::default() });
        let vm = world.vm(vm_config(1));
        let witness = world.open_local(uuid(1), LocalOptions::witness());
        world.print(vm, b"seen.");
        world.stall(witness, 0);
        world.print(vm, &[b'x'; 5 << 20]);
        world.pass(Duration::from_secs(10));
        assert!(world.is_open(witness), "{slow_client:?}");
        world.unstall(witness);
        let (seen, lost) = (world.wire(witness).len() as u64, world.link(witness).lost);
        assert!(lost > 0);
        assert_eq!(seen + lost, 5 + (5 << 20), "{slow_client:?}");
        assert_eq!(world.engine.totals().bytes_skipped, lost);
        assert_eq!(world.told(|kind| matches!(kind, EventKind::ReaderSkipped(_))), 0, "told in its stream");
    }
}

#[test]
fn a_witness_never_pauses_a_vm_and_a_person_does() {
    for (options, pauses) in [(LocalOptions::witness(), false), (LocalOptions::person(), true)] {
        let config = Config { slow_client: SlowClient::Wait, ..Config::default() };
        let mut world = World::new(config);
        let vm = world.vm(vm_config(1));
        let reader = world.open_local(uuid(1), options);
        world.stall(reader, 0);
        let mut is_paused = false;
        for _ in 0..64 {
            world.print(vm, &[b'x'; 64 << 10]);
            is_paused |= world.engine.receive_window(vm) == 0;
        }
        assert_eq!(is_paused, pauses);
    }
}

#[test]
fn a_witness_keeps_no_console_alive_and_counts_against_no_limit() {
    let mut world =
        World::new(Config { vm_expire: Duration::from_secs(100), max_clients: Some(1), ..Config::default() });
    let vm = world.vm(vm_config(1));
    let witness = world.open_local(uuid(1), LocalOptions::witness());
    let client = world.client(uuid(1), Kind::Telnet);
    assert!(world.is_open(client), "the witness takes nobody's place");
    assert!(world.seen(client).contains("nobody else here"));
    assert_eq!(world.console(uuid(1)).unwrap().clients, 1);
    world.end(vm);
    world.reset(client);
    world.pass(Duration::from_secs(101));
    assert!(world.console(uuid(1)).is_none(), "it has expired");
    assert!(!world.is_open(witness));
}

#[test]
fn a_person_keeps_a_console_alive_counts_and_types_and_a_witness_does_not_type() {
    let mut world =
        World::new(Config { vm_expire: Duration::from_secs(100), max_clients: Some(1), ..Config::default() });
    let vm = world.vm(vm_config(1));
    let person = world.open_local(uuid(1), LocalOptions::person());
    let witness = world.open_local(uuid(1), LocalOptions::witness());
    world.type_wire(person, b"from a person");
    world.type_wire(witness, b"from a witness");
    assert_eq!(world.typed(vm), "from a person");
    let client = world.client(uuid(1), Kind::Telnet);
    assert_eq!(world.reason(client), Some(CloseReason::TooManyClients));
    world.end(vm);
    world.pass(Duration::from_secs(1000));
    let console = world.console(uuid(1)).expect("someone is there").label.id;
    let clients: Vec<_> = world.engine.clients(console).map(|client| (client.id, client.speaks)).collect();
    assert_eq!(clients, [(person, Speaks::Local)]);
}

#[test]
fn a_reader_inside_the_process_ends_with_the_server_and_not_before_it_was_given_all() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let witness = world.open_local(uuid(1), LocalOptions::witness().scrollback(1000));
    world.stall(witness, 0);
    world.print(vm, b"last words");
    world.shut_down();
    assert!(world.is_open(witness));
    world.unstall(witness);
    assert_eq!(world.seen(witness), "last words");
    assert!(!world.is_open(witness));
    assert_eq!(world.told(|kind| matches!(kind, EventKind::ClientDetached(..))), 0, "it was no client");
    let console = world.console(uuid(1)).unwrap().label.id;
    let refused = world.engine.open_local(console, LocalOptions::witness(), world.now);
    assert_eq!(refused, Err(CommandError::ShuttingDown));
}

#[test]
fn a_witness_that_comes_and_goes_does_not_make_a_console_young_again() {
    let mut world = World::new(Config { vm_expire: Duration::from_secs(100), ..Config::default() });
    let vm = world.vm(vm_config(1));
    world.end(vm);
    for _ in 0..3 {
        world.pass(Duration::from_secs(25));
        let witness = world.open_local(uuid(1), LocalOptions::witness());
        world.pass(Duration::from_secs(5));
        world.engine.kick(witness, world.now).unwrap();
        world.settle();
    }
    assert!(world.console(uuid(1)).is_some());
    world.pass(Duration::from_secs(11));
    assert!(world.console(uuid(1)).is_none(), "a hundred seconds after its vm has gone");
}

#[test]
fn a_console_that_expires_under_a_witness_expires_once() {
    let mut world = World::new(Config { vm_expire: Duration::from_secs(100), ..Config::default() });
    let vm = world.vm(vm_config(1));
    world.open_local(uuid(1), LocalOptions::witness());
    world.end(vm);
    world.pass(Duration::from_secs(300));
    assert_eq!(world.told(|kind| *kind == EventKind::ConsoleExpired), 1);
}

#[test]
fn a_gap_is_told_until_something_of_what_is_behind_it_is_taken() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let witness = world.open_local(uuid(1), LocalOptions::witness());
    world.stall(witness, 0);
    for _ in 0..10 {
        world.print(vm, &[b'x'; 512 << 10]);
    }
    let now = world.now;
    let mut lost = |takes: usize| {
        let mut lost = 0;
        let _ = world.engine.read_local(witness, now, |chunk| {
            lost = chunk.lost;
            takes
        });
        lost
    };
    let (first, again, behind) = (lost(0), lost(1), lost(1));
    assert!(first > 0);
    assert_eq!((again, behind), (first, 0));
}
