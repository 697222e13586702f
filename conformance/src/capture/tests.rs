//! Tests of the whole way from a file's bytes to streams.

use std::time::Duration;

use quickcheck::quickcheck;

use super::record::Order;
use super::write::{ACK, FIN, KINDS, Kind, Link, PSH, Packet, RST, SYN, Talk};
use super::write::{file, framed, gzip, plain, simple_file};
use super::{Capture, CaptureError, How, Part, Side, Start, Stream, read};

const VM: &str = "10.0.0.9:40000";
const PROXY: &str = "10.0.0.1:13370";

fn opened(bytes: &[u8]) -> Capture {
    read(bytes, 13370).unwrap()
}

/// The client's stream of the only connection.
fn client(bytes: &[u8]) -> Stream {
    let mut capture = opened(bytes);
    assert_eq!(capture.connections.len(), 1, "{:?}", capture.connections);
    let mut connection = capture.connections.remove(0);
    let server = connection.server(13370).unwrap();
    let [a, b] = std::mem::replace(&mut connection.streams, [empty(), empty()]);
    if server == Side::A { b } else { a }
}

fn empty() -> Stream {
    super::stream::Assembler::default().finish()
}

fn holes(stream: &Stream) -> Vec<u64> {
    let length = |part: &Part| match part {
        Part::Hole { length, .. } => Some(*length),
        Part::Bytes { .. } => None,
    };
    stream.parts.iter().filter_map(length).collect()
}

fn talk() -> Vec<Packet> {
    // The numbers wrap in the middle of it.
    let mut talk = Talk::new(VM, PROXY, u32::MAX - 8);
    talk.open(0).client(5, b"hello ").server(10, b"banner").client(20, b"wide ").client(30, b"world");
    talk.close(40);
    talk.packets
}

#[test]
fn every_format_and_link_gives_the_same_streams() {
    let links = [
        Link::Null,
        Link::Loop,
        Link::Ethernet,
        Link::Vlan,
        Link::QinQ,
        Link::Sll,
        Link::Sll2,
        Link::Raw,
        Link::RawBsd,
    ];
    for kind in KINDS {
        for link in links.into_iter().chain([Link::Raw4]) {
            check_talk(&file(kind, link.number(), &framed(link, &talk())), &format!("{kind:?} {link:?}"));
        }
        let mut six = Talk::new("[fe80::9]:40000", "[fe80::1]:13370", u32::MAX - 8);
        six.open(0).client(5, b"hello ").server(10, b"banner").client(20, b"wide ").client(30, b"world");
        six.close(40);
        for link in links.into_iter().chain([Link::Raw6]) {
            let bytes = file(kind, link.number(), &framed(link, &six.packets));
            check_talk(&bytes, &format!("{kind:?} {link:?} v6"));
            check_talk(&gzip(&bytes), &format!("{kind:?} {link:?} v6 gz"));
        }
    }
}

fn check_talk(bytes: &[u8], what: &str) {
    let capture = opened(bytes);
    assert!(capture.broken.is_none() && capture.remarks.is_empty(), "{what} {capture:?}");
    let [connection] = &capture.connections[..] else { panic!("{what} {capture:?}") };
    assert_eq!((capture.frames, connection.last.1), (10, Duration::from_millis(40)), "{what}");
    assert_eq!(connection.opened_by, connection.server(13370).map(Side::other), "{what}");
    let vm = connection.stream(connection.opened_by.unwrap());
    assert_eq!(vm.bytes, b"hello wide world", "{what}");
    let parts = [(0..6, 4, 5, 0), (6..11, 6, 20, 6), (11..16, 7, 30, 6)];
    let parts = parts.map(|(range, frame, millis, knows)| Part::Bytes {
        offset: range.start as i64,
        range,
        knows,
        frame,
        due: frame,
        time: Duration::from_millis(millis),
    });
    assert_eq!((&vm.parts[..], vm.start), (&parts[..], Start::Syn), "{what}");
    assert_eq!(vm.end.map(|end| (end.how, end.frame)), Some((How::Fin, 8)), "{what}");
    assert_eq!(connection.stream(connection.server(13370).unwrap()).bytes, b"banner", "{what}");
}

#[test]
fn simple_packets_are_read_without_a_clock() {
    let frames: Vec<_> = framed(Link::Ethernet, &talk()).into_iter().map(|(_, frame, _)| frame).collect();
    for order in [Order::Big, Order::Little] {
        assert_eq!(client(&simple_file(order, 1, &frames)).bytes, b"hello wide world");
    }
}

#[test]
fn sections_may_follow_each_other_in_either_order() {
    let packets = talk();
    let (first, second) = packets.split_at(5);
    let mut bytes = file(Kind::Pcapng(Order::Big), 1, &framed(Link::Ethernet, first));
    bytes.extend(file(Kind::Pcapng(Order::Little), 276, &framed(Link::Sll2, second)));
    assert_eq!(client(&bytes).bytes, b"hello wide world");
}

#[test]
fn gzip_members_may_be_many() {
    let bytes = plain(&talk());
    let members: Vec<u8> = bytes.chunks(101).flat_map(gzip).collect();
    assert_eq!(client(&members).bytes, b"hello wide world");
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    assert!(matches!(read(&b""[..], 1), Err(CaptureError::Empty)));
    for junk in [&b"\xff"[..], b"<html>no</html>", b"\x1f\x8bjunk and more junk", &gzip(b"text"), &gzip(b"")]
    {
        assert!(matches!(read(junk, 1), Err(CaptureError::NotACapture)), "{junk:?}");
    }
    for kind in KINDS {
        let nothing = file(kind, 1, &[]);
        assert!(matches!(read(&nothing[..], 1), Err(CaptureError::NoFrame(_))), "{kind:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_read_up_to_there() {
    for kind in KINDS {
        let whole = file(kind, 1, &framed(Link::Ethernet, &talk()));
        for bytes in [whole.clone(), gzip(&whole)] {
            let mut cuts = 0;
            for end in 4..bytes.len() {
                match read(&bytes[..end], 13370) {
                    Ok(capture) => {
                        cuts += usize::from(capture.broken.is_some());
                        assert!(capture.frames <= 10);
                    }
                    Err(CaptureError::NoFrame(_) | CaptureError::NotACapture | CaptureError::Io(_)) => {}
                    Err(other) => panic!("{kind:?} {end} {other:?}"),
                }
            }
            assert!(cuts > 0, "{kind:?}");
        }
    }
}

#[test]
fn nothing_panics_on_a_damaged_file() {
    for kind in KINDS {
        let whole = file(kind, 1, &framed(Link::QinQ, &talk()));
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes[..], 13370);
            }
        }
    }
}

#[test]
fn what_the_snap_length_cut_is_a_hole_that_names_the_frame() {
    let mut frames = framed(Link::Ethernet, &talk());
    let short = frames[3].1.len();
    let cut = 14 + 24 + 24 + 2;
    frames[3].1.truncate(cut);
    assert!(cut < short);
    let bytes = file(KINDS[0], 1, &frames);
    let stream = client(&bytes);
    assert_eq!(stream.bytes, b"hewide world");
    let hole = Part::Hole { length: 4, offset: 2, after: Some(4), before: Some(6), clipped: Some(4) };
    assert_eq!(stream.parts[1], hole);
    assert!(opened(&bytes).remarks[0].contains("snap length, the first is frame 4"));
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let packets = talk();
    let whole = packets[3].ip();
    let mut frames = framed(Link::Raw, &packets);
    let part = |offset: usize, length: usize, more: bool| {
        let data = &whole[24..];
        let data = &data[offset..data.len().min(offset + length)];
        let mut ip = whole[..24].to_vec();
        ip[2..4].copy_from_slice(&(24 + data.len() as u16).to_be_bytes());
        let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        ip[6..8].copy_from_slice(&flags.to_be_bytes());
        ip.extend_from_slice(data);
        let length = ip.len();
        (packets[3].time, ip, length)
    };
    let parts = [part(0, 8, true), part(8, 16, true), part(24, 99, false)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut frames = frames.clone();
        frames.splice(3..4, order.map(|n| parts[n].clone()));
        assert_eq!(client(&file(KINDS[0], 101, &frames)).bytes, b"hello wide world");
    }
    frames.splice(3..4, [parts[0].clone(), parts[2].clone()]);
    let bytes = file(KINDS[0], 101, &frames);
    assert_eq!(holes(&client(&bytes)), [6]);
    assert!(opened(&bytes).remarks[0].contains("1 fragmented"));
}

#[test]
fn offloaded_packets_without_a_length_are_read_to_the_end_of_the_frame() {
    let mut frames = framed(Link::Raw, &talk());
    frames[3].1[2..4].fill(0);
    assert_eq!(client(&file(KINDS[0], 101, &frames)).bytes, b"hello wide world");
}

#[test]
fn a_late_repetition_fills_its_gap_and_holds_back_what_follows() {
    let mut packets = talk();
    let mut lost = packets.remove(5);
    lost.time = Duration::from_millis(35);
    packets.insert(6, lost);
    let stream = client(&plain(&packets));
    assert_eq!(stream.bytes, b"hello wide world");
    let last = stream.parts.last().unwrap();
    let Part::Bytes { frame: 6, due: 7, time, .. } = last else { panic!("{last:?}") };
    assert_eq!(*time, Duration::from_millis(35));
}

#[test]
fn a_part_tells_what_its_sender_had_received() {
    let mut talk = Talk::new(VM, PROXY, 100);
    talk.open(0).client(1, b"question").server(2, b"answer").client(3, b"thanks");
    talk.packets.swap(3, 4);
    let capture = opened(&plain(&talk.packets));
    let connection = &capture.connections[0];
    let knows = |side: Side| -> Vec<i64> {
        let knows = |part: &Part| match part {
            Part::Bytes { knows, .. } => *knows,
            Part::Hole { .. } => -1,
        };
        connection.stream(side).parts.iter().map(knows).collect()
    };
    let server = connection.server(13370).unwrap();
    assert_eq!((knows(server), knows(server.other())), (vec![8], vec![0, 6]));
}

#[test]
fn bytes_in_no_frame_are_a_hole_between_frames() {
    let mut packets = talk();
    packets.remove(5);
    let stream = client(&plain(&packets));
    assert_eq!(stream.bytes, b"hello world");
    assert_eq!(
        stream.parts[1],
        Part::Hole { length: 5, offset: 6, after: Some(4), before: Some(6), clipped: None }
    );
    // The last data and the FIN are missing; only the other side's word says so.
    let mut packets = talk();
    packets.truncate(9);
    packets.drain(6..8);
    packets[6].time = Duration::from_millis(40);
    assert_eq!(holes(&client(&plain(&packets))).len(), 1);
}

#[test]
fn overlap_keeps_what_came_first_and_names_the_other() {
    let mut talk = Talk::new(VM, PROXY, 100);
    talk.open(0).client(1, b"abcdef");
    let mut again = talk.packets[3].clone();
    (again.seq, again.payload) = (103, b"CDEfgh".to_vec());
    talk.packets.push(again);
    let stream = client(&plain(&talk.packets));
    assert_eq!((&stream.bytes[..], &stream.conflicts[..]), (&b"abcdefgh"[..], &[5][..]));
}

#[test]
fn probes_of_an_idle_connection_are_no_data() {
    let mut talk = Talk::new(VM, PROXY, 100);
    talk.open(0).client(1, b"abc").server(1, b"");
    let mut probe = talk.packets[3].clone();
    probe.seq += 2;
    for payload in [&b"\0"[..], b""] {
        probe.payload = payload.to_vec();
        talk.packets.push(probe.clone());
    }
    talk.client(7000, b"def");
    let stream = client(&plain(&talk.packets));
    assert_eq!((&stream.bytes[..], stream.conflicts.len(), holes(&stream).len()), (&b"abcdef"[..], 0, 0));
}

#[test]
fn a_connection_that_was_up_already_is_read_from_its_middle() {
    let packets = talk();
    let stream = client(&plain(&packets[3..]));
    assert_eq!((&stream.bytes[..], stream.start), (&b"hello wide world"[..], Start::Middle));
    // The answer to its SYN is as good as the SYN.
    assert_eq!(client(&plain(&packets[1..])).start, Start::Syn);
    // The first frames in disorder, SYN last.
    let mut mixed = packets.clone();
    mixed.swap(0, 5);
    let stream = client(&plain(&mixed));
    assert_eq!((&stream.bytes[..], stream.start), (&b"hello wide world"[..], Start::Syn));
}

#[test]
fn a_new_syn_on_the_same_ports_is_a_new_connection() {
    let mut packets = talk();
    let mut second = Talk::new(VM, PROXY, 70_000);
    second.open(100).client(110, b"again").put(0, 120, RST | ACK, b"");
    packets.extend(second.packets.iter().cloned());
    // A repeated SYN is not.
    packets.insert(11, packets[10].clone());
    let capture = opened(&plain(&packets));
    let streams: Vec<_> =
        capture.connections.iter().map(|c| &c.stream(c.opened_by.unwrap()).bytes[..]).collect();
    assert_eq!(streams, [&b"hello wide world"[..], b"again"]);
    let connection = &capture.connections[1];
    let end = connection.stream(connection.opened_by.unwrap()).end.unwrap();
    assert_eq!((end.how, end.frame), (How::Rst, 16));
}

#[test]
fn data_far_from_a_closed_connection_is_a_new_one() {
    let mut packets = talk();
    let mut second = Talk::new(VM, PROXY, 3_000_000_000);
    second.client(500, b"again").server(500, b"yes");
    packets.extend(second.packets.iter().cloned());
    let capture = opened(&plain(&packets));
    assert_eq!(capture.connections.len(), 2);
}

#[test]
fn of_other_ports_only_the_beginning_is_kept() {
    let mut talk = Talk::new(VM, "10.0.0.1:80", 100);
    talk.open(0);
    for n in 0..20 {
        talk.client(n, &[7; 1000]);
    }
    let capture = opened(&plain(&talk.packets));
    assert_eq!(capture.connections[0].streams.iter().map(|s| s.bytes.len()).max(), Some(1024));
}

#[test]
fn bytes_past_the_fin_are_not_of_the_stream() {
    let mut talk = Talk::new(VM, PROXY, 100);
    talk.open(0).client(1, b"abc").put(0, 2, FIN | PSH | ACK, b"def").put(0, 3, SYN ^ SYN | ACK, b"ghi");
    assert_eq!(client(&plain(&talk.packets)).bytes, b"abcdef");
}

quickcheck! {
    /// Segments in any order within a window, any of them more than once, cut anew: the same stream.
    fn disorder_and_repetition_change_nothing(
        data: Vec<u8>,
        cuts: Vec<u8>,
        moves: Vec<(u8, u8, u8)>,
        isn: u32
    ) -> bool {
        let mut talk = Talk::new(VM, PROXY, isn);
        talk.open(0);
        let (mut rest, mut cuts, mut sent) = (&data[..], cuts.iter().cycle(), 0);
        while !rest.is_empty() {
            let length = cuts.next().map_or(7, |cut| usize::from(*cut % 9) + 1).min(rest.len());
            talk.client(sent, &rest[..length]);
            rest = &rest[length..];
            sent += 1;
        }
        talk.close(sent);
        let mut packets = talk.packets;
        for (at, by, how) in moves {
            let from = usize::from(at) % packets.len();
            let to = (from + usize::from(by % 16)).min(packets.len() - 1);
            match how % 4 {
                0 => packets.swap(from, to),
                1 => {
                    let again = packets[from].clone();
                    packets.insert(to, again);
                }
                // Two segments in one, at the place of either.
                2 if from + 1 < packets.len() => {
                    let (one, two) = (packets[from].clone(), packets[from + 1].clone());
                    let follows = one.source == two.source
                        && one.seq.wrapping_add(one.payload.len() as u32) == two.seq
                        && (one.flags | two.flags) & (SYN | FIN) == 0;
                    if follows {
                        let mut both = one;
                        both.payload.extend_from_slice(&two.payload);
                        packets.insert(to, both);
                    }
                }
                _ => {
                    // The second half of a segment again.
                    let mut half = packets[from].clone();
                    if half.payload.len() > 1 && half.flags & (SYN | FIN) == 0 {
                        let at = half.payload.len() / 2;
                        half.seq = half.seq.wrapping_add(at as u32);
                        half.payload.drain(..at);
                        packets.insert(to, half);
                    }
                }
            }
        }
        let capture = opened(&plain(&packets));
        let connections = capture.connections.iter();
        let found: Vec<_> = connections.filter_map(|c| Some(c.stream(c.server(13370)?.other()))).collect();
        let [found] = found[..] else { return false };
        found.bytes == data && holes(found).is_empty() && found.conflicts.is_empty()
    }
}
