//! Behind a proxy that says whom it forwards: what it says counts, in clear and in front of TLS, and nobody
//! else's word does.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::{Folder, is_here};

pub(super) const V1: &[u8] = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 13370\r\n";

/// The same as version 2, with a TLV.
pub(super) const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xcb\0\x71\x09\x0a\0\0\x01\x12\x67\x34\x3a\x04\0\x02\0\0";

pub(super) const FROM: &str = "peer=203.0.113.9:4711";

/// A connection that a proxy has made for somebody.
pub(super) fn forwarded(to: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(header).unwrap();
    stream
}

pub(super) fn whom_a_proxy_forwards_is_told_as_if_it_had_come_itself() {
    let server = Server::start(&["--proxy-protocol-from", "127.0.0.0/8", "--no-banner"]);
    for (header, number) in [(V1, 1), (V2, 2)] {
        let mut vm = Peer::connected(forwarded(server.vms, header)).introduced(number);
        let line = server.line_with("vm identified");
        assert!(line.contains(FROM), "{line}");
        let port: u16 = line.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        let port = SocketAddr::new(server.vms.ip(), port);
        let mut client = Peer::connected(forwarded(port, header)).answering();
        let line = server.line_with("client attached");
        assert!(line.contains(FROM), "{line}");
        Peer::talk(&mut vm, &mut client);
    }
    let mut stranger = Peer::connect(server.vms);
    stranger.introduce(3);
    assert!(stranger.is_cut_off());
    let line = server.line_with("no PROXY header");
    assert!(line.contains("--proxy-protocol-from") && line.contains("peer=127.0.0.1:"), "{line}");
}

pub(super) fn whoever_may_connect_to_a_unix_socket_can_be_a_proxy() {
    let folder = Folder::new("proxied");
    let path = folder.0.join("vm");
    let place = path.display().to_string();
    let server = Server::start(&["--vm-listen", &place, "--proxy-protocol-from", "unix"]);
    server.line_with(&format!("listening on {place}"));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(V2).unwrap();
    let _vm = Peer::connected(TcpStream::from(OwnedFd::from(stream))).introduced(1);
    let line = server.line_with("vm identified");
    assert!(line.contains(FROM), "{line}");
    // By TCP nobody is asked, and nobody believed.
    let _other = Peer::vm(&server, 2);
    let mut liar = Peer::connected(forwarded(server.vms, V1));
    liar.introduce(3);
    let line = server.line_with("vm identified");
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
}

pub(super) fn haproxy_says_in_both_versions_whom_it_forwards() {
    if !is_here("haproxy") {
        return;
    }
    let server = Server::start(&["--proxy-protocol-from", "127.0.0.1"]);
    for (number, send) in [(1, "send-proxy"), (2, "send-proxy-v2 proxy-v2-options crc32c,unique-id")] {
        let haproxy = Haproxy::start(server.vms, send);
        let stream = haproxy.connect();
        let at = stream.local_addr().unwrap();
        let mut vm = Peer::connected(stream).introduced(number);
        let line = server.line_with("vm identified");
        assert!(line.contains(&format!("peer={at}")), "{line}");
        vm.print(b"through");
    }
}

/// One that forwards to a server, and says so in its way.
struct Haproxy {
    child: Child,
    at: SocketAddr,
    _folder: Folder,
}

impl Haproxy {
    fn start(to: SocketAddr, send: &str) -> Self {
        let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = Folder::new(&format!("haproxy-{}", at.port()));
        let config = folder.0.join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
             listen vms\n bind {at}\n server vspc {to} {send}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), at, _folder: folder }
    }

    fn connect(&self) -> TcpStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpStream::connect(self.at) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::yield_now();
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
