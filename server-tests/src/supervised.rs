//! A server that a service manager has started (sd_notify(3), systemd.service(5)), or a script that wants its
//! process id.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::process::{PATIENCE, Server, run};
use super::program;
use super::programs::{Folder, is_here};

pub(super) fn a_service_manager_hears_when_it_serves_that_it_lives_and_when_it_stops() {
    let folder = Folder::new("supervised");
    let path = folder.0.join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut word = [0; 256];
        let length = manager.recv(&mut word).unwrap();
        String::from_utf8(word[..length].to_vec()).unwrap()
    };
    let mut command = Command::new(program());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000").env_remove("WATCHDOG_PID");
    let local = ["--proxy-iface", "127.0.0.1", "--proxy-port", "0"];
    let server = Server::of(command.args(local).args(["--admin-port", "0"]));
    assert_eq!(hear(), "READY=1");
    // The log has told of the listener by then.
    assert_ne!(server.vms.port(), 0);
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    server.signal(Signal::TERM);
    while hear() != "STOPPING=1" {}
    assert!(server.end().success());
}

pub(super) fn the_process_id_is_in_its_file_for_as_long_as_it_serves() {
    let folder = Folder::new("pidfile");
    let path = folder.0.join("pid");
    let server = Server::start(&["--pidfile", path.to_str().unwrap()]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(Path::new(&format!("/proc/{}", text.trim())).exists(), "{text}");
    server.signal(Signal::TERM);
    assert!(server.end().success());
    assert!(!path.exists());
    let output = run(&["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--pidfile", "/no/such/pid"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.lines().last().unwrap().contains("--pidfile /no/such/pid"), "{text}");
}

pub(super) fn what_vspcpys_start_scripts_say_is_understood() {
    // TEST-NET-1 (RFC 5737) is nobody's address: it ends at once.
    let words = ["--no-fork", "--stdout", "-d", "-a", "0", "-p", "0", "-r", "20000", "-i", "127.0.0.1"];
    let output = run(&[&words[..], &["--proxy-iface", "192.0.2.1"]].concat());
    let (log, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(log.contains("INFO") && log.contains("--no-fork is not needed"), "{log}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("192.0.2.1:0"), "{said}");
}

pub(super) fn the_unit_in_packaging_is_one_and_shuts_the_server_in() {
    if !is_here("systemd-analyze") {
        return;
    }
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd/vspc.service");
    let folder = Folder::new("unit");
    let copy = folder.0.join("vspc.service");
    let text = fs::read_to_string(unit).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/vspc-mio\n"));
    // The program is not installed here.
    fs::write(&copy, text.replace("/usr/bin/vspc-mio", program())).unwrap();
    let analyze = |words: &[&str]| {
        let output = Command::new("systemd-analyze").args(words).arg(&copy).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&text));
        String::from_utf8_lossy(&text).into_owned()
    };
    // The socket's unit is looked at beside it, and asks for what the manual says.
    let packaging = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let socket = fs::read_to_string(packaging.join("vspc.socket")).unwrap();
    assert!(socket.contains("\nListenStream=0.0.0.0:13370\nFileDescriptorName=vm\n"), "{socket}");
    let beside = folder.0.join("vspc.socket");
    fs::write(&beside, socket).unwrap();
    let verify = ["verify", "--man=no", "--recursive-errors=no"];
    let output = Command::new("systemd-analyze").args(verify).arg(&beside).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && !text.contains("vspc.socket"), "{text}");
    let said = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert!(!said.contains("vspc.service"), "{said}");
    // In tenths: 1.5 of 10.
    analyze(&["security", "--offline=true", "--threshold=15"]);
}
