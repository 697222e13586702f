//! What a gateway costs: memory of sockets, a long list, and a key's way to its echo. As tests these are
//! small, and measure nothing; VSPC_FIGURES=1 has them measure at length, what VSPC_PROGRAMS has
//! (`.ci/long web_figures`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::browser::{Events, Frame, Socket, get, until};
use crate::processes::{Gateway, PATIENCE, Server, Vm};

/// The first where figures are wanted, else the second.
fn sized(long: usize, short: usize) -> usize {
    if std::env::var_os("VSPC_FIGURES").is_some() { long } else { short }
}

#[test]
fn many_idle_sockets_cost_little() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let count = sized(1000, 20);
    let server = Server::start("figures-idle", &["--max-clients", "2000"]);
    let mut vm = server.vm(1, "web1");
    vm.print(&[b'x'; 8192]);
    let gateway = Gateway::of(&server);
    until(&gateway, "/api/v1/consoles/web1", |console| console["out"] == 8192);
    let open = || {
        let path = "/api/v1/consoles/web1/socket?lock=read-only&scrollback=4096";
        let mut socket = Socket::open(&gateway, path, "vspc.v1");
        socket.notice("attached");
        socket.expect(&[b'x'; 4096]);
        socket
    };
    let _some: Vec<_> = (0..10).map(|_| open()).collect();
    let before = gateway.memory();
    let mut all: Vec<_> = (0..count).map(|_| open()).collect();
    let each = gateway.memory().saturating_sub(before) / count as u64;
    eprintln!("{count} idle websockets: {each} bytes each in the gateway");
    // All of them are alive.
    vm.print(b"news");
    all.iter_mut().for_each(|socket| socket.expect(b"news"));
    assert!(count < 1000 || each <= 20 * 1024, "{each} bytes");
}

#[test]
fn many_consoles_are_listed() {
    let count = sized(10_000, 150);
    let server = Server::start("figures-list", &["--no-vm-ports", "--max-consoles", "20000"]);
    let gateway = Gateway::of(&server);
    let told = || get(&gateway, "/api/v1/servers").json()["servers"][0]["consoles"].as_u64().unwrap();
    let numbers: Vec<u32> = (1..=count as u32).collect();
    for some in numbers.chunks(50) {
        // They go as soon as they are known, and their consoles stay.
        let _vms: Vec<_> = some.iter().map(|&n| Vm::connect(server.vms, n, &format!("vm{n:05}"))).collect();
        let deadline = Instant::now() + PATIENCE;
        while told() < u64::from(*some.last().unwrap()) {
            assert!(Instant::now() < deadline, "{} of {some:?}", told());
        }
    }
    let mut slowest = Duration::ZERO;
    let (mut after, mut seen) = (String::new(), 0);
    let began = Instant::now();
    loop {
        let asked = Instant::now();
        let page = get(&gateway, &format!("/api/v1/consoles?limit=1000&with=last_line&{after}")).json();
        slowest = slowest.max(asked.elapsed());
        seen += page["consoles"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, count);
    eprintln!("{count} consoles listed in {:?}, the slowest page in {slowest:?}", began.elapsed());
    let began = Instant::now();
    let mut events = Events::of(&gateway, "/api/v1/changes", &[]);
    for _ in 0..count {
        events.next_of("console");
    }
    events.next_of("synced");
    eprintln!(
        "{count} consoles told as changes in {:?}; the gateway has {} KiB",
        began.elapsed(),
        gateway.memory() / 1024
    );
}

#[test]
fn a_key_comes_back_by_a_websocket_as_by_a_port() {
    let count = sized(5000, 20);
    let server = Server::start("figures-keys", &["--no-banner"]);
    let vm = server.vm(1, "web1");
    thread::spawn(|| vm.echo());
    let gateway = Gateway::of(&server);
    let console = until(&gateway, "/api/v1/consoles/web1", |console| console["port"].is_u64());
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web1/socket", "vspc.v1");
    socket.notice("attached");
    let mut port = TcpStream::connect(("127.0.0.1", console["port"].as_u64().unwrap() as u16)).unwrap();
    port.set_nodelay(true).unwrap();
    port.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut by_port = |key: u8| {
        let began = Instant::now();
        port.write_all(&[key]).unwrap();
        let mut buf = [0; 512];
        loop {
            let n = port.read(&mut buf).unwrap();
            assert!(n > 0, "the server closed");
            if buf[..n].contains(&key) {
                return began.elapsed();
            }
        }
    };
    let mut by_socket = |key: u8, types: bool| {
        let began = Instant::now();
        if types {
            socket.send(2, &[key]);
        }
        while !matches!(socket.next(), Frame::Bytes(bytes) if bytes.contains(&key)) {}
        began.elapsed()
    };
    let (mut ports, mut sockets) = (Vec::new(), Vec::new());
    for n in 0..count {
        // Each is shown what the other types; both are up to date before the next key.
        let (one, other) = (b'a' + (n % 13) as u8, b'n' + (n % 13) as u8);
        ports.push(by_port(one));
        by_socket(one, false);
        sockets.push(by_socket(other, true));
    }
    for (name, mut times) in [("port", ports), ("gateway's websocket", sockets)] {
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
        eprintln!("key to echo by the {name}: p50 {} us, p99 {} us, of {count}", at(50), at(99));
    }
}
