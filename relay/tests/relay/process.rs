//! The program: what it says, what it survives, and what it costs.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::concentrator::Concentrator;
use crate::ground::{Folder, PATIENCE, Target, expect, patient, reset, talk};

/// A relay as a process, killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    pub(crate) at: SocketAddr,
}

impl Process {
    fn start(target: &str) -> Self {
        Self::of(Command::new(PROGRAM).args(["--listen", "tcp://127.0.0.1:0", "--to", target]))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.env_remove("RUST_LOG").stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut process = Self { child, log, at: SocketAddr::from(([0; 4], 0)) };
        let line = process.line_with("listening on tcp://");
        let at = line.split_once("listening on tcp://").unwrap().1.split_once(',').unwrap().0;
        process.at = at.parse().unwrap();
        process
    }

    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.at).unwrap())
    }

    pub(crate) fn line_with(&mut self, words: &str) -> String {
        let mut seen = String::new();
        loop {
            let at = seen.len();
            assert_ne!(
                self.log.read_line(&mut seen).unwrap(),
                0,
                "no line has {words:?}; these came:\n{seen}"
            );
            if seen[at..].contains(words) {
                return seen[at..].trim_end().to_owned();
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and returns its exit code.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Resident memory, in KiB.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

#[test]
fn each_connection_has_its_line_which_says_who_how_much_and_why() {
    let target = Target::new();
    let mut relay = Process::start(&target.endpoint());
    let near = relay.connect();
    let me = near.local_addr().unwrap();
    let far = target.accept();
    talk(&near, &far);
    drop(near);
    drop(far);
    let line = relay.line_with(&format!("{me} to {}", target.endpoint()));
    for words in ["12 bytes there, 17 back", "ended first"] {
        assert!(line.contains(words), "{line}");
    }
    let near = relay.connect();
    let far = target.accept();
    talk(&near, &far);
    reset(far);
    let line = relay.line_with(&near.local_addr().unwrap().to_string());
    assert!(line.contains("the target: a reset"), "{line}");
}

#[test]
fn a_target_that_is_down_is_said_with_the_reason() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut relay = Process::start(&format!("tcp://{gone}"));
    let _near = relay.connect();
    let line = relay.line_with("is not carried");
    assert!(line.contains("refused") && line.contains(&gone.to_string()), "{line}");
}

#[test]
fn it_ends_when_it_is_told_to_and_says_so() {
    let target = Target::new();
    let mut relay = Process::start(&target.endpoint());
    let near = relay.connect();
    let far = target.accept();
    talk(&near, &far);
    relay.signal(Signal::TERM);
    relay.line_with("1 connections end");
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn the_end_of_descriptors_is_survived() {
    let target = Target::new();
    let endpoint = target.endpoint();
    thread::spawn(move || {
        loop {
            let stream = target.accept();
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 40; exec \"$@\"", "sh", PROGRAM]);
    let mut relay = Process::of(shell.args(["--listen", "tcp://127.0.0.1:0", "--to", &endpoint]));
    let first = relay.connect();
    assert!(is_echoed(&first));
    let crowd: Vec<TcpStream> = (0..60).map(|_| relay.connect()).collect();
    relay.line_with("connections are refused");
    assert!(is_echoed(&first));
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    while !is_echoed(&relay.connect()) {
        assert!(Instant::now() < deadline, "nobody is served any more");
    }
}

fn is_echoed(mut stream: &TcpStream) -> bool {
    stream.write_all(b"echo").is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

#[test]
fn a_thousand_idle_lines_cost_little() {
    let target = Target::new();
    let relay = Process::start(&target.endpoint());
    let warm: Vec<_> = (0..100).map(|_| (relay.connect(), target.accept())).collect();
    talk(&warm[0].0, &warm[0].1);
    let before = relay.resident();
    let lines: Vec<_> = (0..1000).map(|_| (relay.connect(), target.accept())).collect();
    for (near, far) in &lines {
        talk(near, far);
    }
    let each = (relay.resident() - before) * 1024 / lines.len();
    assert!(each <= 2048, "{each} bytes");
}

#[test]
fn a_thousand_idle_lines_that_it_speaks_for_cost_little() {
    let (folder, concentrator) = (Folder::new(), Concentrator::new());
    let vms = folder.path("vms");
    fs::create_dir(&vms).unwrap();
    let to = concentrator.endpoint();
    let config = folder.file(
        "relay.toml",
        &format!(
            "[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{to}'\n[[lines]]\nfolder = '{vms}'\nto = '{to}'"
        ),
    );
    let mut relay = Process::of(Command::new(PROGRAM).args(["--config", &config]));
    let mut lines = Vec::new();
    let mut bring_up = |relay: &mut Process, number| {
        let listener = UnixListener::bind(format!("{vms}/vm{number}.sock")).unwrap();
        let (mut line, _) = listener.accept().unwrap();
        let mut vm = concentrator.vm();
        line.write_all(b"login: ").unwrap();
        vm.expect(b"login: ");
        vm.type_in(b"root\r");
        expect(&mut line, b"root\r");
        relay.line_with("serves it");
        lines.push((listener, line, vm));
    };
    (0..100).for_each(|number| bring_up(&mut relay, number));
    let before = relay.resident();
    (100..1100).for_each(|number| bring_up(&mut relay, number));
    // What was printed is let go of when it is known to have arrived.
    let deadline = Instant::now() + PATIENCE;
    while (relay.resident() - before) * 1024 / 1000 > 2048 {
        assert!(Instant::now() < deadline, "{} bytes", (relay.resident() - before) * 1024 / 1000);
        thread::yield_now();
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let file = folder.file("relay.toml", "[[relay]]\nlisten = 'tcp://0.0.0.0:1'\n");
    for (arguments, words) in [
        (&["--listen", &taken, "--to", "127.0.0.1:1"][..], "somebody listens there"),
        (&["--to", "127.0.0.1:1"], "--listen"),
        (&[], "nothing to relay"),
        (&["--config", &file], "relay 1"),
        (&["--config", "/nowhere.toml"], "/nowhere.toml"),
        (&["--listen", "0.0.0.0:0", "--to", "tls://a:1", "--ca", &file], "no certificate in it"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("vspc-relay: ") && last.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_file_is_checked_without_being_served() {
    let folder = Folder::new();
    let text = "[[relay]]\nlisten = 'tcp://0.0.0.0:1'\nto = 'unix:/a'\n";
    let output = run(&["--check-config", "--config", &folder.file("relay.toml", text)]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "relay tcp://0.0.0.0:1 to unix:/a\n");
    assert!(output.status.success());
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vspc-relay");
