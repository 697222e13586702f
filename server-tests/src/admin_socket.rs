//! The admin port as a unix socket: who comes is known by its user, and the file outlives no server for long.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant as Clock};

use rustix::process::{Signal, geteuid};
use vspc_core::mux::{Carrier, Config, Features, Received, Role, Session, Start, StreamId};
use vspc_core::time::Instant;

use super::peer::Peer;
use super::process::{PATIENCE, Server, run};

/// A directory of a test's own, which goes with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("vspc-admin-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        Self(place)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("admin")
    }

    fn options(&self) -> Vec<String> {
        ["--no-admin", "--no-banner", "--admin-socket"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.socket().display().to_string()])
            .collect()
    }

    fn start(&self) -> Server {
        let server = Server::start(&refs(&self.options()));
        server.line_with(&format!("admin port open on {}", self.socket().display()));
        server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refs(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The list that the socket gives to vSPC.py's client.
fn listed(path: &Path) -> Vec<u8> {
    list_on(connect(path))
}

/// All that vSPC.py's client sends to get a list, and all that comes back.
pub(super) fn list_on(mut stream: impl Read + Write) -> Vec<u8> {
    stream.write_all(b"\x80\x04K\x03.").unwrap();
    let mut version = [0; 5];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"\x80\x04K\x03.");
    stream.write_all(b"\x80\x04N.\x80\x04\x95\x09\0\0\0\0\0\0\0\x8c\x05write\x94.").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

pub(super) fn has(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

/// What an operator is answered on the socket.
fn hello(path: &Path) -> String {
    hello_on(connect(path))
}

/// What an operator is answered that says hello (operator.md §2).
pub(super) fn hello_on(mut stream: impl Read + Write) -> String {
    let config = Config {
        carrier: Carrier::Reliable,
        start: Start::S2Only { within: Duration::from_secs(5) },
        features: Features(Features::WINDOWED.0 | Features::RESET.0),
        max_frame: 16384,
        max_streams: 4096,
        ..Config::new(Role::Host)
    };
    let (now, control) = (Instant::ZERO, StreamId(1));
    let mut session = Session::new(config, now).unwrap();
    assert_eq!(session.open_announced(), Ok(control));
    session.write(control, b"{\"id\":1,\"op\":\"hello\",\"v\":1,\"client\":\"test\"}\n").unwrap();
    let mut answer = Vec::new();
    let deadline = Clock::now() + PATIENCE;
    while !answer.ends_with(b"\n") {
        assert!(Clock::now() < deadline, "no answer: {}", String::from_utf8_lossy(&answer));
        let mut said = Vec::new();
        while session.transmit_with(now, |runs| {
            runs.iter().for_each(|run| said.extend_from_slice(run));
            runs.iter().map(|run| run.len()).sum()
        }) > 0
        {}
        stream.write_all(&said).unwrap();
        let mut heard = [0; 4096];
        let n = stream.read(&mut heard).unwrap();
        assert!(n > 0, "the end, and no answer");
        session.handle_received(&heard[..n], now);
        while session.poll_event().is_some() {}
        while let Ok(Received::Bytes(bytes)) = session.received(control) {
            let n = bytes.len();
            answer.extend_from_slice(bytes);
            session.consume(control, n).unwrap();
        }
    }
    String::from_utf8(answer).unwrap()
}

pub(super) fn the_admin_socket_lists_for_vspcpys_clients_and_knows_an_operator_by_its_user() {
    let place = Place::new("dialects");
    let server = place.start();
    assert_eq!(fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    let (_vm, _) = Peer::vm(&server, 1);
    let list = listed(&place.socket());
    assert!(has(&list, b"vm1"), "{}", list.escape_ascii());
    let answer = hello(&place.socket());
    assert!(answer.contains("\"rights\":\"operator\""), "{answer}");
    let whom = format!("\"as\":\"uid {}\"", geteuid().as_raw());
    assert!(answer.contains(&whom), "{answer}");
}

pub(super) fn a_rule_for_a_user_is_kept_on_the_admin_socket() {
    let place = Place::new("rules");
    let rule = format!("uid:{}=spectator", geteuid().as_raw());
    let mut options = place.options();
    options.extend(["--admin-rights".to_owned(), rule, "--admin-socket-mode".to_owned(), "0600".to_owned()]);
    let server = Server::start(&refs(&options));
    server.line_with("admin port open on ");
    assert_eq!(fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = hello(&place.socket());
    assert!(answer.contains("\"rights\":\"spectator\""), "{answer}");
}

pub(super) fn a_second_server_does_not_take_the_admin_socket_from_a_live_one() {
    let place = Place::new("second");
    let server = place.start();
    let mut options = place.options();
    options.extend(["--proxy-iface", "127.0.0.1", "--proxy-port", "0"].map(str::to_owned));
    let second = run(&refs(&options));
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains("another server is there") && last.contains("--admin-socket"), "{last}");
    let (_vm, _) = Peer::vm(&server, 1);
    assert!(has(&listed(&place.socket()), b"vm1"), "the first one serves on");
}

pub(super) fn what_is_no_socket_is_not_taken_for_the_admin_socket_and_stays() {
    let place = Place::new("file");
    fs::write(place.socket(), "precious").unwrap();
    let mut options = place.options();
    options.extend(["--proxy-iface", "127.0.0.1", "--proxy-port", "0"].map(str::to_owned));
    let output = run(&refs(&options));
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.lines().last().unwrap().contains("no socket"), "{text}");
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "precious");
}

pub(super) fn the_admin_socket_of_a_killed_server_is_taken_over_and_goes_when_a_server_stops() {
    let place = Place::new("killed");
    let killed = place.start();
    killed.signal(Signal::KILL);
    killed.end();
    assert!(place.socket().exists());
    let server = place.start();
    let (_vm, _) = Peer::vm(&server, 1);
    assert!(has(&listed(&place.socket()), b"vm1"));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert!(!place.socket().exists());
}

pub(super) fn a_crowd_on_the_admin_socket_costs_nobody_else_anything() {
    let place = Place::new("crowd");
    let server = Server::with_descriptors(80, &refs(&place.options()));
    server.line_with("admin port open on ");
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    let crowd: Vec<UnixStream> = (0..200).map(|_| connect(&place.socket())).collect();
    server.line_with("connections are refused");
    Peer::talk(&mut vm, &mut client);
    assert!(server.descriptors() <= 80);
    drop(crowd);
    // All that the crowd took comes back, as soon as its end has been read.
    let deadline = Clock::now() + PATIENCE;
    loop {
        let mut stream = connect(&place.socket());
        let mut answer = [0; 5];
        let served = stream.write_all(b"\x80\x04K\x03.").and_then(|()| stream.read_exact(&mut answer));
        match served {
            Ok(()) => break,
            Err(error) => {
                assert!(Clock::now() < deadline, "{error}");
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "it is served or closed, and does not hang");
            }
        }
        thread::yield_now();
    }
    assert!(has(&listed(&place.socket()), b"vm1"));
}
