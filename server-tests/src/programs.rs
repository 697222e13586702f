//! Real programs at the client port: what people have on their machines. A program that is not here is
//! skipped, unless `VSPC_REQUIRE_PEERS` says that it has to be.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vspc_conformance::fake_vm::gdb_stub::GdbStub;

use super::peer::Peer;
use super::process::{PATIENCE, Server};

pub(super) fn telnet_types_into_a_vm_and_reads_from_it() {
    if is_here("telnet") {
        holds_a_conversation(&["telnet"]);
    }
}

pub(super) fn busybox_telnet_types_into_a_vm_and_reads_from_it() {
    if is_here("busybox") {
        holds_a_conversation(&["busybox", "telnet"]);
    }
}

pub(super) fn nc_gets_the_vms_bytes_and_nothing_else_after_the_offers() {
    if !is_here("nc") {
        return;
    }
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut nc = Program::at(port, &["nc"]);
    server.line_with("client attached");
    let every: Vec<u8> = (0..=255).collect();
    // `+` first: decided at once, and raw for ever.
    nc.input.write_all(b"+").unwrap();
    vm.expect(b"+");
    nc.input.write_all(&every).unwrap();
    vm.expect(&every);
    vm.print(&every);
    let mut expected = b"\xff\xfb\x00\xff\xfb\x03\xff\xfb\x01\xff\xfd\x00\xff\xfd\x03".to_vec();
    expected.extend_from_slice(&every);
    let mut got = vec![0; expected.len()];
    nc.output.read_exact(&mut got).unwrap();
    assert_eq!(got, expected);
}

/// Binary writes of every byte value, read back: a lost NUL, a doubled 0xFF or a banner would show.
pub(super) fn gdb_debugs_through_a_console() {
    if !is_here("gdb") {
        return;
    }
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let folder = Folder::new(&format!("gdb-{}", port.port()));
    let (written, read) = (folder.0.join("written"), folder.0.join("read"));
    let every: Vec<u8> = (0..1024).map(|n: u32| (n * 7) as u8).collect();
    fs::write(&written, &every).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", "set architecture i386:x86-64", "-ex"]);
    gdb.arg(format!("target remote {port}"));
    gdb.args(["-ex", &format!("restore {} binary 0x100", written.display())]);
    gdb.args(["-ex", &format!("dump binary memory {} 0x100 0x500", read.display())]);
    let gdb = thread::spawn(move || gdb.stdin(Stdio::null()).output().unwrap());
    let (mut stub, mut answer) = (GdbStub::new(), Vec::new());
    while !gdb.is_finished() {
        let Some(bytes) = vm.take() else { continue };
        stub.received(&bytes, &mut answer);
        vm.print(&answer);
        answer.clear();
    }
    let gdb = gdb.join().unwrap();
    let said = String::from_utf8_lossy(&gdb.stderr).into_owned() + &String::from_utf8_lossy(&gdb.stdout);
    assert!(fs::read(&read).is_ok_and(|read| read == every), "{said}");
}

fn holds_a_conversation(program: &[&str]) {
    let server = Server::start(&[]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut telnet = Program::at(port, program);
    telnet.converse(&mut vm);
}

/// A program on pipes, killed when dropped.
pub(super) struct Program {
    child: Child,
    pub(super) input: ChildStdin,
    output: ChildStdout,
    /// What it has shown and nobody has taken.
    pub(super) seen: Vec<u8>,
}

impl Program {
    /// A program that takes the server's address and port behind its own arguments.
    pub(super) fn at(port: std::net::SocketAddr, program: &[&str]) -> Self {
        let (ip, port) = (port.ip().to_string(), port.port().to_string());
        Self::start(&[program, &[&ip, &port]].concat())
    }

    pub(super) fn start(program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output, seen: Vec::new() }
    }

    /// A telnet program talks with the VM: what one says reaches the other.
    pub(super) fn converse(&mut self, vm: &mut Peer) {
        // The banner shows that it has answered an offer.
        self.expect(b"connected to vm1");
        vm.print(b"login: ");
        self.expect(b"login: ");
        self.input.write_all(b"root").unwrap();
        vm.expect(b"root");
        vm.print(b"Password: ");
        self.expect(b"Password: ");
    }

    /// Waits until the program has shown these bytes.
    pub(super) fn expect(&mut self, bytes: &[u8]) {
        let mut more = [0; 4096];
        while !self.seen.windows(bytes.len()).any(|window| window == bytes) {
            let seen = String::from_utf8_lossy(&self.seen);
            let mut ready = [PollFd::new(&self.output, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "{seen:?}, and nothing more");
            let n = self.output.read(&mut more).unwrap();
            assert!(n > 0, "{seen:?} before the end");
            self.seen.extend_from_slice(&more[..n]);
        }
    }

    /// Waits until the program has ended by itself and gives what it showed that nobody has waited for.
    pub(super) fn end(&mut self) -> Vec<u8> {
        self.output.read_to_end(&mut self.seen).unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of a test's own, gone when dropped.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("vspc-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !here {
        assert!(std::env::var_os("VSPC_REQUIRE_PEERS").is_none(), "{program} has to be here");
        println!("skipped: no {program}");
    }
    here
}
