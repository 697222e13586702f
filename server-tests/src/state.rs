//! State that outlives the server (docs/state.md): each VM has its port again, however the server ended and
//! whatever its disk did.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vspc_core::mux::{Carrier, Config, Features, Received, Role, Session, Start, StreamId};

use super::peer::{Peer, introduction};
use super::process::{PATIENCE, Server, run};
use super::programs::Folder;
use super::stretch::Stretch;

/// A state file, and ports.
struct Place {
    folder: Folder,
    ports: Stretch,
}

impl Place {
    fn new(name: &str) -> Self {
        Self { folder: Folder::new(&format!("state-{name}")), ports: Stretch::claim() }
    }

    fn file(&self) -> PathBuf {
        self.folder.0.join("state")
    }

    fn new_file(&self) -> PathBuf {
        self.folder.0.join("state.new")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn options(&self) -> Vec<String> {
        let (file, [first, last]) = (self.file().display().to_string(), self.ports.range(200));
        let words = ["--no-banner", "--backend", "File", "-f", &file];
        let range = ["--port-range-start", &first, "--port-range-end", &last];
        words.into_iter().chain(range).map(str::to_owned).collect()
    }

    fn start(&self) -> Kept {
        let options = self.options();
        Kept::of(Server::keeping(&options.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Ends a server that is expected to end at once, with what it says.
    fn refused(&self) -> String {
        let mut options = self.options();
        let ports = ["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-port", "0"];
        options.extend(ports.map(str::to_owned));
        let output = run(&options.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A server with a state file.
pub(super) struct Kept {
    pub(super) server: Server,
    admin: Admin,
}

impl Kept {
    pub(super) fn of(server: Server) -> Self {
        let admin = Admin::at(server.admin_port());
        Self { server, admin }
    }

    /// Waits until so many consoles are reported kept, and says which port each has.
    pub(super) fn wait_for(&mut self, kept: usize) -> BTreeMap<String, u16> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let consoles = self.admin.consoles();
            let ports: BTreeMap<String, u16> =
                consoles.into_iter().filter(|console| console.is_kept).map(Console::entry).collect();
            if ports.len() >= kept {
                return ports;
            }
            assert!(Instant::now() < deadline, "only these are kept: {ports:?}");
            thread::yield_now();
        }
    }

    pub(super) fn end_by(self, signal: Signal) {
        self.server.signal(signal);
        self.server.end();
    }
}

/// An operator's session, made by hand (operator.md §2).
struct Admin {
    stream: TcpStream,
    session: Session,
    heard: Vec<u8>,
    asked: u32,
}

/// A console as an operator is told of it.
#[derive(Debug)]
struct Console {
    name: String,
    port: Option<u16>,
    is_kept: bool,
}

impl Console {
    fn entry(self) -> (String, u16) {
        (self.name, self.port.unwrap())
    }
}

impl Admin {
    fn at(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = Config {
            carrier: Carrier::Reliable,
            start: Start::S2Only { within: Duration::from_secs(5) },
            features: Features(Features::WINDOWED.0 | Features::RESET.0),
            max_frame: 16384,
            max_streams: 4096,
            ..Config::new(Role::Host)
        };
        let mut session = Session::new(config, vspc_core::time::Instant::ZERO).unwrap();
        assert_eq!(session.open_announced(), Ok(CONTROL));
        let mut admin = Self { stream, session, heard: Vec::new(), asked: 0 };
        admin.ask("\"op\":\"hello\",\"v\":1,\"client\":\"test\"");
        admin
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, request: &str) -> String {
        let now = vspc_core::time::Instant::ZERO;
        self.asked += 1;
        let line = format!("{{\"id\":{},{request}}}\n", self.asked);
        self.session.write(CONTROL, line.as_bytes()).unwrap();
        loop {
            let mut said = Vec::new();
            while self.session.transmit_with(now, |runs| {
                runs.iter().for_each(|run| said.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            }) > 0
            {}
            self.stream.write_all(&said).unwrap();
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                return String::from_utf8(self.heard.drain(..=end).collect()).unwrap();
            }
            let mut bytes = [0; 16 << 10];
            let n = self.stream.read(&mut bytes).unwrap();
            assert!(n > 0, "the end, and no answer to {request}");
            self.session.handle_received(&bytes[..n], now);
            while self.session.poll_event().is_some() {}
            while let Ok(Received::Bytes(bytes)) = self.session.received(CONTROL) {
                let n = bytes.len();
                self.heard.extend_from_slice(bytes);
                self.session.consume(CONTROL, n).unwrap();
            }
        }
    }

    fn consoles(&mut self) -> Vec<Console> {
        let answer = self.ask("\"op\":\"list\"");
        let field = |text: &str, name: &str| {
            let value =
                text.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {text}")).1;
            value.split([',', '}']).next().unwrap().trim_matches('"').to_owned()
        };
        let consoles = answer.split("{\"id\":\"").skip(1);
        consoles
            .map(|text| Console {
                name: field(text, "name"),
                port: field(text, "port").parse().ok(),
                is_kept: field(text, "kept") == "true",
            })
            .collect()
    }
}

const CONTROL: StreamId = StreamId(1);

pub(super) fn vms_that_come_back_in_another_order_have_their_ports() {
    let place = Place::new("order");
    let mut kept = place.start();
    let (_first, first) = Peer::vm(&kept.server, 1);
    let (_second, second) = Peer::vm(&kept.server, 2);
    assert_ne!(first, second);
    kept.wait_for(2);
    kept.end_by(Signal::TERM);
    let text = place.text();
    assert!(text.contains("\"vm1\"") && text.contains(&format!("\"port\":{}", second.port())), "{text}");
    let kept = place.start();
    let (_second, port) = Peer::vm(&kept.server, 2);
    assert_eq!(port, second);
    let (_first, port) = Peer::vm(&kept.server, 1);
    assert_eq!(port, first);
}

pub(super) fn a_client_finds_its_port_before_its_vm_is_back() {
    let place = Place::new("client");
    let mut kept = place.start();
    let (_vm, port) = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    kept.end_by(Signal::KILL);
    let kept = place.start();
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    let (mut vm, _) = Peer::vm(&kept.server, 1);
    vm.print(b"back");
    client.expect_somewhere(b"back");
}

pub(super) fn a_server_that_is_killed_at_any_moment_has_lost_no_port_that_was_reported_kept() {
    let place = Place::new("kill");
    kill_at_any_moment(|| place.start(), |_, _| {});
}

/// When a store may be touched while servers are killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment {
    /// Half of a server's time is over, and VMs come and go.
    Halfway,
    /// The server was killed, and the next is about to be started.
    Between,
}

/// Kills a server that keeps its state, again and again, while VMs come and go. `VSPC_KILLS` says how often;
/// .ci/long has a hundred. `store` is told of each moment at which it may do something, with the number of
/// the kill.
pub(super) fn kill_at_any_moment(start: impl Fn() -> Kept, mut store: impl FnMut(Moment, u64)) {
    let mut known: BTreeMap<String, u16> = BTreeMap::new();
    let kills: u64 = std::env::var("VSPC_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 1..=kills {
        let mut kept = start();
        let mut owners = BTreeMap::new();
        for console in kept.admin.consoles() {
            let (name, port) = console.entry();
            assert_eq!(owners.insert(port, name.clone()), None, "two have port {port}");
            if let Some(before) = known.get(&name) {
                assert_eq!(port, *before, "{name} after {kill} kills");
            }
        }
        for (name, port) in &known {
            assert_eq!(owners.get(port), Some(name), "after {kill} kills");
        }
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(kill);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (vms, seed, is_over) = (kept.server.vms, chance, &is_over);
            scope.spawn(move || come_and_go(vms, seed, is_over));
            let time = Duration::from_millis(100 + (chance >> 40) % 300);
            let halfway = Instant::now() + time / 2;
            let until = Instant::now() + time;
            let (mut looks, mut is_first_half) = (0, true);
            while Instant::now() < until || looks == 0 {
                known.extend(
                    kept.admin.consoles().into_iter().filter(|console| console.is_kept).map(Console::entry),
                );
                looks += 1;
                if is_first_half && Instant::now() >= halfway {
                    is_first_half = false;
                    store(Moment::Halfway, kill);
                }
            }
            kept.server.signal(Signal::KILL);
            is_over.store(true, Ordering::Relaxed);
        });
        kept.server.end();
        store(Moment::Between, kill);
    }
    assert!(known.len() > 10, "{known:?}");
    println!("{kills} kills, {} consoles kept: none has lost its port", known.len());
}

/// VMs come, go, and come again from elsewhere while their old connection is still there, until it is over.
fn come_and_go(vms: SocketAddr, mut chance: u64, is_over: &AtomicBool) {
    let mut here = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (chance >> 33) as u8 % 50;
        // The server may be killed at any moment.
        if let Ok(mut vm) = TcpStream::connect(vms)
            && vm.write_all(&introduction(number)).is_ok()
        {
            here.push_back(vm);
        }
        while here.len() > 8 + (chance >> 50) as usize % 8 {
            here.pop_front();
        }
    }
}

pub(super) fn a_damaged_state_file_keeps_a_server_from_starting_and_stays_as_it_is() {
    let place = Place::new("damaged");
    let mut kept = place.start();
    let _vm = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    kept.end_by(Signal::TERM);
    let text = place.text().replace("\"port\"", "\"prot\"");
    fs::write(place.file(), &text).unwrap();
    let why = place.refused();
    assert!(why.contains("state line 3") && why.contains("prot"), "{why}");
    assert_eq!(place.text(), text);
}

pub(super) fn two_servers_do_not_share_a_state_file() {
    let place = Place::new("two");
    let _kept = place.start();
    let why = place.refused();
    assert!(why.contains("in use by another server"), "{why}");
}

pub(super) fn a_port_that_something_else_has_meanwhile_costs_its_console_that_port_and_nothing_else() {
    let place = Place::new("taken");
    let mut kept = place.start();
    let (_vm, port) = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    kept.end_by(Signal::KILL);
    let _other = std::net::TcpListener::bind(port).unwrap();
    let mut kept = place.start();
    let (_vm, other) = Peer::vm(&kept.server, 1);
    assert_ne!(other, port);
    assert_eq!(kept.wait_for(1)["vm1"], other.port());
}

pub(super) fn a_disk_that_is_full_is_told_of_once_costs_nothing_that_was_kept_and_is_made_up_for() {
    let place = Place::new("full");
    let mut kept = place.start();
    let _first = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    let text = place.text();
    kept.server.limit_file_size(Some(text.len() as u64));
    let (_second, second) = Peer::vm(&kept.server, 2);
    kept.server.line_with("the state cannot be kept");
    assert_eq!(place.text(), text);
    let is_kept = |kept: &mut Kept| kept.admin.consoles().iter().filter(|console| console.is_kept).count();
    assert_eq!(is_kept(&mut kept), 1);
    kept.server.limit_file_size(None);
    let next = kept.server.line_with("the state ");
    assert!(next.contains("kept again"), "{next}");
    assert_eq!(kept.wait_for(2)["vm2"], second.port());
    kept.end_by(Signal::KILL);
    assert!(place.text().contains("\"vm2\""));
}

pub(super) fn a_disk_that_hangs_keeps_nobody_from_typing_and_no_vm_from_its_port() {
    let place = Place::new("hangs");
    let mut kept = place.start();
    let (mut vm, port) = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    // What is opened for writing here hangs until somebody reads it.
    assert!(Command::new("mkfifo").arg(place.new_file()).status().unwrap().success());
    let mut client = Peer::client(port);
    kept.server.line_with("client attached");
    let (_second, second) = Peer::vm(&kept.server, 2);
    for round in 0..50_u8 {
        client.print(&[b'a' + round % 26]);
        vm.expect(&[b'a' + round % 26]);
        vm.print(&[b'A' + round % 26]);
        client.expect(&[b'A' + round % 26]);
    }
    let (_third, third) = Peer::vm(&kept.server, 3);
    let kept_ports = kept.wait_for(1);
    assert_eq!(kept_ports.len(), 1, "{kept_ports:?}");
    let written = fs::read_to_string(place.new_file()).unwrap();
    assert!(written.contains("\"vm2\""), "{written}");
    let ports = kept.wait_for(3);
    assert_eq!((ports["vm2"], ports["vm3"]), (second.port(), third.port()));
}

pub(super) fn a_disk_that_hangs_keeps_no_server_from_stopping() {
    let place = Place::new("stops");
    let mut kept = place.start();
    let _first = Peer::vm(&kept.server, 1);
    kept.wait_for(1);
    let text = place.text();
    assert!(Command::new("mkfifo").arg(place.new_file()).status().unwrap().success());
    let _second = Peer::vm(&kept.server, 2);
    kept.server.signal(Signal::TERM);
    kept.server.line_with("not kept");
    assert!(kept.server.end().success());
    assert_eq!(place.text(), text);
}
