//! Connections that the engine asks for: consoles that are forwarded to somewhere, by rule or because their
//! VM wants it (direction `C`).

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{
    CloseReason, Config, ConnId, ConsoleRule, EventKind, SlowClient, Takeover, Target,
};
use vspc_core::vmware::{Message, Resume, VmConfig};

use crate::world::{Client, Kind, Part, World, uuid, vm_config};

const SEQUENCE: &[u8] = b"\0\0\0\x01";

fn target(uri: &str) -> Arc<Target> {
    Arc::new(uri.parse().unwrap())
}

/// Consoles of these names are forwarded there.
fn to(pattern: &str, uri: &str) -> Config {
    let forwards = vec![(pattern.parse().unwrap(), target(uri))];
    Config { forwards, banner: false, client_ports: None, ..Config::default() }
}

fn called(name: &str, n: u8) -> VmConfig {
    VmConfig { name: name.into(), ..vm_config(n) }
}

/// A VM that asks to be connected to this.
fn wants(uri: &str, n: u8) -> VmConfig {
    VmConfig { direction: b'C', uri: uri.into(), ..vm_config(n) }
}

fn allowing(pattern: &str) -> Config {
    let dial_allow = vec![pattern.parse().unwrap()];
    Config { dial_allow, banner: false, client_ports: None, ..Config::default() }
}

fn raw() -> Part {
    Part::Client(Client::new(Kind::Raw))
}

fn dialled(world: &mut World) -> Vec<String> {
    world.pass(Duration::ZERO);
    world.dialled.iter().map(|(_, target)| target.to_string()).collect()
}

fn not_connected(world: &World) -> usize {
    world.told(|kind| matches!(kind, EventKind::NotConnected(_)))
}

#[test]
fn a_forwarded_console_has_its_target_for_a_client() {
    let mut world = World::new(to("web*", "tcp://attach:2377?hello"));
    world.vm(called("db1", 1));
    assert!(dialled(&mut world).is_empty());
    let vm = world.vm(called("web\"1", 2));
    assert_eq!(dialled(&mut world), ["tcp://attach:2377?hello"]);
    world.print(vm, b"booting \xff\r\n");
    let there = world.answer_dial(raw());
    let hello = format!("{{\"name\":\"web\\\"1\",\"uuid\":\"{}\"}}\r\n", uuid(2).simple());
    let seen = |world: &mut World| std::mem::take(world.wire(there));
    assert_eq!(seen(&mut world), [hello.as_bytes(), b"booting \xff\r\n"].concat(), "all since it came");
    world.print(vm, b"login: ");
    assert_eq!(seen(&mut world), b"login: ");
    world.type_wire(there, b"root\xff\r");
    assert_eq!(world.host(vm).typed, b"root\xff\r");
    let attached = world.events.iter().find(|event| matches!(event.kind, EventKind::ClientAttached { .. }));
    let peer = attached.and_then(|event| event.peer.as_ref()).map(ToString::to_string);
    assert_eq!(peer.as_deref(), Some("tcp://attach:2377?hello"));
}

#[test]
fn what_is_spoken_to_a_target_is_what_its_uri_says() {
    let mut world = World::new(to("*", "telnet://attach:2377"));
    let vm = world.vm(vm_config(1));
    world.print(vm, b"a\xffb");
    let there = world.answer_dial(Part::Client(Client::new(Kind::Telnet)));
    world.pass(Duration::from_secs(5));
    assert!(world.wire(there).windows(4).any(|part| part == b"a\xff\xffb"));
    assert_eq!(world.seen(there), "a\\xffb", "no line of ours among it");
    world.type_wire(there, b"x\xff\xffy");
    assert_eq!(world.host(vm).typed, b"x\xffy");
}

#[test]
fn a_target_that_is_down_is_told_of_once_and_misses_nothing_that_is_kept() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    let vm = world.vm(vm_config(1));
    world.print(vm, b"one ");
    for _ in 0..20 {
        world.refuse_dial(ErrorKind::ConnectionRefused);
        assert!(dialled(&mut world).is_empty(), "not at once");
        world.pass(Duration::from_secs(5));
        assert_eq!(dialled(&mut world).len(), 1, "but soon");
    }
    assert_eq!(not_connected(&world), 1);
    let there = world.answer_dial(raw());
    world.print(vm, b"two ");
    assert_eq!(world.seen(there), "one two ");
    // It goes, misses something, and is there again.
    world.pass(Duration::from_secs(20));
    world.reset(there);
    world.print(vm, b"three ");
    world.pass(Duration::from_secs(5));
    world.refuse_dial(ErrorKind::TimedOut);
    assert_eq!(not_connected(&world), 2, "that it is down is news again");
    world.print(vm, b"four");
    world.pass(Duration::from_secs(5));
    let again = world.answer_dial(raw());
    assert_eq!(world.seen(again), "three four");
}

#[test]
fn what_is_not_kept_for_a_target_is_told_of() {
    let mut world = World::new(Config { scrollback: 1 << 14, ..to("*", "tcp://attach:1") });
    let vm = world.vm(vm_config(1));
    world.print(vm, &[b'a'; 100_000]);
    world.pass(Duration::from_secs(1));
    let there = world.answer_dial(raw());
    let shown = world.wire(there).len() as u64;
    assert!(shown >= 1 << 14);
    assert_eq!(world.told(|kind| *kind == EventKind::ReaderSkipped(100_000 - shown)), 1);
}

#[test]
fn a_target_is_connected_to_while_its_vm_is_there() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    let vm = world.vm(vm_config(1));
    let there = world.answer_dial(raw());
    world.stall(there, 0);
    world.print(vm, b"last words");
    world.end(vm);
    world.pass(Duration::from_secs(1));
    assert!(world.is_open(there), "it has not taken all");
    world.unstall(there);
    world.settle();
    assert_eq!(world.seen(there), "last words");
    assert_eq!(world.reason(there), Some(CloseReason::Gone));
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty());
    // It keeps no console from being forgotten.
    world.pass(Duration::from_secs(90_000));
    assert!(world.console(uuid(1)).is_none());
    world.vm(vm_config(1));
    assert_eq!(dialled(&mut world).len(), 1);
}

#[test]
fn a_move_is_none_of_a_targets_business() {
    for direction in [b'S', b'C'] {
        let mut config = allowing("tcp://attach:1");
        if direction == b'S' {
            config.forwards = to("*", "tcp://attach:1").forwards;
        }
        let mut world = World::new(config);
        let vm_config = VmConfig { direction, uri: "tcp://attach:1".into(), ..vm_config(1) };
        let source = world.vm(vm_config.clone());
        let there = world.answer_dial(raw());
        world.print(source, b"before ");
        world.host(source).session.begin(SEQUENCE);
        world.settle();
        world.type_wire(there, b"typed");
        let secret = world.host(source).secret().unwrap();
        let target =
            world.vm(VmConfig { resume: Some(Resume { sequence: SEQUENCE.to_vec(), secret }), ..vm_config });
        world.host(target).session.complete();
        world.settle();
        world.end(source);
        world.pass(Duration::from_secs(20));
        world.print(target, b"behind");
        assert_eq!(world.seen(there), "before behind");
        assert_eq!(world.typed(target), "typed");
        assert!(world.is_open(there) && dialled(&mut world).is_empty());
    }
}

#[test]
fn a_vm_is_connected_to_what_it_asks_for_if_that_is_allowed() {
    let mut world = World::new(allowing("tcp://*.lab.example:2377"));
    let vm = world.vm(wants("tcp://A.lab.example:2377?name=x", 1));
    assert_eq!(world.reason(vm), None);
    assert_eq!(dialled(&mut world), ["tcp://a.lab.example:2377"]);
    let there = world.answer_dial(raw());
    world.print(vm, b"login: ");
    world.type_wire(there, b"root");
    assert_eq!((world.seen(there).as_str(), world.typed(vm).as_str()), ("login: ", "root"));
    // Its end is the target's, and the other way it is tried again.
    world.end(vm);
    assert_eq!(world.reason(there), Some(CloseReason::Gone));
    // With another wish it is another's client, and with none nobody's.
    world.vm(wants("tcp://b.lab.example:2377", 1));
    assert_eq!(dialled(&mut world), ["tcp://b.lab.example:2377"]);
}

#[test]
fn a_vm_that_asks_for_what_is_not_allowed_is_refused_and_that_is_told() {
    for uri in [
        "tcp://evil:2377",
        "tcp://a.lab.example:22",
        "tcp://a.lab.example:2377@evil:1",
        "tcp://evil:1/.lab.example:2377",
        "tcp://evil:1?.lab.example:2377",
        "tcp://evil:1#.lab.example:2377",
        "tcp://evil\r\n.lab.example:2377",
        "unix:/run/a.lab.example:2377",
        "vSPC.py",
        "",
    ] {
        let mut world = World::new(allowing("*.lab.example:2377"));
        let vm = world.vm(wants(uri, 1));
        assert_eq!(world.reason(vm), Some(CloseReason::Direction), "{uri:?}");
        assert_eq!(world.told(|kind| matches!(kind, EventKind::DialRefused { .. })), 1, "{uri:?}");
        assert!(dialled(&mut world).is_empty(), "{uri:?}");
    }
    // By default nothing is.
    let mut world = World::new(Config::default());
    let vm = world.vm(wants("tcp://a:1", 1));
    assert_eq!(world.reason(vm), Some(CloseReason::Direction));
}

#[test]
fn whoever_does_not_hold_a_vms_input_connects_its_console_to_nothing() {
    for takeover in [Takeover::Probe, Takeover::Refuse] {
        let mut world = World::new(Config { takeover, ..allowing("tcp://*:1") });
        let vm = world.vm(wants("tcp://mine:1", 1));
        let there = world.answer_dial(raw());
        world.vm(wants("tcp://theirs:1", 1));
        assert!(dialled(&mut world).is_empty());
        world.print(vm, b"secret");
        assert_eq!(world.seen(there), "secret");
    }
}

#[test]
fn a_console_with_a_list_of_who_may_use_it_is_connected_to_what_its_own_rule_says_only() {
    let rule = |forward: Option<&str>| ConsoleRule {
        name: Some("web*".parse().unwrap()),
        may: Some(Rules::default()),
        forward: forward.map(target),
        ..ConsoleRule::default()
    };
    let listed = |forward| Config {
        console_rules: vec![rule(forward)],
        forwards: to("*", "tcp://attach:1").forwards,
        ..allowing("*")
    };
    let mut world = World::new(listed(None));
    world.vm(VmConfig { name: "web1".into(), ..wants("tcp://mine:1", 1) });
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty(), "{:?}", dialled(&mut world));
    let mut world = World::new(listed(Some("tcp://safe:1")));
    let vm = world.vm(called("web1", 1));
    assert_eq!(dialled(&mut world), ["tcp://safe:1"]);
    let there = world.answer_dial(raw());
    world.type_wire(there, b"x");
    assert_eq!(world.typed(vm), "x");
    // The list comes while somebody's wish is served.
    let mut world = World::new(allowing("*"));
    world.vm(VmConfig { name: "web1".into(), ..wants("tcp://mine:1", 1) });
    let there = world.answer_dial(raw());
    world.engine.reconfigure(&listed(None), world.now);
    world.settle();
    assert_eq!(world.reason(there), Some(CloseReason::NoRight));
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty());
}

#[test]
fn what_is_configured_anew_counts_at_once() {
    let mut world = World::new(to("*", "tcp://old:1"));
    let vm = world.vm(vm_config(1));
    let old = world.answer_dial(raw());
    world.engine.reconfigure(&to("*", "tcp://new:1"), world.now);
    world.pass(Duration::ZERO);
    assert_eq!(world.reason(old), Some(CloseReason::Gone));
    assert_eq!(dialled(&mut world), ["tcp://new:1"]);
    let new = world.answer_dial(raw());
    world.engine.reconfigure(&to("*", "tcp://new:1"), world.now);
    world.pass(Duration::ZERO);
    assert!(world.is_open(new) && dialled(&mut world).is_empty(), "the same again changes nothing");
    world.engine.reconfigure(&Config { forwards: Vec::new(), ..to("*", "tcp://new:1") }, world.now);
    world.pass(Duration::from_secs(60));
    assert!(!world.is_open(new) && dialled(&mut world).is_empty());
    assert!(world.is_open(vm));
}

#[test]
fn a_target_is_dialled_eight_times_at_once_at_most() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    for n in 1..=30 {
        world.vm(vm_config(n));
    }
    let mut there: Vec<ConnId> = Vec::new();
    while there.len() < 30 {
        world.pass(Duration::ZERO);
        assert_eq!(dialled(&mut world).len(), 8.min(30 - there.len()));
        there.push(world.answer_dial(raw()));
    }
    world.pass(Duration::from_secs(1));
    assert!(dialled(&mut world).is_empty() && there.iter().all(|&id| world.is_open(id)));
}

#[test]
fn a_target_that_lags_is_cut_off_as_a_raw_client_is_and_connected_to_again() {
    let config = Config { slow_client: SlowClient::Skip, ..to("*", "tcp://attach:1") };
    let mut world = World::new(Config { lag_limit: 1 << 20, ..config });
    let vm = world.vm(vm_config(1));
    let there = world.answer_dial(raw());
    world.stall(there, 0);
    for _ in 0..40 {
        world.print(vm, &[b'a'; 100_000]);
    }
    world.pass(Duration::from_secs(3));
    assert_eq!(world.reason(there), Some(CloseReason::TooSlow));
    world.pass(Duration::from_secs(5));
    assert_eq!(dialled(&mut world).len(), 1);
}

#[test]
fn a_target_that_ends_in_order_is_connected_to_again() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    let vm = world.vm(vm_config(1));
    let first = world.answer_dial(raw());
    world.pass(Duration::from_secs(20));
    world.link(first).inbound.extend(b"last");
    world.end(first);
    assert_eq!(world.reason(first), Some(CloseReason::PeerClosed));
    assert_eq!(world.typed(vm), "last");
    world.print(vm, b"panic");
    world.pass(Duration::from_secs(1));
    let second = world.answer_dial(raw());
    assert_eq!(world.seen(second), "panic");
}

#[test]
fn a_target_whose_vm_leaves_and_comes_back_is_shown_nothing_twice() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    let vm = world.vm(vm_config(1));
    let first = world.answer_dial(raw());
    world.print(vm, &[b'a'; 100_000]);
    world.end(vm);
    world.pass(Duration::from_secs(5));
    let vm = world.vm(vm_config(1));
    world.print(vm, b"again");
    let second = world.answer_dial(raw());
    assert_eq!((world.wire(first).len(), world.seen(second).as_str()), (100_000, "again"));
    // It has not taken the rest when its VM is back: one of the two shows each byte.
    world.stall(second, 0);
    world.print(vm, b"1");
    world.end(vm);
    let vm = world.vm(vm_config(1));
    world.print(vm, b"2");
    world.pass(Duration::from_secs(1));
    let third = world.answer_dial(raw());
    world.pass(Duration::from_secs(5));
    let rest = world.seen(second).trim_start_matches("again").to_owned();
    assert_eq!(rest + &world.seen(third), "12");
    assert_eq!(world.told(|kind| matches!(kind, EventKind::ReaderSkipped(_))), 0);
}

#[test]
fn what_did_not_last_is_shown_again_and_is_told_of_as_down_once() {
    let mut world = World::new(to("*", "tcp://proxy:1"));
    let vm = world.vm(vm_config(1));
    world.print(vm, b"booting ");
    for _ in 0..10 {
        let there = world.answer_dial(raw());
        assert_eq!(world.seen(there), "booting ");
        world.end(there);
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(not_connected(&world), 1);
    let there = world.answer_dial(raw());
    world.pass(Duration::from_secs(20));
    world.end(there);
    world.pass(Duration::from_secs(1));
    let again = world.answer_dial(raw());
    world.print(vm, b"ready");
    assert_eq!(world.seen(again), "ready");
}

#[test]
fn a_console_without_a_seat_is_connected_to_nothing_and_what_it_prints_waits() {
    let mut world = World::new(Config {
        max_clients: Some(1),
        client_ports: Config::default().client_ports,
        ..to("*", "tcp://attach:1")
    });
    let vm = world.vm(vm_config(1));
    let there = world.answer_dial(raw());
    world.pass(Duration::from_secs(20));
    world.reset(there);
    let person = world.client(uuid(1), Kind::Telnet);
    world.print(vm, b"meanwhile");
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty());
    world.reset(person);
    world.pass(Duration::from_secs(5));
    let again = world.answer_dial(raw());
    assert_eq!(world.seen(again), "meanwhile");
}

#[test]
fn a_list_that_comes_while_a_vms_wish_is_dialled_counts() {
    let mut world = World::new(allowing("*"));
    world.vm(VmConfig { name: "web1".into(), ..wants("tcp://mine:1", 1) });
    assert_eq!(dialled(&mut world).len(), 1);
    let rule = ConsoleRule {
        name: Some("web*".parse().unwrap()),
        may: Some(Rules::default()),
        ..ConsoleRule::default()
    };
    world.engine.reconfigure(&Config { console_rules: vec![rule], ..allowing("*") }, world.now);
    world.settle();
    let (id, _) = world.dialled[0];
    assert!(!world.engine.handle_connected(id, Ok(()), world.now));
    world.settle();
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty());
}

#[test]
fn a_console_is_connected_to_nobody_elses_target_before_its_name_is_known() {
    let first = ("web*".parse().unwrap(), target("tcp://web:1"));
    let rest = ("*".parse().unwrap(), target("tcp://rest:1"));
    let mut world = World::new(Config { forwards: vec![first, rest], ..to("*", "tcp://rest:1") });
    let vm = world.vm(VmConfig { name: String::new(), ..vm_config(1) });
    assert!(dialled(&mut world).is_empty());
    world.print(vm, b"early");
    world.host(vm).session.put(&Message::VmName(b"web1"));
    world.settle();
    assert_eq!(dialled(&mut world), ["tcp://web:1"]);
    let there = world.answer_dial(raw());
    assert_eq!(world.seen(there), "early");
    // A word of hexadecimal letters is a name, and is not held against UUIDs.
    let hexes = [vec![("0*".parse().unwrap(), target("tcp://hex:1"))]].concat();
    let mut world = World::new(Config { forwards: hexes, ..to("*", "tcp://rest:1") });
    world.vm(called("web1", 1));
    assert!(uuid(1).simple().to_string().starts_with('0') && dialled(&mut world).is_empty());
}

#[test]
fn the_wish_of_who_held_the_input_goes_with_it_and_the_next_ones_counts() {
    let mut world = World::new(allowing("tcp://*:1"));
    let stranger = world.vm(wants("tcp://theirs:1", 1));
    let theirs = world.answer_dial(raw());
    let vm = world.vm(wants("tcp://mine:1", 1));
    world.pass(Duration::from_secs(700));
    world.end(stranger);
    world.pass(Duration::from_secs(60));
    assert!(!world.is_open(theirs));
    assert_eq!(dialled(&mut world), ["tcp://mine:1"]);
    let mine = world.answer_dial(raw());
    world.print(vm, b"secret");
    assert_eq!(world.seen(mine), "secret");
    assert!(!world.seen(theirs).contains("secret"));
}

#[test]
fn a_vm_that_comes_and_goes_has_its_target_dialled_once_a_second() {
    let mut world = World::new(to("*", "tcp://silent:1"));
    let mut count = 0;
    for _ in 0..100 {
        let vm = world.vm(vm_config(1));
        count += dialled(&mut world).len();
        world.end(vm);
        world.pass(Duration::from_millis(50));
    }
    assert!((3..=7).contains(&count), "{count} in five seconds");
}

#[test]
fn a_server_that_goes_down_gives_up_what_it_dials() {
    let mut world = World::new(to("*", "tcp://attach:1"));
    world.vm(vm_config(1));
    assert_eq!(dialled(&mut world).len(), 1);
    world.shut_down();
    assert!(world.dialled.is_empty() && not_connected(&world) == 0);
    world.pass(Duration::from_secs(60));
    assert!(dialled(&mut world).is_empty());
}
