//! What is told, and how often: a log that a peer can fill is a way to fill a disk.

use std::time::Duration;

use vspc_core::concentrator::{Config, EventKind, Severity};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Message, Resume, VmConfig};

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
    assert_eq!(world.told(|kind| matches!(kind, EventKind::ClientDetached(_))), 1);
}

#[test]
fn who_comes_again_and_again_and_is_nobody_shares_one_allowance() {
    let mut world = World::new(Config::default());
    world.leaves_out_events = true;
    for second in 0..62 {
        for _ in 0..50 {
            let id = world.stranger();
            world.type_wire(id, b"GET / HTTP/1.1\r\n");
            world.reset(id);
        }
        let told = world.events.len();
        world.pass(Duration::from_secs(1));
        assert!(told < 2000 + 20 * (second + 1) + 10, "{told} events after {second} s");
    }
    world.pass(Duration::from_secs(61));
    let before = world.told(|kind| matches!(kind, EventKind::StrangersSuppressed(_)));
    assert!(before >= 1, "what was left out is counted");
    // Those who say who they are are told of all the same.
    let vm = world.vm(vm_config(1));
    world.end(vm);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::VmIdentified)), 1);
}
