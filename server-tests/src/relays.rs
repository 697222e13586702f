//! A relay between hosts and the server, and one that speaks for a line (docs/channels.md).

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;
use vspc_conformance::load::hosts::{self, HostsArgs};
use vspc_conformance::load::vmotion::{self, VmotionArgs};
use vspc_relay::{Relay, Settings, Stopper};

use super::peer::Peer;
use super::process::Server;
use super::program;
use super::programs::Folder;
use super::waiting::wait_until;

/// A relay that runs until it is dropped.
pub(super) struct Running {
    at: Option<SocketAddr>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn of(text: &str) -> Self {
        let relay = Relay::open(&Settings::parse(text).unwrap()).unwrap();
        let at = relay.addresses().next().map(|at| at.split_once("//").unwrap().1.parse().unwrap());
        let stopper = relay.stopper();
        Self { at, stopper, thread: Some(thread::spawn(move || relay.run().unwrap())) }
    }

    /// One for hosts.
    fn for_hosts(to: SocketAddr) -> Self {
        Self::of(&format!("[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = 'tcp://{to}'"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

pub(super) fn vms_that_move_through_a_relay_lose_nothing() {
    let (server, first) = Server::with_client_ports(program(), 20_000, &["--no-banner".to_owned()]);
    let relay = Running::for_hosts(server.vms);
    let report = vmotion::run(&VmotionArgs::brief(relay.at.unwrap(), first)).unwrap();
    assert_eq!(report.problems(), [""; 0], "{:?}", report.fields());
}

pub(super) fn vms_that_move_between_hosts_in_other_networks_lose_nothing() {
    let args = HostsArgs { spawn: program().to_owned(), relay: None, moves: 20, limit: None, json: false };
    let report = hosts::run(&args).unwrap_or_else(|error| panic!("{error}"));
    println!("{}", report.line("hosts"));
    assert_eq!(report.problems(), [""; 0], "{:?}", report.fields());
    assert!(report.fields().contains_key("skipped") || report.fields().contains_key("unix"));
}

pub(super) fn a_host_that_is_reset_behind_a_relay_is_reset_for_the_server() {
    let server = Server::start(&["--no-banner"]);
    let relay = Running::for_hosts(server.vms);
    let mut vm = Peer::connect(relay.at.unwrap()).introduced(1);
    let mut client = Peer::client(server.next_client_port());
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut client);
    vm.print(b"last words");
    vm.reset();
    client.expect(b"last words");
    server.line_with("vm disconnected");
}

pub(super) fn a_relay_says_for_whom_it_connects_and_the_server_believes_it() {
    let server = Server::start(&["--no-banner", "--proxy-protocol-from", "127.0.0.1"]);
    let relay = Running::of(&format!(
        "[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = 'tcp://{}'\nproxy-protocol = true",
        server.vms
    ));
    let vm = Peer::connect(relay.at.unwrap()).introduced(1);
    let line = server.line_with("vm identified");
    assert!(line.contains(&format!("peer={}", vm.address())), "{line}");
}

/// A line that prints numbered lines, and a relay that speaks for it.
struct Counter {
    _relay: Running,
    stop: Arc<AtomicBool>,
    printer: JoinHandle<u32>,
}

impl Counter {
    fn start(folder: &Folder, to: SocketAddr) -> Self {
        let path = folder.0.join("counter.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let relay = Running::of(&format!(
            "[[line]]\nfrom = 'unix:{}'\nuuid = '00112233-4455-6677-8899-aabbccddeeff'\nto = 'tcp://{to}'",
            path.display()
        ));
        let mut line = listener.accept().unwrap().0;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let printer = thread::spawn(move || count(&mut line, &is_over));
        Self { _relay: relay, stop, printer }
    }

    /// Has it stop; returns how many lines it has printed.
    fn stop(self) -> (Running, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self._relay, self.printer.join().unwrap())
    }
}

/// A line every millisecond or so, as a guest in the middle of something prints.
fn count(line: &mut UnixStream, stop: &AtomicBool) -> u32 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        line.write_all(format!("line {number}\r\n").as_bytes()).unwrap();
        number += 1;
        thread::sleep(Duration::from_millis(1));
    }
    number
}

pub(super) fn a_line_whose_server_is_killed_goes_on_where_it_was() {
    let lost = counted_over(Signal::KILL);
    assert!(lost < 1000, "{lost} lines are lost");
}

pub(super) fn a_line_whose_server_is_stopped_goes_on_where_it_was() {
    let lost = counted_over(Signal::TERM);
    assert!(lost < 1000, "{lost} lines are lost");
}

/// Ends a server by a signal in the middle of a counter, and starts it again. Returns how many lines were
/// lost: those that its system had acknowledged and it had not read, or not written to its log.
fn counted_over(signal: Signal) -> u32 {
    let folder = Folder::new(&format!("relays-{}", signal.as_raw()));
    let logs = folder.0.join("logs");
    fs::create_dir(&logs).unwrap();
    let log = logs.join("counter.log");
    let start = |port: u16| {
        let mut command = Command::new(program());
        command.args(["--proxy-iface", "127.0.0.1", "--proxy-port", &port.to_string()]);
        command.args([
            "--port-range-start",
            "0",
            "--admin-port",
            "0",
            "--no-banner",
            "--log-layout",
            "{name}.log",
        ]);
        Server::of(command.arg("--log-dir").arg(&logs))
    };
    let wait_for = |line: &str| {
        wait_until(line, || fs::read_to_string(&log).unwrap_or_default().contains(line));
    };
    let server = start(0);
    let to = server.vms;
    let counter = Counter::start(&folder, to);
    wait_for("line 100\r\n");
    server.signal(signal);
    if signal == Signal::TERM {
        assert!(server.end().success());
    } else {
        drop(server);
    }
    // What it prints now is kept.
    thread::sleep(Duration::from_millis(300));
    let _server = start(to.port());
    let before = fs::read_to_string(&log).unwrap().lines().count();
    wait_for(&format!("line {}\r\n", before + 500));
    let (_relay, count) = counter.stop();
    wait_for(&format!("line {}\r\n", count - 1));
    let text = fs::read_to_string(&log).unwrap();
    let numbers: Vec<u32> =
        text.split("\r\n").filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    let breaks: Vec<_> = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).collect();
    assert!(breaks.len() <= 1, "more than one place where it does not go on: {breaks:?}");
    breaks.first().map_or(0, |pair| pair[1].saturating_sub(pair[0] + 1))
}
