//! vMotion, beyond what is typed: who is who, what is shown in which order, and how moves end.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, ConnId, EventKind, SlowClient, VmotionStep};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Message, Resume, VmConfig, VmEvent};

use crate::world::{Kind, World, uuid, vm_config};

const SEQUENCE: &[u8] = b"\x01\xff\x02\xff";

/// A VM that has its GOAHEAD, and the target's configuration.
fn away(world: &mut World) -> (ConnId, VmConfig) {
    let source = world.vm(vm_config(1));
    begin(world, source)
}

fn begin(world: &mut World, source: ConnId) -> (ConnId, VmConfig) {
    world.host(source).session.begin(SEQUENCE);
    world.settle();
    let secret = world.host(source).secret().expect("goahead");
    (source, VmConfig { resume: Some(Resume { sequence: SEQUENCE.to_vec(), secret }), ..vm_config(1) })
}

fn peer_oks(world: &mut World, id: ConnId) -> usize {
    world.host(id).was_told(|event| matches!(event, VmEvent::PeerOk { .. }))
}

fn notnows(world: &mut World, id: ConnId) -> usize {
    world.host(id).was_told(|event| matches!(event, VmEvent::Notnow { .. }))
}

fn aborted(world: &World) -> usize {
    world.told(|what| matches!(what, EventKind::Vmotion(VmotionStep::Aborted(_))))
}

#[test]
fn source_bytes_come_before_target_bytes_even_when_they_arrive_later() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let (source, config) = away(&mut world);
    let reader = world.client(uuid(1), Kind::Telnet);
    let target = world.vm(config);
    world.host(target).session.complete();
    world.host(target).session.print(b"target \xff");
    world.settle();
    assert_eq!(world.seen(reader), "");
    world.print(source, b"source \xff ");
    world.pass(Duration::from_millis(9));
    world.print(source, b"more ");
    world.pass(Duration::from_millis(9));
    world.print(target, b" again");
    assert_eq!(world.seen(reader), "source \\xff more ");
    world.pass(Duration::from_millis(2));
    assert_eq!(world.seen(reader), "source \\xff more target \\xff again");
    world.print(source, b"too late");
    assert_eq!(world.seen(reader), "source \\xff more target \\xff again");
    assert_eq!(world.engine.totals().late_source_bytes, 8);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.reason(source), Some(CloseReason::MovedAway));
    assert!(world.is_open(target));
}

#[test]
fn a_target_that_floods_while_the_source_is_still_heard_loses_nothing() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let (source, config) = away(&mut world);
    let reader = world.client(uuid(1), Kind::Telnet);
    let target = world.vm(config);
    world.host(target).session.complete();
    world.settle();
    world.print(source, b"s");
    let flood: Vec<u8> = (0..5_000_000u32).map(|n| b'a' + (n % 23) as u8).collect();
    for part in flood.chunks(500_000) {
        world.print(target, part);
    }
    world.pass(Duration::from_secs(2));
    assert_eq!(world.engine.totals().early_bytes_dropped, 0);
    let seen = world.wire(reader).clone();
    assert!(seen.ends_with(&[b"s", &flood[..]].concat()));
}

/// Consoles that fill the journals' memory with their scrollback.
fn fill_memory(world: &mut World) {
    for n in 100..160 {
        let vm = world.vm(vm_config(n));
        world.print(vm, &[b'x'; 40 << 10]);
    }
}

#[test]
fn a_move_loses_nothing_where_scrollback_has_all_memory() {
    let mut world = World::new(Config { banner: false, journal_memory: 1 << 20, ..Config::default() });
    let (source, config) = away(&mut world);
    let reader = world.client(uuid(1), Kind::Telnet);
    fill_memory(&mut world);
    let target = world.vm(config);
    let first = [b't'; 50_000];
    world.print(target, &first);
    world.host(target).session.complete();
    world.print(target, b" and more");
    world.print(source, b"last words ");
    world.pass(Duration::from_secs(1));
    let all = format!("last words {} and more", "t".repeat(first.len()));
    assert!(world.seen(reader) == all, "{}", &world.seen(reader)[..200]);
    let totals = world.engine.totals();
    assert_eq!((totals.early_bytes_dropped, totals.late_source_bytes, totals.bytes_skipped), (0, 0, 0));
}

#[test]
fn a_move_has_a_console_that_stays_whatever_order_the_source_ends_in() {
    for source_ends in 0..4 {
        let mut world = World::new(Config::default());
        let (source, config) = away(&mut world);
        let client = world.client(uuid(1), Kind::Telnet);
        if source_ends == 0 {
            world.end(source);
            assert!(world.console(uuid(1)).unwrap().moving);
            world.pass(Duration::from_secs(59));
        }
        let target = world.vm(config);
        assert_eq!(peer_oks(&mut world, target), 1);
        if source_ends == 1 {
            world.end(source);
        }
        world.host(target).session.complete();
        world.settle();
        if source_ends == 2 {
            world.end(source);
        }
        world.type_wire(client, b"x");
        assert_eq!(world.typed(target), "x", "{source_ends}");
        assert_eq!(world.engine.totals().vmotions_completed, 1);
        assert_eq!(world.console(uuid(1)).unwrap().vms, 1);
        world.pass(Duration::from_secs(100));
        assert!(world.is_open(target) && world.is_open(client) && !world.is_open(source));
    }
}

#[test]
fn a_target_is_known_by_its_secret_alone_and_a_wrong_one_joins_nothing() {
    let mut world = World::new(Config::default());
    let (source, config) = away(&mut world);
    let resume = config.resume.clone().unwrap();
    let mut wrongs = Vec::new();
    for (sequence, secret) in [
        (resume.sequence.clone(), b"not this".to_vec()),
        (b"other".to_vec(), resume.secret.clone()),
        (Vec::new(), resume.secret.clone()),
        (resume.sequence.clone(), resume.secret[..7].to_vec()),
    ] {
        let wrong = world.vm(VmConfig { resume: Some(Resume { sequence, secret }), ..config.clone() });
        assert_eq!(peer_oks(&mut world, wrong), 0);
        world.host(wrong).session.complete();
        world.settle();
        wrongs.push(wrong);
    }
    assert_eq!(world.engine.totals().vmotion_bad_peers, 4);
    let console = world.console(uuid(1)).unwrap();
    assert_eq!((console.vms, console.moving), (1, true), "said who it is, joined nothing");
    let target = world.vm(config);
    world.host(target).session.complete();
    world.settle();
    let client = world.client(uuid(1), Kind::Telnet);
    world.type_wire(client, b"x");
    assert_eq!(world.typed(target), "x");
    world.pass(Duration::from_secs(31));
    assert!(wrongs.iter().all(|&wrong| world.reason(wrong) == Some(CloseReason::IdentifyTimeout)));
    assert!(!world.is_open(source) && world.is_open(target));
}

/// 700 that say 64 KiB each and never who they are: nearly three times what is kept of strangers.
fn a_crowd_talks(world: &mut World) {
    for _ in 0..700 {
        let id = world.stranger();
        world.link(id).inbound.extend([b'x'; 64 << 10]);
        // The world would look at each of them in each of its rounds.
        world.settle();
        world.links.remove(&id);
    }
}

#[test]
fn what_a_target_prints_before_complete_survives_any_number_of_talking_strangers() {
    // It may print before its secret is accepted, after that, or both.
    for (before, after) in [(0, 50_000), (50_000, 0), (20_000, 300_000)] {
        let config = Config { banner: false, slow_client: SlowClient::Disconnect, ..Config::default() };
        let mut world = World::new(config);
        let (source, config) = away(&mut world);
        let reader = world.client(uuid(1), Kind::Telnet);
        let text: Vec<u8> = (0..before + after).map(|n: u32| b'a' + (n % 23) as u8).collect();
        let (first, second) = text.split_at(before as usize);
        let target = world.vm_connects(config.clone());
        world.host(target).session.print(first);
        world.settle();
        assert_eq!(peer_oks(&mut world, target), 1);
        world.print(target, second);
        a_crowd_talks(&mut world);
        // One that knows all but the secret prints, too.
        let resume = Some(Resume { sequence: SEQUENCE.to_vec(), secret: b"not this".to_vec() });
        let wrong = world.vm(VmConfig { resume, ..config });
        world.print(wrong, &[b'w'; 64 << 10]);
        world.host(wrong).session.complete();
        world.settle();
        assert_eq!(peer_oks(&mut world, wrong), 0);
        assert_eq!(world.engine.totals().vmotions_completed, 0);
        assert_eq!(world.seen(reader), "", "nothing is shown before the move is complete");
        world.host(target).session.complete();
        world.settle();
        world.end(source);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.told(|what| matches!(what, EventKind::EarlyOutputDropped(_))), 0);
        assert!(world.seen(reader).as_bytes() == text, "{before} and {after}: it is not all there");
        assert!(world.engine.totals().early_bytes_dropped > 0, "strangers lost theirs");
        world.type_wire(reader, b"x");
        assert_eq!((world.typed(target), world.typed(wrong)), ("x".into(), String::new()));
    }
}

#[test]
fn a_secret_is_good_for_one_move() {
    let mut world = World::new(Config::default());
    let (source, config) = away(&mut world);
    let target = world.vm(config.clone());
    world.host(target).session.complete();
    world.settle();
    world.end(source);
    let again = world.vm(config.clone());
    assert_eq!(peer_oks(&mut world, again), 0);
    let (_, next) = begin(&mut world, target);
    assert_ne!(next.resume, config.resume);
    let third = world.vm(config);
    assert_eq!(peer_oks(&mut world, third), 0);
    let fourth = world.vm(next);
    assert_eq!(peer_oks(&mut world, fourth), 1);
}

#[test]
fn a_later_target_replaces_the_earlier() {
    let mut world = World::new(Config::default());
    let (_, config) = away(&mut world);
    let first = world.vm(config.clone());
    let second = world.vm(config);
    assert_eq!((peer_oks(&mut world, first), peer_oks(&mut world, second)), (1, 1));
    world.host(first).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 0);
    world.host(second).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 1);
    world.pass(Duration::from_secs(31));
    assert!(!world.is_open(first) && world.is_open(second));
}

#[test]
fn complete_twice_is_once() {
    let mut world = World::new(Config::default());
    let (source, config) = away(&mut world);
    let target = world.vm(config);
    for _ in 0..2 {
        world.host(target).session.complete();
        world.settle();
    }
    world.end(source);
    world.host(target).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 1);
    assert_eq!(world.told(|what| matches!(what, EventKind::Vmotion(VmotionStep::OutOfPlace(_)))), 2);
}

#[test]
fn abort_takes_the_targets_say_and_gives_held_input_to_the_source() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let (source, config) = away(&mut world);
    let client = world.client(uuid(1), Kind::Telnet);
    world.type_wire(client, b"held");
    let target = world.vm(config);
    world.host(target).session.print(b"never shown");
    world.settle();
    world.host(source).session.abort();
    world.settle();
    assert_eq!(world.typed(source), "held");
    world.host(target).session.complete();
    world.settle();
    world.print(source, b"source");
    assert_eq!((world.seen(client), world.typed(target)), ("source".into(), String::new()));
    let totals = world.engine.totals();
    assert_eq!((totals.vmotions_completed, totals.vmotions_aborted), (0, 1));
    world.pass(Duration::from_secs(31));
    assert!(!world.is_open(target) && world.is_open(source));
}

#[test]
fn a_host_that_gives_up_silently_is_believed_after_five_seconds_of_its_own() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let (source, config) = away(&mut world);
    let client = world.client(uuid(1), Kind::Telnet);
    world.type_wire(client, b"held");
    world.pass(Duration::from_secs(4));
    world.print(source, b"still on its way ");
    assert!(world.console(uuid(1)).unwrap().moving);
    world.pass(Duration::from_secs(2));
    assert!(world.console(uuid(1)).unwrap().moving, "silence says nothing");
    world.print(source, b"running");
    assert!(!world.console(uuid(1)).unwrap().moving);
    assert_eq!(world.typed(source), "held");
    assert_eq!(world.seen(client), "still on its way running");
    let late = world.vm(config);
    assert_eq!(peer_oks(&mut world, late), 0);
    assert_eq!(world.console(uuid(1)).unwrap().vms, 1, "a late target joins nothing");
}

#[test]
fn a_move_without_a_word_ends_after_a_minute() {
    for source_lives in [true, false] {
        let mut world = World::new(Config::default());
        let (source, _) = away(&mut world);
        let client = world.client(uuid(1), Kind::Telnet);
        world.type_wire(client, b"held");
        if !source_lives {
            world.reset(source);
        }
        world.pass(Duration::from_secs(59));
        assert!(world.console(uuid(1)).unwrap().moving);
        world.pass(Duration::from_secs(2));
        let console = world.console(uuid(1)).unwrap();
        assert_eq!((console.moving, console.vms), (false, usize::from(source_lives)));
        assert_eq!(aborted(&world), 1);
        assert_eq!(world.engine.totals().input_lost, if source_lives { 0 } else { 4 });
        assert_eq!(world.typed(source), if source_lives { "held" } else { "" });
        assert!(world.is_open(client));
    }
}

#[test]
fn a_socket_that_does_not_take_goahead_gets_notnow_instead() {
    for room in 0..40 {
        let mut world = World::new(Config::default());
        let source = world.vm(vm_config(1));
        let raw = world.client(uuid(1), Kind::Raw);
        world.type_wire(raw, b"$");
        world.stall(source, room);
        world.type_wire(raw, b"\xff\xff\xff\xff");
        world.host(source).session.begin(SEQUENCE);
        world.settle();
        world.type_wire(raw, b"held");
        world.pass(Duration::from_millis(4100));
        world.unstall(source);
        let (goaheads, notnows) =
            (usize::from(world.host(source).secret().is_some()), notnows(&mut world, source));
        assert_eq!(goaheads + notnows, 1, "{room}");
        assert_eq!(world.host(source).session.malformed(), 0);
        if notnows == 1 {
            assert_eq!(world.typed(source), "$\\xff\\xff\\xff\\xffheld", "{room}");
        } else {
            world.host(source).session.abort();
            world.settle();
            assert_eq!(world.typed(source), "$\\xff\\xff\\xff\\xffheld", "{room}");
        }
    }
}

#[test]
fn begin_before_identity_is_refused() {
    let mut world = World::new(Config::default());
    let vm = world.vm_connects(VmConfig { vc_uuid: None, bios_uuid: None, ..vm_config(1) });
    world.settle();
    world.host(vm).session.begin(SEQUENCE);
    world.settle();
    assert_eq!(notnows(&mut world, vm), 1);
    assert_eq!(world.engine.totals().vmotions_refused, 1);
}

#[test]
fn begin_again_replaces_the_move_under_way() {
    let mut world = World::new(Config::default());
    let (source, first) = away(&mut world);
    let stale = world.vm(first.clone());
    let (_, second) = begin(&mut world, source);
    assert_ne!(first.resume, second.resume);
    world.host(stale).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 0);
    let target = world.vm(second);
    world.host(target).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 1);
}

#[test]
fn a_target_may_move_on_at_once() {
    let mut world = World::new(Config { banner: false, ..Config::default() });
    let (source, config) = away(&mut world);
    let client = world.client(uuid(1), Kind::Telnet);
    let second = world.vm(config);
    world.host(second).session.complete();
    world.host(second).session.print(b"two ");
    let (_, config) = begin(&mut world, second);
    let third = world.vm(config);
    world.host(third).session.complete();
    world.print(third, b"three");
    world.pass(Duration::from_secs(1));
    world.type_wire(client, b"x");
    assert_eq!((world.seen(client), world.typed(third)), ("two three".into(), "x".into()));
    assert_eq!(world.engine.totals().vmotions_completed, 2);
    world.pass(Duration::from_secs(10));
    assert!(!world.is_open(source) && !world.is_open(second) && world.is_open(third));
}

#[test]
fn a_source_that_has_moved_away_cannot_begin_again() {
    for pause in [0, 20] {
        let mut world = World::new(Config { banner: false, ..Config::default() });
        let (source, config) = away(&mut world);
        let client = world.client(uuid(1), Kind::Telnet);
        let target = world.vm(config);
        world.host(target).session.complete();
        world.settle();
        world.pass(Duration::from_millis(pause));
        world.host(source).session.begin(b"once more");
        world.settle();
        assert_eq!(notnows(&mut world, source), 1, "after {pause} ms");
        world.type_wire(client, b"x");
        world.print(target, b"y");
        world.pass(Duration::from_secs(1));
        assert_eq!((world.typed(target), world.seen(client)), ("x".into(), "y".into()));
        let console = world.console(uuid(1)).unwrap();
        assert_eq!((console.vms, console.moving), (1, false));
    }
}

#[test]
fn abort_or_begin_on_a_target_means_nothing_before_complete() {
    let mut world = World::new(Config::default());
    let (_, config) = away(&mut world);
    let target = world.vm(config);
    world.host(target).session.put(&Message::VmotionAbort { sequence: b"" });
    world.host(target).session.put(&Message::VmotionBegin { sequence: b"x" });
    world.settle();
    assert!(world.wire(target).windows(4).any(|at| at == [250, 232, 43, b'x']));
    world.host(target).session.complete();
    world.settle();
    assert_eq!(world.engine.totals().vmotions_completed, 1);
}

#[test]
fn two_ports_of_one_vm_move_at_once() {
    for multi_console in [true, false] {
        let mut world = World::new(Config { multi_console, banner: false, ..Config::default() });
        let configs = ["com1", "com2"].map(|uri| VmConfig { uri: uri.into(), ..vm_config(1) });
        let sources = configs.clone().map(|config| world.vm(config));
        for (n, &source) in sources.iter().enumerate() {
            world.host(source).session.begin(&[n as u8, IAC]);
        }
        world.settle();
        let targets: Vec<_> = [1, 0]
            .into_iter()
            .map(|n: usize| {
                let secret = world.host(sources[n]).secret().unwrap();
                let resume = Some(Resume { sequence: vec![n as u8, IAC], secret });
                world.vm(VmConfig { resume, ..configs[n].clone() })
            })
            .collect();
        for &target in &targets {
            world.host(target).session.complete();
        }
        world.settle();
        for &source in &sources {
            world.end(source);
        }
        assert_eq!(world.engine.totals().vmotions_completed, 2);
        let consoles: Vec<usize> = world.engine.consoles().map(|console| console.vms).collect();
        assert_eq!(consoles, if multi_console { vec![1, 1] } else { vec![2] });
    }
}

#[test]
fn a_vm_that_begins_moves_and_vanishes_over_and_over_leaves_a_bounded_trace() {
    // Each leaves a secret that someone may still come with, for a minute.
    let mut world = World::new(Config::default());
    for _ in 0..2000 {
        let (source, _) = away(&mut world);
        world.break_off(source);
        world.links.remove(&source);
    }
    assert!(world.console(uuid(1)).unwrap().moving);
    let waited_for = 2000 - world.engine.totals().vmotions_timed_out;
    assert!(waited_for < 64, "{waited_for} moves are waited for");
    world.pass(Duration::from_secs(61));
    assert!(!world.console(uuid(1)).unwrap().moving);
    assert_eq!(world.console(uuid(1)).unwrap().vms, 0);
}
