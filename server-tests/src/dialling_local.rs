//! Serial lines that are this machine's own: programs, pseudoterminals and serial ports.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, test_kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::Folder;

/// The client port of the line of this name, once it is there.
pub(super) fn port_of(server: &Server, name: &str) -> SocketAddr {
    let line = server.line_with(&format!("vm identified vm=\"{name}\""));
    let port: u16 = line.split_once("port=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    SocketAddr::new(server.vms.ip(), port)
}

/// A client of that line.
fn client(server: &Server, name: &str) -> Peer {
    let client = Peer::client(port_of(server, name));
    server.line_with("client attached");
    client
}

/// What a program writes into this file, once it has.
fn written(path: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "{} is not written", path.display()),
        }
        thread::yield_now();
    }
}

/// Waits until there is no process of this number.
fn is_gone(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while test_kill_process(pid).is_ok() {
        assert!(Instant::now() < deadline, "{pid:?} is still there");
        thread::yield_now();
    }
}

pub(super) fn a_line_that_is_a_program_is_run_again_when_it_ends() {
    let folder = Folder::new("exec");
    let script = folder.0.join("a script");
    // It says something, then says back what it hears, and ends at a word.
    let text = "echo \"ready [$1]\"\nwhile read -r word; do\n\
                [ \"$word\" = end ] && echo \"over $1\" >&2 && exit 3; echo \"heard $word\"; done\n";
    fs::write(&script, text).unwrap();
    let line = format!("plc1=exec:sh '{}' 'two words'", script.display());
    let server = Server::start(&["--line", &line, "--no-banner"]);
    let mut client = client(&server, "plc1");
    client.print(b"hello\n");
    // It may have begun before the client came, or later.
    client.expect_somewhere(b"heard hello\n");
    client.print(b"end\n");
    for words in ["says: over two words", "has failed, with status 3"] {
        let line = server.line_with(words);
        assert!(line.contains("exec:sh"), "{line}");
    }
    client.expect(b"ready [two words]\n");
    client.print(b"again\n");
    client.expect(b"heard again\n");
}

pub(super) fn a_program_that_is_missing_or_fails_is_told_of_and_not_run_without_pause() {
    let folder = Folder::new("exec-fails");
    let count = folder.0.join("count");
    let fails = format!("bad=exec:sh -c 'echo x >> {}; echo \"no such line\" >&2; exit 1'", count.display());
    let server =
        Server::start(&["--line", &fails, "--line", "none=exec:/nowhere/ipmitool sol", "--no-banner"]);
    let begun = Instant::now();
    let mut lines: Vec<String> = Vec::new();
    let has = |lines: &[String], words: &str| lines.iter().filter(|line| line.contains(words)).count();
    let missing = "cannot be opened: No such file or directory";
    while has(&lines, missing) == 0 || has(&lines, "with status 1") == 0 {
        lines.push(server.line_with("exec:"));
    }
    let tries = || fs::read_to_string(&count).unwrap().lines().count();
    while tries() < 4 {
        thread::yield_now();
    }
    lines.extend(server.lines_so_far());
    for words in ["says: no such line", "with status 1", "vm connected peer=exec:sh", missing] {
        assert_eq!(has(&lines, words), 1, "{words} is told once: {lines:?}");
    }
    // The pauses are 0.1 s, 0.2 s, 0.4 s and more, a quarter more or less.
    let tries = tries();
    let most = 3 + (begun.elapsed().as_millis() / 225) as usize;
    assert!(tries <= most, "{tries} times within {:?}", begun.elapsed());
    let mut vm = Peer::connect(server.vms).introduced(1);
    Peer::talk(&mut vm, &mut client(&server, "vm1"));
    let refused = super::process::run(&["--line", "x=exec:sh -c 'no end"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("a quote without an end"), "{said}");
}

pub(super) fn a_program_has_nothing_of_the_servers_and_ends_with_it() {
    let folder = Folder::new("exec-ends");
    let (own, fds) = (folder.0.join("own"), folder.0.join("fds"));
    // It is deaf to being told to end, and so is what it has started.
    let script = format!(
        "trap '' TERM HUP; readlink /proc/$$/fd/* > {fds}.new; mv {fds}.new {fds}\n\
         sleep 1000 & echo $$ $! > {own}; while :; do read -r x || sleep 1; done",
        fds = fds.display(),
        own = own.display()
    );
    fs::write(folder.0.join("script"), script).unwrap();
    let line = format!("plc1=exec:bash {}/script", folder.0.display());
    let server = Server::start(&["--line", &line]);
    let client = client(&server, "plc1");
    let own = written(&own);
    let (its, child) = own.split_once(' ').unwrap();
    let open = fs::read_to_string(&fds).unwrap();
    let sockets = open.lines().filter(|open| open.starts_with("socket:")).count();
    assert_eq!(sockets, 2, "its input and its output, which are one: {open}");
    assert!(!open.contains("anon_inode"), "no poller of the server's: {open}");
    let group = fs::read_to_string(format!("/proc/{its}/stat")).unwrap();
    assert_eq!(group.rsplit_once(')').unwrap().1.split(' ').nth(3), Some(its), "a group of its own: {group}");
    drop(client);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert!(begun.elapsed() < Duration::from_secs(10));
    is_gone(its);
    is_gone(child);
}

/// A terminal, as a program has it open.
pub(super) struct Terminal(File);

impl Terminal {
    fn open(path: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match File::options().read(true).write(true).open(path) {
                Ok(file) => return Self(file),
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", path.display()),
            }
            thread::yield_now();
        }
    }

    fn await_input(&self) {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        assert!(poll(&mut ready, Some(&Timespec::try_from(PATIENCE).unwrap())).unwrap() > 0);
    }

    fn send(&self, bytes: &[u8]) {
        (&self.0).write_all(bytes).unwrap();
    }

    fn expect(&self, bytes: &[u8]) {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).unwrap();
            assert!(poll(&mut ready, Some(&patience)).unwrap() > 0, "{got:?}, and nothing more");
            let mut more = [0; 4096];
            let n = (&self.0).read(&mut more).unwrap();
            got.extend_from_slice(&more[..n]);
        }
        assert_eq!(got, bytes);
    }
}

pub(super) fn a_line_that_is_a_pseudoterminal_outlasts_those_who_open_it() {
    let folder = Folder::new("pty");
    let (path, other) = (folder.0.join("plc1"), folder.0.join("plc2"));
    // Left behind by a server that was killed, with its lock; and another program's, which lives.
    symlink("/dev/pts/4711", &path).unwrap();
    fs::write(folder.0.join("plc1.lock"), "").unwrap();
    symlink("/dev/pts/4711", &other).unwrap();
    let lines = [format!("plc1=pty:{}", path.display()), format!("plc2=pty:{}", other.display())];
    let refused = Server::start(&["--line", &lines[1]]);
    let line = refused.line_with("cannot be opened");
    assert!(line.contains("plc2") && line.contains("link is there"), "{line}");
    let server = Server::start(&["--line", &lines[0], "--no-banner"]);
    let mut client = client(&server, "plc1");
    let first = Terminal::open(&path);
    let every: Vec<u8> = (0..=255).collect();
    first.send(&every);
    client.expect(&every);
    client.print(b"to the first\r\x03");
    first.expect(b"to the first\r\x03");
    first.send(b"last words");
    drop(first);
    client.expect(b"last words");
    // More than it takes, of which nothing is read.
    let second = Terminal::open(&path);
    second.send(b"here");
    client.expect(b"here");
    client.print(&[b'x'; 100_000]);
    second.await_input();
    drop(second);
    // Nobody reads that, then and later.
    client.print(b"to nobody");
    // Nothing tells that it has been dropped.
    thread::sleep(Duration::from_millis(300));
    let before = server.processor_time();
    for n in 0..20 {
        let next = Terminal::open(&path);
        next.send(format!("number {n} ").as_bytes());
        client.expect(format!("number {n} ").as_bytes());
    }
    let last = Terminal::open(&path);
    last.send(b"here");
    client.expect(b"here");
    client.print(b"to the last");
    last.expect(b"to the last");
    drop(last);
    assert!(
        server.processor_time() - before < Duration::from_secs(1),
        "a terminal that is closed is no work"
    );
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert!(fs::symlink_metadata(&path).is_err(), "the link is gone");
    assert_eq!(fs::read_link(&other).unwrap(), Path::new("/dev/pts/4711"), "somebody's");
    assert!(!folder.0.join("plc1.lock").exists(), "and so is its lock");
}

/// What stands for a serial port: a terminal, and the cable at its other side.
pub(super) fn cable(device: &Path) -> Terminal {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap();
    let _ = fs::remove_file(device);
    symlink(theirs.to_str().unwrap(), device).unwrap();
    Terminal(File::from(ours))
}

impl Terminal {
    /// Waits until the terminal is set like that.
    fn await_settings(&self, what: &str, is_so: impl Fn(u32, bool) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Through its other side the settings of the terminal are seen.
            let settings = tcgetattr(&self.0).unwrap();
            let is_raw = !settings.local_modes.contains(LocalModes::ECHO);
            if is_so(settings.output_speed(), is_raw) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {settings:?}");
            thread::yield_now();
        }
    }
}

pub(super) fn a_serial_port_is_set_as_clients_say_and_put_back_at_the_end() {
    let folder = Folder::new("tty");
    let device = folder.0.join("plc1");
    let cable = cable(&device);
    let held = File::open(&device).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let before = tcgetattr(&cable.0).unwrap();
    let server =
        Server::start(&["--line", &format!("plc1=tty:{}?speed=9600", device.display()), "--no-banner"]);
    server.line_with("another program has it");
    drop(held);
    let port = port_of(&server, "plc1");
    cable.await_settings("as the URI says", |speed, is_raw| speed == 9600 && is_raw);
    let every: Vec<u8> = (0..=255).chain(*b"\r\n\r\0\xff\xff\r").collect();
    let mut client = Peer::client(port);
    server.line_with("client attached");
    cable.send(&every);
    client.expect(&every);
    client.print(&every[..255]);
    cable.expect(&every[..255]);
    // IAC BRK: what comes behind it comes.
    client.send(b"\xff\xf3");
    client.print(b"behind a break");
    cable.expect(b"behind a break");
    // One that takes it for a port: WILL COM-PORT.
    client.send(b"\xff\xfb\x2c");
    // The modem: all that a device has that knows of none.
    assert_eq!(client.hear_port(107), [0xb0]);
    client.send(b"\xff\xfa\x2c\x01\x00\x00\x4b\x00\xff\xf0");
    assert_eq!(client.hear_port(101), 19_200_u32.to_be_bytes());
    cable.await_settings("as the client says", |speed, _| speed == 19_200);
    // XON/XOFF towards the port, and then seven bits, of which a pseudoterminal has none.
    client.send(b"\xff\xfa\x2c\x05\x02\xff\xf0\xff\xfa\x2c\x02\x07\xff\xf0");
    assert_eq!(client.hear_port(105), [2]);
    assert_eq!(client.hear_port(102), [8]);
    client.print(b"still");
    cable.expect(b"still");
    // A rate is not for what was typed before it: at 300 baud that is on its way for two seconds.
    client.send(b"\xff\xfa\x2c\x01\x00\x00\x01\x2c\xff\xf0");
    assert_eq!(client.hear_port(101), 300_u32.to_be_bytes());
    let slow = [b's'; 60];
    client.send(&[&slow[..], b"\xff\xfa\x2c\x01\x00\x00\x4b\x00\xff\xf0"].concat());
    cable.expect(&slow);
    assert_eq!(tcgetattr(&cable.0).unwrap().output_speed(), 300);
    assert_eq!(client.hear_port(101), 19_200_u32.to_be_bytes());
    cable.await_settings("as it was", |speed, _| speed == 19_200);
    server.signal(Signal::TERM);
    assert!(server.end().success());
    let after = tcgetattr(&cable.0).unwrap();
    assert_eq!(format!("{after:?}"), format!("{before:?}"), "it is as it was");
}

pub(super) fn a_serial_port_that_vanishes_is_opened_again_as_it_was_set() {
    let folder = Folder::new("tty-vanishes");
    let device = folder.0.join("usb");
    let first = cable(&device);
    let server = Server::start(&["--line", &format!("usb=tty:{}", device.display()), "--no-banner"]);
    let mut client = Peer::client(port_of(&server, "usb"));
    server.line_with("client attached");
    client.send(b"\xff\xfb\x2c\xff\xfa\x2c\x01\x00\x00\x12\xc0\xff\xf0");
    assert_eq!(client.hear_port(101), 4800_u32.to_be_bytes());
    first.send(b"before");
    client.expect(b"before");
    // Another terminal may get its number.
    fs::remove_file(&device).unwrap();
    drop(first);
    server.line_with("the device is gone");
    let second = cable(&device);
    second.await_settings("as the client has said", |speed, is_raw| speed == 4800 && is_raw);
    second.send(b" behind");
    client.expect(b" behind");
    client.print(b"here");
    second.expect(b"here");
}
