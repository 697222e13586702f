//! What was found by attacking: echoes, lies about the peer, storms that multiply, ends that leave the other
//! side standing.

use std::time::Duration;

use vspc_core::mux::wire::{HELLO, Message, Word, header};
use vspc_core::mux::{
    Carrier, CloseReason, Config, Dialect, Event, Features, GoAwayCode, OpenError, Received, ResetReason,
    Role, Session, Start, StreamError, StreamId, Violation,
};
use vspc_core::time::Instant;

use crate::line::{
    Chance, HOST, START, data, default_pair, events, frame, frames, guest_against, guest_hello, hex,
    host_against, host_hello, pair, read_all, seeds, settle, take, take_all, v1,
};

fn guest() -> Session {
    guest_against(Config::new(Role::Guest), host_hello(1))
}

fn host() -> Session {
    host_against(Config::new(Role::Host), guest_hello(7))
}

fn word(id: StreamId, word: Word) -> Vec<u8> {
    frame(id.0, word.to_u32(), b"")
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1000)
}

// Who may open, and who is told of the end.

#[test]
fn each_side_has_a_limit_of_its_own_and_may_forbid_the_other_to_open() {
    let mut host = host();
    for number in 1..=300 {
        host.handle_received(&word(StreamId(StreamId::GUEST_BIT | number), Word::Close), START);
    }
    assert_eq!(host.stream_count(), 256);
    for _ in 0..256 {
        host.open().unwrap();
    }
    assert_eq!(host.open(), Err(OpenError::TooMany));

    let mut config = Config::new(Role::Host);
    (config.max_own_streams, config.max_peer_streams) = (2, 0);
    let mut host = host_against(config, guest_hello(7));
    let guests = StreamId(StreamId::GUEST_BIT | 1);
    for opening in [data(guests.0, b"x"), word(guests, Word::Close), word(guests, Word::Empty)] {
        host.handle_received(&opening, START);
        assert_eq!(frames(&take_all(&mut host)), [(guests, Word::Reset.to_u32(), vec![])]);
    }
    assert_eq!(host.attach(guests), Err(OpenError::TooMany));
    assert_eq!((host.open().is_ok(), host.open().is_ok(), host.open().is_ok()), (true, true, false));
    assert_eq!(events(&mut host), []);
}

#[test]
fn closing_ends_the_peers_streams_whatever_was_agreed() {
    for features in [7, 3] {
        let config = |role| Config { features: Features(features), ..Config::new(role) };
        let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
        let ids: Vec<_> = (0..3).map(|_| host.open().unwrap()).collect();
        for id in &ids {
            host.write(*id, b"x").unwrap();
        }
        settle(&mut host, &mut guest);
        events(&mut guest);
        host.close();
        guest.handle_received(&take_all(&mut host), START);
        assert!(host.is_closed());
        let said = events(&mut guest);
        for id in &ids {
            let ended = |event: &Event| matches!(event, Event::Reset(at, _) if at == id);
            assert!(said.iter().any(ended), "{features}: {said:?}");
        }
        // On a line that stays the guest hears the next host.
        let mut next = Session::new(Config { nonce: 9, ..config(Role::Host) }, START).unwrap();
        settle(&mut next, &mut guest);
        assert!(next.terms().is_some() && guest.terms().is_some());
    }
}

#[test]
fn a_closing_code_reaches_the_other_side() {
    for (code, heard) in [
        (GoAwayCode::Other(300), GoAwayCode::Other(300)),
        (GoAwayCode::InternalError, GoAwayCode::InternalError),
        // It would end nothing.
        (GoAwayCode::Normal, GoAwayCode::Done),
    ] {
        let (mut host, mut guest) = default_pair();
        guest.close_with(code);
        host.handle_received(&take_all(&mut guest), START);
        assert_eq!(events(&mut host), [Event::Closed(CloseReason::Remote(heard))]);
        assert_eq!(events(&mut guest), [Event::Closed(CloseReason::Local)]);
        assert!(guest.is_closed() && host.is_closed());
    }
}

#[test]
fn every_reset_arrives_however_many_there_are_and_however_short_the_line() {
    const COUNT: u32 = 20_000;
    let limits = |role| Config { max_streams: COUNT, ..Config::new(role) };
    let (mut host, mut guest) = pair(limits(Role::Host), limits(Role::Guest));
    let hosts: Vec<_> = (0..COUNT).map(|_| host.open().unwrap()).collect();
    let guests: Vec<_> = (0..COUNT).map(|_| guest.open().unwrap()).collect();
    for (own, other) in hosts.iter().zip(&guests) {
        guest.attach(*own).unwrap();
        host.attach(*other).unwrap();
    }
    for (own, other) in hosts.iter().zip(&guests) {
        host.reset(*own).unwrap();
        guest.reset(*other).unwrap();
    }
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        down.extend(take(&mut host, 4096 - down.len(), 4, START));
        up.extend(take(&mut guest, 4096 - up.len(), 4, START));
        let n = down.len().min(guest.receive_window());
        guest.handle_received(&down.drain(..n).collect::<Vec<u8>>(), START);
        let n = up.len().min(host.receive_window());
        host.handle_received(&up.drain(..n).collect::<Vec<u8>>(), START);
    }
    for session in [&mut host, &mut guest] {
        let said = events(session);
        let count =
            |why| said.iter().filter(|event| matches!(event, Event::Reset(_, r) if *r == why)).count();
        assert_eq!((count(ResetReason::Local), count(ResetReason::Remote)), (COUNT as usize, COUNT as usize));
        assert_eq!((session.stream_count(), session.has_output()), (0, false));
    }
}

#[test]
fn a_stream_announced_elsewhere_and_given_up_unspoken_ends_at_the_other_side() {
    let (mut host, mut guest) = default_pair();
    let known = host.open().unwrap();
    guest.attach(known).unwrap();
    let unknown = host.open().unwrap();
    host.reset(known).unwrap();
    host.reset(unknown).unwrap();
    guest.handle_received(&take_all(&mut host), START);
    assert_eq!(events(&mut guest), [Event::Reset(known, ResetReason::Remote)]);
    assert_eq!(guest.attach(unknown), Err(OpenError::Used), "announced after it was given up");
}

#[test]
fn what_is_reset_before_the_dialect_is_known_is_told_once_it_is_s2() {
    for v1 in [false, true] {
        let mut host = Session::new(Config { nonce: HOST, ..Config::new(Role::Host) }, START).unwrap();
        take_all(&mut host);
        let id = host.open().unwrap();
        host.reset(id).unwrap();
        assert!(!host.has_output());
        if v1 {
            let answer = [header(StreamId(0), 12), header(StreamId(u64::from(HOST) << 32), 12)].concat();
            host.handle_received(&answer, START);
            assert_eq!((take_all(&mut host), host.dialect()), (vec![], Some(Dialect::V1)));
        } else {
            host.handle_received(&guest_hello(7).encode(), START);
            assert_eq!(frames(&take_all(&mut host)), [(id, Word::Reset.to_u32(), vec![])]);
        }
        events(&mut host);
        assert_eq!(host.stream_count(), 0);
    }
}

// Who the peer is.

#[test]
fn a_looped_line_carries_nobody() {
    for start in [Start::Negotiate, Start::S2Only { within: Duration::from_secs(5) }] {
        let mut host = Session::new(Config { start, ..Config::new(Role::Host) }, START).unwrap();
        let mut guest = Session::new(Config { start, ..Config::new(Role::Guest) }, START).unwrap();
        guest.handle_received(&host_hello(3).encode(), START);
        let mut said = 0;
        for second in 0..=10 {
            host.handle_timeout(at(second));
            let echo = take(&mut host, usize::MAX, 8, at(second));
            host.handle_received(&echo, at(second));
            let echo = take(&mut guest, usize::MAX, 8, at(second));
            said += echo.len();
            guest.handle_received(&echo, at(second));
        }
        assert_eq!((host.terms(), said), (None, HELLO));
        let only_s2 = start != Start::Negotiate;
        let want = only_s2.then_some(Event::Closed(CloseReason::Echo));
        assert_eq!((events(&mut host).last().copied(), host.is_closed()), (want, only_s2));
        assert!(host.counters().echoes >= 5 && guest.counters().echoes == 1);
    }
}

#[test]
fn a_looped_guest_that_hunts_says_one_hello_a_second() {
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.handle_received(b"boot: something else entirely\r\n", START);
    let mut said = 0;
    for step in 0..1000 {
        let now = Instant::from_millis(step * 10);
        let echo = take(&mut guest, usize::MAX, 8, now);
        said += echo.len();
        guest.handle_received(&echo, now);
        guest.handle_received(b"x", now);
    }
    assert!(said <= 10 * HELLO, "{said}");
}

/// A process behind a v1 guest prints whatever it likes; a host that restarts finds it in the leftovers. S2
/// on a v1 line would end the VM with its first PING.
#[test]
fn no_printing_makes_a_host_speak_s2_to_a_v1_guest() {
    let old = "000000000000000000000018 4d555832 01 07 1000 00010000 00000000000000000000000c";
    let lies: Vec<Vec<u8>> = vec![
        hex(old),
        host_hello(1).encode().to_vec(),
        guest_hello(7).encode().to_vec(),
        vspc_core::mux::wire::Opening { answers: 0, ..guest_hello(7) }.encode().to_vec(),
    ];
    for lie in lies {
        // Another host than the one the lie was made for.
        let mut host = Session::new(Config { nonce: HOST + 1, ..Config::new(Role::Host) }, START).unwrap();
        take_all(&mut host);
        let truth = [header(StreamId(0), 12), header(StreamId(u64::from(HOST + 1) << 32), 12)].concat();
        host.handle_received(&[v1(1, &lie), lie.clone(), truth].concat(), START);
        assert_eq!(host.dialect(), Some(Dialect::V1));
    }
}

#[test]
fn a_new_guest_on_a_running_s2_line_is_found_by_the_host() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, b"for the old one").unwrap();
    settle(&mut host, &mut guest);
    events(&mut host);
    // Nobody says that the guest was replaced. The new one hears the middle of a session.
    let mut guest = Session::new(Config { nonce: 77, ..Config::new(Role::Guest) }, START).unwrap();
    host.write(id, b"for the new one").unwrap();
    let (mut seconds, mut heard) = (0, Vec::new());
    while guest.terms().is_none() || host.terms().is_none() {
        assert!(seconds < 3, "{heard:?}");
        host.handle_timeout(at(seconds));
        guest.handle_received(&take(&mut host, usize::MAX, 8, at(seconds)), at(seconds));
        host.handle_received(&take(&mut guest, usize::MAX, 8, at(seconds)), at(seconds));
        guest.handle_received(&take(&mut host, usize::MAX, 8, at(seconds)), at(seconds));
        heard.extend(events(&mut host));
        seconds += 1;
    }
    assert_eq!((guest.dialect(), guest.counters().received), (Some(Dialect::S2), 0));
    settle(&mut host, &mut guest);
    heard.extend(events(&mut host));
    assert_eq!(heard[0], Event::Reset(id, ResetReason::Restarted));
    assert!(matches!(heard[1], Event::Restarted(_)), "{heard:?}");
}

#[test]
fn only_s2_is_spoken_where_nothing_else_will_do() {
    let within = Duration::from_secs(5);
    let config = |role, carrier| Config { start: Start::S2Only { within }, carrier, ..Config::new(role) };
    for role in [Role::Host, Role::Guest] {
        let mut session = Session::new(config(role, Carrier::Reliable), START).unwrap();
        session.handle_received(b"GET / HTTP/1.1\r\n\r\n", START);
        assert_eq!(events(&mut session), [Event::Closed(CloseReason::NotS2)]);
        assert!(session.is_closed());
        let mut session = Session::new(config(role, Carrier::Reliable), START).unwrap();
        assert_eq!(session.poll_timeout(), Some(at(5)));
        session.handle_timeout(at(5));
        assert_eq!(events(&mut session), [Event::Closed(CloseReason::NoHello)]);
    }
    // On a line there may be leftovers before the HELLO.
    let mut host = Session::new(config(Role::Host, Carrier::Line), START).unwrap();
    let mut guest = Session::new(config(Role::Guest, Carrier::Line), START).unwrap();
    guest.handle_received(b"login: ", START);
    host.handle_received(b"Password: ", START);
    settle(&mut host, &mut guest);
    assert_eq!((host.dialect(), guest.dialect()), (Some(Dialect::S2), Some(Dialect::S2)));
    assert_eq!(host.poll_timeout().filter(|due| *due > at(2)), None, "nothing is waited for any more");
    // A v1 guest is no S2.
    let mut host = Session::new(config(Role::Host, Carrier::Line), START).unwrap();
    let hello = take_all(&mut host);
    let mut old = crate::guest::Guest::new([]);
    old.hear(&hello);
    host.handle_received(&old.output.drain(..).collect::<Vec<u8>>(), START);
    assert_eq!(events(&mut host), [Event::Closed(CloseReason::NotS2)]);
}

#[test]
fn a_storm_of_restarts_is_believed_a_few_times_and_answered_as_often() {
    let mut guest = guest_against(Config { max_streams: 10_000, ..Config::new(Role::Guest) }, host_hello(1));
    for id in 1..=10_000 {
        guest.handle_received(&word(StreamId(id), Word::Close), START);
    }
    let storm = [frame(0, 0, b""), host_hello(2).encode().to_vec()].concat().repeat(1000);
    guest.handle_received(&storm, START);
    assert_eq!(take_all(&mut guest).len(), HELLO, "one answer, to the last of them");
    let said = events(&mut guest);
    assert!(matches!(said[0], Event::Restarted(_)));
    assert_eq!(said.iter().filter(|event| matches!(event, Event::Restarted(_))).count(), 1);
    assert_eq!(guest.stream_count(), 0);
}

// Silence.

#[test]
fn nobody_is_given_up_for_standing_still_unless_it_was_asked_for() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, &[0; 100_000]).unwrap();
    take_all(&mut host);
    for session in [&mut host, &mut guest] {
        while let Some(due) = session.poll_timeout() {
            session.handle_timeout(due);
        }
        assert!(session.terms().is_some() && !session.has_output());
    }
}

#[test]
fn a_ping_behind_a_blocked_line_is_not_unanswered() {
    let config = |role| Config { keepalive: Duration::from_secs(10), ..Config::new(role) };
    let (mut host, _guest) = pair(config(Role::Host), config(Role::Guest));
    host.handle_timeout(at(10));
    assert!(host.has_output(), "a PING");
    for hour in 1..10 {
        host.handle_timeout(at(hour * 3600));
    }
    assert!(!host.is_closed());
    // It leaves at last: now the answer is missed.
    let left = at(36_000);
    assert_eq!(frames(&take(&mut host, usize::MAX, 8, left)).len(), 1);
    assert_eq!(host.poll_timeout(), Some(left + Duration::from_secs(1)), "spare memory");
    host.handle_timeout(left + Duration::from_secs(1));
    assert_eq!(host.poll_timeout(), Some(left + Duration::from_secs(10)));
}

// What multiplies, what never ends.

#[test]
fn a_request_costs_a_frame_and_not_a_window() {
    for acked in [0u32, 1] {
        let mut guest = guest();
        let id = StreamId(1);
        guest.attach(id).unwrap();
        guest.write(id, &[9; 131_072]).unwrap();
        let mut said = take_all(&mut guest).len();
        assert!(said >= 65_536);
        for round in 0..1000 {
            if acked > 0 && round > 0 {
                guest.handle_received(&word(id, Word::Ack(acked)), START);
                said += take_all(&mut guest).len();
            }
            guest.handle_received(&word(id, Word::Request), START);
            said += take_all(&mut guest).len();
        }
        // REWIND, one frame; with each ACK, no more than was acked besides.
        let each = 12 + 4096 + 12 + acked as usize * 13;
        assert!(said <= 70_000 + 1000 * each, "{said}");
        // Without progress the frame is halved, and not below what every receiver has room for.
        guest.handle_received(&word(id, Word::Request), START);
        let last = frames(&take_all(&mut guest)).pop().unwrap();
        assert_eq!(last.2.len(), if acked > 0 { 2048 } else { 64 });
    }
}

#[test]
fn a_frame_too_long_ends_the_session_whoever_it_is_for() {
    for id in [1, 5, StreamId::GUEST_BIT | 1, u64::MAX] {
        for length in [4097, 0x3fff_ffff] {
            let mut guest = guest();
            guest.handle_received(&data(1, b"x"), START);
            guest.handle_received(&frame(id, length, &[0; 100]), START);
            let closed = Event::Closed(CloseReason::Violation(Violation::FrameTooLong));
            assert_eq!(events(&mut guest).last(), Some(&closed), "{id} {length}");
            assert!(matches!(Message::decode(&take_all(&mut guest)[12..]), Message::GoAway { .. }));
        }
    }
}

#[test]
fn exit_is_said_in_v1_alone() {
    let mut config = Config::new(Role::Guest);
    config.v1.api = 4242;
    // S2, known already or found out later.
    let mut known = guest_against(config.clone(), host_hello(1));
    known.handle_received(&word(StreamId(1), Word::Close), START);
    known.exit(StreamId(1), 3).unwrap();
    let mut later = Session::new(config.clone(), START).unwrap();
    later.attach(StreamId(1)).unwrap();
    later.exit(StreamId(1), 3).unwrap();
    later.handle_received(&host_hello(1).encode(), START);
    later.handle_received(&word(StreamId(1), Word::Close), START);
    for guest in [&mut known, &mut later] {
        let said = take_all(guest);
        assert_eq!(frames(&said).last(), Some(&(StreamId(1), Word::Close.to_u32(), vec![])));
        assert!(!guest.has_output());
        assert_eq!(events(guest).last(), Some(&Event::Retired(StreamId(1))));
    }
    let mut v1_guest = Session::new(config, START).unwrap();
    v1_guest.attach(StreamId(1)).unwrap();
    v1_guest.exit(StreamId(1), 3).unwrap();
    v1_guest.handle_received(&v1(1, b"x"), START);
    assert_eq!(take_all(&mut v1_guest), [v1(1, b""), v1(1, &[3])].concat());
}

/// Whatever has output transmits something: a runtime that waits for the line to become writable would spin.
#[test]
fn whoever_says_that_it_has_output_has() {
    for seed in seeds(2000) {
        let mut chance = Chance(seed);
        let role = if chance.one_in(2) { Role::Host } else { Role::Guest };
        let mut config =
            Config { nonce: HOST, features: Features(chance.below(8) as u8), ..Config::new(role) };
        (config.max_streams, config.keepalive) = (4, Duration::from_secs(chance.below(2)));
        config.v1.api = 4242;
        config.start = if chance.one_in(3) { Start::V1 } else { Start::Negotiate };
        let mut session = Session::new(config, START).unwrap();
        let mut now = START;
        for step in 0..60 {
            let id = StreamId((1 + chance.below(4)) | if chance.one_in(2) { StreamId::GUEST_BIT } else { 0 });
            match chance.below(16) {
                0 => drop(session.open()),
                1 => drop(session.open_announced()),
                2 => drop(session.attach(id)),
                3 => drop(session.write(id, &[1; 700])),
                4 => drop(session.exit(id, 1)),
                5 => drop(session.finish(id)),
                6 => drop(session.reset(id)),
                7 => drop(session.consume(id, 100)),
                8 if role == Role::Host => session.handle_received(&guest_hello(7).encode(), now),
                8 => session.handle_received(&host_hello(3).encode(), now),
                9 => session.handle_received(&data(id.0, &[2; 40]), now),
                10 => session.handle_received(&v1(id.0, &[2; 40]), now),
                11 => session.handle_received(&word(id, Word::Ack(1)), now),
                12 => session.handle_received(&word(id, Word::Request), now),
                13 if chance.one_in(10) => session.line_reopened(now),
                13 if chance.one_in(10) => session.close(),
                14 => {
                    now = now + Duration::from_millis(chance.below(900));
                    session.handle_timeout(now);
                }
                _ => drop(session.poll_event()),
            }
            let has = session.has_output();
            let n =
                take(&mut session, 1 + chance.below(80) as usize, 1 + chance.below(5) as usize, now).len();
            assert_eq!(has, n > 0, "SEED={seed} step {step}");
        }
    }
}

#[test]
fn a_frame_a_byte_long_is_refused_with_the_hello_that_asks_for_it() {
    let mut opening = host_hello(1);
    opening.hello.max_frame = 1;
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.handle_received(&opening.encode(), START);
    assert_eq!((guest.dialect(), guest.is_closed()), (None, false), "it waits for another one");
    let mut config = Config::new(Role::Guest);
    config.min_frame = 1;
    assert_eq!(guest_against(config, opening).dialect(), Some(Dialect::S2), "whoever wants it gets it");
}

#[test]
fn a_dead_stream_answers_its_owner_as_gone_once_its_end_was_noticed() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, b"x").unwrap();
    settle(&mut host, &mut guest);
    guest.reset(id).unwrap();
    assert_eq!((guest.finish(id), guest.consume(id, 1)), (Ok(()), Ok(())), "its end was not polled");
    assert!(events(&mut guest).contains(&Event::Reset(id, ResetReason::Local)));
    // Its RESET has not left.
    assert_eq!(guest.finish(id), Err(StreamError::Unknown));
    assert_eq!(guest.received(id), Err(StreamError::Unknown));
    assert_eq!((guest.credit(id), guest.send_window(id), guest.received_len(id)), (0, 0, 0));
    host.handle_received(&take_all(&mut guest), START);
    assert_eq!(read_all(&mut host, id), b"");
    assert_eq!(guest.stream_count(), 0);
}

#[test]
fn open_announced_reaches_the_peer_without_a_byte() {
    let (mut host, mut guest) = default_pair();
    let id = guest.open_announced().unwrap();
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), [Event::Opened(id)]);
    assert_eq!(host.received(id), Ok(Received::Pending));
    host.write(id, b"you wanted to be spoken to").unwrap();
    settle(&mut host, &mut guest);
    assert_eq!(read_all(&mut guest, id), b"you wanted to be spoken to");
    // Before anybody answered: said when somebody does.
    let mut host = Session::new(Config::new(Role::Host), START).unwrap();
    let early = host.open_announced().unwrap();
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    settle(&mut host, &mut guest);
    assert!(events(&mut guest).contains(&Event::Opened(early)));
}
