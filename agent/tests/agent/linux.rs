//! The agent in a Linux of Debian's in QEMU, on a serial port and on a virtio port. `.ci/guest-agent` makes
//! it; .ci/long has it made, and says where it is (`VSPC_GUEST_AGENT`).

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vspc_core::mux::StreamId;
use vspc_guest::answer::{self, Done};
use vspc_guest::copy::{GetOk, PutOk, Whole};
use vspc_guest::{
    Announcement, Belongs, Connect, Ending, Exec, FactLine, Facts, Get, Header, Listener, LogOk, Put, Sum,
};

use crate::copies::{sum, text};
use crate::host::{Host, key};
use crate::machine::Folder;

/// The machine.
struct Linux {
    guest: PathBuf,
    folder: Folder,
    qemu: Child,
    begun: Instant,
}

impl Drop for Linux {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Linux {
    /// Starts it; it boots on.
    fn start(guest: &Path) -> Self {
        let folder = Folder::new();
        // The file system is mostly nothing.
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(guest.join("disk")).arg(folder.join("disk"));
        assert!(copy.status().unwrap().success());
        let qemu = boot(guest, &folder);
        Self { guest: guest.to_owned(), folder, qemu, begun: Instant::now() }
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

    /// The host's end of a line.
    fn line(&self, name: &str) -> UnixStream {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match UnixStream::connect(self.folder.join(name)) {
                Ok(line) => return line,
                Err(error) => assert!(Instant::now() < until, "{name}: {error}"),
            }
            std::thread::yield_now();
        }
    }

    /// What the kernel and the agent have printed.
    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("console")).unwrap()).into_owned()
    }

    fn say(&self, what: &str) {
        println!("{:5.1} s  {what}", self.begun.elapsed().as_secs_f32());
    }
}

fn boot(guest: &Path, folder: &Folder) -> Child {
    let file = |name: &str| guest.join(name).display().to_string();
    let socket = |name: &str, id: &str| {
        format!("socket,id={id},path={},server=on,wait=off", folder.join(name).display())
    };
    Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-machine", "pc,accel=tcg", "-display", "none", "-m", "192"])
        .args(["-kernel", &file("kernel"), "-initrd", &file("initrd-agent")])
        .args(["-append", "console=ttyS0 panic=1"])
        .args(["-drive", &format!("file={},format=raw,if=virtio", folder.join("disk").display())])
        .args(["-chardev", &format!("file,id=console,append=on,path={}", folder.join("console").display())])
        .args(["-serial", "chardev:console"])
        .args(["-chardev", &socket("ttyS1", "port"), "-serial", "chardev:port"])
        .args(["-chardev", &socket("virtio", "agent"), "-device", "virtio-serial"])
        .args(["-device", "virtserialport,chardev=agent,name=vspc.agent"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// A shell's command: what it prints, on both of its outputs, and how it ended.
fn run(host: &mut Host, command: &str) -> (String, String, Option<Ending>) {
    let exec = Exec {
        argv: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        with: vec![Belongs::Err, Belongs::Control],
        ..Exec::new(key())
    };
    let err = host.open(&Header::Err { key: exec.key.clone() }.line());
    let control = host.open(&Header::Control { key: exec.key.clone() }.line());
    let main = host.open(&Header::Exec(exec).line());
    for id in [main, err, control] {
        host.answer::<Done>(id).unwrap();
    }
    host.finish(main);
    let printed = [main, err].map(|id| String::from_utf8(host.rest(id)).unwrap());
    let [out, aside] = printed;
    (out, aside, Ending::parse(&host.line(control)))
}

fn begin_put(host: &mut Host, path: &str, bytes: &[u8]) -> (StreamId, usize) {
    let put = Put {
        path: path.to_owned(),
        size: bytes.len() as u64,
        mode: 0o600,
        sha256: Some(sum(bytes).digits().to_owned()),
        tag: None,
        sum: Sum::Sha256,
        pack: None,
    };
    let id = host.open(&Header::Put(put).line());
    let PutOk { offset, .. } = host.answer(id).unwrap();
    (id, offset as usize)
}

fn end_put(host: &mut Host, bytes: &[u8], (id, at): (StreamId, usize)) {
    host.write(id, &bytes[at..]);
    host.finish(id);
    host.answer::<Whole>(id).unwrap();
    host.rest(id);
}

fn get(host: &mut Host, path: &str) -> Vec<u8> {
    let id = host.open(&Header::Get(Get::new(path.to_owned())).line());
    let GetOk { size, .. } = host.answer(id).unwrap();
    let mut bytes = host.rest(id);
    answer::parse::<Whole>(&bytes.split_off(size as usize)).unwrap();
    bytes
}

/// All that the guest tells of itself.
fn facts(host: &mut Host) -> Facts {
    let (id, _) = host.announced_as("facts");
    host.accept(id);
    let mut listener = Listener::default();
    loop {
        let line = host.line(id);
        listener.handle_line(&line).unwrap();
        if FactLine::parse(&line) == Ok(FactLine::All) {
            return listener.facts().clone();
        }
    }
}

/// All that a host does with an agent, and a copy each way of so many bytes.
fn everything_works(linux: &Linux, host: &mut Host, len: u32, name: &str) {
    assert_eq!(
        run(host, "echo out; echo aside >&2; exit 7"),
        ("out\n".to_owned(), "aside\n".to_owned(), Some(Ending::Exit(7)))
    );
    linux.say(&format!("{name}: a process"));
    let bytes = text(len);
    let path = format!("/srv/{name}");
    let begun = begin_put(host, &path, &bytes);
    end_put(host, &bytes, begun);
    linux.say(&format!("{name}: {len} bytes in"));
    assert!(get(host, &path) == bytes, "other bytes came back");
    linux.say(&format!("{name}: {len} bytes out"));
    let id = host.open(&Header::Connect(Connect { to: "tcp:127.0.0.1:80".to_owned() }).line());
    host.answer::<Done>(id).unwrap();
    host.write(id, b"GET /index.html HTTP/1.0\r\n\r\n");
    let page = String::from_utf8(host.rest(id)).unwrap();
    assert!(page.starts_with("HTTP/1.") && page.ends_with("it works\n"), "{page}");
    linux.say(&format!("{name}: a connection"));
}

#[test]
fn a_linux_guest_is_used_crashes_and_goes_on_where_it_was() {
    let Some(guest) = std::env::var_os("VSPC_GUEST_AGENT") else {
        println!("skipped: no VSPC_GUEST_AGENT, which .ci/guest-agent makes");
        return;
    };
    let mut linux = Linux::start(guest.as_ref());
    let mut virtio = Host::raw(linux.line("virtio")).with_patience(BOOT);
    virtio.hello(None).unwrap();
    linux.say("it has booted");
    let mut port = Host::sl(linux.line("ttyS1")).with_patience(BOOT);
    port.hello(None).unwrap();
    let told = facts(&mut virtio);
    assert_eq!(told.get("site"), Some("drill"));
    assert!(told.get("os.kernel").is_some_and(|kernel| kernel.contains("6.1")), "{told:?}");
    let (id, announcement) = port.announced_as("log/messages");
    assert!(matches!(announcement, Announcement::Log { .. }));
    port.write(id, &answer::ok(&LogOk { back: 1000, pack: None }));
    assert_eq!(port.line(id), b"first line\n");
    run(&mut port, "echo second line >>/messages");
    assert_eq!(port.line(id), b"second line\n");
    linux.say("facts and a log");
    everything_works(&linux, &mut port, 2_000_000, "ttyS1");
    everything_works(&linux, &mut virtio, 20_000_000, "virtio");

    // It crashes in the middle of a copy, and boots again.
    let bytes = text(10_000_000);
    let (id, _) = begin_put(&mut virtio, "/srv/big", &bytes);
    virtio.write(id, &bytes[..6_000_000]);
    run(&mut virtio, "sync");
    virtio.write(id, &bytes[6_000_000..7_000_000]);
    let crash = Exec {
        argv: ["/bin/sh", "-c", "echo c >/proc/sysrq-trigger"].map(str::to_owned).to_vec(),
        ..Exec::new(key())
    };
    virtio.open(&Header::Exec(crash).line());
    virtio.until("the panic", |_| linux.console().contains("Kernel panic").then_some(()));
    let console = linux.console();
    for words in ["sysrq: Trigger a crash", "Call Trace:", "Kernel panic - not syncing"] {
        assert!(console.contains(words), "{words:?} is not on the console: {console}");
    }
    linux.say("it has crashed");
    virtio.begin_anew();
    virtio.hello(None).unwrap();
    linux.say("it has booted again");
    let begun = begin_put(&mut virtio, "/srv/big", &bytes);
    assert!(begun.1 > 1_000_000, "the copy goes on from {}", begun.1);
    linux.say(&format!("the copy goes on from {}", begun.1));
    end_put(&mut virtio, &bytes, begun);
    assert!(get(&mut virtio, "/srv/big") == bytes, "other bytes came back");
    // The serial port's host has seen nothing but silence, and then another agent.
    port.until("another session", |port| (port.sessions == 2).then_some(()));
    port.hello(None).unwrap();
    assert_eq!(run(&mut port, "cat /srv/www/index.html").0, "it works\n");

    // The machine is gone, and another one comes.
    linux.start_again();
    let mut virtio = Host::raw(linux.line("virtio")).with_patience(BOOT);
    virtio.hello(None).unwrap();
    port.replace_line(linux.line("ttyS1").into());
    port.until("another session", |port| (port.sessions == 3).then_some(()));
    port.hello(None).unwrap();
    for host in [&mut virtio, &mut port] {
        assert_eq!(run(host, "sha256sum /srv/big").0, format!("{}  /srv/big\n", sum(&bytes).digits()));
    }
    linux.say("another machine has the same disk");
}

/// How long an emulated machine may take to boot.
const BOOT: Duration = Duration::from_secs(240);
