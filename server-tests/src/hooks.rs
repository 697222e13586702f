//! Programs that are run for events (docs/hooks.md): told in order, bounded, and never in the way.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Lines};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use super::listeners::activated;
use super::peer::Peer;
use super::process::Server;
use super::programs::Folder;

/// A program of a test's own, and what it says.
struct Program {
    path: PathBuf,
    said: Lines<BufReader<File>>,
    _folder: Folder,
}

impl Program {
    /// One that does this, with `$SAID` the pipe that the test reads.
    fn new(name: &str, body: &str) -> Self {
        let folder = Folder::new(&format!("hooks-{name}"));
        let (path, pipe) = (folder.0.join("program"), folder.0.join("said"));
        // Written by another process: what is open for writing here, or in a child that another test starts
        // meanwhile, cannot be run.
        let text = format!("#!/bin/sh\nSAID={}\n{body}\n", pipe.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", "mkfifo \"$2\" && printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]);
        assert!(shell.arg(&path).arg(text).arg(&pipe).status().unwrap().success());
        // Open for both, so that neither end waits for the other.
        let pipe = OpenOptions::new().read(true).write(true).open(pipe).unwrap();
        Self { path, said: BufReader::new(pipe).lines(), _folder: folder }
    }

    fn server(&self, options: &[&str]) -> Server {
        let program = self.path.display().to_string();
        Server::start(&[&["--no-banner", "--on-event", &program][..], options].concat())
    }

    fn says(&mut self) -> String {
        self.said.next().unwrap().unwrap()
    }
}

pub(super) fn a_program_gets_no_socket_that_the_server_was_handed_and_no_word_of_it() {
    let body = r#"words=$(env | grep -c ^LISTEN_)
        echo "$VSPC_EVENT: $words words, $(ls -l /proc/$$/fd | grep -c socket:) sockets" > "$SAID""#;
    let mut program = Program::new("handed", body);
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let at = sockets[0].local_addr().unwrap();
    let path = program.path.display().to_string();
    let options = ["--vm-listen", "fd:vm", "--no-admin", "--no-vm-ports", "--on-event", &path];
    let sockets = sockets.into_iter().map(OwnedFd::from).collect();
    let _server = Server::of(&mut activated("vm:other", sockets, &options));
    let _vm = Peer::connect(at).introduced(1);
    assert_eq!(program.says(), "vm-up: 0 words, 0 sockets");
}

pub(super) fn a_program_is_run_for_what_happens_to_a_console_in_that_order() {
    let body = r#"read -r line
        case $line in *'"console":{'*'"name":"vm1"'*) ;; *) exit 1;; esac
        echo "$VSPC_EVENT $VSPC_NAME $VSPC_PORT" > "$SAID""#;
    let mut program = Program::new("order", body);
    let server = program.server(&[]);
    let (vm, port) = Peer::vm(&server, 1);
    let mut said = |event: &str| assert_eq!(program.says(), format!("{event} vm1 {}", port.port()));
    said("port-assigned");
    said("vm-up");
    let client = Peer::client(port);
    said("client-attached");
    drop(client);
    said("client-left");
    drop(vm);
    said("vm-down");
    let _vm = Peer::vm(&server, 1);
    said("vm-up");
    // That the server ends is nothing that has happened to a console.
    server.signal(Signal::TERM);
    assert!(server.end().success());
    let _ = fs::write(program.path.with_file_name("said"), "end\n");
    assert_eq!(program.says(), "end");
}

pub(super) fn programs_that_never_end_keep_nobody_from_typing_and_end_with_the_server() {
    let mut program = Program::new("hang", r#"echo $$ > "$SAID"; sleep 1000 & exec sleep 1000"#);
    let server = program.server(&["--on-event-jobs", "2", "--on-event-timeout", "3600"]);
    let (mut vm, port) = Peer::vm(&server, 1);
    let (_other, _) = Peer::vm(&server, 2);
    let mut client = Peer::client(port);
    let groups = [program.says(), program.says()];
    for round in 0..500_u16 {
        drop(Peer::client(port));
        client.print(&[b'a' + (round % 26) as u8]);
        vm.expect(&[b'a' + (round % 26) as u8]);
    }
    server.signal(Signal::TERM);
    server.line_with("2 were killed at the end");
    assert!(server.end().success());
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    for process in processes {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let group = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(2));
        let is_dead = stat.contains(") Z ");
        assert!(is_dead || group.is_none_or(|group| groups.iter().all(|one| one != group)), "{stat}");
    }
}
