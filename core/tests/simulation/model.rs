//! What must be true: every console's output and input, byte by byte.
//!
//! A byte carries in its upper three bits whose it is (a leg of its console, a client of its console) and
//! in the others whatever chance gave; no byte is a carriage return, so that a line of the engine's own is
//! known by its first byte.

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;

use vspc_core::concentrator::ConnId;
use vspc_core::telnet::{Command, Decoder, IAC, Item, escaped_len};

use crate::chance::Chance;
use crate::world::{Kind, show};

/// Bytes of `slot`, by chance; many of slot 7 are IACs.
pub(crate) fn bytes_of(slot: u8, len: usize, chance: &mut Chance) -> Vec<u8> {
    let dense = chance.one_in(2);
    let byte = |_| {
        let low = if dense && chance.one_in(2) { 31 } else { chance.next() as u8 & 31 };
        match slot << 5 | low {
            b'\r' => 1,
            byte => byte,
        }
    };
    (0..len).map(byte).collect()
}

/// What one connection of a host has said and taken.
pub(crate) struct Leg {
    pub(crate) console: usize,
    pub(crate) slot: u8,
    heard: Decoder,
    /// Guest bytes that the engine has read from it.
    said: Vec<u8>,
    /// How many of them its console has shown.
    shown: usize,
    /// How much it has printed before it was known.
    pub(crate) early: usize,
    /// It feeds its console, or has done so.
    pub(crate) joined: bool,
    given: Decoder,
    /// It has taken the first half of a doubled IAC.
    halved: bool,
    /// Input is held: it has its GOAHEAD.
    pub(crate) holds: bool,
    /// The target that has taken over from it.
    pub(crate) follower: Option<ConnId>,
}

impl Leg {
    pub(crate) fn new(console: usize, slot: u8) -> Self {
        Self {
            console,
            slot,
            heard: Decoder::new(),
            said: Vec::new(),
            shown: 0,
            early: 0,
            joined: false,
            given: Decoder::new(),
            halved: false,
            holds: false,
            follower: None,
        }
    }

    /// The engine has read this from it.
    pub(crate) fn said(&mut self, mut bytes: &[u8]) {
        while let Some(item) = self.heard.decode(&mut bytes) {
            if let Item::Data(data) = item {
                self.said.extend_from_slice(data);
            }
        }
    }

    /// What it has said and will not be shown.
    pub(crate) fn missing(&self) -> usize {
        if self.joined { self.said.len() - self.shown } else { 0 }
    }
}

/// One console: what it has shown, and what is to be typed into its VM.
pub(crate) struct Console {
    pub(crate) uuid: u8,
    /// Everything that it has shown, as a reader saw it that was never late.
    pub(crate) shown: Vec<u8>,
    /// Who last had each slot.
    slots: [Option<ConnId>; 8],
    next_slot: u8,
    /// Admitted and not taken yet.
    pub(crate) typed: VecDeque<u8>,
    pub(crate) admitted: usize,
}

impl Console {
    pub(crate) fn new(uuid: u8, first_slot: u8) -> Self {
        Self {
            uuid,
            shown: Vec::new(),
            slots: [None; 8],
            next_slot: first_slot,
            typed: VecDeque::new(),
            admitted: 0,
        }
    }

    /// A slot that nobody has who may still say something.
    pub(crate) fn free_slot(&mut self, is_gone: impl Fn(ConnId) -> bool) -> Option<u8> {
        for _ in 0..8 {
            self.next_slot = (self.next_slot + 1) % 8;
            if self.slots[usize::from(self.next_slot)].is_none_or(&is_gone) {
                return Some(self.next_slot);
            }
        }
        None
    }

    pub(crate) fn give_slot(&mut self, slot: u8, leg: ConnId) {
        self.slots[usize::from(slot)] = Some(leg);
    }

    /// The console has shown this.
    pub(crate) fn shows(&mut self, bytes: &[u8], legs: &mut BTreeMap<ConnId, Leg>) {
        for &byte in bytes {
            let id = self.slots[usize::from(byte >> 5)].expect("some leg has this slot");
            let leg = &legs[&id];
            assert!(leg.joined, "{id} has no part in this console and is shown in it");
            assert_eq!(leg.said.get(leg.shown), Some(&byte), "byte {} of {id}", leg.shown);
            if let Some(follower) = leg.follower {
                assert_eq!(
                    legs[&follower].shown, 0,
                    "{id} is shown behind {follower}, to which its vm moved"
                );
            }
            if let Some(leg) = legs.get_mut(&id) {
                leg.shown += 1;
            }
        }
        self.shown.extend_from_slice(bytes);
    }

    /// A host's socket has taken this; `next` would have followed.
    pub(crate) fn takes(&mut self, id: ConnId, leg: &mut Leg, bytes: &[u8], next: Option<u8>) -> usize {
        let mut taken = 0;
        let mut rest = bytes;
        while let Some(item) = leg.given.decode(&mut rest) {
            match item {
                Item::Data(data) => {
                    for &byte in data {
                        if std::mem::take(&mut leg.halved) {
                            assert_eq!(byte, IAC);
                            continue;
                        }
                        assert!(!leg.holds, "{id} has its goahead and gets {}", show(&[byte]));
                        assert_eq!(self.typed.pop_front(), Some(byte), "typed into {id}");
                        taken += 1;
                    }
                }
                Item::Malformed(fault) => panic!("{id} gets a {fault}"),
                _ => {}
            }
        }
        if leg.given.pending_iac() && next == Some(IAC) && !leg.halved {
            // Half of a pair is out: the byte is this connection's, whoever gets the next.
            assert!(!leg.holds, "{id} has its goahead and gets half a pair");
            assert_eq!(self.typed.pop_front(), Some(IAC), "typed into {id}");
            leg.halved = true;
            taken += 1;
        }
        taken
    }

    /// Nobody is there any more to take what was typed. `lost`: what the engine says, in wire form.
    pub(crate) fn loses_its_vm(&mut self, lost: u64) {
        let wire = escaped_len(self.typed.make_contiguous()) as u64;
        assert_eq!(lost, wire, "bytes typed for a vm that is gone");
        self.typed.clear();
    }
}

/// A client: what it may expect to see.
pub(crate) struct Reader {
    pub(crate) console: usize,
    pub(crate) slot: u8,
    pub(crate) kind: Kind,
    /// IAC is doubled towards it.
    doubled: bool,
    /// Bytes of the opening offers still to come.
    offers: usize,
    decoder: Decoder,
    heard: Decoder,
    /// A line of the engine's own, as far as it has come.
    text: Vec<u8>,
    /// Its place in what the console has shown.
    pub(crate) at: usize,
    pub(crate) spoken: bool,
    /// It opened like gdb: whatever it sends is data.
    pub(crate) is_gdb: bool,
    pub(crate) skips: usize,
}

impl Reader {
    pub(crate) fn new(console: usize, slot: u8, kind: Kind, at: usize) -> Self {
        Self {
            console,
            slot,
            kind,
            doubled: true,
            offers: 15,
            decoder: Decoder::new(),
            heard: Decoder::new(),
            text: Vec::new(),
            at,
            spoken: false,
            is_gdb: false,
            skips: 0,
        }
    }

    /// From here on it gets guest bytes.
    pub(crate) fn becomes_raw(&mut self, shown: &[u8]) {
        if std::mem::replace(&mut self.doubled, false) && self.decoder.pending_iac() {
            self.sees(IAC, shown);
        }
    }

    /// The engine has read this from it; what of it is for the guest.
    pub(crate) fn said(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        if self.kind == Kind::Raw {
            return bytes.to_vec();
        }
        let mut guest = Vec::new();
        while let Some(item) = self.heard.decode(&mut bytes) {
            if let Item::Data(data) = item {
                guest.extend_from_slice(data);
            }
        }
        guest
    }

    /// Its socket has taken this.
    pub(crate) fn takes(&mut self, bytes: &[u8], shown: &[u8]) {
        let offers = self.offers.min(bytes.len());
        self.offers -= offers;
        let mut rest = &bytes[offers..];
        if !self.doubled {
            rest.iter().for_each(|&byte| self.sees(byte, shown));
            return;
        }
        let mut decoder = std::mem::take(&mut self.decoder);
        while let Some(item) = decoder.decode(&mut rest) {
            match item {
                Item::Data(data) => data.iter().for_each(|&byte| self.sees(byte, shown)),
                Item::Negotiation(..) | Item::Command(Command::NOP) => {}
                item => panic!("a client gets {item:?}"),
            }
        }
        self.decoder = decoder;
    }

    fn sees(&mut self, byte: u8, shown: &[u8]) {
        if self.text.is_empty() && byte != b'\r' {
            assert_eq!(shown.get(self.at), Some(&byte), "byte {} as {:?} sees it", self.at, self.kind);
            self.at += 1;
            return;
        }
        assert_ne!(self.kind, Kind::Raw, "text was sent to a raw client");
        self.text.push(byte);
        if self.text.iter().filter(|&&byte| byte == b'\n').count() < 2 {
            return;
        }
        let text = String::from_utf8(std::mem::take(&mut self.text)).expect("lines of ours are text");
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["[vspc:", missed, "bytes", "skipped,", ..] => {
                self.at += missed.parse::<usize>().expect("a number");
                self.skips += 1;
            }
            ["[vspc:", "connected", ..]
            | ["[vspc:", "the", "VM", ..]
            | ["[vspc:", "the", "VM's", ..]
            | ["[yes]"] => {}
            _ => panic!("what is this: {text:?}"),
        }
    }
}

/// What happened in all stories together.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Totals {
    pub(crate) shown: u64,
    pub(crate) typed: u64,
    pub(crate) completed: u64,
    pub(crate) aborted: u64,
    pub(crate) refused: u64,
    pub(crate) timed_out: u64,
    pub(crate) bad_peers: u64,
    pub(crate) skipped: u64,
    pub(crate) too_slow: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
    pub(crate) malformed: u64,
    pub(crate) takeovers: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, rhs: Self) {
        self.shown += rhs.shown;
        self.typed += rhs.typed;
        self.completed += rhs.completed;
        self.aborted += rhs.aborted;
        self.refused += rhs.refused;
        self.timed_out += rhs.timed_out;
        self.bad_peers += rhs.bad_peers;
        self.skipped += rhs.skipped;
        self.too_slow += rhs.too_slow;
        self.late += rhs.late;
        self.lost += rhs.lost;
        self.malformed += rhs.malformed;
        self.takeovers += rhs.takeovers;
    }
}

impl Totals {
    pub(crate) fn check_that_everything_happened(&self) {
        for (what, count) in [
            ("shown", self.shown),
            ("typed", self.typed),
            ("completed", self.completed),
            ("aborted", self.aborted),
            ("refused", self.refused),
            ("timed out", self.timed_out),
            ("bad peers", self.bad_peers),
            ("skipped", self.skipped),
            ("too slow", self.too_slow),
            ("late", self.late),
            ("lost", self.lost),
            ("malformed", self.malformed),
            ("taken over", self.takeovers),
        ] {
            assert!(count > 0, "nothing was {what}");
        }
    }
}
