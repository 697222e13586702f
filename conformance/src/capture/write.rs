//! Captures made by hand, for tests: a scripted TCP conversation, its packets on any link, in any format.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::record::Order;

/// One TCP segment between two endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    pub(crate) time: Duration,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// A conversation between a client (side 0) and a server (side 1).
pub(crate) struct Talk {
    ends: [SocketAddr; 2],
    next: [u32; 2],
    pub(crate) packets: Vec<Packet>,
}

impl Talk {
    /// Both sides' first sequence number is `isn`; nothing is said yet.
    pub(crate) fn new(client: &str, server: &str, isn: u32) -> Self {
        let ends = [client.parse().unwrap(), server.parse().unwrap()];
        Self { ends, next: [isn; 2], packets: Vec::new() }
    }

    /// The three segments that open a connection.
    pub(crate) fn open(&mut self, millis: u64) -> &mut Self {
        self.put(0, millis, SYN, &[]);
        self.put(1, millis, SYN | ACK, &[]);
        self.put(0, millis, ACK, &[])
    }

    /// What the client says.
    pub(crate) fn client(&mut self, millis: u64, payload: &[u8]) -> &mut Self {
        self.put(0, millis, PSH | ACK, payload)
    }

    /// What the server says.
    pub(crate) fn server(&mut self, millis: u64, payload: &[u8]) -> &mut Self {
        self.put(1, millis, PSH | ACK, payload)
    }

    /// Both ends close, the client first.
    pub(crate) fn close(&mut self, millis: u64) -> &mut Self {
        self.put(0, millis, FIN | ACK, &[]);
        self.put(1, millis, FIN | ACK, &[]);
        self.put(0, millis, ACK, &[])
    }

    /// One segment of `side`.
    pub(crate) fn put(&mut self, side: usize, millis: u64, flags: u8, payload: &[u8]) -> &mut Self {
        self.packets.push(Packet {
            time: Duration::from_millis(millis),
            source: self.ends[side],
            target: self.ends[1 - side],
            seq: self.next[side],
            ack: if flags & ACK == 0 { 0 } else { self.next[1 - side] },
            flags,
            payload: payload.to_vec(),
        });
        let takes = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[side] = self.next[side].wrapping_add(takes);
        self
    }
}

/// What is around an IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Null,
    Loop,
    Ethernet,
    Vlan,
    QinQ,
    Sll,
    Sll2,
    Raw,
    RawBsd,
    Raw4,
    Raw6,
}

impl Link {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Loop => 108,
            Self::Ethernet | Self::Vlan | Self::QinQ => 1,
            Self::Sll => 113,
            Self::Sll2 => 276,
            Self::Raw => 101,
            Self::RawBsd => 12,
            Self::Raw4 => 228,
            Self::Raw6 => 229,
        }
    }

    /// The frame around an IP packet.
    pub(crate) fn frame(self, packet: &[u8]) -> Vec<u8> {
        let six = packet[0] >> 4 == 6;
        let kind: [u8; 2] = if six { [0x86, 0xdd] } else { [8, 0] };
        let mut frame = match self {
            Self::Null => if six { 30u32 } else { 2 }.to_le_bytes().to_vec(),
            Self::Loop => if six { 24u32 } else { 2 }.to_be_bytes().to_vec(),
            Self::Ethernet => [&[2; 12][..], &kind].concat(),
            Self::Vlan => [&[2; 12][..], &[0x81, 0, 0, 7], &kind].concat(),
            Self::QinQ => [&[2; 12][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9], &kind].concat(),
            Self::Sll => [&[0; 14][..], &kind].concat(),
            Self::Sll2 => [&kind, &[0; 18][..]].concat(),
            Self::Raw | Self::RawBsd | Self::Raw4 | Self::Raw6 => Vec::new(),
        };
        frame.extend_from_slice(packet);
        while matches!(self, Self::Ethernet) && frame.len() < 60 {
            frame.push(0xee);
        }
        frame
    }
}

impl Packet {
    /// The TCP segment, without a checksum.
    pub(crate) fn tcp(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&self.source.port().to_be_bytes());
        tcp.extend_from_slice(&self.target.port().to_be_bytes());
        tcp.extend_from_slice(&self.seq.to_be_bytes());
        tcp.extend_from_slice(&self.ack.to_be_bytes());
        // Four bytes of options.
        tcp.extend_from_slice(&[0x60, self.flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 1, 1]);
        tcp.extend_from_slice(&self.payload);
        tcp
    }

    /// The IP packet.
    pub(crate) fn ip(&self) -> Vec<u8> {
        let tcp = self.tcp();
        let mut ip = Vec::new();
        match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                // Four bytes of options.
                ip.extend_from_slice(&[0x46, 0]);
                ip.extend_from_slice(&(24 + tcp.len() as u16).to_be_bytes());
                ip.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
                ip.extend_from_slice(&source.octets());
                ip.extend_from_slice(&target.octets());
                ip.extend_from_slice(&[1, 1, 1, 1]);
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                ip.extend_from_slice(&[0x60, 0, 0, 0]);
                ip.extend_from_slice(&(8 + tcp.len() as u16).to_be_bytes());
                ip.extend_from_slice(&[60, 64]);
                ip.extend_from_slice(&source.octets());
                ip.extend_from_slice(&target.octets());
                ip.extend_from_slice(&[6, 0, 1, 4, 0, 0, 0, 0]);
            }
            _ => panic!("mixed families"),
        }
        ip.extend_from_slice(&tcp);
        ip
    }
}

/// What a file looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Pcap(Order, u32),
    Pcapng(Order),
}

/// Every format that is read.
pub(super) const KINDS: [Kind; 8] = [
    Kind::Pcap(Order::Little, 0xa1b2_c3d4),
    Kind::Pcap(Order::Big, 0xa1b2_c3d4),
    Kind::Pcap(Order::Little, 0xa1b2_3c4d),
    Kind::Pcap(Order::Big, 0xa1b2_3c4d),
    Kind::Pcap(Order::Little, 0xa1b2_cd34),
    Kind::Pcap(Order::Big, 0xa1b2_cd34),
    Kind::Pcapng(Order::Little),
    Kind::Pcapng(Order::Big),
];

/// The file of these frames: their time, their bytes, and their length on the wire.
pub(super) fn file(kind: Kind, link: u32, frames: &[(Duration, Vec<u8>, usize)]) -> Vec<u8> {
    match kind {
        Kind::Pcap(order, magic) => {
            let mut out = Out(order, Vec::new());
            out.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(262_144).u32(link);
            for (time, frame, length) in frames {
                let fraction = if magic == 0xa1b2_3c4d { time.subsec_nanos() } else { time.subsec_micros() };
                out.u32(1_600_000_000 + time.as_secs() as u32).u32(fraction);
                out.u32(frame.len() as u32).u32(*length as u32);
                if magic == 0xa1b2_cd34 {
                    out.u32(0).u32(0);
                }
                out.1.extend_from_slice(frame);
            }
            out.1
        }
        Kind::Pcapng(order) => {
            let mut out = section(order);
            // Milliseconds in tenths and a name; then one that nothing comes from, in 2^-20 s.
            out.block(1, |out| {
                out.u16(link as u16).u16(0).u32(0).u16(2).u16(3).bytes(b"eth\0").u16(9).u16(1);
                out.bytes(&[4, 0, 0, 0]).u16(0).u16(0);
            });
            out.block(1, |out| {
                out.u16(147).u16(0).u32(0).u16(9).u16(1).bytes(&[0x94, 0, 0, 0]).u16(0).u16(0);
            });
            for (n, (time, frame, length)) in frames.iter().enumerate() {
                let ticks = 16_000_000_000_000 + time.as_micros() as u64 / 100;
                let (high, low) = ((ticks >> 32) as u32, ticks as u32);
                // The enhanced and the old packet block in turn, with blocks between that mean nothing.
                if n % 2 == 0 {
                    out.block(6, |out| {
                        out.u32(0).u32(high).u32(low).u32(frame.len() as u32).u32(*length as u32);
                        out.padded(frame).u16(2).u16(4).u32(0).u16(0).u16(0);
                    });
                } else {
                    out.block(2, |out| {
                        out.u16(0).u16(0).u32(high).u32(low).u32(frame.len() as u32).u32(*length as u32);
                        out.padded(frame);
                    });
                    out.block(0x0bad, |out| {
                        out.u32(n as u32);
                    });
                }
            }
            out.1
        }
    }
}

/// A pcapng file of simple packet blocks.
pub(super) fn simple_file(order: Order, link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = section(order);
    out.block(1, |out| {
        out.u16(link as u16).u16(0).u32(0);
    });
    for frame in frames {
        out.block(3, |out| {
            out.u32(frame.len() as u32).padded(frame);
        });
    }
    out.1
}

fn section(order: Order) -> Out {
    let mut out = Out(order, Vec::new());
    out.block(super::pcapng::SECTION_HEADER, |out| {
        out.u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX);
    });
    out
}

struct Out(Order, Vec<u8>);

impl Out {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.1.extend_from_slice(bytes);
        self
    }

    fn padded(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes(bytes);
        self.1.resize(self.1.len().next_multiple_of(4), 0);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        let bytes = if self.0 == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() };
        self.bytes(&bytes)
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        let bytes = if self.0 == Order::Big { value.to_be_bytes() } else { value.to_le_bytes() };
        self.bytes(&bytes)
    }

    fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Self)) {
        let mut body = Out(self.0, Vec::new());
        fill(&mut body);
        let length = body.1.len() as u32 + 12;
        self.u32(kind).u32(length);
        self.bytes(&body.1);
        self.u32(length);
    }
}

/// The packets in frames of `link`, nothing cut.
pub(crate) fn framed(link: Link, packets: &[Packet]) -> Vec<(Duration, Vec<u8>, usize)> {
    let frame = |packet: &Packet| {
        let frame = link.frame(&packet.ip());
        let length = frame.len();
        (packet.time, frame, length)
    };
    packets.iter().map(frame).collect()
}

/// A plain file of these packets.
pub(crate) fn plain(packets: &[Packet]) -> Vec<u8> {
    file(KINDS[0], 1, &framed(Link::Ethernet, packets))
}

/// `bytes` as one gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}
