//! Links that open one console for whoever has them.

use serde_json::{Value, json};

use crate::authority::Folder;
use crate::browser::{Answer, Frame, Socket, ask, until};
use crate::people::{Browser, basic, user};
use crate::processes::{Gateway, Server};

/// Two consoles, and a gateway whose users may share them.
struct Scene {
    server: Server,
    folder: Folder,
    gateway: Gateway,
}

impl Scene {
    fn new(name: &str) -> Self {
        let (server, folder) = (Server::start(name, &[]), Folder::new());
        folder.write("users", &Self::users());
        let gateway = Self::gateway(&server, &folder);
        Self { server, folder, gateway }
    }

    fn users() -> String {
        user("rob", "read", "r") + &user("wim", "write", "w") + &user("ada", "admin", "a")
    }

    fn gateway(server: &Server, folder: &Folder) -> Gateway {
        let (users, state) = (folder.path("users"), folder.path("state"));
        let gateway = Gateway::with_users(server, &users, &["--state-dir", &state]);
        let of_wim = basic("wim", "w");
        // A view of one's own takes a moment.
        let list = ask(&gateway, "GET", "/api/v1/consoles", &[("authorization", &of_wim)], "").json();
        assert!(list["consoles"].is_array());
        gateway
    }

    fn make(&self, browser: &Browser<'_>, body: &Value) -> (Value, String) {
        let answer = browser.post("/api/v1/consoles/web1/shares", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        let share = answer.json();
        let word = share["url"].as_str().unwrap().strip_prefix("s/#/share/").unwrap().to_owned();
        (share, word)
    }

    fn open(&self, word: &str, console: &str) -> Result<Socket, String> {
        let speech = format!("vspc.v1, share.{word}");
        Socket::try_open(&self.gateway, &format!("/api/v1/consoles/{console}/socket"), &speech, &[])
    }

    fn ask(&self, word: &str, method: &str, path: &str) -> Answer {
        let bearer = format!("Bearer {word}");
        ask(
            &self.gateway,
            method,
            path,
            &[("authorization", &bearer)],
            if method == "POST" { "{}" } else { "" },
        )
    }
}

fn closes(socket: &mut Socket) {
    socket.closes(1008, "the link has expired, or was revoked");
}

#[test]
fn a_link_opens_its_console_without_a_login_and_nothing_else() {
    let scene = Scene::new("share");
    let mut vm = scene.server.vm(1, "web1");
    let _other = scene.server.vm(2, "web2");
    let wim = Browser::of(&scene.gateway, "wim", "w");
    assert_eq!(wim.get("/api/v1/me").json()["shares"], true);
    let (share, word) = scene.make(&wim, &json!({"rights": "spectator", "expires_in_s": 600}));
    let uuid = share["uuid"].as_str().unwrap();
    let mut watching = scene.open(&word, uuid).unwrap();
    assert_eq!(watching.notice("attached")["access"], "read");
    vm.print(b"login: ");
    watching.expect(b"login: ");
    watching.say(&json!({"op": "lock", "mode": "write"}));
    assert_eq!(watching.notice("error")["code"], "not-allowed");
    let me = scene.ask(&word, "GET", "/api/v1/me").json();
    assert_eq!((&me["share"]["console"], &me["shares"]), (&json!("web1"), &json!(false)));
    assert_eq!(scene.ask(&word, "GET", &format!("/api/v1/consoles/{uuid}")).json()["name"], "web1");
    let list = scene.ask(&word, "GET", "/api/v1/consoles").json();
    assert_eq!(list["consoles"].as_array().unwrap().len(), 1);
    // For another console, the link is none.
    let mut refused = scene.open(&word, "web2").unwrap();
    assert_eq!(refused.notice("error")["code"], "no-such-console");
    assert_eq!(scene.ask(&word, "GET", "/api/v1/consoles/web2").status, 404);
    for (method, path) in [
        ("GET", "/api/v1/changes"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/servers"),
        ("GET", "/api/v1/stats"),
        ("GET", "/api/v1/shares"),
        ("GET", "/api/v1/consoles/web1/log"),
        ("GET", "/api/v1/consoles/web1/clients"),
        ("POST", "/api/v1/consoles/web1/send"),
        ("POST", "/api/v1/consoles/web1/bump"),
        ("POST", "/api/v1/consoles/web1/shares"),
    ] {
        assert_eq!(scene.ask(&word, method, path).status, 403, "{method} {path}");
    }
    let who = wim.get("/api/v1/consoles/web1/clients").json();
    let name = who["clients"][0]["who"].as_str().unwrap();
    let id = share["id"].as_str().unwrap();
    assert!(name.starts_with(&format!("wim@127.0.0.1, by share {id} (via ")), "{name}");
    scene
        .gateway
        .process
        .line_with(&format!("user=\"wim\" share={id} from=127.0.0.1 server=\"lab\" console=\"web1\": read"));
}

#[test]
fn a_console_whose_name_has_a_slash_is_shared_as_any_other() {
    let scene = Scene::new("slash");
    let (_vm, mut shell) = (scene.server.vm(1, "web1"), scene.server.vm(2, "web1/shell"));
    let wim = Browser::of(&scene.gateway, "wim", "w");
    let path = "/api/v1/consoles/web1%2Fshell/shares";
    let share = wim.post(path, &json!({"rights": "spectator", "expires_in_s": 600}).to_string()).json();
    assert_eq!(share["console"], "web1/shell");
    assert_eq!(wim.get(path).json()["shares"][0]["id"], share["id"]);
    let word = share["url"].as_str().unwrap().strip_prefix("s/#/share/").unwrap();
    for name in [share["uuid"].as_str().unwrap(), "web1%2Fshell"] {
        let mut socket = scene.open(word, name).unwrap();
        assert_eq!(socket.notice("attached")["console"]["name"], "web1/shell");
        shell.print(b"$ ");
        while socket.next() != Frame::Bytes(b"$ ".to_vec()) {}
    }
    let mut refused = scene.open(word, "web1").unwrap();
    assert_eq!(refused.notice("error")["code"], "no-such-console");
}

#[test]
fn where_links_lead_nothing_but_a_link_counts() {
    let scene = Scene::new("place");
    let _vm = scene.server.vm(1, "web1");
    let wim = Browser::of(&scene.gateway, "wim", "w");
    let (share, word) = scene.make(&wim, &json!({"rights": "spectator", "expires_in_s": 600}));
    let console = format!("/s/api/v1/consoles/{}", share["uuid"].as_str().unwrap());
    assert_eq!(scene.ask(&word, "GET", "/s/api/v1/me").json()["share"]["console"], "web1");
    assert_eq!(scene.ask(&word, "GET", &console).json()["name"], "web1");
    // A browser that knows a password sends it along.
    let (of_ada, speech) = (basic("ada", "a"), format!("vspc.v1, share.{word}"));
    let known = [("authorization", of_ada.as_str())];
    let mut socket = Socket::try_open(&scene.gateway, &format!("{console}/socket"), &speech, &known).unwrap();
    assert_eq!(socket.notice("attached")["access"], "read");
    let logged_in = [("cookie", wim.cookie.as_str()), ("x-csrf-token", wim.token.as_str())];
    for headers in [&[][..], &known, &logged_in] {
        for path in
            ["/s/api/v1/me", "/s/api/v1/consoles", "/s/metrics", "/s/healthz", "/s/api/v1/openapi.json"]
        {
            let answer = ask(&scene.gateway, "GET", path, headers, "");
            assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("not-known")), "{path}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
        assert!(Socket::try_open(&scene.gateway, &format!("{console}/socket"), "vspc.v1", headers).is_err());
    }
    let login = json!({"user": "ada", "password": "a"}).to_string();
    assert_eq!(ask(&scene.gateway, "POST", "/s/api/v1/login", &[], &login).status, 401);
    assert_eq!(ask(&scene.gateway, "POST", "/s/api/v1/logout", &logged_in, "{}").status, 401);
    assert_eq!(wim.get("/api/v1/me").status, 200);
    let page = ["/", "/s/"].map(|path| ask(&scene.gateway, "GET", path, &[], "").status);
    assert_eq!(page[0], page[1]);
    // Whom a proxy has asked before is not known to us, and the place is not for all.
    let open = Gateway::of(&scene.server);
    for path in ["/s/", "/s/api/v1/consoles", "/s/api/v1/me"] {
        assert_eq!(ask(&open, "GET", path, &[], "").status, 404, "{path}");
    }
}

#[test]
fn a_link_to_write_types_and_one_that_was_altered_opens_nothing() {
    let scene = Scene::new("written");
    let mut vm = scene.server.vm(1, "web1");
    let wim = Browser::of(&scene.gateway, "wim", "w");
    let (_, word) = scene.make(&wim, &json!({"rights": "writer", "expires_in_s": 600}));
    let (share, other) = scene.make(&wim, &json!({"rights": "spectator", "expires_in_s": 600}));
    let mut socket = scene.open(&word, "web1").unwrap();
    assert_eq!(socket.notice("attached")["access"], "write");
    socket.send(2, b"typed");
    vm.expect(b"typed");
    let code = word.split_once('.').unwrap().1;
    let swapped = format!("{}.{code}", share["id"].as_str().unwrap());
    let cut = &other[..other.len() - 1];
    for wrong in [swapped.as_str(), cut, ".", "x.y"] {
        let answer = scene.ask(wrong, "GET", "/api/v1/me");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("share-ended")), "{wrong}");
        assert!(scene.open(wrong, "web1").err().unwrap().starts_with("HTTP/1.1 401"), "{wrong}");
    }
}

#[test]
fn what_is_open_by_a_link_ends_when_that_expires_or_is_revoked_or_its_maker_goes() {
    let scene = Scene::new("ended");
    let _vm = scene.server.vm(1, "web1");
    let (wim, ada) = (Browser::of(&scene.gateway, "wim", "w"), Browser::of(&scene.gateway, "ada", "a"));
    let open = |word: &str| {
        let mut socket = scene.open(word, "web1").unwrap();
        socket.notice("attached");
        socket
    };
    let long = json!({"rights": "spectator", "expires_in_s": 600});
    let (_, short) = scene.make(&wim, &json!({"rights": "spectator", "expires_in_s": 2}));
    let (share, revoked) = scene.make(&wim, &long);
    let (_, of_wim) = scene.make(&wim, &long);
    let (_, of_ada) = scene.make(&ada, &long);
    let mut sockets = [&short, &revoked, &of_wim, &of_ada].map(|word| open(word));
    closes(&mut sockets[0]);
    assert!(scene.open(&short, "web1").is_err());
    let revoke = format!("/api/v1/shares/{}/revoke", share["id"].as_str().unwrap());
    assert_eq!(wim.post(&revoke, "{}").status, 200);
    closes(&mut sockets[1]);
    assert_eq!(scene.ask(&revoked, "GET", "/api/v1/me").status, 401);
    assert_eq!(wim.post(&revoke, "{}").status, 404);
    scene.folder.write("users", &(user("wim", "read", "w") + &user("ada", "admin", "a")));
    scene.gateway.hang_up();
    closes(&mut sockets[2]);
    assert_eq!(scene.ask(&of_wim, "GET", "/api/v1/me").status, 401);
    assert_eq!(scene.ask(&of_ada, "GET", "/api/v1/me").status, 200);
}

#[test]
fn who_may_type_shares_and_revokes_his_own_and_an_admin_all_also_after_a_restart() {
    let scene = Scene::new("owned");
    let _vm = scene.server.vm(1, "web1");
    let [rob, wim, ada] = [("rob", "r"), ("wim", "w"), ("ada", "a")]
        .map(|(name, password)| Browser::of(&scene.gateway, name, password));
    let body = json!({"rights": "spectator", "expires_in_s": 600});
    assert_eq!(rob.get("/api/v1/me").json()["shares"], false);
    assert_eq!(rob.post("/api/v1/consoles/web1/shares", &body.to_string()).status, 403);
    for wrong in [
        json!({"rights": "operator", "expires_in_s": 600}),
        json!({"rights": "spectator"}),
        json!({"rights": "spectator", "expires_in_s": 31 * 86_400}),
        json!({"rights": "spectator", "expires_in_s": 0}),
    ] {
        assert_eq!(wim.post("/api/v1/consoles/web1/shares", &wrong.to_string()).status, 400, "{wrong}");
    }
    let (of_ada, _) = scene.make(&ada, &body);
    let (of_wim, word) = scene.make(&wim, &body);
    let ids = |answer: Answer| -> Vec<Value> {
        answer.json()["shares"].as_array().unwrap().iter().map(|share| share["id"].clone()).collect()
    };
    assert_eq!(ids(wim.get("/api/v1/consoles/web1/shares")), [of_wim["id"].clone()]);
    assert_eq!(ids(ada.get("/api/v1/shares")).len(), 2);
    assert!(wim.get("/api/v1/shares").json()["shares"][0]["url"].is_null(), "a link is told once");
    let revoke = |share: &Value| format!("/api/v1/shares/{}/revoke", share["id"].as_str().unwrap());
    assert_eq!(wim.post(&revoke(&of_ada), "{}").status, 404);
    let Scene { server, folder, gateway } = scene;
    drop(gateway);
    let gateway = Scene::gateway(&server, &folder);
    let scene = Scene { server, folder, gateway };
    assert_eq!(scene.ask(&word, "GET", "/api/v1/me").status, 200);
    let ada = Browser::of(&scene.gateway, "ada", "a");
    assert_eq!(ada.post(&revoke(&of_wim), "{}").status, 200);
    assert_eq!(scene.ask(&word, "GET", "/api/v1/me").status, 401);
    scene.gateway.process.line_with("revoked");
}

#[test]
fn a_uuid_that_two_vms_have_is_shared_with_nobody() {
    let scene = Scene::new("copies");
    let mut vm = scene.server.vm(1, "web1");
    let wim = Browser::of(&scene.gateway, "wim", "w");
    let body = json!({"rights": "spectator", "expires_in_s": 600});
    let (share, word) = scene.make(&wim, &body);
    let mut watching = scene.open(&word, share["uuid"].as_str().unwrap()).unwrap();
    watching.notice("attached");
    let mut copy = scene.server.vm(1, "copy");
    let is_empty = |list: &Value| list["consoles"].as_array().is_some_and(Vec::is_empty);
    let bearer = format!("Bearer {word}");
    let deadline = std::time::Instant::now() + crate::processes::PATIENCE;
    while !is_empty(&ask(&scene.gateway, "GET", "/api/v1/consoles", &[("authorization", &bearer)], "").json())
    {
        // Both live: neither is the other, renamed.
        vm.print(b"1");
        copy.print(b"2");
        assert!(std::time::Instant::now() < deadline, "the copy is not there");
    }
    // What was open has ended, and neither of the two is there, whatever it is called.
    watching.closes(1008, "the console is not to be told from another VM's any more");
    let all = wim.get("/api/v1/consoles").json();
    let ids = all["consoles"].as_array().unwrap().iter().map(|console| console["id"].as_str().unwrap());
    for name in ids.chain(["web1", "copy", share["uuid"].as_str().unwrap()]) {
        let mut refused = scene.open(&word, name).unwrap();
        assert_eq!(refused.notice("error")["code"], "no-such-console", "{name}");
        assert_eq!(scene.ask(&word, "GET", &format!("/api/v1/consoles/{name}")).status, 404, "{name}");
    }
    let answer = wim.post("/api/v1/consoles/web1/shares", &body.to_string());
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("ambiguous")));
}

#[test]
fn without_a_folder_or_without_people_there_are_no_shares() {
    let server = Server::start("shareless", &[]);
    let _vm = server.vm(1, "web1");
    let folder = Folder::new();
    let gateway = Gateway::with_users(&server, &folder.write("users", &Scene::users()), &[]);
    let wim = Browser::of(&gateway, "wim", "w");
    assert_eq!(wim.get("/api/v1/me").json()["shares"], false);
    let body = "{\"rights\":\"spectator\",\"expires_in_s\":600}";
    assert_eq!(wim.post("/api/v1/consoles/web1/shares", body).status, 501);
    let open = Gateway::of(&server);
    until(&open, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    assert_eq!(ask(&open, "POST", "/api/v1/consoles/web1/shares", &[], body).status, 501);
}
