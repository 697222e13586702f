//! Logs that agents pack (APPLICATION §10).

use std::time::Duration;

use serde_json::json;
use vspc_core::concentrator::{Config, EventKind, Fault};
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
    // What the real one keeps on a serial port.
    let agent = Agent::new(&world, vm, 9).packing(packs).keeping(&world, 32 << 10);
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

/// Bytes that nothing can be made of.
fn noise(n: usize) -> Vec<u8> {
    let next = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(1), next).map(|n| (n >> 56) as u8).take(n).collect()
}

#[test]
fn a_long_log_of_which_hardly_anything_can_be_made_is_shown_to_its_end_by_an_agent_that_keeps_one_block() {
    let text = lines(300);
    let mixed: Vec<u8> =
        noise(700_000).chunks(7000).flat_map(|noise| [noise, &text[..3500]].concat()).collect();
    for all in [mixed, noise(200_000), noise(MAX_BLOCK - 4)] {
        for len in [MAX_BLOCK - 4, 20_000, 7000, 400] {
            let (mut world, mut agent, id, mut operator, stream) = packed_guest();
            let shown = carry(&mut world, &mut agent, &mut operator, (id, stream), &blocks(&all, len));
            assert!(shown == all, "in blocks of {len} it ends after {} of {} bytes", shown.len(), all.len());
        }
    }
}

#[test]
fn what_is_no_block_ends_its_log_and_nothing_else() {
    let whole = blocks(&lines(20), 4096);
    let mut flipped = whole.clone();
    flipped[4..].iter_mut().for_each(|byte| *byte ^= 0xff);
    let cut = &whole[..whole.len() - 1];
    for (wrong, is_over) in [
        (&[0, 0, 0, 0][..], false),
        (&[0, 1, 0, 2, 7, 7], false),
        (&[0x80, 1, 0, 1, 7], false),
        (&flipped, false),
        (cut, true),
        (&whole[..3], true),
    ] {
        let (mut world, mut agent, id, mut operator, _) = packed_guest();
        let other = agent.announce(&shell("shell"));
        agent.pass(&mut world);
        let stream = operator.attach(&mut world, "vm01/shell", "write");
        agent.say(id, wrong);
        pass(&mut operator, &mut agent, &mut world);
        if is_over {
            assert!(!agent.reset.contains(&id), "the rest may come");
            agent.close_too_soon(id);
            pass(&mut operator, &mut agent, &mut world);
        }
        assert!(agent.reset.contains(&id), "{wrong:?}");
        let fault = if is_over { Fault::CutBlock } else { Fault::PackedBlock };
        let told = world.told(|kind| *kind == EventKind::Malformed(fault));
        assert_eq!(told, 1, "{wrong:?} ends its log without a word");
        agent.say(other, b"$ ");
        pass(&mut operator, &mut agent, &mut world);
        assert_eq!(operator.take(stream, usize::MAX), b"$ ");
        let log = operator.ok(&mut world, json!({ "op": "show", "console": "vm01/log/messages" }));
        assert_eq!(log["console"]["state"], "waiting");
    }
}

/// How much the logs of vm01 have shown, each.
fn shown(world: &mut World, operator: &mut Operator, logs: usize) -> Vec<usize> {
    let offset = |n| {
        let shown = operator.ok(world, json!({ "op": "show", "console": format!("vm01/log/{n}") }));
        shown["console"]["offset"].as_u64().unwrap() as usize
    };
    (0..logs).map(offset).collect()
}

/// A guest with so many packed logs.
fn guest_of_many(logs: usize) -> (World, Agent, Vec<StreamId>, Operator) {
    let mut world = World::new(Config { banner: false, ..config() });
    let vm = world.vm(vm_with_streams(1, "s2+sl"));
    let mut agent = Agent::new(&world, vm, 9).packing(&["lz4"]).over_sl(&world, 77);
    agent.pass(&mut world);
    let ids: Vec<StreamId> = (0..logs).map(|n| agent.announce(&log(&format!("log/{n}")))).collect();
    agent.pass(&mut world);
    let operator = Operator::known(&mut world);
    (world, agent, ids, operator)
}

#[test]
fn all_logs_of_a_guest_together_show_a_little_at_a_time_and_each_has_its_turn() {
    const LOGS: usize = 60;
    let (mut world, mut agent, ids, mut operator) = guest_of_many(LOGS);
    let said = blocks(&vec![b'0'; 40 * MAX_BLOCK], MAX_BLOCK);
    ids.iter().for_each(|&id| agent.say(id, &said));
    agent.pass(&mut world);
    let first: usize = shown(&mut world, &mut operator, LOGS).iter().sum();
    assert!((1..=200 << 10).contains(&first), "{first} bytes at once");
    let mut last = first;
    for _ in 0..LOGS {
        world.pass(Duration::from_millis(2));
        agent.pass(&mut world);
        let now: usize = shown(&mut world, &mut operator, LOGS).iter().sum();
        assert!(now - last <= 200 << 10, "{} bytes at once", now - last);
        last = now;
    }
    let each = shown(&mut world, &mut operator, LOGS);
    assert!(each.iter().all(|&bytes| bytes > 0), "some have had no turn: {each:?}");
    for _ in 0..LOGS * 12 {
        world.pass(Duration::from_millis(2));
        agent.pass(&mut world);
    }
    let each = shown(&mut world, &mut operator, LOGS);
    assert!(each.iter().all(|&bytes| bytes == 40 * MAX_BLOCK), "{each:?}");
}

#[test]
fn blocks_of_one_byte_are_shown_a_few_at_a_time() {
    let (mut world, mut agent, ids, mut operator) = guest_of_many(1);
    let all = lines(120);
    agent.say(ids[0], &blocks(&all, 1));
    agent.pass(&mut world);
    let first = shown(&mut world, &mut operator, 1)[0];
    assert!((1..=200).contains(&first), "{first} blocks at once");
    let mut last = first;
    for _ in 0..all.len() / 100 {
        world.pass(Duration::from_millis(2));
        agent.pass(&mut world);
        let now = shown(&mut world, &mut operator, 1)[0];
        assert!(now - last <= 200, "{} blocks at once", now - last);
        last = now;
    }
    assert_eq!(last, all.len());
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
