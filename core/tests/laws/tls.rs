//! TLS: who is spoken to how, and when; what must not be heard or said in clear (tls-in-band.md §4).

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, ConnId, EventKind, InBandTls, VmTls, VmotionStep};
use vspc_core::transport::{Acceptors, TlsFailure};
use vspc_core::vmware::{Resume, VmEvent};

use crate::fuzz;
use crate::world::secure::{Bare, Sealed, Version, acceptors};
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

// The upgrade.

#[test]
fn nothing_is_said_before_it_is_known_how() {
    for policy in [InBandTls::Offer, InBandTls::Require] {
        let mut world = in_band(policy);
        let id = host(&mut world);
        // An early word of the host's is answered, but not yet.
        world.deal(id, b"\xff\xfb\xe8");
        world.pass(HOLD - A_MOMENT);
        assert_eq!(show(&world.take(id)), "", "{policy:?}");
    }
}

#[test]
fn upgraded_host_is_told_everything_under_tls_and_nothing_in_clear() {
    for version in [Version::V12, Version::V13] {
        let mut world = in_band(InBandTls::Offer);
        let id = accepted(&mut world);
        world.pass(Duration::from_secs(1));
        assert_eq!(show(&world.take(id)), "");
        world.shake_hands(id, version, Vec::new());
        world.settle();
        assert!(is_identified(&world), "{version:?}");
        let wire = world.wire(id).clone();
        assert!(wire.starts_with(OPENING), "{}", show(&wire));
    }
}

#[test]
fn options_agreed_in_clear_stay_agreed() {
    let mut world = in_band(InBandTls::Offer);
    let id = host(&mut world);
    world.deal(id, b"\xff\xfb\x25\xff\xfb\x00\xff\xfd\x00");
    world.take(id);
    world.deal(id, START);
    world.take(id);
    world.shake_hands(id, Version::V13, Vec::new());
    world.pull(id, usize::MAX);
    let said: Vec<u8> = world.link(id).outbound.drain(..).collect();
    assert_eq!(show(&said), show(OPENING), "asked for once, and answered by what had been said before");
    world.type_wire(id, b"\xff\xfb\x00\xff\xfb\x25");
    world.pull(id, usize::MAX);
    assert!(world.link(id).outbound.is_empty(), "never answer a request for the state that is");
}

#[test]
fn every_cut_of_the_upgrade_gives_the_same() {
    let hello = Sealed::new(Version::V13).seal(&[]);
    let all = [WILL_AUTH, START, &hello].concat();
    for cut in 1..WILL_AUTH.len() + START.len() + 8 {
        let mut world = in_band(InBandTls::Require);
        let id = host(&mut world);
        for part in [&all[..cut], &all[cut..]] {
            world.engine.handle_received(id, &mut part.to_vec(), world.now);
            world.drain();
        }
        let said = world.take(id);
        let in_clear = [DO_AUTH, SEND, ACCEPT].concat();
        assert!(said.starts_with(&in_clear), "cut at {cut}: {}", show(&said));
        assert_eq!(said.get(in_clear.len()), Some(&0x16), "the server's flight, cut at {cut}");
        assert_eq!(failures(&world), 0);
    }
}

#[test]
fn clear_bytes_between_start_and_tls_are_an_attack_and_end_the_connection() {
    for injected in [&b"\xff\xfa\xe8\x52evil\xff\xf0"[..], b"l", b"\xff"] {
        for together in [true, false] {
            let mut world = in_band(InBandTls::Require);
            let id = host(&mut world);
            world.deal(id, WILL_AUTH);
            world.take(id);
            if together {
                let mut both = [START, injected].concat();
                world.engine.handle_received(id, &mut both, world.now);
                world.drain();
            } else {
                world.deal(id, START);
                world.deal(id, injected);
            }
            world.settle();
            assert_eq!(world.reason(id), Some(CloseReason::Tls));
            assert_eq!(failures(&world), 1);
            assert_eq!(world.engine.consoles().count(), 0);
        }
    }
}

#[test]
fn where_tls_is_required_nothing_said_in_clear_counts() {
    let mut world = in_band(InBandTls::Require);
    let id = host(&mut world);
    let mut forged = Host::new(vm_config(9));
    forged.session.print(b"forged");
    let said = forged.session.pending().to_vec();
    world.deal(id, &said);
    let mut uuid_message = Vec::new();
    let mut text = Vec::new();
    uuid(9).put_vmware(&mut text);
    vspc_core::vmware::Message::VmVcUuid(&text).put(&mut uuid_message);
    world.deal(id, &uuid_message);
    world.deal(id, WILL_AUTH);
    world.take(id);
    world.deal(id, START);
    world.take(id);
    world.shake_hands(id, Version::V13, Vec::new());
    world.settle();
    assert!(world.console(uuid(9)).is_none());
    assert!(is_identified(&world));
    assert_ne!(world.engine.totals().malformed, 0);
}

#[test]
fn who_makes_no_offer_is_served_in_clear_where_tls_is_offered() {
    for answers in [&[][..], &[WONT_AUTH]] {
        let mut world = in_band(InBandTls::Offer);
        let id = host(&mut world);
        for answer in answers {
            world.deal(id, answer);
        }
        world.pass(HOLD);
        assert!(is_identified(&world));
        assert!(world.wire(id).starts_with(OPENING));
    }
}

#[test]
fn who_cannot_go_through_with_its_offer_is_served_in_clear_where_tls_is_offered() {
    for (answer, patience) in
        [(IS_NULL, 0), (WONT_AUTH, 0), (&b"\xff\xfa\x25\x00\x07\x02\x01\xff\xf0"[..], 0), (b"", 3)]
    {
        let mut world = in_band(InBandTls::Offer);
        let id = host(&mut world);
        world.deal(id, WILL_AUTH);
        world.take(id);
        world.deal(id, answer);
        world.pass(Duration::from_secs(patience));
        world.settle();
        assert!(is_identified(&world), "{}", show(answer));
        assert_eq!(world.reason(id), None);
    }
}

#[test]
fn who_does_not_go_over_to_tls_is_told_so_and_closed_where_it_is_required() {
    let invited = [DO_AUTH].concat();
    for (said, patience) in [
        (&[][..], 3300),
        (&[WONT_AUTH][..], 3300),
        (&[WILL_AUTH, IS_NULL], 0),
        (&[WILL_AUTH, WONT_AUTH], 0),
        (&[WILL_AUTH], 3000),
    ] {
        let mut world = in_band(InBandTls::Require);
        let id = world.connect_to_vms(Part::Client(Client::new(Kind::Raw))).expect("there is room");
        for said in said {
            world.deal(id, said);
        }
        world.pass(Duration::from_millis(patience));
        world.settle();
        assert_eq!(world.reason(id), Some(CloseReason::InClear), "{said:?}");
        let seen = world.wire(id).clone();
        assert!(seen.ends_with(b"an upgrade by option 37).\r\n"), "{}", show(&seen));
        assert!(seen.starts_with(&invited));
        assert!(!seen.windows(3).any(|part| part == b"\xff\xfd\xe8"), "nothing else is said");
    }
}

#[test]
fn host_that_waits_to_be_asked_is_asked_where_tls_is_required() {
    let mut world = in_band(InBandTls::Require);
    let id = host(&mut world);
    world.now = world.now + HOLD;
    world.fire();
    assert_eq!(show(&world.take(id)), show(DO_AUTH));
    world.deal(id, WILL_AUTH);
    assert_eq!(show(&world.take(id)), show(SEND));
    world.deal(id, START);
    assert_eq!(show(&world.take(id)), show(ACCEPT));
    world.shake_hands(id, Version::V13, Vec::new());
    world.settle();
    assert!(is_identified(&world));
}

#[test]
fn offer_that_comes_too_late_is_declined() {
    let mut world = in_band(InBandTls::Offer);
    let id = world.stranger();
    world.pass(HOLD);
    world.take(id);
    world.deal(id, WILL_AUTH);
    assert_eq!(show(&world.take(id)), show(DONT_AUTH));
    world.deal(id, START);
    assert_eq!(show(&world.take(id)), show(REJECT));
}

#[test]
fn offer_is_declined_at_once_where_tls_is_off() {
    let mut world = in_band(InBandTls::Off);
    let id = world.stranger();
    world.deal(id, WILL_AUTH);
    assert_eq!(show(&world.take(id)), show(&[OPENING, DONT_AUTH].concat()));
}

#[test]
fn host_whose_upgrade_failed_is_served_in_clear_for_ten_minutes() {
    for how in 0..3 {
        let mut world = in_band(InBandTls::Offer);
        let id = accepted(&mut world);
        match how {
            0 => world.deal(id, b"\x16\x03\x01\x00\x05hello"),
            1 => world.end(id),
            _ => world.pass(Duration::from_secs(10)),
        }
        world.settle();
        assert!(world.reason(id).is_some(), "{how}");
        // Now it does what it did before, and has a console.
        let again = host(&mut world);
        world.deal(again, WILL_AUTH);
        world.settle();
        assert!(is_identified(&world));
        world.end(again);
        world.pass(Duration::from_secs(599));
        let again = world.stranger();
        assert!(world.take(again).starts_with(OPENING));
        world.pass(Duration::from_secs(1));
        accepted(&mut world);
    }
}

#[test]
fn host_that_was_cut_off_by_us_while_it_upgraded_is_offered_it_again() {
    let mut world =
        by_hand(Config { in_band_tls: InBandTls::Offer, max_descriptors: 5, ..Config::default() });
    let evicted = accepted(&mut world);
    world.pass(Duration::from_secs(5));
    world.stranger();
    world.stranger();
    assert_eq!(world.reason(evicted), Some(CloseReason::Evicted));
    world.settle();
    world.pass(Duration::from_secs(3));
    let kicked = accepted(&mut world);
    world.engine.kick(kicked, world.now).expect("it is there");
    world.settle();
    accepted(&mut world);
}

#[test]
fn host_that_starts_when_there_is_no_acceptor_any_more_is_not_told_to_go_on() {
    for policy in [InBandTls::Offer, InBandTls::Require] {
        let mut world = in_band(policy);
        let id = host(&mut world);
        world.deal(id, WILL_AUTH);
        world.take(id);
        world.engine.set_acceptors(Acceptors::default());
        world.deal(id, START);
        world.settle();
        let wire = show(world.wire(id));
        assert!(!wire.contains(&show(ACCEPT)), "{policy:?}: {wire}");
        assert_eq!(world.reason(id), Some(CloseReason::Tls), "{policy:?}");
    }
    let mut world = by_hand(Config { vm_tls: VmTls::Auto, ..Config::default() });
    let id = host(&mut world);
    world.engine.set_acceptors(Acceptors::default());
    let hello = Sealed::new(Version::V13).seal(&[]);
    world.deal(id, &hello);
    world.settle();
    assert_eq!(world.reason(id), Some(CloseReason::Tls), "a hello is no telnet");
}

#[test]
fn answers_to_a_flood_of_option_37_are_bounded_while_it_is_not_known_how_to_speak() {
    for asked in [&b""[..], WILL_AUTH] {
        let mut world = in_band(InBandTls::Require);
        let id = host(&mut world);
        world.deal(id, asked);
        for word in [DO_AUTH, DONT_AUTH, WILL_AUTH] {
            world.deal(id, &word.repeat(10_000));
        }
        let said = world.take(id);
        assert!(said.len() < 2048, "{} bytes", said.len());
    }
}

#[test]
fn upgrade_that_succeeded_is_offered_again() {
    let mut world = in_band(InBandTls::Offer);
    let id = accepted(&mut world);
    world.shake_hands(id, Version::V12, Vec::new());
    world.settle();
    world.end(id);
    accepted(&mut world);
}

// Both on one port.

#[test]
fn one_port_serves_telnet_and_tls() {
    for policy in [InBandTls::Off, InBandTls::Offer, InBandTls::Require] {
        let mut world = by_hand(Config { vm_tls: VmTls::Auto, in_band_tls: policy, ..Config::default() });
        let id = host(&mut world);
        world.shake_hands(id, Version::V13, Vec::new());
        world.settle();
        assert!(is_identified(&world), "{policy:?}");
        world.end(id);
        // One that speaks telnet is known by its first byte.
        let id = accepted_or_clear(&mut world, policy);
        world.settle();
        assert!(is_identified(&world), "{policy:?}");
        assert!(world.wire(id).starts_with(OPENING));
    }
}

fn accepted_or_clear(world: &mut World, policy: InBandTls) -> ConnId {
    if policy == InBandTls::Off {
        let id = host(world);
        world.deal(id, WILL_AUTH);
        return id;
    }
    let id = accepted(world);
    world.shake_hands(id, Version::V13, Vec::new());
    id
}

#[test]
fn silent_host_is_greeted_in_telnet_where_either_is_welcome() {
    let mut world = by_hand(Config { vm_tls: VmTls::Auto, ..Config::default() });
    let id = host(&mut world);
    world.pass(HOLD - A_MOMENT);
    assert!(world.take(id).is_empty());
    world.pass(A_MOMENT);
    world.settle();
    assert!(is_identified(&world));
}

#[test]
fn byte_of_a_record_is_data_once_telnet_has_begun() {
    for policy in [InBandTls::Off, InBandTls::Offer] {
        let mut world = by_hand(Config {
            vm_tls: VmTls::Auto,
            in_band_tls: policy,
            client_scrollback: 9,
            ..Config::default()
        });
        let id = host(&mut world);
        for bytes in [&b"\xff\xfb\x00"[..], b"\x16\x03\x01"] {
            world.engine.handle_received(id, &mut bytes.to_vec(), world.now);
            world.drain();
        }
        world.pass(HOLD);
        let reader = client(&mut world, Kind::Telnet);
        world.settle();
        assert_eq!(world.seen(reader), "\\x16\\x03\\x01", "{policy:?}");
        assert_eq!(failures(&world), 0);
    }
}

// Handshakes.

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

// What passes through.

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
    world.engine.handle_closed(typist, vspc_core::concentrator::Closed::Input, world.now);
    world.drain();
    world.unstall(vm);
    assert_eq!(world.host(vm).typed.len(), typed);
    let console = world.console(uuid(1)).expect("it is known").label.id;
    assert!(world.engine.clients(console).all(|client| client.has_ended));
    world.pass(Duration::from_secs(60));
    assert!(world.is_open(typist), "it takes all that it is shown");
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

// Whatever a fuzzer has found.

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
