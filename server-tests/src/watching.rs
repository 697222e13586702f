//! Threads that ask a running loop for things and read consoles: the loop runs in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use vspc_core::concentrator::{CommandError, Config, LocalOptions, SlowClient};
use vspc_host::askers::Askers;
use vspc_host::commands::{self, Command, Sender};
use vspc_host::credentials::Credentials;
use vspc_host::dialer::Dialer;
use vspc_host::inherited::Inherited;
use vspc_host::logs::Logs;
use vspc_host::outlets::Outlets;
use vspc_host::startup::Host;
use vspc_host::store::Mirror;
use vspc_host::supervisor::Supervisor;
use vspc_host::watch::Watch;
use vspc_host::watching::Watching;

use super::peer::Peer;
use super::process::PATIENCE;
use super::serve;

/// A server in a thread of this process.
struct Inside {
    vms: SocketAddr,
    commands: Sender,
    ended: mpsc::Receiver<()>,
}

impl Inside {
    fn start() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        // The engine tells of its port only in the log, which is the whole process's: it gets one that is
        // free.
        let vms = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config { vm_listen: vec![vms.into()], client_ports: None, ..config };
        let (sender, commands, commands_socket) = commands::pair().unwrap();
        let host = Host {
            config: Arc::new(config),
            needs_admin: true,
            seed: [3; 32],
            credentials: Credentials::default(),
            store: Mirror::default(),
            logs: Logs::default(),
            watching: Watching::default(),
            askers: Askers::default(),
            outlets: Outlets::default(),
            supervisor: Supervisor::default(),
            inherited: Inherited::default(),
            dialer: Dialer::default(),
            commands,
            commands_socket,
        };
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            serve(host).unwrap();
            done.send(()).unwrap();
        });
        while std::net::TcpStream::connect(vms).is_err() {
            thread::yield_now();
        }
        Self { vms, commands: sender, ended }
    }

    fn vm(&self, number: u8) -> Peer {
        Peer::connect(self.vms).introduced(number)
    }

    /// A witness of `vm1` that is known to be there, because it has seen the two bytes that this VM printed.
    fn watch(&self, vm: &mut Peer, room: usize) -> Watch {
        self.watch_as(LocalOptions::witness(), vm, room)
    }

    /// A reader of some kind, known to be there in the same way.
    fn watch_as(&self, kind: LocalOptions, vm: &mut Peer, room: usize) -> Watch {
        vm.print(b"go");
        let options = kind.scrollback(2);
        let watch = Watch::open(&self.commands, "vm1", options, room).unwrap();
        let mut seen = 0;
        while seen < 2 {
            seen += watch.next().unwrap().expect("it goes on").bytes.len();
        }
        watch
    }

    fn stop(self) {
        self.commands.try_send(Command::Stop).unwrap();
        self.ended.recv().unwrap();
    }
}

pub(super) fn a_thread_reads_a_console_byte_by_byte_as_the_vm_printed_it() {
    let server = Inside::start();
    let mut vm = server.vm(1);
    let watch = server.watch(&mut vm, 0);
    let printed: Vec<u8> = (0..300_000_u32).map(|n| if n % 5 == 0 { 0xff } else { n as u8 }).collect();
    for piece in printed.chunks(10_000) {
        vm.print(piece);
    }
    let mut seen = Vec::new();
    while seen.len() < printed.len() {
        let piece = watch.next().unwrap().expect("it goes on");
        assert_eq!((piece.at, piece.lost), (2 + seen.len() as u64, 0));
        seen.extend_from_slice(&piece.bytes);
    }
    assert!(seen == printed);
    server.stop();
    assert_eq!(watch.next(), Ok(None));
}

pub(super) fn a_thread_that_does_not_read_holds_up_nobody_and_learns_what_it_missed() {
    let server = Inside::start();
    let mut vm = server.vm(1);
    let idle = server.watch(&mut vm, 64 << 10);
    let follows = server.watch(&mut vm, 64 << 10);
    let printed = 8 << 20;
    let printer = thread::spawn(move || {
        for _ in 0..printed >> 16 {
            vm.print(&[b'x'; 1 << 16]);
        }
        vm
    });
    // Behind the two times two bytes that the watches were opened with.
    let total = 4 + printed;
    let missed = |watch: &Watch| {
        let (mut at, mut missed) = (0, 0);
        while at < total {
            let piece = watch.next().unwrap().expect("it goes on");
            missed += piece.lost;
            at = piece.at + piece.bytes.len() as u64;
        }
        missed
    };
    missed(&follows);
    let vm = printer.join().unwrap();
    assert!(missed(&idle) > 0, "eight megabytes do not fit into its room and the journal");
    drop(vm);
    server.stop();
}

pub(super) fn what_a_watch_holds_is_bounded_when_its_vm_prints_a_byte_at_a_time() {
    let server = Inside::start();
    let mut vm = server.vm(1);
    let idle = server.watch(&mut vm, 0);
    let follows = server.watch(&mut vm, 0);
    let printed = 2000;
    for _ in 0..printed {
        vm.print(b"x");
        while follows.next().unwrap().expect("it goes on").bytes.is_empty() {}
    }
    let (mut seen, mut pieces) = (0, 0);
    // Behind the two bytes that the other watch was opened with.
    while seen < 2 + printed {
        seen += idle.next().unwrap().expect("it goes on").bytes.len();
        pieces += 1;
    }
    assert!(pieces < printed / 2, "{pieces} pieces, each with memory of its own");
    server.stop();
}

pub(super) fn a_paused_vm_goes_on_as_soon_as_its_watch_has_room() {
    let server = Inside::with(Config { slow_client: SlowClient::Wait, ..Config::default() });
    let mut vm = server.vm(1);
    let watch = server.watch_as(LocalOptions::person(), &mut vm, 0);
    // Far more than the journal and the buffers on the way hold: the VM is paused again and again, and nobody
    // else is there whose visits could have it go on.
    let printed = 64 << 20;
    let started = Instant::now();
    let printer = thread::spawn(move || {
        for _ in 0..printed >> 16 {
            vm.print(&[b'x'; 1 << 16]);
        }
        vm
    });
    let mut seen = 0;
    while seen < printed {
        let piece = watch.next().unwrap().expect("it goes on");
        assert_eq!(piece.lost, 0, "its VM waits for it");
        seen += piece.bytes.len();
    }
    let took = started.elapsed();
    assert!(took < PATIENCE / 3, "turns that come for another reason help it on: {took:?}");
    drop(printer.join().unwrap());
    server.stop();
}

pub(super) fn a_console_that_is_not_there_is_no_watch() {
    let server = Inside::start();
    let watch = Watch::open(&server.commands, "nobody", LocalOptions::witness(), 0).unwrap();
    assert_eq!(watch.next(), Err(CommandError::NoConsole));
    server.stop();
}

pub(super) fn a_watch_that_is_dropped_is_forgotten_and_the_server_goes_on() {
    let server = Inside::start();
    let mut vm = server.vm(1);
    drop(server.watch(&mut vm, 0));
    vm.print(b"to nobody");
    server.watch(&mut vm, 0);
    server.stop();
}
