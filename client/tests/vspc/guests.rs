//! Processes in a guest: `vspc exec` and `vspc shell`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;

use crate::server::FakeServer;
use crate::terminal::Terminal;
use crate::{outcome, surround, vspc};

/// Starts `vspc exec web01` with this program, and returns it with its output.
fn start(server: &FakeServer, program: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, server);
    command.args(["exec", "web01", "--", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn exec_has_the_programs_output_its_errors_and_its_status() {
    let server = FakeServer::start(&["web01"]);
    let ran = outcome(&vspc(&server, &["exec", "web01", "--", "fail"], b""));
    assert_eq!(ran, (7, "out\n".to_owned(), "err\n".to_owned()));
    let args = ["exec", "web", "-e", "A=b=c", "--cwd", "/srv", "show", "-l", "--", "\u{e4} \""];
    let (code, out, _) = outcome(&vspc(&server, &args, b""));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["argv"]), (0, &serde_json::json!(["show", "-l", "--", "\u{e4} \""])));
    assert_eq!((&shown["env"]["A"], &shown["cwd"]), (&"b=c".into(), &"/srv".into()));
}

#[test]
fn exec_carries_every_byte_of_the_input_and_its_end() {
    let server = FakeServer::start(&["web01"]);
    let input: Vec<u8> = (0..400_000u32).map(|i| (i % 253) as u8).chain(0..=255).collect();
    let (mut child, mut out) = start(&server, "cat");
    let into = child.stdin.take().unwrap();
    let read = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut into = into;
            into.write_all(&input).unwrap();
        });
        let mut read = Vec::new();
        out.read_to_end(&mut read).unwrap();
        writing.join().unwrap();
        read
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(read, input);
}

#[test]
fn signals_reach_the_process_and_a_second_one_gives_it_up() {
    let server = FakeServer::start(&["web01"]);
    let (mut child, mut out) = start(&server, "wait");
    out.read_line(&mut String::new()).unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let (mut child, mut out) = start(&server, "stubborn");
    out.read_line(&mut String::new()).unwrap();
    signal(&child, Signal::INT);
    server.await_note("{\"signal\":\"INT\"}");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    server.await_note("reset exec");
}

#[test]
fn a_signal_that_comes_while_vspc_is_stopped_reaches_the_process_afterwards() {
    let server = FakeServer::start(&["web01"]);
    let (mut child, mut out) = start(&server, "wait");
    out.read_line(&mut String::new()).unwrap();
    signal(&child, Signal::TSTP);
    let (_, status) =
        waitpid(Pid::from_raw(child.id().cast_signed()), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped());
    signal(&child, Signal::TERM);
    signal(&child, Signal::CONT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_process_whose_output_nobody_reads_is_ended() {
    let server = FakeServer::start(&["web01"]);
    let (mut child, mut out) = start(&server, "yes");
    let mut some = [0; 4];
    out.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"y\ny\n");
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 13));
    server.await_note("reset exec");
}

#[test]
fn what_has_not_run_has_codes_of_its_own() {
    let server = FakeServer::start(&["web01"]);
    let exec = |program: &str| outcome(&vspc(&server, &["exec", "web01", program], b""));
    let (code, _, error) = exec("nosuch");
    assert_eq!((code, error.as_str()), (127, "vspc: web01: there is no such file (by the script)\n"));
    assert_eq!(outcome(&vspc(&server, &["exec", "other", "cat"], b"")).0, 125);
    assert_eq!(outcome(&vspc(&server, &["exec", "web01"], b"")).0, 2);
    server.agent_is_away(true);
    let (code, _, error) = exec("cat");
    assert_eq!((code, error.as_str()), (125, "vspc: no agent has answered\n"));
    server.knows_no_guests();
    let (code, _, error) = exec("cat");
    let is_told = error.ends_with("does not reach into guests (it is older)\n") && error.lines().count() == 1;
    assert!(code == 125 && is_told, "{error}");
}

#[test]
fn a_process_whose_line_is_lost_is_told_of() {
    let server = FakeServer::start(&["web01"]);
    let (child, mut out) = start(&server, "wait");
    out.read_line(&mut String::new()).unwrap();
    server.lose_guest();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(125));
}

#[test]
fn a_shell_has_this_terminal_and_ends_with_its_status() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["shell", "web01"]);
    terminal.await_shown("$ ");
    terminal.press(b"ls -l\r");
    terminal.await_shown("ls -l\r");
    terminal.resize(50, 132);
    server.await_note("{\"cols\":132,\"rows\":50}");
    terminal.press(b"\x1d?");
    terminal.await_shown("after ^]: . leaves");
    terminal.press(b"exit\r");
    assert_eq!(terminal.ends(), 3);
}

#[test]
fn a_shell_is_left_by_the_escape_character_and_needs_a_terminal() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["shell", "web01", "--escape", "^A"]);
    terminal.await_shown("$ ");
    terminal.press(b"\x1d\x01\x01x");
    terminal.await_shown("\x1d\x01x");
    terminal.press(b"\x01.");
    assert_eq!(terminal.ends(), 0);
    server.await_note("reset shell");
    let (code, _, error) = outcome(&vspc(&server, &["shell", "web01"], b""));
    assert!(code == 2 && error.contains("vspc exec web01 -- sh"), "{error}");
}

#[test]
fn exec_with_a_terminal_passes_keys_on_and_leaves_the_terminal_as_it_was() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["exec", "--pty", "web01", "show"]);
    terminal.await_shown("\"term\":\"xterm\"");
    assert_eq!(terminal.ends(), 0);
    let terminal = Terminal::start(&server, &["exec", "-t", "web01", "cat"]);
    terminal.await_shown("$ ");
    terminal.press(b"a\x03\x04");
    terminal.await_shown("a\x03\x04");
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.ends(), 128 + 15);
}

#[test]
fn a_terminal_is_the_users_until_the_guest_has_answered() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["exec", "-t", "web01", "mute"]);
    server.await_note("mute");
    assert!(terminal.is_as_found());
    terminal.press(b"\x03");
    assert_eq!(terminal.ends(), -2);
}

#[test]
fn a_program_that_reads_nothing_is_left_by_the_escape_character_and_given_up_by_two_interrupts() {
    let server = FakeServer::start(&["web01"]);
    for (keys, code) in [(&b"\x1d."[..], 0), (b"\x03\x03", -2)] {
        let terminal = Terminal::start(&server, &["exec", "-t", "web01", "deaf"]);
        terminal.await_shown("$ ");
        terminal.press(&vec![b'x'; 3 << 19]);
        keys.chunks(1).for_each(|key| terminal.press(key));
        assert_eq!(terminal.ends(), code);
    }
}
