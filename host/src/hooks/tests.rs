//! Commands as the system runs them, good and bad.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use vspc_core::concentrator::{CloseReason, EventKind, Stay};

use super::*;
use crate::commands;
use crate::folder::Folder;
use crate::outlets::tests::event;
use crate::outlets::{Kind, Outlets};

/// Programs, and what they say.
struct Scripts(Folder);

impl Scripts {
    fn new() -> Self {
        Self(Folder::new())
    }

    /// A program that does this, and finds in `$FOLDER` where it is.
    fn script(&self, body: &str) -> PathBuf {
        let path = self.0.at("script");
        let text = format!("#!/bin/sh\nFOLDER={}\n{body}\n", self.0.path().display());
        // Written by another process: a program that is open for writing here, or in a child that another
        // test starts meanwhile, cannot be run.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(&path).arg(text);
        assert!(shell.status().unwrap().success());
        path
    }

    /// What scripts write into `$FOLDER/said`, a pipe, line by line.
    fn said(&self) -> Lines<BufReader<fs::File>> {
        let path = self.0.at("said");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Open for both, so that neither end waits for the other, nor sees an end.
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        BufReader::new(file).lines()
    }
}

/// A server's loop, as far as commands are concerned.
struct Loop {
    outlets: Outlets,
    ending: Ending,
    /// What the loop is woken by.
    _woken: (commands::Receiver, UnixStream),
}

impl Loop {
    fn with(program: PathBuf, timeout: Duration, jobs: usize) -> Self {
        let (sender, receiver, socket) = commands::pair().unwrap();
        let mut outlets = Outlets::default();
        let settings = Settings { program, kinds: Vec::new(), timeout, jobs };
        let ending = Ending::default();
        outlets.add(start(settings, &ending, &sender).unwrap(), None);
        Self { outlets, ending, _woken: (receiver, socket) }
    }

    fn left(&mut self, who: &str) {
        let (who, because) = (who.into(), CloseReason::PeerClosed);
        self.outlets.event(&event(EventKind::Left { who, because, stay: Stay::default() }));
    }

    fn end(self) {
        drop(self.outlets);
        self.ending.wait();
    }
}

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_command_is_told_in_variables_and_on_its_input_one_after_the_other() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    let body = r#"read -r line; echo "$VSPC_EVENT $VSPC_NAME $VSPC_WHO $line" > "$FOLDER/said""#;
    let mut hooks = Loop::with(scripts.script(body), LONG, 8);
    for nth in 0..5 {
        hooks.left(&format!("ann{nth}"));
    }
    for nth in 0..5 {
        let line = said.next().unwrap().unwrap();
        let (words, json) = line.split_once('{').unwrap();
        assert_eq!(words, format!("client-left vm1 ann{nth} "));
        let json: serde_json::Value = serde_json::from_str(&format!("{{{json}")).unwrap();
        assert_eq!((&json["kind"], &json["who"]), (&"left".into(), &format!("ann{nth}").into()));
    }
    hooks.end();
}

#[test]
fn those_that_never_end_are_killed_with_what_they_have_started_and_others_follow() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    // The pipe would have two writers more if `sleep` lived on.
    let body = r#"echo "$$ $VSPC_WHO" > "$FOLDER/said"; sleep 1000 & sleep 1000"#;
    let mut hooks = Loop::with(scripts.script(body), Duration::from_millis(200), 1);
    hooks.left("ann");
    hooks.left("bob");
    let mut groups = Vec::new();
    for who in ["ann", "bob"] {
        let line = said.next().unwrap().unwrap();
        let (group, name) = line.split_once(' ').unwrap();
        assert_eq!(name, who);
        groups.push(group.to_owned());
    }
    hooks.end();
    assert!(groups.iter().all(|group| !is_alive(group)));
}

#[test]
fn a_burst_leaves_a_bounded_number_waiting_and_all_is_killed_at_the_end() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    let mut hooks = Loop::with(scripts.script(r#"echo $$ > "$FOLDER/said"; exec sleep 1000"#), LONG, 3);
    // Of no console: each may run beside the others.
    let mut event = event(EventKind::ReaderSkipped(1));
    event.console = None;
    for _ in 0..10_000 {
        hooks.outlets.event(&event);
    }
    let groups: Vec<_> = said.by_ref().take(3).map(Result::unwrap).collect();
    assert!(groups.iter().all(|group| is_alive(group)));
    hooks.end();
    assert!(groups.iter().all(|group| !is_alive(group)));
    let _ = fs::write(scripts.0.at("said"), "end\n");
    assert_eq!(said.next().unwrap().unwrap(), "end", "no other was started");
}

#[test]
fn one_that_fails_and_reads_nothing_keeps_no_other_from_running() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    let body = r#"exec < /dev/null; echo "$VSPC_WHO" > "$FOLDER/said"; exit 3"#;
    let mut hooks = Loop::with(scripts.script(body), LONG, 1);
    for who in ["ann", "bob", "cid"] {
        hooks.left(who);
        assert_eq!(said.next().unwrap().unwrap(), who);
    }
    hooks.end();
}

#[test]
fn one_that_is_missing_is_run_as_soon_as_it_is_there() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    let program = scripts.script(r#"echo "$VSPC_WHO" > "$FOLDER/said""#);
    let aside = scripts.0.at("aside");
    fs::rename(&program, &aside).unwrap();
    let mut hooks = Loop::with(program.clone(), LONG, 1);
    hooks.left("ann");
    fs::rename(&aside, &program).unwrap();
    hooks.left("bob");
    // It may have been there in time for the first.
    while said.next().unwrap().unwrap() != "bob" {}
    hooks.end();
}

fn is_alive(group: &str) -> bool {
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|process| {
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut fields = fields.split(' ');
        let state = fields.next();
        fields.nth(1) == Some(group) && state != Some("Z")
    })
}

#[test]
fn only_the_kinds_that_are_asked_for_are_run_for() {
    let scripts = Scripts::new();
    let mut said = scripts.said();
    let (sender, _receiver, _socket) = commands::pair().unwrap();
    let mut outlets = Outlets::default();
    let program = scripts.script(r#"echo "$VSPC_EVENT" > "$FOLDER/said""#);
    let kinds = vec![Kind::ClientLagged];
    let settings = Settings { program, kinds, timeout: LONG, jobs: 1 };
    let ending = Ending::default();
    outlets.add(start(settings, &ending, &sender).unwrap(), None);
    outlets.event(&event(EventKind::ClientAttached { clients: 1 }));
    outlets.event(&event(EventKind::ReaderSkipped(1)));
    assert_eq!(said.next().unwrap().unwrap(), "client-lagged");
    drop(outlets);
    ending.wait();
}
