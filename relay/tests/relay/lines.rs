//! Lines that the relay speaks for.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use crate::concentrator::Concentrator;
use crate::ground::{Folder, PATIENCE, Running, expect, rest};

/// A line on a unix socket, a concentrator, and the relay between them.
struct Ground {
    _folder: Folder,
    listener: UnixListener,
    concentrator: Concentrator,
    _relay: Running,
}

impl Ground {
    fn new(more: &str) -> Self {
        let folder = Folder::new();
        let path = folder.path("web01.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let concentrator = Concentrator::new();
        let relay = Running::of(&format!(
            "[[line]]\nfrom = 'unix:{path}'\nuuid = '{UUID}'\nto = '{}'\n{more}",
            concentrator.endpoint()
        ));
        Self { _folder: folder, listener, concentrator, _relay: relay }
    }

    fn line(&self) -> UnixStream {
        let line = self.listener.accept().unwrap().0;
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        line.set_write_timeout(Some(PATIENCE)).unwrap();
        line
    }
}

/// Lines with numbers, so many from this one on.
fn counter(from: usize, count: usize) -> String {
    (from..from + count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "line {number}\r");
        text
    })
}

#[test]
fn a_line_is_a_vm_and_bytes_go_both_ways() {
    let ground = Ground::new("uri = 'console'");
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    assert_eq!((vm.name.as_str(), vm.uri.as_str()), ("web01", "console"));
    assert_eq!(vm.uuid.unwrap().to_string(), UUID);
    let every: Vec<u8> = (0..=255).chain([255, 255, 0, 255]).collect();
    line.write_all(&every).unwrap();
    assert_eq!(vm.printed(every.len()), every);
    vm.type_in(&every);
    let mut typed = vec![0; every.len()];
    line.read_exact(&mut typed).unwrap();
    assert_eq!(typed, every);
}

#[test]
fn what_is_printed_while_the_concentrator_is_away_arrives_in_order_and_once() {
    let mut ground = Ground::new("");
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    let mut number = 0;
    for round in 0..6 {
        let lines = counter(number, 100);
        number += 100;
        line.write_all(lines.as_bytes()).unwrap();
        vm.expect(lines.as_bytes());
        // Its system has acknowledged all of that when what is typed behind it has come.
        vm.type_in(b"?");
        expect(&mut line, b"?");
        // It ends, or is killed; it is away for a moment, or is there again at once.
        match round % 2 {
            0 => vm.reset(),
            _ => drop(vm),
        }
        let away = round % 3 > 0;
        if away {
            ground.concentrator.leave();
        }
        let lines = counter(number, 100);
        number += 100;
        line.write_all(lines.as_bytes()).unwrap();
        if away {
            ground.concentrator.come_back();
        }
        vm = ground.concentrator.vm();
        vm.expect(lines.as_bytes());
    }
}

#[test]
fn what_the_concentrators_system_has_not_acknowledged_is_sent_again_from_there() {
    let ground = Ground::new("backlog = 16000000");
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    // Every third byte is doubled on the wire.
    let mut all: Vec<u8> =
        (0..9_000_000_u32).map(|n| if n % 3 == 0 { 255 } else { (n >> 8) as u8 }).collect();
    let writer = thread::spawn({
        let (all, mut line) = (all.clone(), line.try_clone().unwrap());
        move || line.write_all(&all).unwrap()
    });
    vm.printed(100_000);
    // Nobody reads any more, until nothing more fits.
    while !vm.is_full() {
        thread::yield_now();
    }
    let has = vm.arrived();
    vm.reset();
    let mut vm = ground.concentrator.vm();
    writer.join().unwrap();
    let rest = all.split_off(has);
    assert!(vm.printed(rest.len()) == rest);
    line.write_all(b"end").unwrap();
    vm.expect(b"end");
}

#[test]
fn beyond_the_limit_the_oldest_is_dropped_and_a_line_says_how_much() {
    let mut ground = Ground::new("backlog = 4096");
    let mut line = ground.line();
    let vm = ground.concentrator.vm();
    ground.concentrator.leave();
    vm.reset();
    // More than the kernel holds: the relay has read the rest.
    let lines = counter(0, 100_000);
    line.write_all(lines.as_bytes()).unwrap();
    ground.concentrator.come_back();
    let mut vm = ground.concentrator.vm();
    vm.expect(b"\r\n[vspc-relay: ");
    let mut missing = String::new();
    while !missing.ends_with(' ') {
        missing.push(vm.printed(1)[0].into());
    }
    vm.expect(b"bytes are missing here]\r\n");
    let missing: usize = missing.trim_end().parse().unwrap();
    assert!((1..=lines.len() - 4096).contains(&missing), "{missing} of {}", lines.len());
    assert!(vm.printed(lines.len() - missing) == lines.as_bytes()[missing..]);
    line.write_all(b"and on").unwrap();
    vm.expect(b"and on");
}

#[test]
fn a_line_that_ends_is_a_vm_that_is_gone_and_comes_back_as_itself() {
    let ground = Ground::new("");
    for _ in 0..3 {
        let mut line = ground.line();
        let mut vm = ground.concentrator.vm();
        line.write_all(b"the last words").unwrap();
        drop(line);
        vm.expect(b"the last words");
        vm.expect_end();
    }
}

#[test]
fn the_last_words_of_a_line_wait_for_the_concentrator() {
    let mut ground = Ground::new("");
    let mut line = ground.line();
    let vm = ground.concentrator.vm();
    ground.concentrator.leave();
    vm.reset();
    line.write_all(b"panic").unwrap();
    // Nobody is there any more to be connected to.
    drop((line, ground.listener));
    ground.concentrator.come_back();
    let mut vm = ground.concentrator.vm();
    vm.expect(b"panic");
    vm.expect_end();
}

#[test]
fn what_was_typed_into_a_line_that_is_gone_is_not_typed_into_the_next_one() {
    let ground = Ground::new("");
    let line = ground.line();
    let mut vm = ground.concentrator.vm();
    drop(line);
    // The relay may have seen the end, or not.
    let _ = vm.stream.write_all(b"reboot\r");
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    vm.type_in(b"ls\r");
    expect(&mut line, b"ls\r");
}

#[test]
fn a_line_that_takes_no_input_holds_up_its_typist_and_nothing_else() {
    let ground = Ground::new("");
    let mut line = ground.line();
    let mut vm = ground.concentrator.vm();
    vm.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut typed = 0;
    while let Ok(n) = vm.stream.write(&[b'x'; 4096]) {
        typed += n;
    }
    line.write_all(b"still printing").unwrap();
    vm.expect(b"still printing");
    let mut read = vec![0; typed];
    line.read_exact(&mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_concentrator_that_reads_nothing_holds_no_guest_up() {
    let ground = Ground::new("");
    let mut line = ground.line();
    let _vm = ground.concentrator.vm();
    line.write_all(&vec![b'x'; 16 << 20]).unwrap();
}

#[test]
fn a_vm_that_is_refused_asks_again() {
    let ground = Ground::new("uri = 'refused'");
    let _line = ground.line();
    for _ in 0..2 {
        ground.concentrator.accept().expect_refusal();
    }
}

#[test]
fn a_line_may_come_by_itself_and_is_the_only_one() {
    let concentrator = Concentrator::new();
    let relay = Running::of(&format!(
        "[[line]]\nfrom = 'tcp-listen://127.0.0.1:0'\nname = 'router'\nuuid = '{UUID}'\nto = '{}'",
        concentrator.endpoint()
    ));
    let mut line = relay.connect();
    let mut vm = concentrator.vm();
    assert_eq!(vm.name, "router");
    let mut other = relay.connect();
    assert_eq!(rest(&mut other), b"");
    line.write_all(b"here").unwrap();
    vm.expect(b"here");
    drop(line);
    vm.expect_end();
    let mut line: TcpStream = relay.connect();
    let mut vm = concentrator.vm();
    line.write_all(b"again").unwrap();
    vm.expect(b"again");
}

#[test]
fn each_socket_of_a_folder_is_a_vm_as_long_as_it_is_there() {
    let folder = Folder::new();
    let concentrator = Concentrator::new();
    let first = UnixListener::bind(folder.path("first.sock")).unwrap();
    folder.file("named.toml", &format!("name = 'another name'\nuuid = '{UUID}'"));
    folder.file("no-socket.sock", "");
    let _relay = Running::of(&format!(
        "[[lines]]\nfolder = '{}'\nto = '{}'",
        folder.0.display(),
        concentrator.endpoint()
    ));
    let line = first.accept().unwrap().0;
    let mut vm = concentrator.vm();
    assert_eq!(vm.name, "first");
    let uuid = vm.uuid;
    // One more comes, and the first one goes and comes again.
    let named = UnixListener::bind(folder.path("named.sock")).unwrap();
    let _named_line = named.accept().unwrap().0;
    let named_vm = concentrator.vm();
    assert_eq!((named_vm.name.as_str(), named_vm.uuid.unwrap().to_string().as_str()), ("another name", UUID));
    std::fs::remove_file(folder.path("first.sock")).unwrap();
    drop((first, line));
    vm.expect_end();
    let first = UnixListener::bind(folder.path("first.sock")).unwrap();
    let _line = first.accept().unwrap().0;
    let vm = concentrator.vm();
    assert_eq!((vm.name.as_str(), vm.uuid), ("first", uuid));
}

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
