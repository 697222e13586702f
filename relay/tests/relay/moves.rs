//! Moves of lines' VMs that a concentrator does not play along with, told of by the program. What it does
//! with one that does, and with QEMU, is tested against the servers.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use vspc_core::vmware::{Message, Said};

use crate::concentrator::{Concentrator, Vm};
use crate::ground::{Folder, PATIENCE, Running, expect};

/// A line, and its relay, which can be told of moves.
struct Ground {
    folder: Folder,
    listener: UnixListener,
    concentrator: Concentrator,
    _relay: Running,
}

impl Ground {
    fn new() -> Self {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.path("vm.sock")).unwrap();
        let concentrator = Concentrator::new();
        let relay = Running::of(&format!(
            "control = 'unix:{}'\n[[line]]\nfrom = 'unix:{}'\nuuid = '{UUID}'\nto = '{}'",
            folder.path("control"),
            folder.path("vm.sock"),
            concentrator.endpoint()
        ));
        Self { folder, listener, concentrator, _relay: relay }
    }

    fn line(&self) -> UnixStream {
        let line = self.listener.accept().unwrap().0;
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        line
    }

    /// Has the program do this step, and waits for its end in the meantime.
    fn migrate(&self, step: &str, more: &[&str]) -> thread::JoinHandle<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vspc-relay"));
        command.args(["migrate", step, "vm", "--control", &format!("unix:{}", self.folder.path("control"))]);
        command.args(more);
        thread::spawn(move || command.output().unwrap())
    }
}

/// It has succeeded; what it has printed.
fn printed(step: thread::JoinHandle<Output>) -> String {
    let output = step.join().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// It has failed; why.
fn refused(step: thread::JoinHandle<Output>) -> String {
    let output = step.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

fn sequence(vm: &mut Vm) -> Vec<u8> {
    match vm.of_move() {
        Said::VmotionBegin { sequence } => sequence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_secret_of_a_move_is_printed_or_written_and_is_what_the_concentrator_said() {
    let ground = Ground::new();
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    let watcher = ground.migrate("secret", &[]);
    line.write_all(b"last words").unwrap();
    let file = ground.folder.path("secret");
    let begin = ground.migrate("begin", &["--secret-file", &file]);
    let sequence = sequence(&mut vm);
    // All that was printed is before that.
    vm.expect(b"last words");
    let both = [&sequence[..], &[255, 0, 7]].concat();
    vm.tell(&Message::VmotionGoahead { sequence_and_secret: &both });
    assert_eq!(printed(begin), "");
    let hex: String = sequence.iter().map(|byte| format!("{byte:02x}")).collect();
    let word = fs::read_to_string(&file).unwrap();
    assert_eq!(word, format!("vspc1.{hex}.ff0007.\n"));
    // It may have asked too late; then it is answered by the next move.
    ground.migrate("abort", &[]).join().unwrap();
    assert!(matches!(vm.of_move(), Said::VmotionAbort { .. }));
    if !watcher.is_finished() {
        let begin = ground.migrate("begin", &[]);
        let sequence = self::sequence(&mut vm);
        vm.tell(&Message::VmotionGoahead { sequence_and_secret: &sequence });
        printed(begin);
    }
    assert!(printed(watcher).starts_with("vspc1."));
}

#[test]
fn a_move_that_the_concentrator_puts_off_changes_nothing() {
    let ground = Ground::new();
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    let begin = ground.migrate("begin", &[]);
    let sequence = sequence(&mut vm);
    vm.type_in(b"meanwhile");
    vm.tell(&Message::VmotionNotnow { sequence: &sequence });
    assert!(refused(begin).contains("now"));
    expect(&mut line, b"meanwhile");
    line.write_all(b"and on").unwrap();
    vm.expect(b"and on");
}

#[test]
fn a_concentrator_that_ends_while_a_vm_leaves_is_connected_to_again_when_it_stays() {
    let ground = Ground::new();
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    let begin = ground.migrate("begin", &[]);
    let sequence = sequence(&mut vm);
    vm.tell(&Message::VmotionGoahead { sequence_and_secret: &sequence });
    printed(begin);
    vm.reset();
    line.write_all(b"it stays").unwrap();
    printed(ground.migrate("abort", &[]));
    let mut vm = ground.concentrator.vm();
    vm.expect(b"it stays");
}

#[test]
fn a_vm_whose_secret_nobody_knows_comes_by_itself_and_loses_nothing_that_it_prints() {
    let ground = Ground::new();
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    printed(ground.migrate("expect", &[]));
    vm.expect_end();
    line.write_all(b"it runs").unwrap();
    // A concentrator that was started again in the middle.
    let step = ground.migrate("expect", &["--secret", "vspc1.01020304.05060708.6c73"]);
    let mut vm = ground.concentrator.accept();
    let Said::VmotionPeer { sequence_and_secret } = vm.of_move() else { panic!("it says something else") };
    assert_eq!(sequence_and_secret, [1, 2, 3, 4, 5, 6, 7, 8]);
    let step = refused(step);
    assert!(!step.is_empty());
    vm.expect_end();
    let complete = ground.migrate("complete", &[]);
    let mut vm = ground.concentrator.vm();
    assert_eq!(vm.uuid.unwrap().to_string(), UUID);
    vm.expect(b"it runs");
    assert!(refused(complete).contains("secret"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let ground = Ground::new();
    let _line = ground.line();
    let mut vm = ground.concentrator.vm();
    assert!(refused(ground.migrate("complete", &[])).contains("no VM was expected"));
    let first = ground.migrate("begin", &[]);
    let sequence = sequence(&mut vm);
    assert!(refused(ground.migrate("begin", &[])).contains("under way"));
    vm.tell(&Message::VmotionGoahead { sequence_and_secret: &sequence });
    printed(first);
    assert!(refused(ground.migrate("expect", &["--secret", "word"])).contains("vspc1"));
    let nobody = Command::new(env!("CARGO_BIN_EXE_vspc-relay"))
        .args(["migrate", "begin", "vm", "--control", "unix:/nowhere"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
}

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

/// Answers as a QEMU whose VM comes while it is asked, and waits for the end.
fn qemu_whose_vm_comes(control: &UnixListener) {
    let (mut socket, _) = control.accept().unwrap();
    let lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let mut say = |what: &str| socket.write_all(format!("{what}\n").as_bytes()).unwrap();
    say(r#"{"QMP": {"version": {}, "capabilities": []}}"#);
    for line in lines.map_while(Result::ok) {
        let id = line.rsplit(':').next().unwrap().trim_end_matches('}').to_owned();
        let answer = if line.contains("query-status") {
            say(r#"{"event": "RESUME"}"#);
            say(r#"{"event": "MIGRATION", "data": {"status": "completed"}}"#);
            r#"{"status": "running"}"#
        } else if line.contains("query-migrate") {
            r#"{"status": "completed"}"#
        } else {
            "{}"
        };
        say(&format!(r#"{{"return": {answer}, "id": {id}}}"#));
    }
}

#[test]
fn a_vm_that_comes_while_its_qemu_is_asked_is_the_target_of_its_move() {
    let (folder, concentrator) = (Folder::new(), Concentrator::new());
    let listener = UnixListener::bind(folder.path("vm.sock")).unwrap();
    let control = UnixListener::bind(folder.path("vm.qmp")).unwrap();
    let secret = folder.path("secret");
    let relay = Running::of(&format!(
        "[[line]]\nfrom = 'unix:{}'\nuuid = '{UUID}'\nto = '{}'\nqmp = 'unix:{}'\nsecret-file = '{secret}'",
        folder.path("vm.sock"),
        concentrator.endpoint(),
        folder.path("vm.qmp")
    ));
    let _line = listener.accept().unwrap();
    let qemu = thread::spawn(move || qemu_whose_vm_comes(&control));
    // The source's relay may be a moment behind.
    fs::write(folder.path("secret.new"), "vspc1.01020304.05060708.\n").unwrap();
    fs::rename(folder.path("secret.new"), &secret).unwrap();
    let mut vm = concentrator.accept();
    let Said::VmotionPeer { sequence_and_secret } = vm.of_move() else { panic!("it says something else") };
    assert_eq!(sequence_and_secret, [1, 2, 3, 4, 5, 6, 7, 8]);
    vm.tell(&Message::VmotionPeerOk { sequence: &[1, 2, 3, 4] });
    assert!(matches!(vm.of_move(), Said::VmotionComplete { .. }));
    drop(relay);
    qemu.join().unwrap();
}

/// libvirt's hook at a target: with the arguments and on its standard input the XML that libvirt passes.
fn hook(ground: &Ground, arguments: &[&str], socket: &str) {
    let xml = format!(
        "<domain type='kvm' id='7'>\n  <name>guest-7</name>\n  <devices>\n    <serial type='pty'>\n      \
         <source path='/dev/pts/3'/>\n    </serial>\n    <serial type='unix'>\n      <source mode='bind' \
         path='/run/vms/{socket}.sock'/>\n      <target type='isa-serial' port='0'>\n        <model \
         name='isa-serial'/>\n      </target>\n      <alias name='serial0'/>\n    </serial>\n    \
         <channel type='unix'>\n      <source mode='bind' path='/run/vms/agent.sock'/>\n    </channel>\n  \
         </devices>\n</domain>\n"
    );
    let program = Path::new(env!("CARGO_BIN_EXE_vspc-relay"));
    let path = format!("{}:{}", program.parent().unwrap().display(), env::var("PATH").unwrap());
    let mut hook = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/libvirt/qemu"))
        .args(arguments)
        .env("PATH", path)
        .env("VSPC_RELAY_CONTROL", format!("unix:{}", ground.folder.path("control")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has nothing to do reads nothing.
    let _ = hook.stdin.take().unwrap().write_all(xml.as_bytes());
    let output = hook.wait_with_output().unwrap();
    // What it prints would be taken for the machine's new XML, and a failure ends the migration.
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn libvirts_hook_has_nobody_speak_for_a_machine_that_is_on_its_way() {
    for (name, socket) in [("vm", "else"), ("guest-7", "vm")] {
        let ground = Ground::new();
        let mut line = ground.line();
        let mut vm = ground.concentrator.vm();
        for arguments in [["migrate", "end"], ["start", "begin"], ["started", "begin"]] {
            hook(&ground, &[name, arguments[0], arguments[1], "-"], socket);
        }
        line.write_all(b"login: ").unwrap();
        vm.expect(b"login: ");
        // libvirt asks at the target before its QEMU is started.
        hook(&ground, &[name, "migrate", "begin", "-"], socket);
        vm.expect_end();
        line.write_all(b"it stays away").unwrap();
        // The migration has failed: the machine there is released.
        hook(&ground, &[name, "release", "end", "migrated"], socket);
        let mut vm = ground.concentrator.vm();
        vm.expect(b"it stays away");
    }
    // Without a relay it is in nobody's way.
    let ground = Ground::new();
    let _line = ground.line();
    fs::remove_file(ground.folder.path("control")).unwrap();
    hook(&ground, &["vm", "migrate", "begin", "-"], "vm");
}
