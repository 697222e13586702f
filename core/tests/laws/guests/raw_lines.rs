//! Guests on lines without telnet: what their sessions say goes there as it is.

use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, Mux, SerialLine, uuid_of_line};
use vspc_core::mux::StreamId;
use vspc_core::telnet::IAC;
use vspc_core::vmware::Uuid;

use super::agent::{Agent, shell};
use super::reached::{exec, open};
use super::{is_up, pass};
use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::{Client, Kind, Part, World};

const LINE: &str = "guest";

fn uuid() -> Uuid {
    uuid_of_line(LINE)
}

/// A world with such a line, on which nobody has said anything yet.
fn world_with_line(mux: Mux, cut: usize) -> (World, Agent) {
    let place = "tcp://:7001".parse().unwrap();
    let line = SerialLine { name: LINE.into(), uuid: uuid(), place, mux: Some(mux) };
    let mut world = World::new(Config { banner: false, lines: vec![line], ..config() });
    world.cut = cut;
    let part = Part::Client(Client::new(Kind::Raw));
    let id = world.connect_to(7001, part).expect("it is listened for");
    world.settle();
    let agent = Agent::new(&world, id, 9);
    let agent = if mux == Mux::S2OverSl { agent.over_sl(&world, 77) } else { agent };
    (world, agent)
}

/// The same, and its agent has been said hello to.
fn world_with_agent(mux: Mux, cut: usize) -> (World, Agent) {
    let (mut world, mut agent) = world_with_line(mux, cut);
    agent.pass(&mut world);
    assert_eq!(world.told(is_up), 1);
    (world, agent)
}

/// Every byte that a line has brought.
fn brought(world: &mut World, line: ConnId) -> &[u8] {
    match &world.link(line).part {
        Part::Client(client) => &client.seen,
        _ => panic!("{line} is no raw line"),
    }
}

/// All values of a byte, IACs in crowds among them.
fn bytes(n: u32) -> Vec<u8> {
    (0..n).map(|n| if n % 5 < 3 { IAC } else { n as u8 }).collect()
}

#[test]
fn what_is_sent_into_a_guest_is_what_it_gets_however_its_line_cuts_it() {
    for mux in [Mux::S2, Mux::S2OverSl] {
        for cut in [1, 2, 7, 4096, usize::MAX] {
            let (mut world, mut agent) = world_with_agent(mux, cut);
            let shell = agent.announce(&shell("shell"));
            agent.pass(&mut world);
            agent.line(shell).unwrap();
            let mut operator = Operator::known(&mut world);
            let typed_at = operator.attach(&mut world, "guest/shell", "write");
            let said_on = open(&mut operator, &mut world, LINE, &exec(&["cat"]));
            pass(&mut operator, &mut agent, &mut world);
            let (id, _) = agent.opened();
            let before = world.console(uuid()).unwrap().counters.bytes_to_vm;
            let brought_before = brought(&mut world, agent.vm).len();
            let all = bytes(if cut < 4096 { 3000 } else { 300_000 });
            let mut said = 0;
            while said < all.len() {
                said += operator.session.write(StreamId(said_on), &all[said..]).unwrap();
                let key = [IAC, said as u8];
                operator.session.write(StreamId(typed_at), &key).unwrap();
                pass(&mut operator, &mut agent, &mut world);
                assert_eq!(agent.came.remove(&shell).unwrap(), key, "{mux} {cut}");
            }
            assert!(agent.came.remove(&id).unwrap() == all, "{mux} {cut}");
            assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0, "{mux} {cut}");
            let counted = world.console(uuid()).unwrap().counters.bytes_to_vm - before;
            let brought = &brought(&mut world, agent.vm)[brought_before..];
            // Frames that the line takes as they are count as they are; SL's are queued with what people
            // type, in wire form, and count in that.
            let pairs = brought.iter().filter(|&&byte| byte == IAC).count();
            let form = if mux == Mux::S2 { brought.len() } else { brought.len() + pairs };
            assert!(pairs > all.len() / 2 || mux != Mux::S2, "{cut}: nothing tells the two forms apart");
            assert_eq!(counted, form as u64, "{mux} {cut}: {} of {}", brought.len(), all.len());
        }
    }
}

#[test]
fn a_key_waits_for_a_frame_at_most_where_a_line_takes_nothing_for_long() {
    let (mut world, mut agent) = world_with_agent(Mux::S2, usize::MAX);
    let shell = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.line(shell).unwrap();
    let mut operator = Operator::known(&mut world);
    let typed_at = operator.attach(&mut world, "guest/shell", "write");
    let copies = ["a", "b", "c", "d"].map(|name| open(&mut operator, &mut world, LINE, &exec(&[name])));
    pass(&mut operator, &mut agent, &mut world);
    world.stall(agent.vm, 1000);
    for copy in copies {
        assert_eq!(operator.session.write(StreamId(copy), &bytes(16 << 10)), Ok(16 << 10));
    }
    operator.pass(&mut world);
    operator.session.write(StreamId(typed_at), b"<the key>").unwrap();
    operator.pass(&mut world);
    world.unstall(agent.vm);
    let came = agent.typed(&mut world);
    assert!(came.len() > 64 << 10, "{} bytes", came.len());
    let key = came.windows(9).position(|some| some == b"<the key>").expect("it is typed");
    assert!(key < 17 << 10, "{key} bytes go ahead of it");
}

#[test]
fn a_line_that_inherits_is_not_brought_the_rest_of_a_frame_that_another_one_has_begun() {
    let (mut world, first) = world_with_line(Mux::S2, usize::MAX);
    let second = world.connect_to(7001, Part::Client(Client::new(Kind::Raw))).expect("it is listened for");
    // The newest gets the input, and takes a few bytes of its first frame.
    world.stall(second, 4);
    world.pass(Duration::from_secs(2));
    let before = brought(&mut world, first.vm).len();
    world.reset(second);
    // The older one inherits when nobody comes back.
    world.pass(Duration::from_secs(61));
    let came = &brought(&mut world, first.vm)[before..];
    assert_eq!((&came[..8], &came[12..16]), (&[0; 8][..], &b"MUX2"[..]), "{came:x?}");
}

#[test]
fn what_was_typed_before_a_guest_is_there_goes_ahead_of_its_frames_and_nothing_between_them() {
    for cut in [1, usize::MAX] {
        let (mut world, mut agent) = world_with_line(Mux::S2, cut);
        world.settle();
        let called = agent.typed(&mut world);
        assert!(!called.is_empty());
        let client = world.client(uuid(), Kind::Raw);
        world.stall(agent.vm, 3);
        world.type_wire(client, b"root\xff\r");
        agent.receive(&called, &world);
        let said = agent.says(&world);
        agent.print(&mut world, &said);
        // From now on its line is the session's.
        world.type_wire(client, b"reboot\r");
        world.unstall(agent.vm);
        world.settle();
        let came = agent.typed(&mut world);
        let text = b"root\xff\r";
        assert_eq!(&came[..text.len()], text, "{cut}");
        agent.receive(&came[text.len()..], &world);
        agent.pass(&mut world);
        assert!(agent.is_known, "{cut}");
        assert_eq!(world.console(uuid()).unwrap().counters.input_dropped, 7, "{cut}");
    }
}

/// A line that has taken 1000 bytes of what an operator says, of 10 000 in one frame, and stalls.
fn world_in_the_middle_of_a_frame() -> (World, Agent) {
    let (mut world, mut agent) = world_with_agent(Mux::S2, usize::MAX);
    let mut operator = Operator::known(&mut world);
    let said_on = open(&mut operator, &mut world, LINE, &exec(&["cat"]));
    pass(&mut operator, &mut agent, &mut world);
    world.stall(agent.vm, 1000);
    operator.session.write(StreamId(said_on), &bytes(10_000)).unwrap();
    operator.pass(&mut world);
    (world, agent)
}

#[test]
fn a_guest_that_is_lost_in_the_middle_of_a_frame_to_it_is_met_again() {
    let (mut world, mut agent) = world_in_the_middle_of_a_frame();
    agent = Agent::new(&world, agent.vm, 11);
    agent.print(&mut world, b"BIOS\r\nGRUB\r\n");
    world.unstall(agent.vm);
    for _ in 0..5 {
        agent.pass(&mut world);
        world.pass(Duration::from_secs(1));
    }
    assert!(agent.is_known);
    assert_eq!(world.told(is_up), 2);
}

#[test]
fn a_guest_on_a_line_without_telnet_is_sent_what_it_is_owed_before_its_line_is_closed() {
    let (mut world, agent) = world_in_the_middle_of_a_frame();
    world.shut_down();
    assert!(world.is_open(agent.vm));
    world.unstall(agent.vm);
    assert!(!world.is_open(agent.vm));
    // Whoever said it has left: nobody waits for more than the frame that has begun.
    let came = agent.typed(&mut world);
    assert!(came.windows(10_000).any(|some| some == bytes(10_000)));
}
