//! Guests that speak hyperstart's protocol on two lines: what operators ask of them as of any guest.

use std::time::Duration;

use serde_json::{Value, json};
use vspc_core::concentrator::{Config, ConnId, EventKind, GuestKey, Mux, SerialLine, uuid_of_line};
use vspc_core::mux::StreamId;
use vspc_core::vmware::{Resume, VmConfig};

use super::agent::vm_with_streams;
use super::reached::open;
use crate::admin::config;
use crate::operators::client::Operator;
use crate::v1_guest::V1Guest;
use crate::world::{Client, Kind, Part, World, uuid};

/// hyperstart in a VM, on two serial ports.
struct Hyperstart {
    streams: ConnId,
    control: ConnId,
    guest: V1Guest,
}

impl Hyperstart {
    fn new(world: &mut World, mux: &str) -> Self {
        let streams = world.vm(vm_with_streams(1, mux));
        let control = world.vm(vm_with_streams(1, "v1-control"));
        Self { streams, control, guest: V1Guest::new() }
    }

    /// Lets bytes go both ways until there are none.
    fn pass(&mut self, world: &mut World) {
        for _ in 0..10_000 {
            world.settle();
            let typed = std::mem::take(&mut world.host(self.control).typed);
            self.guest.handle_control(&typed);
            let input = std::mem::take(&mut world.host(self.streams).typed);
            self.guest.handle_stream(&input);
            let (said, printed) =
                (std::mem::take(&mut self.guest.says), std::mem::take(&mut self.guest.streams));
            world.print(self.control, &said);
            world.print(self.streams, &printed);
            if [typed, input, said, printed].iter().all(Vec::is_empty) {
                return;
            }
        }
        panic!("the guest and the server do not come to rest");
    }
}

fn world_with(mux: &str) -> (World, Hyperstart) {
    let mut world = World::new(Config { banner: false, ..config() });
    let mut hyperstart = Hyperstart::new(&mut world, mux);
    for _ in 0..3 {
        hyperstart.pass(&mut world);
        world.pass(Duration::from_secs(1));
    }
    (world, hyperstart)
}

fn is_up(kind: &EventKind) -> bool {
    matches!(kind, EventKind::GuestUp { agent } if &**agent == "hyperstart (API 4244)")
}

fn downs(world: &mut World) -> usize {
    world.told(|kind| matches!(kind, EventKind::GuestDown(_)))
}

/// How often it is told that there is no guest, in words like these.
fn told(world: &World, why: &str) -> usize {
    world.told(|kind| matches!(kind, EventKind::GuestDown(said) if said.contains(why)))
}

fn pass(operator: &mut Operator, guest: &mut Hyperstart, world: &mut World) {
    for _ in 0..4 {
        operator.pass(world);
        guest.pass(world);
    }
    operator.pass(world);
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// A process with all of its streams: main, err, control.
fn exec(operator: &mut Operator, world: &mut World, guest: &mut Hyperstart, key: u8) -> [u64; 3] {
    let key = format!("{key:016}");
    let header = json!({ "op": "exec", "key": key, "argv": ["sh", "-c", "x"], "with": ["err", "control"] });
    let all = [header, json!({ "op": "err", "key": key }), json!({ "op": "control", "key": key })]
        .map(|header| open(operator, world, "vm01", &line(&header)));
    pass(operator, guest, world);
    all
}

const OK: &[u8] = b"{\"ok\":{}}\n";

#[test]
fn a_v1_guest_runs_a_process_with_its_errors_apart_and_tells_its_status() {
    for mux in ["v1", "auto"] {
        let (mut world, mut guest) = world_with(mux);
        assert_eq!(world.told(is_up), 1, "{mux}");
        let mut operator = Operator::known(&mut world);
        let [main, err, control] = exec(&mut operator, &mut world, &mut guest, 1);
        let (seq, running) = guest.guest.only();
        assert_eq!((running.args.len(), &*running.container), (3, "hyperstart"));
        operator.session.write(StreamId(main), b"in").unwrap();
        operator.session.finish(StreamId(main)).unwrap();
        pass(&mut operator, &mut guest, &mut world);
        assert_eq!((&guest.guest.came[&seq][..], &guest.guest.ended[..]), (&b"in"[..], &[seq][..]));
        guest.guest.print(seq, b"out\xff");
        guest.guest.print(running.stderr, b"oops");
        guest.guest.exit(seq, 7);
        pass(&mut operator, &mut guest, &mut world);
        assert_eq!(operator.take(main, usize::MAX), [OK, b"out\xff"].concat(), "{mux}");
        assert_eq!(operator.take(err, usize::MAX), [OK, b"oops"].concat());
        assert_eq!(operator.take(control, usize::MAX), [OK, b"{\"exit\":7}\n"].concat());
        let reached = |kind: &EventKind| match kind {
            EventKind::GuestReached { op, detail, .. } => (&**op, &**detail) == ("exec", "sh -c x"),
            _ => false,
        };
        assert_eq!(world.told(reached), 1);
        let streams = operator.ok(&mut world, json!({ "op": "streams", "console": "vm01" }));
        assert_eq!(streams["may"], json!(["exec", "shell", "container", "command"]));
    }
}

#[test]
fn a_container_is_made_on_a_stream_and_its_terminal_has_a_size_and_hears_signals() {
    let (mut world, mut guest) = world_with("v1");
    let mut operator = Operator::known(&mut world);
    let pod = json!({ "hostname": "pod" }).to_string();
    let header = line(&json!({ "op": "command", "name": "startpod", "size": pod.len() }));
    let command = open(&mut operator, &mut world, "vm01", &[&header[..], pod.as_bytes()].concat());
    let described = json!({ "id": "web", "process": { "args": ["nginx"], "terminal": true } }).to_string();
    let key = "c".repeat(16);
    let header = json!({ "op": "container", "key": key, "with": ["control"], "size": described.len() });
    let main = open(&mut operator, &mut world, "vm01", &[&line(&header)[..], described.as_bytes()].concat());
    let control = open(&mut operator, &mut world, "vm01", &line(&json!({ "op": "control", "key": key })));
    pass(&mut operator, &mut guest, &mut world);
    assert_eq!(operator.take(command, usize::MAX), OK);
    assert_eq!(operator.take(main, usize::MAX), OK);
    operator.session.write(StreamId(control), b"{\"rows\":50,\"cols\":132}\n{\"signal\":\"INT\"}\n").unwrap();
    pass(&mut operator, &mut guest, &mut world);
    let said: Vec<_> = guest.guest.commands.iter().map(|(code, said)| format!("{code} {said}")).collect();
    assert_eq!(said[0], format!("1 {pod}"));
    assert!(said[1].starts_with(r#"17 {"id":"web","process":{"args":["nginx"],"id":"init","stdio":"#));
    assert_eq!(said[2], r#"11 {"column":132,"container":"web","process":"init","row":50}"#);
    assert_eq!(said[3], r#"24 {"container":"web","process":"init","signal":2}"#);
    // Whoever leaves it has it hung up.
    operator.session.reset(StreamId(main)).unwrap();
    pass(&mut operator, &mut guest, &mut world);
    assert!(guest.guest.commands.last().unwrap().1.contains(r#""signal":1}"#));
}

#[test]
fn what_hyperstart_cannot_do_is_unsupported_and_nothing_is_typed_between_frames() {
    let (mut world, mut guest) = world_with("v1");
    let mut operator = Operator::known(&mut world);
    for header in [
        json!({ "op": "connect", "to": "tcp:127.0.0.1:80" }),
        json!({ "op": "get", "path": "/etc/passwd" }),
        json!({ "op": "command", "name": "execcmd", "size": 0 }),
    ] {
        let stream = open(&mut operator, &mut world, "vm01", &line(&header));
        pass(&mut operator, &mut guest, &mut world);
        let answer = String::from_utf8(operator.take(stream, usize::MAX)).unwrap();
        assert!(answer.contains("unsupported"), "{header}: {answer}");
    }
    // The guest of these tests ends where a message is wrong.
    for console in ["vm01", "vm01_control"] {
        let stream = operator.attach(&mut world, console, "write");
        operator.session.write(StreamId(stream), b"reboot\r").unwrap();
        pass(&mut operator, &mut guest, &mut world);
    }
    let stats = operator.ok(&mut world, json!({ "op": "stats" }));
    assert_eq!(stats["counters"]["input_dropped"], 14, "{stats}");
    assert_eq!(downs(&mut world), 0);
}

#[test]
fn a_v1_guest_that_dies_takes_its_streams_and_the_next_one_is_met() {
    for dies in ["streams", "control"] {
        let (mut world, mut guest) = world_with("auto");
        let mut operator = Operator::known(&mut world);
        let [main, ..] = exec(&mut operator, &mut world, &mut guest, 1);
        assert!(!operator.take(main, usize::MAX).is_empty());
        let (gone, uri) = match dies {
            "streams" => (guest.streams, "auto"),
            _ => (guest.control, "v1-control"),
        };
        world.reset(gone);
        operator.pass(&mut world);
        assert_eq!(downs(&mut world), 1, "{dies}");
        let failure = operator.code(&mut world, json!({ "op": "streams", "console": "vm01" }));
        assert_eq!(failure, "no-agent");
        let again = world.vm(vm_with_streams(1, uri));
        match dies {
            "streams" => guest.streams = again,
            _ => guest.control = again,
        }
        guest.guest.boot();
        for _ in 0..4 {
            guest.pass(&mut world);
            world.pass(Duration::from_secs(1));
        }
        guest.pass(&mut world);
        assert_eq!(world.told(is_up), 2, "{dies}");
        let [main, ..] = exec(&mut operator, &mut world, &mut guest, 2);
        assert_eq!(operator.take(main, usize::MAX), OK, "{dies}");
    }
}

#[test]
fn a_v1_guest_that_moves_loses_no_byte_of_either_channel() {
    let (mut world, mut guest) = world_with("v1");
    let mut operator = Operator::known(&mut world);
    let [main, err, _] = exec(&mut operator, &mut world, &mut guest, 1);
    operator.take(main, usize::MAX);
    operator.take(err, usize::MAX);
    let (seq, running) = guest.guest.only();
    let (mut printed, mut typed) = (Vec::new(), Vec::new());
    for round in 0..10u8 {
        let more: Vec<u8> = (0..3000).map(|n| n as u8 ^ round).collect();
        guest.guest.print(seq, &more);
        guest.guest.print(running.stderr, &more[..9]);
        printed.extend_from_slice(&more);
        let said = std::mem::take(&mut guest.guest.streams);
        let source = guest.streams;
        world.print(source, &said[..said.len() / 2]);
        operator.session.write(StreamId(main), &more[..300]).unwrap();
        typed.extend_from_slice(&more[..300]);
        operator.pass(&mut world);
        let moved = move_to(
            &mut world,
            source,
            round,
            "v1",
            |world, source, guest: &mut V1Guest| {
                let came = std::mem::take(&mut world.host(source).typed);
                guest.handle_stream(&came);
            },
            &mut guest.guest,
        );
        world.print(moved, &said[said.len() / 2..]);
        world.end(source);
        world.pass(Duration::from_secs(1));
        guest.streams = moved;
        // Its control channel goes, too, in the middle of what it says.
        guest.guest.say(10, b"unasked");
        let said = std::mem::take(&mut guest.guest.says);
        let source = guest.control;
        world.print(source, &said[..5]);
        let moved = move_to(
            &mut world,
            source,
            round,
            "v1-control",
            |world, source, guest: &mut V1Guest| {
                let came = std::mem::take(&mut world.host(source).typed);
                guest.handle_control(&came);
            },
            &mut guest.guest,
        );
        world.print(moved, &said[5..]);
        world.end(source);
        world.pass(Duration::from_secs(1));
        guest.control = moved;
        pass(&mut operator, &mut guest, &mut world);
    }
    for _ in 0..30 {
        world.pass(Duration::from_millis(10));
        pass(&mut operator, &mut guest, &mut world);
    }
    assert!(operator.take(main, usize::MAX) == printed);
    assert_eq!(operator.take(err, usize::MAX).len(), 90);
    assert!(guest.guest.came[&seq] == typed);
    assert_eq!((world.told(is_up), downs(&mut world)), (1, 0));
}

fn move_to(
    world: &mut World,
    source: ConnId,
    round: u8,
    mux: &str,
    took: impl FnOnce(&mut World, ConnId, &mut V1Guest),
    guest: &mut V1Guest,
) -> ConnId {
    world.host(source).session.begin(&[b'm', round, mux.len() as u8]);
    world.settle();
    took(world, source, guest);
    let secret = world.host(source).secret().expect("it may go");
    let resume = Some(Resume { sequence: vec![b'm', round, mux.len() as u8], secret });
    let target = world.vm(VmConfig { resume, ..vm_with_streams(1, mux) });
    world.host(target).session.complete();
    target
}

#[test]
fn a_slow_reader_of_a_v1_guest_loses_nothing_and_one_that_stalls_keeps_its_neighbours_for_two_seconds() {
    let (mut world, mut guest) = world_with("v1");
    world.never_waits = false;
    let mut operator = Operator::known(&mut world);
    let [main, ..] = exec(&mut operator, &mut world, &mut guest, 1);
    let (seq, _) = guest.guest.only();
    let [other, ..] = exec(&mut operator, &mut world, &mut guest, 2);
    operator.take(other, usize::MAX);
    // It reads slowly, and is sent all of it.
    operator.take(main, usize::MAX);
    let all: Vec<u8> = (0..800_000u32).map(|n| (n / 9) as u8).collect();
    guest.guest.print(seq, &all);
    guest.guest.print(seq + 2, b"here");
    let mut came = Vec::new();
    for _ in 0..100 {
        pass(&mut operator, &mut guest, &mut world);
        came.extend(operator.take(main, 20 << 10));
        world.pass(Duration::from_millis(100));
    }
    assert!(came == all, "{} of {}", came.len(), all.len());
    assert_eq!(operator.take(other, usize::MAX), b"here");
    // It does not read at all.
    guest.guest.print(seq, &all);
    guest.guest.print(seq + 2, b"there");
    pass(&mut operator, &mut guest, &mut world);
    assert!(operator.take(other, usize::MAX).is_empty());
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
        pass(&mut operator, &mut guest, &mut world);
    }
    assert_eq!(operator.take(other, usize::MAX), b"there");
    assert_eq!(downs(&mut world), 0);
}

#[test]
fn whatever_a_v1_guest_says_the_server_lives_and_the_next_one_is_met() {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance as usize
    };
    for mux in ["v1", "auto"] {
        let (mut world, mut guest) = world_with(mux);
        let mut operator = Operator::known(&mut world);
        let client = world.client(uuid(1), Kind::Raw);
        for round in 0..100 {
            if round % 10 == 0 {
                let header = json!({ "op": "exec", "key": format!("{round:016}"), "argv": ["a"] });
                let stream = operator.session.open().unwrap().0;
                operator.session.write(StreamId(stream), &line(&header)).unwrap();
                let asked = json!({ "op": "open", "console": "vm01", "stream": stream });
                operator.send(asked);
            }
            operator.pass(&mut world);
            world.settle();
            let typed = std::mem::take(&mut world.host(guest.control).typed);
            guest.guest.handle_control(&typed);
            world.host(guest.streams).typed.clear();
            for channel in [guest.control, guest.streams] {
                let mut said = match channel == guest.control {
                    true => std::mem::take(&mut guest.guest.says),
                    false => [&[0; 11][..], &[12 + 3], b"abc"].concat(),
                };
                for _ in 0..next() % 3 {
                    let at = next() % said.len().max(1);
                    if let Some(byte) = said.get_mut(at) {
                        *byte = next() as u8;
                    }
                }
                world.print(channel, &said);
            }
            world.pass(Duration::from_millis(next() as u64 % 400));
        }
        let _ = client;
        for gone in [guest.streams, guest.control] {
            world.reset(gone);
        }
        world.pass(Duration::from_secs(2));
        let mut guest = Hyperstart::new(&mut world, mux);
        let before = world.told(is_up);
        for _ in 0..4 {
            guest.pass(&mut world);
            world.pass(Duration::from_secs(1));
        }
        assert!(world.told(is_up) > before, "{mux}");
    }
}

#[test]
fn auto_takes_a_guest_that_speaks_s2_for_that() {
    let (_, agent) = super::world_with_agent("auto");
    assert!(agent.is_known);
}

#[test]
fn a_line_for_hyperstart_with_another_guest_or_one_that_cannot_prove_a_key_has_none_and_that_is_told() {
    let (world, agent) = super::world_with_agent("v1");
    assert!(!agent.is_known);
    assert_eq!(told(&world, "mux=s2"), 1);

    let guest_key = GuestKey::new(&[b'k'; 32], "key");
    let mut world = World::new(Config { guest_key, ..config() });
    let mut guest = Hyperstart::new(&mut world, "v1");
    for _ in 0..5 {
        guest.pass(&mut world);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((world.told(is_up), told(&world, "key")), (0, 1));
}

#[test]
fn two_lines_of_one_name_are_the_two_channels_of_a_guest_whichever_comes_first() {
    for order in [[7001, 7002], [7002, 7001]] {
        let line = |mux: Mux, port: u16| SerialLine {
            name: "pod1".to_owned(),
            uuid: uuid_of_line("pod1"),
            place: format!("tcp://:{port}").parse().unwrap(),
            mux: Some(mux),
        };
        let lines = vec![line(Mux::V1, 7001), line(Mux::V1Control, 7002)];
        let mut world = World::new(Config { lines, ..config() });
        let mut guest = V1Guest::new();
        let mut there = Vec::new();
        for port in order {
            assert_eq!(world.told(is_up), 0, "{order:?}");
            let id =
                world.connect_to(port, Part::Client(Client::new(Kind::Raw))).expect("it is listened for");
            there.push((port, id));
            for _ in 0..5 {
                world.pass(Duration::from_millis(500));
                for &(port, id) in &there {
                    let came = std::mem::take(world.wire(id));
                    let said = if port == 7001 {
                        guest.handle_stream(&came);
                        std::mem::take(&mut guest.streams)
                    } else {
                        guest.handle_control(&came);
                        std::mem::take(&mut guest.says)
                    };
                    world.link(id).inbound.extend(said);
                }
                world.settle();
            }
        }
        assert_eq!(world.told(is_up), 1, "{order:?}");
        let mut operator = Operator::known(&mut world);
        let list = operator.ok(&mut world, json!({ "op": "list" }));
        let consoles = list["consoles"].as_array().unwrap();
        let mut names: Vec<_> = consoles.iter().map(|console| console["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["pod1", "pod1_control"]);
    }
}
