//! The listener's own TLS.

use crate::authority::{Authority, Folder};
use crate::browser::{Frame, Socket, get, until};
use crate::processes::{Gateway, Server};

#[test]
fn all_is_in_tls_sockets_as_well_and_a_new_certificate_is_shown_after_a_hangup() {
    let server = Server::start("tls", &[]);
    let mut vm = server.vm(1, "web1");
    let (folder, old, new) = (Folder::new(), Authority::new(), Authority::new());
    let cert = folder.write("cert.pem", &old.server());
    let lab = format!("lab={}", server.socket.display());
    let mut gateway = Gateway::start(&["--server", &lab, "--cert", &cert], Some(old.client()));
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web1/socket", "vspc.v1");
    socket.notice("attached");
    folder.write("cert.pem", "no certificate");
    gateway.hang_up();
    gateway.process.line_with("the certificate from before stays");
    assert_eq!(get(&gateway, "/healthz").status, 200);
    folder.write("cert.pem", &new.server());
    gateway.hang_up();
    gateway.process.line_with("the certificate was read again");
    gateway.tls = Some(new.client());
    assert_eq!(get(&gateway, "/healthz").status, 200);
    // Who is connected stays so.
    vm.print(b"login: ");
    assert_eq!(socket.next(), Frame::Bytes(b"login: ".to_vec()));
    gateway.tls = None;
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| get(&gateway, "/healthz").status));
    assert!(refused.is_err(), "it was answered in clear");
}

#[test]
fn a_file_that_cannot_be_used_ends_it_at_start() {
    let folder = Folder::new();
    let cert = folder.write("cert.pem", "no certificate");
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_vspc-web"))
        .args(["--listen", "127.0.0.1:0", "--cert", &cert])
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let words = String::from_utf8(ended.stderr).unwrap();
    assert!(words.contains(&cert) && words.contains("no certificate in it"), "{words}");
}

#[test]
fn who_was_trusted_by_a_ca_that_is_not_any_more_is_gone_with_all_that_he_has_open() {
    let server = Server::start("distrusted", &[]);
    let _vm = server.vm(1, "web1");
    let (folder, own, old, new) = (Folder::new(), Authority::new(), Authority::new(), Authority::new());
    let (cert, ca) = (folder.write("cert.pem", &own.server()), folder.write("ca.pem", &old.pem()));
    let lab = format!("lab={}", server.socket.display());
    let options = ["--server", &lab, "--cert", &cert, "--client-ca", &ca, "--other-role", "read"];
    let mut gateway = Gateway::start(&options, Some(own.client_as(&old, "ann")));
    until(&gateway, "/api/v1/consoles", |list| list["consoles"][0]["name"] == "web1");
    let mut socket = Socket::open(&gateway, "/api/v1/consoles/web1/socket", "vspc.v1");
    socket.notice("attached");
    let mut wire = gateway.connect();
    let request = format!("GET /api/v1/me HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address);
    let answer = |wire: &mut dyn crate::processes::Wire, until: &str| {
        wire.write_all(request.as_bytes()).unwrap();
        let mut seen = Vec::new();
        let mut buf = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(until) {
            let n = wire.read(&mut buf).unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buf[..n]);
        }
    };
    answer(&mut *wire, "\"user\":\"ann\"");
    // What is read again and is the same ends nothing.
    gateway.hang_up();
    gateway.process.line_with("the certificate was read again");
    answer(&mut *wire, "\"user\":\"ann\"");
    folder.write("ca.pem", &new.pem());
    gateway.hang_up();
    gateway.process.line_with("the certificate was read again");
    socket.closes(1008, "the certificate counts no more, or its role is another");
    answer(&mut *wire, "not-known");
    gateway.tls = Some(own.client_as(&new, "bob"));
    assert_eq!(get(&gateway, "/api/v1/me").json()["user"], "bob");
}
