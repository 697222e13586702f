//! A line in memory, chance from a seed, and what the tests share in looking at both.

use std::collections::BTreeMap;
use std::io::IoSlice;

use vspc_core::mux::wire::{HEADER, Opening, Word, header};
use vspc_core::mux::{
    Config, Decoder, Dialect, Event, Features, Hello, Item, Received, Role, Session, StreamId,
};
use vspc_core::time::Instant;

/// The start of time.
pub(crate) const START: Instant = Instant::from_micros(0);

/// Chance that can be replayed: splitmix64.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Small numbers often, large ones sometimes.
    pub(crate) fn size(&mut self, max: u64) -> u64 {
        let bits = self.below(64 - u64::from(max.max(1).leading_zeros()));
        1 + self.below((2 << bits).min(max))
    }
}

/// The seeds to run: all below `count`, or the one in `SEED`.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}

/// Hex with blanks to bytes.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A frame as it looks on the wire.
pub(crate) fn frame(id: u64, word: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(StreamId(id), word).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// A DATA frame.
pub(crate) fn data(id: u64, payload: &[u8]) -> Vec<u8> {
    frame(id, payload.len() as u32, payload)
}

/// Takes at most `limit` bytes off a session, offering `runs` runs at a time.
pub(crate) fn take(session: &mut Session, limit: usize, runs: usize, now: Instant) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < limit {
        let mut slots = vec![IoSlice::new(&[]); runs];
        let filled = session.transmit(&mut slots);
        if filled == 0 {
            break;
        }
        let before = all.len();
        for run in &slots[..filled] {
            assert!(!run.is_empty(), "an empty run");
            let run = &run[..run.len().min(limit - all.len())];
            all.extend_from_slice(run);
        }
        session.handle_sent(all.len() - before, now);
    }
    all
}

/// Everything a session has to say.
pub(crate) fn take_all(session: &mut Session) -> Vec<u8> {
    let all = take(session, usize::MAX, 16, START);
    assert!(!session.has_output() || all.is_empty(), "has output after all was taken");
    all
}

/// Both ends talk until neither has anything to say.
pub(crate) fn settle(a: &mut Session, b: &mut Session) {
    for _ in 0..1000 {
        let (from_a, from_b) = (take_all(a), take_all(b));
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        b.handle_received(&from_a, START);
        a.handle_received(&from_b, START);
    }
    panic!("two ends never fall silent");
}

/// Two ends that have said HELLO.
pub(crate) fn pair(host: Config, guest: Config) -> (Session, Session) {
    let (mut host, mut guest) = (Session::new(host, START).unwrap(), Session::new(guest, START).unwrap());
    settle(&mut host, &mut guest);
    assert!(matches!(host.poll_event(), Some(Event::Started(_))));
    assert!(matches!(guest.poll_event(), Some(Event::Started(_))));
    (host, guest)
}

/// Two ends with the defaults.
pub(crate) fn default_pair() -> (Session, Session) {
    pair(Config::new(Role::Host), Config::new(Role::Guest))
}

/// The nonce of hosts whose peer the test plays itself.
pub(crate) const HOST: u32 = 0x0102_0304;
/// The nonce of that peer.
pub(crate) const GUEST: u32 = 0x0506_0708;

/// What a guest with the defaults, and these features, answers to the host [`HOST`].
pub(crate) fn guest_hello(features: u8) -> Opening {
    let hello = Hello { features: Features(features), ..Config::new(Role::Guest).hello() };
    Opening { hello, sender: Role::Guest, nonce: GUEST, answers: HOST }
}

/// What a host with the defaults, and this nonce, says.
pub(crate) fn host_hello(nonce: u32) -> Opening {
    Opening { hello: Config::new(Role::Host).hello(), sender: Role::Host, nonce, answers: 0 }
}

/// A host that has been answered by a peer the test plays itself.
pub(crate) fn host_against(mut config: Config, hello: Opening) -> Session {
    config.nonce = HOST;
    let mut host = Session::new(config, START).unwrap();
    assert_eq!(take_all(&mut host).len(), 36);
    host.handle_received(&hello.encode(), START);
    assert!(matches!(host.poll_event(), Some(Event::Started(_))));
    host
}

/// A guest that a host played by the test has said HELLO to.
pub(crate) fn guest_against(config: Config, hello: Opening) -> Session {
    let mut guest = Session::new(config, START).unwrap();
    guest.handle_received(&hello.encode(), START);
    assert_eq!(take_all(&mut guest).len(), 36);
    assert!(matches!(guest.poll_event(), Some(Event::Started(_))));
    guest
}

/// Every event that waits.
pub(crate) fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// Reads and consumes everything a stream has.
pub(crate) fn read_all(session: &mut Session, id: StreamId) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(Received::Bytes(bytes)) = session.received(id) {
        all.extend_from_slice(bytes);
        let n = bytes.len();
        session.consume(id, n).unwrap();
    }
    all
}

/// The byte at `offset` of a stream's payload in one direction.
pub(crate) fn byte_at(id: StreamId, from_host: bool, offset: u64) -> u8 {
    let x = offset
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(id.0.wrapping_mul(0x85eb_ca6b))
        .wrapping_add(u64::from(from_host) << 20);
    (x >> 13) as u8 ^ x as u8
}

/// A DATA, word or message, as a tester sees it.
pub(crate) type Seen = (StreamId, u32, Vec<u8>);

/// Splits bytes into S2 frames.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let (mut decoder, mut input) = (Decoder::new(Dialect::S2), bytes);
    while let Some(item) = decoder.decode(&mut input) {
        match item {
            Item::Data { id, len } => seen.push((id, len, Vec::new())),
            Item::Payload { bytes, .. } => seen.last_mut().unwrap().2.extend_from_slice(bytes),
            Item::Word { id, word } => seen.push((id, word.to_u32(), Vec::new())),
            Item::Bare { .. } => unreachable!(),
        }
    }
    assert!(decoder.at_boundary(), "ends in the middle of a frame");
    seen
}

/// Watches one direction's S2 bytes and the acks against it: what SPEC forbids a sender, it reports.
pub(crate) struct Watch {
    out: Decoder,
    heard: Decoder,
    outstanding: BTreeMap<StreamId, u64>,
    closed: BTreeMap<StreamId, bool>,
    current: Option<StreamId>,
    pub(crate) max_frame: u32,
    pub(crate) window: u64,
    pub(crate) requests: u64,
    pub(crate) rewinds: u64,
}

impl Watch {
    pub(crate) fn new(max_frame: u32, window: u64) -> Self {
        Self {
            out: Decoder::new(Dialect::S2),
            heard: Decoder::new(Dialect::S2),
            outstanding: BTreeMap::new(),
            closed: BTreeMap::new(),
            current: None,
            max_frame,
            window,
            requests: 0,
            rewinds: 0,
        }
    }

    /// The watched end sent this.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(item) = self.out.decode(&mut input) {
            match item {
                Item::Data { id, len } if id != StreamId::SESSION => {
                    assert!(len <= self.max_frame, "frame of {len} beyond {}", self.max_frame);
                    assert!(!self.closed.contains_key(&id), "DATA after CLOSE on {id}");
                    let outstanding = self.outstanding.entry(id).or_default();
                    if self.window == 0 {
                        assert_eq!(*outstanding, 0, "strict: a second frame on {id}");
                    }
                    *outstanding += u64::from(len);
                    assert!(self.window == 0 || *outstanding <= self.window, "window exceeded on {id}");
                }
                Item::Data { len, .. } => assert!(len <= 64, "message of {len}"),
                Item::Word { id, word } => match word {
                    Word::Close => {
                        assert!(self.closed.insert(id, true).is_none(), "second CLOSE on {id}");
                        assert_eq!(
                            self.outstanding.get(&id).copied().unwrap_or(0),
                            0,
                            "CLOSE with unacked data"
                        );
                    }
                    Word::Rewind => {
                        self.rewinds += 1;
                        self.outstanding.insert(id, 0);
                    }
                    Word::Request => self.requests += 1,
                    Word::Ack(_) | Word::Reset | Word::Empty => {}
                    Word::Data(_) | Word::Grow | Word::Undefined(_) | Word::Reserved(_) => {
                        panic!("sent {word:?} on {id}")
                    }
                },
                Item::Payload { .. } | Item::Bare { .. } => {}
            }
        }
    }

    /// The watched end was given this.
    pub(crate) fn heard(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(item) = self.heard.decode(&mut input) {
            match item {
                Item::Word { id, word: Word::Ack(n) } => {
                    let outstanding = self.outstanding.entry(id).or_default();
                    *outstanding = outstanding.saturating_sub(n.into());
                }
                Item::Word { id, word: Word::Request } if self.window == 0 => {
                    self.outstanding.insert(id, 0);
                }
                Item::Data { id, .. } => self.current = Some(id),
                _ => {}
            }
        }
    }
}

/// Bytes of a v1 message.
pub(crate) fn v1(id: u64, payload: &[u8]) -> Vec<u8> {
    frame(id, (payload.len() + HEADER) as u32, payload)
}
