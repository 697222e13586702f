//! Consoles as websockets.

use serde_json::json;

use crate::browser::{Frame, Socket, ask, get, until};
use crate::processes::{Gateway, Server};

const PATH: &str = "/api/v1/consoles/web1/socket";

#[test]
fn a_page_sees_what_is_kept_types_and_goes_on_where_it_was_cut_off() {
    let server = Server::start("page", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    vm.print(b"login: ");
    until(&gateway, "/api/v1/consoles/web1", |console| console["out"] == 7);
    let mut socket = Socket::open(&gateway, &format!("{PATH}?scrollback=100"), "vspc.v1");
    let attached = socket.notice("attached");
    assert_eq!((&attached["access"], &attached["offset"]), (&json!("write"), &json!(0)));
    assert_eq!(attached["console"]["name"], "web1");
    socket.expect(b"login: ");
    socket.send(2, b"root\r");
    vm.expect(b"root\r");
    drop(socket);
    vm.print(b"Password: ");
    until(&gateway, "/api/v1/consoles/web1", |console| console["out"] == 17);
    let epoch = attached["epoch"].as_str().unwrap();
    let mut socket = Socket::open(&gateway, &format!("{PATH}?epoch={epoch}&offset=7"), "vspc.v1");
    assert_eq!(socket.notice("attached")["offset"], 7);
    socket.expect(b"Password: ");
    let mut socket = Socket::open(&gateway, &format!("{PATH}?epoch=other&offset=7"), "vspc.v1");
    assert_eq!(socket.notice("error")["code"], "gone");
}

#[test]
fn a_plain_client_gets_guest_bytes_and_nothing_else() {
    let server = Server::start("plain", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, PATH, "binary");
    // It is attached once what it types arrives.
    socket.send(1, b"text is typed, too");
    vm.expect(b"text is typed, too");
    let doubled: Vec<u8> =
        (0..=255_u8).flat_map(|byte| vec![byte; if byte == 255 { 2 } else { 1 }]).collect();
    vm.print(&doubled);
    socket.expect(&(0..=255).collect::<Vec<u8>>());
}

#[test]
fn a_stalled_page_stalls_nobody_else() {
    let server = Server::start("stalled", &[]);
    let mut vms = [server.vm(1, "web1"), server.vm(2, "web2")];
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 2);
    let mut stalled = Socket::open(&gateway, PATH, "vspc.v1");
    stalled.notice("attached");
    let mut live = [PATH, "/api/v1/consoles/web2/socket"].map(|path| {
        let mut socket = Socket::open(&gateway, path, "vspc.v1");
        socket.notice("attached");
        socket
    });
    let block = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        for (vm, socket) in vms.iter_mut().zip(&mut live) {
            vm.print(&block);
            socket.expect(&block);
        }
    }
    // It is told what it has missed, and has the newest.
    assert!(stalled.notice("missed")["bytes"].as_u64().unwrap() > 0);
}

#[test]
fn locks_are_asked_for_in_text_and_refusals_are_told_there() {
    let server = Server::start("locks", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut first = Socket::open(&gateway, PATH, "vspc.v1");
    let mut second = Socket::open(&gateway, &format!("{PATH}?lock=read-only"), "vspc.v1");
    first.notice("attached");
    assert_eq!(second.notice("attached")["access"], "read");
    first.say(&json!({"op": "lock", "mode": "write"}));
    while first.notice("access")["lock"] != "write" {}
    second.say(&json!({"op": "lock", "mode": "write"}));
    assert_eq!(second.notice("error")["code"], "locked");
    first.say(&json!({"op": "resize", "size": {"rows": 50, "cols": 132}}));
    first.say(&json!({"op": "resize", "size": {"rows": 0, "cols": 132}}));
    assert_eq!(first.notice("error")["code"], "bad-request", "and nothing is said of one that is right");
    second.say(&json!({"op": "dance"}));
    assert_eq!(second.notice("error")["code"], "unknown-op");
    second.send(1, b"no request");
    while !matches!(second.next(), Frame::Close(1003, _)) {}
}

#[test]
fn who_is_sent_away_is_told_why() {
    let server = Server::start("bump", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, PATH, "vspc.v1");
    socket.notice("attached");
    let who = get(&gateway, "/api/v1/consoles/web1/clients").json();
    let body = json!({"client": who["clients"][0]["id"], "reason": "lunch"}).to_string();
    assert_eq!(ask(&gateway, "POST", "/api/v1/consoles/web1/bump", &[], &body).json(), json!({"bumped": 1}));
    let detached = socket.notice("detached");
    assert_eq!((&detached["reason"], &detached["message"]), (&json!("bumped"), &json!("lunch")));
    assert!(matches!(socket.next(), Frame::Close(1000, _)));
}

#[test]
fn a_request_that_is_too_long_is_refused_and_ends_nobodys_session() {
    let server = Server::start("long", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, PATH, "vspc.v1");
    socket.notice("attached");
    let body = json!({"reason": "x".repeat(100_000)}).to_string();
    let answer = ask(&gateway, "POST", "/api/v1/consoles/web1/bump", &[], &body);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad-request")));
    let lock = format!("{PATH}?lock={}", "%01".repeat(20_000));
    let refused = Socket::try_open(&gateway, &lock, "vspc.v1", &[]);
    if let Ok(mut refused) = refused {
        assert_eq!(refused.notice("error")["code"], "bad-request");
    }
    vm.print(b"still here");
    socket.expect(b"still here");
}

#[test]
fn what_cannot_be_opened_is_said_where_a_page_can_hear_it() {
    let server = Server::start("unopened", &[]);
    let gateway = Gateway::of(&server);
    until(&gateway, "/readyz", |ready| ready["ready"] == true);
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/nobody/socket", "vspc.v1");
    assert_eq!(socket.notice("error")["code"], "no-such-console");
    assert!(matches!(socket.next(), Frame::Close(1008, _)));
    let refused = Socket::try_open(&gateway, PATH, "chat", &[]);
    assert!(refused.err().unwrap().starts_with("HTTP/1.1 400"));
}

#[test]
fn what_is_no_message_closes_a_socket_with_the_code_that_says_so() {
    let server = Server::start("frames", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let open = || {
        let mut socket = Socket::open(&gateway, PATH, "vspc.v1");
        socket.notice("attached");
        socket
    };
    let long = [&[0x81, 0xfe, 0x40, 0x01, 0, 0, 0, 0][..], &[b' '; 0x4001]].concat();
    for (wire, code) in [
        (&b"\x82\x02ab"[..], 1002),
        (b"\xc2\x80abcd", 1002),
        (b"\x80\x80abcd", 1002),
        (b"\x09\x80abcd", 1002),
        (b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00abcd", 1009),
        (b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd", 1009),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
        (&long, 1009),
    ] {
        let mut socket = open();
        socket.send_raw(wire);
        let closed = loop {
            if let Frame::Close(code, _) = socket.next() {
                break code;
            }
        };
        assert_eq!(closed, code, "{wire:?}");
    }
    // Messages in pieces are whole, a ping between them is answered, and what is typed is what was sent.
    let mut socket = open();
    socket.send_raw(b"\x01\x87\x00\x00\x00\x00{\"op\":\"");
    socket.send(9, b"ping");
    socket.send_raw(b"\x80\x87\x00\x00\x00\x00dance\"}");
    while socket.next() != Frame::Pong(b"ping".into()) {}
    assert_eq!(socket.notice("error")["code"], "unknown-op");
    socket.send_raw(b"\x02\x82\x00\x00\x00\x00ls\x80\x81\x01\x00\x00\x00\x0c");
    vm.expect(b"ls\r");
    socket.send(8, &1000_u16.to_be_bytes());
    while !matches!(socket.next(), Frame::Close(1000, _)) {}
}

#[test]
fn whatever_is_sent_on_sockets_the_gateway_serves_on() {
    let server = Server::start("garbage", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut kept = Socket::open(&gateway, PATH, "vspc.v1");
    kept.notice("attached");
    // Numbers by xorshift, always the same.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let words =
        ["\"op\"", "lock", "\"mode\"", ":", "{", "}", "null", "-1", "1e400", "[", "\u{e4}", "consumed"];
    for n in 0..100 {
        let speech = if n % 2 == 0 { "vspc.v1" } else { "binary" };
        let mut socket = Socket::open(&gateway, &format!("{PATH}?lock=read-only"), speech);
        let mut wire = Vec::new();
        for _ in 0..random(20) {
            let text: String = (0..random(8)).map(|_| words[random(words.len() as u64) as usize]).collect();
            let content = match random(3) {
                0 => text.into_bytes(),
                1 => {
                    format!("{{\"op\":\"{}\",\"bytes\":{}}}", text.replace('"', ""), random(u64::MAX)).into()
                }
                _ => (0..random(100)).map(|_| random(256) as u8).collect(),
            };
            // Mostly frames as they should be.
            let first =
                if random(8) == 0 { random(256) as u8 } else { 0x80 | [1, 2, 9, 10][random(4) as usize] };
            wire.extend_from_slice(&[first, 0x80 | (content.len() as u8).min(125), 0, 0, 0, 0]);
            wire.extend_from_slice(&content[..content.len().min(125)]);
        }
        let _ = socket.try_send_raw(&wire);
    }
    assert_eq!(get(&gateway, "/healthz").status, 200);
    vm.print(b"still here");
    kept.expect(b"still here");
}

#[test]
fn a_lost_server_closes_its_sockets_so_that_they_come_back() {
    let server = Server::start("lost", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, PATH, "vspc.v1");
    socket.notice("attached");
    drop(server);
    assert!(matches!(socket.next(), Frame::Close(1011, _)));
}

#[test]
fn an_idle_socket_costs_no_more_than_20_kib() {
    let server = Server::start("idle", &["--max-clients", "1000"]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    vm.print(&[b'x'; 8192]);
    let open = || {
        let mut socket = Socket::open(&gateway, &format!("{PATH}?lock=read-only&scrollback=4096"), "vspc.v1");
        socket.notice("attached");
        socket
    };
    // What comes once for all of them is there after some.
    let _some: Vec<_> = (0..50).map(|_| open()).collect();
    let before = gateway.memory();
    let many: Vec<_> = (0..300).map(|_| open()).collect();
    let each = gateway.memory().saturating_sub(before) / many.len() as u64;
    assert!(each <= 20 * 1024, "{each} bytes");
}
