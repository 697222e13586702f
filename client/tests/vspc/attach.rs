//! `vspc attach` on a terminal: what is typed, what is shown, and how the terminal is left.

use rustix::process::{Signal, WaitOptions, waitpid};
use serde_json::json;

use crate::server::FakeServer;
use crate::terminal::Terminal;

#[test]
fn keys_go_to_the_console_and_its_output_to_the_screen() {
    let server = FakeServer::start(&["web01"]);
    server.print("web01", b"earlier\r\n");
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("earlier");
    assert!(!terminal.is_as_found(), "a console needs a raw terminal");
    terminal.press(b"ls\x03\x1a\r");
    server.await_typed("web01", b"ls\x03\x1a\r");
    server.print("web01", b"\x1b[31mred\xff");
    terminal.await_shown("\x1b[31mred");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn the_menu_helps_breaks_and_types_the_escape_character() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01", "--escape", "^A"]);
    terminal.await_shown("^A ? for help");
    terminal.press(b"\x01?");
    terminal.await_shown("send a break");
    terminal.press(b"\x01b");
    assert_eq!(server.await_request("break")["stream"], server.await_request("attach")["stream"]);
    terminal.await_shown("break sent");
    terminal.press(b"\x01\x01\x1d");
    server.await_typed("web01", b"\x01\x1d");
    terminal.press(b"\x01%");
    terminal.await_shown("^A % does nothing");
    terminal.press(b"\x01w");
    let shown = terminal.await_shown("VM connection 5.1");
    assert!(shown.contains("bob\\x1b[31m"), "{shown:?}");
    terminal.press(b"\x01s");
    terminal.await_shown("VM: connected for 1m at 192.0.2.10");
    terminal.press(b"\x01k");
    terminal.await_shown("(y/n)");
    terminal.press(b"y");
    terminal.await_shown("2 sent away");
    terminal.press(b"\x01q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn the_size_of_the_window_is_typed_as_a_command() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    terminal.resize(50, 132);
    terminal.press(b"\x1dy");
    server.await_typed("web01", b"stty rows 50 cols 132\r");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn the_server_is_told_how_large_the_window_is_and_each_change_of_that() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start_sized(&server, &["attach", "web01"], (40, 120));
    terminal.await_shown("for help");
    let attach = server.await_request("attach");
    assert_eq!(attach["size"], json!({"rows": 40, "cols": 120}));
    terminal.resize(50, 132);
    let resize = server.await_request("resize");
    assert_eq!(resize["size"], json!({"rows": 50, "cols": 132}));
    assert_eq!(resize["stream"], attach["stream"]);
    // What is the same is not told again.
    terminal.signal(Signal::WINCH);
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
    assert_eq!(server.noted("resize"), None);
}

#[test]
fn a_server_that_knows_no_sizes_is_not_told_of_changes() {
    let server = FakeServer::start(&["web01"]);
    server.knows_no_guests();
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    terminal.resize(50, 132);
    terminal.press(b"\x1dyx");
    server.await_typed("web01", b"stty rows 50 cols 132\rx");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
    assert_eq!(server.noted("resize"), None);
}

#[test]
fn whoever_watches_for_somebodys_lock_types_again_once_that_is_given_up() {
    let server = FakeServer::start(&["web01"]);
    server.lock("web01", "write");
    let unlocked = json!({"event": "access", "access": "read", "lock": null});
    let spectator = Terminal::start(&server, &["attach", "web01", "--lock", "read-only"]);
    spectator.await_shown("you may only watch");
    server.tell("web01", unlocked.clone());
    server.print("web01", b"told");
    spectator.await_shown("told");
    spectator.press(b"\x1d.");
    assert_eq!(spectator.ends(), 0);
    assert!(server.noted("lock").is_none(), "whoever came to watch watches");
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("you may only watch; bob@192.0.2.9 has it locked");
    server.unlock("web01");
    server.tell("web01", unlocked);
    terminal.await_shown("you may type now");
    terminal.press(b"y\x1d.");
    server.await_typed("web01", b"y");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn a_lock_is_taken_and_given_up_and_others_locks_are_told_of() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    terminal.press(b"\x1dl");
    terminal.await_shown("nobody else may type now");
    let other = Terminal::start(&server, &["attach", "web01"]);
    other.await_shown("you may only watch");
    other.press(b"x");
    other.await_shown("you may only watch; ^] l asks for the write lock");
    other.press(b"\x1dl");
    other.await_shown("somebody has it locked (bob@192.0.2.9)");
    server.tell("web01", json!({"event": "access", "access": "write", "lock": null}));
    let shown = other.await_shown("you may type now");
    assert!(!shown.contains("only watch now"), "{shown}");
    terminal.press(b"\x1du");
    let shown = terminal.await_shown("others may type as well now");
    assert!(!shown.contains("you may type now"), "nothing has changed for this one: {shown}");
    other.press(b"\x1d.");
    assert_eq!(other.ends(), 0);
    terminal.press(b"y");
    server.await_typed("web01", b"y");
    assert_eq!(server.typed("web01"), b"", "who may only watch types nothing");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
    server.lock("web01", "exclusive");
    let refused = Terminal::start(&server, &["attach", "web01"]);
    refused.await_shown("somebody has it locked");
    assert_eq!(refused.ends(), 4);
}

#[test]
fn what_happens_to_the_vm_is_told_at_its_place_in_the_output() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    server.print("web01", b"before");
    server.set_state("web01", "moving");
    server.print("web01", b"after");
    let shown = terminal.await_shown("after");
    let place = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text}: {shown:?}"));
    assert!(place("before") < place("moving to another host"));
    server.tell("web01", json!({"event": "missed", "bytes": 2048}));
    terminal.await_shown("2.0 KiB of output were missed here");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn a_server_that_goes_away_is_waited_for_and_nothing_is_missed() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    server.print("web01", b"one");
    terminal.await_shown("one");
    server.die();
    terminal.await_shown("reconnecting");
    terminal.await_shown("trying again");
    terminal.press(b"lost");
    server.print("web01", b"two");
    server.rise();
    let shown = terminal.await_shown("two");
    assert!(shown.contains("connected again") && !shown.contains("one"), "{shown:?}");
    terminal.press(b"typed");
    server.await_typed("web01", b"typed");
    assert_eq!(server.typed("web01"), b"");
    // A server that was started anew has other ids and another epoch.
    server.die();
    terminal.await_shown("trying again");
    server.rise_anew(b"since");
    terminal.await_shown("some of what was printed meanwhile may be lost");
    terminal.await_shown("since");
    server.print("web01", b"three");
    terminal.await_shown("three");
    // While nobody is there, the menu is.
    server.die();
    terminal.await_shown("trying again");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn who_is_sent_away_is_told_why() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    server.print("web01", b"last words");
    server.detach("web01", json!({"reason": "bumped", "message": "my turn", "by": "carol"}));
    terminal.await_shown("last words");
    terminal.await_shown("you were sent away from web01 by carol: my turn");
    assert_eq!(terminal.ends(), 4);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    server.detach("web01", json!({"reason": "expired"}));
    assert_eq!(terminal.ends(), 3);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    server.detach("web01", json!({"reason": "no-right"}));
    terminal.await_shown("you may not use web01 any more");
    assert_eq!(terminal.ends(), 4);
}

#[test]
fn the_terminal_is_left_as_it_was_found_by_every_signal() {
    let server = FakeServer::start(&["web01"]);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let terminal = Terminal::start(&server, &["attach", "web01"]);
        terminal.await_shown("for help");
        assert!(!terminal.is_as_found());
        terminal.signal(signal);
        assert_eq!(terminal.ends(), -signal.as_raw());
    }
}

#[test]
fn the_terminal_is_the_shells_while_the_program_is_suspended() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    for suspend in [true, false] {
        if suspend {
            terminal.press(b"\x1dz");
        } else {
            terminal.signal(Signal::TSTP);
        }
        let (_, status) = waitpid(Some(terminal.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped() && terminal.is_as_found());
        terminal.signal(Signal::CONT);
        server.print("web01", b"again");
        terminal.await_shown("again");
        assert!(!terminal.is_as_found());
    }
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn times_and_hexadecimal_are_shown_on_request() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["attach", "web01"]);
    terminal.await_shown("for help");
    terminal.press(b"\x1dt\x1dt");
    terminal.await_shown("the time since the start");
    server.print("web01", b"line\r\n");
    terminal.await_shown(" line\r\n");
    terminal.press(b"\x1dh");
    terminal.await_shown("hexadecimal view");
    server.print("web01", b"\x00A");
    terminal.await_shown("00000006  00 41");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn output_is_recorded_and_paged() {
    let server = FakeServer::start(&["web01"]);
    let folder = env!("CARGO_TARGET_TMPDIR");
    let file = format!("{folder}/record-{}", std::process::id());
    let env = [("PAGER", "sed s/^/paged:/")];
    let terminal = Terminal::start_with(&server, &["attach", "web01"], &env);
    terminal.await_shown("for help");
    terminal.press(b"\x1dr");
    terminal.await_shown("which file?");
    terminal.press(format!("{file}X\x7f\r").as_bytes());
    terminal.await_shown("recording to");
    server.print("web01", b"\xff\x00 kept\r\n");
    terminal.await_shown("kept");
    terminal.press(b"\x1dr");
    terminal.await_shown("recorded 9 B");
    server.print("web01", b"not kept\r\n");
    terminal.await_shown("not kept");
    assert_eq!(std::fs::read(&file).unwrap(), b"\xff\x00 kept\r\n");
    terminal.press(b"\x1dp");
    terminal.await_shown("paged:not kept");
    terminal.await_shown("back at the console");
    terminal.press(b"x");
    server.await_typed("web01", b"x");
    terminal.press(b"\x1d.");
    assert_eq!(terminal.ends(), 0);
    std::fs::remove_file(&file).unwrap();
}
