//! How one side's end becomes the other's, and what one side holds up.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use crate::ground::{
    Running, Target, expect, expect_numbered, fill, numbered, relayed, reset, rest, rest_before_reset, talk,
};

#[test]
fn bytes_go_both_ways() {
    let (_relay, near, far) = relayed();
    talk(&near, &far);
}

#[test]
fn the_end_of_one_half_leaves_the_other_as_it_was() {
    let (_relay, mut near, mut far) = relayed();
    near.write_all(b"last words").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut far), b"last words");
    for line in ["one\n", "two\n"] {
        far.write_all(line.as_bytes()).unwrap();
        expect(&mut near, line.as_bytes());
    }
    drop(far);
    assert_eq!(rest(&mut near), b"");
}

#[test]
fn the_end_of_the_targets_half_leaves_the_other_as_it_was() {
    let (_relay, mut near, mut far) = relayed();
    far.write_all(b"bye").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut near), b"bye");
    near.write_all(b"still here").unwrap();
    drop(near);
    assert_eq!(rest(&mut far), b"still here");
}

#[test]
fn a_reset_is_passed_on_as_one_behind_the_bytes_before_it() {
    let (_relay, mut near, mut far) = relayed();
    near.write_all(b"and then").unwrap();
    reset(near);
    assert_eq!(rest_before_reset(&mut far), b"and then");
    let (_relay, mut near, mut far) = relayed();
    far.write_all(b"and then").unwrap();
    reset(far);
    assert_eq!(rest_before_reset(&mut near), b"and then");
}

#[test]
fn a_reset_behind_megabytes_comes_behind_all_of_them() {
    let (_relay, mut near, mut far) = relayed();
    let length = 64 << 16;
    let reader = thread::spawn(move || {
        let mut got = rest_before_reset(&mut far);
        let mut got = &mut got[..];
        // What the sender's own system had not sent yet is the sender's loss.
        let mut at = 0;
        while !got.is_empty() {
            let n = got.len().min(64 << 10);
            assert_eq!(got[..n], numbered(at)[..n]);
            at += n;
            got = &mut got[n..];
        }
        at
    });
    for at in (0..length).step_by(64 << 10) {
        near.write_all(&numbered(at)).unwrap();
    }
    reset(near);
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn a_reset_after_the_other_half_has_ended_is_still_one() {
    let (_relay, mut near, mut far) = relayed();
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut near), b"");
    reset(near);
    rest_before_reset_of_the_read_half(&mut far);
}

/// Its own half has ended, so that a read tells of the reset, or of nothing where a write does.
fn rest_before_reset_of_the_read_half(far: &mut std::net::TcpStream) {
    let why = far.read(&mut [0; 1]).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_reaches_a_side_that_reads_nothing() {
    let (_relay, mut near, mut far) = relayed();
    let sent = fill(&mut near);
    assert!(sent > 0);
    reset(near);
    // It has a few seconds for what was on its way, and does not take it: a write tells of the reset.
    let why = loop {
        match far.write_all(b"x") {
            Ok(()) => thread::yield_now(),
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(why, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{why}");
}

#[test]
fn a_side_that_stands_still_holds_up_its_own_direction_alone_and_loses_nothing() {
    let (_relay, mut near, mut far) = relayed();
    let sent = fill(&mut near);
    far.write_all(b"the other way").unwrap();
    expect(&mut near, b"the other way");
    expect_numbered(&mut far, sent);
    near.write_all(b"on").unwrap();
    expect(&mut far, b"on");
}

#[test]
fn a_connection_whose_target_is_down_is_closed_at_once() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = Running::to(&format!("tcp://{gone}"));
    let mut near = relay.connect();
    let why = near.read(&mut [0; 1]).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::ConnectionReset);
    // As soon as it is there, it is reached.
    let Ok(listener) = TcpListener::bind(gone) else {
        return; /* somebody else has the port now */
    };
    let near = relay.connect();
    let (far, _) = listener.accept().unwrap();
    talk(&near, &far);
}

#[test]
fn a_connection_whose_target_has_no_address_is_closed() {
    let relay = Running::to("tcp://no-such-host.invalid:13370");
    let mut near = relay.connect();
    assert_eq!(near.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_target_is_found_by_its_name_and_by_each_of_its_addresses() {
    let target = Target::new();
    let port = target.endpoint().rsplit_once(':').unwrap().1.to_owned();
    // Where it has an IPv6 address, too, nobody listens on that one.
    let relay = Running::to(&format!("tcp://localhost:{port}"));
    for _ in 0..3 {
        let near = relay.connect();
        talk(&near, &target.accept());
    }
}

#[test]
fn both_ways_at_once_megabytes_arrive_whole() {
    let (_relay, near, far) = relayed();
    let length = 16 << 20;
    thread::scope(|scope| {
        for (mut writer, mut reader) in [(&near, &far), (&far, &near)] {
            scope.spawn(move || {
                for at in (0..length).step_by(64 << 10) {
                    writer.write_all(&numbered(at)).unwrap();
                }
            });
            scope.spawn(move || expect_numbered(&mut reader, length));
        }
    });
}
