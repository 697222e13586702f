//! How a server stops: in order, at once at the second signal, and never waiting for peers that do not read.

use rustix::process::Signal;

use super::peer::Peer;
use super::process::Server;

pub(super) fn a_stop_delivers_what_is_queued_and_ends_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(&["--no-banner"]);
        let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
        vm.print(b"last words");
        client.expect(b"last words");
        server.signal(signal);
        server.line_with("disconnected: server is shutting down");
        server.line_with("detached: server is shutting down");
        client.expect_end();
        vm.expect_end();
        drop((vm, client));
        server.line_with("stopped");
        assert_eq!(server.end().code(), Some(0));
    }
}

pub(super) fn an_idle_server_stops() {
    let server = Server::start(&[]);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

pub(super) fn peers_that_never_close_cannot_keep_it() {
    let server = Server::start(&["--no-banner"]);
    let (_vm, port) = Peer::vm(&server, 1);
    let _client = Peer::client(port);
    server.line_with("client attached");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

pub(super) fn a_second_signal_ends_it_at_once() {
    let server = Server::start(&["--no-banner"]);
    let (_vm, port) = Peer::vm(&server, 1);
    // It never closes, so that the stop has to wait for it.
    let _client = Peer::client(port);
    server.line_with("client attached");
    server.signal(Signal::TERM);
    server.line_with("stopping");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(128 + 15));
}

pub(super) fn a_stderr_that_nobody_reads_holds_nothing_up() {
    let server = Server::start(&["--no-banner", "--debug"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    server.stop_reading();
    // Two log lines each: several times what the pipe holds.
    for _ in 0..2000 {
        drop(Peer::connect(port));
    }
    vm.print(b"still here");
    client.expect(b"still here");
    client.print(b"k");
    vm.expect(b"k");
    server.signal(Signal::TERM);
    client.expect_end();
    vm.expect_end();
    drop((vm, client));
    assert_eq!(server.end().code(), Some(0));
}
