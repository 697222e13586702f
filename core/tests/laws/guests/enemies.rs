//! Who is not the guest, or not allowed, or means no good; and what rules say of streams.

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{Config, ConsoleRule, EventKind, Mux, RulePort, Takeover};
use vspc_core::mux::StreamId;
use vspc_core::vmware::VmConfig;
use vspc_guest::{Announcement, FactLine, Name, answer};

use super::agent::{Agent, facts, shell, vm_with_streams};
use super::{pass, with_right, world_with_agent};
use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::{Kind, World, uuid, vm_config};

fn downs(world: &World) -> usize {
    world.told(|kind| matches!(kind, EventKind::GuestDown(_)))
}

#[test]
fn who_comes_second_neither_types_into_a_live_vm_nor_speaks_for_its_guest() {
    for takeover in [Takeover::Probe, Takeover::Refuse] {
        let mut world = World::new(Config { takeover, banner: false, ..config() });
        let plain = world.vm(vm_config(1));
        world.vm(vm_with_streams(1, "s2"));
        world.pass(Duration::from_secs(3));
        assert_eq!(world.typed(plain), "", "HELLO is typed into a VM that has no agent");
        let vm = world.vm(vm_with_streams(2, "s2"));
        let mut agent = Agent::new(&world, vm, 9);
        agent.pass(&mut world);
        let one = agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let client = world.client(uuid(2), Kind::Raw);
        for uri in ["vSPC.py?mux=s2", "vSPC.py?mux=s2+sl", "vSPC.py"] {
            let second = world.vm(VmConfig { uri: uri.into(), ..vm_config(2) });
            world.print(second, &[0xff; 12]);
            world.print(second, b"\0\0\0\0\0\0\0\x01\0\0\0\x05hello");
            agent.pass(&mut world);
        }
        agent.say(one, b"still here");
        agent.pass(&mut world);
        assert_eq!(downs(&world), 0, "{takeover:?}");
        assert!(world.seen(client).contains("hello"), "what it prints is text");
        let mut operator = Operator::known(&mut world);
        let shown = operator.ok(&mut world, json!({ "op": "show", "console": "vm02/shell" }));
        assert_eq!(shown["console"]["out"], 10);
    }
}

#[test]
fn streams_go_by_the_rule_of_their_console_but_for_port_and_target_and_have_no_guests_of_their_own() {
    let rule = ConsoleRule {
        uuid: Some(uuid(1).simple().to_string().parse().unwrap()),
        mux: Some(Mux::S2),
        port: RulePort::This(2001),
        forward: Some(std::sync::Arc::new("tcp://attach:2377".parse().unwrap())),
        ..ConsoleRule::default()
    };
    let named = ConsoleRule {
        name: Some("vm01/b".parse().unwrap()),
        port: RulePort::This(2002),
        ..ConsoleRule::default()
    };
    let mut world = World::new(Config { console_rules: vec![named, rule], ..config() });
    let vm = world.vm(vm_config(1));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    let ids = ["a", "b"].map(|name| agent.announce(&shell(name)));
    for _ in 0..3 {
        agent.pass(&mut world);
        world.pass(Duration::from_secs(1));
    }
    for id in ids {
        assert_eq!(agent.line(id).unwrap(), answer::ok(&answer::Done {}));
        assert_eq!(agent.heard(id), "", "something is typed into a shell");
    }
    let mut operator = Operator::known(&mut world);
    let list = operator.ok(&mut world, json!({ "op": "list" }));
    let ports: Vec<_> = list["consoles"].as_array().unwrap().iter().map(|console| &console["port"]).collect();
    assert_eq!(ports, [&json!(2001), &Value::Null, &json!(2002)]);
    assert_eq!(world.dialled.len(), 1, "a stream is connected to what its console is connected to");
}

#[test]
fn after_rules_have_changed_a_stream_is_for_those_whom_its_console_is_for() {
    let may = |name: &str, who: &str| ConsoleRule {
        name: Some(name.parse().unwrap()),
        may: Some(Rules::new(vec![who.parse().unwrap()])),
        ..ConsoleRule::default()
    };
    let expire = Config { vm_expire: Duration::from_secs(5), ..config() };
    let mut world = World::new(expire.clone());
    // The stream gets a slot before that of its console.
    let first = world.vm(vm_config(7));
    let vm = world.vm(vm_with_streams(1, "s2"));
    world.reset(first);
    world.pass(Duration::from_secs(6));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    for rules in [
        vec![may("vm01", "user:ann=writer")],
        vec![may("other", "loopback=writer"), may("vm01", "user:ann=writer")],
        vec![may("x", "loopback=writer"), may("y", "loopback=writer"), may("vm01", "user:ann=writer")],
    ] {
        world.change(&Config { console_rules: rules, ..expire.clone() });
        let mut operator = Operator::known(&mut world);
        assert_eq!(operator.ok(&mut world, json!({ "op": "list" }))["consoles"], json!([]));
    }
    world.change(&expire);
    let mut operator = Operator::known(&mut world);
    assert_eq!(operator.ok(&mut world, json!({ "op": "list" }))["consoles"].as_array().unwrap().len(), 2);
}

#[test]
fn a_guest_has_no_more_consoles_than_it_may_however_fast_it_announces_them() {
    let (mut world, mut agent) = world_with_agent("s2");
    for round in 0..8 {
        let ids: Vec<_> = (0..60).map(|n| agent.announce(&shell(&format!("r{round}-{n}")))).collect();
        agent.pass(&mut world);
        for id in ids {
            let _ = agent.session.reset(id);
        }
        agent.pass(&mut world);
    }
    let count = world.engine.consoles().count();
    assert!(count <= 1 + 96, "{count} consoles");
}

#[test]
fn a_shell_that_ends_and_one_that_begins_in_one_breath_are_one_console() {
    let (mut world, mut agent) = world_with_agent("s2");
    let first = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.session.finish(first).unwrap();
    let second = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    assert_eq!(agent.line(second).unwrap(), answer::ok(&answer::Done {}));
    agent.say(second, b"$ ");
    agent.pass(&mut world);
    let shown = world.engine.consoles().find(|console| console.label.of_guest).unwrap();
    assert_eq!((shown.vms, shown.counters.bytes_from_vm), (1, 2));
}

#[test]
fn a_uuid_means_the_vm_and_not_its_streams() {
    let (mut world, mut agent) = world_with_agent("s2");
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let plain = uuid(1).simple().to_string();
    for (reference, name) in [(plain.clone(), "vm01"), (plain + "/shell", "vm01/shell")] {
        let shown = operator.ok(&mut world, json!({ "op": "show", "console": reference }));
        assert_eq!(shown["console"]["name"], name);
    }
}

#[test]
fn who_may_not_take_connections_any_more_is_told_of_none_and_leaves_them_to_others() {
    let mut world = World::new(with_right("writer"));
    let vm = world.vm(vm_with_streams(1, "s2"));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let accept = || json!({ "op": "accept", "console": "vm01", "name": "db" });
    operator.ok(&mut world, accept());
    world.change(&with_right("spectator"));
    let from = || Announcement::Connection { name: Name::new("db").unwrap(), from: "a".into() };
    let id = agent.announce(&from());
    agent.pass(&mut world);
    assert!(agent.heard(id).contains("refused"));
    assert_eq!(operator.notices(&mut world, "connection").len(), 0);
    world.change(&with_right("writer"));
    let mut other = Operator::known(&mut world);
    other.ok(&mut world, accept());
    // One that does not read is told of so many, and no more.
    let deaf = other.id;
    world.stall(deaf, 0);
    for _ in 0..2000 {
        let id = agent.announce(&from());
        agent.pass(&mut world);
        let _ = agent.session.reset(id);
        agent.pass(&mut world);
    }
    world.unstall(deaf);
    let told = other.notices(&mut world, "connection").len();
    assert!((1..1000).contains(&told), "{told} notices waited");
}

#[test]
fn facts_that_come_and_go_are_no_backlog_for_one_who_does_not_read() {
    let (mut world, mut agent) = world_with_agent("s2");
    let id = agent.announce(&facts());
    agent.pass(&mut world);
    agent.heard(id);
    let mut operator = Operator::known(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    operator.ok(&mut world, json!({ "op": "facts", "console": "vm01", "stream": stream }));
    let deaf = operator.id;
    world.stall(deaf, 0);
    for n in 0..3000 {
        agent.say(id, &FactLine::Set(format!("k{n}"), "v".into()).line());
        agent.say(id, &FactLine::Unset(format!("k{n}")).line());
        agent.pass(&mut world);
    }
    agent.say(id, &FactLine::Set("last".into(), "v".into()).line());
    agent.pass(&mut world);
    world.unstall(deaf);
    let told = operator.read(&mut world, stream);
    assert!(told.ends_with("{\"set\":\"last\",\"to\":\"v\"}\n"), "{}", told.len());
    assert!(told.lines().count() < 1000, "{} lines", told.lines().count());
}

#[test]
fn a_server_that_ends_leaves_the_guests_shells_alone() {
    for mux in ["s2", "s2+sl"] {
        let (mut world, mut agent) = world_with_agent(mux);
        let id = agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let vm = agent.vm;
        // Something is still to go to it.
        world.stall(vm, 0);
        let mut operator = Operator::known(&mut world);
        let stream = operator.attach(&mut world, "vm01/shell", "write");
        operator.session.write(StreamId(stream), b"x").unwrap();
        operator.pass(&mut world);
        world.engine.shut_down(world.now);
        world.unstall(vm);
        let typed = std::mem::take(&mut world.host(vm).typed);
        assert!(!typed.is_empty(), "{mux}");
        agent.receive(&typed, &world);
        assert!(!agent.reset.contains(&id), "{mux}: its shell is reset");
    }
}

#[test]
fn an_agent_that_says_goodbye_leaves_nothing_on_the_screen() {
    let (mut world, mut agent) = world_with_agent("s2");
    let client = world.client(uuid(1), Kind::Raw);
    agent.session.close();
    let said = agent.says(&world);
    world.print(agent.vm, &said);
    world.print(agent.vm, b"Power down.");
    let seen = world.seen(client);
    assert!(seen.ends_with("Power down.") && !seen.contains("\\x04"), "{seen}");
}

#[test]
fn a_line_that_carries_streams_no_more_is_a_console_as_before() {
    let named = |mux| ConsoleRule { name: Some("vm01".parse().unwrap()), mux, ..ConsoleRule::default() };
    let with = |mux| Config { console_rules: vec![named(mux)], banner: false, ..config() };
    let mut world = World::new(with(None));
    let vm = world.vm(vm_config(1));
    world.change(&with(Some(Mux::S2)));
    let mut agent = Agent::new(&world, vm, 9);
    agent.pass(&mut world);
    assert!(agent.is_known);
    agent.announce(&shell("shell"));
    agent.pass(&mut world);
    world.change(&with(None));
    std::mem::take(&mut world.host(vm).typed);
    let client = world.client(uuid(1), Kind::Raw);
    world.print(vm, b"login: ");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.typed(vm), "");
    assert!(world.seen(client).ends_with("login: "));
    let mut operator = Operator::known(&mut world);
    assert_eq!(operator.code(&mut world, json!({ "op": "streams", "console": "vm01" })), "no-agent");
    let shown = operator.ok(&mut world, json!({ "op": "show", "console": "vm01/shell" }));
    assert_eq!(shown["console"]["state"], "waiting");
    pass(&mut operator, &mut agent, &mut world);
}
