//! Guests whose VMs move.

use std::time::Duration;

use vspc_core::concentrator::{Config, EventKind};
use vspc_core::mux::StreamId;
use vspc_core::vmware::{Resume, VmConfig};

use super::agent::{Agent, shell, vm_with_streams};
use super::{is_up, pass, world_with_agent};
use crate::admin::config;
use crate::operators::client::Operator;
use crate::world::World;

#[test]
fn a_move_in_mid_frame_keeps_every_stream_and_every_byte() {
    let (mut world, mut agent) = world_with_agent("s2");
    let one = agent.announce(&shell("shell"));
    agent.pass(&mut world);
    agent.line(one).unwrap();
    let mut operator = Operator::known(&mut world);
    let stream = operator.attach(&mut world, "vm01/shell", "write");
    let (mut printed, mut typed) = (Vec::new(), Vec::new());
    for round in 0..20u8 {
        let more: Vec<u8> = (0..3000).map(|n| n as u8 ^ round).collect();
        agent.say(one, &more);
        printed.extend_from_slice(&more);
        let said = agent.says(&world);
        let source = agent.vm;
        world.print(source, &said[..said.len() / 2]);
        operator.session.write(StreamId(stream), &more[..500]).unwrap();
        typed.extend_from_slice(&more[..500]);
        operator.pass(&mut world);
        world.host(source).session.begin(&[b'm', round]);
        world.settle();
        // What the source was typed before it went is the guest's.
        let came = std::mem::take(&mut world.host(source).typed);
        agent.receive(&came, &world);
        let secret = world.host(source).secret().expect("it may go");
        let resume = Some(Resume { sequence: vec![b'm', round], secret });
        let target = world.vm(VmConfig { resume, ..vm_with_streams(1, "s2") });
        world.host(target).session.complete();
        // The target prints before the source's last bytes are in.
        world.print(target, &said[said.len() * 3 / 4..]);
        world.print(source, &said[said.len() / 2..said.len() * 3 / 4]);
        world.end(source);
        world.pass(Duration::from_secs(1));
        agent.vm = target;
        pass(&mut operator, &mut agent, &mut world);
    }
    assert!(operator.take(stream, usize::MAX) == printed);
    let came = agent.came.remove(&one).unwrap_or_default();
    assert_eq!(came.len(), typed.len());
    assert!(came == typed);
    assert_eq!(world.told(is_up), 1);
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}

#[test]
fn fifty_moves_at_once_with_four_busy_streams_each_lose_nothing() {
    const VMS: u8 = 50;
    let mut world = World::new(Config { banner: false, ..config() });
    let mut operator = Operator::known(&mut world);
    let mut all = Vec::new();
    for n in 1..=VMS {
        let vm = world.vm(vm_with_streams(n, "s2"));
        let mut agent = Agent::new(&world, vm, u32::from(n));
        agent.pass(&mut world);
        let ids = ["a", "b", "c", "d"].map(|name| agent.announce(&shell(name)));
        agent.pass(&mut world);
        ids.iter().for_each(|&id| drop(agent.line(id).unwrap()));
        let streams = ["a", "b", "c", "d"]
            .map(|name| operator.attach(&mut world, &format!("vm{n:02}/{name}"), "write"));
        all.push((n, agent, ids, streams));
    }
    let text = |n: u8, stream: usize, round: usize| format!("{n} {stream} {round} {}\n", "x".repeat(200));
    let mut targets = Vec::new();
    for (n, agent, ids, streams) in &mut all {
        for (at, &id) in ids.iter().enumerate() {
            agent.say(id, text(*n, at, 0).as_bytes());
            operator.session.write(StreamId(streams[at]), text(*n, at, 1).as_bytes()).unwrap();
        }
        let said = agent.says(&world);
        world.print(agent.vm, &said[..said.len() / 2]);
        operator.pass(&mut world);
        world.host(agent.vm).session.begin(&[b'm', *n]);
        world.settle();
        targets.push(said[said.len() / 2..].to_vec());
    }
    for ((n, agent, _, streams), rest) in all.iter_mut().zip(targets) {
        for (at, &stream) in streams.iter().enumerate() {
            operator.session.write(StreamId(stream), text(*n, at, 2).as_bytes()).unwrap();
        }
        operator.pass(&mut world);
        let source = agent.vm;
        let came = std::mem::take(&mut world.host(source).typed);
        agent.receive(&came, &world);
        let secret = world.host(source).secret().expect("it may go");
        let resume = Some(Resume { sequence: vec![b'm', *n], secret });
        let target = world.vm(VmConfig { resume, ..vm_with_streams(*n, "s2") });
        world.host(target).session.complete();
        world.print(target, &rest);
        world.end(source);
        agent.vm = target;
    }
    world.pass(Duration::from_secs(1));
    for (n, agent, ids, streams) in &mut all {
        pass(&mut operator, agent, &mut world);
        for (at, (&stream, &id)) in streams.iter().zip(&*ids).enumerate() {
            let shown = String::from_utf8(operator.take(stream, usize::MAX)).unwrap();
            assert_eq!(shown, text(*n, at, 0));
            assert_eq!(agent.heard(id), text(*n, at, 1) + &text(*n, at, 2));
        }
    }
    assert_eq!(world.told(|kind| matches!(kind, EventKind::GuestDown(_))), 0);
}
