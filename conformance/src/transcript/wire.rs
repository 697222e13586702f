//! What passes over a telnet connection, as words: the suite's own reading of RFC 854.
//!
//! This is deliberately not the core's decoder: a suite that judges a server with the server's own code
//! would find nothing. It knows no options and no VMs, and it never fails: what breaks the rules becomes a
//! [`Word::Fault`], which no transcript expects.

use super::names;
use std::fmt;

/// One thing that a telnet peer said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Word {
    /// Data bytes, IAC no longer doubled.
    Data(Vec<u8>),
    /// A two-byte command: BRK, AYT, NOP …
    Command(u8),
    /// WILL, WONT, DO or DONT, and the option.
    Negotiation(u8, u8),
    /// A subnegotiation: the option and what follows it, IAC no longer doubled.
    Sub(u8, Vec<u8>),
    /// Bytes that RFC 854 does not allow, as they came.
    Fault(Vec<u8>),
}

/// Puts words together from bytes that may be cut anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    sub: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Data,
    Iac,
    Verb(u8),
    Sub,
    SubIac,
}

impl Decoder {
    /// Reads `bytes` and appends the words that are complete to `words`. Data is joined to a run of data
    /// at the end of `words`.
    pub fn read(&mut self, bytes: &[u8], words: &mut Vec<Word>) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Data, names::IAC) => State::Iac,
                (State::Data, _) => data(words, byte),
                (State::Iac, names::IAC) => data(words, names::IAC),
                (State::Iac, names::WILL..=names::DONT) => State::Verb(byte),
                (State::Iac, names::SB) => {
                    self.sub.clear();
                    State::Sub
                }
                (State::Iac, names::SE | 0..=235) => {
                    words.push(Word::Fault(vec![names::IAC, byte]));
                    State::Data
                }
                (State::Iac, _) => {
                    words.push(Word::Command(byte));
                    State::Data
                }
                (State::Verb(verb), _) => {
                    words.push(Word::Negotiation(verb, byte));
                    State::Data
                }
                (State::Sub, names::IAC) => State::SubIac,
                (State::Sub, _) => {
                    self.sub.push(byte);
                    State::Sub
                }
                (State::SubIac, names::IAC) => {
                    self.sub.push(byte);
                    State::Sub
                }
                (State::SubIac, names::SE) if !self.sub.is_empty() => {
                    words.push(Word::Sub(self.sub[0], self.sub[1..].to_vec()));
                    State::Data
                }
                (State::SubIac, _) => {
                    let mut wire = vec![names::IAC, names::SB];
                    wire.append(&mut self.sub);
                    wire.extend([names::IAC, byte]);
                    words.push(Word::Fault(wire));
                    State::Data
                }
            };
        }
    }

    /// What has begun and is not complete, as it came.
    #[must_use]
    pub fn unfinished(&self) -> Vec<u8> {
        match self.state {
            State::Data => Vec::new(),
            State::Iac => vec![names::IAC],
            State::Verb(verb) => vec![names::IAC, verb],
            State::Sub | State::SubIac => [&[names::IAC, names::SB], self.sub.as_slice()].concat(),
        }
    }
}

fn data(words: &mut Vec<Word>, byte: u8) -> State {
    match words.last_mut() {
        Some(Word::Data(run)) => run.push(byte),
        _ => words.push(Word::Data(vec![byte])),
    }
    State::Data
}

/// Appends `bytes` with every IAC doubled.
pub fn escape(bytes: &[u8], wire: &mut Vec<u8>) {
    for &byte in bytes {
        wire.push(byte);
        if byte == names::IAC {
            wire.push(byte);
        }
    }
}

impl Word {
    /// Appends the word as it goes over the wire.
    pub fn encode(&self, wire: &mut Vec<u8>) {
        match self {
            Self::Data(bytes) => escape(bytes, wire),
            Self::Command(command) => wire.extend([names::IAC, *command]),
            Self::Negotiation(verb, option) => wire.extend([names::IAC, *verb, *option]),
            Self::Sub(option, payload) => {
                wire.extend([names::IAC, names::SB]);
                escape(&[*option], wire);
                escape(payload, wire);
                wire.extend([names::IAC, names::SE]);
            }
            Self::Fault(bytes) => wire.extend_from_slice(bytes),
        }
    }
}

impl fmt::Display for Word {
    /// In the words that a transcript is written in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(bytes) => f.write_str(&names::quoted(bytes)),
            Self::Command(command) => f.write_str(&names::command(*command)),
            Self::Negotiation(verb, option) => {
                write!(f, "{} {}", names::command(*verb), names::option(*option))
            }
            Self::Sub(option, payload) => {
                write!(f, "SB {}", names::option(*option))?;
                let mut rest = payload.as_slice();
                if let (names::VMWARE, Some((code, after))) = (*option, payload.split_first()) {
                    write!(f, " {}", names::code(*code))?;
                    rest = after;
                }
                let code = payload.first().copied().filter(|_| *option == names::VMWARE);
                match code {
                    _ if rest.is_empty() => {}
                    // Codes are told as codes, and sequences in hex, even when they look like text.
                    Some(0..=3) => rest.iter().try_for_each(|code| write!(f, " {code}"))?,
                    Some(40..=48) => write!(f, " hex({})", names::hex(rest))?,
                    _ => write!(f, " {}", names::parameters(rest))?,
                }
                f.write_str(" SE")
            }
            Self::Fault(bytes) => write!(f, "wire({})", names::hex(bytes)),
        }
    }
}

/// Several words, as a transcript has them.
#[must_use]
pub fn sentence(words: &[Word]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(cuts: &[&[u8]]) -> Vec<Word> {
        let mut decoder = Decoder::default();
        let mut words = Vec::new();
        for cut in cuts {
            decoder.read(cut, &mut words);
        }
        words
    }

    #[test]
    fn words_survive_every_cut() {
        let wire = b"a\xff\xffb\xff\xfd\x06\xff\xf3\xff\xfa\xe8\x29\x01\xff\xff\xff\xf0c";
        let whole = words(&[wire]);
        assert_eq!(sentence(&whole), r#""a\xffb", DO TM, BRK, SB VMWARE VMOTION-GOAHEAD hex(01 ff) SE, "c""#);
        for cut in 0..wire.len() {
            let (left, right) = wire.split_at(cut);
            assert_eq!(words(&[left, right]), whole, "cut at {cut}");
        }
        let mut again = Vec::new();
        whole.iter().for_each(|word| word.encode(&mut again));
        assert_eq!(again, wire);
    }

    #[test]
    fn what_breaks_the_rules_is_a_fault() {
        assert_eq!(words(&[b"\xff\xf0"]), [Word::Fault(vec![255, 240])]);
        assert_eq!(words(&[b"\xff\x07x"]), [Word::Fault(vec![255, 7]), Word::Data(b"x".to_vec())]);
        assert_eq!(words(&[b"\xff\xfa\xe8\xff\xf6"]), [Word::Fault(vec![255, 250, 232, 255, 246])]);
    }
}
