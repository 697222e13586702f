//! The whole way into a guest: the real `vspc`, the server, and the real agent on a line of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::client_tour::Client;
use super::process::Server;
use super::program;
use super::programs::Folder;

/// A guest, whose agent is reached over a unix socket.
struct Guest {
    client: Client,
    server: Server,
    folder: Folder,
    agent: Agent,
}

/// A running agent. It ends with the test.
struct Agent(Child);

impl Agent {
    fn start(agent: &Path, folder: &Folder) -> Self {
        let mut command = Command::new(agent);
        command.arg("--config").arg(folder.0.join("agent.toml")).stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn agent() -> Option<PathBuf> {
    beside("vspc-agent")
}

/// A program that is built beside the servers. `None`: it was not.
fn beside(name: &str) -> Option<PathBuf> {
    let program = Path::new(program()).with_file_name(name);
    if program.is_file() {
        return Some(program);
    }
    assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "{} has to be here", program.display());
    println!("skipped: no {name}");
    None
}

impl Guest {
    /// `None`: a program was not built.
    fn start(name: &str) -> Option<Self> {
        let agent = agent()?;
        let folder = Folder::new(&format!("guest-{name}"));
        let at = folder.0.to_str().unwrap().to_owned();
        fs::create_dir_all(folder.0.join("srv")).unwrap();
        let config = format!(
            "line = 'unix:{at}/line'\ncontrol = '{at}/control'\n[shell]\ncommand = ['/bin/sh']\n\
             [exec]\nprograms = ['*']\n[[copy]]\nroot = '{at}/srv'\nwrite = true\n\
             [connect]\nto = ['tcp:127.0.0.1:*']\n[[listen]]\nname = 'db'\nat = 'unix:{at}/db'\n\
             [facts]\nsite = 'north'\n"
        );
        fs::write(folder.0.join("agent.toml"), config).unwrap();
        let server = Server::start(&["--line", &format!("web01=unix:{at}/line?listen&mux=s2")]);
        let client = Client::new(&["--server", &server.admin_port().to_string()])?;
        server.line_with(&format!("listening on {at}/line"));
        let agent = Agent::start(&agent, &folder);
        server.line_with("the guest's agent is there");
        Some(Self { client, server, folder, agent })
    }

    fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.client.command(words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut into = child.stdin.take().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                // One that has ended takes no more.
                let _ = into.write_all(input);
            });
            child.wait_with_output().unwrap()
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.0.join(name).to_str().unwrap().to_owned()
    }
}

fn bytes(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub(super) fn a_program_in_a_guest_has_its_bytes_its_errors_and_its_status() {
    let Some(guest) = Guest::start("exec") else { return };
    let script = "echo out; echo err >&2; exit 7";
    let ran = guest.run(&["exec", "web01", "--", "sh", "-c", script], b"");
    let shown = (ran.status.code(), ran.stdout.as_slice(), ran.stderr.as_slice());
    assert_eq!(shown, (Some(7), &b"out\n"[..], &b"err\n"[..]));
    let every = bytes(300_000);
    let ran = guest.run(&["exec", "web01", "--", "cat"], &every);
    assert!(ran.status.success() && ran.stdout == every, "{:?}", ran.stderr);
    let ran = guest.run(&["exec", "web01", "--", "sh", "-c", "kill -KILL $$"], b"");
    assert_eq!(ran.status.code(), Some(128 + 9));
    assert_eq!(guest.run(&["exec", "web01", "--", "/no/such/program"], b"").status.code(), Some(127));
    let at_terminal =
        guest.run(&["exec", "--pty", "-e", "A=b", "web01", "sh", "-c", "test -t 1 && echo $A"], b"");
    assert_eq!(at_terminal.stdout, b"b\r\n", "{at_terminal:?}");
}

pub(super) fn a_guest_that_stands_still_is_told_of_and_can_be_given_up() {
    let Some(guest) = Guest::start("still") else { return };
    let pid = |child: &Child| Pid::from_child(child);
    kill_process(pid(&guest.agent.0), Signal::STOP).unwrap();
    let mut command = guest.client.command(&["exec", "web01", "--", "true"]);
    let mut exec = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(exec.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.contains("web01: its agent has not answered yet"), "{told}");
    kill_process(pid(&exec), Signal::INT).unwrap();
    assert_eq!(exec.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
}

pub(super) fn files_go_into_a_guest_and_out_of_it_and_go_on_when_its_agent_was_killed() {
    let Some(mut guest) = Guest::start("cp") else { return };
    let (big, there) = (guest.path("big"), guest.path("srv/big"));
    fs::write(&big, bytes(12_000_000)).unwrap();
    let mut copy = guest.client.command(&["cp", &big, &format!("web01:{}/", guest.path("srv"))]);
    let mut copy = copy.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Some of it is there: the agent is killed in the midst of it, or behind it.
    let folder = guest.folder.0.join("srv");
    let part = || {
        let files = fs::read_dir(&folder).unwrap().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
    };
    while part() < 100_000 {
        assert!(copy.try_wait().unwrap().is_none() || part() > 0, "it has ended without a file");
        thread::yield_now();
    }
    guest.agent.0.kill().unwrap();
    guest.agent.0.wait().unwrap();
    guest.agent = Agent::start(&agent().unwrap(), &guest.folder);
    guest.server.line_with("the guest's agent is there");
    assert!(copy.wait().unwrap().success());
    assert!(fs::read(&there).unwrap() == bytes(12_000_000));
    let back = guest.path("back");
    let out = guest.run(&["cp", &format!("web01:{there}"), &back], b"");
    assert!(out.status.success() && fs::read(&back).unwrap() == bytes(12_000_000), "{out:?}");
    let denied = guest.run(&["cp", "web01:/etc/passwd", "-"], b"");
    assert_eq!((denied.status.code(), denied.stdout.len()), (Some(4), 0));
}

pub(super) fn connections_go_into_a_guest_and_out_of_it() {
    let Some(guest) = Guest::start("forward") else { return };
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = echo.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = echo.accept() {
            thread::spawn(move || {
                let mut came = Vec::new();
                socket.read_to_end(&mut came).unwrap();
                socket.write_all(&came).unwrap();
            });
        }
    });
    let words = ["forward", "web01", "-L", &format!("0:{at}"), "-R", &format!("db:{at}")];
    let mut forward = guest.client.program(&words);
    forward.expect(b"web01 db -> ");
    let said = String::from_utf8(forward.seen.clone()).unwrap();
    let place = said.split(" -> ").next().unwrap();
    let sent = bytes(300_000);
    let mut into = TcpStream::connect(place).unwrap();
    into.write_all(&sent).unwrap();
    into.shutdown(Shutdown::Write).unwrap();
    let mut read = Vec::new();
    into.read_to_end(&mut read).unwrap();
    assert!(read == sent);
    let mut out = UnixStream::connect(guest.path("db")).unwrap();
    out.write_all(b"out of the guest").unwrap();
    out.shutdown(Shutdown::Write).unwrap();
    let mut read = String::new();
    out.read_to_string(&mut read).unwrap();
    assert_eq!(read, "out of the guest");
    guest.server.line_with("connect \"tcp:127.0.0.1:");
}

pub(super) fn facts_of_a_guest_are_told_and_set_and_what_is_open_in_it_is_shown() {
    let Some(guest) = Guest::start("facts") else { return };
    let mut watch = guest.client.program(&["facts", "web01", "--watch"]);
    watch.expect(b"site           north");
    assert_eq!(guest.client.says(&["facts", "web01", "site"]), "north\n");
    let control = guest.path("control");
    let agent = |words: &[&str]| {
        let mut command = Command::new(agent().unwrap());
        command.args([words[0], "--control", &control]).args(&words[1..]).output().unwrap()
    };
    assert!(agent(&["publish", "state=ready"]).status.success());
    watch.expect(b"state  ready");
    guest.client.says(&["facts", "web01", "set", "owner=ann"]);
    assert_eq!(guest.client.says(&["facts", "web01", "--host", "--json"]), "{\"owner\":\"ann\"}\n");
    let shown = guest.client.says(&["streams", "web01"]);
    assert!(shown.starts_with("vspc-agent ") && shown.contains("allows: shell, exec, "), "{shown}");
    let mut reading = guest.client.program(&["exec", "web01", "cat"]);
    reading.input.write_all(b"x").unwrap();
    reading.expect(b"x");
    let shown = guest.client.says(&["streams", "web01"]);
    assert!(shown.lines().any(|line| line.starts_with("exec") && line.ends_with(" cat")), "{shown}");
}

/// Whether all of it goes to its end, with every byte in its place; not what it costs.
pub(super) fn load_on_guests_can_be_put_and_tells_what_it_measured() {
    const WAYS: [&str; 7] = ["pipe", "relay", "yamux", "yamux-relay", "plain", "get", "put"];
    let (Some(load), Some(_)) = (beside("vspc-conformance"), agent()) else { return };
    let mut command = Command::new(load);
    command.args(["load", "guests", "--json", "--size", "1", "--runs", "1", "--key-seconds", "0.02"]);
    command.args(["--guests", "3", "--settle", "0"]);
    for way in WAYS {
        command.args(["--only", way]);
    }
    let ran = command.arg("--spawn").arg(format!("{} --slow-client wait", program())).output().unwrap();
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap_or_default();
    assert!(ran.status.success() && told["ok"] == true, "{ran:?}");
    for way in WAYS {
        assert!(told[way]["mb_per_s"].as_f64() > Some(0.0), "{way}: {told:#}");
    }
    for typed in ["another-vm", "same-guest"] {
        let beside = &told["keys_beside_exec_out"][typed];
        assert!(beside["p99_us"].as_f64() > Some(0.0), "{typed}: {told:#}");
    }
    assert_eq!((&told["idle"]["guests"], &told["idle"]["streams"]), (&json!(3), &json!(4)));
}
