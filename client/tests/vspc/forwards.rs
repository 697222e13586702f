//! `vspc forward`: connections into a guest, and out of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::server::FakeServer;
use crate::surround;

struct Forward {
    child: Child,
    out: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

impl Forward {
    fn start(server: &FakeServer, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
        surround(&mut command, server);
        command.args(["forward", "web01"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        Self { child, out, errors }
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn complains(&mut self) -> String {
        let mut line = String::new();
        self.errors.read_line(&mut line).unwrap();
        line
    }

    /// Where it says that it listens.
    fn place(&mut self) -> String {
        self.says().split(" -> ").next().unwrap().to_owned()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bytes(n: u32) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn connections_go_into_the_guest_and_each_direction_ends_by_itself() {
    let server = FakeServer::start(&["web01"]);
    let mut forward = Forward::start(&server, &["-L", "0:127.0.0.1:7"]);
    let place = forward.place();
    assert!(place.starts_with("127.0.0.1:"), "{place}");
    let mut quiet = TcpStream::connect(&place).unwrap();
    let socket = TcpStream::connect(&place).unwrap();
    let (sent, mut read) = (bytes(400_000), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(&sent).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        (&socket).read_to_end(&mut read).unwrap();
    });
    assert_eq!((&read[..sent.len()], &read[sent.len()..]), (&sent[..], &b"bye"[..]));
    quiet.write_all(b"still here").unwrap();
    let mut echo = [0; 10];
    quiet.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still here");
    server.lose_guest();
    assert!(quiet.read(&mut echo).is_err(), "a reset is passed on");
}

#[test]
fn what_nobody_listens_for_in_the_guest_is_reset_and_told_and_the_next_one_goes_on() {
    let server = FakeServer::start(&["web01"]);
    let mut forward = Forward::start(&server, &["-L", "0:127.0.0.1:9", "-L", "0:localhost:7"]);
    let (refused, echo) = (forward.place(), forward.place());
    assert!(TcpStream::connect(refused).unwrap().read(&mut [0]).is_err());
    assert_eq!(forward.complains(), "vspc: tcp:127.0.0.1:9: web01: nobody listens there (by the script)\n");
    let mut socket = TcpStream::connect(echo).unwrap();
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_unix_socket_leads_into_the_guest_and_its_file_goes_with_it() {
    let server = FakeServer::start(&["web01"]);
    let path = format!("{}/forward-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let mut forward = Forward::start(&server, &["-L", &format!("unix:{path}:unix:/run/echo")]);
    assert_eq!(forward.says(), format!("unix:{path} -> web01 unix:/run/echo\n"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "it is this user's alone");
    let mut socket = UnixStream::connect(&path).unwrap();
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    kill_process(Pid::from_raw(forward.child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
    forward.child.wait().unwrap();
    assert!(!Path::new(&path).exists());
}

#[test]
fn connections_of_the_guests_lead_to_a_place_here() {
    let server = FakeServer::start(&["web01"]);
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = here.local_addr().unwrap();
    let mut forward = Forward::start(&server, &["-R", &format!("db:{to}"), "--once"]);
    assert_eq!(forward.says(), format!("web01 db -> {to}\n"));
    server.connect_in_guest("db");
    let (mut socket, _) = here.accept().unwrap();
    let mut read = [0; 14];
    socket.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"from the guest");
    server.await_note("{\"ok\":{}}");
    socket.write_all(b"to the guest").unwrap();
    drop(socket);
    server.await_note("taken: to the guest");
    assert!(forward.child.wait().unwrap().success());
}

#[test]
fn a_connection_of_the_guests_that_leads_nowhere_is_refused_there() {
    let server = FakeServer::start(&["web01"]);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut forward = Forward::start(&server, &["-R", &format!("db:{gone}")]);
    forward.says();
    server.connect_in_guest("db");
    let said = forward.complains();
    assert!(said.starts_with(&format!("vspc: db from 127.0.0.1:1, to {gone}: Connection refused")), "{said}");
    server.await_note_that("\"code\":\"refused\"");
}

#[test]
fn forwards_go_on_when_the_server_was_started_anew() {
    let server = FakeServer::start(&["web01"]);
    let mut forward = Forward::start(&server, &["-L", "0:127.0.0.1:7"]);
    let place = forward.place();
    let mut before = TcpStream::connect(&place).unwrap();
    before.write_all(b"x").unwrap();
    before.read_exact(&mut [0]).unwrap();
    server.die();
    assert!(before.read(&mut [0]).is_err());
    let mut socket = TcpStream::connect(&place).unwrap();
    server.rise_anew(b"");
    socket.write_all(b"y").unwrap();
    let mut echo = [0];
    socket.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"y");
}

#[test]
fn a_console_of_the_same_vm_is_not_taken_for_the_one_that_was_forwarded_to() {
    let server = FakeServer::start(&["web01", "web01/shell"]);
    server.are_of_one_vm();
    let mut forward = Forward::start(&server, &["-L", "0:127.0.0.1:7"]);
    let place = forward.place();
    server.die();
    server.exchange_ids();
    server.rise();
    let mut socket = TcpStream::connect(&place).unwrap();
    socket.write_all(b"x").unwrap();
    socket.read_exact(&mut [0]).unwrap();
    assert_eq!(server.await_request("open")["console"], "2.1");
}

#[test]
fn a_connection_that_the_server_refuses_is_let_go_of_and_another_one_stays() {
    let server = FakeServer::start(&["web01"]);
    let mut forward = Forward::start(&server, &["-L", "0:127.0.0.1:7"]);
    let place = forward.place();
    let mut stays = TcpStream::connect(&place).unwrap();
    let mut is_echoed = || {
        stays.write_all(b"x").unwrap();
        stays.read_exact(&mut [0]).unwrap();
    };
    is_echoed();
    server.agent_is_away(true);
    assert!(TcpStream::connect(&place).unwrap().read(&mut [0]).is_err());
    assert_eq!(forward.complains(), "vspc: tcp:127.0.0.1:7: no agent has answered\n");
    server.await_note("reset refused");
    // It is told of twice.
    server.resets_refused();
    assert!(TcpStream::connect(&place).unwrap().read(&mut [0]).is_err());
    assert!(forward.complains().starts_with("vspc: tcp:127.0.0.1:7: "));
    is_echoed();
}
