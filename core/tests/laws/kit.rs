//! VMware's protocol on the admin port (admin.md §8), from the client's side.

use std::time::Duration;

use serde_json::json;
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{CloseReason, Config, ConnId, EventKind, Identity, Reservation};
use vspc_core::vmware::{Uuid, VmEvent};

use crate::admin::{ask, attach, config, connect, expect_one_visit, say};
use crate::operators::client::Operator;
use crate::world::{World, show, uuid, vm_config};

const OFFER: &[u8] = b"\xff\xfb\xe9";
const AGREES: &[u8] = b"\xff\xfd\xe9";
pub(crate) const GET_LIST: &[u8] = b"\xff\xfa\xe9\x10\xff\xf0";
const LEAVE: &[u8] = b"\xff\xfa\xe9\x20\xff\xf0";
pub(crate) const CONNECTED: &[u8] = b"\xff\xfa\xe9\x21\xff\xf0";
pub(crate) const DISCONNECTED: &[u8] = b"\xff\xfa\xe9\x22\xff\xf0";

/// The bytes of locks.
pub(crate) const BOTH: u8 = 0x00;
pub(crate) const READ: u8 = 0x01;
const EXCLUSIVE: u8 = 0x10;
const WRITE: u8 = 0x11;
const FALLBACK: u8 = 0x20;

/// A client that has agreed.
pub(crate) fn agreed(world: &mut World) -> ConnId {
    let id = connect(world);
    world.pass(Duration::from_millis(201));
    assert_eq!(show(&std::mem::take(world.wire(id))), show(OFFER));
    assert_eq!(show(&say(world, id, AGREES)), "");
    id
}

fn digits(uuid: Uuid) -> String {
    uuid.simple().to_string().to_uppercase()
}

/// Asks to be connected, and returns what came.
pub(crate) fn connects(world: &mut World, id: ConnId, uuid: Uuid, lock: u8) -> Vec<u8> {
    let wire = [b"\xff\xfa\xe9\x20", &[lock][..], digits(uuid).as_bytes(), b"\xff\xf0"].concat();
    say(world, id, &wire)
}

/// A client that is connected.
fn connected(world: &mut World, uuid: Uuid, lock: u8) -> ConnId {
    let id = agreed(world);
    assert_eq!(show(&connects(world, id, uuid, lock)), show(CONNECTED));
    id
}

#[test]
fn who_is_silent_is_offered_the_option_and_who_does_not_agree_is_closed() {
    for answer in [&b""[..], b"ls\r", b"\xff\xfd\x03"] {
        let mut world = World::new(config());
        let id = connect(&mut world);
        world.pass(Duration::from_millis(199));
        assert_eq!(show(world.wire(id)), "");
        world.pass(Duration::from_millis(2));
        assert_eq!(show(&std::mem::take(world.wire(id))), show(OFFER));
        if !answer.is_empty() {
            say(&mut world, id, b"\xff\xf1");
            say(&mut world, id, answer);
        }
        world.pass(Duration::from_secs(13));
        assert!(!world.is_open(id), "{}", show(answer));
    }
    let mut world = World::new(config());
    let id = connect(&mut world);
    assert_eq!(show(&say(&mut world, id, b"\xff\xfe\xe9")), show(OFFER));
    assert_eq!(world.reason(id), Some(CloseReason::NotUnderstood));
}

#[test]
fn one_that_was_silent_and_then_speaks_another_protocol_is_served_in_that() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let id = connect(&mut world);
    world.pass(Duration::from_secs(3));
    assert_eq!(show(&std::mem::take(world.wire(id))), show(OFFER));
    assert!(show(&say(&mut world, id, b"LIST\n")).contains(" -> "));
}

#[test]
fn who_has_agreed_may_wait_and_is_told_of_all_ports() {
    let mut world = World::new(Config { multi_console: true, ..config() });
    let mut vm = vm_config(1);
    vm.uri = "vspc?port=com2".into();
    world.vm(vm);
    let id = agreed(&mut world);
    world.pass(Duration::from_secs(3600));
    let list = say(&mut world, id, GET_LIST);
    let (id_, name) = (digits(uuid(1)), world.console(uuid(1)).unwrap().label.name.clone());
    let body = format!("{id_}.com2\\x00{name}\\x00\\xff\\xf0");
    assert_eq!(show(&list), format!("\\xff\\xfa\\xe9\\x11{body}"));
    let wire = [b"\xff\xfa\xe9\x20\x00", id_.as_bytes(), b".com2\xff\xf0"].concat();
    assert_eq!(show(&say(&mut world, id, &wire)), show(CONNECTED));
    assert_eq!(show(&connects(&mut world, id, uuid(1), BOTH)), show(DISCONNECTED), "that port has a label");
}

#[test]
fn bytes_go_both_ways_while_one_is_connected_and_not_otherwise() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = agreed(&mut world);
    say(&mut world, id, b"dropped");
    assert_eq!(show(&connects(&mut world, id, uuid(1), BOTH)), show(CONNECTED));
    world.print(vm, b"out\xff.");
    assert_eq!(show(&std::mem::take(world.wire(id))), show(b"out\xff\xff."));
    say(&mut world, id, b"in\xff\xff\r");
    assert_eq!(world.typed(vm), show(b"in\xff\r"));
    say(&mut world, id, b"\xff\xf3");
    assert_eq!(world.host(vm).was_told(|event| matches!(event, VmEvent::Break)), 1);
    assert_eq!(show(&say(&mut world, id, LEAVE)), show(DISCONNECTED));
    world.print(vm, b"unseen");
    assert_eq!(show(&say(&mut world, id, b"dropped")), "");
    assert_eq!(show(&connects(&mut world, id, uuid(1), WRITE)), show(CONNECTED));
    say(&mut world, id, b"!");
    assert_eq!(world.typed(vm), show(b"in\xff\r!"));
    world.print(vm, b"seen");
    assert_eq!(show(&std::mem::take(world.wire(id))), "seen");
}

#[test]
fn locks_are_granted_by_the_one_table_and_refusals_are_told_truthfully() {
    // What holds first, what is asked for then, and whether that is granted (admin.md §7).
    for (first, then, is_granted) in [
        (BOTH, BOTH, true),
        (BOTH, EXCLUSIVE, false),
        (BOTH, WRITE, false),
        (BOTH, FALLBACK, true),
        (BOTH, READ, true),
        (READ, EXCLUSIVE, false),
        (READ, WRITE, true),
        (WRITE, BOTH, false),
        (WRITE, WRITE, false),
        (WRITE, FALLBACK, true),
        (WRITE, READ, true),
        (EXCLUSIVE, BOTH, false),
        (EXCLUSIVE, FALLBACK, false),
        (EXCLUSIVE, READ, false),
    ] {
        let mut world = World::new(config());
        let vm = world.vm(vm_config(1));
        connected(&mut world, uuid(1), first);
        let second = agreed(&mut world);
        let answer = connects(&mut world, second, uuid(1), then);
        let expected = if is_granted { CONNECTED } else { DISCONNECTED };
        assert_eq!(show(&answer), show(expected), "{then:#04x} beside {first:#04x}");
        say(&mut world, second, b"x");
        let may_type = is_granted && then != READ && (then, first) != (FALLBACK, WRITE);
        assert_eq!(world.typed(vm), if may_type { "x" } else { "" }, "{then:#04x} beside {first:#04x}");
        let refused = world.told(|kind| matches!(kind, EventKind::LockRefused { .. }));
        assert_eq!(refused, usize::from(!is_granted));
    }
}

#[test]
fn a_lock_ends_with_its_connection_its_port_and_its_wish() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    world.vm(vm_config(2));
    let ways: [fn(&mut World, ConnId); 9] = [
        World::end,
        World::reset,
        |world, id| world.break_off(id),
        |world, id| drop(say(world, id, LEAVE)),
        |world, id| drop(connects(world, id, uuid(2), BOTH)),
        // Refused: then it is connected to nothing.
        |world, id| drop(connects(world, id, uuid(9), BOTH)),
        |world, id| drop(connects(world, id, uuid(1), 0x77)),
        |world, id| drop(say(world, id, b"\xff\xfa\xe9\x20\x10vm01\xff\xf0")),
        |world, id| world.engine.kick(id, world.now).map(drop).unwrap(),
    ];
    for leave in ways {
        let holder = connected(&mut world, uuid(1), EXCLUSIVE);
        assert!(show(&ask(&mut world, "vm01", "write").1).contains("lock_failed"));
        leave(&mut world, holder);
        world.settle();
        let other = attach(&mut world, "vm01", "exclusive", "exclusive");
        world.end(other);
        world.end(holder);
    }
}

#[test]
fn one_whose_console_ends_or_who_is_sent_away_is_told_and_may_connect_again() {
    let admin_rights = Rules::new(vec!["loopback=operator".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    world.vm(vm_config(1));
    let id = connected(&mut world, uuid(1), BOTH);
    let mut operator = Operator::known(&mut world);
    let who = operator.ok(&mut world, json!({ "op": "who", "console": "vm01" }));
    let client = &who["clients"][0];
    assert_eq!((&client["speaks"], &client["who"]), (&json!("kit"), &json!("127.0.0.1")));
    operator.ok(&mut world, json!({ "op": "bump", "console": "vm01" }));
    assert_eq!(show(&std::mem::take(world.wire(id))), show(DISCONNECTED));
    let left = |kind: &EventKind| matches!(kind, EventKind::Left { because: CloseReason::Bumped, .. });
    assert_eq!(world.told(left), 1);
    assert!(world.is_open(id));
    assert_eq!(show(&connects(&mut world, id, uuid(1), BOTH)), show(CONNECTED));
    let who = operator.ok(&mut world, json!({ "op": "who", "console": "vm01" }));
    operator.ok(&mut world, json!({ "op": "kick", "client": who["clients"][0]["id"] }));
    assert_eq!(show(&std::mem::take(world.wire(id))), show(DISCONNECTED));
    assert_eq!(show(&connects(&mut world, id, uuid(1), BOTH)), show(CONNECTED));
    world.shut_down();
    assert_eq!(show(&std::mem::take(world.wire(id))), show(DISCONNECTED));
}

#[test]
fn what_a_vm_prints_last_is_shown_before_the_server_goes() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = connected(&mut world, uuid(1), BOTH);
    world.stall(id, 0);
    world.print(vm, b"last words");
    world.shut_down();
    world.unstall(id);
    assert_eq!(show(&std::mem::take(world.wire(id))), show(&[b"last words", DISCONNECTED].concat()));
}

/// A client that does not read, and whose socket takes up to `n` bytes more.
fn pull_some(world: &mut World, id: ConnId, n: usize) {
    world.stall(id, n);
    world.pull(id, n);
    world.stall(id, 0);
}

/// A server that keeps so many consoles.
fn crowded(count: u32) -> World {
    let mut world = World::new(Config { client_ports: None, ..config() });
    for n in 0..count {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let mut kept = Reservation::new(Identity::of(Uuid::from_bytes(bytes)));
        kept.name = format!("kept{n:04}");
        world.engine.restore(kept, world.now).unwrap();
        world.settle();
    }
    world
}

#[test]
fn nothing_comes_in_the_middle_of_a_list_however_little_is_taken() {
    for step in [1, 7, 4096] {
        let mut world = crowded(1500);
        let vm = world.vm(vm_config(1));
        let id = connected(&mut world, uuid(1), BOTH);
        world.stall(id, 0);
        world.print(vm, b"a\xffb");
        // Up to the first half of the pair, and what is asked for behind the list.
        pull_some(&mut world, id, 2);
        let asked = [GET_LIST, b"typed", LEAVE].concat();
        world.type_wire(id, &asked);
        world.print(vm, b"meanwhile");
        assert_eq!(world.typed(vm), "");
        for _ in 0..40 {
            pull_some(&mut world, id, step);
        }
        world.unstall(id);
        world.pass(Duration::from_millis(1));
        let all = std::mem::take(world.wire(id));
        let begin = [b"a\xff\xff", &b"\xff\xfa\xe9\x11"[..]].concat();
        assert!(all.starts_with(&begin), "{}", show(&all[..20]));
        let end = begin.len() + all[begin.len()..].iter().position(|&byte| byte == 0xff).unwrap();
        let names = String::from_utf8_lossy(&all[begin.len()..end]).into_owned();
        assert_eq!(names.matches("kept").count(), 1500);
        assert_eq!(names.split('\0').count(), 3 * 1501);
        assert!(all[end..].starts_with(b"\xff\xf0"));
        let rest = &all[end + 2..];
        // What was asked behind the list ends the connection to the port: output may come before that.
        assert!(rest.ends_with(DISCONNECTED), "{}", show(rest));
        assert!(b"bmeanwhile".starts_with(&rest[..rest.len() - DISCONNECTED.len()]), "{}", show(rest));
        assert_eq!(world.typed(vm), "typed");
    }
}

#[test]
fn a_console_that_ends_while_a_list_is_told_is_told_of_behind_it() {
    let mut world = crowded(1500);
    world.vm(vm_config(1));
    let id = connected(&mut world, uuid(1), BOTH);
    world.stall(id, 0);
    world.type_wire(id, GET_LIST);
    pull_some(&mut world, id, 100);
    let console = world.console(uuid(1)).unwrap().label.id;
    let client = world.engine.clients(console).next().unwrap().id;
    world.engine.kick(client, world.now).unwrap();
    world.settle();
    world.unstall(id);
    let all = std::mem::take(world.wire(id));
    assert!(all.ends_with(&[b"\xff\xf0", DISCONNECTED].concat()), "{}", show(&all[all.len() - 20..]));
    assert_eq!(all.iter().filter(|&&byte| byte == 0xff).count(), 4, "two messages");
}

#[test]
fn a_pair_is_whole_when_one_is_connected_no_longer() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    for taken in 1..4 {
        let id = connected(&mut world, uuid(1), BOTH);
        world.stall(id, 0);
        world.print(vm, b"a\xffb");
        pull_some(&mut world, id, taken);
        world.type_wire(id, LEAVE);
        world.unstall(id);
        let all = std::mem::take(world.wire(id));
        let shown = all.strip_suffix(DISCONNECTED).unwrap_or_else(|| panic!("{}", show(&all)));
        let expected = if taken == 1 { &b"a"[..] } else { b"a\xff\xff" };
        assert_eq!(show(shown), show(expected), "{taken}");
        world.end(id);
    }
}

#[test]
fn what_is_pasted_while_the_vm_takes_nothing_waits_and_arrives_whole() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = connected(&mut world, uuid(1), BOTH);
    world.stall(vm, 0);
    let paste: Vec<u8> = (0..300_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    world.type_wire(id, &paste);
    assert_eq!(world.engine.receive_window(id), 0);
    world.unstall(vm);
    assert!(world.host(vm).typed == paste, "{} bytes", world.host(vm).typed.len());
}

#[test]
fn vmwares_protocol_gets_the_rights_of_vspc_pys() {
    let with = |rule: &str| {
        let admin_rights = Rules::new(vec![rule.parse().unwrap()]);
        let mut world = World::new(Config { admin_rights, ..config() });
        world.vm(vm_config(1));
        world
    };
    let mut world = with("v3=none");
    let silent = connect(&mut world);
    world.pass(Duration::from_secs(1));
    assert_eq!(show(world.wire(silent)), "", "nothing is offered");
    let id = connect(&mut world);
    assert_eq!(show(&say(&mut world, id, AGREES)), "");
    assert!(!world.is_open(id));
    let mut world = with("v3=spectator");
    let id = agreed(&mut world);
    for (lock, answer) in
        [(BOTH, DISCONNECTED), (WRITE, DISCONNECTED), (READ, CONNECTED), (FALLBACK, CONNECTED)]
    {
        assert_eq!(show(&connects(&mut world, id, uuid(1), lock)), show(answer), "{lock:#04x}");
    }
    say(&mut world, id, b"dropped");
    assert_eq!(world.engine.totals().bytes_from_vm, 0);
    assert!(world.console(uuid(1)).is_some_and(|console| console.clients == 1));
}

#[test]
fn audit_lines_tell_of_it_as_of_everybody() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = connected(&mut world, uuid(1), WRITE);
    world.print(vm, b"12345");
    say(&mut world, id, b"abc");
    world.pass(Duration::from_secs(5));
    say(&mut world, id, LEAVE);
    expect_one_visit(&world);
}
