//! The tour of README.md, with the real `vspc`: consoles are listed, used, scripted and followed, and an
//! operator's words do what they say.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::program;
use super::programs::{Program, is_here};

/// `vspc` at one server.
pub(super) struct Client {
    vspc: PathBuf,
    /// The options that lead to the server.
    way: Vec<String>,
}

impl Client {
    /// `None`: it was not built.
    pub(super) fn new(way: &[&str]) -> Option<Self> {
        Some(Self { vspc: vspc()?, way: way.iter().map(|&word| word.to_owned()).collect() })
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.vspc);
        command.args(&self.way).args(words).env_remove("VSPC_SERVER").env("HOME", "/nonexistent");
        command.env_remove("XDG_CONFIG_HOME");
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    /// What it prints, and it has to succeed.
    pub(super) fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it prints within so many seconds, at which it is ended.
    pub(super) fn says_within(&self, seconds: u8, words: &[&str]) -> Vec<u8> {
        let mut command = Command::new("timeout");
        command.arg(seconds.to_string()).arg(&self.vspc).args(&self.way).args(words);
        command
            .env_remove("VSPC_SERVER")
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .stdout
    }

    /// With pipes for a terminal.
    pub(super) fn program(&self, words: &[&str]) -> Program {
        let vspc = self.vspc.to_str().unwrap();
        let way: Vec<&str> = self.way.iter().map(String::as_str).collect();
        Program::start(&[&[vspc][..], &way, words].concat())
    }

    /// On a terminal of its own, whose other end the test has.
    fn on_terminal(&self, words: &[&str]) -> Program {
        self.in_script("", words)
    }

    /// The same of so many rows and columns.
    pub(super) fn on_sized_terminal(&self, (rows, cols): (u16, u16), words: &[&str]) -> Program {
        self.in_script(&format!("stty rows {rows} cols {cols}; exec "), words)
    }

    fn in_script(&self, before: &str, words: &[&str]) -> Program {
        let line = [&[self.vspc.to_str().unwrap().to_owned()][..], &self.way].concat().join(" ");
        Program::start(&["script", "-qec", &format!("{before}{line} {}", words.join(" ")), "/dev/null"])
    }
}

/// The program, which is built beside the servers. `None`: it was not.
pub(super) fn vspc() -> Option<PathBuf> {
    let vspc = Path::new(program()).with_file_name("vspc");
    if !vspc.is_file() {
        assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "{} has to be here", vspc.display());
        println!("skipped: no vspc");
        return None;
    }
    Some(vspc)
}

pub(super) fn consoles_are_listed_used_scripted_and_followed() {
    let server = Server::start(&[]);
    let admin = server.admin_port().to_string();
    let Some(client) = Client::new(&["--server", &admin]) else { return };
    if !is_here("script") {
        return;
    }
    let (mut vm, port) = Peer::vm(&server, 1);
    let listed = client.says(&["list"]);
    assert!(listed.contains("vm1 ") && listed.contains(" connected "), "{listed}");
    assert!(listed.contains(&format!(" {} ", port.port())), "{listed}");

    vm.print(b"before");
    let mut attach = client.on_terminal(&["attach", "vm"]);
    attach.expect(b"before");
    vm.print(b"login: ");
    attach.expect(b"login: ");
    attach.input.write_all("r\u{f6}\u{f6}t\r".as_bytes()).unwrap();
    vm.expect("r\u{f6}\u{f6}t\r".as_bytes());
    attach.input.write_all(b"\x1d?").unwrap();
    attach.expect(b"lock: nobody else types");
    attach.input.write_all(b"\x1dl").unwrap();
    attach.expect(b"nobody else may type now");
    let who = client.says(&["who", "vm1"]);
    assert!(who.contains("operator") && who.contains("write"), "{who}");
    assert_eq!(client.run(&["send", "vm1"]).status.code(), Some(4), "the lock is in the way");
    let mut watching = client.on_terminal(&["attach", "vm1"]);
    watching.expect(b"you may only watch");
    attach.input.write_all(b"\x1du").unwrap();
    attach.expect(b"others may type as well now");
    watching.expect(b"you may type now");
    watching.input.write_all(b"x\x1d.").unwrap();
    vm.expect(b"x");
    watching.end();

    let mut tail = client.program(&["tail", "vm1"]);
    let mut sending = client.command(&["send", "vm1", "--expect", "up [0-9]+ days", "--timeout", "30"]);
    let mut sending = sending.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sending.stdin.take().unwrap().write_all(b"uptime\n").unwrap();
    vm.expect(b"uptime\r");
    vm.print(b"up 12 days\r\n");
    let sent = sending.wait_with_output().unwrap();
    assert!(sent.status.success() && sent.stdout.ends_with(b"up 12 days\r\n"), "{sent:?}");
    attach.expect(b"up 12 days");
    tail.expect(b"up 12 days");

    let listed = client.says(&["list", "--last-line"]);
    assert!(listed.lines().nth(1).unwrap().ends_with("  beforelogin: up 12 days"), "{listed}");

    client.says(&["break", "vm1", "--reason", "it hangs"]);
    server.line_with("break sent: 127.0.0.1");
    attach.input.write_all(b"\x1d.").unwrap();
    attach.end();
    let stats = client.says(&["stats"]);
    assert!(stats.contains("consoles") && stats.contains("typing_us"), "{stats}");
}

pub(super) fn an_operators_words_do_what_they_say() {
    let server = Server::start(&["--admin-rights", "loopback=operator"]);
    let admin = server.admin_port().to_string();
    let Some(client) = Client::new(&["--server", &admin]) else { return };
    let mut events = client.program(&["events"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    // Nothing tells when it is told of events: there is one until it shows one.
    let (shown, deadline) = (AtomicBool::new(false), Instant::now() + PATIENCE);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !shown.load(Ordering::SeqCst) && Instant::now() < deadline {
                client.says(&["break", "vm1"]);
            }
        });
        events.expect(b"break-sent");
        shown.store(true, Ordering::SeqCst);
    });
    let who = client.says(&["who", "vm1"]);
    let leg = who.split("VM connection ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert_eq!(client.says(&["give-input", "vm1", leg]), format!("{leg} gets what is typed at vm1\n"));

    let mut attach = client.program(&["attach", "vm1"]);
    vm.print(b"login: ");
    attach.expect(b"login: ");
    assert_eq!(client.says(&["bump", "vm1", "--reason", "upgrade"]), "1 sent away from vm1\n");
    attach.end();
    assert_eq!(client.says(&["kick", "vm1"]), format!("{leg} cut\n"));
    assert!(vm.is_cut_off());
    client.says(&["reload"]);
    server.line_with("reload ordered by 127.0.0.1");
    client.says(&["drain"]);
    assert!(server.end().success());
    assert_eq!(client.run(&["list"]).status.code(), Some(5), "nobody is there");
}
