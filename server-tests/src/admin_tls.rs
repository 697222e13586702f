//! TLS on the admin port: the same dialects within it, and operators known by their certificates.

use std::net::TcpStream;

use rustix::process::Signal;

use super::admin_socket::{has, hello_on, list_on};
use super::peer::Peer;
use super::process::{PATIENCE, Server, run};
use super::secure::{ClientFiles, Files};

/// The near end of a connection, which gives up waiting.
fn patient(peer: Peer) -> TcpStream {
    peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.stream
}

pub(super) fn the_admin_port_lists_within_tls_and_in_clear_where_either_is_welcome() {
    for (when, in_clear) in [("on", false), ("auto", true)] {
        let files = Files::new(&format!("admin-{when}"));
        let server = Server::start(&files.options(&["--admin-tls", when]));
        let admin = server.admin_port();
        let (_vm, _) = Peer::vm(&server, 1);
        assert!(has(&list_on(patient(files.connect(admin))), b"vm1"));
        assert!(hello_on(patient(files.connect(admin))).contains("\"rights\":\"writer\""));
        if in_clear {
            assert!(has(&list_on(patient(Peer::connect(admin))), b"vm1"));
        } else {
            let mut stranger = Peer::connect(admin);
            stranger.send(b"\x80\x04K\x03.");
            assert!(stranger.is_cut_off());
            server.line_with("tls failed: it does not speak tls");
        }
    }
}

pub(super) fn an_operator_is_known_by_its_certificate_and_without_one_not_let_in() {
    let (files, alice, mallory) =
        (Files::new("admin-ca"), ClientFiles::new("admin-alice"), ClientFiles::new("admin-mallory"));
    let ca = alice.ca.to_str().unwrap();
    let rights = ["--admin-tls", "on", "--admin-ca", ca, "--admin-rights", "cert:alice=operator"];
    let server = Server::start(&files.options(&rights));
    let admin = server.admin_port();
    let answer = hello_on(patient(files.connect_as(&alice, admin)));
    assert!(answer.contains("\"rights\":\"operator\""), "{answer}");
    assert!(answer.contains("\"as\":\"cert alice@127.0.0.1\""), "{answer}");
    let mut nobody = files.connect(admin);
    server.line_with("tls failed: it shows no certificate, and needs one here");
    assert!(nobody.is_cut_off());
    let mut other = files.connect_as(&mallory, admin);
    server.line_with("tls failed: its certificate is not accepted");
    assert!(other.is_cut_off());
}

pub(super) fn a_new_certificate_is_served_on_the_admin_port_too() {
    let files = Files::new("admin-reload");
    let server = Server::start(&files.options(&["--admin-tls", "on"]));
    let admin = server.admin_port();
    assert!(hello_on(patient(files.connect(admin))).contains("writer"));
    files.renew();
    server.signal(Signal::HUP);
    server.line_with("certificate ");
    // It trusts the new one only.
    assert!(hello_on(patient(files.connect(admin))).contains("writer"));
}

pub(super) fn an_admin_port_that_the_network_reaches_is_warned_of_unless_certificates_are_asked_for() {
    let (files, alice) = (Files::new("admin-open"), ClientFiles::new("admin-open-alice"));
    let ca = alice.ca.to_str().unwrap();
    let open = ["--admin-iface", "0.0.0.0", "--admin-port", "0", "--proxy-iface", "192.0.2.1"];
    for (options, warned) in [
        (vec!["--admin-tls", "off", "--client-tls"], Some("without TLS")),
        (vec!["--admin-tls", "auto"], Some("without TLS")),
        (vec!["--admin-tls", "on"], Some("--admin-ca")),
        (vec!["--admin-tls", "on", "--admin-ca", ca, "--require-tls"], None),
    ] {
        // It ends because that address is not its own.
        let output = run(&[&open[..], &files.options(&options)].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.lines().find(|line| line.contains("the admin port on 0.0.0.0 is open"));
        match warned {
            Some(words) => assert!(line.is_some_and(|line| line.contains(words)), "{options:?}: {text}"),
            None => assert_eq!(line, None, "{options:?}"),
        }
    }
    let output = run(&[&open[..], &files.options(&["--admin-tls", "auto", "--require-tls"])].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--require-tls") && text.contains("--admin-tls on"), "{text}");
}
