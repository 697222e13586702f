//! The decoder alone: items from bytes, however these are cut.

use quickcheck::{TestResult, quickcheck};

use super::*;
use crate::telnet::{escape_into, guest_slices, put_subnegotiation};

/// An item that outlives its input, data merged with the data before it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Data(Vec<u8>),
    Command(Command),
    Negotiation(Verb, Opt),
    Subnegotiation(Opt, Vec<u8>),
    Malformed(Malformed),
}

fn guest(run: WireRun<'_>) -> Vec<u8> {
    let guest: Vec<u8> = guest_slices(run.bytes).flatten().copied().collect();
    assert_eq!(guest.len(), run.guest_len());
    let mut again = Vec::new();
    escape_into(&guest, &mut again);
    assert_eq!(again, run.bytes, "not whole pairs only");
    guest
}

fn keep<D>(items: &mut Vec<Owned>, item: Item<'_, D>, guest: impl Fn(D) -> Vec<u8>) {
    let data = match item {
        Item::Data(data) => guest(data),
        Item::Command(command) => return items.push(Owned::Command(command)),
        Item::Negotiation(verb, opt) => return items.push(Owned::Negotiation(verb, opt)),
        Item::Subnegotiation(opt, body) => {
            assert!(body.len() <= SUBNEGOTIATION_LIMIT);
            return items.push(Owned::Subnegotiation(opt, body.to_vec()));
        }
        Item::Malformed(malformed) => return items.push(Owned::Malformed(malformed)),
    };
    assert!(!data.is_empty());
    match items.last_mut() {
        Some(Owned::Data(before)) => before.extend(data),
        _ => items.push(Owned::Data(data)),
    }
}

fn check(decoder: &Decoder) {
    assert!(decoder.body.capacity() <= SUBNEGOTIATION_LIMIT);
    if decoder.is_idle() {
        assert_eq!(decoder.body.capacity(), 0, "heap while idle");
    }
}

fn decoded<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<Owned> {
    let mut items = Vec::new();
    let mut decoder = Decoder::new();
    for mut piece in pieces {
        while let Some(item) = decoder.decode(&mut piece) {
            keep(&mut items, item, <[u8]>::to_vec);
        }
        assert!(piece.is_empty());
        check(&decoder);
    }
    items
}

fn decoded_wire<'i>(pieces: impl IntoIterator<Item = &'i [u8]>) -> Vec<Owned> {
    let mut items = Vec::new();
    let mut decoder = Decoder::new();
    for mut piece in pieces {
        while let Some(item) = decoder.decode_wire(&mut piece) {
            keep(&mut items, item, guest);
        }
        assert!(piece.is_empty());
        check(&decoder);
    }
    items
}

fn data(bytes: &[u8]) -> Owned {
    Owned::Data(bytes.to_vec())
}

/// Every transition of the table at [`Decoder`], some twice.
const RICH: &[u8] = b"ab\xff\xff\xff\xffc\xff\xf3\xff\xfb\x00\xff\xfd\xe8d\
    \xff\xfa\x18\x01\xff\xf0\
    \xff\xfa\x1f\x00\xff\xff\x00\x19\xff\xf0\
    \xff\xff\xff\xf0\xff\x07e\
    \xff\xfa\xff\xff\x01\xff\xf0\
    \xff\xfa\xff\xf0\
    \xff\xfa\xff\xf1\
    \xff\xfa\x05ab\xff\xfc\x05f\
    \xff\xfa\x05cd\xff\xfa\x06e\xff\xf0\
    \xff\xfc\xff\xff\xef\xff\xff\r\0g\xff\xff";

fn rich_items() -> Vec<Owned> {
    use Owned::{Command as Cmd, Malformed as Bad, Negotiation, Subnegotiation};
    vec![
        data(b"ab\xff\xffc"),
        Cmd(Command::BRK),
        Negotiation(Verb::Will, Opt::BINARY),
        Negotiation(Verb::Do, Opt(232)),
        data(b"d"),
        Subnegotiation(Opt::TTYPE, vec![1]),
        Subnegotiation(Opt::NAWS, vec![0, 255, 0, 25]),
        data(b"\xff"),
        Bad(Malformed::StraySubnegotiationEnd),
        Bad(Malformed::UnknownCommand(7)),
        data(b"e"),
        Subnegotiation(Opt(255), vec![1]),
        Bad(Malformed::StraySubnegotiationEnd),
        Bad(Malformed::UnendedSubnegotiation(Opt(255))),
        Cmd(Command::NOP),
        Bad(Malformed::UnendedSubnegotiation(Opt::STATUS)),
        Negotiation(Verb::Wont, Opt::STATUS),
        data(b"f"),
        Bad(Malformed::UnendedSubnegotiation(Opt::STATUS)),
        Subnegotiation(Opt::TIMING_MARK, vec![b'e']),
        Negotiation(Verb::Wont, Opt(255)),
        Cmd(Command::EOR),
        data(b"\xff\r\0g\xff"),
    ]
}

#[test]
fn a_rich_stream_is_understood() {
    assert_eq!(decoded([RICH]), rich_items());
    assert_eq!(decoded_wire([RICH]), rich_items());
}

#[test]
fn every_cut_in_two_and_three_is_invisible() {
    let whole = rich_items();
    for first in 0..=RICH.len() {
        for second in first..=RICH.len() {
            let pieces = [&RICH[..first], &RICH[first..second], &RICH[second..]];
            assert_eq!(decoded(pieces), whole, "cut at {first} and {second}");
            assert_eq!(decoded_wire(pieces), whole, "cut at {first} and {second}");
        }
    }
    assert_eq!(decoded(RICH.chunks(1)), whole);
    assert_eq!(decoded_wire(RICH.chunks(1)), whole);
}

#[test]
fn every_byte_after_an_iac_has_one_meaning() {
    for byte in 0..=255 {
        let items = decoded([&[IAC, byte][..]]);
        let expected = match byte {
            0..=235 => vec![Owned::Malformed(Malformed::UnknownCommand(byte))],
            240 => vec![Owned::Malformed(Malformed::StraySubnegotiationEnd)],
            236..=249 => vec![Owned::Command(Command(byte))],
            250..=254 => vec![],
            IAC => vec![data(&[IAC])],
        };
        assert_eq!(items, expected, "IAC {byte}");
    }
}

#[test]
fn a_run_is_as_long_as_the_input_allows() {
    let mut decoder = Decoder::new();
    let mut input: &[u8] = b"one\xff\xfftwo\xff\xff\xff\xff\xff\xf1";
    let Some(Item::Data(run)) = decoder.decode_wire(&mut input) else { panic!() };
    assert_eq!((run.bytes, run.pairs, run.guest_len()), (&b"one\xff\xfftwo\xff\xff\xff\xff"[..], 3, 9));
    assert_eq!(decoder.decode_wire(&mut input), Some(Item::Command(Command::NOP)));
    assert_eq!(decoder.decode_wire(&mut input), None);

    let mut input = &[IAC; 4097][..];
    let Some(Item::Data(run)) = decoder.decode(&mut input) else { panic!() };
    assert_eq!(run.len(), 2048);
    assert_eq!(decoder.decode(&mut input), None);
    assert!(decoder.pending_iac() && !decoder.is_idle());
}

#[test]
fn a_pair_cut_by_a_read_is_a_run_of_its_own() {
    let mut decoder = Decoder::new();
    let mut input: &[u8] = b"a\xff";
    assert_eq!(decoder.decode_wire(&mut input), Some(Item::Data(WireRun { bytes: b"a", pairs: 0 })));
    assert_eq!(decoder.decode_wire(&mut input), None);
    assert!(decoder.pending_iac());
    let mut input: &[u8] = b"\xffb";
    let pair = Item::Data(WireRun { bytes: b"\xff\xff", pairs: 1 });
    assert_eq!(decoder.decode_wire(&mut input), Some(pair));
    assert_eq!(decoder.decode_wire(&mut input), Some(Item::Data(WireRun { bytes: b"b", pairs: 0 })));
}

#[test]
fn a_plain_subnegotiation_is_borrowed_from_the_input() {
    let wire = b"\xff\xfa\x18body\xff\xf0";
    let mut input = &wire[..];
    let mut decoder = Decoder::new();
    let Some(Item::Subnegotiation(Opt::TTYPE, body)) = decoder.decode(&mut input) else { panic!() };
    assert!(std::ptr::eq(body, &raw const wire[3..7]));
    assert_eq!(decoder.body.capacity(), 0);
}

#[test]
fn a_subnegotiation_is_delivered_up_to_the_limit_and_counted_beyond() {
    for doubled in [false, true] {
        for len in [0, 1, 1023, 1024, 1025, 5000] {
            let mut body = vec![b'x'; len];
            if let (true, Some(first)) = (doubled, body.first_mut()) {
                *first = IAC;
            }
            let mut wire = Vec::new();
            put_subnegotiation(Opt::TTYPE, &body, &mut wire);
            wire.push(b'!');
            let first = match len.checked_sub(SUBNEGOTIATION_LIMIT) {
                None | Some(0) => Owned::Subnegotiation(Opt::TTYPE, body),
                Some(excess) => {
                    let first = if doubled { IAC } else { b'x' };
                    let opt = Opt::TTYPE;
                    Owned::Malformed(Malformed::OversizedSubnegotiation { opt, first, excess })
                }
            };
            let items = [first, data(b"!")];
            for chunk in [1, 7, 340, 1024, 100_000] {
                assert_eq!(decoded(wire.chunks(chunk)), items, "{len} bytes by {chunk}");
            }
        }
    }
}

#[test]
fn a_decoder_with_another_limit_delivers_up_to_that() {
    for len in [1025, 64 << 10, (64 << 10) + 1] {
        let mut wire = Vec::new();
        put_subnegotiation(Opt::TTYPE, &vec![b'x'; len], &mut wire);
        for chunk in [7, 4096, 100_000] {
            let mut decoder = Decoder::with_limit(64);
            let mut lens = Vec::new();
            for mut piece in wire.chunks(chunk) {
                while let Some(item) = decoder.decode(&mut piece) {
                    lens.push(match item {
                        Item::Subnegotiation(Opt::TTYPE, body) => body.len(),
                        item => {
                            let (opt, first) = (Opt::TTYPE, b'x');
                            let fault = Malformed::OversizedSubnegotiation { opt, first, excess: 1 };
                            assert_eq!(item, Item::Malformed(fault));
                            0
                        }
                    });
                }
                assert!(decoder.held() <= 64 << 10);
            }
            assert_eq!((lens, decoder.held()), (vec![if len > 64 << 10 { 0 } else { len }], 0));
        }
    }
}

#[test]
fn what_is_given_up_is_freed_at_once_and_reported_at_its_end() {
    let mut decoder = Decoder::with_limit(64);
    decoder.give_up();
    let mut rest: &[u8] = b"\xff\xfa\x18first";
    assert_eq!(decoder.decode(&mut rest), None);
    assert!(decoder.held() > 0);
    decoder.give_up();
    assert_eq!(decoder.held(), 0);
    let mut rest: &[u8] = b"more\xff\xf0\xff\xfa\x18ok\xff\xf0";
    let fault = Malformed::OversizedSubnegotiation { opt: Opt::TTYPE, first: b'f', excess: 5 };
    assert_eq!(decoder.decode(&mut rest), Some(Item::Malformed(fault)));
    assert_eq!(decoder.decode(&mut rest), Some(Item::Subnegotiation(Opt::TTYPE, b"ok")));
}

#[test]
fn an_oversized_subnegotiation_leaves_nothing_behind_however_it_ends() {
    let mut wire = vec![IAC, SB, Opt::STATUS.0];
    wire.extend([b'x'; 2000]);
    wire.extend(b"\xff\xfa\x18ok\xff\xf0");
    let items = [
        Owned::Malformed(Malformed::UnendedSubnegotiation(Opt::STATUS)),
        Owned::Subnegotiation(Opt::TTYPE, b"ok".to_vec()),
    ];
    for chunk in [1, 340, 100_000] {
        assert_eq!(decoded(wire.chunks(chunk)), items);
    }
}

#[test]
fn a_decoder_is_32_bytes_at_most() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
}

/// Bytes that hit the machine where it bends: mostly IACs and commands.
fn noisy(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|&b| [IAC, IAC, SB, SE, 251, 254, 241, b][usize::from(b % 8)]).collect()
}

/// `bytes` in pieces whose lengths are taken in turn from `cuts`.
fn pieces<'i>(mut bytes: &'i [u8], cuts: &[u8]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, rest) = bytes.split_at(usize::from(cut % 16).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

quickcheck! {
    fn garbage_in_any_pieces_is_survived_and_read_alike(bytes: Vec<u8>, cuts: Vec<u8>) -> bool {
        let noise = noisy(&bytes);
        let whole = decoded([&noise[..]]);
        whole == decoded(pieces(&noise, &cuts))
            && whole == decoded_wire(pieces(&noise, &cuts))
            && whole == decoded_wire([&noise[..]])
    }

    fn what_is_escaped_is_decoded_back(bytes: Vec<u8>, cuts: Vec<u8>) -> TestResult {
        if bytes.is_empty() {
            return TestResult::discard();
        }
        let guest: Vec<u8> = bytes.iter().map(|&b| if b % 3 == 0 { IAC } else { b }).collect();
        let mut wire = Vec::new();
        escape_into(&guest, &mut wire);
        let items = [Owned::Data(guest)];
        TestResult::from_bool(
            decoded(pieces(&wire, &cuts)) == items && decoded_wire(pieces(&wire, &cuts)) == items,
        )
    }

    fn subnegotiations_round_trip(opt: u8, bytes: Vec<u8>, cuts: Vec<u8>) -> bool {
        let mut body = noisy(&bytes);
        body.truncate(SUBNEGOTIATION_LIMIT);
        let mut wire = Vec::new();
        put_subnegotiation(Opt(opt), &body, &mut wire);
        decoded(pieces(&wire, &cuts)) == [Owned::Subnegotiation(Opt(opt), body)]
    }
}
