//! Admission alone: connections are ids, addresses are numbers.

use super::*;
use std::net::Ipv4Addr;

struct Door {
    admission: Admission,
    now: Instant,
    next: u32,
    listeners: usize,
    spare: usize,
}

impl Door {
    fn new(limit: usize) -> Self {
        Self {
            admission: Admission::new(limit, true),
            now: Instant::from_millis(1000),
            next: 0,
            listeners: 1,
            spare: 0,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    fn verdict(&mut self, kind: Kind, from: u8) -> Verdict {
        self.admission.judge(kind, source(from), self.listeners, self.spare, self.now)
    }

    /// Comes in with whatever leaving that takes; who left.
    fn comes(&mut self, kind: Kind, from: u8) -> (Option<ConnId>, Vec<ConnId>) {
        let mut evicted = Vec::new();
        loop {
            match self.verdict(kind, from) {
                Verdict::Admit => break,
                Verdict::Evict(id) => {
                    let kind = self.admission.entries[&id].kind;
                    self.admission.gone(id, kind);
                    evicted.push(id);
                }
                Verdict::Refuse => return (None, evicted),
            }
        }
        let id = ConnId { index: self.next, generation: 1 };
        self.next += 1;
        self.admission.admit(id, kind, source(from), false, self.now);
        (Some(id), evicted)
    }

    fn stranger(&mut self, from: u8) -> ConnId {
        let (id, evicted) = self.comes(Kind::Vm, from);
        assert_eq!(evicted, [], "there is room");
        let id = id.expect("there is room");
        self.admission.greeted(id, self.now);
        id
    }
}

fn source(n: u8) -> Source {
    IpAddr::from(Ipv4Addr::new(10, 0, 0, n)).into()
}

#[test]
fn nobody_leaves_while_there_are_descriptors_however_long_they_are_silent() {
    let mut door = Door::new(21);
    for _ in 0..10 {
        door.stranger(1);
        door.pass(60_000);
    }
    let (newcomer, evicted) = door.comes(Kind::Vm, 2);
    assert!(newcomer.is_some());
    assert_eq!(evicted, [ConnId { index: 0, generation: 1 }]);
}

#[test]
fn silence_counts_from_when_the_opening_was_taken() {
    let mut door = Door::new(5);
    let (slow, _) = door.comes(Kind::Vm, 1);
    let slow = slow.unwrap();
    let other = door.stranger(1);
    door.pass(10_000);
    // Its opening has not left: that is our doing.
    assert_eq!(door.verdict(Kind::Vm, 1), Verdict::Evict(other));
    door.admission.gone(other, Kind::Vm);
    door.admission.greeted(slow, door.now);
    door.stranger(1);
    door.pass(9);
    assert_eq!(door.verdict(Kind::Vm, 1), Verdict::Refuse);
    door.pass(1);
    assert_eq!(door.verdict(Kind::Vm, 1), Verdict::Evict(slow));
}

#[test]
fn classes_leave_in_their_order_and_a_vm_that_is_answering_never() {
    let mut door = Door::new(9);
    let [dialogue, noise, silent, overdue] = [1, 2, 3, 4].map(|from| door.stranger(from));
    door.admission.heard(dialogue, Heard::Dialogue, door.now);
    door.admission.heard(dialogue, Heard::Noise, door.now);
    door.admission.heard(noise, Heard::Noise, door.now);
    door.pass(2000);
    door.admission.gone(silent, Kind::Vm);
    let silent = door.stranger(3);
    door.pass(10);
    for expected in [overdue, noise, silent] {
        assert_eq!(door.verdict(Kind::Vm, 5), Verdict::Evict(expected));
        door.admission.gone(expected, Kind::Vm);
        door.listeners += 2;
    }
    assert_eq!(door.verdict(Kind::Vm, 5), Verdict::Refuse);
    door.pass(2990);
    assert_eq!(door.verdict(Kind::Vm, 5), Verdict::Evict(dialogue));
}

#[test]
fn the_address_with_the_most_gives_up_its_longest_waiting() {
    let mut door = Door::new(13);
    let quiet = door.stranger(1);
    door.pass(10);
    let crowd = [0; 4].map(|_| {
        door.pass(10);
        door.stranger(2)
    });
    let other = door.stranger(3);
    door.pass(2000);
    for expected in [crowd[0], crowd[1], crowd[2]] {
        assert_eq!(door.verdict(Kind::Vm, 1), Verdict::Evict(expected));
        door.admission.gone(expected, Kind::Vm);
        door.listeners += 2;
    }
    let mut rest = Vec::new();
    while let Verdict::Evict(id) = door.verdict(Kind::Vm, 1) {
        door.admission.gone(id, Kind::Vm);
        door.listeners += 2;
        rest.push(id);
    }
    rest.sort_unstable();
    assert_eq!(rest, [quiet, crowd[3], other]);
}

#[test]
fn under_a_flood_others_come_in_at_once_and_the_flooder_waits() {
    let mut door = Door::new(21);
    for _ in 0..10 {
        door.stranger(1);
    }
    assert_eq!(door.verdict(Kind::Vm, 1), Verdict::Refuse);
    assert!(matches!(door.verdict(Kind::Vm, 2), Verdict::Evict(_)));
    door.listeners += 1;
    assert_eq!(door.verdict(Kind::Client, 1), Verdict::Refuse);
    assert!(matches!(door.verdict(Kind::Client, 2), Verdict::Evict(_)));
}

#[test]
fn clients_never_take_the_last_eighth() {
    let mut door = Door::new(80);
    let mut clients = Vec::new();
    while let (Some(id), _) = door.comes(Kind::Client, 1) {
        door.admission.stop_judging(id);
        clients.push(id);
    }
    assert_eq!(clients.len(), 70);
    for _ in 0..4 {
        door.stranger(1);
    }
    // Of handshakes that do not get on the silent ones leave for other clients.
    door.admission.gone(clients[0], Kind::Client);
    let (silent, _) = door.comes(Kind::Client, 1);
    door.admission.greeted(silent.unwrap(), door.now);
    assert_eq!(door.verdict(Kind::Client, 2), Verdict::Refuse);
    door.pass(10);
    assert_eq!(door.verdict(Kind::Client, 2), Verdict::Evict(silent.unwrap()));
}

#[test]
fn an_ipv6_network_is_one_address_and_a_mapped_ipv4_address_is_itself() {
    let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
    assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    assert_ne!(source("::ffff:10.0.0.1"), source("::ffff:10.0.0.2"));
}

#[test]
fn nothing_is_left_of_those_that_are_gone() {
    let mut door = Door::new(1000);
    let ids: Vec<ConnId> = (0..400u32).map(|n| door.stranger((n % 7) as u8)).collect();
    for (n, &id) in ids.iter().enumerate() {
        match n % 5 {
            0 => door.admission.heard(id, Heard::Noise, door.now),
            1 => door.admission.heard(id, Heard::Dialogue, door.now),
            2 => door.admission.judge_again(id, source(9), door.now),
            3 => door.admission.stop_judging(id),
            _ => {}
        }
    }
    door.pass(3000);
    let _ = door.verdict(Kind::Vm, 1);
    for id in ids {
        door.admission.gone(id, Kind::Vm);
        door.admission.heard(id, Heard::Dialogue, door.now);
        door.admission.greeted(id, door.now);
    }
    let left = &door.admission;
    assert_eq!((left.open, left.waiting), ([0; KINDS], [0; KINDS]));
    assert!(left.entries.is_empty() && left.silent.is_empty());
    for crowd in left.crowds.iter().flatten() {
        assert!(crowd.members.is_empty() && crowd.counts.is_empty() && crowd.ranking.is_empty());
    }
}

#[test]
fn users_of_one_machine_are_told_apart() {
    let of = |uid| Source::of(&Address::User(uid));
    assert_eq!(of(1000), of(1000));
    assert_ne!(of(1000), of(1001));
    assert_ne!(of(0), Source::of(&Address::Local));
    assert_eq!(of(1000).ip(), None);
}

#[test]
fn virtual_machines_on_vsock_are_told_apart_by_their_context_alone() {
    let of = |cid, port| Source::of(&Address::Vsock { cid, port });
    assert_eq!(of(7, 1024), of(7, 1025));
    assert_ne!(of(7, 1024), of(8, 1024));
    assert_ne!(of(1000, 0), Source::of(&Address::User(1000)));
    assert_eq!(of(7, 1024).ip(), None);
}

#[test]
fn nothing_is_reserved_where_ports_are_to_spare_and_nobody_leaves_for_them() {
    let mut door = Door::new(21);
    for _ in 0..10 {
        door.stranger(1);
    }
    door.pass(3000);
    assert!(matches!(door.verdict(Kind::Vm, 1), Verdict::Evict(_)));
    door.spare = 4;
    for _ in 0..2 {
        door.stranger(2);
    }
    assert!(matches!(door.verdict(Kind::Vm, 1), Verdict::Evict(_)));
    door.spare = usize::MAX;
    for _ in 0..8 {
        door.stranger(2);
    }
    assert!(!door.admission.is_one_free(door.listeners));
    assert!(matches!(door.verdict(Kind::Vm, 2), Verdict::Evict(_)));
}

#[test]
fn what_one_target_makes_happen_is_not_charged_to_another() {
    let source = |uri: &str| Source::of(&Address::Target(std::sync::Arc::new(uri.parse().unwrap())));
    assert_eq!(source("tcp://a:1"), source("TCP://A.:1"));
    assert!(source("tcp://a:1") != source("tcp://b:1") && source("tcp://a:1") != Source::Nowhere);
}
