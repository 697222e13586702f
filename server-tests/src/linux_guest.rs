//! A Linux of Debian's in QEMU, whose serial port a relay speaks for: it boots, somebody logs in, and it
//! moves to other hosts. `.ci/guest` makes it; .ci/long has it made, and says where it is (`VSPC_GUEST`).

use std::env;
use std::io::Write;
use std::time::{Duration, Instant};

use super::migration::{Machine, QEMU};
use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::programs::{Folder, is_here};

/// Who sits at the console.
struct Person {
    client: Peer,
    seen: Vec<u8>,
}

impl Person {
    /// Reads on to these words, past them, and returns what was before.
    fn read_to(&mut self, words: &str, patience: Duration) -> String {
        let until = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen.windows(words.len()).position(|bytes| bytes == words.as_bytes()) {
                let before = self.seen.drain(..at).collect::<Vec<_>>();
                self.seen.drain(..words.len());
                return String::from_utf8_lossy(&before).into_owned();
            }
            let text = String::from_utf8_lossy(&self.seen);
            assert!(Instant::now() < until, "{words:?} does not come: {text}");
            self.seen.extend(self.client.take().unwrap_or_default());
        }
    }

    fn type_in(&mut self, words: &str) {
        self.client.stream.write_all(words.as_bytes()).unwrap();
    }
}

/// What the guest counts and what is typed, each a line, and each in its order.
#[derive(Default)]
struct Lines {
    counted: Option<u64>,
    typed: u64,
}

impl Lines {
    fn take(&mut self, line: &str) {
        let line = line.trim_end_matches('\r');
        let number = |prefix: &str| line.strip_prefix(prefix).and_then(|number| number.parse::<u64>().ok());
        if let Some(number) = number("count ") {
            let due = self.counted.map_or(number, |last| last + 1);
            assert_eq!(number, due, "a line that the guest has counted is lost, or comes twice");
            self.counted = Some(number);
        } else {
            assert_eq!(number("typed "), Some(self.typed), "{line:?} is not the next line that was typed");
            self.typed += 1;
        }
    }
}

pub(super) fn a_linux_guest_boots_lets_people_log_in_and_moves_while_it_counts_and_they_type() {
    let Some(guest) = env::var_os("VSPC_GUEST") else {
        println!("skipped: no VSPC_GUEST, which .ci/guest makes");
        return;
    };
    if !is_here(QEMU) {
        println!("skipped: no {QEMU}");
        return;
    }
    let file = |name: &str| format!("{}/{name}", guest.to_str().unwrap());
    let (kernel, initrd) = (file("kernel"), file("initrd"));
    let linux = ["-m", "128", "-kernel", &kernel, "-initrd", &initrd, "-append", "console=ttyS0"];
    let folder = Folder::new("linux");
    let server = Server::start(&["--no-banner"]);
    let stopped = [&linux[..], &["-S"]].concat();
    let mut source = Machine::with(&folder, "host0", server.vms, &stopped, "");
    let mut person = Person { client: Peer::client(server.next_client_port()), seen: Vec::new() };
    server.line_with("client attached");
    // Nobody misses the first line of what the kernel prints.
    source.ask("cont", &serde_json::json!({}));
    person.read_to("Linux version", BOOT);
    person.read_to("login: ", BOOT);
    person.type_in("root\r");
    person.read_to("assword: ", PATIENCE);
    person.type_in("secret\r");
    person.read_to("# ", PATIENCE);
    // From now on the kernel is quiet.
    person.type_in("echo 1 >/proc/sys/kernel/printk; uname -s\r");
    person.read_to("Linux\r\n", PATIENCE);
    person.type_in(
        "stty -echo; (i=0; while :; do echo count $i; i=$((i+1)); usleep 5000; done) & echo begin; cat\r",
    );
    person.read_to("begin\r\n", PATIENCE);
    let mut lines = Lines::default();
    let mut said = 0;
    let mut talk = |person: &mut Person, lines: &mut Lines, is_over: &mut dyn FnMut() -> bool| {
        while !is_over() {
            person.type_in(&format!("typed {said}\r"));
            said += 1;
            lines.take(&person.read_to("\n", PATIENCE));
            lines.take(&person.read_to("\n", PATIENCE));
        }
        said
    };
    for host in 1..=3 {
        let wire = format!("unix:{}", folder.0.join(format!("wire{host}")).display());
        let incoming = [&linux[..], &["-incoming", &wire]].concat();
        let target = Machine::with(&folder, &format!("host{host}"), server.vms, &incoming, "");
        source.ask("migrate", &serde_json::json!({"uri": wire}));
        let mut has_moved = || source.ask("query-migrate", &serde_json::json!({}))["status"] == "completed";
        talk(&mut person, &mut lines, &mut has_moved);
        server.line_with("vmotion completed");
        source = target;
        let until = Instant::now() + Duration::from_millis(500);
        talk(&mut person, &mut lines, &mut || Instant::now() > until);
    }
    let said = talk(&mut person, &mut lines, &mut || true);
    let until = Instant::now() + PATIENCE;
    while lines.typed < said {
        assert!(Instant::now() < until, "{} of {said} lines that were typed came back", lines.typed);
        lines.take(&person.read_to("\n", PATIENCE));
    }
    let counted = lines.counted.unwrap();
    println!("{counted} lines counted and {said} typed, through three moves; all came, once");
}

/// How long an emulated machine may take to boot.
const BOOT: Duration = Duration::from_secs(240);
