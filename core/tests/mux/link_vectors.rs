//! Every SL vector of the specification, byte for byte, and the rows of the connection's table.

use std::io::IoSlice;
use std::time::Duration;

use vspc_core::mux::link::frame::{Bad, EscapeSet, FLAG, Frame, FrameDecoder, FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkClosed, LinkConfig, LinkEvent, LinkState, Repeat};

use crate::line::{START, data, hex};

const SYN: &str = "7e4000000000000010a1b2c3d40200001024aba8f47e";
const SYNACK: &str = "7e41010000000000080102030401000008a1b2c3d465eb98947e";
const HELLO: &str = "7e420100000000001068656c6c6f7ddfdd89557e";
const ACK2: &str = "7e43010000000200107a5e477b7e";

fn encoded(kind: FrameType, seq: u16, ack: u16, window: u16, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, has_ack: kind != FrameType::Syn, seq, ack, window };
    let mut bytes = vec![FLAG];
    encode(&header, payload, &EscapeSet::serial(), &mut bytes);
    bytes
}

#[test]
fn frames() {
    let syn = hex("a1b2c3d4 0200 0010");
    let syn_ack = hex("01020304 0100 0008 a1b2c3d4");
    for (kind, seq, ack, window, payload, want) in [
        (FrameType::Syn, 0, 0, 16, syn, SYN),
        (FrameType::SynAck, 0, 0, 8, syn_ack, SYNACK),
        (FrameType::Data, 0, 0, 16, b"hello".to_vec(), HELLO),
        (FrameType::Data, 1, 0, 16, hex("7e7d1113ff"), "7e42010001000000107d5e7d5d7d317d337ddfab2b0c9b7e"),
        (FrameType::Ack, 0, 2, 16, vec![], ACK2),
        (FrameType::Nak, 0, 1, 16, vec![], "7e44010000000100106a29820c7e"),
        (FrameType::Sack, 0, 1, 14, hex("00000006"), "7e450100000001000e0000000637a207797e"),
        (FrameType::Ping, 0, 2, 16, hex("00000001"), "7e460100000002001000000001d2dd61307e"),
        (FrameType::Pong, 0, 2, 16, hex("00000001"), "7e470100000002001000000001e3acb5007e"),
        (FrameType::Fin, 2, 2, 16, vec![], "7e48010002000200107db3031b907e"),
        (FrameType::Rst, 0, 0, 0, hex("0001"), "7e49010000000000000001550b80197e"),
        (
            FrameType::Data,
            2,
            0,
            16,
            data(1, b"abc"),
            "7e4201000200000010000000000000000100000003616263e224639a7e",
        ),
    ] {
        assert_eq!(encoded(kind, seq, ack, window, &payload), hex(want), "{kind:?}");
        let bytes = hex(want);
        let (mut decoder, mut input) = (FrameDecoder::new(512), &bytes[..]);
        let Frame { header, payload: found } = decoder.decode(&mut input).unwrap().unwrap();
        assert_eq!((header.kind, header.seq, header.ack, header.window), (kind, seq, ack, window));
        assert_eq!(found, payload);
    }
}

#[test]
fn the_check_value_is_castagnolis() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn noise() {
    let mut line = hex("67617262616765 7e 420100000000001068656c 007e");
    line.extend(&hex(ACK2)[1..]);
    line.extend(hex("7e7e0102 7e"));
    line.extend(&encoded(FrameType::Data, 1, 0, 16, b"x")[1..]);
    let (mut decoder, mut input) = (FrameDecoder::new(512), &line[..]);
    let mut seen = Vec::new();
    while let Some(frame) = decoder.decode(&mut input) {
        seen.push(frame.map(|frame| (frame.header.kind, frame.payload.to_vec())));
    }
    let want = [
        Err(Bad::Checksum),
        Ok((FrameType::Ack, vec![])),
        Err(Bad::Short),
        Ok((FrameType::Data, b"x".to_vec())),
    ];
    assert_eq!(seen, want);
}

#[test]
fn an_abort_drops_the_frame() {
    let mut line = hex(HELLO);
    line.truncate(line.len() - 3);
    line.extend(hex("7d7e"));
    line.extend(&hex(HELLO)[1..]);
    let (mut decoder, mut input) = (FrameDecoder::new(512), &line[..]);
    assert_eq!(decoder.decode(&mut input), Some(Err(Bad::Aborted)));
    assert!(decoder.decode(&mut input).unwrap().is_ok());
}

/// What a link has to say now, opening flag restored.
fn say(link: &mut Link, now: vspc_core::time::Instant) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        let mut runs = [IoSlice::new(&[]); 1];
        if link.transmit(&mut runs) == 0 {
            return said;
        }
        let mut frame = runs[0].to_vec();
        if frame[0] != FLAG {
            frame.insert(0, FLAG);
        }
        let n = runs[0].len();
        link.handle_sent(n, now);
        said.push(frame);
    }
}

fn events(link: &mut Link) -> Vec<LinkEvent> {
    std::iter::from_fn(|| link.poll_event()).collect()
}

fn opener() -> Link {
    let mut config = LinkConfig::new(0xa1b2_c3d4);
    (config.max_payload, config.idle, config.max_timeouts) = (512, Duration::from_secs(5), 10);
    let mut link = Link::new(config);
    link.open(START);
    link
}

fn answerer() -> Link {
    let mut config = LinkConfig::new(0x0102_0304);
    config.window = 8;
    Link::new(config)
}

/// Opened against a peer the test plays.
fn open() -> Link {
    let mut link = opener();
    assert_eq!(say(&mut link, START), [hex(SYN)]);
    link.handle_received(&hex(SYNACK), START);
    assert_eq!(say(&mut link, START), [encoded(FrameType::Ack, 0, 0, 16, b"")]);
    assert_eq!(events(&mut link), [LinkEvent::Opened, LinkEvent::Writable]);
    link
}

#[test]
fn opening_from_both_sides_of_the_wire() {
    let link = open();
    assert_eq!(link.send_window(), 256, "the smaller of 512 and 256");
    let mut link = answerer();
    link.handle_received(&hex(SYN), START);
    assert_eq!(say(&mut link, START), [hex(SYNACK)]);
    assert_eq!((link.state(), events(&mut link)), (LinkState::SynReceived, vec![]));
    link.handle_received(&encoded(FrameType::Ack, 0, 0, 16, b""), START);
    assert_eq!(
        (link.state(), events(&mut link)),
        (LinkState::Open, vec![LinkEvent::Opened, LinkEvent::Writable])
    );
}

#[test]
fn syn_is_said_after_1_2_4_8_and_8_seconds() {
    let mut link = opener();
    let mut now = START;
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(say(&mut link, now), [hex(SYN)]);
        let due = link.poll_timeout().unwrap();
        waits.push(due.duration_since(now).as_secs());
        now = due;
        link.handle_timeout(now);
    }
    assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
}

#[test]
fn both_at_once() {
    let (mut a, mut b) = (opener(), answerer());
    b.open(START);
    let (from_a, from_b) = (say(&mut a, START).concat(), say(&mut b, START).concat());
    a.handle_received(&from_b, START);
    b.handle_received(&from_a, START);
    for _ in 0..3 {
        let (from_a, from_b) = (say(&mut a, START).concat(), say(&mut b, START).concat());
        a.handle_received(&from_b, START);
        b.handle_received(&from_a, START);
    }
    assert_eq!((a.state(), b.state()), (LinkState::Open, LinkState::Open));
    assert!(say(&mut a, START).is_empty() && say(&mut b, START).is_empty());
}

#[test]
fn a_syn_ack_for_another_nonce_is_ignored() {
    let mut link = opener();
    say(&mut link, START);
    link.handle_received(&encoded(FrameType::SynAck, 0, 0, 8, &hex("01020304 0100 0008 a1b2c3d5")), START);
    assert_eq!(link.state(), LinkState::SynSent);
    link.handle_received(&encoded(FrameType::Data, 0, 0, 8, b"x"), START);
    assert_eq!((link.state(), link.received()), (LinkState::SynSent, &b""[..]));
}

#[test]
fn a_syn_again_is_answered_again_and_a_new_one_starts_over() {
    let mut link = answerer();
    link.handle_received(&hex(SYN), START);
    link.handle_received(&hex(HELLO), START);
    say(&mut link, START);
    events(&mut link);
    link.handle_received(&hex(SYN), START);
    let answer = hex("01020304 0100 0008 a1b2c3d4");
    assert_eq!(say(&mut link, START), [encoded(FrameType::SynAck, 0, 1, 7, &answer)]);
    assert_eq!((link.received().to_vec(), events(&mut link)), (b"hello".to_vec(), vec![]), "the same start");
    link.handle_received(&encoded(FrameType::Syn, 0, 0, 16, &hex("a1b2c3d5 0200 0010")), START);
    assert_eq!(events(&mut link), [LinkEvent::Restarted, LinkEvent::Writable]);
    assert_eq!(link.received(), b"");
    assert_eq!(
        say(&mut link, START),
        [encoded(FrameType::SynAck, 0, 0, 8, &hex("01020304 0100 0008 a1b2c3d5"))]
    );
    link.handle_received(&hex(HELLO), START);
    assert_eq!(link.received(), b"hello");
}

#[test]
fn data_is_delivered_in_order_and_acked() {
    let mut link = open();
    link.handle_received(&hex(HELLO), START);
    assert_eq!((link.received().to_vec(), events(&mut link)), (b"hello".to_vec(), vec![LinkEvent::Readable]));
    assert_eq!(say(&mut link, START), Vec::<Vec<u8>>::new(), "within 50 ms");
    link.handle_received(&encoded(FrameType::Data, 1, 0, 16, b" you"), START);
    assert_eq!(link.received(), b"hello you");
    link.consume(9);
    assert_eq!(say(&mut link, START), [hex(ACK2)]);
}

#[test]
fn a_gap_is_answered_in_the_receivers_own_way() {
    for (repeat, want) in [
        (Repeat::Selective, encoded(FrameType::Sack, 0, 1, 16, &hex("00000002"))),
        (Repeat::GoBackN, hex("7e44010000000100106a29820c7e")),
    ] {
        let mut config = LinkConfig::new(0xa1b2_c3d4);
        config.repeat = repeat;
        let mut link = Link::new(config);
        link.open(START);
        link.handle_received(&hex(SYNACK), START);
        link.handle_received(&hex(HELLO), START);
        link.consume(5);
        say(&mut link, START);
        link.handle_received(&encoded(FrameType::Data, 3, 0, 16, b"d"), START);
        assert_eq!(say(&mut link, START), [want]);
    }
}

#[test]
fn frames_that_come_back_are_not_taken_for_the_peers() {
    let (mut a, mut b) = (opener(), answerer());
    let pass = |from: &mut Link, to: &mut Link| {
        let said = say(from, START).concat();
        to.handle_received(&said, START);
        said
    };
    for _ in 0..3 {
        pass(&mut a, &mut b);
        pass(&mut b, &mut a);
    }
    for end in [&mut a, &mut b] {
        assert_eq!(end.state(), LinkState::Open);
        end.write(b"hello");
    }
    let (from_a, from_b) = (pass(&mut a, &mut b), pass(&mut b, &mut a));
    for (end, echo) in [(&mut a, from_a), (&mut b, from_b)] {
        assert_eq!(end.received(), b"hello");
        // The same numbers in both directions: only the mark tells whose the second frame is.
        end.write(b" you");
        let more = say(end, START).concat();
        end.handle_received(&echo, START);
        end.handle_received(&more, START);
        assert_eq!(end.received(), b"hello");
        assert!(end.counters().echoes >= 2, "{:?}", end.counters());
    }
}

#[test]
fn ping_is_answered_and_silence_is_asked_about_three_times() {
    let mut link = open();
    link.handle_received(&encoded(FrameType::Ping, 0, 0, 16, &hex("00000001")), START);
    assert_eq!(say(&mut link, START), [encoded(FrameType::Pong, 0, 0, 16, &hex("00000001"))]);
    let mut now = START;
    let mut pings = 0;
    while let Some(due) = link.poll_timeout() {
        now = due;
        link.handle_timeout(now);
        pings += say(&mut link, now).len();
    }
    assert_eq!((pings, now), (3, START + Duration::from_secs(20)));
    assert_eq!(events(&mut link), [LinkEvent::Closed(LinkClosed::Silent)]);
}

#[test]
fn closing_in_good_order_and_again_when_the_last_ack_is_lost() {
    let mut link = open();
    link.write(b"bye");
    link.finish();
    let said = say(&mut link, START);
    assert_eq!(said, [encoded(FrameType::Data, 0, 0, 16, b"bye"), encoded(FrameType::Fin, 1, 0, 16, b"")]);
    link.handle_received(&encoded(FrameType::Fin, 0, 2, 16, b""), START);
    assert_eq!(link.state(), LinkState::Done);
    let last = LinkEvent::Closed(LinkClosed::Done);
    assert_eq!(events(&mut link), [LinkEvent::Ended, last], "nothing to write any more");
    let ack = [encoded(FrameType::Ack, 0, 1, 16, b"")];
    assert_eq!(say(&mut link, START), ack);
    link.handle_received(&encoded(FrameType::Fin, 0, 2, 16, b""), START);
    assert_eq!(say(&mut link, START), ack);
}

#[test]
fn rst_ends_it_at_once_and_a_closed_link_says_so() {
    let mut link = open();
    link.handle_received(&hex("7e49010000000000000001550b80197e"), START);
    assert_eq!(
        (link.state(), events(&mut link)),
        (LinkState::Closed, vec![LinkEvent::Closed(LinkClosed::Reset(1))])
    );
    link.handle_received(&hex(HELLO), START);
    assert_eq!(say(&mut link, START), [hex("7e49010000000000000001550b80197e")]);
    let mut link = open();
    link.reset(7);
    assert_eq!(say(&mut link, START), [encoded(FrameType::Rst, 0, 0, 0, &[0, 7])]);
}

#[test]
fn a_dead_line_is_given_up_after_ten_time_outs() {
    let mut link = open();
    link.write(b"anyone?");
    let mut now = START;
    let mut sent = 0;
    while link.state() == LinkState::Open {
        sent += say(&mut link, now).iter().filter(|frame| frame[1] == 0x42).count();
        // Signs of life without progress: the PINGs do not give up first.
        link.handle_received(&encoded(FrameType::Pong, 0, 0, 16, &[0; 4]), now);
        now = link.poll_timeout().unwrap();
        link.handle_timeout(now);
    }
    assert_eq!(sent, 10);
    assert_eq!(events(&mut link).last(), Some(&LinkEvent::Closed(LinkClosed::TimedOut)));
}
