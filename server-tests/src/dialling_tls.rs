//! Connections that a server makes over TLS, and serial lines that make them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::peer::Peer;
use super::process::Server;
use super::secure::Files;

/// One that takes each connection over TLS with this certificate, and says back what it hears, if it hears
/// anything. Where it is.
fn echo(files: &Files) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![files.certificate()], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || {
                let mut stream = StreamOwned::new(session, stream);
                let mut bytes = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

pub(super) fn a_target_is_connected_to_over_tls_if_its_certificate_is_trusted() {
    let (own, other) = (Files::new("dialled"), Files::new("dialled-other"));
    let port = echo(&own);
    let forward = format!("vm1=tls://localhost:{port}");
    // Whom it is for counts: this one is for another name, and for an address.
    let allow = "tls://*";
    let server = Server::start(&[
        "--forward",
        &forward,
        "--dial-allow",
        allow,
        "--dial-ca",
        &own.cert,
        "--no-vm-ports",
    ]);
    let _vm = Peer::vm_without_port(&server, 1);
    let line = server.line_with("NotValidForName");
    assert!(line.contains("tls://localhost"), "{line}");
    let mut vm = Peer::connect(server.vms).introduced_for(2, &format!("ssl://127.0.0.1:{port}"));
    vm.print(b"said back");
    vm.expect(b"said back");

    let forward = format!("*=tls://127.0.0.1:{port}");
    let server = Server::start(&["--forward", &forward, "--dial-ca", &other.cert, "--no-vm-ports"]);
    let _vm = Peer::vm_without_port(&server, 1);
    server.line_with("tls failed");
    server.line_with("target is down");
}

/// A port that nobody listens at.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn a_line_that_connects_over_tls_is_a_console_once_its_handshake_is_over() {
    let files = Files::new("tls-line");
    let lines = ["plc1=tls", "plc2=telnets"];
    let [raw, telnet] = lines.map(|_| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let options = [(lines[0], raw), (lines[1], telnet)].map(|(line, at)| format!("{line}://{at}?listen"));
    let without = super::process::run(&["--line", &options[0]]);
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(
        !without.status.success() && said.contains("a line at tls://:PORT needs a certificate"),
        "{said}"
    );
    let words = ["--line", &options[0], "--line", &options[1], "--vm-port-scrollback", "1K"];
    let server = Server::start(&files.options(&words));
    let mut stranger = Peer::connect(raw);
    stranger.send(b"no TLS");
    assert!(stranger.is_cut_off());
    let line = server.line_with("tls failed: ");
    assert!(!line.contains("plc1"), "{line}");
    for (name, at) in [("plc1", raw), ("plc2", telnet)] {
        let mut line = files.connect(at);
        if name == "plc2" {
            line = line.answering();
        }
        line.send(b"early ");
        let identified = server.line_with("vm identified");
        assert!(identified.contains(name), "{identified}");
        let port: u16 = identified.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        let mut client = Peer::client((server.vms.ip(), port).into());
        server.line_with("client attached");
        // It was printed before the client came, or only just reaches the server.
        client.expect_somewhere(b"early ");
        Peer::talk(&mut line, &mut client);
    }
}
