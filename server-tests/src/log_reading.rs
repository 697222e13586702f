//! Logs as they are read (docs/logs.md §6 and §7): by `vspc log`, of all files, by time, and on while they
//! grow.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use vspc_logs::date;

use super::client_tour::Client;
use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::program;
use super::programs::{Folder, Program, is_here};

/// A directory with one for logs and one for times in it.
struct Place(Folder);

impl Place {
    fn new(name: &str) -> Self {
        let folder = Folder::new(&format!("log-reading-{name}"));
        std::fs::create_dir_all(folder.0.join("logs")).unwrap();
        Self(folder)
    }

    fn folder(&self, name: &str) -> String {
        self.0.0.join(name).display().to_string()
    }

    /// A server, and where its admin port is.
    fn start(&self, options: &[&str]) -> (Server, SocketAddr) {
        let (logs, times) = (self.folder("logs"), self.folder("times"));
        let logging = ["--log-dir", &logs, "--log-index", &times, "--log-layout", "{name}"];
        let server = Server::start(&[&["--no-banner"][..], &logging, options].concat());
        let admin = server.admin_port();
        (server, admin)
    }

    /// Waits until this file is there.
    fn await_file(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        let file: PathBuf = self.0.0.join("logs").join(name);
        while !file.exists() {
            assert!(Instant::now() < deadline, "no {name}");
            thread::yield_now();
        }
    }
}

fn client(admin: SocketAddr) -> Option<Client> {
    Client::new(&["--server", &admin.to_string()])
}

pub(super) fn after_a_restart_the_first_client_sees_what_was_there_before_what_is_printed_since() {
    for options in [&[][..], &["--log-timestamps"], &["--no-log-restore"]] {
        let place = Place::new("restore");
        let (server, admin) = place.start(options);
        let Some(client_before) = client(admin) else { return };
        let (mut vm, _) = Peer::vm(&server, 1);
        vm.print(b"booting\r\nlogin: ");
        await_end(&client_before, "login: ");
        server.signal(Signal::KILL);
        server.end();
        drop(vm);
        let (server, admin) = place.start(options);
        let Some(client) = client(admin) else { return };
        let (mut vm, _) = Peer::vm(&server, 1);
        let tail = ["tail", "vm1", "--scrollback", "4096"];
        let deadline = Instant::now() + PATIENCE;
        let is_restored = options != ["--no-log-restore"];
        while is_restored && client.says_within(1, &tail) != b"booting\r\nlogin: " {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                String::from_utf8_lossy(&client.says_within(1, &tail))
            );
        }
        vm.print(b"root\r\n");
        let all = if is_restored { &b"booting\r\nlogin: root\r\n"[..] } else { b"root\r\n" };
        while client.says_within(1, &tail) != all {
            assert!(
                Instant::now() < deadline,
                "{:?}",
                String::from_utf8_lossy(&client.says_within(1, &tail))
            );
        }
        // And the log has each byte once, and no gap.
        let whole = client.says(&["log", "vm1"]);
        assert!(!whole.contains("missing") && whole.matches("login: ").count() == 1, "{whole:?}");
    }
}

pub(super) fn whoever_follows_the_log_of_a_console_that_ends_has_the_end_of_it() {
    let place = Place::new("ends");
    let (server, admin) = place.start(&["--vm-expire-time", "1"]);
    let Some(client) = client(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"before\r\n");
    await_end(&client, "before\r\n");
    let mut follower = client.program(&["log", "vm1", "--follow"]);
    follower.expect(b"before\r\n");
    vm.print(b"last words");
    follower.expect(b"last words");
    drop(vm);
    assert_eq!(follower.end(), b"before\r\nlast words");
    server.line_with("console expired");
}

pub(super) fn a_console_that_a_store_puts_back_has_its_output_before_its_vm_is_back() {
    let place = Place::new("store");
    let state = place.folder("state");
    let options = ["--backend", "file", "--file", &state, "--no-vm-ports"];
    let (server, admin) = place.start(&options);
    let Some(client_before) = client(admin) else { return };
    let mut vm = Peer::vm_without_port(&server, 1);
    vm.print(b"login: ");
    await_end(&client_before, "login: ");
    server.signal(Signal::TERM);
    drop(vm);
    assert!(server.end().success());
    let (_server, admin) = place.start(&options);
    let Some(client) = client(admin) else { return };
    let deadline = Instant::now() + PATIENCE;
    while client.says_within(1, &["tail", "vm1"]) != b"login: " {
        assert!(Instant::now() < deadline, "{:?}", client.says(&["list"]));
    }
}

/// Waits until the log ends with this.
fn await_end(client: &Client, end: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !client.says(&["log", "vm1"]).ends_with(end) {
        assert!(Instant::now() < deadline, "{:?}", client.says(&["log", "vm1"]));
    }
}

/// Waits until it is later than the time of what was printed last, as exact as the log has that, and gives
/// such a time.
fn pause(client: &Client) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let time = now();
        let since = client.says(&["log", "vm1", "--since", &time]);
        if since.is_empty() {
            // What comes next has another one.
            while now() == time {
                thread::yield_now();
            }
            return time;
        }
        assert!(Instant::now() < deadline, "since {time}: {since:?}");
    }
}

fn now() -> String {
    date::stamp(SystemTime::now())
}

pub(super) fn a_log_is_read_by_time_and_by_pattern_over_all_of_its_files() {
    let place = Place::new("times");
    let (server, admin) =
        place.start(&["--log-max-size", "100", "--log-compress", "--admin-rights", "loopback=spectator"]);
    let Some(client) = client(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    let line = |n: usize| format!("line {n} {}\x1b[0m\u{e9}\r\n", "x".repeat(50));
    vm.print(line(1).as_bytes());
    await_end(&client, &line(1));
    let after_first = pause(&client);
    vm.print(line(2).as_bytes());
    place.await_file("vm1.1.gz");
    await_end(&client, &line(2));
    let after_second = pause(&client);
    vm.print(line(3).as_bytes());
    place.await_file("vm1.2.gz");
    let all = [line(1), line(2), line(3)];
    await_end(&client, &all.concat());
    pause(&client);
    for (words, found) in [
        (&["--since", &after_first][..], &all[1..]),
        (&["--since", &after_second], &all[2..]),
        (&["--since", &after_first, "--until", &after_second], &all[1..2]),
        (&["--until", &after_first], &all[..1]),
        (&["--since", "1h"], &all),
        (&["--grep", "^line [13] "], &[line(1), line(3)]),
        (&["-n", "2"], &all[1..]),
        (&["-n", "1", "--since", "1h"], &all[2..]),
        (&["--grep", "line", "-n", "1"], &all[2..]),
        (&["--since", "0s"], &[]),
    ] {
        assert_eq!(client.says(&[&["log", "vm1"], words].concat()), found.concat(), "{words:?}");
    }
    let stripped = client.says(&["log", "vm1", "--strip-ansi", "-n", "1"]);
    assert_eq!(stripped, line(3).replace("\x1b[0m", ""));
    let refused = client.run(&["log", "vm1", "--since", "soon"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

pub(super) fn a_log_is_followed_over_its_rotation_and_a_restart_of_the_server() {
    let place = Place::new("follow");
    let (server, admin) = place.start(&["--log-max-size", "100"]);
    let Some(client) = client(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"before\r\n");
    await_end(&client, "before\r\n");
    let mut follower = client.program(&["log", "vm1", "--follow"]);
    follower.expect(b"before\r\n");
    for n in 0..9 {
        let line = format!("{n} {}\r\n", "x".repeat(60));
        vm.print(line.as_bytes());
        follower.expect(line.as_bytes());
    }
    server.signal(Signal::KILL);
    server.end();
    drop(vm);
    let (logs, times) = (place.folder("logs"), place.folder("times"));
    let admin = admin.port().to_string();
    let ports = ["--proxy-port", "0", "--proxy-iface", "127.0.0.1", "--port-range-start", "0"];
    let options = ["--no-banner", "--log-dir", &logs, "--log-index", &times, "--log-layout", "{name}"];
    let mut command = Command::new(program());
    let server = Server::of(command.args(ports).args(["--admin-port", &admin]).args(options));
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"after");
    follower.expect(b"after");
}

pub(super) fn a_span_of_a_log_is_a_cast_that_says_when_what_was_printed() {
    for stamps in [&[][..], &["--log-timestamps"]] {
        let place = Place::new("cast");
        let (server, admin) = place.start(stamps);
        let Some(client) = client(admin) else { return };
        let (mut vm, _) = Peer::vm(&server, 1);
        vm.print(b"first\r\n");
        await_end(&client, "first\r\n");
        let between = Instant::now();
        pause(&client);
        let between = between.elapsed().as_secs_f64();
        vm.print("s\u{e9}cond \r\n".as_bytes());
        await_end(&client, "cond \r\n");
        let cast = client.says(&["log", "vm1", "--cast", "-", "--size", "100x30", "--idle", "2"]);
        let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let head = &lines[0];
        assert_eq!((&head["version"], &head["width"], &head["height"]), (&2.into(), &100.into(), &30.into()));
        assert_eq!(head["idle_time_limit"], 2.0);
        let text: String = lines[1..].iter().map(|event| event[2].as_str().unwrap()).collect();
        assert_eq!(text, "first\r\ns\u{e9}cond \r\n");
        let first = lines[1][0].as_f64().unwrap();
        let last = lines[lines.len() - 1][0].as_f64().unwrap();
        // Times are in milliseconds.
        assert!(last - first >= between - 0.002, "{between} s between: {cast}");
        assert!(lines[1..].iter().all(|event| event[1] == "o"), "{cast}");
    }
}

pub(super) fn asciinema_plays_a_cast_to_the_bytes_that_the_vm_has_printed() {
    if !is_here("asciinema") {
        return;
    }
    let place = Place::new("played");
    let (server, admin) = place.start(&[]);
    let Some(client) = client(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    let screen = "\x1b[2J\x1b[1;1Hs\u{e9}cond \u{2500}\u{1f5a5}\t\x1b[31mred\x1b[0m\x07\r\n";
    for piece in ["first\r\n", screen, "without an end\n\"$ \\"] {
        vm.print(piece.as_bytes());
        await_end(&client, piece);
        pause(&client);
    }
    let cast = place.0.0.join("cast").display().to_string();
    assert!(client.run(&["log", "vm1", "--cast", &cast]).status.success());
    // It plays on a terminal only.
    let home = place.folder("home");
    let play = format!("HOME={home} LC_ALL=C.UTF-8 asciinema play -s 100 {cast}");
    let mut player = Program::start(&["script", "-qec", &play, "/dev/null"]);
    assert_eq!(String::from_utf8(player.end()).unwrap(), client.says(&["log", "vm1"]));
}

pub(super) fn a_server_without_logs_says_so_and_one_that_is_down_is_not_needed() {
    let plain = Server::start(&[]);
    let Some(client_of_plain) = client(plain.admin_port()) else { return };
    let (_vm, _) = Peer::vm(&plain, 1);
    let refused = client_of_plain.run(&["log", "vm1"]);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && why.contains("--log-dir"), "{why}");
    let place = Place::new("down");
    let (server, admin) = place.start(&[]);
    let Some(client) = client(admin) else { return };
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"first\r\n");
    await_end(&client, "first\r\n");
    let between = pause(&client);
    vm.print(b"last words");
    await_end(&client, "last words");
    server.signal(Signal::TERM);
    drop(vm);
    assert!(server.end().success());
    let (logs, times) = (place.folder("logs"), place.folder("times"));
    assert_eq!(client.says(&["log", "vm1", "--dir", &logs]), "first\r\nlast words");
    let since = ["log", "vm1", "--dir", &logs, "--index", &times, "--since", &between];
    assert_eq!(client.says(&since), "last words");
    assert_eq!(client.run(&["log", "vm2", "--dir", &logs]).status.code(), Some(3));
}
