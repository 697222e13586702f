//! The admin port: vSPC.py's clients, OpenStack's lines, and who may type beside whom.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{Address, CloseReason, Config, ConnId, EventKind};

use crate::world::{Client, Kind, Part, World, show, uuid, vm_config};

pub(crate) const ADMIN: u16 = 13371;

/// A server with an admin port.
pub(crate) fn config() -> Config {
    let address = Address::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), ADMIN));
    Config { admin_listen: vec![address], ..Config::default() }
}

/// Someone connects to the admin port, from this machine.
pub(crate) fn connect(world: &mut World) -> ConnId {
    let from = std::mem::replace(&mut world.from, Ipv4Addr::LOCALHOST);
    let id = world.connect_to(ADMIN, Part::Client(Client::new(Kind::Raw))).expect("there is room");
    world.from = from;
    id
}

/// Says something, and returns what came back since the last time.
pub(crate) fn say(world: &mut World, id: ConnId, bytes: &[u8]) -> Vec<u8> {
    world.type_wire(id, bytes);
    world.settle();
    std::mem::take(world.wire(id))
}

/// A text as Python 3.8 and later pickle it.
pub(crate) fn pickled(text: &str) -> Vec<u8> {
    let mut bytes = b"\x80\x04\x95".to_vec();
    bytes.extend((text.len() as u64 + 4).to_le_bytes());
    bytes.extend([0x8c, text.len() as u8]);
    bytes.extend(text.as_bytes());
    bytes.extend([0x94, b'.']);
    bytes
}

pub(crate) const VERSION: &[u8] = b"\x80\x04K\x03.";
pub(crate) const NOBODY: &[u8] = b"\x80\x04N.";
/// What the real client says once it has read the seed.
pub(crate) const TELNET: &[u8] = b"\xff\xfb\x00\xff\xfb\x03\xff\xfd\x00\xff\xfd\x03";
/// What the real server says then.
const OFFERS: &[u8] = b"\xff\xfb\x00\xff\xfb\x03\xff\xfb\x01\xff\xfd\x00\xff\xfd\x03";

/// A client of vSPC.py's asks for a console; returns it and the answers.
pub(crate) fn ask(world: &mut World, name: &str, lock: &str) -> (ConnId, Vec<u8>) {
    let id = connect(world);
    assert_eq!(say(world, id, VERSION), VERSION);
    let answer = say(world, id, &[pickled(name), pickled(lock)].concat());
    (id, answer)
}

/// The same, of one that is let in as `applied`.
pub(crate) fn attach(world: &mut World, name: &str, lock: &str, applied: &str) -> ConnId {
    let (id, answer) = ask(world, name, lock);
    assert_eq!(show(&answer), show(&[pickled("vm_found"), pickled(applied), pickled("")].concat()));
    assert_eq!(say(world, id, TELNET), OFFERS);
    id
}

#[test]
fn the_captured_listing_is_answered_byte_for_byte() {
    let mut world = World::new(config());
    let id = connect(&mut world);
    assert_eq!(say(&mut world, id, VERSION), VERSION);
    let answer = say(&mut world, id, &[NOBODY, &pickled("free_for_all_or_readonly")].concat());
    assert_eq!(show(&answer), show(&[pickled("vm_not_found"), b"\x80\x04K\x00.".to_vec()].concat()));
    assert_eq!(world.reason(id), Some(CloseReason::Answered));
    assert!(!world.is_open(id));
    let uuid = "50 31 23 24 5f 67 89 ab-cd ef fe df ca fe 98 00";
    let mut vm = vm_config(1);
    (vm.name, vm.vc_uuid) = ("vm-alpha".into(), vspc_core::vmware::Uuid::parse(uuid.as_bytes()).ok());
    world.vm(vm);
    let id = connect(&mut world);
    say(&mut world, id, VERSION);
    let answer = say(&mut world, id, &[NOBODY, &pickled("write")].concat());
    let entry = "8004954b000000000000007d94288c046e616d65948c08766d2d616c706861948c0475756964948c21";
    let hex: String = answer.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(hex.contains(&entry[26..66]), "{hex}");
    assert!(show(&answer).contains("503123245f6789ab-cdeffedfcafe9800"));
}

#[test]
fn a_console_is_found_by_name_and_by_uuid_and_what_is_printed_meanwhile_waits_for_telnet() {
    for name in ["vm01", &uuid(1).simple().to_string()] {
        let mut world = World::new(config());
        let vm = world.vm(vm_config(1));
        world.print(vm, b"tick 1\r\n");
        let (id, answer) = ask(&mut world, name, "free_for_all");
        let seed = pickled("tick 1\r\n");
        assert_eq!(show(&answer), show(&[pickled("vm_found"), pickled("free_for_all"), seed].concat()));
        world.print(vm, b"between\r\n");
        assert_eq!(show(world.wire(id)), "", "nothing before its first telnet byte");
        assert_eq!(show(&say(&mut world, id, TELNET)), show(&[OFFERS, b"between\r\n"].concat()));
        say(&mut world, id, b"hi\n");
        assert_eq!(world.typed(vm), show(b"hi\n"));
    }
}

#[test]
fn ports_of_one_vm_have_their_uris_behind_name_and_uuid_and_are_found_by_both() {
    let mut world = World::new(Config { multi_console: true, ..config() });
    let ports = ["com1", "com2"].map(|port| {
        world.vm(vspc_core::vmware::VmConfig { uri: format!("vspc?port={port}"), ..vm_config(1) })
    });
    let id = connect(&mut world);
    say(&mut world, id, VERSION);
    let listed = show(&say(&mut world, id, &[NOBODY, &pickled("write")].concat()));
    for (n, port) in ["com1", "com2"].into_iter().enumerate() {
        let (name, uuid) = (format!("vm01_{port}"), format!("0101010101010101-0101010101010101_{port}"));
        assert!(listed.contains(&name) && listed.contains(&uuid), "{listed}");
        for text in [&name, &uuid] {
            let client = attach(&mut world, text, "free_for_all", "free_for_all");
            say(&mut world, client, b"x");
            world.end(client);
            world.settle();
        }
        assert_eq!(world.typed(ports[n]), "xx", "{port}");
    }
}

#[test]
fn a_client_that_says_nothing_after_its_seed_is_shown_output_after_a_second() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let (id, _) = ask(&mut world, "vm01", "free_for_all");
    world.print(vm, b"later\r\n");
    world.pass(Duration::from_millis(999));
    assert_eq!(show(world.wire(id)), "");
    world.pass(Duration::from_millis(2));
    assert_eq!(show(world.wire(id)), show(&[OFFERS, b"later\r\n"].concat()));
}

#[test]
fn locks_keep_others_out_and_die_with_their_holder_at_each_step() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let refused = show(&pickled("lock_failed"));
    let last: [fn(&mut World, ConnId); 3] = [World::end, World::reset, |world, id| world.break_off(id)];
    for ends in last {
        // Before telnet has begun, and after.
        for begins in [false, true] {
            let (holder, _) = ask(&mut world, "vm01", "exclusive");
            if begins {
                say(&mut world, holder, TELNET);
            }
            for lock in ["exclusive", "write", "free_for_all", "free_for_all_or_readonly"] {
                assert_eq!(show(&ask(&mut world, "vm01", lock).1), refused, "{lock}");
            }
            ends(&mut world, holder);
            world.settle();
        }
    }
    let writer = attach(&mut world, "vm01", "write", "write");
    let reader = attach(&mut world, "vm01", "free_for_all_or_readonly", "free_for_all_or_readonly");
    say(&mut world, writer, b"w");
    say(&mut world, reader, b"r");
    assert_eq!(world.typed(vm), "w", "what a reader types is read and dropped");
    world.end(writer);
    say(&mut world, reader, b"r");
    assert_eq!(world.typed(vm), "w", "a reader stays one");
    assert_eq!(show(&ask(&mut world, "vm01", "exclusive").1), refused, "readers block");
    attach(&mut world, "vm01", "write", "write");
}

#[test]
fn who_is_at_the_port_watches_while_somebody_holds_a_lock_and_types_again_after_it() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let port = world.client(uuid(1), Kind::Telnet);
    let raw = world.client(uuid(1), Kind::Raw);
    world.type_wire(raw, b"r\xffaw");
    world.pass(Duration::from_millis(600));
    world.host(vm).typed.clear();
    world.wire(raw).clear();
    let holder = attach(&mut world, "vm01", "write", "write");
    let watcher = attach(&mut world, "vm01", "free_for_all_or_readonly", "free_for_all_or_readonly");
    assert!(world.seen(port).contains("[vspc: 127.0.0.1 has locked this console: what you type is dropped]"));
    assert_eq!(show(world.wire(raw)), "", "a raw client is shown nothing");
    world.type_wire(port, b"p");
    world.type_wire(raw, b"q");
    world.settle();
    assert_eq!(world.typed(vm), "");
    world.print(vm, b"seen by all");
    assert!(world.seen(port).ends_with("seen by all"));
    world.end(holder);
    assert!(world.seen(port).contains("not locked any more"));
    assert!(!world.seen(watcher).contains("locked"), "what it types goes on being dropped");
    world.type_wire(port, b"P");
    world.type_wire(raw, b"Q");
    world.settle();
    assert_eq!(world.typed(vm), "PQ");
}

#[test]
fn ports_can_be_told_to_ignore_locks() {
    let mut world = World::new(Config { ports_ignore_locks: true, ..config() });
    let vm = world.vm(vm_config(1));
    let port = world.client(uuid(1), Kind::Telnet);
    attach(&mut world, "vm01", "exclusive", "exclusive");
    world.type_wire(port, b"p");
    world.settle();
    assert_eq!(world.typed(vm), "p");
    assert!(!world.seen(port).contains("locked"));
}

#[test]
fn a_name_that_nobody_has_is_answered_with_the_list_and_a_mode_that_is_none_is_named_after_it() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let (_, answer) = ask(&mut world, "nosuch", "bogus");
    assert!(show(&answer).contains("vm_not_found"), "an unknown VM wins over a bad mode");
    let (_, answer) = ask(&mut world, "vm01", "bogus");
    assert_eq!(show(&answer), show(&pickled("lock_invalid")));
}

#[test]
fn enter_from_a_client_of_vspc_py_is_cr_where_that_is_wanted() {
    for (admin_enter_cr, typed) in [(false, &b"ls\n"[..]), (true, b"ls\r")] {
        let mut world = World::new(Config { admin_enter_cr, ..config() });
        let vm = world.vm(vm_config(1));
        let id = attach(&mut world, "vm01", "free_for_all", "free_for_all");
        say(&mut world, id, b"ls\n");
        assert_eq!(world.typed(vm), show(typed));
        let port = world.client(uuid(1), Kind::Telnet);
        world.host(vm).typed.clear();
        say(&mut world, port, b"a\n");
        assert_eq!(world.typed(vm), show(b"a\n"), "who is at the port means what it sends");
    }
}

#[test]
fn what_is_no_protocol_of_this_port_gets_one_answer_and_is_closed() {
    let mut world = World::new(config());
    for (said, answer) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1.1 400 Bad Request"),
        (b"cos\nsystem\n(S'ls'\ntR.", "t understand"),
        (b"\x80\x04cos\nsystem\n.", "t understand"),
        (b"\x80\x04K\x02.", "No common version"),
        (b"hello\r\n", "t understand"),
    ] {
        let id = connect(&mut world);
        let answered = say(&mut world, id, said);
        assert!(show(&answered).contains(answer), "{}: {}", said.escape_ascii(), show(&answered));
        assert!(!world.is_open(id));
    }
    assert!(world.told(|kind| matches!(kind, EventKind::AdminRefused(_))) >= 2);
}

#[test]
fn who_says_nothing_is_closed_after_a_while_and_one_that_dawdles_is_served() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let silent = connect(&mut world);
    let slow = connect(&mut world);
    for byte in [VERSION, &pickled("vm01"), &pickled("write")].concat() {
        world.pass(Duration::from_millis(90));
        say(&mut world, slow, &[byte]);
    }
    world.pass(Duration::from_secs(7));
    assert!(!world.is_open(silent));
    assert!(world.is_open(slow));
}

#[test]
fn openstacks_lines_are_answered() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let hex = uuid(1).simple().to_string();
    let port = world.port(uuid(1)).unwrap();
    for (line, answer) in [
        ("LIST\n".to_owned(), format!("{hex} -> 127.0.0.1:{port}\n")),
        (format!("GET {hex}\r\n"), format!("127.0.0.1:{port}\n")),
        (format!("GET {}\n", uuid(9).simple()), "None\n".to_owned()),
        ("\n".to_owned(), String::new()),
    ] {
        let id = connect(&mut world);
        assert_eq!(String::from_utf8(say(&mut world, id, line.as_bytes())).unwrap(), answer);
        assert!(!world.is_open(id));
    }
}

#[test]
fn a_list_of_thousands_is_written_as_it_is_taken() {
    let mut world = World::new(Config { client_ports: None, ..config() });
    for n in 0..3000u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let identity = vspc_core::concentrator::Identity::of(vspc_core::vmware::Uuid::from_bytes(bytes));
        let mut kept = vspc_core::concentrator::Reservation::new(identity);
        kept.name = format!("vm{n:04}");
        world.engine.restore(kept, world.now).unwrap();
        world.settle();
    }
    let id = connect(&mut world);
    say(&mut world, id, VERSION);
    world.stall(id, 0);
    say(&mut world, id, &[NOBODY, &pickled("write")].concat());
    world.pull(id, 1);
    assert!(world.offer.len() < 64 << 10, "{} bytes wait at once", world.offer.len());
    world.unstall(id);
    world.settle();
    let answer = std::mem::take(world.wire(id));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    for n in [0, 1, 127, 128, 129, 1500, 2998, 2999] {
        assert_eq!(answer.matches(&format!("vm{n:04}")).count(), 1, "vm{n:04}");
    }
    assert_eq!(answer.matches("uuid").count(), 3000);
    assert!(!world.is_open(id));
}

#[test]
fn vspc_pys_protocol_gets_the_rights_that_were_given_to_it() {
    for (rule, list, attach) in [("v3=none", false, false), ("v3=spectator", true, false)] {
        let admin_rights = Rules::new(vec![rule.parse().unwrap()]);
        let mut world = World::new(Config { admin_rights, ..config() });
        world.vm(vm_config(1));
        assert_eq!(show(&ask(&mut world, "other", "write").1).contains("vm01"), list, "{rule}");
        assert_eq!(show(&ask(&mut world, "vm01", "write").1).contains("vm_found"), attach, "{rule}");
        let (_, answer) = ask(&mut world, "vm01", "free_for_all_or_readonly");
        assert_eq!(show(&answer).contains("free_for_all_or_readonly"), list, "{rule}");
    }
}

#[test]
fn an_audit_line_tells_who_came_as_what_for_how_long_and_how_much_went_each_way() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let id = attach(&mut world, "vm01", "write", "write");
    world.print(vm, b"12345");
    say(&mut world, id, b"abc");
    world.pass(Duration::from_secs(5));
    world.end(id);
    expect_one_visit(&world);
}

/// Somebody from this machine has come to a console, has typed three bytes and was shown five, and has left
/// after five seconds.
pub(crate) fn expect_one_visit(world: &World) {
    let attached =
        |kind: &EventKind| matches!(kind, EventKind::Attached { who, .. } if &**who == "127.0.0.1");
    assert_eq!(world.told(attached), 1);
    let left = |kind: &EventKind| match kind {
        EventKind::Left { stay, .. } => (stay.after.as_secs(), stay.typed, stay.shown) == (5, 3, 5),
        _ => false,
    };
    assert_eq!(world.told(left), 1);
}
