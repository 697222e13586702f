//! Connections that a server makes: consoles that are forwarded to somewhere, and VMs that ask to be
//! connected (direction `C`).

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use super::peer::Peer;
use super::process::Server;
use super::programs::Folder;

/// Somewhere to be connected to, and how that is written.
fn target() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, uri)
}

fn accepted(listener: &TcpListener) -> Peer {
    Peer::connected(listener.accept().unwrap().0)
}

pub(super) fn a_console_is_forwarded_and_what_a_target_misses_it_is_shown_later() {
    let (listener, uri) = target();
    let server = Server::start(&["--forward", &format!("vm1={uri}?hello"), "--no-vm-ports"]);
    let _other = Peer::vm_without_port(&server, 2);
    let mut vm = Peer::vm_without_port(&server, 1);
    vm.print(b"booting ");
    let mut there = accepted(&listener);
    let hello = format!("{{\"name\":\"vm1\",\"uuid\":\"{}01\"}}\r\n", "00112233445566778899aabbccddee");
    there.expect(hello.as_bytes());
    there.expect(b"booting ");
    let line = server.line_with("client attached");
    assert!(line.contains(&uri) && line.contains("vm1"), "{line}");
    Peer::talk(&mut vm, &mut there);
    // It dies, and nobody is there for a while.
    let at = listener.local_addr().unwrap();
    drop(listener);
    there.reset();
    let line = server.line_with("target is down");
    assert!(line.contains(&uri), "{line}");
    vm.print(b"meanwhile ");
    let listener = TcpListener::bind(at).unwrap();
    let mut there = accepted(&listener);
    there.expect(hello.as_bytes());
    // The one before did not last: it may have read nothing.
    there.expect(b"booting login: meanwhile ");
    Peer::talk(&mut vm, &mut there);
    // With its VM it goes.
    vm.print(b"last words");
    drop(vm);
    assert_eq!(there.expect_end(), b"last words");
}

pub(super) fn a_vm_is_connected_to_what_it_asks_for_where_that_is_allowed() {
    let (listener, uri) = target();
    let server = Server::start(&["--dial-allow", "tcp://127.0.0.1:*", "--no-vm-ports"]);
    let mut vm = Peer::connect(server.vms).introduced_for(1, &uri);
    let mut first = accepted(&listener);
    Peer::talk(&mut vm, &mut first);

    let mut refused = Peer::connect(server.vms);
    refused.introduce_for(2, "tcp://127.0.0.2:25");
    assert!(refused.is_cut_off());
    let line = server.line_with("asks to be connected to");
    assert!(line.contains("tcp://127.0.0.2:25") && line.contains("--dial-allow"), "{line}");
    let mut strange = Peer::connect(server.vms);
    strange.introduce_for(3, "tcp://127.0.0.1:1@127.0.0.2:25");
    assert!(strange.is_cut_off());
    server.line_with("no name of a host");

    // One whose target is down is served all the same, and connected when it is there.
    let (down, uri) = target();
    let at = down.local_addr().unwrap();
    drop(down);
    let mut early = Peer::connect(server.vms).introduced_for(4, &uri);
    server.line_with("target is down");
    early.print(b"first ");
    let listener = TcpListener::bind(at).unwrap();
    let mut there = accepted(&listener);
    there.expect(b"first ");
    Peer::talk(&mut early, &mut there);
    Peer::talk(&mut vm, &mut first);
}

pub(super) fn a_serial_line_is_a_console_whoever_of_the_two_connects() {
    let (listener, uri) = target();
    let folder = Folder::new("lines");
    let path = folder.0.join("plc2");
    let listened = format!("plc2=unix:{}?listen", path.display());
    let server = Server::start(&["--line", &format!("plc1={uri}"), "--line", &listened, "--no-banner"]);
    let mut first = accepted(&listener);
    let client = |name: &str| {
        let line = server.line_with(&format!("vm identified vm=\"{name}\""));
        let port: u16 = line.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        Peer::client((server.vms.ip(), port).into())
    };
    let mut at_first = client("plc1");
    server.line_with("client attached");
    first.send(b"ready ");
    at_first.expect(b"ready ");
    at_first.print(b"go\r");
    first.expect(b"go\r");
    let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut second = Peer::connected(OwnedFd::from(stream).into());
    let mut at_second = client("plc2");
    server.line_with("client attached");
    second.send(b"here");
    at_second.expect(b"here");
    at_second.print(b"too");
    second.expect(b"too");
    // It restarts, and is the same console.
    first.reset();
    let mut again = accepted(&listener);
    again.send(b"again");
    at_first.expect(b"again");
    let listed = super::process::run(&["--line", "x=pty:dev/pts/1"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(!listed.status.success() && said.contains("\"dev/pts/1\" is no path"), "{said}");
}

pub(super) fn consoles_go_where_the_file_says_from_one_hangup_to_the_next() {
    let folder = Folder::new("forwarded");
    let file = folder.0.join("vspc.toml");
    let (first, uri) = target();
    let rule = |uri: &str| format!("no-vm-ports = true\n[[console]]\nname = 'vm*'\nforward = '{uri}'\n");
    fs::write(&file, rule(&uri)).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let mut vm = Peer::vm_without_port(&server, 1);
    let mut there = accepted(&first);
    Peer::talk(&mut vm, &mut there);
    let path = folder.0.join("attach");
    let second = UnixListener::bind(&path).unwrap();
    fs::write(&file, rule(&format!("unix:{}", path.display()))).unwrap();
    server.signal(Signal::HUP);
    there.expect_end();
    let mut there = Peer::connected(OwnedFd::from(second.accept().unwrap().0).into());
    Peer::talk(&mut vm, &mut there);
    fs::write(&file, "no-vm-ports = true\n").unwrap();
    server.signal(Signal::HUP);
    there.expect_end();
    vm.print(b"alone");
}
