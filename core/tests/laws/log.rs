//! What is told, and how often: a log that a peer can fill is a way to fill a disk.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind, Severity};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Message, Resume, Uuid, VmConfig};

use crate::world::{Kind, World, uuid, vm_config};

#[test]
fn a_peer_that_said_nothing_is_told_of_with_all_the_others_once_a_minute() {
    let mut world = World::new(Config::default());
    for _ in 0..1000 {
        let id = world.stranger();
        world.end(id);
    }
    let loud = |world: &World| {
        let loud = world.events.iter().filter(|event| event.severity() >= Severity::Info);
        loud.filter(|event| !matches!(event.kind, EventKind::Listening(..))).count()
    };
    assert_eq!(loud(&world), 0);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.told(|kind| *kind == EventKind::SilentPeers(1000)), 1);
    assert_eq!(loud(&world), 1);
    world.pass(Duration::from_secs(3600));
    assert_eq!(loud(&world), 1, "nothing is told when there is nothing to tell");
}

#[test]
fn one_connection_makes_no_more_than_a_few_lines_a_second_whatever_it_says() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let mut abort = Vec::new();
    Message::VmotionAbort { sequence: &[] }.put(&mut abort);
    let before = world.events.len();
    for _ in 0..200 {
        world.type_wire(vm, &abort);
        world.pass(Duration::from_millis(10));
    }
    let told = world.events.len() - before;
    assert!((20..=33).contains(&told), "{told} events in two seconds");
    world.end(vm);
    let suppressed: u32 = world
        .events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::Suppressed(n) => Some(n),
            _ => None,
        })
        .sum();
    let shown = world.told(|kind| matches!(kind, EventKind::Vmotion(_))) as u32;
    assert_eq!(shown + suppressed, 200, "what is not shown is counted");
}

#[test]
fn noise_does_not_hide_who_came_and_went() {
    let mut world = World::new(Config::default());
    let noisy = world.vm_connects(VmConfig {
        resume: Some(Resume { sequence: b"no".to_vec(), secret: b"such one".to_vec() }),
        ..vm_config(1)
    });
    let mut peer = Vec::new();
    Message::VmotionPeer { sequence_and_secret: b"nosuch one" }.put(&mut peer);
    world.type_wire(noisy, &peer.repeat(100));
    let vm = world.vm(vm_config(2));
    world.type_wire(vm, &peer.repeat(100));
    world.type_wire(vm, &[IAC, 250, 232, 82, b'x', IAC, 240]);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::VmRenamed(_))), 1);
    world.end(vm);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::VmDisconnected(_))), 1);
    let client = world.client(uuid(2), Kind::Telnet);
    world.reset(client);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::ClientDetached(..))), 1);
}

#[test]
fn who_comes_again_and_again_and_is_nobody_shares_one_allowance() {
    let mut world = World::new(Config::default());
    world.leaves_out_events = true;
    for second in 0..15 {
        for _ in 0..800 {
            let id = world.stranger();
            world.type_wire(id, b"GET / HTTP/1.1\r\n");
            world.reset(id);
            world.links.remove(&id);
        }
        let told = world.events.len();
        world.pass(Duration::from_secs(1));
        assert!(told < 20_000 + 20 * (second + 1) + 10, "{told} events after {second} s");
    }
    world.pass(Duration::from_secs(61));
    let before = world.told(|kind| matches!(kind, EventKind::StrangersSuppressed(_)));
    assert!(before >= 1, "what was left out is counted");
    // Those who say who they are are told of all the same.
    let vm = world.vm(vm_config(1));
    world.end(vm);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::VmIdentified)), 1);
}

/// Events that a log shows unless it is asked for more.
fn loud(world: &World) -> impl Iterator<Item = &EventKind> {
    let loud = world.events.iter().filter(|event| event.severity() >= Severity::Info);
    loud.map(|event| &event.kind)
}

#[test]
fn a_console_that_expires_is_told_of_however_short_its_vm_was_there() {
    let config = Config { vm_expire: Duration::from_secs(2), ..Config::default() };
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    world.end(vm);
    let expired = |world: &World| loud(world).filter(|kind| **kind == EventKind::ConsoleExpired).count();
    assert_eq!(expired(&world), 0);
    world.pass(Duration::from_secs(3));
    assert_eq!(expired(&world), 1);
}

fn numbered(n: u32) -> VmConfig {
    let mut uuid = [9; 16];
    uuid[..4].copy_from_slice(&n.to_be_bytes());
    VmConfig { vc_uuid: Some(Uuid::from_bytes(uuid)), name: format!("vm {n}"), ..vm_config(1) }
}

#[test]
fn made_up_sessions_without_end_fill_no_log_and_hide_no_vm_of_another_address() {
    // A handshake for each would take minutes.
    if crate::SEALED {
        return;
    }
    const SESSIONS: u32 = 60_000;
    let mut world = World::new(Config { client_ports: None, max_consoles: 10, ..Config::default() });
    world.leaves_out_events = true;
    let crowd = world.from;
    for n in 0..SESSIONS {
        let id = world.vm(numbered(n));
        world.break_off(id);
        world.links.remove(&id);
        if n % 1000 == 0 {
            world.pass(Duration::from_secs(1));
        }
    }
    let told = loud(&world).count();
    let most = 50_000 + 20_000 + 2 * 20 * 62;
    assert!(told < most, "{told} events of {SESSIONS} sessions");
    assert_eq!(
        loud(&world).filter(|kind| **kind == EventKind::ConsoleYielded).count(),
        0,
        "nobody misses a console that was there for a moment"
    );
    // A day of that is some tens of megabytes.
    for n in 0..5000 {
        let id = world.vm(numbered(SESSIONS + n));
        world.break_off(id);
        world.links.remove(&id);
        if n % 500 == 0 {
            world.pass(Duration::from_secs(1));
        }
    }
    assert!(loud(&world).count() - told < 1000, "a few each second");
    let before = world.events.len();
    world.from = [192, 0, 2, 200].into();
    let vm = world.vm(vm_config(1));
    world.end(vm);
    let kinds: Vec<_> = world.events[before..].iter().map(|event| event.kind.clone()).collect();
    assert!(kinds.contains(&EventKind::VmIdentified), "{kinds:?}");
    assert!(kinds.contains(&EventKind::VmDisconnected(CloseReason::PeerClosed)), "{kinds:?}");
    world.pass(Duration::from_secs(61));
    let counted = |kind: &EventKind| match *kind {
        EventKind::AddressSuppressed { from: Some(from), events } if from == crowd => events,
        _ => 0,
    };
    let counted: u32 = loud(&world).map(counted).sum();
    assert!(counted > 2 * SESSIONS - 50_000 - 2000, "{counted} were left out and counted");
}

#[test]
fn a_fleet_of_9000_that_comes_and_goes_through_one_relay_is_told_of_whole() {
    // A handshake for each would take long; that it tells of more is provided for.
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { client_ports: None, ..Config::default() });
    for _ in 0..2 {
        let fleet: Vec<_> = (0..9000).map(|n| world.vm_connects(numbered(n))).collect();
        world.settle();
        fleet.iter().for_each(|&id| world.break_off(id));
        world.links.clear();
        world.pass(Duration::from_secs(60));
    }
    let count = |wanted: fn(&EventKind) -> bool| world.told(wanted);
    assert_eq!(count(|kind| matches!(kind, EventKind::VmConnected)), 2 * 9000);
    assert_eq!(count(|kind| matches!(kind, EventKind::VmIdentified)), 2 * 9000);
    assert_eq!(count(|kind| matches!(kind, EventKind::VmDisconnected(_))), 2 * 9000);
}

#[test]
fn a_vm_that_stays_is_told_of_whatever_comes_and_goes_at_its_address() {
    if crate::SEALED {
        return;
    }
    let mut world = World::new(Config { client_ports: None, max_consoles: 10, ..Config::default() });
    world.leaves_out_events = true;
    let vm = world.vm(vm_config(1));
    world.pass(Duration::from_secs(61));
    for n in 0..30_000 {
        let id = world.vm(numbered(n));
        world.break_off(id);
        world.links.remove(&id);
    }
    let before = world.events.len();
    let other = world.vm(numbered(100_000));
    world.end(other);
    assert!(!world.events[before..].iter().any(|event| event.kind == EventKind::VmIdentified));
    world.end(vm);
    let last = EventKind::VmDisconnected(CloseReason::PeerClosed);
    assert!(world.events[before..].iter().any(|event| event.kind == last));
}
