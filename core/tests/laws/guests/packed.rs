//! Logs that agents pack (APPLICATION §10).

use std::time::Duration;

use serde_json::json;
use vspc_core::concentrator::Config;
use vspc_core::mux::StreamId;
use vspc_guest::{LogOk, MAX_BLOCK, Pack, answer, pack};

use super::agent::{Agent, log, shell, vm_with_streams};
use super::pass;
use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::World;

/// A guest that packs so, on such a line, with a log; and somebody who reads that.
fn guest(mux: &str, packs: &'static [&'static str]) -> (World, Agent, StreamId, Operator, u64) {
    let mut world = World::new(Config { banner: false, ..config() });
    let vm = world.vm(vm_with_streams(1, mux));
    let agent = Agent::new(&world, vm, 9).packing(packs);
    let mut agent = if mux == "s2+sl" { agent.over_sl(&world, 77) } else { agent };
    agent.pass(&mut world);
    let id = agent.announce(&log("log/messages"));
    agent.pass(&mut world);
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01/log/messages", "read-only");
    (world, agent, id, operator, stream)
}

/// A guest whose log is packed.
fn packed_guest() -> (World, Agent, StreamId, Operator, u64) {
    let mut all = guest("s2+sl", &["lz4"]);
    assert_eq!(ok(&mut all.1, all.2).pack, Some(Pack::Lz4));
    all
}

fn ok(agent: &mut Agent, id: StreamId) -> LogOk {
    let line = agent.line(id).expect("the log is taken");
    answer::parse(&line).unwrap()
}

/// All of it in blocks of so many bytes.
fn blocks(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut blocks = Vec::new();
    for piece in bytes.chunks(len) {
        assert_eq!(pack(piece, &mut blocks), piece.len());
    }
    blocks
}

/// Lines as a log has them.
fn lines(n: usize) -> Vec<u8> {
    (0..n).flat_map(|at| format!("Nov 30 12:00:07 web01 kernel: eth0: link {at}\n").into_bytes()).collect()
}

/// Says all of it, as far as there is room each time, until it was shown or nothing moves.
fn carry(
    world: &mut World,
    agent: &mut Agent,
    operator: &mut Operator,
    (id, stream): (StreamId, u64),
    said: &[u8],
) -> Vec<u8> {
    let (mut at, mut shown, mut idle) = (0, Vec::new(), 0);
    while idle < 3 {
        let n = agent.session.write(id, &said[at..]).unwrap_or(0);
        at += n;
        pass(operator, agent, world);
        world.pass(Duration::from_millis(5));
        let more = operator.take(stream, usize::MAX);
        idle = if more.is_empty() && n == 0 { idle + 1 } else { 0 };
        shown.extend(more);
    }
    shown
}

#[test]
fn logs_are_asked_for_packed_on_serial_ports_by_agents_that_pack_so_and_nowhere_else() {
    for (mux, packs, asked) in [
        ("s2+sl", &["zstd", "lz4"][..], Some(Pack::Lz4)),
        ("s2+sl", &["zstd"], None),
        ("s2+sl", &[], None),
        ("s2", &["lz4"], None),
    ] {
        let (mut world, mut agent, id, mut operator, stream) = guest(mux, packs);
        assert_eq!(ok(&mut agent, id).pack, asked, "{mux} {packs:?}");
        let all = lines(3000);
        let said = if asked.is_some() { blocks(&all, 5000) } else { all.clone() };
        let shown = carry(&mut world, &mut agent, &mut operator, (id, stream), &said);
        assert!(shown == all, "{mux} {packs:?}: {} of {} bytes", shown.len(), all.len());
        // What a shell says is what it says.
        let id = agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let stream = operator.attach(&mut world, "vm01/shell", "write");
        let shown = carry(&mut world, &mut agent, &mut operator, (id, stream), b"\0\x01\0\x01$ ");
        assert_eq!(shown, b"\0\x01\0\x01$ ", "{mux} {packs:?}");
    }
}

#[test]
fn a_block_is_shown_once_it_is_whole_however_it_is_cut_and_counts_as_taken_then() {
    let (mut world, mut agent, id, mut operator, stream) = packed_guest();
    // The largest that there is, of bytes that nothing can be made of.
    let noise: Vec<u8> = (0..MAX_BLOCK as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let block = blocks(&noise, MAX_BLOCK);
    for cut in [1, 3, 4, 5, block.len() / 2, block.len() - 1] {
        let shown = carry(&mut world, &mut agent, &mut operator, (id, stream), &block[..cut]);
        assert_eq!(shown, b"", "{cut}");
        assert_eq!(agent.session.under_way(id), Some(cut), "what is not whole counts as taken");
        let shown = carry(&mut world, &mut agent, &mut operator, (id, stream), &block[cut..]);
        assert!(shown == noise, "{cut}");
        assert_eq!(agent.session.under_way(id), Some(0), "{cut}");
    }
    agent.session.finish(id).unwrap();
    pass(&mut operator, &mut agent, &mut world);
    assert!(agent.ended.contains(&id));
    assert_eq!(operator.notices(&mut world, "state").last().unwrap()["state"], "waiting");
}

#[test]
fn what_is_no_block_ends_its_log_and_nothing_else() {
    let whole = blocks(&lines(20), 4096);
    let mut flipped = whole.clone();
    flipped[4..].iter_mut().for_each(|byte| *byte ^= 0xff);
    for wrong in [&[0, 0, 0, 0][..], &[0, 1, 0, 2, 7, 7], &[0x80, 1, 0, 1, 7], &flipped] {
        let (mut world, mut agent, id, mut operator, _) = packed_guest();
        let other = agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let stream = operator.attach(&mut world, "vm01/shell", "write");
        agent.say(id, wrong);
        pass(&mut operator, &mut agent, &mut world);
        assert!(agent.reset.contains(&id), "{wrong:?}");
        agent.say(other, b"$ ");
        pass(&mut operator, &mut agent, &mut world);
        assert_eq!(operator.take(stream, usize::MAX), b"$ ");
        let log = operator.ok(&mut world, json!({ "op": "show", "console": "vm01/log/messages" }));
        assert_eq!(log["console"]["state"], "waiting");
    }
}

#[test]
fn few_bytes_that_unpack_to_many_are_shown_a_little_at_a_time_and_all_in_the_end() {
    let (mut world, mut agent, id, mut operator, _) = packed_guest();
    let zeros = vec![b'0'; 200 * MAX_BLOCK];
    let said = blocks(&zeros, MAX_BLOCK);
    assert!(said.len() < 48 << 10, "{} bytes", said.len());
    agent.say(id, &said);
    let offset = |operator: &mut Operator, world: &mut World| {
        let shown = operator.ok(world, json!({ "op": "show", "console": "vm01/log/messages" }));
        shown["console"]["offset"].as_u64().unwrap() as usize
    };
    // No time passes: of each piece of the line a little.
    agent.pass(&mut world);
    let first = offset(&mut operator, &mut world);
    assert!((1..zeros.len() / 2).contains(&first), "{first} bytes at once");
    let mut last = first;
    for _ in 0..2000 {
        world.pass(Duration::from_millis(2));
        agent.pass(&mut world);
        let now = offset(&mut operator, &mut world);
        assert!(now - last < 300 << 10, "{} bytes at once", now - last);
        last = now;
    }
    assert_eq!(last, zeros.len());
}
