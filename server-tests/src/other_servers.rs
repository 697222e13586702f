//! What was written for other concentrators works here as it is (docs/migrating.md): vSPC.py's start scripts,
//! queries of node-vspc's Redis, and the way in which OpenStack's Nova reads logs.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use super::client_tour::Client;
use super::peer::{IAC, Peer, SB, introduction};
use super::process::{PATIENCE, Server};
use super::program;
use super::programs::{Folder, is_here};
use super::redis::{Redis, refs};
use super::state::Kept;

/// A start script's line, with the program's name replaced. The log is on the standard output, as it says.
fn script(words: &[&str], variables: &[(&str, &str)]) -> Server {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" >&2", "sh", program(), "--no-fork", "--stdout"]);
    // The one thing that a test adds: it is not the only one on this machine.
    shell.args(["--proxy-iface", "127.0.0.1", "--proxy-port", "0"]).args(words);
    Server::of(shell.envs(variables.iter().copied()))
}

/// Ports of this test's own for clients.
fn first_port(stretch: u16) -> u16 {
    9000 + stretch * 200 + (std::process::id() % 16) as u16 * 12
}

pub(super) fn a_start_script_of_vspcpys_serves_and_keeps_each_vms_port() {
    let folder = Folder::new("vspcpy-script");
    let file = folder.0.join("persist").display().to_string();
    let first = first_port(1).to_string();
    let line = ["-d", "-a", "0", "-r", &first, "-i", "127.0.0.1", "--vm-expire-time", "3600", "-f", &file];
    let (first, second) = {
        let server = script(&line, &[]);
        let mut kept = Kept::of(server);
        let (mut vm, port) = Peer::vm(&kept.server, 1);
        let mut client = Peer::client(port);
        kept.server.line_with("client attached");
        client.expect_somewhere(b"\r\n");
        vm.print(b"login: ");
        client.expect_somewhere(b"login: ");
        client.print(b"root\r");
        vm.expect(b"root\r");
        let (_other, second) = Peer::vm(&kept.server, 2);
        kept.wait_for(2);
        kept.end_by(Signal::KILL);
        (port, second)
    };
    let server = script(&line, &[]);
    let admin = server.admin_port().to_string();
    let (_two, port) = Peer::vm(&server, 2);
    assert_eq!(port, second);
    let (_one, port) = Peer::vm(&server, 1);
    assert_eq!(port, first);
    // By vSPC.py's own protocol.
    if let Some(client) = Client::new(&["--server", &admin, "--protocol", "v3"]) {
        let list = client.says(&["list"]);
        assert!(list.contains("vm1") && list.contains(&first.port().to_string()), "{list}");
    }
}

pub(super) fn a_start_script_of_vspcpys_logs_with_its_prefix_and_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("vspcpy-logging");
    let dir = folder.0.display().to_string();
    let server = script(
        &[
            "--backend",
            "Logging",
            "-l",
            &dir,
            "-p",
            "lab",
            "-m",
            "0640",
            "--context",
            "300",
            "-a",
            "0",
            "-r",
            "0",
        ],
        &[],
    );
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"booting\r\n");
    let path = folder.0.join("lab-vm1.log");
    expect_file(&path, b"booting\r\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

pub(super) fn a_start_script_of_vspcpys_takes_its_backends_words_and_its_variables() {
    let folder = Folder::new("vspcpy-variables");
    let words = format!("-f {}", folder.0.join("persist").display());
    let first = first_port(2).to_string();
    let server = script(
        &["--backend", "File", "--backend-args", &words, "-a", "0", "-r", &first],
        &[("VM_CLIENT_LIMIT", "1"), ("SUPPORT_MULTI_CONSOLE", "true")],
    );
    let (mut vm, port) = Peer::vm(&server, 1);
    let mut client = Peer::client(port);
    server.line_with("client attached");
    Peer::connect(port).expect_end();
    vm.print(b"login: ");
    client.expect_somewhere(b"login: ");
    // A second serial port of the VM's is a console of its own.
    let whole = introduction(1);
    let uri = whole.windows(5).position(|words| words == b"Stest").unwrap();
    let mut second = Peer::connect(server.vms);
    second.send(&[&whole[..uri], b"SvSPC.py?port=com2", &whole[uri + 5..]].concat());
    assert_ne!(server.next_client_port(), port);
}

pub(super) fn scripts_that_ask_node_vspcs_redis_for_a_port_by_the_name_that_the_vm_has_find_it() {
    if !is_here("redis-cli") {
        return;
    }
    let Some(redis) = Redis::start("node-vspc", &[]) else { return };
    let mut kept = Kept::of(Server::keeping(&refs(&redis.options(&redis.url(), "node"))));
    for (number, name) in (1..).zip(["web01", "Web Server 01 (Prod)", "datenbank-m\u{fc}nchen", "a:b*c"]) {
        let _vm = named_vm(&kept.server, number, name.as_bytes());
        // The log may tell of the port later, where another process has the first.
        let port = Some(kept.wait_for(number.into())[name].to_string());
        let ask = |words: &[&str]| redis_cli(&redis.url(), words);
        let deadline = Instant::now() + PATIENCE;
        while ask(&["GET", &format!("Active:VM:Port{name}")]) != port {
            assert!(Instant::now() < deadline, "{name}: {:?}", ask(&["KEYS", "*"]));
        }
        assert_eq!(ask(&["GET", &format!("Saved:VM:Port{name}")]), port, "{name}");
        // Its older versions have a hash.
        assert_eq!(ask(&["HGET", "VM:Port", name]), port, "{name}");
    }
}

pub(super) fn nova_reads_the_end_of_a_vms_log_by_its_uuid_while_the_vm_goes_on_printing() {
    let folder = Folder::new("nova-reader");
    let dir = folder.0.display().to_string();
    let server = Server::start(&["--log-dir", &dir, "--log-layout", "nova", "--log-mode", "0644"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    let uuid = "00112233-4455-6677-8899-aabbccddee01";
    // Before the VM has said a word there is nothing, and Nova shows an empty console.
    assert_eq!(console_output(&folder.0, uuid).unwrap(), b"");
    vm.print(b"short\r\n");
    let deadline = Instant::now() + PATIENCE;
    while console_output(&folder.0, uuid).unwrap() != b"short\r\n" {
        assert!(Instant::now() < deadline, "a short log is not read");
    }
    let long: Vec<u8> = (0..20_000).flat_map(|n| format!("line {n:06}\r\n").into_bytes()).collect();
    vm.print(&long);
    let end = &long[long.len() - MAX_CONSOLE_BYTES..];
    while console_output(&folder.0, uuid).unwrap() != end {
        assert!(Instant::now() < deadline, "the end of a long log is not read");
    }
}

/// What `openstack console log show` gets: Nova's VMware driver looks for a file with the instance's UUID,
/// dashes taken out, and reads its last bytes; a file that is shorter is read from its beginning.
fn console_output(serial_log_dir: &Path, uuid: &str) -> io::Result<Vec<u8>> {
    let path = serial_log_dir.join(uuid.replace('-', ""));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut file = File::open(path)?;
    if file.seek(SeekFrom::End(-(MAX_CONSOLE_BYTES as i64))).is_err() {
        file.seek(SeekFrom::Start(0))?;
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A VM that says this name.
fn named_vm(server: &Server, number: u8, name: &[u8]) -> Peer {
    let whole = introduction(number);
    let own_name = whole.windows(3).rposition(|words| words == [IAC, SB, 232]).unwrap();
    let mut vm = Peer::connect(server.vms);
    vm.send(&whole[..own_name]);
    vm.tell(&[b"\x52", name].concat());
    vm.hear(71);
    vm
}

fn redis_cli(url: &str, words: &[&str]) -> Option<String> {
    let output = Command::new("redis-cli").args(["-u", url]).args(words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer = String::from_utf8(output.stdout).unwrap().trim_end().to_owned();
    (!answer.is_empty()).then_some(answer)
}

fn expect_file(path: &Path, bytes: &[u8]) {
    let deadline = Instant::now() + PATIENCE;
    while fs::read(path).unwrap_or_default() != bytes {
        assert!(Instant::now() < deadline, "{} has not {bytes:?}", path.display());
    }
}

/// As much as Nova reads.
const MAX_CONSOLE_BYTES: usize = 100 * 1024;
