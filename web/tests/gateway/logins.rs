//! Who is let in, by what, and as whom.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetattr;
use serde_json::json;

use crate::authority::{Authority, Folder};
use crate::browser::{Events, Socket, ask, get, until};
use crate::people::{Browser, basic, log_in, user};
use crate::processes::{Gateway, PATIENCE, Server, closed_server, server_with};

const SOCKET: &str = "/api/v1/consoles/web1/socket";

#[test]
fn what_passwd_prints_lets_its_user_in_until_he_logs_out() {
    let server = Server::start("passwd", &[]);
    let folder = Folder::new();
    let mut made = Command::new(env!("CARGO_BIN_EXE_vspc-web"))
        .args(["passwd", "ann", "--role", "admin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    made.stdin.take().unwrap().write_all(b"correct horse\n").unwrap();
    let line = String::from_utf8(made.wait_with_output().unwrap().stdout).unwrap();
    let gateway = Gateway::with_users(&server, &folder.write("users", &line), &[]);
    // The page is for everybody, what it shows is not.
    assert_ne!(get(&gateway, "/").status, 401);
    for path in ["/api/v1/me", "/api/v1/consoles", "/api/v1/nothing", "/console_log/x"] {
        let answer = get(&gateway, path);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("login-needed")), "{path}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic"), "{path}");
    }
    // A browser would ask in a window of its own.
    let own = [("sec-fetch-site", "same-origin")];
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &own, "").header("www-authenticate"), None);
    for (name, password) in [("ann", "wrong"), ("eve", "correct horse"), ("ann", "")] {
        assert_eq!(log_in(&gateway, name, password, &[]).status, 401);
    }
    let browser = Browser::of(&gateway, "ann", "correct horse");
    let me = browser.get("/api/v1/me").json();
    assert_eq!(
        (&me["role"], &me["rights"], &me["session"]),
        (&json!("admin"), &json!("operator"), &json!(true))
    );
    assert_eq!(browser.post("/api/v1/logout", "{}").status, 200);
    assert_eq!(browser.get("/api/v1/me").status, 401);
}

/// What `passwd` says, prints and shows where this is typed at a terminal, and how it ends.
fn at_a_terminal(typed: [&str; 2]) -> (String, String, bool) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap();
    let other_end = OpenOptions::new().read(true).write(true).open(path.to_str().unwrap()).unwrap();
    let found = tcgetattr(&other_end).unwrap();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_vspc-web"))
        .args(["passwd", "ann"])
        .stdin(other_end.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = File::from(terminal);
    let mut said = asked.stderr.take().unwrap();
    for (prompt, words) in ["Password for ann: ", "Again: "].into_iter().zip(typed) {
        let mut seen = Vec::new();
        while !seen.ends_with(prompt.as_bytes()) {
            let mut byte = [0];
            said.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        terminal.write_all(words.as_bytes()).unwrap();
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let made = String::from_utf8(asked.wait_with_output().unwrap().stdout).unwrap();
    let left = tcgetattr(&other_end).unwrap();
    // What the terminal shows; the mark is there so that reading ends.
    let mut other_end = other_end;
    other_end.write_all(b"mark").unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"mark") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        shown.push(byte[0]);
    }
    assert_eq!(shown, b"mark", "{}", String::from_utf8_lossy(&shown));
    (made, rest, left.local_modes == found.local_modes)
}

#[test]
fn a_terminal_asks_twice_shows_nothing_and_is_left_as_it_was() {
    let (made, _, is_as_before) = at_a_terminal(["secret\r", "secret\r"]);
    assert!(made.starts_with("ann:read:$argon2id$") && is_as_before, "{made}");
    let (made, said, is_as_before) = at_a_terminal(["secret\r", "sacred\r"]);
    assert!(made.is_empty() && said.contains("not the same") && is_as_before, "{said}");
    let (made, said, is_as_before) = at_a_terminal(["secret\r", "sec\u{3}"]);
    assert!(made.is_empty() && said.contains("given up") && is_as_before, "{said}");
}

#[test]
fn a_role_bounds_what_is_done_and_the_concentrator_knows_who_does_it() {
    let server = Server::start("roles", &[]);
    let mut vm = server.vm(1, "web1");
    let folder = Folder::new();
    let users = user("rob", "read", "r") + &user("wim", "write", "w") + &user("ada", "admin", "a");
    let gateway = Gateway::with_users(&server, &folder.write("users", &users), &[]);
    let [rob, wim, ada] = [("rob", "r"), ("wim", "w"), ("ada", "a")]
        .map(|(name, password)| Browser::of(&gateway, name, password));
    let consoles = rob.get("/api/v1/consoles").json();
    assert_eq!(consoles["consoles"][0]["name"], "web1");
    let at = |what: &str| format!("/api/v1/consoles/web1/{what}");
    for (browser, what, body, status) in [
        (&rob, "send", "{\"text\":\"x\"}", 403),
        (&rob, "break", "{}", 403),
        (&rob, "lock", "{\"mode\":\"write\"}", 403),
        (&rob, "bump", "{}", 403),
        (&wim, "bump", "{}", 403),
        (&wim, "send", "{\"text\":\"typed\"}", 200),
        (&ada, "bump", "{}", 200),
    ] {
        let answer = browser.post(&at(what), body);
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        if status == 403 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["code"], "not-allowed");
        }
    }
    vm.expect(b"typed");
    let mut refused =
        Socket::try_open(&gateway, &format!("{SOCKET}?lock=write"), "vspc.v1", &[("cookie", &rob.cookie)])
            .unwrap();
    assert_eq!(refused.notice("error")["code"], "not-allowed");
    let mut watching = Socket::try_open(&gateway, SOCKET, "vspc.v1", &[("cookie", &rob.cookie)]).unwrap();
    assert_eq!(watching.notice("attached")["access"], "read");
    watching.send(2, b"not typed");
    let who = ada.get("/api/v1/consoles/web1/clients").json();
    let name = who["clients"][0]["who"].as_str().unwrap();
    assert!(name.starts_with("rob@127.0.0.1 (via "), "{name}");
    let at = "from=127.0.0.1 server=\"lab\" console=\"web1\"";
    gateway.process.line_with(&format!("POST \"/api/v1/consoles/web1/bump\" user=\"ada\" {at}: 200"));
}

#[test]
fn programs_say_who_they_are_with_each_request_and_whoever_guesses_has_to_wait() {
    let server = Server::start("basic", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let users = folder.write("users", &(user("ann", "write", "secret") + &user("bob", "read", "other")));
    let gateway = Gateway::with_users(&server, &users, &["--trusted-proxy", "127.0.0.1"]);
    let ask_as = |name: &str, password: &str, from: &str| {
        let headers = [("authorization", &*basic(name, password)), ("x-forwarded-for", from)];
        ask(&gateway, "GET", "/api/v1/consoles", &headers, "")
    };
    assert_eq!(ask_as("ann", "secret", "192.0.2.1").json()["consoles"][0]["name"], "web1");
    let post = [("authorization", &*basic("ann", "secret"))];
    assert_eq!(ask(&gateway, "POST", "/api/v1/consoles/web1/send", &post, "{\"text\":\"x\"}").status, 200);
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("authorization", "Bearer x")], "").status, 401);
    let limited = (0..100).map(|_| ask_as("bob", "guess", "192.0.2.66")).find(|answer| answer.status != 401);
    let limited = limited.expect("it may guess for ever");
    assert_eq!((limited.status, limited.json()["code"].as_str()), (429, Some("too-many")));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    // Nor is the right one taken from there, and others are let in.
    assert_eq!(ask_as("bob", "other", "192.0.2.66").status, 429);
    assert_eq!(log_in(&gateway, "bob", "other", &[("x-forwarded-for", "192.0.2.66")]).status, 429);
    assert_eq!(ask_as("bob", "other", "192.0.2.2").status, 200);
    assert_eq!(ask_as("ann", "secret", "192.0.2.1").status, 200);
    gateway.process.line_with("basic user=\"bob\" from=192.0.2.66: refused: too many attempts");
}

#[test]
fn a_flood_of_logins_is_answered_and_keeps_nobody_else_out() {
    let server = Server::start("flood", &[]);
    let folder = Folder::new();
    let users = folder.write("users", &(user("ann", "read", "a") + &user("bob", "read", "b")));
    let gateway = Gateway::with_users(&server, &users, &["--trusted-proxy", "127.0.0.1"]);
    let bob = Browser::of(&gateway, "bob", "b");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guess = |n: usize| {
            let from = format!("192.0.2.{n}");
            log_in(&gateway, if n < 100 { "ann" } else { "eve" }, "guess", &[("x-forwarded-for", &from)])
                .status
        };
        let all: Vec<_> = (0..200).map(|n| scope.spawn(move || guess(n))).collect();
        let here = bob.get("/api/v1/consoles").status;
        all.into_iter().map(|one| one.join().unwrap()).chain([here]).collect()
    });
    assert!(statuses[..200].iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    assert!(statuses[..200].contains(&429) && statuses[200] == 200, "{statuses:?}");
    // Another name is let in at once, and so is one that was guessed, from where its owner has been before.
    assert_eq!(log_in(&gateway, "bob", "b", &[("x-forwarded-for", "192.0.2.250")]).status, 200);
}

#[test]
fn a_login_begins_a_session_of_its_own_whatever_cookie_was_planted() {
    let server = Server::start("fixation", &[]);
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "read", "a")), &[]);
    let planted = "vspc-session=0000000000000000000000000000000000000000000000000000000000000000";
    let answer = log_in(&gateway, "ann", "a", &[("cookie", planted)]);
    let cookie = answer.header("set-cookie").unwrap().to_owned();
    assert!(!cookie.starts_with(planted));
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/"));
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("cookie", planted)], "").status, 401);
    let own = cookie.split(';').next().unwrap();
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("cookie", own)], "").status, 200);
    // A second cookie of that name may be somebody else's.
    let both = format!("{own}; {planted}");
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("cookie", &both)], "").status, 401);
    // Who logs in again has left the session from before.
    assert_eq!(log_in(&gateway, "ann", "a", &[("cookie", own)]).status, 200);
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("cookie", own)], "").status, 401);
}

#[test]
fn another_site_does_nothing_with_somebodys_session() {
    let server = Server::start("forged", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "admin", "a")), &[]);
    let ann = Browser::of(&gateway, "ann", "a");
    let (bump, own) = ("/api/v1/consoles/web1/bump", format!("http://{}", gateway.address));
    let (cookie, token) = (("cookie", &*ann.cookie), ("x-csrf-token", &*ann.token));
    let evil = ("origin", "https://evil.example");
    for headers in [
        &[cookie][..],
        &[cookie, ("origin", &own)],
        &[cookie, token, evil],
        &[cookie, token, ("sec-fetch-site", "cross-site")],
        &[cookie, ("x-csrf-token", "0123456789abcdef0123456789abcdef")],
    ] {
        assert_eq!(ask(&gateway, "POST", bump, headers, "{}").status, 403, "{headers:?}");
    }
    assert_eq!(ask(&gateway, "POST", "/api/v1/logout", &[cookie], "{}").status, 403);
    assert_eq!(ask(&gateway, "POST", "/api/v1/login", &[evil], "{}").status, 403);
    let refused = Socket::try_open(&gateway, SOCKET, "vspc.v1", &[cookie, evil]);
    assert!(refused.err().unwrap().starts_with("HTTP/1.1 403"));
    assert!(Socket::try_open(&gateway, SOCKET, "vspc.v1", &[]).err().unwrap().starts_with("HTTP/1.1 401"));
    let elsewhere = [cookie, ("host", "evil.example")];
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &elsewhere, "").status, 421);
    assert_eq!(ann.post(bump, "{}").status, 200);
    // Another's token is none of this one's.
    let other = Browser::of(&gateway, "ann", "a");
    assert_ne!(other.token, ann.token);
}

/// Waits until the concentrator knows of nobody else at the console: a lock is refused where others type.
fn alone(browser: &Browser<'_>) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let who = browser.get("/api/v1/consoles/web1/clients").json();
        if who["clients"].as_array().is_some_and(|all| all.len() == 1) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{who}");
    }
}

#[test]
fn whose_line_changes_is_gone_at_once_and_a_damaged_file_changes_nothing() {
    let server = Server::start("swapped", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let (ann, bob) = (user("ann", "write", "a"), user("bob", "write", "b"));
    let gateway = Gateway::with_users(&server, &folder.write("users", &format!("{ann}{bob}")), &[]);
    let (ann_here, bob_here) = (Browser::of(&gateway, "ann", "a"), Browser::of(&gateway, "bob", "b"));
    let open = |browser: &Browser<'_>| {
        let mut socket =
            Socket::try_open(&gateway, SOCKET, "vspc.v1", &[("cookie", &browser.cookie)]).unwrap();
        socket.notice("attached");
        socket
    };
    let (mut of_ann, mut of_bob) = (open(&ann_here), open(&bob_here));
    let mut changes = Events::of(&gateway, "/api/v1/changes", &[("cookie", &ann_here.cookie)]);
    changes.next_of("synced");
    folder.write("users", &format!("{bob}ann:nobody:*\n"));
    gateway.hang_up();
    gateway.process.line_with("line 2");
    assert_eq!(ann_here.get("/api/v1/me").status, 200);
    folder.write("users", &(bob + &user("ann", "read", "a")));
    gateway.hang_up();
    of_ann.closes(1008, "the session has ended: log in again");
    changes.ends();
    assert_eq!(ann_here.get("/api/v1/me").status, 401);
    assert_eq!(Browser::of(&gateway, "ann", "a").get("/api/v1/me").json()["role"], "read");
    alone(&bob_here);
    of_bob.say(&json!({"op": "lock", "mode": "write"}));
    while of_bob.notice("access")["lock"] != "write" {}
}

#[test]
fn a_session_ends_with_the_logout_and_what_was_open_with_it() {
    let server = Server::start("logout", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "write", "a")), &[]);
    let (here, there) = (Browser::of(&gateway, "ann", "a"), Browser::of(&gateway, "ann", "a"));
    let mut sockets = [&here, &there].map(|browser| {
        let mut socket =
            Socket::try_open(&gateway, SOCKET, "vspc.v1", &[("cookie", &browser.cookie)]).unwrap();
        socket.notice("attached");
        socket
    });
    assert_eq!(here.post("/api/v1/logout", "{}").status, 200);
    sockets[0].closes(1008, "the session has ended: log in again");
    alone(&there);
    sockets[1].say(&json!({"op": "lock", "mode": "write"}));
    while sockets[1].notice("access")["lock"] != "write" {}
}

#[test]
fn who_comes_back_while_a_concentrator_is_down_sees_what_he_was_told_and_others_do_not() {
    let server = Server::start("back", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let users = ["ann", "bob", "cid"].map(|name| user(name, "read", name)).concat();
    let gateway = Gateway::with_users(&server, &folder.write("users", &users), &[]);
    let seen = |name: &str| {
        let list = Browser::of(&gateway, name, name).get("/api/v1/consoles").json();
        let names: Vec<_> = list["consoles"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        names
    };
    let ann = Browser::of(&gateway, "ann", "ann");
    assert_eq!(ann.get("/api/v1/consoles").json()["consoles"][0]["name"], "web1");
    assert_eq!(ann.post("/api/v1/logout", "{}").status, 200);
    // This one stays.
    let cid = Browser::of(&gateway, "cid", "cid");
    assert_eq!(cid.get("/api/v1/consoles").json()["consoles"][0]["name"], "web1");
    drop(server);
    gateway.process.line_with("no connection to lab");
    assert_eq!(seen("ann"), ["web1"]);
    assert_eq!(seen("cid"), ["web1"]);
    assert_eq!(seen("bob"), [] as [&str; 0], "nobody knows what he may know of");
    let server = Browser::of(&gateway, "ann", "ann").get("/api/v1/servers").json()["servers"][0].clone();
    assert_eq!((&server["state"], &server["consoles"]), (&json!("down"), &json!(1)));
    // In another role he may know of less.
    folder.write("users", &user("ann", "write", "ann"));
    gateway.hang_up();
    gateway.process.line_with("the users were read again");
    assert_eq!(seen("ann"), [] as [&str; 0]);
}

#[test]
fn under_tls_the_cookie_is_for_this_host_and_tls_alone() {
    let server = Server::start("cookie", &[]);
    let (folder, authority) = (Folder::new(), Authority::new());
    let (users, cert) =
        (folder.write("users", &user("ann", "read", "a")), folder.write("cert", &authority.server()));
    let lab = format!("lab={}", server.socket.display());
    let options = ["--server", &lab, "--users", &users, "--cert", &cert];
    let gateway = Gateway::start(&options, Some(authority.client()));
    let answer = log_in(&gateway, "ann", "a", &[]);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-vspc-session=") && cookie.ends_with("; Secure"), "{cookie}");
    let word = cookie.split(['=', ';']).nth(1).unwrap();
    let plain = format!("vspc-session={word}");
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[("cookie", &plain)], "").status, 401);
}

#[test]
fn a_certificate_says_who_somebody_is_and_the_file_or_an_option_what_he_may() {
    let server = Server::start("certified", &[]);
    let (folder, authority, other) = (Folder::new(), Authority::new(), Authority::new());
    let users = folder.write("users", "ann:admin:*\n");
    let cert = folder.write("cert", &authority.server());
    let ca = folder.write("ca", &authority.pem());
    let lab = format!("lab={}", server.socket.display());
    let options = ["--server", &lab, "--users", &users, "--cert", &cert, "--client-ca", &ca];
    let as_whom = |name| authority.client_as(&authority, name);
    let mut gateway = Gateway::start(&options, Some(as_whom("ann")));
    let me = get(&gateway, "/api/v1/me").json();
    assert_eq!((&me["user"], &me["role"], &me["session"]), (&json!("ann"), &json!("admin"), &json!(false)));
    gateway.tls = Some(as_whom("bob"));
    let refused = get(&gateway, "/api/v1/me");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("no-role")));
    gateway.tls = Some(authority.client());
    assert_eq!(get(&gateway, "/api/v1/me").status, 401);
    gateway.tls = Some(authority.client_as(&other, "ann"));
    let strange =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| get(&gateway, "/api/v1/me").status));
    assert!(strange.is_err(), "a certificate of another CA was taken");
    let gateway = Gateway::start(&[&options[..], &["--other-role", "read"]].concat(), Some(as_whom("bob")));
    let me = get(&gateway, "/api/v1/me").json();
    assert_eq!((&me["user"], &me["role"]), (&json!("bob"), &json!("read")));
}

#[test]
fn a_proxy_says_who_asks_and_nobody_else_does() {
    let server = Server::start("proxied", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let users = folder.write("users", "ann:admin:*\nbob:write:*\n");
    let proxied = |network| {
        Gateway::with_users(&server, &users, &["--proxy-user-header", "x-user", "--trusted-proxy", network])
    };
    let gateway = proxied("127.0.0.1");
    let me = |gateway: &Gateway, headers: &[(&str, &str)]| ask(gateway, "GET", "/api/v1/me", headers, "");
    assert_eq!(me(&gateway, &[("x-user", "ann")]).json()["role"], "admin");
    assert_eq!(me(&gateway, &[("X-USER", "bob")]).json()["role"], "write");
    assert_eq!(me(&gateway, &[("x-user", "eve")]).json()["code"], "no-role");
    for smuggled in [
        &[("x-user", "bob"), ("x-user", "ann")][..],
        &[("x-user", "bob"), ("X-User", "ann")],
        &[("x-user", "bob,ann")],
        &[("x-user", "ann\t")],
        &[("x_user", "ann")],
        &[("x-user ", "ann")],
        &[("x-user", "")],
        &[],
    ] {
        let answer = me(&gateway, smuggled);
        let is_ann = answer.status == 200 && answer.json()["user"] == "ann" && smuggled[0].0 != "x-user";
        assert!(!is_ann && (answer.status != 200 || smuggled == [("x-user", "ann\t")]), "{smuggled:?}");
    }
    // What is behind the proxy is as little for everybody as the rest.
    assert_eq!(ask(&gateway, "GET", "/metrics", &[("x-user", "eve")], "").status, 403);
    assert_eq!(ask(&gateway, "GET", "/metrics", &[("x-forwarded-for", "192.0.2.1")], "").status, 401);
    let from = [("x-user", "ann"), ("x-forwarded-for", "198.51.100.1, 192.0.2.7")];
    assert_eq!(ask(&gateway, "POST", "/api/v1/consoles/web1/bump", &from, "{}").status, 200);
    gateway.process.line_with("bump\" user=\"ann\" from=192.0.2.7 server=\"lab\" console=\"web1\": 200");
    let gateway = proxied("192.0.2.0/24");
    let refused = me(&gateway, &[("x-user", "ann")]);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("other-proxy")));
    gateway.process.line_with("is no proxy that is trusted: refused");
}

#[test]
fn a_concentrator_that_does_not_let_the_gateway_ask_for_others_is_said_to_be_the_reason() {
    let (_server, admin) = closed_server();
    let folder = Folder::new();
    let users = folder.write("users", &user("ann", "admin", "a"));
    let gateway = Gateway::with_options(&["--server", &format!("lab={admin}"), "--users", &users]);
    let ann = Browser::of(&gateway, "ann", "a");
    let servers = ann.get("/api/v1/servers").json();
    assert_eq!(servers["servers"][0]["state"], "down");
    let why = servers["servers"][0]["message"].as_str().unwrap();
    assert!(why.contains("delegate"), "{why}");
    gateway.process.line_with("no connection to lab for \"ann\"");
}

#[test]
fn a_gateway_that_can_show_nobody_anything_is_not_ready() {
    let folder = Folder::new();
    let users = folder.write("users", &user("ann", "admin", "a"));
    for (rights, is_ready) in [("operator", false), ("operator+delegate", true)] {
        let (_server, admin) = server_with(rights);
        let lab = format!("lab={admin}");
        let gateway = Gateway::with_options(&["--server", &lab, "--users", &users]);
        let ready = until(&gateway, "/readyz", |ready| {
            ready["ready"] == is_ready && ready["servers"][0]["version"].is_string()
        });
        let why = ready["servers"][0]["message"].as_str().unwrap();
        assert_eq!((why.contains("delegate"), get(&gateway, "/readyz").status == 200), (!is_ready, is_ready));
        // Where nobody is known, it is the gateway itself that sees the consoles.
        let gateway = Gateway::with_options(&["--server", &lab]);
        until(&gateway, "/readyz", |ready| ready["ready"] == true);
    }
}

#[test]
fn what_is_said_in_a_name_makes_no_line_of_its_own_in_the_log() {
    let server = Server::start("escaped", &[]);
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "read", "a")), &[]);
    let name = "eve\n[2026] login user=\"ann\": ok \u{1b}[31m";
    assert_eq!(log_in(&gateway, name, "x", &[]).status, 401);
    gateway
        .process
        .line_with(r#"user="eve\n[2026] login user=\"ann\": ok \u{1b}[31m" from=127.0.0.1: failed"#);
}

#[test]
fn what_is_said_in_the_name_of_a_vm_makes_no_line_of_its_own_in_the_log() {
    let server = Server::start("vm-names", &[]);
    let name = "web1\"\r\n[2026] login user=\"ann\": ok \u{1b}]0;x\u{7}\u{1b}[31m";
    let _vm = server.vm(1, name);
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "write", "a")), &[]);
    let ann = Browser::of(&gateway, "ann", "a");
    let deadline = std::time::Instant::now() + PATIENCE;
    let console = loop {
        let list = ann.get("/api/v1/consoles").json();
        if let Some(console) = list["consoles"].get(0).filter(|console| console["name"] != "") {
            break console.clone();
        }
        assert!(std::time::Instant::now() < deadline, "{list}");
    };
    let id = console["id"].as_str().unwrap();
    assert_eq!(ann.post(&format!("/api/v1/consoles/{id}/break"), "{}").status, 200);
    let line = gateway.process.line_with("/break\" user=\"ann\" ");
    assert!(line.ends_with(": 200") && !line.contains(char::is_control), "{line:?}");
    assert!(line.contains("console=\"web1\\\""), "{line:?}");
}

#[test]
fn probes_of_this_machine_need_no_login_and_nobody_elses_are_answered() {
    let server = Server::start("probes", &[]);
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("ann", "read", "a")), &[]);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(&gateway, path).status, 200, "{path}");
        for header in ["x-forwarded-for", "forwarded", "via", "x-real-ip"] {
            assert_eq!(ask(&gateway, "GET", path, &[(header, "192.0.2.1")], "").status, 401, "{path}");
        }
        assert_eq!(ask(&gateway, "GET", path, &[("authorization", &basic("ann", "a"))], "").status, 200);
    }
    // Which consoles there are is no probe's business.
    let named = "/metrics?with=consoles";
    assert_eq!(get(&gateway, named).status, 401);
    assert_eq!(ask(&gateway, "GET", named, &[("authorization", &basic("ann", "a"))], "").status, 200);
}

#[test]
fn what_is_abandoned_has_its_line_too() {
    let server = Server::start("abandoned", &[]);
    // It reads nothing of what is typed.
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("wim", "write", "w")), &[]);
    let of_wim = basic("wim", "w");
    let list = ask(&gateway, "GET", "/api/v1/consoles", &[("authorization", &of_wim)], "").json();
    assert_eq!(list["consoles"][0]["name"], "web1");
    let body = json!({"text": "x".repeat(900_000)}).to_string();
    let mut wire = gateway.connect();
    let head = format!(
        "POST /api/v1/consoles/web1/send HTTP/1.1\r\nhost: {}\r\nauthorization: {of_wim}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        gateway.address,
        body.len()
    );
    wire.write_all(head.as_bytes()).unwrap();
    wire.write_all(body.as_bytes()).unwrap();
    drop(wire);
    gateway
        .process
        .line_with("send\" user=\"wim\" from=127.0.0.1 server=\"lab\" console=\"web1\": abandoned");
}

#[test]
fn a_login_is_short() {
    let server = Server::start("short", &[]);
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &user("wim", "write", "w")), &[]);
    assert_eq!(log_in(&gateway, "wim", &"w".repeat(9000), &[]).status, 413);
    assert_eq!(log_in(&gateway, "wim", "w", &[]).status, 200);
}
