//! The body of the fuzz target `telnet_decoder`: the decoder against a slow one, written byte by byte from
//! the table of telnet.md §2. The fuzz crate includes this file.

use std::collections::VecDeque;

use vspc_core::telnet::{
    Decoder, IAC, Item, Malformed, Opt, SUBNEGOTIATION_LIMIT, WireRun, escape_into, escaped_len, fold,
    guest_slices, put_subnegotiation,
};

/// `data` is four bytes that say where to cut, then what a peer sends.
///
/// Checked: the items of both ways of decoding are those of the table, however the bytes are cut; runs in
/// wire form hold whole pairs only, and count them; what is decoded and encoded again means the same; folding
/// of carriage returns is that of telnet.md §6, however the data is cut.
pub(crate) fn telnet_decoder(data: &[u8]) {
    let Some((cuts, stream)) = data.split_at_checked(4) else { return };
    let mut table = Table::default();
    stream.iter().for_each(|&byte| table.take(byte));

    for cuts in [&[][..], cuts] {
        let mut plain = Decoder::new();
        let mut wire = Decoder::new();
        let (mut from_plain, mut from_wire) = (Words::default(), Words::default());
        for piece in pieces(stream, cuts) {
            let mut input = piece;
            while let Some(item) = plain.decode(&mut input) {
                from_plain.push(&item, plain_data);
            }
            assert!(input.is_empty());
            let mut input = piece;
            while let Some(item) = wire.decode_wire(&mut input) {
                from_wire.push(&item, wire_data);
            }
            assert!(input.is_empty());
        }
        assert_eq!(from_plain.0, table.words.0, "decode, cut by {cuts:?}");
        assert_eq!(from_wire.0, table.words.0, "decode_wire, cut by {cuts:?}");
        for decoder in [&plain, &wire] {
            assert_eq!(decoder.is_idle(), table.state == State::Data);
            assert_eq!(decoder.pending_iac(), table.state == State::Iac);
        }
    }

    for word in &table.words.0 {
        let (mut sent, mut heard) = (Vec::new(), Words::default());
        match word {
            Word::Data(guest) => {
                escape_into(guest, &mut sent);
                assert_eq!(sent.len(), escaped_len(guest));
                let again: Vec<u8> = guest_slices(&sent).flatten().copied().collect();
                assert_eq!(&again, guest);
                for swallow_lf in [true, false] {
                    check_fold(guest, cuts, swallow_lf);
                }
            }
            Word::Subnegotiation(opt, body) => put_subnegotiation(Opt(*opt), body, &mut sent),
            _ => continue,
        }
        let (mut decoder, mut input) = (Decoder::new(), &sent[..]);
        while let Some(item) = decoder.decode(&mut input) {
            heard.push(&item, plain_data);
        }
        assert!(heard.0.iter().eq([word]), "{word:?} came back as {:?}", heard.0);
    }
}

fn check_fold(guest: &[u8], cuts: &[u8], swallow_lf: bool) {
    let mut expected = Vec::new();
    let mut after_cr = false;
    for &byte in guest {
        let is_companion = byte == 0 || (swallow_lf && byte == b'\n');
        if !(after_cr && is_companion) {
            expected.push(byte);
        }
        after_cr = byte == b'\r';
    }
    let (mut folded, mut after_cr) = (Vec::new(), false);
    for mut piece in pieces(guest, cuts) {
        while let Some(run) = fold(&mut after_cr, &mut piece, swallow_lf) {
            folded.extend_from_slice(run);
        }
    }
    assert_eq!(folded, expected);
}

/// Cuts into pieces of these lengths, over and over; without one, into none.
fn pieces<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut cuts = cuts.iter().map(|&cut| usize::from(cut) + 1).cycle();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(cuts.next().unwrap_or(bytes.len()).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What a peer said, data in one piece.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Word {
    Data(Vec<u8>),
    Command(u8),
    Negotiation(u8, u8),
    Subnegotiation(u8, Vec<u8>),
    Malformed(Malformed),
}

#[derive(Default)]
struct Words(VecDeque<Word>);

impl Words {
    /// `guest` reads the data as the peer meant it.
    fn push<D: Copy>(&mut self, item: &Item<'_, D>, guest: fn(D) -> Vec<u8>) {
        match *item {
            Item::Data(data) => self.data(guest(data)),
            Item::Command(command) => self.0.push_back(Word::Command(command.0)),
            Item::Negotiation(verb, opt) => self.0.push_back(Word::Negotiation(verb.byte(), opt.0)),
            Item::Subnegotiation(opt, body) => self.0.push_back(Word::Subnegotiation(opt.0, body.to_vec())),
            Item::Malformed(fault) => self.0.push_back(Word::Malformed(fault)),
        }
    }

    fn data(&mut self, bytes: impl IntoIterator<Item = u8>) {
        match self.0.back_mut() {
            Some(Word::Data(before)) => before.extend(bytes),
            _ => self.0.push_back(Word::Data(bytes.into_iter().collect())),
        }
    }
}

fn plain_data(data: &[u8]) -> Vec<u8> {
    assert!(!data.is_empty());
    data.to_vec()
}

fn wire_data(run: WireRun<'_>) -> Vec<u8> {
    assert!(!run.bytes.is_empty());
    let mut guest = Vec::new();
    let mut bytes = run.bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        assert!(byte != IAC || bytes.next() == Some(IAC), "a half pair in {run:?}");
        guest.push(byte);
    }
    assert_eq!(run.pairs, guest.iter().filter(|&&byte| byte == IAC).count());
    assert_eq!(run.guest_len(), guest.len());
    guest
}

/// The table of telnet.md §2, one byte at a time.
#[derive(Default)]
struct Table {
    state: State,
    words: Words,
    opt: u8,
    body: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Data,
    Iac,
    Opt(u8),
    SbOpt,
    SbOptIac,
    Sb,
    SbIac,
}

impl Table {
    fn take(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Data, IAC) => State::Iac,
            (State::Data, _) | (State::Iac, IAC) => {
                self.words.data([byte]);
                State::Data
            }
            (State::Iac, 0..=235) => self.end(Word::Malformed(Malformed::UnknownCommand(byte))),
            (State::Iac, SE) | (State::SbOptIac, SE) => {
                self.end(Word::Malformed(Malformed::StraySubnegotiationEnd))
            }
            (State::Iac, 236..=249) => self.end(Word::Command(byte)),
            (State::Iac, SB) => State::SbOpt,
            (State::Iac, 251..) => State::Opt(byte),
            (State::Opt(verb), _) => self.end(Word::Negotiation(verb, byte)),
            (State::SbOpt, IAC) => State::SbOptIac,
            (State::SbOpt, _) | (State::SbOptIac, IAC) => {
                self.opt = byte;
                self.body.clear();
                State::Sb
            }
            (State::SbOptIac, _) => self.unended(IAC, byte),
            (State::Sb, IAC) => State::SbIac,
            (State::Sb, _) | (State::SbIac, IAC) => {
                self.body.push(byte);
                State::Sb
            }
            (State::SbIac, SE) => match self.body.len().checked_sub(SUBNEGOTIATION_LIMIT) {
                None | Some(0) => self.end(Word::Subnegotiation(self.opt, self.body.clone())),
                Some(excess) => {
                    let (opt, first) = (Opt(self.opt), self.body[0]);
                    self.end(Word::Malformed(Malformed::OversizedSubnegotiation { opt, first, excess }))
                }
            },
            (State::SbIac, _) => self.unended(self.opt, byte),
        };
    }

    fn end(&mut self, word: Word) -> State {
        self.words.0.push_back(word);
        State::Data
    }

    /// The subnegotiation ends without effect; the byte is read as in Iac.
    fn unended(&mut self, opt: u8, byte: u8) -> State {
        self.words.0.push_back(Word::Malformed(Malformed::UnendedSubnegotiation(Opt(opt))));
        self.state = State::Iac;
        self.take(byte);
        self.state
    }
}

const SE: u8 = 240;
const SB: u8 = 250;
