//! Lines of every kind that end, fail and come back without pause, beside a VM and its client.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::dialling_local::{Terminal, cable, port_of};
use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::Folder;

/// One of each kind that does nothing but end, as soon as it is begun or every twentieth of a second.
struct Flapping {
    folder: Folder,
    closes: TcpListener,
    cable: Option<Terminal>,
}

impl Flapping {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let closes = TcpListener::bind("127.0.0.1:0").unwrap();
        closes.set_nonblocking(true).unwrap();
        let cable = Some(cable(&folder.0.join("tty")));
        Self { folder, closes, cable }
    }

    fn lines(&self) -> Vec<String> {
        let at = |name: &str| self.folder.0.join(name).display().to_string();
        let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        vec![
            format!("refused=tcp://{refuses}"),
            format!("closed=tcp://{}", self.closes.local_addr().unwrap()),
            "fails=exec:sh -c 'echo no such host >&2; exit 1'".to_owned(),
            "killed=exec:sh -c 'kill -9 $$'".to_owned(),
            "missing=exec:/nowhere/at/all".to_owned(),
            format!("pty=pty:{}", at("pty")),
            format!("tty=tty:{}", at("tty")),
            format!("heard=unix:{}?listen", at("heard")),
            "once=exec:sh -c 'echo ready; read -r word; echo \"$word\"'".to_owned(),
        ]
    }

    /// Each of them ends, if it is there.
    fn flap(&mut self) {
        while let Ok((stream, _)) = self.closes.accept() {
            drop(stream);
        }
        drop(fs::File::options().read(true).write(true).open(self.folder.0.join("pty")));
        self.cable = None;
        self.cable = Some(cable(&self.folder.0.join("tty")));
        drop(UnixStream::connect(self.folder.0.join("heard")));
    }
}

pub(super) fn lines_that_flap_or_find_no_descriptor_are_no_trouble_to_others() {
    let seconds = std::env::var("VSPC_FLAPPING").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2);
    let mut flapping = Flapping::new("flapping");
    let lines = flapping.lines();
    let options: Vec<&str> = lines.iter().flat_map(|line| ["--line", line]).chain(["--no-banner"]).collect();
    let server = Server::start(&options);
    let once = port_of(&server, "once");
    let mut vm = Peer::connect(server.vms).introduced(1);
    let mut client = Peer::client(port_of(&server, "vm1"));
    server.line_with("client attached");
    let before = server.descriptors();
    let (begun, mut turns, mut said, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
    let mut turn = |server: &Server| {
        flapping.flap();
        let asked = Instant::now();
        Peer::talk(&mut vm, &mut client);
        slowest = slowest.max(asked.elapsed());
        said += server.lines_so_far().len();
        turns += 1;
        // So long each of them is left alone.
        thread::sleep(Duration::from_millis(50));
    };
    while begun.elapsed() < Duration::from_secs(seconds) {
        turn(&server);
    }
    // A program that ends finds no descriptor for the next time.
    let mut at_once = Peer::client(once);
    server.line_with("client attached");
    // Fewer than it has open.
    server.limit_descriptors(10);
    at_once.print(b"first\n");
    at_once.expect(b"first\n");
    server.line_with("Too many open files");
    let starved = Instant::now();
    while starved.elapsed() < Duration::from_secs(1) {
        turn(&server);
    }
    server.limit_descriptors(20_000);
    at_once.expect(b"ready\n");
    at_once.print(b"second\n");
    at_once.expect(b"second\n");
    turn(&server);
    // A line that is listened at comes each time that it is connected to, with four lines of the log at most;
    // what the server begins itself comes seldom.
    let most = turns * 5 + 300;
    assert!(said < most, "{said} lines of the log in {turns} turns");
    assert!(slowest < Duration::from_secs(3), "the VM and its client waited for {slowest:?}");
    let deadline = Instant::now() + PATIENCE;
    while server.descriptors() > before + MORE {
        assert!(Instant::now() < deadline, "{} descriptors, {before} before", server.descriptors());
        thread::yield_now();
    }
}

/// Descriptors of lines that happen to be there, and of a client more.
const MORE: usize = 24;
