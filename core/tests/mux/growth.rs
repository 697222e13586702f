//! Windows that grow (SPEC §4, §5): for whom, how far, and what of it may be held.

use std::time::Duration;

use vspc_core::mux::wire::{Features, Word};
use vspc_core::mux::{Carrier, Config, Event, ResetReason, Role, Session, Start, StreamId, Trunk, Violation};
use vspc_core::time::Instant;

use crate::line::{START, events, frame, guest_hello, host_against, pair, read_all, settle, take_all};

/// 64 KiB that grow to 256, all together by 384.
fn growing(role: Role) -> Config {
    Config { most_window: 256 << 10, growth: 384 << 10, ..Config::new(role) }
}

fn reliable(role: Role) -> Config {
    let start = Start::S2Only { within: Duration::from_secs(10) };
    Config { carrier: Carrier::Reliable, start, ..growing(role) }
}

/// How much the guest has under way on a stream whose host reads nothing more.
fn window(host: &mut Session, guest: &mut Session, id: StreamId, now: Instant) -> usize {
    let mut all = 0;
    loop {
        let credit = guest.credit(id);
        all += guest.write(id, &vec![7; credit]).unwrap();
        let line = take_all(guest);
        host.handle_received(&line, now);
        if credit == 0 {
            return all;
        }
    }
}

/// Carries so many bytes, which the host reads as they come; `pause` passes between two pieces of 32 KiB.
fn carry(host: &mut Session, guest: &mut Session, id: StreamId, bytes: usize, pause: Duration) -> Instant {
    let (mut now, mut left) = (START, bytes);
    while left > 0 {
        let n = guest.credit(id).min(32 << 10);
        assert!(n > 0, "all was read");
        guest.write(id, &vec![7; n]).unwrap();
        left = left.saturating_sub(n);
        now = now + pause;
        host.handle_received(&take_all(guest), now);
        assert_eq!(read_all(host, id).len(), n);
        guest.handle_received(&take_all(host), now);
    }
    now
}

fn opened(host: &mut Session, guest: &mut Session) -> StreamId {
    let id = host.open_announced().unwrap();
    settle(host, guest);
    id
}

const FAST: Duration = Duration::from_millis(1);

#[test]
fn a_window_grows_for_who_carries_much_as_far_as_it_may_and_all_of_it_is_held() {
    for config in [growing, reliable] {
        let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
        let id = opened(&mut host, &mut guest);
        let now = carry(&mut host, &mut guest, id, 2 << 20, FAST);
        assert_eq!(window(&mut host, &mut guest, id, now), 256 << 10);
        assert_eq!(host.received_len(id), 256 << 10, "nothing of it is thrown away");
        // It is read after all, and goes on.
        assert_eq!(read_all(&mut host, id).len(), 256 << 10);
        settle(&mut host, &mut guest);
        assert_eq!(guest.credit(id).min(1 << 10), 1 << 10);
        assert_eq!((host.counters().repeated, guest.counters().repeated), (0, 0));
    }
}

#[test]
fn a_line_that_takes_its_time_and_a_reader_that_lags_leave_a_window_as_it_was() {
    let (mut host, mut guest) = pair(growing(Role::Host), growing(Role::Guest));
    let id = opened(&mut host, &mut guest);
    let now = carry(&mut host, &mut guest, id, 2 << 20, Duration::from_millis(250));
    assert_eq!(window(&mut host, &mut guest, id, now), 64 << 10);
    // From here on something is always left to be read.
    for _ in 0..100 {
        let half = host.received_len(id) / 2;
        let mut piece = vec![0; half];
        assert_eq!(host.read(id, &mut piece), Ok(half));
        guest.handle_received(&take_all(&mut host), now);
        window(&mut host, &mut guest, id, now);
    }
    assert_eq!(host.received_len(id), 64 << 10);
}

#[test]
fn all_streams_together_grow_by_no_more_than_they_may_and_who_ends_gives_it_back() {
    let (mut host, mut guest) = pair(growing(Role::Host), growing(Role::Guest));
    let ids: Vec<StreamId> = (0..4).map(|_| opened(&mut host, &mut guest)).collect();
    let mut now = START;
    for &id in &ids {
        now = carry(&mut host, &mut guest, id, 1 << 20, FAST);
    }
    // 192 KiB for each of two, and none for others.
    let windows: Vec<usize> = ids.iter().map(|&id| window(&mut host, &mut guest, id, now) >> 10).collect();
    assert_eq!(windows, [256, 256, 64, 64]);
    host.reset(ids[0]).unwrap();
    settle(&mut host, &mut guest);
    read_all(&mut host, ids[2]);
    settle(&mut host, &mut guest);
    let now = carry(&mut host, &mut guest, ids[2], 1 << 20, FAST);
    assert_eq!(window(&mut host, &mut guest, ids[2], now), 256 << 10);
}

#[test]
fn who_has_not_announced_it_is_sent_no_grow_and_may_send_none() {
    let (mut host, mut guest) = pair(growing(Role::Host), Config::new(Role::Guest));
    let id = opened(&mut host, &mut guest);
    carry(&mut host, &mut guest, id, 2 << 20, FAST);
    assert_eq!(host.terms().map(|terms| terms.features.has(Features::GROWS)), Some(false));
    host.handle_received(&frame(id.0, Word::Grow.to_u32(), b""), START);
    let reset = Event::Reset(id, ResetReason::Violation(Violation::ReservedWord));
    assert!(events(&mut host).contains(&reset));
}

#[test]
fn a_peer_that_says_grow_without_end_has_no_more_kept_for_it_than_is_set() {
    let opening = guest_hello(0x17);
    let mut host = host_against(growing(Role::Host), opening);
    let ids: Vec<StreamId> = (0..8).map(|_| host.open_announced().unwrap()).collect();
    take_all(&mut host);
    let grow = |id: &StreamId| frame(id.0, Word::Grow.to_u32(), b"").repeat(100);
    host.handle_received(&ids.iter().flat_map(grow).collect::<Vec<u8>>(), START);
    let kept: usize = ids.iter().map(|&id| host.write(id, &vec![7; 4 << 20]).unwrap()).sum();
    assert_eq!(kept, 8 * (128 << 10) + (384 << 10));
    assert!(events(&mut host).iter().all(|event| !matches!(event, Event::Reset(..) | Event::Closed(_))));
}

#[test]
fn a_session_that_rests_takes_as_much_when_it_is_woken() {
    let mut trunk = Trunk::raw(growing(Role::Host), 5, [1, 2], START).unwrap();
    let mut guest = Session::new(Config { nonce: 9, ..growing(Role::Guest) }, START).unwrap();
    let mut text = Vec::new();
    trunk.handle_opened(START);
    let mut pass = |trunk: &mut Trunk, guest: &mut Session, now| {
        loop {
            let mut line = Vec::new();
            trunk.transmit_with(now, |runs| {
                runs.iter().map(|run| (line.extend_from_slice(run), run.len()).1).sum()
            });
            guest.handle_received(&line, now);
            let back = take_all(guest);
            trunk.handle_received(&back, now, &mut text);
            while trunk.poll_event().is_some() {}
            events(guest);
            if line.is_empty() && back.is_empty() {
                return;
            }
        }
    };
    pass(&mut trunk, &mut guest, START);
    let id = trunk.session().open_announced().unwrap();
    pass(&mut trunk, &mut guest, START);
    for _ in 0..64 {
        guest.write(id, &[7; 32 << 10]).unwrap();
        pass(&mut trunk, &mut guest, START);
        assert_eq!(read_all(trunk.session(), id).len(), 32 << 10);
        pass(&mut trunk, &mut guest, START);
    }
    let (later, much) = (START + Duration::from_secs(9), guest.credit(id));
    // The other way, and a stream that keeps its window.
    let kept = trunk.session().open_announced().unwrap();
    trunk.session().keep_window(kept).unwrap();
    pass(&mut trunk, &mut guest, START);
    for _ in 0..64 {
        for to in [id, kept] {
            trunk.session().write(to, &[7; 32 << 10]).unwrap();
            pass(&mut trunk, &mut guest, START);
            assert_eq!(read_all(&mut guest, to).len(), 32 << 10);
            pass(&mut trunk, &mut guest, START);
        }
    }
    assert!(trunk.rest(), "nothing is under way");
    let windows = [id, kept].map(|to| {
        let mut all = 0;
        while let n @ 1.. = trunk.session().credit(to) {
            all += trunk.session().write(to, &vec![7; n]).unwrap();
            pass(&mut trunk, &mut guest, START);
        }
        read_all(&mut guest, to);
        pass(&mut trunk, &mut guest, START);
        all >> 10
    });
    assert_eq!(windows, [256, 64]);
    assert!(trunk.rest(), "nothing is under way");
    guest.write(id, &vec![7; 256 << 10]).unwrap();
    pass(&mut trunk, &mut guest, later);
    assert_eq!((much.max(64 << 10), trunk.session().received_len(id)), (much, 256 << 10));
}

#[test]
fn what_windows_grow_by_is_held_and_is_in_the_bound() {
    let held = |growth| {
        let config = |role| Config { max_streams: 1, growth, ..growing(role) };
        let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
        let id = opened(&mut host, &mut guest);
        let now = carry(&mut host, &mut guest, id, 2 << 20, FAST);
        assert_eq!(window(&mut host, &mut guest, id, now) as u64, (64 << 10) + growth);
        let (held, bound) = (host.memory() as u64, config(Role::Host).memory_bound());
        assert!(held <= bound, "{held} of {bound}");
        (held, bound)
    };
    let ((small, least), (large, most)) = (held(0), held(192 << 10));
    assert!(large - small >= 180 << 10, "{small} and {large} bytes");
    assert!(large - small <= most - least, "{} more are held, {} were said", large - small, most - least);
}

#[test]
fn who_takes_a_whole_window_once_a_minute_is_given_no_more() {
    for config in [growing, reliable] {
        let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
        let (id, mut now) = (opened(&mut host, &mut guest), START);
        for minute in 0..8 {
            window(&mut host, &mut guest, id, now);
            assert_eq!(host.received_len(id), 64 << 10, "minute {minute}");
            read_all(&mut host, id);
            now = now + Duration::from_secs(60);
            guest.handle_received(&take_all(&mut host), now);
        }
    }
}

#[test]
fn streams_that_keep_their_windows_leave_what_may_grow_to_a_copy() {
    let (mut host, mut guest) = pair(growing(Role::Host), growing(Role::Guest));
    for _ in 0..5 {
        let id = opened(&mut host, &mut guest);
        host.keep_window(id).unwrap();
        let now = carry(&mut host, &mut guest, id, 1 << 20, FAST);
        assert_eq!(window(&mut host, &mut guest, id, now), 64 << 10);
    }
    let copy = opened(&mut host, &mut guest);
    let now = carry(&mut host, &mut guest, copy, 1 << 20, FAST);
    assert_eq!(window(&mut host, &mut guest, copy, now), 256 << 10);
}

#[test]
fn a_peer_makes_nothing_grow_of_a_stream_that_keeps_its_window() {
    let mut host = host_against(growing(Role::Host), guest_hello(0x17));
    let id = host.open_announced().unwrap();
    host.keep_window(id).unwrap();
    take_all(&mut host);
    host.handle_received(&frame(id.0, Word::Grow.to_u32(), b""), START);
    assert_eq!(host.write(id, &vec![7; 1 << 20]), Ok(128 << 10));
}

#[test]
fn a_peer_that_has_no_memory_to_grow_is_acked_before_it_waits_for_ever() {
    let (mut host, mut guest) = pair(growing(Role::Host), Config { growth: 1, ..growing(Role::Guest) });
    let id = opened(&mut host, &mut guest);
    let now = carry(&mut host, &mut guest, id, 2 << 20, FAST);
    assert_eq!(window(&mut host, &mut guest, id, now), 64 << 10, "it took no GROW");
    // Something is left, and no less than half is taken.
    let mut most = vec![0; 60 << 10];
    assert_eq!(host.read(id, &mut most), Ok(60 << 10));
    guest.handle_received(&take_all(&mut host), now);
    assert!(guest.credit(id) > 0);
}
