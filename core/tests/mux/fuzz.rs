//! The bodies of the fuzz targets, so that stable CI replays their corpus. The fuzz crate includes this file.

#![allow(dead_code, reason = "the fuzz crate uses one body per target")]

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::time::Duration;

use vspc_core::mux::link::frame::{FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig, LinkEvent, LinkState, Repeat};
use vspc_core::mux::wire::Word;
use vspc_core::mux::{
    Carrier, Config, Decoder, Dialect, Event, Features, Hello, Item, Priority, Received, Role, Session,
    Start, StreamId,
};
use vspc_core::time::Instant;

/// One end against any bytes and any owner: `data` is a program of both.
///
/// Checked: no panic, memory within its bound, whole frames out, none that the rules forbid.
pub(crate) fn session(data: &[u8]) {
    let mut program = data.iter().copied();
    let mut byte = || program.next();
    let (Some(shape), Some(sizes)) = (byte(), byte()) else { return };
    let mut config = Config::new(if shape & 1 == 0 { Role::Host } else { Role::Guest });
    config.features = Features(shape >> 1 & 7);
    config.max_streams = 4;
    config.window = u32::from(sizes & 15) * 10;
    config.receive_buffer = u32::from(sizes >> 4) * 10 + 50;
    config.send_buffer = 200;
    config.max_frame = 50;
    config.start = match shape >> 4 & 3 {
        0 => Start::S2(Hello { version: 1, features: Features::ALL, max_frame: 50, window: 64 }),
        1 => Start::V1,
        _ => Start::Negotiate,
    };
    let bound = config.memory_bound();
    let v1_host = config.role == Role::Host;
    let mut now = Instant::from_micros(0);
    let Ok(mut session) = Session::new(config, now) else { return };
    let mut sent = Vec::new();
    while let Some(op) = byte() {
        let Some(arg) = byte() else { break };
        let id = StreamId(u64::from(op >> 4 & 7) | if op & 0x80 == 0 { 0 } else { StreamId::GUEST_BIT });
        match op & 15 {
            0 => {
                let _ = session.open();
            }
            1 => {
                let _ = session.write(id, &vec![arg; arg.into()]);
            }
            2 => {
                let _ = session.consume(id, arg.into());
            }
            3 => {
                let _ = session.finish(id);
            }
            4 => {
                let _ = session.reset(id);
            }
            5 => {
                let _ = session.stop_reading(id);
            }
            6 => {
                let _ = session.attach(id);
            }
            7 => {
                let mut runs = [IoSlice::new(&[]); 5];
                let filled = session.transmit(&mut runs[..usize::from(arg & 3) + 1]);
                let offered: Vec<u8> = runs[..filled].iter().flat_map(|run| run.to_vec()).collect();
                let n = offered.len().min(arg.into());
                sent.extend_from_slice(&offered[..n]);
                session.handle_sent(n, now);
            }
            8 => {
                now = now + Duration::from_millis(u64::from(arg) * 50);
                session.handle_timeout(now);
            }
            9 => drop(session.poll_event()),
            10 => {
                if let Ok(Received::Bytes(bytes)) = session.received(id) {
                    assert!(!bytes.is_empty());
                }
            }
            11 => {
                let words = [
                    Word::Ack(arg.into()),
                    Word::Close,
                    Word::Request,
                    Word::Rewind,
                    Word::Reset,
                    Word::Data(u32::from(arg & 63) + 1),
                ];
                let word = words[usize::from(arg) % words.len()].to_u32();
                session.handle_received(&vspc_core::mux::wire::header(id, word), now);
            }
            14 => {
                let bytes: Vec<u8> = (0..arg).map_while(|_| byte()).collect();
                let mut input = &bytes[..bytes.len().min(session.receive_window())];
                while let Some(mut payload) = session.poll_received(&mut input, now) {
                    assert!(!payload.bytes().is_empty());
                    payload.consume((op >> 4).into());
                }
                assert!(input.is_empty());
            }
            _ => {
                let bytes: Vec<u8> = (0..arg).map_while(|_| byte()).collect();
                let n = bytes.len().min(session.receive_window());
                session.handle_received(&bytes[..n], now);
            }
        }
        assert!(session.memory() as u64 <= bound);
        assert!(session.poll_timeout().is_none_or(|due| due.as_micros() > 0));
    }
    if session.dialect() == Some(Dialect::V1) {
        // A HELLO of the time before the dialect was known is two whole v1 messages.
        let (mut decoder, mut input) = (Decoder::new(Dialect::V1), &sent[..]);
        while let Some(item) = decoder.decode(&mut input) {
            match item {
                Item::Bare { length, .. } => assert_eq!(length, 12, "a length that kills"),
                Item::Data { len, .. } => assert!(!v1_host || len <= 512, "a message that kills"),
                _ => {}
            }
        }
    } else {
        let (mut decoder, mut input) = (Decoder::new(Dialect::S2), &sent[..]);
        while let Some(item) = decoder.decode(&mut input) {
            match item {
                Item::Data { len, .. } => assert!(len <= 64),
                Item::Word { word, .. } => {
                    assert!(!matches!(word, Word::Undefined(_) | Word::Reserved(_)));
                }
                _ => {}
            }
        }
    }
}

/// One end of a link against any bytes and any owner.
///
/// Checked: no panic, whole frames out, memory within two windows, deadlines that move on.
pub(crate) fn link(data: &[u8]) {
    let mut program = data.iter().copied();
    let mut byte = || program.next();
    let Some(shape) = byte() else { return };
    let mut config = LinkConfig::new(shape.into());
    config.repeat = if shape & 1 == 0 { Repeat::Selective } else { Repeat::GoBackN };
    config.max_payload = u16::from(shape >> 1 & 15) + 1;
    config.window = u16::from(shape >> 5) + 1;
    let held = usize::from(config.max_payload) * usize::from(config.window);
    let escapes = config.escapes.clone();
    let mut now = Instant::from_micros(0);
    let mut link = Link::new(config);
    let mut seq = 0u16;
    while let Some(op) = byte() {
        let Some(arg) = byte() else { break };
        match op & 7 {
            0 => link.open(now),
            1 => drop(link.write(&vec![arg; arg.into()])),
            2 => link.consume(arg.into()),
            3 if arg & 3 == 0 => link.finish(),
            3 if arg & 3 == 1 => link.reset(arg.into()),
            3 => drop(link.poll_event()),
            4 => {
                let mut runs = [IoSlice::new(&[]); 1];
                let n = if link.transmit(&mut runs) == 0 { 0 } else { runs[0].len() };
                link.handle_sent(n.min(arg.into()), now);
            }
            5 => {
                now = now + Duration::from_millis(u64::from(arg) * 20);
                link.handle_timeout(now);
                assert!(link.poll_timeout().is_none_or(|due| due > now));
            }
            6 => {
                // A frame with a right checksum and any content.
                let kinds = [
                    FrameType::Syn,
                    FrameType::SynAck,
                    FrameType::Data,
                    FrameType::Data,
                    FrameType::Ack,
                    FrameType::Nak,
                    FrameType::Sack,
                    FrameType::Ping,
                    FrameType::Fin,
                    FrameType::Rst,
                ];
                let kind = kinds[usize::from(arg) % kinds.len()];
                seq = seq.wrapping_add(u16::from(op >> 6));
                let ack = u16::from(op >> 3 & 7);
                let header = Header { kind, has_ack: op & 0x20 == 0, seq, ack, window: (op >> 4).into() };
                let payload = match kind {
                    FrameType::Syn => vec![0, 0, 0, arg, 0, 4, 0, 4],
                    FrameType::SynAck => vec![0, 0, 0, arg, 0, 4, 0, 4, 0, 0, 0, shape],
                    _ => vec![arg; usize::from(op >> 5)],
                };
                let mut bytes = vec![0x7e];
                encode(&header, &payload, &escapes, &mut bytes);
                link.handle_received(&bytes, now);
            }
            _ => {
                let bytes: Vec<u8> = (0..arg).map_while(|_| byte()).collect();
                link.handle_received(&bytes, now);
            }
        }
        assert!(link.received().len() <= held, "{} of {held} delivered", link.received().len());
    }
}

/// What is between two ends: it holds bytes, and does with them as the program says.
struct Middle {
    held: [Vec<u8>; 2],
    /// Whether every byte has been passed on as it came.
    honest: bool,
}

impl Middle {
    /// Up to `n` bytes on their way from `which`, treated as `how` says.
    fn pass(&mut self, which: usize, how: u8, n: usize, with: u8) -> Vec<u8> {
        let n = n.min(self.held[which].len());
        let mut bytes: Vec<u8> = self.held[which].drain(..n).collect();
        if how.is_multiple_of(8) || bytes.is_empty() {
            return bytes;
        }
        self.honest = false;
        let at = usize::from(with) % bytes.len();
        match how % 8 {
            1 => bytes.clear(),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] ^= 1 << (with % 8),
            4 => bytes.insert(at, with),
            5 => bytes.extend_from_within(..),
            6 => bytes = self.held[1 - which].clone(),
            _ => bytes.truncate(at),
        }
        bytes
    }
}

/// Two ends, their owners, and a middle that does as it likes.
///
/// Checked: no panic, memory within its bounds, output where it is said to be; byte for byte what was written
/// while the middle was honest; and once the line was opened again and is, two ends that understand each
/// other.
pub(crate) fn pair(data: &[u8]) {
    let mut program = data.iter().copied();
    let mut byte = || program.next();
    let (Some(shape), Some(sizes)) = (byte(), byte()) else { return };
    let reliable = shape & 1 != 0;
    let config = |role| {
        let mut config = Config::new(role);
        config.features = Features(shape >> 1 & 7);
        (config.max_own_streams, config.max_peer_streams) = (3, 4);
        config.max_frame = 64 + u16::from(sizes & 15) * 8;
        config.window = 64 + u32::from(sizes >> 4) * 40;
        config.receive_buffer = if shape & 0x10 != 0 && !reliable { 64 } else { 700 };
        (config.send_buffer, config.session_send_buffer) = (900, 1500);
        config.keepalive = Duration::from_secs(u64::from(shape >> 5 & 1) * 10);
        if reliable {
            (config.carrier, config.start) =
                (Carrier::Reliable, Start::S2Only { within: Duration::from_secs(100_000) });
        }
        config
    };
    let bounds = [Role::Host, Role::Guest].map(|role| config(role).memory_bound());
    let mut now = Instant::from_micros(0);
    let Ok(host) = Session::new(config(Role::Host), now) else { return };
    let Ok(guest) = Session::new(config(Role::Guest), now) else { return };
    let mut ends = [host, guest];
    let mut middle = Middle { held: [Vec::new(), Vec::new()], honest: true };
    // Of each stream, what was written at either end and how much of it the other has read.
    let mut written: BTreeMap<(usize, StreamId), (Vec<u8>, usize)> = BTreeMap::new();
    while let Some(op) = byte() {
        let Some(arg) = byte() else { break };
        let which = usize::from(op >> 7);
        let opener = if op & 0x40 == 0 { 0 } else { StreamId::GUEST_BIT };
        let id = StreamId((u64::from(op >> 4 & 3) + 1) | opener);
        let end = &mut ends[which];
        match op & 15 {
            0 => drop(end.open()),
            1 => drop(end.open_announced()),
            2 => {
                let text = vec![arg; usize::from(arg) * 3];
                if let Ok(n) = end.write(id, &text) {
                    written.entry((which, id)).or_default().0.extend(&text[..n]);
                }
            }
            3 => drop(end.finish(id)),
            4 if arg & 3 == 0 => drop(end.reset(id)),
            4 if arg & 3 == 1 => drop(end.stop_reading(id)),
            4 => drop(end.set_priority(id, [Priority::High, Priority::Low][usize::from(arg & 1)])),
            5 => {
                let mut buf = [0; 300];
                if let Ok(n) = end.read(id, &mut buf[..usize::from(arg)])
                    && middle.honest
                {
                    let (text, read) = written.entry((1 - which, id)).or_default();
                    assert_eq!(text[*read..*read + n], buf[..n]);
                    *read += n;
                }
            }
            6 => drop(end.want_credit(id)),
            7 | 8 => {
                let has_output = end.has_output();
                let mut line = Vec::new();
                end.transmit_with(now, |runs| {
                    runs.iter().for_each(|run| line.extend_from_slice(run));
                    line.truncate(usize::from(arg) * 4 + 1);
                    line.len()
                });
                assert_eq!(has_output, !line.is_empty());
                middle.held[which].extend(line);
            }
            9..=11 => {
                let bytes = middle.pass(which, if op & 15 == 9 { arg } else { 0 }, usize::from(arg) * 8, arg);
                let to = &mut ends[1 - which];
                let n = bytes.len().min(to.receive_window());
                to.handle_received(&bytes[..n], now);
                middle.honest &= n == bytes.len();
            }
            12 => {
                now = now + Duration::from_millis(u64::from(arg) * 20);
                end.handle_timeout(now);
                assert!(end.poll_timeout().is_none_or(|due| due > now));
            }
            13 if arg == 0 => {
                end.line_reopened(now);
                middle.honest = false;
            }
            13 if arg == 1 => end.shrink(),
            13 if arg == 2 => end.close(),
            13 if arg == 3 => end.go_away(),
            _ => {
                // Whoever knows that a stream is gone writes on another one.
                if let Some(Event::Reset(..) | Event::Restarted(_) | Event::Closed(_)) = end.poll_event() {
                    middle.honest = false;
                }
            }
        }
        for (end, bound) in ends.iter().zip(bounds) {
            assert!(end.memory() as u64 <= bound, "{} of {bound}", end.memory());
        }
    }
    if reliable || ends.iter().any(Session::is_closed) {
        return;
    }
    // From here on an honest line.
    now = now + Duration::from_secs(100);
    for end in &mut ends {
        end.line_reopened(now);
    }
    for round in 0..20 {
        now = now + Duration::from_secs(round % 2);
        for which in 0..2 {
            ends[which].handle_timeout(now);
            let mut line = Vec::new();
            while ends[which].transmit_with(now, |runs| {
                runs.iter().for_each(|run| line.extend_from_slice(run));
                runs.iter().map(|run| run.len()).sum()
            }) > 0
            {}
            ends[1 - which].handle_received(&line, now);
            while ends[which].poll_event().is_some() {}
        }
    }
    let terms = [ends[0].terms(), ends[1].terms()];
    assert!(ends.iter().any(Session::is_closed) || terms[0].is_some() && terms[1].is_some(), "{terms:?}");
}

/// Two ends of a link, their owners, and a middle that does as it likes.
///
/// Checked: no panic, memory within its bound, deadlines that move on; what is delivered is what was written,
/// from its beginning, until one end begins anew, or an echo comes before anything of the peer's.
pub(crate) fn link_pair(data: &[u8]) {
    let mut program = data.iter().copied();
    let mut byte = || program.next();
    let Some(shape) = byte() else { return };
    let config = |nonce| {
        let mut config = LinkConfig::new(nonce);
        config.repeat = if shape & 1 == 0 { Repeat::Selective } else { Repeat::GoBackN };
        config.max_payload = u16::from(shape >> 1 & 15) + 1;
        config.window = u16::from(shape >> 5) + 1;
        config
    };
    let bound = config(1).memory_bound();
    let mut now = Instant::from_micros(0);
    let mut ends = [Link::new(config(1)), Link::new(config(2))];
    let mut middle = Middle { held: [Vec::new(), Vec::new()], honest: true };
    let mut written = [Vec::new(), Vec::new()];
    let mut read = [0usize; 2];
    let (mut exact, mut opened) = (true, [false; 2]);
    while let Some(op) = byte() {
        let Some(arg) = byte() else { break };
        let which = usize::from(op >> 7);
        let end = &mut ends[which];
        match op & 15 {
            0 => end.open(now),
            1 | 2 => {
                let text: Vec<u8> = (0..arg).map(|i| i ^ arg).collect();
                let n = end.write(&text);
                written[which].extend(&text[..n]);
            }
            3 => {
                let n = end.received().len().min(arg.into());
                if exact {
                    let text: &Vec<u8> = &written[1 - which];
                    let from = read[which];
                    assert_eq!(end.received()[..n], text[from..from + n]);
                    read[which] += n;
                }
                end.consume(n);
            }
            4 if arg == 0 => end.finish(),
            5..=7 => {
                let has_output = end.has_output();
                let mut line = Vec::new();
                end.transmit_with(now, |frame| {
                    line.extend_from_slice(&frame[..frame.len().min(usize::from(arg) + 1)]);
                    line.len()
                });
                assert_eq!(has_output, !line.is_empty());
                middle.held[which].extend(line);
            }
            8..=11 => {
                let how = if op & 15 == 8 { op >> 4 } else { 0 };
                let bytes = middle.pass(which, how, arg.into(), arg);
                let to = &mut ends[1 - which];
                // The end with the greater nonce knows its own frames from the peer's once it has had one.
                exact &= how % 8 != 6 || which == 1 || read[1] > 0 || !to.received().is_empty();
                to.handle_received(&bytes, now);
            }
            12 => {
                now = now + Duration::from_millis(u64::from(arg) * 10);
                end.handle_timeout(now);
                assert!(end.poll_timeout().is_none_or(|due| due > now));
            }
            13 if arg == 0 => {
                *end = Link::new(config(u32::from(op) + 3 + read[0] as u32 * 256));
                exact = false;
            }
            _ => exact &= !matches!(end.poll_event(), Some(LinkEvent::Restarted | LinkEvent::Closed(_))),
        }
        for (end, opened) in ends.iter().zip(&mut opened) {
            // Closed, and perhaps opened anew before anybody polled that.
            let is_open = matches!(end.state(), LinkState::Open | LinkState::Done);
            exact &= is_open || !*opened;
            *opened |= is_open;
            assert!(end.memory() as u64 <= bound, "{} of {bound}", end.memory());
        }
    }
}

/// Every file of a target's corpus.
#[cfg(test)]
fn replay(target: &str, body: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[cfg(test)]
#[test]
fn the_session_corpus_replays() {
    replay("mux_session", session);
}

#[cfg(test)]
#[test]
fn the_link_corpus_replays() {
    replay("mux_link", link);
}

#[cfg(test)]
#[test]
fn the_corpus_of_two_ends_replays() {
    replay("mux_pair", pair);
    replay("mux_link_pair", link_pair);
}

#[cfg(test)]
#[test]
fn any_program_runs() {
    quickcheck::quickcheck(run as fn(Vec<u8>) -> bool);
    #[allow(clippy::needless_pass_by_value, reason = "quickcheck passes by value")]
    fn run(program: Vec<u8>) -> bool {
        session(&program);
        link(&program);
        pair(&program);
        link_pair(&program);
        true
    }
}
