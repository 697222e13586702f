//! TLS on every kind of connection: what passes without it passes with it, and what is no TLS is told so.

use std::io::Read;
use std::net::SocketAddr;

use rustix::process::Signal;

use super::peer::{DO, IAC, Peer, SB, SE, WILL, WONT};
use super::process::Server;
use super::proxies::{FROM, V1, V2, forwarded};
use super::secure::{ClientFiles, Files};

pub(super) fn a_vm_and_a_client_talk_over_tls_both() {
    let files = Files::new("both");
    let server = Server::start(&files.options(&["--tls", "on", "--client-tls", "--debug"]));
    let mut vm = files.connect(server.vms).introduced(1);
    let port = server.next_client_port();
    let mut client = files.connect(port).answering();
    server.line_with("tls up: TLSv1_3");
    server.line_with("client attached");
    Peer::talk(&mut vm, &mut client);
}

pub(super) fn megabytes_arrive_whole_over_tls_in_both_directions_at_once() {
    let files = Files::new("megabytes");
    let server = Server::start(&files.options(&["--ssl", "--client-tls", "--slow-client", "wait"]));
    let (vm, client) = files.vm_and_client(&server);
    Peer::exchange_megabytes(vm, client, 4);
}

pub(super) fn telnet_and_tls_are_served_on_one_port() {
    let files = Files::new("auto");
    let server = Server::start(&files.options(&["--tls", "auto"]));
    let (mut plain, plain_port) = Peer::vm(&server, 1);
    let mut secure = files.connect(server.vms).introduced(2);
    let secure_port = server.next_client_port();
    for (vm, port) in [(&mut plain, plain_port), (&mut secure, secure_port)] {
        let mut client = Peer::client(port);
        server.line_with("client attached");
        Peer::talk(vm, &mut client);
    }
}

pub(super) fn telnet_on_a_port_for_tls_is_closed_and_the_log_says_why() {
    let files = Files::new("plain");
    let server = Server::start(&files.options(&["--tls", "on", "--client-tls"]));
    let _vm = files.connect(server.vms).introduced(1);
    let port = server.next_client_port();
    for to in [server.vms, port] {
        let mut stranger = Peer::connect(to);
        stranger.send(&[IAC, WILL, 232]);
        assert!(stranger.is_cut_off());
        let line = server.line_with("tls failed: ");
        assert!(line.contains("does not speak tls") && line.contains(" peer=127.0.0.1:"), "{line}");
    }
}

pub(super) fn peers_that_begin_no_handshake_keep_nobody_waiting() {
    let files = Files::new("silent");
    let server = Server::start(&files.options(&["--tls", "on", "--client-tls"]));
    let _silent: Vec<Peer> = (0..50).map(|_| Peer::connect(server.vms)).collect();
    let mut vm = files.connect(server.vms).introduced(1);
    let port = server.next_client_port();
    let _silent_clients: Vec<Peer> = (0..50).map(|_| Peer::connect(port)).collect();
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    vm.print(b"text");
    client.expect(b"text");
}

pub(super) fn a_host_goes_over_to_tls_when_it_offers_to() {
    for policy in ["offer", "require"] {
        let files = Files::new(policy);
        let server = Server::start(&files.options(&["--in-band-tls", policy, "--debug"]));
        let mut vm = upgraded(&files, &server).introduced(1);
        server.line_with("tls up: TLSv1_3");
        let mut client = Peer::client(server.next_client_port());
        server.line_with("client attached");
        Peer::talk(&mut vm, &mut client);
    }
}

pub(super) fn a_host_that_stays_in_clear_is_served_unless_tls_is_required() {
    let files = Files::new("clear");
    let server = Server::start(&files.options(&["--in-band-tls", "offer"]));
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    vm.print(b"text");
    client.expect(b"text");

    let server = Server::start(&files.options(&["--in-band-tls", "require"]));
    let mut vm = Peer::connect(server.vms);
    let mut asked = [0; 3];
    // Nothing before that: what a host says about itself is for those who have shown who they are.
    vm.stream.read_exact(&mut asked).unwrap();
    assert_eq!(asked, [IAC, DO, 37]);
    vm.send(&[IAC, WONT, 37]);
    vm.expect_end();
    server.line_with("did not go over to tls, which is required");
}

pub(super) fn a_client_is_let_in_by_its_certificate_and_not_without() {
    let (files, alice, mallory) =
        (Files::new("mtls"), ClientFiles::new("alice"), ClientFiles::new("mallory"));
    let ca = alice.ca.to_str().unwrap();
    let server = Server::start(&files.options(&["--client-tls", "--client-ca", ca]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = files.connect_as(&alice, port).answering();
    server.line_with("client attached");
    client.print(b"k");
    vm.expect(b"k");
    let mut nobody = files.connect(port);
    server.line_with("tls failed: it shows no certificate, and needs one here");
    assert!(nobody.is_cut_off());
    let mut mallory = files.connect_as(&mallory, port);
    server.line_with("tls failed: its certificate is not accepted");
    assert!(mallory.is_cut_off());
    client.print(b"l");
    vm.expect(b"l");
}

pub(super) fn a_client_that_ends_its_input_over_tls_goes_on_reading() {
    let files = Files::new("halves");
    let server = Server::start(&files.options(&["--client-tls"]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = files.connect(port).answering();
    server.line_with("client attached");
    client.print(b"halt\r");
    client.end_input();
    vm.expect(b"halt\r");
    vm.print(b"bye");
    client.expect(b"bye");
}

pub(super) fn a_stop_delivers_what_is_queued_and_ends_tls_in_order() {
    let files = Files::new("stop");
    let server = Server::start(&files.options(&["--ssl", "--client-tls"]));
    let (mut vm, mut client) = files.vm_and_client(&server);
    vm.print(b"last words");
    client.expect(b"last words");
    server.signal(Signal::TERM);
    client.expect_end();
    vm.expect_end();
    drop((vm, client));
    server.line_with("stopped");
    assert_eq!(server.end().code(), Some(0));
}

/// A host that has gone over to TLS on a telnet connection, byte by byte as in tls-in-band.md §2.
fn upgraded(files: &Files, server: &Server) -> Peer {
    let mut vm = Peer::connect(server.vms);
    vm.send(&[IAC, WILL, 37]);
    let mut send = [0; 11];
    vm.stream.read_exact(&mut send).unwrap();
    assert_eq!(send, [IAC, DO, 37, IAC, SB, 37, 1, 7, 0, IAC, SE]);
    vm.send(&[IAC, SB, 37, 0, 7, 0, 1, IAC, SE]);
    let mut accept = [0; 9];
    vm.stream.read_exact(&mut accept).unwrap();
    assert_eq!(accept, [IAC, SB, 37, 2, 7, 0, 2, IAC, SE]);
    files.secure(vm.stream)
}

pub(super) fn tls_begins_behind_a_proxys_header() {
    let files = Files::new("behind");
    let options = ["--tls", "on", "--client-tls", "--proxy-protocol-from", "127.0.0.1", "--debug"];
    let server = Server::start(&files.options(&options));
    let mut vm = files.secure(forwarded(server.vms, V2)).introduced(1);
    let line = server.line_with("vm identified");
    assert!(line.contains(FROM), "{line}");
    let port: u16 = line.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let port = SocketAddr::new(server.vms.ip(), port);
    let mut client = files.secure(forwarded(port, V1)).answering();
    let line = server.line_with("client attached");
    assert!(line.contains(FROM), "{line}");
    Peer::talk(&mut vm, &mut client);
}
