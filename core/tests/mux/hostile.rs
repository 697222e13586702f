//! Peers that break every rule: they get RESET or GOAWAY, and cost bounded memory.

use vspc_core::mux::wire::{Message, Word};
use vspc_core::mux::{
    CloseReason, Config, Event, Features, READ, REPLIES, ResetReason, Role, Session, StreamId, Violation,
};

use crate::line::{
    Chance, HOST, START, data, events, frame, frames, guest_hello, host_against, host_hello, seeds, take,
    take_all,
};

fn host() -> Session {
    host_against(Config::new(Role::Host), guest_hello(7))
}

/// Gives `bytes` as a runtime would: never more than the window, and takes no answer.
fn feed(session: &mut Session, mut bytes: &[u8]) -> usize {
    let mut fed = 0;
    while !bytes.is_empty() {
        let n = session.receive_window().min(bytes.len());
        if n == 0 {
            break;
        }
        session.handle_received(&bytes[..n], START);
        bytes = &bytes[n..];
        fed += n;
    }
    fed
}

#[test]
fn one_stream_breaks_and_the_others_go_on() {
    let guests = 1 | StreamId::GUEST_BIT;
    let cases: [(&[Vec<u8>], Violation); 4] = [
        (&[data(guests, b"x"), frame(guests, Word::Ack(1).to_u32(), b"")], Violation::AckBeyondOutstanding),
        (
            &[data(guests, b"x"), frame(guests, Word::Close.to_u32(), b""), data(guests, b"y")],
            Violation::DataAfterClose,
        ),
        (
            &[frame(guests, Word::Close.to_u32(), b""), frame(guests, Word::Close.to_u32(), b"")],
            Violation::SecondClose,
        ),
        (&[data(guests, b"x"), frame(guests, 0xc000_0003, b"")], Violation::ReservedWord),
    ];
    for (sent, violation) in cases {
        for features in [7, 5] {
            let mut host = host_against(Config::new(Role::Host), guest_hello(features));
            let other = host.open().unwrap();
            for bytes in sent {
                host.handle_received(bytes, START);
            }
            let said = frames(&take_all(&mut host));
            if features == 7 {
                assert_eq!(said, [(StreamId(guests), Word::Reset.to_u32(), vec![])], "{violation}");
                assert!(
                    events(&mut host)
                        .contains(&Event::Reset(StreamId(guests), ResetReason::Violation(violation)))
                );
                host.handle_received(&data(guests + 1, b"fine"), START);
                assert_eq!(host.received_len(StreamId(guests + 1)), 4, "the framing holds");
                assert_eq!(host.write(other, b"x"), Ok(1));
            } else {
                assert!(matches!(Message::decode(&said[0].2), Message::GoAway { .. }), "{violation}");
                assert_eq!(events(&mut host).last(), Some(&Event::Closed(CloseReason::Violation(violation))));
            }
        }
    }
}

#[test]
fn close_while_something_must_come_again_is_a_violation() {
    let mut config = Config::new(Role::Host);
    (config.receive_buffer, config.window) = (64, 640);
    let mut host = host_against(config, guest_hello(7));
    let guests = StreamId(1 | StreamId::GUEST_BIT);
    host.handle_received(&data(guests.0, &[0; 65]), START);
    host.handle_received(&frame(guests.0, Word::Close.to_u32(), b""), START);
    assert!(
        events(&mut host)
            .contains(&Event::Reset(guests, ResetReason::Violation(Violation::CloseWhileWaiting)))
    );
}

#[test]
fn words_on_stream_0_and_what_is_too_long_end_the_session() {
    for bytes in [
        frame(0, Word::Ack(1).to_u32(), b""),
        frame(0, Word::Rewind.to_u32(), b""),
        frame(0, Word::Close.to_u32(), b""),
        frame(0, Word::Request.to_u32(), b""),
        frame(0, Word::Reset.to_u32(), b""),
        data(0, &[9; 65]),
        data(1 | StreamId::GUEST_BIT, &[0; 4097]),
        frame(77, 0x3fff_ffff, b""),
    ] {
        let mut host = host();
        host.handle_received(&bytes, START);
        assert!(
            matches!(events(&mut host).last(), Some(Event::Closed(CloseReason::Violation(_)))),
            "{bytes:?}"
        );
        assert_eq!(frames(&take_all(&mut host)).len(), 1);
        assert!(host.is_closed());
        host.handle_received(&bytes, START);
        assert_eq!((take_all(&mut host), events(&mut host)), (vec![], vec![]), "nothing after the end");
    }
}

#[test]
fn unknown_messages_are_ignored() {
    let mut host = host();
    for payload in [&[9, 9, 9][..], &[2], &[3, 0], &[4, 0, 1], b"MUX", &[0x4d; 24], &[0; 12]] {
        host.handle_received(&data(0, payload), START);
    }
    assert_eq!((take_all(&mut host), events(&mut host)), (vec![], vec![]));
    assert_eq!(host.counters().malformed, 7);
}

#[test]
fn a_million_streams_cost_what_the_configuration_allows() {
    for spread in [1u64, 0x1234_5677] {
        let mut host = host();
        let mut fed = 0;
        for i in 1..=1_000_000u64 {
            let id = StreamId::GUEST_BIT | (i.wrapping_mul(spread) & !StreamId::GUEST_BIT);
            fed += feed(&mut host, &data(id, b"x"));
            if host.receive_window() < 13 {
                // It reads its answers now and then.
                let said = take(&mut host, 1 << 20, 64, START);
                assert!(said.len() <= 3 * READ);
            }
        }
        assert_eq!(fed, 13_000_000);
        assert_eq!(host.stream_count(), 256);
        assert!(host.memory() as u64 <= Config::new(Role::Host).memory_bound());
        assert_eq!(events(&mut host).len(), 512, "256 × opened, readable");
    }
}

#[test]
fn a_peer_that_asks_and_never_listens_stops_itself() {
    for features in [7, 5] {
        let mut host = host_against(Config::new(Role::Host), guest_hello(features));
        let mut fed = 0;
        for i in 1..=100_000u64 {
            fed += feed(&mut host, &data(1000 + i, b"x"));
        }
        assert_eq!(host.receive_window(), 0);
        assert!(fed <= 2 * READ, "{fed}");
        let answers = frames(&take_all(&mut host)).len();
        assert!(answers <= 2 * REPLIES, "{answers}");
        assert_eq!(host.receive_window(), READ, "and goes on when it does");
    }
}

#[test]
fn a_stray_is_acked_and_closed_once_where_reset_is_not_agreed() {
    let mut host = host_against(Config::new(Role::Host), guest_hello(5));
    host.handle_received(&[data(77, b"abc"), data(77, b"de")].concat(), START);
    let want: Vec<_> =
        [Word::Ack(3), Word::Close, Word::Ack(2)].map(|w| (StreamId(77), w.to_u32(), vec![])).into();
    assert_eq!(frames(&take_all(&mut host)), want);
}

#[test]
fn storms_leave_nothing_behind() {
    let guests = 1 | StreamId::GUEST_BIT;
    let ping = {
        let mut bytes = Vec::new();
        Message::Ping(1).encode(&mut bytes);
        bytes
    };
    for storm in [
        frame(5, 0, b""),
        frame(guests, 0, b""),
        frame(guests, Word::Rewind.to_u32(), b""),
        frame(guests, Word::Request.to_u32(), b""),
        frame(guests + 5, Word::Ack(1).to_u32(), b""),
        frame(guests + 5, Word::Reset.to_u32(), b""),
        ping,
        guest_hello(7).encode().to_vec(),
    ] {
        let mut host = host();
        host.handle_received(&data(guests, b"x"), START);
        let before = host.memory();
        let many = storm.repeat(1000);
        for _ in 0..100 {
            assert_eq!(feed(&mut host, &many), many.len());
        }
        // A number that was given up before it was used is remembered, once.
        assert!(host.memory() <= before + 256, "{storm:?}");
        assert!(take_all(&mut host).len() <= 256, "{storm:?}");
        assert!(events(&mut host).len() <= 8);
        assert!(!host.is_closed());
    }
}

#[test]
fn a_peer_that_never_reads_costs_one_window() {
    let mut host = host();
    let bound = Config::new(Role::Host).memory_bound();
    let ids: Vec<_> = (0..256).map(|_| host.open().unwrap()).collect();
    for _ in 0..10 {
        for id in &ids {
            let _ = host.write(*id, &[0; 1 << 20]).unwrap();
        }
    }
    let sent = take_all(&mut host).len();
    assert!(sent <= 256 * (65536 + 16 * 12), "{sent}");
    assert!(host.memory() as u64 <= bound);
}

#[test]
fn a_peer_that_ignores_its_window_loses_what_is_beyond_it() {
    let mut host = host();
    let guests = StreamId(1 | StreamId::GUEST_BIT);
    for _ in 0..1000 {
        host.handle_received(&data(guests.0, &[0; 4096]), START);
    }
    assert_eq!(host.received_len(guests), 65536);
    host.consume(guests, usize::MAX).unwrap();
    let said = frames(&take_all(&mut host));
    assert_eq!(
        said.iter().map(|f| Word::from_u32(f.1)).collect::<Vec<_>>(),
        [Word::Ack(65536), Word::Request]
    );
}

#[test]
fn a_hello_that_accepts_nothing_ends_it() {
    for (max_frame, window, violation) in [
        (0, 65536, Some(Violation::EmptyFrames)),
        (1, 65536, Some(Violation::SmallFrames)),
        (63, 0, Some(Violation::SmallFrames)),
        (4096, 63, Some(Violation::SmallFrames)),
        (64, 64, None),
        (64, 0, None),
    ] {
        let mut opening = guest_hello(7);
        (opening.hello.max_frame, opening.hello.window) = (max_frame, window);
        let mut host = host_against(Config::new(Role::Host), opening);
        let want = violation.map(|violation| Event::Closed(CloseReason::Violation(violation)));
        assert_eq!(events(&mut host).last(), want.as_ref(), "{max_frame} {window}");
        // What this side asks for itself it takes from the other.
        let mut config = Config::new(Role::Host);
        (config.max_frame, config.window) = (max_frame.max(1), window);
        let mut host = host_against(config, opening);
        assert_eq!(events(&mut host).is_empty(), max_frame > 0);
    }
}

#[test]
fn a_peer_that_overwrites_features_does_not_widen_them() {
    let mut config = Config::new(Role::Host);
    config.features = Features::WINDOWED;
    let host = host_against(config, guest_hello(0xff));
    assert_eq!(host.terms().unwrap().features, Features::WINDOWED);
}

/// Frames that are right, nearly right and wrong, and an owner that does as it likes meanwhile.
#[test]
fn no_soup_of_frames_panics_or_outgrows_the_bound() {
    for seed in seeds(3000) {
        let mut chance = Chance(seed);
        let mut config = Config::new(if chance.one_in(2) { Role::Host } else { Role::Guest });
        config.max_streams = 1 + chance.below(6) as u32;
        config.window = chance.below(300) as u32;
        config.receive_buffer = 64 + chance.below(300) as u32;
        config.send_buffer = 1 + chance.below(500) as u32;
        config.features = Features(chance.below(8) as u8);
        let bound = config.memory_bound();
        config.nonce = HOST;
        let hello = if config.role == Role::Host { guest_hello } else { |_| host_hello(1) };
        let mut session = Session::new(config, START).unwrap();
        session.handle_received(&hello(chance.below(8) as u8).encode(), START);
        for _ in 0..200 {
            let number = chance.below(8) | if chance.one_in(2) { StreamId::GUEST_BIT } else { 0 };
            let id = StreamId(number);
            match chance.below(12) {
                0..=3 => {
                    let payload = vec![chance.next() as u8; chance.size(100) as usize];
                    session.handle_received(&data(number, &payload), START);
                }
                4..=6 => {
                    let word = match chance.below(7) {
                        0 => Word::Close,
                        1 => Word::Request,
                        2 => Word::Rewind,
                        3 if chance.one_in(5) => Word::Reset,
                        4 if chance.one_in(100) => Word::Undefined(0x4000_0000),
                        _ => Word::Ack(chance.size(200) as u32),
                    };
                    session.handle_received(&frame(number, word.to_u32(), b""), START);
                }
                7 => {
                    let _ = session.open();
                    let _ = session.write(id, &vec![1; chance.size(400) as usize]);
                }
                8 => {
                    let _ = session.consume(id, chance.size(300) as usize);
                }
                9 => match chance.below(6) {
                    0 => drop(session.finish(id)),
                    1 => drop(session.reset(id)),
                    2 => drop(session.stop_reading(id)),
                    _ => drop(session.attach(id)),
                },
                10 => {
                    let (limit, runs) = (chance.size(200) as usize, chance.size(5) as usize);
                    take(&mut session, limit, runs, START);
                }
                _ => drop(session.poll_event()),
            }
            assert!(session.memory() as u64 <= bound, "SEED={seed}");
        }
        // Whatever was said came out as whole frames; take() would have panicked on a plan that does not add
        // up.
        take(&mut session, usize::MAX, 3, START);
    }
}
