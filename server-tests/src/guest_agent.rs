//! The real agent, reached through the server by `vspc`: on this machine, and in a Linux of Debian's in QEMU,
//! on a virtio port and on a serial port. `.ci/guest-agent` makes that; .ci/long has it made, and says where
//! it is (`VSPC_GUEST_AGENT`).

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client_tour::Client;
use super::process::{PATIENCE, Server};
use super::program;
use super::programs::{Folder, is_here};
use super::waiting::wait_for;

const QEMU: &str = super::migration::QEMU;

/// The machine.
struct Machine {
    guest: PathBuf,
    folder: PathBuf,
    qemu: Child,
    begun: Instant,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine {
    /// Starts it; it boots on.
    fn start(guest: &Path, folder: &Path) -> Self {
        // The file system is mostly nothing.
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(guest.join("disk")).arg(folder.join("disk"));
        assert!(copy.status().unwrap().success());
        let (guest, folder) = (guest.to_owned(), folder.to_owned());
        Self { qemu: boot(&guest, &folder), guest, folder, begun: Instant::now() }
    }

    fn kill(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// As if the power had gone, and come again.
    fn start_again(&mut self) {
        self.kill();
        self.qemu = boot(&self.guest, &self.folder);
    }

    fn say(&self, what: &str) {
        println!("{:5.1} s  {what}", self.begun.elapsed().as_secs_f32());
    }
}

fn boot(guest: &Path, folder: &Path) -> Child {
    let file = |name: &str| guest.join(name).display().to_string();
    let socket =
        |name: &str| format!("socket,id={name},path={},server=on,wait=off", folder.join(name).display());
    Command::new(QEMU)
        .args(["-nodefaults", "-no-user-config", "-machine", "pc,accel=tcg", "-display", "none", "-m", "192"])
        .args(["-kernel", &file("kernel"), "-initrd", &file("initrd-agent")])
        .args(["-append", "console=ttyS0 panic=1"])
        .args(["-drive", &format!("file={},format=raw,if=virtio", folder.join("disk").display())])
        .args(["-chardev", &socket("console"), "-serial", "chardev:console"])
        .args(["-chardev", &socket("port"), "-serial", "chardev:port"])
        .args(["-chardev", &socket("agent"), "-device", "virtio-serial"])
        .args(["-device", "virtserialport,chardev=agent,name=vspc.agent"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does something until it succeeds: while a machine boots nobody answers.
fn until<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    wait_for(BOOT, what, done)
}

/// Bytes that no line likes.
fn text(len: usize) -> Vec<u8> {
    let next = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(1), next).map(|n| (n >> 56) as u8).take(len).collect()
}

impl Client {
    /// A shell's command in a guest: what it prints, on both of its outputs, and its status.
    fn shell(&self, name: &str, command: &str) -> (String, String, Option<i32>) {
        let output = self.run(&["exec", name, "--", "/bin/sh", "-c", command]);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }

    fn until_there(&self, name: &str) {
        until(name, || (self.shell(name, "echo here").0 == "here\n").then_some(()));
    }

    /// What a web server shows that the guest reaches there.
    fn page(&self, name: &str, folder: &Path, to: &str) -> String {
        let path = folder.join(format!("{name}.forward"));
        let _forward = self.program(&["forward", name, "-L", &format!("unix:{}:{to}", path.display())]);
        let mut socket = until("the listener", || UnixStream::connect(&path).ok());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        page
    }

    /// Copies so many bytes into the guest and out of it.
    fn copies(&self, machine: &Machine, name: &str, len: usize) {
        let (here, back) = (machine.folder.join("here"), machine.folder.join("back"));
        let bytes = text(len);
        fs::write(&here, &bytes).unwrap();
        let there = format!("{name}:/srv/{name}");
        self.says(&["cp", here.to_str().unwrap(), &there]);
        machine.say(&format!("{name}: {len} bytes in"));
        self.says(&["cp", &there, back.to_str().unwrap()]);
        assert!(fs::read(back).unwrap() == bytes, "other bytes came back");
        machine.say(&format!("{name}: {len} bytes out"));
    }
}

/// An agent on this machine, which is ended with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn vspc_runs_programs_copies_forwards_and_reads_facts_where_the_agent_is() {
    let agent = Path::new(program()).with_file_name("vspc-agent");
    if !agent.is_file() {
        assert!(env::var_os("VSPC_REQUIRE_PEERS").is_none(), "{} has to be here", agent.display());
        println!("skipped: no vspc-agent");
        return;
    }
    let folder = Folder::new("agent-here");
    let path = |name: &str| folder.0.join(name).display().to_string();
    fs::write(path("key"), [7; 32]).unwrap();
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(path("there")).unwrap();
    let config = format!(
        "line = 'unix:{}'\nkey-file = '{}'\n[exec]\nprograms = ['*']\n[shell]\ncommand = ['/bin/sh']\n\
         announce = ['shell']\n[[copy]]\nroot = '{}'\nwrite = true\n\
         [connect]\nto = ['tcp:127.0.0.1:*']\n[facts]\nsite = 'here'\n",
        path("line"),
        path("key"),
        path("there"),
    );
    fs::write(path("agent.toml"), config).unwrap();
    let line = format!("web01=unix:{}?listen&mux=s2", path("line"));
    let server = Server::start(&["--line", &line, "--guest-key-file", &path("key")]);
    let admin = server.admin_port().to_string();
    let Some(client) = Client::new(&["--server", &admin]) else { return };
    let mut command = Command::new(agent);
    command.args(["--config", &path("agent.toml")]).stdin(Stdio::null()).stderr(Stdio::null());
    let _agent = Agent(command.spawn().unwrap());

    client.until_there("web01");
    let said = client.shell("web01", "echo out; echo aside >&2; exit 7");
    assert_eq!(said, ("out\n".to_owned(), "aside\n".to_owned(), Some(7)));
    // What packs well, and what does not.
    for (name, bytes) in [("text", b"a line of a log\n".repeat(20_000)), ("noise", text(200_000))] {
        fs::write(path("x"), &bytes).unwrap();
        let there = format!("{}/{name}", path("there"));
        client.says(&["cp", &path("x"), &format!("web01:{there}")]);
        assert!(fs::read(&there).unwrap() == bytes, "{name}: other bytes are there");
        client.says(&["cp", &format!("web01:{there}"), &path("y")]);
        assert!(fs::read(path("y")).unwrap() == bytes, "{name}: other bytes came back");
    }
    assert_eq!(client.says(&["facts", "web01", "site"]), "here\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let web = thread::spawn(move || {
        let mut socket = BufReader::new(listener.accept().unwrap().0);
        let mut asked = String::new();
        while !asked.ends_with("\r\n\r\n") {
            assert!(socket.read_line(&mut asked).unwrap() > 0, "{asked}");
        }
        socket.get_mut().write_all(asked.as_bytes()).unwrap();
    });
    assert_eq!(client.page("web01", &folder.0, &to), "GET /index.html HTTP/1.0\r\n\r\n");
    web.join().unwrap();
    if is_here("script") {
        sizes(&client);
    }
}

/// The guest's shell is as large as the terminal of who types at it.
fn sizes(client: &Client) {
    let first = client.on_sized_terminal((33, 77), &["attach", "web01/shell"]);
    let mut both = [first, client.on_sized_terminal((44, 99), &["attach", "web01/shell"])];
    for (attach, size) in both.iter_mut().zip(["33 77", "44 99"]) {
        attach.expect(b"for help");
        let line = format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.1; done; stty size | rev\r");
        attach.input.write_all(line.as_bytes()).unwrap();
        attach.expect(size.chars().rev().collect::<String>().as_bytes());
    }
    for mut attach in both {
        attach.input.write_all(b"\x1d.").unwrap();
        attach.end();
    }
}

pub(super) fn a_linux_guest_with_an_agent_is_used_crashes_and_goes_on_where_it_was() {
    let Some(guest) = env::var_os("VSPC_GUEST_AGENT") else {
        println!("skipped: no VSPC_GUEST_AGENT, which .ci/guest-agent makes");
        return;
    };
    if !is_here(QEMU) {
        return;
    }
    let folder = Folder::new("agent");
    let line =
        |name: &str, socket: &str, mux: &str| format!("{name}=unix:{}{mux}", folder.0.join(socket).display());
    let logs = folder.0.join("logs");
    fs::create_dir(&logs).unwrap();
    let server = Server::start(&[
        "--line",
        &line("web01", "agent", "?mux=s2"),
        "--line",
        &line("slow01", "port", "?mux=s2+sl"),
        "--line",
        &line("console01", "console", ""),
        "--log-dir",
        logs.to_str().unwrap(),
        "--log-layout",
        "{name}.log",
    ]);
    let admin = server.admin_port().to_string();
    let Some(client) = Client::new(&["--server", &admin]) else { return };
    let mut machine = Machine::start(guest.as_ref(), &folder.0);
    for name in ["web01", "slow01"] {
        client.until_there(name);
        machine.say(&format!("{name} has booted"));
        let said = client.shell(name, "echo out; echo aside >&2; exit 7");
        assert_eq!(said, ("out\n".to_owned(), "aside\n".to_owned(), Some(7)));
    }
    let facts = client.says(&["facts", "web01"]);
    assert!(facts.lines().any(|line| line.contains("site") && line.contains("drill")), "{facts}");
    client.says(&["facts", "web01", "set", "owner=ann"]);
    let listed = client.says(&["list"]);
    assert!(listed.contains("web01/log/messages") && listed.contains("slow01/log/messages"), "{listed}");
    machine.say("facts and logs");
    for name in ["web01", "slow01"] {
        let page = client.page(name, &folder.0, "127.0.0.1:80");
        assert!(page.starts_with("HTTP/1.") && page.ends_with("it works\n"), "{page}");
    }
    machine.say("forwarded connections");
    client.copies(&machine, "slow01", 2_000_000);
    client.copies(&machine, "web01", 20_000_000);

    // It crashes in the middle of a copy, and boots again.
    let bytes = text(20_000_000);
    let (here, back) = (folder.0.join("here"), folder.0.join("back"));
    let size = "cat /srv/.big.*.part | wc -c";
    let mut copy = client.program(&["cp", "--retry=300", here.to_str().unwrap(), "web01:/srv/big"]);
    until("a part of it", || {
        client.shell("web01", size).0.trim().parse::<usize>().is_ok_and(|size| size > 4_000_000).then_some(())
    });
    client.shell("web01", "sync; echo c >/proc/sysrq-trigger");
    let console = logs.join("console01.log");
    let console = until("the panic", || {
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        text.contains("Kernel panic - not syncing").then_some(text)
    });
    assert!(console.contains("Call Trace:"), "{console}");
    machine.say("it has crashed");
    copy.end();
    machine.say("the copy is whole, after another boot");
    client.says(&["cp", "web01:/srv/big", back.to_str().unwrap()]);
    assert!(fs::read(&back).unwrap() == bytes, "other bytes came back");

    // The machine is gone, and another one comes.
    machine.start_again();
    for name in ["web01", "slow01"] {
        client.until_there(name);
        assert_eq!(client.shell(name, "wc -c </srv/big").0, "20000000\n");
    }
    machine.say("another machine has the same disk");
}

/// How long an emulated machine may take to boot.
const BOOT: Duration = Duration::from_secs(240);
