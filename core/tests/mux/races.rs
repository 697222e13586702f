//! Things that cross on the line: leaving and beginning anew, giving up and going on, opening and being
//! refused.

use vspc_core::mux::link::frame::{FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig, LinkState};
use vspc_core::mux::wire::{Message, Opening, Word};
use vspc_core::mux::{
    Config, Event, GoAwayCode, OpenError, ResetReason, Role, Session, StreamError, StreamId,
};

use crate::line::{
    Chance, GUEST, HOST, START, data, events, frame, frames, guest_hello, host_against, pair, seeds, settle,
    take_all,
};

const GUESTS: u64 = 1 | StreamId::GUEST_BIT;

fn host() -> Session {
    host_against(Config::new(Role::Host), guest_hello(7))
}

/// Another guest answers.
fn anew() -> Vec<u8> {
    Opening { nonce: GUEST + 1, ..guest_hello(7) }.encode().to_vec()
}

fn message(message: Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fn away(last: u64) -> Vec<u8> {
    message(Message::GoAway { code: GoAwayCode::Normal, last: StreamId(last) })
}

/// The messages of stream 0 among what is said.
fn said_messages(host: &mut Session) -> Vec<Message> {
    frames(&take_all(host))
        .iter()
        .filter(|f| f.0 == StreamId::SESSION)
        .map(|f| Message::decode(&f.2))
        .collect()
}

#[test]
fn a_reader_that_goes_in_the_middle_of_a_frame_holds_nobody_up() {
    for features in [7, 5, 4] {
        let mut host = host_against(Config::new(Role::Host), guest_hello(features));
        let bytes = data(GUESTS, &[1; 1000]);
        host.handle_received(&bytes[..500], START);
        host.stop_reading(StreamId(GUESTS)).unwrap();
        host.handle_received(&bytes[500..], START);
        assert_eq!(host.received_len(StreamId(GUESTS)), 0, "nobody wants it");
        let acked: u32 = frames(&take_all(&mut host))
            .iter()
            .map(|f| if let Word::Ack(n) = Word::from_u32(f.1) { n } else { 0 })
            .sum();
        assert_eq!(acked, 1000, "the peer could not close otherwise");
        host.handle_received(&frame(GUESTS, Word::Close.to_u32(), b""), START);
        host.finish(StreamId(GUESTS)).unwrap();
        take_all(&mut host);
        assert_eq!(events(&mut host).last(), Some(&Event::Retired(StreamId(GUESTS))));
        assert_eq!((host.stream_count(), host.counters().discarded), (0, 1000));
    }
}

#[test]
fn a_peer_that_went_away_and_began_anew_is_there_again() {
    let mut host = host();
    host.handle_received(&away(0), START);
    assert_eq!(host.open(), Err(OpenError::GoingAway));
    host.handle_received(&anew(), START);
    assert!(matches!(events(&mut host)[..], [Event::Restarted(_)]), "what the one before said is void");
    assert!(host.open().is_ok());
}

#[test]
fn a_peer_that_began_anew_is_told_again_that_this_side_goes_away() {
    let mut host = host();
    host.go_away();
    assert!(matches!(said_messages(&mut host)[..], [Message::GoAway { .. }]));
    host.handle_received(&message(Message::Pong(1)), START);
    host.handle_received(&anew(), START);
    assert!(matches!(said_messages(&mut host)[..], [Message::GoAway { .. }]));
    assert_eq!(host.open(), Err(OpenError::GoingAway));
}

#[test]
fn going_away_before_anybody_answered_is_said_to_who_does() {
    let mut host = Session::new(Config { nonce: HOST, ..Config::new(Role::Host) }, START).unwrap();
    host.go_away();
    assert_eq!(take_all(&mut host).len(), 36, "who does not speak S2 yet is told nothing");
    host.handle_received(&anew(), START);
    assert!(matches!(said_messages(&mut host)[..], [Message::GoAway { code: GoAwayCode::Normal, .. }]));
}

#[test]
fn go_away_names_the_last_stream_that_was_accepted_whatever_comes_before_it_leaves() {
    let mut host = host();
    host.handle_received(&data(GUESTS, b"x"), START);
    host.go_away();
    // It crosses what is still in the queue here.
    host.handle_received(&data(GUESTS + 1, b"x"), START);
    let said = frames(&take_all(&mut host));
    assert_eq!(
        Message::decode(&said[0].2),
        Message::GoAway { code: GoAwayCode::Normal, last: StreamId(GUESTS) }
    );
    assert_eq!((said[1].0, said[1].1), (StreamId(GUESTS + 1), Word::Reset.to_u32()));
}

#[test]
fn a_second_go_away_takes_nothing_back() {
    let mut host = host();
    let id = host.open().unwrap();
    host.write(id, b"x").unwrap();
    host.handle_received(&[away(id.0), away(0)].concat(), START);
    assert_eq!(events(&mut host), [Event::GoingAway { code: GoAwayCode::Normal, last: id }]);
    assert_eq!(host.stream_count(), 1);
}

#[test]
fn an_id_comes_again_before_the_end_of_its_first_life_was_polled() {
    let mut host = host();
    host.handle_received(&data(GUESTS, b"old"), START);
    let anew = [anew(), data(GUESTS, b"new")].concat();
    host.handle_received(&anew, START);
    assert_eq!(frames(&take_all(&mut host))[0].1, Word::Reset.to_u32(), "refused: its owner knows another");
    let said = events(&mut host);
    assert!(said.contains(&Event::Reset(StreamId(GUESTS), ResetReason::Restarted)), "{said:?}");
    assert_eq!(host.stream_count(), 0);
    host.handle_received(&data(GUESTS, b"new"), START);
    assert_eq!(host.received_len(StreamId(GUESTS)), 3, "the next attempt finds the number free");
    host.reset(StreamId(GUESTS)).unwrap();
    events(&mut host);
    take_all(&mut host);
    assert_eq!(host.stream_count(), 0, "and no entry is lost");
}

#[test]
fn a_stream_that_opens_with_close_and_is_refused_does_not_wait_for_ever() {
    for (features, answer) in [(7, Word::Reset), (5, Word::Close)] {
        let mut config = Config::new(Role::Host);
        config.max_peer_streams = 0;
        let mut host = host_against(config, guest_hello(features));
        for _ in 0..3 {
            host.handle_received(&frame(GUESTS, Word::Close.to_u32(), b""), START);
        }
        assert_eq!(frames(&take_all(&mut host)), [(StreamId(GUESTS), answer.to_u32(), vec![])]);
    }
}

#[test]
fn streams_that_were_never_spoken_of_are_given_up_aloud_and_their_numbers_with_them() {
    let (mut host, mut guest) = pair(Config::new(Role::Host), Config::new(Role::Guest));
    for _ in 0..10_000 {
        let id = host.open().unwrap();
        host.write(id, b"x").unwrap();
        host.reset(id).unwrap();
        assert_eq!(events(&mut host), [Event::Reset(id, ResetReason::Local)]);
        let said = take_all(&mut host);
        assert_eq!(
            frames(&said),
            [(id, Word::Reset.to_u32(), vec![])],
            "it may have been announced elsewhere"
        );
        guest.handle_received(&said, START);
        assert_eq!(guest.attach(id), Err(OpenError::Used));
    }
    assert_eq!((host.stream_count(), guest.stream_count(), guest.has_output()), (0, 0, false));
}

#[test]
fn resets_wait_for_the_line_in_their_streams_places() {
    let mut host = host();
    let mut count = 0;
    while let Ok(id) = host.open() {
        host.reset(id).unwrap();
        events(&mut host);
        count += 1;
    }
    assert_eq!((count, host.stream_count()), (256, 256), "and nobody knows them any more");
    assert_eq!(host.write(StreamId(1), b"x"), Err(StreamError::Unknown));
    assert_eq!(host.received(StreamId(1)), Err(StreamError::Unknown));
    assert_eq!(frames(&take_all(&mut host)).len(), 256);
    assert_eq!(host.stream_count(), 0);
}

#[test]
fn both_reset_while_both_send() {
    let (mut host, mut guest) = pair(Config::new(Role::Host), Config::new(Role::Guest));
    let id = host.open().unwrap();
    host.write(id, &[1; 10_000]).unwrap();
    settle(&mut host, &mut guest);
    guest.write(id, &[2; 10_000]).unwrap();
    let there = [take_all(&mut guest), data(id.0, b"late")].concat();
    host.reset(id).unwrap();
    guest.reset(id).unwrap();
    host.handle_received(&there, START);
    settle(&mut host, &mut guest);
    events(&mut host);
    events(&mut guest);
    assert_eq!((host.stream_count(), guest.stream_count()), (0, 0));
    assert!(host.terms().is_some() && !host.is_closed() && !guest.is_closed());
}

#[test]
fn a_rst_for_the_link_before_does_not_close_the_one_that_opens() {
    let config = LinkConfig::new(7);
    let mut bytes = vec![0x7e];
    let header = Header { kind: FrameType::Rst, has_ack: true, seq: 0, ack: 0, window: 0 };
    encode(&header, &[0, 1], &config.escapes, &mut bytes);
    let mut link = Link::new(config);
    link.open(START);
    link.handle_received(&bytes, START);
    assert_eq!((link.state(), link.poll_event()), (LinkState::SynSent, None));
}

/// A host that is made anew again and again, in front of a guest that is not, both with streams in every
/// state.
#[test]
fn whoever_begins_anew_finds_a_table_without_ghosts() {
    for seed in seeds(2000) {
        let mut chance = Chance(seed);
        let config = |role, nonce| {
            let mut config = Config::new(role);
            (config.max_streams, config.window, config.receive_buffer) = (8, 300, 300);
            config.nonce = nonce;
            config
        };
        let mut guest = Session::new(config(Role::Guest, 1), START).unwrap();
        let mut leftovers = Vec::new();
        for life in 0..4 {
            let mut host = Session::new(config(Role::Host, 2 + life), START).unwrap();
            host.handle_received(&leftovers, START);
            settle(&mut host, &mut guest);
            assert!(host.terms().is_some() && guest.terms().is_some(), "SEED={seed} life {life}");
            // What it opened before is gone at the guest as soon as that has looked.
            events(&mut guest);
            assert_eq!(guest.stream_count(), 0, "SEED={seed} life {life}");
            for _ in 0..chance.below(60) {
                let (one, other) =
                    if chance.one_in(2) { (&mut host, &mut guest) } else { (&mut guest, &mut host) };
                let id =
                    StreamId((1 + chance.below(6)) | if chance.one_in(2) { StreamId::GUEST_BIT } else { 0 });
                match chance.below(10) {
                    0 | 1 => drop(one.open()),
                    2 | 3 => drop(one.write(id, &vec![1; chance.size(500) as usize])),
                    4 => drop(one.consume(id, chance.size(400) as usize)),
                    5 => drop(one.finish(id)),
                    6 if chance.one_in(4) => drop(one.reset(id)),
                    6 if chance.one_in(20) => host.go_away(),
                    7 => drop(events(one)),
                    _ => other.handle_received(&take_all(one), START),
                }
                let known = [&host, &guest].map(Session::stream_count);
                assert!(known[0] <= 16 && known[1] <= 16, "SEED={seed}");
            }
            // Frames end; what the guest says into the dark reaches the next one.
            guest.handle_received(&take_all(&mut host), START);
            leftovers = take_all(&mut guest);
            leftovers.truncate(chance.below(leftovers.len() as u64 + 1) as usize);
            if guest.is_closed() {
                break;
            }
        }
        assert_eq!(guest.counters().malformed, 0, "SEED={seed}");
    }
}
