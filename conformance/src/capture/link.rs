//! The link layer: where in a frame the IP packet begins.

/// What a frame holds.
pub(super) enum Found<'a> {
    /// An IP packet, with whatever padding follows it.
    Ip(&'a [u8]),
    /// Something else, or too little.
    Other,
    /// Nobody here knows this kind of frame.
    UnknownLink,
}

/// Finds the IP packet in a frame of link type `link`.
pub(super) fn packet(link: u32, frame: &[u8]) -> Found<'_> {
    match link {
        // NULL and LOOP: four bytes of address family, in an order and with values that depend on the
        // system that captured. IP's own version field says as much.
        0 | 108 => ip(frame.get(4..)),
        1 => frame.get(12..).map_or(Found::Other, ethertype),
        12 | 14 | 101 | 228 | 229 => ip(Some(frame)),
        // SLL: the protocol is the last of its 16 bytes.
        113 => frame.get(14..).map_or(Found::Other, ethertype),
        // SLL2: the protocol comes first of its 20 bytes.
        276 => match (frame.get(..2), frame.get(20..)) {
            (Some(kind), Some(rest)) => typed(u16::from_be_bytes([kind[0], kind[1]]), rest),
            _ => Found::Other,
        },
        _ => Found::UnknownLink,
    }
}

/// `rest` starts with an ethertype.
fn ethertype(rest: &[u8]) -> Found<'_> {
    match rest {
        [high, low, rest @ ..] => typed(u16::from_be_bytes([*high, *low]), rest),
        _ => Found::Other,
    }
}

/// `rest` is what an ethertype of `kind` announces.
fn typed(mut kind: u16, mut rest: &[u8]) -> Found<'_> {
    // Each VLAN tag is two bytes of tag and the next ethertype (802.1Q, 802.1ad and its forerunners).
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
        match rest {
            [_, _, high, low, inner @ ..] => {
                kind = u16::from_be_bytes([*high, *low]);
                rest = inner;
            }
            _ => return Found::Other,
        }
    }
    match (kind, rest) {
        (0x0800 | 0x86dd, _) => ip(Some(rest)),
        // A length instead of a type: 802.2 with a SNAP header may still carry IP.
        (0..=1500, [0xaa, 0xaa, 0x03, 0, 0, 0, high, low, inner @ ..]) => {
            match u16::from_be_bytes([*high, *low]) {
                0x0800 | 0x86dd => ip(Some(inner)),
                _ => Found::Other,
            }
        }
        _ => Found::Other,
    }
}

fn ip(packet: Option<&[u8]>) -> Found<'_> {
    match packet {
        Some(packet @ [first, ..]) if matches!(first >> 4, 4 | 6) => Found::Ip(packet),
        _ => Found::Other,
    }
}
