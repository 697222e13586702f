//! Who goes first, who waits, and what an idle stream costs.

use std::io::IoSlice;
use std::time::Duration;

use vspc_core::mux::wire::{HEADER, Word};
use vspc_core::mux::{
    CloseReason, Config, Event, GoAwayCode, OpenError, ResetReason, Role, SEGMENT, Session, StreamError,
};

use crate::line::{START, data, default_pair, events, frame, frames, pair, read_all, settle, take, take_all};

#[test]
fn streams_take_turns_frame_by_frame() {
    let (mut host, _guest) = default_pair();
    let ids: Vec<_> = (0..3).map(|_| host.open().unwrap()).collect();
    for id in &ids {
        host.write(*id, &[id.0 as u8; 10_000]).unwrap();
    }
    for runs in [1, 2, 3, 5, 64] {
        // However it is asked for, the order is the same.
        let order: Vec<u64> = frames(&take(&mut host.clone_for_test(), usize::MAX, runs, START))
            .iter()
            .map(|f| f.0.0)
            .collect();
        assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3], "{runs} runs");
    }
}

/// The state a test starts several futures from: made anew, since a session is not `Clone`.
trait CloneForTest {
    fn clone_for_test(&mut self) -> Session;
}

impl CloneForTest for Session {
    fn clone_for_test(&mut self) -> Session {
        let (mut host, _guest) = default_pair();
        for _ in 0..3 {
            let id = host.open().unwrap();
            host.write(id, &[id.0 as u8; 10_000]).unwrap();
        }
        host
    }
}

#[test]
fn a_keystroke_waits_for_the_frame_that_has_begun_and_its_turn() {
    let (mut host, mut guest) = default_pair();
    let (bulk, shell) = (host.open().unwrap(), host.open().unwrap());
    host.write(bulk, &[0; 60_000]).unwrap();
    // The line has taken a bit of a frame when the key is pressed.
    let begun = take(&mut host, 100, 64, START);
    host.write(shell, b"k").unwrap();
    let mut rest = begun;
    rest.extend(take(&mut host, 2 * 4096, 64, START));
    guest.handle_received(&rest, START);
    assert_eq!(
        read_all(&mut guest, shell),
        b"k",
        "behind the frame that had begun and one of the other stream"
    );
}

#[test]
fn words_go_before_payload_even_when_payload_was_offered_already() {
    let (mut host, mut guest) = default_pair();
    let (bulk, shell) = (host.open().unwrap(), host.open().unwrap());
    host.write(shell, b"k").unwrap();
    settle(&mut host, &mut guest);
    guest.write(shell, b"echo").unwrap();
    guest.write(bulk, b"").unwrap_or(0);
    settle(&mut host, &mut guest);
    host.write(bulk, &[0; 60_000]).unwrap();
    let mut runs = [IoSlice::new(&[]); 64];
    assert!(host.transmit(&mut runs) > 20, "offered, and not taken");
    assert_eq!(read_all(&mut host, shell), b"echo");
    let sent = frames(&take_all(&mut host));
    assert_eq!((sent[0].0, Word::from_u32(sent[0].1)), (shell, Word::Ack(4)));
}

#[test]
fn transmit_without_sent_changes_nothing() {
    let (mut host, _guest) = default_pair();
    for _ in 0..5 {
        let id = host.open().unwrap();
        host.write(id, &[id.0 as u8; 5000]).unwrap();
        host.finish(id).unwrap();
    }
    let offered = |host: &mut Session| {
        let mut runs = [IoSlice::new(&[]); 9];
        let filled = host.transmit(&mut runs);
        runs[..filled].iter().flat_map(|run| run.to_vec()).collect::<Vec<u8>>()
    };
    let first = offered(&mut host);
    assert_eq!(first, offered(&mut host));
    host.handle_sent(1000, START);
    let rest = offered(&mut host);
    assert_eq!(rest, offered(&mut host));
    let common = (first.len() - 1000).min(rest.len());
    assert_eq!(first[1000..1000 + common], rest[..common]);
}

#[test]
fn a_stalled_reader_stops_its_own_stream_only() {
    let (mut host, mut guest) = default_pair();
    let (stalled, lively) = (host.open().unwrap(), host.open().unwrap());
    let mut through = 0;
    for _ in 0..100 {
        let _ = host.write(stalled, &[1; 50_000]).unwrap();
        let _ = host.write(lively, &[2; 50_000]).unwrap();
        settle(&mut host, &mut guest);
        through += read_all(&mut guest, lively).len();
        settle(&mut host, &mut guest);
    }
    assert!(through >= 4_000_000, "{through}");
    assert_eq!(guest.received_len(stalled), 65536, "a window of it, and nothing was thrown away");
    assert_eq!(guest.counters().discarded, 0);
}

#[test]
fn a_stream_without_a_byte_opens_and_ends() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.finish(id).unwrap();
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut guest), [Event::Opened(id), Event::Readable(id)]);
    guest.finish(id).unwrap();
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut guest), [Event::Retired(id)]);
    assert_eq!(events(&mut host), [Event::Readable(id), Event::Retired(id)]);
    assert_eq!(host.write(id, b"x"), Err(StreamError::Unknown));
}

#[test]
fn writes_are_short_at_the_cap_and_the_owner_is_told_when_there_is_room() {
    let mut config = Config::new(Role::Host);
    config.send_buffer = 100;
    let (mut host, mut guest) = pair(config, Config::new(Role::Guest));
    let id = host.open().unwrap();
    assert_eq!(host.send_window(id), 100);
    assert_eq!(host.write(id, &[0; 150]), Ok(100));
    assert_eq!((host.write(id, &[0; 50]), host.send_window(id)), (Ok(0), 0));
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), []);
    read_all(&mut guest, id);
    settle(&mut host, &mut guest);
    assert_eq!((events(&mut host), host.send_window(id)), (vec![Event::Writable(id)], 100));
}

#[test]
fn reset_ends_both_directions_and_keeps_the_framing() {
    for cut in [1, 12, 13, 2000, 4107, 4108, 4109] {
        let (mut host, mut guest) = default_pair();
        let (doomed, other) = (host.open().unwrap(), host.open().unwrap());
        host.write(doomed, &[7; 10_000]).unwrap();
        let mut line = take(&mut host, cut, 4, START);
        host.reset(doomed).unwrap();
        host.write(other, b"fine").unwrap();
        line.extend(take_all(&mut host));
        guest.handle_received(&line, START);
        let last = frames(&line);
        assert!(last.iter().any(|f| f.0 == doomed && f.1 == Word::Reset.to_u32()));
        assert_eq!(read_all(&mut guest, other), b"fine");
        assert!(events(&mut guest).contains(&Event::Reset(doomed, ResetReason::Remote)));
        assert_eq!(events(&mut host), [Event::Reset(doomed, ResetReason::Local)]);
        settle(&mut host, &mut guest);
        assert_eq!((host.stream_count(), guest.stream_count()), (1, 1));
    }
}

#[test]
fn a_request_in_the_middle_of_a_frame_finishes_the_frame_first() {
    for cut in [1, 12, 13, 2000, 4107, 4108] {
        let (mut host, mut guest) = default_pair();
        let id = host.open().unwrap();
        let text: Vec<u8> = (0..20_000u32).map(|i| (i * 31 + (i >> 7)) as u8).collect();
        host.write(id, &text).unwrap();
        let mut line = take(&mut host, 4108 + cut, 4, START);
        // A peer that threw everything away so far.
        host.handle_received(&frame(id.0, Word::Request.to_u32(), b""), START);
        line.extend(take_all(&mut host));
        let seen = frames(&line);
        let rewind = seen.iter().position(|f| f.1 == Word::Rewind.to_u32()).unwrap();
        let before: Vec<u8> = seen[..rewind].iter().flat_map(|f| f.2.clone()).collect();
        assert!(text.starts_with(&before));
        let mut again: Vec<u8> = seen[rewind + 1..].iter().flat_map(|f| f.2.clone()).collect();
        assert_eq!(again.len(), 4096, "one frame, until it is known to fit");
        let mut acked = 0;
        while again.len() < text.len() {
            host.handle_received(&frame(id.0, Word::Ack((again.len() - acked) as u32).to_u32(), b""), START);
            acked = again.len();
            again.extend(frames(&take_all(&mut host)).into_iter().flat_map(|f| f.2));
            assert!(again.len() <= 3 * acked, "as much more as was acked");
        }
        assert!(again == text, "everything comes again after REWIND, cut at {cut}");
        let _ = &mut guest;
    }
}

#[test]
fn stop_reading_lets_the_sender_finish() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, &[1; 10]).unwrap();
    settle(&mut host, &mut guest);
    guest.stop_reading(id).unwrap();
    guest.finish(id).unwrap();
    let mut left = 1_000_000usize;
    while left > 0 {
        left -= host.write(id, &vec![0; left.min(100_000)]).unwrap();
        settle(&mut host, &mut guest);
    }
    host.finish(id).unwrap();
    settle(&mut host, &mut guest);
    assert!(events(&mut host).contains(&Event::Retired(id)));
    assert!(events(&mut guest).contains(&Event::Retired(id)));
    assert_eq!(guest.counters().discarded, 1_000_010);
}

#[test]
fn go_away_refuses_new_streams_and_keeps_the_old() {
    let (mut host, mut guest) = default_pair();
    let old = host.open().unwrap();
    host.write(old, b"old").unwrap();
    settle(&mut host, &mut guest);
    let unseen = host.open().unwrap();
    guest.go_away();
    settle(&mut host, &mut guest);
    let said = events(&mut host);
    assert!(said.contains(&Event::GoingAway { code: GoAwayCode::Normal, last: old }));
    assert!(said.contains(&Event::Reset(unseen, ResetReason::Refused)));
    assert_eq!((host.open(), guest.open()), (Err(OpenError::GoingAway), Err(OpenError::GoingAway)));
    assert_eq!(read_all(&mut guest, old), b"old");
    guest.close();
    settle(&mut host, &mut guest);
    assert!(guest.is_closed());
    assert_eq!(events(&mut guest).last(), Some(&Event::Closed(CloseReason::Local)));
}

#[test]
fn silence_is_asked_about_three_times_and_then_the_session_ends() {
    let config = |role| Config { keepalive: Duration::from_secs(10), ..Config::new(role) };
    let (mut host, _) = pair(config(Role::Host), config(Role::Guest));
    let mut pings = 0;
    let mut now = START;
    while let Some(due) = host.poll_timeout() {
        assert!(due > now);
        now = due;
        host.handle_timeout(now);
        assert!(host.poll_timeout().is_none_or(|next| next > now));
        pings += frames(&take(&mut host, usize::MAX, 8, now)).len();
    }
    assert_eq!(pings, 3);
    assert_eq!(now, START + Duration::from_secs(40));
    assert_eq!(events(&mut host).last(), Some(&Event::Closed(CloseReason::Silent)));
    // With answers it never ends.
    let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
    for _ in 0..50 {
        let now = host.poll_timeout().unwrap();
        host.handle_timeout(now);
        guest.handle_received(&take(&mut host, usize::MAX, 8, now), now);
        host.handle_received(&take(&mut guest, usize::MAX, 8, now), now);
    }
    assert!(!host.is_closed());
}

#[test]
fn a_restarted_host_resets_every_stream_and_starts_over() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, b"x").unwrap();
    settle(&mut host, &mut guest);
    events(&mut guest);
    let own = guest.open().unwrap();
    guest.write(own, &[0; 10_000]).unwrap();
    // The guest is in the middle of a frame when the new host comes.
    let half = take(&mut guest, 3000, 8, START);
    let mut anew = Session::new(Config::new(Role::Host), START).unwrap();
    guest.handle_received(&take_all(&mut anew), START);
    anew.handle_received(&half[1000..], START);
    settle(&mut anew, &mut guest);
    let said = events(&mut guest);
    assert!(matches!(said[0], Event::Restarted(_)));
    assert!(said.contains(&Event::Reset(id, ResetReason::Restarted)));
    assert!(said.contains(&Event::Reset(own, ResetReason::Restarted)));
    let fresh = anew.open().unwrap();
    anew.write(fresh, b"hello").unwrap();
    settle(&mut anew, &mut guest);
    assert_eq!(read_all(&mut guest, fresh), b"hello");
}

#[test]
fn ids_may_start_out_of_order_and_are_not_used_twice() {
    let (mut host, mut guest) = default_pair();
    let ids: Vec<_> = (0..4).map(|_| host.open().unwrap()).collect();
    for id in ids.iter().rev() {
        host.write(*id, b"x").unwrap();
        settle(&mut host, &mut guest);
        assert_eq!(read_all(&mut guest, *id), b"x");
    }
    for id in &ids {
        host.finish(*id).unwrap();
        guest.finish(*id).unwrap();
    }
    settle(&mut host, &mut guest);
    events(&mut guest);
    assert_eq!(guest.stream_count(), 0);
    guest.handle_received(&data(ids[2].0, b"again"), START);
    assert_eq!((events(&mut guest), guest.counters().stray), (vec![], 1));
    assert_eq!(guest.attach(ids[1]), Err(OpenError::Used));
}

#[test]
fn telling_of_more_than_was_offered_ends_the_session_instead_of_corrupting_it() {
    let (mut host, _guest) = default_pair();
    let id = host.open().unwrap();
    host.write(id, b"x").unwrap();
    let mut runs = [IoSlice::new(&[]); 4];
    host.transmit(&mut runs);
    host.handle_sent(14, START);
    assert_eq!(events(&mut host).last(), Some(&Event::Closed(CloseReason::Misuse)));
}

#[test]
fn taking_more_than_was_offered_ends_the_session_though_more_was_planned() {
    let (mut host, _guest) = default_pair();
    for _ in 0..60 {
        let id = host.open().unwrap();
        host.write(id, &[7; 5000]).unwrap();
    }
    host.transmit_with(START, |runs| runs.iter().map(|run| run.len()).sum::<usize>() + 1);
    assert_eq!(events(&mut host).last(), Some(&Event::Closed(CloseReason::Misuse)));
}

#[test]
fn an_idle_session_gives_everything_back() {
    let (mut host, mut guest) = default_pair();
    let empty = (host.memory(), guest.memory());
    let ids: Vec<_> = (0..200).map(|_| host.open().unwrap()).collect();
    for _ in 0..3 {
        for id in &ids {
            host.write(*id, &[1; 100_000]).unwrap();
        }
        settle(&mut host, &mut guest);
        for id in &ids {
            read_all(&mut guest, *id);
        }
        settle(&mut host, &mut guest);
        for id in &ids {
            read_all(&mut guest, *id);
        }
        settle(&mut host, &mut guest);
    }
    let later = START + Duration::from_secs(2);
    host.handle_timeout(later);
    guest.handle_timeout(later);
    for session in [&host, &guest] {
        let each = session.memory() / ids.len();
        assert!(each <= 256, "{each} bytes per idle stream after a burst");
    }
    for id in &ids {
        host.finish(*id).unwrap();
        guest.finish(*id).unwrap();
    }
    settle(&mut host, &mut guest);
    events(&mut host);
    events(&mut guest);
    let later = later + Duration::from_secs(2);
    host.handle_timeout(later);
    guest.handle_timeout(later);
    for (session, empty) in [(&host, empty.0), (&guest, empty.1)] {
        assert!(session.memory() <= empty + 4096, "{} bytes with no stream", session.memory());
    }
}

#[test]
fn bulk_is_98_percent_payload() {
    let (mut host, mut guest) = default_pair();
    let id = host.open().unwrap();
    let (mut wire, mut payload) = (0, 0);
    for _ in 0..50 {
        host.write(id, &[1; 65536]).unwrap();
        let there = take_all(&mut host);
        guest.handle_received(&there, START);
        payload += read_all(&mut guest, id).len();
        let back = take_all(&mut guest);
        host.handle_received(&back, START);
        wire += there.len();
    }
    assert!(payload * 1000 >= wire * 997, "{payload} of {wire}");
    assert_eq!(SEGMENT + HEADER, 4108);
}
