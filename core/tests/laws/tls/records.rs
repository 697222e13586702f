//! What passes through TLS once it is up, and how it ends.

use std::time::Duration;

use vspc_core::concentrator::{Closed, Config, ConnId, EventKind, InBandTls, READ_MAX, VmTls, VmotionStep};
use vspc_core::telnet::IAC;
use vspc_core::vmware::{Resume, VmEvent};

use super::{WILL_AUTH, all_tls, client, host, in_band};
use crate::world::secure::{Bare, Version};
use crate::world::{Host, Kind, Part, World, uuid, vm_config};

const NOP: [u8; 2] = [IAC, 241];

#[test]
fn record_larger_than_the_window_waits_and_every_byte_arrives_before_the_end() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    world.stall(vm, 0);
    let typist = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(2));
    let text: Vec<u8> = (0..600_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let sealed = world.link(typist).tls.as_mut().unwrap().seal(&text);
    let mut rest = &sealed[..];
    while world.engine.receive_window(typist) > 0 {
        let n = world.engine.receive_window(typist).min(rest.len());
        world.engine.handle_received(typist, &mut rest[..n].to_vec(), world.now);
        world.drain();
        rest = &rest[n..];
    }
    assert!(rest.len() > 200_000, "a full queue is not added to: {} left", rest.len());
    world.link(vm).stalled = false;
    world.link(vm).capacity = usize::MAX;
    while !rest.is_empty() {
        world.settle();
        let n = world.engine.receive_window(typist).min(rest.len());
        assert_ne!(n, 0, "the vm takes everything");
        world.engine.handle_received(typist, &mut rest[..n].to_vec(), world.now);
        world.drain();
        rest = &rest[n..];
    }
    world.settle();
    assert!(world.host(vm).typed == text);
}

#[test]
fn end_of_a_clients_input_comes_behind_what_is_held_of_it() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    world.stall(vm, 0);
    let typist = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(2));
    let mut typed = 0;
    while world.engine.receive_window(typist) > 0 {
        let mut sealed = world.link(typist).tls.as_mut().unwrap().seal(&[b'x'; 16 << 10]);
        world.engine.handle_received(typist, &mut sealed, world.now);
        world.drain();
        typed += 16 << 10;
    }
    world.engine.handle_closed(typist, Closed::Input, world.now);
    world.drain();
    world.unstall(vm);
    assert_eq!(world.host(vm).typed.len(), typed);
    let console = world.console(uuid(1)).expect("it is known").label.id;
    assert!(world.engine.clients(console).all(|client| client.has_ended));
    world.pass(Duration::from_secs(60));
    assert!(world.is_open(typist), "it takes all that it is shown");
}

#[test]
fn what_was_read_of_a_client_that_resets_is_typed_and_what_a_queue_has_no_room_for_is_counted() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    world.stall(vm, 0);
    let mut typed = 0;
    for _ in 0..60 {
        let typist = world.client(uuid(1), Kind::Raw);
        world.pass(Duration::from_secs(2));
        loop {
            let mut sealed = world.link(typist).tls.as_mut().unwrap().seal(&[b'x'; 16 << 10]);
            world.engine.handle_received(typist, &mut sealed, world.now);
            world.drain();
            typed += 16 << 10;
            if world.engine.receive_window(typist) == 0 {
                break;
            }
        }
        let reset = Closed::Failed(std::io::ErrorKind::ConnectionReset);
        world.engine.handle_closed(typist, reset, world.now);
        world.drain();
    }
    let lost = world.engine.totals().input_lost as usize;
    assert!(lost > 0, "memory has a bound");
    world.unstall(vm);
    let arrived = world.host(vm).typed.len();
    assert!((400_000..=600_000).contains(&arrived), "{arrived}");
    assert_eq!(arrived + lost, typed);
}

#[test]
fn one_record_at_most_is_sealed_ahead_of_the_socket() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Raw);
    world.pass(Duration::from_secs(2));
    world.link(reader).stalled = true;
    world.link(reader).capacity = 0;
    world.print(vm, &[b'x'; 100_000]);
    let sealed = world.engine.transmit(reader, world.now, |_| 0).offered;
    assert!((16 << 10..17 << 10).contains(&sealed), "{sealed}");
}

#[test]
fn vm_moves_from_telnet_to_tls_and_back() {
    let mut world = World::new(Config { vm_tls: VmTls::Auto, banner: false, ..Config::default() });
    world.by_hand = true;
    let mut at = host(&mut world);
    world.deal(at, WILL_AUTH);
    world.settle();
    let reader = client(&mut world, Kind::Telnet);
    world.settle();
    for round in 0..4_u8 {
        world.host(at).session.begin(&[round]);
        world.settle();
        world.type_wire(reader, b"typed while it moves;");
        let secret = world.host(at).secret().expect("goahead");
        let config = vspc_core::vmware::VmConfig {
            resume: Some(Resume { sequence: vec![round], secret }),
            ..vm_config(1)
        };
        let target = world.connect_to_vms(Part::Host(Host::new(config))).expect("there is room");
        if round % 2 == 0 {
            world.shake_hands(target, Version::V13, Vec::new());
        } else {
            world.deal(target, WILL_AUTH);
        }
        world.settle();
        assert_eq!(world.host(target).was_told(|event| matches!(event, VmEvent::PeerOk { .. })), 1);
        world.host(target).session.complete();
        world.host(target).session.print(b"here;");
        world.settle();
        world.pass(Duration::from_secs(7));
        assert_eq!(world.typed(target), "typed while it moves;");
        at = target;
    }
    assert_eq!(world.seen(reader), "here;here;here;here;");
    assert_eq!(world.told(|what| matches!(what, EventKind::Vmotion(VmotionStep::Completed(_)))), 4);
}

#[test]
fn those_who_shake_hands_while_the_server_goes_down_do_not_keep_it() {
    let mut world = all_tls();
    world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    world.by_hand = true;
    client(&mut world, Kind::Raw);
    world.connect_to_vms(Part::Mute).expect("there is room");
    world.shut_down();
    assert!(world.engine.is_empty());
    assert!(world.link(reader).tls.as_ref().unwrap().ended, "it was told that nothing follows");
}

#[test]
fn host_that_is_held_does_not_keep_the_server() {
    let mut world = in_band(InBandTls::Require);
    host(&mut world);
    world.shut_down();
    assert!(world.engine.is_empty());
}

/// What a socket brings of a VM's in one read.
fn brings(world: &mut World, vm: ConnId, mut sealed: Vec<u8>) {
    world.engine.handle_received(vm, &mut sealed, world.now);
    world.drain();
}

fn seal(world: &mut World, vm: ConnId, plain: &[u8]) -> Vec<u8> {
    world.link(vm).tls.as_mut().expect("it is TLS").seal(plain)
}

#[test]
fn a_vm_is_noise_by_what_it_says_and_not_by_what_that_is_sealed_in() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    assert_eq!(world.engine.receive_window(vm), READ_MAX, "it is quiet");
    // A command for each kibibyte that it prints, the commands all at the end.
    let quiet = [vec![b'x'; 12 << 10], NOP.repeat(12)].concat();
    let sealed = seal(&mut world, vm, &quiet);
    brings(&mut world, vm, sealed);
    assert_eq!(world.engine.receive_window(vm), READ_MAX, "what it has printed counts");
    // Each byte in a record of its own: nine kibibytes, of which little is what it says.
    let noise = [NOP.repeat(12), vec![b'x'; 400]].concat();
    let sealed: Vec<u8> = noise.iter().flat_map(|&byte| seal(&mut world, vm, &[byte])).collect();
    assert!(sealed.len() > 12 * 512);
    brings(&mut world, vm, sealed);
    assert!(world.engine.receive_window(vm) < READ_MAX, "it said little but commands");
}

#[test]
fn reads_in_which_a_vm_says_nothing_do_not_make_it_quiet() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    let sealed = seal(&mut world, vm, &NOP.repeat(200));
    brings(&mut world, vm, sealed);
    let noisy = world.engine.receive_window(vm);
    assert!(noisy < READ_MAX);
    let mut bare = Bare::new(*world.link(vm).tls.take().expect("it is TLS"));
    // Records that hold no byte, and pieces of one that does not end.
    for _ in 0..20 {
        brings(&mut world, vm, bare.data(b""));
    }
    let last = bare.data(&[b'x'; 400]);
    let (end, pieces) = last.split_last().expect("it has an end");
    for piece in pieces {
        brings(&mut world, vm, vec![*piece]);
    }
    assert!(world.engine.receive_window(vm) < READ_MAX, "nothing was heard");
    brings(&mut world, vm, vec![*end]);
    for n in 1..255 {
        assert_eq!(world.engine.receive_window(vm), noisy, "{n}");
        brings(&mut world, vm, bare.data(b"what it is for"));
    }
    assert_eq!(world.engine.receive_window(vm), READ_MAX, "each record that says something counts once");
}
