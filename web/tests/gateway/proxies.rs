//! The proxies' files of packaging/, with the proxies themselves where they are installed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::browser::{Events, Socket, ask};
use crate::processes::{Gateway, PATIENCE, Process, Server, Vm};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("vspc-web-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn put(&self, name: &str, text: &str) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program of this name; Debian has some where only root looks.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join(name)).find(|file| file.exists());
    if found.is_none() {
        assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "{name} has to be here");
        eprintln!("skipped: no {name}");
    }
    found
}

/// These programs take no port of the system's choosing.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Each of these has to be there, once.
fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (what, with)| {
        assert_eq!(text.matches(what).count(), 1, "{what}");
        text.replace(what, with)
    })
}

fn gateway_of(server: &Server, folder: &Folder) -> Gateway {
    let lab = format!("lab={}", server.socket.display());
    let state = folder.0.join("state").display().to_string();
    let known = ["--proxy-user-header", "X-User", "--trusted-proxy", "127.0.0.1", "--other-role", "write"];
    Gateway::with_options(&[&["--server", &lab, "--state-dir", &state], &known[..]].concat())
}

/// What `packaging/` promises of a proxy: it asks who is there and says so, streams, and asks nobody who has
/// a link.
fn is_kept(mut gateway: Gateway, server: &Server, command: &mut Command, at: SocketAddr) {
    let (mut vm, _shell) = (server.vm(1, "web1"), server.vm(2, "web1/shell"));
    let proxy = Process::start(command);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(at).is_err() {
        assert!(Instant::now() < deadline, "the proxy does not listen");
    }
    gateway.address = at;
    assert_eq!(ask(&gateway, "GET", "/api/v1/me", &[], "").status, 401);
    let ann = ("authorization", "Basic YW5uOnNlc2FtZQ==");
    for said in [&[ann][..], &[ann, ("x-user", "root")]] {
        assert_eq!(ask(&gateway, "GET", "/api/v1/me", said, "").json()["user"], "ann");
    }
    let mut events = Events::of(&gateway, "/api/v1/changes", &[ann]);
    while events.next_of("console").0["name"] != "web1" {}
    let path = "/api/v1/consoles/web1/socket";
    let mut socket = Socket::try_open(&gateway, path, "vspc.v1", &[ann]).unwrap();
    assert_eq!(socket.notice("attached")["access"], "write");
    socket.send(2, b"root\r");
    vm.expect(b"root\r");
    vm.print(b"Password: ");
    socket.expect(b"Password: ");
    // A slash in a name is no other path.
    let shell = "/api/v1/consoles/web1%2Fshell";
    assert_eq!(ask(&gateway, "GET", shell, &[ann], "").json()["name"], "web1/shell");
    let mut shell = Socket::try_open(&gateway, &format!("{shell}/socket"), "vspc.v1", &[ann]).unwrap();
    assert_eq!(shell.notice("attached")["console"]["name"], "web1/shell");
    let other = [ann, ("origin", "http://evil.example")];
    assert!(Socket::try_open(&gateway, path, "vspc.v1", &other).err().unwrap().contains(" 403 "));
    is_open_for_links_alone(&gateway, &mut vm);
    drop(proxy);
}

fn is_open_for_links_alone(gateway: &Gateway, vm: &mut Vm) {
    let ann = ("authorization", "Basic YW5uOnNlc2FtZQ==");
    let body = json!({"rights": "writer", "expires_in_s": 600}).to_string();
    let share = ask(gateway, "POST", "/api/v1/consoles/web1/shares", &[ann], &body).json();
    let word = share["url"].as_str().unwrap().strip_prefix("s/#/share/").unwrap().to_owned();
    let uuid = share["uuid"].as_str().unwrap();
    // The page, as far as this build has one.
    let page = ask(gateway, "GET", "/s/", &[], "");
    assert_eq!(page.status, ask(gateway, "GET", "/", &[ann], "").status);
    for part in page.body.split('"').filter(|part| part.starts_with("assets/")) {
        assert_eq!(ask(gateway, "GET", &format!("/s/{part}"), &[], "").status, 200, "{part}");
    }
    let link = ("authorization", &*format!("Bearer {word}"));
    assert_eq!(ask(gateway, "GET", "/s/api/v1/me", &[link], "").json()["share"]["console"], "web1");
    let socket = format!("/s/api/v1/consoles/{uuid}/socket?server=lab");
    let mut guest = Socket::try_open(gateway, &socket, &format!("vspc.v1, share.{word}"), &[]).unwrap();
    assert_eq!(guest.notice("attached")["access"], "write");
    guest.send(2, b"by a link");
    vm.expect(b"by a link");
    // Nobody else comes in there, whoever he says he is, and the link opens nothing where people are asked.
    let guess = ("authorization", "Basic YW5uOmd1ZXNz");
    for said in [&[][..], &[("x-user", "ann")], &[guess], &[ann]] {
        for path in
            ["/s/api/v1/me", "/s/api/v1/consoles", "/s/api/v1/consoles/web1", "/s/metrics", "/s/healthz"]
        {
            assert_eq!(ask(gateway, "GET", path, said, "").status, 401, "{path} {said:?}");
        }
        assert!(Socket::try_open(gateway, &socket, "vspc.v1", said).is_err());
    }
    // However it is written that something else is asked for.
    for path in [
        "/s/../api/v1/me",
        "/s/%2e%2e/api/v1/me",
        "/s%2f..%2fapi/v1/me",
        "/s/..%2fapi/v1/me",
        "//s/../api/v1/me",
        "/api/v1/me?/s/",
        "/S/../api/v1/me",
        "/api/v1/consoles/../../../s/",
        "/api/v1/me/%2e%2e/%2e%2e/%2e%2e/s/",
    ] {
        for said in [&[][..], &[("x-user", "ann")], &[guess], &[link]] {
            let status = ask(gateway, "GET", path, said, "").status;
            assert!(matches!(status, 400 | 401 | 403 | 404), "{path} {said:?}: {status}");
        }
    }
    for path in ["/s/api/v1/consoles", "/s/api/v1/changes", "/s/api/v1/shares", "/s/metrics"] {
        let answer = ask(gateway, "GET", path, &[link], "");
        let is_one = answer.status == 200 && answer.json()["consoles"].as_array().unwrap().len() == 1;
        assert!(is_one || answer.status == 403, "{path}: {}", answer.status);
    }
}

#[test]
fn nginx_asks_who_is_there_and_lets_websockets_through() {
    let Some(nginx) = program("nginx") else { return };
    let (server, folder, at) = (Server::start("nginx", &[]), Folder::new("nginx"), free_port());
    let gateway = gateway_of(&server, &folder);
    let users = folder.put("users", "ann:{PLAIN}sesame\n");
    let snippet = replaced(
        include_str!("../../../packaging/nginx/vspc-web.conf"),
        &[
            ("listen 443 ssl;", &format!("listen {at};")),
            ("ssl_certificate /etc/nginx/consoles.pem;", ""),
            ("ssl_certificate_key /etc/nginx/consoles.key;", ""),
            ("/etc/nginx/consoles.users", &users),
            ("server 127.0.0.1:8080;", &format!("server {};", gateway.address)),
        ],
    );
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.0.display()))
        .concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}{snippet}}}\n",
        folder.0.display()
    );
    let config = folder.put("nginx.conf", &config);
    let mut command = Command::new(nginx);
    command.args(["-e", "stderr", "-p"]).arg(&folder.0).args(["-c", &config]);
    is_kept(gateway, &server, &mut command, at);
}

#[test]
fn caddy_asks_who_is_there_and_lets_websockets_through() {
    let Some(caddy) = program("caddy") else { return };
    let (server, folder, at) = (Server::start("caddy", &[]), Folder::new("caddy"), free_port());
    let gateway = gateway_of(&server, &folder);
    let hash = |caddy: &Path| {
        let output = Command::new(caddy).args(["hash-password", "--plaintext", "sesame"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let site = replaced(
        include_str!("../../../packaging/caddy/Caddyfile"),
        &[
            ("consoles.example {", &format!("http://{at} {{")),
            ("ann HASH", &format!("ann {}", hash(&caddy))),
            ("reverse_proxy 127.0.0.1:8080", &format!("reverse_proxy {}", gateway.address)),
        ],
    );
    let config = folder.put("Caddyfile", &format!("{{\nadmin off\nauto_https off\n}}\n{site}"));
    let mut command = Command::new(caddy);
    command.env("HOME", &folder.0).args(["run", "--adapter", "caddyfile", "--config", &config]);
    is_kept(gateway, &server, &mut command, at);
}
