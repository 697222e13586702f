//! Sessions as hosts and proxies have them, byte by byte.

use crate::capture::write::{Packet, Talk};

pub(super) const PROXY: &str = "10.0.0.1:13370";
pub(super) const UUID: &str = "01 23 45 67 89 ab cd ef-fe dc ba 98 00 00 00 00";

/// Hex digits and text between quotes, as bytes.
pub(super) fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (n, part) in text.split('"').enumerate() {
        if n % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part.chars().filter_map(|c| c.to_digit(16)).collect();
        bytes.extend(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8));
    }
    bytes
}

/// The opening of a first connection as hosts do it (§3.1), from `at` milliseconds on.
pub(super) fn opening(talk: &mut Talk, at: u64) {
    talk.open(at);
    talk.client(at, &wire("fffb25"));
    talk.server(at + 1, &wire("fffb00 fffb03 fffb01 fffd00 fffd03 fffde8"));
    talk.server(at + 1, &wire("fffe25"));
    talk.client(at + 2, &wire("fffd00 fffd03 fffd01 fffb00 fffb03 fffbe8"));
    talk.server(at + 3, &wire("fffae8 01 000102032829 2b2c2d2e30 464749 50515253 fff0"));
    talk.client(
        at + 4,
        &wire("fffae8 00 000102032829 2b2c2d2e30 464749 50515253 fff0 fffae8 46 \"SvSPC.py\" fff0"),
    );
    talk.server(at + 5, &wire("fffae8 51 fff0 fffae8 53 fff0"));
    talk.client(at + 6, &wire(&format!("fffae8 50 \"{UUID}\" fff0")));
    talk.server(at + 7, &wire("fffae8 47 fff0"));
    talk.client(at + 8, &wire("fffae8 52 \"web01\" fff0"));
    talk.client(at + 8, &wire("fffb2c"));
    talk.server(at + 9, &wire("fffe2c"));
}

/// The opening of a target (§3.2): its PEER comes before its UUID and name.
pub(super) fn arrival(talk: &mut Talk, at: u64, peer: &str, peer_ok: Option<&str>) {
    talk.open(at);
    talk.client(at, &wire("fffb25"));
    talk.server(at + 1, &wire("fffb00 fffb03 fffb01 fffd00 fffd03 fffde8 fffe25"));
    talk.client(at + 2, &wire("fffd00 fffd03 fffd01 fffb00 fffb03 fffbe8"));
    talk.server(
        at + 3,
        &wire("fffae8 01 000102032829 2b2c2d2e30 464749 50515253 fff0 fffae851fff0 fffae853fff0"),
    );
    let list = "fffae8 00 000102032829 2b2c2d2e30 464749 50515253 fff0";
    talk.client(at + 4, &wire(&format!("{list} fffae8 2c {peer} fff0 fffb2c")));
    if let Some(peer_ok) = peer_ok {
        talk.server(at + 5, &wire(&format!("fffae8 2d {peer_ok} fff0")));
    }
    talk.server(at + 5, &wire("fffe2c"));
    talk.client(at + 6, &wire(&format!("fffae8 50 \"{UUID}\" fff0 fffae8 52 \"web01\" fff0")));
}

pub(super) fn source() -> Talk {
    let mut source = Talk::new("10.0.0.8:40000", PROXY, 1000);
    opening(&mut source, 0);
    source.client(50, b"login: ");
    source
}

/// A move as vmotion.md §1 shows it; the sequence and secret are those of VMware's own capture.
pub(super) fn moved() -> Vec<Packet> {
    let mut source = source();
    source.client(100, &wire("fffae8 28 7619ffffe9 fff0"));
    source.server(101, &wire("fffae8 29 7619ffffe9 5521998c fff0"));
    source.client(102, b"last words");
    let mut target = Talk::new("10.0.0.9:41000", PROXY, 5000);
    arrival(&mut target, 200, "7619ffffe9 5521998c", Some("7619ffffe9"));
    target.client(230, b" early ");
    // The source's end comes before COMPLETE.
    source.close(240);
    target.client(250, &wire("fffae8 2e 7619ffffe9 fff0"));
    target.server(260, b"typed");
    target.client(300, b"and on");
    target.close(400);
    merged(&[&source, &target])
}

pub(super) fn merged(talks: &[&Talk]) -> Vec<Packet> {
    let mut packets: Vec<Packet> = talks.iter().flat_map(|talk| talk.packets.clone()).collect();
    packets.sort_by_key(|packet| packet.time);
    packets
}
