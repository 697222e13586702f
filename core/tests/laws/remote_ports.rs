//! Consoles that are serial ports of access servers: they are set there, and answer from there (com-port.md
//! §3).

use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, PortRange, SerialLine, uuid_of_line};
use vspc_core::telnet::{Command, Decoder, IAC, Item, Opt, put_subnegotiation};
use vspc_core::vmware::Uuid;

use crate::admin;
use crate::world::{Client, Kind, Part, World};

fn uuid() -> Uuid {
    uuid_of_line("plc1")
}

fn config(place: &str) -> Config {
    let line = SerialLine { name: "plc1".into(), uuid: uuid(), place: place.parse().unwrap(), mux: None };
    let client_ports = Some(PortRange { first: 50000, last: 50009 });
    Config { lines: vec![line], client_ports, banner: false, ..Config::default() }
}

fn command(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_subnegotiation(Opt::COM_PORT, body, &mut out);
    out
}

/// What was said of COM-PORT, and the data.
fn heard(mut wire: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut decoder, mut bodies, mut data) = (Decoder::new(), Vec::new(), Vec::new());
    while let Some(item) = decoder.decode(&mut wire) {
        match item {
            Item::Subnegotiation(Opt::COM_PORT, body) => bodies.push(body.to_vec()),
            Item::Data(bytes) => data.extend_from_slice(bytes),
            _ => {}
        }
    }
    (bodies, data)
}

fn told(world: &mut World, id: ConnId) -> (Vec<Vec<u8>>, Vec<u8>) {
    heard(&std::mem::take(world.wire(id)))
}

const DO_COM_PORT: &[u8] = &[IAC, 253, 44];
const WILL_COM_PORT: &[u8] = &[IAC, 251, 44];

/// An access server that has let its port be set, and has answered what it was asked first.
fn there(world: &mut World) -> ConnId {
    let port = world.answer_dial(Part::Client(Client::new(Kind::Raw)));
    world.type_wire(port, DO_COM_PORT);
    world.type_wire(port, &command(&[101, 0, 0, 0x25, 0x80]));
    for answer in [[102, 8], [103, 1], [104, 1], [105, 1], [105, 8], [105, 11], [105, 14]] {
        world.type_wire(port, &command(&answer));
    }
    port
}

/// A client that has opened the console as a port.
fn opened(world: &mut World) -> ConnId {
    let client = world.client(uuid(), Kind::Raw);
    world.type_wire(client, WILL_COM_PORT);
    world.pass(Duration::from_secs(2));
    world.wire(client).clear();
    client
}

#[test]
fn a_port_is_set_as_its_uri_says_and_asked_for_the_rest_when_it_agrees_and_not_before() {
    let mut world = World::new(config("rfc2217://ports:2217?speed=9600&parity=even"));
    let port = world.answer_dial(Part::Client(Client::new(Kind::Raw)));
    let opening = std::mem::take(world.wire(port));
    assert!(opening.windows(3).any(|part| part == WILL_COM_PORT), "{opening:x?}");
    assert!(heard(&opening).0.is_empty());
    world.type_wire(port, DO_COM_PORT);
    let (said, _) = told(&mut world, port);
    assert_eq!(said[..4], [vec![1, 0, 0, 0x25, 0x80], vec![2, 0], vec![3, 3], vec![4, 0]]);
    assert!(said.contains(&vec![11, 0xff]));
}

#[test]
fn what_a_client_sets_goes_to_the_port_and_the_ports_answer_is_the_clients() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let (client, other) = (opened(&mut world), opened(&mut world));
    told(&mut world, port);
    world.type_wire(client, &command(&[1, 0, 1, 0xc2, 0]));
    assert_eq!(told(&mut world, client).0, Vec::<Vec<u8>>::new(), "it is the port that answers");
    assert_eq!(told(&mut world, port).0, [[1, 0, 1, 0xc2, 0]]);
    // The port cannot do that: it stays at 9600.
    world.type_wire(port, &command(&[101, 0, 0, 0x25, 0x80]));
    assert_eq!(told(&mut world, client).0, [[101, 0, 0, 0x25, 0x80]]);
    assert!(told(&mut world, other).0.is_empty(), "it has asked nothing");
    // A rate of one byte is answered with one; the port hears four.
    world.type_wire(other, &command(&[1, 8]));
    assert_eq!(told(&mut world, port).0, [[1, 0, 0, 0x25, 0x80]]);
    world.type_wire(port, &command(&[101, 0, 0, 0x25, 0x80]));
    assert_eq!(told(&mut world, other).0, [[101, 8]]);
    for (says, answers) in [([2, 7], [102, 7]), ([3, 2], [103, 2]), ([5, 9], [105, 9]), ([5, 16], [105, 16])]
    {
        world.type_wire(client, &command(&says));
        assert_eq!(told(&mut world, port).0, [says]);
        world.type_wire(port, &command(&answers));
        assert_eq!(told(&mut world, client).0, [answers]);
    }
}

#[test]
fn an_answer_to_what_was_asked_before_is_not_taken_for_ones_own_and_one_that_is_left_out_is_not_waited_for() {
    let mut world = World::new(config("rfc2217://ports:2217?speed=4800"));
    let port = world.answer_dial(Part::Client(Client::new(Kind::Raw)));
    world.type_wire(port, DO_COM_PORT);
    let client = opened(&mut world);
    world.type_wire(client, &command(&[1, 0, 0, 0x4b, 0]));
    told(&mut world, client);
    // To the URI's 4800, and then to the client.
    world.type_wire(port, &command(&[101, 0, 0, 0x12, 0xc0]));
    assert!(told(&mut world, client).0.is_empty());
    world.type_wire(port, &command(&[101, 0, 0, 0x4b, 0]));
    assert_eq!(told(&mut world, client).0, [[101, 0, 0, 0x4b, 0]]);
    // It has never said what its data size is.
    world.type_wire(client, &command(&[2, 7]));
    world.type_wire(port, &command(&[102, 7]));
    assert_eq!(told(&mut world, client).0, [[102, 7]]);
}

#[test]
fn a_port_that_goes_owes_nobody_an_answer_and_is_set_as_it_was_when_it_is_back() {
    let mut world = World::new(config("rfc2217://ports:2217?speed=9600&stop=2"));
    let port = there(&mut world);
    let client = opened(&mut world);
    world.type_wire(client, &command(&[1, 0, 0, 0x4b, 0]));
    world.type_wire(port, &command(&[101, 0, 0, 0x4b, 0]));
    world.type_wire(client, &command(&[2, 7]));
    told(&mut world, client);
    world.end(port);
    world.settle();
    let (said, _) = told(&mut world, client);
    assert!(said.contains(&vec![102, 8]), "{said:?}");
    // The carrier has gone with it.
    assert_eq!(said.last(), Some(&vec![107, 0x38]));
    world.pass(Duration::from_secs(5));
    let again = there(&mut world);
    let (said, _) = told(&mut world, again);
    assert_eq!(said[0], [1, 0, 0, 0x4b, 0], "as the client has set it");
    assert!(said.contains(&vec![4, 2]), "as the URI says");
}

#[test]
fn the_modem_of_a_port_is_that_of_its_console_and_so_are_the_lines_faults() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let client = opened(&mut world);
    world.type_wire(port, &command(&[107, 0x30]));
    assert_eq!(told(&mut world, client).0, [[107, 0x38]], "no carrier, which is a change");
    world.type_wire(port, &command(&[107, 0xb8]));
    assert_eq!(told(&mut world, client).0, [[107, 0xb8]]);
    world.type_wire(port, &command(&[106, 0x10]));
    assert!(told(&mut world, client).0.is_empty(), "it has not asked for them");
    world.type_wire(client, &command(&[10, 0x1e]));
    told(&mut world, client);
    world.type_wire(port, &command(&[106, 0x12]));
    assert_eq!(told(&mut world, client).0, [[106, 0x12]]);
}

#[test]
fn a_break_is_a_command_that_takes_its_time_and_what_is_typed_behind_it_waits_for_that() {
    for cut in [1, usize::MAX] {
        let mut world = World::new(config("rfc2217://ports:2217"));
        world.cut = cut;
        let port = there(&mut world);
        let client = world.client(uuid(), Kind::Telnet);
        told(&mut world, port);
        world.type_wire(client, &[b'a', IAC, IAC, IAC, Command::BRK.0, b'b', IAC, IAC]);
        let (said, data) = told(&mut world, port);
        assert_eq!((said, data), (vec![vec![5, 5]], b"a\xff".to_vec()), "{cut}");
        world.pass(Duration::from_millis(300));
        let (said, data) = told(&mut world, port);
        assert_eq!((said, data), (vec![vec![5, 6]], b"b\xff".to_vec()), "{cut}");
    }
}

#[test]
fn a_break_behind_a_doubled_byte_leaves_that_whole_wherever_the_socket_stops() {
    for room in 1..12 {
        let mut world = World::new(config("rfc2217://ports:2217"));
        let port = there(&mut world);
        let client = world.client(uuid(), Kind::Telnet);
        told(&mut world, port);
        world.stall(port, 0);
        world.type_wire(client, &[b'a', IAC, IAC, IAC, Command::BRK.0, b'b']);
        world.stall(port, room);
        world.settle();
        world.unstall(port);
        world.settle();
        world.pass(Duration::from_millis(300));
        let (said, data) = told(&mut world, port);
        assert_eq!((said, data), (vec![vec![5, 5], vec![5, 6]], b"a\xffb".to_vec()), "{room}");
    }
}

#[test]
fn a_client_that_commands_a_break_has_one_that_ends() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let serial = opened(&mut world);
    told(&mut world, port);
    world.type_wire(serial, &[&command(&[5, 5])[..], b"x"].concat());
    assert_eq!(told(&mut world, serial).0, [[5 + 100, 5]]);
    assert_eq!(told(&mut world, port), (vec![vec![5, 5]], Vec::new()));
    world.end(serial);
    world.pass(Duration::from_millis(300));
    assert_eq!(told(&mut world, port), (vec![vec![5, 6]], b"x".to_vec()));
}

#[test]
fn commands_go_to_the_port_where_they_stand_among_what_is_typed() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let serial = opened(&mut world);
    told(&mut world, port);
    let typed = [b"abc", &command(&[1, 0, 0, 0x4b, 0])[..], b"def", &command(&[5, 9]), b"g"].concat();
    world.type_wire(serial, &typed);
    assert!(*world.wire(port) == typed, "{:x?}", world.wire(port));
}

#[test]
fn what_a_port_does_not_answer_is_answered_with_what_holds_and_a_flood_keeps_nobody_waiting() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let (flood, other) = (opened(&mut world), opened(&mut world));
    told(&mut world, port);
    world.type_wire(flood, &command(&[5, 7]).repeat(300));
    let asked = told(&mut world, port).0.len();
    let (at_once, _) = told(&mut world, flood);
    assert_eq!(asked, 64);
    assert!(!at_once.is_empty() && at_once.iter().all(|answer| *answer == [105, 8]), "{at_once:?}");
    // Values that there are not are no business of the port's.
    world.type_wire(other, &command(&[2, 99]));
    assert_eq!(told(&mut world, other).0, [[102, 8]]);
    world.pass(Duration::from_secs(3));
    let (late, _) = told(&mut world, flood);
    assert_eq!(late.len(), asked);
    world.type_wire(other, &command(&[5, 7]));
    assert_eq!(told(&mut world, port).0, [[5, 7]]);
    world.type_wire(port, &command(&[105, 9]));
    assert_eq!(told(&mut world, other).0, [[105, 9]]);
}

#[test]
fn what_a_port_leaves_out_at_first_is_in_nobodys_way_later() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = world.answer_dial(Part::Client(Client::new(Kind::Raw)));
    world.type_wire(port, DO_COM_PORT);
    world.pass(Duration::from_secs(3));
    let serial = opened(&mut world);
    world.type_wire(serial, &command(&[5, 7]));
    world.type_wire(port, &command(&[105, 9]));
    assert_eq!(told(&mut world, serial).0, [[105, 9]]);
}

#[test]
fn a_port_that_changes_its_mind_holds_nothing_up_and_costs_no_memory() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let client = world.client(uuid(), Kind::Telnet);
    let serial = opened(&mut world);
    world.type_wire(port, &command(&[107, 0]));
    told(&mut world, serial);
    world.type_wire(port, &command(&[108]));
    world.type_wire(client, &[IAC, Command::BRK.0]);
    world.type_wire(port, &[IAC, 254, 44]);
    // As long as it does not say otherwise its carrier is there, as a VM's is.
    assert_eq!(told(&mut world, serial).0, [[107, 0xbb]]);
    world.pass(Duration::from_secs(1));
    world.type_wire(port, DO_COM_PORT);
    told(&mut world, port);
    world.type_wire(client, b"x");
    assert_eq!(told(&mut world, port).1, b"x");
    world.stall(port, 0);
    for _ in 0..1000 {
        world.type_wire(port, &[IAC, 254, 44, IAC, 253, 44]);
    }
    world.unstall(port);
    world.settle();
    assert!(world.wire(port).len() < 8 << 10, "{} bytes", world.wire(port).len());
}

#[test]
fn a_port_that_takes_nothing_for_now_is_sent_nothing_typed_until_it_does() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let client = world.client(uuid(), Kind::Telnet);
    told(&mut world, port);
    world.type_wire(port, &command(&[108]));
    world.type_wire(client, b"reboot\r");
    assert!(world.wire(port).is_empty());
    world.type_wire(port, &command(&[109]));
    assert_eq!(told(&mut world, port).1, b"reboot\r");
}

#[test]
fn a_server_that_knows_no_com_port_is_a_telnet_line_and_that_is_said() {
    let mut world = World::new(config("rfc2217://ports:2217?speed=9600"));
    let port = world.answer_dial(Part::Client(Client::new(Kind::Raw)));
    world.type_wire(port, &[IAC, 254, 44]);
    assert_eq!(world.told(|kind| *kind == EventKind::PortNotSettable), 1);
    let client = world.client(uuid(), Kind::Telnet);
    told(&mut world, port);
    world.type_wire(client, &[b'a', IAC, Command::BRK.0, b'b']);
    assert_eq!(*world.wire(port), [b'a', IAC, Command::BRK.0, b'b']);
    // And its clients' settings are remembered, as those of VMs are.
    let serial = opened(&mut world);
    world.type_wire(serial, &command(&[2, 7]));
    assert_eq!(told(&mut world, serial).0, [[102, 7]]);
}

#[test]
fn who_may_not_type_changes_no_setting() {
    let mut world = World::new(Config {
        admin_listen: admin::config().admin_listen,
        ports_ignore_locks: false,
        ..config("rfc2217://ports:2217")
    });
    let port = there(&mut world);
    let serial = opened(&mut world);
    admin::attach(&mut world, "plc1", "write", "write");
    told(&mut world, port);
    world.type_wire(serial, &command(&[2, 7]));
    assert_eq!(told(&mut world, serial).0, [[102, 8]]);
    assert!(told(&mut world, port).0.is_empty());
}

#[test]
fn an_access_server_that_talks_nonsense_hurts_nobody() {
    let mut world = World::new(config("rfc2217://ports:2217"));
    let port = there(&mut world);
    let client = opened(&mut world);
    for body in [&[][..], &[101], &[101, 0, 0, 0, 0], &[102, 99], &[105, 4], &[1, 0, 0, 0, 1], &[200, 1]] {
        world.type_wire(port, &command(body));
    }
    for _ in 0..1000 {
        world.type_wire(port, &[command(&[108]), command(&[107, 0x70]), command(&[107, 0xf0])].concat());
    }
    world.type_wire(port, &command(&[109]));
    told(&mut world, port);
    world.type_wire(client, b"x");
    assert_eq!(told(&mut world, port).1, b"x");
}
