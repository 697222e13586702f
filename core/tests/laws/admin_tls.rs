//! TLS on the admin port, and certificates of those who come there.

use std::time::Duration;

use serde_json::json;
use vspc_core::admin::operator::Rules;
use vspc_core::concentrator::{AdminTls, CloseReason, Config, ConnId, EventKind};
use vspc_core::transport::{Acceptors, TlsFailure};

use crate::admin::{NOBODY, TELNET, VERSION, config, connect, pickled, say};
use crate::operators::client::Operator;
use crate::world::secure::{Sealed, Version, acceptors};
use crate::world::{World, show, uuid, vm_config};

const VERSIONS: [Version; 2] = [Version::V12, Version::V13];

/// A server with TLS on its admin port; `ask`: for certificates.
fn server(admin_tls: AdminTls, ask: bool, rules: &[&str]) -> World {
    let admin_rights = Rules::new(rules.iter().map(|rule| rule.parse().unwrap()).collect());
    let mut world = World::new(Config { admin_tls, admin_rights, ..config() });
    world.engine.set_acceptors(acceptors(ask));
    world
}

/// Someone connects from this machine, with TLS.
fn secured(world: &mut World, version: Version) -> ConnId {
    let id = connect(world);
    world.shake_hands(id, version, Vec::new());
    id
}

/// The same, of one that shows a certificate with these names.
fn named(world: &mut World, common: &str, dns: &str) -> ConnId {
    let id = connect(world);
    world.shake_hands_as(id, Sealed::named(Version::V13, common, dns), Vec::new());
    id
}

#[test]
fn every_dialect_is_spoken_within_tls() {
    for admin_tls in [AdminTls::On, AdminTls::Auto] {
        for version in VERSIONS {
            let mut world = server(admin_tls, false, &[]);
            let vm = world.vm(vm_config(1));
            let id = secured(&mut world, version);
            assert_eq!(say(&mut world, id, VERSION), VERSION);
            let list = say(&mut world, id, &[NOBODY, &pickled("write")].concat());
            assert!(show(&list).contains("vm01"), "{}", show(&list));

            let id = secured(&mut world, version);
            say(&mut world, id, VERSION);
            say(&mut world, id, &[pickled("vm01"), pickled("write")].concat());
            say(&mut world, id, TELNET);
            say(&mut world, id, b"hi");
            assert_eq!(world.typed(vm), "hi");
            world.end(id);

            let id = secured(&mut world, version);
            let line = say(&mut world, id, b"LIST\n");
            assert!(show(&line).starts_with(&uuid(1).simple().to_string()), "{}", show(&line));

            let id = secured(&mut world, version);
            let http = say(&mut world, id, b"GET / HTTP/1.1\r\n\r\n");
            assert!(show(&http).starts_with("HTTP/1.1 400"), "{}", show(&http));

            let id = secured(&mut world, version);
            let mut operator = Operator::on(&mut world, id);
            let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1 }));
            assert_eq!((&hello["rights"], &hello["as"]), (&json!("writer"), &json!("127.0.0.1")));
            let stream = operator.attach(&mut world, "vm01", "write");
            world.print(vm, &[b'x'; 40_000]);
            operator.pass(&mut world);
            assert_eq!(operator.take(stream, usize::MAX).len(), 40_000);
        }
    }
}

#[test]
fn the_first_bytes_tell_tls_from_the_dialects_in_clear_however_they_are_cut() {
    let mut world = server(AdminTls::Auto, false, &[]);
    world.vm(vm_config(1));
    let in_clear = connect(&mut world);
    assert!(show(&say(&mut world, in_clear, b"LIST\n")).contains(" -> "));
    let id = connect(&mut world);
    let mut tls = Sealed::new(Version::V13);
    for byte in tls.seal(&[]) {
        world.pass(Duration::from_millis(10));
        world.deal(id, &[byte]);
    }
    let flight = world.take(id);
    world.shake_hands_as(id, tls, flight);
    assert!(show(&say(&mut world, id, b"LIST\n")).contains(" -> "));
}

#[test]
fn what_is_in_clear_is_not_served_where_tls_is_required_and_tls_not_where_there_is_none() {
    let mut world = server(AdminTls::On, false, &[]);
    for said in [&b"LIST\n"[..], VERSION, b"\x00S2", b"GET / HTTP/1.1\r\n\r\n"] {
        let id = connect(&mut world);
        say(&mut world, id, said);
        assert_eq!(world.reason(id), Some(CloseReason::Tls));
    }
    assert_eq!(world.told(|kind| *kind == EventKind::TlsFailed(TlsFailure::NotTls)), 4);
    let mut world = server(AdminTls::Off, false, &[]);
    let id = connect(&mut world);
    let hello = Sealed::new(Version::V13).seal(&[]);
    assert!(show(&say(&mut world, id, &hello)).contains("t understand"));
    assert!(!world.is_open(id));
}

#[test]
fn tls_within_tls_is_no_dialect() {
    let mut world = server(AdminTls::Auto, false, &[]);
    let id = secured(&mut world, Version::V13);
    let hello = Sealed::new(Version::V13).seal(&[]);
    assert!(show(&say(&mut world, id, &hello)).contains("t understand"));
    assert!(!world.is_open(id));
}

#[test]
fn without_an_acceptor_nobody_gets_tls_and_clear_is_served_where_either_is_welcome() {
    let mut world = server(AdminTls::Auto, false, &[]);
    world.engine.set_acceptors(Acceptors::default());
    let id = connect(&mut world);
    let hello = Sealed::new(Version::V13).seal(&[]);
    say(&mut world, id, &hello);
    assert!(!world.is_open(id));
    let id = connect(&mut world);
    assert_eq!(say(&mut world, id, VERSION), VERSION);
}

#[test]
fn a_certificate_says_who_somebody_is_and_a_rule_what_that_one_may() {
    for version in VERSIONS {
        let rules = ["cert:web-gw=operator+delegate", "cert:ann.example=spectator", "cert:mallory=none"];
        for admin_tls in [AdminTls::On, AdminTls::Auto] {
            for (common, dns, right, name) in [
                ("web-gw", "other.example", "operator", "web-gw"),
                ("Ann", "ann.example", "spectator", "ann.example"),
                ("mallory", "x.example", "none", "mallory"),
                // Nobody but a rule gives more than the address does.
                ("Bob", "bob.example", "writer", "Bob"),
            ] {
                let mut world = server(admin_tls, true, &rules);
                world.vm(vm_config(1));
                let id = connect(&mut world);
                world.shake_hands_as(id, Sealed::named(version, common, dns), Vec::new());
                let mut operator = Operator::on(&mut world, id);
                let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1 }));
                let whom = format!("cert {name}@127.0.0.1");
                assert_eq!((&hello["rights"], &hello["as"]), (&json!(right), &json!(whom)));
                if right == "none" {
                    assert_eq!(operator.code(&mut world, json!({ "op": "list" })), "not-allowed");
                    continue;
                }
                operator.attach(&mut world, "vm01", "read-only");
                let who = operator.ok(&mut world, json!({ "op": "who", "console": "vm01" }));
                assert_eq!(who["clients"][0]["who"], whom);
                let told =
                    |kind: &EventKind| matches!(kind, EventKind::Attached { who, .. } if **who == whom);
                assert_eq!(world.told(told), 1);
            }
        }
    }
}

#[test]
fn what_a_rule_denies_a_certificate_no_older_protocol_gives_it() {
    let rules = ["cert:mallory=none", "cert:ann=spectator", "cert:web-gw=operator"];
    let lists = |world: &mut World, id: ConnId| {
        say(world, id, VERSION);
        let list = say(world, id, &[NOBODY, &pickled("write")].concat());
        show(&list).contains("vm01")
    };
    let types = |world: &mut World, vm: ConnId, id: ConnId| {
        say(world, id, VERSION);
        say(world, id, &[pickled("vm01"), pickled("write")].concat());
        say(world, id, TELNET);
        say(world, id, b"hi");
        world.typed(vm) == "hi"
    };
    for (common, may_list, may_type) in
        [("mallory", false, false), ("ann", true, false), ("web-gw", true, true), ("Bob", true, true)]
    {
        let mut world = server(AdminTls::On, true, &rules);
        let vm = world.vm(vm_config(1));
        let id = named(&mut world, common, "x.example");
        assert_eq!(lists(&mut world, id), may_list, "{common}");
        let id = named(&mut world, common, "x.example");
        assert_eq!(types(&mut world, vm, id), may_type, "{common}");
        let id = named(&mut world, common, "x.example");
        assert_eq!(show(&say(&mut world, id, b"LIST\n")).contains(" -> "), may_list, "{common}");
        // VMware's client waits for an offer; who has no rights gets none.
        let id = named(&mut world, common, "x.example");
        world.wire(id).clear();
        world.pass(Duration::from_secs(3));
        let is_offered = world.wire(id).first() == Some(&255);
        assert_eq!(is_offered, may_list, "{common}");
    }
}

#[test]
fn a_gateway_is_a_delegate_by_its_certificate() {
    let mut world = server(AdminTls::On, true, &["cert:web-gw=operator+delegate"]);
    let id = named(&mut world, "web-gw", "gw.example");
    let mut operator = Operator::on(&mut world, id);
    let ann = json!({ "user": "ann", "rights": "writer" });
    let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1, "for": ann }));
    assert_eq!(hello["as"], "ann (via cert web-gw@127.0.0.1)");
    assert_eq!(hello["rights"], "writer");
}

#[test]
fn who_shows_no_certificate_where_one_is_asked_for_is_let_in_in_clear_at_most() {
    for (admin_tls, is_served) in [(AdminTls::On, false), (AdminTls::Auto, true)] {
        let mut world = server(admin_tls, true, &["cert:web-gw=operator"]);
        world.vm(vm_config(1));
        let id = connect(&mut world);
        let mut tls = Sealed::new(Version::V13);
        let hello = tls.seal(&[]);
        world.deal(id, &hello);
        let flight = world.take(id);
        tls.open(&flight);
        let finished = tls.seal(b"LIST\n");
        world.deal(id, &finished);
        world.settle();
        assert_eq!(world.reason(id), Some(CloseReason::Tls));
        let id = connect(&mut world);
        if is_served {
            let mut operator = Operator::on(&mut world, id);
            let hello = operator.ok(&mut world, json!({ "op": "hello", "v": 1 }));
            assert_eq!((&hello["rights"], &hello["as"]), (&json!("writer"), &json!("127.0.0.1")));
        } else {
            say(&mut world, id, b"LIST\n");
            assert!(!world.is_open(id));
        }
    }
}

#[test]
fn a_handshake_on_the_admin_port_has_ten_seconds_and_of_too_many_the_oldest_yields() {
    for admin_tls in [AdminTls::On, AdminTls::Auto] {
        let mut world = server(admin_tls, false, &[]);
        let hello = Sealed::new(Version::V13).seal(&[]);
        let crowd: Vec<ConnId> = (0..100)
            .map(|_| {
                let id = connect(&mut world);
                world.deal(id, &hello);
                id
            })
            .collect();
        let reasons: Vec<_> = crowd.iter().map(|&id| world.reason(id)).collect();
        assert!(reasons[..36].iter().all(|&reason| reason == Some(CloseReason::TooManyClients)));
        assert!(reasons[36..].iter().all(Option::is_none));
        let served = secured(&mut world, Version::V13);
        assert_eq!(say(&mut world, served, VERSION), VERSION);
        world.pass(Duration::from_millis(9_999));
        assert!(world.is_open(crowd[99]));
        world.pass(Duration::from_secs(3));
        assert!(crowd.iter().all(|&id| !world.is_open(id)));
        assert!(world.told(|kind| matches!(kind, EventKind::TlsFailed(TlsFailure::Timeout(_)))) > 0);
    }
}

#[test]
fn who_ends_its_input_over_tls_leaves_and_its_lock_is_free() {
    for version in VERSIONS {
        let mut world = server(AdminTls::On, false, &[]);
        world.vm(vm_config(1));
        for _ in 0..3 {
            let id = secured(&mut world, version);
            say(&mut world, id, VERSION);
            let answer = say(&mut world, id, &[pickled("vm01"), pickled("exclusive")].concat());
            assert!(show(&answer).contains("vm_found"), "{}", show(&answer));
            let bye = world.link(id).tls.as_mut().unwrap().close();
            world.deal(id, &bye);
            world.settle();
            assert_eq!(world.reason(id), Some(CloseReason::PeerClosed));
        }
    }
}
