//! Guests with an agent (operator.md §11): their streams that are consoles (`web01/shell`, of its VM's UUID),
//! what they tell of themselves, and what is set for them.

use std::io::{Read, Write};
use std::time::Instant;

use serde_json::{Value, json};

use crate::authority::Folder;
use crate::browser::{Answer, Socket, ask, get, until};
use crate::openapi::check;
use crate::people::{Browser, basic, user};
use crate::processes::{Agent, Gateway, PATIENCE, Server};

/// `web01`, whose guest has an agent with a shell and these lines in its file.
struct Guest {
    folder: Folder,
    server: Server,
    _agent: Agent,
}

impl Guest {
    fn start(name: &str, more: &str) -> Self {
        let folder = Folder::new();
        let line = folder.path("agent.sock");
        let server = Server::start(name, &["--line", &format!("web01=unix:{line}?listen&mux=s2")]);
        let agent = Agent::start(&folder.write(
            "agent.toml",
            &format!(
                "line = \"unix:{line}\"\n[shell]\ncommand = [\"/bin/cat\"]\nannounce = [\"shell\"]\n{more}"
            ),
        ));
        server.process.line_with("the guest's agent is there");
        Self { folder, server, _agent: agent }
    }
}

#[test]
fn a_shell_of_a_guest_is_a_console_of_its_own_by_every_path_and_link() {
    let Guest { folder, server, _agent } = Guest::start("guest", "");
    let users = folder.write("users", &user("wim", "write", "w"));
    let gateway = Gateway::with_users(&server, &users, &["--state-dir", &folder.path("state")]);
    let wim = Browser::of(&gateway, "wim", "w");
    let deadline = Instant::now() + PATIENCE;
    while wim.get("/api/v1/consoles/web01%2Fshell").status != 200 {
        assert!(Instant::now() < deadline, "no shell was announced");
    }
    let shell = wim.get("/api/v1/consoles/web01%2Fshell").json();
    let uuid = shell["uuid"].as_str().unwrap();
    for (name, is) in [
        (uuid.to_owned(), "web01"),
        (format!("{uuid}%2Fshell"), "web01/shell"),
        (format!("lab%2F{}%2Fshell", uuid.to_uppercase()), "web01/shell"),
        ("lab%2Fweb01%2Fshell".to_owned(), "web01/shell"),
    ] {
        assert_eq!(wim.get(&format!("/api/v1/consoles/{name}")).json()["name"], is, "{name}");
    }
    let share = |name: &str| {
        let body = json!({"rights": "writer", "expires_in_s": 600}).to_string();
        let share = wim.post(&format!("/api/v1/consoles/{name}/shares"), &body).json();
        share["url"].as_str().unwrap().strip_prefix("s/#/share/").unwrap().to_owned()
    };
    let (of_shell, of_vm) = (share("web01%2Fshell"), share("web01"));
    let open = |word: &str, name: &str| {
        let path = format!("/s/api/v1/consoles/{name}/socket?server=lab");
        Socket::try_open(&gateway, &path, &format!("vspc.v1, share.{word}"), &[]).unwrap()
    };
    // As its page asks, by the UUID: the one that it is of.
    let mut guest = open(&of_shell, uuid);
    assert_eq!(guest.notice("attached")["console"]["name"], "web01/shell");
    guest.send(2, b"by a link\r");
    guest.expect(b"by a link\r\nby a link\r\n");
    assert_eq!(open(&of_vm, uuid).notice("attached")["console"]["name"], "web01");
    for (word, other) in [(&of_shell, "web01"), (&of_vm, "web01%2Fshell")] {
        assert_eq!(open(word, other).notice("error")["code"], "no-such-console", "{other}");
        let bearer = format!("Bearer {word}");
        let list: Answer = ask(&gateway, "GET", "/api/v1/consoles", &[("authorization", &bearer)], "");
        assert_eq!(list.json()["consoles"].as_array().unwrap().len(), 1);
    }
    // A link is for the console, and for nothing of its guest.
    let facts = format!("/s/api/v1/consoles/{uuid}/facts");
    let bearer = format!("Bearer {of_vm}");
    assert_eq!(ask(&gateway, "GET", &facts, &[("authorization", &bearer)], "").status, 403);
}

#[test]
fn facts_are_told_and_set_as_the_document_has_it_and_the_state_of_them_is_named() {
    let markup = "<img src=x onerror=alert(1)> \u{202e}\u{1b}[31m";
    let Guest { folder, server, _agent } =
        Guest::start("facts", &format!("[facts]\nsite = \"north\"\n\"a/b%\" = {}\n", Value::from(markup)));
    let gateway = Gateway::of(&server);
    let document = get(&gateway, "/api/v1/openapi.json").json();
    let path = "/api/v1/consoles/web01/facts";
    let told = until(&gateway, path, |told| told["facts"]["guest"]["site"] == "north");
    assert_eq!(told["facts"]["guest"]["a/b%"], markup);
    assert_eq!(told["facts"]["host"], json!({}));
    let of = |path: &str, method: &str| document["paths"][path][method].clone();
    let first = get(&gateway, path);
    check(&document, &of("/api/v1/consoles/{name}/facts", "get"), &first, path);
    let again = |tag: &str| ask(&gateway, "GET", path, &[("if-none-match", tag)], "");
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(again(&tag).status, 304);

    let one = "/api/v1/consoles/{name}/facts/{key}";
    let change = |method: &str, key: &str, body: &str| {
        let answer = ask(&gateway, method, &format!("{path}/{key}"), &[], body);
        check(&document, &of(one, &method.to_lowercase()), &answer, &format!("{method} {key} {body}"));
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let done = (200, String::new());
    assert_eq!(change("PUT", "owner%2Fmail", "{\"value\":\"ann@example.org\"}"), done);
    assert_eq!(change("PUT", "ticket", "{\"value\":\"7\"}"), done);
    assert_eq!(change("PUT", "ticket", "{\"value\":\"8\"}"), done);
    let second = again(&tag);
    assert_eq!(second.status, 200);
    assert_eq!(second.json()["facts"]["host"], json!({"owner/mail": "ann@example.org", "ticket": "8"}));
    assert_ne!(second.header("etag"), Some(tag.as_str()));
    assert_eq!(change("DELETE", "ticket", ""), done);
    assert_eq!(change("DELETE", "ticket", ""), done);
    assert_eq!(get(&gateway, path).json()["facts"]["host"], json!({"owner/mail": "ann@example.org"}));
    for (method, path) in [
        ("GET", "/api/v1/consoles/%ff/log"),
        ("GET", "/console_log/%ff"),
        ("POST", "/api/v1/shares/%ff/revoke"),
    ] {
        let kind = ask(&gateway, method, path, &[], "").header("content-type").map(str::to_owned);
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{path}");
    }
    let long = json!({"value": "v".repeat(4097)}).to_string();
    for (method, key, body, status, code) in [
        ("PUT", "a%20b", "{\"value\":\"x\"}", 400, "bad-request"),
        ("PUT", "%ff", "{\"value\":\"x\"}", 400, "bad-request"),
        ("DELETE", "%ff", "", 400, "bad-request"),
        ("PUT", "a", "{}", 400, "bad-request"),
        ("PUT", "a", "{\"value\":7}", 400, "bad-request"),
        ("PUT", "a", &long, 400, "bad-request"),
    ] {
        assert_eq!(change(method, key, body), (status, code.to_owned()), "{method} {key}");
    }
    let streams = get(&gateway, "/api/v1/consoles/web01/streams");
    check(&document, &of("/api/v1/consoles/{name}/streams", "get"), &streams, "streams");
    assert!(streams.json()["agent"].as_str().unwrap().starts_with("vspc-agent "), "{}", streams.body);

    // What a browser changes has to show that it has read our answers, and come from a page of ours.
    let origin = format!("http://{}", gateway.address);
    let by_page = |headers: &[(&str, &str)]| {
        ask(&gateway, "DELETE", &format!("{path}/owner%2Fmail"), headers, "").json()["code"].clone()
    };
    assert_eq!(by_page(&[("origin", &origin)]), "no-token");
    assert_eq!(by_page(&[("origin", "http://evil.example")]), "other-site");
    assert_eq!(get(&gateway, path).json()["facts"]["host"]["owner/mail"], "ann@example.org");

    let users = folder.write("users", &(user("rea", "read", "r") + &user("wim", "write", "w")));
    let gateway = Gateway::with_users(&server, &users, &[]);
    let put = |of: &str, password: &str| {
        let headers = [("authorization", basic(of, password))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        ask(&gateway, "PUT", &format!("{path}/by"), &headers, &json!({"value": of}).to_string())
    };
    assert_eq!((put("rea", "r").status, put("rea", "r").json()["code"].as_str()), (403, Some("not-allowed")));
    assert_eq!(put("wim", "w").status, 200);
    let log = gateway.process.line_with("PUT \"/api/v1/consoles/web01/facts/by\" user=\"wim\" ");
    assert!(log.contains("console=\"web01\": 200"), "{log}");
}

#[test]
fn many_may_read_facts_at_once_and_a_console_without_an_agent_has_none() {
    let Guest { server, _agent, .. } = Guest::start("facts-many", "[facts]\nsite = \"north\"\n");
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles/web01/facts", |told| told["facts"]["guest"]["site"] == "north");
    std::thread::scope(|scope| {
        let read = || get(&gateway, "/api/v1/consoles/web01/facts");
        let all: Vec<_> = (0..40).map(|_| scope.spawn(read)).collect();
        for one in all.into_iter().map(|one| one.join().unwrap()) {
            assert_eq!(one.status, 200, "{}", one.body);
        }
    });
    until(&gateway, "/api/v1/consoles/web1", |console| console["name"] == "web1");
    let none = get(&gateway, "/api/v1/consoles/web1/facts");
    assert_eq!((none.status, none.json()), (200, json!({"facts": {"guest": {}, "host": {}}})));
    let put = ask(&gateway, "PUT", "/api/v1/consoles/web1/facts/a", &[], "{\"value\":\"b\"}");
    assert_eq!((put.status, put.json()["code"].as_str()), (404, Some("no-agent")));
    let streams = get(&gateway, "/api/v1/consoles/web1/streams");
    assert_eq!((streams.status, streams.json()["code"].as_str()), (404, Some("no-agent")));
}

#[test]
fn a_concentrator_that_hangs_takes_no_facts_from_those_who_ask_another() {
    let east = Guest::start("facts-east", "[facts]\nsite = \"east\"\n");
    let west = Guest::start("facts-west", "[facts]\nsite = \"west\"\n");
    let of = |name: &str, guest: &Guest| format!("{name}={}", guest.server.socket.display());
    let gateway = Gateway::with(&[&of("east", &east), &of("west", &west)]);
    let path = |server: &str| format!("/api/v1/consoles/web01/facts?server={server}");
    for server in ["east", "west"] {
        until(&gateway, &path(server), |told| told["facts"]["guest"]["site"] == server);
    }
    east.server.process.signal("STOP");
    let one = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", path("east"), gateway.address);
    let mut waiting: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    waiting.iter_mut().for_each(|wire| wire.write_all(one.as_bytes()).unwrap());
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(&gateway, &path("west")).status, 200);
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    east.server.process.signal("CONT");
    for wire in &mut waiting {
        let mut status = [0; 12];
        wire.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
}
