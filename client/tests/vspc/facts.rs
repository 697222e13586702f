//! `vspc facts` and `vspc streams`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::server::FakeServer;
use crate::{outcome, surround, vspc};

#[test]
fn facts_are_a_table_a_value_or_an_object() {
    let server = FakeServer::start(&["web01"]);
    server.set_fact("os.name", "Debian\u{1b}[31m");
    server.set_fact("a", "1");
    let facts = |args: &[&str]| outcome(&vspc(&server, &[&["facts", "web01"][..], args].concat(), b""));
    assert_eq!(facts(&[]).1, "a        1\nos.name  Debian\\x1b[31m\n");
    assert_eq!(facts(&["a"]), (0, "1\n".to_owned(), String::new()));
    assert_eq!(facts(&["b"]), (1, String::new(), "vspc: web01 has no fact b\n".to_owned()));
    let object: Value = serde_json::from_str(&facts(&["--json", "--host"]).1).unwrap();
    assert_eq!(object, json!({"a": "1", "os.name": "Debian\u{1b}[31m"}));
    let of: Vec<Value> = (0..4).map(|_| server.await_request("facts")["of"].clone()).collect();
    assert_eq!(of, ["guest", "guest", "guest", "host"]);
}

#[test]
fn facts_are_set_and_unset_for_the_guest() {
    let server = FakeServer::start(&["web01"]);
    let facts = |args: &[&str]| outcome(&vspc(&server, &[&["facts", "web01"][..], args].concat(), b""));
    assert_eq!(facts(&["set", "a=b=c", "d="]), (0, String::new(), String::new()));
    let request = || {
        let request = server.await_request("set-fact");
        (request["console"].clone(), request["key"].clone(), request.get("value").cloned())
    };
    assert_eq!(request(), (json!("1.1"), json!("a"), Some(json!("b=c"))));
    assert_eq!(request(), (json!("1.1"), json!("d"), Some(json!(""))));
    assert_eq!(facts(&["unset", "a"]).0, 0);
    assert_eq!(request(), (json!("1.1"), json!("a"), None));
    assert_eq!((facts(&["set", "a"]).0, facts(&["--watch", "unset", "a"]).0), (2, 2));
}

#[test]
fn facts_that_are_watched_go_on_over_a_restart_of_the_server() {
    let server = FakeServer::start(&["web01"]);
    server.set_fact("a", "1");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, &server);
    command.args(["facts", "web01", "--watch"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "a  1");
    server.set_fact("a", "2");
    assert_eq!(lines.next().unwrap(), "a  2");
    server.die();
    server.set_fact("b", "3");
    server.rise_anew(b"");
    assert_eq!(lines.next().unwrap(), "b  3");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn streams_are_told_with_who_has_opened_them() {
    let server = FakeServer::start(&["web01"]);
    let (_, out, _) = outcome(&vspc(&server, &["streams", "web01"], b""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "vspc-agent 0.1.0, which allows: exec, put");
    assert_eq!(lines[2], "shell  -              shell");
    assert_eq!(lines[3], "exec   ann@192.0.2.7  /bin/true\\x1b[31m");
    let (_, out, _) = outcome(&vspc(&server, &["streams", "web01", "--json"], b""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["may"][1], "put");
    server.agent_is_away(true);
    assert_eq!(outcome(&vspc(&server, &["streams", "web01"], b"")).0, 1);
}
