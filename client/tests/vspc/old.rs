//! Against vSPC.py's protocol: what it can do works, and the rest says that it cannot.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::old_server::OldServer;
use crate::server::FakeServer;
use crate::terminal::Terminal;
use crate::{outcome, vspc};

#[test]
fn an_old_server_is_found_out_and_listed() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    for protocol in ["auto", "v3"] {
        let args = ["--server", &server, "--protocol", protocol, "list", "--json"];
        let (code, out, _) = outcome(&vspc(&unused, &args, b""));
        let consoles: Value = serde_json::from_str(&out).unwrap();
        let expected = json!([{"name": "alpha", "uuid": "a-1", "port": 25000}, {"name": "beta", "uuid": "b-1",
            "port": null}]);
        assert_eq!((code, consoles), (0, expected), "{protocol}");
    }
    let (_, out, _) = outcome(&vspc(&unused, &["--server", &server, "list", "a*"], b""));
    assert_eq!(out, "NAME   UUID  PORT\nalpha  a-1   25000\n");
    let args = ["--server", &server, "--protocol", "operator", "list"];
    let (code, _, error) = outcome(&vspc(&unused, &args, b""));
    assert!(code == 5 && error.contains("it speaks vSPC.py's protocol (--protocol v3)"), "{error}");
}

#[test]
fn what_an_old_server_cannot_do_is_said() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    for args in [&["who", "alpha"][..], &["break", "alpha"], &["events"], &["list", "--watch"], &["stats"]] {
        let (code, _, error) = outcome(&vspc(&unused, &[&["--server", &server], args].concat(), b""));
        assert!(code == 1 && error.contains("vSPC.py's protocol, which has no"), "{args:?}: {error}");
    }
    let (code, _, error) = outcome(&vspc(&unused, &["--server", &server, "send", "beta"], b"x"));
    assert_eq!((code, error.as_str()), (4, "vspc: somebody else is there, or has it locked\n"));
    let (code, _, error) = outcome(&vspc(&unused, &["--server", &server, "send", "alhpa"], b"x"));
    assert_eq!((code, error.as_str()), (3, "vspc: there is no console alhpa; did you mean alpha?\n"));
}

#[test]
fn a_console_of_an_old_server_is_used_as_any_other() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    let terminal = Terminal::start(&unused, &["--server", &server, "attach", "al", "--lock", "write"]);
    let (mode, mut socket) = old.await_attach();
    assert_eq!(mode, "write");
    terminal.await_shown("earlier output");
    socket.write_all(b"a\xff\xffb login: ").unwrap();
    terminal.await_shown("login: ");
    terminal.press(b"root\r\x1ds");
    let mut typed = [0; 5];
    socket.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"root\r");
    let shown = terminal.await_shown("server: ");
    assert!(shown.contains("may type (write)"), "{shown}");
    for (key, word) in [("b", "break"), ("k", "bump"), ("l", "lock")] {
        terminal.press(format!("\x1d{key}").as_bytes());
        terminal.await_shown(&format!("vSPC.py's protocol, which has no {word}"));
    }
    drop(socket);
    terminal.await_shown("connected again");
    let (mode, mut socket) = old.await_attach();
    assert_eq!(mode, "write");
    terminal.press(b"x\x1d.");
    let mut typed = Vec::new();
    socket.read_to_end(&mut typed).unwrap();
    assert_eq!(typed, b"x", "what was typed last still leaves");
    drop(socket);
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn send_waits_until_an_old_server_has_it_all() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    let long = vec![0xff; 200_000];
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (_, mut socket) = old.await_attach();
            let mut typed = Vec::new();
            socket.read_to_end(&mut typed).unwrap();
            typed
        });
        assert_eq!(outcome(&vspc(&unused, &["--server", &server, "send", "alpha", "--raw"], &long)).0, 0);
        assert!(reader.join().unwrap() == vec![0xff; 400_000], "each IAC is doubled, and none is lost");
    });
}

#[test]
fn what_was_printed_before_is_not_what_send_expects() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    std::thread::scope(|scope| {
        let printer = scope.spawn(move || {
            let (_, mut socket) = old.await_attach();
            let mut typed = [0; 7];
            socket.read_exact(&mut typed).unwrap();
            socket.write_all(b"new output\r\n").unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let args = ["--server", &server, "send", "alpha", "--expect", "output"];
        let (code, out, error) = outcome(&vspc(&unused, &args, b"uptime\n"));
        assert_eq!((code, out.trim_end(), error.as_str()), (0, "new output", ""));
        printer.join().unwrap();
    });
}

#[test]
fn as_much_earlier_output_is_shown_as_was_asked_for() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    let args = ["--server", &server, "tail", "alpha", "--scrollback", "8"];
    let terminal = Terminal::start(&unused, &args);
    let shown = terminal.await_shown("output\r\r\n");
    assert_eq!(shown, "output\r\r\n");
}

#[test]
fn tail_comes_back_to_an_old_server_once_that_knows_the_console_again() {
    let (unused, old) = (FakeServer::start(&[]), OldServer::start());
    let server = old.address.to_string();
    let env = [("NO_COLOR", "1")];
    let one = Terminal::start_with(&unused, &["--server", &server, "tail", "alpha"], &env);
    let (_, mut socket) = old.await_attach();
    let all = Terminal::start_with(&unused, &["--server", &server, "tail", "--all"], &env);
    all.await_shown("beta: somebody else is there, or has it locked");
    let (_, mut other) = old.await_attach();
    socket.write_all(b"one\n").unwrap();
    other.write_all(b"one\n").unwrap();
    one.await_shown("one\r\n");
    all.await_shown("alpha | one\r\n");
    old.forget();
    drop((socket, other));
    for terminal in [&one, &all] {
        terminal.await_shown("the server closed the connection; reconnecting");
        terminal.await_shown("alpha: there is no console");
        terminal.await_shown("connected again");
    }
    old.recall();
    let _sockets = [(); 2].map(|()| {
        let (_, mut socket) = old.await_attach();
        socket.write_all(b"two\n").unwrap();
        socket
    });
    one.await_shown("two\r\n");
    all.await_shown("alpha | two\r\n");
    for terminal in [one, all] {
        terminal.press(b"\x03");
        assert_eq!(terminal.ends(), -2);
    }
}
