//! Law 12, for hosts' connections: who gets what is typed where several say that they are the same VM.

mod crowds;
mod holding;
mod lurkers;
mod moves;

use std::net::Ipv4Addr;
use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, Event, EventKind, TakenBecause, TcpState};
use vspc_core::vmware::{Code, Resume, VmConfig};

use crate::world::{Kind, World, uuid, vm_config};

const HOME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SEQUENCE: &[u8] = b"seq";

/// All that its socket took is acknowledged.
const ACKNOWLEDGES: TcpState =
    TcpState { outstanding: false, acknowledged: Duration::from_secs(3600), window: Some(65536) };

fn quiet() -> Config {
    Config { banner: false, ..Config::default() }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A VM, and someone at its console.
fn vm_and_client(world: &mut World) -> (ConnId, ConnId) {
    let vm = world.vm(vm_config(1));
    (vm, world.client(uuid(1), Kind::Telnet))
}

/// Its guest, its host or the way to it stands still: it takes some bytes more and says nothing.
fn goes_silent(world: &mut World, id: ConnId) {
    world.stall(id, 4096);
}

fn comes_from(world: &mut World, address: Ipv4Addr) -> ConnId {
    world.from = address;
    world.vm(vm_config(1))
}

/// How often this connection was asked for its name, in its whole life.
fn asked(world: &mut World, id: ConnId) -> usize {
    let question = [250, 232, Code::GET_VM_NAME.0];
    world.wire(id).windows(3).filter(|at| *at == question).count()
}

fn taken(world: &World) -> Vec<&Event> {
    world.events.iter().filter(|event| matches!(event.kind, EventKind::InputTaken { .. })).collect()
}

fn because(world: &World) -> Vec<TakenBecause> {
    taken(world)
        .into_iter()
        .map(|event| match &event.kind {
            EventKind::InputTaken { because, .. } => *because,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn begin(world: &mut World, source: ConnId) -> VmConfig {
    world.host(source).session.begin(SEQUENCE);
    world.settle();
    let secret = world.host(source).secret().expect("goahead");
    VmConfig { resume: Some(Resume { sequence: SEQUENCE.to_vec(), secret }), ..vm_config(1) }
}
