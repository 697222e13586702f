//! Both roles of the handshake, message by message.

use super::*;

const NOW: Instant = Instant::from_micros(0);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn handshake(role: Role) -> Handshake {
    Handshake::new(&Config::new(role), NOW).0
}

fn opening(role: Role, nonce: u32) -> Opening {
    Opening { hello: Config::new(role).hello(), sender: role, nonce, answers: 0 }
}

/// What is found, how much is left, how much was skipped.
fn hear(handshake: &mut Handshake, bytes: &[u8]) -> (Option<Found>, usize, u64) {
    let (mut input, mut counters) = (bytes, Counters::default());
    let found = handshake.handle_received(&mut input, |id| id == StreamId(1), &mut counters, NOW);
    (found, input.len(), counters.skipped)
}

fn answer(host: &Handshake, nonce: u32) -> Opening {
    Opening { answers: host.nonce, ..opening(Role::Guest, nonce) }
}

#[test]
fn a_host_says_hello_every_second_until_answered() {
    let mut host = handshake(Role::Host);
    assert_eq!(host.handle_timeout(NOW), Ok(true));
    assert_eq!(host.handle_timeout(at(999)), Ok(false));
    assert_eq!(host.handle_timeout(at(1000)), Ok(true));
    let hello = answer(&host, 7);
    assert_eq!(hear(&mut host, &hello.encode()), (Some(Found::Hello(hello)), 0, 0));
    assert_eq!((host.handle_timeout(at(5000)), host.poll_timeout()), (Ok(false), None));
    assert_eq!(host.handle_hello(&hello, NOW), Again::Ignored, "the answer to the repetition");
    host.handle_conversation();
    assert_eq!(host.handle_hello(&hello, NOW), Again::Ignored);
}

#[test]
fn a_host_calls_again_when_the_guest_is_another_one() {
    let mut host = handshake(Role::Host);
    host.handle_timeout(NOW).unwrap();
    let first = answer(&host, 7);
    hear(&mut host, &first.encode());
    assert_eq!(host.handle_hello(&answer(&host, 8), at(200)), Again::Restarted, "it heard a repetition");
    assert!(host.is_settled());
    for asking in [opening(Role::Guest, 8), Opening { answers: 1, ..opening(Role::Guest, 9) }] {
        assert_eq!(host.handle_hello(&asking, at(300)), Again::Lost);
        assert_eq!(host.phase(), HandshakePhase::Calling(Some(at(1000))), "once a second");
        let again = answer(&host, 9);
        hear(&mut host, &again.encode());
    }
}

#[test]
fn a_host_takes_no_hello_that_does_not_answer_its_own() {
    let mut host = handshake(Role::Host);
    let mine = host.own(&Config::new(Role::Host));
    for hello in [
        mine,
        opening(Role::Host, 7),
        opening(Role::Guest, 7),
        Opening { answers: mine.nonce ^ 1, ..opening(Role::Guest, 7) },
        Opening { answers: mine.nonce, ..opening(Role::Host, 7) },
    ] {
        assert_eq!(hear(&mut host, &hello.encode()).0, None, "{hello:?}");
    }
    assert!(!host.is_settled());
    assert_eq!(hear(&mut host, &[header(StreamId(0), 12), header(StreamId(0), 12)].concat()).0, None);
}

#[test]
fn a_host_finds_the_answer_behind_leftovers_wherever_they_were_cut() {
    let host = handshake(Role::Host);
    let hello = answer(&host, 7);
    let v1 = v1_answer(host.own(&Config::new(Role::Host)).trailer());
    for (answer, want) in [(hello.encode().to_vec(), Found::Hello(hello)), (v1.to_vec(), Found::V1)] {
        for leftovers in [
            &b""[..],
            b"\0",
            b"\0\0\0\0\0\0\0\0\0\0\0",
            b"half a fra\0\0\0\0\0",
            b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX",
            b"\0\0\0\0\0\0\0\0\0\0\0\x18MUX2",
        ] {
            let mut host = host.clone();
            let bytes = [leftovers, &answer, b"U"].concat();
            let (mut counters, mut found, mut fed) = (Counters::default(), None, 0);
            while found.is_none() {
                let mut input = &bytes[fed..=fed];
                found = host.handle_received(&mut input, |_| false, &mut counters, NOW);
                fed += 1;
            }
            assert_eq!(found, Some(want), "{leftovers:?}");
            assert_eq!((bytes.len() - fed, counters.skipped), (1, leftovers.len() as u64), "{leftovers:?}");
        }
    }
}

#[test]
fn a_guest_is_silent_for_12_bytes_and_takes_v1_only_for_a_stream_it_knows() {
    let hello = opening(Role::Host, 3);
    let mut guest = handshake(Role::Guest);
    for byte in &hello.encode()[..35] {
        assert_eq!(hear(&mut guest, &[*byte]).0, None);
    }
    assert_eq!(hear(&mut guest, &hello.encode()[35..]).0, Some(Found::Hello(hello)));
    assert_eq!(guest.own(&Config::new(Role::Guest)).answers, 3);

    let mut guest = handshake(Role::Guest);
    assert_eq!(hear(&mut guest, b"\0\0\0\0\0\0\0\x01\0\0\0\x0fabc"), (Some(Found::V1), 3, 0));
    let (collected, have) = guest.collected();
    assert_eq!(&collected[..have], b"\0\0\0\0\0\0\0\x01\0\0\0\x0f");

    for foreign in [
        &b"\0\0\0\0\0\0\0\x02\0\0\0\x0fabc"[..],
        b"\0\0\0\0\0\0\0\x01\0\0\0\x0babc",
        b"\0\0\0\0\0\0\0\x01\0\0\x10\x01abc",
        b"\0\0\0\0\0\0\0\x01\x80\0\0\x03",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut guest = handshake(Role::Guest);
        assert_eq!(hear(&mut guest, foreign).0, Some(Found::Foreign), "{foreign:?}");
        assert_eq!(guest.phase(), HandshakePhase::Hunting);
        assert_eq!(hear(&mut guest, foreign).0, None, "asks once a second");
        assert_eq!(guest.own(&Config::new(Role::Guest)).answers, 0);
        assert_eq!(hear(&mut guest, &hello.encode()).0, Some(Found::Hello(hello)));
    }
}

#[test]
fn only_s2_ends_at_the_first_foreign_byte_of_a_connection_and_at_its_time() {
    let start = Start::S2Only { within: Duration::from_secs(5) };
    let made = |role, carrier| Handshake::new(&Config { start, carrier, ..Config::new(role) }, NOW).0;
    for role in [Role::Host, Role::Guest] {
        assert_eq!(hear(&mut made(role, Carrier::Reliable), b"G").0, Some(Found::NotS2));
        let mut silent = made(role, Carrier::Reliable);
        let _ = silent.handle_timeout(NOW);
        assert_eq!(silent.poll_timeout(), Some(at(5000)));
        assert_eq!(silent.handle_timeout(at(5000)), Err(CloseReason::NoHello));
        let mut noisy = made(role, Carrier::Line);
        assert_ne!(hear(&mut noisy, b"login: and some more").0, Some(Found::NotS2));
        assert_eq!(noisy.handle_timeout(at(5000)), Err(CloseReason::NotS2));
    }
    let mut looped = made(Role::Host, Carrier::Line);
    let echo = looped.own(&Config::new(Role::Host)).encode();
    hear(&mut looped, &echo);
    assert_eq!(looped.handle_timeout(at(5000)), Err(CloseReason::Echo));
}

#[test]
fn a_host_that_repeats_itself_has_not_restarted_unless_it_has_spoken_since_or_has_another_nonce() {
    let mut guest = handshake(Role::Guest);
    let hello = opening(Role::Host, 3);
    hear(&mut guest, &hello.encode());
    assert_eq!(guest.handle_hello(&hello, at(10)), Again::Ignored, "answered less than a second ago");
    assert_eq!(guest.handle_hello(&hello, at(1000)), Again::Answer);
    guest.handle_conversation();
    assert_eq!(guest.handle_hello(&hello, at(2000)), Again::Restarted);
    assert_eq!(guest.handle_hello(&hello, at(3000)), Again::Answer);
    assert_eq!(guest.handle_hello(&opening(Role::Host, 4), at(3000)), Again::Restarted);
    assert_eq!(guest.handle_hello(&opening(Role::Guest, 5), at(4000)), Again::Ignored, "an echo");
}

#[test]
fn restarts_are_believed_a_few_times_at_once_and_then_once_a_second() {
    let mut guest = handshake(Role::Guest);
    let mut restarts = |millis, count: u32| {
        (0..count)
            .filter(|i| {
                let hello = opening(Role::Host, 2 + i % 2);
                guest.handle_conversation();
                guest.handle_hello(&hello, at(millis)) == Again::Restarted
            })
            .count()
    };
    assert_eq!(restarts(0, 1000), RESTARTS as usize);
    assert_eq!((restarts(999, 100), restarts(1000, 100), restarts(3000, 100)), (0, 1, 2));
}
