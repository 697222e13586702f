//! IPv4 and IPv6 down to a TCP segment: header lengths, extension headers, fragments (RFC 791, 8200).
//!
//! Checksums are not looked at: on the machine that sends, the network card fills them in after the
//! capture has seen the packet.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a packet turned out to be.
pub(super) enum Parsed<'a> {
    /// A TCP segment, its ports not yet read.
    Tcp(Whole<'a>),
    /// Another protocol.
    Other,
    /// A part of a packet whose other parts are still missing.
    Fragment,
    /// Its headers make no sense.
    Unreadable,
}

/// A whole TCP segment and its addresses.
pub(super) struct Whole<'a> {
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    bytes: Cow<'a, [u8]>,
    /// How long it was on the wire.
    length: usize,
}

/// A TCP segment's fields (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    /// The acknowledgement number, if that flag is set.
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// The payload as far as it was captured.
    pub(super) payload: &'a [u8],
    /// How long the payload was on the wire.
    pub(super) length: usize,
}

/// Takes an IP packet apart. `on_wire`: its length before the capture cut it.
pub(super) fn parse<'a>(
    packet: &'a [u8],
    on_wire: usize,
    frame: u64,
    fragments: &mut Fragments,
) -> Parsed<'a> {
    match packet[0] >> 4 {
        4 => v4(packet, on_wire, frame, fragments),
        _ => v6(packet, on_wire, frame, fragments),
    }
}

fn v4<'a>(packet: &'a [u8], on_wire: usize, frame: u64, fragments: &mut Fragments) -> Parsed<'a> {
    let header = usize::from(packet[0] & 0xf) * 4;
    if header < 20 || packet.len() < header {
        return Parsed::Unreadable;
    }
    // A total of zero is what segmentation offload leaves for the network card to fill in.
    let total = match be16(packet, 2) {
        0 => on_wire,
        total => total,
    };
    if total < header {
        return Parsed::Unreadable;
    }
    let source = IpAddr::V4(Ipv4Addr::from([packet[12], packet[13], packet[14], packet[15]]));
    let target = IpAddr::V4(Ipv4Addr::from([packet[16], packet[17], packet[18], packet[19]]));
    if packet[9] != TCP {
        return Parsed::Other;
    }
    let bytes = &packet[header..packet.len().min(total)];
    let (flags, id) = (be16(packet, 6), be16(packet, 4));
    let (more, offset) = (flags & 0x2000 != 0, (flags & 0x1fff) * 8);
    if more || offset > 0 {
        let key = Key { source, target, id: id as u32 };
        return fragments.take(key, offset, more, bytes, total - header, frame);
    }
    whole(source, target, Cow::Borrowed(bytes), total - header)
}

fn v6<'a>(packet: &'a [u8], on_wire: usize, frame: u64, fragments: &mut Fragments) -> Parsed<'a> {
    if packet.len() < 40 {
        return Parsed::Unreadable;
    }
    let total = match be16(packet, 4) {
        0 => on_wire,
        payload => 40 + payload,
    };
    let address = |at: usize| {
        let raw: [u8; 16] = packet[at..at + 16].try_into().expect("sixteen bytes");
        IpAddr::V6(Ipv6Addr::from(raw))
    };
    let (source, target) = (address(8), address(24));
    let bytes = &packet[..packet.len().min(total)];
    let (mut next, mut at) = (packet[6], 40);
    loop {
        match next {
            TCP => {
                let Some(rest) = bytes.get(at..) else { return Parsed::Unreadable };
                return whole(source, target, Cow::Borrowed(rest), total - at);
            }
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: a length in eights.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let Some(head) = bytes.get(at..at + 2) else { return Parsed::Unreadable };
                next = head[0];
                at += (usize::from(head[1]) + 1) * 8;
            }
            // Authentication: a length in fours.
            51 => {
                let Some(head) = bytes.get(at..at + 2) else { return Parsed::Unreadable };
                next = head[0];
                at += (usize::from(head[1]) + 2) * 4;
            }
            44 => {
                let Some(head) = bytes.get(at..at + 8) else { return Parsed::Unreadable };
                let (flags, after) = (be16(head, 2), &bytes[at + 8..]);
                let (more, offset) = (flags & 1 != 0, flags & 0xfff8);
                let id = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                next = head[0];
                at += 8;
                if !more && offset == 0 {
                    continue;
                }
                if next != TCP {
                    return Parsed::Other;
                }
                let key = Key { source, target, id };
                return fragments.take(key, offset, more, after, total - at, frame);
            }
            _ => return Parsed::Other,
        }
        if at > bytes.len() {
            return Parsed::Unreadable;
        }
    }
}

fn whole<'a>(source: IpAddr, target: IpAddr, bytes: Cow<'a, [u8]>, length: usize) -> Parsed<'a> {
    if bytes.len() < 4 {
        return Parsed::Unreadable;
    }
    let (from, to) = (be16(&bytes, 0) as u16, be16(&bytes, 2) as u16);
    let (source, target) = (SocketAddr::new(source, from), SocketAddr::new(target, to));
    Parsed::Tcp(Whole { source, target, bytes, length })
}

impl Whole<'_> {
    /// The TCP header's fields; `None` if it is cut or makes no sense.
    pub(super) fn segment(&self) -> Option<Segment<'_>> {
        let bytes = &*self.bytes;
        if bytes.len() < 20 {
            return None;
        }
        let header = usize::from(bytes[12] >> 4) * 4;
        if header < 20 || header > self.length {
            return None;
        }
        let flags = bytes[13];
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Segment {
            seq: word(4),
            ack: (flags & 0x10 != 0).then(|| word(8)),
            syn: flags & 0x02 != 0,
            fin: flags & 0x01 != 0,
            rst: flags & 0x04 != 0,
            payload: bytes.get(header..).unwrap_or(&[]),
            length: self.length - header,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Packets of which some fragments have been seen. At most [`MAX_PARTIAL`] of them; the oldest makes room.
#[derive(Default)]
pub(super) struct Fragments {
    partial: BTreeMap<Key, Partial>,
    age: VecDeque<Key>,
    given_up: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    source: IpAddr,
    target: IpAddr,
    id: u32,
}

#[derive(Default)]
struct Partial {
    /// By offset.
    parts: BTreeMap<usize, Vec<u8>>,
    /// The whole packet's length, once its last fragment has been seen.
    length: Option<usize>,
    first_frame: u64,
}

impl Fragments {
    /// Packets that never became whole.
    pub(super) fn unfinished(&self) -> usize {
        self.given_up + self.partial.len()
    }

    fn take(
        &mut self,
        key: Key,
        offset: usize,
        more: bool,
        bytes: &[u8],
        length: usize,
        frame: u64,
    ) -> Parsed<'static> {
        // The number is used again sooner or later: parts far apart are not of one packet.
        if self.partial.get(&key).is_some_and(|partial| frame - partial.first_frame > MAX_APART) {
            self.drop_one(key);
        }
        if !self.partial.contains_key(&key) {
            if self.age.len() == MAX_PARTIAL {
                let oldest = self.age[0];
                self.drop_one(oldest);
            }
            self.age.push_back(key);
            self.partial.insert(key, Partial { first_frame: frame, ..Partial::default() });
        }
        let partial = self.partial.get_mut(&key).expect("just made");
        if bytes.len() == length && offset + length <= 65_535 {
            partial.parts.entry(offset).or_insert_with(|| bytes.to_vec());
            if !more {
                partial.length = Some(offset + length);
            }
        }
        let Some(bytes) = partial.join() else { return Parsed::Fragment };
        self.partial.remove(&key);
        self.age.retain(|other| *other != key);
        let length = bytes.len();
        whole(key.source, key.target, Cow::Owned(bytes), length)
    }

    fn drop_one(&mut self, key: Key) {
        self.partial.remove(&key);
        self.age.retain(|other| *other != key);
        self.given_up += 1;
    }
}

impl Partial {
    /// The whole packet, if no byte is missing.
    fn join(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut bytes = Vec::with_capacity(length);
        for (offset, part) in &self.parts {
            // Fragments may overlap; the first to cover a byte is kept.
            let fresh = bytes.len().checked_sub(*offset)?;
            bytes.extend_from_slice(part.get(fresh..).unwrap_or(&[]));
        }
        bytes.truncate(length);
        (bytes.len() == length).then_some(bytes)
    }
}

const TCP: u8 = 6;

/// Fragmented packets waited for at once.
const MAX_PARTIAL: usize = 64;

/// Frames between the first and the last fragment of one packet.
const MAX_APART: u64 = 10_000;
