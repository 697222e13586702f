//! TLS with real programs, as they come. One that is not here is skipped (see `programs`).

use std::io::Write;
use std::process::{Command, Stdio};

use super::peer::Peer;
use super::process::Server;
use super::programs::{Program, is_here};
use super::secure::{ClientFiles, Files, NAME};

pub(super) fn openssl_types_into_a_vm_and_reads_from_it() {
    if !is_here("openssl") {
        return;
    }
    let files = Files::new("openssl");
    let server = Server::start(&files.options(&["--client-tls", "--debug"]));
    let (mut vm, port) = Peer::vm(&server, 1);
    for (arguments, terms) in [
        (&["-tls1_2"][..], "tls up: TLSv1_2"),
        (&["-tls1_3", "-verify_hostname", NAME, "-servername", NAME], "tls up: TLSv1_3"),
        // The name it asks for changes nothing, and neither do an address or none at all.
        (&["-servername", "other.test"], "tls up"),
        (&["-servername", "10.1.2.3"], "tls up"),
        (&["-noservername"], "tls up"),
        // Suites of old and of cautious hosts.
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        (&["-curves", "P-256"], "tls up"),
    ] {
        let mut openssl = Program::start(&s_client(&port.to_string(), &files, arguments));
        server.line_with(terms);
        server.line_with("client attached");
        openssl.input.write_all(b"root").unwrap();
        vm.expect(b"root");
        vm.print(b"Password: ");
        openssl.expect(b"Password: ");
    }
}

pub(super) fn openssl_can_be_a_host() {
    if !is_here("openssl") {
        return;
    }
    for (version, terms) in [("-tls1_2", "tls up: TLSv1_2"), ("-tls1_3", "tls up: TLSv1_3")] {
        let files = Files::new(&format!("host{version}"));
        let server = Server::start(&files.options(&["--ssl", "--debug"]));
        let mut openssl = Program::start(&s_client(&server.vms.to_string(), &files, &[version]));
        openssl.input.write_all(b"\xff\xfb\xe8\xff\xfb\x00\xff\xfb\x03\xff\xfd\x00\xff\xfd\x03").unwrap();
        openssl
            .input
            .write_all(b"\xff\xfa\xe8\x00\x00\x01\x02\x03\x46\x47\x49\x50\x51\x52\x53\xff\xf0")
            .unwrap();
        openssl.input.write_all(b"\xff\xfa\xe8\x46Stest\xff\xf0").unwrap();
        let uuid = b"\xff\xfa\xe8\x5000 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff\xff\xf0";
        openssl.input.write_all(uuid).unwrap();
        openssl.input.write_all(b"\xff\xfa\xe8\x52vm1\xff\xf0").unwrap();
        openssl.expect(b"\xff\xfa\xe8\x47");
        server.line_with(terms);
        let mut client = Peer::client(server.next_client_port());
        server.line_with("client attached");
        client.print(b"k");
        openssl.expect(b"k");
        openssl.input.write_all(b"login: ").unwrap();
        client.expect(b"login: ");
    }
}

pub(super) fn what_is_older_than_tls_1_2_is_refused_and_the_log_says_so() {
    if !is_here("openssl") {
        return;
    }
    let files = Files::new("old");
    let server = Server::start(&files.options(&["--ssl", "--client-tls"]));
    let _vm = files.connect(server.vms).introduced(1);
    let port = server.next_client_port();
    for to in [server.vms, port] {
        for version in ["-tls1", "-tls1_1"] {
            // Openssl itself refuses these unless told that they may be weak.
            let weak = [version, "-cipher", "DEFAULT:@SECLEVEL=0"];
            let shown = Program::start(&s_client(&to.to_string(), &files, &weak)).end();
            assert!(shown.is_empty(), "{shown:?}");
            server.line_with("tls failed: nothing in common");
        }
    }
}

pub(super) fn openssl_is_let_in_by_its_certificate_and_not_without() {
    if !is_here("openssl") {
        return;
    }
    let (files, alice) = (Files::new("openssl-mtls"), ClientFiles::new("openssl-alice"));
    let ca = alice.ca.to_str().unwrap();
    let server = Server::start(&files.options(&["--client-tls", "--client-ca", ca]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let port = port.to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let (cert, key) = (alice.cert.to_str().unwrap(), alice.key.to_str().unwrap());
        let mut openssl = Program::start(&s_client(&port, &files, &[version, "-cert", cert, "-key", key]));
        server.line_with("client attached");
        openssl.input.write_all(b"k").unwrap();
        vm.expect(b"k");
        let shown = Program::start(&s_client(&port, &files, &[version])).end();
        assert!(shown.is_empty(), "{shown:?}");
        server.line_with("tls failed: it shows no certificate, and needs one here");
    }
}

pub(super) fn telnet_ssl_types_into_a_vm_and_reads_from_it() {
    if !is_here("telnet-ssl") {
        return;
    }
    let files = Files::new("telnet-ssl");
    let cert = &files.cert;
    let server = Server::start(&["--client-tls", "--cert", cert, "--key", &files.key]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let trust = format!("cacert={cert}");
    let mut telnet =
        Program::at(port, &["telnet-ssl", "-z", "ssl", "-z", "secure", "-z", &trust, "-z", "verify=1"]);
    telnet.converse(&mut vm);
}

/// It is no VM, but it goes over to TLS in the way that a host does.
pub(super) fn telnet_ssl_goes_over_to_tls_where_hosts_connect() {
    if !is_here("telnet-ssl") {
        return;
    }
    let files = Files::new("telnet-ssl-upgrade");
    let server = Server::start(&files.options(&["--in-band-tls", "require", "--debug"]));
    let trust = format!("cacert={}", files.cert);
    let mut telnet = Program::at(server.vms, &["telnet-ssl", "-z", "secure", "-z", &trust]);
    server.line_with("tls up: TLSv1_3");
    // Inside TLS it is asked whether it is a VM, and says that it is not.
    server.line_with("not a vm");
    let shown = String::from_utf8(telnet.end()).unwrap();
    assert!(shown.contains("serial ports of virtual machines"), "{shown}");
}

pub(super) fn python_takes_the_server_for_whom_it_is() {
    if !is_here("python3") {
        return;
    }
    let files = Files::new("python");
    let server = Server::start(&files.options(&["--client-tls"]));
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut python = Program::start(&["python3", "-c", PYTHON, &port.port().to_string(), &files.cert, NAME]);
    server.line_with("client attached");
    vm.print(b"login: ");
    vm.expect(b"root");
    vm.print(b"Password: ");
    vm.expect(b"secret");
    assert_eq!(python.end(), b"done\n");
    // Another name, or nobody to vouch for it: the client ends the handshake, and the log says so.
    for (name, trusted) in [("other.test", files.cert.as_str()), (NAME, "")] {
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON, &port.port().to_string(), trusted, name]).stdin(Stdio::null());
        assert!(!python.stderr(Stdio::null()).status().unwrap().success());
        server.line_with("tls failed: the peer ended it with the alert");
    }
}

/// Reads two prompts and answers them.
const PYTHON: &str = r#"
import socket, ssl, sys
port, trusted, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.create_default_context(cafile=trusted or None)
with socket.create_connection(("127.0.0.1", port)) as plain:
    with context.wrap_socket(plain, server_hostname=name) as tls:
        for prompt, answer in ((b"login: ", b"root"), (b"Password: ", b"secret")):
            read = b""
            while not read.endswith(prompt):
                read += tls.recv(100)
            tls.sendall(answer)
        print("done")
"#;

/// Openssl's client on pipes, which shows what the server sends and ends when the server does.
fn s_client<'a>(to: &'a str, files: &'a Files, more: &[&'a str]) -> Vec<&'a str> {
    let trust = ["-CAfile", &files.cert, "-verify_return_error"];
    [&["openssl", "s_client", "-quiet", "-connect", to], &trust[..], more].concat()
}
