//! The operator protocol (operator.md), from the client's side: what a connection may ask, and that it costs
//! nobody else anything.

mod attaches;
pub(crate) mod client;
mod logs;
mod notices;

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::admin::operator::{CONTROL, ReloadOutcome, Rules};
use vspc_core::concentrator::{Config, EventKind, Order};
use vspc_core::mux::StreamId;

use crate::admin::{ADMIN, config};
use crate::world::{Client, Kind, Part, World, uuid, vm_config};
use client::Operator;

#[test]
fn hello_comes_first_and_says_what_one_may() {
    let mut world = World::new(config());
    let mut operator = Operator::new(&mut world);
    assert_eq!(operator.code(&mut world, json!({ "op": "list" })), "hello-first");
    assert_eq!(operator.code(&mut world, json!({ "op": "hello", "v": 9 })), "unsupported");
    let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1, "client": "x", "new": [1] }));
    assert_eq!(
        (&hello["v"], &hello["rights"], &hello["as"]),
        (&json!(1), &json!("writer"), &json!("127.0.0.1"))
    );
    assert_eq!(operator.code(&mut world, json!({ "op": "fly" })), "unknown-op");
    assert_eq!(operator.code(&mut world, json!({ "op": "bump", "console": "x" })), "not-allowed");
}

#[test]
fn who_comes_from_elsewhere_has_no_rights_until_a_rule_gives_some() {
    for (rule, right, code) in [
        (None, "none", Some("not-allowed")),
        (Some("192.0.2.0/24=spectator"), "spectator", None),
        (Some("loopback=operator"), "none", Some("not-allowed")),
    ] {
        let admin_rights = Rules::new(rule.iter().map(|rule| rule.parse().unwrap()).collect());
        let mut world = World::new(Config { admin_rights, ..config() });
        world.vm(vm_config(1));
        let mut fresh = remote(&mut world);
        let hello = fresh.ok(&mut world, json!({ "op": "hello", "v": 1 }));
        assert_eq!(hello["rights"], right);
        let list = fresh.ask(&mut world, json!({ "op": "list" }));
        assert_eq!(list["error"]["code"].as_str(), code);
        if right == "spectator" {
            let stream = fresh.session.open_announced().unwrap().0;
            let attach = json!({ "op": "attach", "console": "vm01", "stream": stream });
            assert_eq!(fresh.ok(&mut world, attach)["access"], "read");
            let stream = fresh.session.open_announced().unwrap().0;
            let attach = json!({ "op": "attach", "console": "vm01", "stream": stream, "lock": "write" });
            assert_eq!(fresh.ask(&mut world, attach)["error"]["needs"], "writer");
        }
    }
}

/// A client that comes from another machine.
fn remote(world: &mut World) -> Operator {
    let raw = Part::Client(Client::new(Kind::Raw));
    let id = world.connect_to(ADMIN, raw).expect("there is room");
    Operator::on(world, id)
}

#[test]
fn consoles_are_listed_page_by_page_and_found_by_name_uuid_and_id() {
    let mut world = World::new(config());
    for n in 1..=9 {
        world.vm(vm_config(n));
    }
    let mut operator = Operator::known(&mut world);
    let mut names = Vec::new();
    let mut after = Value::Null;
    loop {
        let page = operator.ok(&mut world, json!({ "op": "list", "limit": 4, "after": after }));
        let consoles = page["consoles"].as_array().unwrap();
        names.extend(consoles.iter().map(|console| console["name"].as_str().unwrap().to_owned()));
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let expected: Vec<String> = (1..=9).map(|n| format!("vm{n:02}")).collect();
    assert_eq!(names, expected);
    for (matching, count) in [("VM0", 9), ("*3", 1), ("vm0?", 9), ("vm?", 0), ("05", 1)] {
        let page = operator.ok(&mut world, json!({ "op": "list", "match": matching }));
        let found = page["consoles"].as_array().unwrap();
        let by_name = found.iter().filter(|console| matching != "05" || console["name"] == "vm05");
        assert_eq!(by_name.count(), count, "{matching}");
    }
    let console = operator.ok(&mut world, json!({ "op": "show", "console": "vm03" }))["console"].clone();
    for reference in [&console["id"], &console["uuid"]] {
        let again = operator.ok(&mut world, json!({ "op": "show", "console": reference }));
        assert_eq!(again["console"]["name"], "vm03");
    }
    assert_eq!(console["state"], "connected");
    assert_eq!(console["host"], "192.0.2.1");
    assert_eq!(console["port"].as_u64(), world.port(uuid(3)).map(u64::from));
    let refused = operator.ask(&mut world, json!({ "op": "show", "console": "m0" }));
    assert_eq!(refused["error"]["code"], "no-such-console");
    assert_eq!(refused["error"]["candidates"].as_array().unwrap().len(), 8);
}

#[test]
fn those_at_a_console_are_listed_and_sent_away_with_a_reason() {
    let admin_rights = Rules::new(vec!["loopback=operator".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    world.vm(vm_config(1));
    let telnet = world.client(uuid(1), Kind::Telnet);
    let (mut a, mut b) = (Operator::known(&mut world), Operator::known(&mut world));
    a.attach(&mut world, "vm01", "free-for-all");
    let stream = b.attach(&mut world, "vm01", "free-for-all");
    let who = a.ok(&mut world, json!({ "op": "who", "console": "vm01" }));
    let speaks: Vec<&str> =
        who["clients"].as_array().unwrap().iter().map(|client| client["speaks"].as_str().unwrap()).collect();
    assert_eq!(speaks, ["telnet", "operator", "operator"]);
    assert_eq!(who["clients"][1]["you"], true);
    assert_eq!(who["legs"][0]["holds_input"], true);
    let bumped = a.ok(&mut world, json!({ "op": "bump", "console": "vm01", "reason": "I\nneed it" }));
    assert_eq!(bumped["bumped"], 2);
    assert!(!world.is_open(telnet));
    assert!(world.seen(telnet).contains("[vspc: 127.0.0.1 sent you away: I need it]"));
    let detached = b.notices(&mut world, "detached");
    assert_eq!(detached[0]["stream"], stream);
    assert_eq!((&detached[0]["reason"], &detached[0]["message"]), (&json!("bumped"), &json!("I need it")));
    assert_eq!(
        b.code(&mut world, json!({ "op": "lock", "stream": stream, "mode": "write" })),
        "no-such-stream"
    );
    let leg = who["legs"][0]["id"].clone();
    a.ok(&mut world, json!({ "op": "kick", "client": leg }));
    assert_eq!(world.console(uuid(1)).unwrap().vms, 0);
}

#[test]
fn a_subscriber_hears_of_each_console_then_of_what_changes_and_never_of_a_backlog() {
    let mut world = World::new(config());
    for n in 1..=3 {
        world.vm(vm_config(n));
    }
    let mut operator = Operator::known(&mut world);
    operator.ok(&mut world, json!({ "op": "subscribe", "to": "consoles", "match": "vm0" }));
    operator.ok(&mut world, json!({ "op": "list", "limit": 1 }));
    let events: Vec<&str> = operator.notices.iter().map(|notice| notice["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["console", "console", "console", "synced"]);
    operator.notices.clear();
    let vm = world.vm(vm_config(4));
    world.end(vm);
    let consoles = operator.notices(&mut world, "console");
    let last = &consoles.last().unwrap()["console"];
    assert_eq!((&last["name"], &last["state"]), (&json!("vm04"), &json!("waiting")));
    operator.ok(&mut world, json!({ "op": "unsubscribe", "to": "consoles" }));
    world.vm(vm_config(5));
    assert!(operator.notices(&mut world, "console").is_empty());
    operator.ok(&mut world, json!({ "op": "subscribe", "to": "events" }));
    world.vm(vm_config(6));
    let log = operator.notices(&mut world, "log");
    let identified = log.iter().find(|line| line["kind"] == "vm-identified").unwrap();
    assert_eq!((&identified["console"]["name"], &identified["severity"]), (&json!("vm06"), &json!("info")));
}

#[test]
fn events_are_facts_in_fields_and_no_sentences() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    operator.ok(&mut world, json!({ "op": "subscribe", "to": "events" }));
    let mut other = Operator::known(&mut world);
    other.attach(&mut world, "vm01", "write");
    world.reset(other.id);
    world.reset(vm);
    let log = operator.notices(&mut world, "log");
    let of = |kind: &str| log.iter().find(|line| line["kind"] == kind).unwrap_or_else(|| panic!("{log:?}"));
    let attached = of("attached");
    assert_eq!((&attached["who"], &attached["lock"]), (&json!("127.0.0.1"), &json!("write")));
    let left = of("left");
    assert_eq!((&left["because"], &left["typed"]), (&json!("failed"), &json!(0)));
    let gone = of("vm-disconnected");
    assert_eq!((&gone["because"], &gone["error"]), (&json!("failed"), &json!("connection-reset")));
    assert_eq!(gone["console"]["name"], "vm01");
    assert!(log.iter().all(|line| line["detail"].is_null()), "{log:?}");
}

#[test]
fn a_delegate_asks_for_others_with_no_more_rights_than_they_have() {
    let admin_rights = Rules::new(vec!["loopback=operator+delegate".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    world.vm(vm_config(1));
    let mut operator = Operator::new(&mut world);
    let ann = json!({ "user": "ann", "address": "198.51.100.7", "rights": "writer" });
    let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1, "for": ann }));
    assert_eq!(hello["rights"], "writer");
    assert_eq!(
        (&hello["as"], &hello["delegates"]),
        (&json!("ann@198.51.100.7 (via 127.0.0.1)"), &json!(true))
    );
    assert_eq!(operator.code(&mut world, json!({ "op": "bump", "console": "vm01" })), "not-allowed");
    operator.attach(&mut world, "vm01", "write");
    let is_told =
        |kind: &EventKind| matches!(kind, EventKind::Attached { who, .. } if who.starts_with("ann@"));
    assert_eq!(world.told(is_told), 1);
    let mut world = World::new(config());
    let mut operator = Operator::new(&mut world);
    let king = json!({ "user": "ann", "rights": "operator" });
    assert_eq!(operator.code(&mut world, json!({ "op": "hello", "v": 1, "for": king })), "not-allowed");
}

#[test]
fn the_last_line_is_shown_to_who_asks_for_it_and_of_no_console_that_somebody_has_alone() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let list = json!({ "op": "list", "with": ["last_line", "something"] });
    let show = json!({ "op": "show", "console": "vm01", "with": ["last_line"] });
    assert_eq!(operator.ok(&mut world, list.clone())["consoles"][0]["last_line"], "");
    world.print(vm, b"boot\r\n\x1b[1mweb01\xff\x1b[0m login: ");
    world.settle();
    assert_eq!(operator.ok(&mut world, list.clone())["consoles"][0]["last_line"], "web01\u{fffd} login:");
    assert_eq!(operator.ok(&mut world, show.clone())["console"]["last_line"], "web01\u{fffd} login:");
    let plain = operator.ok(&mut world, json!({ "op": "show", "console": "vm01" }));
    assert!(plain["console"].get("last_line").is_none());
    let wrong = json!({ "op": "list", "with": "last_line" });
    assert_eq!(operator.code(&mut world, wrong), "bad-request");
    Operator::known(&mut world).attach(&mut world, "vm01", "exclusive");
    assert!(operator.ok(&mut world, list)["consoles"][0].get("last_line").is_none());
    assert!(operator.ok(&mut world, show)["console"].get("last_line").is_none());
}

#[test]
fn a_break_reaches_the_vm_and_counters_are_told() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    operator.ok(&mut world, json!({ "op": "break", "console": "vm01", "reason": "it\nhangs" }));
    let is_sent =
        |kind: &EventKind| matches!(kind, EventKind::BreakSent { reason, .. } if &**reason == "it hangs");
    assert!(world.events.iter().any(|event| is_sent(&event.kind)));
    let is_break = |event: &vspc_core::vmware::VmEvent| matches!(event, vspc_core::vmware::VmEvent::Break);
    assert_eq!(world.host(vm).was_told(is_break), 1);
    let stats = operator.ok(&mut world, json!({ "op": "stats" }));
    let counters = &stats["counters"];
    assert_eq!((&counters["breaks"], &counters["consoles"]), (&json!(1), &json!(1)));
    assert_eq!(stats["waiting_bytes"], json!({ "shown": 0, "typed": 0 }));
    // What is printed waits for who has no room for it.
    let stream = operator.attach(&mut world, "vm01", "free-for-all");
    world.print(vm, &[b'x'; 300_000]);
    operator.pass(&mut world);
    let stats = operator.ok(&mut world, json!({ "op": "stats" }));
    let taken = operator.take(stream, usize::MAX).len() as u64;
    let shown = stats["waiting_bytes"]["shown"].as_u64().unwrap();
    assert!(shown > 0 && shown + taken <= 300_000, "{shown} {taken}");
    assert!(stats["reader_lag_bytes"]["sum"].as_u64().unwrap() >= shown);
    assert_eq!(stats["log_lag_bytes"]["count"], 0);
    world.engine.note_store_lag(Duration::from_millis(60));
    let stats = operator.ok(&mut world, json!({ "op": "stats" }));
    assert_eq!((&stats["store_lag_us"]["count"], &stats["store_lag_us"]["sum"]), (&json!(1), &json!(60_000)));
}

#[test]
fn lines_that_make_no_sense_end_the_session_with_a_word_and_nobody_elses() {
    for line in ["nonsense\n", "[]\n", "{\"id\":1}\n", "{\"op\":\"list\"}\n"] {
        let mut world = World::new(config());
        world.vm(vm_config(1));
        let mut other = Operator::known(&mut world);
        let mut operator = Operator::known(&mut world);
        operator.attach(&mut world, "vm01", "exclusive");
        operator.session.write(CONTROL, line.as_bytes()).unwrap();
        operator.pass(&mut world);
        assert!(String::from_utf8_lossy(&operator.heard).contains("\"event\":\"broken\""), "{line}");
        world.pass(Duration::from_secs(3));
        assert!(!world.is_open(operator.id));
        other.attach(&mut world, "vm01", "exclusive");
    }
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let mut world = World::new(config());
    for n in 1..=60 {
        world.vm(vm_config(n));
    }
    let mut operator = Operator::known(&mut world);
    world.stall(operator.id, 0);
    for _ in 0..3000 {
        operator.send(json!({ "op": "list", "limit": 60 }));
        if operator.session.send_window(CONTROL) < 200 {
            break;
        }
        operator.pass(&mut world);
        world.pass(Duration::from_millis(1));
    }
    // What it holds for it is bounded: answers of 30 KiB each are made no more of than have room.
    let sent = operator.requests;
    world.unstall(operator.id);
    for _ in 0..4000 {
        operator.pass(&mut world);
        world.pass(Duration::from_millis(1));
    }
    let answers = operator.heard.iter().filter(|&&byte| byte == b'\n').count() as u64;
    assert!(answers >= sent - 1, "{answers} of {sent} were answered in the end");
}

#[test]
fn a_connection_with_nothing_attached_does_not_keep_a_server_that_goes_down() {
    let mut world = World::new(config());
    let operator = Operator::known(&mut world);
    world.shut_down();
    assert!(!world.is_open(operator.id));
    assert!(world.engine.is_empty());
}

#[test]
fn the_server_goes_down_with_a_word_to_its_attaches() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01", "free-for-all");
    world.print(vm, b"last words");
    world.shut_down();
    let seen = operator.read(&mut world, stream);
    assert!(seen.contains("last words"));
    let heard = String::from_utf8_lossy(&operator.heard);
    assert!(heard.contains("\"reason\":\"shutting-down\""), "{heard}");
    world.pass(Duration::from_secs(3));
    assert!(world.engine.is_empty());
}

#[test]
fn stats_tell_how_long_moves_and_typing_took() {
    let mut world = World::new(config());
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01", "free-for-all");
    world.stall(vm, 0);
    operator.session.write(StreamId(stream), b"x").unwrap();
    operator.pass(&mut world);
    world.pass(Duration::from_millis(5));
    world.unstall(vm);
    world.settle();
    world.host(vm).session.begin(b"move");
    world.settle();
    world.host(vm).session.abort();
    world.settle();
    let stats = operator.ok(&mut world, json!({ "op": "stats" }));
    assert_eq!(stats["goahead_us"]["count"], 1);
    assert_eq!(stats["typing_us"]["count"], 1);
    assert!(stats["typing_us"]["p50"].as_u64().unwrap() >= 5000, "{stats}");
}

#[test]
fn an_operator_can_have_the_server_load_anew_and_end_and_nobody_else() {
    for (rule, may) in [("loopback=operator", true), ("loopback=writer", false)] {
        let admin_rights = Rules::new(vec![rule.parse().unwrap()]);
        let mut world = World::new(Config { admin_rights, ..config() });
        let mut operator = Operator::known(&mut world);
        assert_eq!(operator.ask(&mut world, json!({ "op": "drain" }))["error"].is_null(), may);
        assert_eq!(world.orders.len(), usize::from(may));
        if !may {
            assert_eq!(operator.code(&mut world, json!({ "op": "reload" })), "not-allowed");
        }
    }
}

#[test]
fn a_reload_is_answered_with_what_came_of_it_and_what_is_asked_behind_it_after_that() {
    let admin_rights = Rules::new(vec!["loopback=operator".parse().unwrap()]);
    let mut world = World::new(Config { admin_rights, ..config() });
    let vm = world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01", "free-for-all");
    let (reload, list) = (operator.send(json!({ "op": "reload" })), operator.send(json!({ "op": "list" })));
    operator.pass(&mut world);
    let [Order::Reload(asker)] = world.orders[..] else { panic!("{:?}", world.orders) };
    assert_eq!(asker, operator.id);
    assert_eq!(String::from_utf8_lossy(&operator.heard), "", "it is not known yet");
    // Meanwhile it types and sees as ever.
    operator.session.write(StreamId(stream), b"x").unwrap();
    operator.pass(&mut world);
    assert_eq!(world.typed(vm), "x");
    let outcome = ReloadOutcome { changed: vec!["a is 1 now".into()], ..ReloadOutcome::default() };
    world.engine.handle_reloaded(asker, &outcome, world.now);
    world.engine.handle_reloaded(asker, &outcome, world.now);
    operator.pass(&mut world);
    let heard = String::from_utf8(operator.heard.clone()).unwrap();
    let lines: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{heard}");
    assert_eq!(lines[0]["id"], reload);
    assert_eq!(lines[0]["ok"], json!({ "changed": ["a is 1 now"], "restart": [], "faults": [] }));
    assert_eq!(lines[1]["id"], list);
    world.break_off(operator.id);
    world.settle();
    world.engine.handle_reloaded(asker, &outcome, world.now);
}
