//! `vspc log`: what comes of the records that a server sends.

use serde_json::{Value, json};
use vspc_core::admin::operator::LogRecord;

use crate::server::FakeServer;
use crate::{outcome, vspc};

const T: u64 = 1_796_000_000_000;

#[test]
fn a_log_is_asked_for_as_the_user_says_and_shown_as_it_is() {
    let server = FakeServer::start(&["web01"]);
    let large: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let records = [
        LogRecord::Time(T),
        LogRecord::Stamp(b"2026-11-30T00:53:20.000Z "),
        LogRecord::Text(b"log\xffin:"),
        LogRecord::Place("a.b.c"),
        LogRecord::Note("a file \x1b[2J is gone"),
        LogRecord::Text(&large),
    ];
    server.log_is("web01", &records);
    let output = vspc(&server, &["log", "web01", "--since", "10min", "--until", "2026-11-30T01:00:00Z"], b"");
    let whole = [&b"2026-11-30T00:53:20.000Z log\xffin:"[..], &large].concat();
    assert!(output.stdout == whole, "{} bytes", output.stdout.len());
    assert_eq!(outcome(&output).0, 0);
    assert_eq!(outcome(&output).2, "vspc: a file \\x1b[2J is gone\n");
    let request = server.await_request("log");
    assert_eq!(request["since"], json!({"ago_ms": 600_000}));
    assert_eq!(request["until"], json!({"at_ms": T + 400_000}));
    assert_eq!((&request["follow"], &request["lines"]), (&json!(false), &Value::Null));
    vspc(&server, &["log", "web01", "-n", "5"], b"");
    assert_eq!(server.await_request("log")["lines"], 5);
}

#[test]
fn lines_are_found_over_the_ends_of_records_and_without_regard_to_colours() {
    let server = FakeServer::start(&["web01"]);
    let records = [&b"one\r\nt\x1b[1"[..], b"mwo\r\nthree t", b"wo\r\nf\xffur\n", b"two at the end"];
    server.log_is("web01", &records.map(LogRecord::Text));
    for (words, shown) in [
        (&["--grep", "^two"][..], &b"t\x1b[1mwo\r\ntwo at the end"[..]),
        (&["--grep", "two$"], b"t\x1b[1mwo\r\nthree two\r\n"),
        (&["--grep", "two", "--lines", "2", "--strip-ansi"], b"three two\r\ntwo at the end"),
        (&["--grep", "^f.ur$"], b"f\xffur\n"),
        (&["--grep", "five"], b""),
    ] {
        let output = vspc(&server, &[&["log", "web01"], words].concat(), b"");
        assert!(output.stdout == shown, "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    let (code, _, error) = outcome(&vspc(&server, &["log", "web01", "--grep", "("], b""));
    assert!(code == 2 && error.contains("--grep"), "{error}");
}

#[test]
fn a_cast_has_whole_characters_and_the_seconds_since_it_began() {
    let server = FakeServer::start(&["web01"]);
    let records = [
        LogRecord::Text(b"before any time"),
        LogRecord::Time(T + 700),
        LogRecord::Stamp(b"2026-11-30T00:53:20.000Z "),
        LogRecord::Text(b"\x1b[1m\xe2\x82"),
        LogRecord::Time(T + 2500),
        LogRecord::Text(b"\xac \xff\r\n"),
        LogRecord::Time(T),
        LogRecord::Text(b"the clock was put back"),
    ];
    server.log_is("web01", &records);
    let (code, cast, error) = outcome(&vspc(&server, &["log", "web01", "--cast", "-"], b""));
    let lines: Vec<Value> = cast.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let head = json!({"version": 2, "width": 80, "height": 24, "timestamp": T / 1000, "title": "web01"});
    let events = [
        json!([0.0, "o", "\u{1b}[1m"]),
        json!([1.8, "o", "\u{20ac} \u{fffd}\r\n"]),
        json!([1.8, "o", "the clock was put back"]),
    ];
    assert_eq!((code, &lines[0], &lines[1..]), (0, &head, &events[..]));
    assert!(error.contains("left out"), "{error}");
    server.log_is("web01", &records[..1]);
    let (code, _, error) = outcome(&vspc(&server, &["log", "web01", "--cast", "-"], b""));
    assert!(code == 1 && error.contains("--log-index"), "{error}");
}

#[test]
fn what_cannot_be_read_is_a_failure_with_the_reason() {
    let server = FakeServer::start(&["web01"]);
    let (code, _, error) = outcome(&vspc(&server, &["log", "web01"], b""));
    assert!(code == 1 && error.contains("shows no logs"), "{error}");
    server.log_is("web01", &[LogRecord::Text(b"so far"), LogRecord::Failed("the disk is gone")]);
    let (code, shown, error) = outcome(&vspc(&server, &["log", "web01"], b""));
    assert_eq!((code, &*shown, &*error), (1, "so far", "vspc: the disk is gone\n"));
    let (code, ..) = outcome(&vspc(&server, &["log", "web09"], b""));
    assert_eq!(code, 3);
}
