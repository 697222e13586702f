//! Logs (APPLICATION §6).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use vspc_core::mux::StreamId;
use vspc_guest::{LogOk, answer};

use crate::host::Host;
use crate::machine::{Folder, Machine};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn start(text: &str) -> (Machine, std::path::PathBuf) {
    let folder = Folder::new();
    let path = folder.join("messages");
    if !text.is_empty() {
        append(&path, text);
    }
    let option = format!("messages={}", path.display());
    (Machine::start_in(folder, "", &["--log", &option]), path)
}

fn take(host: &mut Host, back: u64) -> StreamId {
    let (id, _) = host.announced_as("log/messages");
    host.write(id, &answer::ok(&LogOk { back, pack: None }));
    id
}

#[test]
fn a_log_begins_at_a_line_and_goes_on_as_it_grows() {
    let (machine, path) = start("first\nsecond\nthird\n");
    let mut host = machine.host();
    let id = take(&mut host, 10);
    assert_eq!(host.line(id), b"third\n");
    append(&path, "fourth\n");
    assert_eq!(host.line(id), b"fourth\n");
}

#[test]
fn a_log_that_is_replaced_or_cut_loses_nothing_that_was_appended() {
    let (machine, path) = start("");
    let mut host = machine.host();
    let id = take(&mut host, 0);
    // It comes into being later, and is shown from its beginning.
    append(&path, "one\n");
    assert_eq!(host.line(id), b"one\n");
    let mut old = OpenOptions::new().append(true).open(&path).unwrap();
    fs::rename(&path, path.with_extension("1")).unwrap();
    old.write_all(b"two\n").unwrap();
    append(&path, "three\n");
    assert_eq!([host.line(id), host.line(id)], [&b"two\n"[..], b"three\n"]);
    File::create(&path).unwrap();
    append(&path, "the first of many\nand the second\n");
    assert_eq!([host.line(id), host.line(id)], [&b"the first of many\n"[..], b"and the second\n"]);
}

#[test]
fn a_log_that_is_cut_while_no_host_is_there_begins_anew_for_the_next() {
    let (machine, path) = start("");
    let mut host = machine.host();
    let id = take(&mut host, 0);
    append(&path, "one\n");
    assert_eq!(host.line(id), b"one\n");
    host.until("nothing under way", |host| (!host.session.has_output()).then_some(()));
    append(&path, "two\n");
    assert_eq!(host.line(id), b"two\n");
    drop(host);
    let line = machine.line();
    File::create(&path).unwrap();
    append(&path, "the first of many\nand the second\n");

    let mut host = Host::raw(line);
    host.hello(None).unwrap();
    let id = take(&mut host, 0);
    assert_eq!([host.line(id), host.line(id)], [&b"the first of many\n"[..], b"and the second\n"]);
}

#[test]
fn the_next_session_goes_on_with_what_was_not_taken() {
    let (machine, path) = start("");
    let mut host = machine.host();
    let id = take(&mut host, 0);
    append(&path, "one\ntwo\n");
    assert_eq!([host.line(id), host.line(id)], [b"one\n", b"two\n"]);
    // The acknowledgement has to arrive.
    host.until("nothing under way", |host| (!host.session.has_output()).then_some(()));
    append(&path, "probe\n");
    assert_eq!(host.line(id), b"probe\n");
    // From now on nothing is taken.
    host.unread.insert(id);
    append(&path, &"much\n".repeat(100_000));
    host.until("a full window", |host| (host.session.received_len(id) > 30_000).then_some(()));
    drop(host);
    append(&path, "last\n");

    let mut host = machine.host();
    let id = take(&mut host, 1_000_000);
    let text = host.until_text(id, "last\n");
    let text = text.strip_prefix("probe\n").unwrap_or(&text);
    assert_eq!(text.len(), 5 * 100_000 + 5);
}
