//! The bodies of the fuzz targets, so that stable CI replays their corpus. The fuzz crate includes this file.

#![allow(dead_code, reason = "the fuzz crate uses one body per target")]

use std::io::IoSlice;
use std::time::Duration;

use vspc_core::mux::link::frame::{FrameType, Header, encode};
use vspc_core::mux::link::{Link, LinkConfig, Repeat};
use vspc_core::mux::wire::Word;
use vspc_core::mux::{
    Config, Decoder, Dialect, Features, Hello, Item, Received, Role, Session, Start, StreamId,
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
    config.receive_buffer = u32::from(sizes >> 4) * 10 + 1;
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
        assert!(session.memory() as u64 <= bound + 4096);
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
                    assert!(!matches!(word, Word::Empty | Word::Undefined(_) | Word::Reserved(_)));
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
fn any_program_runs() {
    quickcheck::quickcheck(run as fn(Vec<u8>) -> bool);
    #[allow(clippy::needless_pass_by_value, reason = "quickcheck passes by value")]
    fn run(program: Vec<u8>) -> bool {
        session(&program);
        link(&program);
        true
    }
}
