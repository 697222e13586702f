//! Clients that take a console for a serial port (com-port.md §2): pyserial, ser2net and their like.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, EventKind};
use vspc_core::telnet::{Command, IAC, Opt, put_subnegotiation};

use crate::world::peer::doubled;
use crate::world::{Kind, World, uuid, vm_config};

/// What pyserial says when it opens a port: DO ECHO, WILL SGA, DO SGA, DO and WILL COM-PORT; and its answers
/// to our offers.
const OPENING: &[u8] = &[
    0xff, 0xfd, 1, 0xff, 0xfb, 3, 0xff, 0xfd, 3, 0xff, 0xfd, 44, 0xff, 0xfb, 44, 0xff, 0xfd, 0, 0xff, 0xfb, 0,
];

/// The carrier is there, and it may send.
const MODEM_UP: &[u8] = &[0xff, 0xfa, 44, 107, 0xb0, 0xff, 0xf0];

fn command(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_subnegotiation(Opt::COM_PORT, body, &mut out);
    out
}

/// A VM, and a client that has opened its console as a port; what it was told by then is forgotten.
fn opened(config: Config) -> (World, vspc_core::concentrator::ConnId, vspc_core::concentrator::ConnId) {
    let mut world = World::new(config);
    let vm = world.vm(vm_config(1));
    let port = world.client(uuid(1), Kind::Raw);
    world.type_wire(port, OPENING);
    world.pass(Duration::from_secs(2));
    (world, vm, port)
}

fn told(world: &mut World, port: vspc_core::concentrator::ConnId) -> Vec<u8> {
    std::mem::take(world.wire(port))
}

#[test]
fn who_asks_for_com_port_gets_it_and_the_carrier_and_no_word_of_text() {
    let (mut world, vm, port) = opened(Config { client_scrollback: 1000, banner: true, ..Config::default() });
    let seen = told(&mut world, port);
    let do_com_port = [0xff, 0xfd, 44];
    let wont_com_port = [0xff, 0xfc, 44];
    for word in [&do_com_port[..], &wont_com_port, MODEM_UP] {
        assert!(seen.windows(word.len()).any(|part| part == word), "{word:x?} in {seen:x?}");
    }
    assert!(!seen.windows(4).any(|part| part == b"vspc"));
    world.print(vm, b"login: ");
    assert_eq!(told(&mut world, port), b"login: ");
    // Nor when its VM goes: the carrier says so.
    world.end(vm);
    world.pass(Duration::from_secs(1));
    assert_eq!(told(&mut world, port), [0xff, 0xfa, 44, 107, 0x38, 0xff, 0xf0]);
    world.vm(vm_config(1));
    assert_eq!(told(&mut world, port), [0xff, 0xfa, 44, 107, 0xb8, 0xff, 0xf0]);
}

#[test]
fn nobody_is_offered_com_port_unasked_and_hosts_are_refused_as_before() {
    let mut world = World::new(Config::default());
    let vm = world.vm(vm_config(1));
    let client = world.client(uuid(1), Kind::Telnet);
    world.pass(Duration::from_secs(2));
    let com_port =
        |wire: &[u8]| wire.windows(3).any(|part| part[0] == IAC && part[1] >= 251 && part[2] == 44);
    assert!(!com_port(&world.host(vm).wire));
    assert!(!com_port(world.wire(client)));
}

#[test]
fn settings_are_confirmed_and_those_of_the_console_for_all_its_clients() {
    let (mut world, _, port) = opened(Config::default());
    told(&mut world, port);
    for (says, hears) in [
        (&[1, 0, 0, 0x25, 0x80][..], &[101, 0, 0, 0x25, 0x80][..]),
        (&[2, 7], &[102, 7]),
        (&[1, 0, 0, 0xff, 0], &[101, 0, 0, 0xff, 0]),
        (&[5, 9], &[105, 9]),
        (&[12, 2], &[112, 2]),
    ] {
        world.type_wire(port, &command(says));
        assert_eq!(told(&mut world, port), command(hears), "{says:?}");
    }
    let other = world.client(uuid(1), Kind::Raw);
    world.type_wire(other, OPENING);
    told(&mut world, other);
    world.type_wire(other, &command(&[1, 0, 0, 0, 0]));
    assert_eq!(told(&mut world, other), command(&[101, 0, 0, 0xff, 0]));
    world.type_wire(other, &command(&[5, 7]));
    assert_eq!(told(&mut world, other), command(&[105, 9]));
}

#[test]
fn every_byte_goes_both_ways_as_it_is_with_and_without_binary() {
    let all: Vec<u8> = (0..=255).chain(*b"\r\n\r\0\n\r\xff\xff").collect();
    for opening in [OPENING, &OPENING[..15]] {
        let mut world = World::new(Config::default());
        let vm = world.vm(vm_config(1));
        let port = world.client(uuid(1), Kind::Raw);
        world.type_wire(port, opening);
        world.pass(Duration::from_secs(2));
        told(&mut world, port);
        world.type_wire(port, &doubled(&all));
        assert_eq!(world.host(vm).typed, all);
        world.print(vm, &all);
        assert_eq!(told(&mut world, port), doubled(&all));
    }
}

#[test]
fn a_break_reaches_the_vm_once() {
    let (mut world, vm, port) = opened(Config::default());
    world.host(vm).wire.clear();
    for control in [5, 5, 4, 6] {
        world.type_wire(port, &command(&[5, control]));
    }
    assert_eq!(world.host(vm).wire, [IAC, Command::BRK.0]);
}

/// A client that leaves at break leaves no break behind that another's would be lost in.
#[test]
fn a_break_is_its_clients_and_ends_with_it() {
    let (mut world, vm, first) = opened(Config::default());
    world.type_wire(first, &command(&[5, 5]));
    world.end(first);
    let second = world.client(uuid(1), Kind::Raw);
    world.type_wire(second, OPENING);
    world.pass(Duration::from_secs(1));
    world.host(vm).wire.clear();
    told(&mut world, second);
    world.type_wire(second, &command(&[5, 4]));
    assert_eq!(told(&mut world, second), command(&[105, 6]));
    world.type_wire(second, &command(&[5, 5]));
    assert_eq!(world.host(vm).wire, [IAC, Command::BRK.0]);
}

#[test]
fn who_suspends_and_asks_without_end_is_still_heard_when_it_resumes() {
    let (mut world, vm, port) = opened(Config::default());
    told(&mut world, port);
    world.type_wire(port, &command(&[8]));
    for _ in 0..1000 {
        world.type_wire(port, &command(&[1, 0, 0, 0, 0]));
    }
    world.print(vm, b"printed");
    world.type_wire(port, b"typed");
    assert_eq!(world.host(vm).typed, b"typed");
    assert_eq!(told(&mut world, port), b"");
    world.type_wire(port, &command(&[9]));
    let seen = told(&mut world, port);
    assert!(seen.ends_with(b"printed") && seen.len() > 1000, "{} bytes", seen.len());
    assert_eq!(told(&mut world, port), b"");
}

#[test]
fn who_has_suspended_has_the_rest_when_the_server_ends() {
    let (mut world, vm, port) = opened(Config::default());
    world.type_wire(port, &command(&[11, 0]));
    told(&mut world, port);
    world.type_wire(port, &command(&[8]));
    world.print(vm, b"last words");
    world.shut_down();
    assert_eq!(told(&mut world, port), b"last words");
    assert!(!world.is_open(port), "at once, and not after two seconds");
}

#[test]
fn a_person_that_becomes_a_program_is_shown_no_more_of_what_was_before() {
    let mut world = World::new(Config { client_scrollback: 1000, ..Config::default() });
    let vm = world.vm(vm_config(1));
    world.print(vm, &[b'o'; 1000]);
    let port = world.client(uuid(1), Kind::Raw);
    world.stall(port, 40);
    world.type_wire(port, &OPENING[..9]);
    world.pass(Duration::from_secs(1));
    world.type_wire(port, &[0xff, 0xfb, 44]);
    world.unstall(port);
    world.print(vm, b"new");
    let seen = told(&mut world, port);
    assert!(seen.iter().filter(|&&byte| byte == b'o').count() < 100);
    assert!(seen.ends_with(b"new"));
    world.type_wire(port, &[IAC, Command::AYT.0]);
    assert_eq!(told(&mut world, port), [IAC, Command::NOP.0], "no text");
}

#[test]
fn who_suspends_is_sent_nothing_until_it_resumes_and_then_all_of_it() {
    let (mut world, vm, port) = opened(Config::default());
    told(&mut world, port);
    world.type_wire(port, &command(&[8]));
    world.print(vm, b"held ");
    world.type_wire(port, &command(&[2, 0]));
    world.pass(Duration::from_secs(5));
    assert_eq!(told(&mut world, port), b"");
    world.print(vm, b"back");
    world.type_wire(port, &command(&[9]));
    assert_eq!(told(&mut world, port), [&command(&[102, 8])[..], b"held back"].concat());
    // Whoever switches the option off ends that, too.
    world.type_wire(port, &command(&[8]));
    world.print(vm, b"more");
    assert_eq!(told(&mut world, port), b"");
    world.type_wire(port, &[0xff, 0xfc, 44]);
    assert_eq!(told(&mut world, port), [&[0xff, 0xfe, 44][..], b"more"].concat());
}

#[test]
fn who_purges_is_not_sent_what_it_has_not_taken() {
    let (mut world, vm, port) = opened(Config::default());
    told(&mut world, port);
    world.type_wire(port, &command(&[8]));
    world.print(vm, b"old");
    world.type_wire(port, &command(&[12, 1]));
    world.print(vm, b"new");
    world.type_wire(port, &command(&[9]));
    assert_eq!(told(&mut world, port), [&command(&[112, 1])[..], b"new"].concat());
}

#[test]
fn a_program_that_is_overtaken_is_disconnected_and_not_told_in_its_stream() {
    let (mut world, vm, port) = opened(Config { lag_limit: 1 << 20, ..Config::default() });
    told(&mut world, port);
    world.stall(port, 0);
    for _ in 0..8 {
        world.print(vm, &[b'x'; 512 << 10]);
    }
    world.unstall(port);
    assert!(world.reason(port) == Some(CloseReason::TooSlow), "{:?}", world.reason(port));
    assert!(!told(&mut world, port).windows(4).any(|part| part == b"vspc"));
}

#[test]
fn what_is_no_command_is_counted_and_changes_nothing() {
    let (mut world, vm, port) = opened(Config::default());
    told(&mut world, port);
    for body in [&b""[..], &[1], &[7, 1], &[101, 0, 0, 0, 1], &[200]] {
        world.type_wire(port, &command(body));
    }
    assert_eq!(told(&mut world, port), b"");
    assert!(world.told(|kind| matches!(kind, EventKind::Malformed(_))) > 0);
    world.print(vm, b"on");
    assert_eq!(told(&mut world, port), b"on");
}
