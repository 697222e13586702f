//! Telnet and TLS on one port: who is taken for which.

use vspc_core::concentrator::{Config, ConnId, InBandTls, VmTls};

use super::{
    A_MOMENT, HELLO_LIMIT, HOLD, OPENING, WILL_AUTH, accepted, by_hand, client, failures, host, is_identified,
};
use crate::world::secure::Version;
use crate::world::{Kind, World};

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
    world.pass(HELLO_LIMIT - A_MOMENT);
    assert!(world.take(id).is_empty());
    world.pass(A_MOMENT);
    world.settle();
    assert!(is_identified(&world));
}

/// A fleet that connects at one moment begins late, and our telnet would end its handshakes.
#[test]
fn host_that_is_slow_to_begin_its_handshake_is_not_greeted_in_telnet() {
    for policy in [InBandTls::Off, InBandTls::Offer, InBandTls::Require] {
        let mut world = by_hand(Config { vm_tls: VmTls::Auto, in_band_tls: policy, ..Config::default() });
        let id = host(&mut world);
        world.pass(HELLO_LIMIT - A_MOMENT);
        world.shake_hands(id, Version::V13, Vec::new());
        world.settle();
        assert!(is_identified(&world), "{policy:?}");
        assert_eq!(failures(&world), 0, "{policy:?}");
    }
}

/// Who has shown that it speaks telnet waits no longer for that.
#[test]
fn host_that_begins_in_telnet_has_as_long_to_offer_an_upgrade_as_without_auto() {
    let config = Config { vm_tls: VmTls::Auto, in_band_tls: InBandTls::Offer, ..Config::default() };
    let mut world = by_hand(config);
    let id = host(&mut world);
    world.pass(HOLD);
    for piece in [&b"\xff\xfb\x00"[..], b"\xff\xfb\x03"] {
        assert!(world.wire(id).is_empty());
        world.engine.handle_received(id, &mut piece.to_vec(), world.now);
        world.pass(HOLD / 2);
    }
    assert!(world.wire(id).starts_with(OPENING));
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
