//! Every vector of the specification, byte for byte.

use vspc_core::mux::wire::{Message, Opening, Word, header};
use vspc_core::mux::{
    CloseReason, Config, Dialect, Event, Features, GoAwayCode, Hello, Received, Role, Session, Start,
    StreamId, Violation,
};
use vspc_core::time::Instant;

use crate::line::{
    GUEST, HOST, START, data, events, frame, guest_against, guest_hello, hex, host_against, host_hello,
    read_all, take_all,
};

/// A host's with the nonce 01020304, the answer of a guest with 05060708, and the answer of a v1 guest.
const HELLO: &str = "000000000000000000000018 4d555832 02 07 1000 00010000 0102030400000000 0000000c";
const ANSWER: &str = "000000000000000000000018 4d555832 02 07 1000 00010000 8506070801020304 0000000c";
const V1_ANSWER: &str = "0000000000000000 0000000c 0102030400000000 0000000c";

fn host_config() -> Config {
    Config { nonce: HOST, ..Config::new(Role::Host) }
}

fn guest_config() -> Config {
    Config { nonce: GUEST, ..Config::new(Role::Guest) }
}

/// A host whose HELLO has left.
fn calling() -> Session {
    let mut host = Session::new(host_config(), START).unwrap();
    assert_eq!(take_all(&mut host), hex(HELLO));
    host
}

fn answer(flags: u8) -> Opening {
    guest_hello(flags)
}

fn one() -> StreamId {
    StreamId(1)
}

#[test]
fn hello() {
    let hello = Hello { version: 2, features: Features::ALL, max_frame: 4096, window: 65536 };
    for (opening, want) in [
        (Opening { hello, sender: Role::Host, nonce: HOST, answers: 0 }, HELLO),
        (Opening { hello, sender: Role::Guest, nonce: GUEST, answers: HOST }, ANSWER),
    ] {
        assert_eq!(opening.encode()[..], hex(want));
        assert_eq!(Opening::decode(&hex(want)[12..]), Some(opening));
    }
    let mut host = calling();
    let mut guest = Session::new(guest_config(), START).unwrap();
    guest.handle_received(&hex(HELLO), START);
    assert_eq!(take_all(&mut guest), hex(ANSWER));
    host.handle_received(&hex(ANSWER), START);
    assert_eq!((host.dialect(), host.terms()), (Some(Dialect::S2), guest.terms()));
}

#[test]
fn words() {
    for (word, want) in [
        (Word::Ack(3), "0000000000000001 80000003"),
        (Word::Close, "0000000000000001 c0000000"),
        (Word::Request, "0000000000000001 c0000001"),
        (Word::Rewind, "0000000000000001 80000000"),
        (Word::Reset, "0000000000000001 c0000002"),
        (Word::Grow, "0000000000000001 c0000003"),
        (Word::Ack(0x3fff_ffff), "0000000000000001 bfffffff"),
        (Word::Data(3), "0000000000000001 00000003"),
        (Word::Empty, "0000000000000001 00000000"),
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
    let mut host = host_against(Config::new(Role::Host), answer(7));
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
    let mut host = host_against(Config::new(Role::Host), answer(7));
    host.handle_received(&hex("8000000000000001 00000001 78"), START);
    let id = StreamId(0x8000_0000_0000_0001);
    assert_eq!(events(&mut host), [Event::Opened(id), Event::Readable(id)]);
    assert_eq!(read_all(&mut host, id), b"x");
}

#[test]
fn a_guest_opens_with_bit_63() {
    let mut guest = guest_against(guest_config(), host_hello(HOST));
    let id = guest.open().unwrap();
    guest.write(id, b"x").unwrap();
    assert_eq!(take_all(&mut guest), hex("8000000000000001 00000001 78"));
    guest.open_announced().unwrap();
    assert_eq!(take_all(&mut guest), hex("8000000000000002 00000000"));
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
    let mut host = host_against(Config::new(Role::Host), answer(7));
    host.handle_received(&hex("0000000000000000 00000005 02 00000001"), START);
    assert_eq!(take_all(&mut host), hex("0000000000000000 00000005 03 00000001"));
}

#[test]
fn go_away_for_a_protocol_error_names_the_last_stream_accepted() {
    let mut guest = guest_against(Config { features: Features(4), ..guest_config() }, host_hello(HOST));
    guest.handle_received(&data(5, b"x"), START);
    guest.handle_received(&frame(5, 0x8000_0001, b""), START);
    assert_eq!(take_all(&mut guest), hex("0000000000000000 0000000b 04 0001 0000000000000005"));
    assert!(!guest.is_closed(), "the next host is heard");
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
        let mut host = host_against(Config::new(Role::Host), answer(5));
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
    // Window 256, frames of 64, the receiver's buffer 128, windowed.
    let mut a = Config::new(Role::Host);
    (a.max_frame, a.window, a.receive_buffer) = (64, 256, 256);
    let mut b = Config::new(Role::Guest);
    (b.max_frame, b.window, b.receive_buffer) = (64, 256, 128);
    let (mut a, mut b) = crate::line::pair(a, b);
    let id = a.open().unwrap();
    let frame = |letter: u8| [header(id, 64).to_vec(), vec![letter; 64]].concat();
    for letter in *b"abcd" {
        a.write(id, &[letter; 64]).unwrap();
    }
    a.finish(id).unwrap();
    let sent = take_all(&mut a);
    assert_eq!(sent, b"abcd".map(frame).concat());
    b.handle_received(&sent, START);
    assert_eq!(take_all(&mut b), b"", "still holds what it accepted");
    assert_eq!(read_all(&mut b, id), [[b'a'; 64], [b'b'; 64]].concat());
    let said = take_all(&mut b);
    assert_eq!(said, hex("0000000000000001 80000080 0000000000000001 c0000001"));
    a.handle_received(&said, START);
    // One frame, until it is known to fit.
    let again = take_all(&mut a);
    assert_eq!(again, [hex("0000000000000001 80000000"), frame(b'c')].concat());
    b.handle_received(&again, START);
    assert_eq!(read_all(&mut b, id), [b'c'; 64]);
    let said = take_all(&mut b);
    assert_eq!(said, hex("0000000000000001 80000040"));
    a.handle_received(&said, START);
    let rest = take_all(&mut a);
    assert_eq!(rest, frame(b'd'));
    b.handle_received(&rest, START);
    assert_eq!(read_all(&mut b, id), [b'd'; 64]);
    a.handle_received(&take_all(&mut b), START);
    let close = take_all(&mut a);
    assert_eq!(close, hex("0000000000000001 c0000000"));
    b.handle_received(&close, START);
    assert_eq!(b.received(id).unwrap(), Received::End);
    assert_eq!(a.counters().repeated, 128);
}

#[test]
fn v1_guest_answer_is_recognised_also_when_it_answers_twice() {
    for cut in 0..48 {
        let mut host = calling();
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
    let mut host = calling();
    host.handle_received(&hex(V1_ANSWER), START);
    assert!(matches!(host.poll_event(), Some(Event::Started(_))));
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
    let mut guest = Session::new(guest_config(), START).unwrap();
    guest.handle_received(
        &hex("000000000000000000000018 4d555832 00 07 1000 00010000 00000000000000000000000c"),
        START,
    );
    assert_eq!(take_all(&mut guest), hex("0000000000000000 0000000b 04 0003 0000000000000000"));
    assert_eq!(events(&mut guest).last(), Some(&Event::Closed(CloseReason::Version)));
    // A later version speaks this one too, and an earlier host, which had no nonce, is answered.
    let mut host = calling();
    host.handle_received(
        &hex("000000000000000000000018 4d555832 09 ff 0400 00000200 8506070801020304 0000000c"),
        START,
    );
    let terms = host.terms().unwrap();
    assert_eq!((terms.max_frame, terms.send_window, terms.features), (1024, 512, Features::ALL));
    let mut guest = Session::new(guest_config(), START).unwrap();
    guest.handle_received(
        &hex("000000000000000000000018 4d555832 01 07 1000 00010000 00000000000000000000000c"),
        START,
    );
    assert_eq!(guest.dialect(), Some(Dialect::S2));
}

#[test]
fn without_the_windowed_flag_on_both_sides_it_is_strict() {
    for (flags, window) in [(6, 0), (7, 65536)] {
        assert_eq!(host_against(Config::new(Role::Host), answer(flags)).terms().unwrap().send_window, window);
    }
}
