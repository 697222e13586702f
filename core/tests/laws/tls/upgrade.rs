//! How a host goes over to TLS in band, and what becomes of one that does not (tls-in-band.md §4).

use std::time::Duration;

use vspc_core::concentrator::{CloseReason, Config, InBandTls, VmTls};
use vspc_core::transport::Acceptors;

use super::{
    A_MOMENT, ACCEPT, DO_AUTH, DONT_AUTH, HOLD, IS_NULL, OPENING, REJECT, SEND, START, WILL_AUTH, WONT_AUTH,
    accepted, by_hand, failures, host, in_band, is_identified,
};
use crate::world::secure::{Sealed, Version};
use crate::world::{Client, Host, Kind, Part, show, uuid, vm_config};

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
