//! What operators open in guests and take from them, and who may; facts, both ways.

use std::time::Duration;

use serde_json::json;
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{Config, ConsoleRule, EventKind, Mux};
use vspc_core::mux::StreamId;
use vspc_guest::{Announcement, Exec, FactLine, Header, Key, Name};

use super::agent::{Agent, facts, shell, vm_with_streams};
use super::{pass, with_right, world_with_agent};
use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::{World, vm_config};

/// The header of a stream that runs this.
pub(super) fn exec(argv: &[&str]) -> Vec<u8> {
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    Header::Exec(Exec { argv, ..Exec::new(Key::random([1; 16])) }).line()
}

/// Opens a stream in a guest with this header.
pub(super) fn open(operator: &mut Operator, world: &mut World, console: &str, header: &[u8]) -> u64 {
    let stream = operator.session.open().unwrap().0;
    operator.session.write(StreamId(stream), header).unwrap();
    operator.ok(world, json!({ "op": "open", "console": console, "stream": stream }));
    stream
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
    let mut world = World::new(with_right("writer"));
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    open(&mut operator, &mut world, "vm01", &exec(&["sleep", "9"]));
    pass(&mut operator, &mut agent, &mut world);
    let (id, _) = agent.opened();
    world.change(&with_right("spectator"));
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
fn what_is_typed_has_no_more_than_the_uplink_ahead_of_it_however_many_copies_there_are() {
    let (mut world, mut agent) = world_with_agent("s2");
    let shell = agent.announce(&shell("shell"));
    pass_all(&mut agent, &mut world);
    let mut operator = Operator::known(&mut world);
    let typing = operator.attach(&mut world, "vm01/shell", "write");
    let puts: Vec<u64> = (0..64).map(|_| open(&mut operator, &mut world, "vm01", &exec(&["cat"]))).collect();
    pass(&mut operator, &mut agent, &mut world);
    // The VM takes nothing for a while, and every copy has something to say.
    world.stall(agent.vm, 0);
    for &put in &puts {
        operator.session.write(StreamId(put), &[b'x'; 16 << 10]).unwrap();
    }
    operator.pass(&mut world);
    // It takes some, and the uplink is filled again.
    world.stall(agent.vm, 96 << 10);
    world.settle();
    operator.session.write(StreamId(typing), b"Q").unwrap();
    operator.pass(&mut world);
    world.unstall(agent.vm);
    let typed = std::mem::take(&mut world.host(agent.vm).typed);
    let mut ahead = 0;
    for piece in typed.chunks(1024) {
        agent.receive(piece, &world);
        if agent.heard(shell).contains('Q') {
            break;
        }
        ahead += piece.len();
    }
    assert!(ahead <= (96 + 128) << 10, "{ahead} bytes were ahead of a key");
}

fn pass_all(agent: &mut Agent, world: &mut World) {
    for _ in 0..4 {
        agent.pass(world);
    }
}
