//! Events as files, listeners, syslogs and journals get them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use vspc_core::concentrator::EventKind;

use super::tests::event;
use super::*;
use crate::commands;
use crate::folder::Folder;

/// A server's loop, as far as events are concerned.
struct Loop {
    outlets: Outlets,
    ending: Ending,
    _woken: (commands::Receiver, UnixStream),
}

impl Loop {
    fn with(destination: &str) -> Self {
        let (sender, receiver, socket) = commands::pair().unwrap();
        let (mut outlets, ending) = (Outlets::default(), Ending::default());
        outlets.add(start(&destination.parse().unwrap(), &ending, &sender).unwrap(), None);
        Self { outlets, ending, _woken: (receiver, socket) }
    }

    fn skipped(&mut self, bytes: u64) {
        self.outlets.event(&event(EventKind::ReaderSkipped(bytes)));
    }

    fn end(self) {
        drop(self.outlets);
        self.ending.wait();
    }
}

fn bytes_of(line: &str) -> u64 {
    let object: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&object["kind"], &object["console"]["name"]), (&"reader-skipped".into(), &"vm1".into()));
    object["bytes"].as_u64().unwrap()
}

#[test]
fn a_file_gets_lines_and_is_opened_anew_when_that_is_asked() {
    let folder = Folder::new();
    let (path, moved) = (folder.at("events"), folder.at("events.1"));
    let mut events = Loop::with(&format!("file:{}", path.display()));
    let wait_for = |path: &PathBuf, bytes: u64| {
        let deadline = Instant::now() + LONG;
        while !fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n')) {
            assert!(Instant::now() < deadline, "nothing comes");
            thread::yield_now();
        }
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().map(bytes_of).collect::<Vec<_>>(), [bytes]);
    };
    events.skipped(1);
    wait_for(&path, 1);
    fs::rename(&path, &moved).unwrap();
    events.outlets.reopen();
    events.skipped(2);
    wait_for(&path, 2);
    wait_for(&moved, 1);
    events.skipped(3);
    events.end();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().map(bytes_of).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_listener_that_comes_late_or_again_gets_whole_lines_from_a_bounded_queue() {
    let folder = Folder::new();
    let path = folder.at("socket");
    let mut events = Loop::with(&format!("unix:{}", path.display()));
    let all = QUEUE as u64 + 5000;
    for bytes in 0..all {
        events.skipped(bytes);
    }
    let listener = UnixListener::bind(&path).unwrap();
    let mut lines = BufReader::new(listener.accept().unwrap().0).lines().map(Result::unwrap);
    for bytes in 0..QUEUE as u64 {
        assert_eq!(bytes_of(&lines.next().unwrap()), bytes);
    }
    drop(lines);
    // What is written before the end is noticed is lost with the connection.
    listener.set_nonblocking(true).unwrap();
    let stream = loop {
        events.skipped(all);
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => thread::yield_now(),
        }
    };
    stream.set_nonblocking(false).unwrap();
    assert_eq!(bytes_of(&BufReader::new(stream).lines().next().unwrap().unwrap()), all);
    events.end();
}

#[test]
fn a_listener_that_reads_nothing_costs_events_and_never_the_end() {
    let folder = Folder::new();
    let path = folder.at("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut events = Loop::with(&format!("unix:{}", path.display()));
    let one = event(EventKind::ReaderSkipped(1));
    for _ in 0..10_000 {
        events.outlets.event(&one);
    }
    let _silent = listener.accept().unwrap();
    for _ in 0..10_000 {
        events.outlets.event(&one);
    }
    events.end();
}

#[test]
fn a_syslog_gets_messages_of_rfc_5424() {
    let folder = Folder::new();
    let path = folder.at("log");
    let (unix, udp) = (UnixDatagram::bind(&path).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = udp.local_addr().unwrap();
    let mut buffer = [0; 4096];
    for destination in [format!("syslog:{}", path.display()), format!("syslog:{address}")] {
        let mut events = Loop::with(&destination);
        events.skipped(7);
        let n = if destination.contains('/') { unix.recv(&mut buffer) } else { udp.recv(&mut buffer) };
        let text = std::str::from_utf8(&buffer[..n.unwrap()]).unwrap();
        let words: Vec<&str> = text.splitn(8, ' ').collect();
        // daemon.warning
        assert_eq!((words[0], words[3]), ("<28>1", "vspc"), "{text}");
        assert!(words[1].ends_with('Z') && !words[2].is_empty(), "{text}");
        assert_eq!(words[4..7], [&std::process::id().to_string(), "reader-skipped", "-"]);
        assert_eq!(bytes_of(words[7]), 7);
        events.end();
    }
}

#[test]
fn a_journal_gets_each_fact_as_a_field() {
    let folder = Folder::new();
    let path = folder.at("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    let mut events = Loop::with(&format!("journald:{}", path.display()));
    events.skipped(7);
    let mut buffer = [0; 4096];
    let n = journal.recv(&mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..n]).unwrap();
    for field in [
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=vspc",
        "VSPC_EVENT=client-lagged",
        "VSPC_KIND=reader-skipped",
        "VSPC_BYTES=7",
        "VSPC_NAME=vm1",
    ] {
        assert!(text.lines().any(|line| line == field), "{field}: {text}");
    }
    assert!(text.starts_with("MESSAGE=client too slow: 7 bytes skipped vm=\"vm1\""), "{text}");
    assert!(text.ends_with('\n'), "{text}");
    events.end();
}

/// More than a test takes.
const LONG: Duration = Duration::from_secs(60);
