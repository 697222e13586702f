//! Within TLS: everything works as without it, and what is wrong with a certificate is told with what to do.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use crate::old_server::OldServer;
use crate::server::FakeServer;
use crate::terminal::Terminal;
use crate::tls_front::{Front, Issuer, Shown};
use crate::{outcome, vspc};

/// A folder of its own for the files of a test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vspc-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn consoles_are_listed_and_scripted_within_tls() {
    let (server, folder, issuer) = (FakeServer::start(&["web01"]), Folder::new("scripted"), Issuer::new());
    let front = Front::start(server.address, &issuer, &Shown::localhost());
    let ca = folder.file("ca.pem", &issuer.pem());
    let at = front.url("localhost");
    let (code, out, error) = outcome(&vspc(&server, &["--server", &at, "--ca", &ca, "list"], b""));
    assert!(code == 0 && out.contains("web01"), "{error}");
    // More than a record, a socket's buffer and a window hold, both ways.
    let long: Vec<u8> = (0..400_000_u32).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
    server.print("web01", &long);
    let args = ["--server", &at, "--ca", &ca, "send", "web01", "--raw"];
    assert_eq!(outcome(&vspc(&server, &args, &long)).0, 0);
    server.await_typed("web01", &long);
    let args = ["--server", &at, "--ca", &ca, "attach", "web01", "--scrollback", "400000"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    crate::surround(&mut command, &server);
    let child = command.args(args).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut shown = vec![0; long.len()];
    child.stdout.as_mut().unwrap().read_exact(&mut shown).unwrap();
    assert!(shown == long, "what was printed arrives whole");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_attach_comes_back_within_tls() {
    let (server, folder, issuer) = (FakeServer::start(&["web01"]), Folder::new("back"), Issuer::new());
    let front = Front::start(server.address, &issuer, &Shown::localhost());
    let ca = folder.file("ca.pem", &issuer.pem());
    let at = front.url("localhost");
    let terminal = Terminal::start(&server, &["attach", "web01", "--server", &at, "--ca", &ca]);
    server.print("web01", b"login: ");
    terminal.await_shown("login: ");
    terminal.press(b"root\r");
    server.await_typed("web01", b"root\r");
    terminal.press(b"\x1ds");
    terminal.await_shown(&format!("server: {at}"));
    server.die();
    terminal.await_shown("reconnecting");
    server.rise();
    terminal.await_shown("connected again");
    server.print("web01", b"again");
    terminal.await_shown("again");
    terminal.press(b"x\x1d.");
    assert_eq!(terminal.ends(), 0);
    server.await_typed("web01", b"x");
}

#[test]
fn vspc_pys_protocol_is_found_out_within_tls() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let (folder, issuer) = (Folder::new("old"), Issuer::new());
    let front = Front::start(old.address, &issuer, &Shown::localhost());
    let ca = folder.file("ca.pem", &issuer.pem());
    let at = front.url("localhost");
    let (code, out, error) = outcome(&vspc(&unused, &["--server", &at, "--ca", &ca, "list", "a*"], b""));
    assert_eq!((code, out.as_str()), (0, "NAME   UUID  PORT\nalpha  a-1   25000\n"), "{error}");
    let reader = std::thread::spawn(move || {
        let (_, mut socket) = old.await_attach();
        let mut typed = Vec::new();
        socket.read_to_end(&mut typed).unwrap();
        typed
    });
    let args = ["--server", &at, "--ca", &ca, "send", "alpha", "--raw"];
    assert_eq!(outcome(&vspc(&unused, &args, b"uptime\r")).0, 0);
    assert_eq!(reader.join().unwrap(), b"uptime\r");
}

#[test]
fn the_file_tells_a_servers_tls_and_its_files_are_beside_it() {
    let (server, folder, issuer) = (FakeServer::start(&["web01"]), Folder::new("file"), Issuer::new());
    let shown = Shown { names: &["vspc.example"], asks: true, ..Shown::default() };
    let front = Front::start(server.address, &issuer, &shown);
    let (cert, key) = issuer.client("ann");
    fs::create_dir_all(folder.0.join("vspc")).unwrap();
    folder.file("vspc/ca.pem", &issuer.pem());
    folder.file("vspc/ann.pem", &format!("{cert}{key}"));
    let config = format!(
        "default = 'lab'\n[servers.lab]\naddress = '127.0.0.1:{}'\ntls = true\nca = 'ca.pem'\n\
         cert = 'ann.pem'\nserver_name = 'vspc.example'\n",
        front.address.port()
    );
    folder.file("vspc/config.toml", &config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    crate::surround(&mut command, &server);
    command.env("VSPC_SERVER", "").env("XDG_CONFIG_HOME", &folder.0).arg("list");
    let (code, out, error) = outcome(&command.output().unwrap());
    assert!(code == 0 && out.contains("web01"), "{error}");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_with_what_to_do() {
    let (server, folder, issuer) = (FakeServer::start(&["web01"]), Folder::new("wrong"), Issuer::new());
    let (stranger, namesake) = (Issuer::itself(&["another"], true, false), Issuer::new());
    let (ca, other_ca) = (folder.file("ca.pem", &issuer.pem()), folder.file("other.pem", &stranger.pem()));
    let other_kind = folder.file("kind.pem", &Issuer::with_another_kind_of_key().pem());
    let same_name = folder.file("namesake.pem", &namesake.pem());
    let (cert, key) = namesake.client("eve");
    let (cert, key) = (folder.file("eve.pem", &cert), folder.file("eve.key", &key));
    let front = Front::start(server.address, &issuer, &Shown::localhost());
    let elsewhere = Shown { names: &["a.example", "192.0.2.1"], ..Shown::default() };
    let elsewhere = Front::start(server.address, &issuer, &elsewhere);
    let old = Front::start(server.address, &issuer, &Shown { expired: true, ..Shown::localhost() });
    let asking = Front::start(server.address, &issuer, &Shown { asks: true, ..Shown::localhost() });
    let asking_12 =
        Front::start(server.address, &issuer, &Shown { asks: true, only_12: true, ..Shown::localhost() });
    let clear = format!("tls://{}", server.address);
    let nothing = folder.file("nothing.pem", "");
    let missing = folder.0.join("missing.pem").to_str().unwrap().to_owned();
    let found_out = front.address.to_string();
    let url = |front: &Front| front.url("localhost");
    let cases: &[(&str, &[&str], i32, &str)] = &[
        (
            &url(&front),
            &["--ca", &other_ca],
            5,
            "signed by nobody that is trusted here; if it is the right one",
        ),
        (&url(&front), &["--ca", &same_name], 5, "signed by nobody that is trusted here"),
        (&url(&front), &["--ca", &other_kind], 5, "signed by nobody that is trusted here"),
        (&url(&elsewhere), &["--ca", &ca], 5, "is for a.example, 192.0.2.1, and not for localhost: call"),
        (&url(&old), &["--ca", &ca], 5, "its certificate has expired"),
        (&url(&asking), &["--ca", &ca], 5, "it wants a certificate from you: --cert FILE"),
        (&url(&asking_12), &["--ca", &ca], 5, "it wants a certificate from you"),
        (
            &url(&asking),
            &["--ca", &ca, "--cert", &cert, "--key", &key],
            5,
            "does not accept your certificate",
        ),
        (&clear, &["--ca", &ca], 5, "it does not seem to speak TLS there; without it, leave tls:// out"),
        (&found_out, &[], 5, "it seems to speak TLS (--server tls://…)"),
        (&found_out, &["--ca", &ca], 2, "--ca is for a server with TLS: --server tls://HOST"),
        (&url(&front), &["--ca", &missing], 2, "missing.pem: No such file"),
        (&url(&front), &["--ca", &nothing], 2, "nothing.pem: there is no certificate in it"),
        (&url(&front), &["--ca", &ca, "--cert", &cert], 2, "eve.pem: there is no private key in it"),
        (&url(&front), &["--ca", &ca, "--key", &key], 2, "--key belongs to a certificate"),
    ];
    for (at, options, expected, words) in cases {
        let args = [&["--server", *at][..], options, &["list"]].concat();
        let (code, _, error) = outcome(&vspc(&server, &args, b""));
        assert!(code == *expected && error.contains(words), "{args:?}: {code} {error}");
    }
    let (cert, key) = issuer.client("ann");
    let (cert, key) = (folder.file("ann.pem", &cert), folder.file("ann.key", &key));
    for front in [&asking, &asking_12] {
        let args = ["--server", &url(front), "--ca", &ca, "--cert", &cert, "--key", &key, "list"];
        assert_eq!(outcome(&vspc(&server, &args, b"")).0, 0);
    }
}

#[test]
fn a_certificate_that_is_its_own_authority_is_trusted_once_it_is_named() {
    let (server, folder) = (FakeServer::start(&["web01"]), Folder::new("own"));
    for calls_itself_a_ca in [false, true] {
        let own = Issuer::itself(&["localhost"], calls_itself_a_ca, false);
        let front = Front::start_as(server.address, own.pair());
        let (ca, at) = (folder.file("own.pem", &own.pem()), front.url("localhost"));
        let list = |at: &str| outcome(&vspc(&server, &["--server", at, "--ca", &ca, "list"], b""));
        let (code, _, error) = list(&at);
        assert_eq!(code, 0, "{calls_itself_a_ca}: {error}");
        let (code, _, error) = list(&front.url("127.0.0.1"));
        assert!(code == 5 && error.contains("is for localhost, and not for 127.0.0.1"), "{error}");
        let stranger = Issuer::itself(&["localhost"], calls_itself_a_ca, false);
        let stranger = Front::start_as(server.address, stranger.pair());
        let (code, _, error) = list(&stranger.url("localhost"));
        assert_eq!(code, 5, "{calls_itself_a_ca}: {error}");
    }
    let own = Issuer::itself(&["localhost"], true, true);
    let front = Front::start_as(server.address, own.pair());
    let ca = folder.file("own.pem", &own.pem());
    let args = ["--server", &front.url("localhost"), "--ca", &ca, "list"];
    let (code, _, error) = outcome(&vspc(&server, &args, b""));
    assert!(code == 5 && error.contains("its certificate has expired"), "{error}");
}

#[test]
fn a_server_that_closes_without_a_word_may_want_tls() {
    let (unused, listener) = (FakeServer::start(&[]), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            // What was sent is read, so that the end is no reset.
            let _ = socket.unwrap().read(&mut [0; 4096]);
        }
    });
    for protocol in ["auto", "operator", "v3"] {
        let args = ["--server", &address, "--protocol", protocol, "list"];
        let (code, _, error) = outcome(&vspc(&unused, &args, b""));
        let words = "it closed the connection without a word; if it wants TLS, that is --server tls://";
        assert!(code == 5 && error.contains(words), "{protocol}: {error}");
    }
}
