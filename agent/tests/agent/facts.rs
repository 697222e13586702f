//! Facts (APPLICATION §7).

use std::process::Output;

use vspc_guest::{FactLine, Facts, Listener, Teller};

use crate::host::Host;
use crate::machine::{Folder, Machine, agent};

fn ask(machine: &Machine, words: &[&str]) -> Output {
    agent().args(words).arg("--control").arg(machine.folder.join("control")).output().unwrap()
}

fn start() -> Machine {
    let folder = Folder::new();
    let control = folder.join("control").display().to_string();
    Machine::start_in(folder, "[facts]\n\"rack\" = \"7\"\n", &["--control", &control])
}

/// Hears facts until one is so.
fn until_told(
    host: &mut Host,
    id: vspc_core::mux::StreamId,
    listener: &mut Listener,
    key: &str,
    value: Option<&str>,
) {
    while listener.facts().get(key) != value {
        let line = host.line(id);
        listener.handle_line(&line).unwrap();
    }
}

#[test]
fn both_sides_tell_each_other_what_is_so() {
    let machine = start();
    let mut host = machine.host();
    let (id, _) = host.announced_as("facts");
    host.accept(id);
    let mut listener = Listener::default();
    until_told(&mut host, id, &mut listener, "rack", Some("7"));
    until_told(&mut host, id, &mut listener, "agent.version", Some(env!("CARGO_PKG_VERSION")));
    // It is told as it changes.
    assert!(ask(&machine, &["publish", "state=ready", "text=a=b"]).status.success());
    until_told(&mut host, id, &mut listener, "state", Some("ready"));
    until_told(&mut host, id, &mut listener, "text", Some("a=b"));
    assert!(ask(&machine, &["unpublish", "state"]).status.success());
    until_told(&mut host, id, &mut listener, "state", None);

    // The other way.
    let mut facts = Facts::default();
    facts.set("owner", "ann").unwrap();
    facts.set("site", "north\nwing").unwrap();
    let mut teller = Teller::new(&facts);
    while let Some(line) = teller.poll(&facts) {
        host.write(id, &line);
    }
    host.write(id, &FactLine::Set("probe".to_owned(), "1".to_owned()).line());
    host.until("the fact", |_| (ask(&machine, &["get", "probe"]).stdout == b"1\n").then_some(()));
    assert_eq!(ask(&machine, &["get", "owner"]).stdout, b"ann\n");
    assert_eq!(ask(&machine, &["get"]).stdout, b"owner=ann\nprobe=1\nsite=north\nwing\n");
    let unknown = ask(&machine, &["get", "nothing"]);
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(1), 0));
    // What was told is known while the line is away, and until the next host has told all.
    drop(host);
    assert_eq!(ask(&machine, &["get", "owner"]).stdout, b"ann\n");
    let mut host = machine.host();
    let (id, _) = host.announced_as("facts");
    host.accept(id);
    host.write(id, &FactLine::All.line());
    host.until("another owner", |_| ask(&machine, &["get"]).stdout.is_empty().then_some(()));
}

#[test]
fn what_is_too_much_is_refused_and_the_agent_goes_on() {
    let machine = start();
    let mut host = machine.host();
    let (id, _) = host.announced_as("facts");
    host.accept(id);
    for bad in ["no-value", "a b=1", "=1"] {
        assert!(!ask(&machine, &["publish", bad]).status.success(), "{bad}");
    }
    assert!(!ask(&machine, &["publish", &format!("long={}", "x".repeat(4097))]).status.success());
    // The host's lines: an endless one ends the stream, and the session stays.
    host.write(id, &vec![b'x'; 40_000]);
    host.until("the end of facts", |host| (!host.session.has_output()).then_some(()));
    assert!(ask(&machine, &["publish", "a=1"]).status.success());
    host.refusal(&vspc_guest::Header::Connect(vspc_guest::Connect { to: "unix:/x".to_owned() }));
}
