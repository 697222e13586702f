//! In which order a client hears what has become of its attaches (operator.md §6).

use serde_json::json;
use vspc_core::admin::operator::{CONTROL, Rules};
use vspc_core::concentrator::Config;
use vspc_core::mux::wire::{Word, header};
use vspc_core::mux::{Decoder, Dialect, Item, StreamId};

use super::client::Operator;
use crate::admin::config;
use crate::world::{World, vm_config};

#[test]
fn who_is_sent_away_while_it_reads_nothing_hears_why_before_its_stream_ends() {
    for grows in [false, true] {
        let admin_rights = Rules::new(vec!["loopback=operator".parse().unwrap()]);
        let mut world = World::new(Config { admin_rights, ..config() });
        world.vm(vm_config(1));
        let mut chief = Operator::known(&mut world);
        let mut slow = Operator::growing(&mut world);
        let stream = slow.attach(&mut world, "vm01", "free-for-all");
        if grows {
            // It takes more at a time than was agreed at first, of what it is told.
            world.type_wire(slow.id, &header(CONTROL, Word::Grow.to_u32()));
        }
        world.stall(slow.id, 0);
        chief.ok(&mut world, json!({ "op": "bump", "console": "vm01", "reason": "x" }));
        world.unstall(slow.id);
        world.settle();
        let wire = std::mem::take(world.wire(slow.id));
        let (mut decoder, mut input, mut told, mut ended) =
            (Decoder::new(Dialect::S2), &wire[..], None, None);
        for at in 0.. {
            match decoder.decode(&mut input) {
                Some(Item::Data { id: CONTROL, .. }) => told = told.or(Some(at)),
                Some(Item::Word { id, word: Word::Close }) if id == StreamId(stream) => ended = Some(at),
                Some(_) => {}
                None => break,
            }
        }
        assert!(told.is_some() && told < ended, "grows: {grows}, told at {told:?}, ended at {ended:?}");
    }
}
