//! Sessions written by hand from vmware.md §3 and vmotion.md §1, captured, and played to the core in memory.

mod talk;

use super::*;
use crate::capture::write::{ACK, FIN, Packet, RST, Talk, gzip, plain};
use report::{Culprit, Verdict, Vm};
use talk::{PROXY, UUID, arrival, merged, moved, opening, source, wire};

fn args() -> ReplayArgs {
    ReplayArgs {
        capture: PathBuf::new(),
        port: 13370,
        target: None,
        client_port: 50000,
        client_ports: 2000,
        speed: Speed::Times(1.0),
        multi_console: false,
        json: false,
        verbose: false,
        tls: TlsArgs::default(),
    }
}

fn checked_in(name: &str) -> Report {
    let path = format!("{}/captures/{name}", env!("CARGO_MANIFEST_DIR"));
    report_of(&std::fs::read(path).unwrap(), &args())
}

fn report_of(bytes: &[u8], args: &ReplayArgs) -> Report {
    let capture = capture::read(bytes, args.port).unwrap();
    let script = script::of(&capture, args.port).unwrap();
    let mut memory = Memory::keeping_all(args.multi_console);
    let said = std::cell::RefCell::new(Vec::new());
    let report = replay(&script, &mut memory, args, |step| said.borrow_mut().push(step.clone()));
    complete(report, &capture, "test".into())
}

fn report(packets: &[Packet]) -> Report {
    report_of(&plain(packets), &args())
}

/// The one VM of a report that has nothing to complain about.
fn one(report: &Report) -> &Vm {
    let [vm] = &report.vms[..] else { panic!("{report}") };
    assert!(report.is_good(), "{report}");
    assert_eq!(vm.client, Verdict::Exact { from: 0 }, "{report}");
    vm
}

fn tally(begun: usize, completed: usize, aborted: usize, refused: usize) -> moves::Tally {
    moves::Tally { begun, completed, aborted, refused, unfinished: 0 }
}

fn rules(vm: &Vm) -> Vec<(Culprit, &'static str)> {
    vm.violations.iter().map(|line| (line.by, line.rule.0)).collect()
}

#[test]
fn a_vm_that_prints_is_seen_to_the_last_byte() {
    let mut talk = source();
    talk.client(60, &wire("\"caf\" ffff \"e\" 0d00 0d0a"));
    for n in 0..200 {
        talk.client(70 + n, &[b'a' + (n % 26) as u8]);
    }
    talk.close(400);
    let report = report(&talk.packets);
    let vm = one(&report);
    assert_eq!((vm.name.as_str(), vm.bytes, vm.malformed), ("web01", 7 + 9 + 200, 0));
    assert_eq!(vm.uuid, "0123456789abcdeffedcba9800000000");
    assert_eq!(rules(vm), [], "{report}");
    assert!(report.differences.is_empty() && report.remarks.is_empty(), "{report}");
}

#[test]
fn a_move_completes_with_our_own_secret() {
    for speed in [Speed::Times(1.0), Speed::Times(50.0), Speed::Max] {
        let report = report_of(&gzip(&plain(&moved())), &ReplayArgs { speed, ..args() });
        let vm = one(&report);
        assert_eq!((vm.captured, vm.replayed), (tally(1, 1, 0, 0), tally(1, 1, 0, 0)), "{report}");
        assert_eq!((vm.bytes, vm.conns.len(), vm.typed), (7 + 10 + 7 + 6, 2, (5, 5)), "{report}");
        assert_eq!(rules(vm), [], "{report}");
        assert!(report.differences.is_empty(), "{report}");
    }
}

#[test]
fn an_aborted_move_goes_on_at_the_source() {
    let mut source = source();
    source.client(100, &wire("fffae8 28 00000001 fff0"));
    source.server(101, &wire("fffae8 29 00000001 aabbccdd fff0"));
    let mut target = Talk::new("10.0.0.9:41000", PROXY, 5000);
    arrival(&mut target, 200, "00000001 aabbccdd", Some("00000001"));
    target.client(240, b"nobody may see this");
    source.client(300, &wire("fffae8 30 fff0"));
    target.close(310);
    source.client(320, b"still here");
    source.server(330, b"typed");
    source.close(400);
    let report = report(&merged(&[&source, &target]));
    let vm = one(&report);
    assert_eq!((vm.captured, vm.replayed), (tally(1, 0, 1, 0), tally(1, 0, 1, 0)), "{report}");
    assert_eq!((vm.bytes, vm.typed, report.apart.len()), (17, (5, 5), 1), "{report}");
    assert_eq!(rules(vm), [], "{report}");
}

#[test]
fn a_captured_refusal_is_a_difference_and_the_rest_plays() {
    let mut source = source();
    source.client(100, &wire("fffae8 28 00000001 fff0"));
    source.server(101, &wire("fffae8 2b 00000001 fff0"));
    source.client(200, b"stays");
    source.server(210, b"typed");
    // It tries again, and then it works.
    source.client(300, &wire("fffae8 28 00000002 fff0"));
    source.server(301, &wire("fffae8 29 00000002 aabbccdd fff0"));
    let mut target = Talk::new("10.0.0.9:41000", PROXY, 5000);
    arrival(&mut target, 400, "00000002 aabbccdd", Some("00000002"));
    target.client(450, &wire("fffae8 2e 00000002 fff0 \"moved\""));
    source.close(460);
    let report = report(&merged(&[&source, &target]));
    let vm = one(&report);
    assert_eq!((vm.captured, vm.replayed), (tally(2, 1, 0, 1), tally(2, 1, 1, 0)), "{report}");
    assert_eq!((vm.bytes, vm.typed), (17, (5, 5)), "{report}");
    let [(frame, difference)] = &report.differences[..] else { panic!("{report}") };
    assert!(difference.contains("NOTNOW") && *frame == 17, "{report}");
}

#[test]
fn a_peer_with_a_wrong_secret_stays_wrong() {
    let mut source = source();
    source.client(100, &wire("fffae8 28 00000001 fff0"));
    source.server(101, &wire("fffae8 29 00000001 aabbccdd fff0"));
    let mut target = Talk::new("10.0.0.9:41000", PROXY, 5000);
    arrival(&mut target, 200, "00000001 aabbccde", None);
    target.close(1000);
    source.client(1100, &wire("fffae8 30 fff0 \"still\""));
    let packets = merged(&[&source, &target]);
    let frame = packets.iter().position(|packet| packet.payload.ends_with(&wire("bbccde fff0 fffb2c")));
    let frame = frame.unwrap() as u64 + 1;
    let report = report(&packets);
    let vm = one(&report);
    assert_eq!((vm.captured, vm.replayed), (tally(1, 0, 1, 0), tally(1, 0, 1, 0)), "{report}");
    let [apart] = &report.apart[..] else { panic!("{report}") };
    let broken: Vec<_> = apart.violations.iter().map(|line| (line.by, line.rule.0, line.frame)).collect();
    assert_eq!(broken, [(Culprit::Vm, "peer-unmatched", frame)], "{report}");
}

#[test]
fn what_the_captured_proxy_did_wrong_is_told_with_its_frame() {
    let mut source = source();
    source.server(60, &wire("fffae8 29 00000009 aabbccdd fff0"));
    source.client(100, &wire("fffae8 28 00000001 fff0"));
    source.server(101, &wire("fffae8 29 00000001 aabbccdd fff0"));
    source.server(102, b"too late");
    let mut target = Talk::new("10.0.0.9:41000", PROXY, 5000);
    arrival(&mut target, 200, "00000001 aabbccdd", Some("00000001aabbccdd"));
    target.client(450, &wire("fffae8 2e 00000001 fff0"));
    target.client(500, &wire("fffae8 63 01 fff0 fff0 \"x\""));
    source.close(460);
    target.client(4000, b"y");
    let report = report(&merged(&[&source, &target]));
    let vm = one(&report);
    let proxy = Culprit::CapturedProxy;
    let broken = [
        (proxy, "goahead-unasked"),
        (proxy, "data-to-source"),
        (proxy, "peer-ok-long"),
        (Culprit::Vm, "malformed-telnet"),
        (proxy, "unknown-unanswered"),
    ];
    let mut found = rules(vm);
    found.sort();
    let mut broken = broken.to_vec();
    broken.sort();
    assert_eq!(found, broken, "{report}");
    assert_eq!((vm.malformed, vm.bytes), (1, 9));
}

#[test]
fn two_vms_are_told_apart() {
    let first = source();
    let mut second = Talk::new("10.0.0.8:40001", PROXY, 9000);
    opening(&mut second, 20);
    for packet in &mut second.packets {
        let text = String::from_utf8_lossy(&packet.payload).into_owned();
        if text.contains("fe dc ba 98") {
            let at = packet.payload.len() - 4;
            packet.payload[at] = b'7';
        }
    }
    second.client(70, b"another");
    let report = report(&merged(&[&first, &second]));
    assert!(report.is_good(), "{report}");
    assert_eq!(report.vms.iter().map(|vm| vm.bytes).collect::<Vec<_>>(), [7, 7], "{report}");
}

#[test]
fn a_capture_that_begins_with_the_move_finds_the_source_by_its_target() {
    let packets = moved();
    // From the BEGIN on.
    let at = packets.iter().position(|packet| packet.payload.starts_with(&wire("fffae828"))).unwrap();
    let report = report(&packets[at..]);
    let vm = one(&report);
    assert_eq!((vm.captured, vm.replayed), (tally(1, 1, 0, 0), tally(1, 1, 0, 0)), "{report}");
    assert_eq!((vm.bytes, vm.name.as_str()), (23, "web01"), "{report}");
    assert!(report.remarks.iter().any(|r| r.contains("before the capture")), "{report}");
}

#[test]
fn a_capture_that_begins_after_begin_plays_the_target_as_new() {
    let packets = moved();
    let at = packets.iter().position(|packet| packet.payload == b"last words").unwrap();
    let report = report(&packets[at..]);
    assert!(report.is_good(), "{report}");
    assert!(report.differences.iter().any(|(_, what)| what.contains("before the capture")), "{report}");
    assert_eq!(report.vms.iter().map(|vm| vm.bytes).sum::<usize>(), 23, "{report}");
}

#[test]
fn any_frame_may_be_missing() {
    let packets = moved();
    for missing in 0..packets.len() {
        let mut fewer = packets.clone();
        fewer.remove(missing);
        let report = report(&fewer);
        assert!(report.is_good(), "without packet {}:\n{report}", missing + 1);
    }
}

#[test]
fn any_beginning_may_be_missing() {
    let packets = moved();
    for first in 1..packets.len() {
        let Ok(capture) = capture::read(&plain(&packets[first..])[..], 13370) else { continue };
        let Ok(script) = script::of(&capture, 13370) else { continue };
        let report = replay(&script, &mut Memory::keeping_all(false), &args(), |_| {});
        assert!(report.is_good(), "from packet {} on:\n{report}", first + 1);
    }
}

#[test]
fn every_way_to_cut_the_vm_side_into_segments_gives_the_same_report() {
    let whole = moved();
    for size in [1, 2, 3, 7] {
        let mut packets = Vec::new();
        for packet in &whole {
            if packet.payload.is_empty() {
                packets.push(packet.clone());
            }
            for (n, part) in packet.payload.chunks(size).enumerate() {
                let mut piece = packet.clone();
                piece.payload = part.to_vec();
                piece.seq = packet.seq.wrapping_add((n * size) as u32);
                packets.push(piece);
            }
        }
        let report = report(&packets);
        let vm = one(&report);
        assert_eq!((vm.bytes, rules(vm)), (30, vec![]), "{report}");
    }
}

#[test]
fn a_vm_that_opens_and_one_that_gives_up_silently_are_played() {
    // WILL 232 unasked; GOAHEAD comes, no target does, and the VM goes on 6 s later without a word.
    let mut talk = Talk::new("10.0.0.8:40000", PROXY, 1000);
    talk.open(0);
    talk.client(0, &wire("fffbe8"));
    talk.server(1, &wire("fffde8 fffae8 01 0001 fff0 fffae851fff0 fffae853fff0"));
    talk.client(
        2,
        &wire(&format!("fffae8 00 0001 fff0 fffae8 46 \"Surisimple\" fff0 fffae850 \"{UUID}\" fff0")),
    );
    talk.client(2, &wire("fffae8 52 \"web01\" fff0"));
    talk.server(3, &wire("fffae8 47 fff0"));
    talk.client(100, &wire("fffae8 28 01 fff0"));
    talk.server(101, &wire("fffae8 29 01ff ffff01 fff0"));
    talk.client(6200, b"resumed");
    talk.server(6300, b"typed");
    talk.put(0, 7000, RST | ACK, b"");
    let report = report(&talk.packets);
    let vm = one(&report);
    assert_eq!((vm.bytes, vm.typed, vm.captured.unfinished), (7, (5, 5), 1), "{report}");
}

#[test]
fn ports_of_one_vm_move_at_once() {
    let first = source();
    let mut talks = vec![first];
    let mut second = Talk::new("10.0.0.8:40001", PROXY, 9000);
    opening(&mut second, 20);
    for packet in &mut second.packets {
        if let Some(at) = packet.payload.windows(7).position(|part| part == b"vSPC.py") {
            packet.payload[at..at + 7].copy_from_slice(b"portTwo");
        }
    }
    talks.push(second);
    let mut all = Vec::new();
    for (n, mut source) in talks.into_iter().enumerate() {
        let n = n as u64;
        source.client(100 + n, &wire(&format!("fffae8 28 0000000{n} fff0")));
        source.server(101 + n, &wire(&format!("fffae8 29 0000000{n} aabbccd{n} fff0")));
        let mut target = Talk::new(&format!("10.0.0.9:4100{n}"), PROXY, 5000);
        arrival(&mut target, 200 + n, &format!("0000000{n} aabbccd{n}"), Some(&format!("0000000{n}")));
        source.close(240);
        target.client(250 + n, &wire(&format!("fffae8 2e 0000000{n} fff0")));
        target.client(300 + n, &[b'0' + n as u8; 10]);
        all.extend([source, target]);
    }
    let packets = merged(&all.iter().collect::<Vec<_>>());
    let report = report_of(&plain(&packets), &ReplayArgs { multi_console: true, ..args() });
    assert!(report.is_good(), "{report}");
    assert_eq!(report.vms.iter().map(|vm| vm.bytes).collect::<Vec<_>>(), [17, 10], "{report}");
    assert_eq!(report.vms.iter().map(|vm| vm.conns.len()).collect::<Vec<_>>(), [2, 2], "{report}");
    // Without it they share a console.
    let report = report_of(&plain(&packets), &args());
    assert!(report.is_good(), "{report}");
    assert_eq!(report.vms.iter().map(|vm| vm.bytes).collect::<Vec<_>>(), [27], "{report}");
}

#[test]
fn a_capture_without_vspc_traffic_says_where_there_is_some() {
    let of = |bytes: &[u8], port| {
        let capture = capture::read(bytes, port).unwrap();
        script::of(&capture, port).unwrap_err().to_string()
    };
    let other = of(&plain(&moved()), 13);
    assert!(other.contains("no connection to port 13") && other.contains("13370 (2 connections)"), "{other}");
    let mut web = Talk::new("10.0.0.8:40000", "10.0.0.1:80", 1);
    web.open(0).client(1, b"GET /").close(2);
    assert!(of(&plain(&web.packets), 13370).contains("no other port speaks"));
    let mut empty = Talk::new("10.0.0.8:40000", PROXY, 1);
    empty.open(0).put(0, 1, FIN | ACK, b"");
    assert!(of(&plain(&empty.packets), 13370).contains("nothing from the vm's side"));
    let mut tls = Talk::new("10.0.0.8:40000", PROXY, 1);
    tls.open(0).client(1, &wire("160301 0001 00"));
    assert!(of(&plain(&tls.packets), 13370).contains("encrypted"));
}

#[test]
fn a_capture_of_a_plain_telnet_client_is_played_and_belongs_to_no_vm() {
    let mut talk = Talk::new("10.0.0.7:50123", PROXY, 1);
    talk.open(0).server(1, &wire("fffb00 fffb03 fffb01 fffd00 fffd03 fffde8"));
    talk.client(2, &wire("fffe00 fffd03 fffd01 fffc00 fffb03 fffce8")).client(900, b"hello?\r\n").close(1000);
    let report = report(&talk.packets);
    assert!(report.is_good() && report.vms.is_empty() && report.apart.len() == 1, "{report}");
}

#[test]
fn the_report_is_also_json() {
    let report = report(&moved());
    let json = json::of(&report);
    assert_eq!(json["ok"], true);
    assert_eq!(json["vms"][0]["uuid"], "01234567-89ab-cdef-fedc-ba9800000000");
    assert_eq!(json["vms"][0]["vmotions"]["captured"]["completed"], 1);
    assert_eq!(json["vms"][0]["client"]["exact"], true);
}

#[test]
fn segments_of_one_connection_may_be_captured_in_disorder() {
    let whole = moved();
    let mut seed = 1u32;
    for _ in 0..100 {
        let mut packets = whole.clone();
        for at in 3..packets.len() - 3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let other = at + 1 + (seed >> 16) as usize % 2;
            let ends =
                |packet: &Packet| [packet.source, packet.target].map(|end| end.port()).into_iter().max();
            let same = packets[at..=other].iter().all(|packet| ends(packet) == ends(&packets[at]));
            if same && seed >> 30 == 0 {
                packets.swap(at, other);
            }
        }
        let report = report(&packets);
        let vm = one(&report);
        assert_eq!((vm.captured, vm.bytes), (tally(1, 1, 0, 0), 30), "{report}");
        assert!(report.differences.is_empty(), "{report}");
    }
}

#[test]
fn whatever_a_vm_says_our_side_breaks_no_rule() {
    let whole = moved();
    let mut seed = 7u32;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    for round in 0..ROUNDS {
        let mut packets = whole.clone();
        for _ in 0..=next(4) {
            let at = next(packets.len());
            let packet = &mut packets[at];
            if packet.target.port() != 13370 || packet.payload.is_empty() {
                continue;
            }
            let at = next(packet.payload.len());
            packet.payload[at] = match next(4) {
                0 => 0xff,
                1 => 0xf0,
                2 => next(90) as u8,
                _ => next(256) as u8,
            };
        }
        let mut report = report(&packets);
        // A target whose move is unknown is a newcomer like any other: what is typed is not for it yet.
        if report.to_string().contains("played as a new connection") {
            report.vms.iter_mut().for_each(|vm| vm.typed.1 = vm.typed.0);
        }
        assert!(report.is_good(), "round {round}:\n{report}");
    }
}

const ROUNDS: usize = 500;

#[test]
fn captures_made_by_tcpdump_replay_without_fault() {
    for (name, captured, replayed, bytes, typed) in [
        ("moved.ethernet.pcap", tally(1, 1, 0, 0), tally(1, 1, 0, 0), 37, 12),
        ("aborted.sll2.pcap.gz", tally(1, 0, 1, 0), tally(1, 0, 1, 0), 35, 8),
        ("refused.sll.pcap.gz", tally(1, 0, 0, 1), tally(1, 0, 1, 0), 32, 8),
        ("all.ipv6.pcap.gz", tally(3, 1, 1, 1), tally(3, 1, 2, 0), 74, 18),
    ] {
        let report = checked_in(name);
        let vm = one(&report);
        assert_eq!((vm.captured, vm.replayed), (captured, replayed), "{report}");
        assert_eq!((vm.bytes, vm.typed), (bytes, (typed, typed)), "{report}");
        assert_eq!((rules(vm), report.remarks.len()), (vec![], 0), "{report}");
    }
    let clipped = checked_in("all.clipped.pcap.gz");
    assert!(clipped.is_good(), "{clipped}");
    assert!(clipped.remarks.iter().any(|remark| remark.contains("snap length")), "{clipped}");
    assert_eq!(clipped.vms.iter().map(|vm| vm.bytes).sum::<usize>(), 74, "{clipped}");
}
