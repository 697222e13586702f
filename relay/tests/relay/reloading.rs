//! The program when it is told to read its file anew, when it is told to end, and what a service manager
//! hears of that.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;

use crate::concentrator::Concentrator;
use crate::ground::{Folder, PATIENCE, Running, Target, expect, patient, rest, rest_before_reset, talk};
use crate::process::{PROGRAM, Process};

/// A relay whose file can be changed.
struct Ground {
    folder: Folder,
    relay: Process,
}

impl Ground {
    fn new(text: &str) -> Self {
        let folder = Folder::new();
        let config = folder.file("relay.toml", text);
        let relay = Process::of(Command::new(PROGRAM).args(["--config", &config]));
        Self { folder, relay }
    }

    /// Has it read another file; returns what it says with these words then.
    fn reload(&mut self, text: &str, words: &str) -> String {
        self.folder.file("relay.toml", text);
        self.relay.signal(Signal::HUP);
        self.relay.line_with(words)
    }
}

fn relay(more: &str, to: &Target) -> String {
    format!("[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = '{}'\n{more}", to.endpoint())
}

/// A line that listens, so that the relay connects to it.
fn line(folder: &Folder, name: &str) -> (UnixListener, String) {
    let path = folder.path(&format!("{name}.sock"));
    (UnixListener::bind(&path).unwrap(), path)
}

fn accept(listener: &UnixListener) -> UnixStream {
    let line = listener.accept().unwrap().0;
    line.set_read_timeout(Some(PATIENCE)).unwrap();
    line
}

#[test]
fn another_target_is_for_those_who_come_and_nobody_is_cut_off() {
    let (first, second) = (Target::new(), Target::new());
    let mut ground = Ground::new(&relay("", &first));
    let near = ground.relay.connect();
    let far = first.accept();
    talk(&near, &far);
    ground.reload(&relay("", &second), &format!("is for {}", second.endpoint()));
    talk(&ground.relay.connect(), &second.accept());
    talk(&near, &far);
}

#[test]
fn listeners_come_and_go() {
    let target = Target::new();
    let mut ground = Ground::new(&relay("", &target));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let both = format!("[[relay]]\nlisten = ['tcp://127.0.0.1:0', '{free}']\nto = '{}'", target.endpoint());
    ground.reload(&both, &format!("reloaded: listens on tcp://{free}"));
    talk(&patient(TcpStream::connect(free).unwrap()), &target.accept());
    talk(&ground.relay.connect(), &target.accept());
    let one = format!("[[relay]]\nlisten = '{free}'\nto = '{}'", target.endpoint());
    ground.reload(&one, "no more");
    TcpStream::connect(ground.relay.at).unwrap_err();
    talk(&patient(TcpStream::connect(free).unwrap()), &target.accept());
}

#[test]
fn a_file_that_is_damaged_or_cannot_be_followed_changes_nothing_and_is_named() {
    let (first, second) = (Target::new(), Target::new());
    let mut ground = Ground::new(&relay("", &first));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[[relay]]\nlisten = '{}'\nto = 'a:1'", taken.local_addr().unwrap());
    for (text, words) in [
        ("[[relay]]\nto = 7".to_owned(), "to has to be text"),
        ("[[rela".to_owned(), "relay.toml"),
        (relay(&taken, &second), "somebody listens there"),
        (relay("ca = 'none.pem'", &second), "TLS"),
        (relay("[[lines]]\nfolder = '/nowhere'\nto = 'a:1'", &second), "/nowhere"),
        (
            format!(
                "{}[[relay]]\nlisten = 'tls://127.0.0.1:0'\nlisten-cert = 'x.pem'\nto = 'a:1'",
                relay("", &second)
            ),
            "x.pem",
        ),
    ] {
        let said = ground.reload(&text, "nothing is reloaded");
        assert!(said.contains(words), "{text}: {said}");
        talk(&ground.relay.connect(), &first.accept());
    }
}

#[test]
fn what_takes_a_restart_is_named() {
    let target = Target::new();
    let mut ground = Ground::new(&relay("", &target));
    let control = ground.folder.path("control");
    let text = format!("control = 'unix:{control}'\n{}", relay("", &target));
    ground.reload(&text, "control has changed, which takes a restart");
    assert!(!fs::exists(control).unwrap());
    let line = format!("[[line]]\nfrom = 'unix:{}'\nto = 'a:1'\n", ground.folder.path("vm.sock"));
    ground.reload(&relay(&line, &target), "is spoken for");
    let watched = format!("{line}qmp = 'unix:/vm.qmp'");
    ground.reload(&relay(&watched, &target), "qmp of unix:");
    ground.reload(&relay("", &target), "is spoken for no more");
    ground.reload(&relay("", &target), "nothing has changed");
}

#[test]
fn a_certificate_that_was_renewed_is_shown() {
    let target = Target::new();
    let made = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        (cert.pem(), cert.pem() + &signing_key.serialize_pem())
    };
    let ((old_ca, old), (new_ca, new)) = (made(), made());
    let folder = Folder::new();
    let cert = folder.file("relay.pem", &old);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "{}[[relay]]\nlisten = 'tls://{free}'\nlisten-cert = '{cert}'\nto = '{}'",
        relay("", &target),
        target.endpoint()
    );
    let mut ground = Ground::new(&text);
    let through = |ca: &str, name: &str| {
        let ca = folder.file(name, ca);
        Running::of(&format!("[[relay]]\nlisten = 'tcp://127.0.0.1:0'\nto = 'tls://{free}'\nca = '{ca}'"))
    };
    let (trusts_old, trusts_new) = (through(&old_ca, "old"), through(&new_ca, "new"));
    let (near, far) = (trusts_old.connect(), target.accept());
    talk(&near, &far);
    rest_before_reset(&mut trusts_new.connect());
    folder.file("relay.pem", &new);
    ground.reload(&text, "nothing has changed but");
    talk(&trusts_new.connect(), &target.accept());
    // A session that is up goes on.
    talk(&near, &far);
    rest_before_reset(&mut trusts_old.connect());
    folder.file("relay.pem", "rubbish");
    let said = ground.reload(&text, "nothing is reloaded");
    assert!(said.contains("relay.pem"), "{said}");
    talk(&trusts_new.connect(), &target.accept());
}

#[test]
fn a_line_is_a_vm_of_another_name_and_its_socket_stays() {
    let (folder, concentrator, target) = (Folder::new(), Concentrator::new(), Target::new());
    let (listener, path) = line(&folder, "web01");
    let text = |name: &str| {
        let to = concentrator.endpoint();
        relay(&format!("[[line]]\nfrom = 'unix:{path}'\nname = '{name}'\nto = '{to}'"), &target)
    };
    let mut ground = Ground::new(&text("old"));
    let mut line = accept(&listener);
    let mut vm = concentrator.vm();
    assert_eq!(vm.name, "old");
    line.write_all(b"before").unwrap();
    vm.expect(b"before");
    ground.reload(&text("new"), "\"new\"");
    vm.expect_end();
    let mut vm = concentrator.vm();
    assert_eq!(vm.name, "new");
    line.write_all(b" behind").unwrap();
    vm.expect(b" behind");
    vm.type_in(b"root\r");
    expect(&mut line, b"root\r");
}

#[test]
fn lines_come_and_go_and_one_that_goes_has_its_last_words() {
    let (folder, concentrator, target) = (Folder::new(), Concentrator::new(), Target::new());
    let (first, first_path) = line(&folder, "first");
    let (second, second_path) = line(&folder, "second");
    let text = |paths: &[&str]| {
        let to = concentrator.endpoint();
        let lines = paths.iter().map(|path| format!("[[line]]\nfrom = 'unix:{path}'\nto = '{to}'\n"));
        relay(&lines.collect::<String>(), &target)
    };
    let mut ground = Ground::new(&text(&[&first_path]));
    let mut line = accept(&first);
    let mut vm = concentrator.vm();
    ground.reload(&text(&[&first_path, &second_path]), "second.sock is spoken for");
    let _other = accept(&second);
    assert_eq!(concentrator.vm().name, "second");
    line.write_all(b"last words").unwrap();
    ground.reload(&text(&[&second_path]), "first.sock is spoken for no more");
    vm.expect(b"last words");
    vm.expect_end();
    assert_eq!(rest(&mut line), b"");
}

#[test]
fn the_sockets_of_a_folder_follow_its_target() {
    let (folder, first, second, target) =
        (Folder::new(), Concentrator::new(), Concentrator::new(), Target::new());
    let text = |to: &Concentrator| {
        let vms = folder.0.display();
        relay(&format!("[[lines]]\nfolder = '{vms}'\nto = '{}'", to.endpoint()), &target)
    };
    let (listener, _) = line(&folder, "web01");
    let mut ground = Ground::new(&text(&first));
    let _line = accept(&listener);
    let mut vm = first.vm();
    ground.reload(&text(&second), "in another way");
    vm.expect_end();
    assert_eq!(second.vm().name, "web01");
    ground.reload(&relay("", &target), "no more");
}

#[test]
fn a_relay_that_is_told_to_end_carries_on_what_has_come_and_says_goodbye() {
    let (folder, concentrator, target) = (Folder::new(), Concentrator::new(), Target::new());
    let (listener, path) = line(&folder, "web01");
    let more = format!("[[line]]\nfrom = 'unix:{path}'\nto = '{}'", concentrator.endpoint());
    let mut ground = Ground::new(&relay(&more, &target));
    let mut line = accept(&listener);
    let mut vm = concentrator.vm();
    let mut near = ground.relay.connect();
    let mut far = target.accept();
    talk(&near, &far);
    let words = vec![b'x'; 100_000];
    line.write_all(&words).unwrap();
    near.write_all(b"and then").unwrap();
    ground.relay.signal(Signal::TERM);
    let told = thread::spawn(move || {
        assert_eq!(vm.printed(100_000), words);
        vm.expect_end();
    });
    assert_eq!(rest(&mut far), b"and then");
    assert_eq!(rest(&mut near), b"");
    assert_eq!(rest(&mut line), b"");
    told.join().unwrap();
    ground.relay.line_with("stopped");
    assert_eq!(ground.relay.end(), Some(0));
}

#[test]
fn a_concentrator_that_is_away_keeps_no_relay_from_ending() {
    let (folder, mut concentrator, target) = (Folder::new(), Concentrator::new(), Target::new());
    concentrator.leave();
    let (listener, path) = line(&folder, "web01");
    let more = format!("[[line]]\nfrom = 'unix:{path}'\nto = '{}'", concentrator.endpoint());
    let mut ground = Ground::new(&relay(&more, &target));
    let mut line = accept(&listener);
    line.write_all(b"nobody hears it").unwrap();
    ground.relay.line_with("is not reached");
    ground.relay.signal(Signal::TERM);
    ground.relay.line_with("the concentrator has not all that it printed");
    assert_eq!(ground.relay.end(), Some(0));
}

#[test]
fn a_service_manager_hears_when_it_serves_reloads_lives_and_stops() {
    let (folder, target) = (Folder::new(), Target::new());
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut word = [0; 256];
        let length = manager.recv(&mut word).unwrap();
        String::from_utf8(word[..length].to_vec()).unwrap()
    };
    let config = folder.file("relay.toml", &relay("", &target));
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "150000").env_remove("WATCHDOG_PID");
    let mut relay = Process::of(command.args(["--config", &config]));
    assert_eq!(hear(), "READY=1");
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1");
    }
    let next = || {
        loop {
            match hear().as_str() {
                "WATCHDOG=1" => {}
                other => return other.to_owned(),
            }
        }
    };
    let clock = || {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        uptime.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e6
    };
    for text in [fs::read_to_string(&config).unwrap(), "damaged".to_owned()] {
        fs::write(&config, text).unwrap();
        relay.signal(Signal::HUP);
        let reloading = next();
        let (word, at) = reloading.split_once("\nMONOTONIC_USEC=").unwrap();
        assert_eq!(word, "RELOADING=1");
        assert!((at.parse::<f64>().unwrap() - clock()).abs() < 60e6, "{reloading}");
        assert_eq!(next(), "READY=1");
    }
    relay.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(relay.end(), Some(0));
}

#[test]
fn the_unit_in_packaging_is_one_and_shuts_the_relay_in() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze");
        return;
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd/vspc-relay.service");
    let text = fs::read_to_string(unit).unwrap();
    let folder = Folder::new();
    // Neither the program nor its user is installed here.
    let text = text.replace("/usr/bin/vspc-relay", PROGRAM).replace("=vspc-relay\n", "=daemon\n");
    assert!(text.contains(&format!("ExecStart={PROGRAM} --config /etc/vspc-relay/relay.toml\n")));
    let copy = folder.file("vspc-relay.service", &text);
    for words in [
        &["verify", "--man=no", "--recursive-errors=no"][..],
        // In tenths: 1.8 of 10.
        &["security", "--offline=true", "--threshold=18"],
    ] {
        let output = Command::new("systemd-analyze").args(words).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        assert!(words[0] != "verify" || !said.contains("vspc-relay.service"), "{said}");
    }
}
