//! Processes (APPLICATION §3).

use std::collections::BTreeMap;

use vspc_core::mux::StreamId;
use vspc_guest::answer::Done;
use vspc_guest::{Belongs, Code, ControlLine, Ending, Exec, Header, Pty, Shell};

use crate::host::{Host, key};
use crate::machine::Machine;

const ALL: &str = "[exec]\nprograms = [\"*\"]\n[shell]\ncommand = [\"/bin/sh\"]\n";

/// A process with all of its streams.
struct Run {
    main: StreamId,
    err: StreamId,
    control: StreamId,
}

fn sh(script: &str) -> Exec {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Exec { argv, with: vec![Belongs::Err, Belongs::Control], ..Exec::new(key()) }
}

fn run(host: &mut Host, exec: &Exec) -> Run {
    let main = host.open(&Header::Exec(exec.clone()).line());
    let err = host.open(&Header::Err { key: exec.key.clone() }.line());
    let control = host.open(&Header::Control { key: exec.key.clone() }.line());
    for id in [main, err, control] {
        host.answer::<Done>(id).unwrap();
    }
    Run { main, err, control }
}

impl Run {
    fn ending(&self, host: &mut Host) -> Ending {
        let line = host.line(self.control);
        Ending::parse(&line).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&line)))
    }

    /// Lets go of all streams.
    fn close(&self, host: &mut Host) {
        for id in [self.main, self.err, self.control] {
            let _ = host.session.finish(id);
            host.rest(id);
        }
    }
}

#[test]
fn a_process_has_its_outputs_apart_and_a_status() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let run = run(&mut host, &sh("echo out; echo err >&2; exit 7"));
    assert_eq!(run.ending(&mut host), Ending::Exit(7));
    assert_eq!(host.rest(run.main), b"out\n");
    assert_eq!(host.rest(run.err), b"err\n");
    assert!(host.rest(run.control).is_empty());
}

#[test]
fn bytes_of_all_kinds_pass_both_ways_and_the_end_of_input_is_seen() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let run = run(&mut host, &sh("cat; echo end >&2"));
    let text: Vec<u8> = (0..600_000u32).map(|at| (at ^ at >> 8) as u8).collect();
    host.write(run.main, &text);
    host.finish(run.main);
    assert_eq!(host.rest(run.err), b"end\n");
    assert!(host.rest(run.main) == text, "the bytes are others");
    assert_eq!(run.ending(&mut host), Ending::Exit(0));
}

#[test]
fn what_is_typed_behind_the_header_is_not_lost_whichever_stream_comes_first() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let exec = sh("read line; echo \"got $line\"");
    let control = host.open(&Header::Control { key: exec.key.clone() }.line());
    let main = host.open(&[&Header::Exec(exec.clone()).line()[..], b"word\n"].concat());
    let err = host.open(&Header::Err { key: exec.key }.line());
    host.answer::<Done>(main).unwrap();
    assert_eq!(host.rest(main), b"got word\n");
    host.answer::<Done>(control).unwrap();
    host.answer::<Done>(err).unwrap();
}

#[test]
fn without_err_both_outputs_come_on_one_stream_and_control_may_come_late() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let exec = Exec { with: Vec::new(), ..sh("echo a; echo b >&2; read line; exit 3") };
    let main = host.open(&Header::Exec(exec.clone()).line());
    host.answer::<Done>(main).unwrap();
    assert_eq!([host.line(main), host.line(main)], [b"a\n", b"b\n"]);
    assert_eq!(host.refusal(&Header::Err { key: exec.key.clone() }).code, Code::IN_USE);
    assert_eq!(host.refusal(&Header::Exec(exec.clone())).code, Code::IN_USE);
    let control = host.open(&Header::Control { key: exec.key.clone() }.line());
    host.answer::<Done>(control).unwrap();
    assert_eq!(host.refusal(&Header::Control { key: exec.key }).code, Code::IN_USE);
    host.write(main, b"\n");
    let line = host.line(control);
    assert_eq!(Ending::parse(&line), Some(Ending::Exit(3)));
}

#[test]
fn signals_reach_the_group_and_an_unknown_one_is_refused() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let run = run(&mut host, &sh("sleep 1000 & echo ready; wait"));
    assert_eq!(host.line(run.main), b"ready\n");
    for line in [&b"{\"signal\":\"SEGV\"}\n"[..], b"{\"rows\":1,\"cols\":1}\n", b"what\n"] {
        host.write(run.control, line);
        let answer = host.answer::<Done>(run.control).unwrap_err();
        assert!([Code::UNSUPPORTED, Code::BAD_LINE].contains(&answer.code), "{answer}");
    }
    host.write(run.control, &ControlLine::Signal("TERM".to_owned()).line());
    assert_eq!(run.ending(&mut host), Ending::Killed("TERM".to_owned()));
    // The sleep, which holds the output, has heard it too.
    assert!(host.rest(run.main).is_empty());
}

#[test]
fn a_reset_hangs_the_process_up() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let pid = machine.folder.join("pid");
    let run = run(&mut host, &sh(&format!("echo $$ > {pid:?}.new; mv {pid:?}.new {pid:?}; sleep 1000")));
    host.until("the process", |_| std::fs::read_to_string(&pid).ok());
    host.session.reset(run.main).unwrap();
    assert_eq!(run.ending(&mut host), Ending::Killed("HUP".to_owned()));
}

#[test]
fn a_process_ends_with_the_session_that_started_it() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let file = machine.folder.join("alive");
    let mut exec =
        sh("trap 'rm \"$0\"; exit' HUP; echo > \"$0\"; echo ready; exec >/dev/null 2>&1; while :; do \
         sleep 0.1; done");
    exec.argv.push(file.display().to_string());
    let run = run(&mut host, &exec);
    assert_eq!(host.line(run.main), b"ready\n");
    assert!(file.exists());
    drop(host);
    let mut host = machine.host();
    host.until("the end of the process", |_| (!file.exists()).then_some(()));
}

/// Whether this process runs; one that nobody has reaped does not. (Its command line is empty while it
/// becomes another program.)
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A process whose only stream has ended in both directions while it runs on; its stream and its number.
fn silent(host: &mut Host, script: &str) -> (StreamId, String) {
    let exec = Exec { with: Vec::new(), ..sh(&format!("echo $$; exec >&- 2>&-; {script}")) };
    let main = host.open(&Header::Exec(exec).line());
    host.answer::<Done>(main).unwrap();
    let pid = String::from_utf8(host.line(main)).unwrap().trim().to_owned();
    host.finish(main);
    host.rest(main);
    (main, pid)
}

#[test]
fn a_process_that_has_let_go_of_its_streams_ends_with_the_session_too() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let (_, pid) = silent(&mut host, "exec sleep 1000");
    assert!(runs(&pid));
    drop(host);
    let mut host = machine.host();
    host.until("the end of the process", |_| (!runs(&pid)).then_some(()));
}

#[test]
fn a_process_of_the_last_session_does_nothing_to_a_stream_of_this_one() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let go = machine.folder.join("go");
    let (old, pid) = silent(&mut host, &format!("trap '' HUP; while ! test -e {go:?}; do sleep 0.05; done"));
    drop(host);
    let mut host = machine.host();
    let exec = Exec { argv: vec!["cat".to_owned()], with: Vec::new(), ..sh("") };
    let main = host.open(&Header::Exec(exec).line());
    host.answer::<Done>(main).unwrap();
    assert_eq!(main, old, "the streams have the same number");
    std::fs::write(go, "").unwrap();
    let place = format!("/proc/{pid}");
    host.until("the end of the process", |_| (!std::path::Path::new(&place).exists()).then_some(()));
    host.write(main, b"word\n");
    assert_eq!(host.line(main), b"word\n");
}

#[test]
fn what_a_process_leaves_behind_is_killed_even_if_it_does_not_hear_that_it_is_hung_up() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let script = "sh -c 'trap \"\" HUP; echo $$; exec sleep 1000' & wait";
    let run = run(&mut host, &sh(script));
    let pid = String::from_utf8(host.line(run.main)).unwrap().trim().to_owned();
    host.session.reset(run.main).unwrap();
    assert_eq!(run.ending(&mut host), Ending::Killed("HUP".to_owned()));
    assert!(runs(&pid));
    host.until("the end of the group", |_| (!runs(&pid)).then_some(()));
}

#[test]
fn a_thousand_short_processes_leave_nothing_behind() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", machine.child.id())).unwrap().count();
    let before = descriptors();
    for number in 0..1000 {
        let exec = Exec { argv: vec!["/bin/echo".to_owned(), number.to_string()], ..sh("") };
        let run = run(&mut host, &exec);
        assert_eq!(run.ending(&mut host), Ending::Exit(0));
        assert_eq!(host.rest(run.main), format!("{number}\n").as_bytes());
        run.close(&mut host);
    }
    assert_eq!(descriptors(), before);
    assert!(host.session.stream_count() < 10, "{} streams", host.session.stream_count());
}

#[test]
fn environment_folder_and_faults_are_told() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let env = BTreeMap::from([("WORD".to_owned(), "x y".to_owned())]);
    let cwd = machine.folder.path().display().to_string();
    let run = run(
        &mut host,
        &Exec { env, cwd: Some(cwd.clone()), ..sh("echo \"$WORD\"; pwd; env | grep -c RUST_LOG") },
    );
    assert_eq!(host.line(run.main), b"x y\n");
    assert_eq!(host.line(run.main), format!("{cwd}\n").as_bytes());
    assert_eq!(host.line(run.main), b"0\n", "what is the agent's is not the process'");
    for (argv, pty, code) in [
        ("no-such-program", None, Code::NO_SUCH_FILE),
        ("/etc/passwd", None, Code::DENIED),
        ("no-such-program", Some(Pty::default()), Code::NO_SUCH_FILE),
        ("/etc/passwd", Some(Pty::default()), Code::DENIED),
    ] {
        let exec = Exec { argv: vec![argv.to_owned()], pty, ..Exec::new(key()) };
        assert_eq!(host.refusal(&Header::Exec(exec)).code, code, "{argv}");
    }
}

#[test]
fn who_has_no_home_is_in_the_root_and_has_one_group() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let machine = Machine::start("[exec]\nprograms = [\"*\"]\nuser = \"nobody\"\n", &[]);
    let mut host = machine.host();
    let run = run(&mut host, &sh("pwd; id -un; id -G | wc -w"));
    let lines = [host.line(run.main), host.line(run.main), host.line(run.main)];
    assert_eq!(lines, [&b"/\n"[..], b"nobody\n", b"1\n"]);
    run.close(&mut host);
}

#[test]
fn a_list_of_programs_allows_these_and_nothing_that_changes_them() {
    let machine = Machine::start("processes = 1\n[exec]\nprograms = [\"/bin/cat\"]\n", &[]);
    let mut host = machine.host();
    let exec =
        |argv: &[&str]| Exec { argv: argv.iter().map(|&it| it.to_owned()).collect(), ..Exec::new(key()) };
    for refused in [
        exec(&["cat"]),
        exec(&["/bin/../bin/cat"]),
        exec(&["/bin/sh"]),
        Exec { env: BTreeMap::from([("LD_PRELOAD".to_owned(), "/x".to_owned())]), ..exec(&["/bin/cat"]) },
        Exec { cwd: Some("/tmp".to_owned()), ..exec(&["/bin/cat"]) },
    ] {
        assert_eq!(host.refusal(&Header::Exec(refused.clone())).code, Code::NOT_ALLOWED, "{refused:?}");
    }
    let id = host.open(&Header::Exec(exec(&["/bin/cat"])).line());
    host.answer::<Done>(id).unwrap();
    assert_eq!(host.refusal(&Header::Exec(exec(&["/bin/cat"]))).code, Code::TOO_MANY);
}

#[test]
fn a_shell_has_a_terminal_of_the_size_that_is_asked_for() {
    let machine = Machine::start(ALL, &[]);
    let mut host = machine.host();
    let pty = Pty { rows: Some(30), cols: Some(100), term: Some("xterm".to_owned()) };
    let shell = Shell { key: key(), pty, with: vec![Belongs::Control] };
    let main = host.open(&Header::Shell(shell.clone()).line());
    let control = host.open(&Header::Control { key: shell.key }.line());
    host.answer::<Done>(main).unwrap();
    host.answer::<Done>(control).unwrap();
    host.write(main, b"stty size; echo $TERM; tty -s && echo is-a-$((40 + 2))\n");
    let text = host.until_text(main, "is-a-42");
    assert!(text.contains("30 100\r\n") && text.contains("xterm\r\n"), "{text}");
    host.write(control, &ControlLine::Size { rows: 50, cols: 132 }.line());
    // Streams keep no order among each other: the size may come after the question.
    host.write(main, b"until [ \"$(stty size)\" = '50 132' ]; do :; done; echo sized-$((1 + 1))\n");
    host.until_text(main, "sized-2");
    // A job in the foreground is interrupted, and the shell goes on.
    host.write(
        main,
        b"trap 'echo caught' INT; sh -c 'echo go-$((1 + 1)); exec sleep 1000'; echo woke-$((1 + 1))\n",
    );
    host.until_text(main, "go-2");
    host.write(main, b"\x03");
    host.until_text(main, "woke-2");
    host.write(main, b"exit 5\n");
    let line = host.line(control);
    assert_eq!(Ending::parse(&line), Some(Ending::Exit(5)));
    host.rest(main);
}
