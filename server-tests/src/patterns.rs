//! Watches (docs/configuration.md §3): lines that are looked for in what consoles print are told, and nobody
//! waits for that.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use super::fairness::{keys_arrive, talk_on};
use super::peer::Peer;
use super::process::Server;
use super::programs::Folder;

/// A folder with a configuration file.
struct Place(Folder);

impl Place {
    fn new(name: &str, text: &str) -> Self {
        let place = Self(Folder::new(&format!("patterns-{name}")));
        place.write(text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("vspc.toml"), text).unwrap();
    }

    fn start(&self, options: &[&str]) -> Server {
        let file = self.path("vspc.toml").display().to_string();
        Server::start(&[&["--no-banner", "--config", &file], options].concat())
    }
}

pub(super) fn a_line_that_is_looked_for_is_told_however_it_is_printed() {
    let place = Place::new("told", "");
    let (events, said, program) = (place.path("events"), place.path("said"), place.path("program"));
    let body = format!(
        "#!/bin/sh\necho \"$VSPC_EVENT $VSPC_NAME $VSPC_WATCH $VSPC_UNTOLD $VSPC_LINE\" >> {}\n",
        said.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&program).arg(body);
    assert!(shell.status().unwrap().success());
    place.write(&format!(
        "events-to = 'file:{}'\non-event = '{}'\non-event-kinds = 'pattern-seen'\n\
         [[watch]]\nname = 'panic'\npattern = 'Kernel panic'\nconsole = 'VM*'\n\
         [[watch]]\npattern = 'login: $'\nconsole = ['other', 'vm1']\n",
        events.display(),
        program.display()
    ));
    let server = place.start(&[]);
    let (mut vm, _) = Peer::vm(&server, 1);
    let (mut second, _) = Peer::vm(&server, 2);
    second.print(b"login: ");
    vm.print(b"\x1b[31mKer\x1b[0mnel pa");
    vm.print(b"nic - not ");
    vm.print(b"syncing\r\nrebooting\r\nlog");
    vm.print(b"in: ");
    let line = server.line_with("seen");
    assert!(line.contains("\"panic\" seen: \"Kernel panic - not syncing\" vm=\"vm1\""), "{line}");
    let line = server.line_with("seen");
    assert!(line.contains("\"login: $\" seen: \"login: \" vm=\"vm1\""), "{line}");
    second.print(b"\r\nKernel panic\r\n");
    assert!(server.line_with("seen").contains("vm=\"vm2\""));
    server.signal(Signal::TERM);
    assert!(server.end().success());
    let events = fs::read_to_string(events).unwrap();
    assert_eq!(events.matches("\"kind\":\"pattern-seen\"").count(), 3, "{events}");
    let fields = "\"line\":\"Kernel panic - not syncing\",\"untold\":0,\"watch\":\"panic\"";
    assert!(events.contains(fields), "{events}");
    let mut said: Vec<String> = fs::read_to_string(said).unwrap().lines().map(str::to_owned).collect();
    // Those for one console follow each other, those for another go on beside them.
    said.sort_by_key(|line| line.contains("vm2"));
    assert_eq!(
        said,
        [
            "pattern-seen vm1 panic 0 Kernel panic - not syncing",
            "pattern-seen vm1 login: $ 0 login: ",
            "pattern-seen vm2 panic 0 Kernel panic",
        ]
    );
}

pub(super) fn a_vm_that_prints_what_is_looked_for_without_end_is_told_of_now_and_then_and_holds_nobody_up() {
    let place = Place::new("flood", "[[watch]]\nname = 'x'\npattern = 'x+y'\nat-most = '3/hour'\n");
    let server = place.start(&[]);
    let (vm, client) = Peer::vm_and_client(&server, 1);
    let (printer, _) = Peer::vm(&server, 2);
    talk_on(printer.stream, b"xxxxxxxxxxxxxy\n".repeat(10_000));
    for _ in 0..3 {
        server.line_with("\"x\" seen: \"xxxxxxxxxxxxxy\" vm=\"vm2\"");
    }
    keys_arrive(vm, client);
    let (mut third, _) = Peer::vm(&server, 3);
    // Whatever waits of the flood, this one is looked at too.
    third.print(b"xy\n");
    let line = server.line_with("\"x\" seen");
    assert!(line.contains("vm=\"vm3\""), "{line}");
}

pub(super) fn what_is_looked_for_from_a_hangup_on_is_what_is_printed_from_then_on() {
    let place = Place::new("hangup", "[[watch]]\npattern = 'first'\n");
    let server = place.start(&[]);
    let (mut vm, _) = Peer::vm(&server, 1);
    vm.print(b"first second\n");
    server.line_with("\"first\" seen");
    place.write("[[watch]]\npattern = 'second'\n");
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: [[watch]] is [\"second\"] now; it was [\"first\"]");
    vm.print(b"first\nsecond time\n");
    let line = server.line_with("seen");
    assert!(line.contains("\"second\" seen: \"second time\""), "{line}");
    place.write("[[watch]]\npattern = 'second('\n");
    server.signal(Signal::HUP);
    let file = place.path("vspc.toml").display().to_string();
    server.line_with(&format!(
        "SIGHUP: the options in use stay: {file}:2: pattern cannot be read: unclosed group"
    ));
    vm.print(b"second again\n");
    server.line_with("\"second\" seen: \"second again\"");
    place.write("");
    server.signal(Signal::HUP);
    server.line_with("SIGHUP: [[watch]] is [] now");
    vm.print(b"second end\n");
    server.signal(Signal::TERM);
    server.line_with("stopped");
}
