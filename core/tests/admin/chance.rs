//! Chance: pickles of all opcodes, and real ones with a few bytes changed. What is checked is in the bodies
//! that the fuzzers run too.

use std::sync::atomic::{AtomicUsize, Ordering};

use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::v3::VERSION;

#[path = "../fuzz/admin.rs"]
mod bodies;

/// Programs for the machine that reads pickles: whole values, and opcodes in any order.
#[derive(Clone, Debug)]
struct Picklish(Vec<u8>);

impl Arbitrary for Picklish {
    fn arbitrary(g: &mut Gen) -> Self {
        const LEAVES: &[&[u8]] = &[
            b"N",
            b"\x88",
            b"\x89",
            b"K\x03",
            b"M\x03\x01",
            b"I3\n",
            b"I01\n",
            b"L3L\n",
            b"Va\n",
            b"V\\u0041\n",
            b"\x8c\x01a",
            b"X\x02\0\0\0ab",
            b"\x8a\x01\x05",
            b"J\xff\xff\xff\xff",
            b"\x8c\x01a\x94",
            b"Nq\0",
            b"Nq\x01h\x01",
            b"Np1\n",
            b"Kaaq\0",
        ];
        const OTHERS: &[&[u8]] = &[
            b".",
            b"(",
            b"}",
            b"]",
            b"u",
            b"s",
            b"d",
            b"e",
            b"a",
            b"l",
            b"\x94",
            b"q\0",
            b"h\0",
            b"p0\n",
            b"g0\n",
            b"r\0\0\0\0",
            b"j\0\0\0\0",
            b"\x80\x04",
            b"\x95\x02\0\0\0\0\0\0\0",
            b"cos\nsystem\n",
            b"\x93",
            b"R",
            b")",
            b"\x85",
            b"t",
            b"b",
            b"o",
            b"i",
            b"\x81",
        ];
        let mut bytes = Vec::new();
        for (kind, which, leaves) in Vec::<(u8, u8, Vec<u8>)>::arbitrary(g) {
            let leaf = |which: u8| LEAVES[usize::from(which) % LEAVES.len()];
            let leaves: Vec<u8> = leaves.into_iter().take(8).flat_map(leaf).copied().collect();
            match kind % 32 {
                0 => bytes.push(which),
                1 => bytes.extend_from_slice(OTHERS[usize::from(which) % OTHERS.len()]),
                2..8 => bytes.extend([b"](", &leaves[..], b"e."].concat()),
                8..14 => bytes.extend([b"}(", &leaves[..], b"u."].concat()),
                14..17 => bytes.extend([b"(", &leaves[..], b"d."].concat()),
                17..20 => bytes.extend([b"]", leaf(which), b"a", leaf(which), b"a."].concat()),
                20 => bytes.extend_from_slice(b"cbuiltins\nException\n(Vno\ntR."),
                _ => bytes.extend([leaf(which), b"."].concat()),
            }
        }
        Self(bytes)
    }
}

/// A whole client's request, and a whole server's answers, with a few bytes changed.
#[derive(Clone, Debug)]
struct Mutated(Vec<u8>);

impl Arbitrary for Mutated {
    fn arbitrary(g: &mut Gen) -> Self {
        let request: &[&[u8]] =
            &[VERSION, b"\x80\x04\x8c\x02vm\x94.", b"\x80\x04\x8c\x05write\x94.", b"\xff\xfb\0"];
        let list: &[&[u8]] = &[
            VERSION,
            b"\x80\x04\x8c\x0cvm_not_found\x94.",
            b"\x80\x04K\x01.",
            b"\x80\x04}\x94(\x8c\x04name\x94\x8c\x01a\x94\x8c\x04uuid\x94\x8c\x01b\x94\x8c\x04port\x94Nu.",
        ];
        let attach: &[&[u8]] =
            &[VERSION, b"\x80\x04\x8c\x08vm_found\x94.", b"Vwrite\np0\n.", b"Vseed\n.", b"\xff\xfb\0"];
        let error: &[&[u8]] = &[
            VERSION,
            b"\x80\x04\x8c\x08builtins\x94\x8c\x09Exception\x94\x93\x94\x8c\x02no\x94\x85\x94R\x94.",
        ];
        let mut bytes = g.choose(&[request, list, attach, error]).expect("some").concat();
        for _ in 0..u8::arbitrary(g) % 4 {
            let at = usize::arbitrary(g) % bytes.len();
            match u8::arbitrary(g) % 4 {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, u8::arbitrary(g)),
                _ => bytes[at] = u8::arbitrary(g),
            }
        }
        Self(bytes)
    }
}

/// Lines of an operator: requests whose fields are right and wrong, nonsense, and some bytes changed.
#[derive(Clone, Debug)]
struct Linish(Vec<u8>);

impl Arbitrary for Linish {
    fn arbitrary(g: &mut Gen) -> Self {
        const OPS: &[&str] = &[
            "hello",
            "list",
            "show",
            "who",
            "subscribe",
            "unsubscribe",
            "attach",
            "resize",
            "lock",
            "break",
            "bump",
            "kick",
            "give-input",
            "stats",
            "fly",
            "",
        ];
        // Each with a value that is right.
        const FIELDS: &[(&str, &str)] = &[
            ("size", "{\"rows\":50,\"cols\":132}"),
            ("v", "1"),
            ("client", "\"1.1\""),
            ("for", "{\"user\":\"ann\",\"rights\":\"writer\"}"),
            ("match", "\"web*\""),
            ("after", "\"1.1\""),
            ("limit", "500"),
            ("console", "\"web01\""),
            ("console", "\"1.1\""),
            ("to", "\"events\""),
            ("stream", "7"),
            ("lock", "\"write\""),
            ("mode", "\"read-only\""),
            ("scrollback", "4096"),
            ("from", "{\"epoch\":\"1\",\"offset\":5}"),
            ("reason", "\"why\""),
            ("leg", "\"1.1\""),
            ("id", "1"),
            ("op", "\"stats\""),
        ];
        const VALUES: &[&str] = &[
            "1",
            "0",
            "-1",
            "1.5",
            "1e400",
            "9007199254740991",
            "9007199254740992",
            "null",
            "true",
            "[]",
            "{}",
            "\"\"",
            "\"web01\"",
            "\"1.1\"",
            "\"events\"",
            "\"consoles\"",
            "\"write\"",
            "\"read-only\"",
            "\"\\ud800\"",
            "\"\\u0000\"",
            "[[[[[[[[]]]]]]]]",
            "{\"epoch\":\"1\",\"offset\":5}",
            "{\"user\":\"ann\",\"rights\":\"writer\"}",
            "{\"user\":\"ann\",\"rights\":7}",
        ];
        let mut line = format!("{{\"id\":{},\"op\":\"{}\"", u16::arbitrary(g), g.choose(OPS).expect("some"));
        for _ in 0..u8::arbitrary(g) % 12 {
            let (field, right) = g.choose(FIELDS).expect("some");
            let any = g.choose(VALUES).expect("some");
            let value = if u8::arbitrary(g) % 8 == 0 { any } else { right };
            line.push_str(&format!(",\"{field}\":{value}"));
        }
        line.push('}');
        let mut line = line.into_bytes();
        if u8::arbitrary(g) % 3 == 0 {
            let at = usize::arbitrary(g) % line.len();
            match u8::arbitrary(g) % 4 {
                0 => line.truncate(at),
                1 => line.insert(at, u8::arbitrary(g)),
                2 => line.splice(at..at, b"[".repeat(usize::from(u8::arbitrary(g)))).for_each(drop),
                _ => line[at] = u8::arbitrary(g),
            }
        }
        line.push(b'\n');
        Self(line)
    }
}

#[test]
fn any_lines_of_an_operator_are_answered_within_bounds() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    fn run(size: u8, one: Linish, two: Linish) -> bool {
        REQUESTS
            .fetch_add(bodies::admin_operator(&[&[size], &one.0[..], &two.0].concat()), Ordering::Relaxed);
        true
    }
    // Two lines each.
    QuickCheck::new().tests(50_000).max_tests(50_000).quickcheck(run as fn(_, _, _) -> bool);
    assert!(REQUESTS.load(Ordering::Relaxed) > 10_000, "{REQUESTS:?}: lines that are refused prove little");
}

#[test]
fn any_stream_of_pickles_is_read_within_bounds_and_nothing_is_run() {
    static WHOLE: AtomicUsize = AtomicUsize::new(0);
    fn run(stream: Picklish) -> bool {
        WHOLE.fetch_add(bodies::admin_pickle(&stream.0), Ordering::Relaxed);
        true
    }
    QuickCheck::new().tests(60_000).max_tests(60_000).quickcheck(run as fn(Picklish) -> bool);
    assert!(WHOLE.load(Ordering::Relaxed) > 10_000, "{WHOLE:?}: streams that break at once prove little");
}

#[test]
fn mutated_dialogues_are_read_within_bounds_and_nothing_is_run() {
    static WHOLE: AtomicUsize = AtomicUsize::new(0);
    fn run(stream: Mutated) -> bool {
        WHOLE.fetch_add(bodies::admin_pickle(&stream.0), Ordering::Relaxed);
        true
    }
    QuickCheck::new().tests(40_000).max_tests(40_000).quickcheck(run as fn(Mutated) -> bool);
    assert!(WHOLE.load(Ordering::Relaxed) > 40_000, "{WHOLE:?}: streams that break at once prove little");
}

#[test]
fn any_client_of_the_admin_listener_is_served_within_bounds() {
    fn run(mutated: Mutated, picklish: Picklish, size: u8, kind: u8) -> bool {
        let said = match kind % 4 {
            0 => picklish.0,
            1 => {
                [b"\xff\xfd\xe9\xff\xfa\xe9\x20\0\xff\xf0\xff\xfa\xe9\x10\xff\xf0", &picklish.0[..]].concat()
            }
            2 => [b"GET ", &picklish.0[..]].concat(),
            _ => mutated.0,
        };
        bodies::admin_dialogue(&[&[size], &said[..]].concat());
        true
    }
    QuickCheck::new().tests(20_000).max_tests(20_000).quickcheck(run as fn(_, _, _, _) -> bool);
}
