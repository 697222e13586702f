//! SL in time: windows whose opening is lost, lines of unknown speed, peers that stand still, echoes, new
//! beginnings.

use std::collections::VecDeque;
use std::time::Duration;

use vspc_core::mux::link::frame::{EscapeSet, FLAG, FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkClosed, LinkConfig, LinkEvent, LinkState};
use vspc_core::time::Instant;

use crate::line::{Chance, START};

fn say(link: &mut Link, now: Instant) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    while link.transmit_with(now, |frame| {
        said.push(frame.to_vec());
        frame.len()
    }) > 0
    {}
    said
}

fn pass(from: &mut Link, to: &mut Link, now: Instant) {
    for frame in say(from, now) {
        to.handle_received(&frame, now);
    }
}

fn opened(a: LinkConfig, b: LinkConfig) -> (Link, Link) {
    let (mut a, mut b) = (Link::new(a), Link::new(b));
    a.open(START);
    for _ in 0..3 {
        pass(&mut a, &mut b, START);
        pass(&mut b, &mut a, START);
    }
    assert_eq!((a.state(), b.state()), (LinkState::Open, LinkState::Open));
    (a, b)
}

fn links() -> (Link, Link) {
    opened(LinkConfig::new(1), LinkConfig::new(2))
}

fn frame(kind: FrameType, ack: Option<(u16, u16)>, seq: u16, payload: &[u8]) -> Vec<u8> {
    let (number, window) = ack.unwrap_or_default();
    let header = Header { kind, has_ack: ack.is_some(), seq, ack: number, window };
    let mut bytes = vec![FLAG];
    encode(&header, payload, &EscapeSet::serial(), &mut bytes);
    bytes
}

fn syn(nonce: u32, max_payload: u16, window: u16) -> Vec<u8> {
    let opening = [&nonce.to_be_bytes()[..], &max_payload.to_be_bytes(), &window.to_be_bytes()].concat();
    frame(FrameType::Syn, None, 0, &opening)
}

/// A reader that stops and reads again, over a line that loses a tenth of all frames, for ten minutes.
#[test]
fn a_window_whose_opening_is_lost_does_not_stall_for_long() {
    for seed in 0..4 {
        let mut chance = Chance(seed);
        let (mut a, mut b) = links();
        let mut now = START;
        let mut moved = now;
        let mut stalls = 0;
        let (mut total, mut until_read) = (0u64, now);
        while now < START + Duration::from_secs(600) {
            while a.write(&[7; 256]) > 0 {}
            a.handle_timeout(now);
            b.handle_timeout(now);
            for turn in 0..2 {
                let (from, to) = if turn == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
                for bytes in say(from, now) {
                    if !chance.one_in(10) {
                        to.handle_received(&bytes, now);
                    }
                }
            }
            if now >= until_read && !b.received().is_empty() {
                if now.duration_since(moved.max(until_read)) > Duration::from_secs(2) {
                    stalls += 1;
                }
                total += b.received().len() as u64;
                b.consume(usize::MAX);
                moved = now;
                // Long enough for the window to close.
                until_read = now + Duration::from_millis(chance.below(400));
            }
            now = now + Duration::from_millis(5);
        }
        // One of ten openings is lost, and of each question or its answer one in five.
        assert!(stalls <= 8, "{stalls} stalls of more than 2 s, SEED={seed}");
        assert!(total > 2_000_000, "{total}");
    }
}

#[test]
fn a_reader_of_small_bites_is_sent_what_it_has_room_for() {
    let (mut a, mut b) = links();
    while a.write(&[7; 256]) > 0 {
        pass(&mut a, &mut b, START);
        b.handle_timeout(START);
        pass(&mut b, &mut a, START);
    }
    let mut read = 0;
    for bite in 1..=100 {
        assert!(b.received().len() >= 4096 - 512, "{} in bite {bite}", b.received().len());
        b.consume(100);
        read += 100;
        let now = Instant::from_millis(bite * 60);
        for _ in 0..3 {
            b.handle_timeout(now);
            pass(&mut b, &mut a, now);
            pass(&mut a, &mut b, now);
            while a.write(&[7; 256]) > 0 {
                pass(&mut a, &mut b, now);
            }
        }
    }
    assert_eq!(read, 10_000);
}

/// Bytes delivered in a minute of a line of so many bits a second, behind drivers that take 4 KiB at once;
/// and of the frames sent how many, and how many of them again. `told`: whether the links know the speed.
fn minute(baud: u32, told: bool) -> (usize, u64, u64) {
    let config =
        |nonce| LinkConfig { bits_per_second: if told { baud } else { 0 }, ..LinkConfig::new(nonce) };
    let (mut a, mut b) = (Link::new(config(1)), Link::new(config(2)));
    a.open(START);
    let mut lines = [VecDeque::new(), VecDeque::new()];
    let (mut got, mut arrived) = (0, 0);
    for tick in 1..=30_000u64 {
        let now = Instant::from_millis(tick * 2);
        while a.write(&[3; 256]) > 0 {}
        for (link, line) in [(&mut a, 0), (&mut b, 1)] {
            link.handle_timeout(now);
            let line: &mut VecDeque<u8> = &mut lines[line];
            while line.len() < 4096
                && link.transmit_with(now, |frame| {
                    let n = frame.len().min(4096 - line.len());
                    line.extend(&frame[..n]);
                    n
                }) > 0
            {}
        }
        while a.write(&[3; 256]) > 0 {}
        // Ten bits a byte, 500 ticks a second.
        let due = u64::from(baud) * tick / 5000;
        for (link, line) in [(&mut b, 0), (&mut a, 1)] {
            let n = lines[line].len().min((due - arrived) as usize);
            link.handle_received(&lines[line].drain(..n).collect::<Vec<u8>>(), now);
        }
        arrived = due;
        got += b.received().len();
        b.consume(usize::MAX);
    }
    let counters = a.counters();
    (got, counters.frames, counters.repeated)
}

#[test]
fn a_line_of_unknown_speed_carries_what_one_of_known_speed_does() {
    for baud in [9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600] {
        let (told, ..) = minute(baud, true);
        let (got, frames, repeated) = minute(baud, false);
        assert!(repeated * 50 < frames, "{baud} baud: {repeated} of {frames} again");
        assert!(got * 100 >= told * 95, "{baud} baud: {got} bytes in a minute, {told} where it is known");
        if baud <= 115_200 {
            // Beyond that a window under way, not the line, is what limits it.
            assert!(got >= baud as usize * 6 * 85 / 100, "{baud} baud: {got} bytes in a minute");
        }
    }
}

#[test]
fn a_peer_that_stands_still_is_not_given_up_unless_it_was_asked_for() {
    for has_data in [false, true] {
        let (mut a, _) = links();
        if has_data {
            a.write(b"anyone?");
            a.finish();
        }
        say(&mut a, START);
        for _ in 0..1000 {
            let Some(due) = a.poll_timeout() else { break };
            a.handle_timeout(due);
            say(&mut a, due);
        }
        assert_eq!((a.state(), has_data), (LinkState::Open, a.poll_timeout().is_some()));
    }
    let limits = LinkConfig { idle: Duration::from_secs(5), max_timeouts: 4, ..LinkConfig::new(1) };
    for (has_data, why) in [(false, LinkClosed::Silent), (true, LinkClosed::TimedOut)] {
        let (mut a, _) = opened(limits.clone(), LinkConfig::new(2));
        if has_data {
            a.write(b"anyone?");
            say(&mut a, START);
        }
        while let Some(due) = a.poll_timeout() {
            a.handle_timeout(due);
            say(&mut a, due);
        }
        assert!(std::iter::from_fn(|| a.poll_event()).any(|event| event == LinkEvent::Closed(why)));
    }
    // A PING behind a blocked line asks nobody.
    let (mut a, _) = opened(limits, LinkConfig::new(2));
    for second in 0..10_000 {
        a.handle_timeout(Instant::from_millis(second * 1000));
    }
    assert_eq!(a.state(), LinkState::Open);
}

#[test]
fn a_link_does_not_open_to_its_echo_and_opens_to_a_peer_beside_it() {
    let mut link = Link::new(LinkConfig::new(1));
    link.open(START);
    for round in 0..20 {
        let now = Instant::from_millis(round * 1000);
        link.handle_timeout(now);
        for echo in say(&mut link, now) {
            link.handle_received(&echo, now);
        }
    }
    assert_eq!(link.state(), LinkState::SynSent);
    assert!(link.counters().echoes >= 4);
    let mut peer = Link::new(LinkConfig::new(2));
    let now = Instant::from_millis(60_000);
    link.handle_timeout(now);
    for _ in 0..3 {
        pass(&mut link, &mut peer, now);
        pass(&mut peer, &mut link, now);
    }
    assert_eq!((link.state(), peer.state()), (LinkState::Open, LinkState::Open));
}

#[test]
fn the_last_syn_says_what_its_sender_takes() {
    let mut link = Link::new(LinkConfig::new(1));
    for (nonce, max_payload, window) in [(7, 1, 1), (8, 256, 16), (9, 100, 2), (10, 256, 16)] {
        link.handle_received(&syn(nonce, max_payload, window), START);
    }
    link.handle_received(&frame(FrameType::Ack, Some((0, 16)), 0, b""), START);
    assert_eq!(link.write(&[1; 256]), 256);
    let frames = say(&mut link, START).iter().filter(|frame| frame.contains(&0x42)).count();
    assert_eq!(frames, 1);
}

#[test]
fn what_was_acknowledged_is_there_until_it_was_read() {
    let mut link = Link::new(LinkConfig::new(1));
    link.handle_received(&syn(9, 256, 16), START);
    say(&mut link, START);
    link.handle_received(&frame(FrameType::Data, Some((0, 16)), 0, b"last words"), START);
    say(&mut link, START);
    // RST, time-outs, or a good end: what was delivered stays.
    link.handle_received(&frame(FrameType::Rst, None, 0, &[0, 1]), START);
    assert_eq!((link.state(), link.received()), (LinkState::Closed, &b"last words"[..]));
    link.handle_received(&syn(10, 256, 16), START);
    assert_eq!((link.received(), link.has_output()), (&b"last words"[..], false), "not yet");
    let said: Vec<LinkEvent> = std::iter::from_fn(|| link.poll_event()).collect();
    assert!(said.contains(&LinkEvent::Readable) && said.contains(&LinkEvent::Closed(LinkClosed::Reset(1))));
    link.consume(10);
    link.handle_received(&syn(10, 256, 16), START);
    assert_eq!(link.state(), LinkState::SynReceived, "asked again");
}
