//! A serial port that loses bytes, fails, or changes who is at its other end, while something is under way.

use std::fs;
use std::os::fd::OwnedFd;

use vspc_core::mux::{Priority, StreamId};
use vspc_guest::answer::Done;
use vspc_guest::copy::{GetOk, PutOk, Whole};
use vspc_guest::{Belongs, Ending, Exec, Get, Header, Pty, Put, Sum, answer};

use crate::copies::{sum, text};
use crate::host::{Host, key};
use crate::port::{OneIn, Port, host, port};

fn put(port: &Port, name: &str, bytes: &[u8]) -> Header {
    Header::Put(Put {
        path: port.path(name),
        size: bytes.len() as u64,
        mode: 0o600,
        sha256: Some(sum(bytes).digits().to_owned()),
        tag: None,
        sum: Sum::Sha256,
        pack: None,
    })
}

/// Begins a copy into the guest: its stream, and from where it goes on.
fn begin_put(host: &mut Host, port: &Port, name: &str, bytes: &[u8]) -> (StreamId, usize) {
    let id = host.open(&put(port, name, bytes).line());
    let PutOk { offset, .. } = host.answer(id).unwrap();
    (id, offset as usize)
}

/// Writes the rest of it, and sees that it is whole.
fn end_put(host: &mut Host, port: &Port, name: &str, bytes: &[u8], (id, at): (StreamId, usize)) {
    host.write(id, &bytes[at..]);
    host.finish(id);
    host.answer::<Whole>(id).unwrap();
    assert!(fs::read(port.path(name)).unwrap() == bytes, "other bytes arrived");
}

/// Begins a copy out of the guest, behind what `have` says.
fn begin_get(host: &mut Host, port: &Port, name: &str, have: Option<(u64, String)>) -> (StreamId, GetOk) {
    let (offset, tag) = have.map_or((0, None), |(offset, tag)| (offset, Some(tag)));
    let id = host.open(&Header::Get(Get { offset, tag, ..Get::new(port.path(name)) }).line());
    let ok = host.answer(id).unwrap();
    (id, ok)
}

/// Reads the rest of it, and sees that it is whole.
fn end_get(host: &mut Host, bytes: &[u8], (id, ok): (StreamId, GetOk)) {
    let rest = host.rest(id);
    let (rest, last) = rest.split_at((ok.size - ok.offset) as usize);
    assert!(rest == &bytes[ok.offset as usize..], "other bytes came");
    let whole = Whole { size: bytes.len() as u64, sum: sum(bytes) };
    assert_eq!(answer::parse::<Whole>(last), Ok(whole));
}

/// A process with all its streams, and a copy each way, of so many bytes each.
fn everything_is_exact(host: &mut Host, port: &Port, len: u32) {
    let bytes = text(len);
    let exec = Exec {
        argv: ["/bin/sh", "-c", "cat; echo aside >&2; exit 7"].map(str::to_owned).to_vec(),
        with: vec![Belongs::Err, Belongs::Control],
        ..Exec::new(key())
    };
    let err = host.open(&Header::Err { key: exec.key.clone() }.line());
    let control = host.open(&Header::Control { key: exec.key.clone() }.line());
    let main = host.open(&Header::Exec(exec).line());
    for id in [main, err, control] {
        host.answer::<Done>(id).unwrap();
    }
    host.write(main, &bytes);
    host.finish(main);
    assert!(host.rest(main) == bytes, "the process printed other bytes");
    assert_eq!(host.rest(err), b"aside\n");
    assert_eq!(Ending::parse(&host.line(control)), Some(Ending::Exit(7)));

    let begun = begin_put(host, port, "x", &bytes);
    assert_eq!(begun.1, 0);
    end_put(host, port, "x", &bytes, begun);
    let begun = begin_get(host, port, "x", None);
    end_get(host, &bytes, begun);
}

/// On a line of which one byte in so many is another one, lost or doubled, both ways.
fn is_exact_where_one_byte_is_wrong_in(one_in: u64, len: u32, options: &[&str]) {
    let (port, ours) = port(options);
    let mut host = Host::sl(ours).with_noise(OneIn::new(one_in, one_in));
    host.hello(None).unwrap();
    everything_is_exact(&mut host, &port, len);
}

#[test]
fn a_line_that_spoils_one_byte_in_ten_thousand_is_exact_above() {
    is_exact_where_one_byte_is_wrong_in(10_000, 200_000, &[]);
}

#[test]
fn a_line_that_spoils_one_byte_in_a_thousand_is_exact_above() {
    is_exact_where_one_byte_is_wrong_in(1000, 10_000, &["--speed", "115200"]);
}

/// Copies a part of a file each way, has something happen to the line or its ends, and copies the rest, in
/// another session.
fn copies_go_on_after(happens: impl Fn(&mut Port, OwnedFd, Host) -> Host) {
    let (mut port, ours) = port(&[]);
    let bytes = text(400_000);
    port.folder.write("out", &bytes);
    let mut host = host(&ours);
    let (into, _) = begin_put(&mut host, &port, "in", &bytes);
    let (out, GetOk { tag, .. }) = begin_get(&mut host, &port, "out", None);
    host.write(into, &bytes[..200_000]);
    host.until("a part of it", |host| (host.waiting(out) > 100_000).then_some(()));
    let have = host.waiting(out) as u64;

    let mut host = happens(&mut port, ours, host);
    host.hello(None).unwrap();
    let begun = begin_put(&mut host, &port, "in", &bytes);
    // How much of it had come depends on which of the two copies was ahead.
    assert!(begun.1 > 0 && begun.1 <= 200_000, "it goes on from {}", begun.1);
    end_put(&mut host, &port, "in", &bytes, begun);
    let begun = begin_get(&mut host, &port, "out", Some((have, tag)));
    assert_eq!(begun.1.offset, have);
    end_get(&mut host, &bytes, begun);
}

#[test]
fn a_host_that_is_killed_and_started_again_goes_on_with_its_copies() {
    copies_go_on_after(|_, ours, host| {
        drop(host);
        Host::sl(ours)
    });
}

#[test]
fn an_agent_that_is_killed_and_started_again_goes_on_with_the_copies_of_its_host() {
    copies_go_on_after(|port, _, mut host| {
        port.start_again();
        host.until("another session", |host| (host.sessions == 2).then_some(()));
        host
    });
}

#[test]
fn an_agent_that_is_killed_and_started_again_on_a_port_that_loses_nothing_is_noticed() {
    let (mut port, ours) = port(&["--raw"]);
    // Until the agent has set the port, it echoes.
    port.until_raw();
    let mut host = Host::raw(ours);
    host.hello(None).unwrap();
    let bytes = text(100_000);
    let begun = begin_put(&mut host, &port, "in", &bytes);
    host.session.write(begun.0, &bytes[..10_000]).unwrap();
    host.until("nothing under way", |host| (!host.session.has_output()).then_some(()));
    // Neither says anything, and nobody says that the other one is gone.
    port.start_again();
    host.until("another session", |host| (host.sessions == 2).then_some(()));
    host.hello(None).unwrap();
    let begun = begin_put(&mut host, &port, "in", &bytes);
    end_put(&mut host, &port, "in", &bytes, begun);
}

#[test]
fn another_host_at_another_port_goes_on_with_the_copies() {
    copies_go_on_after(|port, _, host| {
        drop(host);
        Host::sl(port.replace())
    });
}

#[test]
fn a_line_that_is_opened_again_loses_nothing_of_what_was_under_way() {
    let (mut port, ours) = port(&[]);
    let bytes = text(400_000);
    port.folder.write("out", &bytes);
    let mut host = host(&ours);
    drop(ours);
    let begun = begin_put(&mut host, &port, "in", &bytes);
    let out = begin_get(&mut host, &port, "out", None);
    for _ in 0..3 {
        let more = host.waiting(out.0) + 50_000;
        host.until("more of it", |host| (host.waiting(out.0) > more).then_some(()));
        // The same agent and the same host: neither notices more than a line that was silent.
        host.replace_line(port.replace());
    }
    end_put(&mut host, &port, "in", &bytes, begun);
    end_get(&mut host, &bytes, out);
    assert_eq!(host.sessions, 1);
}

#[test]
fn a_key_on_a_slow_line_is_echoed_ahead_of_copies_both_ways() {
    let (port, ours) = port(&["--speed", "115200"]);
    let bytes = text(1_000_000);
    port.folder.write("out", &bytes);
    let mut host = host(&ours);
    // The terminal itself echoes what is typed, before `cat` has read it.
    let exec = Exec { argv: vec!["cat".to_owned()], pty: Some(Pty::default()), ..Exec::new(key()) };
    let shell = host.open(&Header::Exec(exec).line());
    host.answer::<Done>(shell).unwrap();
    let (into, _) = begin_put(&mut host, &port, "in", &bytes);
    host.session.set_priority(into, Priority::Low).unwrap();
    let (out, _) = begin_get(&mut host, &port, "out", None);
    host.until("a part of it", |host| (host.waiting(out) > 100_000).then_some(()));
    host.set_pace(11_520);
    let mut at = 0;
    let mut copy = |host: &mut Host| at += host.session.write(into, &bytes[at..]).unwrap();
    for key in ["a", "b"] {
        let begun = host.have_read;
        host.until("half a second of copies", |host| {
            copy(host);
            (host.have_read > begun + 5000).then_some(())
        });
        let before = host.have_read;
        host.session.write(shell, key.as_bytes()).unwrap();
        host.until("the echo", |host| {
            copy(host);
            (host.waiting(shell) > 0).then_some(())
        });
        assert_eq!(host.until_text(shell, key), key);
        // Five frames there and five back; the rest is for a machine that is late.
        let ahead = host.have_read - before;
        assert!(ahead < 5000, "{ahead} bytes were ahead of the echo, there and back");
    }
}
