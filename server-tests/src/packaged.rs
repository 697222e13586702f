//! What a distribution installs beside the server: logrotate's snippet, the journal, the local syslog.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::fs::fstat;
use rustix::process::{Pid, Signal, kill_process};

use super::peer::Peer;
use super::process::{PATIENCE, Server};
use super::program;
use super::programs::{Folder, is_here};

pub(super) fn logrotate_rotates_logs_as_the_snippet_says_and_nothing_is_lost() {
    // Debian has it where only root looks for programs.
    let sbin = Path::new("/usr/sbin/logrotate");
    let logrotate = if sbin.exists() { sbin } else { Path::new("logrotate") };
    if !sbin.exists() && !is_here("logrotate") {
        return;
    }
    let folder = Folder::new("logrotate");
    let (logs, pid_file) = (folder.0.join("logs"), folder.0.join("pid"));
    fs::create_dir(&logs).unwrap();
    let packaging = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let snippet = fs::read_to_string(packaging.join("logrotate/vspc")).unwrap();
    // Here the directory is the test's own user's.
    assert!(snippet.contains("    su vspc vspc\n") && snippet.contains("/var/log/vspc/*.log {"));
    let snippet = snippet.replace("    su vspc vspc\n", "").replace("/var/log/vspc", logs.to_str().unwrap());
    let snippet = snippet.replace("/run/vspc/vspc.pid", pid_file.to_str().unwrap());
    let (config, state) = (folder.0.join("config"), folder.0.join("state"));
    fs::write(&config, snippet).unwrap();

    let (logs_text, pid_text) = (logs.to_str().unwrap(), pid_file.to_str().unwrap());
    let layout = ["--log-dir", logs_text, "--log-layout", "{uuid}.log", "--pidfile", pid_text];
    let server = Server::start(&layout);
    let (mut vm, _) = Peer::vm(&server, 1);
    let mut printed = String::new();
    let mut print = |vm: &mut Peer, count: usize| {
        for _ in 0..count {
            let line = format!("line {}\n", printed.len());
            vm.print(line.as_bytes());
            printed += &line;
        }
        printed.clone()
    };
    // Whatever is in the files, from the oldest to the one that is written to.
    let logged = || {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().path()).collect();
        // web.log, web.log.1, web.log.2.gz
        let age = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split_once(".log.").map_or(0, |(_, age)| age.trim_end_matches(".gz").parse::<u32>().unwrap())
        };
        files.sort_by_key(age);
        let all = files.iter().rev().flat_map(|path| {
            let cat = if path.extension().is_some_and(|ending| ending == "gz") { "zcat" } else { "cat" };
            Command::new(cat).arg(path).output().unwrap().stdout
        });
        (String::from_utf8(all.collect()).unwrap(), files.len())
    };
    let soon = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: {:?}", logged());
            thread::yield_now();
        }
    };
    for round in 1..=4 {
        let whole = print(&mut vm, 100);
        soon("what is printed is logged", &|| logged().0 == whole);
        let output = Command::new(logrotate).arg("--force").arg("--state").arg(&state).arg(&config).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        // The server may not have been told yet: this is in the old file, or in the new one.
        print(&mut vm, 100);
        server.line_with("opened anew");
        let whole = print(&mut vm, 1);
        soon("a new file is begun", &|| logged().1 == round + 1);
        soon("nothing is lost", &|| logged().0 == whole);
    }
}

pub(super) fn the_journal_is_told_levels_and_no_times() {
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let stat = fstat(&writer).unwrap();
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let server = start(&["-d"], &[("JOURNAL_STREAM", &stream)], writer);
    // What a level is called elsewhere is not in a line.
    let heard: Vec<String> = take_until(&mut lines, "listening on ");
    assert!(heard.iter().all(|line| line.starts_with('<') && line[2..].starts_with('>')), "{heard:?}");
    assert!(heard.last().unwrap().starts_with("<6>listening on "), "{heard:?}");
    drop(server);

    // Another stream than the one that the variable is about has times.
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let server = start(&[], &[("JOURNAL_STREAM", "1:1")], writer);
    let heard = take_until(&mut lines, "listening on ");
    assert!(heard.iter().all(|line| line.starts_with("20") && line.contains("Z ")), "{heard:?}");
    drop(server);

    // What keeps a server from starting is an error there.
    let (reader, writer) = UnixStream::pair().unwrap();
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let stat = fstat(&writer).unwrap();
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    let server = start(&["--max-clients", "0"], &[("JOURNAL_STREAM", &stream)], writer);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    let line = lines.next().unwrap();
    assert!(line.starts_with("<3>--max-clients 0"), "{line}");
    drop(server);
}

pub(super) fn the_local_syslog_has_the_log_and_a_syslog_that_comes_again_goes_on_having_it() {
    let folder = Folder::new("syslog");
    let path = folder.0.join("log");
    let listen = || {
        let syslog = UnixDatagram::bind(&path).unwrap();
        syslog.set_read_timeout(Some(PATIENCE)).unwrap();
        syslog
    };
    let hear = |syslog: &UnixDatagram| {
        let mut message = vec![0; 64 << 10];
        let length = syslog.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let syslog = listen();
    let (reader, writer) = UnixStream::pair().unwrap();
    let options = ["--syslog", "--syslog-socket", path.to_str().unwrap()];
    let server = start(&options, &[], writer);
    let tag = format!("{}[{}]: ", Path::new(program()).file_name().unwrap().to_str().unwrap(), server.0.id());
    let heard = take_until(&mut std::iter::from_fn(|| Some(hear(&syslog))), "listening on ");
    for message in &heard {
        let (priority, rest) = message[1..].split_once('>').unwrap();
        // The facility is daemon: 24 and a severity.
        assert!((24..32).contains(&priority.parse::<u8>().unwrap()), "{message}");
        assert!(message.starts_with('<') && rest.starts_with(&tag) && !rest.contains('\n'), "{message}");
    }
    assert!(heard.last().unwrap().starts_with("<30>"), "{heard:?}");

    drop(syslog);
    fs::remove_file(&path).unwrap();
    let again = listen();
    kill_process(Pid::from_child(&server.0), Signal::USR1).unwrap();
    take_until(&mut std::iter::from_fn(|| Some(hear(&again))), "consoles");
    drop(server);
    // Standard error had nothing to say.
    let said: Vec<String> = BufReader::new(reader).lines().map_while(Result::ok).collect();
    assert!(said.is_empty(), "{said:?}");
}

/// A server whose standard error is this, killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(options: &[&str], variables: &[(&str, &str)], stderr: UnixStream) -> Process {
    let mut command = Command::new(program());
    command.args(["--proxy-iface", "127.0.0.1", "--proxy-port", "0", "--admin-port", "0"]).args(options);
    command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM").envs(variables.iter().copied());
    Process(command.stderr(Stdio::from(OwnedFd::from(stderr))).spawn().unwrap())
}

/// The lines that come up to the first that has these words.
fn take_until(lines: &mut impl Iterator<Item = String>, words: &str) -> Vec<String> {
    let mut taken = Vec::new();
    for line in lines {
        let is_last = line.contains(words);
        taken.push(line);
        if is_last {
            return taken;
        }
    }
    panic!("no line has {words:?}: {taken:?}");
}
