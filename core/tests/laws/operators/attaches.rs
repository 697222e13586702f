//! Attaches: what they carry, from where on, beside whom, and how they end.

use serde_json::json;
use vspc_core::admin::operator::{CONTROL, Rules};
use vspc_core::concentrator::{Config, ConnId, EventKind};
use vspc_core::mux::{Received, StreamId};

use super::client::Operator;
use crate::admin::config;
use crate::world::{Kind, World, uuid, vm_config};

#[test]
fn an_attach_carries_guest_bytes_both_ways_and_tells_what_happens() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    world.print(vm, b"before\xff\r\n");
    let mut operator = Operator::known(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    let attach =
        json!({ "op": "attach", "console": "vm01", "stream": stream, "lock": "write", "scrollback": 100 });
    let ok = operator.ok(&mut world, attach);
    assert_eq!((&ok["access"], &ok["lock"], &ok["offset"]), (&json!("write"), &json!("write"), &json!(0)));
    operator.pass(&mut world);
    assert_eq!(operator.take(stream, usize::MAX), b"before\xff\r\n");
    operator.session.write(StreamId(stream), b"ls\xff\r").unwrap();
    operator.pass(&mut world);
    assert_eq!(world.host(vm).typed, b"ls\xff\r");
    let client = world.client(uuid(1), Kind::Telnet);
    let present = operator.notices(&mut world, "present");
    assert_eq!(present.last().unwrap()["clients"], 2);
    world.host(vm).session.begin(b"move");
    world.settle();
    let state = operator.notices(&mut world, "state");
    assert_eq!((&state[0]["state"], &state[0]["offset"]), (&json!("moving"), &json!(9)));
    world.host(vm).session.abort();
    world.settle();
    world.reset(client);
    world.end(vm);
    assert_eq!(operator.notices(&mut world, "state").last().unwrap()["state"], "waiting");
    operator.session.reset(StreamId(stream)).unwrap();
    operator.pass(&mut world);
    let left = |kind: &EventKind| matches!(kind, EventKind::Left { stay, .. } if stay.typed == 4);
    assert_eq!(world.told(left), 1);
    assert_eq!(world.console(uuid(1)).unwrap().clients, 0);
}

#[test]
fn offsets_count_output_from_before_a_restart_too() {
    let mut world = World::new(Config { restored_output: 1000, ..config() });
    let vm = world.vm(vm_config(1));
    world.print(vm, b"new");
    let console = world.console(uuid(1)).unwrap().label.id;
    assert_eq!(world.engine.restore_output(console, b"old\xff", world.now), 4);
    let mut operator = Operator::known(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    let attach = json!({ "op": "attach", "console": "vm01", "stream": stream, "scrollback": 100 });
    let ok = operator.ok(&mut world, attach);
    operator.pass(&mut world);
    assert_eq!(operator.take(stream, usize::MAX), b"old\xffnew");
    let (epoch, begun) = (ok["epoch"].clone(), ok["offset"].as_u64().unwrap());
    assert_eq!(ok["console"]["offset"], begun + 7);
    world.break_off(operator.id);
    world.settle();
    for (read, rest) in [(2, &b"d\xffnew"[..]), (5, b"ew")] {
        let mut again = Operator::known(&mut world);
        let stream = again.session.open_announced().unwrap().0;
        let from = json!({ "epoch": epoch, "offset": begun + read });
        let attach = json!({ "op": "attach", "console": "vm01", "stream": stream, "from": from });
        again.ok(&mut world, attach);
        again.pass(&mut world);
        assert_eq!(again.take(stream, usize::MAX), rest);
    }
}

#[test]
fn a_client_that_comes_back_goes_on_where_it_was_or_is_told_that_this_is_gone() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    world.print(vm, b"0123456789");
    let mut operator = Operator::known(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    let ok = operator.ok(&mut world, json!({ "op": "attach", "console": "vm01", "stream": stream }));
    let epoch = ok["epoch"].clone();
    assert_eq!(ok["offset"], 10);
    world.break_off(operator.id);
    world.settle();
    world.print(vm, b"abc\xff\xffdef");
    let mut again = Operator::known(&mut world);
    let stream = again.session.open_announced().unwrap().0;
    for (epoch, offset, code) in [(json!("other"), 10, "gone"), (epoch.clone(), 99, "gone")] {
        let from = json!({ "epoch": epoch, "offset": offset });
        let attach = json!({ "op": "attach", "console": "vm01", "stream": stream, "from": from });
        assert_eq!(again.code(&mut world, attach), code);
    }
    let from = json!({ "epoch": epoch, "offset": 12 });
    let ok =
        again.ok(&mut world, json!({ "op": "attach", "console": "vm01", "stream": stream, "from": from }));
    assert_eq!(ok["offset"], 12);
    again.pass(&mut world);
    assert_eq!(again.take(stream, usize::MAX), b"c\xff\xffdef");
}

#[test]
fn locks_are_taken_changed_and_given_up_and_die_with_the_connection() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let (mut a, mut b) = (Operator::known(&mut world), Operator::known(&mut world));
    let at = a.attach(&mut world, "vm01", "exclusive");
    let stream = b.session.open_announced().unwrap().0;
    let refused = b.ask(&mut world, json!({ "op": "attach", "console": "vm01", "stream": stream }));
    assert_eq!((&refused["error"]["code"], &refused["error"]["by"]), (&json!("locked"), &json!("127.0.0.1")));
    a.ok(&mut world, json!({ "op": "lock", "stream": at, "mode": "write" }));
    let ok = b.ok(&mut world, json!({ "op": "attach", "console": "vm01", "stream": stream }));
    assert_eq!((&ok["access"], &ok["console"]["lock"]["mode"]), (&json!("read"), &json!("write")));
    b.session.write(StreamId(stream), b"dropped").unwrap();
    b.pass(&mut world);
    assert_eq!(world.typed(vm), "");
    assert_eq!(b.code(&mut world, json!({ "op": "lock", "stream": stream, "mode": "write" })), "locked");
    assert_eq!(b.code(&mut world, json!({ "op": "break", "stream": stream })), "locked");
    a.ok(&mut world, json!({ "op": "lock", "stream": at, "mode": "free-for-all" }));
    let access = b.notices(&mut world, "access");
    assert!(access.last().unwrap()["lock"].is_null());
    b.ok(&mut world, json!({ "op": "lock", "stream": stream, "mode": "free-for-all" }));
    b.session.write(StreamId(stream), b"typed").unwrap();
    b.pass(&mut world);
    assert_eq!(world.typed(vm), "typed");
    assert_eq!(a.code(&mut world, json!({ "op": "lock", "stream": at, "mode": "exclusive" })), "locked");
    world.break_off(b.id);
    world.settle();
    a.ok(&mut world, json!({ "op": "lock", "stream": at, "mode": "exclusive" }));
    world.reset(a.id);
    world.settle();
    Operator::known(&mut world).attach(&mut world, "vm01", "exclusive");
}

#[test]
fn a_stalled_attach_is_noticed_by_nobody_else() {
    let mut world = World::new(config());
    let vms: Vec<ConnId> = (1..=8).map(|n| world.vm(vm_config(n))).collect();
    let mut operator = Operator::known(&mut world);
    let streams: Vec<u64> =
        (1..=8).map(|n| operator.attach(&mut world, &format!("vm{n:02}"), "free-for-all")).collect();
    // Nobody reads the first.
    for _ in 0..64 {
        world.print(vms[0], &[b'x'; 4096]);
        operator.pass(&mut world);
    }
    for round in 0..20 {
        for (n, &vm) in vms.iter().enumerate().skip(1) {
            world.print(vm, format!("{n} {round}\r\n").as_bytes());
            operator.pass(&mut world);
            let seen = operator.take(streams[n], usize::MAX);
            assert_eq!(String::from_utf8(seen).unwrap(), format!("{n} {round}\r\n"));
        }
    }
    assert_eq!(world.engine.receive_window(vms[0]), vspc_core::concentrator::READ_MAX);
    let first = operator.take(streams[0], usize::MAX);
    assert_eq!(first.len(), 65536, "its window, and no more");
}

#[test]
fn one_that_lags_hears_how_much_it_has_missed_and_where() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01", "read-only");
    for _ in 0..1024 {
        world.print(vm, &[b'y'; 4096]);
    }
    let mut seen = operator.read(&mut world, stream).len();
    let missed = operator.notices(&mut world, "missed");
    assert_eq!(missed.len(), 1);
    seen += operator.read(&mut world, stream).len();
    assert_eq!(seen as u64 + missed[0]["bytes"].as_u64().unwrap(), 1024 * 4096);
}

#[test]
fn whoever_is_refused_a_lock_is_told_who_else_is_in_the_way() {
    let admin_rights = Rules::new(vec!["loopback=operator+delegate".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    world.vm(vm_config(1));
    let [mut ann, mut bob] = ["ann", "bob"].map(|user| {
        let mut operator = Operator::new(&mut world);
        let on_behalf = json!({ "user": user, "rights": "writer" });
        operator.ok(&mut world, json!({ "op": "hello", "v": 1, "for": on_behalf }));
        operator
    });
    let at = ann.attach(&mut world, "vm01", "write");
    bob.attach(&mut world, "vm01", "read-only");
    let refused = ann.ask(&mut world, json!({ "op": "lock", "stream": at, "mode": "exclusive" }));
    assert_eq!(refused["error"]["code"], "locked");
    assert!(refused["error"]["by"].as_str().unwrap().starts_with("bob"), "{refused}");
}

#[test]
fn who_takes_the_control_stream_for_a_console_or_a_stream_twice_is_told_so() {
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    for (stream, code) in [(1, "no-such-stream"), (99, "no-such-stream"), (0, "no-such-stream")] {
        let attach = json!({ "op": "attach", "console": "vm01", "stream": stream });
        assert_eq!(operator.code(&mut world, attach), code, "{stream}");
    }
    let stream = operator.attach(&mut world, "vm01", "read-only");
    let attach = json!({ "op": "attach", "console": "vm01", "stream": stream });
    assert_eq!(operator.code(&mut world, attach), "stream-in-use");
}

#[test]
fn a_thousand_attaches_on_one_connection_are_each_shown_their_console() {
    let mut world = World::new(Config { client_ports: None, ..config() });
    let vms: Vec<ConnId> = (1..=250).map(|n| world.vm(vm_config(n))).collect();
    let mut operator = Operator::known(&mut world);
    let names: Vec<String> = (1..=250).map(|n| format!("vm{n:02}")).collect();
    let streams: Vec<u64> =
        (0..1000).map(|n| operator.attach(&mut world, &names[n % 250], "free-for-all")).collect();
    for (n, &vm) in vms.iter().enumerate() {
        world.print(vm, format!("here is {n}").as_bytes());
    }
    operator.pass(&mut world);
    for (n, &stream) in streams.iter().enumerate() {
        let seen = operator.take(stream, usize::MAX);
        assert_eq!(String::from_utf8(seen).unwrap(), format!("here is {}", n % 250));
    }
    world.break_off(operator.id);
    world.settle();
    assert!(world.engine.consoles().all(|console| console.clients == 0));
}

#[test]
fn why_an_attach_has_ended_is_told_before_its_stream_ends() {
    let admin_rights = Rules::new(vec!["loopback=operator".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    world.vm(vm_config(1));
    let (mut a, mut b) = (Operator::known(&mut world), Operator::known(&mut world));
    let stream = b.attach(&mut world, "vm01", "free-for-all");
    a.ok(&mut world, json!({ "op": "bump", "console": "vm01" }));
    // A byte at a time: whichever is sent first comes first.
    for byte in std::mem::take(world.wire(b.id)) {
        b.session.handle_received(&[byte], world.now);
        let has_ended = b.session.received(StreamId(stream)) == Ok(Received::End);
        let told = b.take(CONTROL.0, usize::MAX);
        b.heard.extend(told);
        assert!(!has_ended || String::from_utf8_lossy(&b.heard).contains("bumped"));
    }
    b.pass(&mut world);
    assert!(matches!(b.session.received(StreamId(stream)), Ok(Received::End) | Err(_)));
}
