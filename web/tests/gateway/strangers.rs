//! What pages of other sites, and people who would like more than they may, get.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use crate::browser::{Events, Socket, ask, get, until};
use crate::processes::{Gateway, PATIENCE, Server};

const PATH: &str = "/api/v1/consoles/web1/socket";

#[test]
fn a_page_of_another_site_gets_no_socket_and_sends_nobody_away() {
    let server = Server::start("sites", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let evil = ("origin", "http://evil.example");
    let refused = Socket::try_open(&gateway, PATH, "vspc.v1", &[evil]);
    assert!(refused.err().unwrap().starts_with("HTTP/1.1 403"));
    assert!(Socket::try_open(&gateway, PATH, "vspc.v1", &[("origin", "null")]).is_err());
    let bump = "/api/v1/consoles/web1/bump";
    assert_eq!(ask(&gateway, "POST", bump, &[evil], "{}").status, 403);
    let own = format!("http://{}", gateway.address);
    assert_eq!(ask(&gateway, "POST", bump, &[("origin", &own)], "{}").status, 403);
    let me = get(&gateway, "/api/v1/me").json();
    let token = me["csrf"].as_str().unwrap();
    assert_eq!(ask(&gateway, "POST", bump, &[("origin", &own), ("x-csrf-token", token)], "{}").status, 200);
    // A form can send no JSON.
    let form = ask(&gateway, "POST", bump, &[("content-length", "0")], "");
    assert_eq!(form.status, 415);
}

#[test]
fn another_name_of_this_machine_is_none_of_ours() {
    let server = Server::start("hosts", &[]);
    let gateway = Gateway::of(&server);
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example"] {
        let answer = ask(&gateway, "GET", "/api/v1/consoles", &[("host", host)], "");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (421, Some("other-host")), "{host}");
    }
    // Nor does a name in another header count.
    let forwarded = [("host", "evil.example"), ("x-forwarded-host", "localhost")];
    assert_eq!(ask(&gateway, "GET", "/", &forwarded, "").status, 421);
}

#[test]
fn a_target_of_another_host_than_ours_is_refused() {
    let server = Server::start("heads", &[]);
    let gateway = Gateway::of(&server);
    let answer = get(&gateway, "http://evil.example/api/v1/me");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("other-host")));
    assert_eq!(get(&gateway, &format!("http://{}/api/v1/me", gateway.address)).status, 200);
}

#[test]
fn what_is_refused_before_it_is_a_request_says_why_by_its_status_and_ends_the_connection() {
    let server = Server::start("broken", &[]);
    let gateway = Gateway::of(&server);
    let refused = |head: &str| {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // What was not read may have the end be a reset.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap().to_ascii_lowercase()
    };
    let with = |lines: &str| format!("GET /api/v1/me HTTP/1.1\r\nhost: {}\r\n{lines}\r\n", gateway.address);
    for (head, status) in [
        ("no http\r\n\r\n".to_owned(), "400"),
        (with("content-length: 1\r\ncontent-length: 2\r\n"), "400"),
        (with(&(0..150).map(|n| format!("x-{n}: a\r\n")).collect::<String>()), "431"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(66_000)), "414"),
    ] {
        let answer = refused(&head);
        let (lines, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{status}: {answer}"));
        assert!(lines.starts_with(&format!("http/1.1 {status} ")), "{lines}");
        assert!(lines.contains("connection: close") && body.is_empty(), "{answer}");
    }
    // A long name is a request, and is answered as one.
    let long = get(&gateway, &format!("/api/v1/consoles/{}", "a".repeat(30_000)));
    assert_eq!((long.status, long.header("content-type")), (404, Some("application/problem+json")));
}

#[test]
fn no_path_leads_to_a_file() {
    let server = Server::start("paths", &[]);
    let gateway = Gateway::of(&server);
    for path in ["/../Cargo.toml", "/..%2f..%2fetc/passwd", "/assets/../../Cargo.toml", "//etc/passwd"] {
        assert_eq!(get(&gateway, path).status, 404, "{path}");
    }
}

#[test]
fn a_name_that_is_markup_is_text_and_every_answer_forbids_script() {
    let server = Server::start("markup", &[]);
    let name = "<img src=x onerror=alert(1)>";
    let _vm = server.vm(1, name);
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == name);
    let twin = server.vm(2, name);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 2);
    let named = "/api/v1/consoles/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E";
    let several = get(&gateway, named);
    assert_eq!((several.status, several.header("content-type")), (409, Some("application/problem+json")));
    assert_eq!(several.json()["candidates"][1]["name"], name);
    let mut changes = Events::of(&gateway, "/api/v1/changes", &[]);
    assert_eq!(changes.next_of("console").0["name"], name);
    drop(twin);
    let paths = ["/api/v1/consoles", "/", named, "/api/v1/consoles/%3Cimg%20src%3Dx%20onerror%3Dalert(2)%3E"];
    for path in paths {
        let answer = get(&gateway, path);
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let kind = answer.header("content-type").unwrap();
        assert!(path == "/" || kind.contains("json"), "{path}: {kind}");
    }
}

#[test]
fn connections_are_counted_and_those_beyond_are_closed() {
    let gateway = Gateway::with_options(&["--max-connections", "3"]);
    let connect = || TcpStream::connect(gateway.address).unwrap();
    let mut all = vec![connect(), connect(), connect()];
    // They are accepted in their order: what the fourth is told shows that the three count.
    let is_closed = |mut stream: TcpStream| matches!(stream.read(&mut [0]), Ok(0) | Err(_));
    assert!(is_closed(connect()));
    drop(all.pop());
    let deadline = Instant::now() + PATIENCE;
    let answers = || {
        let mut stream = connect();
        let text = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gateway.address);
        let mut answer = String::new();
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 200")
    };
    while !answers() {
        assert!(Instant::now() < deadline, "the slot never came free");
    }
}

#[test]
fn a_vm_that_is_called_like_anothers_id_or_uuid_hides_nothing() {
    let server = Server::start("liars", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    let list = until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let [id, uuid] = ["id", "uuid"].map(|field| list["consoles"][0][field].as_str().unwrap().to_owned());
    let _liars = [server.vm(2, &id), server.vm(3, &uuid), server.vm(4, &uuid.replace('3', "4"))];
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 4);
    for name in [&id, &uuid] {
        let found = get(&gateway, &format!("/api/v1/consoles/{name}"));
        assert_eq!((found.status, &found.json()["name"]), (200, &"web1".into()), "{name}");
    }
    // A log by UUID is of no VM that is merely called so.
    let other = uuid.replace('3', "4");
    assert_eq!(get(&gateway, &format!("/api/v1/consoles/{other}")).status, 200);
    assert_eq!(get(&gateway, &format!("/console_log/{other}")).status, 404);
}
