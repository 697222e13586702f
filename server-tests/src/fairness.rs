//! One peer that never stops: everybody else is served as if it were not there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use super::peer::{EXT, IAC, Peer, WILL, WONT};
use super::process::{PATIENCE, Server};

pub(super) fn a_vm_that_never_stops_talking_does_not_keep_keys_from_others() {
    let server = Server::start(&["--no-banner"]);
    let (vm, client) = Peer::vm_and_client(&server, 1);
    // The server has to answer each command, and nobody reads the answers.
    talk_on(Peer::vm(&server, 2).0.stream, [IAC, WILL, EXT, IAC, WONT, EXT].repeat(20_000));
    keys_arrive(vm, client);
}

pub(super) fn a_vm_that_prints_escapes_without_end_to_a_raw_client_does_not_keep_keys_from_others() {
    let server = Server::start(&["--no-banner"]);
    let (vm, client) = Peer::vm_and_client(&server, 1);
    let (printer, raw_port) = Peer::vm(&server, 2);
    let mut raw = Peer::connect(raw_port);
    // gdb's first bytes: from here on the server has to undouble for it what the VM prints.
    raw.send(b"+$");
    server.line_with("client attached");
    read_all(raw.stream);
    talk_on(printer.stream, [b'x', IAC, IAC].repeat(40_000));
    keys_arrive(vm, client);
}

/// Types keys, one after the other; nothing else happens that might wake whoever serves them. All of them
/// together may take as long as anything that a test waits for.
pub(super) fn keys_arrive(mut vm: Peer, mut client: Peer) {
    let deadline = Instant::now() + PATIENCE;
    for key in 0..100 {
        client.print(&[key]);
        vm.expect(&[key]);
        assert!(Instant::now() < deadline, "key {key} came too late");
    }
}

/// Sends this over and over, until the server is gone; returns when more has been sent than the buffers on
/// the way hold.
pub(super) fn talk_on(mut to: TcpStream, bytes: Vec<u8>) {
    let (under_way, started) = channel();
    thread::spawn(move || {
        for sent in (0..).step_by(bytes.len()) {
            if to.write_all(&bytes).is_err() {
                return;
            }
            if sent > BUFFERS {
                // Only the first is received.
                let _ = under_way.send(());
            }
        }
    });
    started.recv().unwrap();
}

/// Reads and forgets, until the server is gone.
fn read_all(mut from: TcpStream) {
    let mut bytes = vec![0; 64 << 10];
    thread::spawn(move || while from.read(&mut bytes).is_ok_and(|n| n > 0) {});
}

/// More than the kernel keeps for both ends of a connection (net.ipv4.tcp_rmem, tcp_wmem).
const BUFFERS: usize = 16 << 20;
