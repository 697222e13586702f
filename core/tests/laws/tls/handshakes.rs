//! Handshakes: who is let in, and what those cost that fail, stall or never end.

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, ConnId, EventKind};
use vspc_core::transport::{Acceptors, TlsFailure};

use super::{A_MOMENT, all_tls, client, failures, host, is_identified};
use crate::world::secure::{Bare, Sealed, Version, acceptors};
use crate::world::{Client, Kind, Part, uuid, vm_config};

#[test]
fn who_never_shakes_hands_is_closed_after_ten_seconds_and_costs_nobody_anything() {
    let mut world = all_tls();
    world.vm(vm_config(1));
    world.by_hand = true;
    let silent: Vec<ConnId> =
        (0..100).map(|_| world.connect_to_vms(Part::Mute).expect("there is room")).collect();
    let at_client_port = client(&mut world, Kind::Raw);
    // Half of a hello, byte by byte.
    let hello = Sealed::new(Version::V13).seal(&[]);
    for &byte in &hello[..hello.len() / 2] {
        world.deal(silent[0], &[byte]);
    }
    world.by_hand = false;
    let vm = world.vm(vm_config(2));
    assert!(world.is_open(vm));
    world.by_hand = true;
    assert_eq!(world.console(uuid(1)).unwrap().clients, 0, "nobody yet");
    world.pass(Duration::from_millis(9_999));
    assert_eq!(world.reason(at_client_port), None);
    world.pass(A_MOMENT);
    for id in silent.into_iter().chain([at_client_port]) {
        assert_eq!(world.reason(id), Some(CloseReason::Tls));
    }
    assert_eq!(failures(&world), 101);
}

#[test]
fn telnet_on_a_tls_port_is_closed_with_an_alert() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    world.by_hand = true;
    let stray = client(&mut world, Kind::Raw);
    world.link(stray).inbound.extend(b"\xff\xfb\x03hello?\r\n");
    world.settle();
    assert_eq!(world.reason(stray), Some(CloseReason::Tls));
    assert_eq!(world.told(|what| *what == EventKind::TlsFailed(TlsFailure::NotTls)), 1);
    assert!(world.is_open(vm));
}

#[test]
fn client_without_the_certificate_that_is_asked_for_is_not_let_in() {
    let mut world = all_tls();
    world.vm(vm_config(1));
    world.engine.set_acceptors(acceptors(true));
    world.by_hand = true;
    let id = client(&mut world, Kind::Raw);
    let mut tls = Sealed::new(Version::V13);
    let hello = tls.seal(&[]);
    world.deal(id, &hello);
    let flight = world.take(id);
    tls.open(&flight);
    let finished = tls.seal(b"let me in\r");
    world.deal(id, &finished);
    world.settle();
    assert_eq!(world.reason(id), Some(CloseReason::Tls));
    assert_eq!(world.told(|what| matches!(what, EventKind::ClientAttached { .. })), 0);
    assert_eq!(world.engine.totals().bytes_from_clients, 0);
}

#[test]
fn without_an_acceptor_nobody_is_let_in_who_would_need_it() {
    let mut world = all_tls();
    world.engine.set_acceptors(Acceptors::default());
    assert!(world.connect_to_vms(Part::Mute).is_none());
}

#[test]
fn new_acceptors_leave_those_who_are_there_alone() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    world.engine.set_acceptors(acceptors(false));
    world.print(vm, b"still here");
    assert_eq!(world.seen(reader), "still here");
    let new = world.client(uuid(1), Kind::Telnet);
    world.print(vm, b"!");
    assert_eq!(world.seen(new), "!");
}

#[test]
fn tls_that_breaks_ends_the_connection_with_an_alert_and_what_came_before_counts() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Raw);
    let tls = world.link(reader).tls.as_mut().unwrap();
    let mut sealed = tls.seal(b"typed ");
    sealed.extend(tls.seal(b"forged"));
    *sealed.last_mut().unwrap() ^= 1;
    world.engine.handle_received(reader, &mut sealed, world.now);
    world.settle();
    assert_eq!(world.typed(vm), "typed ");
    assert_eq!(world.reason(reader), Some(CloseReason::Tls));
    assert!(world.link(reader).tls.as_ref().unwrap().fault.is_some(), "it got the alert");
}

#[test]
fn what_came_up_and_breaks_in_the_same_read_was_up() {
    for together in [true, false] {
        for port in [13370, 50000] {
            let mut world = all_tls();
            let vm = world.vm(vm_config(1));
            world.by_hand = true;
            let part = if port == 13370 { Part::Mute } else { Part::Client(Client::new(Kind::Raw)) };
            let id = world.connect_to(port, part).expect("there is room");
            let mut tls = Sealed::new(Version::V13);
            let hello = tls.seal(&[]);
            world.deal(id, &hello);
            let flight = world.take(id);
            tls.open(&flight);
            let mut said = tls.seal(b"typed");
            let mut broken = tls.seal(b"forged");
            *broken.last_mut().unwrap() ^= 1;
            if together {
                said.append(&mut broken);
            }
            for mut bytes in [said, broken] {
                world.engine.handle_received(id, &mut bytes, world.now);
                world.drain();
            }
            world.settle();
            assert_eq!(world.told(|what| matches!(what, EventKind::TlsUp { .. })), 2, "together: {together}");
            assert_eq!(world.reason(id), Some(CloseReason::Tls));
            if port != 13370 {
                assert_eq!(world.typed(vm), "typed", "together: {together}");
            }
        }
    }
}

#[test]
fn handshake_messages_in_many_records_and_many_reads_are_put_together() {
    for version in [Version::V12, Version::V13] {
        for (fragment, read) in [(32 + 5, 1), (32 + 5, 7), (64, 100), (100, 5000)] {
            let mut world = all_tls();
            world.by_hand = true;
            let id = host(&mut world);
            let mut tls = Sealed::cut(version, Some(fragment));
            for _ in 0..8 {
                for piece in tls.seal(&[]).chunks(read) {
                    world.engine.handle_received(id, &mut piece.to_vec(), world.now);
                    world.drain();
                }
                let brought = world.take(id);
                tls.open(&brought);
            }
            assert!(tls.is_up(), "{version:?} {fragment} {read}");
        }
    }
}

#[test]
fn handshake_message_in_more_pieces_than_may_be_kept_is_ended_by_the_read_that_brings_too_many() {
    let mut world = all_tls();
    world.by_hand = true;
    let id = host(&mut world);
    let record = |byte: u8| [0x16, 3, 1, 0, 1, byte];
    let mut hello: Vec<u8> =
        [1, 0, 250, 0].into_iter().chain(std::iter::repeat(7)).take(40_000).flat_map(record).collect();
    let window = world.engine.receive_window(id);
    for read in hello.chunks_mut(window) {
        assert!(world.is_open(id), "it is ended only by what is too much");
        world.engine.handle_received(id, read, world.now);
        world.settle();
        if world.reason(id).is_some() {
            break;
        }
    }
    assert_eq!(world.reason(id), Some(CloseReason::Tls));
}

#[test]
fn crowd_of_unfinished_handshakes_holds_no_more_than_its_budget_and_a_host_comes_up_beside_it() {
    let mut world = all_tls();
    world.by_hand = true;
    // The front of a message of 64000 bytes, in records of 15000.
    let message = [&[1, 0, 250, 0][..], &[7; 59_996]].concat();
    let records = message.chunks(15_000).flat_map(|body| {
        let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[0x16, 3, 1, high, low][..], body].concat()
    });
    let records: Vec<u8> = records.collect();
    let crowd: Vec<_> = (0..200).map(|_| world.connect_to_vms(Part::Mute).expect("there is room")).collect();
    for &id in &crowd {
        world.deal(id, &records);
        world.settle();
    }
    let turned_away = crowd.iter().filter(|id| world.reason(**id) == Some(CloseReason::Tls)).count();
    assert!((200 - 4 * 1024 * 1024 / 60_000..200).contains(&turned_away), "{turned_away}");
    let id = host(&mut world);
    world.shake_hands(id, Version::V13, Vec::new());
    world.settle();
    assert!(world.is_open(id) && is_identified(&world));
    // What they held is free again.
    for &id in &crowd {
        world.break_off(id);
    }
    let next = world.connect_to_vms(Part::Mute).expect("there is room");
    world.deal(next, &records);
    world.settle();
    assert_eq!(world.reason(next), None);
}

#[test]
fn handshake_message_that_has_no_end_is_ended() {
    let mut world = all_tls();
    world.by_hand = true;
    let id = host(&mut world);
    // A client's hello of 64000 bytes, one byte in each record.
    let record = |byte: u8| [0x16, 3, 1, 0, 1, byte];
    let hello: Vec<u8> =
        [1, 0, 250, 0].into_iter().chain(std::iter::repeat(7)).take(60_000).flat_map(record).collect();
    for piece in hello.chunks(10_000) {
        world.deal(id, piece);
    }
    world.settle();
    assert_eq!(world.reason(id), Some(CloseReason::Tls));
}

#[test]
fn empty_handshake_record_before_more_than_a_go_of_data_is_survived() {
    let mut world = all_tls();
    world.by_hand = true;
    let id = world.stranger();
    world.shake_hands(id, Version::V13, Vec::new());
    let mut tls = Bare::new(*world.link(id).tls.take().expect("it is tls"));
    // It is closed with words while the end of what it has said is still to be opened.
    let mut said = [tls.handshake(b""), tls.data(b"\xff\xfc\xe8")].concat();
    for _ in 0..10 {
        said.extend(tls.data(&[b'x'; 16 << 10]));
    }
    world.engine.handle_received(id, &mut said, world.now);
    world.drain();
    world.settle();
    assert_eq!(world.reason(id), Some(CloseReason::NotVm));
}

#[test]
fn records_that_say_nothing_change_nothing_however_they_are_cut() {
    for cut in [1, 7, 22, 23, 30, 60, 1000] {
        let mut world = all_tls();
        let vm = world.vm(vm_config(1));
        world.by_hand = true;
        let id = client(&mut world, Kind::Raw);
        world.shake_hands(id, Version::V13, Vec::new());
        let mut tls = Bare::new(*world.link(id).tls.take().expect("it is tls"));
        let mut said = Vec::new();
        for word in ["typed ", "in ", "pieces"] {
            said.extend([tls.handshake(b""), tls.data(word.as_bytes()), tls.data(b"")].concat());
        }
        for piece in said.chunks(cut) {
            world.engine.handle_received(id, &mut piece.to_vec(), world.now);
            // What is sealed between the pieces disturbs nothing.
            world.print(vm, b"!");
        }
        assert_eq!(world.typed(vm), "typed in pieces", "cut to {cut}");
        assert_eq!(world.reason(id), None);
    }
}

#[test]
fn keys_may_be_changed_in_the_middle() {
    let mut world = all_tls();
    let vm = world.vm(vm_config(1));
    let reader = world.client(uuid(1), Kind::Telnet);
    let mut changed = 0;
    for id in [vm, reader] {
        if let Some(tls) = world.link(id).tls.as_mut().filter(|tls| tls.is_v13()) {
            tls.refresh_keys();
            changed += 1;
        }
    }
    assert_ne!(changed, 0);
    for _ in 0..3 {
        world.print(vm, b"printed ");
        world.type_wire(reader, b"typed ");
    }
    assert_eq!(world.seen(reader), "printed printed printed ");
    assert_eq!(world.typed(vm), "typed typed typed ");
}

#[test]
fn close_of_a_client_ends_both_ways_in_tls_12_and_its_input_only_in_tls_13() {
    for version in [Version::V12, Version::V13] {
        let mut world = all_tls();
        let vm = world.vm(vm_config(1));
        world.by_hand = true;
        let leaving = client(&mut world, Kind::Raw);
        world.shake_hands(leaving, version, Vec::new());
        world.settle();
        let bye = world.link(leaving).tls.as_mut().unwrap().close();
        world.deal(leaving, &bye);
        world.print(vm, b"goodbye");
        match version {
            Version::V12 => assert_eq!(world.reason(leaving), Some(CloseReason::PeerClosed)),
            Version::V13 => assert_eq!(world.reason(leaving), None),
        }
        world.link(leaving).stalled = true;
        world.link(leaving).capacity = 0;
        world.print(vm, b"is anybody there?");
        world.pass(Duration::from_secs(20));
        assert_eq!(world.reason(leaving), Some(CloseReason::PeerClosed), "{version:?}");
    }
}
