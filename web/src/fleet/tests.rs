//! What readers of a fleet are told, and what outlives a concentrator.

use super::read::Change;
use super::*;

fn kinds(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.kind).collect()
}

#[test]
fn a_reader_is_told_the_newest_of_each_and_never_a_backlog() {
    let fleet = Fleet::new(vec!["a".into()]);
    fleet.greeted(0, &json!({"rights": "writer"}));
    for n in 0..1000 {
        fleet.console(0, json!({"id": "1.1", "name": "web", "clients": n}));
    }
    fleet.synced(0);
    let (changes, at) = fleet.since(0, 100, fleet.seq());
    assert_eq!(kinds(&changes), ["console", "server"]);
    assert_eq!(changes[0].value["clients"], 999);
    assert_eq!(changes[0].value["server"], "a");
    assert_eq!(fleet.since(at, 100, 0).0, []);
    fleet.gone(0, "1.1");
    assert_eq!(kinds(&fleet.since(at, 100, 0).0), ["console-gone"]);
    assert_eq!(kinds(&fleet.since(0, 100, fleet.seq()).0), ["server"]);
}

#[test]
fn a_console_that_ends_while_what_there_is_is_told_is_gone_afterwards() {
    let fleet = Fleet::new(vec!["a".into()]);
    fleet.console(0, json!({"id": "0.1"}));
    fleet.gone(0, "0.1");
    for id in ["1.1", "2.1", "3.1"] {
        fleet.console(0, json!({"id": id}));
    }
    let began = fleet.seq();
    let (first, at) = fleet.since(0, 3, began);
    assert_eq!(kinds(&first), ["server", "console"]);
    fleet.gone(0, "1.1");
    let (rest, at) = fleet.since(at, 100, began);
    assert_eq!(kinds(&rest), ["console", "console", "console-gone"]);
    assert_eq!(rest[2].value["id"], "1.1");
    assert_eq!(fleet.since(at, 100, began).0, []);
}

#[test]
fn counts_of_a_list_that_was_made_before_a_change_do_not_undo_it() {
    let fleet = Fleet::new(vec!["a".into()]);
    let old = json!({"id": "1.1", "state": "connected", "out": 5, "in": 0, "since_ms": 70_000});
    fleet.console(0, json!({"id": "1.1", "state": "waiting", "out": 1, "in": 0, "since_ms": 5}));
    fleet.counted(0, &old, Interest::Counts);
    let console = &fleet.consoles(|_| true)[0];
    assert_eq!((&console["state"], &console["out"]), (&json!("waiting"), &json!(5)));
    assert!(console["since_ms"].as_u64().unwrap() < 60_000, "{console}");
}

#[test]
fn a_last_line_stays_over_changes_and_goes_where_somebody_is_alone() {
    let fleet = Fleet::new(vec!["a".into()]);
    let line_of = || fleet.consoles(|_| true)[0].get(LAST_LINE).cloned();
    let console = json!({"id": "1.1", "out": 1, "in": 0});
    fleet.console(0, console.clone());
    assert_eq!(line_of(), None);
    let mut listed = console.clone();
    listed[LAST_LINE] = "login:".into();
    fleet.counted(0, &listed, Interest::Lines);
    fleet.console(0, console.clone());
    assert_eq!(line_of(), Some(json!("login:")));
    let at = fleet.seq();
    fleet.counted(0, &console, Interest::Counts);
    assert_eq!((fleet.seq(), line_of()), (at, Some(json!("login:"))));
    fleet.counted(0, &console, Interest::Lines);
    assert_eq!(line_of(), None);
    fleet.counted(0, &listed, Interest::Lines);
    let mut locked = console;
    locked["lock"] = json!({"mode": "exclusive"});
    fleet.console(0, locked);
    assert_eq!(line_of(), None);
}

#[test]
fn what_a_server_does_not_tell_of_any_more_is_gone_and_what_was_known_of_a_lost_one_stays() {
    let fleet = Fleet::new(vec!["a".into()]);
    fleet.greeted(0, &Value::Null);
    for id in ["1.1", "2.1"] {
        fleet.console(0, json!({"id": id}));
    }
    fleet.synced(0);
    fleet.server(0, "down", "it is gone");
    fleet.server(0, "connecting", "");
    // Tried again, it fails otherwise.
    fleet.server(0, "down", "it has gone");
    assert_eq!(fleet.consoles(|_| true).len(), 2);
    assert_eq!(fleet.servers()[0]["message"], "it has gone");
    fleet.greeted(0, &Value::Null);
    fleet.console(0, json!({"id": "2.1"}));
    fleet.synced(0);
    let left = fleet.consoles(|_| true);
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some("2.1")));
    assert_eq!(fleet.servers()[0]["state"], "up");
}

#[test]
fn what_was_told_before_counts_where_a_server_is_down_and_no_more_once_it_has_told_or_refused() {
    let first = Arc::new(Fleet::new(vec!["a".into(), "b".into()]));
    for place in [0, 1] {
        first.greeted(place, &Value::Null);
        first.console(place, json!({"id": "1.1", "since_ms": 70_000}));
        first.synced(place);
    }
    let fleet = Arc::new(Fleet::recalling(vec!["a".into(), "b".into()], first.told()));
    let known = |fleet: &Fleet| {
        let mut all: Vec<_> = fleet.consoles(|_| true).iter().map(|c| c["server"].clone()).collect();
        all.sort_by_key(Value::to_string);
        all
    };
    assert_eq!(known(&fleet), [] as [Value; 0], "it may be there");
    fleet.server(0, "down", "it is gone");
    assert_eq!(known(&fleet), ["a"]);
    assert!(fleet.consoles(|_| true)[0]["since_ms"].as_u64().unwrap() >= 70_000);
    // Whoever comes then is told of both.
    let again = Fleet::beside(vec!["a".into(), "b".into()], &fleet);
    again.server(0, "down", "");
    again.server(1, "down", "");
    assert_eq!(known(&again), ["a", "b"]);
    fleet.greeted(1, &Value::Null);
    fleet.synced(1);
    fleet.server(1, "down", "");
    assert_eq!(known(&fleet), ["a"], "it has told that there are none");
    again.refused(0);
    again.server(0, "down", "it tells nothing");
    assert_eq!(known(&again), ["b"]);
}

#[test]
fn a_last_line_does_not_go_over_to_whom_a_server_that_began_anew_gave_the_id() {
    let fleet = Fleet::new(vec!["a".into()]);
    let line_of = || fleet.consoles(|_| true)[0].get(LAST_LINE).cloned();
    let old = json!({"id": "1.1", "name": "web", "epoch": "e", "out": 1, "in": 0});
    fleet.console(0, old.clone());
    let mut listed = old.clone();
    listed[LAST_LINE] = "web login:".into();
    fleet.counted(0, &listed, Interest::Lines);
    fleet.server(0, "down", "it is gone");
    fleet.greeted(0, &Value::Null);
    fleet.console(0, old);
    assert_eq!(line_of(), Some(json!("web login:")), "it was not connected, and the same again");
    fleet.console(0, json!({"id": "1.1", "name": "db", "epoch": "f", "out": 1, "in": 0}));
    assert_eq!(line_of(), None);
}

#[test]
fn what_one_of_two_was_told_before_the_other_was_refused_counts_in_neither_any_more() {
    let names = || vec!["a".to_owned(), "b".to_owned()];
    let first = Arc::new(Fleet::new(names()));
    for place in [0, 1] {
        first.console(place, json!({"id": "1.1"}));
    }
    let known = |fleet: &Fleet| fleet.consoles(|_| true).len();
    let second = Arc::new(Fleet::beside(names(), &first));
    let third = Fleet::beside(names(), &second);
    let is_down = |fleet: &Fleet| (0..2).for_each(|place| fleet.server(place, "down", "it is gone"));
    is_down(&second);
    assert_eq!((known(&first), known(&second)), (2, 2));
    second.refused(0);
    assert_eq!((known(&second), second.told().len(), first.told().len()), (1, 1, 1));
    is_down(&third);
    assert_eq!(known(&third), 1, "asked for what was known before the refusal");
    first.server(0, "down", "it is gone");
    assert_eq!(known(&first), 1);
    // Later it is told of them again.
    first.greeted(0, &Value::Null);
    first.console(0, json!({"id": "1.1"}));
    first.synced(0);
    first.server(0, "down", "it is gone");
    assert_eq!((known(&first), first.told().len()), (2, 2));
}

#[test]
fn where_one_console_is_wanted_nobody_hears_of_others() {
    let only = Only { uuid: "a".into(), suffix: String::new() };
    let fleet = Fleet::of(vec!["a".into()], only);
    fleet.greeted(0, &Value::Null);
    fleet.console(0, json!({"id": "1.1", "uuid": "a"}));
    fleet.console(0, json!({"id": "2.1", "uuid": "b", "name": "a"}));
    fleet.console(0, json!({"id": "3.1", "uuid": "a", "suffix": "1"}));
    fleet.synced(0);
    let left = fleet.consoles(|_| true);
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some("1.1")));
    fleet.console(0, json!({"id": "1.1", "uuid": "a", "shared": true}));
    fleet.console(0, json!({"id": "4.1", "uuid": "a", "name": "copy", "shared": true}));
    assert_eq!(fleet.consoles(|_| true), [] as [Value; 0]);
    fleet.console(0, json!({"id": "1.1", "uuid": "a", "shared": false}));
    assert_eq!(fleet.consoles(|_| true).len(), 1);
    fleet.console(0, json!({"id": "1.1", "uuid": "b"}));
    assert_eq!(fleet.consoles(|_| true), [] as [Value; 0]);
}

#[test]
fn who_was_away_for_too_long_is_not_told_what_is_not_known() {
    let fleet = Fleet::new(vec!["a".into()]);
    let before = fleet.seq();
    for n in 0..=GONE {
        fleet.console(0, json!({"id": format!("{n}.1")}));
        fleet.gone(0, &format!("{n}.1"));
    }
    assert!(!fleet.knows(before) && fleet.knows(fleet.seq()) && fleet.knows(0));
    assert!(!fleet.knows(fleet.seq() + 1));
}
