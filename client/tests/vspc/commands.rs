//! Commands that print and end, and those that go on in a pipe.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::server::FakeServer;
use crate::terminal::Terminal;
use crate::{outcome, surround, vspc};

#[test]
fn list_shows_every_console_in_order_of_names() {
    let server = FakeServer::start(&["web02", "db01", "web01", "mail", "web\u{1b}[31m"]);
    let (code, out, _) = outcome(&vspc(&server, &["list"], b""));
    assert_eq!(code, 0);
    let names: Vec<&str> = out.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["NAME", "db01", "mail", "web01", "web02", "web\\x1b[31m"]);
    assert!(out.lines().nth(3).unwrap().contains("connected 1m"), "{out}");
    let (_, out, _) = outcome(&vspc(&server, &["ls", "WEB0"], b""));
    assert_eq!(out.lines().count(), 3);
}

#[test]
fn an_offer_to_silent_clients_before_the_servers_hello_is_passed_over() {
    let server = FakeServer::start(&["web01"]);
    server.is_impatient();
    let (code, out, error) = outcome(&vspc(&server, &["list"], b""));
    assert!(code == 0 && out.contains("web01"), "{error}");
}

#[test]
fn list_json_is_one_array_of_all_consoles() {
    let server = FakeServer::start(&["web02", "db01", "web01", "mail", "web03"]);
    let (code, out, _) = outcome(&vspc(&server, &["list", "--json"], b""));
    let consoles: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> =
        consoles.as_array().unwrap().iter().map(|console| console["name"].as_str().unwrap()).collect();
    assert_eq!((code, names), (0, vec!["db01", "mail", "web01", "web02", "web03"]));
    assert_eq!(consoles[0]["uuid"], "00000000000000000000000000000002");
    let (_, out, _) = outcome(&vspc(&server, &["list", "--json", "nosuch"], b""));
    assert_eq!(out, "[]\n");
}

#[test]
fn names_may_be_cut_short_and_misspelt_ones_are_answered_with_a_suggestion() {
    let server = FakeServer::start(&["web01", "web02", "database"]);
    assert_eq!(outcome(&vspc(&server, &["send", "data"], b"x")).0, 0);
    server.await_typed("database", b"x");
    let (code, _, error) = outcome(&vspc(&server, &["send", "web"], b"x"));
    assert_eq!(code, 3);
    assert!(error.contains("web01") && error.contains("web02") && !error.contains("database"), "{error}");
    let (code, _, error) = outcome(&vspc(&server, &["send", "databaes"], b"x"));
    assert_eq!((code, error.as_str()), (3, "vspc: there is no console databaes; did you mean database?\n"));
    server.add("web01");
    let (code, _, error) = outcome(&vspc(&server, &["send", "web01"], b"x"));
    assert_eq!((code, error.lines().count()), (3, 3), "both are named: {error}");
}

#[test]
fn send_types_its_input_and_ends_when_the_server_has_it() {
    let server = FakeServer::start(&["web01"]);
    assert_eq!(outcome(&vspc(&server, &["send", "web01"], b"root\nls\n")), (0, String::new(), String::new()));
    assert_eq!(server.typed("web01"), b"root\rls\r");
    let long: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(outcome(&vspc(&server, &["send", "web01", "--raw"], &long)).0, 0);
    assert_eq!(server.typed("web01")[8..], long);
}

#[test]
fn send_waits_for_what_is_expected_or_says_that_it_did_not_come() {
    let server = FakeServer::start(&["web01"]);
    server.print("web01", b"old: login: ");
    let (code, out, _) = outcome(&thread::scope(|scope| {
        let waiting = scope.spawn(|| vspc(&server, &["send", "web01", "--expect", "^lo?gin: $"], b"\n"));
        server.await_typed("web01", b"\r");
        server.print("web01", b"lo");
        server.print("web01", b"gin: ");
        waiting.join().unwrap()
    }));
    assert_eq!((code, out.as_str()), (0, "login: "));
    let args = ["send", "web01", "--expect", "never", "--timeout", "0.05"];
    let (code, _, error) = outcome(&vspc(&server, &args, b""));
    assert_eq!((code, error.as_str()), (6, "vspc: web01 did not print what was expected\n"));
    assert_eq!(outcome(&vspc(&server, &["send", "web01", "--expect", "("], b"")).0, 2);
}

#[test]
fn send_refuses_where_nothing_would_be_typed() {
    let server = FakeServer::start(&["web01"]);
    server.lock("web01", "write");
    let (code, _, error) = outcome(&vspc(&server, &["send", "web01"], b"x"));
    assert_eq!(code, 4);
    assert!(error.contains("bob@192.0.2.9"), "{error}");
    server.unlock("web01");
    server.set_state("web01", "waiting");
    assert_eq!(outcome(&vspc(&server, &["send", "web01"], b"x")).0, 1);
    assert_eq!(server.typed("web01"), b"");
}

#[test]
fn who_shows_clients_and_what_feeds_the_console() {
    let server = FakeServer::start(&["web01"]);
    let (code, out, _) = outcome(&vspc(&server, &["who", "web01"], b""));
    assert_eq!(code, 0);
    assert!(out.contains("8.1  bob\\x1b[31m  192.0.2.9:4001  telnet    write   write  1m"), "{out}");
    assert!(out.contains("VM connection 5.1 from 192.0.2.10:1000, which gets what is typed"), "{out}");
    let (_, out, _) = outcome(&vspc(&server, &["who", "--json", "web01"], b""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["clients"][0]["who"], "ann");
}

#[test]
fn break_bump_and_kick_ask_for_what_was_meant() {
    let server = FakeServer::start(&["web01"]);
    assert_eq!(outcome(&vspc(&server, &["break", "web01"], b"")), (0, String::new(), String::new()));
    assert_eq!(server.await_request("break")["console"], "1.1");
    let args = ["bump", "web01", "--reason", "upgrade"];
    assert_eq!(outcome(&vspc(&server, &args, b"")).1, "2 sent away from web01\n");
    let request = server.await_request("bump");
    assert_eq!((&request["console"], &request["reason"]), (&"1.1".into(), &"upgrade".into()));
    assert!(request.get("client").is_none());
    assert_eq!(outcome(&vspc(&server, &["kick", "web01"], b"")).1, "5.1 cut\n");
    assert_eq!(server.await_request("kick")["client"], "5.1");
    assert_eq!(outcome(&vspc(&server, &["kick", "web01", "--client", "8.1"], b"")).0, 0);
    assert_eq!(server.await_request("kick")["client"], "8.1");
    assert_eq!(outcome(&vspc(&server, &["kick", "web01", "--client", "9.1"], b"")).0, 1);
    let (_, out, _) = outcome(&vspc(&server, &["give-input", "web", "5.1"], b""));
    assert_eq!(out, "5.1 gets what is typed at web01\n");
    let request = server.await_request("give-input");
    assert_eq!((&request["console"], &request["leg"]), (&"1.1".into(), &"5.1".into()));
    let (code, _, error) = outcome(&vspc(&server, &["give-input", "web01", "8.1"], b""));
    assert!(
        code == 1 && error.contains("web01 has no connection 8.1; `vspc who`"),
        "a client is none: {error}"
    );
    server.rights("spectator");
    let (code, _, error) = outcome(&vspc(&server, &["give-input", "web01", "5.1"], b""));
    assert!(code == 4 && error.contains("operator"), "{error}");
    let (code, _, error) = outcome(&vspc(&server, &["break", "web01"], b""));
    assert_eq!((code, error.as_str()), (4, "vspc: you may not do this (this needs the right writer)\n"));
}

#[test]
fn a_server_loads_anew_and_ends_as_it_is_told() {
    let server = FakeServer::start(&[]);
    let (code, out, _) = outcome(&vspc(&server, &["reload"], b""));
    assert_eq!((code, out), (0, format!("{} loads anew; its log tells what came of it\n", server.address)));
    server.await_request("reload");
    assert_eq!(outcome(&vspc(&server, &["drain"], b"")).0, 0);
    server.await_request("drain");
    for (answer, code) in [("n\r", 1), ("y\r", 0)] {
        let terminal = Terminal::start(&server, &["drain"]);
        terminal.await_shown(&format!("End the server {}? (y/n) ", server.address));
        assert!(server.noted("drain").is_none(), "it is asked first");
        terminal.press(answer.as_bytes());
        assert_eq!(terminal.ends(), code);
    }
    server.await_request("drain");
    assert_eq!(Terminal::start(&server, &["drain", "--yes"]).ends(), 0);
    server.await_request("drain");
    server.rights("writer");
    for command in ["reload", "drain"] {
        let (code, _, error) = outcome(&vspc(&server, &[command], b""));
        assert!(code == 4 && error.contains("operator"), "{command}: {error}");
    }
}

#[test]
fn events_are_lines_until_the_server_goes() {
    let server = FakeServer::start(&["web01"]);
    let [(code, out, error), (_, json, _)] = thread::scope(|scope| {
        let runs = [&["events"][..], &["events", "--json"]]
            .map(|args| scope.spawn(|| outcome(&vspc(&server, args, b""))));
        server.await_request("subscribe");
        server.await_request("subscribe");
        server.log(json!({"event": "log", "kind": "vm-identified", "severity": "info",
            "console": {"id": "1.1", "name": "web01"}, "from": "192.0.2.10"}));
        server.die();
        runs.map(|run| run.join().unwrap())
    });
    assert_eq!((code, error.as_str()), (5, "vspc: the server closed the connection\n"));
    assert!(out.ends_with(" info    vm-identified web01 from=192.0.2.10\n"), "{out}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["kind"], "vm-identified");
}

#[test]
fn a_watched_list_tells_of_changes() {
    let server = FakeServer::start(&["web01"]);
    let [(code, out, _), (_, json, _)] = thread::scope(|scope| {
        let runs = [&["list", "--watch"][..], &["list", "--watch", "--json"]]
            .map(|args| scope.spawn(|| outcome(&vspc(&server, args, b""))));
        server.await_request("subscribe");
        server.await_request("subscribe");
        server.set_state("web01", "waiting");
        server.die();
        runs.map(|run| run.join().unwrap())
    });
    assert_eq!((code, out.as_str()), (5, "web01  connected 1m  1 clients\nweb01  waiting 1m  1 clients\n"));
    let notices: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = notices.iter().map(|notice| notice["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["console", "synced", "console"]);
    assert_eq!(notices[2]["console"]["state"], "waiting");
}

#[test]
fn stats_are_names_and_numbers() {
    let server = FakeServer::start(&["web01"]);
    let lines = "connections  3\nconsoles     1\ntyping_us    count 9, p50 40, p99 90, max 120\n";
    assert_eq!(outcome(&vspc(&server, &["stats"], b"")).1, lines);
    let (_, out, _) = outcome(&vspc(&server, &["stats", "--json"], b""));
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["counters"]["connections"], 3);
}

#[test]
fn a_server_that_is_not_there_or_not_ours_is_told_so() {
    let server = FakeServer::start(&[]);
    server.die();
    let (code, _, error) = outcome(&vspc(&server, &["list"], b""));
    assert_eq!(code, 5);
    assert!(error.contains("cannot connect to 127.0.0.1:"), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stranger = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 512]);
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let (code, _, error) = outcome(&vspc(&server, &["list", "--server", &address], b""));
    assert_eq!(code, 5);
    assert!(error.contains("it seems to speak HTTP"), "{error}");
    stranger.join().unwrap();
}

#[test]
fn wrong_use_is_said_on_one_line_and_has_its_own_code() {
    let server = FakeServer::start(&[]);
    for args in [&["list", "--server", ":"][..], &["attach"], &["nosuch"], &["attach", "a", "--escape", "ab"]]
    {
        assert_eq!(outcome(&vspc(&server, args, b"")).0, 2, "{args:?}");
    }
}

#[test]
fn tail_shows_one_console_as_it_is() {
    let server = FakeServer::start(&["web01"]);
    server.print("web01", b"earlier ");
    let (code, out, error) = thread::scope(|scope| {
        let run = scope.spawn(|| outcome(&vspc(&server, &["tail", "web01"], b"")));
        assert_eq!(server.await_request("attach")["lock"], "read-only");
        server.print("web01", b"\x1b[31mred\rno end");
        server.detach("web01", json!({"reason": "expired"}));
        run.join().unwrap()
    });
    assert_eq!((code, out.as_str()), (3, "earlier \x1b[31mred\rno end"));
    assert_eq!(error, "vspc: web01: the end: expired\nvspc: there is nothing left to follow\n");
}

#[test]
fn tail_shows_several_consoles_as_lines_with_their_names() {
    let server = FakeServer::start(&["web01", "database"]);
    let (code, out, error) = thread::scope(|scope| {
        let run = scope.spawn(|| outcome(&vspc(&server, &["tail", "web01", "data", "web"], b"")));
        server.await_request("attach");
        server.await_request("attach");
        server.print("web01", b"one\r\n\x1b[2Jtwo\r\nno end");
        server.print("database", b"ready\n");
        server.set_state("web01", "moving");
        server.detach("web01", json!({"reason": "kicked"}));
        server.detach("database", json!({"reason": "expired"}));
        run.join().unwrap()
    });
    assert_eq!(code, 3);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["database | ready", "web01    | no end", "web01    | one", "web01    | two"]);
    assert!(error.starts_with("vspc: web01: its VM is moving\nvspc: web01: the end: kicked\n"), "{error}");
}

#[test]
fn tail_all_follows_those_that_come_later() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start_with(&server, &["tail", "--all"], &[("NO_COLOR", "1")]);
    server.await_request("attach");
    server.print("web01", b"one\n");
    terminal.await_shown("web01 | one\r\n");
    server.add("web02");
    server.await_request("attach");
    server.print("web02", b"two\n");
    terminal.await_shown("web02 | two\r\n");
    terminal.press(b"\x03");
    assert_eq!(terminal.ends(), -2);
}

#[test]
fn tail_waits_for_a_server_that_goes_away_and_misses_nothing() {
    let server = FakeServer::start(&["web01", "web02"]);
    let env = [("NO_COLOR", "1")];
    let terminal = Terminal::start_with(&server, &["tail", "web01", "web02"], &env);
    server.print("web01", b"one\nbroken ");
    terminal.await_shown("web01 | one\r\n");
    server.die();
    terminal.await_shown("reconnecting");
    server.print("web01", b"off\n");
    server.rise();
    terminal.await_shown("connected again");
    let shown = terminal.await_shown("off\r\n");
    assert!(!shown.contains("one"), "{shown}");
    // One is there at once after a restart, the other comes later.
    server.die();
    server.remove("web02");
    server.rise_anew(b"since\n");
    terminal.await_shown("web02: no such console");
    terminal.await_shown("web01 | since\r\n");
    server.add("web02");
    server.print("web02", b"back\n");
    terminal.await_shown("web02 | back\r\n");
    terminal.press(b"\x03");
    assert_eq!(terminal.ends(), -2);
}

#[test]
fn a_prompt_is_shown_though_its_line_does_not_end() {
    let server = FakeServer::start(&["web01", "web02"]);
    let terminal = Terminal::start(&server, &["tail", "web01", "web02"]);
    server.print("web01", b"login: ");
    terminal.await_shown("\x1b[31mweb01 |\x1b[0m login: ");
    server.print("web01", b"\r\nroot\r\n");
    let shown = terminal.await_shown("root");
    assert_eq!(shown, "\r\n\x1b[31mweb01 |\x1b[0m root", "the end of the prompt is no line of its own");
    terminal.press(b"\x03");
    assert_eq!(terminal.ends(), -2);
}

#[test]
fn where_several_are_meant_a_terminal_is_asked() {
    let server = FakeServer::start(&["web01", "web02"]);
    let terminal = Terminal::start(&server, &["attach", "web"]);
    terminal.await_shown("Which one? ");
    terminal.press(b"2\r");
    terminal.await_shown("web02; ^] ? for help");
    terminal.press(b"x\x1d.");
    server.await_typed("web02", b"x");
    assert_eq!(terminal.ends(), 0);
    let terminal = Terminal::start(&server, &["attach", "web"]);
    terminal.await_shown("Which one? ");
    terminal.press(b"7\r");
    assert_eq!(terminal.ends(), 3);
}

#[test]
fn a_watched_list_on_a_terminal_is_kept_up_to_date() {
    let server = FakeServer::start(&["web01"]);
    let terminal = Terminal::start(&server, &["list", "--watch"]);
    terminal.await_shown("connected 1m");
    server.set_state("web01", "waiting");
    terminal.await_shown("waiting 1m");
    terminal.press(b"\x03");
    assert_eq!(terminal.ends(), -2);
}

#[test]
fn bash_completes_commands_and_the_names_of_consoles() {
    let server = FakeServer::start(&["web01", "web02", "db01", "odd name"]);
    assert_eq!(outcome(&vspc(&server, &["names"], b"")).1, format!("web01\nweb02\ndb01\n{:032x}\n", 4));
    let complete = |words: &[&str]| {
        let script = outcome(&vspc(&server, &["completions", "bash"], b"")).1;
        // As bash does it: what is typed is one line, and its words end at colons, too.
        let line = words.join(" ");
        let broken = line.replace(':', " : ");
        let words: Vec<&str> = broken.split(' ').collect();
        let last = words.len() - 1;
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let quoted = quoted.join(" ");
        let (current, before) = (words[last], words[last - 1]);
        let script = format!(
            "{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={last}; COMP_LINE='{line}'; COMP_POINT={}\n\
             _vspc_consoles vspc '{current}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            line.len()
        );
        let mut bash = Command::new("bash");
        surround(&mut bash, &server);
        let path =
            format!("{}:/usr/bin:/bin", Path::new(env!("CARGO_BIN_EXE_vspc")).parent().unwrap().display());
        let run = bash.env("PATH", path).arg("-c").arg(script).output().unwrap();
        outcome(&run).1.trim_end().to_owned()
    };
    assert_eq!(complete(&["vspc", "att"]), "attach");
    assert_eq!(complete(&["vspc", "attach", "we"]), "web01 web02");
    let other = FakeServer::start(&["db02", "db03"]);
    let at = other.address.to_string();
    assert_eq!(complete(&["vspc", "-s", &at, "tail", "db02", "db"]), "db02 db03");
    assert_eq!(complete(&["vspc", "give-input", "--protocol", "operator", "-s", &at, ""]), "db02 db03");
    assert_eq!(complete(&["vspc", "--protocol=v3", "who", "we"]), "", "the server is asked as it is said");
    assert_eq!(complete(&["vspc", "attach", "--lo"]), "--lock");
}

#[test]
fn manual_pages_are_made_of_the_help() {
    let server = FakeServer::start(&[]);
    let (code, page, _) = outcome(&vspc(&server, &["man"], b""));
    assert!(code == 0 && page.contains(".TH \"vspc\" 1") && page.contains(".SH \"EXIT CODES\""), "{page}");
}

#[test]
fn servers_have_names_and_a_unix_socket_is_as_good() {
    let server = FakeServer::start(&["web01"]);
    let home = format!("{}/home-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let folder = format!("{home}/.config/vspc");
    std::fs::create_dir_all(&folder).unwrap();
    let path = format!("{home}/socket");
    let listener = UnixListener::bind(&path).unwrap();
    let address = server.address;
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(address).unwrap());
            let (mut back, mut from) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut back));
            thread::spawn(move || std::io::copy(&mut &near, &mut &far));
        }
    });
    let config = format!(
        "default = 'here'\nescape = '^A'\n[servers]\nhere = {{ address = '{path}' }}\n\
        there = {{ address = '{address}', protocol = 'operator' }}\n"
    );
    std::fs::write(format!("{folder}/config.toml"), config).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
        surround(&mut command, &server);
        outcome(&command.args(args).env("HOME", &home).env("VSPC_SERVER", "").output().unwrap())
    };
    for args in [&["list"][..], &["list", "-s", "there"], &["-s", &path, "list"]] {
        let (code, out, error) = run(args);
        assert!(code == 0 && out.contains("web01"), "{args:?}: {error}");
    }
    let record = format!("{home}/record");
    let env = [("HOME", home.as_str()), ("VSPC_SERVER", "here")];
    let terminal = Terminal::start_with(&server, &["attach", "web01", "--record", &record], &env);
    terminal.await_shown("^A ? for help");
    server.print("web01", b"kept");
    terminal.await_shown("kept");
    terminal.press(b"\x01.");
    assert_eq!(terminal.ends(), 0);
    assert_eq!(std::fs::read(record).unwrap(), b"kept");
    std::fs::write(format!("{folder}/config.toml"), "servers = 1").unwrap();
    let (code, _, error) = run(&["list"]);
    assert_eq!((code, error), (2, format!("vspc: {folder}/config.toml: servers has to be a table\n")));
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn a_failure_that_nobody_reads_has_its_exit_code() {
    let server = FakeServer::start(&["web01"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vspc"));
    surround(&mut command, &server);
    let status = command.args(["exec", "web01", "--", "nosuch"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(127));
}
