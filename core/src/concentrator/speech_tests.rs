//! Every cell of the table of telnet.md §8, and the table against a slow reading of itself.

use quickcheck::{TestResult, quickcheck};

use super::*;

/// What came of some bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Heard {
    /// What the guest got.
    guest: Vec<u8>,
    /// What was read as telnet.
    telnet: Vec<u8>,
    mode: Option<Mode>,
    foreign: Option<Foreign>,
}

/// A client, and what became of what it said.
struct Client {
    speech: Speech,
    now: Instant,
    heard: Heard,
}

impl Client {
    fn new() -> Self {
        let now = Instant::from_millis(5000);
        Self { speech: Speech::new(now), now, heard: Heard::default() }
    }

    /// One that has been silent for so long that it is taken for raw.
    fn silent() -> Self {
        let mut client = Self::new();
        client.pass(1000);
        assert_eq!(client.speech.mode(), RAW_FOR_NOW);
        client
    }

    fn says(&mut self, bytes: &[u8]) {
        let heard = &mut self.heard;
        match self.speech.mode() {
            Mode::Telnet => heard.telnet.extend(bytes),
            Mode::Raw { last: true } => heard.guest.extend(bytes),
            _ => self.speech.receive(bytes, self.now, &mut |act| heard.note(act)),
        }
        self.check();
    }

    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.speech.deadline().filter(|&at| at <= until) {
            self.now = at.max(self.now);
            self.speech.elapsed(self.now, &mut |act| self.heard.note(act));
            self.check();
        }
        self.now = until;
    }

    fn check(&self) {
        assert!(self.speech.data.len() <= HELD_MOST);
        assert!(self.speech.command.len() <= HELD_MOST + 4);
        assert!(self.speech.deadline().is_none_or(|at| at > self.now), "something is overdue");
    }

    fn ended(mut self) -> Heard {
        if !self.speech.mode().is_final() {
            self.speech.end(self.now, &mut |act| self.heard.note(act));
        }
        self.heard
    }
}

impl Heard {
    fn note(&mut self, act: Act<'_>) {
        match act {
            Act::Guest(bytes) => self.guest.extend(bytes),
            Act::Wire(bytes) => crate::telnet::guest_slices(bytes).for_each(|run| self.guest.extend(run)),
            Act::Decode(bytes) => self.telnet.extend(bytes),
            Act::Telnet => self.mode = Some(Mode::Telnet),
            Act::Raw { last } => self.mode = Some(Mode::Raw { last }),
            Act::Foreign(foreign) => self.foreign = Some(foreign),
        }
    }
}

const RAW_FOR_NOW: Mode = Mode::Raw { last: false };
const RAW: Mode = Mode::Raw { last: true };

/// The table, read slowly: what `bytes` make of a client, what the guest gets by then and what telnet reads.
fn table(bytes: &[u8], is_undecided: bool) -> (Mode, Vec<u8>, Vec<u8>) {
    let before = if is_undecided { Mode::Undecided } else { RAW_FOR_NOW };
    let (mut at, mut wire, mut data, mut run) = (0, Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let named = |at: usize| rest.get(at).map(|&opt| NAMED.contains(&Opt(opt)));
        let len = match (rest, named(2)) {
            ([IAC, IAC, ..], _) => 2,
            ([IAC, 0..=239, ..], _) | ([IAC, 250..=254, ..], Some(false)) => {
                return (RAW, bytes.to_vec(), vec![]);
            }
            ([IAC, 240..=249, ..], _) | ([IAC, 251..=254, ..], Some(true)) => {
                return (Mode::Telnet, if is_undecided { wire } else { data }, rest.to_vec());
            }
            ([IAC, SB, _, body @ ..], Some(true)) => match ends_with(body) {
                None => break,
                Some(SE) => return (Mode::Telnet, if is_undecided { wire } else { data }, rest.to_vec()),
                Some(_) => return (RAW, bytes.to_vec(), vec![]),
            },
            ([IAC, ..], _) => break,
            _ => 1,
        };
        data.extend(&rest[..len]);
        wire.push(rest[0]);
        if len == 2 {
            run = data.len();
        }
        let text = std::str::from_utf8(&data[run..]);
        let is_utf8 = text.is_ok() || text.is_err_and(|error| error.error_len().is_none());
        let is_nul = data.ends_with(b"\0") && !data.ends_with(b"\r\0");
        if !is_utf8 || is_nul || data.ends_with(b"+$") || ends_a_packet(&data) {
            return (RAW, bytes.to_vec(), vec![]);
        }
        at += len;
    }
    (before, bytes.to_vec(), vec![])
}

/// The byte behind the first single IAC of a subnegotiation's body.
fn ends_with(mut body: &[u8]) -> Option<u8> {
    loop {
        body = match body {
            [] | [IAC] => return None,
            [IAC, IAC, rest @ ..] => rest,
            [IAC, byte, ..] => return Some(*byte),
            [_, rest @ ..] => rest,
        }
    }
}

fn ends_a_packet(data: &[u8]) -> bool {
    let Some((body, sum)) = data.split_last_chunk::<3>() else { return false };
    let Some(begin) = body.iter().rposition(|&byte| byte == b'$') else { return false };
    let expected = body[begin + 1..].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    !body[begin..].contains(&b'#')
        && sum[0] == b'#'
        && std::str::from_utf8(&sum[1..]).is_ok_and(|sum| u8::from_str_radix(sum, 16) == Ok(expected))
        && sum[1..].iter().all(u8::is_ascii_hexdigit)
}

fn is_foreign(bytes: &[u8]) -> bool {
    matches!(first_words(bytes), FirstWords::Of(_))
}

/// Says `bytes` in pieces to a client in either state; its verdict, and all that came of it in the end.
fn said<'i>(pieces: impl IntoIterator<Item = &'i [u8]>, is_undecided: bool) -> (Mode, Heard) {
    let mut client = if is_undecided { Client::new() } else { Client::silent() };
    for piece in pieces {
        client.says(piece);
    }
    let mode = client.speech.mode();
    (mode, client.ended())
}

fn agrees(bytes: &[u8], pieces: &[&[u8]], is_undecided: bool) {
    let (mode, heard) = said(pieces.iter().copied(), is_undecided);
    let (expected, guest, telnet) = table(bytes, is_undecided);
    let what = format!("{} in {} pieces", bytes.escape_ascii(), pieces.len());
    assert_eq!(mode, expected, "{what}");
    assert_eq!(heard.guest.escape_ascii().to_string(), guest.escape_ascii().to_string(), "{what}");
    assert_eq!(heard.telnet, telnet, "{what}");
}

#[test]
fn every_cell_of_the_table_holds() {
    use Mode::{Telnet, Undecided};
    let rows: [(&[u8], Mode, Mode); 34] = [
        // A valid answer to an open offer; IAC 240-249; a whole subnegotiation.
        (b"\xff\xfd\x01", Telnet, Telnet),
        (b"\xff\xfc\x00", Telnet, Telnet),
        (b"\xff\xf1", Telnet, Telnet),
        (b"ls\xff\xf3", Telnet, Telnet),
        (b"\xff\xf0", Telnet, Telnet),
        (b"\xff\xf9", Telnet, Telnet),
        (b"\xff\xfa\x1f\x00\x50\x00\xff\xff\xff\xf0", Telnet, Telnet),
        (b"\xff\xfa\x18\xff\xf0", Telnet, Telnet),
        // A negotiation of a named option that answers nothing.
        (b"\xff\xfb\x1f\xff\xfb\x20", Telnet, Telnet),
        (b"\xff\xfb\x01", Telnet, Telnet),
        (b"$GPGGA,1*47\r\n\xff\xfd\x01", Telnet, Telnet),
        // Of another option; IAC 0-239; what cannot be a subnegotiation of a named one.
        (b"\xff\xfb\x63", RAW, RAW),
        (b"\xff\xfb\xff", RAW, RAW),
        (b"\x41\xff\x66\x42", RAW, RAW),
        (b"\xff\xef", RAW, RAW),
        (b"\xff\x00", RAW, RAW),
        (b"\x41\xff\xfa\x42\x43\x44", RAW, RAW),
        (b"\xff\xfa\x1f\x00\xff\xf1", RAW, RAW),
        // IAC IAC decides nothing, nor does what has only begun.
        (b"\xff\xff", Undecided, RAW_FOR_NOW),
        (b"a\xff\xffb", Undecided, RAW_FOR_NOW),
        (b"a\xff\xffb\xff\xfd\x01", Telnet, Telnet),
        (b"a\xff\xffb\x80", RAW, RAW),
        (b"\xff\xfa\x1f\x00", Undecided, RAW_FOR_NOW),
        // gdb.
        (b"$?#3f", RAW, RAW),
        (b"-\x03$qSupported#37", RAW, RAW),
        (b"+$", RAW, RAW),
        (b"$?#3e", Undecided, RAW_FOR_NOW),
        (b"+-\x03$GPGGA,1*47\r\n", Undecided, RAW_FOR_NOW),
        // NUL, and what is not UTF-8.
        (b"a\0", RAW, RAW),
        (b"a\r\0b", Undecided, RAW_FOR_NOW),
        (b"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98", Undecided, RAW_FOR_NOW),
        (b"\xe9t\xe9", RAW, RAW),
        (b"\xed\xa0\x80", RAW, RAW),
        (b"\xfe", RAW, RAW),
    ];
    for (bytes, undecided, silent) in rows {
        for (is_undecided, expected) in [(true, undecided), (false, silent)] {
            let what = format!("{} undecided {is_undecided}", bytes.escape_ascii());
            assert_eq!(said([bytes], is_undecided).0, expected, "{what}");
            agrees(bytes, &[bytes], is_undecided);
            agrees(bytes, &bytes.chunks(1).collect::<Vec<_>>(), is_undecided);
        }
    }
}

#[test]
fn every_pair_of_bytes_behind_an_iac_has_a_verdict() {
    for first in 0..=255 {
        for second in 0..=255 {
            let bytes = [b'x', IAC, first, second];
            for is_undecided in [true, false] {
                agrees(&bytes, &[&bytes], is_undecided);
                agrees(&bytes, &[&bytes[..2], &bytes[2..3], &bytes[3..]], is_undecided);
            }
        }
    }
}

#[test]
fn what_decides_nothing_is_passed_at_once_and_a_doubled_iac_when_it_is_decided() {
    let mut client = Client::new();
    client.says(b"ls -l \xc3\xa9 $(date)\r\n");
    assert_eq!(client.heard.guest, b"ls -l \xc3\xa9 $(date)\r\n");
    client.heard.guest.clear();
    client.says(b"a\xff\xffb");
    assert_eq!(client.heard.guest, b"a");
    client.pass(999);
    assert_eq!(client.heard.guest, b"a");
    client.pass(1);
    assert_eq!((client.heard.guest.as_slice(), client.heard.mode), (&b"a\xff\xffb"[..], Some(RAW_FOR_NOW)));

    let mut client = Client::new();
    client.says(b"a\xff\xffb");
    client.says(b"\xff\xfd\x03c");
    assert_eq!(client.heard.guest, b"a\xffb");
    assert_eq!(client.heard.telnet, b"\xff\xfd\x03c");

    let mut client = Client::new();
    client.says(b"\xff\xff");
    client.says(&[b'x'; HELD_MOST]);
    assert_eq!((client.heard.guest.len(), client.heard.mode), (2 + HELD_MOST, Some(RAW_FOR_NOW)));
}

#[test]
fn a_command_that_has_begun_is_waited_for_and_is_data_when_it_does_not_end() {
    for is_undecided in [true, false] {
        let mut client = if is_undecided { Client::new() } else { Client::silent() };
        client.says(b"x\xff\xfd");
        assert_eq!(client.heard.guest, b"x");
        client.pass(if is_undecided { 999 } else { 99 });
        assert_eq!(client.heard.guest, b"x");
        client.pass(1);
        assert_eq!((client.heard.guest.as_slice(), client.heard.mode), (&b"x\xff\xfd"[..], Some(RAW)));
    }
    // What began just before the second is over has its time all the same.
    let mut client = Client::new();
    client.pass(990);
    client.says(b"\xff\xfb");
    client.pass(50);
    assert_eq!(client.speech.mode(), RAW_FOR_NOW);
    client.says(b"\x1f");
    assert_eq!(client.speech.mode(), Mode::Telnet);
    assert_eq!(client.heard.guest, b"");
}

#[test]
fn who_is_not_read_is_not_judged_by_silence() {
    let mut client = Client::new();
    client.says(b"\xff\xff");
    for _ in 0..10 {
        client.now = client.speech.deadline().unwrap();
        client.speech.postpone(client.now);
    }
    assert_eq!((client.speech.mode(), client.heard.guest.len()), (Mode::Undecided, 0));
}

#[test]
fn first_words_of_programs_at_the_wrong_port_are_for_nobody() {
    for (words, foreign) in [
        (&b"POST /jobs HTTP/1.1\r\nHost: a\r\n\r\nreboot\n"[..], Foreign::Http),
        (b"\x16\x03\x01\x00\xff\x01\xff\xfd\x01", Foreign::Tls),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Foreign::Ssh),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nls\n", Foreign::Proxy),
    ] {
        for chunk in [1, 3, 100] {
            let (_, heard) = said(words.chunks(chunk), true);
            let first = heard.guest.len() + heard.telnet.len();
            assert_eq!(heard.foreign, Some(foreign));
            // The rest is not asked for any more.
            assert!(first == 0 || chunk < 100, "{}", words.escape_ascii());
        }
        // Not as the first thing said, and not from who was silent before.
        for before in [&b"a"[..], b"\r\n"] {
            let (_, heard) = said([before, words], true);
            assert_eq!((heard.foreign, heard.guest), (None, [before, words].concat()));
        }
        assert_eq!(said([words], false).1.foreign, None);
    }
}

#[test]
fn a_person_or_script_that_begins_like_them_waits_for_100_ms() {
    let mut client = Client::new();
    client.says(b"P");
    client.pass(99);
    assert_eq!(client.heard.guest, b"");
    client.pass(1);
    assert_eq!(client.heard.guest, b"P");
    client.says(b"OST / HTTP/1.1\r\n");
    assert_eq!(client.heard.guest, b"POST / HTTP/1.1\r\n");
    let mut client = Client::new();
    client.says(b"GET key");
    client.says(b"\n");
    assert_eq!(client.heard.guest, b"GET key\n");
    let mut client = Client::new();
    client.says(b"GET key");
    client.pass(950);
    client.says(b"\n\xff\xfd\x01");
    assert_eq!(client.heard.guest, b"GET key\n");
    assert_eq!(client.speech.mode(), Mode::Telnet);
    // The end of input is the end of waiting.
    assert_eq!(said([&b"SSH-2"[..]], true).1.guest, b"SSH-2");
}

/// What programs open with or answer, from both sides of each row of telnet.md §5, whatever they were asked.
fn opening(picks: &[u8]) -> Vec<u8> {
    let verb = |pick: u8| 251 + pick % 4;
    let option = |pick: u8| NAMED[usize::from(pick) % NAMED.len()].0;
    let mut wire = Vec::new();
    for pick in picks.chunks(2) {
        match *pick {
            [kind, which] if kind % 6 == 5 => wire.extend_from_slice(match which % 3 {
                0 => b"\xff\xfa\x1f\x00\xff\xff\x00\x19\xff\xf0",
                1 => b"\xff\xfa\x18\x00XTERM\xff\xf0",
                _ => b"\xff\xfa\x20\x0038400,38400\xff\xf0",
            }),
            [kind, which] if kind % 6 == 4 => wire.extend([IAC, 241 + which % 9]),
            [kind, which] => wire.extend([IAC, verb(kind), option(which)]),
            _ => wire.extend(
                b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03",
            ),
        }
    }
    wire
}

fn cut<'i>(mut bytes: &'i [u8], cuts: &[u8]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, rest) = bytes.split_at(usize::from(cut % 8).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// Bytes that hit the table where it bends.
fn bent(bytes: &[u8]) -> Vec<u8> {
    let bends = b"\xff\xff\xfa\xf0\xfb\xfd\x1f\x63\r\0$+?#3f\xc3\xa9\xe2ax";
    bytes.iter().map(|&byte| bends[usize::from(byte) % bends.len()]).collect()
}

quickcheck! {
    fn openings_at_any_time_reach_the_guest_as_nothing(picks: Vec<u8>, wait: u16, cuts: Vec<u8>) -> TestResult {
        let wire = opening(&picks);
        if wire.is_empty() {
            return TestResult::discard();
        }
        let mut client = Client::new();
        client.pass(u64::from(wait % 3000));
        for (n, piece) in cut(&wire, &cuts).into_iter().enumerate() {
            // Less in all than what has begun is waited for.
            client.pass(if n < 9 { u64::from(wait % 10) } else { 0 });
            client.says(piece);
        }
        let (is_telnet, heard) = (client.speech.mode() == Mode::Telnet, client.ended());
        TestResult::from_bool(is_telnet && heard.guest.is_empty() && heard.telnet == wire)
    }

    fn the_table_read_slowly_says_the_same_however_the_bytes_are_cut(bytes: Vec<u8>, cuts: Vec<u8>) -> bool {
        for bytes in [bent(&bytes), bytes] {
            if is_foreign(&bytes) {
                continue;
            }
            for is_undecided in [true, false] {
                agrees(&bytes, &cut(&bytes, &cuts), is_undecided);
                agrees(&bytes, &[&bytes], is_undecided);
            }
        }
        true
    }

    fn uploads_that_the_table_calls_raw_arrive_as_they_are(bytes: Vec<u8>, cuts: Vec<u8>, late: bool) -> TestResult {
        let upload = [b"\x01\x01\xfe", &bytes[..]].concat();
        let (mode, heard) = said(cut(&upload, &cuts), !late);
        TestResult::from_bool(mode == RAW && heard.guest == upload)
    }

    fn held_or_not_every_byte_arrives_after_a_while(bytes: Vec<u8>, cuts: Vec<u8>, waits: Vec<u16>) -> TestResult {
        let bytes = bent(&bytes);
        if is_foreign(&bytes) {
            return TestResult::discard();
        }
        let mut client = Client::new();
        for (n, piece) in cut(&bytes, &cuts).into_iter().enumerate() {
            client.says(piece);
            client.pass(u64::from(waits.get(n).map_or(0, |wait| wait % 1200)));
        }
        let heard = client.ended();
        match heard.mode {
            Some(Mode::Telnet) => {
                let front = bytes.len() - heard.telnet.len();
                TestResult::from_bool(bytes[front..] == heard.telnet && heard.guest.len() <= front)
            }
            _ => TestResult::from_bool(heard.guest == bytes && heard.telnet.is_empty()),
        }
    }
}
