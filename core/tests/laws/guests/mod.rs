//! Guests with an agent (operator.md §11): hello, and streams that are consoles. What others open in guests
//! is in `reached`.

mod agent;
mod enemies;
mod moves;
mod packed;
mod raw_lines;
mod reached;
mod v1;
mod windows;

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{Config, EventKind, GuestKey};
use vspc_core::mux::StreamId;
use vspc_core::vmware::VmConfig;
use vspc_guest::answer;

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

/// Where whoever is on this machine may do so much.
fn with_right(right: &str) -> Config {
    let rules = Rules::new(vec![format!("loopback={right}").parse().unwrap()]);
    Config { admin_rights: rules, ..config() }
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
fn a_guest_that_begins_anew_and_answers_an_old_hello_is_said_hello_to() {
    let mut world = World::new(Config { banner: false, ..config() });
    let vm = world.vm(vm_with_streams(1, "s2"));
    world.settle();
    let hello = world.host(vm).typed.clone();
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    agent.announce(&shell("a"));
    agent.announce(&log("b"));
    agent.pass(&mut world);
    // What the host had called in before is what it answers, with streams of the last one open.
    agent = Agent::new(&world, vm, 11);
    agent.receive(&hello, &world);
    agent.pass(&mut world);
    assert!(agent.is_known);
    assert_eq!(world.told(is_up), 2);
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
