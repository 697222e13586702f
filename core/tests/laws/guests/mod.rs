//! Guests with an agent: streams that are consoles, streams that operators open, facts (operator.md §11).

mod agent;
mod enemies;
mod v1;

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{Config, ConsoleRule, EventKind, GuestKey, Mux};
use vspc_core::mux::StreamId;
use vspc_core::vmware::{Resume, VmConfig};
use vspc_guest::{Announcement, Exec, FactLine, Header, Key, Name, answer};

use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::{Kind, World, uuid, vm_config};
use agent::{Agent, facts, log, shell, vm_with_streams};

/// A world with a VM whose agent has been said hello to.
fn world_with_agent(mux: &str) -> (World, Agent) {
    let mut world = World::new(Config { banner: false, ..config() });
    let vm = world.vm(vm_with_streams(1, mux));
    let agent = Agent::new(&world, vm, 9);
    let mut agent = if mux == "s2+sl" { agent.over_sl(&world, 77) } else { agent };
    agent.pass(&mut world);
    (world, agent)
}

fn is_up(kind: &EventKind) -> bool {
    matches!(kind, EventKind::GuestUp { agent } if &**agent == "test-agent 1")
}

/// Lets operator, server and agent have their say.
fn pass(operator: &mut Operator, agent: &mut Agent, world: &mut World) {
    for _ in 0..4 {
        operator.pass(world);
        agent.pass(world);
    }
    operator.pass(world);
}

fn exec(argv: &[&str]) -> Vec<u8> {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    Header::Exec(Exec { argv, ..Exec::new(Key::random([1; 16])) }).line()
}

/// Opens a stream in a guest with this header.
fn open(operator: &mut Operator, world: &mut World, console: &str, header: &[u8]) -> u64 {
    let stream = operator.session.open().unwrap().0;
    operator.session.write(StreamId(stream), header).unwrap();
    operator.ok(world, json!({ "op": "open", "console": console, "stream": stream }));
    stream
}

#[test]
fn an_agent_is_said_hello_to_by_either_carrier_and_found_whatever_was_printed_before() {
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent) = world_with_agent(mux);
        assert!(agent.is_known, "{mux}");
        assert_eq!(world.told(is_up), 1, "{mux}");
        // A guest that starts anew is said hello to again.
        agent = Agent::new(&world, agent.vm, 11);
        if mux != "s2" {
            continue;
        }
        world.print(agent.vm, b"BIOS\r\nGRUB\r\n");
        for _ in 0..3 {
            world.pass(Duration::from_secs(1));
            agent.pass(&mut world);
        }
        assert!(agent.is_known, "{mux}");
        assert_eq!(world.told(is_up), 2, "{mux}");
        let downs = world.told(|kind| matches!(kind, EventKind::GuestDown(_)));
        assert_eq!(downs, 1);
    }
}

#[test]
fn a_key_is_asked_for_and_proved_both_ways() {
    for (ours, theirs, is_met) in [
        (Some(b'k'), Some(b'k'), true),
        (None, None, true),
        (Some(b'k'), Some(b'l'), false),
        (Some(b'k'), None, false),
        (None, Some(b'k'), false),
    ] {
        let guest_key = ours.and_then(|byte| GuestKey::new(&[byte; 32], "key"));
        let mut world = World::new(Config { guest_key, ..config() });
        let vm = world.vm(vm_with_streams(1, "s2"));
        let mut agent = Agent::new(&world, vm, 9);
        if let Some(byte) = theirs {
            agent = agent.with_key(&[byte; 32]);
        }
        agent.pass(&mut world);
        assert_eq!(world.told(is_up), usize::from(is_met), "{ours:?} {theirs:?}");
        let refused = |kind: &EventKind| matches!(kind, EventKind::GuestDown(why) if why.contains("key"));
        assert_eq!(world.told(refused), usize::from(!is_met), "{ours:?} {theirs:?}");
        // It is asked again and again, and told of once.
        for _ in 0..5 {
            world.pass(Duration::from_secs(2));
            agent.pass(&mut world);
        }
        assert_eq!(world.told(refused), usize::from(!is_met), "{ours:?} {theirs:?}");
    }
}

#[test]
fn each_announced_stream_is_a_console_without_a_port_and_carries_every_byte_both_ways() {
    let (mut world, mut agent) = world_with_agent("s2");
    let (one, two) = (agent.announce(&shell("shell")), agent.announce(&log("log/messages")));
    agent.pass(&mut world);
    assert_eq!(agent.line(one).unwrap(), answer::ok(&answer::Done {}));
    assert_eq!(agent.line(two).unwrap(), b"{\"ok\":{\"back\":16384}}\n");
    let mut operator = Operator::known(&mut world);
    let list = operator.ok(&mut world, json!({ "op": "list" }));
    let names: Vec<_> = list["consoles"].as_array().unwrap().iter().map(|console| &console["name"]).collect();
    assert_eq!(names, ["vm01", "vm01/shell", "vm01/log/messages"]);
    let shown = operator.ok(&mut world, json!({ "op": "show", "console": "vm01/shell" }))["console"].clone();
    assert_eq!(
        (&shown["port"], &shown["state"], &shown["suffix"]),
        (&Value::Null, &json!("connected"), &json!("/shell"))
    );
    let stream = operator.attach(&mut world, "vm01/shell", "write");
    let all: Vec<u8> = (0..=255).collect();
    agent.say(one, &all);
    agent.say(two, b"a line of a log\n");
    pass(&mut operator, &mut agent, &mut world);
    assert_eq!(operator.take(stream, usize::MAX), all);
    operator.session.write(StreamId(stream), &all).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert_eq!(agent.came.remove(&one).unwrap(), all);
    // Nothing of that is the plain console's.
    let plain = operator.ok(&mut world, json!({ "op": "show", "console": "vm01" }))["console"].clone();
    assert_eq!((&plain["offset"], &plain["in"]), (&json!(0), &json!(0)));
    assert!(plain["port"].is_u64());
}

#[test]
fn what_is_announced_in_one_breath_with_the_end_of_hello_is_heard() {
    let mut world = World::new(config());
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    let typed = std::mem::take(&mut world.host(vm).typed);
    agent.receive(&typed, &world);
    let answer = agent.says(&world);
    world.print(vm, &answer);
    let typed = std::mem::take(&mut world.host(vm).typed);
    agent.receive(&typed, &world);
    assert!(agent.is_known);
    let ids = ["a", "b", "c"].map(|name| agent.announce(&shell(name)));
    // The streams' bytes come in the order of their ids, or in any other.
    let said = agent.says(&world);
    world.print(vm, &said);
    agent.pass(&mut world);
    for id in ids {
        assert_eq!(agent.line(id).unwrap(), answer::ok(&answer::Done {}));
    }
}

#[test]
fn a_port_for_an_agent_is_a_console_of_its_own_beside_that_of_the_kernel() {
    let mut world = World::new(Config { banner: false, ..config() });
    let kernel = world.vm(vm_config(1));
    let vm = world.vm(VmConfig { uri: "vSPC.py?port=agent&mux=s2".into(), ..vm_config(1) });
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    world.print(kernel, b"login: ");
    let mut operator = Operator::known(&mut world);
    let list = operator.ok(&mut world, json!({ "op": "list" }));
    let names: Vec<_> = list["consoles"].as_array().unwrap().iter().map(|console| &console["name"]).collect();
    assert_eq!(names, ["vm01", "vm01_agent", "vm01_agent/shell"]);
    let stream = operator.attach(&mut world, "vm01", "write");
    operator.session.write(StreamId(stream), b"root\r").unwrap();
    operator.pass(&mut world);
    assert_eq!(world.typed(kernel), "root\\r");
    assert!(agent.is_known);
}

#[test]
fn a_copy_of_a_vm_whose_port_carries_streams_has_a_guest_of_its_own() {
    let mut world = World::new(config());
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut one = Agent::new(&world, vm, 9);
    one.pass(&mut world);
    let vm = world.vm(VmConfig { name: "copy".into(), ..vm_with_streams(1, "s2") });
    for _ in 0..20 {
        world.pass(Duration::from_secs(1));
        one.pass(&mut world);
    }
    let mut two = Agent::new(&world, vm, 10);
    two.pass(&mut world);
    assert!(one.is_known && two.is_known);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}

#[test]
fn a_stream_that_ends_leaves_its_console_and_one_of_its_name_comes_back_to_it() {
    let (mut world, mut agent) = world_with_agent("s2");
    let first = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01/shell", "write");
    agent.say(first, b"bye\r\n");
    agent.session.finish(first).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.ended.contains(&first));
    assert_eq!(operator.notices(&mut world, "state").last().unwrap()["state"], "waiting");
    let second = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.say(second, b"again\r\n");
    // A second one of the name at the same time is refused.
    let third = agent.announce(&shell("shell"));
    pass(&mut operator, &mut agent, &mut world);
    assert_eq!(operator.take(stream, usize::MAX), b"bye\r\nagain\r\n");
    assert!(agent.heard(third).contains("in-use"));
    assert_eq!(operator.notices(&mut world, "state").last().unwrap()["state"], "connected");
    // The guest dies: the console stays, and so does what it printed.
    let vm = agent.vm;
    world.reset(vm);
    assert_eq!(operator.notices(&mut world, "state").last().unwrap()["state"], "waiting");
    let shown = operator.ok(&mut world, json!({ "op": "show", "console": "vm01/shell" }));
    assert_eq!(shown["console"]["offset"], 12);
}

#[test]
fn a_reader_that_stalls_stops_its_own_stream_and_no_sibling() {
    let mut world = World::new(Config {
        slow_client: vspc_core::concentrator::SlowClient::Wait,
        lag_limit: 1 << 20,
        ..config()
    });
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    let (one, two) = (agent.announce(&shell("a")), agent.announce(&shell("b")));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    operator.attach(&mut world, "vm01/a", "write");
    let other = operator.attach(&mut world, "vm01/b", "write");
    // Nobody takes what is shown of a: it comes to a stop. What is typed and printed at b goes on.
    let mut sent = 0;
    for round in 0..200 {
        sent += agent.session.write(one, &[b'x'; 16 << 10]).unwrap();
        agent.say(two, b".");
        agent.pass(&mut world);
        operator.pass(&mut world);
        assert_eq!(operator.take(other, 10), b".", "round {round}");
    }
    assert!(sent < 3 << 20, "{sent} bytes were taken of a stream whose reader stalls");
    let before = sent;
    sent += agent.session.write(one, &[b'x'; 16 << 10]).unwrap();
    assert_eq!(sent, before, "it is still read");
}

#[test]
fn what_is_no_frame_is_shown_on_the_plain_console_and_frames_are_not() {
    let mut world = World::new(Config { banner: false, ..config() });
    let vm = world.vm(vm_with_streams(1, "s2"));
    let client = world.client(uuid(1), Kind::Raw);
    world.print(vm, b"GRUB loading\r\n\xff\xff");
    let mut agent = Agent::new(&world, vm, 9);
    world.pass(Duration::from_secs(1));
    agent.pass(&mut world);
    let one = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.say(one, &[b'x'; 3000]);
    let said = agent.says(&world);
    world.print(vm, &said[..1000]);
    let oops = "BUG: kernel NULL pointer dereference, address: 0000000000000000\r\n".repeat(70);
    world.print(vm, oops.as_bytes());
    let seen = world.seen(client);
    assert!(seen.contains("GRUB loading\\r\\n\\xff\\xff"), "{}", &seen[..60]);
    assert!(seen.contains(&oops.replace("\r\n", "\\r\\n")), "the oops is not whole: {seen}");
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 1);
}

#[test]
fn a_move_in_mid_frame_keeps_every_stream_and_every_byte() {
    let (mut world, mut agent) = world_with_agent("s2");
    let one = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.line(one).unwrap();
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01/shell", "write");
    let (mut printed, mut typed) = (Vec::new(), Vec::new());
    for round in 0..20u8 {
        let more: Vec<u8> = (0..3000).map(|n| n as u8 ^ round).collect();
        agent.say(one, &more);
        printed.extend_from_slice(&more);
        let said = agent.says(&world);
        let source = agent.vm;
        world.print(source, &said[..said.len() / 2]);
        operator.session.write(StreamId(stream), &more[..500]).unwrap();
        typed.extend_from_slice(&more[..500]);
        operator.pass(&mut world);
        world.host(source).session.begin(&[b'm', round]);
        world.settle();
        // What the source was typed before it went is the guest's.
        let came = std::mem::take(&mut world.host(source).typed);
        agent.receive(&came, &world);
        let secret = world.host(source).secret().expect("it may go");
        let resume = Some(Resume { sequence: vec![b'm', round], secret });
        let target = world.vm(VmConfig { resume, ..vm_with_streams(1, "s2") });
        world.host(target).session.complete();
        // The target prints before the source's last bytes are in.
        world.print(target, &said[said.len() * 3 / 4..]);
        world.print(source, &said[said.len() / 2..said.len() * 3 / 4]);
        world.end(source);
        world.pass(Duration::from_secs(1));
        agent.vm = target;
        pass(&mut operator, &mut agent, &mut world);
    }
    assert!(operator.take(stream, usize::MAX) == printed);
    let came = agent.came.remove(&one).unwrap_or_default();
    assert_eq!(came.len(), typed.len());
    assert!(came == typed);
    assert_eq!(world.told(is_up), 1);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}

#[test]
fn fifty_moves_at_once_with_four_busy_streams_each_lose_nothing() {
    const VMS: u8 = 50;
    let mut world = World::new(Config { banner: false, ..config() });
    let mut operator = Operator::known(&mut world);
    let mut all = Vec::new();
    for n in 1..=VMS {
        let vm = world.vm(vm_with_streams(n, "s2"));
        let mut agent = Agent::new(&world, vm, u32::from(n));
        agent.pass(&mut world);
        let ids = ["a", "b", "c", "d"].map(|name| agent.announce(&shell(name)));
        agent.pass(&mut world);
        ids.iter().for_each(|&id| drop(agent.line(id).unwrap()));
        let streams = ["a", "b", "c", "d"]
            .map(|name| operator.attach(&mut world, &format!("vm{n:02}/{name}"), "write"));
        all.push((n, agent, ids, streams));
    }
    let text = |n: u8, stream: usize, round: usize| format!("{n} {stream} {round} {}\n", "x".repeat(200));
    let mut targets = Vec::new();
    for (n, agent, ids, streams) in &mut all {
        for (at, &id) in ids.iter().enumerate() {
            agent.say(id, text(*n, at, 0).as_bytes());
            operator.session.write(StreamId(streams[at]), text(*n, at, 1).as_bytes()).unwrap();
        }
        let said = agent.says(&world);
        world.print(agent.vm, &said[..said.len() / 2]);
        operator.pass(&mut world);
        world.host(agent.vm).session.begin(&[b'm', *n]);
        world.settle();
        targets.push(said[said.len() / 2..].to_vec());
    }
    for ((n, agent, _, streams), rest) in all.iter_mut().zip(targets) {
        for (at, &stream) in streams.iter().enumerate() {
            operator.session.write(StreamId(stream), text(*n, at, 2).as_bytes()).unwrap();
        }
        operator.pass(&mut world);
        let source = agent.vm;
        let came = std::mem::take(&mut world.host(source).typed);
        agent.receive(&came, &world);
        let secret = world.host(source).secret().expect("it may go");
        let resume = Some(Resume { sequence: vec![b'm', *n], secret });
        let target = world.vm(VmConfig { resume, ..vm_with_streams(*n, "s2") });
        world.host(target).session.complete();
        world.print(target, &rest);
        world.end(source);
        agent.vm = target;
    }
    world.pass(Duration::from_secs(1));
    for (n, agent, ids, streams) in &mut all {
        pass(&mut operator, agent, &mut world);
        for (at, (&stream, &id)) in streams.iter().zip(&*ids).enumerate() {
            let shown = String::from_utf8(operator.take(stream, usize::MAX)).unwrap();
            assert_eq!(shown, text(*n, at, 0));
            assert_eq!(agent.heard(id), text(*n, at, 1) + &text(*n, at, 2));
        }
    }
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}

#[test]
fn whatever_a_guest_says_the_server_lives_and_another_agent_is_met() {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent) = world_with_agent(mux);
        let vm = agent.vm;
        agent.announce(&shell("shell"));
        agent.announce(&facts());
        agent.pass(&mut world);
        for round in 0..300 {
            // What it would have said, with a few bytes that are others.
            let id = agent.session.open();
            if let Ok(id) = id {
                let _ = agent.session.write(id, &log(&format!("l{}", round % 7)).line());
            }
            let mut said = agent.says(&world);
            for _ in 0..next() % 4 {
                let at = next() as usize % said.len().max(1);
                if let Some(byte) = said.get_mut(at) {
                    *byte = next() as u8;
                }
            }
            if next() % 5 == 0 {
                said.truncate(next() as usize % (said.len() + 1));
            }
            world.print(vm, &said);
            let typed = std::mem::take(&mut world.host(vm).typed);
            agent.receive(&typed, &world);
            world.pass(Duration::from_millis(next() % 400));
        }
        world.reset(vm);
        let vm = world.vm(vm_with_streams(1, mux));
        let fresh = Agent::new(&world, vm, 4711);
        let mut fresh = if mux == "s2" { fresh } else { fresh.over_sl(&world, 78) };
        for _ in 0..20 {
            fresh.pass(&mut world);
            world.pass(Duration::from_secs(1));
        }
        assert!(fresh.is_known, "{mux}");
    }
}

#[test]
fn what_is_typed_at_the_plain_console_is_never_put_between_frames() {
    let (mut world, mut agent) = world_with_agent("s2");
    let client = world.client(uuid(1), Kind::Raw);
    world.type_wire(client, b"reboot\r");
    agent.pass(&mut world);
    assert!(agent.session.terms().is_some());
    assert_eq!(world.console(uuid(1)).unwrap().counters.input_dropped, 7);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}

#[test]
fn an_operator_opens_streams_in_a_guest_and_says_and_hears_every_byte() {
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent) = world_with_agent(mux);
        let mut operator = Operator::known(&mut world);
        let stream = open(&mut operator, &mut world, "vm01", &[&exec(&["cat", "-v"])[..], b"typed"].concat());
        pass(&mut operator, &mut agent, &mut world);
        let (id, header) = agent.opened();
        assert_eq!(header, Header::parse(&exec(&["cat", "-v"])).unwrap());
        assert_eq!(agent.heard(id), "typed");
        let all: Vec<u8> = (0..60_000).map(|n| (n * 7) as u8).collect();
        let mut at = 0;
        let mut heard = Vec::new();
        while heard.len() < all.len() {
            at += agent.session.write(id, &all[at..]).unwrap_or(0);
            pass(&mut operator, &mut agent, &mut world);
            heard.extend(operator.take(stream, usize::MAX));
        }
        assert!(heard == all, "{mux}");
        agent.session.finish(id).unwrap();
        operator.session.finish(StreamId(stream)).unwrap();
        pass(&mut operator, &mut agent, &mut world);
        assert!(agent.ended.contains(&id), "{mux}");
        assert_eq!(agent.session.stream_count(), 0, "{mux}");
        let reached = |kind: &EventKind| {
            matches!(kind, EventKind::GuestReached { who, op, detail }
                if &**who == "127.0.0.1" && &**op == "exec" && &**detail == "cat -v")
        };
        assert_eq!(world.told(reached), 1);
    }
}

#[test]
fn what_an_agent_does_not_allow_and_what_is_no_header_never_reaches_it() {
    let mut world = World::new(config());
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut operator = Operator::known(&mut world);
    let early = operator.session.open_announced().unwrap().0;
    let request = json!({ "op": "open", "console": "vm01", "stream": early });
    assert_eq!(operator.code(&mut world, request), "no-agent");
    let mut agent = Agent::new(&world, vm, 9).allowing(&["get"]);
    agent.pass(&mut world);
    let hello = b"{\"op\":\"hello\",\"v\":1,\"nonce\":\"00\"}\n".to_vec();
    let full = vspc_guest::Greeting::new(None, [1; 32]).header("x");
    for (header, code) in [
        (exec(&["id"]), "not-allowed"),
        (hello, "bad-line"),
        (full, "not-allowed"),
        (b"nonsense\n".to_vec(), "bad-line"),
        (b"{\"op\":\"fly\"}\n".to_vec(), "unsupported"),
        (vec![b'x'; 5000], "bad-line"),
    ] {
        let stream = open(&mut operator, &mut world, "vm01", &header);
        pass(&mut operator, &mut agent, &mut world);
        let answer = String::from_utf8(operator.take(stream, usize::MAX)).unwrap();
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
    assert!(agent.came.values().all(Vec::is_empty), "{:?}", agent.came);
    assert_eq!(agent.session.stream_count(), 0);
}

#[test]
fn whoever_may_only_watch_opens_nothing_and_who_may_no_more_is_cut_off() {
    let rules = |right: &str| Rules::new(vec![format!("loopback={right}").parse().unwrap()]);
    let with = |right: &str| Config { admin_rights: rules(right), ..config() };
    let mut world = World::new(with("writer"));
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    open(&mut operator, &mut world, "vm01", &exec(&["sleep", "9"]));
    pass(&mut operator, &mut agent, &mut world);
    let (id, _) = agent.opened();
    world.change(&with("spectator"));
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.reset.contains(&id), "it goes on for one who may not");
    let stream = operator.session.open_announced().unwrap().0;
    for request in [
        json!({ "op": "open", "console": "vm01", "stream": stream }),
        json!({ "op": "set-fact", "console": "vm01", "key": "k", "value": "v" }),
        json!({ "op": "accept", "console": "vm01", "name": "db" }),
    ] {
        assert_eq!(operator.code(&mut world, request), "not-allowed");
    }
    operator.ok(&mut world, json!({ "op": "facts", "console": "vm01", "stream": stream }));
}

#[test]
fn who_may_use_a_console_is_who_may_use_its_streams() {
    let may = Some(Rules::new(vec!["user:ann=writer".parse().unwrap()]));
    let rule = ConsoleRule {
        name: Some("vm01".parse().unwrap()),
        may,
        mux: Some(Mux::S2),
        ..ConsoleRule::default()
    };
    let mut world = World::new(Config { console_rules: vec![rule], ..config() });
    let vm = world.vm(vm_config(1));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    assert!(agent.is_known, "the rule says that its line carries streams");
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    assert_eq!(operator.ok(&mut world, json!({ "op": "list" }))["consoles"], json!([]));
    for console in ["vm01", "vm01/shell"] {
        assert_eq!(operator.code(&mut world, json!({ "op": "show", "console": console })), "no-such-console");
    }
    assert_eq!(operator.code(&mut world, json!({ "op": "streams", "console": "vm01" })), "no-such-console");
}

#[test]
fn either_end_may_cut_a_stream_and_the_end_of_a_connection_cuts_all_of_its_own() {
    let (mut world, mut agent) = world_with_agent("s2");
    let mut operator = Operator::known(&mut world);
    let stream = open(&mut operator, &mut world, "vm01", &exec(&["a"]));
    pass(&mut operator, &mut agent, &mut world);
    let (one, _) = agent.opened();
    operator.session.reset(StreamId(stream)).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.reset.contains(&one));
    let stream = open(&mut operator, &mut world, "vm01", &exec(&["b"]));
    pass(&mut operator, &mut agent, &mut world);
    let (two, _) = agent.opened();
    agent.session.reset(two).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(operator.session.received(StreamId(stream)).is_err(), "its client is not told");
    open(&mut operator, &mut world, "vm01", &exec(&["c"]));
    pass(&mut operator, &mut agent, &mut world);
    let (three, _) = agent.opened();
    let id = operator.id;
    world.reset(id);
    agent.pass(&mut world);
    assert!(agent.reset.contains(&three));
    assert_eq!(agent.session.stream_count(), 0);
}

#[test]
fn a_guest_that_goes_takes_operators_streams_with_it() {
    let (mut world, mut agent) = world_with_agent("s2");
    let mut operator = Operator::known(&mut world);
    let stream = open(&mut operator, &mut world, "vm01", &exec(&["a"]));
    pass(&mut operator, &mut agent, &mut world);
    let vm = agent.vm;
    world.reset(vm);
    operator.pass(&mut world);
    assert!(operator.session.received(StreamId(stream)).is_err());
    assert_eq!(operator.code(&mut world, json!({ "op": "streams", "console": "vm01" })), "no-agent");
    // It comes back, and is met again.
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 12);
    agent.pass(&mut world);
    assert!(agent.is_known);
    let streams = operator.ok(&mut world, json!({ "op": "streams", "console": "vm01" }));
    assert_eq!((&streams["agent"], &streams["streams"]), (&json!("test-agent 1"), &json!([])));
}

#[test]
fn facts_are_told_both_ways_as_they_change_and_outlive_the_guest() {
    let (mut world, mut agent) = world_with_agent("s2");
    let mut operator = Operator::known(&mut world);
    operator.ok(&mut world, json!({ "op": "set-fact", "console": "vm01", "key": "owner", "value": "ann" }));
    let id = agent.announce(&facts());
    agent.pass(&mut world);
    assert_eq!(agent.heard(id), "{\"ok\":{}}\n{\"set\":\"owner\",\"to\":\"ann\"}\n{\"all\":true}\n");
    agent.say(id, &FactLine::Set("os.name".into(), "Debian".into()).line());
    agent.say(id, &FactLine::All.line());
    agent.pass(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    operator.ok(&mut world, json!({ "op": "facts", "console": "vm01", "stream": stream }));
    assert_eq!(
        operator.read(&mut world, stream),
        "{\"set\":\"os.name\",\"to\":\"Debian\"}\n{\"all\":true}\n"
    );
    agent.say(id, &FactLine::Set("state".into(), "ready".into()).line());
    agent.say(id, &FactLine::Unset("os.name".into()).line());
    agent.pass(&mut world);
    assert_eq!(
        operator.read(&mut world, stream),
        "{\"unset\":\"os.name\"}\n{\"set\":\"state\",\"to\":\"ready\"}\n"
    );
    operator.ok(&mut world, json!({ "op": "set-fact", "console": "vm01", "key": "owner" }));
    agent.pass(&mut world);
    assert_eq!(agent.heard(id), "{\"unset\":\"owner\"}\n");
    for (key, code) in [("a b", "bad-request"), ("", "bad-request")] {
        let request = json!({ "op": "set-fact", "console": "vm01", "key": key, "value": "v" });
        assert_eq!(operator.code(&mut world, request), code);
    }
    let vm = agent.vm;
    world.reset(vm);
    let again = operator.session.open_announced().unwrap().0;
    operator.ok(&mut world, json!({ "op": "facts", "console": "vm01", "stream": again }));
    assert_eq!(operator.read(&mut world, again), "{\"set\":\"state\",\"to\":\"ready\"}\n{\"all\":true}\n");
    let stream = operator.session.open_announced().unwrap().0;
    let plain = json!({ "op": "facts", "console": "vm01/none", "stream": stream });
    assert_eq!(operator.code(&mut world, plain), "no-such-console");
}

#[test]
fn connections_to_a_guest_go_to_who_takes_them_and_to_nobody_else() {
    let (mut world, mut agent) = world_with_agent("s2");
    let from = || Announcement::Connection { name: Name::new("db").unwrap(), from: "127.0.0.1:4".into() };
    let id = agent.announce(&from());
    agent.pass(&mut world);
    assert!(agent.heard(id).contains("\"refused\""));
    let (mut operator, mut other) = (Operator::known(&mut world), Operator::known(&mut world));
    operator.ok(&mut world, json!({ "op": "accept", "console": "vm01", "name": "db" }));
    let accept = json!({ "op": "accept", "console": "vm01", "name": "db" });
    assert_eq!(other.code(&mut world, accept), "stream-in-use");
    let id = agent.announce(&from());
    agent.session.finish(id).unwrap();
    agent.pass(&mut world);
    let notice = operator.notices(&mut world, "connection").remove(0);
    assert_eq!((&notice["name"], &notice["from"]), (&json!("db"), &json!("127.0.0.1:4")));
    let (console, number) = (&notice["console"], &notice["number"]);
    let take = |stream: u64| json!({ "op": "take", "console": console, "number": number, "stream": stream });
    let stream = other.session.open_announced().unwrap().0;
    assert_eq!(other.code(&mut world, take(stream)), "gone");
    let stream = operator.session.open_announced().unwrap().0;
    operator.ok(&mut world, take(stream));
    operator.session.write(StreamId(stream), b"{\"ok\":{}}\nSELECT 1").unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert_eq!(agent.heard(id), "{\"ok\":{}}\nSELECT 1");
    // Nobody comes for the next one.
    let id = agent.announce(&from());
    agent.pass(&mut world);
    world.pass(Duration::from_secs(11));
    agent.pass(&mut world);
    assert!(agent.heard(id).contains("\"refused\""));
}

#[test]
fn streams_are_told_of_with_who_has_opened_them() {
    let (mut world, mut agent) = world_with_agent("s2");
    agent.announce(&shell("shell"));
    agent.announce(&facts());
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    open(&mut operator, &mut world, "vm01", &exec(&["uname", "-a\u{1b}[2J"]));
    pass(&mut operator, &mut agent, &mut world);
    let streams = operator.ok(&mut world, json!({ "op": "streams", "console": "vm01" }));
    assert_eq!(streams["may"], json!(["exec", "shell", "put", "get", "connect"]));
    let kinds: Vec<_> = streams["streams"].as_array().unwrap().iter().map(|stream| &stream["kind"]).collect();
    assert_eq!(kinds, ["exec", "shell", "facts"]);
    assert_eq!(streams["streams"][0]["who"], "127.0.0.1");
    assert_eq!(streams["streams"][0]["detail"], "uname -a[2J");
    assert_eq!(streams["streams"][1]["name"], "vm01/shell");
}

#[test]
fn a_hostile_guest_is_bounded_and_hurts_nobody() {
    let (mut world, mut agent) = world_with_agent("s2");
    let vm = agent.vm;
    let other = world.vm(vm_config(2));
    let client = world.client(uuid(2), Kind::Raw);
    // Names by the thousand, and with anything in them.
    for n in 0..2000 {
        if let Ok(id) = agent.session.open() {
            let _ = agent.session.write(id, &shell(&format!("s{n}")).line());
            let _ = agent.session.write(id, &[b'x'; 8000]);
            if n % 3 == 0 {
                let _ = agent.session.reset(id);
            }
        }
        agent.pass(&mut world);
    }
    assert!(world.engine.consoles().count() < 120, "{} consoles", world.engine.consoles().count());
    world.reset(vm);
    let vm = world.vm(vm_with_streams(1, "s2"));
    agent = Agent::new(&world, vm, 50);
    agent.pass(&mut world);
    for line in ["{\"is\":\"shell\",\"name\":\"\\u001b[2J\",\"key\":\"0123456789abcdef\"}\n", "[]\n", "\n"] {
        if let Ok(id) = agent.session.open() {
            let _ = agent.session.write(id, line.as_bytes());
            agent.pass(&mut world);
            assert!(agent.heard(id).contains("error"), "{line}");
        }
    }
    // Zeros, and sessions that break as soon as they are there.
    for n in 0..20 {
        world.print(vm, &[0; 10_000]);
        world.pass(Duration::from_secs(1));
        agent = Agent::new(&world, vm, 100 + n);
        agent.pass(&mut world);
        world.print(vm, b"\xff\xff\xff\xff no frame");
    }
    world.print(other, b"alive");
    assert!(world.seen(client).ends_with("alive"));
}
