//! Logs of consoles (docs/logs.md): what a VM prints is in its file, whatever it is called and whatever the
//! disk does, and nobody waits for that.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::peer::{Peer, introduction};
use super::process::{PATIENCE, Server, run};
use super::programs::Folder;

/// A log directory.
struct Place(Folder);

impl Place {
    fn new(name: &str) -> Self {
        Self(Folder::new(&format!("logs-{name}")))
    }

    fn start(&self, options: &[&str]) -> Server {
        let folder = self.0.0.display().to_string();
        Server::start(&[&["--no-banner", "--log-dir", &folder], options].concat())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// All files that are there, by their names.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&self.0.0).unwrap();
        let files = entries.map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        });
        files.collect()
    }

    /// Waits until a file has exactly this.
    fn expect(&self, name: &str, bytes: &[u8]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = fs::read(self.file(name)).unwrap_or_default();
            if found == bytes {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name} has {:?} in {:?}",
                String::from_utf8_lossy(&found),
                self.files().keys()
            );
            thread::yield_now();
        }
    }
}

/// The file of VM 1 of [`introduction`] with the names by default.
fn default_name(number: u8) -> String {
    format!("vm{number}-00112233-4455-6677-8899-aabbccddee{number:02x}.log")
}

/// Its file as Nova looks for it.
fn nova_name(number: u8) -> String {
    format!("00112233445566778899aabbccddee{number:02x}")
}

pub(super) fn a_log_has_what_a_client_saw_at_forty_megabytes_a_second_and_nothing_else() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 120;
    let place = Place::new("bulk");
    let server = place.start(&["--slow-client", "wait"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    let printed: Vec<u8> =
        (0..(PIECE * PIECES) as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for (nth, piece) in printed.chunks(PIECE).enumerate() {
                // It prints at this rate, and no faster.
                let due = started + Duration::from_millis(25) * nth as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                vm.print(piece);
            }
        });
        scope.spawn(|| {
            for piece in printed.chunks(PIECE) {
                client.expect(piece);
            }
        });
    });
    server.signal(Signal::TERM);
    drop((vm, client));
    assert!(server.end().success());
    let files = place.files();
    assert_eq!(files.len(), 1);
    assert!(files[&default_name(1)] == printed, "the log is another");
}

pub(super) fn the_last_line_is_in_the_log_before_it_ends_and_what_is_printed_last_before_the_server_does() {
    let place = Place::new("last");
    let server = place.start(&[]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"login: ");
    place.expect(&default_name(1), b"login: ");
    let mut client = Peer::vm(&server, 2).0;
    client.print(b"last words");
    client.print(b", really");
    drop(client);
    server.line_with("disconnected");
    server.signal(Signal::TERM);
    drop(vm);
    assert!(server.end().success());
    assert_eq!(place.files()[&default_name(2)], b"last words, really");
}

pub(super) fn a_vm_that_does_not_tell_its_name_is_logged_all_the_same() {
    let place = Place::new("nameless");
    let server = place.start(&[]);
    let mut vm = Peer::connect(server.vms);
    let whole = introduction(1);
    let name = whole.windows(3).rposition(|words| words == [255, 250, 232]).unwrap();
    vm.send(&whole[..name]);
    vm.hear(71);
    vm.print(b"who am I");
    let uuid = "00112233-4455-6677-8899-aabbccddee01";
    place.expect(&format!("{uuid}-{uuid}.log"), b"who am I");
    vm.say_name(1);
    vm.print(b"vm1");
    place.expect(&default_name(1), b"vm1");
}

pub(super) fn whatever_vms_are_called_their_logs_are_in_the_directory_and_apart() {
    let place = Place::new("names");
    let inner = place.file("inner");
    fs::create_dir(&inner).unwrap();
    let inner_place = Place(Folder(inner));
    let server = inner_place.start(&["--log-layout", "{name}.log", "--no-vm-ports"]);
    let long = "long".repeat(75);
    let names: [&[u8]; 8] = [
        b"../../etc/passwd",
        b".",
        b"..",
        b"/etc/passwd",
        long.as_bytes(),
        b"nul\0newline\n",
        b"twin",
        b"twin",
    ];
    let mut vms = Vec::new();
    for (number, name) in (1..).zip(names) {
        let mut vm = Peer::vm_without_port(&server, number);
        vm.tell(&[b"\x52", name].concat());
        vm.print(format!("printed by {number}").as_bytes());
        let deadline = Instant::now() + PATIENCE;
        let expected = format!("printed by {number}").into_bytes();
        while !inner_place.files().values().any(|found| *found == expected) {
            assert!(Instant::now() < deadline, "{:?}", inner_place.files());
            thread::yield_now();
        }
        vms.push(vm);
    }
    let files = inner_place.files();
    let logs = files.values().filter(|found| found.starts_with(b"printed by")).count();
    assert_eq!(logs, names.len(), "{files:?}");
    for name in files.keys() {
        assert!(!name.starts_with('.') && !name.contains(char::is_control) && name.len() <= 255, "{name:?}");
    }
    assert!(files.contains_key("twin.log"), "{files:?}");
    assert_eq!(fs::read_dir(&place.0.0).unwrap().count(), 1, "something is beside the log directory");
}

pub(super) fn nova_finds_logs_by_uuid_with_the_mode_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("nova");
    let server = place.start(&["--log-layout", "nova", "--log-mode", "0644"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"booting\r\n");
    place.expect(&nova_name(1), b"booting\r\n");
    let mode = fs::metadata(place.file(&nova_name(1))).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

pub(super) fn logs_are_opened_anew_after_sighup_so_that_they_can_be_rotated() {
    let place = Place::new("rotate");
    let server = place.start(&["--log-layout", "nova"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"before");
    place.expect(&nova_name(1), b"before");
    fs::rename(place.file(&nova_name(1)), place.file("old")).unwrap();
    vm.print(b", between");
    place.expect("old", b"before, between");
    server.signal(Signal::HUP);
    server.line_with("opened anew");
    vm.print(b"after");
    place.expect(&nova_name(1), b"after");
    place.expect("old", b"before, between");
    // One that was removed is made again without being asked for.
    fs::remove_file(place.file(&nova_name(1))).unwrap();
    vm.print(b"again");
    place.expect(&nova_name(1), b"again");
}

pub(super) fn a_log_goes_on_where_it_ended_when_the_server_is_started_again() {
    let place = Place::new("restart");
    for (round, whole) in [(b"one ", &b"one "[..]), (b"two ", b"one two ")] {
        let server = place.start(&["--log-layout", "nova"]);
        let (mut vm, _) = Peer::vm(&server, 1);
        vm.print(round);
        place.expect(&nova_name(1), whole);
        server.signal(Signal::KILL);
        server.end();
    }
}

pub(super) fn a_full_disk_is_told_of_once_keeps_nobody_from_typing_and_is_told_of_in_the_log() {
    let place = Place::new("full");
    let server = place.start(&["--log-layout", "nova"]);
    let (mut vm, mut client) = Peer::vm_and_client(&server, 1);
    server.limit_file_size(Some(1000));
    vm.print(&[b'a'; 900]);
    client.expect(&[b'a'; 900]);
    place.expect(&nova_name(1), &[b'a'; 900]);
    vm.print(&[b'b'; 300]);
    client.expect(&[b'b'; 300]);
    let why = server.line_with("cannot be written");
    assert!(why.contains(&nova_name(1)), "{why}");
    for round in 0..50_u8 {
        client.print(&[b'a' + round % 26]);
        vm.expect(&[b'a' + round % 26]);
        vm.print(&[b'A' + round % 26]);
        client.expect(&[b'A' + round % 26]);
    }
    server.limit_file_size(None);
    // Were it told of again meanwhile, that would be the next line.
    let next = server.line_with("written");
    assert!(next.contains("written again; 250 bytes"), "{next}");
    vm.print(b"after");
    client.expect(b"after");
    let gap = b"\r\n[vspc: 250 bytes are missing here]\r\n";
    place.expect(&nova_name(1), &[&[b'a'; 900][..], &[b'b'; 100], gap, b"after"].concat());
}

pub(super) fn a_directory_that_goes_and_comes_back_costs_what_was_printed_meanwhile() {
    let place = Place::new("gone");
    let inner = place.file("mounted");
    fs::create_dir(&inner).unwrap();
    let inner_place = Place(Folder(inner.clone()));
    let server = inner_place.start(&["--log-layout", "nova"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"before");
    inner_place.expect(&nova_name(1), b"before");
    fs::remove_dir_all(&inner).unwrap();
    vm.print(b"meanwhile");
    server.line_with("cannot be written");
    fs::create_dir(&inner).unwrap();
    server.line_with("written again; 9 bytes");
    vm.print(b"after");
    inner_place.expect(&nova_name(1), b"\r\n[vspc: 9 bytes are missing here]\r\nafter");
}

pub(super) fn what_is_no_file_of_the_directory_is_not_written_to() {
    let place = Place::new("special");
    let outside = Folder::new("logs-outside");
    let target = outside.0.join("target");
    fs::write(&target, b"mine").unwrap();
    std::os::unix::fs::symlink(&target, place.file(&nova_name(1))).unwrap();
    // Whoever opened this one to write would wait for a reader.
    assert!(Command::new("mkfifo").arg(place.file(&nova_name(2))).status().unwrap().success());
    let server = place.start(&["--log-layout", "nova"]);
    // All are there before one prints: waiting for one reads over what is told of those before it.
    let mut vms: Vec<Peer> = (1..=3).map(|number| Peer::vm(&server, number).0).collect();
    vms.iter_mut().for_each(|vm| vm.print(b"printed"));
    server.line_with("cannot be written");
    place.expect(&nova_name(3), b"printed");
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    drop(vms);
    server.signal(Signal::TERM);
    assert!(server.end().success());
}

pub(super) fn a_thousand_consoles_are_logged_with_few_files_open() {
    const VMS: u16 = 1000;
    const LIMIT: usize = 1200;
    let place = Place::new("fleet");
    let folder = place.0.0.display().to_string();
    let options = ["--log-dir", &folder, "--log-layout", "nova", "--no-vm-ports", "--no-admin"];
    let server = Server::with_descriptors(LIMIT, &options);
    let mut vms = Vec::new();
    for number in 0..VMS {
        let mut words = introduction(number as u8);
        let at = words.windows(6).position(|words| words == b"\x5000 11").unwrap();
        words[at + 1..at + 6].copy_from_slice(format!("{:02x} 22", number >> 8).as_bytes());
        let mut vm = Peer::connect(server.vms);
        vm.send(&words);
        vms.push(vm);
    }
    vms.iter_mut().for_each(|vm| drop(vm.hear(71)));
    for round in 0..3 {
        for (number, vm) in vms.iter_mut().enumerate() {
            vm.print(format!("{round} of {number}\r\n").as_bytes());
        }
    }
    let name = |number: u16| format!("{:02x}22{}", number >> 8, &nova_name(number as u8)[4..]);
    for number in 0..VMS {
        let whole: String = (0..3).map(|round| format!("{round} of {number}\r\n")).collect();
        place.expect(&name(number), whole.as_bytes());
    }
    let files = server.descriptors() - usize::from(VMS);
    assert!(files < 32 + LIMIT / 16, "{files} descriptors beside those of VMs");
}

pub(super) fn a_directory_that_is_not_there_keeps_a_server_from_starting() {
    let place = Place::new("absent");
    let options = ["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--no-admin", "--log-dir"];
    let absent = place.file("absent").display().to_string();
    let output = run(&[&options[..], &[&absent]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains(&absent) && why.contains("--log-dir"), "{why}");
}

pub(super) fn a_full_log_becomes_an_older_one_and_the_oldest_goes() {
    let place = Place::new("older");
    let server = place.start(&["--log-layout", "nova", "--log-max-size", "100", "--log-keep", "2"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    let older = |number: usize| format!("{}.{number}", nova_name(1));
    for (round, letter) in [b'a', b'b', b'c', b'd'].into_iter().enumerate() {
        vm.print(&[letter; 60]);
        place.expect(&nova_name(1), &[letter; 60]);
        if round > 0 {
            place.expect(&older(1), &[letter - 1; 60]);
        }
    }
    place.expect(&older(2), &[b'b'; 60]);
    assert_eq!(place.files().len(), 3, "{:?}", place.files().keys());
}

pub(super) fn each_line_has_the_time_at_which_it_began_where_that_is_asked_for() {
    let place = Place::new("times");
    let server = place.start(&["--log-layout", "nova", "--log-timestamps"]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"login: ");
    let deadline = Instant::now() + PATIENCE;
    let read = || fs::read_to_string(place.file(&nova_name(1))).unwrap_or_default();
    while !read().ends_with("Z login: ") {
        assert!(Instant::now() < deadline, "{:?}", read());
        thread::yield_now();
    }
    let first = read();
    vm.print(b"root\r\n# ");
    while !read().ends_with("Z # ") {
        assert!(Instant::now() < deadline, "{:?}", read());
        thread::yield_now();
    }
    let whole = read();
    assert!(whole.starts_with(&format!("{first}root\r\n20")), "{whole:?}");
    assert_eq!(whole.len(), 2 * "2026-11-29T20:54:28.123Z ".len() + "login: root\r\n# ".len());
}
