//! Peers that leave: what they sent before is still delivered, and the server notices that they are gone.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::time::Instant;

use super::fairness::keys_arrive;
use super::peer::{IAC, Peer};
use super::process::{PATIENCE, Server};

pub(super) fn the_last_words_of_a_vm_that_resets_while_someone_types_reach_its_client() {
    let server = Server::start(&["--no-banner"]);
    let (vm, mut client) = Peer::vm_and_client(&server, 0);
    let mut others = Others::new(&server);
    // All of this is there in one turn of the loop: a key to be written to the VM, others to be served
    // first, and the VM's end. The write fails before the VM's words have been read.
    server.while_stopped(|| {
        client.print(b"keys");
        others.print();
        let mut vm = vm;
        vm.print(LAST_WORDS);
        vm.reset();
    });
    client.expect(LAST_WORDS);
    server.line_with("vm disconnected");
}

pub(super) fn the_last_command_of_a_client_that_resets_while_its_vm_prints_reaches_the_vm() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, client) = Peer::vm_and_client(&server, 0);
    let mut others = Others::new(&server);
    server.while_stopped(|| {
        vm.print(b"a line of the kernel's\r\n");
        others.print();
        let mut client = client;
        client.print(b"reboot\r");
        client.reset();
    });
    vm.expect(b"reboot\r");
    server.line_with("client detached");
}

/// More than are handled in one turn: those who wait for that are not forgotten, and nobody waits for them.
pub(super) fn all_of_a_crowd_that_leaves_at_one_moment_are_noticed_while_keys_arrive() {
    let server = Server::start(&["--no-banner"]);
    let (vm, client) = Peer::vm_and_client(&server, 0);
    let crowd: Vec<_> = (1..=CROWD).map(|n| Peer::vm(&server, n).0).collect();
    server.while_stopped(|| {
        for (n, mut peer) in crowd.into_iter().enumerate() {
            peer.print(LAST_WORDS);
            if n % 2 == 0 {
                peer.reset();
            }
        }
    });
    keys_arrive(vm, client);
    let gone: HashSet<_> = (0..CROWD).map(|_| name_in(&server.line_with("vm disconnected"))).collect();
    assert_eq!(gone.len(), usize::from(CROWD), "each is told of once");
}

/// Raw clients: nothing is written to them that would find out that they are gone, but what a VM prints.
pub(super) fn a_crowd_of_raw_clients_that_leaves_a_silent_console_is_gone() {
    let server = Server::start(&["--max-clients", "none"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Peer::connect(port)).collect();
    for client in &mut crowd {
        client.stream.write_all(b"+").unwrap();
        server.line_with("client attached");
    }
    vm.expect(&[b'+'; CROWD as usize]);
    server.while_stopped(|| {
        drop(crowd);
        // Draws a reset from each of them, behind its end.
        vm.print(b"one line");
    });
    for _ in 0..CROWD {
        server.line_with("client detached");
    }
}

fn name_in(line: &str) -> String {
    line.split_once("vm=")
        .unwrap_or_else(|| panic!("{line}"))
        .1
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned()
}

pub(super) fn clients_that_leave_while_the_vm_takes_nothing_are_noticed() {
    let server = Server::start(&["--no-banner"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let (mut quitter, mut typist) = (Peer::connect(port), Peer::connect(port));
    let mut paster = Peer::client(port);
    for _ in 0..3 {
        server.line_with("client attached");
    }
    // Unread input would make the kernel reset the connection.
    quitter.stream.read_exact(&mut [0; OFFERS]).unwrap();
    // The log does not mention clients that come, say nothing and go.
    quitter.send(b"q");
    vm.expect(b"q");
    typist.send(b"t");
    vm.expect(b"t");
    // From now on nothing that a client types is read.
    paster.fill();
    let gone = [quitter.address(), typist.address()];
    drop(quitter);
    typist.print(b"unread");
    typist.reset();
    // Who has ended its input may still read: only a write finds out that nobody does.
    vm.print(b"more");
    for _ in &gone {
        let line = server.line_with("client detached");
        assert!(gone.iter().any(|address| line.contains(address.as_str())), "{line}");
    }
}

pub(super) fn a_client_that_resets_behind_a_paste_that_nobody_takes_is_noticed_on_a_quiet_server() {
    let server = Server::start(&["--no-banner"]);
    let (_vm, port) = Peer::vm(&server, 1);
    let mut paster = Peer::client(port);
    server.line_with("client attached");
    paster.fill();
    let started = Instant::now();
    paster.reset();
    server.line_with("client detached");
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
}

pub(super) fn clients_that_end_behind_typing_that_nobody_takes_are_not_counted_and_their_typing_is_delivered()
{
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut typist = Peer::client(port);
    typist.expect_somewhere(b"here]");
    let mut paster = Peer::client(port);
    paster.expect_somewhere(b"1 other here");
    for _ in 0..2 {
        server.line_with("client attached");
    }
    paster.fill();
    typist.print(b"unread");
    typist.end_input();
    // Its end is noticed in its own time; so is that of each newcomer.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let newcomer = Peer::connect(port);
        let line = server.line_with("client attached");
        newcomer.reset();
        if line.contains("attached, 2 now") {
            break;
        }
        assert!(Instant::now() < deadline, "it is counted for ever");
    }
    vm.expect_somewhere(b"unread");
}

pub(super) fn clients_that_end_behind_typing_that_nobody_takes_yield_to_a_newcomer() {
    let server = Server::start(&["--max-clients", "2"]);
    let (_vm, port) = Peer::vm(&server, 1);
    let mut typist = Peer::client(port);
    typist.expect_somewhere(b"here]");
    let mut paster = Peer::client(port);
    paster.expect_somewhere(b"1 other here");
    paster.fill();
    typist.print(b"unread");
    typist.end_input();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut first = [0];
        Peer::connect(port).stream.read_exact(&mut first).unwrap();
        // An offer, and not a line of text that says why it has to go.
        if first == [IAC] {
            return;
        }
        assert!(Instant::now() < deadline, "nobody is let in");
    }
}

/// VMs whose bytes the loop reads before it comes to those that a test is about.
struct Others(Vec<Peer>);

impl Others {
    fn new(server: &Server) -> Self {
        Self((1..=12).map(|number| Peer::vm(server, number).0).collect())
    }

    fn print(&mut self) {
        for vm in &mut self.0 {
            vm.print(b".");
        }
    }
}

/// VMs that leave at once: three times what is handled in one turn.
const CROWD: u8 = 200;

/// Bytes of the offers that greet every client.
const OFFERS: usize = 15;

const LAST_WORDS: &[u8] = b"Kernel panic - not syncing\r\n---[ end Kernel panic ]---\r\n";
