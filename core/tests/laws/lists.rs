//! Consoles that have a list of who may use them: nobody else sees or types into one, by whatever way (law
//! 12).

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{CloseReason, Config, ConnId, ConsoleRule, EventKind, LogOrder, RulePort};
use vspc_core::mux::StreamId;
use vspc_core::vmware::VmConfig;

use crate::admin::{ADMIN, NOBODY, VERSION, ask, attach, config, connect, pickled, say};
use crate::kit;
use crate::operators::client::Operator;
use crate::world::{Client, Kind, Part, World, show, uuid, vm_config};

/// Rules, as an option has them.
fn rules(texts: &[&str]) -> Rules {
    Rules::new(texts.iter().map(|text| text.parse().unwrap()).collect())
}

/// A rule about consoles of this name: who may use them.
fn may(name: &str, list: &[&str]) -> ConsoleRule {
    ConsoleRule { name: Some(name.parse().unwrap()), may: Some(rules(list)), ..ConsoleRule::default() }
}

fn called(name: &str, n: u8) -> VmConfig {
    VmConfig { name: name.into(), ..vm_config(n) }
}

/// A server with two VMs, `open` and `secret`, of which the second has a list of its own.
fn world(admin_rights: &[&str], list: &[&str]) -> (World, [ConnId; 2]) {
    let mut world = World::new(settings(admin_rights, list));
    let vms = [world.vm(called("open", 1)), world.vm(called("secret", 2))];
    (world, vms)
}

fn settings(admin_rights: &[&str], list: &[&str]) -> Config {
    let console_rules = vec![may("secret", list)];
    Config { admin_rights: rules(admin_rights), console_rules, has_logs: true, banner: false, ..config() }
}

/// An operator's connection from the machine 192.0.2.N.
fn operator_from(world: &mut World, n: u8) -> Operator {
    let from = std::mem::replace(&mut world.from, Ipv4Addr::new(192, 0, 2, n));
    let id = world.connect_to(ADMIN, Part::Client(Client::new(Kind::Raw))).expect("there is room");
    world.from = from;
    let mut operator = Operator::on(world, id);
    operator.ok(world, json!({ "op": "hello", "v": 1 }));
    operator
}

/// What comes of a request: its code, `None` where it was granted.
fn code(operator: &mut Operator, world: &mut World, request: Value) -> Option<String> {
    operator.ask(world, request)["error"]["code"].as_str().map(str::to_owned)
}

/// Who has the right, by a list that names all of these.
const LIST: [&str; 3] = ["192.0.2.11=spectator", "192.0.2.12=writer", "192.0.2.13=operator"];

#[test]
fn each_operation_asks_the_list_of_the_console_that_it_is_about() {
    const NONE: usize = 0;
    const SPECTATOR: usize = 1;
    const WRITER: usize = 2;
    const OPERATOR: usize = 3;
    // Everywhere else each of them may write.
    let (mut world, _) = world(&["192.0.2.0/24=writer"], &LIST);
    // Someone is there, for others to send away.
    let mut there = operator_from(&mut world, 12);
    there.attach(&mut world, "secret", "free-for-all");
    let mut chief = operator_from(&mut world, 13);
    for (n, right) in [(10, NONE), (11, SPECTATOR), (12, WRITER), (13, OPERATOR)] {
        let who = chief.ok(&mut world, json!({ "op": "who", "console": "secret" }));
        let (client, leg) = (who["clients"][0]["id"].clone(), who["legs"][0]["id"].clone());
        let console = chief.ok(&mut world, json!({ "op": "show", "console": "secret" }))["console"].clone();
        let mut operator = operator_from(&mut world, n);
        for reference in [json!("secret"), console["id"].clone(), console["uuid"].clone()] {
            for (needs, op) in [
                (SPECTATOR, json!({ "op": "show" })),
                (SPECTATOR, json!({ "op": "who" })),
                (SPECTATOR, json!({ "op": "attach", "lock": "read-only" })),
                (WRITER, json!({ "op": "attach", "lock": "free-for-all" })),
                (SPECTATOR, json!({ "op": "log" })),
                (WRITER, json!({ "op": "break" })),
                (OPERATOR, json!({ "op": "give-input", "leg": leg })),
                (OPERATOR, json!({ "op": "bump", "client": "99.9" })),
            ] {
                let mut request = op.clone();
                request["console"] = reference.clone();
                if op["op"] == "attach" || op["op"] == "log" {
                    request["stream"] = operator.session.open_announced().unwrap().0.into();
                }
                let answer = operator.ask(&mut world, request.clone());
                let refused = answer["error"]["code"].as_str();
                let expected = match right {
                    _ if right >= needs && op["op"] == "bump" => Some("no-such-client"),
                    _ if right >= needs => None,
                    // It may do as much elsewhere, and there is no such console for all it knows.
                    NONE if needs <= WRITER => Some("no-such-console"),
                    _ => Some("not-allowed"),
                };
                assert_eq!(refused, expected, "{n} {request}: {answer}");
                if let Some(stream) = request["stream"].as_u64() {
                    let _ = operator.session.reset(StreamId(stream));
                    operator.pass(&mut world);
                }
            }
        }
        // Requests that name no console.
        for id in [&client, &leg] {
            let kicked = code(&mut operator, &mut world, json!({ "op": "kick", "client": id }));
            assert_eq!(kicked.is_none(), right == OPERATOR, "{n}: {kicked:?}");
        }
        let list = operator.ok(&mut world, json!({ "op": "list" }));
        let names: Vec<&str> =
            list["consoles"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names.contains(&"secret"), right > NONE, "{n}");
        assert!(names.contains(&"open"));
    }
}

#[test]
fn who_only_watches_cannot_take_a_lock_or_send_a_break_on_the_attach_that_it_has() {
    let (mut world, vms) = world(&["192.0.2.0/24=writer"], &LIST);
    let mut operator = operator_from(&mut world, 11);
    let stream = operator.session.open_announced().unwrap().0;
    let ok = operator.ok(&mut world, json!({ "op": "attach", "console": "secret", "stream": stream }));
    assert_eq!((&ok["access"], &ok["lock"]), (&json!("read"), &json!("read-only")));
    for mode in ["free-for-all", "free-for-all-fallback", "write", "exclusive"] {
        let refused = operator.ask(&mut world, json!({ "op": "lock", "stream": stream, "mode": mode }));
        assert_eq!(refused["error"]["needs"], "writer", "{mode}");
    }
    assert_eq!(operator.code(&mut world, json!({ "op": "break", "stream": stream })), "not-allowed");
    operator.session.write(StreamId(stream), b"typed").unwrap();
    operator.pass(&mut world);
    assert_eq!(world.typed(vms[1]), "");
    world.print(vms[1], b"seen");
    assert_eq!(operator.read(&mut world, stream), "seen");
}

#[test]
fn who_has_no_right_elsewhere_uses_the_console_whose_list_names_it_and_knows_of_no_other() {
    let (mut world, _) = world(&[], &LIST);
    let mut nobody = operator_from(&mut world, 10);
    for op in ["list", "stats"] {
        assert_eq!(nobody.code(&mut world, json!({ "op": op })), "not-allowed");
    }
    let mut writer = operator_from(&mut world, 12);
    let list = writer.ok(&mut world, json!({ "op": "list" }));
    assert_eq!(list["consoles"].as_array().unwrap().len(), 1);
    assert_eq!(list["consoles"][0]["name"], "secret");
    assert_eq!(writer.code(&mut world, json!({ "op": "show", "console": "open" })), "no-such-console");
    assert_eq!(writer.code(&mut world, json!({ "op": "stats" })), "not-allowed");
    writer.attach(&mut world, "secret", "write");
    let mut chief = operator_from(&mut world, 13);
    assert_eq!(chief.ok(&mut world, json!({ "op": "bump", "console": "secret" }))["bumped"], 1);
    for op in ["reload", "drain"] {
        assert_eq!(chief.code(&mut world, json!({ "op": op })), "not-allowed");
    }
    assert_eq!(chief.code(&mut world, json!({ "op": "kick", "client": "77.1" })), "no-such-client");
}

#[test]
fn hello_tells_which_lists_name_one_and_says_nothing_of_others() {
    let uuids = ConsoleRule { uuid: Some("6421*".parse().unwrap()), ..may("db-*", &["192.0.2.12=operator"]) };
    let all = |list: &[&str]| Config {
        console_rules: vec![may("secret", list), may("other", &["192.0.2.99=writer"]), uuids.clone()],
        ..settings(&["192.0.2.9=operator", "192.0.2.11=spectator"], list)
    };
    let mut world = World::new(all(&LIST));
    let hello = |n: u8, world: &mut World| {
        let before = std::mem::replace(&mut world.from, Ipv4Addr::new(192, 0, 2, n));
        let id = world.connect_to(ADMIN, Part::Client(Client::new(Kind::Raw))).unwrap();
        world.from = before;
        let mut operator = Operator::on(world, id);
        let ok = operator.ok(world, json!({ "op": "hello", "v": 1 }));
        (operator, ok)
    };
    let secret = |rights: &str| json!({ "name": "secret", "rights": rights });
    let (mut nobody, ok) = hello(10, &mut world);
    assert_eq!((&ok["rights"], &ok["lists"]), (&json!("none"), &json!([])));
    let (mut reader, ok) = hello(11, &mut world);
    assert_eq!((&ok["rights"], &ok["lists"]), (&json!("spectator"), &json!([secret("spectator")])));
    let (mut writer, ok) = hello(12, &mut world);
    let databases = json!({ "name": "db-*", "uuid": "6421*", "rights": "operator" });
    assert_eq!((&ok["rights"], &ok["lists"]), (&json!("none"), &json!([secret("writer"), databases])));
    let (mut operator, ok) = hello(9, &mut world);
    assert_eq!((&ok["rights"], &ok["lists"]), (&json!("operator"), &json!([])));
    // Lists change, and nothing else: those are told who were named, or are now.
    world.change(&all(&["192.0.2.11=spectator", "192.0.2.10=writer"]));
    let told = nobody.notices(&mut world, "rights");
    assert_eq!((&told[0]["rights"], &told[0]["lists"]), (&json!("none"), &json!([secret("writer")])));
    assert_eq!(writer.notices(&mut world, "rights")[0]["lists"], json!([databases]));
    assert!(reader.notices(&mut world, "rights").is_empty());
    assert!(operator.notices(&mut world, "rights").is_empty());
}

#[test]
fn lists_without_end_are_cut_and_leave_hello_a_line() {
    let long = "\u{1}".repeat(4000);
    let console_rules: Vec<_> = (0..300).map(|n| may(&format!("{n}{long}"), &["192.0.2.9=writer"])).collect();
    let mut world = World::new(Config { console_rules, ..settings(&[], &[]) });
    let before = std::mem::replace(&mut world.from, Ipv4Addr::new(192, 0, 2, 9));
    let id = world.connect_to(ADMIN, Part::Client(Client::new(Kind::Raw))).unwrap();
    world.from = before;
    let ok = Operator::on(&mut world, id).ok(&mut world, json!({ "op": "hello", "v": 1 }));
    let told = ok["lists"].as_array().unwrap().len();
    assert!((1..300).contains(&told), "{told}");
}

#[test]
fn stats_count_nothing_of_consoles_that_one_may_not_know_of() {
    let (mut world, vms) = world(&["192.0.2.9=operator", "192.0.2.0/24=spectator"], &LIST);
    world.print(vms[0], b"four");
    world.print(vms[1], b"seven b");
    let stats = |n: u8, world: &mut World| {
        let mut operator = operator_from(world, n);
        let stats = operator.ok(world, json!({ "op": "stats" }));
        let count = |of: &str| stats["counters"][of].as_u64().unwrap();
        (count("consoles"), count("bytes_from_vm"), count("connections"))
    };
    let (hidden, all, named) = (stats(10, &mut world), stats(9, &mut world), stats(11, &mut world));
    assert_eq!((hidden.0, hidden.1), (1, 4));
    assert_eq!((all.0, all.1), (2, 11));
    assert_eq!((named.0, named.1), (2, 11));
    // Each has one connection more than the one before: its own. The first does not know of the VM's.
    assert_eq!((all.2 - hidden.2, named.2 - all.2), (2, 1));
    // Nor is what it carried told of when it is gone.
    world.end(vms[1]);
    world.settle();
    world.pass(Duration::from_secs(2 * 86_400));
    assert!(world.console(uuid(2)).is_none(), "it has expired");
    let (hidden, all) = (stats(10, &mut world), stats(9, &mut world));
    assert_eq!((hidden.0, hidden.1), (1, 4));
    assert_eq!((all.0, all.1), (1, 11));
}

#[test]
fn an_operator_of_the_whole_server_is_one_at_every_console() {
    let (mut world, _) = world(&["192.0.2.9=operator"], &["192.0.2.9=none"]);
    let mut operator = operator_from(&mut world, 9);
    operator.attach(&mut world, "secret", "exclusive");
    assert_eq!(operator.ok(&mut world, json!({ "op": "bump", "console": "secret" }))["bumped"], 0);
}

#[test]
fn whom_a_delegate_asks_for_has_what_the_list_gives_that_name_and_no_more_than_it_was_given() {
    let list = ["user:ann=operator", "user:bob=spectator", "192.0.2.8=spectator"];
    let (mut world, _) = world(&["192.0.2.0/24=operator+delegate"], &list);
    for (from, user, rights, expected) in [
        (9, "ann", "writer", Some("write")),
        (9, "ann", "spectator", Some("read")),
        (9, "bob", "writer", Some("read")),
        (9, "eve", "writer", None),
        // The gateway itself is in the list.
        (8, "eve", "writer", Some("read")),
    ] {
        let before = std::mem::replace(&mut world.from, Ipv4Addr::new(192, 0, 2, from));
        let id = world.connect_to(ADMIN, Part::Client(Client::new(Kind::Raw))).unwrap();
        world.from = before;
        let mut operator = Operator::on(&mut world, id);
        let behalf = json!({ "user": user, "rights": rights });
        operator.ok(&mut world, json!({ "op": "hello", "v": 1, "for": behalf }));
        let stream = operator.session.open_announced().unwrap().0;
        let answer =
            operator.ask(&mut world, json!({ "op": "attach", "console": "secret", "stream": stream }));
        assert_eq!(answer["ok"]["access"].as_str(), expected, "{user} {rights}: {answer}");
    }
}

#[test]
fn those_who_cannot_say_who_they_are_have_what_the_list_gives_v3() {
    for (list, right) in [(&["loopback=operator"][..], 0), (&["v3=spectator"], 1), (&["v3=writer"], 2)] {
        let (mut world, vms) = world(&[], list);
        world.print(vms[1], b"hidden");
        // vSPC.py's: the list, by name, by UUID.
        let id = connect(&mut world);
        say(&mut world, id, VERSION);
        let listed = show(&say(&mut world, id, &[NOBODY, &pickled("write")].concat()));
        assert!(listed.contains("open"));
        assert_eq!(listed.contains("secret"), right > 0, "{listed}");
        for name in ["secret", &uuid(2).simple().to_string()] {
            for (lock, needs) in [("free_for_all_or_readonly", 1), ("free_for_all", 2), ("exclusive", 2)] {
                let (id, answer) = ask(&mut world, name, lock);
                let answer = show(&answer);
                let expected = match right {
                    0 => "vm_not_found",
                    _ if right < needs => "lock_failed",
                    _ => "vm_found",
                };
                assert!(answer.contains(expected), "{list:?} {lock}: {answer}");
                assert_eq!(answer.contains("hidden"), expected == "vm_found");
                world.end(id);
                world.settle();
            }
        }
        // VMware's: the list, and to be connected.
        let id = kit::agreed(&mut world);
        let listed = show(&say(&mut world, id, kit::GET_LIST));
        assert!(listed.contains("open"));
        assert_eq!(listed.contains("secret"), right > 0, "{listed}");
        for (lock, needs) in [(kit::READ, 1), (kit::BOTH, 2)] {
            let id = kit::agreed(&mut world);
            let answer = kit::connects(&mut world, id, uuid(2), lock);
            let expected = if right >= needs { kit::CONNECTED } else { kit::DISCONNECTED };
            assert_eq!(show(&answer), show(expected), "{list:?} {lock}");
            world.end(id);
            world.settle();
        }
        // OpenStack's lines are about ports, and it has none.
        let id = connect(&mut world);
        let lines = show(&say(&mut world, id, b"LIST\n"));
        assert_eq!(lines.matches(" -> ").count(), 1, "{lines}");
    }
    // Where the server does not speak with them, no list has it do so.
    let (mut world, _) = world(&["v3=none"], &["v3=writer"]);
    let (id, _) = ask_for_nothing(&mut world);
    assert_eq!(world.reason(id), Some(CloseReason::NotUnderstood));
}

fn ask_for_nothing(world: &mut World) -> (ConnId, Vec<u8>) {
    let id = connect(world);
    say(world, id, VERSION);
    let answer = say(world, id, &[NOBODY, &pickled("write")].concat());
    (id, answer)
}

#[test]
fn a_console_with_a_list_has_no_client_port_whatever_the_rule_says_of_that() {
    let rule = ConsoleRule { port: RulePort::This(7001), ..may("secret", &["v3=writer"]) };
    let mut world = World::new(Config { console_rules: vec![rule], ..config() });
    world.vm(called("secret", 1));
    assert_eq!(world.port(uuid(1)), None);
    world.vm(called("open", 2));
    assert!(world.port(uuid(2)).is_some());
    assert_eq!(world.told(|kind| *kind == EventKind::VmIdentified), 2);
}

#[test]
fn events_and_changes_of_a_console_are_told_to_those_who_may_know_of_it() {
    let (mut world, vms) = world(&["192.0.2.0/24=spectator"], &["192.0.2.12=spectator"]);
    let mut nobody = operator_from(&mut world, 10);
    let mut knows = operator_from(&mut world, 12);
    for operator in [&mut nobody, &mut knows] {
        for to in ["consoles", "events"] {
            operator.ok(&mut world, json!({ "op": "subscribe", "to": to }));
        }
    }
    world.end(vms[1]);
    let secret = world.vm(called("secret", 2));
    world.engine.tell_sighting(
        world.console(uuid(2)).unwrap().label.id,
        "panic",
        "secret words",
        0,
        world.now,
    );
    world.end(secret);
    world.settle();
    // All of it expires, which is the last that is heard of it.
    world.pass(Duration::from_secs(2 * 86_400));
    for (operator, hears) in [(&mut nobody, false), (&mut knows, true)] {
        operator.ok(&mut world, json!({ "op": "list", "limit": 1 }));
        let notices = std::mem::take(&mut operator.notices);
        let told = notices.iter().map(Value::to_string).collect::<String>();
        assert_eq!(told.contains("secret"), hears, "{told}");
        assert_eq!(told.contains("console-gone"), hears, "{told}");
        assert!(told.contains("open"), "{told}");
    }
}

#[test]
fn a_vm_that_has_not_told_its_name_is_for_operators_alone_where_a_list_may_be_about_it() {
    let mut world = World::new(settings(&["192.0.2.0/24=writer", "192.0.2.9=operator"], &LIST));
    let vm = world.vm_connects(called("", 2));
    world.pass(Duration::from_secs(10));
    world.print(vm, b"whose is this?");
    let id = world.console(uuid(2)).expect("it is served").label.uuid.simple().to_string();
    assert_eq!(world.port(uuid(2)), None);
    for (from, sees) in [(10, false), (12, false), (9, true)] {
        let mut operator = operator_from(&mut world, from);
        let shown = code(&mut operator, &mut world, json!({ "op": "show", "console": id }));
        assert_eq!(shown.is_none(), sees, "{from}");
    }
    assert!(show(&ask(&mut world, &id, "write").1).contains("vm_not_found"));
}

#[test]
fn what_was_printed_under_a_list_is_not_shown_once_its_vm_is_called_otherwise() {
    let (mut world, vms) = world(&["192.0.2.0/24=writer"], &LIST);
    world.print(vms[1], b"secret words");
    let mut inside = operator_from(&mut world, 12);
    let stream = inside.attach(&mut world, "secret", "free-for-all");
    world.end(vms[1]);
    let vm = world.vm(called("plain", 2));
    world.print(vm, b"plain words");
    let mut outside = operator_from(&mut world, 10);
    let seat = outside.session.open_announced().unwrap().0;
    let attach = json!({ "op": "attach", "console": "plain", "stream": seat, "scrollback": 4096 });
    outside.ok(&mut world, attach);
    assert_eq!(outside.read(&mut world, seat), "plain words");
    assert!(show(&ask(&mut world, "plain", "free_for_all").1).contains("plain words"));
    assert!(!show(&ask(&mut world, "plain", "free_for_all").1).contains("secret"));
    assert_eq!(inside.read(&mut world, stream), "plain words", "who was there stays");
}

#[test]
fn a_list_that_comes_sends_those_away_who_are_not_in_it_and_one_that_goes_opens_the_port() {
    let (mut world, vms) = {
        let mut world =
            World::new(Config { console_rules: Vec::new(), ..settings(&["192.0.2.0/24=writer"], &[]) });
        let vms = [world.vm(called("open", 1)), world.vm(called("secret", 2))];
        (world, vms)
    };
    let telnet = world.client(uuid(2), Kind::Telnet);
    let neighbour = world.client(uuid(1), Kind::Telnet);
    let v3 = attach(&mut world, "secret", "free_for_all", "free_for_all");
    let (mut out, mut watches, mut stays) =
        (operator_from(&mut world, 10), operator_from(&mut world, 11), operator_from(&mut world, 12));
    for operator in [&mut out, &mut watches] {
        operator.ok(&mut world, json!({ "op": "subscribe", "to": "consoles" }));
    }
    let streams =
        [&mut out, &mut watches, &mut stays].map(|one| one.attach(&mut world, "secret", "free-for-all"));
    let log = out.session.open_announced().unwrap().0;
    out.ok(&mut world, json!({ "op": "log", "console": "secret", "stream": log }));
    world.log_orders.clear();
    world.pass(Duration::from_secs(5));
    out.notices.clear();
    let before = world.port(uuid(2));
    assert!(before.is_some());

    world.change(&settings(&["192.0.2.0/24=writer"], &LIST));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.port(uuid(2)), None);
    assert!(!world.is_open(telnet) && !world.is_open(v3) && world.is_open(neighbour));
    assert_eq!(world.reason(telnet), Some(CloseReason::NoRight));
    assert!(world.seen(telnet).contains("[vspc: this console is reached by the admin port only"));
    assert!(world.seen(v3).contains("[vspc: you may not use this console any more]"));
    assert!(matches!(world.log_orders[..], [LogOrder::Stop(_)]), "{:?}", world.log_orders);
    let detached = out.notices(&mut world, "detached");
    assert_eq!((&detached[0]["stream"], &detached[0]["reason"]), (&json!(streams[0]), &json!("no-right")));
    let console = stays.ok(&mut world, json!({ "op": "show", "console": "secret" }))["console"].clone();
    assert_eq!(console["clients"], 2);
    for (operator, stream, text) in [(&mut watches, streams[1], "w"), (&mut stays, streams[2], "s")] {
        operator.session.write(StreamId(stream), text.as_bytes()).unwrap();
        operator.pass(&mut world);
    }
    assert_eq!(world.typed(vms[1]), "s");
    let access = watches.notices(&mut world, "access");
    assert_eq!((&access[0]["stream"], &access[0]["access"]), (&json!(streams[1]), &json!("read")));
    world.print(vms[1], b"secret words");
    assert_eq!(watches.read(&mut world, streams[1]), "secret words");

    world.change(&Config { console_rules: Vec::new(), ..settings(&["192.0.2.0/24=writer"], &[]) });
    assert_eq!(world.port(uuid(2)), before, "the one that it had last");
    let again = out.session.open_announced().unwrap().0;
    out.ok(&mut world, json!({ "op": "attach", "console": "secret", "stream": again, "scrollback": 4096 }));
    assert_eq!(out.read(&mut world, again), "", "what was printed under the list");
}

#[test]
fn a_subscriber_hears_that_a_console_is_gone_when_it_may_not_know_of_it_any_more_and_of_it_when_it_may() {
    let (mut world, _) = world(&["192.0.2.0/24=writer"], &LIST);
    let mut operator = operator_from(&mut world, 12);
    operator.ok(&mut world, json!({ "op": "subscribe", "to": "consoles" }));
    assert_eq!(operator.notices(&mut world, "console").len(), 2);
    let id = world.console(uuid(2)).unwrap().label.id;
    world.change(&settings(&["192.0.2.0/24=writer"], &["192.0.2.13=writer"]));
    let gone = operator.notices(&mut world, "console-gone");
    assert_eq!(gone.len(), 1);
    world.vm(called("secret", 2));
    assert!(operator.notices(&mut world, "console").is_empty());
    world.change(&settings(&["192.0.2.0/24=writer"], &LIST));
    let consoles = operator.notices(&mut world, "console");
    assert!(consoles.iter().any(|notice| notice["console"]["name"] == "secret"), "{consoles:?}");
    assert_eq!(world.console(uuid(2)).unwrap().label.id, id);
}

#[test]
fn a_right_that_was_taken_is_gone_from_those_who_are_connected() {
    let (mut world, vms) = world(&["192.0.2.0/24=operator"], &["v3=writer"]);
    let mut operator = operator_from(&mut world, 10);
    operator.ok(&mut world, json!({ "op": "subscribe", "to": "consoles" }));
    let stream = operator.attach(&mut world, "open", "exclusive");
    let v3 = attach(&mut world, "secret", "free_for_all", "free_for_all");
    for (right, list, attach) in
        [("writer", None, None), ("spectator", None, Some("read")), ("none", Some("not-allowed"), None)]
    {
        world.change(&settings(&[&format!("192.0.2.0/24={right}"), "v3=none"], &["v3=writer"]));
        let answer = operator.ask(&mut world, json!({ "op": "list", "limit": 1 }));
        assert_eq!(answer["error"]["code"].as_str(), list, "{right}");
        let notices = std::mem::take(&mut operator.notices);
        let of = |event: &'static str| notices.iter().filter(move |notice| notice["event"] == event);
        assert_eq!(of("rights").next_back().unwrap()["rights"], right);
        assert!(operator.code(&mut world, json!({ "op": "bump", "console": "open" })).starts_with("n"));
        if let Some(access) = attach {
            assert_eq!(of("access").next_back().unwrap()["access"], access);
            operator.session.write(StreamId(stream), b"typed").unwrap();
            operator.pass(&mut world);
            assert_eq!(world.typed(vms[0]), "");
        }
        assert_eq!(of("detached").count(), usize::from(right == "none"), "{right}");
        // First the one that has a list, and then the other.
        assert_eq!(of("console-gone").count(), usize::from(right != "spectator"), "{right}");
    }
    assert!(!world.is_open(v3), "nobody speaks vSPC.py's protocol any more");
    world.change(&settings(&["192.0.2.0/24=writer"], &["v3=writer"]));
    operator.ok(&mut world, json!({ "op": "list" }));
    operator.attach(&mut world, "open", "write");
}
