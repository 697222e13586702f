//! What the fuzzers do, on stable: their corpora again, and programs made by chance. The fuzz crate includes
//! the bodies.

#![allow(clippy::disallowed_methods, reason = "corpora are files")]
#![allow(clippy::needless_pass_by_value, reason = "quickcheck passes by value")]

mod admin;
mod com_port;
mod engine;
mod hyperstart;
mod proxy;
mod telnet;
mod vmware;

/// Runs a target's body on every file of its corpus.
fn replay(target: &str, mut body: impl FnMut(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        body(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

/// Bytes of which many mean something to telnet.
#[derive(Clone, Debug)]
struct Telnetish(Vec<u8>);

impl quickcheck::Arbitrary for Telnetish {
    fn arbitrary(g: &mut quickcheck::Gen) -> Self {
        const FREQUENT: [u8; 12] = [255, 255, 255, 250, 240, 251, 253, 232, 13, 10, 0, 65];
        let bytes = Vec::<(bool, u8)>::arbitrary(g);
        Self(
            bytes
                .into_iter()
                .map(|(any, byte)| if any { byte } else { FREQUENT[usize::from(byte) % 12] })
                .collect(),
        )
    }
}

#[test]
fn admin_corpora_replay() {
    replay("admin_pickle", |data| {
        admin::admin_pickle(data);
    });
    replay("admin_dialogue", admin::admin_dialogue);
    replay("admin_operator", |data| {
        admin::admin_operator(data);
    });
}

#[test]
fn telnet_decoder_corpus_replays() {
    replay("telnet_decoder", telnet::telnet_decoder);
}

#[test]
fn com_port_corpus_replays_and_any_commands_leave_a_line_that_exists() {
    replay("com_port", com_port::com_port);
    fn run(said: Vec<u8>) -> bool {
        com_port::com_port(&said);
        true
    }
    quickcheck::QuickCheck::new().tests(3000).quickcheck(run as fn(Vec<u8>) -> bool);
}

#[test]
fn the_decoder_does_what_the_table_says_however_bytes_are_cut() {
    fn run(stream: Telnetish) -> bool {
        telnet::telnet_decoder(&stream.0);
        true
    }
    quickcheck::QuickCheck::new().tests(3000).quickcheck(run as fn(Telnetish) -> bool);
}

#[test]
fn proxy_header_corpus_replays() {
    replay("proxy_header", proxy::proxy_header);
}

#[test]
fn a_proxys_header_says_the_same_however_it_is_cut() {
    const BEGUN: [&[u8]; 6] = [
        b"",
        b"PROXY ",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 ",
        b"PROXY UNKNOWN",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    ];
    fn run(cuts: (u8, u8, u8, u8), begun: usize, rest: Vec<u8>, is_ended: bool) -> bool {
        let mut program = vec![cuts.0, cuts.1, cuts.2, cuts.3];
        program.extend(BEGUN[begun % BEGUN.len()]);
        program.extend(rest);
        if is_ended {
            program.extend(b"1 2\r\nbehind");
        }
        proxy::proxy_header(&program);
        true
    }
    quickcheck::QuickCheck::new().tests(3000).quickcheck(run as fn(_, _, _, _) -> bool);
}

#[test]
fn vmware_corpora_replay() {
    replay("vmware_message", vmware::vmware_message);
    replay("vmware_dialogue", vmware::vmware_dialogue);
}

#[test]
fn any_message_is_read_and_written_and_any_dialogue_keeps_its_bounds() {
    fn run(mut body: Vec<u8>, code: u8, program: Vec<(u8, u8, Telnetish)>) -> bool {
        body.insert(0, code % 100);
        vmware::vmware_message(&body);
        let mut bytes = Vec::new();
        for (op, code, said) in program {
            bytes.extend([op, 20, code % 100]);
            bytes.extend((0..19).map(|at| said.0.get(at).copied().unwrap_or_default()));
        }
        vmware::vmware_dialogue(&bytes);
        true
    }
    quickcheck::QuickCheck::new().tests(3000).quickcheck(run as fn(_, _, _) -> bool);
}

#[test]
fn engine_corpus_replays() {
    let mut happened = std::collections::BTreeSet::new();
    replay("engine", |program| happened.extend(engine::engine(program)));
    // Programs in which nothing happens prove nothing.
    for event in [
        "VmIdentified",
        "VmRenamed",
        "SecondLeg",
        "ClientAttached",
        "ReaderSkipped",
        "Malformed",
        "PortTaken",
        "PortsExhausted",
        "ConsoleExpired",
        "Suppressed",
        "Vmotion Goahead",
        "Vmotion Peer",
        "Vmotion BadPeer",
        "Vmotion Completed",
        "Vmotion Aborted",
        "Vmotion Refused",
        "Vmotion OutOfPlace",
        "VmDisconnected Evicted",
        "VmDisconnected MovedAway",
        "VmDisconnected NotVm",
        "VmDisconnected IdentifyTimeout",
        "ClientDetached TooSlow",
        "ClientDetached TooManyClients",
        "ClientDetached Kicked",
    ] {
        assert!(happened.contains(event), "{event} never happens: {happened:?}");
    }
}

#[test]
fn the_engine_keeps_its_contract_under_any_sequence_of_calls() {
    fn run(shape: (u8, u8, u8), program: Vec<(u8, u8, u8, u8)>) -> bool {
        let mut bytes = vec![shape.0, shape.1, shape.2];
        bytes.extend(program.iter().flat_map(|&(op, which, word, arg)| [op, which, word, arg]));
        engine::engine(&bytes);
        true
    }
    quickcheck::QuickCheck::new().tests(300).quickcheck(run as fn(_, _) -> bool);
}

#[test]
fn the_engine_keeps_its_contract_whatever_agents_in_guests_do() {
    let mut happened = std::collections::BTreeSet::new();
    for seed in 1..AGENT_SEEDS {
        happened.extend(engine::engine(&program_with_agents(seed)));
    }
    for event in ["GuestUp", "GuestDown", "ConsoleExpired", "ClientAttached", "a stream was typed at"] {
        assert!(happened.contains(event), "{event} never happens: {happened:?}");
    }
}

#[test]
fn the_engine_keeps_its_contract_whatever_operators_ask() {
    let mut happened = std::collections::BTreeSet::new();
    for seed in 1..OPERATOR_SEEDS {
        happened.extend(engine::engine(&program_with_operators(seed)));
    }
    for event in ["VmIdentified", "Attached", "Left", "BreakSent", "GuestUp", "an operator has all answers"] {
        assert!(happened.contains(event), "{event} never happens: {happened:?}");
    }
}

/// A program of which most is about operators, beside VMs, some of which carry streams.
fn program_with_operators(seed: u32) -> Vec<u8> {
    let mut next = numbers(seed);
    let mut program = vec![next(), next() & !0x40, next() | 0x60];
    for _ in 0..200 {
        match next() % 32 {
            0..=3 => program.extend([0, next(), next()]),
            4 | 5 => program.extend([5, next(), next() & 0x10, next() & 0x77]),
            6 => program.extend([5, next(), next() & !1, next() | 0x88]),
            7..=20 => program.extend([5, next(), next() | 1, next()]),
            21 | 22 => program.extend([12, next(), next()]),
            23 => program.extend([17, next()]),
            24 => program.extend([11, next(), next()]),
            25..=27 => program.extend([15, 0]),
            _ => program.extend([next(), next(), next(), next()]),
        }
    }
    program
}

/// Numbers that look like chance, from a seed.
fn numbers(seed: u32) -> impl FnMut() -> u8 {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 16) as u8
    }
}

/// What fits a few seconds.
const AGENT_SEEDS: u32 = 150;
const OPERATOR_SEEDS: u32 = 300;

/// A program of which most is about guests with agents.
fn program_with_agents(seed: u32) -> Vec<u8> {
    let mut next = numbers(seed);
    // To every second nobody types, and what agents are sent has to be theirs.
    let types = seed.is_multiple_of(2);
    let ports = if types { 0xff } else { !0x30 };
    let mut program = vec![next(), next() & ports, next() | 0x20];
    // In a few, a crowd has room to stay.
    program[1] = if seed % 16 < 2 { program[1] | 0x40 } else { program[1] & !0x40 };
    if seed % 16 < 2 {
        program.extend([23, 0xfe]);
    }
    for _ in 0..150 {
        // Most words are an agent's, and half of these carry what there is both ways.
        match next() % 32 {
            0..=3 => program.extend([0, next(), next()]),
            4..=6 => program.extend([5, next(), next() & !1, next() | 0x88]),
            7..=20 => program.extend([5, next(), next() | 1, next()]),
            21 | 22 => program.extend([12, next(), next()]),
            23 => program.extend([17, next()]),
            24 | 27 if types => program.extend([19, next(), next()]),
            28 if types => program.extend([5, next(), 3 + (next() & 8), next()]),
            25 => program.extend([15, next()]),
            26 if next().is_multiple_of(16) => program.extend([23, 0xfe]),
            _ if types => program.extend([next(), next(), next(), next()]),
            _ => program.extend([12, next(), 0xff]),
        }
    }
    program
}

#[test]
fn hyperstart_corpus_replays_and_any_bytes_of_a_guest_are_survived() {
    replay("hyperstart_control", hyperstart::hyperstart_control);
    quickcheck::quickcheck(hyperstart_lives as fn(Vec<u8>) -> bool);
    // Programs of which most means something.
    for seed in 1..2000u32 {
        let mut next = numbers(seed);
        let mut program = vec![0, 0, 5, 3];
        for _ in 0..200 {
            program.extend([[3, 3, 4, 4, 5, 5, 5, 2, 7, 1, 0][usize::from(next()) % 11], next()]);
        }
        hyperstart::hyperstart_control(&program);
    }
}

fn hyperstart_lives(data: Vec<u8>) -> bool {
    hyperstart::hyperstart_control(&data);
    true
}
