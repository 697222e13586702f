//! Logs read by operators (operator.md §10): the engine passes on what is asked and what was read, a piece at
//! a time.

use serde_json::json;
use vspc_core::admin::operator::When;
use vspc_core::concentrator::{Config, LogOrder, LogReader};
use vspc_core::mux::StreamId;

use super::client::Operator;
use crate::admin::config;
use crate::world::{World, vm_config};

fn logging() -> (World, Operator) {
    let mut world = World::new(Config { has_logs: true, ..config() });
    world.vm(vm_config(1));
    let operator = Operator::known(&mut world);
    (world, operator)
}

fn begin(world: &mut World, operator: &mut Operator) -> (u64, LogReader) {
    let stream = operator.session.open_announced().unwrap().0;
    let request = json!({ "op": "log", "console": "vm01", "stream": stream, "since": { "ago_ms": 5 } });
    let ok = operator.ok(world, request);
    assert_eq!(ok["console"]["name"], "vm01");
    let Some(LogOrder::Begin(reader, console, query)) = world.log_orders.pop() else { panic!() };
    assert_eq!(world.engine.console(console).unwrap().label.name, "vm01");
    assert_eq!(query.since, Some(When::AgoMs(5)));
    (stream, reader)
}

/// Gives the engine a piece that was read.
fn feed(world: &mut World, reader: LogReader, piece: &[u8], is_last: bool) -> bool {
    let is_read = world.engine.handle_log(reader, piece.to_vec(), is_last, world.now);
    world.settle();
    is_read
}

#[test]
fn a_log_is_read_piece_by_piece_as_its_client_takes_it_and_ends() {
    let (mut world, mut operator) = logging();
    let (stream, reader) = begin(&mut world, &mut operator);
    // More than the client has room for: the next piece is not asked for.
    let large: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    assert!(feed(&mut world, reader, &large, false));
    operator.pass(&mut world);
    assert_eq!(world.log_orders, []);
    let mut taken = Vec::new();
    while taken.len() < large.len() {
        let more = operator.take(stream, usize::MAX);
        assert!(!more.is_empty());
        taken.extend(more);
        operator.pass(&mut world);
    }
    assert!(taken == large);
    assert_eq!(std::mem::take(&mut world.log_orders), [LogOrder::More(reader)]);
    assert!(feed(&mut world, reader, b"the end", true));
    assert_eq!(operator.read(&mut world, stream), "the end");
    assert_eq!(world.log_orders, []);
    assert!(!feed(&mut world, reader, b"more", false), "nobody reads it any more");
}

#[test]
fn a_log_can_be_ended_before_its_client_has_taken_what_there_was_and_nothing_of_that_is_lost() {
    let (mut world, mut operator) = logging();
    let (stream, reader) = begin(&mut world, &mut operator);
    let large = vec![b'x'; 300_000];
    assert!(feed(&mut world, reader, &large, false));
    operator.pass(&mut world);
    assert!(!feed(&mut world, reader, b"more", false), "that was not asked for");
    assert!(feed(&mut world, reader, b"the end", true));
    assert!(!feed(&mut world, reader, b"another end", true));
    let mut taken = Vec::new();
    while taken.len() < large.len() + 7 {
        let more = operator.take(stream, usize::MAX);
        assert!(!more.is_empty());
        taken.extend(more);
        operator.pass(&mut world);
    }
    assert!(taken == [&large[..], b"the end"].concat());
    assert_eq!(world.log_orders, [], "and no more is asked for");
    assert!(!feed(&mut world, reader, b"x", true), "nobody reads it any more");
}

#[test]
fn a_client_that_leaves_reads_no_more_be_it_the_stream_or_the_connection() {
    let (mut world, mut operator) = logging();
    let (stream, reader) = begin(&mut world, &mut operator);
    operator.session.reset(StreamId(stream)).unwrap();
    operator.pass(&mut world);
    assert_eq!(std::mem::take(&mut world.log_orders), [LogOrder::Stop(reader)]);
    assert!(!feed(&mut world, reader, b"x", false));
    let (_, reader) = begin(&mut world, &mut operator);
    world.reset(operator.id);
    assert!(!feed(&mut world, reader, b"x", false));
}

#[test]
fn logs_that_are_not_there_and_more_than_a_connection_may_read_are_refused() {
    let (mut world, mut operator) = logging();
    let (stream, _) = begin(&mut world, &mut operator);
    for (console, stream, code) in
        [("vm01", stream, "stream-in-use"), ("vm01", 999, "no-such-stream"), ("vm09", 999, "no-such-console")]
    {
        let request = json!({ "op": "log", "console": console, "stream": stream });
        assert_eq!(operator.code(&mut world, request), code);
    }
    for _ in 0..3 {
        begin(&mut world, &mut operator);
    }
    let stream = operator.session.open_announced().unwrap().0;
    let request = json!({ "op": "log", "console": "vm01", "stream": stream });
    assert_eq!(operator.code(&mut world, request), "too-many");
    let mut world = World::new(config());
    world.vm(vm_config(1));
    let mut operator = Operator::known(&mut world);
    let stream = operator.session.open_announced().unwrap().0;
    let request = json!({ "op": "log", "console": "vm01", "stream": stream });
    assert_eq!(operator.code(&mut world, request), "unsupported");
}
