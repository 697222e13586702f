//! Lists, one console, changes, health.

use serde_json::json;

use crate::browser::{Events, Socket, ask, get, until};
use crate::processes::{Gateway, Server, closed_server};

#[test]
fn the_list_comes_in_pages_and_says_when_it_is_unchanged() {
    let server = Server::start("pages", &[]);
    let _vms: Vec<_> = (1..=3).map(|n| server.vm(n, &format!("web{n}"))).collect();
    let gateway = Gateway::of(&server);
    let all = until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 3);
    assert_eq!(all["next"], json!(null));
    assert_eq!(all["consoles"][0]["server"], "lab");
    let first = get(&gateway, "/api/v1/consoles?limit=2").json();
    assert_eq!(
        (&first["consoles"][0]["name"], &first["consoles"][1]["name"]),
        (&json!("web1"), &json!("web2"))
    );
    let after = first["next"].as_str().unwrap();
    let second = get(&gateway, &format!("/api/v1/consoles?limit=2&after={after}")).json();
    assert_eq!(second["consoles"][0]["name"], "web3");
    assert_eq!(second["next"], json!(null));
    let filtered = get(&gateway, "/api/v1/consoles?q=*3").json();
    assert_eq!(filtered["consoles"].as_array().unwrap().len(), 1);
    let tag = get(&gateway, "/api/v1/consoles").header("etag").unwrap().to_owned();
    let again = ask(&gateway, "GET", "/api/v1/consoles", &[("if-none-match", &tag)], "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    for wrong in ["limit=0", &format!("q={}", "*a".repeat(200)), "after=x", "q=%ff%&limit=x"] {
        let answer = get(&gateway, &format!("/api/v1/consoles?{wrong}"));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad-request")), "{wrong}");
    }
}

#[test]
fn a_console_is_shown_by_any_of_its_names_and_what_is_none_is_a_problem() {
    let server = Server::start("names", &[]);
    let _vm = server.vm(1, "web/1 ä");
    let gateway = Gateway::of(&server);
    let all = until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web/1 ä");
    let uuid = all["consoles"][0]["uuid"].as_str().unwrap();
    let id = all["consoles"][0]["id"].as_str().unwrap();
    for name in ["web%2F1%20%C3%A4", "lab%2Fweb%2F1%20%C3%A4", uuid, id, &uuid.to_uppercase()] {
        let console = get(&gateway, &format!("/api/v1/consoles/{name}"));
        assert_eq!((console.status, &console.json()["id"]), (200, &json!(id)), "{name}");
    }
    let none = get(&gateway, "/api/v1/consoles/nobody");
    assert_eq!(none.status, 404);
    assert_eq!(none.header("content-type"), Some("application/problem+json"));
    assert_eq!(none.json()["code"], "no-such-console");
    assert_eq!(get(&gateway, "/api/v1/consoles/web?server=other").json()["code"], "no-such-server");
}

#[test]
fn a_name_with_a_slash_is_a_name_on_every_path_and_hides_no_console_of_a_server_that_is_called_so() {
    let server = Server::start("slashes", &[]);
    let mut vms = [(1, "web1"), (2, "web1/shell"), (3, "web1/web1")].map(|(n, name)| server.vm(n, name));
    let gateway = Gateway::with(&[&format!("web1={}", server.socket.display())]);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 3);
    let name_of = |path: &str| get(&gateway, &format!("/api/v1/consoles/{path}")).json()["name"].clone();
    for (path, name) in [
        ("web1%2fshell", "web1/shell"),
        ("web1%2Fweb1%2Fshell", "web1/shell"),
        ("web1%2Fshell?server=web1", "web1/shell"),
        ("web1%2Fweb1", "web1"),
        ("web1%2Fweb1?server=web1", "web1/web1"),
        ("web1%2Fweb1%2Fweb1", "web1/web1"),
        ("web1", "web1"),
    ] {
        assert_eq!(name_of(path), name, "{path}");
    }
    assert_eq!(get(&gateway, "/api/v1/consoles/web1/shell").status, 404);
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web1%2Fshell/socket", "vspc.v1");
    assert_eq!(socket.notice("attached")["console"]["name"], "web1/shell");
    let send = |text: &str| {
        let body = json!({"text": text}).to_string();
        ask(&gateway, "POST", "/api/v1/consoles/web1%2Fshell/send", &[], &body).json()
    };
    assert_eq!(send("typed"), json!({"sent": 5}));
    vms[1].expect(b"typed");
    vms[1].print(b"printed");
    socket.expect(b"printed");
    let clients = get(&gateway, "/api/v1/consoles/web1%2Fshell/clients").json();
    assert_eq!(clients["clients"].as_array().unwrap().len(), 1);
    assert_eq!(get(&gateway, "/api/v1/consoles/web1%2Fshell/log").json()["code"], "unsupported");
}

#[test]
fn changes_begin_with_what_there_is_and_go_on_where_a_reader_was_cut_off() {
    let server = Server::start("changes", &[]);
    let vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/readyz", |ready| ready["ready"] == true);
    let mut events = Events::of(&gateway, "/api/v1/changes", &[]);
    assert_eq!(events.next().0, "snapshot");
    assert_eq!(events.next_of("console").0["name"], "web1");
    let id = events.next_of("synced").1.unwrap();
    drop(vm);
    assert_eq!(events.next_of("console").0["state"], "waiting");
    drop(events);
    let _vm = server.vm(2, "web2");
    let mut events = Events::of(&gateway, "/api/v1/changes", &[("last-event-id", &id)]);
    let (kind, console, _) = events.next();
    // No snapshot: only what is new.
    assert_eq!((kind.as_str(), &console["state"]), ("console", &json!("waiting")));
    while events.next_of("console").0["name"] != "web2" {}
    let mut events = Events::of(&gateway, "/api/v1/changes", &[("last-event-id", "other-5")]);
    assert_eq!(events.next().0, "snapshot");
}

#[test]
fn counts_are_told_while_somebody_looks() {
    let server = Server::start("counts", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    let mut events = Events::of(&gateway, "/api/v1/changes", &[]);
    events.next_of("synced");
    vm.print(b"twelve bytes");
    assert_eq!(events.next_of("count").0["counts"][0]["out"], 12);
}

#[test]
fn the_last_line_is_told_to_who_asks_for_it() {
    let server = Server::start("last", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut plain = Events::of(&gateway, "/api/v1/changes", &[]);
    plain.next_of("synced");
    let mut events = Events::of(&gateway, "/api/v1/changes?with=last_line", &[]);
    events.next_of("synced");
    vm.print(b"boot\r\n\x1b[1mlogin:\x1b[0m ");
    while events.next_of("count").0["counts"][0]["last_line"] != "login:" {}
    let count = plain.next_of("count").0;
    assert!(count["counts"][0].get("last_line").is_none(), "{count}");
    let list = get(&gateway, "/api/v1/consoles?with=other,last_line").json();
    assert_eq!(list["consoles"][0]["last_line"], "login:");
    assert!(get(&gateway, "/api/v1/consoles").json()["consoles"][0].get("last_line").is_none());
    assert_eq!(get(&gateway, "/api/v1/consoles/web1?with=last_line").json()["last_line"], "login:");
    assert!(get(&gateway, "/api/v1/consoles/web1").json().get("last_line").is_none());
}

#[test]
fn a_list_that_nobody_has_looked_at_is_as_of_now() {
    let server = Server::start("now", &[]);
    let mut vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles/web1", |console| console["name"] == "web1");
    vm.print(b"login: ");
    until(&gateway, "/api/v1/consoles/web1", |console| console["out"] == 7);
    let list = get(&gateway, "/api/v1/consoles?with=last_line").json();
    let console = &list["consoles"][0];
    assert_eq!((&console["out"], &console["last_line"]), (&json!(7), &json!("login:")));
}

#[test]
fn a_server_that_is_away_is_said_to_be_and_is_found_again() {
    let server = Server::start("away", &[]);
    let _vm = server.vm(1, "web1");
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    assert_eq!(get(&gateway, "/healthz").status, 200);
    drop(server);
    until(&gateway, "/api/v1/servers", |list| list["servers"][0]["state"] == "down");
    assert_eq!(get(&gateway, "/healthz").status, 200);
    assert_eq!(get(&gateway, "/readyz").status, 503);
    // What was known of it stays.
    assert_eq!(get(&gateway, "/api/v1/consoles").json()["consoles"][0]["name"], "web1");
    let answer = get(&gateway, "/api/v1/consoles/web1");
    assert_eq!((answer.status, &answer.json()["code"]), (502, &json!("not-connected")));
    let server = Server::start("away", &[]);
    let _vm = server.vm(2, "web2");
    until(&gateway, "/api/v1/consoles", |list| {
        list["consoles"].as_array().is_some_and(|all| all.len() == 1 && all[0]["name"] == "web2")
    });
    assert_eq!(get(&gateway, "/readyz").status, 200);
}

#[test]
fn consoles_of_several_servers_are_told_apart() {
    let (east, west) = (Server::start("east", &[]), Server::start("west", &[]));
    let _vms = (east.vm(1, "web1"), west.vm(2, "web1"));
    let gateway = Gateway::with(&[
        &format!("east={}", east.socket.display()),
        &format!("west={}", west.socket.display()),
    ]);
    until(&gateway, "/api/v1/consoles", |list| list["consoles"].as_array().unwrap().len() == 2);
    let both = get(&gateway, "/api/v1/consoles/web1");
    assert_eq!((both.status, &both.json()["code"]), (409, &json!("ambiguous")));
    assert_eq!(both.json()["candidates"].as_array().unwrap().len(), 2);
    for path in ["/api/v1/consoles/web1?server=west", "/api/v1/consoles/west%2Fweb1"] {
        assert_eq!(get(&gateway, path).json()["server"], "west", "{path}");
    }
}

#[test]
fn the_page_is_there_or_its_absence_is_said_and_it_is_asked_for_again() {
    let gateway = Gateway::with(&["none=/nonexistent/vspc.sock"]);
    let page = get(&gateway, "/");
    if page.status == 404 {
        assert_eq!(page.json()["code"], "no-such-page");
        gateway.process.line_with("this build has no page (npm ci && npm run build in web/page makes it)");
        assert_eq!(get(&gateway, "/healthz").status, 200);
        return;
    }
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    let again = ask(&gateway, "GET", "/", &[("if-none-match", page.header("etag").unwrap())], "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let script =
        page.body.split('"').find(|word| word.starts_with("assets/") && word.ends_with(".js")).unwrap();
    let script = get(&gateway, &format!("/{script}"));
    assert!(script.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
}

#[test]
fn a_server_that_lets_the_gateway_see_nothing_is_said_to() {
    let (_server, admin) = closed_server();
    let gateway = Gateway::with(&[&format!("lab={admin}")]);
    let list = until(&gateway, "/api/v1/servers", |list| list["servers"][0]["state"] == "down");
    let message = list["servers"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("no news of its consoles: "), "{message}");
    assert_eq!(get(&gateway, "/readyz").status, 503);
}
