//! Machines of QEMU's that move from host to host while a client is attached: their relays tell the server
//! what hosts of VMware's would (docs/channels.md).

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::{Folder, is_here};
use super::relays::Running;
use super::waiting::wait_until;

/// A host with one line, which a relay speaks for.
struct Host {
    line: UnixListener,
    control: PathBuf,
    _relay: Running,
}

impl Host {
    fn new(folder: &Folder, name: &str, to: SocketAddr) -> Self {
        let (path, control) = (folder.0.join(format!("{name}.sock")), folder.0.join(format!("{name}.ctl")));
        let line = UnixListener::bind(&path).unwrap();
        let relay = Running::of(&format!(
            "control = 'unix:{}'\n[[line]]\nfrom = 'unix:{}'\nname = 'vm'\nuuid = '{UUID}'\n\
             to = 'tcp://{to}'",
            control.display(),
            path.display(),
        ));
        Self { line, control, _relay: relay }
    }

    fn line(&self) -> UnixStream {
        let line = self.line.accept().unwrap().0;
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        line
    }

    /// Asks the relay; returns the secret, or why it cannot be done.
    fn ask(&self, what: &str, secret: Option<&str>) -> Result<String, String> {
        let mut socket = UnixStream::connect(&self.control).unwrap();
        let request = serde_json::json!({"do": what, "line": "vm", "secret": secret});
        writeln!(socket, "{request}").unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        if answer["ok"] == true { Ok(text("secret")) } else { Err(text("error")) }
    }
}

fn expect(line: &mut UnixStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    line.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
}

/// A server, two hosts, and a client at the VM, which runs on the first.
fn ground(name: &str) -> (Server, Folder, Host, Host, UnixStream, Peer) {
    let folder = Folder::new(name);
    let server = Server::start(&["--no-banner"]);
    let source = Host::new(&folder, "source", server.vms);
    let line = source.line();
    let client = Peer::client(server.next_client_port());
    server.line_with("client attached");
    let target = Host::new(&folder, "target", server.vms);
    target.ask("expect", None).unwrap();
    (server, folder, source, target, line, client)
}

pub(super) fn a_line_whose_vm_moves_keeps_its_client_and_every_byte_in_order() {
    let (_server, _folder, source, target, mut line, mut client) = ground("move");
    let mut arrived = target.line();
    line.write_all(b"source ").unwrap();
    client.expect(b"source ");
    client.print(b"a");
    expect(&mut line, b"a");
    // It prints to its last moment.
    line.write_all(&[b'x'; 100_000]).unwrap();
    let secret = source.ask("begin", None).unwrap();
    client.print(b"held");
    target.ask("expect", Some(&secret)).unwrap();
    arrived.write_all(b" target").unwrap();
    target.ask("complete", None).unwrap();
    client.expect(&[b'x'; 100_000]);
    client.expect(b" target");
    expect(&mut arrived, b"held");
    drop(line);
    client.print(b"b");
    expect(&mut arrived, b"b");
    arrived.write_all(b" and on").unwrap();
    client.expect(b" and on");
}

pub(super) fn what_is_typed_while_a_vm_leaves_reaches_it_where_it_runs_then() {
    let (server, _folder, source, target, mut line, mut client) = ground("typed");
    // It is off: what was typed meanwhile is for the source.
    source.ask("begin", None).unwrap();
    client.print(b"stays ");
    source.ask("abort", None).unwrap();
    expect(&mut line, b"stays ");
    // The source's relay dies; the target comes all the same.
    let secret = source.ask("begin", None).unwrap();
    client.print(b"goes");
    drop((source, line));
    server.line_with("vm disconnected");
    let mut arrived = target.line();
    target.ask("expect", Some(&secret)).unwrap();
    target.ask("complete", None).unwrap();
    expect(&mut arrived, b"goes");
    Peer::talk_to_line(&mut arrived, &mut client);
}

pub(super) fn a_target_whose_relay_dies_can_be_another_one() {
    let (server, folder, source, target, line, mut client) = ground("dies");
    let secret = source.ask("begin", None).unwrap();
    client.print(b"held");
    target.ask("expect", Some(&secret)).unwrap();
    drop(target);
    let other = Host::new(&folder, "other", server.vms);
    other.ask("expect", Some(&secret)).unwrap();
    let mut arrived = other.line();
    other.ask("complete", None).unwrap();
    expect(&mut arrived, b"held");
    drop(line);
    Peer::talk_to_line(&mut arrived, &mut client);
}

impl Peer {
    /// What the line prints reaches the client, and what that types the line.
    fn talk_to_line(line: &mut UnixStream, client: &mut Self) {
        line.write_all(b"login: ").unwrap();
        client.expect(b"login: ");
        client.print(b"root\r");
        expect(line, b"root\r");
    }
}

/// A machine of QEMU's, and its relay on the same host.
pub(super) struct Machine {
    qemu: Child,
    monitor: UnixStream,
    lines: BufReader<UnixStream>,
    _relay: Running,
}

impl Machine {
    /// Starts one with a small guest that counts; `more` is for QEMU, `settings` for the line.
    fn start(folder: &Folder, name: &str, to: SocketAddr, more: &[&str], settings: &str) -> Self {
        let rom = rom(folder).display().to_string();
        Self::with(folder, name, to, &[&["-m", "16", "-bios", &rom], more].concat(), settings)
    }

    /// Starts one with a guest that `more` has.
    pub(super) fn with(folder: &Folder, name: &str, to: SocketAddr, more: &[&str], settings: &str) -> Self {
        let path = |kind: &str| folder.0.join(format!("{name}.{kind}")).display().to_string();
        let (serial, qmp, monitor) = (path("sock"), path("qmp"), path("monitor"));
        let qemu = Command::new(QEMU)
            .args(["-nodefaults", "-no-user-config", "-machine", "pc,accel=tcg", "-display", "none"])
            .args(["-serial", &format!("unix:{serial},server=on,wait=off")])
            .args(["-qmp", &format!("unix:{qmp},server=on,wait=off")])
            .args(["-qmp", &format!("unix:{monitor},server=on,wait=off")])
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let relay = Running::of(&format!(
            "[[line]]\nfrom = 'unix:{serial}'\nname = 'vm'\nuuid = '{UUID}'\nto = 'tcp://{to}'\n\
             qmp = 'unix:{qmp}'\nsecret-file = '{}'\n{settings}",
            folder.0.join("secret").display(),
        ));
        let deadline = Instant::now() + PATIENCE;
        let monitor = loop {
            match UnixStream::connect(&monitor) {
                Ok(socket) => break socket,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::yield_now();
        };
        monitor.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(monitor.try_clone().unwrap());
        let mut machine = Self { qemu, monitor, lines, _relay: relay };
        machine.wait_for("QMP");
        machine.ask("qmp_capabilities", &serde_json::json!({}));
        machine.wait_for_relay();
        machine
    }

    /// Waits until the relay is at the serial port and at QMP: what a machine prints before is lost, as on
    /// every port that nobody has opened.
    fn wait_for_relay(&mut self) {
        wait_until("the relay is at the ports", || {
            let ports = self.ask("query-chardev", &serde_json::json!({}));
            let is_open = |port: &serde_json::Value| !port["filename"].as_str().unwrap().starts_with("disc");
            ports.as_array().unwrap().iter().all(is_open)
        });
    }

    pub(super) fn ask(&mut self, command: &str, arguments: &serde_json::Value) -> serde_json::Value {
        let request = serde_json::json!({"execute": command, "arguments": arguments});
        writeln!(self.monitor, "{request}").unwrap();
        self.wait_for("return")["return"].take()
    }

    /// The next message that has this key.
    fn wait_for(&mut self, key: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            let message: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(message.get("error").is_none(), "{message}");
            if message.get(key).is_some() {
                return message;
            }
        }
    }

    /// Switches a capability of migrations on.
    fn enable(&mut self, capability: &str) {
        let capabilities = serde_json::json!([{"capability": capability, "state": true}]);
        self.ask("migrate-set-capabilities", &serde_json::json!({"capabilities": capabilities}));
    }

    /// Waits for a status of its migration.
    pub(super) fn migration_is(&mut self, status: &str) {
        wait_until(status, || self.ask("query-migrate", &serde_json::json!({}))["status"] == status);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The guest: it prints a number, counts on, and prints `>` and what was typed, each a line, for ever.
fn rom(folder: &Folder) -> PathBuf {
    let path = folder.0.join("guest.rom");
    let mut rom = vec![0; 64 << 10];
    rom[..GUEST.len()].copy_from_slice(GUEST);
    // What the processor does first: a jump to F000:0000, where the guest is.
    rom[0xFFF0..0xFFF5].copy_from_slice(&[0xEA, 0, 0, 0, 0xF0]);
    fs::write(&path, rom).unwrap();
    path
}

/// What the client of a counting guest has seen.
struct Seen {
    client: Peer,
    /// What has come of the guest's lines and was not looked at yet.
    lines: VecDeque<u8>,
    next: Option<u32>,
    echoed: Vec<u8>,
}

impl Seen {
    fn of(client: Peer) -> Self {
        Self { client, lines: VecDeque::new(), next: None, echoed: Vec::new() }
    }

    /// Reads on until so many bytes have come back that were typed.
    fn read_echo(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.echoed.len() < count {
            assert!(Instant::now() < deadline, "only {:?} has come back", self.echoed);
            self.read();
        }
    }

    /// Reads one line of the guest's, in which the numbers go on without a gap.
    fn read(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let line: Vec<u8> = loop {
            if let Some(end) = self.lines.iter().position(|byte| *byte == b'\n') {
                let line = self.lines.drain(..end).collect();
                self.lines.pop_front();
                break line;
            }
            assert!(Instant::now() < deadline, "the guest has stopped");
            self.lines.extend(self.client.take().unwrap_or_default());
        };
        match line.strip_prefix(b">") {
            Some([byte]) => self.echoed.push(*byte),
            _ => {
                let text = String::from_utf8(line).unwrap();
                let number = u32::from_str_radix(&text, 16);
                // The first line may have begun before.
                if text.len() < 8 && self.next.is_none() {
                    return;
                }
                if self.next.is_some() {
                    assert_eq!(number.as_ref().ok(), self.next.as_ref(), "{text:?}");
                }
                self.next = number.ok().map(|number| number + 1);
            }
        }
    }

    fn read_lines(&mut self, count: usize) {
        (0..count).for_each(|_| self.read());
    }
}

/// Types numbered letters, one each two milliseconds, as somebody does who holds a key. Returns them when
/// `stop` says so.
fn type_on(mut client: Peer, stop: &AtomicBool) -> Vec<u8> {
    let mut typed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let byte = b'A' + (typed.len() % 57) as u8;
        client.print(&[byte]);
        typed.push(byte);
        thread::sleep(Duration::from_millis(2));
    }
    typed
}

pub(super) fn a_qemu_that_is_migrated_live_keeps_its_client_and_every_byte() {
    if !is_here(QEMU) {
        return;
    }
    let folder = Folder::new("qemu");
    let server = Server::start(&["--no-banner"]);
    let mut source = Machine::start(&folder, "host0", server.vms, &[], "");
    let client = Peer::client(server.next_client_port());
    server.line_with("client attached");
    let typist = Peer::connected(client.stream.try_clone().unwrap());
    let mut seen = Seen::of(client);
    seen.read_lines(2);
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    let typist = thread::spawn(move || type_on(typist, &is_over));
    for host in 1..=3 {
        seen.read_lines(50);
        let wire = format!("unix:{}", folder.0.join(format!("wire{host}")).display());
        let name = format!("host{host}");
        let target = Machine::start(&folder, &name, server.vms, &["-incoming", &wire], "");
        source.ask("migrate", &serde_json::json!({"uri": wire}));
        server.line_with("vmotion completed");
        source.migration_is("completed");
        source = target;
        seen.read_lines(50);
    }
    stop.store(true, Ordering::Relaxed);
    let typed = typist.join().unwrap();
    let deadline = Instant::now() + PATIENCE / 3;
    while seen.echoed.len() < typed.len() && Instant::now() < deadline {
        seen.read();
    }
    assert_eq!(String::from_utf8_lossy(&seen.echoed), String::from_utf8_lossy(&typed));
    seen.read_lines(50);
}

/// A source that counts, its server, and a client that has seen it count.
fn counting(folder: &Folder, more: &[&str], settings: &str) -> (Server, Machine, Seen) {
    let server = Server::start(&["--no-banner"]);
    let source = Machine::start(folder, "host0", server.vms, more, settings);
    let client = Peer::client(server.next_client_port());
    server.line_with("client attached");
    let mut seen = Seen::of(client);
    seen.read_lines(2);
    (server, source, seen)
}

pub(super) fn a_qemu_whose_migration_others_steer_is_followed_and_every_byte_that_it_prints() {
    if !is_here(QEMU) {
        return;
    }
    let (folder, settings) = (Folder::new("steered"), "qmp-watch-only = true");
    let (server, mut source, mut seen) = counting(&folder, &[], settings);
    // In one go, and with a stop that whoever migrates has asked for and goes on from.
    for (host, has_stop) in [(1, false), (2, true)] {
        let wire = format!("unix:{}", folder.0.join(format!("wire{host}")).display());
        let incoming = ["-incoming", &wire];
        let target = Machine::start(&folder, &format!("host{host}"), server.vms, &incoming, settings);
        if has_stop {
            source.enable("pause-before-switchover");
        }
        source.ask("migrate", &serde_json::json!({"uri": wire}));
        if has_stop {
            source.migration_is("pre-switchover");
            // The relay has not told it to go on.
            seen.read();
            source.migration_is("pre-switchover");
            source.ask("migrate-continue", &serde_json::json!({"state": "pre-switchover"}));
        }
        server.line_with("vmotion completed");
        source.migration_is("completed");
        source = target;
        seen.read_lines(50);
        let typed = format!("on host {host}");
        seen.client.print(typed.as_bytes());
        let count = seen.echoed.len() + typed.len();
        seen.read_echo(count);
        assert!(seen.echoed.ends_with(typed.as_bytes()), "{}", String::from_utf8_lossy(&seen.echoed));
    }
}

pub(super) fn a_migration_that_fails_within_qemu_leaves_the_source_with_its_client_and_every_byte() {
    if !is_here(QEMU) {
        return;
    }
    let folder = Folder::new("fails");
    // The state of this device is the last that goes over, when the VM stands still and the concentrator has
    // answered. A QEMU that has none ends then.
    let device = ["-device", "i6300esb"];
    let (server, mut source, mut seen) = counting(&folder, &device, "");
    source.enable("return-path");
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&stop);
    let typist = Peer::connected(seen.client.stream.try_clone().unwrap());
    let typist = thread::spawn(move || type_on(typist, &is_over));
    for round in 0..3 {
        seen.read_lines(30);
        let wire = format!("unix:{}", folder.0.join(format!("wire{round}")).display());
        let name = format!("unlike{round}");
        let mut unlike = Machine::start(&folder, &name, server.vms, &["-incoming", &wire], "");
        unlike.enable("return-path");
        source.ask("migrate", &serde_json::json!({"uri": wire}));
        server.line_with("vmotion aborted");
        source.migration_is("failed");
        assert!(!unlike.qemu.wait().unwrap().success());
        seen.read_lines(30);
    }
    // It can move on where it fits.
    let wire = format!("unix:{}", folder.0.join("wire").display());
    let incoming = [&device[..], &["-incoming", &wire]].concat();
    let mut target = Machine::start(&folder, "alike", server.vms, &incoming, "");
    target.enable("return-path");
    source.ask("migrate", &serde_json::json!({"uri": wire}));
    server.line_with("vmotion completed");
    source.migration_is("completed");
    seen.read_lines(30);
    stop.store(true, Ordering::Relaxed);
    let typed = typist.join().unwrap();
    seen.read_echo(typed.len());
    assert_eq!(String::from_utf8_lossy(&seen.echoed), String::from_utf8_lossy(&typed));
}

pub(super) fn a_break_reaches_the_guest_in_its_place_and_one_that_a_line_cannot_carry_is_dropped() {
    let folder = Folder::new("break");
    if is_here(QEMU) {
        let server = Server::start(&["--no-banner"]);
        let _machine = Machine::start(&folder, "host", server.vms, &[], "");
        let client = Peer::client(server.next_client_port());
        server.line_with("client attached");
        let mut seen = Seen::of(client);
        seen.read_lines(2);
        let mut stream = seen.client.stream.try_clone().unwrap();
        // What is typed, and BREAKs between, in one segment. The guest reads a BREAK as NUL.
        for round in 0..5 {
            stream.write_all(&[b'a', b'b', 255, 243, b'c', 255, 243, b'd']).unwrap();
            seen.read_echo(6 * (round + 1));
        }
        assert_eq!(seen.echoed, b"ab\0c\0d".repeat(5));
    }
    let server = Server::start(&["--no-banner"]);
    let host = Host::new(&folder, "host2", server.vms);
    let mut line = host.line();
    let mut client = Peer::client(server.next_client_port());
    server.line_with("client attached");
    client.stream.write_all(&[b'a', 255, 243, b'b']).unwrap();
    expect(&mut line, b"ab");
    Peer::talk_to_line(&mut line, &mut client);
}

pub(super) const QEMU: &str = "qemu-system-x86_64";

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// 16-bit code at F000:0000. It needs no BIOS and no disk.
#[rustfmt::skip]
const GUEST: &[u8] = &[
    0xFA,                   //        cli
    0x31, 0xC0,             //        xor  ax, ax
    0x8E, 0xD0,             //        mov  ss, ax
    0xBC, 0x00, 0x70,       //        mov  sp, 7000h
    0xBA, 0xFA, 0x03,       //        mov  dx, 3FAh
    0xB0, 0x07,             //        mov  al, 7          ; FIFOs on, and empty
    0xEE,                   //        out  dx, al
    0xBA, 0xFB, 0x03,       //        mov  dx, 3FBh
    0xB0, 0x03,             //        mov  al, 3          ; eight bits, no parity
    0xEE,                   //        out  dx, al
    0x66, 0x31, 0xDB,       //        xor  ebx, ebx
    0xB9, 0x08, 0x00,       // next:  mov  cx, 8          ; eight digits
    0x66, 0x89, 0xDE,       //        mov  esi, ebx
    0x66, 0xC1, 0xC6, 0x04, // digit: rol  esi, 4
    0x89, 0xF0,             //        mov  ax, si
    0x24, 0x0F,             //        and  al, 15
    0x3C, 0x0A,             //        cmp  al, 10
    0x72, 0x02,             //        jb   dec
    0x04, 0x27,             //        add  al, 'a' - '0' - 10
    0x04, 0x30,             // dec:   add  al, '0'
    0xE8, 0x2D, 0x00,       //        call put
    0xE2, 0xEB,             //        loop digit
    0xB0, 0x0A,             //        mov  al, 10
    0xE8, 0x26, 0x00,       //        call put
    0x66, 0x43,             //        inc  ebx
    0xB9, 0x10, 0x27,       //        mov  cx, 10000
    0xE4, 0x80,             // wait:  in   al, 80h
    0xE2, 0xFC,             //        loop wait
    0xBA, 0xFD, 0x03,       // input: mov  dx, 3FDh
    0xEC,                   //        in   al, dx
    0xA8, 0x01,             //        test al, 1          ; is anything typed?
    0x74, 0xCF,             //        jz   next
    0xBA, 0xF8, 0x03,       //        mov  dx, 3F8h
    0xEC,                   //        in   al, dx
    0x50,                   //        push ax
    0xB0, 0x3E,             //        mov  al, '>'
    0xE8, 0x0B, 0x00,       //        call put
    0x58,                   //        pop  ax
    0xE8, 0x07, 0x00,       //        call put
    0xB0, 0x0A,             //        mov  al, 10
    0xE8, 0x02, 0x00,       //        call put
    0xEB, 0xE3,             //        jmp  input
    0x88, 0xC4,             // put:   mov  ah, al
    0xBA, 0xFD, 0x03,       //        mov  dx, 3FDh
    0xEC,                   // full:  in   al, dx
    0xA8, 0x20,             //        test al, 20h
    0x74, 0xFB,             //        jz   full
    0x88, 0xE0,             //        mov  al, ah
    0xBA, 0xF8, 0x03,       //        mov  dx, 3F8h
    0xEE,                   //        out  dx, al
    0xC3,                   //        ret
];
