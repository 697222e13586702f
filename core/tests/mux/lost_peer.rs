//! A guest of a line without SL that gets lost in the middle of what is read at once: HELLOs of others and of
//! itself among frames and text, cut anywhere.

use std::time::Duration;

use vspc_core::mux::wire::{HEADER, Opening, Word, header};
use vspc_core::mux::{Config, Event, Role, StreamId, Trunk};
use vspc_core::time::Instant;

use crate::line::{Chance, START, data, frame, seeds};

/// The nonce of the host.
const HOST: u32 = 7;

fn config() -> Config {
    Config { max_frame: 256, window: 1024, receive_buffer: 1024, ..Config::new(Role::Host) }
}

fn trunk(config: Config) -> Trunk {
    let mut trunk = Trunk::raw(config, HOST, [1, 2], START).unwrap();
    trunk.handle_opened(START);
    while trunk.transmit_with(START, |runs| runs.iter().map(|run| run.len()).sum()) > 0 {}
    trunk
}

fn hello(nonce: u32, answers: u32) -> Vec<u8> {
    let hello = Config { max_frame: 256, ..Config::new(Role::Guest) }.hello();
    Opening { hello, sender: Role::Guest, nonce, answers }.encode().to_vec()
}

fn guests(number: u64) -> u64 {
    StreamId::GUEST_BIT | number
}

fn ack() -> Vec<u8> {
    frame(guests(1), Word::Ack(1).to_u32(), b"")
}

/// What is shown of a line that is read like that.
fn shown(trunk: &mut Trunk, reads: &[&[u8]], now: Instant) -> Vec<u8> {
    let mut text = Vec::new();
    for read in reads {
        trunk.handle_received(read, now, &mut text);
    }
    text
}

#[test]
fn a_guest_that_is_lost_and_found_in_one_read_may_say_a_word_behind_it() {
    let line = [hello(10, 99), hello(11, HOST), ack(), ack()].concat();
    for cut in 1..=line.len() {
        let mut trunk = trunk(config());
        assert!(shown(&mut trunk, &[&hello(9, HOST)], START).is_empty());
        let text = shown(&mut trunk, &[&line[..cut], &line[cut..]], START);
        assert!(text.is_empty() && trunk.is_up(), "cut at {cut}: {text:?}");
    }
}

#[test]
fn a_hello_inside_what_looked_like_one_is_found_and_frames_behind_it_are_told_apart() {
    // The first is cut off by a reset, behind its magic.
    let line = [&hello(10, HOST)[..16], &hello(11, HOST), &data(guests(1), b"not shown")].concat();
    let oops = b"Oops: 0002 [#1] SMP";
    for cut in 1..line.len() {
        let mut trunk = trunk(config());
        shown(&mut trunk, &[&line[..cut], &line[cut..]], START);
        assert!(trunk.is_up(), "cut at {cut}");
        assert_eq!(trunk.session().received_len(StreamId(guests(1))), 9);
        // The last frame before it was not confirmed by another.
        let want = [&ack(), &oops[..]].concat();
        assert_eq!(shown(&mut trunk, &[&ack(), &ack(), oops], START), want, "cut at {cut}");
    }
}

#[test]
fn half_a_frame_of_a_session_that_was_ended_is_no_part_of_the_next() {
    let mut trunk = trunk(config());
    shown(&mut trunk, &[&hello(9, HOST), &data(guests(1), &[b'x'; 200])[..50]], START);
    trunk.end();
    while trunk.transmit_with(START, |runs| runs.iter().map(|run| run.len()).sum()) > 0 {}
    assert!(std::iter::from_fn(|| trunk.poll_event()).any(|event| matches!(event, Event::Closed(_))));
    let (now, mut line) = (START + Duration::from_secs(1), Vec::new());
    trunk.handle_timeout(now, &mut Vec::new());
    trunk.transmit_with(now, |runs| runs.iter().map(|run| (line.extend_from_slice(run), run.len()).1).sum());
    let called = Opening::decode(&line[HEADER..]).unwrap().nonce;
    shown(&mut trunk, &[&hello(10, called)], now);
    assert!(trunk.is_up());
    let oops = b"Oops: 0002 [#1] SMP";
    let want = [&ack(), &oops[..]].concat();
    assert_eq!(shown(&mut trunk, &[&data(guests(1), &[b'y'; 30]), &ack(), oops], now), want);
}

#[test]
fn messages_of_a_guest_that_speaks_v1_are_not_held_to_be_shown() {
    let mut trunk = trunk(config());
    let trailer = Opening { hello: config().hello(), sender: Role::Host, nonce: HOST, answers: 0 }.trailer();
    let answer = [header(StreamId::SESSION, 12), header(trailer, 12)].concat();
    shown(&mut trunk, &[&answer], START);
    assert!(trunk.is_up());
    // For a stream that nobody has opened.
    shown(&mut trunk, &[&header(StreamId(5), 1 << 29)], START);
    for _ in 0..64 {
        shown(&mut trunk, &[&[b'x'; 4096]], START);
    }
    assert!(trunk.memory() < 16 << 10, "{} bytes are held of what nobody reads", trunk.memory());
}

/// One thing that a guest may say.
fn said(chance: &mut Chance) -> Vec<u8> {
    let id = guests(1 + chance.below(3));
    match chance.below(12) {
        0 => hello(9 + chance.below(3) as u32, 99),
        1 | 2 => hello(9 + chance.below(3) as u32, HOST),
        3 => hello(9, HOST)[..chance.below(36) as usize].to_vec(),
        4 => b"Oops: 0002 [#1] SMP"[..chance.below(20) as usize].to_vec(),
        5 => vec![0; chance.below(30) as usize],
        6 => ack(),
        7 => frame(id, Word::Close.to_u32(), b""),
        8 => frame(0, 2 + chance.below(60) as u32, b""),
        9 => data(id, &vec![b'y'; 300])[..1 + chance.below(200) as usize].to_vec(),
        _ => data(id, &vec![b'x'; 1 + chance.below(100) as usize]),
    }
}

#[test]
fn whatever_a_guest_says_in_whatever_reads_is_told_apart_alike_and_in_little_memory() {
    let bound = config().memory_bound() as usize + 4 * (256 + HEADER) + 1024;
    let (mut lost, mut kept) = (0, 0);
    for seed in seeds(10_000) {
        let chance = &mut Chance(seed);
        let mut line = hello(9, HOST);
        for _ in 0..=chance.below(12) {
            line.extend(said(chance));
        }
        let (mut whole, mut cut) = (trunk(config()), trunk(config()));
        let text = shown(&mut whole, &[&line], START);
        let (mut reads, mut rest) = (Vec::new(), &line[..]);
        while !rest.is_empty() {
            let (read, behind) = rest.split_at((chance.size(64) as usize).min(rest.len()));
            reads.push(read);
            rest = behind;
        }
        assert_eq!(shown(&mut cut, &reads, START), text, "seed {seed}");
        assert_eq!(whole.is_up(), cut.is_up(), "seed {seed}");
        // More of it, a while later, after whatever has become of it.
        let now = START + Duration::from_secs(chance.below(15));
        if chance.one_in(4) {
            cut.end();
        }
        if chance.one_in(4) {
            cut.handle_closed(now, &mut Vec::new());
            cut.handle_opened(now);
        }
        while cut.poll_event().is_some() {}
        cut.handle_timeout(now, &mut Vec::new());
        for _ in 0..20 {
            let more = said(chance);
            shown(&mut cut, &[&more], now);
        }
        assert!(cut.memory() <= bound, "seed {seed}: {}", cut.memory());
        *if whole.is_up() { &mut kept } else { &mut lost } += 1;
    }
    assert!(std::env::var("SEED").is_ok() || (lost > 1000 && kept > 1000), "{lost} lost, {kept} kept");
}
