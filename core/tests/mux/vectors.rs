//! Every vector of the specification, byte for byte.

use vspc_core::mux::wire::{Message, Word, header};
use vspc_core::mux::{
    CloseReason, Config, Dialect, Event, Features, GoAwayCode, Hello, Received, Role, Session, Start,
    StreamId, Violation,
};
use vspc_core::time::Instant;

use crate::line::{START, data, events, frame, hex, host_against, read_all, take_all};

const HELLO: &str = "000000000000000000000018 4d555832 01 07 1000 00010000 00000000000000000000000c";
const V1_ANSWER: &str = "0000000000000000 0000000c 0000000000000000 0000000c";

fn one() -> StreamId {
    StreamId(1)
}

#[test]
fn hello() {
    let hello = Hello { version: 1, features: Features::ALL, max_frame: 4096, window: 65536 };
    assert_eq!(hello.encode()[..], hex(HELLO));
    assert_eq!(Hello::decode(&hex(HELLO)[12..]), Some(hello));
    let mut host = Session::new(Config::new(Role::Host), START).unwrap();
    assert_eq!(take_all(&mut host), hex(HELLO));
}

#[test]
fn words() {
    for (word, want) in [
        (Word::Ack(3), "0000000000000001 80000003"),
        (Word::Close, "0000000000000001 c0000000"),
        (Word::Request, "0000000000000001 c0000001"),
        (Word::Rewind, "0000000000000001 80000000"),
        (Word::Reset, "0000000000000001 c0000002"),
        (Word::Ack(0x3fff_ffff), "0000000000000001 bfffffff"),
        (Word::Data(3), "0000000000000001 00000003"),
    ] {
        assert_eq!(header(one(), word.to_u32())[..], hex(want));
    }
}

#[test]
fn messages() {
    for (message, want) in [
        (Message::Ping(1), "0000000000000000 00000005 02 00000001"),
        (Message::Pong(1), "0000000000000000 00000005 03 00000001"),
        (
            Message::GoAway { code: GoAwayCode::ProtocolError, last: StreamId(5) },
            "0000000000000000 0000000b 04 0001 0000000000000005",
        ),
    ] {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(bytes, hex(want));
    }
}

#[test]
fn data_ack_close_between_a_host_and_a_hand_written_guest() {
    let mut host = host_against(Config::new(Role::Host), HELLO);
    let id = host.open().unwrap();
    host.write(id, b"abc").unwrap();
    host.finish(id).unwrap();
    assert_eq!(take_all(&mut host), hex("0000000000000001 00000003 616263"));
    host.handle_received(&hex("0000000000000001 80000003"), START);
    assert_eq!(take_all(&mut host), hex("0000000000000001 c0000000"));
    host.handle_received(&hex("0000000000000001 00000001 78 0000000000000001 c0000000"), START);
    assert_eq!(host.received(id).unwrap(), Received::Bytes(b"x"));
    host.consume(id, 1).unwrap();
    assert_eq!(take_all(&mut host), hex("0000000000000001 80000001"));
    assert_eq!(events(&mut host), [Event::Readable(id), Event::Retired(id)]);
}

#[test]
fn a_stream_the_guest_opened() {
    let mut host = host_against(Config::new(Role::Host), HELLO);
    host.handle_received(&hex("8000000000000001 00000001 78"), START);
    let id = StreamId(0x8000_0000_0000_0001);
    assert_eq!(events(&mut host), [Event::Opened(id), Event::Readable(id)]);
    assert_eq!(read_all(&mut host, id), b"x");
}

#[test]
fn a_guest_opens_with_bit_63() {
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.handle_received(&hex(HELLO), START);
    assert_eq!(take_all(&mut guest), hex(HELLO));
    let id = guest.open().unwrap();
    guest.write(id, b"x").unwrap();
    assert_eq!(take_all(&mut guest), hex("8000000000000001 00000001 78"));
}

#[test]
fn a_guest_is_silent_until_spoken_to() {
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    let id = guest.open().unwrap();
    guest.write(id, b"early").unwrap();
    assert!(!guest.has_output());
    assert_eq!(take_all(&mut guest), b"");
}

#[test]
fn ping_is_answered_with_its_token() {
    let mut host = host_against(Config::new(Role::Host), HELLO);
    host.handle_received(&hex("0000000000000000 00000005 02 00000001"), START);
    assert_eq!(take_all(&mut host), hex("0000000000000000 00000005 03 00000001"));
}

#[test]
fn go_away_for_a_protocol_error_names_the_last_stream_accepted() {
    let hello = "000000000000000000000018 4d555832 01 04 1000 00010000 00000000000000000000000c";
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.handle_received(&hex(hello), START);
    take_all(&mut guest);
    guest.handle_received(&data(5, b"x"), START);
    guest.handle_received(&frame(5, 0x8000_0001, b""), START);
    assert_eq!(take_all(&mut guest), hex("0000000000000000 0000000b 04 0001 0000000000000005"));
    assert!(guest.is_closed());
    let closed = Event::Closed(CloseReason::Violation(Violation::AckBeyondOutstanding));
    assert_eq!(events(&mut guest).last(), Some(&closed));
}

#[test]
fn invalid_words() {
    for (word, want) in [
        ("00000000", None),
        ("40000000", Some(Violation::UndefinedWord)),
        ("7fffffff", Some(Violation::UndefinedWord)),
        ("c0000003", Some(Violation::ReservedWord)),
        ("ffffffff", Some(Violation::ReservedWord)),
    ] {
        let hello = "000000000000000000000018 4d555832 01 05 1000 00010000 00000000000000000000000c";
        let mut host = host_against(Config::new(Role::Host), hello);
        host.handle_received(&hex(&format!("0000000000000001 {word}")), START);
        match want {
            None => {
                assert_eq!((take_all(&mut host).len(), host.is_closed()), (0, false));
                assert_eq!(host.counters().malformed, 1);
            }
            Some(violation) => {
                assert_eq!(take_all(&mut host), hex("0000000000000000 0000000b 04 0001 0000000000000000"));
                assert_eq!(events(&mut host), [Event::Closed(CloseReason::Violation(violation))]);
                assert!(host.is_closed());
            }
        }
    }
}

#[test]
fn the_discard_episode() {
    // Window 64, frames of 4, the receiver's buffer 8, windowed.
    let mut a = Config::new(Role::Host);
    (a.max_frame, a.window, a.receive_buffer) = (4, 64, 64);
    let mut b = Config::new(Role::Guest);
    (b.max_frame, b.window, b.receive_buffer) = (4, 64, 8);
    let (mut a, mut b) = crate::line::pair(a, b);
    let id = a.open().unwrap();
    a.write(id, b"aaaabbbbccccdddd").unwrap();
    a.finish(id).unwrap();
    let four =
        ["61616161", "62626262", "63636363", "64646464"].map(|p| format!("0000000000000001 00000004 {p}"));
    let sent = take_all(&mut a);
    assert_eq!(sent, hex(&four.concat()));
    b.handle_received(&sent, START);
    assert_eq!(take_all(&mut b), b"", "still holds what it accepted");
    assert_eq!(read_all(&mut b, id), b"aaaabbbb");
    // The reader took it in two pieces? One: ACK 8, then REQUEST.
    let said = take_all(&mut b);
    assert_eq!(said, hex("0000000000000001 80000008 0000000000000001 c0000001"));
    a.handle_received(&said, START);
    let again = take_all(&mut a);
    assert_eq!(again, hex(&format!("0000000000000001 80000000 {} {}", four[2], four[3])));
    b.handle_received(&again, START);
    assert_eq!(read_all(&mut b, id), b"ccccdddd");
    let said = take_all(&mut b);
    assert_eq!(said, hex("0000000000000001 80000008"));
    a.handle_received(&said, START);
    let close = take_all(&mut a);
    assert_eq!(close, hex("0000000000000001 c0000000"));
    b.handle_received(&close, START);
    assert_eq!(b.received(id).unwrap(), Received::End);
    assert_eq!(a.counters().repeated, 8);
}

#[test]
fn v1_guest_answer_is_recognised_also_when_it_answers_twice() {
    for cut in 0..48 {
        let mut host = Session::new(Config::new(Role::Host), START).unwrap();
        take_all(&mut host);
        host.handle_timeout(Instant::from_micros(1_000_000));
        assert_eq!(take_all(&mut host), hex(HELLO), "said again after a second");
        let answers = hex(&format!("{V1_ANSWER} {V1_ANSWER}"));
        host.handle_received(&answers[..cut], START);
        host.handle_received(&answers[cut..], START);
        assert_eq!(host.dialect(), Some(Dialect::V1));
        assert_eq!(take_all(&mut host), b"");
        assert!(matches!(events(&mut host)[..], [Event::Started(_)]));
    }
}

#[test]
fn v1_host_messages() {
    let mut host = host_against(Config::new(Role::Host), V1_ANSWER);
    let (stdio, stderr) = (host.open().unwrap(), host.open().unwrap());
    host.write(stdio, b"abc").unwrap();
    assert_eq!(take_all(&mut host), hex("0000000000000001 0000000f 616263"));
    host.finish(stdio).unwrap();
    assert_eq!(take_all(&mut host), hex("0000000000000001 0000000c"));
    host.handle_received(
        &hex("0000000000000001 00000011 68656c6c6f 0000000000000002 00000010 6f6f7073"),
        START,
    );
    assert_eq!(read_all(&mut host, stdio), b"hello");
    assert_eq!(read_all(&mut host, stderr), b"oops");
    events(&mut host);
    host.handle_received(&hex("0000000000000001 0000000c"), START);
    assert_eq!(events(&mut host), [Event::Readable(stdio), Event::Retired(stdio)]);
    // No end is ever said on stderr; the owner forgets it without a word.
    host.reset(stderr).unwrap();
    assert_eq!(take_all(&mut host), b"");
}

#[test]
fn v1_exit_code_up_to_api_4242() {
    for (message, code) in [("0000000d 07", 7), ("0000000e 0708", 255)] {
        let mut config = Config::new(Role::Host);
        config.start = Start::V1;
        config.v1.api = 4242;
        let mut host = Session::new(config, START).unwrap();
        let id = host.open().unwrap();
        host.handle_received(&hex("0000000000000001 0000000c"), START);
        host.handle_received(&hex(&format!("0000000000000001 {message}")), START);
        let said = events(&mut host);
        assert_eq!(said[1..], [Event::Readable(id), Event::Exited(id, code), Event::Retired(id)]);
    }
}

#[test]
fn v1_guest_says_the_exit_code_after_the_end() {
    let mut config = Config::new(Role::Guest);
    config.start = Start::V1;
    config.v1.api = 4242;
    let mut guest = Session::new(config, START).unwrap();
    guest.attach(one()).unwrap();
    guest.write(one(), b"hello").unwrap();
    guest.exit(one(), 7).unwrap();
    assert_eq!(
        take_all(&mut guest),
        hex("0000000000000001 00000011 68656c6c6f 0000000000000001 0000000c 0000000000000001 0000000d 07")
    );
    assert_eq!(events(&mut guest).last(), Some(&Event::Retired(one())));
}

#[test]
fn v1_guest_says_goodbye_on_a_stream_it_does_not_know() {
    let mut config = Config::new(Role::Guest);
    config.start = Start::V1;
    let mut guest = Session::new(config, START).unwrap();
    guest.handle_received(&hex("0000000000000063 0000000f 616263"), START);
    assert_eq!(take_all(&mut guest), hex("0000000000000063 0000000c"));
    // And so it answers a HELLO as every v1 guest does.
    guest.handle_received(&hex(HELLO), START);
    assert_eq!(take_all(&mut guest), hex(V1_ANSWER));
}

#[test]
fn v1_header_in_pieces() {
    let mut config = Config::new(Role::Guest);
    config.start = Start::V1;
    let mut guest = Session::new(config, START).unwrap();
    guest.attach(one()).unwrap();
    for piece in ["0000000000000001", "0000000e68", "69"] {
        guest.handle_received(&hex(piece), START);
    }
    assert_eq!(read_all(&mut guest, one()), b"hi");
}

#[test]
fn a_guest_finds_out_a_v1_host() {
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.attach(one()).unwrap();
    guest.handle_received(&hex("0000000000000001 0000000f 616263"), START);
    assert_eq!(guest.dialect(), Some(Dialect::V1));
    assert_eq!(read_all(&mut guest, one()), b"abc");
    guest.write(one(), b"ok").unwrap();
    assert_eq!(take_all(&mut guest), hex("0000000000000001 0000000e 6f6b"));
}

#[test]
fn a_peer_without_a_common_version_is_told() {
    let mut guest = Session::new(Config::new(Role::Guest), START).unwrap();
    guest.handle_received(
        &hex("000000000000000000000018 4d555832 00 07 1000 00010000 00000000000000000000000c"),
        START,
    );
    let said = take_all(&mut guest);
    assert_eq!(said[said.len() - 23..], hex("0000000000000000 0000000b 04 0003 0000000000000000"));
    assert_eq!(events(&mut guest).last(), Some(&Event::Closed(CloseReason::Version)));
    // A later version speaks this one too.
    let host = host_against(
        Config::new(Role::Host),
        "000000000000000000000018 4d555832 09 ff 0400 00000200 00000000000000000000000c",
    );
    let terms = host.terms().unwrap();
    assert_eq!((terms.max_frame, terms.send_window, terms.features), (1024, 512, Features::ALL));
}

#[test]
fn without_the_windowed_flag_on_both_sides_it_is_strict() {
    for (flags, window) in [("06", 0), ("07", 65536)] {
        let hello =
            format!("000000000000000000000018 4d555832 01 {flags} 1000 00010000 00000000000000000000000c");
        assert_eq!(host_against(Config::new(Role::Host), &hello).terms().unwrap().send_window, window);
    }
}
