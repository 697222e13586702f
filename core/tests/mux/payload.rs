//! Payload lent out of the input: what is taken is gone, what is left is kept, and the window counts both
//! alike.

use std::io::IoSlice;

use vspc_core::mux::wire::Word;
use vspc_core::mux::{Config, Event, Received, Role, Session, Start, StreamId};

use crate::line::{START, data, default_pair, events, frame, frames, pair, read_all, settle, take_all, v1};

const GUESTS: StreamId = StreamId(1 | StreamId::GUEST_BIT);

/// A host, and a guest's stream it knows of.
fn host_with_stream() -> Session {
    let (mut host, mut guest) = default_pair();
    let id = guest.open().unwrap();
    guest.write(id, b"x").unwrap();
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), [Event::Opened(GUESTS), Event::Readable(GUESTS)]);
    assert_eq!(read_all(&mut host, GUESTS), b"x");
    take_all(&mut host);
    host
}

#[test]
fn what_is_taken_at_once_is_acked_and_never_stored() {
    let mut host = host_with_stream();
    let before = host.memory();
    let bytes = [data(GUESTS.0, &[1; 4096]), data(GUESTS.0, &[2; 100])].concat();
    let mut input = &bytes[..];
    let mut pieces = Vec::new();
    while let Some(mut payload) = host.poll_received(&mut input, START) {
        assert_eq!(payload.id(), GUESTS);
        pieces.push(payload.bytes());
        payload.consume(usize::MAX);
        assert!(payload.bytes().is_empty());
    }
    assert_eq!(pieces, [&[1; 4096][..], &[2; 100]]);
    assert_eq!(pieces[0].as_ptr(), bytes[12..].as_ptr(), "lent, not copied");
    assert_eq!((host.memory(), host.received_len(GUESTS)), (before, 0));
    assert_eq!(events(&mut host), [], "nothing waits, so nothing is said");
    assert_eq!(frames(&take_all(&mut host)), [(GUESTS, Word::Ack(4196).to_u32(), vec![])], "one for both");
    assert_eq!(host.counters().received, 1 + 4196);
}

#[test]
fn what_is_left_is_kept_and_what_comes_behind_it_waits_its_turn() {
    let mut host = host_with_stream();
    let bytes = [data(GUESTS.0, b"abcd"), data(GUESTS.0, b"efgh")].concat();
    let mut input = &bytes[..];
    let mut payload = host.poll_received(&mut input, START).unwrap();
    payload.consume(1);
    assert_eq!(payload.bytes(), b"bcd");
    drop(payload);
    assert!(host.poll_received(&mut input, START).is_none(), "efgh must not overtake bcd");
    assert!(input.is_empty());
    assert_eq!(events(&mut host), [Event::Readable(GUESTS)]);
    assert_eq!(read_all(&mut host, GUESTS), b"bcdefgh");
    assert_eq!(frames(&take_all(&mut host)), [(GUESTS, Word::Ack(8).to_u32(), vec![])]);
    let mut input = &data(GUESTS.0, b"ij")[..];
    assert_eq!(host.poll_received(&mut input, START).unwrap().bytes(), b"ij", "drained, so lent again");
}

#[test]
fn what_is_kept_is_shown_in_runs_as_many_as_there_are_places_for() {
    let mut host = host_with_stream();
    assert_eq!(host.received_runs(GUESTS, &mut [IoSlice::new(&[]); 2]), 0);
    host.handle_received(&data(GUESTS.0, &[1; 4096]), START);
    host.handle_received(&data(GUESTS.0, &[2; 4096]), START);
    host.handle_received(&data(GUESTS.0, b"end"), START);
    let shown = |host: &Session, most: usize| {
        let mut runs = [IoSlice::new(b"none"); 8];
        let filled = host.received_runs(GUESTS, &mut runs[..most]);
        runs[..filled].iter().flat_map(|run| run.to_vec()).collect::<Vec<u8>>()
    };
    let whole = [&[1; 4096][..], &[2; 4096], b"end"].concat();
    assert_eq!(shown(&host, 8), whole);
    assert_eq!(shown(&host, 0), b"");
    let first = shown(&host, 1);
    assert!(!first.is_empty() && whole.starts_with(&first) && first.len() < whole.len());
    host.consume(GUESTS, 5000).unwrap();
    assert_eq!(shown(&host, 8), whole[5000..]);
    assert_eq!(host.received_runs(StreamId(99), &mut [IoSlice::new(&[]); 2]), 0);
}

#[test]
fn a_stream_is_heard_of_before_its_payload_is_lent() {
    let (mut host, _guest) = default_pair();
    let mut input = &data(GUESTS.0, b"first")[..];
    assert!(host.poll_received(&mut input, START).is_none());
    assert_eq!(events(&mut host), [Event::Opened(GUESTS), Event::Readable(GUESTS)]);
    assert_eq!(host.received(GUESTS), Ok(Received::Bytes(b"first")));
}

#[test]
fn a_taker_and_a_keeper_say_the_same_on_the_line_however_it_is_cut() {
    let line: Vec<u8> = (0..40u8)
        .flat_map(|i| data(GUESTS.0, &vec![i; usize::from(i) * 3 + 1]))
        .chain(frame(GUESTS.0, Word::Close.to_u32(), b""))
        .collect();
    for cut in [1, 7, 12, 13, 100, line.len()] {
        let (mut taker, mut keeper) = (host_with_stream(), host_with_stream());
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        let mut acked = [0, 0];
        for piece in line.chunks(cut) {
            let mut input = piece;
            while let Some(mut payload) = taker.poll_received(&mut input, START) {
                taken.extend_from_slice(payload.bytes());
                payload.consume(payload.bytes().len());
            }
            keeper.handle_received(piece, START);
            kept.extend(read_all(&mut keeper, GUESTS));
            for (host, acked) in [&mut taker, &mut keeper].into_iter().zip(&mut acked) {
                for (_, word, _) in frames(&take_all(host)) {
                    let Word::Ack(n) = Word::from_u32(word) else { panic!("{word:#x}") };
                    *acked += n;
                }
            }
        }
        assert_eq!((&taken, acked[0]), (&kept, acked[1]), "cut at {cut}");
        assert_eq!(acked[0] as usize, taken.len());
        assert_eq!(taker.received(GUESTS), Ok(Received::End));
        assert!(events(&mut taker).contains(&Event::Readable(GUESTS)), "the end is said, nothing else was");
    }
}

#[test]
fn a_window_counts_what_was_left_and_not_what_was_taken() {
    let config = |role| {
        let mut config = Config::new(role);
        (config.window, config.receive_buffer) = (1000, 1000);
        config
    };
    let (mut host, mut guest) = pair(config(Role::Host), config(Role::Guest));
    let id = host.open().unwrap();
    host.write(id, b"x").unwrap();
    settle(&mut host, &mut guest);
    events(&mut guest);
    read_all(&mut guest, id);
    settle(&mut host, &mut guest);
    host.write(id, &[7; 5000]).unwrap();
    let mut got = 0;
    for _ in 0..10 {
        let line = take_all(&mut host);
        let mut input = &line[..];
        while let Some(mut payload) = guest.poll_received(&mut input, START) {
            got += payload.bytes().len().min(300);
            payload.consume(300);
        }
        host.handle_received(&take_all(&mut guest), START);
    }
    assert_eq!((got, guest.received_len(id)), (300, 700), "a reader that leaves something stops its sender");
    while got < 5000 {
        got += read_all(&mut guest, id).len();
        settle(&mut host, &mut guest);
    }
    assert_eq!((got, guest.counters().discarded), (5000, 0));
}

#[test]
fn v1_lends_as_well_and_its_line_waits_for_what_was_left() {
    let mut config = Config::new(Role::Host);
    config.start = Start::V1;
    config.receive_buffer = 10;
    let mut host = Session::new(config, START).unwrap();
    let id = host.open().unwrap();
    events(&mut host);
    let line = v1(id.0, &[5; 30]);
    let mut input = &line[..];
    let mut payload = host.poll_received(&mut input, START).unwrap();
    assert_eq!(payload.bytes(), [5; 30]);
    payload.consume(25);
    drop(payload);
    assert_ne!(host.receive_window(), 0, "five are left of ten");
    let mut input = &v1(id.0, &[6; 5])[..];
    assert!(host.poll_received(&mut input, START).is_none());
    assert_eq!(host.receive_window(), 0);
    assert_eq!(read_all(&mut host, id), [5, 5, 5, 5, 5, 6, 6, 6, 6, 6]);
    assert_ne!(host.receive_window(), 0);
}

#[test]
fn nothing_is_lent_after_the_end() {
    let mut host = host_with_stream();
    let bytes = [frame(0, Word::Close.to_u32(), b""), data(GUESTS.0, b"late")].concat();
    let mut input = &bytes[..];
    assert!(host.poll_received(&mut input, START).is_none());
    assert!(input.is_empty(), "so that a loop over it ends");
}
