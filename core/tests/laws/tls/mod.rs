//! TLS: who is spoken to how, and when; what must not be heard or said in clear (tls-in-band.md §4).

mod handshakes;
mod one_port;
mod records;
mod upgrade;

use std::time::Duration;

use vspc_core::concentrator::{Config, ConnId, EventKind, InBandTls, VmTls};

use crate::fuzz;
use crate::world::{Client, Host, Kind, Part, World, show, uuid, vm_config};

const WILL_AUTH: &[u8] = b"\xff\xfb\x25";
const WONT_AUTH: &[u8] = b"\xff\xfc\x25";
const DO_AUTH: &[u8] = b"\xff\xfd\x25";
const DONT_AUTH: &[u8] = b"\xff\xfe\x25";
const SEND: &[u8] = b"\xff\xfa\x25\x01\x07\x00\xff\xf0";
const START: &[u8] = b"\xff\xfa\x25\x00\x07\x00\x01\xff\xf0";
const ACCEPT: &[u8] = b"\xff\xfa\x25\x02\x07\x00\x02\xff\xf0";
const REJECT: &[u8] = b"\xff\xfa\x25\x02\x07\x00\x03\xff\xf0";
const IS_NULL: &[u8] = b"\xff\xfa\x25\x00\x00\x00\xff\xf0";

/// Our opening: WILL BINARY, SGA, ECHO, DO BINARY, SGA, 232.
const OPENING: &[u8] = b"\xff\xfb\x00\xff\xfb\x03\xff\xfb\x01\xff\xfd\x00\xff\xfd\x03\xff\xfd\xe8";

const HOLD: Duration = Duration::from_millis(300);
const HELLO_LIMIT: Duration = Duration::from_secs(2);
const A_MOMENT: Duration = Duration::from_millis(1);

fn in_band(policy: InBandTls) -> World {
    by_hand(Config { in_band_tls: policy, ..Config::default() })
}

fn by_hand(config: Config) -> World {
    let mut world = World::new(Config { banner: false, ..config });
    world.by_hand = true;
    world
}

fn all_tls() -> World {
    World::new(Config { vm_tls: VmTls::On, client_tls: true, banner: false, ..Config::default() })
}

fn host(world: &mut World) -> ConnId {
    world.connect_to_vms(Part::Host(Host::new(vm_config(1)))).expect("there is room")
}

/// A client on the console's port that has not shaken hands.
fn client(world: &mut World, kind: Kind) -> ConnId {
    let port = world.port(uuid(1)).expect("it has a port");
    world.connect_to(port, Part::Client(Client::new(kind))).expect("there is room")
}

/// Upgrades as far as ACCEPT.
fn accepted(world: &mut World) -> ConnId {
    let id = host(world);
    world.deal(id, WILL_AUTH);
    assert_eq!(show(&world.take(id)), show(&[DO_AUTH, SEND].concat()));
    world.deal(id, START);
    assert_eq!(show(&world.take(id)), show(ACCEPT));
    id
}

fn failures(world: &World) -> usize {
    world.told(|what| matches!(what, EventKind::TlsFailed(_)))
}

fn is_identified(world: &World) -> bool {
    world.console(uuid(1)).is_some_and(|console| console.vms == 1)
}

#[test]
fn fuzzers_corpus_is_survived() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/tls_listener");
    let mut played = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        #[allow(clippy::disallowed_methods, reason = "the corpus is on disk")]
        fuzz::tls_listener(&std::fs::read(&path).expect("it can be read"));
        played += 1;
    }
    assert_ne!(played, 0);
}

/// Programs by chance, as a fuzzer begins with.
#[test]
fn strangers_programs_are_survived() {
    #[allow(clippy::needless_pass_by_value, reason = "quickcheck gives it away")]
    fn survives(program: Vec<u8>) {
        fuzz::tls_listener(&program);
    }
    quickcheck::QuickCheck::new().tests(300).quickcheck(survives as fn(Vec<u8>));
}
