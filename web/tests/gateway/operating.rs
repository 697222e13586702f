//! What is done at consoles over HTTP, logs, events, metrics.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::authority::Folder;
use crate::browser::{Events, Socket, ask, get, until};
use crate::processes::{Gateway, Server};

fn post(gateway: &Gateway, what: &str, body: &Value) -> (u16, Value) {
    let path = format!("/api/v1/consoles/web1/{what}");
    let answer = ask(gateway, "POST", &path, &[], &body.to_string());
    (answer.status, answer.json())
}

/// A gateway that knows `web1`.
fn gateway_of(server: &Server) -> Gateway {
    let gateway = Gateway::of(server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    gateway
}

#[test]
fn what_is_sent_is_typed_whole() {
    let server = Server::start("send", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = gateway_of(&server);
    let text = "echo hello\r".repeat(5000);
    assert_eq!(post(&gateway, "send", &json!({"text": text})), (200, json!({"sent": text.len()})));
    vm.expect(text.as_bytes());
    assert_eq!(post(&gateway, "send", &json!({})).0, 400);
    let long = json!({"text": "x".repeat(1024 * 1024)}).to_string();
    let answer = ask(&gateway, "POST", "/api/v1/consoles/web1/send", &[], &long);
    assert_eq!((answer.status, answer.header("content-type")), (413, Some("application/problem+json")));
    assert_eq!((&answer.json()["status"], &answer.json()["code"]), (&json!(413), &json!("bad-request")));
}

#[test]
fn a_lock_is_held_until_it_is_given_up_or_its_time_is_over() {
    let server = Server::start("held", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = gateway_of(&server);
    assert_eq!(post(&gateway, "lock", &json!({"mode": "write"})).1["lock"], "write");
    let console = until(&gateway, "/api/v1/consoles/web1", |console| !console["lock"].is_null());
    assert_eq!(console["lock"]["mode"], "write");
    assert_eq!(post(&gateway, "send", &json!({"text": "x"})).1["code"], "locked");
    assert_eq!(post(&gateway, "unlock", &json!({})).1, json!({"unlocked": true}));
    until(&gateway, "/api/v1/consoles/web1", |console| console["lock"].is_null());
    assert_eq!(post(&gateway, "unlock", &json!({})).1, json!({"unlocked": false}));
    assert_eq!(post(&gateway, "lock", &json!({"mode": "write", "for_s": 1})).0, 200);
    until(&gateway, "/api/v1/consoles/web1", |console| console["lock"].is_null());
    assert_eq!(post(&gateway, "lock", &json!({"mode": "mine"})).0, 400);
}

#[test]
fn a_client_of_another_console_is_none_of_this_ones() {
    let server = Server::start("kick", &[]);
    let _vms = (server.vm(1, "web1"), server.vm(2, "web2"));
    let gateway = gateway_of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 2);
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web2/socket", "vspc.v1");
    socket.notice("attached");
    let who = get(&gateway, "/api/v1/consoles/web2/clients").json();
    let body = json!({"client": who["clients"][0]["id"]});
    assert_eq!(post(&gateway, "kick", &body).1["code"], "no-such-client");
    assert_eq!(post(&gateway, "kick", &json!({"client": "none"})).0, 404);
}

#[test]
fn a_log_comes_as_bytes_as_text_as_lines_and_as_a_recording() {
    let folder = std::env::temp_dir().join(format!("vspc-web-{}-logs", std::process::id()));
    let (logs, index) = (folder.join("logs"), folder.join("index"));
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::create_dir_all(&index).unwrap();
    let options = ["--log-dir", logs.to_str().unwrap(), "--log-index", index.to_str().unwrap()];
    let server = Server::start("logs", &options);
    let mut vm = server.vm(1, "web1");
    let gateway = gateway_of(&server);
    let printed = "\u{1b}[1mboot\u{1b}[0m\r\nkernel panic\r\nlogin: ";
    vm.print(printed.as_bytes());
    let log = |query: &str| get(&gateway, &format!("/api/v1/consoles/web1/log?{query}&x"));
    let deadline = std::time::Instant::now() + crate::processes::PATIENCE;
    while !log("").body.contains("login: ") {
        assert!(std::time::Instant::now() < deadline, "it never was in the log");
    }
    assert!(log("format=raw").body.contains(printed));
    assert!(log("format=text").body.contains("boot\r\nkernel panic\r\nlogin: "));
    let lines = log("grep=panic");
    assert!(lines.body.contains("kernel panic\r\n") && !lines.body.contains("boot"));
    let cast = log("format=cast");
    assert!(cast.body.contains("{\"") && cast.body.contains("\"version\":2"), "{}", cast.body);
    assert!(log("lines=1").body.contains("login: ") && !log("lines=1").body.contains("boot"));
    for wrong in ["format=html", "since=soon", "lines=x", "follow=maybe", "format=cast&grep=x"] {
        assert_eq!(log(wrong).status, 400, "{wrong}");
    }
    let console = get(&gateway, "/api/v1/consoles/web1").json();
    let uuid = console["uuid"].as_str().unwrap().to_uppercase();
    let answer = get(&gateway, &format!("/console_log/{uuid}"));
    assert!(answer.status == 200 && answer.body.contains(printed));
    // It tells all, whatever stands behind it, and nothing of what it has not.
    for query in ["?length=1", "?lines=1", "?length=x&follow=true"] {
        assert_eq!(get(&gateway, &format!("/console_log/{uuid}{query}")).body, answer.body, "{query}");
    }
    let unknown = "/console_log/ffffffffffffffffffffffffffffffff";
    for path in ["/console_log/web1", "/console_log/..%2f..%2fetc%2fpasswd", "/console_log/", unknown] {
        let none = get(&gateway, path);
        assert_eq!((none.status, none.json()["status"].as_u64()), (404, Some(404)), "{path}");
    }
    // Lines that have something, from some time on, and those that come.
    let mut wire = gateway.connect();
    let path = "/api/v1/consoles/web1/log?since=1h&grep=panic&follow=true";
    wire.write_all(format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address).as_bytes()).unwrap();
    let mut followed = String::new();
    let mut comes = |line: &str| {
        let mut buf = [0; 4096];
        while !followed.contains(line) {
            let n = wire.read(&mut buf).unwrap();
            assert!(n > 0, "it ended: {followed}");
            followed.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
    };
    comes("kernel panic\r\n");
    vm.print(b"root\r\nno panic\r\n");
    comes("no panic\r\n");
    vm.print(b"halted\r\na panic at last\r\n");
    comes("a panic at last\r\n");
    for other in ["boot", "root", "halted"] {
        assert!(!followed.contains(other), "{followed}");
    }
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn where_there_are_no_logs_that_is_said() {
    let server = Server::start("nologs", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = gateway_of(&server);
    let answer = get(&gateway, "/api/v1/consoles/web1/log");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (501, Some("unsupported")));
}

#[test]
fn a_log_that_cannot_be_read_as_asked_is_a_problem_in_the_words_of_its_server() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("logs")).unwrap();
    let server = Server::start("times", &["--log-dir", &folder.path("logs")]);
    let mut vm = server.vm(1, "web1");
    let gateway = gateway_of(&server);
    vm.print(b"login: ");
    let answer = get(&gateway, "/api/v1/consoles/web1/log?since=10min&format=cast").json();
    assert_eq!((&answer["status"], &answer["code"]), (&json!(502), &json!("log-failed")));
    let why = answer["detail"].as_str().unwrap();
    assert!(why.starts_with("the server does not keep what was printed when"), "{why}");
    assert_eq!(get(&gateway, "/api/v1/consoles/web1/log").status, 200);
}

#[test]
fn events_are_told_with_their_server() {
    let server = Server::start("events", &[]);
    let gateway = Gateway::of(&server);
    until(&gateway, "/readyz", |ready| ready["ready"] == true);
    let mut events = Events::of(&gateway, "/api/v1/events", &[]);
    assert_eq!(events.next().0, "begun");
    let _vm = server.vm(1, "web1");
    loop {
        let (event, _) = events.next_of("log");
        assert_eq!(event["server"], "lab");
        if event["kind"] == "vm-identified" {
            break;
        }
    }
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    assert_eq!(post(&gateway, "break", &json!({"reason": "it hangs"})), (200, json!({})));
    loop {
        let (event, _) = events.next_of("log");
        if event["kind"] == "break-sent" {
            assert_eq!(event["reason"], "it hangs");
            break;
        }
    }
}
