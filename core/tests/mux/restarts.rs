//! Hosts that die at any byte, a thousand times on one line, in front of a guest that lives on: raw, told by
//! the carrier or by nobody, and under SL.

use std::time::Duration;

use vspc_core::mux::link::{Link, LinkConfig, LinkEvent, carry};
use vspc_core::mux::{Config, Event, ResetReason, Role, Session, StreamId};
use vspc_core::time::Instant;

use crate::line::{Chance, START, events, read_all, take};

fn host(nonce: u32, now: Instant) -> Session {
    Session::new(Config { nonce, ..Config::new(Role::Host) }, now).unwrap()
}

/// What a life of a host says: streams, some of them long, some closed.
fn talk(host: &mut Session, chance: &mut Chance) -> Vec<StreamId> {
    let ids: Vec<_> = (0..1 + chance.below(4)).map(|_| host.open().unwrap()).collect();
    for id in &ids {
        host.write(*id, &vec![chance.next() as u8; chance.size(20_000) as usize]).unwrap();
        if chance.one_in(3) {
            host.finish(*id).unwrap();
        }
    }
    ids
}

fn is_heard(host: &mut Session, guest: &mut Session, now: Instant) -> bool {
    let id = host.open().unwrap();
    host.write(id, b"anybody?").unwrap();
    let said = take(host, usize::MAX, 8, now);
    guest.handle_received(&said, now);
    let heard = read_all(guest, id) == b"anybody?";
    host.handle_received(&take(guest, usize::MAX, 8, now), now);
    heard
}

#[test]
fn a_raw_line_is_found_again_at_once_when_its_carrier_says_so() {
    let mut chance = Chance(1);
    let mut now = START;
    let mut guest = Session::new(Config::new(Role::Guest), now).unwrap();
    let mut opened = 0u64;
    for life in 1..=1000 {
        let mut host = host(life, now);
        guest.handle_received(&take(&mut host, usize::MAX, 8, now), now);
        host.handle_received(&take(&mut guest, usize::MAX, 8, now), now);
        assert!(is_heard(&mut host, &mut guest, now), "life {life}");
        talk(&mut host, &mut chance);
        let said = take(&mut host, usize::MAX, 8, now);
        // It dies; what the guest is in the middle of saying goes with the carrier, too.
        guest.handle_received(&said[..chance.below(said.len() as u64 + 1) as usize], now);
        if let Ok(id) = guest.open() {
            let _ = guest.write(id, &[1; 5000]).unwrap();
            take(&mut guest, chance.below(6000) as usize, 4, now);
        }
        now = now + Duration::from_millis(chance.below(50));
        guest.line_reopened(now);
        assert_eq!(guest.terms(), None);
        let said = events(&mut guest);
        opened += said.iter().filter(|event| matches!(event, Event::Opened(_))).count() as u64;
        assert!(said.iter().any(|event| matches!(event, Event::Reset(_, ResetReason::Restarted))));
        assert_eq!(guest.stream_count(), 0, "life {life}");
    }
    assert!(opened > 1000, "{opened}");
    assert_eq!(guest.counters().malformed, 0);
}

/// Not promised, but so: HELLO comes once a second, and two of them in the place of a frame are enough.
#[test]
fn a_raw_line_is_found_again_within_seconds_also_when_nobody_says_so() {
    let mut chance = Chance(2);
    let mut now = START;
    let mut guest = Session::new(Config::new(Role::Guest), now).unwrap();
    let mut slowest = 0;
    for life in 1..=1000 {
        let mut host = host(life, now);
        let mut seconds = 0;
        loop {
            host.handle_timeout(now);
            guest.handle_timeout(now);
            guest.handle_received(&take(&mut host, usize::MAX, 8, now), now);
            host.handle_received(&take(&mut guest, usize::MAX, 8, now), now);
            events(&mut guest);
            if host.terms().is_some() {
                break;
            }
            seconds += 1;
            assert!(seconds < 10, "life {life}");
            now = now + Duration::from_secs(1);
        }
        slowest = slowest.max(seconds);
        assert!(is_heard(&mut host, &mut guest, now), "life {life}");
        talk(&mut host, &mut chance);
        let said = take(&mut host, usize::MAX, 8, now);
        guest.handle_received(&said[..chance.below(said.len() as u64 + 1) as usize], now);
        events(&mut guest);
        now = now + Duration::from_secs(1);
    }
    assert!(slowest <= 5, "{slowest} s");
}

struct End {
    session: Session,
    link: Link,
}

impl End {
    fn say(&mut self, now: Instant) -> Vec<u8> {
        let mut said = Vec::new();
        self.link.handle_timeout(now);
        self.session.handle_timeout(now);
        carry(&mut self.session, &mut self.link, now);
        while self.link.transmit_with(now, |frame| {
            said.extend_from_slice(frame);
            frame.len()
        }) > 0
        {
            carry(&mut self.session, &mut self.link, now);
        }
        said
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) {
        self.link.handle_received(bytes, now);
        while let Some(event) = self.link.poll_event() {
            if event == LinkEvent::Restarted {
                self.session.line_reopened(now);
            }
        }
        carry(&mut self.session, &mut self.link, now);
    }
}

#[test]
fn a_line_under_sl_is_found_again_within_two_seconds() {
    let mut chance = Chance(3);
    let mut now = START;
    let guest = Session::new(Config::new(Role::Guest), now).unwrap();
    let mut guest = End { session: guest, link: Link::new(LinkConfig::new(0x4000_0000)) };
    for life in 1..=1000 {
        let mut host = End { session: host(life, now), link: Link::new(LinkConfig::new(life)) };
        host.link.open(now);
        let born = now;
        let id = host.session.open().unwrap();
        host.session.write(id, b"anybody?").unwrap();
        while read_all(&mut guest.session, id) != b"anybody?" {
            assert!(now.duration_since(born) <= Duration::from_secs(2), "life {life}");
            let said = host.say(now);
            guest.hear(&said, now);
            let said = guest.say(now);
            host.hear(&said, now);
            events(&mut guest.session);
            now = now + Duration::from_millis(10);
        }
        talk(&mut host.session, &mut chance);
        // It dies at any byte of what it says, the guest's answers with it.
        for _ in 0..chance.below(6) {
            let said = host.say(now);
            guest.hear(&said, now);
            let said = guest.say(now);
            host.hear(&said, now);
            now = now + Duration::from_millis(20);
        }
        let said = host.say(now);
        guest.hear(&said[..chance.below(said.len() as u64 + 1) as usize], now);
        guest.say(now);
        events(&mut guest.session);
        now = now + Duration::from_millis(chance.below(3000));
    }
}
